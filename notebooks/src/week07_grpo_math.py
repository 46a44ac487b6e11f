# %% [markdown]
# # Week 7 · GRPO: learning from a verifier
#
# Imitation copied habits, preferences repaired manners. Neither told the model *how to get a sum right*. Now it finds out by itself: it tries, a
# verifier checks the number, and what worked becomes more likely. This is group relative policy optimisation, with TRL's `GRPOTrainer`.
#
# By the end you can say
#
# - where the learning signal comes from when there is no critic and no reward model,
# - what the curves of a healthy run look like,
# - what the policy discovered, and what it forgot meanwhile.

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("postlab") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "..[train]"], check=True)
    subprocess.run([sys.executable, "-m", "postlab.install"], check=True)
import postlab

lab = postlab.start(week=7)

# %% [markdown]
# ## 1. The start
#
# On `tiny`, `smol` and `rented` the policy is the model of week 5. On a free T4, sampling from a 7B would fill the session, so that profile has a smaller
# chain of its own, base to SFT to GRPO, which is never compared with the 7B stages.

# %%
from unsloth import FastLanguageModel  # before trl, transformers and peft: it patches them

grpo = lab.profile.grpo
parent = "sft-small" if grpo.warm_start else "dpo"
if grpo.warm_start:  # only on a T4: fine-tune the 1.5B first, as in week 3
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer
    from unsloth.chat_templates import get_chat_template

    from postlab.datasets import instruction_rows

    small, tokenizer = FastLanguageModel.from_pretrained(
        grpo.base_model, max_seq_length=lab.profile.max_length, load_in_4bit=True
    )
    small = FastLanguageModel.get_peft_model(small, **lab.profile.lora, random_state=lab.seed)
    tokenizer = get_chat_template(tokenizer, lab.profile.chat_template)
    warm, run = grpo.warm_start, lab.run("sft-small", parent="base")
    taught = instruction_rows(warm.source, split="train", n=warm.rows, seed=lab.seed)
    trainer = SFTTrainer(
        model=small,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(taught).select_columns(["prompt", "completion"]),
        args=SFTConfig(output_dir=str(run.checkpoints), seed=lab.seed, **warm.trainer),
    )
    run.train(trainer)

# %%
model, tokenizer = FastLanguageModel.from_pretrained(
    lab.checkpoint(parent),
    max_seq_length=lab.profile.max_length,
    dtype=lab.profile.dtype,
    load_in_4bit=lab.profile.load_in_4bit,
    use_gradient_checkpointing=lab.profile.lora["use_gradient_checkpointing"],
)
before = lab.evaluate(parent, model, tokenizer)

# %% [markdown]
# How does it do sums? The teachers of week 3 blurted the short ones out and worked the long ones. So does the policy, by the number of terms:


# %%
def styles(frame):
    """Accuracy and share of worked answers, by the number of terms in the sum."""
    sums = frame[frame["family"] == "arithmetic"].copy()
    sums["terms"] = sums["prompt"].str.count(r"\+") + 1
    sums["worked"] = sums["answer"].str.contains("=").astype(float)
    return sums.groupby("terms")[["arithmetic", "worked", "length"]].mean().round(2)


styles(before)

# %% [markdown]
# **Predict first.** Nobody will show the policy a worked short sum. Only right answers are rewarded. What will happen to the three columns?
#
# ## 2. The reward
#
# A math reward reads the answer and compares numbers; nothing else counts. Rewards speak TRL's protocol: a list of completions in, a list of scores out,
# with the dataset's other columns as keyword arguments.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.rewards import math_reward

tries = ["12+30=42, 42+15=57. #### 57", "#### 57", "#### 56", "no idea"]
math_reward(tries, answer=["57"] * 4)

# %% [markdown]
# The evaluation reads answers with another extractor than the reward does. If the policy learns to please the verifier instead of adding, the
# two will part.

# %%
# NBVAL_CHECK_OUTPUT
import pandas as pd

