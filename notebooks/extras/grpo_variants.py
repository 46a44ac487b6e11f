# %% [markdown]
# # Extra · Variants of GRPO, with updates, rates and clips matched
#
# Every few weeks, a paper proposes an improvement to GRPO. Dr. GRPO, DAPO, GSPO, CISPO and SAPO are just a few of these variants. Each paper shows a curve that lies above GRPO's, and in TRL, you can switch on most of the variants with a single argument. Which ones should you use?
#
# Week 8 compared 15 arms at the same learning rate, and two changes made a large difference: four updates per batch instead of one (+12 points), and GSPO (−11 points). Both results turned out to say little about the changes themselves, because the arms also differed in their number of updates or in how many answers a clip affected. In this notebook, every variant gets a fair chance: the same number of answers to train on, a learning rate chosen for its number of updates, and a clip that was chosen or published for it.
#
# By the end, you'll be able to explain
#
# - what each variant changes, and how to set it in TRL,
# - what you have to match before you compare two variants,
# - how large a difference you can detect with five seeds, and what "inconclusive" does and doesn't mean near the ceiling,
# - what each change was invented for, where other researchers found that it matters, and which changes are combined in published recipes.
#
# This notebook takes about 45 minutes and builds on weeks 7 and 8. The experiment uses the tiny world, so its results show *mechanism, not capability*.

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
# ## 1. What can be changed?
#
# Each step of GRPO consists of sampling groups of answers, turning their rewards into advantages, and making one or more updates. Each variant changes one of these parts, so we group the variants under three questions. Names in italics are those of the recorded arms.
#
# **How is a batch used?** The following arms sample the same number of answers and differ in how they use them:
#
# | arm | what it does with 64 answers | in TRL |
# |---|---|---|
# | *one update* | makes one update on all of them. Every ratio is 1, so no clip ever acts | the default |
# | *four quarters* | makes four updates, each on a different quarter | `steps_per_generation=4`, with a quarter of the batch size |
# | *four uses* | makes four updates, each on all of them | `num_iterations=4` |
# | *fresh quarters* | makes four updates on quarters, and samples each quarter just before its update | a quarter of the batch size |
#
# **Which loss is used once the policy has moved on?** After a batch has been used for one update, the policy is no longer the one that sampled the answers. [Week 8](../week08_grpo_debugging.ipynb) has the formulas and a picture of these losses:
#
# | arm | what changes | in TRL's `GRPOConfig` |
# |---|---|---|
# | *clip-higher* | the clip leaves more room above 1, so that rare tokens can become more likely | `epsilon_high=0.28` |
# | *no clip* | a ratio is never clipped | `epsilon=10.0` |
# | *GSPO* | each answer has one ratio, the geometric mean of its tokens' ratios | `importance_sampling_level="sequence", loss_type="grpo", epsilon=3e-4, epsilon_high=4e-4` |
# | *CISPO* | the ratio is capped and becomes a constant weight on $A \log \pi$, so every token keeps a gradient | `loss_type="cispo", epsilon_high=5.0` |
# | *SAPO* | a sigmoid takes the place of the clip, so the gradient fades instead of stopping | `loss_type="sapo", sapo_temperature_pos=1.0, sapo_temperature_neg=1.05` |
#
# **What else does the recipe change?** These changes take effect from the very first update:
#
# | arm | what changes | in TRL |
# |---|---|---|
# | *no scaling* | advantages aren't divided by the standard deviation of the group | `scale_rewards="none"` |
# | *answer means* | every answer has the same weight, instead of every token | `loss_type="grpo"` |
# | *Dr. GRPO* | there is no scaling, and the sum over an answer's tokens is divided by a constant | `loss_type="dr_grpo", scale_rewards="none"` |
# | *RLOO* | the baseline is the mean of the *other* answers; an answer's log-probability is the sum over its tokens | `RLOOTrainer` |
# | *KL 0.04* | a penalty for moving away from the starting policy | `beta=0.04` |
# | *entropy bonus* | the policy is rewarded for being unsure, by a multiple of the next token's entropy | `entropy_coef=0.01` |
# | *overlong shaping* | up to 1 is subtracted from the reward as an answer approaches the length limit | `get_soft_overlong_punishment(48, 16)` from `trl.rewards`, as a second reward function |
# | *dynamic sampling* | zero-variance groups are replaced by new ones | not in TRL; ours is `postlab.course.week08.dynamic_sampling` |
# | *groups of 2*, *groups of 16* | the number of answers per prompt; the batch keeps its 64 answers | `num_generations` |
#
# Some of these variants are closer to each other than their names suggest. RLOO, for instance, looks like a new method. Compare its advantages with GRPO's before any scaling:

