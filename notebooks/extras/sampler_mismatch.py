# %% [markdown]
# # Extra · When sampler and trainer differ
#
# The derivation of week 7 assumes that the answers come from the policy that is being trained. In a real RL system they don't. They come from an inference engine such as vLLM, which holds a *copy* of the weights: with other kernels, often in lower precision, and sometimes several updates old, because sampling goes on while
# the trainer works. So your on-policy algorithm is off-policy without telling you. In 2025 several teams found that this is enough to make RL runs collapse, and TRL now corrects for it by default where vLLM samples.
#
# By the end you can explain
#
# - how to measure the mismatch, per token, with numbers that every engine already returns,
# - why rounded weights and old weights are the same problem, and
# - what truncated and masked importance sampling do, in a correction that agrees with TRL's in value and gradient.
#
# What our tiny model shows is *mechanism, not capability*. Nothing here ran on a GPU.

# %% tags=["setup"]
import importlib.metadata
import subprocess
import sys
from pathlib import Path

if not any(importlib.metadata.distributions(name="postlab")):
    # From the clone around this notebook, a wheel or zip (`make release`) beside it, or GitHub.
    clones = [p for p in (Path("../.."), Path()) if (p / "postlab" / "install.py").exists()]
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

lab = postlab.start()

# %% [markdown]
# ## 1. Two copies of the weights

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.extras import draw_two_copies

draw_two_copies()

# %% [markdown]
# Call the policy that is trained $p$ and the sampler's copy $q$. The policy gradient of week 7 is an expectation over $y \sim p$. If the samples come from $q$, the same expectation needs an importance weight:
#
# $$\mathbb{E}_{y \sim p}\big[A(y)\, \nabla \log p(y)\big] = \mathbb{E}_{y \sim q}\Big[\frac{p(y)}{q(y)}\, A(y)\, \nabla \log p(y)\Big]$$
#
# An engine returns $\log q$ of each token that it samples. The trainer computes $\log p$ of the same tokens anyway. Their difference is all that we need, and its mean over the sampled tokens, with the sign reversed, estimates the KL divergence from the sampler to the policy:
#
# $$\mathrm{KL}(q \,\|\, p) = \mathbb{E}_{y \sim q}\big[\log q(y) - \log p(y)\big]$$
#
# ## 2. Measure it
#
# The policy is the model of week 3 in float32. We let copies of it sample: rounded to 8, 4 and 3 bits (one scale per row, as in simple int8 engines), and the model as it was some updates ago. For the old copies we take a policy that has been trained for a few steps, and sample from where it began.
#
# **Predict first.** Which is further from the policy: its own weights in int8, or its weights from eight updates ago?

# %%
import tempfile

import pandas as pd
import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from postlab.course.extras import OtherSampler, corrected
from postlab.datasets import math_rows
from postlab.models import load_policy, trainable
from postlab.profile import get_profile
from postlab.rewards import math_reward

place = postlab.Lab(get_profile("tiny"), seed=0)
profile = place.profile
rows = math_rows(profile.grpo.source, split="train", n=600, seed=lab.seed)


def grpo(sampler, *, mode=None, **settings):
    """TRL's trainer on the SFT stage, with this sampler and this correction."""
    policy, tokenizer = load_policy(place.checkpoint("sft"), profile=profile.name, bits=32)
    trainer = corrected(GRPOTrainer, mode=mode)(
        model=trainable(policy),
        processing_class=tokenizer,
        reward_funcs=math_reward,
        rollout_func=sampler,
        train_dataset=Dataset.from_list([{k: r[k] for k in ("prompt", "answer")} for r in rows]),
        args=GRPOConfig(
            **profile.grpo.trainer
            | {"output_dir": tempfile.mkdtemp(), "seed": lab.seed, "save_strategy": "no"}
            | {"per_device_train_batch_size": 16, "num_generations": 4}
            | settings
        ),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def log_ratios(sampler, trainer):
    """log p - log q of each token that the sampler writes, in nats."""
    out = sampler([row["prompt"] for row in rows[:48]], trainer)
    values = []
    for start, answer, logq in zip(
        *map(out.get, ("prompt_ids", "completion_ids", "logprobs")), strict=True
    ):
        ids = torch.tensor([start + answer])
        with torch.no_grad():
            logits = trainer.model(ids).logits[0, len(start) - 1 : -1] / trainer.temperature
        logp = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]
        values += (logp - torch.tensor(logq)).tolist()
    return values


