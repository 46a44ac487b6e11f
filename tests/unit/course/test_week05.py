"""Week 5's figures say what they draw; its functions and record say where numbers come from."""

from __future__ import annotations

import json
import math
import random
import re
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from modules import module_at

from postlab.course.week05 import compare_arms, figures, run_scores, ultrafeedback_sample
from postlab.datasets import preference_rows
from postlab.profile import data_dir
from postlab.scratch.losses import dpo_loss
from postlab.scratch.preferences import implicit_margins, length_bias

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOK = ROOT / "notebooks" / "src" / "week05_dpo_ultrafeedback.py"
EXPERIMENT = ROOT / "notebooks" / "experiments" / "week05_preferences.py"
LOSSES = module_at(EXPERIMENT.with_name("week05_losses.py"), "week05_losses")
RECORDED = data_dir() / "results" / "week05" / "preferences.json"


def title(figure) -> str:
    return " ".join(figure._suptitle.get_text().replace("\N{MINUS SIGN}", "-").split())


def test_margins_are_those_inside_the_dpo_loss():
    policy, ref = -torch.rand(2, 6, 4)
    mask = (torch.arange(4) < torch.tensor([[4], [2], [3], [1], [4], [2]])).long()
    found = implicit_margins(policy, ref, mask, beta=0.3)
    sums = {"policy": (policy * mask).sum(1), "ref": (ref * mask).sum(1)}
    sides = {f"{n}_{s}": v for n, x in sums.items() for s, v in
             zip(("chosen", "rejected"), x.chunk(2), strict=True)}  # fmt: skip
    loss = dpo_loss(**sides, beta=0.3)
    assert torch.allclose(-torch.nn.functional.logsigmoid(found), loss, atol=1e-6)


def test_a_policy_that_is_its_reference_has_no_margins():
    logps = -torch.rand(4, 3)
    assert not implicit_margins(logps, logps, torch.ones(4, 3), beta=9.0).any()


def test_length_bias_finds_the_line_that_made_the_margins_whatever_is_added():
    extra = torch.tensor([-3, 0, 1, 8])
    slope, intercept = length_bias(0.25 * extra + 2, extra)
    assert slope.item() == pytest.approx(0.25) and intercept.item() == pytest.approx(2)
    slope, intercept = length_bias(0.25 * extra + 7, extra)
    assert slope.item() == pytest.approx(0.25) and intercept.item() == pytest.approx(7)


def test_the_title_of_log_probs_goes_from_first_to_last_step():
    rows = [
        {"arm": "a", "seed": seed, "step": step, "logps/chosen": -1.0 - step, "logps/rejected": -9}
        for step in (0, 5)
        for seed in (0, 1)
    ]
    assert "a -1.0 to -6.0" in title(figures.plot_logps(pd.DataFrame(rows), ["a"]))


def test_the_headline_of_arms_is_the_first_measures_means():
    frame = pd.DataFrame({"arm": ["a", "a", "b"], "seed": [0, 1, 0], "kl": [1.0, 2.0, 4.0]})
    assert title(figures.plot_arms(frame, ["a", "b"], {"kl": "KL"})) == "KL: a 1.50; b 4.00"


def test_the_title_of_the_grid_counts_the_cells_below_the_start():
    grid = pd.DataFrame(
        {"rate": r, "beta": b, "score": s, "kl": 0.1, "chosen": s == 0.9}
        for r, b, s in ((1e-4, 0.5, 0.7), (1e-4, 5, 0.9), (1e-2, 0.5, 0.1), (1e-2, 5, 0.59))
    )
    figure = figures.plot_grid(grid, start=0.6)
    assert title(figure).startswith("2 of 4 combinations") and "(60%)" in title(figure)
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(cells) == ["10%\ncollapsed", "59%\ncollapsed", "70%", "90%\nbest in tuning"]


def three_arms() -> pd.DataFrame:
    by_seed = {"DPO": (0.7, 0.72, 0.69), "good": (0.8, 0.83, 0.78), "same": (0.71, 0.71, 0.7)}
    return pd.DataFrame(
        {"loss": arm, "seed": seed, "score": score}
        for arm, scores in by_seed.items()
        for seed, score in enumerate(scores)
    )


def test_arms_are_compared_by_seed_in_whatever_order_the_runs_come():
    table = compare_arms(three_arms(), "DPO", arm="loss")
    shuffled = compare_arms(three_arms().sample(frac=1, random_state=1).sort_values(
        "loss", key=lambda names: names.map({"DPO": 0, "good": 1, "same": 2}), kind="stable"
    ), "DPO", arm="loss")  # fmt: skip
    pd.testing.assert_frame_equal(table, shuffled)
    assert table.loc["good", "difference"] == pytest.approx(0.1)
    assert table.loc["good", "p"] < 0.05 < table.loc["same", "p"]
    assert (table["low"] < table["difference"]).all() and (
        table["difference"] < table["high"]
    ).all()


