"""Sampling on a CPU: the engine of `postlab.sampling` against the model's own `generate`.

    python bench/rollouts.py --rounds 10

In one process, in turns, each round both sides draw the completions of the same prompts, in groups
of eight, at temperature 1 with real stopping; a ratio is of tokens a second, and what is given is
its median over the rounds with the smallest and the largest. Reading the weights (adapters merged)
is counted. Before any timing, greedy tokens have to be equal and log-probs within 1e-4.

`roofline` is the least time that the engine's work could take on this machine, by the matrix
product's and the memory's speed measured here, over the time it took: each step reads all weights
and the keys and values so far, and multiplies every row that has not ended.

Left out: GPUs, where Unsloth's or vLLM's engine is used instead, and training.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
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

ROOT = Path(__file__).resolve().parents[1]
GROUP = 8
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


def case(name: str, rounds: int, speed: dict[str, float]) -> dict[str, Any]:
    which, adapter, sequences, new_tokens, bar = CASES[name]
    model, tokenizer = loaded(which, adapter)
    prompts, stop = asked(tokenizer, sequences), tokenizer.eos_token_id
    off = check(model, prompts, new_tokens, stop)
    ratios, fractions, both = [], [], []
    for turn in range(rounds):
        torch.manual_seed(turn)
        sides = [
            partial(by_generate, model, prompts, new_tokens, stop),
            lambda: by_engine(model, prompts, new_tokens, stop)[0],
        ]
        found = [timed(side) for side in (sides if turn % 2 == 0 else sides[::-1])]
        theirs, ours = found if turn % 2 == 0 else found[::-1]
        rates = [sum(map(len, answers)) / seconds for seconds, answers in (theirs, ours)]
        both.append(rates)
        ratios.append(rates[1] / rates[0])
        fractions.append(least_seconds(model, prompts, ours[1], speed) / ours[0])
    return {
        "sequences": sequences,
        "tokens_a_second": {
            side: round(statistics.median(rates[i] for rates in both))
            for i, side in enumerate(("generate", "ours"))
        },
        "ratio": round(statistics.median(ratios), 2),
        "ratio_low_high": [round(min(ratios), 2), round(max(ratios), 2)],
        "bar": bar,
        "roofline": round(statistics.median(fractions), 2),
        "largest_logp_difference": off,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", choices=CASES, help="measure this case, keep the others' record")
    parser.add_argument("--out", type=Path, default=ROOT / "data/results/bench/rollouts.json")
    args = parser.parse_args()
    cases = json.loads(args.out.read_text())["cases"] if args.out.exists() else {}
    for name in [args.only] if args.only else CASES:
        speed = machine()
        packages = ("torch", "transformers", "peft")
        made_by = provenance(
            f"python bench/rollouts.py --rounds {args.rounds}", seeds=[0], packages=packages
        )
        made = {"machine": speed, "provenance": made_by}
        cases[name] = case(name, args.rounds, speed) | made
        print(name, json.dumps(cases[name]), flush=True)
        args.out.write_text(json.dumps({"cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
