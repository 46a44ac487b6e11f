# %% [markdown]
# # Week 10 · Process rewards
#
# A verifier looks at the answer, a process reward model at every step on the way. That promises three things: a better choice among replies, the place of the mistake, and a denser reward. You build one, measure all three, and break the third.
#
# By the end you can say
#
# - what a step label is, where it stands, and what it costs to get one,
# - how a process and an outcome reward model compare on the same solutions and the same budget,
# - how to estimate best-of-n without fooling yourself,
# - what such a model sees, what it does not, and what a policy does that is paid by it.
#
# Sections 1 to 11 run on the embedded model in every profile, where the truth of every step is known: *mechanism, not capability*. Section 12 does the same with the model of `smol`, `t4` or `rented`.

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
# ## 1. What is a step?
#
# Wherever you say that it ends. For our sums at a comma or a full stop; for GSM8K at a line. A reply that only blurts its answer is one step.

# %%
# NBVAL_CHECK_OUTPUT
from postlab import process

for reply in ("12+30=42, 42+15=57. #### 57", "#### 57"):
    print(process.split_steps(reply))
process.split_steps("Half of 48 is 24.\n48 + 24 = 72\n#### 72", at=process.LINES)

# %% [markdown]
# A step is *right* here if the solution is still on track after it: the oracle follows the sum and checks every addition. After a wrong step nothing is right any more, not even a right answer.
#
# **Predict first.** The third reply below makes two slips that cancel. What do its three labels say, and what does a verifier of answers say?

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
# ## 2. Where the label stands
#
# A process reward model is a token-classification head: two logits at every token, of which only a few have a label. The label of a step stands on its *last* token. There a causal model has read all of the step and nothing of the next. Everything else gets -100, which the loss leaves out.

# %% [markdown]
# ### Exercise 10.1 · about 15 minutes · medium
#
# `steps` `(B, T)` holds the number of the step that each token belongs to, and -1 for prompt and padding; `right` `(B, S)` holds 1 or 0 a step. Return the labels, `(B, T)`, of `right`'s dtype.
#
# <details><summary>Hint 1</summary>
#
# A token is the last of its step if the token behind it belongs to another one. What stands behind the last token of a row?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `right.gather(1, steps.clamp(min=0))` gives every token its step's label; `torch.where` keeps those you want.
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
# On a padded batch:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
batch = torch.tensor([[-1, -1, 0, 0, 1, 2, 2], [-1, 0, 0, 0, -1, -1, -1]])
step_labels(batch, torch.tensor([[1, 0, 0], [1, 0, 0]])).tolist()

# %% [markdown]
# `process.encode_steps` does it on text: it tokenizes the reply whole (a tokenizer may join the end of a step and the space behind it), finds the token that holds each step's last character, and refuses rows that would be cut.

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
# ## 3. Where labels come from
#
# For PRM800K people rated 800,000 steps. You will not pay for that. **Math-Shepherd** needs the final answer only: from the prefix that ends with a step, let the policy finish the solution $K$ times. The share that comes out right is the step's *soft* label; the *hard* label is 1 if any of them does.
#
# $$y^\text{soft}_i = \frac{1}{K} \sum_{k=1}^{K} \mathbb{1}[a_k = a^*], \qquad y^\text{hard}_i = \mathbb{1}[\exists k : a_k = a^*]$$
#
# First some solutions: sums of three or four terms, at temperature 1, where the policy blurts most and works some out. The held-out ones have sets of numbers that no training row holds together.

# %%
import random

from postlab.tinyworld import tasks
from postlab.tinyworld.oracle import read


def sums(split, count, name):
    """Different sums of three and four terms, in turn, as prompts."""
    luck, found = random.Random(name), {}
    while len(found) < count:
        terms = tuple(luck.randint(2, 59) for _ in range(3 + len(found) % 2))
        if tasks.held_out_numbers(terms) == (split == "heldout"):
            found[tasks.ask(tasks.Item("arithmetic", "sum", terms), luck, "train")] = None
    return [[{"role": "user", "content": text}] for text in found]


