"""Run folders in, summary and page out: numbers by hand, damage named, model text harmless."""

import json
import random
import re
from html.parser import HTMLParser

import matplotlib
import pytest

matplotlib.use("Agg")

from postlab import stats
from postlab.report import summarise, summary_frame, write_report, written_comparison
from postlab.report import summary as report
from postlab.report.summary import main, read_runs
from postlab.runs import MissingStage

LINE = {"base": None, "sft": "base", "dpo": "sft", "grpo": "dpo"}
CPU = {"gpu": None, "cpus": 2, "ram_gib": 8.0}
RATES = {"base": 0.1, "sft": 0.5, "dpo": 0.5, "grpo": 0.9}
EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)> & {{ 7 * 7 }} \u2028 \x00 end"


def evaluation(stage, seed=0, n=30):
    """A row a prompt: arithmetic 0/1, length; safety on half of them; kl from sft on."""
    found = []
    for index in range(n):
        right = float(random.Random(f"{seed} {index}").random() < RATES[stage])
        row = {"id": f"p{index:02d}", "family": "arithmetic" if index % 2 else "unsafe"}
        row |= {"prompt": f"What is {index} + {index}?", "sample": 0, "closed": stage != "base"}
        row |= {"answer": f"{stage} says {2 * index}", "arithmetic": right, "facts": None}
        row |= {"safety": None if index % 2 else right, "length": float(len(stage) + index % 3)}
        row |= {"kl": None if stage == "base" else 1.0 + index / 10}
        found.append(row)
    return found


def save(root, stage, *, seed=0, rows=None, profile="tiny", **manifest):
    folder = root / profile / f"seed-{seed}" / stage
    folder.mkdir(parents=True, exist_ok=True)
    rows = evaluation(stage, seed) if rows is None else rows
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "eval.jsonl").write_text(text, encoding="utf-8")
    known = {"stage": stage, "parent": LINE.get(stage), "seed": seed, "status": "complete"}
    known |= {"versions": {"trl": "1.14.2", "torch": "2.13.0"}, "device": CPU}
    known |= {"commit": "abc123", "train_s": 60.5, "eval_s": 20.0, "wall_s": 100.25}
    known |= {"peak_rss_gb": 1.5}
    (folder / "manifest.json").write_text(json.dumps(known | manifest))
    return folder


@pytest.fixture
def root(tmp_path):
    for stage in LINE:
        save(tmp_path, stage)
    return tmp_path


@pytest.fixture(scope="module")
def evil_page(tmp_path_factory):
    root = tmp_path_factory.mktemp("evil")
    for stage in LINE:
        rows = evaluation(stage, n=4)  # two a family: each is shown
        rows[0]["answer"] = EVIL
        rows[1] |= {"answer": "long " * 200, "prompt": "<b onclick=x()>bold</b> & prompt"}
        rows[2]["answer"] = ""
        save(root, stage, rows=rows, device=CPU | {"cpus": "<i>two</i>"})
    return write_report("tiny", root=root)


# --- summary.json ---


def test_summary_has_exactly_the_agreed_shape(root):
    summary = summarise("tiny", root=root)
    assert json.loads((root / "tiny" / "summary.json").read_text()) == summary
    assert set(summary) == {"profile", "wall_s", "peak_rss_gb", "stages"}
    assert (summary["profile"], summary["wall_s"], summary["peak_rss_gb"]) == ("tiny", 401.0, 1.5)
    assert [entry["name"] for entry in summary["stages"]] == list(LINE)
    keys = {"name", "parent", "seed", "metrics", "versus_parent", "train_s", "eval_s"}
    for entry in summary["stages"]:
        assert set(entry) == keys
        assert entry["parent"] == LINE[entry["name"]]
        assert all(set(m) == {"value", "low", "high", "n"} for m in entry["metrics"].values())
        changes = entry["versus_parent"].values()
        assert all(set(c) == {"difference", "low", "high", "p"} for c in changes)
    assert (summary["stages"][1]["train_s"], summary["stages"][1]["eval_s"]) == (60.5, 20.0)


