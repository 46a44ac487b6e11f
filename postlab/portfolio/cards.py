"""Cards for the Hub: what a stage or a data set is, what was measured on it, and what was not.

A card is Markdown below YAML that the Hub validates when it is pushed. Numbers come from a
profile's run folders, those in prose as placeholders, so the same runs always give the same text.
What a run doesn't record is called 'not recorded', and text that a model, a row or a person wrote
is escaped. Left out: the Hub's own check, which needs the Hub; measured emissions; any judgement of
bias beyond the caveats of the claims.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postlab.claims import MECHANISM, StageRun, metric_label, stage_label
from postlab.datasets import Curation, instruction_rows, math_rows, preference_rows
from postlab.doctor import diagnose
from postlab.evals import METRICS
from postlab.overlay import did_you_mean
from postlab.portfolio.binding import Evidence, at, evidence, render, sentence
from postlab.profile import PROFILES, Profile, StageConfig, get_profile, stage_command
from postlab.redaction import redact
from postlab.runs import BESIDE, MissingStage
from postlab.storage import MANIFEST_BYTES, atomic_text, read_file

if TYPE_CHECKING:
    from jinja2 import Environment

# The identifiers that the Hub takes as `license`:
# github.com/huggingface/hub-docs, docs/hub/repositories-licenses.md of 2026-06-06.
LICENCES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
    c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl
    ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0
    odc-by odbl openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib
    pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1
    llama3.2 llama3.3 llama4 grok2-community gemma unknown other
    """.split()  # noqa: SIM905
)
# As a manifest names a base, in lower case and without a suffix of QUANTIZED: its id on the Hub
# (None: it isn't there), and its licence.
BASES: dict[str, tuple[str | None, str]] = {
    "tiny-base": (None, "apache-2.0"),
    "smollm2-135m-instruct": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"),
    "huggingfacetb/smollm2-135m-instruct": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"),
}
for _id in ("mistralai/Mistral-7B-v0.3", "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-7B"):
    _name = _id.partition("/")[2].lower()
    BASES |= dict.fromkeys((_id.lower(), f"unsloth/{_name}"), (_id, "apache-2.0"))
QUANTIZED = ("-unsloth-bnb-4bit", "-bnb-4bit")
# A source as profiles name it: its id on the Hub, its licence (None: it states none), what it is.
SOURCES: dict[str, tuple[str | None, str | None, str]] = {
    "tinyworld": (None, "apache-2.0", "generated from postlab's made-up world by its own rules"),
    "tinyworld-english": (None, "apache-2.0", "the same world, with its facts in the prompt"),
    "everyday": (None, "cc0-1.0", "everyday English prompts and replies, written for postlab"),
    "openhermes": ("teknium/OpenHermes-2.5", None, ""),
    "slimorca": ("Open-Orca/SlimOrca", "mit", ""),
    "ultrafeedback": ("argilla/ultrafeedback-binarized-preferences-cleaned", "mit", ""),
    "gsm8k": ("openai/gsm8k", "mit", ""),
}
# Of public benchmarks, which are not our own suites.
PUBLIC = ("gsm8k_", "math500", "ifeval_")
# Metric: where its benchmark is registered on the Hub, with which task, and how many prompts its
# test split has. A result on fewer of them is not that benchmark's.
BENCHMARKS = {"gsm8k_strict": ("openai/gsm8k", "gsm8k", 1319)}
FORMS = {"adapter": ("adapter", "peft"), "merged": ("finetune", "transformers")}
FORMS["gguf"] = ("quantized", "transformers")  # form: its relation to the base, its library
SOFTWARE = ("trl", "unsloth")  # packages that are tags, and cited
KINDS = {  # of rows: what they have, in a word, tags, and the task
    "steps": ({"prompt", "completions", "labels"}, "step labels", ["prm"], "token-classification"),
    "preference": ({"chosen", "rejected"}, "preference pairs", ["dpo", "preference"],
                   "text-generation"),
    "instruction": ({"prompt", "completion"}, "prompts with replies", ["sft"], "text-generation"),
    "verifiable": ({"prompt", "answer"}, "prompts with a checkable answer", ["grpo"],
                   "text-generation"),
}  # fmt: skip
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M")
ABSENT = "not recorded"
LONGEST = 300  # characters of an answer, a row or a setting that a card shows
# What Markdown, HTML or KaTeX may act on within a line; an underscore only at the edge of a word.
_ACTIVE = re.compile(r"[&<\\`*\[{|~$@]|:(?=/)|(?<![^\W_])_|_(?![^\W_])|(?i:(?<=www)\.)")


