"""The README's moving picture, from recorded runs: `python notebooks/experiments/front.py`.

On the left, the stages of the embedded model, the mean of all recorded seeds and a dot per seed. On
the right, a GRPO run that was paid for short answers as well: its reward rises, and what the doctor
finds in the log says why that is no success. The file's comment is a digest of the records, so a
test sees when it is out of date.
"""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from postlab.claims import INK, STAGE_COLOURS, metric_label, stage_label
from postlab.doctor import diagnose

ROOT = Path(__file__).resolve().parents[2]
SUMMARY = ROOT / "data" / "results" / "tiny" / "summary.json"
LOGS = ROOT / "data" / "results" / "week08" / "logs" / "tuning.json"
TARGET = ROOT / ".github" / "front.gif"
RUN = "paid-by-brevity"
STAGES = ("base", "sft", "dpo", "grpo")
METRICS = ("facts", "safety", "honesty", "arithmetic")
STEP_MS, HOLD_MS = 120, 2500
REWARDS = {  # as the log names them: the label, and its colour, which stands for no stage
    "reward": ("reward that is trained", INK),
    "rewards/math_reward/mean": ("sums that are right", "#b03060"),
}


def digest() -> str:
    """Of the two records."""
    return hashlib.sha256(SUMMARY.read_bytes() + LOGS.read_bytes()).hexdigest()[:16]


def stage_values() -> dict[str, dict[str, list[float]]]:
    """{metric: {stage: a value per seed}}, in percent."""
    stages = json.loads(SUMMARY.read_text(encoding="utf-8"))["stages"]
    return {
        metric: {
            name: [100 * s["metrics"][metric]["value"] for s in stages if s["name"] == name]
            for name in STAGES
        }
        for metric in METRICS
    }


def failing_log() -> list[dict[str, float]]:
    """The log of the run on the right, one dict per logged step."""
    steps = json.loads(LOGS.read_text(encoding="utf-8"))[RUN]["steps"]
    return [dict(zip(steps, row, strict=True)) for row in zip(*steps.values(), strict=True)]


def draw(stages: int, steps: int, finding: bool) -> Image.Image:
    """One frame: so many stages on the left, so many logged steps on the right."""
    values, log = stage_values(), failing_log()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), dpi=80)
    for x, metric in enumerate(METRICS):
        for shown, stage in enumerate(STAGES[:stages]):
            at = x + 0.2 * (shown - 1.5)
            seeds = values[metric][stage]
            mean = sum(seeds) / len(seeds)
            left.bar(at, max(mean, 0.8), 0.17, color=STAGE_COLOURS[stage], alpha=0.85)
            left.scatter([at] * len(seeds), seeds, s=7, color=INK, zorder=3, linewidths=0)
    handles = [plt.Rectangle((0, 0), 1, 1, color=STAGE_COLOURS[s]) for s in STAGES]
    left.legend(
        handles, map(stage_label, STAGES), ncols=4, frameon=False, loc="upper left", fontsize=9
    )
    left.set_xticks(range(len(METRICS)), [metric_label(m).split(",")[0] for m in METRICS])
    left.set(ylim=(0, 119), ylabel="% of held-out prompts", yticks=range(0, 101, 25))
    left.set_title("One model, each stage measured", loc="left", fontsize=12)
    for name, (label, colour) in REWARDS.items():
        line = [entry[name] for entry in log[:steps]]
        right.plot(range(1, len(line) + 1), line, color=colour, lw=2)
        if line:
            right.annotate(
                label, (len(line), line[-1]), xytext=(0, 7), textcoords="offset points",
                color=colour, ha="right", fontsize=9,
            )  # fmt: skip
    right.set(xlim=(1, len(log) + 0.5), ylim=(0, 1.19), xlabel="GRPO step", ylabel="mean reward")
    right.set_xticks(range(5, len(log) + 1, 5))
    right.set_title("A run that looks fine, and isn't", loc="left", fontsize=12)
    if finding:
        found = diagnose(log)[0]
        text = textwrap.fill(f"{found.code}: {found.evidence}", 58)
        right.text(
            0.03, 0.44, "postlab doctor\n" + text, transform=right.transAxes, fontsize=8.5,
            family="monospace", va="center",
            bbox={"boxstyle": "round,pad=0.5", "fc": "#fff4e5", "ec": INK},
        )  # fmt: skip
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    note = "recorded runs of the embedded model, one dot per seed: mechanism, not capability"
    figure.text(0.01, 0.012, note, fontsize=8, color="#555555")
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.canvas.draw()
    image = Image.frombytes("RGBA", figure.canvas.get_width_height(), figure.canvas.buffer_rgba())
    plt.close(figure)
    return image.convert("RGB").quantize(48)


def main() -> None:
    """Draw the frames and write the file."""
    length = len(failing_log())
    frames = [(draw(n, 0, False), 800) for n in range(1, len(STAGES) + 1)]
    frames += [(draw(len(STAGES), n, False), STEP_MS) for n in range(2, length + 1)]
    frames.append((draw(len(STAGES), length, True), 2 * HOLD_MS))
    images, times = zip(*frames, strict=True)
    TARGET.parent.mkdir(exist_ok=True)
    images[0].save(
        TARGET, save_all=True, append_images=images[1:], duration=list(times), loop=0,
        optimize=True, comment=digest().encode(),
    )  # fmt: skip
    print(TARGET.relative_to(ROOT), TARGET.stat().st_size // 1024, "KB")


if __name__ == "__main__":
    main()
