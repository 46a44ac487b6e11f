"""The shipped evaluations: intact, under today's key, and scored as the code scores today."""

from __future__ import annotations

import json
from functools import cache

import pytest

from postlab.evals import score_again, scorer_hash
from postlab.profile import data_dir, get_profile
from postlab.runs import STAGES, frames
from postlab.storage import changed_files

SHIPPED = data_dir() / "tiny-stages"
EVALUATED = [stage for stage in STAGES if stage != "prm"]  # what is chosen by a PRM has its own key


def manifest(stage: str) -> dict:
    return json.loads((SHIPPED / stage / "manifest.json").read_text(encoding="utf-8"))


@cache
def todays_hash() -> str:
    return scorer_hash("tinyworld", n=get_profile("tiny").eval_prompts, seed=0)


@pytest.mark.parametrize("stage", EVALUATED)
def test_a_shipped_evaluation_is_scored_as_today(stage):
    """If only the hash differs, notebooks/experiments/convert_keys.py carries the stages over."""
    stored = manifest(stage)["eval"]
    frame = frames.read(SHIPPED / stage, stored["columns"])
    again = score_again(frame, "tinyworld", n=get_profile("tiny").eval_prompts, seed=0)
    assert again.equals(frame)
    assert stored["scorers"] == todays_hash()


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "base"])
def test_a_shipped_stage_is_whole(stage):
    files = manifest(stage)["files"]
    assert changed_files(SHIPPED / stage, files) == []
    assert {"trainer_state.json", "model/tokenizer.json"} <= files.keys()
    assert any(name.endswith(".safetensors") for name in files)


def test_every_conversion_of_a_shipped_stage_is_noted():
    for stage in STAGES:
        for entry in manifest(stage).get("converted", []):
            assert entry["the_same"] and entry["from_key"] and entry["what"], stage