def right(prompt, reply):
    """What a verifier knows: is the final answer right?"""
    return tasks.score(read(prompt[-1]["content"]), reply, True)["arithmetic"]


# %% [markdown]
# Eight replies to each prompt, cut into steps, and the truth about them, which only the oracle knows:

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
# By the number of steps:

# %% tags=["aside"]
about = pd.DataFrame(
    {"steps": len(r["completions"]), "right": good, "all steps right": all(labels)}
    for r, good, labels in zip(rows, outcome, truth, strict=True)
)
about.groupby("steps").agg(replies=("right", "size"), right=("right", "mean")).round(2)

# %% [markdown]
# **Predict first.** A rollout can err both ways: call a right step wrong because the policy fails from there, or a wrong step right because it slips back onto the track. Which will be the commoner error here?

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
# Over all of the recorded solutions, three seeds (`notebooks/experiments/week10_prm.py`). *missed*: of wrong steps those called right; *alarms*: of right steps those called wrong.

# %% tags=["aside"]
import json

from postlab.profile import data_dir

path = data_dir() / "results" / "week10" / "prm.json"
recorded = json.loads(path.read_text(encoding="utf-8"))
pd.Series(recorded["provenance"], name="recorded").to_frame()

# %% [markdown]
# *hard*: 'any' is 1 where any of the eight came out right, 'half' where at least half did:

# %% tags=["aside"]
labels = pd.DataFrame(recorded["labels"])
for name in ("agreed", "missed", "alarms", "kappa"):
    labels[f"{name} (low, high)"] = [
        f"{value:.3f} ({low:.3f}, {high:.3f})" for value, low, high, _ in labels.pop(name)
    ]
labels.set_index(["replies", "hard", "seed"]).sort_index()

# %% [markdown]
# The commoner error is a wrong step called right. In replies of several steps, rollouts missed 6.5% to 9% of the wrong steps, and called at most 0.5% of the right ones wrong.
#
# Such labels cost $K$ completions per step, and are only as good as the completer. Where it solves a problem one time in fifty, 'none of eight came out right' says little about the step.

# %% [markdown]
# ## 4. Two heads, one budget
#
# Now the comparison that papers often skip: a **process** and an **outcome** reward model on the *same* solutions, from the same start, for the same optimizer steps. They differ in one thing: the outcome model has a label on the last token only.
#
# TRL has no trainer for this any more, and none is needed: a head of two classes, transformers' `Trainer`, and the collator that pads labels with -100.

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
# The trainer's arguments are the usual ones:

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
# The same call twice, on the same rows with different labels. About half a minute each on two cores:

# %%
process_rows = [row | {"labels": labels} for row, labels in zip(rows, truth, strict=True)]
encoded = process.encode_steps(process_rows, tokenizer)
run = tiny.run("prm", parent="sft")
process_head, process_log = trained_head(encoded, run=run)
outcome_encoded = process.encode_steps(process.outcome_rows(rows, outcome), tokenizer)
outcome_head, outcome_log = trained_head(outcome_encoded)

# %% [markdown]
# What each was given, and its loss (don't compare the losses: they are means over different tokens):

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
# Week 8's doctor reads such a log too:

# %% tags=["aside"]
from postlab.doctor import diagnose

pd.DataFrame(
    [(name, f.code, f.severity, f.evidence) for name, log in
     (("process", process_log), ("outcome", outcome_log)) for f in diagnose(log)],
    columns=["head", "code", "severity", "evidence"],
)  # fmt: skip

# %% [markdown]
# What does it say of a step? Six held-out replies: four of several steps that go wrong, the latest first, then one worked and one blurted. Wrong steps in bold:

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
# A blurted answer gets next to nothing: that is a *style*, and the easy part. Garbled steps are caught too. But a slip inside a well-made step may score as a right one does: so small a head knows little arithmetic. **Ask what a reward model sees before you ask what it scores.**

