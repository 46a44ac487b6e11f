"""What goes wrong when two models are compared: edits of the right answers in `exercises.py`."""

from __future__ import annotations

from postlab.course.check._answers import mistakes

MCNEMAR_P = mistakes("""
one_sided: you count one tail: so uneven in the other direction would have surprised you as much,
twice the tail is the two-sided p
- 2 * tail -> tail

point: you take the probability of this very outcome: all that are as uneven *or more* count
- min(1.0, 2 * tail) -> 2 * math.comb(n, lost) / 2 ** n
- min(1.0, 2 * tail) -> math.comb(n, lost) / 2 ** n

fixed_tail: you always start from the same count: the tail begins at the smaller of the two
- min(gained, lost) -> lost
- min(gained, lost) -> gained
- min(gained, lost) -> lost
+ min(1.0, 2 * tail) -> 2 * tail
- min(gained, lost) -> gained
+ min(1.0, 2 * tail) -> 2 * tail
- min(gained, lost) -> max(gained, lost)

strict: your tail stops before the outcome itself: as uneven as this counts too, and range(k) ends
at k - 1
- min(gained, lost) + 1 -> min(gained, lost)

zero_left_out: your tail leaves out the fall in which nothing was gained, or nothing lost: count
from 0
- range(min -> range(1, min

mid_p: this is the mid-p, which counts half of the outcome itself: the exact p counts all of it
- 2 * tail -> 2 * tail - math.comb(n, lost) / 2 ** n

not_divided: you count falls of the coins: divide by all there are, 2**n
- / 2 ** n -> / 1
+ min(1.0, 2 * tail) -> 2 * tail
- / 2 ** n -> / 1
+ min(1.0, 2 * tail) -> tail

statistic: you return McNemar's statistic, (gained - lost)^2 / (gained + lost): a p is wanted, and
the exact one
- min(1.0, 2 * tail) -> (gained - lost) ** 2 / n
- min(1.0, 2 * tail) -> (abs(gained - lost) - 1) ** 2 / n

approximation: this is the chi-square (or normal) approximation: with few changes it is off, count
the falls of the coins instead
- min(1.0, 2 * tail) -> math.erfc(abs(gained - lost) / math.sqrt(2 * n))
- min(1.0, 2 * tail) -> math.erfc(max(0, abs(gained - lost) - 1) / math.sqrt(2 * n))
- min(1.0, 2 * tail) -> math.erfc(abs(gained - lost) / math.sqrt(2 * n)) / 2

complement: you return 1 - p: a small p is what speaks against chance
- return min(1.0, 2 * tail) -> return 1 - min(1.0, 2 * tail)
- return min(1.0, 2 * tail) -> return 1 - tail

share: you return a share of the changed prompts: how probable is such a share by chance?
- min(1.0, 2 * tail) -> gained / n
- min(1.0, 2 * tail) -> lost / n
- min(1.0, 2 * tail) -> min(gained, lost) / n
""")
SWAPPED_WIN_RATE = mistakes("""
not_turned: you add the votes as they are: in b_first a 1 means that *B* won, A's share is 1 less it
- (first + 1 - second) / 2 -> (first + second) / 2

one_order: only one of the orders is counted: the judge's love of a place stays in
- (first + 1 - second) / 2 -> first
- (first + 1 - second) / 2 -> (1 - second)
- (first + 1 - second) / 2 -> second

other_side: this is B's win rate: A's is 1 less it
- (first + 1 - second) / 2 -> (1 - first + second) / 2

difference: you return by how much A's share is above B's: a win rate is from 0 to 1, and 0.5 is no
preference
- (first + 1 - second) / 2 -> (first - second)
- (first + 1 - second) / 2 -> (first - second) / 2

doubled: each pair has two verdicts: divide by two for each pair
- (first + 1 - second) / 2 -> (first + 1 - second)

not_averaged: you return a sum: divide by the number of pairs
- / len(a_first) -> / 1
- / len(a_first) -> / 1
+ (first + 1 - second) / 2 -> (first + 1 - second)

ties_are_losses: a tie counts for nothing: it is half a win, for both
- (first + 1 - second) / 2 -> ((first == 1) + (second == 0)) / 2

ties_are_wins: a tie counts as a win: it is half a win, for both
- (first + 1 - second) / 2 -> ((first > 0) + (second < 1)) / 2

ties_dropped: the ties are thrown away: they are votes, half for each, and a judge who is often
unsure says something by it
- def swapped_win_rate(a_first, b_first):
    won = a_first.count(1) + b_first.count(0)
    return won / (won + a_first.count(0) + b_first.count(1))
- def swapped_win_rate(a_first, b_first):
    decided = [(x, y) for x, y in zip(a_first, b_first) if x != 0.5 and y != 0.5]
    return sum((x + 1 - y) / 2 for x, y in decided) / len(decided)

both_or_nothing: A wins a pair only if it wins in both orders, and otherwise loses it: average the
two verdicts of a pair
- (first + 1 - second) / 2 -> float(first == 1 and second == 0)
- (first + 1 - second) / 2 -> min(first, 1 - second)

once_is_enough: A wins a pair if it wins in either order: average the two verdicts of a pair
- (first + 1 - second) / 2 -> float(first == 1 or second == 0)
- (first + 1 - second) / 2 -> max(first, 1 - second)

inconsistent_dropped: pairs on which the two orders disagree are left out: they are the judge's
ties, average their verdicts
- def swapped_win_rate(a_first, b_first):
    same = [x for x, y in zip(a_first, b_first) if x == 1 - y]
    return sum(same) / len(same)

inconsistent_tied: a win beside a tie becomes a tie: their mean is 3/4
- (first + 1 - second) / 2 -> (first if first == 1 - second else 0.5)
""")
HOLM = mistakes("""
bonferroni: every p is multiplied by the number of tests: that is Bonferroni. Holm multiplies only
the smallest by m, the next by m - 1 and so on
- return adjusted -> return (p * len(p)).clamp(max=1)
- return adjusted -> return p * len(p)

benjamini_hochberg: this is Benjamini and Hochberg's: it bounds the *share* of false findings, Holm
the chance of any
- (p[order] * factors).cummax(0).values -> (p[order] * len(p) / factors.flip(0)).flip(0).cummin(0).values.flip(0)

hochberg: this is Hochberg's, a running minimum from the largest p down: Holm takes the running
maximum from the smallest up
- (p[order] * factors).cummax(0).values -> (p[order] * factors).flip(0).cummin(0).values.flip(0)

sorted_order: the values are right and come back sorted: put each in the place of its own p
- adjusted[order] = -> adjusted =

wrong_way_back: you index with the sorting order once more, where its inverse is wanted:
out[order] = adjusted, or adjusted[order.argsort()]
- return adjusted -> return adjusted[order][order]

not_monotone: a larger p may not end below a smaller one: take the running maximum, cummax, over the
sorted values
- .cummax(0).values -> .clone()

running_minimum: you take a running minimum: Holm stops at the first p that fails, so each is at
least as large as those before it (cummax)
- cummax -> cummin

running_sum: you add the values up: take their running maximum, cummax
- .cummax(0).values -> .cumsum(0)

factors_turned: the factors are the wrong way round: the *smallest* p is multiplied by m
- factors = torch.arange(len(p), 0, -1, device=p.device) -> factors = torch.arange(1, len(p) + 1)

largest_first: the p-values are sorted from the largest down: the *smallest* is multiplied by m
- p.argsort() -> p.argsort(descending=True)

factors_off_by_one: the factors are off by one: they run from m down to 1
- torch.arange(len(p), 0, -1 -> torch.arange(len(p) - 1, -1, -1
- torch.arange(len(p), 0, -1 -> torch.arange(len(p) + 1, 1, -1

divided: you divide by the factors: that makes p smaller. The threshold is divided, or p multiplied
- p[order] * factors -> p[order] / factors

not_sorted: the p-values are taken as they come: sort them first, the factor depends on the rank
- p.argsort() -> torch.arange(len(p))
- p.argsort() -> torch.arange(len(p))
+ .cummax(0).values -> .clone()

sidak: this is Sidak's correction, of each alone or step by step: it wants independent tests
- return adjusted -> return 1 - (1 - p) ** len(p)
- p[order] * factors -> 1 - (1 - p[order]) ** factors
""")
