"""Week 2's build: put LoRA adapters into a model, train them, merge them. Checked by what it does.

The learner hands over two functions, `inject(model, names, *, r, alpha)` and `merge(model)`, both
working in place. How the layers are written is theirs. `examine` runs them on the embedded base and
asks in this order: does the model still run; are exactly the adapters trained; is the start the
base; is the update alpha / r times a product of rank r; does training move the adapters and nothing
else; does the merged model give the same logits with plain layers only; does a bias survive.
A cause is named only where a measurement shows it.

Left out: dropout, quantised layers, other types than float32.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from postlab.chat import encode
from postlab.course.check import Outcome, wrong
from postlab.course.check._calls import Call, call
from postlab.course.check._diagnosis import error
from postlab.datasets import instruction_rows
from postlab.models import load_policy
from postlab.scratch.lora import LoRALinear
from postlab.scratch.losses import sft_loss

NAMES = ("q_proj", "down_proj")  # a square matrix, and one that isn't
R, ALPHA = 4, 10  # alpha / r isn't whole, so that // shows
STEPS, RATE = 12, 0.02
CLOSE = 1e-4  # of logits, as a share of how far the adapters move them


class Wrong(Exception):
    """A finding: a code, a sentence, and what was measured."""

    def __init__(self, code: str, headline: str, *details: str) -> None:
        super().__init__(headline)
        self.outcome = wrong(code, headline, *details)


def inject(model: nn.Module, names: tuple[str, ...], *, r: int, alpha: float) -> None:
    """The reference: freeze a model, and put a LoRALinear in the place of some of its layers.

    Args:
        model: changed in place.
        names: last parts of the names of the layers to adapt, such as "q_proj".
    """
    model.requires_grad_(False)
    for name, module in list(model.named_modules()):
        parent, _, last = name.rpartition(".")
        if last in names:
            setattr(model.get_submodule(parent), last, LoRALinear(module, r=r, alpha=alpha))


def merge(model: nn.Module) -> None:
    """The reference: put a plain layer of the same effect in the place of every LoRALinear."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.merged())


def examine(inject: Callable[..., Any], merge: Callable[..., Any]) -> Outcome:
    """Judge a learner's two functions; print nothing, raise nothing."""
    for name, function in (("inject", inject), ("merge", merge)):
        if not callable(function):
            return wrong("not_a_function", f"`{name}` isn't a function: it is not called")
    try:
        return _trial(inject, merge)
    except Wrong as finding:
        return finding.outcome
    except Exception as why:  # the model may be in any state
        text = f"With the model as it is after your functions, the check can't go on: {why!r}."
        return Outcome("wrong", "not_recognised", text[:300])


def _trial(inject: Callable[..., Any], merge: Callable[..., Any]) -> Outcome:
    base, batch = _base()
    at_start = _logits(base, batch)
    model, own = _injected(inject, base)
    if model is None:
        return Outcome("not attempted", "not_attempted", "not attempted")
    _trained_parameters(model, base, own)
    _start(model, batch, at_start)
    _update(model, base)
    model, own = _injected(inject, base)
    assert model is not None
    losses = _training(model, base, own, batch)
    before = _logits(model, batch)
    changes = {name: _change(model, base, name) for name in _targets(base)}
    _done(call(merge, {"model": model}, positional=("model",)), "merge")
    gap = _merged(model, base, changes, before, at_start, batch)
    _with_bias(inject, merge)
    count = sum(R * (w.shape[0] + w.shape[1]) for w in _targets(base).values())
    return Outcome(
        "right", "right",
        f"{count:,} parameters trained; in {STEPS} steps the loss goes from {losses[0]:.2f} to "
        f"{losses[-1]:.2f} and no weight of the base moves; after the merge, logits differ by at "
        f"most {gap:.0e}",
    )  # fmt: skip


# --- the model, and what the learner makes of it --------------------------------------------------


