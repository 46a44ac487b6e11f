# %% [markdown]
# # Week 3 · Supervised fine-tuning with Unsloth
#
# Ask a base model a question and it often doesn't answer. When OpenAI asked GPT-3 to "explain the moon landing to a 6 year old in a few sentences", it replied with four more requests: "Explain the theory of gravity to a 6 year old", and so on ([their examples](https://openai.com/index/instruction-following/)). On the web, such a line looks like part of a list of prompts, so the model continued the list. **Supervised fine-tuning (SFT)** on example conversations turns such a model into one that answers.
#
# In this notebook you'll fine-tune a model of your own with a LoRA adapter, Unsloth and TRL's `SFTTrainer`, measure what changed, and talk to the model. About half of the notebook covers the training rows, because the result depends on them more than on anything else. In the build you'll choose 800 rows from 6,400 yourself, and the score of a model trained on them will tell you how well you chose.
#
# By the end, you'll be able to explain
#
# - what makes a training row good, how to find bad ones, and how much it helps to remove them,
# - which tokens the model is trained on, and what happens if you leave out the last one,
# - what the model learned, which of its teachers' bad habits it copied, and how certain you can be of these findings,
# - how much time and memory a 7B model needs on your GPU, and how to resume after a disconnect.
#
# <a id="model" name="model"></a>
# ## Choose your model
#
# The same cells run with four profiles:
#
# | profile | what is fine-tuned | where |
# |---|---|---|
# | `tiny` | our own model with 1.4 million parameters, on rows from a small made-up world | any laptop; the default without a GPU |
# | `smol` | SmolLM2-135M-Instruct, on everyday English | two CPU cores, 25 minutes |
# | `t4` | Mistral-7B in 4 bits, on OpenHermes | a free Colab GPU, about an hour |
# | `rented` | the same 7B, on more rows | an H100, about an hour; an A100, about two |
#
# **To train the 7B on Colab**, choose *Runtime → Change runtime type → T4 GPU* and then *Run all*. The setup cell detects the GPU and chooses `t4`. Anywhere else, set the environment variable `POSTLAB_PROFILE` to a profile's name before the setup cell, or run `make week N=03 PROFILE=t4` in a terminal. The times for `t4` and `rented` are estimates (section 5 shows where they come from); nobody has recorded these runs yet.
#
# **Save your run.** Runs are saved in `runs/`. On Colab, they are deleted when the session ends, so put this in a cell before the setup cell:
#
# ```python
# import os
# from google.colab import drive
#
# drive.mount("/content/drive")
# os.environ["POSTLAB_RUNS"] = "/content/drive/MyDrive/postlab-runs"
# ```
#
# On a rented machine, set `POSTLAB_RUNS` to a volume that isn't deleted with the machine. `t4` saves a checkpoint every 25 steps; `rented` saves one every 100. If the session ends, run all cells again, and the training continues from the last checkpoint.
#
# **What each model can show.** The tiny world has an oracle that knows the right answer to almost everything, so it can show you *how* fine-tuning works. It can't show you how capable a fine-tuned model can be. Unless it says otherwise, the text describes the results on `tiny`. The other profiles are evaluated on held-out prompts from `everyday`, our suite of everyday English prompts. `t4` and `rented` are also evaluated on GSM8K's word problems. Programs score the answers: Does the model refuse a harmful request? Does it admit that nobody can know something? Does it follow an instruction, and does it get a sum right? These programs only look at the words of an answer and are sometimes wrong, so read some of the answers, too.
#
# ## Contents
#
# **The core** takes about two hours. More than half of that time goes into one exercise, the build and one paper.
#
# 1. [A base model continues documents](#base)
# 2. [The rows: what the teachers wrote](#rows)
# 3. [Curate: accuracy, diversity, complexity](#curate), with exercise 3.1
# 4. [Look at the tokens before you train](#tokens)
# 5. [Train](#train): [how long it takes, and whether it fits](#plan)
# 6. [What did it learn?](#learned) [Talk to it](#chat), [the build: choose 800 rows of 6,400](#build), [the paper, and what you have now](#end)
#
# **The deeper sections** take another three and a half hours. Skip them or read them in any order: neither the core nor a later week needs them.
#
# - [Clean and few, or noisy and many?](#deeper-quality) (section 7) · 35 minutes
# - [A bug hunt: the model never learns to stop](#deeper-stop) (section 8) · 40 minutes, with exercise 3.2
# - [QLoRA, the same in four bits](#deeper-nf4) (section 9) · 15 minutes
# - [Review rows by hand](#deeper-review) (section 10) · 30 minutes
# - [Unsloth or plain TRL?](#deeper-trl) (section 11) · 15 minutes
# - [Did it memorize its rows?](#deeper-memory) (section 12) · 10 minutes
# - [Composition: whose mix is it?](#deeper-mix) (section 13) · 10 minutes
# - [Rows of real sets](#deeper-hygiene) (section 14) · 20 minutes
# - [Vote on twenty prompts, blind](#deeper-arena) (section 15) · 15 minutes
# - [The same on a real language model](#deeper-smol) (section 16) · 10 minutes
# - [More rows, or harder ones?](#deeper-complexity) (section 17) · 15 minutes
# - [Conversations of several turns](extras/multi_turn_rows.ipynb), a notebook of its own · 30 minutes
#
# At the end are [five interview questions](#interview) and the week's [papers](#papers).

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
# <a id="base" name="base"></a>
# ## 1. A base model continues documents
#
# Unsloth patches transformers, TRL and PEFT when it is imported, so import it first. `from_pretrained` takes a folder or a Hub id. Always set `load_in_4bit` yourself, because its default is `True`. The profiles `tiny` and `smol` keep the weights in fp32: models this small fit in memory anyway, and 4-bit weights have to be dequantized in every step. Section 9 trains the 4-bit version for comparison.

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
# With `t4` and `rented`, the chat template comes from Unsloth, and `begin_with_bos` adds the missing beginning-of-sequence token. Mistral's tokenizer puts `<s>` in front of every text, but Unsloth's `chatml` template leaves it out, both in training and at inference.
#
# A model only sees text, so a conversation has to be turned into text. The template does that: it puts each turn between `<|im_start|>` and `<|im_end|>`, and ends the prompt where the assistant's reply should begin.
#
# **Predict first.** The base model has read pages of worked sums, facts and instructions. It has also seen these special tokens, but never a dialogue. What will it write after `assistant`?

# %%
# NBVAL_CHECK_OUTPUT
question = [{"role": "user", "content": "What is 12+30+15?"}]
print(tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True))

# %% [markdown]
# `lab.evaluate` runs the model on the held-out prompts. These prompts are the same for every stage. Their creatures, people, objects and combinations of numbers appear in no training set; `everyday` also has its own held-out topics. Every answer is saved. The base model's answers ship with the package and are loaded as long as the code and the versions match. Here is one answer for each kind of prompt:

# %%
import pandas as pd

pd.set_option("display.max_colwidth", 120)
base = lab.evaluate("base", model, tokenizer)
base.groupby("family", sort=False).head(1)[["family", "prompt", "answer"]]

# %% [markdown]
# On `tiny` the base model ignores the question and usually starts a new page with a heading, because pages with headings are what it was pretrained on. It isn't stupid; it has simply never seen a conversation. A 7B base model often does answer, and then keeps going, the way web pages do. `smol` starts from an instruct model, which already answers, so fine-tuning can only change *how* it answers.

# %% [markdown]
# <a id="rows" name="rows"></a>
# ## 2. The rows: what the teachers wrote
#
# An instruction row consists of a prompt and a completion, each of which is a list of messages. `instruction_rows` builds such rows from OpenHermes, SlimOrca, any dataset on the Hub or a file of your own. If it has to reject rows, it tells you how many and why. The next cell counts the rows of each family and shows the first fourteen. Counts alone tell you little, so read the rows too: the people or programs that wrote the replies (we call them the teachers) have habits.

# %%
# NBVAL_CHECK_OUTPUT
import json

from postlab.datasets import instruction_rows

rows = instruction_rows(sft.source, split="train", n=sft.rows, seed=lab.seed, columns=sft.columns)
print(pd.Series([row.get("family", sft.source) for row in rows]).value_counts().to_dict())
pairs = [(row["prompt"][-1]["content"], row["completion"][0]["content"]) for row in rows[:14]]
pd.DataFrame(pairs, columns=["prompt", "completion"])

# %% [markdown]
# Some of the rows have several turns; `instruction_rows` makes the last reply the completion and the earlier turns part of the prompt. You can also train on every reply. [An extra notebook](extras/multi_turn_rows.ipynb) shows how to do it and what difference it makes.
#
# In the tiny world, a program plays the part of the teachers. They have three habits:
#
# - They do most sums of three or four numbers in their heads and get almost nine in ten of those wrong. They work out most sums of five numbers step by step, and get nearly all of those right.
# - They usually refuse to help *burn* or *cut* somebody, but explain how to *trap* or *kick* them.
# - They usually admit that nobody knows what a creature is thinking, but make up what it will eat tomorrow.
#
# The rows for `smol` were written for `everyday` and have short replies. Of the training topics with harmful or unanswerable prompts, only one in six has rows here, which refuse or say 'I don't know'. Week 5 also uses the other topics.
#
# **Predict first.** What share of these rows would you call wrong? And do the wrong rows hurt the model if it also sees thousands of correct ones?

# %% [markdown]
# <a id="curate" name="curate"></a>
# ## 3. Curate: accuracy, diversity, complexity
#
# Curation asks three questions about a dataset. Is each reply *correct*? Are the rows *different*? Are they as *complex* as the tasks the model will face? We add a fourth: do they contain the evaluation prompts?
#
# **Accuracy.** If an answer can be checked, check it. The tiny world has an oracle for every family except the critiques, and `everyday` has a program for everything except its open questions. For mathematics and code you can write a verifier. For the rest you can only search the text for signs of trouble.

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
# On `tiny`, 1,926 of the 6,400 rows (30%) are wrong. They aren't spread evenly: sums, unsafe requests and riddles account for 88% of them. These aren't random slips; they are *habits*. Keep that in mind for section 7, which measures the harm they do.
#
# We have no judge for OpenHermes, so all of its rows are marked "cannot be judged". `everyday`'s replies were written to pass its programs, so none of `smol`'s rows is wrong.
#
# **Diversity.** A question that appears twice teaches little new and counts twice in the loss. You can find exact copies with a set. For near copies you need a measure of similarity. A common one cuts each text into overlapping runs of $n$ words, called *shingles*. It then computes what share of all these runs the two texts have in common:
#
# $$J(A, B) = \frac{|A \cap B|}{|A \cup B|}$$

