# %% [markdown]
# # Week 10 · Process rewards
#
# A math verifier tells you whether the final answer is right. It doesn't tell you which of ten steps went wrong, and it gives a lucky guess the same reward as a careful proof. A **process reward model** (PRM) scores every step instead. It promises three things: a better choice among several solutions, the location of the mistake, and a denser reward for reinforcement learning. This week, you'll test all three.
#
# The first result is disappointing, and you should know it before you see any good-looking curves: **the process reward model that you train this week doesn't check the arithmetic.** If you replace one digit of a right addition, the model prefers the right version 51% of the time (95% interval: 48% to 55%), averaged over three seeds. A coin toss would do about as well. The model does recognise answers that aren't worked out, garbled text and stray lines. Its gains come from this *form*: choosing by the number of steps alone works about as well.
#
# The second result shows what was missing. With the digits as input and 32,000 labels, a small head ranks every right addition in a test of 250 held-out sums above every wrong one. But when this head chooses alone on hard sums, it does worse than the majority vote. More than half of the time, the reply that it picks out of 16 adds a wrong *term* or continues from a wrong total, but does the addition correctly. When the head's scores are used as weights in the vote, they add four points.
#
# The third result is about credit. Even when a checker that makes no mistakes gave each step its own credit, the policy didn't learn faster than with the plain outcome reward. We tried two forms of step credit on sums of five or six terms. Over three seeds, the difference from the outcome is +0.1 points for each form (95% interval: -0.5 to +0.6), but the policies hardly diverged in 16 training steps. In a second experiment, with 48 steps, five seeds and more mistakes inside the solutions, they did diverge, and step credit was 1.8 points behind (-3.9 to +0.4). That, too, is inconclusive, but a gain of several points is unlikely.
#
# By the end of the core, you'll be able to explain
#
# - what a step label is, which token carries it, and what it costs to get one,
# - how to find out what a reward model sees and what it misses, and what it needs in order to see more,
# - when a process reward model beats the majority vote, and when it doesn't,
# - how to turn step scores into an advantage for every token, and whether a policy learns faster from them than from the outcome.
#
# **The core** takes about 90 minutes. It contains one exercise, one build (in which you write the advantages) and one paper.
#
# 1. [What is a step?](#steps) · 2. [Which token carries the label?](#labels) · 3. [Where do the labels come from?](#rollouts) · 4. [Two models, one budget](#heads) · 5. [What does the model see?](#sees) · 6. [Choosing among replies](#choice) · 7. [Build: credit for each step](#credit) · 8. [The paper, and what you have now](#end)
#
# **The deeper sections** take almost three hours in total. You can read them in any order, or skip them: neither the core nor a later week needs them.
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
# Whichever profile you choose, everything except the last deeper section uses the embedded model. An oracle knows whether each of its steps is right, so we can check every claim. The results show you the *mechanism, not what large models can do*. The last deeper section repeats the procedure with the model of the `smol`, `t4` or `rented` profile.

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
# Before you can score steps, you have to decide where each step ends. In our sums, a step ends at a comma or a full stop. In GSM8K, it ends at a line break. A reply that states only its answer, without any work, is a single step. We'll say that such a reply *blurts* the answer.

# %%
# NBVAL_CHECK_OUTPUT
from postlab import process

for reply in ("12+30=42, 42+15=57. #### 57", "#### 57"):
    print(process.split_steps(reply))
process.split_steps("Half of 48 is 24.\n48 + 24 = 72\n#### 72", at=process.LINES)

# %% [markdown]
# In this notebook, a step is *right* if the solution is still on track after it. An oracle follows the sum and checks every addition. Once one step is wrong, all later steps count as wrong too, even if the final answer happens to be right.
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
# The verifier accepts the third reply because its answer is 57, but all three of its steps are labelled wrong. The first addition is wrong, and nothing after it can repair the solution. This is the case that a verifier of final answers can't catch:

# %%
from postlab.course.week10 import draw_rewards

draw_rewards()

# %% [markdown]
# <a id="labels" name="labels"></a>
# ## 2. Which token carries the label?
#
# A process reward model is a token-classification model. It outputs two logits at every token, but only a few tokens have a label. The label of a step belongs on the step's *last* token: at that point, a causal model has read the whole step but nothing of the next one. All other tokens get the label -100, which the loss ignores.

# %% [markdown]
# ### Exercise 10.1 · about 15 minutes · medium
#
# `steps`, of shape `(B, T)`, gives the number of the step that each token belongs to. It is -1 for the prompt and for padding. `right`, of shape `(B, S)`, contains a 1 or a 0 for each step. Return labels of shape `(B, T)`, with the same dtype as `right`.
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
# For PRM800K, people labelled 800,000 steps by hand. You probably can't afford that. **Math-Shepherd** needs only the final answers. It takes the solution up to the end of a step and lets the policy finish it $K$ times. These completions are called rollouts. The share of rollouts that reach the right answer is the step's *soft* label. The *hard* label is 1 if at least one rollout reaches the right answer, and 0 otherwise.
#
# $$y^\text{soft}_i = \frac{1}{K} \sum_{k=1}^{K} \mathbb{1}[a_k = a^*], \qquad y^\text{hard}_i = \mathbb{1}[\exists k : a_k = a^*]$$
#
# First we need some solutions. We sample them at temperature 1 for sums of three or four terms. With these settings, the policy blurts most of its answers and works out the rest. The held-out prompts use combinations of numbers that don't occur in any training prompt.

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
# We sample eight replies per prompt and split them into steps. The true labels come from the oracle, which you wouldn't have for real problems:

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
# Four out of five replies are blurted, and only about 1% of those are right. Of the replies with three or four steps, 87% to 90% are right. Remember this table: it means that a model can tell most good replies from most bad ones without checking a single addition.
#
# Labels from rollouts cost $K$ completions per step, and they are only as good as the policy that writes the completions. If the policy solves a problem one time in fifty, then 'none of eight rollouts was right' tells you little about the step. [A deeper section](#deeper-rollouts) shows such labels next to the oracle's labels and tells you how often they are wrong.

# %% [markdown]
# <a id="heads" name="heads"></a>
# ## 4. Two models, one budget
#
# Do step labels help at all? To find out, we train a **process** reward model and an **outcome** reward model on the *same* solutions, from the same starting weights, for the same number of optimizer steps. The two differ in only one way: the outcome model has a single label, on the last token, which says whether the final answer is right. Many comparisons don't control for all of this.
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
# Both losses fall, but that doesn't tell you what the models have learned. ([The bug hunt](#deeper-bug) shows a loss that is low for a bad reason.) So let's look at the process model's scores for six held-out replies. The first four have several steps and contain mistakes; those whose first mistake comes latest are at the top. The fifth reply is worked out correctly, and the sixth is blurted. Wrong steps are in bold:

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
# Look at the rows one by one. The blurted answer scores close to zero. So do a stray `#### 9` and a list that has nothing to do with the question. But the wrong addition `53+33=96` scores 0.94, as high as a right one, and the `#### 126` that follows from it scores 0.92. The second solution starts with a number that isn't in its sum, yet none of its steps scores below 0.88. Six solutions are only an anecdote, so the next section measures what the model sees.

# %% [markdown]
# <a id="sees" name="sees"></a>
# ## 5. What does the model see?
#
# **Before you trust the scores of a reward model, find out what it sees.** The cleanest test changes only one thing. Take a right solution, replace one digit in the result of one step, and compare the scores of the two versions of this step. Everything before the step stays the same.
#
# The measure is the AUC. It looks at all pairs of one right and one wrong step, whether or not they belong to the same sum, and says how often the right step has the higher score. An AUC of 1 means that right and wrong steps are perfectly separated, and 0.5 is chance.
#
# **Predict first.** What will the AUC of your process model be? The model was trained on about 1,900 solutions, with the oracle's label for every step.

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
# These are the two versions of the first solution, up to the changed step. The final `#### 0` (not shown) is there only so that the solution continues after this step. It doesn't affect the step's score, because your model can't look ahead.

