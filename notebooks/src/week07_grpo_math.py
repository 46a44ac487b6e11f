# %% [markdown]
# # Week 7 · GRPO: learning from a verifier
#
# After week 5, our tiny model gets 96% of the sums with five numbers right, but only 5% of those with three. It isn't that the short sums are harder. The model works the long ones out step by step, and for the short ones it just says a number, because that's what its teachers did most of the time in week 3.
# Can it find out on its own that working a sum out pays, if this week nobody shows it a single solution, and all it's told is whether its final number is right?
#
# That is the question behind today's reasoning models. DeepSeek's R1-Zero was rewarded only for the right final answer and the right format, and its accuracy on the AIME 2024 competition problems rose from 16% to more than 70%
# ([2501.12948](https://arxiv.org/abs/2501.12948)). The method is called **group relative policy optimization (GRPO)**: sample several answers to each prompt, let a program check them, and make the better ones more likely. This week you write it yourself, show that your version computes exactly what TRL's does, and then train with TRL.
#
# By the end of the core you can explain
#
# - where the learning signal comes from when there is neither a critic nor a reward model,
# - what GRPO keeps of PPO and what it drops,
# - what one step of it consists of, down to the last line,
# - what the curves of a healthy run look like, and why the loss isn't one of them.
#
# On `tiny` you see *how* the method works, not how capable a trained model can be.
#
# **The core** takes about 100 minutes, of which the training on `tiny` takes about one. It contains one exercise, one build and one paper.
#
# 1. [Where we start](#start) · 2. [The reward](#reward) · 3. [The policy gradient](#gradient) · 4. [Who gets the credit?](#credit) · 5. [What it keeps of PPO](#ppo) · 6. [Build: one step of GRPO](#build) · 7. [Train](#train) · 8. [Reading the log](#log) · 9. [What changed?](#changed) · 10. [The paper, and what you have now](#end)
#
# **The deeper sections** take another three hours. You can read them in any order, or skip them: no later cell of the core, and no later week, needs them.
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
# At the end are [five interview questions](#interview) and the week's [papers](#papers). What makes a *thinking model*, and how the large labs are known to use RL, is in an extra notebook: [`thinking_models.ipynb`](extras/thinking_models.ipynb).

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
# On `tiny`, `smol` and `rented`, the policy is the model from week 5. On a free T4, sampling from a 7B would use up the whole session. That profile therefore has its own chain with a smaller model, from base to SFT to GRPO, and these stages are never compared with the 7B's.

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
# How good is it at sums? The table shows the accuracy, the share of answers that are worked out, and the length in tokens, by the number of terms.
#
# On the other profiles the sums are word problems, grouped by the levels of `everyday`: levels 1 and 2 add, multiply or compare a few small numbers; levels 3 to 5 use larger numbers or take several steps. `smol` is trained on levels 1 and 2 and evaluated only on those. `t4` and `rented` are trained
# on GSM8K, so GSM8K has its own row, in which the form of an answer doesn't matter.

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
# The accuracy follows the habit almost exactly: the share of right answers is nearly the same as the share of worked ones.
#
# **Predict first.** Only right answers are rewarded, and on `tiny` nobody will show the policy a worked short sum. How will these numbers change?

# %% [markdown]
# <a id="reward" name="reward"></a>
# ## 2. The reward
#
# A maths reward reads the final answer and compares it with the right number. Nothing else counts. In TRL, a reward is a function that takes a list of completions and returns a list of scores. The other columns of the dataset arrive as keyword arguments.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.rewards import math_reward

tries = ["12+30=42, 42+15=57. #### 57", "#### 57", "#### 56", "no idea"]
math_reward(tries, answer=["57"] * 4)

# %% [markdown]
# The evaluation at the end doesn't use this function. It has its own extractor, so if the policy learns to please the reward instead of doing arithmetic, the two will disagree. A deeper section [checks that](#deeper-format).
#
# These are the training prompts:

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
# and only $\pi$ depends on the weights. Now use $\nabla \pi = \pi\, \nabla \log \pi$, which is just the derivative of the logarithm:
#
# $$\nabla \, \mathbb{E}_{y \sim \pi}[r(y)] = \sum_y r(y)\, \nabla \pi(y) = \sum_y \pi(y)\, r(y)\, \nabla \log \pi(y) = \mathbb{E}_{y \sim \pi}\big[r(y)\, \nabla \log \pi(y)\big]$$
#
# The right-hand side contains no derivative of the reward, so the reward can be any program. And it's an expectation over the policy's own answers, so you can estimate it from samples. With only three possible answers you can compute both sides exactly:

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
# Both sides are equal. You can't list all the answers of a language model, so you sample a few, score them, and increase the log-probability of each one in proportion to its reward. This algorithm is called **REINFORCE**.
#
# In practice, a **baseline** is subtracted from the reward first, such as the mean reward of the samples. Without it, every answer with a positive reward becomes more likely, even the worse ones. Are we allowed to subtract it? Yes: a constant $b$ doesn't change the expected gradient, because the probabilities always add up to 1:
#
# $$\mathbb{E}_{y \sim \pi}[b\, \nabla \log \pi(y)] = b \sum_y \pi(y)\, \nabla \log \pi(y) = b\, \nabla \sum_y \pi(y) = b\, \nabla 1 = 0$$
#
# The baseline does change the noise, and [a deeper section](#deeper-gradient) shows how much. **Where the baseline comes from** is the main difference between PPO and GRPO: PPO learns a value function, and GRPO uses the mean reward of a group.

# %% [markdown]
# <a id="credit" name="credit"></a>
# ## 4. Who gets the credit?
#
# A baseline over the whole batch has a problem: some prompts are easier than others. With such a baseline, most answers to an easy sum look better than average, and most answers to a hard one look worse. So GRPO samples $G$ answers to the *same* prompt and compares them only with each other. The advantage of an answer is the distance of its reward from the mean of its group, in standard deviations:
#
# $$A_i = \frac{r_i - \operatorname{mean}(r_1 \ldots r_G)}{\operatorname{std}(r_1 \ldots r_G) + \varepsilon}$$

# %%
from postlab.course.week07 import draw_groups

draw_groups()

# %% [markdown]
# Notice two things. The reward is paid for the whole answer, so every token of an answer gets the same advantage. And if all the answers of a group are right, or all are wrong, every advantage is zero and the group contributes no gradient.

