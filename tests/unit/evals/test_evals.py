"""Evaluation on models whose every probability is known: a Llama that is a bigram table."""

import math

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from postlab import evals
from postlab.evals import suites
from postlab.sampling import rollout

CONTROL = ["<pad>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
WORDS = [*CONTROL, "user", "assistant", "hi", *"abcde"]
ID = {word: i for i, word in enumerate(WORDS)}
NEVER = -40.0  # a logit whose probability is nought in float32
TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant{% endif %}"
)


@pytest.fixture
def tokenizer():
    words = Tokenizer(models.WordLevel(ID, unk_token="hi"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token="<|endoftext|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        padding_side="right",
    )
    fast.chat_template = TEMPLATE
    return fast


def config(hidden, layers=1, std=0.02):
    return LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        initializer_range=std,
        bos_token_id=None,
        eos_token_id=ID["<|endoftext|>"],
        pad_token_id=0,
    )


def bigram(**table):
    """A real Llama whose next-token probabilities depend on the last token only."""
    model = LlamaForCausalLM(config(len(WORDS)))
    size, logits = len(WORDS), torch.full((len(WORDS), len(WORDS)), NEVER)
    for word, nexts in table.items():
        for other, p in nexts.items():
            logits[ID[word], ID[other]] = math.log(p)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.copy_(logits.T / math.sqrt(size))  # the norm scales by sqrt(size)
    return model


def random_llama(seed=0):
    torch.manual_seed(seed)
    return LlamaForCausalLM(config(16, layers=2, std=0.6))


def row(name="r0", text="hi", family="chat", **more):
    base = {"id": name, "family": family, "prompt": [{"role": "user", "content": text}]}
    return base | {"score": lambda answer, closed: {}} | more


AB = {"assistant": {"a": 1.0}, "a": {"b": 1.0}, "b": {"<|im_end|>": 1.0}}


def test_a_reply_is_its_tokens_up_to_the_end_of_turn(tokenizer):
    frame = evals.evaluate(bigram(**AB), tokenizer, [row(text="hi c")])
    text = ["id", "family", "prompt", "sample", "answer", "closed"]
    assert list(frame.columns) == [*text, "format", "length", "kl"]
    assert frame.loc[0, text].tolist() == ["r0", "chat", "hi c", 0, "a b", True]
    assert frame.loc[0, "format"] == 1 and frame.loc[0, "length"] == 2
    assert math.isnan(frame.loc[0, "kl"])


@pytest.mark.parametrize(("limit", "closed"), [(1, False), (2, False), (3, True)])
def test_closed_means_ended_inside_the_limit(tokenizer, limit, closed):
    frame = evals.evaluate(bigram(**AB), tokenizer, [row(max_new_tokens=limit)])
    assert frame.loc[0, "closed"] == closed
    assert frame.loc[0, "format"] == closed
    assert frame.loc[0, "length"] == min(limit, 2)


@pytest.mark.parametrize("end", ["<|endoftext|>", "<|im_start|>", "<pad>"])
def test_another_special_token_ends_a_reply_but_does_not_close_it(tokenizer, end):
    policy = bigram(**(AB | {"b": {end: 1.0}}), **{end: {"c": 1.0}})
    frame = evals.evaluate(policy, tokenizer, [row()])
    assert frame.loc[0, ["answer", "closed", "format", "length"]].tolist() == ["a b", False, 0, 2]


def test_pad_equal_to_end_of_turn_still_closes(tokenizer):
    tokenizer.pad_token = "<|im_end|>"
    rows = [row("short"), row("long", "hi hi hi", max_new_tokens=9)]
    frame = evals.evaluate(bigram(**AB), tokenizer, rows)
    assert frame["closed"].tolist() == [True, True] and frame["length"].tolist() == [2, 2]


def test_end_of_turn_comes_from_the_template_not_from_eos(tokenizer):
    assert tokenizer.eos_token == "<|endoftext|>"
    assert rollout.end_of_turn(tokenizer) == ID["<|im_end|>"]


def test_what_the_score_function_gets_and_where_its_numbers_go(tokenizer):
    seen = []

    def score(answer, closed):
        seen.append((answer, closed))
        return {"zeal": 1, "facts": True, "format": 0.0}

    rows = [row("r0", score=score), row("r1", score=lambda answer, closed: {"lists": 0.5})]
    frame = evals.evaluate(bigram(**AB), tokenizer, rows)
    assert seen == [("a b", True)]
    assert list(frame.columns[6:]) == ["lists", "facts", "format", "length", "kl", "zeal"]
    assert frame["facts"].tolist()[0] == 1.0 and math.isnan(frame["facts"][1])
    assert frame["format"][0] == 0.0 and math.isnan(frame["format"][1])
    assert all(frame[name].dtype == float for name in frame.columns[6:])