@dataclass(frozen=True)
class Card:
    """A card, and what goes into the repository beside it.

    Args:
        name: of the repository, without its owner.
        card: huggingface_hub's ModelCard or DatasetCard; `str(card)` is the README.md.
        draft: its Markdown with placeholders, which `render` turns into the card's text.
        files: {path in the repository: text}.
    """

    name: str
    card: Any
    draft: str
    files: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.card.content

    def contents(self) -> dict[str, str]:
        """{path in the repository: text}, README.md first."""
        return {"README.md": str(self), **self.files}

    def write(self, folder: Path) -> None:
        """Write `contents` into the repository's folder, which is made if need be."""
        for path, text in self.contents().items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_text(file, text)


def model_card(
    stage: str,
    *,
    profile: str | Path | Profile,
    root: Path | str | None = None,
    seed: int | None = None,
    form: str | None = None,
    base_licence: str | None = None,
    base_model: str | None = None,
    curation: Curation | None = None,
    rescored: Sequence[Mapping[str, Any]] = (),
    known: Evidence | None = None,
) -> Card:
    """The card of one stage's weights, from its run folders.

    Args:
        stage: such as "dpo"; it must be trained and evaluated.
        profile: its name, or your own as a `Profile` or its YAML file. With a name alone, what only
            the file says (sources, suite) is 'not recorded'.
        root: run root; by default `runs.run_root()`.
        seed: whose weights are published; by default the first. The changes are over all seeds.
        form: what is published: "adapter", "merged" or "gguf"; by default as the stage was saved.
        base_licence: the base's, an identifier of the Hub, where it isn't known here.
        base_model: the base's Hub id, where the run names a folder or a file.
        curation: of the stage's rows, from `curate`; by default as `Run.save_curation` noted it.
            Without either, drops are 'not recorded'.
        rescored: what `handover` measured on the files of this form, a row per format and metric.
        known: `evidence(...)` of the profile, if it was read before.
    Raises:
        MissingStage: if the stage isn't finished and evaluated; names the command.
        ValueError: if licence or base are unknown or contradict what is known; if `curation` isn't
            of the rows that the stage was trained on.
    """
    name, settings = named(profile)
    known = known or evidence(name, root=root)
    run = _run(known, stage, seed)
    manifest = run.manifest
    form = form or ("adapter" if manifest.get("lora") else "merged")
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; expected one of {', '.join(FORMS)}")
    lineage = _lineage(known, run)
    base = _base(manifest, settings, base_licence, base_model)
    sources = {r.stage: _source(settings, r.stage) for r in lineage}
    hub = [SOURCES[s][0] if s in SOURCES else s for s in sources.values() if s and not _local(s)]
    results = [] if stage == "prm" else _model_index(known, run, settings)  # it answers nothing
    benchmarks = _benchmarks(run)
    method = _method(manifest, stage)
    packages = [p for p in SOFTWARE if (manifest.get("versions") or {}).get(p)]
    tags = [*packages, method, *(["lora"] if manifest.get("lora") else []), "postlab"]
    data = _hub_class("ModelCardData")(
        model_name=f"{name}-{stage}" if results else None,
        base_model=base.id,
        base_model_relation=FORMS[form][0] if base.id else None,
        license=base.licence,
        license_name=base.licence_name,
        license_link=base.licence_link,
        library_name=FORMS[form][1],
        pipeline_tag="token-classification" if stage == "prm" else "text-generation",
        datasets=list(dict.fromkeys(hub)) or None,
        language=_language([s for stage, s in sources.items() if stage not in BESIDE]),
        tags=[*dict.fromkeys(tags), *(["gguf"] if form == "gguf" else [])],
        eval_results=results or None,
    )
    cited = ["qlora"] if at(manifest, "model", "quantization") else []
    cited += ["lora"] if manifest.get("lora") else []
    draft = _environment().get_template("model_card.md.j2").render(
        stage=stage, label=stage_label(stage), parent=run.parent and stage_label(run.parent),
        profile=name, seed=run.seed, form=form, base=base, method=method, packages=packages,
        tiny=name == "tiny", mechanism=MECHANISM, versions=manifest.get("versions") or {},
        quantized=bool(at(manifest, "model", "quantization")), described=SOURCES, local=_local,
        trainer=at(manifest, "code", "trainer"), gpu_gb=manifest.get("peak_gpu_gb"),
        lineage=[(r.stage, at(r.manifest, "data", "train", "rows"),
                  at(r.manifest, "data", "train", "sha256"), sources[r.stage]) for r in lineage],
        curated=_curated(curation, manifest),
        rescored=rescored, changes=_changes(known, stage), others=_unbound(known, stage),
        worse=[c for c in known.of(stage) if c.verdict == "worse" and "copied" not in c.caveats],
        caveats=_caveats(known, stage), seeds=len({r.seed for r in known.runs if r.stage == stage}),
        problems=[_anywhere(p["reason"]) for p in known.summary["problems"] if p["stage"] == stage],
        recipe=_recipe(manifest, settings, stage), findings=_findings(known, stage),
        answers=_answers(run), commands=_commands(lineage, name),
        commit=_commit(manifest), benchmarks=benchmarks, results=results, suite=_suite(settings),
        public=[m for m in run.frame if m.startswith(PUBLIC)],
        cited=list(dict.fromkeys([*cited, method, stage])),
        bind=lambda fact: _bound(known, f"{stage}.{fact}"), known_device=_device(known, stage),
    )  # fmt: skip
    card = _card("ModelCard", data, render(draft, known))
    return Card(f"{name}-{stage}", card, draft, benchmarks)


