# %% [markdown]
# # Week 12 · One model, all its stages, one honest comparison
#
# Base, SFT, DPO, GRPO, and on `tiny` what you made of weeks 9 to 11 (CAI, PRM, multi): each answered the same held-out prompts. This notebook puts them in one table and one figure, checks that what
# you would hand over says the same as what you measured, and writes the report.
#
# By the end you have
#
# - `summary.json`, `stages.png` and `report.html` in `runs/<profile>/`,
# - a merged model whose answers were compared with the adapter's,
# - sentences about your model that you can defend in an interview.

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

lab = postlab.start(week=12)

# %% [markdown]
# ## 1. Every answer of every stage
#
# **Predict first.** From weeks 3 to 11 (on the other profiles weeks 3, 5 and, but for `t4`, 7): which stage moved which metric? Write down three sentences before you look.

# %%
separate = lab.profile.grpo.base_model is not None
frames = lab.results(*(("base", "sft", "dpo") if separate else ()))
if separate:
    lab.not_here(
        "GRPO started from a separate 1.5B model, so it can't be compared with the 7B stages;"
        " weeks 7 and 8 compare it with its own starting point."
    )
{stage: len(frame) for stage, frame in frames.items()}

# %% [markdown]
# Each stage is compared with the one it was trained from; weeks 9 to 11 branched off SFT.

# %%
from postlab.report import summarise, summary_frame

table = summary_frame(summarise(lab.profile.name))
table = table[(table["seed"] == lab.seed) & table["stage"].isin(frames)]
table.pivot(index="metric", columns="stage", values="value")[list(frames)].round(2)

# %% [markdown]
# A table of means invites over-reading. The figure shows the same with 95% intervals, and its title names only supported changes: an interval that excludes zero, and a p below 0.05 after Holm's correction for the metrics that the stage was looked at in. A hollow point, as in most panels of PRM, has no interval because nothing was measured: those answers are copied from the parent.

# %%
from postlab.show import plot_stages

plot_stages(table, profile=lab.profile.name)

# %% [markdown]
# ## 2. The same prompts, side by side
#
# Numbers compress. Before you believe them, read what the stages said.

# %%
import pandas as pd

answers = next(iter(frames.values()))[["family", "prompt"]].copy()
for stage, frame in frames.items():
    answers[stage] = frame["answer"]
pd.set_option("display.max_colwidth", 120)
answers.groupby("family", sort=False).head(2)

# %% [markdown]
# ## 3. Is a difference a finding?
#
# Each row below is a *claim*: one metric of one stage against the stage it was trained from, on the same prompts, over all the seeds that you have run. `p` is the chance of a difference at least this
# large if the two stages were interchangeable. Among dozens of rows a few would 'succeed' by luck alone at a threshold of 0.05. So `p` is corrected by Holm's method for the metrics of its stage
# (week 6), and with several seeds it is the largest of theirs. `agree` counts the seeds that support the verdict on their own. The report, section 5, takes its verdicts from the same place.

# %%
from postlab.claims import CAVEATS, claims

all_claims = claims(lab.profile.name)
rows = [vars(c) | {"agree": f"{c.agree} of {len(c.verdicts)}"} for c in all_claims]
columns = ["metric", "change", "change_low", "change_high", "agree", "p", "verdict"]
pd.DataFrame(rows).set_index("stage")[columns].round(3)

# %% [markdown]
# **Predict first.** Which of these claims would you *not* put on a slide, though its verdict is 'better'?
#
# A verdict says whether the prompts support a change. What the change is worth depends on how it was measured, and no p-value knows that. So each claim carries its *caveats*. Most are computed from the
# run folders; what only the author can know was stored with the evaluation, as weeks 9 and 10 do. How many claims have each of them?

# %%
counts = {code: sum(code in claim.caveats for claim in all_claims) for code in CAVEATS}
print(f"{len(all_claims)} claims")
pd.DataFrame({"claims": counts, "what it says": CAVEATS}).query("claims > 0")

# %% [markdown]
# The claims with the most caveats in full, of each stage the one with the smallest p:

# %%
most, heavy = max(len(claim.caveats) for claim in all_claims), {}
for claim in sorted(all_claims, key=lambda claim: claim.p):
    if len(claim.caveats) == most:
        heavy.setdefault(claim.stage, claim)
print(*heavy.values(), sep="\n\n")

# %% [markdown]
# A caveat doesn't make a claim false, and it changes no verdict: it says which conclusion the number can't carry. On `tiny`, SFT's gain in chat format is real, and it says little about the method,
# because the base had never been asked in that format. CAI's gain in sums is real, and it isn't the constitution's: no rule speaks of sums, and the labels that taught them stand for people's. PRM's gain in
# sums is real too, and it was bought with sixteen replies per sum. Report a claim together with its caveats: an interviewer who finds one that you left out will doubt the other claims as well.

# %% [markdown]
# ## 4. What you would hand over
#
# An adapter is handy to train and awkward to serve. `export` merges it into the base, saves, loads it again, and proves that the merged model says
# the same: the largest difference in any logit, and the greedy answers that changed. On `t4` and `rented` this downloads the base in 16 bits (3 GB for a 1.5B, 15 GB for a 7B) and writes as much
# again. There the adapter was trained on a 4-bit base, so the difference is mostly the error of quantization, and some answers may change.

# %%
import shutil

from postlab.models import export

chosen = "grpo"  # or what your table speaks for; not "prm": a reward model answers nothing
target = lab.folder / "export" / chosen
shutil.rmtree(target, ignore_errors=True)  # an earlier run of this notebook
proof = export(lab.checkpoint(chosen), to=target, profile=lab.profile)
{
    "logits differ by at most": round(proof.largest_logit_difference, 4)
    if proof.prompts
    else "not measured: too little memory",
    "prompts": proof.prompts,
    "answers that changed": proof.changed,
}

# %% [markdown]
# A merge is rounded to the precision it is saved in, so a small difference is expected and a changed answer is not impossible. The one thing you can't afford is not checking.
#
# ## 5. The report
#
# `lab.report()` writes the summary, the figure and a page that stands alone, with every seed you have run: one seed tells you what happened once, several tell you whether
# it happens again. `make stages SEED=1` adds another.

# %%
report = lab.report()
report.name

# %% [markdown]
# ## What was not shown
#
# On `tiny` every result is *mechanism, not capability*: a model of 1.4 million parameters in a made-up world shows how imitation copies habits, how preferences
# move manners and how a verifier changes a strategy. It says nothing about how much a 7B would gain. On the other profiles there is no oracle: programs read the answers
# to `everyday`'s prompts (and to GSM8K's, on `t4` and `rented`). They tell whether an answer refuses, admits ignorance, names the right thing or keeps to an instruction, are sometimes wrong about it, and can't tell
# whether help is good help. `data/suites/everyday/README.md` says how often a reader agreed with them, and what else the suite doesn't measure.
