"""Sampling on a CPU: the engine of `postlab.sampling`, the model's own `generate`, CTranslate2.

    python bench/rollouts.py --rounds 10            # pip install "postlab[race]" for CTranslate2

In one process, in turns, each round every side draws the completions of the same prompts, in groups
of eight, at temperature 1 with real stopping. A ratio is of tokens a second, round by round; given
is the geometric mean over the rounds with a 95% interval (Student's t on the logarithms). Our side
reads the weights in every round (adapters merged), as a step of GRPO has to. CTranslate2 converts
them once, outside the rounds, which suits weights that stand still; what that takes is given as
`convert_s`, and `break_even` is the number of tokens from which it has paid for itself.

CTranslate2 isn't postlab's engine for fixed weights. An evaluation seeds each answer, which
CTranslate2 can't, and when it ends the conversion has hardly been paid for (see `break_even`).

Before any timing, our greedy tokens have to be equal to `generate`'s and log-probs within 1e-4. For
CTranslate2 the share of equal greedy answers is given, in fp32 and in int8.

`--clock cpu` counts CPU seconds instead of the wall's, for a machine that others use as well; set
OMP_NUM_THREADS=1 then, because waiting threads would count.

`roofline` is the least time that the engine's work could take on this machine, by the matrix
product's and the memory's speed measured here, over the time it took: each step reads all weights
and the keys and values so far, and multiplies every row that has not ended.

Left out: GPUs, where Unsloth's or vLLM's engine is used instead, and training.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch

from postlab.course import provenance
from postlab.lab import Lab
from postlab.models import load_policy
from postlab.profile import get_profile
from postlab.sampling import draw, read_policy, render
from postlab.tinyworld.tasks import heldout_suite

sys.path.insert(0, str(Path(__file__).resolve().parent))
from roofline import machine, timed  # noqa: E402
from sides import CLOCKS  # noqa: E402
from steps import paired_ratio  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
GROUP = 8
KINDS = ("float32", "int8")
CASES = {  # model, adapter kept apart, sequences, new tokens, the bar of the ratio
    "tiny, adapter": ("tiny", True, 64, 64, 3.0),
    "tiny, merged": ("tiny", False, 64, 64, 3.0),
    "SmolLM2-135M, 8": ("smol", False, 8, 64, 2.5),
    "SmolLM2-135M, 32": ("smol", False, 32, 64, 2.0),
}


def loaded(which: str, adapter: bool) -> tuple[Any, Any]:
    if which == "smol":
        return load_policy("smol", profile="smol", bits=32)
    place = Lab(get_profile("tiny"), 0).checkpoint("dpo")
    policy, tokenizer = load_policy(place, profile="tiny", bits=32)
    return (policy if adapter else policy.merge_and_unload()), tokenizer


def asked(tokenizer: Any, sequences: int) -> list[list[int]]:
    """Prompts of held-out sums, each once for every answer of its group."""
    rows = [row for row in heldout_suite(n=sequences // GROUP) if row["family"] == "arithmetic"]
    texts = [render(tokenizer, row["prompt"]) for row in rows[: sequences // GROUP]]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return [prompt for prompt in ids for _ in range(GROUP)]


def by_generate(
    model: Any, prompts: list[list[int]], new_tokens: int, stop: int, *, greedy: bool = False
) -> list[list[int]]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    luck = {"do_sample": False} if greedy else {"do_sample": True, "top_k": 0, "top_p": 1.0}
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=new_tokens,
            temperature=1.0,
            pad_token_id=0,
            eos_token_id=stop,
            **luck,
        )
    answers = out[:, width:].tolist()
    return [one[: one.index(stop) + 1] if stop in one else one for one in answers]


def by_engine(
    model: Any,
    prompts: list[list[int]],
    new_tokens: int,
    stop: int,
    *,
    greedy: bool = False,
    temperature: float | None = None,
) -> tuple[list[list[int]], list[list[float]]]:
    engine = read_policy(model, max(map(len, prompts)) + new_tokens)
    assert engine is not None, "this model would be left to generate: there is nothing to measure"
    pick = (lambda x, rows: x.argmax(-1)) if greedy else (lambda x, rows: draw(x, 1.0))
    return engine.decode(
        prompts, new_tokens=new_tokens, stops={stop}, draw=pick, temperature=temperature
    )


def check(model: Any, prompts: list[list[int]], new_tokens: int, stop: int) -> float:
    """The largest difference of a log-prob; greedy tokens must be equal."""
    ours, logps = by_engine(model, prompts, new_tokens, stop, greedy=True, temperature=1.0)
    theirs = by_generate(model, prompts, new_tokens, stop, greedy=True)
    assert ours == theirs, "greedy tokens differ from generate's"
    worst = 0.0
    for prompt, answer, found in list(zip(prompts, ours, logps, strict=True))[::GROUP]:
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        own = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
        worst = max(worst, float((own - torch.tensor(found)).abs().max()))
    assert worst <= 1e-4, f"a log-prob is {worst} off"
    return worst


class CTranslate2:
    """A policy in CTranslate2's own format, in one number type.

    It draws with a generator of its own for all answers together, so an answer's luck depends on
    its neighbours in the batch.
    """

    def __init__(self, folder: str, kind: str, tokenizer: Any) -> None:
        import ctranslate2

        threads = torch.get_num_threads()
        self.generator = ctranslate2.Generator(
            folder, device="cpu", compute_type=kind, intra_threads=threads, inter_threads=1
        )
        self.tokenizer = tokenizer

    def __call__(
        self, prompts: list[list[int]], new_tokens: int, stop: int, *, greedy: bool = False
    ) -> list[list[int]]:
        results = self.generator.generate_batch(
            [self.tokenizer.convert_ids_to_tokens(prompt) for prompt in prompts],
            max_length=new_tokens,
            sampling_topk=1 if greedy else 0,
            include_prompt_in_result=False,
            end_token=[stop],
            return_end_token=True,
        )
        return [result.sequences_ids[0] for result in results]


def converted(model: Any, tokenizer: Any, folder: str) -> str:
    """The model's weights as they are now, in CTranslate2's format; returns its folder."""
    from ctranslate2.converters import TransformersConverter

    # The converter wants names for two tokens that the tiny model doesn't use.
    spare = tokenizer.convert_ids_to_tokens(0)
    for name in ("bos_token", "unk_token"):
        if getattr(tokenizer, name) is None:
            setattr(tokenizer, name, spare)
    model.save_pretrained(f"{folder}/plain")
    tokenizer.save_pretrained(f"{folder}/plain")
    return TransformersConverter(f"{folder}/plain").convert(f"{folder}/converted")


def least_seconds(model: Any, prompts: list, answers: list, speed: dict[str, float]) -> float:
    """What the steps of these answers need at the least, the first fill-in included."""
    config = model.config
    weights = sum(p.numel() for name, p in model.named_parameters() if "lora_" not in name)
    embedded = 0 if config.tie_word_embeddings else config.vocab_size * config.hidden_size
    multiplied = weights - embedded  # a tied embedding is multiplied once, as the head
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * size * 4  # bytes a token
    distinct = {tuple(prompt): len(prompt) for prompt in prompts}

    def step(rows: int, held: int) -> float:
        products = 2 * multiplied * rows / speed["gflops"]
        return max(products, (4 * multiplied + cached * held) / speed["gbytes"]) / 1e9

    total = step(sum(distinct.values()), 0)
    for t in range(1, max(map(len, answers))):
        alive = [len(p) + t for p, answer in zip(prompts, answers, strict=True) if len(answer) > t]
        total += step(len(alive), sum(alive))
    return total


def case(
    name: str, rounds: int, speed: dict[str, float], clock: Callable[[], float]
) -> dict[str, Any]:
    which, adapter, sequences, new_tokens, bar = CASES[name]
    model, tokenizer = loaded(which, adapter)
    prompts, stop = asked(tokenizer, sequences), tokenizer.eos_token_id
    off = check(model, prompts, new_tokens, stop)
    sides: dict[str, Callable[[], list[list[int]]]] = {
        "generate": partial(by_generate, model, prompts, new_tokens, stop),
        "ours": lambda: by_engine(model, prompts, new_tokens, stop)[0],
    }
    extra: dict[str, Any] = {}
    with ExitStack() as stack:
        if importlib.util.find_spec("ctranslate2") and not adapter:
            greedy = by_engine(model, prompts, new_tokens, stop, greedy=True)[0]
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            convert_s, folder = timed(lambda: converted(model, tokenizer, folder), clock)
            extra = {"convert_s": round(convert_s, 2), "greedy_equal": {}}
            for kind in KINDS:
                side = CTranslate2(folder, kind, tokenizer)
                answers = side(prompts, new_tokens, stop, greedy=True)
                equal = [a == b for a, b in zip(answers, greedy, strict=True)]
                extra["greedy_equal"][f"ctranslate2 {kind}"] = sum(equal) / len(equal)
                sides[f"ctranslate2 {kind}"] = partial(side, prompts, new_tokens, stop)
        rates: dict[str, list[float]] = {side: [] for side in sides}
        fractions = []
        for turn in range(-1, rounds):  # the first round only warms up
            torch.manual_seed(turn)
            for side in list(sides)[:: 1 if turn % 2 else -1]:
                seconds, answers = timed(sides[side], clock)
                if turn >= 0:
                    rates[side].append(sum(map(len, answers)) / seconds)
                if turn >= 0 and side == "ours":
                    fractions.append(least_seconds(model, prompts, answers, speed) / seconds)
    pace = {side: statistics.median(some) for side, some in rates.items()}
    if extra:
        extra["ratio_to_ours"] = {
            side: interval(rates[side], rates["ours"]) for side in sides if " " in side
        }
        extra["break_even"] = break_even(convert_s, pace["ctranslate2 float32"], pace["ours"])
    ratio = interval(rates["ours"], rates["generate"])
    return {
        "sequences": sequences,
        "tokens_a_second": {side: round(rate) for side, rate in pace.items()},
        "ratio": ratio[0],
        "ratio_interval": ratio[1:],
        "bar": bar,
        "roofline": round(statistics.median(fractions), 2),
        "largest_logp_difference": off,
    } | extra


def interval(ours: list[float], theirs: list[float]) -> list[float]:
    """Mean ratio of rates round by round, and its 95% interval."""
    found = paired_ratio(ours, theirs)
    return [round(value, 2) for value in (found.ratio, found.low, found.high)]


def break_even(convert_s: float, theirs: float, ours: float) -> int | None:
    """Tokens from which converting has paid for itself; None if it never does.

    >>> break_even(1.0, 200.0, 100.0)
    200
    """
    gain = 1 / ours - 1 / theirs  # seconds a token
    return math.ceil(convert_s / gain) if gain > 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", choices=CASES, help="measure this case, keep the others' record")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="seconds of what")
    parser.add_argument("--out", type=Path, default=ROOT / "data/results/bench/rollouts.json")
    args = parser.parse_args()
    if args.rounds < 2:
        parser.error("expected --rounds of 2 or more: an interval needs two")
    cases = json.loads(args.out.read_text())["cases"] if args.out.exists() else {}
    for name in [args.only] if args.only else CASES:
        speed = machine(CLOCKS[args.clock])
        packages = ("torch", "transformers", "peft")
        if importlib.util.find_spec("ctranslate2"):
            packages += ("ctranslate2",)
        command = f"python bench/rollouts.py --rounds {args.rounds} --clock {args.clock}"
        made = {"machine": speed, "clock": args.clock, "threads": torch.get_num_threads()}
        made["provenance"] = provenance(command, seeds=[0], packages=packages)
        cases[name] = case(name, args.rounds, speed, CLOCKS[args.clock]) | made
        print(name, json.dumps(cases[name]), flush=True)
        args.out.write_text(json.dumps({"cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