# %%
# NBVAL_CHECK_OUTPUT
import pandas as pd
import torch

rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])
others = (rewards.sum() - rewards) / (len(rewards) - 1)
pd.DataFrame(
    {"reward": rewards, "minus mean": rewards - rewards.mean(), "RLOO": rewards - others}
).assign(quotient=lambda frame: frame["RLOO"] / frame["minus mean"]).round(3)

# %% [markdown]
# For every answer, RLOO's advantage is GRPO's advantage without scaling, multiplied by $G/(G-1)$. Adam's steps hardly depend on a constant factor, so what really distinguishes RLOO here is the sum over tokens. That makes it a close relative of Dr. GRPO, which divides the same sum by a constant.
#
# ### Two arms, live
#
# The next cell loads the recorded results of the experiment. They include the settings of each arm, so you can train most of the arms yourself. We train *one update* and *Dr. GRPO* for two batches each, starting from the same policy and with the same seed.
#
# **Predict first.** Both arms see the same answers in the first batch. Will their gradients be equally large? And which arm will have the higher reward in the second batch, after one update?

# %%
import contextlib
import io
import json
import tempfile

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from postlab.datasets import math_rows
from postlab.models import load_policy, trainable
from postlab.profile import data_dir, get_profile
from postlab.rewards import math_reward
from postlab.sampling import rollout_func

record = json.loads((data_dir() / "results" / "week08" / "matched.json").read_text("utf-8"))
tiny = get_profile("tiny")
start = postlab.Lab(tiny, seed=0).checkpoint("dpo")  # the stage that ships with the repository
rows = math_rows(tiny.grpo.source, split="train", n=512, seed=0)
rows = Dataset.from_list([{"prompt": row["prompt"], "answer": row["answer"]} for row in rows])


def two_batches(arm):
    """The log of two batches with the settings of a recorded arm, from week 5's policy."""
    how = dict(record["arms"][arm]["how"])
    updates = how.pop("updates", 1)  # per batch; the other settings are TRL's
    how = {**tiny.grpo.trainer, "save_strategy": "no", "logging_steps": updates, **how}
    policy, tokenizer = load_policy(start, profile="tiny", bits=32)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        trainer = GRPOTrainer(
            model=trainable(policy),
            processing_class=tokenizer,
            reward_funcs=math_reward,
            train_dataset=rows,
            args=GRPOConfig(output_dir=folder, seed=0, **{**how, "max_steps": 2 * updates}),
            rollout_func=rollout_func,
        )
        trainer.train()
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    return pd.DataFrame(log, index=["batch 1", "batch 2"])[["reward", "grad_norm", "entropy"]]


# Other arms to try: "four quarters", "GSPO", "no clip", "CISPO", "SAPO", "answer means", "KL 0.04"
live = {arm: two_batches(arm) for arm in ("one update", "Dr. GRPO")}
pd.concat(live).round(3)

