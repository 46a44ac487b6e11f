"""Wrong answers to `step_labels`, as people write them."""

import torch


def at_the_beginning(steps, right):
    before = torch.cat([torch.full_like(steps[:, :1], -1), steps[:, :-1]], dim=1)
    labels = right.gather(1, steps.clamp(min=0))
    return torch.where((steps >= 0) & (before != steps), labels, -100)


def on_every_token(steps, right):
    labels = right.gather(1, steps.clamp(min=0))
    return torch.where(steps >= 0, labels, -100)


def rolled(steps, right):
    behind = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
    labels = right.gather(1, steps.clamp(min=0))
    labels = torch.where((steps >= 0) & (behind != steps), labels, -100)
    return torch.cat([torch.full_like(labels[:, :1], -100), labels[:, :-1]], dim=1)


def rolled_back(steps, right):
    behind = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
    labels = right.gather(1, steps.clamp(min=0))
    labels = torch.where((steps >= 0) & (behind != steps), labels, -100)
    return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], dim=1)


def leaks_over_padding(steps, right):
    labels = torch.full_like(steps, -100)
    for row, (numbers, values) in enumerate(zip(steps.tolist(), right.tolist(), strict=True)):
        last = max(numbers)
        for step in range(last + 1):
            at = [i for i, number in enumerate(numbers) if number == step]
            labels[row, at[-1] if step < last else len(numbers) - 1] = values[step]
    return labels


def the_prompt_too(steps, right):
    behind = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
    labels = right.gather(1, steps.clamp(min=0))
    return torch.where(behind != steps, labels, -100)


def zeros(steps, right):
    behind = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
    labels = right.gather(1, steps.clamp(min=0))
    return torch.where((steps >= 0) & (behind != steps), labels, 0)


def minus_ones(steps, right):
    behind = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
    labels = right.gather(1, steps.clamp(min=0))
    return torch.where((steps >= 0) & (behind != steps), labels, -1)


def outcome_only(steps, right):
    behind = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
    labels = right.gather(1, steps.clamp(min=0))
    return torch.where((steps >= 0) & (behind == -1), labels, -100)


def never_at_the_end_of_a_row(steps, right):
    labels = torch.full_like(steps, -100)
    ends = (steps[:, :-1] >= 0) & (steps[:, :-1] != steps[:, 1:])
    for row, at in ends.nonzero().tolist():
        labels[row, at] = right[row, steps[row, at]]
    return labels


def until_the_first_wrong_one(steps, right):
    behind = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
    kept = torch.cat([torch.ones_like(right[:, :1]), right[:, :-1]], dim=1).cumprod(dim=1)
    labels = torch.where(kept > 0, right, -100).gather(1, steps.clamp(min=0))
    return torch.where((steps >= 0) & (behind != steps), labels, -100)


def rolled_round(steps, right):
    labels = right.gather(1, steps.clamp(min=0))
    return torch.where((steps >= 0) & (steps.roll(-1, 1) != steps), labels, -100)


def as_floats(steps, right):
    behind = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
    labels = right.gather(1, steps.clamp(min=0)).float()
    return torch.where((steps >= 0) & (behind != steps), labels, -100.0)


MUTANTS = {
    "at_the_beginning": "first_token",
    "on_every_token": "every_token",
    "rolled": "one_too_late",
    "rolled_back": "one_too_early",
    "leaks_over_padding": "into_the_padding",
    "the_prompt_too": "prompt_labelled",
    "zeros": "zeros_elsewhere",
    "minus_ones": "minus_one_elsewhere",
    "outcome_only": "last_step_only",
    "never_at_the_end_of_a_row": "end_of_row",
    "until_the_first_wrong_one": "stops_at_wrong",
    "rolled_round": "rolled_round",
    "as_floats": "wrong_dtype",
}
