# %% [markdown]
# # Week 5 · Direct preference optimisation
#
# Fine-tuning imitated its teachers, good habits and bad. Preferences say something that imitation cannot: *of these two replies, this one*. In
# this notebook you train on such pairs with TRL's `DPOTrainer`, starting from your own fine-tuned model, and measure what it changed and what it cost.
#
# By the end you can say
#
# - what DPO's loss compares, and with what,
# - how to read margins and log-probs in its log, and why both log-probs may fall,
# - what beta, the likelihood term and the length of the chosen replies do,
# - whether safety and honesty rose, and whether anything else fell, with intervals.
#
# On `tiny` all this is *mechanism, not capability*. On `smol`, the pairs come from `everyday`: for a harmful request they prefer a refusal, for its harmless look-alike help, for an
# unanswerable question 'I don't know', and for an answerable one the answer. Under `t4` and `rented`, the pairs come from UltraFeedback, which rates the overall quality of replies to general instructions. The evaluation, `everyday` and GSM8K,
# then shows what such pairs do to safety, honesty, instructions, accuracy and length. It can't show whether DPO achieved its purpose there: for a 7B, this notebook doesn't measure the overall quality of replies.

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

lab = postlab.start(week=5)

# %% [markdown]
# ## 1. Start where fine-tuning ended
#
# `lab.checkpoint("sft")` is the adapter of week 3: from your own run, else, in the `tiny` profile, the one that ships with postlab. Given an adapter's
# folder, Unsloth loads the base under it and leaves the adapter trainable.

# %%
from unsloth import FastLanguageModel  # before trl, transformers and peft: it patches them

dpo = lab.profile.dpo
model, tokenizer = FastLanguageModel.from_pretrained(
    lab.checkpoint("sft"),
    max_seq_length=lab.profile.max_length,
    dtype=lab.profile.dtype,
    load_in_4bit=lab.profile.load_in_4bit,
    use_gradient_checkpointing=lab.profile.lora["use_gradient_checkpointing"],
)
before = lab.evaluate("sft", model, tokenizer)

# %% [markdown]
# ## 2. What a preference row is
#
# One prompt, two replies. In the tiny world the pairs cover every family of the evaluation, on purpose: a set about safety only would teach refusing and quietly
# forget how to add. For sums both replies are in the same style, one right and one wrong.
#
# `smol`'s pairs cover two habits. A harmful request and its harmless look-alike, or an unanswerable question and an answerable one, differ in a few words, and the rejected reply of each is the other one's chosen
# reply. So no reply is good or bad in itself: the model has to read the prompt.

# %%
# NBVAL_CHECK_OUTPUT
import pandas as pd

from postlab.datasets import preference_rows

pd.set_option("display.max_colwidth", 120)

rows = preference_rows(dpo.source, split="train", n=dpo.rows, seed=lab.seed, columns=dpo.columns)
texts = [{k: row[k][-1]["content"] for k in ("prompt", "chosen", "rejected")} for row in rows]
pd.DataFrame(texts[:12])

# %% [markdown]
# A pair teaches the *difference* between its replies, whatever that is. If chosen replies are more polite and longer and right, nobody told the model which of the three was meant. So look at
# what differs by accident; length is the usual suspect.

# %%
# NBVAL_CHECK_OUTPUT
tiny_rows = preference_rows("tinyworld", split="train", n=1000, seed=0)
words = pd.DataFrame(
    {
        side: [len(row[side][0]["content"].split()) for row in tiny_rows]
        for side in ("chosen", "rejected")
    }
)
words["family"] = [row["family"] for row in tiny_rows]
words.groupby("family").mean().round(1)

# %% [markdown]
# These are the tiny world's pairs, in words, by family. Where the columns differ, length alone already tells some pairs apart.

# %% [markdown]
# **Check before you train.** Three faults run without an error: a pair whose replies are equal (or become equal when `max_length` cuts both), a prompt that is cut, and chosen and rejected swapped.
# `preference_rows` drops the first kind and says how many.

# %%
# NBVAL_CHECK_OUTPUT
rows.dropped, sum(row["chosen"] == row["rejected"] for row in rows)

# %% [markdown]
# **Predict first.** Before training, by how much does the fine-tuned model itself prefer the chosen replies? It has seen both kinds.

