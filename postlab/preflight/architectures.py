"""The shapes of the models that preflight knows, and what can be counted from a shape alone.

A shape is a dozen numbers of a `config.json`; parameters, adapters and the bytes of a token's keys
and values follow from them, so nothing has to be downloaded. Decoders with a dense or a
mixture-of-experts MLP are counted, vision towers only by their size. Left out: state spaces, linear
and latent attention, encoders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from postlab.redaction import redact
from postlab.storage import MANIFEST_BYTES, read_json

# Families whose parameters are counted one by one; any other decoder is counted as a Llama.
MODEL_TYPES = (
    "llama", "mistral", "mixtral", "qwen", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2",
    "gemma3", "gemma3_text", "phi3", "smollm3", "granite", "gpt_oss",
)  # fmt: skip
_GEMMAS = ("gemma", "gemma2", "gemma3", "gemma3_text")
_FOUR_NORMS = ("gemma2", "gemma3", "gemma3_text")
_HEAD_NORMS = ("qwen3", "qwen3_moe", "gemma3", "gemma3_text")
_PLAIN_MLP = (
    "gpt2", "gpt_neox", "gptj", "gpt_bigcode", "phi", "falcon", "opt", "bloom", "mpt", "starcoder2",
    "codegen", "persimmon", "nemotron", "apertus", "arcee", "nanochat",
)  # fmt: skip
_TIED = (*_GEMMAS, "smollm3", "gpt2", "falcon", "opt", "bloom", "gpt_bigcode")
_ENCODERS = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "albert", "deberta",
             "deberta-v2", "mpnet", "modernbert", "vit", "clip", "siglip")  # fmt: skip
# What a copy's name says besides: how it was tuned, packed or dated.
_ENDING = re.compile(
    r"-(bnb|4bit|8bit|int4|int8|gptq|awq|gguf|mlx|bf16|fp8|unsloth|instruct|chat|base|thinking|it|pt"
    r"|hf|\d{4})(?=-|$)"
)
# Other names of a shape, without their endings.
_SAME = {
    "meta-llama/Llama-3.1-8B": "llama-3-8b deepseek-r1-distill-llama-8b hermes-3-llama-3.1-8b",
    "meta-llama/Llama-3.1-70B": "llama-3-70b llama-3.3-70b deepseek-r1-distill-llama-70b",
    "Qwen/Qwen2.5-0.5B": "qwen2-0.5b qwen2.5-coder-0.5b",
    "Qwen/Qwen2.5-1.5B": "qwen2-1.5b qwen2.5-math-1.5b qwen2.5-coder-1.5b",
    "Qwen/Qwen2.5-3B": "qwen2.5-coder-3b",
    "Qwen/Qwen2.5-7B": "qwen2-7b qwen2.5-math-7b qwen2.5-coder-7b deepseek-r1-distill-qwen-7b",
    "Qwen/Qwen2.5-14B": "qwen2.5-coder-14b deepseek-r1-distill-qwen-14b",
    "Qwen/Qwen2.5-32B": "qwen2.5-coder-32b deepseek-r1-distill-qwen-32b qwq-32b",
    "Qwen/Qwen2.5-72B": "qwen2-72b qwen2.5-math-72b",
    "Qwen/Qwen3-8B": "deepseek-r1-qwen3-8b",
    "Qwen/Qwen3-30B-A3B": "qwen3-coder-30b-a3b",
    "mistralai/Mistral-7B-v0.1": "mistral-7b mistral-7b-v0.2 zephyr-sft zephyr-7b-beta",
    "mistralai/Mistral-Small-24B": "magistral-small mistral-small-3.1-24b mistral-small-3.2-24b",
    "microsoft/Phi-3-mini": "phi-3-mini-4k phi-3-mini-128k phi-3.5-mini",
    "microsoft/Phi-3-medium": "phi-3-medium-4k phi-3-medium-128k",
    "microsoft/phi-4": "phi-4-reasoning",
    "TinyLlama/TinyLlama-1.1B": "tinyllama tinyllama-1.1b-v1.0",
}


@dataclass(frozen=True)
class Architecture:
    """A decoder's shape, in the words of its `config.json`.

    Args:
        family: `model_type`; it decides on biases and norms.
        hidden: width of the residual stream.
        heads: query heads; `kv_heads` of them have keys and values of their own.
        intermediate: width inside the MLP, or inside one expert.
        tied: whether the output head is the embedding matrix.
        experts: of a layer, of which a token goes through `active`; 0 for a dense MLP.
        shared: width of an expert that every token goes through besides.
        biased: whether all four maps of attention have a bias.
        gated: whether the MLP has a gate; GPT-2's generation has not.
        extra: parameters outside the decoder, such as a vision tower's.

    >>> mistral = architecture("mistralai/Mistral-7B-v0.3")
    >>> mistral.parameters, mistral.linear_parameters, mistral.kv_bytes(2)
    (7248023552, 6979321856, 131072)
    """

    name: str
    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    experts: int = 0
    active: int = 0
    shared: int = 0
    biased: bool = False
    gated: bool = True
    extra: int = 0

    @property
    def exact(self) -> bool:
        """Whether this family's parameters are counted one by one."""
        return self.family in MODEL_TYPES

    @property
    def query_dim(self) -> int:
        """All query heads side by side; 4,096 in Mistral-7B."""
        return self.heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """All key heads side by side; 1,024 in Mistral-7B."""
        return self.kv_heads * self.head_dim

    @property
    def qk_norm(self) -> bool:
        """Qwen3 and Gemma-3 normalise each head's query and key."""
        return self.family in _HEAD_NORMS

    @property
    def softcap(self) -> bool:
        """Gemma-2 squeezes its logits through a tanh."""
        return self.family == "gemma2"

    @property
    def norms(self) -> int:
        """RMSNorms of the residual stream in a layer; Gemma-2 and 3 end each branch with one."""
        return 4 if self.family in _FOUR_NORMS else 2

    @property
    def mlp_width(self) -> int:
        """Intermediate units that a token passes through, the active experts' side by side."""
        return (
            (self.active * self.intermediate + self.shared) if self.experts else self.intermediate
        )

    def _width(self, experts: int) -> int:
        return experts * self.intermediate + self.shared if self.experts else self.intermediate

    @property
    def _mlp_maps(self) -> int:
        return 3 if self.gated else 2

    @property
    def projections(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of a layer's linear maps: q, k, v, o, and of a dense MLP gate, up, down."""
        h, q, kv, i = self.hidden, self.query_dim, self.kv_dim, self.intermediate
        attention = ((h, q), (h, kv), (h, kv), (q, h))
        if self.experts:
            return attention
        return (*attention, *(((h, i),) * (self._mlp_maps - 1)), (i, h))

    @property
    def _attention_parameters(self) -> int:
        return 2 * self.hidden * (self.query_dim + self.kv_dim)

    @property
    def linear_parameters(self) -> int:
        """What 4 bits are used for: the maps of every layer, experts included, sum of in * out."""
        width = (
            self.experts * self.intermediate + self.shared if self.experts else self.intermediate
        )
        mlp = self._mlp_maps * self.hidden * width
        return self.layers * (self._attention_parameters + mlp)

    @property
    def active_parameters(self) -> int:
        """Of the linear parameters, those that a token is multiplied with."""
        mlp = self._mlp_maps * self.hidden * self.mlp_width
        return self.layers * (self._attention_parameters + mlp)

    @property
    def head_parameters(self) -> int:
        """One vocabulary matrix, vocab * hidden."""
        return self.vocab * self.hidden

    @property
    def other_parameters(self) -> int:
        """What always stays unquantised: embeddings, head, norms, biases, routers, towers.

        (1 if tied else 2) * vocab * hidden + layers * (norms * hidden + biases + head norms +
        router) + the last norm.
        """
        h, q, kv = self.hidden, self.query_dim, self.kv_dim
        biases = q + 2 * kv if self.family in ("qwen", "qwen2") else 0
        biases = q + 2 * kv + h if self.biased else biases
        router = h * self.experts
        if self.family == "gpt_oss":  # biases of the router and of each expert, attention's sinks
            biases += self.heads + self.experts * (1 + 2 * self.intermediate + h)
        heads = 2 * self.head_dim if self.qk_norm else 0
        matrices = (1 if self.tied else 2) * self.head_parameters
        return matrices + self.layers * (self.norms * h + biases + heads + router) + h + self.extra

    @property
    def parameters(self) -> int:
        """linear_parameters + other_parameters; what the model's card says."""
        return self.linear_parameters + self.other_parameters

    def lora_parameters(self, rank: int) -> int:
        """LoRA on all maps of attention and of a dense MLP: layers * rank * sum of (in + out).

        Experts stay frozen: PEFT's names of linear layers don't reach their stacked weights.

        >>> architecture("mistralai/Mistral-7B-v0.3").lora_parameters(16)
        41943040
        """
        return self.layers * rank * sum(i + o for i, o in self.projections)

    def kv_bytes(self, element: int) -> int:
        """Keys and values of one token: 2 * layers * kv_heads * head_dim * bytes an element."""
        return 2 * self.layers * self.kv_dim * element


_VISION = 416_867_184  # SigLIP's tower in Gemma-3 and a norm, without the map to the decoder


def _moe(experts: int, active: int) -> dict[str, Any]:
    return {"experts": experts, "active": active}


def _known(*rows: tuple) -> dict[str, Architecture]:
    return {row[0]: Architecture(*row[:10], **(row[10] if row[10:] else {})) for row in rows}


MODELS: dict[str, Architecture] = _known(
    # name, family, layers, hidden, heads, kv_heads, head_dim, intermediate, vocab, tied
    ("HuggingFaceTB/SmolLM2-135M", "llama", 30, 576, 9, 3, 64, 1536, 49152, True),
    ("HuggingFaceTB/SmolLM2-360M", "llama", 32, 960, 15, 5, 64, 2560, 49152, True),
    ("HuggingFaceTB/SmolLM2-1.7B", "llama", 24, 2048, 32, 32, 64, 8192, 49152, True),
    ("HuggingFaceTB/SmolLM3-3B", "smollm3", 36, 2048, 16, 4, 128, 11008, 128256, True),
    ("TinyLlama/TinyLlama-1.1B", "llama", 22, 2048, 32, 4, 64, 5632, 32000, False),
    ("Qwen/Qwen-1_8B", "qwen", 24, 2048, 16, 16, 128, 5504, 151936, False),
    ("Qwen/Qwen-7B", "qwen", 32, 4096, 32, 32, 128, 11008, 151936, False),
    ("Qwen/Qwen-14B", "qwen", 40, 5120, 40, 40, 128, 13696, 152064, False),
    ("Qwen/Qwen-72B", "qwen", 80, 8192, 64, 64, 128, 24576, 152064, False),
    ("Qwen/Qwen2.5-0.5B", "qwen2", 24, 896, 14, 2, 64, 4864, 151936, True),
    ("Qwen/Qwen2.5-1.5B", "qwen2", 28, 1536, 12, 2, 128, 8960, 151936, True),
    ("Qwen/Qwen2.5-3B", "qwen2", 36, 2048, 16, 2, 128, 11008, 151936, True),
    ("Qwen/Qwen2.5-7B", "qwen2", 28, 3584, 28, 4, 128, 18944, 152064, False),
    ("Qwen/Qwen2.5-14B", "qwen2", 48, 5120, 40, 8, 128, 13824, 152064, False),
    ("Qwen/Qwen2.5-32B", "qwen2", 64, 5120, 40, 8, 128, 27648, 152064, False),
    ("Qwen/Qwen2.5-72B", "qwen2", 80, 8192, 64, 8, 128, 29568, 152064, False),
    ("Qwen/Qwen3-0.6B", "qwen3", 28, 1024, 16, 8, 128, 3072, 151936, True),
    ("Qwen/Qwen3-1.7B", "qwen3", 28, 2048, 16, 8, 128, 6144, 151936, True),
    ("Qwen/Qwen3-4B", "qwen3", 36, 2560, 32, 8, 128, 9728, 151936, True),
    ("Qwen/Qwen3-8B", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936, False),
    ("Qwen/Qwen3-14B", "qwen3", 40, 5120, 40, 8, 128, 17408, 151936, False),
    ("Qwen/Qwen3-32B", "qwen3", 64, 5120, 64, 8, 128, 25600, 151936, False),
    ("Qwen/Qwen3-30B-A3B", "qwen3_moe", 48, 2048, 32, 4, 128, 768, 151936, False, _moe(128, 8)),
    ("Qwen/Qwen3-235B-A22B", "qwen3_moe", 94, 4096, 64, 4, 128, 1536, 151936, False, _moe(128, 8)),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "qwen2", 28, 1536, 12, 2, 128, 8960, 151936,
     False),
    ("meta-llama/Llama-2-7b", "llama", 32, 4096, 32, 32, 128, 11008, 32000, False),
    ("meta-llama/Llama-2-13b", "llama", 40, 5120, 40, 40, 128, 13824, 32000, False),
    ("meta-llama/Llama-2-70b", "llama", 80, 8192, 64, 8, 128, 28672, 32000, False),
    ("meta-llama/Llama-3.1-8B", "llama", 32, 4096, 32, 8, 128, 14336, 128256, False),
    ("meta-llama/Llama-3.1-70B", "llama", 80, 8192, 64, 8, 128, 28672, 128256, False),
    ("meta-llama/Llama-3.1-405B", "llama", 126, 16384, 128, 8, 128, 53248, 128256, False),
    ("meta-llama/Llama-3.2-1B", "llama", 16, 2048, 32, 8, 64, 8192, 128256, True),
    ("meta-llama/Llama-3.2-3B", "llama", 28, 3072, 24, 8, 128, 8192, 128256, True),
    ("01-ai/Yi-34B", "llama", 60, 7168, 56, 8, 128, 20480, 64000, False),
    ("mistralai/Mistral-7B-v0.1", "mistral", 32, 4096, 32, 8, 128, 14336, 32000, False),
    ("mistralai/Mistral-7B-v0.3", "mistral", 32, 4096, 32, 8, 128, 14336, 32768, False),
    ("mistralai/Mistral-Nemo", "mistral", 40, 5120, 32, 8, 128, 14336, 131072, False),
    ("mistralai/Mistral-Small", "mistral", 56, 6144, 48, 8, 128, 16384, 32768, False),
    ("mistralai/Mistral-Small-24B", "mistral", 40, 5120, 32, 8, 128, 32768, 131072, False),
    ("mistralai/Mixtral-8x7B-v0.1", "mixtral", 32, 4096, 32, 8, 128, 14336, 32000, False,
     _moe(8, 2)),
    ("google/gemma-2b", "gemma", 18, 2048, 8, 1, 256, 16384, 256000, True),
    ("google/gemma-7b", "gemma", 28, 3072, 16, 16, 256, 24576, 256000, True),
    ("google/gemma-2-2b", "gemma2", 26, 2304, 8, 4, 256, 9216, 256000, True),
    ("google/gemma-2-9b", "gemma2", 42, 3584, 16, 8, 256, 14336, 256000, True),
    ("google/gemma-2-27b", "gemma2", 46, 4608, 32, 16, 128, 36864, 256000, True),
    ("google/gemma-3-270m", "gemma3_text", 18, 640, 4, 1, 256, 2048, 262144, True),
    ("google/gemma-3-1b", "gemma3_text", 26, 1152, 4, 1, 256, 6912, 262144, True),
    ("google/gemma-3-4b", "gemma3", 34, 2560, 8, 4, 256, 10240, 262208, True,
     {"extra": _VISION + 1152 * 2560}),
    ("google/gemma-3-12b", "gemma3", 48, 3840, 16, 8, 256, 15360, 262208, True,
     {"extra": _VISION + 1152 * 3840}),
    ("google/gemma-3-27b", "gemma3", 62, 5376, 32, 16, 128, 21504, 262208, True,
     {"extra": _VISION + 1152 * 5376}),
    ("microsoft/Phi-3-mini", "phi3", 32, 3072, 32, 32, 96, 8192, 32064, False),
    ("microsoft/Phi-3-medium", "phi3", 40, 5120, 40, 10, 128, 17920, 32064, False),
    ("microsoft/Phi-4-mini", "phi3", 32, 3072, 24, 8, 128, 8192, 200064, True),
    ("microsoft/phi-4", "phi3", 40, 5120, 40, 10, 128, 17920, 100352, False),
    ("openai/gpt-oss-20b", "gpt_oss", 24, 2880, 64, 8, 64, 2880, 201088, False,
     _moe(32, 4) | {"biased": True}),
    ("openai/gpt-oss-120b", "gpt_oss", 36, 2880, 64, 8, 64, 2880, 201088, False,
     _moe(128, 4) | {"biased": True}),
)  # fmt: skip