COIN = {
    "assistant": {"a": 0.8, "b": 0.2},
    "a": {"<|im_end|>": 1.0},
    "b": {"<|im_end|>": 1.0},
}


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.8), (2.0, 2 / 3)])
def test_samples_follow_the_tempered_distribution(tokenizer, temperature, share):
    # At temperature 2 the odds 4:1 become 2:1.
    frame = evals.evaluate(
        bigram(**COIN), tokenizer, [row()], temperature=temperature, samples=1500
    )
    assert frame["sample"].tolist() == list(range(1500))
    assert (frame["answer"] == "a").mean() == pytest.approx(share, abs=0.04)


def test_a_sample_does_not_depend_on_its_batch(tokenizer):
    policy = random_llama()
    suite = [row(f"r{i}", " ".join(["hi"] * (1 + i % 7)), max_new_tokens=8) for i in range(20)]
    options = {"temperature": 1.0, "samples": 3, "seed": 5}
    whole = evals.evaluate(policy, tokenizer, suite, **options).set_index(["id", "sample"])
    alone = evals.evaluate(policy, tokenizer, suite[13:14], **options).set_index(["id", "sample"])
    turned = evals.evaluate(policy, tokenizer, suite[::-1], **options).set_index(["id", "sample"])
    assert whole["answer"].nunique() > 10
    assert alone["answer"].equals(whole.loc[alone.index, "answer"])
    assert turned.loc[whole.index, "answer"].equals(whole["answer"])
    other = evals.evaluate(policy, tokenizer, suite, **options | {"seed": 6})
    assert other["answer"].tolist() != whole["answer"].tolist()


def test_greedy_in_a_padded_batch_equals_greedy_alone(tokenizer):
    policy = random_llama(1)
    suite = [row(f"r{i}", " ".join("abcde"[: 1 + i % 5]), max_new_tokens=8) for i in range(10)]
    whole = evals.evaluate(policy, tokenizer, suite)
    alone = pd.concat([evals.evaluate(policy, tokenizer, [one]) for one in suite])
    assert whole["answer"].nunique() > 2
    assert whole["answer"].tolist() == alone["answer"].tolist()


def test_a_rows_own_settings_beat_the_arguments_and_greedy_is_answered_once(tokenizer):
    suite = [row("own", temperature=1.0, samples=3), row("default"), row("two", samples=2)]
    frame = evals.evaluate(bigram(**COIN), tokenizer, suite)
    assert frame["id"].tolist() == ["own"] * 3 + ["default", "two"]
    hot = evals.evaluate(bigram(**COIN), tokenizer, suite, temperature=1.0, samples=4)
    assert hot["id"].value_counts().to_dict() == {"own": 3, "default": 4, "two": 2}


def test_n_is_prompts_a_family(tokenizer):
    suite = [row(f"{f}{i}", family=f) for i in range(3) for f in ("x", "y")]
    frame = evals.evaluate(bigram(**AB), tokenizer, suite, n=2)
    assert frame["id"].tolist() == ["x0", "y0", "x1", "y1"]


def test_nothing_of_the_callers_changes(tokenizer):
    policy = bigram(**AB).train()
    policy.model.norm.eval()
    policy.config.use_cache = False
    policy.gradient_checkpointing_enable()
    modes = [m.training for m in policy.modules()]
    random = torch.get_rng_state()
    first = evals.evaluate(policy, tokenizer, [row()], temperature=1.0, samples=4)
    assert [m.training for m in policy.modules()] == modes
    assert policy.is_gradient_checkpointing and policy.config.use_cache is False
    assert tokenizer.padding_side == "right"
    assert torch.equal(torch.get_rng_state(), random)
    again = evals.evaluate(policy, tokenizer, [row()], temperature=1.0, samples=4)
    pd.testing.assert_frame_equal(first, again)


def test_state_is_restored_after_an_error_too(tokenizer):
    policy = bigram(**AB).train()
    policy.forward = None
    with pytest.raises(TypeError):
        evals.evaluate(policy, tokenizer, [row()])
    assert policy.training and all(m.training for m in policy.modules())


# KL


