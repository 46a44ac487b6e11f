"""The embedded base with a LoRA adapter: losses, gradients and references, from one side.

The same function runs in two processes, one with plain transformers, PEFT and TRL and one with
Unsloth's GPU code, and writes what it measures under the same names, so that a test can subtract.
The adapter is that of the profile `t4`, filled from a seed, in float32.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

Tensors = dict[str, torch.Tensor]
MAX_LENGTH = 64
LENGTHS = (7, 4)  # the interpreter takes a quarter of a second for one token's way there and back


Part = Callable[[str, Callable[[], Tensors]], Tensors | None]


def measure(unsloth: bool, scratch: Path, part: Part) -> Tensors:
    """Every figure of this side, {"case/quantity": tensor}; `part` runs one case."""
    measured: Tensors = {}

    def note(case: str, work: Callable[[], Tensors]) -> None:
        measured.update({f"{case}/{key}": value for key, value in (part(case, work) or {}).items()})

    if unsloth:  # every kernel through the interpreter, on the two batches that training uses
        fused = policy(unsloth, fused_lora=True)
        for case in ("labels, padded right", "no labels, padded left"):
            note(f"fused {case}", partial(forward, *fused, case))
    with quick_kernels(unsloth):
        plain = policy(unsloth)
        for case in CASES:
            note(f"plain {case}", partial(forward, *plain, case))
        for method in (grpo, grpo_with_kl, dpo, sft):  # the last changes how the model batches
            note(method.__name__, partial(method, *restarted(*plain), scratch / method.__name__))
    return measured


@contextmanager
def quick_kernels(unsloth: bool) -> Iterator[None]:
    """torch in place of the two kernels that the interpreter is slowest at."""
    if not unsloth:
        yield
        return
    import unsloth.models.llama as llama

    norm, rope = llama.fast_rms_layernorm, llama.fast_rope_embedding
    llama.fast_rms_layernorm, llama.fast_rope_embedding = rms_norm, rotate
    yield
    llama.fast_rms_layernorm, llama.fast_rope_embedding = norm, rope


def rms_norm(norm: Any, x: torch.Tensor, **_: object) -> torch.Tensor:
    return F.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)


def rotate(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, positions: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, _, length, width = q.shape
    if positions is None:
        positions = torch.arange(length).expand(batch, -1)
    index = positions.reshape(-1, length).long()
    c, s = (table.squeeze()[index][:, None, :, : width // 2] for table in (cos, sin))

    def turn(x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, -1)
        return torch.cat([first * c - second * s, second * c + first * s], -1)

    return turn(q), turn(k)


# --- the policy -----------------------------------------------------------------------------------


def policy(unsloth: bool, *, fused_lora: bool = False) -> tuple[Any, Any]:
    """The embedded base with a filled adapter, through Unsloth's loader or the plain libraries.

    `fused_lora` tells Unsloth that the base has 16 bits, as its hand-written LoRA layers run on
    4-bit and 16-bit bases only; the weights stay float32, so that differences are rounding.
    """
    from postlab.models.bases import tiny_base
    from postlab.profile import get_profile

    lora = dict(get_profile("t4").lora) | {"use_gradient_checkpointing": False}
    if unsloth:
        import unsloth.models.llama as llama
        from unsloth import FastLanguageModel

        model, tokenizer = FastLanguageModel.from_pretrained(
            str(tiny_base()), load_in_4bit=False, dtype=torch.float32, max_seq_length=MAX_LENGTH,
            device_map="cpu", use_gradient_checkpointing=False,
        )  # fmt: skip
        with replaced(llama, "_base_weight_dtype", lambda _: torch.bfloat16, when=fused_lora):
            model = FastLanguageModel.get_peft_model(model, random_state=0, **lora)
    else:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        del lora["use_gradient_checkpointing"]
        tokenizer = AutoTokenizer.from_pretrained(tiny_base())
        model = AutoModelForCausalLM.from_pretrained(tiny_base(), dtype=torch.float32)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora))
    fill(model, seed=0)
    return model.train(), tokenizer


@contextmanager
def replaced(owner: Any, name: str, value: Any, *, when: bool) -> Iterator[None]:
    original = getattr(owner, name)
    if when:
        setattr(owner, name, value)
    yield
    setattr(owner, name, original)


def fill(model: Any, *, seed: int) -> None:
    """Give the trained adapter the weights of this seed; both halves, or nothing would differ."""
    for number, (_, weight) in enumerate(adapter(model)):
        draw = torch.Generator().manual_seed(1000 * seed + number)
        weight.data.copy_(0.05 * torch.randn(weight.shape, generator=draw))


def restarted(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """The policy as it was loaded; loading it again takes Unsloth several seconds."""
    if "ref" in model.peft_config:
        model.delete_adapter("ref")
    fill(model, seed=0)
    return model.train(), tokenizer


def adapter(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return sorted((n, p) for n, p in model.named_parameters() if ".default." in n)


def gradients(model: Any, loss: torch.Tensor) -> Tensors:
    """The loss, and its gradient for every adapter weight in one row."""
    model.zero_grad()
    loss.backward()
    parts = [weight.grad.flatten() for _, weight in adapter(model)]
    model.zero_grad()
    return {"loss": loss.detach().reshape(1), "gradient": torch.cat(parts)}


# --- forward and backward -------------------------------------------------------------------------


SIDES = ("right", "left")
CASES = tuple(f"{labels}, padded {side}" for labels in ("labels", "no labels") for side in SIDES)


def forward(model: Any, tokenizer: Any, case: str) -> Tensors:
    """Two conversations of unequal length: the loss of all their tokens and its gradient."""
    from postlab.datasets import instruction_rows

    rows = instruction_rows("tinyworld", split="train", n=2, seed=0)
    texts = [row["prompt"] + row["completion"] for row in rows]
    encoded = tokenizer.apply_chat_template(texts, return_dict=True)["input_ids"]
    cut = [ids[:length] for ids, length in zip(encoded, LENGTHS, strict=True)]
    assert tuple(map(len, cut)) == LENGTHS
    labels, tokenizer.padding_side = case.split(", padded ")
    batch = tokenizer.pad({"input_ids": cut}, return_tensors="pt")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    if labels == "labels":
        target = ids.masked_fill(mask == 0, -100)
        target[:, 1:].masked_fill_(mask[:, :-1] == 0, -100)  # a first token follows nothing
        return gradients(model, model(**batch, labels=target).loss)
    logits = model(**batch).logits
    logps = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    real = (mask[:, 1:] * mask[:, :-1]).bool()  # both the token and the one before it
    return gradients(model, -logps[real].mean())


# --- the trainers ---------------------------------------------------------------------------------

# What a CPU cannot do, and what would make the two sides differ by chance.
ON_CPU = dict(
    use_cpu=True, fp16=False, bf16=False, gradient_checkpointing=False, optim="adamw_torch",
    dataloader_pin_memory=False, train_sampling_strategy="sequential", max_length=MAX_LENGTH,
    per_device_train_batch_size=2, gradient_accumulation_steps=1, max_steps=1,
)  # fmt: skip


def config(kind: str, folder: Path, **changes: Any) -> Any:
    """The configuration of `t4`, on a CPU."""
    import trl

    from postlab.profile import get_profile

    trainer = dict(getattr(get_profile("t4"), kind).trainer)
    trainer.pop("num_train_epochs", None)
    arguments = trainer | ON_CPU | changes
    if kind == "grpo":
        for name in ("max_length", "train_sampling_strategy"):
            del arguments[name]
    return getattr(trl, f"{kind.upper()}Config")(output_dir=str(folder), seed=0, **arguments)


def first_batch(trainer: Any) -> Any:
    return trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))


def sft(model: Any, tokenizer: Any, folder: Path) -> Tensors:
    """The first batch's loss and gradient."""
    import trl
    from datasets import Dataset

    from postlab.datasets import instruction_rows

    rows = instruction_rows("tinyworld", split="train", n=2, seed=0)
    trainer = trl.SFTTrainer(
        model=model, processing_class=tokenizer, args=config("sft", folder),
        train_dataset=Dataset.from_list(rows).select_columns(["prompt", "completion"]),
    )  # fmt: skip
    batch = first_batch(trainer)
    model.train()
    loss = trainer.compute_loss(model, batch)
    padding_free = torch.tensor([float("attention_mask" not in batch)])
    return gradients(model, loss) | {"padding_free": padding_free}