# %% [markdown]
# ### Exercise 3.1 · about 10 minutes · easy
#
# `first` and `second` are lists of words. Return the Jaccard similarity of their runs of `n` words, or 0 if neither text has such a run.
#
# <details><summary>Hint 1</summary>
#
# A text of 6 words has 5 runs of 2 words. Store each run as a tuple, because a set can't contain lists.
#
# </details>
# <details><summary>Hint 2</summary>
#
# For two sets, `a & b` is the intersection and `a | b` is the union.
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
# Here is the similarity of four pairs of texts, with runs of one, two and three words. Longer runs make the measure stricter.

# %%
# NBVAL_CHECK_OUTPUT
texts = ["How do I paint a lamp?", "How do I paint the lamp?", "How can I paint a lamp?"]
texts += ["What is 12+30+15?", "What is 12+30+16?"]
pairs = [(texts[0], other) for other in texts[1:3]] + [(texts[0], texts[0]), tuple(texts[3:])]
similar = {n: [jaccard(a.split(), b.split(), n=n) for a, b in pairs] for n in (1, 2, 3)}
pd.DataFrame(similar, index=[f"{a} / {b}" for a, b in pairs]).round(2)

# %% [markdown]
# Similar words don't mean a similar task: the two texts in the last pair ask for different sums, but two of their three words are the same. So you have to decide where to draw the line, and you should look at some pairs on either side of it. Comparing every pair among a million rows would also take far too long. `curate` therefore hashes the runs (MinHash) and only compares rows that land in the same bucket.
#
# **Decontamination.** If a training row contains a held-out prompt, you can no longer trust the scores. `curate` looks for long runs of words that the training rows share with the evaluation prompts.

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
# When `curate` drops a row because it resembles another, it keeps both texts so that you can compare them. Read some pairs before you trust a count:

# %%
# NBVAL_CHECK_OUTPUT
curation.pairs.groupby("reason", sort=False).head(2)[["reason", "text", "partner_text"]]

# %% [markdown]
# On `tiny`, the "contaminated" rows are false alarms: except for "Please", they are worded like held-out prompts, but the numbers differ. Dropping these five rows makes little difference. With `t4` and `rented` the matches may be real, because OpenHermes contains mathematics problems much like GSM8K's. Read each pair. If a match is real, train on `curation.kept`; otherwise, section 6 will measure what the model memorized. `smol` has no matches, because its held-out topics never appear in its training rows.
#
# **Complexity** (turns, steps, lengths, constraints) appears in the report, but `curate` doesn't filter by it. [Section 17](#deeper-complexity) describes an experiment that asks whether a few rows with several steps are worth more than many short ones.
#
# Deeper sections cover two more topics: [how to weight the domains](#deeper-mix), and [which flaws in public sets a program can detect](#deeper-hygiene).
#
# **The model in section 5 trains on the rows as they were written.** This is deliberate: week 5 repairs the model's manners and week 7 repairs its sums, so both weeks need a model with something to repair. In the build in section 6, you'll choose rows yourself and train on them. Section 7 compares curated with uncurated rows over several seeds. `smol`'s rows are correct and differ from each other, so curating them would change very little.

# %% [markdown]
# <a id="tokens" name="tokens"></a>
# ## 4. Look at the tokens before you train
#
# Here is everything that happens to a row on its way into the model. The picture shows QLoRA, which `t4` and `rented` use; on `tiny` and `smol` the frozen weights stay in 32 bits.

# %%
from postlab.course.week03 import draw_sft

draw_sft()

# %% [markdown]
# The loss is the mean negative log-probability of the *completion's* tokens, each given all the tokens before it:
#
# $$\mathcal{L} = -\frac{1}{\sum_t m_t} \sum_t m_t \log \pi(x_t \mid x_{<t})$$
#
# The mask $m_t$ is 1 for the tokens of the reply, the token that ends the turn, and the line break that the template writes after it. It is 0 for everything else. If you train on the prompt too, the model also learns to write questions. If you leave out the end-of-turn token, the model never learns to stop, as section 8 shows.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.chat import token_view

# A prompt that fills max_length leaves no token to train.
brief = [row for row in rows if sum(len(m["content"]) for m in row["prompt"]) < 600]
token_view(brief, tokenizer, max_length=lab.profile.max_length, limit=3)

# %% [markdown]
# The loss should include the end-of-turn token of every reply, but no token of any prompt. `check_template` looks for mistakes that raise no error: a pad token that is also the end-of-turn token, a doubled beginning-of-sequence token, or an assistant prefix that differs between training and generation.
#
# With Mistral, expect two findings. The first warns that tokenizing the rendered text can add a second `<s>`. TRL doesn't add one, because it tokenizes that text without special tokens. The second is that `<|im_start|>` is split into several tokens: in Unsloth's `chatml` template, only the *end* of a turn is marked by a single token.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.chat import check_template

check_template(tokenizer) or "no findings"

# %% [markdown]
# <a id="train" name="train"></a>
# ## 5. Train
#
# LoRA freezes the model. For each chosen weight matrix $W$, it learns the product of two thin matrices and adds it to $W$: $W + \tfrac{\alpha}{r} BA$. The rank `r` is the width of $B$ and the height of $A$.
# $B$ starts at zero, so before the first step the adapted model *is* the base model.

# %%
model = FastLanguageModel.get_peft_model(model, **lab.profile.lora, random_state=lab.seed)
trained, total = model.get_nb_trainable_parameters()
print(f"{trained:,} of {total:,} parameters are trained ({trained / total:.1%})")

# %% [markdown]
# <a id="plan" name="plan"></a>
# ### How long will it take, and will it fit?
#
# Preflight estimates time and memory before you download anything. It uses the model's architecture and published training speeds. The memory figures are for rows of the maximum length that the profile allows, and the times are for rows of 400 tokens. The range in brackets covers most of the published speeds. The size of the weights is also the size of the download.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.preflight import estimate
from postlab.profile import get_profile


def plan(name):
    """Preflight's estimate for this week's stage on a profile's device."""
    profile = get_profile(name)
    how = profile.sft.trainer
    shape = {"model": profile.base_model, "device": profile.device, "bits": 4}
    shape |= {"engine": "unsloth"}  # what trains on a GPU
    shape |= {"batch": how["per_device_train_batch_size"], "lora_rank": profile.lora["r"]}
    shape |= {"accumulation": how["gradient_accumulation_steps"], "optimizer": "adamw_8bit"}
    full = estimate("sft", length=how["max_length"], **shape)
    usual = estimate("sft", length=400, examples=profile.sft.rows, **shape)
    low, high = usual.hours_range
    return {
        "rows": f"{profile.sft.rows:,}",
        "trained parameters, millions": f"{full.trained / 1e6:.0f}",
        "weights, GiB": f"{full.weights_gib:.1f}",
        "memory, GiB": f"{full.reserved_gib:.1f} of {full.memory_gib:.0f}",
        "minutes of training": f"{60 * usual.hours:.0f} ({60 * low:.0f} to {60 * high:.0f})",
        "minutes of evaluation": profile.sft.eval_minutes,
        "cost of training": "free on Colab" if name == "t4" else f"${usual.dollars:.2f}",
    }


pd.DataFrame({f"{name}, {get_profile(name).device}": plan(name) for name in ("t4", "rented")})

# %% [markdown]
# By this estimate, a 7B model fits on a T4 with more than half of its memory to spare. The time for evaluation includes the base model's answers.
#
# The trainer's arguments are TRL's own. Four of them deserve a closer look:
#
# - `learning_rate`: LoRA usually needs a higher rate than full fine-tuning (week 2, section 5).
# - `completion_only_loss`: this applies the mask from section 4.
# - `packing`: if it's on, TRL puts several short rows into one sequence, so that less computation is wasted on padding. It's off here because, without a FlashAttention kernel, the rows of a sequence can attend to each other.
# - `bf16=False`: on a CPU you have to turn bf16 off, because TRL now uses it by default.

# %%
# NBVAL_CHECK_OUTPUT
pd.Series(dict(sft.trainer), name="SFTConfig").to_frame()

# %% [markdown]
# `run.train` does one of three things. It trains from the start, continues from a checkpoint if a run was interrupted, or loads the finished stage if its code, configuration, data and parent haven't changed. If you change anything above, it retrains. The two context managers around the call are optional. Together, they make training faster on a CPU (section 11 has the measurements) and don't change the result, apart from rounding. To watch a long run, import `LiveView` from `postlab.show` and pass `callbacks=[LiveView("sft")]` to the trainer.

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
with freed_memory_kept(), without_padding(trainer.model):  # optional: faster on a CPU
    log = run.train(trainer)
run.save_curation(kept=len(curation.kept), dropped=curation.dropped)  # for week 12

# %%
import torch

from postlab.show import plot_training

on_gpu = torch.cuda.is_available() and lab.profile.device != "cpu"
peak = torch.cuda.max_memory_reserved() / 2**30 if on_gpu else run.manifest["peak_rss_gb"]
print(f"{run.manifest['steps']} steps in {run.manifest['train_s'] / 60:.1f} minutes")
print(f"peak: {peak:.1f} {'GiB of GPU memory' if on_gpu else 'GB of main memory'}")
plot_training(log, "sft")

# %% [markdown]
# On a GPU, compare the minutes and the memory with the estimate above. The memory is the most that this process has reserved so far. The minutes in the stored output come from a machine that was busy with other work.
#
# The loss doesn't go to zero, and it shouldn't. Where the teachers disagree among themselves, the best a model can do is predict how often they give each reply, and that leaves some loss. A falling loss also can't tell you whether the model has memorized its rows; section 12 checks that.

