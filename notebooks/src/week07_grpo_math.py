# %% [markdown]
# # Week 7 · GRPO: learning from a verifier
#
# Imitation copied habits; preferences repaired manners and, through pairs of right and wrong sums, a part of the sums. Now the model finds out by itself *how to get a sum right*: it tries, a verifier checks the number, and what worked becomes more likely. This is group relative
# policy optimisation. You write it first, prove that it is TRL's, and then train with TRL.
#
# By the end you can say
#
# - where the learning signal comes from when there is no critic and no reward model,
# - what GRPO keeps of PPO and what it drops,
# - what the curves of a healthy run look like, and why the loss is none of them,
# - how much of a gain is the ability to add, and how much mere format.
#
# On `tiny` all this is *mechanism, not capability*.

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
# ## 1. The start
#
# On `tiny`, `smol` and `rented` the policy is the model of week 5. On a free T4, sampling from a 7B would fill the session, so that profile has a smaller chain of its own, base to SFT to GRPO, which is never compared with the 7B stages.

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
# How does it do sums? The teachers of week 3 blurted the short ones out and worked the long ones. So does the policy, by the number of terms.
#
# On the other profiles the sums are word problems, grouped by `everyday`'s levels: 1 and 2 add, multiply or compare a few small numbers, 3 to 5 take larger numbers or several steps. `smol` trains on levels 1 and 2 and
# asks nothing else; `t4` and `rented` train on GSM8K, so its problems, right in any form, have a row of their own.


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
# **Predict first.** Only right answers are rewarded; on `tiny`, nobody will show the policy a worked short sum. How will these numbers change?

# %% [markdown]
# ## 2. The reward
#
# A maths reward reads the answer and compares numbers; nothing else counts. Rewards speak TRL's protocol: a list of completions in, a list of scores out, with the dataset's other columns as keyword arguments.

# %%
# NBVAL_CHECK_OUTPUT
from postlab.rewards import math_reward

tries = ["12+30=42, 42+15=57. #### 57", "#### 57", "#### 56", "no idea"]
math_reward(tries, answer=["57"] * 4)

# %% [markdown]
# The evaluation reads answers with another extractor than the reward does. If the policy learns to please the verifier instead of adding, the two will part. Section 11 looks.

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
# ## 3. The policy gradient in ten lines
#
# A 0/1 reward has no gradient with respect to the answer: the answer is either right or wrong. But the *probability* of being right has a gradient with respect to the policy's weights. For answers $y$ drawn from the policy,
#
# $$\nabla \, \mathbb{E}_{y \sim \pi}[r(y)] = \mathbb{E}_{y \sim \pi}\big[r(y)\, \nabla \log \pi(y)\big]$$
#
# On the right there is no derivative of the reward, so a verifier will do. With three possible answers you can enumerate:

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
# A language model's answers cannot be enumerated, so draw a few, score them, and raise the log-prob of what scored:

# %%
import pandas as pd


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
# **Predict first.** Every answer here scores above 0, so each one drawn is pushed up. `baseline` subtracts the mean of the draws. Does that change where the climb ends, or how?

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
# It changes how the climb goes more than where it ends. Without a baseline, an answer that happens to be drawn is pushed up, whatever it is worth, and is then drawn more often: some runs (thin lines) go far astray, and one of the twelve is still behind after sixty updates. The baseline takes most of that noise away. **Where the baseline comes from** is the main difference between PPO and GRPO: PPO learns a value function, GRPO uses the group's mean reward.

# %% [markdown]
# ### Exercise 7.1 · about 10 minutes · easy
#
# The same for answers of many tokens. `logps` and `mask` are `(B, T)`, `rewards` is `(B,)`. Return one number, the mean over the answers of minus (reward less mean reward) times the log-prob of the answer.
#
# <details><summary>Hint 1</summary>
#
# The log-prob of an answer is the sum over its tokens; what stands in the padding is not part of it.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `rewards - rewards.mean()` is `(B,)`, and so is `(logps * mask).sum(dim=1)`.
#
# </details>

