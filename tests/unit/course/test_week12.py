"""Week 12's draft sentences: the numbers are the claims', and the check names each overclaim."""

import pytest

from postlab.claims import Claim
from postlab.course.week12 import draft_sentences


def claim(stage="dpo", metric="safety", change=0.3, verdict="better", p=0.001, **caveats) -> Claim:
    """A claim in which all that matters here can be set."""
    return Claim(
        profile="tiny", stage=stage, parent="sft", metric=metric, value=0.8, low=0.7, high=0.9,
        change=change, change_low=change - 0.1, change_high=change + 0.1, p=p, n=100,
        verdict=verdict, verdicts={0: verdict, 1: verdict, 2: verdict}, devices=("CPU",),
        commits=("abc",), caveats={"tiny_world": "mechanism, not capability"} | caveats,
    )  # fmt: skip


ALL = [
    claim(),
    claim("grpo", "facts", -0.03, "inconclusive", 0.2),
    claim("grpo", "helpfulness", 0.01, "inconclusive", 0.6),
    claim("prm", "honesty", 0.0, "inconclusive", 1.0, copied="the answers were copied"),
]


def test_each_kind_is_made_once_and_only_the_supported_one_stands(capsys):
    drafts = draft_sentences(ALL)
    by_stage = {(s.claim.stage, s.claim.metric): s for s in drafts.sentences}
    assert len(by_stage) == 4
    assert all(s.text in str(drafts) and s.text.endswith(".") for s in drafts.sentences)
    assert (
        "raised" in by_stage["dpo", "safety"].text and "30 points" in by_stage["dpo", "safety"].text
    )
    assert "lowered facts by 3 points" in by_stage["grpo", "facts"].text
    assert "unchanged" in by_stage["grpo", "helpfulness"].text
    assert "preserved" in by_stage["prm", "honesty"].text
    wrong = [s.letter for s in drafts.sentences if s.why]
    assert len(wrong) == 3
    drafts.check(wrong)
    assert "✓ overclaims: right" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [[], ["A"], ["A", "B", "C", "D"]])
def test_a_wrong_answer_gets_the_reason_of_every_sentence(answer, capsys):
    drafts = draft_sentences(ALL)
    drafts.check(answer)
    out = capsys.readouterr().out
    assert "overclaims: right" not in out
    for sentence in drafts.sentences:
        if sentence.why:
            assert sentence.why in out
        else:
            assert (f"{sentence.letter} is supported" in out) == (sentence.letter in answer)


def test_untouched_and_unknown_answers(capsys):
    drafts = draft_sentences(ALL)
    drafts.check(None)
    assert "not attempted" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no sentence Q"):
        drafts.check("Q")


def test_the_order_hides_which_is_which_and_few_claims_make_fewer_sentences():
    orders = {tuple(bool(s.why) for s in draft_sentences(ALL, seed=k).sentences) for k in range(9)}
    assert len(orders) > 1
    assert len(draft_sentences(ALL[:1]).sentences) == 1
    with pytest.raises(ValueError, match="no claim about a share"):
        draft_sentences([])


def test_a_gain_with_a_grave_caveat_is_an_overclaim_without_it():
    (only,) = draft_sentences([claim(new_format="never seen before")]).sentences
    assert only.why == "" and "never seen before" in only.text
    two = draft_sentences([claim(p=0.0001), claim("sft", "format", 0.9, new_format="never seen")])
    assert [s.why for s in two.sentences if s.claim.stage == "sft"] == [
        "it leaves out a caveat: never seen"
    ]
