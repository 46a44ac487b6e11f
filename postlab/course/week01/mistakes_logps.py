"""Common mistakes in log-probs and the SFT loss, as edits of the right answers below."""

from __future__ import annotations

import torch
from torch import Tensor

from postlab.course.check._answers import mistakes


def token_logps(logits: Tensor, labels: Tensor) -> Tensor:
    logps = torch.log_softmax(logits, -1)
    picked = logps.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return picked


TOKEN_LOGPS = mistakes("""
sign: you return the loss, -log p: log-probs are negative, and the cross-entropy is minus the
log-prob
- return picked -> return -picked

not_normalised: you return the label's raw logit: it only becomes a log-prob after log_softmax
- torch.log_softmax(logits, -1) -> logits

log_sum_exp_missing: you subtract something else than the log-sum-exp, such as the largest logit
or the mean: a log-prob is the label's logit minus log(sum(exp(logits))) of its position
- torch.log_softmax(logits, -1) -> (logits - logits.amax(-1, True))
- torch.log_softmax(logits, -1) -> (logits - logits.max())
- torch.log_softmax(logits, -1) -> (logits - logits.mean(-1, True))
- torch.log_softmax(logits, -1) -> (logits - logits.sum(-1, True))

log_of_sum_missing: you subtract the sum of the exponentials itself: subtract its logarithm
- torch.log_softmax(logits, -1) -> (logits - logits.exp().sum(-1, True))
- torch.log_softmax(logits, -1) -> (logits - logits.amax(-1, True) - (logits - logits.amax(-1, True)).exp().sum(-1, True))

log_sum_exp_added: you add the log-sum-exp: subtract it
- torch.log_softmax(logits, -1) -> (logits + logits.logsumexp(-1, True))

not_exponentiated: you divide the logits themselves by their sum: probabilities are the shares of
exp(logits)
- torch.log_softmax(logits, -1) -> (logits / logits.sum(-1, True)).log()
- torch.log_softmax(logits, -1) -> (logits / logits.sum(-1, True))

normalised_over_more: you normalise over tokens or rows as well: each position has probabilities of
its own, over the last axis alone
- torch.log_softmax(logits, -1) -> (logits - logits.logsumexp((1, 2), True))
- torch.log_softmax(logits, -1) -> (logits - logits.logsumexp((0, 1, 2), True))

probability: you return probabilities: the logarithm is missing
- torch.log_softmax -> torch.softmax

wrong_axis: you normalise over the wrong axis: the vocabulary is the last one, dim=-1
- log_softmax(logits, -1) -> log_softmax(logits, 1)
- log_softmax(logits, -1) -> log_softmax(logits, 0)

log_of_log: you take a logarithm or a softmax twice
- torch.log_softmax(logits, -1) -> torch.log_softmax(torch.softmax(logits, -1), -1)

shifted: you shift the labels by one position: here logits and labels are already aligned, the
logits at t are for the label at t
- logps = -> logits, labels = logits[:, :-1], labels[:, 1:]; logps =
- labels.unsqueeze -> labels.roll(-1, 1).unsqueeze

log_base: you take a logarithm to base 2 or 10: log-probs are natural logarithms, in nats
- return picked -> return picked / math.log(2)
- return picked -> return picked / math.log(10)

maximum_lost: you subtract the maximum before exp and then forget it: subtract it from the
label's logit too
- torch.log_softmax(logits, -1) -> logits - (logits - logits.amax(-1, True)).exp().sum(-1, True).log()

maximum_twice: you subtract the maximum from the logits, but not before exp: it has to be the same
logits in both places
- torch.log_softmax(logits, -1) -> (logits - logits.amax(-1, True) - logits.logsumexp(-1, True))

indices_in_step: the row and token indices advance together, (0, 0), (1, 1): give the rows an
axis of their own, torch.arange(B)[:, None], or use gather
- return picked -> return logps[torch.arange(len(labels)), torch.arange(labels.shape[1]), labels]

whole_vocabulary: you return the log-probs of the whole vocabulary: pick the label's with gather
- return picked -> return logps

best_token: you return the log-prob of the most likely token, not the label's
- return picked -> return logps.amax(-1)

not_squeezed: the last axis of size 1, which gather leaves, is still there: squeeze(-1)
- return picked -> return picked.unsqueeze(-1)

every_label_everywhere: indexing with [..., labels] looks up all labels at every position, or in
every row: use gather
- return picked -> return logps[..., labels]
- return picked -> return logps[:, torch.arange(labels.shape[1]), labels]

reduced: you sum or average over the tokens: return one value for each token
- return picked -> return picked.sum(-1)
- return picked -> return picked.mean(-1)
- return picked -> return picked.sum()
- return picked -> return picked.mean()
""")