# %%
from postlab import check


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
# The value of such a loss says nothing. Its gradient does: minus for tokens to be made more likely.

# %%
# NBVAL_CHECK_OUTPUT
logps = torch.tensor([[-1.0, -2.0], [-4.0, -9.0]], requires_grad=True)
loss = reinforce_loss(logps, torch.tensor([1.0, 0.0]), torch.tensor([[1, 1], [1, 0]]))
loss.item(), torch.autograd.grad(loss, logps)[0].tolist()

# %% [markdown]
# ## 4. Who gets the credit?
#
# A baseline over the whole batch is unfair: an easy sum's answers all look good, a hard one's all bad. So GRPO asks the policy for $G$ answers to the *same* prompt, and lets the group be the judge. An answer's advantage is how far its reward stands from its group's mean, in standard deviations:
#
# $$A_i = \frac{r_i - \operatorname{mean}(r_1 \ldots r_G)}{\operatorname{std}(r_1 \ldots r_G) + \varepsilon}$$

# %% [markdown]
# ### Exercise 7.2 · about 10 minutes · medium
#
# `rewards` is `(B,)` with the groups one after another; return `(B,)`. The standard deviation is torch's own (with $n - 1$), $\varepsilon$ is 1e-4.
#
# <details><summary>Hint 1</summary>
#
# Give the groups an axis of their own first: `view(-1, group_size)`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A group of equal rewards has a standard deviation of 0. What does your code return for it?
#
# </details>


# %%
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
# Three prompts with four answers each:

# %%
# NBVAL_CHECK_OUTPUT
rewards = torch.tensor([1.0, 0.0, 0.0, 0.0] + [1.0, 1.0, 1.0, 0.0] + [0.0, 0.0, 0.0, 0.0])
group_advantages(rewards, 4).view(3, 4).round(decimals=2)

# %% [markdown]
# The lone right answer stands at +1.5, the lone wrong one at -1.5. Four failures teach nothing, and four successes would be as silent: the share of such groups is in TRL's log as `frac_reward_zero_std`, and you paid for sampling them.
#
# > **The roadmap says** GRPO eliminates the reward model. **The evidence says** verifiable rewards do; GRPO works with any reward. What it removes is the critic
# > ([DeepSeekMath 2024](https://arxiv.org/abs/2402.03300), section 4.1).

# %% [markdown]
# ## 5. What it keeps of PPO
#
# | | PPO (week 4) | GRPO |
# |---|---|---|
# | baseline | a critic, trained beside the policy | the group's mean |
# | credit | `gae`, token by token | one number per answer, the same for all its tokens |
# | ratio and clip | yes | yes, the same |
# | KL to the reference | in the reward, per token | in the loss (k3); off in TRL's default |
# | reward | any | any |
#
# $$\mathcal{L} = \frac{1}{G} \sum_i \frac{1}{|o_i|} \sum_t \Big[-\min\big(\rho_{i,t} A_i, \; \operatorname{clip}(\rho_{i,t}, 1 - \epsilon, 1 + \epsilon) A_i\big) + \beta \, k_{3;i,t}\Big], \qquad \rho_{i,t} = \frac{\pi(o_{i,t})}{\pi_\text{old}(o_{i,t})}$$

# %% [markdown]
# The KL is estimated on the sampled tokens. With $d = \log \pi - \log \pi_\text{ref}$, $k_1 = d$, $k_2 = d^2/2$, $k_3 = e^{-d} - 1 + d$. On a world of three tokens:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.scratch.losses import kl_estimate

policy, ref = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.3, 0.2])
found = {k: kl_estimate(policy.log(), ref.log(), kind=k) for k in ("k1", "k2", "k3")}
found = {k: [*values.tolist(), (policy * values).sum().item()] for k, values in found.items()}
pd.DataFrame(found, index=["token a", "token b", "token c", "mean under the policy"]).round(4)