def dataset_card(
    rows: Sequence[Mapping[str, Any]] | Curation,
    *,
    name: str,
    source: str | None = None,
    licence: str | None = None,
    language: str | None = None,
    used_for: str | None = None,
) -> Card:
    """The card of rows that were made here: curated, preference or step rows.

    Args:
        rows: in one of TRL's formats; a `Curation` brings what it dropped and measured.
        name: of the repository, without its owner.
        source: where they come from, as for the loaders; by default as the rows remember it.
        licence: an identifier of the Hub, needed where the source's isn't known here.
        language: its code, such as "en", where the source's isn't known here.
        used_for: what was trained on them, in a few words.
    Returns:
        The card, with the rows as train.jsonl.
    Raises:
        ValueError: if there are no rows, their columns are of no format that is known here, or the
            licence is unknown or contradicts what is known.
    """
    curation = rows if isinstance(rows, Curation) else None
    given: Any = curation.kept if curation else rows
    rows, source = list(given), source or _remembered(given)
    data_class = _hub_class("DatasetCardData")
    from huggingface_hub.utils import validate_repo_id

    validate_repo_id(name)
    columns = set(rows[0]) if rows else set()
    kind = next((k for k, (needed, *_) in KINDS.items() if needed <= columns), None)
    if kind is None:
        expected = "; ".join(" + ".join(sorted(needed)) for needed, *_ in KINDS.values())
        raise ValueError(
            f"data set {name!r}: got {len(rows)} rows with columns {sorted(columns)}; "
            f"expected rows with {expected}"
        )
    origin, inherited, about = SOURCES.get(source or "", (source, None, ""))
    licence = _licence(licence, inherited, f"the data set {name!r}", "licence")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    data = data_class(
        pretty_name=name,
        license=licence,
        language=language or _language([source]),
        size_categories=[SIZES[min(max(len(str(len(rows))) - 3, 0), len(SIZES) - 1)]],
        task_categories=[KINDS[kind][3]],
        source_datasets=None if not source or _local(source) else [origin],
        tags=["trl", *KINDS[kind][2], "postlab"],
        configs=[{"config_name": "default",
                  "data_files": [{"split": "train", "path": "train.jsonl"}]}],
    )  # fmt: skip
    draft = _environment().get_template("dataset_card.md.j2").render(
        name=name, kind=kind, what=KINDS[kind][1], rows=rows, columns=_columns(rows),
        source=source and (Path(source).name if _local(source) else origin), about=about,
        licence=licence, inherited=inherited, curation=curation, used_for=used_for,
        dropped={} if curation else getattr(given, "dropped", {}),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        examples=[json.dumps(row, ensure_ascii=False) for row in rows[:3]],
    )  # fmt: skip
    # Nothing here is bound to a run: what looks like a placeholder was escaped with the rest.
    return Card(name, _card("DatasetCard", data, draft), draft, {"train.jsonl": text})