trainer = grpo(OtherSampler(lag=8), max_steps=8, learning_rate=1e-3, lr_scheduler_type="constant")
trainer.train()  # its sampler keeps the copies of the last steps
old = trainer.rollout_func
samplers = {f"{bits} bits": OtherSampler(bits=bits) for bits in (8, 4, 3)}
samplers |= {"float32": OtherSampler(), "8 steps old": old}
frame = pd.DataFrame(
    {"sampler": name, "log_ratio": value}
    for name, sampler in samplers.items()
    for value in log_ratios(sampler, trainer)
)

# %%
from postlab.course.extras import plot_ratios

plot_ratios(frame)

# %%
measured = frame.groupby("sampler", sort=False)["log_ratio"].agg(
    kl=lambda x: -x.mean(), largest=lambda x: x.abs().max(), tokens="size"
)
measured

# %% [markdown]
# The same weights in float32 differ by less than 0.00001 nats on any token, although our sampling engine and the trainer compute them with different code. In 8 bits the KL is 0.00008 nats per token, and it grows quickly with every bit that's taken away: 0.006 in 4 bits, 0.22 in 3. The weights of eight updates ago are the furthest of all, 0.62 nats,
# but the learning rate was high and the policy was changing a lot just then. In every case most tokens hardly differ, and a few differ far more: by up to 0.1 nats in 8 bits, and by up to 14 nats, a factor of about a million, with the old weights.
#
# ## 3. The correction
#
# The exact weight of an answer is the product of its tokens' ratios. It can be huge, so everybody limits it, and there are two decisions to make:
#
# | | one ratio per token | one ratio per answer |
# |---|---|---|
# | **truncated** (TIS): at most C | `token_truncate` | `sequence_truncate` |
# | **masked** (MIS): 0 above C | `token_mask` | `sequence_mask`, TRL's default |
#
# A ratio per token ignores that the prefix was sampled from $q$, too, so it's biased but has little variance. A ratio per answer is right, up to the limit, and is noisy on long answers. Truncating keeps every token and underweighs the surprising ones; masking distrusts them altogether. A very small ratio costs nothing either way: its token
# hardly counts.
#
# Now the weights themselves, and the check that TRL does the same. TRL only corrects where vLLM samples, so `corrected` is a subclass of some thirty lines: with one update per batch the policy's own ratio is 1, and to multiply a token's loss by its weight is to multiply its advantage.

# %%
import inspect

from postlab.course.extras import importance_weights

print(inspect.getsource(importance_weights).split('"""')[2].rstrip())


# %%
def same_as_trl(mode, limit=2.0):
    """Largest difference between our corrected loss and TRL's, and between their gradients."""
    trainer = grpo(OtherSampler(bits=3))
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # as `train` would set it
    batch = trainer._prepare_inputs(list(trainer.train_dataset.select([0] * 8 + [1] * 8)))
    weights = [p for p in trainer.model.parameters() if p.requires_grad]
    plain = trainer._compute_loss(trainer.model, batch)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    mask = batch["completion_mask"]
    logps, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, seen, mask.shape[1])
    ratios = (logps.detach() - batch["sampling_per_token_logps"]) * mask
    w = importance_weights(ratios, mask, mode, limit)
    ours = trainer._compute_loss(
        trainer.model, batch | {"advantages": batch["advantages"][:, None] * w.expand_as(mask)}
    )
    trainer.use_vllm = True  # TRL's own branch, with the same ratio
    theirs = trainer._compute_loss(trainer.model, batch | {"importance_sampling_ratio": w})
    gaps = [
        (a - b).abs().max().item()
        for a, b in zip(*(torch.autograd.grad(x, weights) for x in (ours, theirs)), strict=True)
    ]
    return {
        "mode": mode,
        "uncorrected": plain.item(),
        "TRL": theirs.item(),
        "ours": ours.item(),
        "gradient": max(gaps),
    }


# %%
checked = pd.DataFrame(
    same_as_trl(mode)
    for mode in ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
).set_index("mode")
assert (checked["TRL"] - checked["ours"]).abs().max() < 1e-5 and checked["gradient"].astype(
    float
).max() < 1e-5
checked.rename(columns={"gradient": "largest difference of a gradient"})

