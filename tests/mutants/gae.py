"""Wrong answers to `gae`, as people write them."""

import torch


def no_mask_on_the_next_value(rewards, values, mask, *, gamma, lam):
    T = rewards.shape[1]
    advantages = torch.zeros_like(rewards)
    last = torch.zeros(rewards.shape[0])
    for t in reversed(range(T)):
        next_value = values[:, t + 1] if t + 1 < T else 0.0
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        last = (delta + gamma * lam * last) * mask[:, t]
        advantages[:, t] = last
    return advantages


def no_mask_at_all(rewards, values, mask, *, gamma, lam):
    T = rewards.shape[1]
    advantages, last = [], 0
    for t in range(T - 1, -1, -1):
        next_value = values[:, t + 1] if t < T - 1 else 0
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        last = delta + gamma * lam * last
        advantages.insert(0, last)
    return torch.stack(advantages, dim=1)


def from_left_to_right(rewards, values, mask, *, gamma, lam):
    values = values * mask
    next_values = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], dim=1)
    deltas = rewards + gamma * next_values - values
    out, running = [], torch.zeros(len(values))
    for t in range(rewards.shape[1]):
        running = (deltas[:, t] + gamma * lam * running) * mask[:, t]
        out.append(running)
    return torch.stack(out, dim=1)


def forgets_to_reverse(rewards, values, mask, *, gamma, lam):
    values = values * mask
    next_values = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], dim=1)
    deltas = (rewards + gamma * next_values - values) * mask
    out, running = [], 0
    for t in reversed(range(rewards.shape[1])):
        running = deltas[:, t] + gamma * lam * running
        out.append(running)
    return torch.stack(out, dim=1)


def td_errors_only(rewards, values, mask, *, gamma, lam):
    values = values * mask
    next_values = torch.zeros_like(values)
    next_values[:, :-1] = values[:, 1:]
    return (rewards + gamma * next_values - values) * mask


def forgets_lambda(rewards, values, mask, *, gamma, lam):
    advantages = torch.zeros_like(rewards)
    last, next_value = torch.zeros(len(rewards)), torch.zeros(len(rewards))
    for t in reversed(range(rewards.size(1))):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        last = (delta + gamma * last) * mask[:, t]
        advantages[:, t] = last
        next_value = values[:, t] * mask[:, t]
    return advantages


def discounts_with_lambda_alone(rewards, values, mask, *, gamma, lam):
    advantages = torch.zeros_like(rewards)
    last, next_value = torch.zeros(len(rewards)), torch.zeros(len(rewards))
    for t in reversed(range(rewards.size(1))):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        last = (delta + lam * last) * mask[:, t]
        advantages[:, t] = last
        next_value = values[:, t] * mask[:, t]
    return advantages


def does_not_subtract_the_value(rewards, values, mask, *, gamma, lam):
    advantages = torch.zeros_like(rewards)
    last, next_value = torch.zeros(len(rewards)), torch.zeros(len(rewards))
    for t in reversed(range(rewards.size(1))):
        delta = rewards[:, t] + gamma * next_value
        last = (delta + gamma * lam * last) * mask[:, t]
        advantages[:, t] = last
        next_value = values[:, t] * mask[:, t]
    return advantages


def value_minus_reward(rewards, values, mask, *, gamma, lam):
    advantages = torch.zeros_like(rewards)
    last, next_value = torch.zeros(len(rewards)), torch.zeros(len(rewards))
    for t in reversed(range(rewards.size(1))):
        delta = values[:, t] - (rewards[:, t] + gamma * next_value)
        last = (delta + gamma * lam * last) * mask[:, t]
        advantages[:, t] = last
        next_value = values[:, t] * mask[:, t]
    return advantages


def hands_out_returns(rewards, values, mask, *, gamma, lam):
    advantages = torch.zeros_like(rewards)
    last, next_value = torch.zeros(len(rewards)), torch.zeros(len(rewards))
    for t in reversed(range(rewards.size(1))):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        last = (delta + gamma * lam * last) * mask[:, t]
        advantages[:, t] = last
        next_value = values[:, t] * mask[:, t]
    return (advantages + values) * mask