# %% [markdown]
# ### Exercise 7.1 · about 10 minutes · medium
#
# `rewards` has the shape `(B,)` and contains one group after another. Return the advantages, also `(B,)`. Use torch's own standard deviation (with $n - 1$) and $\varepsilon = 10^{-4}$.
#
# <details><summary>Hint 1</summary>
#
# First give the groups an axis of their own: `view(-1, group_size)`.
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
# Here are the advantages of three prompts with four answers each. In the first group one answer is right, in the second three are, and in the third none is:

# %%
# NBVAL_CHECK_OUTPUT
rewards = torch.tensor([1.0, 0.0, 0.0, 0.0] + [1.0, 1.0, 1.0, 0.0] + [0.0, 0.0, 0.0, 0.0])
group_advantages(rewards, 4).view(3, 4).round(decimals=2)

# %% [markdown]
# The only right answer in its group gets +1.5, and the only wrong one gets −1.5. The third group teaches nothing: its advantages are all 0, and four right answers would give four zeros too. Such groups are called **zero-variance groups**. TRL logs their share as `frac_reward_zero_std`. You paid for sampling these answers and got no gradient in return.
#
# > **The roadmap says** GRPO eliminates the reward model. **The evidence says** it's the *verifier* that replaces the reward model; GRPO works with any reward, learned or not. What GRPO removes is the critic
# > ([DeepSeekMath 2024](https://arxiv.org/abs/2402.03300), section 4.1).

# %% [markdown]
# <a id="ppo" name="ppo"></a>
# ## 5. What it keeps of PPO
#
# | | PPO (week 4) | GRPO |
# |---|---|---|
# | baseline | a critic, trained along with the policy | the mean of the group |
# | credit | `gae`, separately for each token | one advantage per answer, the same for all its tokens |
# | ratio and clip | yes | yes, the same |
# | KL to the reference | in the reward, per token | in the loss (as $k_3$); off by default in TRL |
# | reward | any | any |
#
# As a formula, for one group of $G$ answers $o_1 \ldots o_G$:
#
# $$\mathcal{L} = \frac{1}{G} \sum_i \frac{1}{|o_i|} \sum_t \Big[-\min\big(\rho_{i,t} A_i, \; \operatorname{clip}(\rho_{i,t}, 1 - \epsilon, 1 + \epsilon) A_i\big) + \beta \, k_{3;i,t}\Big], \qquad \rho_{i,t} = \frac{\pi(o_{i,t})}{\pi_\text{old}(o_{i,t})}$$
#
# Here $\pi_\text{old}$ is the policy that sampled the answers, and each probability is conditioned on the prompt and the tokens before $t$. $k_3$ estimates the KL to the reference. In this week's core, $\beta$ is 0, so you can ignore it for now; [a deeper section](#deeper-kl) explains it and asks you to write this loss yourself.
#
# Right after sampling, the policy is still the one that sampled, so every ratio is 1. What are the loss and its gradient at this point?

# %%
# NBVAL_CHECK_OUTPUT
from postlab.scratch.grpo import grpo_loss

logps = torch.full((4, 3), -0.7, requires_grad=True)
same, adv = logps.detach(), group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]), 4)
loss = grpo_loss(logps, adv, torch.ones(4, 3), old_logps=same, ref_logps=same)
gradient = torch.autograd.grad(loss, logps)[0][:, 0]
round(loss.item(), 6) + 0.0, [round(value, 3) for value in gradient.tolist()]

# %% [markdown]
# The loss is 0, because every ratio is 1 and the advantages of a group add up to zero. The gradient isn't: it makes the tokens of the right answer more likely and those of the three wrong answers less likely. **A GRPO loss of zero doesn't mean that something is broken, and a loss that moves doesn't mean that the model is learning.** (TRL's default, `loss_type="dapo"`,
# averages over all tokens of the batch. Its value is then $-\sum_i A_i |o_i| / \sum_i |o_i|$, which isn't exactly zero but tells you just as little.)

# %% [markdown]
# <a id="build" name="build"></a>
# ## 6. Build: one step of GRPO
#
# Now you have all the parts. In this section you put them together, on the embedded model with the adapter from week 5, whichever profile you use. First load the policy, and a function that samples from it. It gets a random seed for every step, so that a second training loop can later sample exactly the same answers.

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
# | `draw(policy, prompts)` | samples one answer for each prompt in the list; call it once, with all the prompts of the step. The result has `completions` and `mask`, both `(B, T)` |
# | `score(rollouts, golds)` | returns a list with one reward per answer; it needs one right number per answer |
# | `group_advantages(rewards, group_size)` | your function from section 4 |
# | `completion_states(policy, rollouts)[0]` | the logits from which each token of the answers was chosen, `(B, T, V)` |
# | `token_logps(logits, completions)` | the log-probs of these tokens, `(B, T)` |
# | `grpo_loss(logps, advantages, mask, old_logps=…, ref_logps=…)` | the loss from section 5, one number |
# | `torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)` | scales the gradients down together if their norm is above 1, and returns the norm from before |
#
# ### Exercise 7.2 · about 30 minutes · hard
#
# Write `grpo_step`. It samples `group_size` answers to each of the prompts, scores them, and updates the policy once. Since there is only one update per batch, the old log-probs are the current ones, without a gradient. With $\beta = 0$ the reference plays no part, so pass the same log-probs for it. Return two things: the rewards as a tensor `(B,)`, group after group, and the norm of the gradient before clipping, as a number.
#
# The check updates a policy of 25 weights with your step and with ours, and compares the weights. The cells after it run the real test: ten of your steps on the embedded model have to give the same rewards and gradient norms as TRL's trainer, and the policy has to learn.
#
# <details><summary>Hint 1</summary>
#
# Start with the shapes. With P prompts and G answers to each, B is P · G. Which of the parts take P things, and which take B?
#
# </details>
# <details><summary>Hint 2</summary>
#
# In which order do the answers have to come, so that `view(-1, group_size)` in your `group_advantages` puts the answers to *one* prompt into one row? The right numbers have to come in the same order.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Which log-probs need a gradient, and which must not have one?
#
# </details>
# <details><summary>Hint 4</summary>
#
# `backward` *adds* to the gradients that are already there. When do you have to clear them? And when do you have to clip, so that it has an effect on the update?
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
# Now repeat it. The loop only adds an optimizer and a learning rate that falls to zero:

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
# In ten steps, the reward rises from 0.52 to 0.98. But does it compute the same as the library? TRL's trainer gets the same starting model, prompts and learning rate. Through `rollout_func` it even uses your sampling function with the same random seeds.
#
# **Predict first.** After ten steps, how close will the two runs be: roughly the same curve, nearly the same, or exactly the same?

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
# Exactly the same. Both sample the same answers, so they get the same rewards, and their gradients agree up to rounding. At these settings, TRL's GRPO does nothing that isn't on this page.
#
# `record_groups` has stored everything that TRL's reward function saw. Step through it: each page shows one prompt and its group, coloured by advantage. Blue answers are made more likely, red ones less likely.

