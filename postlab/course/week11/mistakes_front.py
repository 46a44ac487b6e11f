"""What goes wrong with fronts: who beats whom, and areas that overlap or stick out."""

from __future__ import annotations

from postlab.course.check._answers import mistakes

PARETO_FRONT = mistakes("""
minimised: you keep the points that beat no other one. More is better, so reverse the comparisons, or
take `any` along the other axis
- .any(0) -> .any(1)
- points[:, None] >= points[None] -> points[:, None] <= points[None]
+ points[:, None] > points[None] -> points[:, None] < points[None]

twins_beaten: a point is beaten by its equal: beating takes 'somewhere better' besides 'nowhere
worse'
- no_worse & better -> no_worse & ~torch.eye(len(points), dtype=torch.bool)

second_twin_dropped: of equal points you keep one: they do not beat each other, so all of them stay
- no_worse & better -> no_worse & (better | torch.ones_like(better).triu(1))
- no_worse & better -> no_worse & (better | torch.ones_like(better).tril(-1))

itself: each point beats itself, so none is left: it takes 'nowhere worse' *and* 'somewhere better'
- no_worse & better -> no_worse
- no_worse & better -> no_worse | better

every_point: every point ends up on the front: compare all pairs, points[:, None] with points[None],
and ask whether *any* point beats it
- .any(0) -> .all(0)

places: you return the places of the points on the front: return True or False for each point
- return ~(no_worse & better).any(0) -> return (~(no_worse & better).any(0)).nonzero()
- return ~(no_worse & better).any(0) -> return (~(no_worse & better).any(0)).nonzero().squeeze(-1)

points_returned: you return the points on the front: return True or False for each point
- return ~(no_worse & better).any(0) -> return points[~(no_worse & better).any(0)]

earlier_only: you compare each point only with those before it, or only with those after it
- no_worse & better -> (no_worse & better).triu(1)
- no_worse & better -> (no_worse & better).tril(-1)

better_everywhere: you ask for better in every objective: better in one and equal in the others is
enough
- (points[:, None] > points[None]).any(-1) -> (points[:, None] > points[None]).all(-1)

better_somewhere: you ask for better in some objective only: it must be worse in none as well
- no_worse & better -> better

beaten_returned: you mark the points that are beaten: the front is the others
- return ~ -> return

corners_only: you keep the best of each objective: a compromise that nobody beats belongs to it too
- return ~(no_worse & better).any(0) -> return (points == points.amax(0)).any(-1)

summed: you compare sums or products of the objectives: that is one choice of weights, and one of
many points
- return ~(no_worse & better).any(0) -> return points.sum(-1) == points.sum(-1).max()
- return ~(no_worse & better).any(0) -> return points.prod(-1) == points.prod(-1).max()

supported_only: you keep the winners of weighted sums: a point in a hollow of the front wins no
weighted sum, and nobody beats it
- def pareto_front(points):
    grid = torch.cartesian_prod(*[torch.linspace(0, 1, 101) + 1e-3] * points.shape[1])
    values = points @ grid.T
    return (values >= values.amax(0) - 1e-6).any(1)
- def pareto_front(points):
    w = torch.linspace(0, 1, 101)
    grid = torch.stack([w, 1 - w]) if points.shape[1] == 2 else torch.ones(points.shape[1], 1)
    values = points @ grid
    return (values >= values.amax(0) - 1e-9).any(1)

above_the_mean: you keep what is above the mean: a point is on the front if no other beats it
- return ~(no_worse & better).any(0) -> return (points > points.mean(0)).all(-1)
- return ~(no_worse & better).any(0) -> return (points >= points.mean(0)).all(-1)

beats_some: you keep the points that beat another one: the front is the points that no other beats
- return ~(no_worse & better).any(0) -> return (no_worse & better).any(1)

first_two_only: you look at some of the objectives and not at all of them
- no_worse = -> points = points[:, :2]; no_worse =
- return ~(no_worse & better).any(0) -> return points[:, 0] == points[:, 0].max()

strict_sweep: you go down one objective and keep what is higher than all before in the second: equal
points and a third objective need a comparison of all pairs
- def pareto_front(points):
    keep, best = torch.zeros(len(points), dtype=torch.bool), -math.inf
    for i in points[:, 0].argsort(descending=True, stable=True):
        if points[i, 1] > best:
            keep[i], best = True, points[i, 1]
    return keep
- def pareto_front(points):
    keep, best = torch.zeros(len(points), dtype=torch.bool), -math.inf
    for i in sorted(range(len(points)), key=lambda i: (-points[i, 0], -points[i, 1])):
        if points[i, 1] > best:
            keep[i], best = True, points[i, 1]
    return keep
""")
HYPERVOLUME = mistakes("""
overlap_counted: you add up the points' boxes: where they overlap counts once
- return (width * above[:, 1].cummax(0).values).sum() -> return above.prod(1).sum()

largest_box: you take the largest single box: you need the union of all boxes
- return (width * above[:, 1].cummax(0).values).sum() -> return above.prod(1).max()

bounding_box: you take the box around all points: no policy is best in both at once
- return (width * above[:, 1].cummax(0).values).sum() -> return above.amax(0).prod()

reference_ignored: you measure from 0: subtract the reference first
- points - reference -> points

reference_added: the reference is added: subtract it
- points - reference -> points + reference

running_minimum: your strips get heights that are too low: sort from the largest down and carry the
best height so far along, cummax
- cummax -> cummin

not_sorted: you go through the points in the order they came: sort them by one objective first
- above[above[:, 0].argsort(descending=True)] -> above
- above[above[:, 0].argsort(descending=True)] -> above
+ .cummax(0).values -> .clone()

sorted_upwards: you sort from the smallest up and still carry the best height from the left: go from
the largest down
- descending=True -> descending=False
- descending=True -> descending=False
+ torch.cat([above[1:, 0], above.new_zeros(1)]) -> torch.cat([above.new_zeros(1), above[:-1, 0]])

sorted_by_second: you sort by the second objective, but the widths are differences in the first:
sort by that
- above[:, 0].argsort -> above[:, 1].argsort

reference_once: you subtract the reference in one objective only: strips begin at it, in width and in
height
- above[:, 1].cummax(0).values -> (above[:, 1].cummax(0).values + reference[1])
- above.new_zeros(1) -> -reference[:1]

wraps: your last strip reaches to the first point, as roll(-1) makes it: it ends at the reference
- torch.cat([above[1:, 0], above.new_zeros(1)]) -> above[:, 0].roll(-1)

beaten_points: a beaten point pulls the height down: carry the best height so far along, or drop
beaten points first
- .cummax(0).values -> .clone()

last_strip_lost: the strip between the reference and the first point is missing
- return (width * above[:, 1].cummax(0).values).sum() -> return (width * above[:, 1].cummax(0).values)[:-1].sum()

first_strip_lost: the strip of the point farthest to the right is missing
- return (width * above[:, 1].cummax(0).values).sum() -> return (width * above[:, 1].cummax(0).values)[1:].sum()

joined: you connect the points by lines: there is no policy between two others, unless you pick one
at random for each request, so what they cover is a staircase
- return (width * above[:, 1].cummax(0).values).sum() -> h = above[:, 1].cummax(0).values; return (width * (h + torch.cat([h[1:], h[-1:]])) / 2).sum()
- return (width * above[:, 1].cummax(0).values).sum() -> h = above.flip(0); return torch.trapezoid(torch.cat([h[:1, 1], h[:, 1]]), torch.cat([h.new_zeros(1), h[:, 0]]))
- return (width * above[:, 1].cummax(0).values).sum() -> h = above.flip(0); return torch.trapezoid(h[:, 1], h[:, 0])

outer_staircase: your steps lie above the points: between two points the lower height counts, not
the higher
- .cummax(0).values) -> .cummax(0).values.roll(-1))

mean: you divide by the number of points
- .sum() -> .sum() / len(points)
- return (width * above[:, 1].cummax(0).values).sum() -> return above.prod(1).mean()
""")