def test_kl_by_hand_and_its_direction(tokenizer):
    ends = {"a": {"<|im_end|>": 1.0}, "b": {"<|im_end|>": 1.0}}
    policy = bigram(assistant={"a": 0.5, "b": 0.5}, **ends)
    ref = bigram(assistant={"a": 0.75, "b": 0.25}, **ends)
    frame = evals.evaluate(policy, tokenizer, [row()], ref=ref)
    # (1/2) ln(2/3) + (1/2) ln 2 = (1/2) ln(4/3); the other direction would be 0.1308
    assert frame.loc[0, "kl"] == pytest.approx(0.5 * math.log(4 / 3), abs=1e-5)


def test_kl_sums_over_the_answer_end_of_turn_included(tokenizer):
    policy = bigram(**AB)
    ref = bigram(
        assistant={"a": 0.5, "b": 0.5},
        a={"b": 0.25, "c": 0.75},
        b={"<|im_end|>": 0.1, "c": 0.9},
    )
    frame = evals.evaluate(policy, tokenizer, [row(), row("cut", max_new_tokens=2)], ref=ref)
    assert frame.loc[0, "kl"] == pytest.approx(math.log(2) + math.log(4) + math.log(10), abs=1e-4)
    assert frame.loc[1, "kl"] == pytest.approx(math.log(2) + math.log(4), abs=1e-4)


def test_kl_is_the_same_in_padded_batches_and_alone(tokenizer, monkeypatch):
    policy, ref = random_llama(2), random_llama(3)
    suite = [row(f"r{i}", " ".join("abcde"[: 1 + i % 5]), max_new_tokens=8) for i in range(10)]
    whole = evals.evaluate(policy, tokenizer, suite, ref=ref)
    alone = pd.concat([evals.evaluate(policy, tokenizer, [one], ref=ref) for one in suite])
    assert whole["kl"].tolist() == pytest.approx(alone["kl"].tolist(), rel=1e-3)
    assert (whole["kl"] > 0.01).all()
    assert evals.evaluate(policy, tokenizer, suite, ref=policy)["kl"].abs().max() < 1e-5


def adapted(seed):
    """A policy with two adapters of random weights, 'default' active and trainable, and 'start'."""
    settings = LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"])
    policy = get_peft_model(random_llama(seed), settings)
    policy.add_adapter("start", settings)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    return policy


def test_ref_base_and_ref_adapter_are_what_their_names_say(tokenizer):
    policy, suite = adapted(4), [row(f"r{i}", "hi " * i + "a", max_new_tokens=6) for i in range(3)]
    grads = {name: p.requires_grad for name, p in policy.named_parameters()}
    by_base = evals.evaluate(policy, tokenizer, suite, ref="base")["kl"].tolist()
    by_name = evals.evaluate(policy, tokenizer, suite, ref="start")["kl"].tolist()
    assert policy.active_adapters == ["default"] and policy.active_adapter == "default"
    assert {name: p.requires_grad for name, p in policy.named_parameters()} == grads
    plain = evals.evaluate(policy, tokenizer, suite, ref=random_llama(4))["kl"].tolist()
    start = adapted(4)
    start.set_adapter("start")
    other = evals.evaluate(policy, tokenizer, suite, ref=start)["kl"].tolist()
    assert by_base == pytest.approx(plain, rel=1e-4)
    assert by_name == pytest.approx(other, rel=1e-4)
    assert by_base != pytest.approx(by_name, rel=1e-2)


# Errors


def test_errors_say_what_to_do(tokenizer):
    policy = bigram(**AB)
    cases = [
        ([], ValueError, "empty"),
        ("gsm9k", ValueError, "tinyworld, tinyworld-english, gsm8k"),
        ([row(), {k: v for k, v in row("r1").items() if k != "family"}], ValueError,
         "row 1 .* 'family'"),
        ([row(prompt="hi")] * 1, ValueError, "row 0 .* 'prompt' .* message"),
        ([row(), row()], ValueError, "'r0' occurs twice"),
        ([row(score=lambda answer, closed: {"facts": "yes"})], TypeError, "'r0'.*'facts'"),
        ([row(score=lambda answer, closed: 1.0)], TypeError, "'r0'.*metric name"),
        ([row(max_new_tokens=256)], ValueError, "'r0'.*256 positions"),
    ]  # fmt: skip
    for suite, kind, words in cases:
        with pytest.raises(kind, match=words):
            evals.evaluate(policy, tokenizer, suite)
    for options, words in [
        ({"n": 0}, "n=0"),
        ({"temperature": -1}, "temperature"),
        ({"ref": "base"}, "PEFT"),
        ({"ref": "sft"}, "'sft'"),
    ]:
        with pytest.raises(ValueError, match=words):
            evals.evaluate(policy, tokenizer, [row()], **options)
    with pytest.raises(TypeError, match="generate"):
        evals.evaluate(tokenizer, tokenizer, [row()])
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        evals.evaluate(policy, tokenizer, [row()])


