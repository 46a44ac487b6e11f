"""Every loss against TRL's trainers, value and gradient, on a random two-layer Llama in float64.

Theirs is what `training_step` returns, and the gradients it leaves on the model, with the trainer's
own tokens, masks, log-probs, advantages and accumulation. Ours is computed from the logits of a
model of the same weights. Run as a script, it prints the errors as a table.

Two of TRL's numbers are float32 whatever the model is: the logits of an SFT loss, and rewards.
Unsloth replaces parts of these trainers, so nothing here may import it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_model import build_tiny
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

from postlab.scratch.losses import (
    bradley_terry_loss,
    clipped_policy_loss,
    dpo_loss,
    entropy,
    group_advantages,
    kl_estimate,
    masked_mean,
    masked_sum,
    reduce_token_loss,
    sft_loss,
    token_logps,
)

CPU = dict(use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", seed=0)
ASKED = ["What is 1 + 2?", "Tea?", "Sort the list 3, 1, 2.", "What is 19 + 12? Work it out."]
GOOD = ["3.", "Boil water. The answer is tea, tea, tea.", "1, 2, 3.", "19 + 12 = 31."]
BAD = ["I do not know what 1 + 2 is.", "No.", "3.", "The answer is 13. I cannot help with that."]


@dataclass(frozen=True)
class Parity:
    """The largest absolute differences, and the largest gradient, to see that there is one."""

    value: float
    gradient: float | None  # None: a constant, through which none flows
    reach: float | None = None


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def pairs(**columns: list) -> Dataset:
    rows = zip(ASKED, GOOD, BAD, strict=True)
    texts = [[said("user", a), said("assistant", g), said("assistant", b)] for a, g, b in rows]
    names = ("prompt", "chosen", "rejected")
    return Dataset.from_dict({**dict(zip(names, zip(*texts, strict=True), strict=True)), **columns})


def shake(model: nn.Module, *, by: float, seed: int) -> nn.Module:
    """Move every weight a little: as good as a training step, for there is something to find."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += by * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return model


def build(folder: Path) -> Path:
    """A language model ("policy"), another ("ref") and a reward model ("scorer"), in float64."""
    tiny = build_tiny(folder / "tiny", hidden=32, layers=2)
    kinds = {"policy": AutoModelForCausalLM, "ref": AutoModelForCausalLM}
    kinds |= {"scorer": AutoModelForSequenceClassification}
    for seed, (name, kind) in enumerate(kinds.items()):
        options = {"num_labels": 1} if name == "scorer" else {}
        model = kind.from_pretrained(tiny, dtype=torch.float64, **options)
        shake(model, by=0.2, seed=seed).save_pretrained(folder / name)
        AutoTokenizer.from_pretrained(tiny).save_pretrained(folder / name)
    return folder


def load(folder: Path, *, kind: Any = AutoModelForCausalLM) -> nn.Module:
    return kind.from_pretrained(folder, dtype=torch.float64)


def make(trainer: Any, config: Any, folder: Path, data: Dataset, model: Any, **options: Any) -> Any:
    """A trainer as a notebook would make it; the rest of the config goes in as `options`."""
    own = {k: options.pop(k) for k in ("ref_model", "reward_funcs", "rollout_func") if k in options}
    return trainer(
        model=model,
        args=config(output_dir=str(folder / "out"), **CPU, **options),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder / "policy"),
        **own,
    )


