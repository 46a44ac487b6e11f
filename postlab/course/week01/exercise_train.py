"""Week 1's build: the training loop, checked by the losses that it reaches.

The learner's loop and the reference train the same small model on the same batches, with the same
optimizer and schedule, and every mistake of a loop shows in the losses from the second batch on.
The model is a bigram table plus a bag of the words read so far, so that a check runs hundreds of
loops in a second. What this can't show, the notebook does: TRL's losses on the embedded model, and
whether it stops.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from postlab.course.check._calls import Call, call
from postlab.course.check._parts import Case, Exercise
from postlab.course.check._words import article, sentence
from postlab.course.week01 import mistakes_train
from postlab.scratch.losses import sft_loss

LIKELY = frozenset(  # of two mistakes at once: a trial trains, and all pairs would be slow
    {"gradients_pile_up", "not_shifted", "prompt_trained", "not_clipped", "rate_stays"}
)


def train(
    model: Any, batches: Iterable[Mapping[str, Tensor]], *, optimizer: Any, scheduler: Any
) -> list[float]:
    """Train a model on some batches, one optimizer step per batch.

    Args:
        model: `model(input_ids=…, attention_mask=…).logits` is (B, T, V); all of it is trained.
        batches: each with `input_ids`, `attention_mask` and `loss_mask`, all (B, T).
        optimizer: a torch optimizer of the model's parameters.
        scheduler: sets the optimizer's learning rate; stepped once per batch.
    Returns:
        The loss of each batch before its step, nats per trained token.
    """
    losses = []
    for batch in batches:
        ids, mask = batch["input_ids"], batch["loss_mask"]
        logits = model(input_ids=ids, attention_mask=batch["attention_mask"]).logits
        loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


class SmallModel(nn.Module):
    """A language model of about a hundred weights that is called as transformers' models are.

    Args:
        seed: of its weights; 0 makes all of them 0, and so every token equally likely.
        vocabulary: the number of tokens.
        width: of a token's vector in the bag.
    """

    def __init__(self, seed: int, *, vocabulary: int = 8, width: int = 3) -> None:
        super().__init__()
        g, scale = torch.Generator().manual_seed(seed), 1.5 * bool(seed)
        shapes = (vocabulary, vocabulary), (vocabulary, width), (width, vocabulary)
        self.bigram, self.vectors, self.head = (
            nn.Parameter(scale * torch.randn(*shape, generator=g)) for shape in shapes
        )

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> SimpleNamespace:
        """Logits (B, T, V); with labels also the loss, shifted and without -100, as there."""
        visible = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        counts = visible.cumsum(1).clamp(min=1).unsqueeze(-1)
        bag = (self.vectors[input_ids] * visible.unsqueeze(-1)).cumsum(1) / counts
        logits = self.bigram[input_ids] + bag @ self.head
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return SimpleNamespace(logits=logits, loss=loss)


@dataclass(frozen=True)
class TrainingLoop(Exercise):
    """An exercise whose function trains a model: each call gets a new one.

    Its inputs stand for what the function gets: `model` is a seed, `batches` (N, 3, B, T) holds
    ids, attention and loss masks, `optimizer` is SGD's learning rate, and `scheduler` the number of
    steps in which it falls to zero.
    """

    def call(self, function: Callable[..., Any], inputs: Mapping[str, Any]) -> Call:
        @functools.wraps(function)
        def run() -> Any:
            model = SmallModel(inputs["model"])
            names = "input_ids", "attention_mask", "loss_mask"
            batches = [dict(zip(names, batch.clone(), strict=True)) for batch in inputs["batches"]]
            optimizer = torch.optim.SGD(model.parameters(), lr=inputs["optimizer"])
            steps = inputs["scheduler"]
            falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / steps)
            losses = function(model, batches, optimizer=optimizer, scheduler=falling)
            return torch.tensor([float(x) for x in losses]) if _are_numbers(losses) else losses

        _first_step()
        return call(run, {}, positional=())

    def misfit(self, got: Any, want: Any) -> tuple[str, str] | None:
        """What is wrong with the form of a loop's result, which `call` makes a tensor if it can."""
        if got is None:
            return "returns_none", "Your function returns nothing (None): is a `return` missing?"
        if not isinstance(got, list | Tensor):
            message = f"what you return is {article(got)}; expected a list with each batch's loss"
            return "wrong_type", sentence(message)
        count = len(got) if isinstance(got, list) or got.dim() else 1
        if count != len(want):
            losses = "1 loss" if count == 1 else f"{count} losses"
            message = f"you return {losses} for {len(want)} batches"
            inside = ": does the `return` stand inside the loop?" if count == 1 else ""
            return "wrong_count", sentence(message + inside)
        if isinstance(got, Tensor):
            return None if got.dim() == 1 else ("wrong_shape", "Return one number per batch.")
        if any(isinstance(x, Tensor) for x in got):
            return (
                "keeps_the_graph",
                "You return tensors, which keep the graph and the activations of every step in "
                "memory: append loss.item(), a number.",
            )
        odd = next(x for x in got if not isinstance(x, Real))
        return "wrong_type", sentence(f"the list holds {article(odd)}")

    def ordinary_cases(self) -> list[Case]:
        cases = super().ordinary_cases()
        about = "a small model with other weights, and other batches with padding"
        return [*self.cases, *(Case(about, case.inputs) for case in cases[len(self.cases) :])]


