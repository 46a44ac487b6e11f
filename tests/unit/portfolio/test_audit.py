"""The audit: 200 generated faults are each found; clean documents and natural sentences pass."""

import dataclasses
import json
import random
import shutil
import time
from pathlib import Path

import pytest

from postlab.portfolio import audit, audit_documents
from postlab.portfolio.audit import check_draft
from postlab.portfolio.binding import placeholders
from postlab.profile import data_dir

RIGHT, WRONG = (
    Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    for name in ("right.txt", "wrong.txt")
)
SWAPPED = {"improved": "hurt", "better": "worse", "rose": "fell", "raise": "lower"}
LABELS = {"sft": "SFT", "dpo": "DPO", "grpo": "GRPO"}
PLANTED = {
    "secret": [
        "hf_" + "aB3dE5fG7hI9" * 3,
        "OPENAI_API_KEY=sk-" + "q1w2e3r4t5" * 3,
        "ghp_" + "x1" * 18,
    ],
    "path": ["/home/somebody/runs/tiny", "C:\\Users\\ana\\runs", "~/runs/tiny", "file:///tmp/x"],
    "email": ["ana@example.org", "<ana.b@mail.example.com>"],
    "html": ["<!-- 98% of prompts -->", "<b>far</b>"],
    "hidden": ["be\u200btter", "\u202erof", "s\u0430fety", "safe\u00adty"],
    "number": ["98%", "9**8**%", "&#57;8", "\uff19\uff18", "²", "3.5x", "`+56 points`", "DPO-98"],
    "number-word": ["by twelve points", "ninety-eight percent", "nine in ten"],
    "comparison": ["It outperforms SFT.", "It is lossless.", "It is better than SFT."],
    "link": ["[here](nowhere.md)", "[here](../secret.md)", "[x](data/x.csv)"],
    "anchor": ["[there](#nowhere)", "[there](sft.md#nowhere)"],
    "alt": ["![](figures/stages.png)"],
    "external": ["![badge](https://img.example.org/b.png)"],
    "hole": ["TODO(you): this"],
    "placeholder": ["{{dpo.safty.change}}", "{{dpo.safety.change"],
}


def draft_mutated(clean, values, luck):
    """(what was done, document, text) for one draft, changed so that it says something else."""
    kind = luck.choice(["digit", "sign", "unit", "stage", "verb", "planted", "planted", "planted"])
    name = luck.choice(sorted(LABELS) if kind == "stage" else sorted(set(clean) - {"deck"}))
    text, marks, units = clean[name], placeholders(clean[name]), ("points", "%", "minutes")
    if kind == "verb":
        places = [
            (document, number, verb)
            for document, words in sorted(clean.items())
            for number, line in enumerate(words.split("\n"))
            for verb in SWAPPED
            if f" {verb} " in line and "{{" in line  # a wish without a claim may be turned round
        ]
        name, number, verb = luck.choice(places)
        lines = clean[name].split("\n")
        lines[number] = lines[number].replace(f" {verb} ", f" {SWAPPED[verb]} ", 1)
        return kind, name, "\n".join(lines)
    if kind == "stage":
        start, stop, old = luck.choice([m for m in marks if m[2].startswith(f"{name}.")])
        swaps = [f"{s}.{old.partition('.')[2]}" for s in LABELS if s != name]
        parents = {claim.parent for claim in values.of(name)}
        if old.endswith((".value", ".interval", ".n")):  # the one before may be told beside it
            swaps = [swap for swap in swaps if swap.partition(".")[0] not in parents]
        swaps = [swap for swap in swaps if swap in values]
        if swaps:
            return kind, name, f"{text[:start]}{{{{{luck.choice(swaps)}}}}}{text[stop:]}"
        kind = "digit"
    if kind in ("digit", "sign", "unit"):
        marks = [m for m in marks if values[m[2]].number is not None]
        marks = [m for m in marks if kind == "digit" or values[m[2]].unit in units]
        if not marks:
            name, text = "dpo", clean["dpo"]
            marks = [m for m in placeholders(text) if values[m[2]].unit in units]
        start, stop, old = luck.choice(marks)
        shown = values[old].text
        at = luck.choice([i for i, character in enumerate(shown) if character.isdigit()])
        typed = shown[:at] + str((int(shown[at]) + luck.randint(1, 9)) % 10) + shown[at + 1 :]
        change = {"digit": typed, "sign": luck.choice("−-+±~") + text[start:stop]}
        change["unit"] = text[start:stop] + luck.choice([" percent", "%", " points", " hours"])
        return kind, name, text[:start] + change[kind] + text[stop:]
    code, lines = luck.choice(sorted(PLANTED)), text.split("\n")
    at = luck.choice([i for i, ln in enumerate(lines) if ln.endswith(".") and ln[:1].isalpha()])
    lines[at] += " The safety score after DPO: " + luck.choice(PLANTED[code])
    return code, name, "\n".join(lines)


