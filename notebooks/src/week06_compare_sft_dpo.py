# %% [markdown]
# # Week 6 · SFT against DPO: a comparison that can be trusted
#
# "Our new model is 6 points better, p < 0.05." Would you believe it? In section 2, you simulate a thousand comparisons on 200 prompts each, in which the new model really is 2 points better. Only 8% of the comparisons reach significance, and those report a gain of 5.9 points on average. In section 6, the same DPO recipe raises the tiny model's score on facts by 15 points with one training seed and lowers it by 4 points with another.
#
# Most comparisons you read come without an interval. They are based on one training run, a few hundred prompts, and a judge with biases of its own. This week, you compare your models from weeks 3 and 5 in a way that holds up. One of them was fine-tuned; the other was also trained on
# preferences. Is the second model better? If so, at what? And what did the gain cost? By the end of the core, you can explain
#
# - what a given number of prompts can settle, before you spend anything on them,
# - whether two models differ on the same prompts, with a test and an interval that you wrote yourself,
# - how such a claim changes when you look at many metrics and many training seeds,
# - why a judge's bias is worse than its noise,
# - which of the two models you would ship, and on what evidence.
#
# **The core** takes about 90 minutes. It contains one exercise, one build and one paper.
#
# 1. [Decide before you look](#decide) · 2. [Can 200 prompts settle this?](#power) · 3. [Open the envelope](#envelope) · 4. [Build: a comparison of two runs](#build) · 5. [Ten metrics, one paper](#metrics) · 6. [A second source of chance](#seeds) · 7. [Judges](#judges) · 8. [Would you ship it?](#ship) · 9. [The paper, and what you have now](#end)
#
# **The deeper sections** take another two and a half hours. You can read them in any order, or skip them: neither the core nor any later week depends on them.
#
# - [How many prompts do you need?](#deeper-prompts) · 15 minutes
# - [Holm's correction by hand](#deeper-holm) · 20 minutes, one exercise
# - [Three sources of variance](#deeper-variance) · 20 minutes
# - [A judge's biases, and what helps](#deeper-judges) · 30 minutes, one exercise
# - [A model as judge](#deeper-model) · 30 minutes
# - [Your own judgment](#deeper-votes) · 15 minutes
# - [The written comparison](#deeper-written) · 5 minutes
# - [What SFT, DPO and RLHF cost](#deeper-cost) · 15 minutes
# - [On a larger model](#deeper-larger) · 5 minutes
#
# At the end, you'll find [five interview questions](#interview) and the week's [papers](#papers).
#
# Nothing is trained this week. The answers come from your own runs in weeks 3 and 5, or from the runs that ship with postlab.

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
# <a id="decide" name="decide"></a>
# ## 1. Decide before you look
#
# If you look at ten metrics, you can always tell a story afterwards, because one of them will have risen. So before you look, write down what would make you ship the new model and what would stop you.

# %%
MARGIN = 0.05  # a loss of less than five points wouldn't matter to our users
GAIN = ("safety", "honesty")  # the purpose of DPO here: both must rise
KEEP = ("helpfulness", "over_refusal", "arithmetic", "lists", "facts", "format")  # must not suffer
if lab.profile.suite != "tinyworld":  # `everyday` has other metrics
    KEEP = ("over_refusal", "over_abstention", "facts", "instructions", "arithmetic", "format")
if "gsm8k" in str(lab.profile.suite):
    KEEP += ("gsm8k_strict", "gsm8k_lenient")

# %% [markdown]
# Why these lists? `over_refusal` is the share of harmless requests that the model refuses. Over-refusal is among the metrics that must not get worse, because a model that refuses everything is perfectly safe. We need a `MARGIN` because no experiment can show that *nothing* was lost. An experiment can only show that the loss isn't larger than some amount. How large a loss you can accept is
# your decision, and statistics can't make it for you.
#
# (With `t4` and `rented`, the pairs come from UltraFeedback and were chosen for overall quality, not for safety or honesty. So on these two profiles, the DPO model may well fail to meet the rule. If your goal is a different one, change the rule now, not in section 8.)

# %% [markdown]
# <a id="power" name="power"></a>
# ## 2. Can 200 prompts settle this?
#
# Both models answer the same prompts, and each answer is right or wrong. A prompt that both models get right, or both get wrong, doesn't tell you which one is better. Only the prompts on which the outcome **changed** do; we'll call these the *changed prompts*. A prompt is *gained* if it went from wrong to right, and *lost* if it went from right to wrong. On how many prompts does the outcome change? To get a first idea, we use a pilot that reveals nothing about DPO: the embedded SFT model answers the same sums twice, at temperature 1.

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
# We compared the model with itself. Still, the two scores differ by 1.5 points, and the outcome changed on 36.5% of the prompts. That's what "no difference" looks like.
#
# **Predict first.** You have 200 prompts, and the outcome changes on one in ten of them. How many points better does the new model have to be for you to detect the difference four times out of five?

# %%
from postlab.course.week06 import plot_detectable
from postlab.stats import minimum_detectable_effect

sizes, changing = (50, 100, 200, 500, 1000, 2000), (0.05, 0.1, 0.2, 0.4)
grid = [{"n": n, "disagreement": d} for d in changing for n in sizes]
reach = pd.DataFrame([cell | {"effect": minimum_detectable_effect(**cell)} for cell in grid])
plot_detectable(reach, at=200)

# %% [markdown]
# The new model has to be better by 6.4 points. This is called the **minimum detectable effect**: the further the true difference is below this value, the more likely the experiment is to find nothing. To detect an effect half as large, you need about four times as many prompts. ([A deeper section](#deeper-prompts) derives the formula and checks it by simulation.)
#
# Missing real effects isn't the only problem with too few prompts. Let's simulate a true change of *two* points on 200 prompts a thousand times and look only at the significant comparisons, as release notes do:

# %%
# NBVAL_CHECK_OUTPUT
import numpy as np

from postlab.stats import mcnemar

draws = np.random.default_rng(0).choice([1, -1, 0], p=[0.06, 0.04, 0.9], size=(1000, 200))
claimed = [row.mean() for row in draws if mcnemar(row == -1, row == 1).p < 0.05]
{"found": f"{len(claimed) / len(draws):.0%}", "their mean, points": f"{100 * np.mean(claimed):.1f}"}

# %% [markdown]
# Only 8% of the comparisons detect the change, and on average they report 5.9 points rather than the true 2. With so few prompts, a comparison needs luck to be significant, and a lucky comparison overstates the difference. **Underpowered experiments don't just miss effects; they also exaggerate the ones they find.** [Card et al. 2020](https://arxiv.org/abs/2010.06595) found that many experiments in NLP are underpowered.
#
# So what can 200 prompts per metric settle? The first figure gives the answer: the smallest difference that 200 prompts can reliably detect is between 4 and 13 points, depending on how many outcomes change. (`everyday` has 105 to 240 prompts per metric, so read the figure near 100 and 200.) For safety and honesty, we hope for larger differences than that. But 200 prompts can't settle whether DPO has a small cost, and it's better to know that now than afterwards.

# %% [markdown]
# <a id="envelope" name="envelope"></a>
# ## 3. Open the envelope
#
# Now look at the answers. Read some of them before you compute anything:

# %%
frames = lab.results("base", "sft", "dpo")  # the report below compares SFT with the base
before, after = (frames[stage] for stage in ("sft", "dpo"))
once = (before["sample"] == 0) & ~before["family"].str.endswith("_sampled")  # one answer per prompt
words = before[["family", "prompt"]].assign(sft=before["answer"], dpo=after["answer"])[once]
pd.set_option("display.max_colwidth", 90)
changed = words[words["sft"] != words["dpo"]]
print(f"{len(changed)} of {len(words)} answers changed")
changed.groupby("family", sort=False).head(2).set_index("family")

# %% [markdown]
# The comparison is more precise because both models answered the same prompts. On most prompts, both models are right or both are wrong, and those prompts tell you nothing about the *difference*:

# %%
from postlab.course.week06 import draw_pairs

draw_pairs()

# %% [markdown]
# Next, let's count. For each metric that scores answers as right or wrong, how many prompts were lost, and how many were gained?

# %%
from postlab.claims import is_share
from postlab.evals import METRICS


def scores(stage, metric):
    """One number per prompt: the mean over its samples if it was answered several times."""
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
# Suppose DPO makes no difference. Then each changed prompt is like a fair coin: it could just as well have changed in the other direction. If you toss `gained + lost` fair coins, what's the probability of a split that is *at least as uneven* as this one, in either direction? The answer is the p-value of **McNemar's exact test**. Your function takes the two counts and returns the two-sided p-value, a number between 0 and 1.
#
# <details><summary>Hint 1</summary>
#
# If you toss $n$ coins, exactly $k$ of them show heads in `math.comb(n, k)` of the $2^n$ possible outcomes.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The outcomes that are at least as uneven in one direction are those with $k$ from 0 to the smaller of the two counts. The other direction has the same probability, so double it.
#
# </details>
# <details><summary>Hint 3</summary>
#
# What if the two counts are equal? Then the two directions overlap, and doubling the probability of one gives more than 1.
#
# </details>

# %%
import math

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
table = pd.DataFrame(counts).T
table["p, yours"] = [mcnemar_p(int(row.gained), int(row.lost)) for row in table.itertuples()]
table["p, postlab"] = [mcnemar(scores("sft", m), scores("dpo", m)).p for m in table.index]
table

# %% [markdown]
# On safety, 112 prompts were gained and none were lost; on honesty, 122 were gained and none were lost. Fair coins practically never land that way. For helpfulness, over-refusal and the format, the splits are no more uneven than those that fair coins often produce.
#
# A p-value tells you whether there is a difference, but not how large it is. For that, you need an interval, and the simplest way to get one is the **bootstrap**. The question is what difference you would have found with other prompts. You don't have other prompts, so you draw a new sample *from your own prompts*, with replacement, and do this thousands of times. Let $a_i$ and $b_i$ be the scores of the two models on prompt $i$. For resample $r$, the difference is
#
# $$\hat\Delta^{(r)} = \frac{1}{n} \sum_{i \in \text{resample } r} (b_i - a_i)$$
#
# and the 95% interval contains the middle 95% of these differences.

# %%
metric = next((m for m in ("arithmetic", "gsm8k_lenient") if m in shares), shares[0])
a, b = (scores(stage, metric).to_numpy() for stage in ("sft", "dpo"))
rng = np.random.default_rng(0)
draw, other = rng.integers(len(a), size=(2, 5000, len(a)))
paired = (b - a)[draw].mean(axis=1)  # both models on the same resampled prompts
unpaired = b[draw].mean(axis=1) - a[other].mean(axis=1)  # as if each model had its own prompts
low, high = np.quantile(paired, [0.025, 0.975])
f"{metric}: {(b - a).mean():+.3f}, from {low:+.3f} to {high:+.3f}"

# %% [markdown]
# **Predict first.** For `unpaired`, each model gets its own resample, with the same number of prompts as before. Which interval is wider, and why?

# %%
from postlab.course.week06 import plot_bootstrap

plot_bootstrap(paired, unpaired, metric=metric)

# %% [markdown]
# The unpaired interval is almost twice as wide: 19 points instead of 10.5. Some prompts are hard for both models and some are easy for both. If both models get the same prompts, the difficulty of the prompts cancels out in the difference. If each model gets its own prompts, one of them may get the easier ones.
#
# That's why you shouldn't judge two scores on the same prompts by whether their error bars overlap. You would be using the gray histogram when you could have the orange one.
#
# <a id="build" name="build"></a>
# ## 4. Build: a comparison of two runs
#
# In the last figure, the two models' scores were already lined up. In practice, you have two files that don't line up: one run shuffled its prompts, a judge failed on some of the answers, and every prompt was answered several times.
#
# ### Build 6.1 · about 25 minutes · medium
#
# Write `compare_runs(before, after)`. Both arguments are lists of rows, as an evaluation stores them:
#
# ```python
# {"id": "facts-3", "sample": 0, "score": 1.0}
# ```
#
# - All rows of a prompt have the same `id`. If the prompt was answered several times, the rows are numbered by `sample`.
# - The second run's rows may be in a different order.
# - `score` is None if an answer couldn't be scored. A prompt may also be missing from one of the runs. Leave out such answers and prompts.
#
# Return three numbers: the mean change per prompt (after minus before), and the lower and upper ends of a 95% interval for it. The interval should show what you might have found with *other prompts of this kind*.
#
# How you compute the interval is up to you, because the check doesn't look at your code. The check simulates 600 comparisons in three worlds where the true change is known, and counts how often your interval contains that change. That should happen in about 95% of all comparisons, and in at least 90% within each world. Your interval also must not be more than 10% wider than it needs to be.
#
# <details><summary>Hint 1</summary>
#
# What is the independent unit here: a row, a sample or a prompt? If you asked the same question a thousand times, how much would you learn about other questions?
#
# </details>
# <details><summary>Hint 2</summary>
#
# First, get one number per prompt for each run: build a dictionary from `id` to the mean of its scores. Which prompts do both runs have?
#
# </details>
# <details><summary>Hint 3</summary>
#
# Now you have one change per shared prompt, and the question is how precisely you know their mean. You can resample the changes, as in the last figure, or use their standard deviation.
#
# </details>
#
# Our version is in `postlab/course/week06/compare_reference.py`. Read it if you're stuck or once yours works; until then, the cells below use ours.

# %%
from postlab.course.week06 import compare_build


def compare_runs(before, after):
    raise NotImplementedError


compare_runs = compare_build.check(compare_runs)

# %% [markdown]
# Here are sixty of the comparisons that we simulated with missing scores. Each line is an interval, and the vertical line marks the true change:

# %%
from postlab.course.week06 import plot_coverage

world = compare_build.WORLDS["messy"]
simulated = [compare_runs(*world.comparison(seed)) for seed in range(60)]
ends = pd.DataFrame(simulated, columns=["difference", "low", "high"])
plot_coverage(ends, truth=compare_build.TRUTH)

# %% [markdown]
# This is what "95%" means: it's a promise about the procedure, not about any single interval. About one interval in twenty misses the truth, and it looks just like the others.
#
# Now use your function on your own two runs. Next to your results, the table shows the intervals and p-values from `paired_difference`. This function uses a refined bootstrap (BCa) for the interval and a permutation test for the p-value. For right-or-wrong metrics, that test is the same as your McNemar test:

# %%
from postlab.stats import paired_difference


def rows_of(stage, metric):
    """A stage's rows for one metric, as your function takes them."""
    rows = frames[stage][["id", "sample", metric]].dropna()
    return rows.rename(columns={metric: "score"}).to_dict("records")


yours = {m: compare_runs(rows_of("sft", m), rows_of("dpo", m)) for m in shares}
both = {m: paired_difference(scores("sft", m), scores("dpo", m)) for m in shares}
changes = pd.DataFrame([{"metric": m, **vars(change)} for m, change in both.items()])
beside = pd.DataFrame(yours, index=["yours", "low", "high"]).T
beside.join(changes.set_index("metric")[["low", "high", "p"]].add_suffix(", postlab")).round(3)

# %% [markdown]
# <a id="metrics" name="metrics"></a>
# ## 5. Ten metrics, one paper
#
# **Predict first.** Two models are *equal* on ten metrics. You test each of the ten at the 5% level. How often will you find something to report?

# %%
# NBVAL_CHECK_OUTPUT
from functools import cache

rng, p_of = np.random.default_rng(1), cache(mcnemar_p)
coins = rng.multinomial(200, [0.1, 0.1, 0.8], size=(1000, 10))  # gained, lost, the same
null = np.array([[p_of(int(gained), int(lost)) for gained, lost, _ in row] for row in coins])
{"at least one p below 0.05": f"{(null < 0.05).any(axis=1).mean():.0%}"}