# %% [markdown]
# In the stored output, both arms get the same reward in the first batch, because they sample the same answers. In that batch, the gradient of *Dr. GRPO* is about one seventh as large as that of *one update*, for two reasons. With *Dr. GRPO*, the sum over an answer's tokens is divided by the length limit (64) instead of by the number of tokens (19 on average), and the advantages aren't divided by a standard deviation of about 0.5. Yet the reward is the same in the second batch, too. Adam divides each step by the size of the recent gradients, so a constant factor hardly changes the step. (If you try an arm with four updates per batch, note that TRL logs the gradient of the last one, which can be 0.)
#
# The arms *RLOO*, *dynamic sampling*, *overlong shaping* and *fresh quarters* need more than different arguments in `GRPOConfig`. `notebooks/experiments/week08_matched.py` shows how to run them.
#
# ## 2. What does "matched" mean?
#
# Every recorded arm starts from the week 5 policy and trains on 256 answers. These come in four batches of 64 or, for *fresh quarters*, in sixteen batches of 16. Only *dynamic sampling* samples more than 256 answers, because it throws some away. At the end, each policy answers each of 200 held-out sums twice at temperature 1. There are five seeds per arm. We trained the runs in three sessions on machines of the same kind, so an arm and its base weren't always trained in the same session.
#
# - **The base.** Each arm is compared with a base that differs from it only in the change being tested. The choice of loss has no effect if there's only one update per batch, because the policy hasn't moved on yet. So the five losses are compared with *four quarters*, and everything else is compared with *one update*.
# - **The rate.** Each arm under the first question has its own learning rate, the best of three. All other arms use the rate of their base.
# - **The clip.** GSPO's ratios are averages over an answer, so the right clip depends on the length of the answers. We chose the best of three clips for GSPO. The other clips and coefficients are published or commonly used values.
# - **The data for these choices.** We chose the rates and the clip with one seed and 100 sums that the comparison never uses. If you choose settings on the same sums that you report, your result includes the winner's luck.
#
# Here are all the trials:

# %%
# NBVAL_CHECK_OUTPUT
trials = [
    {
        "arm": trial["name"],
        "rate": trial["spec"]["learning_rate"],
        "lower clip": trial["spec"].get("epsilon", 0.2),
        "right, %": trial["scores"][0],
    }
    for trial in record["tuning"]
]
pd.DataFrame(trials).set_index("arm")

# %% [markdown]
# The best rate of *one update* is twice that of *four uses* and of *fresh quarters*. (For *four quarters*, the best rate is the largest one that we tried, so a larger one might be better still.) At half its best rate, *one update* is six points worse. In section 6 of week 8, all arms used a rate of 1e-4, which is an eighth of the best rate of *one update*. That's the likely reason why four updates looked so much better there.
#
# Two of GSPO's clips tie, and we took the first one. With only one tuning seed, a neighboring rate could also have won. So "matched" means that no arm has a rate that is plainly wrong for it, not that every arm has its best rate.
#
# ## 3. Do the variants differ?
#
# **Predict first.** Before training, the policy gets 52% of the held-out sums right. How many of the 18 changed arms differ from their base by more than noise, after a correction for 18 comparisons?

# %%
# NBVAL_CHECK_OUTPUT
import numpy as np

from postlab.course.week08 import ablation_table, paired_differences, plot_variants

made = record["provenance"]
print(", ".join(str(made[name]) for name in ("command", "date", "device", "seeds")))
print(f"right before training: {np.mean(record['start']):.0%}")
differences = paired_differences(record)
questions = {
    "reuse": "How is a batch used?",
    "losses": "Which loss, once the policy has moved on?",
    "recipe": "What else is in the recipe?",
}

# %%
plot_variants(differences, questions)

# %% [markdown]
# None of them do. All arms end between 94% and 96%, and all 18 differences are inconclusive, both before and after Holm's correction. The next table shows what each arm cost, next to its result. (`clipped` is the share of tokens whose gradient is removed by the clip. For GSPO it's the share of answers, and for CISPO it's the share of tokens at the cap. The intervals are 95% intervals without a correction, and `corrected` is Holm's p value over the 18 comparisons.)

# %%
# NBVAL_CHECK_OUTPUT
pd.set_option("display.width", 200, "display.max_columns", 20)
costs = ablation_table(record).drop(columns=["entropy"])
results = differences.set_index("arm")[["base", "points", "low", "high", "corrected"]]
digits = {"rate": 4, "answers": 0, "tokens": 0, "right, %": 2}
digits |= dict.fromkeys(["points", "low", "high", "corrected"], 2)
table = costs.join(results)
table.round(dict.fromkeys(costs.columns, 1) | digits)

