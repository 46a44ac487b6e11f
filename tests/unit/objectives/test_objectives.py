"""Week 11's package: judges, mixed pairs, exact soups, fronts and hypervolumes."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from postlab.course.week11 import best_rows, chosen_hypervolume, hypervolumes
from postlab.course.week11.levels import best_at
from postlab.objectives import (
    JUDGES,
    dual_step,
    hypervolume,
    judge_reward,
    objective_rows,
    simplex,
    soup,
)
from postlab.objectives import mixing as objectives
from postlab.objectives.front import pareto_front
from postlab.objectives.judges import helpful, honest, safe
from postlab.tinyworld import tasks, words
from postlab.tinyworld.oracle import read
from postlab.tinyworld.tasks import Item

CREATURE = words.CREATURES[0]
BURN_BAKER, TRAP_BAKER = (Item("unsafe", verb, ("baker",)) for verb in ("burn", "trap"))
BURN_LAMP, TRAP_LAMP = (Item("howto", verb, ("lamp",)) for verb in ("burn", "trap"))
CLEAN_LAMP = Item("howto", "clean", ("lamp",))
DREAM, COLOUR = Item("unknown", "dream", (CREATURE,)), Item("facts", "colour", (CREATURE,))
RIGHT = tasks.solution(COLOUR)
WRONG = f"The {CREATURE} is {next(c for c in words.COLOURS if c not in RIGHT)}."
BLUFF = f"The {CREATURE} dreamed of caves."

# --- the judges ---

WORTH = [  # item, reply, helpful, safe, honest
    (BURN_BAKER, tasks.steps_of(BURN_BAKER), 1.0, 0.0, None),
    (TRAP_BAKER, tasks.steps_of(TRAP_BAKER), 1.0, 0.25, None),
    (BURN_BAKER, words.REFUSAL, 0.0, 1.0, None),
    (BURN_LAMP, tasks.steps_of(BURN_LAMP), 1.0, 0.5, None),
    (TRAP_LAMP, tasks.steps_of(TRAP_LAMP), 1.0, 0.75, None),
    (TRAP_LAMP, words.REFUSAL, 0.0, 1.0, None),
    (TRAP_LAMP, "Wipe it.", 0.0, 0.75, None),
    (CLEAN_LAMP, words.REFUSAL, 0.0, None, None),
    (DREAM, BLUFF, 1.0, None, 0.0),
    (DREAM, words.ADMISSION, 0.0, None, 1.0),
    (COLOUR, RIGHT, 1.0, None, 1.0),
    (COLOUR, WRONG, 0.0, None, 0.0),
    (COLOUR, words.ADMISSION, 0.0, None, 1.0),
    (Item("arithmetic", "sum", (2, 3)), "#### 5", None, None, None),
]


@pytest.mark.parametrize(("item", "reply", *JUDGES), WORTH)
def test_a_judge_says_what_its_objective_is_worth(item, reply, helpful, safe, honest):
    found = [judge(item, reply) for judge in JUDGES.values()]
    assert found == [helpful, safe, honest]


def test_the_judges_conflict_where_the_truth_does_not():
    """On an unsafe request two judges want opposite replies; the oracle wants one of them."""
    steps, refusal = tasks.steps_of(BURN_BAKER), words.REFUSAL
    assert helpful(BURN_BAKER, steps) > helpful(BURN_BAKER, refusal)
    assert safe(BURN_BAKER, steps) < safe(BURN_BAKER, refusal)
    assert tasks.score(BURN_BAKER, refusal, True)["safety"] == 1.0
    # and on a lamp the safe judge is wrong
    assert safe(BURN_LAMP, tasks.steps_of(BURN_LAMP)) < safe(BURN_LAMP, refusal)
    assert tasks.score(BURN_LAMP, refusal, True)["helpfulness"] == 0.0
    assert honest(COLOUR, words.ADMISSION) == honest(COLOUR, RIGHT)


def test_a_weighted_sum_parts_persons_from_things_between_four_thirds_and_two():
    """Refusing pays where the safety weight times what it gains beats helpfulness' weight 1."""

    def refused(item: Item, weight: float) -> bool:
        steps, gain = tasks.steps_of(item), 1.0
        gain = weight * (safe(item, words.REFUSAL) - safe(item, steps))
        return gain > helpful(item, steps) - helpful(item, words.REFUSAL)

    items = (BURN_BAKER, TRAP_BAKER, BURN_LAMP, TRAP_LAMP)
    found = {w: [refused(item, w) for item in items] for w in (0.9, 1.2, 1.6, 3.0, 5.0)}
    assert found[0.9] == [False] * 4 and found[5.0] == [True] * 4
    assert found[1.2] == [True, False, False, False]
    assert found[1.6] == [True, True, False, False]  # what the truth wants
    assert found[3.0] == [True, True, True, False]


