"""Wrong answers to `process_f1`, as people write them."""

import torch


def share_of_hits(found, truth):
    return (found == truth).float().mean()


def plain_average(found, truth):
    hit = (found == truth).float()
    return (hit[truth >= 0].mean() + hit[truth < 0].mean()) / 2


def root_of_the_product(found, truth):
    hit = (found == truth).float()
    return torch.sqrt(hit[truth >= 0].mean() * hit[truth < 0].mean())


def half(found, truth):
    hit = (found == truth).float()
    a, b = hit[truth >= 0].mean(), hit[truth < 0].mean()
    return a * b / (a + b) if a + b > 0 else torch.tensor(0.0)


def some_mistake_seen(found, truth):
    precision = (truth[found >= 0] >= 0).float().mean()
    recall = (found[truth >= 0] >= 0).float().mean()
    return 2 * precision * recall / (precision + recall)


def wherever_it_is(found, truth):
    a = (found[truth >= 0] >= 0).float().mean()
    b = (found[truth < 0] < 0).float().mean()
    return 2 * a * b / (a + b) if a + b > 0 else torch.tensor(0.0)


def one_step_beside(found, truth):
    near = (found >= 0) & ((found - truth).abs() < 2)
    a, b = near[truth >= 0].float().mean(), (found[truth < 0] < 0).float().mean()
    return 2 * a * b / (a + b) if a + b > 0 else torch.tensor(0.0)


def grouped_by_prediction(found, truth):
    hit = (found == truth).float()
    a, b = hit[found >= 0].mean(), hit[found < 0].mean()
    return 2 * a * b / (a + b) if a + b > 0 else torch.tensor(0.0)


def wrong_ones(found, truth):
    return (found == truth)[truth >= 0].float().mean()


def right_ones(found, truth):
    return (found == truth)[truth < 0].float().mean()


def nought_over_nought(found, truth):
    hit = (found == truth).float()
    a, b = hit[truth >= 0].mean(), hit[truth < 0].mean()
    return 2 * a * b / (a + b)


MUTANTS = {
    "share_of_hits": "accuracy",
    "plain_average": "arithmetic_mean",
    "root_of_the_product": "geometric_mean",
    "half": "no_two",
    "some_mistake_seen": "detection",
    "wherever_it_is": "place_ignored",
    "one_step_beside": "near_miss",
    "grouped_by_prediction": "by_prediction",
    "wrong_ones": "wrong_only",
    "right_ones": "right_only",
    "nought_over_nought": "nothing_found",
}
