# %% [markdown]
# # Week 12 · A portfolio that an interviewer can check
#
# "I fine-tuned a model and it got better" is what every candidate says. "DPO raised honesty by 64 points (58 to 71) on 200 held-out prompts, all eight seeds agree, and here is the file so that you can
# score it yourself" is something that almost nobody can say. After eleven weeks, you can. This notebook turns your runs into a portfolio: model cards, a site, a post per project, slides, and an exported model that is re-evaluated in the form people will download. Every number in the text is linked to a run, and an *audit* rejects any number that no run supports. Then you practice defending the results in an interview.
#
# By the end, you'll have
#
# - a table of your claims, each with the evidence against it,
# - a folder that you can publish, and a list of what is still missing,
# - a record with hashes that lets anyone check what you ran, solved and wrote,
# - the experience of a first mock interview about your own results.
#
# The core is sections 1 to 7, about 90 minutes, not counting the writing. Sections 8 to 10 go deeper.

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
# **Predict first.** Think back to weeks 3 to 11. (On the other profiles, the stages compared here come from weeks 3, 5 and 7; on `t4`, from weeks 3 and 5.) Which stage moved which metric? Write down three sentences before you look.

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
# Each stage is compared with the one it was trained from. On `tiny`, the stages of weeks 9 to 11 branch off from SFT.

# %%
from postlab.report import summarise, summary_frame

table = summary_frame(summarise(lab.profile.name))
table = table[(table["seed"] == lab.seed) & table["stage"].isin(frames)]
table.pivot(index="metric", columns="stage", values="value")[list(frames)].round(2)

# %% [markdown]
# A table of means invites you to read too much into it. The figure shows the same values with 95% intervals, and its title names only the changes that the runs support, which means that the interval excludes zero and p is below 0.05 after Holm's
# correction for the metrics tested in that stage. A hollow point, as in most of the PRM panels, has no interval because that value wasn't measured: those answers are copied from the previous stage.

# %%
from postlab.show import plot_stages

plot_stages(table, profile=lab.profile.name)

# %% [markdown]
# Averages hide a lot. Before you trust the averages, read what the stages actually answered. Here are two answers from each family (each sampled sum is asked several times, so those two rows have the same prompt):

# %%
import pandas as pd

answers = next(iter(frames.values()))[["family", "prompt"]].copy()
for stage, frame in frames.items():
    answers[stage] = frame["answer"]
pd.set_option("display.max_colwidth", 120)
answers.groupby("family", sort=False).head(2)

# %% [markdown]
# ## 2. Which of these differences are findings?
#
# Each row below is a *claim*: one metric of one stage, compared with the stage it was trained from, on the same prompts and over all the seeds you have run. `p` is the probability of a difference at least this
# large if the two stages were interchangeable. Among dozens of rows, a few would fall below 0.05 by luck alone. So `p` is Holm-corrected across the metrics of its stage
# (week 6). With several seeds, the table shows the largest of their p-values. `agree` counts the seeds that support the verdict on their own. All documents that this notebook writes use the verdicts of this table.

# %%
from postlab.claims import CAVEATS, claims

all_claims = claims(lab.profile.name)
rows = [vars(c) | {"agree": f"{c.agree} of {len(c.verdicts)}"} for c in all_claims]
columns = ["metric", "change", "change_low", "change_high", "agree", "p", "verdict"]
pd.DataFrame(rows).set_index("stage")[columns].round(3)

# %% [markdown]
# **Predict first.** Which of these claims would you *not* put on a slide, even though its verdict is 'better'?
#
# A verdict says whether the results on these prompts are evidence of a change. What the change is worth depends on how it was measured, and a p-value can't tell you that. So each claim also has its *caveats*. Most caveats are computed from the run folders. Caveats that only the author can know were stored with the evaluation, as in weeks 9 and 10. How many claims does each caveat apply to?

