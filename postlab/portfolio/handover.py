"""What is handed over says the same as what was evaluated: each file is scored again.

A stage is evaluated as an adapter in the training stack. What people download is something else:
the adapter's files, a merged model in 16 bits, a GGUF file in 16 or 8 bits. `handover` writes each
of them, loads it back, asks it the held-out prompts again, and tests on those prompts whether it
scores the same up to a margin. It also looks for what would keep servers from serving the files,
and writes the commands that serve them.

What this leaves out: llama.cpp's and vLLM's own arithmetic. A GGUF file is read back by
transformers, which computes with its rounded weights in floats.
"""

from __future__ import annotations

import gc
import json
import math
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.doctor import Finding
from postlab.portfolio.serving import modelfile, serving_findings, vllm_commands
from postlab.profile import Profile, get_profile
from postlab.stats import equivalence, upper_bound
from postlab.storage import atomic_text, file_hash

if TYPE_CHECKING:
    import pandas as pd

    from postlab.models import ExportReport

MARGIN = 0.05  # five points; 52 prompts of which none changes show it
FORMATS = ("adapter", "merged", "gguf-f16", "gguf-q8_0", "gguf-q4_k_m")
NOT_MEASURED = "not measured"
HANDOVER = "handover.json"
COLUMNS = (
    "format", "mb", "metric", "before", "after", "difference", "low", "high", "p", "n", "verdict"
)  # fmt: skip


@dataclass(frozen=True)
class Handover:
    """What was written, and whether it scores the same as the stage.

    Args:
        folder: holds `adapter/`, `merged/` and `gguf/`.
        frame: a row per format and metric: format, mb, metric, before, after, difference, low,
            high (the 90% interval), p, n, verdict; shares, so 0.01 is a point.
        answers: a row per format: how many greedy answers changed, of how many, the largest share
            that leaves possible (one-sided, 95%), and seconds.
        margin: the largest difference that doesn't matter.
        proof: logits and answers before and after the merge, on a few prompts.
        findings: what keeps servers from serving a folder as it was evaluated, by folder.
        commands: that serve the model with vLLM and Ollama, to be run in `folder`. There is none
            for what a server would stumble over, or what scored differently.
        blocked: why no command serves a format, by format; such a format isn't published either.
        notes: what was not done, and why.
    """

    folder: Path
    frame: pd.DataFrame
    answers: pd.DataFrame
    margin: float
    proof: ExportReport | None
    findings: Mapping[str, tuple[Finding, ...]]
    commands: tuple[str, ...]
    blocked: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def verdicts(self) -> dict[str, str]:
        """Each format's verdict: "equivalent" only if every metric is, "different" if one is."""
        return _verdicts(self.frame)


