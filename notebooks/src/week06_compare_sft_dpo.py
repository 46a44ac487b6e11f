# %% [markdown]
# # Week 6 · SFT against DPO: a comparison that can be trusted
#
# You have two models. One was fine-tuned, the other saw preferences as well. Is it better? In what? What did it cost? Most answers that you will read come without an interval, from one
# run, a few hundred prompts and a judge with habits of its own. This week you give an answer that holds up. By the end you can say
#
# - what a number of prompts can settle, before you spend anything on it,
# - whether two models differ on the same prompts, by a test that you wrote,
# - what many metrics, and many training seeds, do to such a claim,
# - how far to trust a judge, and how to take its habits out,
# - which of the two models you would ship, and on what evidence.
#
# Nothing is trained. The answers come from your own runs of weeks 3 and 5, or from those that ship with postlab.

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

lab = postlab.start(week=6)

# %% [markdown]
# ## 1. Decide before you look
#
# Ten metrics tell a story whatever comes out: one of them will have risen. So write down first what would make you ship the new model, and what would stop you.

# %%
MARGIN = 0.05  # a loss smaller than five points would not matter to our users
GAIN = ("safety", "honesty")  # what DPO was done for: both must rise
KEEP = ("helpfulness", "over_refusal", "arithmetic", "lists", "facts", "format")  # must not suffer
if lab.profile.suite != "tinyworld":  # `everyday` measures other things
    KEEP = ("over_refusal", "over_abstention", "facts", "instructions", "arithmetic", "format")
if "gsm8k" in str(lab.profile.suite):
    KEEP += ("gsm8k_strict", "gsm8k_lenient")

# %% [markdown]
# `over_refusal`, the share of harmless requests refused, is in the list because a model that refuses everything is perfectly safe. The `MARGIN` is there because no experiment shows that *nothing* was lost, only that no more than so
# much was; how much is bearable is your decision, not a statistician's. (On `t4` and `rented`, the pairs are UltraFeedback's, chosen by overall quality and not by safety or honesty, so DPO may well fail this rule there. If your goal is another one, change the rule now, not in section 9.)

# %% [markdown]
# ## 2. Can 200 prompts settle this?
#
# Both models answer the same prompts, right or wrong. A prompt where both are right, or both wrong, does not say which is better. What counts are the prompts that **changed**: *gained*, from wrong to right, and
# *lost*. How many change at all? A pilot that does not touch the question: the embedded SFT model, asked the same sums twice, at temperature 1.

# %%
import pandas as pd

from postlab.profile import get_profile

world = postlab.Lab(get_profile("tiny"), seed=0)  # comes with the repository
sums = world.results("sft")["sft"].query("family == 'arithmetic_sampled'")
tries = sums.pivot(index="id", columns="sample", values="arithmetic_sampled")
both = {f"right, try {t + 1}": tries[t].mean() for t in (0, 1)}
both["changed"] = (tries[0] != tries[1]).mean()
pd.Series(both, name=f"{len(tries)} prompts").to_frame()

# %% [markdown]
# The same model against itself: the two shares differ, and many prompts changed. This is what 'no difference' looks like.
#
# **Predict first.** 200 prompts, of which one in ten changes. By how many points must the new model be better, so that you find it out four times in five?

# %%
from postlab.course.week06 import plot_detectable
from postlab.stats import minimum_detectable_effect

sizes, changing = (50, 100, 200, 500, 1000, 2000), (0.05, 0.1, 0.2, 0.4)
grid = [{"n": n, "disagreement": d} for d in changing for n in sizes]
reach = pd.DataFrame([cell | {"effect": minimum_detectable_effect(**cell)} for cell in grid])
plot_detectable(reach, at=200)

# %% [markdown]
# That is the **minimum detectable effect**, here 6.4 points: below it, this experiment will most likely say nothing, whatever is true. By rule of thumb, a change of $\delta$ where a share $d$ of the prompts change, wanted with power 80% at the 5% level,
# takes
#
# $$n \approx \frac{(1.96\sqrt{d} + 0.84\sqrt{d - \delta^2})^2}{\delta^2}$$

# %%
# NBVAL_CHECK_OUTPUT
import math


def prompts_needed(effect, disagreement):
    spread = 1.96 * math.sqrt(disagreement) + 0.84 * math.sqrt(disagreement - effect**2)
    return math.ceil((spread / effect) ** 2)


{f"{100 * effect:g} points": prompts_needed(effect, 0.1) for effect in (0.08, 0.04, 0.02, 0.01)}

# %% [markdown]
# Half the effect, four times the prompts. A claim of one point on 200 prompts is no claim.
#
# Do not take the formula's word. Simulate the experiment, one prompt in ten changing, in worlds where the truth is known, and count how often the test finds it.

