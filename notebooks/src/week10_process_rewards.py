# %% [markdown]
# # Week 10 · Process rewards
#
# A math verifier tells you whether the final answer is right. It doesn't tell you which of ten steps went wrong, and it gives a lucky guess the same reward as a careful proof. A **process reward model** (PRM) scores every step instead. A PRM should do three things: help you choose among several solutions, locate mistakes, and provide denser rewards for reinforcement learning. This week, you'll test all three promises.
#
# Before you see any good-looking curves, you should know the first result, which is disappointing: **the process reward model that you train this week doesn't check the arithmetic.** If you change one digit in a right addition, the model prefers the original only 51% of the time, averaged over three seeds (95% interval: 48% to 55%). The model does recognize garbled text, stray lines and answers without any work. Its gains come from judging *form*: choosing replies by their number of steps works about as well.
#
# The second result shows what was missing. A small head that reads the digits and is trained on 32,000 labels ranks every right addition in 250 held-out sums above every wrong one. But on hard sums, choosing the reply that this head scores highest works worse than the majority vote. More than half of the time, the chosen reply adds a wrong *term* or continues from a wrong total, but the additions are correct. If you use the head's scores as weights in the majority vote, the accuracy of the vote rises by four points.
#
# The third result is about credit. Even when an error-free checker scored every step, the policy didn't learn faster than with the plain outcome reward. We tried two forms of step credit on sums of five or six terms. Over three seeds, the difference from the outcome reward is +0.1 points for each form (95% interval: -0.5 to +0.6), but the policies hardly diverged in 16 training steps. In a second experiment, with 48 steps, five seeds and more mistakes inside the solutions, they did diverge. There, step credit was 1.8 points behind on average (-3.9 to +0.4), which is also inconclusive.
#
# By the end of the core, you'll be able to explain
#
# - what a step label is, which token carries it, and what it costs to get one,
# - how to find out which mistakes a reward model sees, and what it needs in order to see more,
# - when a process reward model beats the majority vote, and when it doesn't,
# - how to turn step scores into an advantage for every token, and whether this makes a policy learn faster.
#
# **The core** takes about 90 minutes. You'll do one exercise, write step advantages and read one paper.
#
# 1. [What is a step?](#steps) · 2. [Which token carries the label?](#labels) · 3. [Where do the labels come from?](#rollouts) · 4. [Two models, one budget](#heads) · 5. [What does the model see?](#sees) · 6. [Choosing among replies](#choice) · 7. [Build: credit for each step](#credit) · 8. [The paper, and what you have now](#end)
#
# **The deeper sections** take almost three hours in total. You can read them in any order or skip them, because the core and the later weeks don't depend on them.
#
# - [How good are labels from rollouts?](#deeper-rollouts) · 5 minutes
# - [Best of n, without bias](#deeper-best) · 30 minutes, one exercise
# - [When the mistakes are inside the solutions](#deeper-hard) · 15 minutes
# - [Where is the mistake?](#deeper-where) · 20 minutes, one exercise
# - [Search over steps](#deeper-search) · 10 minutes
# - [Credit for each step in practice](#deeper-credit) · 15 minutes
# - [A process reward that is gamed](#deeper-gamed) · 15 minutes
# - [A bug hunt](#deeper-bug) · 10 minutes
# - [Real data](#deeper-real) · 10 minutes
# - [Without step labels: implicit rewards, generative verifiers, and why DeepSeek-R1 dropped PRMs](#deeper-others) · 10 minutes
# - [What we tried](#deeper-tried) · 5 minutes
# - [Your profile's own model](#deeper-own) · 20 minutes to read, plus 7 to 20 minutes of training
#
# The notebook ends with [five interview questions](#interview) and the week's [readings](#papers).
#
# Whichever profile you choose, everything except the last deeper section uses the embedded model. An oracle tells us whether each step is right, so we can check every claim. The results show you the *mechanism, not what large models can do*. The last deeper section repeats the procedure with the model of the `smol`, `t4` or `rented` profile.

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

lab = postlab.start(week=10)

# %% [markdown]
# <a id="steps" name="steps"></a>
# ## 1. What is a step?
#
# Before you can score steps, you have to decide where each step ends. In our sums, a step ends at a comma or a full stop. In GSM8K, it ends at a line break. A reply that states only its answer, without any work, is a single step. We'll call such a reply a *bare answer* (*blurted* in some tables).

# %%
# NBVAL_CHECK_OUTPUT
from postlab import process

for reply in ("12+30=42, 42+15=57. #### 57", "#### 57"):
    print(process.split_steps(reply))
process.split_steps("Half of 48 is 24.\n48 + 24 = 72\n#### 72", at=process.LINES)

# %% [markdown]
# In this notebook, a step is *right* if the solution is still on track after it. An oracle checks every addition. After the first wrong step, all later steps count as wrong too, even if the final answer happens to be right.
#
# **Predict first.** The third reply below makes two mistakes that cancel out. What are its three labels, and what would a verifier of final answers say about it?

# %%
# NBVAL_CHECK_OUTPUT
import pandas as pd

pd.set_option("display.max_colwidth", 120, "display.max_columns", 40)

question = "What is 12+30+15?"
replies = ["12+30=42, 42+15=57. #### 57", "12+30=42, 42+15=67. #### 67"]
replies += ["12+30=52, 52+15=57. #### 57", "#### 58"]
steps = [process.split_steps(reply) for reply in replies]
pd.DataFrame(
    {
        "reply": reply,
        "labels": process.oracle_labels(question, cut),
        "answer right": reply.endswith("57"),
    }
    for reply, cut in zip(replies, steps, strict=True)
)

# %% [markdown]
# The verifier accepts the third reply because its answer is 57, but all three of its steps are labeled wrong. The first addition is wrong, and no later step can repair the solution. A verifier of final answers can't catch such a mistake:

# %%
from postlab.course.week10 import draw_rewards

draw_rewards()

# %% [markdown]
# <a id="labels" name="labels"></a>
# ## 2. Which token carries the label?
#
# A process reward model is a token-classification model. It outputs two logits at every token, but only a few tokens have a label. The label of a step belongs on the step's *last* token: at that point, a causal model has read the whole step but none of the next one. All other tokens get the label -100, which the loss ignores.

# %% [markdown]
# ### Exercise 10.1 · about 15 minutes · medium
#
# `steps`, of shape `(B, T)`, gives the number of the step that each token belongs to. Prompt and padding tokens have the number -1. `right`, of shape `(B, S)`, contains a 1 or a 0 for each step. Return labels of shape `(B, T)`, with the same dtype as `right`.
#
# <details><summary>Hint 1</summary>
#
# A token is the last one of its step if the next token belongs to a different step. What comes after the last token of a row?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `right.gather(1, steps.clamp(min=0))` gives every token the label of its step, and `torch.where` keeps the ones you want.
#
# </details>

# %% tags=["aside"]
import torch

from postlab import check


def step_labels(steps, right):
    raise NotImplementedError


step_labels = check.step_labels(step_labels)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def step_labels(steps, right):
#     behind = torch.cat([steps[:, 1:], torch.full_like(steps[:, :1], -1)], dim=1)
#     last = (steps >= 0) & (behind != steps)
#     labels = right.gather(1, steps.clamp(min=0))
#     return torch.where(last, labels, torch.full_like(labels, -100))
# ```
#
# </details>
#
# Try it on a padded batch:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
batch = torch.tensor([[-1, -1, 0, 0, 1, 2, 2], [-1, 0, 0, 0, -1, -1, -1]])
step_labels(batch, torch.tensor([[1, 0, 0], [1, 0, 0]])).tolist()

# %% [markdown]
# `process.encode_steps` does the same for text. It tokenizes the whole reply at once, because a tokenizer may merge the end of a step with the space that follows it. Then it finds the token that contains the last character of each step. It raises an error for rows that would be truncated.

# %%
from postlab.models import load_policy
from postlab.profile import get_profile

tiny = lab if lab.profile.name == "tiny" else postlab.Lab(get_profile("tiny"), seed=0)
policy, tokenizer = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
prompt = [{"role": "user", "content": question}]
row = process.encode_steps([process.step_row(prompt, replies[1], [1, 0, 0])], tokenizer)[0]
pd.DataFrame(
    [[tokenizer.decode([token]) for token in row["input_ids"]], row["labels"]],
    index=["token", "label"],
).iloc[:, 18:]

# %% [markdown]
# <a id="rollouts" name="rollouts"></a>
# ## 3. Where do the labels come from?
#
# For PRM800K, people labeled 800,000 steps by hand. You probably can't afford that. **Math-Shepherd** needs only the final answers. It takes the solution up to the end of a step and lets the policy finish it $K$ times. These completions are called rollouts. The share of rollouts that reach the right answer is the step's *soft* label. The *hard* label is 1 if at least one rollout reaches the right answer, and 0 otherwise.
#
# $$y^\text{soft}_i = \frac{1}{K} \sum_{k=1}^{K} \mathbb{1}[a_k = a^*], \qquad y^\text{hard}_i = \mathbb{1}[\exists k : a_k = a^*]$$
#
# First we need some solutions. We sample them at temperature 1 for sums of three or four terms. With these settings, most replies are bare answers, and the others show their work. The held-out prompts use combinations of numbers that don't occur in any training prompt.

# %%
import random

from postlab.tinyworld import tasks
from postlab.tinyworld.oracle import read


def sums(split, count, name, sizes=(3, 4)):
    """Different sums of three and four terms, in turn, as prompts."""
    luck, found = random.Random(name), {}
    while len(found) < count:
        terms = tuple(luck.randint(2, 59) for _ in range(sizes[len(found) % len(sizes)]))
        if tasks.held_out_numbers(terms) == (split == "heldout"):
            found[tasks.ask(tasks.Item("arithmetic", "sum", terms), luck, "train")] = None
    return [[{"role": "user", "content": text}] for text in found]


def right(prompt, reply):
    """What a verifier knows: is the final answer right?"""
    return tasks.score(read(prompt[-1]["content"]), reply, True)["arithmetic"]


# %% [markdown]
# We sample eight replies per prompt and split them into steps. The true labels come from the oracle. You wouldn't have an oracle for real problems:

# %%
prompts = sums("train", 240, f"notebook {lab.seed}")
drawn = process.sample_solutions(policy, tokenizer, prompts, n=8, seed=lab.seed)
rows = [
    process.step_row(prompt, reply)
    for prompt, group in zip(prompts, drawn, strict=True)
    for reply in group
    if process.split_steps(reply)
]
truth = [process.oracle_labels(r["prompt"][-1]["content"], r["completions"]) for r in rows]
outcome = [right(r["prompt"], " ".join(r["completions"])) for r in rows]

# %% [markdown]
# The table groups the replies by their number of steps:

# %% tags=["aside"]
about = pd.DataFrame(
    {"steps": len(r["completions"]), "right": good, "all steps right": all(labels)}
    for r, good, labels in zip(rows, outcome, truth, strict=True)
)
about.groupby("steps").agg(replies=("right", "size"), right=("right", "mean")).round(2)

# %% [markdown]
# Four out of five replies are bare answers, and only about 1% of those are right. Among the replies with three or four steps, 87% to 90% are right. Remember this table: a model can tell most good replies from most bad ones without checking a single addition.
#
# Labels from rollouts require $K$ completions per step, and they are only as good as the policy that writes the completions. If the policy solves a problem only one time in fifty, eight failed rollouts tell you little about the step. [A deeper section](#deeper-rollouts) compares such labels with the oracle's and shows how often they are wrong.

# %% [markdown]
# <a id="heads" name="heads"></a>
# ## 4. Two models, one budget
#
# Do step labels help at all? To find out, we train a **process** reward model and an **outcome** reward model on the *same* solutions, from the same starting weights, for the same number of optimizer steps. The two differ in only one way: the outcome model has a single label, which is on the last token and says whether the final answer is right. Here they are, next to two related models:
#
# | model | predicts | trained on | used for |
# |---|---|---|---|
# | outcome (ORM) | whether the answer is right | fixed samples | ranking |
# | process (PRM) | whether a step is right | fixed samples | ranking, search |
# | value function | the reward to come | the policy's new samples | a baseline |
# | [generative verifier](#deeper-others) | its verdict, as text | fixed samples | ranking |
#
# TRL no longer has a trainer for process reward models, but you don't need one. All it takes is a classification head with two classes, the `Trainer` from transformers, and a collator that pads the labels with -100.

