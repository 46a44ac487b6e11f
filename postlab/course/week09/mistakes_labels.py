"""What goes wrong with labels: agreement that is chance, and noise put into the loss badly."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from postlab.course.check._answers import mistakes


def kappa(labels: Tensor, truth: Tensor) -> Tensor:
    agreed = (labels == truth).float().mean()
    a, b = ([(x == k).float().mean() for k in range(3)] for x in (labels, truth))
    chance = sum(x * y for x, y in zip(a, b, strict=True))
    value = (agreed - chance) / (1 - chance)
    return value


KAPPA = mistakes("""
chance_forgotten: you return the share agreed on: two raters who both say 0 most of the time agree
often without looking
- return value -> return agreed

uniform_chance: you take chance for 1/3 or 1/2: it depends on how often each rater uses each label
- value = -> chance = 1 / 3; value =
- value = -> chance = 1 / 2; value =
- value = -> chance = 1 / len(labels.unique()); value =

not_rescaled: you subtract chance and stop: divide by what is left above chance, so that full
agreement is 1
- / (1 - chance) -> / 1

brackets_missing: only chance is divided by 1 minus chance: put the difference in brackets
- (agreed - chance) / (1 - chance) -> agreed - chance / (1 - chance)

joint_share: you take chance from the pairs in which both give a label: it is one rater's share of
all pairs times the other's
- x * y for x, y in zip(a, b, strict=True) -> ((labels == k) & (truth == k)).float().mean() ** 2 for k in range(3)

divided_by_disagreement: you divide by 1 minus the agreement: divide by 1 minus chance
- / (1 - chance) -> / (1 - agreed)

divided_by_chance: you divide by chance: divide by 1 minus chance, the most that can be had above it
- / (1 - chance) -> / chance
- (agreed - chance) / (1 - chance) -> agreed / chance

chance_not_subtracted: you divide by 1 minus chance and do not subtract chance from the agreement
- (agreed - chance) -> agreed

