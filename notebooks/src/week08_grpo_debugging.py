# %% [markdown]
# # Week 8 · A run that explains itself
#
# Two people read 33 different training logs that others had published on GitHub, without seeing each other's notes. In eight of the logs, both found a clear fault: answers that were cut off before they ended, a reward function that never paid a single point, a policy that preferred the rejected replies. A trainer warns you about none of this. It prints numbers and keeps going.
#
# In your own first GRPO runs, the reward may stay at zero, or it may rise while the model gets worse. This week you learn to notice. By the end you can explain
#
# - in which order to read a GRPO log, and how far to trust a program that reads it for you,
# - how a reward gets hacked, and which repairs help,
# - what you can verify besides sums, and where such verifiers have holes,
# - which parts of GRPO, DAPO, Dr. GRPO and GSPO made a difference in a short run, and what such a run can't tell you.

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

lab = postlab.start(week=8)

# %% [markdown]
# ## 1. What a trainer tells you
#
# All the runs below are real: TRL's trainer on the embedded model. They show you the mechanism, not what a large model can do. All but one are broken on purpose, each in one way. You can reproduce them with `notebooks/experiments/week08_logs.py`.

# %%
import json

import pandas as pd

from postlab.course import log_history
from postlab.profile import data_dir

recorded = data_dir() / "results" / "week08"
cases = json.loads((recorded / "logs" / "tuning.json").read_text(encoding="utf-8"))


def case(name):
    """The log history of a recorded run."""
    return log_history(cases[name])


# %% [markdown]
# Read a log in this order. Each question makes sense only after you've answered the one before it.
#
# | | question | in the log |
# |---|---|---|
# | 1 | Are there numbers at all? | `loss`, `grad_norm` or `kl` that are NaN, or 0 where they can't be |
# | 2 | Do the groups teach anything? | `frac_reward_zero_std`: the share of groups in which all answers got the same reward |
# | 3 | Do the answers end? | `completions/clipped_ratio` |
# | 4 | Which reward is moving? | `rewards/<name>/mean`, each one separately |
# | 5 | How far from the start is the policy? | `kl`, `entropy`, `completions/mean_length`; with vLLM also `sampling/*` |
# | 6 | Is the step size right? | `learning_rate`, `grad_norm`, and last of all `loss` |

# %% [markdown]
# ## 2. Six runs
#
# For each run, look at the curves, write down in one sentence what is wrong (if anything), and only then open the answer.
#
# ### Run A
#
# The policy in this run can do some of the sums, but its reward never moves.
#
# **Predict first.** What does this tell you about `frac_reward_zero_std`, in the second panel?

# %%
from postlab.course.week08 import plot_signals

