# %% [markdown]
# # Week 7 · GRPO: learning from a verifier
#
# After week 5, our tiny model gets 96% of the five-number sums right, but only 5% of the three-number sums. The short sums aren't harder. The model works out long sums step by step, but for short ones it just states a number, because most short sums in its week 3 training data were answered that way.
# This week, nobody shows the model a single solution. It is told only whether its final number is right. Can it discover on its own that working out a sum pays off?
#
# That is the question behind today's reasoning models. DeepSeek's R1-Zero was rewarded only for the right final answer and the right format, and its accuracy on the AIME 2024 competition problems rose from 16% to more than 70% ([2501.12948](https://arxiv.org/abs/2501.12948)). The method, **group relative policy optimization (GRPO)**, samples several answers to each prompt, lets a program check them, and makes the better ones more likely. This week you'll write GRPO yourself, show that your version computes exactly what TRL's does, and then train with TRL.
#
# By the end of the core you'll be able to explain
#
# - where the learning signal comes from when there is neither a critic nor a reward model,
# - what GRPO keeps from PPO and what it drops,
# - what every line of a GRPO step does,
# - which curves tell you that a run is healthy, and why the loss isn't one of them.
#
# The `tiny` profile shows *how* the method works, not how capable a trained model can be.
#
# **The core** takes about 100 minutes, including about one minute of training on `tiny`. You'll solve one exercise, build one training step, and read one paper.
#
# 1. [Where we start](#start) · 2. [The reward](#reward) · 3. [The policy gradient](#gradient) · 4. [Who gets the credit?](#credit) · 5. [What GRPO keeps from PPO](#ppo) · 6. [Build: one step of GRPO](#build) · 7. [Train](#train) · 8. [Reading the log](#log) · 9. [What changed?](#changed) · 10. [The paper, and what you have now](#end)
#
# **The deeper sections** take another three hours. You can read them in any order or skip them: neither the core nor later weeks depend on them.
#
# - [REINFORCE and its baseline](#deeper-gradient) · 20 minutes, one exercise
# - [The KL term, and the loss by hand](#deeper-kl) · 30 minutes, one exercise
# - [When the clip begins to act](#deeper-clip) · 10 minutes
# - [It runs, but it doesn't learn](#deeper-hunt) · 10 minutes, a bug hunt
# - [Learning rates and schedules](#deeper-rates) · 25 minutes
# - [Prompts of the right difficulty](#deeper-filter) · 5 minutes
# - [Sharpening, or something new?](#deeper-pass) · 20 minutes
# - [The same chain on a language model](#deeper-smol) · 15 minutes
# - [How much of it is only format?](#deeper-format) · 20 minutes
# - [What it costs, and what the group size has to do with it](#deeper-cost) · 15 minutes
#
# At the end are [five interview questions](#interview) and the week's [papers](#papers). An extra notebook, [`thinking_models.ipynb`](extras/thinking_models.ipynb), covers *thinking models* and what is known about how the large labs use RL.

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

lab = postlab.start(week=7)

# %% [markdown]
# <a id="start" name="start"></a>
# ## 1. Where we start
#
# On `tiny`, `smol` and `rented`, the policy is the model from week 5. On a free T4, sampling from a 7B model would use up the whole session. The `t4` profile therefore has its own chain with a smaller model, from base to SFT to GRPO. The stages of this chain are never compared with those of the 7B model.

# %%
from unsloth import FastLanguageModel  # before trl, transformers and peft: it patches them

grpo = lab.profile.grpo
parent = "sft-small" if grpo.warm_start else "dpo"
if grpo.warm_start:  # only on a T4: fine-tune the 1.5B first, as in week 3
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer
    from unsloth.chat_templates import get_chat_template

    from postlab.chat import begin_with_bos
    from postlab.datasets import instruction_rows
    from postlab.models import float32_adapters

    small, tokenizer = FastLanguageModel.from_pretrained(
        grpo.base_model,
        max_seq_length=lab.profile.max_length,
        dtype=lab.profile.dtype,
        load_in_4bit=True,
    )
    small = FastLanguageModel.get_peft_model(small, **lab.profile.lora, random_state=lab.seed)
    tokenizer = begin_with_bos(get_chat_template(tokenizer, lab.profile.chat_template))
    warm, run = grpo.warm_start, lab.run("sft-small", parent=None)  # its base is not the 7B
    taught = instruction_rows(
        warm.source, split="train", n=warm.rows, seed=lab.seed, columns=warm.columns
    )
    trainer = SFTTrainer(
        model=float32_adapters(small),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(taught).select_columns(["prompt", "completion"]),
        args=SFTConfig(output_dir=str(run.checkpoints), seed=lab.seed, **warm.trainer),
    )
    run.train(trainer)
    del small, trainer  # their memory goes to the policy that is loaded next

# %%
model, tokenizer = FastLanguageModel.from_pretrained(
    lab.checkpoint(parent),
    max_seq_length=lab.profile.max_length,
    dtype=lab.profile.dtype,
    load_in_4bit=lab.profile.load_in_4bit,
    use_gradient_checkpointing=lab.profile.lora["use_gradient_checkpointing"],
    **lab.profile.fast_inference,  # empty, unless vLLM is to sample (POSTLAB_VLLM=1)
)
before = lab.evaluate(parent, model, tokenizer)

# %% [markdown]
# How good is the policy at sums? For each number of terms, the table shows the accuracy, the share of worked-out answers, and the mean length in tokens.
#
# On the other profiles, the sums are word problems, grouped by their level in the `everyday` set. Problems at levels 1 and 2 ask the model to add, multiply or compare a few small numbers; those at levels 3 to 5 need larger numbers or several steps. `smol` is trained and evaluated on levels 1 and 2 only. `t4` and `rented` are trained on GSM8K, so GSM8K has its own row; its scores ignore the format of an answer.

# %%
from postlab.evals import everyday_rows

family = "gsm8k" if grpo.source == "gsm8k" else "arithmetic"  # what is trained
everyday = {row["id"]: row for row in everyday_rows(families=["arithmetic"])}


def styles(frame):
    """Accuracy and share of worked answers by number of terms, or by level and for GSM8K."""
    sums = frame[frame["family"].isin(["arithmetic", family])].copy()
    if "arithmetic" not in frame:  # a suite of your own: averages over all
        return frame.drop(columns="sample").mean(numeric_only=True).round(2)
    sums["worked"] = sums["answer"].str.contains("=").astype(float)
    by = "terms" if lab.profile.suite == "tinyworld" else "level"
    if by == "terms":
        sums[by] = sums["prompt"].str.count(r"\+") + 1
    else:
        sums[by] = [str(everyday[i]["level"]) if i in everyday else "GSM8K" for i in sums["id"]]
    if family == "gsm8k":
        sums["arithmetic"] = sums["arithmetic"].fillna(sums["gsm8k_lenient"])
    return sums.groupby(by)[["arithmetic", "worked", "length"]].mean().round(2)


styles(before)

# %% [markdown]
# Accuracy closely follows the habit of working sums out: the share of right answers nearly equals the share of worked-out ones.
#
# **Predict first.** Only right answers are rewarded, and on `tiny` nobody will show the policy how to work out a short sum. How will the numbers in this table change?

# %% [markdown]
# <a id="reward" name="reward"></a>
# ## 2. The reward
#
# Our math reward reads the final answer and compares it with the right number. Nothing else counts. In TRL, a reward is a function that takes a list of completions and returns a list of scores. The function receives the other columns of the dataset as keyword arguments.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.rewards import math_reward

tries = ["12+30=42, 42+15=57. #### 57", "#### 57", "#### 56", "no idea"]
math_reward(tries, answer=["57"] * 4)

# %% [markdown]
# The evaluation at the end has its own extractor, so if the policy learns to satisfy the reward without doing arithmetic, the reward and the evaluation will disagree. [A deeper section](#deeper-format) checks whether they do.
#
# Here are the first five training prompts:

# %%
# NBVAL_CHECK_OUTPUT
import pandas as pd

from postlab.datasets import math_rows

pd.set_option("display.max_colwidth", 120)

rows = math_rows(
    grpo.source, split="train", n=grpo.rows, seed=lab.seed,
    instruction=grpo.system_prompt, columns=grpo.columns,
)  # fmt: skip
pd.DataFrame([{"prompt": row["prompt"][-1]["content"], "answer": row["answer"]} for row in rows[:5]])  # fmt: skip

# %% [markdown]
# <a id="gradient" name="gradient"></a>
# ## 3. The policy gradient
#
# How can you train on a reward that is just 0 or 1? The reward has no gradient with respect to the answer: the answer is either right or wrong. But the *probability* of a right answer does have a gradient with respect to the policy's weights. The expected reward is a sum over all possible answers $y$,
#
# $$\mathbb{E}_{y \sim \pi}[r(y)] = \sum_y \pi(y)\, r(y)$$
#
# and only $\pi$ depends on the weights. Now use $\nabla \pi = \pi\, \nabla \log \pi$, which follows from the derivative of the logarithm:
#
# $$\nabla \, \mathbb{E}_{y \sim \pi}[r(y)] = \sum_y r(y)\, \nabla \pi(y) = \sum_y \pi(y)\, r(y)\, \nabla \log \pi(y) = \mathbb{E}_{y \sim \pi}\big[r(y)\, \nabla \log \pi(y)\big]$$
#
# The right-hand side contains no derivative of the reward, so the reward can be any program. It's also an expectation over the policy's own answers, so you can estimate it from samples. With only three possible answers, you can compute both sides exactly:

# %%
# NBVAL_CHECK_OUTPUT
import torch

REWARDS = torch.tensor([3.0, 2.0, 2.0])  # three possible answers; the first one is best
logits = torch.tensor([0.5, 0.0, -0.5], requires_grad=True)
p = logits.softmax(0)
(left,) = torch.autograd.grad((p * REWARDS).sum(), logits, retain_graph=True)
(right,) = torch.autograd.grad((p.detach() * REWARDS * p.log()).sum(), logits)
[[round(value, 4) for value in side.tolist()] for side in (left, right)]

