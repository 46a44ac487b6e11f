"""Week 3's figures say what they draw, its experiments keep what they promise to keep equal."""

from __future__ import annotations

import ast
import json
import random
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from exercise_tools import exercise
from modules import module_at

from postlab.course.check._exercise import examine
from postlab.course.week03 import draw_sft
from postlab.course.week03 import figures_experiments as figures
from postlab.profile import data_dir, get_profile
from postlab.tinyworld import corpus, oracle, tasks

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOK = ROOT / "notebooks" / "src" / "week03_sft_unsloth.py"
EXPERIMENTS = ROOT / "notebooks" / "experiments"
RECORDED = data_dir() / "results" / "week03"
PROVENANCE = {"command", "commit", "seeds", "date", "device", "versions"}


def title(figure) -> str:
    return " ".join(figure._suptitle.get_text().replace("\N{MINUS SIGN}", "-").split())


# --- figures ---


def point(rows: str, n: int, value: float, budget: str = "same compute") -> dict:
    found = {"rows": rows, "n": n, "value": value, "budget": budget, "seeds": [value]}
    return found | {"low": value - 0.05, "high": value + 0.05}


def test_the_title_compares_the_fewest_clean_rows_with_the_most_noisy_ones():
    values = [point("noisy", 200, 0.4), point("clean", 200, 0.7), point("noisy", 3200, 0.6)]
    values += [point("clean", 3200, 0.8), point("clean", 200, 0.3, "one epoch")]
    said = title(figures.plot_quality(pd.DataFrame(values)))
    assert said == (
        "200 clean rows: 70% right (65% to 75%); 3,200 as they were written: 60% (55% to 65%)"
    )


def test_every_arm_has_its_mean_and_a_stroke_per_seed():
    rows = [
        {"arm": arm, "metric": metric, "seeds": [share, share + 0.2]}
        for arm, share in (("800 random rows", 0.4), ("800 curated rows", 0.7))
        for metric in ("all", "facts")
    ]
    figure = figures.plot_seeds(pd.DataFrame(rows))
    axes = figure.axes[0]
    dots = [
        line.get_xdata()[0]
        for line in axes.lines
        if line.get_marker() == "o" and len(line.get_xdata())
    ]
    strokes = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "|"]
    assert dots == pytest.approx([0.5, 0.5, 0.8, 0.8])
    assert strokes[0] == [0.4, pytest.approx(0.6)] and len(strokes) == 4
    assert [label.get_text() for label in axes.get_yticklabels()] == ["all six families", "facts"]
    said = title(figure)
    assert "80% of the answers are right with 800 curated rows" in said
    assert "50% with 800 random rows" in said


def lost(without: str, family: str, low: float, high: float) -> dict:
    found = {"without": without, "family": family, "value": 0.5, "low": low, "high": high}
    return found | {"difference": (low + high) / 2}


def test_only_a_loss_whose_interval_is_below_nought_is_counted():
    cells = [lost("lists", "lists", -0.9, -0.7), lost("facts", "facts", -0.2, 0.1)]
    cells += [lost("lists", "facts", -0.2, -0.1), lost("facts", "lists", 0.1, 0.3)]
    said = title(figures.plot_forgetting(pd.DataFrame(cells)))
    assert said.startswith("1 of 2 families lose") and "lists most (-80 points)" in said
    assert said.endswith("of the 2 other cells 1 do")


def test_answers_at_the_limit_are_the_ones_that_never_end():
    said = title(figures.plot_stopping({"as found": [40, 40, 40, 7], "mended": [7, 8]}, limit=40))
    assert said.endswith("cut at 40 tokens: as found 75%, mended 0%")


def test_the_title_of_terms_compares_worked_rows_at_the_sums_they_were_trained_on():
    lines = [
        {"arm": arm, "terms": terms, "seeds": [share - terms / 100, share - terms / 100]}
        for arm, share in zip(figures.COMPLEXITY_LINES, (0.2, 0.3, 0.58, 0.98, 0.88), strict=True)
        for terms in (3, 5, 8)
    ]
    said = title(figures.plot_terms(pd.DataFrame(lines)))
    assert said == (
        "Short worked rows: 55% right on sums of 3 terms, 53% on 5; "
        "long worked rows: 95% right on sums of 3 terms, 93% on 5"
    )


def test_the_picture_of_sft_shows_every_text_whole():
    figure = draw_sft()
    figure.canvas.draw()
    place = figure.bbox.padded(1)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) > 25
    assert all(place.contains(b.x0, b.y0) and place.contains(b.x1, b.y1) for b in boxes)
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    assert not [1 for a, b in pairs if a.overlaps(b)]