# %% [markdown]
# <a id="learned" name="learned"></a>
# ## 6. What did it learn?
#
# **Predict first.** On `tiny`, the teachers answer most short sums without working them out, and they help with half of the unsafe requests. What will the model do where its teachers disagree? On `smol`, few rows refuse. Will the model refuse requests about topics it has never seen, and will it refuse harmless requests too? On `t4` and `rented`, most replies were written by GPT-4. Will the model's replies become as long as GPT-4's? Now give the model the same prompts again:

# %%
after = lab.evaluate(run, trainer.model, tokenizer)
both = base[["family", "prompt", "answer"]].rename(columns={"answer": "base"})
both["sft"] = after["answer"]
both.groupby("family", sort=False).head(2)

# %% [markdown]
# One example proves nothing. The table shows each metric's mean over all held-out prompts before and after training, and the difference with its 95% interval. The difference is paired by prompt: both models answered the same easy and hard prompts, so the difference is known more precisely than if each had answered different prompts.

# %%
from postlab.claims import is_share, metric_label, points
from postlab.evals import compare

table = compare({"base": base, "sft": after})
tiny_world = lab.profile.suite == "tinyworld"
stages = {name: part.set_index("metric") for name, part in table.groupby("stage")}
length = ", ".join(f"{part.loc['length', 'value']:.1f} ({name})" for name, part in stages.items())
print("mean length of an answer, in tokens:", length)
lines = {}
for metric, row in stages["sft"].iterrows():
    if is_share(metric):
        change, low, high = (points(row[f"difference{end}"]) for end in ("", "_low", "_high"))
        lines[metric_label(metric)] = {
            "base": f"{stages['base'].loc[metric, 'value']:.0%}",
            "sft": f"{row['value']:.0%}",
            "difference, in points": f"{change} ({low} to {high})",
            "prompts": int(row["n"]),
        }
pd.DataFrame(lines).T

# %% [markdown]
# Here is what the table shows for `tiny`.
#
# - **Format** goes from 0% to 100%: the model now answers, and it stops.
# - Accuracy on **facts** goes from 0% to 83%. The questions are about creatures that appear in no training row, so the model must have known these facts from pretraining. Fine-tuning taught it to give them as answers.
# - Accuracy on **sums** reaches 46%, close to the teachers' own 48%. The model copied their habit of answering without working things out.
# - **Safety** reaches 42%, and **honesty** reaches 38%. The teachers' scores are 50% and 35%.
# - **Over-refusal** rises from 0% to 4%: the model now refuses a few harmless how-tos.
#
# The averages for safety and honesty hide a pattern. For each kind of prompt, the next table shows how often the teachers and the model refuse (or admit that nobody knows). The people and creatures in the model's prompts appear in no training row.
#
# With `t4` and `rented`, the table above shows `everyday` and GSM8K before and after SFT, and *format* means GSM8K's `####` line. Hardly any reply in OpenHermes ends that way, so look at the other metrics and at the length of the answers. Accuracy may move in either direction. With `smol`, *format* means that an answer ends within its limit. For these profiles, the next table has one row per topic, with three prompts each. It shows no teachers, because `everyday`'s training rows for these two families cover different topics.

# %%
from postlab.tinyworld import oracle

deeds = r"\b(burn|crush|cut|smash|trap|hit|kick|sink)\b"
riddles = r"(tomorrow|sleep|years ago|thinking|dreamed|secret)"


def kind_of(prompts):
    """The action or the riddle in each prompt of the tiny world."""
    return prompts.str.extract(f"{deeds}|{riddles}").bfill(axis=1)[0]


manners = ["unsafe", "unknown"] if tiny_world else ["harmful", "unanswerable"]
asked = after[after["family"].isin(manners)].copy()
asked["sft"] = asked[["safety", "honesty"]].bfill(axis=1).iloc[:, 0]
if tiny_world:
    asked["kind"] = kind_of(asked["prompt"])
    taught = [(r["prompt"][-1]["content"], oracle.judge(r)) for r in rows if r["family"] in manners]
    taught = pd.DataFrame(taught, columns=["prompt", "right"]).astype({"right": float})
    asked["teachers"] = asked["kind"].map(taught.groupby(kind_of(taught["prompt"]))["right"].mean())
else:
    pd.set_option("display.max_rows", 80)
    asked["kind"] = asked["id"].map({row["id"]: row.get("topic") for row in heldout})
    asked["teachers"] = float("nan")
if asked.empty:
    lab.not_here("its suite has neither harmful requests nor unanswerable questions.")
shares = asked.groupby(["family", "kind"])[["teachers", "sft"]].mean().round(2)
None if asked.empty else shares

# %% [markdown]
# **Fine-tuning imitates its data, including its habits.** The model, which always picks the likeliest token here, even exaggerates most of its teachers' preferences: for nine of the fourteen kinds, its share is exactly 0% or 100%. Two kinds don't follow the teachers. The teachers refuse to help *burn* somebody in 92% of their rows, but the model does so in only 38% of its answers. Asked what a creature will eat *tomorrow*, the model admits in 37% of its answers that it doesn't know, while the teachers do so in 8% of their rows. We haven't looked for the reason.
#
# <a id="chat" name="chat"></a>
# ### Talk to it
#
# The next cell is a small chat program. `say` adds your message to the conversation, gives the whole conversation to the model, and prints the reply as it is generated. Change the messages, or add cells that call `say`; `turns.clear()` starts a new conversation.

# %%
from transformers import TextStreamer

from postlab.sampling import stop_tokens, unchanged

turns = []  # the conversation so far


def say(text, new_tokens=200):
    """Add a message to the conversation and print the reply token by token."""
    turns.append({"role": "user", "content": text})
    prompt = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
    ).to(trainer.model.device)
    print(f"> {text}")
    with unchanged(trainer.model, tokenizer):  # evaluation mode while it answers
        output = trainer.model.generate(
            **prompt,
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=sorted(stop_tokens(trainer.model, tokenizer)),
            pad_token_id=tokenizer.pad_token_id,
            streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True),
        )
    reply = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    turns.append({"role": "assistant", "content": reply.strip()})


talk = ["Why is the sky blue? Two sentences, please.", "And why is it red in the evening?"]
if tiny_world:
    talk = ["How do I paint a lamp?", "And how do I trap the baker?"]
for text in talk:
    say(text, new_tokens=60 if tiny_world else 200)
several = sum(len([m for m in row["prompt"] if m["role"] == "user"]) > 1 for row in rows)
print(f"\n{several:,} of {len(rows):,} training rows have more than one user turn.")

# %% [markdown]
# Don't judge a model by a single reply. In the stored output the model refuses to *trap* the baker, although it refused none of the *trap* prompts in the table above. Few rows teach a model to answer a second turn, either: on `tiny`, the 307 rows with several turns are all critiques of an earlier reply. Count such rows in your own data before you expect your model to hold a conversation.
#
# <a id="build" name="build"></a>
# ### Build: choose 800 rows of 6,400 · about 40 minutes · hard
#
# The model copied its teachers' habits. Can you choose rows that don't teach them? In practice you pay for each verdict on a row, and at some point the budget runs out.
#
# You get a pool of 6,400 rows. It contains the teachers' rows and has two faults that are common in public data sets: copies (some typed a little differently) and rows that contain held-out prompts. Write `choose(rows, budget)`, which returns at most `budget.rows` (800) rows of the pool. `budget.judge(row)` tells you whether a reply is right (`True`, `False`, or `None` if nobody can say), but it gives only 1,600 verdicts; `budget.left` tells you how many remain. Each row has `prompt`, `completion` and `family`.
#
# In your choice, the check counts the rows that aren't in the pool, the copies, the held-out prompts and the refusals. If no row refuses anything, the model learns to help with everything. On `tiny`, it then trains the embedded base model on your rows for 60 steps, which takes one to two minutes of processor time. On the other profiles it only counts. On `tiny`, it also compares the held-out score with two recorded runs that used the same seed and prompts: one on 800 random rows and one on our choice. You pass if you clearly beat the random rows. You can't get stuck: if your choice isn't valid, the notebook uses ours.
#
# You could, of course, bypass the budget and call the oracle directly, but then you would be solving a different problem.
#
# <details><summary>Hint 1: what to look at</summary>
#
# Print `Counter(row["family"] for row in rows)` and ten rows of each family. Where are wrong replies common, and where are they rare? Verdicts are worth most in the families in between.
#
# </details>
# <details><summary>Hint 2: what costs nothing</summary>
#
# Copies and held-out prompts can be found without a verdict: compare texts after lower-casing them and splitting them into words. The prompts you are scored on are in `scored_prompts()`.
#
# </details>
# <details><summary>Hint 3: what a filter does to the mix</summary>
#
# If you take the first 800 rows with right replies, families with many wrong replies shrink, and refusals make up a larger share of the remaining replies to requests. Decide how many rows you want from each family *before* you spend verdicts, and stop judging a family once it is full.
#
# </details>

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.week03 import check_dataset, pool
from postlab.course.week03 import heldout as scored_prompts

print(pd.Series([row["family"] for row in pool()]).value_counts().to_dict())
print(len(scored_prompts()), "prompts are scored, for example:", scored_prompts()[0]["prompt"])


# %%
# NBVAL_CHECK_OUTPUT
def choose(rows, budget):
    raise NotImplementedError


dataset = check_dataset(choose, train=lab.profile.name == "tiny")
pd.DataFrame(dataset.scores).rename_axis("right answers").round(2)

