"""Run folders in, summary and page out: numbers by hand, damage named, model text harmless."""

import copy
import json
import math
import os
import random
import re
import shutil
import sys
import time
import warnings
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")

from postlab import stats
from postlab.claims.reading import FIELDS, read_runs
from postlab.report import summarise, summary_frame, write_report, written_comparison
from postlab.report import summary as report
from postlab.report.summary import main
from postlab.report.written import plain
from postlab.runs import MissingStage
from pace import within

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
    assert set(summary) == {"profile", "wall_s", "peak_rss_gb", "stages", "problems"}
    assert summary["problems"] == []
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
    assert [run.stage for run in read_runs(root / "tiny")[0]] == list(LINE)


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


def problems(root, profile="tiny"):
    """{stage: why} of a comparison that survives, and warns."""
    with pytest.warns(UserWarning, match=f"The report of {profile} is not whole"):
        summary = summarise(profile, root=root)
    assert "base" in [entry["name"] for entry in summary["stages"]] or profile != "tiny"
    return {problem["stage"]: problem["reason"] for problem in summary["problems"]}


def test_a_missing_parent_names_the_command(tmp_path):
    save(tmp_path, "dpo", seed=1, profile="smol")
    why = problems(tmp_path, "smol")
    assert "sft is not finished and evaluated" in why["dpo"]
    assert "make week N=03 PROFILE=smol SEED=1" in why["dpo"]
    assert summary_of(tmp_path, "smol", "dpo")["versus_parent"] == {}


def summary_of(root, profile, stage):
    summary = json.loads((root / profile / "summary.json").read_text())
    return next(entry for entry in summary["stages"] if entry["name"] == stage)


def test_a_truncated_evaluation_names_file_and_line(root):
    path = root / "tiny" / "seed-0" / "dpo" / "eval.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    why = problems(root)
    assert why["dpo"].startswith("eval.jsonl, line 30, is cut short")
    assert why["grpo"].endswith("dpo is damaged") and set(why) == {"dpo", "grpo"}
    frame = summary_frame(json.loads((root / "tiny" / "summary.json").read_text()))
    assert set(report._one_model(frame)["stage"]) == {"base", "sft", "grpo"}
    path.write_text("")
    assert problems(root)["dpo"].startswith("eval.jsonl, line 1,")


def test_a_row_without_a_field_names_file_line_and_field(root):
    rows = evaluation("dpo")
    del rows[4]["answer"]
    save(root, "dpo", rows=rows)
    assert problems(root)["dpo"].startswith("eval.jsonl, line 5, has no field 'answer'")


def test_different_prompts_name_the_stages_and_an_id(root):
    rows = evaluation("dpo")
    rows[7]["id"] = "another"
    save(root, "dpo", rows=rows)
    why = problems(root)
    assert set(why) == {"dpo", "grpo"} and re.search(r"'sft' and 'dpo'.*another", why["dpo"])
    assert summary_of(root, "tiny", "dpo")["metrics"]["arithmetic"]["n"] == 30


def test_a_stage_that_cannot_be_compared_in_one_seed_is_given_no_change(root):
    """Its mean is over two seeds, and a change over one of them would not lead there."""
    for stage in LINE:
        save(root, stage, seed=1)
    (root / "tiny" / "seed-1" / "sft" / "manifest.json").write_text("{")
    with pytest.warns(UserWarning, match="not whole"):
        text = written_comparison_and_page(root)
    assert "## GRPO against DPO" in text and "## DPO against SFT" not in text
    assert "- SFT, seed 1: manifest.json is not valid JSON" in text


def written_comparison_and_page(root):
    write_report("tiny", root=root)
    return written_comparison("tiny", root=root)


def test_nothing_but_damage_is_an_error_that_lists_it(tmp_path, monkeypatch, capsys):
    (save(tmp_path, "sft") / "manifest.json").write_text('{"stage": "sf')
    says = r"Nothing in runs/tiny can be reported.\nsft, seed 0: manifest.json is not valid JSON"
    with pytest.raises(ValueError, match=says):
        summarise("tiny", root=tmp_path)
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path))
    assert main(["tiny"]) == 1 and "sft, seed 0" in capsys.readouterr().err


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder(path):
    path.unlink()
    path.mkdir()