# %% tags=["aside"]
seen = [
    [scores[-2] for scores in process.step_scores(process_head, tokenizer, [pair[i] for pair in twins])]
    for i in (0, 1)
]  # fmt: skip
print(f"AUC for planted wrong additions: {auc(*seen).mean():.2f}; mean score of right steps {np.mean(seen[0]):.2f}, of wrong ones {np.mean(seen[1]):.2f}")  # fmt: skip

# %% [markdown]
# The AUC is close to chance: your model can hardly tell the two versions apart, and it gives both of them high scores.
#
# What would it take for a head to see wrong additions? The recorded experiment (`notebooks/experiments/week10_heads.py`) tries several approaches with three seeds each, and tests them on 250 other held-out sums. The lesson's own recipe comes first: all weights are trained on the policy's own solutions with the oracle's labels, here for 100 steps on 300 prompts. There are three other approaches:
#
# - **A frozen policy** with a trained head on its hidden states. The head is linear or has a hidden layer, and it reads the last layer, all layers, or all tokens of the step. It gets 2,000 *planted labels*, which say whether a mistake was planted in the step.
# - **The digits of the step itself.** A small network reads the digits of `a+b=c` and is trained on 2,000, 8,000 or 32,000 planted labels. Another version uses single-digit steps, with 2,000 or 8,000 labels. (Single-digit steps can't be held out, because there are only 100 pairs of digits.)
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
# From top to bottom, the figure shows the following:
#
# - **The lesson's head does little better than chance.** Its AUC on held-out sums is 0.51. The 95% interval over the sums, for these three heads, is 0.50 to 0.53. With the three seeds as the unit, it is 0.44 to 0.59. If you compare each right step only with its own planted version, the right step wins 51% of the time on average (48% to 55% over the sums). With the three seeds, it wins 49%, 45% and 59% of the time. With the third seed, it wins 135 of the 223 pairs that don't tie, which is more than chance would explain ($p = 0.01$ after Holm's correction for six tests). So a single head may pick up a little. Most wrong steps in the training data are answers blurted out with no work, so nothing forced the head to look at digits.
# - **The frozen policy's hidden states contain some of the information.** A linear head reaches an AUC of 0.62, and a head with a hidden layer reaches 0.67. Reading all layers instead of the last one changes nothing (0.67), but reading all tokens of the step instead of its last token helps (0.75). This last head knows more than its AUC shows: the right step scores above its own planted version 90% of the time. But the head's scores also differ from sum to sum, and that lowers its AUC.
# - **A head that sees the digits can learn to add, if it gets enough labels.** Its AUC is 0.64 with 2,000 labels and 0.80 with 8,000. With 32,000 labels it is 1.00 in all three seeds: no pair is in the wrong order. (That doesn't mean that the head never errs: after 250 right results out of 250, a Wilson interval still begins at 98.5%. More labels also meant more training here. [A control](#deeper-tried) shows that both are needed.)
# - **Single-digit steps are easier.** The AUC is 0.96 with 2,000 labels and 1.00 with 8,000. All the pairs of digits in the test also occur in training, so the head can simply memorise them.
# - **The policy's own log-probability** separates the two versions almost perfectly (the AUC rounds to 1.00), without needing a single label. The policy can do the addition, so its probabilities contain what the trained head misses.
#
# So a head needs two things: enough labels for additions, and an input that shows the step's digits, directly or through the hidden states of all the step's tokens. The lesson's head has neither: it reads one hidden state per step, and more than half of its labels are for blurted answers.

# %% [markdown]
# <a id="choice" name="choice"></a>
# ## 6. Choosing among replies
#
# To choose among replies, you need one score per reply. A chain is only as strong as its weakest link, so a common choice is the *minimum* over the steps. *Let's verify step by step* multiplies the scores instead. (A [deeper section](#deeper-best) compares several ways and has an exercise.) In **best-of-n**, you sample $n$ replies and keep the one with the highest score. The baseline that any reward model has to beat is the **majority vote**, also known as self-consistency, which needs no reward model at all.
#
# `process.best_of_n` and `process.vote_of_n` estimate the accuracy of both from a pool of replies. Let's apply them, with your two models, to the 40 held-out prompts from section 4:

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
# On these 40 prompts, both reward models beat the majority for every $n$ above 1. But at $n = 16$, they differ from each other by only about one prompt, so this table can't tell you which one is better.
#
# **Predict first.** The recorded experiment has 200 prompts, 64 replies per prompt and three seeds. Which curves keep rising with $n$, and which ones turn down?

# %% tags=["aside"]
from postlab.course.week10 import plot_choice

recorded = json.loads((folder / "prm.json").read_text(encoding="utf-8"))
plot_choice(pd.DataFrame(recorded["choice"]))

# %% [markdown]
# The majority, the oracle and the weighted vote (which adds up the scores of all replies with the same answer) keep rising. For all the reward models in the figure, best-of-$n$ flattens between $n = 16$ and $n = 32$ and then falls. Among 64 replies, there is often one that the model overrates, and best-of-$n$ picks it. This is overoptimisation, and it happens without any training. By contrast, a single overrated reply can't change a vote by much. At $n = 64$, the plain majority is right on 93% of the prompts, and the best of the reward models is right on only 73%.
#
# The process model is only slightly ahead of the outcome model. After a correction for multiple comparisons, none of the six comparisons at $n = 16$ is conclusive ([deeper](#deeper-best)). The reason is the task: most good replies differ from most bad ones in whether the sum is worked out at all. An outcome label reveals this just as well as step labels do, and so does the number of steps. At $n = 16$, a random reply with as many steps as its sum needs is right on 79% of the prompts, and the process model's choice is right on 80% ([deeper](#deeper-best)).
#
# What if the mistakes are *inside* the solutions? [A deeper section](#deeper-hard) has such a task: sums of six terms at temperature 1.5. There, even the head that reads digits chooses badly, although its AUC on wrong additions is 1.00. With 16 replies, its choice is right on only 33% of the prompts, while the majority is right on 69%. More than half of the replies that it chooses add a wrong term or continue from a wrong total, but add correctly. Used as a weight in the vote, the head gains 4 points over the plain majority. Choosing by the policy's own log-probability gains 9 points, and a single greedy answer gains 11. **If you pick the reply with the highest score, you find the mistakes that the score can't see.**

# %% [markdown]
# **This week's stage** is called `prm`. For each held-out sum, it takes the best of 16 replies according to the process model. All other answers are copied from its parent. Comparing sixteen replies with the parent's one greedy answer isn't a comparison at equal cost, so we store this caveat with the numbers:

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
# This stage gets 81% of the held-out sums right, 35 points more than its parent (95% interval: 26 to 43). This gain comes from sampling 16 replies and choosing one that is worked out; the policy itself hasn't changed.

