"""Losses from scratch: hand-worked numbers, what must not matter, and worlds to sum over."""

from __future__ import annotations

import doctest
import importlib
import itertools
import math

import pytest
import torch
from torch import Tensor

from postlab.scratch.losses import (
    bradley_terry_loss,
    clipped_policy_loss,
    dpo_loss,
    entropy,
    gae,
    group_advantages,
    kl_estimate,
    masked_mean,
    masked_sum,
    reduce_token_loss,
    sft_loss,
    token_logps,
)

HOWS = ("grpo", "bnpo", "dapo", "dr_grpo")
NAN = math.nan


def t(*values: object) -> Tensor:
    """A float64 tensor, so that only the formula can be wrong."""
    return torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.float64)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def close(found: Tensor, wanted: Tensor | float) -> None:
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(found.detach(), wanted.detach(), rtol=1e-9, atol=1e-12)


def gradient(value: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, of, retain_graph=True))


@pytest.mark.parametrize("name", ["losses", "policy_gradient", "shapes", "tokens"])
def test_doctests_run_and_hold(name: str):
    result = doctest.testmod(importlib.import_module(f"postlab.scratch.{name}"))
    assert result.attempted and not result.failed


# --- log-probs, entropy, masks --------------------------------------------------------------------


def test_token_logps_by_hand():
    logits = t([[[1, 1, 2], [1, 3, 4]]]).log()
    close(token_logps(logits, torch.tensor([[2, 0]])), t([[1 / 2, 1 / 8]]).log())


def test_token_logps_do_not_mind_a_constant_and_sum_to_one():
    logits = noise(2, 3, 5)
    every = [token_logps(logits, torch.full((2, 3), v)) for v in range(5)]
    close(torch.stack(every).exp().sum(0), torch.ones(2, 3))
    close(token_logps(logits + 7 * noise(2, 3, 1), torch.full((2, 3), 4)), every[4])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_log_probs_of_half_precision_logits_are_exact(dtype: torch.dtype):
    logits = noise(1, 4, 50).to(dtype)
    found = token_logps(logits, torch.arange(4)[None])
    close(found.double(), token_logps(logits.float(), torch.arange(4)[None]).double())
    assert found.dtype == entropy(logits).dtype == torch.float32


def test_entropy_by_hand():
    close(entropy(t([1, 1, 2]).log()) / math.log(2), 1.5)  # 1/4 * 2 + 1/4 * 2 + 1/2 * 1 bits
    close(entropy(t([[0.0] * 8, [100.0] + [0.0] * 7])), t(math.log(8), 0.0))


def test_entropy_of_tokens_ruled_out_is_finite_and_so_is_its_gradient():
    logits = t(1.0, 0.0, -math.inf).requires_grad_()
    found = entropy(logits)
    close(found, entropy(t(1.0, 0.0)))
    (slope,) = gradient(found, logits)
    close(slope[:2], gradient(entropy(some := t(1.0, 0.0).requires_grad_()), some)[0])
    assert slope[2] == 0


def test_masked_sums_and_means_by_hand():
    x, mask = t([[1, 2, NAN], [6, NAN, NAN]]), torch.tensor([[1, 1, 0], [1, 0, 0]])
    close(masked_mean(x, mask), 3.0)
    close(masked_mean(x, mask, dim=1), t(1.5, 6.0))
    close(masked_mean(x[:, :1], mask[:, :1], dim=0), t([3.5]))
    close(masked_sum(x, mask), 9.0)
    close(masked_sum(x, mask, divisor=6, dim=1), t(0.5, 1.0))
    close(masked_sum(x, torch.zeros(2, 3)), 0.0)
    close(masked_mean(x, mask.bool()), masked_mean(x, mask.double()))
    assert masked_mean(x > 2, mask) == pytest.approx(1 / 3)  # the share of true ones


def test_nan_under_the_mask_reaches_no_gradient():
    x = t([[1, NAN], [math.inf, 2]]).requires_grad_()
    (slope,) = gradient(masked_mean(x, torch.tensor([[1, 0], [0, 1]])), x)
    close(slope, t([[0.5, 0], [0, 0.5]]))


