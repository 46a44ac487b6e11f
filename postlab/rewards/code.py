"""Does the function that was written do what its tests ask? Run in a sandbox, judged outside it.

The program under test runs in a process of its own with no network, no file but Python's own, a
small scratch folder and hard limits (see `_jail`), and is told the arguments of each call only. Its
results come back as data and are compared here, so it cannot claim to have passed.

Left out: other languages, programs that read stdin, packages beyond the standard library, and
tests that need variables or expect an exception; a program may still learn the visible tests by
heart, so hold some back for the evaluation.
"""

import json
from typing import Any

from postlab.rewards._asserts import Check, read_tests
from postlab.rewards._batch import check_batch
from postlab.rewards._reply import after_thinking, fenced, reply_text

MAX_CODE_CHARS = 50_000
_PYTHON = ("", "python", "python3", "py")

_WEAK = (
    "Plain limits (time, memory, output, and, where you are root, a user of its own) are all there "
    "is then: a program may read your files and tokens, use the network, write and delete, signal "
    "your processes, and look for the expected results in this one."
)


def code_reward(
    completions: list, tests: list, *, allow_weak_sandbox: bool = False, **columns: Any
) -> list[float | None]:
    """1.0 where a completion's code passes all of its row's tests, else 0.0.

    The code is the last fenced Python block after the thinking, or the whole reply where there is
    no fence. A row's tests are assert statements as in MBPP (one text, or a list), or
    `{"function": "f", "args": [2], "expected": 4}`, or a list of those, also as JSON.

    Args:
        completions: strings, or lists of messages, as TRL passes them.
        tests: the tests of each completion.
        allow_weak_sandbox: run under plain limits where namespaces cannot be had. Only for programs
            that you would run yourself: they are held back from accidents, not from intent.
        columns: the other columns of the batch; none is used.
    Returns:
        One reward a completion; None where its tests cannot be read.
    Raises:
        RuntimeError: if this machine gives no namespaces and allow_weak_sandbox is False.
        TypeError: if completions or tests is a single value, such as a string, and no list.
        ValueError: if there are not as many tests as completions.
    Taught in week 8.

    >>> code_reward(["def f(x): return x"], tests=["no test at all"])
    [None]
    """
    check_batch("code_reward", completions, tests=tests)
    checks = [read_tests(test) for test in tests]
    programs = [after_thinking(reply_text(each)) for each in completions]
    programs = [_code(text) if check else "" for text, check in zip(programs, checks, strict=True)]
    # Completions of a group are often the same: each is run once.
    requests: dict[str, bytes | None] = {
        _request(code, check): None
        for code, check in zip(programs, checks, strict=True)
        if code and check
    }
    if requests:
        jailed = _jailed(allow_weak_sandbox)
        from postlab.rewards._sandbox import run_programs

        written = run_programs([json.loads(request) for request in requests], jailed=jailed)
        requests = dict(zip(requests, written, strict=True))
    return [
        None if not check else float(bool(code) and _passed(check, requests[_request(code, check)]))
        for code, check in zip(programs, checks, strict=True)
    ]


def _code(text: str) -> str:
    """The program of a reply; empty where there is none or it is too long."""
    blocks = [body for language, body in fenced(text) if language in _PYTHON]
    code = (blocks[-1] if blocks else "" if "```" in text else text).strip()
    return code if len(code) <= MAX_CODE_CHARS and "\0" not in code else ""


def _request(code: str, checks: list[Check]) -> str:
    """What the sandbox is told: the program, and its calls without what they should return."""
    from postlab.rewards._jail import encode

    calls = [[name, encode(arguments)] for check in checks for name, arguments in check.calls]
    return json.dumps({"code": code, "calls": calls})


def _passed(checks: list[Check], written: bytes | None) -> bool:
    """Whether what a program wrote are results, one a call, that pass every check."""
    from postlab.rewards._jail import decode

    try:
        lines = [json.loads(line) for line in (written or b"").split(b"\n")]
        results = iter([decode(line["value"]) for line in lines])
        if len(lines) != sum(len(check.calls) for check in checks):
            return False
        return all(check.passes([next(results) for _ in check.calls]) for check in checks)
    except Exception:  # whatever a program wrote, or a comparison of it raised: it has not passed
        return False


def _jailed(allow_weak_sandbox: bool) -> bool:
    """Whether the jail can be had; a RuntimeError where it cannot and weakness is not allowed."""
    from postlab.rewards._sandbox import missing

    reason = missing()
    if reason and not allow_weak_sandbox:
        raise RuntimeError(
            f"code_reward will not run a model's code here, since its sandbox needs namespaces, "
            f"and this machine gives none ({reason}). Use a Linux machine that allows unprivileged "
            f"user namespaces, or pass allow_weak_sandbox=True. {_WEAK}"
        )
    return not reason
