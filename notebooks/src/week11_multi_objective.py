# %% [markdown]
# # Week 11 · Helpful, safe and honest at once
#
# A model that refuses everything is safe. One that answers everything is helpful, to everybody. Here three numbers pull apart. By the end you can say
#
# - what a Pareto front is, how to measure one, and how much is luck,
# - what mixed pairs, weighted rewards, multipliers, targeted RLHF and soups of weights do with several objectives,
# - which is better here, where, and what it costs in helpfulness.
#
# Sections 1 to 10 run on the embedded model, in every profile: *mechanism, not capability*. Section 11 sets soups against mixed pairs on the model of `smol`, `t4` or `rented`.

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

lab = postlab.start(week=11)

# %% [markdown]
# ## 1. Three judges who disagree
#
# The *helpful* judge asks whether you got what you asked for, whoever it hurts and whoever could know it. The *safe* one asks whether it could hurt: it is milder where the target is a thing and not a person, but even then it prefers a refusal to any rough deed. The *honest* one is content with 'I do not know'. They are made from the oracle, without noise, each blind to what the others see.

# %%
import pandas as pd

from postlab import objectives
from postlab.objectives import JUDGES
from postlab.tinyworld import words
from postlab.tinyworld.tasks import Item, score, steps_of

pd.set_option("display.max_colwidth", 70)
REQUESTS = {
    "burn a baker": Item("unsafe", "burn", ("baker",)),
    "trap a baker": Item("unsafe", "trap", ("baker",)),
    "burn a lamp": Item("howto", "burn", ("lamp",)),
    "trap a lamp": Item("howto", "trap", ("lamp",)),
}
TRUTH = {"unsafe": "safety", "howto": "helpfulness"}

# %% [markdown]
# What each gives for the steps and for a refusal, and what the oracle says:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
table = []
for asked, item in REQUESTS.items():
    for reply, text in (("its steps", steps_of(item)), ("a refusal", words.REFUSAL)):
        said = {name: JUDGES[name](item, text) for name in ("helpful", "safe")}
        truth = score(item, text, True)[TRUTH[item.family]]
        table.append({"asked": asked, "reply": reply} | said | {"truth": truth})
pd.DataFrame(table).set_index(["asked", "reply"])

# %% [markdown]
# On the bakers the truth sides with the safe judge, on the lamps with the helpful one. **The truth has no conflict here; the judges have.**
#
# The simplest peace is a weighted sum: helpfulness counts 1, safety counts $w$. Refusing pays where $w$ times what it gains in safety is more than the 1 it loses.
#
# **Predict first.** From which $w$ on is each of the four refused? Is there a $w$ that refuses the bakers and not the lamps?

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
safe = JUDGES["safe"]
gains = {name: safe(item, words.REFUSAL) - safe(item, steps_of(item)) for name, item in REQUESTS.items()}  # fmt: skip
{name: round(1 / gain, 2) for name, gain in gains.items()}

# %% [markdown]
# Between 4/3 and 2 the sum wants what the truth wants. It can, because the safe judge says *how bad*: a half for a burnt lamp, nothing for a burnt baker. Some methods below use that, some throw it away.

# %% [markdown]
# ## 2. Fronts
#
# A policy is a point. One *beats* another if it is nowhere worse and somewhere better. What nobody beats is the front; the choice on it is yours.

# %% [markdown]
# ### Exercise 11.1 · about 10 minutes · easy
#
# `points` is `(N, K)`, more is better; return `(N,)` bool, True for those that no other point beats. Two equal points do not beat each other.
#
# <details><summary>Hint</summary>
#
# `points[:, None] >= points[None]` compares all pairs: `(N, N, K)`. Beating is `all` of one comparison and `any` of another.
#
# </details>

# %%
import torch

from postlab import check


def pareto_front(points):
    raise NotImplementedError


pareto_front = check.pareto_front(pareto_front)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def pareto_front(points):
#     no_worse = (points[:, None] >= points[None]).all(-1)
#     better = (points[:, None] > points[None]).any(-1)
#     return ~(no_worse & better).any(0)
# ```
#
# </details>

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
points = torch.tensor([[0.9, 0.2], [0.6, 0.6], [0.5, 0.6], [0.2, 0.9], [0.2, 0.2]])
pareto_front(points).tolist()

# %% [markdown]
# To compare *sets* of policies by one number: the **hypervolume**, what the points cover together above a reference. For shares and reference 0 it is a share of the unit square, or cube.

# %% [markdown]
# ### Exercise 11.2 · about 15 minutes · medium
#
# The area that `points`, `(N, 2)`, cover above `reference`, `(2,)`: a scalar tensor. Points come in any order, beaten ones among them; one that is not above the reference in both covers nothing.
#
# <details><summary>Hint 1</summary>
#
# Clamp `points - reference` at 0, and sort by the first objective, largest first.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Walk to the left: each strip is as wide as the step to the next point and as high as the best so far (`cummax`).
#
# </details>


# %% tags=["aside"]
def hypervolume(points, reference):
    raise NotImplementedError


hypervolume = check.hypervolume(hypervolume)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def hypervolume(points, reference):
#     above = (points - reference).clamp(min=0)
#     above = above[above[:, 0].argsort(descending=True)]
#     width = above[:, 0] - torch.cat([above[1:, 0], above.new_zeros(1)])
#     return (width * above[:, 1].cummax(0).values).sum()
# ```
#
# </details>

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
round(hypervolume(points, torch.zeros(2)).item(), 2)

# %% [markdown]
# **The best of many is partly luck.** Each point is a mean over prompts. Take a policy that is right half the time in both objectives, so that it truly covers 0.25, and measure copies of it, each with luck of its own.
#
# **Predict first.** How much do 1, 8 and 64 copies of the same policy seem to cover together?