# --- the experiments at equal tokens ---


@pytest.fixture(scope="module")
def at_equal_tokens():
    return module_at(EXPERIMENTS / "week03_tokens.py", "week03_tokens")


def taken(stream, count: int = 300) -> list:
    return [next(stream) for _ in range(count)]


def test_no_held_out_sum_or_program_is_in_a_row(at_equal_tokens):
    module, rng = at_equal_tokens, random.Random(0)
    arm = module.COMPLEXITY["both, worked"]
    rows = taken(module.sums_of(arm, rng)) + taken(module.programs_of(arm, rng))
    asked = {message[0]["content"] for message in rows}
    prompts = module.complexity_prompts(0)
    assert asked.isdisjoint(row["prompt"][0]["content"] for row in prompts)
    sums = [oracle.read(text).args for text in asked if "+" in text]
    assert {len(terms) for terms in sums} == {3, 5}
    assert not any(tasks.held_out_numbers(terms) for terms in sums)
    counts = Counter(row["family"] for row in prompts)
    assert all(counts[f"{terms} terms"] == module.PROMPTS for terms in module.TERMS)
    pairs = {oracle.read(text).args for text in asked if ", then " in text}
    held_out = [row["score"].args[0].args for row in prompts if row["family"] == "2 operations"]
    assert pairs.isdisjoint(held_out) and held_out


def test_a_pair_of_questions_is_one_conversation_or_two_rows(at_equal_tokens):
    module = at_equal_tokens
    talks = taken(module.pairs_of(module.TURNS["conversations, last reply"], random.Random(1)))
    assert {len(talk) for talk in talks} == {4}
    assert all(oracle.judge({"prompt": t[:1], "completion": t[1:2]}) for t in talks)
    refers = sum(oracle.read(talk[2]["content"]) is None for talk in talks) / len(talks)
    assert 0.4 < refers < 0.6
    rows = taken(module.pairs_of(module.TURNS["single turns"], random.Random(1)))
    assert all(oracle.judge({"prompt": row[:1], "completion": row[1:]}) for row in rows)
    wrong = taken(module.pairs_of(module.TURNS["corrected, last reply"], random.Random(1)))
    corrected = [talk for talk in wrong if talk[2]["content"] in module.WRONG]
    assert 0.4 < len(corrected) / len(wrong) < 0.6
    for talk in corrected:
        firsts = [{"prompt": talk[:1], "completion": talk[i : i + 1]} for i in (1, 3)]
        assert [oracle.judge(row) for row in firsts] == [False, True]


def test_only_the_last_reply_is_trained_or_every_one(at_equal_tokens):
    from transformers import AutoTokenizer

    from postlab.models import tiny_base

    tokenizer = AutoTokenizer.from_pretrained(str(tiny_base()))
    module = at_equal_tokens
    talk = module.row("What is 2+3?", "#### 5") + module.row("Add 4 to that.", "#### 9")
    texts = {}
    for loss in ("every", "last"):
        ids, mask = module.encoded(talk, tokenizer, loss)
        texts[loss] = tokenizer.decode([i for i, on in zip(ids, mask, strict=True) if on])
    assert texts == {"every": "#### 5<|im_end|>#### 9<|im_end|>", "last": "#### 9<|im_end|>"}


def test_a_batch_holds_whole_rows_and_no_more_tokens_than_it_may(at_equal_tokens):
    rows = iter([([0] * n, [1] * n) for n in (5, 4, 3, 6, 2, 9)])
    kept: list = []
    batches = [at_equal_tokens.batch_of(rows, 10, kept) for _ in range(3)]
    assert [[len(ids) for ids, _ in batch] for batch in batches] == [[5, 4], [3, 6], [2]]


# --- the experiment on rows ---


@pytest.fixture(scope="module")
def experiment():
    return module_at(EXPERIMENTS / "week03_rows.py", "week03_rows")


@pytest.fixture(scope="module")
def pools(experiment):
    return experiment.pool(0)


def test_clean_rows_are_those_that_the_oracle_does_not_call_wrong(experiment, pools):
    noisy, clean = pools
    assert experiment.wrong_share(clean) == 0 < experiment.wrong_share(noisy)
    assert {row["family"] for row in clean} == set(corpus.SFT_MIX)