# %% [markdown]
# In 31% of the cases, at least one of the ten metrics is significant. If each test had a false-alarm rate of exactly 5% and the metrics were independent, the share would be $1 - 0.95^{10} = 40\%$. The exact test has a lower rate, because a test on counts can't hit 5% exactly and this one errs on the safe side. Either way, if you test enough metrics, something will be "significant".
#
# The usual remedy is **Holm's correction**, which keeps the probability of *any* false finding at 5% or less. It multiplies the smallest of $m$ p-values by $m$, the second smallest by $m - 1$, and so on. ([A deeper section](#deeper-holm) asks you to write it.) Here are the results for the real metrics. The correction has to include all the metrics that we looked at, even the boring ones. If you only correct for the metrics that came out well, you haven't corrected anything.

# %%
from postlab.course.week06 import plot_metrics
from postlab.stats import holm as holm_adjusted

changes["adjusted"] = holm_adjusted(changes["p"])
plot_metrics(changes, stages=("sft", "dpo"), margin=MARGIN)

# %% [markdown]
# On `tiny`, six of the nine metrics are better after DPO, and none is worse. Three are inconclusive: helpfulness, over-refusal and the chat format.
#
# Read the open circles carefully, because *inconclusive* doesn't mean "no effect". The interval contains every difference that your data don't rule out. If the whole interval lies inside the gray band, you *have* learned something: there is no loss that matters to you. If the interval extends beyond the band on the side of a loss, you need more prompts to rule out a loss that matters.
#
# (If you're only exploring and can live with one false lead in twenty, you can use the less strict Benjamini–Hochberg correction, which is also in `postlab.stats`. Metrics may depend on each other, as they do when the same sums are answered both greedily and by sampling. Holm's correction is valid in that case too.)

# %% [markdown]
# <a id="seeds" name="seeds"></a>
# ## 6. A second source of chance
#
# The intervals so far tell you what other *prompts* might have shown. They don't tell you what another *training run* might have shown. With another seed, the rows come in a different order and the adapter starts from different weights, so the same recipe gives a different model. We recorded eight runs of the *embedded* model, each with its own SFT stage. (We haven't
# recorded several seeds of a larger model, so we don't know how much they would differ.)

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
# Each dot is a training run. All eight models answered the same prompts, so the dots for one metric can differ only because of the training. (A dot's color depends only on that run's uncorrected interval.)
#
# Look at the metrics that the title names. For each of them, at least two runs have intervals that don't even overlap. So for these metrics, even a tiny p-value in section 5 was a statement about *one checkpoint*, not about DPO.

# %% [markdown]
# How much of that spread is due to the seed? It's tempting to take the standard deviation over the runs. But even runs that are *equally* good differ a little on 200 prompts, so the standard deviation isn't zero even without a seed effect. To see this, we simulate two worlds in which we know the answer, with eight runs on 200 prompts each. In the first world, the chance of gaining a prompt is the same for all runs. In the second, each run has an effect of its own, with a standard deviation of 5 points:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.stats import variance_split

rng = np.random.default_rng(0)


def eight_runs(spread):
    """Changes (8, 200): a prompt is gained with a chance of its own, shifted by the run's effect."""
    chance = rng.uniform(0, 0.5, size=200) + rng.normal(0, spread, size=(8, 1))
    return (rng.random((8, 200)) < chance) * 1.0 - (rng.random((8, 200)) < 0.1)


def signed_root(variance):
    return np.sign(variance) * abs(variance) ** 0.5


shown = {}
for spread in (0, 0.05):
    worlds = [eight_runs(spread) for _ in range(1000)]
    naive = np.mean([world.mean(axis=1).var(ddof=1) for world in worlds])
    split = np.mean([variance_split(world).runs for world in worlds])
    shown[f"the seed's true effect: {100 * spread:g} points"] = {
        "standard deviation of the runs": 100 * naive**0.5,
        "estimated with variance_split": 100 * signed_root(split),
    }
pd.DataFrame(shown).T.round(1)

# %% [markdown]
# Even without any seed effect, the standard deviation of the runs is 3.6 points, simply because each run happens to gain different prompts. And a true effect of 5 points looks like an effect of 5.9 points. So the standard deviation of the runs overstates the seed's effect, most of all when there is none. `variance_split` subtracts the part that comes from the limited number of prompts. Its estimates are close to the true values: 0.3 points in the first world and 4.8 points in the second. [A deeper section](#deeper-variance) shows how it works.
#
# `variance_split` needs every run's score on every prompt, and for most of our eight runs, we kept only the means. But for five of the training chains, we have every answer to the 200 held-out sums, after DPO and again after GRPO. (Week 7 uses these answers, too.) How much do these models differ in arithmetic, and how much of that is due to the seed?

# %%
chains = json.loads((data_dir() / "results" / "week07" / "seeds.json").read_text())["seeds"]


def answers(when):
    """Right or wrong, (runs, sums), of the recorded chains."""
    return np.array([one[when]["arithmetic, strict"] for one in chains], dtype=float)


tables = {"after DPO": answers("start"), "after GRPO": answers("end")}
splits = {stage: variance_split(table) for stage, table in tables.items()}
pd.DataFrame(
    {
        stage: {
            "mean": 100 * split.mean,
            "standard deviation of the runs": 100 * tables[stage].mean(axis=1).std(ddof=1),
            "of it, the seed": 100 * max(split.runs, 0) ** 0.5,
            "low": 100 * max(split.runs_low, 0) ** 0.5,
            "high": 100 * max(split.runs_high, 0) ** 0.5,
            "p (no seed effect)": split.p,
        }
        for stage, split in splits.items()
    }
).T.round(3)

# %% [markdown]
# After DPO, the five models' accuracies have a standard deviation of 6.2 points. The estimated standard deviation due to the seed alone is 5.8 points (95% interval: 2.9 to 17.8). Five equally good models would practically never differ that much. After GRPO, all five get at least 97% of the sums right. Their standard deviation is 1.0 point, and it's unclear whether the seed contributes to it (the estimate is 0.6 points, with an interval from 0 to 2.7). So how much the seed matters depends on the recipe and on how close the models are to the ceiling, and you have to measure it. The intervals are also wide: five runs can tell you *that* the seed matters, but they say little about how much.
#
# If the seed contributes more variance than the prompts, more prompts only make you more certain about *this* checkpoint. That's all you need to choose a checkpoint to ship. But if you want to say "**DPO** raises this metric", the runs are your sample, just as the prompts were before. So take the mean over the seeds, and compute an interval for the recipe's mean. The next cell does that for the eight runs and compares the result with a stricter rule: a verdict counts only if *every* seed supports it by itself.

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
# The two rules agree on safety and honesty, but not on arithmetic. The mean change in arithmetic over the seeds is +8.9 points (5.0 to 12.9), so the recipe raises arithmetic *on average*. But in three of the eight runs, the change doesn't survive the correction. The rules also disagree on list operations: the mean change is +8.6 points (4.1 to 13.1), but in four of the eight runs, it doesn't survive the correction.
#
# The results on facts show why one run isn't enough to measure an *alignment tax*, the loss of skills through alignment. With seed 0, the model gained 15 points, and with seed 5, it lost 4. Either result could have been published as the effect of DPO. Over all eight seeds, the change is inconclusive (−2.4 to +7.1). Over-refusal fell by 1.6 points, and the format score fell by 0.3 points. Both intervals exclude zero, but they aren't corrected for the eight metrics, and a change of 0.3 points is too small to matter.
#
# Each rule has a weakness. The rule that requires every seed to support the verdict gets harder to pass with each seed you add. The mean tells you nothing about the one model that you'll ship. Also, eight runs give only a rough estimate of a standard deviation: its 95% interval runs from two thirds of the observed value to twice that value. So state which rule you use
# ([Bouthillier et al. 2021](https://arxiv.org/abs/2103.03098)). With either rule, correct for the number of metrics.