def test_a_runs_score_weighs_every_family_the_same():
    run = {"arm": "a", "seed": 0, "log": {"loss": [1]}}
    run["heldout"] = {"facts": [1, 0], "safety": [1] * 9, "kl": []}  # the KL wasn't measured
    frame = run_scores([run], ["facts", "safety"])
    assert frame["score"].tolist() == [0.75] and not {"log", "kl"} & set(frame)


def test_margins_name_the_share_above_nought_and_the_worst_group():
    said = title(figures.plot_margins({"sums": [-1.0, 1.0], "facts": [1.0, 2.0]}))
    assert said.startswith("75% of 4 held-out pairs") and said.endswith("50% of those on sums")


def test_a_length_line_says_its_slope():
    said = title(figures.plot_length([0, 1, 2], [1, 2, 3], slope=1.0, intercept=1.0))
    assert "+1.00 of margin; 1.0 at equal length" in said


def test_a_reply_said_twice_is_longer_and_the_row_else_the_same():
    experiment = module_at(EXPERIMENT, "week05_preferences")
    row = {"prompt": 1, "chosen": [{"role": "assistant", "content": "Yes."}], "rejected": 2}
    found = experiment.said_twice(row)
    assert found["chosen"][0]["content"] == "Yes. Yes." and row["chosen"][0]["content"] == "Yes."
    assert found["prompt"] == 1 and found["rejected"] == 2


@pytest.mark.skipif(not RECORDED.is_file(), reason=f"{RECORDED.name} is not recorded")
def test_the_recorded_run_says_where_it_comes_from():
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    wanted = {"command", "commit", "seeds", "date", "device", "versions"}
    assert wanted <= set(recorded["provenance"]) and RECORDED.stat().st_size < 400_000
    runs = pd.DataFrame(recorded["runs"])
    assert set(runs["arm"]) == set(recorded["arms"])
    assert (runs.groupby("arm")["seed"].nunique() == len(recorded["provenance"]["seeds"])).all()


@pytest.mark.skipif(not RECORDED.is_file(), reason=f"{RECORDED.name} is not recorded")
def test_every_recorded_run_met_the_same_pairs_and_prompts():
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    pairs = len(recorded["pairs_family"])
    assert pairs == recorded["settings"]["heldout_pairs"]
    before = recorded["pairs_before"]
    assert {len(logps) for logps in before.values()} == {pairs}
    prompts = [{k: len(scores) for k, scores in r["prompts"].items()} for r in recorded["runs"]]
    assert all(each == prompts[0] for each in prompts)
    for run in recorded["runs"]:
        assert run["pairs"].keys() == before.keys()
        assert {len(logps) for logps in run["pairs"].values()} == {pairs}


def test_settings_are_chosen_on_prompts_that_no_result_uses():
    ids = {part: {row["id"] for row in LOSSES.prompts(part)} for part in ("tuning", "heldout")}
    assert not ids["tuning"] & ids["heldout"]
    for part, found in ids.items():
        n = LOSSES.SETTINGS[f"{part}_prompts_a_family"]
        assert len(found) == n * len(LOSSES.FAMILIES)


def test_every_loss_has_as_many_trials_and_the_same_pairs_in_a_step():
    assert {len(spec["betas"]) for spec in LOSSES.LOSSES.values()} == {2}
    assert set(LOSSES.RATES) <= set(LOSSES.GRID["rates"])
    assert set(LOSSES.LOSSES["DPO"]["betas"]) <= set(LOSSES.GRID["betas"])  # its trials are cells
    for loss in LOSSES.LOSSES:
        found = LOSSES.arguments(loss, 1e-3, 2.0)
        replies = 2 if loss == "KTO" else 1
        assert found["per_device_train_batch_size"] == replies * LOSSES.SETTINGS["pairs_a_step"]
        assert found["max_steps"] == LOSSES.SETTINGS["steps"] and found["learning_rate"] == 1e-3
    assert LOSSES.arguments("SimPO", 1e-3, 2.0)["simpo_gamma"] == 1.0


