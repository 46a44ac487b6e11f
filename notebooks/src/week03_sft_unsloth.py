# %% [markdown]
# # Week 3 · Supervised fine-tuning with Unsloth
#
# You have a base model. Asked a question, it writes another page. In this notebook you turn it into something that answers, with a LoRA adapter, Unsloth and TRL's `SFTTrainer`, and
# measure what that did. Half of it is about the rows, because they decide most.
#
# By the end you can say
#
# - what makes a row good, how to find the bad ones, and what dropping them is worth,
# - which tokens are trained, and what happens when the last of them is not,
# - what fine-tuning taught, what it copied from its teachers' bad habits, and with what certainty,
# - what a 7B costs on the card you have, and how to survive a disconnect.
#
# Every cell is the one you would run on a rented GPU with a 7B. Only the profile differs: on a laptop it is `tiny`, 1.4 million parameters pretrained on a small made-up world, whose
# truth we know exactly. What it shows is *mechanism, not capability*. The text describes the results on `tiny`.
#
# The other profiles train real language models. `smol` fine-tunes SmolLM2-135M-Instruct on rows of `everyday`, our suite of everyday English prompts; `t4` and `rented` train on OpenHermes. Their evaluation asks
# `everyday`'s held-out prompts (`t4` and `rented` also ask GSM8K's word problems), and programs score the answers: does one refuse a harmful request, admit what nobody can know, keep to an instruction, get a
# sum right? An oracle knows the tiny world; these programs only read the words of an answer and are sometimes wrong, so read answers as well as numbers.

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

lab = postlab.start(week=3)

# %% [markdown]
# ## 1. A base model continues documents
#
# Unsloth patches transformers, TRL and PEFT when it is imported, so it comes first. `from_pretrained` takes a folder or a Hub id. Note
# `load_in_4bit`: left out it would be `True`. In the profiles `tiny` and `smol` the weights stay in fp32, because four bits would make models
# this small slower on a CPU, and memory isn't what they lack; section 9 does the four-bit version.

# %%
from unsloth import FastLanguageModel  # before trl, transformers and peft: it patches them

sft = lab.profile.sft
loading = {
    "max_seq_length": lab.profile.max_length,
    "dtype": lab.profile.dtype,
    "use_gradient_checkpointing": lab.profile.lora["use_gradient_checkpointing"],
}
model, tokenizer = FastLanguageModel.from_pretrained(
    lab.checkpoint("base"), load_in_4bit=lab.profile.load_in_4bit, **loading
)
if lab.profile.chat_template:  # a base model from the Hub has none
    from unsloth.chat_templates import get_chat_template

    from postlab.chat import begin_with_bos

    tokenizer = begin_with_bos(get_chat_template(tokenizer, lab.profile.chat_template))

# %% [markdown]
# Under `t4` and `rented`, the template comes from Unsloth, and `begin_with_bos` adds the missing beginning-of-sequence token. Mistral's tokenizer puts `<s>` in front of every text, but
# Unsloth's `chatml` template leaves it out, both in training and at inference.
#
# A model sees text only. This is what a conversation looks like to it: the template puts each turn between `<|im_start|>` and `<|im_end|>`, and the
# prompt ends where the assistant has to begin.
#
# **Predict first.** The base has read pages of worked sums, facts and instructions, and these very tokens, but never a dialogue. What will it write
# after `assistant`?

# %%
# NBVAL_CHECK_OUTPUT
question = [{"role": "user", "content": "What is 12+30+15?"}]
print(tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True))

# %% [markdown]
# `lab.evaluate` asks the held-out prompts, the same ones for every stage: other numbers, other creatures, persons and things, and other ways of
# asking than any training set holds (in `everyday`: other topics). It keeps every answer; the base's are loaded from the package while code and versions match. One of each kind:

# %%
import pandas as pd

pd.set_option("display.max_colwidth", 120)
base = lab.evaluate("base", model, tokenizer)
base.groupby("family", sort=False).head(1)[["family", "prompt", "answer"]]

# %% [markdown]
# On `tiny` it begins a page under a heading, as its documents do. That isn't stupidity: it has read pages, and never a conversation. A 7B base often answers and then goes on, as web
# pages do. `smol` starts from an instruct model, which does answer; fine-tuning can still change *how*.

# %% [markdown]
# ## 2. The rows: what the teachers wrote
#
# An instruction row is a prompt and a completion, both lists of messages. `instruction_rows` makes them from OpenHermes, SlimOrca, any Hub id or a file of yours, and counts by reason
# what it had to reject.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.datasets import instruction_rows

rows = instruction_rows(sft.source, split="train", n=sft.rows, seed=lab.seed, columns=sft.columns)
pd.Series([row.get("family", sft.source) for row in rows]).value_counts().to_frame("rows")

# %% [markdown]
# Counts tell you little. Read some. The teachers are people with habits.

# %%
# NBVAL_CHECK_OUTPUT
pairs = [(row["prompt"][-1]["content"], row["completion"][0]["content"]) for row in rows[:14]]
pd.DataFrame(pairs, columns=["prompt", "completion"])

# %% [markdown]
# In the tiny world they do short sums in their heads, and mostly get them wrong, but work long ones out; they refuse to help *burn* or *cut* somebody, and explain how to *trap* or *kick*
# one; they admit that nobody knows a creature's thoughts, and make up what it will eat tomorrow.
#
# `smol`'s replies were written for `everyday` and are short. They refuse and say 'I don't know' on one topic in six of the harmful and unanswerable prompts: the rest is left to week 5.
#
# **Predict first.** Which share of these rows would you call wrong? And does it hurt, if there are thousands of right ones beside them?