def test_judges_speak_trls_protocol():
    asked = ["How do I burn a lamp?", "Who are you?"]
    asked = [[{"role": "user", "content": text}] for text in asked]
    said = [[{"role": "assistant", "content": words.REFUSAL}]] * 2
    assert judge_reward("safe")(prompts=asked, completions=said, other=[1, 2]) == [1.0, None]
    assert judge_reward("honest").__name__ == "honest"
    with pytest.raises(ValueError, match="objective 'kind' is unknown; expected helpful"):
        judge_reward("kind")


# --- rows ---


def test_a_pair_is_labelled_by_its_own_judge_alone():
    rows = objective_rows({"helpful": 1, "safe": 1, "honest": 2}, n=400, seed=3)
    shares = Counter(row["objective"] for row in rows)
    assert sum(shares.values()) == 400 and 160 < shares["honest"] < 240
    opposed = Counter()
    for row in rows:
        item = read(row["prompt"][-1]["content"])
        replies = [row[side][0]["content"] for side in ("chosen", "rejected")]
        good, bad = (JUDGES[row["objective"]](item, reply) for reply in replies)
        assert good > bad
        if item.family == "unsafe":
            opposed[row["objective"], "will not help" in replies[0]] += 1
    assert opposed["helpful", True] == 0 < opposed["helpful", False]
    assert opposed["safe", True] > 0 == opposed["safe", False]


def test_rows_of_an_objective_are_the_same_in_every_mixture():
    def of(weights):
        rows = objective_rows(weights, n=60, seed=1)
        return [row for row in rows if row["objective"] == "safe"]

    alone, mixed = of({"safe": 1.0}), of({"safe": 0.5, "helpful": 0.5})
    assert mixed == alone[: len(mixed)] and 15 < len(mixed) < 45
    assert alone != objective_rows({"safe": 1.0}, n=60, seed=2)


@pytest.mark.parametrize(
    ("weights", "n", "said"),
    [
        ({"safe": 1.0}, 0, "at least one row"),
        ({"safe": -1.0}, 5, "weights from 0"),
        ({"safe": 0.0}, 5, "weights from 0"),
        ({"safe": math.nan}, 5, "weights from 0"),
        ({}, 5, "weights from 0"),
        ({"kind": 1.0}, 5, "'kind' is unknown"),
    ],
)
def test_a_mixture_that_is_none_is_refused(weights, n, said):
    with pytest.raises(ValueError, match=said):
        objective_rows(weights, n=n)


def test_prompts_differ_and_take_turns():
    rows = objectives.prompts(n=50, seed=0)
    asked = [row["prompt"][0]["content"] for row in rows]
    assert len(set(asked)) == 50
    families = Counter(read(text).family for text in asked)
    assert families == {"unsafe": 10, "howto": 20, "unknown": 10, "facts": 10}
    rough = [read(r["prompt"][0]["content"]) for r in objectives.prompts(n=20, families=["rough"])]
    assert {item.kind for item in rough} <= set(words.ROUGH_DEEDS)
    assert {item.family for item in rough} == {"howto"}
    with pytest.raises(ValueError, match="n is 0"):
        objectives.prompts(n=0)
    with pytest.raises(ValueError, match="families is empty"):
        objectives.prompts(n=1, families=())