# %%
import contextlib
import io
import tempfile

from datasets import Dataset
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from postlab.runs import freed_memory_kept, without_padding


def new_head():
    """The SFT stage, merged, with two logits a token in place of the vocabulary."""
    merged, _ = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
    merged = merged.merge_and_unload()
    merged.config.num_labels = 2
    head = AutoModelForTokenClassification.from_config(merged.config)
    head.model.load_state_dict(merged.model.state_dict())
    return head


# %% [markdown]
# The training arguments are the usual ones:

# %%
HOW = {"per_device_train_batch_size": 32, "learning_rate": 1e-3, "warmup_steps": 10}
HOW |= {"use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 2}
COLUMNS = ["input_ids", "attention_mask", "labels"]


def trained_head(encoded, max_steps=60, run=None):
    """A head trained on rows of `encode_steps`, and its log; kept, if there is a run for it."""
    set_seed(lab.seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=new_head(),
            train_dataset=Dataset.from_list(encoded).select_columns(COLUMNS),
            data_collator=DataCollatorForTokenClassification(tokenizer),
            processing_class=tokenizer,
            args=TrainingArguments(
                str(run.checkpoints) if run else folder,
                max_steps=max_steps,
                disable_tqdm=True,
                **HOW,
            ),
        )
        with contextlib.redirect_stdout(io.StringIO()):  # the log is drawn below
            if run is None:
                trainer.train()
            else:
                with freed_memory_kept(), without_padding(trainer.model):  # optional: faster
                    run.train(trainer)
    return trainer.model.eval(), trainer.state.log_history


# %% [markdown]
# Now we call `trained_head` twice, on the same rows but with different labels. Each call takes about half a minute on two cores:

# %%
process_rows = [row | {"labels": labels} for row, labels in zip(rows, truth, strict=True)]
encoded = process.encode_steps(process_rows, tokenizer)
run = tiny.run("prm", parent="sft")
process_head, process_log = trained_head(encoded, run=run)
outcome_encoded = process.encode_steps(process.outcome_rows(rows, outcome), tokenizer)
outcome_head, outcome_log = trained_head(outcome_encoded)

# %% [markdown]
# Both losses fall, but that doesn't tell you what the models have learned. [The bug hunt](#deeper-bug) shows a loss that is low for a bad reason. So let's look at the process model's scores for six held-out replies. The first four replies contain mistakes and are sorted by the position of the first mistake, latest first. The fifth reply is a correct worked solution, and the sixth is a bare answer. Wrong steps are in bold:

# %% tags=["aside"]
from postlab.course.week10 import plot_step_scores

fresh = sums("heldout", 40, "shown")
pool = process.sample_solutions(policy, tokenizer, fresh, n=16, seed=1)
flat = [
    process.step_row(p, reply or "nothing")
    for p, group in zip(fresh, pool, strict=True)
    for reply in group
]
for row, scores in zip(flat, process.step_scores(process_head, tokenizer, flat), strict=True):
    row["scores"] = scores
    row["labels"] = process.oracle_labels(row["prompt"][-1]["content"], row["completions"])
worked = [r for r in flat if len(r["completions"]) > 2]
late = sorted(worked, key=lambda r: -process.first_wrong(r["labels"]))[:4]
plot_step_scores([*late, worked[0], next(r for r in flat if len(r["completions"]) == 1)])

# %% [markdown]
# The bare answer scores close to zero, and so do a stray `#### 9` and a list that has nothing to do with the question. But the wrong addition `53+33=96` scores 0.94, as high as a right one. The resulting answer, `#### 126`, scores 0.92. The second solution starts with a number that isn't in its sum, yet none of its steps scores below 0.88. Six replies prove little, so the next section measures what the model sees.

# %% [markdown]
# <a id="sees" name="sees"></a>
# ## 5. What does the model see?
#
# **Before you trust the scores of a reward model, find out what it sees.** The cleanest test changes only one thing. Take a right solution, replace one digit in the result of one step, and compare the scores of the two versions of this step.
#
# The measure is the AUC. Each right step is paired with each wrong step, even from other sums. The AUC is the share of pairs in which the right step has the higher score. An AUC of 1 means that right and wrong steps are perfectly separated, and 0.5 is chance.
#
# **Predict first.** What will the AUC of your process model be? The model was trained on about 1,900 solutions, and the oracle labeled every step.

# %% tags=["aside"]
import numpy as np

from postlab.course.week10 import auc


def with_another_digit(number, luck):
    """The number with one digit replaced."""
    digits = list(str(number))
    place = luck.randrange(len(digits))
    digits[place] = luck.choice([d for d in "123456789" if d != digits[place]])
    return int("".join(digits))


luck, twins = random.Random(0), []
for asked in sums("heldout", 200, "planted"):
    terms = read(asked[-1]["content"]).args
    cut = process.split_steps(tasks.worked(terms))
    place = luck.randrange(len(terms) - 1)
    before, result = cut[place][:-1].split("=")
    planted = f"{before}={with_another_digit(result, luck)}{cut[place][-1]}"
    twins.append(
        [process.step_row(asked, " ".join([*cut[:place], step, "#### 0"])) for step in (cut[place], planted)]
    )  # fmt: skip
twins[0][0]["completions"][:-1], twins[0][1]["completions"][:-1]

# %% [markdown]
# These are the two versions of the first solution, up to the changed step. The final `#### 0` (not shown) doesn't affect the step's score, because your model can't look ahead.

# %% tags=["aside"]
seen = [
    [scores[-2] for scores in process.step_scores(process_head, tokenizer, [pair[i] for pair in twins])]
    for i in (0, 1)
]  # fmt: skip
print(f"AUC for planted wrong additions: {auc(*seen).mean():.2f}; mean score of right steps {np.mean(seen[0]):.2f}, of wrong ones {np.mean(seen[1]):.2f}")  # fmt: skip

# %% [markdown]
# The AUC is close to chance: your model can hardly tell the two versions apart, and it gives both of them high scores.
#
# What does a head need in order to see wrong additions? In the recorded experiment (`notebooks/experiments/week10_heads.py`), we tried several approaches with three seeds each and tested them on 250 other held-out sums. The first approach is this lesson's recipe: all weights are trained on the policy's solutions with the oracle's labels, here for 100 steps on 300 prompts. The three other approaches are:
#
# - **A head on a frozen policy** reads the policy's hidden states. It is linear or has a hidden layer, and it reads the last layer, all layers, or all tokens of the step. It is trained on 2,000 *planted labels*, which say whether a mistake was planted in the step.
# - **The digits of the step itself.** A small network reads the digits of `a+b=c` and is trained on 2,000, 8,000 or 32,000 planted labels. Another version uses single-digit steps, with 2,000 or 8,000 labels.
# - **No head at all.** The score is the log-probability that the policy itself assigns to the digits of the result.

# %% tags=["aside"]
import json

from postlab.course.week10 import auc_rows, plot_auc
from postlab.profile import data_dir

folder = data_dir() / "results" / "week10"
levers = json.loads((folder / "heads.json").read_text(encoding="utf-8"))
heads = auc_rows(levers["runs"])
plot_auc(heads)

# %% [markdown]
# From top to bottom, the figure shows:
#
# - **The lesson's head does little better than chance.** Its AUC on held-out sums is 0.51. For these three heads, the 95% interval over the sums is 0.50 to 0.53. If the seeds are the unit of analysis, the interval is 0.44 to 0.59. You can also compare each right step only with its own corrupted version. The right step then scores higher 51% of the time on average (interval over the sums: 48% to 55%). The shares for the three seeds are 49%, 45% and 59%. For the third seed, the right step scores higher in 135 of the 223 pairs that aren't ties, which is more than chance would explain ($p = 0.01$ after Holm's correction for six tests). So a single head may learn a little. Most wrong steps in the training data are bare answers, so the head could learn to reject them without looking at the digits.
# - **The frozen policy's hidden states contain some of the information.** A linear head reaches an AUC of 0.62, and a head with a hidden layer reaches 0.67. If the head reads all layers rather than only the last one, the AUC stays at 0.67. If it reads all tokens of the step rather than only the last one, the AUC rises to 0.75. This AUC understates what the head can do: within a sum, it scores the right step above the planted mistake 90% of the time. But its scores also differ from sum to sum, and that lowers the AUC.
# - **A head that sees the digits can learn to add, if it gets enough labels.** Its AUC is 0.64 with 2,000 labels and 0.80 with 8,000. With 32,000 labels, the AUC is 1.00 for all three seeds: no pair is ranked in the wrong order. But the head may still make mistakes on other sums: even for 250 successes in 250 trials, the Wilson interval begins at 98.5%. In this experiment, more labels also meant more training, and [a control](#deeper-tried) shows that both are needed.
# - **Single-digit steps are easier.** The AUC is 0.96 with 2,000 labels and 1.00 with 8,000. All the pairs of digits in the test also occur in training, so the head can memorize them.
# - **The policy's own log-probability** separates right steps from wrong ones almost perfectly (the AUC rounds to 1.00) and needs no labels. The policy can do the addition, so its probabilities contain the information that the trained head misses.
#
# So a head needs two things: enough labels for additions, and an input that shows the step's digits, either directly or through the hidden states of all the step's tokens. The lesson's head has neither: it reads one hidden state per step, and more than half of its labels are for bare answers.

# %% [markdown]
# <a id="choice" name="choice"></a>
# ## 6. Choosing among replies
#
# To choose among replies, you need one score per reply. A chain is only as strong as its weakest link, so a common choice is the *minimum* over the steps. The authors of *Let's verify step by step* multiply the scores instead. A [deeper section](#deeper-best) compares several ways to combine the scores. In **best-of-n**, you sample $n$ replies and keep the one with the highest score. The baseline is the **majority vote**, also known as self-consistency. It needs no reward model at all, so any useful reward model has to beat it.
#
# From one pool of replies, `process.best_of_n` and `process.vote_of_n` estimate the accuracy of the two methods. Let's try them with your two models on the 40 held-out prompts from section 4:

# %% tags=["aside"]
import re


def table(rows, value):
    """(prompts, replies) of something about each reply."""
    return np.array([value(row) for row in rows]).reshape(len(fresh), 16)


def final(row):
    """The final answer; None where a reply gives none: it has no vote."""
    found = re.search(r"#### (-?[0-9]{1,6})$", " ".join(row["completions"]))
    return found and found.group(1)


worth = table(flat, lambda r: right(r["prompt"], " ".join(r["completions"])))
answers = table(flat, final).tolist()
by_process = table(flat, lambda r: process.aggregate(r["scores"], "min"))
last = iter(process.step_scores(outcome_head, tokenizer, flat))
by_outcome = table(flat, lambda r: next(last)[-1])

# %% [markdown]
# The table shows the share of prompts that each method gets right, for different values of $n$:

# %% tags=["aside"]
pd.DataFrame(
    {
        n: {
            "majority": process.vote_of_n(answers, worth, n).mean(),
            "outcome": process.best_of_n(by_outcome, worth, n).mean(),
            "process, min": process.best_of_n(by_process, worth, n).mean(),
            "oracle": process.best_of_n(worth, worth, n).mean(),
        }
        for n in (1, 2, 4, 8, 16)
    }
).round(2)

# %% [markdown]
# On these 40 prompts, both reward models beat the majority for every $n$ above 1. But at $n = 16$, the two models' results differ by only about one prompt, so this table can't tell you which model is better.
#
# **Predict first.** The recorded experiment covers 200 prompts, 64 replies per prompt and three seeds. Which curves keep rising with $n$, and which ones eventually fall?

# %% tags=["aside"]
from postlab.course.week10 import plot_choice

recorded = json.loads((folder / "prm.json").read_text(encoding="utf-8"))
plot_choice(pd.DataFrame(recorded["choice"]))

# %% [markdown]
# The curves for the majority, the oracle and the weighted vote keep rising. The weighted vote adds up the scores of all replies with the same answer. For all the reward models in the figure, best-of-$n$ flattens between $n = 16$ and $n = 32$ and then falls. Among 64 replies, there is often one that the model overrates, and best-of-$n$ picks it. This effect is called overoptimization, and here it happens without any training. By contrast, a single overrated reply can't change a vote by much. At $n = 64$, the plain majority is right for 93% of the prompts. Even with the best of the reward models, best-of-$n$ is right for only 73%.
#
# Best-of-$n$ works only slightly better with the process model than with the outcome model. After a correction for multiple comparisons, none of the six comparisons at $n = 16$ is conclusive ([deeper](#deeper-best)). The reason is the task: most good replies show their work, and most bad ones don't. An outcome label reveals this difference just as well as step labels do, and so does the number of steps. At $n = 16$, a random reply with as many steps as its sum needs is right for 79% of the prompts, compared with 80% for the process model's choice ([deeper](#deeper-best)).
#
# What if the mistakes are *inside* the solutions? [A deeper section](#deeper-hard) studies such a task: sums of six terms at temperature 1.5. There, even the head that reads digits is a poor guide, although its AUC on wrong additions is 1.00. The reply that it scores highest out of 16 is right for only 33% of the prompts, while the majority is right for 69%. More than half of these top-scoring replies add a wrong term or continue from a wrong total, but do the addition correctly. A vote weighted by the head's scores gains 4 points over the plain majority. If you choose by the policy's own log-probability, you gain 9 points, but a single greedy answer gains 11. **If you pick the reply with the highest score, you select for mistakes that the score can't see.**

# %% [markdown]
# **This week's stage** is called `prm`. For each held-out sum, the stage's answer is the best of 16 replies according to the process model. All other answers are copied from the SFT stage. Sampling 16 replies costs more than the SFT stage's single greedy answer, so we store a caveat with the results:

# %%
from postlab.evals import evaluate

own_sums = [row for row in tasks.heldout_suite(n=200, seed=0) if row["family"] == "arithmetic"]
sixteen = evaluate(
    policy, tokenizer, [row | {"temperature": 1.0, "samples": 16} for row in own_sums]
)
whose = [[{"role": "user", "content": text}] for text in sixteen["prompt"]]
cut = [process.step_row(p, reply or "-") for p, reply in zip(whose, sixteen["answer"], strict=True)]
sixteen["score"] = [
    process.aggregate(s, "min") for s in process.step_scores(process_head, tokenizer, cut)
]

# %%
from postlab.evals import compare
from postlab.runs import digest

parent = tiny.evaluate("sft", policy, tokenizer)
best = sixteen.loc[sixteen.groupby("id", sort=False)["score"].idxmax()].assign(sample=0)
rest = parent[parent["family"] != "arithmetic"]
entry = pd.concat([best, rest])[parent.columns].assign(kl=float("nan"))
unequal = "on sums, the best of 16 replies by the process model, against one greedy answer"
caveats = dict.fromkeys(("arithmetic", "format", "length"), unequal)
key = digest({"head": run.manifest["weights_sha256"], "of": 16})
run.save_eval(entry, key, notes={"caveats": caveats})
change = compare({"sft": parent, "prm": entry}).query("stage == 'prm' and metric == 'arithmetic'")
change[["value", "difference", "difference_low", "difference_high", "p", "n"]].round(3)

# %% [markdown]
# In this stage, 81% of the answers to held-out sums are right, 35 points more than in the SFT stage (95% interval: 26 to 43). This gain comes from sampling 16 replies and choosing one that shows its work; the policy itself hasn't changed.

# %% [markdown]
# <a id="credit" name="credit"></a>
# ## 7. Build: credit for each step
#
# The third promise is a denser reward for reinforcement learning. GRPO gives all tokens of a reply the same advantage, so if the answer is wrong, the right steps are penalized along with the wrong one. With step scores, every step can have an advantage of its own. There are several ways to compute these advantages:
#
# - **Outcome** (GRPO): The reward is 1 if the answer is right and 0 otherwise. This reward is normalized within the group and used as the advantage of every token.
# - **Summing to the end** (*to go*): This is DeepSeekMath's process supervision. The scores of all steps in a group are normalized together. A token's advantage is the sum of these normalized scores from its own step to the last one:
#
# $$\tilde r_{i,j} = \frac{r_{i,j} - \text{mean}(R)}{\text{std}(R)}, \qquad A_{i,t} = \sum_{j \ge \text{step}(t)} \tilde r_{i,j}$$
#
#   Here $r_{i,j}$ is the score of step $j$ of reply $i$, and $R$ contains the scores of all steps of all replies in the group.
# - **The lowest score to the end** (*lowest to go*): This form, proposed in PURE, uses a minimum in place of the sum. Additional good steps can't make up for a bad one or increase the advantage.
# - **The token's own step** (*own step*): A token's advantage is the normalized score of its own step alone. We include this form only for contrast, because it ignores all later steps.
#
# The picture shows one of the two solutions in a group. In the other solution, all steps are right:

# %% tags=["aside"]
from postlab.course.week10 import draw_credit

draw_credit()

# %% [markdown]
# The scores here come from a checker that judges every step on its own: `42+15=67` is wrong, but `#### 67` correctly repeats the total. In the previous sections, every step after a mistake was labeled wrong. If those labels were the scores, the lowest score to the end would be 0 for *all* steps of a wrong solution, including the right ones. This form of credit would then be the outcome reward under another name. So the meaning of the scores matters as much as the formula.

# %% [markdown]
# ### Build 10.1 · about 30 minutes · hard
#
# Write `step_advantages(scores, steps, group_size)`, which computes the advantages of process supervision (*to go*).
#
# - `scores`, of shape `(B, S)`, contains the score of each step. Replies have different numbers of steps, so the rows are padded with arbitrary numbers.
# - `steps`, of shape `(B, T)`, contains the number of the step that each token belongs to, counting from 0. It is -1 for padding. If a number doesn't occur in a reply's row of `steps`, the reply has no such step.
# - The rows of a group are adjacent: the first `group_size` rows belong to the first prompt, and so on.
#
# Return the advantages, of shape `(B, T)`. They must be 0 on padding and the same for all tokens of a step. If all steps of a group have the same score, all advantages of the group must be 0 and not NaN.
#
# The check compares your numbers with the formula. Then it trains a policy with your advantages on a toy task that is so small that the policy's success rate can be computed exactly. In this task, a reply has four steps, and before training, each step has a 1-in-3 chance of being right.
#
# <details><summary>Hint 1: which steps exist</summary>
#
# `(steps[:, :, None] == torch.arange(S)).any(dim=1)` has shape `(B, S)` and is true where a reply has the step. You need it for both the mean and the sum.
#
# </details>
# <details><summary>Hint 2: the group's mean and deviation</summary>
#
# Reshape the scores and the mask to `(groups, group_size * S)`. The mean is the masked sum divided by the number of real steps. For the deviation, mask the squared differences from that mean. Add a small number to the deviation before you divide.
#
# </details>
# <details><summary>Hint 3: from this step to the last</summary>
#
# Set the normalized scores of missing steps to 0. `flip(1).cumsum(1).flip(1)` sums each row from the right. At the end, `gather` gives every token the value of its step. Use `steps.clamp(min=0)` to keep the index valid for padding, and then set the result to 0 there.
#
# </details>
#
# Our own version is in `postlab/process/credit.py`. If yours isn't right yet, the cells below use ours.

# %% tags=["aside"]
from postlab.course.week10 import credit_build


def step_advantages(scores, steps, group_size):
    raise NotImplementedError


step_advantages = credit_build.check(step_advantages)

# %% [markdown]
# A short subclass lets TRL's trainer use your advantages ([deeper](#deeper-credit)). Does a policy learn *faster* with step credit than with the outcome reward? To find out, you need to compare the forms of credit on the same prompts, with several seeds.
#
# **Predict first.** We recorded runs with four forms: the outcome, the sum of all step scores as one reward (*sum of steps*), *to go* and *lowest to go*. For each form, we trained three policies (one per seed) for 16 steps of 32 samples each. The checker never makes a mistake. Which form leads, and by how much?

# %% tags=["aside"]
from postlab.course.week10 import credit_rows, plot_credit

credit = json.loads((folder / "credit.json").read_text(encoding="utf-8"))
plot_credit(credit)

# %% [markdown]
# **No form of step credit led to faster learning than the outcome reward in these 16 steps.** Runs with the same seed improve in parallel. The comparison averages the measurements at steps 4, 8, 12 and 16. With *to go* and with *lowest to go*, the average is 0.1 points higher than with the outcome (95% interval over the three seeds: -0.5 to +0.6). With *sum of steps*, it is 0.1 points lower (-0.7 to +0.4).
#
# These intervals are narrow because the runs hardly diverged. All runs with the same seed see the same prompts and the same random numbers, and after 16 steps their policies are still very similar. There are 1,440 verdicts on held-out replies. Compared with the outcome runs, only 1 verdict changes under *lowest to go*, and 7 change under *to go* ([the numbers](#deeper-credit)). For *lowest to go*, the picture above shows why: up to and including its last mistake, a wrong solution gets the same advantages as under the outcome reward. A second experiment, below, trains until the policies differ.
#
# The next table shows what the policies learned. It splits the held-out replies at the start and at the end into three groups: right ones, wrong ones that were blurted out, and wrong ones that were worked out:

# %% tags=["aside"]
from postlab.course.week10 import mistakes_left

print(mistakes_left(credit).round(1).to_string())

# %% [markdown]
# Most of the gain comes from one change: blurted-out wrong answers fall from 19% of all replies to 3% or 4%. The share of replies that are worked out but wrong changes little. It falls from 18% to 16% or 17%, with or without step credit. By the end, the policy works out more of its replies, and it gets some of the additional ones wrong. Of the replies that were worked out but wrong at the start, 15% to 20% are right at the end. A blurted answer has only one step, so there is no credit to distribute within it. The forms of credit differ in how they treat mistakes *inside* a solution, and none of them removed more of those mistakes than the outcome reward did.
#
# **Does step credit help if there is more to learn?** The second experiment starts from the GRPO stage, which rarely blurts out answers, and samples at temperature 1.5. Only 48% of the held-out samples are right at the start, and most mistakes are inside the solutions. There are 48 steps, five seeds, and a rate that was chosen for each form from the same three on tuning prompts (it is 1e-3 for both). The table gives percentages, and differences from the outcome in points:

# %% tags=["aside"]
longer_runs = json.loads((folder / "credit_long.json").read_text(encoding="utf-8"))
print(credit_rows(longer_runs).round(1).to_string())

# %% [markdown]
# **Step credit still doesn't lead, although the runs now differ.** Averaged over the measurements at steps 12, 24, 36 and 48, *to go* is 1.8 points behind the outcome, but the interval includes zero (-3.9 to +0.4). Of 4,800 verdicts, 613 differ from the outcome's. Five seeds can detect about 3 points (with 80% power), so a gain of that size is unlikely at this rate, and smaller differences remain possible. There are two caveats. First, in the tuning run at the same rate, which isn't part of the table, *to go* was 4 points *ahead* of the outcome. Second, *to go* might do better with a higher rate ([What we tried](#deeper-tried)).
#
# In the build's toy task, only one sample in 81 is right at first, so in most groups, the outcome gives the policy nothing to learn from. There, the policy does learn faster with your advantages ([deeper](#deeper-credit)). **Denser rewards matter where the outcome is rarely informative.** In figure 5 of the DeepSeekMath paper, process supervision does better than outcome supervision, on GSM8K and MATH with a learned reward model, but without seeds or intervals. We haven't tested longer solutions or scores from a learned head. [A deeper section](#deeper-gamed) shows what a policy does when its reward comes from a learned head.

# %% [markdown]
# <a id="end" name="end"></a>
# ## 8. The paper, and what you have now
#
# **Read one paper this week: *Let's verify step by step*** ([Lightman et al. 2023](https://arxiv.org/abs/2305.20050)), sections 2 to 4. Keep three questions in mind as you read:
#
# 1. What did the labelers see, and where did they stop? Why do the authors have people label solutions that look convincing but end in a wrong answer?
# 2. Which models does figure 3 compare, what data were they trained on, and what is the baseline?
# 3. How would you use the test from section 5 to find out whether the authors' model checks the mathematics?
#
# **You now have**
#
# - this week's stage in `runs/tiny/seed-<n>/prm/`, whose gain comes from choosing among 16 replies;
# - a test of what a reward model sees, which takes only a few lines: plant a mistake and compare the two scores;
# - the advantages of process supervision, and [a subclass of TRL's trainer](#deeper-credit) that can use them with any step scores;
# - a result about heads: only a head that read the digits and had 32,000 labels separated all right multi-digit additions from wrong ones;
# - a result about credit: even with a checker that makes no mistakes, step credit didn't speed up learning in our runs of 16 and 48 steps.
#
# So far, each run has had a single reward. Next week, you'll combine several rewards.
#
# This is the end of the core.

# %% [markdown]
# <a id="deeper-rollouts" name="deeper-rollouts"></a>
# ## Deeper: how good are labels from rollouts?
#
# Labels from rollouts can be wrong in two ways. A right step is labeled wrong if the policy fails to finish the solution from there, and a wrong step is labeled right if the policy recovers. First, look at a few replies from your own sample, with eight rollouts for each step:

# %% tags=["aside"]
some = [i for i, r in enumerate(rows) if len(r["completions"]) > 1][:60]
soft = process.rollout_labels(
    policy, tokenizer, [rows[i] for i in some], right=right, k=8, seed=lab.seed
)
pd.DataFrame(
    {
        "reply": " ".join(rows[i]["completions"]),
        "oracle": truth[i],
        "share of 8 rollouts": [round(x, 2) for x in labels],
    }
    for i, labels in zip(some, soft, strict=True)
    if 0 in truth[i]
).head(6)

# %% [markdown]
# The table shows the first six solutions that contain a wrong step. None of these wrong steps is labeled right, but in the last two rows, a right step is labeled wrong. There, the sum is already complete after 40, but the step ends with a comma, and none of the eight rollouts reaches the right answer. Over the three recorded seeds, the opposite error is more common: wrong steps are labeled right.
#
# The next table uses all the solutions that were recorded for three seeds (`notebooks/experiments/week10_prm.py`). The column *missed* gives the share of wrong steps that are labeled right, and *alarms* gives the share of right steps that are labeled wrong. The column *hard* says how many of the eight rollouts must be right for a label of 1: at least one ('any') or at least half ('half').

# %% tags=["aside"]
labels = pd.DataFrame(recorded["labels"])
for name in ("agreed", "missed", "alarms", "kappa"):
    labels[f"{name} (low, high)"] = [
        f"{value:.3f} ({low:.3f}, {high:.3f})" for value, low, high, _ in labels.pop(name)
    ]
labels.set_index(["replies", "hard", "seed"]).sort_index()

# %% [markdown]
# In replies with several steps, 6.5% to 9% of the wrong steps were labeled right, and at most 0.5% of the right steps were labeled wrong. Luck doesn't explain most of the missed mistakes: their share hardly falls if at least half of the rollouts, rather than just one, have to be right. Some of the missed steps may be wrong in form only. For example, if a right addition has a stray `A:` in front of it, the oracle rejects that addition and everything after it, but the verifier reads only the final answer. We can't count these cases, because the record doesn't contain the solutions. The next cell shows where the record comes from:

# %% tags=["aside"]
made_by = ("command", "commit", "seeds", "date", "device")
print({name: recorded["provenance"][name] for name in made_by})

# %% [markdown]
# <a id="deeper-best" name="deeper-best"></a>
# ## Deeper: best of n, without bias
#
# ### From step scores to one score
#
# There are several ways to combine the step scores of a reply. The *min* method takes the lowest score. The *product* method multiplies the scores, as if they were independent probabilities that each step is right. The *last* method takes the score of the last step, because that step's label says whether all the steps were right.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
chances = {"three sure steps": [0.9, 0.9, 0.9], "one doubt": [0.9, 0.5, 0.9], "a blurt": [0.6]}
pd.DataFrame(
    {how: {name: process.aggregate(p, how) for name, p in chances.items()}
     for how in ("last", "min", "product", "sum")}
).round(3)  # fmt: skip

# %% [markdown]
# The product gets smaller with every additional step, so it favors short replies. The sum grows with each additional step, so it favors long replies; [a later section](#deeper-gamed) shows the consequences.
#
# ### The estimator
#
# To plot the accuracy of best-of-n against $n$, you need estimates for many values of $n$ from one pool of $N$ replies.
#
# If you use only the first $n$ replies, you waste the rest. If you sample with replacement, the same reply can be chosen twice, which biases the estimate. Averaging over *all* subsets of size $n$ avoids both problems, and you don't have to enumerate the subsets. Sort the replies by score, and let the best have rank 0. The reply at rank $r$ wins if the other $n-1$ replies of its subset all come from the $N-1-r$ replies below it. This is true of $\binom{N-1-r}{n-1}$ of the $\binom{N}{n}$ subsets.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
import math

f"{math.comb(64, 16):,} ways to take 16 of 64 replies"

# %% [markdown]
# ### Exercise 10.2 · about 20 minutes · hard
#
# `scores` and `right` have shape `(P, N)`: there are P prompts with N replies each. The scores of a prompt are all different. Return the expected accuracy of the best of `n` replies, of shape `(P,)`.
#
# <details><summary>Hint 1</summary>
#
# `math.comb(a, b)` is 0 if `b` is larger than `a`, so you don't need any special cases.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Sort `right` by score with `argsort(descending=True)` and `gather`. The rest is a matrix product with the weights of the ranks.
#
# </details>


# %% tags=["aside"]
def best_of(scores, right, n):
    raise NotImplementedError


best_of = check.best_of(best_of)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def best_of(scores, right, n):
#     size = scores.shape[1]
#     weights = [math.comb(size - 1 - r, n - 1) / math.comb(size, n) for r in range(size)]
#     order = scores.argsort(dim=1, descending=True)
#     return right.gather(1, order) @ torch.tensor(weights, dtype=right.dtype)
# ```
#
# </details>
#
# If all right replies score above all wrong ones, best-of-n accuracy equals pass@n from week 7:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
from postlab.stats import pass_at_k

good = torch.tensor([[1.0, 0, 0, 0, 0, 1, 0, 0]])
tiebreak = good + 0.001 * torch.arange(8)
[(n, round(best_of(tiebreak, good, n).item(), 4), round(pass_at_k(8, 2, n), 4)) for n in (1, 2, 4, 8)]  # fmt: skip

# %% [markdown]
# `process.best_of_n` does the same and also handles ties, by averaging over the replies that share a score.
#
# ### Do step labels help?
#
# The first table compares each selector in the record with the majority at $n = 16$, using the same prompts and the paired test from week 6:

# %% tags=["aside"]
from postlab.course.week10 import gains

names = [name for name in recorded["by_prompt"] if name not in ("majority", "oracle")]
points = gains(recorded["by_prompt"], names)
points.set_index("selector")[["value", "points", "low", "high", "p"]].round(2)

# %% [markdown]
# At $n = 16$, choosing by any reward model's score beats the majority by about 16 to 17 points. The choice of $n$ matters, though: the methods are about equal at $n = 32$, and the majority is far ahead at $n = 64$.
#
# The next table compares each process score with the outcome model. The p-values in the column `p, all` are corrected for the six comparisons (Holm, week 6):

# %% tags=["aside"]
from postlab.stats import holm

among = [name for name in names if name.startswith(("process", "rollouts"))]
over_outcome = gains(recorded["by_prompt"], among, over="outcome, last")
over_outcome.assign(**{"p, all": holm(over_outcome["p"])}).round(2)

# %% [markdown]
# **We found no clear advantage from step labels on short sums.** At $n = 16$, all six comparisons are inconclusive after the correction, and the largest gain is 1.2 points. The intervals reflect only the choice of prompts; the three seeds tell you about the variation between training runs. At $n = 64$, accuracy is past its peak for all the models. There, the process model's lowest step score beats the outcome model by 4.7 points, but its last step score does so by only 0.3 points. So taking the minimum over the steps is what helps. (We can't give a paired interval, because the record has no per-prompt results at $n = 64$ for the outcome model.)
#
# **How much of the gain comes from form?** Suppose you only count steps. A sum of three terms needs two additions and an answer, so you pick a random reply with three steps. For a sum of four terms, you pick a reply with four steps. The next table compares the two reward models with this rule at $n = 16$. (The rule uses the first 16 replies to each prompt, while the reward models' numbers are averages over all subsets of 16.)

# %% tags=["aside"]
from postlab.course.week10 import form_only

by_form = form_only(recorded["errors"], recorded["settings"]["terms"])
print(f"by the number of steps alone: {100 * np.mean(by_form):.1f}% right")
over_form = gains(recorded["by_prompt"] | {"form": by_form}, ["process, min", "outcome, last"], over="form")  # fmt: skip
over_form.set_index("selector")[["value", "points", "low", "high", "p"]].round(2)

# %% [markdown]
# Choosing by the number of steps yields a right answer for 79.1% of the prompts, and neither reward model is clearly better than that. So you can get nearly all of the reward models' gain over the majority without a model that reads the steps.
#
# **The weighted vote combines a reward model with the majority vote.** The reward model is good at ruling out replies that don't show any work. It can't tell which of the remaining answers is right, but the vote picks one of them. At $n = 64$, the vote weighted by the process scores is right for 97.5% of the prompts. With the outcome scores, the vote is right for 97.3%.

# %% [markdown]
# <a id="deeper-hard" name="deeper-hard"></a>
# ## Deeper: when the mistakes are inside the solutions
#
# Step labels should pay off when most wrong replies contain their mistake *inside* a worked solution. This is the case for sums of six terms sampled at temperature 1.5. The record (`notebooks/experiments/week10_hard.py`) covers 100 held-out sums, with 16 replies to each, and three seeds. It compares three ways to score a step: the digit-reading head from section 5 (trained on 32,000 planted labels), the policy's own log-probability, and the oracle.
#
# **Predict first.** Which of these scores lead to better answers than the majority of 16 replies? And how good is one greedy answer?

# %% tags=["aside"]
from postlab.course.week10 import hard_choice, hard_gains, natural_rows, plot_hard_choice

folder = data_dir() / "results" / "week10"
hard = json.loads((folder / "hard.json").read_text(encoding="utf-8"))
plot_hard_choice(hard_choice(hard["runs"]), greedy=hard["greedy"])

# %% [markdown]
# If the digit-reading head picks the best of 16 replies, only 33% of the prompts get a right answer, far fewer than with the majority (69%). Is that because the head misses wrong additions? For each of three seeds, the table shows which kind of mistake comes first in the 100 chosen replies:

# %% tags=["aside"]
pd.DataFrame([run["flaws"] for run in hard["runs"]]).fillna(0).astype(int).T

# %% [markdown]
# No: only one of the 300 chosen replies has a wrong addition as its first mistake. More than half of the chosen replies add a wrong term or continue from a wrong total, but do the addition correctly. The head can't notice such mistakes, because its input is only `a+b=c`, without the question.
#
# Here are the differences from the majority at $n = 16$, paired by prompt. The p-values in the column `p, all` are corrected for the nine comparisons. The last column gives the difference for each seed:

# %% tags=["aside"]
digits = {"right": 1, "points": 1, "low": 1, "high": 1, "p": 4, "p, all": 4}
hard_gains(hard["runs"], greedy=hard["greedy"]).round(digits)

# %% [markdown]
# Three things work:
#
# - **A vote weighted by the digit-reading head** gains 4.2 points over the plain majority (95% interval: 1.9 to 6.5). Weighting by form alone (1 if all steps have the right form, 0 otherwise) gains 1.3 points. The difference between these two votes, paired by prompt, is 2.8 points (0.8 to 5.2). So most of the gain seems to come from checking the arithmetic. If so, a process reward model beats the majority here because it checks steps.
# - **The policy's own log-probability** gains 8.8 points if you use the lowest step, and 10.8 points if you use the mean over all tokens. This score needs no labels. Unlike the digit-reading head, the policy has read the question, so it can also give a wrong term a low probability. The selector 'digits, then log-prob' uses the lowest step, but puts all replies that the head rejects at the end of the ranking. Its accuracy is 79.7%, the same as for the mean. We added this selector after we had seen the results for seed 0 ([what we tried](#deeper-tried)).
# - **One greedy answer** gains 11.1 points over the majority at a sixteenth of the cost. The task is hard because the temperature is high: most mistakes come from sampled tokens that have a low probability under the policy itself. Choosing by log-probability avoids most of these mistakes. Except for the oracle (89%), no selector that we tried beats the greedy answer.
#
# The process reward model helps against sampling noise on this task, but turning the temperature down helps more. The greedy answer is 7.0 points (0.9 to 12.4) above the vote weighted by the head.

# %% tags=["aside"]
natural_rows(hard["runs"]).set_index("head").round(2)

# %% [markdown]
# This table shows the AUC on the policy's *own* wrong additions in these replies. We compare the 398 wrong additions that are the first mistake of their solution with 7,602 right ones. The digit-reading head was trained only on planted mistakes, but it recognizes the policy's own mistakes almost perfectly (the AUC rounds to 1.00). The log-probability does nearly as well, which is no surprise, because these mistakes were sampled from the same policy at temperature 1.5.

# %% [markdown]
# <a id="deeper-where" name="deeper-where"></a>
# ## Deeper: where is the mistake?
#
# The second promise was that a process reward model can show you *where* a solution goes wrong. ProcessBench tests whether a model finds the *first wrong step*. For wrong solutions, it counts how often the model flags that very step. For right solutions, it counts how often the model flags no step. The F1 score is the harmonic mean of the two shares.

# %% [markdown]
# ### Exercise 10.3 · about 10 minutes · easy
#
# `found` and `truth`, of shape `(n,)`, contain the predicted and the true position of the first wrong step, or -1 if there is none. Return the F1 as a scalar tensor. If both shares are 0, return 0.
#
# <details><summary>Hint 1</summary>
#
# The right solutions are those with `truth == -1`. For a right solution, the prediction is correct if `found` is -1 too.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The harmonic mean is $2ab / (a + b)$. Use `clamp` to keep the denominator away from 0.
#
# </details>


# %% tags=["aside"]
def process_f1(found, truth):
    raise NotImplementedError


process_f1 = check.process_f1(process_f1)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def process_f1(found, truth):
#     hit, good = (found == truth).float(), truth == -1
#     wrong, right = hit[~good].mean(), hit[good].mean()
#     return 2 * wrong * right / (wrong + right).clamp(min=1e-8)
# ```
#
# </details>
#
# Why the harmonic mean? Consider two lazy predictors on ten solutions, of which eight are wrong at step 0. For each predictor, the output shows the accuracy and the F1:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
first = torch.tensor([0] * 8 + [-1] * 2)
lazy = {"always step 0": torch.zeros(10).long(), "always right": torch.full((10,), -1)}
{name: (round((said == first).float().mean().item(), 2), process_f1(said, first).item()) for name, said in lazy.items()}  # fmt: skip

# %% [markdown]
# The predictor that always says 'step 0' has an accuracy of 80%, but it flags every right solution too. Its F1 is 0, and so is the F1 of the predictor that never flags anything.
#
# A bare answer has only one step, so its first wrong step is easy to find. How high is the F1 if we count only replies with at least two steps?

# %% tags=["aside"]
from postlab.course.week10 import found_errors, plot_errors

groups = {
    "all replies": found_errors(recorded["errors"]),
    "with steps": found_errors(recorded["errors"], least=2),
}
plot_errors(groups)

# %% [markdown]
# Without the bare answers, the F1 of the process model falls by half, from 0.96 to 0.48. The next table lists the numbers in the right-hand panel; the column *slips* counts the wrong replies. The outcome model doesn't name a position. When it rejects a reply, we try two interpretations: the *last* step is wrong, or the *first* one is. The second table shows how often each method finds the first wrong step, by its position.

# %% tags=["aside"]
groups["with steps"].set_index("finder").round(3)

# %% tags=["aside"]
from postlab.course.week10 import hits_by_place

hits_by_place(recorded["errors"]).round(3)

# %% [markdown]
# **The process model hardly ever finds a mistake after the first step.** Of the 53 first mistakes that come later, the model finds only one. Of the 193 mistakes in the first step, the model finds 77. The record doesn't say which of these replies are garbled and which contain wrong additions. But the number of steps gives a hint: a correct worked solution has as many steps as the sum has terms. Among the 182 wrong replies with this number of steps, the model finds the first wrong step in only 21. Among the 64 other wrong replies, it finds the first wrong step in 57.
#
# In replies with at least two steps, the process model finds 32% of the first wrong steps, compared with at most 16% for the outcome model. The model trained on labels from *rollouts*, which need only final answers, does equally well. For all these models, a step counts as wrong if its score is below 0.5. With another threshold, the comparison could come out differently, but we haven't tested that.
#
# The composition of a benchmark matters: if we count all replies, every model that recognizes a bare answer looks excellent.

# %% [markdown]
# <a id="deeper-search" name="deeper-search"></a>
# ## Deeper: search over steps
#
# Best-of-$n$ scores complete replies. Beam search scores partial replies, so it can drop a bad solution early. In every round, it extends each of four prefixes by four possible next steps, scores the results, and keeps the best four.

# %% tags=["aside"]
from functools import partial

score = partial(process.step_scores, process_head, tokenizer)
found = process.beam_search(policy, tokenizer, fresh[:4], score, beams=4, width=4)

# %% [markdown]
# The table shows the reply that was kept, its score, and the number of tokens that were generated along the way:

# %% tags=["aside"]
pd.DataFrame(
    {"asked": p[-1]["content"], "reply": one.reply, "score": round(one.score, 3),
     "right": right(p, one.reply), "tokens": one.tokens}
    for p, one in zip(fresh, found, strict=False)
)  # fmt: skip

# %% [markdown]
# The record covers 100 held-out prompts and three seeds. How many complete replies could you sample with the tokens of one search?

# %% tags=["aside"]
from postlab.course import numbers

searched = recorded["beams"]
tokens = np.mean([numbers(one["tokens"]).mean() for one in searched])
same_cost = tokens / np.mean(recorded["reply_tokens"])
print(f"a search draws {tokens:.0f} tokens a prompt: as many as {same_cost:.1f} whole replies")

# %% [markdown]
# On the same prompts, we compare beam search with best-of-$n$ for the recorded values of $n$ just below and just above that number. The column *cost* gives the number of tokens that beam search uses, divided by the number that best-of-$n$ uses:

# %% tags=["aside"]
from postlab.stats import paired_difference, verdict

beams = np.mean([numbers(one["right"]) for one in searched], axis=0)
sizes = sorted(map(int, recorded["equal_tokens"]))
sides = {}
for n in (max(x for x in sizes if x <= same_cost), min(x for x in sizes if x > same_cost)):
    best = np.mean([numbers(x) for x in recorded["equal_tokens"][str(n)]["process, min"]], axis=0)
    change = paired_difference(best[: len(beams)], beams)
    sides[n] = {"cost": same_cost / n, "best of n": best[: len(beams)].mean()}
    sides[n] |= {"beams": beams.mean(), "difference": change.difference}
    sides[n] |= {"low": change.low, "high": change.high, "beams are": verdict(change)}
pd.DataFrame(sides.values(), index=pd.Index(sides, name="n")).round(2)

# %% [markdown]
# Both comparisons are inconclusive. Beam search gives a right answer for 78% of the prompts, compared with 79% for best-of-16 and 81% for best-of-32. The costs aren't exactly equal: if the ratio in the column *cost* is above 1, beam search used more tokens. We count only the generated tokens here, not the forward passes of the reward model.
#
# Why isn't search clearly better? We haven't tested this, but we can suggest some likely reasons. Search can drop bare answers in the first round, but best-of-$n$ can reject them as well. And since the reward model can't see wrong additions, search can't prune them. Search also relies on the model's scores in every round, so there are more chances to keep a mistake that scores high.

# %% [markdown]
# <a id="deeper-credit" name="deeper-credit"></a>
# ## Deeper: credit for each step in practice
#
# ### In the toy task
#
# The check trained a policy with your advantages on a toy task with four steps, in which a reply is right only if all four steps are. At first, only one sample in 81 earns the outcome reward, so most groups have no right reply to learn from. By contrast, the step scores are informative in every group. But be careful with toy tasks, because they are built to show an effect. With a learning rate four times as high, a policy learns nearly as much from the outcome in the same 60 updates:

# %% tags=["aside"]
pd.DataFrame(
    {
        f"learning rate {lr}": {
            name: np.mean([credit_build.StepWorld().train(how, lr=lr, seed=s) for s in range(5)])
            for name, how in (("your advantages", step_advantages), ("outcome", credit_build.outcome_advantages))
        }
        for lr in (1, 2, 4)
    }
).round(2)  # fmt: skip

# %% [markdown]
# ### In TRL's trainer
#
# TRL's `GRPOTrainer` has no option for step scores, but its loss accepts advantages of shape `(B, T)`. So a subclass only has to replace the advantages that GRPO computes. The function `process.token_steps` finds the step of every token. Our checker is the oracle, which judges each step on its own:

# %% tags=["aside"]
from trl import GRPOConfig, GRPOTrainer


def checked(prompt, reply):
    """1 or 0 for each step, given the steps before it; a blank reply has one wrong step."""
    cut = process.split_steps(reply)
    return process.oracle_labels(prompt[-1]["content"], cut, alone=True) or [0]


class StepGRPOTrainer(GRPOTrainer):
    """GRPO with an advantage per token, from the scores of the steps."""

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        mask, ids = batch["completion_mask"].bool(), batch["completion_ids"]
        rows = [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
        # 1. The step that each token belongs to, -1 for padding.
        steps = torch.full(ids.shape, -1)
        for b, places in enumerate(process.token_steps(rows, self.processing_class)):
            steps[b, mask[b]] = torch.tensor(places)
        # 2. A score for each step.
        scores = torch.zeros(len(rows), int(steps.max()) + 1)
        for b, (one, row) in enumerate(zip(inputs, rows, strict=True)):
            reply = self.processing_class.decode(row, skip_special_tokens=True)
            marks = torch.tensor(checked(one["prompt"], reply), dtype=torch.float32)
            scores[b, : len(marks)] = marks
        # 3. Your advantages in place of GRPO's.
        batch["advantages"] = step_advantages(scores, steps, self.num_generations)
        return batch


# %% [markdown]
# Let's train for eight steps of 32 samples each, on sums of five or six terms. The reward is only logged here, because the subclass replaces the advantages that GRPO computes from it:

# %% tags=["aside"]
from postlab.models import trainable
from postlab.sampling import rollout_func


def answered(prompts, completions, **columns):
    """Whether the final answer is right."""
    return [right(p, c[-1]["content"].strip()) for p, c in zip(prompts, completions, strict=True)]


longer = {
    split: sums(split, count, f"longer {split}", (5, 6))
    for split, count in (("train", 32), ("heldout", 40))
}
learner = trainable(load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)[0])
how = tiny.profile.grpo.trainer | {
    "max_steps": 8, "per_device_train_batch_size": 32, "learning_rate": 4e-4,
    "max_completion_length": 96, "save_strategy": "no", "disable_tqdm": True,
}  # fmt: skip
with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as place:
    trainer = StepGRPOTrainer(
        model=learner,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in longer["train"]]),
        reward_funcs=[answered],
        rollout_func=rollout_func,
        args=GRPOConfig(output_dir=place, seed=lab.seed, **how),
    )
    trainer.train()

