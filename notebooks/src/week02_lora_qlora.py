# %% [markdown]
# # Week 2 · LoRA and QLoRA from scratch
#
# You have a 7B model that you'd like to teach something: the tone of your support team, a file format, a language it speaks badly. You also have the free GPU that Colab lends you, a T4 with 15 GiB of usable memory. Can you train the model on it?
#
# With ordinary fine-tuning you can't: Mistral-7B needs about 110 GiB with Adam, which is more memory than the largest A100 has. With QLoRA you can: training on one sequence of 1,024 tokens at a time takes a little over 5 GiB. What you save at the end is an adapter that you can attach to the model, take off again, or merge into it. In 16 bits, the adapter takes up about 80 MiB. In full precision, which week 3 uses for training, it takes up twice as much.
#
# Two ideas make that possible. **LoRA** freezes the matrices of the model and trains a product of two thin matrices beside each of them. **QLoRA** also stores the frozen matrices in four bits. You'll write both methods yourself, use them in a model, and measure how much quality they lose.
#
# By the end, you'll be able to explain
#
# - what LoRA trains, why training starts exactly at the base model, and what rank and alpha do,
# - how sixteen numbers and one scale per block can represent a whole matrix, and how large the error is,
# - whether LoRA or QLoRA lost quality on a task, and how sure you can be,
# - which model fits on which card, using arithmetic that you can do on paper.
#
# **Core: about 90 minutes.** Read and run these sections in order. They contain one exercise, one build and one paper.
#
# 1. [What it costs to train a weight](#cost)
# 2. [LoRA: a thin product beside a frozen matrix](#lora), with [the build](#build): adapters in a model, trained and merged
# 3. [NF4: sixteen numbers for a matrix](#nf4)
# 4. [The same task, three ways](#task)
# 5. [What fits, and what to choose](#choose)
# 6. [What you have now](#end), with the paper to read
#
# **Deeper: about three hours.** After the core, you can read these sections in any order, and you can skip any of them.
#
# - [Does PEFT compute the same thing?](#peft)
# - [NF4, bit for bit](#bits), with an exercise, and a bug that this comparison found in bitsandbytes
# - [Block sizes and double quantization](#blocks), with an exercise
# - [Learning rates, and *LoRA Without Regret*](#rates)
# - [Memory, time and forgetting](#forgetting)
# - [Alpha over r, or over the square root of r?](#alpha)
# - [The merge that changes the answers](#merge)
# - [Full, LoRA and QLoRA on SmolLM2](#smol)
# - [How accurate are the estimates, and what does a run cost?](#price)
#
# At the end are [five interview questions](#interview) and the week's [papers](#papers).

# %% tags=["setup"]
import importlib.metadata
import subprocess
import sys
from pathlib import Path

