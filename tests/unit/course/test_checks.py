"""Checks: wrong answers get their own diagnosis, right ones pass, and none of them hurts."""

from __future__ import annotations

import inspect
import itertools
import math
import random
import re
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from exercise_tools import NAMES, exercise
from torch import Tensor

from postlab import check
from postlab.course.check import WEEKS, _calls
from postlab.course.check._answers import WrongAnswer
from postlab.course.check._diagnosis import alike
from postlab.course.check._exercise import door, examine
from postlab.course.check._words import same

BT = exercise("bradley_terry_loss")


def code(function: object, of: str = "bradley_terry_loss") -> str:
    return examine(exercise(of), function).code


# --- wrong answers ---

ALL_WRONG = [
    pytest.param(name, answer, id=f"{name}-{answer.mistakes[0].code}-{i}")
    for name in NAMES
    for i, answer in enumerate(exercise(name).wrong_answers)
]


@pytest.mark.parametrize(("name", "answer"), ALL_WRONG)
def test_every_wrong_answer_gets_its_own_diagnosis(name, answer):
    outcome = examine(exercise(name), exercise(name).function(answer))
    assert (outcome.status, outcome.code) == ("wrong", answer.mistakes[0].code), outcome.message
    assert outcome.message and all(c.isprintable() or c == "\n" for c in outcome.message)
    assert len(outcome.message) < 900


@pytest.mark.parametrize("name", NAMES)
def test_each_mistake_gives_numbers_of_its_own_on_the_cases_worked_by_hand(name):
    """So that the case which a message shows tells its mistake from the right answer and others."""
    cases, codes, results = exercise(name).cases, [], []
    for answer in exercise(name).wrong_answers:
        codes.append(answer.mistakes[0].code)
        function = exercise(name).function(answer)
        results.append([exercise(name).call(function, case.inputs) for case in cases])

    def same_results(one, two):
        return all(alike(a, b, by_text=True) for a, b in zip(one, two, strict=True))

    wants = [exercise(name).call(exercise(name).reference, case.inputs) for case in cases]
    assert not [code for code, one in zip(codes, results, strict=True) if same_results(one, wants)]
    pairs = itertools.combinations(zip(codes, results, strict=True), 2)
    assert not [(a, b) for (a, one), (b, two) in pairs if a != b and same_results(one, two)]


@pytest.mark.parametrize("name", NAMES)
def test_there_are_at_least_six_mistakes_and_each_edge_has_an_answer_that_fails_there_only(name):
    known = exercise(name)
    codes = [mistake.code for mistake in known.mistakes]
    assert len(codes) == len(set(codes)) >= 6
    for edge in known.edges:
        for answer in known.answers_at(edge):
            assert examine(known, known.function(answer)).code == edge.code


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_which_the_mistakes_edit_is_right(name):
    known = exercise(name)
    outcome = examine(known, known.function(WrongAnswer((), known.right_answer)))
    assert outcome.status == "right", outcome.message


# --- right answers: each written in another way than the reference ---


def cross_entropy_logps(logits, labels):
    flat = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return -flat.view_as(labels)


def logsumexp_logps(x, y):
    return torch.stack(
        [
            row[torch.arange(len(ids)), ids] - row.logsumexp(-1)
            for row, ids in zip(x, y, strict=True)
        ]
    )


def mask_by_text(input_ids, *, header, end_of_turn):
    """The ids as words, searched as a string."""
    mask, t = [0] * len(input_ids), 0
    while t + len(header) <= len(input_ids):
        if " ".join(map(str, input_ids[t : t + len(header)])) != " ".join(map(str, header)):
            t += 1
            continue
        t += len(header)
        while t < len(input_ids):
            mask[t] = 1
            t += 1
            if input_ids[t - 1] == end_of_turn:
                break
    return mask


def mask_of_slices(ids, *, header, end_of_turn):
    mask = torch.zeros(len(ids), dtype=torch.int64)
    for start in range(len(header), len(ids) + 1):
        if ids[start - len(header) : start] == header:
            ends = [i for i in range(start, len(ids)) if ids[i] == end_of_turn]
            mask[start : ends[0] + 1 if ends else len(ids)] = 1
    return mask.tolist()


def train_with_labels(model, batches, *, optimizer, scheduler):
    """The loss as transformers computes it; gradients cleared first, clipped by hand."""
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        labels = batch["input_ids"].masked_fill(batch["loss_mask"] == 0, -100)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        gradients = [p.grad for p in model.parameters()]
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        for g in gradients:
            g.mul_(torch.clamp(1.0 / (norm + 1e-6), max=1.0))
        optimizer.step()
        losses.append(loss.detach())
        scheduler.step()
    return losses


def train_by_model(model, batches, optimizer, scheduler):
    def one_step(ids, attention, mask):
        picked = mask[:, 1:].bool()
        logits = model(ids, attention).logits[:, :-1]
        loss = F.cross_entropy(logits[picked], ids[:, 1:][picked])
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters()], max_norm=1)
        optimizer.step(), scheduler.step()
        return float(loss)

    names = "input_ids", "attention_mask", "loss_mask"
    return [one_step(*(batch[name] for name in names)) for batch in batches]


def ignore_index_sft(logits, labels, mask):
    return F.cross_entropy(logits.transpose(1, 2), labels.masked_fill(mask == 0, -100))


def boolean_sft(logits, labels, mask):
    picked = mask.bool()
    return F.nll_loss(F.log_softmax(logits[picked], dim=-1), labels[picked])


def merged_lora(x, weight, a, b, *, alpha, r):
    return F.linear(x, weight + alpha / r * b @ a)


def einsum_lora(x, weight, a, b, *, alpha, r):
    update = torch.einsum("...i,ri,or->...o", x, a, b)
    return torch.einsum("...i,oi->...o", x, weight) + update.mul(alpha).div(r)


def loop_codes(w, codebook):
    codes, constants = [], []
    for block in w:
        constants.append(max(abs(v) for v in block.tolist()))
        scaled = [v / constants[-1] if constants[-1] else 0.0 for v in block.tolist()]
        distances = [[abs(v - c) for c in codebook.tolist()] for v in scaled]
        codes.append([row.index(min(row)) for row in distances])
    return torch.tensor(codes, dtype=torch.uint8), torch.tensor(constants)


def argmin_codes(w, codebook):
    absmax = torch.linalg.vector_norm(w, ord=float("inf"), dim=1)
    scaled = torch.nan_to_num(w / absmax[:, None])
    return (scaled[..., None] - codebook).square().argmin(-1).byte(), absmax


def gib_by_blocks(parameters, *, bits, block=64, constant_bits=32):
    number_of_bits = parameters * bits
    if bits < 16:
        number_of_bits += parameters // block * constant_bits
    return number_of_bits / (8 * 1024**3)