def test_the_record_of_trained_losses_is_whole():
    record = json.loads(RECORDED.with_name("losses.json").read_text(encoding="utf-8"))
    assert len(record["grid"]) == len(LOSSES.GRID["rates"]) * len(LOSSES.GRID["betas"])
    trials = pd.DataFrame(record["trials"]).groupby("loss").size()
    assert set(trials.index) == set(LOSSES.LOSSES) and set(trials) == {4}
    assert set(record["best"]) == set(LOSSES.LOSSES)
    if "runs" in record:
        runs = pd.DataFrame(record["runs"])
        assert (runs.groupby("loss")["seed"].nunique() == len(LOSSES.SEEDS)).all()
    measured = [*record["grid"], *record.get("runs", [])]
    prompts = [{k: len(v) for k, v in run["heldout"].items()} for run in measured]
    assert all(each == prompts[0] for each in prompts)


def cell(*parts: str) -> str:
    """The notebook's first code cell that contains all parts."""
    cells = re.split(r"^# %%.*\n", NOTEBOOK.read_text(encoding="utf-8"), flags=re.M)
    return next(text for text in cells if all(part in text for part in parts))


def test_the_sample_has_ultrafeedbacks_fields_and_scores():
    rows = ultrafeedback_sample()
    assert all(len(row["completions"]) == 4 for row in rows)
    for row in rows:
        assert row["models"] == [reply["model"] for reply in row["completions"]]
        for reply in row["completions"]:
            ratings = [kind["Rating"] for kind in reply["annotations"].values()]
            assert len(ratings) == 4 and set(ratings) <= {*"12345", "N/A"}
            assert 1 <= reply["overall_score"] <= 10
    trout = rows[5]["completions"][3]  # "2 N/A 2 1"
    assert trout["fine-grained_score"] == pytest.approx(5 / 3)


def binarisers() -> dict:
    space = {"pd": pd, "Path": Path, "preference_rows": preference_rows, "raw": []}
    for code in (cell("def binarise("), cell("def loaded("), cell("def binarise_cleaned(")):
        exec(code.split("\n\nrng =")[0].split("\n\nusable =")[0], space)  # only our own source
    return space


@pytest.mark.parametrize("seed", range(5))
def test_binarising_takes_the_best_and_another_reply(seed):
    space, rows, rng = binarisers(), ultrafeedback_sample(), random.Random(seed)
    for row in rows:
        pair = space["binarise"](row, rng)
        scores = sorted((reply["overall_score"] for reply in row["completions"]), reverse=True)
        assert pair["score_chosen"] == scores[0] and pair["score_rejected"] in scores[1:]
    buggy = space["binarise"](rows[1], rng)
    assert buggy["score_chosen"] == 10 and "max(" in buggy["chosen"][-1]["content"]


@pytest.mark.parametrize("seed", range(5))
def test_the_cleaned_pairs_differ_in_rating_and_leave_ties_and_the_benchmark_out(seed):
    space, rng = binarisers(), random.Random(seed)
    pairs = [space["binarise_cleaned"](row, rng) for row in ultrafeedback_sample()]
    assert [place for place, pair in enumerate(pairs) if pair is None] == [3, 7]
    kept = [pair for pair in pairs if pair]
    assert all(pair["chosen-rating"] > pair["rejected-rating"] for pair in kept)
    assert "set(" in pairs[1]["chosen"][-1]["content"]  # the buggy score has no say


def test_preference_rows_drops_equal_and_empty_replies_and_no_other_fault():
    space, rng = binarisers(), random.Random(36)
    usable = space["loaded"]([space["binarise"](row, rng) for row in ultrafeedback_sample()])
    assert len(usable) == 6
    assert sorted(usable.dropped.values()) == [1, 1]
    assert set(usable.unused) == {"prompt_id", "score_chosen", "score_rejected"}
    with pytest.raises(ValueError, match="chosen"):
        space["loaded"](ultrafeedback_sample())


class Gather:
    """As much of an accelerator as a loss needs on one process."""

    device = torch.device("cpu")

    def gather(self, x):
        return x

    gather_for_metrics = gather


def trl_loss(trainer: type, kind: str, **settings) -> float:
    """What TRL's trainer computes for the notebook's pair, from logits with its log-probs."""
    ids = torch.ones(2, 7, dtype=torch.long)
    mask = torch.tensor([[0, 1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1, 1]])
    logps = torch.tensor([-1.0, -1.5]).double()[:, None].expand(2, 7)  # 4 * -1 and 6 * -1.5
    logits = torch.stack([torch.log1p(-logps.exp()), logps], dim=-1)

    def model(**_):
        return SimpleNamespace(logits=logits)

    own = SimpleNamespace(
        model=SimpleNamespace(training=False), accelerator=Gather(), use_liger_kernel=False,
        aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=True, use_weighting=False,
        f_divergence_type="reverse_kl", loss_types=[kind], loss_weights=[1.0], loss_type=kind,
        beta=0.1, label_smoothing=0.0, _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0, calculate_KL=False, desirable_weight=1.0, undesirable_weight=1.0,
        _compute_kl_logps=lambda *_: None,
    )  # fmt: skip
    vars(own).update(settings)
    ref = torch.tensor([-5.0, -5.0]).double()
    inputs = {"input_ids": ids, "attention_mask": ids, "completion_mask": mask}
    inputs |= {"ref_chosen_logps": ref[:1], "ref_rejected_logps": ref[1:], "ref_logps": ref}
    if trainer.__name__ == "KTOTrainer":
        inputs["label"] = torch.tensor([True, False])
    return float(trainer._compute_loss(own, model, inputs, False))