# --- SFT ------------------------------------------------------------------------------------------


def sft_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Surprises of 1 and 2 bits in the first row, 3 in the second."""
    logits = t([[[1, 1, 0], [1, 3, 0]], [[1, 3, 4], [9, 9, 9]]]).log()
    return logits, torch.tensor([[0, 0], [0, -100]]), torch.tensor([[1, 1], [1, 0]])


def test_sft_loss_by_hand():
    close(sft_loss(*sft_batch()) / math.log(2), 2.0)


def test_sft_loss_falls_along_minus_its_gradient_and_only_where_it_is_trained():
    logits, labels, mask = noise(2, 2, 3).requires_grad_(), *sft_batch()[1:]
    (slope,) = gradient(sft_loss(logits, labels, mask), logits)
    wanted = logits.softmax(-1) - torch.nn.functional.one_hot(labels.clamp(min=0), 3)
    close(slope, (wanted * mask[..., None] / 3).detach())  # (p - y) / trained tokens


def test_padding_changes_no_sft_loss():
    logits, labels, mask = sft_batch()
    wide = torch.cat([logits, noise(2, 4, 3)], dim=1)
    more = [torch.cat([x, torch.full((2, 4), fill)], dim=1) for x, fill in ((labels, 1), (mask, 0))]
    close(sft_loss(wide, *more), sft_loss(logits, labels, mask))


def test_the_mean_of_means_is_another_loss():
    logits, labels, mask = sft_batch()
    rows = [sft_loss(logits[i : i + 1], labels[i : i + 1], mask[i : i + 1]) for i in range(2)]
    close(
        torch.stack(rows).mean() / math.log(2), 2.25
    )  # (1.5 + 3) / 2: the short reply weighs more
    tokens = mask.sum(1)
    close((torch.stack(rows) * tokens).sum() / tokens.sum(), sft_loss(logits, labels, mask))


# --- Bradley-Terry and DPO ------------------------------------------------------------------------


def test_bradley_terry_by_hand():
    chosen, rejected = t(3, 1, 1).log() + 5, t(1, 1, 3).log() + 5
    close((-bradley_terry_loss(chosen, rejected)).exp(), t(3 / 4, 1 / 2, 1 / 4))
    margin = t(3, 1, 1).log()
    close((-bradley_terry_loss(chosen, rejected, margin=margin)).exp(), t(1 / 2, 1 / 2, 1 / 4))


def test_bradley_terry_pushes_by_the_probability_of_being_wrong():
    chosen, rejected = t(3, 1, -800).requires_grad_(), t(0, 1, 0).requires_grad_()
    loss = bradley_terry_loss(chosen, rejected)
    assert loss[2] == 800  # log(1 + e^800), where e^800 is infinite
    ups, downs = gradient(loss.sum(), chosen, rejected)
    close(ups, -(rejected - chosen).sigmoid().detach())
    close(downs, -ups)


def test_the_two_orders_of_a_pair_are_all_there_is():
    a, b = noise(9), noise(9, seed=1)
    close((-bradley_terry_loss(a, b)).exp() + (-bradley_terry_loss(b, a)).exp(), torch.ones(9))


def pairs(n: int = 6) -> dict[str, Tensor]:
    names = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")
    return {name: 4 * noise(n, seed=i) - 9 for i, name in enumerate(names)}


def lead(h: object, **options: object) -> Tensor:
    """DPO loss of a policy that prefers chosen by h nats more than its reference does."""
    h = torch.as_tensor(h, dtype=torch.float64).reshape(-1)
    rest = {name: torch.zeros_like(h) for name in ("policy_rejected", "ref_chosen", "ref_rejected")}
    return dpo_loss(policy_chosen=h, **rest, **options)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("sigmoid", [-math.log(3 / 4), math.log(2), -math.log(1 / 4)]),
        ("ipo", [(math.log(9) - 1) ** 2, 1.0, (math.log(9) + 1) ** 2]),
        ("hinge", [0.0, 1.0, 1 + math.log(3)]),
    ],
)
def test_dpo_by_hand(kind: str, wanted: list[float]):
    """Odds of 9 to 1 at beta 1/2 are odds of 3 to 1; the target of ipo is 1 / (2 beta) = 1."""
    h = t(9, 1, 1 / 9).log()
    close(lead(h, beta=0.5, kind=kind), t(wanted))


def test_the_four_log_probs_have_their_signs():
    given = dict(zip(pairs(), t([-10, -12, -12, -11])[:, None], strict=True))  # 2 - -1 = 3
    close(dpo_loss(**given, beta=0.1), t([math.log(1 + math.exp(-0.3))]))


def test_dpo_is_a_reward_model_whose_reward_is_the_log_ratio():
    p = pairs()
    chosen, rejected = (0.3 * (p[f"policy_{x}"] - p[f"ref_{x}"]) for x in ("chosen", "rejected"))
    close(dpo_loss(**p, beta=0.3), bradley_terry_loss(chosen, rejected))


@pytest.mark.parametrize("kind", ["sigmoid", "ipo", "hinge"])
def test_only_the_ratio_to_the_reference_counts(kind: str):
    p = pairs()
    moved = {n: x + (5 if n.endswith("chosen") else -3) for n, x in p.items()}
    close(dpo_loss(**moved, kind=kind), dpo_loss(**p, kind=kind))


def test_dpo_pushes_by_beta_and_the_probability_of_being_wrong():
    p = {name: x.requires_grad_() for name, x in pairs().items()}
    h = (p["policy_chosen"] - p["ref_chosen"]) - (p["policy_rejected"] - p["ref_rejected"])
    ups, downs = gradient(dpo_loss(**p, beta=0.2).sum(), p["policy_chosen"], p["policy_rejected"])
    close(ups, -0.2 * (-0.2 * h).sigmoid().detach())
    close(downs, -ups)


@pytest.mark.parametrize(
    ("options", "best"),
    [
        ({"label_smoothing": 0.2}, math.log(0.8 / 0.2) / 0.1),  # where sigmoid(beta h) is 0.8
        ({"kind": "ipo"}, 1 / 0.2),
    ],
)
def test_some_losses_stop_pushing_at_a_lead_and_turn_round(options: dict, best: float):
    h = t(best - 1, best, best + 1).requires_grad_()
    (slope,) = gradient(lead(h, **options).sum(), h)
    assert slope[0] < -1e-6 and abs(slope[1]) < 1e-12 and slope[2] > 1e-6


def test_hinge_is_silent_from_a_lead_of_one_over_beta():
    h = t(9.9, 10.1).requires_grad_()
    close(gradient(lead(h, kind="hinge").sum(), h)[0], t(-0.1, 0.0))


def test_label_smoothing_mixes_the_loss_with_that_of_the_flipped_pair():
    h = 9 * noise(5)
    close(lead(h, label_smoothing=0.3), 0.7 * lead(h) + 0.3 * lead(-h))


# --- group advantages -----------------------------------------------------------------------------


def test_group_advantages_by_hand():
    rewards = t(1, 0, 0, 0, 0, 0, 0, 0, 3, 1, 1, 3)
    found = group_advantages(rewards, 4, eps=0)[:4], group_advantages(rewards, 4)[4:8]
    close(torch.cat(found), t(1.5, -0.5, -0.5, -0.5, 0, 0, 0, 0))
    centred = t(0.75, -0.25, -0.25, -0.25, 0, 0, 0, 0, 1, -1, -1, 1)
    close(group_advantages(rewards, 4, scale="none"), centred)
    spread = math.sqrt((21 - 81 / 12) / 11)  # of all twelve: sum of squares 21, sum 9
    close(group_advantages(rewards, 4, scale="batch", eps=0), centred / spread)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_rewards_teach_nothing(scale: str):
    rewards = torch.full((6,), 0.7, dtype=torch.float64)  # no sum of powers of two: the mean rounds
    assert group_advantages(rewards, 3, scale=scale).abs().max() < 1e-9


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_what_does_not_matter_to_group_advantages(scale: str):
    rewards = noise(12)
    found = group_advantages(rewards, 4, scale=scale, eps=0)
    close(found.view(3, 4).mean(1), torch.zeros(3))
    close(group_advantages(rewards + 5, 4, scale=scale, eps=0), found)
    stretched = group_advantages(3 * rewards, 4, scale=scale, eps=0)
    close(stretched, 3 * found if scale == "none" else found)
    order = torch.tensor([2, 0, 3, 1, 5, 4, 7, 6, 8, 9, 11, 10])  # inside each group
    close(group_advantages(rewards[order], 4, scale=scale, eps=0), found[order])


def test_a_group_knows_nothing_of_the_others():
    rewards = noise(8)
    other = torch.cat([rewards[:4], 9 * rewards[4:]])
    close(group_advantages(other, 4)[:4], group_advantages(rewards, 4)[:4])


# --- the clipped loss -----------------------------------------------------------------------------


def test_the_clip_by_hand():
    """Loss, whether clipped, and the gradient: -ratio * A where the clip is open, else 0."""
    ratio = t([[1.5, 1.5, 0.5, 0.5, 1.1, 3.0, 0.3]])
    adv = t([[1.0, -1.0, 1.0, -1.0, 2.0, 0.0, 0.0]])
    logps = ratio.log().requires_grad_()
    loss, clipped = clipped_policy_loss(logps, torch.zeros_like(logps), adv)
    close(loss, t([[-1.2, 1.5, -0.5, 0.8, -2.2, 0.0, 0.0]]))
    assert clipped.tolist() == [[True, False, False, True, False, False, False]]
    close(gradient(loss.sum(), logps)[0], t([[0.0, 1.5, -0.5, 0.0, -2.2, 0.0, 0.0]]))


def test_the_two_bounds_are_separate():
    logps, nought = t([[1.35, 0.75]]).log(), torch.zeros(1, 2, dtype=torch.float64)
    wide = clipped_policy_loss(logps, nought, t([[1.0, -1.0]]), clip_low=0.3, clip_high=0.4)
    assert not wide[1].any()
    narrow = clipped_policy_loss(logps, nought, t([[1.0, -1.0]]), clip_low=0.1, clip_high=0.3)
    close(narrow[0], t([[-1.3, 0.9]]))
    assert narrow[1].all()


def test_on_the_policys_own_samples_it_is_the_policy_gradient():
    """Ratio 1: the loss is -A, its gradient -A too, though both log-probs are the same tensor."""
    logps, adv = noise(3, 4).requires_grad_(), noise(3, seed=1)
    loss, clipped = clipped_policy_loss(logps, logps, adv)
    close(loss, -adv[:, None].expand(3, 4))
    close(gradient(loss.sum(), logps)[0], -adv[:, None].expand(3, 4))
    assert not clipped.any()


def test_one_advantage_a_sequence_is_one_for_each_of_its_tokens():
    logps, old, adv = noise(3, 4), noise(3, 4, seed=1), noise(3, seed=2)
    both = [clipped_policy_loss(logps, old, a) for a in (adv, adv[:, None].expand(3, 4))]
    close(both[0][0], both[1][0])
    assert torch.equal(both[0][1], both[1][1])
    square = noise(3, 3), noise(3, 3, seed=1)  # (B,) is rows even where it could be columns
    close(clipped_policy_loss(*square, adv)[0][0], clipped_policy_loss(*square, adv[[0] * 3])[0][0])


def test_what_was_sampled_and_how_good_it_was_get_no_gradient():
    logps, old, adv = (noise(2, 3, seed=i).requires_grad_() for i in range(3))
    clipped_policy_loss(logps, old, adv)[0].sum().backward()
    assert logps.grad is not None and old.grad is None and adv.grad is None


def test_clipped_is_where_the_gradient_is_nought():
    logps, old, adv = noise(20, 30).requires_grad_(), noise(20, 30, seed=1), noise(20, seed=2)
    loss, clipped = clipped_policy_loss(logps, old, adv)
    slope = gradient(loss.sum(), logps)[0]
    assert torch.equal(clipped, slope == 0) and 0.2 < clipped.double().mean() < 0.8


# --- reductions -----------------------------------------------------------------------------------

MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
REDUCED = {"max_length": 5, "num_tokens": 16}


@pytest.mark.parametrize(
    ("how", "wanted", "weights"),
    [
        ("grpo", (2 + 8) / 2, (1 / 6, 1 / 2)),  # each answer 1/2, shared by its tokens
        ("bnpo", 14 / 4, (1 / 4, 1 / 4)),
        ("dapo", 14 / 16, (1 / 16, 1 / 16)),
        ("dr_grpo", 14 / 10, (1 / 10, 1 / 10)),
    ],
)
def test_reductions_by_hand(how: str, wanted: float, weights: tuple[float, float]):
    loss = t([[1, 2, 3, NAN], [8, NAN, NAN, NAN]]).requires_grad_()
    found = reduce_token_loss(loss, MASK, how=how, **REDUCED)
    close(found.detach(), wanted)
    close(gradient(found, loss)[0], MASK * t(weights)[:, None])


@pytest.mark.parametrize("how", HOWS)
def test_padding_changes_no_reduction(how: str):
    loss = noise(2, 4)
    wide = torch.cat([loss, noise(2, 1)], 1), torch.cat([MASK, torch.zeros(2, 1)], 1)
    before = reduce_token_loss(loss, MASK, how=how, **REDUCED)
    close(reduce_token_loss(*wide, how=how, **REDUCED), before)


def test_micro_batches_of_dapo_add_up_and_those_of_bnpo_do_not():
    loss, tokens = noise(2, 4), int(MASK.sum())
    rows = [(loss[i : i + 1], MASK[i : i + 1]) for i in range(2)]
    whole = reduce_token_loss(loss, MASK, how="bnpo")
    close(sum(reduce_token_loss(*row, how="dapo", num_tokens=tokens) for row in rows), whole)
    means = sum(reduce_token_loss(*row, how="bnpo") for row in rows) / 2
    assert abs(means - whole) > 0.01
    close(means, reduce_token_loss(loss, MASK, how="grpo"))


def test_with_equal_lengths_all_reductions_agree():
    loss, mask = noise(3, 4), torch.ones(3, 4)
    found = [reduce_token_loss(loss, mask, how=h, max_length=4, num_tokens=12) for h in HOWS]
    close(torch.stack(found), loss.mean().expand(4))


# --- KL, against the sum over every token ---------------------------------------------------------


def policy_and_ref() -> tuple[Tensor, Tensor]:
    """Logits of the policy, with gradient, and log-probs of the reference, over five tokens."""
    return noise(5).requires_grad_(), (1.5 * noise(5, seed=1)).log_softmax(0)


def exact_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of log-probs, the sum over the vocabulary."""
    return (p.exp() * (p - q)).sum()