# %% [markdown]
# $k_1$ and $k_3$ agree in the mean, which is the KL; only $k_3$ is never negative, token by token. As a *loss* they differ again: the gradient of $k_3$ alone is on average that of the other direction, KL(ref ‖ policy) ([2510.01555](https://arxiv.org/abs/2510.01555)). TRL 1.14 therefore multiplies it by the ratio, unless `use_bias_correction_kl=False`.

# %% [markdown]
# ### Exercise 7.3 · about 20 minutes · hard
#
# The loss above. `logps`, `old_logps`, `ref_logps` and `mask` are `(B, T)`, `advantages` is `(B,)`. First the mean over each answer's tokens, then over the answers.
#
# <details><summary>Hint 1</summary>
#
# `advantages[:, None]` gives each token its answer's advantage. The clipped part is week 4's.
#
# </details>
# <details><summary>Hint 2</summary>
#
# $k_3$ is `torch.exp(ref_logps - logps) - 1 - (ref_logps - logps)`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The mean of an answer divides by `mask.sum(dim=1)`, not by T.
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
#
# Just after sampling, the policy is the sampler: every ratio is 1. What are loss and gradient then?

# %%
# NBVAL_CHECK_OUTPUT
logps = torch.full((4, 3), -0.7, requires_grad=True)
same, adv = logps.detach(), group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0]), 4)
loss = grpo_loss(logps, adv, torch.ones(4, 3), old_logps=same, ref_logps=same)
gradient = torch.autograd.grad(loss, logps)[0][:, 0]
round(loss.item(), 6) + 0.0, [round(value, 3) for value in gradient.tolist()]

# %% [markdown]
# The advantages of a group add up to zero, so the loss is 0. The gradient is not. **A GRPO loss at zero is no failure, and its movement is no success.** (Under TRL's default `loss_type="dapo"` it is $-\sum A|o| / \sum |o|$, small and as meaningless.)

# %% [markdown]
# ## 6. The loop, from scratch
#
# To the end of section 7 everything runs on the embedded model, in every profile, from week 5's adapter.

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

# %% [markdown]
# Answers are drawn from the policy at temperature 1, and each step has a random seed of its own, so that another loop can draw the same answers.


# %% tags=["aside"]
def ids_of(prompt):
    text = render(tiny_tokenizer, prompt)
    return tiny_tokenizer(text, add_special_tokens=False)["input_ids"]


def draw(policy, prompts, step):
    luck = torch.Generator().manual_seed(step)
    prompts = [ids_of(prompt) for prompt in prompts]
    return sample(policy, prompts, eos=END, max_new_tokens=64, generator=luck)


def answers_of(rollouts):
    """The tokens of each answer, without padding."""
    pairs = zip(rollouts.completions, rollouts.mask, strict=True)
    return [ids[real.bool()].tolist() for ids, real in pairs]


# %% [markdown]
# The whole algorithm. Your `group_advantages` and `grpo_loss` are in it.

# %% tags=["aside"]
from postlab.scratch.losses import token_logps
from postlab.scratch.sampling import completion_states

G, PROMPTS, STEPS, RATE = 8, 6, 10, 4e-4
tiny_rows = math_rows("tinyworld", split="train", n=PROMPTS * STEPS, seed=1)