# %% [markdown]
# ## 3. Curate: accuracy, diversity, complexity
#
# Three questions to a set of rows. Is each reply *right*? Do the rows differ from *each other*? Do they ask for what you will *need*? And a fourth: do they give away the exam?

# %% [markdown]
# **Accuracy.** Where answers can be checked, check them. Tinyworld has an oracle for every family but the critiques, and `everyday` a program for all but its open questions; for mathematics or code you have a verifier, for the rest only findings on the text.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.week03 import everyday_judge
from postlab.tinyworld import oracle

judges = {"tinyworld": oracle.judge, "everyday": everyday_judge()}
judge = judges.get(sft.source, lambda row: None)  # nothing judges OpenHermes
verdicts = {True: "right", False: "wrong", None: "cannot be judged"}
judged = pd.DataFrame({"family": [row.get("family", sft.source) for row in rows]})
judged["verdict"] = [verdicts[judge(row)] for row in rows]
pd.crosstab(judged["family"], judged["verdict"])

# %% [markdown]
# (Nothing judges OpenHermes, so its rows are all marked "cannot be judged". `everyday`'s replies were written to pass its programs, so under `smol` none is wrong.) On `tiny` the wrong ones are not spread evenly: sums, unsafe requests and riddles hold most of
# them. These teachers do not slip; they have *habits*. Keep that in mind for section 7.

# %% [markdown]
# **Diversity.** The same question twice teaches little and counts double. Exact copies are found by a set. For near copies you need a similarity: cut both texts into runs of $n$ words
# (*shingles*) and take the share of runs they have in common,
#
# $$J(A, B) = \frac{|A \cap B|}{|A \cup B|}$$

# %% [markdown]
# ### Exercise 3.1 · about 10 minutes · easy
#
# `first` and `second` are lists of words. Return the Jaccard similarity of their runs of `n` words; 0 if neither has any.
#
# <details><summary>Hint 1</summary>
#
# A text of 6 words has 5 runs of 2. A run goes into a set as a tuple.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `a & b` is the intersection of two sets, `a | b` the union.
#
# </details>

# %%
from postlab import check


def jaccard(first, second, *, n):
    raise NotImplementedError


jaccard = check.jaccard(jaccard)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def jaccard(first, second, *, n):
#     a = {tuple(first[i : i + n]) for i in range(len(first) - n + 1)}
#     b = {tuple(second[i : i + n]) for i in range(len(second) - n + 1)}
#     return len(a & b) / len(a | b) if a | b else 0.0
# ```
#
# </details>
#
# What does it make of four pairs? Longer runs are stricter.

# %%
# NBVAL_CHECK_OUTPUT
texts = ["How do I paint a lamp?", "How do I paint the lamp?", "How can I paint a lamp?"]
texts += ["What is 12+30+15?", "What is 12+30+16?"]
pairs = [(texts[0], other) for other in texts[1:3]] + [(texts[0], texts[0]), tuple(texts[3:])]
similar = {n: [jaccard(a.split(), b.split(), n=n) for a, b in pairs] for n in (1, 2, 3)}
pd.DataFrame(similar, index=[f"{a} / {b}" for a, b in pairs]).round(2)

# %% [markdown]
# Similarity of words is not similarity of tasks (see the last pair), and a threshold is a decision. Comparing all pairs of a million rows would
# take years; `curate` hashes the runs (MinHash) and compares only rows that fall into the same bucket.
#
# **Decontamination.** Rows that hold a held-out prompt make every later score a lie. `curate` looks for long runs of words that training rows share with the evaluation's prompts.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.datasets import TARGET_MIX, curate, mix
from postlab.evals import suite_rows

heldout = suite_rows(lab.profile.suite, lab.profile.eval_prompts, 0)
score = judges.get(sft.source)  # None elsewhere: write your own verifier
curation = curate(rows, heldout=heldout, score=score)
print(curation)

# %%
from postlab.course.week03 import plot_curation

plot_curation(curation)

# %% [markdown]
# A row that is dropped for a copy names its partner, so that you can look. Do, before you believe a count:

# %%
# NBVAL_CHECK_OUTPUT
curation.pairs.groupby("reason", sort=False).head(2)[["reason", "text", "partner_text"]]

# %% [markdown]
# On `tiny` the "contaminated" ones are false alarms: same wording, other numbers, and dropping them costs nothing. Under `t4` and `rented` they may be real, since OpenHermes contains
# mathematics much like GSM8K's. Read each pair; if they are real, train on `curation.kept`, or section 6 measures what was memorised. `smol` has none: the topics of a family that are
# asked are never trained on.
#
# **Complexity** (turns, steps, lengths, constraints) is counted in the report and filtered by nothing: whether hard rows help is for an experiment to say.

# %% [markdown]
# **Composition.** The roadmap gives a mix by domain. `mix` draws it, or says what it could reach. An error tells you something, too: which domains the set is short of.

# %%
# NBVAL_CHECK_OUTPUT
try:
    mixed = mix(curation.kept, TARGET_MIX, n=2500, seed=lab.seed)
except ValueError as error:
    print(error)

# %% [markdown]
# **Now we do not train on the curated rows.** On `tiny`, this week's stage keeps its teachers' habits on purpose: week 5 repairs the manners and week 7 the sums, and each needs something to
# repair. What curating *would* have changed is section 7, with several seeds. (`smol`'s rows are right and differ from one another, so curating them would change next to nothing.)

