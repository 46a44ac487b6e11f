"""A merged model as one GGUF file, the format of llama.cpp and Ollama, and its tokenizer read back.

`write_gguf` needs no llama.cpp: the package `gguf` writes the file, tensor by tensor, so the model
is never in memory as a whole. `gguf_tokenizer` reads nothing but the file's metadata and cuts text
as llama.cpp does by them, which shows whether a server will see the token ids the model was
trained on.

What this leaves out: architectures other than Llama, Mistral and Qwen2, scaled rotary embeddings,
and types below 8 bits. llama.cpp's own `convert_hf_to_gguf.py` and `llama-quantize` do those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from postlab.chat import end_of_turn_id
from postlab.storage import atomic_file

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}  # model_type: GGUF's name
KINDS = ("f32", "f16", "q8_0")
WORD = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
CASED = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# llama.cpp cuts text before byte-level BPE by one of the rules it knows by name; a tokenizer.json
# may hold any rule. Each of these is applied to what the one before it left.
PRE_TOKENIZERS = {
    "gpt-2": (WORD,),
    "smollm": (r"\p{N}", WORD),
    "qwen2": (CASED % "",),
    "llama-bpe": (CASED % "{1,3}",),
}
PROBES = (
    "It's 12 + 345 = 357, isn't it? WE'LL see:", "\n\n    x = [7, 80, 900];  # ok\t\r\n",
    "Zürich, 東京 и Москва 🎉🎉", '... "quoted" (twice)  two spaces   three', "naïve café -- 3.14%",
    "1. one\n 2. two\n", "Please add 42+51+21. #### 114", "What is 3 * (4 - 1)?", "Sort 7, 3, 9.",
    "How do I make tea?", "user\nTell me about the sea.", "42+51=93, 93+21=114.",
)  # fmt: skip
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
GENERATION = re.compile(r"(\{%[-+]?\s{0,9})(end)?generation(\s{0,9}[-+]?%\})")


def write_gguf(folder: str | Path, to: str | Path, *, kind: str = "f16") -> Path:
    """Write a merged model folder as one GGUF file; the file appears when it is complete.

    Norms and biases stay in 32 bits, as llama.cpp has them. In `q8_0`, each 32 weights of a row
    share a scale (8.5 bits a weight); a matrix whose rows are no multiple of 32 is written in f16.

    Args:
        folder: safetensors, config.json and a fast tokenizer; no adapter.
        to: the file, such as model-q8_0.gguf.
        kind: of the matrices: "f32", "f16" or "q8_0".
    Returns:
        The file.
    Raises:
        ValueError: if `kind` or the architecture isn't one of these, the rotary embeddings are
            scaled, or a weight isn't finite in 16 bits.
    """
    import gguf
    import numpy as np
    from transformers import AutoConfig, AutoTokenizer

    folder, to = Path(folder), Path(to)
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; expected one of {', '.join(KINDS)}")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    name = _architecture(config)
    types = gguf.GGMLQuantizationType
    wanted = types[kind.upper()]
    names = gguf.get_tensor_name_map(
        gguf.MODEL_ARCH[name.upper()], config.num_hidden_layers
    )  # model.layers.0.self_attn.q_proj: blk.0.attn_q

    with atomic_file(to) as unfinished:
        writer = gguf.GGUFWriter(unfinished, name)
        _add_config(
            writer,
            config,
            gguf.LlamaFileType[f"{'ALL' if kind == 'f32' else 'MOSTLY'}_{kind.upper()}"],
        )
        _add_tokenizer(writer, tokenizer, config)
        # 1. Shapes and types of all tensors come first in the file.
        plan = []
        for place, tensor in _tensors(folder, config):
            stem, _, suffix = place.rpartition(".")
            new = names.get_name(stem)
            if new is None:
                raise ValueError(f"GGUF's {name} has no place for the tensor {place} of {folder}")
            shape = list(tensor.get_shape())
            as_type = wanted if len(shape) == 2 else types.F32
            if as_type == types.Q8_0 and shape[-1] % 32:
                as_type = types.F16
            block, size = gguf.GGML_QUANT_SIZES[as_type]
            count = int(np.prod(shape))
            writer.add_tensor_info(
                f"{new}.{suffix}", shape, np.dtype(np.float32), count // block * size, as_type
            )
            plan.append((place, as_type))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        # 2. Then the values, one tensor in memory at a time.
        for (place, tensor), (_, as_type) in zip(_tensors(folder, config), plan, strict=True):
            weight = tensor[:].float().numpy()
            if name == "llama" and ".q_proj." in place:
                weight = _interleaved(weight, config.num_attention_heads)
            if name == "llama" and ".k_proj." in place:
                weight = _interleaved(weight, config.num_key_value_heads)
            if as_type != types.F32 and not np.abs(weight).max() <= np.finfo(np.float16).max:
                raise ValueError(f"{place} of {folder} holds a value that 16 bits can't hold")
            writer.write_tensor_data(gguf.quantize(np.ascontiguousarray(weight), as_type))
        writer.close()
    return to


def _architecture(config: Any) -> str:
    if config.model_type not in ARCHITECTURES:
        raise ValueError(
            f"model_type {config.model_type!r}: write_gguf knows {', '.join(ARCHITECTURES)}; use"
            " llama.cpp's convert_hf_to_gguf.py for others"
        )
    if ARCHITECTURES[config.model_type] == "llama" and (
        getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)
    ):
        raise ValueError("a Llama with biases: transformers would read its GGUF without them")
    rope = dict(getattr(config, "rope_parameters", None) or {})
    window = getattr(config, "sliding_window", None)
    sliding = getattr(config, "use_sliding_window", True) and window
    if rope.get("rope_type", "default") != "default" or (
        sliding and sliding < config.max_position_embeddings
    ):
        raise ValueError(
            f"rope {rope} and sliding_window={window}: write_gguf knows neither scaled rotary"
            " embeddings nor sliding windows; use llama.cpp's convert_hf_to_gguf.py"
        )
    return ARCHITECTURES[config.model_type]


def _add_config(writer: Any, config: Any, file_type: int) -> None:
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_name(f"{config.model_type}-model")  # transformers misreads the bare name "mistral"
    writer.add_file_type(file_type)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _tensors(folder: Path, config: Any) -> Iterator[tuple[str, Any]]:
    """The folder's tensors by name, not yet read; a tied head is left out, as llama.cpp expects."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                if not (config.tie_word_embeddings and name == "lm_head.weight"):
                    yield name, file.get_slice(name)


