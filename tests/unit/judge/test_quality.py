"""Open questions judged in one call: planted judges, broken judges, and what is refused or told."""

import doctest
import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize

from postlab.judge import (
    RUBRIC,
    JudgeError,
    VoteLog,
    endpoint_judge,
    judge_pairs,
    model_judge,
    noisy_judge,
    pairs_of,
    quality,
    quality_cost,
    rates,
    response_quality,
)


def test_doctests_run_and_hold():
    result = doctest.testmod(quality)
    assert result.attempted and not result.failed


def stages(n=200, *, a_good=0.5, b_good=0.5, b_longer=0.8, seed=0):
    """Two stages' frames; an answer is 'good' or 'evil', then dots that make it long or short."""
    rng = np.random.default_rng(seed)
    rows = {"sft": [], "dpo": []}
    for index in range(n):
        short, long = ("." * size for size in (rng.integers(1, 40), rng.integers(41, 80)))
        pads = (short, long) if rng.random() < b_longer else (long, short)
        for stage, good, pad in zip(rows, (a_good, b_good), pads, strict=True):
            text = ("good" if rng.random() < good else "evil") + pad
            rows[stage].append({"id": f"q{index}", "prompt": f"Question {index}?", "answer": text})
    return {stage: pd.DataFrame(lines) for stage, lines in rows.items()}


def answers_of(frames):
    one, other = frames.values()
    return one["prompt"].tolist(), one["answer"].tolist(), other["answer"].tolist()


def truth(prompt, first, second):
    one, other = first.startswith("good"), second.startswith("good")
    return "tie" if one == other else "first" if one else "second"


def longer(prompt, first, second):
    return "first" if len(first) > len(second) else "second"


# --- planted judges ---


@pytest.mark.parametrize("b_longer", [0.8, 0.2])
def test_a_judge_of_length_alone_prefers_nobody_at_equal_length(b_longer):
    found = response_quality(stages(b_longer=b_longer), longer)
    assert found.win_rate.value == pytest.approx(found.b_longer)
    assert abs(found.win_rate.value - 0.5) > 0.2
    assert found.position_bias.value == 0 and found.consistent == 1
    assert found.length_controlled.value == pytest.approx(0.5, abs=0.03)
    assert "every verdict went to the longer answer" in repr(found)


