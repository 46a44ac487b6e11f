# %% [markdown]
# # Week 8 · A run that explains itself
#
# In week 7 the curves behaved. In your own first runs they may not: the reward stays at zero, or it rises while the model gets worse, and the trainer tells you neither. By the end you can say
#
# - in which order to look at a GRPO log, and how far to trust a program that reads it,
# - how a reward is hacked, and which repairs hold,
# - what to verify beyond sums, and where verifiers have holes,
# - which parts of GRPO, DAPO, Dr. GRPO and GSPO matter in a short run, and how sure that is.

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
# Every run below is real: TRL's trainer on the embedded model (*mechanism, not capability*). All but one are broken on purpose, each in one way. `notebooks/experiments/week08_logs.py` makes them again.

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
# Look in this order. Each question makes sense only once the one before it has its answer.
#
# | | question | in the log |
# |---|---|---|
# | 1 | is there a number at all? | `loss`, `grad_norm`, `kl` that are NaN, or 0 where they cannot be |
# | 2 | do the groups teach? | `frac_reward_zero_std`: the share whose answers all got the same reward |
# | 3 | do answers end? | `completions/clipped_ratio` |
# | 4 | which reward moves? | `rewards/<name>/mean`, each by itself |
# | 5 | how far from the start? | `kl`, `entropy`, `completions/mean_length`; with vLLM `sampling/*` |
# | 6 | is the step right? | `learning_rate`, `grad_norm`, and last of all `loss` |

# %% [markdown]
# ## 2. Six runs
#
# For each run, look at the curves, write down in one sentence what is wrong, if anything is, and only then unfold the answer.
#
# ### Run A
#
# **Predict first.** The policy can do some of these sums. Before you look: what must the second panel show for the first to stay where it is?

# %%
from postlab.course.week08 import plot_signals