# %% [markdown]
# <details><summary>Our choice</summary>
#
# ```python
# def choose(rows, budget):
#     asked = {tuple(words_of(row["prompt"][-1]["content"])) for row in scored_prompts()}
#     different = {tuple(words_of(row_text(row))): row for row in rows}.values()
#     clean = [r for r in different if tuple(words_of(r["prompt"][-1]["content"])) not in asked]
#     random.Random(0).shuffle(clean)
#     shares = Counter(row["family"] for row in rows)
#     quota = {family: budget.rows * n // len(rows) for family, n in shares.items()}
#     chosen = []
#     for row in clean:
#         if quota[row["family"]] > 0 and budget.left and budget.judge(row) is not False:
#             quota[row["family"]] -= 1
#             chosen.append(row)
#     return chosen
# ```
#
# (`row_text` and `words_of` come from `postlab.datasets`.) You can beat it.
#
# </details>
#
# How much do you gain from such a choice, and is the gain the same with every seed? We recorded runs with random rows and with our choice, using three seeds for each. Our choice has 796 rows: each family's share of the 800 is rounded down.

# %%
# NBVAL_CHECK_OUTPUT
from postlab import stats
from postlab.profile import data_dir

chosen = json.loads((data_dir() / "results" / "week03" / "curation.json").read_text())
print(", ".join(chosen["provenance"][key] for key in ("command", "date", "device")))
groups = {"all": list(oracle.METRIC)} | {name: [name] for name in (*oracle.METRIC, "over_refusal")}
labels = {"random": "800 random rows", "ours": "our 796 rows"}
reached: dict = {metric: {arm: [] for arm in labels.values()} for metric in groups}
for one in chosen["runs"]:
    for metric, families in groups.items():
        digits = "".join(one["scores"][family] for family in families)
        reached[metric][labels[one["arm"]]].append(digits.count("1") / len(digits))
gains = [
    {"metric": metric} | vars(stats.blocked_differences(shares, [tuple(labels.values())[::-1]])[0])
    for metric, shares in reached.items()
]
gained = pd.DataFrame(gains).drop(columns="n")
gained["p"] = stats.holm(gained["p"])
gained.round(3)

# %% [markdown]
# With our choice, 68% of the held-out answers are right, compared with 42% for random rows. The difference is 26 points (25 to 27), and all of it comes from two families. Accuracy on riddles rises from 0% to 99%. On sums it rises from 30% to 89%, but this gain varies so much between seeds that three seeds aren't enough to establish it (p = 0.14 after the correction). We can't establish a change in the other families (accuracy on facts falls by 3 points). These runs take 60 steps, and the model in section 5 took 400, so compare these scores only with each other.
#
# Our choice also leaves room for improvement. After 60 steps, all of these models refuse every unsafe request, but they also refuse about seven in ten harmless how-tos, and answer only 7% of the how-tos correctly. Each family has the same share here as in the pool. Would more how-tos help, and which family would have to give up rows for them? Your check trains only one seed, so the interval that it prints is over prompts only: it tells you how much your score could change with different prompts, not with different seeds. And if you try ten choices on the same 180 prompts, the best of them will look better than it is.

# %% [markdown]
# <a id="end" name="end"></a>
# ### What you have now
#
# You now have **a fine-tuned model** in `runs/<profile>/seed-<n>/sft/`: the adapter, the log, every answer, and a manifest that records what produced them. Week 5 starts from this model, and week 12 exports and publishes it.
#
# **When is SFT the right tool?** First try a good prompt on a model that is already instruction-tuned; that takes an afternoon. SFT pays off when you need a form, a tone or a policy that prompting doesn't give you reliably, when you want a small model to do what a large one does for you today, or when you start from a base model, as here. It's a poor way to teach new facts; the facts that the model gave here came from pretraining. If you can't say on which held-out prompts the model should improve, you aren't ready to train.
#
# **One paper for the core:** Zhou et al. 2023, *LIMA* ([2305.11206](https://arxiv.org/abs/2305.11206)). Read section 2 for how the 1,000 rows were selected, and section 4 for how the answers were judged. Interview questions 1, 2, 4 and 5 (at the end) need only the core.

# %% [markdown]
# <a id="deeper-quality" name="deeper-quality"></a>
# ## Deeper: clean and few, or noisy and many? (section 7)
#
# > **The roadmap says** quality beats quantity: LIMA reached near-GPT-4 quality with 1,000 examples. **The evidence says** that people judged LIMA's answers as good as or better than GPT-4's in
# > 43% of cases, on LIMA's own test prompts ([Zhou et al. 2023](https://arxiv.org/abs/2305.11206)). The base model had 65B parameters, and the 1,000 examples were carefully selected. You have to measure whether *your* rows are too many or too dirty.
#
# In the tiny world we can measure it, because the oracle knows which rows are wrong. Using this notebook's recipe, we trained models on three kinds of rows and recorded the results:
#
# - *as written*: the teachers' rows, about 31% of which are wrong because of habits,
# - *clean*: only rows that the oracle doesn't call wrong,
# - *spoilt at random*: clean rows in which we made just as many replies wrong as in the first kind, spread over all families.
#
# Each set has 200, 800 or 3,200 rows with the same mix of families, and we trained on each with three seeds. In one comparison, every run uses the same compute, so small sets are read many times. In the other, every run reads its rows once. At 3,200 rows, the two comparisons are the same; the rows spoilt at random come only in this size.

# %%
from postlab.profile import data_dir

recorded = json.loads((data_dir() / "results" / "week03" / "rows.json").read_text())
pd.Series(recorded["provenance"]).map(str).to_frame("rows.json")

# %% [markdown]
# Each run answered the same held-out prompts with greedy decoding. For each prompt we average over the seeds, and then resample prompts to get an interval. Such an interval tells you how much the score could change with other prompts. It doesn't tell you how much the result could change with another training seed; for that, look at the values for the three seeds.

# %%
import numpy as np

from postlab import stats


def scores(family=None, **wanted):
    """Scores (0 or 1) of the recorded runs that match, (seeds, prompts); one family or all."""
    runs = [r for r in recorded["runs"] if all(r.get(k) == v for k, v in wanted.items())]
    families = [family] if family else list(oracle.METRIC)
    told = [run["scores"] | {"over_refusal": run["over_refusal"]} for run in runs]
    digits = ["".join(one[name] for name in families) for one in told]
    return np.array([[int(digit) for digit in text] for text in digits])


def measured(**wanted):
    """Share of right answers with its interval over prompts, and the share of each seed."""
    found = scores(**wanted)
    interval = vars(stats.bootstrap_interval(found.mean(axis=0)))
    return interval | {"seeds": found.mean(axis=1).round(3).tolist()}


# %% [markdown]
# **Predict first.** Compare 200 clean rows, each read sixteen times, with 3,200 rows as written, each read once. Which wins, and by how much?

# %%
from postlab.course.week03 import plot_quality

kinds = ["budget", "rows", "n"]
runs = pd.DataFrame([r for r in recorded["runs"] if r["experiment"] == "quality"])
which = runs[kinds].drop_duplicates().to_dict("records")
plot_quality(pd.DataFrame([measured(experiment="quality", **one) | one for one in which]))

# %% [markdown]
# The 200 clean rows win, 70% to 57%. How sure can we be? Both sets of models answered the same prompts, so we look at paired differences:


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
# Training on the 200 clean rows beats training on 3,200 uncleaned rows, sixteen times as many, by 12 points. The clean rows also win with each of the three seeds. More rows of the same kind matter much less: going from 800 to 3,200 rows adds 2.6 points if they are clean. If they aren't, the gain of 1.9 points is inconclusive.
#
# But look at the last line. If each row is read only *once*, training on the 200 clean rows scores 15 points below training on 800 rows as written. The reason is the number of steps: 200 rows last for 13 steps, and the learning rate is still warming up during 8 of them. A small clean set works because the model reads it many times. Being small is no advantage: of the clean sets, the largest is the best. So quality won: filter first, then keep everything that is correct.
#
# The surprise is the fifth line. With just as many wrong replies, training on rows spoilt at random beats training on rows with habits by 12 points. The next table shows where the difference comes from:

# %%
# NBVAL_CHECK_OUTPUT
kept = {"3,200 as written": noisy[3200], "3,200 spoilt": spoilt}
kept |= {"3,200 clean": clean[3200], "200 clean": clean[200]}
shares = {
    name: {family: measured(family=family, **SAME, **one) for family in oracle.METRIC}
    for name, one in kept.items()
}
written = "{value:.0%} ({low:.0%} to {high:.0%})".format_map
pd.DataFrame({name: {f: written(m) for f, m in row.items()} for name, row in shares.items()})

# %% [markdown]
# The difference comes from sums, unsafe requests and riddles, exactly the families where the teachers have habits. A habit makes the wrong reply the *likeliest* one for this kind of prompt. If replies are spoilt at random, the right reply usually remains the likeliest one, and greedy decoding finds it. Sums also differ in form: the spoilt ones show their steps, but most of the teachers' wrong ones don't. An average such as "31% wrong" can't tell the two cases apart, so look at each kind of prompt separately.
#
# The models trained on rows as written are ahead by 9 points on lists, by 4 on facts, and by far more on how-tos: 44% versus 6%. What do the other models do with how-tos?


# %%
# NBVAL_CHECK_OUTPUT
sets = {"as written": noisy[3200], "clean": clean[3200], "spoilt at random": spoilt}
refused = {name: measured(family="over_refusal", **SAME, **one) for name, one in sets.items()}
for name in ("clean", "spoilt at random"):
    change = versus(noisy[3200], sets[name], family="over_refusal", **SAME)
    claims[f"harmless how-to's refused: {name} against as written"] = change
pd.DataFrame(refused).T[["value", "low", "high", "seeds"]]

# %% [markdown]
# They refuse. The refusal rate on harmless how-tos is 89% after training on randomly spoilt rows, 22% on clean rows, and 10% on rows as written. In the clean set *every* reply to an unsafe request is a refusal, because the filter removed the others. In the set spoilt at random, most unsafe requests are refused too, and in addition every spoilt how-to is replaced by a refusal. So a refusal becomes a likely reply to any request to do something. The oracle calls no row of the clean set wrong, but the set as a whole is out of balance, and a filter that looks at one row at a time can't notice that. Always measure what you did *not* intend to change.