# %% [markdown]
# Here is the share of sampled replies with the right answer on 40 held-out sums, before and after training:


# %% tags=["aside"]
def share_right(model):
    replies = process.sample_solutions(
        model, tokenizer, longer["heldout"], n=4, new_tokens=96, seed=0
    )
    return np.mean([right(p, x) for p, group in zip(longer["heldout"], replies, strict=True) for x in group])  # fmt: skip


print(f"before {share_right(policy):.2f}, after {share_right(trainer.model.eval()):.2f}")

# %% [markdown]
# The policy learns. Does it learn *faster* than with the outcome? One run can't answer that question, so [section 7](#credit) compares several.
#
# ### The comparison in numbers
#
# For each run, the table averages the share of right answers over the measurements at steps 4, 8, 12 and 16, so that early learning counts. It then compares this average with that of the outcome runs. The seed is the unit of analysis: the intervals come from `blocked_differences` (week 8), and `p, all` is corrected for the three comparisons:

# %% tags=["aside"]
credit_rows(credit).round(2)

# %% [markdown]
# The intervals reflect the differences between seeds, assuming the same variance for all forms. They don't cover the choice of the 120 prompts. How far did the runs diverge? All measurements use the same prompts and random numbers, so we can follow each held-out reply. Over the three seeds, the table counts what became of the replies that were wrong at the start. Over the four measurements, the last row counts the verdicts that differ from those of the outcome runs:

# %% tags=["aside"]
from postlab.course.week10 import mended

mended(credit).T

# %% [markdown]
# *Lowest to go* and the outcome reward led to practically the same policy. Of 1,440 verdicts, 16 differ from those of the outcome runs under *sum of steps*. With so few differences, counting right answers couldn't have shown that one form is better.

# %% [markdown]
# <a id="deeper-gamed" name="deeper-gamed"></a>
# ## Deeper: a process reward that is gamed
#
# What happens if GRPO optimizes the scores of our process reward model without a verifier? The recorded runs compare three rewards: the **sum** of the step scores, the **lowest** step score, and the sum **only if the answer is right** (the gated sum). The gated sum needs a verifier again.
#
# All three rewards turn the step scores into *one number per reply*, so no step gets credit of its own (unlike in [section 7](#credit)).

# %% tags=["aside"]
from postlab.course import numbers
from postlab.course.week10 import curves, plot_gamed

plot_gamed(*curves(recorded["grpo"]))

# %% [markdown]
# With all three rewards, the policy first learns to work out its sums. Greedy accuracy on held-out sums rises from 2% to at least 95% within 20 steps. After that, the runs diverge:
#
# - **The sum** rewards every additional step that looks right, so the easiest way to increase the sum is to add steps. For one of three seeds, the policy starts to add steps between training steps 40 and 60. The reward and the number of steps per reply rise, while the accuracy falls to zero.
# - **The lowest score** doesn't reward extra steps, but that isn't enough. For one of three seeds, accuracy falls to 20% while the reward stays at about 0.87. This policy writes well-formed steps with wrong additions. One of its recorded answers begins with `40+59=199`. Since the reward doesn't fall, the reward model must score such steps about as high as right ones.
# - **The gated sum** keeps accuracy at 97% to 98% for all three seeds.
#
# The failure with the lowest score matches the first result of this week: a reward model that can't see wrong additions can't teach a policy to avoid them. The seeds differ in which weakness, if any, is exploited within 80 steps. The number of hacked runs depends on where you draw the line. The other four runs without the verifier end 3 to 8 points below their accuracy at step 20 (2 to 5 of the 64 held-out sums). The gated runs end at most 2 points below their accuracy at step 20. Here is the share of held-out sums that each run gets right:

# %% tags=["aside"]
pd.DataFrame(
    {"arm": run["arm"], "seed": run["seed"]}
    | {f"step {look['step']}": numbers(look["truth"]).mean() for look in run["heldout"]}
    for run in recorded["grpo"]
).sort_values(["arm", "seed"]).round(2).set_index(["arm", "seed"])

# %% [markdown]
# What does a policy write when it has learned to exploit the sum? Here are some answers from the run with the most steps per reply:

# %% tags=["aside"]
summed = [run for run in recorded["grpo"] if run["arm"] == "sum of steps"]
gamed = max(summed, key=lambda run: numbers(run["heldout"][-1]["steps"]).mean())
pd.DataFrame(gamed["heldout"][-1]["answers"], columns=["asked", "said"])

# %% [markdown]
# Every addition is right, but the last one shouldn't be there: the policy adds the last number twice. The reward model scores whether a step looks right, not whether it belongs in the solution.
#
# Would postlab's log doctor have caught this? We give it a log with the reward and the length, but without the accuracy:

# %% tags=["aside"]
KEYS = {"proxy": "reward", "length": "completions/mean_length", "silent": "frac_reward_zero_std"}
KEYS |= {"clipped": "completions/clipped_ratio"}


def log_of(run):
    """The trainer's log of a recorded run."""
    columns = {name: numbers(values) for name, values in run["log"].items()}
    named = {KEYS.get(name, name): values for name, values in columns.items() if name not in ("truth", "steps")}  # fmt: skip
    return [dict(zip(named, values, strict=True)) for values in zip(*named.values(), strict=True)]


