"""Encoding and template findings, on byte-level tokenizers built here: every byte is a token."""

import doctest
import warnings
from types import SimpleNamespace

import pytest
import torch

from postlab.chat import begin_with_bos, check_template, encode, encoding, templates
from postlab.course import week_of
from postlab.models import tiny_base
from postlab.models.bases import smol_gguf, smol_tokenizer

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GENERATION = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>"]


def build(template=CHATML, *, eos="<|im_end|>", pad="<|pad|>", bos=None, adds_bos=False, merges=()):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = ["".join(pair) for pair in merges]
    vocabulary = {token: i for i, token in enumerate(SPECIAL + alphabet + merged)}
    inner = Tokenizer(models.BPE(vocabulary, list(merges)))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(SPECIAL)
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token=eos, pad_token=pad, bos_token=bos
    )
    tokenizer.chat_template = template
    return tokenizer


def row(question, answer, *before):
    prompt = [*before, {"role": "user", "content": question}]
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}


def trained(tokenizer, batch):
    pairs = zip(batch["input_ids"], batch["loss_mask"].bool(), strict=True)
    return [tokenizer.decode(ids[mask]) for ids, mask in pairs]


def codes(tokenizer):
    return [finding.code for finding in check_template(tokenizer)]


@pytest.mark.parametrize("module", [encoding, templates])
def test_docstring_examples(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


def test_encode_trains_the_reply_and_its_end_and_nothing_else():
    tokenizer = build()
    earlier = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    rows = [row("2 + 3?", "5"), row("And 6?", "Six.", *earlier)]
    batch = encode(rows, tokenizer, max_length=256)
    assert trained(tokenizer, batch) == ["5<|im_end|>\n", "Six.<|im_end|>\n"]
    # 1 + 5 bytes of role line + 6 of question + 1 + 1, then 1 + 10, then the reply's 1 + 1 + 1.
    assert batch["attention_mask"].sum(1)[0] == 14 + 11 + 3
    assert batch["loss_mask"].sum(1).tolist() == [3, 6]


def test_encode_pads_right_and_trains_no_padding():
    tokenizer = build()
    batch = encode([row("2 + 3?", "5"), row("2 + 3?", "five")], tokenizer, max_length=256)
    assert {name: tensor.dtype for name, tensor in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "loss_mask"), torch.int64
    )
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["loss_mask"].shape
    assert batch["attention_mask"][0, -3:].tolist() == [0, 0, 0]
    assert batch["input_ids"][0, -3:].tolist() == [tokenizer.pad_token_id] * 3
    assert (batch["loss_mask"] <= batch["attention_mask"]).all()


@pytest.mark.parametrize("pad", ["<|im_end|>", None])
def test_encode_trains_the_end_of_turn_though_it_is_the_pad_token(pad):
    tokenizer = build(pad=pad)
    batch = encode([row("2 + 3?", "5"), row("2 + 3?", "five")], tokenizer, max_length=256)
    assert trained(tokenizer, batch) == ["5<|im_end|>\n", "five<|im_end|>\n"]
    assert batch["attention_mask"].sum(1).tolist() == [28, 31]


def test_encode_writes_one_bos_though_the_tokenizer_would_add_another():
    tokenizer = build("{{ '<s>' }}" + CHATML, bos="<s>", adds_bos=True)
    ids = encode([row("2 + 3?", "5")], tokenizer, max_length=256)["input_ids"][0].tolist()
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id


def test_encode_cuts_long_rows_at_the_end_and_says_how_many():
    tokenizer = build()
    rows = [row("2 + 3?", "5"), row("2 + 3?", "It is five.")]
    with pytest.warns(UserWarning, match="1 of 2 rows are longer than max_length=30"):
        batch = encode(rows, tokenizer, max_length=30)
    assert batch["input_ids"].shape == (2, 30)
    assert trained(tokenizer, batch) == ["5<|im_end|>\n", "It is"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode(rows, tokenizer, max_length=38)  # exactly as long as the longer row


def test_encode_refuses_a_row_whose_prompt_fills_the_length():
    tokenizer = build()
    rows = [row("2?", "5"), row("2 + 3?", "5")]
    with pytest.raises(
        ValueError, match=r"rows\[1\]: field 'prompt' has 25 of the row's 28 tokens"
    ):
        encode(rows, tokenizer, max_length=25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"completion": None}, r"rows\[1\]: field 'completion' must be a list of messages"),
        (
            {"prompt": "2 + 3?"},
            r"rows\[1\]: field 'prompt' must be a list of messages.*got '2 \+ 3",
        ),
        ({"prompt": [{"role": "user"}]}, r"rows\[1\]: field 'prompt' must be a list of messages"),
        ({"prompt": []}, r"rows\[1\]: field 'prompt' must be a list of messages"),
    ],
)
def test_encode_names_row_and_field(change, message):
    good = row("2 + 3?", "5")
    with pytest.raises(ValueError, match=message):
        encode([good, good | change], build(), max_length=64)