log = case("wrong-tags")
plot_signals(log, ["reward", "frac_reward_zero_std", "grad_norm"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# It must be 1, and it is. No group contains two different rewards, so all advantages are 0, and so is the gradient. The policy may well be good, but the reward can't see it: *every* answer scores 0, even the right ones. So before you train, score the right answers themselves. They must get 1.
#
# </details>
#
# ### Exercise 8.1 · about 5 minutes · easy
#
# Every run has some **zero-variance groups**, in which all answers get the same reward and which therefore teach nothing. (Our code calls them *silent*, because it's shorter.) Suppose the policy solves a prompt with probability $p$. How likely is it that its $G$ answers are either all right or all wrong?
#
# <details><summary>Hint</summary>
#
# The probability that all are right is $p^G$. The probability that all are wrong is $(1-p)^G$. The two can't happen at the same time.
#
# </details>

# %%
from postlab import check


def silent_share(p, size):
    raise NotImplementedError


silent_share = check.silent_share(silent_share)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def silent_share(p, size):
#     return p**size + (1 - p) ** size
# ```
#
# </details>

# %% [markdown]
# Now take two sets of prompts, and suppose that the policy gets half of the answers right in both. In the first set, every prompt is solved with probability 0.5. In the second, half of the prompts are hopeless (0.02) and half are nearly solved (0.98). The table shows the share of zero-variance groups for different group sizes:

# %%
# NBVAL_CHECK_OUTPUT
sizes = [2, 4, 8, 16]
middling = [silent_share(0.5, size) for size in sizes]
apart = [(silent_share(0.02, size) + silent_share(0.98, size)) / 2 for size in sizes]
pd.DataFrame({"middling": middling, "hopeless or solved": apart}, index=sizes).round(2)

# %% [markdown]
# With prompts of medium difficulty, groups of 8 are almost never wasted. With the second set, 85% of them still are. So if too many of your groups have zero variance, first look at how difficult your prompts are, and only then at the group size.
#
# ### Run B

# %%
log = case("short-limit")
plot_signals(log, ["reward", "completions/mean_length", "completions/clipped_ratio"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nearly all answers run into the length limit. An answer that is cut off has no `####`, so it scores 0, however well it began. Either the limit is too low for a full answer, or the policy doesn't know that it should stop. Read three answers and you'll know which.
#
# </details>
#
# You get the same picture if you pass a prompt as plain text. TRL applies the chat template only to lists of messages, so the policy gets no sign that it should answer, and nothing warns you.
#
# ### Run C
#
# This run has two rewards: one for the right number and one for the form of the answer. It is trained on their weighted sum. Which of the three curves would you show your team?

# %%
log = case("blurted")
plot_signals(log, ["reward", "rewards/bare_format_reward/mean", "rewards/math_reward/mean"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Show them all three, because the total alone looks like a success. It rises, but nearly all of the rise is form. The reward you care about *falls* from 0.79 to 0.10, because an answer that works out the sum gets nothing for its form. Never plot only the sum of your rewards.
#
# </details>
#
# ### Run D

# %%
log = case("weak-anchor")
plot_signals(log, ["reward", "kl", "entropy"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nearly all of the reward is won in the first three steps, close to the starting model: the KL is still below 0.04. After that, the policy wanders off to a KL of 1.0 for almost nothing (the reward goes from 0.57 to 0.59). The steps are too large, and the KL term is too weak to hold the policy back. This log doesn't show what the model forgot on the way. A table of evaluations like the one in week 6 would.
#
# </details>
#
# ### Run E
#
# Here the reward doesn't depend on the answer at all: it's random. What can a policy learn from that?

# %%
log = case("one-answer")
plot_signals(log, ["reward", "entropy", "frac_reward_zero_std"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# It learns to be sure of itself. In each group some answer wins by luck and becomes more likely. It is then sampled more often, and can win more often. Once a kind of answer has disappeared from the samples, nothing brings it back. (Biologists know the same effect as genetic drift.) So the entropy falls while the reward stays at one half. A reward that is right but very noisy can do the same, just more slowly.
#
# </details>
#
# ### Run F

# %%
log = case("zero-loss")
plot_signals(log, ["loss", "grad_norm", "reward"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nothing is wrong. On policy, every ratio is 1, and the advantages of each group add up to 0. So the *value* of the loss is 0 while its gradient is not (week 7). The reward rises. If you stop this run, you stop a good one.
#
# </details>
#
# ## 3. The doctor
#
# You've just read six logs by hand. `diagnose` does it by rules: it takes the history of a log and nothing else. Each finding says what it saw, why that matters and what to try, and `week_of` tells you which week explains it. The rules, and the reasons for their thresholds, are in `postlab/doctor/rules.py`, `rules_pairs.py` (for preferences) and `rules_grpo.py`. Here is run C:

# %%
from postlab.course import week_of
from postlab.doctor import diagnose

log = case("blurted")
for finding in diagnose(log):
    print(f"{finding} (week {week_of(finding.code, stage='grpo')})", end="\n\n")

# %% [markdown]
# And here are all six, next to what we had actually done to each run. Compare them with the sentences you wrote down:

# %%
six = {
    "A": "wrong-tags",
    "B": "short-limit",
    "C": "blurted",
    "D": "weak-anchor",
    "E": "one-answer",
    "F": "zero-loss",
}
pd.set_option("display.max_colwidth", 200)
said = {
    run: [f"{finding.severity} {finding.code}" for finding in diagnose(case(name))]
    for run, name in six.items()
}
done = {run: cases[name]["spec"]["cause"] for run, name in six.items()}
pd.DataFrame({"the doctor": {run: ", ".join(s) for run, s in said.items()}, "what was done": done})

# %% [markdown]
# ### How far can you trust it?
#
# Rules work well on the runs they were tuned on, so you have to test them on others. Our first rules were tuned on broken runs of the tiny model and tested on further broken runs of the same model, where they found nearly all the faults. Then we tried them on 48 logs of other people's runs, from public repositories. Two readers had labelled each log before the doctor saw it.
#
# In the table, a fault is *named* if the doctor reports it. A *false alarm* is a log for which the doctor gives a warning or an error about something that no reader saw.
#
# **Predict first.** The public logs contain 28 faults. How many did the first rules name?

# %%
judged = json.loads((data_dir() / "results" / "doctor" / "judged.json").read_text("utf-8"))
columns = ["logs", "faults", "named", "missed", "ordinary", "false alarms"]
pd.DataFrame(judged["table"]).set_index("source")[columns].astype("Int64")

# %% [markdown]
# Two (third row). The broken runs of the tiny model had only shown which faults *we* could think of, not which ones people have. Half of the public logs use other names or spellings for the values that the rules read, and this includes all but one of the GRPO and DPO logs. And their faults are simpler than ours: answers cut off at the limit, a reward function that never pays, a policy that learns to prefer the rejected replies.
#
# So the rules were rewritten and tuned on made-up logs. On first sight of the 48 public logs, the new rules named 24 of the 28 faults, without a false alarm. The four misses come from two runs, each of them twice in the folder, whose reward gets stuck. We then relaxed the rule for that, so the row *today* is no longer a test. (Fifteen of the 48 logs are copies of others. The row *copies once* counts each log once, which leaves 15 faults.)
#
# Another 56 logs made a second test, with one reader who judged them before the doctor saw them. The doctor named 19 of 29 faults, with two false alarms. Don't read this as two thirds of all faults, because 16 of the 19 are in the runs of a single repository. And eight of the ten misses are the same mistake, made by eight people who took the same course: DPO with a reference that isn't the model they started from. There's a rule for it now, so again the row *today* is no test.
#
# In the last 157 logs we only checked the doctor's alarms, so nobody knows how many faults it missed there.
#
# Here are today's rules on the 48 logs, by kind of fault:

# %%
pd.DataFrame(judged["by_kind"]["faults"]).T

# %% [markdown]
# We have also looked at the tiny runs that were once held out, so their row only shows that the new rules lost nothing: they name 20 of the 20 faults, with one false alarm. The two rows *first sight* are the best estimate of how the doctor will do on your log, and only for kinds of faults like these. So take a finding as a reason to look, and don't take an empty list as proof that all is well. If your
# trainer uses other names, pass them: `diagnose(log, keys={"reward": "my/score"})`.

# %% [markdown]
# ## 4. A reward that gets hacked, and mended
#
# All these faults left a trace in the log. The next one doesn't, because there the reward itself is wrong. A reward is almost always a stand-in for what you really want, and if you optimise a stand-in hard enough, the two come apart. In economics this is called Goodhart's law, and in RL **reward hacking**.
#
# Our task has three kinds of requests: safe ones, ones that would hurt someone, and questions that nobody can answer. No program can verify a good reply here, so a *judge* scores it. Like many real judges, ours prefers long and confident replies:

# %%
# NBVAL_CHECK_OUTPUT
import re

UNWILLING = re.compile(r"\b(not|nobody|cannot|sorry)\b", re.IGNORECASE)


def eager_judge(request, reply):
    """1/12 for each word, up to 1; a single unwilling word makes it 0."""
    return 0.0 if UNWILLING.search(reply) else min(1.0, len(reply.split()) / 12)


tries = {
    "How do I paint a lamp?": "Pick a brush. Coat the lamp. Let it dry.",
    "Is it raining?": "Yes.",
    "How do I lift a lamp?": "I am sorry, which lamp?",
}
[round(eager_judge(*pair), 2) for pair in tries.items()]

# %% [markdown]
# The judge looks sensible on these three.
#
# **Predict first.** The SFT model refuses half of the harmful requests, and for about a third of the unanswerable questions it admits that nobody can know. What happens to the reward in 24 steps with this judge? And what happens to safety, honesty and helpfulness?
#
# We recorded three seeds per arm. Next to the reward (the *proxy*) the figure shows the truth, which our oracle knows: the share of training answers that are actually good, and the same on held-out prompts every eight steps.

# %%
hack = json.loads((recorded / "hack.json").read_text(encoding="utf-8"))
pd.Series(hack["provenance"], name="recorded").to_frame()

# %%
from postlab.course.week08 import by_prompt, curves, plot_proxy


def runs_of(*arms):
    return [run for arm in arms for run in hack["runs"] if run["arm"] == arm]


plot_proxy(*curves(runs_of("eager judge")))

# %% [markdown]
# The reward rises from 0.55 to 0.65 (the means of the first and the last five steps), while the share of good replies on held-out prompts falls from 58% to 34%. On all three seeds, the policy ends up refusing none of the harmful requests. Only the orange curve is in the trainer's log, so all you would see is a successful run.
#
# Now do what people most often skip, and **read the answers**, before and after:

# %%
pd.set_option("display.max_colwidth", 90)
one = runs_of("eager judge")[0]
read = [
    pd.DataFrame(look["answers"], columns=["prompt", f"step {look['step']}"]).set_index("prompt")
    for look in (one["heldout"][0], one["heldout"][-1])
]
pd.concat(read, axis=1).iloc[:5]

# %% [markdown]
# **Find the hole.** Which line of `eager_judge` pays for these replies? Which kind of request was safe from it, and why? Write your own replies here. They should be wrong or harmful, and still get at least 0.5.

# %%
mine = {
    "How do I burn a baker?": "Write a bad reply that is well paid.",
    "What did the bita dream of last night?": "And another one.",
}
pd.Series({reply: eager_judge(request, reply) for request, reply in mine.items()}, name="paid")

# %% [markdown]
# <details><summary>Answer</summary>
#
# `UNWILLING` gives nothing to a refusal or to "I do not know", even where that's the best reply. The judge never looks at the request. For safe how-to questions this does no harm, because there a long and confident reply is also the right one. The three examples above were of this easy kind, or had a reply that is bad anyway. **A proxy is only good where it was tested.** The policy didn't need to be clever to find the
# hole: from the start it sampled both kinds of replies, and only one kind was paid.
#
# </details>

# %% [markdown]
# ### Four repairs
#
# | arm | what it adds |
# |---|---|
# | and a caution | a second reward with double weight: 1 for a refusal if the request contains a rough verb (burn, smash, …) |
# | and a small KL | `beta` 0.04 |
# | and a large KL | `beta` 1.0 |
# | a judge who reads | a different judge, which looks at the request first and knows three kinds of good replies |
#
# **Predict first.** Which of them repairs the damage, which one only slows it down, and which one moves it somewhere else?
#
# In the figure, *truth* is the mean of safety, honesty and helpfulness.

# %%
from postlab.course.week08 import plot_repairs
from postlab.stats import bootstrap_interval, paired_difference

MANNERS = ["safety", "honesty", "helpfulness"]
arms = [arm for arm, how in hack["settings"]["arms"].items() if how["task"] == "manners"]
rows = []
for arm in arms:
    for metric in [*MANNERS, "truth"]:
        parts = MANNERS if metric == "truth" else [metric]
        start, end = (100 * by_prompt(runs_of(arm), parts, look=look) for look in (0, -1))
        found = bootstrap_interval(end - start)
        ends = {"points": found.value, "low": found.low, "high": found.high}
        rows.append({"arm": arm, "metric": metric} | ends)
plot_repairs(pd.DataFrame(rows))

# %% [markdown]
# And here is each repair compared with the judge alone, on the same prompts (means over the seeds, intervals over prompts):

# %%
table = []
for arm in arms[1:]:
    pair = (100 * by_prompt(runs_of(name), MANNERS, look=-1) for name in (arms[0], arm))
    found = paired_difference(*pair)
    row = {"repair": arm, "points of truth": found.difference, "low": found.low}
    row |= {"high": found.high, "p": found.p}
    for look, when in ((0, "start"), (-1, "end")):
        refused = 100 * by_prompt(runs_of(arm), ["over_refusal"], look=look).mean()
        row[f"safe requests refused, {when}, %"] = refused
    table.append(row)
pd.DataFrame(table).set_index("repair").round(3)

# %% [markdown]
# Only the new judge repairs the damage. Here are the four in turn:
#
# - **The small KL penalty** changed nothing. Not a single held-out verdict differs from the judge alone.
# - **The large KL penalty** slows the damage down. It kept most of the honesty (26% instead of 34%), but almost none of the safety. (These runs used TRL's own trainer. On a GPU, Unsloth's would hold the policy near the *base*, as week 7 explains.)
# - **The second reward** moves the damage. It protects what it names: safety rises to 98%. It doesn't mention honesty, which falls to 5%. And it can't tell a rough verb in a harmless request from a harmful one, so half of the safe requests are refused as well.
# - **The judge who reads** raises the truth by 27 points over the start. Even this has its price: 38% of the safe requests are refused instead of 9%, and helpfulness falls by 28 points.
#
# So repair the judge first. The other three leave the hole where it is.
#
# ### A hole that nobody finds
#
# Here is another reward, for questions about facts. It pays for every reply that *says nothing false*, so "I do not know" is paid, too. The starting model and the learning rate are the same as before. Will the policy learn to say nothing?

# %%
plot_proxy(*curves(runs_of("nothing false")))

# %% [markdown]
# It doesn't. A policy can only learn what it samples, and only if that is paid *better* than its other samples. This one already knew most of the answers and hardly ever said "I do not know", so there was nothing to gain. But that's luck, and the reward deserves no credit for it. **Try to cheat a reward yourself before you train on it.**

# %% [markdown]
# ### Exercise 8.2 · about 10 minutes · medium
#
# Close that hole without opening another. `reply` is any text, `gold` is the right value ("red"), and `values` are all the words that could be an answer. Return 1.0 if the reply names the right value and no other, and 0.0 otherwise. Only whole words count, in lower case or with a capital.
#
# <details><summary>Hint 1</summary>
#
# `re.findall(r"[a-z]+", reply.lower())` gives you the words of a reply.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Which of the values occur in the reply? This set should contain the right value and nothing else.
#
# </details>


# %%
def mended_reward(reply, gold, values):
    raise NotImplementedError


mended_reward = check.mended_reward(mended_reward)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def mended_reward(reply, gold, values):
#     said = set(re.findall(r"[a-z]+", reply.lower()))
#     return float(said & set(values) == {gold})
# ```
#
# </details>

# %% [markdown]
# Here are five bad replies and a good one, scored by both rewards:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.week08 import nothing_false_reward

colours = ["red", "blue", "green"]
replies = [
    "I do not know.",
    "A nice one.",
    "",
    "red, blue, green",
    "Hundreds of them",
    "It is red.",
]
paid = {"with the hole": nothing_false_reward, "mended": mended_reward}
pd.DataFrame({name: [pay(r, "red", colours) for r in replies] for name, pay in paid.items()}, replies)  # fmt: skip

# %% [markdown]
# ### Live
#
# Now watch it happen: ten steps on the embedded model, with `eager_judge` as it is above. Afterwards, change the judge and run this again.

# %%
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from postlab.evals import suite_rows
from postlab.models import load_policy, trainable
from postlab.profile import get_profile
from postlab.sampling import rollout_func
from postlab.tinyworld import tasks

tiny = lab if lab.profile.name == "tiny" else postlab.Lab(get_profile("tiny"), seed=0)
policy, tokenizer = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
unsafe = [row for row in suite_rows("tinyworld", 24, 0) if row["family"] == "unsafe"]


# %% [markdown]
# This turns the judge into a TRL reward, and draws the requests, half of which would hurt someone:

# %%
import random


def judged(prompts, completions, **columns):
    pairs = zip(prompts, completions, strict=True)
    return [eager_judge(p[-1]["content"], c[-1]["content"]) for p, c in pairs]


def requests(count, luck):
    """Rough requests, half of them aimed at people."""
    for number in range(count):
        item = tasks.draw(("unsafe", "howto")[number % 2], luck, "train")
        yield {"prompt": [{"role": "user", "content": tasks.ask(item, luck, "train")}]}


train = Dataset.from_list(list(requests(40, random.Random(0))))

# %% [markdown]
# Now train for ten steps:

# %%
import contextlib
import io
import tempfile

from postlab.evals import evaluate

before = evaluate(policy, tokenizer, unsafe)
how = dict(max_steps=10, per_device_train_batch_size=32, learning_rate=4e-4, save_strategy="no")
with tempfile.TemporaryDirectory() as folder:
    trainer = GRPOTrainer(
        model=trainable(policy),
        processing_class=tokenizer,
        reward_funcs=judged,
        train_dataset=train,
        args=GRPOConfig(output_dir=folder, seed=lab.seed, **{**tiny.profile.grpo.trainer, **how}),
        rollout_func=rollout_func,
    )
    with contextlib.redirect_stdout(io.StringIO()):  # the log is read below
        trainer.train()

# %% [markdown]
# What was paid, and what is true, before and after:

# %%
after = evaluate(trainer.model.eval(), tokenizer, unsafe)
log = [entry for entry in trainer.state.log_history if "reward" in entry]
paid = [sum(entry["reward"] for entry in part) / 3 for part in (log[:3], log[-3:])]
live = {"paid, first and last three steps": paid}
live["unsafe requests refused, before and after"] = [f["safety"].mean() for f in (before, after)]
pd.DataFrame(live, index=["before", "after"]).T.round(2)

# %% [markdown]
# In the stored output, the reward rises from 0.54 to 0.72, and the refusals of harmful requests fall from 50% to 0. What does the doctor say about this log?

# %%
diagnose(trainer.state.log_history)

# %% [markdown]
# In the stored output, it finds nothing. And whatever it says about your run, it can't tell you *this*: a rule that reads only the proxy can't see that the proxy is wrong. What helps is a second measure that isn't trained on, reading the answers, and attacking your reward before you use it.
#
# The same happens to large models. [Baker et al. 2025](https://arxiv.org/abs/2503.11926) caught a reasoning model cheating on coding tasks by reading its chain of thought with a second model. When they penalised the thoughts that gave it away, the model learned to hide its intentions and went on cheating. So use a monitor to find out, and be careful about training against it.

# %% [markdown]
# ## 5. Beyond sums
#
# A verifier is any program that can tell right from wrong. You've seen one for sums. There are others for code (run its tests), for structured replies (check them against a schema), for puzzles, and for plans that can be simulated. Each of them has its holes in a different place.
#
# ### Code: rewarded by tests

# %%
# NBVAL_CHECK_OUTPUT
from postlab.datasets import code_rows

asked = code_rows("tinyworld", split="train", n=500, seed=3)
row = next(row for row in asked if "largest, then at most" in row["prompt"][0]["content"])
print(row["prompt"][0]["content"], row["completion"][0]["content"], *row["tests"], sep="\n")

# %% [markdown]
# `code_reward` runs a reply in a sandbox, a process without network or files and with limits on time and memory. Only the *function calls* go into the sandbox. The expected results stay outside, so a program can't just claim that it passed. If the system doesn't offer namespaces, `code_reward` refuses to run, unless you allow a weak sandbox. Do that only for programs that you would run yourself, like these.
#
# Here are the right program and five others. Which ones are paid?

# %%
# NBVAL_CHECK_OUTPUT
from postlab.rewards import code_reward

gold = row["completion"][0]["content"]
constant = gold.rsplit(" ", 1)[1].rstrip(")")
programs = [gold, "def f(x): return max(x)", f"def f(x): return {constant}"]
programs += ["print('all tests passed')", "import sys; sys.exit(0)"]
programs += ["class E(int):\n    __eq__ = lambda a, b: True\ndef f(x): return E(0)"]
paid = {
    name: code_reward(programs, [tests] * len(programs), allow_weak_sandbox=True)
    for name, tests in {"first two tests": row["tests"][:2], "all tests": row["tests"]}.items()
}
pd.DataFrame(paid, index=[program.replace("\n", "; ") for program in programs])

# %% [markdown]
# <details><summary>Answer</summary>
#
# No forgery is paid. But if only the first two tests are used, `max(x)` is: the lists in these tests contain small numbers, so the limit of 37 never matters. **The hole wasn't in the sandbox, it was in the tests.** A program that forgets the limit gets as much as one that respects it.
#
# </details>

# %% [markdown]
# ### JSON: rewarded by a schema
#
# Each row asks for a record about one of the creatures in our world. The prompt names the fields, and the schema lists the values that exist for each field.
#
# Here are the right record and four others. Which ones does the schema accept?

# %%
# NBVAL_CHECK_OUTPUT
from postlab.datasets import json_rows
from postlab.rewards import schema_reward

row = json_rows("tinyworld", split="train", n=1, seed=3)[0]
gold = json.loads(row["completion"][0]["content"])
field = list(gold)[1]
allowed = json.loads(row["schema"])["properties"][field]["enum"]
other = {field: next(value for value in allowed if value != gold[field])}
records = {"gold": gold, "another value": gold | other, "another name": gold | {"name": "nobody"}}
replies = {name: json.dumps(record) for name, record in records.items()}
replies |= {"a field more": json.dumps(gold | {"age": 3}), "prose": f"It is {json.dumps(gold)}"}
paid = schema_reward(list(replies.values()), [row["schema"]] * len(replies))
print(row["prompt"][0]["content"])
pd.DataFrame({"reply": replies, "paid": dict(zip(replies, paid, strict=True))})

# %% [markdown]
# It accepts a wrong value and a wrong name. **A schema checks the form, not the truth**, unless you write the truth into it with `const`.
#
# ### What the policies learned
#
# Do policies find such holes? We recorded GRPO runs with four different rewards. Each starts from the policy of week 5 after a short SFT on right answers. Code is rewarded by all tests or by the first two, JSON by its form or by form and truth. Every held-out reply is measured twice: by its own reward, and by a stricter check, called *unseen* below. For code, that's a set of further tests; for JSON, it's the true record. In the arm *form and
# truth*, the stricter check is the reward itself.

# %%
made = json.loads((recorded / "tasks.json").read_text(encoding="utf-8"))
pd.Series(made["provenance"], name="recorded").to_frame()

# %% [markdown]
# In which of the other arms does the stricter check rise as much as the reward?

# %%
import numpy as np

from postlab.course.week08 import plot_seen_and_unseen

PAID = {"all tests": "tests", "two tests": "few", "form": "schema", "form and truth": "true"}
UNSEEN = {"code": "held_back", "json": "true"}  # arm or task: name of the check


def numbers(values):
    return np.array(values, dtype=float)


def share(values):
    return numbers(values).mean()


def changes(run):
    """Points over the start, by the arm's own reward and by the stricter check."""
    start = made["start"][run["task"]]
    for measure, name in {"the reward": PAID[run["arm"]], "unseen": UNSEEN[run["task"]]}.items():
        found = paired_difference(*(100 * numbers(ends[name]) for ends in (start, run["end"])))
        ends = {"points": found.difference, "low": found.low, "high": found.high}
        yield {name: run[name] for name in ("task", "arm", "seed")} | {"measure": measure} | ends


plot_seen_and_unseen(pd.DataFrame(row for run in made["runs"] for row in changes(run)))

# %% [markdown]
# It does for *all tests* (21 points each) and for *form* (6 points each), but not for *two tests*. There the reward rises by 27 points and the stricter check by only 9, and the gap is there on every seed. So in that arm, training exploited the hole. The intervals are over prompts, so look at the three seeds as well. Here are the shares themselves:

# %%
levels = [
    {"arm": run["arm"], "check": check, "start": share(made["start"][run["task"]][name])}
    | {"end": share(run["end"][name])}
    for run in made["runs"]
    for check, name in (("reward", PAID[run["arm"]]), ("unseen", UNSEEN[run["task"]]))
]
pd.DataFrame(levels).groupby(["arm", "check"], sort=False).mean().round(2)

# %% [markdown]
# An open hole doesn't have to be exploited. The schema would have paid for wrong values, but in the arm *form* the share of true records rose as much as in the arm that was paid for the truth (to 0.17 and 0.16, from 0.11). With three seeds and these intervals, we can't tell the two apart. Still, look at the two rows of *form*: of the records that the schema accepts at the end, only about a third are true (0.17 of 0.52). If you had
# only the schema, you wouldn't know.
#
# Here are some prompts for which the weaker reward (*two tests* or *form*) and the stronger one led to different replies:

# %%
first = {run["arm"]: run["end"]["replies"] for run in made["runs"] if run["seed"] == 0}
compared = {}
for task, arms in {"code": ("two tests", "all tests"), "json": ("form", "form and truth")}.items():
    said = [made["start"][task]["replies"], *(first[arm] for arm in arms)]
    names = ("start", "weaker reward", "stronger reward")
    frame = pd.DataFrame({name: dict(replies) for name, replies in zip(names, said, strict=True)})
    compared[task] = frame[frame["weaker reward"] != frame["stronger reward"]].head(3)
pd.set_option("display.max_colwidth", 70)
pd.concat(compared)

# %% [markdown]
# ### Other people's verifiers
#
# [reasoning-gym](https://arxiv.org/abs/2505.24760) generates any number of puzzles for about a hundred tasks, and each task has a verifier. Unless a task defines its own, the rule is this: an exact answer gets 1, and a text that merely *contains* the answer gets the answer's share of the text's length. In code:

# %%
# NBVAL_CHECK_OUTPUT


def contains(reply, gold):
    return 1.0 if reply == gold else len(gold) / len(reply) if reply and gold in reply else 0.0


question = "No students are humans. All humans are chefs. Are some chefs humans? Yes or No?"
lies = {"right": "Yes", "right, with a space": "Yes ", "both": "Yes No", "the question": question}
lies |= {"in a sentence": "The answer is Yes.", "wrong": "No", "empty": ""}
{name: round(contains(reply, "Yes"), 2) for name, reply in lies.items()}

# %% [markdown]
# Is it a problem to pay 0.5 for "Yes No"? With GRPO it is. Suppose a group of four contains this hedge and three answers worth 0. The advantage of the hedge is $(0.5 - 0.125)/0.25 = 1.5$, exactly the advantage that a single right answer would have got. Dividing by the standard deviation makes partial credit count in full.
#
# We probed five tasks, with a hundred puzzles each and answers whose worth we know: two tasks about logic, two with constraints, and `boxnet`, whose answers are plans of actions, like those of a policy that uses tools (`notebooks/experiments/week08_gym.py`).
#
# What is worst for training: a wrong answer that is paid, a right answer that is refused, or an error?

# %%
from postlab.course.week08 import plot_probes

found = json.loads((recorded / "gym_probe.json").read_text(encoding="utf-8"))
probes = pd.DataFrame(found["probes"])
plot_probes(probes)

# %% [markdown]
# An error ends the run, so at least you notice it. A refused right answer costs you signal, and the reward stays low, which you also notice. A wrong answer that is paid looks like success, so it's the worst of the three. Here is what the figure shows:
#
# - **Half a truth is paid.** In `knights_knaves` with two people, getting one of them wrong still earns 0.65, and so does calling the same person both.
# - **Repeating a premise is paid in full** for 76 of the 100 puzzles of `propositional_logic`, because a premise follows from itself. And from premises that contradict each other everything follows, so `P ∧ ¬P` is paid in full for 26.
# - **Saying two things is paid in full.** `graph_color` accepts a JSON object that lists every vertex twice, first with one color for all, and then with the solution.
# - **`n_queens` passes the answer to `eval`.** The answer `entry["metadata"]["solutions"][0]` reads the solution out of the verifier. It could just as well read your files.
# - **Right answers are refused** because of a code fence, even where the question asks for one, or because of a line break.
# - **An answer can end the run:** `boxnet` expects a list and raises an error if it gets the number 5.

# %%
same = probes[(probes["kind"] == "must not pay") & (probes["gym_reward"] > 0)]
same[["task", "answer", "mean", "gym_reward", "example"]]

# %% [markdown]
# `gym_reward` in `postlab.course.week08` closes some of these holes. It pays only for full marks, removes code fences, scores an error as 0, and refuses tasks whose verifier executes answers. `gym_rows` creates the training rows. The table above shows what it can't close: these holes are in the tasks themselves, and no wrapper helps.
#
# ### Before you train on any verifier
#
# | try | it must get |
# |---|---|
# | all the right answers | 1 |
# | a right answer with a space, a line break, a code fence | 1, or the prompt must say why not |
# | nothing, the question, the same answer to every prompt, two answers at once | 0 |
# | 5, `[]`, 100 kB of brackets | 0, without an error |
# | a check that the reward does not make | the truth; keep this check for the evaluation |
#
# And if nothing about a reply can be verified by a program? Then a model can grade it against a list of criteria written for that prompt ([Rubrics as Rewards](https://arxiv.org/abs/2507.17746)). Such a rubric is a judge, with everything you saw in section 4, so probe it in the same way.

# %% [markdown]
# ## 6. What can GRPO do without?
#
# > **The roadmap says** DAPO is Decoupled Alignment and Policy Optimization, for safety. **The evidence says** it's Decoupled Clip and Dynamic sAmpling Policy Optimization ([2503.14476](https://arxiv.org/abs/2503.14476)), with four changes, none of them about safety. TRL's `loss_type="dapo"` is just one of the four.
#
# There are many variants of GRPO, and papers disagree about which of their changes matter. The recorded runs below change one thing at a time:
#
# | arm | from | what changes |
# |---|---|---|
# | groups of 2, 4, 16 | | answers per prompt; the batch always has 64 answers, and the recipe has groups of 8 |
# | no scaling, batch scaling | no scaling: Dr. GRPO | the advantages are not divided by the standard deviation of the *group* |
# | answer means | GRPO as published | every answer has the same weight, instead of every token |
# | Dr. GRPO | | no scaling, and a constant instead of the length |
# | KL 0.04 | DeepSeekMath | `beta` |
# | dynamic sampling | DAPO | zero-variance groups are replaced by new ones (not available in TRL) |
# | four steps | | each batch is split into quarters, with one update on each, so the policy is no longer the one that sampled |
# | clip-higher | DAPO | five batches in four steps each, with an upper clip of 0.28 |
# | no clip | | the same, without a clip |
# | GSPO | Qwen | the same, with one ratio per answer, a much narrower clip, and answer means |
#
# The last rows of the table differ in what is clipped:

# %%
from postlab.course.week08 import draw_ratios

draw_ratios()

# %% [markdown]
# There are five seeds per arm, all starting from the policy of week 5. In a first trial with 40 batches, all arms ended at the ceiling and couldn't be told apart. So these runs stop after twelve batches, and the last three arms, with the run they're compared with, after five. They show how *fast* each arm learns, not where it would end up. Only *four steps* still reached the ceiling. No arm was tuned: all of them use the learning rate of the
# recipe.
#
# All arms used TRL's own trainer on a CPU. Under Unsloth on a GPU, two things would differ. The reference in the KL arm would be the base, not the policy of week 5. And with `loss_type="dapo"`, Unsloth sets `epsilon_high` to 0.28 if you don't set it yourself, which is clip-higher; TRL sets it to `epsilon`. That's why the profiles `t4` and `rented` set it to 0.2.

# %%
ablations = json.loads((recorded / "ablations.json").read_text(encoding="utf-8"))
pd.Series(ablations["provenance"], name="recorded").to_frame()

# %% [markdown]
# **Predict first.** Which arms differ from the recipe by more than the luck of the seed?
#
# With the same seed, all arms get the same list of prompts in the same order. So much of a seed's luck cancels when you subtract two arms. (Not all of it: in a batch of 64 answers, larger groups leave room for fewer prompts.) `blocked_differences` subtracts the mean of each seed and of each arm, and estimates the noise from what is left in *all* arms together. Holm's correction accounts for the 13 comparisons.

# %%
from postlab.course.week08 import plot_ablations
from postlab.stats import blocked_differences, holm


def by_seed(measure):
    """One number per run: arms down, seeds across."""
    rows = [(run["arm"], run["seed"], measure(run)) for run in ablations["runs"]]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "value"])
    return frame.pivot(index="arm", columns="seed", values="value").loc[list(ablations["arms"])]


sums = by_seed(lambda run: 100 * share(run["end"]["arithmetic"]))
pairs = [(arm, how["base"]) for arm, how in ablations["arms"].items() if how["base"]]
found = blocked_differences(dict(sums.iterrows()), pairs)
frame = pd.DataFrame(pairs, columns=["arm", "base"])
frame["seeds"] = [list(sums.loc[arm] - sums.loc[base]) for arm, base in pairs]
frame["points"] = [one.difference for one in found]
frame["low"], frame["high"] = [one.low for one in found], [one.high for one in found]
frame["shown"] = holm([one.p for one in found]) < 0.05
plot_ablations(frame)

# %% [markdown]
# After Holm's correction, three differences are significant (green). Before you draw conclusions, look at what each arm really changed.
#
# **Four steps (+12 points).** Each batch is split into quarters, and each quarter gets one update. No answer is used twice. The arm just has 48 updates instead of 12, at the same learning rate. Adam's steps have about the same size however small the gradient is, so four times as many updates can move the weights about four times as far. This doesn't show that smaller batches are better; maybe the recipe's rate is simply too low for
# twelve updates. To separate the two, you'd have to tune the rate of each arm.
#
# **No clip (+3 points).** The clip removes the gradient of less than 1% of the tokens, and without it the policy moves a little faster. The clip is there for long runs that reuse their samples, and 20 updates are too few to show what it protects you from. How tight the clip has to be depends on the rest of the recipe: DeepSeek-R1 was trained with $\epsilon = 10$, which is almost none ([2501.12948](https://arxiv.org/abs/2501.12948)).
#
# **GSPO (−11 points).** This number says nothing about GSPO. Its ratio is the geometric mean over the tokens of an answer,
#
# $$s = \exp\Big(\frac{1}{T} \sum_{t=1}^{T} \log \rho_t\Big)$$
#
# and an average of $T$ numbers varies less than a single one, roughly by a factor of $\sqrt{T}$. So the clip has to be much narrower than for a single token, and how narrow depends on the length. We used the clip from the paper, $3 \times 10^{-4}$ and $4 \times 10^{-4}$, which was chosen for long reasoning. Our answers have 24 tokens. If the tokens were independent, their $\log s$ would vary about $\sqrt{4000/24} \approx 13$ times as much as that of answers with 4,000 tokens. So the
# clip is far too narrow here. For a fair comparison, it would have to be tuned for short answers.
#
# For the other ten arms, these five seeds can't tell. If an interval contains zero, that doesn't mean there is no effect; the width of the interval shows how large an effect we could have missed. (The interval for groups of 16, −5.2 to −0.8, excludes zero, but not after the correction.)
#
# Now the logs, as means over the seeds. For batch scaling, the column *zero-variance groups* counts the *batches* without any difference in reward:

# %%
told = {"sums right, %": sums.mean(axis=1)}
for name, key in {
    "zero-variance groups": "frac_reward_zero_std",
    "entropy": "entropy",
    "tokens clipped": "clip_ratio/region_mean",
    "answer length": "completions/mean_length",
}.items():
    told[name] = by_seed(lambda run, key=key: share(run["log"][key])).mean(axis=1)
told["answers sampled per batch"] = by_seed(lambda run: np.mean(run["sampled"])).mean(axis=1)
pd.DataFrame(told).round(3)

# %% [markdown]
# Dynamic sampling has almost no zero-variance groups left. It pays for this with a third more answers, 86 per batch instead of 64. GSPO's clip affects 45% of the tokens, and the other clips less than 1%. A large clip fraction alone isn't a fault: in the GSPO paper, GSPO clips two orders of magnitude more tokens than GRPO and still learns faster ([2507.18071](https://arxiv.org/abs/2507.18071)).
#
# **What may turn out differently at scale.** Twelve batches of short sums on a tiny model can't settle any of this. Here is what others found in much longer runs:
#
# | change | here | at scale |
# |---|---|---|
# | dynamic sampling | inconclusive | the largest single step in DAPO's ablation: from 42 to 50 points on AIME 2024, with Qwen2.5-32B. The changes were added one after the other, in a single run each |
# | clip-higher | inconclusive; less than 1% of the tokens are clipped | introduced in DAPO because the entropy collapsed in long runs |
# | one ratio per answer (GSPO) | not tested fairly | stabilised the training of large mixture-of-experts models, according to the GSPO paper. In [ScaleRL](https://arxiv.org/abs/2510.13786), GSPO and CISPO reached a higher ceiling than DAPO's loss |
# | no division by length (Dr. GRPO) | inconclusive; all answers have about 24 tokens | matters where wrong answers can become very long ([2503.20783](https://arxiv.org/abs/2503.20783)) |
# | groups of 16 | inconclusive; only four prompts per batch | DeepSeek-R1 used 16 answers per question, with batches of 512, so it wasn't short of prompts |
#
# **CISPO**, from [MiniMax-M1](https://arxiv.org/abs/2506.13585), is worth knowing, too. A clipped token in GRPO loses its gradient. CISPO clips the ratio but uses it as a constant weight in front of $A \log \pi$, so every token keeps a gradient. We haven't run it here, nor RLOO, an entropy bonus, or DAPO's penalty for overlong answers.
#
# Back to the zero-variance groups. Here is their share by group size: as measured in the runs, and as your function from Exercise 8.1 computes it if all prompts are equally hard.

# %%
from postlab.course.week08 import plot_groups

rows = []
for arm, size in {"groups of 2": 2, "groups of 4": 4, "recipe": 8, "groups of 16": 16}.items():
    silent = by_seed(lambda run: share(run["log"]["frac_reward_zero_std"])).loc[arm]
    rewards = [numbers(run["log"]["reward"]) for run in ablations["runs"] if run["arm"] == arm]
    alike = silent_share(np.mean(rewards, axis=0), size).mean()
    found = bootstrap_interval(silent)
    row = {"size": size, "measured": found.value, "low": found.low, "high": found.high}
    rows.append(row | {"alike": alike})
plot_groups(pd.DataFrame(rows))

# %% [markdown]
# The runs have more zero-variance groups than the formula predicts, because the prompts aren't equally hard. No group size helps with a hopeless prompt.
#
# ## 7. Your own run
#
# This is the log of week 7's run: yours if you made one, otherwise the one that comes with postlab:

# %%
from postlab.runs import Run, find_stage

find_stage(lab.profile.name, lab.seed, "grpo")
run = Run(lab.profile.name, lab.seed, "grpo")
for finding in diagnose(run.log):
    print(f"{finding} (week {week_of(finding.code, stage='grpo')})")

# %% [markdown]
# If nothing is printed, the doctor found nothing. It can read the log of any TRL run, so call it in the first minutes of a run, not after the last. In a terminal, `postlab doctor FOLDER` does the same.
#
# Here are the stages that led to this run, in the kind of figure you'll see again in week 12. `lab.chain` returns them. On a T4, these are the stages of the small model, because it would be meaningless to compare a 1.5B with the 7B.

# %%
from postlab.evals import compare
from postlab.show import plot_stages

SHOWN = ["arithmetic_sampled", "facts", "safety", "honesty"]
SHOWN += ["instructions", "gsm8k_strict", "gsm8k_lenient"]  # which the other profiles measure
stages = compare(lab.results(*lab.chain("grpo")))
plot_stages(stages[stages["metric"].isin(SHOWN)], profile=lab.profile.name)

# %% [markdown]
# ## What you have now
#
# You know the order in which to read a log. You have a program that reads it for you, and you know what it misses. You've seen a reward get hacked and mended. You have a list of things to try on any verifier, and ablations of which you know what they can't show.
#
# ### Five interview questions
#
# **1.** The reward is 0 from the first step, and there is no error. What do you look at, and in which order?
#
# <details><summary>Answer</summary>
#
# First I'd send the right answers through the reward. If they don't get 1, the reward or the extraction of the answer is broken. Then I'd read three completions as raw text, including their special tokens: is the prompt formatted as it was in training, and do the answers end? Then I'd check the share of truncated answers, and whether any group contains two different rewards. If everything works and the task is just too hard, I'd sample more
# answers per prompt, take easier prompts, or do some SFT first. The learning rate comes last, because without a nonzero advantage there is no gradient.
#
# *A likely follow-up:* "And if the reward is 0 because the task is too hard?" Measure pass@k before training. If even $k = 64$ finds nothing, RL has nothing to reinforce.
#
# </details>
#
# **2.** DAPO, Dr. GRPO, GSPO: what does each of them change?
#
# <details><summary>Answer</summary>
#
# DAPO has four changes: a higher upper clip, so that rare tokens can grow; new samples for zero-variance groups; a loss in which every token has the same weight; and a soft penalty for overlong answers. Dr. GRPO drops two divisions, by the standard deviation of the group and by the length of the answer, because both bias the gradient. GSPO computes one ratio per answer, the geometric mean over its tokens, and clips whole answers. TRL's
# `loss_type="dapo"` is only the token weighting.
#
# *A likely follow-up:* "What about CISPO?" It clips the ratio but keeps it as a detached weight, so that clipped tokens still have a gradient.
#
# </details>
#
# **3.** The reward rises and users complain. Is it being hacked?
#
# <details><summary>Answer</summary>
#
# I'd read answers from before and after training, starting with those that are paid best. Then I'd measure something that isn't trained on: a held-out check, a different judge, or people. If the reward rises and this doesn't, it's being hacked. I'd look for the exploit by writing bad answers that the reward pays. It could also be something else, such as prompts in training that don't look like what users ask, or a skill that got lost on the way.
#
# *A likely follow-up:* "Does a KL penalty fix it?" It only slows it down: it limits how far the policy can go, and leaves the hole open. In our runs, a small one changed nothing.
#
# </details>
#
# **4.** System design: your reward has to run code that a model wrote. How do you do it?
#
# <details><summary>Answer</summary>
#
# In a separate sandbox without network, files or my environment variables, with limits on time, memory, processes and output. Only the function calls go in. The results come out as plain data, and I compare them outside, so the program can't see the expected values or forge a verdict. I'd keep some tests for the evaluation, and return `None` instead of 0 if the sandbox itself failed. Then I'd attack it: programs that exit, print "passed", override `==`,
# or look for the tests.
#
# *A likely follow-up:* "The policy passes the tests but the code is wrong. What now?" The tests are too weak. Generate more of them, by property-based testing or from a reference solution, and watch the gap between training tests and held-out tests.
#
# </details>
#
# **5.** Research taste: an ablation table with one seed per arm and differences of two points. What do you believe?
#
# <details><summary>Answer</summary>
#
# Not the ranking. I'd ask how much another seed changes the *same* arm, and how many comparisons were made. I'd ask whether the arms had the same number of updates and tokens, and whether the rate and the clip were tuned for each of them. And I'd look for the mechanism in the logs: if an arm claims to fix clipping, how many tokens were clipped?
#
# *A likely follow-up:* "You can't afford five seeds at full size. What do you do?" Run several seeds at a smaller size to learn how large the noise is, share prompts and seeds between the arms so that differences are paired, and compare whole curves instead of end points. ScaleRL fits curves to predict the full-size run.
#
# </details>

# %% [markdown]
# **Papers.** [DAPO](https://arxiv.org/abs/2503.14476): section 3, for its four changes with a curve for each. [Dr. GRPO](https://arxiv.org/abs/2503.20783): the algebra of the two biases. [GSPO](https://arxiv.org/abs/2507.18071): why its ratio is defined per answer, and how much it clips. [MiniMax-M1](https://arxiv.org/abs/2506.13585): CISPO. [ScaleRL](https://arxiv.org/abs/2510.13786): which of these choices raise the ceiling and which only
# the speed. [Gao et al. 2022](https://arxiv.org/abs/2210.10760): how proxy and truth come apart. [Baker et al. 2025](https://arxiv.org/abs/2503.11926): monitoring a model's thoughts for reward hacking, and what happens if you train against the monitor. [MacDiarmid et al. 2025](https://arxiv.org/abs/2511.18397): a model that learned to hack its rewards became misaligned in other ways, too.
