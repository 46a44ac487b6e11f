"""Claims from run folders: numbers, verdicts, and a caveat of each kind, planted and found."""

import json
import random
from pathlib import Path

import pytest

from postlab import report
from postlab.claims import CAVEATS, claims, findings, merge_seeds, summary_frame
from postlab.runs import MissingStage

CPU = {"gpu": None, "cpus": 2, "ram_gib": 8.0}
RECORDED = Path(__file__).resolve().parents[3] / "data/results/tiny/summary.json"


def rows(stage, share, *, n=120, seed=0, answers=None, form=1.0):
    """n prompts, of which `share` are right in `facts`, all or none in the format."""
    luck = random.Random(f"{stage} {seed}")
    found = []
    for index in range(n):
        row = {"id": f"p{index:03d}", "family": "facts", "prompt": f"{index}?", "sample": 0}
        row |= {"answer": f"{answers or stage} {index}", "closed": True, "format": form}
        found.append(row | {"facts": float(luck.random() < share)})
    return found


def save(root, stage, made, *, parent=None, seed=0, profile="mine", **manifest):
    folder = root / profile / f"seed-{seed}" / stage
    folder.mkdir(parents=True)
    (folder / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    known = {"stage": stage, "parent": parent, "seed": seed, "status": "complete", "device": CPU}
    known |= {"versions": {}, "commit": "abc", "train_s": 1, "eval_s": 1, "wall_s": 2}
    (folder / "manifest.json").write_text(json.dumps(known | {"peak_rss_gb": 1} | manifest))


def run(root, *, seeds=(0, 1), before=0.3, after=0.8, profile="mine", n=120, **dpo):
    form, answers = dpo.pop("form", 1.0), dpo.pop("answers", None)
    for place, seed in enumerate(seeds):
        share = after[place] if isinstance(after, tuple) else after
        save(
            root, "sft", rows("sft", before, seed=seed, form=form, n=n), seed=seed, profile=profile
        )
        made = rows("dpo", share, seed=seed, answers=answers, n=n)
        save(root, "dpo", made, parent="sft", seed=seed, profile=profile, **dpo)
    return {claim.metric: claim for claim in claims(profile, root=root)}


def test_a_sound_claim_has_its_numbers_and_no_caveat(tmp_path):
    claim = run(tmp_path)["facts"]
    entry = report.summarise("mine", root=tmp_path)["stages"][1]["versus_parent"]["facts"]
    assert (claim.stage, claim.parent, claim.verdict, claim.agree) == ("dpo", "sft", "better", 2)
    assert claim.change_low < entry["difference"] < claim.change_high
    assert claim.p < 0.001 and claim.n == 120 and claim.verdicts == {0: "better", 1: "better"}
    assert len(claim.devices) == 1 and "2" in claim.devices[0]
    assert claim.commits == ("abc",) and claim.caveats == {}
    assert str(claim).startswith("DPO against SFT, facts: better, +")
    assert str(claim).endswith("2 of 2 seeds")


@pytest.mark.parametrize(
    ("code", "planted"),
    [
        ("one_seed", {"seeds": (0,)}),
        ("seeds_disagree", {"after": (0.8, 0.3)}),
        ("new_format", {"form": 0.0}),
        ("copied", {"answers": "sft"}),
        ("few_prompts", {"n": 40}),
        ("tiny_world", {"profile": "tiny"}),
        ("noted", {"eval": {"caveats": {"facts": "best of 16 against one answer"}}}),
    ],
)
def test_a_planted_caveat_is_found_and_no_other(tmp_path, code, planted):
    claim = run(tmp_path, **planted)["facts"]
    assert set(claim.caveats) == {code}
    expected = "best of 16 against one answer" if code == "noted" else CAVEATS[code]
    assert claim.caveats[code] == expected and expected in str(claim)


def test_the_same_answers_are_no_copy_where_the_model_gave_them(tmp_path):
    """Two policies may agree on every prompt; the manifest says which weights answered."""
    measured = {"made_by": {"weights": ["after", "before"]}}
    assert run(tmp_path, answers="sft", eval=measured)["facts"].caveats == {}
    assert not summary_frame(report.summarise("mine", root=tmp_path))["copied"].any()


def test_one_new_answer_makes_a_metric_measured(tmp_path):
    made = rows("dpo", 0.3, answers="sft")
    other = [{**row, "facts": None, "lists": row["facts"]} for row in made]
    for stage, parent, lists in (("sft", None, other), ("dpo", "sft", other[:-1])):
        lists = [*lists, other[-1] | {"answer": stage}]
        new = [row | {"id": f"l{row['id']}"} for row in lists]
        save(tmp_path, stage, [*made, *new], parent=parent)
    found = {claim.metric: "copied" in claim.caveats for claim in claims("mine", root=tmp_path)}
    assert found == {"facts": True, "lists": False, "format": False}


def test_the_shipped_stages_say_whose_labels_and_how_many_replies():
    """The caveats that weeks 9 and 10 store are those of the stages shipped for them."""
    root = RECORDED.parents[3]
    stored = {}
    for stage, week in (("cai", "week09_constitutional_ai"), ("prm", "week10_process_rewards")):
        source = (root / f"notebooks/src/{week}.py").read_text(encoding="utf-8")
        places = [root / f"data/tiny-stages/{stage}/manifest.json"]
        places += sorted(RECORDED.parent.glob(f"seed-*-{stage}.manifest.json"))
        notes = [json.loads(p.read_text(encoding="utf-8"))["eval"]["caveats"] for p in places]
        assert len(notes) > 1 and all(each == notes[0] for each in notes)
        texts = [part for text in notes[0].values() for part in text.split("; ")]
        assert all(part in source for part in [*texts, *(f'"{name}"' for name in notes[0])])
        stored[stage] = notes[0]
    assert "oracle" in stored["cai"]["arithmetic"] and "safety" not in stored["cai"]
    assert "16" in stored["prm"]["arithmetic"] and "facts" not in stored["prm"]


def test_a_note_holds_for_its_metric_or_for_all(tmp_path):
    found = run(tmp_path, eval={"caveats": {"": "chosen on these", "facts": "by an oracle"}})
    assert found["facts"].caveats == {"noted": "chosen on these; by an oracle"}
    assert found["format"].caveats == {"noted": "chosen on these"}


@pytest.mark.parametrize("damage", [{"eval": [1]}, {"eval": {"caveats": "x"}}, {"eval": None}])
def test_a_note_of_another_kind_is_none(tmp_path, damage):
    assert run(tmp_path, **damage)["facts"].caveats == {}


def test_opposite_seeds_vary_and_a_metric_of_one_seed_alone_is_claimed_for_it(tmp_path):
    claim = run(tmp_path, before=0.5, after=(0.9, 0.1))["facts"]
    assert claim.verdict == "varies" and claim.agree == 0
    assert claim.verdicts == {0: "better", 1: "worse"}
    extra = [row | {"mine": row["facts"]} for row in rows("sft", 0.2)]
    save(tmp_path, "sft", extra, profile="other")
    save(tmp_path, "sft", rows("sft", 0.2), profile="other", seed=1)
    save(
        tmp_path,
        "dpo",
        [r | {"mine": 1.0} for r in rows("dpo", 0.9)],
        parent="sft",
        profile="other",
    )
    save(tmp_path, "dpo", rows("dpo", 0.9), parent="sft", profile="other", seed=1)
    mine = next(claim for claim in claims("other", root=tmp_path) if claim.metric == "mine")
    assert mine.verdicts == {0: "up"} and "one_seed" in mine.caveats


def test_nothing_finished_is_said(tmp_path):
    with pytest.raises(MissingStage, match="make stages PROFILE=mine"):
        claims("mine", root=tmp_path)


def test_a_loss_that_the_correction_takes_away_is_in_no_title():
    """Recorded: facts -3 points after GRPO on seed 0, which among ten metrics is no loss."""
    recorded = summary_frame(json.loads(RECORDED.read_text(encoding="utf-8")))
    seed = recorded[(recorded["seed"] == 0) & recorded["stage"].isin(["dpo", "grpo"])]
    facts = seed[(seed["stage"] == "grpo") & (seed["metric"] == "facts")].iloc[0]
    assert facts["difference_high"] < 0 and facts["p"] < 0.05
    merged = merge_seeds(seed).set_index(["stage", "metric"]).loc["grpo", "facts"]
    assert merged["p"] > 0.05 and merged["verdict"] == "inconclusive"
    assert "cost" not in findings(seed)["grpo"]
