"""The mock interview in a real JupyterLab: a question of each kind, answered, graded and kept.

POSTLAB_SCREENSHOTS names a folder to keep the pictures in.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from modules import module_at

from postlab.course.interview import KINDS

browser = module_at(Path(__file__).parent / "test_browser.py", "browser_tests")
pytestmark = browser.pytestmark
PHONE = 390  # pixels
SESSION = f"""
from dataclasses import replace
from pathlib import Path
from postlab.course.interview import KINDS, Interview, bank
from postlab.course.interview.history import History
evil = {browser.EVIL!r}
each = [next(q for q in bank() if q.kind == kind and (q.table or kind != "debug"))
        for kind in KINDS]
hostile = replace(each[0], id=evil, question=evil, answer=evil, red_flags=(evil,),
                  points=dict.fromkeys([evil, "b", "c", "d"], ""), table=({{evil: evil}},))
Interview([*each, hostile], log=History(Path("interview.jsonl")))
"""
AREA = "document.querySelector('.jp-OutputArea-output')"
ANSWER = f"{AREA}.querySelector('textarea')"
BOXES = f"[...{AREA}.querySelectorAll('input[type=checkbox]')]"
PLAY = "document.querySelector('.jp-OutputArea-output .widget-play button')"


def too_wide(page: Any) -> list[str]:
    """The parts that are cut off on the right, or that only scrolling sideways would show."""
    return page.run(
        f"[...{AREA}.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1"
        " && e.clientWidth && !e.closest('table, [style*=\"overflow:auto\"]'))"
        ".map(e => e.className + ' ' + e.innerText.slice(0, 60))"
    )


@pytest.fixture
def lab(tmp_path: Path):
    with browser.jupyter(tmp_path, codes=(SESSION,)) as page:
        yield page


def test_a_question_of_each_kind_is_answered_graded_and_kept(lab: Any, tmp_path: Path):
    kinds = [*KINDS, "hostile"]
    browser.run_all(lab)
    for place, kind in enumerate(kinds, start=1):
        lab.resize(1280, 900)
        lab.wait(f"({browser.TEXT}).includes('Question {place} of {len(kinds)}')", seconds=120)
        assert not lab.run(f"({browser.TEXT}).includes('Model answer')")
        lab.click(ANSWER)
        lab.call("Input.insertText", text=f"my answer: {kind}")
        lab.picture(f"interview-{place}-{kind}-asked")
        lab.click(browser.button("Show rubric"))
        lab.wait(f"({browser.TEXT}).includes('Model answer')")
        points = lab.wait(f"{BOXES}.length")
        assert 4 <= points <= 6
        lab.click(f"{BOXES}[1]")
        lab.picture(f"interview-{place}-{kind}-rubric")
        lab.resize(PHONE, 844)
        lab.picture(f"interview-{place}-{kind}-phone")
        assert too_wide(lab) == []  # a table may scroll
        lab.click(browser.button("Save grade"))
        lab.wait(f"({browser.TEXT}).includes('Saved: {1 / points:.0%} of the points')")
        lab.picture(f"interview-{place}-{kind}-saved")
        lab.click(browser.button("Next"))
    lab.wait(f"({browser.TEXT}).includes('That was the last question')")
    assert not lab.run(f"{ANSWER}?.offsetParent")
    lab.click(browser.button("Gaps so far"))
    lab.wait(f"({browser.TEXT}).includes('reread')")
    lab.picture("interview-gaps-phone")
    lab.resize(1280, 900)
    lab.picture("interview-gaps")
    assert lab.run("window.marker === undefined")  # the last question's script is text
    lines = (tmp_path / "work" / "interview.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["answer"] for record in records] == [f"my answer: {kind}" for kind in kinds]
    assert [record["kind"] for record in records[:-1]] == list(KINDS)
    assert all(record["hit"] == [i == 1 for i in range(len(record["hit"]))] for record in records)


def test_the_clock_runs_in_the_browser(lab: Any):
    browser.run_all(lab)
    lab.wait(f"!!{PLAY}", seconds=120)
    bar = f"{AREA}.querySelector('.progress-bar')"
    assert lab.run(f"{bar}.getBoundingClientRect().width") == 0
    lab.click(PLAY)
    lab.wait(f"{bar}.getBoundingClientRect().width > 0")