@functools.cache
def _first_step() -> None:
    """Let torch import what optimizers need, which takes seconds: a call's time is limited."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    optimizer.step()
    optimizer.zero_grad()


def _are_numbers(losses: Any) -> bool:
    """Whether it is a list of floats, or of tensors that keep no graph."""
    return isinstance(losses, list) and all(
        isinstance(x, Real) or (isinstance(x, Tensor) and not (x.requires_grad or x.dim()))
        for x in losses
    )


def _random(seed: int) -> dict[str, Any]:
    """Rows of a prompt, a reply and padding, on the left in seeds 1, 4, …; lengths differ."""
    g = torch.Generator().manual_seed(seed)
    n, b, t = ((3, 2, 6), (4, 3, 5), (3, 3, 7))[seed % 3]
    ids = torch.randint(1, 8, (n, b, t), generator=g)
    prompt = torch.randint(1, 3, (n, b, 1), generator=g)
    length = torch.randint(4, t + 1, (n, b, 1), generator=g)
    length[:, 0], length[:, 1] = t, 4
    place = torch.arange(t)
    attention, mask = place < length, (place >= prompt) & (place < length)
    batches = torch.stack([ids * attention, attention.long(), mask.long()], dim=1)
    if seed % 3 == 1:
        index = (place - (t - length)) % t
        batches = batches.gather(3, index.unsqueeze(1).expand_as(batches))
    return {"model": seed + 1, "batches": batches, "optimizer": 0.8, "scheduler": n}


LEFT = torch.tensor([[[0, 1, 4, 2, 3]], [[0, 1, 1, 1, 1]], [[0, 0, 0, 1, 1]]])
ROW = torch.tensor([[[1, 4, 2, 3, 0]], [[1, 1, 1, 1, 0]], [[0, 0, 1, 1, 0]]])
TRAIN = TrainingLoop(
    name="train",
    reference=train,
    positional=("model", "batches"),
    cases=(
        Case(
            "three equal batches of one row, ids 1 4 2 3 0, loss mask 0 0 1 1 0, a model that "
            "finds all 8 tokens equally likely, SGD with the learning rates 2, 4/3 and 2/3",
            {
                "model": 0,
                "batches": ROW.expand(3, *ROW.shape),
                "optimizer": 2.0,
                "scheduler": 3,
            },
            "the first loss is log 8; the step then adds 1 to the logit of each trained label, "
            "relative to the others, so the second is log(1 + 7/e)",
        ),
        Case(
            "a small model with random weights, three batches of two rows, one of them padded",
            _random(0) | {"model": 34},
            "the gradients' norms are 2.24, 1.95 and 1.23 before they are clipped",
        ),
        Case(
            "the same model, two equal batches of one row with padding on the left, ids 0 1 4 2 3, "
            "attention mask 0 1 1 1 1, loss mask 0 0 0 1 1",
            {
                "model": 34,
                "batches": LEFT.expand(2, *LEFT.shape),
                "optimizer": 0.8,
                "scheduler": 2,
            },
            "2 is predicted at 4, and 3 at 2; the padding is not read",
        ),
    ),
    random=_random,
    mistakes=mistakes_train.TRAIN,
    likely=LIKELY,
)
