"""Mathematics as others write it: restyled answers stay right, changed ones become wrong."""

import json
import re
import time

import pytest

from postlab.datasets import math_rows
from postlab.rewards import _latex as latex
from postlab.rewards import answers_match, extract_answer, format_reward, math_reward
from pace import within


def matrix(*rows, kind="pmatrix"):
    return rf"\begin{{{kind}}} " + r" \\ ".join(rows) + rf" \end{{{kind}}}"


# Golds in which the entries stand in an order, with their entries and how to write them.
ORDERED = {
    "column": (["2", "3", "5"], lambda e: matrix(*e)),
    "row": (["2", "3", "5"], lambda e: matrix(" & ".join(e))),
    "square": (["1", "2", "3", "x"], lambda e: matrix(f"{e[0]} & {e[1]}", f"{e[2]} & {e[3]}")),
    "fractions": ([r"-\frac{1}{3}", r"\frac{2}{3}"], lambda e: matrix(*e, kind="bmatrix")),
    "point": (["3", r"\frac{\pi}{2}"], lambda e: f"({e[0]}, {e[1]})"),
    "triple": (["1", "-7", "3"], lambda e: f"({', '.join(e)})"),
    "interval": ([r"-\frac{1}{2}", "4"], lambda e: f"[{e[0]}, {e[1]})"),
    "ray": ([r"-\infty", "2"], lambda e: f"({e[0]}, {e[1]}]"),
    "ratio": (["3", "4"], lambda e: f"{e[0]}:{e[1]}"),
    "fraction": (["3", "4"], lambda e: rf"\frac{{{e[0]}}}{{{e[1]}}}"),
    "root": (["3", "14"], lambda e: rf"{e[0]}\sqrt{{{e[1]}}}"),
    "power": (["2", "x"], lambda e: f"{e[0]}^{{{e[1]}}}"),
    "inequality": (["x", "5"], lambda e: f"{e[0]} < {e[1]}"),
    "difference": (["p", "q"], lambda e: f"{e[0]} - {e[1]}"),
    "assignment": (["m", "b"], lambda e: f"y = 3{e[0]} + 2{e[1]}"),
}
UNORDERED = {
    "list": (["3", "5", "7"], lambda e: ", ".join(e)),
    "set": (["1", "-2", "x"], lambda e: rf"\{{{', '.join(e)}\}}"),
    "or": ([r"1+\sqrt{19}", r"1-\sqrt{19}"], lambda e: rf"{e[0]} \text{{ or }} {e[1]}"),
    "and": (["2", "9"], lambda e: f"{e[0]} and {e[1]}"),
    "union": (["(2, 12)", "(12, 102)"], lambda e: rf"{e[0]} \cup {e[1]}"),
    "points": (["(1, 2)", "(3, 4)", "(-1, 0)"], lambda e: ", ".join(e)),
}
SINGLE = ["10,\\!080", "7", "-\\frac{11}{4}", "2516_8", "4.5", "\\text{east}", "x^2 - 5x + 6"]
SINGLE += ["\\frac{5\\sqrt{42}}{27}", "1 \\pm \\sqrt{19}", "x \\in [-2, 7]", "90^\\circ", "5.4"]

STYLES = {
    "spaces": lambda s: s.replace(", ", " , ").replace("(", "( ").replace("}", "} "),
    "no spaces": lambda s: re.sub(r"(?<=[,&=<:+-]) | (?=[,&=<:+-])", "", s),
    "dfrac": lambda s: s.replace("\\frac", "\\dfrac"),
    "cfrac": lambda s: s.replace("\\frac", "\\cfrac"),
    "thin spaces": lambda s: s.replace(", ", r",\, ").replace(r" \\ ", r" \\ \; "),
    "left and right": lambda s: s.replace("(", r"\left(").replace(")", r"\right)"),
    "displaystyle": lambda s: rf"\displaystyle {s}",
    "dollars": lambda s: f"${s}$",
    "full stop": lambda s: f"{s}.",
    "bmatrix": lambda s: s.replace("pmatrix", "bmatrix"),
}
UNITS = ["{} apples", r"{}\text{{ cm}}", r"{} \mbox{{ cm}}^2", r"{}\mathrm{{~km}}", r"\${}"]