# %% [markdown]
# <a id="credit" name="credit"></a>
# ## 7. Build: credit for each step
#
# The third promise is a denser reward for reinforcement learning. GRPO gives all tokens of a reply the same advantage, so if the answer is wrong, the right steps are punished along with the wrong one. With a score per step, every step can have an advantage of its own. There are several ways to do this:
#
# - **Outcome** (GRPO): The reward is 1 if the answer is right and 0 otherwise. It is normalised within the group and is the same for all tokens.
# - **Summing to the end** (*to go*): This is DeepSeekMath's process supervision. The scores of all steps in a group are normalised together, and a token gets the sum of the normalised scores from its own step to the last one:
#
# $$\tilde r_{i,j} = \frac{r_{i,j} - \text{mean}(R)}{\text{std}(R)}, \qquad A_{i,t} = \sum_{j \ge \text{step}(t)} \tilde r_{i,j}$$
#
#   Here $r_{i,j}$ is the score of step $j$ of reply $i$, and $R$ contains the scores of all steps of all replies in the group.
# - **The lowest score to the end** (*lowest to go*): This is PURE's idea, with a minimum in place of the sum. Additional good steps can't make up for a bad one, and extra steps earn nothing.
# - **The token's own step** (*own step*): A token gets the normalised score of its own step alone. We include this form only for contrast, because it ignores everything that follows. (*Rewarding progress*, arXiv 2410.08146, develops the idea that a step should be rewarded for its own contribution, which it measures as the change in the chance of success.)
#
# The picture shows one of the two solutions in a group. In the other one, all steps are right:

# %% tags=["aside"]
from postlab.course.week10 import draw_credit

draw_credit()

# %% [markdown]
# The scores here come from a checker that judges every step on its own: `42+15=67` is wrong, and `#### 67` correctly repeats the total. In the labels of the previous sections, every step after a mistake counts as wrong. With such scores, the lowest score to the end would be 0 for *all* steps of a wrong solution, including the right ones. Then *lowest to go* would be the outcome reward under another name. What the scores mean matters as much as the formula.

# %% [markdown]
# ### Build 10.1 · about 30 minutes · hard
#
# Write `step_advantages(scores, steps, group_size)`, which computes the advantages of process supervision (*to go*).
#
# - `scores`, of shape `(B, S)`, contains the score of each step. Replies have different numbers of steps, so the rows are padded, and the numbers in the padding mean nothing.
# - `steps`, of shape `(B, T)`, contains the number of the step that each token belongs to, counting from 0. It is -1 for padding. If a number doesn't occur in a reply's row of `steps`, the reply has no such step.
# - The rows of a group are adjacent: the first `group_size` rows belong to the first prompt, and so on.
#
# Return the advantages, of shape `(B, T)`. They are 0 on padding and the same for all tokens of a step. If all steps of a group have the same score, all advantages of the group must be 0 and not NaN.
#
# The check compares your numbers with the formula. Then it trains a policy with your advantages in a world so small that the policy's success rate can be computed exactly. There, a reply has four steps, and at the start, each has a 1-in-3 chance of being right.
#
# <details><summary>Hint 1: which steps exist</summary>
#
# `(steps[:, :, None] == torch.arange(S)).any(dim=1)` has shape `(B, S)` and is true where a reply has the step. You need it for both the mean and the sum.
#
# </details>
# <details><summary>Hint 2: the group's mean and deviation</summary>
#
# Reshape the scores and the mask to `(groups, group_size * S)`. The mean is the masked sum divided by the number of real steps. Compute the deviation from the masked squared differences from that mean. Add a small number to the deviation before you divide.
#
# </details>
# <details><summary>Hint 3: from this step to the last</summary>
#
# Set the normalised scores of missing steps to 0. `flip(1).cumsum(1).flip(1)` sums each row from the right. At the end, `gather` gives every token the value of its step. `steps.clamp(min=0)` keeps the index valid for padding, where you then set the result to 0.
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
# A short subclass lets TRL's trainer use your advantages ([deeper](#deeper-credit)). Does a policy learn *faster* with step credit than with the outcome? To find out, you need to compare the forms of credit on the same prompts, with several seeds.
#
# **Predict first.** The record compares four forms: the outcome, the sum of all step scores as one reward (*sum of steps*), *to go* and *lowest to go*. Each form was trained with three seeds, for 16 steps of 32 samples. The checker never makes a mistake. Which form is ahead, and by how much?

# %% tags=["aside"]
from postlab.course.week10 import credit_rows, plot_credit

credit = json.loads((folder / "credit.json").read_text(encoding="utf-8"))
plot_credit(credit)

# %% [markdown]
# **No form of step credit led to faster learning than the outcome in these 16 steps.** Runs with the same seed improve together. The comparison averages the measurements at steps 4, 8, 12 and 16. *To go* and *lowest to go* are each 0.1 points above the outcome (95% interval over the three seeds: -0.5 to +0.6), and *sum of steps* is 0.1 points below it (-0.7 to +0.4).
#
# These intervals are narrow because the runs hardly diverged. All runs with the same seed see the same prompts and the same random numbers, and after 16 steps their policies are still much alike. Of 1,440 verdicts on held-out replies, only 1 differs from the outcome's under *lowest to go*, and 7 differ under *to go* ([the numbers](#deeper-credit)). For *lowest to go*, the picture above shows why: up to and including its last mistake, a wrong solution gets the same advantages as under the outcome reward. So the intervals don't tell you what would happen if training went on until the policies differed. A second experiment, below, does that.
#
# The next table shows what the policies learned. It splits the held-out replies at the start and at the end into three groups: right ones, wrong ones that were blurted out, and wrong ones that were worked out:

# %% tags=["aside"]
from postlab.course.week10 import mistakes_left

print(mistakes_left(credit).round(1).to_string())

# %% [markdown]
# Most of the gain comes from one change: blurted-out wrong answers fall from 19% of all replies to 3% or 4%. The share of replies that are worked out but wrong changes little. It falls from 18% to 16% or 17%, with or without step credit. (More replies are worked out at the end, and some of the new ones are wrong. Of the replies that were worked out but wrong at the start, 15% to 20% are right at the end.) A blurted answer has only one step, so there is no credit to distribute within it. The forms of credit differ in how they treat mistakes *inside* a solution, and none of them removed more of those mistakes than the outcome did.
#
# **Does step credit help if there is more to learn?** The second experiment starts from the GRPO stage, which rarely blurts, and samples at temperature 1.5. Only 48% of the held-out samples are right at the start, and most mistakes are inside the solutions. There are 48 steps, five seeds, and a rate that was chosen for each form from the same three on tuning prompts (it is 1e-3 for both). The table gives percentages, and differences from the outcome in points:

# %% tags=["aside"]
longer_runs = json.loads((folder / "credit_long.json").read_text(encoding="utf-8"))
print(credit_rows(longer_runs).round(1).to_string())

# %% [markdown]
# **Step credit still isn't ahead, although the runs now differ.** Averaged over the measurements at steps 12, 24, 36 and 48, *to go* is 1.8 points behind the outcome, but the interval includes zero (-3.9 to +0.4). Of 4,800 verdicts, 613 differ from the outcome's. Five seeds can detect about 3 points (with 80% power), so a gain of that size is unlikely here, and smaller differences remain possible. One caveat is the rate: *to go* might do better with a higher one ([What we tried](#deeper-tried)).
#
# In the small world of the build, only one sample in 81 is right at first, and in most groups, the outcome gives the policy nothing to learn from. There, the policy does learn faster with your advantages ([deeper](#deeper-credit)). **Denser rewards matter where the outcome is rarely informative.** DeepSeekMath's own comparison found process supervision ahead of outcome supervision (figure 5 of the paper). It used GSM8K and MATH with a learned reward model, and it reports no seeds or intervals. We haven't tested longer solutions or scores from a learned head. [A deeper section](#deeper-gamed) shows what a policy does when its reward comes from a learned head.