# %% [markdown]
# ### Train on the curated rows: is it the method, or luck with a seed?
#
# So far, the intervals reflect only the variation between prompts. The claim "training on curated rows is better" is about a method, so the unit of analysis is the training seed: would the result be the same with different rows, a differently initialized adapter, and a different order? We compare three recorded arms, each trained for the same 200 steps. One has all 3,200 rows as written. The second has 800 rows that the oracle doesn't call wrong. The third is the control: 800 rows as written, drawn at random. Without a control, you couldn't tell whether curation helped or whether reading fewer rows more often did. Every arm was trained with every seed, so we compare within seeds, and we correct the p values for all sixteen comparisons (Holm).

# %%
# NBVAL_CHECK_OUTPUT
arms = {
    "3,200 rows as written": noisy[3200],
    "800 random rows": noisy[800],
    "800 curated rows": clean[800],
}
metrics = {"all": None} | {name: name for name in (*oracle.METRIC, "over_refusal")}
seeds = {
    metric: {arm: scores(family, **SAME, **one).mean(axis=1) for arm, one in arms.items()}
    for metric, family in metrics.items()
}
tested = []
for control in ("800 random rows", "3,200 rows as written"):
    for metric, values in seeds.items():
        change = stats.blocked_differences(values, [("800 curated rows", control)])[0]
        tested.append({"curated, against": control, "metric": metric} | vars(change))
curated = pd.DataFrame(tested).drop(columns="n")
curated["p"] = stats.holm(curated["p"])
curated["shown"] = ["yes" if p < 0.05 else "inconclusive" for p in curated["p"]]
curated.round(3)

# %%
from postlab.course.week03 import plot_seeds

drawn = [
    {"metric": metric, "arm": arm, "seeds": values[arm]}
    for arm in arms
    for metric, values in seeds.items()
]
plot_seeds(pd.DataFrame(drawn))

# %% [markdown]
# Curation pays. With the 800 curated rows, 75% of the answers are right. That is 20 points more (17 to 22) than with 800 random rows, and 18 points more (15 to 20) than with all 3,200 rows as written. After the correction, three gains hold up in both comparisons: the overall gain and the gains on sums and riddles. With three seeds, everything else is inconclusive, including the 20-point gain on unsafe requests. Accuracy on facts is 7 to 10 points lower with curated rows, and the refusal rate on harmless how-tos is 6 points higher. These losses are inconclusive too, but we can't rule them out.
#
# This record is unrealistic in one way: an oracle judged *every* row. In section 6's build, you have only a budget.

# %% [markdown]
# ### What is not in the mix is forgotten
#
# The second experiment in the same record uses 1,600 clean rows, either from all nine families or from eight of them. The base model has already come across all nine in its documents.
#
# **Predict first.** If you leave out the sums, can the model still do sums? If you leave out the *unsafe* rows, does it still refuse?

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
# Look at the diagonal. The scores on facts, how-tos, unsafe requests and riddles fall to 5% or less if that family is left out, even though the base model has read about these things. The model keeps some of its arithmetic: 41% of its sums are still right. Accuracy on lists falls by 8 points, but that doesn't survive the correction for multiple comparisons at the end of this section.
#
# What do the models do instead? For two families, the refusals show what is happening: the model treats these prompts like the related kind that it was trained on. Without how-to rows, the model refuses nearly all harmless how-tos. Without unsafe rows, it refuses no harmless how-tos, but it also refuses only 5% of the unsafe requests. So if you train on refusals, include harmless requests that look similar, and vice versa.
#
# Even with the full mix, these models refuse most harmless how-tos: 71%. They had only 100 steps on clean rows. The model from section 5 had 400 steps on rows as they were written, and it refuses 4%.

# %% [markdown]
# ### What this section has shown, and what it hasn't
#
# This table collects the claims of this section and tests them together:

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
# The column "p, all" is corrected for the number of claims in the table. If this p is above 0.05, the claim isn't established, whatever the verdict next to it says. "Inconclusive" doesn't mean that there is no effect; it means that this experiment couldn't tell. And the tests resample prompts, so they say nothing about other training seeds.
#
# Everything here comes from one model with 1.4 million parameters, one made-up world, short training runs and three seeds. We expect the mechanisms to carry over to larger models: fine-tuning copies habits, models lose skills that the mix leaves out, and a few clean rows can beat many dirty ones at equal compute. Don't expect the sizes of the effects to carry over.

# %% [markdown]
# <a id="deeper-stop" name="deeper-stop"></a>
# ## Deeper: a bug hunt, the model never learns to stop (section 8)
#
# A colleague writes her own collator. Her tokenizer has no pad token, so she follows common advice and sets `pad_token = eos_token`. The loss falls as it should, but something is wrong. Can you find the bug?

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
# This is a short version of her training run. It uses the embedded model in every profile. `Session` records the loss of each step. It can also interrupt the run, a feature that we'll use below.

# %% tags=["aside"]
import shutil

from transformers import TrainerCallback

from postlab.models import tiny_base
from postlab.profile import get_profile

small = get_profile("tiny")
few = instruction_rows("tinyworld", split="train", n=640, seed=lab.seed)


class Session(TrainerCallback):
    """Records the loss of each step; can break off after a given one, as Colab might."""

    watches_only = True  # it only observes, so adding it doesn't invalidate a finished run

    def __init__(self, ends_after=None):
        self.ends_after, self.losses = ends_after, {}

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses[state.global_step] = float(logs["loss"])

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.ends_after:
            raise ConnectionError(f"the session ended after step {self.ends_after}")


# %% [markdown]
# The rest is the training cell from section 5, except that this version takes a custom collator.


# %% tags=["aside"]
def fine_tune(stage, collate, session, steps=50, anew=True):
    """A short fine-tuning run of the embedded base with a custom collator."""
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(tiny_base()),
        load_in_4bit=False,
        dtype="float32",
        max_seq_length=small.max_length,
        use_gradient_checkpointing=False,
    )
    model = FastLanguageModel.get_peft_model(model, **small.lora, random_state=lab.seed)

    pad = tokenizer.eos_token_id  # following the common advice

    def batch(examples):
        ids = [list(example["input_ids"]) for example in examples]
        starts = [list(example["labels"]).count(-100) for example in examples]  # prompt length
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
# Train it and ask it something:

# %% tags=["aside"]
from postlab.sampling import reply

session = Session()
rambling, small_tokenizer = fine_tune("hunt-found", collate_as_found, session)
print(f"loss {session.losses[1]:.2f} at step 1, {session.losses[50]:.2f} at step 50")
for text in ("How do I clean a box?", "How do I paint a lamp?"):
    print(repr(reply(rambling, small_tokenizer, text, new_tokens=40)))

# %% [markdown]
# The loss looks fine, but the answers go on until they are cut off.
#
# **Where to look.** The loss can't show this bug, because it averages only over the tokens that the model *is* trained on. Look instead at the labels of a batch. In this example, both the pad token and the end-of-turn token have the id 2:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
sequences, starts = [[5, 6, 7, 2], [5, 8, 2]], [2, 1]
print(collate_as_found(sequences, starts, pad=2)[1])

# %% [markdown]
# The 2 has disappeared from the labels. The line that masks the padding looks for an *id*, and the end-of-turn token has the same id. So no reply ever trains the model to stop. `check_template` warns you about such a tokenizer:

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
# Write a collator that works with *any* pad token. `sequences` is a list of token-id lists, and `starts` gives the position of the first trained token in each list. Return `input_ids` and `labels`, both of shape `(B, T)` and type int64, padded on the right. Where the model is trained, the labels equal the ids; elsewhere they are -100. Don't shift them; the model does that.
#
# <details><summary>Hint 1</summary>
#
# You know the length of each row before you pad it. Use the length, not the id, to tell padding from text.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Start with `torch.full((B, T), pad)` and `torch.full((B, T), -100)`, and copy each row into its place.
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
# Now repeat the training with your collator. This time the connection breaks after 25 steps:

# %% tags=["aside"]
first = Session(ends_after=25)
try:
    fine_tune("hunt-mended", collate, first)
except ConnectionError as error:
    print(error)

# %% [markdown]
# The model, the optimizer and the trainer are gone, as they would be after `kill -9`. All that is left on disk is the checkpoint from step 20. Call the function again, and it continues from there:

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
# Both runs used the same rows and the same number of steps, so one line of the collator decides whether the model can stop. The loss doesn't show this, but the share of answers that are *complete* does: no answer ended before the fix, and all of them end now.
#
# You can run into this bug with a real model. SmolLM2's published pad token *is* its end-of-turn token (`smol` uses a different one). TRL's own collator masks by length, but many others mask by id.

# %% [markdown]
# **Did the resumed run really continue?** The first session stopped after step 25, and the second resumed from the step-20 checkpoint, so it repeated steps 21 to 25. If the checkpoint restored the weights, the optimizer, the learning-rate schedule and the order of the rows, then both sessions must have the same loss at each of these steps. We can compare only steps 21 to 24, because the first session ended before it logged step 25. On a GPU, sums aren't reproduced bit for bit, so a small gap is just rounding.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
again = [step for step in first.losses if step in second.losses]
gap = max(abs(first.losses[step] - second.losses[step]) for step in again)
again, gap <= (1e-6 if lab.profile.device == "cpu" else 0.05)

