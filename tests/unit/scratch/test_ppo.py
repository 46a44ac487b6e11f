"""PPO from scratch: hand-worked numbers, what moves and what stays, and a world enumerated."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from postlab.scratch import ppo
from postlab.scratch.losses import gae, token_logps
from postlab.scratch.sampling import Rollouts, TableLM, completion_states, pack, sample

V = 3  # tokens of the enumerable world: nine completions of two tokens


def table_lm(seed: int = 0, spread: float = 1.0) -> TableLM:
    """A `TableLM` with random logits."""
    model, generator = TableLM(V), torch.Generator().manual_seed(seed)
    model.table.weight.data = spread * torch.randn(model.table.weight.shape, generator=generator)
    return model


def every_completion() -> Rollouts:
    return pack([[V]] * V**2, [[a, b] for a in range(V) for b in range(V)])


def distribution(model: TableLM) -> torch.Tensor:
    """(9,) probability of each completion, by enumeration."""
    with torch.no_grad():
        logits, _ = completion_states(model, every_completion())
        return token_logps(logits, every_completion().completions).sum(dim=1).exp()


def setting(seed: int = 0, **groups: float) -> dict:
    """A policy equal to its reference, a critic and an optimizer; `lr` and `value_lr` in groups."""
    ref = table_lm(seed)
    policy, head = copy.deepcopy(ref), ppo.ValueHead(V + 1)
    optimizer = torch.optim.SGD(
        [
            {"params": list(policy.parameters()), "lr": groups.get("lr", 0.1)},
            {"params": list(head.parameters()), "lr": groups.get("value_lr", 0.1)},
        ]
    )
    return {"policy": policy, "ref": ref, "value_head": head, "optimizer": optimizer}


def step(made: dict, rollouts: Rollouts, scores: torch.Tensor, **options) -> dict[str, float]:
    models = {name: made[name] for name in ("ref", "value_head", "optimizer")}
    options = {"beta": 0.1, "generator": torch.Generator().manual_seed(0)} | options
    return ppo.ppo_step(made["policy"], rollouts, scores, **models, **options)


def moved(made: dict, name: str, before: dict) -> bool:
    after = made[name].state_dict()
    return any(not torch.equal(after[key], before[name][key]) for key in after)


def states(made: dict) -> dict:
    return {
        name: copy.deepcopy(made[name].state_dict()) for name in ("policy", "ref", "value_head")
    }


# --- hand-worked numbers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lam", "expected"),
    # deltas: 0 + 0.6 - 0.5 = 0.1, 0 + 0.2 - 0.6 = -0.4, 1 + 0 - 0.2 = 0.8
    [(0.0, [0.1, -0.4, 0.8]), (1.0, [0.5, 0.4, 0.8]), (0.5, [0.1, 0.0, 0.8])],
)
def test_gae_of_a_reply_of_three_tokens(lam: float, expected: list[float]):
    rewards = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    values = torch.tensor([[0.5, 0.6, 0.2, 7.0]])  # the last one is padding
    mask = torch.tensor([[1, 1, 1, 0]])
    advantages = gae(rewards, values, mask, gamma=1.0, lam=lam)
    torch.testing.assert_close(advantages, torch.tensor([[*expected, 0.0]]))


def test_the_token_rewards_of_a_reply_add_up_to_its_penalised_score():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    logps = torch.tensor([[-1.0, -2.0, -3.0], [-0.5, 9.0, 9.0]])
    ref_logps = torch.tensor([[-1.5, -1.0, -4.0], [-1.5, 5.0, 5.0]])
    scores = torch.tensor([2.0, -1.0])
    rewards = ppo.token_rewards(scores, mask, logps=logps, ref_logps=ref_logps, beta=0.5)
    # row 1: -0.5 * (0.5, -1, 1), and 2 more at the end; row 2: -0.5 * 1 - 1
    assert rewards.tolist() == [[-0.25, 0.5, 1.5], [-1.5, 0.0, 0.0]]


def test_whitening_sees_only_masked_tokens():
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    x = torch.tensor([[0.0, 4.0, 100.0], [0.0, 4.0, -7.0]])
    assert ppo.whiten(x, mask).tolist() == [[-1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]]


def test_whitening_equal_values_gives_noughts_and_no_nan():
    assert ppo.whiten(torch.full((2, 2), 3.0), torch.ones(2, 2)).abs().max() == 0.0


def test_the_critic_earns_nothing_beyond_the_clip():
    old, returns = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    losses, slopes = [], []
    for start in (0.1, 0.5):
        value = torch.tensor([[start]], requires_grad=True)
        loss = ppo.clipped_value_loss(value, returns, old_values=old)
        loss.sum().backward()
        losses.append(round(loss.item(), 4))
        slopes.append(round(value.grad.item(), 4))
    assert losses == [0.405, 0.32]  # 0.9**2 / 2 inside the clip, 0.8**2 / 2 for all beyond it
    assert slopes == [-0.9, 0.0]


def test_a_critic_may_always_mend_its_errors():
    """A value that moved beyond the clip the wrong way is not clipped: the larger loss counts."""
    value = torch.tensor([[-0.5]], requires_grad=True)
    old, returns = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    ppo.clipped_value_loss(value, returns, old_values=old).sum().backward()
    assert value.grad.item() == -1.5


# --- batches and sampling -------------------------------------------------------------------------


def test_ended_looks_at_the_last_real_token():
    batch = pack([[7], [7], [7]], [[1, 2], [2], [2, 1]])
    assert batch.ended(2).tolist() == [True, True, False]
    assert batch.rows(torch.tensor([2, 0])).ended(2).tolist() == [False, True]


def test_sampling_stops_at_the_end_and_pads_behind_it():
    model = table_lm(spread=1.0)
    rollouts = sample(model, [[V]] * 64, eos=2, max_new_tokens=6, generator=torch.manual_seed(0))
    for tokens, mask in zip(rollouts.completions.tolist(), rollouts.mask.tolist(), strict=True):
        length = sum(mask)
        assert mask == [1] * length + [0] * (len(mask) - length)
        assert 2 not in tokens[: length - 1] and not any(tokens[length:])
        assert tokens[length - 1] == 2 or length == 6
    assert rollouts.ended(2).any() and not rollouts.ended(2).all()


def test_samples_come_as_often_as_the_model_says():
    model, n = table_lm(), 20_000
    drawn = sample(model, [[V]] * n, eos=None, max_new_tokens=2, generator=torch.manual_seed(0))
    index = drawn.completions @ torch.tensor([V, 1])
    seen = torch.bincount(index, minlength=V**2) / n
    error = (distribution(model) * (1 - distribution(model)) / n).sqrt()
    assert ((seen - distribution(model)).abs() < 4 * error).all()


def test_a_real_model_says_the_same_padded_cached_or_alone():
    """Left padding, the cache and the shift by one, on the embedded base."""
    from transformers import AutoModelForCausalLM

    from postlab.models import tiny_base

    model = AutoModelForCausalLM.from_pretrained(tiny_base(), dtype=torch.float32).eval()
    prompts = [[1, 40, 41, 42, 43, 44, 45], [1, 50]]
    generator = torch.Generator().manual_seed(0)
    rollouts = sample(model, prompts, eos=None, max_new_tokens=5, generator=generator)
    again = torch.Generator().manual_seed(0)
    with torch.no_grad():
        logits, hidden = completion_states(model, rollouts)
        for t in range(5):  # the cache's logits drew these tokens: draw them again from these
            drawn = torch.multinomial(logits[:, t].softmax(-1), 1, generator=again)
            assert torch.equal(drawn[:, 0], rollouts.completions[:, t])
        for b, prompt in enumerate(prompts):
            alone = torch.tensor([prompt + rollouts.completions[b].tolist()])
            out = model(input_ids=alone, output_hidden_states=True)
            before = slice(len(prompt) - 1, -1)
            torch.testing.assert_close(logits[b], out.logits[0, before], atol=1e-4, rtol=1e-4)
            states = out.hidden_states[-1][0, before]
            torch.testing.assert_close(hidden[b], states, atol=1e-4, rtol=1e-4)


# --- what moves and what stays --------------------------------------------------------------------


def test_policy_and_critic_move_and_the_reference_stays():
    made = setting()
    before, batch = states(made), every_completion()
    step(made, batch, torch.arange(9.0))
    assert moved(made, "policy", before) and moved(made, "value_head", before)
    assert not moved(made, "ref", before)


def test_the_critics_errors_never_reach_the_policy():
    """All replies earn the same: no advantage is left, but the critic has everything to learn."""
    made = setting()
    before = states(made)
    step(made, every_completion(), torch.ones(9), beta=0.0, lam=1.0)
    assert moved(made, "value_head", before) and not moved(made, "policy", before)


def test_what_was_never_sampled_moves_only_through_the_softmax():
    """The table's row of token 2 is in no context of these replies: its logits stay."""
    made = setting()
    before = states(made)["policy"]["table.weight"]
    step(made, pack([[V]] * 3, [[0, 0], [0, 1], [1, 2]]), torch.tensor([1.0, 0.0, 0.5]))
    changed = (made["policy"].table.weight != before).any(dim=1).tolist()
    assert changed == [True, True, False, True]  # after 0, after 1, after 2, at the start