@pytest.mark.parametrize("block", range(10))
def test_every_change_of_a_draft_is_found(clean, values, finished, block):
    for number in range(block * 14, block * 14 + 14):
        kind, name, text = draft_mutated(clean, values, random.Random(number))
        assert text != clean[name]
        found = check_draft(name, text, values, folder=finished, documents=clean | {name: text})
        assert found, (number, kind, name)
        if kind in PLANTED:
            assert kind in {problem.code for problem in found}, (number, kind, found)


def rendered_mutated(folder, luck):
    """Change one rendered file or figure; returns its path."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "drafts" not in p.parts)
    path = luck.choice(files)
    data = bytearray(path.read_bytes())
    kind = luck.choice(["digit", "letter", "cut", "more", "gone"])
    if kind == "gone":
        path.unlink()
    elif kind == "cut":
        path.write_bytes(data[: len(data) - luck.randint(1, 20)])
    elif kind == "more":
        path.write_bytes(data + b"\nDPO is better.\n")
    else:
        wanted = bytes(range(48, 58)) if kind == "digit" else b"abcdefghijklmnopqrstuvwxyz"
        at = luck.choice([i for i, byte in enumerate(data) if byte in wanted])
        data[at] = luck.choice([byte for byte in wanted if byte != data[at]])
        path.write_bytes(data)
    return path.relative_to(folder).as_posix()


def test_every_change_of_a_rendered_file_or_figure_is_found(finished, values, tmp_path):
    for number in range(60):
        folder = shutil.copytree(finished, tmp_path / str(number))
        path = rendered_mutated(folder, random.Random(number))
        found = audit_documents(folder, values)
        expected = "figures/" if path == "figures/drawn.json" else path
        assert any(p.path.startswith(expected) for p in found), (number, path)
        shutil.rmtree(folder)


def test_clean_documents_pass_all(finished, root, clean, values):
    assert audit(finished, profile="tiny", root=root) == []
    for name, text in clean.items():
        assert check_draft(name, text, values) == [], name


def test_holes_keep_a_fresh_portfolio_from_publication_and_nothing_else(values, tmp_path):
    from postlab.portfolio import write_documents

    write_documents(values, to=tmp_path)
    assert {problem.code for problem in audit_documents(tmp_path, values)} == {"hole"}


def test_runs_that_moved_make_every_file_that_shows_them_stale(finished, values):
    """A number that has changed since is found, and so is a figure of the old data."""
    moved = dict(values.known)
    old = moved["dpo.safety.change"]
    moved["dpo.safety.change"] = dataclasses.replace(old, text="+55 points", number=55.0)
    stale = audit_documents(finished, dataclasses.replace(values, known=moved))
    assert {("dpo.md", "stale"), ("dpo.html", "stale"), ("comparison.html", "stale")} <= {
        (p.path, p.code) for p in stale
    }
    frame = values.frame.copy()
    frame.loc[0, "value"] += 0.01
    stale = audit_documents(finished, dataclasses.replace(values, frame=frame))
    assert [(p.path, p.code) for p in stale] == [
        ("figures/stages-narrow.png", "stale"), ("figures/stages.png", "stale")
    ]  # fmt: skip


def test_a_document_or_figure_that_nothing_stands_behind_is_found(finished, values, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "p")
    (folder / "extra.md").write_text("DPO: 98%", encoding="utf-8")
    (folder / "figures" / "mine.png").write_bytes(b"x")
    (folder / "notes.txt").write_text("key: hf_" + "aB3dE5fG7hI9" * 3, encoding="utf-8")
    found = {(p.path, p.code) for p in audit_documents(folder, values)}
    assert found == {
        ("extra.md", "unbound"), ("figures/mine.png", "unbound"), ("notes.txt", "secret")
    }  # fmt: skip
    card = {"card.md": "x"}
    assert ("card.md", "missing") in {
        (p.path, p.code) for p in audit_documents(finished, values, expected=card)
    }
    (folder / "card.md").write_text("x", encoding="utf-8")
    found = audit_documents(folder, values, expected=card)
    assert not [p for p in found if p.path == "card.md"]


@pytest.mark.parametrize("line", RIGHT)
def test_what_a_learner_may_rightly_write_passes(values, line):
    assert check_draft("dpo", line, values) == []


@pytest.mark.parametrize("line", WRONG)
def test_what_no_claim_supports_is_found(values, line):
    assert check_draft("dpo", line, values)


def test_a_direction_is_read_for_metrics_where_less_is_better(values):
    """Over-refusal rose under SFT, a change for the worse."""
    claim = next(c for c in values.claims if (c.stage, c.metric) == ("sft", "over_refusal"))
    assert claim.verdict == "worse" and claim.change > 0
    bound = "{{sft.over_refusal.sentence}}"
    for right in (f"Over-refusal rose: {bound}.", f"SFT is worse on over-refusal: {bound}."):
        assert check_draft("sft", right, values) == []
    for wrong in (f"Over-refusal fell: {bound}.", f"SFT is better on over-refusal: {bound}."):
        assert [p.code for p in check_draft("sft", wrong, values)] == ["comparison"]


def test_a_cost_or_caveat_that_a_post_leaves_out_is_found(finished, values, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "p")
    draft = folder / "drafts" / "sft.md"
    lines = draft.read_text(encoding="utf-8").split("\n")
    for left_out in ("over_refusal", "caveat.one_seed"):
        draft.write_text("\n".join(ln for ln in lines if left_out not in ln), encoding="utf-8")
        found = [p for p in audit_documents(folder, values) if p.code == "omitted"]
        assert len(found) == 1 and left_out in found[0].fix


def test_problems_name_their_line(values):
    text = "# DPO\n\nFine.\n\nOne line,\nthen 98% on the next.\n\n- a\n- b 7\n\n"
    text += "| a | b |\n|---|---|\n| x | 5 |\n"
    assert [(p.line, p.code) for p in check_draft("dpo", text, values)] == [
        (6, "number"), (9, "number"), (13, "number")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "unit",
    [
        "{{",
        "*",
        "[",
        "`",
        "raises ",
        "a",
        "| ",
        "> ",
        "![](",
        "not x, ",
        "&#57;",
        "1. a\n",
        "\u200b",
    ]
    + ["_a", "DPO raised safety. ", "<", "a@b.c ", "/home/a ", "key=", "hf_", "`a` ", "{{seeds}} "],
)
def test_a_large_hostile_draft_takes_no_long_time(values, unit):
    """Twice the text, at most about twice the time: in processor time, the best of three."""
    took = []
    for size in (30_000, 60_000):
        text, times = unit * (size // len(unit)), []
        for _ in range(3):  # one may hold a garbage collection of what other tests left
            begun = time.process_time()
            check_draft("dpo", text, values)
            times.append(time.process_time() - begun)
        took.append(min(times))
    assert took[1] < 3.5 * took[0] + 0.3, took


def test_a_draft_beyond_the_limit_is_refused(finished, values, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "p")
    (folder / "drafts" / "dpo.md").write_text("a" * 400_000, encoding="utf-8")
    with pytest.raises(ValueError, match=r"drafts/dpo\.md"):
        audit_documents(folder, values)


def test_figures_are_known_by_their_data_and_their_bytes(finished):
    hashes = json.loads((finished / "figures" / "drawn.json").read_text())
    assert all(set(each) == {"data", "file"} for each in hashes.values()) and len(hashes) >= 5


def test_the_recorded_rates_are_those_of_the_code(values):
    """data/results/week12/audit.json, which the notebook shows."""
    record = json.loads((data_dir() / "results" / "week12" / "audit.json").read_text("utf-8"))
    for name, held in record["sets"].items():
        flagged = [i for i, s in enumerate(held["sentences"]) if check_draft("try", s, values)]
        assert flagged == held["now"], name
    sizes = {name: len(set(held["sentences"])) for name, held in record["sets"].items()}
    assert sizes == {"blog": 30, "paper": 20, "clean": 40, "fresh": 30, "fresh_clean": 30}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("The policy learned when to refuse.", "I learned when a policy refuses."),
        ("DPO alone would never have reached it.", "I would never have reached it without tests."),
        ("Users love the new tone.", "I expect that users love the new tone."),
        ("This proves robust in practice.", "Whether this is robust, nobody has tested."),
        ("The checkpoint is trustworthy.", "The checkpoint isn't trustworthy."),
        ("Safety went through the roof.", "Did safety go through the roof?"),
        ("It always answers.", "I always read the answers."),
    ],
)
def test_a_conclusion_without_a_word_of_comparison_needs_a_claim(values, wrong, right):
    assert check_draft("try", wrong, values) and check_draft("try", right, values) == []
    bound = wrong.removesuffix(".") + ": {{dpo.safety.sentence}}."
    assert not any(p.code == "conclusion" for p in check_draft("try", bound, values))