def make_cards(
    profile: str | Path | Profile,
    *,
    root: Path | str | None = None,
    base_licence: str | None = None,
    base_model: str | None = None,
    data: Mapping[str, Sequence[Mapping[str, Any]] | Curation] | None = None,
    data_licence: str | None = None,
    known: Evidence | None = None,
) -> list[Card]:
    """A card for every stage, and for every data set that isn't on the Hub.

    Args:
        profile, root, base_licence, base_model, known: as for `model_card`.
        data: {name: rows or curation} of further data sets, such as week 10's step rows.
        data_licence: of the rows from your own files and in `data`.
    Returns:
        The cards. Rows of SFT, DPO and GRPO that postlab ships, or that your own files hold, get
        one each; a source on the Hub is linked in the stage's card.
    Raises:
        MissingStage, ValueError: as `model_card` and `dataset_card`.
    """
    name, settings = named(profile)
    known = known or evidence(name, root=root)
    cards: list[Card] = []
    made: list[tuple[str, Any, str | None, str | None]] = [
        (title, rows, _remembered(rows), None) for title, rows in (data or {}).items()
    ]
    for stage in known.stages:
        if stage == "base":
            continue
        card = model_card(
            stage, profile=settings or name, base_licence=base_licence, base_model=base_model,
            known=known,
        )  # fmt: skip
        cards.append(card)
        source, how = _source(settings, stage), _stage_settings(settings, stage)
        if source and how and _local(source):
            loaders: dict[str, Callable[..., Any]] = {"dpo": preference_rows, "grpo": math_rows}
            loader = loaders.get(stage, instruction_rows)
            run = _run(known, stage, None)
            rows = loader(source, split="train", n=how.rows, seed=run.seed, columns=how.columns)
            used_for = f"the stage {stage_label(stage)} of the profile {name}"
            trained = at(run.manifest, "data", "train", "rows")
            if trained not in (None, len(rows)):
                used_for += f", which counted {trained} rows after its own preparation"
            made.append((f"{name}-{stage}-rows", rows, source, used_for))
    for title, rows, source, purpose in made:
        licence = None if source in SOURCES else data_licence
        cards.append(
            dataset_card(rows, name=title, source=source, licence=licence, used_for=purpose)
        )
    return cards


# Metadata: the base with its licence, results, benchmarks


@dataclass(frozen=True)
class _Base:
    """A base model: as the run names it, on the Hub (None if it isn't), and its licence."""

    name: str
    id: str | None
    licence: str
    licence_name: str | None = None
    licence_link: str | None = None


