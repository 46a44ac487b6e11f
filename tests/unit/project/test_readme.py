"""What the README and the notebooks say in figures is what was recorded."""

import json
import math
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from modules import module_at
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECORDED = sorted(path.parent for path in (ROOT / "data" / "results").glob("*/summary.json"))


def row(profile: str) -> str:
    """The line of the README's table of profiles."""
    return next(line for line in README.splitlines() if line.startswith(f"| `{profile}` "))


def test_the_embedded_base_is_as_large_as_the_text_says() -> None:
    made = json.loads((ROOT / "data" / "tiny-base" / "PROVENANCE.json").read_text("utf-8"))
    millions = f"{made['parameters'] / 1e6:.1f}"
    texts = {"README.md": README} | {
        path.name: path.read_text("utf-8") for path in (ROOT / "notebooks" / "src").glob("*.py")
    }
    said = {
        name: set(re.findall(r"(\d+\.\d+)(?:M| million) parameters", text))
        for name, text in texts.items()
    }
    assert said["README.md"] == {millions}
    assert set().union(*said.values()) == {millions}, said


@pytest.mark.parametrize("results", RECORDED, ids=lambda path: path.name)
def test_time_and_memory_of_a_profile_are_those_of_its_recorded_run(results: Path) -> None:
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    minutes = re.search(
        r"one seed of `make stages(?: ALL=1)?` took (\d+) minutes", row(results.name)
    )
    memory = re.search(r"(\d+) GB of memory", row(results.name))
    assert minutes and memory, f"the README's row of {results.name} states no time or no memory"
    seeds = len({stage["seed"] for stage in summary["stages"]})
    assert int(minutes[1]) == math.ceil(summary["wall_s"] / seeds / 60)
    assert summary["peak_rss_gb"] < int(memory[1]) <= 2 * summary["peak_rss_gb"] + 1


def test_the_moving_picture_shows_the_records_as_they_are() -> None:
    front = module_at(ROOT / "notebooks" / "experiments" / "front.py", "front")
    alt, target = re.search(r"!\[([^]]{40,})\]\((\.github/[^)]+)\)", README).groups()
    assert ROOT / target == front.TARGET and "doctor" in alt
    with Image.open(front.TARGET) as picture:
        assert picture.info["comment"] == front.digest().encode(), (
            "python notebooks/experiments/front.py"
        )
        assert picture.n_frames > len(front.failing_log())


def test_what_is_cited_is_what_is_released() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    version = re.search(r'__version__ = "(.+)"', (ROOT / "postlab/__init__.py").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert cited["version"] == version[1] == latest[1]
    assert cited["license"] == project["license"]