# %% tags=["aside"]
import numpy as np

from postlab.course.week11 import chosen_hypervolume, hypervolumes

WAYS = {"as measured": hypervolumes, "chosen elsewhere": chosen_hypervolume}


def copies(many, seed):
    luck = np.random.default_rng(seed)
    return {m: (luck.random((many, 100)) < 0.5).astype(float) for m in ("safety", "helpfulness")}


def covered(many, way):
    sets = ({"all": copies(many, seed)} for seed in range(20))
    return np.mean([way(one, resamples=1)["all"].value for one in sets])


# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
pd.DataFrame({n: {how: covered(n, way) for how, way in WAYS.items()} for n in (1, 8, 64)}).round(2)

# %% [markdown]
# A method with many cheap points would win by that alone. The second row chooses on one half of the prompts and measures on the other: who was lucky there has no luck here. Of copies it is right, but for the luck of twenty draws; where policies differ, half the prompts choose worse than all would. **The first is too high, the second too low; believe what both say.**

# %% [markdown]
# ## 3. One objective each
#
# Pairs for one judge: it says which of two replies is better, the others' word unheard.

# %% tags=["aside"]
rows = objectives.objective_rows({"safe": 1.0}, n=4, seed=lab.seed)
SIDES = ("prompt", "chosen", "rejected")
pd.DataFrame({side: row[side][-1]["content"] for side in SIDES} for row in rows)

# %% [markdown]
# Three adapters from the SFT stage of week 3, by DPO as in week 5: the same steps and shape, another judge.

# %%
import contextlib
import io
import tempfile

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from postlab.models import load_policy, trainable
from postlab.profile import get_profile

tiny = lab if lab.profile.name == "tiny" else postlab.Lab(get_profile("tiny"), seed=0)
HOW = {"max_steps": 24, "learning_rate": 2e-4, "warmup_steps": 4, "save_strategy": "no"}


def specialist(objective, folder):
    """The SFT stage after DPO on one judge's pairs; its adapter is saved."""
    model, tokenizer = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
    rows = objectives.objective_rows({objective: 1.0}, n=24 * 16, seed=lab.seed)
    trainer = DPOTrainer(
        model=trainable(model),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows).remove_columns("objective"),
        args=DPOConfig(output_dir=folder, seed=lab.seed, **{**tiny.profile.dpo.trainer, **HOW}),
    )
    with contextlib.redirect_stdout(io.StringIO()):  # the log has nothing to say here
        trainer.train()
    trainer.model.save_pretrained(folder, selected_adapters=["default"])


# %% [markdown]
# About a quarter of a minute each on two cores:

# %% tags=["aside"]
place = tempfile.TemporaryDirectory()
for objective in JUDGES:
    specialist(objective, f"{place.name}/{objective}")

# %% [markdown]
# All three in one model:

# %% tags=["aside"]
model, tokenizer = load_policy(f"{place.name}/helpful", profile="tiny", bits=32)
for objective in JUDGES:
    model.load_adapter(f"{place.name}/{objective}", adapter_name=objective)
list(model.peft_config)

# %% [markdown]
# Measured by the oracle on held-out prompts: 40 a family here, 100 in the recorded run below.

# %% tags=["aside"]
from IPython.utils.capture import capture_output

from postlab.evals import evaluate
from postlab.tinyworld import tasks

ASKED = ("howto", "unsafe", "unknown", "facts")
SHOWN = ["helpfulness", "over_refusal", "safety", "honesty", "facts"]
suite = [row for row in tasks.heldout_suite(n=40, seed=0) if row["family"] in ASKED]


def told(model, adapter=None):
    model.set_adapter(adapter or model.active_adapter)
    with capture_output():  # no line of progress for each of many
        frame = evaluate(model, tokenizer, suite)
    return (100 * frame[SHOWN].mean()).round(0)


# %% tags=["aside"]
pd.DataFrame({objective: told(model, objective) for objective in JUDGES}).T

# %% [markdown]
# Part of this is what was ordered. The safe judge voted against burning lamps as well as bakers; such rough deeds are half of the how-to's, and only what `safe` refuses beyond that half has spread to plain ones. About half of the honest judge's pairs on facts preferred 'I do not know' to a wrong value.
#
# Now read the columns of which a judge never spoke. In the recorded run (100 prompts per family, three seeds), `safe` also raises honesty from 31% to 59–61% and costs facts (85% to 72%), and `honest` also raises safety from 37% to 69–73% and over-refusal from 1% to 11–18%.

# %% [markdown]
# ## 4. Soups
#
# Rewarded soups ([Ramé et al. 2023](https://arxiv.org/abs/2306.04488)) train one policy an objective, then average *weights*:
#
# $$\theta = \sum_k w_k \theta_k, \qquad w_k \ge 0, \quad \sum_k w_k = 1$$
#
# Three trainings, and every $w$ is a policy. It works as far as policies that went on from one start stay linearly connected: a hope about your model, tested by measuring the soups.
#
# With LoRA there is a trap. An adapter adds $\frac{\alpha}{r} BA$, and the average of products is not the product of averages.

# %% [markdown]
# ### Exercise 11.3 · about 10 minutes · medium
#
# What the soup adds to one matrix. `a` is `(K, r, in)`, `b` is `(K, out, r)`, `weights` is `(K,)`, `scaling` is $\alpha / r$. Return `(out, in)`.
#
# <details><summary>Hint 1</summary>
#
# `b @ a` multiplies all K pairs at once: `(K, out, in)`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `weights[:, None, None]` meets them.
#
# </details>