def _base(
    manifest: Mapping[str, Any], settings: Profile | None, licence: str | None, model_id: str | None
) -> _Base:
    recorded = at(manifest, "model", "base")
    if not isinstance(recorded, str) or not recorded:
        raise ValueError(f"the manifest of {manifest.get('stage')} names no base model")
    name = next((recorded.removesuffix(s) for s in QUANTIZED if recorded.endswith(s)), recorded)
    if name.lower() in BASES:
        known_id, known_licence = BASES[name.lower()]
        return _Base(recorded, model_id or known_id, _licence(licence, known_licence, recorded))
    front = _front_matter(recorded, settings)
    inherited = front.get("license") if isinstance(front.get("license"), str) else None
    origin = front.get("base_model") if name != recorded else None  # what was quantized
    origin = origin[0] if isinstance(origin, list) and len(origin) == 1 else origin
    if name == recorded and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", recorded):
        origin = recorded
    if model_id is None and not isinstance(origin, str) and name != recorded:
        raise ValueError(
            f"the stage was trained on {recorded!r}, a quantized copy of another model; say which "
            "with base_model='owner/name'"
        )
    checked = _licence(licence, inherited, recorded)
    more = [front.get(key) for key in ("license_name", "license_link")]
    if checked == "other" and not all(isinstance(text, str) for text in more):
        raise ValueError(
            f"the licence of {recorded!r} is 'other', which needs license_name and license_link; "
            "expected both in the YAML of the README.md in the base's folder"
        )
    named = more if checked == "other" else [None, None]
    origin = origin if isinstance(origin, str) else None
    return _Base(recorded, model_id or origin, checked, *named)


def _licence(
    given: str | None, inherited: str | None, of: str, argument: str = "base_licence"
) -> str:
    """The licence, if it is one of the Hub's and agrees with what is known."""
    if given and inherited and given.lower() != inherited.lower():
        raise ValueError(
            f"{argument}={given!r}, but {of} is under {inherited!r}, which what is made from it "
            "inherits"
        )
    licence = (given or inherited or "").lower()
    if not licence:
        raise ValueError(
            f"the licence of {of} isn't known here; read it where it comes from, and pass it as "
            f"{argument}, such as 'apache-2.0'"
        )
    if licence not in LICENCES:
        raise ValueError(
            f"{licence!r}, the licence of {of}, is none of the Hub's identifiers; "
            f"{did_you_mean(licence, LICENCES)}"
        )
    return licence


def _front_matter(base: str, settings: Profile | None) -> Mapping[str, Any]:
    """The YAML of a base's README.md, from its folder or the Hub's cache; nothing is downloaded."""
    import yaml

    choices = [getattr(settings, "base_model", None), getattr(_at_grpo(settings), "base_model", "")]
    folders = [Path(c) for c in choices if c and Path(c).is_dir() and Path(c).name == base]
    places = [folder / "README.md" for folder in folders]
    if not places and "/" in base:
        cached = _hub_class("try_to_load_from_cache")(base, "README.md")
        places = [Path(cached)] if isinstance(cached, str) else []
    for place in places:
        try:
            text = read_file(place, most=MANIFEST_BYTES).decode("utf-8", "replace")
            text = text.replace("\r\n", "\n")
            end = text.find("\n---\n", 3)
            front = yaml.safe_load(text[4:end]) if text.startswith("---\n") and end > 0 else None
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            continue
        if isinstance(front, dict):
            return front
    return {}


def _model_index(known: Evidence, run: StageRun, settings: Profile | None) -> list[Any]:
    """The results of these weights on our own suites; none that was copied from the parent."""
    suite = _suite(settings) or f"held-out prompts of {known.profile}"
    entry = next(
        e for e in known.summary["stages"] if (e["name"], e["seed"]) == (run.stage, run.seed)
    )
    results = []
    for metric, measured in entry["metrics"].items():
        copied = entry["versus_parent"].get(metric, {}).get("copied")
        if metric.startswith(PUBLIC) or copied or measured["value"] is None:
            continue
        unit = METRICS[metric][2] if metric in METRICS else ""
        results.append(
            _hub_class("EvalResult")(
                task_type="text-generation",
                dataset_type=suite,
                dataset_name=f"{suite} (postlab)",
                metric_type=metric,
                metric_value=round(measured["value"], 4),
                metric_name=metric_label(metric) + (f" ({unit})" if unit else ""),
            )  # fmt: skip
        )
    return results