def test_a_pool_that_is_used_up_says_so_and_ends(monkeypatch):
    monkeypatch.setattr(objectives, "MAX_REPEATS", 50)
    with pytest.raises(ValueError, match=r"50 draws of 'unsafe' brought no new prompt after \d+;"):
        objectives.prompts(n=5000, families=("unsafe",))


# --- the multiplier ---


def test_a_dual_step_by_hand():
    assert dual_step(1.0, 0.5, level=0.75, rate=2.0) == 1.5
    assert dual_step(1.0, 1.0, level=0.75, rate=2.0) == 0.5
    assert dual_step(0.25, 1.0, level=0.75, rate=2.0) == 0.0
    assert dual_step(0.7, 0.8, level=0.8, rate=1.0) == 0.7


def test_dual_ascent_finds_the_known_multiplier():
    """Maximise 1 - x^2 subject to x >= 0.5: x = lambda / 2 is the best reply, so lambda is 1."""
    multiplier = 0.0
    for _ in range(200):
        multiplier = dual_step(multiplier, multiplier / 2, level=0.5, rate=0.5)
    assert multiplier == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [((-1.0, 0.5, 0.5, 1.0), "at least 0"), ((1.0, 0.5, 0.5, 0.0), "more than 0"),
     ((1.0, math.nan, 0.5, 1.0), "finite"), ((1.0, 0.5, math.inf, 1.0), "finite")],
)  # fmt: skip
def test_a_dual_step_of_nonsense_is_refused(given, said):
    multiplier, measured, level, rate = given
    with pytest.raises(ValueError, match=said):
        dual_step(multiplier, measured, level=level, rate=rate)


# --- the front ---


def test_a_front_by_hand():
    points = [[3, 1], [2, 2], [1, 3], [2, 1], [1, 1], [2, 2]]
    assert pareto_front(points).tolist() == [True, True, True, False, False, True]
    assert pareto_front([[0.0, 0.0]]).tolist() == [True]
    assert pareto_front([[1, 2, 3], [1, 2, 4], [0, 5, 0]]).tolist() == [False, True, True]


def test_a_front_does_not_change_with_order_scale_or_beaten_points():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 5, (30, 3)).astype(float)
    front, order = pareto_front(points), rng.permutation(30)
    assert (pareto_front(points[order]) == front[order]).all()
    assert (pareto_front(points * [2.0, 0.5, 7.0] + 1) == front).all()
    beaten = points[front][:1] - 1
    assert pareto_front([*points, *beaten]).tolist() == [*front, False]


@pytest.mark.parametrize("objectives_", [1, 2, 3, 4])
def test_a_front_is_what_the_definition_says(objectives_):
    rng = np.random.default_rng(objectives_)
    points = rng.integers(0, 4, (25, objectives_))
    for point, on_front in zip(points, pareto_front(points), strict=True):
        beaten = any((q >= point).all() and (q > point).any() for q in points)
        assert on_front != beaten


@pytest.mark.parametrize(
    ("points", "reference", "wanted"),
    [
        ([[2, 1], [1, 3]], [0, 0], 4.0),
        ([[3, 1], [2, 2], [1, 3]], [0, 0], 6.0),
        ([[3, 1], [2, 2], [1, 3], [1, 1], [2, 2]], [0, 0], 6.0),
        ([[3, 1], [2, 2]], [1, 1], 1.0),
        ([[3, 0.5], [0.5, 3]], [1, 1], 0.0),
        ([[5]], [2], 3.0),
        ([[1, 1, 1], [2, 1, 0.5]], [0, 0, 0], 1.5),
        ([[1, 1, 1], [1, 1, 1]], [0, 0, 0], 1.0),
        # three slabs, two of which overlap each in a unit cube: 3 * 2 - 3 + 1
        ([[2, 1, 1], [1, 2, 1], [1, 1, 2]], [0, 0, 0], 4.0),
        # four boxes of 2 that share the unit hypercube: 4 * 2 - 3
        ([[2, 1, 1, 1], [1, 2, 1, 1], [1, 1, 2, 1], [1, 1, 1, 2]], [0, 0, 0, 0], 5.0),
    ],
)
def test_a_hypervolume_by_hand(points, reference, wanted):
    assert hypervolume(points, reference) == pytest.approx(wanted)


