"""Rewards: hand-made completions first, hostile ones after, then the shapes that TRL passes."""

import doctest
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from pace import within

import postlab.rewards._extract as extract_module
import postlab.rewards._latex as latex
import postlab.rewards.format as format_module
import postlab.rewards.math as math_module
from postlab.doctor import Finding
from postlab.rewards import (
    answers_match,
    code_reward,
    extract_answer,
    format_reward,
    math_reward,
    schema_reward,
)


@pytest.mark.parametrize(
    "module", [math_module, extract_module, format_module, latex, sys.modules[Finding.__module__]]
)
def test_docstring_examples(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        ("<answer>5</answer>", "5", "5"),
        ("<answer>4</answer> no, <ANSWER> 5 </ANSWER>", "5", "5"),
        (r"\boxed{4} so \boxed{\frac{1}{2}}", r"\frac{1}{2}", r"\frac{1}{2}"),
        ("9 + 9\n#### 18\n", "18", "18"),
        ("#### 1\nand then\n#### 2", "2", "2"),
        # The order of markers, whatever stands last.
        (r"\boxed{1} <answer>2</answer> #### 3", "2", "2"),
        (r"#### 3 and \boxed{1}", "1", "1"),
        (r"<answer>\boxed{7}</answer>", "7", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", r"\{1, 2\}"),
        # Only lenient reading takes a number as it stands.
        ("It was 1,234 but is -5.", None, "-5"),
        ("So he has $-3.50 left", None, "$-3.50"),
        ("10-5 = 5", None, "5"),
        ("from 10-7", None, "7"),
        ("half, that is 50%, of it", None, "50%"),
        ("about 3/4 of them.", None, "3/4"),
        ("<answer>5", None, "5"),
        (r"\boxed{5", None, "5"),
        ("#####", None, None),
        ("I do not know.", None, None),
        ("", None, None),
    ],
)
def test_extract_answer(text, strict, lenient):
    assert extract_answer(text, strict=True) == strict
    assert extract_answer(text) == lenient