# %% tags=["aside"]
rollout_explorer(watched.groups) if beside else None

# %% [markdown]
# Notice two things. First, **every token of an answer has the same colour.** If a worked sum goes wrong in its last step, the correct steps before it are punished as well. (This is why week 10 introduces process rewards.) Second, in a group with both kinds of answers, like the one above, the worked answers are the right ones. They become more likely, so the policy learns to *work
# things out*, although no reward mentions it.

# %% [markdown]
# <a id="train" name="train"></a>
# ## 7. Train
#
# Now the actual training stage, with your profile. These are its settings:

# %%
# NBVAL_CHECK_OUTPUT
pd.Series(dict(grpo.trainer), name="GRPOConfig").to_frame()

# %% [markdown]
# Each prompt gets eight answers. A step has eight prompts on `tiny` and four on `smol`. With `beta` at 0 there's no reference model in memory, and with one update per batch the clip has no effect.
#
# If you set `beta` above 0, check which model serves as the reference, because it depends on the trainer. TRL's own trainer, which runs on a CPU, keeps a frozen copy of the adapter you start from. On a GPU, Unsloth replaces it with a version that switches the adapter off instead. The reference is then the *base* model, and the KL term pulls the policy back to where it was before SFT and DPO.
# (In week 5, the reference is the starting model in both cases.)
#
# Most of the time goes into sampling. `generate` processes the prompt again for every sample in the group, and finished sequences stay in the batch until the longest one ends. On a CPU, `rollout_func` passes the sampling to postlab's own engine, which avoids both and samples from the same distribution. On a GPU, the run takes about one to four hours. To watch its curves meanwhile, import `LiveView` from `postlab.show` and pass `callbacks=[LiveView("grpo")]` to the trainer.

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
# **Predict first.** Which curve tells you that training works: the loss, the reward, or the length?

# %%
from postlab.show import plot_stages, plot_training

plot_training(log, "grpo")

# %% [markdown]
# The reward does. The loss isn't even plotted, for the reason you saw in section 5. On `tiny`, also look at the length: nobody rewarded long answers, but working out a sum takes more tokens than guessing it. So the length rises along with the accuracy. And the entropy falls: the policy becomes sure of how to answer. (There is no panel for the KL, because TRL logs it only if `beta` is above 0.)
#
# DeepSeek-R1's famous length curve looks similar, but be careful with the comparison. Part of the growth in such runs can come from the loss instead: dividing by $|o_i|$ makes each token of a long wrong answer cost less ([2503.20783](https://arxiv.org/abs/2503.20783)).
#
# The share of zero-variance groups rises as the sums become easy, from about a third to two thirds. So the last steps cost as much as the first ones, but the policy learns less from them.

# %% [markdown]
# <a id="log" name="log"></a>
# ## 8. Reading the log
#
# | column | healthy | look twice if |
# |---|---|---|
# | `reward` | in the first steps close to the sampled accuracy of the starting model (a single step has few prompts, so average several), then rising | it starts at 0 or at 1 |
# | `frac_reward_zero_std` | well below 1 | it is near 1: nothing to learn from, because the prompts are too easy or too hard |
# | `completions/clipped_ratio` | near 0 | it is high: answers are cut off before they end, and score 0 |
# | `completions/mean_length` | moves along with the reward | it drifts while the reward stands still |
# | `entropy` | falls slowly | it is near 0 early on: the G answers of a group are all the same |
# | `grad_norm` | neither 0 nor growing | it is 0: only zero-variance groups, or a frozen adapter |
# | `clip_ratio/*` | 0 with one update per batch | it is large: too many updates on one batch |
# | `kl` | logged only with `beta` above 0 | it jumps |
# | `loss` | anything small | never |

# %%
steps = pd.DataFrame(entry for entry in log if "reward" in entry)
columns = ["reward", "frac_reward_zero_std", "entropy", "grad_norm", "loss", "learning_rate"]
columns[1:1] = ["completions/mean_length", "completions/clipped_ratio"]
thirds = pd.cut(steps["step"], 4, labels=["first quarter", "second", "third", "last"])
steps.groupby(thirds, observed=True)[columns].mean().T.map("{:.4g}".format)

# %% [markdown]
# The entropy falls to about an eighth in this run. That's the price of becoming sure: when all eight answers to a prompt are the same, there is nothing left to learn from comparing them.
#
# **The learning rate.** On `tiny` it falls in a straight line from the first step on, $\eta_t = \eta_0 \, (1 - t / T)$. `smol` keeps it constant. `t4` and `rented` warm up and then follow a cosine. Which of these is right, and how high can the rate be? We recorded a sweep up to the point where training collapses (one seed). Between 1e-4 and 1.6e-3, the accuracy on sums hardly depends on the rate. But the skills that the reward doesn't mention do suffer: at four times the recipe's rate, facts fell from 98% to 62% (of 40 prompts). [The deeper section](#deeper-rates) has the figure, and what it can't tell you.

# %% [markdown]
# <a id="changed" name="changed"></a>
# ## 9. What changed?
#
# First the sums, as in section 1:

# %%
after = lab.evaluate(run, trainer.model, tokenizer)
styles(after)

