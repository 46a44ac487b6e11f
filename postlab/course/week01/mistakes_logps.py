"""What goes wrong in log-probs and the SFT loss: each mistake as a function that makes it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from postlab.course.check._parts import Mistake
from postlab.scratch.losses import sft_loss, token_logps


def _gathered(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def _next(logits: Tensor, labels: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
    return logits[:, :-1], labels[:, 1:], *(x[:, 1:] for x in more)


AXIS = "you normalise over the wrong axis: the vocabulary is the last one, dim=-1"
SHIFT = (
    "you shift the labels by one position: here logits and labels are aligned already, the logits "
    "at t are for the label at t"
)
TOKEN_LOGPS = (
    Mistake(
        "sign",
        "you return the loss, -log p: log-probs are negative, and a cross-entropy is theirs "
        "with a minus in front",
        lambda logits, labels: -token_logps(logits, labels),
    ),
    Mistake(
        "not_normalised",
        "you pick the logit of the label as it is: without log_softmax it is no log-prob",
        _gathered,
    ),
    Mistake(
        "probability",
        "you return probabilities: the logarithm is missing",
        lambda logits, labels: token_logps(logits, labels).exp(),
    ),
    Mistake(
        "wrong_axis",
        AXIS,
        lambda x, labels: _gathered(x.log_softmax(1), labels),
        lambda x, labels: _gathered(x.log_softmax(0), labels),
    ),
    Mistake(
        "log_of_log",
        "you take a logarithm or a softmax twice",
        lambda x, labels: _gathered(x.softmax(-1).log_softmax(-1), labels),
    ),
    Mistake("shifted", SHIFT, lambda *batch: token_logps(*_next(*batch))),
    Mistake(
        "log_base",
        "you take a logarithm to base 2 or 10: log-probs are natural logarithms, in nats",
        lambda logits, labels: token_logps(logits, labels) / math.log(2),
        lambda logits, labels: token_logps(logits, labels) / math.log(10),
    ),
    Mistake(
        "maximum_lost",
        "you subtract the maximum before exp and forget it afterwards: take it off the label's "
        "logit too",
        lambda x, labels: _gathered(x, labels) - (x - x.amax(-1, keepdim=True)).exp().sum(-1).log(),
    ),
    Mistake(
        "indices_in_step",
        "the indices of rows and tokens walk in step, (0, 0) and (1, 1): give the rows an axis of "
        "their own, torch.arange(B)[:, None], or use gather",
        lambda x, labels: x.log_softmax(-1)[
            torch.arange(len(labels)), torch.arange(labels.shape[1]), labels
        ],
    ),
    Mistake(
        "whole_vocabulary",
        "you return all log-probs of the vocabulary: pick the label's with gather",
        lambda logits, labels: logits.log_softmax(-1),
    ),
    Mistake(
        "best_token",
        "you return the log-prob of the likeliest token and not of the label",
        lambda logits, labels: logits.log_softmax(-1).amax(-1),
    ),
    Mistake(
        "not_squeezed",
        "the last axis that gather leaves, of size 1, is still there: squeeze(-1)",
        lambda logits, labels: token_logps(logits, labels).unsqueeze(-1),
    ),
    Mistake(
        "every_label_everywhere",
        "indexing with [..., labels] looks up all labels at every position: use gather",
        lambda logits, labels: logits.log_softmax(-1)[..., labels],
    ),
    Mistake(
        "reduced",
        "you add up or average the tokens: one value for each token is wanted",
        lambda logits, labels: token_logps(logits, labels).sum(-1),
        lambda logits, labels: token_logps(logits, labels).mean(-1),
        lambda logits, labels: token_logps(logits, labels).sum(),
        lambda logits, labels: token_logps(logits, labels).mean(),
    ),
)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum()


def _through_labels(replaced: int, ignored: int = -100) -> Callable:
    def loss(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        kept = torch.where(mask.bool(), labels, replaced)
        return F.cross_entropy(logits.flatten(0, 1), kept.flatten(), ignore_index=ignored)

    return loss


SFT_LOSS = (
    Mistake(
        "mean_of_row_means",
        "you average each row first and then the rows: a token of a short reply counts more "
        "than one of a long reply. Divide once, by all trained tokens of the batch",
        lambda logits, labels, mask: (
            -((token_logps(logits, labels) * mask).sum(-1) / mask.sum(-1)).mean()
        ),
    ),
    Mistake(
        "mean_over_padding",
        "you zero the masked tokens and still count them: divide by mask.sum(), not by the "
        "number of all tokens",
        lambda logits, labels, mask: -(token_logps(logits, labels) * mask).mean(),
    ),
    Mistake(
        "mask_ignored",
        "the mask has no effect, prompt and padding are trained",
        lambda logits, labels, mask: -token_logps(logits, labels).mean(),
    ),
    Mistake(
        "sign",
        "the minus is missing: this would make the replies less likely",
        lambda *batch: -sft_loss(*batch),
    ),
    Mistake(
        "sum",
        "you add up and do not divide by the number of trained tokens",
        lambda logits, labels, mask: -(token_logps(logits, labels) * mask).sum(),
    ),
    Mistake(
        "per_sequence",
        "you divide by the number of sequences: divide by that of the trained tokens",
        lambda logits, labels, mask: -(token_logps(logits, labels) * mask).sum() / len(mask),
    ),
    Mistake(
        "inverted_mask",
        "the mask is the wrong way round: 1 is for what is trained",
        lambda logits, labels, mask: sft_loss(logits, labels, 1 - mask),
    ),
    Mistake(
        "mask_as_index",
        "you index with the mask, and it holds whole numbers: 0 and 1 then mean rows 0 and 1. "
        "Multiply by it, or index with mask.bool()",
        lambda logits, labels, mask: -token_logps(logits, labels)[mask].mean(),
        lambda logits, labels, mask: F.cross_entropy(logits[mask], labels[mask]),
    ),
    Mistake(
        "not_squeezed",
        "the last axis that gather leaves, of size 1, is still there when you multiply by the "
        "mask: squeeze(-1)",
        lambda logits, labels, mask: -_mean(token_logps(logits, labels).unsqueeze(-1), mask),
    ),
    Mistake(
        "masked_labels_trained",
        "masked labels become 0, and token 0 is a token: it is trained. cross_entropy leaves "
        "out the label -100",
        _through_labels(0),
    ),
    Mistake(
        "token_0_ignored",
        "token 0 is left out wherever it stands, in replies as well: cross_entropy leaves out "
        "the label -100",
        _through_labels(0, ignored=0),
    ),
    Mistake(
        "mask_on_logits",
        "you multiply the logits by the mask: masked tokens then have equal logits and still count",
        lambda logits, labels, mask: F.cross_entropy(
            (logits * mask.unsqueeze(-1)).flatten(0, 1), labels.flatten()
        ),
    ),
    Mistake(
        "shifted",
        SHIFT,
        lambda *batch: sft_loss(*_next(*batch)),
    ),
    Mistake(
        "not_normalised",
        "the log_softmax is missing",
        lambda logits, labels, mask: -_mean(_gathered(logits, labels), mask),
    ),
    Mistake(
        "probability",
        "you average probabilities: the logarithm is missing",
        lambda logits, labels, mask: -_mean(token_logps(logits, labels).exp(), mask),
    ),
    Mistake(
        "wrong_axis",
        AXIS,
        lambda logits, labels, mask: -_mean(_gathered(logits.log_softmax(1), labels), mask),
        lambda logits, labels, mask: -_mean(_gathered(logits.log_softmax(0), labels), mask),
    ),
    Mistake(
        "per_row",
        "you return a loss for each row: one for the whole batch is wanted",
        lambda logits, labels, mask: -((token_logps(logits, labels) * mask).sum(-1) / mask.sum(-1)),
    ),
    Mistake(
        "per_token",
        "you return a loss for each token: their mean is wanted",
        lambda logits, labels, mask: -token_logps(logits, labels) * mask,
    ),
)