# %% [markdown]
# <a id="end" name="end"></a>
# ## 8. The paper, and what you have now
#
# **Read one paper this week: *Let's verify step by step*** ([Lightman et al. 2023](https://arxiv.org/abs/2305.20050)), sections 2 to 4. Keep three questions in mind as you read:
#
# 1. What did the labellers see, and where did they stop? Why does the paper choose to label solutions that look convincing but end in a wrong answer?
# 2. Which models does figure 3 compare, what data were they trained on, and what is the baseline?
# 3. How would you use the test from section 5 to find out whether their model checks the mathematics?
#
# **You now have**
#
# - this week's stage in `runs/tiny/seed-<n>/prm/`, whose gain comes from sampling 16 replies and choosing one that is worked out;
# - a test of what a reward model sees, which takes only a few lines: plant a mistake and compare the two scores;
# - the advantages of process supervision, and [a subclass of TRL's trainer](#deeper-credit) that can use them with any step scores;
# - two results to keep in mind: the only head that could tell all right two-digit additions from wrong ones was one that read the digits of the step, and even with a checker that makes no mistakes, step credit didn't speed up learning in our runs of 16 and 48 steps.
#
# So far, each run has had a single reward. Next week, you'll combine several rewards.
#
# This is the end of the core. The remaining sections go deeper, and you can skip any of them.

# %% [markdown]
# <a id="deeper-rollouts" name="deeper-rollouts"></a>
# ## Deeper: how good are labels from rollouts?
#
# Rollouts can be wrong in two ways. They can call a right step wrong because the policy fails to finish the solution from there, or they can call a wrong step right because the policy recovers. First, look at a few replies from your own sample, with eight rollouts for each step:

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
# The table shows the first six solutions that contain a wrong step. Here the rollouts never call a wrong step right. In the last two rows, they call a right step wrong. The sum is already complete after 40, but the step ends with a comma, and none of the eight rollouts gets the right answer from there. Over the three recorded seeds, the other error is more common: in replies with several steps, rollouts call 6.5% to 9% of the wrong steps right.
#
# The next table uses all the solutions that were recorded for three seeds (`notebooks/experiments/week10_prm.py`). In it, *missed* is the share of wrong steps that the rollouts call right, and *alarms* is the share of right steps that they call wrong. The column *hard* says how the soft label was turned into a 0 or a 1: 'any' means that at least one of the eight rollouts was right, and 'half' means that at least half of them were.

# %% tags=["aside"]
labels = pd.DataFrame(recorded["labels"])
for name in ("agreed", "missed", "alarms", "kappa"):
    labels[f"{name} (low, high)"] = [
        f"{value:.3f} ({low:.3f}, {high:.3f})" for value, low, high, _ in labels.pop(name)
    ]
labels.set_index(["replies", "hard", "seed"]).sort_index()

# %% [markdown]
# In replies with several steps, the rollouts missed 6.5% to 9% of the wrong steps and called at most 0.5% of the right steps wrong. Luck doesn't explain most of these misses: if you require at least half of the rollouts to be right instead of one, the share of missed steps hardly falls. Some of the missed steps may be wrong in form only. For example, if a right addition has a stray `A:` in front of it, the oracle rejects that addition and everything after it, but the verifier reads only the final answer. The record doesn't contain the solutions, so we can't count these cases. The next cell shows where the record comes from:

# %% tags=["aside"]
pd.Series(recorded["provenance"], name="recorded").to_frame()

# %% [markdown]
# <a id="deeper-best" name="deeper-best"></a>
# ## Deeper: best of n, without bias
#
# ### From step scores to one score
#
# There are several ways to combine the scores of the steps. *min* takes the lowest score. *product* multiplies the scores, as if they were independent probabilities that each step is right. *last* takes the score of the last step, because its label says whether all the steps up to there were right.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
chances = {"three sure steps": [0.9, 0.9, 0.9], "one doubt": [0.9, 0.5, 0.9], "a blurt": [0.6]}
pd.DataFrame(
    {how: {name: process.aggregate(p, how) for name, p in chances.items()}
     for how in ("last", "min", "product", "sum")}
).round(3)  # fmt: skip

# %% [markdown]
# With every additional step, *product* gets smaller, so it favours short replies. *sum* gets larger, so it favours long replies, and [a later section](#deeper-gamed) shows what that leads to.
#
# ### The estimator
#
# To plot the accuracy of best-of-n against $n$, you need estimates for many values of $n$ from one pool of $N$ replies.
#
# If you use only the first $n$ replies, you waste the rest. If you sample with replacement, the same reply can be chosen twice, which biases the estimate. Averaging over *all* subsets of size $n$ avoids both problems, and you don't have to enumerate them. Sort the replies by score, and let the best have rank 0. The reply at rank $r$ wins if the other $n-1$ replies of its subset all come from the $N-1-r$ replies below it. This is true of $\binom{N-1-r}{n-1}$ of the $\binom{N}{n}$ subsets.

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
# If the score says exactly which replies are right, best-of-n becomes the pass@n of week 7:

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
# The first table compares each selector in the record with the majority at $n = 16$, on the same prompts and with the paired test from week 6:

# %% tags=["aside"]
from postlab.course.week10 import gains

names = [name for name in recorded["by_prompt"] if name not in ("majority", "oracle")]
points = gains(recorded["by_prompt"], names)
points.set_index("selector")[["value", "points", "low", "high", "p"]].round(2)

# %% [markdown]
# At $n = 16$, every reward model on its own beats the majority by about 16 to 17 points. The choice of $n$ matters, though: at $n = 32$ the two are about equal, and at $n = 64$ the majority is far ahead.
#
# The next table compares each process score with the outcome model. The column `p, all` is corrected for the six comparisons (Holm, week 6):

# %% tags=["aside"]
from postlab.stats import holm

among = [name for name in names if name.startswith(("process", "rollouts"))]
over_outcome = gains(recorded["by_prompt"], among, over="outcome, last")
over_outcome.assign(**{"p, all": holm(over_outcome["p"])}).round(2)

# %% [markdown]
# **We found no clear advantage of step labels on short sums.** At $n = 16$, all six comparisons are inconclusive after the correction, and the largest gain is 1.2 points. The intervals cover the choice of prompts; only the three seeds tell you about the variation between training runs. At $n = 64$, all the models are past their peak. There, *process, min* is 4.7 points above the outcome model, but *process, last* is only 0.3 points above it, so it's the minimum over the steps that helps. (The record has no results per prompt at $n = 64$ for the outcome model, so we can't give a paired interval.)
#
# **How much of the gain comes from form?** Suppose you only count steps. A sum of three terms needs two additions and an answer, so you pick a random reply with three steps. For four terms, you pick one with four steps. The next table compares the two reward models with this choice at $n = 16$. (The choice uses the first 16 replies of each prompt, while the reward models' numbers are averages over all subsets of 16.)

# %% tags=["aside"]
from postlab.course.week10 import form_only

by_form = form_only(recorded["errors"], recorded["settings"]["terms"])
print(f"by the number of steps alone: {100 * np.mean(by_form):.1f}% right")
over_form = gains(recorded["by_prompt"] | {"form": by_form}, ["process, min", "outcome, last"], over="form")  # fmt: skip
over_form.set_index("selector")[["value", "points", "low", "high", "p"]].round(2)

# %% [markdown]
# Counting steps is right on 79.1% of the prompts, and neither reward model is clearly better than that. So you can get nearly all of the reward models' gain over the majority without a model that reads the steps.
#
# **The weighted vote combines a reward model with the majority vote.** It adds up the scores of all replies with the same answer. The reward model is good at ruling out replies that aren't worked out. The vote then picks one of the worked-out answers; the model doesn't know which of them is right. At $n = 64$, the weighted vote is right on 97.5% of the prompts with the process scores, and on 97.3% with the outcome scores.