def handover(
    stage_checkpoint: str | Path,
    *,
    to: str | Path,
    profile: Profile | str | None = None,
    suite: Any = None,
    n: int | None = None,
    formats: Sequence[str] = FORMATS,
    margin: float = MARGIN,
    reference: pd.DataFrame | None = None,
    name: str | None = None,
) -> Handover:
    """Write a stage in the formats that people use, and score each on the held-out prompts again.

    Args:
        stage_checkpoint: the adapter folder of a stage, as `lab.checkpoint` gives it.
        to: a new folder.
        profile: as for `load_policy`; None detects it. Its `load_in_4bit` says on which base the
            stage was trained; the merge goes into the base in 16 bits.
        suite: the held-out prompts, as for `evals.evaluate`; None takes the profile's.
        n: at most so many prompts a family, the first of the profile's; None takes all of those.
        formats: of FORMATS. "gguf-q4_k_m" is left out where llama.cpp's `llama-quantize` isn't on
            PATH.
        margin: the largest difference of a share that doesn't matter, chosen beforehand.
        reference: the stage as it was evaluated (`lab.results()["grpo"]`); None evaluates it here.
        name: that servers give the model; None takes the name of the stage's folder.
    Returns:
        The files, and what was measured on them.
    Raises:
        ValueError: for an unknown format, a folder without an adapter, or a `to` that exists.
        MemoryError: as `export`.
    """
    from postlab.models import export, halve, load_policy, write_gguf

    stage, to = Path(stage_checkpoint), Path(to).absolute()
    if unknown := [f for f in formats if f not in FORMATS]:
        raise ValueError(f"format {unknown[0]!r}; expected some of {', '.join(FORMATS)}")
    if not (stage / "adapter_config.json").is_file():
        raise ValueError(f"{stage} holds no adapter_config.json: expected an adapter folder")
    if to.exists():
        raise ValueError(f"{to} exists; name a folder that does not, or delete this one")
    profile = profile if isinstance(profile, Profile) else get_profile(profile)
    name = name or (stage.parent if stage.name == "model" else stage).name
    rows = _Rows(profile, suite, n, margin)
    notes = [
        "transformers loaded the GGUF files for the evaluation; llama.cpp itself was not run"
    ] * any(f.startswith("gguf") for f in formats)

    # 1. The stage itself, and then its files as they will be handed over.
    if reference is None:
        reference = rows.evaluate(*load_policy(stage, profile=profile))
    rows.reference = reference
    if "adapter" in formats:
        copied = copy_adapter(stage, to / "adapter")
        rows.add("adapter", copied, lambda: load_policy(copied, profile=profile))
        name_base(copied)
    # 2. The merged model in 16 bits, from which the others are made.
    proof, merged = None, to / "merged"
    if set(formats) - {"adapter"}:
        proof = export(stage, to=merged, profile=profile)
        halve(merged)
        if not proof.prompts:
            notes.append("too little memory: the merged model was written, but not evaluated")
    fits = proof is not None and proof.prompts > 0
    bits = 32 if profile.dtype == "float32" else 16
    if "merged" in formats:
        load = partial(load_policy, merged, profile=profile, bits=bits)
        rows.add("merged", merged, load if fits else None)
    # 3. GGUF files of it.
    tokenizer = _tokenizer(merged) if proof else None
    files: list[Path] = []
    for form in (f for f in FORMATS if f in formats and f.startswith("gguf")):
        kind = form.removeprefix("gguf-")
        file = to / "gguf" / f"model-{kind}.gguf"
        file.parent.mkdir(exist_ok=True)
        if kind == "q4_k_m" and not _quantize(merged, file):
            notes.append("gguf-q4_k_m was not written: llama.cpp's llama-quantize isn't on PATH")
            continue
        if kind != "q4_k_m":
            write_gguf(merged, file, kind=kind)
        files.append(file)
        load = partial(_load_gguf, file, tokenizer, profile)
        rows.add(form, file, load if fits else None)
    # 4. What serves them, if nothing speaks against it.
    findings: dict[str, tuple[Finding, ...]] = {}
    if "adapter" in formats:
        findings["adapter"] = tuple(serving_findings(to / "adapter"))
    if proof:
        last = files[-1] if files else None
        found = serving_findings(merged, gguf=last, prompts=rows.conversations())
        findings["merged"] = tuple(f for f in found if not f.code.startswith("gguf"))
        if files:
            findings["gguf"] = tuple(f for f in found if f.code.startswith("gguf"))
    frame = rows.frame()
    blocked = _blocked(_verdicts(frame), findings)
    notes += [f"no serving command for {form}: {why}" for form, why in blocked.items()]
    commands = vllm_commands(
        name,
        merged=merged if "merged" in formats and "merged" not in blocked else None,
        adapter=to / "adapter" if "adapter" in formats and "adapter" not in blocked else None,
    )
    commands = [line.replace(f"{to}/", "./") for line in commands]
    verdicts = _verdicts(frame)
    by_form = {f"gguf-{file.stem.removeprefix('model-')}": file for file in files}
    if fit := [form for form in by_form if form not in blocked]:
        # The smallest that was shown to be equivalent, if one was.
        served = by_form[sorted(fit, key=lambda form: verdicts[form] == "equivalent")[-1]]
        (to / "gguf" / "Modelfile").write_text(modelfile(served, tokenizer), "utf-8")
        commands.append(f"ollama create {shlex.quote(name)} -f gguf/Modelfile")
    handed = Handover(
        to, frame, rows.answers(), margin, proof, findings, tuple(commands), blocked, tuple(notes)
    )
    _write_record(handed, stage)
    return handed