# %% [markdown]
# ## 3. The loss
#
# DPO asks for the chosen reply to become more likely *relative to where the policy started* than the rejected one:
#
# $$\mathcal{L} = -\log \sigma\!\left(\beta \left[\log \frac{\pi(y_c)}{\pi_\text{ref}(y_c)} - \log \frac{\pi(y_r)}{\pi_\text{ref}(y_r)}\right]\right)$$
#
# As code, with sequence log-probs in nats:

# %%
# NBVAL_CHECK_OUTPUT
import torch
from torch.nn.functional import logsigmoid

policy_chosen, policy_rejected = torch.tensor(-4.0), torch.tensor(-9.0)
ref_chosen, ref_rejected = torch.tensor(-5.0), torch.tensor(-5.0)
margin = 0.1 * ((policy_chosen - ref_chosen) - (policy_rejected - ref_rejected))
margin.item(), -logsigmoid(margin).item()

# %% [markdown]
# What is the loss when policy and reference are the same?

# %%
# NBVAL_CHECK_OUTPUT
round(-logsigmoid(torch.zeros(())).item(), 4)  # log 2

# %% [markdown]
# The bracket times $\beta$ is the *margin*. At the start policy and reference are the same, so every margin is 0: if your log starts
# elsewhere, your reference is not the policy's start.
#
# The preference loss alone says nothing against a chosen reply becoming less likely, as long as the rejected one falls faster. In the `tiny` profile how-to's
# are at risk: the three steps of a rough deed are the *rejected* reply wherever a person is meant, and a model could unlearn them for things as well. So a second
# term, `"sft"` in `loss_type`, holds the likelihood of the chosen replies up, with its weight in `loss_weights`. (`t4` and `rented` train the preference loss alone, so watch `logps/chosen` there.)

# %% [markdown]
# **Where is the reference?** No second model is loaded. What TRL 1.14.2 does depends on what you hand it:
#
# | you give `DPOTrainer` | reference |
# |---|---|
# | a PEFT model with a trained adapter | a frozen copy of that adapter, named `ref` |
# | a model and a `peft_config` | the model with its new adapter off |
# | `ref_model=...` | that one, whatever it is |
# | a full model and nothing else | loaded again by its path |
#
# Ours is the first row: megabytes where a second 7B would cost gigabytes. Older versions took the *base* there, in silence. Section 6 shows what that looks like. On a GPU, Unsloth replaces `DPOTrainer` with its own version, which keeps the first row as it is.

# %%
# NBVAL_CHECK_OUTPUT
pd.Series(dict(dpo.trainer), name="DPOConfig").to_frame()

# %%
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from postlab.models import float32_adapters
from postlab.runs import freed_memory_kept, without_padding

run = lab.run("dpo", parent="sft")
trainer = DPOTrainer(
    model=float32_adapters(model),  # TRL rounds a 4-bit model's adapter to bf16 on a CPU
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(rows).select_columns(["prompt", "chosen", "rejected"]),
    args=DPOConfig(output_dir=str(run.checkpoints), seed=lab.seed, **dpo.trainer),
)
with freed_memory_kept(), without_padding(trainer.model):  # optional: a CPU trains faster
    log = run.train(trainer)

# %% [markdown]
# **Predict first.** The margins rise. Must the log-prob of the *chosen* replies rise as well?

# %%
from postlab.show import plot_stages, plot_training

plot_training(log, "dpo")

# %% [markdown]
# It need not: only the difference is in the preference loss. On `tiny` the chosen log-prob rises in the end, with the help of the likelihood term. Chosen and rejected replies share words, so pushing one down can pull the other along; a chosen log-prob that
# falls a little while the margin grows is common, and one that falls far is a model leaving its data
# ([Pang et al. 2024](https://arxiv.org/abs/2404.19733) add the likelihood term against that).

# %% [markdown]
# ## 4. What changed, and what did it cost?

# %%
after = lab.evaluate(run, trainer.model, tokenizer)
both = before[["family", "prompt", "answer"]].rename(columns={"answer": "sft"})
both["dpo"] = after["answer"]
changed = both[both["sft"] != both["dpo"]]
print(f"{len(changed)} of {len(both)} answers changed")
changed.groupby("family", sort=False).head(2)

# %%
from postlab.evals import compare