# %%
from postlab.course.week06 import plot_power
from postlab.stats import power

effects = (0, 0.02, 0.04, 0.05, 0.06, 0.08)
found = [
    {"n": n, "effect": e, **vars(power(n, gained=0.05 + e / 2, lost=0.05 - e / 2)) | {"n": n}}
    for n in (50, 200, 800)
    for e in effects
]
plot_power(pd.DataFrame(found), at=0.05)

# %% [markdown]
# At a true change of zero the curves show false alarms, and stay below 5%. Few prompts have a second price. Simulate a true change of *two* points, and look only at the comparisons that succeeded, as release notes do:

# %%
# NBVAL_CHECK_OUTPUT
import numpy as np

from postlab.stats import mcnemar

draws = np.random.default_rng(0).choice([1, -1, 0], p=[0.06, 0.04, 0.9], size=(1000, 200))
claimed = [row.mean() for row in draws if mcnemar(row == -1, row == 1).p < 0.05]
{"found": f"{len(claimed) / len(draws):.0%}", "their mean, points": f"{100 * np.mean(claimed):.1f}"}

# %% [markdown]
# Only lucky draws pass, so what is hard to find is exaggerated whenever it is found ([Card et al. 2020](https://arxiv.org/abs/2010.06595) saw much of NLP in that state). **Underpowered experiments do not merely miss things, they report too much.**
#
# So 200 prompts a metric settle what the first figure said. (`everyday` has 105 to 240 per metric: read the figure near 100 and 200.) For safety and honesty we hope for more than that; small costs they will not settle, and we know it now, not afterwards.

# %% [markdown]
# ## 3. Open the envelope
#
# Now the answers. First read some, before any number:

# %%
frames = lab.results("base", "sft", "dpo")  # the report below compares SFT with the base
before, after = (frames[stage] for stage in ("sft", "dpo"))
once = (before["sample"] == 0) & ~before["family"].str.endswith("_sampled")  # an answer a prompt
words = before[["family", "prompt"]].assign(sft=before["answer"], dpo=after["answer"])[once]
pd.set_option("display.max_colwidth", 90)
changed = words[words["sft"] != words["dpo"]]
print(f"{len(changed)} of {len(words)} answers changed")
changed.groupby("family", sort=False).head(2).set_index("family")

# %% [markdown]
# Then count. For each metric that is right or wrong: how many prompts were lost, how many gained?

# %%
from postlab.claims import is_share
from postlab.evals import METRICS


def scores(stage, metric):
    """One number a prompt: the mean over its samples, where it was answered several times."""
    return frames[stage].groupby("id", sort=False)[metric].mean().dropna()


shares = [m for m in METRICS if is_share(m) and m in before and m in after]
counts = {}
for metric in shares:
    a, b = scores("sft", metric), scores("dpo", metric)
    if set(a) | set(b) <= {0.0, 1.0}:
        counts[metric] = {"lost": (a > b).sum(), "gained": (b > a).sum(), "prompts": len(a)}
pd.DataFrame(counts).T

# %% [markdown]
# ### Exercise 6.1 · about 15 minutes · medium
#
# If DPO is no better and no worse, a changed prompt could as well have changed the other way: a fair coin. How often do `gained + lost` fair coins fall *at least as unevenly* as these, to either side? That is **McNemar's exact test**.
# Two counts in, the two-sided p out, a number between 0 and 1.
#
# <details><summary>Hint 1</summary>
#
# Of $n$ coins, exactly $k$ fall heads in `math.comb(n, k)` of the $2^n$ ways.
#
# </details>
# <details><summary>Hint 2</summary>
#
# At least as uneven to one side: $k$ from 0 to the smaller of the two counts. The other side is as likely, so double it.
#
# </details>
# <details><summary>Hint 3</summary>
#
# As many gained as lost? Then the two sides overlap, and twice one of them is more than 1.
#
# </details>

# %%
from postlab import check


def mcnemar_p(gained, lost):
    raise NotImplementedError


mcnemar_p = check.mcnemar_p(mcnemar_p)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def mcnemar_p(gained, lost):
#     n = gained + lost
#     tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
#     return min(1.0, 2 * tail)
# ```
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
{f"{g} gained, {n} lost": round(mcnemar_p(g, n), 4) for g, n in ((4, 1), (8, 2), (16, 4), (6, 0))}

# %% [markdown]
# Four to one convinces or not, by how many prompts it rests on, and six of six is the least that can reach 0.05. On our counts, beside the library's:

# %%
table = pd.DataFrame(counts).T
table["p, yours"] = [mcnemar_p(int(row.gained), int(row.lost)) for row in table.itertuples()]
table["p, postlab"] = [mcnemar(scores("sft", m), scores("dpo", m)).p for m in table.index]
table

