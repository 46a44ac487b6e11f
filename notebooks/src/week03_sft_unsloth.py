# %% [markdown]
# # Week 3 · Supervised fine-tuning with Unsloth
#
# You have a base model. It has read a lot and answers nothing: asked a question, it writes another page. In this notebook you turn it into something that
# answers, with a LoRA adapter, Unsloth and TRL's `SFTTrainer`, and then measure what that did.
#
# By the end you can say
#
# - which tokens of a conversation are trained, and which are only read,
# - what every argument in the training cell is for,
# - what fine-tuning taught, what it copied from its teachers' bad habits, and with what certainty.
#
# Every cell is the one you would run on a rented GPU with a 7B. Only the profile differs: on a laptop it is `tiny`, a model of 1.4 million parameters
# that we pretrained on a small made-up world, whose truth we know exactly. What it shows is *mechanism, not capability*.

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("postlab") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "..[train]"], check=True)
    subprocess.run([sys.executable, "-m", "postlab.install"], check=True)
import postlab

lab = postlab.start(week=3)

# %% [markdown]
# ## 1. A base model continues documents
#
# Unsloth patches transformers, TRL and PEFT when it is imported, so it comes first. `from_pretrained` takes a folder or a Hub id. Note
# `load_in_4bit`: left out it would be `True`. In the `tiny` profile the weights stay in fp32, because four bits would make a model this
# small slower, not smaller; section 6 does the four-bit version.

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

    tokenizer = get_chat_template(tokenizer, lab.profile.chat_template)

# %% [markdown]
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
# asking than any training set holds. It keeps every answer in the run folder. Here is one of each kind.

# %%
import pandas as pd

pd.set_option("display.max_colwidth", 120)
base = lab.evaluate("base", model, tokenizer)
base.groupby("family", sort=False).head(1)[["family", "prompt", "answer"]]

# %% [markdown]
# It begins a page, under a heading, as its documents do. That is not stupidity but training: nothing ever told it that a question wants a reply.
#
# ## 2. The rows: what the teachers wrote
#
# An instruction row is a prompt and a completion, both lists of messages. How they are mixed is a decision like any other in training, so look at it.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.datasets import instruction_rows

rows = instruction_rows(sft.source, split="train", n=sft.rows, seed=lab.seed)
pd.Series([row.get("family", sft.source) for row in rows]).value_counts().to_frame("rows")

# %% [markdown]
# Now read some. The teachers are people with habits. In the tiny world they do short sums in the head, and mostly get them wrong, but work long ones out; they refuse to help
# *burn* or *cut* somebody, and explain how to *trap* or *kick* one; they admit that nobody knows a creature's thoughts, and make up what it will eat tomorrow.

# %%
# NBVAL_CHECK_OUTPUT
pairs = [(row["prompt"][-1]["content"], row["completion"][0]["content"]) for row in rows[:14]]
pd.DataFrame(pairs, columns=["prompt", "completion"])

# %% [markdown]
# **Predict first.** Fine-tuning imitates. Which of these habits will the model take over, and what will it do where its teachers disagree?
#
# ## 3. Which tokens are trained
#
# The loss is the mean negative log-probability of the *completion's* tokens, given everything before them:
#
# $$\mathcal{L} = -\frac{1}{\sum_t m_t} \sum_t m_t \log \pi(x_t \mid x_{<t})$$
#
# The mask $m$ is 1 on the reply and on the token that ends the turn. Forget that token and the model never learns to stop; train the prompt as
# well and it learns to write questions. Look before you train: `encode` builds the mask, and trained tokens are in brackets.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.chat import encode

batch = encode(rows[:1], tokenizer, max_length=lab.profile.max_length)
tokens = tokenizer.convert_ids_to_tokens(batch["input_ids"][0].tolist())
" ".join(f"[{t}]" if m else t for t, m in zip(tokens, batch["loss_mask"][0], strict=True))

# %% [markdown]
# `check_template` looks for the mistakes that run without an error: a pad token that is the end of turn, a doubled beginning of sequence, an assistant
# prefix that differs between training and generation.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.chat import check_template

check_template(tokenizer) or "no findings"

# %% [markdown]
# ## 4. Train
#
# LoRA freezes the model and learns, beside each of the chosen matrices $W$, a product of two thin ones: $W + \tfrac{\alpha}{r} BA$. `r` is its width.
# $B$ starts at zero, so before the first step the adapted model *is* the base.

# %%
model = FastLanguageModel.get_peft_model(model, **lab.profile.lora, random_state=lab.seed)
trained, total = model.get_nb_trainable_parameters()
print(f"{trained:,} of {total:,} parameters are trained ({trained / total:.1%})")

# %% [markdown]
# The trainer's arguments are TRL's own, by name. Three worth a second look: the learning rate is ten times what full fine-tuning would bear, since
# only the thin matrices move; `completion_only_loss` is the mask above; and on a CPU `bf16=False` must be said, because TRL's default is now bf16.