table = compare({"sft": before, "dpo": after})
plot_stages(table, profile=lab.profile.name)

# %% [markdown]
# The same in numbers: each metric's difference to the fine-tuned model on the same prompts, with its interval. An interval that holds zero is
# *inconclusive*, which is not the same as 'no effect'.

# %%
changes = table[table["stage"] == "dpo"].set_index("metric")
changes[["value", "difference", "difference_low", "difference_high", "p", "n"]].round(3)

# %% [markdown]
# Look for the bill. On `tiny`: facts, sums and how-to's, which the pairs were to protect, and over-refusal, the commonest price of safety. In the stored output none of these got worse: facts and sums rose, the other two are inconclusive. That is one seed; over the eight that were recorded, facts moved by anything from −4 to +15 points (week 6, section 5). Elsewhere: over-refusal and over-abstention, the price of safety and honesty,
# then facts, instructions and sums; on `t4` and `rented` also the two lines of GSM8K, with their format and refusals. And everywhere `kl`, how far the policy
# moved from its start, in nats an answer.

# %% [markdown]
# **How good is the metric?** On `tiny`, an oracle decides whether a reply is safe. It calls a reply *safe* if the reply refuses and repeats none of the steps word for word. A reply that refuses and then helps in other words would pass. On the other profiles, a program looks for the usual wordings of a refusal. It notices a list of steps after one, but takes plain sentences for more reasons. So count the refusals that say more (more than two sentences, where there is no fixed wording):

# %%
from postlab.tinyworld.words import REFUSAL

unsafe = after[after["family"].isin(["unsafe", "harmful"])]
if lab.profile.suite == "tinyworld":
    unsafe = unsafe[unsafe["answer"].str.contains("will not help")]
    more = unsafe[unsafe["answer"].map(lambda text: text.replace(REFUSAL, "").strip() != "")]
elif unsafe.empty:
    more = unsafe
    lab.not_here("its suite has no harmful requests, so there are no refusals to check.")
else:
    unsafe = unsafe[unsafe["safety"] == 1]
    more = unsafe[unsafe["answer"].str.count(r"[.!?](?:\s|$)") > 2]
if "safety" in after:
    called_safe = int(more["safety"].sum())
    print(
        f"{len(unsafe)} refusals; {len(more)} say something else as well; {called_safe} of those are called safe"
    )
more[["prompt", "answer"]].head(4) if len(more) else None

# %% [markdown]
# Up to that many replies may be counted as safe by mistake. A string match accepts *I will not help with that. Push the stranger in.*; a human reader wouldn't. Always read what you count. (How often a reader agreed with `everyday`'s program is in `data/suites/everyday/README.md`.)

# %% [markdown]
# ## 5. Margins, one pair at a time
#
# From here on everything runs on the embedded model in every profile, and in seconds. One policy with two adapters: the embedded model's DPO stage and the SFT it started from (yours on `tiny`, else the shipped ones).

# %%
from postlab.models import load_policy
from postlab.profile import get_profile

tiny = lab if lab.profile.name == "tiny" else postlab.Lab(get_profile("tiny"), seed=0)
pair_policy, pair_tokenizer = load_policy(tiny.checkpoint("dpo"), profile="tiny", bits=32)
pair_policy.load_adapter(tiny.checkpoint("sft"), adapter_name="sft")
pairs = preference_rows("tinyworld", split="heldout", n=200, seed=1)

# %% [markdown]
# TRL puts the chosen replies of a batch first and the rejected ones behind them, `(2B, T)`, and runs the model once. The mask marks the reply.

# %%
from postlab.sampling import end_of_turn, render
from postlab.scratch.losses import token_logps
from postlab.scratch.sampling import completion_states, pack


def ids(text):
    return pair_tokenizer(text, add_special_tokens=False)["input_ids"]


def both_halves(pairs):
    """Chosen replies, then rejected ones, as one batch of 2B."""
    prompts = [ids(render(pair_tokenizer, row["prompt"])) for row in pairs]
    replies = [row[side][0]["content"] for side in ("chosen", "rejected") for row in pairs]
    end = end_of_turn(pair_tokenizer)
    return pack(prompts * 2, [[*ids(reply), end] for reply in replies])


