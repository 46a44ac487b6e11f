"""Answers that are made to please math_reward and format_reward, and what shows them."""

import os
import random
import threading
import time

import pytest

from postlab.evals import suites
from postlab.rewards import code_reward, extract_answer, format_reward, math_reward, schema_reward
from postlab.tinyworld import tasks, words
from pace import within

ACCEPTED = [
    ("<think>4? No.</think>#### 5", "5"),
    ("4?</think>\n#### 5", "5"),
    ("<think>a</think>4<think>b</think>5", "5"),
    ("It was 4 and is now 5.", "5"),
    ("One or two steps more: 2 + 3 = 5", "5"),
    ("Either way, 5", "5"),
    ("3 or more were there at first. In all 5", "5"),
    ("#### 1,234", "1234"),
    ("#### -5", "-5"),
    (r"\boxed{\boxed{5}}", "5"),
    ("<answer>\\frac{1}{2}</answer>", "0.5"),
    ("#### 12+45=57", "57"),
    (r"\boxed{3\times10^5}", "300000"),
    ("#### --5", "5"),
    ("**5**", "5"),
]
REFUSED = [
    # two answers at once
    ("It is 4 or 5", "5"),
    ("It is 4 or 5.", "4"),
    ("it is 4, or 5", "5"),
    ("4 or maybe 5", "5"),
    ("4 OR 5", "5"),
    ("3, 4 or 5", "5"),
    ("between 4 and 5", "5"),
    ("#### 4 or 5", "5"),
    ("#### it is 4 or 5", "5"),
    ("#### 4, 5", "5"),
    ("#### 4 5", "5"),
    ("#### 4/5", "5"),
    ("#### 5 (or 4)", "5"),
    ("#### 4 and 5", "5"),
    ("#### 4|5", "5"),
    ("#### 4-5", "5"),
    ("#### 4..5", "5"),
    ("#### ~5 or so", "5"),
    ("#### {4,5}", "5"),
    ("#### <5", "5"),
    (r"#### \le 5", "5"),
    ("#### 5±1", "5"),
    (r"\boxed{4 \text{ or } 5}", "5"),
    (r"\boxed{4, 5}", "5"),
    (r"\boxed{5}\boxed{4}", "5"),
    ("<answer>4 or 5</answer>", "5"),
    ("<answer>5</answer><answer>4</answer>", "5"),
    ("#### 5\n#### 4", "5"),
    # in the thinking
    ("<think>so #### 5</think>", "5"),
    ("<think>#### 5", "5"),
    ("<think>5</think>", "5"),
    ("#### 5</think>", "5"),
    ("<THINK>#### 5</THINK>", "5"),
    ("<thinking>#### 5</thinking>", "5"),
    ("<reasoning>5</reasoning>", "5"),
    ("<think><answer>5</answer></think>6", "5"),
    ("<think>#### 5</think>#### 6", "5"),
    # in other digits, and signs that are none
    ("#### \u0665", "5"),
    ("#### \uff15", "5"),
    ("#### \u2464", "5"),
    ("#### \u096b", "5"),
    ("#### \u2075", "5"),
    ("#### \U0001d7d3", "5"),
    ("#### 1\u0660", "10"),
    ("\u0665", "5"),
    ("#### five", "5"),
    ("#### V", "5"),
    ("#### 0x5", "5"),
    ("#### 5\u0000", "5"),
    ("#### 5\u200b5", "55"),
    ("#### (5)(1)(1", "5"),
    # the task handed back
    ("#### 12+30+15", "57"),
    ("#### 100-43", "57"),
    ("#### 3*19", "57"),
    ("#### 3×19", "57"),
    (r"#### 3 \cdot 19", "57"),
    ("#### 3(19)", "57"),
    ("#### 120/4", "30"),
    ("so it is 120/4", "30"),
    (r"\boxed{\frac{114}{2}}", "57"),
    (r"\boxed{\sqrt{25}}", "5"),
    ("#### 2^{10}", "1024"),
    ("#### 57 = 12+30+15", "57"),
    # what an evaluator of Python or of LaTeX would do
    ("#### int('5')", "5"),
    ("#### answer", "5"),
    ("#### gold", "5"),
    ("#### $answer$", "5"),
    ("#### x", "5"),
    ("#### \\text{5}6", "5"),
    ("#### nan", "5"),
    ("#### inf", "5"),
    ("#### True", "1"),
    ("#### 5e999", "5"),
    ("#### 1e999999999", "5"),
    ("#### 5/0", "5"),
    ("#### 0/0", "5"),
    ("#### 5!", "120"),
    ("#### 5%%", "5"),
    ("#### 2+3=", "5"),
    ("####", "5"),
    ("#### ", "5"),
    ("##### 5 6", "5"),
]
LARGE = {
    "parentheses": "(" * 100_000,
    "nested": "(" * 50_000 + "5" + ")" * 50_000,
    "brackets": "[" * 50_000 + "5" + "]" * 50_000,
    "braces": "{" * 100_000,
    "boxes": "\\boxed{" * 14_000 + "5" + "}" * 14_000,
    "open boxes": "\\boxed{" * 14_000 + "5",
    "marked": "#### " + "(" * 100_000 + "5",
    "tagged": "<answer>" + "[" * 100_000 + "5</answer>",
    "tags": "<answer>" * 12_000 + "5",
    "closed tags": "</answer><answer>" * 6_000,
    "hashes": "#" * 100_000,
    "hash marks": "#### " * 20_000,
    "thinking": "<think>" * 14_000 + "5",
    "ors": "4 or " * 20_000,
    "betweens": "between " * 12_000,
    "commas": "1," * 50_000,
    "signs": "-" * 100_000 + "5x",
    "digits": "#### " + "9" * 100_000,
    "decimals": "0." * 50_000,
    "spaces": "#### " + " " * 100_000 + "x",
    "fractions": "\\frac{1}{" * 11_000,
    "towers": "#### 9" + "^9" * 500,
    "powers": "#### " + "(9^9)" * 30,
    "roots": "#### " + "\\sqrt{" * 5 + "2" + "}" * 5,
    "a run of signs": "#### " + "-" * 190 + "5x",
    "spaced signs": "#### " + "- " * 90 + "5x",
}