@pytest.mark.parametrize("b_longer", [0.85, 0.6])
def test_a_judge_that_mostly_goes_by_length_prefers_nobody_on_average(b_longer):
    """Over many comparisons without a gain; no single one is exact."""
    rates_found = []
    for seed in range(20):
        judge = noisy_judge(truth, length_bias=0.9, seed=seed)
        prompts, *answers = answers_of(stages(100, b_longer=b_longer, seed=seed))
        rates_found.append(rates.length_controlled_rate(judge_pairs(judge, prompts, *answers)))
    assert np.mean([rate.value for rate in rates_found]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([rate.low < 0.5 < rate.high for rate in rates_found]) >= 0.85


def test_a_real_gain_survives_length_control_under_a_taste_for_length():
    frames = stages(400, a_good=0.3, b_good=0.7, b_longer=0.2, seed=1)
    found = response_quality(frames, noisy_judge(truth, length_bias=0.5))
    assert found.win_rate.high < 0.5 < found.length_controlled.low


def test_swapping_the_stages_mirrors_the_rates():
    frames = stages(60, b_good=0.7, seed=2)
    judge = noisy_judge(truth, position_bias=0.2, length_bias=0.3, accuracy=0.9)
    one, other = (response_quality(f, judge) for f in (frames, dict(reversed(frames.items()))))
    assert other.stages == ("dpo", "sft")
    for name in ("win_rate", "length_controlled"):
        rate, mirrored = getattr(one, name), getattr(other, name)
        assert mirrored.value == pytest.approx(1 - rate.value)
        assert mirrored.low == pytest.approx(1 - rate.high, abs=0.02)
    assert other.position_bias == one.position_bias
    assert (other.a_longer, other.b_longer) == (one.b_longer, one.a_longer)


@pytest.mark.parametrize(("says", "lean"), [("first", 1), ("second", -1)])
def test_a_judge_of_position_alone_prefers_nobody_and_is_found_out(says, lean):
    found = response_quality(stages(), lambda prompt, first, second: says)
    assert found.win_rate.value == 0.5 == pytest.approx(found.length_controlled.value)
    assert found.position_bias.value == lean and found.consistent == 0
    assert f"position bias         {lean:+.2f}" in repr(found)


def test_the_order_of_rows_their_index_other_columns_and_later_samples_do_not_matter():
    frames = stages(60, seed=3)
    judge = noisy_judge(truth, position_bias=0.2, length_bias=0.3)
    whole = response_quality(frames, judge)
    mixed = {
        stage: pd.concat([frame.assign(sample=0), frame.assign(sample=1, answer="another")])
        .sample(frac=1, random_state=seed)
        .sort_values("sample", kind="stable")
        .set_axis(range(7, 127))
        .assign(family="open", length=3.0)
        for seed, (stage, frame) in enumerate(frames.items())
    }
    assert response_quality(mixed, judge) == whole


# --- the regression ---


def test_the_length_controlled_rate_is_the_optimum_of_its_likelihood():
    """What `_logistic` finds, with and without counts, is what scipy's optimiser finds."""
    frames = stages(120, a_good=0.4, b_good=0.6, seed=4)
    judge = noisy_judge(truth, position_bias=0.2, length_bias=0.3)
    votes = response_quality(frames, judge).votes
    y = votes["choice"].map({"a": 0.0, "tie": 0.5, "b": 1.0}).to_numpy()
    gap = (votes["length_b"] - votes["length_a"]).to_numpy()
    x = np.stack([np.ones(len(y)), np.sign(gap), np.tanh(gap / np.sqrt(np.mean(gap**2))),
                  np.where(votes["order"] == "ba", 1, -1)], axis=1)  # fmt: skip
    balanced = np.where(gap > 0, 0.5 / np.sum(gap > 0), 0.5 / np.sum(gap < 0)) * len(y)
    counts = np.random.default_rng(0).integers(3, size=len(y))
    times = np.stack([balanced, counts], axis=1)
    best = []
    for column in times.T:

        def loss(w, column=column):
            z = x @ w
            return column @ (np.logaddexp(0, z) - y * z) + (w[1:] ** 2).sum() / 2

        best.append(minimize(loss, np.zeros(4), tol=1e-12).x)
    assert rates._logistic(x, y, times) == pytest.approx(np.array(best), abs=1e-4)
    found = rates.bootstrap_controlled_rate(votes, resamples=20)
    assert found.value == pytest.approx(1 / (1 + np.exp(-best[0][0])), abs=1e-4)


def test_the_bootstrap_agrees_with_the_robust_standard_error_and_repeats_itself():
    judge = noisy_judge(truth, position_bias=0.2, length_bias=0.3)
    votes = response_quality(stages(300, seed=5), judge).votes
    resampled = rates.bootstrap_controlled_rate(votes)
    robust = rates.length_controlled_rate(votes)
    widths = [interval.high - interval.low for interval in (resampled, robust)]
    assert resampled.value == robust.value and widths[0] == pytest.approx(widths[1], rel=0.15)
    assert resampled == rates.bootstrap_controlled_rate(votes)


def test_resamples_with_votes_for_one_side_only_do_not_break_the_fit():
    frames = stages(20, seed=6)
    lone = frames["sft"]["prompt"][0]
    after = dict(zip(frames["dpo"]["prompt"], frames["dpo"]["answer"], strict=True))

    def judge(prompt, first, second):
        return "tie" if prompt == lone else "first" if first == after[prompt] else "second"

    found = response_quality(frames, judge)
    assert found.length_controlled.high == 1.0 and found.win_rate.value == pytest.approx(0.975)


def test_where_length_cannot_be_controlled_the_reason_is_told_and_the_raw_rate_stays():
    same = stages(30, b_longer=1)
    for frame in same.values():
        frame["answer"] = frame["answer"].str[:4]
    cases = ((same, "equally long"), (stages(30, b_longer=1), "longer or as long"),
             (stages(30, b_longer=0), "shorter or as long"), (stages(19), "19 prompts are too few"),
             (stages(1), "1 prompts are too few"))  # fmt: skip
    for frames, reason in cases:
        found = response_quality(frames, truth)
        assert found.length_controlled is None and reason in found.length_note
        assert reason in repr(found) and 0 <= found.win_rate.value <= 1
        with pytest.raises(ValueError, match=reason):
            rates.bootstrap_controlled_rate(found.votes)


# --- pairs that are not asked about, and judges that fail ---


def test_identical_answers_are_ties_that_nobody_is_asked_about():
    frames, asked = stages(40), []
    frames["dpo"].loc[:9, "answer"] = frames["sft"].loc[:9, "answer"]

    def judge(prompt, first, second):
        asked.append(prompt)
        return "first"

    found = response_quality(frames, judge)
    assert len(asked) == 60 and found.identical == 10 and found.win_rate.n == 40
    assert found.win_rate.value == 0.5 and found.position_bias.n == 30
    everything = response_quality({"a": frames["sft"], "b": frames["sft"]}, judge)
    assert len(asked) == 60 and everything.position_bias is None and everything.win_rate.n == 40


def test_a_judge_that_fails_on_some_pairs_loses_those_prompts_and_says_so(capsys):
    frames, odd = stages(40, b_good=0.9, seed=7), {"Question 3?", "Question 8?"}

    def judge(prompt, first, second):
        if prompt in odd and first.startswith("good"):
            raise TimeoutError("no answer from sk-abcdefghijklmnopqrstuvwxyz0123")
        return truth(prompt, first, second)

    found = response_quality(frames, judge, concurrency=3)
    left = {stage: frame[~frame["prompt"].isin(odd)] for stage, frame in frames.items()}
    assert found.failed == 2 and set(found.votes["prompt"]) == set(left["sft"]["prompt"])
    assert found.win_rate == response_quality(left, truth).win_rate
    assert "prompts left out, no verdict: 2 (TimeoutError: no answer" in repr(found)
    assert "sk-abc" not in repr(found)


@pytest.mark.parametrize(("good", "answered"), [(0, 0), (70, 70)])
def test_a_broken_judge_is_stopped_early(good, answered):
    asked = []

    def judge(prompt, first, second):
        asked.append(prompt)
        if len(asked) > good:
            raise OSError("the server is gone")
        return "tie"

    with pytest.raises(JudgeError, match="OSError: the server is gone"):
        response_quality(stages(40), judge)
    assert len(asked) == (3 if not good else good + 9)  # more than a tenth of 80


def test_wrong_use_is_refused_before_anything_is_asked():
    frames = stages(3)

    def never(prompt, first, second):
        raise AssertionError("asked")

    for settings in ({"limit": 0}, {"resamples": 0}, {"concurrency": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            response_quality(frames, never, **settings)
    with pytest.raises(ValueError, match="expected two"):
        response_quality(frames | {"grpo": frames["sft"]}, never)
    with pytest.raises(ValueError, match="different prompts"):
        response_quality({"sft": frames["sft"], "dpo": frames["dpo"][:2]}, never)
    with pytest.raises(TypeError, match="judge is a str"):
        response_quality(frames, "gpt")
    with pytest.raises(ValueError, match="the judge said 'A'"):
        response_quality(frames, lambda prompt, first, second: "A")


# --- the cost ---


def test_the_cost_is_told_first_and_a_limit_draws_prompts_at_random(capsys):
    told = []

    def judge(prompt, first, second):
        told.append(capsys.readouterr().out)
        return "tie"

    frames = stages(40)
    found = response_quality(frames, judge, limit=10)
    assert told[0] == "20 questions to the judge on 10 prompts\n" and len(told) == 20
    assert set(found.votes["prompt"]) != set(frames["sft"]["prompt"][:10])
    assert quality_cost(frames, judge, limit=10).calls == 20 == len(told)


def test_an_endpoints_cost_is_known_without_a_connection():
    def judge(prices):
        return endpoint_judge("http://127.0.0.1:9/v1", model="m", usd_per_million=prices)

    frames, prices = stages(10), (1.0, 10.0)
    cost = quality_cost(frames, judge(prices))
    text = judge(None).with_rubric(RUBRIC).question("Question 1?", "x", "y")
    assert cost.calls == 20 and cost.tokens_out == 20 * 16 and cost.seconds is None
    assert cost.tokens_in == pytest.approx(20 * (len(text) + 80) / 4, rel=0.1)
    assert cost.usd == pytest.approx((cost.tokens_in + 10 * cost.tokens_out) / 1e6)
    assert "about $" in str(cost) and quality_cost(frames, judge(None)).usd is None
    with pytest.raises(JudgeError, match="no connection"):
        response_quality(frames, judge(prices), base="the-base")


# --- models as judges ---


class Tokenizer:
    chat_template, unk_token_id, all_special_tokens = "chat", None, ["<eos>"]

    def apply_chat_template(self, messages, **kwargs):
        return messages[-1]["content"] + "\nassistant:"

    def __call__(self, text, **kwargs):
        self.read = text
        return {"input_ids": [{"A": 1, "B": 2}.get(text.strip(), 0)] * max(1, len(text) // 4)}


class Model(torch.nn.Module):
    """Thinks A likelier, whatever it reads."""

    config, device, name_or_path = type("Config", (), {}), "cpu", "hub/Judge-7B-bnb-4bit"

    def forward(self, input_ids):
        return type("Output", (), {"logits": torch.tensor([[[9.0, 2.0, 1.0]]])})


def test_a_models_rubric_is_in_its_question_and_its_cost_is_counted(capsys):
    tokenizer = Tokenizer()
    found = response_quality(stages(5), model_judge(Model(), tokenizer), base="other/base")
    assert tokenizer.read.startswith(RUBRIC) and "Answer B: " in tokenizer.read
    assert found.position_bias.value == 1 and found.win_rate.value == 0.5
    assert "10 questions to the judge on 5 prompts; about " in capsys.readouterr().out
    own = model_judge(Model(), tokenizer).with_rubric("Which {answer} is funnier?")
    own("p", "x", "y")
    assert tokenizer.read.startswith("Which {answer} is funnier? Prompt and answers stand below")
    with pytest.raises(ValueError, match="rubric is"):
        own.with_rubric(" ")("p", "x", "y")
    cost = quality_cost(stages(5), own, rubric=None)
    assert cost.tokens_in == 2 * sum(
        len(own.with_rubric(None).tokens(p.prompt, *p.replies)) for p in pairs_of(stages(5), seed=0)
    )
    assert cost.seconds >= 0 and cost.usd is None


def test_an_untuned_model_may_not_judge(tmp_path):
    frames, tokenizer, model = stages(5), Tokenizer(), Model()
    judge = model_judge(model, tokenizer)
    for base in ("hub/Judge-7B-bnb-4bit", "elsewhere/judge-7b", "judge-7b-unsloth-bnb-4bit"):
        with pytest.raises(ValueError, match="the model that both stages were trained from"):
            response_quality(frames, judge, base=base)
    with pytest.raises(ValueError, match=r"base=lab\.base"):
        response_quality(frames, judge)
    named = endpoint_judge("http://127.0.0.1:9/v1", model="hub/Judge-7B")
    with pytest.raises(ValueError, match="the model that both stages were trained from"):
        response_quality(frames, named, base="hub/judge-7b")
    # Folders are compared by what they are; an adapter makes it another model.
    (tmp_path / "a" / "model").mkdir(parents=True)
    (tmp_path / "b" / "model").mkdir(parents=True)
    model.name_or_path = str(tmp_path / "a" / "model")
    assert response_quality(frames, judge, base=str(tmp_path / "b" / "model")).win_rate.n == 5
    with pytest.raises(ValueError, match="the model that both stages were trained from"):
        response_quality(frames, judge, base=str(tmp_path / "b" / ".." / "a" / "model"))
    model.peft_config = {"default": "an adapter"}
    assert response_quality(frames, judge, base=model.name_or_path).win_rate.n == 5
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        response_quality(frames, judge, base="other")


def test_a_profiles_name_of_the_embedded_base_is_understood():
    from postlab.models import tiny_base

    model = Model()
    model.name_or_path = str(tiny_base())
    for base in ("", str(tiny_base())):
        with pytest.raises(ValueError, match="'tiny-base', the model that both stages"):
            response_quality(stages(2), model_judge(model, Tokenizer()), base=base)


# --- your own votes ---


def test_agreement_is_with_the_votes_on_these_very_answers(tmp_path):
    frames, path = stages(60, seed=8), tmp_path / "votes.jsonl"
    log = VoteLog(path)
    voted = [pair for pair in pairs_of(frames, seed=3) if not pair.identical][:30]
    for pair in voted:
        choice = truth(pair.prompt, *pair.replies)
        names = {"id": pair.id, "first": pair.stages[0], "second": pair.stages[1]}
        log.add({"pair": pair.key, "choice": choice} | names)
    assert response_quality(frames, truth, votes=path).kappa.value == 1
    found = response_quality(dict(reversed(frames.items())), truth, votes=path)
    assert found.kappa.value == 1 and found.kappa.n == 30 and "30 votes" in repr(found)
    against = {"first": "second", "second": "first", "tie": "tie"}
    opposite = response_quality(frames, lambda *texts: against[truth(*texts)], votes=path)
    assert opposite.kappa.value < 0.5
    # A verdict that changes with the order is a tie.
    assert response_quality(frames, lambda *texts: "first", votes=path).kappa.value == 0
    changed = {stage: frame.assign(answer=frame["answer"] + "!") for stage, frame in frames.items()}
    assert response_quality(changed, truth, votes=path).kappa is None
    assert response_quality(frames, truth, votes=tmp_path / "none.jsonl").kappa is None
    path.write_text(json.dumps({"something": "else"}), encoding="utf-8")
    with pytest.raises(ValueError, match="expected a vote"):
        response_quality(frames, truth, votes=path)


def test_the_votes_are_as_of_judge_pairs():
    frames = stages(5)
    votes = response_quality(frames, truth).votes
    plain = judge_pairs(truth, *answers_of(frames))
    both = votes.merge(plain, on=["prompt", "order"], suffixes=("", "_plain"))
    assert len(both) == 10 and (both["choice"] == both["choice_plain"]).all()


@pytest.mark.parametrize("column", ["id", "prompt", "answer"])
def test_a_missing_answer_is_refused_and_not_judged_as_the_word_nan(column):
    frame = pd.DataFrame({"id": ["a", "b"], "prompt": ["p", "q"], "answer": ["x", "y"]})
    holed = frame.assign(**{column: [frame[column][0], None]})
    with pytest.raises(ValueError, match=f"no {column} in 1 of its 2 rows"):
        response_quality({"sft": frame, "dpo": holed}, lambda prompt, first, second: "tie")