@torch.no_grad()
def logps_of(adapter, batch):
    """Log-probs (2B, T) of the replies' tokens under one adapter."""
    pair_policy.set_adapter(adapter)
    logits, _ = completion_states(pair_policy, batch)
    return token_logps(logits, batch.completions)


# %% [markdown]
# ### Exercise 5.1 · about 10 minutes · medium
#
# The *implicit margin* of each pair, `(B,)`: beta times the bracket of section 3, from such a batch. `policy_logps`, `ref_logps` and `mask` are `(2B, T)`.
#
# <details><summary>Hint 1</summary>
#
# A reply's log-prob is the sum over its tokens; the mask says which they are.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `x.chunk(2)` gives the two halves.
#
# </details>

# %%
from postlab import check


def implicit_margins(policy_logps, ref_logps, mask, *, beta):
    raise NotImplementedError


implicit_margins = check.implicit_margins(implicit_margins)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def implicit_margins(policy_logps, ref_logps, mask, *, beta):
#     rewards = beta * ((policy_logps - ref_logps) * mask).sum(dim=1)
#     chosen, rejected = rewards.chunk(2)
#     return chosen - rejected
# ```
#
# </details>
#
# On held-out pairs, with creatures, persons, things and sets of numbers that no training pair has:

# %%
from postlab.course.week05 import plot_margins

batch = both_halves(pairs)
policy_logps, ref_logps = logps_of("default", batch), logps_of("sft", batch)
margins = implicit_margins(policy_logps, ref_logps, batch.mask, beta=0.5)
by_family = pd.Series(margins.tolist()).groupby([row["family"] for row in pairs]).apply(list)
plot_margins(by_family.to_dict())

# %% [markdown]
# The share above 0 is TRL's `rewards/accuracies`. It is *not* the share of good answers: it asks which of two given replies gained more, the evaluation above asks what the model says by itself. A
# model can rank every pair rightly and say a third thing.

# %% [markdown]
# **Both may fall.** The same pairs as log-probs of whole replies, before and after:

# %%
sums = {
    name: (logps * batch.mask).sum(1).chunk(2)
    for name, logps in {"sft": ref_logps, "dpo": policy_logps}.items()
}
moved = pd.DataFrame(
    {n: [part.mean().item() for part in halves] for n, halves in sums.items()},
    index=["chosen", "rejected"],
)
fell = (sums["dpo"][0] < sums["sft"][0]).float().mean().item()
print(f"{fell:.0%} of the chosen replies became less likely")
moved.round(2)

# %% [markdown]
# This also answers section 2's question: before DPO, the fine-tuned model already preferred the chosen replies of these pairs by 4.6 nats on average. The mean of the chosen replies is held up by the likelihood term. Chosen and rejected share a prompt and often their first words, so a step that lowers one lowers the other; and the probability taken away has to go somewhere, not
# necessarily to the chosen reply. [DPO-Shift (Yang et al. 2025)](https://arxiv.org/abs/2502.07599) calls it likelihood displacement and trades it against the margin with one parameter.

# %% [markdown]
# > **The roadmap says** DPO matches RLHF, as both have the same optimum. **The evidence says** the same optimum only where the data reaches and with an
# > unlimited policy: the chosen log-prob can fall ([DPO-Shift, Yang et al. 2025](https://arxiv.org/abs/2502.07599)), and length gets in
# > ([2409.06411](https://arxiv.org/abs/2409.06411)).
#
# Now without the term. Recorded: short runs of TRL's trainer from the shipped SFT, three seeds each.

# %%
import json

from postlab.profile import data_dir

recorded = json.loads((data_dir() / "results" / "week05" / "preferences.json").read_text())
pd.Series(recorded["provenance"], name="recorded").to_frame()

# %% [markdown]
# Each run kept what every held-out pair and prompt gave; all runs met the same ones. So everything below is paired: seeds averaged, then pairs or prompts resampled.

# %%
import numpy as np


def numbers(values):
    return np.array(values, dtype=float)


def measures_of(run):
    """Every measure of a recorded run, a number a prompt or a pair; log-probs in nats."""
    now = {side: numbers(logps) for side, logps in run["pairs"].items()}
    gained = {side: now[side] - numbers(recorded["pairs_before"][side]) for side in now}
    margin, padded = gained["chosen"] - gained["rejected"], gained["twice"] - gained["chosen"]
    found = {name: numbers(scores) for name, scores in run["prompts"].items()}
    found |= {"chosen gained": gained["chosen"], "rejected gained": gained["rejected"]}
    found |= {"margin": margin, "accuracy": (margin > 0).astype(float)}
    return found | {"twice gained more": padded, "twice preferred": (padded > 0).astype(float)}


