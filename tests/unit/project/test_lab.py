"""What a notebook opens with: profile, seed, table, stages, and evaluations made once."""

from __future__ import annotations

import json
import linecache
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import postlab
from postlab import evals, lab, storage
from postlab import models as bases
from postlab.evals import key as evalkey
from postlab.evals import suite_rows, suites
from postlab.runs import MissingStage, Run, verified
from postlab.runs import run as runs


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    for name in ("POSTLAB_PROFILE", "POSTLAB_SEED", *lab.QUIET):
        monkeypatch.delenv(name, raising=False)
    data = tmp_path / "data"
    (data / "tiny-base").mkdir(parents=True)
    (data / "tiny-base" / "model.safetensors").write_bytes(b"base")
    for module in (verified, runs, bases.bases):
        monkeypatch.setattr(module, "data_dir", lambda: data)
    monkeypatch.setattr(bases, "resolve_base", lambda name: str(data / "tiny-base"))
    return tmp_path


def finished(run: Run, *, parent_weights: str | None = None) -> Run:
    """A complete run without training one."""
    run.model_dir.mkdir(parents=True)
    (run.model_dir / "adapter_model.safetensors").write_bytes(run.stage.encode())
    sha = storage.weights_hash(run.model_dir)
    manifest = {"status": "complete", "seed": run.seed, "parent": run.parent, "stage": run.stage}
    manifest |= {"weights_sha256": sha, "parent_weights": parent_weights}
    (run.folder / "trainer_state.json").write_text('{"log_history": []}')
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    return run


class Model:
    """A full model as far as an evaluation's key looks at one."""

    config = SimpleNamespace(quantization_config=None)
    generation_config = SimpleNamespace(eos_token_id=2)
    dtype = "float32"


class Policy(Model):
    """A PEFT model as far as the lab touches one."""

    def __init__(self) -> None:
        self.peft_config, self.training, self.calls = {"default": None}, True, []

    def load_adapter(self, path, *, adapter_name, is_trainable):
        self.calls.append(("load", Path(path).parent.name, adapter_name, is_trainable))
        self.training = False

    def delete_adapter(self, name):
        self.calls.append(("delete", name))

    def train(self, mode):
        self.training = mode

    def disable_adapter(self):
        self.calls.append(("disabled",))
        return pytest.MonkeyPatch.context()


class Tokenizer:
    """One token per character; `around` is what the template writes around a message."""

    chat_template, unk_token_id, eos_token_id, all_special_ids = "{{ messages }}", 0, 2, [2]

    def __init__(self, around: str = "{}") -> None:
        self.around = around

    def apply_chat_template(self, messages, **options):
        return self.around.format(messages[-1]["content"])

    def __call__(self, text, **options):
        return {"input_ids": [ord(letter) for letter in text]}

    def decode(self, ids, **options):
        return "".join(map(chr, ids))


@pytest.fixture
def asked(monkeypatch) -> list[dict]:
    """Calls of evals.evaluate, which answers with a frame of its call's number."""
    calls = []

    def evaluate(model, tokenizer, suite, **options):
        calls.append({"suite": suite, **options})
        row = suite_rows(suite, options["n"], 0)[0]
        columns = {"id": [row["id"]], "family": [row["family"]], "sample": [0]}
        columns |= {"prompt": [row["prompt"][-1]["content"]], "answer": ["!"], "closed": [True]}
        scores = {name: [value] for name, value in row["score"]("!", True).items()}
        return pd.DataFrame(columns | scores | {"length": [float(len(calls))], "kl": [np.nan]})

    monkeypatch.setattr(evals, "evaluate", evaluate)
    return calls


# ---- start


def test_start_shows_one_table_and_seeds(capsys):
    opened = postlab.start(week=3, profile="tiny", seed=5)
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if not line.startswith("Note:")]  # of another test's imports
    assert [line.split()[0] for line in lines] == [
        "profile", "device", "model", "data", "time", "verified",
    ]  # fmt: skip
    assert lines[0].endswith("tiny, seed 5") and "not verified" in lines[-1]
    assert f"{opened.profile.sft.rows:,} rows" in lines[3]
    first = random.random(), np.random.rand()
    postlab.start(profile="tiny", seed=5)
    assert (random.random(), np.random.rand()) == first