# %% [markdown]
# <a id="deeper-hard" name="deeper-hard"></a>
# ## Deeper: when the mistakes are inside the solutions
#
# Step labels should pay off when most wrong replies contain their mistake *inside* a worked solution. That is the case for sums of six terms, sampled at temperature 1.5. Our first heads failed on this kind of task ([what we tried](#deeper-tried)). The record (`notebooks/experiments/week10_hard.py`) has 100 held-out sums, 16 replies to each, and three seeds. It compares three scores per step: the head that reads digits (section 5, trained on 32,000 planted labels), the policy's own log-probability, and the oracle.
#
# **Predict first.** Which of the scores beat the majority of 16 replies? And how good is one greedy answer?

# %% tags=["aside"]
from postlab.course.week10 import hard_choice, hard_gains, natural_rows, plot_hard_choice

folder = data_dir() / "results" / "week10"
hard = json.loads((folder / "hard.json").read_text(encoding="utf-8"))
plot_hard_choice(hard_choice(hard["runs"]), greedy=hard["greedy"])

# %% [markdown]
# Best-of-16 by the head that reads digits is right on only 33% of the prompts, far below the majority (69%). Is that because the head misses wrong additions? For each of three seeds, the table classifies the head's top-scored replies to 100 prompts by their first mistake:

# %% tags=["aside"]
pd.DataFrame([run["flaws"] for run in hard["runs"]]).fillna(0).astype(int).T

# %% [markdown]
# No: only one of the 300 chosen replies has a wrong addition as its first mistake. More than half of them add a wrong term or continue from a wrong total, but add correctly. The head can't notice, because it reads only `a+b=c` and never sees the question. It's the same lesson as before: **if you pick the reply with the highest score, you find the mistakes that the score can't see**, however well it sees the others.
#
# Here are the differences from the majority at $n = 16$, paired by prompt. The column `p, all` is corrected for the nine comparisons, and the last column has one number per seed:

# %% tags=["aside"]
digits = {"right": 1, "points": 1, "low": 1, "high": 1, "p": 4, "p, all": 4}
hard_gains(hard["runs"], greedy=hard["greedy"]).round(digits)

# %% [markdown]
# Three things work:
#
# - **A vote weighted by the digit-reading head** gains 4.2 points over the plain majority (95% interval: 1.9 to 6.5). Weighting by form alone (1 if all steps have the right form, 0 otherwise) gains 1.3 points. The difference between these two votes, paired by prompt, is 2.8 points (0.8 to 5.2). So most of the gain seems to come from checking the arithmetic. If so, a process reward model beats the majority here because it checks steps.
# - **The policy's own log-probability** gains 8.8 points with the lowest step, and 10.8 points with the mean over all tokens. It needs no labels. Unlike the digit-reading head, the policy has read the question, so a wrong term can also look unlikely to it. The selector *digits, then log-prob* uses the lowest step, but ranks the replies that the head rejects last. It reaches 79.7%, as does the mean. We added it after we had seen the results of seed 0 ([what we tried](#deeper-tried)).
# - **One greedy answer** gains 11.1 points, at a sixteenth of the cost. The task is hard because the temperature is high: most mistakes are sampling noise, which the policy itself considers unlikely. Choosing by log-probability mostly removes this noise. Except for the oracle (89%), no selector that we tried beats the greedy answer.
#
# In short, the process reward model helps against sampling noise on this task, but turning the temperature down helps more: the greedy answer is 7.0 points (0.9 to 12.4) above the vote weighted by the head.

# %% tags=["aside"]
natural_rows(hard["runs"]).set_index("head").round(2)

# %% [markdown]
# This table shows the AUC on the policy's *own* wrong additions in these replies. It compares the 398 wrong additions that are the first mistake of their solution with 7,602 right ones. The digit-reading head was trained only on planted mistakes, but it also separates these from the right ones almost perfectly (the AUC rounds to 1.00). The log-probability does nearly as well, which is no surprise: the same policy sampled these mistakes at temperature 1.5.

# %% [markdown]
# <a id="deeper-where" name="deeper-where"></a>
# ## Deeper: where is the mistake?
#
# The second promise was that a process reward model can show you *where* a solution goes wrong. ProcessBench measures this by the *first wrong step*. For wrong solutions, it counts how often the model names exactly this step. For right solutions, it counts how often the model names no step. The F1 score is the harmonic mean of the two shares.

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
# Why the harmonic mean? Consider two lazy predictors on ten solutions, of which eight are wrong at step 0. The first number is the accuracy, and the second is the F1:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
first = torch.tensor([0] * 8 + [-1] * 2)
lazy = {"always step 0": torch.zeros(10).long(), "always right": torch.full((10,), -1)}
{name: (round((said == first).float().mean().item(), 2), process_f1(said, first).item()) for name, said in lazy.items()}  # fmt: skip

# %% [markdown]
# The predictor that always says 'step 0' has an accuracy of 80%, but it flags every right solution too. Its F1 is 0, and so is that of the predictor that never flags anything.
#
# A blurted answer has only one step, so its first wrong step is easy to name. How much of the F1 is left if we count only replies with at least two steps?

# %% tags=["aside"]
from postlab.course.week10 import found_errors, plot_errors

groups = {
    "all replies": found_errors(recorded["errors"]),
    "with steps": found_errors(recorded["errors"], least=2),
}
plot_errors(groups)

# %% [markdown]
# About half of it is left: the F1 of the process model falls from 0.96 to 0.48. The next table gives the numbers of the right-hand panel, where *slips* is the number of wrong replies. The outcome model doesn't name a position, so we read its 'wrong' in two ways: as the *last* step and as the *first* step. The second table shows how often each method finds the first wrong step, by its position.

# %% tags=["aside"]
groups["with steps"].set_index("finder").round(3)

# %% tags=["aside"]
from postlab.course.week10 import hits_by_place

hits_by_place(recorded["errors"]).round(3)

# %% [markdown]
# **The process model hardly ever finds a mistake after the first step.** In the 53 replies whose first wrong step comes later, it names that step only once. Of the 193 replies that already go wrong at the first step, it flags 77. The record doesn't say which of these replies are garbled and which contain wrong additions. But the number of steps gives a hint: a right solution that is worked out has as many steps as the sum has terms. The model names the first wrong step in 21 of the 182 wrong replies with that number of steps, and in 57 of the 64 with another number.
#
# Among replies with at least two steps, the process model does name more first wrong steps than the outcome model: 32%, compared with 16% at best. The model trained on *rollouts*, whose labels come from final answers alone, does equally well. All these models call a step wrong if its score is below 0.5. With another threshold, the comparison could come out differently, but we haven't tested that.
#
# The lesson for benchmarks is that their composition matters. Over all replies, every model that recognises a blurted answer looks excellent.

# %% [markdown]
# <a id="deeper-search" name="deeper-search"></a>
# ## Deeper: search over steps
#
# Best-of-$n$ scores complete replies. Beam search scores their beginnings, so it can drop a bad solution early. In every round, it continues each of four prefixes with four possible next steps, scores them all, and keeps the best four. We measure its cost by the number of tokens that it generates.

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
# The record has 100 held-out prompts and three seeds. How many complete replies could you sample with the tokens of one search?

# %% tags=["aside"]
from postlab.course import numbers

searched = recorded["beams"]
tokens = np.mean([numbers(one["tokens"]).mean() for one in searched])
same_cost = tokens / np.mean(recorded["reply_tokens"])
print(f"a search draws {tokens:.0f} tokens a prompt: as many as {same_cost:.1f} whole replies")

# %% [markdown]
# The comparison below uses the nearest recorded values of $n$, one below and one above that number, on the same prompts. *cost* is the number of tokens that beam search uses, divided by the number that best-of-$n$ uses:

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
# Both comparisons are inconclusive. Beam search gets 78% of the prompts right, best-of-16 gets 79% and best-of-32 gets 81%. Neither comparison is at exactly equal cost: where *cost* is above 1, beam search used more tokens. We count only the generated tokens here, not the forward passes of the reward model.
#
# Why isn't search clearly better? We haven't tested the reasons, but these are likely. Search can drop blurted replies in the first round, but best-of-$n$ can reject them as well. And since the reward model can't see wrong additions, search can't prune them. Search also uses the model's judgment in every round, so it has more chances to follow a mistake that the model scores highly.