SAME = [
    ("5", "5"),
    ("5.0", "5"),
    ("-5", "\u22125"),
    ("+3", "3"),
    ("1,234", "1234"),
    ("12 345", "12345"),
    ("1{,}234", "1234"),
    (r"1\,234", "1234"),
    ("$1,234.50", "1234.5"),
    ("-$5", "-5"),
    ("18 dollars", "18"),
    (r"18 \text{ cm}^2", "18"),
    ("1/2", "0.5"),
    (r"\frac{1}{2}", "1/2"),
    ("1 1/2", "1.5"),
    (r"1\frac{1}{2}", "1.5"),
    ("50%", "0.5"),
    ("50%", "50"),
    (r"12\%", "12%"),
    ("0.3333", "1/3"),
    ("0.66667", "2/3"),
    ("1e3", "1000"),
    (r"3\times10^5", "300000"),
    ("**3**", "3"),
    ("= 3.", "3"),
    ("x=5", "5"),
    (r"90^\circ", "90"),
    ("1+x", "x+1"),
    (r"(x-1)(x+1)", "x^2-1"),
    (r"2\sqrt{2}", r"\sqrt{8}"),
    ("2,1", "1,2"),
    ("(1,2)", "(1,2)"),
    ("B", "B"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    ("1" * 1999, "1" * 1999),
]
DIFFERENT = [
    ("5", "-5"),
    ("-5", "5"),
    ("1", "1,234"),
    ("1,234", "1"),
    ("0.33", "1/3"),
    ("0.3334", "1/3"),
    ("0.0000", "0.00001234"),
    ("4.99999", "5"),
    ("0.5", "50"),
    ("12%", "0.12%"),
    ("5 or 6", "5"),
    ("5, 6", "5"),
    (r"\pm 5", "5"),
    ("5 6", "56"),
    ("5 million", "5"),
    ("5/0", "5"),
    ("100!", "100"),
    ("x-y", "y-x"),
    ("(2,1)", "(1,2)"),
    ("A", "B"),
    ("", "5"),
    ("five", "5"),
    (None, "5"),
    ("5" * 2001, "5" * 2000),
]


@pytest.mark.parametrize(("predicted", "gold"), SAME)
def test_answers_that_match(predicted, gold):
    assert answers_match(predicted, gold) is True


@pytest.mark.parametrize(("predicted", "gold"), DIFFERENT)
def test_answers_that_differ(predicted, gold):
    assert answers_match(predicted, gold) is False


@pytest.mark.parametrize("gold", ["", None, "the cat", "5/0", "9**9**9**9", "nan", "1" * 2001])
def test_unreadable_gold_gives_none_whatever_was_predicted(gold):
    assert answers_match("5", gold) is None
    assert answers_match(gold, gold) is None


HOSTILE = [
    "9**9**9**9",
    "9^9^9^9",
    "9^{9^{9}}",
    "2^{999*999*999}",
    "(((9^{99})^{99})^{99})",
    "(x+y+z)^{999}",
    "99999999!",
    "__import__('os').system('true')",
    r"\sum_{k=1}^{10^9} k",
    "(" * 90 + "1" + ")" * 90,
    r"\frac{1}{" * 20 + "2" + "}" * 20,
    "-" * 190 + "5x",
    "+".join(rf"\sqrt{{{k}}}" for k in range(2, 20)),
]


def cpu_seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("predicted", HOSTILE)
def test_hostile_answers_are_wrong_and_cheap(predicted):
    assert answers_match("x+1", "1+x")  # what loads and warms up the parser is not counted
    assert within(cpu_seconds(lambda: answers_match(predicted, "5")), 5)
    assert answers_match(predicted, "5") is False
    assert answers_match(predicted, "x+1") is False


@pytest.mark.parametrize(
    "text", ["<answer>", "\\boxed{", "#", "1", "1,", "-$", "{", "0.", " ", "\\frac{1}{", "\n#### "]
)
def test_reading_takes_time_in_proportion_to_the_length(text):
    long = text * (200_000 // len(text))
    assert within(cpu_seconds(lambda: (math_reward([long], ["5"]), format_reward([long]))), 4)


def test_ordinary_answers_are_read_at_2000_a_second():
    texts = [f"so {i} + 1 = {i + 1}\n#### {i + 1:,}" for i in range(4000)]
    golds = [str(i + 1) for i in range(4000)]
    rewards = []
    seconds = cpu_seconds(lambda: rewards.extend(math_reward(texts, golds)))
    assert rewards == [1.0] * 4000
    assert within(seconds, 2.0)


def test_work_beyond_the_limit_is_unreadable(monkeypatch):
    math_module._read.cache_clear()
    monkeypatch.setattr(latex, "MAX_CALLS", 100)
    assert answers_match("5", "a^2+b^2") is None
    math_module._read.cache_clear()
    monkeypatch.undo()
    assert answers_match("b^2+a^2", "a^2+b^2") is True


def test_a_worker_thread_reads_latex_and_leaves_nothing_behind():
    seen = []
    handler, threads = signal.getsignal(signal.SIGALRM), threading.active_count()

    def work():
        seen.extend([answers_match("y+x+7", "7+x+y"), sys.getprofile()])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True, None]
    assert signal.getsignal(signal.SIGALRM) is handler
    assert threading.active_count() == threads
    assert sys.getprofile() is None


def test_math_reward_takes_both_shapes_and_every_column_trl_passes():
    texts = ["2 + 3 = 5\n#### 5", "I think 6", "", r"\boxed{5}"]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {
        "prompts": [[{"role": "user", "content": "2 + 3?"}]] * 4,
        "completion_ids": [[1, 2, 3]] * 4,
        "answer": ["5", "5", "5", "not a number at all"],
        "family": ["arithmetic"] * 4,
        "trainer_state": object(),
        "log_extra": lambda column, values: None,
        "log_metric": lambda name, value: None,
    }
    for completions in (texts, messages):
        assert math_reward(completions=completions, **columns) == [1.0, 0.0, 0.0, None]
        assert format_reward(completions=completions, **columns) == [1.0, 0.0, 0.0, 1.0]
    assert math_reward.__name__ == "math_reward"  # TRL logs rewards under this name


def test_of_messages_the_last_counts_and_no_content_is_an_empty_reply():
    tool = {"role": "tool", "content": "6"}
    completions = [
        [{"role": "assistant", "content": None}],
        [tool, {"role": "assistant", "content": "5"}],
    ]
    assert math_reward([*completions, []], ["5"] * 3) == [0.0, 1.0, 0.0]


def test_wrong_use_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="2 completions and 1 answers"):
        math_reward(["5", "5"], ["5"])
    with pytest.raises(TypeError, match="string or a list of messages, got int"):
        math_reward([5], ["5"])