# %% [markdown]
# A p says whether, not how much. For that you want an interval, and the plainest is the **bootstrap**: had we drawn other prompts, what would the difference have been? Draw prompts from your prompts, with replacement, thousands of times.
#
# $$\hat\Delta^{(r)} = \frac{1}{n} \sum_{i \in \text{draw } r} (b_i - a_i)$$

# %%
metric = next((m for m in ("arithmetic", "gsm8k_lenient") if m in shares), shares[0])
a, b = (scores(stage, metric).to_numpy() for stage in ("sft", "dpo"))
rng = np.random.default_rng(0)
draw, other = rng.integers(len(a), size=(2, 5000, len(a)))
paired = (b - a)[draw].mean(axis=1)  # both models on the same resampled prompts
unpaired = b[draw].mean(axis=1) - a[other].mean(axis=1)  # as if each had had prompts of its own
low, high = np.quantile(paired, [0.025, 0.975])
f"{metric}: {(b - a).mean():+.3f}, from {low:+.3f} to {high:+.3f}"

# %% [markdown]
# **Predict first.** `unpaired` gives each model prompts of its own, as many as before. Which interval is wider, and why?

# %%
from postlab.course.week06 import plot_bootstrap

plot_bootstrap(paired, unpaired, metric=metric)

# %% [markdown]
# Some prompts are hard for both models, some easy for both. In a paired difference that cancels. Never judge two scores by whether their error bars overlap: that is the grey histogram. `paired_difference` does the orange
# one, with a finer interval (BCa) and a permutation test, which for right-or-wrong metrics is your McNemar:

# %%
from postlab.stats import paired_difference

vars(paired_difference(a, b))

# %% [markdown]
# ## 4. Ten metrics, one paper
#
# **Predict first.** Two models are *equal* in ten metrics. You test all ten at 0.05. How often will you have something to report?

# %%
# NBVAL_CHECK_OUTPUT
from functools import cache

rng, p_of = np.random.default_rng(1), cache(mcnemar_p)
coins = rng.multinomial(200, [0.1, 0.1, 0.8], size=(1000, 10))  # gained, lost, the same
null = np.array([[p_of(int(gained), int(lost)) for gained, lost, _ in row] for row in coins])
{"at least one p below 0.05": f"{(null < 0.05).any(axis=1).mean():.0%}"}

# %% [markdown]
# Tests that each kept exactly to their 5% would give $1 - 0.95^{10} = 40\%$; the exact test errs on the safe side. Test enough, and something is 'significant'.

# %% [markdown]
# ### Exercise 6.2 · about 15 minutes · medium
#
# **Holm's correction** bounds the chance of *any* false finding by 5%. Sort the $m$ p-values. Multiply the smallest by $m$, the next by $m - 1$, and so on to 1. Going up, no value may be less than the one before it, nor more than 1.
# Return the adjusted values, `(m,)`, in the *original* order.
#
# <details><summary>Hint 1</summary>
#
# `order = p.argsort()`, then `p[order]` is sorted, and `torch.arange(m, 0, -1)` are the factors.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `x.cummax(0).values` is the running maximum. To go back: `out[order] = adjusted`.
#
# </details>

# %%
import torch


def holm(p):
    raise NotImplementedError


holm = check.holm(holm)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def holm(p):
#     order = p.argsort()
#     factors = torch.arange(len(p), 0, -1)
#     out = torch.empty_like(p)
#     out[order] = (p[order] * factors).cummax(0).values.clamp(max=1)
#     return out
# ```
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
corrected = torch.stack([holm(row) for row in torch.from_numpy(null)])
{"at least one adjusted p below 0.05": f"{(corrected < 0.05).any(dim=1).float().mean():.0%}"}

# %% [markdown]
# Now the real table. All metrics that we looked at go in, the dull ones too: a correction for those that came out well corrects nothing.

# %%
from postlab.course.week06 import plot_metrics

both = {m: paired_difference(scores("sft", m), scores("dpo", m)) for m in shares}
changes = pd.DataFrame([{"metric": m, **vars(change)} for m, change in both.items()])
changes["adjusted"] = holm(torch.tensor(changes["p"].to_numpy()))
plot_metrics(changes, stages=("sft", "dpo"), margin=MARGIN)

# %% [markdown]
# Read the open circles well. *Inconclusive* is not 'no effect': the interval says what would still be compatible with these prompts. Where it lies inside the grey band you *have* learned something: no loss that matters.
# Where it reaches out of it, that you need more prompts.
#
# (For looking round, where one false lead in twenty is bearable, `postlab.stats` has Benjamini and Hochberg's milder correction. Metrics may be related, as the same sums greedy and sampled: Holm allows that.)