def _interleaved(weight: Any, heads: int) -> Any:
    """Rows of q or k in the order of llama.cpp's Llama: it rotates neighbours, not halves."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _add_tokenizer(writer: Any, tokenizer: Any, config: Any) -> None:
    import gguf

    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] != "BPE" or len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"the tokenizer is {model['type']} with {len(tokenizer)} tokens; expected BPE with at"
            f" most the model's {config.vocab_size}"
        )
    by_sentencepiece = bool(model.get("byte_fallback"))
    merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
    tokens, kinds = [], []
    added, kind = tokenizer.added_tokens_decoder, gguf.TokenType
    texts = {number: text for text, number in tokenizer.get_vocab().items()}
    for number in range(config.vocab_size):
        text = texts.get(number, f"[PAD{number}]")
        tokens.append(text)
        if number not in texts:
            kinds.append(kind.UNUSED)
        elif number in added:
            unknown = by_sentencepiece and number == tokenizer.unk_token_id
            special = kind.UNKNOWN if unknown else kind.CONTROL
            kinds.append(special if added[number].special else kind.USER_DEFINED)
        else:
            byte = by_sentencepiece and BYTE.fullmatch(text)
            kinds.append(kind.BYTE if byte else kind.NORMAL)
    if by_sentencepiece:
        # SentencePiece merges the pair whose piece scores highest: the earliest merge.
        rank = {"".join(pair): -float(i) for i, pair in reversed(list(enumerate(merges)))}
        writer.add_tokenizer_model("llama")
        writer.add_token_scores(
            [rank.get(text, -float(len(merges) + i)) for i, text in enumerate(tokens)]
        )
        prefix = tokenizer.backend_tokenizer.encode("a", add_special_tokens=False).tokens
        writer.add_add_space_prefix(prefix[0].startswith("▁"))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    for token in ("bos", "eos", "unk", "pad"):
        number = getattr(tokenizer, f"{token}_token_id")
        if number is not None:
            getattr(writer, f"add_{token}_token_id")(number)
    writer.add_add_eos_token(False)
    if tokenizer.chat_template:
        if (end := end_of_turn_id(tokenizer)) is not None:
            writer.add_eot_token_id(end)
        writer.add_chat_template(plain_template(tokenizer.chat_template))
    # llama.cpp and Ollama write the BOS where this says so, and take it off a rendered template.
    writer.add_add_bos_token(_begins_with_bos(tokenizer))
    if not by_sentencepiece:
        writer.add_tokenizer_pre(_pre_tokenizer(tokenizer, tokens, merges))


def plain_template(template: str) -> str:
    """A chat template without transformers' own `generation` blocks, which mark what is trained."""
    return GENERATION.sub(lambda m: m[1] + ("endif" if m[2] else "if true") + m[3], template)