# %% [markdown]
# <a id="deeper-credit" name="deeper-credit"></a>
# ## Deeper: credit for each step in practice
#
# ### In the small world
#
# Your advantages were checked in a world of four steps. There, a reply is right only if all four steps are. So at first, the outcome rewards one sample in 81, and most groups have no right reply to learn from. By contrast, the step scores are informative in every group. But be careful with such worlds, because they are built to show the effect. With a learning rate four times as high, the outcome gets nearly as far in the same 60 updates:

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
# TRL's `GRPOTrainer` has no option for step scores, but its loss accepts advantages of shape `(B, T)`. So a subclass only has to replace them after GRPO has computed them. `process.token_steps` finds the step of every token, and the checker is the oracle, which judges each step on its own:

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
# The policy learns. Whether it learns *faster* than with the outcome is the question of [section 7](#credit), and one run can't answer it.
#
# ### The comparison in numbers
#
# For each run, the table averages the share of right answers over the measurements at steps 4, 8, 12 and 16, so that early learning counts. It then compares this average with that of the outcome. The seed is the unit: the intervals come from `blocked_differences` (week 8), and `p, all` is corrected for the three comparisons:

# %% tags=["aside"]
credit_rows(credit).round(2)

# %% [markdown]
# The intervals cover the seeds, with one variance assumed for all the forms. They don't cover the choice of the 120 prompts. How far did the runs diverge? All measurements use the same prompts and random numbers, so we can follow each held-out reply. Over the three seeds, the table counts what became of the replies that were wrong at the start. Its last row counts the verdicts at the four measurements that differ from those of the run with the outcome:

# %% tags=["aside"]
from postlab.course.week10 import mended

mended(credit).T

# %% [markdown]
# *Lowest to go* and the outcome led to practically the same policy. Of 1,440 verdicts, 16 differ from the outcome's under *sum of steps* and 7 differ under *to go*. With so few differences, counting right answers couldn't have shown that one form is better.

# %% [markdown]
# <a id="deeper-gamed" name="deeper-gamed"></a>
# ## Deeper: a process reward that is gamed
#
# What happens if GRPO optimises the scores of our process reward model, without any verifier? The recorded runs compare three rewards: the **sum** of the step scores, the **lowest** step score, and the sum **only if the answer is right** (the gated sum), which brings the verifier back.
#
# Note what these runs don't test. All three rewards turn the step scores into *one number per reply*, so no step gets credit of its own. Credit for each step is the topic of [section 7](#credit).

# %% tags=["aside"]
from postlab.course import numbers
from postlab.course.week10 import curves, plot_gamed

plot_gamed(*curves(recorded["grpo"]))

# %% [markdown]
# At first, all three rewards teach the policy to work out its sums. Greedy accuracy on held-out sums rises from 2% to at least 95% within 20 steps. Two of the three rewards do this without a verifier. Then the runs diverge:
#
# - **The sum** rewards every additional step that looks right, so the cheapest way to earn more is to add steps. In one of three seeds, the policy discovers this between training steps 40 and 60. The number of steps per reply and the reward rise, while the accuracy falls to zero.
# - **The lowest score** doesn't reward extra steps, but that isn't enough. In one of three seeds, accuracy falls to 20% while the reward stays where it was, at about 0.87. This policy writes well-formed steps with wrong additions. One of its recorded answers begins with `40+59=199`. Since the reward doesn't fall, the model must score such steps about as high as right ones.
# - **The gated sum** keeps accuracy at 97% to 98% in all three seeds. Here a verifier rejects the wrong answers.
#
# The second case is the other side of the null result from the beginning of this notebook: a reward model that can't see wrong additions can't teach a policy to avoid them. Which weakness the policy finds within 80 steps, if any, differs between the seeds. 'One of three' also depends on where you draw the line. The other four runs without the verifier end 3 to 8 points below their accuracy at step 20 (2 to 5 of the 64 held-out sums), and the gated runs end at most 2 points below theirs. Here is the share of held-out sums that each run gets right:

# %% tags=["aside"]
pd.DataFrame(
    {"arm": run["arm"], "seed": run["seed"]}
    | {f"step {look['step']}": numbers(look["truth"]).mean() for look in run["heldout"]}
    for run in recorded["grpo"]
).sort_values(["arm", "seed"]).round(2).set_index(["arm", "seed"])

# %% [markdown]
# What does a policy write when it has learned to exploit the sum? Here are some answers from the seed with the most steps per reply:

# %% tags=["aside"]
summed = [run for run in recorded["grpo"] if run["arm"] == "sum of steps"]
gamed = max(summed, key=lambda run: numbers(run["heldout"][-1]["steps"]).mean())
pd.DataFrame(gamed["heldout"][-1]["answers"], columns=["asked", "said"])

# %% [markdown]
# Every addition is right, but the last one shouldn't be there: the policy adds the last number twice. The model scores whether a step looks right, not whether it belongs in the solution.
#
# Would the doctor have caught this? We give it a log with the reward and the length, but without the accuracy:

# %% tags=["aside"]
KEYS = {"proxy": "reward", "length": "completions/mean_length", "silent": "frac_reward_zero_std"}
KEYS |= {"clipped": "completions/clipped_ratio"}


def log_of(run):
    """The trainer's log of a recorded run."""
    columns = {name: numbers(values) for name, values in run["log"].items()}
    named = {KEYS.get(name, name): values for name, values in columns.items() if name not in ("truth", "steps")}  # fmt: skip
    return [dict(zip(named, values, strict=True)) for values in zip(*named.values(), strict=True)]


# %% [markdown]
# It reads the log of this run and those of the gated runs:

# %% tags=["aside"]
from postlab.doctor import diagnose

gates = [run for run in recorded["grpo"] if "answer" in run["arm"]]
for run in (gamed, *gates):
    codes = ", ".join(finding.code for finding in diagnose(log_of(run)))
    print(f"{run['arm']}, seed {run['seed']}: {codes or 'nothing to report'}")

# %% [markdown]
# The doctor has nothing to report on the gated runs, and nothing to report on the run that ended at 0% either. From the reward and the length alone, it can't tell a good run from a hacked one. You need a second measure. **Always log something that the reward doesn't pay for.**

# %% [markdown]
# <a id="deeper-bug" name="deeper-bug"></a>
# ## Deeper: a bug hunt
#
# A colleague has trained a process reward model of his own. After half as many steps, his loss is far below yours, and his best-of-16 accuracy is almost the same. But his model calls every right solution wrong. What is the bug?


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
# `max(label, 0)` turns -100 into 0, so all tokens of the prompt, and all tokens of a step except the last, are now labelled *wrong*. More than nine tokens in ten get this label whatever the solution says, so a model that answers 'wrong' almost everywhere has a small loss. The replies are still ranked in a similar order, which is why best-of-16 hardly changes. But the scores no longer mean what they should: none of the right solutions passes a threshold of 0.5, and the F1 is 0. Nothing crashes, because 0 is a valid class. Count your labels before you train.
#
# </details>

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
one = process.step_row(prompt, replies[1], [1, 0, 0])
[sum(x != -100 for x in process.encode_steps([one], tokenizer)[0]["labels"]), sum(x != -100 for x in colleagues_rows([one])[0]["labels"])]  # fmt: skip