DAMAGED_FILES = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:20]), "."),
    "binary": (lambda path: path.write_bytes(bytes(range(256)) * 20), "UTF-8"),
    "empty": (lambda path: path.write_text(""), "."),
    "list": (lambda path: path.write_text("[1, 2]"), r"\[1, 2\]; expected an object"),
    "null": (lambda path: path.write_text("null"), "None; expected an object"),
    "deep": (lambda path: path.write_text("[" * 100_000), "deep|recursion|damaged"),
    "large": (lambda path: os.truncate(path, 300_000_000), "larger than"),
    "pipe": (pipe, "is a named pipe; expected a regular file"),
    "folder": (folder, "is a folder; expected a regular file"),
    "circle": (link_to_itself, "can't be read"),
    "no rights": (lambda path: path.chmod(0), r"can't be read \(Permission denied\)"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and rights are POSIX's")
@pytest.mark.parametrize("name", ["manifest.json", "eval.jsonl"])
@pytest.mark.parametrize("kind", DAMAGED_FILES)
def test_a_damaged_file_costs_one_stage(root, name, kind):
    damage, says = DAMAGED_FILES[kind]
    if kind == "no rights" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    damage(root / "tiny" / "seed-0" / "grpo" / name)
    begun = time.process_time()
    why = problems(root)
    assert within(time.process_time() - begun, 3)
    assert set(why) == {"grpo"} and re.search(says, why["grpo"]) and name in why["grpo"]
    assert len(why["grpo"]) < 300 and str(root) not in why["grpo"]


def test_a_folder_that_may_not_be_listed_is_named(root, monkeypatch):
    save(root, "base", seed=1)
    real = Path.iterdir

    def refused(path):
        if path.name == "seed-1":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    assert problems(root) == {"every stage": "seed-1 can't be read (Permission denied)"}


def test_folders_that_are_no_seed_are_passed_over(root):
    for name in ("seed-old", "seed-01", "seed-\uff11", "seed-0.bak"):
        shutil.copytree(root / "tiny" / "seed-0", root / "tiny" / name)
    (root / "tiny" / "seed-7").write_text("a file")
    assert summarise("tiny", root=root)["problems"] == []


def test_parents_in_a_circle_end(root):
    save(root, "base", parent="grpo")
    assert len(summarise("tiny", root=root)["stages"]) == 4
    assert len(report._one_model(summary_frame(summarise("tiny", root=root)))) > 0
    save(root, "base", parent="base")
    assert "itself as its parent" in problems(root)["base"]


# --- every field, with everything ---

EVIL_NAME = "<img src=x onerror=alert(1)>$\\frac{$*b*[x](javascript:y)`c`\n# head"
NESTED = json.loads("[" * 200 + "]" * 200)
WRONG = [None, True, -1, 0, 10**400, 1e308, math.nan, math.inf, "", EVIL_NAME]
WRONG += [
    "\ud800\x00",
    "x" * 9999,
    [],
    {},
    [1],
    {"gpu": EVIL_NAME},
    {"trl": EVIL_NAME},
    {EVIL_NAME: EVIL_NAME},
    NESTED,
]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two stages on four prompts, without figures, which have a test of their own."""
    for stage in ("base", "sft"):
        save(tmp_path, stage, rows=evaluation(stage, n=4))
    monkeypatch.setattr(report, "_png", lambda figure, dpi: b"")
    monkeypatch.setattr("postlab.show.plot_stages", lambda *_, **__: None)
    return tmp_path


def check_page_and_text(root):
    """The report is written, base is in it, and no name has become a tag or a heading."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written_page = write_report("tiny", root=root).read_text(encoding="utf-8")
        text = written_comparison("tiny", root=root)
    elements = Elements()
    elements.feed(written_page)
    assert elements.open == [] and elements.tags.count("img") == 1
    assert not {"b", "script"} & set(elements.tags)
    assert not [name for _, name, _ in elements.attributes if name.startswith("on")]
    assert summary_of(root, "tiny", "base")["metrics"]["arithmetic"]["n"] == 4
    assert not re.search(r"<(?! 0\.001)|\[x\]|`|\$|\*b", text.replace("*Mechanism", ""))
    assert "\n# head" not in text and not re.search("[\x00\ud800]", text + written_page)


PARTS = ["device.gpu", "device.cpus", "versions.trl", "seed", "stage"]


@pytest.mark.parametrize("field", [*FIELDS, *PARTS])
def test_any_field_of_a_manifest_may_hold_anything(small, field):
    path = small / "tiny" / "seed-0" / "sft" / "manifest.json"
    right = json.loads(path.read_text())
    for value in WRONG:
        outer, _, inner = field.partition(".")
        held = right[outer] | {inner: value} if inner else value
        path.write_text(json.dumps(right | {outer: held}))
        check_page_and_text(small)
    outer = field.partition(".")[0]
    path.write_text(json.dumps({k: v for k, v in right.items() if k != outer}))
    check_page_and_text(small)


ROW = ["id", "family", "prompt", "sample", "answer", "arithmetic", "own"]


@pytest.mark.parametrize("field", [*ROW, EVIL_NAME, "\ud800"])
def test_any_field_of_an_evaluation_may_hold_anything(small, field):
    for number, value in enumerate(WRONG):
        rows = evaluation("sft", n=4)
        changed = (1, 4)[number % 2]
        rows[:changed] = [row | {field: value} for row in rows[:changed]]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (small / "tiny" / "seed-0" / "sft" / "eval.jsonl").write_text(lines)
        check_page_and_text(small)


def test_any_field_of_a_summary_may_hold_anything(small):
    """A frame of rows, or a ValueError that says what was expected."""

    def variants(part):
        yield from WRONG
        keys = (
            list(part)
            if isinstance(part, dict)
            else range(len(part) if isinstance(part, list) else 0)
        )
        for key in keys:
            for value in variants(part[key]):
                copied = copy.copy(part)
                copied[key] = value
                yield copied
            if isinstance(part, dict):
                yield {name: held for name, held in part.items() if name != key}

    count = 0
    summary = summarise("tiny", root=small)
    summary["stages"] = summary["stages"][1:2]
    for wrong in variants(summary):
        count += 1
        try:
            summary_frame(wrong)
        except ValueError as error:
            assert "expected what report.summarise returns" in str(error)
    assert count > 300


def test_names_are_drawn_and_escaped_in_the_whole_report(tmp_path):
    """The real figure, with a metric, a stage, a commit and a device of that name."""
    for stage in ("base", "sft"):
        rows = [row | {EVIL_NAME.split("\n")[0]: 1.0} for row in evaluation(stage, n=4)]
        save(tmp_path, stage, rows=rows, commit=EVIL_NAME, device={"gpu": EVIL_NAME})
    save(tmp_path, "<b>$x_{$", rows=rows, parent="sft")
    check_page_and_text(tmp_path)
    assert "&lt;B&gt;$X_{$" in (tmp_path / "tiny" / "report.html").read_text(encoding="utf-8")


TRICKS = ["_x_ __y__ a_b", "# h", "- a", "1. a", "+ a", "~~s~~", "&amp;", "\\[x\\]", "> q", "| a |"]


@pytest.mark.parametrize("name", [EVIL_NAME, *TRICKS])
def test_an_escaped_name_reads_as_it_is_in_markdown(name):
    mistune = pytest.importorskip("mistune")
    page = mistune.create_markdown(escape=False, plugins=["strikethrough", "table"])(
        f"- {plain(name)}"
    )
    elements = Elements()
    elements.feed(page)
    assert set(elements.tags) <= {"ul", "li", "p"}
    assert elements.text.strip() == " ".join(name.split())


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