# %% [markdown]
# All four agree with TRL's own branch. So you can use the correction with any sampler that returns log-probabilities.
#
# ### Exercise · about 10 minutes · easy
#
# A run logs, for each batch, the log-ratios $\log p - \log q$ of its tokens. Write the **effective sample size** of a batch with one weight per token, as a share of the tokens: $(\sum w)^2 / (n \sum w^2)$ with $w = p/q$. It's 1 if all weights are equal, and it falls towards $1/n$ when one token outweighs all the others. The mean
# ratio doesn't notice this: it is 1 on average, however bad the mismatch.


# %%
def effective_share(log_ratios):
    raise NotImplementedError


# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def effective_share(log_ratios):
#     w = torch.as_tensor(log_ratios).exp()
#     return (w.sum() ** 2 / (len(w) * (w**2).sum())).item()
# ```
#
# </details>


# %%
def reference_share(log_ratios):
    w = torch.as_tensor(log_ratios).exp()
    return (w.sum() ** 2 / (len(w) * (w**2).sum())).item()


cases = {"equal weights": [0.3, 0.3, 0.3], "weights 3, 1, 1, 1": [1.0986123, 0.0, 0.0, 0.0]}
try:
    for case, values in cases.items():
        got, expected = float(effective_share(torch.tensor(values))), reference_share(values)
        if abs(got - expected) > 1e-4:
            hint = " Are the log-ratios exponentiated first?" if case != "equal weights" else ""
            print(
                f"Not yet: with {case} yours is {got:.3f}, and {expected:.3f} was expected.{hint}"
            )
            break
    else:
        print("Right. For the weights 3, 1, 1, 1 it is (3+1+1+1)² / (4 · (9+1+1+1)) = 0.75.")
except NotImplementedError:
    print("Not attempted: the reference takes over.")
except Exception as error:
    print(f"Your function raised {type(error).__name__}: {error}")
frame.groupby("sampler", sort=False)["log_ratio"].agg(lambda x: reference_share(x.to_list())).round(
    3
)

# %% [markdown]
# With 3 bits, the tokens are worth less than half of their number. But look at the old weights: they have the highest KL, and still an effective share of more than 0.8. The weights only know the tokens that the sampler wrote. Where the policy has moved on to something that the sampler never writes, no token has a large ratio; the sampled ones have
# tiny ratios instead. So a high share is no proof that the two agree. Watch the KL as well.
#
# ## 4. Asynchronous training is the same thing
#
# A large run doesn't let its GPUs wait: samplers keep writing while the trainer updates, so an answer is scored by weights that are newer than those that wrote it, and a long answer may even be written by several versions. To the trainer this is one more reason why $q \neq p$. The measurement is the same, the ratio is the same and so is the
# correction; only the cause differs. It follows that staleness and precision share one budget: with a good correction you can afford fewer synchronisations *or* a cheaper sampler, and the KL per token tells you how much of it you've spent.
#
# There is one difference in practice. Rounding errors are small and about the same at each step, so they can be removed at the source: run trainer and sampler in the same precision, with kernels that don't depend on the batch. Staleness grows with the learning rate, and with how fast the policy is changing.
#
# ## 5. What it does to a run
#
# So far we have measured the mismatch. The recorded experiment trains with it: GRPO on the sums, 24 updates of 16 answers each, one update per batch, with the policy in float32 in every arm. The samplers are the policy itself, its 8-bit and its 3-bit copy, and its weights of eight updates ago. The last two run without a correction, with
# truncated weights per token (TIS) and with masked weights per answer (MIS), at TRL's limit of 3. The learning rate is $10^{-3}$, which the extra on distillation chose for GRPO on this model. It is high, and that's where staleness hurts; one arm has a third of it.
#
# **Predict first.** Which of these runs will collapse, and which correction saves them?

# %%
import json

from postlab.course.extras import plot_corrections
from postlab.profile import data_dir

recorded = json.loads((data_dir() / "results" / "extras" / "mismatch.json").read_text("utf-8"))
pd.Series(recorded["provenance"], name="recorded").to_frame()

# %%
names = {"same": "same", "8 bits": "8 bits", "3 bits": "3 bits", "stale": "8 updates old"}
steps = recorded["settings"]["measured"]
curves = pd.DataFrame(
    {"sampler": names[run["sampler"]], "correction": run["correction"], "seed": run["seed"]}
    | {"rate": run["rate"], "step": step, "accuracy": sum(right) / len(right)}
    for run in recorded["runs"]
    for step, right in zip(steps, run["right"], strict=True)
)
high = curves[curves["rate"] == 1e-3]
last = high[high["step"] == steps[-1]].groupby(["sampler", "correction"])["accuracy"].mean()
old = last["8 updates old"]
plot_corrections(
    high,
    f"With weights eight updates old, {old['none']:.0%} of the sums are right in the end; with TIS "
    f"{old['TIS']:.0%}, with MIS {old['MIS']:.0%}, on-policy {last['same', 'none']:.0%}",
)