# %% [markdown]
# Here is the answer to your first prediction. Every sum is now worked out, and 98% to 100% are right, even the short ones that started at 5%. A few answers, before and after:

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
# Greedy accuracy tells you what the policy does when it always picks the most likely token. Accuracy at temperature 1 tells you what a typical sample looks like. If RL only *sharpens* a model, the second moves up to the first. On `tiny` both moved, because the habit itself changed. ([More on that](#deeper-pass).) (`t4` and `rented` measure only the greedy answer.)
#
# What about everything the reward didn't mention, like facts, lists, safety and honesty? In the stored output, none of these changes is conclusive. Facts fell by 3 points. The interval of this change alone excludes zero, but we looked at many metrics, and after Holm's correction (week 6) it's no longer significant.
#
# But "inconclusive" doesn't mean "unchanged", and one run is only one run. The same chain was recorded with eight seeds (`data/results/tiny/summary.json`). List operations fell on every one of them, by 2 to 5.5 points. So GRPO has a small cost here. Facts fell by 8 points on seed 2 and safety by 5.5 on seed 3, and both changed much less on the other seeds.
#
# > **The roadmap says** GRPO was introduced with R1 in January 2025. **The evidence says** it was introduced with DeepSeekMath in February 2024; R1 made it famous.
#
# One caution about published gains: many of them were measured on Qwen models, whose pretraining contained a lot of mathematics. Qwen2.5-Math-7B even gained 21 points on MATH-500 with *random* rewards, which often did nothing for Llama and OLMo models ([2506.10947](https://arxiv.org/abs/2506.10947)). So the larger profiles also name a second model family.
#
# Do the sums change in the same way with other seeds? For five of those chains we recorded every answer. The table shows the accuracy (greedy and sampled), the share of answers that are worked out, and their length in tokens:

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
# The result is the same on all five seeds: at the end every sum is worked out, and nearly all are right. The policy could work out sums before, and a few of the short ones in week 3's data were worked out, too. GRPO made this habit the rule, because it pays.
#
# <a id="end" name="end"></a>
# ## 10. The paper, and what you have now
#
# The paper to read this week is **[DeepSeekMath, Shao et al. 2024](https://arxiv.org/abs/2402.03300)**, sections 4 and 5.2 (about 20 minutes). Section 4.1 has the objective that you assembled. Compare its equation 3 with the formula in section 5: where is the KL term, and over what are the means taken? Then look at figure 7 in section 5.2, where the authors ask whether RL teaches the model anything new, and find that it mainly improves majority voting (maj@k) and not pass@k.
#
# You have a trained stage in `runs/<profile>/seed-<n>/grpo/`, a training step of your own that matches TRL's, and two habits: compare the reward of the first steps with the accuracy of the starting model, and look at what the reward *doesn't* mention. In week 8 you'll diagnose broken runs, watch a reward get hacked, and find out which of GRPO's parts you can do without.

# %% [markdown]
# <a id="deeper-gradient" name="deeper-gradient"></a>
# ## Deeper: REINFORCE and its baseline
#
# How much noise does the baseline remove? Here is REINFORCE in the world with three answers from section 3, with and without it:


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
# **Predict first.** Every answer here has a reward above 0, so every sampled answer is made more likely. With `baseline`, we subtract the mean reward of the four samples first. Does that change where the climb ends, or how it gets there?

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
# It mostly changes how the climb gets there. Without a baseline, whatever happens to be sampled becomes more likely, even if it's one of the worse answers. It is then sampled more often, and becomes more likely again. Some runs (thin lines) go in the wrong direction for a while, and after sixty updates one of the twelve is still well below the others. The baseline removes most of this noise.
#
# One detail: the mean of the samples isn't quite a constant, because each sample's own reward is part of it. With $n$ samples, this scales the expected gradient by $(n-1)/n$ and doesn't change its direction. RLOO avoids even that, by comparing each sample with the mean of the *others*.

# %% [markdown]
# ### Exercise 7.3 · about 10 minutes · easy
#
# Write the same loss for answers with many tokens. `logps` and `mask` have the shape `(B, T)`, `rewards` has the shape `(B,)`. For each answer, multiply its log-probability by its reward minus the mean of all rewards. Return one number: the mean over the answers, with a minus sign.
#
# <details><summary>Hint 1</summary>
#
# The log-probability of an answer is the sum over its tokens. Padding isn't part of the answer.
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
# The *value* of this loss tells you nothing: it isn't an error that should go to zero. What counts is its gradient. Here the first answer was right and the second one wrong:

# %%
# NBVAL_CHECK_OUTPUT
logps = torch.tensor([[-1.0, -2.0], [-4.0, -9.0]], requires_grad=True)
loss = reinforce_loss(logps, torch.tensor([1.0, 0.0]), torch.tensor([[1, 1], [1, 0]]))
loss.item(), torch.autograd.grad(loss, logps)[0].tolist()

# %% [markdown]
# The gradient is negative for the tokens of the right answer. Gradient descent moves in the opposite direction, so these tokens become more likely, and those of the wrong answer less likely. The padding gets no gradient.

# %% [markdown]
# <a id="deeper-kl" name="deeper-kl"></a>
# ## Deeper: the KL term, and the loss by hand
#
# The KL is estimated from the sampled tokens. There are three common estimators. With $d = \log \pi - \log \pi_\text{ref}$ they are $k_1 = d$, $k_2 = d^2/2$ and $k_3 = e^{-d} - 1 + d$. Here they are in a world with three tokens:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.scratch.losses import kl_estimate

policy, ref = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.3, 0.2])
found = {k: kl_estimate(policy.log(), ref.log(), kind=k) for k in ("k1", "k2", "k3")}
found = {k: [*values.tolist(), (policy * values).sum().item()] for k, values in found.items()}
pd.DataFrame(found, index=["token a", "token b", "token c", "mean under the policy"]).round(4)