@pytest.mark.parametrize("style", STYLES)
def test_a_restyled_answer_is_still_right(style):
    golds = [write(entries) for entries, write in {**ORDERED, **UNORDERED}.values()]
    for gold in [*golds, *SINGLE]:
        restyled = STYLES[style](gold)
        assert math_reward([rf"So \boxed{{{restyled}}}"], [gold]) == [1.0], (restyled, gold)
        assert math_reward([f"The answer is ${gold}$."], [restyled]) == [1.0], (restyled, gold)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("gold", ["12", "4.5", r"\frac{7}{2}", r"3\sqrt{2}"])
def test_a_unit_keeps_the_verdict(gold, unit):
    assert answers_match(unit.format(gold), gold) is True
    assert answers_match(unit.format("13"), gold) is False


@pytest.mark.parametrize("name", [*ORDERED, *UNORDERED])
def test_a_changed_permuted_or_dropped_entry_makes_an_answer_wrong(name):
    entries, write = {**ORDERED, **UNORDERED}[name]
    gold = write(entries)
    for i, entry in enumerate(entries):
        for other in ("11", f"-{entry}", f"{entry}-3" if "infty" not in entry else "-3"):
            wrong = write([*entries[:i], other, *entries[i + 1 :]])
            assert math_reward([rf"\boxed{{{wrong}}}"], [gold]) == [0.0], (wrong, gold)
            assert math_reward([rf"\boxed{{{entry}}}"], [gold]) == [0.0], (entry, gold)
    swapped = write([entries[1], entries[0], *entries[2:]])
    expected = 1.0 if name in UNORDERED else 0.0
    assert math_reward([rf"\boxed{{{swapped}}}"], [gold]) == [expected], swapped
    if name in ("list", "set", "triple", "column", "row", "points"):
        assert math_reward([rf"\boxed{{{write(entries[1:])}}}"], [gold]) == [0.0]
        assert math_reward([rf"\boxed{{{write([*entries, entries[0]])}}}"], [gold]) == [0.0]


def test_a_transpose_another_bracket_and_a_sum_of_entries_are_wrong():
    square, transposed = matrix("1 & 2", "3 & 4"), matrix("1 & 3", "2 & 4")
    wrong = [(transposed, square), (matrix("1", "4"), matrix("2", "3")), ("80, 10", "10,\\!080")]
    wrong += [(matrix("2 & 3"), matrix("2", "3")), ("(0, 1)", "[0, 1)"), (r"\{0, 1\}", "(0, 1)")]
    wrong += [("5", matrix("2", "3")), ("x > 5", "x < 5"), (r"x \le 5", "x < 5"), ("5t", "5")]
    wrong += [
        (r"\ln e=2", r"\ln e=1"),
        (r"\log_2 8=4", r"\log_2 8=3"),
        ("(x+1)^2=x", "(x+1)^2=x^2+2x+1"),
    ]
    wrong += [("2516_9", "2516_8"), (r"\text{west}", r"\text{east}"), ("1, 2", "1, 2, 2")]
    for predicted, gold in wrong:
        assert math_reward([rf"\boxed{{{predicted}}}"], [gold]) == [0.0], (predicted, gold)