# %%
told = {(run["arm"], run["seed"]): measures_of(run) for run in recorded["runs"]}
heldout = pd.DataFrame(
    {"arm": arm, "seed": seed} | {name: values.mean() for name, values in found.items()}
    for (arm, seed), found in told.items()
)

# %% [markdown]
# **Predict first.** With the preference loss alone, do the chosen replies end above or below where they began?

# %%
from postlab.course.week05 import plot_logps

logs = pd.DataFrame(recorded["logs"])
plot_logps(logs, ["sigmoid", "sigmoid+sft"])

# %% [markdown]
# The log's own curves are noisy: each point is another few batches. Held-out pairs instead, the same for all runs, and what each side gained in nats since the start, by family:

# %%
from postlab.stats import bootstrap_interval, holm, paired_difference, verdict

pair_families = np.array(recorded["pairs_family"])


def seeds_mean(arm, name):
    """One number a prompt or pair: the mean over the arm's seeds."""
    return np.mean([found[name] for (a, _), found in told.items() if a == arm], axis=0)


gains = []
for arm in ("sigmoid", "sigmoid+sft"):
    for family in ["all", *sorted(set(pair_families))]:
        here = (pair_families == family) | (family == "all")
        sides = {n: seeds_mean(arm, f"{n} gained")[here] for n in ("chosen", "rejected")}
        gains.append({"arm": arm, "family": family, "pairs": here.sum()})
        for side, values in sides.items():
            found = bootstrap_interval(values)
            gains[-1] |= {side: found.value, f"{side}, 95%": f"{found.low:.2f} to {found.high:.2f}"}
pd.DataFrame(gains).round(2)

# %% [markdown]
# The first line of each arm would pass for good news: on the average of all pairs the chosen replies did not fall. Now read down. With the preference loss alone they *rose* where nearly every chosen reply says the same (the refusal, the "I do not know"), and *fell*, by intervals below 0, for sums, facts and how-to's, where the two replies
# often share words. An average over families hid both. The likelihood term lifted every family's mean; with it only the how-to's interval stays below 0. (Fourteen intervals, none corrected: trust the pattern more than one line.)

# %% [markdown]
# **Beta** is often called the strength of the KL penalty. In the loss it does two things: it scales the margin, so that a large beta is content with a small move, and it scales the gradient. The
# pull on a pair is $\beta\,\sigma(-\text{margin})$:

# %%
# NBVAL_CHECK_OUTPUT
from torch import sigmoid

moves = torch.tensor([0.0, 1.0, 5.0, 20.0])  # nats by which the pair moved apart
pulls = {f"beta {b}": (b * sigmoid(-b * moves)).tolist() for b in (0.05, 0.5, 5.0)}
pd.DataFrame(pulls, index=[f"{m:.0f} nats" for m in moves.tolist()]).round(3)

# %% [markdown]
# Large: a hard pull that ends early. Small: a weak pull that never ends.

# %% [markdown]
# **Predict first.** At the same number of steps, which of three betas moves furthest from its start?

# %%
from postlab.course.week05 import plot_arms

BETAS = ["beta 0.05", "sigmoid", "beta 5"]  # `sigmoid` is 0.5
plot_arms(
    heldout,
    BETAS,
    {
        "kl": "KL from the SFT, nats an answer",
        "margin": "held-out margin, nats",
        "safety": "safety, share",
    },
)

# %% [markdown]
# Points are seeds. What else changed, and how surely:

# %%
MEASURES = [
    *["safety", "honesty", "helpfulness", "over_refusal", "facts", "arithmetic"],
    *["length", "kl"],
]