# %% [markdown]
# The means of $k_1$ and $k_3$ are both exactly the KL, 0.0851. But $k_1$ can be negative for a single token, and $k_3$ never is. That's why GRPO uses $k_3$.
#
# As a *loss*, however, $k_3$ has a catch. Its gradient is $\nabla k_3 = (1 - e^{-d})\, \nabla \log \pi$, with $e^{-d} = \pi_\text{ref}/\pi$. Take the expectation over the policy's samples. The first term vanishes, as in section 3, and what's left is
#
# $$\mathbb{E}_{y \sim \pi}[\nabla k_3] = -\sum_y \pi(y)\, \frac{\pi_\text{ref}(y)}{\pi(y)}\, \nabla \log \pi(y) = -\sum_y \pi_\text{ref}(y)\, \nabla \log \pi(y) = \nabla\, \mathrm{KL}(\pi_\text{ref} \,\|\, \pi)$$
#
# This is the gradient of the KL in the *other* direction ([2510.01555](https://arxiv.org/abs/2510.01555)). To get the right one, multiply $k_3$ by the ratio $\rho$ before you differentiate. On policy, where $\rho = 1$ and $\nabla \rho = \nabla \log \pi$, the product rule gives
#
# $$\nabla(\rho\, k_3) = k_3 \nabla \log \pi + \nabla k_3 = (e^{-d} - 1 + d + 1 - e^{-d})\, \nabla \log \pi = d\, \nabla \log \pi$$
#
# and the expectation of this is the gradient of KL(π ‖ π_ref). TRL 1.14 does it this way by default (`use_bias_correction_kl=True`). The loss in the next exercise is the one from the DeepSeekMath paper, without the factor.

# %% [markdown]
# ### Exercise 7.4 · about 20 minutes · hard
#
# Write the loss from section 5, with its KL term. `logps`, `old_logps`, `ref_logps` and `mask` have the shape `(B, T)`, `advantages` has the shape `(B,)`. First take the mean over the tokens of each answer, and then the mean over the answers.
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
# For the mean of an answer, divide by `mask.sum(dim=1)`, not by T.
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
# When does it start to have one? Let's do several updates on the *same* batch of answers:

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
# From the second update on, the clip removes the gradient of about 3 to 4% of the tokens, and of almost 6% at the eighth. So the clip limits how far a batch can move the policy if you use it more than once (`num_iterations` in TRL).
#
# Why do the two lines nearly coincide? A token is clipped only if its ratio has left the bounds in the direction in which its advantage pushes it: above 1.2 with a positive advantage, or below 0.8 with a negative one. Then the minimum picks the clipped term, which is constant, so the gradient is zero. A token that has left in the opposite direction keeps its gradient, which brings it back. Here almost
# all the tokens outside the bounds were pushed there by their own advantage.

# %% [markdown]
# <a id="deeper-hunt" name="deeper-hunt"></a>
# ## Deeper: it runs, but it doesn't learn
#
# This is a bug hunt. A colleague took your step, your loop and the same starting model. She thought that the scoring function should line up the right numbers with the answers itself, and wrote her own:

# %% tags=["aside"]
from postlab.course.week07 import plot_hunt


def her_scores(texts, golds):
    return math_reward(
        texts, answer=golds[::G] * G
    )  # the G copies of each number, once; then G times


hers = pd.DataFrame(train_grpo(start()[0], 6, scored=her_scores))
plot_hunt(ours, hers)

# %% [markdown]
# There is no error and no NaN, and every step has a gradient. **What is wrong, and which of the curves gave it away?**
#
# <details><summary>Answer</summary>
#
# `golds[::G]` takes every eighth number, which gives her the six different ones. But `* G` then repeats the whole list: number 1, number 2, … number 6, then number 1 again. The G answers to a prompt stand next to each other, however, so most answers are compared with the right number of a *different* sum.
#
# The very first reward gives it away. Both loops start from the same model and sampled the *same* answers in the first step, but yours found 52% of them right and hers only 10%. About one answer in six happens to line up with its own number, which explains most of the 10%. But which answers line up depends on their place in the batch, so right answers in the same group get different rewards, and her advantages are mostly noise. And it is noise at full strength: because we divide by the standard deviation of the group, a single match gets the largest advantage there is.
#
# </details>
#
# Here is the cheapest test for any reward: give it the right answers.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
golds = ["57", "102", "8", "114", "61", "75"]
golds = [gold for gold in golds for _ in range(G)]
perfect = [f"#### {gold}" for gold in golds]
sum(scored(perfect, golds)) / len(perfect), sum(her_scores(perfect, golds)) / len(perfect)

# %% [markdown]
# The correct reward gives all of them full marks, and the broken one only a sixth. TRL repeats the columns of a dataset for you, so this exact bug can't happen there. But similar ones can: a column that was shuffled separately from its prompts, or a reward that picks up a number from the *question*. The test is the same.

# %% [markdown]
# <a id="deeper-rates" name="deeper-rates"></a>
# ## Deeper: learning rates and schedules
#
# If one setting of an RL run is wrong, it's usually the learning rate. If it's too low, nothing happens within your budget. If it's too high, the run may look splendid until it collapses. Where is the limit? And what do a warm-up and a falling rate do about it?
#
# First, a check that TRL really does what we said. Its log from section 6 should have the straight line:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
entries = beside.state.log_history if beside else []
rates = [entry["learning_rate"] for entry in entries if "reward" in entry]
wanted = [RATE * (1 - step / STEPS) for step in range(STEPS)]
same_rates = rates and torch.allclose(torch.tensor(rates), torch.tensor(wanted))
([f"{rate:.1e}" for rate in rates], same_rates) if beside else None

# %% [markdown]
# Why would a **warm-up** help? Because of Adam. After the first step, its averages contain just one gradient $g$, so the update is $\eta\, g / \sqrt{g^2} = \pm\eta$ for every weight, however small the gradient was. The first step is thus as large as any, and it rests on one batch. A warm-up makes the first steps smaller. And why let the rate **fall**? Smaller steps at the end average out the noise of the gradients, and you may be able to start with a higher rate.
#
# We recorded runs from the same start with five rates, each four times the one before, and three schedules: a constant rate, a constant rate after a warm-up over the first four steps, and a straight line down to zero. A run has 20 steps, half as many as the recipe, so that you can also see when a rate is too low. Nothing else differs between the runs: each step samples 64 answers and makes one update, so nothing is clipped. The two lowest rates have one run per schedule, the other three have five.
#
# **Predict first.** The recipe's rate is 1e-4. At which of the rates 2.5e-5, 1e-4, 4e-4, 1.6e-3 and 6.4e-3 does training collapse? And what suffers first?

