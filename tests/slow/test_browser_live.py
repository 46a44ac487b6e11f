"""The live view in a real JupyterLab, while TRL trains the embedded model, and after a restart.

POSTLAB_SCREENSHOTS names a folder to keep the pictures in.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from modules import module_at

browser = module_at(Path(__file__).parent / "test_browser.py", "browser_tests")
pytestmark = browser.pytestmark
STEPS = 120
TRAINING = f"""
import tempfile
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
from postlab.datasets import instruction_rows
from postlab.models import tiny_base
from postlab.show import LiveView

rows = instruction_rows("tinyworld", split="train", n=400, seed=0)
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(tiny_base()),
    processing_class=AutoTokenizer.from_pretrained(tiny_base()),
    train_dataset=Dataset.from_list(rows).select_columns(["prompt", "completion"]),
    args=SFTConfig(output_dir=tempfile.mkdtemp(), max_steps={STEPS}, logging_steps=1, use_cpu=True,
                   bf16=False, learning_rate=3e-4, report_to="none", disable_tqdm=True,
                   per_device_train_batch_size=8, save_strategy="no"),
    callbacks=[LiveView("sft", every_s=0.3)],
)
from transformers import PrinterCallback
trainer.remove_callback(PrinterCallback)
trainer.train()
print("trained")
"""
FRAME = "[...document.querySelectorAll('.jp-OutputArea-output')].find(o => o.querySelector('svg'))"
STEP = f"({FRAME})?.innerText.match(/step (\\d+) of {STEPS}/)?.[1]"


@pytest.mark.timeout(900)
def test_the_view_grows_while_it_trains_and_stays_without_a_kernel(tmp_path: Path):
    with browser.jupyter(tmp_path, codes=(TRAINING,)) as page:
        browser.run_all(page)
        first = int(page.wait(f"({STEP}) > 3 && ({STEP})", seconds=240))
        page.picture("live-early")
        later = int(page.wait(f"({STEP}) > {first + 10} && ({STEP})", seconds=240))
        assert first < later < STEPS  # seen while it trained
        page.picture("live-during")
        page.wait(f"({browser.TEXT}).includes('trained')", seconds=400)
        assert int(page.run(STEP)) == STEPS
        assert page.run("document.querySelectorAll('.jp-OutputArea-output svg').length") >= 3
        page.picture("live-done")
        page.resize(390, 844)
        page.picture("live-phone")
        page.resize(1280, 900)
        page.run("void window.jupyterapp.commands.execute('docmanager:save')")
        page.wait(f"!({browser.NOTEBOOK}).context.model.dirty")
        page.run(f"void ({browser.NOTEBOOK}).sessionContext.session.kernel.restart()")
        page.wait(f"({browser.NOTEBOOK}).sessionContext.session?.kernel?.status === 'idle'")
        assert int(page.run(STEP)) == STEPS
        page.picture("live-restarted")

    # What GitHub shows: the last state is in the file, and nothing else of the run.
    (cell,) = nbformat.read(tmp_path / "work" / "nb.ipynb", as_version=4).cells
    pages = [o.data["text/html"] for o in cell.outputs if "text/html" in o.get("data", {})]
    assert len(pages) == 1 and f"step {STEPS} of {STEPS}" in pages[0]
    assert not re.search(r"<script|<style|on\w+=", pages[0])