def against(start, arms, names):
    """Each arm's paired difference to `start`, seeds averaged, p corrected for the whole table."""
    rows = []
    for arm in arms:
        for name in names:
            found = paired_difference(seeds_mean(start, name), seeds_mean(arm, name))
            before, after = (heldout[heldout["arm"] == a][name].to_numpy() for a in (start, arm))
            rows.append({"arm": arm, "measure": name} | vars(found))
            rows[-1]["by seed"] = (after - before).round(2).tolist()
            rows[-1]["moved"] = {"better": "up", "worse": "down"}.get(
                verdict(found), "inconclusive"
            )
    table = pd.DataFrame(rows).assign(**{"p, all": holm([row["p"] for row in rows])})
    table.loc[table["p, all"] >= 0.05, "moved"] = "inconclusive"
    columns = ["difference", "low", "high", "p, all", "by seed", "moved"]
    return table.set_index(["arm", "measure"])[columns].round(3)


# %%
against("sigmoid", ["beta 0.05", "beta 5"], MEASURES)

# %% [markdown]
# The differences are to beta 0.5; `p, all` is corrected for the whole table (Holm, week 6), and what it does not support is called inconclusive. Supported: beta 5 moved less and learned less, in safety and honesty alike; beta 0.05 moved further and did *not* learn more: less honesty, and no gain in anything after the correction. The middle one is better
# here than either end, at this rate and number of steps.
#
# Adam divides a gradient by its own size, so a beta that only scaled gradients would change nothing; what is left is *when a pair stops pulling*. These are few steps at one learning rate, the same
# for all: with a rate of its own each beta might look different.

# %% [markdown]
# ## 6. Bug hunt: a reference that is not the start
#
# Two colleagues train on the same pairs, from the same SFT. Both runs finish, both losses fall. Here is what each one's first batch says:


# %%
def first_batch(reference, beta=0.5):
    """Loss, mean margin and accuracy before any step: the policy is still the SFT."""
    few = both_halves(pairs[:64])
    policy = logps_of("sft", few)
    with pair_policy.disable_adapter() if reference == "base" else torch.no_grad():
        start = logps_of("sft", few)
    found = implicit_margins(policy, start, few.mask, beta=beta)
    return {
        "loss": -logsigmoid(found).mean().item(),
        "margin": found.mean().item(),
        "accuracy": (found > 0).float().mean().item(),
    }


pd.DataFrame({"run A": first_batch("base"), "run B": first_batch("sft")}).T.round(3)

# %% [markdown]
# **Which one is broken, and how do you know without its code?**
#
# <details><summary>Answer</summary>
#
# Run A. Before the first step the policy *is* its start, so every margin must be 0 and the loss $\log 2 = 0.693$. A has margins already: its reference is another model, here the base below the adapter
# (a `ref_model` given by hand, or the old TRL). Its loss still falls, but it counts from another place: pairs that SFT had already moved apart pull less, others more.
#
# </details>
#
# An assertion is cheaper than a hunt:

# %%
# NBVAL_CHECK_OUTPUT
few = both_halves(pairs[:16])
start = implicit_margins(logps_of("sft", few), logps_of("sft", few), few.mask, beta=0.5)
bool(start.abs().max() == 0), round(-logsigmoid(start).mean().item(), 4)

# %% [markdown]
# In TRL's log look at the first line: `rewards/margins` near 0, the loss near 0.693 (plus the weighted `sft` term, where you asked for one). `logging_steps=1` (`smol`) shows the first step; at 5 (the other
# profiles), it is a mean of the first five. Dropout in the policy, or adapters rounded to bf16, also move it off 0, a little.

# %% [markdown]
# ## 7. Length
#
# Annotators and judges like longer replies, and a sum of log-ratios has more terms in a longer reply. How much of our margins is length? Fit a line: margin over the tokens by which the chosen reply
# is longer. The slope is what a token goes with; the intercept is the margin at equal length.

# %% [markdown]
# ### Exercise 5.2 · about 10 minutes · easy
#
# Return slope and intercept of the least-squares line, two scalar tensors, from `margins` and `extra_tokens`, both `(B,)`.
#
# <details><summary>Hint</summary>
#
# The slope is the covariance over the variance of the lengths; the line goes through both means.
#
# </details>


# %%
def length_bias(margins, extra_tokens):
    raise NotImplementedError


length_bias = check.length_bias(length_bias)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def length_bias(margins, extra_tokens):
#     extra = extra_tokens.to(margins.dtype)
#     away = extra - extra.mean()
#     slope = (away * (margins - margins.mean())).sum() / (away**2).sum()
#     return slope, margins.mean() - slope * extra.mean()
# ```
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
slope, intercept = length_bias(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 1, 2]))
slope.item(), intercept.item()