def dpo(model: Any, tokenizer: Any, folder: Path) -> Tensors:
    """Where the reference is, and the first batch's loss and gradient away from the start."""
    import trl
    from datasets import Dataset

    from postlab.datasets import preference_rows

    rows = preference_rows("tinyworld", split="train", n=2, seed=0)
    trainer = trl.DPOTrainer(
        model=model, processing_class=tokenizer, args=config("dpo", folder),
        train_dataset=Dataset.from_list(rows).select_columns(["prompt", "chosen", "rejected"]),
    )  # fmt: skip
    figures = adapters(trainer.model)
    batch = first_batch(trainer)
    references = compare_references(trainer.model, batch["input_ids"], batch["completion_mask"])
    chosen, rejected = trainer.compute_ref_log_probs(trainer.model, batch)
    figures["reference"] = torch.cat([chosen, rejected]).detach()
    fill(model, seed=1)  # the policy moves, the reference has to stay
    model.train()
    loss = trainer.compute_loss(model, batch)
    return figures | references | gradients(model, loss)


def grpo(model: Any, tokenizer: Any, folder: Path) -> Tensors:
    """One on-policy step of fixed completions, as the profiles set it: no KL."""
    return grpo_step(model, tokenizer, folder, beta=0.0)


def grpo_with_kl(model: Any, tokenizer: Any, folder: Path) -> Tensors:
    """The same step with a KL term, so that there is a reference."""
    return grpo_step(model, tokenizer, folder, beta=0.04)


