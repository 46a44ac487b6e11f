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
# - a page for your portfolio, a rubric for your next question, and the bill for doing all of it on a rented GPU.
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
# The result is Markdown in which every number is a placeholder that is bound to the judgement, as in the rest of your portfolio (week 12).

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
# ## 7. What would all of it cost on a rented GPU?
#
# The roadmap says that its three projects (SFT of a 7B on OpenHermes, DPO on UltraFeedback, GRPO on GSM8K) cost less than 500 dollars. `bill` computes an estimate from the profiles' own settings: the fast and the slow end of each range are the paces that are usual for Hugging Face's trainers.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.capstone import BUDGET, bill

costs = bill()
ranges = ["hours_low", "hours_high", "dollars_low", "dollars_high"]
costs[["device", "project", "model", "rows", *ranges]].round(1).astype(object).fillna("")

# %%
# NBVAL_CHECK_OUTPUT
total = costs[costs["project"] == "all three"]
for row in total.to_dict("records"):
    price = (
        "nothing"
        if not row["dollars_high"]
        else f"${row['dollars_low']:.0f} to ${row['dollars_high']:.0f}"
    )
    print(
        f"{row['device']}: {row['hours_low']:.0f} to {row['hours_high']:.0f} hours, {price}; under ${BUDGET:.0f}: {row['under']}"
    )
print("Prices of", costs["prices_of"].iloc[0])