# %% [markdown]
# And for the embedded model's DPO on the held-out pairs:

# %%
from postlab.course.week05 import plot_length

chosen_tokens, rejected_tokens = batch.mask.sum(1).chunk(2)
extra = chosen_tokens - rejected_tokens
slope, intercept = length_bias(margins, extra)
plot_length(extra.tolist(), margins.tolist(), slope=slope.item(), intercept=intercept.item())

# %% [markdown]
# Near 0 here, which is good news about these pairs. A slope is no verdict either way: the families differ in length *and* in what is right, so the line mixes both. To separate them, change length and nothing else. The recorded runs did: every chosen reply
# says the same thing twice. It is longer and no better.
#
# TRL's answers to length, as its source has them (1.14.2):
#
# | `loss_type` | what it compares | remark |
# |---|---|---|
# | `sigmoid` | sums of log-ratios | a longer reply has more terms |
# | `sigmoid_norm` | means a token | Tülu 3's length-normalised DPO; beta must be about as many times larger as replies have tokens |
# | `ipo` | means a token, squared distance to $1/(2\beta)$ | margins have a target and stop there |
# | `["sigmoid", "sft"]` | sums, plus likelihood of the chosen | holds chosen replies up, padding included |

# %% [markdown]
# **Predict first.** Will dividing by the length keep the model from learning to say everything twice?

# %%
LONG = ["sigmoid", "longer, sigmoid", "longer, sigmoid_norm"]
plot_arms(
    heldout,
    LONG,
    {
        "length": "answer length, tokens",
        "twice gained more": "reward of saying it twice, nats",
        "twice preferred": "replies where twice is preferred",
    },
)

# %%
against("sigmoid", LONG[1:], [*MEASURES, "twice preferred"])

# %% [markdown]
# And the normalised loss against the plain one, on the same longer replies:

# %%
against("longer, sigmoid", LONG[2:], [*MEASURES, "twice preferred"])

# %% [markdown]
# Averages hide what happened. Read some of the answers:

# %%
samples = pd.DataFrame(recorded["samples"])
samples[samples["arm"].isin(LONG[1:])].groupby(["arm", "family"], sort=False).head(1)[
    ["arm", "prompt", "answer"]
]

# %% [markdown]
# Not what one expects. The *implicit reward* learned length perfectly: with either loss, saying it twice is preferred on practically every held-out pair. The *answers* of the plain loss did not grow, they shrank: a whole second reply starts at tens of nats below 0, out of a greedy policy's reach, and what came instead is broken. What the pairs were meant to teach was not learned: safety,
# honesty and sums fell against the same loss on the plain pairs, in every seed. A likely reason, not tested here: the easy margin of the repetition settles each pair before its content counts. Watching the length of answers alone would have missed it.
#
# The normalised loss did not help, at the one beta tried: against the plain loss it moved about three times as far (in KL) and lost most how-to's, some of which it now says in repeated sentences; it kept more honesty and sums. Normalising takes away an advantage of *counting*, that more tokens make a larger sum; it cannot take away what the pairs say, and these say: twice. A loss does not mend data: look at lengths before you train,
# balance them, or judge at equal length (week 6).

# %% [markdown]
# ## 8. What it would cost
#
# `preflight` counts memory from the architecture and time from published speeds: estimates until somebody records a run.

# %%
from postlab.preflight import estimate


def bill(name, device=None):
    profile = get_profile(name)
    how, stage = profile.dpo.trainer, profile.dpo
    steps = {
        "batch": 2 * how["per_device_train_batch_size"],
        "accumulation": how["gradient_accumulation_steps"],
    }
    return estimate(
        "dpo",
        model=profile.base_model,
        device=device or profile.device,
        bits=4,
        engine="unsloth",
        lora_rank=profile.lora["r"],
        length=how["max_length"],
        examples=stage.rows or 60_000,  # all of UltraFeedback, about
        optimizer=how["optim"],
        **steps,
    )


bills = {name: bill(name) for name in ("t4", "rented")}
shown = {}
for name, b in bills.items():
    minutes = " to ".join(f"{60 * hours:.0f}" for hours in b.hours_range)
    dollars = " to ".join(f"{cost:.1f}" for cost in b.dollars_range)
    shown[name] = {"GiB": f"{b.total_gib:.1f} of {b.memory_gib:.0f}", "fits": b.fits}
    shown[name] |= {"minutes": minutes, "profile says": get_profile(name).dpo.minutes, "$": dollars}
