"""Small models under the profiles' own names: the real architecture, tokenizer and 4-bit format.

Each repository has Mistral's or Qwen2's configuration with fewer and narrower layers and random
weights, saved in NF4 where its name says so, and the real tokenizer's vocabulary: Mistral's 32,768
pieces, or Qwen's 151,643 and the three special tokens used here, built from the data files of the
packages `mistral-common` and `dashscope`. Simplified: the 7B-Instruct ties its embeddings, the
real one doesn't. Left out: what only trained weights can show.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

# Names and stand-ins: (family, in 4 bits). Each profile's, and the 16-bit base that export wants.
REPOSITORIES = {
    "unsloth/mistral-7b-v0.3-bnb-4bit": ("mistral", True),
    "unsloth/mistral-7b-v0.3": ("mistral", False),
    "unsloth/mistral-7b-instruct-v0.3-bnb-4bit": ("mistral-instruct", True),
    "unsloth/Qwen2.5-1.5B-bnb-4bit": ("qwen", True),
    "unsloth/Qwen2.5-1.5B": ("qwen", False),
    "unsloth/Qwen2.5-7B-Instruct-bnb-4bit": ("qwen-instruct", True),
}
SHAPE = dict(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=4096,
)  # fmt: skip
QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# As Qwen2.5's instruct models write a conversation, its default system prompt included.
QWEN_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are Qwen, created by"
    " Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# As Mistral's instruct models write a conversation; system messages are left out.
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + '[/INST]' }}{% else %}"
    "{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
TEMPLATES = {"qwen-instruct": QWEN_TEMPLATE, "mistral-instruct": MISTRAL_TEMPLATE}


def build(folder: Path) -> dict[str, Path]:
    """Make every stand-in below `folder` that is not there yet: {repository: its files}."""
    places = {name: folder / name for name in REPOSITORIES}
    tokenizers: dict[str, Any] = {}
    for name, (family, four_bits) in REPOSITORIES.items():
        if (places[name] / "complete").exists():
            continue
        if family not in tokenizers:
            tokenizers[family] = (
                mistral_tokenizer() if family.startswith("mistral") else qwen_tokenizer()
            )
        save(places[name], family, tokenizers[family], four_bits=four_bits)
        (places[name] / "complete").touch()
    return places


def save(place: Path, family: str, tokenizer: Any, *, four_bits: bool) -> None:
    """Write one repository: config, weights, tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, MistralConfig, Qwen2Config

    end = tokenizer.eos_token_id
    if family.startswith("mistral"):
        config: Any = MistralConfig(
            vocab_size=32_768, bos_token_id=1, eos_token_id=end, sliding_window=None, **SHAPE
        )
    else:
        # Padded as the real ones are; 151,936 rows of 64 are most of this model.
        config = Qwen2Config(
            vocab_size=151_936, bos_token_id=None, eos_token_id=end, tie_word_embeddings=True,
            use_sliding_window=False, **SHAPE,
        )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float16)
    model.save_pretrained(place)
    if four_bits:
        nf4 = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float16,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(
            place, quantization_config=nf4, dtype=torch.float16, device_map="cpu"
        )
        model.save_pretrained(place)
    tokenizer.chat_template = TEMPLATES.get(family)  # a base model from the Hub has none
    tokenizer.save_pretrained(place)
    tokenizer.chat_template = None
    # A folder written by transformers 5 names a class that only transformers 5 has.
    path = place / "tokenizer_config.json"
    kind = "LlamaTokenizer" if family.startswith("mistral") else "Qwen2Tokenizer"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": kind}))


def mistral_tokenizer() -> Any:
    """Mistral 7B v0.3's tokenizer, from its sentencepiece file."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import generate_merges

    (file,) = packages().glob("mistral_common/data/mistral_instruct_tokenizer_*.model.v3")
    pieces = sentencepiece().SentencePieceProcessor(str(file))
    count = pieces.vocab_size()
    vocabulary = {pieces.id_to_piece(i): i for i in range(count)}
    scores = {pieces.id_to_piece(i): pieces.get_score(i) for i in range(count)}
    control = [pieces.id_to_piece(i) for i in range(count) if pieces.is_control(i)]
    merges = generate_merges(vocabulary, scores)
    inner = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    inner.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    inner.add_special_tokens([AddedToken(text, normalized=False) for text in ("<unk>", *control)])
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token=control[-1], model_max_length=32_768, padding_side="left",
    )  # fmt: skip


def qwen_tokenizer() -> Any:
    """Qwen2.5's tokenizer, from the vocabulary of its first generation, which it kept."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    lines = (packages() / "dashscope" / "resources" / "qwen.tiktoken").read_text().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(str.split, lines)}
    letters = bytes_to_unicode()
    spelt = {token: "".join(map(letters.__getitem__, token)) for token in ranks}
    merges = []
    for token, rank in ranks.items():
        cuts = ((token[:i], token[i:]) for i in range(1, len(token)))
        known = [(rank, ranks[a], ranks[b], a, b) for a, b in cuts if a in ranks and b in ranks]
        merges += known
    merges.sort()
    vocabulary = {spelt[token]: rank for token, rank in ranks.items()}
    vocabulary |= {text: len(ranks) + i for i, text in enumerate(QWEN_SPECIAL)}
    inner = Tokenizer(models.BPE(vocabulary, [(spelt[a], spelt[b]) for *_, a, b in merges]))
    inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", pad_token="<|endoftext|>",
        additional_special_tokens=list(QWEN_SPECIAL[1:]), model_max_length=32_768,
        padding_side="left",
    )  # fmt: skip


def packages() -> Path:
    """Where set-up puts the packages of requirements-rehearsal.txt, beside this Python's own."""
    folder = Path(sys.prefix) / "share" / "rehearsal"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the rehearsal needs {folder}, the vocabularies of Mistral's and Qwen's tokenizers;"
            " `make setup` installs them"
        )
    return folder


def sentencepiece() -> Any:
    """The package, imported from there and gone from the path again."""
    sys.path.insert(0, str(packages()))
    try:
        import sentencepiece as module
    finally:
        sys.path.pop(0)
    return module
