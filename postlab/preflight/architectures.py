"""The shapes of the models that preflight knows, and what can be counted from a shape alone.

A shape is a dozen numbers of a `config.json`; parameters, adapters and the bytes of a token's keys
and values follow from them, so nothing has to be downloaded. Left out: mixtures of experts, vision
towers, biases other than Qwen2's (in query, key and value).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma2")
_ENDING = re.compile(r"-(bnb-4bit|unsloth|instruct|chat|base|it|2507)(?=-|$)")


@dataclass(frozen=True)
class Architecture:
    """A decoder's shape, in the words of its `config.json`.

    Args:
        family: `model_type`, one of MODEL_TYPES; it decides on biases and norms.
        hidden: width of the residual stream.
        heads: query heads; `kv_heads` of them have keys and values of their own.
        intermediate: width inside the gated MLP.
        tied: whether the output head is the embedding matrix.

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
        """Qwen3 normalises each head's query and key."""
        return self.family == "qwen3"

    @property
    def softcap(self) -> bool:
        """Gemma-2 squeezes its logits through a tanh."""
        return self.family == "gemma2"

    @property
    def norms(self) -> int:
        """RMSNorms of the residual stream in a layer: Gemma-2 has one on each branch's end too."""
        return 4 if self.family == "gemma2" else 2

    @property
    def projections(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of a layer's seven linear maps: q, k, v, o, gate, up, down."""
        h, q, kv, i = self.hidden, self.query_dim, self.kv_dim, self.intermediate
        return ((h, q), (h, kv), (h, kv), (q, h), (h, i), (h, i), (i, h))

    @property
    def linear_parameters(self) -> int:
        """What 4 bits are used for: the seven maps of every layer, sum of in * out."""
        return self.layers * sum(i * o for i, o in self.projections)

    @property
    def head_parameters(self) -> int:
        """One vocabulary matrix, vocab * hidden."""
        return self.vocab * self.hidden

    @property
    def other_parameters(self) -> int:
        """What always stays unquantised: embeddings, head, norms and Qwen2's biases.

        (1 if tied else 2) * vocab * hidden + layers * (norms * hidden + biases + head norms) +
        the last norm.
        """
        biases = self.query_dim + 2 * self.kv_dim if self.family == "qwen2" else 0
        heads = 2 * self.head_dim if self.qk_norm else 0
        matrices = (1 if self.tied else 2) * self.head_parameters
        return matrices + self.layers * (self.norms * self.hidden + biases + heads) + self.hidden

    @property
    def parameters(self) -> int:
        """linear_parameters + other_parameters; what the model's card says."""
        return self.linear_parameters + self.other_parameters

    def lora_parameters(self, rank: int) -> int:
        """LoRA on all seven maps: layers * rank * sum of (in + out).

        >>> architecture("mistralai/Mistral-7B-v0.3").lora_parameters(16)
        41943040
        """
        return self.layers * rank * sum(i + o for i, o in self.projections)

    def kv_bytes(self, element: int) -> int:
        """Keys and values of one token: 2 * layers * kv_heads * head_dim * bytes an element."""
        return 2 * self.layers * self.kv_dim * element


def _known(*rows: tuple[str, str, int, int, int, int, int, int, int, bool]) -> dict:
    return {row[0]: Architecture(*row) for row in rows}


MODELS: dict[str, Architecture] = _known(
    # name, family, layers, hidden, heads, kv_heads, head_dim, intermediate, vocab, tied
    ("HuggingFaceTB/SmolLM2-135M", "llama", 30, 576, 9, 3, 64, 1536, 49152, True),
    ("HuggingFaceTB/SmolLM2-360M", "llama", 32, 960, 15, 5, 64, 2560, 49152, True),
    ("HuggingFaceTB/SmolLM2-1.7B", "llama", 24, 2048, 32, 32, 64, 8192, 49152, True),
    ("Qwen/Qwen2.5-0.5B", "qwen2", 24, 896, 14, 2, 64, 4864, 151936, True),
    ("Qwen/Qwen2.5-1.5B", "qwen2", 28, 1536, 12, 2, 128, 8960, 151936, True),
    ("Qwen/Qwen2.5-3B", "qwen2", 36, 2048, 16, 2, 128, 11008, 151936, True),
    ("Qwen/Qwen2.5-7B", "qwen2", 28, 3584, 28, 4, 128, 18944, 152064, False),
    ("Qwen/Qwen3-0.6B", "qwen3", 28, 1024, 16, 8, 128, 3072, 151936, True),
    ("Qwen/Qwen3-1.7B", "qwen3", 28, 2048, 16, 8, 128, 6144, 151936, True),
    ("Qwen/Qwen3-4B", "qwen3", 36, 2560, 32, 8, 128, 9728, 151936, True),
    ("Qwen/Qwen3-8B", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936, False),
    ("Qwen/Qwen3-14B", "qwen3", 40, 5120, 40, 8, 128, 17408, 151936, False),
    ("meta-llama/Llama-3.1-8B", "llama", 32, 4096, 32, 8, 128, 14336, 128256, False),
    ("meta-llama/Llama-3.1-70B", "llama", 80, 8192, 64, 8, 128, 28672, 128256, False),
    ("mistralai/Mistral-7B-v0.3", "mistral", 32, 4096, 32, 8, 128, 14336, 32768, False),
    ("google/gemma-2-9b", "gemma2", 42, 3584, 16, 8, 256, 14336, 256000, True),
)


def architecture(model: str | Path) -> Architecture:
    """The shape of a known model or of a folder with a `config.json`.

    A copy of a known model is known by the last part of its name without the usual endings:
    `unsloth/mistral-7b-v0.3-bnb-4bit` has the shape of `mistralai/Mistral-7B-v0.3`.

    Args:
        model: a Hub id, or a folder.
    Returns:
        Layers, widths, heads and vocabulary.
    Raises:
        ValueError: if it is neither, naming what is known.

    >>> architecture("unsloth/Qwen2.5-7B-Instruct-bnb-4bit").name
    'Qwen/Qwen2.5-7B'
    """
    config = Path(model) / "config.json"
    if str(model) and config.is_file():
        return _from_config(json.loads(config.read_text(encoding="utf-8")), Path(model).name)
    known = {_short(name): shape for name, shape in MODELS.items()}
    shape = known.get(_short(str(model)))
    if shape is None:
        raise ValueError(
            f"unknown model {str(model)!r}; expected a folder with a config.json, or one of "
            f"{', '.join(MODELS)}"
        )
    return shape


def _short(name: str) -> str:
    return _ENDING.sub("", name.rstrip("/").rsplit("/", 1)[-1].lower().removeprefix("meta-"))


def _from_config(config: dict, name: str) -> Architecture:
    family = config.get("model_type")
    if family not in MODEL_TYPES:
        raise ValueError(
            f"model_type {family!r} in the config of {name}; expected one of "
            f"{', '.join(MODEL_TYPES)}"
        )
    needed = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    if missing := [key for key in (*needed, "vocab_size") if key not in config]:
        raise ValueError(f"the config of {name} lacks {', '.join(missing)}: not a decoder's config")
    layers, hidden, heads, intermediate = (config[key] for key in needed)
    return Architecture(
        name=name, family=family, layers=layers, hidden=hidden, heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or hidden // heads,
        intermediate=intermediate, vocab=config["vocab_size"],
        # configs leave out what is their family's default
        tied=config.get("tie_word_embeddings", family == "gemma2"),
    )  # fmt: skip
