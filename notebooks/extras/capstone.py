# %% [markdown]
# # Extra · A capstone of your own
#
# Twelve weeks gave you methods. A capstone shows what you do with them: *one* question that you chose, a prediction that you wrote down before you trained anything, and an answer that you report whatever it is.
# In an interview, it is the project that you can talk about for an hour.
#
# By the end you have
#
# - a proposal in YAML, checked field by field, and registered with its hash before the first run,
# - a verdict that is computed from the runs: supported, refuted or inconclusive, with every deviation from the plan,
# - a page for your portfolio, and a rubric for your next question.
#
# The worked example uses the embedded model in every profile: eight short runs of DPO, about three minutes in all on two CPU cores. What it finds is *mechanism, not capability*.

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
# ## 1. The question
#
# In week 5, a beta of 0.5 gave more honest answers than a beta of 0.05 after the same sixty steps, in all three seeds. That was one of several comparisons in that table, and we looked at the table first. So it is a *hypothesis*:
# to test it, it has to predict runs that nobody has seen. The proposal below does that, with other seeds and other held-out prompts, and with a beta of 0.3, which lies between those that were tried.
#
# **Predict first.** Read the proposal, and then write down your own prediction. Would you have chosen the same smallest effect that matters?

# %%
import tempfile
from pathlib import Path

from postlab.course.capstone import read_proposal

PROPOSAL = """
question: Does a beta of 0.3 make the embedded model more honest than a beta of 0.05, after the same sixty steps of DPO?
why: Recipes often lower beta to get more out of the same pairs. If that costs honesty, the habit is a bad one.
if_supported: Start at 0.3 in short runs, and lower beta only with honesty in view.
if_refuted: Choose beta by something else, such as the KL that you can afford.
profile: tiny
stage: dpo
prediction:
  metric: honesty
  arm: beta 0.3
  against: beta 0.05
  direction: higher
  smallest_effect: 0.1  # one in ten of the unanswerable questions
  because: >-
    The lower beta lets the policy move further from its start before a pair counts as settled (week 5 measured more
    KL), and what it moves away from includes the habit of saying that it doesn't know.
shared:
  trainer: {max_steps: 60, warmup_steps: 4, loss_type: [sigmoid], loss_weights: null, save_strategy: "no"}
  data: {rows: 960}
arms:
  beta 0.05: {trainer: {beta: 0.05}}
  beta 0.3: {trainer: {beta: 0.3}}
baseline_because: The low beta gets the same pairs, steps and rate, and the habit under test is to choose it.
chosen_on: Rate, batch and steps are those of week 5's experiment, which had seeds 0 to 2 and the first 60 prompts.
seeds: [10, 11, 12, 13]
prompts: 250
also: [safety]
spread: 0.044  # of the difference between betas 0.5 and 0.05 over week 5's three seeds
budget_minutes: 15
stopping: No run is stopped because of its result, and no seed is added. A run whose loss isn't finite is left out and reported.
analysis: paired by prompt, seeds as unit, Holm
"""

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "proposal.yaml")
    path.write_text(PROPOSAL, encoding="utf-8")
    proposal = read_proposal(path)
proposal.prediction

# %% [markdown]
# ## 2. Is it a good question?
#
# Most experiments that fail were decided before they ran. Six questions find most of the reasons. A program can compute part of the answers, from the number of prompts and seeds for example; the rest needs a reader, and that should be someone other than you.
#
# | ask | a good sign | a bad sign |
# |---|---|---|
# | Can it be answered at this size? | the smallest effect that you could see is smaller than the one that matters | three seeds, sixty prompts, and hope |
# | Would either answer change what somebody does? | you can name the decision for both | 'it would be interesting' |
# | Is the baseline the strongest cheap one? | same compute, its settings chosen with the same care | the method against an untuned default |
# | Were settings chosen elsewhere than the answer is measured? | other prompts, other seeds, said so | the best of nine runs, reported on the prompts that chose it |
# | Is the smallest effect that matters stated? | a number with a unit, before the run | 'significant' |
# | Is the null result reported? | the page exists whatever the verdict | a folder called `old` |

# %%
# NBVAL_CHECK_OUTPUT
import pandas as pd

from postlab.course.capstone import rubric

pd.set_option("display.max_colwidth", 160)
rubric(proposal).set_index("question")

# %% [markdown]
# 'For a reader' isn't a pass. It means that the text beside it has to convince somebody. The first row is computed with an assumption: that a quarter of the prompts change from wrong to right or back between the two arms.
#
# ## 3. Register, then run
#
# `register` writes the proposal, its SHA-256 and the time into a folder. From then on, evaluations can be kept in that folder, and a changed proposal can't: it would need a new folder and new seeds. The hash guards against
# hindsight and not against fraud, because anyone who rewrites the whole folder can compute a new one. If you want others to believe the date, publish the hash first, in a commit or a post.

# %%
from postlab.course.capstone import register
from postlab.runs import run_root