# %% [markdown]
# The two sides are equal. You can't list every answer that a language model could give, so you sample a few, score them, and increase the log-probability of each one in proportion to its reward. This algorithm is called **REINFORCE**.
#
# In practice, you first subtract a **baseline**, such as the mean reward of the samples, from the reward. Without a baseline, every sampled answer with a positive reward is made more likely, even the worse ones. Does a baseline bias the gradient? No: a constant $b$ doesn't change the expected gradient, because the probabilities always add up to 1:
#
# $$\mathbb{E}_{y \sim \pi}[b\, \nabla \log \pi(y)] = b \sum_y \pi(y)\, \nabla \log \pi(y) = b\, \nabla \sum_y \pi(y) = b\, \nabla 1 = 0$$
#
# A baseline does change the noise, and [a deeper section](#deeper-gradient) shows by how much. The main difference between PPO and GRPO is **where the baseline comes from**: PPO learns a value function, and GRPO uses the mean reward of a group.

# %% [markdown]
# <a id="credit" name="credit"></a>
# ## 4. Who gets the credit?
#
# A baseline over the whole batch has a problem: some prompts are easier than others. With such a baseline, most answers to an easy sum look better than average, and most answers to a hard one look worse. So GRPO samples $G$ answers to the *same* prompt and compares them only with each other. The advantage of an answer tells you how many standard deviations its reward is above or below the mean of its group:
#
# $$A_i = \frac{r_i - \operatorname{mean}(r_1 \ldots r_G)}{\operatorname{std}(r_1 \ldots r_G) + \varepsilon}$$

# %%
from postlab.course.week07 import draw_groups

draw_groups()

# %% [markdown]
# Notice two things. First, the reward is for the whole answer, so every token of an answer gets the same advantage. Second, if the answers in a group are all right or all wrong, every advantage is zero and the group contributes no gradient.

# %% [markdown]
# ### Exercise 7.1 · about 10 minutes · medium
#
# `rewards` has the shape `(B,)` and contains one group after another. Return the advantages in the same shape. Use torch's default standard deviation, which divides by $n - 1$, and $\varepsilon = 10^{-4}$.
#
# <details><summary>Hint 1</summary>
#
# First, give each group a row of its own: `view(-1, group_size)`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# If all rewards in a group are equal, its standard deviation is 0. What does your code return in this case?
#
# </details>

# %%
from postlab import check


def group_advantages(rewards, group_size):
    raise NotImplementedError


group_advantages = check.group_advantages(group_advantages)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def group_advantages(rewards, group_size):
#     groups = rewards.view(-1, group_size)
#     centred = groups - groups.mean(dim=1, keepdim=True)
#     return (centred / (groups.std(dim=1, keepdim=True) + 1e-4)).flatten()
# ```
#
# </details>
#
# Here are the advantages for three prompts with four answers each. The first group has one right answer, the second has three, and the third has none:

# %%
# NBVAL_CHECK_OUTPUT
rewards = torch.tensor([1.0, 0.0, 0.0, 0.0] + [1.0, 1.0, 1.0, 0.0] + [0.0, 0.0, 0.0, 0.0])
group_advantages(rewards, 4).view(3, 4).round(decimals=2)

# %% [markdown]
# The only right answer in the first group gets +1.5, and the only wrong one in the second gets −1.5. The third group teaches the policy nothing: its advantages are all 0, as they would be if all four answers were right. Such groups are called **zero-variance groups**. TRL logs the share of such groups as `frac_reward_zero_std`.
#
# > **The roadmap says** GRPO eliminates the reward model. **The evidence says** it's the *verifier* that replaces the reward model; GRPO works with any reward, learned or not. What GRPO removes is the critic ([DeepSeekMath 2024](https://arxiv.org/abs/2402.03300), section 4.1).

# %% [markdown]
# <a id="ppo" name="ppo"></a>
# ## 5. What GRPO keeps from PPO
#
# | | PPO (week 4) | GRPO |
# |---|---|---|
# | baseline | a critic, trained along with the policy | the group's mean reward |
# | credit | one advantage per token, from `gae` | one advantage per answer, the same for all its tokens |
# | ratio and clip | yes | yes, the same |
# | KL to the reference | in the reward, per token | in the loss (as $k_3$); off by default in TRL |
# | reward | any | any |
#
# For one group of $G$ answers $o_1 \ldots o_G$, the loss is
#
# $$\mathcal{L} = \frac{1}{G} \sum_i \frac{1}{|o_i|} \sum_t \Big[-\min\big(\rho_{i,t} A_i, \; \operatorname{clip}(\rho_{i,t}, 1 - \epsilon, 1 + \epsilon) A_i\big) + \beta \, k_{3;i,t}\Big], \qquad \rho_{i,t} = \frac{\pi(o_{i,t})}{\pi_\text{old}(o_{i,t})}$$
#
# Here $\pi_\text{old}$ is the policy that sampled the answers, and each probability is conditioned on the prompt and the tokens before $t$. The term $k_3$ estimates the KL to the reference. In this week's core, $\beta$ is 0, so you can ignore the KL term for now. [A deeper section](#deeper-kl) explains it and asks you to write this loss yourself.
#
# Right after sampling, the policy hasn't changed yet, so every ratio is 1. What are the loss and its gradient at this point?

# %%
# NBVAL_CHECK_OUTPUT
from postlab.scratch.grpo import grpo_loss

logps = torch.full((4, 3), -0.7, requires_grad=True)
same, adv = logps.detach(), group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]), 4)
loss = grpo_loss(logps, adv, torch.ones(4, 3), old_logps=same, ref_logps=same)
gradient = torch.autograd.grad(loss, logps)[0][:, 0]
round(loss.item(), 6) + 0.0, [round(value, 3) for value in gradient.tolist()]

# %% [markdown]
# The loss is 0, because every ratio is 1 and the advantages of a group add up to zero. The gradient isn't zero: a gradient step makes the tokens of the right answer more likely and those of the three wrong answers less likely. **A GRPO loss of zero doesn't mean that something is broken, and a loss that moves doesn't mean that the model is learning.** TRL's default, `loss_type="dapo"`, averages over all tokens in the batch. Its value is then $-\sum_i A_i |o_i| / \sum_i |o_i|$, which isn't exactly zero but tells you just as little.

# %% [markdown]
# <a id="build" name="build"></a>
# ## 6. Build: one step of GRPO
#
# Now you'll put all the parts together. Whichever profile you use, the policy here is the embedded model with the adapter from week 5. First load this policy and define a function that samples from it. The function uses the step number as its random seed, so a second training loop can later sample exactly the same answers.

# %% tags=["aside"]
from postlab.models import load_policy, trainable
from postlab.profile import get_profile
from postlab.sampling import end_of_turn, render
from postlab.scratch.sampling import sample

tiny = lab if lab.profile.name == "tiny" else postlab.Lab(get_profile("tiny"), seed=0)


def start():
    """Week 5's policy, its adapter trainable, and its tokenizer."""
    policy, tokenizer = load_policy(tiny.checkpoint("dpo"), profile="tiny", bits=32)
    return trainable(policy), tokenizer


policy, tiny_tokenizer = start()
END = end_of_turn(tiny_tokenizer)


# %% tags=["aside"]
def ids_of(prompt):
    text = render(tiny_tokenizer, prompt)
    return tiny_tokenizer(text, add_special_tokens=False)["input_ids"]


def draw(policy, prompts, *, step):
    luck = torch.Generator().manual_seed(step)
    prompts = [ids_of(prompt) for prompt in prompts]
    return sample(policy, prompts, eos=END, max_new_tokens=64, generator=luck)


def answers_of(rollouts):
    """The tokens of each answer, without padding."""
    pairs = zip(rollouts.completions, rollouts.mask, strict=True)
    return [ids[real.bool()].tolist() for ids, real in pairs]


# %% [markdown]
# These are the parts:
#
# | part | what it does |
# |---|---|
# | `draw(policy, prompts)` | samples one answer for each prompt in the list; call it once per step, with all the prompts. The result has `completions` and `mask`, both `(B, T)` |
# | `score(rollouts, golds)` | returns a list with one reward per answer; `golds` needs one right number per answer |
# | `group_advantages(rewards, group_size)` | your function from section 4 |
# | `completion_states(policy, rollouts)[0]` | the logits from which each token of the answers was sampled, `(B, T, V)` |
# | `token_logps(logits, completions)` | the log-probs of these tokens, `(B, T)` |
# | `grpo_loss(logps, advantages, mask, old_logps=…, ref_logps=…)` | the loss from section 5, one number |
# | `torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)` | scales all gradients down if their joint norm is above 1, and returns the norm before scaling |
#
# ### Exercise 7.2 · about 30 minutes · hard
#
# Write `grpo_step`, which samples `group_size` answers to each prompt, scores them, and updates the policy once. Since there is only one update per batch, the old log-probs equal the current ones but carry no gradient. With $\beta = 0$, the reference has no effect, so pass the old log-probs as `ref_logps`, too. Return two things: the rewards as a tensor of shape `(B,)`, one group after another, and the gradient norm before clipping, as a number.
#
# The check updates a policy with 25 weights, once with your step and once with ours, and compares the results. The cells after it are the real test: ten of your steps on the embedded model must give the same rewards and gradient norms as TRL's trainer, and the policy must learn.
#
# <details><summary>Hint 1</summary>
#
# Start with the shapes. With P prompts and G answers to each, B is P · G. Which of the parts take P items, and which take B?
#
# </details>
# <details><summary>Hint 2</summary>
#
# What order must the answers be in so that `view(-1, group_size)` in your `group_advantages` puts the answers to *one* prompt into one row? The right numbers must be in the same order.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Which log-probs need a gradient, and which must not have one?
#
# </details>
# <details><summary>Hint 4</summary>
#
# `backward` *adds* to the gradients that are already there. When must you clear them? And when must you clip them so that this affects the update?
#
# </details>