@pytest.mark.parametrize("n", [200, 800, 3200])
def test_all_sets_have_the_same_families(experiment, pools, n: int):
    counts = [Counter(r["family"] for r in experiment.by_family(rows, n)) for rows in pools]
    assert counts[0] == counts[1] and counts[0].total() == n


def test_few_rows_are_a_part_of_many(experiment, pools):
    few, many = (experiment.by_family(pools[1], n) for n in (200, 3200))
    assert all(any(row is other for other in many) for row in few)


def test_a_dropped_family_is_gone_and_the_rest_fills_its_place(experiment, pools):
    left = Counter(r["family"] for r in experiment.by_family(pools[1], 1600, without="lists"))
    assert left["lists"] == 0 and left.total() == 1600
    share = corpus.SFT_MIX["facts"] / (1 - corpus.SFT_MIX["lists"])
    assert abs(left["facts"] / 1600 - share) < 0.01


def test_spoilt_rows_keep_their_questions_and_have_the_share_asked_for(experiment, pools):
    clean = experiment.by_family(pools[1], 800)
    spoilt = experiment.spoilt(clean, 0.3, seed=0)
    assert [row["prompt"] for row in spoilt] == [row["prompt"] for row in clean]
    assert experiment.wrong_share(spoilt) == pytest.approx(0.3, abs=0.002)
    wrong = Counter(row["family"] for row in spoilt if oracle.judge(row) is False)
    assert all(wrong[family] for family in tasks.FAMILIES)
    assert experiment.wrong_share(clean) == 0  # the originals are as they were


def test_every_run_of_a_seed_has_a_name_of_its_own(experiment):
    names = [experiment.name_of(run, 0) for run in experiment.conditions()]
    assert len(set(names)) == len(names) == 18


# --- what was recorded ---


@pytest.fixture(scope="module")
def rows():
    return json.loads((RECORDED / "rows.json").read_text(encoding="utf-8"))


def test_the_record_of_rows_is_whole_and_small(rows, experiment):
    assert set(rows["provenance"]) >= PROVENANCE
    assert (RECORDED / "rows.json").stat().st_size < 200_000
    made = {(experiment.name_of(run, run["seed"])) for run in rows["runs"]}
    seeds = rows["provenance"]["seeds"]
    wanted = {experiment.name_of(r, s) for s in seeds for r in experiment.conditions()}
    assert len(seeds) >= 2
    assert made == wanted
    for run in rows["runs"]:
        assert set(run["scores"]) == set(oracle.METRIC)
        assert all(len(text) == experiment.PROMPTS for text in run["scores"].values())
        assert set("".join(run["scores"].values()) + run["over_refusal"]) <= {"0", "1"}


def test_the_recorded_recipe_is_that_of_the_stage(rows):
    """All but the number of steps, which the experiment varies: else it says nothing of it."""
    tiny = get_profile("tiny")
    assert rows["settings"]["sft"] == json.loads(json.dumps(dict(tiny.sft.trainer)))
    assert rows["settings"]["lora"] == json.loads(json.dumps(dict(tiny.lora)))


def test_spoilt_and_noisy_rows_hold_as_many_wrong_ones(rows):
    shares = {
        (run["rows"], run["seed"]): run["wrong_share"]
        for run in rows["runs"]
        if run["experiment"] == "quality" and run["n"] == 3200
    }
    for seed in rows["provenance"]["seeds"]:
        assert shares["noisy", seed] == pytest.approx(shares["scattered", seed], abs=0.001)
        assert shares["clean", seed] == 0


def test_the_record_of_unsloth_and_trl_is_of_the_same_training():
    found = json.loads((RECORDED / "unsloth_trl.json").read_text(encoding="utf-8"))
    assert set(found["provenance"]) >= PROVENANCE
    for run in found["runs"]:
        assert len(run["loss"]) == found["steps"]
        assert run["loss"] == pytest.approx(found["runs"][0]["loss"], abs=1e-3)
    module = module_at(EXPERIMENTS / "week03_unsloth_trl.py", "week03_unsloth_trl")
    assert found["code"] == {
        "unsloth": module.body(module.unsloth_model),
        "trl": module.body(module.trl_model),
    }


# --- the bug hunt ---


def test_the_check_would_have_named_the_bug_of_the_hunt():
    tree = ast.parse(NOTEBOOK.read_text(encoding="utf-8"))
    found = next(n for n in tree.body if getattr(n, "name", "") == "collate_as_found")
    space: dict = {"torch": __import__("torch")}
    exec(compile(ast.Module([found], []), "cell", "exec"), space)
    assert examine(exercise("collate"), space["collate_as_found"]).code == "pad_masked"
