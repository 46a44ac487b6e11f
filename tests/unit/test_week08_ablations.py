"""Week 8's ablations: figures, and what the experiment's arms change."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from modules import module_at

from postlab import figures_week08_ablations as figures
from postlab.profile import get_profile

EXPERIMENT = (
    Path(__file__).resolve().parents[2] / "notebooks" / "experiments" / "week08_ablations.py"
)


def title(figure) -> str:
    return figure.texts[0].get_text() if figure.texts else figure.axes[0].get_title(loc="left")


def rows(**shown: bool) -> pd.DataFrame:
    return pd.DataFrame([
        {"arm": "groups of 2", "base": "recipe", "seeds": [-9.0, -7.0, -8.0], "points": -8.0,
         "low": -10.5, "high": -5.5, "shown": shown.get("groups", False)},
        {"arm": "GSPO", "base": "four steps", "seeds": [1.0, -1.0, 3.0], "points": 1.0,
         "low": -4.0, "high": 6.0, "shown": False},
    ])  # fmt: skip


def test_an_arm_is_shown_with_every_seed_and_named_only_where_it_is_settled():
    figure = figures.plot_ablations(rows(groups=True))
    assert "Of 2 changes, shown to matter by their seeds: groups of 2" in title(figure)
    panel = figure.axes[0]
    assert list(panel.lines[1].get_xdata()) == [-9.0, -7.0, -8.0]
    assert [text.get_text() for text in panel.get_yticklabels()] == [
        "groups of 2  –  recipe", "GSPO  –  four steps",
    ]  # fmt: skip
    assert panel.get_xlim() == (-18.5, 14.0)
    assert "none of them" in title(figures.plot_ablations(rows()))


def test_silent_groups_are_drawn_by_size():
    frame = pd.DataFrame(
        {
            "size": [2, 16],
            "measured": [0.8, 0.25],
            "low": [0.7, 0.2],
            "high": [0.9, 0.3],
            "alike": [0.5, 0.01],
        }
    )
    figure = figures.plot_groups(frame)
    said = "80% of the groups of 2 teach nothing, 25% of those of 16; were all prompts alike, 1%"
    assert said in " ".join(title(figure).split())
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.8, 0.25]


@pytest.fixture(scope="module")
def experiment():
    return module_at(EXPERIMENT, "week08_ablations")


def test_every_arm_differs_from_its_base_in_what_its_name_says(experiment):
    recipe = dict(get_profile("tiny").grpo.trainer)
    for name, arm in experiment.ARMS.items():
        base = experiment.ARMS[arm["base"]]["how"] if arm["base"] else {}
        one, other = recipe | arm["how"], recipe | base
        changed = {k for k in one.keys() | other.keys() if one.get(k) != other.get(k)}
        assert changed or arm.get("dynamic") or name == "recipe", name
        if name.startswith("groups"):
            assert changed == {"num_generations"}, name
    sizes = {
        (recipe | arm["how"])["per_device_train_batch_size"]
        * arm["how"].get("steps_per_generation", 1)
        for arm in experiment.ARMS.values()
    }
    assert sizes == {recipe["per_device_train_batch_size"]}


def test_a_run_is_made_again_when_its_arm_or_its_start_changes(experiment, monkeypatch):
    keys = {arm: experiment.key_of(arm) for arm in experiment.ARMS}
    assert len(set(keys.values())) == len(keys)
    assert experiment.key_of("GSPO") == keys["GSPO"]
    monkeypatch.setattr(experiment, "files_hash", lambda files: "another start")
    assert experiment.key_of("GSPO") != keys["GSPO"]