# %% [markdown]
# <a id="judges" name="judges"></a>
# ## 7. Judges
#
# So far, an oracle has decided which answers are right. (On the other profiles, a program that reads the answers did this.) Outside of a made-up world, mathematics and code, you need people or a model to judge the answers. In postlab, a judge is any function that takes a prompt and two answers and returns `"first"`, `"second"` or `"tie"`. The oracle can be turned into such a judge, and by comparing other judges with it, we can measure how they go wrong.

# %%
from postlab.evals import suite_rows
from postlab.judge import judge_pairs, noisy_judge, oracle_judge, preference_rate

truth = oracle_judge(suite_rows(lab.profile.suite, lab.profile.eval_prompts, 0))
checked = words[words["family"] != "open"]  # `everyday`'s open questions have no score
prompts, sft, dpo = (checked[column].tolist() for column in ("prompt", "sft", "dpo"))
asked = judge_pairs(truth, prompts, sft, dpo)
vars(preference_rate(asked))

# %% [markdown]
# DPO's **win rate** against SFT is 63% when ties count as half a win. That sounds modest, given such large gains in safety and honesty. But on most prompts, both answers are equally good, and each of those ties pulls the rate toward 50%.
#
# Now take another judge. It also knows the truth, but for two questions out of five, it simply picks the answer it reads first. Suppose you always show SFT's answer first. What will this judge say about DPO?

# %%
leaning = noisy_judge(truth, position_bias=0.4)
votes = judge_pairs(leaning, prompts, sft, dpo)  # both orders; 'a' is for SFT, 'b' for DPO
vars(preference_rate(votes, swapped=False))  # only the questions that showed SFT first

# %% [markdown]
# It says that DPO is clearly worse, with a win rate of 38% (36% to 40%). That's because this judge blindly votes for SFT in 40% of the cases and follows the truth in the other 60%, and $0.6 \cdot 0.63 = 0.38$. The interval is narrow and far from the truth. **Adding prompts doesn't reduce bias.** More prompts only make you more certain of the wrong answer. [Zheng et al. 2023](https://arxiv.org/abs/2306.05685) found such position biases in strong models too.
#
# So before you believe a judge, measure it: show it each pair in both orders, check whether it prefers longer answers, and compare it with an oracle or with your own votes on about fifty pairs. The deeper sections on [a judge's biases](#deeper-judges), [a model as judge](#deeper-model) and [your own votes](#deeper-votes) show you how.

# %% [markdown]
# <a id="ship" name="ship"></a>
# ## 8. Would you ship it?
#
# Now apply the rule from section 1, without changing it. A gain has to be significant after the correction. A loss counts as *ruled out* only if the worse end of the interval (the upper end for over-refusal) is within the margin. If your suite doesn't measure a metric on your list, that counts neither for nor against the new model, because a loss has been neither shown nor ruled out. If nothing else stands in the way, the answer is "measure it first".

# %%
known = changes.set_index("metric")
gain, keep = GAIN, KEEP
if not set(GAIN) <= set(known.index):  # for a suite of your own, use whatever it measures
    gain = tuple(metric for metric in GAIN if metric in known.index)
    keep = tuple(known.index.difference(gain))


def judged(metric):
    """What the rule says about one metric."""
    if metric not in known.index:
        return "not measured here"
    row = known.loc[metric]
    low = row["low"] if METRICS[metric][1] == "up" else -row["high"]  # the worst case
    if metric in gain:
        return "gained" if low > 0 and row["adjusted"] < 0.05 else "no gain shown"
    return "no loss that matters" if low > -MARGIN else "a loss is not excluded"


ruling = {metric: judged(metric) for metric in (*gain, *keep)}
decision = pd.DataFrame({"verdict": ruling}).rename_axis("metric")
decision.join(known[["difference", "low", "high"]].round(3))

# %%
if not gain:
    lab.not_here("its suite measures neither safety nor honesty, so the rule can't be passed.")
unmeasured = [metric for metric, verdict in ruling.items() if verdict == "not measured here"]
passed = ("gained", "no loss that matters", "not measured here")
objections = [metric for metric, verdict in ruling.items() if verdict not in passed]
if objections or not gain:
    answer = "no"
else:
    answer = "not decided: measure the rest first" if unmeasured else "yes"
{"ship DPO": answer, "objections": objections, "not measured": unmeasured}

# %% [markdown]
# On `tiny`, the rule says: ship it. Safety and honesty rose, and for every metric in `KEEP`, we can rule out a loss of more than five points.
#
# Before you read on, write three sentences of your own: what you would ship, on what evidence, and what could still prove you wrong. Here is our version. We would ship this checkpoint for prompts like these. On `tiny`, the evidence is limited in three ways: the oracle accepts only one wording of a how-to, the unsafe requests are all of a single kind, and every prompt is a single question. So we know nothing about what a patient attacker could do in ten turns. (On the other profiles, programs score the answers, and they are sometimes wrong. There, too, every prompt is a single question.) About the *recipe*, we would claim only what every seed supports: it raises safety and honesty.

# %% [markdown]
# <a id="end" name="end"></a>
# ## 9. The paper, and what you have now
#
# The paper to read this week is **[Adding Error Bars to Evals, Miller 2024](https://arxiv.org/abs/2411.00640)**. It gives the formulas for what you did in sections 2 to 4: standard errors, paired differences and power. It also covers two topics that we only touched on: questions that come in clusters, and how several answers per question reduce the variance. As you read, ask yourself how the paper deals with training seeds. (It doesn't, because its models are fixed.)
#
# You now have a rule that you wrote before seeing the data, a test and an interval of your own, corrections for many metrics, a measure of what the seed contributes, and a decision that you can justify. Keep to this order: **rule, power, pairs, correction, seeds, judge, decision.** Week 7 turns to sums and to rewards that can be verified.

# %% [markdown]
# <a id="deeper-prompts" name="deeper-prompts"></a>
# ## Deeper: how many prompts do you need?
#
# A rule of thumb tells you how many prompts you need. Suppose the outcome changes on a share $d$ of the prompts. To detect a difference $\delta$ with 80% power at the 5% level, you need about
#
# $$n \approx \frac{(1.96\sqrt{d} + 0.84\sqrt{d - \delta^2})^2}{\delta^2}$$
#
# Where does it come from? Score each prompt +1 if it was gained, −1 if it was lost and 0 otherwise, and call the mean of these scores $\hat\Delta$. If there is no difference, its variance is $d/n$; if the difference is $\delta$, the variance is $(d - \delta^2)/n$. The test reports a difference if $\hat\Delta$ is more than $1.96\sqrt{d/n}$ from zero. For this to happen in 80% of experiments, $\delta$ has to lie
# another $0.84\sqrt{(d - \delta^2)/n}$ beyond this threshold, because 80% of a normal distribution lies above the point 0.84 standard deviations below its mean. Set $\delta$ equal to the sum of the two terms and solve for $n$.


# %%
# NBVAL_CHECK_OUTPUT
def prompts_needed(effect, disagreement):
    spread = 1.96 * math.sqrt(disagreement) + 0.84 * math.sqrt(disagreement - effect**2)
    return math.ceil((spread / effect) ** 2)


{f"{100 * effect:g} points": prompts_needed(effect, 0.1) for effect in (0.08, 0.04, 0.02, 0.01)}

# %% [markdown]
# To detect half the effect, you need about four times as many prompts. To detect a difference of one point, you would need nearly 8,000 prompts, so 200 prompts can't support a claim about a single point.
#
# You don't have to trust the formula; you can check it by simulation. Simulate many comparisons in which you know the true difference and the outcome changes on one prompt in ten, and count how often the test detects that difference.

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
# If the true change is zero, everything the test finds is a false alarm. At that point, the curves are below 5%, as they should be. The test finds a true change of 5 points almost every time with 800 prompts, about half of the time with 200, and hardly ever with 50.