@cache
def _base() -> tuple[nn.Module, dict[str, Tensor]]:
    """The embedded base, and a batch of eight rows of the tiny world."""
    base, tokenizer = load_policy("", profile="tiny", bits=32)
    rows = instruction_rows("tinyworld", split="train", n=8, seed=0)
    return base.requires_grad_(True), encode(rows, tokenizer, max_length=128)


def _targets(base: nn.Module) -> dict[str, Tensor]:
    """The weights of the layers to adapt, by the layer's name."""
    return {
        name: module.weight
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in NAMES
    }


def _injected(
    inject: Callable[..., Any], base: nn.Module
) -> tuple[nn.Module | None, dict[int, str]]:
    """A copy of the base with the learner's adapters, and the base's parameters in it by id.

    None for the model if the function is still the stub.
    """
    model = copy.deepcopy(base)
    own = {id(p): name for name, p in model.named_parameters()}
    inputs = {"model": model, "names": NAMES, "r": R, "alpha": ALPHA}
    result = call(inject, inputs, positional=("model", "names"))
    if isinstance(result.error, NotImplementedError):
        return None, own
    _done(result, "inject")
    return model, own


def _done(result: Call, what: str) -> Any:
    """A call's value; an exception is a finding."""
    if result.error is not None:
        if isinstance(result.error, NotImplementedError) and what == "merge":
            raise Wrong(
                "merge_missing", "`inject` is right so far; `merge` is still to be written."
            )
        raise Wrong(f"raises_in_{what}", f"`{what}` raises {error(result)}.")
    return result.value