# %% [markdown]
# ## 5. One number from many
#
# To choose among replies you need one score per reply. *min*: a chain is as strong as its weakest link. *product*: every step has to hold, as if they were independent. *last*: the last step's label knew of all before it.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
chances = {"three sure steps": [0.9, 0.9, 0.9], "one doubt": [0.9, 0.5, 0.9], "a blurt": [0.6]}
pd.DataFrame(
    {how: {name: process.aggregate(p, how) for name, p in chances.items()}
     for how in ("last", "min", "product", "sum")}
).round(3)  # fmt: skip

# %% [markdown]
# *product* falls with every step and likes short replies; *sum* rises and likes long ones, as section 9 shows.

# %% [markdown]
# ## 6. The best of n
#
# Draw $n$ replies, keep the one that scores best. To plot its accuracy over $n$ you need it for many $n$, without bias, from one pool of $N$ replies. Taking the first $n$ wastes the rest; drawing with replacement lets a reply meet itself. Average over *all* subsets instead: sorted by score, the reply at rank $r$ (the best is 0) is chosen in $\binom{N-1-r}{n-1}$ of $\binom{N}{n}$ subsets.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
import math

f"{math.comb(64, 16):,} ways to take 16 of 64 replies"

# %% [markdown]
# ### Exercise 10.2 · about 20 minutes · hard
#
# `scores` and `right` are `(P, N)`: P prompts with N replies each, no two scores of a prompt equal. Return the expected accuracy of the best of `n`, `(P,)`.
#
# <details><summary>Hint 1</summary>
#
# `math.comb(a, b)` is 0 where `b` is larger than `a`: no case is special.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Sort `right` by score with `argsort(descending=True)` and `gather`; then it is one matrix product with the weights of the ranks.
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
# With the truth itself as the score, it is week 7's pass@n:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
from postlab.stats import pass_at_k

good = torch.tensor([[1.0, 0, 0, 0, 0, 1, 0, 0]])
tiebreak = good + 0.001 * torch.arange(8)
[(n, round(best_of(tiebreak, good, n).item(), 4), round(pass_at_k(8, 2, n), 4)) for n in (1, 2, 4, 8)]  # fmt: skip

# %% [markdown]
# `process.best_of_n` does the same and lets equal scores share; `process.vote_of_n` is the majority of $n$ (self-consistency). On the 40 held-out prompts above, with your two heads:

# %% tags=["aside"]
import re

import numpy as np


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
# The share of prompts that each way of choosing gets right, over $n$:

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
# **Predict first.** With 200 prompts, 64 replies each and three seeds: which curve bends, which goes on rising, and does the process model beat the outcome model?

# %% tags=["aside"]
from postlab.course.week10 import gains, plot_choice, plot_gains

plot_choice(pd.DataFrame(recorded["choice"]))

# %% [markdown]
# Paired, on the same prompts, at $n = 16$; a stroke is a seed:

# %% tags=["aside"]
names = [name for name in recorded["by_prompt"] if name not in ("majority", "oracle")]
points = gains(recorded["by_prompt"], names)
plot_gains(points)

# %% [markdown]
# As numbers, with week 6's paired test:

# %% tags=["aside"]
points.set_index("selector")[["value", "points", "low", "high", "p"]].round(2)

# %% [markdown]
# And the question of this section, process against outcome, each aggregation against the outcome model's one score; `p, all` is corrected for the table (Holm, week 6):

# %% tags=["aside"]
from postlab.stats import holm

among = [name for name in names if name.startswith(("process", "rollouts"))]
over_outcome = gains(recorded["by_prompt"], among, over="outcome, last")
over_outcome.assign(**{"p, all": holm(over_outcome["p"])}).round(2)

# %% [markdown]
# At $n = 16$ all six are inconclusive after the correction, and any gain is small beside that over the majority. What separates most good replies from bad ones here is whether they are worked out at all, and the outcome shows that as well as any step label. Process labels can pay where the difference lies *inside* solutions, for a model that can see it.
#
# At the right end of the figure **best of $n$ falls where $n$ is large**: among 64 replies there is one that the head overrates, and best-of-$n$ finds it. That is overoptimisation, with no training at all. At $n = 64$ the plain majority, right on 93%, beats best-of-$n$ by any of the reward models (73% at most). A vote cannot be fooled by one reply. The **weighted vote** adds up scores by answer. It takes from the reward model what the model knows, and from the vote what it doesn't know: which of several worked answers is right.

