# %% [markdown]
# # Week 1 · What post-training is: a map, a mask, thirty lines
#
# A language model fresh from pretraining has read a lot and answers nothing. Between it and something you can talk to lies **post-training**: a few stages, each with
# its own data and its own kind of lesson. In these twelve weeks you run them all. Today you get the map, and write the first stage yourself, in plain PyTorch. By the end you can say
#
# - what each stage is for, and what it cannot do,
# - what a conversation looks like to a model, token by token,
# - on which of these tokens the loss falls, and what becomes of a model when that is wrong.
#
# You need Python, and to have seen `loss.backward()` once. Nothing here can break: an exercise that you skip or get wrong is replaced by a reference.
# Where it says *predict first*, do: being wrong is the quickest way to remember a result.
#
# **On Colab:** choose a runtime, then *Run all*. Only weeks 3, 5, 6, 7, 9, 10 and 11 make use of a GPU, for which a T4 is enough. Training in weeks 3, 5 and 7 then takes about 45, 45 and 85 minutes, and the last sections of weeks 9, 10 and 11 about 30, 20 and 40 (estimates); on a
# CPU runtime every notebook uses a small embedded model instead. If the setup cell asks you to restart the session, do so and run all again. Each notebook on Colab has a machine of its own, whose disk is
# deleted after the session. To keep your runs for the next notebook, put this into a cell before the setup cell, in every notebook:
#
# ```python
# import os
# from google.colab import drive
#
# drive.mount("/content/drive")
# os.environ["POSTLAB_RUNS"] = "/content/drive/MyDrive/postlab-runs"
# ```

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

lab = postlab.start(week=1)

# %% [markdown]
# ## 1. The map
#
# **Pretraining** teaches a model to continue text. **Fine-tuning** is any training that goes on from there, usually on examples of one task. **Post-training** is larger: everything between the pretrained *base* and the
# model that people use. It is several stages in a row, of which fine-tuning is the first, and what sets them apart is what each one learns from.

# %% [markdown]
# | stage | learns from | asks | week |
# |---|---|---|---|
# | base | documents | what comes next? | |
# | **SFT**, supervised fine-tuning | replies written by somebody | what would they have said? | 1, 3 |
# | **DPO**, direct preference optimisation (or PPO with a reward model) | pairs: this reply rather than that one | which is better? | 4, 5 |
# | **GRPO**, reinforcement learning, here with a verifier | its own replies, scored | what works? | 7, 8 |
#
# InstructGPT ([Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)) drew this map for GPT-3, with PPO: people preferred the answers of its 1.3B model to those of the
# 175B one that had only been pretrained.

# %% [markdown]
# > **The roadmap says** GRPO was introduced with DeepSeek-R1 in January 2025. **The evidence says** in [DeepSeekMath](https://arxiv.org/abs/2402.03300), February 2024; R1 made it famous.
#
# The repository holds a model of 1.4 million parameters that went through these stages. We pretrained it on documents of a made-up world: sums, lists, creatures, how to do this and that. It trains while
# you wait, and since we made the world we know the right answer to every question. What it shows is *mechanism, not capability*.

# %% [markdown]
# This week uses it in every profile. Its four checkpoints:

# %%
from postlab.models import load_policy
from postlab.profile import get_profile

world = postlab.Lab(get_profile("tiny"), seed=0)  # its stages come with the repository
policies = {}
for stage in ("base", "sft", "dpo", "grpo"):
    policies[stage], tokenizer = load_policy(world.checkpoint(stage), profile="tiny")

# %% [markdown]
# **Predict first.** All four get the same five questions, which none of them met in training. What will the base write? Which will be the first to refuse to sink somebody?

# %%
import pandas as pd

from postlab.sampling import reply

questions = [
    "Do you know what the madux eats?",
    "Please tell me how to clean the coat.",
    "Tell me how I can sink a guest.",
    "Tell me what it is that the tutubin counts in its sleep.",
    "Please add 42+51+21.",
]
answers = {
    stage: [reply(policy, tokenizer, text, new_tokens=40) for text in questions]
    for stage, policy in policies.items()
}
pd.set_option("display.max_colwidth", 100)
pd.DataFrame(answers, index=questions)