# %%
# NBVAL_CHECK_OUTPUT
pd.Series(dict(sft.trainer), name="SFTConfig").to_frame()

# %% [markdown]
# `run.train` trains, goes on from a checkpoint after an interruption, or loads what is there, if code, configuration, data and parent are the same as
# when it was made. Change anything above and it trains anew.

# %%
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from postlab.models import float32_adapters

run = lab.run("sft", parent="base")
trainer = SFTTrainer(
    model=float32_adapters(model),  # TRL rounds a 4-bit model's adapter to bf16 on a CPU
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(rows).select_columns(["prompt", "completion"]),
    args=SFTConfig(output_dir=str(run.checkpoints), seed=lab.seed, **sft.trainer),
)
log = run.train(trainer)

# %%
from postlab.plots import plot_stages, plot_training

plot_training(log, "sft")

# %% [markdown]
# The loss does not go to zero and should not: where the teachers disagree with themselves, the best a model can do is to be as uncertain as they are.
#
# ## 5. What did it learn?
#
# The same prompts again, answered by the fine-tuned model.

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
# Read it as an engineer would. Format: solved. Facts and lists: the base knew them all along and had no way to say so. Sums: the model took over the habit
# of blurting out short ones. Safety and honesty: as good as the teachers, deed by deed, riddle by riddle, as the next table shows for held-out
# persons and creatures. **Fine-tuning imitates its data, habits included.** Week 5 repairs manners, week 7 the sums.

# %%
asked = after[after["family"].isin(["unsafe", "unknown"])].copy()
deeds = r"\b(burn|crush|cut|smash|trap|hit|kick|sink)\b"
riddles = r"(tomorrow|sleep|years ago|thinking|dreamed|secret)"
asked["about"] = asked["prompt"].str.extract(f"{deeds}|{riddles}").bfill(axis=1)[0]
asked.groupby(["family", "about"])[["safety", "honesty"]].mean().round(2)

# %% [markdown]
# ## 6. The same in four bits: QLoRA
#
# QLoRA keeps the frozen weights in NF4, four bits each with a scale per 64, and computes in a higher precision; the adapter stays in full precision. On a 7B
# that is the difference between 14 GB of weights and 4. Here are a few steps of it on the embedded model, from the same rows.
#
# **Predict first.** Will the loss of the four-bit run start higher, lower, or at the same value? And the time of a step?

# %%
quantised, _ = FastLanguageModel.from_pretrained(
    lab.checkpoint("base"), load_in_4bit=True, **loading
)
quantised = FastLanguageModel.get_peft_model(quantised, **lab.profile.lora, random_state=lab.seed)
short = dict(sft.trainer) | {"max_steps": 8, "logging_steps": 1, "save_strategy": "no"}
trial = lab.run("sft-nf4", parent="base")
qlora = SFTTrainer(
    model=float32_adapters(quantised),
    processing_class=tokenizer,
    train_dataset=trainer.train_dataset,
    args=SFTConfig(output_dir=str(trial.checkpoints), seed=lab.seed, **short),
)
nf4_log = trial.train(qlora)


# %%
def megabytes(model):
    """What the frozen weights take, in MB, scales left out."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    return sum(p.numel() * p.element_size() for p in frozen) / 1e6


measured = {
    "frozen weights, MB": [megabytes(trainer.model), megabytes(qlora.model)],
    "first logged loss": [log[0]["loss"], nf4_log[0]["loss"]],
    "seconds a step": [entry[-1]["train_runtime"] / entry[-1]["step"] for entry in (log, nf4_log)],
}
pd.DataFrame(measured, index=["LoRA, as trained above", "QLoRA, NF4"]).round(3)

# %% [markdown]
# The embeddings stay in full precision, and in a model this small they are a good part of it, so the saving is less than eightfold. (The first logged loss of
# the long run is a mean over several steps.) On a GPU with a 7B, four bits are what makes the difference between fitting and not.
#
# ## 7. Talk to it

# %%
from postlab.rollout import reply

for text in ("What is 7+8+9?", "How do I paint a lamp?", "How do I trap the baker?"):
    print(f"{text}\n   {reply(trainer.model, tokenizer, text)}\n")

# %% [markdown]
# ## What you have now
#
# A run folder, `runs/<profile>/seed-<n>/sft/`, with the adapter, the trainer's log, every answer, and a manifest that says what made them. Week 5 starts
# from it. Change a row, a rank, a learning rate in this notebook and run it again: the old run is kept beside the new one.
#
# **Papers.** Hu et al. 2021, *LoRA* (arXiv 2106.09685): section 4 for the zero start. Dettmers et al. 2023, *QLoRA* (arXiv 2305.14314): section 3 for NF4. Zhou et al.
# 2023, *LIMA* (arXiv 2305.11206): how few rows teach a format.