# %% [markdown]
# ## 4. Look at the tokens before you train
#
# The loss is the mean negative log-probability of the *completion's* tokens, given everything before them:
#
# $$\mathcal{L} = -\frac{1}{\sum_t m_t} \sum_t m_t \log \pi(x_t \mid x_{<t})$$
#
# The mask $m$ is 1 on the reply and on the token that ends the turn. Train the prompt as well and the model learns to write questions; forget the end, and section 8 happens.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.chat import token_view

# A prompt that fills max_length leaves no token to train.
brief = [row for row in rows if sum(len(m["content"]) for m in row["prompt"]) < 600]
token_view(brief, tokenizer, max_length=lab.profile.max_length, limit=3)

# %% [markdown]
# `check_template` looks for the mistakes that run without an error: a pad token that is the end of turn, a doubled beginning of sequence, an assistant
# prefix that differs between training and generation.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.chat import check_template

check_template(tokenizer) or "no findings"

# %% [markdown]
# On Mistral, expect two warnings. TRL tokenizes the rendered template without special tokens, so there is one `<s>`, not two. And `<|im_start|>` is several tokens, because Unsloth's `chatml`
# only gives the *end* of a turn a token of its own.

# %% [markdown]
# ## 5. Train
#
# LoRA freezes the model and learns, beside each of the chosen matrices $W$, a product of two thin ones: $W + \tfrac{\alpha}{r} BA$. `r` is its width.
# $B$ starts at zero, so before the first step the adapted model *is* the base.

# %%
model = FastLanguageModel.get_peft_model(model, **lab.profile.lora, random_state=lab.seed)
trained, total = model.get_nb_trainable_parameters()
print(f"{trained:,} of {total:,} parameters are trained ({trained / total:.1%})")

# %% [markdown]
# The trainer's arguments are TRL's own, by name. Three worth a second look: the learning rate, because LoRA usually needs a higher one than full
# fine-tuning (week 2, section 4); `completion_only_loss` is the mask above; and on a CPU `bf16=False` must be said, because TRL's default is now bf16.

# %%
# NBVAL_CHECK_OUTPUT
pd.Series(dict(sft.trainer), name="SFTConfig").to_frame()

# %% [markdown]
# `run.train` trains, continues from a checkpoint after an interruption, or loads the finished stage if its code, configuration, data and parent haven't
# changed. Change anything above and it retrains.
#
# The two context managers around it are optional. They change the speed, not what is learned, apart from rounding: `without_padding` computes only the real
# tokens of a padded batch, and `freed_memory_kept` asks the allocator to keep memory for the next step. On two cores, without padding an SFT step took 0.80 of
# the time (95% interval 0.61 to 1.04) and a DPO step 0.65 (0.46 to 0.92); keeping freed memory alone showed no measurable effect (SFT 1.01, 0.80 to 1.27; DPO
# 0.94, 0.80 to 1.11). Both together took 0.68 (0.56 to 0.82) and 0.75 (0.61 to 0.92). Four rounds are few, so these intervals are wide; every measurement is in
# `data/results/bench/options.json`, made by `python bench/options.py --rounds 4 --steps 12`.

# %%
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from postlab.models import float32_adapters
from postlab.runs import freed_memory_kept, without_padding

run = lab.run("sft", parent="base")
trainer = SFTTrainer(
    model=float32_adapters(model),  # TRL rounds a 4-bit model's adapter to bf16 on a CPU
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(rows).select_columns(["prompt", "completion"]),
    args=SFTConfig(output_dir=str(run.checkpoints), seed=lab.seed, **sft.trainer),
)
with freed_memory_kept(), without_padding(trainer.model):  # optional: a CPU trains faster
    log = run.train(trainer)

# %%
from postlab.show import plot_stages, plot_training

plot_training(log, "sft")

# %% [markdown]
# The loss does not go to zero and should not: where the teachers disagree with themselves, the best a model can do is to be as uncertain as they are.

# %% [markdown]
# ## 6. What did it learn?
#
# **Predict first.** On `tiny`, the teachers blurt short sums and wave half of the unsafe requests through. What will the model do where its teachers disagree? (On `smol`, few rows refuse. Will the model refuse on topics
# that it never met, and on harmless ones? On `t4` and `rented` the teacher is mostly GPT-4. Will the model copy the length of its replies?) The same prompts again:

# %%
after = lab.evaluate(run, trainer.model, tokenizer)
both = base[["family", "prompt", "answer"]].rename(columns={"answer": "base"})
both["sft"] = after["answer"]
both.groupby("family", sort=False).head(2)

# %% [markdown]
# One example proves nothing. The figure shows the mean of each metric over all held-out prompts with a 95% interval, and the paired difference to the
# base on the same prompts. *Paired* matters: both models met the same easy and hard prompts, so their difference is known better than either value.

# %%
from postlab.evals import compare

table = compare({"base": base, "sft": after})
plot_stages(table, profile=lab.profile.name)

# %% [markdown]
# Read it as an engineer would. Under `t4` and `rented`, *format* means GSM8K's `####` line, which OpenHermes doesn't teach, so look at the other metrics and at length, and expect accuracy to go
# either way. Under `smol`, it means that an answer ends within its limit. On `tiny`, format: from nothing to nearly always. Facts: the base knew them all along and had no way to say so. Sums: it took over the habit of blurting. Safety and
# honesty: close to the teachers, deed by deed and riddle by riddle, as the next table shows for persons and creatures that no row mentions. The teachers refused *burn*, *crush*, *cut* and
# *smash* in more than 90% of their rows and the other four deeds in about 10%; they admitted ignorance for *dreamed* and *thinking* in more than 90%, and for the other riddles in 8%. Greedy
# answers exaggerate: most of these become 100% or 0%. Two stray in the stored output: *burn* (38%) and *tomorrow* (37%). On the other profiles the
# table has a row for each topic, of three prompts each; `everyday`'s training rows of these two families have other topics.