def losses_of_the_cell() -> dict[str, float]:
    space = {"torch": torch, "logsigmoid": torch.nn.functional.logsigmoid}
    exec(cell("def pair_losses(").split("\n\npair =")[0], space)  # only our own source
    pair = (torch.tensor(logp, dtype=torch.double) for logp in (-4.0, -9.0))
    return {name: float(loss) for name, loss in space["pair_losses"](*pair).items()}


@pytest.mark.parametrize(
    ("name", "trainer", "kind", "settings"),
    [
        ("DPO", "DPOTrainer", "sigmoid", {}),
        ("DPO", "DPOTrainer", "sigmoid", {"label_smoothing": 0.1}),  # it is ignored
        ("IPO", "DPOTrainer", "ipo", {}),
        ("hinge", "DPOTrainer", "hinge", {}),
        ("cDPO", "DPOTrainer", "aot", {"label_smoothing": 0.1}),  # with one pair
        ("cDPO", "DPOTrainer", "robust", {"label_smoothing": -0.1 / 0.8}),  # TRL only warns of it
        ("robust", "DPOTrainer", "robust", {"label_smoothing": 0.1}),
        ("APO-zero", "DPOTrainer", "apo_zero", {}),
        ("APO-down", "DPOTrainer", "apo_down", {}),
        ("KTO", "KTOTrainer", "kto", {}),
    ],
)
def test_the_losses_of_the_table_are_trls(name, trainer, kind, settings):
    theirs = trl_loss(getattr(pytest.importorskip("trl"), trainer), kind, **settings)
    assert losses_of_the_cell()[name] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_losses_without_a_reference_are_trls():
    cpo = pytest.importorskip("trl.experimental.cpo").CPOTrainer.cpo_loss
    orpo = pytest.importorskip("trl.experimental.orpo").ORPOTrainer.odds_ratio_loss
    own = SimpleNamespace(
        alpha=0.0, accelerator=Gather(), loss_type="simpo", simpo_gamma=1.0, beta=2.0,
        label_smoothing=0.0,
    )  # fmt: skip
    means = torch.tensor([-1.0]).double(), torch.tensor([-1.5]).double()
    losses = losses_of_the_cell()
    assert losses["SimPO"] == pytest.approx(cpo(own, *means)[0].item(), abs=1e-6)
    own.beta = 0.1
    # Theirs is subtracted from the likelihood term, which is 1 nat a token here.
    assert losses["ORPO"] == pytest.approx(1 - orpo(own, *means)[0].item(), abs=1e-6)


def test_cdpo_stops_at_a_finite_margin_and_robust_never_does():
    space = {"torch": torch, "logsigmoid": torch.nn.functional.logsigmoid}
    exec(cell("def pair_losses(").split("\n\npair =")[0], space)  # only our own source

    def pull(name: str, h: float) -> float:
        chosen = torch.tensor(h - 5.0, dtype=torch.double, requires_grad=True)
        loss = space["pair_losses"](chosen, torch.tensor(-5.0), tokens=(99, 99))[name]
        return -torch.autograd.grad(loss, chosen)[0].item()

    target = math.log(9) / 0.1
    assert pull("cDPO", target) == pytest.approx(0, abs=1e-9)
    assert pull("cDPO", target - 1) > 0 > pull("cDPO", target + 1)
    assert pull("robust", 100) > 0


def test_the_title_of_gains_counts_the_families_in_which_both_fell():
    frame = pd.DataFrame({"family": ["sums", "facts"]})
    for side, means in {"chosen": [-1.0, 0.1], "rejected": [-2.0, -2.0]}.items():
        frame[side] = means
        frame[f"{side}_low"], frame[f"{side}_high"] = frame[side] - 0.5, frame[side] + 0.5
    assert title(figures.plot_gains(frame)) == "Chosen and rejected both fell in 1 of 2 families"