def train_grpo(policy, score, steps):
    """Train on `tiny_rows` in their order; `score(texts, golds)` gives the rewards."""
    weights = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=STEPS)
    for step in range(steps):
        # 1. Draw G answers to each prompt.
        rows = tiny_rows[step * PROMPTS :][:PROMPTS]
        rollouts = draw(policy, [row["prompt"] for row in rows for _ in range(G)], step)
        texts = tiny_tokenizer.batch_decode(answers_of(rollouts), skip_special_tokens=True)
        # 2. Score them.
        rewards = torch.tensor(score(texts, [row["answer"] for row in rows]))
        # 3. Compare inside each group.
        advantages = group_advantages(rewards, G)
        # 4. Make what did better more likely.
        logps = token_logps(completion_states(policy, rollouts)[0], rollouts.completions)
        now = logps.detach()  # one update a batch, beta 0: sampler and reference do not matter
        loss = grpo_loss(logps, advantages, rollouts.mask, old_logps=now, ref_logps=now)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, 1.0).item()
        optimizer.step()
        schedule.step()
        silent = (rewards.view(-1, G).std(dim=1) == 0).float().mean().item()
        yield {"reward": rewards.mean().item(), "grad_norm": norm, "silent": silent}


# %% [markdown]
# There is one gold answer per prompt and there are $G$ answers to it, so each gold is repeated $G$ times in a row.


# %% tags=["aside"]
def scored(texts, golds):
    return math_reward(texts, answer=[gold for gold in golds for _ in range(G)])


ours = pd.DataFrame(train_grpo(policy, scored, STEPS))
ours.round(3).T

# %% [markdown]
# **Predict first.** TRL's trainer gets the same start, prompts, rate and, through `rollout_func`, the same luck. After ten steps, how far apart will the two be: the same curve roughly, nearly, or exactly?

# %% tags=["aside"]
import tempfile

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from postlab.show import record_groups, rollout_explorer


def rollout(prompts, trainer):
    drawn = draw(trainer.model, prompts, trainer.state.global_step)
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
# Exactly: the same answers, so the same rewards, and the same gradients to rounding. At these settings, TRL's GRPO does nothing that isn't on this page. The weights:

# %% tags=["aside"]
if beside:
    pairs = zip(policy.named_parameters(), beside.model.named_parameters(), strict=True)
    trained = [(a, b) for (name, a), (_, b) in pairs if "lora_" in name]
    apart = max((a - b).abs().max().item() for a, b in trained)
    print(
        f"largest weight {max(a.abs().max().item() for a, _ in trained):.2f}, apart by {apart:.0e}"
    )

# %% [markdown]
# `record_groups` wrote down what TRL's reward function saw. Go through it: a step, a prompt, its group, coloured by advantage. Blue is made more likely, red less.

# %% tags=["aside"]
rollout_explorer(watched.groups) if beside else None

# %% [markdown]
# Two things to see. **Every token of an answer has one colour:** a wrong worked sum is blamed from its first token, right steps and all (hence week 10's process rewards). And in a group of both styles, as above: the worked answers are pushed up, so *working it out* is learned, though no reward mentions it.

# %% [markdown]
# > **The roadmap says** GRPO has no complex PPO-style clipping. **The evidence says** its objective is $\min(\rho A, \operatorname{clip}(\rho) A)$, as in PPO ([eq. 3](https://arxiv.org/abs/2402.03300)). With one update a batch every ratio is 1, and the clip has nothing to do.
#
# When does it start to? Take several updates on *one* batch of answers:

# %% tags=["aside"]
from postlab.scratch.losses import clipped_policy_loss

policy, six = start()[0], tiny_rows[:PROMPTS]
rollouts = draw(policy, [row["prompt"] for row in six for _ in range(G)], step=0)
texts = tiny_tokenizer.batch_decode(answers_of(rollouts), skip_special_tokens=True)
rewards = torch.tensor(scored(texts, [row["answer"] for row in six]))

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
# So the clip is a brake for those who reuse samples (`num_iterations` in TRL). The two lines nearly coincide: what left the bounds went where it was pushed, and is held. A token that went the other way would keep its gradient.

# %% [markdown]
# ## 7. Bug hunt: it runs, and does not learn
#
# A colleague took your loop, from the same start, and rewrote one line:

# %% tags=["aside"]
from postlab.course.week07 import plot_hunt


def her_scores(texts, golds):
    return math_reward(texts, answer=golds * G)