# %%
from postlab.scratch.losses import token_logps
from postlab.scratch.sampling import completion_states


def grpo_step(policy, prompts, golds, *, draw, score, optimizer, group_size):
    raise NotImplementedError


grpo_step = check.grpo_step(grpo_step)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def grpo_step(policy, prompts, golds, *, draw, score, optimizer, group_size):
#     # 1. Sample G answers to each prompt.
#     rollouts = draw(policy, [prompt for prompt in prompts for _ in range(group_size)])
#     # 2. Score them.
#     rewards = torch.tensor(score(rollouts, [gold for gold in golds for _ in range(group_size)]))
#     # 3. Compare them within each group.
#     advantages = group_advantages(rewards, group_size)
#     # 4. Make the better answers more likely.
#     logps = token_logps(completion_states(policy, rollouts)[0], rollouts.completions)
#     now = logps.detach()
#     loss = grpo_loss(logps, advantages, rollouts.mask, old_logps=now, ref_logps=now)
#     optimizer.zero_grad()
#     loss.backward()
#     norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
#     optimizer.step()
#     return rewards, norm.item()
# ```
#
# </details>
#
# Now put this step in a loop; the only additions are an optimizer and a learning rate that falls to zero:

# %% tags=["aside"]
from functools import partial

G, PROMPTS, STEPS, RATE = 8, 6, 10, 4e-4
tiny_rows = math_rows("tinyworld", split="train", n=PROMPTS * STEPS, seed=1)


def texts_of(rollouts):
    return tiny_tokenizer.batch_decode(answers_of(rollouts), skip_special_tokens=True)


def scored(texts, golds):
    return math_reward(texts, answer=golds)


def train_grpo(policy, steps, *, scored=scored):
    """Train on `tiny_rows` in their order; `scored(texts, golds)` gives the rewards."""
    weights = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=STEPS)
    for step in range(steps):
        rows = tiny_rows[step * PROMPTS :][:PROMPTS]
        rewards, norm = grpo_step(
            policy,
            [row["prompt"] for row in rows],
            [row["answer"] for row in rows],
            draw=partial(draw, step=step),
            score=lambda rollouts, golds: scored(texts_of(rollouts), golds),
            optimizer=optimizer,
            group_size=G,
        )
        schedule.step()
        silent = (rewards.view(-1, G).std(dim=1) == 0).float().mean().item()
        yield {"reward": rewards.mean().item(), "grad_norm": norm, "silent": silent}


ours = pd.DataFrame(train_grpo(policy, STEPS))
ours.round(3).T

# %% [markdown]
# In ten steps, the reward rises from 0.52 to 0.98. But does your loop compute the same thing as the library? We give TRL's trainer the same starting model, prompts and learning rates. Through `rollout_func`, TRL even uses the same sampling function with the same random seeds.
#
# **Predict first.** Over ten steps, will the curves of the two runs match roughly, closely or exactly?

# %% tags=["aside"]
import tempfile

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from postlab.show import record_groups, rollout_explorer


def rollout(prompts, trainer):
    drawn = draw(trainer.model, prompts, step=trainer.state.global_step)
    asked = [ids_of(prompt) for prompt in prompts]
    return {"prompt_ids": asked, "completion_ids": answers_of(drawn), "logprobs": None}


same = dict(get_profile("tiny").grpo.trainer) | {"max_steps": STEPS, "learning_rate": RATE}
same |= {"per_device_train_batch_size": G * PROMPTS, "num_generations": G, "loss_type": "grpo"}
same |= {"shuffle_dataset": False, "save_strategy": "no"}
watched, beside = record_groups(math_reward, tiny_tokenizer, group_size=G), None
if lab.profile.device != "cpu":
    lab.not_here(
        "on a GPU Unsloth replaces TRL's GRPOTrainer by one that only trains models that Unsloth"
        " loaded; run this section with POSTLAB_PROFILE=tiny."
    )
else:
    beside = GRPOTrainer(
        model=start()[0],
        processing_class=tiny_tokenizer,
        reward_funcs=watched,
        train_dataset=Dataset.from_list(tiny_rows).select_columns(["prompt", "answer"]),
        rollout_func=rollout,
        args=GRPOConfig(output_dir=tempfile.mkdtemp(), seed=lab.seed, **same),
    )

# %% tags=["aside"]
import contextlib
import io

from postlab.course.week07 import plot_pair

if beside:
    with contextlib.redirect_stdout(io.StringIO()):  # the log is read below
        beside.train()
    trl = pd.DataFrame(entry for entry in beside.state.log_history if "reward" in entry)
plot_pair(ours, trl, names=("yours", "TRL")) if beside else None

# %% [markdown]
# They match exactly. Both runs sample the same answers, so they get the same rewards, and their gradients differ only by rounding. With these settings, everything that TRL's GRPO trainer does is on this page.
#
# `record_groups` has stored everything that TRL's reward function saw. Step through the groups: each page shows one prompt and its group, colored by advantage. Training makes the blue answers more likely and the red ones less likely.

# %% tags=["aside"]
rollout_explorer(watched.groups) if beside else None

# %% [markdown]
# Notice two things. First, **every token of an answer has the same color.** If a worked sum goes wrong in its last step, the correct steps before it are punished as well. This is why week 10 introduces process rewards. Second, in a group that contains both worked answers and guesses, like the one above, the worked answers are the right ones. These answers become more likely, so the policy learns to *work things out*, although the reward ignores the work.

# %% [markdown]
# <a id="train" name="train"></a>
# ## 7. Train
#
# Now train the actual stage. Your profile uses these settings:

# %%
# NBVAL_CHECK_OUTPUT
pd.Series(dict(grpo.trainer), name="GRPOConfig").to_frame()

# %% [markdown]
# Each prompt gets eight answers. Each step uses eight prompts on `tiny` and four on `smol`. With `beta` at 0, there's no reference model in memory. With one update per batch, the clip has no effect.
#
# If you set `beta` above 0, check which model serves as the reference, because it depends on the trainer. TRL's own trainer, which runs on a CPU, keeps a frozen copy of the adapter you start from. On a GPU, Unsloth replaces this trainer with a version that switches the adapter off instead. The reference is then the *base* model, and the KL term pulls the policy back toward the model before SFT and DPO. In week 5, the reference is the starting model in both cases.
#
# Most of the training time is spent on sampling. `generate` processes the prompt again for every sample in the group, and finished sequences stay in the batch until the longest one ends. On a CPU, `rollout_func` passes the sampling to postlab's own engine, which avoids both problems and samples from the same distribution. On a GPU, the run takes about one to four hours. To watch its curves live, import `LiveView` from `postlab.show` and pass `callbacks=[LiveView("grpo")]` to the trainer.

# %%
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from postlab import rewards as verifiers
from postlab.models import float32_adapters
from postlab.runs import freed_memory_kept, without_padding
from postlab.sampling import rollout_func

verifier = getattr(verifiers, grpo.reward or "math_reward")  # a profile of yours may name another
run = lab.run("grpo", parent=parent)
trainer = GRPOTrainer(
    model=float32_adapters(model),  # TRL rounds a 4-bit model's adapter to bf16 on a CPU
    processing_class=tokenizer,
    reward_funcs=verifier,
    train_dataset=Dataset.from_list(rows).select_columns(["prompt", "answer"]),
    rollout_func=rollout_func if lab.profile.device == "cpu" else None,
    args=GRPOConfig(output_dir=str(run.checkpoints), seed=lab.seed, **grpo.trainer),
)
with freed_memory_kept(), without_padding(trainer.model):  # optional: a CPU trains faster
    log = run.train(trainer)

# %% [markdown]
# **Predict first.** Which curve tells you that training is working: the loss, the reward, or the length?

# %%
from postlab.show import plot_stages, plot_training

plot_training(log, "grpo")

# %% [markdown]
# The reward does. The loss isn't even plotted, for the reason you saw in section 5. On `tiny`, also look at the length: nobody rewarded long answers, but working out a sum takes more tokens than guessing it. So the length rises along with the accuracy. The entropy falls, because the policy becomes more certain about how to answer.
#
# DeepSeek-R1's famous length curve looks similar, but be careful with the comparison. Part of the growth in such runs can come from the loss instead: dividing by $|o_i|$ reduces the penalty on each token of a long wrong answer ([2503.20783](https://arxiv.org/abs/2503.20783)).
#
# As the sums become easier for the policy, the share of zero-variance groups rises from about a third to two thirds. So the last steps cost as much as the first ones, but the policy learns less from them.

# %% [markdown]
# <a id="log" name="log"></a>
# ## 8. Reading the log
#
# | column | healthy | look twice if |
# |---|---|---|
# | `reward` | starts close to the starting model's sampled accuracy (each step has few prompts, so average several), then rises | it starts at 0 or at 1 |
# | `frac_reward_zero_std` | well below 1 | it is near 1: nearly all prompts are too easy or too hard |
# | `completions/clipped_ratio` | near 0 | it is high: answers are cut off before they end, and score 0 |
# | `completions/mean_length` | moves along with the reward | it drifts while the reward stays flat |
# | `entropy` | falls slowly | it is near 0 early on: the G answers of a group are all the same |
# | `grad_norm` | neither 0 nor growing | it is 0: every group has zero variance, or the adapter is frozen |
# | `clip_ratio/*` | 0 with one update per batch | it is large: one batch gets too many updates |
# | `kl` | logged only with `beta` above 0 | it jumps |
# | `loss` | any small value is fine | it is NaN |

