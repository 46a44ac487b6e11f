"""The short rehearsal of `make test`: the weeks that train, and the comparison, under `t4`."""

from __future__ import annotations

from pathlib import Path

import pytest
import walk
from expected import not_here
from transformers import AutoTokenizer


@pytest.mark.timeout(1200)
def test_the_weeks_that_train_run_to_their_end_under_t4(tmp_path: Path):
    walks = walk.rehearse("t4", ["03", "05", "07", "12"], tmp_path, asides=False)
    assert [one.week for one in walks] == ["03", "05", "07", "12"]
    assert {one.week: one.errors for one in walks if one.errors} == {}
    assert min(one.cells for one in walks) >= 5
    for one in walks:
        assert [said for _, said in one.reasons] == not_here("t4", one.week, asides=False)
    # The saved tokenizer, which every later stage uses, starts a conversation with one <s>.
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "runs" / "t4" / "seed-0" / "sft" / "model")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "2 + 3?"}], return_dict=True, add_generation_prompt=True
    )["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id


def test_the_report_names_every_exception_and_every_sentence():
    walks = [
        walk.Walk("03", cells=4, seconds=2.0, reasons=[("asked = 1", "no unsafe request.")]),
        walk.Walk("05", cells=6, errors=[("log = run.train(trainer)", "KeyError: 'x' | at: y")]),
    ]
    text = walk.report("t4", walks)
    assert "Cells walked: 10. Exceptions: 1." in text
    assert "- week 03, `asked = 1`: no unsafe request." in text
    assert "- week 05, `log = run.train(trainer)`: KeyError: 'x' | at: y" in text


def test_a_model_of_ones_own_from_the_hub_has_a_stand_in(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    path = tmp_path / "my profile.yaml"
    path.write_text("name: mine\nlike: t4\nbase_model: me/My-7B-Instruct\njudge_model: folder\n")
    known = dict.fromkeys(walk.stand_ins.REPOSITORIES)
    stand_in = walk.missing(str(path), known)
    assert list(stand_in) == ["me/My-7B-Instruct"] and set(stand_in.values()) <= set(known)
    path.write_text("name: mine\nlike: t4\nbase_model: me/My-7B\n")
    assert walk.missing(str(path), known).keys() == {"me/My-7B"}