@pytest.mark.parametrize(("text", "gold"), ACCEPTED)
def test_honest_answers_are_paid(text, gold):
    assert math_reward([text], [gold]) == [1.0]


@pytest.mark.parametrize(("text", "gold"), REFUSED)
def test_answers_that_hedge_hide_or_pose_are_not(text, gold):
    assert math_reward([text], [gold]) == [0.0]


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def directly(work):
    work()


@pytest.mark.parametrize("where", [directly, in_a_thread])
@pytest.mark.parametrize("name", LARGE)
def test_large_answers_are_wrong_in_time(name, where):
    math_reward(["x+1"], ["1+x"])  # the parser is loaded
    rewards, before = [], threading.active_count()

    def work():
        begun = time.thread_time()
        rewards.extend(math_reward([LARGE[name]] * 3, ["6", "x+1", r"\sqrt{3}"]))
        rewards.append((time.thread_time() - begun) / 3)

    where(work)
    assert rewards[:3] == [0.0] * 3
    assert within(rewards[3], 2)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "text",
    [
        "<think>#### 5</think>",
        "<think>\n#### 5",
        "<think>#### 4</think>#### 5",
        "#### 5</think>",
        "<think><answer>5</answer></think>",
        "#### 5\n" * 50,
        "<answer>5</answer>" * 50,
        "\\boxed{" * 50 + "5" + "}" * 50,
        "#### 5 <answer>",
        "#### 5\n\\boxed{}",
        "####5####",
    ],
)
def test_no_pay_for_a_form_in_the_thinking_or_repeated(text):
    assert format_reward([text]) == [0.0]


def test_thinking_before_the_answer_is_fine():
    assert format_reward(["<think>2 + 3</think>\n#### 5"]) == [1.0]