# %%
steps = pd.DataFrame(entry for entry in log if "reward" in entry)
columns = ["reward", "frac_reward_zero_std", "entropy", "grad_norm", "loss", "learning_rate"]
columns[1:1] = ["completions/mean_length", "completions/clipped_ratio"]
thirds = pd.cut(steps["step"], 4, labels=["first quarter", "second", "third", "last"])
steps.groupby(thirds, observed=True)[columns].mean().T.map("{:.4g}".format)

# %% [markdown]
# From the first to the last quarter of this run, the entropy falls to about an eighth of its value. That limits further learning: when all eight answers to a prompt are the same, there's nothing left to learn from comparing them.
#
# **The learning rate.** On `tiny`, the rate falls linearly from the first step: $\eta_t = \eta_0 \, (1 - t / T)$. `smol` keeps it constant. `t4` and `rented` use a warm-up and then a cosine schedule. Which schedule is right, and how high can the rate be? We recorded a sweep up to the point where training collapses. Between 1e-4 and 1.6e-3, the accuracy on sums hardly depends on the rate. But skills that aren't rewarded do suffer. At four times the recipe's rate, held constant, accuracy on facts fell from 98% to 64% (40 prompts, mean of five seeds). [A deeper section](#deeper-rates) shows the figure and discusses its limits.

# %% [markdown]
# <a id="changed" name="changed"></a>
# ## 9. What changed?
#
# First, look at the sums again, as in section 1:

# %%
after = lab.evaluate(run, trainer.model, tokenizer)
styles(after)

# %% [markdown]
# Here is the answer to your first prediction. Every sum is now worked out, and 98% to 100% of the answers are right, even for the short sums, which started at 5%. Here are a few answers from before and after:

# %%
both = before[["family", "prompt", "answer"]].rename(columns={"answer": parent})
both["grpo"] = after["answer"]
both[both["family"] == family].head(8)

# %%
from postlab.evals import compare

table = compare({parent: before, "grpo": after})
drawn = ["arithmetic", "arithmetic_sampled", "facts", "lists", "safety", "honesty"]
drawn += ["helpfulness", "instructions", "gsm8k_strict", "gsm8k_lenient"]  # what the suite measures
plot_stages(table[table["metric"].isin(drawn)], profile=lab.profile.name)

# %% [markdown]
# Greedy accuracy tells you what the policy does when it always picks the most likely token. Accuracy at temperature 1 tells you what a typical sample looks like. If RL only *sharpens* a model, sampled accuracy rises to the level of greedy accuracy. On `tiny`, both accuracies rose, because the habit itself changed ([more on this](#deeper-pass)). `t4` and `rented` measure only the greedy answer.
#
# What about everything that wasn't rewarded, like facts, lists, safety and honesty? In the stored output, none of these changes is conclusive. Accuracy on facts fell by 3 points. The interval of this drop excludes zero, but we looked at many metrics, and after Holm's correction (week 6), it isn't significant.
#
# But "inconclusive" doesn't mean "unchanged", and this is only one run. We ran the same chain with eight seeds (`data/results/tiny/summary.json`). Accuracy on list operations fell for every seed, by 2 to 5.5 points, so GRPO has a small cost here. Accuracy on facts fell by 8 points with seed 2, and safety fell by 5.5 with seed 3. With the other seeds, both changed much less.
#
# > **The roadmap says** GRPO was introduced with R1 in January 2025. **The evidence says** it was introduced with DeepSeekMath in February 2024; R1 made it famous.
#
# One caution about published gains: many were measured on Qwen models, whose pretraining data contained a lot of math. Qwen2.5-Math-7B even gained 21 points on MATH-500 with *random* rewards, which often did nothing for Llama and OLMo models ([2506.10947](https://arxiv.org/abs/2506.10947)). That's why the larger profiles also name a model from a second family.
#
# Do other seeds give the same result? For five of the eight chains, we recorded every answer. The table shows the greedy and sampled accuracy, the share of worked-out answers, and the mean length in tokens:

# %%
import json

import numpy as np
import pandas as pd

from postlab.profile import data_dir


def numbers(values):
    return np.array(values, dtype=float)


results = data_dir() / "results" / "week07"
five = json.loads((results / "seeds.json").read_text())
shown = {"greedy": "arithmetic, strict", "sampled": "arithmetic_sampled, strict"}
shown |= {"worked": "worked", "tokens": "tokens"}
pd.DataFrame(
    {
        f"seed {one['seed']}": {
            f"{name}, {when}": numbers(one[when][key]).mean()
            for name, key in shown.items()
            for when in ("start", "end")
        }
        for one in five["seeds"]
    }
).round(2)

# %% [markdown]
# The result is the same for all five seeds: at the end, every sum is worked out, and nearly all are right. The policy could already work out sums before GRPO, and week 3's data contained a few worked-out short sums. GRPO made the worked-out answers the rule, because they earn more reward.
#
# <a id="end" name="end"></a>
# ## 10. The paper, and what you have now
#
# The paper to read this week is **[DeepSeekMath, Shao et al. 2024](https://arxiv.org/abs/2402.03300)**, sections 4 and 5.2 (about 20 minutes). Section 4.1 presents the objective that you implemented. Compare equation 3 with the formula in section 5: where is the KL term, and what are the means taken over? Then look at figure 7 in section 5.2. There the authors ask whether RL teaches the model anything new and find that it mainly improves majority voting (maj@k), not pass@k.
#
# You now have a trained stage in `runs/<profile>/seed-<n>/grpo/`, a training step of your own that matches TRL's, and two habits: comparing the reward of the first steps with the accuracy of the starting model, and checking what the reward *doesn't* measure. In week 8 you'll diagnose broken runs, watch a reward get hacked, and find out which of GRPO's parts you can do without.

# %% [markdown]
# <a id="deeper-gradient" name="deeper-gradient"></a>
# ## Deeper: REINFORCE and its baseline
#
# How much noise does the baseline remove? Here is REINFORCE on the three possible answers from section 3, with and without a baseline:


# %%
def climb(baseline, seed, updates=60):
    logits, luck = torch.zeros(3, requires_grad=True), torch.Generator().manual_seed(seed)
    for update in range(1, updates + 1):
        drawn = torch.multinomial(logits.softmax(0), 4, replacement=True, generator=luck)
        rewards = REWARDS[drawn]
        surplus = rewards - (rewards.mean() if baseline else 0)
        loss = -(surplus * logits.log_softmax(0)[drawn]).mean()
        logits.data -= 0.5 * torch.autograd.grad(loss, logits)[0]
        yield {"seed": seed, "step": update, "best": logits.softmax(0)[0].item()}


# %% [markdown]
# **Predict first.** Every answer here has a reward above 0, so without a baseline every sampled answer is made more likely. With a baseline, we first subtract the mean reward of the four samples. Does the baseline change where training ends up, or how it gets there?

# %%
from postlab.course.week07 import plot_climb

methods = {"without a baseline": False, "with one": True}
plot_climb(
    pd.DataFrame(
        {"method": name} | row
        for name, baseline in methods.items()
        for seed in range(12)
        for row in climb(baseline, seed)
    )
)

# %% [markdown]
# The baseline mostly changes the path that training takes. Without a baseline, whatever happens to be sampled becomes more likely, even if it's one of the worse answers. It is then sampled more often and becomes even more likely. Some runs (thin lines) go the wrong way for a while, and after sixty updates one of the twelve is still well below the others. The baseline removes most of this noise.
#
# One detail: the mean of the samples isn't quite a constant, because each sample's own reward is part of it. With $n$ samples, this effect scales the expected gradient by $(n-1)/n$ but doesn't change its direction. RLOO avoids even this scaling by comparing each sample with the mean of the *others*.

# %% [markdown]
# ### Exercise 7.3 · about 10 minutes · easy
#
# Write the same loss for answers with many tokens. `logps` and `mask` have the shape `(B, T)`, and `rewards` has the shape `(B,)`. For each answer, multiply its log-probability by its reward minus the mean of all rewards. Return one number: the mean over the answers, with a minus sign.
#
# <details><summary>Hint 1</summary>
#
# The log-probability of an answer is the sum of its tokens' log-probabilities. Padding isn't part of the answer.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `rewards - rewards.mean()` has the shape `(B,)`, and so does `(logps * mask).sum(dim=1)`.
#
# </details>


# %%
def reinforce_loss(logps, rewards, mask):
    raise NotImplementedError


reinforce_loss = check.reinforce_loss(reinforce_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def reinforce_loss(logps, rewards, mask):
#     surplus = rewards - rewards.mean()
#     return -(surplus * (logps * mask).sum(dim=1)).mean()
# ```
#
# </details>
#
# The *value* of this loss tells you nothing: it isn't an error that should go to zero. What counts is its gradient. In this example, the first answer was right and the second one wrong:

# %%
# NBVAL_CHECK_OUTPUT
logps = torch.tensor([[-1.0, -2.0], [-4.0, -9.0]], requires_grad=True)
loss = reinforce_loss(logps, torch.tensor([1.0, 0.0]), torch.tensor([[1, 1], [1, 0]]))
loss.item(), torch.autograd.grad(loss, logps)[0].tolist()

# %% [markdown]
# The gradient is negative for the tokens of the right answer. Gradient descent moves in the opposite direction, so these tokens become more likely, and those of the wrong answer become less likely. The padding gets no gradient.

# %% [markdown]
# <a id="deeper-kl" name="deeper-kl"></a>
# ## Deeper: the KL term, and the loss by hand
#
# The KL is estimated from the sampled tokens. Three estimators are common. With $d = \log \pi - \log \pi_\text{ref}$ they are $k_1 = d$, $k_2 = d^2/2$ and $k_3 = e^{-d} - 1 + d$. Here are their values for a vocabulary of three tokens:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.scratch.losses import kl_estimate

policy, ref = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.3, 0.2])
found = {k: kl_estimate(policy.log(), ref.log(), kind=k) for k in ("k1", "k2", "k3")}
found = {k: [*values.tolist(), (policy * values).sum().item()] for k, values in found.items()}
pd.DataFrame(found, index=["token a", "token b", "token c", "mean under the policy"]).round(4)