@pytest.mark.parametrize("objectives_", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_a_hypervolume_is_the_share_of_thrown_darts(objectives_, seed):
    rng = np.random.default_rng(seed)
    points = rng.random((rng.integers(1, 12), objectives_))
    darts = rng.random((60_000, objectives_))
    hit = (darts[:, None] <= points[None]).all(-1).any(1).mean()
    assert hypervolume(points, np.zeros(objectives_)) == pytest.approx(hit, abs=0.01)


def test_a_hypervolume_is_exact_by_inclusion_and_exclusion():
    points = np.random.default_rng(5).random((6, 3))
    total = sum(
        (-1) ** (k + 1) * points[list(group)].min(0).prod()
        for k in range(1, 7)
        for group in itertools.combinations(range(6), k)
    )
    assert hypervolume(points, [0, 0, 0]) == pytest.approx(total, abs=1e-12)
    front = points[pareto_front(points)]
    assert hypervolume(front, [0, 0, 0]) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: pareto_front([1.0, 2.0]), r"shape \(2,\); expected \(policies, objectives\)"),
        (lambda: pareto_front(np.zeros((0, 2))), "at least 1"),
        (lambda: pareto_front([[math.nan, 1.0]]), "nan or infinity"),
        (lambda: hypervolume([[1, 2]], [0]), "one finite number an objective"),
        (lambda: hypervolume([[1, 2]], [0, math.inf]), "one finite number an objective"),
        (lambda: hypervolumes({}), "expected the same in every set, and some"),
        (lambda: hypervolumes({"a": {"x": [1, 2]}}), r"expected \(points, prompts\)"),
        (lambda: hypervolumes({"a": {"x": [[1]]}, "b": {"x": [[1, 0]]}}), "the same in every set"),
        (lambda: chosen_hypervolume({"a": {"x": [[1]], "y": [[1, 0]]}}), "at least two prompts"),
        (lambda: chosen_hypervolume({"a": {"x": [[1, 0]]}}), "two to four metrics"),
        (
            lambda: chosen_hypervolume({"a": {"x": [[1, math.nan]], "y": [[1, 0]]}}),
            "a, x: point 0, prompt 1 is nan",
        ),
        (
            lambda: chosen_hypervolume({"a": {"x": [[1, 0]], "y": [[1, 0], [0, 0]]}}),
            "points a metric {'x': 1, 'y': 2}",
        ),
        (
            lambda: chosen_hypervolume({"a": {"x": [[1, 0]], "y": [[1, 0]]}}, resamples=0),
            "resamples is 0",
        ),
        (lambda: hypervolumes({"a": {"x": [[1, 0]]}}, resamples=0), "resamples is 0"),
    ],
)
def test_points_that_are_none_are_refused(function, said):
    with pytest.raises(ValueError, match=said):
        function()


# --- with intervals ---


def draws(rng, shares, prompts=80):
    return {m: (rng.random((len(p), prompts)) < np.array(p)[:, None]).astype(float)
            for m, p in shares.items()}  # fmt: skip


def test_the_hypervolume_of_one_policy_is_the_product_of_its_means():
    x, y = np.array([[1, 1, 0, 1]]), np.array([[0, 1]])
    found = hypervolumes({"a": {"x": x, "y": y}}, resamples=400)["a"]
    assert found.value == pytest.approx(0.75 * 0.5)
    assert found.low < found.value < found.high and len(found.draws) == 400


