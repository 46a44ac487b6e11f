"""Process reward models: steps and labels by hand, estimators by brute force, a scripted search."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from postlab import process as prm
from postlab.lab import Lab
from postlab.models import load_policy
from postlab.process import search as prm_search
from postlab.process import steps as prm_steps
from postlab.profile import get_profile
from postlab.stats import pass_at_k
from postlab.tinyworld import tasks

SUM = "What is 12+30+15?"
WORKED = "12+30=42, 42+15=57. #### 57"


def ask(text: str = SUM) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def tiny():
    folder = Lab(get_profile("tiny"), 0).checkpoint("sft")
    return load_policy(folder, profile="tiny", bits=32)


@pytest.fixture(scope="module")
def head(tiny):
    """Untrained: two classes on the base."""
    from transformers import AutoModelForTokenClassification

    torch.manual_seed(0)
    config = tiny[0].get_base_model().config
    assert config.num_labels == 2
    return AutoModelForTokenClassification.from_config(config).eval()


# --- steps ---


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (WORKED, ["12+30=42,", "42+15=57.", "#### 57"]),
        ("#### 57", ["#### 57"]),
        ("12+30=42, ", ["12+30=42,"]),
        ("  ", []),
        ("", []),
        ("a, b. c", ["a,", "b.", "c"]),
        ("3.5 + 1,000", ["3.5 + 1,000"]),
    ],
)
def test_a_reply_is_cut_between_its_steps(text, steps):
    assert prm.split_steps(text) == steps


def test_every_worked_sum_comes_together_again():
    for count in (2, 3, 6):
        text = tasks.worked(tuple(range(11, 11 + count)))
        assert len(prm.split_steps(text)) == count
        assert " ".join(prm.split_steps(text)) == text


def test_lines_are_steps_too():
    text = "Half of 48 is 24.\n\n48 + 24 = 72\n#### 72"
    assert prm.split_steps(text, at=prm.LINES) == ["Half of 48 is 24.", "48 + 24 = 72", "#### 72"]


def test_a_text_is_wanted():
    with pytest.raises(TypeError, match="expected a reply's text, got list"):
        prm.split_steps(["12+30=42,"])


def test_a_label_stands_on_the_last_token_of_its_step_and_nowhere_else(tiny):
    tokenizer = tiny[1]
    row = prm.encode_steps([prm.step_row(ask(), WORKED, [1, 0, 1])], tokenizer)[0]
    assert len(row["input_ids"]) == len(row["labels"]) == len(row["attention_mask"])
    places = [i for i, label in enumerate(row["labels"]) if label != -100]
    assert places == row["ends"] and [row["labels"][i] for i in places] == [1, 0, 1]
    read = [tokenizer.decode(row["input_ids"][: i + 1]).rstrip() for i in places]
    assert [text.split("assistant\n")[1] for text in read] == [
        "12+30=42,",
        "12+30=42, 42+15=57.",
        WORKED,
    ]


def test_prompt_and_reply_are_what_the_policy_is_given(tiny):
    from postlab.sampling import render

    ids = prm.encode_steps([prm.step_row(ask(), WORKED)], tiny[1])[0]["input_ids"]
    whole = tiny[1](render(tiny[1], ask()) + WORKED, add_special_tokens=False)["input_ids"]
    assert ids == whole


def test_unknown_labels_are_left_out_and_shares_are_rounded(tiny):
    row = {"prompt": ask(), "completions": prm.split_steps(WORKED), "labels": [0.5, 0.4, None]}
    found = prm.encode_steps([row], tiny[1])[0]
    assert [found["labels"][i] for i in found["ends"]] == [1, 0, -100]


def test_padding_has_no_label(tiny):
    from transformers import DataCollatorForTokenClassification

    rows = [prm.step_row(ask(), text, [1] * n) for text, n in (("#### 57", 1), (WORKED, 3))]
    encoded = prm.encode_steps(rows, tiny[1])
    columns = ("input_ids", "attention_mask", "labels")
    batch = DataCollatorForTokenClassification(tiny[1])(
        [{c: row[c] for c in columns} for row in encoded]
    )
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert [(row != -100).sum().item() for row in batch["labels"]] == [1, 3]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"completions": ["a", "b"], "labels": [1]}, "row 0: 2 steps and 1 labels"),
        ({"completions": ["a"], "labels": [2]}, "a label is 2; expected 0 to 1"),
        ({"completions": [], "labels": []}, "no step"),
        ({"completions": ["a", " "], "labels": [1, 1]}, "an empty one"),
        ({"completions": ["a " * 600], "labels": [1]}, "max_length is 512; raise it.*drop_long"),
    ],
)
def test_a_row_that_cannot_be_encoded_is_refused(tiny, row, said):
    with pytest.raises(ValueError, match=said):
        prm.encode_steps([{"prompt": ask()} | row], tiny[1])


def test_rows_that_are_too_long_can_be_dropped_and_are_counted(tiny):
    rows = [prm.step_row(ask(), text, [1] * n) for text, n in (("#### 57", 1), (WORKED, 3))]
    short = len(prm.encode_steps(rows, tiny[1])[0]["input_ids"])
    found = prm.encode_steps(rows, tiny[1], max_length=short, drop_long=True)
    assert [len(row["ends"]) for row in found] == [1]
    assert found.dropped == {f"longer than {short} tokens": 1}
    assert prm.encode_steps(rows, tiny[1]).dropped == {}
    with pytest.raises(ValueError, match="all 2 rows have more than 1 tokens; raise max_length"):
        prm.encode_steps(rows, tiny[1], max_length=1, drop_long=True)


@pytest.mark.parametrize("end", ["∎", "é", "🙂"])
def test_a_step_that_ends_in_a_character_of_several_tokens_is_labelled_at_the_last(tiny, end):
    row = {"prompt": ask(), "completions": [f"12+30=42 {end}", f"57{end}"], "labels": [1, 0]}
    ids, places = (prm.encode_steps([row], tiny[1])[0][k] for k in ("input_ids", "ends"))
    read = [tiny[1].decode(ids[: i + 1]).split("assistant\n")[1] for i in places]
    assert read == [f"12+30=42 {end}", f"12+30=42 {end} 57{end}"]


def test_a_character_that_the_tokenizer_drops_ends_no_step():
    def deaf(text, **how):
        return {"input_ids": [1], "offset_mapping": [(0, 1)]}

    deaf.chat_template, deaf.apply_chat_template = "?", lambda *_, **__: "?"
    with pytest.raises(ValueError, match="no token holds the last character of step 'ab', 'b'"):
        prm_steps.step_ids(ask(), ["ab"], deaf)


LINED = "12+30=42, so\n42+15=57.\n#### 57"


def test_a_row_is_cut_where_it_is_said():
    row = prm.step_row(ask(), LINED, [1, 1, 1], at=prm.LINES)
    assert row["completions"] == ["12+30=42, so", "42+15=57.", "#### 57"]


def test_outcomes_stand_on_the_last_step():
    rows = [prm.step_row(ask(), WORKED, [1, 1, 1]), prm.step_row(ask(), "#### 5", [0])]
    found = prm.outcome_rows(rows, [1, 0])
    assert [row["labels"] for row in found] == [[None, None, 1], [0]]
    assert rows[0]["labels"] == [1, 1, 1]
    with pytest.raises(ValueError, match="2 rows and 1 outcomes"):
        prm.outcome_rows(rows, [1])


# --- the oracle ---


@pytest.mark.parametrize(
    ("reply", "labels"),
    [
        (WORKED, [1, 1, 1]),
        ("30+12=42, 42+15=57. #### 57", [1, 1, 1]),  # another order
        ("12+30=42, 42+15=58. #### 58", [1, 0, 0]),
        ("12+30=42, 41+15=56. #### 56", [1, 0, 0]),  # another total than the one before
        ("12+30=42, 42+16=58. #### 58", [1, 0, 0]),  # a term that was not asked for
        ("12+30=42, 42+30=72. #### 72", [1, 0, 0]),  # a term twice
        ("12+30=52, 52+5=57. #### 57", [0, 0, 0]),  # a right answer after wrong steps
        ("12+30=42. #### 57", [1, 1]),
        ("12+30=42, 42+15=57. #### 58", [1, 1, 0]),
        ("#### 57", [1]),
        ("#### 58", [0]),
        ("12+30=42, about 57.", [1, 0]),
        ("12+30=42, 42+15=57.", [1, 1]),
    ],
)
def test_the_oracle_says_whether_a_sum_is_still_on_track(reply, labels):
    assert prm.oracle_labels(SUM, prm.split_steps(reply)) == labels


def test_the_oracle_finds_every_slip_where_it_was_made():
    terms = (12, 30, 15, 8, 21)
    question = tasks.ask(tasks.Item("arithmetic", "sum", terms), _Fixed(), "train")
    for at, slip in itertools.product(range(4), (-20, -1, 2, 10)):
        steps = prm.split_steps(tasks.worked(terms, slip_at=at, slip=slip))
        assert prm.first_wrong(prm.oracle_labels(question, steps)) == at
    right = prm.split_steps(tasks.worked(terms))
    assert prm.first_wrong(prm.oracle_labels(question, right)) == -1


class _Fixed:
    def choice(self, values):
        return values[0]


def test_the_oracle_reads_sums_only():
    with pytest.raises(ValueError, match="not a sum"):
        prm.oracle_labels("What colour is the mobak?", ["Blue."])


# --- rollouts ---


def right(prompt, reply: str) -> float:
    return float(reply.endswith("#### 57"))


def scripted(monkeypatch, tokenizer, answers):
    """Rollouts come from a script: prefix text -> the completions, in order."""
    asked = []

    def draw(model, tok, rollouts, *, seed):
        for one in rollouts:
            prefix = tokenizer.decode(one.prompt).split("assistant\n")[1].strip()
            asked.append((prefix, one.sample))
            text = answers[prefix][one.sample]
            one.answer = tokenizer(text, add_special_tokens=False)["input_ids"]

    monkeypatch.setattr("postlab.process.labels.draw", draw)
    return asked


def test_a_soft_label_is_the_share_of_completions_that_come_out_right(tiny, monkeypatch):
    answers = {
        "12+30=42,": ["42+15=57. #### 57", "#### 57", "42+15=58. #### 58", "#### 9"],
        "12+30=42, 42+15=58.": ["#### 58", "#### 58", "#### 57", "#### 5"],
    }
    asked = scripted(monkeypatch, tiny[1], answers)
    rows = [prm.step_row(ask(), text) for text in ("12+30=42, 42+15=58. #### 58", "#### 57")]
    soft = prm.rollout_labels(*tiny, rows, right=right, k=4)
    assert soft == [[0.5, 0.25, 0.0], [1.0]]
    assert prm.hard_labels(soft) == [[1, 1, 0], [1]]
    assert prm.hard_labels(soft, least=0.25) == [[1, 0, 0], [1]]
    assert len(asked) == 8  # none behind the last step


def test_equal_prefixes_share_their_completions(tiny, monkeypatch):
    asked = scripted(monkeypatch, tiny[1], {"12+30=42,": ["#### 57", "#### 1"]})
    rows = [prm.step_row(ask(), f"12+30=42, #### {n}") for n in (57, 58)]
    assert prm.rollout_labels(*tiny, rows, right=right, k=2) == [[0.5, 1.0], [0.5, 0.0]]
    assert len(asked) == 2


def test_rollouts_go_on_where_lines_are_steps(tiny, monkeypatch):
    first = ["\n42+15=57.\n#### 57", "\n#### 1"]
    asked = scripted(
        monkeypatch, tiny[1], {"12+30=42, so": first, "12+30=42, so\n42+15=57.": first}
    )
    replies = []

    def good(prompt, reply):
        replies.append(reply)
        return right(prompt, reply)

    rows = [prm.step_row(ask(), LINED, at=prm.LINES)]
    soft = prm.rollout_labels(*tiny, rows, right=good, k=2, separator="\n")
    assert soft == [[0.5, 0.5, 1.0]] and LINED in replies
    assert [prefix for prefix, _ in asked][::2] == ["12+30=42, so", "12+30=42, so\n42+15=57."]


def test_real_rollouts_follow_the_seed(tiny):
    rows = [prm.step_row(ask("What is 12+30+15+8?"), "12+30=42, 42+15=57, 57+8=65. #### 65")]

    def good(prompt, reply):
        return float(reply.endswith("#### 65"))

    one, two = (prm.rollout_labels(*tiny, rows, right=good, k=8, seed=3) for _ in range(2))
    assert one == two and all(0 <= x <= 1 for x in one[0]) and one[0][-1] == 1.0
    assert one[0][2] >= 0.5  # the sum is done: only the answer is left to say


@pytest.mark.parametrize("change", [{"k": 0}, {"temperature": 0.0}])
def test_rollouts_want_a_number_and_a_temperature(tiny, change):
    with pytest.raises(ValueError, match="expected at least 1, and above 0"):
        prm.rollout_labels(*tiny, [], right=right, **change)


def test_hard_labels_want_a_share():
    with pytest.raises(ValueError, match="least is 1"):
        prm.hard_labels([[0.5]], least=1)


def test_agreement_counts_both_kinds_of_error():
    found = prm.agreement([[1, 1, 0, 0], [1]], [[1, 0, 1, 0], [0]])
    assert found["agreed"].value == 2 / 5
    assert (found["missed"].value, found["missed"].n) == (2 / 3, 3)
    assert (found["alarms"].value, found["alarms"].n) == (1 / 2, 2)
    assert prm.agreement([[1]], [[1]])["missed"].n == 0
    with pytest.raises(ValueError, match="not of the same steps"):
        prm.agreement([[1, 1]], [[1], [1]])


# --- scores ---


def test_scores_are_the_heads_chances_at_the_steps_ends(tiny, head):
    tokenizer = tiny[1]
    rows = [prm.step_row(ask(), text) for text in (WORKED, "#### 57", WORKED, "12+30=52, #### 5")]
    found = prm.step_scores(head, tokenizer, rows)
    for row, scores in zip(rows, found, strict=True):
        one = prm.encode_steps([row], tokenizer)[0]
        with torch.no_grad():
            logits = head(input_ids=torch.tensor([one["input_ids"]])).logits[0]
        wanted = logits.softmax(-1)[one["ends"], 1].tolist()
        assert scores == pytest.approx(wanted, abs=1e-5)
    assert found[0] == found[2]
    assert prm.step_scores(head, tokenizer, rows, batch_rows=1)[3] == pytest.approx(
        found[3], abs=1e-5
    )


def test_a_score_does_not_see_what_comes_behind_its_step(tiny, head):
    two = [prm.step_row(ask(), text) for text in (WORKED, "12+30=42, 42+15=99. #### 1")]
    one, other = prm.step_scores(head, tiny[1], two)
    assert one[0] == pytest.approx(other[0], abs=1e-6) and one[1] != pytest.approx(other[1])


def test_a_head_of_two_classes_is_wanted(tiny):
    class Three:
        config = type("Config", (), {"num_labels": 3})

    with pytest.raises(ValueError, match="the head has 3 classes; expected 2"):
        prm.step_scores(Three(), tiny[1], [])


def test_a_chance_that_is_no_number_is_refused(tiny, head):
    import copy

    broken = copy.deepcopy(head)
    with torch.no_grad():
        broken.score.bias.fill_(math.nan)
    rows = [prm.step_row(ask(), WORKED)]
    for call in (
        lambda: prm.step_scores(broken, tiny[1], rows),
        lambda: prm.process_reward(broken, tiny[1])([ask()], [WORKED]),
    ):
        with pytest.raises(ValueError, match="load the head in float32 or bfloat16"):
            call()
    with pytest.raises(ValueError, match="a score is NaN"):
        prm.aggregate([0.5, math.nan], "min")


def test_aggregates_by_hand():
    scores = [0.5, 1.0, 0.75]
    found = [prm.aggregate(scores, how) for how in ("last", "min", "product", "mean", "sum")]
    assert found == [0.75, 0.5, 0.375, 0.75, 2.25]
    with pytest.raises(ValueError, match="how is 'max'; expected one of last, min"):
        prm.aggregate(scores, "max")
    with pytest.raises(ValueError, match="at least one step"):
        prm.aggregate([])


def test_min_and_product_never_rise_with_a_step_and_sum_always_does():
    g = np.random.default_rng(0)
    for _ in range(20):
        scores, more = g.random(4).tolist(), g.random()
        for how in ("min", "product"):
            assert prm.aggregate([*scores, more], how) <= prm.aggregate(scores, how)
        assert prm.aggregate([*scores, more], "sum") > prm.aggregate(scores, "sum")


def test_the_reward_is_the_aggregate_of_each_completion(tiny, head):
    reward = prm.process_reward(head, tiny[1], how="min", name="proxy")
    texts = [WORKED, "", "#### 57"]
    said = [[{"role": "assistant", "content": text}] for text in texts]
    found = reward([ask()] * 3, said, answer=["57"] * 3)
    rows = [prm.step_row(ask(), text) for text in (WORKED, "#### 57")]
    wanted = [prm.aggregate(p, "min") for p in prm.step_scores(head, tiny[1], rows)]
    assert found == pytest.approx([wanted[0], 0.0, wanted[1]], abs=1e-5)
    assert reward.__name__ == "proxy" and reward([ask()] * 3, texts) == pytest.approx(found)
    with pytest.raises(ValueError, match="how is 'best'"):
        prm.process_reward(head, tiny[1], how="best")


def test_the_reward_reads_lines_where_they_are_steps(tiny, head):
    reward = prm.process_reward(head, tiny[1], how="sum", at=prm.LINES, separator="\n")
    rows = [prm.step_row(ask(), LINED, at=prm.LINES)]
    (wanted,) = prm.step_scores(head, tiny[1], rows, separator="\n")
    assert len(wanted) == 3 and reward([ask()], [LINED]) == pytest.approx([sum(wanted)], abs=1e-5)


# --- choice ---


def by_enumeration(scores, good, n):
    """Every subset; ties shared."""
    found = []
    for subset in itertools.combinations(range(len(scores)), n):
        top = max(scores[i] for i in subset)
        best = [good[i] for i in subset if scores[i] == top]
        found.append(sum(best) / len(best))
    return sum(found) / len(found)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
def test_best_of_n_is_the_mean_over_all_subsets(n):
    g = np.random.default_rng(n)
    scores = g.integers(0, 4, (5, 7)) / 4  # with ties
    good = g.integers(0, 2, (5, 7)).astype(float)
    wanted = [by_enumeration(s, w, n) for s, w in zip(scores, good, strict=True)]
    assert prm.best_of_n(scores, good, n) == pytest.approx(wanted, abs=1e-12)


def test_best_of_n_by_the_oracle_is_pass_at_n():
    g = np.random.default_rng(0)
    good = (g.random((6, 64)) < 0.1).astype(float)
    for n in (1, 8, 64):
        wanted = [pass_at_k(64, int(row.sum()), n) for row in good]
        assert prm.best_of_n(good, good, n) == pytest.approx(wanted, abs=1e-12)


def test_best_of_n_does_not_mind_the_order_of_replies():
    g = np.random.default_rng(1)
    scores, good = g.random((3, 9)), g.integers(0, 2, (3, 9)).astype(float)
    order = g.permutation(9)
    one, two = prm.best_of_n(scores, good, 4), prm.best_of_n(scores[:, order], good[:, order], 4)
    assert one == pytest.approx(two, abs=1e-12)


def test_equal_scores_are_chance():
    good = np.array([[1.0, 0.0, 0.0, 1.0]])
    for n in (1, 2, 4):
        assert prm.best_of_n(np.ones((1, 4)), good, n) == pytest.approx([0.5])


def test_equal_scores_of_minus_infinity_are_chance_too():
    worst = [[-math.inf] * 3]
    assert prm.best_of_n(worst, [[1, 0, 0]], 3) == pytest.approx([1 / 3])
    assert prm.best_of_n([[-math.inf, 0, -math.inf]], [[1, 0, 0]], 1) == pytest.approx([1 / 3])


def test_the_weights_hold_at_many_replies():
    scores = np.arange(1000.0)[None]
    good = (scores >= 999).astype(float)  # the best alone: chosen with chance n / N
    assert prm.best_of_n(scores, good, 250) == pytest.approx([0.25], rel=1e-9)


def test_votes_by_hand():
    answers, good = [["a", "a", "b", None]], [[1, 1, 0, 0]]
    assert prm.vote_of_n(answers, good, 4) == pytest.approx([1.0])
    assert prm.vote_of_n([["a", "b"]], [[1, 0]], 2) == pytest.approx([0.5])  # a tie is chance
    assert prm.vote_of_n([[None, None]], [[0, 0]], 2) == pytest.approx([0.0])
    assert prm.vote_of_n(answers, good, 4, weights=[[0.1, 0.1, 0.9, 9.0]]) == pytest.approx([0.0])


def test_a_vote_of_one_is_the_mean_and_of_some_the_mean_over_subsets():
    answers = [["a", "b", "b", "c", "a"]]
    good = np.array([[0.0, 1.0, 1.0, 0.0, 0.0]])
    one = prm.vote_of_n(answers, good, 1, draws=20_000)
    assert one == pytest.approx([0.4], abs=0.015)
    found = []
    for subset in itertools.combinations(range(5), 3):
        names = [answers[0][i] for i in subset]
        most = max(map(names.count, names))
        top = {x for x in names if names.count(x) == most}
        found.append(("b" in top) / len(top))
    wanted = sum(found) / len(found)
    assert prm.vote_of_n(answers, good, 3, draws=20_000) == pytest.approx([wanted], abs=0.015)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: prm.best_of_n([[1.0]], [[1.0, 0.0]], 1), "scores have shape"),
        (lambda: prm.best_of_n([[1.0, 2.0]], [[1.0, 0.0]], 3), "n is 3; expected 1 to 2"),
        (lambda: prm.best_of_n([[1.0, math.nan]], [[1.0, 0.0]], 1), "a score is NaN"),
        (lambda: prm.vote_of_n([["a"]], [[1, 0]], 1), "do not have the shape"),
        (lambda: prm.vote_of_n([["a"]], [[1]], 1, weights=[[-1]]), "weights of at least 0"),
        (lambda: prm.vote_of_n([["a"]], [[1]], 1, draws=0), "draws=0"),
        (
            lambda: prm.vote_of_n([["a", "b", "a"]], [[1, 0, 0]], 2),
            "prompt 0: answer 'a' is right in one reply and not in another",
        ),
        (lambda: prm.first_wrong([0.9, math.nan]), "step 1 of 2 has the chance NaN"),
        (lambda: prm.error_f1([math.nan, -1], [0, -1]), "predicted holds NaN"),
        (lambda: prm.error_f1([0, -1], [math.nan, -1]), "truth holds NaN"),
        (lambda: prm.error_f1([0], [0, 1]), "expected \\(n,\\) twice"),
        (lambda: prm.error_f1([0, 1], [0, 1]), "2 of 2 solutions are wrong"),
        (lambda: prm.error_f1([-1], [-1]), "0 of 1 solutions are wrong"),
    ],
)
def test_choice_that_makes_no_sense_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_the_first_wrong_step():
    assert prm.first_wrong([1, None, 0, 1]) == 2
    assert prm.first_wrong([]) == -1
    assert prm.first_wrong([0.4, 0.9], threshold=0.3) == -1


def test_error_f1_by_hand():
    found = prm.error_f1([0, 2, 1, -1, 3, -1], [0, 2, 2, 1, -1, -1])
    assert found == {"wrong": 0.5, "right": 0.5, "f1": 0.5}
    assert prm.error_f1([-1, 0], [0, -1])["f1"] == 0.0


# --- search ---


def test_beams_keep_what_the_score_likes_and_count_their_tokens(tiny, monkeypatch):
    """A policy by script: one good and one bad step a round."""
    tokenizer, rounds = tiny[1], []
    steps = ["12+30=42,", "42+15=57.", "#### 57"]

    def draw(model, tok, rollouts, *, seed):
        rounds.append(len(rollouts))
        for one in rollouts:
            done = tokenizer.decode(one.prompt).split("assistant\n")[1]
            at = len(prm.split_steps(done))
            text = (steps[at] if one.sample % 2 == 0 else "9+9=9,") + (" " if at < 2 else "")
            one.answer = tokenizer(text, add_special_tokens=False)["input_ids"]
            if at == 2 and one.sample % 2 == 0:
                one.answer.append(tokenizer.convert_tokens_to_ids("<|im_end|>"))

    def score(rows):
        return [[float(step in steps) for step in row["completions"]] for row in rows]

    monkeypatch.setattr(prm_search, "draw", draw)
    (found,) = prm.beam_search(*tiny, [ask()], score, beams=1, width=2)
    assert (found.reply, found.score) == (WORKED, 1.0)
    assert rounds == [2, 2, 2]  # beams * width first, then width a beam
    assert found.tokens > len(tokenizer(WORKED)["input_ids"])


def test_a_search_cuts_its_prefixes_where_it_is_said(tiny, monkeypatch):
    lines, seen = ["12+30=42, so\n", "#### 57"], []

    def draw(model, tok, rollouts, *, seed):
        for one in rollouts:
            done = tok.decode(one.prompt).split("assistant\n")[1]
            one.answer = tok(lines[bool(done)], add_special_tokens=False)["input_ids"]
            if done:
                one.answer.append(tok.convert_tokens_to_ids("<|im_end|>"))

    def score(rows):
        seen.extend(row["completions"] for row in rows)
        return [[0.5] * len(row["completions"]) for row in rows]

    monkeypatch.setattr(prm_search, "draw", draw)
    how = {"beams": 1, "width": 1, "at": prm.LINES}
    (found,) = prm.beam_search(*tiny, [ask()], score, **how)
    assert seen == [["12+30=42, so"], ["12+30=42, so", "#### 57"]] and found.score == 0.5


def test_a_search_ends_and_leaves_the_model_as_it_was(tiny):
    config = tiny[0].generation_config
    was = config.eos_token_id

    def score(rows):
        return [[0.5] * len(row["completions"]) for row in rows]

    found = prm.beam_search(*tiny, [ask(), ask("Add 3+4+5+6.")], score, beams=2, width=2)
    again = prm.beam_search(*tiny, [ask(), ask("Add 3+4+5+6.")], score, beams=2, width=2)
    assert found == again and all(one.reply and one.tokens for one in found)
    assert config.eos_token_id == was


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"beams": 0}, "beams=0"),
        ({"temperature": 0}, "a temperature above 0"),
        ({"step_end": "never"}, "no token of this tokenizer fits step_end='never'"),
    ],
)
def test_a_search_that_cannot_be_is_refused(tiny, change, said):
    with pytest.raises(ValueError, match=said):
        prm.beam_search(*tiny, [ask()], lambda rows: [], **change)


def test_samples_follow_seed_and_number(tiny):
    one = prm.sample_solutions(*tiny, [ask()], n=3, seed=1)
    assert one == prm.sample_solutions(*tiny, [ask()], n=3, seed=1)
    assert one[0][:2] == prm.sample_solutions(*tiny, [ask()], n=2, seed=1)[0]
    with pytest.raises(ValueError, match="n=0"):
        prm.sample_solutions(*tiny, [ask()], n=0)