# %% [markdown]
# Under the policy, the means of $k_1$ and $k_3$ are both exactly the KL, 0.0851. But $k_1$ can be negative for an individual token, whereas $k_3$ never is. That's why GRPO uses $k_3$.
#
# As a *loss*, however, $k_3$ has a catch. Its gradient is $\nabla k_3 = (1 - e^{-d})\, \nabla \log \pi$, where $e^{-d} = \pi_\text{ref}/\pi$. If you take the expectation over the policy's samples, the first term vanishes, as in section 3. What's left is
#
# $$\mathbb{E}_{y \sim \pi}[\nabla k_3] = -\sum_y \pi(y)\, \frac{\pi_\text{ref}(y)}{\pi(y)}\, \nabla \log \pi(y) = -\sum_y \pi_\text{ref}(y)\, \nabla \log \pi(y) = \nabla\, \mathrm{KL}(\pi_\text{ref} \,\|\, \pi)$$
#
# This is the gradient of the KL in the *other* direction ([2510.01555](https://arxiv.org/abs/2510.01555)). To get the KL in the right direction, multiply $k_3$ by the ratio $\rho$ before you differentiate. On policy, where $\rho = 1$ and $\nabla \rho = \nabla \log \pi$, the product rule gives
#
# $$\nabla(\rho\, k_3) = k_3 \nabla \log \pi + \nabla k_3 = (e^{-d} - 1 + d + 1 - e^{-d})\, \nabla \log \pi = d\, \nabla \log \pi$$
#
# and the expectation of this is the gradient of KL(π ‖ π_ref). TRL 1.14 uses this correction by default (`use_bias_correction_kl=True`). The loss in the next exercise is the one from the DeepSeekMath paper, without this factor.

# %% [markdown]
# ### Exercise 7.4 · about 20 minutes · hard
#
# Write the loss from section 5, including its KL term. `logps`, `old_logps`, `ref_logps` and `mask` have the shape `(B, T)`, and `advantages` has the shape `(B,)`. First take the mean over the tokens of each answer, and then the mean over the answers.
#
# <details><summary>Hint 1</summary>
#
# `advantages[:, None]` gives each token the advantage of its answer. The clipped part is the same as in week 4.
#
# </details>
# <details><summary>Hint 2</summary>
#
# $k_3$ is `torch.exp(ref_logps - logps) - 1 - (ref_logps - logps)`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# For the mean over an answer's tokens, divide by `mask.sum(dim=1)`, not by T.
#
# </details>


