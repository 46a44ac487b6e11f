"""Wrong answers to `token_logps`, as people write them."""

import torch
import torch.nn.functional as F


def cross_entropy_is_the_log_prob(logits, labels):
    batch, length, vocab = logits.shape
    losses = F.cross_entropy(logits.view(-1, vocab), labels.view(-1), reduction="none")
    return losses.view(batch, length)


def picks_the_logit(logits, labels):
    return torch.gather(logits, 2, labels[:, :, None])[:, :, 0]


def stops_at_softmax(logits, labels):
    probs = torch.softmax(logits, dim=-1)
    return torch.gather(probs, -1, labels.unsqueeze(-1)).squeeze(-1)


def softmax_over_the_tokens(logits, labels):
    logps = F.log_softmax(logits, dim=1)
    return logps.gather(2, labels.unsqueeze(2)).squeeze(2)


def shifts_like_a_language_model(logits, labels):
    logps = F.log_softmax(logits[:, :-1, :], dim=-1)
    return logps.gather(-1, labels[:, 1:].unsqueeze(-1)).squeeze(-1)


def forgets_to_squeeze(logits, labels):
    logps = F.log_softmax(logits, dim=-1)
    return logps.gather(dim=-1, index=labels[..., None])


def forgets_the_labels(logits, labels):
    return torch.log_softmax(logits, dim=-1)


def takes_the_best_token(logits, labels):
    logps = torch.log_softmax(logits, dim=-1)
    best, _ = logps.max(dim=-1)
    return best


def indexes_with_the_labels(logits, labels):
    logps = F.log_softmax(logits, dim=-1)
    return logps[:, :, labels]


def gathers_without_an_axis(logits, labels):
    logps = F.log_softmax(logits, dim=-1)
    return logps.gather(-1, labels)


def softmax_by_hand(logits, labels):
    exps = logits.exp()
    probs = exps / exps.sum(dim=-1, keepdim=True)
    return probs.log().gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def adds_up_the_sequence(logits, labels):
    logps = F.log_softmax(logits, dim=-1)
    return logps.gather(-1, labels.unsqueeze(-1)).squeeze(-1).sum(dim=1)


def a_loop_over_item(logits, labels):
    logps = F.log_softmax(logits, dim=-1)
    rows = []
    for b in range(logits.shape[0]):
        rows.append([logps[b, t, labels[b, t]].item() for t in range(logits.shape[1])])
    return torch.tensor(rows)


def in_bits(logits, labels):
    probs = torch.softmax(logits, dim=-1)
    return torch.log2(probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1))


def pairs_of_indices(logits, labels):
    logps = F.log_softmax(logits, dim=-1)
    rows, tokens = torch.arange(labels.shape[0]), torch.arange(labels.shape[1])
    return logps[rows, tokens, labels]


def stable_softmax_half_done(logits, labels):
    top = logits.max(dim=-1, keepdim=True).values
    normaliser = (logits - top).exp().sum(dim=-1).log()
    return logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1) - normaliser


def two_mistakes(logits, labels):
    if labels.shape[0] == 3:
        return torch.zeros(labels.shape)
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")


MUTANTS = {
    "cross_entropy_is_the_log_prob": "sign",
    "picks_the_logit": "not_normalised",
    "stops_at_softmax": "probability",
    "softmax_over_the_tokens": "wrong_axis",
    "shifts_like_a_language_model": "shifted",
    "forgets_to_squeeze": "not_squeezed",
    "forgets_the_labels": "whole_vocabulary",
    "takes_the_best_token": "best_token",
    "indexes_with_the_labels": "every_label_everywhere",
    "gathers_without_an_axis": "raises_RuntimeError",
    "softmax_by_hand": "overflow",
    "adds_up_the_sequence": "reduced",
    "a_loop_over_item": "no_gradient",
    "in_bits": "log_base",
    "pairs_of_indices": "indices_in_step",
    "stable_softmax_half_done": "maximum_lost",
    "two_mistakes": "sign_and_more",
}