def jaccard_by_text(first, second, *, n):
    """Runs as strings in dicts, the union by counting."""
    one, two = (
        dict.fromkeys(" ".join(text[i:][:n]) for i in range(len(text)) if len(text[i:]) >= n)
        for text in (first, second)
    )
    shared = sum(run in two for run in one)
    return shared / max(1, len(one) + len(two) - shared)


def zipped_jaccard(a, b, *, n):
    a, b = (set(zip(*(text[i:] for i in range(n)), strict=False)) for text in (a, b))
    try:
        return len(a & b) / len(a.union(b))
    except ZeroDivisionError:
        return 0


def padded_by_torch(sequences, starts, *, pad):
    fill = torch.nn.utils.rnn.pad_sequence
    labels = [[-100] * s + ids[s:] for ids, s in zip(sequences, starts, strict=True)]
    padded = [fill([torch.tensor(r) for r in rows], batch_first=True, padding_value=value)
              for rows, value in ((sequences, pad), (labels, -100))]  # fmt: skip
    return tuple(padded)


def masked_batch(sequences, starts, *, pad):
    width = max(len(ids) for ids in sequences)
    batch = torch.tensor([list(ids) + [pad] * (width - len(ids)) for ids in sequences])
    lengths = torch.tensor([len(ids) for ids in sequences]).unsqueeze(1)
    place = torch.arange(width)
    ignored = (place < torch.tensor(starts).unsqueeze(1)) | (place >= lengths)
    return [batch, batch.masked_fill(ignored, -100)]


def softplus_bt(chosen_rewards, rejected_rewards):
    return F.softplus(rejected_rewards - chosen_rewards)


def cross_entropy_bt(chosen, rejected):
    both = torch.stack([chosen, rejected], dim=1)
    return F.cross_entropy(both, torch.zeros(len(chosen), dtype=torch.long), reduction="none")


def gae_by_definition(rewards, values, mask, *, gamma, lam):
    """A sum over all later surprises, one completion at a time, in plain Python."""
    out = torch.zeros_like(rewards)
    for b, n in enumerate(mask.sum(dim=1).tolist()):
        r, v = rewards[b, :n].tolist(), [*values[b, :n].tolist(), 0.0]
        surprises = [r[t] + gamma * v[t + 1] - v[t] for t in range(n)]
        for t in range(n):
            later = enumerate(surprises[t:])
            out[b, t] = sum((gamma * lam) ** k * s for k, s in later)
    return out


@torch.no_grad()
def gae_as_a_matrix(rewards, values, mask, *, gamma, lam):
    mask = mask.float()
    steps = torch.arange(rewards.shape[1])
    ahead = (steps[None, :] - steps[:, None]).clamp(min=0)
    weights = torch.triu((gamma * lam) ** ahead)
    following = F.pad((values * mask)[:, 1:], (0, 1))
    return ((rewards + gamma * following - values) * mask) @ weights.T * mask


def relu_clip(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    """By cases on the sign, as in the figure of the PPO paper."""
    ratio = torch.exp(logps - old_logps)
    up = torch.where(ratio > 1 + clip_high, 1 + clip_high, ratio)
    down = torch.where(ratio < 1 - clip_low, 1 - clip_low, ratio)
    used = torch.where(advantages > 0, up, down)
    return -used * advantages, used != ratio


def clip_with_max(new, old, adv, *, clip_low=0.2, clip_high=0.2):
    ratio = (new - old.detach()).exp()
    one, two = -adv * ratio, -adv * torch.clip(ratio, 1 - clip_low, 1 + clip_high)
    return [torch.max(one, two), two > one]


def softplus_dpo(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    return F.softplus(-beta * (policy_chosen - policy_rejected - ref_chosen + ref_rejected))


def dpo_through_bt(*, beta=0.1, **logps):
    with torch.no_grad():
        ref = {name: logps[name].clone() for name in ("ref_chosen", "ref_rejected")}
    chosen = beta * (logps["policy_chosen"] - ref["ref_chosen"])
    return cross_entropy_bt(chosen, beta * (logps["policy_rejected"] - ref["ref_rejected"]))


def margins_row_by_row(policy, ref, mask, *, beta):
    half, ratio = len(mask) // 2, torch.where(mask.bool(), policy - ref, 0.0)
    return torch.stack([beta * (ratio[i].sum() - ratio[i + half].sum()) for i in range(half)])


def margins_einsum(policy, ref, mask, *, beta):
    sums = torch.einsum("bt,bt->b", policy - ref, mask.to(policy.dtype)).view(2, -1)
    return beta * sums[0] - beta * sums[1]


def lstsq_line(margins, extra):
    design = torch.stack([extra.float(), torch.ones(len(extra))], dim=1)
    slope, intercept = torch.linalg.lstsq(design, margins[:, None]).solution[:, 0]
    return slope, intercept


def covariance_line(margins, extra):
    both = torch.cov(torch.stack([margins, extra.float()]))
    slope = both[0, 1] / both[1, 1]
    return [slope, (margins - slope * extra).mean()]


def binomial_p(gained, lost):
    if gained + lost == 0:
        return 1
    return scipy.stats.binomtest(gained, gained + lost).pvalue


def p_by_enumeration(gained, lost):
    """By recursion over the coins: how many falls are at least as uneven."""
    falls = [1]
    for _ in range(gained + lost):
        falls = [a + b for a, b in zip([0, *falls], [*falls, 0], strict=True)]
    n, uneven = gained + lost, abs(gained - lost)
    return sum(c for k, c in enumerate(falls) if abs(2 * k - n) >= uneven) / 2**n


def win_rate_of_all_votes(a_first, b_first):
    return float(np.mean([*a_first, *(1 - np.asarray(b_first))]))


def holm_in_words(p):
    """Down from the smallest: no p is adjusted to less than the one before it."""
    adjusted, highest = torch.zeros(len(p)), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i].item()))
        adjusted[i] = highest
    return adjusted


def holm_by_comparison(p):
    """Over all p no larger than this one, the largest of p times the number no smaller."""
    stepped = p * (p[None, :] >= p[:, None]).sum(dim=1)
    return torch.where(p[None, :] <= p[:, None], stepped[None, :], 0).amax(1).clamp(max=1)


def reinforce_answer_by_answer(logps, rewards, mask):
    kept = [row[m.bool()].sum() for row, m in zip(logps, mask, strict=True)]
    return sum((rewards.mean() - r) * k for r, k in zip(rewards, kept, strict=True)) / len(kept)


def reinforce_as_covariance(logps, rewards, mask):
    answers = torch.einsum("bt,bt->b", logps, mask.to(logps.dtype))
    return -(rewards * answers).mean() + rewards.mean() * answers.mean()