def _benchmarks(run: StageRun) -> dict[str, str]:
    """`.eval_results/*.yaml` of the registered benchmarks that were asked in full."""
    import yaml

    files = {}
    for metric, (repo, task, size) in BENCHMARKS.items():
        if metric not in run.frame:
            continue
        rows = run.frame[run.frame[metric].notna() & (run.frame["family"] == task)]
        if rows["id"].nunique() != size or len(rows) != size:
            continue
        sampling = at(run.manifest, "eval", "made_by", "answers", "sampling", "temperature")
        how = "greedy" if sampling == 0 else "sampling not recorded"
        how = how if sampling in (0, None) else f"temperature {sampling}"
        entry = _hub_class("EvalResultEntry")(
            dataset_id=repo, task_id=task, value=round(100 * float(rows[metric].mean()), 2),
            notes=f"percent of all {size} test prompts; zero-shot, {how}; the answer counts in the "
            "asked-for form only ('#### ' and the number)",
        )  # fmt: skip
        listed = _hub_class("eval_result_entries_to_yaml")([entry])
        files[f".eval_results/{task}.yaml"] = yaml.safe_dump(listed, sort_keys=False, width=1000)
    return files


def _language(sources: Iterable[str | None]) -> str | None:
    """English, if all sources are known here: they are in English."""
    return "en" if all(source in SOURCES for source in sources) else None


# The body: data, changes, recipe, what the doctor saw, answers, commands