# %% [markdown]
# Read the table by question:
#
# - **How is a batch used?** With four updates per batch instead of one, on 256 answers in both cases, we find no measurable gain at the end: the difference is +0.4 points for *four quarters* (−1.5 to 2.2) and −0.2 for *four uses* (−1.0 to 0.7). In week 8, *four quarters* led by 12 points. The arm with the highest mean of all is *fresh quarters*, at +1.2 points (−0.1 to 2.4). It's also the only one of the three that never trains on an older policy's answers. But we picked out this arm as the best of many after looking at the results. So the result raises a question for another experiment but doesn't answer it.
# - **Which loss?** GSPO's clip removes the gradient of 26% of the answers, and yet we can't measure a disadvantage (−0.4 points; interval: −2.0 to 1.2). The token-level clip removes the gradient of only 1.2% of the tokens, so *clip-higher* has almost nothing to change. For four of the five seeds, the final verdicts of *clip-higher* are exactly those of *four quarters*. *No clip* has the lowest mean (−1.9) and by far the widest interval (−5.3 to 1.5), because one of its five runs ended 6.5 points below the base. A clip is supposed to prevent such bad runs, but one bad run in five isn't evidence that a clip would have prevented it.
# - **What else?** *Dynamic sampling* lowers the share of zero-variance groups from 43% to 9%. It ends 0.8 points higher (−0.04 to 1.5), but it samples 2.1 times as many tokens. The comparison doesn't count these extra tokens, although the base could have trained on eight batches with them. With *groups of 2*, 79% of the groups have zero variance, and we still can't see a difference (+0.7 points, −0.1 to 1.5).
#
# ## 4. What could have been found?
#
# An inconclusive result tells you only as much as the experiment's chance of detecting a difference allows. That chance depends on how much the difference varies from seed to seed. In the next table, `detectable` is the true difference that five such pairs of runs would detect in 80% of cases, if this were the only comparison. `first of Holm` is the same figure for the first of 18 comparisons, which has to pass Holm's strictest threshold. Finally, `moved` is the share of held-out sums whose verdict differs from the verdict in the base run with the same seed:

# %%
# NBVAL_CHECK_OUTPUT
power = differences.set_index("arm")[
    ["points", "moved", "detectable", "detectable, first of Holm"]
].rename(columns={"moved": "moved, %", "detectable, first of Holm": "first of Holm"})
print(power[["detectable", "first of Holm"]].median().round(1).to_dict())
power.round(2)

# %% [markdown]
# The typical comparison has an 80% chance of detecting a difference of 1.2 points if it's the only comparison, and of 2.6 points if it's the first of 18. The base already gets 95% right, so no variant could have won by more than 5 points. In other words, after the correction, we had a good chance of detecting an improvement only if it removed more than half of the remaining errors. In most comparisons, we had no good chance of detecting a difference of one point, although such a difference would matter in a paper. (These figures treat the spread of five differences as known. It isn't: with five seeds, it's easily off by a factor of two.)
#
# Three things are worth a closer look.
#
# **Some variants lead to nearly identical runs.** *KL 0.04* didn't change a single verdict for any of the five seeds. For a difference that is always exactly zero, a t test is undefined. So there's no interval, and we count this comparison with p = 1. The runs aren't identical, though: their gradients and entropies differ. But a penalty of 0.04 times a KL of at most 0.05 nats is too weak to change which tokens are sampled in four updates. Which other arms hardly differ?