# %% [markdown]
# **This week's stage**, `prm`: its parent, with the best of 16 replies to each held-out sum. All other answers are copied from the parent. Sixteen replies against one greedy answer is no comparison at equal cost, so the caveat is stored with the numbers:

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
# ## 7. Where is the mistake?
#
# The second promise. ProcessBench asks for the *first wrong step*: of wrong solutions, the share in which exactly that step is named; of right ones, the share that is let pass; and the harmonic mean of the two.

# %% [markdown]
# ### Exercise 10.3 · about 10 minutes · easy
#
# `found` and `truth` are `(n,)`: the place of the first wrong step, -1 for none. Return a scalar tensor; 0 where both shares are 0.
#
# <details><summary>Hint 1</summary>
#
# `truth == -1` are the right solutions. A right solution is a hit where `found` is -1 too.
#
# </details>
# <details><summary>Hint 2</summary>
#
# $2ab / (a + b)$; keep the divisor away from 0 with `clamp`.
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
# Why harmonic? Two lazy finders on ten solutions, eight of them wrong at step 0:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
first = torch.tensor([0] * 8 + [-1] * 2)
lazy = {"always step 0": torch.zeros(10).long(), "always right": torch.full((10,), -1)}
{name: (round((said == first).float().mean().item(), 2), process_f1(said, first).item()) for name, said in lazy.items()}  # fmt: skip

# %% [markdown]
# **Predict first.** A blurted answer is one step, so its first wrong step is easy to name. What will be left of the F1 when only replies with at least two steps are counted?

# %% tags=["aside"]
from postlab.course.week10 import found_errors, plot_errors

groups = {
    "all replies": found_errors(recorded["errors"]),
    "with steps": found_errors(recorded["errors"], least=2),
}
plot_errors(groups)

# %% [markdown]
# The right-hand panel as numbers; *slips* are its wrong replies. The outcome model names no place, so its 'wrong' is read as the *last* step and as the *first*. Below: of slips at each place, the share named.

# %% tags=["aside"]
groups["with steps"].set_index("finder").round(3)

# %% tags=["aside"]
from postlab.course.week10 import hits_by_place

hits_by_place(recorded["errors"]).round(3)

# %% [markdown]
# A benchmark's composition matters too. Over all replies, every finder that can tell a blurt looks excellent. Among those with steps, labels *at steps* pay: the process model finds more than the outcome model in either reading. So does the head on *rollouts*, whose labels come from final answers alone. But of the slips after the first step, this head finds almost none.

# %% [markdown]
# ## 8. Search over steps
#
# Best-of-$n$ judges finished replies. Beam search judges beginnings: every round, continue each of four prefixes by four steps, score, keep the best four. What it costs is tokens.

# %% tags=["aside"]
from functools import partial

score = partial(process.step_scores, process_head, tokenizer)
found = process.beam_search(policy, tokenizer, fresh[:4], score, beams=4, width=4)

# %% [markdown]
# The reply kept, its score, and all tokens drawn on the way:

# %% tags=["aside"]
pd.DataFrame(
    {"asked": p[-1]["content"], "reply": one.reply, "score": round(one.score, 3),
     "right": right(p, one.reply), "tokens": one.tokens}
    for p, one in zip(fresh, found, strict=False)
)  # fmt: skip

# %% [markdown]
# Recorded, on 100 held-out prompts, three seeds. How many replies do a search's tokens buy?

# %% tags=["aside"]
from postlab.course import numbers

searched = recorded["beams"]
tokens = np.mean([numbers(one["tokens"]).mean() for one in searched])
same_cost = tokens / np.mean(recorded["reply_tokens"])
print(f"a search draws {tokens:.0f} tokens a prompt: as many as {same_cost:.1f} whole replies")

# %% [markdown]
# The nearest $n$ recorded below and above, on the same prompts; *cost*: the beams' tokens over best-of-$n$'s:

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
# Neither row is at equal tokens: where *cost* is above 1 the beams had more. Search prunes early: a blurted beginning dies in the first round. It is also more exposed to the model's errors: what the head likes wrongly, it likes in every round.

