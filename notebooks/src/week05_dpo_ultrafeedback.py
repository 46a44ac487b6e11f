# %% [markdown]
# # Week 5 · Direct preference optimisation
#
# Fine-tuning imitated its teachers, good habits and bad. Preferences say something that imitation cannot: *of these two replies, this one*. In
# this notebook you train on such pairs with TRL's `DPOTrainer`, starting from your own fine-tuned model, and measure what it changed and what it cost.
#
# By the end you can say
#
# - what DPO's loss compares, and with what,
# - how to read margins and log-probs in its log,
# - whether safety and honesty rose, and whether anything else fell, with intervals.

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("postlab") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "..[train]"], check=True)
    subprocess.run([sys.executable, "-m", "postlab.install"], check=True)
import postlab

lab = postlab.start(week=5)

# %% [markdown]
# ## 1. Start where fine-tuning ended
#
# `lab.checkpoint("sft")` is the adapter of week 3: from your own run, else, in the `tiny` profile, the one that ships with postlab. Given an adapter's
# folder, Unsloth loads the base under it and leaves the adapter trainable.

# %%
from unsloth import FastLanguageModel  # before trl, transformers and peft: it patches them

dpo = lab.profile.dpo
model, tokenizer = FastLanguageModel.from_pretrained(
    lab.checkpoint("sft"),
    max_seq_length=lab.profile.max_length,
    dtype=lab.profile.dtype,
    load_in_4bit=lab.profile.load_in_4bit,
    use_gradient_checkpointing=lab.profile.lora["use_gradient_checkpointing"],
)
before = lab.evaluate("sft", model, tokenizer)

# %% [markdown]
# ## 2. What a preference row is
#
# One prompt, two replies. In the tiny world the pairs cover every family, on purpose: a set about safety only would teach refusing and quietly
# forget how to add. For sums both replies are in the same style, one right and one wrong.

# %%
# NBVAL_CHECK_OUTPUT
import pandas as pd

from postlab.datasets import preference_rows

pd.set_option("display.max_colwidth", 120)

rows = preference_rows(dpo.source, split="train", n=dpo.rows, seed=lab.seed)
texts = [{k: row[k][-1]["content"] for k in ("prompt", "chosen", "rejected")} for row in rows]
pd.DataFrame(texts[:12])

# %% [markdown]
# **Predict first.** Before training, by how much does the fine-tuned model itself prefer the chosen replies? It has seen both kinds.
#
# ## 3. The loss
#
# DPO asks for the chosen reply to become more likely *relative to where the policy started* than the rejected one:
#
# $$\mathcal{L} = -\log \sigma\!\left(\beta \left[\log \frac{\pi(y_c)}{\pi_\text{ref}(y_c)} - \log \frac{\pi(y_r)}{\pi_\text{ref}(y_r)}\right]\right)$$
#
# As code, with sequence log-probs in nats:

# %%
# NBVAL_CHECK_OUTPUT
import torch
from torch.nn.functional import logsigmoid

policy_chosen, policy_rejected = torch.tensor(-4.0), torch.tensor(-9.0)
ref_chosen, ref_rejected = torch.tensor(-5.0), torch.tensor(-5.0)
margin = 0.1 * ((policy_chosen - ref_chosen) - (policy_rejected - ref_rejected))
margin.item(), -logsigmoid(margin).item()

# %% [markdown]
# The bracket times $\beta$ is the *margin*. At the start policy and reference are the same, so every margin is 0: if your log starts
# elsewhere, your reference is not the policy's start.
#
# The preference loss alone says nothing against a chosen reply becoming less likely, as long as the rejected one falls faster. In the `tiny` profile that cost
# how-to's: the three steps of a rough deed are the *rejected* reply wherever a person is meant, and the model unlearned them for things as well. So a second
# term, `"sft"` in `loss_type`, holds the likelihood of the chosen replies up, with its weight in `loss_weights`.
#
# No reference model is loaded. With a LoRA adapter TRL keeps a frozen copy of the adapter as it was, which costs megabytes where a second 7B would cost gigabytes.

# %%
# NBVAL_CHECK_OUTPUT
pd.Series(dict(dpo.trainer), name="DPOConfig").to_frame()

# %%
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from postlab.models import float32_adapters

run = lab.run("dpo", parent="sft")
trainer = DPOTrainer(
    model=float32_adapters(model),  # TRL rounds a 4-bit model\'s adapter to bf16 on a CPU
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(rows).select_columns(["prompt", "chosen", "rejected"]),
    args=DPOConfig(output_dir=str(run.checkpoints), seed=lab.seed, **dpo.trainer),
)
log = run.train(trainer)

# %% [markdown]
# **Predict first.** The margins rise. Must the log-prob of the *chosen* replies rise as well?

# %%
from postlab.plots import plot_stages, plot_training

plot_training(log, "dpo")

# %% [markdown]
# Only the difference is in the loss. Chosen and rejected replies share words, so pushing one down can pull the other along; a chosen log-prob that
# falls a little while the margin grows is common, and one that falls far is a model leaving its data
# ([Pang et al. 2024](https://arxiv.org/abs/2404.19733) add the likelihood term against that).
#
# ## 4. What changed, and what did it cost?

# %%
after = lab.evaluate(run, trainer.model, tokenizer)
both = before[["family", "prompt", "answer"]].rename(columns={"answer": "sft"})
both["dpo"] = after["answer"]
both[both["sft"] != both["dpo"]].groupby("family", sort=False).head(2)

# %%
from postlab.evals import compare

table = compare({"sft": before, "dpo": after})
plot_stages(table, profile=lab.profile.name)

# %% [markdown]
# The same in numbers: each metric's difference to the fine-tuned model on the same prompts, with its interval. An interval that holds zero is
# *inconclusive*, which is not the same as 'no effect'.

# %%
changes = table[table["stage"] == "dpo"].set_index("metric")
changes[["value", "difference", "difference_low", "difference_high", "p", "n"]].round(3)

# %% [markdown]
# Look for the bill: facts, sums and how-to's, which the pairs were to protect; over-refusal, the commonest price of safety; and `kl`, how far the policy
# moved from its start, in nats an answer.
#
# > **The roadmap says** DPO matches RLHF, as both have the same optimum. **The evidence says** the same optimum only where the data reaches and with an
# > unlimited policy: the chosen log-prob can fall ([Yuan et al. 2025](https://arxiv.org/abs/2502.07599)), and length gets in
# > ([2409.06411](https://arxiv.org/abs/2409.06411)).
#
# ## What you have now
#
# `runs/<profile>/seed-<n>/dpo/`. Week 7 starts from it and turns to what preferences did not touch: getting sums right.
#
# **Papers.** Rafailov et al. 2023, *DPO* (arXiv 2305.18290): section 4 for the derivation. Tunstall et al. 2023, *Zephyr* (arXiv 2310.16944): the recipe on UltraFeedback.