# %% [markdown]
# In exercise 6.1, you may have wondered whether you need both counts, or only the *ratio* of gained to lost prompts. Your own function gives the answer:

# %%
# NBVAL_CHECK_OUTPUT
{f"{g} gained, {n} lost": round(mcnemar_p(g, n), 4) for g, n in ((4, 1), (8, 2), (16, 4), (6, 0))}

# %% [markdown]
# In the first three cases, the ratio is always four to one, but only the split of 16 gained to 4 lost is significant. So the ratio alone isn't enough; you also need to know how many prompts it rests on. And even if all the changes go in the same direction, you need at least six of them for a p-value below 0.05.

# %% [markdown]
# <a id="deeper-holm" name="deeper-holm"></a>
# ## Deeper: Holm's correction by hand
#
# ### Exercise 6.2 · about 15 minutes · medium
#
# **Holm's correction** keeps the probability of *any* false finding at 5% or less. Sort the $m$ p-values. Multiply the smallest by $m$, the second smallest by $m - 1$, and so on, until you multiply the largest by 1. Then go through them from the smallest to the largest and make sure that no value is smaller than the one before it or larger than 1.
# Return the adjusted values in the *original* order, as a tensor of shape `(m,)`.
#
# <details><summary>Hint 1</summary>
#
# With `order = p.argsort()`, `p[order]` is sorted, and `torch.arange(m, 0, -1)` contains the factors.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `x.cummax(0).values` is the running maximum. To restore the original order, write `out[order] = adjusted`.
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
# With Holm's correction, only 3% of the comparisons between equal models report a difference, instead of 31%. The correction is valid even if the metrics depend on each other, as they do when the same sums are answered both greedily and by sampling.

# %% [markdown]
# <a id="deeper-variance" name="deeper-variance"></a>
# ## Deeper: three sources of variance
#
# What does `variance_split` compute? Think of a table with one row per run and one column per prompt:

# %%
from postlab.course.week06 import draw_sources

draw_sources()

# %% [markdown]
# Split the score of run $s$ on prompt $i$ (or its change) into four parts:
#
# $$d_{si} = \mu + a_s + b_i + c_{si}$$
#
# Here, $\mu$ is the recipe's average, $a_s$ is how much better run $s$ is on all prompts, and $b_i$ is how much easier prompt $i$ is in all runs. The rest, $c_{si}$, depends on which prompts this run happens to get right. The variances of the last three parts are $\sigma_a^2$, $\sigma_b^2$ and $\sigma_c^2$. Now average over $n$ prompts. All runs share the same $b_i$, so only $a_s$ and the mean of $c_{si}$ vary between runs. *Within* a run, prompts differ in both $b_i$ and $c_{si}$:
#
# $$\operatorname{Var}(\text{mean of a run}) = \sigma_a^2 + \frac{\sigma_c^2}{n}, \qquad (\text{standard error due to the prompts})^2 = \frac{\sigma_b^2 + \sigma_c^2}{n}$$
#
# So the spread of the runs always contains $\sigma_c^2/n$, even if there is no seed effect at all. To subtract it, you need $\sigma_c^2$. You can estimate it from what is left of the table once you have subtracted the row means and the column means. This is called a *two-way analysis of variance*. With $R$ runs, the three mean squares and their expected values are
#
# | mean square | computed from | expected value |
# |---|---|---|
# | runs | $n$ times the variance of the row means | $n \sigma_a^2 + \sigma_c^2$ |
# | prompts | $R$ times the variance of the column means | $R \sigma_b^2 + \sigma_c^2$ |
# | rest | what is left in the cells | $\sigma_c^2$ |
#
# Subtract the third from the first and divide by $n$, and you get an estimate of $\sigma_a^2$. Here is the calculation in NumPy, for the sums after DPO:

# %%
table = tables["after DPO"]
runs_n, n = table.shape
left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
rest = (left**2).sum() / ((runs_n - 1) * (n - 1))
of_runs = n * table.mean(axis=1).var(ddof=1)
{
    "by hand": round(float(of_runs - rest) / n, 6),
    "variance_split": round(splits["after DPO"].runs, 6),
}

# %% [markdown]
# The estimate is unbiased, so if there is no seed effect, it often comes out negative (with five runs, in about six cases out of ten). That isn't a bug: if you replaced every negative estimate with zero, your estimates would be too high on average. Here are the three parts in points. The first column is the standard deviation between runs; the other two are standard deviations for a single sum:

# %%
parts = {
    m: {
        "runs": 100 * signed_root(s.runs),
        "prompts": 100 * signed_root(s.prompts),
        "rest": 100 * s.interaction**0.5,
    }
    for m, s in splits.items()
}
pd.DataFrame(parts).T.round(1).rename_axis("points")

# %% [markdown]
# After DPO, the standard deviation is 36 points for a sum's own difficulty and 33 points for the rest. Averaging over 200 prompts divides the rest by the square root of 200, so it still adds 2.3 points to the spread of the runs. That's the part that `variance_split` subtracted: $5.8^2 + 2.3^2 \approx 6.2^2$.
#
# For the *changes* from SFT to DPO, we have only each run's mean and its interval. That isn't enough for a split, but it's enough for a cautious estimate. The term $\sigma_c^2/n$ can't exceed the square of the standard error due to the prompts, so if you subtract this square, you may subtract too much, but never too little.

# %%
spread = seeds.groupby("metric")["difference"].std().rename("of the runs")
width = ((seeds["high"] - seeds["low"]) / (2 * 1.96)).groupby(seeds["metric"]).mean()
noise = pd.concat([width.rename("from the prompts"), spread], axis=1)
noise["the larger"] = noise.idxmax(axis=1)
(100 * noise.iloc[:, :2]).round(1).join(noise["the larger"]).rename_axis("points")

# %% [markdown]
# For five of the eight metrics, the standard deviation of the runs is clearly larger than the standard error due to the prompts. For arithmetic, the cautious estimate is $4.7^2 - 2.5^2 = 4.0^2$, so the seed's effect has a standard deviation of about 4 points by this measure. The estimate is nearly 6 points for safety, about 5 for facts and helpfulness, and about 4 for lists. For honesty, over-refusal and the format, hardly anything is left after the subtraction, so these eight runs don't show that the seed matters there.
#
# The next cell shows where the runs come from:

# %%
made = [json.loads((results / f"seed-{s}-dpo.manifest.json").read_text()) for s in grid]
cores = [m["device"]["cpus"] for m in made]
origin = {"date": [m["date"] for m in made], "commit": [m["commit"][:7] for m in made]}
pd.DataFrame(origin, index=grid.columns).assign(cores=cores, command="make stages SEED=…")

# %% [markdown]
# <a id="deeper-judges" name="deeper-judges"></a>
# ## Deeper: a judge's biases, and what helps
#
# The judge in section 7 leans toward the answer that it reads first. The remedy is to ask twice, once with the answers in each order.
#
# ### Exercise 6.3 · about 10 minutes · easy
#
# Each pair was judged twice. `a_first` contains the votes when A was shown first, and `b_first` those when B was shown first. A vote is 1 if the answer *shown first* won, 0 if it lost, and 0.5 for a tie. Return A's win rate, where each pair counts as the mean of its two votes.
#
# <details><summary>Hint</summary>
#
# In `b_first`, a 1 is a win for B. What does that mean for A?
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
# The lean is measured correctly. The value is 0.40, which means that the answer shown first got 40 percentage points more of the votes than the other one. With swapping, the win rate is 58%, which is on the right side of 50% but still too close to it. Suppose the judge picks the first answer blindly with probability $\lambda$. If you swap the order, these votes are split evenly between the two models, and only the others follow the true rate $r$:
#
# $$r_\text{swapped} = \tfrac{1}{2}\lambda + (1 - \lambda)\, r \quad\Longrightarrow\quad r = \tfrac{1}{2} + \frac{r_\text{swapped} - \tfrac{1}{2}}{1 - \lambda}$$
#
# So swapping removes the judge's preference for one side, but the votes that it cast by position still count. The last number in the output is the solution for $r$: 62.7%, close to the true 62.9%. We can compute $r$ only because we know exactly how this judge errs. With a real judge, you don't know that.