# %% [markdown]
# ## 9. Paid by the step
#
# The third promise: a process reward model as the reward of GRPO. No verifier, no final answer. The recorded runs pay three ways: the **sum** of the steps' chances; the **weakest step**; and the sum, but only **if the answer is right**, which needs the verifier again.
#
# **Predict first.** For each of the three: what is the cheapest way to be paid more, and when will the policy find it?

# %% tags=["aside"]
from postlab.course.week10 import curves, plot_gamed

plot_gamed(*curves(recorded["grpo"]))

# %% [markdown]
# At first all three teach the same: working sums out is paid, in two of them with no verifier in sight. Then look at the thin lines of the **sum**, one per seed. Every further step that looks right is paid once more. In one seed of three the policy discovers that, after about 40 of the 80 steps: *steps a reply* rises, *paid* rises, and *right* falls to the floor. The **weakest step** pays nothing for length, and is no repair: where its line falls, again in one seed of three, the policy has found wrong additions that this head scores as right. Which hole is found within 80 steps is luck. Only the **gate**, a verifier, closes both. By seed, the share of held-out sums that are right:

# %% tags=["aside"]
pd.DataFrame(
    {"arm": run["arm"], "seed": run["seed"]}
    | {f"step {look['step']}": numbers(look["truth"]).mean() for look in run["heldout"]}
    for run in recorded["grpo"]
).sort_values(["arm", "seed"]).round(2).set_index(["arm", "seed"])

# %% [markdown]
# What does the winner of the sum say? The seed with the most steps a reply:

# %% tags=["aside"]
summed = [run for run in recorded["grpo"] if run["arm"] == "sum of steps"]
gamed = max(summed, key=lambda run: numbers(run["heldout"][-1]["steps"]).mean())
pd.DataFrame(gamed["heldout"][-1]["answers"], columns=["asked", "said"])

# %% [markdown]
# Every addition is right, and nobody asked for the last one. The head judges whether a step follows, not whether it was wanted.
#
# Does the doctor see it? It reads a log with reward and length, and no truth:

# %% tags=["aside"]
KEYS = {"proxy": "reward", "length": "completions/mean_length", "silent": "frac_reward_zero_std"}
KEYS |= {"clipped": "completions/clipped_ratio"}


def log_of(run):
    """The trainer's log of a recorded run."""
    columns = {name: numbers(values) for name, values in run["log"].items()}
    named = {KEYS.get(name, name): values for name, values in columns.items() if name not in ("truth", "steps")}  # fmt: skip
    return [dict(zip(named, values, strict=True)) for values in zip(*named.values(), strict=True)]


# %% [markdown]
# That run, and the gated ones:

# %% tags=["aside"]
gates = [run for run in recorded["grpo"] if "answer" in run["arm"]]
pd.DataFrame(
    [
        (run["arm"], run["seed"], f.code, f.severity, f.evidence)
        for run in (gamed, *gates)
        for f in diagnose(log_of(run))
    ],
    columns=["arm", "seed", "code", "severity", "evidence"],
)

# %% [markdown]
# Only a second measure beside the reward tells a good run from a gamed one. **Log something that is not paid.**

# %% [markdown]
# ## 10. A bug hunt
#
# A colleague writes a head of his own. His loss is far below yours, after half the steps. His best-of-16 is hardly worse. And he calls every right solution wrong.


# %% tags=["aside"]
def colleagues_rows(rows):
    """Tokens and labels, as my colleague makes them."""
    found = process.encode_steps(rows, tokenizer)
    for row in found:
        row["labels"] = [max(label, 0) for label in row["labels"]]
    return found


# %% [markdown]
# The same rows, half the steps:

# %% tags=["aside"]
theirs, their_log = trained_head(colleagues_rows(process_rows), max_steps=30)
their_scores = process.step_scores(theirs, tokenizer, flat)
again = iter(their_scores)
by_theirs = table(flat, lambda r: process.aggregate(next(again), "min"))