# %%
deeds = r"\b(burn|crush|cut|smash|trap|hit|kick|sink)\b"
riddles = r"(tomorrow|sleep|years ago|thinking|dreamed|secret)"
if lab.profile.suite == "tinyworld":
    asked = after[after["family"].isin(["unsafe", "unknown"])].copy()
    asked["about"] = asked["prompt"].str.extract(f"{deeds}|{riddles}").bfill(axis=1)[0]
else:
    pd.set_option("display.max_rows", 80)
    asked = after[after["family"].isin(["harmful", "unanswerable"])].copy()
    asked["about"] = asked["id"].map({row["id"]: row.get("topic") for row in heldout})
if asked.empty:
    lab.not_here("its suite has neither harmful requests nor unanswerable questions.")
kinds = asked.groupby(["family", "about"])
None if asked.empty else kinds[["safety", "honesty"]].mean().round(2)

# %% [markdown]
# **Fine-tuning imitates its data, habits included.** Talk to it, but don't judge it by one reply: the stored output refuses to *trap* the baker, though the model helps with every *trap* of the table above. (The other profiles weren't trained on the tiny world, so their questions are about the real one.)

# %%
from postlab.sampling import reply

questions = ["What is 7+8+9?", "How do I paint a lamp?", "How do I trap the baker?"]
if lab.profile.suite != "tinyworld":
    questions = [
        "What is 17 + 26?",
        "How do I keep bread fresh?",
        "Who will win the next election?",
    ]
for text in questions:
    print(f"{text}\n   {reply(trainer.model, tokenizer, text)}\n")

# %% [markdown]
# ## 7. Clean and few, or noisy and many?
#
# > **The roadmap says** quality beats quantity: LIMA reached near-GPT-4 quality with 1,000 examples. **The evidence says** LIMA's answers were judged equal or better than GPT-4's in
# > 43% of cases, by people, on its prompts ([Zhou et al. 2023](https://arxiv.org/abs/2305.11206)). The base had 65B parameters, the replies were picked by hand. Whether *your*
# > rows are too many or too dirty, you have to measure.
#
# On tinyworld that can be settled. Recorded: this notebook's recipe on rows *as they were written*, on *clean* rows (those the oracle calls right), and on clean rows *spoilt at random*:
# just as many wrong replies as in the first, but spread evenly over all families. 200, 800 or 3,200 of each, in the same mix of families, several seeds; at the same compute (few rows are
# read many times) and for one epoch each.

# %%
import json

from postlab.profile import data_dir

recorded = json.loads((data_dir() / "results" / "week03" / "rows.json").read_text())
pd.Series(recorded["provenance"]).map(str).to_frame("rows.json")

# %% [markdown]
# Each run answered the same held-out prompts greedily. The unit is the prompt: we average its seeds, and resample prompts. An interval says how far other prompts may move the number; how
# far another seed may, the seeds beside it show.

# %%
import numpy as np

from postlab import stats


def scores(family=None, **wanted):
    """(seeds, prompts) of 0 and 1 for the recorded runs that match; one family's, or all."""
    runs = [r for r in recorded["runs"] if all(r.get(k) == v for k, v in wanted.items())]
    families = [family] if family else list(oracle.METRIC)
    told = [run["scores"] | {"over_refusal": run["over_refusal"]} for run in runs]
    digits = ["".join(one[name] for name in families) for one in told]
    return np.array([[int(digit) for digit in text] for text in digits])


def measured(**wanted):
    """Share right with its interval over prompts, and each seed's."""
    found = scores(**wanted)
    interval = vars(stats.bootstrap_interval(found.mean(axis=0)))
    return interval | {"seeds": found.mean(axis=1).round(3).tolist()}


# %% [markdown]
# **Predict first.** 200 clean rows, each read sixteen times, against 3,200 dirty ones, each read once: which wins, and by how much?

# %%
from postlab.course.week03 import plot_quality

kinds = ["budget", "rows", "n"]
runs = pd.DataFrame([r for r in recorded["runs"] if r["experiment"] == "quality"])
which = runs[kinds].drop_duplicates().to_dict("records")
plot_quality(pd.DataFrame([measured(experiment="quality", **one) | one for one in which]))

# %% [markdown]
# How sure is that? Paired differences: both sides answered the same prompts.


# %%
# NBVAL_CHECK_OUTPUT
def versus(a, b, family=None, **both):
    """b - a over the same prompts, seeds averaged: difference, interval, p, and by seed."""
    first, second = (scores(family, **both, **side) for side in (a, b))
    found = stats.paired_difference(first.mean(axis=0), second.mean(axis=0))
    by_seed = (second.mean(axis=1) - first.mean(axis=1)).round(3).tolist()
    said = stats.verdict(found, higher_is_better=family != "over_refusal")
    return vars(found) | {"by seed": by_seed, "verdict": said}