# %% tags=["aside"]
record = json.loads((results / "rates.json").read_text())
pd.Series(record["provenance"], name="recorded").to_frame()

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
# The questions about schedules can be tested for the rates with five seeds. Each row compares a schedule with the constant rate, seed by seed, and Holm's correction covers all 18 comparisons:

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
# Here are the answers, from left to right:
#
# - **2.5e-5 is too low for 20 steps.** With a constant rate, the sums reach 80%, and in the last steps only about half of the samples are right.
# - **From 1e-4 to 1.6e-3, the sums are fine:** 96% to 99% on average, whatever the schedule. If you only watched the reward, you'd conclude that the rate hardly matters.
# - **What suffers first is what the reward doesn't mention.** At a constant 4e-4, facts fell from 98% to 64%, and at 1.6e-3 to 50% (18% to 88%, depending on the seed). Nothing in the objective protects them. The higher the rate, the more the updates for sums change everything else, and the reward shows none of it.
# - **At 6.4e-3, training collapses.** On seed 0 with a constant rate, the reward reaches 0.95 in the second step, higher than in any other run of that seed at that point, and then falls to zero. In the log, you would see the answers get longer (about 60 tokens at the end, with a limit of 64) and the entropy *rise*.
#
# **The decay helps in one place.** At 4e-4, the falling rate keeps 18 points more of the facts than the constant one (12 to 25, corrected p 0.03), and loses nothing on the sums. That isn't magic: the rates of such a run add up to half as much as those of the constant one, so the policy moves less. At 1.6e-3, where the facts differ by up to 70 points between seeds, no difference shows. **The warm-up** made no difference that we could show at 4e-4 and 1.6e-3. At 6.4e-3, all five runs with a constant rate end with at most 2% of the sums right. With a warm-up, two of the five still solve 27% and 40%, and with decay three still solve 62% to 88%. Both differences are inconclusive, because they depend so much on the seed. So in these runs neither of the two reliably rescues a rate that is too high, and the cheapest protection is a lower rate: at 1e-4, with any schedule, at least 92% of the facts survived.
#
# What do others use? For *full* fine-tuning with GRPO, DeepSeekMath used a rate of 1e-6 ([section 4.2](https://arxiv.org/abs/2402.03300)), and DAPO a constant 1e-6 with a warm-up over 20 rollout steps ([section 4.1](https://arxiv.org/abs/2503.14476)). LoRA tolerates about ten times the rate of full fine-tuning, for RL as well as for SFT ([LoRA Without Regret](https://thinkingmachines.ai/blog/lora/)); our profiles use 5e-6 for GRPO on a 7B (`rented`) and 1e-5 on a 1.5B (`t4`). A small model like ours takes a much higher rate. So don't copy a rate from here. Copy the method: sweep in factors of four until something breaks, and watch the skills that you don't train.

# %% [markdown]
# <a id="deeper-filter" name="deeper-filter"></a>
# ## Deeper: prompts of the right difficulty
#
# A group in which all answers are right, or all are wrong, has no gradient. In the run above, that was about a third of the groups at the start and two thirds at the end. So why not drop such prompts in advance? That is called **difficulty filtering**: let the starting policy answer each prompt a few times, and keep only those that it gets right sometimes, but not always. (Filtering *during* training is called dynamic sampling, and it's part of week 8. [Bae et al. 2025](https://arxiv.org/abs/2504.03380) derive a lower bound on the improvement, which is highest for prompts with a pass rate of one half, and report gains from filtering online.)
#
# Whether it pays depends on what the filter costs, because you have to generate its answers, too. We recorded short runs of eight steps with eight seeds. *Filtered* runs train on prompts that the starting policy got right once, twice or three times out of four. *Unfiltered* runs take the same list of prompts as it comes. And the *longer* runs are unfiltered, too, but spend the filter's answers on further steps.

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
# **Here the filter gains nothing.** With the same number of updates, filtered and unfiltered runs both end at 82% (difference −0.1 points, interval −0.8 to 0.6). The filter took 512 or 640 answers per run, more than the training itself. Spent on eight to ten further steps, the same answers bring 10 points (9 to 11).
#
# Why doesn't it help? Even without a filter, only about a third of the groups have no variance in the first step, so there's little to gain. And four answers say little about a prompt: of the prompts that pass, some still produce groups of eight that are all right or all wrong (27% in the first step), and soon the policy isn't the one that was measured. Our list has few hopeless prompts. On a data set where most prompts are far too hard, or already solved, the filter would save more, and its cost would be the same.

# %% [markdown]
# <a id="deeper-pass" name="deeper-pass"></a>
# ## Deeper: sharpening, or something new?
#
# Does RL teach a model anything that it couldn't do before? You can look at **pass@k**, the share of problems with at least one right answer among $k$ samples. If RL only *sharpens* the model, pass@1 rises while pass@k for a large $k$ stays where it was: the right answers were there before, and now they come first. If RL *adds* something, pass@k rises as well.
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
# Pass@4 rises too, on every seed: by 13 points on average (95% interval over the five seeds: 9 to 17). And of the 19 to 34 sums that the starting model got wrong in all four samples, the final model solves 74% to 100%. Is that something new?
#
# No, because four samples are far too few to say that a model *can't* do something. If a model gets a sum right in one sample out of six, then four samples are all wrong about half of the time. To say what the starting model can't do, you'd need many more samples.

# %% [markdown]
# How is it on a real language model? Here is SmolLM2 before and after GRPO (one recorded run; [the next section](#deeper-smol) tells you more about it). Each of 120 word problems was sampled eight times:

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
# Compared with the model that GRPO started from (`dpo`), pass@1 rose by 15 points, and pass@8 by 11 (2 to 20, p = 0.047). Taken alone, this looks like more than sharpening, if only just.
#
# But look one stage further back, at the rows `sft`. Before DPO, after SFT, pass@8 was 68%. DPO lowered it to 57%, and GRPO brought it back to 68%. Compared with the SFT model, GRPO's pass@1 is 13 points higher (7 to 19) and its pass@8 is the same (−1, from −9 to 8). That is what sharpening looks like. So your answer depends on which model you compare with, and papers that report a gain over "the starting model" have the same choice. With
# one seed, 120 problems and at most eight samples, this run can't settle the question.
#
# Can RL teach *large* models to solve problems that none of their samples solved before? That's still disputed. [Yue et al. 2025](https://arxiv.org/abs/2504.13837) found that with many samples, base models solve more problems than their RL-trained versions. [ProRL](https://arxiv.org/abs/2505.24864) trained much longer, on more varied tasks, and reports tasks that the base model fails however often it tries. [Dragoi et al. 2025](https://arxiv.org/abs/2510.08325) object
# that where answers are discrete, such as numbers, pass@k for a large $k$ rewards guessing, and count the problems that are solved *reliably* instead. And [Yuan et al. 2026](https://arxiv.org/abs/2606.15455) explain the falling pass@k by overtraining: once a problem has been solved even in one of a few samples, further updates on it only narrow the policy. When they updated only on problems without any success, pass@256 rose above the base model's on difficult benchmarks.