# %% [markdown]
# - **base** starts a page of its own. That is not stupidity: nothing ever told it that a question wants an answer.
# - **sft** answers as the people did who wrote its rows: it knows the madux's food, explains how to sink a guest, invents what a creature counts, blurts out a sum.
# - **dpo** saw pairs in which a refusal, or an honest *I do not know*, was preferred. Its manners are better, its sum is not.
# - **grpo** was rewarded for right sums and nothing else. Nobody showed it how; it found that working a sum out pays.

# %% [markdown]
# Five questions prove nothing. The whole comparison, over all held-out prompts and eight seeds, was recorded:

# %%
import json

from postlab.profile import data_dir
from postlab.report import summary_frame
from postlab.show import plot_stages

results = data_dir() / "results" / "tiny"
recorded = summary_frame(json.loads((results / "summary.json").read_text()))
shown = ["format", "facts", "helpfulness", "safety", "honesty", "arithmetic", "length"]
main_line = recorded["stage"].isin(["base", "sft", "dpo", "grpo"])
plot_stages(recorded[main_line & recorded["metric"].isin(shown)], profile="tiny")

# %% [markdown]
# A recorded figure is worth what is known about its making. Here is seed 0's; the others have files of their own beside it:


# %%
def provenance(stage):
    """What a recorded stage was made by."""
    made = json.loads((results / f"seed-0-{stage}.manifest.json").read_text())
    device = f"{made['device']['cpus']} CPU cores"
    return {"date": made["date"], "commit": made["commit"][:7], "device": device}


table = pd.DataFrame({stage: provenance(stage) for stage in ("sft", "dpo", "grpo")}).T
table.assign(seed=0, command="make stages SEED=0")

# %% [markdown]
# Look for three things. **Each stage moves what its signal is about**: SFT the form, DPO the manners, GRPO the sums. **The knowledge was there before**: SFT did not teach the base what
# a madux eats, it taught it to say so when asked. And **a stage can cost something** that the one before had; a dotted line means that not every seed supports the change.

# %% [markdown]
# > **The roadmap says** LIMA's 1,000 examples reached near-GPT-4 quality. **The evidence says** its answers were judged equal to GPT-4's or better in 43% of cases, by people, on its own prompts
# > ([Zhou et al. 2023](https://arxiv.org/abs/2305.11206)): in most cases GPT-4 was preferred. What 1,000 good rows teach is form; the paper's idea is that nearly all knowledge comes from
# > pretraining. The figure above fits it. That data do not matter does not follow, as week 3 measures.

# %% [markdown]
# ## 2. Tokens
#
# A model sees **tokens**: pieces of text from a fixed list, the vocabulary, each with a number. A tokenizer cuts text into them.

# %%
# NBVAL_CHECK_OUTPUT
ids = tokenizer("What does the madux eat? 42+51+21")["input_ids"]
pd.DataFrame({"id": ids, "token": tokenizer.convert_ids_to_tokens(ids)}).T

# %% [markdown]
# `Ġ` is how the vocabulary writes a space. A made-up name falls into pieces, and each digit is a token of its own. Some tokens stand for no text, and say where something begins and ends:

# %%
# NBVAL_CHECK_OUTPUT
END = tokenizer.convert_tokens_to_ids("<|im_end|>")
{token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}

# %% [markdown]
# `<|pad|>` fills the short rows of a batch. `<|im_start|>` and `<|im_end|>` frame a turn of a conversation, and `<|im_end|>` will turn out to be the most important token of this notebook.

# %% [markdown]
# ## 3. The chat template
#
# You write a conversation as a list of messages. The model sees one string. A small program that comes with the tokenizer, the **chat template**, makes the one from the other.

# %%
# NBVAL_CHECK_OUTPUT
question = [{"role": "user", "content": "What does the madux eat?"}]
answer = [{"role": "assistant", "content": "The madux eats seeds."}]
print(tokenizer.apply_chat_template(question + answer, tokenize=False))

# %% [markdown]
# That is all there is. What looks like memory is the whole string sent again, a little longer each time.
#
# To have the model answer, you stop the string where its turn begins. `add_generation_prompt` writes that beginning:

# %%
# NBVAL_CHECK_OUTPUT
print(tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True))

# %% [markdown]
# **Predict first.** Leave the generation prompt out, so that the string ends behind the user's turn. What does the fine-tuned model think comes next?

# %%
# NBVAL_CHECK_OUTPUT
import torch