# Neither of a pair answers for the other: what differs is small, and changes the meaning.
NEAR_MISSES = {
    "powers": [("5^2", "5"), ("10^3", "10^2"), ("3.5^2", "3.5"), (r"\frac{1}{2}^2", r"\frac12")],
    "determinants": [
        (matrix("1 & 2", "3 & 4"), matrix("1 & 2", "3 & 4", kind="vmatrix")),
        (matrix("1", "2", kind="bmatrix"), r"\{1, 2\}"),
    ],
    "intervals": [("(0,1)", "[0,1)"), ("x > 2", r"[2,\infty)"), (r"(0,1)\cup(2,3)", "(0,3)")],
    "plus or minus": [(r"\pm 3", "3"), (r"1\pm\sqrt2", r"1+\sqrt2"), (r"\pm 2i", r"\pm 2")],
    "names": [("(x,y)=(1,2)", "(y,x)=(1,2)"), ("x=1, y=2", "x=2, y=1"), ("x=3", "y=3")],
    "ratios": [("1:2:3", "1:3:2"), ("1:2:3", r"\frac16"), ("3:4", "4:3")],
    "primes": [("y'=2x", "y=2x"), ("f'(x)", "f(x)"), ("x''", "x'"), (r"x^{\prime}", "x")],
    "derivatives": [(r"\frac{dy}{dx}", r"\frac{dx}{dy}"), (r"\frac{dy}{dx}=2x", "y=2x")],
    "shifted equations": [("x=y", "x=y+1"), ("2y=2x", "y=x+1"), ("2x+3y=6", "2x+3y=0")],
    "equations side by side": [("$y=x$ $z=2x$", "$y=-x$ $z=2x$")],
    "clocks": [("3:30 pm", "3:30 am"), ("5 pm", "5 a.m."), ("3:30", "1:10"), ("3:30", "3:45")],
    "dates": [("2023-05-01", "2023-01-05"), ("1/2/2023", "2/4/2023")],
    "numbers in words": [("5 thirds", "5"), ("5 squared", "5"), ("5 factorial", "5")],
    "sentences": [("minus 5", "5"), ("half of 6", "6"), ("5 times x", "5"), ("5 sin x", "5")],
    "factorials": [("2n", "(2n)!"), ("n!", "n"), ("2n!", "(2n)!")],
    "recurring": [(r"0.\overline{3}", "0.3"), (r"0.1\overline{6}", r"0.\overline{16}")],
    "complex": [("3+4i", "3-4i"), ("2i", "2"), (r"e^{i\pi/3}", r"e^{-i\pi/3}")],
    "bases": [("101_2", "101_3"), ("11_2", "11_{10}")],
    "words": [("convergent", "divergent"), ("A, B", "A, C"), ("north-east", "north-west")],
    "money": [(r"\$5.05", r"\$5.50"), ("$3.5 million", "$3.5 billion"), ("$1,234", "$1.234")],
}