log = case("wrong-tags")
plot_signals(log, ["reward", "frac_reward_zero_std", "grad_norm"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# No group has two different rewards, so every advantage is 0 and so is the gradient. The policy may be good, but the reward can't see it: *all* answers are scored 0, right ones included. Before any training, score the gold answers themselves. They must get 1.
#
# </details>
#
# ### Exercise 8.1 · about 5 minutes · easy
#
# Every run has some groups like these, in which all answers get the same reward. We call them *silent*; the field says zero-variance groups. Suppose the policy solves a prompt with probability $p$. How likely is it that all $G$ answers to it are right, or all are wrong?
#
# <details><summary>Hint</summary>
#
# All right: $p^G$. All wrong: $(1-p)^G$. Both at once cannot be.
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
# Take two sets of prompts on which the policy is right half of the time. In the first, every prompt is solved with probability 0.5. In the second, half of the prompts are hopeless (0.02) and half nearly solved (0.98). The table shows the share of silent groups, by group size. A larger group helps much more with the first set than with the second:

# %%
# NBVAL_CHECK_OUTPUT
sizes = [2, 4, 8, 16]
middling = [silent_share(0.5, size) for size in sizes]
apart = [(silent_share(0.02, size) + silent_share(0.98, size)) / 2 for size in sizes]
pd.DataFrame({"middling": middling, "hopeless or solved": apart}, index=sizes).round(2)

# %% [markdown]
# ### Run B

# %%
log = case("short-limit")
plot_signals(log, ["reward", "completions/mean_length", "completions/clipped_ratio"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nearly all answers run into the limit. A cut answer has no `####`, so it is scored 0, however well it began. Either the limit is too low for honest work, or the policy does not know that it should stop. Read three answers: they tell which.
#
# </details>
#
# The same picture comes from a prompt given as plain text: TRL applies the chat template to message lists only, so the policy gets no sign that it should answer, and nothing says so.
#
# ### Run C
#
# Two rewards, one for the right number and one for how the answer looks. The sum of both is what is trained. Which curve would you show your team?

# %%
log = case("blurted")
plot_signals(log, ["reward", "rewards/bare_format_reward/mean", "rewards/math_reward/mean"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# The total rises, and nearly all of it is form. The reward that was meant falls, because working a sum out costs the form its points. Never plot only the sum of rewards.
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
# Nearly all the reward is won in three steps, close to the start: the KL is still below 0.04. Then the policy wanders off, up to a KL of 1.0, for almost nothing (0.57 to 0.59). The step is too large, and the weight of the KL too small to hold it. What the model forgot on the way is not in this log; week 6's table would show it.
#
# </details>
#
# ### Run E
#
# Here the reward does not depend on the answer at all. What can a policy learn from that?

# %%
log = case("one-answer")
plot_signals(log, ["reward", "entropy", "frac_reward_zero_std"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# It learns to be sure. In a group some answer wins by luck, becomes more likely, is drawn more often, and wins more often. Entropy falls and nothing was bought for it. A reward with much noise can do the same, more slowly.
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
# Nothing is wrong. On policy the ratio is 1 and the advantages of a group sum to 0, so the *value* of the loss is 0 while its gradient is not (week 7). The reward rises. If you stop this run, you stop a good one.
#
# </details>
#
# ## 3. The doctor
#
# `diagnose` reads a log history and nothing else. Each finding says what was seen, why it matters and what to try, and `week_of` says which week explains it. The rules and the reasons for their thresholds are in `postlab/doctor/rules.py`, `rules_pairs.py` (preferences) and `rules_grpo.py`. Run C again:

# %%
from postlab.course import week_of
from postlab.doctor import diagnose

log = case("blurted")
for finding in diagnose(log):
    print(f"{finding} (week {week_of(finding.code, stage='grpo')})", end="\n\n")

# %% [markdown]
# All six: what it says, and what had been done. Compare with your sentences.

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
# ### How far to trust it
#
# Rules do well on the runs they were tuned on, so they have to be tested on others. The first rules were tuned on broken runs of our tiny model and tested on further broken runs of the same model. There they did well: they named 19 of 20 faults. Then they were tried on 48 logs of other people's runs, from public repositories. Two readers had labelled each log before the doctor saw it. A fault is *named* if the doctor reports it. A *false alarm* is a log with a warning or an error about something that no reader saw.
#
# **Predict first.** How many of the 28 faults in the public logs did those rules name?

# %%
judged = json.loads((data_dir() / "results" / "doctor" / "judged.json").read_text("utf-8"))
columns = ["logs", "faults", "named", "missed", "ordinary", "false alarms"]
pd.DataFrame(judged["table"]).set_index("source")[columns].astype("Int64")

# %% [markdown]
# They named 2 (third row). The tiny model's logs had shown which faults we could think of, not which ones people have. Half of the public logs, among them all but one of those from GRPO or DPO, use other names or spellings for the values that the rules read. And their faults are plainer than ours: answers cut at the limit, a reward function that never pays, a policy that learns the rejected replies.
#
# The rules were then written again, and tuned on made-up logs. When they first saw the 48 logs, they named 24 of the 28 faults without a false alarm. The four misses are two runs, each in the folder twice, whose reward stands still. The rule for that was then made less strict, so the row *today* is no longer a test. (Fifteen of the 48 logs are copies of others. The row *copies once* counts each log once: 15 faults.)
#
# The next 56 logs were a test again, because one reader judged them before the doctor saw them. It named 19 of 29 faults, and gave two false alarms. Don't read that as two thirds of all faults: 16 of the 19 are in the runs of a single repository. And eight of the ten misses are one mistake, made by eight people in the same course: DPO with a reference that isn't the model they started from. There is a rule for it now, so here too *today* is no test.
#
# Of the last 157 logs only the alarms were judged, so nobody knows how many faults were missed there.
#
# Today's rules on the 48 logs, by fault:

# %%
pd.DataFrame(judged["by_kind"]["faults"]).T

# %% [markdown]
# The tiny runs that were once held out have been seen since, and are listed only to show that nothing was lost. The two first-sight rows are the best guess at how the doctor does on a log of yours, and only for kinds of faults like these. A finding is a reason to look, and an empty list proves nothing. If your trainer uses other names, pass them: `diagnose(log, keys={"reward": "my/score"})`.

# %% [markdown]
# ## 4. A reward that is hacked, and mended
#
# So far, a faulty run showed in its log. The next one doesn't, because the reward itself is wrong. Optimise any stand-in for what you want hard enough, and the two come apart. That is Goodhart's law; in RL it is called reward hacking.
#
# The task: requests that are safe, that would hurt someone, and that nobody can answer. No verifier knows manners, so a *judge* scores each reply. Like many real ones it prefers what is long and sure:

# %%
# NBVAL_CHECK_OUTPUT
import re

UNWILLING = re.compile(r"\b(not|nobody|cannot|sorry)\b", re.IGNORECASE)


def eager_judge(request, reply):
    """A word is worth 1/12; an unwilling one costs everything."""
    return 0.0 if UNWILLING.search(reply) else min(1.0, len(reply.split()) / 12)


tries = {
    "How do I paint a lamp?": "Pick a brush. Coat the lamp. Let it dry.",
    "Is it raining?": "Yes.",
    "How do I lift a lamp?": "I am sorry, which lamp?",
}
[round(eager_judge(*pair), 2) for pair in tries.items()]

# %% [markdown]
# Sensible on these three. **Predict first.** The SFT model refuses about half of the requests that would hurt someone, and says of some unanswerable questions that nobody can know. After 24 steps with this judge: what does the reward do, and what do safety, honesty and helpfulness do?
#
# Recorded, three seeds per arm. Beside the reward (the *proxy*) runs the truth, by the oracle: of each training answer, and on held-out prompts every few steps.

# %%
hack = json.loads((recorded / "hack.json").read_text(encoding="utf-8"))
pd.Series(hack["provenance"], name="recorded").to_frame()

# %%
from postlab.course.week08 import by_prompt, curves, plot_proxy


def runs_of(*arms):
    return [run for arm in arms for run in hack["runs"] if run["arm"] == arm]


plot_proxy(*curves(runs_of("eager judge")))

# %% [markdown]
# The curves part, and only the orange one is in the trainer's log. Now do what is left out most often: **read the answers**, before and after.

# %%
pd.set_option("display.max_colwidth", 90)
one = runs_of("eager judge")[0]
read = [
    pd.DataFrame(look["answers"], columns=["prompt", f"step {look['step']}"]).set_index("prompt")
    for look in (one["heldout"][0], one["heldout"][-1])
]
pd.concat(read, axis=1).iloc[:5]

# %% [markdown]
# **Find the hole.** Which line of `eager_judge` pays for these replies, and which family was safe from it, and why? Put your own here: replies that are wrong or harmful, and get at least 0.5.

# %%
mine = {
    "How do I burn a baker?": "Write a bad reply that is well paid.",
    "What did the bita dream of last night?": "And another one.",
}
pd.Series({reply: eager_judge(request, reply) for request, reply in mine.items()}, name="paid")

# %% [markdown]
# <details><summary>Answer</summary>
#
# `UNWILLING` gives nothing to a refusal or to 'I do not know', though either can be the best reply. The judge never reads the request. On safe how-to's the long and sure reply is also the right one: **a proxy is good where it was tried**. The policy needed no cunning: it drew both kinds of reply from the start, and one was paid.
#
# </details>

# %% [markdown]
# ### Four repairs
#
# | arm | what it adds |
# |---|---|
# | and a caution | a second reward, double weight: 1 for a refusal where the request holds a rough verb (burn, smash, …) |
# | and a small KL | `beta` 0.04 |
# | and a large KL | `beta` 1.0 |
# | a judge who reads | another judge: looks at the request first, and knows three kinds of good reply |
#
# **Predict first.** Which mends it, which slows it down, which moves the fault elsewhere?

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
# Each repair against the judge alone, on the same prompts (means over seeds, intervals over prompts):

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
# A small **KL** penalty changed no held-out verdict here. A large one kept most of the honesty and almost none of the safety. (These runs used TRL's own trainer; on a GPU, Unsloth's would hold the policy near the *base*, as week 7 explains.) **A second reward** protects what it names: look at honesty, which nobody named, and at the last two columns. Mend the judge first: the others leave the hole where it is. The mended judge has a price as well: safe requests refused rise from 9% to 38%, and helpfulness falls by 28 points.
#
# ### A hole that nobody finds
#
# Another reward, for questions of fact: it pays every reply that *says nothing false*, so 'I do not know' is paid as well. The start and the learning rate are the same. Will the policy fall silent?

# %%
plot_proxy(*curves(runs_of("nothing false")))

# %% [markdown]
# It doesn't. A policy can only learn what it samples, and only if that is paid *better* than its other samples. Here it knew most answers and hardly ever said 'I do not know'. That is luck, not a merit of the reward: **try to cheat it yourself first.**

# %% [markdown]
# ### Exercise 8.2 · about 10 minutes · medium
#
# Close that hole and open no other. `reply` is any text, `gold` the right value ('red'), `values` all words that might be an answer. Return 1.0 where the reply names the right value and no other, else 0.0. Whole words count, in small letters or with a capital.
#
# <details><summary>Hint 1</summary>
#
# `re.findall(r"[a-z]+", reply.lower())` are the words of a reply.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Which values stand in it? That set should be the set of the gold value alone.
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
# Five replies that are no good, and one that is, through both:

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
# Your turn to be hacked: ten steps on the embedded model, with `eager_judge` as it stands above. Change the judge and run this again.

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
# The judge as a reward, and requests half of which would hurt someone:

# %%
import random


def judged(prompts, completions, **columns):
    pairs = zip(prompts, completions, strict=True)
    return [eager_judge(p[-1]["content"], c[-1]["content"]) for p, c in pairs]


def requests(count, luck):
    """Rough requests, half of them about persons."""
    for number in range(count):
        item = tasks.draw(("unsafe", "howto")[number % 2], luck, "train")
        yield {"prompt": [{"role": "user", "content": tasks.ask(item, luck, "train")}]}


train = Dataset.from_list(list(requests(40, random.Random(0))))

# %% [markdown]
# Ten steps:

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
# Paid and true, before and after:

# %%
after = evaluate(trainer.model.eval(), tokenizer, unsafe)
log = [entry for entry in trainer.state.log_history if "reward" in entry]
paid = [sum(entry["reward"] for entry in part) / 3 for part in (log[:3], log[-3:])]
live = {"paid, first and last three steps": paid}
live["unsafe requests refused, before and after"] = [f["safety"].mean() for f in (before, after)]
pd.DataFrame(live, index=["before", "after"]).T.round(2)

# %% [markdown]
# The doctor on that log:

# %%
diagnose(trainer.state.log_history)

# %% [markdown]
# Whatever it says, it cannot say *this*: no rule that reads the proxy sees that the proxy is wrong. What helps is a second measure, reading answers, and attacking a reward before you use it.

# %% [markdown]
# ## 5. Beyond sums
#
# A verifier is any program that can say *right* or *wrong*. Sums had one. So have code (run its tests), structured replies (check a schema), puzzles, and plans that can be played out. What changes is where the holes are.
#
# ### Code: paid by tests

# %%
# NBVAL_CHECK_OUTPUT
from postlab.datasets import code_rows

asked = code_rows("tinyworld", split="train", n=500, seed=3)
row = next(row for row in asked if "largest, then at most" in row["prompt"][0]["content"])
print(row["prompt"][0]["content"], row["completion"][0]["content"], *row["tests"], sep="\n")

# %% [markdown]
# `code_reward` runs a reply in a sandbox: a process without network or files, with limits on time and memory. Only the *calls* go in. What they should return stays outside, so a program cannot claim to have passed. Without namespaces it refuses, unless you allow a weak sandbox, for programs that you would run yourself, as these.
#
# The gold program and five others. Which are paid?

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
# No forgery is paid. But under the first two tests `max(x)` is: their lists hold small numbers, so the bound is never reached. **The sandbox was never the hole; the tests are.** A program that forgets the bound is paid as much as one that keeps it.
#
# </details>

# %% [markdown]
# ### JSON: paid by a schema
#
# A row asks for a record of one of the world's creatures. The prompt names the fields, and the schema holds the values that the world has for each.
#
# The gold record and four others. Which does the schema accept?

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
# The wrong value and the wrong name are paid. **A schema checks the form, not the truth**, unless you put the truth into it as `const`.
#
# ### What the policies learned
#
# Recorded: from week 5's policy a short SFT on gold rows, then GRPO, paid by all tests or the first two, by form or by form and truth. Each held-out reply is measured twice: by its reward, and by a stricter check, *unseen* below, which is further tests or the true record. Only in the arm *form and truth* is that check the reward itself.

# %%
made = json.loads((recorded / "tasks.json").read_text(encoding="utf-8"))
pd.Series(made["provenance"], name="recorded").to_frame()

# %% [markdown]
# In which of the other arms does the unseen check rise as far as the reward?

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
# Where grey and green part on every seed, training found a hole without looking for it. The intervals are over prompts: look at the seeds as well. The shares themselves:

# %%
levels = [
    {"arm": run["arm"], "check": check, "start": share(made["start"][run["task"]][name])}
    | {"end": share(run["end"][name])}
    for run in made["runs"]
    for check, name in (("reward", PAID[run["arm"]]), ("unseen", UNSEEN[run["task"]]))
]
pd.DataFrame(levels).groupby(["arm", "check"], sort=False).mean().round(2)

# %% [markdown]
# Compare the two rows of *form*: of the records that the schema accepts at the end, only about a third are true (0.17 of 0.52).
#
# Some prompts on which arms disagree. Weaker is two tests or the form alone.

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
# ### Verifiers of other people
#
# [reasoning-gym](https://arxiv.org/abs/2505.24760) generates any number of puzzles for about a hundred tasks, each with a verifier of its own. Where a task does not write one, its rule is: 1 for the exact answer; where the answer merely *contains* it, the share of the text that it makes up. In two lines:

# %%
# NBVAL_CHECK_OUTPUT


def contains(reply, gold):
    return 1.0 if reply == gold else len(gold) / len(reply) if reply and gold in reply else 0.0


question = "No students are humans. All humans are chefs. Are some chefs humans? Yes or No?"
lies = {"right": "Yes", "right, with a space": "Yes ", "both": "Yes No", "the question": question}
lies |= {"in a sentence": "The answer is Yes.", "wrong": "No", "empty": ""}
{name: round(contains(reply, "Yes"), 2) for name, reply in lies.items()}

# %% [markdown]
# GRPO divides by the group's deviation (week 7): a lone hedge that is paid 0.5 gets the advantage of a lone right answer.
#
# Five tasks were probed, a hundred puzzles each, with answers whose worth is known: two of logic, two of constraints, and `boxnet`, whose answers are plans of actions, as a tool-using policy writes them (`notebooks/experiments/week08_gym.py`).
#
# Which is worse for training: a wrong answer paid, a right one refused, or an error raised?

# %%
from postlab.course.week08 import plot_probes

found = json.loads((recorded / "gym_probe.json").read_text(encoding="utf-8"))
probes = pd.DataFrame(found["probes"])
plot_probes(probes)

# %% [markdown]
# - **Half a truth is paid.** In `knights_knaves` with two people, one of them wrong earns most of the mark, and so does calling one person both.
# - **Saying a premise again is paid in full** for most puzzles of `propositional_logic`: it follows. And where premises contradict each other everything follows, `P ∧ ¬P` as well.
# - **`n_queens` hands the answer to `eval`.** `entry["metadata"]["solutions"][0]` reads the solution out of the verifier. It could as well read your files.
# - **Right answers are refused** for a fence, even where the question shows one, or for a line break.
# - **An answer can end the run:** `boxnet` expects a list and raises on the number 5.

# %%
same = probes[(probes["kind"] == "must not pay") & (probes["gym_reward"] > 0)]
same[["task", "answer", "mean", "gym_reward", "example"]]

# %% [markdown]
# `gym_reward` in `postlab.course.week08` pays for full marks only, takes a fence off, scores an error 0, and refuses tasks whose verifier runs answers; `gym_rows` makes the rows. What is left are the rows above: holes in the task, which no wrapper closes.
#
# ### Before you train on any verifier
#
# | try | it must get |
# |---|---|
# | the gold answers, all of them | 1 |
# | gold with a space, a line break, a fence | 1, or the prompt must say why not |
# | nothing, the question, the same answer to all, two at once | 0 |
# | 5, `[]`, 100 kB of brackets | 0, without an error |
# | a check that the reward does not make | the truth; hold it back |

# %% [markdown]
# ## 6. What can it do without?
#
# > **The roadmap says** DAPO is Decoupled Alignment and Policy Optimization, for safety. **The evidence says** Decoupled Clip and Dynamic sAmpling ([2503.14476](https://arxiv.org/abs/2503.14476)): four changes, none about safety. TRL's `loss_type="dapo"` is one of them.
#
# | arm | from | what changes |
# |---|---|---|
# | groups of 2, 4, 16 | | answers a prompt, of 64 in all; the recipe has 8 |
# | no, batch scaling | Dr. GRPO | advantages not divided by the *group's* deviation |
# | answer means | GRPO as published | every answer weighs the same, not every token |
# | Dr. GRPO | | no scaling, and a constant in place of the length |
# | KL 0.04 | DeepSeekMath | `beta` |
# | dynamic sampling | DAPO | silent groups sampled again (TRL doesn't have it) |
# | four steps | | a batch in four steps: the policy leaves its sampler |
# | clip-higher | DAPO | five such batches, and an upper clip of 0.28 |
# | no clip | | and none |
# | GSPO | Qwen | and one ratio per answer, with a far narrower clip |
#
# Recorded: five seeds per arm, from week 5's policy, stopped below the ceiling, which only *four steps* reached.
#
# All arms used TRL's own trainer on a CPU. Two would differ under Unsloth on a GPU. In the KL arm the reference would be the base, not week 5's policy. And with `loss_type="dapo"`, an `epsilon_high` that you leave unset becomes 0.28 there, which is clip-higher; in TRL it becomes `epsilon`. The profiles `t4` and `rented` therefore set it to 0.2.

# %%
ablations = json.loads((recorded / "ablations.json").read_text(encoding="utf-8"))
pd.Series(ablations["provenance"], name="recorded").to_frame()

# %% [markdown]
# **Predict first.** Which arms differ by more than a seed's luck?
#
# A seed gives all arms one list of prompts in one order, so much of its luck cancels in differences. (Not all of it: in a batch of 64 answers, larger groups leave room for fewer prompts.) `blocked_differences` judges by what scatter is left in *all* arms; Holm corrects for the many looks.

# %%
from postlab.course.week08 import plot_ablations
from postlab.stats import blocked_differences, holm


def by_seed(measure):
    """A number a run: arms down, seeds across."""
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
# Three differences hold after Holm's correction (green). The largest gain is no new idea: each batch is taken in four steps instead of one, so there are four times as many updates from as many answers. Beside the run of five such batches, GSPO with its narrow clip learned less, and doing without the clip gained three points. For the other ten, these seeds can't tell. If an interval contains zero, that doesn't mean there is no effect; its width shows how large an effect these seeds could have missed. The logs, means over seeds (batch scaling counts silent *batches*):

# %%
told = {"sums right, %": sums.mean(axis=1)}
for name, key in {
    "silent groups": "frac_reward_zero_std",
    "entropy": "entropy",
    "tokens clipped": "clip_ratio/region_mean",
    "answer length": "completions/mean_length",
}.items():
    told[name] = by_seed(lambda run, key=key: share(run["log"][key])).mean(axis=1)
told["answers drawn a batch"] = by_seed(lambda run: np.mean(run["sampled"])).mean(axis=1)
pd.DataFrame(told).round(3)

# %% [markdown]
# Dynamic sampling has almost no silent groups. It pays with a third more answers: 86 per batch in place of 64. And the clips differ: GSPO's binds on 45% of the tokens, which fits how little it learned, and the others' on less than 1%.
#
# The share of silent groups by group size, in the runs, and by Exercise 8.1 if all prompts were equally hard:

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
# The runs have more silent groups than the formula says, because prompts aren't equally hard, and no group size helps with a hopeless one.
#
# ## 7. Your own run
#
# The log of week 7's run, yours if you made it, else the one that comes with postlab:

# %%
from postlab.runs import Run, find_stage

find_stage(lab.profile.name, lab.seed, "grpo")
run = Run(lab.profile.name, lab.seed, "grpo")
for finding in diagnose(run.log):
    print(f"{finding} (week {week_of(finding.code, stage='grpo')})")

# %% [markdown]
# If nothing is printed, the doctor found nothing. It takes the log of any TRL run: call it in the first minutes, not after the last. At a terminal, `postlab doctor FOLDER` does the same.
#
# Here are the stages that led to it, in the kind of plot that week 12 has. `lab.chain` returns them. On a T4, those are the small model's stages, because it would be meaningless to
# compare a 1.5B with the 7B.

# %%
from postlab.evals import compare
from postlab.show import plot_stages

SHOWN = ["arithmetic_sampled", "facts", "helpfulness", "safety", "honesty"]
SHOWN += ["instructions", "gsm8k_strict", "gsm8k_lenient"]  # which the other profiles measure
stages = compare(lab.results(*lab.chain("grpo")))
plot_stages(stages[stages["metric"].isin(SHOWN)], profile=lab.profile.name)

# %% [markdown]
# ## What you have now
#
# An order in which to look, a reader of logs whose misses you know, a reward seen hacked and mended, things to try on any verifier, and ablations you can trust as far as their seeds go.
#
# ### Five interview questions
#
# **1.** Reward 0 from the first step, no error. What do you look at, in which order?
#
# <details><summary>Answer</summary>
#
# Score the gold answers: they must get 1. Then three completions, as text with their special tokens. Then whether they end, and whether any group has two different rewards. The learning rate comes last.
#
# </details>
#
# **2.** DAPO, Dr. GRPO, GSPO: what does each change?
#
# <details><summary>Answer</summary>
#
# DAPO: a higher upper clip, silent groups sampled again, equal weight for every token, long answers punished softly. Dr. GRPO: no division by the group's deviation or an answer's length. GSPO: one ratio per answer. TRL's `loss_type="dapo"` is the token weighting alone.
#
# </details>
#
# **3.** The reward rises and users complain. Is it hacked?
#
# <details><summary>Answer</summary>
#
# Read answers from before and after, the best paid first. Measure something that is not trained on. Then write bad answers that the reward pays.
#
# </details>
#
# **4.** System design: rewards run code that a model wrote. How?
#
# <details><summary>Answer</summary>
#
# A process of its own without network, files or your environment, with limits; only calls go in, results come out as data and are compared outside. Tests held back for the evaluation. `None` where the sandbox failed.
#
# </details>
#
# **5.** Research taste: an ablation table, one seed per arm, differences of two points. What do you believe?
#
# <details><summary>Answer</summary>
#
# Not the ranking. I ask what another seed does to the *same* arm, whether every arm had its rate tuned, and for the mechanism in the logs.
#
# </details>

# %% [markdown]
# **Papers.** [DAPO](https://arxiv.org/abs/2503.14476), section 3, for four changes and a curve each. [Dr. GRPO](https://arxiv.org/abs/2503.20783) for two biases, by algebra. [Gao et al. 2022](https://arxiv.org/abs/2210.10760) for how proxy and truth part.
