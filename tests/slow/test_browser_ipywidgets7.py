"""The widgets on ipywidgets 7.7, which Colab has: a JupyterLab 3 in an environment of its own.

The environment takes ipywidgets 7.7.1, jupyterlab_widgets 1.1.11 and JupyterLab 3 from the package
registry, and everything else from the environment that runs the tests. What differs from version 8
for a person: the field for keys does not take the cursor after a click, so it is clicked first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modules import module_at

browser = module_at(Path(__file__).parent / "test_browser.py", "browser_tests")
pytestmark = browser.pytestmark
PINS = ["jupyterlab>=3.6,<4", "ipywidgets==7.7.1", "jupyterlab_widgets==1.1.11"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of that environment; skips where the registry can't be reached."""
    folder = tmp_path_factory.mktemp("ipywidgets7")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    own = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(own), "install", "--quiet", "--retries=1"]
    done = subprocess.run([*pip, *PINS], capture_output=True, text=True)
    if done.returncode:
        reason = [line for line in done.stderr.splitlines() if line.lower().startswith("error")]
        pytest.skip(f"pip could not install {', '.join(PINS)}: {reason[-1:]}")
    site = next(folder.glob("lib/python*/site-packages"))
    # Searched after the environment's own packages.
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    code = "import ipywidgets, torch; print(ipywidgets.__version__)"
    done = subprocess.run([own, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "7.7.1\n"
    return str(own)


@pytest.fixture
def lab(tmp_path: Path, python: str) -> Iterator[Any]:
    with browser.jupyter(tmp_path, python) as page:
        browser.run_all(page)
        page.wait(browser.voted(0), seconds=180)
        page.wait(f"({browser.TEXT}).includes('row 0: ')", seconds=180)
        page.wait(f"({browser.TEXT}).includes('What is 2+3? (step 1)')", seconds=180)
        page.wait(f"({browser.TEXT}).includes('weights helpful 0.33')", seconds=180)
        yield page


def test_votes_by_mouse_and_keyboard(lab: Any, tmp_path: Path):
    lab.picture("ipywidgets7-arena")
    lab.click(browser.button("1"))
    lab.wait(browser.voted(1))
    time.sleep(0.5)  # sooner would be a slip
    lab.click(browser.KEYS)
    for key, votes in (("2", 2), ("0", 3), ("u", 2), ("0", 3)):
        lab.press(key)
        lab.wait(browser.voted(votes))
        time.sleep(0.5)
    assert browser.saved(tmp_path) == ["first", "second", "tie", "undo", "tie"]
    lab.click(browser.button("Show result"))
    lab.wait(f"({browser.TEXT}).includes('win_rate')")
    assert lab.run("document.querySelectorAll('.jp-CodeCell').length") == 4


def test_chooser_explorer_and_mixer_answer_to_buttons_and_sliders(lab: Any):
    for row in (1, 2):
        lab.click(browser.button("Next"))
        lab.wait(f"({browser.TEXT}).includes('row {row}: ')")
    for step in (2, 3, 4):
        lab.click(browser.button("Later step"))
        lab.wait(f"({browser.TEXT}).includes('step {step}, prompt 1 of ')")
    lab.picture("ipywidgets7-explorer")
    lab.click(browser.button("Only safe"))
    lab.wait(f"({browser.TEXT}).includes('0% helpful, 100% safe, 0% honest')")
    handle = "[...document.querySelectorAll('.jp-OutputArea .ui-slider-handle')]"
    assert lab.run(f"{handle}.length") == 6  # chooser, explorer's two, mixer's three
    lab.run(f"{handle}.at(-3).focus()")
    arrow = {"key": "ArrowRight", "windowsVirtualKeyCode": 39}
    for _ in range(4):
        lab.call("Input.dispatchKeyEvent", type="keyDown", **arrow)
        lab.call("Input.dispatchKeyEvent", type="keyUp", **arrow)
    lab.wait(f"({browser.TEXT}).includes('25% helpful, 75% safe, 0% honest')")
    lab.picture("ipywidgets7-mixer")


def test_what_a_model_writes_is_shown_as_text(lab: Any):
    for n in range(6):
        if browser.EVIL in lab.run(browser.TEXT):
            break
        lab.click(browser.button("0"))
        lab.wait(browser.voted(n + 1))
        time.sleep(0.5)
    for _ in range(2):
        lab.click(browser.button("Next"))
    for step in (2, 3, 4):
        lab.click(browser.button("Later step"))
        lab.wait(f"({browser.TEXT}).includes('step {step}, prompt 1 of ')")
    lab.click(browser.button("Only honest"))
    lab.wait(f"({browser.TEXT}).includes('I do not know.')")
    assert lab.run(browser.TEXT).count(browser.EVIL) >= 2
    time.sleep(1)
    assert lab.run("window.marker === undefined")
    # The same page can be harmed by text that is not escaped, so the line before can fail.
    lab.run(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(browser.EVIL)})")
    lab.wait("window.marker === 1")