hers = pd.DataFrame(train_grpo(start()[0], her_scores, steps=6))
plot_hunt(ours, hers)

# %% [markdown]
# No error, no NaN, a gradient at every step. **What is wrong, and which of the curves gave it away?**
#
# <details><summary>Answer</summary>
#
# `golds * G` repeats the whole list: gold 1, gold 2, … gold 6, gold 1, … But the G answers to a prompt stand next to each other. So most answers are compared with another sum's gold. The reward gave it away, at its first point: both loops drew the *same* first answers from the same start, and yours scored several times as many right. The rewards that are left are coincidences, and their advantages are noise at full strength: the group's deviation scales a lone lucky hit up to the largest advantage there is.
#
# </details>
#
# The cheapest test of any reward: give it the gold answers.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
golds = ["57", "102", "8", "114", "61", "75"]
perfect = [f"#### {gold}" for gold in golds for _ in range(G)]
sum(scored(perfect, golds)) / len(perfect), sum(her_scores(perfect, golds)) / len(perfect)

# %% [markdown]
# TRL repeats a dataset's columns itself; there the fault comes by the back door: a column shuffled apart from its prompts, or a reward that reads the numbers of the *question*. The test is the same.

# %% [markdown]
# ## 8. Train
#
# The stage itself, on your profile. Its settings:

# %%
# NBVAL_CHECK_OUTPUT
pd.Series(dict(grpo.trainer), name="GRPOConfig").to_frame()

# %% [markdown]
# Eight answers per prompt, eight prompts per step on `tiny` and four on `smol`; `beta` 0, so no reference model is held; one update a batch, so the clip is idle.
#
# If you set `beta` above 0, check which model is the reference, because it depends on the trainer. TRL's own, which runs on a CPU, keeps a frozen copy of the adapter you start from. On a GPU, Unsloth replaces it with a version that switches the adapter off instead. The reference is then the *base*, and the KL term pulls the policy back to before SFT and DPO. (Week 5's reference is the start in both cases.)
#
# Most of the time goes into sampling. `generate` processes the prompt again for every sample in the group, and finished sequences stay in the batch until the longest one ends. On a CPU, `rollout_func` hands the sampling to postlab's engine, which does neither and samples from the same distribution.

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
# **Predict first.** Which curve tells you that training works: the loss, the reward, the length?

# %%
from postlab.show import plot_stages, plot_training

plot_training(log, "grpo")

# %% [markdown]
# Not the loss: it is not even drawn. Watch the reward. On `tiny`, see the length as well: nobody rewarded long answers. Working a sum out pays, and length followed accuracy, as in DeepSeek-R1's famous curve. The share of silent groups rises as sums become easy: late steps teach less than they cost.

# %% [markdown]
# ## 9. Reading the log
#
# | column | healthy | look twice when |
# |---|---|---|
# | `reward` | over the first steps near the start's sampled accuracy (one step is few prompts), then rises | it starts at 0, or at 1 |
# | `frac_reward_zero_std` | well below 1 | near 1: nothing to learn from; prompts too easy or too hard |
# | `completions/clipped_ratio` | near 0 | answers are cut before their end and score 0 |
# | `completions/mean_length` | moves with the reward | it drifts while the reward stands still |
# | `entropy` | falls slowly | near 0 early: the group is one answer, G times |
# | `grad_norm` | neither 0 nor growing | 0: silent groups, or a frozen adapter |
# | `clip_ratio/*` | 0 with one update a batch | large: too many updates on one batch |
# | `kl` | only there with `beta` above 0 | it leaps |
# | `loss` | anything small | never |

# %%
steps = pd.DataFrame(entry for entry in log if "reward" in entry)
columns = ["reward", "frac_reward_zero_std", "entropy", "grad_norm", "loss", "learning_rate"]
columns[1:1] = ["completions/mean_length", "completions/clipped_ratio"]
thirds = pd.cut(steps["step"], 4, labels=["first quarter", "second", "third", "last"])
steps.groupby(thirds, observed=True)[columns].mean().T.map("{:.4g}".format)