def test_encode_names_a_missing_field():
    good = row("2 + 3?", "5")
    with pytest.raises(ValueError, match=r"rows\[1\] has no field 'completion'; it has prompt"):
        encode([good, {"prompt": good["prompt"]}], build(), max_length=64)


def test_encode_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="no rows"):
        encode([], build(), max_length=64)
    with pytest.raises(ValueError, match="max_length must be a positive"):
        encode([row("2 + 3?", "5")], build(), max_length=0)
    with pytest.raises(ValueError, match="no chat template"):
        encode([row("2 + 3?", "5")], build(None), max_length=64)


@pytest.mark.parametrize("template", [CHATML, GENERATION])
def test_sound_templates_have_no_finding(template):
    assert codes(build(template)) == []
    assert codes(build("{{ '<s>' }}" + template, bos="<s>")) == []


def test_double_bos_is_found_in_the_template_and_beside_it():
    once, twice = "{{ '<s>' }}" + CHATML, "{{ '<s><s>' }}" + CHATML
    (finding,) = check_template(build(once, bos="<s>", adds_bos=True))
    assert (finding.code, finding.severity) == ("double_bos", "warning")
    (finding,) = check_template(build(twice, bos="<s>"))
    assert (finding.code, finding.severity) == ("double_bos", "error")


def test_a_missing_bos_is_found_and_mended_once():
    tokenizer = build(CHATML, bos="<s>", adds_bos=True)
    assert codes(tokenizer) == ["missing_bos"]
    rendered = begin_with_bos(tokenizer).chat_template
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "2"}], return_dict=True)
    assert ids["input_ids"].count(tokenizer.bos_token_id) == 1
    assert begin_with_bos(tokenizer).chat_template == rendered
    # What the encoded row and the evaluation's prompt begin with is the same token.
    batch = encode([row("2 + 3?", "5")], tokenizer, max_length=64)
    assert batch["input_ids"][0, 0] == tokenizer.bos_token_id


@pytest.mark.parametrize("options", [{}, {"bos": "<s>"}])
def test_a_tokenizer_that_begins_nothing_with_bos_stays_as_it_is(options):
    tokenizer = build(CHATML, **options)
    assert begin_with_bos(tokenizer).chat_template == CHATML
    with pytest.raises(ValueError, match="no chat template"):
        begin_with_bos(build(None))


def test_end_of_turn_not_trained_is_found():
    unmarked = CHATML.replace("<|im_end|>", "")
    assert codes(build(unmarked)) == ["end_of_turn_not_trained"]
    # Replies end with one token and generation waits for another.
    assert codes(build(eos="</s>")) == ["end_of_turn_not_trained"]
    outside = GENERATION.replace(
        "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}",
        "{{ message['content'] }}{% endgeneration %}{{ '<|im_end|>' }}",
    )
    assert codes(build(outside)) == ["end_of_turn_not_trained"]


def test_pad_that_ends_the_turn_is_found():
    assert codes(build(pad="<|im_end|>")) == ["pad_equals_end_of_turn"]
    assert codes(build(pad=None)) == ["pad_equals_end_of_turn"]
    assert "pad_equals_end_of_turn" in codes(build(eos="</s>", pad="</s>"))


def test_a_trained_prompt_is_found():
    everything = "{% generation %}" + CHATML.replace(
        "{% endfor %}", "{% endfor %}{% endgeneration %}"
    )
    assert codes(build(everything)) == ["prompt_trained"]
    # With a reply after it, the question is rendered another way, so the loss starts before it.
    marked = "{% if messages|length > 1 %}{{ 'talk\n' }}{% endif %}" + CHATML
    assert codes(build(marked)) == ["prompt_trained", "assistant_prefix_drift"]


def test_assistant_prefix_drift_is_found():
    other = CHATML.replace(
        "add_generation_prompt %}{{ '<|im_start|>assistant\n'",
        "add_generation_prompt %}{{ '<|im_start|>assistant: '",
    )
    (finding,) = check_template(build(other))
    assert (finding.code, finding.severity) == ("assistant_prefix_drift", "error")
    absent = CHATML[: CHATML.index("{% if add_generation_prompt")]
    (finding,) = check_template(build(absent))
    assert (finding.code, finding.severity) == ("assistant_prefix_drift", "warning")
    assert "<|im_start|>assistant" in finding.evidence


def test_markers_that_are_no_tokens_are_found():
    """A ChatML template put on a tokenizer of another family: its markers are ordinary text."""
    foreign = CHATML.replace("<|im_start|>", "<|turn|>")
    (finding,) = check_template(build(foreign))
    assert (finding.code, finding.severity) == ("template_token_split", "warning")
    assert "<|turn|> (8 tokens)" in finding.evidence
    ends = CHATML.replace("<|im_end|>", "<|over|>")  # then no token ends a turn either
    assert codes(build(ends)) == ["end_of_turn_not_trained", "template_token_split"]
    words = CHATML.replace("<|im_start|>", "### ")  # a template of plain words is a choice
    assert codes(build(words)) == []