# %% [markdown]
# For comparison, the table shows the number of labels and the loss for each of your two models. Don't compare the two losses with each other, because they are averages over different tokens.

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
# `step_rows` reads ProcessBench, PRM800K, Math-Shepherd and TRL's stepwise format, and converts them into the rows used above. The three datasets disagree about what a label is and where it belongs:
#
# - **ProcessBench** has a list of steps and the position of the first wrong one. It says nothing about the steps after that one, so their labels stay `None`. Don't make them up.
# - **PRM800K** has several candidates per step, each rated 1, 0 (neutral) or -1. It also says which candidate the annotator continued with. It ends at the first wrong step.
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
# The loader turns them into this:

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
# We haven't run this with a large model. [The last section](#deeper-own) does it on a small scale, with your profile's model.

# %% [markdown]
# <a id="deeper-others" name="deeper-others"></a>
# ## Deeper: without step labels
#
# ### Why DeepSeek-R1 dropped process reward models
#
# The authors of DeepSeek-R1 report process reward models among their unsuccessful attempts ([2501.12948](https://arxiv.org/abs/2501.12948), section 4.2 of the first version). They give three reasons. First, it is hard to define a fine-grained step for general reasoning. Second, it is hard to decide whether an intermediate step is right: automatic labels may be unsatisfactory, and human labels don't scale. Third, a learned reward model leads to reward hacking, and retraining it costs resources and complicates the pipeline. They still consider such models useful for reranking replies and for guided search.
#
# You have met a small version of each problem this week. A step was easy to define only because our sums have commas. The labels from rollouts missed 6.5% to 9% of the wrong steps in worked solutions. And with the sum as well as with the lowest score, [a policy that was rewarded by the head](#deeper-gamed) exploited it in one of three seeds.
#
# ### Implicit process rewards
#
# The log-ratio of two language models can serve as a reward for every token. PRIME ([2502.01456](https://arxiv.org/abs/2502.01456)) trains a language model $\pi_\phi$ on *outcome* labels only. It defines the reward of a whole reply as $\beta \log \frac{\pi_\phi(y)}{\pi_\text{ref}(y)}$. This is a sum over tokens, so each token has a reward too:
#
# $$r_\phi(y_t) = \beta \log \frac{\pi_\phi(y_t \mid x, y_{<t})}{\pi_\text{ref}(y_t \mid x, y_{<t})}$$
#
# It needs no step labels. Because outcome labels are cheap, the reward model can be updated on the policy's own samples during training, which helps against reward hacking. You know the form from week 4: it's DPO's implicit reward. Section 5 showed why a language model's probabilities may well say something about steps: there, the policy's own log-probability separated right from wrong results without any label. (PRIME's reward is a trained ratio to a reference. Ours is the plain log-probability of a policy that wasn't trained as a reward model. It finds slips in samples drawn at a high temperature, but it can't find an error that the policy itself considers likely.)
#
# ### Generative verifiers
#
# A classification head reads a solution in one pass. A generative verifier ([2408.15240](https://arxiv.org/abs/2408.15240)) is a language model that is trained by next-token prediction to answer 'Is the answer correct?' with Yes or No. The score is the probability of *Yes*. It can also write out its reasoning first, and then you can sample several such verdicts and average them. The abstract reports that best-of-n on GSM8K rises from 73% to 93.4%, compared with the other verifiers that the authors tried. For our sums, the point is that a verifier that writes out its reasoning can redo the addition, since our policy can add. By the time a head reads its one hidden state, the sum must already be done.
#
# If you have an endpoint or the model used by `smol`, you can try it on your own solutions. Plant a wrong digit in half of the steps, and ask for a verdict on each step. Then compute the AUC as in section 5, before you look at any best-of-n curve. We haven't recorded such a run.

# %% [markdown]
# <a id="deeper-tried" name="deeper-tried"></a>
# ## Deeper: what we tried
#
# What you saw this week isn't everything that we ran, and some settings were chosen after we had seen results.
#
# **The first task failed.** In our first attempts, on training prompts, the sums had five or six terms, and the replies were sampled at higher temperatures. There, most wrong replies go wrong *inside* a worked solution, so a process reward model should be useful. It wasn't. With 2,400 solutions, 150 training steps and two learning rates, the AUC for right steps against slips was 0.43 to 0.49. Best-of-16 was right on 29% of the prompts, and the majority was right on 66%. Neither a longer run (stopped at step 300 of 500 when its loss was flat) nor eight layers instead of four changed that. These pilots have no record. [The section on mistakes inside the solutions](#deeper-hard) repeats the task with other scores but doesn't test the lesson's own recipe. That part was planned but dropped without a record.
#
# **Then we changed the task.** With five terms at temperatures of 0.7 to 1.4, the majority of 16 was right on 95% of the prompts, which leaves little to gain. So sections 3 to 6 use short sums, where most wrong replies are blurted and even our model can see the difference. The choice of task explains most of the success in the figure of section 6.
#
# **We changed the prompts after a first run.** With four terms, a temperature of 0.9 and held-out *wordings*, the policy works out twice as many sums. In a first run of seed 0, the majority of 16 was right on 96% of the prompts, while best-of-$n$ by the process model peaked at 89% for $n = 8$ and fell to 65% at $n = 64$. We switched to held-out numbers but kept the wording from training, because we wanted sums that are neither solved nor out of reach.
#
# **We looked for reward hacking.** The [runs that are rewarded by the head](#deeper-gamed) weren't our first attempt, either. With four terms per sum, no policy exploited its reward in 40 steps: 95% of the answers were right under both of our rewards. None of the sampled replies had an extra step, so there was nothing to reinforce. So we mixed in sums of three terms, where the policy sometimes writes an extra step, and trained for 80 steps. The record shows that reward hacking happens; it can't tell you how often it would happen elsewhere.
#
# The next table lists **the heads of section 5**, with the AUC of each seed:

# %% tags=["aside"]
by_seed = [", ".join(f"{x:.2f}" for x in one) for one in heads["seeds"]]
heads.assign(seeds=by_seed).drop(columns="kind").set_index("head").round(2)

# %% [markdown]
# The *twins* column gives the share of sums in which the right step scores higher than its own planted version. The AUC compares it with the planted steps of all sums. (The record rounds scores to three digits. For the lesson's head on sums of three and four terms, 23 to 121 of the 250 pairs tie, and ties count as half.)
#
# The heads were recorded with the first settings that we tried: no size, rate or number of epochs was tuned. But we shortened the experiment while it ran. We dropped two parts: one trained all weights of the policy on planted labels, and the other trained heads on frozen states with 8,000 labels. A third part, a choice among replies, became the experiment on hard sums. None of the dropped parts has a record. So this table doesn't tell you whether training *all* weights on planted labels would have been enough. The planted mistakes are single wrong digits. In training and in the test, about half of the steps have a planted mistake; in real solutions, wrong steps are rarer.

# %% [markdown]
# Was it the 32,000 labels that helped, or the longer training that comes with them? Every head saw its labels 30 times, so more labels also meant more optimizer steps. A control trains the heads that have fewer labels for just as many steps (`notebooks/experiments/week10_head_steps.py`):

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
# Both matter. With as many steps, 8,000 labels reach an AUC of 0.97 to 0.99; with 937 steps, they had reached only 0.78 to 0.81. With 2,000 labels, the AUC is still only 0.65 to 0.67. And the head doesn't just remember sums: about one in twelve held-out steps (18 to 23 per seed) adds two numbers that no training row adds. With 32,000 labels, the AUC over all held-out steps is 1.00, so these steps are separated too.