# %%
def summary(run):
    """What a recorded run did, in one row: its mismatch, and its accuracy in the end."""
    accuracies = [sum(right) / len(right) for right in run["right"]]
    return {
        "sampler": names[run["sampler"]], "correction": run["correction"], "rate": run["rate"],
        "KL per token": sum(run["kl"]) / len(run["kl"]), "largest log-ratio": max(run["largest"]),
        "best": max(accuracies), "last": accuracies[-1], "seed": run["seed"],
    }  # fmt: skip


runs = pd.DataFrame(map(summary, recorded["runs"]))
by = ["sampler", "correction", "rate"]
table = runs.groupby(by, sort=False).agg(
    seeds=("seed", "size"), KL=("KL per token", "mean"), largest=("largest log-ratio", "max"),
    best=("best", "mean"), last=("last", "mean"), worst=("last", "min"),
)  # fmt: skip
table.rename(columns={"worst": "last, worst seed"}).round(3)

# %% [markdown]
# TODO findings
#
# With the seeds as the unit, on the accuracy after the last update, corrected by Holm's method:

# %%
from postlab.stats import blocked_differences, holm

ends = runs[runs["rate"] == 1e-3].set_index("seed").sort_index()
arms = {
    f"{sampler}, {correction}": rows["last"].to_list()
    for (sampler, correction), rows in ends.groupby(["sampler", "correction"], sort=False)
}
plain = "8 updates old, none"
pairs = [(plain, "same, none"), ("8 updates old, TIS", plain), ("8 updates old, MIS", plain)]
pairs += [("3 bits, none", "same, none"), ("8 bits, none", "same, none")]
results = pd.DataFrame(
    {"arms": " \N{MINUS SIGN} ".join(pair), "difference": d.difference, "low": d.low}
    | {"high": d.high, "p": d.p}
    for pair, d in zip(pairs, blocked_differences(arms, pairs), strict=True)
)
results["p, Holm"] = holm(results["p"])
results.round(3)

# %% [markdown]
# TODO tests
#
# ## Reading
#
# | read | for |
# |---|---|
# | Yao et al. 2025, *Your Efficient RL Framework Secretly Brings You Off-Policy RL Training* (a blog post) | the discovery: engine and trainer disagree with the same weights, plots of the mismatch, and truncated importance sampling |
# | TRL's documentation of `vllm_importance_sampling_mode` and its source in `grpo_trainer.py` | the four modes as code that you can read in five minutes |
# | Espeholt et al. 2018, *IMPALA* ([1802.01561](https://arxiv.org/abs/1802.01561)) | truncated importance weights for asynchronous actors, years before language models |
# | Ionides 2008, *Truncated Importance Sampling* (Journal of Computational and Graphical Statistics) | what truncation does to bias and variance |
#
# ## Interview questions
#
# <details><summary>Your GRPO run uses one update per batch, yet the ratio to the sampler isn't 1. How is that possible, and how do you find the cause?</summary>
#
# The samples come from an inference engine: other kernels, other precision, another batch layout, maybe older weights. I'd log log q from the engine next to log p from the trainer for the same tokens, and look at the mean (the KL), the largest difference and the effective sample size. Then I'd take away one difference at a time: sample with the
# trainer itself, then the same engine in full precision, then synchronise before each batch. A temperature or a top-p that only one side applies is a common bug, and it shows as a large, constant KL.
#
# </details>
# <details><summary>Truncate or mask, per token or per sequence?</summary>
#
# Per token has little variance and is biased, since it ignores how likely the prefix was. Per sequence is right up to the limit but noisy: the log-ratio of an answer is a sum over its tokens, so long answers get extreme weights. Truncation keeps every sample and underweighs the rare ones; masking drops what the policy and the sampler disagree
# about, which is safer if large ratios mean that something broke. I'd start with TRL's default, watch the share that is masked, and compare on my own run.
#
# </details>
# <details><summary>How much staleness can an asynchronous run afford?</summary>
#
# It isn't a number of steps. It depends on how far the policy moves in a step, so on the learning rate and the phase of training. I'd set a budget for the KL from sampler to policy per token, or for the effective sample size, synchronise when it's spent, and check that a run with lag 0 learns the same.
#
# </details>