# %% [markdown]
# ### Length
#
# Swapping doesn't help against a bias that depends on the answer itself, such as a preference for longer answers. To study such a bias by itself, we compare the SFT model with a wordier copy of itself: every second answer gets a friendly sentence at the end, and nothing else changes.

# %%
from postlab.judge import length_controlled_rate

KIND = " I hope that this is of help to you."
chatty = [text + KIND * (i % 2) for i, text in enumerate(sft)]


def blind_to_it(prompt, first, second):
    """The oracle, which doesn't see the friendly sentence."""
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
# On the right, the wordier copy has a win rate of 57% even when each pair is judged in both orders, although its answers are no better. Length control brings the win rate back to the true 50%. This method fits a logistic regression of the vote on the difference in length and reads off the win rate at equal length
# ([Dubois et al. 2024](https://arxiv.org/abs/2404.04475) do this for AlpacaEval). In this example, answers of equal length are identical, so the estimate is exactly 50%.
#
# On the left, the corrected win rate of DPO is 56%, still too close to 50% (the true rate is 63%), because the votes that were decided by position or length say nothing about quality. Length control also has a drawback. If a better answer *has to* be longer, such as a sum that is worked out, length control takes away the credit for that as well. And if one model's answers are always longer, there are no pairs of equal length, and the regression has to extrapolate. So report the win rate both with and without length control.

# %% [markdown]
# > **The roadmap says** DPO matches RLHF, because both have the same optimum. **The evidence says** that this holds only where the data and the policy class allow it (week 4), and that DPO's measured gains are confounded with length, because DPO can pick up a preference for length from its pairs
# > ([Liu et al. 2024](https://arxiv.org/abs/2409.06411)). So whenever you compare models after DPO, report the lengths of their answers. Here are ours, in tokens:

# %%
vars(paired_difference(scores("sft", "length"), scores("dpo", "length")))

# %% [markdown]
# After DPO, the answers are 0.8 tokens longer (0.6 to 1.1), which is a small difference.

# %% [markdown]
# <a id="deeper-model" name="deeper-model"></a>
# ## Deeper: a model as judge
#
# `model_judge` turns any chat model into a judge: it shows the model both answers and compares the probabilities of the letters *A* and *B*. With `t4` and `rented`, the judge is Qwen2.5-7B-Instruct. We chose it because it isn't from the same family as the Mistral policies, and judges tend to favor answers from their own family. On `smol`, the judge is SmolLM2, so it judges models that were fine-tuned from it. On `tiny`, the judge is our own DPO model, which has 1.4 million parameters and was never trained to judge. So on that profile, the section only shows you the procedure. To measure how well two judges agree, we use **Cohen's kappa**,
#
# $$\kappa = \frac{p_\text{agreed} - p_\text{chance}}{1 - p_\text{chance}}$$
#
# where $p_\text{chance}$ is how often they would agree if each gave its verdicts at random, with the frequencies we observed. Kappa is 1 for perfect agreement and 0 for agreement no better than chance. In the next cell, the oracle says *b* for eight answers out of ten, and a judge says *b* every time:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.stats import cohen_kappa

oracle_says, judge_says = list("bbbbbbbbaa"), list("bbbbbbbbbb")  # this one always says b
agreed = sum(map(str.__eq__, oracle_says, judge_says)) / len(oracle_says)
{"agreed": agreed, "kappa": cohen_kappa(oracle_says, judge_says).value}

# %% [markdown]
# They agree in 80% of the cases, which sounds good. But if a judge always says *b*, the expected agreement by chance is also $0.8 \cdot 1 + 0.2 \cdot 0 = 80\%$, so kappa is 0.
#
# **Predict first.** How well will the model agree with the oracle? And if it doesn't go by the content, what might it go by?

# %%
from postlab.judge import model_judge, position_bias
from postlab.models import load_policy