def sft_loss(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    logps = torch.log_softmax(logits, -1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    loss = -(logps * mask).sum() / mask.sum()
    return loss


SFT_LOSS = mistakes("""
mean_of_row_means: you average each row first and then the rows: a token of a short reply counts
more than one of a long reply. Divide once, by all trained tokens of the batch
- (logps * mask).sum() / mask.sum() -> ((logps * mask).sum(-1) / mask.sum(-1)).mean()

mean_over_padding: you zero the masked tokens but still count them: divide by mask.sum(), not by
the number of all tokens
- / mask.sum() -> / mask.numel()

mask_ignored: the mask has no effect, prompt and padding are trained
- (logps * mask).sum() / mask.sum() -> logps.mean()

sign: the minus is missing: this would make the replies less likely
- return loss -> return -loss

sum: you return the sum: divide it by the number of trained tokens
- .sum() / mask.sum() -> .sum()

per_sequence: you divide by the number of sequences: divide by the number of trained tokens
- / mask.sum() -> / len(mask)

inverted_mask: the mask is inverted: 1 marks the tokens that are trained
- logps = -> mask = 1 - mask; logps =

mask_as_index: you index with the mask, but it holds integers: 0 and 1 then select rows 0 and 1.
Multiply by it, or index with mask.bool()
- (logps * mask).sum() / mask.sum() -> logps[mask].mean()
- return loss -> return F.cross_entropy(logits[mask], labels[mask])

not_squeezed: the last axis that gather leaves, of size 1, is still there when you multiply by the
mask: squeeze(-1)
- gather(-1, labels.unsqueeze(-1)).squeeze(-1) -> gather(-1, labels.unsqueeze(-1))

masked_labels_trained: you set masked labels to 0, but 0 is a real token, so it is trained.
cross_entropy ignores the label -100
- return loss -> return F.cross_entropy(logits.flatten(0, 1), (labels * mask).flatten())

token_0_ignored: token 0 is ignored everywhere, in replies too: cross_entropy ignores the label
-100
- return loss -> return F.cross_entropy(logits.flatten(0, 1), (labels * mask).flatten(), ignore_index=0)

mask_on_logits: you multiply the logits by the mask: masked tokens then have equal logits, but they
still count
- return loss -> return F.cross_entropy((logits * mask[:, :, None]).flatten(0, 1), labels.flatten())

shifted: you shift the labels by one position: here logits and labels are aligned already, the
logits at t are for the label at t
- logps = -> logits, labels, mask = logits[:, :-1], labels[:, 1:], mask[:, 1:]; logps =

not_normalised: the log_softmax is missing
- torch.log_softmax(logits, -1) -> logits

log_sum_exp_missing: you subtract something else than the log-sum-exp, such as the largest logit
or the mean: a log-prob is the label's logit minus log(sum(exp(logits))) of its position
- torch.log_softmax(logits, -1) -> (logits - logits.amax(-1, True))
- torch.log_softmax(logits, -1) -> (logits - logits.mean(-1, True))

perplexity: you return the perplexity, e to the loss: leave out the exp
- return loss -> return loss.exp()

probability: you average probabilities: the logarithm is missing
- torch.log_softmax -> torch.softmax

wrong_axis: you normalise over the wrong axis: the vocabulary is the last one, dim=-1
- log_softmax(logits, -1) -> log_softmax(logits, 1)
- log_softmax(logits, -1) -> log_softmax(logits, 0)

log_base: you take a logarithm to base 2 or 10: the loss is in nats, natural logarithms
- return loss -> return loss / math.log(2)
- return loss -> return loss / math.log(10)

per_row: you return a loss for each row: return one for the whole batch
- (logps * mask).sum() / mask.sum() -> (logps * mask).sum(-1) / mask.sum(-1)

per_token: you return a loss for each token: return their mean
- (logps * mask).sum() / mask.sum() -> logps * mask
""")