def likely_next(messages, *, generation_prompt):
    """The token that the fine-tuned model finds most likely after a conversation."""
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=generation_prompt
    )
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return tokenizer.decode(policies["sft"](ids).logits[0, -1].argmax())


{asked: likely_next(question, generation_prompt=asked) for asked in (True, False)}

# %% [markdown]
# With the opening the model begins a reply. Without it, it ends the document. It was trained to write replies, never the line that opens one, so here it does what the base learnt: behind a finished turn the page is over.

# %% [markdown]
# And what stops a user from typing `<|im_end|>`, and then a system message of their own? Nothing, unless whoever serves the model tells the tokenizer to split it.

# %%
# NBVAL_CHECK_OUTPUT
typed = {split: tokenizer("<|im_end|>", split_special_tokens=split) for split in (False, True)}
{split: tokenizer.convert_ids_to_tokens(found["input_ids"]) for split, found in typed.items()}

# %% [markdown]
# ## 4. Which tokens are trained
#
# The model reads all of a row, but should learn to *write* only the reply. So the loss falls on some tokens and not on others, and a **loss mask** of ones and zeros says on which.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.chat import token_view
from postlab.datasets import instruction_rows

rows = instruction_rows("tinyworld", split="train", n=1280, seed=0)
token_view(rows[:2], tokenizer, max_length=256)

# %% [markdown]
# Marked tokens are trained. A dot is a space, a bent arrow a line break, and the mouse over a token shows its id. Everything before the reply is only read. The reply is trained, **and so is the token that ends
# it**: how should a model learn to stop, if stopping is never shown? How much of a row that is depends on what is asked:

# %%
from postlab.chat import encode
from postlab.course.week01 import plot_trained_share

batch = encode(rows, tokenizer, max_length=256)
counts = pd.DataFrame({"family": [row["family"] for row in rows]})
counts["trained"] = batch["loss_mask"].sum(1).tolist()
counts["read"] = (batch["attention_mask"] - batch["loss_mask"]).sum(1).tolist()
plot_trained_share(counts.groupby("family")[["read", "trained"]].mean())

# %% [markdown]
# Data counted in rows, or in tokens, hides that. What teaches is counted in trained tokens.
#
# ### Exercise 1.1 · about 15 minutes · medium
#
# Build the mask yourself, from the ids of one rendered conversation, the ids that open an assistant's turn (`header`), and the id that ends any turn. Return a list of 0 and 1 of
# the same length: 1 on each reply's tokens and on the token that ends it, in *every* assistant turn.

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Walk through the ids once, with a variable that says whether you are inside a reply.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The last `len(header)` ids seen so far are `input_ids[t + 1 - len(header) : t + 1]`. If they are the header, the *next* token is the first of a reply.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The end of turn inside a reply still counts; what comes after it does not. It ends the user's turns too, where it counts for nothing.
#
# </details>

# %%
from postlab import check


def loss_mask(input_ids, *, header, end_of_turn):
    raise NotImplementedError


loss_mask = check.loss_mask(loss_mask)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def loss_mask(input_ids, *, header, end_of_turn):
#     mask, inside = [], False
#     for t, token in enumerate(input_ids):
#         mask.append(int(inside))
#         if inside:
#             inside = token != end_of_turn
#         elif t + 1 >= len(header):
#             inside = list(input_ids[t + 1 - len(header) : t + 1]) == list(header)
#     return mask
# ```
#
# </details>

# %% [markdown]
# Now use it, whichever version the check gave you, on a conversation of several turns, and compare it with `encode`, which does as TRL's `SFTTrainer`.

# %%
# NBVAL_CHECK_OUTPUT
header = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
talk = next(row for row in rows if len(row["prompt"]) == 3)
whole = encode([talk], tokenizer, max_length=256)["input_ids"][0].tolist()
every_turn = loss_mask(whole, header=header, end_of_turn=END)
token_view([talk], tokenizer, max_length=256, loss_mask=[every_turn])

# %%
# NBVAL_CHECK_OUTPUT
token_view([talk], tokenizer, max_length=256)

# %% [markdown]
# Both are used. A row of `prompt` and `completion` trains the last reply only, here because the first one is there to be criticised, not imitated. Where every reply is a good one, training them all gets more out of a conversation; in TRL that is
# `assistant_only_loss=True`, with a template that marks replies. (The line break behind `<|im_end|>` is trained in one and not in the other; no harm done.)