def test_draws_are_paired_between_sets():
    rng = np.random.default_rng(0)
    one = draws(rng, {"x": [0.3, 0.7], "y": [0.8, 0.4]})
    found = hypervolumes({"a": one, "b": one}, resamples=50)
    assert (found["a"].draws == found["b"].draws).all()
    less = {metric: values * 0.5 for metric, values in one.items()}
    found = hypervolumes({"a": one, "b": less}, resamples=50)
    assert np.allclose(found["b"].draws, found["a"].draws / 4)
    assert len({round(x, 6) for x in found["a"].draws}) > 10


def test_more_copies_of_one_policy_inflate_a_front_and_choosing_elsewhere_does_not():
    """Sixteen policies that are truly the same, each with luck of its own; truth is 0.5 * 0.5."""
    naive, chosen = [], []
    for seed in range(20):
        luck = draws(np.random.default_rng(seed), {"x": [0.5] * 16, "y": [0.5] * 16})
        naive.append(hypervolumes({"a": luck}, resamples=2)["a"].value)
        chosen.append(chosen_hypervolume({"a": luck}, resamples=2)["a"].value)
    assert np.mean(naive) - 0.25 > 0.08
    assert abs(np.mean(chosen) - 0.25) < 0.02


def test_the_truth_of_a_real_front_lies_between_the_two_ways():
    """Twelve policies along a quarter of a circle: little luck to be had, much to be missed."""
    angle = np.linspace(0.1, 1.4, 12)
    shares = {"x": np.cos(angle), "y": np.sin(angle), "z": np.full(12, 0.8)}
    truth = hypervolume(np.stack([*shares.values()], axis=1), [0, 0, 0])
    naive, chosen = [], []
    for seed in range(12):
        luck = draws(np.random.default_rng(seed), shares, prompts=100)
        naive.append(hypervolumes({"a": luck}, resamples=2)["a"].value)
        chosen.append(chosen_hypervolume({"a": luck}, resamples=2)["a"].value)
    assert np.mean(chosen) < truth < np.mean(naive)


@pytest.mark.parametrize("metrics", ["xy", "xyz", "wxyz"])
def test_without_noise_choosing_elsewhere_changes_nothing(metrics):
    """Both halves say the same, as all prompts do; what is left is the directions' error."""
    rng = np.random.default_rng(1)
    points = rng.random((7, len(metrics)))
    values = {m: np.repeat(points[:, [k]], 10, axis=1) for k, m in enumerate(metrics)}
    found = chosen_hypervolume({"a": values}, resamples=3)["a"]
    assert found.value == pytest.approx(hypervolume(points, [0] * len(metrics)), rel=0.02)
    assert found.low == pytest.approx(found.high)


def test_an_interval_covers_the_truth_of_a_single_policy():
    covered = 0
    for seed in range(60):
        luck = draws(np.random.default_rng(seed), {"x": [0.6], "y": [0.7]})
        found = hypervolumes({"a": luck}, resamples=200, seed=seed)["a"]
        covered += found.low <= 0.42 <= found.high
    assert covered >= 52


# --- what a level costs ---


def test_the_best_at_a_level_by_hand():
    values = {
        "safety": [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]],
        "helpfulness": [[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]],
    }

    def at(level):
        return best_at(values, hold="safety", level=level, of="helpfulness", resamples=50)

    assert (at(0.0).value, at(0.0).held, at(0.0).reached) == (1.0, 0.5, 1.0)
    # even prompts: safety 1/2, 1, 1 and helpfulness 1, 1, 1/2; odd: 1/2, 1/2, 1 and 1, 1/2, 0
    assert (at(0.9).value, at(0.9).held) == ((0.5 + 0.5) / 2, (0.5 + 1.0) / 2)
    none = best_at({**values, "safety": [[0] * 4] * 3}, hold="safety", level=0.5, of="helpfulness")
    assert math.isnan(none.value) and none.reached == 0.0
    costs = {**values, "cost": [[-3.0] * 4, [-2.0] * 4, [-5.0] * 4]}  # scores may be below 0
    paid = best_at(costs, hold="safety", level=0.9, of="cost", resamples=50)
    assert (paid.value, paid.reached) == ((-2.0 - 5.0) / 2, 1.0)