def expected(values: Tensor, p: Tensor) -> Tensor:
    """Mean over samples from p, which are data: the probabilities carry no gradient."""
    return (p.detach().exp() * values).sum()


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_k1_and_k3_have_the_mean_of_the_kl_from_policy_to_reference(kind: str):
    logits, q = policy_and_ref()
    p = logits.detach().log_softmax(0)
    found = expected(kl_estimate(p, q, kind=kind), p)
    close(found, exact_kl(p, q))
    assert abs(found - exact_kl(q, p)) > 0.05  # the other direction is another number


def test_k2_is_biased_and_by_less_the_closer_the_two_are():
    logits, q = policy_and_ref()
    p = logits.detach().log_softmax(0)
    bias = []
    for share in (1.0, 0.5, 0.25):
        near = (share * p + (1 - share) * q).log_softmax(0)
        kl = exact_kl(near, q)
        bias.append(float((expected(kl_estimate(near, q, kind="k2"), near) - kl) / kl))
    assert abs(bias[0]) > 0.05 and abs(bias[0]) > abs(bias[1]) > abs(bias[2]) > 0


def test_k1_goes_below_nought_and_k2_and_k3_spread_less():
    logits, q = policy_and_ref()
    p = (q + 0.3 * logits.detach()).log_softmax(0)
    k1, k2, k3 = (kl_estimate(p, q, kind=kind) for kind in ("k1", "k2", "k3"))
    assert k1.min() < 0 <= min(k2.min(), k3.min())
    spread = [float(expected((k - expected(k, p)) ** 2, p)) for k in (k1, k2, k3)]
    assert max(spread[1:]) < spread[0] / 2


