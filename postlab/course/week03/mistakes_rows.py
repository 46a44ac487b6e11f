"""Common mistakes with rows and batches: edits of the right answers (`check/_answers.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from postlab.course.check._answers import mistakes


def jaccard(first: Sequence[str], second: Sequence[str], *, n: int) -> float:
    a, b = [{tuple(t[i : i + n]) for i in range(len(t) - n + 1)} for t in (first, second)]
    return len(a & b) / len(a | b) if a | b else 0.0


JACCARD = mistakes("""
smaller_set: you divide by the smaller set: a short text inside a long one would count as a copy
- len(a | b) if a | b -> min(len(a), len(b)) if a and b

first_set: you divide by the runs of one text only; divide by the runs in either of them
- len(a | b) if a | b -> len(a) if a
- len(a | b) if a | b -> len(b) if b

larger_set: you divide by the larger set; divide by the runs in either text
- len(a | b) -> max(len(a), len(b))

sum_of_sets: you divide by the sum of both counts, which counts shared runs twice
- len(a | b) -> (len(a) + len(b))

dice: this is Dice's coefficient, twice the shared runs over the sum of both counts: it is larger
than Jaccard's
- len(a & b) / len(a | b) -> 2 * len(a & b) / (len(a) + len(b))

cosine: this is the cosine of the two sets, shared runs over the root of the product of both counts;
divide by the runs in either text
- len(a | b) if a | b -> math.sqrt(len(a) * len(b)) if a and b

whole_division: you divide with //, which turns every share below 1 into 0
- / len(a | b) -> // len(a | b)

distance: this is a distance, 1 - similarity: equal texts should give 1
- len(a & b) / len(a | b) -> len(a ^ b) / len(a | b)

only_one_has: you divide the shared runs by those that only one text has: divide by all runs,
including the shared ones
- len(a | b) if a | b -> len(a ^ b) if a ^ b

shared_count: you return the number of shared runs, not their share
- len(a & b) / len(a | b) if a | b else 0.0 -> len(a & b)

last_run_missing: the last run is missing: there are len(words) - n + 1 of them
- len(t) - n + 1 -> len(t) - n

short_runs_too: the runs at the end are shorter than n: stop at len(words) - n + 1
- range(len(t) - n + 1) -> range(len(t))

one_word_more: your runs are one word too long or too short: the slice t[i : i + n] has n words
- t[i:i + n] -> t[i:i + n + 1]
- t[i:i + n] -> t[i:i + n - 1]
- t[i:i + n] -> t[i:i + n + 1]
+ len(t) - n + 1 -> len(t) - n
- t[i:i + n] -> t[i:i + n - 1]
+ len(t) - n + 1 -> len(t) - n + 2

single_words: you compare single words: the same words in another order would count as equal
- {tuple(t[i:i + n]) for i in range(len(t) - n + 1)} -> set(t)

side_by_side: your runs don't overlap; a run should start at every word
- range(len(t) - n + 1) -> range(0, len(t) - n + 1, n)

order_lost: the order of words inside a run is lost: store a tuple of the words in their order
- tuple(t[i:i + n]) -> tuple(sorted(t[i:i + n]))
- tuple(t[i:i + n]) -> frozenset(t[i:i + n])

letters: your runs are of letters, not of words
- for t in (first, second) -> for t in (' '.join(first), ' '.join(second))
- for t in (first, second) -> for t in (''.join(first), ''.join(second))

counted_twice: a run that occurs twice is counted twice: make sets of the runs first
- def jaccard(first, second, *, n):
    a, b = (Counter(tuple(t[i:i + n]) for i in range(len(t) - n + 1)) for t in (first, second))
    return (a & b).total() / (a | b).total() if a or b else 0.0
- def jaccard(first, second, *, n):
    a, b = ([tuple(t[i:i + n]) for i in range(len(t) - n + 1)] for t in (first, second))
    shared = len(set(a) & set(b))
    return shared / (len(a) + len(b) - shared) if a or b else 0.0
- def jaccard(first, second, *, n):
    a, b = ([tuple(t[i:i + n]) for i in range(len(t) - n + 1)] for t in (first, second))
    return sum(run in b for run in a) / len({*a, *b}) if a or b else 0.0
- def jaccard(first, second, *, n):
    a, b = ([tuple(t[i:i + n]) for i in range(len(t) - n + 1)] for t in (first, second))
    shared = sum(run in b for run in a)
    return shared / (len(a) + len(b) - shared) if a or b else 0.0
""")
COLLATE = mistakes("""
pad_masked: every label equal to `pad` is ignored, including the end of turn if it is the same
token: such a model never learns to stop. Mask by length, not by id
- IGNORED -> -100
+ return (input_ids, labels) -> return (input_ids, labels.masked_fill(labels == pad, -100))
- return (input_ids, labels) -> return (input_ids, input_ids.masked_fill(input_ids == pad, IGNORED))