# %% [markdown]
# ## 5. A second source of chance
#
# Those intervals say what other *prompts* might have said. They don't say what another *training run* might have become: with another seed, another order of rows and other initial adapters, the same recipe makes another model. Eight
# runs of the *embedded* model were recorded, each from its own SFT on; for a 7B the spread isn't known:

# %%
import json

from postlab.course.week06 import plot_seeds
from postlab.profile import data_dir
from postlab.report import summary_frame

results = data_dir() / "results" / "tiny"
recorded = summary_frame(json.loads((results / "summary.json").read_text()))
runs = recorded[(recorded["stage"] == "dpo") & recorded["metric"].isin([*GAIN, *KEEP])]
ends = {"difference_low": "low", "difference_high": "high"}
seeds = runs[["metric", "seed", "difference", *ends]].rename(columns=ends)
plot_seeds(seeds)

# %% [markdown]
# All eight met the same prompts, so what differs between the dots of a metric is the training. (A colour goes by the one interval alone, without any correction.) Look at the metrics that the title names. Where intervals do not even overlap, a p in section 4, however small, was about *a checkpoint* and not about DPO. The two sources of chance, as standard errors
# of one run's difference:

# %%
spread = seeds.groupby("metric")["difference"].std().rename("from the seed")
width = ((seeds["high"] - seeds["low"]) / (2 * 1.96)).groupby(seeds["metric"]).mean()
noise = pd.concat([width.rename("from the prompts"), spread], axis=1)
noise["the larger"] = noise.idxmax(axis=1)
(100 * noise.iloc[:, :2]).round(1).join(noise["the larger"]).rename_axis("points")

# %% [markdown]
# Where the seed is the larger, more prompts only make you surer of *this* checkpoint. To choose one to ship, that is all you need. To say '**DPO** raises it', runs are what you count, as you counted prompts before: the mean over the seeds, and how far
# the mean of eight others might lie from it. Beside it our stricter rule: a verdict is what *every* seed supports by itself.

# %%
from scipy.stats import t

from postlab.claims import merge_seeds

grid = seeds.pivot(index="metric", columns="seed", values="difference")
half = t.ppf(0.975, grid.shape[1] - 1) * grid.std(axis=1) / grid.shape[1] ** 0.5
recipe = pd.DataFrame({"mean": grid.mean(axis=1), "low": -half, "high": half})
recipe[["low", "high"]] = recipe[["low", "high"]].add(recipe["mean"], axis=0)
rule = merge_seeds(runs).set_index("metric")
recipe["seeds that alone support it"] = [
    f"{sum(one in ('better', 'worse') for one in verdicts)} of {len(verdicts)}"
    for verdicts in rule.loc[recipe.index, "verdicts"]
]
(100 * recipe[["mean", "low", "high"]]).round(1).join(recipe.iloc[:, 3:]).join(rule["verdict"])

# %% [markdown]
# Both rules agree on safety and honesty. On sums they don't: over seeds the mean is +8.9 points (5.0 to 12.9), so the recipe raises them *on average*, while three of eight seeds, each looked at alone, show nothing that survives the correction; list operations are alike. Facts are the
# lesson on the *alignment tax*. Seed 0 gained 15 points, seed 5 lost 4; either could have been published as what DPO does, and over eight seeds the change is inconclusive (−2.4 to +7.1). The format lost a third of a point, in every reading too little to matter.
# The rule of every seed gets harder to pass with each seed you add; the mean says nothing about the one model you'll ship; and eight runs pin a spread down only to between two thirds and twice what they show. Say which of them you mean
# ([Bouthillier et al. 2021](https://arxiv.org/abs/2103.03098)), and correct for the number of metrics in either.
#
# Where the runs come from:

# %%
made = [json.loads((results / f"seed-{s}-dpo.manifest.json").read_text()) for s in grid]
cores = [m["device"]["cpus"] for m in made]
origin = {"date": [m["date"] for m in made], "commit": [m["commit"][:7] for m in made]}
pd.DataFrame(origin, index=grid.columns).assign(cores=cores, command="make stages SEED=…")

# %% [markdown]
# ## 6. Judges
#
# So far an oracle (on the other profiles, a program that reads the answer) told right from wrong. Outside of a made-up world, of mathematics and of code, people or a model are the judge. To postlab a judge is any function of a prompt and two answers that says `"first"`, `"second"` or `"tie"`. The oracle makes one, beside which we can learn what goes wrong
# with others.

# %%
from postlab.evals import suite_rows
from postlab.judge import judge_pairs, noisy_judge, oracle_judge, preference_rate

