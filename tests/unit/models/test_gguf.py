import json
from pathlib import Path

import pytest
import torch
from tiny_model import CHATML, TEXT, build_tiny
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from postlab.models import gguf_tokenizer, halve, load_gguf, make_servable, write_gguf
from postlab.models.gguf_files import PROBES, plain_template

SHAPE = dict(
    hidden_size=96, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=256,
)  # fmt: skip
MODELS = {
    "llama, tied": lambda v: LlamaForCausalLM(
        LlamaConfig(vocab_size=v, tie_word_embeddings=True, **SHAPE)
    ),
    "mistral": lambda v: MistralForCausalLM(
        MistralConfig(vocab_size=v, sliding_window=None, **SHAPE)
    ),
    "qwen2, another theta": lambda v: Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=v, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, **SHAPE
        )
    ),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny") / "model", hidden=64)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_transformers_reads_back_what_was_written(make, tiny, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    torch.manual_seed(0)
    model = make(len(tokenizer) + 5).eval()  # a padded vocabulary, as Qwen's
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ids = torch.arange(60)[None]
    wanted = model(ids).logits
    for kind, most in (("f32", 1e-5), ("f16", 1e-2), ("q8_0", 0.3)):
        file = write_gguf(tmp_path, tmp_path / f"{kind}.gguf", kind=kind)
        got = load_gguf(file, profile="tiny")(ids).logits
        assert (got - wanted).abs().max() < most, kind
    assert not list(tmp_path.glob(".*"))


def sentencepiece() -> PreTrainedTokenizerFast:
    """A tokenizer in Llama's form: pieces with a mark for the space, and bytes to fall back on."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special[:3], show_progress=False)
    backend.train_from_iterator(TEXT, trainer)
    state = json.loads(backend.to_str())
    vocab = state["model"]["vocab"]
    for text in special[3:]:
        vocab[text] = len(vocab)
    backend = Tokenizer.from_str(json.dumps(state))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        chat_template="{{ bos_token }}{% for m in messages %}[{{ m.content }}]</s>{% endfor %}",
    )  # fmt: skip


def byte_level(tiny: Path, pre: str) -> PreTrainedTokenizerFast:
    from postlab.models.gguf_files import _byte_level

    backend = AutoTokenizer.from_pretrained(tiny).backend_tokenizer
    backend.pre_tokenizer = _byte_level(["a"], [], pre).pre_tokenizer
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|pad|>", chat_template=CHATML
    )


@pytest.mark.parametrize("form", ["sentencepiece", "gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_the_metadata_alone_give_the_tokenizers_ids(form, tiny, tmp_path):
    import gguf

    tokenizer = sentencepiece() if form == "sentencepiece" else byte_level(tiny, form)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SHAPE)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    file = write_gguf(tmp_path, tmp_path / "model.gguf")
    read = gguf_tokenizer(file)
    for text in PROBES:
        wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert read(text, add_special_tokens=False)["input_ids"] == wanted, text
    assert read.add_bos_token is (form == "sentencepiece")
    assert read.eos_token == tokenizer.eos_token
    fields = gguf.GGUFReader(file).fields
    assert fields["tokenizer.ggml.eot_token_id"].contents() == tokenizer.eos_token_id


def test_generation_blocks_are_left_out_and_nothing_else_changes(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    template = (
        "{% for m in messages %}  {%- generation -%}  {{ m['content'] }} {% endgeneration %}\n"
        "generation{% endfor %}"
    )
    messages = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    tokenizer.chat_template = template
    wanted = tokenizer.apply_chat_template(messages, tokenize=False)
    tokenizer.chat_template = plain_template(template)
    assert "{% endgeneration" not in tokenizer.chat_template
    assert tokenizer.apply_chat_template(messages, tokenize=False) == wanted


def test_what_gguf_cannot_say_is_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="kind='q4_k_m'; expected one of f32, f16, q8_0"):
        write_gguf(tiny, tmp_path / "x.gguf", kind="q4_k_m")
    config = LlamaConfig(
        vocab_size=320,
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        **SHAPE,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="scaled rotary"):
        write_gguf(tmp_path, tmp_path / "x.gguf")
    config = LlamaConfig(vocab_size=320, attention_bias=True, **SHAPE)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="biases"):
        write_gguf(tmp_path, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize("largest, dtype", [(1.0, torch.float16), (1e6, torch.bfloat16)])
def test_weights_are_halved_to_what_holds_them(tiny, tmp_path, largest, dtype):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    model.model.norm.weight.data[0] = largest
    model.save_pretrained(tmp_path)
    halve(tmp_path)
    halved = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert halved.dtype == dtype
    for name, weight in model.state_dict().items():
        assert torch.equal(halved.state_dict()[name], weight.to(dtype)), name


def test_a_servable_folder_has_the_same_tokens_and_a_class_that_servers_know(tiny, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.save_pretrained(tmp_path)
    before = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert before["tokenizer_class"] == "TokenizersBackend"  # transformers 4 has no such class
    make_servable(tmp_path, tokenizer)
    after = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert after["tokenizer_class"] == "PreTrainedTokenizerFast"
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.all_special_tokens == tokenizer.all_special_tokens
    for text in PROBES:
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