# %% [markdown]
# **The schedule.** On `tiny` the rate falls in a straight line, from the first step on. `warmup_steps` is 0, so Adam's first steps are as large as any. Adapters that start from a good policy can take that. `smol` holds its rate constant. `t4` and `rented` warm up and then follow
# a cosine.
#
# $$\eta_t = \eta_0 \, (1 - t / T)$$

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
entries = beside.state.log_history if beside else []
rates = [entry["learning_rate"] for entry in entries if "reward" in entry]
wanted = [RATE * (1 - step / STEPS) for step in range(STEPS)]
same_rates = rates and torch.allclose(torch.tensor(rates), torch.tensor(wanted))
([f"{rate:.1e}" for rate in rates], same_rates) if beside else None

# %% [markdown]
# Does it matter? Recorded: the recipe, and the same with its rate held, three seeds each.

# %%
import json

from postlab.profile import data_dir

results = data_dir() / "results" / "week07"
arms = json.loads((results / "arms.json").read_text())
pd.Series(arms["provenance"], name="recorded").to_frame()

# %%
import numpy as np

from postlab.course.week07 import plot_schedule


def numbers(values):
    return np.array(values, dtype=float)


curves = [
    pd.DataFrame({name: numbers(values) for name, values in one["log"].items()}).assign(
        arm=one["arm"], seed=one["seed"]
    )
    for one in arms["runs"]
    if one["arm"] != "careless start"
]
plot_schedule(pd.concat(curves))

# %% [markdown]
# And on the 200 held-out sums, read strictly:

# %%
ends = {"start": "strict before", "end": "strict after"}
table = [
    {"arm": one["arm"], "seed": one["seed"]}
    | {name: numbers(one[when]["strict"]).mean() for when, name in ends.items()}
    for one in arms["runs"]
    if one["arm"] != "careless start"
]
pd.DataFrame(table).pivot(index="arm", columns="seed").round(3)

# %% [markdown]
# On held-out sums the falling rate made no difference: both arms end near the ceiling. In training, the constant rate learned a little faster on all three seeds. A falling rate is insurance against a rate that is too high, and only one rate was tried.

# %% [markdown]
# ## 10. What changed?

# %%
after = lab.evaluate(run, trainer.model, tokenizer)
styles(after)

# %% [markdown]
# That answers your first prediction. Some sums, before and after:

# %%
both = before[["family", "prompt", "answer"]].rename(columns={"answer": parent})
both["grpo"] = after["answer"]
both[both["family"] == family].head(8)

# %%
from postlab.evals import compare

table = compare({parent: before, "grpo": after})
plot_stages(table, profile=lab.profile.name)

# %% [markdown]
# Greedy accuracy says what the policy does when it is most sure, accuracy at temperature 1 what a draw from it does. RL that only sharpens a model moves the second towards the first; on `tiny` both moved, because the *habit* changed. (`t4` and `rented` measure the greedy answer only.) No reward covered facts, lists, safety or honesty. The figure shows whether they stayed the same: in the stored output every change among them is inconclusive. Facts fell by 3 points, which taken alone its interval supports; among all the metrics looked at it doesn't pass Holm's correction (week 6).
#
# > **The roadmap says** GRPO was introduced with R1 in January 2025. **The evidence says** DeepSeekMath, February 2024; R1 made it famous. And Qwen models were pretrained on much mathematics and flatter any gain, so the larger profiles name a second family.

# %% [markdown]
# ### The same chain on a language model
#
# All of this happened to 1.4 million parameters in a made-up world. `POSTLAB_PROFILE=smol make stages` takes SmolLM2-135M-Instruct through the same three stages, in plain English: SFT on short replies, DPO on pairs of look-alikes, GRPO on one-step sums in words. No topic of the training is in the evaluation.
# Recorded, on two cores:

# %%
from postlab.report import summary_frame

smol = data_dir() / "results" / "smol"
chain = summary_frame(json.loads((smol / "summary.json").read_text()))
shown = ["instructions", "safety", "honesty", "over_refusal", "over_abstention", "facts"]
shown += ["arithmetic", "arithmetic_sampled"]
plot_stages(chain[chain["metric"].isin(shown)], profile="smol")

# %% [markdown]
# One seed; after a shorter trial of SFT and DPO on the prompts of the `choose` split, DPO got 60 steps instead of 40. **SFT** taught the form: instructions kept to in every point rose by 18 points (11 to 27), and sums by 25 (15 to 34), of which its rows hold some. (The base writes at length, and draws are cut after 24 tokens.) **DPO** did what its pairs ask: 37 points more
# refusals of harmful requests (28 to 46), 31 more admissions of what nobody can know (23 to 40). And it could hardly tell a request from its look-alike, from which it differs in a word or two: 31 points more of the harmless ones are refused as well. **GRPO** raised the sums drawn at temperature 1 by 15 points (9 to 22), and took back nearly all
# that DPO had given: safety −30, honesty −33. Its reward knows nothing of manners, no KL term holds the policy, and its rate of 2e-4 never falls: it moved 4.4 nats from its start, DPO 2.7, and the tiny model's GRPO 0.3. A smaller rate or a `beta` above zero would be the first thing to try. It wasn't tried, so this is what the recipe does, and not what the method must.
#
# Each sum was also drawn eight times at temperature 1. RL may *sharpen* a model, so that it says at once what it said sometimes before; then pass@8, the share of sums with at least one right draw of eight, stays where it was. Or it may add sums that no draw got right. Which do you expect here?

# %%
from postlab.course.week07 import plot_pass
from postlab.stats import paired_difference, pass_at_k

draws = json.loads((smol / "draws.json").read_text())
passes = {
    (seed, stage, k): np.array([pass_at_k(told["n"], right, k) for right in told["right"]])
    for seed, stages in draws.items()
    for stage, told in stages.items()
    for k in (1, 2, 4, 8)
}
names = ["seed", "stage", "k", "value"]
curves = pd.DataFrame([(*key, values.mean()) for key, values in passes.items()], columns=names)
plot_pass(curves[curves["stage"].isin(["dpo", "grpo"])])

# %%
gained = {
    (seed, k): vars(paired_difference(passes[seed, "dpo", k], passes[seed, "grpo", k]))
    for seed in draws
    for k in (1, 8)
}
pd.DataFrame(gained).T[["difference", "low", "high", "p", "n"]].rename_axis(["seed", "pass@"])

# %% [markdown]
# The first draw gained 15 points, the best of eight 11 (2 to 20, p = 0.047): more than sharpening, if only just. But look one stage back: before DPO, 68% of the sums had a right draw among eight, and DPO's 57% is where GRPO began. It has won back what DPO had cost, and no more. One seed and 120 sums can't say more than that.

# %% [markdown]
# ## 11. How much of it is mere format?
#
# A model that knows 57 and says 'it is 57' is wrong to a verifier that wants `#### 57`. Teach it the form and accuracy leaps, though nothing was learned about sums. So the evaluation reads each answer twice: *strictly*, as it was asked for, and *leniently*, the last number wherever it stands. What strict gained and lenient did not is format.
#
# `everyday` asks for no form, and its evaluation takes the number wherever it stands. So under `smol`, the strict reading below is the *reward's*: what it gained and the evaluation did not, the policy learned to write for the reward alone.

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
# **Predict first.** Of your run's gain, which share is format?

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
    """A run's gain in points: more sums right in any form, and mere format."""
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
# One run is one run. Recorded: the whole chain, SFT, DPO and GRPO, on five seeds with the shipped recipe. And a start made *careless* on purpose: the same policy after a moment of fine-tuning on its own answers with most of the `####` taken out, then GRPO with a strict reward.