def _verdicts(frame: pd.DataFrame) -> dict[str, str]:
    order = ("different", NOT_MEASURED, "inconclusive", "equivalent")
    by_format = frame.groupby("format", sort=False)["verdict"]
    return {str(name): min(each, key=order.index) for name, each in by_format}


def _blocked(
    verdicts: Mapping[str, str], findings: Mapping[str, Sequence[Finding]]
) -> dict[str, str]:
    """{format: why it isn't fit to be served}; an adapter needs a base that others can load."""
    blocked = {}
    for form, verdict in verdicts.items():
        faults = [
            f"{finding.code} ({finding.evidence}); {finding.fix}"
            for finding in findings.get(form.partition("-")[0], ())
            if finding.severity == "error" or finding.code == "adapter_base"
        ]
        if verdict == "different":
            faults.insert(0, "it doesn't score the same as the stage")
        if faults:
            blocked[form] = "; ".join(faults)
    return blocked


def _write_record(handed: Handover, stage: Path) -> None:
    """Leave handover.json beside the files, for `make_portfolio`: verdicts, rows, hashes."""
    formats = {}
    for form, verdict in handed.verdicts.items():
        folder, _, kind = form.partition("-")
        place = handed.folder / folder
        files = [place / f"model-{kind}.gguf"] if kind else sorted(place.rglob("*"))
        if (place / "Modelfile").is_file() and form not in handed.blocked:
            files.append(place / "Modelfile")
        measured = handed.frame[handed.frame["format"] == form].drop(columns="format")
        formats[form] = {
            "verdict": verdict,
            "blocked": handed.blocked.get(form, ""),
            "rows": json.loads(measured.to_json(orient="records")),
            "files": {
                file.relative_to(handed.folder).as_posix(): file_hash(file)
                for file in files if file.is_file()
            },
        }  # fmt: skip
    record = {
        "weights_sha256": file_hash(stage / "adapter_model.safetensors"),
        "margin": handed.margin,
        "formats": formats,
    }
    atomic_text(handed.folder / HANDOVER, json.dumps(record, indent=1) + "\n")