def _curated(curation: Curation | None, manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What `curate` dropped or would have dropped, by how many rows the stage was trained on."""
    trained, noted = at(manifest, "data", "train", "rows"), manifest.get("curation")
    if curation is not None:
        kept, dropped = len(curation.kept), dict(curation.dropped)
    elif isinstance(noted, dict) and isinstance(noted.get("kept"), int):  # `Run.save_curation`
        counts = noted.get("dropped")
        if not isinstance(counts, dict) or not all(isinstance(n, int) for n in counts.values()):
            return None
        kept, dropped = noted["kept"], counts
    else:
        return None
    before = kept + sum(dropped.values())
    if trained in (kept, before):
        return {"applied": trained == kept, "kept": kept, "before": before, "dropped": dropped}
    if curation is None:
        return None
    raise ValueError(
        f"the curation kept {kept:,} of {before:,} rows, and the stage was trained on "
        f"{trained if trained is not None else 'an unknown number'}; expected its own rows"
    )


def _changes(known: Evidence, stage: str) -> list[list[str]]:
    """A row a claim: metric, value and change with their intervals, p, seeds, verdict, prompts."""
    rows = []
    for claim in known.of(stage):
        of, copied = f"{stage}.{claim.metric}", "copied" in claim.caveats
        if f"{of}.verdict" not in known:
            continue

        def cell(*fields: str, of: str = of) -> str:
            texts = [f"{{{{{of}.{f}}}}}" for f in fields if f"{of}.{f}" in known]
            return texts[0] + (f" ({texts[1]})" if texts[1:] else "") if texts else "not measured"

        verdict = "copied from the parent" if copied else claim.verdict
        rows.append([_escaped(metric_label(claim.metric)), cell("value", "interval"),
                     cell("change", "change_interval"), cell("p"), cell("seeds"), verdict,
                     cell("n")])  # fmt: skip
    return rows


def _unbound(known: Evidence, stage: str) -> list[str]:
    """Claims on metrics whose names can't be placeholders, in words."""
    return [sentence(c) for c in known.of(stage) if f"{stage}.{c.metric}.verdict" not in known]


def _caveats(known: Evidence, stage: str) -> list[tuple[str, str]]:
    """Each caveat, and the metrics that it holds for ('' for all of them)."""
    claims, by_text = known.of(stage), dict[str, list[str]]()
    for claim in claims:
        for text in claim.caveats.values():
            by_text.setdefault(text, []).append(metric_label(claim.metric).lower())
    return [(t, "" if len(m) == len(claims) else "; ".join(m)) for t, m in by_text.items()]


def _recipe(
    manifest: Mapping[str, Any], settings: Profile | None, stage: str
) -> dict[str, list[tuple[str, str]]]:
    """Every argument by group: what the profile sets, TRL's others, LoRA's, its empty ones."""
    parts = [manifest.get("config"), manifest.get("lora")]
    config, lora = (part if isinstance(part, dict) else {} for part in parts)
    how = _stage_settings(settings, stage)
    chosen = {n: v for n, v in config.items() if how and n in {*how.trainer, "seed"}}
    groups = {"chosen": chosen, "rest": {n: v for n, v in config.items() if n not in chosen}}
    plain = {n for n, v in lora.items() if v is None or v is False or v in ({}, [])}
    groups["lora"] = {n: v for n, v in lora.items() if n not in plain}
    groups["plain lora"] = {n: v for n, v in lora.items() if n in plain}
    return {g: [(n, json.dumps(v)) for n, v in redact(dict(a)).items()] for g, a in groups.items()}


def _findings(known: Evidence, stage: str) -> list[tuple[int, bool, list[Any]]]:
    """(seed, whether there is a log, findings) of each seed."""
    seeds = sorted(run.seed for run in known.runs if run.stage == stage)
    logs = [(seed, known.logs.get((stage, seed)) or []) for seed in seeds]
    return [(seed, bool(log), diagnose(log) if log else []) for seed, log in logs]


def _answers(run: StageRun) -> list[tuple[str, str, str]]:
    """(family, prompt, answer): of each family the prompt whose id comes first by its hash."""
    firsts: dict[str, tuple[str, str, str, str]] = {}
    for row in run.frame[["id", "family", "prompt", "answer"]].itertuples(index=False):
        digest = hashlib.sha256(str(row.id).encode("utf-8", "replace")).hexdigest()
        row = (digest, str(row.family), str(row.prompt), str(row.answer))
        firsts[row[1]] = min(firsts.get(row[1], row), row)
    return [row[1:] for row in list(firsts.values())[:8]]


def _commands(lineage: Sequence[StageRun], profile: str) -> list[str]:
    """What makes the stage and its parents."""
    lines = [stage_command(profile, run.stage, run.seed, portable=True) for run in lineage]
    return [line if line.startswith("make ") else f"# {line}" for line in dict.fromkeys(lines)]


def _anywhere(text: str) -> str:
    """A text with commands, without the folder of one's own profile on this machine."""
    return re.sub(
        r"(?<=PROFILE=)(?:'[^']*/([^']*)'|[^\s']*/([^\s']*))",
        lambda match: shlex.quote(match[1] or match[2]),
        text[: 10 * LONGEST],
    )


def _commit(manifest: Mapping[str, Any]) -> str | None:
    commit = manifest.get("commit")
    return commit if isinstance(commit, str) and re.fullmatch("[0-9a-f]{7,64}", commit) else None


def _remembered(rows: Any) -> str | None:
    """The source that rows or a curation remember."""
    source = getattr(getattr(rows, "kept", rows), "source", None)
    return source if isinstance(source, str) and source != "rows" else None


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    """(column, type of its first value, in how many rows it has one)."""
    names = dict.fromkeys(name for row in rows for name in row)
    values = {n: [row[n] for row in rows if row.get(n) is not None] for n in names}
    return [(n, type(v[0]).__name__ if v else "null", len(v)) for n, v in values.items()]


# What is read from profiles, manifests and claims


def named(profile: str | Path | Profile) -> tuple[str, Profile | None]:
    """Its name, and its settings where they are known."""
    if isinstance(profile, Profile):
        return profile.name, profile
    if str(profile) in PROFILES or str(profile).endswith((".yaml", ".yml")):
        settings = get_profile(profile)
        return settings.name, settings
    return str(profile), None


def _run(known: Evidence, stage: str, seed: int | None) -> StageRun:
    if stage == "base":
        raise ValueError("stage is 'base', which isn't trained here and has its own card")
    runs = [r for r in known.runs if r.stage == stage and seed in (None, r.seed)]
    if not runs:
        which = "" if seed is None else f", seed {seed},"
        raise MissingStage(
            f"{stage}{which} of profile {known.profile} isn't finished and evaluated. Make it with:"
            f" {stage_command(known.profile, stage, seed or 0)}"
        )
    return min(runs, key=lambda run: run.seed)


def _lineage(known: Evidence, run: StageRun) -> list[StageRun]:
    """The stages that led to a run, the first one first, as far as they are in the run folders."""
    by_stage = {r.stage: r for r in known.runs if r.seed == run.seed and r.stage != "base"}
    line = [run]
    while (parent := by_stage.get(line[0].parent or "")) and parent not in line:
        line.insert(0, parent)
    return line


def _stage_settings(settings: Profile | None, stage: str) -> StageConfig | None:
    if stage == "sft-small":
        return getattr(_at_grpo(settings), "warm_start", None)
    return getattr(settings, stage, None) if stage in ("sft", "dpo", "grpo") else None


def _at_grpo(settings: Profile | None) -> StageConfig | None:
    return getattr(settings, "grpo", None)


def _source(settings: Profile | None, stage: str) -> str | None:
    return getattr(_stage_settings(settings, stage), "source", None)


def _local(source: str) -> bool:
    """True for rows that aren't on the Hub: postlab's own, and a file's."""
    return SOURCES[source][0] is None if source in SOURCES else "/" not in source or (
        Path(source).is_absolute() or source.startswith(".")
    )  # fmt: skip


def _suite(settings: Profile | None) -> str | None:
    """The name of the held-out prompts, without the public benchmarks among them."""
    suite = getattr(settings, "suite", None)
    if not isinstance(suite, str):
        return None
    parts = [part for part in Path(suite).name.split("+") if not f"{part}_".startswith(PUBLIC)]
    return "+".join(parts) or None


def _method(manifest: Mapping[str, Any], stage: str) -> str:
    """'dpo', from the trainer's class; the stage's name for transformers' own trainer."""
    trainer = at(manifest, "code", "trainer")
    known = isinstance(trainer, str) and re.fullmatch(r"[A-Z]{2,8}Trainer", trainer)
    return trainer.removesuffix("Trainer").lower() if known else stage


def _device(known: Evidence, stage: str) -> str:
    name = f"{stage}.device"
    return known[name].text if name in known else ABSENT


def _bound(known: Evidence, name: str) -> str:
    return f"{{{{{name}}}}}" if name in known else ABSENT


# Text and templates


def _escaped(text: Any, longest: int = LONGEST) -> str:
    """A text on one line of Markdown that shows it letter for letter, cut if it is long.

    A character reference is never markup, in CommonMark, a table, HTML or KaTeX.
    """
    line = " ".join(str(text).split())
    rest = len(line) - longest
    line = line if rest <= 0 else line[:longest]
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    safe = _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", shown)
    return safe + (f" *({rest:,} more characters)*" if rest > 0 else "")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("postlab.portfolio"), autoescape=False, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters |= {"plain": _escaped}
    made.globals |= {"absent": ABSENT, "metric_label": metric_label}
    return made


def _hub_class(name: str) -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "cards are made with huggingface_hub, which isn't installed: pip install "
            "'huggingface_hub>=1.33'"
        ) from error
    return getattr(huggingface_hub, name)


def _card(kind: str, data: Any, body: str) -> Any:
    return _hub_class(kind)(f"---\n{data.to_yaml()}\n---\n\n{body}")