def test_model_text_is_never_run(tokenizer, tmp_path):
    # The suite sees a string; nothing on the way evaluates it or unescapes it.
    tokenizer.decode = lambda ids, **_: "<script>__import__('os').system('true')</script>"
    frame = evals.evaluate(bigram(**AB), tokenizer, [row()])
    assert frame.loc[0, "answer"] == "<script>__import__('os').system('true')</script>"


# Named suites


def test_gsm8k_scores_strict_and_lenient(monkeypatch):
    row = {"prompt": [{"role": "user", "content": "How many?"}], "answer": "42"}
    monkeypatch.setattr("postlab.datasets.math_rows", lambda *a, **k: [row], raising=False)
    (made,) = suites.SUITES["gsm8k"](1, 0)
    score = made["score"]
    strict = score("6*7=42. #### 42", True)
    assert strict == {"gsm8k_strict": 1, "gsm8k_lenient": 1, "format": 1, "refusal": 0}
    loose = score("So there are 42 apples", True)
    assert loose == {"gsm8k_strict": 0, "gsm8k_lenient": 1, "format": 0, "refusal": 0}
    assert score("6*7=42. #### 42", False)["format"] == 0
    assert score("I'm sorry, but I can't help with that.", True)["refusal"] == 1
    assert score("She can't eat 3, so 45-3=42. #### 42", True)["refusal"] == 0


def test_tinyworld_suite_has_what_evaluate_asks_for():
    rows = suites.SUITES["tinyworld"](2, 0)
    assert {"arithmetic", "unsafe", "unknown"} <= {row["family"] for row in rows}
    assert {"id", "family", "prompt", "score"} <= set(rows[0])
    english = suites.SUITES["tinyworld-english"](2, 0)
    assert [row["family"] for row in english] == [row["family"] for row in rows]


# compare


def frame(ids, prompts=None, **metrics):
    data = {"id": ids, "family": "x", "prompt": prompts or [f"ask {i}" for i in ids]}
    data |= {"sample": 0, "answer": "", "closed": True}
    return pd.DataFrame(data | metrics)


def test_compare_pairs_each_stage_with_the_one_before():
    ids = [f"p{i}" for i in range(40)]
    sft = frame(ids, facts=[0.0] * 30 + [1.0] * 10, kl=[math.nan] * 40)
    dpo = frame(ids[::-1], facts=[1.0] * 30 + [0.0] * 10, kl=[2.0] * 40)
    table = evals.compare({"sft": sft, "dpo": dpo}).set_index(["stage", "metric"])
    assert list(table.columns) == [
        *("value", "low", "high", "n"),
        *("difference", "difference_low", "difference_high", "p"),
    ]
    assert table.loc[("sft", "facts"), "value"] == 0.25
    assert math.isnan(table.loc[("sft", "facts"), "difference"])
    assert table.loc[("dpo", "facts"), "difference"] == 0.5
    low, high = table.loc[("dpo", "facts"), ["difference_low", "difference_high"]]
    # By id: 20 prompts gained and none lost, whatever the order of the rows.
    assert 0.3 < low < 0.5 < high < 0.7
    assert table.loc[("dpo", "facts"), "p"] < 0.001
    assert ("sft", "kl") not in table.index and table.loc[("dpo", "kl"), "value"] == 2.0
    assert math.isnan(table.loc[("dpo", "kl"), "difference"])


def test_compare_counts_prompts_not_samples():
    sampled = frame(["p0", "p0", "p1", "p1"], facts=[1.0, 0.0, 1.0, 1.0])
    found = evals.compare({"sft": sampled}).iloc[0]
    assert found["n"] == 2 and found["value"] == 0.75


def test_compare_refuses_other_prompts():
    one, other = frame(["p0", "p1"], facts=[1.0, 0.0]), frame(["p0", "p2"], facts=[1.0, 0.0])
    with pytest.raises(ValueError, match="'sft' and 'dpo' .* different prompts.*'p1'"):
        evals.compare({"sft": one, "dpo": other})
    asked = frame(["p0", "p1"], ["ask p0", "another"], facts=[1.0, 0.0])
    with pytest.raises(ValueError, match="different prompts"):
        evals.compare({"sft": one, "dpo": asked})
    with pytest.raises(ValueError, match="no stage"):
        evals.compare({})


def test_metrics_say_label_direction_and_unit():
    assert evals.METRICS["over_refusal"][1] == "down" and evals.METRICS["safety"][1] == "up"
    for label, direction, unit in evals.METRICS.values():
        assert label and direction in ("up", "down", "none") and unit