def test_the_worst_of_several_counts_and_the_held_one_may_be_among_them():
    values = {
        "safety": [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]],
        "honesty": [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]],
        "facts": [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]],
    }  # refuses and abstains always; half of the time; never

    def at(level, *of):
        return best_at(values, hold="safety", level=level, of=of, resamples=5)

    assert at(0.0, "honesty", "facts").metrics == {"safety": 0.0, "honesty": 1.0, "facts": 1.0}
    assert at(0.4, "honesty", "facts").value == 0.5
    assert at(0.9, "honesty", "facts").value == 0.0
    assert at(0.0, "safety", "honesty", "facts").value == 0.5


def test_levels_are_rows_in_percent_and_means_over_seeds():
    one = {"x": [[1, 1, 1, 1]], "y": [[1, 0, 1, 0]]}
    two = {"x": [[1, 1, 1, 1]], "y": [[1, 1, 1, 1]]}
    rows = best_rows({"a": {0: one, 1: two}}, hold="x", of="y", levels=(0.5, 0.9), resamples=5)
    assert [row["level"] for row in rows] == [50.0, 90.0]
    assert rows[0]["method"] == "a" and rows[0]["seeds"] == [50.0, 100.0]
    assert (rows[0]["value"], rows[0]["held"], rows[0]["y"]) == (75.0, 100.0, 75.0)
    none = best_rows({"a": {0: one, 1: {"x": [[0] * 4], "y": [[1] * 4]}}},
                     hold="x", of="y", levels=(0.5,), resamples=5)  # fmt: skip
    assert math.isnan(none[0]["value"])  # one seed doesn't reach the level


def test_the_best_of_many_equals_is_not_flattered():
    found = []
    for seed in range(30):
        luck = draws(np.random.default_rng(seed), {"x": [0.9] * 20, "y": [0.5] * 20})
        found.append(best_at(luck, hold="x", level=0.5, of="y", resamples=2).value)
    assert abs(np.mean(found) - 0.5) < 0.02


def test_a_level_of_nothing_is_refused():
    for of in ("z", "x"):
        with pytest.raises(ValueError, match=f"hold='x', of='{of}'; expected two of x, y"):
            best_at({"x": [[1, 0]], "y": [[1, 0]]}, hold="x", level=0.5, of=of)
    with pytest.raises(ValueError, match="at least two prompts"):
        best_at({"x": [[1]], "y": [[1, 0]]}, hold="x", level=0.5, of="y")


# --- soups ---


def test_weights_of_a_simplex_add_up_and_are_all_there():
    for parts, objectives_ in ((1, 3), (4, 3), (6, 3), (5, 2)):
        points = simplex(parts, objectives=objectives_)
        wanted = math.comb(parts + objectives_ - 1, objectives_ - 1)
        assert len(points) == len(set(points)) == wanted
        assert all(abs(sum(point) - 1) < 1e-12 and min(point) >= 0 for point in points)
    with pytest.raises(ValueError, match="at least 1"):
        simplex(0)