# %%
counts = {code: sum(code in claim.caveats for claim in all_claims) for code in CAVEATS}
print(f"{len(all_claims)} claims")
pd.DataFrame({"claims": counts, "what it says": CAVEATS}).query("claims > 0")

# %% [markdown]
# A caveat doesn't make a claim false and doesn't change its verdict. A caveat says which conclusions you can't draw from the number. On `tiny`, SFT's gain in chat format is real, but it says little about the method,
# because the base model had never seen that format. CAI's gain on sums is real, but the constitution didn't cause it: no rule mentions sums, and the preference labels for them came from the oracle, which stands in for human raters. PRM's gain on sums is real too, but it took sixteen samples per sum. Always report a claim together with its caveats. An interviewer who finds one that you left out will doubt your other claims as well.
#
# ### Exercise 12.1 · about 10 minutes · medium
#
# The next cell prints draft sentences about your own runs. Every number in them is correct. Which of them claim more than the runs support? Compare each one with the table above, then assign the letters to `overclaims`.

# %%
from postlab.course.week12 import draft_sentences

sentences = draft_sentences(all_claims, seed=12)
print(sentences)

# %% tags=["exercise"]
overclaims = None  # such as "BD"

sentences.check(overclaims)

# %% [markdown]
# <details><summary>Hint</summary>
#
# There are three ways to overclaim with correct numbers: reporting an inconclusive change as a loss or a gain, reporting it as no change at all, and leaving out a caveat that the reader needs.
#
# </details>
# <details><summary>Solution</summary>
#
# `sentences.check("ABCD")` prints the reason for each sentence. The only supported sentence is the one that states its caveats and is based on a settled verdict.
#
# </details>
#
# ## 3. What people download
#
# We measured everything above on an adapter, with the training software. People download something else: a merged model, or a GGUF file for llama.cpp and Ollama. Does the downloaded file give the same answers?
#
# The usual check compares a few prompts. If you compare four answers and none has changed, what share of all answers could still have changed? The 95% upper bound is $1 - 0.05^{1/4} = 53\%$, so such a check tells you almost nothing. Instead, `handover` re-evaluates each format on the held-out prompts and
# tests for equivalence rather than for a difference. You choose a margin beforehand, here five points, and the format is **equivalent** only if the 90% interval of the difference lies within this margin. If the interval is too wide, the verdict is *inconclusive*, which isn't the same as 'different'.

# %% tags=["portfolio"]
import shutil

from postlab.portfolio import handover

chosen = "grpo"  # or what your table speaks for; not "prm": a reward model answers nothing
target = lab.folder / "export" / chosen
shutil.rmtree(target, ignore_errors=True)  # from an earlier run of this notebook
on_cpu = lab.profile.device == "cpu"
handed = handover(
    lab.checkpoint(chosen),
    to=target,
    profile=lab.profile,
    n=60 if on_cpu else None,
    formats=("merged", "gguf-f16", "gguf-q8_0") if on_cpu else ("merged",),
    name=f"{lab.profile.name}-{chosen}",
)
handed.frame.set_index(["format", "metric"])[["difference", "low", "high", "n", "verdict"]].round(3)

# %% [markdown]
# Differences are shares, so 0.01 is one percentage point. With few prompts per family, some verdicts stay inconclusive even though hardly any answers changed. The next table counts the greedy answers that did change. `at_most` is the largest share of changed answers that is still compatible with this count (a one-sided 95% bound).

# %% tags=["portfolio"]
handed.answers.set_index("format").round(3)

# %% [markdown]
# On `t4` and `rented`, only the merged model is written here, since a 7B model in 16-bit precision takes 15 GB of disk space and an equal amount of memory. On those profiles, the adapter was trained on a 4-bit base, so part of the difference is the quantization error, which the merged model no longer has. To write GGUF files as well, add them to `formats=`.
#
# The files also have to be *served*. Some faults show up only at that point: a tokenizer class that the server's version of transformers doesn't know, a missing end-of-turn token, or a chat template that renders different tokens. `handover` checks for these and returns a command only for the formats that pass. For the others, it says what is wrong. (On `tiny` it finds one fault: llama.cpp doesn't know the pre-tokenizer of our small tokenizer,
# so `handover` returns no command for the GGUF files, and they aren't published.) Here, transformers loaded the GGUF files for the evaluation; llama.cpp itself was not run.