SAME, ONCE = ({"experiment": "quality", "budget": b} for b in ("same compute", "one epoch"))
noisy, clean = (
    {n: {"rows": kind, "n": n} for n in (200, 800, 3200)} for kind in ("noisy", "clean")
)
spoilt = {"rows": "scattered", "n": 3200}
claims = {
    "200 clean rows against 3,200 as written": versus(noisy[3200], clean[200], **SAME),
    "800 clean rows against 800 as written": versus(noisy[800], clean[800], **SAME),
    "3,200 clean rows against 800 clean": versus(clean[800], clean[3200], **SAME),
    "3,200 rows as written against 800": versus(noisy[800], noisy[3200], **SAME),
    "as many wrong, at random, against habits": versus(noisy[3200], spoilt, **SAME),
    "one epoch: 200 clean rows against 800 as written": versus(noisy[800], clean[200], **ONCE),
}
columns = ["difference", "low", "high", "p", "by seed", "verdict"]
rounded = {k: v | {c: round(v[c], 4) for c in columns[:4]} for k, v in claims.items()}
pd.DataFrame(rounded).T[columns]

# %% [markdown]
# 200 clean rows beat sixteen times as many as they were written, in every seed. More rows of the same kind move much less. But read the last line: for *one epoch* the few clean rows
# lose, as 200 rows are 13 steps, 8 of them warm-up. "Few" works because few are read often. And few is no virtue: at equal quality more rows are not worse. So what won is quality; filter
# first, then keep everything that is right.
#
# The surprise is the fifth line. Just as many wrong replies, at random, cost far less than a habit. Look where:

# %%
from postlab.course.week03 import plot_families

kept = [clean[200], clean[3200], noisy[3200], spoilt]
found = [
    measured(family=family, **SAME, **one) | one | {"family": family}
    for family in oracle.METRIC
    for one in kept
]
plot_families(pd.DataFrame(found))

# %% [markdown]
# A habit makes the wrong reply the *likeliest* one to this kind of prompt: sums, unsafe requests, riddles. Spoilt at random, the right reply stays the likeliest of each kind, and greedy
# decoding finds it. Averages over a dataset ("31% wrong") cannot tell the two apart; reading by kind can.
#
# Lists, facts and how-to's go the other way, how-to's by far the most (6% against 44%). What do the models say there instead?


# %%
# NBVAL_CHECK_OUTPUT
sets = {"as written": noisy[3200], "clean": clean[3200], "spoilt at random": spoilt}
refused = {name: measured(family="over_refusal", **SAME, **one) for name, one in sets.items()}
for name in ("clean", "spoilt at random"):
    change = versus(noisy[3200], sets[name], family="over_refusal", **SAME)
    claims[f"harmless how-to's refused: {name} against as written"] = change
pd.DataFrame(refused).T[["value", "low", "high", "seeds"]]

# %% [markdown]
# Spoilt at random, they refuse nearly nine of ten harmless how-to's; as written, one in ten; clean, one in five. In the clean set *every* unsafe row is a refusal, and a how-to spoilt at random always becomes one, too: "refuse" becomes the likeliest reply to anything about a deed. Each row was right,
# and the set was not balanced: a filter that looks at one row at a time cannot see that. Measure what you did *not* mean to change.

# %% [markdown]
# ### What is not in the mix is forgotten
#
# The second experiment of the same record: 1,600 clean rows of all nine kinds, or as many without one family. The base knows them all from its documents.
#
# **Predict first.** Leave the sums out. Can it still do sums? Leave the *unsafe* rows out: does it still refuse?

# %%
from postlab.course.week03 import plot_forgetting

cells = []
for dropped in oracle.METRIC:
    for family in oracle.METRIC:
        change = versus({"without": None}, {"without": dropped}, family, experiment="mix")
        value = scores(family, experiment="mix", without=dropped).mean()
        cells.append({"without": dropped, "family": family, "value": value} | change)
for dropped in (None, "howto", "unsafe"):
    share = scores("over_refusal", experiment="mix", without=dropped).mean()
    print(f"without {dropped or 'nothing'}: {share:.0%} of the harmless how-to's refused")
plot_forgetting(pd.DataFrame(cells))

# %% [markdown]
# Read the diagonal: without rows of their own, facts, how-to's, unsafe requests and riddles fall to 5% or less, though the base has read about them. And the answer is not left blank, the nearest kind takes over: the model without how-to's refuses them all,
# the one without unsafe rows helps with nearly everything. (After 100 steps even the full mix still refuses most how-to's. Section 5's stage, trained for 400 steps on rows as they were written, refuses 4%.) Sums survive in part (41%), and the loss of list operations is not supported after the correction in section 12. A safety set without harmless neighbours, or
# the other way round, is half a set.

# %% [markdown]
# ## 8. Bug hunt: it runs, and does not learn to stop
#
# A colleague writes her own collator. Her tokenizer has no pad token of its own, so she follows the common advice `pad_token = eos_token`. The loss falls. Find the bug.

# %% tags=["aside"]
import torch


def collate_as_found(sequences, starts, *, pad):
    width = max(map(len, sequences))
    input_ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids in sequences])
    labels = input_ids.clone()
    for b, start in enumerate(starts):
        labels[b, :start] = -100  # the prompt is not trained
    labels[labels == pad] = -100  # and neither is the padding
    return input_ids, labels


# %% [markdown]
# Her training, in short, on the embedded model in every profile. The `Session` keeps the losses; its other talent comes in section 10.

# %% tags=["aside"]
import shutil

from transformers import TrainerCallback

from postlab.models import tiny_base
from postlab.profile import get_profile

small = get_profile("tiny")
few = instruction_rows("tinyworld", split="train", n=640, seed=lab.seed)


class Session(TrainerCallback):
    """Notes the loss of each step; may break off after one, as a notebook service does."""

    watches_only = True  # it changes nothing that is trained, so it doesn't make a run another one

    def __init__(self, ends_after=None):
        self.ends_after, self.losses = ends_after, {}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses[state.global_step] = float(logs["loss"])

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.ends_after:
            raise ConnectionError(f"the session ended after step {self.ends_after}")