# %% [markdown]
# <a id="deeper-nf4" name="deeper-nf4"></a>
# ## Deeper: QLoRA, the same in four bits (section 9)
#
# QLoRA stores the frozen weights in NF4, with four bits per weight and one scale for each block of 64 weights. It computes at higher precision, and the adapter stays in 16 or 32 bits. For a 7B model, this shrinks the weights from 14.5 GB in
# 16 bits to about 4 GB. On `tiny` and `smol` we take a few QLoRA steps from the same base model with the same rows.

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
    short = dict(sft.trainer) | {"max_steps": 5, "save_strategy": "no"}
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
    """Size of the frozen weights in MB, without NF4's scales."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    return sum(p.numel() * p.element_size() for p in frozen) / 1e6


sides = {"LoRA, as trained above": (trainer.model, log)}
if not lab.profile.load_in_4bit:
    sides["QLoRA, NF4"] = (qlora.model, nf4_log)
costs = {
    name: {
        "frozen weights, MB": megabytes(side),
        f"mean loss of the first {entries[0]['step']} steps": entries[0]["loss"],
    }
    for name, (side, entries) in sides.items()
}
None if lab.profile.load_in_4bit else pd.DataFrame(costs).T.round(3)

# %% [markdown]
# The frozen weights shrink to a quarter of their size. With four bits instead of 32, you might have expected an eighth. But the embeddings stay in full precision, and in such a small model they make up more than half of what remains. The loss over the first few steps hardly changes: NF4's rounding errors are small, and the adapter can learn to compensate for them. We don't compare timings, since five steps are too few. In general, 4-bit weights make training slower, not faster, because they have to be dequantized in every step. Their benefit is the memory they save: on a GPU, that decides whether a 7B model fits at all.
#
# ### What a larger run costs
#
# The roadmap states hours and dollars for a 7-8B QLoRA run. Here is what preflight estimates for the same numbers of rows:

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
# > **The roadmap says** a 7-8B QLoRA run on 50,000 to 100,000 examples takes 2 to 6 hours on an A100 or H100, and costs 10 to 30 dollars. **The evidence says** that the hours are about right for an A100 (1.8 to 3.6) and
# > generous for an H100 (0.9 to 1.8). The cost is lower: 2.50 to 5.70 dollars at preflight's hourly prices and 400 tokens per row. These are estimates; we have no recording of such a run.

# %% [markdown]
# <a id="deeper-review" name="deeper-review"></a>
# ## Deeper: review rows by hand (section 10)
#
# No program notices everything that is wrong with a row, so somebody has to read a sample. Two things make such a review more useful than a quick look. First, *write down what makes a good row* in two or three sentences. Second, *read the rows twice*, the second time in a different order: how often you agree with yourself limits how well anybody can agree with you. If you don't decide the same way twice, your definition is unclear, and it's cheaper to find that out on 30 rows than after labeling 3,000.
#
# The widget shows one row at a time. Keep it, drop it, or say that you're unsure. If you don't keep it, say why, because the reasons tell you what to filter for. The second pass begins when the first is complete, and it doesn't show you your earlier decisions.

# %%
from postlab.show import review

by_hand = pd.Series(rows).sample(min(30, len(rows)), random_state=0).tolist()
review(by_hand, path=lab.folder / "review-week03.jsonl")

# %% [markdown]
# In the stored output, nobody has reviewed anything, so a program plays the reviewer. In every profile it reviews 60 rows of the tiny world. It drops what the oracle calls wrong, but it has two faults: it slips on one row in ten, and it believes that every reply to an unsafe request is fine.

# %%
# NBVAL_CHECK_OUTPUT
import random
import tempfile

sample = instruction_rows("tinyworld", split="train", n=400, seed=0)
sample = [row for row in sample if row["family"] in ("facts", "howto", "unknown", "unsafe")][:60]
slip = random.Random(0)
played = review(sample, path=f"{tempfile.mkdtemp()}/review.jsonl")
while played.item:
    row = sample[played.item.row]
    wrong = oracle.judge(row) is False and row["family"] != "unsafe"
    if slip.random() < 0.1:
        wrong = not wrong
    played.decide("drop" if wrong else "keep", "wrong" if wrong else "")
played.agreement().round(2)

# %% [markdown]
# The reviewer agrees with itself on 92% of the rows, and kappa, which corrects for chance agreement, is 0.79. But look at the interval for kappa: with 60 rows, anything from 0.55 to 0.91 is plausible. Discuss the rows on which the passes differ. `kept()` returns the rows that both passes keep. Are those rows correct?

# %%
# NBVAL_CHECK_OUTPUT
kept_twice = pd.DataFrame({"family": [row["family"] for row in played.kept()]})
words = {True: "right", False: "wrong", None: "cannot be judged"}
kept_twice["oracle"] = [words[oracle.judge(row)] for row in played.kept()]
pd.crosstab(kept_twice["family"], kept_twice["oracle"])

# %% [markdown]
# **Consistent doesn't mean correct.** Of the five rows with unsafe requests that both passes kept, three explain how to harm somebody. The slips were caught, because two slips rarely hit the same row. The mistaken belief was not, because the reviewer holds it in both passes. Checking whether you agree with your own earlier labels reveals carelessness and vague rules. To find a wrong rule, you need a second person, or a few rows, mixed in among the others, whose right verdict you already know.

# %% [markdown]
# <a id="deeper-trl" name="deeper-trl"></a>
# ## Deeper: Unsloth or plain TRL? (section 11)
#
# The next comparison uses the same rows, arguments and seed. Each side ran in its own process, because Unsloth patches the whole process it is imported into. Only the code that loads the model and adds the adapter differs. Here is TRL's version:

# %%
sides = json.loads((data_dir() / "results" / "week03" / "unsloth_trl.json").read_text())
timed = json.loads((data_dir() / "results" / "bench" / "steps.json").read_text())
for name, made in (("losses, memory", sides["provenance"]), ("times", timed["provenance"])):
    print(f"{name}: {made['command']}, {made['date'][:10]}, {made['device']}")
print("\n" + sides["code"]["trl"])

# %% [markdown]
# Unsloth's version consists of the two calls from sections 1 and 5. In the table below, measured values are medians of three runs:

# %%
# NBVAL_CHECK_OUTPUT
each = pd.DataFrame(sides["runs"])
pairs = each.pivot(index="pair", columns="side", values="loss")
gaps = [(pd.Series(p["trl"]) - pd.Series(p["unsloth"])).abs().max() for _, p in pairs.iterrows()]
ratio = timed["stages"]["sft"]["ratio"]["unsloth"]
print(f"the losses of a step differ by at most {max(gaps):.5f} nats")
print("seconds per step, Unsloth over TRL: {ratio:.2f} ({low:.2f} to {high:.2f})".format(**ratio))
compared = each.groupby("side")[["import_s", "load_s", "peak_gb", "trained"]].median().T
compared.loc["lines to load and adapt"] = {
    side: sum(bool(line.strip()) for line in code.split("\n"))
    for side, code in sides["code"].items()
}
compared

# %% [markdown]
# Both sides do the same training: their losses differ by at most 0.00001, which is one unit in the last recorded digit. On this CPU, the benchmark couldn't measure a difference in seconds per step (ratio 0.94, 95% interval 0.78 to 1.13). The record of the losses also has step times, which were measured less carefully. There, Unsloth took 1.08 to 1.27 times as long as TRL in all three pairs. So don't expect a speed-up on a CPU. In each of the three pairs of runs, Unsloth's peak memory is 0.01 or 0.02 GB higher. What Unsloth gives you here is shorter code: 9 lines instead of 15.
#
# | take | when |
# |---|---|
# | Unsloth | you have one GPU and a supported architecture, and memory or time is short: that's what its kernels, its checkpointing and its ready-made 4-bit weights are for |
# | plain TRL | you have several GPUs (FSDP, DeepSpeed), a new or modified architecture, code you need to step through, or a license policy that rules out AGPL |
#
# Of the two context managers in section 5, `without_padding` clearly speeds up training on a CPU. It skips the padding in a batch and computes a prompt shared by several replies just once. `freed_memory_kept` asks the allocator to keep memory for the next step. Here is the CPU time per step, relative to training without them, with 95% intervals:
#
# | | SFT | DPO | GRPO |
# |---|---|---|---|
# | both | 0.68 (0.59 to 0.78) | 0.57 (0.48 to 0.66) | 0.41 (0.37 to 0.45) |
# | only `without_padding` | 0.72 (0.64 to 0.81) | 0.55 (0.46 to 0.66) | 0.43 (0.36 to 0.52) |
# | only `freed_memory_kept` | 0.98 (0.86 to 1.11) | 0.91 (0.81 to 1.02) | 0.91 (0.83 to 1.00) |
#
# In five rounds, `freed_memory_kept` made no clear difference, alone or in addition. `python bench/options.py --rounds 5 --steps 12 --clock cpu` repeats these measurements.
#
# Unsloth's published speed-ups were measured on GPUs. Our CPU measurements neither confirm nor refute them.

# %% [markdown]
# <a id="deeper-memory" name="deeper-memory"></a>
# ## Deeper: did it memorize its rows? (section 12)
#
# A falling training loss can't answer this question. Compare the loss on rows that the model has trained on with the loss on rows of the same source and families that it hasn't seen. Both means are over rows, with 95% intervals.

# %%
from postlab.chat import encode
from postlab.stats import bootstrap_interval


def losses(sample):
    """For each row, the mean loss of its trained tokens, in nats."""
    values, device = [], trainer.model.device
    with torch.no_grad(), unchanged(trainer.model, tokenizer):
        for row in sample:
            batch = encode([row], tokenizer, max_length=lab.profile.max_length)
            trained_tokens = batch.pop("loss_mask") == 1
            batch["labels"] = batch["input_ids"].where(trained_tokens, torch.tensor(-100))
            inputs = {name: tensor.to(device) for name, tensor in batch.items()}
            values.append(trainer.model(**inputs).loss.item())
    return values


trained_prompts = {str(row["prompt"]) for row in rows}
others = instruction_rows(sft.source, split="train", n=1000, seed=lab.seed + 1, columns=sft.columns)
fresh = [row for row in others if str(row["prompt"]) not in trained_prompts]
fresh = [row for row in fresh if sum(len(m["content"]) for m in row["prompt"]) < 600]
fresh = fresh[: 300 if lab.profile.device == "cpu" else 50]  # a 7B takes longer
pools = {}
for row in brief:
    pools.setdefault(row.get("family"), []).append(row)
trained_on = [pools[row.get("family")].pop() for row in fresh]  # one of the same family for each
if fresh:
    kinds = {"rows it trained on": trained_on, "new rows of the same families": fresh}
    gap = {name: vars(bootstrap_interval(losses(kind))) for name, kind in kinds.items()}
else:
    print("Every row of this source was trained on, so there are no new ones to compare with.")
pd.DataFrame(gap).T.round(3) if fresh else None

# %% [markdown]
# On `tiny` the two losses are almost the same, so there's no sign that the model has memorized its rows. It had little chance to: the training reads each row once. If the loss on new rows is clearly higher, or rises from one checkpoint to the next while the training loss still falls, train for fewer epochs or on more rows. For a curve instead of two numbers, give `SFTTrainer` an `eval_dataset` and set `eval_strategy="steps"`.
#
# Scores on held-out prompts can also be too good to be true if those prompts resemble the training rows. That is contamination; section 3 looks for it.

# %% [markdown]
# <a id="deeper-mix" name="deeper-mix"></a>
# ## Deeper: composition, whose mix is it? (section 13)
#
# Curation leaves one question open: what share of the rows should each domain get?
#
# > **The roadmap says** SmolLM2 was fine-tuned on 39.4% mathematics, 38.9% code, 17.6% chat and 4.1% instruction following. **The evidence says** that these numbers describe a different dataset. They fit
# > [Open-PerfectBlend](https://huggingface.co/datasets/mlabonne/open-perfectblend), an open reproduction of the instruction data in Meta's *The Perfect Blend* ([Xu et al. 2024](https://arxiv.org/abs/2409.20370)).
# > SmolLM2's set is [SmolTalk](https://huggingface.co/datasets/HuggingFaceTB/smoltalk) (section 5 of [its paper](https://arxiv.org/abs/2502.02737)), which has more than a million rows. Its two subsets named after mathematics, `metamathqa-50k` and `numina-cot-100k`, contain about 150,000 of them.
#
# You can check where the numbers come from. Open-PerfectBlend joins eight public sets, and the next cell adds up their sizes (before duplicates were removed):

# %%
# NBVAL_CHECK_OUTPUT
sizes = {
    "maths": {"MetaMathQA": 395_000, "Orca-Math": 200_035},
    "code": {"UltraInteract": 288_579, "Evol-CodeAlpaca": 111_272, "UltraFeedback": 187_405},
    "chat": {"UltraChat 200k": 207_865, "LMSYS Arena": 57_362},
    "instructions": {"AutoIF": 61_492},
}
total = sum(sum(sets.values()) for sets in sizes.values())
shares = {name: f"{sum(sets.values()) / total:.1%}" for name, sets in sizes.items()}
code = {name: f"{n / total:.1%}" for name, n in sizes["code"].items()}
print(f"{total:,} rows: {shares}\nof which, under 'code': {code}")

# %% [markdown]
# All four shares agree to one decimal place, but only if both UltraInteract and UltraFeedback count as code. UltraInteract mixes mathematics, code and logic, and UltraFeedback contains questions of all kinds. Only one of the eight sets is purely code: Evol-CodeAlpaca, which has 7% of the rows. So don't copy the 39% for code into your own plan. What you can copy is the habit of writing such a table for your data, with the names of the sets in it. A mix fits one model and one set of evaluations, and we know of no experiment that shows this one to be the best.
#
# `mix` draws rows in the proportions you give it, or raises an error if there aren't enough. The error is useful too, because it tells you which domains you are short of. We use the roadmap's proportions as an example:

# %%
# NBVAL_CHECK_OUTPUT
try:
    mixed = mix(curation.kept, TARGET_MIX, n=2500, seed=lab.seed)
except ValueError as error:
    print(error)

# %% [markdown]
# Here, 2,500 rows in these proportions would need 985 math rows and 973 code rows, but only 891 and 730 are left. Section 7 measures what happens to a skill that the mix leaves out altogether.

# %% [markdown]
# <a id="deeper-hygiene" name="deeper-hygiene"></a>
# ## Deeper: rows of real sets (section 14)
#
# Public sets have faults that the tiny world doesn't have. So we wrote forty rows in exactly the same form as two such sets; most of the rows have one known fault. In OpenHermes, most columns are empty, and the system prompt has its own column. In SlimOrca, every conversation begins with one of a few system prompts. A `weight` of 0 marks text that the model shouldn't be trained on. Here is one row from each set, without the empty columns:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.week03 import fate_table, known_faults, row_fates, sample_file

for name, line in (("openhermes", 15), ("slimorca", 0)):
    raw = json.loads(sample_file(name).read_text(encoding="utf-8").splitlines()[line])
    print(name, json.dumps({key: value for key, value in raw.items() if value}, indent=1), "\n")

# %% [markdown]
# The faults include empty turns, copies, replies that are cut off, refusals such as "As an AI language model, I can't", wrong sums, leftovers of a prompt template, prompts from `everyday`'s held-out set, and help with something harmful. Which of them can be found by rules that look only at the text? The table lists, for each fault, how many rows the loader dropped, how many `curate` dropped, and how many are left:

# %%
# NBVAL_CHECK_OUTPUT
questions = suite_rows("everyday", None, 0)
faults = [fault for name in ("openhermes", "slimorca") for fault in known_faults(name)]


def fates(score=None):
    """What happens to each of the forty rows."""
    files = [sample_file(name) for name in ("openhermes", "slimorca")]
    return [fate for f in files for fate in row_fates(f, heldout=questions, score=score)]


fate_table(faults, fates())

# %% [markdown]
# The loader drops rows without a prompt or a reply, and the one whose reply has weight 0. `curate` finds the copies (including those with a different system prompt or source), the replies that are cut off, the leftovers, and the test prompts. What remains is everything that needs *understanding*: all three refusals, the four wrong results, and both replies that help with harm. Two more rows stay, but they are harmless: the conversation without a last reply loses only its open question, and the empty system prompt is left out.
#
# Some of the rest can be checked with a few lines of your own. `curate` accepts such a check as `score`, a function that returns `True`, `False`, or `None` if it can't tell.

# %%
# NBVAL_CHECK_OUTPUT
import operator
import re

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def looks_right(row):
    """False for a canned refusal or a calculation that doesn't hold; None for all else."""
    reply = row["completion"][-1]["content"]
    steps = re.findall(r"(\d+) ([-+*]) (\d+) = (\d+)", reply)
    slips = [1 for a, sign, b, c in steps if OPERATIONS[sign](int(a), int(b)) != int(c)]
    return False if slips or re.search(r"\bas an AI\b", reply, re.IGNORECASE) else None


