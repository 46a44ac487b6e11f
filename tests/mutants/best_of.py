"""Wrong answers to `best_of`, as people write them."""

import math

import torch


def the_first_n(scores, right, n):
    return right.gather(1, scores[:, :n].argmax(dim=1, keepdim=True)).squeeze(1)


def of_all(scores, right, n):
    return right.gather(1, scores.argmax(dim=1, keepdim=True)).squeeze(1)


def drawn_with_replacement(scores, right, n):
    size = scores.shape[1]
    weights = [((size - r) / size) ** n - ((size - r - 1) / size) ** n for r in range(size)]
    order = scores.argsort(dim=1, descending=True)
    return right.gather(1, order) @ torch.tensor(weights, dtype=right.dtype)


def sorted_upwards(scores, right, n):
    size = scores.shape[1]
    weights = [math.comb(size - 1 - r, n - 1) / math.comb(size, n) for r in range(size)]
    return right.gather(1, scores.argsort(dim=1)) @ torch.tensor(weights, dtype=right.dtype)


def pass_at_n(scores, right, n):
    size = scores.shape[1]
    wrong = (size - right.sum(dim=1)).long().tolist()
    return torch.tensor([1 - math.comb(w, n) / math.comb(size, n) for w in wrong])


def plain_mean(scores, right, n):
    return right.mean(dim=1)


def mean_of_the_best_n(scores, right, n):
    return right.gather(1, scores.topk(n, dim=1).indices).mean(dim=1)


def ranks_from_one(scores, right, n):
    size = scores.shape[1]
    weights = [
        math.comb(max(size - 1 - r, 0), n - 1) / math.comb(size, n) for r in range(1, size + 1)
    ]
    order = scores.argsort(dim=1, descending=True)
    return right.gather(1, order) @ torch.tensor(weights, dtype=right.dtype)


def n_others(scores, right, n):
    size = scores.shape[1]
    weights = [math.comb(size - 1 - r, n) / math.comb(size, n) for r in range(size)]
    order = scores.argsort(dim=1, descending=True)
    return right.gather(1, order) @ torch.tensor(weights, dtype=right.dtype)


def counts_only(scores, right, n):
    size = scores.shape[1]
    weights = [float(math.comb(size - 1 - r, n - 1)) for r in range(size)]
    order = scores.argsort(dim=1, descending=True)
    return right.gather(1, order) @ torch.tensor(weights, dtype=right.dtype)


def without_sorting(scores, right, n):
    size = scores.shape[1]
    weights = [math.comb(size - 1 - r, n - 1) / math.comb(size, n) for r in range(size)]
    return right @ torch.tensor(weights, dtype=right.dtype)


def clamped(scores, right, n):
    n, size = max(2, min(n, 3)), scores.shape[1]
    weights = [math.comb(size - 1 - r, n - 1) / math.comb(size, n) for r in range(size)]
    order = scores.argsort(dim=1, descending=True)
    return right.gather(1, order) @ torch.tensor(weights, dtype=right.dtype)


def averaged_over_prompts(scores, right, n):
    size = scores.shape[1]
    weights = [math.comb(size - 1 - r, n - 1) / math.comb(size, n) for r in range(size)]
    order = scores.argsort(dim=1, descending=True)
    return (right.gather(1, order) @ torch.tensor(weights, dtype=right.dtype)).mean()


MUTANTS = {
    "the_first_n": "first_n",
    "of_all": "all_replies",
    "drawn_with_replacement": "with_replacement",
    "sorted_upwards": "worst_of_n",
    "pass_at_n": "oracle",
    "plain_mean": "mean_of_all",
    "mean_of_the_best_n": "mean_of_top",
    "ranks_from_one": "rank_off_by_one",
    "n_others": "n_not_less_one",
    "counts_only": "not_divided",
    "without_sorting": "unsorted",
    "clamped": "n_clamped",
    "averaged_over_prompts": "wrong_shape",
}