def test_digits_that_are_cut_wrongly_are_found():
    """The break before a number must not lose its second half to the number."""
    from tokenizers import pre_tokenizers

    breaks = [("\u010a", "\u010a")]
    broken = build(merges=breaks)
    (finding,) = check_template(broken)
    assert (finding.code, finding.severity) == ("digits_cut_wrongly", "warning")
    assert "['\u010a', '\u010a', '1', '.']" in finding.evidence
    assert "['\u010a\u010a', '1', '.']" in finding.evidence
    broken.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    assert codes(broken) == []
    # Where the vocabulary has numbers of two digits, such a cut is the family's own.
    assert codes(build(merges=[*breaks, ("1", "2")])) == []


def embeddings(weight):
    return SimpleNamespace(get_input_embeddings=lambda: SimpleNamespace(weight=weight))


@pytest.mark.parametrize("fault", ["zero", "mean", "another's", "missing"])
def test_a_template_token_that_the_base_never_saw_is_found(fault):
    tokenizer = build()
    end = tokenizer.eos_token_id
    weight = torch.randn(len(tokenizer), 64, generator=torch.Generator().manual_seed(0))
    assert check_template(tokenizer, model=embeddings(weight)) == []
    if fault == "missing":
        weight = weight[:end]
    else:
        others = {"zero": torch.zeros(64), "mean": weight.mean(0), "another's": weight[0]}
        weight[end] = others[fault] + 0.01
    (finding,) = check_template(tokenizer, model=embeddings(weight))
    assert (finding.code, finding.severity) == ("untrained_template_token", "warning")
    assert "'<|im_end|>'" in finding.evidence
    # <|im_start|> has a lower id and an embedding of its own.
    assert "'<|im_start|>'" not in finding.evidence


def test_right_padding_is_found_where_answers_are_generated():
    tokenizer = build()
    tokenizer.padding_side = "right"
    assert codes(tokenizer) == []
    (finding,) = check_template(tokenizer, generating=True)
    assert (finding.code, finding.severity) == ("right_padding", "error")
    tokenizer.padding_side = "left"
    assert check_template(tokenizer, generating=True) == []


@pytest.fixture(scope="module")
def tiny():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base())


def tiny_tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base(), padding_side="left")


def test_the_embedded_base_has_no_finding(tiny):
    assert check_template(tiny_tokenizer(), model=tiny, generating=True) == []


@pytest.mark.parametrize("mean_resizing", [True, False])
def test_tokens_added_to_the_embedded_base_are_found(mean_resizing):
    """As transformers adds them: near the mean of the others, or small random numbers."""
    from transformers import AutoModelForCausalLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_base()), tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|over|>"]})
    tokenizer.eos_token = "<|over|>"
    for old, new in (("<|im_start|>", "<|turn|>"), ("<|im_end|>", "<|over|>")):
        tokenizer.chat_template = tokenizer.chat_template.replace(old, new)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=mean_resizing)
    (finding,) = check_template(tokenizer, model=model)
    assert finding.code == "untrained_template_token"
    assert "'<|turn|>', '<|over|>'" in finding.evidence


def test_a_token_that_pretraining_never_met_is_found(tiny):
    """<|pad|> has been in the vocabulary all along, and in no document."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "<|pad|>")
    found = {finding.code: finding for finding in check_template(tokenizer, model=tiny)}
    assert list(found) == ["untrained_template_token"]
    assert "'<|pad|>'" in found["untrained_template_token"].evidence


def test_smollm2_before_and_after_its_tokenizer_is_mended():
    """The three traps of its GGUF that a tokenizer shows."""
    from transformers import AutoTokenizer

    gguf = smol_gguf()
    raw = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    expected = ["end_of_turn_not_trained", "pad_equals_end_of_turn", "digits_cut_wrongly"]
    assert codes(raw) == expected
    assert check_template(smol_tokenizer(gguf), generating=True) == []


def test_no_template_is_the_only_finding_without_one():
    assert codes(build(None, pad=None)) == ["no_template"]


def test_findings_say_what_why_and_what_to_do():
    for finding in check_template(build(eos="</s>", pad="</s>")):
        assert finding.evidence and finding.why and finding.fix
        assert week_of(finding.code) in range(1, 13)


def test_encode_trains_the_tokens_that_sft_trainer_trains(tmp_path):
    datasets = pytest.importorskip("datasets")
    trl = pytest.importorskip("trl")
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = build()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    rows = [row("2 + 3?", "5"), row("2 + 3?", "It is five, and that is sure.")]
    trainer = trl.SFTTrainer(
        LlamaForCausalLM(config),
        args=trl.SFTConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, max_length=40, report_to="none"
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    theirs = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])
    with pytest.warns(UserWarning, match="1 of 2 rows"):
        ours = encode(rows, tokenizer, max_length=40)
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["loss_mask"].bool(), theirs["labels"] != -100)
    assert torch.equal(ours["attention_mask"].bool(), theirs["attention_mask"].bool())