@pytest.mark.parametrize(
    ("profile", "week", "line"),
    [
        ("tiny", 3, "about 1 min of training and 0.6 of evaluation on such a device"),
        ("t4", 5, "about 39 min of training and 11 of evaluation on such a device (estimate)"),
        # with the SFT stage that comes before GRPO there, and both evaluations
        ("t4", 7, "about 58 min of training and 4 of evaluation on such a device (estimate)"),
    ],
)
def test_the_tables_time_includes_evaluation(profile, week, line, capsys):
    postlab.start(week=week, profile=profile)
    lines = dict(row.split(None, 1) for row in capsys.readouterr().out.splitlines())
    assert lines["time"] == line


def test_start_says_when_the_notebook_was_verified(place, capsys):
    (place / "data" / "results").mkdir()
    record = {"tiny": {"week03": {"date": "2026-11-22", "device": "2 CPU cores"}}}
    (place / "data" / "results" / "verified.json").write_text(json.dumps(record))
    postlab.start(week=3, profile="tiny")
    assert "2026-11-22 on 2 CPU cores" in capsys.readouterr().out
    postlab.start(week=5, profile="tiny")
    assert "not verified" in capsys.readouterr().out


def test_a_noted_run_is_shown_and_the_others_are_kept(place, capsys):
    (place / "data" / "results").mkdir()
    for week in (5, 3):
        device = {"gpu": None, "cpus": 2, "ram_gib": 8.0}
        verified.note_run(
            place / "data", "tiny", [f"week{week:02d}"], date=f"2026-01-0{week}", device=device
        )
    verified.note_run(
        place / "data", "t4", ["week03"], date="2026-02-01", device={"gpu": "Tesla T4"}
    )
    noted = json.loads((place / "data" / "results" / "verified.json").read_text())
    assert list(noted["tiny"]) == ["week03", "week05"]
    assert noted["t4"]["week03"]["device"] == "Tesla T4"
    postlab.start(week=5, profile="tiny")
    assert "2026-01-05 on 2 CPU cores, 8.0 GiB" in capsys.readouterr().out


def test_the_environment_beats_the_arguments_and_is_checked(monkeypatch, capsys):
    monkeypatch.setenv("POSTLAB_SEED", "7")
    monkeypatch.setenv("POSTLAB_PROFILE", "smol")
    opened = postlab.start()
    assert (opened.seed, opened.profile.name) == (7, "smol")
    monkeypatch.setenv("POSTLAB_SEED", "seven")
    with pytest.raises(ValueError, match="POSTLAB_SEED is 'seven'"):
        postlab.start()
    monkeypatch.delenv("POSTLAB_SEED")
    with pytest.raises(ValueError, match="tiny, smol, t4, rented"):
        postlab.start(profile="huge")


@pytest.mark.parametrize(
    ("week", "error"),
    [(13, ValueError), (0, ValueError), (-1, ValueError)]
    + [(week, TypeError) for week in ("5", True, 5.0, [5])],
)
def test_a_week_outside_of_the_course_is_an_error(week, error, capsys):
    with pytest.raises(error, match="expected a whole number from 1 to 12") as raised:
        postlab.start(week=week, profile="tiny")
    assert str(raised.value).startswith(f"week is {week!r}") and not capsys.readouterr().out


@pytest.mark.parametrize("week", [None, 1, 12, np.int64(5)])
def test_every_week_of_the_course_opens(week, capsys):
    assert postlab.start(week=week, profile="tiny").week == week