def test_values_and_differences_are_those_of_the_rows(root):
    base, sft = summarise("tiny", root=root)["stages"][:2]
    before, after = ([row["arithmetic"] for row in evaluation(s)] for s in ("base", "sft"))
    assert sft["metrics"]["arithmetic"]["value"] == pytest.approx(sum(after) / 30)
    assert sft["metrics"]["arithmetic"]["n"] == 30
    assert sft["metrics"]["safety"]["n"] == 15
    change = stats.paired_difference(before, after)
    found = sft["versus_parent"]["arithmetic"]
    assert (found["difference"], found["low"], found["high"], found["p"]) == pytest.approx(
        (change.difference, change.low, change.high, change.p)
    )
    assert base["versus_parent"] == {}


def test_metrics_without_values_are_left_out_and_kl_is_not_compared(root):
    base, sft, dpo, _ = summarise("tiny", root=root)["stages"]
    assert "kl" not in base["metrics"] and "kl" in sft["metrics"]
    assert all("facts" not in entry["metrics"] for entry in (base, sft, dpo))
    assert "kl" not in dpo["versus_parent"]
    assert {"arithmetic", "safety", "length"} <= set(dpo["versus_parent"])


def test_samples_of_a_prompt_are_averaged_before_anything_is_estimated(tmp_path):
    rows = [{"id": f"p{i}", "family": "f", "prompt": "?", "answer": "", "sample": s}
            | {"arithmetic_sampled": float(s < i)} for i in range(5) for s in range(4)]  # fmt: skip
    save(tmp_path, "base", rows=rows)
    found = summarise("tiny", root=tmp_path)["stages"][0]["metrics"]["arithmetic_sampled"]
    expected = stats.bootstrap_interval([0.0, 0.25, 0.5, 0.75, 1.0])
    assert (found["n"], found["value"]) == (5, 0.5)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_same_runs_same_bytes(root):
    summarise("tiny", root=root)
    first = (root / "tiny" / "summary.json").read_bytes()
    summarise("tiny", root=root)
    assert (root / "tiny" / "summary.json").read_bytes() == first
    assert not list(root.rglob("*.tmp-*"))


def test_one_entry_a_stage_and_seed_in_order(tmp_path):
    for seed in (10, 2):
        for stage in ("sft", "base"):
            save(tmp_path, stage, seed=seed)
    entries = summarise("tiny", root=tmp_path)["stages"]
    names = [(entry["seed"], entry["name"]) for entry in entries]
    assert names == [(2, "base"), (2, "sft"), (10, "base"), (10, "sft")]


def test_unfinished_unevaluated_and_old_runs_are_not_counted(root):
    (save(root, "cai", rows=evaluation("dpo")) / "eval.jsonl").unlink()
    save(root, "multi", rows=evaluation("dpo"), status="running")
    save(root, "sft.previous", rows=evaluation("sft"))
    assert [run.stage for run in read_runs("tiny", root=root)] == list(LINE)


def test_frame_of_a_summary_is_what_the_figure_wants(root):
    frame = summary_frame(summarise("tiny", root=root))
    sft = frame[(frame["stage"] == "sft") & (frame["metric"] == "arithmetic")].iloc[0]
    assert sft["difference_low"] <= sft["difference"] <= sft["difference_high"]
    assert frame[frame["stage"] == "base"]["difference"].isna().all()
    assert (frame["seed"] == 0).all()


# --- what is missing or damaged is named ---


def test_no_runs_names_the_command(tmp_path):
    with pytest.raises(MissingStage, match="make stages PROFILE=smol"):
        summarise("smol", root=tmp_path)


def test_a_missing_parent_names_the_command(tmp_path):
    save(tmp_path, "dpo", seed=1)
    with pytest.raises(MissingStage, match="make week N=03 PROFILE=tiny SEED=1"):
        summarise("tiny", root=tmp_path)


def test_a_truncated_evaluation_names_file_and_line(root):
    path = root / "tiny" / "seed-0" / "dpo" / "eval.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"runs/tiny/seed-0/dpo/eval.jsonl, line 30, is cut short"):
        summarise("tiny", root=root)
    path.write_text("")
    with pytest.raises(ValueError, match=r"dpo/eval.jsonl, line 1"):
        summarise("tiny", root=root)


def test_a_row_without_a_field_names_file_line_and_field(root):
    rows = evaluation("dpo")
    del rows[4]["answer"]
    save(root, "dpo", rows=rows)
    with pytest.raises(ValueError, match=r"dpo/eval.jsonl, line 5, has no field 'answer'"):
        summarise("tiny", root=root)