# %% [markdown]
# So one run of each costs far less than 500 dollars. This is an estimate, and nobody keeps a first run: debugging, a search over learning rates and three seeds multiply it, and so do downloads and idle hours, which aren't in it. The column `times` of the totals says
# how often you could repeat everything before the budget is gone. The free T4 costs no money and trains on subsets, within sessions that may end at any time.
#
# ## 8. Roles and what each asks for
#
# Titles overlap, and the same work is called research engineer in one place and applied scientist in the next. So read the duties, not the title. The table says what postings ask for, in our words, and which weeks prepare you for it; the last column is our own judgement.
#
# | role | what they do, according to the postings | weeks |
# |---|---|---|
# | Research engineer | Owns a question from hypothesis to training run to result; builds environments as controlled experiments; reaches for ablations, controls and confidence intervals [1]. Builds infrastructure for RL, in which rollout, inference and training run in a loop, from one GPU to many nodes [2] | 7, 8 (GRPO and its ablations), 6 (statistics), this capstone |
# | Post-training or applied scientist | Runs SFT, preference optimisation and RL; designs rewards and verifiers; curates instruction and preference data; LoRA and QLoRA, distributed training, serving [3]. Reward models, graders with rubrics, and the detection of reward hacking [4] | 2, 3, 4, 5, 7, 8, 10 |
# | Alignment or safety researcher | Trains and evaluates models for intent, calibration and honest reports of their limits, mostly with RL [5]. Prototypes safeguards and the evaluations that show whether they work, without over-refusal [6]. Evaluates safeguards for governments and writes down what others can act on [7] | 6, 9, 11; week 5 for over-refusal |
# | Evaluation engineer | Builds evaluations of dangerous or useful capabilities, with hands-on ML experience [8]. Defines what good behaviour is, writes evaluations and data guidelines, fixes edge cases [9]. Treats the method itself as the research: preferences, reward models, calibration, validity [10] | 6, 10, 12; the suite `everyday` as an example |
# | ML engineer for inference | Optimises serving across schedulers, kernels, memory and caches; speculative decoding, FP8 and INT4; benchmarks latency and throughput [11]. Kernels, low-latency sampling, low-precision inference, and quantitative models of performance [12] | 2 (4-bit weights, memory arithmetic), 12 (export, re-evaluation, serving). This course teaches no kernels: you'd have to add them |
#
# **What interviews ask.** There is less to go on here, and most of it isn't official.
#
# - There is no standard. A report on a guide by people of the Astra Fellowship and Constellation says that interviews in AI safety differ between organisations, and between the teams of one lab [18]. Ask the recruiter what the rounds are.
# - From the postings themselves: Anthropic says of its reward-model role that all interviews are in Python [4].
# - From someone who hired: a researcher at Apollo Research, writing in his own capacity, advises you to do the work that you want to be hired for and to put it where people can see it, because that counts for more than drilling puzzles [13]. That is the case for a portfolio.
# - A take-home that became public: Anthropic's performance team published an old one, in which a kernel has to be made faster on a simulated machine. Discussions of it mention two hours and the starting code's tests [14].
# - As candidates report it: explain the pipeline from SFT to preference optimisation and safety, how you would evaluate beyond the loss, and the trade-offs [15]. A third-party guide lists reward hacking, the KL penalty, PPO's clipping, DPO against PPO, and Constitutional AI [16]. Another describes writing a Transformer component, and debugging training code that is broken [17]. We couldn't check these.
#
# The mock interview of week 12 covers these topics. Its answers are worth most when they come from your own runs: 'what did you measure, and what didn't work?' is a question that only your run folders can answer.
#
# **Sources**, all read on 2026-11-30 *as stored copies*. Postings close and change, so look for the current one. Only [7], [8] and [13] are the organisation's or author's own pages; the other postings are copies or summaries on job boards, which may be shortened. The career pages of the large labs themselves weren't available to us, so this is a sample and no survey, and it says nothing about pay or about how many such jobs there are.
#
# 1. Anthropic, Research Engineer (search post-training). <https://www.newx.sg/job/detail/5206456008> (copy)
# 2. NVIDIA, Senior Software Engineer, RL Post-Training Frameworks. <https://www.tealhq.com/job/senior-software-engineer-rl-post-training-frameworks_7ea1a3a6766016844987a303c814f6f256cc4> (copy)
# 3. Deloitte, Research Engineer, Post-training & Small Language Models, Healthcare AI. <https://aihiresignal.com/j/research-engineer-post-training-amp-small-language-models-slms-healthcare-ai-710caede> (summary)
# 4. Anthropic, Senior Research Scientist, Reward Models, 2025-12-17. <https://www.newx.sg/job/detail/5024835008> and <https://www.aijobs.com/jobs/183756860-senior-research-scientist-reward-models> (copies)
# 5. OpenAI, Researcher, Alignment Science. <https://www.opentalent.in/jobs/researcher-alignment-science-openai> (copy)
# 6. Anthropic, Research Engineer, Safeguards Labs. <https://mljobs.io/jobs/anthropic-research-engineer-safeguards-labs-5191785008> (copy)
# 7. AI Security Institute (UK), Safeguards Technical Governance Researcher. <https://job-boards.eu.greenhouse.io/aisi/jobs/4587207101>
# 8. METR, 'METR is hiring ML Research Engineers and Scientists'. <https://www.lesswrong.com/posts/xFuxaszduwGtA3boQ/metr-is-hiring-ml-research-engineers-and-scientists>
# 9. Mistral AI, Model Behavior Architect, Function Calling, first indexed 2026-05-23. <https://yubhub.co/jobs/job_44842be9-1f7.html> (copy)
# 10. Apple, Research Scientist, AI Evaluation Science. <https://pytorchjobs.com/jobs/49945888-027e-44a6-8b3e-e649e7063b6f> (copy)
# 11. NVIDIA, Senior Performance Engineer, LLM Inference Frameworks. <https://www.opentalent.in/jobs/senior-performance-engineer-llm-inference-frameworks-nvidia> (copy)
# 12. Anthropic, TPU Kernel Engineer. <https://cvzilla.net/j/tpu-kernel-engineer-10057> (summary)
# 13. 'Experiences and learnings from both sides of the AI safety job market'. <https://www.alignmentforum.org/posts/WqYSmjSsE3hi8Lgot/experiences-and-learnings-from-both-sides-of-the-ai-safety>
# 14. Nahornyi, 'Anthropic Releases Performance Take-Home'. <https://nahornyi.ai/en/news/anthropic-performance-takehome-kernel-optimization-impact>; discussion on Hacker News, item 46700594
# 15. PracHub, 'Explain LLM post-training methods and tradeoffs', reported for Scale AI. <https://prachub.com/interview-questions/explain-llm-post-training-methods-and-tradeoffs>
# 16. TechInterview.org, 'RLHF / post-training interview topics' (2026). <https://www.techinterview.org/post/3233475333/rlhf-post-training-interview-topics-2026/>
# 17. Frontier News, on Anthropic's hiring of research engineers. <https://frontiernews.ai/news/article/inside-anthropics-brutal-research-engineer-hiring-6d376ef3>
# 18. PSEEDR, 'The Institutionalization of AI Safety: Decoding the Non-Standardized Hiring Landscape', on a LessWrong post. <https://pseedr.com/risk/the-institutionalization-of-ai-safety-decoding-the-non-standardized-hiring-lands>