def _begins_with_bos(tokenizer: Any) -> bool:
    if tokenizer.bos_token is None:
        return False
    if not tokenizer.chat_template:
        return tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    turn = [{"role": "user", "content": "a"}]
    text = tokenizer.apply_chat_template(turn, tokenize=False)
    return bool(text.startswith(tokenizer.bos_token))


def _pre_tokenizer(tokenizer: Any, tokens: list[str], merges: list[Any]) -> str:
    """The rule of llama.cpp's that cuts the probes most like the tokenizer does."""
    wanted = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in PROBES]

    def unlike(pre: str) -> int:
        trial = _byte_level(tokens, merges, pre)
        return sum(trial.encode(t).ids != ids for t, ids in zip(PROBES, wanted, strict=True))

    return min(PRE_TOKENIZERS, key=unlike)


def gguf_tokenizer(path: str | Path) -> Any:
    """The tokenizer that a GGUF file's metadata describes, which cuts text as llama.cpp does.

    Args:
        path: a GGUF file with the tokenizer model "gpt2" (byte-level BPE) or "llama".
    Returns:
        A transformers tokenizer with the file's chat template. Its `add_bos_token` is the file's
        flag: whether a server puts the BOS in front.
    Raises:
        ValueError: if the file's tokenizer or its pre-tokenizer isn't one of those known here.
    """
    import gguf
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    fields = gguf.GGUFReader(path).fields

    def read(key: str, default: Any = None) -> Any:
        field = fields.get(f"tokenizer.{key}")
        return default if field is None else field.contents()

    model, pre = read("ggml.model"), read("ggml.pre", "")
    tokens, kinds = read("ggml.tokens"), read("ggml.token_type")
    if model == "gpt2" and pre in PRE_TOKENIZERS:
        merges = [merge.split(" ") for merge in read("ggml.merges")]
        trial = _byte_level(tokens, merges, pre)
    elif model == "llama":
        trial = _sentencepiece(tokens, read("ggml.scores"), read("ggml.add_space_prefix", True))
    else:
        raise ValueError(
            f"{path}: tokenizer {model!r} with pre-tokenizer {pre!r}; expected 'llama', or 'gpt2'"
            f" with one of {', '.join(PRE_TOKENIZERS)}"
        )
    kind = gguf.TokenType
    for text, number in zip(tokens, kinds, strict=True):
        special = number in (kind.CONTROL, kind.UNKNOWN)
        if special or number == kind.USER_DEFINED:
            trial.add_tokens([AddedToken(text, special=special, normalized=False)])
    ids = {n: read(f"ggml.{n}_token_id") for n in ("bos", "eos", "unknown", "padding")}
    named = {n: None if i is None else tokens[i] for n, i in ids.items()}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trial, bos_token=named["bos"], eos_token=named["eos"],
        unk_token=named["unknown"], pad_token=named["padding"],
        chat_template=read("chat_template"), clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.add_bos_token = bool(read("ggml.add_bos_token", model == "llama"))
    return tokenizer


def _byte_level(tokens: list[str], merges: list[Any], pre: str) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocab = {text: number for number, text in enumerate(tokens)}
    pairs = [tuple(pair) for pair in merges]
    trial = Tokenizer(models.BPE(vocab, pairs, ignore_merges=pre == "llama-bpe"))
    cuts = [pre_tokenizers.Split(Regex(rule), "isolated") for rule in PRE_TOKENIZERS[pre]]
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trial.pre_tokenizer = pre_tokenizers.Sequence([*cuts, whole])
    trial.decoder = decoders.ByteLevel()
    return trial


def _sentencepiece(tokens: list[str], scores: list[float], prefix: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    score = dict(zip(tokens, scores, strict=True))
    pairs = [
        (text[:i], text[i:])
        for text in tokens
        for i in range(1, len(text))
        if text[:i] in score and text[i:] in score
    ]
    pairs.sort(key=lambda pair: -score["".join(pair)])
    vocab = {text: number for number, text in enumerate(tokens)}
    trial = Tokenizer(models.BPE(vocab, pairs, byte_fallback=True, fuse_unk=True))
    steps = [normalizers.Replace(" ", "▁")]
    trial.normalizer = normalizers.Sequence([normalizers.Prepend("▁")] * prefix + steps)
    trial.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return trial