@pytest.mark.parametrize("kind", NEAR_MISSES)
@pytest.mark.parametrize("switches", [{}, {"unworked": True}])
def test_near_misses_are_not_paid(kind, switches):
    for pair in NEAR_MISSES[kind]:
        for predicted, gold in (pair, pair[::-1]):
            rewards = math_reward([rf"\boxed{{{predicted}}}"], [gold], **switches)
            assert not rewards[0], (predicted, gold)
            if predicted in ("5^2", "10^3", "101_2") or kind in ("primes", "clocks", "ratios"):
                assert math_reward([rf"\boxed{{{predicted}}}"], [predicted]) == [1.0]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 1, 2, 3", "1, 2, 3"),
        ("The answer is 5, 2 more than before", "5"),
        ("The answer is $48$, $384$.", "$48$, $384$"),
        ("The answer is $48$, and $384$ is too much.", "$48$"),
        ("The answer is not 5", None),
        ("It is minus 5", None),
        ("The answer is 5 squared", "5 squared"),
        ("That makes 5 over 7", "7"),
        ("The answer is 5 divided by 3.", "5 divided by 3"),
        ("The answer is 5 and a half", "5 and a half"),
        ("The answer is 5 points", "5"),
    ],
)
def test_words_around_a_number_are_not_dropped_where_they_change_it(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("predicted", "gold"),
    [
        ("sqrt(7)/2", r"\frac{\sqrt7}{2}"),
        ("5*sqrt(2)", r"5\sqrt{2}"),
        (r"\cfrac{2}{9}", r"\frac29"),
        (r"\frac7{4}", r"\frac{7}{4}"),
        (r"4\frac{3}{8}", "4.375"),
        ("2 3/4", r"\frac{11}{4}"),
        (r"\{2,-2\}", "2 and -2"),
        (r"x=2 \text{ or } x=-2", r"\pm 2"),
        ("[-2,7]", r"x \in [-2,7]"),
        (r"\{x \mid x < 3\}", "x<3"),
        ("3 million", "3000000"),
        (r"2.1 \times 10^{-3}", "0.0021"),
        ("(B)", r"\text{(B)}"),
        ("Tuesday", r"\text{Tuesday}"),
        ("y=2x+3", "y = 3 + 2x"),
        ("7", "The answer is $7$."),
        ("9", "9 (apples)"),
        (r"\sum_{k=1}^{n} k^2", r"\sum_{k=1}^{n}k^2"),
    ],
)
def test_other_forms_of_the_same_answer(predicted, gold):
    assert answers_match(predicted, gold) is True


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 24. I needed 7 lines.", "24"),
        ("Answer: 24\n\nAsk me if you have 3 further questions.", "24"),
        (r"Final Answer: The final answer is $(4, 9)$. I hope it is correct.", "$(4, 9)$"),
        ("So x = 24. This took 5 steps.", "x = 24"),
        (r"The derivative is $6x^5$", "$6x^5$"),
        (r"It equals \frac{1+\sqrt{7}}{3}.", r"\frac{1+\sqrt{7}}{3}"),
        ("They share it 5:6", "5:6"),
        ("It weighs 7 million tons", "7 million"),
        ("It costs 2 1/2 euros", "2 1/2"),
        ("the set [0, 4)", "[0, 4)"),
        ("3 + 4 = 7", "7"),
        ("It is 4 or 7", "4 or 7"),
        ("It is 4, or maybe 7", None),
        ("It lies between 4 and 7", None),
        (r"$x=\boxed{3}$ and $y=\boxed{8}$", "3, 8"),
        (r"\boxed{3} is too small. Hence \boxed{8}", "8"),
    ],
)
def test_lenient_extraction_takes_whole_answers(text, answer):
    assert extract_answer(text) == answer


def test_each_policy_has_a_switch():
    assert math_reward(["It is 5."], ["5"], strict=True) == [0.0]
    assert math_reward(["It is 4, or maybe 5."], ["5"], hedges=True) == [1.0]
    boxes = r"\boxed{2} or \boxed{3}"
    assert math_reward([boxes] * 2, ["2, 3", "3"]) == [1.0, 0.0]
    assert math_reward([boxes] * 2, ["2, 3", "3"], boxes="last") == [0.0, 1.0]
    apart = r"\boxed{2} is one root. The other root is \boxed{3}"
    assert math_reward([apart], ["2, 3"]) == [0.0]
    assert math_reward([apart], ["2, 3"], boxes="all") == [1.0]
    assert answers_match("12+30", "42", unworked=True) is True
    assert answers_match("0.6667", "2/3", rounded=False) is False