def bootstraps_past_the_end(rewards, values, mask, *, gamma, lam):
    next_values = torch.cat([values[:, 1:], values[:, -1:]], dim=1)
    deltas = rewards + gamma * next_values - values
    advantages = torch.zeros_like(rewards)
    last = torch.zeros(len(rewards))
    for t in reversed(range(rewards.size(1))):
        last = (deltas[:, t] + gamma * lam * last) * mask[:, t]
        advantages[:, t] = last
    return advantages


def rolls(rewards, values, mask, *, gamma, lam):
    next_values = torch.roll(values, -1, dims=1) * torch.roll(mask, -1, dims=1)
    deltas = rewards + gamma * next_values - values
    advantages = torch.zeros_like(rewards)
    last = torch.zeros(len(rewards))
    for t in reversed(range(rewards.size(1))):
        last = (deltas[:, t] + gamma * lam * last) * mask[:, t]
        advantages[:, t] = last
    return advantages


def one_past_the_end(rewards, values, mask, *, gamma, lam):
    advantages = torch.zeros_like(rewards)
    last = 0
    for t in reversed(range(rewards.size(1))):
        delta = rewards[:, t] + gamma * values[:, t + 1] - values[:, t]
        last = delta + gamma * lam * last
        advantages[:, t] = last
    return advantages * mask


def next_nonterminal_is_mask_t(rewards, values, mask, *, gamma, lam):
    T = rewards.shape[1]
    advantages, last = torch.zeros_like(rewards), 0
    for t in reversed(range(T)):
        next_value = values[:, t + 1] if t < T - 1 else torch.zeros_like(values[:, 0])
        delta = rewards[:, t] + gamma * next_value * mask[:, t] - values[:, t]
        last = delta + gamma * lam * mask[:, t] * last
        advantages[:, t] = last
    return advantages


def sums_with_the_wrong_power(rewards, values, mask, *, gamma, lam):
    values = values * mask
    advantages, T = torch.zeros_like(rewards), rewards.shape[1]
    for t in range(T):
        for k in range(t, T):
            next_value = values[:, k + 1] if k + 1 < T else 0
            delta = (rewards[:, k] + gamma * next_value - values[:, k]) * mask[:, k]
            advantages[:, t] += (gamma * lam) ** k * delta
    return advantages


def whitens_them(rewards, values, mask, *, gamma, lam):
    advantages = torch.zeros_like(rewards)
    last, next_value = torch.zeros(len(rewards)), torch.zeros(len(rewards))
    for t in reversed(range(rewards.size(1))):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        last = (delta + gamma * lam * last) * mask[:, t]
        advantages[:, t] = last
        next_value = values[:, t] * mask[:, t]
    real = advantages[mask.bool()]
    return (advantages - real.mean()) / (real.std() + 1e-8) * mask


def time_comes_first(rewards, values, mask, *, gamma, lam):
    collected = []
    last, next_value = torch.zeros(len(rewards)), torch.zeros(len(rewards))
    for t in reversed(range(rewards.size(1))):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        last = (delta + gamma * lam * last) * mask[:, t]
        collected.append(last)
        next_value = values[:, t] * mask[:, t]
    return torch.stack(collected[::-1])


MUTANTS = {
    "no_mask_on_the_next_value": "padding_leaks",
    "no_mask_at_all": "mask_ignored",
    "from_left_to_right": "forwards",
    "forgets_to_reverse": "reversed",
    "td_errors_only": "one_step",
    "forgets_lambda": "lam_forgotten",
    "discounts_with_lambda_alone": "gamma_forgotten_in_trace",
    "does_not_subtract_the_value": "value_not_subtracted",
    "value_minus_reward": "sign",
    "hands_out_returns": "returns",
    "bootstraps_past_the_end": "no_end",
    "rolls": "wraps_around",
    "one_past_the_end": "raises_IndexError",
    "next_nonterminal_is_mask_t": "mask_one_early",
    "sums_with_the_wrong_power": "weights_from_the_start",
    "whitens_them": "rescaled",
    "time_comes_first": "wrong_shape",
}
