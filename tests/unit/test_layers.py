"""The package's imports go one way, and importing it costs next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "postlab"
LAYERS = [
    {"profile", "scratch", "rewards", "stats", "doctor", "install", "four_bits"}
    | {"tinyworld.tasks", "tinyworld.words"},
    {"tinyworld"},  # with the next line the design's second layer: datasets hands on its rows
    {"chat", "preflight", "datasets", "runs", "rollout"},
    {"models", "evals"},
    {"judges"},  # with the line before the design's third layer: an oracle judge reads suites
    {"constitution", "prm", "objectives", "plots"},
    {"widgets", "report", "checks"},
    {"lab", "course"},  # with the line before the design's fifth layer: lab writes the report
]
# Modules that are a part of another one, in files of their own to keep each short.
PART_OF = {
    "arena": "widgets",
    "bases": "models",
    "comparison": "plots",
    "constitution_critiques": "constitution",
    "constitution_file": "constitution",
    "constitution_labels": "constitution",
    "constitution_rows": "constitution",
    "constitution_speakers": "constitution",
    "decoding": "rollout",
    "doctor_log": "doctor",
    "doctor_rules": "doctor",
    "doctor_rules_grpo": "doctor",
    "dynamic_sampling": "rollout",
    "encoding": "chat",
    "figures_week01": "plots",
    "figures_week02": "plots",
    "figures_week03_experiments": "plots",
    "figures_week03": "plots",
    "figures_week04": "plots",
    "figures_week05": "plots",
    "figures_week06": "plots",
    "figures_week07": "plots",
    "figures_week08": "plots",
    "figures_week08_ablations": "plots",
    "figures_week08_hack": "plots",
    "figures_week08_tasks": "plots",
    "figures_week09": "plots",
    "figures_week11": "plots",
    "figures_week11_methods": "plots",
    "figures_week11_record": "plots",
    "figures_week10": "plots",
    "figures_week10_gamed": "plots",
    "processes": "runs",
    "prm_choice": "prm",
    "prm_labels": "prm",
    "prm_scores": "prm",
    "prm_search": "prm",
    "prm_steps": "prm",
    "fingerprint": "runs",
    "frames": "runs",
    "gym": "datasets",
    "judge_models": "judges",
    "judge_rates": "judges",
    "kl": "evals",
    "machine": "runs",
    "malloc": "runs",
    "merging": "models",
    "objectives_front": "objectives",
    "objectives_judges": "objectives",
    "objectives_levels": "objectives",
    "objectives_soup": "objectives",
    "objectives_volumes": "objectives",
    "objectives_widget": "widgets",
    "packing": "runs",
    "pages": "widgets",
    "panels": "plots",
    "preflight_advice": "preflight",
    "preflight_architectures": "preflight",
    "preflight_devices": "preflight",
    "preflight_memory": "preflight",
    "progress": "runs",
    "readings": "evals",
    "recorded": "runs",
    "rendering": "chat",
    "rollout_explorer": "widgets",
    "rollout_trl": "rollout",
    "ship": "report",
    "report_page": "report",
    "report_written": "report",
    "sourcecode": "runs",
    "stats_agreement": "stats",
    "stats_basics": "stats",
    "stats_blocks": "stats",
    "stats_power": "stats",
    "storage": "runs",
    "suites": "evals",
    "template_tokens": "chat",
    "templates": "chat",
    "tokenview": "chat",
    "training": "runs",
    "verified": "runs",
    "votes": "widgets",
    "weights": "runs",
}
UNSLOTH_PATCHES = {"transformers", "trl", "peft", "datasets", "accelerate"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def names(path: Path) -> tuple[str, ...]:
    """("tinyworld", "tasks") for postlab/tinyworld/tasks.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def room(parts: tuple[str, ...]) -> str:
    """The module that others know this one by."""
    return PART_OF.get(parts[0], parts[0])


def layer(parts: tuple[str, ...]) -> int | None:
    """The number of the layer that holds a module; tinyworld's parts may be named one by one."""
    for name in (".".join(parts[:2]), room(parts)):
        for number, modules in enumerate(LAYERS, start=1):
            if name in modules:
                return number
    return None


def imported(tree: ast.AST, path: Path) -> list[tuple[str, ...]]:
    """The modules of postlab that a module imports, at any depth of its code."""
    home = ("postlab", *path.relative_to(PACKAGE).parts[:-1])
    found = []
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = home[: len(home) - node.level + 1]
                base = ".".join([*package, *filter(None, [node.module])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        found += [tuple(t.split(".")[1:]) for t in targets if t.split(".")[0] == "postlab"]
    return [parts for parts in found if is_module(parts)]


def is_module(parts: tuple[str, ...]) -> bool:
    """`from postlab import __version__` names no module."""
    return bool(parts) and (layer(parts) is not None or (PACKAGE / f"{parts[0]}.py").exists())


def upward_imports(source: str, path: Path) -> list[str]:
    """Imports from its own layer or a higher one; but the parts of a room may use each other."""
    own = names(path)
    found = []
    for parts in imported(ast.parse(source), path):
        allowed = layer(own) if room(parts) == room(own) else layer(own) - 1
        if (layer(parts) or len(LAYERS)) > allowed:
            found.append(".".join(parts))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(names(path)))
def test_a_module_imports_only_from_lower_layers(path: Path):
    assert layer(names(path)), f"{path.name} is in no layer: add it to LAYERS and to the design"
    assert upward_imports(path.read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("stats.py", "from postlab.evals import METRICS", ["evals.METRICS"]),
        ("stats.py", "def f():\n    import postlab.lab", ["lab"]),
        ("stats.py", "from postlab import doctor, __version__", ["doctor"]),
        ("runs.py", "from postlab import storage", []),
        ("storage.py", "from postlab.chat import encode", ["chat.encode"]),
        ("stats.py", "from .evals import METRICS", ["evals.METRICS"]),
        ("tinyworld/tasks.py", "from postlab.tinyworld import corpus", ["tinyworld.corpus"]),
        ("tinyworld/corpus.py", "from .tasks import make", []),
        ("evals.py", "import numpy\nfrom postlab import stats", []),
    ],
)
def test_the_rule_sees_what_it_should(module: str, source: str, found: list[str]):
    assert upward_imports(source, PACKAGE / module) == found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(names(path)))
def test_no_module_imports_what_unsloth_patches_at_its_top(path: Path):
    """Unsloth has to be imported first, and a notebook imports postlab before it."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append(node.module or "")
    assert not UNSLOTH_PATCHES & {name.split(".")[0] for name in found}


def fresh(code: str) -> str:
    """What a new Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_postlab_is_light():
    code = (
        "import time; start = time.perf_counter(); import postlab; "
        "import sys; took = time.perf_counter() - start; "
        "print(took, *({'torch', 'transformers', 'trl', 'unsloth', 'peft', 'pandas', 'numpy'}"
        " & set(sys.modules)))"
    )
    runs = [fresh(code).split() for _ in range(3)]
    assert [loaded for _, *loaded in runs] == [[], [], []]
    assert min(float(took) for took, *_ in runs) <= 0.3


def test_names_are_imported_at_first_use():
    code = "import postlab; print(postlab.stats.__name__, hasattr(postlab, 'no_such_module'))"
    assert fresh(code) == "postlab.stats False"