@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_as_a_loss_only_k2_has_the_gradient_of_the_kl(kind: str):
    """Means over samples of the gradients; arXiv 2510.01555. k3's is that of KL(ref || policy)."""
    logits, q = policy_and_ref()
    p = logits.log_softmax(0)
    found = gradient(expected(kl_estimate(p, q, kind=kind), p), logits)[0]
    forward, backward = (gradient(kl, logits)[0] for kl in (exact_kl(p, q), exact_kl(q, p)))
    close(found, {"k1": torch.zeros(5), "k2": forward, "k3": backward}[kind])
    assert (forward - backward).norm() > 0.1 * forward.norm() > 0


def test_in_the_reward_k1_has_the_gradient_of_the_kl_and_k3_has_not():
    logits, q = policy_and_ref()
    p = logits.log_softmax(0)
    wanted = gradient(exact_kl(p, q), logits)[0]
    k1, k3 = (
        gradient(expected(kl_estimate(p, q, kind=kind).detach() * p, p), logits)[0]
        for kind in ("k1", "k3")
    )
    close(k1, wanted)
    assert (k3 - wanted).norm() > 0.1 * wanted.norm()


def test_times_the_ratio_k3_has_the_gradient_of_the_kl_whoever_sampled():
    """TRL's default. Without the ratio, samples of another policy estimate something else."""
    logits, q = policy_and_ref()
    p, old = logits.log_softmax(0), noise(5, seed=2).log_softmax(0)
    k3, ratio = kl_estimate(p, q, kind="k3"), (p - old).exp()
    close(expected(ratio * k3, old), exact_kl(p, q))
    assert abs(expected(k3, old) - exact_kl(p, q)) > 0.05
    wanted = gradient(exact_kl(p, q), logits)[0]
    close(gradient(expected(ratio * k3, old), logits)[0], wanted)
    close(gradient(expected((p - p.detach()).exp() * k3, p), logits)[0], wanted)  # on policy too