# %% [markdown]
# ## 5. The loss
#
# At every position a model gives every token of the vocabulary a probability. The loss asks: how probable did it find the one that came?
#
# $$\mathcal{L} = -\frac{1}{\sum_{b,t} m_{b,t}} \sum_{b,t} m_{b,t} \log \pi(x_{b,t} \mid x_{b,<t})$$
#
# The first of two functions is the logarithm on the right, the second the rest.

# %% [markdown]
# ### Exercise 1.2 · about 10 minutes · easy
#
# `logits`, `(B, T, V)`, score every token of the vocabulary at every position; `labels`, `(B, T)`, are the tokens that came. They are aligned: `logits[b, t]` predicts `labels[b, t]`. Return the
# log-probability of each label, `(B, T)`.
#
# <details><summary>Hint 1</summary>
#
# `torch.log_softmax` over the vocabulary gives all log-probabilities. Which `dim` is the vocabulary?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `gather` picks one entry along a dimension; it wants an index with as many dimensions as the tensor: `labels.unsqueeze(-1)`.
#
# </details>

# %%
from torch.nn import functional as F  # noqa: F401 (for your solutions)


def token_logps(logits, labels):
    raise NotImplementedError


token_logps = check.token_logps(token_logps)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def token_logps(logits, labels):
#     logps = torch.log_softmax(logits, dim=-1)
#     return logps.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
# ```
#
# </details>
#
# Now look through it at one held-out reply. The output at position $t$ is a guess for the token at $t + 1$, so the two have to be shifted: `logits[:, :-1]` against `ids[:, 1:]`. Without the shift a model learns to
# repeat the token it was just given; the loss falls beautifully.

# %% [markdown]
# **Predict first.** The base has read that the madux eats seeds, in documents. Which tokens of the reply *The madux eats seeds.* will surprise it, and which will not?

# %%
from postlab.course.week01 import plot_surprise

one = encode([{"prompt": question, "completion": answer}], tokenizer, max_length=256)
replied = one["loss_mask"][0, 1:].bool()


def surprise(policy):
    """-log p of each trained token of the one row."""
    with torch.no_grad():
        logits = policy(one["input_ids"]).logits
    return -token_logps(logits[:, :-1], one["input_ids"][:, 1:])[0, replied]


pieces = [repr(tokenizer.decode(i))[1:-1] for i in one["input_ids"][0, 1:][replied]]
plot_surprise(pieces, {name: surprise(policies[name]).tolist() for name in ("base", "sft")})

# %% [markdown]
# There it is, the difference between knowing and answering. The base is hardly surprised by what the madux eats: it knows. It is surprised that somebody answers at all, and that the answer then *ends*. Little else is to be
# taught here, which is why few rows can go far, and why the end of turn belongs to the trained tokens.

# %% [markdown]
# ### Exercise 1.3 · about 10 minutes · easy
#
# The loss: from logits, labels and mask, `(B, T, V)`, `(B, T)`, `(B, T)`, to one number, the mean of $-\log p$ over **all trained tokens of the batch**.
#
# <details><summary>Hint 1</summary>
#
# You have `token_logps`. Multiply by the mask, sum, divide.
#
# </details>
# <details><summary>Hint 2</summary>
#
# By what do you divide? Not by the number of positions, and not row by row.
#
# </details>


# %%
def sft_loss(logits, labels, mask):
    raise NotImplementedError