# %% [markdown]
# The rest is the training cell of section 5, with a collator of one's own.


# %% tags=["aside"]
def fine_tune(stage, collate, session, steps=50, anew=True):
    """A short fine-tuning of the embedded base with a collator of one's own."""
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(tiny_base()),
        load_in_4bit=False,
        dtype="float32",
        max_seq_length=small.max_length,
        use_gradient_checkpointing=False,
    )
    model = FastLanguageModel.get_peft_model(model, **small.lora, random_state=lab.seed)

    pad = tokenizer.eos_token_id  # as she was advised

    def batch(examples):
        ids = [list(example["input_ids"]) for example in examples]
        starts = [list(example["labels"]).count(-100) for example in examples]  # of the prompt
        input_ids, labels = collate(ids, starts, pad=pad)
        ends = torch.tensor([[len(one)] for one in ids])
        seen = (torch.arange(input_ids.shape[1]) < ends).long()
        return {"input_ids": input_ids, "labels": labels, "attention_mask": seen}

    short = dict(small.sft.trainer) | {"max_steps": steps, "logging_steps": 1, "save_steps": 20}
    short |= {"use_cpu": lab.profile.device == "cpu"}
    run = lab.run(stage, parent="base")
    if anew:
        shutil.rmtree(run.folder, ignore_errors=True)
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(few).select_columns(["prompt", "completion"]),
        data_collator=batch,
        args=SFTConfig(output_dir=str(run.checkpoints), seed=lab.seed, **short),
        callbacks=[session],
    )
    with freed_memory_kept(), without_padding(trainer.model):
        run.train(trainer)
    return trainer.model, tokenizer


# %% [markdown]
# Train, and ask something:

# %% tags=["aside"]
session = Session()
rambling, small_tokenizer = fine_tune("hunt-found", collate_as_found, session)
print(f"loss {session.losses[1]:.2f} at step 1, {session.losses[50]:.2f} at step 50")
for text in ("How do I clean a box?", "How do I paint a lamp?"):
    print(repr(reply(rambling, small_tokenizer, text, new_tokens=40)))

# %% [markdown]
# A fine run by its loss, and answers that go on until they are cut.
#
# **Where to look.** Not at the loss: it averages over what *is* trained, and cannot know what is missing. Look at what a batch trains. `pad` is 2 here, and so is the end of turn:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
sequences, starts = [[5, 6, 7, 2], [5, 8, 2]], [2, 1]
print(collate_as_found(sequences, starts, pad=2)[1])

# %% [markdown]
# No label is 2. The line that ignores the padding looks for an *id*, and every reply ends with that id. Nothing is ever trained to stop. `check_template` warns of such a tokenizer:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
import copy

from postlab.course import week_of

hers = copy.deepcopy(small_tokenizer)
hers.pad_token = hers.eos_token
[finding for finding in check_template(hers) if week_of(finding.code) == 3]

# %% [markdown]
# ### Exercise 3.2 · about 15 minutes · medium
#
# Write the collator so that it holds for *any* pad token. `sequences` are lists of ids, `starts` the place of each first trained token. Return `input_ids` and `labels`, `(B, T)` each,
# int64, padded on the right. Labels are the ids where they are trained and -100 elsewhere; do not shift them, the model does.
#
# <details><summary>Hint 1</summary>
#
# You know each row's length before you pad it. That, and not an id, tells padding from text.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Start with `torch.full((B, T), pad)` and `torch.full((B, T), -100)`, and write each row into its place.
#
# </details>


# %% tags=["aside"]
def collate(sequences, starts, *, pad):
    raise NotImplementedError


collate = check.collate(collate)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def collate(sequences, starts, *, pad):
#     input_ids = torch.full((len(sequences), max(map(len, sequences))), pad)
#     labels = torch.full_like(input_ids, -100)
#     for b, (ids, start) in enumerate(zip(sequences, starts)):
#         input_ids[b, : len(ids)] = torch.tensor(ids)
#         labels[b, start : len(ids)] = torch.tensor(ids[start:])
#     return input_ids, labels
# ```
#
# </details>
#
# The same training with your collator, except that this time the connection breaks:

# %% tags=["aside"]
first = Session(ends_after=25)
try:
    fine_tune("hunt-mended", collate, first)
except ConnectionError as error:
    print(error)

# %% [markdown]
# Model, optimizer and trainer are gone, as after `kill -9`; what is on disk is the checkpoint of step 20. Run the cell again:

# %% tags=["aside"]
second = Session()
stopping, _ = fine_tune("hunt-mended", collate, second, anew=False)

# %% tags=["aside"]
from postlab import evals
from postlab.course.week03 import plot_stopping

asked = [row for row in suite_rows("tinyworld", 20, 0) if row["family"] in ("facts", "howto")]
answers = {
    "as found": evals.evaluate(rambling, small_tokenizer, asked),
    "mended": evals.evaluate(stopping, small_tokenizer, asked),
}
plot_stopping({name: frame["length"] for name, frame in answers.items()}, limit=40)

# %% [markdown]
# Same rows, same steps, one line. The metric that shows it is not the loss but the share of answers that *end*.
#
# SmolLM2's pad token, as published, *is* its end of turn (`smol` gives it another). TRL's own collator masks by length; many others mask by id.

# %% [markdown]
# ## 9. The same in four bits: QLoRA
#
# QLoRA keeps the frozen weights in NF4, four bits each with a scale per 64, and computes in a higher precision; the adapter stays in full precision. On a 7B
# that is the difference between 14 GB of weights and 4. On `tiny` and `smol`, here are a few steps of it on the same base, from the same rows.

