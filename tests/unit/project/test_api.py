"""What can be imported from where, and what a reader learns who looks around or mistypes a name."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import postlab
from postlab import _doors

ROOT = Path(__file__).resolve().parents[3]
ROOMS = [name for name in postlab.__all__ if (ROOT / "postlab" / name).is_dir()]
DOORS = [*(f"postlab.{room}" for room in ROOMS), "postlab.profile"]
NAMES = r"week\d\d|capstone|extras|interview"
PARTS = [name for name in postlab.course.__all__ if re.fullmatch(NAMES, name)]
DOORS += [f"postlab.course.{n}" for n in PARTS]
FOLDERS = ("scratch", "tinyworld")  # rooms whose modules are doors themselves
SCRIPTS = [
    path
    for folder in ("notebooks/src", "notebooks/experiments", "bench")
    for path in sorted((ROOT / folder).glob("*.py"))
]
PROMISED = {  # names that stay importable from their doors
    "postlab": ["start", "Lab", "check", "get_profile"],
    "postlab.chat": ["encode", "check_template", "token_view"],
    "postlab.scratch.losses": [
        "token_logps", "entropy", "masked_mean", "masked_sum", "sft_loss", "bradley_terry_loss",
        "dpo_loss", "group_advantages", "clipped_policy_loss", "reduce_token_loss", "kl_estimate",
        "gae",
    ],
    "postlab.scratch.lora": ["LoRALinear"],
    "postlab.scratch.nf4": ["quantize"],
    "postlab.rewards": [
        "extract_answer", "answers_match", "math_reward", "format_reward", "code_reward",
        "schema_reward",
    ],
    "postlab.datasets": ["instruction_rows", "preference_rows", "math_rows", "curate"],
    "postlab.evals": ["evaluate", "compare"],
    "postlab.stats": [
        "bootstrap_interval", "paired_difference", "mcnemar", "win_rate", "pass_at_k",
    ],
    "postlab.preflight": ["estimate", "Estimate"],
    "postlab.doctor": ["diagnose", "Finding"],
    "postlab.models": ["load_policy", "export", "ExportReport", "CorruptWeights"],
    "postlab.sampling": ["rollout_func"],
    "postlab.judge": ["JudgeError"],
    "postlab.runs": [
        "Run", "DamagedStage", "DiskFull", "FirstProcessFailed", "MissingStage", "NaNLoss",
        "ReadOnlyFolder", "StageBusy",
    ],
}  # fmt: skip


def imports_of(text: str) -> list[tuple[str, str]]:
    """(module, name) of each import from postlab in a script, and of each use of such a module."""
    tree = ast.parse(text)
    pairs, modules, assigned = [], {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            pairs += [(a.name, "") for a in node.names if a.name.split(".")[0] == "postlab"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "postlab":
            pairs += [(node.module, alias.name) for alias in node.names]
            for alias in node.names:
                if isinstance(
                    getattr(importlib.import_module(node.module), alias.name, 0), ModuleType
                ):
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            assigned.add(node.id)
        elif isinstance(node, ast.arg):
            assigned.add(node.arg)
    for node in ast.walk(tree):  # `stats.paired_difference`, unless something else is called stats
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = node.value.id
            if name in modules and name not in assigned and modules[name] != "postlab.check":
                pairs.append((modules[name], node.attr))
            elif name == "postlab":
                pairs.append(("postlab", node.attr))
    return pairs


def is_door(module: str) -> bool:
    """At most a room deep, a module of scratch or tinyworld, a part of the course or what it names.

    A part of the course names a module in its `__all__` if that is loaded only when it is used.
    """
    parts = module.split(".")[1:]
    if len(parts) == 3 and parts[0] == "course" and parts[1] in PARTS:
        return parts[2] in importlib.import_module(f"postlab.course.{parts[1]}").__all__
    return len(parts) < 2 or (
        len(parts) == 2 and (parts[0] in FOLDERS or parts[0] == "course" and parts[1] in PARTS)
    )


def unresolved(pairs: list[tuple[str, str]]) -> list[str]:
    """Which of the names come not through a door, or not at all."""
    wrong = []
    for module, name in pairs:
        door = importlib.import_module(module)
        public = getattr(door, "__all__", None)
        # Beside the rooms stand a few plain modules, such as `lab` and `storage`.
        plain = public is None or (module == "postlab" and (ROOT / f"postlab/{name}.py").exists())
        if not is_door(module) or (name and not (hasattr(door, name) if plain else name in public)):
            wrong.append(f"{module}: {name}")
    return wrong


# --- what is importable ---------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_name_that_a_script_takes_comes_through_a_door(script: Path):
    assert unresolved(imports_of(script.read_text("utf-8"))) == []


def test_the_readme_names_only_what_there_is():
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert blocks and unresolved([pair for block in blocks for pair in imports_of(block)]) == []
    named = set(re.findall(r"`(postlab(?:\.\w+)+)`", readme))
    assert {"postlab.doctor", "postlab.rewards"} <= named
    for name in named:
        module, _, last = name.rpartition(".")
        assert unresolved([(module, last)]) == []


@pytest.mark.parametrize("door", PROMISED)
def test_promised_names_stay_on_their_doors(door: str):
    assert is_door(door)
    assert unresolved([(door, name) for name in PROMISED[door]]) == []


def test_a_script_that_walks_past_a_door_is_caught():
    text = "from postlab.stats.intervals import mcnemar\nfrom postlab import stats\nstats.nothing\n"
    assert unresolved(imports_of(text)) == [
        "postlab.stats.intervals: mcnemar",
        "postlab.stats: nothing",
    ]


def test_install_explains_itself_and_installs_nothing():
    command = [sys.executable, "-m", "postlab.install"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert "--newest" in done.stdout
    assert subprocess.run([*command, "--newer"], capture_output=True).returncode == 2


# --- what is listed -------------------------------------------------------------------------------


def test_dir_lists_the_rooms_and_how_to_begin():
    assert dir(postlab) == sorted(["Lab", "check", "get_profile", "profile", "start", *ROOMS])
    folders = {path.parent.name for path in (ROOT / "postlab").glob("*/__init__.py")}
    assert set(ROOMS) == folders
    assert all(getattr(postlab, name).__doc__ for name in dir(postlab))


def test_help_says_of_each_room_what_its_door_says():
    table = dict(re.findall(r"^([a-z]+) {2,}(\S.*)$", postlab.__doc__, re.MULTILINE))
    doors = {name: getattr(postlab, name) for name in [*ROOMS, "profile"]}
    assert table == {name: inspect.getdoc(door).split("\n\n")[0] for name, door in doors.items()}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_lists_its_public_names_and_nothing_else(door: str):
    module = importlib.import_module(door)
    assert dir(module) == sorted(module.__all__) and "annotations" not in dir(module)
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("room", FOLDERS)
def test_a_folder_of_modules_lists_them_and_imports_one_when_it_is_named(room: str):
    module = getattr(postlab, room)
    files = {path.stem for path in (ROOT / "postlab" / room).glob("*.py")}
    assert set(dir(module)) == files - {"__init__", "shapes"}  # shapes only checks arguments
    assert all(getattr(module, name).__doc__ for name in dir(module))


@pytest.mark.parametrize("door", DOORS)
def test_every_public_name_is_explained(door: str):
    """A docstring of its own, or, for a constant, a comment on its line or above it."""
    module = importlib.import_module(door)
    path = Path(module.__file__)
    files = path.parent.glob("*.py") if path.stem == "__init__" else [path]
    lines = [line for file in files for line in ["", *file.read_text("utf-8").splitlines()]]
    bare = []
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, ModuleType) or inspect.isroutine(value) or inspect.isclass(value):
            explained = value.__doc__ and not value.__doc__.startswith(f"{name}(")  # a dataclass's
        else:
            defined = rf"(?:\w+, )*{name}\b(?:, \w+)*(?:: [^=]+)? = "
            explained = any(
                re.match(defined, line) and ("  # " in line or before.startswith("# "))
                for before, line in zip(lines, lines[1:], strict=False)
            )
        bare += [] if explained else [name]
    assert bare == []


# --- what a mistake is told -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error", "hint"),
    [
        ("postlab.reward", AttributeError, "no attribute 'reward'; did you mean 'rewards'?"),
        ("from postlab import statz", ImportError, "did you mean 'stats'?"),
        ("postlab.stats.bootstrap", AttributeError, "did you mean 'bootstrap_interval'?"),
        ("from postlab.stats import mcnemmar", ImportError, "did you mean 'mcnemar'?"),
        ("from postlab.scratch import loses", ImportError, "did you mean 'losses'?"),
        ("postlab.profile.get_profil", AttributeError, "did you mean 'get_profile'?"),
        ("postlab.check.dpo_los", AttributeError, "did you mean 'dpo_loss'?"),
        ("postlab.stats.zzz", AttributeError, "dir(postlab.stats) lists"),
        ("from postlab import rollout", ImportError, "it moved to postlab.sampling"),
        ("postlab.fingerprint", AttributeError, "it moved to postlab.runs"),
        ("postlab.plots", AttributeError, "it moved to postlab.show"),
        ("postlab.checks", AttributeError, "it moved to postlab.check"),
        ("postlab.figures_week08_hack", AttributeError, "it moved to postlab.course.week08"),
        ("import postlab.statz", ModuleNotFoundError, "No module named 'postlab.statz'"),
    ],
)  # fmt: skip
def test_a_mistyped_or_moved_name_is_told_the_nearest(code: str, error: type, hint: str):
    with pytest.raises(error) as raised:
        exec(code, {"postlab": postlab})
    assert type(raised.value) is error and hint in str(raised.value)


def test_where_a_module_moved_to_is_there():
    for door, modules in _doors.MOVED.items():
        assert inspect.ismodule(eval(f"postlab.{door}"))
        assert not {name for name in modules.split() if hasattr(postlab, name)}


def test_files_behind_a_door_import_as_before():
    """The tests and the room itself name them; what is missing inside one is not hidden."""
    from postlab.datasets import _hub
    from postlab.stats import intervals

    assert _hub.__name__ == "postlab.datasets._hub" and intervals.mcnemar is postlab.stats.mcnemar
    assert not hasattr(postlab.stats, "__wrapped__") and not hasattr(postlab, "_no_such")


def test_a_missing_package_is_named_and_not_hidden():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "try:\n    from postlab.scratch import losses\n"
        "except ModuleNotFoundError as error:\n    print(error.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "torch\n"