class _Rows:
    """The evaluations of one hand-over, on one set of prompts, and what they say."""

    def __init__(self, profile: Profile, suite: Any, n: int | None, margin: float) -> None:
        from postlab.evals import suite_rows

        # A named suite draws other prompts for another n: take the first n of the stage's own.
        drawn = suite_rows(profile.suite if suite is None else suite, profile.eval_prompts, 0)
        self.suite = suite_rows(drawn, n, 0)
        self.samples, self.margin = profile.eval_samples, margin
        self.reference: Any = None
        self.metrics: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []

    def conversations(self) -> list[Any]:
        return [row["prompt"] for row in self.suite]

    def evaluate(self, policy: Any, tokenizer: Any) -> pd.DataFrame:
        from postlab.evals import evaluate

        frame = evaluate(policy, tokenizer, self.suite, seed=0, samples=self.samples)
        del policy
        gc.collect()  # the next one may need its memory
        return frame

    def add(self, form: str, path: Path, load: Callable[[], Any] | None) -> None:
        """Evaluate one format and compare it; `load` gives its model and tokenizer."""
        from postlab.evals import METRICS

        size = sum(p.stat().st_size for p in ([path] if path.is_file() else path.iterdir()))
        head = {"format": form, "mb": size / 1e6}
        if load is None:
            self.metrics.append(head | {"metric": "all", "n": 0, "verdict": NOT_MEASURED})
            return
        begun = time.perf_counter()
        frame = self.evaluate(*load())
        before = self.reference[self.reference["id"].isin(set(frame["id"]))]
        asked = [set(zip(f["id"], f["prompt"], strict=True)) for f in (before, frame)]
        if asked[0] != asked[1]:
            raise ValueError(
                "the reference was evaluated on other prompts than these; pass the suite and n of"
                " that evaluation, or leave `reference` out"
            )
        for metric in frame.columns:
            if METRICS.get(metric, ("", "", ""))[2] != "share" or metric not in before:
                continue  # length and KL have no margin in points
            old, new = (
                f.groupby("id")[metric].mean().dropna() for f in (before, frame)
            )  # the prompt is the unit, not the sample
            both = old.index.intersection(new.index)
            if not len(both):
                continue
            test = equivalence(old[both].to_numpy(), new[both].to_numpy(), margin=self.margin)
            values = {"before": old[both].mean(), "after": new[both].mean()}
            self.metrics.append(head | {"metric": metric} | values | vars(test))
        greedy = {
            str(row["id"]) for row in self.suite
            if not row.get("temperature", 0)
        }  # fmt: skip
        said = [f[f["id"].isin(greedy)].set_index("id")["answer"] for f in (before, frame)]
        changed, total = int((said[0][said[1].index] != said[1]).sum()), len(said[1])
        self.changes.append({
            "format": form, "mb": size / 1e6, "changed": changed, "greedy": total,
            "at_most": upper_bound(changed, total) if total else math.nan,
            "seconds": time.perf_counter() - begun,
        })  # fmt: skip

    def frame(self) -> pd.DataFrame:
        import pandas as pd

        columns = list(COLUMNS)
        return pd.DataFrame(self.metrics, columns=columns)

    def answers(self) -> pd.DataFrame:
        import pandas as pd

        columns = ["format", "mb", "changed", "greedy", "at_most", "seconds"]
        return pd.DataFrame(self.changes, columns=columns)


def copy_adapter(stage: Path, to: Path) -> Path:
    """The adapter's files without what training left beside them, readable by servers."""
    from postlab.models import make_servable, resolve_base

    names = ["adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"]
    names += ["tokenizer.json", "tokenizer_config.json", "tokenizer.model"]
    to.mkdir(parents=True)
    for file in (stage / name for name in names):
        if file.is_file():
            shutil.copyfile(file, to / file.name)
    if not (to / "tokenizer_config.json").is_file():  # the base's, which a server has to be given
        config = json.loads((stage / "adapter_config.json").read_text("utf-8"))
        _tokenizer(resolve_base(config["base_model_name_or_path"])).save_pretrained(to)
    make_servable(to, _tokenizer(to))
    return to


def name_base(adapter: Path) -> None:
    """Name the built-in bases by name: loading wrote where they lie on this machine."""
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    base = config["base_model_name_or_path"]
    if Path(base).is_dir():
        config["base_model_name_or_path"] = Path(base).name
        path.write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _tokenizer(folder: Path | str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False)


def _load_gguf(file: Path, tokenizer: Any, profile: Profile) -> tuple[Any, Any]:
    from postlab.models import load_gguf

    return load_gguf(file, profile=profile), tokenizer


def _quantize(merged: Path, file: Path) -> bool:
    """Write a q4_k_m file with llama.cpp's own program; False where there is none."""
    from postlab.models import write_gguf

    program = shutil.which("llama-quantize")
    if program is None:
        return False
    source = file.with_name("model-f16.gguf")
    made_here = not source.exists()
    if made_here:
        write_gguf(merged, source, kind="f16")
    done = subprocess.run(
        [program, str(source), str(file), "Q4_K_M"], capture_output=True, text=True, check=False
    )
    if made_here:
        source.unlink()
    if done.returncode:
        raise RuntimeError(f"llama-quantize failed: {done.stderr.strip()[-500:]}")
    return True