# %% [markdown]
# <a id="deeper-smol" name="deeper-smol"></a>
# ## Deeper: the same chain on a language model
#
# So far, all of this happened to a model with 1.4 million parameters in a made-up world. `POSTLAB_PROFILE=smol make stages` takes SmolLM2-135M-Instruct through the same three stages in plain English: SFT on short replies, DPO on pairs built from requests and their look-alikes, and GRPO on small arithmetic problems in words (sums, products, the largest of three numbers). No topic of the training data appears in the evaluation. We recorded one run on two CPU cores:

# %%
from postlab.report import summary_frame

smol = data_dir() / "results" / "smol"
chain = summary_frame(json.loads((smol / "summary.json").read_text()))
shown = ["instructions", "safety", "honesty", "over_refusal", "over_abstention", "facts"]
shown += ["arithmetic", "arithmetic_sampled"]
plot_stages(chain[chain["metric"].isin(shown)], profile="smol")

# %% [markdown]
# This is one seed, so all intervals below are over prompts, and none of them says what a second run would do.
#
# - **SFT** taught the form. The share of instructions that are followed in every point rose by 18 points (95% interval: 11 to 27), and accuracy on the word problems by 25 (15 to 34). Some of the SFT rows are word problems, too. (The gain at temperature 1, from 4% to 27%, is partly a matter of length: there the answers are cut off after 24 tokens, and the base usually writes more.)
# - **DPO** did what its pairs asked for: 37 points more refusals of harmful requests (28 to 46), and 31 points more admissions that nobody can know the answer (23 to 40). But it can hardly tell a harmful request from its harmless look-alike, which differs in a word or two. It refuses 31 points more of those as well.
# - **GRPO** raised the accuracy at temperature 1 by 15 points (9 to 22). It also undid most of what DPO had done: safety fell by 30 points and honesty by 33. In return, needless refusals fell by 31 points and facts rose by 10.
#
# Why did GRPO undo DPO's work? Nothing in its objective protects it. The reward only looks at arithmetic, there's no KL term, and the learning rate of 2e-4 never falls. The policy moved 4.4 nats per answer away from its start, more than DPO did (2.7) and far more than in the tiny model's GRPO stage (0.3). So this tells you what *this recipe*
# does, not what GRPO has to do.
#
# **What we tried.** A larger batch, a lower rate and a `beta` above zero seemed the obvious remedies. In short trials with 64 completions per step and `beta` 0.02 (20 steps at 1e-4, and 20 at 2e-4), the training reward didn't rise: it stayed around 0.3. Nor did it in 26 steps from an SFT model that had never seen a sum: around 0.14. We stopped all three, so they
# show that nothing happened early, and not where they would have ended. A gentler DPO (48 steps, half the weight on the likelihood term) moved safety and over-refusal by the same 19 points on the held-out prompts, so it told look-alikes apart no better. The rewards and shares are in `data/results/smol/trials.json`.

# %% [markdown]
# <a id="deeper-format" name="deeper-format"></a>
# ## Deeper: how much of it is only format?
#
# A model that answers "It is 57" is wrong for a verifier that expects `#### 57`. Teach it the format, and its accuracy jumps, although it has learned nothing about sums. That's why the evaluation reads every answer twice. The *strict* reading expects the format that was asked for. The *lenient* one takes the last number, wherever it is. If strict accuracy gained more than lenient accuracy, the difference is format.
#
# (`everyday` doesn't ask for a format, and its evaluation takes the last number anyway. So with `smol`, the strict reading below is the *reward's*. If the reward rises more than the evaluation does, the policy has learned to write for the reward.)

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
# How much of your run's gain is format?

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
# None of it. The format accounts for 0 points of the gain, and the sums for 41. But that's just one run. We recorded the whole chain of SFT, DPO and GRPO on five seeds with the shipped recipe. And to show what the two readings can catch, there are three runs from a start that was made *careless* on purpose: the same policy, fine-tuned for 30 steps on its own answers, with the `####` removed from three quarters of them. GRPO then trains it
# with the strict reward.

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
# With the shipped recipe, none of the gain is format on any seed, because the model from week 5 already used the right format. With the careless start, about 6 of 65 points are format (orange). The strict reading alone would have counted these points as arithmetic. The green bars are longer there, too: the careless fine-tuning had also cost the model sums, not just the format, and GRPO brought them back.

# %% [markdown]
# <a id="deeper-cost" name="deeper-cost"></a>
# ## Deeper: what it costs, and what the group size has to do with it
#
# Most of the time goes into sampling, so the estimate counts newly generated tokens. Nobody has recorded a run on these GPUs yet, so these are only estimates:

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
# These estimates are on the high side, because they count every answer at its full possible length. If a run crashes, `run.train` continues with the same samples that an uninterrupted run would have drawn, since the random state is part of the checkpoint.

# %% [markdown]
# > **The roadmap says** GRPO costs 8 to 16 times as much, because it samples 8 to 16 answers to each prompt. **The evidence says** that this counts the answers, but not what an answer costs. Every answer has to be generated before you can train on it, and generating a token takes longer than training on one.
#
# You can measure the factor on the tiny chain. Training times, in milliseconds, for one SFT row, one preference pair and one answer of GRPO, from the manifests of the eight recorded seeds:

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
# On `tiny`, a *prompt* of GRPO with its eight answers costs 8.5 to 21 times as much as a row of SFT (the median is 16), and an *answer* 1.1 to 2.6 times. (Seeds 4 and 6 were trained on a machine that was busy with other things, so compare the ratios and not the milliseconds.) Our answers are short, and the CPU engine samples them efficiently. For a 7B on an H100 you can compute the factor. Per prompt, with 768 tokens of prompt and answer, 512 of them new:

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
# So the cost is proportional to the group size, as the roadmap says, but the factor in front isn't 1. By this estimate an answer costs about as much as six rows of SFT, and a prompt with eight answers about 49 times as much as a row. (This is without vLLM, which generates faster. Both are estimates, and nobody has recorded this run.) That's also why RL runs use few prompts: the profile `rented` plans 400 steps with eight prompts each.
#
# What do you get for a larger group? With a success rate $p$, a group of size $G$ has no signal with probability $p^G + (1 - p)^G$. A rare success ($p = 0.05$) shows up in 34% of groups of 8 and in 56% of groups of 16. If your prompts are hard, you need large groups; if they're of medium difficulty, more prompts are a better use of the same samples. Week 8 has an exercise on it.