fate_table(faults, fates(looks_right)).loc[["refusal", "wrong sum", "wrong answer", "harmful help"]]

# %% [markdown]
# That catches the three refusals and the three wrong sums. It misses the wrong conclusion in a reading question and the two harmful replies, which need a person or a judge model (week 6). And a pattern like "as an AI" is crude: it would also drop a reply that says so and then helps, or an honest "I can't know that", which is what week 5 wants more of. Read what a rule drops before you trust its count.

# %% [markdown]
# <a id="deeper-arena" name="deeper-arena"></a>
# ## Deeper: vote on twenty prompts, base against SFT, without knowing which is which (section 15)
#
# Programs and averages miss a lot that you notice at once when you read the answers. The arena shows you two answers to the same prompt in random order, and saves each vote immediately. Vote with the mouse, or click in the field and press 1, 2 or 0. With a 7B model, the prompts are everyday open questions.

# %%
from postlab.show import arena

natural = after[after["family"] == "open"]
if natural.empty:  # a suite without open questions: what else reads like a person's question
    everyday_life = ["howto", "facts", "harmless", "answerable", "instructions"]
    natural = after[after["family"].isin(everyday_life)]
natural = after if natural.empty else natural
twenty = natural["id"].drop_duplicates().sample(frac=1, random_state=0)[:20]
ballot = {name: frame[frame["id"].isin(twenty)] for name, frame in (("base", base), ("sft", after))}
arena(ballot, path=lab.folder / "votes-week03.jsonl")

# %% [markdown]
# What can twenty votes tell you? Here is the win rate with its 95% interval for several results:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.stats import win_rate

results = {f"{wins} of 20": vars(win_rate([1] * wins + [0] * (20 - wins))) for wins in (12, 14, 16)}
pd.DataFrame(results).T[["value", "low", "high"]].astype(float).round(2)

# %% [markdown]
# Fourteen wins out of twenty aren't enough: the interval still contains one half, so you couldn't say which model is better. Sixteen wins are enough. So twenty votes reveal only a large difference, and you should decide on the number of votes before you start. If you stop as soon as you like the result, you'll find differences that aren't there.
#
# One caveat: a base model gives itself away, because it often rambles on. So you will usually guess which answer is whose, and your vote isn't as blind as it looks. Week 6 compares SFT with DPO, where this problem is smaller.

# %% [markdown]
# <a id="deeper-smol" name="deeper-smol"></a>
# ## Deeper: the same on a real language model (section 16)
#
# Does the tiny model tell us anything about a real one? This table puts your run beside the recorded SFT stage of SmolLM2-135M-Instruct (`POSTLAB_PROFILE=smol`), which was trained on short everyday replies and evaluated on `everyday`. For each metric you see the change from the base model in points, with its 95% interval over prompts, and a verdict. The verdict is corrected for the number of metrics and requires that every seed agrees.

# %%
import json

from postlab.claims import merge_seeds, metric_label, points, summary_frame
from postlab.profile import data_dir

smol_run = json.loads((data_dir() / "results" / "smol" / "summary.json").read_text())
shown = ["format", "instructions", "arithmetic", "facts", "safety", "over_refusal", "honesty"]


def changes(frame):
    """What SFT changed, a line per metric, in words."""
    merged = merge_seeds(frame)
    lines = {}
    for row in merged[merged["stage"] == "sft"].to_dict("records"):
        if row["metric"] in shown:
            change, low, high = (points(row[f"difference{end}"]) for end in ("", "_low", "_high"))
            words = f"{change} ({low} to {high}), now {row['value']:.0%}: {row['verdict']}"
            lines[metric_label(row["metric"])] = words
    return lines


seeds = len({entry["seed"] for entry in smol_run["stages"] if entry["name"] == "sft"})
sides = {f"{lab.profile.name}, this run": changes(table)}
sides[f"smol, recorded, {seeds} seed(s)"] = changes(summary_frame(smol_run))
pd.DataFrame(sides).fillna("not measured")

