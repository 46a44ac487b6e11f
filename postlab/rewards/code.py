"""Does the program that was written do what its tests ask? Run in a sandbox, judged outside it.

The program under test runs in a process of its own with no network, no file but Python's own, a
small scratch folder and hard limits (see `_jail`), and is told the arguments of each call only. Its
results come back as data and are compared here, so it cannot claim to have passed.

Left out: other languages, packages beyond the standard library, and tests that `_asserts` and
`_tests` list as unreadable; a program may still learn the visible tests by heart, so hold some back
for the evaluation.
"""

import json
import pickle
import re
import reprlib
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from postlab.rewards._asserts import JUDGE_SECONDS, Unreadable
from postlab.rewards._batch import check_batch
from postlab.rewards._reply import after_thinking, fenced, reply_text
from postlab.rewards._tests import Tests, parse_tests, same_output

MAX_CODE_CHARS = 50_000
MAX_COMPARED_HERE = 16_384  # bytes of one program's results; more in a process of their own

_WEAK = (
    "Plain limits (time, memory, output, and, where you are root, a user of its own) are all there "
    "is then, and on Linux a filter against sockets and signals: a program may read your files and "
    "tokens, write and delete, and look for the expected results in this process."
)


def code_reward(
    completions: list,
    tests: list,
    *,
    allow_weak_sandbox: bool = False,
    max_parallel: int | None = None,
    command: tuple[str, ...] = (),
    **columns: Any,
) -> list[float | None]:
    """1.0 where a completion's code passes all of its row's tests, else 0.0.

    The code is the last fenced Python block after the thinking that defines what the tests call, or
    the whole reply where there is no fence. So an example of its use may follow a program. A row's
    tests are one of

    - assert statements as in MBPP, one text or a list, or a whole test script;
    - `{"function": "f", "args": [2], "expected": 4}`, with `kwargs` if needed, or a list of those;
    - HumanEval's `{"prompt": ..., "test": ..., "entry_point": ...}`, or MBPP's `{"test_list": ...,
      "test_setup_code": ...}`: the prompt or set-up runs with the program;
    - `{"inputs": [...], "outputs": [...]}` as in APPS: with a `fn_name`, arguments and results of
      that function, else what a program reads and should print;

    or the same as JSON, which is best for a column in which rows differ in shape.

    Args:
        completions: strings, or lists of messages, as TRL passes them.
        tests: the tests of each completion.
        allow_weak_sandbox: run under plain limits where namespaces cannot be had. Only for programs
            that you would run yourself: they are held back from accidents, not from intent.
        max_parallel: the most programs at once; by default 4, or as many as there are processors.
        command: what isolates a program instead, ending in a Python 3.11 or newer for Linux that
            reads stdin: `("docker", "run", "--rm", "-i", "--network=none", "--memory=1g",
            "python:3.12-slim", "python")`. What holds then is what your command does. A tuple, as
            a list might be a column of a dataset.
        columns: the other columns of the batch; none is used.
    Returns:
        One reward a completion; None where its tests cannot be read, or the machine could not run
        it (its limit on processes, its memory). Both give a RuntimeWarning with counts and reasons.
    Raises:
        RuntimeError: if this machine gives no namespaces and allow_weak_sandbox is False, or if it
            could not run any program of the batch.
        TypeError: if completions or tests is a single value, such as a string, and no list, or
            another argument is not of its type, as a column of that name would be.
        ValueError: if there are not as many tests as completions, or max_parallel is below 1.
    Taught in week 8.

    >>> code_reward(["def f(x): return x"], tests=[["assert g(1) == 1"]], allow_weak_sandbox=True)
    [0.0]
    """
    check_batch("code_reward", completions, tests=tests)
    _check_options(allow_weak_sandbox, max_parallel, command)
    rows = _read(tests)
    replies = [after_thinking(reply_text(each)) for each in completions]
    # What the sandbox is told, as JSON: completions of a group are often the same, and run once.
    runs = [
        [] if isinstance(row, Unreadable) else _requests(reply, row)
        for reply, row in zip(replies, rows, strict=True)
    ]
    listed = sorted({request for run in runs for request in run})
    outcomes = _run(listed, _mode(allow_weak_sandbox, max_parallel, command) if listed else None)
    verdicts = [
        row if isinstance(row, Unreadable) else _verdict(row, source, [outcomes[r] for r in run])
        for row, source, run in zip(rows, tests, runs, strict=True)
    ]
    for what, kind in (
        ("tests that cannot be read", Unreadable),
        ("a program that could not be run", RuntimeError),
    ):
        _warn(what, [each for each in verdicts if isinstance(each, kind)])
    return [each if isinstance(each, float) else None for each in verdicts]


