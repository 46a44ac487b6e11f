"""One side of the comparison, in a process of its own: `python side.py trl|unsloth FOLDER`.

Writes FOLDER/measured.json and FOLDER/tensors.safetensors. A part that fails is reported with its
traceback in place of its figures, and the other parts go on.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def main(side: str, folder: Path) -> None:
    report: dict[str, Any] = {"failed": {}}

    def part(name: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        try:
            return work()
        except Exception:
            report["failed"][name] = traceback.format_exc()
        finally:
            print(f"{name}: {time.process_time() - began:.1f} s of CPU time", flush=True)

    if side == "unsloth":
        import no_gpu

        no_gpu.load_unsloth(folder)
        part("trainers", no_gpu.generate_trainers)
    import configurations

    report["configurations"] = part("configurations", configurations.configurations)
    if side == "unsloth":
        import kernel_checks

        part("stubs", no_gpu.stand_in_for_cuda)
        launched = part("stubs", no_gpu.record_kernels)
        report["kernels"] = part("kernels", kernel_checks.measure)
        launched.clear()
    import policies
    from safetensors.torch import save_file

    measure = partial(policies.measure, side == "unsloth", folder, part)
    tensors = part("policies", measure) or {}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "tensors.safetensors")
    if side == "unsloth":
        report["launched"] = sorted(launched)
    (folder / "measured.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