# %% [markdown]
# <a id="interview" name="interview"></a>
# ## Five interview questions
#
# **1.** Your GRPO loss has been 0.000 since the first step. Is the run broken?
#
# <details><summary>Answer</summary>
#
# You can't tell from the loss. With one update per batch, every ratio is 1, and the advantages are centred within each group. If the loss averages per answer, its value is then exactly 0, while its gradient is not. I'd look at the reward, at `grad_norm` and at `frac_reward_zero_std`. If the gradient norm is 0 as well, the run really is broken: either all groups have zero variance, or no parameter is trainable.
#
# *A likely follow-up:* "When does the loss move?" When the averaging weights tokens instead of answers, when there are several updates per batch, or when $\beta$ is above 0. None of these movements measures learning.
#
# </details>
#
# **2.** What does GRPO save compared with PPO, and what does it pay for that?
#
# <details><summary>Answer</summary>
#
# It saves the critic: a second model, its optimizer state, and the trouble of training it. In exchange it needs G samples per prompt. It gets no signal from groups in which all rewards are equal, and it assigns one advantage to a whole answer instead of one to each token. The ratio, the clip and (optionally) the KL term stay.
#
# *A likely follow-up:* "When would you still want a critic?" If samples are expensive, for example in long agentic tasks, where you can't afford a group per prompt, or if credit has to be assigned within a long trajectory and you can train a good value function.
#
# </details>
#
# **3.** Why divide by the standard deviation of the group, and what's wrong with that?
#
# <details><summary>Answer</summary>
#
# It makes the size of the update independent of the reward's scale. But it also reweights the prompts. With 0/1 rewards and a success rate $p$, the standard deviation is about $\sqrt{p(1-p)}$, so prompts that are almost always or almost never solved get more weight than their reward differences justify. Dr. GRPO drops the division.
#
# *A likely follow-up:* "Which other bias does Dr. GRPO remove?" The division by each answer's own length. It spreads a wrong answer's penalty over more tokens if the answer is long, so long wrong answers are punished less per token.
#
# </details>
#
# **4.** System design: each reward takes 20 seconds, because it runs a test suite. Where do you change the loop?
#
# <details><summary>Answer</summary>
#
# I'd run the scoring in parallel on many workers and sample the next batch in the meantime. Training then uses samples that are one or a few updates old, so I need the probabilities under the policy that sampled them, for the ratio and the clip. I'd limit that staleness and watch the clip fraction. I'd cache results for identical answers and set a time limit. If the *verifier* fails, the reward should be `None` and not 0, so that
# the answer is left out instead of punished.
#
# *A likely follow-up:* "The inference engine and the trainer compute slightly different probabilities. Does that matter?" Yes: the samples are then off-policy even without staleness. I'd log the difference and correct it with truncated importance sampling, and try to make the precision the same on both sides.
#
# </details>
#
# **5.** Research taste: a paper reports "+30 points on GSM8K by GRPO from the base model". What do you ask?
#
# <details><summary>Answer</summary>
#
# How was the base model prompted and scored? A base model that doesn't know the format fails a strict scorer for its format alone. So I'd ask for both readings, few-shot prompts for the base, and SFT on the model's own right answers as a control. I'd also ask for pass@k, a second model family, several seeds, and a check for contamination.
#
# *A likely follow-up:* "Why a second family?" Because Qwen2.5-Math improved even with random rewards. A control with a random reward costs one more run, and tells you how much of the gain comes from the reward.
#
# </details>

# %% [markdown]
# <a id="papers" name="papers"></a>
# **Papers.** The first three are the ones to know; the others are grouped by question.
#
# - Shao et al. 2024, *DeepSeekMath* ([2402.03300](https://arxiv.org/abs/2402.03300)): section 4.1 for the objective, section 5.2 for what RL changes.
# - DeepSeek-AI 2025, *R1* ([2501.12948](https://arxiv.org/abs/2501.12948)): the growing length of R1-Zero's answers, and why its rewards are rules.
# - Liu et al. 2025, *Dr. GRPO* ([2503.20783](https://arxiv.org/abs/2503.20783)): what dividing by the deviation and by the length does.
#
# *Foundations.* Williams 1992, *REINFORCE*: the gradient and the baseline. Schulman 2020, *Approximating KL divergence* (joschu.net/blog/kl-approx.html): $k_1$ to $k_3$; and [2510.01555](https://arxiv.org/abs/2510.01555) for their gradients.
#
# *Does RL add anything?* Yue et al. 2025 ([2504.13837](https://arxiv.org/abs/2504.13837)): pass@k falls behind the base model's. *ProRL* ([2505.24864](https://arxiv.org/abs/2505.24864)): longer training on more tasks. Dragoi et al. 2025 ([2510.08325](https://arxiv.org/abs/2510.08325)): why pass@k at a large k can mislead. Yuan et al. 2026 ([2606.15455](https://arxiv.org/abs/2606.15455)): the loss of diversity as overtraining. Cai et al. 2026 ([2606.22317](https://arxiv.org/abs/2606.22317)): a curriculum with a teacher's
# help at the boundary, and a pass@256 above the base model's. Shao et al. 2025, *Spurious rewards* ([2506.10947](https://arxiv.org/abs/2506.10947)): what random rewards do, as a control.
#
# *Which choices matter at scale?* Khatri et al. 2025, *The Art of Scaling RL Compute* ([2510.13786](https://arxiv.org/abs/2510.13786)): 400,000 GPU-hours of ablations; read it for which choices change where a run ends, and which only how fast it gets there. Bae et al. 2025 ([2504.03380](https://arxiv.org/abs/2504.03380)): filtering by difficulty, with the theory. Schulman et al. 2025, *LoRA Without Regret* ([Thinking Machines](https://thinkingmachines.ai/blog/lora/)): learning rates for LoRA, and why a small rank suffices for RL.