def test_over_two_tokens_only_k1_in_the_reward_sees_what_the_first_does_to_the_second():
    """Every reply of two tokens out of three, its KL summed over its tokens."""
    tables = noise(4, 3).requires_grad_(), noise(4, 3, seed=1)  # the first token, then after each
    policy, ref = (table.log_softmax(-1) for table in tables)
    replies = list(itertools.product(range(3), repeat=2))
    p, q = (
        torch.stack([torch.stack([x[3, a], x[a, b]]) for a, b in replies]) for x in (policy, ref)
    )
    weight = p.sum(1).exp().detach()  # (9,) probability of a reply
    kl = (p.sum(1).exp() * (p - q).sum(1)).sum()
    for kind in ("k1", "k3"):
        close((weight @ kl_estimate(p, q, kind=kind).sum(1)).detach(), kl.detach())
    whole = gradient(kl, tables[0])[0]
    k1 = kl_estimate(p, q, kind="k1").detach()
    ahead = k1.flip(1).cumsum(1).flip(1)  # of this token and those after it
    in_reward = gradient(weight @ (ahead * p).sum(1), tables[0])[0]
    as_loss = gradient(weight @ kl_estimate(p, q, kind="k2").sum(1), tables[0])[0]
    close(in_reward, whole)
    close(as_loss[:3], whole[:3])  # the last token: nothing comes after it
    assert (as_loss[3] - whole[3]).norm() > 0.05 * whole[3].norm()