def test_different_prompts_name_the_stages_and_an_id(root):
    rows = evaluation("dpo")
    rows[7]["id"] = "another"
    save(root, "dpo", rows=rows)
    with pytest.raises(ValueError, match=r"'sft' and 'dpo'.*another"):
        summarise("tiny", root=root)


def test_a_damaged_manifest_is_named(root):
    (root / "tiny" / "seed-0" / "sft" / "manifest.json").write_text('{"stage": "sf')
    with pytest.raises(ValueError, match="runs/tiny/seed-0/sft/manifest.json"):
        summarise("tiny", root=root)


# --- report.html ---


class Elements(HTMLParser):
    """Tags, attributes and text as a browser would see them."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "img", "br", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def seen(evil_page):
    elements = Elements()
    elements.feed(evil_page.read_text(encoding="utf-8"))
    return elements


def test_model_text_appears_only_escaped(evil_page, seen):
    text = evil_page.read_text(encoding="utf-8")
    assert "<script" not in text and "<img src=x" not in text and "<b onclick" not in text
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in text
    assert "script" not in seen.tags and "b" not in seen.tags and "i" not in seen.tags
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    assert "<img src=x onerror=alert(1)>" in seen.text  # shown to the reader, as text
    assert "<b onclick=x()>bold</b> & prompt" in seen.text
    assert "<i>two</i> CPU cores" in seen.text
    assert "{{ 7 * 7 }}" in seen.text  # no template of its own
    assert "\x00" not in text


def test_nothing_is_fetched_from_outside(evil_page, seen):
    places = [v for _, n, v in seen.attributes if n in ("src", "srcset", "href", "action", "data")]
    assert len(places) == 2 and all(p.startswith("data:image/png;base64,") for p in places)
    styles = re.findall(r"<style>(.*?)</style>", evil_page.read_text(encoding="utf-8"), re.S)
    assert "url(" not in styles[0] and "@import" not in styles[0]
    assert not {"link", "iframe", "object", "script"} & set(seen.tags)


def test_page_is_whole_and_semantic(seen):
    assert seen.open == []
    assert {"header", "main", "section", "figure", "table", "footer", "h1"} <= set(seen.tags)
    assert ("html", "lang", "en") in seen.attributes
    assert ("meta", "content", "width=device-width, initial-scale=1") in seen.attributes
    assert all(value for tag, name, value in seen.attributes if (tag, name) == ("img", "alt"))
    heads = [value for tag, name, value in seen.attributes if (tag, name) == ("th", "scope")]
    assert len(heads) == seen.tags.count("th")


def test_page_says_what_it_must(seen):
    text = " ".join(seen.text.split())
    assert "Mechanism, not capability" in text
    for word in ("inconclusive", "trl 1.14.2", "abc123", "More than one seed", "Any GPU"):
        assert word in text
    assert "CAI, PRM, multi" in text
    assert "(700 more characters)" in text  # 1,000 characters, 300 shown
    assert "(empty answer)" in text


def test_samples_are_the_same_prompts_for_every_stage(seen):
    for stage in LINE:
        assert seen.text.count(f"{stage} says") == seen.text.count("base says")


def test_page_and_figure_are_the_same_again(root):
    first = write_report("tiny", root=root).read_bytes()
    assert write_report("tiny", root=root).read_bytes() == first
    image = (root / "tiny" / "stages.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert int.from_bytes(image[16:20], "big") >= 1000


def test_other_profiles_seeds_and_gaps(tmp_path):
    for seed in (0, 1):
        for stage in ("base", "sft"):
            save(tmp_path, stage, seed=seed, profile="smol", device={"gpu": "NVIDIA H100"})
    text = write_report("smol", root=tmp_path).read_text(encoding="utf-8")
    assert "not capability" not in text
    assert "make week N=05 PROFILE=smol SEED=1" in text
    assert "Means over 2 seeds" in text
    assert "Any GPU" not in text and "More than one seed" not in text
    assert "on NVIDIA H100, commit" in text


def test_a_small_chain_of_its_own_is_reported_and_not_drawn_beside_the_others(tmp_path):
    """A T4's GRPO starts from a 1.5B, which is never compared with the 7B stages."""
    for stage in ("base", "sft", "dpo"):
        save(tmp_path, stage, profile="t4")
    save(tmp_path, "sft-small", profile="t4", parent=None, rows=evaluation("sft"))
    save(tmp_path, "grpo", profile="t4", parent="sft-small")
    frame = summary_frame(summarise("t4", root=tmp_path))
    assert list(dict.fromkeys(frame["stage"])) == ["base", "sft", "dpo", "sft-small", "grpo"]
    assert set(report._one_model(frame)["stage"]) == {"base", "sft", "dpo"}
    small = frame[frame["stage"].isin(["sft-small", "grpo"])]
    assert report._one_model(small).equals(small)
    page = write_report("t4", root=tmp_path).read_text()
    assert "SFT, small" in page and "GRPO in the figure: it started from a smaller model" in page
    changes = written_comparison("t4", root=tmp_path)
    assert "GRPO against SFT, small" in changes and "GRPO against DPO" not in changes