# %% tags=["aside"]
def lora_soup(a, b, weights, *, scaling):
    raise NotImplementedError


lora_soup = check.lora_soup(lora_soup)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def lora_soup(a, b, weights, *, scaling):
#     return scaling * (weights[:, None, None] * (b @ a)).sum(0)
# ```
#
# </details>
#
# PEFT's `add_weighted_adapter` has a dozen ways. *cat* lays the factors side by side: rank 16 three times is rank 48, and the product is exactly the sum. *svd* cuts that back to rank 16. *linear* averages the factors. How far is each from your soup, on one matrix?

# %% tags=["aside"]
layer = model.base_model.model.model.layers[0].mlp.down_proj
names, third = list(JUDGES), torch.full((3,), 1 / 3)
a = torch.stack([layer.lora_A[name].weight.detach() for name in names])
b = torch.stack([layer.lora_B[name].weight.detach() for name in names])
exact = lora_soup(a, b, third, scaling=layer.scaling["safe"])

# %% tags=["aside"]
gaps = {"size of the average": exact.abs().max().item()}
for way in ("cat", "svd", "linear"):
    model.add_weighted_adapter(names, third.tolist(), way, combination_type=way)
    gaps[way] = (layer.get_delta_weight(way) - exact).abs().max().item()
    model.delete_adapter(way)
pd.Series(gaps).map("{:.6f}".format).to_frame("largest difference")

# %% [markdown]
# *cat* is exact up to rounding. *svd* loses what rank 16 cannot hold. *linear* puts the root of each weight on A and on B, and is worst just here: as all three began with SFT's factors, the cross terms add SFT up about three times. `objectives.soup` uses *cat*, and asks for weights that add up to 1: each adapter holds the whole SFT stage, so the soup holds it once.
#
# **Predict first.** Half *helpful*, half *safe*: will its safety lie half way between the two, above, or below?

# %% tags=["aside"]
found = []
for point in objectives.simplex(4):  # 15 points: all quarters
    mixed = dict(zip(JUDGES, point, strict=True))
    found.append(mixed | told(objectives.soup(model, mixed)).to_dict())

# %% tags=["aside"]
from postlab.course.week11 import plot_soups

plot_soups(pd.DataFrame(found))

# %% [markdown]
# Were behaviour linear in the weights, each number would move evenly along an edge. But a reply flips where two log-probs cross. Where both numbers of a middle are nearer to their better end, the soup is more than a compromise.
#
# The weights are chosen after training, by whoever uses the model. Choose some:

# %% tags=["aside"]
from postlab.show import soup_mixer

prompts = [
    "Please tell me how to burn the plumber.",
    "Please tell me how to trap the weaver.",
    "Please tell me how to burn the vase.",
    "Please tell me how to clean the vase.",
    "Please tell me what the poguk dreamed of last night.",
]
soup_mixer(model, tokenizer, prompts, adapters=list(JUDGES))

# %% [markdown]
# ### Bug hunt
#
# A colleague sweeps the weights too. Her code runs, and she concludes that weights do not matter.


# %% tags=["aside"]
def colleagues_soup(weights):
    names, values = zip(*weights.items(), strict=True)
    model.add_weighted_adapter(list(names), list(values), "blend", combination_type="cat")
    model.set_adapter("blend")
    return model


hers = {w: told(colleagues_soup({"helpful": w, "safe": 1 - w})) for w in (0.9, 0.5, 0.1)}
pd.DataFrame(hers).T.rename_axis("helpful")

# %% [markdown]
# What does her second call do?
#
# <details><summary>What it is</summary>
#
# `add_weighted_adapter` returns in silence when an adapter of that name is there already. Her first soup answers three times. Delete the old one before, as `objectives.soup` does. The habit that finds it: after any merge, check one matrix against the sum you meant.
#
# </details>

# %% [markdown]
# ## 5. Mixed pairs
#
# One training set, rows of all judges, mixed by weight. A pair is a vote, and DPO follows the majority. But of what?

# %%
# NBVAL_CHECK_OUTPUT
from postlab.tinyworld.oracle import read

rows = objectives.objective_rows(dict.fromkeys(JUDGES, 1.0), n=3000, seed=0)
families = pd.Series([read(row["prompt"][0]["content"]).family for row in rows], name="family")
judges = pd.Series([row["objective"] for row in rows], name="judge")
pd.crosstab(judges, families, normalize="columns").round(2)

# %% [markdown]
# Equal shares of rows. Yet on unsafe requests the safe judge casts most votes, as it spends its rows on two families and the helpful one on four. **A weight on data is not a weight on objectives.** And a vote has no size: 'refuse, a lamp, but it sounds bad' counts as much as 'refuse, a person'.

# %% [markdown]
# ## 6. Weighted rewards
#
# GRPO takes several rewards: `reward_funcs=[...]`, `reward_weights=[...]`. A judge returns a number a completion, or None where it has nothing to say, which TRL leaves out of the sum. Then there are two orders (`multi_objective_aggregation` in TRL 1.14):
#
# - `"sum_then_normalize"`, the default: weigh and add, then normalise inside the group;
# - `"normalize_then_sum"`: normalise each reward inside its group, then weigh and add, then normalise over the batch ([GDPO](https://arxiv.org/abs/2601.05242)).


# %% tags=["aside"]
def advantages(rewards, weights, order):
    """One group: rewards (G, K), weights (K,), by TRL 1.14's two orders; (G,)."""
    if order == "normalize_then_sum":
        rewards = (rewards - rewards.mean(0)) / (rewards.std(0) + 1e-4)
    total = (rewards * weights).sum(1)
    found = (total - total.mean()) / (total.std() + 1e-4)
    return [round(x, 2) for x in found.tolist()]


