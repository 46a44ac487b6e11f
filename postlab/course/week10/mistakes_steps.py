"""What goes wrong with steps: labels beside the step's end, choice with bias, another F1."""

from __future__ import annotations

from postlab.course.check._answers import mistakes

STEP_LABELS = mistakes("""
first_token: your labels are on the first token of each step, before the model has read the step
- torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], -> torch.cat([torch.full_like(steps[:, :1], -1), steps[:, :-1]],

every_token: your labels are on every token of a step: that trains the model to judge a step
before it has read it, and gives long steps more weight
- (steps >= 0) & (behind != steps) -> steps >= 0

one_too_late: your labels are one token too late, in the next step
- def step_labels(steps, right):
    labels = torch.full(steps.shape, -100)
    for b, t in (steps[:, :-1] != steps[:, 1:]).nonzero().tolist():
        if steps[b, t] >= 0:
            labels[b, t + 1] = right[b, steps[b, t]]
    return labels
- def step_labels(steps, right):
    labels = torch.full(steps.shape, -100)
    for b, t in (steps[:, :-1] != steps[:, 1:]).nonzero().tolist():
        if steps[b, t] >= 0:
            labels[b, t + 1] = right[b, steps[b, t]]
    ends = steps[:, -1] >= 0
    labels[ends, -1] = right[ends, steps[ends, -1]]
    return labels

one_too_early: your labels are one token too early
- return torch.where(last, labels, torch.full_like(labels, -100)) -> placed = torch.where(last, labels, -100); return torch.cat([placed[:, 1:], torch.full_like(placed[:, :1], -100)], 1)

into_the_padding: you treat the padding as part of the last step, so its label ends up at the end
of the row
- def step_labels(steps, right):
    steps = steps.cummax(1).values
    last = F.pad(steps[:, 1:], (0, 1), value=-1) != steps
    return torch.where(last & (steps >= 0), right.gather(1, steps.clamp(min=0)), -100)

prompt_labelled: the prompt or the padding has labels: -1 means that a token belongs to no step, but
as an index it selects the last one
- (steps >= 0) & (behind != steps) -> behind != steps
- (steps >= 0) & (behind != steps) -> (steps < 0) | (behind != steps)
- (steps >= 0) & (behind != steps) -> (behind != steps) & ((steps >= 0) | (behind >= 0))

zeros_elsewhere: you fill with 0, which is the class 'wrong': tokens without a label need -100
- -100 -> 0

minus_one_elsewhere: you fill with -1, which cross-entropy treats as a class: tokens without a label
need -100
- -100 -> -1

last_step_only: only the last step has a label: that is how the outcome reward model is trained
- (behind != steps) -> (behind == -1)

first_step_only: only the first step has a label: every step needs one
- (steps >= 0) & -> (steps == 0) &

last_step_missing: the last step never gets a label: the -1 that follows it is smaller than its
number, not larger
- (behind != steps) -> (behind > steps)

end_of_row: a step that ends at the end of the row gets no label: no token follows its last one
- torch.full_like(steps[:, :1], -1) -> steps[:, -1:]

stops_at_wrong: you drop the labels after a wrong step: here every step keeps its own label
- labels = right.gather -> right = torch.where(F.pad(right[:, :-1], (1, 0), value=1).cumprod(1) > 0, right, -100); labels = right.gather

wrong_from_then_on: you mark all steps after a wrong one as wrong: each step has its own label
- right.gather -> right.cumprod(1).gather

labels_in_order: you assign the labels of the whole batch in order, row by row: a row with fewer
steps than `right` has columns shifts all the labels after it. Look up each label as right[row, step]
- return torch.where(last, labels, torch.full_like(labels, -100)) -> labels = torch.full_like(steps, -100); labels[last] = right.flatten()[:int(last.sum())]; return labels

next_step: each step gets the label of its neighbour: steps are counted from 0, so step s has the
label right[row, s]
- steps.clamp(min=0) -> (steps + 1).clamp(min=0, max=right.shape[1] - 1)
- steps.clamp(min=0) -> (steps - 1).clamp(min=0)

inverted: 0 and 1 are swapped: 1 is for a right step
- right.gather -> (1 - right).gather

step_numbers: you return the number of the step instead of its label
- torch.where(last, labels, -> torch.where(last, steps,

mask_only: you return a 1 where a step ends: return the step's label there
- torch.where(last, labels, -> torch.where(last, torch.ones_like(labels),
""")
BEST_OF = mistakes("""
first_n: you choose among the first n replies: unbiased, but that is only one subset of many, and
noisy
- def best_of(scores, right, n):
    return right.gather(1, scores[:, :n].argmax(1, True))[:, 0]

last_n: you choose among the last n replies: one subset of many
- def best_of(scores, right, n):
    return right[:, -n:].gather(1, scores[:, -n:].argmax(1, True))[:, 0]

chunks: you choose within chunks of n and average: all subsets of n count, not only those with
neighbouring replies
- def best_of(scores, right, n):
    rows = scores.shape[1] // n * n
    scores, right = (x[:, :rows].unflatten(1, (-1, n)) for x in (scores, right))
    return right.gather(2, scores.argmax(2, True))[..., 0].mean(1)
- def best_of(scores, right, n):
    scores, right = (x.unfold(1, n, 1) for x in (scores, right))
    return right.gather(2, scores.argmax(2, True))[..., 0].mean(1)

all_replies: you choose among all N replies, whatever n is
- def best_of(scores, right, n):
    return right.gather(1, scores.argmax(1, True))[:, 0]

with_replacement: you sample with replacement: the same reply can be drawn twice, so for n = N you
don't get the best of all replies
- math.comb(size - 1 - rank, n - 1) / math.comb(size, n) -> ((size - rank) ** n - (size - rank - 1) ** n) / size ** n

geometric: you weight the ranks by powers, as if each reply were drawn independently: a rank wins in
C(N - 1 - rank, n - 1) subsets
- math.comb(size - 1 - rank, n - 1) / math.comb(size, n) -> n / size * (1 - n / size) ** rank

worst_of_n: you sort in the wrong direction: that is the worst of n
- descending=True -> descending=False

oracle: you look for any right reply, which is pass@n: the scores aren't used
- def best_of(scores, right, n):
    size, hits = right.shape[1], right.sum(1).tolist()
    missed = [math.comb(size - int(c), n) / math.comb(size, n) for c in hits]
    return 1 - torch.tensor(missed, dtype=right.dtype)

right_in_top: you look for any right reply among the n best: choose the best-scored one of each
subset
- right.gather(1, order) @ torch.tensor(chosen, dtype=right.dtype) -> right.gather(1, order)[:, :n].amax(1)

right_in_first: you look for any right reply among the first n: choose the best-scored one of each
subset
- def best_of(scores, right, n):
    return right[:, :n].amax(1)

mean_of_all: you take the mean over all replies, which is the result for n = 1
- def best_of(scores, right, n):
    return right.mean(1)

mean_of_first: you take the mean of the first n: choose the best-scored one of each subset
- def best_of(scores, right, n):
    return right[:, :n].mean(1)

mean_of_top: you take the mean of the n best: only the best one of a subset is kept
- math.comb(size - 1 - rank, n - 1) / math.comb(size, n) -> (rank < n) / n

independent: you take 1 - (1 - p)^n, the chance of a right reply among n drawn with replacement: the
scores aren't used
- def best_of(scores, right, n):
    return 1 - (1 - right.mean(1)) ** n

expected_score: you average the best scores: average `right` for those replies instead
- right.gather -> scores.gather

rank_off_by_one: the rank is off by one: the best reply wins in C(N - 1, n - 1) subsets, the next in
C(N - 2, n - 1)
- size - 1 - rank -> size - rank
- size - 1 - rank -> max(size - 2 - rank, 0)

n_not_less_one: you choose n replies besides the winner: the winner is one of the n, so n - 1 are
left
- n - 1) / -> n) /

not_divided: you don't divide by the number of subsets, C(N, n)
- / math.comb(size, n) -> / 1

wrong_count: you divide by the wrong number: there are C(N, n) subsets
- / math.comb(size, n) -> / math.comb(size - 1, n - 1)
- / math.comb(size, n) -> / math.perm(size, n)
- / math.comb(size, n) -> / size
- / math.comb(size, n) -> / size ** n

n_clamped: you change n: it can be 1, which gives the mean, or any number up to N
- size = scores.shape[1] -> size = scores.shape[1]; n = max(n, 2)
- size = scores.shape[1] -> size = scores.shape[1]; n = min(max(n, 2), 3)
- size = scores.shape[1] -> size = scores.shape[1]; n = min(n, 3)

unsorted: the replies aren't sorted by score, but the weights belong to ranks
- right.gather(1, order) -> right

sorted_scores_only: the scores are sorted, but `right` isn't: gather it in the same order
- right.gather(1, order) -> right.gather(1, order.argsort(1))
""")
PROCESS_F1 = mistakes("""
accuracy: you take the accuracy over all solutions: calling everything right then looks good if
most solutions are right
- return 2 * wrong * right / (wrong + right).clamp(min=1e-08) -> return hit.mean()

arithmetic_mean: you take the arithmetic mean of the two accuracies: for 0 and 1 it is 0.5, and the
harmonic mean is 0
- 2 * wrong * right / (wrong + right).clamp(min=1e-08) -> (wrong + right) / 2

geometric_mean: you take the geometric mean: the harmonic one is 2ab / (a + b)
- 2 * wrong * right / (wrong + right).clamp(min=1e-08) -> (wrong * right).sqrt()

product: you multiply the two accuracies: the harmonic mean is 2ab / (a + b)
- 2 * wrong * right / (wrong + right).clamp(min=1e-08) -> wrong * right

smaller: you take the smaller of the two accuracies: the harmonic mean is 2ab / (a + b)
- 2 * wrong * right / (wrong + right).clamp(min=1e-08) -> torch.minimum(wrong, right)

no_two: the factor 2 of 2ab / (a + b) is missing
- 2 * wrong -> wrong

detection: you count whether *some* mistake was detected, not which step was named
- hit, good = -> return 2 * ((found >= 0) & (truth >= 0)).sum() / ((found >= 0).sum() + (truth >= 0).sum()); hit, good =

precision_recall: you take the precision and recall of the named steps, as in the F1 of
classification: ProcessBench uses the accuracies on wrong and on right solutions
- hit[good].mean() -> hit[found >= 0].mean()

place_ignored: you count any step named in a wrong solution: it has to be the first wrong one
- (found == truth) -> ((found >= 0) == (truth >= 0))

near_miss: you accept a neighbouring step: only the first wrong step itself counts
- (found == truth) -> (((found - truth).abs() <= 1) & ((found >= 0) == (truth >= 0)))
- (found == truth) -> ((found - truth).abs() <= 1)
- (found == truth) -> ((found - truth).abs() <= (truth >= 0).int())

at_or_before: you accept any step before the first wrong one, or any after it: only the first wrong
step itself counts
- (found == truth) -> ((found <= truth) & ((found >= 0) == (truth >= 0)))
- (found == truth) -> ((found >= truth) & ((found >= 0) == (truth >= 0)))

by_prediction: you group the solutions by the prediction: group them by the truth
- truth == -1 -> found == -1

over_all: you divide both counts by the number of all solutions: divide each by the size of its
group
- hit[~good].mean() -> (hit * ~good).mean()
+ hit[good].mean() -> (hit * good).mean()

by_step: you treat 0 as 'no wrong step': that is -1, and 0 is the first step
- truth == -1 -> truth == 0
- truth == -1 -> truth <= 0

wrong_only: you leave out the right solutions: calling a step wrong in every solution then costs
nothing
- return 2 * wrong * right / (wrong + right).clamp(min=1e-08) -> return wrong

right_only: you only look at the right solutions
- return 2 * wrong * right / (wrong + right).clamp(min=1e-08) -> return right

complement: you return 1 minus the F1
- return 2 -> return 1 - 2
""")