# %%
def grpo_loss(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
    raise NotImplementedError


grpo_loss = check.grpo_loss(grpo_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def grpo_loss(logps, advantages, mask, *, old_logps, ref_logps, clip=0.2, beta=0.0):
#     ratio = torch.exp(logps - old_logps)
#     near = ratio.clamp(1 - clip, 1 + clip)
#     policy = -torch.minimum(ratio * advantages[:, None], near * advantages[:, None])
#     kl = torch.exp(ref_logps - logps) - 1 - (ref_logps - logps)
#     loss = policy + beta * kl
#     return ((loss * mask).sum(dim=1) / mask.sum(dim=1)).mean()
# ```
#
# </details>

# %% [markdown]
# <a id="deeper-clip" name="deeper-clip"></a>
# ## Deeper: when the clip begins to act
#
# > **The roadmap says** GRPO has no complex PPO-style clipping. **The evidence says** its objective is $\min(\rho A, \operatorname{clip}(\rho) A)$, as in PPO ([eq. 3](https://arxiv.org/abs/2402.03300)). With one update per batch, every ratio is 1 and the clip has no effect.
#
# When does the clip start to have an effect? Let's make several updates on the *same* batch of answers:

# %% tags=["aside"]
from postlab.scratch.losses import clipped_policy_loss

policy, six = start()[0], tiny_rows[:PROMPTS]
rollouts = draw(policy, [row["prompt"] for row in six for _ in range(G)], step=0)
golds = [row["answer"] for row in six for _ in range(G)]
rewards = torch.tensor(scored(texts_of(rollouts), golds))

# %% tags=["aside"]
from postlab.course.week07 import plot_reuse

advantages, real = group_advantages(rewards, G), rollouts.mask.bool()
weights = [p for p in policy.parameters() if p.requires_grad]
optimizer, old, shares = torch.optim.AdamW(weights, lr=RATE), None, []
for update in range(1, 9):
    logps = token_logps(completion_states(policy, rollouts)[0], rollouts.completions)
    old = logps.detach() if old is None else old
    _, clipped = clipped_policy_loss(logps, old, advantages)
    away = ((logps - old).exp() - 1).abs() > 0.2
    share = {"outside": away[real].float().mean(), "clipped": clipped[real].float().mean()}
    shares.append({"update": update} | {name: value.item() for name, value in share.items()})
    loss = grpo_loss(logps, advantages, rollouts.mask, old_logps=old, ref_logps=old)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
plot_reuse(pd.DataFrame(shares))

# %% [markdown]
# From the second update on, the clip removes the gradient of about 3 to 4% of the tokens; at the eighth update, it's almost 6%. So if you use a batch more than once (`num_iterations` in TRL), the clip limits how far that batch can move the policy.
#
# Why do the two lines nearly coincide? A token is clipped only if its ratio has left the bounds in the direction in which its advantage pushes it: above 1.2 with a positive advantage, or below 0.8 with a negative one. Then the minimum picks the clipped term, which is constant, so the gradient is zero. A token whose ratio has left the bounds in the opposite direction keeps its gradient, and this gradient brings it back. Here almost all the tokens outside the bounds were pushed there by their own advantage.

# %% [markdown]
# <a id="deeper-hunt" name="deeper-hunt"></a>
# ## Deeper: it runs, but it doesn't learn
#
# A colleague reused your step, your loop and your starting model. But she thought that the scoring function itself should line up the right numbers with the answers, so she wrote her own:

# %% tags=["aside"]
from postlab.course.week07 import plot_hunt


def her_scores(texts, golds):
    return math_reward(
        texts, answer=golds[::G] * G
    )  # the G copies of each number, once; then G times


hers = pd.DataFrame(train_grpo(start()[0], 6, scored=her_scores))
plot_hunt(ours, hers)

# %% [markdown]
# There is no error and no NaN, and every step has a gradient. **What is wrong, and which of the curves gives it away?**
#
# <details><summary>Answer</summary>
#
# `golds[::G]` takes every eighth number, which gives her the six different ones. But `* G` then repeats the whole list: number 1, number 2, … number 6, then number 1 again. The G answers to one prompt, however, are next to each other, so most answers are compared with the right number of a *different* sum.
#
# The first reward gives the bug away. Both loops start from the same model and sample the *same* answers in the first step, but yours scores 52% of them as right and hers only 10%. About one answer in six happens to line up with its own number, which explains most of the 10%. But which answers line up depends on their place in the batch, so right answers in the same group get different rewards, and her advantages are mostly noise. And this noise isn't small: because we divide by the standard deviation of the group, a single match gets the largest possible advantage.
#
# </details>
#
# Here is the cheapest test of any reward: give it the right answers.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
golds = ["57", "102", "8", "114", "61", "75"]
golds = [gold for gold in golds for _ in range(G)]
perfect = [f"#### {gold}" for gold in golds]
sum(scored(perfect, golds)) / len(perfect), sum(her_scores(perfect, golds)) / len(perfect)

# %% [markdown]
# The correct reward gives full marks to all of these answers, and the broken one to only a sixth of them. TRL repeats the columns of a dataset for you, so this exact bug can't happen there. But similar bugs can: for example, a column that was shuffled separately from its prompts, or a reward that picks up a number from the *question*. The same test helps there.

# %% [markdown]
# <a id="deeper-rates" name="deeper-rates"></a>
# ## Deeper: learning rates and schedules
#
# If one setting of an RL run is wrong, it's usually the learning rate. If it's too low, nothing happens within your budget. If it's too high, the run may look excellent until it collapses. Where is the limit? And do a warm-up and a falling rate help?
#
# First, let's check TRL's schedule. The rates logged in section 6 should fall in a straight line:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
entries = beside.state.log_history if beside else []
rates = [entry["learning_rate"] for entry in entries if "reward" in entry]
wanted = [RATE * (1 - step / STEPS) for step in range(STEPS)]
same_rates = rates and torch.allclose(torch.tensor(rates), torch.tensor(wanted))
([f"{rate:.1e}" for rate in rates], same_rates) if beside else None

# %% [markdown]
# Why would a **warm-up** help? The reason is Adam. In the first step, Adam's averages contain just one gradient $g$, so the update is $\eta\, g / \sqrt{g^2} = \pm\eta$ for every weight, however small the gradient was. The first step is thus as large as any, although it's based on just one batch. A warm-up makes the first steps smaller. And why let the rate **fall**? Smaller steps at the end average out the gradient noise, and you may be able to start with a higher rate.
#
# We recorded runs from the same starting policy with five rates, each four times as high as the one before. There are three schedules: a constant rate, a constant rate after a warm-up over the first four steps, and a straight line down to zero. Each run has 20 steps, half as many as the recipe, so that you can also see when a rate is too low. Otherwise, the runs differ only in the seed. Each step samples 64 answers and makes one update, so nothing is clipped. The two lowest rates have one run per schedule, and the other three have five.
#
# **Predict first.** The recipe's rate is 1e-4. At which of the rates 2.5e-5, 1e-4, 4e-4, 1.6e-3 and 6.4e-3 does training collapse? And what suffers first?

# %% tags=["aside"]
record = json.loads((results / "rates.json").read_text())
made_by = ("command", "commit", "seeds", "date", "device")
print({name: record["provenance"][name] for name in made_by})

# %% tags=["aside"]
from postlab.course.week07 import plot_rates

OTHERS = ("lists", "facts", "howto", "unsafe", "unknown")


def shares(scores):
    """Share of right answers to sums, and to the prompts of all other families."""
    others = np.concatenate([numbers(scores[family]) for family in OTHERS])
    return {"sums": numbers(scores["arithmetic"]).mean(), "other prompts": others.mean()}


sweep = pd.DataFrame(
    {"schedule": one["arm"].split()[0], "rate": record["arms"][one["arm"]]["learning_rate"]}
    | {"seed": one["seed"], **shares(one["end"])}
    | {"facts": numbers(one["end"]["facts"]).mean()}
    | {"last rewards": numbers(one["log"]["reward"])[-5:].mean()}
    for one in record["runs"]
)
plot_rates(sweep, start=shares(record["start"]))

# %% tags=["aside"]
by = ["rate", "schedule"]
means = sweep.groupby(by)[[*sweep.columns[3:]]].mean().round(2)
print(means.assign(runs=sweep.groupby(by).size()).to_string())

# %% [markdown]
# At the rates that have five seeds, we can test whether the schedule matters. Each row compares a schedule with the constant rate, seed by seed, and Holm's correction covers all 18 comparisons:

# %% tags=["aside"]
from scipy.stats import ttest_rel

from postlab.stats import holm

tests = []
for rate in (4e-4, 1.6e-3, 6.4e-3):
    part = sweep[sweep["rate"] == rate]
    for measure in ("sums", "other prompts", "facts"):
        shares_of = part.pivot(index="seed", columns="schedule", values=measure)
        for schedule in ("warm-up", "decay"):
            test = ttest_rel(shares_of[schedule], shares_of["constant"])
            low, high = test.confidence_interval()
            change = (shares_of[schedule] - shares_of["constant"]).mean()
            row = {"rate": f"{rate:g}", "measure": measure, "against constant": schedule}
            row |= {"difference": change, "low": low, "high": high, "p": test.pvalue}
            tests.append(row)
tests = pd.DataFrame(tests)
tests["Holm's p"] = holm(tests.pop("p"))
print(tests.round(2).to_string(index=False))

# %% [markdown]
# Here is what the figure shows, from left to right:
#
# - **A rate of 2.5e-5 is too low for 20 steps.** With a constant rate, accuracy on the sums reaches 80%, but in the last steps, only about half of the samples are right.
# - **From 1e-4 to 1.6e-3, the sums are fine:** on average, 96% to 99% are right, whatever the schedule. If you only watched the reward, you'd conclude that the rate hardly matters.
# - **Skills that aren't rewarded suffer first.** At a constant rate of 4e-4, accuracy on facts fell from 98% to 64% on average. At 1.6e-3, it fell to 50% (18% to 88%, depending on the seed). The higher the rate, the more training on sums disturbs other skills, and the reward shows none of this.
# - **At 6.4e-3, training collapses.** With seed 0 and a constant rate, the reward reaches 0.95 in the second step, more than at any lower rate, and later falls to zero. In the log of this run, the answers get longer (about 60 tokens at the end, with a limit of 64), and the entropy *rises*.
#
# **The decay helps at one rate.** At 4e-4, runs with a falling rate score 18 points higher on facts than runs with a constant one (12 to 25, corrected p 0.03), and they lose nothing on the sums. One simple reason is that falling rates add up to only about half as much, so the policy moves less. At 1.6e-3, we see no such difference, but there, accuracy on facts varies by up to 75 points between seeds.
#
# **The warm-up** made no difference that we could show at 4e-4 and 1.6e-3. At 6.4e-3, all five policies trained at a constant rate get at most 2.5% of the sums right. With a warm-up, two of the five still solve 27% and 40% of the sums. With decay, three of the five still solve 62% to 88%. Both differences are inconclusive, because the results depend so much on the seed. So in these runs, neither schedule reliably makes up for a rate that is too high. The cheapest protection is a lower rate: at 1e-4, at least 92% of the facts were still right (one run per schedule).
#
# What do others use? For *full* fine-tuning with GRPO, DeepSeekMath used a rate of 1e-6 ([section 4.2](https://arxiv.org/abs/2402.03300)), and DAPO used a constant 1e-6 after a warm-up over 20 rollout steps ([section 4.1](https://arxiv.org/abs/2503.14476)). LoRA tolerates about ten times the rate of full fine-tuning in SFT and RL ([LoRA Without Regret](https://thinkingmachines.ai/blog/lora/)). For on-policy distillation, their Tinker recipe only doubles the rate. For GRPO, our profiles use 5e-6 for a 7B model (`rented`) and 1e-5 for a 1.5B model (`t4`). Our tiny model tolerates much higher rates. So copy our method, not our rates: sweep in factors of four until something breaks, and watch the skills that you don't train.

# %% [markdown]
# <a id="deeper-filter" name="deeper-filter"></a>
# ## Deeper: prompts of the right difficulty
#
# A group whose answers are all right or all wrong contributes no gradient. In section 7's run, about a third of the groups were uninformative at the start and two thirds at the end. So why not drop such prompts in advance? In **difficulty filtering**, you let the starting policy answer each prompt a few times and keep only the prompts that it gets right sometimes, but not always. Filtering *during* training is called dynamic sampling, a topic of week 8. [Bae et al. 2025](https://arxiv.org/abs/2504.03380) derive a lower bound on the improvement, which is highest for prompts with a pass rate of one half. They also report gains from filtering online.
#
# Whether a filter pays off depends on its cost, because its answers have to be generated, too. We recorded short runs of eight steps with eight seeds. *Filtered* runs use prompts that the starting policy got right once, twice or three times out of four. *Unfiltered* runs take prompts from the same list, in order. The *longer* runs are unfiltered, too, but they spend as many answers as the filter needs on extra steps.

# %% tags=["aside"]
record = json.loads((results / "filter.json").read_text())
runs = pd.DataFrame(record["runs"])
runs["right"] = 100 * runs["arithmetic"].map(np.mean)
logged = pd.DataFrame(list(runs["log"]))
runs["zero-variance groups, step 1"] = logged["frac_reward_zero_std"].map(lambda log: log[0])
taken = runs["filter"].map(lambda cost: cost["answers"] if cost else 0)
runs["answers, with the filter's"] = runs["answers"] + taken
kept = [*runs.columns[-3:], "steps"]
table = runs.groupby("arm", sort=False)[kept].mean().round(2)
by_arm = runs.groupby("arm")["right"]
print(table.assign(lowest=by_arm.min(), highest=by_arm.max()).T.to_string())

# %% [markdown]
# **Here the filter doesn't help.** With the same number of updates, filtered runs reach 82.4% and unfiltered ones 82.5%. The difference is −0.1 points (interval: −0.8 to 0.6). The filter used 512 or 640 answers per run, at least as many as the training itself. If you spend that many answers on eight to ten further steps instead, accuracy rises by 10 points (9 to 11).
#
# Why doesn't the filter help? Even without a filter, only about a third of the groups have no variance in the first step, so there's little to gain. And four answers say little about a prompt: in the first step, 27% of the filtered groups are still all right or all wrong. Also, the policy soon differs from the one that the filter measured. Few of our prompts stay too hard for long. On a data set where most prompts are far too hard or already solved, the filter would save more, but it would also have to check more prompts.

# %% [markdown]
# <a id="deeper-pass" name="deeper-pass"></a>
# ## Deeper: sharpening, or something new?
#
# Does RL teach a model anything that it couldn't do before? To find out, look at **pass@k**, the share of problems with at least one right answer among $k$ samples. If RL only *sharpens* the model, pass@1 rises while pass@k for a large $k$ stays where it was: the right answers were possible before, and now they are more likely. If RL *adds* something, pass@k rises as well.
#
# The evaluation samples four answers to each sum, so for the five recorded chains, $k$ can go up to 4:

# %% tags=["aside"]
from postlab.course.week07 import plot_pass
from postlab.stats import pass_at_k

SAMPLES = 4
curves = pd.DataFrame(
    {"seed": one["seed"], "stage": stage, "k": k}
    | {"value": np.mean([pass_at_k(SAMPLES, round(SAMPLES * share), k) for share in right])}
    for one in five["seeds"]
    for stage, when in (("dpo", "start"), ("grpo", "end"))
    for right in (numbers(one[when]["arithmetic_sampled, strict"]),)
    for k in (1, 2, 4)
)
plot_pass(curves)

# %% tags=["aside"]
from postlab.stats import blocked_differences

first, last = (
    np.array([numbers(one[when]["arithmetic_sampled, strict"]) for one in five["seeds"]])
    for when in ("start", "end")
)
never = first == 0  # wrong in all four samples
before_after = pd.DataFrame(
    {
        "pass@4 before": (first > 0).mean(axis=1),
        "pass@4 after": (last > 0).mean(axis=1),
        "never right before": never.sum(axis=1),
        "of these, right after": ((last > 0) & never).sum(axis=1) / never.sum(axis=1),
    }
)
by_seed = {"before": before_after["pass@4 before"], "after": before_after["pass@4 after"]}
print(vars(blocked_differences(by_seed, [("after", "before")])[0]))
before_after.rename_axis("seed").round(2)

# %% [markdown]
# Pass@4 rises for every seed, too. The average gain is 13 points (95% interval over the five seeds: 9 to 17). Depending on the seed, the starting model got 19 to 34 sums wrong in all four samples. The final model solves 74% to 100% of these sums at least once, again depending on the seed. Is that something new?
#
# You can't tell, because four samples are far too few to say that a model *can't* do something. If a model gets a sum right in one sample out of six, then all four samples are wrong about half of the time.

# %% [markdown]
# What about a real language model? Here is SmolLM2 before and after GRPO, in the run from [the next section](#deeper-smol). The model answered each of 120 word problems eight times:

# %% tags=["aside"]
from postlab.stats import paired_difference

draws = json.loads((data_dir() / "results" / "smol" / "draws.json").read_text())
passes = {
    (seed, stage, k): np.array([pass_at_k(told["n"], right, k) for right in told["right"]])
    for seed, stages in draws.items()
    for stage, told in stages.items()
    for k in (1, 8)
}
rows_of = [
    {"seed": seed, "pass@": k, "from": first}
    | {"before": passes[seed, first, k].mean(), "after": passes[seed, "grpo", k].mean()}
    | vars(paired_difference(passes[seed, first, k], passes[seed, "grpo", k]))
    for seed in draws
    for first in ("dpo", "sft")
    for k in (1, 8)
]
pd.DataFrame(rows_of).round(3)

# %% [markdown]
# Compared with the model that GRPO started from (`dpo`), pass@1 rose by 15 points, and pass@8 rose by 11 (2 to 20, p = 0.047). On its own, this looks like slightly more than sharpening.
#
# But look one stage further back, at the `sft` rows. After SFT and before DPO, pass@8 was 68%. DPO lowered it to 57%, and GRPO brought it back to 68%. The GRPO model's pass@1 is 13 points higher than the SFT model's (7 to 19). Its pass@8 is about the same (−1 point, interval −9 to 8). That is what sharpening looks like. So the answer depends on which model you compare with. This is true of every paper that reports a gain over "the starting model". With one seed, 120 problems and at most eight samples, this run can't settle the question.
#
# Can RL teach *large* models to solve problems that none of their samples solved before? That's still disputed. [Yue et al. 2025](https://arxiv.org/abs/2504.13837) found that with many samples, base models solve more problems than their RL-trained versions. The authors of [ProRL](https://arxiv.org/abs/2505.24864) trained much longer, on more varied tasks. They report tasks that the base model never solves, however often it tries. [Dragoi et al. 2025](https://arxiv.org/abs/2510.08325) object that if answers are discrete, such as numbers, pass@k for a large $k$ rewards guessing. Instead, they count the problems that are solved *reliably*. [Yuan et al. 2026](https://arxiv.org/abs/2606.15455) attribute the falling pass@k to overtraining: once a problem has been solved in even one of a few samples, further updates on it only narrow the policy. When they updated the model only on problems that none of its samples had solved, pass@256 rose above the base model's on difficult benchmarks.

# %% [markdown]
# <a id="deeper-smol" name="deeper-smol"></a>
# ## Deeper: the same chain on a language model
#
# Most of this notebook is about a 1.4-million-parameter model in a made-up world. `POSTLAB_PROFILE=smol make stages` takes SmolLM2-135M-Instruct through the same three stages in plain English. The stages are SFT on short replies, DPO on pairs built from requests and their look-alikes, and GRPO on simple arithmetic word problems (sums, products, the largest of three numbers). None of the training topics appear in the evaluation. We recorded one run on two CPU cores:

# %%
from postlab.report import summary_frame

smol = data_dir() / "results" / "smol"
chain = summary_frame(json.loads((smol / "summary.json").read_text()))
shown = ["instructions", "safety", "honesty", "over_refusal", "over_abstention", "facts"]
shown += ["arithmetic", "arithmetic_sampled"]
plot_stages(chain[chain["metric"].isin(shown)], profile="smol")

# %% [markdown]
# The intervals below reflect only the choice of prompts, not the variation between runs.
#
# - **SFT** taught the model what form its replies should take. The share of instructions that are followed in every detail rose by 18 points (95% interval: 11 to 27). Accuracy on the word problems rose by 25 points (interval 15 to 34). Some of the SFT rows are word problems, too. At temperature 1, accuracy rose from 4% to 27%. This gain is partly due to length: the sampled answers are cut off after 24 tokens, and the base model usually writes more.
# - **DPO** had the intended effects. Refusals of harmful requests rose by 37 points (28 to 46). Admissions that nobody can know the answer rose by 31 points (23 to 40). But the model can hardly tell a harmful request from its harmless look-alike, which differs in a word or two. Refusals of these look-alikes also rose, by 31 points.
# - **GRPO** raised the accuracy at temperature 1 by 15 points (9 to 22). GRPO also undid most of DPO's work: safety fell by 30 points and honesty by 33. But needless refusals fell by 31 points, and accuracy on facts rose by 10.
#
# Why did GRPO undo DPO's work? Nothing in GRPO's objective protects what DPO taught. The reward covers only arithmetic, there's no KL term, and the learning rate stays at 2e-4. GRPO moved the policy 4.4 nats per answer away from its starting point. That is more than with DPO (2.7) and far more than with GRPO on the tiny model (0.3). So this run tells you what *this recipe* does, not what GRPO must always do.
#
# **What we tried.** A larger batch, a lower rate and a `beta` above zero seemed the obvious remedies. We ran two short trials with 64 completions per step and `beta` 0.02: 20 steps at 1e-4 (after a shorter DPO stage) and 20 at 2e-4. In both, the training reward stayed around 0.3. In a third trial (26 steps, after SFT without any sums), the reward stayed around 0.14. We stopped all three trials early, so they show only that nothing improved early on, not how they would have ended. A gentler DPO run (48 steps, half the weight on the likelihood term) raised safety and over-refusal by the same 19 points on the held-out prompts, so it was no better at telling look-alikes apart. The rewards and shares are in `data/results/smol/trials.json`.

# %% [markdown]
# <a id="deeper-format" name="deeper-format"></a>
# ## Deeper: how much of it is only format?
#
# If a model answers "It is 57", a verifier that expects `#### 57` counts the answer as wrong. Teach the model the format, and its accuracy jumps, although it has learned nothing about sums. That's why the evaluation reads every answer in two ways. The *strict* reading expects the requested format. The *lenient* reading takes the last number, wherever it is. If strict accuracy rises more than lenient accuracy, the difference is due to format.
#
# (`everyday` doesn't ask for a format, and its evaluation takes the last number anyway. So with `smol`, the strict reading below is that of the *reward*. If the reward rises more than the evaluation does, the policy has learned to write for the reward.)

# %%
# NBVAL_CHECK_OUTPUT
from postlab.evals import readings
from postlab.tinyworld.oracle import read
from postlab.tinyworld.tasks import score

said = ["12+30=42, 42+15=57. #### 57", "It is 57.", "#### 56"]
tries = pd.DataFrame({"id": said, "family": "arithmetic", "prompt": "What is 12+30+15?"})
item = read("What is 12+30+15?")
tries["answer"] = said
tries["arithmetic"] = [score(item, answer, True)["arithmetic"] for answer in said]
readings(tries)

# %% [markdown]
# How much of your run's gain is due to format?

# %%
from postlab.stats import bootstrap_interval


def read_twice(frame):
    """Each answer read strictly and leniently, by id."""
    if lab.profile.suite == "tinyworld" or family == "gsm8k":
        return readings(frame, family)
    sums = frame[frame["family"] == family].set_index("id")
    golds = [str(everyday[i]["answer"]) for i in sums.index]
    paid = math_reward(sums["answer"].tolist(), answer=golds)
    return pd.DataFrame({"strict": paid, "lenient": sums[family]})


def parts(name, start, end):
    """A run's gain in points: more sums right in any form, and format only."""
    form = {when: read["strict"] - read["lenient"] for when, read in ((0, start), (1, end))}
    gained = {"sums": end["lenient"] - start["lenient"], "format": form[1] - form[0]}
    for part, values in gained.items():
        found = bootstrap_interval(100 * np.asarray(values))
        ends = {"points": found.value, "low": found.low, "high": found.high}
        yield {"run": name, "part": part} | ends


if "arithmetic" not in after:
    lab.not_here("its suite has no sums, so there is no gain to take apart.")
    yours = pd.DataFrame()
else:
    yours = pd.DataFrame(parts("your run", read_twice(before), read_twice(after)))
yours.round(1)

# %% [markdown]
# In the stored run, format accounts for 0 points of the gain and arithmetic for 41. But this is just one run. We also ran the full chain of SFT, DPO and GRPO with five seeds, using the default recipe. To show what the two readings can catch, we added three runs from a policy that we made *careless* on purpose. It was fine-tuned for 30 steps on its own answers, with the `####` removed from three quarters of them. GRPO then trained it with the strict reward.

# %%
from postlab.course.week07 import plot_gains

arms = json.loads((results / "arms.json").read_text())


def read_back(told, prefix=""):
    return {how: numbers(told[prefix + how]) for how in ("strict", "lenient")}


gains = [
    row
    for one in five["seeds"]
    for row in parts(
        f"seed {one['seed']}", *(read_back(one[w], "arithmetic, ") for w in ("start", "end"))
    )
]
for one in arms["runs"]:
    if one["arm"] == "careless start":
        name = f"careless start, seed {one['seed']}"
        gains += parts(name, read_back(one["start"]), read_back(one["end"]))
plot_gains(pd.DataFrame(gains))

# %% [markdown]
# With the default recipe, none of the gain is due to format, whatever the seed, because the model from week 5 already used the right format. With the careless start, about 6 of the 65 points gained are due to format (orange). The strict reading alone would have counted these points as arithmetic. The green bars are longer for these runs, too: the careless fine-tuning had harmed the accuracy on sums as well, and GRPO restored both.

# %% [markdown]
# <a id="deeper-cost" name="deeper-cost"></a>
# ## Deeper: what it costs, and what the group size has to do with it
#
# Sampling takes most of the time, so the calculation counts newly generated tokens. Nobody has recorded a run on these GPUs yet, so these are only estimates:

# %%
from postlab.preflight import estimate
from postlab.profile import get_profile


def bill(name):
    profile = get_profile(name)
    how, stage = profile.grpo.trainer, profile.grpo
    batch = how["per_device_train_batch_size"]
    prompts = how["max_steps"] * batch * how["gradient_accumulation_steps"]
    return estimate(
        "grpo",
        model=stage.base_model or profile.base_model,
        device=profile.device,
        bits=4,
        engine="unsloth",
        lora_rank=profile.lora["r"],
        batch=batch,
        accumulation=how["gradient_accumulation_steps"],
        group=how["num_generations"],
        length=256 + how["max_completion_length"],
        new_tokens=how["max_completion_length"],
        examples=prompts // how["num_generations"],
        optimizer=how["optim"],
    )


shown = {}
for name in ("t4", "rented"):
    found = bill(name)
    hours = " to ".join(f"{hour:.1f}" for hour in found.hours_range)
    shown[name] = {"GiB": f"{found.total_gib:.1f} of {found.memory_gib:.0f}", "hours": hours}
    shown[name] |= {"profile says": f"{get_profile(name).grpo.minutes / 60:.1f}"}
pd.DataFrame(shown)

# %% [markdown]
# These estimates are on the high side, because they assume answers of maximum length. If a run crashes, `run.train` continues with the samples that an uninterrupted run would have drawn, because the checkpoint includes the random state.

# %% [markdown]
# > **The roadmap says** GRPO costs 8 to 16 times as much, because it samples 8 to 16 answers to each prompt. **The evidence says** that this counts the answers but not the cost of each one. Every answer has to be generated before you can train on it, and generating a token takes longer than training on one.
#
# You can measure the factor on the tiny chain. The table shows the training time for each of the eight seeds, in milliseconds per item (an SFT row, a preference pair or a GRPO answer):

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
tiny_results = data_dir() / "results" / "tiny"


def milliseconds(seed, stage):
    """Training time per row: a text, a pair, or an answer of GRPO."""
    made = json.loads((tiny_results / f"seed-{seed}-{stage}.manifest.json").read_text())
    how = made["config"]
    rows = how["per_device_train_batch_size"] * how["gradient_accumulation_steps"] * made["steps"]
    return 1000 * made["train_s"] / rows


per_row = pd.DataFrame(
    {
        seed: {stage: milliseconds(seed, stage) for stage in ("sft", "dpo", "grpo")}
        for seed in range(8)
    }
).T
per_row["answer / SFT row"] = per_row["grpo"] / per_row["sft"]
per_row["prompt / SFT row"] = 8 * per_row["answer / SFT row"]
per_row.round(1)

# %% [markdown]
# On `tiny`, a GRPO *prompt* with its eight answers costs 8.5 to 21 times as much as an SFT row (median: 16). A single *answer* costs 1.1 to 2.6 times as much. Compare the ratios, not the milliseconds, because the machine was busy during the runs with seeds 4 and 6. Our answers are short, and the CPU engine samples them efficiently. For a 7B model on an H100, you can estimate the factor for a prompt. Here, prompt and answer together have 768 tokens, 512 of them new:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
rented = get_profile("rented")
same = {"model": rented.base_model, "device": "H100", "bits": 4, "engine": "unsloth"}
same |= {"lora_rank": 32, "optimizer": "adamw_8bit", "examples": 1000, "length": 768}
row = estimate("sft", batch=8, accumulation=4, **same).hours
factors = {}
for group in (1, 4, 8, 16):
    how = {"batch": 16, "accumulation": 4, "group": group, "new_tokens": 512}
    factors[group] = round(estimate("grpo", **how, **same).hours / row, 1)
pd.Series(factors, name="GRPO prompt / SFT row").rename_axis("group size").to_frame().T

# %% [markdown]
# So the cost is proportional to the group size, as the roadmap says, but the factor isn't 1. By this estimate, an answer costs about as much as six SFT rows, and a prompt with eight answers costs about as much as 49. Both figures assume generation without the faster vLLM. These costs are also the reason why RL runs use few prompts: the `rented` profile plans 400 steps with eight prompts each.
#
# What do you gain from a larger group? With a success rate $p$, a group of size $G$ has no signal with probability $p^G + (1 - p)^G$. A rare success ($p = 0.05$) shows up in 34% of groups of 8 and in 56% of groups of 16. If your prompts are hard, you need large groups. If they're of medium difficulty, it's better to spend the same samples on more prompts. Week 8 has an exercise on this choice.

# %% [markdown]
# <a id="interview" name="interview"></a>
# ## Five interview questions
#
# **1.** Your GRPO loss has been 0.000 since the first step. Is the run broken?
#
# <details><summary>Answer</summary>
#
# You can't tell from the loss. With one update per batch, every ratio is 1, and the advantages are centered within each group. If the loss averages per answer, its value is then exactly 0, while its gradient is not. I'd look at the reward, at `grad_norm` and at `frac_reward_zero_std`. If the gradient norm is 0 as well, the run really is broken: either all groups have zero variance, or no parameter is trainable.
#
# *A likely follow-up:* "When does the loss move?" It moves when the averaging weights tokens instead of answers, when there are several updates per batch, or when $\beta$ is above 0. None of these movements measures learning.
#
# </details>
#
# **2.** What does GRPO save compared with PPO, and what does it cost in return?
#
# <details><summary>Answer</summary>
#
# GRPO saves the critic: a second model, its optimizer state, and the trouble of training it. In exchange, GRPO needs G samples per prompt. It gets no signal from groups in which all rewards are equal, and it assigns one advantage to a whole answer instead of one to each token. The ratio, the clip and (optionally) the KL term stay.
#
# *A likely follow-up:* "When would you still want a critic?" I'd want one if samples are too expensive for a group per prompt, for example in long agentic tasks. I'd also want one if credit has to be assigned within a long trajectory and I can train a good value function.
#
# </details>
#
# **3.** Why does GRPO divide by the standard deviation of the group, and what's wrong with that?
#
# <details><summary>Answer</summary>
#
# The division makes the size of the update independent of the reward's scale. But it also reweights the prompts. With 0/1 rewards and a success rate $p$, the standard deviation is about $\sqrt{p(1-p)}$, so prompts that are almost always or almost never solved get more weight than their reward differences justify. Dr. GRPO drops the division.
#
# *A likely follow-up:* "Which other bias does Dr. GRPO remove?" It removes the bias from dividing by each answer's own length, which spreads the penalty of a long wrong answer over more tokens and so punishes each of them less.
#
# </details>
#
# **4.** System design: each reward takes 20 seconds, because it runs a test suite. What do you change in the loop?
#
# <details><summary>Answer</summary>
#
# I'd run the scoring in parallel on many workers and sample the next batch in the meantime. Training then uses samples that are one or a few updates old, so for the ratio and the clip I need the probabilities under the policy that sampled them. I'd limit this staleness and watch the clip fraction. I'd cache results for identical answers and set a time limit. If the *verifier* fails, the reward should be `None` and not 0, so that the answer is left out instead of punished.
#
# *A likely follow-up:* "The inference engine and the trainer compute slightly different probabilities. Does that matter?" Yes: the samples are then off-policy even without staleness. I'd log the difference, correct for it with truncated importance sampling, and try to use the same precision on both sides.
#
# </details>
#
# **5.** Research taste: a paper reports "+30 points on GSM8K from GRPO on the base model". What do you ask?
#
# <details><summary>Answer</summary>
#
# How was the base model prompted and scored? A base model that doesn't know the format fails a strict scorer on format alone. So I'd ask for strict and lenient scores, few-shot prompts for the base model, and SFT on the model's own right answers as a control. I'd also ask for pass@k, a second model family, several seeds, and a check for contamination.
#
# *A likely follow-up:* "Why a second family?" Because Qwen2.5-Math improved even with random rewards. A control with a random reward costs one more run, and tells you how much of the gain comes from the reward.
#
# </details>

# %% [markdown]
# <a id="papers" name="papers"></a>
# **Papers.** The first three are essential; the others are grouped by question.
#
# - Shao et al. 2024, *DeepSeekMath* ([2402.03300](https://arxiv.org/abs/2402.03300)): section 4.1 on the objective and section 5.2 on what RL changes.
# - DeepSeek-AI 2025, *R1* ([2501.12948](https://arxiv.org/abs/2501.12948)): the growing length of R1-Zero's answers, and why its rewards are rule-based.
# - Liu et al. 2025, *Dr. GRPO* ([2503.20783](https://arxiv.org/abs/2503.20783)): the effects of dividing by the standard deviation and by the length.
#
# *Foundations.* Williams 1992, *REINFORCE*: the gradient and the baseline. Schulman 2020, *Approximating KL divergence* (joschu.net/blog/kl-approx.html): $k_1$ to $k_3$; see [2510.01555](https://arxiv.org/abs/2510.01555) for their gradients.
#
# *Does RL add anything?* Yue et al. 2025 ([2504.13837](https://arxiv.org/abs/2504.13837)) find that at a large k, the trained model's pass@k falls below the base model's. The authors of *ProRL* ([2505.24864](https://arxiv.org/abs/2505.24864)) train longer, on more tasks. Dragoi et al. 2025 ([2510.08325](https://arxiv.org/abs/2510.08325)) explain why pass@k at a large k can mislead. Yuan et al. 2026 ([2606.15455](https://arxiv.org/abs/2606.15455)) study the loss of diversity through overtraining. Cai et al. 2026 ([2606.22317](https://arxiv.org/abs/2606.22317)) use a curriculum and a teacher's help with problems near or beyond the model's limit, which raises pass@256 above the base model's. Shao et al. 2025, *Spurious rewards* ([2506.10947](https://arxiv.org/abs/2506.10947)), use random rewards as a control.
#
# *Which choices matter at scale?* Khatri et al. 2025, *The Art of Scaling RL Compute* ([2510.13786](https://arxiv.org/abs/2510.13786)): ablations that took 400,000 GPU-hours and separate what changes the final result from what changes only the speed. Bae et al. 2025 ([2504.03380](https://arxiv.org/abs/2504.03380)): filtering by difficulty, and the theory behind it. Schulman et al. 2025, *LoRA Without Regret* ([Thinking Machines](https://thinkingmachines.ai/blog/lora/)): learning rates for LoRA, and why a small rank suffices for RL.