def architecture(model: str | Path) -> Architecture:
    """The shape of a known model or of anybody's `config.json`.

    A copy of a known model is known by the last part of its name without the usual endings:
    `unsloth/mistral-7b-v0.3-bnb-4bit` has the shape of `mistralai/Mistral-7B-v0.3`.

    Args:
        model: a Hub id, a folder with a `config.json`, or such a file.
    Returns:
        Layers, widths, heads and vocabulary; `exact` is False for a family that is counted as if it
        were a Llama.
    Raises:
        ValueError: if it is neither, naming what is known; or if the config is no decoder's.

    >>> architecture("unsloth/Qwen2.5-7B-Instruct-bnb-4bit").name
    'Qwen/Qwen2.5-7B'
    """
    path = Path(model)
    config = path if path.suffix == ".json" else path / "config.json"
    if str(model) and config.is_file():
        name = (path.parent if path == config else path).name
        try:
            read = read_json(config, most=MANIFEST_BYTES)
        except ValueError as error:
            raise ValueError(f"the config of {name} is not JSON: {error}") from error
        if not isinstance(read, dict):
            raise ValueError(f"the config of {name} is a {type(read).__name__}; expected an object")
        return _from_config(read, name)
    shape = _by_short_name().get(_short(str(model)))
    if shape is None:
        raise ValueError(
            f"unknown model {redact(str(model))!r}; expected a folder with a config.json, or one "
            f"of {', '.join(MODELS)}"
        )
    return shape