one_rater: you take both shares from one rater: chance is one's share times the other's, a label
- zip(a, b, -> zip(a, a,
- zip(a, b, -> zip(b, b,

pooled: you pool both raters' labels, which is Scott's pi: Cohen's kappa lets each have habits of
their own
- x * y for -> ((x + y) / 2) ** 2 for

counts_for_shares: you count labels where a share is needed: divide each rater's counts by the number
of pairs, both of them
- sum((x * y for x, y in zip(a, b, strict=True))) -> len(labels) * sum(x * y for x, y in zip(a, b))

counts_of_one: you take chance from the most frequent label alone: it is summed over all labels
- sum((x * y for x, y in zip(a, b, strict=True))) -> max(x * y for x, y in zip(a, b))
- sum((x * y for x, y in zip(a, b, strict=True))) -> max(b)

label_left_out: you leave one of the labels out of chance: a label agreed on by chance is an
agreement, whichever it is
- zip(a, b, -> zip(a[:2], b[:2],
- zip(a, b, -> zip(a[1:], b[1:],

ties_dropped: you drop the pairs with a label 2, a tie, before you count: a tie agreed on is an
agreement too
- agreed = -> keep = (labels != 2) & (truth != 2); labels, truth = (labels[keep], truth[keep]); agreed =

disagreement: you count where the raters differ: agreement is labels == truth
- labels == truth -> labels != truth

weighted: you weigh a disagreement by how far apart the labels are, as weighted kappa does: labels
are names here
- return value -> return 1 - ((labels - truth) ** 2).float().mean() / ((labels[:, None] - truth) ** 2).float().mean()

chance_only: you return the agreement by chance, not what is above it
- return value -> return chance

correlation: you return the correlation of the labels as numbers: labels are names, and how far
apart they are means nothing
- return value -> return torch.corrcoef(torch.stack([labels, truth]).float())[0, 1]

negative_lost: you let nothing below 0 through: two raters who agree less often than by chance have
a kappa below 0, down to -1
- return value -> return value.clamp(min=0)
- return value -> return value.abs()

sign: the sign is turned round: agreement less chance
- (agreed - chance) -> (chance - agreed)
""")


def robust_dpo_loss(margins: Tensor, noise: float) -> Tensor:
    kept, turned = -F.logsigmoid(margins), -F.logsigmoid(-margins)
    loss = ((1 - noise) * kept - noise * turned) / (1 - 2 * noise)
    return loss


ROBUST_DPO_LOSS = mistakes("""
smoothed: you add the turned term: that is label smoothing (cDPO), which draws every margin to a
finite one. Here the turned term is subtracted
- kept - noise * turned) / (1 - 2 * noise) -> kept + noise * turned)
- kept - noise -> kept + noise

not_rescaled: you do not divide by 1 - 2 noise: the mean over the noise is then a part of the clean
loss, and at 50% nothing is left of it
- / (1 - 2 * noise) -> / 1

wrong_divisor: you divide by another number than 1 - 2 noise, which is (1 - noise) less noise
- / (1 - 2 * noise) -> / (1 - noise)
- / (1 - 2 * noise) -> / (1 + 2 * noise)
- / (1 - 2 * noise) -> / (1 - 2 * noise) ** 2
- / (1 - 2 * noise) -> / (2 * noise)

multiplied: you multiply by 1 - 2 noise: divide by it
- / (1 - 2 * noise) -> * (1 - 2 * noise)

divided_in_part: only a part of the difference is divided by 1 - 2 noise: put the difference in
brackets (or write it as l(m) - noise * m / (1 - 2 noise))
- return loss -> return kept - noise * margins
- ((1 - noise) * kept - noise * turned) / (1 - 2 * noise) -> (1 - noise) * kept - noise * turned / (1 - 2 * noise)
- ((1 - noise) * kept - noise * turned) / (1 - 2 * noise) -> (1 - noise) * kept / (1 - 2 * noise) - noise * turned

noise_ignored: the noise has no effect, which leaves DPO's own loss: it is not used, or both terms
have the same margin and the weights cancel
- return loss -> return kept

kept_unweighted: the label's own term has no weight: it is multiplied by 1 - noise
- (1 - noise) * kept -> kept

turned_unweighted: the turned term has the wrong weight: it is multiplied by noise
- noise * turned -> turned
- - noise * turned -> - (1 - noise) * turned

turned_ignored: the turned term is missing
- (1 - noise) * kept - noise * turned -> (1 - noise) * kept

exchanged: the two losses have changed places, by their weights or by the sign of the margins: 1 -
noise goes with l(m), the loss of the pair as labelled
- (1 - noise) * kept - noise * turned -> noise * kept - (1 - noise) * turned
- (1 - noise) * kept - noise * turned -> (1 - noise) * turned - noise * kept

mixture: you take the logarithm of the mixed probability: the loss here mixes the two losses, whose
mean over the noise is the clean one
- return loss -> return -torch.log((1 - noise) * torch.sigmoid(margins) + noise * torch.sigmoid(-margins))

margin_scaled: you scale the margin: the two losses are weighed, the margin stays
- return loss -> return -F.logsigmoid(margins * (1 - 2 * noise))
- return loss -> return -F.logsigmoid(margins / (1 - 2 * noise))
- return loss -> return -F.logsigmoid(margins * (1 - noise))

multiple_of_kept: you return l(m) / (1 - 2 noise): the turned loss l(-m), which is -log sigmoid(-m),
has no part in it
- return loss -> return kept / (1 - 2 * noise)
- turned = (-F.logsigmoid(margins), -F.logsigmoid(-margins)) -> turned = (-F.logsigmoid(margins), F.logsigmoid(margins))

turned_sign_slip: the turned loss is not what stands in your second term: l(-m) is l(m) + m
- -F.logsigmoid(-margins) -> -F.logsigmoid(margins) - margins
- -F.logsigmoid(-margins) -> 1 - F.logsigmoid(margins)
- -F.logsigmoid(-margins) -> 1 + F.logsigmoid(margins)

clamped: you let nothing below 0 through: this loss is below 0 where the margin is large, which is
what makes its mean right
- return loss -> return loss.clamp(min=0)

sign: the sign is turned round: a loss is minus the log-likelihood
- return loss -> return -loss

reduced: you take the mean over pairs: return a loss a pair, (B,)
- return loss -> return loss.mean()
- return loss -> return loss.sum()

no_logarithm: you leave the logarithm out: the terms are -log sigmoid, not sigmoid
- F.logsigmoid -> torch.sigmoid
- -F.logsigmoid -> torch.sigmoid
""")