# %%
five = json.loads((results / "seeds.json").read_text())
pd.Series(five["provenance"], name="recorded").to_frame()

# %%
from postlab.course.week07 import plot_gains


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
# With the shipped recipe no gain is format, on any seed: week 5's model already answered as asked. The careless start shows what the reading is for: the orange bars would have passed for arithmetic. Its green bars are longer too, as the careless fine-tuning had cost it sums, and not only the form.

# %%
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
# Five times the same: all sums are worked, and accuracy follows. The ability was there; GRPO found out which habit pays. Whether RL teaches a large model what no sample of it ever did is an open question ([2504.13837](https://arxiv.org/abs/2504.13837)).

# %% [markdown]
# ## 12. What it would cost
#
# Sampling is most of it, so time is counted in new tokens. Estimates until somebody records a run:

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
# Every answer is counted at full length, so these are high. After a crash `run.train` goes on with the same draws: the random state is in the checkpoint.

# %% [markdown]
# ## What you have now
#
# `runs/<profile>/seed-<n>/grpo/`, a loop you wrote that is TRL's to the token, and three habits: the first step's reward against the start's accuracy, gold answers through every reward, two readings of every gain. Week 8 breaks runs on purpose, and asks which of GRPO's parts it can do without.

# %% [markdown]
# ### Five interview questions
#
# **1.** Your GRPO loss has been 0.000 since the first step. Is the run broken?
#
# <details><summary>Answer</summary>
#
# Not by that. With one update a batch the ratio is 1 and advantages are centred in each group, so under `grpo` aggregation the value is 0 while the gradient is not. Look at reward, `grad_norm`, `frac_reward_zero_std`. Broken is a gradient of 0.
#
# </details>
#
# **2.** What does GRPO save against PPO, and what does it pay?
#
# <details><summary>Answer</summary>
#
# The critic: a second model, its optimizer, its training. It pays with G answers a prompt, groups that are silent, and credit for whole answers instead of tokens. Ratio, clip and (optionally) the KL stay.
#
# </details>
#
# **3.** Why divide by the group's standard deviation, and what is wrong with it?
#
# <details><summary>Answer</summary>
#
# It makes steps independent of the reward's scale. But it weighs prompts: nearly solved and nearly hopeless ones count for more than their differences say. Dr. GRPO leaves it out.
#
# </details>
#
# **4.** System design: rewards take 20 seconds each (code under test). Where do you change the loop?
#
# <details><summary>Answer</summary>
#
# Score in parallel while the next batch is sampled, accept samples some updates old, and let ratio and clip correct for that. Cache by answer, set a time limit, give `None` and not 0 where the *verifier* failed.
#
# </details>
#
# **5.** Research taste: '+30 points on GSM8K by GRPO from the base model.' What do you ask?
#
# <details><summary>Answer</summary>
#
# How the start was prompted and read: a base that does not know the form fails strict scoring for its form. Both readings, few-shot for the base, SFT on its own right answers as a control, pass@k, another model family, seeds.
#
# </details>

# %% [markdown]
# **Papers.** Shao et al. 2024, *DeepSeekMath* ([2402.03300](https://arxiv.org/abs/2402.03300)): section 4.1, the objective. DeepSeek-AI 2025, *R1* ([2501.12948](https://arxiv.org/abs/2501.12948)): figure 3, length; section 2.2.2, rule-based rewards. Williams 1992, *REINFORCE*: the gradient and the baseline. Liu et al. 2025, *Dr. GRPO*
# ([2503.20783](https://arxiv.org/abs/2503.20783)): what the divisions by deviation and length do. Schulman 2020, *Approximating KL divergence* (joschu.net/blog/kl-approx.html): k1 to k3. Yue et al. 2025 ([2504.13837](https://arxiv.org/abs/2504.13837)): pass@k before and after RL.