SCHEMA = '{"type": "object"}'


@pytest.mark.parametrize(
    ("reward", "completions", "column"),
    [
        (math_reward, "42", {"answer": ["4", "2"]}),  # both are read character by character
        (math_reward, ["4", "2"], {"answer": "42"}),
        (math_reward, ["42"], {"answer": 42}),
        (math_reward, {"role": "assistant"}, {"answer": ["4"]}),
        (format_reward, "#### 5", {}),
        (code_reward, "x", {"tests": ["assert f(1) == 2"]}),
        (code_reward, ["def f(x): return x"] * 18, {"tests": "assert f(1) == 2  "}),
        (schema_reward, "{}", {"schema": [SCHEMA, SCHEMA]}),
        (schema_reward, ["{}"] * len(SCHEMA), {"schema": SCHEMA}),
        (schema_reward, ["{}"], {"schema": {"type": "object"}}),
    ],
)
def test_a_single_value_in_place_of_a_list_is_an_error(reward, completions, column):
    with pytest.raises(TypeError) as raised:
        reward(completions=completions, **column)
    batch = {"completions": completions, **column}
    name, value = next(item for item in batch.items() if not isinstance(item[1], list))
    message = str(raised.value)
    assert message.startswith(f"{reward.__name__} got {name}="), message  # what was got,
    assert f"a {type(value).__name__}; expected a list" in message  # what is expected,
    assert f"write {name}=[" in message  # and the fix


def test_the_suggested_fix_of_a_bare_string_works():
    with pytest.raises(TypeError, match=r"write answer=\['42'\]"):
        math_reward(["42", "42"], answer="42")
    assert math_reward(["42"], answer=["42"]) == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "<answer>5</answer>",
        "First 2 + 3.\n<answer> 5 </answer>\n",
        "2 + 3 = 5\n#### 5",
        "2 + 3 = 5. #### 5",
        r"Hence \boxed{5}",
        r"Hence $\boxed{\frac{1}{2}}$.",
        r"\[\boxed{5}\]",
    ],
)
def test_format_reward_pays_one_answer_at_the_end(text):
    assert format_reward([text]) == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "<answer>5</answer> I hope.",
        "<answer>5</answer><answer>5</answer>",
        "<answer>5</answer>\n#### 5",
        "<answer></answer>",
        "<answer> </answer>",
        "<answer>5",
        "5</answer>",
        "<answer>line\nline</answer>",
        "#### 5\n#### 5",
        "#### 5 #### 5",
        "#### 5 apples\nand 3 pears",
        "#### 5\nbye",
        "#### ",
        "##### 5",
        r"\boxed{5}\boxed{5}",
        r"\boxed{\boxed{5}}",
        r"\boxed{}",
        r"\boxed{5} is it",
        r"\boxed{5",
    ],
)
def test_format_reward_cannot_be_gamed(text):
    assert format_reward([text]) == [0.0]


REAL = os.environ.get("POSTLAB_REAL_ROWS")


@pytest.mark.skipif(
    not REAL, reason="set POSTLAB_REAL_ROWS to a folder that holds gsm8k_test.jsonl"
)
def test_every_gsm8k_solution_is_right_by_its_own_answer():
    path = Path(REAL, "gsm8k_test.jsonl")
    solutions = [json.loads(line)["answer"] for line in path.read_text("utf-8").splitlines()]
    golds = [solution.split("####")[1].strip() for solution in solutions]
    assert math_reward(solutions, golds) == [1.0] * len(solutions)
    assert format_reward(solutions) == [1.0] * len(solutions)
    assert sum(map(bool, math_reward(solutions, golds[1:] + golds[:1]))) < 0.05 * len(golds)