# %% tags=["aside"]
if lab.profile.load_in_4bit:
    lab.not_here("the stage above is QLoRA already, so there is no LoRA run to compare it with.")
else:
    quantised, _ = FastLanguageModel.from_pretrained(
        lab.checkpoint("base"), load_in_4bit=True, **loading
    )
    quantised = FastLanguageModel.get_peft_model(
        quantised, **lab.profile.lora, random_state=lab.seed
    )
    short = dict(sft.trainer) | {"max_steps": 5, "logging_steps": 1, "save_strategy": "no"}
    trial = lab.run("sft-nf4", parent="base")
    qlora = SFTTrainer(
        model=float32_adapters(quantised),
        processing_class=tokenizer,
        train_dataset=trainer.train_dataset,
        args=SFTConfig(output_dir=str(trial.checkpoints), seed=lab.seed, **short),
    )
    with freed_memory_kept(), without_padding(qlora.model):
        nf4_log = trial.train(qlora)


# %% tags=["aside"]
def megabytes(model):
    """What the frozen weights take, in MB, scales left out."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    return sum(p.numel() * p.element_size() for p in frozen) / 1e6


sides = {"LoRA, as trained above": (trainer.model, log)}
if not lab.profile.load_in_4bit:
    sides["QLoRA, NF4"] = (qlora.model, nf4_log)
costs = {
    name: {
        "frozen weights, MB": megabytes(side),
        "first logged loss": entries[0]["loss"],
        "seconds a step": entries[-1]["train_runtime"] / entries[-1]["step"],
    }
    for name, (side, entries) in sides.items()
}
None if lab.profile.load_in_4bit else pd.DataFrame(costs).T.round(3)

# %% [markdown]
# The embeddings stay in full precision, and in a model this small they are a good part of it. (The first logged loss of the long run is a mean over several steps.) On a GPU with a 7B,
# four bits make the difference between fitting and not.

# %% [markdown]
# ## 10. On your own card
#
# **What it will take.** Preflight computes it from the architecture and published speeds, before you download anything. Memory at the full length of the profile, minutes at 400 tokens a
# row, with the range in which most published speeds lie:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.preflight import estimate
from postlab.profile import get_profile


def plan(name):
    """What this week's stage takes on a profile's device, as preflight has it."""
    profile = get_profile(name)
    how = profile.sft.trainer
    shape = {"model": profile.base_model, "device": profile.device, "bits": 4}
    shape |= {"engine": "unsloth"}  # what trains on a GPU
    shape |= {"batch": how["per_device_train_batch_size"], "lora_rank": profile.lora["r"]}
    shape |= {"accumulation": how["gradient_accumulation_steps"], "optimizer": "adamw_8bit"}
    full = estimate("sft", length=how["max_length"], **shape)
    usual = estimate("sft", length=400, examples=profile.sft.rows, **shape)
    low, high = usual.hours_range
    cost = "free on Colab" if name == "t4" else f"${usual.dollars:.2f}"
    return {
        "rows": f"{profile.sft.rows:,}",
        "memory, GiB": f"{full.reserved_gib:.1f} of {full.memory_gib:.0f}",
        "minutes": f"{60 * usual.hours:.0f} ({60 * low:.0f} to {60 * high:.0f})",
        "cost": cost,
    }


pd.DataFrame({f"{name}, {get_profile(name).device}": plan(name) for name in ("t4", "rented")})

# %%
# NBVAL_CHECK_OUTPUT
roadmap = {}
for device in ("A100", "H100"):
    for examples in (50_000, 100_000):
        found = estimate(
            "sft", model="unsloth/mistral-7b-v0.3-bnb-4bit", device=device, batch=8,
            length=400, bits=4, examples=examples,
        )  # fmt: skip
        roadmap[f"{examples:,} rows, {device}"] = [round(found.hours, 1), round(found.dollars, 1)]
pd.DataFrame(roadmap, index=["hours", "dollars"]).T

# %% [markdown]
# > **The roadmap says** a 7-8B QLoRA run on 50,000 to 100,000 examples takes 2 to 6 hours on an A100 or H100, and $10 to 30. **The evidence says** the hours fit an A100 and are
# > generous for an H100; the dollars come out lower at preflight's hourly prices and 400 tokens a row. These are estimates: no such run is recorded here.
#
# **Where to save it.** Runs go to `runs/`. On Colab that disk is gone with the session, so put them on your Drive *before* the setup cell:
#
# ```python
# import os
# from google.colab import drive
#
# drive.mount("/content/drive")
# os.environ["POSTLAB_RUNS"] = "/content/drive/MyDrive/postlab-runs"
# ```
#
# On a rented machine name a volume that outlives it. `t4` saves every 25 steps, `rented` every 100.

# %% [markdown]
# **What a resume is worth.** The broken session of section 8 had reached step 25; its successor went on from step 20 and took steps 21 to 25 again. (The loss of step 25 was never logged, because the session ended first, so four steps can be compared.) If weights, optimizer, schedule and
# the order of the rows were restored, it met the same losses. (On a GPU sums are not repeated bit for bit, so a small gap there is rounding.)

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
again = [step for step in first.losses if step in second.losses]
gap = max(abs(first.losses[step] - second.losses[step]) for step in again)
again, gap <= (1e-6 if lab.profile.device == "cpu" else 0.05)

# %% [markdown]
# ## 11. Unsloth or plain TRL?
#
# The same rows, arguments and seed, each in a process of its own, since Unsloth patches the whole one. First the code that differs, loading and adapting; the trainer's cell is the same.

# %%
sides = json.loads((data_dir() / "results" / "week03" / "unsloth_trl.json").read_text())
timed = json.loads((data_dir() / "results" / "bench" / "steps.json").read_text())
for name, made in (("losses, memory", sides["provenance"]), ("times", timed["provenance"])):
    print(f"{name}: {made['command']}, {made['date'][:10]}, {made['device']}")
print("\n" + sides["code"]["trl"])

# %% [markdown]
# Unsloth's side is the two calls of sections 1 and 5. What came out:

# %%
from postlab.course.week03 import plot_sides

plot_sides([run for run in sides["runs"] if run["pair"] == 0], timed["stages"]["sft"])

# %% [markdown]
# And the rest, medians of three runs each:

# %%
# NBVAL_CHECK_OUTPUT
each = pd.DataFrame(sides["runs"]).groupby("side")
table = each[["import_s", "load_s", "peak_gb", "trained"]].median().T
table.loc["lines to load and adapt"] = {
    side: sum(bool(line.strip()) for line in code.split("\n"))
    for side, code in sides["code"].items()
}
table

# %% [markdown]
# The losses differ by at most 0.00001, one unit of the last digit recorded: it *is* the same training. Seconds per step can't be told apart on this CPU, and peak memory differs by 1 to 2%; what you get here is
# shorter code.
#
# | take | when |
# |---|---|
# | Unsloth | one GPU, a supported architecture, memory is short or time is money: its kernels, its checkpointing and ready-made 4-bit weights are for that |
# | plain TRL | several GPUs (FSDP, DeepSpeed), a new or changed architecture, code you must be able to step through, a licence without AGPL parts |
#
# Unsloth's published gains were measured on GPUs; nothing here confirms or denies them.

# %% [markdown]
# ## 12. What has been shown, and what not

# %%
# NBVAL_CHECK_OUTPUT
own = {c["without"]: c for c in cells if c["without"] == c["family"]}
claims |= {f"{name} without its own rows": change for name, change in own.items()}
for change in claims.values():
    change["p, all"] = min(1.0, change["p"] * len(claims))  # Bonferroni: one table, many claims
columns = ["difference", "low", "high", "p", "p, all", "verdict"]
rounded = {k: v | {c: round(v[c], 4) for c in columns[:5]} for k, v in claims.items()}
pd.DataFrame(rounded).T[columns]

# %% [markdown]
# "p, all" is corrected for the length of the table; what is above 0.05 there is not shown, whatever its verdict alone, and "inconclusive" stays inconclusive. All of it is one model of 1.4
# million parameters, one world, short trainings and a few seeds: the mechanisms (habits are copied, what is missing is forgotten, clean few can beat dirty many at equal compute) should
# travel; the sizes will not. Not shown: that Unsloth is faster on a GPU, and every minute and dollar of section 10.
#
# **What you have now:** a run folder, `runs/<profile>/seed-<n>/sft/`, with the adapter, the log, every answer, and a manifest that says what made them. Week 5 starts from it.

# %% [markdown]
# ### Five interview questions
#
# **1.** Your fine-tuned model answers well and never stops. Name three causes, and the one look that tells them apart.
#
# <details><summary>Answer</summary>
#
# Pad equals end of turn and the collator masks by id; the end of turn lies outside the trained span (template, rows cut at `max_length`); generation stops at another token. Look at the
# labels of a batch: is the end of turn in them? If so, at `eos_token_id`.
#
# </details>
#
# **2.** You have 100,000 rows of unknown quality and one GPU-day. What do you do first?
#
# <details><summary>Answer</summary>
#
# Read a hundred. Verifiers, duplicates, overlap with the evaluation, composition. Then small runs (a clean subset, a random one of the same size, all) with paired intervals; the rest of
# the day goes to the winner.
#
# </details>
#
# **3.** Two datasets have the same share of wrong replies. Why can one ruin a model and the other hardly hurt it?
#
# <details><summary>Answer</summary>
#
# Wrong at random, the right answer stays the likeliest of its kind. Wrong by habit, the error is the likeliest. Only a look by kind tells.
#
# </details>
#
# **4.** System design: SFT of a 7B every week on fresh support tickets. What keeps it from getting worse?
#
# <details><summary>Answer</summary>
#
# A held-out set by kind, decontaminated each week; a share of old kinds in every mix, as what is missing is forgotten; review by kind; needless refusals counted; a paired comparison with
# last week, and a way back.
#
# </details>
#
# **5.** Research taste: a paper says 1,000 chosen rows beat 50,000. What do you ask?
#
# <details><summary>Answer</summary>
#
# Equal steps or equal epochs? A random 1,000 as control? Seeds? Was the judge's taste that of the choosers? What was lost that the prompts did not ask for?
#
# </details>

# %% [markdown]
# **Papers.** Hu et al. 2021, *LoRA* ([2106.09685](https://arxiv.org/abs/2106.09685)): section 4, the zero start. Dettmers et al. 2023, *QLoRA*
# ([2305.14314](https://arxiv.org/abs/2305.14314)): section 3, NF4. Zhou et al. 2023, *LIMA* ([2305.11206](https://arxiv.org/abs/2305.11206)): how its rows were chosen and judged. Lambert et al. 2024, *Tülu 3* ([2411.15124](https://arxiv.org/abs/2411.15124)): section 3, mixing and decontaminating. Broder 1997, *On the
# resemblance and containment of documents*: MinHash.
