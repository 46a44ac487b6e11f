"""Common mistakes in the loss mask, as edits of the right answer (`check/_answers.py`)."""

from __future__ import annotations

from postlab.course.check._answers import mistakes

LOSS_MASK = mistakes("""
end_of_turn_not_trained: the end-of-turn token of the replies is left out: such a model never
learns to stop
- int(inside) -> int(inside and token != end_of_turn)

header_trained: the header is trained too: the template writes it, not the model
- def loss_mask(input_ids, *, header, end_of_turn):
    mask, inside = [], False
    for t, token in enumerate(input_ids):
        inside = inside or input_ids[t : t + len(header)] == header
        mask.append(int(inside))
        inside = inside and token != end_of_turn
    return mask

turn_not_reply: both ends are wrong: the header is trained, and the end-of-turn token isn't
- def loss_mask(input_ids, *, header, end_of_turn):
    mask, inside = [], False
    for t, token in enumerate(input_ids):
        inside = inside or input_ids[t : t + len(header)] == header
        inside = inside and token != end_of_turn
        mask.append(int(inside))
    return mask

header_trained_in_part: all of the header but its first token is trained: a reply begins
len(header) tokens after the header does, not one
- def loss_mask(input_ids, *, header, end_of_turn):
    mask, n = [0] * len(input_ids), len(header)
    for i in range(len(input_ids)):
        if input_ids[i : i + n] == header:
            for t in range(i + 1, input_ids.index(end_of_turn, i + n) + 1):
                mask[t] = 1
    return mask

header_length_fixed: you count on a header of a fixed length: it has len(header) tokens
- def loss_mask(input_ids, *, header, end_of_turn):
    mask = [0] * len(input_ids)
    for i in range(len(input_ids)):
        if input_ids[i : i + len(header)] == header:
            for t in range(i + 3, input_ids.index(end_of_turn, i + len(header)) + 1):
                mask[t] = 1
    return mask
- def loss_mask(input_ids, *, header, end_of_turn):
    mask = [0] * len(input_ids)
    for i in range(len(input_ids)):
        if input_ids[i : i + len(header)] == header:
            for t in range(i + 3, len(input_ids)):
                mask[t] = 1
                if input_ids[t] == end_of_turn:
                    break
    return mask

first_reply_only: only the first assistant turn is trained: keep looking for more after it
- inside = token != end_of_turn -> if token == end_of_turn: break
+ return mask -> return mask + [0] * (len(input_ids) - len(mask))

last_reply_only: only the last assistant turn is trained, or each turn overwrites the ones before
- == list(header) -> == list(header); mask = [0] * len(mask) if inside else mask

questions_trained: everything after the first header is trained, the user's next question included
- inside = token != end_of_turn -> pass

inverted: 0 and 1 are swapped: 1 marks the tokens that are trained
- return mask -> return [1 - m for m in mask]

starts_late: it starts one token late, so that the first token of a reply is not trained
- return mask -> return [m & before for m, before in zip(mask, [0, *mask])]
- t + 1 >= len(header) -> t >= len(header)
+ list(input_ids[t + 1 - len(header):t + 1]) -> list(input_ids[t - len(header):t])
- def loss_mask(input_ids, *, header, end_of_turn):
    mask, n = [0] * len(input_ids), len(header)
    for i in range(len(input_ids)):
        if input_ids[i : i + n] == header:
            for t in range(i + n + 1, input_ids.index(end_of_turn, i + n + 1) + 1):
                mask[t] = 1
    return mask

starts_early: it starts one token early, on the last token of the header
- return mask -> return [m | behind for m, behind in zip(mask, [*mask[1:], 0])]

ends_late: it ends one token late, on what the template writes after the end of turn
- return mask -> return [m | before for m, before in zip(mask, [0, *mask])]

one_place_early: the whole mask is one position too early, where the reply is predicted:
mark the tokens of the reply themselves, since the loss does the shifting
- return mask -> return mask[1:] + [0]

one_place_late: the whole mask is one position too late
- return mask -> return [0] + mask[:-1]

every_end_of_turn: the end of turn of the user's questions is trained as well
- int(inside) -> int(inside or token == end_of_turn)

end_of_turn_only: only the end of turn of the replies is trained, and not their words
- int(inside) -> int(inside and token == end_of_turn)

empty_reply: an empty reply goes wrong. It is its end-of-turn token alone: that is trained, and
nothing after it
- def loss_mask(input_ids, *, header, end_of_turn):
    mask, n, t = [0] * len(input_ids), len(header), 0
    while t < len(input_ids):
        if input_ids[t : t + n] == header:
            t += n
            mask[t] = 1
            t += 1
            while t < len(input_ids):
                mask[t] = 1
                if input_ids[t] == end_of_turn:
                    break
                t += 1
        t += 1
    return mask
- def loss_mask(input_ids, *, header, end_of_turn):
    mask, n = [0] * len(input_ids), len(header)
    for i in range(len(input_ids)):
        if input_ids[i : i + n] == header:
            for t in range(i + n, input_ids.index(end_of_turn, i + n + 1) + 1):
                mask[t] = 1
    return mask
- return mask -> return [m & (before | behind) for m, before, behind in zip(mask, [0, *mask], [*mask[1:], 0])]

any_turn: you look for the header's first token only: it opens the user's turns too
- t + 1 >= len(header) -> True
+ list(input_ids[t + 1 - len(header):t + 1]) == list(header) -> token == header[0]
- list(input_ids[t + 1 - len(header):t + 1]) == list(header) -> input_ids[t + 1 - len(header)] == header[0]

part_of_header: you look for a single token of the header, which may also occur in a question:
compare the whole header
- list(input_ids[t + 1 - len(header):t + 1]) == list(header) -> token == header[1]
- list(input_ids[t + 1 - len(header):t + 1]) == list(header) -> token == header[-2]
- list(input_ids[t + 1 - len(header):t + 1]) == list(header) -> token == header[-1]
- list(input_ids[t + 1 - len(header):t + 1]) == list(header) -> token == header[-1]
+ t + 1 >= len(header) -> True
- list(input_ids[t + 1 - len(header):t + 1]) == list(header) -> input_ids[t + 2 - len(header)] == header[1]
- list(input_ids[t + 1 - len(header):t + 1]) == list(header) -> input_ids[t - 1] == header[-2]

token_by_token: you look at each token separately: whether it is trained depends on whose turn it
belongs to
- return mask -> return [int(i not in [*header, end_of_turn]) for i in input_ids]
- return mask -> return [int(i not in header) for i in input_ids]
- return mask -> return [int(i == end_of_turn) for i in input_ids]

everything: everything is trained: the header is never looked for
- return mask -> return [1] * len(mask)

nothing: nothing is trained: either the comparison with the header is never true (a list never equals
a tensor, a tuple or a single token), or you stop at the first end of turn, which is the user's
- == list(header) -> == tuple(header)

token_ids: you return the trained ids, as labels with -100 elsewhere: return ones and zeros
- return mask -> return [i if m else -100 for i, m in zip(input_ids, mask)]
""")