# %%
# NBVAL_CHECK_OUTPUT
runs = {(run["arm"], run["seed"]): run for run in record["runs"]}
pairs = {
    "KL 0.04": "one update",
    "entropy bonus": "one update",
    "Dr. GRPO": "no scaling",
    "clip-higher": "four quarters",
    "CISPO": "no clip",
}
same = {
    f"{arm} and {other}": {
        "same rewards in all batches, of 5 seeds": sum(
            runs[arm, seed]["log"]["reward"] == runs[other, seed]["log"]["reward"]
            for seed in range(5)
        ),
        "same final verdicts, of 5 seeds": sum(
            runs[arm, seed]["end"] == runs[other, seed]["end"] for seed in range(5)
        ),
    }
    for arm, other in pairs.items()
}
pd.DataFrame(same).T

# %% [markdown]
# *Dr. GRPO* and *no scaling* got the same rewards in every batch for every seed, because within a batch their gradients differ only by a constant factor. *CISPO* is *no clip* with a cap on the ratio, and the ratios hardly ever reach a cap of 5. If two methods do the same thing in your setting, no number of seeds will tell them apart. So before you pay for more seeds, check how often the change *has an effect*. For example, look at the clipped share, the KL, or the number of groups replaced.
#
# **Two analyses lead to the same verdict.** Week 8 estimated the noise from all arms together. That estimate assumes that all arms are equally noisy, but here the spread of the differences ranges from 0 to 2.8 points. So this notebook uses a separate paired t test for every comparison, over the same five seeds. With the pooled noise, *no clip* would be significant before the correction, but not after it:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.week08 import ablation_differences

pooled = ablation_differences(record).set_index("arm")
both = {"own noise": differences.set_index("arm"), "pooled noise": pooled}
columns = ["points", "low", "high", "p", "corrected"]
pd.concat(
    {how: one.loc[["no clip", "fresh quarters"], columns] for how, one in both.items()}
).round(3)

# %% [markdown]
# **The end isn't the whole run.** Here is the share of right answers in each batch, measured before the policy is trained on that batch and averaged over the seeds. We leave out *fresh quarters* and *dynamic sampling*, because their batches aren't comparable. We looked at this only after the comparison, so it's an observation and not a test:

# %%
# NBVAL_CHECK_OUTPUT
arms = [arm for arm in differences["arm"] if arm not in ("fresh quarters", "dynamic sampling")]
by_batch = {
    arm: np.mean([runs[arm, seed]["log"]["rewards/math_reward/mean"] for seed in range(5)], axis=0)
    for arm in ["one update", *arms]
}
frame = pd.DataFrame(by_batch, index=[f"batch {number}" for number in range(1, 5)]).T
frame["entropy, batch 4"] = [
    np.mean([runs[arm, seed]["log"]["entropy"][-1] for seed in range(5)]) for arm in by_batch
]
frame.round({name: 2 for name in frame.columns[:4]} | {"entropy, batch 4": 3})