# %% [markdown]
# First yours, then his:

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
# `max(label, 0)` turns -100 into 0: every token of the prompt and of every step is now labelled *wrong*. Nine tokens in ten are, whatever the solution, so a model that says 'wrong' to nearly everything has a small loss. The order of replies survives, hence the best-of-16; the chances mean nothing any more, hence the F1. Nothing crashed, as 0 is a class. Count your labels before you train: section 4's table does.
#
# </details>

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
one = process.step_row(prompt, replies[1], [1, 0, 0])
[sum(x != -100 for x in process.encode_steps([one], tokenizer)[0]["labels"]), sum(x != -100 for x in colleagues_rows([one])[0]["labels"])]  # fmt: skip

# %% [markdown]
# ## 11. With real data
#
# `step_rows` reads ProcessBench, PRM800K, Math-Shepherd and TRL's own stepwise form into the rows used above. What nobody labelled stays `None`: behind the first wrong step ProcessBench says nothing, and neither should you.

# %% tags=["aside"]
import pathlib

from postlab.datasets import step_rows

bench = {"id": "gsm8k-0", "problem": "Ann has 3 bags of 4 apples and eats 2. How many are left?"}
bench |= {"steps": ["3 * 4 = 12", "12 - 2 = 11", "The answer is 11."], "label": 1}
bench

# %% [markdown]
# A file of such rows, read:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder, "bench.jsonl")
    file.write_text(json.dumps(bench | {"final_answer_correct": False}))
    real = step_rows(str(file), split="test")
real[0]["completions"], real[0]["labels"], process.first_wrong(real[0]["labels"])

# %% [markdown]
# On a GPU: `step_rows("peiyi9979/Math-Shepherd", split="train[:50000]")`, `encode_steps(rows, tokenizer, separator="\n", max_length=1024, drop_long=True)`, a 1.5B or 7B model with LoRA and `num_labels=2`, then `step_rows("Qwen/ProcessBench", split="gsm8k")`, `step_scores(head, tokenizer, rows, separator="\n")` and `error_f1`. No large model was run here: the next section does this on a small scale, with your profile's own model.

# %% [markdown]
# ## 12. Your profile's own model
#
# Everything above happened where an oracle knows every step. Now the model that GRPO trained in week 7 under `smol`, `t4` or `rented`: it draws solutions to training problems, labels their steps by rollouts, gets a reward head, and the head chooses among its replies to held-out problems. The data are the ones that GRPO was trained on: GSM8K, or on `smol` one-step sums in words.
#
# By arithmetic this takes about 7 minutes on `smol`'s two cores, 20 on a T4 (where the model is the 1.5B) and 10 on an H100. None of it has been run on a GPU yet. It doesn't use Unsloth: nothing here is one of TRL's trainers, and Unsloth would replace the classes that the head is built from.

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
# What a verifier of answers knows, and nothing else is needed here: the last number of a reply, and whether it is the gold one.

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
# ### Draw, and label by rollouts
#
# Four solutions per problem, a step a line. Nobody labelled these steps, so section 3's rollouts do: four completions from each prefix, and the last step's label is the outcome. A step counts as right if at least two of its four completions come out right. One-line replies, which are most of `smol`'s, have one step, so there the head is an outcome reward model.

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
# By the number of steps: the solutions, those with a right answer, and the labels of their steps. Look at both shares: a head learns nothing from labels that are all alike.

# %%
if own:
    about = pd.DataFrame(
        {"steps": len(row["labels"]), "right": row["labels"][-1], "steps right": sum(x >= 0.5 for x in row["labels"]) / len(row["labels"])}
        for row in rows
    )  # fmt: skip
about.groupby("steps").agg(solutions=("right", "size"), right=("right", "mean"), labels=("steps right", "mean")).round(2) if own else None  # fmt: skip