if not any(importlib.metadata.distributions(name="postlab")):
    # From the clone around this notebook, a wheel or zip (`make release`) beside it, or GitHub.
    clones = [p for p in (Path(".."), Path()) if (p / "postlab" / "install.py").exists()]
    files = [*Path().glob("postlab-*-any.whl"), *Path().glob("postlab*.zip")]
    # Sorted: zips, then wheels, and 0.9 before 0.10. The last one is taken.
    files.sort(key=lambda p: (p.suffix == ".whl", [n.zfill(20) for n in p.stem.split(".")]))
    sources = [p.resolve().as_uri() for p in clones + files[::-1]]
    if not sources:
        sys.exit(f"postlab isn't here: upload its wheel or zip to {Path.cwd()} and run this again.")
    print("Installing postlab from", sources[0])
    for module in (["pip", "install", "-q", f"postlab[train] @ {sources[0]}"], ["postlab.install"]):
        done = subprocess.run([sys.executable, "-m", *module], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{done.stderr}\npip failed: read its error above, then run this cell again.")
    importlib.invalidate_caches()
import postlab

lab = postlab.start(week=2)

# %% [markdown]
# Let's answer the question from the beginning for three ways of training. `postlab.preflight.estimate` computes the memory from the model's architecture before you download anything.

# %%
import pandas as pd

from postlab.course.week02 import draw_memory
from postlab.preflight import estimate

pd.set_option("display.max_colwidth", 120)
WAYS = {"full": dict(bits=32, lora_rank=0)}
WAYS |= {"LoRA": dict(bits=16, lora_rank=16), "QLoRA": dict(bits=4, lora_rank=16)}
PARTS = ["weights", "adapters", "gradients", "optimizer", "activations", "overhead"]


def need(model, way, device="A100 80GB", **options):
    how = WAYS[way] | dict(batch=1, length=1024) | options
    return estimate("sft", model=model, device=device, **how)


three = {way: need("mistralai/Mistral-7B-v0.3", way) for way in WAYS}
parts = pd.DataFrame({w: {p: getattr(e, f"{p}_gib") for p in PARTS} for w, e in three.items()}).T
cards = [("T4", need("mistralai/Mistral-7B-v0.3", "QLoRA", "T4").memory_gib)]
cards += [("A100", three["QLoRA"].memory_gib)]
title = "Memory to train Mistral-7B, with activations for one sequence of 1,024 tokens"
draw_memory(parts, title, cards=cards)

# %% [markdown]
# LoRA removes the gradients and Adam's moments for the frozen weights, and it can keep those weights in 16 bits instead of 32. QLoRA then removes about two thirds of what is left. After that, activations start to matter, and they grow with the batch size and the sequence length.
#
# The figure rounds each part to a tenth before adding up the parts. Rounded only at the end, the totals are 14.5 GiB for LoRA and 4.7 GiB for QLoRA. So LoRA seems to fit on the T4, but only just. It no longer fits once you also count the 0.6 GiB that the allocator and the CUDA context need; section 5 includes this memory.

# %% [markdown]
# <a id="cost" name="cost"></a>
# ## 1. What it costs to train a weight
#
# To *use* a 16-bit weight, you need two bytes of memory. To *train* a weight with Adam, commonly in 32 bits, you need more:
#
# | stored for each trained weight | bytes |
# |---|---|
# | the weight itself | 4 |
# | its gradient | 4 |
# | Adam's two moments | 4 + 4 |
#
# That's sixteen bytes, before you count a single activation, and it explains the long bar above. Mixed precision also needs sixteen bytes: 2 for a 16-bit weight, 2 for a 16-bit gradient, 4 for a 32-bit copy of the weight, and 8 for the two moments.

# %% [markdown]
# **Predict first.** Mistral-7B has 7.25 billion weights. How many GiB do you need to use them, and how many to train them all?

# %%
# NBVAL_CHECK_OUTPUT
mistral = 7_248_023_552
bytes_each = pd.Series({"use it, 16 bits": 2, "train all of it": 16, "use it, 4 bits": 0.5})
(bytes_each * mistral / 2**30).round(1).to_frame("GiB")

# %% [markdown]
# You need only two bytes to use a weight, but sixteen to train it: the other fourteen are there only because the weight is *trained*. LoRA freezes the weight and gets rid of those fourteen bytes. QLoRA then shrinks the two that remain.

# %% [markdown]
# <a id="lora" name="lora"></a>
# ## 2. LoRA: a thin product beside a frozen matrix
#
# Fine-tuning changes each matrix $W$ by some $\Delta W$. LoRA assumes that a low-rank change is enough, and represents it as the product of two thin matrices:
#
# $$y = W x + \frac{\alpha}{r}\, B A\, x \qquad A \in \mathbb{R}^{r \times \text{in}},\; B \in \mathbb{R}^{\text{out} \times r}$$
#
# Only $A$ and $B$ are trained, while $W$ stays frozen. The number $r$ is the rank, and $\alpha / r$ scales the adapter's contribution. Here is a real layer that you can add an adapter to:

# %%
import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from postlab.course.week02 import draw_adapter
from postlab.models import load_policy

base, tokenizer = load_policy("", profile="tiny", bits=32)
layer = base.model.layers[0].mlp.down_proj
draw_adapter(*layer.weight.shape, r=8)

# %% [markdown]
# This layer comes from the embedded base model with 1.4 million parameters. This notebook uses it **in every profile**, because you can compare LoRA with full fine-tuning only on a model small enough for both. What you see is *mechanism, not capability*. The section on [SmolLM2](#smol) uses a real language model.

# %% [markdown]
# ### Exercise 2.1 · about 10 minutes · easy
#
# Write the forward pass of a linear layer with a LoRA adapter. `x` has shape `(..., in)`, `weight` has shape `(out, in)`, `a` has shape `(r, in)`, and `b` has shape `(out, r)`. Return a tensor of shape `(..., out)`.
#
# <details><summary>Hint 1</summary>Two paths start at x, and their outputs are added. Write down the shape after each matrix before you write any code.</details>
# <details><summary>Hint 2</summary>In the formula x is a column, but here each activation is a row. Which function of <code>torch.nn.functional</code> multiplies rows by a weight of shape <code>(out, in)</code>? It accepts any number of leading dimensions.</details>
# <details><summary>Hint 3</summary>Use <code>F.linear</code> once for the frozen path and twice for the adapter. Which of the results should be multiplied by the scale?</details>

# %%
from postlab import check


def lora_forward(x, weight, a, b, *, alpha, r):
    raise NotImplementedError


lora_forward = check.lora_forward(lora_forward)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def lora_forward(x, weight, a, b, *, alpha, r):
#     down = F.linear(x, a)  # (..., r)
#     return F.linear(x, weight) + alpha / r * F.linear(down, b)
# ```
#
# </details>
#
# The order of multiplication doesn't change the result, since $(BA)x = B(Ax)$, but it does change the cost. Take this layer, rank 8 and a single token. If you form $BA$ first, you need $r \cdot \text{out} \cdot \text{in} + \text{out} \cdot \text{in}$ multiplications instead of $r(\text{in} + \text{out})$, which is 130 times as many. In a long batch, $BA$ is formed only once. But multiplying each token by it takes $\text{out} \cdot \text{in}$ multiplications, which is still 14 times as many.
#
# ### The start
#
# Before the first step, the adapted model should be exactly the base model. To ensure that, $A$ is initialized at random, as in any linear layer, but $B$ is initialized with zeros. Then $BA = 0$.
#
# **Predict first.** Which of the two matrices has a gradient at the first step: $A$, $B$, or both? And why isn't $A$ also initialized with zeros?

# %%
# NBVAL_CHECK_OUTPUT
(out_features, in_features), r = layer.weight.shape, 8
torch.manual_seed(0)
x = torch.randn(4, in_features)
a = nn.init.kaiming_uniform_(torch.empty(r, in_features), a=math.sqrt(5)).requires_grad_()
b = torch.zeros(out_features, r, requires_grad=True)
y = lora_forward(x, layer.weight, a, b, alpha=16, r=r)
same_start = torch.allclose(y, F.linear(x, layer.weight))
y.square().mean().backward()
{"starts as the base": same_start} | {
    n: bool(t.grad.norm() > 0) for n, t in {"A": a, "B": b}.items()
}

# %% [markdown]
# At first, the adapted layer gives the same output as the base layer, and only $B$ has a gradient. Call the gradient of the loss with respect to the output $\delta$. By the chain rule,
#
# $$\frac{\partial \mathcal{L}}{\partial B} = \frac{\alpha}{r}\, \delta\, (A x)^\top \qquad \frac{\partial \mathcal{L}}{\partial A} = \frac{\alpha}{r}\, B^\top \delta\, x^\top$$
#
# The gradient of $A$ contains $B$, which is zero, so $A$ doesn't move until the second step. If $A$ were also zero, both gradients would be zero at every step, and the adapter would never learn anything.

# %% [markdown]
# <a id="build" name="build"></a>
# ### Build 2 · about 30 minutes
#
# Put adapters into a model, and take them out again. Write two functions that change a model in place:
#
# - `inject(model, names, *, r, alpha)` freezes the whole model and gives an adapter to each linear layer whose name ends in one of `names`, such as `"q_proj"`. Afterwards, only the adapters are trainable.
# - `merge(model)` replaces each adapted layer with a plain `nn.Linear`. The update $\frac{\alpha}{r} BA$ is then part of its weight, because $W x + \frac{\alpha}{r} B A x = \left(W + \frac{\alpha}{r} B A\right) x$. A merged model is as fast as the original.
#
# How you write the layer is up to you, because the check doesn't read your code. It puts your adapters into the embedded base model, checks that the model starts out identical to the base, and measures the rank and scale of the update. Then it trains for twelve steps, checks that the base weights haven't changed, merges the adapters, and compares the logits. If something is off, the check says what it measured.
#
# <details><summary>Hint 1: where to begin</summary>You need a subclass of <code>nn.Module</code> that holds the frozen <code>nn.Linear</code> and two <code>nn.Parameter</code>s. Its forward pass is the one from Exercise 2.1, plus one more thing if the layer has a bias.</details>
# <details><summary>Hint 2: swapping a layer</summary><code>model.named_modules()</code> gives names such as <code>model.layers.0.mlp.down_proj</code>. The attribute that you have to set belongs to the module one level up: <code>model.get_submodule(...)</code>. Make a list before you loop, since you change what you loop over.</details>
# <details><summary>Hint 3: freezing</summary><code>requires_grad_(False)</code> works on a whole model. Which comes first, freezing the model or adding the adapters?</details>
# <details><summary>Hint 4: merging</summary>What shape does the product of your two matrices have, and what shape does <code>weight</code> have? Write under <code>torch.no_grad()</code>, and remember the bias.</details>

# %%
from postlab.course.week02 import check_adapters


def inject(model, names, *, r, alpha):
    raise NotImplementedError


def merge(model):
    raise NotImplementedError


inject, merge = check_adapters(inject, merge)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# class Adapted(nn.Module):
#     def __init__(self, linear, r, alpha):
#         super().__init__()
#         self.linear, self.r, self.alpha = linear, r, alpha
#         self.a = nn.Parameter(torch.empty(r, linear.in_features))
#         self.b = nn.Parameter(torch.zeros(linear.out_features, r))
#         nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
#
#     def forward(self, x):
#         update = F.linear(F.linear(x, self.a), self.b)
#         return self.linear(x) + self.alpha / self.r * update
#
#
# def swap(model, name, new):
#     parent, _, last = name.rpartition(".")
#     setattr(model.get_submodule(parent), last, new)
#
#
# def inject(model, names, *, r, alpha):
#     model.requires_grad_(False)
#     for name, module in list(model.named_modules()):
#         if name.rpartition(".")[2] in names:
#             swap(model, name, Adapted(module, r, alpha))
#
#
# def merge(model):
#     for name, module in list(model.named_modules()):
#         if isinstance(module, Adapted):
#             with torch.no_grad():
#                 module.linear.weight += module.alpha / module.r * module.b @ module.a
#             swap(model, name, module.linear)
# ```
#
# </details>
#
# Now use `inject` on all projections of the model. How many parameters are trained?

# %%
# NBVAL_CHECK_OUTPUT
from postlab.profile import PROJECTIONS


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


count = {}
for rank in (1, 8, 64):
    adapted = copy.deepcopy(base)
    inject(adapted, PROJECTIONS, r=rank, alpha=16)
    count[rank] = sum(p.numel() for p in trained(adapted))
count = pd.Series(count)
pd.DataFrame({"trained": count, "share": (count / base.num_parameters()).map("{:.1%}".format)})

# %% [markdown]
# An adapter has $r(\text{in} + \text{out})$ parameters, while its layer has $\text{in} \times \text{out}$, so the adapter's share gets smaller as the matrices get larger. In our small model, adapters of rank 64 have more than half as many parameters as the whole model. In a 7B model, adapters of rank 16 have only about 0.6% as many.
#
# You don't have to merge the adapters. If you keep them separate, a single base model in memory can serve many adapters, and you can switch adapters with every request.

# %% [markdown]
# <a id="nf4" name="nf4"></a>
# ## 3. NF4: sixteen numbers for a matrix
#
# Four bits can select one of sixteen values. Evenly spaced values would be wasteful: weights follow a bell curve, so most of them are close to zero, and the outer values would rarely be used. NF4 (*normal float*) uses the quantiles of a
# normal distribution instead. The idea is that each value should be the nearest one to roughly the same number of weights:
#
# $$q_i = \frac{\Phi^{-1}(p_i)}{\max_j \Phi^{-1}(p_j)}$$
#
# $\Phi^{-1}$ turns a probability into a quantile. The $p_i$ are evenly spaced on each side of one half, and one of them is exactly one half, so zero is always among the values. Dividing by the largest quantile scales the values to the range from -1 to 1. Here is the formula in code:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.scratch.nf4 import NF4, quantize

edge = 1 - (1 / 32 + 1 / 30) / 2  # at 1 the outermost quantile would be infinite
left = torch.linspace(1 - edge, 0.5, 8, dtype=torch.float64)[:-1]
right = torch.linspace(0.5, edge, 9, dtype=torch.float64)
quantiles = torch.special.ndtri(torch.cat([left, right]))
codebook = (quantiles / quantiles.max()).float()
print([round(value, 3) for value in codebook.tolist()])
print("as in bitsandbytes:", bool((codebook - NF4).abs().max() < 1e-6))

# %% [markdown]
# To use this codebook, you first have to scale the weights to the same range. With a single scale for the whole matrix, one outlier would squeeze all other weights into the few codes near zero. So the matrix is split into blocks of 64 weights,
# and each block stores its largest absolute value as its own scale. Here is the first block of the layer from above:

# %%
from postlab.course.week02 import draw_nf4
from postlab.scratch.nf4 import nf4_codes as codes_of

block = layer.weight.detach().view(-1, 64)[:1]
block_codes, _ = codes_of(block, NF4)
draw_nf4(block[0].numpy(), block_codes[0].numpy(), NF4.numpy())

# %% [markdown]
# To dequantize a weight, look up the value of its code and multiply it by the scale. The difference between the result and the original weight is the quantization error. How large is that error in all projections of the model, and would sixteen evenly spaced values work just as well?

# %%
# NBVAL_CHECK_OUTPUT
matrices = [p.data for name, p in base.named_parameters() if "proj" in name]
weights, even = torch.cat([w.flatten() for w in matrices]), torch.linspace(-1, 1, 16)


def error(dequantised):
    """Root mean square of the change, as a share of the weights' own."""
    return ((dequantised - weights).square().mean() / weights.square().mean()).sqrt().item()


def error_in_blocks(values, block):
    codes, absmax = codes_of(weights.view(-1, block), values)
    return error((values[codes.long()] * absmax.unsqueeze(1)).flatten())


{name: f"{error_in_blocks(v, 64):.1%}" for name, v in {"NF4": NF4, "even steps": even}.items()}

# %% [markdown]
# NF4 has a smaller error than evenly spaced values, but nine percent isn't small. Models keep working in spite of it, but that is an empirical finding. It also helps that the adapter is trained *on top of the rounded weights*, so it can compensate for some of the error.
#
# Each weight takes 4 bits for its code and $32 / 64 = 0.5$ bits for its share of the block's scale. *Double quantization* also quantizes the scales, to 8 bits, and brings the total down to 4.13 bits per weight ([deeper](#blocks)).

# %% [markdown]
# <a id="task" name="task"></a>
# ## 4. The same task, three ways
#
# How much quality do you lose? To find out, train on the same task with full fine-tuning, LoRA and QLoRA. The task is SFT on rows from the tiny world. The rows come from the three families whose training answers are right about 97% of the time: list operations, facts and how-tos. All methods get the same rows in the same order and train for the same number of steps. Each method gets its own learning rate: the best of several, chosen with different seeds and never on held-out rows ([deeper](#rates)). We recorded the long runs with eight seeds each for full fine-tuning, LoRA 8, LoRA 16 and QLoRA 16 (the number is the rank). Every other method has three seeds:

# %%
import json

import numpy as np

from postlab.profile import data_dir

folder = data_dir() / "results" / "week02"
recorded, more = (json.loads((folder / f"{n}.json").read_text()) for n in ("adapters", "more"))
recipe, every = recorded["recipe"], pd.DataFrame(recorded["runs"] + more["runs"])
runs = every[~every["method"].isin(["attention-16", "mlp-12"])].copy()  # those come later
chosen = runs.groupby("method")["lr"].first()
origins = {"adapters.json": recorded["provenance"], "more.json": more["provenance"]}
pd.DataFrame(origins | {"more.json, earlier": more["earlier"][0]}).map(str)

# %% [markdown]
# Here is the complete training loop, with the loss from week 1. `build` creates the three kinds of model; the only difference between LoRA and QLoRA is that the base is loaded with `bits=4`. From here on, we use PEFT's adapters, which [compute the same thing as yours](#peft).

# %%
from postlab.scratch.losses import sft_loss


def batch_loss(model, batch):
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return sft_loss(logits[:, :-1], batch["input_ids"][:, 1:], batch["loss_mask"][:, 1:])


# %%
def train(model, batches, *, lr):
    """AdamW, the rate warmed up and then falling to zero; returns the loss of each step."""
    optimizer, losses = torch.optim.AdamW(trained(model), lr=lr, weight_decay=0.0), []
    for step, batch in enumerate(batches):
        share = min((step + 1) / recipe["warmup"], 1 - step / len(batches))
        optimizer.param_groups[0]["lr"] = lr * share
        loss = batch_loss(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(trained(model), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# %%
from peft import LoraConfig, get_peft_model


def build(method):
    """The base with every weight trained ("full"), or with adapters ("lora-8", "qlora-16")."""
    kind, _, rank = method.partition("-")
    model, _ = load_policy("", profile="tiny", bits=4 if kind == "qlora" else 32)
    if kind == "full":
        return model.train().requires_grad_(True)
    torch.manual_seed(0)
    r, alpha = int(rank), recipe["alpha_over_r"] * int(rank)
    config = LoraConfig(r=r, lora_alpha=alpha, target_modules=list(PROJECTIONS), task_type="CAUSAL_LM")  # fmt: skip
    return get_peft_model(model, config).train()


# %%
from postlab.chat import encode
from postlab.datasets import instruction_rows


def task_batches(split, count, size):
    rows = instruction_rows("tinyworld", split=split, n=4 * count, seed=0)
    rows = [row for row in rows if row["family"] in ("lists", "facts", "howto")][:count]
    return [encode(rows[i : i + size], tokenizer, max_length=256) for i in range(0, count, size)]


# %% [markdown]
# **Predict first.** Which of the three ends with the lowest training loss? And which takes longest per step?

# %%
from postlab.course.week02 import plot_losses

batches = task_batches("train", recipe["steps"] * recipe["batch"], recipe["batch"])
live = {method: build(method) for method in ("full", "lora-8", "qlora-16")}
curves = {method: train(model, batches, lr=chosen[method]) for method, model in live.items()}
plot_losses(curves)

# %% [markdown]
# All three losses end close together. LoRA 8 ends lowest, but with one seed each, a difference of 0.01 or 0.02 nats means little. QLoRA takes the longest per step, because it has to dequantize the weights in every pass. In the recording, QLoRA 16 took 67 ms per step and LoRA at the same rank took 57 ms. LoRA 8 took 59 ms, and full fine-tuning took 56 ms.
#
# ### Quality, with intervals
#
# What you want is right answers, not a low loss. Each recorded run answered the same held-out prompts, and an oracle scored them. The large dot is the mean over seeds, and each small dot is one seed. The bar is a 95% interval over prompts: it shows how much the scores of these trained models could change with different prompts. It doesn't show how different training runs would have turned out.

# %%
from postlab.course.week02 import plot_quality
from postlab.stats import bootstrap_interval

runs["answers"] = [np.array([int(c) for part in r.values() for c in part]) for r in runs["right"]]
by_method = runs.groupby("method", sort=False)
answers = by_method["answers"].apply(lambda seeds: np.mean(list(seeds), axis=0))
quality = pd.DataFrame([vars(bootstrap_interval(a)) for a in answers], index=answers.index)
quality["trainable"] = by_method["trainable"].first()
quality["seeds"] = by_method["answers"].apply(lambda seeds: [a.mean() for a in seeds])
plot_quality(quality.reset_index())

# %% [markdown]
# Rank 1 trains less than 1% of the parameters and still comes within 4 points of full fine-tuning. Ranks 8 and above score 1 to 4 points more than full fine-tuning. But look at the small dots: two seeds of the same method can differ by more than two neighboring ranks do.
#
# **Predict first.** Which of these methods are really better or worse than full fine-tuning? Our question is about *methods*: if you train again with a new seed, will LoRA win again? So the unit of analysis is the training seed, not the prompt. There are six hundred prompts, but only eight seeds for four of the methods and three for the others.
#
# Welch's t-test compares the means of two methods and lets each have its own variance. Each comparison is one more chance to be fooled by noise, so Holm's correction raises the p values to account for all nine (see week 6). To get the column `kept`, divide the first method's share of right answers by the second method's share.
#
# `spread` is the standard deviation over the seeds of the method named first. The second-to-last column, `could find`, says what the experiment was able to show. It is the smallest true difference that this many seeds would have an 80% chance of detecting if the spreads of both methods are as measured. The calculation requires p to be below 0.05 / 9, the threshold that Holm's correction sets for the clearest of nine comparisons.

# %%
from scipy.stats import ttest_ind

from postlab.stats import detectable_difference, holm


def against(one, two):
    """Welch's t-test over seeds, a 95% interval, and what so many seeds could have found."""
    test, counts = ttest_ind(one, two, equal_var=False), (len(one), len(two))
    spreads, interval = (one.std(ddof=1), two.std(ddof=1)), test.confidence_interval()
    row = {"seeds": "{} and {}".format(*counts), "spread": spreads[0]}
    row |= {"kept": one.mean() / two.mean(), "difference": one.mean() - two.mean()}
    smallest = detectable_difference(spreads, counts, alpha=0.05 / 9)
    row |= {"low": interval.low, "high": interval.high, "p": test.pvalue}
    return row | {"could find": smallest}


def compare(scores):
    pairs = [(method, "full") for method in scores if method != "full"] + [("qlora-16", "lora-16")]
    rows = [against(scores[one], scores[two]) for one, two in pairs]
    table = pd.DataFrame(rows, index=[" against ".join(pair) for pair in pairs])
    table.insert(7, "Holm's p", holm(table["p"]))
    table["verdict"] = np.where(table["difference"] > 0, "better", "worse")
    table.loc[table["Holm's p"] > 0.05, "verdict"] = "inconclusive"
    return table.round(3)


scores = {method: np.array(seeds) for method, seeds in quality["seeds"].items()}
compare(scores)

# %% [markdown]
# One of the nine comparisons shows a difference, and it isn't the one you might expect: QLoRA 16 scored 3.3 points *more* than full fine-tuning (95% interval 1.8 to 4.8, corrected p 0.006). The other eight are inconclusive. In three of the eight, the interval excludes zero when taken alone. LoRA 8 scored 3.6 points more than full fine-tuning (1.0 to 6.2). LoRA 16 scored 2.2 points more (0.0 to 4.5, which only just excludes zero). Rank 1 scored 3.9 points less (0.4 to 7.3). But these are three of nine comparisons, and the corrected p values are 0.095 for LoRA 8, 0.30 for LoRA 16 and 0.25 for rank 1. So no method was shown to be worse than full fine-tuning on this task, not even rank 1 or four-bit storage.
#
# Does rounding to four bits make a model better, then? Nothing here suggests that. LoRA 16 is the same method without the rounding. QLoRA 16 scored 1.0 points more, but with this interval (-1.0 to 3.0), we can't tell the two apart. What the two methods share is the adapter. So if QLoRA gains anything over full fine-tuning, the adapter or its learning rate is the more likely reason.
#
# ### What eight seeds changed
#
# At first, we trained each method with three seeds. Here are the same comparisons with only those seeds:

# %%
first_three = {method: values[:3] for method, values in scores.items()}
compare(first_three)[["seeds", "difference", "low", "high", "Holm's p", "could find", "verdict"]]

# %% [markdown]
# All nine were inconclusive. LoRA 8 led full fine-tuning by 5.5 points. But with three seeds each, the difference between these two would have to be 19 points before you could count on detecting it. So before we trained any more models, we decided on eight seeds for four of the methods. With eight seeds, `could find` fell from 19 points to 5.3 for this pair, and LoRA 8's lead shrank to 3.6 points. LoRA 16's lead also shrank, from 3.8 points to 2.2. That is common: the largest of many differences is often partly luck, and it tends to shrink when you measure again. QLoRA 16's lead shrank too, from 4.3 points to 3.3. But the scores of QLoRA 16's eight seeds lie within two points of each other, and this small spread decides the outcome of the test.
#
# This procedure has three limitations:
#
# - The analysis with eight seeds is a second look at the same question, taken because the first look was inconclusive. In between, we also looked at the results when only full fine-tuning and LoRA 8 had eight seeds. The p values don't account for these repeated looks, so they are somewhat too small.
# - The comparisons in which one method has only three seeds can still miss large differences: the smallest difference they could detect is 3 to 35 points, depending on the pair.
# - The runs come from two machines. On the second one, we trained the new seeds of LoRA 16 and QLoRA 16 and all models with adapters on only some of the layers ([deeper](#rates)). We also repeated one of the first runs there (LoRA 8, seed 0). It gave different answers, and its loss ended at 0.067 instead of 0.072. Processors round differently, and over two hundred steps such differences grow. So the same seed can give different results on two machines, and the test above doesn't pair runs by seed.
#
# What does all of this mean? Each method had its own learning rate, and no adapter was shown to lose quality here. Some may even have gained a little. That doesn't mean that LoRA or QLoRA is better than full fine-tuning in general. This is one task and one model with 1.4 million parameters. We chose the learning rates from a coarse grid, using two short runs per rate on different rows, so full fine-tuning might catch up at a rate that we didn't try.
#
# If you resample the *prompts* and keep the trained models fixed, you answer a different question: would these same models also win on other prompts? The p values of such a test can be tiny and still say nothing about the next seed.
#
# > **The roadmap says** LoRA keeps 85-95% of full fine-tuning's quality and QLoRA keeps 80-90%. **The evidence says** the share depends on the task, and no percentage carries over from one task to another. Section 4 of the QLoRA paper reports parity on many tasks, while Biderman et al. 2024 (arXiv 2405.09673) find a gap on programming and mathematics at low ranks. The column `kept` above describes *one* task on *one* tiny model, and its values range from 95% to 104%. Measure the share on your own task.

# %% [markdown]
# <a id="choose" name="choose"></a>
# ## 5. What fits, and what to choose
#
# **Predict first.** The roadmap makes three claims about a 70B model: QLoRA fine-tunes it on one 24 GB GPU, LoRA at 16 bits fine-tunes it on a single A100, and full fine-tuning takes 4 to 8 A100s. According to the arithmetic in section 1, which of these claims are possible?


# %%
# NBVAL_CHECK_OUTPUT
def judged(way, card, cards):
    e = need("meta-llama/Llama-3.1-70B", way, card, length=512)
    row = {"weights, GiB": e.weights_gib, "total, GiB": e.total_gib}
    row |= {"there, GiB": cards * e.memory_gib, "cards": math.ceil(e.total_gib / e.memory_gib)}
    return row | {"holds": e.reserved_gib <= cards * e.memory_gib}


claims = {
    "QLoRA on one 24 GB card": ("QLoRA", "RTX 4090", 1),
    "LoRA at 16 bits on one A100": ("LoRA", "A100 80GB", 1),
    "full fine-tuning on 4 to 8 A100 80GB": ("full", "A100 80GB", 8),
    "QLoRA on one A100 80GB": ("QLoRA", "A100 80GB", 1),
}
pd.DataFrame([judged(*claim) for claim in claims.values()], index=list(claims)).round(0)

# %% [markdown]
# > **The roadmap says** a 70B model can be QLoRA-tuned on one 24 GB GPU. **The evidence says** its four-bit weights alone are larger than the card's memory. The model does fit on one 80 GB card. The QLoRA paper itself reports fine-tuning a 65B model on one 48 GB GPU (arXiv 2305.14314).
#
# > **The roadmap says** a 70B model can be LoRA-tuned at 16 bits on a single A100. **The evidence says** 70 billion weights at two bytes each take up 131 GiB. The part that LoRA *trains* is small,
# > but the frozen weights still have to be in memory.
#
# > **The roadmap says** full fine-tuning of a 70B model needs 4 to 8 A100 80GB cards. **The evidence says** sixteen bytes per parameter add up to more than a terabyte, so you need 14 cards (the column `cards`). With fewer cards you
# > need offloading, or an optimizer that stores fewer bits.
#
# Which method does a given card allow? The next cell tries the three methods in order, starting with the one that makes the fewest compromises, and shows the first one that fits:


# %%
# NBVAL_CHECK_OUTPUT
def first_that_fits(model, device):
    return next((way for way in WAYS if need(model, way, device).fits), "none")


models = ["Qwen/Qwen2.5-0.5B", "Qwen/Qwen3-4B", "mistralai/Mistral-7B-v0.3", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-14B", "meta-llama/Llama-3.1-70B"]  # fmt: skip
devices = ["T4", "RTX 4090", "A100 80GB", "H200"]
pd.DataFrame({d: {m: first_that_fits(m, d) for m in models} for d in devices})

# %% [markdown]
# The other decisions need judgment:
#
# 1. **LoRA or full fine-tuning?** If both fit, compare them on your own task, each at its own learning rate. Prefer full fine-tuning if the model has to learn a lot of new material, such as a language, a domain or a million rows. Prefer LoRA if you want different behavior, need to keep old abilities, or need many variants of one model.
# 2. **LoRA or QLoRA?** QLoRA saves memory but takes more time, because the weights are dequantized in every pass. If the model fits in 16 bits, LoRA is faster, and its merge is exact except for rounding to 16 bits.
# 3. **Which layers and which rank?** Start with rank 16 on *all* linear layers. PEFT's own default adapts only two matrices of each attention block ([deeper](#peft)). Raise the rank if that still improves the held-out loss, and sweep the learning rate again when you do.
# 4. **Which learning rate?** Start at several times the rate for full fine-tuning, then sweep. There is no universal factor: in our sweep, it was ten at ranks 1 and 2, and between 1.8 and 3.1 from rank 4 up ([deeper](#rates)). For a 7B model at rank 16, 2e-4 is a common first choice.
# 5. **How do you merge a QLoRA adapter?** In 16 bits you have two choices ([deeper](#merge)). Merging into the *dequantized* weights preserves the model that you trained. Merging into the *original* weights is more common and removes the rounding errors, but the adapter was trained to work with them, and in our measurement 7% of the answers changed.
#    Whichever you choose, evaluate *the merged model*, not the one you trained.
#
# For a first run on a 7B model, these are common settings. Unsloth's *LoRA Hyperparameters Guide* recommends nearly the same ones. Use them as the start of a sweep; they aren't results from this notebook.
#
# | setting | start with | and change it when |
# |---|---|---|
# | rank | 16 | a higher one still lowers the held-out loss |
# | alpha | r or 2r | you change the rank (then sweep the learning rate again) |
# | layers | all seven projections | memory is short |
# | dropout | 0 | the data set is small and the model overfits |
# | learning rate | 2e-4 for SFT, 5e-6 for DPO and RL | always: try a factor of two or three in each direction |
# | epochs | 1 to 3 | the held-out loss rises while the training loss still falls (then take fewer) |

# %% [markdown]
# <a id="end" name="end"></a>
# ## What you have now
#
# You have a LoRA layer that you can put into a model and take out again, a comparison that you can rerun, and the arithmetic that tells you which card you need. You also know what NF4 stores. In week 3 you use all of this through Unsloth: with a GPU, you train a 7B model with QLoRA; without one, you train a small model with LoRA and take a few steps with QLoRA.
#
# **The paper to read** is Hu et al. 2021, *LoRA* (arXiv 2106.09685). Section 4 describes the method that you built. Section 7.2 asks how small the rank can be. Section 7.1 asks which matrices to adapt under a fixed budget, but it doesn't say whether each choice had its own learning rate. Keep that in mind when you read its table: a shared learning rate can favor one choice over another ([deeper](#rates)).
#
# This is the end of the core. The sections that follow go deeper; read them in any order.

# %% [markdown]
# <a id="peft" name="peft"></a>
# ## Deeper: does PEFT compute the same thing?
#
# To find out whether PEFT computes the same thing as your layer, give its adapters and ours the same random numbers. `LoRALinear` in `postlab/scratch/lora.py` is the layer from the build, plus dropout and error messages. The test also fills $B$ with nonzero values; with zeros, the model with PEFT's adapters and the model with ours would both equal the base. The models use 64 bits so that rounding can't hide a mistake.

# %%
from postlab.scratch.lora import LoRALinear


def adapt(model, *, r, alpha):
    """Put a LoRALinear in the place of every projection of the model."""
    for name, module in list(model.named_modules()):
        parent, _, last = name.rpartition(".")
        if last in PROJECTIONS:
            setattr(model.get_submodule(parent), last, LoRALinear(module, r=r, alpha=alpha))
    return model


config = LoraConfig(r=8, lora_alpha=16, target_modules=list(PROJECTIONS), task_type="CAUSAL_LM")
theirs = get_peft_model(copy.deepcopy(base).double(), config)
ours = adapt(copy.deepcopy(base).double(), r=8, alpha=16)
for mine, library in zip(trained(ours), trained(theirs), strict=True):
    library.data.copy_(nn.init.normal_(mine, std=0.05).data)

# %% [markdown]
# Then send one text through both models, and run the backward pass.

# %%
ids = tokenizer("Q: What is 12+30+15?\nA: 12+30=42", return_tensors="pt")["input_ids"]
logits = [model(input_ids=ids).logits for model in (ours, theirs)]
for values in logits:
    values.logsumexp(dim=-1).sum().backward()

# %% [markdown]
# Do any logits or adapter gradients differ by more than $10^{-10}$?

# %%
# NBVAL_CHECK_OUTPUT
pairs = zip(trained(ours), trained(theirs), strict=True)
gradients = max((mine.grad - library.grad).abs().max().item() for mine, library in pairs)
largest = {"logits": (logits[0] - logits[1]).abs().max().item(), "gradients": gradients}
{name: "equal" if difference < 1e-10 else difference for name, difference in largest.items()}

# %% [markdown]
# The logits match, and so do the gradients. Merging is also exact, and the change that it adds to a weight has rank $r$:

# %%
# NBVAL_CHECK_OUTPUT
adapter, x = ours.model.layers[0].mlp.down_proj, torch.randn(4, in_features).double()
merged = adapter.merged()
same_output = torch.allclose(merged(x), adapter(x))
rank = torch.linalg.matrix_rank(merged.weight - adapter.linear.weight).item()
f"same output: {same_output}; the change has rank {rank}, it could have {min(layer.weight.shape)}"

# %% [markdown]
# ### What PEFT does by default
#
# Most tutorials set `target_modules`, and for good reason. These are the defaults of your version of PEFT for a Llama model:

# %%
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS

default = LoraConfig()
adapted = get_peft_model(copy.deepcopy(base), LoraConfig(task_type="CAUSAL_LM"))
count = sum(p.numel() for p in trained(adapted))
{"r": default.r, "alpha": default.lora_alpha, "layers": sorted(TARGETS["llama"]), "trained": count}

# %% [markdown]
# The default adapts only the query and value projections, as the first LoRA paper did. At the same rank of 8, that trains about a fifth as many parameters as adapting all seven projections (see the table in section 2). *LoRA Without Regret* recommends
# adapting all layers. It finds that adapting only the attention at rank 256 is clearly worse than adapting only the MLPs at rank 128, although both train about the same number of parameters. We also compared the two on our own task, with rank 16 on the attention and rank 12 on the MLPs ([deeper](#rates)).

# %% [markdown]
# <a id="bits" name="bits"></a>
# ## Deeper: NF4, bit for bit
#
# Section 3 used our quantizer. Now write its central part yourself, and then compare the whole quantizer with bitsandbytes.

# %% [markdown]
# ### Exercise 2.2 · about 10 minutes · medium
#
# `w` has shape `(n, 64)`, with one block per row. `codebook` has shape `(16,)` and is in ascending order. Return the codes as a `uint8` tensor of shape `(n, 64)`, and the scales `absmax` as a tensor of shape `(n,)`.
#
# <details><summary>Hint 1</summary>Start with the scales, and divide each block by its own. What would you divide by in a block of zeros?</details>
# <details><summary>Hint 2</summary>A weight's code is the position of the nearest value in the codebook. You can compare each weight with all sixteen values; broadcasting gives you the distances, <code>(n, 64, 16)</code>.</details>
# <details><summary>Hint 3</summary>You can avoid that large tensor. As a weight grows, where exactly does its nearest value change from one to the next? <code>torch.bucketize</code> finds which interval between sorted boundaries a number falls into.</details>


# %%
def nf4_codes(w, codebook):
    raise NotImplementedError


nf4_codes = check.nf4_codes(nf4_codes)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def nf4_codes(w, codebook):
#     absmax = w.abs().amax(dim=1)
#     scaled = w / absmax.clamp(min=1e-38).unsqueeze(1)
#     middles = (codebook[:-1] + codebook[1:]) / 2
#     return torch.bucketize(scaled, middles).to(torch.uint8), absmax
# ```
#
# </details>
#
# A block of zeros has the scale 0. The `clamp` avoids a division by zero. Every weight in the block then gets the code for 0, and dequantizing returns zeros again.
#
# Now look at the projections of the base model. The gray histogram shows the scaled weights. Each line marks a value in the codebook, and the line's height is the share of weights that are rounded to that value.

# %%
from postlab.course.week02 import plot_codebook

scaled = weights.view(-1, 64) / weights.view(-1, 64).abs().amax(dim=1, keepdim=True)
plot_codebook(scaled.numpy(), {"even steps": even.numpy(), "NF4": NF4.numpy()})

# %% [markdown]
# NF4's shares are more even than those of evenly spaced values, but they aren't equal: they range from 1.7% to 9.7%. The title of the figure sums this up as an entropy. If all sixteen codes were equally frequent, each code would carry the full four bits of information, but NF4's codes carry only 3.87. One reason for the gap is the scaling itself, which moves one weight in each block exactly to -1 or 1. So the scaled weights no longer follow a normal distribution.
# NF4 is a good codebook, but it isn't the optimal one (Yoshida 2023, arXiv 2306.06965).
#
# ### Does bitsandbytes compute the same thing?
#
# `postlab/scratch/nf4.py` contains the function you wrote plus some bookkeeping. Compare its packed codes, its scales and its dequantized weights with the library's:

# %%
# NBVAL_CHECK_OUTPUT
import bitsandbytes.functional as bnb


def same(w):
    """Whether codes, constants and dequantised weights are the library's, bit for bit."""
    codes, state = bnb.quantize_4bit(w, quant_type="nf4", compress_statistics=True)
    mine, dequantised = quantize(w, double_quant=True), bnb.dequantize_4bit(codes, state)
    pairs = [(mine.codes, codes.view(-1)), (mine.absmax, state.absmax)]
    return all(torch.equal(*pair) for pair in [*pairs, (mine.dequantize(), dequantised)])


f"{sum(map(same, matrices))} of {len(matrices)} matrices equal bitsandbytes in every bit"

# %% [markdown]
# #### The bug that this check found
#
# On processors with AVX-512 instructions, this cell once printed `0 of 28`. The codes and scales matched, but the dequantized weights did not. On these processors, bitsandbytes
# 0.50.2 uses a faster kernel, which assumes that no block crosses the end of a row: it expects `columns // 64` scales per row. That is right for 128 or 192 columns. With 160 columns,
# the third block starts in one row and ends in the next. Part of the second row is then multiplied by the wrong scale, and so is every value from the third row on. You can reproduce
# the mistake with your own codes:

# %%
# NBVAL_CHECK_OUTPUT
normal = torch.Generator().manual_seed(0)
errors = {}
for columns in (128, 160, 192, 416):
    w = torch.randn(256, columns, generator=normal)
    codes, absmax = nf4_codes(w.view(-1, 64), NF4)
    values = NF4[codes.long()].view(w.shape)
    row, column = torch.arange(256)[:, None], torch.arange(columns)
    blocks = {
        "right": (row * columns + column) // 64,
        "wrong": row * (columns // 64) + column // 64,
    }
    change = {how: values * absmax[block] - w for how, block in blocks.items()}
    errors[columns] = {
        how: (c.square().mean() / w.square().mean()).sqrt().item() for how, c in change.items()
    }
pd.DataFrame(errors).T.rename_axis("columns").round(2)

# %% [markdown]
# For 160 and 416 columns, the relative RMS error rises from 9% to about 25%, so it nearly triples. There is no error message: the model loads, the loss falls, and you train an adapter on a damaged base.
# The layer widths of a 7B model are multiples of 64, which is probably why nobody noticed. Our base has rows of 160 or 416 values, so every one of its projections was affected. Before you trust a fast kernel, compare its results bit for bit with something you computed yourself.
#
# postlab now tests for this fault whenever bitsandbytes is imported. If it finds the fault, it replaces the kernel for such rows and prints a one-line message. It also switches off a bfloat16 shortcut that some of these processors use in evaluation mode, if the shortcut gives different results. Here is what the same test reports on your machine afterwards:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.models import misread_widths

misread_widths() or "every width is read correctly"

# %% [markdown]
# <a id="blocks" name="blocks"></a>
# ## Deeper: block sizes and double quantization
#
# Smaller blocks contain smaller outliers, so their scales fit better. But each block needs a scale of its own, which takes another 32 bits. Measure the error for two codebooks and six block sizes:

# %%
rows = [
    (name, block, 4 + 32 / block, error_in_blocks(values, block), False)
    for name, values in {"NF4": NF4, "even steps": even}.items()
    for block in (16, 32, 64, 128, 256, 1024)
]

# %% [markdown]
# With blocks of 64 weights, the scales add half a bit per weight. Double quantization shrinks that by quantizing the scales too: it subtracts their mean and stores the rest in 8 bits, with one 32-bit scale for every 256 scales.

# %%
from postlab.course.week02 import plot_block_error

twice = quantize(weights, double_quant=True)
rows.append(("NF4", 64, 8 * twice.nbytes / len(weights), error(twice.dequantize()), True))
columns = ["codebook", "block", "bits", "error", "double"]
plot_block_error(pd.DataFrame(rows, columns=columns))

# %% [markdown]
# NF4 has a smaller error than evenly spaced values at every block size except 16, where the two are about equal. The diamond shows double quantization: it has the same error as the circle for block size 64 and takes 0.37 fewer bits per weight.

# %% [markdown]
# ### Exercise 2.3 · about 5 minutes · easy
#
# How many GiB (2**30 bytes) do the weights of a model take? Below 16 bits, each block of weights has one scale (here called a constant); at 16 bits and above, there are none.
#
# <details><summary>Hint</summary>Count the bits for one weight first: its own bits, plus its share of the block's constant.</details>


# %%
def weights_gib(parameters, *, bits, block=64, constant_bits=32):
    raise NotImplementedError


weights_gib = check.weights_gib(weights_gib)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def weights_gib(parameters, *, bits, block=64, constant_bits=32):
#     constants = constant_bits / block if bits < 16 else 0
#     return parameters * (bits + constants) / 8 / 2**30
# ```
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
sizes = {"Mistral 7B": mistral, "Llama 3.1 8B": 8_030_261_248, "Llama 3.1 70B": 70_553_706_496}
formats = {"16 bits": dict(bits=16), "NF4": dict(bits=4)}
formats["NF4, double"] = dict(bits=4, constant_bits=8 + 32 / 256)
table = {k: {m: weights_gib(n, **how) for m, n in sizes.items()} for k, how in formats.items()}
pd.DataFrame(table).round(1)

# %% [markdown]
# The last row returns to the roadmap's example, a 70B model on a 24 GB card: the four-bit weights alone don't fit.

# %% [markdown]
# <a id="rates" name="rates"></a>
# ## Deeper: learning rates, and *LoRA Without Regret*
#
# When LoRA is compared with full fine-tuning, the result often depends on a learning rate that suits only one of them. Here, we tuned each method's rate on the same grid and extended the grid whenever the best rate was at one end of it. We chose each rate by the loss after short runs on rows drawn with different seeds, and never used the held-out rows for this. About a quarter of the rows drawn with different seeds also occur among the training rows of any one long run, since the tiny world repeats itself.

# %%
from postlab.course.week02 import plot_learning_rates

rates = pd.DataFrame(recorded["learning_rates"])
rates["loss"] = rates["losses"].map(np.mean)
plot_learning_rates(
    rates[rates["method"].isin(["full", "lora-1", "lora-8", "lora-64", "qlora-16"])]
)

# %% [markdown]
# Full fine-tuning learns best at 0.0018. LoRA needs a higher rate, but how much higher depends on the rank: ten times at ranks 1 and 2, about three times at ranks 4 to 32, and 1.8 times at rank 64. The figure shows some of these ranks. Each point
# averages only two short runs, so neighboring rates are hard to tell apart.
#
# With one shared rate you could "prove" that either method is better. At 0.0018, the best rate for full fine-tuning, LoRA 8 ends at a loss of 0.18 instead of 0.11. At 0.01, about half the best rate for rank 1, full fine-tuning ends at 0.25 instead of 0.09.
# The section on [alpha](#alpha) looks for a reason why the best rate falls as the rank rises.

# %% [markdown]
# *LoRA Without Regret* (Schulman et al. 2025) reports that LoRA's best rate is about ten times that of full fine-tuning, and hardly depends on the rank. The adapters in that report have a fixed alpha of 32, while those in the sweep above have $\alpha = 2r$. What happens if alpha is fixed?

# %%
best = rates.loc[rates.groupby("method", sort=False)["loss"].idxmin()].set_index("method")
regret = pd.DataFrame({"best rate": best["lr"], "times full's": best["lr"] / best["lr"]["full"]})
regret["loss of the short runs"] = best["loss"]
regret[~regret.index.str.startswith("rslora")].round(4)

# %% [markdown]
# With alpha fixed at 16 (the `fixed` rows), the factor is 3.1 at rank 4 and 5.6 at ranks 16 and 64. So the factor no longer falls with the rank, but it's still less than ten. The grid has four rates per decade, and each point averages two short runs, so read the result as "three to six, and not falling". The gap between the report and our result is larger than it looks: for short runs of about a hundred steps, like those in our sweep, the report gives a factor of about 15.
#
# Which of the report's other findings did we check?
#
# | finding | here |
# |---|---|
# | LoRA matches full fine-tuning on small and medium data sets, if each has its own rate | no rank was shown to be worse ([section 4](#task)). With eight seeds, rank 8 scored 3.6 points more and rank 16 scored 2.2 points more, but both results are inconclusive. For the ranks with three seeds, the smallest difference we could count on finding is 3 to 35 points, depending on the rank |
# | the best rate is about ten times that of full fine-tuning | with $\alpha = 2r$, ten at ranks 1 and 2, and 1.8 to 3.1 at higher ranks; with $\alpha = 16$, 3.1 to 5.6 |
# | the best rate hardly depends on the rank | with a fixed alpha, ranks 16 and 64 had the same best rate and rank 4 a lower one; false with $\alpha = 2r$ |
# | adapt all layers, because attention-only adapters do worse | we couldn't tell attention-only adapters from adapters on all layers, and MLP-only adapters did much worse (below) |
# | in RL, even rank 1 learns as well as full fine-tuning | we couldn't tell rank 16 from full fine-tuning; rank 1 is six points behind after six steps and two points behind after twenty (below) |
#
# **Which layers?** The report finds that attention-only adapters learn less than MLP-only adapters, even with the same number of parameters. We trained each kind with five seeds, about 82,000 parameters and its own learning rate:

# %%
layers = every[every["method"].isin(["lora-16", "attention-16", "mlp-12"])].copy()
for family in ("lists", "facts", "howto"):
    layers[family] = [np.mean([int(c) for c in right[family]]) for right in layers["right"]]
layers["all three"] = layers[["lists", "facts", "howto"]].mean(axis=1)
columns = ["trainable", "lists", "facts", "howto", "all three"]
layers.groupby("method", sort=False)[columns].mean().round(3)

# %%
where = {name: part["all three"].to_numpy() for name, part in layers.groupby("method")}
pairs = [("attention-16", "lora-16"), ("mlp-12", "lora-16"), ("attention-16", "mlp-12")]
table = [against(where[one], where[two]) for one, two in pairs]
table = pd.DataFrame(table, index=[" against ".join(pair) for pair in pairs])
table["Holm's p"] = holm(table["p"])
table[["seeds", "difference", "low", "high", "Holm's p"]].round(3)

# %% [markdown]
# On our task, it's the other way round: attention-only adapters score 12.5 points more than MLP-only adapters (interval 7.9 to 17.0). MLP-only adapters also score 14 points less than adapters on all layers (interval 12 to 16). Most of that loss is in the list operations, where accuracy is 30.5% instead of 60.6%. The rest is in the how-tos, where accuracy is 85% instead of 99%. Accuracy on facts doesn't suffer at all. The likely reason is that sorting or reversing a list means copying numbers from other positions, and only attention can move information between positions. A fact, by contrast, can be stored in the MLPs. Attention-only adapters have less than half as many parameters as adapters on all layers. They scored 1.3 points less, but with this interval (-5.8 to 3.3), we can't tell the two apart.
#
# So which layers matter depends on the task, and a model with four layers isn't a 7B model. If you adapt all layers, as the report recommends and this course does, you can't leave out a layer that you need.
#
# **What about RL?** A group of answers tells the model far less per token than a reference answer does, so a small adapter should be enough. To check, we recorded GRPO runs on sums. (You'll meet GRPO in week 7.) All runs start from the weights of the recorded DPO stage, and each method has eight seeds. We chose each method's learning rate on different sums, separately for the short and the longer runs:

# %%
from postlab.course.week02 import plot_rl

rl = json.loads((folder / "rl.json").read_text())
trials, ends = pd.DataFrame(rl["trials"]), pd.DataFrame(rl["runs"])
ends["right"] = 100 * ends["arithmetic"].map(np.mean)
title = "In RL, LoRA 16 can't be told apart from full fine-tuning, at a higher rate"
plot_rl(trials, ends, title=title)

# %%
by_arm = {arm: part["right"].to_numpy() for arm, part in ends.groupby(["steps", "method"])}
pairs = [(steps, method) for steps in (6, 20) for method in ("lora-16", "lora-1")]
table = [against(by_arm[pair], by_arm[pair[0], "full"]) for pair in pairs]
names = [f"{method} against full, {steps} steps" for steps, method in pairs]
table = pd.DataFrame(table, index=names)
table["Holm's p"] = holm(table["p"])
table[["seeds", "difference", "low", "high", "Holm's p"]].round(3)

# %% [markdown]
# Before training, 52% of the sampled answers are right. After six steps, 96% are right with full fine-tuning, 96% with rank 16, and 90% with rank 1. So rank 1 learns more slowly: at this point, it's 6.1 points behind full fine-tuning (interval 4.6 to 7.6). After twenty steps, it's still 2.1 points behind (1.2 to 3.0), though it trains less than 1% of the parameters. We can't tell rank 16 from full fine-tuning after six steps (the interval for the difference is -0.04 to 1.16 points) or after twenty (-4.6 to 1.9). Look at the lowest dot for rank 16, though: one of its eight longer runs ended at 86%, so this learning rate may be too high to be safe.
#
# These results are close to the report's finding, but not quite the same. Our runs are short, the task is nearly solved by the end, and each learning rate was tried in only one run. In the short runs, though, the best rates are clearly far apart: with $\alpha = 2r$, the best rate at rank 16 is four times that of full fine-tuning, and at rank 1 it is sixteen times as high. At full fine-tuning's rate, rank 1 ended a short run with 55% right.

# %% [markdown]
# <a id="forgetting" name="forgetting"></a>
# ## Deeper: memory, time and forgetting
#
# ### Does the live run reproduce the recording?
#
# With the same loop, rows and seed, the loss on held-out rows should come close to the recorded one. It doesn't have to match exactly: with a different number of threads, numbers are added in a different order, and over two hundred steps the rounding differences grow. The recording used two threads.

# %%
test = task_batches("heldout", recipe["heldout_rows"], 64)
tokens = torch.tensor([batch["loss_mask"][:, 1:].sum() for batch in test])


@torch.no_grad()
def heldout_loss(model):
    losses = torch.stack([batch_loss(model.eval(), batch) for batch in test])
    return ((losses * tokens).sum() / tokens.sum()).item()


# %%
there = runs[runs["seed"] == 0].set_index("method")["loss"]
here = pd.Series({method: heldout_loss(model) for method, model in live.items()})
pd.DataFrame(
    {"live": here, "recorded": there[here.index], "ratio": here / there[here.index]}
).round(4)

# %% [markdown]
# In the stored output, the live and the recorded losses are very close: their ratios are between 0.9999 and 1.0000. On another machine, expect larger differences. On the second machine from section 4, the ratios were between 0.94 and 1.02.
#
# ### Memory and time
#
# What does each method save? In this figure, *activations* means all the memory that a forward and backward pass needs at its peak, apart from weights, gradients and optimizer state. Those three were counted tensor by tensor; the activations were measured with PyTorch's profiler on the largest batch. The time per step is the median over many steps, with the methods alternating.

# %%
from postlab.course.week02 import plot_step_memory

first = runs[runs["seed"] == 0].set_index("method")
parts_mib = pd.DataFrame(first["memory_mib"].tolist(), index=first.index)
picked = ["full", "lora-1", "lora-16", "lora-64", "qlora-16"]
plot_step_memory(parts_mib.loc[picked], recorded["step_s"])

# %% [markdown]
# LoRA 16 needs 61% less memory than full fine-tuning for weights, gradients and optimizer state, and QLoRA 16 needs 80% less. But in a model this small, activations take most of the memory, and adapters reduce this memory by at most a tenth. In total, LoRA 16 saves only 23%
# and QLoRA 16 saves 29%. In a 7B model, it's the other way round: there the weights and optimizer state dominate (see the first figure).
#
# Only LoRA 1 takes less time than full fine-tuning, and only a little less: 52 ms per step instead of 56. Ranks 2 to 64 take 57 to 70 ms, and QLoRA 16 takes 67 ms. LoRA doesn't have to compute gradients for the frozen matrices, but it adds two small products to each layer. For matrices as small as these, the extra products probably cost about as much time as LoRA saves. All times were measured on a CPU.

# %% [markdown]
# ### What was forgotten
#
# Training on a new task can make a model worse at what it knew before. To see how much worse, measure the loss on new documents of the kind the base was pretrained on. `forgotten` is the mean increase compared with the base, and `least` and `most` are the smallest and the largest increase of any seed:

# %%
runs["forgotten"] = runs["document_loss"] - recorded["base"]["document_loss"]
by_method = runs.groupby("method", sort=False)
forgotten = by_method["forgotten"].agg(["mean", "min", "max"])
forgotten = forgotten.set_axis(["forgotten", "least", "most"], axis=1)
losses = by_method[["loss", "document_loss"]].mean()
losses = losses.set_axis(["loss on held-out rows", "loss on documents"], axis=1)
pd.concat([by_method.size().rename("seeds"), losses, forgotten], axis=1).round(3)

# %% [markdown]
# Every method forgot a lot: the loss of the base model was 0.40, and the smallest mean increase in this table is 0.30. Every model with rank 1 or 4 forgot less than all eight models with full fine-tuning, and every model with rank 32 forgot more than all eight. The ranges of the other methods overlap with that of full fine-tuning. LoRA 8 is one of these methods, even with eight seeds: its mean increase is only 0.04 lower than that of full fine-tuning. Rank 1 forgot least, but it also has the highest loss on the new task.
#
# At ranks 1 to 4, the means agree with Biderman et al.'s finding that LoRA forgets less. At ranks 8, 16 and 64, the difference is small, and at rank 32, LoRA forgot more. The low ranks have only three seeds each, and we picked out these comparisons after seeing the table, so take this as a hint, not a result. One likely reason why higher ranks don't forget less is that each method was trained at its own best rate. With a high enough rate, even a low-rank update can move the model far from the base.

# %% [markdown]
# <a id="alpha" name="alpha"></a>
# ## Deeper: alpha over r, or over the square root of r?
#
# If you keep $\alpha$ fixed, $\alpha / r$ gets smaller as the rank grows. Kalajdzievski (2023, rsLoRA, arXiv 2312.03732) argues that this scale becomes too small: at high ranks, the adapter learns too slowly to use its extra parameters. The paper proposes the scale $\alpha / \sqrt r$ instead. To see what the scale does, measure how far Adam's very first step moves the logits:


# %%
def first_step(rank, rslora):
    """How far one Adam step moves the logits, root mean square, nats."""
    torch.manual_seed(0)
    config = LoraConfig(r=rank, lora_alpha=16, use_rslora=rslora, target_modules=list(PROJECTIONS))
    model, batch = get_peft_model(copy.deepcopy(base), config), batches[0]
    before = base(input_ids=batch["input_ids"]).logits.detach()
    batch_loss(model, batch).backward()
    torch.optim.AdamW(trained(model), lr=1e-4, weight_decay=0.0).step()
    with torch.no_grad():
        return (model(input_ids=batch["input_ids"]).logits - before).square().mean().sqrt().item()


# %%
from postlab.course.week02 import plot_first_step

ranks, names = (1, 2, 4, 8, 16, 32, 64), {"alpha / r": False, "alpha / sqrt(r)": True}
moved = pd.DataFrame({k: [first_step(r, v) for r in ranks] for k, v in names.items()}, index=ranks)
plot_first_step(moved)

# %% [markdown]
# Under $\alpha / r$, the first step has about the same size at every rank. Under $\alpha / \sqrt r$, it grows. You can work out why. $B$ starts at zero, and its gradient is $\frac{\alpha}{r}\, \delta\, (Ax)^\top$. Adam's first step moves every entry by the learning rate
# $\eta$, whatever the size of its gradient, so $\Delta B_{ij} = -\eta\, \text{sign}(\delta_i (Ax)_j)$. $A$ doesn't move yet. For a single token, output $i$ then changes by
#
# $$\Delta y_i = \frac{\alpha}{r} \sum_{j=1}^{r} \Delta B_{ij} (Ax)_j = -\frac{\alpha}{r}\, \eta\, \text{sign}(\delta_i) \sum_{j=1}^{r} |(Ax)_j|$$
#
# All $r$ terms have the same sign, so the sum grows in proportion to $r$, and dividing by $r$ cancels that exactly. If you divide by $\sqrt r$ instead, the step grows like $\sqrt r$: by a factor of 8 from rank 1 to rank 64. We measure a factor of 6.5 there. Under $\alpha / r$, the prediction is a factor of 1, and we measure 0.8. The ratio of the two measured factors is 8, as predicted. Both factors are somewhat low, probably because $A$ is random and the formula is exact only for a single token. If you set $\alpha = 2r$, as is common and as section 4 does, the scale is the same at all ranks and the step grows like $r$. That agrees with the sweep in direction but not in size: from rank 1 to 64, the step should grow by a factor of 64, while the best rate falls only by a factor of 5.6, in two jumps.
#
# Does the first step also predict the best rate for a whole run? Look at the sweep:

# %%
from postlab.course.week02 import plot_scalings

rates = pd.DataFrame(recorded["learning_rates"])
rates["loss"] = rates["losses"].map(np.mean)
plot_scalings(rates)

# %% [markdown]
# It doesn't. The first step has the same size at every rank under $\alpha / r$, so you might expect the same best rate. But the best rate is higher at ranks 16 and 64 than at rank 4. Under $\alpha / \sqrt r$, where the first step grows, the best rate is the same at all three ranks,
# which is what rsLoRA predicts. At rank 64, it also reaches a lower loss than $\alpha / r$ does. But each point is the mean of two seeds, and the two seeds differ by more than the curves do, so take this as no more than a hint.
# What is clear is that the size of the first step doesn't explain everything.
#
# One practical lesson is certain: if you compare ranks at one learning rate and one $\alpha$, you are really comparing scales.

# %% [markdown]
# <a id="merge" name="merge"></a>
# ## Deeper: the merge that changes the answers
#
# A QLoRA adapter is trained on top of *rounded* weights. You can merge it in three ways:
#
# 1. Merge the adapter into the dequantized weights and keep the result in 16 bits. Apart from rounding to 16 bits, this is the model you trained, but its weights take up about four times as much space. We use 32 bits here, which doubles that again.
# 2. Merge into the original, unquantized weights. This is common practice, and the result is as large as the first one.
# 3. Merge into the rounded weights and round the sum to four bits again. The model stays small.

# %%
import tempfile

from peft import PeftModel

qlora, folder = live["qlora-16"], tempfile.mkdtemp()
qlora.save_pretrained(folder)


def merged_into(base_weights):
    """The adapter merged into a new copy of the base: "dequantised", "original" or "four bits"."""
    model, _ = load_policy("", profile="tiny", bits=4 if base_weights == "four bits" else 32)
    for name, weight in model.named_parameters():
        if base_weights == "dequantised" and "proj" in name:
            weight.data = quantize(weight.data, double_quant=True).dequantize()
    return PeftModel.from_pretrained(model, folder).merge_and_unload()


# %% [markdown]
# Before you run the next cell, guess which of the three will give the same answers as the model you trained, and which of the other two will change more answers.

# %%
import warnings

from IPython.display import clear_output

from postlab.evals import evaluate
from postlab.tinyworld.tasks import heldout_suite

suite = [row for row in heldout_suite(n=60) if row["family"] in ("lists", "facts", "howto")]
merges = {"1. dequantised": "dequantised", "2. original": "original"}
merges["3. four bits again"] = "four bits"
warnings.filterwarnings("ignore", module="peft")  # PEFT warns of what is measured here
frames = {"as trained": evaluate(qlora, tokenizer, suite)}
for name, base_weights in merges.items():
    frames[name] = evaluate(merged_into(base_weights), tokenizer, suite)
clear_output()  # of the progress bars

# %% [markdown]
# Now count how many answers changed, and how many are right.

# %%
from postlab.stats import wilson


def versus_trained(name):
    changed = frames[name]["answer"] != frames["as trained"]["answer"]
    right = frames[name][["lists", "facts", "helpfulness"]].max(axis=1).mean()
    share = wilson(changed.sum(), len(changed))
    row = {"answers changed": share.value, "low": share.low, "high": share.high}
    return row | {"of": share.n, "answered right": right}


changes = pd.DataFrame({name: versus_trained(name) for name in frames}).T
changes.round(3)

# %%
from postlab.course.week02 import plot_merges

plot_merges(changes.iloc[1:])

# %% [markdown]
# Only the first merge gives the same answers as the trained model. Merging into the original weights changes 7% of the answers, and rounding again changes 6%; the intervals overlap widely, so we can't say which is worse. The share of right answers hardly moves: an answer can change
# without becoming wrong. `postlab.models.export` merges into the original weights and reports how many of your model's answers changed, so you can decide whether that matters. You'll use it in week 12.

# %% [markdown]
# <a id="smol" name="smol"></a>
# ## Deeper: full, LoRA and QLoRA on SmolLM2
#
# The embedded model is so small that activations take most of its memory. SmolLM2-135M, a real language model, has a hundred times as many weights. With the `smol` profile, this cell runs a few steps with each method on your machine, which takes a few minutes. With every other profile, it shows a recorded run.

# %%
from postlab.course.week02 import smol_step

smol = json.loads((data_dir() / "results" / "week02" / "smol.json").read_text())
live_here = lab.profile.name == "smol"
steps = {m: smol_step(m) for m in smol["methods"]} if live_here else smol["methods"]
origin = smol["provenance"]
print("measured here" if live_here else f"recorded on {origin['date']}: {origin['device']}")
smol_table = pd.DataFrame(steps).T.drop(columns=["trained", "loss", "loss_after"])
in_mib = ["weights", "gradients", "optimizer", "activations"]
smol_table.insert(4, "peak", smol_table[in_mib].sum(axis=1))
smol_table.rename(columns={n: f"{n}, MiB" for n in [*in_mib, "peak"]}).T.round(2)

# %% [markdown]
# Weights, gradients and optimizer state take 2.0 GiB with full fine-tuning. LoRA needs 71% less and QLoRA 89% less. Counting the activations of four short rows, LoRA's peak memory is 56% lower and QLoRA's is 69% lower. These savings fall between those in the embedded model, where activations hide most of the saving, and those in a 7B model, where activations hardly matter. Four bits are an eighth of 32, but QLoRA's weights take up more than an eighth of the memory of the 32-bit weights. The reason is the embedding matrix: it isn't quantized, and it contains a fifth of this small model's parameters.
#
# The machine was busy with other programs during the recording, so compare processor time rather than wall-clock time, and don't expect a GPU's times to resemble either. A step took 10.6 seconds of processor time with full fine-tuning, 7.7 with LoRA and 7.9 with QLoRA.
# LoRA saves time here because the frozen matrices need no gradients of their own. In the [embedded model](#forgetting), it saves hardly any time, probably because the matrices are so small that each layer's two extra products take about as much time as LoRA saves. Each method was timed for only two steps, so we can't tell whether LoRA or QLoRA is faster.

# %% [markdown]
# <a id="price" name="price"></a>
# ## Deeper: how accurate are the estimates, and what does a run cost?
#
# We compared `postlab.preflight.estimate` with published runs, and `data/results/preflight/published.json` records how far off it was. `estimate` gives a range for each figure. For 111 memory peaks that weren't used to
# fit the formulas, the range contains the published value in 91% of cases, and its median width is ±23.4%. For 47 speeds, it contains the published value in 98% of cases, but its median width is ±37.3%, more than the ±25% we aimed for. So trust the gigabytes more than the
# hours. We had looked at both sets of figures before the formulas were final, which makes these numbers somewhat optimistic; the record explains how.
#
# What does a run cost? Here is the estimate for QLoRA on an 8B model with fifty thousand rows. The result is a range, because no run reaches the peak speed of a device. The estimate uses rounded on-demand prices from May 2026, and prices differ between sellers by a factor of two or more:


# %%
def price(device):
    e = need("meta-llama/Llama-3.1-8B", "QLoRA", device, length=512, batch=8, examples=50_000)
    dollars = "${:.0f} to {:.0f}".format(*e.dollars_range)
    return {"hours": "{:.1f} to {:.1f}".format(*e.hours_range), "price": dollars, "fits": e.fits}


pd.DataFrame({device: price(device) for device in devices}).T

# %% [markdown]
# <a id="interview" name="interview"></a>
# ## Five interview questions
#
# <details><summary>1. Why is B initialized with zeros and A at random? Could it be the other way round, or could both be zero?</summary>
#
# The product has to be zero so that training starts exactly at the base model. If both are zero, the gradient of each one contains the other and is zero too, so nothing ever moves. Setting A to zero and B to random values also works. The two choices differ in how high a learning rate they tolerate: with B at zero, you can usually go higher (Hayou et al. 2024, *The Impact of Initialization on LoRA Finetuning Dynamics*).
#
# *Follow-up: what if you initialize both at random?* Then the model starts as the base plus random noise. A small amount of noise needn't hurt (Li et al. 2025, arXiv 2505.23194), but you no longer start exactly at the base model.
# </details>
#
# <details><summary>2. You raise the rank from 16 to 64, leave alpha at 16, and the loss gets a little worse. What happened?</summary>
#
# alpha / r fell from 1 to a quarter, so each direction of the adapter contributes only a quarter of what it did before. With Adam, the first step is about as large as before ([deeper](#alpha)), so at the same learning rate you shouldn't expect the additional rank to help. In that case, "a little worse" may just be noise from the seed. For a fair comparison,
# give each rank its own learning rate, or use rsLoRA or an alpha that grows with r, and sweep again. And train more than one seed.
#
# *Follow-up: when would you expect rank 64 to win?* You'd expect that when the data contains more than a rank-16 update can store, for example when many rows teach things the model doesn't know.
# </details>
#
# <details><summary>3. How many bits does a weight take under QLoRA, exactly?</summary>
#
# The code takes 4 bits, and one 32-bit scale per 64 weights adds 32 / 64 = 0.5 bits. Double quantization stores the scales in 8 bits, with one 32-bit scale per 256 of them. That reduces the 0.5 bits to 8 / 64 + 32 / (64 x 256) = 0.127 bits, so the answer is 4.127 bits. Embeddings, norms and the output head aren't quantized and stay in 16 bits.
#
# *Follow-up: what format is used for the matrix multiplication?* The multiplication uses a 16-bit format. The four-bit weights are only for storage; each layer dequantizes its weights when it needs them, and gradients flow through them to the adapters.
# </details>
#
# <details><summary>4. System design: two hundred customers each have an adapter for the same 8B model. How do you serve them?</summary>
#
# Keep one copy of the base in memory and the adapters unmerged beside it. At rank 16 on all linear layers, an adapter has about 42 million parameters, or 84 MB in 16 bits. Two hundred of them take up 17 GB, about as much as the base, so everything fits on an 80 GB card. On a smaller card, load adapters from host memory on demand. Batch requests across customers: they share the product with the base weights, and the adapters' products are grouped (as in S-LoRA and Punica). Merging would need two hundred copies of the base.
#
# *Follow-up: what limits the batch size then?* It's usually the KV cache, which grows with the number of requests and their length.
# </details>
#
# <details><summary>5. Research taste: a paper says that LoRA matches full fine-tuning. What do you ask?</summary>
#
# Was the learning rate chosen separately for each method, and not on the test data? How many training seeds were there, and how wide is the interval? ("No significant difference" on 50 prompts isn't evidence of parity.) Did the task need new knowledge, or only a different style? Which layers were adapted and at which rank, and did the data exceed what such an adapter can hold?
# And how much did each model forget?
#
# *Follow-up: how would you show parity?* Decide beforehand which difference would still be acceptable, and train enough seeds that the whole interval lies within it. And if a comparison is inconclusive, say which difference it could have detected. In section 4, for LoRA 8 and full fine-tuning, that was 5.3 points with eight seeds each and 19 points with three.
# </details>

# %% [markdown]
# <a id="papers" name="papers"></a>
# **Papers.** Besides the one in the core, there are four more to read. In Dettmers et al. 2023, *QLoRA* (arXiv 2305.14314), section 3 covers NF4 and double quantization, and section 4 covers parity. Biderman et al. 2024, *LoRA Learns Less and Forgets Less* (arXiv 2405.09673), measure both halves of their title. Kalajdzievski 2023 (arXiv 2312.03732) is the source of the scaling in the section on alpha. Schulman et al. 2025, *LoRA Without Regret* (Thinking Machines Lab), report when LoRA equals full fine-tuning, which layers to adapt, and why the best learning rate hardly depends on the rank.