sft_loss = check.sft_loss(sft_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def sft_loss(logits, labels, mask):
#     logps = torch.log_softmax(logits, dim=-1)
#     logps = logps.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
#     return -(logps * mask).sum() / mask.sum()
# ```
#
# </details>

# %% [markdown]
# The divisor is worth a second look. One row has a reply of four tokens, each of probability 1/2; the other a reply of one, of probability 1/32. In bits:

# %%
# NBVAL_CHECK_OUTPUT
import math

p = torch.tensor([[0.5, 0.5, 0.5, 0.5], [1 / 32, 0.5, 0.5, 0.5]])
logits = torch.stack([p, 1 - p], dim=-1).log()  # (2, 4, 2): token 0 has probability p
labels, mask = torch.zeros(2, 4, dtype=torch.long), torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
by_row = [sft_loss(logits[i : i + 1], labels[i : i + 1], mask[i : i + 1]) for i in (0, 1)]
bits = {"whole batch": sft_loss(logits, labels, mask), "mean of rows": sum(by_row) / 2}
{name: round(loss.item() / math.log(2), 2) for name, loss in bits.items()}

# %% [markdown]
# Over the batch, five tokens cost 1+1+1+1+5 = 9 bits. The mean of the rows' means gives the short reply as much weight as the long one. Trainers used to slip into that
# when a batch was split to save memory (gradient accumulation); it was found and mended in 2024.

# %% [markdown]
# ## 6. Templates that run and do not learn
#
# The most expensive mistakes of post-training raise no error. The loss falls, and the model rambles, never stops, or writes your users' lines. Many sit in
# the tokenizer and its template, and can be found before a single step. `check_template` renders a short conversation and looks:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.chat import check_template

check_template(tokenizer, model=policies["base"], generating=True) or "no findings"

# %% [markdown]
# Nothing, and that includes whether the base has *seen* the tokens of its template (LoRA, next week, could not teach them), and whether prompts are padded on the left when they are answered in batches. Now break it, in three ways that you will meet.

# %%
import copy

opening = "{{ '<|im_start|>assistant\\n' }}"


def with_opening(text):
    """The tokenizer, with another opening of the assistant's turn when it generates."""
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = tokenizer.chat_template.replace(opening, text)
    return changed


drifting = with_opening("{{ '<|im_start|>assistant: ' }}")  # in training a line break, here a colon
silent = with_opening("")  # add_generation_prompt does nothing
masking = copy.deepcopy(tokenizer)
masking.pad_token = masking.eos_token  # as many tutorials advise

# %% [markdown]
# **Predict first.** Which of the three makes a model that is already trained answer worse? Which does its harm in training? And would you see any of them in a training curve?

# %%
# NBVAL_CHECK_OUTPUT
broken = {"drifting": drifting, "silent": silent, "masking": masking}
found = [{"tokenizer": name, **vars(f)} for name, t in broken.items() for f in check_template(t)]
pd.set_option("display.max_colwidth", 160)
pd.DataFrame(found).set_index("tokenizer")[["code", "severity", "evidence", "fix"]]

# %% [markdown]
# A finding says what can go wrong. What does has to be measured: the same weights and prompts, another opening of the turn.

# %%
from postlab.evals import compare, evaluate
from postlab.tinyworld.tasks import heldout_suite

manners = [row for row in heldout_suite(n=60) if row["family"] in ("facts", "unsafe", "unknown")]
own, *others = [evaluate(policies["sft"], t, manners) for t in (tokenizer, drifting, silent)]
pairs = [compare({"its own": own, n: f}) for n, f in zip(("drifting", "silent"), others, strict=True)]  # fmt: skip
table = pd.concat(pairs).set_index(["stage", "metric"]).drop("its own").round(3)
metrics = ["format", "facts", "safety", "honesty"]
table.loc[[(n, metric) for n in ("silent", "drifting") for metric in metrics], "value":"p"]

# %% [markdown]
# `difference` is against the model's own template, prompt by prompt, with its 95% interval. Without the opening nothing is left, as you saw it decide in section 3: nobody could miss that. The colon is the dangerous one. Its replies are well formed, its facts
# in order. But read `safety` and `honesty`: whether this model refuses, and whether it admits not to know, hangs on the exact tokens after which it learnt to. A template that differs between training and serving changes behaviours one by one.

# %% [markdown]
# The third tokenizer does its harm in training. A collator that hides padding by `ids != pad` hides the end of every turn with it:

# %%
# NBVAL_CHECK_OUTPUT
two = encode(rows[:2], tokenizer, max_length=256)
token_view(
    rows[:2], tokenizer, max_length=256, loss_mask=two["loss_mask"] * (two["input_ids"] != END)
)

# %% [markdown]
# One token a row is missing. You will train on that mask.
#
# ## 7. Thirty lines of SFT
#
# Rows, mask and loss are ready. What remains is the loop: the base, AdamW, a learning rate that falls to nought, and your loss.


# %%
def batches_of(rows, size=16):
    """Rows in their order, encoded, `size` at a time."""
    starts = range(0, len(rows), size)
    return [encode(rows[i : i + size], tokenizer, max_length=256) for i in starts]


def fine_tune(batches, trained, *, lr=2e-3):
    """The base after one pass over the batches, and the loss of each step."""
    model, _ = load_policy(world.checkpoint("base"), profile="tiny")
    model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    losses = []
    for step, batch in enumerate(batches):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / len(batches))
        ids, mask = batch["input_ids"], trained(batch)
        logits = model(input_ids=ids, attention_mask=batch["attention_mask"]).logits
        loss = sft_loss(logits[:, :-1], ids[:, 1:], mask[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model.eval(), losses


# %% [markdown]
# `trained` says which tokens count. Three runs differ in that alone: the reply with its end; the prompt as well; the reply without its end.
#
# **Predict first.** Order the three by how well they will answer held-out questions. Which of them will have the lowest training loss?

# %%
from postlab.course.week01 import plot_falling

masks = {
    "reply": lambda batch: batch["loss_mask"],
    "prompt too": lambda batch: batch["attention_mask"],
    "no end of turn": lambda batch: batch["loss_mask"] * (batch["input_ids"] != END),
}
taught = [row for row in rows if len(row["prompt"]) == 1][:896]  # one turn each: they are short
batches = batches_of(taught)
models, losses = {"base": policies["base"]}, {}
for name, mask_of in masks.items():
    models[name], losses[name] = fine_tune(batches, mask_of)
plot_falling(losses)

# %% [markdown]
# All three look like training that works. **A training loss tells you about the tokens that you chose; it is silent about the others**, and these curves are means over different tokens. So measure what
# is the same for all: the surprise on held-out rows, at every token of the reply and at its end.

# %%
from postlab.course.week01 import plot_parts
from postlab.stats import bootstrap_interval

heldout = batches_of(instruction_rows("tinyworld", split="heldout", n=192, seed=0), size=64)


def heldout_surprise(model):
    """-log p on held-out rows, row by row: the mean over the reply's words, and its end."""
    words, ends = [], []
    for batch in heldout:
        ids, mask = batch["input_ids"][:, 1:], batch["loss_mask"][:, 1:]
        with torch.no_grad():
            cost = -token_logps(model(batch["input_ids"]).logits[:, :-1], ids)
        end = mask * (ids == END)
        word = mask * (end.cumsum(1) == 0)  # before the end; not the line break after it
        words += ((cost * word).sum(1) / word.sum(1)).tolist()
        ends += (cost * end).sum(1).tolist()
    return {"words": words, "end of turn": ends}


costs = {name: heldout_surprise(model) for name, model in models.items()}
parts = [
    {"run": name, "part": part, **vars(bootstrap_interval(values))}
    for name, both in costs.items()
    for part, values in both.items()
]
plot_parts(pd.DataFrame(parts))

# %% [markdown]
# The words of a reply are learnt about as well in all three runs. At the end of turn they part: where it was masked, the model is as surprised by it as the base was, though it stood in every row.
#
# What does that do to behaviour? Held-out prompts of all six families, answered by all four models and scored by the oracle:

# %%
from postlab.course.week01 import plot_behaviour

suite = [row for row in heldout_suite(n=30) if row["family"] != "arithmetic_sampled"]
answered = {name: evaluate(model, tokenizer, suite) for name, model in models.items()}
oracle = ["arithmetic", "lists", "facts", "helpfulness", "safety", "honesty"]
rows_of = []
for name, frame in answered.items():
    scores = {"ended": frame["closed"].astype(float), "right": frame[oracle].mean(axis=1)}
    for metric, values in (scores | {"tokens": frame["length"]}).items():
        rows_of.append({"run": name, "metric": metric, **vars(bootstrap_interval(values))})
behaviour = pd.DataFrame(rows_of)
plot_behaviour(behaviour)

# %% [markdown]
# The model that was never shown an end does not find one. It answers, then goes on with what it did before, a page of a document, until the limit stops it; and an answer with others behind it is often no answer.
# Nothing in its training curve said so. One question of four families:

# %%
picked = [0, 30, 60, 90]  # one prompt of each of four families
side_by_side = {name: frame["answer"].iloc[picked] for name, frame in answered.items()}
pd.DataFrame(side_by_side).set_axis(answered["base"]["prompt"].iloc[picked])

# %% [markdown]
# And the prompt? Compare the runs on the same prompts, pair by pair:

# %%
from postlab.stats import paired_difference, verdict

right = {name: frame[oracle].mean(axis=1) for name, frame in answered.items()}
against = {name: paired_difference(right["reply"], right[name]) for name in list(masks)[1:]}
table = pd.DataFrame({name: vars(c) | {"verdict": verdict(c)} for name, c in against.items()}).T
table[["difference", "low", "high", "p", "verdict"]].rename_axis("against the run `reply`")

# %% [markdown]
# Where the verdict is *inconclusive*, that is a result: with this many prompts and one run each, nobody may say that it hurts or helps. Prompts are free text to learn from, and where replies are short and rows few
# training them can help ([Shi et al. 2024](https://arxiv.org/abs/2405.14394)); where there is plenty of both, they take most of the gradient. Train the reply alone unless you have measured otherwise. The end of turn needs no second thought.

# %% [markdown]
# ## 8. What is left out
#
# | in this notebook | for a real model | week |
# |---|---|---|
# | all weights are trained | adapters on frozen, quantised weights | 2 |
# | a loop | a trainer: accumulation, resuming, logging | 3 |
# | rows as they come | curation: which, how many, how mixed, not the test's | 3 |
# | an oracle | judges, people, benchmarks, and their errors | 6 |
#
# And SFT copies what it is shown: your model refuses and bluffs as its teachers did. To go beyond them it needs another signal.

# %% [markdown]
# ## What you have now
#
# A map of the stages, a mask and a loss of your own, a model that you fine-tuned without a framework, and a habit: **before a run, look at one row token by token; after it, measure on held-out prompts what the loss did not see.**

# %% [markdown]
# ### Five interview questions
#
# **1.** A fine-tuned model answers well, then writes the user's next question. The loss was fine. What do you check, in which order?
#
# <details><summary>Answer</summary>
#
# Generation: does it stop at the token that ends a turn, or wait for another (`generation_config`)? The mask of one row: is the end of turn trained, or masked as padding, outside the template's generation block, cut off by `max_length`?
# Was the prompt trained, which teaches users' lines?
#
# </details>
#
# **2.** Same data, same effective batch, but gradient accumulation changes the result. Why?
#
# <details><summary>Answer</summary>
#
# A mean of micro-batch means weighs tokens of short micro-batches more. Divide sums by the trained tokens of the whole batch, over accumulation steps and devices.
#
# </details>
#
# **3.** System design: a 7B base, 20,000 support conversations, 5,000 of them rated, and a script that can check a tenth of the answers. Which stages, and how do you know that each one helped?
#
# <details><summary>Answer</summary>
#
# One held-out set, split by customer and time. SFT on curated conversations. Ratings are no pairs: have two replies of the SFT model compared, then DPO. GRPO where the script checks. After each stage paired
# differences with intervals on quality, refusals, length; ship what gains where it should and loses nowhere that matters.
#
# </details>
#
# **4.** Someone adds `<|user|>` and `<|assistant|>` to a base, trains LoRA on the linear layers, and gets nonsense at a falling loss. Explain.
#
# <details><summary>Answer</summary>
#
# Their embeddings are random or near the mean, and LoRA on linear layers leaves them so. Train embeddings and head too, or use tokens that the base has seen. `check_template(tokenizer, model=model)` finds it.
#
# </details>
#
# **5.** Research taste: 'fine-tuning teaches form, not knowledge'. What would change your mind?
#
# <details><summary>Answer</summary>
#
# Facts from SFT rows that stand in no document, recalled under held-out wordings. It happens, but slowly, and models that learn them make up more ([Gekhman et al. 2024](https://arxiv.org/abs/2405.05904)). So the claim is about rates: compare
# rows whose facts the base knows with rows whose facts it does not.
#
# </details>

# %% [markdown]
# **Papers.** Ouyang et al. 2022, *InstructGPT* (arXiv 2203.02155): figure 2, the map; section 4.2 for what it cost elsewhere. Zhou et al. 2023, *LIMA* (2305.11206): section 2, the hypothesis; section 4, who judged what. Shi et al. 2024,
# *Instruction Tuning With Loss Over Instructions* (2405.14394): when training the prompt helps. Gekhman et al. 2024 (2405.05904): new knowledge in fine-tuning.