# %% tags=["portfolio"]
for folder, findings in handed.findings.items():
    print(folder, [f"{finding.code}: {finding.fix}" for finding in findings] or "nothing found")
print(*handed.notes, "", *handed.commands, sep="\n")

# %% [markdown]
# ## 4. The portfolio
#
# One call writes the whole folder, `runs/<profile>/portfolio`. In a terminal, `make portfolio` does the same.

# %% tags=["portfolio"]
from postlab.portfolio import make_portfolio

place = lab.folder.parent / "portfolio"
portfolio = make_portfolio(lab.profile, to=place)
print(portfolio)
sorted(path.name + "/" * path.is_dir() for path in place.iterdir() if path.name[0] != ".")

# %% [markdown]
# - `drafts/` contains the files you edit: a README, a post per project, a page on one area in depth, eight slides, and a comparison of how much each stage changed per minute, row and token. In a draft, every number is a *placeholder* such as `{{dpo.honesty.change}}`, and the documents next to the folder are rendered from the drafts. Once you have edited a draft, it is never overwritten.
# - `index.html` and the other pages make up the site. `.github/workflows/pages.yml` publishes the site on GitHub Pages when you push the folder to its own repository.
# - `models/` and `datasets/` contain one folder per repository, each with its card. They include the exports from section 3 that passed: a format is published only if its re-evaluation is *equivalent* and no fault would stop a server from serving it. `space/` is a blind side-by-side comparison in which visitors to the Hub can vote.
#
# The results section of a draft post begins like this:

# %% tags=["portfolio"]
draft = (place / "drafts" / ("sft.md" if separate else "dpo.md")).read_text(encoding="utf-8")
print(draft[draft.index("## Result") :][:900])

# %% [markdown]
# The next cell shows the model card of the stage you chose. Its results, recipe, costs and caveats come from the run folder. If a run didn't record something, such as which rows curation dropped, the card says so.

# %% tags=["portfolio"]
card = portfolio.cards.get(f"models/{lab.profile.name}-{chosen}") or next(
    iter(portfolio.cards.values())
)
text = str(card)
print(text[text.index("# ") :][:1500])

# %% [markdown]
# ### Build 12.2 · about two hours · the part only you can write
#
# Each post has four holes, marked `TODO(you)`: your hypothesis before the run, what surprised you, what you decided, and what you would run next. `depth.md` has four holes too, and `comparison.md` and `deck.md` have one each. Open `drafts/dpo.md` in a text editor and fill them in. Interviewers will read these paragraphs most closely, because everything else can be generated.
#
# There are two rules. First, write results and settings as placeholders, such as `{{dpo.honesty.change}}` or `{{dpo.args.beta}}`. Second, state each result no more strongly than the evidence for it allows. Numbers that you predicted or planned don't need a run: 'I expected a gain of 20 points' passes.
# After the next cell, `known.names()` lists every placeholder. One of them, `{{dpo.honesty.sentence}}`, writes a whole sentence for you:

# %% tags=["portfolio"]
from postlab.portfolio import evidence, render

known = evidence(lab.profile.name)
stage = known.stages[-1] if separate else "dpo"
settled = [claim for claim in known.of(stage) if claim.verdict == "better"] or known.of(stage)
metric = max(settled, key=lambda claim: claim.change).metric
render(
    f"I expected the preference pairs to matter. {{{{{stage}.{metric}.sentence}}}}. It took {{{{{stage}.train_minutes}}}}.",
    known,
)

