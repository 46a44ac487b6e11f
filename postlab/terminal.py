"""The command `postlab`, for what one reaches for on a rented machine.

    postlab doctor trainer_state.json       what is wrong with a run
    postlab preflight --stage grpo --model Qwen/Qwen2.5-1.5B --device T4
    postlab template MODEL                  what is wrong with a chat template
    postlab rows FILE                       what the loaders make of a file

Each takes `--json`. The exit status is 0 if all is well, 1 if something was found (a fault at or
above `--fail-on`, a plan that does not fit, a dropped row), and 2 if the question could not be
answered. None of it needs torch.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from postlab.redaction import redact
from postlab.storage import LOG_BYTES, read_file

WELL, FOUND, UNANSWERED = 0, 1, 2
LOG = "trainer_state.json"
KINDS = ("preference", "unpaired", "step", "math", "instruction")  # the most special first
OPTIONAL = (
    "group", "new_tokens", "accumulation", "lora_rank", "examples", "devices", "optimizer",
    "engine", "parallel",
)  # fmt: skip
SHOWN = 240  # characters of a row's text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.command(parsed)
    except (ValueError, TypeError, OSError, ImportError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        print(f"postlab {parsed.name}: {_printable(redact(text))}", file=sys.stderr)
        return UNANSWERED


def _parser() -> argparse.ArgumentParser:
    from postlab.chat import TEMPLATE_CODES
    from postlab.doctor import CODES, listed

    parser = argparse.ArgumentParser(
        prog="postlab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def command(
        name: str,
        run: Callable[[argparse.Namespace], int],
        text: str,
        codes: Mapping[str, str] | None = None,
    ) -> Any:
        made = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"findings:\n{listed(codes)}" if codes else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(command=run)
        made.add_argument("--json", action="store_true", help="print JSON")
        return made

    doctor = command("doctor", _doctor, "what is wrong with a training run, from its log", CODES)
    doctor.add_argument("path", type=Path, help=f"{LOG}, a run or checkpoint folder, or .jsonl")
    doctor.add_argument(
        "--key", action="append", default=[], metavar="OURS=THEIRS",
        help="another name of a logged value, such as reward=train/score; may be given again",
    )  # fmt: skip

    plan = command(
        "preflight", _preflight,
        "memory, time and cost of a stage on a device; sizes not given are those of profile t4",
    )  # fmt: skip
    plan.add_argument("--stage", required=True, help="sft, dpo, grpo or reward")
    plan.add_argument("--model", required=True, help="a Hub id, or a folder with a config.json")
    plan.add_argument("--device", required=True, help="a GPU such as T4 or H100, or cpu")
    for name, text in (
        ("batch", "sequences in one forward pass; a pair is two"),
        ("length", "tokens of prompt and completion together"),
        ("new-tokens", "tokens of a GRPO completion"),
        ("group", "GRPO's completions a prompt"),
        ("accumulation", "micro-batches an optimizer step"),
        ("lora-rank", "of adapters on all projections; 0 is full fine-tuning"),
        ("examples", "rows in an epoch, for hours and dollars"),
        ("devices", "GPUs that share the work (default 1)"),
    ):
        plan.add_argument(f"--{name}", type=int, help=text)
    plan.add_argument("--bits", type=int, default=4, help="of the base's weights: 4, 16 or 32")
    plan.add_argument("--optimizer", help="such as adamw (default) or adamw_8bit")
    plan.add_argument("--engine", choices=("trl", "unsloth"), help="what trains (default trl)")
    plan.add_argument("--parallel", choices=("ddp", "fsdp"), help="across devices (default ddp)")

    template = command(
        "template", _template, "what is wrong with a model's chat template", TEMPLATE_CODES
    )
    template.add_argument("model", help="a folder, or a Hub id; only its tokenizer is read")

    rows = command("rows", _rows, "what was read from a file of rows, and what was dropped and why")
    rows.add_argument("file", help="JSON, JSON Lines or Parquet, or a Hub id")
    rows.add_argument(
        "--kind", choices=KINDS, help="default: the first that keeps half of the rows"
    )
    rows.add_argument("--split", default="train", help="such as train[:1000]; a file has one split")
    rows.add_argument("--n", type=int, help="at most so many, drawn with seed 0; default all")

    for judged in (doctor, template):
        judged.add_argument(
            "--fail-on", choices=("error", "warning"), default="error",
            help="the least severity that makes the exit status 1 (default error)",
        )  # fmt: skip
    return parser


def _doctor(asked: argparse.Namespace) -> int:
    from postlab.doctor import diagnose

    keys = dict(_pair(text) for text in asked.key)
    return _report(diagnose(read_log(asked.path), keys=keys), asked)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The log history in a file, or in the latest checkpoint of a folder.

    Args:
        path: a `trainer_state.json`, a JSON list of entries, JSON Lines of them, or the folder of a
            run or of a checkpoint.
    Raises:
        ValueError: if it holds no log, saying what it holds, or isn't a regular file.
        OSError: if it cannot be read.
    """
    if path.is_dir():
        path = _log_in(path)
    try:
        lines = path.suffix.lower() in (".jsonl", ".ndjson")
        held = _json_or_lines(read_file(path, most=LOG_BYTES).decode("utf-8-sig"), lines=lines)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}; expected a {LOG}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}; expected a {LOG}") from None
    if isinstance(held, dict):
        if "log_history" not in held:
            raise ValueError(
                f"{path} has no 'log_history'; expected a {LOG}, or a list of logged entries; its "
                f"fields are {', '.join(map(repr, list(held)[:8]))}"
            )
        held = held["log_history"]
    return held


