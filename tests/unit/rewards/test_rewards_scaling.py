"""No answer takes long to read: each reward's time over 100 to 100,000 degenerate characters."""

import time

import pytest

from postlab.rewards import format_reward, read_tests, schema_reward
from postlab.rewards.code import _requests
from pace import within

KINDS = {
    "line breaks after a box": lambda n: "\\boxed{5}" + "\n" * n + "x",
    "spaces after a mark": lambda n: "#### 5" + " " * n + "\nx",
    "blanks within tags": lambda n: "<answer>" + " \n" * (n // 2) + "5</answer>",
    "tags": lambda n: "<answer>" * (n // 8) + "</answer>",
    "boxes": lambda n: "\\boxed{" * (n // 7) + "}" * (n // 9),
    "thinking": lambda n: "<think>" * (n // 7),
    "braces": lambda n: "{" * n,
    "brackets": lambda n: "[" * (n // 2) + "]" * (n // 2),
    "hashes": lambda n: "#" * n,
    "digits": lambda n: "9" * n,
    "fences": lambda n: "```\n" * (n // 4),
    "programs": lambda n: "```python\ndef f(x): return x\n```\n" * (n // 33),
    "indents": lambda n: "```python\n" + " " * n + "\n" + "def " * (n // 9) + "f\n```",
    "definitions": lambda n: "async  def\n" * (n // 22) + "async" + " " * (n // 2) + "def g",
    "a long string": lambda n: '"' + "a" * n + '!"',
    "escapes": lambda n: '"' + "\\" * n,
    "empty lists": lambda n: "[" + ",".join(["[]"] * (n // 3)) + "]",
    "numbers": lambda n: "[" + "1," * (n // 2) + "1]",
    "objects": lambda n: "[" + ",".join(f'{{"a":{k}}}' for k in range(n // 12)) + "]",
    "keys": lambda n: "{" + ",".join(f'"k{k}":0' for k in range(n // 10)) + "}",
}
SCHEMAS = [
    '{"uniqueItems": true, "items": {"uniqueItems": true, "type": ["array", "object"]}}',
    '{"anyOf": [{"items": {"$ref": "#"}}, {"type": "string", "pattern": "^(a|a)*$"}]}',
    '{"contains": {"enum": [7, [7], {"a": [7]}]}, "patternProperties": {"^(k|k)+$": {}}}',
    '{"allOf": [{"pattern": "a+a+$"}, {"pattern": "^(a+)+$"}, {"additionalProperties": false}]}',
]
SCRIPT = read_tests("assert f(1) == 2")
HUMAN = read_tests(
    {"prompt": "def f(x):\n    pass\n", "test": "def check(c): assert c(1)", "entry_point": "f"}
)
PRINTED = read_tests({"inputs": ["1"], "outputs": ["2"]})
REWARDS = {
    "format": lambda text: format_reward([text]),
    "format with tags": lambda text: format_reward([text], answer_tag="b", reasoning_tag="think"),
    **{
        f"schema {k}": lambda text, schema=schema: schema_reward([text], [schema])
        for k, schema in enumerate(SCHEMAS)
    },
    "code": lambda text: _requests(text, SCRIPT),
    "code of a body": lambda text: _requests(text, HUMAN),
    "code of a script": lambda text: _requests(text, PRINTED),
}


def seconds(work, text):
    begun = time.thread_time()
    work(text)
    return time.thread_time() - begun


@pytest.mark.parametrize("reward", REWARDS)
def test_time_is_linear_and_short(reward):
    work = REWARDS[reward]
    work("{}")  # what is loaded once is no answer's work
    for name, kind in KINDS.items():
        took = {
            n: min(seconds(work, kind(n)) for _ in range(2)) for n in (100, 1000, 10_000, 100_000)
        }
        # The longest that schema_reward reads.
        took[49_000] = min(seconds(work, kind(49_000)) for _ in range(2))
        # At most 0.5 s on an idle machine; a shared core's clock counts up to twice as much.
        assert within(max(took.values()), 1.0), (name, took)
        assert took[100_000] < 40 * took[10_000] + 0.1, (name, took)