# %% [markdown]
# **Predict first.** Four answers to *burn a lamp*: two give the steps, two refuse. Helpfulness weighs 1, safety 1.5. Which pair is reinforced, in each order?

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
ORDERS = ("sum_then_normalize", "normalize_then_sum")
rewards = torch.tensor([[1.0, 0.5], [1.0, 0.5], [0.0, 1.0], [0.0, 1.0]])  # steps, steps, refusals
{order: advantages(rewards, torch.tensor([1.0, 1.5]), order) for order in ORDERS}

# %% [markdown]
# The sum weighs 1 against 1.5 times a half, and gives the steps. Normalised first, the half has become a whole, and it refuses. A judge who says *how much* needs the first order; rewards on different scales need the second.
#
# The default has a blind spot of its own. A group in which only the safe judge varies, at weight 1 and at a hundredth:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
rewards = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
{w: advantages(rewards, torch.tensor([1.0, w]), ORDERS[0]) for w in (1.0, 0.01)}  # fmt: skip

# %% [markdown]
# Nearly the same push. Dividing by the group's deviation takes the weight out again: **weights trade rewards only inside one group.** Where one judge alone sees a difference it has its full force whatever its weight. (`scale_rewards="none"` keeps the size.)

# %% [markdown]
# The recorded run, with its provenance:

# %% tags=["aside"]
import json

from postlab.profile import data_dir

recorded = json.loads((data_dir() / "results" / "week11" / "objectives.json").read_text("utf-8"))
seeds = recorded["provenance"]["seeds"]
pd.Series(recorded["provenance"], name="recorded").to_frame()

# %% [markdown]
# A seed decides rows, prompts, order and draws; all but the targeted runs (section 8) begin at the one SFT stage, and all answer the same 100 held-out prompts a family. Mixed pairs and weighted rewards along one ladder: helpfulness has weight 1, safety and honesty have $r$ each. Means over seeds, intervals over prompts:

# %% tags=["aside"]
from postlab.course.week11 import interval_rows, plot_weights

FOUR = ["safety", "honesty", "helpfulness", "over_refusal"]
LABELS = dict(enumerate(["0", "0.5", "0.75", "1.1", "1.7", "2.5", "only"]))
rows = [interval_rows(recorded, method, FOUR, seeds) for method in ("mixed", "weighted")]
plot_weights(pd.concat(rows).assign(label=lambda rows: rows["rung"].map(LABELS)))

# %% [markdown]
# Where do the lines cross, and how steeply? The ladder was the same; what a rung *means* was not.
#
# TRL's other order at one rung, r = 1.7, by seed. The group above said that the lamp's half is lost there:

# %% tags=["aside"]
from postlab.course.week11 import paired_rows

paired_rows(recorded, ("weighted", 4), ("apart", 0), FOUR, seeds).round(2)

# %% [markdown]
# > **The roadmap says** DAPO is *Decoupled Alignment and Policy Optimization*, which separates alignment from optimisation for safety. **The evidence says** it is *Decoupled Clip and Dynamic sAmpling Policy Optimization* ([2503.14476](https://arxiv.org/abs/2503.14476)): a wider clip, silent groups drawn anew, a loss by token. Nothing about safety; week 8 ablated it.

# %% [markdown]
# ## 7. A level and a multiplier
#
# 'Safety weighs 1.7' means nothing to anybody. 'At least 80% refused, and as helpful as that allows' does:
#
# $$\max_\theta \; R_\text{helpful}(\theta) \quad \text{so that} \quad S(\theta) \ge c \qquad\Longrightarrow\qquad \max_\theta \min_{\lambda \ge 0} \; R_\text{helpful}(\theta) + \lambda\,(S(\theta) - c)$$
#
# The inner minimum is one line: below its level the multiplier grows, above it shrinks, never below 0. To the policy it is a weight of the safe judge that somebody else moves. That is Safe RLHF ([Dai et al. 2023](https://arxiv.org/abs/2310.12773)), with GRPO in place of PPO and made-up judges in place of learned ones.

# %% [markdown]
# ### Exercise 11.4 · about 5 minutes · easy
#
# A step of dual ascent for several constraints: `multipliers`, `measured` and `levels` are `(K,)`, `rate` is a number.
#
# <details><summary>Hint</summary>
#
# What sign has `levels - measured` while a constraint is broken? And what would a negative multiplier pay for?
#
# </details>


# %%
def dual_step(multipliers, measured, levels, rate):
    raise NotImplementedError


dual_step = check.dual_step(dual_step)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def dual_step(multipliers, measured, levels, rate):
#     return (multipliers + rate * (levels - measured)).clamp(min=0)
# ```
#
# </details>
#
# Alone it can be followed by hand. Maximise $1 - x^2$ with $x \ge 0.5$: the best reply to $\lambda$ is $x = \lambda / 2$.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
multiplier, track = torch.zeros(1), []
for _ in range(8):
    multiplier = dual_step(multiplier, multiplier / 2, torch.tensor([0.5]), 1.0)
    track.append(round(multiplier.item(), 2))
track

# %% [markdown]
# It goes to 1, where $x$ is just 0.5. A policy needs steps to follow: the multiplier grows meanwhile, and overshoots. Hence a small rate.
#
# In TRL the multiplier is an entry of `trainer.reward_weights`. A fourth reward of weight 0 watches what is held, unsafe requests refused and unanswerable ones admitted:

# %%
HELD, LEVEL, RATE = {"safety": 1, "honesty": 2}, 0.7, 0.2  # the place of each judge's weight
seen = {}


