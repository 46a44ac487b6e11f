"""What goes wrong when two models are compared: edits of the right answers in `exercises.py`."""

from __future__ import annotations

from postlab.course.check._answers import mistakes

MCNEMAR_P = mistakes("""
one_sided: you count one tail only: an equally uneven result in the other direction would have
surprised you as much, so double the tail
- 2 * tail -> tail

point: you take the probability of this exact outcome, but all outcomes that are as uneven *or more*
count
- min(1.0, 2 * tail) -> 2 * math.comb(n, lost) / 2 ** n
- min(1.0, 2 * tail) -> math.comb(n, lost) / 2 ** n

fixed_tail: you always start from the same count: the tail ends at the smaller of the two
- min(gained, lost) -> lost
- min(gained, lost) -> gained
- min(gained, lost) -> lost
+ min(1.0, 2 * tail) -> 2 * tail
- min(gained, lost) -> gained
+ min(1.0, 2 * tail) -> 2 * tail

always_one: your p is 1 nearly everywhere (min(1.0, p) may hide that it is larger): let the tail end
at the smaller of the two counts, and divide it by 2**n
- min(gained, lost) -> max(gained, lost)
- / 2 ** n -> / 1

not_a_power: you divide by the wrong number of outcomes: n coins have 2**n (^ isn't a power in
Python)
- 2 ** n -> (2 ^ n)
- 2 ** n -> n ** 2
- 2 ** n -> (2 * n)
- 2 ** n -> 2 ** max(gained, lost)

strict: your tail leaves out the observed outcome itself: it counts too, and range(k) ends at k - 1
- min(gained, lost) + 1 -> min(gained, lost)

zero_left_out: your tail leaves out the outcome in which nothing was gained, or nothing lost: count
from 0
- range(min -> range(1, min

mid_p: this is the mid-p, which counts half of the observed outcome: the exact p counts all of it
- 2 * tail -> 2 * tail - math.comb(n, lost) / 2 ** n

not_divided: you count outcomes: divide by the number of all outcomes, 2**n
- / 2 ** n -> / 1
+ min(1.0, 2 * tail) -> 2 * tail
- / 2 ** n -> / 1
+ min(1.0, 2 * tail) -> tail

statistic: you return McNemar's statistic, (gained - lost)^2 / (gained + lost): return the exact
p-value
- min(1.0, 2 * tail) -> (gained - lost) ** 2 / n
- min(1.0, 2 * tail) -> (abs(gained - lost) - 1) ** 2 / n

approximation: this is the chi-square (or normal) approximation, which is inaccurate if few prompts
changed: count the outcomes instead
- min(1.0, 2 * tail) -> math.erfc(abs(gained - lost) / math.sqrt(2 * n))
- min(1.0, 2 * tail) -> math.erfc(max(0, abs(gained - lost) - 1) / math.sqrt(2 * n))
- min(1.0, 2 * tail) -> math.erfc(abs(gained - lost) / math.sqrt(2 * n)) / 2

complement: you return 1 - p: a small p is evidence against chance
- return min(1.0, 2 * tail) -> return 1 - min(1.0, 2 * tail)
- return min(1.0, 2 * tail) -> return 1 - tail

share: you return a share of the changed prompts: return how probable such a share is by chance
- min(1.0, 2 * tail) -> gained / n
- min(1.0, 2 * tail) -> lost / n
- min(1.0, 2 * tail) -> min(gained, lost) / n
""")
SWAPPED_WIN_RATE = mistakes("""
not_turned: you add the votes as they are, but in b_first a 1 means that *B* won, so A's share is 1
minus the vote
- (first + 1 - second) / 2 -> (first + second) / 2

one_order: you count only one of the two orders, so the judge's position bias remains
- (first + 1 - second) / 2 -> first
- (first + 1 - second) / 2 -> (1 - second)
- (first + 1 - second) / 2 -> second

other_side: this is B's win rate: A's is 1 minus it
- (first + 1 - second) / 2 -> (1 - first + second) / 2

difference: you return the difference between A's and B's shares: a win rate lies between 0 and 1,
and 0.5 means no preference
- (first + 1 - second) / 2 -> (first - second)
- (first + 1 - second) / 2 -> (first - second) / 2

doubled: each pair has two verdicts: divide by two
- (first + 1 - second) / 2 -> (first + 1 - second)

not_averaged: you return a sum: divide it by the number of pairs
- / len(a_first) -> / 1
- / len(a_first) -> / 1
+ (first + 1 - second) / 2 -> (first + 1 - second)

ties_are_losses: you count ties as losses, in one of the orders or in both: a tie is half a win for
each side
- (first + 1 - second) / 2 -> ((first == 1) + (second == 0)) / 2
- (first + 1 - second) / 2 -> (first + (second == 0)) / 2
- (first + 1 - second) / 2 -> ((first == 1) + 1 - second) / 2

ties_are_wins: you count ties as wins: a tie is half a win for each side
- (first + 1 - second) / 2 -> ((first > 0) + (second < 1)) / 2

ties_dropped: you drop the ties, but they are votes too, half for each side, and it tells you
something if a judge is often unsure
- def swapped_win_rate(a_first, b_first):
    won = a_first.count(1) + b_first.count(0)
    return won / (won + a_first.count(0) + b_first.count(1))
- def swapped_win_rate(a_first, b_first):
    decided = [(x, y) for x, y in zip(a_first, b_first) if x != 0.5 and y != 0.5]
    return sum((x + 1 - y) / 2 for x, y in decided) / len(decided)
- def swapped_win_rate(a_first, b_first):
    decided = [(x, y) for x, y in zip(a_first, b_first) if x != 0.5 and y != 0.5]
    return sum((x + 1 - y) / 2 for x, y in decided) / len(a_first)

majority: you round each pair to a win or a loss: count it as the mean of its two verdicts
- (first + 1 - second) / 2 -> float(first + 1 - second > 1)
- (first + 1 - second) / 2 -> float(first + 1 - second >= 1)

half_of_one: you halve only one of the two verdicts: halve their sum, in brackets
- (first + 1 - second) / 2 -> (first + 1 - second / 2)
- (first + 1 - second) / 2 -> (first + (1 - second) / 2)
- (first + 1 - second) / 2 -> (first / 2 + 1 - second)

both_or_nothing: you count a win only if A wins in both orders, or take the worse of the two
verdicts: average them
- (first + 1 - second) / 2 -> float(first == 1 and second == 0)
- (first + 1 - second) / 2 -> min(first, 1 - second)

once_is_enough: you count a win if A wins in either order, or take the better of the two verdicts:
average them
- (first + 1 - second) / 2 -> float(first == 1 or second == 0)
- (first + 1 - second) / 2 -> max(first, 1 - second)

inconsistent_dropped: you drop the pairs on which the two orders disagree, but these are the judge's
ties: average their verdicts
- def swapped_win_rate(a_first, b_first):
    same = [x for x, y in zip(a_first, b_first) if x == 1 - y]
    return sum(same) / len(same)

inconsistent_tied: you turn a win plus a tie into a tie: their mean is 3/4
- (first + 1 - second) / 2 -> (first if first == 1 - second else 0.5)
""")
HOLM = mistakes("""
bonferroni: every p is multiplied by the number of tests: that is Bonferroni. Holm multiplies only
the smallest by m, the next by m - 1 and so on
- return adjusted -> return (p * len(p)).clamp(max=1)
- return adjusted -> return p * len(p)

benjamini_hochberg: this is Benjamini and Hochberg's correction, which limits the *share* of false
findings: Holm's limits the chance of any
- (p[order] * factors).cummax(0).values -> (p[order] * len(p) / factors.flip(0)).flip(0).cummin(0).values.flip(0)

hochberg: this is Hochberg's correction, a running minimum from the largest p down: Holm's is a
running maximum from the smallest up
- (p[order] * factors).cummax(0).values -> (p[order] * factors).flip(0).cummin(0).values.flip(0)

sorted_order: the values are right, but in sorted order: put each where its own p was
- adjusted[order] = -> adjusted =

wrong_way_back: you index with the sorting order once more, but you need its inverse: out[order] =
adjusted, or adjusted[order.argsort()]
- return adjusted -> return adjusted[order][order]

not_monotone: a larger p can end up below a smaller one: after multiplying, take the running maximum,
cummax, of the sorted values
- .cummax(0).values -> .clone()

maximum_in_their_order: you take the running maximum in the original order: take it while the values
are sorted
- .cummax(0).values -> .clone()
+ return adjusted -> return adjusted.cummax(0).values
- return adjusted -> return adjusted.cummax(0).values

order_as_rank: you use argsort as if it gave ranks, but it lists places: the ranks are its inverse,
order.argsort()
- return adjusted -> return (p * (len(p) - order)).clamp(max=1)
- return adjusted -> return (p * (len(p) - order)).cummax(0).values.clamp(max=1)

running_minimum: you take a running minimum, but Holm stops at the first p that fails, so each value
is at least as large as those before it (cummax)
- cummax -> cummin

running_sum: you sum the values up: take their running maximum, cummax
- .cummax(0).values -> .cumsum(0)

factors_turned: the factors are in the wrong order: the *smallest* p is multiplied by m
- factors = torch.arange(len(p), 0, -1, device=p.device) -> factors = torch.arange(1, len(p) + 1)

largest_first: you sort from the largest p down, but the *smallest* is multiplied by m
- p.argsort() -> p.argsort(descending=True)

factors_off_by_one: the factors are off by one: they go from m down to 1
- torch.arange(len(p), 0, -1 -> torch.arange(len(p) - 1, -1, -1
- torch.arange(len(p), 0, -1 -> torch.arange(len(p) + 1, 1, -1

divided: you divide by the factors, which makes p smaller: either divide the threshold or multiply p
- p[order] * factors -> p[order] / factors

not_sorted: you don't sort the p-values, but the factor depends on the rank: sort them first
- p.argsort() -> torch.arange(len(p))
- p.argsort() -> torch.arange(len(p))
+ .cummax(0).values -> .clone()

sidak: this is Sidak's correction, in one step or several, which assumes independent tests
- return adjusted -> return 1 - (1 - p) ** len(p)
- p[order] * factors -> 1 - (1 - p[order]) ** factors
""")