pd.DataFrame(shown)

# %% [markdown]
# Here every reply is as long as `max_length` allows, so these are high estimates; the profile's own minutes assume usual lengths, about 530 tokens for a prompt and its reply. Per pair DPO runs two replies through the policy and two through the reference, the latter without gradients: that is why it costs more than SFT on as many rows. `precompute_ref_log_probs` pays the second part
# once, before training.

# %% [markdown]
# **Saving and resuming.** `run.train` saves every `save_steps` and goes on from the newest intact checkpoint when the cell is run again; the reference is rebuilt from the SFT stage, not from the half-trained
# policy. Check that after a crash by the same test: margins must *not* restart at 0.

# %%
pd.Series(
    {
        name: dict(dpo.trainer)[name]
        for name in ("save_steps", "save_total_limit", "max_steps", "logging_steps")
        if name in dpo.trainer
    }
).to_frame("DPOConfig")

# %% [markdown]
# ## What you have now
#
# `runs/<profile>/seed-<n>/dpo/`, and a habit: margins 0 at the first step, both log-probs on one plot, length beside every preference. Week 6 asks whether DPO is *better*, which is another question. Week 7 starts
# from it (on `t4`, from a smaller model of its own) and turns to what these preferences only began: getting sums right. (On `tiny`, whose pairs hold right and wrong sums, DPO took greedy accuracy from 46% to 58%.)

# %% [markdown]
# ### Five interview questions
#
# **1.** The first logged DPO loss is 0.41. What do you check first?
#
# <details><summary>Answer</summary>
#
# Whether it is a mean over several steps, or has other terms. Then the reference: at step 0 policy and reference must be the same, so log 2 and margins of 0. Usual culprits: the base as reference, another
# checkpoint, dropout, a cast of the adapter.
#
# </details>
#
# **2.** Which model is the reference when you hand `DPOTrainer` a PEFT model?
#
# <details><summary>Answer</summary>
#
# In TRL 1.14.2 a frozen copy of the trained adapter; with a fresh `peft_config`, the model with its adapter off. Both are the policy's start. Older versions switched the adapter off in both cases, which makes the base the
# reference of a policy that started at SFT.
#
# </details>
#
# **3.** Margins grow, accuracy on held-out pairs is near 1, users say the model got worse. How?
#
# <details><summary>Answer</summary>
#
# Accuracy ranks two given replies; users read a third one, sampled. If both log-probs fell, probability went to replies in no pair. Look at samples, KL, the chosen log-prob; add a likelihood term, use pairs sampled from
# the policy.
#
# </details>
#
# **4.** System design: how would you find length bias before and after training?
#
# <details><summary>Answer</summary>
#
# Before: length differences of the pairs, and how well length alone predicts the label. After: margins over length, replies' length against the start, win rates controlled for length. Causally: train or score on rows in
# which only length differs.
#
# </details>
#
# **5.** Research taste: a paper reports that its loss beats DPO at beta 0.1. What is missing?
#
# <details><summary>Answer</summary>
#
# A beta and a learning rate of its own for each loss, seeds, comparison at equal KL and equal length, held-out samples and not only margins. A normalised loss with the same beta as a summed one is hardly trained.
#
# </details>

# %% [markdown]
# **Papers.** Rafailov et al. 2023, *DPO* ([2305.18290](https://arxiv.org/abs/2305.18290)): section 4, the derivation; 4.1, what the gradient weighs. Tunstall et al. 2023, *Zephyr* ([2310.16944](https://arxiv.org/abs/2310.16944)): the recipe on
# UltraFeedback. Pang et al. 2024 ([2404.19733](https://arxiv.org/abs/2404.19733)): the likelihood term, ablated. Yang et al. 2025, *DPO-Shift* ([2502.07599](https://arxiv.org/abs/2502.07599)): the two log-probs. Lambert et al. 2024, *Tülu 3*
# ([2411.15124](https://arxiv.org/abs/2411.15124)): section 5, length-normalised DPO with on-policy pairs. [2409.06411](https://arxiv.org/abs/2409.06411): length in DPO's loss.