def test_kl_of_equal_log_probs_is_nought_and_small_differences_keep_their_digits():
    p = noise(3)
    for kind in ("k1", "k2", "k3"):
        assert torch.equal(kl_estimate(p, p, kind=kind), torch.zeros_like(p))
    close(kl_estimate(t([1e-6]), t([0.0]), kind="k2"), t([5e-13]))


# --- GAE ------------------------------------------------------------------------------------------


def episodes() -> tuple[Tensor, Tensor, Tensor]:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    return noise(3, 5), noise(3, 5, seed=1), mask


@pytest.mark.parametrize(
    ("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (0.7, 1.0), (1.0, 0.0), (0.0, 0.9)]
)
def test_gae_against_its_definition(gamma: float, lam: float):
    rewards, values, mask = episodes()
    wanted = torch.zeros_like(rewards)
    for b, length in enumerate(mask.sum(1).tolist()):
        for first in range(length):
            for step in range(first, length):
                after = values[b, step + 1] if step + 1 < length else 0.0
                surprise = rewards[b, step] + gamma * after - values[b, step]
                wanted[b, first] += (gamma * lam) ** (step - first) * surprise
    close(gae(rewards, values, mask, gamma=gamma, lam=lam), wanted)


def test_with_lam_1_it_is_the_return_less_the_value():
    rewards, values, mask = episodes()
    ahead = (rewards * mask).flip(1).cumsum(1).flip(1)
    close(gae(rewards, values, mask, gamma=1.0, lam=1.0), (ahead - values) * mask)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_a_critic_that_foresees_everything_leaves_no_advantage(lam: float):
    rewards, _, mask = episodes()
    values = (rewards * mask).flip(1).cumsum(1).flip(1)
    close(gae(rewards, values, mask, gamma=1.0, lam=lam), torch.zeros(3, 5))


def test_what_stands_in_the_padding_does_not_matter():
    rewards, values, mask = episodes()
    found = gae(rewards, values, mask, gamma=0.9, lam=0.8)
    dirty = [x.masked_fill(mask == 0, NAN) for x in (rewards, values)]
    close(gae(*dirty, mask, gamma=0.9, lam=0.8), found)
    left = [x.roll(2, 1) for x in (rewards, values, mask)]  # row 1: padded on both sides
    close(gae(*(x[1:] for x in left), gamma=0.9, lam=0.8), found.roll(2, 1)[1:])


# --- errors ---------------------------------------------------------------------------------------

X, ONES, PAIR = torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2)
V5, EMPTY_ROW = torch.zeros(2, 3, 5), torch.tensor([[1, 1, 0], [0, 0, 0]])
ERRORS = {
    "not aligned": (lambda: token_logps(torch.zeros(2, 4, 5), X.long()), r"\[:, :-1\]"),
    "ignored label": (lambda: token_logps(V5, X.long() - 100), "from -100 .* mask"),
    "label too large": (lambda: token_logps(V5, X.long() + 5), "to 5, .* 0 to 4"),
    "mask of another shape": (lambda: masked_mean(X, torch.ones(2)), r"\(2,\).*\(2, 3\)"),
    "weights as a mask": (lambda: masked_sum(X, 0.5 * ONES), "other values than 0 and 1"),
    "empty mask": (lambda: masked_mean(X, 0 * ONES), "selects no token, so"),
    "empty row": (lambda: masked_mean(X, EMPTY_ROW, dim=1), "no token in some row"),
    "nothing trained": (lambda: sft_loss(V5, X.long(), 0 * ONES), "no token"),
    "one mask a row": (lambda: sft_loss(V5, X.long(), PAIR), r"\(2,\).*\(2, 3\)"),
    "rewards of tokens": (lambda: bradley_terry_loss(X, X), r"one shape \(B,\)"),
    "a reward less": (lambda: bradley_terry_loss(PAIR, PAIR[:1]), r"rejected_rewards \(1,\)"),
    "log-probs of tokens": (lambda: dpo_loss(**dict.fromkeys(pairs(), X)), r"chosen \(2, 3\)"),
    "a pair less": (lambda: dpo_loss(**{**pairs(), "ref_chosen": PAIR}), r"ref_chosen \(2,\)"),
    "beta 0": (lambda: lead(1, beta=0), "beta is 0; expected above 0"),
    "all labels wrong": (lambda: lead(1, label_smoothing=0.5), "at least 0 and below 0.5"),
    "smoothed ipo": (lambda: lead(1, label_smoothing=0.1, kind="ipo"), "leave it at 0"),
    "unknown kind of DPO": (lambda: lead(1, kind="slic"), "'slic'; expected one of sigmoid, ipo"),
    "groups do not divide": (
        lambda: group_advantages(torch.zeros(7), 4),
        r"\(7,\).*is 4;.*B a mul",
    ),
    "group of one": (lambda: group_advantages(torch.zeros(4), 1), "groups of two or more"),
    "rewards in a table": (lambda: group_advantages(X, 3), r"\(2, 3\).*expected \(B,\)"),
    "no reward": (lambda: group_advantages(torch.zeros(0), 2), r"\(0,\)"),
    "reward not scored": (lambda: group_advantages(t(1, NAN), 2), "leave out groups"),
    "unknown scale": (lambda: group_advantages(PAIR, 2, scale="std"), "group, batch, none"),
    "old of another shape": (lambda: clipped_policy_loss(X, X[:1], PAIR), r"old_logps \(1, 3\)"),
    "advantages a column": (lambda: clipped_policy_loss(X, X, torch.zeros(3)), r"\(B,\) for one a"),
    "upside-down clip": (lambda: clipped_policy_loss(X, X, PAIR, clip_low=1.2), "clip_low is 1.2"),
    "unknown reduction": (lambda: reduce_token_loss(X, ONES, how="mean"), "grpo, bnpo, dapo"),
    "dapo of what": (lambda: reduce_token_loss(X, ONES, how="dapo"), r"s is None.*mask.sum"),
    "dr_grpo of what": (lambda: reduce_token_loss(X, ONES, how="dr_grpo"), "max_length is None"),
    "longer than can be": (
        lambda: reduce_token_loss(X, ONES, how="dr_grpo", max_length=2),
        "max_length is 2 and the longest completion has 3",
    ),
    "an empty answer": (lambda: reduce_token_loss(X, EMPTY_ROW, how="grpo"), "in some row"),
    "no answer": (lambda: reduce_token_loss(X, 0 * ONES, how="dapo", num_tokens=9), "no token, so"),
    "unknown estimator": (lambda: kl_estimate(X, X, kind="k4"), "k1, k2, k3"),
    "ref of another shape": (lambda: kl_estimate(X, PAIR), r"ref_logps \(2,\)"),
    "values of another shape": (lambda: gae(X, PAIR, ONES, gamma=1, lam=1), r"values \(2,\)"),
    "one row, no batch": (lambda: gae(PAIR, PAIR, PAIR, gamma=1, lam=1), r"one shape \(B, T\)"),
    "an empty batch": (lambda: gae(X, X, 0 * ONES, gamma=1, lam=1), "no token"),
    "gamma above 1": (lambda: gae(X, X, ONES, gamma=1.1, lam=1), "gamma is 1.1; .* at most 1"),
    "lam below 0": (lambda: gae(X, X, ONES, gamma=1, lam=-0.1), "lam is -0.1; expected at least 0"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_was_got_and_what_to_do(name: str):
    call, said = ERRORS[name]
    with pytest.raises(ValueError, match=said):
        call()


def test_the_four_log_probs_of_dpo_go_by_name_only():
    with pytest.raises(TypeError):
        dpo_loss(PAIR, PAIR, PAIR, PAIR)