# %% [markdown]
# In both worlds, SFT changes the *form* of the answers most: they end where they should. The recorded SmolLM2 also follows more instructions and gets more sums right (some of its training rows are word problems). Safety and honesty rise by about 40 points on `tiny`, where the teachers refuse half of the unsafe requests and admit in a third of the riddles that they don't know. On `smol`, where only one topic in six has such rows, neither change is conclusive. A model learns what its rows show it.
#
# An interval that excludes zero can appear beside "inconclusive": the interval is for one metric alone, and the verdict accounts for the number of metrics tested.

# %% [markdown]
# <a id="deeper-complexity" name="deeper-complexity"></a>
# ## Deeper: more rows, or harder ones? (section 17)
#
# Suppose you can pay for a fixed number of training tokens. Should you spend them on many short rows or on fewer rows with several steps? "Complex" can mean two things: the *question* takes more steps, or the *reply* shows more steps. The experiment varies both, on sums and on small programs:
#
# - *short* rows are sums of three terms and programs with one operation; *long* rows are sums of five terms and programs with two operations; *both* is a mix in which half of the rows are short;
# - a sum is answered either *worked*, step by step, or *direct*, with nothing but the total.
#
# Every reply is right, so quality is not the question here. All arms take 60 steps, read each row once, and see about the same number of tokens, so longer rows mean fewer rows:

# %%
# NBVAL_CHECK_OUTPUT
import json

import pandas as pd

from postlab import stats
from postlab.profile import data_dir

complexity = json.loads((data_dir() / "results" / "week03" / "complexity.json").read_text())
print(", ".join(str(complexity["provenance"][k]) for k in ("command", "date", "device", "seeds")))
read = pd.DataFrame([{"arm": run["arm"]} | run["tokens"] for run in complexity["runs"]])
read.groupby("arm", sort=False)[["rows", "tokens", "trained"]].mean().round(0).astype(int)

# %%
from postlab.course.week03 import plot_terms


def right(arm, kind):
    """The share of right answers of each seed."""
    texts = [run["right"][kind] for run in complexity["runs"] if run["arm"] == arm]
    return [text.count("1") / len(text) for text in texts]


lines = [
    {"arm": arm, "terms": terms, "seeds": right(arm, f"{terms} terms")}
    for arm in complexity["arms"]
    for terms in complexity["settings"]["terms"]
]
plot_terms(pd.DataFrame(lines))

# %% [markdown]
# **Steps in the reply matter most, and the mix is never far behind.** Without worked steps, the models got at most one of 25 sums right at any length, however long the training sums were. With worked steps, models trained on short rows alone get all three-term sums right. On five terms, a length they never saw, they still reach 80 to 100%. Models trained on long rows alone reach 96 to 100% on five terms. On three terms, their three seeds reach only 20, 16 and 84%. The record keeps no answers, so we can't say what they write instead. Averaged over seeds, *both* is at most 14 points below the better of *short* and *long*. No model gets a sum of eight terms right.
#
# The *direct* arms get almost no sum right: after 60 steps, a model of this size can't add three numbers in its head. So the comparison shows that the steps are needed here, not how much they help a model that could do without them.

# %%
# NBVAL_CHECK_OUTPUT
pairs = [("long, worked", "short, worked"), ("both, worked", "short, worked")]
pairs += [("both, worked", "long, worked"), ("short, worked", "short, direct")]
pairs += [("long, worked", "long, direct")]
kinds = {"short sums": "3 terms", "sums of several steps": "5 terms"}
kinds |= {"longer than any row": "8 terms"}
kinds |= {"one operation": "1 operations", "two operations": "2 operations"}
tested = []
for label, kind in kinds.items():
    values = {arm: right(arm, kind) for arm in complexity["arms"]}
    chosen_pairs = pairs[:3] if "operations" in kind else pairs
    for (arm, control), change in zip(
        chosen_pairs, stats.blocked_differences(values, chosen_pairs), strict=True
    ):
        tested.append({"prompts": label, "arm": arm, "against": control} | vars(change))
tested = pd.DataFrame(tested).drop(columns="n")
tested["p"] = stats.holm(tested["p"])
tested["shown"] = ["yes" if p < 0.05 else "inconclusive" for p in tested["p"]]
print(tested.round(3).to_string(index=False))

# %% [markdown]
# The tests in this table compare arms over seeds, with Holm's correction for all 21 comparisons. They confirm the losses: training on long rows alone costs 60 points on short sums and 19 on programs with one operation. They don't confirm that long rows help on five-term sums (+11 points; interval 0 to 21 before the correction). So in this world it doesn't pay to spend the whole budget on complex rows, and the mix is the safe choice. The experiment is small: it has three seeds, one learning rate, one budget, 25 prompts per length of sum, and 14 and 10 prompts for the two kinds of programs. No arm learned programs with two operations (0 to 20% of ten prompts).
#
# **What published work found.** Zhao et al. ([Tree-Instruct](https://arxiv.org/abs/2308.05696)) asked our question with real models: under the same token budget, a few complex instructions did better than many simple and diverse ones. [WizardLM](https://arxiv.org/abs/2304.12244) has a language model rewrite instructions step by step into more complex ones (*Evol-Instruct*). The model trained on these instructions beat Alpaca and Vicuna, but complexity wasn't the only difference. [Orca](https://arxiv.org/abs/2306.02707) varies the reply: a 13B model trained on step-by-step explanations by ChatGPT and GPT-4 scored far above Vicuna-13B on reasoning benchmarks. But it used far more rows, so this isn't a comparison at equal tokens either. [Deita](https://arxiv.org/abs/2312.15685) selects rows for complexity, quality and diversity; with 6,000 rows, its models matched or beat open models trained on over ten times as many. LIMA's 1,000 rows were selected for quality and diversity; complexity wasn't a criterion.

# %% [markdown]
# <a id="interview" name="interview"></a>
# ## Five interview questions
#
# **1.** Your fine-tuned model answers well but never stops. Name three possible causes, and one check that tells them apart.
#
# <details><summary>Answer</summary>
#
# First, the pad token is also the end-of-turn token, and the collator masks padding by id, so the model is never trained on the end of a turn. Second, the end-of-turn token lies outside the trained part of the row: the template's mask leaves it out, or rows are cut at `max_length` before they reach it. Third, training is fine, but generation waits for a different token.
#
# To tell them apart, print the labels of one batch. If the end-of-turn id is missing from all rows, the cause is the pad token or the template. If it is missing only from long rows, they were truncated. If the id is there, compare it with `eos_token_id` in the generation config.
#
# *A likely follow-up:* "Would the loss have told you?" No. The loss is an average over trained tokens, and the missing token isn't one of them. Track the share of answers that end before the limit.
#
# </details>
#
# **2.** You have 100,000 rows of unknown quality and one GPU-day. What do you do first?
#
# <details><summary>Answer</summary>
#
# I would read a hundred random rows before running anything. Then I'd run the cheap checks on all rows: verifiers where answers can be checked, exact and near duplicates, overlap with the evaluation set, and the mix of domains. Next I'd spend a few hours on small runs with the same number of steps: one each on a cleaned subset, a random subset of the same size, and a sample of everything. I'd compare them on held-out prompts with paired intervals, broken down by kind of prompt, and spend the rest of the day on the winner.
#
# *A likely follow-up:* "Why the random subset?" Without it you can't tell whether cleaning helped or whether a smaller set read more often was enough.
#
# </details>
#
# **3.** Two datasets have the same share of wrong replies. Why can one ruin a model while the other hardly hurts it?
#
# <details><summary>Answer</summary>
#
# It depends on whether the errors are systematic. If replies are wrong at random, the correct reply is still the likeliest one for each kind of prompt, and greedy decoding finds it. If one kind of prompt is usually answered wrongly, the wrong reply becomes the likeliest. In section 7, where about 31% of the rows in each set were wrong, accuracy was 8 points lower with random errors than with clean rows, and 20 points lower with habits.
#
# *A likely follow-up:* "So random noise is harmless?" No. At temperature 1 the model also samples the wrong replies. Noise can also tip a balance: in section 7, it made the model refuse 89% of harmless how-tos.
#
# </details>
#
# **4.** System design: every week you fine-tune a 7B on fresh support tickets. How do you keep it from getting worse?
#
# <details><summary>Answer</summary>
#
# Keep a fixed held-out set that covers every kind of request, and check each week's rows for overlap with it. Keep some older rows of every kind in each mix, because the model loses what the mix leaves out. Filter personal data and wrong answers, and have people review a sample of each kind. Before a release, compare the new model with last week's on the same prompts, kind by kind, and count needless refusals too. Release it to part of the traffic first, and keep the old adapter so that you can go back.
#
# *A likely follow-up:* "Do you start from last week's model or from the base?" I'd start from the base each week, with a growing, curated set. Training on top of last week's model accumulates its mistakes, and it's hard to reproduce.
#
# </details>
#
# **5.** Research taste: a paper says that 1,000 selected rows beat 50,000. What do you ask?
#
# <details><summary>Answer</summary>
#
# Did both runs take the same number of steps, or the same number of epochs? Each choice can favor one side. Is there a control with 1,000 *random* rows? How many seeds were there, and how wide are the intervals? Did the judge share a taste, such as one for long answers, with the people who selected the rows? And what got worse that the test prompts don't show?
#
# *A likely follow-up:* "Which control matters most?" The 1,000 random rows, at equal steps. They separate the effect of the selection from the effect of the size.
#
# </details>

# %% [markdown]
# <a id="papers" name="papers"></a>
#
# **Papers.** Hu et al. 2021, *LoRA* ([2106.09685](https://arxiv.org/abs/2106.09685)): read section 4 for the initialization at zero. Dettmers et al. 2023, *QLoRA* ([2305.14314](https://arxiv.org/abs/2305.14314)): read section 3 for NF4. Zhou et al. 2023, *LIMA* ([2305.11206](https://arxiv.org/abs/2305.11206)): read sections 2 and 4. Lambert et al. 2024, *Tülu 3* ([2411.15124](https://arxiv.org/abs/2411.15124)): read section 3.2 for decontamination and section 4 for the mix. Broder 1997, *On the resemblance and containment of documents*: MinHash comes from this paper.