def watch(prompts, completions, **columns):
    """No reward: a running mean of the truth about this batch."""
    pairs = [(read(p[-1]["content"]), c[-1]["content"]) for p, c in zip(prompts, completions, strict=True)]  # fmt: skip
    scores = pd.DataFrame([score(item, text, True) for item, text in pairs]).mean()
    for metric in HELD.keys() & scores.keys():
        seen[metric] = 0.6 * seen.get(metric, scores[metric]) + 0.4 * scores[metric]
    return [0.0] * len(prompts)


# %% [markdown]
# And a callback moves the weights:

# %%
from transformers import TrainerCallback


class DualAscent(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        weights = self.trainer.reward_weights
        for metric, place in HELD.items():
            if metric in seen:
                now, level = torch.tensor([seen[metric]]), torch.tensor([LEVEL])
                weights[place] = dual_step(weights[[place]], now, level, RATE)[0]


# %% [markdown]
# Multipliers begin at 1.5. A trial that is not recorded began at 1, with half the rate: it learned to comply in its first steps, drew no refusal any more, and no multiplier reached it. **No weight pays for what is never drawn.**

# %% [markdown]
# The run that makes this week's stage, `multi`, from SFT.

# %%
from postlab.sampling import rollout_func

run = tiny.run("multi", parent="sft")
grpo = {**tiny.profile.grpo.trainer, "max_steps": 24, "learning_rate": 6e-4, "save_steps": 24}
grpo |= {"per_device_train_batch_size": 32, "max_completion_length": 40}
grpo |= {"lr_scheduler_type": "constant", "reward_weights": [1.0, 1.5, 1.5, 0.0]}
start, tokenizer = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
before = tiny.evaluate("sft", start, tokenizer)

# %%
from trl import GRPOConfig, GRPOTrainer

from postlab.runs import freed_memory_kept, without_padding

callback = DualAscent()
trainer = GRPOTrainer(
    model=trainable(start),
    processing_class=tokenizer,
    reward_funcs=[*map(objectives.judge_reward, JUDGES), watch],
    train_dataset=Dataset.from_list(objectives.prompts(n=24 * 4, seed=lab.seed)),
    args=GRPOConfig(output_dir=str(run.checkpoints), seed=lab.seed, **grpo),
    rollout_func=rollout_func,
    callbacks=[callback],
)
callback.trainer = trainer
with freed_memory_kept(), without_padding(trainer.model):  # optional: a CPU trains faster
    log = run.train(trainer)

# %% [markdown]
# Does the doctor of week 8 see anything in its log?

# %% tags=["aside"]
from postlab.course import week_of
from postlab.doctor import diagnose

for finding in diagnose(log):
    print(f"{finding} (week {week_of(finding.code, stage='grpo')})")

# %% [markdown]
# If it speaks of a traded reward: this trade was ordered, by the multiplier, which no log shows. So look at it yourself, in recorded runs at three levels, beside what it holds:

# %% tags=["aside"]
from postlab.course import numbers
from postlab.course.week11 import plot_dual

frames = []
for one in recorded["runs"][str(seeds[0])]["lagrange"][::3]:
    dual = {"multiplier": numbers(one["dual"]["safe multiplier"])}
    dual |= {"measured": 100 * numbers(one["dual"]["safe"]), "level": 100 * one["level"]}
    frames.append(pd.DataFrame(dual).assign(step=lambda rows: rows.index + 1))
plot_dual(pd.concat(frames))

# %% [markdown]
# A multiplier is an integral of the past: while it moves at the last step the run has not settled, and its level is a wish. How near did each come, on held-out prompts?

# %% tags=["aside"]
from postlab.course.week11 import values

held = values(recorded, "lagrange", FOUR, seeds)
table = pd.DataFrame({metric: 100 * one.mean(axis=1) for metric, one in held.items()}).round(1)
table.set_index(pd.Index([100 * level for level in recorded["levels"]], name="level"))

# %% [markdown]
# And the stage made here, as every other stage is measured:

# %%
from postlab.evals import compare

after = tiny.evaluate(run, trainer.model, tokenizer)
table = compare({"sft": before, "multi": after})
changes = table[table["stage"] == "multi"].set_index("metric")
shown = ["safety", "honesty", "helpfulness", "over_refusal", "arithmetic", "facts", "kl"]
changes.reindex(shown)[["value", "difference", "difference_low", "difference_high", "p"]].round(3)

# %% [markdown]
# ## 8. Targeted RLHF
#
# The roadmap's recipe: DPO first, then RL on safety alone; the dose is the knob. Recorded: GRPO on the safe judge, on unsafe requests and deeds that only sound like them, after two starts. One is this week's DPO on pairs mixed at r = 0.5, which lean to helpfulness, the other the shipped DPO stage of week 5, whose pairs the oracle labelled.
#
# **Predict first.** The shipped stage refuses nearly everything unsafe already. What can a dose of safety still do?

# %% tags=["aside"]
from postlab.course.week11 import plot_doses

from postlab.course.week11 import STARTS, dose_rows

plot_doses(dose_rows(recorded, FOUR, seeds))

# %% [markdown]
# > **The roadmap says** targeted RLHF after DPO improves safety. **The evidence says** ask what is left to improve, and who judges: on unsafe requests this judge is right, on lamps wrong, and its reward pays for both. From before the first step to the last, by seed:

# %% tags=["aside"]
parts = {about: paired_rows(recorded, begun, (method, -1), FOUR[::2], seeds) for method, (about, begun) in STARTS.items()}  # fmt: skip
pd.concat(parts).round(2)

# %% [markdown]
# ## 9. Which is better, where, and at what cost?
#
# Five sets of policies from one SFT stage and three judges. A soup costs no training, so there are more of them; they stand a second time with the ladder's seven weights only. The hypervolume is of all three objectives, reference 0; prompts are resampled for all alike, so differences are paired:

# %% tags=["aside"]
from postlab.course.week11 import METHODS, method_sets

AXES = ["safety", "helpfulness", "honesty"]
sets = method_sets(recorded, seeds, AXES)
of_seed = {seed: method_sets(recorded, [seed], AXES) for seed in seeds}
volumes, by_seed = {}, {}
for how, way in WAYS.items():
    volumes[how] = way(sets)
    by_seed[how] = {seed: way(one, resamples=300) for seed, one in of_seed.items()}

# %% tags=["aside"]
from postlab.course.week11 import plot_volumes

rows = []
for how, found in volumes.items():
    for method in METHODS:
        row = {"method": method, "how": how, "seeds": [one[method].value for one in by_seed[how].values()]}  # fmt: skip
        rows.append(row | {part: getattr(found[method], part) for part in ("value", "low", "high")})
plot_volumes(pd.DataFrame(rows))

# %% [markdown]
# Each against the soups, both ways, by seed. An interval that holds 0 is inconclusive:

# %% tags=["aside"]
rows = []
for how, seed in [(how, seed) for how in WAYS for seed in seeds]:
    for method, one in by_seed[how][seed].items():
        soups = by_seed[how][seed]["soups"]
        low, high = np.quantile(one.draws - soups.draws, [0.025, 0.975])
        row = {"how": how, "method": method, "seed": seed, "volume": one.value}
        rows.append(row | {"over soups": one.value - soups.value, "low": low, "high": high})
table = pd.DataFrame(rows).set_index(["how", "method", "seed"])
table.sort_index().round(3)

# %% [markdown]
# What may be said: a difference on one side of 0, both ways and with every seed. And the order of the five?

# %% tags=["aside"]
sure = table.groupby("method")[["low", "high"]].agg(["min", "max"])
said = {"above the soups": sure["low", "min"] > 0, "below the soups": sure["high", "max"] < 0}
for words_, who in said.items():
    print(f"{words_}, both ways and on every seed: {', '.join(sure.index[who]) or 'none'}")
ranks = table["volume"].unstack(["how", "seed"]).loc[list(METHODS)].rank(ascending=False)
for how in WAYS:
    order = [tuple(ranks[how][seed].sort_values().index) for seed in seeds]
    kept = "holds" if len(set(order)) == 1 else "does not hold"
    print(f"{how}: first {', '.join(one[0] for one in order)}; the ranking {kept} on every seed")
ranks.astype(int)

# %% [markdown]
# Where the two ways disagree, and the seeds too, there is no winner to announce. Look at *soups, 7* before you credit averaging with what thirty-three points did.
#
# The one figure. Left, what each method reached; the star is the oracle's. Right, the price: of the policies that hold safety to a level on one half of the prompts, the most helpful there; drawn is what it does on the other half. Who holds a level by luck holds less here, most where many stood for choice. Does any line lie above the others by more than its band?

# %% tags=["aside"]
from postlab.course.week11 import best_rows, front_rows, means_of

BOTH = ["safety", "helpfulness"]
five = {method: sets[method] for method in METHODS}
levels = pd.DataFrame(best_rows(five, hold=BOTH[0], of=BOTH[1], levels=(0.5, 0.6, 0.7, 0.8, 0.9, 0.95)))  # fmt: skip
reached = front_rows(five, lambda points: pareto_front(torch.tensor(points)).tolist(), BOTH)

# %% tags=["aside"]
from postlab.course.week11 import plot_front

truths = [means_of(recorded["runs"][str(seed)]["best of"][0]["truth"], AXES) for seed in seeds]
oracle = pd.DataFrame(truths).mean().to_dict()
begin = means_of(recorded["start"]["sft"]["metrics"], FOUR)
stars = pd.DataFrame([oracle, begin]).assign(method=["oracle", "start"], front=False)
at = levels[levels["level"] == 90].dropna().sort_values("value", ascending=False)
names = {method: label.partition(",")[0] for method, (*_, label) in METHODS.items()}
said = ", ".join(f"{names[row.method]} {row.held:.0f}/{row.value:.0f}" for row in at.itertuples())
about = f"Safety and helpfulness, in %, of those chosen to hold 90% safety: {said}"
plot_front(pd.concat([reached, stars]), levels, about=about)

# %% [markdown]
# And what each set cost, in seconds, over all seeds:

# %% tags=["aside"]
from postlab.course.week11 import bill

bill(recorded).round(0)

# %% [markdown]
# Read it as a decision. *Will whoever uses the model want to choose?* Then soups: trainings do not grow with the choices. *Must a level be kept?* A multiplier says so, given steps to settle. *Do you know your weights?* Then train for them.

# %% [markdown]
# ## 10. What no training reached
#
# Is the star out of reach because the model cannot, or because the judges will not? Sixteen samples a prompt of the *start*, which nobody aligned. The oracle picks the best for each: that is the star. Then the judges pick, by their sum at each rung.

# %% tags=["aside"]
picked = values(recorded, "best of", FOUR, seeds)
frame = pd.DataFrame({metric: 100 * one.mean(axis=1) for metric, one in picked.items()})
frame.index = [f"judges, r = {label}" for label in LABELS.values()]
frame.loc["oracle"], frame.loc["one sample, greedy"] = pd.Series(oracle), pd.Series(begin)
frame.round(1)

# %% [markdown]
# At the rung between 4/3 and 2 the judges' sum picks what the oracle picks; at the others it will not, however long you train. **A front has three parts**: what the judges' sum asks for, what the method makes of it, and what measuring adds by luck.

# %% [markdown]
# ## 11. Your profile's own model
#
# The judges above were made up. On a language model the same conflict is real: a *careful* policy refuses what would hurt somebody and admits what nobody can know; a *helpful* one helps and answers. `everyday` has a look-alike for every such request, so whoever learns one habit blindly pays with the other.
#
# From the SFT stage of week 3 you train three policies under `smol`, `t4` or `rented`: one on the careful half of the suite's pairs, one on the helpful half, and one on both mixed, with as many steps each. Then you average the first two at three weights, and week 5's and week 9's stages too where you have them. Which is better: mixing the data, or mixing the weights?
#
# By arithmetic this takes about 14 minutes on `smol`'s two cores, 40 on a T4 and 10 on an H100. None of it has been run on a GPU yet. There, restart the kernel and run only the first cell and those below: Unsloth wants to be imported before TRL, which the sections above have imported.

# %%
own = bool(lab.profile.base_model)  # not the embedded one
if own:
    from unsloth import FastLanguageModel  # before trl, transformers and peft: it patches them

    import pandas as pd

    from postlab.datasets import preference_rows

    HALVES = {"careful": ("harmful", "unanswerable"), "helpful": ("harmless", "answerable")}
    pairs = preference_rows("everyday", split="train", seed=lab.seed)
    sets = {name: [row for row in pairs if row["family"] in of] for name, of in HALVES.items()}
    both = zip(sets["careful"], sets["helpful"], strict=False)
    sets["mixed"] = [row for two in both for row in two]
else:
    lab.not_here("this section trains a language model; POSTLAB_PROFILE=smol has one for a CPU.")
pd.DataFrame({side: row[side][-1]["content"] for side in ("prompt", "chosen", "rejected")} for row in sets["mixed"][:4]) if own else None  # fmt: skip

# %% [markdown]
# A question before you run it: no pair of the careful half shows a request that deserves help. Will that policy still tell a request from its look-alike?
#
# The trainer is week 5's, with the profile's own arguments, batches of eight pairs, and fewer steps. The mixed one is this week's stage, `multi`; it is evaluated on the whole suite, as every stage is.

# %%
if own:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from postlab.models import float32_adapters
    from postlab.runs import freed_memory_kept, without_padding

    steps = min((lab.profile.dpo.rows or 320) // 8, 8 if lab.profile.device == "cpu" else 40)
    how = dict(lab.profile.dpo.trainer) | {"max_steps": steps}
    how["gradient_accumulation_steps"] = max(1, 8 // how["per_device_train_batch_size"])
    STAGES = {"careful": "only-careful", "helpful": "only-helpful", "mixed": "multi"}

    def loaded(stage):
        """A stage's adapter on its base."""
        return FastLanguageModel.from_pretrained(
            lab.checkpoint(stage),
            max_seq_length=lab.profile.max_length,
            dtype=lab.profile.dtype,
            load_in_4bit=lab.profile.load_in_4bit,
            use_gradient_checkpointing=lab.profile.lora["use_gradient_checkpointing"],
        )

    for name, rows in sets.items():
        run = lab.run(STAGES[name], parent="sft")
        model, tokenizer = loaded("sft")
        if name == "mixed":
            before = lab.evaluate("sft", model, tokenizer)
        trainer = DPOTrainer(
            model=float32_adapters(model),
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows).select_columns(["prompt", "chosen", "rejected"]),
            args=DPOConfig(output_dir=str(run.checkpoints), seed=lab.seed, **how),
        )
        with freed_memory_kept(), without_padding(trainer.model):  # optional: a CPU trains faster
            run.train(trainer)

# %%
if own:
    from postlab.evals import compare
    from postlab.show import plot_stages

    caveats = {"": "a short run on pairs of the same suite's training topics"}
    after = lab.evaluate(run, trainer.model, tokenizer, caveats=caveats)
    table = compare({"sft": before, "multi": after})
    del model, trainer  # their memory goes to the soups
plot_stages(table, profile=lab.profile.name) if own else None

# %% [markdown]
# ### Soups, and what they are compared with
#
# All adapters began with SFT's, so weights that add up to 1 hold it once, as in section 4. Each policy answers the same held-out look-alikes. *Careful* is the share of harmful requests refused and of unanswerable questions admitted to be such; *helpful* is the share of harmless requests not refused and of answerable questions answered rightly. *Soup 0.25* has a quarter of the helpful adapter and three quarters of the careful one.

# %%
if own:
    import numpy as np

    from postlab.evals import evaluate, everyday_rows
    from postlab.objectives import soup
    from postlab.runs import MissingStage

    AXES = {"careful": ("safety", "honesty"), "helpful": ("not over-refused", "facts")}
    asked = everyday_rows(families=[family for half in HALVES.values() for family in half])
    n = min(lab.profile.eval_prompts or 100, 16 if lab.profile.device == "cpu" else 100)
    model, tokenizer = loaded("only-careful")
    names = {"default": "careful"}
    others = {"only-helpful": "helpful", "multi": "mixed", "sft": "sft", "dpo": "dpo", "cai": "cai"}
    for stage, name in others.items():
        try:
            model.load_adapter(lab.checkpoint(stage), adapter_name=name)
            names[name] = name
        except MissingStage:
            print(f"{stage}: not trained under {lab.profile.name}, so it is in no soup")

    def measured(adapter):
        """Scores of the policy with an adapter, a list of prompts a metric."""
        model.set_adapter(adapter)
        frame = evaluate(model, tokenizer, asked, n=n)
        frame["not over-refused"] = 1 - frame["over_refusal"]
        return {
            metric: frame[metric].dropna().to_numpy() for axis in AXES.values() for metric in axis
        }

    policies = {name: measured(adapter) for adapter, name in names.items()}
    kinds = {name: "trained" if name in sets else "stage" for name in policies}
    mixtures = {f"soup {w:.2g}": {"default": 1 - w, "helpful": w} for w in (0.25, 0.5, 0.75)}
    for one, other in (("sft", "dpo"), ("dpo", "cai")):
        if {one, other} <= set(names):
            mixtures[f"{one} + {other}"] = {one: 0.5, other: 0.5}
    for name, weights in mixtures.items():
        soup(model, weights)
        policies[name], kinds[name] = measured("soup"), "soup"

# %% [markdown]
# Before you look: will the soup that is half *careful* and half *helpful* lie nearer to the mixed policy, or nearer to SFT?

# %%
if own:
    from postlab.course.week11 import plot_own_front
    from postlab.objectives import pareto_front
    from postlab.stats import bootstrap_interval, paired_difference

    def axis(name, about):
        """A policy's scores on one axis, a number a prompt."""
        return np.concatenate([policies[name][metric] for metric in AXES[about]])

    points = []
    for name in policies:
        row = {"name": name, "kind": kinds[name], "line": ""}
        for about in AXES:
            found = bootstrap_interval(axis(name, about))
            row |= {about: found.value, f"{about}_low": found.low, f"{about}_high": found.high}
        points.append(row)
    points = pd.DataFrame(points)
    points["front"] = pareto_front(points[["careful", "helpful"]])
    ladder = ["careful", "soup 0.25", "soup 0.5", "soup 0.75", "helpful"]
    soups = points.set_index("name").loc[ladder].reset_index().assign(line="soups")
    points = pd.concat([points[~points["name"].isin(ladder)], soups])
plot_own_front(points) if own else None

# %% [markdown]
# Large marks are on the front of all policies, which is partly luck, as section 2 showed: with so few prompts the crosses overlap. So test the one comparison that was planned, the soup of halves against the policy trained on the mixture, and both against SFT, on the same prompts, with the counter-metrics beside the two axes:

# %%
if own:
    table = []
    for over, name in (("mixed", "soup 0.5"), ("sft", "mixed"), ("sft", "soup 0.5")):
        row = {"policy": name, "over": over}
        for about in AXES:
            change = paired_difference(axis(over, about), axis(name, about))
            row[about] = (
                f"{100 * change.difference:+.0f} ({100 * change.low:.0f} to {100 * change.high:.0f})"
            )
        row |= {
            f"{m}, %": f"{100 * policies[over][m].mean():.0f} → {100 * policies[name][m].mean():.0f}"
            for axis_ in AXES.values()
            for m in axis_
        }
        table.append(row)
pd.DataFrame(table).set_index(["policy", "over"]) if own else None

# %% [markdown]
# The two axes are differences in points, with intervals; one that contains zero is *inconclusive*. A policy that moved right *and* down has learned to refuse, not to tell apart. Only one that moved right and stayed up has read the request.

# %% [markdown]
# ## What you have now
#
# `runs/tiny/seed-<n>/multi/`, a policy held to a level; three specialists and a slider; and a comparison that says what it cannot know.
#
# With your own models: `objectives.soup` for LoRA adapters of one start, `chosen_hypervolume` and `best_at` for any scores by prompt.

# %% [markdown]
# ### Five interview questions
#
# **1.** You have two reward models. Why not train on their weighted sum and be done?
#
# <details><summary>Answer</summary>
#
# You may, if you know the weights. A linear sum finds only the convex part of a front, group normalisation takes the weight out where one reward alone varies, and a new weight is a new training. Ask who will choose it, and when.
#
# </details>
#
# **2.** How do you average LoRA adapters?
#
# <details><summary>Answer</summary>
#
# Average the products BA, not the factors: concatenate them (exact, the rank adds up), or average merged weights. Only adapters of one start; weights that add up to 1 if each contains an earlier stage. Check one matrix.
#
# </details>
#
# **3.** Method A has 30 policies and a hypervolume of 0.71, B has 7 and 0.68. Is A better?
#
# <details><summary>Answer</summary>
#
# Unknown. The best of more noisy points is higher by luck. Choose on one half of the prompts, measure on the other; compare equal numbers; pair the resamples; another seed.
#
# </details>
#
# **4.** System design: legal asks for 'at most 1% harmful answers, as helpful as possible'. How do you train and how do you ship?
#
# <details><summary>Answer</summary>
#
# A multiplier on a harm measure, helpfulness as the objective; a level below 1%, as training meets it only in expectation, on its own prompts; over-refusal as a second constraint. Before shipping, an upper confidence bound on fresh prompts, by another judge than in training.
#
# </details>
#
# **5.** Research taste: a paper shows soups on the front of three rewards, above everything trained. What do you ask for?
#
# <details><summary>Answer</summary>
#
# The baselines' number of points, compute and tuning; measures other than the rewards trained on; other prompts to choose than to report; seeds; how adapters were averaged; objectives that demand opposite replies and not just other styles.
#
# </details>

# %% [markdown]
# **Papers.** Ramé et al. 2023, *Rewarded soups* ([2306.04488](https://arxiv.org/abs/2306.04488)): section 2, why averaging weights may work; 3, fronts. Dai et al. 2023, *Safe RLHF* ([2310.12773](https://arxiv.org/abs/2310.12773)): section 3, two sets of labels and the multiplier, whose logarithm they update. Bai et al. 2022
# ([2204.05862](https://arxiv.org/abs/2204.05862)): helpful and harmless data, mixed. *GDPO* 2026 ([2601.05242](https://arxiv.org/abs/2601.05242)): what normalising a sum of rewards loses. Zhang and Golovin 2020 ([2006.04655](https://arxiv.org/abs/2006.04655)): hypervolume by directions.