def _logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    def forward() -> Tensor:
        with torch.no_grad():
            return model.eval()(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits

    result = call(forward, {}, positional=())
    if result.error is not None:
        raise Wrong("raises_in_forward", f"The model no longer runs: {_named(result)}.")
    return result.value


def _named(result: Call) -> str:
    """An exception in words, without the line, which would be one of this module's."""
    return error(replace(result, line=""))


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


# --- what is asked --------------------------------------------------------------------------------


def _trained_parameters(model: nn.Module, base: nn.Module, own: Mapping[int, str]) -> None:
    """Exactly the adapters are trained, each of the size that the rank asks for."""
    trained, targets = _trained(model), _targets(base)
    new = {name: p for name, p in trained.items() if id(p) not in own}
    adapted = [t for t in targets if any(name.startswith(f"{t}.") for name in new)]
    added = [name for name, p in model.named_parameters() if id(p) not in own]
    if added and not trained:
        raise Wrong(
            "adapters_frozen",
            f"After `inject`, the model has new parameters, such as `{added[0]}`, but none of them "
            "requires a gradient. Freeze the model before you add the adapters.",
        )
    if not new:
        raise Wrong(
            "nothing_injected",
            "After `inject`, the model has no new trained parameter. Adapters must be "
            "nn.Parameters (or layers) of modules that are put into the model itself, in place.",
        )
    if len(adapted) < len(targets):
        missing = next(name for name in targets if name not in adapted)
        raise Wrong(
            "layers_missing",
            f"{len(adapted)} of {len(targets)} layers called {' or '.join(NAMES)} have trained "
            f"parameters of their own; `{missing}` has none.",
        )
    others = [n for n in new if not any(n.startswith(f"{t}.") for t in targets)]
    if others:
        raise Wrong("other_layers", f"`{others[0]}` is trained, and is in no layer of `names`.")
    old = [own[id(p)] for p in trained.values() if id(p) in own]
    weights = [*targets.values()]
    copied = [n for n, p in new.items() if any(p.shape == w.shape and p.equal(w) for w in weights)]
    if old or copied:
        example = (old or copied)[0]
        raise Wrong(
            "base_not_frozen",
            f"{len(old or copied)} weights of the base's own size still require a gradient, for "
            f"example `{example}`. Only the adapters may be trained.",
        )
    count = sum(p.numel() for p in new.values())
    expected = sum(R * sum(w.shape) for w in targets.values())
    if count != expected:
        name, weight = next(iter(targets.items()))
        shapes = [tuple(p.shape) for n, p in new.items() if n.startswith(f"{name}.")]
        raise Wrong(
            "wrong_size",
            f"You train {count:,} parameters; r (in + out) over the {len(targets)} layers is "
            f"{expected:,}.",
            f"`{name}` is {tuple(weight.shape)}, and r is {R}; its trained parameters have the "
            f"shapes {', '.join(map(str, shapes))}.",
        )


def _start(model: nn.Module, batch: Mapping[str, Tensor], at_start: Tensor) -> None:
    """The adapted model starts as the base, and not with both matrices at zero."""
    trained = _trained(model)
    if all(not p.any() for p in trained.values()):
        raise Wrong(
            "both_zero",
            "All adapter matrices start at zero. Then both gradients are zero at every step, and "
            "nothing is ever trained.",
        )
    gap = (_logits(model, batch) - at_start).abs().max().item()
    if gap <= 1e-3:
        return
    kept = {name: p.detach().clone() for name, p in trained.items()}
    with torch.no_grad():
        for p in trained.values():
            p.zero_()
        still = (_logits(model, batch) - at_start).abs().max().item()
        for name, p in trained.items():
            p.copy_(kept[name])
    if still <= 1e-3:
        raise Wrong(
            "start_is_not_the_base",
            f"Before any training, logits differ from the base's by up to {gap:.2g}. With your "
            "adapters set to zero they don't, so the frozen path is right and the product of the "
            "two matrices isn't zero at the start.",
        )
    raise Wrong(
        "frozen_path_changed",
        f"Before any training, logits differ from the base's by up to {gap:.2g}, and by "
        f"{still:.2g} even with your adapters set to zero: the frozen layer's own output is lost "
        "or changed.",
    )


def _change(model: nn.Module, base: nn.Module, name: str) -> Tensor:
    """(out, in): how a layer of the model differs from the base's, as a matrix."""
    weight = _targets(base)[name].detach()
    with torch.no_grad():
        output = model.get_submodule(name)(torch.eye(weight.shape[1]))
    return output.T - weight


def _update(model: nn.Module, base: nn.Module) -> None:
    """With random adapters, the update has rank r and is alpha / r times their product."""
    generator = torch.Generator().manual_seed(0)
    trained = _trained(model)
    with torch.no_grad():
        for p in trained.values():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.1)
    name = next(n for n in _targets(base) if n.endswith(NAMES[1]))
    change = _change(model, base, name)
    rank = int(torch.linalg.matrix_rank(change, rtol=1e-4))
    if rank > R:
        raise Wrong(
            "rank_too_high", f"`{name}` changes by a matrix of rank {rank}; r is {R}, so more than "
            "a product through r dimensions is added.",
        )  # fmt: skip
    if change.norm() <= 1e-6 * _targets(base)[name].norm():
        kind = type(model.get_submodule(name)).__name__
        raise Wrong(
            "no_effect", f"The trained parameters of `{name}` have no effect on what it returns, "
            f"whatever their values. In the model, that name leads to a {kind}: is your layer set "
            "on the module one level up, under the last part of the name?",
        )  # fmt: skip
    factor = _scale(change, [p for n, p in trained.items() if n.startswith(f"{name}.")])
    if factor is None or math.isclose(factor, ALPHA / R, rel_tol=1e-3):
        return
    known = {
        "scale_missing": (1.0, "it isn't scaled"),
        "r_forgotten": (ALPHA, "that is alpha, not divided by r"),
        "alpha_forgotten": (1 / R, "that is 1 / r, without alpha"),
        "rslora_scale": (ALPHA / math.sqrt(R), "that is alpha / sqrt(r), rsLoRA's scale"),
        "scale_upside_down": (R / ALPHA, "that is r / alpha"),
        "scale_twice": ((ALPHA / R) ** 2, "that is alpha / r, applied twice"),
        "subtracted": (-ALPHA / R, "it has the right size and the wrong sign"),
        "whole_division": (ALPHA // R, "that is alpha // r, which drops the fraction"),
        "scale_by_features": (
            ALPHA / change.shape[1],
            "that is alpha / in_features; r is the rank",
        ),
        "scale_product": (ALPHA * R, "that is alpha times r"),
    }
    matches = [
        (code, words)
        for code, (value, words) in known.items()
        if math.isclose(factor, value, rel_tol=1e-3)
    ]
    code, words = matches[0] if matches else ("wrong_scale", "where does that come from")
    raise Wrong(
        code, f"With r = {R} and alpha = {ALPHA}, your layer adds {factor:.4g} times the product "
        f"of its two matrices, expected alpha / r = {ALPHA / R:g}: {words}" + ".?"[not matches],
    )  # fmt: skip


def _scale(change: Tensor, matrices: list[nn.Parameter]) -> float | None:
    """The change as a multiple of the product of two matrices; None if it is no multiple of it."""
    out_features, in_features = change.shape
    down = [p for p in matrices if in_features in p.shape]
    up = [p for p in matrices if out_features in p.shape]
    if len(matrices) != 2 or len(down) != 1 or len(up) != 1:
        return None  # written another way: judged by its effect alone
    a = down[0] if down[0].shape[1] == in_features else down[0].T
    b = up[0] if up[0].shape[0] == out_features else up[0].T
    product = (b @ a).detach()
    factor = ((change * product).sum() / product.square().sum()).item()
    fits = (change - factor * product).norm() <= 1e-3 * change.norm()
    if not fits:
        raise Wrong(
            "not_recognised",
            "What your layer adds has rank r or less, but it isn't a multiple of the product of "
            "its two matrices. Work out one layer by hand: feed it torch.eye(in_features).",
        )
    return factor


def _training(
    model: nn.Module, base: nn.Module, own: Mapping[int, str], batch: Mapping[str, Tensor]
) -> list[float]:
    """A few steps move the adapters, lower the loss, and leave the base alone, bit for bit."""
    trained = _trained(model)
    first = {name: p.detach().clone() for name, p in trained.items()}
    frozen = {own[id(p)]: p for p in model.parameters() if id(p) in own}
    optimizer = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=0.0)
    losses = []

    def step() -> float:
        logits = model.train()(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits
        loss = sft_loss(logits[:, :-1], batch["input_ids"][:, 1:], batch["loss_mask"][:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(STEPS):
        result = call(step, {}, positional=())
        if result.error is not None:
            raise Wrong("raises_in_training", f"A training step raises {_named(result)}.")
        losses.append(result.value)
        silent = [name for name, p in trained.items() if p.grad is None]
        if silent:
            raise Wrong(
                "no_gradient",
                f"`{silent[0]}` gets no gradient: it takes no part in the forward pass, or leaves "
                "the graph there (detach, .data, no_grad).",
            )
    theirs = dict(base.named_parameters())
    moved = [name for name, p in frozen.items() if not torch.equal(p, theirs[name])]
    if moved:
        raise Wrong("base_moved", f"Training changed `{moved[0]}`, a weight of the frozen base.")
    still = [name for name, p in trained.items() if torch.equal(p, first[name])]
    if still:
        raise Wrong("never_moves", f"`{still[0]}` hasn't moved in {STEPS} steps.")
    if losses[-1] > 0.8 * losses[0]:
        raise Wrong(
            "does_not_learn", f"In {STEPS} steps the loss only goes from {losses[0]:.3f} to "
            f"{losses[-1]:.3f}; ours falls by more than a fifth.",
        )  # fmt: skip
    return losses


def _merged(
    model: nn.Module, base: nn.Module, changes: Mapping[str, Tensor],
    before: Tensor, at_start: Tensor, batch: Mapping[str, Tensor],
) -> float:  # fmt: skip
    """After the merge: plain layers only, other weights as they were, and the same logits."""
    targets = _targets(base)
    layers = {name: operator.attrgetter(name)(model) for name in targets}
    left = [name for name, layer in layers.items() if not isinstance(layer, nn.Linear)]
    if left:
        kind = type(layers[left[0]]).__name__
        raise Wrong("not_merged", f"After `merge`, `{left[0]}` is a {kind}, not an nn.Linear.")
    names, theirs = dict(model.named_parameters()), dict(base.named_parameters())
    if names.keys() != theirs.keys():
        extra = sorted(names.keys() ^ theirs.keys())[0]
        raise Wrong(
            "other_parameters", f"After `merge`, `{extra}` is in only one of the two models."
        )
    shapes = [n for n, p in names.items() if p.shape != theirs[n].shape]
    if shapes:
        raise Wrong("wrong_shape", f"After `merge`, `{shapes[0]}` has another shape than before.")
    after = _logits(model, batch)
    gap, reach = (after - before).abs().max().item(), (before - at_start).abs().max().item()
    if gap <= CLOSE * reach:
        return gap
    scale = (
        f"Logits change by up to {gap:.2g} in the merge; the training moved them by {reach:.2g}."
    )
    weights = {name: _weight(model, name) - w for name, w in targets.items()}
    if all(not change.any() for change in weights.values()):
        raise Wrong("adapter_dropped", f"{scale} The merged layers hold the base's own weights.")
    if all((weights[n] + w - changes[n]).norm() < 1e-2 * changes[n].norm()
           for n, w in targets.items()):  # fmt: skip
        raise Wrong(
            "base_lost", f"{scale} The merged weights are the adapters' updates alone: add them to "
            "the frozen weights.",
        )  # fmt: skip
    factors = [
        ((weights[n] * changes[n]).sum() / changes[n].square().sum()).item() for n in targets
    ]
    residues = [
        (weights[n] - f * changes[n]).norm() / changes[n].norm()
        for n, f in zip(targets, factors, strict=True)
    ]
    if max(residues) < 1e-2 and max(factors) - min(factors) < 1e-2:
        raise Wrong(
            "merge_scale", f"{scale} What you add to each weight is {factors[0]:.3g} times "
            "what the adapter adds to the output: is the scale missing, counted twice, or of the "
            "wrong sign?",
        )  # fmt: skip
    square = [n for n in targets if n.endswith(NAMES[0])]
    if all((weights[n] - changes[n].T).norm() < 1e-2 * changes[n].norm() for n in square):
        raise Wrong("merge_transposed", f"{scale} For square layers you add the transposed update.")
    raise Wrong(
        "merge_differs", f"{scale} Compare the merged weight of one layer with W + alpha/r B A."
    )


def _weight(model: nn.Module, name: str) -> Tensor:
    return dict(model.named_parameters())[f"{name}.weight"].detach()


class _Toy(nn.Module):
    """One layer with a bias, two levels down."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = nn.ModuleDict({"down_proj": nn.Linear(6, 5)})

    def forward(self, x: Tensor) -> Tensor:
        return self.block["down_proj"](x)


def _with_bias(inject: Callable[..., Any], merge: Callable[..., Any]) -> None:
    """A layer's bias is part of the frozen path and of the merged layer."""
    toy, x = _Toy(), torch.ones(2, 6)
    expected = toy(x).detach()
    inputs = {"model": toy, "names": NAMES, "r": 2, "alpha": 4}
    _done(call(inject, inputs, positional=("model", "names")), "inject")
    _same_output(toy, x, expected, "inject")
    _done(call(merge, {"model": toy}, positional=("model",)), "merge")
    _same_output(toy, x, expected, "merge")


def _same_output(toy: nn.Module, x: Tensor, expected: Tensor, what: str) -> None:
    result = call(lambda: toy(x), {}, positional=())
    output = _done(replace(result, line=""), "forward")
    if not torch.allclose(output, expected, atol=1e-5):
        raise Wrong(
            f"bias_in_{what}",
            "All is right without a bias. For a layer that has one, the output changes in "
            f"`{what}`, though the adapter is still zero.",
        )


def lines(outcome: Outcome) -> Iterator[str]:
    """What the check prints."""
    if outcome.status == "right":
        yield f"✓ adapters: right. {outcome.message}"
    elif outcome.status == "not attempted":
        yield "· adapters: not attempted, going on with the reference"
    else:
        headline, *details = outcome.message.split("\n")
        yield f"✗ adapters: Not yet. {headline}"
        yield from (f"  {line}" for line in details)
        yield "  Going on with the reference."