# %% [markdown]
# ## 5. The audit
#
# What would a careful reader catch? `audit` reads every draft and every rendered file and looks for numbers that aren't linked to a run, comparisons that the claims don't support, stale figures, unfilled holes, secrets, e-mail addresses, local paths, dead links, and images without a description.
#
# **Predict first.** Which of these four sentences does the audit accept?

# %% tags=["portfolio"]
from postlab.portfolio import check_draft

tries = [
    "DPO raised honesty by 61 points.",
    f"{{{{{stage}.{metric}.sentence}}}}.",
    "No metric got worse.",
    "I expected a larger effect, and I would rerun it with more prompts.",
]
for line in tries:
    problems = check_draft("try", line, known)
    print("accepted" if not problems else problems[0].code, "·", line)

# %% [markdown]
# The first sentence may well be true, but its number isn't linked to a run, so the number would stay the same even if the next run gave a different result. The third sentence is a common overclaim: an inconclusive change isn't proof that nothing changed.
#
# The next cell shows what is left to do in your portfolio. After you have
# edited a draft, run the cell with `make_portfolio` again (or `make portfolio` in a terminal) and then this one:

# %% tags=["portfolio"]
from collections import Counter

print(*portfolio.problems[:6], "..." if len(portfolio.problems) > 6 else "", sep="\n")
Counter(problem.code for problem in portfolio.problems)

# %% [markdown]
# An audit that only looks at words has limits, and we measured them. Before reading the audit's rules, we wrote two kinds of sentences: overclaims and faultless ones. How many of each does the audit flag?

# %% tags=["portfolio"]
from postlab.course.week12 import audit_rates

audit_rates().round(2)

# %% [markdown]
# At first the rules caught 11 of the first 50 overclaims. We then extended them to cover more kinds of statement, such as "the model knows when to refuse" or "users will prefer it". The rules now catch all 50, but that proves little, because we extended them using these very sentences. Only the fresh set is a fair test. Of its 30 overclaims, the audit catches 13, up from 5 before the extension. The other 17 still get through, and most of them are short and confident, such as "No regressions." or "Jailbreaks bounce off." False alarms are rare: there is one in each set of faultless sentences. All the sentences
# come from one author, so the audit may do better or worse on yours. Treat a clean audit like a spell-checker that flags nothing: it catches some mistakes, but its silence doesn't mean there are none. The audit also can't tell whether what you write about your reasons is true.
#
# ## 6. Publish
#
# By default, `publish` is a dry run: it lists repositories, files, sizes and hashes, and sends nothing. Repositories are private unless you say otherwise. A real upload needs a token with write access, a clean audit, and the `confirm` text from the plan. That text changes whenever a file changes, so you can only upload the plan that you reviewed.

# %% tags=["portfolio"]
from postlab.portfolio import publish

plan = publish(place, profile=lab.profile.name, expected=portfolio.texts)
print(*str(plan).splitlines()[:9], "...", "", sep="\n")
print(*(f"{repo.id}: {len(repo.files)} files" for repo in plan.repositories), "", sep="\n")
for what, why in plan.left_out:
    if "export" in what:
        print(f"Left out: {what}. Reason: {why}")
print(*plan.notes, sep="\n")

# %% [markdown]
# When the audit is clean, the following code uploads the adapters, the exports that passed, the rows and the Space. If the connection breaks, run the code again, and the upload picks up where it left off. The site doesn't go to the Hub: push the folder to your own GitHub repository.
#
# ```python
# plan = publish(place, profile=lab.profile.name, expected=portfolio.texts, namespace="your-name", token=True)
# plan = publish(place, profile=lab.profile.name, expected=portfolio.texts, namespace="your-name", token=True,
#                dry_run=False, confirm=plan.confirm)
# ```
#
# After an upload, `published.json` contains the addresses and a hash of every file. If you edit a document later, the checklist no longer counts the portfolio as published until you publish it again.
#
# The upload has been tested against a local server that speaks the Hub's protocol, not against the Hub itself.
#
# ## 7. Is it complete?
#
# The course asks for an SFT project with curated data, a DPO and a GRPO project, a comparison with numbers, cards, hosted models, and posts. The checklist computes each item from your files:

# %% tags=["portfolio"]
from pathlib import Path

from postlab.portfolio import checklist, checklist_table, write_record

notebooks = Path.cwd() if list(Path.cwd().glob("week*.ipynb")) else None
checklist_table(checklist(portfolio, known, notebooks=notebooks))

# %% [markdown]
# `completion.json` records what was run, solved and written, with a SHA-256 for every run and file. Anyone who has your folder can compare it with the record offline: `python -m postlab.portfolio verify completion.json`. This check shows whether anything was changed afterwards, but not who did the work.

# %% tags=["portfolio"]
from postlab.portfolio import verify_record

record = write_record(portfolio, known, notebooks=notebooks)
record.name, verify_record(record, known=known)

# %% [markdown]
# `lab.report()` writes the comparison as a single page that covers every seed you have run. One seed tells you what happened once; several seeds tell you whether the result repeats. `make stages SEED=1` adds another seed.

# %%
report = lab.report()
report.name

# %% [markdown]
# ## 8. Deeper: the mock interview
#
# The question bank covers derivations, coding, log debugging, system design, research taste, papers, safety, and behavioral questions. Each question has a rubric of four to six points, follow-ups, red flags, and the week that teaches it. Answer aloud or in writing *before* you open the rubric, then tick the points
# that you actually made. Your grades stay on this machine. Questions that you missed come back sooner, and `gaps()` names the weeks to reread.
#
# The hardest questions are about your own runs:

# %%
from postlab.course.interview import evidence_questions, interview

own = evidence_questions(lab.profile.name)
for question in own[:4]:
    print("·", question.question.strip(), "\n")

# %%
interview(n=5, evidence=own, seed=lab.seed)

# %% [markdown]
# To select questions, pass `topic="systems"`, `kind="derive"` or `week=4` to `interview`. In a coding question, you submit a function with `session.submit(my_function)`, and the exercise's own check grades it.
#
# ## 9. Deeper: one area in depth
#
# The roadmap ends with the advice to pick one area and go deep. A project is deep, rather than just long, if you fix its question before you know the result. `notebooks/extras/capstone` is a template: you register a question, a prediction, the smallest effect that would matter, the arms, the seeds, the budget and a stopping rule, all with a hash and a date. Then you run the experiment, and the verdict is computed from what you registered beforehand. You'll find three worked proposals in `data/examples/capstones/`.
#
# ## 10. Deeper: what the roadmap costs, and which jobs ask for it
#
# The roadmap says that three projects cost less than $500. The table estimates the cost of each project with the profiles' own settings, in hours and in dollars. The last column says which month the prices are from. For the T4 and the H100, `hours` is the training time planned by the profile (also shown in the setup cells) plus the evaluation time. The ranges, and the A100's hours, come from `preflight`. All the figures are computed from published speeds, and none of them has been measured:

# %%
from postlab.course.capstone import bill

costs = bill().set_index(["device", "project"])
costs[
    ["hours", "hours_low", "hours_high", "dollars", "dollars_low", "dollars_high", "prices_of"]
].round(1)