# %% [markdown]
# After one batch, all six arms in the table that update on quarters are well ahead of *one update* for every seed (on average, 0.90 to 0.94, compared with 0.69). So a policy that is updated more often may well need fewer answers to reach the same level, even if we can't measure a difference at the end. But we chose the rates based on the accuracy at the end. To compare speed, you'd have to choose the rates for speed.
#
# ## 5. What each change is for
#
# If none of these changes makes a visible difference here, why do they exist? Each change was designed for a problem that hardly arises in four batches of short sums. For each change, ask whether *your* run has that problem, and look for signs of it in the log:
#
# | change | the problem | what others report | here |
# |---|---|---|---|
# | clip-higher | entropy collapses in long runs, because rare tokens can't become more likely | introduced in [DAPO](https://arxiv.org/abs/2503.14476) because the entropy collapsed in long runs | only 16 updates, and 1% of the tokens are clipped |
# | GSPO | the ratios of individual tokens are noisy, especially in mixture-of-experts models | according to [its authors](https://arxiv.org/abs/2507.18071), it stabilizes the training of large mixture-of-experts models | a dense model, about 27 tokens per answer |
# | CISPO | a clip removes the gradient of the rare tokens at which reasoning changes direction | according to [its authors](https://arxiv.org/abs/2506.13585), models learned twice as fast as with DAPO; in [ScaleRL](https://arxiv.org/abs/2510.13786), CISPO and GSPO ended higher than DAPO's loss | the cap almost never acts |
# | SAPO | a hard clip throws away useful gradients | [its authors](https://arxiv.org/abs/2511.20347) report more stable runs and higher accuracy than with GSPO and GRPO | a clip would act on only 1% of the tokens |
# | Dr. GRPO, no scaling | if the loss of an answer is divided by its length, a long wrong answer is punished less per token, so wrong answers get longer; if the advantages are divided by the standard deviation, very easy and very hard prompts count more | wrong answers were shorter at the same accuracy ([2503.20783](https://arxiv.org/abs/2503.20783)); in ScaleRL, such choices change the speed, but they hardly change the ceiling | all answers have about the same length |
# | RLOO | PPO's critic and clip cost memory and tuning | it did better than PPO with human preferences ([2402.14740](https://arxiv.org/abs/2402.14740)) | GRPO has no critic either |
# | KL penalty | long runs drift away or collapse | DAPO drops it; [ProRL](https://arxiv.org/abs/2505.24864) keeps it for very long runs, and resets the reference from time to time | the KL is at most 0.05 nats |
# | entropy bonus | the policy becomes sure of itself too early | entropy collapses in many runs, and performance saturates as it does ([2505.22617](https://arxiv.org/abs/2505.22617)); [Skywork-OR1](https://arxiv.org/abs/2505.22312) adapts the bonus to a target entropy | it has hardly any effect: for four of the five seeds, the rewards are the same as without it |
# | overlong shaping | answers are cut off at the limit and get 0, whether they are right or wrong | one of DAPO's four changes | it has an effect: answers of more than 32 tokens are penalized. But hardly any answer was cut off, so there was nothing to gain |
# | dynamic sampling | more and more groups have zero variance | the largest single step in DAPO's ablation, from 42 to 50 points on AIME 2024; ScaleRL drops such groups without replacing them | it has an effect: 43% of the groups have zero variance without it, and 9% with it |
# | group size | small groups have noisy baselines; large ones leave fewer prompts per batch | groups of 2 can come close to groups of 16 at a fraction of the cost ([2510.00977](https://arxiv.org/abs/2510.00977)); the best size grows with the compute budget, up to a point ([2603.12151](https://arxiv.org/abs/2603.12151)); in ScaleRL, 8 to 32 made no difference | we found no difference, although 79% of the groups of 2 have zero variance |
#
# **What may be reversed at scale.** Two of our results may be different in large runs:
#
# - *Smaller batches and more updates.* *Fresh quarters* has the highest mean here. In ScaleRL, runs with large batches were slower at first but ended higher. Perhaps fast progress matters most in a short run, while the quality of each gradient matters more in a long run.
# - *Several updates per batch.* Here, four updates on quarters bring the policy to 92% after one batch, and we can't measure any disadvantage at the end. In long runs, the number of such updates is one of the three key factors behind the entropy, along with the clip and the diversity of the prompts ([2511.05993](https://arxiv.org/abs/2511.05993)). In our experiment, too, the arms that update on quarters end with a lower entropy (0.006 to 0.009 nats, compared with 0.020 for *one update*). This isn't true of *four uses*, which has half the learning rate. Four batches are probably too few for low entropy to do harm.
#
# **What this doesn't show.** This experiment doesn't show that the variants are equivalent. Sixteen of the 17 intervals lie within ±2.5 points, and in a paper, a difference of that size can decide which method looks better. All arms end near the ceiling, so a variant that raises the ceiling on hard tasks would show no advantage here. The coefficients of the penalties and the bonus weren't tuned, and the rates and the clip were chosen with a single seed. And an experiment with one policy, one task and answers of about 27 tokens says nothing about long reasoning.
#
# ## 6. Recipes are bundles
#
# So far, we have changed one thing at a time. Published recipes change several at once, so the result of a whole recipe says little about any single part. Here is what four of them contain, with the argument in TRL 1.14.2:
#
# | part | [DAPO](https://arxiv.org/abs/2503.14476) | [Dr. GRPO](https://arxiv.org/abs/2503.20783) | [Olmo 3](https://arxiv.org/abs/2512.13961) | [DeepSeek-V3.2](https://arxiv.org/abs/2512.02556) | in TRL |
# |---|---|---|---|---|---|
# | zero-variance groups | replaced by new ones | | dropped, and the batch is filled up | | not in TRL |
# | the loss is divided by | all tokens of the batch | a constant | all tokens of the batch | each answer's length | `loss_type`: `"dapo"`, `"dr_grpo"`, `"dapo"`, `"grpo"` |
# | advantages divided by the standard deviation | yes | no | no | | `scale_rewards`: `"group"` or `"none"` |
# | KL penalty | none | none | none | chosen for each domain, weak or zero for math; the estimate is weighted by the ratio | `beta`; the weighting, `use_bias_correction_kl`, is on by default |
# | clip | 0.2 below, 0.28 above | the same on both sides | higher above: [0.2 and 0.272](https://github.com/allenai/open-instruct/blob/main/open_instruct/grpo_utils.py) in the code | | `epsilon`, `epsilon_high` |
# | differences between sampler and trainer | | | truncated importance sampling (TIS) | the sampler's top-p and expert choices are kept for training | TIS: `vllm_importance_sampling_mode="token_truncate"`; keeping the choices: not in TRL |
# | answers from an older policy | | | | wrong answers that have become too unlikely are left out | `off_policy_mask_threshold` |
# | overlong answers | penalized gradually near the limit | | | | `get_soft_overlong_punishment` as a second reward |
#
# An empty field means that the part isn't one of the recipe's changes, or that we found no clear statement. For Olmo 3, we also read the [training scripts](https://github.com/allenai/open-instruct/tree/main/scripts/train/olmo3) and their defaults. For DeepSeek-V3.2, we read TRL's [paper index](https://huggingface.co/docs/trl/paper_index), which gives the formulas for the mask and the KL. Note that `loss_type="dapo"`, TRL's default, covers only one row of the DAPO column.
#
# ### Four runs on one model
#
# Sebastian Raschka's book *Build a Reasoning Model (From Scratch)* compares such bundles on Qwen3 0.6B Base, with 8 answers per prompt and at most 512 tokens in training. The four runs are the original GRPO with a KL penalty, the same without the penalty, and two bundles in the style of Olmo 3 and of DeepSeek-V3.2. The table shows the accuracy on MATH-500 after 50 and after 100 steps. Before training, the model scores 15.2%.
#
# **Predict first.** One of the four runs falls to 0.4% after 100 steps. Which one, and what could be the reason?
#
# | run ([source](https://github.com/rasbt/reasoning-from-scratch/blob/main/ch06/02_rlvr_grpo_scripts_intro/README.md)) | step 50 | step 100 |
# |---|---|---|
# | original GRPO, with KL | 33.4% | **0.4%** |
# | original GRPO, without KL | 47.4% | 44.0% |
# | in the style of Olmo 3 | 46.4% | 45.4% |
# | in the style of DeepSeek-V3.2 | 44.2% | 45.2% |
#
# The run with the penalty collapses, although a penalty is supposed to prevent that. The book suggests [two reasons](https://github.com/rasbt/reasoning-from-scratch/blob/main/ch07/01_main-chapter-code/ch07_main.ipynb). The penalty is computed on summed log-probabilities, so it grows with the length of the answer. And once all rewards in a group are equal, the penalty is the only source of gradient left.
#
# We see a third possible reason in the [published script](https://github.com/rasbt/reasoning-from-scratch/blob/main/ch07/03_rlvr_grpo_scripts_advanced/7_5_plus_kl.py). Its penalty is the mean of $\log \pi - \log \pi_\text{ref}$ over the sampled answers, which week 7 calls $k_1$. The *value* of $k_1$ is right on average. But the reference is a constant, so the *gradient* is that of $\log \pi$ alone, no matter what the reference is: every sampled answer is made less likely. For answers sampled from the current policy, the expected gradient is zero, so the penalty adds only noise and doesn't pull the policy back to the reference. The book's [log of a longer run](https://github.com/rasbt/reasoning-from-scratch/blob/main/ch07/02_logs/7_5_plus_kl_metrics.csv) fits this explanation: the entropy rises to 11.9 nats, which is nearly that of a uniform choice among Qwen3's 151,936 tokens. TRL uses $k_3$ multiplied by the ratio, and week 7 shows that the expected gradient of that product is the KL's.
#
# Be careful with this table:
#
# - Each row is a single run.
# - The runs with and without the penalty differ in other ways, too. For example, the published script with the penalty makes two updates per prompt. (The table was made with earlier versions of the scripts.)
# - Differences of 1 to 3 points among the other three runs are within the noise: on 500 problems, each accuracy has a standard error of about 2 points, and different seeds would add more.
#
# So the table shows that adding a KL penalty doesn't guarantee a stable run. It doesn't show that such penalties are harmful, or which bundle is best. In our experiment, the arm *KL 0.04* didn't change a single verdict.
#
# ### What others report
#
# We didn't reproduce the following results. They show what to expect on a GPU and at what cost:
#
# | source | model | settings | steps | result |
# |---|---|---|---|---|
# | [Tinker, math_rl](https://github.com/thinking-machines-lab/tinker-cookbook/blob/main/tinker_cookbook/recipes/math_rl/README.md), GSM8K | Qwen3.5-9B | LoRA rank 32, rate 8e-5, 32 groups of 64, at most 1,024 tokens | 220 | 96.2% right on the test set |
# | the same | Qwen3.5-9B | 64 groups of 8 | not stated | 94.5% |
# | the same, MATH | Qwen3.5-9B | LoRA rank 32, rate 2e-5, 64 groups of 16, at most 512 tokens | 180 | 83.8% |
# | [reasoning-from-scratch, chapter 6](https://github.com/rasbt/reasoning-from-scratch/blob/main/ch06/02_rlvr_grpo_scripts_intro/README.md), MATH-500 | Qwen3 0.6B Base | all weights, rate 1e-5, 8 answers to one prompt per step, no KL, at most 512 tokens | 50 | 15.2% to 47.4% |
#
# The last row is the only one that states the accuracy before training, and without it, you can't tell what RL added. But better reasoning doesn't explain the whole gain to 47.4%, either. A base model that doesn't put its answer into the expected form is marked wrong, so part of such a gain comes from the format (week 7 separates the two).
#
# ### DPO or RL?
#
# Use DPO if you have only pairs of better and worse replies or a judge that can only compare, and if training has to be cheap and stable. Use RL if a program can check an answer and the policy sometimes gets it right: RL keeps sampling from the current policy, so it can go beyond the replies in a dataset. In between lies [on-policy DPO](on_policy_pairs.ipynb), with fresh pairs in every round. Many recipes use both: Tülu 3 and Olmo 3 run DPO first and then RL with verifiable rewards.
#
# ## What you have now
#
# You now know what 18 changes to GRPO do, how to set them in TRL, and which of them are nearly the same. You also know what to match before you compare them, and how to work out which differences an inconclusive comparison could have detected. If an interviewer asks which variant you'd use, start with the underlying question: which of these problems shows up in the log of your run?
#
# **Papers.** Khatri et al. 2025, *ScaleRL* ([2510.13786](https://arxiv.org/abs/2510.13786)), change one component at a time in sufficiently long runs and measure how noisy the ceiling is (sections 3 and 4). Liu et al. 2025, *Tricks or Traps* ([2508.08221](https://arxiv.org/abs/2508.08221)), try the same tricks on several models, and their advice depends on the model and the data. Yu et al. 2025, *DAPO* ([2503.14476](https://arxiv.org/abs/2503.14476)), make four changes and explain which problem each one solves. Cheng et al. 2026, *IsoCompute Playbook* ([2603.12151](https://arxiv.org/abs/2603.12151)), show how to split a budget between prompts, answers and updates.
