# %% [markdown]
# # Week 8 · A run that explains itself
#
# In week 7 the curves behaved. Most first runs of one's own do not: the reward stays at nought, or it rises and the model gets worse. The trainer says neither. In this notebook you read the logs of runs that were broken on purpose, first by eye and then with `postlab.doctor`, and
# learn which curve to look at first.
#
# This week is **in its first form**: reading logs is here. The ablations of GRPO's parts, a reward that is hacked and repaired, and rewards beyond sums are still to come.
#
# By the end you can say
#
# - in which order to look at a GRPO log, and why the loss comes last,
# - what no signal, truncation, a bought format, a lost start and a collapsed entropy look like,
# - which ugly curves are no fault,
# - how far to trust a program that reads curves.

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("postlab") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "..[train]"], check=True)
    subprocess.run([sys.executable, "-m", "postlab.install"], check=True)
import postlab

lab = postlab.start(week=8)

# %% [markdown]
# ## 1. What a trainer tells you
#
# Every run below is a real one: TRL's own trainer on the embedded model, broken in one stated way, its log kept whole. They show *mechanism, not capability*. `notebooks/experiments/week08_logs.py` makes them again.

# %%
import json

import pandas as pd

from postlab.profile import data_dir

recorded = data_dir() / "results" / "week08"


def case(name):
    """The log history of a recorded run, and what was wrong with it."""
    run = json.loads((recorded / "logs" / f"{name}.json").read_text(encoding="utf-8"))
    return run["log_history"], run["spec"]["cause"]


# %% [markdown]
# Look in this order. Each question makes sense only once the one before it has its answer.
#
# | | question | in the log |
# |---|---|---|
# | 1 | is there a number at all? | `loss`, `grad_norm` that are NaN, or 0 where they cannot be |
# | 2 | do the groups teach? | `frac_reward_zero_std`: the share whose answers all got the same reward |
# | 3 | do answers end? | `completions/clipped_ratio` |
# | 4 | which reward moves? | `rewards/<name>/mean`, each by itself |
# | 5 | how far from the start? | `kl`, `entropy`, `completions/mean_length` |
# | 6 | is the step right? | `learning_rate`, `grad_norm`, and last of all `loss` |

# %% [markdown]
# ## 2. Six runs
#
# For each: look, write down one sentence, and only then unfold.
#
# ### Run A
#
# **Predict first.** The policy can do some of these sums. Before you look: what must the second panel show for the first to stay where it is?

# %%
from postlab.figures_week08 import plot_signals