def step(trainer: Any, batches: list, items: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
    """One optimizer step of the trainer: its loss and gradient, over all its micro-batches."""
    trainer.current_gradient_accumulation_steps = len(batches)  # as its inner loop does
    trainer.model.zero_grad()
    copies = [dict(batch) if hasattr(batch, "keys") else batch for batch in batches]
    losses = [trainer.training_step(trainer.model, batch, items) for batch in copies]
    named = trainer.model.named_parameters()
    return torch.stack(losses).sum(), {name: weight.grad.clone() for name, weight in named}


def compare(loss: Tensor, model: nn.Module, theirs: tuple[Tensor, dict[str, Tensor]]) -> Parity:
    """Our loss, a function of `model`, against a trainer's step."""
    assert loss.dtype == torch.float64
    weights = dict(model.named_parameters())
    grads = torch.autograd.grad(loss, list(weights.values()), retain_graph=True)
    ours = dict(zip(weights, grads, strict=True))
    assert set(ours) == set(theirs[1])
    errors = [(ours[name] - grad).abs().max() for name, grad in theirs[1].items()]
    reach = max(float(grad.abs().max()) for grad in ours.values())
    return Parity(float((loss.detach() - theirs[0]).abs()), float(max(errors)), reach)


# --- SFT ------------------------------------------------------------------------------------------


def sft_trainer(folder: Path, *, batch: int) -> tuple[SFTTrainer, list[dict], Any]:
    """The trainer, its micro-batches of four rows, and their number of trained tokens."""
    turns = [(said("user", a), said("assistant", g)) for a, g in zip(ASKED, GOOD, strict=True)]
    data = Dataset.from_dict(
        dict(zip(("prompt", "completion"), zip(*turns, strict=True), strict=True))
    )
    count = len(data) // batch
    options = dict(per_device_train_batch_size=batch, gradient_accumulation_steps=count)
    trainer = make(SFTTrainer, SFTConfig, folder, data, load(folder / "policy"), **options)
    batches = iter(trainer.get_train_dataloader())
    return trainer, *trainer.get_batch_samples(batches, count, torch.device("cpu"))


def sft_tokens(model: nn.Module, batches: list[dict]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Logits, labels and mask of each micro-batch, aligned."""
    for batch in batches:
        out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        labels = batch["labels"][:, 1:]
        yield out.logits[:, :-1], labels, labels != -100


def sft(folder: Path, *, batch: int) -> Parity:
    trainer, batches, items = sft_trainer(folder, batch=batch)
    model = load(folder / "policy")
    parts = zip(*sft_tokens(model, batches), strict=True)  # one row of all tokens of all batches
    logits, labels, mask = (torch.cat([x.flatten(0, 1) for x in part])[None] for part in parts)
    return compare(sft_loss(logits, labels, mask), model, step(trainer, batches, items))


def test_the_mean_of_means_is_what_the_trainer_would_have_without_the_number_of_tokens(world: Path):
    trainer, batches, items = sft_trainer(world, batch=2)
    model = load(world / "policy")
    parts = list(sft_tokens(model, batches))
    assert len({int(mask.sum()) for *_, mask in parts}) == 2  # unequal, or there is nothing to see
    means = torch.stack([sft_loss(*part) for part in parts]).mean()
    assert compare(means, model, step(trainer, batches)).value <= 1e-5
    wrong = compare(means, model, step(trainer, batches, items))
    assert wrong.value > 1e-3 and wrong.gradient > 1e-3


# --- reward model ---------------------------------------------------------------------------------


def reward_model(folder: Path, *, margin: list[float] | None) -> Parity:
    kind = AutoModelForSequenceClassification
    model, scorer = (load(folder / "scorer", kind=kind) for _ in range(2))
    data = pairs() if margin is None else pairs(margin=margin)
    options = dict(per_device_train_batch_size=4)
    trainer = make(RewardTrainer, RewardConfig, folder, data, scorer, **options)
    (batch,) = trainer.get_train_dataloader()
    given = {"margin": batch.get("margin")}
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    chosen, rejected = model(**inputs).logits.squeeze(-1).chunk(2)
    loss = bradley_terry_loss(chosen, rejected, **given).mean()
    assert (given["margin"] is None) == (margin is None)
    return compare(loss, model, step(trainer, [batch]))


# --- DPO ------------------------------------------------------------------------------------------


def dpo(folder: Path, *, theirs: str, batch: int = 4, beta: float = 0.3, **ours: Any) -> Parity:
    """`theirs` is TRL's loss_type. Reference and policy differ, or the margin would be 0."""
    model, policy, ref = (load(folder / name) for name in ("policy", "policy", "ref"))
    options = dict(loss_type=[theirs], beta=beta, label_smoothing=ours.get("label_smoothing", 0.0))
    options |= dict(per_device_train_batch_size=batch, gradient_accumulation_steps=4 // batch)
    trainer = make(DPOTrainer, DPOConfig, folder, pairs(), policy, ref_model=ref, **options)
    batches, losses = list(trainer.get_train_dataloader()), []
    for inputs in batches:
        tokens = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        mask, labels = inputs["completion_mask"][:, 1:], inputs["input_ids"][:, 1:]
        reduced = masked_mean if ours.get("kind") == "ipo" else masked_sum
        given = {}
        for name, net in (("policy", model), ("ref", ref)):
            logps = token_logps(net(**tokens).logits[:, :-1], labels)
            sequences = reduced(logps, mask, dim=1).chunk(2)
            given |= {f"{name}_chosen": sequences[0], f"{name}_rejected": sequences[1]}
        losses.append(dpo_loss(**given, beta=beta, **ours).mean())
    return compare(torch.stack(losses).mean(), model, step(trainer, batches))


# --- GRPO -----------------------------------------------------------------------------------------

GROUP, ROWS = 4, 4  # answers to a prompt; answers in a micro-batch, of which there are two


def answers(prompts: list, trainer: GRPOTrainer) -> dict[str, Any]:
    """Random completions of one to eight tokens instead of sampled ones: the lengths differ."""
    generator = torch.Generator().manual_seed(len(prompts))
    lengths = torch.randint(1, 9, (len(prompts),), generator=generator).tolist()
    drawn = [torch.randint(3, 60, (n,), generator=generator).tolist() for n in lengths]
    asked = trainer.processing_class([p[-1]["content"] for p in prompts])["input_ids"]
    return {"prompt_ids": asked, "completion_ids": drawn, "logprobs": None}


def sums(completion_ids: list[list[int]], dull: list[bool], **_: Any) -> list[float]:
    """A reward with no meaning; the same for all answers to a dull prompt."""
    return [0.5 if b else sum(ids) % 5 / 4 for ids, b in zip(completion_ids, dull, strict=True)]


def grpo_trainer(folder: Path, **options: Any) -> tuple[GRPOTrainer, list[dict]]:
    """The trainer, and its generation batch: two prompts, eight answers, two micro-batches."""
    columns = {"prompt": [said("user", a) for a in ASKED[:2]], "dull": [False, False]}
    data = Dataset.from_dict(columns | options.pop("columns", {}))
    options = (
        dict(loss_type="grpo", epsilon=0.1, epsilon_high=0.3, max_completion_length=11) | options
    )
    options |= dict(per_device_train_batch_size=ROWS, gradient_accumulation_steps=2)
    options |= dict(
        num_generations=GROUP, num_iterations=2, reward_funcs=sums, rollout_func=answers
    )
    options |= dict(model_init_kwargs={"dtype": "auto"})  # by path: it loads its reference itself
    trainer = make(GRPOTrainer, GRPOConfig, folder, data, str(folder / "policy"), **options)
    trainer.model.train()
    return trainer, next(iter(trainer.get_train_dataloader()))


def off_policy_step(trainer: GRPOTrainer, batch: list[dict]) -> tuple[nn.Module, tuple]:
    """Its second pass over the samples, after an update; with a model of the same weights."""
    step(trainer, [batch, batch])  # generates, keeps the log-probs, and is on policy
    shake(trainer.model, by=0.02, seed=9)
    model = load(trainer.model.config._name_or_path)
    model.load_state_dict(trainer.model.state_dict())
    return model, step(trainer, [batch, batch])


def completion_logits(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    ids, mask = (
        torch.cat([batch[f"{part}_{name}"] for part in ("prompt", "completion")], dim=1)
        for name in ("ids", "mask")
    )
    first = batch["prompt_ids"].shape[1] - 1  # this one's logits predict the first token
    return model(input_ids=ids, attention_mask=mask).logits[:, first:-1]


def grpo(
    folder: Path,
    *,
    how: str,
    beta: float = 0.0,
    entropy_coef: float = 0.0,
    use_bias_correction_kl: bool = True,
) -> Parity:
    """One optimizer step over two micro-batches, off policy."""
    options = dict(loss_type=how, beta=beta, entropy_coef=entropy_coef)
    options |= dict(use_bias_correction_kl=use_bias_correction_kl)
    trainer, generation = grpo_trainer(folder, **options)
    model, theirs = off_policy_step(trainer, generation)
    losses, shares = [], []
    for batch in trainer._buffered_inputs:
        logits, mask = completion_logits(model, batch), batch["completion_mask"]
        logps = token_logps(logits, batch["completion_ids"])
        adv, old = batch["advantages"].double(), batch["old_per_token_logps"]
        loss, clipped = clipped_policy_loss(logps, old, adv, clip_low=0.1, clip_high=0.3)
        if beta:
            kl = kl_estimate(logps, batch["ref_per_token_logps"], kind="k3")
            loss = loss + beta * kl * ((logps - old).exp() if use_bias_correction_kl else 1)
        given = {"max_length": 11, "num_tokens": batch["num_items_in_batch"]}
        part = reduce_token_loss(loss, mask, how=how, **given)
        part = part if how == "dapo" else part / 2  # dapo's parts add up, the others' are averaged
        losses.append(part - entropy_coef * masked_mean(entropy(logits), mask) / 2)
        shares.append(float(masked_mean(clipped.double(), mask)))
    seen = trainer._metrics["train"]["clip_ratio/region_mean"][-2:]
    assert shares == pytest.approx(seen, abs=1e-6) and 0.05 < min(shares) <= max(shares) < 0.95
    return compare(torch.stack(losses).sum(), model, theirs)


def advantages(folder: Path, *, scale: str) -> Parity:
    """Three groups, one of which is silent, in the order they were made in."""
    columns = {"prompt": [said("user", a) for a in ASKED], "dull": [False, False, True, False]}
    trainer, _ = grpo_trainer(folder, columns=columns, scale_rewards=scale)
    rows = [row for row in trainer.train_dataset for _ in range(GROUP)]
    found = trainer._generate_and_score_completions(rows)
    made = zip(found["completion_ids"], found["completion_mask"], strict=True)
    rewards = sums([ids[m.bool()].tolist() for ids, m in made], [row["dull"] for row in rows])
    ours = group_advantages(torch.tensor(rewards, dtype=torch.float64), GROUP, scale=scale)
    assert ours.view(-1, GROUP).abs().amax(1).gt(0.1).tolist() == [True, True, False, True]
    return Parity(float((ours - found["advantages"]).abs().max()), None)


# --- the table ------------------------------------------------------------------------------------

Case = tuple[str, Callable[[Path], Parity]]
CASES: dict[str, Case] = {
    "sft_loss": ("SFTTrainer", partial(sft, batch=4)),
    "sft_loss, accumulated over unequal lengths": ("SFTTrainer", partial(sft, batch=2)),
    "bradley_terry_loss": ("RewardTrainer", partial(reward_model, margin=None)),
    "bradley_terry_loss, margin": ("RewardTrainer", partial(reward_model, margin=[1, 0.5, 2, 0])),
    "dpo_loss, sigmoid": ("DPOTrainer, sigmoid", partial(dpo, theirs="sigmoid")),
    # TRL's sigmoid ignores label_smoothing. Its aot does not, and sorts the log-ratios of a batch:
    # in a batch of one pair there is nothing to sort, and aot is cDPO.
    "dpo_loss, sigmoid, label_smoothing": (
        "DPOTrainer, aot, one pair a batch",
        partial(dpo, theirs="aot", batch=1, label_smoothing=0.2),
    ),
    "dpo_loss, ipo": ("DPOTrainer, ipo", partial(dpo, theirs="ipo", kind="ipo")),
    "dpo_loss, hinge": ("DPOTrainer, hinge", partial(dpo, theirs="hinge", kind="hinge")),
    **{
        f"group_advantages, {scale}": ("GRPOTrainer", partial(advantages, scale=scale))
        for scale in ("group", "batch", "none")
    },
    **{
        f"clipped_policy_loss, reduce_token_loss {how}": ("GRPOTrainer", partial(grpo, how=how))
        for how in ("grpo", "bnpo", "dapo", "dr_grpo")
    },
    "kl_estimate, k3": (
        "GRPOTrainer, beta, use_bias_correction_kl=False",
        partial(grpo, how="grpo", beta=0.5, use_bias_correction_kl=False),
    ),
    "kl_estimate, k3 times the ratio": (
        "GRPOTrainer, beta",
        partial(grpo, how="grpo", beta=0.5),
    ),
    "entropy": ("GRPOTrainer, entropy_coef", partial(grpo, how="grpo", entropy_coef=0.5)),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("losses"))


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_equal_the_library(world: Path, name: str):
    found = CASES[name][1](world)
    assert found.value <= 1e-5
    assert found.gradient is None or (found.gradient <= 1e-5 and found.reach > 1e-3)


def test_micro_batches_differ_in_tokens_and_dapo_counts_those_of_the_whole_generation(world: Path):
    trainer, batch = grpo_trainer(world, loss_type="dapo")
    step(trainer, [batch, batch])
    counts = [int(part["completion_mask"].sum()) for part in trainer._buffered_inputs]
    totals = [int(part["num_items_in_batch"]) for part in trainer._buffered_inputs]
    assert counts[0] != counts[1] and totals == [sum(counts)] * 2


def test_unsloth_is_not_in_this_process():
    assert "unsloth" not in sys.modules


def table(folder: Path) -> Iterator[str]:
    """The errors of every case, as markdown."""
    yield "| function | library | max abs error value | max abs error gradient |"
    yield "|---|---|---|---|"
    for name, (library, case) in CASES.items():
        found = case(folder)
        gradient = "none flows" if found.gradient is None else f"{found.gradient:.1e}"
        yield f"| {name} | {library} | {found.value:.1e} | {gradient} |"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(*table(build(Path(scratch))), sep="\n")