@cache
def _by_short_name() -> dict[str, Architecture]:
    short = {_short(name): shape for name, shape in MODELS.items()}
    return short | {name: MODELS[model] for model, names in _SAME.items() for name in names.split()}


def _short(name: str) -> str:
    return _ENDING.sub("", name.rstrip("/").rsplit("/", 1)[-1].lower().removeprefix("meta-"))


# The names that families give the same number, the usual one first.
_NUMBERS = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_dim": ("head_dim",),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocab": ("vocab_size",),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "active": ("num_experts_per_tok", "experts_per_token", "moe_k"),
    "width": ("moe_intermediate_size",),
    "shared": ("shared_expert_intermediate_size",),
}
# Layers of another kind than attention and an MLP: what they keep isn't counted here.
_FOREIGN = ("kv_lora_rank", "mamba_d_state", "ssm_cfg", "state_size", "linear_num_value_heads",
            "conv_L_cache")  # fmt: skip


def _from_config(config: dict[str, Any], name: str) -> Architecture:
    whole = config
    for key in ("text_config", "llm_config", "language_config"):  # beside a vision tower
        if isinstance(config.get(key), dict):
            config = config[key]
    family = str(config.get("model_type") or whole.get("model_type"))
    kinds = " ".join(map(str, whole.get("architectures") or ()))
    decoder = "CausalLM" in kinds or "LMHead" in kinds or "ConditionalGeneration" in kinds
    other = (kinds and not decoder and "Model" not in kinds) or family in _ENCODERS
    if whole.get("is_encoder_decoder") or other:
        raise ValueError(f"{kinds or family} in the config of {name}; expected a causal decoder")
    if foreign := [key for key in _FOREIGN if config.get(key)]:
        raise ValueError(
            f"the config of {name} has {', '.join(foreign)}: state spaces, linear and latent "
            "attention are left out; expected attention over keys and values in every layer"
        )
    n = {field: _number(config, names, name) for field, names in _NUMBERS.items()}
    gated = family not in _PLAIN_MLP
    if not gated and not n["intermediate"]:
        n["intermediate"] = 4 * (n["hidden"] or 0)
    intermediate = n["width"] or n["intermediate"]
    needed = ("layers", "hidden", "heads", "vocab")
    missing = [_NUMBERS[field][0] for field in needed if not n[field]]
    missing += [] if intermediate else ["intermediate_size"]
    if missing:
        raise ValueError(
            f"the config of {name} (model_type {family!r}) lacks {', '.join(missing)}: "
            f"not a decoder's; counted are {', '.join(MODEL_TYPES)} and their like"
        )
    heads = n["heads"]
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        n["kv_heads"] = 1
    return Architecture(
        name=name, family=family, layers=n["layers"], hidden=n["hidden"], heads=heads,
        kv_heads=n["kv_heads"] or heads,
        head_dim=n["head_dim"] or n["hidden"] // heads,
        # Qwen's first generation counts the gate's half in
        intermediate=intermediate // (2 if family == "qwen" else 1), vocab=n["vocab"],
        # configs leave out what is their family's default
        tied=bool(config.get("tie_word_embeddings", whole.get("tie_word_embeddings",
                                                              family in _TIED))),
        experts=n["experts"], active=n["active"] or min(n["experts"], 1), shared=n["shared"],
        biased=bool(config.get("attention_bias")) and family not in ("qwen", "qwen2"),
        gated=gated, extra=_tower(whole.get("vision_config"), n["hidden"]),
    )  # fmt: skip


def _number(config: Mapping[str, Any], names: tuple[str, ...], model: str) -> int:
    """The first of these that the config has; 0 if it has none."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} is {value!r} in the config of {model}; expected a count")
        return value
    return 0


def _tower(vision: object, hidden: int) -> int:
    """A vision tower's parameters, from its width and depth: 12 * width^2 a layer, or what its MLP
    says, and one map to the decoder."""
    if not isinstance(vision, dict):
        return 0
    get = lambda *names: next((v for v in map(vision.get, names) if isinstance(v, int)), 0)  # noqa: E731
    width, depth = get("hidden_size", "embed_dim"), get("num_hidden_layers", "depth")
    mlp = get("intermediate_size") or 4 * width
    return depth * (4 * width**2 + 2 * width * mlp) + width * hidden