# %% [markdown]
# Here are the log doctor's findings for this run and the gated runs:

# %% tags=["aside"]
from postlab.doctor import diagnose

gates = [run for run in recorded["grpo"] if "answer" in run["arm"]]
for run in (gamed, *gates):
    codes = ", ".join(finding.code for finding in diagnose(log_of(run)))
    print(f"{run['arm']}, seed {run['seed']}: {codes or 'nothing to report'}")

# %% [markdown]
# The log doctor reports nothing for the gated runs, but it also reports nothing for the run whose accuracy ended at 0%. The reward and the length alone aren't enough to tell a good run from a hacked one. **Always log a measure that isn't part of the reward.**

# %% [markdown]
# <a id="deeper-bug" name="deeper-bug"></a>
# ## Deeper: a bug hunt
#
# A colleague has trained a process reward model of his own. After half as many training steps, his loss is far below yours, and his best-of-16 accuracy is almost the same. But his model flags every right solution as wrong. What is the bug?


# %% tags=["aside"]
def colleagues_rows(rows):
    """Tokens and labels, as my colleague makes them."""
    found = process.encode_steps(rows, tokenizer)
    for row in found:
        row["labels"] = [max(label, 0) for label in row["labels"]]
    return found


# %% [markdown]
# We train on the same rows, for half as many steps:

# %% tags=["aside"]
theirs, their_log = trained_head(colleagues_rows(process_rows), max_steps=30)
their_scores = process.step_scores(theirs, tokenizer, flat)
again = iter(their_scores)
by_theirs = table(flat, lambda r: process.aggregate(next(again), "min"))

# %% [markdown]
# The first row shows your model, and the second shows his:

# %% tags=["aside"]
first = [process.first_wrong(r["labels"]) for r in flat]
pd.DataFrame(
    {"loss": log[-2]["loss"], "best of 16": process.best_of_n(marks, worth, 16).mean()}
    | process.error_f1([process.first_wrong(p) for p in scores], first)
    for log, marks, scores in (
        (process_log, by_process, [r["scores"] for r in flat]),
        (their_log, by_theirs, their_scores),
    )
).set_axis(["yours", "his"]).round(3)  # fmt: skip

# %% [markdown]
# <details><summary>What is wrong?</summary>
#
# `max(label, 0)` turns -100 into 0, so all tokens of the prompt, and all tokens of a step except the last, are now labeled *wrong*. More than nine tokens in ten get this label in any solution, so a model that predicts 'wrong' almost everywhere has a small loss. The replies are still ranked in a similar order, so best-of-16 hardly changes. But none of the right solutions passes a threshold of 0.5, and the F1 is 0. Nothing crashes, because 0 is a valid class. Count your labels before you train.
#
# </details>

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
one = process.step_row(prompt, replies[1], [1, 0, 0])
[sum(x != -100 for x in process.encode_steps([one], tokenizer)[0]["labels"]), sum(x != -100 for x in colleagues_rows([one])[0]["labels"])]  # fmt: skip

# %% [markdown]
# For comparison, the table shows the number of labels and the loss for your two models. Don't compare the two losses with each other, because they are averages over different tokens.

# %% tags=["aside"]
pd.DataFrame(
    {
        "solutions": len(one),
        "labels": sum(x != -100 for row in one for x in row["labels"]),
        "loss, first": log[0]["loss"],
        "loss, last": log[-2]["loss"],
    }
    for one, log in ((encoded, process_log), (outcome_encoded, outcome_log))
).set_axis(["process", "outcome"])

# %% [markdown]
# <a id="deeper-real" name="deeper-real"></a>
# ## Deeper: real data
#
# `step_rows` reads ProcessBench, PRM800K, Math-Shepherd and TRL's stepwise format, and converts them into the rows used above. The three datasets differ in what they label and where they store the labels:
#
# - **ProcessBench** contains a list of steps and the position of the first wrong one. The dataset says nothing about later steps, so their labels stay `None`. Don't make them up.
# - **PRM800K** has several candidates per step, each rated 1, 0 (neutral) or -1. It also records which candidate the annotator continued with. Its solutions end at the first wrong step.
# - **Math-Shepherd** has one string with a mark after every step (the Cyrillic letters `ки`), and a second string with `+` or `-` in place of the mark. Its labels come from rollouts.
#
# Here is the same solution as a row of each dataset, in the format of its own files:

# %% tags=["aside"]
import pathlib

from postlab.datasets import step_rows

problem = "Ann has 3 bags of 4 apples and eats 2. How many are left?"
written = ["3 * 4 = 12", "12 - 2 = 11", "The answer is 11."]
bench = {"id": "gsm8k-0", "problem": problem, "steps": written, "label": 1}
bench |= {"generator": "Qwen2-7B-Instruct", "final_answer_correct": False}
rated = [
    {
        "completions": [{"text": text, "rating": rating, "flagged": None}],
        "human_completion": None,
        "chosen_completion": 0 if rating == 1 else None,
    }
    for text, rating in zip(written[:2], (1, -1), strict=True)
]
prm800k = {"labeler": "0", "question": {"problem": problem, "ground_truth_answer": "10"}}
prm800k |= {"label": {"steps": rated, "finish_reason": "found_error"}}
marked = [f"Step {i + 1}: {text}" for i, text in enumerate(written)]
shepherd = {
    "input": f"{problem} " + "\n".join(f"{line} ки" for line in marked),
    "label": f"{problem} " + "\n".join(f"{x} {y}" for x, y in zip(marked, "+--", strict=True)),
    "task": "GSM8K",
}
shepherd

# %% [markdown]
# The loader converts them into these steps and labels:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
with tempfile.TemporaryDirectory() as place:
    for name, raw in (("ProcessBench", bench), ("PRM800K", prm800k), ("Math-Shepherd", shepherd)):
        file = pathlib.Path(place, f"{name}.jsonl")
        file.write_text(json.dumps(raw), encoding="utf-8")
        real = step_rows(str(file), split="test")[0]
        print(f"{name}: {real['completions']}, {real['labels']}")

# %% [markdown]
# On a GPU, you would proceed as follows:
#
# 1. Load the training data with `step_rows("peiyi9979/Math-Shepherd", split="train[:50000]")`.
# 2. Encode it with `encode_steps(rows, tokenizer, separator="\n", max_length=1024, drop_long=True)`.
# 3. Train a 1.5B or 7B model with LoRA and `num_labels=2`.
# 4. Load the benchmark with `step_rows("Qwen/ProcessBench", split="gsm8k")`, score it with `step_scores(head, tokenizer, rows, separator="\n")`, and evaluate with `error_f1`.
#
# We haven't run this with a large model. [The last section](#deeper-own) does so on a small scale, with your profile's model.