from postlab.datasets import math_rows

pd.set_option("display.max_colwidth", 120)

rows = math_rows(grpo.source, split="train", n=grpo.rows, seed=lab.seed, instruction=grpo.system_prompt)  # fmt: skip
pd.DataFrame([{"prompt": row["prompt"][-1]["content"], "answer": row["answer"]} for row in rows[:5]])  # fmt: skip

# %% [markdown]
# ## 3. Who gets the credit?
#
# The policy answers each prompt $G$ times. There is no critic: the group is the judge. An answer's advantage is how far its reward stands from the group's mean,
# in standard deviations.
#
# $$A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r) + \varepsilon}$$

# %%
# NBVAL_CHECK_OUTPUT
import torch

rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
centred = rewards - rewards.mean(dim=1, keepdim=True)
(centred / (rewards.std(dim=1, keepdim=True) + 1e-4)).round(decimals=2)

# %% [markdown]
# The lone right answer stands at +1.5. Four failures teach nothing, and four successes would be as silent: the share of such groups is in the log as
# `frac_reward_zero_std`.
#
# > **The roadmap says** GRPO eliminates the reward model. **The evidence says** verifiable rewards do; GRPO works with any reward. What it removes is the critic
# > ([DeepSeekMath 2024](https://arxiv.org/abs/2402.03300)).
#
# ## 4. Train

# %%
# NBVAL_CHECK_OUTPUT
pd.Series(dict(grpo.trainer), name="GRPOConfig").to_frame()

# %%
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from postlab.models import float32_adapters

run = lab.run("grpo", parent=parent)
trainer = GRPOTrainer(
    model=float32_adapters(model),  # TRL rounds a 4-bit model\'s adapter to bf16 on a CPU
    processing_class=tokenizer,
    reward_funcs=math_reward,
    train_dataset=Dataset.from_list(rows).select_columns(["prompt", "answer"]),
    args=GRPOConfig(output_dir=str(run.checkpoints), seed=lab.seed, **grpo.trainer),
)
log = run.train(trainer)

# %% [markdown]
# **Predict first.** Which curve tells you that training works: the loss, the reward, the length?

# %%
from postlab.plots import plot_stages, plot_training

plot_training(log, "grpo")

# %% [markdown]
# Not the loss: with one update a batch and centred advantages it sits near zero while its gradient does not. Watch the reward. And see the length: nobody rewarded
# long answers. The policy found that working a sum out pays, and length followed accuracy, as in DeepSeek-R1's famous curve.
#
# ## 5. What changed?

# %%
after = lab.evaluate(run, trainer.model, tokenizer)
styles(after)

# %%
both = before[["family", "prompt", "answer"]].rename(columns={"answer": parent})
both["grpo"] = after["answer"]
both[both["family"] == "arithmetic"].head(8)

# %%
from postlab.evals import compare

table = compare({parent: before, "grpo": after})
plot_stages(table, profile=lab.profile.name)

# %% [markdown]
# Greedy accuracy says what the policy does when it is most sure, accuracy at temperature 1 what a draw from it does. RL that only sharpens a model moves the
# second towards the first; here both moved, because the *habit* changed. Safety and honesty were in no reward: whether they held is in the figure.
#
# > **The roadmap says** GRPO was introduced with R1 in January 2025. **The evidence says** DeepSeekMath, February 2024; R1 made it famous. And Qwen models were
# > pretrained on much mathematics and flatter any gain, so the larger profiles name a second family.
#
# ## What you have now
#
# `runs/<profile>/seed-<n>/grpo/`. Week 12 puts all stages side by side.
#
# **Papers.** Shao et al. 2024, *DeepSeekMath* (arXiv 2402.03300): section 4. DeepSeek-AI 2025, *R1* (arXiv 2501.12948): figure 3. Liu et al. 2025, *Dr. GRPO* (arXiv 2503.20783): what the
# division by std and length does.