def grpo_step(model: Any, tokenizer: Any, folder: Path, *, beta: float) -> Tensors:
    import trl
    from datasets import Dataset

    from postlab.datasets import math_rows

    rows = math_rows("tinyworld", split="train", n=2, seed=0)
    trainer = trl.GRPOTrainer(
        model=model, processing_class=tokenizer, reward_funcs=length_reward,
        train_dataset=Dataset.from_list(rows).select_columns(["prompt"]),
        args=config("grpo", folder, beta=beta, num_generations=2, per_device_train_batch_size=4),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1  # what `train` sets
    figures = adapters(trainer.model)
    trainer._generate_single_turn = fixed_completions(tokenizer)
    inputs = [{"prompt": row["prompt"]} for row in rows for _ in range(2)]
    model.train()
    batch = trainer._generate_and_score_completions(inputs)
    figures["advantages"] = batch["advantages"].flatten()
    mask = batch["completion_mask"]
    if beta:
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
        seen = torch.cat([batch["prompt_mask"], mask], 1)
        completion = torch.cat([torch.zeros_like(batch["prompt_mask"]), mask], 1)
        figures |= compare_references(trainer.model, ids, completion, attention_mask=seen)
        figures["reference"] = (of_completions(batch) * mask).sum(1)
    model.train()
    return figures | gradients(model, trainer.compute_loss(model, batch))


def of_completions(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The reference's log-probs of the completions, a row each.

    Unsloth moves a prompt's padding behind the completion, so its rows are wider, and where they
    start depends on the padding.
    """
    rows, width = batch["ref_per_token_logps"], batch["completion_ids"].shape[1]
    padding = (batch["prompt_mask"] == 0).sum(1, keepdim=True)
    first = padding.max() - padding if rows.shape[1] > width else torch.zeros_like(padding)
    return rows.gather(1, first + torch.arange(width))


def length_reward(completion_ids: list[list[int]], **_: object) -> list[float]:
    return [float(len(ids)) for ids in completion_ids]


def fixed_completions(tokenizer: Any) -> Callable[..., Any]:
    """Completions of 1 to 3 numbers, since sampled ones would differ between the two sides."""

    def generate(prompt_ids: list[list[int]], *_: object) -> tuple[list[list[int]], None]:
        texts = [" 7" * (1 + row % 3) for row in range(len(prompt_ids))]
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [[*reply, tokenizer.eos_token_id] for reply in ids], None

    return generate


# --- the reference --------------------------------------------------------------------------------


def adapters(model: Any) -> Tensors:
    """1 where the model holds a second adapter, named `ref`."""
    return {"has_ref": torch.tensor([float("ref" in model.peft_config)])}


def compare_references(
    model: Any, ids: torch.Tensor, completion: torch.Tensor, attention_mask: Any = None
) -> Tensors:
    """Log-probs of the completions under the two candidates: the base, and the policy's start."""
    weights = {re.sub(r"\.default\.", ".", n): p.data.clone() for n, p in adapter(model)}
    assert any(value.abs().max() > 0 for value in weights.values())
    mask = (ids != -1).long() if attention_mask is None else attention_mask

    def total() -> torch.Tensor:
        model.eval()
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        logps = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        return (logps * completion[:, 1:]).sum(1)

    with torch.no_grad():
        start = total()
        with model.disable_adapter():
            base = total()
    return {"start": start, "base": base}
