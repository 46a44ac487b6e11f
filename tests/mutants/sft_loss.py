"""Wrong answers to `sft_loss`, as people write them."""

import torch
import torch.nn.functional as F


def mean_of_the_rows(logits, labels, mask):
    logps = F.log_softmax(logits, dim=-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    per_row = -(logps * mask).sum(dim=1) / mask.sum(dim=1)
    return per_row.mean()


def plain_mean(logits, labels, mask):
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (losses * mask).mean()


def does_not_use_the_mask(logits, labels, mask):
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), labels.reshape(-1))


def no_minus(logits, labels, mask):
    logps = torch.log_softmax(logits, -1)
    picked = logps.gather(2, labels[..., None])[..., 0]
    return (picked * mask).sum() / mask.sum()


def only_a_sum(logits, labels, mask):
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (losses * mask).sum()


def divides_by_the_batch(logits, labels, mask):
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (losses * mask).sum() / logits.shape[0]


def indexes_with_whole_numbers(logits, labels, mask):
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return losses[mask].mean()


def labels_times_mask(logits, labels, mask):
    labels = labels * mask
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def zero_is_ignored(logits, labels, mask):
    targets = labels * mask
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0)


def masks_the_logits(logits, labels, mask):
    logits = logits * mask[:, :, None]
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def trains_the_prompt(logits, labels, mask):
    targets = labels.masked_fill(mask.bool(), -100)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def shifts_once_more(logits, labels, mask):
    logits, labels, mask = logits[:, :-1], labels[:, 1:], mask[:, 1:]
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (losses * mask).sum() / mask.sum()


def returns_a_number(logits, labels, mask):
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return ((losses * mask).sum() / mask.sum()).item()


def writes_into_the_labels(logits, labels, mask):
    labels[mask == 0] = -100
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def one_loss_a_row(logits, labels, mask):
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    return (losses * mask).sum(-1) / mask.sum(-1)


def cross_entropy_without_flattening(logits, labels, mask):
    losses = F.cross_entropy(logits, labels, reduction="none")
    return (losses * mask).sum() / mask.sum()


MUTANTS = {
    "mean_of_the_rows": "mean_of_row_means",
    "plain_mean": "mean_over_padding",
    "does_not_use_the_mask": "mask_ignored",
    "no_minus": "sign",
    "only_a_sum": "sum",
    "divides_by_the_batch": "per_sequence",
    "indexes_with_whole_numbers": "mask_as_index",
    "labels_times_mask": "masked_labels_trained",
    "zero_is_ignored": "token_0_ignored",
    "masks_the_logits": "mask_on_logits",
    "trains_the_prompt": "inverted_mask",
    "shifts_once_more": "shifted",
    "returns_a_number": "wrong_type",
    "writes_into_the_labels": "edits_inputs",
    "one_loss_a_row": "per_row",
    "cross_entropy_without_flattening": "raises_RuntimeError",
}