def test_a_rewarded_reply_becomes_more_likely():
    made, before = setting(), distribution(table_lm())
    scores = torch.zeros(9)
    scores[4] = 1.0
    step(made, every_completion(), scores, beta=0.0)
    times = distribution(made["policy"]) / before
    assert times.argmax() == 4 and times[4] > 1.02


def test_without_a_score_beta_pulls_the_policy_back():
    made = setting(lr=0.3)
    made["policy"].table.weight.data += table_lm(seed=1).table.weight.data
    generator, log = torch.Generator().manual_seed(0), []
    for _ in range(60):
        prompts = [[V]] * 128
        batch = sample(made["policy"], prompts, eos=None, max_new_tokens=2, generator=generator)
        log.append(step(made, batch, torch.zeros(128), beta=1.0)["kl"])
    assert sum(log[-5:]) / 5 < 0.2 * sum(log[:5]) / 5


def test_padding_changes_nothing():
    short = pack([[V], [V]], [[0, 1], [2]])
    ids = torch.cat([short.ids, torch.tensor([[1], [1]])], dim=1)
    nothing = torch.zeros(2, 1, dtype=torch.long)
    longer = Rollouts(
        ids, torch.cat([short.attention, nothing], 1), torch.cat([short.mask, nothing], 1)
    )
    scores, made = torch.tensor([1.0, -1.0]), [setting(), setting()]
    stats = [step(m, batch, scores) for m, batch in zip(made, (short, longer), strict=True)]
    assert stats[0] == pytest.approx(stats[1], rel=1e-6)
    for name in ("policy", "value_head"):
        for one, other in zip(*(m[name].parameters() for m in made), strict=True):
            torch.testing.assert_close(one, other)