def _json_or_lines(text: str, *, lines: bool) -> Any:
    """JSON, or JSON Lines as a list: if the file's name says so, or one object follows another."""
    try:
        if not lines:
            return json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _log_in(folder: Path) -> Path:
    if (folder / LOG).is_file():
        return folder / LOG
    found = [p for p in folder.glob(f"**/checkpoint-*/{LOG}") if p.is_file()]
    if not found:
        raise ValueError(f"{folder} holds no {LOG}, nor does a checkpoint-* folder in it")
    return max(found, key=lambda p: p.stat().st_mtime)


def _preflight(asked: argparse.Namespace) -> int:
    from postlab.preflight import estimate

    given = {name: getattr(asked, name) for name in OPTIONAL if getattr(asked, name) is not None}
    sizes = _usual_sizes(asked.stage) | given
    for name in ("batch", "length"):
        if getattr(asked, name) is not None:
            sizes[name] = getattr(asked, name)
    plan = estimate(asked.stage, model=asked.model, device=asked.device, bits=asked.bits, **sizes)
    if asked.json:
        _print_json({"settings": {"bits": asked.bits, **sizes}, **dataclasses.asdict(plan)})
    else:
        settings = ", ".join(f"{name} {value}" for name, value in sizes.items())
        print(f"{plan.stage} of {plan.model} on {plan.device}: {settings}, {asked.bits} bits")
        for name, value in vars(plan).items():
            if name.endswith("_gib") and isinstance(value, float) and value:
                print(f"  {name.removesuffix('_gib'):12s}{value:8.2f} GiB{_range(plan, name)}")
        slow, fast = plan.tokens_per_s_range
        print(f"  speed       {slow:,.0f} to {fast:,.0f} tokens/s")
        if plan.hours_range:
            print("  time        {:.1f} to {:.1f} hours".format(*plan.hours_range))
        if plan.dollars_range:
            print("  cost        ${:.2f} to ${:.2f}".format(*plan.dollars_range))
        print(plan.advice)
        for finding in plan.findings:
            print(finding)
    return WELL if plan.fits else FOUND


def _range(plan: Any, name: str) -> str:
    """(from .. to) for a size that is known only within a range."""
    limits = getattr(plan, f"{name.removesuffix('_gib')}_range_gib", None)
    return f" ({limits[0]:.2f} to {limits[1]:.2f})" if limits else ""