# %% [markdown]
# One pass through the three projects stays far below $500, even at the slow end. In practice, most of a budget goes to failed runs, sweeps, and repeats with a second and third seed.
#
# ### Roles, and what each one asks for
#
# Job titles overlap: the same work is called research engineer in one place and applied scientist in another. So read the duties, not the title. The table summarizes in our own words what job postings ask for, and it says which weeks prepare you for each role. The last column is our own judgment.
#
# | role | what they do, according to the postings | weeks |
# |---|---|---|
# | Research engineer | Owns a question from hypothesis to training run to result; builds environments as controlled experiments; uses ablations, controls and confidence intervals [1]. Builds infrastructure for RL, in which rollout, inference and training run in a loop, from one GPU to many nodes [2] | 7, 8 (GRPO and its ablations), 6 (statistics), the capstone |
# | Post-training or applied scientist | Runs SFT, preference optimization and RL; designs rewards and verifiers; curates instruction and preference data; LoRA and QLoRA, distributed training, serving [3]. Reward models, graders with rubrics, and the detection of reward hacking [4] | 2, 3, 4, 5, 7, 8, 10 |
# | Alignment or safety researcher | Trains and evaluates models for intent, calibration and honest reports of their limits, mostly with RL [5]. Prototypes safeguards and the evaluations that show whether they work, without over-refusal [6]. Evaluates safeguards for governments and writes guidance that others can act on [7] | 6, 9, 11; week 5 for over-refusal |
# | Evaluation engineer | Builds evaluations of dangerous or useful capabilities, with hands-on ML experience [8]. Defines what good behavior is, writes evaluations and data guidelines, fixes edge cases [9]. Treats the method itself as the research: preferences, reward models, calibration, validity [10] | 6, 10, 12; the `everyday` suite as an example |
# | ML engineer for inference | Optimizes serving across schedulers, kernels, memory and caches; speculative decoding, FP8 and INT4; benchmarks latency and throughput [11]. Kernels, low-latency sampling, low-precision inference, and quantitative models of performance [12] | 2 (4-bit weights, memory arithmetic), 12 (export, re-evaluation, serving). This course doesn't teach kernels, so you'd have to learn them elsewhere |
#
# **What interviews ask.** There is less information about interviews, and most of it isn't official.
#
# - There is no standard format. According to a report on a guide written by people from the Astra Fellowship and Constellation, AI safety interviews differ between organizations, and even between teams within a single lab [18]. Ask the recruiter what the rounds will be.
# - From the postings themselves: for its reward-model role, Anthropic says that all interviews are conducted in Python [4].
# - From someone who hired: a researcher at Apollo Research, writing in a personal capacity, advises you to do the work that you want to be hired for and to put it where people can see it, because public work counts for more than drilling puzzles [13]. That is the argument for a portfolio.
# - A public take-home test: Anthropic's performance team published an old take-home, in which you make a kernel run faster on a simulated machine. Online discussions mention two hours for the task, and tests that come with the starting code [14].
# - From candidates: one reported question asks you to explain the pipeline from SFT to preference optimization and safety, how you would evaluate a model beyond the loss, and the trade-offs [15]. A third-party guide lists reward hacking, the KL penalty, PPO's clipping, DPO versus PPO, and Constitutional AI [16]. Another describes writing a Transformer component and debugging broken training code [17]. We couldn't verify these reports.
#
# The mock interview in section 8 covers these topics. Your answers carry the most weight when they come from your own runs: only your run folders can answer 'what did you measure, and what didn't work?'.
#
# **Sources**, all read on 2026-11-30 *as stored copies*. Postings change and close, so look for the current version. Only [7], [8] and [13] are the organization's or author's own pages; the other postings are copies or summaries on job boards and may be shortened. We didn't have access to the large labs' own career pages, so this is a sample rather than a survey, and it says nothing about pay or about how many such jobs there are.
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
#
# ## What this week doesn't show
#
# On `tiny` every result is *mechanism, not capability*: a model with 1.4 million parameters in a made-up world shows how imitation copies habits, how preferences
# change behavior, and how a verifier changes a strategy. It says nothing about how much a 7B model would gain.
#
# On the other profiles there is no oracle. Programs score the answers
# to the `everyday` prompts (and to GSM8K, on `t4` and `rented`). They check whether an answer refuses, admits ignorance, names the right thing or follows an instruction. These programs are sometimes wrong, and they can't tell
# whether an answer is actually helpful. `data/suites/everyday/README.md` says how often a second reader, itself a language model, agreed with them, and what else the suite doesn't measure. Nothing here has been run on a GPU yet.