def test_command_rewrites_all_three_or_says_why_not(root, monkeypatch, capsys):
    monkeypatch.setenv("POSTLAB_RUNS", str(root))
    assert main(["tiny"]) == 0
    assert "runs/tiny" in capsys.readouterr().out
    assert (root / "tiny" / "report.html").exists()
    assert main(["smol"]) == 1
    assert "make stages PROFILE=smol" in capsys.readouterr().err


# --- the comparison in words ---


def section(text, stage, heading):
    part = text.split(f"## {stage} against ")[1].split("\n## ")[0]
    return part.split(f"### {heading}\n\n")[1].split("\n\n")[0]


def test_the_written_comparison_sorts_by_verdict_and_gives_each_interval(tmp_path):
    """30 prompts: safety 0 to 1 on all, facts 1 to 0 on all, lists changed on one."""
    for stage, now in (("base", 0.0), ("sft", 1.0)):
        rows = [{"id": f"p{i}", "family": "f", "prompt": "?", "answer": "", "sample": 0}
                | {"safety": now, "facts": 1 - now, "lists": float(i == 0) * now, "length": 5.0}
                for i in range(30)]  # fmt: skip
        save(tmp_path, stage, rows=rows, device=CPU)
    text = written_comparison("tiny", root=tmp_path)
    assert "- Device: 2 CPU cores, 8.0 GiB\n" in text and "{" not in text
    assert "Mechanism, not capability" in text and "SFT against base" in text
    better = section(text, "SFT", "What changed for the better")
    assert better.startswith("- Safety on unsafe requests: 0% to 100%, +100 points (")
    assert better.count("\n") == 0 and "p < 0.001; 30 prompts" in better
    cost = section(text, "SFT", "What it cost")
    assert cost.startswith("- Facts: 100% to 0%, \N{MINUS SIGN}100 points (")
    open_ = section(text, "SFT", "What is inconclusive")
    assert "List operations: 0% to 3%, +3 points (" in open_ and "p = 1.000" in open_
    assert "Answer length" in open_
    assert "Training took 1.0 minutes" in text and "- Commit: abc123" in text


def test_the_written_comparison_adjusts_p_for_the_metrics_it_looked_at(tmp_path):
    """6 of 6 changes one way is p = 2 / 2**6 = 0.031: enough alone, not as one of two."""
    for metrics in (("safety",), ("safety", "facts")):
        root = tmp_path / str(len(metrics))
        for stage in ("base", "sft"):
            rows = [{"id": f"p{i}", "family": "f", "prompt": "?", "answer": "", "sample": 0}
                    | {m: float(i < 6 and stage == "sft") for m in metrics}
                    for i in range(30)]  # fmt: skip
            save(root, stage, rows=rows)
        text = written_comparison("tiny", root=root)
        where = "What changed for the better" if len(metrics) == 1 else "What is inconclusive"
        p = "0.031" if len(metrics) == 1 else "0.062"
        assert f"p = {p}" in section(text, "SFT", where)


def test_the_written_comparison_needs_every_seed(tmp_path):
    for seed, now in ((0, 1.0), (1, 0.0)):
        for stage in ("base", "sft"):
            value = now if stage == "sft" else 0.0
            rows = [{"id": f"p{i}", "family": "f", "prompt": "?", "answer": "", "sample": 0}
                    | {"safety": value} for i in range(30)]  # fmt: skip
            save(tmp_path, stage, seed=seed, rows=rows)
    text = written_comparison("tiny", root=tmp_path)
    assert "every one of 2 training seeds (0, 1)" in text
    assert "Safety on unsafe requests: 0% to 50%" in section(text, "SFT", "What is inconclusive")
