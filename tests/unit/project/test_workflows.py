"""The workflows can't be changed from outside: actions by commit, rights to read, and no token."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[3] / ".github" / "workflows"
WORKFLOWS = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.y*ml")}
BY_COMMIT = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def loose_actions(text: str) -> list[str]:
    """The actions that a workflow doesn't name by a full commit, its version beside it."""
    uses = re.findall(r"^[ -]*uses: *(.*?) *$", text, re.M)
    return [each for each in uses if not each.startswith("./") and not BY_COMMIT.fullmatch(each)]


def too_much(text: str) -> list[str]:
    """What a workflow may do that ours don't need: rights, and checkouts that keep the token."""
    workflow, faults = yaml.safe_load(text), []
    if workflow.get("permissions") != {"contents": "read"}:
        faults.append("permissions")
    for name, job in workflow["jobs"].items():
        if "permissions" in job:
            faults.append(f"{name}: permissions of its own")
        for step in job["steps"]:
            kept = step.get("with", {}).get("persist-credentials", True)
            if step.get("uses", "").startswith("actions/checkout@") and kept is not False:
                faults.append(f"{name}: a checkout that keeps its token")
    return faults


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_by_commit(name: str):
    assert loose_actions(WORKFLOWS[name]) == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read(name: str):
    assert too_much(WORKFLOWS[name]) == []


def test_the_rules_see_what_they_should():
    commit = "a" * 40
    for bad in ("a/b@v4", "a/b@main", f"a/b@{commit}", f"a/b@{commit[1:]} # v1.2.3"):
        assert loose_actions(f"    - uses: {bad}\n") == [bad]
    assert loose_actions(f"    - uses: a/b@{commit} # v1.2.3\n      uses: ./mine\n") == []
    checkout = "jobs: {a: {permissions: {}, steps: [{uses: actions/checkout@v4}]}}"
    assert len(too_much(checkout)) == 3


def test_known_vulnerabilities_are_looked_for_every_week_in_all_that_is_pinned():
    workflow = yaml.safe_load(WORKFLOWS["ci.yml"])
    audits = {
        name: script
        for name, job in workflow["jobs"].items()
        if "pip-audit" in (script := " ".join(step.get("run", "") for step in job["steps"]))
    }
    ((name, script),) = audits.items()
    assert "schedule" in workflow[True] and "'schedule'" in workflow["jobs"][name]["if"]
    assert {"--strict", "--require-hashes"} <= set(script.split())
    locks = {path.name for path in FOLDER.parents[1].glob("requirements*")}
    assert locks == set(re.findall(r"-r (\S+)", script))


def test_what_will_break_is_tried_every_week_and_may_fail():
    job = yaml.safe_load(WORKFLOWS["ci.yml"])["jobs"]["beyond"]
    assert job["continue-on-error"] is True and "'schedule'" in job["if"]
    assert any("NEWEST=beyond" in step.get("run", "") for step in job["steps"])


def test_wheel_and_sdist_are_built_installed_and_kept():
    job = yaml.safe_load(WORKFLOWS["ci.yml"])["jobs"]["package"]
    runs = [step.get("run", "") for step in job["steps"]]
    (build,) = (run for run in runs if "pyproject-build" in run)
    assert not {"--wheel", "--sdist"} & set(build.split())  # by default it builds both
    assert any("install" in run and "dist/*.whl" in run for run in runs)
    upload = job["steps"][-1]
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["with"]["path"] == "dist/" and "--outdir dist" in build