def _read(tests: Iterable) -> list[Tests | Unreadable]:
    """The tests of each row, or why they cannot be read."""
    read: dict[str, Tests | Unreadable] = {}
    rows = []
    for row in tests:
        text = repr(row)
        if text not in read:
            try:
                read[text] = parse_tests(row)
            except Unreadable as error:
                read[text] = error
        rows.append(read[text])
    return rows


def _requests(reply: str, tests: Tests) -> list[str]:
    """What the sandbox is to run, without what it should return; nothing where there is no code."""
    code = _code(reply, tests)
    if not code or len(code) > MAX_CODE_CHARS or "\0" in code:
        return []
    if tests.printed:
        return [json.dumps({"code": code, "stdin": given}) for given, _ in tests.printed]
    request = {"before": tests.before, "code": code, "after": tests.after, "steps": tests.steps}
    return [json.dumps(request)]


def _code(text: str, tests: Tests) -> str:
    """The program of a reply; empty where there is none."""
    blocks = [
        (language, textwrap.dedent(body))
        for info, body in fenced(text)
        if (language := (info.split() or [""])[0]) in ("", "py") or language.startswith("python")
    ]
    if not blocks and "```" in text:
        return ""
    programs = [body for _, body in blocks] or [text]
    if tests.printed:  # examples of input and output often follow, in blocks without a language
        named = [body for language, body in blocks if language]
        return (named or programs)[-1].strip()
    for wanted in (all, any):
        for code in reversed(programs):
            if wanted(_defines(code, name) for name in tests.names):
                return code.strip()
    if tests.before and any(_defines(tests.before[-1], name) for name in tests.names):
        return f"{tests.before[-1].rstrip()}\n{programs[-1].strip(chr(10))}"  # a body that goes on
    return programs[-1].strip()


def _defines(code: str, name: str) -> bool:
    """Whether a line of the code begins a definition of a name."""
    word = re.escape(name)
    definition = rf"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+{word}\b|^{word}[ \t]*[:=][^=]"
    return name in code and re.search(definition, code, re.MULTILINE) is not None


def _check_options(allow_weak_sandbox: Any, max_parallel: Any, command: Any) -> None:
    """TRL passes every column of a dataset by its name: none may loosen the sandbox."""
    for name, value, kind, valid in (
        ("allow_weak_sandbox", allow_weak_sandbox, "a bool", isinstance(allow_weak_sandbox, bool)),
        ("max_parallel", max_parallel, "an int or None", type(max_parallel) in (int, type(None))),
        (
            "command",
            command,
            "a tuple of strings",
            isinstance(command, tuple) and all(isinstance(each, str) for each in command),
        ),
    ):
        if not valid:
            raise TypeError(
                f"code_reward's {name} must be {kind}, not {reprlib.repr(value)}. If that is a "
                "column of your dataset, rename the column."
            )
    if max_parallel is not None and max_parallel < 1:
        raise ValueError(f"max_parallel must be at least 1, not {max_parallel}")