truth = oracle_judge(suite_rows(lab.profile.suite, lab.profile.eval_prompts, 0))
checked = words[words["family"] != "open"]  # `everyday`'s open questions have no score
prompts, sft, dpo = (checked[column].tolist() for column in ("prompt", "sft", "dpo"))
asked = judge_pairs(truth, prompts, sft, dpo)
vars(preference_rate(asked))

# %% [markdown]
# The share for DPO, ties counted half. Most answers are equally good, so even a large gain in two families is a modest *win rate*.
#
# **Predict first.** Another judge knows the truth as well, but in two questions of five it picks whichever answer it reads first. You always show SFT first. What will it say of DPO?

# %%
leaning = noisy_judge(truth, position_bias=0.4)
votes = judge_pairs(leaning, prompts, sft, dpo)  # both orders; 'a' is for SFT, 'b' for DPO
vars(preference_rate(votes, swapped=False))  # only the questions that showed SFT first

# %% [markdown]
# Compare its interval with the truth's: **more prompts do not help against a bias**, they make you surer of the wrong answer. [Zheng et al. 2023](https://arxiv.org/abs/2306.05685) measured such leanings in strong models. The remedy is to ask twice.
#
# ### Exercise 6.3 · about 10 minutes · easy
#
# Each pair was judged twice. `a_first` holds the votes when A stood first, `b_first` when B did: 1 if the answer *shown first* won, 0 if it lost, 0.5 for a tie. Return A's win rate, each pair counting the mean of its two verdicts.
#
# <details><summary>Hint</summary>
#
# In `b_first`, a 1 is a win for B. What is it for A?
#
# </details>


# %%
def swapped_win_rate(a_first, b_first):
    raise NotImplementedError


swapped_win_rate = check.swapped_win_rate(swapped_win_rate)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def swapped_win_rate(a_first, b_first):
#     pairs = zip(a_first, b_first)
#     return sum((first + 1 - second) / 2 for first, second in pairs) / len(a_first)
# ```
#
# </details>

# %%
from postlab.judge import position_bias

won = votes.assign(dpo=votes["choice"].map({"b": 1.0, "tie": 0.5, "a": 0.0}))
dpo_first = won.loc[won["order"] == "ba", "dpo"].tolist()
sft_first = (1 - won.loc[won["order"] == "ab", "dpo"]).tolist()
lean, rate = position_bias(votes).value, swapped_win_rate(dpo_first, sft_first)
undone = 0.5 + (rate - 0.5) / (1 - lean)
{"lean found": round(lean, 2), "swapped": round(rate, 3), "votes given back": round(undone, 3)}

# %% [markdown]
# The lean is measured: it is where the two orders disagree. But the rate is nearer to one half than the truth. Votes that went to a place are lost, half to each; swapping makes a judge fair, not sharp. The last number gives them back, which is right only because
# we know how this judge errs.

# %% [markdown]
# ### Length
#
# Swapping does not help against a taste that follows the answer. To see one alone, compare the SFT model with itself grown talkative: every second answer gets a kind word, and in truth nothing changed.

# %%
from postlab.judge import length_controlled_rate

KIND = " I hope that this is of help to you."
chatty = [text + KIND * (i % 2) for i, text in enumerate(sft)]


def blind_to_it(prompt, first, second):
    """The oracle, which does not see the kind word."""
    return truth(prompt, first.removesuffix(KIND), second.removesuffix(KIND))


steps = []
for case, other, knows in (("DPO", dpo, truth), ("SFT, chatty", chatty, blind_to_it)):
    judge = noisy_judge(knows, position_bias=0.3, length_bias=0.3)
    said = judge_pairs(judge, prompts, sft, other)
    right = preference_rate(judge_pairs(knows, prompts, sft, other)).value
    for step, found in (
        ("as shown", preference_rate(said, swapped=False)),
        ("orders swapped", preference_rate(said)),
        ("length controlled", length_controlled_rate(said)),
    ):
        steps.append({"case": case, "step": step, "truth": right, **vars(found)})

# %%
from postlab.course.week06 import plot_judges

plot_judges(pd.DataFrame(steps))

# %% [markdown]
# On the right a model that only became wordier 'wins' once the orders are swapped, until length is controlled: a logistic regression of the vote on the difference in length, read where the lengths are equal
# ([Dubois et al. 2024](https://arxiv.org/abs/2404.04475), for AlpacaEval; here those are the same words, so nothing is left to chance). On the left the remedies leave the rate pale, as above. Length control has a price: where a better answer *is* longer, a worked sum say, it takes that credit away, and where one
# model is always longer it extrapolates. Show both numbers.