home = run_root() / "capstones" / "beta-and-honesty"
registration = register(proposal, home)
registration.sha256[:16], registration.time[:10]

# %% [markdown]
# One run of one arm, with TRL's trainer. The arm's settings come from the registered proposal and from nowhere else. DPO starts from the shipped SFT stage and uses a copy of its adapter as the reference (week 5).

# %%
from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from postlab.datasets import preference_rows
from postlab.models import load_policy, trainable
from postlab.profile import get_profile

tiny = postlab.Lab(get_profile("tiny"), seed=0)


def train(arm, seed):
    policy, tokenizer = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
    rows = preference_rows("tinyworld", split="train", n=proposal.data(arm)["rows"], seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=trainable(policy),
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows).select_columns(["prompt", "chosen", "rejected"]),
            args=DPOConfig(output_dir=folder, seed=seed, **proposal.settings(arm)),
        )
        trainer.remove_callback(PrinterCallback)  # eight logs would fill the page
        trainer.train()
    return trainer.model.eval(), tokenizer


# %% [markdown]
# The held-out prompts leave out those that week 5's experiment used. Only the two families that the registered metrics need are asked.

# %%
import time

from postlab.course.capstone import keep, kept
from postlab.evals import evaluate
from postlab.tinyworld.tasks import MOST_PROMPTS, heldout_suite

used = {row["id"] for row in heldout_suite(n=60)}
unused = [row for row in heldout_suite(n=MOST_PROMPTS) if row["id"] not in used]
families = {
    name: [row for row in unused if row["family"] == name] for name in ("unknown", "unsafe")
}
suite = [row for rows in families.values() for row in rows[: proposal.prompts]]

begun, there = time.perf_counter(), kept(home)
for seed in proposal.seeds:
    for arm in proposal.arms:
        if seed not in there.get(arm, {}):  # an interrupted capstone goes on where it stopped
            policy, tokenizer = train(arm, seed)
            keep(evaluate(policy, tokenizer, suite), home, arm=arm, seed=seed)
minutes = (time.perf_counter() - begun) / 60
print(
    f"{len(suite)} prompts; all runs took less than {proposal.budget_minutes:g} minutes: {minutes < proposal.budget_minutes}"
)

# %% [markdown]
# ## 4. The verdict
#
# Each seed gives one number: the mean difference between the two arms over the same prompts. The seeds are the unit, because another seed is what a reader would get. The prompts are a sample as well, so the interval is the wider of the
# two that seeds and prompts give, and p is corrected by Holm's method for every metric that was registered.
#
# **Predict first.** Supported, refuted or inconclusive? There are only four seeds: how large must a difference be before a *t* interval over four numbers excludes zero?

# %%
from postlab.course.capstone import judge, read_registration

judgement = judge(read_registration(home), kept(home), minutes=minutes)
print(judgement)

# %%
judgement.table.round(3)

# %% [markdown]
# With four seeds, the interval over seeds is the mean plus or minus 1.6 standard deviations of the seeds' differences (*t* with three degrees of freedom is 3.2, divided by the square root of four). With three seeds it would be 2.5. An inconclusive verdict is not a failed project. It tells you what a
# larger experiment would have to be like, and a reader learns that the question is harder than it looks. What you can't do is add seeds until p falls below 0.05: that was not registered, and it finds something in noise, too.
#
# If you forget a seed, judge by another metric or stop a run, that is listed as a deviation. And a test that wasn't registered can support nothing:

# %%
frames = kept(home)
frames["beta 0.3"].pop(proposal.seeds[-1])
print(judge(registration, frames, metric="safety"))

# %% [markdown]
# ## 5. The page for your portfolio
#
# The result is Markdown in which every number is a placeholder that is bound to the judgment, as in the rest of your portfolio (week 12).

# %%
from IPython.display import Markdown

page = judgement.markdown()
(home / "capstone.md").write_text(page, encoding="utf-8")
Markdown(page)

# %% [markdown]
# ## 6. Your own
#
# Three worked proposals are in `data/examples/capstones/`: one for `tiny`, one for `smol`, one for a single GPU. Each has a prediction and its reasons, and none has been run: the answers are open.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.profile import data_dir

for path in sorted((data_dir() / "examples" / "capstones").glob("*.yaml")):
    example = read_proposal(path)
    computed = rubric(example)["computed"].tolist()
    print(
        f"{path.stem} ({example.profile}, {example.stage}): {example.question}\n   computed: {computed}"
    )

# %% [markdown]
# To start your own, copy the one that is closest, change the question first and the settings last, and let somebody else read it before you register it. `keep` takes the evaluation of any run, so the loop of section 3 is all the code that you need.
# Report it whatever the verdict is.
#
# When yours is judged, `judgement.save(run_root() / "tiny" / "portfolio")` puts the verdict where week 12's checklist looks for it (with your profile's name in place of `tiny`).
#
# What the roadmap's three projects would cost on a rented GPU, and what the roles ask for that such a project prepares you for, is in week 12, section 10.