def test_1000_scorings_leave_nothing_behind():
    math_reward(["x+1"], ["1+x"])
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    texts = [f"#### {i % 20} x^2 + {i % 20}" if i % 3 else f"so {i}" for i in range(1000)]
    math_reward(texts, ["x^2"] * 1000)
    format_reward(texts)
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        assert children.read() == ""


GAMED = [
    "#### 57\n" + "and so on, " * 20,
    r"\boxed{57}",
    "<answer>57</answer>",
    "57",
]


@pytest.mark.parametrize("text", GAMED)
def test_an_answer_that_games_the_reward_shows_in_the_evaluation(text):
    """The evaluations read `#### 57` at the end and nothing else, with code of their own."""
    assert math_reward([text], ["57"]) == [1.0]
    item = tasks.Item("arithmetic", "sum", (12, 30, 15))
    assert tasks.score(item, text, True)["arithmetic"] == 0
    assert suites._gsm8k_score("57")(text, True)["gsm8k_strict"] == 0
    assert suites._gsm8k_score("57")("12+45=57\n#### 57", True)["gsm8k_strict"] == 1


@pytest.mark.parametrize(
    ("text", "gold", "strict", "lenient"),
    [
        ("#### 1,234", "1234", 1, 1),
        ("#### $5.00.", "5", 1, 1),
        ("#### 5 apples", "5", 0, 1),
        ("#### -5", "5", 0, 0),
        ("It is 1,234.", "1,234", 0, 1),
        ("6 #### 5\n#### 6", "6", 0, 1),
    ],
)
def test_the_evaluation_of_gsm8k_reads_for_itself(text, gold, strict, lenient):
    found = suites._gsm8k_score(gold)(text, True)
    assert (found["gsm8k_strict"], found["gsm8k_lenient"]) == (strict, lenient)


def test_the_rewards_extractor_is_not_the_evaluations(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the evaluation asked the reward")

    for name in ("extract_answer", "answers_match"):
        monkeypatch.setattr(f"postlab.rewards.{name}", refuse)
        monkeypatch.setattr(f"postlab.rewards.math.{name}", refuse)
    suites._gsm8k_score("5")("#### 5", True)
    for family in tasks.FAMILIES:
        item = tasks.draw(family, random.Random(0), "heldout")
        tasks.score(item, tasks.solution(item), True)


def test_tinyworlds_programs_lists_and_objects_can_be_scored():
    """What week 8 trains on: each item's solution is paid, its flaws are not."""
    rng = random.Random(0)
    for _ in range(3):
        item = tasks.draw("code", rng, "train")
        lists = [[3, 1, 2], [5, 9, 7, 8]]
        tests = []
        for x in lists:
            value = x
            for op in item.args:
                value = tasks.LIST_OPS[op][1](value)
            tests.append({"function": "f", "args": [x], "expected": value})
        replies = [tasks.solution(item), "f(x) = x", "def f(x): return None"]
        paid = code_reward(replies, [tests] * 3, allow_weak_sandbox=True)
        assert paid == [1.0, 0.0, 0.0]
        item = tasks.draw("lists", rng, "train")
        value = tasks.LIST_OPS[item.kind][1](list(item.args))
        replies = [tasks.solution(item), tasks.flaw(item, rng), "no"]
        assert schema_reward(replies, [{"const": value}] * 3) == [1.0, 0.0, 0.0]
        item = tasks.draw("json", rng, "train")
        traits = {"name": item.args[0]} | words.traits(item.args[0])
        schema = {
            "type": "object",
            "properties": {key: {"const": value} for key, value in traits.items()},
            "required": list(traits),
            "additionalProperties": False,
        }
        replies = [tasks.solution(item), tasks.flaw(item, rng), "{}"]
        assert schema_reward(replies, [schema] * 3) == [1.0, 0.0, 0.0]


def test_a_marked_answer_in_the_thinking_is_not_extracted_in_either_mode():
    for strict in (True, False):
        assert extract_answer("<think>#### 5</think>", strict=strict) is None