# %% [markdown]
# <a id="deeper-others" name="deeper-others"></a>
# ## Deeper: without step labels
#
# ### Why DeepSeek-R1 dropped process reward models
#
# The authors of DeepSeek-R1 report process reward models among their unsuccessful attempts ([2501.12948](https://arxiv.org/abs/2501.12948), section 4.2 of the first version). They give three reasons. First, it is hard to define a fine-grained step for general reasoning. Second, it is hard to decide whether an intermediate step is right: automatic labels may be unsatisfactory, and human labels don't scale. Third, a learned reward model leads to reward hacking, and retraining it costs resources and complicates the pipeline. They still consider such models useful for reranking replies and for guided search.
#
# You have seen a small version of each problem this week. A step was easy to define only because our sums have commas. In replies with several steps, the rollouts labeled 6.5% to 9% of the wrong steps as right. And [when a policy was rewarded by the head](#deeper-gamed), it exploited the head for one of three seeds, both with the sum and with the lowest score.
#
# ### Implicit process rewards
#
# The log-ratio of two language models can serve as a reward for every token. PRIME ([2502.01456](https://arxiv.org/abs/2502.01456)) trains a language model $\pi_\phi$ on *outcome* labels only. PRIME defines the reward of a whole reply as $\beta \log \frac{\pi_\phi(y)}{\pi_\text{ref}(y)}$. This is a sum over tokens, so each token has a reward too:
#
# $$r_\phi(y_t) = \beta \log \frac{\pi_\phi(y_t \mid x, y_{<t})}{\pi_\text{ref}(y_t \mid x, y_{<t})}$$
#
# PRIME needs no step labels. Because outcome labels are cheap, the reward model can be updated on the policy's own samples during training, which helps against reward hacking. You know this form from week 4 as DPO's implicit reward. Section 5 suggests why a language model's probabilities can tell you something about steps: the policy's own log-probability separated right results from wrong ones, although the policy had seen no step labels. PRIME's reward is a trained ratio to a reference, while ours is the plain log-probability of a policy that wasn't trained as a reward model. Our score can reveal slips that come from a high temperature, but not errors that are likely under the policy.
#
# ### Generative verifiers
#
# A classification head reads a solution in one pass. A generative verifier ([2408.15240](https://arxiv.org/abs/2408.15240)) is a language model that is trained by next-token prediction to answer 'Is the answer correct?' with Yes or No. The score is the probability of *Yes*. Such a verifier can also write out its reasoning first, and you can then average several sampled verdicts. According to the abstract, best-of-n on GSM8K rises from 73% to 93.4%, compared with the other verifiers that the authors tried. On our sums, a verifier that writes out its reasoning could redo the addition, since our policy can add. A head reads only one hidden state, so the sum must be computed before that state.
#
# If you have an API endpoint or the model used by `smol`, you can try such a verifier on your own solutions. Plant a wrong digit in half of the steps, and ask for a verdict on each step. Then compute the AUC as in section 5, before you look at any best-of-n curve. We haven't recorded such a run.

# %% [markdown]
# <a id="deeper-tried" name="deeper-tried"></a>
# ## Deeper: what we tried
#
# We ran more experiments than you saw this week, and we chose some settings after we had seen results.
#
# **The first task failed.** In our first attempts, we used training prompts with sums of five or six terms and sampled the replies at higher temperatures. On such sums, most errors occur *inside* a worked solution, so a process reward model should be useful. But ours wasn't. We trained on 2,400 solutions for 150 steps with two learning rates, and the AUC for right steps against slips was only 0.43 to 0.49. Best-of-16 gave a right answer for 29% of the prompts, and the majority vote for 66%. A longer run (stopped at step 300 of 500 when its loss was flat) didn't change that, and neither did a model with eight layers instead of four. These pilots have no record. [The section on mistakes inside the solutions](#deeper-hard) repeats the task with other scores. We also planned to test the lesson's own recipe there, but dropped that test and kept no record of it.
#
# **Then we changed the task.** On sums of five terms, sampled at temperatures of 0.7 to 1.4, the majority of 16 was right for 95% of the prompts, so there was little to gain. So sections 3 to 6 use short sums. Most wrong replies to short sums are bare answers, which even our model can recognize. This choice of task explains most of the success in the figure in section 6.
#
# **We changed the prompts after a first run.** In that run, we used sums of four terms, a temperature of 0.9 and held-out *wordings*. With these settings, the policy works out twice as many sums. For seed 0, the majority of 16 was right for 96% of the prompts. With the process model, best-of-$n$ was right for 89% at most (at $n = 8$) and for only 65% at $n = 64$. We wanted a task that is neither already solved nor out of reach, so we switched to held-out numbers and the wording from training.
#
# **We looked for reward hacking.** The [runs rewarded by the head](#deeper-gamed) weren't our first attempt to provoke hacking. With four terms per sum, no policy exploited its reward in 40 steps: 95% of the answers were right with both of our rewards. None of the sampled replies had an extra step that the reward could reinforce. So we mixed in sums of three terms, where the policy sometimes writes an extra step, and trained for 80 steps. The record shows that reward hacking happens, but not how often it would happen elsewhere.
#
# The next table lists **the heads from section 5**, with the AUC for each seed:

# %% tags=["aside"]
by_seed = [", ".join(f"{x:.2f}" for x in one) for one in heads["seeds"]]
heads.assign(seeds=by_seed).drop(columns="kind").set_index("head").round(2)

# %% [markdown]
# The *twins* column gives the share of sums in which the right step scores higher than the same step with a planted mistake. Scores in the record are rounded to three digits, so some pairs are tied. For the lesson's head on sums of three and four terms, 23 to 121 of the 250 pairs are ties, which count as half.
#
# The recorded heads use the first settings that we tried: we didn't tune sizes, learning rates or numbers of epochs. But we shortened the experiment while it was running. We dropped two parts: one trained all weights of the policy on planted labels, and the other trained heads on frozen states with 8,000 labels. A third part, in which the heads chose among replies, became the experiment on hard sums. We kept no record of the parts we dropped. So this table doesn't tell you whether training *all* weights on planted labels would have been enough. The planted mistakes are single wrong digits. In the training and test sets, about half of the steps have a planted mistake; in real solutions, wrong steps are rarer.

# %% [markdown]
# Did the 32,000 labels help, or the longer training that comes with them? Every head was trained for 30 epochs, so more labels also meant more optimizer steps. As a control, we trained heads with fewer labels for just as many steps (`notebooks/experiments/week10_head_steps.py`):

# %% tags=["aside"]
from postlab.course import numbers

folder = data_dir() / "results" / "week10"
control = json.loads((folder / "head_steps.json").read_text(encoding="utf-8"))
pd.DataFrame(
    {
        name: auc(numbers(scores["right"]), numbers(scores["wrong"])).mean()
        for name, scores in run["scores"].items()
    }
    for run in control["runs"]
).round(2)

# %% [markdown]
# Both matter. With 8,000 labels, the AUC rises from 0.78–0.81 after 937 steps to 0.97–0.99 after the full number of steps. With 2,000 labels, the AUC is still only 0.65 to 0.67. The head with 32,000 labels hasn't just memorized sums: about one in twelve held-out steps (18 to 23 per seed) adds two numbers that are never added in a training row. Its AUC over all held-out steps is 1.00, so it separates these steps too.

# %% [markdown]
# **On hard sums, we added some comparisons after we had seen results.** After seed 0, we added the table of first mistakes and the selector 'digits, then log-prob'. After two seeds, we added the selector 'vote by form'. These additions only evaluate the same replies and scores in another way; nothing was resampled or retrained. But correcting for nine comparisons doesn't make up for choosing some of them afterward, so treat these two selectors and the table as exploratory. The planned selectors are the log-probabilities and the digit-reading head, which is used both alone and as a vote weight.
#
# **To compare the forms of credit**, we used sums of five or six terms, because sums of three or four are learned within 20 steps under every reward. We chose these sums before any run, based on the accuracy of 96 samples. A first run (outcome reward, seed 0) used the learning rate of the earlier GRPO runs, 4e-4. We stopped it after 15 of 24 planned steps: from step 4 on, 75% to 100% of its samples were right, so all the forms would have reached the ceiling. We kept no record of this run. The recorded runs use the profile's own rate, 1e-4, for 16 steps. A fifth arm, with credit for *the token's own step*, was planned but cut to save time, so section 7 explains this form but has no result for it. Nothing was tuned for any single form of credit. In the second experiment, we trained each form at 3e-4, 1e-3 and 3e-3 with one tuning seed, and the mean share of right answers was highest at 1e-3 for both. At 3e-3, the outcome run fell to 19% after 16 steps and ended at 74%, but *to go* ended at 81%, the highest of the six runs. With one seed, that is only a hint. *Lowest to go* was cut to save time.

# %% [markdown]
# <a id="deeper-own" name="deeper-own"></a>
# ## Deeper: your profile's own model
#
# So far, we have had an oracle that can check every step. Now we work without it. The model that you trained with GRPO in week 7 (under `smol`, `t4` or `rented`) generates solutions to its training problems. We use rollouts to label the steps and train a reward model on those labels. The reward model then chooses among replies to held-out problems. The data are the same as for GRPO, that is, GSM8K or one-step word problems on `smol`.
#
# We estimate that this takes about 7 minutes on two cores under `smol`, 20 minutes on a T4 (with the 1.5B model) and 10 minutes on an H100. We haven't run this section on a GPU yet. It doesn't use Unsloth, which would replace the classes that the reward model is built from.

# %%
own = bool(lab.profile.base_model)  # not the embedded one
if not own:
    lab.not_here("this section needs a language model; POSTLAB_PROFILE=smol has one for a CPU.")
elif lab.profile.grpo.source not in ("gsm8k", "everyday"):
    lab.not_here("it takes held-out problems of gsm8k or everyday, and GRPO had other rows.")
    own = False

# %%
if own:
    import re

    import pandas as pd

    from postlab import process
    from postlab.datasets import math_rows
    from postlab.evals import everyday_rows
    from postlab.models import load_policy

    pd.set_option("display.max_colwidth", 120)
    grpo, small = lab.profile.grpo, lab.profile.device == "cpu"
    policy, tokenizer = load_policy(lab.checkpoint("grpo"), profile=lab.profile)
    how = {"seed": lab.seed, "instruction": grpo.system_prompt, "columns": grpo.columns}
    most = 40 if small else 120
    learn = math_rows(grpo.source, split="train", n=min(grpo.rows or most, most), **how)
    if grpo.source == "gsm8k":
        fresh = math_rows("gsm8k", split="test", **(how | {"seed": 0}))
    else:
        sums = [row for row in everyday_rows(families="arithmetic") if row["level"] <= 2]
        fresh = [{"prompt": row["prompt"], "answer": str(row["answer"])} for row in sums]
    fresh = fresh[: min(lab.profile.eval_prompts or 200, 60 if small else 200)]

# %% [markdown]
# The verifier checks whether the last number in a reply is the right answer.

# %%
if own:
    golds = {
        row["prompt"][-1]["content"]: float(row["answer"].replace(",", ""))
        for row in [*learn, *fresh]
    }

    def final_number(reply):
        """The last number of a reply; None without one."""
        numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", reply)
        return float(numbers[-1].replace(",", "")) if numbers else None

    def right(prompt, reply):
        return float(final_number(reply) == golds[prompt[-1]["content"]])

# %% [markdown]
# ### Sample solutions and label them with rollouts
#
# We sample four solutions per problem and treat each line as a step. Nobody has labeled these steps, so we use rollouts as in section 3, with four completions from each prefix. The label of the last step is the outcome. A step counts as right if at least two of its four completions get the right answer. Most replies under `smol` are one line long, so they have only one step. For such replies, the process reward model is just an outcome reward model.

# %%
if own:
    new_tokens = grpo.trainer["max_completion_length"]
    prompts = [row["prompt"] for row in learn]
    drawn = process.sample_solutions(
        policy, tokenizer, prompts, n=4, new_tokens=new_tokens, seed=lab.seed
    )
    rows = [
        process.step_row(prompt, reply, at=process.LINES)
        for prompt, group in zip(prompts, drawn, strict=True)
        for reply in dict.fromkeys(group)
        if process.split_steps(reply, at=process.LINES)
    ]
    soft = process.rollout_labels(
        policy, tokenizer, rows,
        right=right, k=4, new_tokens=new_tokens, separator="\n", seed=lab.seed,
    )  # fmt: skip
    for row, labels in zip(rows, soft, strict=True):
        row["labels"] = labels

# %% [markdown]
# For each number of steps, the table shows how many solutions there are, what share of them has the right answer, and what share of their steps is labeled right. Check both shares: a model can't learn anything if all labels are the same.

# %%
if own:
    about = pd.DataFrame(
        {"steps": len(row["labels"]), "right": row["labels"][-1], "steps right": sum(x >= 0.5 for x in row["labels"]) / len(row["labels"])}
        for row in rows
    )  # fmt: skip