log, cause = case("development-wrong-tags")
plot_signals(log, ["reward", "frac_reward_zero_std", "grad_norm"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# No group has two different rewards, so every advantage is 0 and so is the gradient. The policy is not bad, it is unheard: *all* answers are scored 0. Before any training, score the gold answers themselves. They must get 1.
#
# </details>

# %%
print("What had been done:", cause)

# %% [markdown]
# ### Run B

# %%
log, cause = case("development-short-limit")
plot_signals(log, ["reward", "completions/mean_length", "completions/clipped_ratio"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nearly all answers run into the limit. A cut answer has no `####`, so it is scored 0, however well it began. Either the limit is too low for honest work, or the policy does not know that it should stop. Read three answers: they tell which.
#
# </details>

# %%
print("What had been done:", cause)

# %% [markdown]
# The same picture comes from a prompt given as plain text: TRL applies the chat template to message lists only, so the policy gets no sign that it should answer, and nothing says so.
#
# ### Run C
#
# **Predict first.** Two rewards, one for the right number and one for how the answer looks. The sum of both is what is trained. Which curve would you show your team?

# %%
log, cause = case("development-blurted")
plot_signals(log, ["reward", "rewards/bare_format_reward/mean", "rewards/math_reward/mean"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The total rises, and nearly all of it is form. The reward that was meant falls, because working a sum out costs the form its points. Never plot only the sum of rewards.
#
# </details>

# %%
print("What had been done:", cause)

# %% [markdown]
# ### Run D

# %%
log, cause = case("development-weak-anchor")
plot_signals(log, ["reward", "kl", "entropy"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The reward is won in a few steps by leaving the start behind. What the model knew of anything else is not in this log; week 6's table would show it. The step is too large, and the weight of the KL too small to hold it.
#
# </details>

# %%
print("What had been done:", cause)

# %% [markdown]
# ### Run E
#
# **Predict first.** Here the reward does not depend on the answer at all. What can a policy learn from that?

# %%
log, cause = case("development-one-answer")
plot_signals(log, ["reward", "entropy", "frac_reward_zero_std"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# It learns to be sure. In a group some answer wins by luck, becomes more likely, is drawn more often, and wins more often. Entropy falls and nothing was bought for it. A reward with much noise does the same, only slower.
#
# </details>

# %%
print("What had been done:", cause)

# %% [markdown]
# ### Run F

# %%
log, cause = case("development-zero-loss")
plot_signals(log, ["loss", "grad_norm", "reward"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nothing is wrong. On policy the ratio is 1 and the advantages of a group sum to 0, so the *value* of the loss is 0 while its gradient is not (week 7). The reward rises. Whoever stops this run stops a good one.
#
# </details>

# %%
print("What had been done:", cause)

# %% [markdown]
# ## 3. The doctor
#
# `diagnose` reads a log history and nothing else. Each finding says what is seen, why it matters, what to try, and which week explains it. Its rules are functions of a few lines, thresholds beside them with their reasons (`postlab/doctor_rules.py`). Run C again:

# %%
from postlab.doctor import diagnose

log, cause = case("development-blurted")
for finding in diagnose(log):
    print(finding, end="\n\n")

# %% [markdown]
# All six, and what it says of each. Compare with your sentences.

# %%
six = {
    "A": "development-wrong-tags",
    "B": "development-short-limit",
    "C": "development-blurted",
    "D": "development-weak-anchor",
    "E": "development-one-answer",
    "F": "development-zero-loss",
}
said = {
    run: [f"{finding.severity} {finding.code}" for finding in diagnose(case(name)[0])]
    for run, name in six.items()
}
pd.Series({run: ", ".join(codes) for run, codes in said.items()}, name="the doctor").to_frame()

# %% [markdown]
# ### How far to trust it
#
# Rules that were tuned on some runs will know those. So the runs were made in two halves: rules and thresholds were set on the first, then frozen, and only then was the second half made, with other causes or other settings. Twice the second half showed a fault in the rules. They were mended, those runs went to the first half, and a
# new second half was made. Below is the third.
#
# **Predict first.** How many of the second half's faults does it name, and how often does it cry wolf?

# %%
from postlab.figures_week08 import plot_verdicts

verdicts = json.loads((recorded / "doctor.json").read_text(encoding="utf-8"))["late"]
plot_verdicts(pd.DataFrame(verdicts["logs"]))

# %% [markdown]
# The one it does not name was made to collapse in entropy, and did not: the log is labelled by what had been done, not by what came of it. So for that rule there is no test yet that it had not seen.
#
# All these logs come from one small model and one kind of task, and the same people broke the runs and wrote the rules. On your model a threshold may sit elsewhere. A finding is a reason to look, and an empty list is no certificate: a reward that pays for the wrong thing, with no second measure beside it, looks like
# success in every curve.
#
# ## 4. Your own run
#
# The log of week 7's run, yours if you made it, else the one that comes with postlab:

# %%
from postlab.runs import Run, find_stage

find_stage(lab.profile.name, lab.seed, "grpo")
run = Run(lab.profile.name, lab.seed, "grpo", "dpo")
for finding in diagnose(run.log):
    print(finding)

# %% [markdown]
# `diagnose(trainer.state.log_history)` takes any TRL run. Call it in the first minutes and not after the last.
#
# ## What you have now
#
# An order in which to look, six pictures to compare with, and a reader of logs whose misses you know. To come in this notebook: which of GRPO's parts it can do without, a reward that is hacked and mended, and code and JSON in place of sums.