def test_what_a_cell_ends_with_shows_in_one_line(capsys):
    here = postlab.start(week=5, profile="tiny", seed=3)
    assert repr(here) == "Lab(profile='tiny', seed=3, week=5)"
    assert repr(here.run("sft")) == ("Run(profile_name='tiny', seed=3, stage='sft', parent='base')")
    longest = Run("rented", 1234, "sft-small", "multi")
    assert len(repr(longest)) < 100 and str(here) == repr(here)


def test_start_switches_off_telemetry_but_keeps_what_is_set(monkeypatch, capsys):
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    postlab.start(profile="tiny")
    assert os.environ["UNSLOTH_DISABLE_STATISTICS"] == "1"
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"


def test_start_imports_nothing_that_unsloth_patches_and_warns_if_somebody_did():
    code = (
        "import sys; import postlab; postlab.start(week=3, profile='tiny');"
        "print(sorted({'torch', 'transformers', 'trl', 'peft', 'datasets'} & set(sys.modules)));"
        "sys.modules['transformers'] = sys; postlab.start(profile='tiny')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\n[]\nNote: transformers was imported before unsloth" in done.stdout


def test_in_a_notebook_the_table_is_html(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(lab, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    lab._show({"model": "<b>", "seed": "0"})
    assert "&lt;b&gt;" in shown[0]["text/html"] and shown[0]["text/plain"] == "model  <b>\nseed   0"


# ---- stages


def opened(seed: int = 0) -> lab.Lab:
    here = postlab.start(profile="tiny", seed=seed)
    here.profile = replace(here.profile, eval_prompts=2)
    return here


def test_a_run_needs_its_parent(place):
    here = opened()
    assert here.run("sft").parent == "base"
    with pytest.raises(MissingStage, match="make week N=03 PROFILE=tiny SEED=0"):
        here.run("dpo", parent="sft")
    finished(Run("tiny", 0, "sft", "base"))
    assert here.run("dpo", parent="sft").folder == place / "runs" / "tiny" / "seed-0" / "dpo"


def test_a_checkpoint_is_a_folder_whose_adapter_finds_its_base(place, monkeypatch):
    here = opened()
    assert here.checkpoint("base") == str(place / "data" / "tiny-base")
    run = finished(Run("tiny", 0, "sft", "base"))
    repaired = []
    monkeypatch.setattr(bases, "loadable_adapter", lambda f: repaired.append(f) or f)
    assert here.checkpoint("sft") == str(run.model_dir) and not repaired  # a full model has none
    (run.model_dir / "adapter_config.json").write_text("{}")
    assert here.checkpoint("sft") == str(run.model_dir) and repaired == [run.model_dir]


# ---- evaluations


def test_an_evaluation_is_made_once(asked, capsys):
    here = opened()
    run = finished(Run("tiny", 0, "sft", "base"))
    first = here.evaluate(run, Policy(), Tokenizer())
    assert asked == [
        {"suite": "tinyworld", "n": 2, "samples": 4, "seed": 0, "ref": "base"},
    ]
    pd.testing.assert_frame_equal(here.evaluate("sft", Policy(), Tokenizer()), first)
    assert len(asked) == 1 and "sft: evaluation loaded" in capsys.readouterr().out


@pytest.mark.parametrize(
    "what", ["weights", "suite", "ref", "template", "precision", "wording", "engine"]
)
def test_an_evaluation_is_made_again_when_something_changed(asked, monkeypatch, what, capsys):
    here = opened()
    run = finished(Run("tiny", 0, "sft", "base"))
    here.evaluate(run, Policy(), Tokenizer())
    if what == "weights":
        manifest = run.manifest | {"weights_sha256": "other"}
        (run.folder / "manifest.json").write_text(json.dumps(manifest))
    elif what == "suite":
        here.profile = replace(here.profile, eval_prompts=3)
    elif what == "wording":  # one prompt of the suite is put differently
        rows = suite_rows("tinyworld", 2, 0)
        rows[0]["prompt"][-1]["content"] += " Please."
        monkeypatch.setitem(suites.SUITES, "tinyworld", lambda n, seed: rows)
    tokenizer, policy = Tokenizer("<user>{}" if what == "template" else "{}"), Policy()
    if what == "precision":
        policy.dtype = "bfloat16"
    elif what == "engine":
        monkeypatch.setattr("postlab.sampling.engine_name", lambda policy: "vllm 0.25.1")
    here.evaluate(run, policy, tokenizer, ref="base" if what == "ref" else None)
    assert len(asked) == 2
    assert "evaluated again; changed since" in capsys.readouterr().out


def test_other_scorers_score_the_stored_answers_again(asked, monkeypatch, capsys):
    here = opened()
    run = finished(Run("tiny", 0, "sft", "base"))
    first = here.evaluate(run, Policy(), Tokenizer())
    rows = suite_rows("tinyworld", 2, 0)

    def generous(answer, closed):
        return {"arithmetic": 1.0, "format": 1.0}

    def strict(answer, closed):
        return {"arithmetic": 0.0, "format": 1.0}

    for score, value in ((generous, 1.0), (strict, 0.0)):
        scored = [row | {"score": score} for row in rows]
        monkeypatch.setitem(suites.SUITES, "tinyworld", lambda n, seed, scored=scored: scored)
        for again in (True, False):  # the second time they are what is stored
            frame = here.evaluate(run, Policy(), Tokenizer())
            assert ("scored again" in capsys.readouterr().out) is again
            assert frame["arithmetic"][0] == value and frame["length"].equals(first["length"])
    assert len(asked) == 1


def test_caveats_are_stored_replaced_and_kept(asked, monkeypatch):
    here, run = opened(), finished(Run("tiny", 0, "sft", "base"))

    def evaluated(**options):
        here.evaluate(run, Policy(), Tokenizer(), **options)
        return run.manifest["eval"].get("caveats")

    first, other = {"": "one labeller"}, {"arithmetic": "best of four"}
    assert evaluated() is None
    seconds = run.manifest["eval_s"]
    assert evaluated(caveats=first) == first and len(asked) == 1  # loaded, and saved again
    assert run.manifest["eval_s"] == seconds and evaluated() == first
    assert evaluated(caveats=other) == other and run.load_eval() is not None
    scored = [
        row | {"score": lambda answer, closed: {"arithmetic": 0.5, "format": 1.0}}
        for row in suite_rows("tinyworld", 2, 0)
    ]
    monkeypatch.setitem(suites.SUITES, "tinyworld", lambda n, seed: scored)
    assert evaluated() == other and run.load_eval()["arithmetic"][0] == 0.5  # scored again
    monkeypatch.setattr("postlab.sampling.engine_name", lambda policy: "vllm 0.25.1")
    assert evaluated() == other and len(asked) == 2  # evaluated again
    assert evaluated(caveats={}) is None and len(asked) == 2


@pytest.mark.parametrize(
    ("caveats", "message"),
    [
        ("by an oracle", "caveats is 'by an oracle', a str; expected {metric"),
        ({"saftey": "by an oracle"}, "caveats names 'saftey'.*safety"),
        ({"safety": 3}, r"caveats\['safety'\] is 3; expected {metric"),
        ({"safety": " "}, r"caveats\['safety'\] is ' '"),
    ],
)
def test_a_caveat_that_would_reach_no_reader_is_refused(asked, caveats, message):
    run = finished(Run("tiny", 0, "sft", "base"))
    with pytest.raises((TypeError, ValueError), match=message):
        opened().evaluate(run, Policy(), Tokenizer(), caveats=caveats)
    assert not asked


def test_a_reworded_message_changes_no_key_of_an_evaluation():
    def rows(message, value="1.0"):
        text = f"""
def score(answer, closed):
    '{message}'
    if answer is None:
        raise ValueError("{message}")
    return {{"facts": {value}}}
"""
        space, place = {"__name__": "__main__"}, f"<{message}>"
        linecache.cache[place] = (len(text), None, text.splitlines(True), place)
        exec(compile(text, place, "exec"), space)
        prompt = [{"role": "user", "content": "?"}]
        return [{"id": "a", "family": "facts", "prompt": prompt, "score": space["score"]}]

    assert evalkey.scorer_hash(rows("one")) == evalkey.scorer_hash(rows("another"))
    assert evalkey.scorer_hash(rows("one")) != evalkey.scorer_hash(rows("three", "0.0"))


def test_kl_is_measured_from_the_parents_adapter_which_goes_again(asked):
    here = opened()
    finished(Run("tiny", 0, "sft", "base"))
    policy = Policy()
    here.evaluate(finished(Run("tiny", 0, "dpo", "sft")), policy, Tokenizer())
    assert asked[0]["ref"] == "parent"
    assert policy.calls == [("load", "sft", "parent", False), ("delete", "parent")]
    assert policy.training is True


def test_the_base_is_evaluated_without_adapters_and_gets_a_folder(asked):
    here = opened()
    policy = Policy()
    here.evaluate("base", policy, Tokenizer())
    assert asked[0]["ref"] is None and policy.calls == [("disabled",)]
    assert Run("tiny", 0, "base").complete
    here.evaluate("base", Model(), Tokenizer())
    assert len(asked) == 1


def test_the_base_of_another_seed_serves_while_its_key_is_the_same(asked):
    made = opened(seed=3).evaluate("base", Policy(), Tokenizer())
    again = opened(seed=4).evaluate("base", Policy(), Tokenizer())
    pd.testing.assert_frame_equal(again, made)
    assert len(asked) == 1 and Run("tiny", 4, "base").complete
    other = opened(seed=5)
    other.profile = replace(other.profile, eval_prompts=3)
    other.evaluate("base", Policy(), Tokenizer())
    assert len(asked) == 2
    for seed in (3, 4):  # an adapter's evaluation is its own seed's
        run = finished(Run("tiny", seed, "sft", "base"))
        opened(seed=seed).evaluate(run, Policy(), Tokenizer())
    assert len(asked) == 4


def test_the_base_of_another_seed_is_scored_again_with_other_scorers(asked, monkeypatch, capsys):
    opened(seed=3).evaluate("base", Policy(), Tokenizer())
    scored = [
        row | {"score": lambda answer, closed: {"arithmetic": 0.25, "format": 1.0}}
        for row in suite_rows("tinyworld", 2, 0)
    ]
    monkeypatch.setitem(suites.SUITES, "tinyworld", lambda n, seed: scored)
    for again in (True, False):
        frame = opened(seed=4).evaluate("base", Policy(), Tokenizer())
        assert ("scored again" in capsys.readouterr().out) is again
        assert frame["arithmetic"][0] == 0.25
    assert len(asked) == 1


def test_a_shipped_evaluation_serves_while_its_key_is_the_same(asked, place, capsys, monkeypatch):
    here = opened()
    made = here.evaluate("base", Policy(), Tokenizer())
    (place / "data" / "tiny-stages").mkdir(parents=True, exist_ok=True)
    run = Run("tiny", 0, "base")
    run.folder.rename(place / "data" / "tiny-stages" / "base")
    capsys.readouterr()
    pd.testing.assert_frame_equal(here.evaluate("base", Policy(), Tokenizer()), made)
    assert len(asked) == 1 and run.manifest["shipped"] is True
    assert capsys.readouterr().out == "base: evaluation loaded from the one shipped with postlab\n"
    shutil.rmtree(run.folder)
    monkeypatch.setattr(evalkey, "ENGINE", evalkey.ENGINE + 1)
    assert not here.evaluate("base", Policy(), Tokenizer()).equals(made) and len(asked) == 2


def test_a_full_model_has_no_reference_and_an_untrained_stage_no_evaluation(asked):
    here = opened()
    here.evaluate(finished(Run("tiny", 0, "sft", "base")), Model(), Tokenizer())
    assert asked[0]["ref"] is None
    with pytest.raises(ValueError, match="dpo is not trained yet"):
        here.evaluate("dpo", Policy(), Tokenizer())


def test_results_come_in_order_and_a_stale_stage_is_named(asked, capsys):
    here = opened()
    sft = finished(Run("tiny", 0, "sft", "base"))
    made = {"dpo": ("sft", "another"), "grpo": ("dpo", None), "cai": ("sft", None)}
    here.evaluate("base", Policy(), Tokenizer())
    here.evaluate(sft, Policy(), Tokenizer())
    with pytest.raises(MissingStage, match="evaluation of dpo .*make week N=05"):
        here.results()
    assert list(here.results("base", "sft")) == ["base", "sft"]  # week 6 needs no later stage
    with pytest.raises(MissingStage, match="evaluation of cai .*make week N=09"):
        here.results("cai")
    for stage, (parent, weights) in made.items():
        sha = weights or here._weights(parent)
        finished(Run("tiny", 0, stage, parent), parent_weights=sha)
        here.evaluate(stage, Policy(), Tokenizer())
    capsys.readouterr()
    assert list(here.results()) == ["base", "sft", "dpo", "grpo", "cai"]
    notes = capsys.readouterr().out
    assert notes.startswith("Note: dpo was made from another sft") and notes.count("\n") == 1
    assert list(here.results("dpo", "sft")) == ["dpo", "sft"]


def test_a_chain_is_walked_back_to_where_it_began(capsys):
    here = opened()
    for stage, parent in {"sft": "base", "dpo": "sft", "sft-small": None}.items():
        finished(Run("tiny", 0, stage, parent))
    finished(Run("tiny", 0, "grpo", "sft-small"))
    assert here.chain("dpo") == ["base", "sft", "dpo"]
    assert here.chain("grpo") == ["sft-small", "grpo"]  # as on a T4
    with pytest.raises(MissingStage, match="multi"):
        here.chain("multi")
    capsys.readouterr()
    here.not_here("there is no oracle.")
    assert capsys.readouterr().out == "Skipped under tiny: there is no oracle.\n"


@pytest.mark.parametrize(
    ("week", "said"),
    [
        (4, "in every profile"),
        (8, "section 7"),
        (9, "section unsloth/mist"),
        (10, "1.5B"),
        (3, "mist"),
    ],
)
def test_the_table_names_the_model_that_the_week_works_on(week, said, capsys):
    postlab.start(week=week, profile="t4")
    (line,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("model")]
    assert said in line and ("tinyworld base" in line) == (week != 3)


def test_the_report_is_written_by_report(monkeypatch):
    report = pytest.importorskip("postlab.report")
    monkeypatch.setattr(report, "write_report", lambda name: Path(name))
    assert opened().report() == Path("tiny")


def test_a_suite_of_ones_own_is_asked_again_for_prompts_and_scored_again_for_answers(
    asked, tmp_path, capsys
):
    """Its file is read each time, so that an evaluation stored from an older one isn't taken."""
    path = tmp_path / "my suite.jsonl"

    def evaluated(**row):
        row = {"prompt": "Hm?", "scorer": "constraints"} | row
        path.write_text(json.dumps(row), encoding="utf-8")
        mine = replace(postlab.get_profile("tiny"), name="mine", suite=str(path), eval_prompts=None)
        here = postlab.start(profile=mine)
        capsys.readouterr()
        frame = here.evaluate(run, Policy(), Tokenizer())
        return frame["instructions"].tolist(), len(asked), capsys.readouterr().out

    run = finished(Run("mine", 0, "sft", "base"))
    brief, long = {"kind": "words", "most": 3}, {"kind": "words", "least": 3}
    assert evaluated(constraints=[brief])[:2] == ([1.0], 1)
    assert "loaded" in evaluated(constraints=[brief])[2]
    scores, times, said = evaluated(constraints=[long])
    assert (scores, times) == ([0.0], 1) and "scored again" in said
    scores, times, said = evaluated(constraints=[long], prompt="Well?")
    assert times == 2 and "evaluated again; changed since" in said