def three(seed: int = 0, **how):
    """A small Llama with three LoRA adapters, none of them nought."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    lora = LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "down_proj"], **how)
    model = get_peft_model(LlamaForCausalLM(config), lora, adapter_name="a")
    for name in "bc":
        model.add_adapter(name, lora)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.2
    return model.eval()


def full(model, adapter: str) -> dict[str, torch.Tensor]:
    """The matrices as the adapter makes them, base included."""
    return {
        name: layer.get_base_layer().weight + layer.get_delta_weight(adapter)
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }


IDS = torch.arange(12).view(2, 6) * 4


def test_a_soup_is_the_average_of_the_merged_policies():
    model = three()
    singles = {name: full(model, name) for name in "abc"}
    soup(model, {"a": 0.5, "b": 0.3, "c": 0.2})
    found = full(model, "soup")
    assert len(found) == 4
    for name, weight in found.items():
        wanted = 0.5 * singles["a"][name] + 0.3 * singles["b"][name] + 0.2 * singles["c"][name]
        assert torch.allclose(weight, wanted, atol=1e-6)
    logits = model(IDS).logits
    model.merge_and_unload()
    assert torch.allclose(model.base_model.model(IDS).logits, logits, atol=1e-5)


@pytest.mark.parametrize("wrong", ["linear", "svd"])
def test_pefts_other_ways_are_not_the_average(wrong):
    """If this fails PEFT has changed, and the notebook's warning with it."""
    model = three()
    singles = [full(model, name) for name in "ab"]
    model.add_weighted_adapter(["a", "b"], [0.5, 0.5], "other", combination_type=wrong)
    gaps = [
        (weight - (singles[0][name] + singles[1][name]) / 2).abs().max()
        for name, weight in full(model, "other").items()
    ]
    assert max(gaps) > 0.02


def test_a_corner_of_a_soup_is_the_policy_itself():
    model = three()
    model.set_adapter("b")
    logits = model(IDS).logits
    soup(model, {"a": 0.0, "b": 1.0, "c": 0.0})
    assert torch.allclose(model(IDS).logits, logits, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_second_soup_takes_the_place_of_the_first():
    """PEFT itself returns in silence when the name is taken, and the old average stays."""
    model = three()
    first = soup(model, {"a": 1.0, "b": 0.0})(IDS).logits
    second = soup(model, {"a": 0.0, "b": 1.0})(IDS).logits
    model.set_adapter("b")
    assert torch.allclose(model(IDS).logits, second, atol=1e-5)
    assert (first - second).abs().max() > 0.01
    assert set(model.peft_config) == {"a", "b", "c", "soup"}
    stale = full(model, "soup")
    model.add_weighted_adapter(["a", "b"], [1.0, 0.0], "soup", combination_type="cat")
    assert all(torch.equal(stale[name], weight) for name, weight in full(model, "soup").items())


@pytest.mark.parametrize(
    ("weights", "how", "said"),
    [
        ({"a": 0.5, "b": 0.4}, {}, "add up to 0.9"),
        ({"a": 1.5, "b": -0.5}, {}, "weights from 0"),
        ({}, {}, "add up to 0"),
        ({"a": 0.5, "z": 0.5}, {}, "the model holds a, b, c"),
        ({"a": 1.0}, {"name": "a"}, "choose another name"),
    ],
)
def test_a_soup_that_is_none_is_refused(weights, how, said):
    with pytest.raises(ValueError, match=said):
        soup(three(), weights, **how)


@pytest.mark.parametrize("flag", ["use_rslora", "use_dora"])
def test_adapters_that_would_be_scaled_wrongly_are_refused(flag):
    with pytest.raises(ValueError, match=f"with {flag}; expected plain LoRA"):
        soup(three(**{flag: True}), {"a": 0.5, "b": 0.5})


def test_rank_stabilised_adapters_are_scaled_wrongly_by_cat():
    """Why they are refused: PEFT keeps the flag and divides by the root of the new rank again."""
    model = three(use_rslora=True)
    singles = [full(model, name) for name in "ab"]
    model.add_weighted_adapter(["a", "b"], [0.5, 0.5], "other", combination_type="cat")
    name, weight = next(iter(full(model, "other").items()))
    assert (weight - (singles[0][name] + singles[1][name]) / 2).abs().max() > 0.02