DEGENERATE = {
    "newlines after a box": lambda n: "\\boxed{5}" + "\n" * n + "x",
    "a number and letters": lambda n: "#### 5" + "ha" * (n // 2) + "!",
    "spaces in a tag": lambda n: "<answer>5" + " " * n + "x</answer>",
    "open boxes": lambda n: "\\boxed{" * (n // 7),
    "dollars": lambda n: "$ 1" * (n // 3),
    "open formulas": lambda n: "\\( x \\[ " * (n // 8),
    "answers are": lambda n: "the answer is " * (n // 14),
    "list": lambda n: "are 1, " + "1, " * (n // 3),
    "signs": lambda n: "-+" * (n // 2),
    "commands": lambda n: "\\ab" * (n // 3) + "abc",
    "braces and spaces": lambda n: "{ , } ^ { " * (n // 10),
    "ors": lambda n: "4 or " * (n // 5) + "5",
}


def seconds(work):
    start = time.thread_time()
    work()
    return time.thread_time() - start


@pytest.mark.parametrize("kind", DEGENERATE)
def test_time_grows_with_the_length_and_no_faster(kind):
    math_reward(["x+1"], ["1+x"])  # the parser is loaded
    make = DEGENERATE[kind]

    def best(n):
        text = make(n)

        def work():
            math_reward([text], ["x+1"])
            extract_answer(text)
            format_reward([text])

        return min(seconds(work) for _ in range(3))

    times = [best(10**power) for power in (2, 3, 4, 5)]
    assert within(max(times), 0.5)
    assert times[3] < 30 * max(times[2], 1e-3)  # ten times the text; quadratic would be a hundred


HUGE = [
    r"\exp(\exp(\exp(14)))",
    r"\exp(\exp(\exp(20)))",
    r"\sin(\exp(9999999))",
    r"\cos(10^{999})",
    r"e^{e^{e^{e^{e}}}}",
    r"[e^{e^{e^{9}}}, 3)",
    r"\cosh(\cosh(\cosh(99)))",
    r"\tan(99999999999!)",
    r"\binom{10^{9}}{10^{8}}",
    r"999!",
    r"(((2^{999})^{9})^{9})^{9}",
    r"9^{9999}",
    r"\ln(\ln(\exp(\exp(99))))",
    "(x+y+z)^{99}",
    "x(" * 6 + "x" + "+1)" * 6,
    "a b c d e f g " * 14,
    r"\frac{1}{1+" * 6 + "x" + "}" * 6,
    r"\sqrt{x+\sqrt{x+\sqrt{x+\sqrt{x+\sqrt{x}}}}}",
    r"x^{99}y^{99}-(x-y)^{99}=(x+1)^{99}",
    "+".join(f"x^{{{k}}}" for k in range(40)),
]


@pytest.mark.parametrize("text", HUGE)
def test_an_answer_that_sympy_would_not_finish_is_stopped(text):
    math_reward(["x+1"], ["1+x"])
    boxed = rf"\boxed{{{text}}}"
    latex._expression.cache_clear()
    golds = ["5", "x+1", "[0, 3)", r"\sqrt{2}+x"]
    assert within(max(seconds(lambda g=gold: math_reward([boxed], [g])) for gold in golds), 1.5)
    assert math_reward([boxed] * 4, golds) == [0.0] * 4


def test_the_limit_counts_calls_and_not_seconds():
    """So a busy machine gives the rewards of an idle one."""
    with pytest.raises(TimeoutError):
        latex.limited(lambda: [abs(k) for k in range(latex.MAX_CALLS + 10)])
    assert latex.limited(lambda: 7) == 7


def test_math_rows_drops_and_counts_golds_that_cannot_match_themselves(tmp_path):
    rows = [
        {"problem": "Prove it.", "solution": "As 5 is odd and 8 is even, 5 + 8 is odd."},
        {"problem": "Which way?", "solution": r"\boxed{\text{north}}"},
        {"problem": "How many?", "solution": r"$\boxed{12,\!600}$"},
        {"problem": "Solve it.", "solution": r"$x=\boxed{3}$ or $x=\boxed{-3}$."},
        {"problem": "Is it?", "answer": "by definition of the limit"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    kept = math_rows(str(path), split="train", instruction=None)
    assert [row["answer"] for row in kept] == [r"\text{north}", r"12,\!600", "3, -3"]
    assert list(kept.dropped.values()) == [2]