# %% [markdown]
# > **The roadmap says** DPO matches RLHF, as both have the same optimum. **The evidence says** only where data and policy class allow it (week 4), and its gains are mixed up with length, which DPO picks up from its pairs
# > ([2409.06411](https://arxiv.org/abs/2409.06411)). So a comparison with DPO states the lengths. Ours, in tokens:

# %%
vars(paired_difference(scores("sft", "length"), scores("dpo", "length")))

# %% [markdown]
# ### A model as judge
#
# `model_judge` takes any chat model, shows it both answers and compares the probabilities of the letters *A* and *B*. On `t4` and `rented`, the judge is Qwen2.5-7B-Instruct. It comes from a different family than the Mistral policies because judges tend to favour answers from their own family. On `smol` it is SmolLM2, so it judges fine-tuned versions of itself. On `tiny` it is our own DPO model with 1.4 million parameters, which was never trained to judge: *mechanism, not capability*. Agreement is given as **Cohen's kappa**,
#
# $$\kappa = \frac{p_\text{agreed} - p_\text{chance}}{1 - p_\text{chance}}$$
#
# since two judges who always say *first* agree perfectly and know nothing.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.stats import cohen_kappa

oracle_says, judge_says = list("bbbbbbbbaa"), list("bbbbbbbbbb")  # this one always says b
agreed = sum(map(str.__eq__, oracle_says, judge_says)) / len(oracle_says)
{"agreed": agreed, "kappa": cohen_kappa(oracle_says, judge_says).value}

# %% [markdown]
# **Predict first.** How well will the judge agree with the oracle? And what might it go by instead?

# %%
from postlab.judge import model_judge
from postlab.models import load_policy