def advantages_group_by_group(rewards, group_size):
    return torch.cat([(g - g.mean()) / (g.std() + 1e-4) for g in rewards.split(group_size)])


def advantages_by_repetition(rewards, size):
    """As TRL has them: the group's numbers repeated for each of its answers."""
    groups = rewards.view(-1, size)
    mean, std = (x.repeat_interleave(size) for x in (groups.mean(1), groups.std(1)))
    return (rewards - mean) / (std + 1e-4)


def step_group_by_group(policy, prompts, golds, *, draw, score, optimizer, group_size):
    """Drawn at once; then one group after the other, their gradients added up, clipped by hand."""
    optimizer.zero_grad()
    every, right = ([x for x in xs for _ in range(group_size)] for xs in (prompts, golds))
    drawn = draw(policy, every)
    rewards = torch.tensor(score(drawn, right))
    for start in range(0, len(every), group_size):
        index = torch.arange(start, start + group_size)
        batch, group = drawn.rows(index), rewards[index]
        advantages = (group - group.mean()) / (group.std() + 1e-4)
        logits = policy(input_ids=batch.ids).logits[:, -batch.mask.shape[1] - 1 : -1]
        logps = logits.log_softmax(-1).gather(-1, batch.completions[..., None])[..., 0]
        means = (logps * batch.mask).sum(1) / batch.mask.sum(1)
        (-(means * advantages).mean() / len(prompts)).backward()
    norm = torch.cat([p.grad.flatten() for p in policy.parameters()]).norm()
    for p in policy.parameters():
        p.grad /= max(1.0, float(norm))
    optimizer.step()
    return [rewards, norm]


def step_as_in_trl(policy, prompts, golds, draw, score, optimizer, group_size):
    """The mean and the deviation repeated, and the ratio with its clip written out."""
    repeated = [i for i in range(len(prompts)) for _ in range(group_size)]
    batch = draw(policy, [prompts[i] for i in repeated])
    rewards = torch.tensor(score(batch, [golds[i] for i in repeated]))
    groups = rewards.view(-1, group_size)
    mean, std = (x.repeat_interleave(group_size) for x in (groups.mean(1), groups.std(1)))
    advantages = ((rewards - mean) / (std + 1e-4))[:, None]
    logits = policy(batch.ids, attention_mask=batch.attention).logits[:, :-1]
    logps = -F.cross_entropy(logits.transpose(1, 2), batch.ids[:, 1:], reduction="none")
    logps = logps[:, -batch.mask.shape[1] :]
    ratio = torch.exp(logps - logps.detach())
    loss = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    loss = ((loss * batch.mask).sum(-1) / batch.mask.sum(-1)).mean()
    policy.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_([*policy.parameters()], max_norm=1)
    optimizer.step()
    return rewards, float(norm)