def _usual_sizes(stage: str) -> dict[str, int]:
    """What profile `t4` trains with, for what the command does not say."""
    from postlab.profile import get_profile

    settings = getattr(get_profile("t4"), {"reward": "dpo"}.get(stage, stage), None)
    if settings is None:
        return {"batch": 1, "length": 1024}  # an unknown stage, which `estimate` refuses
    trainer = settings.trainer
    batch = trainer["per_device_train_batch_size"]
    sizes = {"accumulation": trainer["gradient_accumulation_steps"]}
    if stage == "grpo":
        new = trainer["max_completion_length"]
        group = trainer["num_generations"]
        return sizes | {"batch": batch, "length": 2 * new, "new_tokens": new, "group": group}
    pair = 2 if stage in ("dpo", "reward") else 1
    return sizes | {"batch": pair * batch, "length": trainer["max_length"]}


def _template(asked: argparse.Namespace) -> int:
    from transformers import AutoTokenizer

    from postlab.chat import check_template

    try:
        tokenizer = AutoTokenizer.from_pretrained(asked.model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(_no_tokenizer(asked.model, error)) from None
    return _report(check_template(tokenizer), asked)


def _no_tokenizer(model: str, error: Exception) -> str:
    path = Path(model)
    if path.is_dir():
        held = ", ".join(sorted(file.name for file in path.iterdir())[:8])
        return f"{path} holds no tokenizer, only {held or 'nothing'}; expected tokenizer.json"
    if path.is_file() or model.startswith((".", "/", "~")):
        return f"{path} is no folder; expected one with a tokenizer, or a Hub id"
    return f"no folder {model!r} is here, and no tokenizer of that name could be read: {error}"


def _rows(asked: argparse.Namespace) -> int:
    kind, rows = _read_rows(asked)
    if asked.json:
        counts = {"kind": kind, "source": rows.source, "read": rows.read, "kept": len(rows)}
        _print_json({**counts, "dropped": rows.dropped, "first": rows[0]})
    else:
        print(f"{kind} rows")
        print(_printable(repr(rows)))
        for name, value in rows[0].items():
            text = _printable(json.dumps(value, ensure_ascii=False, default=str))
            print(f"  {name}: {text[:SHOWN]}{'…' if len(text) > SHOWN else ''}")
    return FOUND if rows.dropped else WELL


def _read_rows(asked: argparse.Namespace) -> tuple[str, Any]:
    """The first kind that keeps half of the rows, else the one that keeps most, and the rows; the
    error of each kind if there is none that fits."""
    from postlab import datasets

    errors, best = {}, None
    for kind in (asked.kind,) if asked.kind else KINDS:
        try:
            rows = getattr(datasets, f"{kind}_rows")(asked.file, split=asked.split, n=asked.n)
        except ValueError as error:
            errors[kind] = str(error)
            continue
        kept = len(rows) / rows.read
        if kept >= 0.5:
            return kind, rows
        if best is None or kept > best[0]:
            best = kept, (kind, rows)
    if best:
        return best[1]
    if len(errors) == 1 or len(set(errors.values())) == 1:
        raise ValueError(next(iter(errors.values())))
    lines = "".join(f"\n  as {kind} rows: {error}" for kind, error in errors.items())
    raise ValueError(f"{asked.file} fits no kind of rows:{lines}")


def _report(findings: Sequence[Any], asked: argparse.Namespace) -> int:
    if asked.json:
        _print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        print("\n".join(_printable(str(finding)) for finding in findings) or "nothing was found")
    counted = ("error",) if asked.fail_on == "error" else ("error", "warning")
    return FOUND if any(finding.severity in counted for finding in findings) else WELL


def _pair(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise ValueError(f"--key {text!r}; expected OURS=THEIRS, such as reward=train/score")
    return ours, theirs


def _print_json(value: Any) -> None:
    """As JSON that any reader takes: NaN and infinities as null, other objects as text."""
    print(json.dumps(_plain(value), indent=1, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0:  # NaN or an infinity
        return None
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def _printable(text: str) -> str:
    """With control characters escaped: text from a file must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def run() -> NoReturn:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