end_of_turn_not_trained: the last token of the reply, the end of turn, is ignored: such a model
never learns to stop
- labels[b, start:len(ids)] = torch.tensor(ids[start:]) -> labels[b, start:len(ids) - 1] = torch.tensor(ids[start:-1])

prompt_trained: the prompt is trained too: its labels should be -100 up to `start`
- labels[b, start:len(ids)] = torch.tensor(ids[start:]) -> labels[b, :len(ids)] = torch.tensor(ids)

prompt_instead: the prompt is trained and the reply ignored: it is the other way round
- labels[b, start:len(ids)] = torch.tensor(ids[start:]) -> labels[b, :start] = torch.tensor(ids[:start])

all_trained: nothing is ignored: labels are a copy of input_ids
- return (input_ids, labels) -> return (input_ids, input_ids)

padding_trained: the padding is trained: its labels should be -100
- labels[b, start:len(ids)] = torch.tensor(ids[start:]) -> labels[b, start:] = input_ids[b, start:]

one_pad_trained: the first pad after a reply is trained too: stop at len(ids)
- labels[b, start:len(ids)] = torch.tensor(ids[start:]) -> labels[b, start:len(ids) + 1] = input_ids[b, start:len(ids) + 1]

first_pad_kept: only the first token equal to `pad` in each row keeps its label, but the end of turn
may be the second one. Mask by length, not by id
- labels[b, start:len(ids)] = torch.tensor(ids[start:]) -> labels[b, start:] = input_ids[b, start:]
+ return -> labels[(input_ids == pad) & ((input_ids == pad).cumsum(1) > 1)] = -100; return

one_tensor: `input_ids` contains the labels' -100 too: `labels = input_ids` only gives the same
tensor a second name; start from a copy, input_ids.clone()
- return (input_ids, labels) -> return (labels, labels)

outputs_swapped: the two outputs are swapped: return input_ids first, then labels
- return (input_ids, labels) -> return (labels, input_ids)

zeros: untrained labels are 0, which is a token like any other; only -100 is ignored
- IGNORED -> 0
- labels[b, start:len(ids)] = torch.tensor(ids[start:]) -> labels[b, start:] = 0; labels[b, start:len(ids)] = torch.tensor(ids[start:])

pad_for_ignored: untrained labels are `pad`; only -100 is ignored
- IGNORED -> pad

minus_one_for_ignored: untrained labels are -1; torch's cross entropy ignores -100
- IGNORED -> -1

shifted: the labels are shifted by one: leave that to the model, which shifts them itself
- labels[b, start:len(ids)] -> labels[b, start - 1:len(ids) - 1]

one_start: every row is trained from the same position: each has its own start, starts[b]
- input_ids[b, :len(ids)] = -> start = starts[0]; input_ids[b, :len(ids)] =
- input_ids[b, :len(ids)] = -> start = starts[-1]; input_ids[b, :len(ids)] =
- input_ids[b, :len(ids)] = -> start = min(starts); input_ids[b, :len(ids)] =
- input_ids[b, :len(ids)] = -> start = max(starts); input_ids[b, :len(ids)] =

wrong_pad: the ids are padded with 0, or with the row's last token, whatever `pad` is: the padding
has the id `pad`
- max(map(len, sequences))), pad) -> max(map(len, sequences))), 0)
- input_ids[b, :len(ids)] = torch.tensor(ids) -> input_ids[b] = ids[-1]; input_ids[b, :len(ids)] = torch.tensor(ids)

starts_late: the first trained token is ignored
- start:len(ids)] = torch.tensor(ids[start:]) -> start + 1:len(ids)] = torch.tensor(ids[start + 1:])

starts_early: the token before the first one is trained too
- start:len(ids)] = torch.tensor(ids[start:]) -> start - 1:len(ids)] = torch.tensor(ids[start - 1:])

mask_not_labels: you return a mask of 0 and 1; labels are the ids themselves, or -100
- IGNORED -> 0
+ = torch.tensor(ids[start:]) -> = 1

left_padding: the padding is on the left, as for generation; for training put it on the right
- input_ids[b, :len(ids)] -> input_ids[b, -len(ids):]
+ labels[b, start:len(ids)] -> labels[b, labels.shape[1] - len(ids) + start:]

left_padding_ids: the ids are padded on the left and the labels on the right: pad both on the right
- input_ids[b, :len(ids)] -> input_ids[b, -len(ids):]

cut_to_shortest: rows are cut to the length of the shortest: pad them to the length of the longest
- max(map(len -> min(map(len
+ input_ids[b, :len(ids)] = torch.tensor(ids) -> input_ids[b] = torch.tensor(ids[:input_ids.shape[1]])
+ labels[b, start:len(ids)] = torch.tensor(ids[start:]) -> labels[b, start:] = input_ids[b, start:]

padded_with_ignored: the ids are padded with -100, which isn't a token: use it for labels only
- pad) -> -100)
+ *, -100) -> *, pad)
""")