about.groupby("steps").agg(solutions=("right", "size"), right=("right", "mean"), labels=("steps right", "mean")).round(2) if own else None  # fmt: skip

# %% [markdown]
# Before the policy is turned into the reward model, we also sample replies to the held-out problems: one greedy answer and eight samples per problem.

# %%
if own:
    from postlab.evals import evaluate

    asked = [
        {"id": i, "family": "held out", "prompt": row["prompt"], "max_new_tokens": new_tokens, "score": lambda answer, closed: {}}
        for i, row in enumerate(fresh)
    ]  # fmt: skip
    greedy = evaluate(policy, tokenizer, asked)["answer"].tolist()
    places = [row["prompt"] for row in fresh]
    pool = process.sample_solutions(policy, tokenizer, places, n=8, new_tokens=new_tokens, seed=1)

# %% [markdown]
# ### The reward model
#
# As in section 4, we keep the body of the policy and replace its vocabulary layer with one that outputs two logits per token. A 4-bit model can't be merged with its adapter, so we keep GRPO's adapter and train it further, together with the new layer. The training arguments come from the profile's SFT stage, except for those that only TRL accepts.

# %%
if own:
    import torch
    from peft import PeftConfig, get_peft_model, load_peft_weights
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from transformers import AutoModelForTokenClassification

    def reward_head(policy, folder):
        """The policy as a token classifier of two classes, its adapter and the new layer trainable."""
        body, adapter = policy.unload(), PeftConfig.from_pretrained(folder)
        body.config.num_labels = 2
        with torch.device("meta"):  # an empty shell: the body is the policy's own
            head = AutoModelForTokenClassification.from_config(body.config)
        head.model = body.model
        head.score = torch.nn.Linear(body.config.hidden_size, 2, device=body.device)
        adapter.task_type, adapter.inference_mode = "TOKEN_CLS", False  # PEFT also trains `score`
        head = get_peft_model(head, adapter)
        new = get_peft_model_state_dict(head, save_embedding_layers=False)  # with the new layer
        set_peft_model_state_dict(head, new | load_peft_weights(folder))
        return head

    torch.manual_seed(lab.seed)
    head = reward_head(policy, lab.checkpoint("grpo"))
    head.print_trainable_parameters()

# %%
if own:
    import dataclasses

    from datasets import Dataset
    from transformers import DataCollatorForTokenClassification, Trainer, TrainingArguments

    from postlab.runs import freed_memory_kept, without_padding

    encoded = process.encode_steps(rows, tokenizer, separator="\n", max_length=lab.profile.max_length, drop_long=True)  # fmt: skip
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    how = {name: value for name, value in lab.profile.sft.trainer.items() if name in known}
    how |= {"num_train_epochs": 2, "max_steps": -1, "optim": "adamw_torch"}
    how["gradient_checkpointing_kwargs"] = {"use_reentrant": False}
    run = lab.run("prm", parent="grpo")
    trainer = Trainer(
        model=head,
        train_dataset=Dataset.from_list(encoded).select_columns(
            ["input_ids", "attention_mask", "labels"]
        ),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        processing_class=tokenizer,
        args=TrainingArguments(str(run.checkpoints), seed=lab.seed, **how),
    )
    with freed_memory_kept(), without_padding(trainer.model):  # optional: a CPU trains faster
        head_log = run.train(trainer)
pd.DataFrame(head_log)[["step", "loss"]].dropna().iloc[[0, -1]] if own else None

# %% [markdown]
# ### Choose among replies
#
# The score of a reply is its lowest step score. On the same held-out problems, we compare the best of $n$ by this score, the majority vote, a vote weighted by the score, and an oracle, which is right if any of the replies is right.

# %%
if own:
    import numpy as np

    flat = [
        process.step_row(prompt, reply or "nothing", at=process.LINES)
        for prompt, group in zip(places, pool, strict=True)
        for reply in group
    ]
    half = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(lab.profile.dtype)
    device = next(trainer.model.parameters()).device.type
    with torch.autocast(device, dtype=half, enabled=half is not None):
        chances = process.step_scores(trainer.model, tokenizer, flat, separator="\n", batch_rows=16)
    scores = np.array([process.aggregate(one, "min") for one in chances]).reshape(len(fresh), 8)
    answers = [[final_number(reply) for reply in group] for group in pool]
    worth = np.array(
        [[right(p, reply) for reply in group] for p, group in zip(places, pool, strict=True)]
    )

    def chosen(n):
        """Each selector's accuracy with n replies, a number a problem."""
        return {
            "majority": process.vote_of_n(answers, worth, n),
            "process, min": process.best_of_n(scores, worth, n),
            "vote by process, min": process.vote_of_n(answers, worth, n, weights=scores),
            "oracle": process.best_of_n(worth, worth, n),
        }


# %%
if own:
    from postlab.course.week10 import plot_choice
    from postlab.stats import bootstrap_interval, paired_difference

    curves = []
    for n in (1, 2, 4, 8):
        for selector, values in chosen(n).items():
            found = bootstrap_interval(values)
            curves.append(
                {
                    "selector": selector,
                    "n": n,
                    "value": found.value,
                    "low": found.low,
                    "high": found.high,
                }
            )
plot_choice(pd.DataFrame(curves), of=8) if own else None

# %% [markdown]
# How much does the reward model add? The table shows paired differences in points on the same problems, with eight replies to each. The greedy answer costs only one reply, so a gain over it shows what seven more replies and a reward model add together. The gain over the majority shows what the reward model itself adds.

# %%
if own:
    of_eight = chosen(8)
    of_eight["greedy"] = np.array(
        [right(p, reply) for p, reply in zip(places, greedy, strict=True)]
    )
    table = []
    for selector in ("process, min", "vote by process, min", "majority"):
        for over in ("greedy", "majority"):
            if selector != over:
                change = paired_difference(of_eight[over], of_eight[selector])
                row = {
                    "selector": selector,
                    "over": over,
                    "right": of_eight[selector].mean(),
                    "points": 100 * change.difference,
                }
                table.append(
                    row | {"low": 100 * change.low, "high": 100 * change.high, "p": change.p}
                )
pd.DataFrame(table).set_index(["selector", "over"]).round(2) if own else None

# %% [markdown]
# If an interval contains zero, the comparison is *inconclusive*. If the reward model doesn't beat the majority, remember section 6: one overrated reply can't change a vote by much. Also remember how little training data the model had: a few hundred solutions to problems that the policy had already been trained on. And the labels are only as good as the policy that wrote the rollouts.

# %% [markdown]
# <a id="interview" name="interview"></a>
# ## Five interview questions
#
# **1.** Why do you put the label of a step on its last token? What happens if you put it on all tokens of the step?
#
# <details><summary>Answer</summary>
#
# At an earlier token, a causal model hasn't read the whole step yet. If all tokens have the label, the model learns to predict from the beginning of a step whether it will be right, and long steps count more than short ones. If the label is one token too late, the model has already seen how the next step begins, which leaks information. The prompt and the padding must be labeled -100.
#
# *A likely follow-up:* How would you notice that -100 had become 0? I'd count the labels per row. A loss that falls quickly isn't a sign of success, because the extra labels are all the same and easy to predict.
#
# </details>
#
# **2.** Your process model beats the outcome model by ten points in best-of-64. What do you check before you believe that the step labels made the difference?
#
# <details><summary>Answer</summary>
#
# First, I'd check whether the comparison is fair: the solutions, starting weights, model size and training steps should be the same, and the cost of the labels should be counted. Then I'd ask how the step scores were aggregated, and on which data that choice was made. I'd want paired intervals over prompts, several seeds, and the majority and the weighted vote as baselines. Finally, I'd check whether a difference in style explains the gain, since an outcome model could see that too.
#
# *A likely follow-up:* How do you test the last point? I'd measure how well the model separates right steps from wrong ones among well-formed steps only, for example with an AUC on held-out solutions.
#
# </details>
#
# **3.** How can Monte Carlo step labels be wrong?
#
# <details><summary>Answer</summary>
#
# If the policy that completes the solutions is weak, right steps in hard problems get a 0. If it is strong, wrong steps get a 1, because the policy corrects them. The label measures how likely *this* policy is to reach the answer, not whether the step is right. More rollouts reduce the noise, but not this bias. To find out how large the bias is, I'd compare a sample with labels from people or from a stronger judge, by position and by difficulty.
#
# *A likely follow-up:* How many rollouts do you need? With a success rate $p$, all $K$ rollouts fail with probability $(1-p)^K$. With $p = 0.02$ and $K = 8$, that is 85%, so a hard label of 0 says very little.
#
# </details>
#
# **4.** System design: you can afford 16 replies per question. Do you vote, rerank or search?
#
# <details><summary>Answer</summary>
#
# I'd compare them at equal cost, including the forward passes of the reward model. Voting works if answers can be compared and wrong answers are spread over many values. If answers can't be compared, as in free text, I'd rerank. If both are possible, a weighted vote is a good default. Search helps if mistakes happen early and the reward model sees them; otherwise it amplifies the model's errors. I'd also look at the curve over n: if best-of-n falls, the reward model is being overoptimized.
#
# *A likely follow-up:* When does a majority vote fail? It fails if one wrong answer is more common than the right one. Then more samples make the vote more confident in the wrong answer.
#
# </details>
#
# **5.** Research taste: a paper trains a policy on a process reward and reports that the process reward has doubled. What is missing?
#
# <details><summary>Answer</summary>
#
# The paper lacks a measure that wasn't rewarded. I'd ask for the accuracy on held-out problems according to a verifier, the number of steps, the length of the replies, and some samples to read. I'd also ask how the step scores are aggregated (a sum rewards extra steps) and how a reply without an answer is rewarded. And I'd want the same run with the outcome reward alone.
#
# *A likely follow-up:* Would taking the minimum instead of the sum fix it? It removes the incentive to add steps, but not the incentive to write wrong steps that the model scores highly.
#
# </details>

# %% [markdown]
# <a id="papers" name="papers"></a>
# ## Readings
#
# **Papers.** *Labels and models:* Lightman et al. 2023, *Let's verify step by step* ([2305.20050](https://arxiv.org/abs/2305.20050)): section 2 on labels, section 3 comparing process and outcome supervision, and appendix F on aggregation. Uesato et al. 2022 ([2211.14275](https://arxiv.org/abs/2211.14275)): a reward model trained on outcome labels alone came to agree with process labels. Wang et al. 2023, *Math-Shepherd* ([2312.08935](https://arxiv.org/abs/2312.08935)): section 3.3 on labels from rollouts. Zheng et al. 2024, *ProcessBench* ([2412.06559](https://arxiv.org/abs/2412.06559)): section 3 defines the measure. Zhang et al. 2025 ([2501.07301](https://arxiv.org/abs/2501.07301)): the weaknesses of Monte Carlo labels and of best-of-n as an evaluation. Zhang et al. 2024, *Generative verifiers* ([2408.15240](https://arxiv.org/abs/2408.15240)).
#
# *Choosing and searching:* Wang et al. 2022, *self-consistency* ([2203.11171](https://arxiv.org/abs/2203.11171)). Snell et al. 2024 ([2408.03314](https://arxiv.org/abs/2408.03314)): search compared with best-of-n at equal compute.
#
# *Credit:* Shao et al. 2024, *DeepSeekMath* ([2402.03300](https://arxiv.org/abs/2402.03300)): section 4.1.3 on process supervision with GRPO. Cheng et al. 2025, *PURE* ([2504.15275](https://arxiv.org/abs/2504.15275)): why a sum of step rewards gets hacked. Setlur et al. 2024, *Rewarding progress* ([2410.08146](https://arxiv.org/abs/2410.08146)): a step's reward is how much it changes the chance of success. Cui et al. 2025, *PRIME* ([2502.01456](https://arxiv.org/abs/2502.01456)): implicit process rewards. DeepSeek-AI 2025, *DeepSeek-R1* ([2501.12948](https://arxiv.org/abs/2501.12948)): 'unsuccessful attempts', on why they dropped process reward models.
