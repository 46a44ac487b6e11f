"""A wheel, or the release's zip, carries the embedded data: it works in an empty folder, alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from modules import module_at

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but an installed wheel in it; building it needs no network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, ROOT]
    subprocess.run([*pip, *wheel], check=True)
    built = next(folder.glob("postlab-*.whl"))
    target = folder / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", target, built], check=True
    )
    return target


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both files of `make release`, in a folder with a name that pip must not stumble over."""
    folder = tmp_path_factory.mktemp("release") / "my downloads [1] #2 100% é"
    folder.mkdir()
    release = module_at(ROOT / ".ci" / "release.py", "make_release")
    release.write_wheel(ROOT, folder)
    release.write_zip(ROOT, folder / "postlab-0.0.1.zip", "postlab-0.0.1")
    return folder


@pytest.mark.parametrize("suffix", ["whl", "zip", "unzipped"])
def test_a_fresh_environment_installs_it_by_the_address_that_the_setup_cell_gives(
    released: Path, tmp_path: Path, suffix: str
):
    """As the setup cell does, but for what needs a network: dependencies and build isolation."""
    source = next(released.glob(f"postlab-*.{suffix.replace('unzipped', 'zip')}"))
    if suffix == "unzipped":
        shutil.unpack_archive(source, tmp_path / "un zipped")
        source = next((tmp_path / "un zipped").iterdir())
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    site = next(environment.glob("lib/python*/site-packages"))
    # pip and hatchling are read from this environment; nothing else is there before the package.
    pip = [sys.executable, "-m", "pip", "--python", python, "--quiet", "install", "--no-index"]
    borrowed = "import sys; sys.path += " + repr([p for p in sys.path if "site-packages" in p])
    (site / "borrowed.pth").write_text(borrowed)
    requirement = f"postlab[train] @ {source.resolve().as_uri()}"
    options = ["--no-deps", "--no-build-isolation", "--ignore-installed"]
    subprocess.run([*pip, *options, requirement], check=True)
    (site / "borrowed.pth").unlink()
    code = (
        "import postlab, importlib.metadata as m\nfrom postlab.profile import data_dir\n"
        "print(postlab.__file__)\nprint((data_dir() / 'tiny-base' / 'config.json').exists())\n"
        "print(m.version('postlab') == postlab.__version__)"
    )
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == [str(site / "postlab" / "__init__.py"), "True", "True"], (
        done.stderr
    )


def in_empty_folder(installed: Path, folder: Path, code: str) -> list[str]:
    """The lines that `code` prints with the installed wheel before everything else."""
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\n{code}"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_installed_package_finds_its_own_data(installed: Path, tmp_path: Path):
    code = (
        "import postlab\nfrom postlab.profile import data_dir\n"
        "print(postlab.__file__)\nprint(data_dir())\n"
        "print((data_dir() / 'tiny-base' / 'config.json').exists())"
    )
    package, data, found = in_empty_folder(installed, tmp_path, code)
    assert Path(package) == installed / "postlab" / "__init__.py"
    assert Path(data) == installed / "postlab" / "_data"
    assert found == "True"


def test_the_wheel_holds_all_data_files_the_template_and_the_type_marker(installed: Path):
    ours = {p.relative_to(ROOT / "data") for p in (ROOT / "data").rglob("*") if p.is_file()}
    theirs = installed / "postlab" / "_data"
    assert {path for path in ours if not (theirs / path).exists()} == set()
    assert list((installed / "postlab").rglob("page.html.j2"))
    assert (installed / "postlab" / "py.typed").exists()


def test_the_installed_package_knows_what_to_install_without_dependencies(
    installed: Path, tmp_path: Path
):
    code = "from postlab.install import pinned_requirements\nprint(*pinned_requirements())"
    pins = in_empty_folder(installed, tmp_path, code)[0].split()
    text = (ROOT / "requirements-nodeps.txt").read_text("utf-8")
    assert pins == re.findall(r"^[\w-]+==[\w.]+", text, re.M)


def test_the_readmes_script_for_ones_own_model_and_rows_runs(installed: Path, tmp_path: Path):
    """Word for word, from the wheel, beside two models and a file of rows that are no one's."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from postlab.tinyworld.tasks import heldout_suite

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    script = re.search(r"## In your own notebook\n\n```python\n(.*?)```", text, re.S)[1]
    assert len(script.splitlines()) <= 25
    shutil.copytree(ROOT / "data" / "tiny-base", tmp_path / "my-base")
    shutil.copytree(ROOT / "data" / "tiny-base", tmp_path / "my-tuned")
    base = AutoModelForCausalLM.from_pretrained(ROOT / "data" / "tiny-base")
    adapter = ROOT / "data" / "tiny-stages" / "sft" / "model"
    PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(
        tmp_path / "my-tuned"
    )
    facts = [row for row in heldout_suite(n=6) if row["family"] == "facts"]
    rows = [{"instruction": row["prompt"][-1]["content"], "output": "Nobody."} for row in facts]
    lines = [json.dumps(row) for row in [*rows, {"instruction": "No reply", "output": ""}]]
    (tmp_path / "my_rows.jsonl").write_text("\n".join(lines))
    printed = "\n".join(in_empty_folder(installed, tmp_path, script))
    assert "1 with an empty reply" in printed
    assert "row 0:" in printed and "tokens are trained" in printed
    assert "exact" in printed and "difference_low" in printed