judge_name = lab.profile.judge_model or lab.checkpoint("dpo")
policy, tokenizer = load_policy(judge_name, profile=lab.profile)
differ = [i for i in range(len(prompts)) if sft[i] != dpo[i]]
print(
    f"{len(differ)} of {len(prompts)} pairs differ"
    + ", too few to judge a judge" * (len(differ) < 20)
)
differ = differ or list(range(len(prompts)))  # if no answers differ, judge them all
wanted = 16 if lab.profile.base_model == "smol" else 50  # SmolLM2 on a CPU needs seconds per pair
differ = differ[:: max(1, len(differ) // wanted)]
some = [[x[i] for i in differ] for x in (prompts, sft, dpo)]
asked, said = (judge_pairs(j, *some) for j in (truth, model_judge(policy, tokenizer)))
first = asked["order"] == "ab"  # one order per pair: the two orders aren't independent
kappa = cohen_kappa(asked["choice"][first], said["choice"][first])
pd.DataFrame({"kappa": vars(kappa), "lean to the first": vars(position_bias(said))}).T.round(2)

# %% [markdown]
# In the stored output, the model judges mainly by position. The lean is 0.82, which means that the answer shown first got 82 percentage points more of the votes than the other one. The interval for kappa contains 0. If a judge goes mostly by position, there is no point in asking it anything else. So with a judge of any size, look at the lean first, then at **kappa against an oracle or your own votes on about fifty
# pairs, and only then at its verdict.**
#
# A server that speaks OpenAI's protocol can be a judge as well. The next cell is switched off, because it sends your prompts and answers to that server, and a paid server charges for them. Each verdict is logged as it arrives, so if you run the cell again after a failure or a kernel restart, it picks up where it left off. If the model behind the name changes, use a new log.

# %%
from postlab.judge import endpoint_judge

ENDPOINT = None  # such as "http://localhost:8000/v1"
if ENDPOINT:
    answers_log = lab.folder / "judge.jsonl"  # verdicts you have paid for aren't asked for again
    # The key is in $OPENAI_API_KEY.
    judge = endpoint_judge(ENDPOINT, model="name-of-the-model", log=answers_log)
    print(preference_rate(judge_pairs(judge, *some, concurrency=4)))

# %% [markdown]
# There are three other problems that no correction solves. First, judges favor answers that resemble their own. Second, a judge may obey an answer that tells it to choose *A*. Because postlab quotes the answers, an answer can't pretend to be the instruction, but it can still flatter the judge. Third, if you train a policy on a judge's votes and then evaluate it with the same judge, the policy is graded by its own teacher.

# %% [markdown]
# ### Response quality in one call
#
# No program can score advice or an explanation, so open questions need a judge. `response_quality` combines the steps of this section. It first prints what the comparison will cost. Then it shows the judge each pair in both orders, with a rubric in the prompt. It reports the win rate, the win rate at equal length, the judge's lean, and how often both orders got the same verdict. Once you have voted on the same answers, it also reports kappa between the judge and you.
#
# If you use a larger model, the next cell compares your two policies' answers to the 40 open questions of `everyday`. Their base model isn't allowed to judge them, because it was never tuned to do that. On `smol`, the profile's judge *is* that base model, so the cell needs an `ENDPOINT` there. On `tiny`, the biased oracle judges the same answers as above, so again, this only shows you the procedure.

# %%
from postlab.evals import evaluate, everyday_rows
from postlab.judge import response_quality


def open_answers(stage):
    """A stage's answers to the open questions, from its evaluation if it included them."""
    stored = frames[stage][frames[stage]["family"] == "open"]
    if len(stored):
        return stored
    stage_policy = load_policy(lab.checkpoint(stage), profile=lab.profile)
    return evaluate(*stage_policy, everyday_rows(families="open"))


quality = None
if not lab.profile.base_model:  # the embedded model has never seen such questions
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
# Read this report from the bottom up, because you can trust the win rates only as far as the lean and kappa allow. On `tiny`, the report finds a lean of 0.31, close to the 0.3 that we put in. The win rate is 57%, below the true 63% for the reasons above.
#
# With 40 prompts, the interval for a win rate near 50% extends about 15 points to either side ($1.96 \cdot \sqrt{0.25 / 40}$), or a little less if there are ties. So only large differences will show up. To get a value for kappa, vote with `arena(compared, path=lab.folder / "votes.jsonl")` as in the next section, and run the cell again.

# %% [markdown]
# <a id="deeper-votes" name="deeper-votes"></a>
# ## Deeper: your own judgment
#
# The arena shows you two answers in random order, without telling you which model wrote which. It saves every vote immediately, so you lose nothing if the kernel restarts. Decide *before* you start how many votes you will cast. The next cell shows what different numbers of votes can tell you:

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
# If 70% of your votes are for one model, 10 votes can't tell you whether it's better, because the interval extends down to 0.40. With 30 votes, the interval just excludes 0.5.
#
# Pairs with identical answers count as ties and aren't shown. `.result()` returns the win rate. As an example, the next cell lets the oracle vote sixty times in your place and writes the votes to a different file:

# %%
import tempfile

ballot = arena(blind, path=tempfile.mkdtemp() + "/votes.jsonl", seed=1)
for _ in range(60):
    if ballot.pair:
        ballot.vote(truth(*ballot.pair))
ballot.result().round(3)

# %% [markdown]
# The output counts 160 comparisons: the sixty votes, and 100 pairs with identical answers that came up along the way and count as ties. DPO's win rate is 64% (56% to 71%), which agrees with the 63% over all prompts.
#
# > **The roadmap says** LIMA's answers reached near-GPT-4 quality. **The evidence says** that they were "either equivalent or strictly preferred" to GPT-4's in 43% of cases ([Zhou et al. 2023](https://arxiv.org/abs/2305.11206)), on the paper's own prompts. This figure counts every tie as a success. If ties count as half a win, the rate is lower, and if GPT-4's
# > ties are counted as successes too, its rate is at least 57%. A win rate isn't a result unless you also report the ties, the number of votes and the judge.

# %% [markdown]
# <a id="deeper-written" name="deeper-written"></a>
# ## Deeper: the written comparison
#
# `written_comparison` writes the summary that you would send to your colleagues. It is generated from the run folders, so if you train with another seed, it describes the new results. Here is the section on DPO:

# %%
from IPython.display import Markdown, display

from postlab.report import written_comparison

sections = written_comparison(lab.profile.name).split("\n## ")
display(Markdown("### " + next(part for part in sections if part.startswith("DPO"))))

# %% [markdown]
# <a id="deeper-cost" name="deeper-cost"></a>
# ## Deeper: what SFT, DPO and RLHF cost
#
# > **The roadmap says** DPO costs 30 to 50% more than SFT. **The evidence says** that it depends on what you count. *Per row*, it costs about two to three times as much: a pair has two replies, and both the policy and the reference have to read both of them. *Per stage*, the ratio can be anything, because the number of pairs is rarely the same as the number of SFT rows.
#
# Here is what we measured on `tiny` for the eight recorded seeds: the training time in milliseconds per SFT row and per pair, and in seconds per stage.


# %%
# NBVAL_CHECK_OUTPUT
def training_times(seed):
    """Training time per row and per stage, from the manifests."""
    times = {}
    for stage in ("sft", "dpo"):
        made = json.loads((results / f"seed-{seed}-{stage}.manifest.json").read_text())
        count = made["steps"] * made["config"]["per_device_train_batch_size"]
        times[f"{stage}, ms per row"] = 1000 * made["train_s"] / count
        times[f"{stage}, s"] = made["train_s"]
    times["pair / row"] = times["dpo, ms per row"] / times["sft, ms per row"]
    times["stage / stage"] = times["dpo, s"] / times["sft, s"]
    return times


pd.DataFrame({seed: training_times(seed) for seed in range(8)}).T.round(1)

# %% [markdown]
# A pair costs between 1.9 and 3.3 times as much as a row (the median is 2.5). The DPO stage has half as many pairs as the SFT stage has rows, so the whole stage costs about 1.3 times as much as SFT (1.0 to 1.6 times, depending on the seed). Seeds 4 and 6 were trained on a machine that was busy with other things, so compare the ratios, not the times.
#
# For a 7B model, you can compute the ratio with `preflight`. Here, every method gets the same number of rows of the same length on an H100:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.preflight import estimate

rented = get_profile("rented")
same = {"model": rented.base_model, "device": "H100", "bits": 4, "engine": "unsloth"}
same |= {"lora_rank": 32, "optimizer": "adamw_8bit", "examples": 1000, "length": 768, "batch": 8}
row = estimate("sft", **same).hours
kinds = {
    "DPO": estimate("dpo", **same),
    "DPO, reference precomputed": estimate("dpo", reference=False, **same),
    "reward model": estimate("reward", **same),
}
pd.Series({name: round(one.hours / row, 1) for name, one in kinds.items()}).to_frame("times SFT")

# %% [markdown]
# So a pair costs 2.7 times as much as a row of the same length, or twice as much if the reference's log-probs were computed beforehand. (On `rented`, DPO trains on UltraFeedback's 61,000 pairs and SFT on 50,000 rows. The pairs are longer, too: 530 tokens for a prompt and a reply, compared with 400 for an SFT row. So we plan about four times as long for DPO as for SFT.)
#
# > **The roadmap says** DPO costs half as much as full RLHF. **The evidence says** that this is about right for the arithmetic of one pass, if RLHF uses as many prompts as it has pairs. But the roadmap's figure leaves out the sampling, which usually takes most of RLHF's time, and the extra runs you need to tune PPO.
#
# Where does "half" come from? Count the passes over a reply. A forward pass counts as one, and the backward pass adds two more:

# %%
# NBVAL_CHECK_OUTPUT
dpo_pair = 2 * 3 + 2 * 1  # two replies: the policy forward and backward, the reference forward
reward_pair = 2 * 3  # two replies through the reward model, forward and backward
ppo_reply = 3 + 3 + 1 + 1  # policy and critic forward and backward; reference and reward model
ppo_reply += 1 + 1  # old log-probs of the policy, old values of the critic
pairs, prompts_of_ppo = 33_000, 31_000  # InstructGPT, table 6
rlhf = reward_pair + ppo_reply * prompts_of_ppo / pairs
{"DPO per pair": dpo_pair, "RLHF per pair": round(rlhf, 1), "share": f"{dpo_pair / rlhf:.0%}"}

# %% [markdown]
# InstructGPT used 33,000 prompts for the reward model and 31,000 for PPO. With these numbers and one pair per prompt, DPO needs 52% of RLHF's passes. It also needs half the memory, if everything is fully fine-tuned and the four models of RLHF have the same size (week 4). But generating a reply of 500 tokens takes 500 passes, one after the other, and each of them is limited by memory bandwidth rather than by arithmetic. That's why sampling usually takes most of the time in practice. We have no recorded RLHF run of a 7B model to compare with.

# %% [markdown]
# <a id="deeper-larger" name="deeper-larger"></a>
# ## Deeper: on a larger model
#
# Since nothing is trained here, `t4` and `rented` need no more time or memory than in weeks 3 and 5. Their answers are read from the run folder (on Colab, set `POSTLAB_RUNS` to a folder on Drive). You can also do this on a machine without a GPU if you set `POSTLAB_PROFILE` to the profile you trained with; otherwise you'll see the embedded model. Only the model judge needs the GPU. Here is what it would cost:


# %%
# NBVAL_CHECK_OUTPUT
def judge_bill(pairs, *, tokens, parameters=7e9, flops=30e12, price=0.5):
    """Minutes and dollars for reading each pair in both orders, at 2 FLOPs per parameter and token."""
    seconds = 2 * pairs * tokens * 2 * parameters / flops
    return {"minutes": round(seconds / 60, 1), "dollars": round(seconds / 3600 * price, 2)}


{f"{pairs:,} pairs": judge_bill(pairs, tokens=700) for pairs in (200, 1319)}

# %% [markdown]
# The defaults are assumptions: a 7B model, half of a T4's peak speed, and half a dollar per hour. Replace them with your own values. With the defaults, judging 200 pairs takes two minutes and costs two cents. A judge that reasons before it answers has to generate its tokens one by one, which costs many times as much. Compared with training more seeds, evaluating more prompts is cheap.
#
# **Public benchmarks on your adapter.** The field quotes scores from [lm-evaluation-harness](https://github.com/EleutherAI/lm-evaluation-harness). It loads an adapter on top of its base, so you don't have to merge anything. Install it in an environment of its own (`pip install 'lm-eval[hf,ifeval]'`; we checked version 0.4.13), and run this once for each stage. `BASE` is `lab.base`, and `ADAPTER` is the path from `lab.checkpoint("sft")` or `lab.checkpoint("dpo")`:
#
# ```
# lm-eval run --model hf --model_args pretrained=BASE,peft=ADAPTER,tokenizer=ADAPTER --tasks ifeval,gsm8k --apply_chat_template --log_samples --output_path results/sft
# ```
#
# `--log_samples` saves one line per prompt, and `read_samples` turns such a file into a data frame like the ones that `evaluate` returns. This gives you this week's paired intervals even for benchmarks that you didn't run yourself:
#
# ```python
# from pathlib import Path
# from postlab.evals import compare, read_samples
#
# files = {stage: next(Path("results", stage).glob("*/samples_gsm8k_*.jsonl")) for stage in ("sft", "dpo")}
# compare({stage: read_samples(file, filter="strict-match") for stage, file in files.items()})
# ```
#
# For IFEval, read `samples_ifeval_*.jsonl` with `metrics=["prompt_level_strict_acc"]` and no filter, because its scores per instruction are lists. Use the same template, few-shot examples and version of the harness for both stages: otherwise the prompts differ, and `compare` refuses to pair them.

# %% [markdown]
# <a id="interview" name="interview"></a>
# ## Five interview questions
#
# **1.** A new model is 1.5 points better on 500 prompts, p = 0.04. Do you ship it?
#
# <details><summary>Answer</summary>
#
# Not on this evidence alone. On 500 prompts, 1.5 points are a net gain of 7 or 8 prompts, and p = 0.04 means that the outcome changed on only about a dozen prompts, such as 10 gained and 2 lost. If the power was that low, the 1.5 points are probably an overestimate. I'd also ask whether the test was planned, and how many metrics and checkpoints were looked at. With ten of them, one p-value below 0.05 is no surprise. Then I'd replicate the result on fresh prompts, check whether other metrics got worse, and train a second seed if the claim is about the method.
#
# *Follow-up: how many prompts would you need for 1.5 points?* If the outcome changes on 2.4% of the prompts, as in the example, you need about $(1.96 + 0.84)^2 \cdot 0.024 / 0.015^2 \approx 840$. If it changes on 10%, you need about 3,500.
#
# </details>
#
# **2.** The 95% intervals of two models overlap. Are the models equal?
#
# <details><summary>Answer</summary>
#
# You can't conclude that. Looking for overlap treats the two scores as unpaired. If both models answered the same prompts, the differences per prompt have a smaller variance, so the paired difference may be clear even though the intervals overlap. Even for independent samples, two 95% intervals can overlap a little while the difference is significant. And an inconclusive difference doesn't show that the models are equal. For that, you need an interval for the difference that lies inside a margin you chose in advance.
#
# *Follow-up: when does pairing help most?* It helps most when the two models' results are strongly correlated across prompts, as they are for two checkpoints of the same model.
#
# </details>
#
# **3.** System design: an LLM judge compares checkpoints every night. What do you build?
#
# <details><summary>Answer</summary>
#
# I'd use a fixed set of prompts and judge every pair in both orders. I'd log the lengths, and report the raw and the length-controlled win rate with paired intervals, corrected for the number of checkpoints. I'd quote the answers in the judge's prompt, pin the judge's version, and choose a different model from the one that provided the training signal. For calibration, I'd keep a set of pairs with human votes and compute kappa whenever the judge or its prompt changes. Finally, I'd set alerts on the lean, the tie rate and the share of consistent verdicts.
#
# *Follow-up: the win rate has been rising for weeks, and users notice nothing.* The checkpoints may be adapting to the judge or to the fixed prompts. Refresh the prompts, compare the judge with human votes on the new ones, and look at the lengths.
#
# </details>
#
# **4.** After DPO, your model's win rate, according to your judge, rose from 52% to 61%. Name three explanations other than quality.
#
# <details><summary>Answer</summary>
#
# First, the answers may be longer. Second, they may have a format or style that the judge likes. This may be the judge's own style, and the model may have learned it from the judge's votes. Third, the judge may have a position bias, which matters if the order was fixed. Ties may also be counted differently now, or the prompts may have become easier. To tell these explanations apart, I'd swap the order, control for length, use a judge from another family, and compare with human votes on about fifty pairs.
#
# *Follow-up: the length-controlled rate is still 58%. Are you convinced?* I'm more convinced than before. But length control assumes that the judge's preference for length is the same for all prompts, and it doesn't correct for style. I'd still want human votes.
#
# </details>
#
# **5.** Research taste: you can afford to evaluate 3,000 answers. Do you take one run on 3,000 prompts, or ten seeds on 300 prompts each?
#
# <details><summary>Answer</summary>
#
# It depends on the claim. If the claim is about one checkpoint, I'd take 3,000 prompts. If it's about the method, I'd take the ten seeds. With fresh prompts for every run, the variance of the mean over $k$ runs with $n$ prompts each is
#
# $$\frac{\sigma_\text{seed}^2}{k} + \frac{\sigma_\text{prompt}^2}{kn}$$
#
# Both designs have $kn = 3{,}000$, so the second term is the same, and ten seeds divide the first one by ten. But then the real cost is training ten models; the answers are cheap. I'd estimate both variances from a pilot.
#
# *Follow-up: what if all runs get the same 300 prompts?* Then the part of the prompt variance that all runs share doesn't average out over runs: it's divided by 300, not by 3,000. In exchange, you can compare the runs with each other prompt by prompt.
#
# </details>

# %% [markdown]
# <a id="papers" name="papers"></a>
# **Papers.**
#
# - Miller 2024, *Adding Error Bars to Evals* ([2411.00640](https://arxiv.org/abs/2411.00640)): pairing, clusters and power. Start here.
# - Wang 2025, *Measuring all the noises of LLM Evals* ([2512.21326](https://arxiv.org/abs/2512.21326)): splits the noise of many models into the part due to the prompts and the part due to the *sampled answers*, much as this week splits it between prompts and seeds. Read it to learn how much it helps to average several answers per prompt.
# - Alvarado Gonzalez et al. 2025, *Do Repetitions Matter?* ([2509.24086](https://arxiv.org/abs/2509.24086)): how often a ranking from a single run changes when you repeat it.
# - Bowyer et al. 2025 ([2503.01747](https://arxiv.org/abs/2503.01747)): why normal-theory error bars are too small with fewer than a few hundred prompts, and what to use instead.
# - Card et al. 2020 ([2010.06595](https://arxiv.org/abs/2010.06595)): what "underpowered" means in NLP.
# - Bouthillier et al. 2021 ([2103.03098](https://arxiv.org/abs/2103.03098)): all the sources of variance in a benchmark, of which the seed is only one.
# - Zheng et al. 2023, *MT-Bench* ([2306.05685](https://arxiv.org/abs/2306.05685)): section 3 covers the biases of LLM judges.
# - Dubois et al. 2024 ([2404.04475](https://arxiv.org/abs/2404.04475)): length control, and its limits.
# - Lee et al. 2025, *How to Correctly Report LLM-as-a-Judge Evaluations* ([2511.21140](https://arxiv.org/abs/2511.21140)): correcting a judge's score with a small set of human labels, with intervals that include the uncertainty of those labels.