# %% [markdown]
# **On hard sums, some comparisons were added after we had seen results.** We added the selector *digits, then log-prob* and the list of flaws after seed 0, and *vote by form* after two seeds. All of them only evaluate the same replies and scores in another way, and nothing was resampled or retrained. But the correction over nine comparisons doesn't make up for choosing them afterwards, so treat these two selectors and the list as exploratory. The planned selectors are the log-probabilities and the digit-reading head, which is used both alone and as a vote weight.
#
# **To compare the forms of credit**, we used sums of five or six terms, because sums of three or four are learned within 20 steps under every reward. We chose them before any run, based on the accuracy of 96 samples. A first run (outcome, seed 0) used the learning rate of the earlier GRPO runs, 4e-4. We stopped it after 15 of 24 planned steps: from step 4 on, 75% to 100% of its samples were right, so all the forms would have met at the ceiling. This run has no record. The recorded runs use the profile's own rate, 1e-4, for 16 steps. A fifth arm, with credit for *the token's own step*, was planned but cut to save time, so section 7 explains this form but has no result for it. Nothing was tuned for any single form of credit. In the second experiment, each form was trained at 3e-4, 1e-3 and 3e-3 with one tuning seed. The mean share right chose 1e-3 for both. At 3e-3, the outcome fell to 19% after 16 steps and ended at 74%, but *to go* ended at 81%, the highest of the six runs. With one seed, that is only a hint. *Lowest to go* was cut to save time.

# %% [markdown]
# <a id="deeper-own" name="deeper-own"></a>
# ## Deeper: your profile's own model
#
# So far, we have had an oracle that knows every step. Now we work without it. The model that you trained with GRPO in week 7 under `smol`, `t4` or `rented` samples solutions to its training problems. Rollouts label their steps, and a reward model is trained on those labels. It then chooses among replies to held-out problems. The data are the same as for GRPO: GSM8K, or one-step word problems on `smol`.
#
# We estimate that this takes about 7 minutes on two cores under `smol`, 20 minutes on a T4 (with the 1.5B model) and 10 minutes on an H100. It hasn't been run on a GPU yet. It doesn't use Unsloth, because it needs none of TRL's trainers, and Unsloth would replace the classes that the reward model is built from.

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
# The verifier looks for the last number of a reply and checks whether it is the right answer. Nothing more is needed here.

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
# We sample four solutions per problem and split them into one step per line. Nobody has labelled these steps, so we use rollouts as in section 3: four completions from each prefix. The label of the last step is the outcome. A step counts as right if at least two of its four completions get the right answer. Most replies under `smol` are one line long, so they have only one step. For them, the process reward model is just an outcome reward model.

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
# For each number of steps, the table shows how many solutions there are, what share of them has the right answer, and what share of their steps is labelled right. Check both shares: a model can't learn anything if all labels are the same.

# %%
if own:
    about = pd.DataFrame(
        {"steps": len(row["labels"]), "right": row["labels"][-1], "steps right": sum(x >= 0.5 for x in row["labels"]) / len(row["labels"])}
        for row in rows
    )  # fmt: skip
about.groupby("steps").agg(solutions=("right", "size"), right=("right", "mean"), labels=("steps right", "mean")).round(2) if own else None  # fmt: skip

# %% [markdown]
# We also sample replies to the held-out problems now, because the policy is about to be turned into the reward model. We take one greedy answer and eight samples per problem.

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
# As in section 4, we keep the body of the policy and replace its vocabulary layer with one that outputs two logits per token. A 4-bit model can't be merged with its adapter, so we keep GRPO's adapter and train it further, together with the new layer. The training arguments come from the profile's SFT stage, without the ones that only TRL understands.

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
# The score of a reply is its lowest step score. On the same held-out problems, we compare the best of $n$ by this score, the majority, the vote weighted by the score, and the oracle, which is right if any of the replies is right.

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
# How much does the reward model add? The table shows paired differences in points on the same problems, with eight replies to each. The greedy answer costs only one reply, so a gain over greedy is what seven more replies and a reward model give you together. The gain over the majority is what the reward model itself adds.

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
# If an interval contains zero, the comparison is *inconclusive*. If the reward model doesn't beat the majority, remember section 6: one overrated reply can't change a vote by much. Also remember how little the model had to learn from. It saw a few hundred solutions to problems that the policy had already been trained on, and its labels are only as good as the policy that completed the solutions.

# %% [markdown]
# <a id="interview" name="interview"></a>
# ## Five interview questions
#
# **1.** Why do you put the label of a step on its last token? What happens if you put it on all tokens of the step?
#
# <details><summary>Answer</summary>
#
# At an earlier token, a causal model hasn't read the whole step yet. If all tokens have the label, the model learns to predict from the beginning of a step whether it will be right, and long steps count more than short ones. If the label is one token too late, the model has already seen how the next step begins, which leaks information. The prompt and the padding must be labelled -100.
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
# If the policy that completes the solutions is weak, right steps of hard problems get a 0. If it is strong, wrong steps get a 1, because it corrects them. The label measures how likely *this* policy is to reach the answer, not whether the step is right. More rollouts reduce the noise, but not this bias. To find out how large the bias is, I'd compare a sample with labels from people or from a stronger judge, by position and by difficulty.
#
# *A likely follow-up:* How many rollouts do you need? With a success rate $p$, all $K$ rollouts fail with probability $(1-p)^K$. With $p = 0.02$ and $K = 8$, that is 85%, so a hard label of 0 says very little.
#
# </details>
#
# **4.** System design: you can afford 16 replies per question. Do you vote, rerank or search?
#
# <details><summary>Answer</summary>
#
# I'd compare them at equal cost, including the forward passes of the reward model. Voting works if answers can be compared and wrong answers are spread over many values. If answers can't be compared, as in free text, I'd rerank. If both are possible, a weighted vote is a good default. Search helps if mistakes happen early and the reward model sees them; otherwise it amplifies the model's errors. I'd also look at the curve over n: if best-of-n falls, the reward model is being overoptimised.
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
# **Papers.** *Labels and models:* Lightman et al. 2023, *Let's verify step by step* ([2305.20050](https://arxiv.org/abs/2305.20050)): section 2 on labels, section 3 on process against outcome supervision, and appendix F on aggregation. Uesato et al. 2022 ([2211.14275](https://arxiv.org/abs/2211.14275)): a reward model trained on outcome labels alone came to agree with process labels. Wang et al. 2023, *Math-Shepherd* ([2312.08935](https://arxiv.org/abs/2312.08935)): section 3.3 on labels from rollouts. Zheng et al. 2024, *ProcessBench* ([2412.06559](https://arxiv.org/abs/2412.06559)): section 3 defines the measure. Zhang et al. 2025 ([2501.07301](https://arxiv.org/abs/2501.07301)): the weaknesses of Monte Carlo labels and of best-of-n as an evaluation. Zhang et al. 2024, *Generative verifiers* ([2408.15240](https://arxiv.org/abs/2408.15240)).
#
# *Choosing and searching:* Wang et al. 2022, *self-consistency* ([2203.11171](https://arxiv.org/abs/2203.11171)). Snell et al. 2024 ([2408.03314](https://arxiv.org/abs/2408.03314)): search compared with best-of-n at equal compute.
#
# *Credit:* Shao et al. 2024, *DeepSeekMath* ([2402.03300](https://arxiv.org/abs/2402.03300)): section 4.1.3 on process supervision with GRPO. Cheng et al. 2025, *PURE* ([2504.15275](https://arxiv.org/abs/2504.15275)): why a sum of step rewards gets hacked. Setlur et al. 2024, *Rewarding progress* ([2410.08146](https://arxiv.org/abs/2410.08146)): a step's reward is how much it changes the chance of success. Cui et al. 2025, *PRIME* ([2502.01456](https://arxiv.org/abs/2502.01456)): implicit process rewards. DeepSeek-AI 2025, *DeepSeek-R1* ([2501.12948](https://arxiv.org/abs/2501.12948)): 'unsuccessful attempts', on why they dropped process reward models.