def _run(listed: list[str], mode: Any) -> dict[str, Any]:
    """What each program wrote, or the RuntimeError that says why it could not be run."""
    if not listed:
        return {}
    from postlab.rewards._sandbox import run_programs

    outcomes = run_programs([json.loads(request) for request in listed], mode)
    failures = [outcome for outcome in outcomes if isinstance(outcome, RuntimeError)]
    if len(failures) == len(listed):
        raise RuntimeError(
            f"code_reward could run none of {len(listed)} programs: {failures[0]}. That is this "
            "machine's fault and no program's: see to its limits on processes and memory."
        )
    return dict(zip(listed, outcomes, strict=True))


def _verdict(
    tests: Tests, source: Any, written: list[bytes | RuntimeError | None]
) -> float | RuntimeError:
    """1.0 or 0.0 for what a program wrote, or why there is no telling.

    Long results can make a comparison slow in ways that can't be interrupted, such as a set of
    thousands of numbers with the same hash. So those are compared in a process that can be ended.
    """
    results = []
    for each in written:
        if isinstance(each, RuntimeError):
            return each
        results.append(each or b"")
    if tests.printed or sum(map(len, results)) <= MAX_COMPARED_HERE:
        return float(bool(results) and _passed(tests, results))
    command = f"import sys; sys.path[:] = {sys.path!r}; from postlab.rewards import code"
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"{command}; code._judge()"],
            input=pickle.dumps((source, results)),
            capture_output=True,
            timeout=10 * JUDGE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 0.0
    except OSError as error:
        return RuntimeError(f"no process to compare its results in: {error}")
    if done.stdout in (b"0.0", b"1.0"):
        return float(done.stdout)
    if done.returncode == -getattr(signal, "SIGXCPU", 0):
        return 0.0
    return RuntimeError(f"the comparison of its results failed: {done.stderr[-300:]!r}")


def _judge() -> None:
    """In a process of its own: read a row's tests and what a program wrote, print the reward."""
    with suppress(ImportError):  # Windows
        import resource

        spent = int(time.process_time()) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (spent + JUDGE_SECONDS, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, results = pickle.load(sys.stdin.buffer)
    sys.stdout.write(str(float(_passed(parse_tests(source), results))))


def _passed(tests: Tests, written: list[bytes]) -> bool:
    """Whether what a program wrote are results, one a step, that pass every test."""
    from postlab.rewards._jail import decode

    try:
        if tests.printed:
            return all(
                same_output(text.decode(), wanted)
                for text, (_, wanted) in zip(written, tests.printed, strict=True)
            )
        lines = [json.loads(line) for line in written[0].split(b"\n")]
        for line in lines:
            if "value" in line:
                line["value"] = decode(line["value"])
        return tests.passes(lines)
    except Exception:  # whatever a program wrote, or a comparison of it raised: it has not passed
        return False


def _warn(what: str, reasons: list[Exception]) -> None:
    if reasons:
        counted = Counter(map(str, reasons)).most_common(3)
        listed = "; ".join(f"{reason} ({count})" for reason, count in counted)
        warnings.warn(
            f"code_reward gave None for {what} ({len(reasons)} in this batch): {listed}",
            RuntimeWarning,
            stacklevel=3,
        )


def _mode(allow_weak_sandbox: bool, max_parallel: int | None, command: tuple[str, ...]) -> Any:
    """How programs are to be run; a RuntimeError where that can't be had."""
    from postlab.rewards._sandbox import Mode, best_mode, check, missing

    if command:
        check(Mode("command", command))
        return Mode("command", command, max_parallel)
    reason = missing()
    if reason and not allow_weak_sandbox:
        raise RuntimeError(
            f"code_reward will not run a model's code here, since its sandbox needs namespaces, "
            f"and this machine gives none ({reason}). Use a Linux machine that allows unprivileged "
            f"user namespaces, install bubblewrap, pass a `command` that isolates a program, or "
            f"pass allow_weak_sandbox=True. {_WEAK}"
        )
    if reason:
        check(Mode("weak"))
    return Mode("weak" if reason else best_mode(), parallel=max_parallel)