def grpo_answer_by_answer(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    answers = []
    for b in range(len(mask)):
        real = mask[b].bool()
        new, old, ref = (x[b][real] for x in (logps, old_logps, ref_logps))
        ratio, away = torch.exp(new - old), ref - new
        best = ratio.clamp(max=1 + clip) if advantages[b] > 0 else ratio.clamp(min=1 - clip)
        answers.append((-best * advantages[b] + beta * (away.exp() - away - 1)).mean())
    return torch.stack(answers).mean()


def grpo_in_trl(logps, adv, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    coef_1 = torch.exp(logps - old_logps)
    coef_2 = torch.clamp(coef_1, 1 - clip, 1 + clip)
    loss = -torch.min(coef_1 * adv.unsqueeze(1), coef_2 * adv.unsqueeze(1))
    loss = loss + beta * (torch.exp(ref_logps - logps) - (ref_logps - logps) - 1)
    return ((loss * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()


def mended_by_counting(reply, gold, values):
    named = [value for value in values if re.search(rf"\b{value}\b", reply, re.IGNORECASE)]
    return 1 if named == [gold] else 0


def mended_word_by_word(reply, gold, values):
    words = [word.strip(".,!?").lower() for word in reply.split()]
    return float(gold in words) * float(all(v == gold or v not in words for v in values))


def silent_by_counting(p, size):
    """Every outcome of `size` answers, those that are all alike summed up."""
    alike = [(1,) * size, (0,) * size]
    return sum(math.prod(p if right else 1 - p for right in one) for one in alike)


def silent_by_logs(p, size):
    return sum(math.exp(size * math.log(q)) for q in (p, 1 - p) if q > 0)


def gspo_answer_by_answer(logps, old_logps, advantages, mask, *, clip_low, clip_high):
    losses = []
    for new, old, a, kept in zip(logps, old_logps, advantages, mask.bool(), strict=True):
        ratio = (new[kept] - old[kept]).mean().exp()
        bound = 1 + clip_high if a > 0 else 1 - clip_low
        losses.append(-a * (min if a > 0 else max)(ratio, torch.tensor(bound)))
    return sum(losses) / len(losses)


def gspo_by_roots(logps, old_logps, advantages, mask, clip_low, clip_high):
    ratios = ((logps - old_logps).exp() ** mask).prod(1) ** (1 / mask.sum(1))
    products = torch.stack([ratios, ratios.clip(1 - clip_low, 1 + clip_high)]) * advantages
    return -products.amin(0).mean()


def kappa_by_table(labels, truth):
    table = torch.zeros(3, 3).index_put_((labels, truth), torch.tensor(1.0), accumulate=True)
    table = table / table.sum()
    chance = table.sum(0) @ table.sum(1)
    return (table.trace() - chance) / (1 - chance)


def robust_by_expansion(margins, noise):
    """l(-m) = l(m) + m, so only the plain loss and the margin are left."""
    return -F.logsigmoid(margins) - noise * margins / (1 - 2 * noise)


def front_by_loops(points):
    rows = points.tolist()

    def beats(x, y):
        return x != y and all(a >= b for a, b in zip(x, y, strict=True))

    return torch.tensor([not any(beats(x, y) for x in rows) for y in rows])


def front_by_differences(points):
    gap = points[:, None] - points[None]
    return ~((gap.amin(-1) >= 0) & (gap.amax(-1) > 0)).any(dim=0)


def area_by_inclusion(points, reference):
    above, total = (points - reference).clamp(min=0).tolist(), 0.0
    for k in range(1, len(above) + 1):
        for group in itertools.combinations(above, k):
            total += (-1) ** (k + 1) * min(p[0] for p in group) * min(p[1] for p in group)
    return torch.tensor(total)


def area_by_cells(points, reference):
    """Cut the plane at every coordinate, and count the cells below some point."""
    above = (points - reference).clamp(min=0)
    x, y = (torch.cat([torch.zeros(1), above[:, k].sort().values]) for k in (0, 1))
    cells = (x[1:, None] - x[:-1, None]) * (y[1:] - y[:-1])
    below = (above[:, None, None, 0] >= x[1:, None]) & (above[:, None, None, 1] >= y[1:])
    return (cells * below.any(0)).sum()


def soup_by_concatenation(a, b, weights, *, scaling):
    """PEFT's 'cat': the factors side by side, the weights on one of them."""
    a = torch.cat([scaling * w * x for w, x in zip(weights, a, strict=True)], dim=0)
    return torch.cat([*b], dim=1) @ a


def soup_by_einsum(a, b, weights, *, scaling):
    return scaling * torch.einsum("k,kor,kri->oi", weights, b, a)


def dual_by_where(multipliers, measured, levels, rate):
    new = multipliers - rate * (measured - levels)
    return torch.where(new > 0, new, torch.zeros_like(new))


def dual_one_by_one(multipliers, measured, levels, rate):
    trios = zip(multipliers.tolist(), measured.tolist(), levels.tolist(), strict=True)
    return torch.tensor([max(0.0, m + rate * (c - x)) for m, x, c in trios])


def labels_step_by_step(steps, right):
    """Each step's last token looked up, row by row."""
    labels = torch.full(steps.shape, -100, dtype=right.dtype)
    for row in range(len(steps)):
        for step in steps[row].unique():
            if step >= 0:
                labels[row, (steps[row] == step).nonzero().max()] = right[row, step]
    return labels


def best_by_enumeration(scores, right, n):
    """Every subset of n, one after the other."""
    subsets = torch.tensor([*itertools.combinations(range(scores.shape[1]), n)])
    best = scores[:, subsets].argmax(dim=2)  # (P, subsets)
    chosen = subsets.expand(len(scores), *subsets.shape).gather(2, best[..., None])[..., 0]
    return right.gather(1, chosen).mean(dim=1)


def f1_by_inverses(found, truth):
    """The harmonic mean as 2 / (1/a + 1/b)."""
    shares = [(found == truth)[kind].double().mean() for kind in (truth >= 0, truth < 0)]
    return (2 / sum(1 / share for share in shares)).float()


RIGHT = {
    "token_logps": [cross_entropy_logps, logsumexp_logps],
    "loss_mask": [mask_by_text, mask_of_slices],
    "train": [train_with_labels, train_by_model],
    "sft_loss": [ignore_index_sft, boolean_sft],
    "lora_forward": [merged_lora, einsum_lora],
    "nf4_codes": [loop_codes, argmin_codes],
    "weights_gib": [gib_by_blocks],
    "jaccard": [jaccard_by_text, zipped_jaccard],
    "collate": [padded_by_torch, masked_batch],
    "bradley_terry_loss": [softplus_bt, cross_entropy_bt],
    "gae": [gae_by_definition, gae_as_a_matrix],
    "clipped_policy_loss": [relu_clip, clip_with_max],
    "dpo_loss": [softplus_dpo, dpo_through_bt],
    "implicit_margins": [margins_row_by_row, margins_einsum],
    "length_bias": [lstsq_line, covariance_line],
    "mcnemar_p": [binomial_p, p_by_enumeration],
    "swapped_win_rate": [win_rate_of_all_votes],
    "holm": [holm_in_words, holm_by_comparison],
    "group_advantages": [advantages_group_by_group, advantages_by_repetition],
    "grpo_step": [step_group_by_group, step_as_in_trl],
    "reinforce_loss": [reinforce_answer_by_answer, reinforce_as_covariance],
    "grpo_loss": [grpo_answer_by_answer, grpo_in_trl],
    "mended_reward": [mended_by_counting, mended_word_by_word],
    "silent_share": [silent_by_counting, silent_by_logs],
    "gspo_loss": [gspo_answer_by_answer, gspo_by_roots],
    "kappa": [kappa_by_table],
    "robust_dpo_loss": [robust_by_expansion],
    "pareto_front": [front_by_loops, front_by_differences],
    "hypervolume": [area_by_inclusion, area_by_cells],
    "lora_soup": [soup_by_concatenation, soup_by_einsum],
    "dual_step": [dual_by_where, dual_one_by_one],
    "step_labels": [labels_step_by_step],
    "best_of": [best_by_enumeration],
    "process_f1": [f1_by_inverses],
}
ALL_RIGHT = [pytest.param(n, f, id=f"{n}-{f.__name__}") for n in NAMES for f in RIGHT[n]]


@pytest.mark.parametrize(("name", "function"), ALL_RIGHT)
def test_another_way_to_write_it_passes(name, function):
    assert examine(exercise(name), function).status == "right", examine(exercise(name), function)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_passes(name):
    assert examine(exercise(name), exercise(name).reference).status == "right"


# What a person with pen and paper gets for the cases that messages show.
LOG2 = 0.693147
BY_HAND = {
    "token_logps": [[[-1.386294, -0.470004], [-0.693147, -0.223144]]],
    "loss_mask": [
        [0] * 11 + [1, 1, 1] + [0] * 10 + [1, 1, 0],
        [0] * 6 + [1] + [0] * 6 + [1, 1, 1] + [0] * 4,
    ],
    "train": [
        [3 * LOG2, math.log(1 + 7 / math.e), 0.9112898],
        [6.887779, 4.206291, 3.052306],  # worked out with numpy, gradients by finite differences
        [3.205995, 1.856410],  # the same
    ],
    "sft_loss": [1.75 * LOG2],
    "lora_forward": [[[15.5, 12.0]], [[3.5]]],
    "nf4_codes": [[[[15, 0, 7, 12] + [7] * 60, [0, 14, 10, 9] + [7] * 60], [2.0, 4.0]]],
    "weights_gib": [0.5625, 2.0, 1.0625, 1.5625, 4.0, 4.125 / 8],
    "jaccard": [4 / 7, 1 / 3, 2 / 5, 1.0],
    "collate": [
        [[[5, 6, 7, 2], [5, 8, 2, 2]], [[-100, -100, 7, 2], [-100, 8, 2, -100]]],
        [
            [[5, 2, 0, 0, 0], [5, 6, 9, 8, 2]],
            [[-100, 2, -100, -100, -100], [-100, -100, -100, 8, 2]],
        ],
    ],
    "bradley_terry_loss": [[0.287682, LOG2, 1.386294]],
    "gae": [[[0.125, 0.25, 0.5], [0.5, 0.0, 0.0]], [[0.75, 1.0, 0.5]]],
    "clipped_policy_loss": [
        [[[-1.2, 1.5, -0.5, 0.8, -2.2]], [[True, False, False, True, False]]],
        [[[-1.4, 0.9]], [[True, True]]],
    ],
    "dpo_loss": [[0.554355, 0.744397], [0.201413, 0.974077]],
    "implicit_margins": [[3.0, 2.5], [-1.5]],
    "length_bias": [[2.0, 1.0], [1.5, 10.5]],
    "mcnemar_p": [0.375, 58 / 128, 2 / 32],
    "swapped_win_rate": [0.625, 3.75 / 6],
    "holm": [[0.06, 0.06, 0.03]],
    "grpo_step": [
        [
            [1.0, 0.0],
            4 * (0.5 / (0.5**0.5 + 1e-4)) * 0.5 * 2**0.5,
            [0.0] * 10 + [0.0, 0.5**0.5, 0.0, -(0.5**0.5), 0.0] + [0.0] * 10,
        ],
        [  # worked out with numpy, gradients by finite differences
            [1.0, 0.0, 1.0, 0.0],
            [0.791909, 1.026738],
            [-0.030658, 0.143953, -0.312807, 0.028611, 0.265936],
            [-0.337877, 0.603592, -0.519251, 0.103248, 0.268961],
            [0.329062, 0.285051, -0.251523, 0.213715, -0.257116],
            [-0.552128, -0.098201, 0.145666, 0.072605, 0.278067],
            [0.081729, -0.374066, 0.418798, 0.274894, -0.089249],
        ],
    ],
    "reinforce_loss": [-13 / 3],
    "group_advantages": [
        [1.4997, -0.4999, -0.4999, -0.4999, 0.86595, -0.86595, -0.86595, 0.86595]
        + [-0.075 / 0.0501, 0.025 / 0.0501, 0.025 / 0.0501, 0.025 / 0.0501]
    ],
    "grpo_loss": [((-5.4 + 0.2 * (LOG2 - 0.5)) / 3 + (7 + 0.1 * (LOG2 - 0.5)) / 2) / 2, 1.6],
    "mended_reward": [1.0, *[0.0] * 7, 1.0, 1.0, 1.0, *[0.0] * 4, 1.0, 1.0],
    "silent_share": [0.625, 0.4112],
    "gspo_loss": [0.375, -2 * 1.21 ** (1 / 3)],
    "kappa": [0.5, 8 / 18, -1.0],
    "robust_dpo_loss": [[-0.078522, LOG2, 1.752498]],
    "pareto_front": [[False, True, True, True, False, True], [True] * 4, [True, False]],
    "hypervolume": [12.0, 4.0],
    "lora_soup": [[[8.0, 6.0]], [[4.5, 1.5]]],
    "dual_step": [[2.5, 0.5, 0.0]],
    "step_labels": [
        [[-100, -100, 1, 0, -100]],
        [[-100, -100, -100, -100, 1], [-100, 0, -100, 1, -100]],
    ],
    "best_of": [[1 / 3], [1 / 2], [1 / 4], [1 / 5]],
    "process_f1": [2 / 3, 2 / 5],
}


def flat(value: object) -> list[float]:
    """All numbers in a value, in order."""
    if isinstance(value, Tensor):
        value = value.tolist()
    return [x for item in value for x in flat(item)] if isinstance(value, tuple | list) else [value]


@pytest.mark.parametrize("name", NAMES)
def test_the_small_cases_are_what_one_gets_by_hand(name):
    for case, by_hand in zip(exercise(name).cases, BY_HAND[name], strict=True):
        assert flat(exercise(name).expected(case.inputs)) == pytest.approx(flat(by_hand), abs=2e-6)


# --- not attempted ---


def stub(chosen_rewards, rejected_rewards):
    raise NotImplementedError


@pytest.mark.parametrize("name", NAMES)
def test_an_untouched_stub_lets_the_notebook_go_on(name, capsys):
    body = "raise NotImplementedError"
    space: dict = {}
    exec(
        f"def {name}{inspect.signature(exercise(name).reference)}:\n    {body}",
        {**globals()},
        space,
    )
    returned = getattr(check, name)(space[name])
    assert capsys.readouterr().out == f"· {name}: not attempted, going on with the reference\n"
    assert returned is exercise(name).reference


def test_code_around_the_stubs_line_is_not_an_untouched_stub():
    def half_done(chosen_rewards, rejected_rewards):
        margin = chosen_rewards - rejected_rewards
        raise NotImplementedError
        return -F.logsigmoid(margin)

    def with_a_docstring(chosen_rewards, rejected_rewards):
        """Loss a pair."""
        # TODO
        raise NotImplementedError

    def int_softmax(chosen_rewards, rejected_rewards):  # torch raises NotImplementedError itself
        return torch.log_softmax(torch.arange(3), 0)

    assert code(half_done) == "stub_line_left"
    assert examine(BT, with_a_docstring).status == "not attempted"
    assert code(int_softmax) == "raises_NotImplementedError"


# --- the door ---


def test_a_right_answer_comes_back_and_a_wrong_one_does_not(capsys):
    assert check.bradley_terry_loss(softplus_bt) is softplus_bt
    assert capsys.readouterr().out == "✓ bradley_terry_loss: right\n"

    def swapped(chosen_rewards, rejected_rewards):
        return -F.logsigmoid(rejected_rewards - chosen_rewards)

    assert check.bradley_terry_loss(swapped) is BT.reference
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("✗ bradley_terry_loss: Not yet.") and "chosen and rejected" in first
    assert rest[-1] == "  Going on with the reference."
    assert "  you return    [1.386, 0.6931, 0.2877]" in rest
    assert "  expected      [0.2877, 0.6931, 1.386]" in rest
    assert max(map(len, [first, *rest])) <= 100


def test_the_reference_is_not_praised_as_the_learners_own(capsys):
    assert check.bradley_terry_loss(BT.reference) is BT.reference
    assert capsys.readouterr().out.startswith("· bradley_terry_loss: this is the reference;")


def test_the_text_is_the_same_each_time(capsys):
    def failing(chosen_rewards, rejected_rewards):
        raise ValueError(f"at {object()} for {chosen_rewards!r}")

    for function in (failing, lambda c, r: c * 2, lambda c, r: object()):
        check.bradley_terry_loss(function)
        one = capsys.readouterr().out
        check.bradley_terry_loss(function)
        assert capsys.readouterr().out == one
        assert "0x" not in one.replace("0x…", "")


def test_an_unknown_check_names_the_known_ones():
    with pytest.raises(AttributeError, match="did you mean 'dpo_loss'. There are: .*gae"):
        check.dpo_los  # noqa: B018
    assert dir(check) == sorted(WEEKS)
    assert not hasattr(check, "__wrapped__")


def test_a_check_is_imported_when_it_is_asked_for():
    seen = (
        "import sys; from postlab import check; print('torch' in sys.modules); check.dpo_loss; "
        "print('torch' in sys.modules, 'postlab.course.week01.exercises' in sys.modules, "
        "bool({'transformers', 'trl', 'peft', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False", "False"]


# --- nothing that a learner's function does can hurt ---


class Vicious(Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def raising(error: BaseException):
    def function(chosen_rewards, rejected_rewards):
        raise error

    return function


def generator(chosen_rewards, rejected_rewards):
    yield -F.logsigmoid(chosen_rewards - rejected_rewards)


def calls_itself(chosen_rewards, rejected_rewards):
    return calls_itself(chosen_rewards, rejected_rewards)


async def later(chosen_rewards, rejected_rewards):
    return chosen_rewards


@pytest.mark.parametrize(
    ("expected", "function"),
    [
        ("not_a_function", None),
        ("not_a_function", torch.ones(3)),
        ("signature", lambda: 1),
        ("signature", lambda chosen_rewards: 1),
        ("returns_none", lambda c, r: None),
        ("wrong_type", lambda c, r: "0.69"),
        ("wrong_type", lambda c, r: 0.69),
        ("wrong_type", lambda c, r: (c, r)),
        ("wrong_type", lambda c, r: [1.0, 2.0]),
        ("wrong_type", lambda c, r: c.numpy()),
        ("wrong_type", lambda c, r: 10**5000),
        ("wrong_type", lambda c, r: F.logsigmoid),
        ("wrong_type", lambda c, r: {"loss": c}),
        ("wrong_type", generator),
        ("wrong_shape", lambda c, r: torch.zeros(0)),
        ("wrong_shape", lambda c, r: torch.ones(500, 500)),
        ("wrong_shape", lambda c, r: torch.ones(2, 3, 4, 5)),
        ("wrong_shape", lambda c, r: F.softplus(r - c)[:, None]),
        ("wrong_dtype", lambda c, r: torch.zeros_like(c, dtype=torch.int64)),
        ("wrong_dtype", lambda c, r: c.to(torch.complex64)),
        ("not_finite", lambda c, r: c * float("nan")),
        ("constant", lambda c, r: torch.ones_like(c).to_sparse()),
        ("not_deterministic", lambda c, r: torch.rand_like(c) + iter_count()),
        ("raises_TypeError", lambda c, r: torch.ones(3, device="meta")),
        ("raises_NameError", lambda c, r: undefined_name),  # noqa: F821
        ("raises_RecursionError", calls_itself),
        ("raises_SystemExit", raising(SystemExit(3))),
        ("raises_Mute", raising(Mute())),
        ("raises_AssertionError", raising(AssertionError())),
        ("raises_ValueError", raising(ValueError("\x1b[31mred\x1b[0m\n" * 500))),
        ("raises_GeneratorExit", raising(GeneratorExit())),
        ("factor", lambda c, r: 3 * F.softplus(r - c)),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_comes_back_is_said_in_a_few_printable_lines(expected, function, capsys):
    outcome = examine(BT, function)
    assert (outcome.status, outcome.code) == ("wrong", expected), outcome.message
    assert len(outcome.message) < 900
    assert all(c.isprintable() or c == "\n" for c in outcome.message)
    assert door(BT, function) is BT.reference
    assert len(capsys.readouterr().out.splitlines()) < 16


def in_turns(*values: object):
    """A function that returns these one after the other, and then from the start."""
    turns = itertools.cycle(values)
    return lambda *args, **given: next(turns)


@pytest.mark.parametrize(
    ("name", "expected", "function"),
    [
        ("weights_gib", "too_large", lambda n, *, bits, block=64, constant_bits=32: 10**5000),
        ("weights_gib", "not_finite", lambda n, *, bits, block=64, constant_bits=32: float("inf")),
        ("weights_gib", "wrong_type", lambda n, *, bits, block=64, constant_bits=32: True),
        ("weights_gib", "wrong_type", lambda n, *, bits, block=64, constant_bits=32: 1j),
        (
            "weights_gib",
            "wrong_type",
            lambda n, *, bits, block=64, constant_bits=32: torch.ones(()),
        ),
        ("loss_mask", "wrong_type", lambda ids, *, header, end_of_turn: [0.0] * len(ids)),
        ("loss_mask", "wrong_type", lambda ids, *, header, end_of_turn: tuple(ids)),
        ("loss_mask", "wrong_shape", lambda ids, *, header, end_of_turn: []),
        ("loss_mask", "wrong_shape", lambda ids, *, header, end_of_turn: [1] * 100_000),
        (
            "loss_mask",
            "constant",
            lambda ids, *, header, end_of_turn: [10**5000] * len(ids),
        ),
        ("clipped_policy_loss", "wrong_count", in_turns((torch.ones(1, 5),), None, 3, ())),
        ("clipped_policy_loss", "returns_none", in_turns(None, (torch.ones(1, 5),), 3, ())),
        ("clipped_policy_loss", "wrong_type", in_turns((torch.ones(1, 5), None), None, (1, 2, 3))),
        ("nf4_codes", "wrong_type", in_turns(([[1]], [2]), torch.ones(2))),
    ],
)
def test_other_exercises_bear_odd_values_too(name, expected, function):
    outcome = examine(exercise(name), function)
    assert (outcome.status, outcome.code) == ("wrong", expected), outcome.message
    assert len(outcome.message) < 1100


COUNT = iter(range(10**9))


def iter_count() -> int:
    return next(COUNT)


def test_a_tensor_subclass_runs_none_of_its_code_in_the_check():
    def vicious(chosen_rewards, rejected_rewards):
        return BT.reference(chosen_rewards, rejected_rewards).as_subclass(Vicious)

    # The values are right; autograd cannot go through such a tensor, and that is said.
    assert code(vicious) == "raises_in_training"


def test_a_coroutine_is_a_wrong_type():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert code(later) == "wrong_type"


def test_the_process_is_left_as_it_was():
    def meddles(chosen_rewards, rejected_rewards):
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        warnings.warn("loud", stacklevel=1)
        print("noise\n" * 1000, file=sys.stderr)
        return -F.logsigmoid(chosen_rewards - rejected_rewards)

    def state():
        alarm = signal.getsignal(signal.SIGPROF), signal.getitimer(signal.ITIMER_PROF)
        return [
            torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist(),
            torch.is_grad_enabled(), torch.get_default_dtype(), warnings.filters[:], alarm,
            sys.stdout, sys.stderr,
        ]  # fmt: skip

    before = state()
    assert code(meddles) == "no_gradient"
    assert state() == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_check_works_in_any_mode_of_its_caller(mode):
    with mode():
        assert code(softplus_bt) == "right"
        assert code(cross_entropy_logps, "token_logps") == "right"


def test_inputs_are_copies_so_that_an_edit_cannot_fool_a_later_case():
    def zeroes_its_inputs(chosen_rewards, rejected_rewards):
        loss = -F.logsigmoid(chosen_rewards - rejected_rewards)
        chosen_rewards.zero_(), rejected_rewards.zero_()
        return loss

    before = {name: value.clone() for name, value in BT.cases[0].inputs.items()}
    assert code(zeroes_its_inputs) == "edits_inputs"
    assert all(torch.equal(BT.cases[0].inputs[name], value) for name, value in before.items())


def test_what_a_function_prints_is_kept_short_and_shown_when_it_is_wrong(capsys):
    def chatty(chosen_rewards, rejected_rewards):
        print("margin", (chosen_rewards - rejected_rewards)[1].item(), "x" * 10_000)
        return chosen_rewards

    message = examine(BT, chatty).message
    assert "it printed    margin 0.0 xxx" in message and len(message) < 900
    assert capsys.readouterr().out == ""


def test_ctrl_c_still_stops_a_cell():
    with pytest.raises(KeyboardInterrupt):
        examine(BT, raising(KeyboardInterrupt()))


def test_a_loop_without_an_end_is_stopped_once(monkeypatch):
    monkeypatch.setattr(_calls, "TIME_LIMIT", 0.2)
    calls = []

    def endless(chosen_rewards, rejected_rewards):
        calls.append(1)
        while True:
            pass

    assert code(endless) == "never_ends"
    assert len(calls) == 1


def test_the_line_that_raised_is_named():
    def wrong_axis(chosen_rewards, rejected_rewards):
        margin = chosen_rewards - rejected_rewards
        return -F.logsigmoid(margin).mean(dim=1)

    message = examine(BT, wrong_axis).message
    assert "at `return -F.logsigmoid(margin).mean(dim=1)`" in message
    assert "chosen_rewards (3,)" in message


def test_an_argument_without_effect_is_named():
    def fixed_beta(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
        margin = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)
        return -F.logsigmoid(0.3 * margin)

    assert code(fixed_beta, "dpo_loss") == "ignores_beta"


def test_two_mistakes_at_once_are_both_named():
    def unmasked_and_positive(logits, labels, mask):
        return -F.cross_entropy(logits.flatten(0, 1), labels.flatten())

    assert set(code(unmasked_and_positive, "sft_loss").split("_and_")) == {"mask_ignored", "sign"}


def test_a_mistake_that_fits_the_cases_worked_by_hand_only_is_not_named():
    """What is shown has to give the learner's values everywhere."""

    def only_there(p, size):
        return p**size if size in (2, 4) else 0.7 * p + 0.1 * size

    outcome = examine(exercise("silent_share"), only_there)
    assert outcome.code == "not_recognised"


def test_values_that_no_mistake_gives_are_shown_on_the_smallest_case_that_fails():
    def wrong_at_large_margins(chosen_rewards, rejected_rewards):
        margin = chosen_rewards - rejected_rewards
        return torch.where(margin > 1.5, 0.5, -F.logsigmoid(margin))

    outcome = examine(BT, wrong_at_large_margins)
    assert outcome.code == "not_recognised"
    about = outcome.message.splitlines()[1]
    numbers = re.search(r"chosen_rewards \[(.*?)\], rejected_rewards \[(.*?)\]", about)
    assert numbers and "," not in numbers[1] + numbers[2]  # one pair is left
    assert float(numbers[1]) - float(numbers[2]) > 1.5


def rows_of_groups(rewards, group_size):
    groups = rewards.view(-1, group_size)
    return (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)


def mean_over_prompts(scores, right, n):
    return exercise("best_of").reference(scores, right, n).mean()


def whole_division(p):
    return p * 0 // 1


def other_default(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.5):
    margin = (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)
    return -F.logsigmoid(beta * margin)


def flag_first(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    right = exercise("clipped_policy_loss").reference
    return right(logps, old_logps, advantages, clip_low=clip_low, clip_high=clip_high)[::-1]


def rounded_off(gained, lost):
    n = gained + lost
    return 2 * sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) // 2**n


def two_decimals(first, second, *, n):
    return round(exercise("jaccard").reference(first, second, n=n), 2)


def value_first(reply, gold, values):
    return float(reply.lower().startswith(gold))


def sampled(p, size):
    return sum(len({random.random() < p for _ in range(size)}) == 1 for _ in range(500)) / 500


def mean_of_whole_numbers(margins, extra_tokens):
    return extra_tokens.mean()


def caret(p, size):
    return p ^ size


def uncapped(gained, lost):
    n = gained + lost
    return 2 * sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n


def centres_in_place(margins, extra_tokens):
    x = extra_tokens.to(margins.dtype)
    margins -= margins.mean()
    slope = ((x - x.mean()) * margins).sum() / ((x - x.mean()) ** 2).sum()
    return slope, margins.mean() - slope * x.mean()


def counts_of_labels(labels, truth):
    agreed, n = (labels == truth).float().mean(), len(labels)
    counts = [torch.bincount(x, minlength=3).float() for x in (labels, truth)]
    chance = (counts[0] * counts[1]).sum() / n
    return (agreed - chance) / (1 - chance)


def only_divided(margins, noise):
    return F.softplus(-margins) / (1 - 2 * noise)


def margins_turned(margins, noise):
    return ((1 - noise) * F.softplus(margins) - noise * F.softplus(-margins)) / (1 - 2 * noise)


def power_forgotten(gained, lost):
    n = gained + lost
    return min(1.0, 2 * sum(math.comb(n, k) * 0.5**k for k in range(min(gained, lost) + 1)))


def cut_pair(p):
    return p.cummax(0).clamp(max=1)


def whole_numbers(p):
    return exercise("holm").reference(p).long()


def inverted_counts(points):
    return ~(~exercise("pareto_front").reference(points)).int()


def height_pairs(points, reference):
    above = points - reference
    return (above[:, 0] * above[:, 1].cummax(0)).sum()


def halves_scaled(policy_logps, ref_logps, mask, *, beta):
    return beta * ((policy_logps - ref_logps) * mask).sum(1).chunk(2)


def mask_in_bools(policy_logps, ref_logps, mask, *, beta):
    return (policy_logps * (1 - mask.bool())).sum(1)


def lengths_doubled(margins, extra_tokens):
    slope, intercept = exercise("length_bias").reference(margins, extra_tokens.abs() + extra_tokens)
    return slope, intercept


def median_line(margins, extra_tokens):
    slope, _ = exercise("length_bias").reference(margins, extra_tokens)
    return slope, margins.median() - slope * extra_tokens.median()


def neighbours_only(p):
    order = p.argsort()
    steps = p[order] * torch.arange(len(p), 0, -1)
    out = torch.empty_like(p)
    out[order] = torch.maximum(steps, torch.cat([steps[:1], steps[:-1]])).clamp(max=1)
    return out


def nearly_all_pairs(points):
    beats = (points[:, None] >= points).all(-1) & (points[:, None] > points).any(-1)
    return ~beats[1:].any(0)


def floor_above_zero(multipliers, measured, levels, rate):
    return (multipliers + rate * (levels - measured)).clamp(min=1e-3)


def heights_of_the_next(points, reference):
    above = (points - reference).clamp(min=0)
    above = above[above[:, 0].argsort(descending=True)]
    width = above[:, 0] - torch.cat([above[1:, 0], above.new_zeros(1)])
    return (width * torch.cat([above[1:, 1], above.new_zeros(1)])).sum()


def products_then_one_mean(a, b, weights, *, scaling):
    return scaling * ((weights[:, None, None] * (b @ a)).sum(0) + (b @ a).mean(0)) / 3


@pytest.mark.parametrize(
    ("name", "function", "says", "does_not_say"),
    [
        ("group_advantages", rows_of_groups, "view or reshape", "squeeze"),
        ("best_of", mean_over_prompts, "leave out the mean", "reshape"),
        ("mended_reward", lambda reply, gold, values: gold in reply, "float(x)", "torch"),
        ("length_bias", mean_of_whole_numbers, "x.float()", "shapes"),
        ("silent_share", caret, "** in Python", "count"),
        ("mended_reward", lambda reply, gold, values: [][0], "print its length", "shapes"),
        ("holm", whole_division, "the same whatever goes in", "do you use it"),
        ("mcnemar_p", rounded_off, "rounded", "change with"),
        ("jaccard", two_decimals, "rounded, to 2 decimals", "none of the mistakes"),
        ("mended_reward", value_first, "none of the mistakes", "goes in"),
        ("silent_share", sampled, "chance in it", "none of the mistakes"),
        ("holm", lambda p: exercise("holm").reference(p) < 0.05, "not a comparison", ".to("),
        ("pareto_front", lambda points: [True] * len(points), "torch.tensor(x)", "gradient"),
        ("dpo_loss", other_default, "its default in your function is 0.5", "times"),
        ("clipped_policy_loss", flag_first, "loss and clipped in that order", "comparison"),
        ("mcnemar_p", uncapped, "min(1.0, p)", "a special case"),
        ("length_bias", centres_in_place, "`margins` changed", "none of the mistakes"),
        ("kappa", counts_of_labels, "where a share is needed", "none of the mistakes"),
        ("robust_dpo_loss", only_divided, "has no part in it", "second term"),
        ("robust_dpo_loss", margins_turned, "the sign of the margins", "two weights"),
        ("mcnemar_p", power_forgotten, "min(1.0, p) may hide", "the same count"),
        ("holm", whole_numbers, "work with floats", "convert"),
        ("pareto_front", inverted_counts, "~ inverts only bool", "convert"),
        ("holm", cut_pair, "take .values", "stands before"),
        ("hypervolume", height_pairs, "take .values", "count the arguments"),
        ("implicit_margins", halves_scaled, "no arithmetic", "count the arguments"),
        ("implicit_margins", mask_in_bools, "'not' is ~x", "shapes"),
        ("swapped_win_rate", lambda a_first, b_first: 1 - b_first, "number by number", "count the"),
        ("swapped_win_rate", lambda a_first, b_first: 1 + print(), "is None", "count the"),
        ("length_bias", lengths_doubled, "none of the mistakes", "sign"),
        ("length_bias", median_line, "none of the mistakes", "intercept has"),
        ("holm", neighbours_only, "none of the mistakes", "running maximum"),
        ("pareto_front", nearly_all_pairs, "none of the mistakes", "before it"),
        ("dual_step", floor_above_zero, "none of the mistakes", "becomes 0"),
        ("hypervolume", heights_of_the_next, "none of the mistakes", "reference"),
        ("lora_soup", products_then_one_mean, "none of the mistakes", "left out"),
    ],
)
def test_what_to_do_is_true_of_the_function_that_came(name, function, says, does_not_say):
    headline = examine(exercise(name), function).message.split("\nFor ")[0]
    assert says in headline and does_not_say not in headline


def test_numbers_that_differ_are_shown_with_the_digits_that_differ():
    def epsilon_in_the_root(rewards, group_size):
        groups = rewards.view(-1, group_size)
        centred = groups - groups.mean(1, keepdim=True)
        return (centred / (groups.var(1, keepdim=True) + 1e-4).sqrt()).flatten()

    lines = examine(exercise("group_advantages"), epsilon_in_the_root).message.splitlines()
    got, want = (next(x for x in lines if x.startswith(y)) for y in ("you return", "expected"))
    assert got.split(maxsplit=2)[2] != want.split(maxsplit=1)[1]


def test_of_the_cases_worked_by_hand_the_smallest_that_fails_is_shown():
    def without_some(points):
        return exercise("pareto_front").reference(points) & (points[:, 0] != 2)

    outcome = examine(exercise("pareto_front"), without_some)
    assert outcome.code == "not_recognised"
    assert "For points [2, 2] [1, 2]" in outcome.message


def test_padding_alone_is_not_called_a_scale():
    def values_in_the_padding(rewards, values, mask, *, gamma, lam):
        right = exercise("gae").reference(rewards, values, mask, gamma=gamma, lam=lam)
        return torch.where(mask.bool(), right, values)

    assert code(values_in_the_padding, "gae") == "padding_differs"


def test_whole_numbers_at_an_edge_may_be_ints():
    def in_python(p):
        steps, highest = [0.0] * len(p), 0.0
        for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            highest = max(highest, p[i].item() * (len(p) - rank))
            steps[i] = min(highest, 1)
        return torch.tensor(steps)

    assert code(in_python, "holm") == "right"


def test_an_argument_used_in_part_is_not_called_unused():
    def labels_of_the_first_row(steps, right):
        return exercise("step_labels").reference(steps, right[:1].expand_as(right))

    assert code(labels_of_the_first_row, "step_labels") == "not_recognised"


def test_numpy_on_the_way_is_found_under_training():
    def through_numpy(logits, labels):
        logps = torch.log_softmax(logits, -1).numpy()
        return torch.from_numpy(np.take_along_axis(logps, labels.numpy()[..., None], -1)[..., 0])

    assert code(through_numpy, "token_logps") == "raises_in_training"


def test_same_is_neither_blind_nor_fussy():
    one = torch.tensor([1.0, -2.0])
    assert same(one + 1e-6, one) and not same(one + 1e-3, one)
    assert same(one.double(), one) and not same(one.long(), one)
    assert same((one, one > 0), (one, one > 0)) and not same((one, one < 0), (one, one > 0))
    assert same([0, 1], [0, 1]) and not same([1, 0], [0, 1]) and not same(2.0, 2.001)