# %% [markdown]
# The held-out replies are drawn before the policy gives up its place in memory: one greedy answer and eight samples per problem.

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
# ### The head
#
# As in section 4: the policy's body, and two logits per token in place of the vocabulary. A 4-bit base can't be merged with its adapter, so GRPO's adapter goes on as an adapter, and it is trained further together with the new layer. The trainer's arguments are those of the profile's SFT; what only TRL knows is left out.

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
# ### Choose
#
# The weakest step's chance is a reply's score. On the same held-out problems: the best of $n$ by the head, the majority, the vote weighted by the head's scores, and the oracle, which is right if any reply is.

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
# What does the head add? Paired, on the same problems, of eight replies, in points. The greedy answer costs one reply, so a gain over it is what seven more replies and a head have bought; the gain over the majority is the head's own.

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
# An interval that contains zero is *inconclusive*. Where the head doesn't beat the majority, remember section 6: a vote can't be fooled by one reply that the head overrates. And look at what it had to learn from: a few hundred solutions to problems that the policy has already been trained on, with labels that are only as good as the policy that completes them.

# %% [markdown]
# ## What you have now
#
# Step labels from an oracle and from answers, two heads on one budget, and an estimator for best-of-$n$. Week 11 has several rewards at once.

# %% [markdown]
# ### Five interview questions
#
# **1.** Why does the label of a step stand on its last token, and what happens if it stands on all of them?
#
# <details><summary>Answer</summary>
#
# A causal model at an earlier token has not read the step. Labels on all tokens teach it to guess a step's fate from its beginning, and weigh long steps more. One token too late, it has seen how the next step begins, which leaks. Padding and prompt must have -100.
#
# </details>
#
# **2.** Your process model beats the outcome model by ten points in best-of-64. What do you ask before you believe that step labels did it?
#
# <details><summary>Answer</summary>
#
# The same solutions, steps, start and size? The number of labels, and what they cost? Which aggregation, chosen on what? Paired intervals over prompts, several seeds. The majority and the weighted vote beside it. And whether a difference in style, which both could see, explains it.
#
# </details>
#
# **3.** How do Monte Carlo step labels fail?
#
# <details><summary>Answer</summary>
#
# With a weak completer right steps of hard problems get 0; with a strong one wrong steps get 1, as it corrects them. They measure the chance of *this* policy to finish, not whether the step is right. More rollouts shrink the noise and not that bias. Compare with human or stronger-judge labels on a sample, by position and difficulty.
#
# </details>
#
# **4.** System design: 16 replies a question is what you can afford. Vote, rerank or search?
#
# <details><summary>Answer</summary>
#
# Measure at equal tokens, the reward model's own passes counted. Vote where answers can be compared and errors scatter; rerank where they do not or replies are free text; weighted vote as the default of the two. Search where mistakes come early and the model sees them; else it only amplifies the model's errors. Watch the curve over n: where best-of-n falls, the reward model is being overoptimised.
#
# </details>
#
# **5.** Research taste: a paper trains a policy on a process reward and its process reward doubles. What is missing?
#
# <details><summary>Answer</summary>
#
# Something that was not paid: accuracy by a verifier on held-out problems, steps and length a reply, samples. How steps are aggregated (a sum pays for steps), and what a reply without an answer is paid. The same run with the outcome reward alone.
#
# </details>

# %% [markdown]
# **Papers.** Lightman et al. 2023, *Let's verify step by step* ([2305.20050](https://arxiv.org/abs/2305.20050)): section 2, labels; 3, process against outcome; appendix F, aggregation. Wang et al. 2023, *Math-Shepherd* ([2312.08935](https://arxiv.org/abs/2312.08935)): section 3.3, labels from rollouts. Uesato et al. 2022 ([2211.14275](https://arxiv.org/abs/2211.14275)): with answers' labels alone a reward model came to agree with process labels. Zheng et al. 2024, *ProcessBench* ([2412.06559](https://arxiv.org/abs/2412.06559)): section 3, the measure. Zhang et al. 2025 ([2501.07301](https://arxiv.org/abs/2501.07301)): what goes wrong with Monte Carlo labels and best-of-n as a yardstick. Snell et al. 2024 ([2408.03314](https://arxiv.org/abs/2408.03314)): search against best-of-n at equal compute. Wang et al. 2022, *self-consistency* ([2203.11171](https://arxiv.org/abs/2203.11171)). Cheng et al. 2025, *PURE* ([2504.15275](https://arxiv.org/abs/2504.15275)): why a sum of step rewards is gamed.