def test_the_clip_waits_for_the_second_update():
    scores, batch = torch.arange(9.0), every_completion()
    first = step(setting(lr=5.0), batch, scores, epochs=1, minibatches=1)
    later = step(setting(lr=5.0), batch, scores, epochs=4, minibatches=1)
    assert first["clip_fraction"] == 0.0 and later["clip_fraction"] > 0.2


def test_the_statistics_of_a_batch_that_can_be_counted():
    made = setting()
    made["policy"].table.weight.data.zero_()  # a third for each token
    made["ref"].table.weight.data.zero_()
    batch = pack([[V]] * 2, [[0, 1], [2]])
    found = step(made, batch, torch.tensor([1.0, 3.0]), beta=0.0, epochs=1, minibatches=1)
    assert (found["reward"], found["kl"], found["length"]) == (2.0, 0.0, 1.5)
    assert found["entropy"] == pytest.approx(math.log(3))
    # lambda 0.95: returns 0.95, 1 and 3, all of it unforeseen by a critic that says 0
    assert found["value_loss"] == pytest.approx((0.95**2 + 1 + 9) / 6)
    assert found["explained_variance"] == pytest.approx(0.0, abs=1e-6)


# --- the optimum ----------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_ppo_reaches_the_closed_form_optimum(beta: float):
    """pi*(y) = ref(y) exp(r(y) / beta) / Z over all nine completions."""
    ref, rewards = table_lm(seed=3), torch.rand(9, generator=torch.Generator().manual_seed(4))
    policy = copy.deepcopy(ref)
    optimum = (distribution(ref).log() + rewards / beta).softmax(dim=0)
    ppo.train(
        policy,
        [[V]],
        lambda rollouts: rewards[rollouts.completions @ torch.tensor([V, 1])],
        ref=ref,
        value_head=ppo.ValueHead(V + 1),
        eos=None,
        steps=80,
        beta=beta,
        lr=0.08,
        value_lr=0.05,
        batch_size=128,
        max_new_tokens=2,
    )
    start, end = (0.5 * (distribution(m) - optimum).abs().sum().item() for m in (ref, policy))
    assert end < 0.02 and end < start / 4


def test_the_same_seed_gives_the_same_run():
    logs = []
    for _ in range(2):
        ref = table_lm()
        logs.append(
            ppo.train(
                copy.deepcopy(ref),
                [[V]],
                lambda rollouts: rollouts.completions[:, 0].float(),
                ref=ref,
                value_head=ppo.ValueHead(V + 1),
                eos=2,
                steps=3,
                beta=0.1,
                lr=0.1,
                batch_size=8,
                max_new_tokens=3,
                seed=5,
            )
        )
    assert logs[0] == logs[1] and len(logs[0]) == 3


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (torch.zeros(9, 2), r"\(9, 2\).*one finite number for each of 9"),
        (torch.tensor([math.nan] + [0.0] * 8), r"1 values that are not finite"),
    ],
)
def test_scores_that_are_not_one_number_a_reply(scores: torch.Tensor, said: str):
    with pytest.raises(ValueError, match=said):
        step(setting(), every_completion(), scores)


@pytest.mark.parametrize(
    ("prompts", "completions", "said"),
    [
        ([[1]], [], "1 prompts and 0 completions"),
        ([], [], "prompts is empty"),
        ([[1], []], [[1], [1]], "prompts has no token in row 1"),
        ([[1]], [[]], "completions has no token in row 0"),
    ],
)
def test_batches_that_cannot_be_packed(prompts: list, completions: list, said: str):
    with pytest.raises(ValueError, match=said):
        pack(prompts, completions)


def test_no_token_to_sample():
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        sample(table_lm(), [[V]], eos=None, max_new_tokens=0)