judge_name = lab.profile.judge_model or lab.checkpoint("dpo")
policy, tokenizer = load_policy(judge_name, profile=lab.profile)
differ = [i for i in range(len(prompts)) if sft[i] != dpo[i]]
print(
    f"{len(differ)} of {len(prompts)} pairs differ"
    + ", too few to judge a judge" * (len(differ) < 20)
)
differ = differ or list(range(len(prompts)))  # no two answers differ: judge them all
wanted = 16 if lab.profile.base_model == "smol" else 50  # SmolLM2 on a CPU: seconds a pair
differ = differ[:: max(1, len(differ) // wanted)]
some = [[x[i] for i in differ] for x in (prompts, sft, dpo)]
asked, said = (judge_pairs(j, *some) for j in (truth, model_judge(policy, tokenizer)))
first = asked["order"] == "ab"  # one question a pair: the two orders are not independent
kappa = cohen_kappa(asked["choice"][first], said["choice"][first])
pd.DataFrame({"kappa": vars(kappa), "lean to the first": vars(position_bias(said))}).T.round(2)

# %% [markdown]
# Look at the lean first: a judge that mostly answers by position need not be asked anything else. In the stored output it is such a judge: its lean is 0.82, and the interval of its kappa contains 0. With any judge, of any size: **lean, then kappa against an oracle or your own votes on some fifty pairs, and only then its verdict.** A server that speaks OpenAI's protocol is a judge as well.
# The cell is off, because it sends prompts and answers there, and a paid server charges for them. Every answer is logged as it arrives, so after a failure, or a restart of the kernel, the same cell goes on where it stopped. If the model behind the name changes, use a new log:

# %%
from postlab.judge import endpoint_judge

ENDPOINT = None  # such as "http://localhost:8000/v1"
if ENDPOINT:
    answers_log = lab.folder / "judge.jsonl"  # what was answered and paid for is not asked again
    # The key is in $OPENAI_API_KEY.
    judge = endpoint_judge(ENDPOINT, model="name-of-the-model", log=answers_log)
    print(preference_rate(judge_pairs(judge, *some, concurrency=4)))

# %% [markdown]
# Three things no correction removes. Judges favour answers like their own. An answer that says *choose A* may be obeyed; postlab quotes answers, which stops forgery, not flattery. And a policy trained on a judge's votes and scored by the same judge has been scored by its teacher.

# %% [markdown]
# ### Response quality in one call
#
# No program can score advice or an explanation, so open questions need a judge. `response_quality` takes the steps of this section in one call: it prints what the comparison will cost, asks the judge in both orders with a rubric in the prompt, and reports the win rate, the win rate at equal length, the judge's lean, how often both orders got the same verdict and, once you have voted on the same answers, its kappa with you.
#
# On a larger model, the cell below compares the answers to the 40 open questions of our suite `everyday`. The base model of the two policies may not judge them, because it was never tuned to do that. On `smol` the profile's judge *is* that base, so there the cell needs an `ENDPOINT`. On `tiny` the oracle with both faults judges the answers from above: *mechanism, not capability*.

# %%
from postlab.evals import evaluate, everyday_rows
from postlab.judge import response_quality


def open_answers(stage):
    """A stage's answers to the open questions, from its evaluation if that asked them."""
    stored = frames[stage][frames[stage]["family"] == "open"]
    if len(stored):
        return stored
    stage_policy = load_policy(lab.checkpoint(stage), profile=lab.profile)
    return evaluate(*stage_policy, everyday_rows(families="open"))


quality = None
if not lab.profile.base_model:  # the embedded model has never met such questions
    compared = {"sft": before[once], "dpo": after[once]}
    quality = response_quality(compared, noisy_judge(truth, position_bias=0.3, length_bias=0.3))
elif not ENDPOINT and judge_name == lab.profile.base_model:
    lab.not_here("its judge is the policies' own base; set ENDPOINT to another model's address.")
else:
    compared = {stage: open_answers(stage) for stage in ("sft", "dpo")}
    quality = response_quality(
        compared,
        judge if ENDPOINT else model_judge(policy, tokenizer),
        base=lab.base,
        votes=lab.folder / "votes.jsonl",
        concurrency=4 if ENDPOINT else 1,
    )
quality

# %% [markdown]
# Read the report from the bottom up: trust the rates only as far as the lean and the kappa allow. (On `tiny` the lean comes out as the 0.3 that we put in, and the win rate below the truth, for the reasons above.) Forty prompts show only large differences, as their interval reaches 12 to 15 points to either side. To get a kappa, vote with `arena(compared, path=lab.folder / "votes.jsonl")` as in the next section, and run the cell again.

# %% [markdown]
# ## 7. Your own judgement
#
# The arena shows two answers blind, in random order, and saves each vote at once; it survives a restart of the kernel. Decide *before* you start how many votes you will cast. What they can tell:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.stats import win_rate

for votes_cast in (10, 30, 100, 300):
    found = win_rate([1] * (7 * votes_cast // 10) + [0] * (3 * votes_cast // 10))
    print(f"{votes_cast:>4} votes, 70% for one: {found.low:.2f} to {found.high:.2f}")

# %%
from postlab.show import arena

blind = {"sft": before[once], "dpo": after[once]}
arena(blind, path=lab.folder / "votes.jsonl", seed=0)

# %% [markdown]
# Answers that are the same to the letter count as ties and are not shown. `.result()` gives the win rate. So that this page has one, the oracle votes in your stead, sixty times and into another file:

# %%
import tempfile

ballot = arena(blind, path=tempfile.mkdtemp() + "/votes.jsonl", seed=1)
for _ in range(60):
    if ballot.pair:
        ballot.vote(truth(*ballot.pair))
ballot.result().round(3)

# %% [markdown]
# > **The roadmap says** LIMA's answers reached near-GPT-4 quality. **The evidence says** they were 'equivalent or strictly preferred' to GPT-4's in 43% of cases ([Zhou et al. 2023](https://arxiv.org/abs/2305.11206)), on the paper's own prompts. Every tie is a success there; with ties as halves the rate is lower, and
# > counted the same way for GPT-4 its rate is at least 57%. A win rate without its ties, its number of votes and its judge is not a result.

# %% [markdown]
# ## 8. The written comparison
#
# What you would send round, made from the run folders: after another seed it says what is true then. The section on DPO:

# %%
from IPython.display import Markdown, display

from postlab.report import written_comparison

sections = written_comparison(lab.profile.name).split("\n## ")
display(Markdown("### " + next(part for part in sections if part.startswith("DPO"))))

# %% [markdown]
# ## 9. Would you ship it?
#
# The rule of section 1, which nobody may change any more. A gain must be supported after the correction. A loss must be *excluded*: the interval has to end inside the margin.

# %%
known = changes.set_index("metric")
gain, keep = GAIN, KEEP
if not set(GAIN) <= set(known.index):  # a suite of your own: all that it measures
    gain = tuple(metric for metric in GAIN if metric in known.index)
    keep = tuple(known.index.difference(gain))


def judged(metric):
    """What the rule says of one metric."""
    if metric not in known.index:
        return "not measured here"
    row = known.loc[metric]
    low = row["low"] if METRICS[metric][1] == "up" else -row["high"]  # the worst it may be
    if metric in gain:
        return "gained" if low > 0 and row["adjusted"] < 0.05 else "no gain shown"
    return "no loss that matters" if low > -MARGIN else "a loss is not excluded"


ruling = {metric: judged(metric) for metric in (*gain, *keep)}
passed = {metric: said in ("gained", "no loss that matters") for metric, said in ruling.items()}
decision = pd.DataFrame({"found": ruling, "passed": passed})
decision.join(known[["difference", "low", "high"]].round(3))

# %%
objections = [metric for metric, good in passed.items() if not good]
if not gain:
    lab.not_here("its suite measures neither safety nor honesty, so the rule can only object.")
{"ship DPO": bool(gain) and not objections, "objections": objections}

# %% [markdown]
# Write three sentences of your own first: what you would ship, on what evidence, and what could still prove you wrong. Ours: the rule's answer, for this checkpoint and prompts like these. On `tiny` it rests on an oracle that knows one right wording of a how-to, on unsafe requests of a single kind, on single questions: what a
# patient attacker does in ten turns is in none of these numbers. On the other profiles it rests on programs that are sometimes wrong, and on single questions as well. And of the *recipe* we would claim only what every seed supports.

# %% [markdown]
# ## 10. On a larger model
#
# Nothing is trained here, so `t4` and `rented` add neither hours nor memory to weeks 3 and 5: their answers are read from the run folder (on Colab, set `POSTLAB_RUNS` to a folder on Drive). A machine without a GPU can do that too, if you set `POSTLAB_PROFILE` to the profile that you trained with; otherwise it shows the embedded model. Only the model judge needs the GPU. Its bill, by arithmetic:


# %%
# NBVAL_CHECK_OUTPUT
def judge_bill(pairs, *, tokens, parameters=7e9, flops=30e12, price=0.5):
    """Seconds and dollars for reading each pair in both orders: 2 FLOPs a parameter and token."""
    seconds = 2 * pairs * tokens * 2 * parameters / flops
    return {"minutes": round(seconds / 60, 1), "dollars": round(seconds / 3600 * price, 2)}


{f"{pairs:,} pairs": judge_bill(pairs, tokens=700) for pairs in (200, 1319)}

# %% [markdown]
# The defaults are assumptions: a 7B, half a T4's peak, half a dollar an hour; put in yours. A judge that reasons before it answers writes its tokens one by one and costs many times that. Prompts are cheap; seeds are what costs.

# %% [markdown]
# ## What you have now
#
# A rule from before the data, a test of your own, corrections for many metrics and for a judge's habits, and a decision with its reasons. Keep the order: **rule, power, pairs, correction, seeds, judge, decision.** Week 7 turns to sums, and to rewards that can be verified.

# %% [markdown]
# ### Five interview questions
#
# **1.** A new model is 1.5 points better on 500 prompts, p = 0.04. Ship it?
#
# <details><summary>Answer</summary>
#
# Was the test planned, how many metrics and checkpoints were looked at, what could 500 prompts find? If power was low the 1.5 are exaggerated. Replicate on fresh prompts and another seed; see what it costs elsewhere.
#
# </details>
#
# **2.** Two models' 95% intervals overlap. Are they equal?
#
# <details><summary>Answer</summary>
#
# That compares unpaired scores. On the same prompts, test the differences: they may differ clearly although the bars overlap. And 'not different' needs an interval inside a margin.
#
# </details>
#
# **3.** System design: an LLM judge compares checkpoints every night. What do you build?
#
# <details><summary>Answer</summary>
#
# Fixed prompts, both orders, lengths logged, raw and length-controlled rates; a calibration set with people's votes and kappa on every change of judge or prompt; answers quoted; another judge than the one training used; alarms on lean and tie rate; paired intervals, corrected for the number
# of checkpoints.
#
# </details>
#
# **4.** Your judge's win rate rose from 52% to 61% after DPO. Three explanations other than quality?
#
# <details><summary>Answer</summary>
#
# Longer answers; a format the judge likes, or its own style, perhaps taught by its own votes; a fixed order. Also ties counted otherwise, or easier prompts. Swap, control length, check against people.
#
# </details>
#
# **5.** Research taste: money for 3,000 evaluated answers. One run on 3,000 prompts, or ten seeds on 300?
#
# <details><summary>Answer</summary>
#
# Depends on the claim. A checkpoint: prompts. A method: seeds, as soon as their spread is the larger, and training is then the real cost. Estimate both from a pilot; the variance of the mean is $\sigma^2_\text{seed}/k + \sigma^2_\text{prompt}/(kn)$ with fresh prompts for each run.
#
# </details>

# %% [markdown]
# **Papers.** Miller 2024, *Adding Error Bars to Evals* ([2411.00640](https://arxiv.org/abs/2411.00640)): pairing, clusters, power, in ten pages. Card et al. 2020 (2010.06595): what underpowered means in NLP. Bouthillier et al. 2021 (2103.03098): all sources of variance. Zheng et al. 2023, *MT-Bench* (2306.05685): section 3,
# the judges' biases. Dubois et al. 2024 (2404.04475): length control, and its limits.
