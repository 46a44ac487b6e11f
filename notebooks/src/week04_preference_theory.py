# %% [markdown]
# # Week 4 · Preferences in theory: reward models, PPO and DPO
#
# It is easier to say which of two replies is better than to write a good one. This week you build the classic way from such judgements to a policy, RLHF: a reward model, then PPO
# with a KL penalty. Then you derive the short cut, DPO, a line of code for each formula, and find out where the two agree and where they part. By the end you can say
#
# - what a reward model learns from a pair, and how far to trust it,
# - why DPO needs neither reward model nor sampling, and what it gives up for that,
# - which of the two you would choose, and what it costs.
#
# All is trained on the embedded model, in every profile: *mechanism, not capability*.

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

lab = postlab.start(week=4)

# %% [markdown]
# ## 1. Two papers
#
# **[Christiano et al. 2017](https://arxiv.org/abs/1706.03741).** Nobody can write down the reward for a backflip, but anybody can say which of two clips looks more like one.
# From under a thousand such answers they fitted a reward model, and a simulated robot learned the flip. The parts have stayed: *pairs, a model of the judge, reinforcement
# learning against it*.

# %% [markdown]
# **[InstructGPT, Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)** did it to GPT-3:
#
# | step | prompts | who answers | trained |
# |---|---|---|---|
# | 1. SFT | 13k | labellers | the policy |
# | 2. reward model | 33k | the model, 4 to 9 times; labellers rank | a 6B reward model |
# | 3. PPO | 31k | the policy, again and again | the policy |
#
# Labellers preferred the 1.3B result to the 175B GPT-3. They agreed with *each other* in about 73% of cases, their reward model with them as often: the judge is the ceiling.

# %% [markdown]
# Step 1 was week 3. Here is its result as one plain model: the adapter is merged, so that `copy.deepcopy` makes another policy.

# %% tags=["shared"]
import copy
import math

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F  # noqa: F401 (for the exercises)

from postlab.models import load_policy
from postlab.sampling import end_of_turn, render


def load_sft(checkpoint):
    """The fine-tuned policy as one plain model, and its tokenizer."""
    model, tokenizer = load_policy(checkpoint, profile="tiny")
    return model.merge_and_unload().eval(), tokenizer


# %%
from postlab.profile import get_profile

tiny = lab if lab.profile.name == "tiny" else postlab.Lab(get_profile("tiny"), seed=0)
sft, tokenizer = load_sft(tiny.checkpoint("sft"))
END = end_of_turn(tokenizer)

# %% [markdown]
# Step 2 begins with pairs. We take the three families about manners: *helpful* (how-to's), *harmless* (unsafe requests), *honest* (riddles nobody can answer). And few, on purpose: a reward
# model with faults is the subject.

# %% tags=["shared"]
from postlab.datasets import preference_rows

METRICS = {"howto": "helpfulness", "unsafe": "safety", "unknown": "honesty"}


def manners(split, n, seed):
    """n preference rows about manners."""
    rows = preference_rows("tinyworld", split=split, n=3 * n, seed=seed)
    return [row for row in rows if row["family"] in METRICS][:n]


# %%
# NBVAL_CHECK_OUTPUT
pd.set_option("display.max_colwidth", 90)
rows = manners("train", 200, seed=0)
sides = ("prompt", "chosen", "rejected")
pd.DataFrame([{side: row[side][-1]["content"] for side in sides} for row in rows[:7]])

# %% [markdown]
# ## 2. A reward model
#
# Bradley and Terry (1952) gave everyone a number, and made the chance that one beats another a function of the difference. With a reward $r$ for a reply:
#
# $$P(y_c \succ y_r) = \sigma(r_c - r_r), \qquad \mathcal{L} = -\log \sigma(r_c - r_r)$$

# %% [markdown]
# ### Exercise 4.1 · about 5 minutes · easy
#
# The loss of each pair, `(B,)`, from two `(B,)` tensors of rewards.
#
# <details><summary>Hint</summary>
#
# `sigmoid`, then `log`, underflows when the model is very wrong; `F.logsigmoid` does not.
#
# </details>

# %%
from postlab import check


def bradley_terry_loss(chosen_rewards, rejected_rewards):
    raise NotImplementedError


bradley_terry_loss = check.bradley_terry_loss(bradley_terry_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def bradley_terry_loss(chosen_rewards, rejected_rewards):
#     return -F.logsigmoid(chosen_rewards - rejected_rewards)
# ```
#
# </details>
#
# What does it say of a reward model that adds 100 to every reward?

# %%
# NBVAL_CHECK_OUTPUT
ours, theirs = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0])
losses = [bradley_terry_loss(ours + shift, theirs + shift) for shift in (0, 100)]
[[round(value, 3) for value in loss.tolist()] for loss in losses]

# %% [markdown]
# Nothing: only differences count. Ours is the smallest reward model there is: one linear read-out of the frozen SFT model's state at the end of a reply. InstructGPT trained all six billion weights.

# %% tags=["shared"]
from postlab.scratch.sampling import completion_states, pack, sample


class RewardModel(nn.Module):
    """A number for a reply: a linear head on the trunk's last hidden state at the reply's end."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk, self.head = trunk, nn.Linear(trunk.config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)

    @torch.no_grad()
    def states(self, rollouts):  # (B, H)
        inputs = {"input_ids": rollouts.ids, "attention_mask": rollouts.attention}
        hidden = self.trunk(**inputs, output_hidden_states=True).hidden_states[-1]
        reply = hidden[:, -rollouts.mask.shape[1] :]
        return reply[torch.arange(len(reply)), rollouts.last[:, 0]]

    def forward(self, rollouts):  # (B,)
        return self.head(self.states(rollouts))[:, 0]


# %% [markdown]
# Replies become tokens, each with the one that ends its turn. The mean reward is then set to 0 (InstructGPT: that of the demonstrations).


# %% tags=["shared"]
def tokens(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def asked(rows):
    """The rows' prompts as token ids, ready to be answered."""
    return [tokens(render(tokenizer, row["prompt"])) for row in rows]


def both_sides(rows):
    """Chosen and rejected replies of preference rows, as two batches."""
    ends = {s: [tokens(r[s][0]["content"]) + [END] for r in rows] for s in ("chosen", "rejected")}
    return pack(asked(rows), ends["chosen"]), pack(asked(rows), ends["rejected"])


def fit(reward_model, rows, steps=300):
    """Train the head on the pairs."""
    better, worse = (reward_model.states(side) for side in both_sides(rows))
    head = reward_model.head
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.03, weight_decay=0.01)
    for _ in range(steps):
        loss = bradley_terry_loss(head(better)[:, 0], head(worse)[:, 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.bias.data -= head(torch.cat([better, worse])).mean().detach()
    return reward_model.requires_grad_(False)


# %% [markdown]
# **Predict first.** Rejected how-to's refuse or give the steps of *another* deed; rejected replies to unsafe requests give the deed's steps; rejected riddles bluff. In which family will the model do
# worst on held-out pairs?

# %%
reward_model = fit(RewardModel(sft), rows)
held_out = manners("heldout", 400, seed=1)
better, worse = (reward_model(side) for side in both_sides(held_out))
margins = (better - worse).tolist()

# %%
from postlab import stats
from postlab.course.week04 import plot_calibration


def agreement(margins, rows):
    """How often the model ranks a pair rightly: in all, by family, and by how sure it says it is."""
    found = pd.DataFrame({"margin": margins, "family": [METRICS[row["family"]] for row in rows]})
    found["right"] = found["margin"] > 0
    found["said"] = 1 / (1 + (-found["margin"].abs()).map(math.exp))
    found["all"], found["confidence"] = "all", pd.qcut(found["said"], 5, labels=False)
    shares = []
    for group in ("all", "family", "confidence"):
        for label, part in found.groupby(group):
            share = {"group": group, "label": label, "said": part["said"].mean()}
            shares.append(share | vars(stats.wilson(part["right"].sum(), len(part))))
    return pd.DataFrame(shares)


plot_calibration(agreement(margins, held_out))

# %% [markdown]
# On the left, what it cannot see: to the SFT model the steps of any deed are a fluent how-to. On the right, the pairs in five groups by confidence; below the line is
# overconfidence. All of it for pairs *of the kind it was trained on*. PPO will show it others.

# %% [markdown]
# ## 3. PPO with a KL penalty
#
# The policy shall earn reward without becoming another model:
#
# $$\max_\pi \; \mathbb{E}_{y \sim \pi}[r(y)] - \beta \, \mathrm{KL}(\pi \,\|\, \pi_\text{ref})$$
#
# InstructGPT charges the penalty token by token, and pays the score with the last one:
#
# $$R_t = -\beta \log \frac{\pi(y_t)}{\pi_\text{ref}(y_t)} + [t = T]\, r(y)$$

# %%
# NBVAL_CHECK_OUTPUT
from postlab.scratch.ppo import token_rewards

logps, ref_logps = torch.tensor([[-0.1, -2.0, -0.1]]), torch.tensor([[-0.1, -1.0, -1.1]])
scores, mask = torch.tensor([1.0]), torch.ones(1, 3)
token_rewards(scores, mask, logps=logps, ref_logps=ref_logps, beta=0.1)

# %% [markdown]
# The first token is what the reference would say: free. The second is *less* likely than there and earns something. On the policy's own samples the mean of these logs is the KL all the
# same.
#
# **Who deserves the credit?** A critic $V$ guesses before each token what is still to come. Generalised advantage estimation
# ([2015](https://arxiv.org/abs/1506.02438)) adds up its surprises:
#
# $$\delta_t = R_t + \gamma V_{t+1} - V_t, \qquad A_t = \delta_t + \gamma \lambda A_{t+1}$$

# %% [markdown]
# ### Exercise 4.2 · about 15 minutes · medium
#
# `rewards`, `values`, `mask` are `(B, T)`; a reply's tokens come first, its padding after. Return the advantages, `(B, T)`, 0 on padding.
#
# <details><summary>Hint 1</summary>
#
# Go from the last column to the first and carry $A_{t+1}$ along.
#
# </details>
# <details><summary>Hint 2</summary>
#
# What `values` holds behind a reply's end is noise: after the last token the next value is 0.
#
# </details>


# %%
def gae(rewards, values, mask, *, gamma, lam):
    raise NotImplementedError


gae = check.gae(gae)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def gae(rewards, values, mask, *, gamma, lam):
#     mask = mask.to(values.dtype)
#     advantages = torch.zeros_like(values)
#     next_value = next_advantage = torch.zeros_like(values[:, 0])
#     for t in reversed(range(values.shape[1])):
#         delta = rewards[:, t] + gamma * next_value - values[:, t]
#         next_advantage = (delta + gamma * lam * next_advantage) * mask[:, t]
#         next_value = values[:, t] * mask[:, t]
#         advantages[:, t] = next_advantage
#     return advantages
# ```
#
# </details>
#
# A reply of three tokens scores 1. The critic expects 0.5, then 0.9, then, after a token that it dislikes, 0.2.
#
# **Predict first.** Which token gets the blame at $\lambda = 0$? At $\lambda = 1$?

# %%
# NBVAL_CHECK_OUTPUT
score, guess = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.9, 0.2]])
for lam in (0.0, 0.95, 1.0):
    found = gae(score, guess, torch.ones(1, 3), gamma=1.0, lam=lam)
    print(lam, [round(advantage, 2) for advantage in found[0].tolist()])

# %% [markdown]
# At 0 the second token, where the guess fell, takes it all: little noise, but only as right as the critic. At 1 every token is judged by the final score: no bias, much noise. RLHF uses
# 0.95.
#
# **How far may one batch push?** Sampling is dear, so PPO takes several steps on the same replies. The ratio $\rho_t = \pi(y_t) / \pi_\text{old}(y_t)$ corrects for a policy that has moved
# since, and the clip ends the incentive to move on:
#
# $$\mathcal{L}_t = -\min\big(\rho_t A_t, \; \operatorname{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon) A_t\big)$$

# %% [markdown]
# ### Exercise 4.3 · about 10 minutes · medium
#
# Return the loss of each token, `(B, T)`, and a bool tensor: where the clip holds, that is, where the clipped term is the smaller one.
#
# <details><summary>Hint</summary>
#
# A ratio above $1 + \epsilon$ is clipped only where the advantage is positive. The `min` knows; a condition on the ratio alone does not.
#
# </details>


# %%
def clipped_policy_loss(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
    raise NotImplementedError


clipped_policy_loss = check.clipped_policy_loss(clipped_policy_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def clipped_policy_loss(logps, old_logps, advantages, *, clip_low=0.2, clip_high=0.2):
#     ratio = torch.exp(logps - old_logps)
#     free = ratio * advantages
#     near = ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
#     return -torch.minimum(free, near), near < free
# ```
#
# </details>
#
# Four tokens, half as likely again as when they were sampled or half as likely, good or bad:

# %%
# NBVAL_CHECK_OUTPUT
ratio, advantage = torch.tensor([[1.5, 1.5, 0.5, 0.5]]), torch.tensor([[1.0, -1.0, 1.0, -1.0]])
logps = ratio.log().requires_grad_()
loss, clipped = clipped_policy_loss(logps, torch.zeros(1, 4), advantage)
loss.sum().backward()
tried = {"ratio": ratio, "advantage": advantage, "clipped": clipped, "gradient": logps.grad}
pd.DataFrame({name: value[0].tolist() for name, value in tried.items()}).round(2)

# %% [markdown]
# The clip silences a token only if it went far the way it is pushed. One that went the wrong way keeps its gradient.
#
# > **The roadmap says** GRPO has no PPO-style clipping. **The evidence says** it has this very loss ([eq. 3](https://arxiv.org/abs/2402.03300)) and drops the critic: week 7.

# %% [markdown]
# The whole step, as `postlab.scratch.ppo` has it. Your `gae` and `clipped_policy_loss` go into it.

# %%
import inspect

from postlab.scratch import ppo

ppo.gae, ppo.clipped_policy_loss = gae, clipped_policy_loss
print(inspect.getsource(ppo.ppo_step).split('"""')[2].strip("\n"))

# %% [markdown]
# Advantages are *whitened* (mean 0, variance 1), so that the step does not hang on the reward's scale. Our critic is a linear read-out of the policy's states; InstructGPT's was a second 6B
# model. A reply that never ends gets a fixed low score.


# %% tags=["shared"]
def scorer(reward_model, unfinished=-5.0):
    """Rewards (B,) of a batch of replies; one that was cut off scores low."""
    return lambda replies: torch.where(replies.ended(END), reward_model(replies), unfinished)


def learner(policy):
    """A copy that can be trained."""
    return copy.deepcopy(policy).requires_grad_(True)


# %% [markdown]
# And this PPO will *not* see. For one sampled reply to each held-out prompt: the reward model's score (*proxy*), the oracle's verdict (*gold*) and the exact KL.

# %% tags=["shared"]
from postlab.tinyworld.tasks import heldout_suite


@torch.no_grad()
def measure(policy, reward, *, n, seed=0):
    """Sampled replies to n held-out prompts a family: proxy, gold and KL from sft, as a frame."""
    suite = [row for row in heldout_suite(n) if row["family"] in METRICS]
    draw = torch.Generator().manual_seed(seed)
    replies = sample(policy, asked(suite), eos=END, max_new_tokens=40, generator=draw)
    ours, theirs = (completion_states(model, replies)[0].log_softmax(-1) for model in (policy, sft))
    kl = ((ours.exp() * (ours - theirs)).sum(-1) * replies.mask).sum(dim=1)
    found = pd.DataFrame({"family": [row["family"] for row in suite]})
    found["prompt"] = [row["prompt"][-1]["content"] for row in suite]
    found["answer"] = tokenizer.batch_decode(replies.completions, skip_special_tokens=True)
    found["proxy"], found["kl"] = reward(replies).tolist(), kl.tolist()
    verdicts = zip(suite, found["answer"], replies.ended(END).tolist(), strict=True)
    found["gold"] = [row["score"](text, end)[METRICS[row["family"]]] for row, text, end in verdicts]
    return found


# %% [markdown]
# The prompts are those of the pairs; the replies are the policy's own, and nobody labels them.

# %%
import time

reward, prompts = scorer(reward_model), asked(rows)
policy, critic = learner(sft), ppo.ValueHead(sft.config.hidden_size)
settings = {"eos": END, "lr": 2e-4, "batch_size": 48, "max_new_tokens": 40, "seed": lab.seed}
began = time.perf_counter()
log = ppo.train(policy, prompts, reward, ref=sft, value_head=critic, steps=16, beta=1.0, **settings)
ppo_seconds = time.perf_counter() - began

# %%
from postlab.course.week04 import plot_ppo

plot_ppo(log)

# %% [markdown]
# *KL* is what the reward cost. *Entropy* near nought: the policy has stopped trying things. Many *clipped tokens*: too long steps. *Explained variance*: is the critic worth its memory?

# %% [markdown]
# ## 4. Better, or better at pleasing?
#
# The score rose. What rose with it on held-out prompts, and what fell?

# %%
before, after = (measure(model, reward, n=60) for model in (sft, policy))
both = pd.concat({"sft": before, "ppo": after}, names=["policy"]).reset_index(level=0)
both.pivot_table(index="family", columns="policy", values=["gold", "proxy"], sort=False).round(2)

# %%
wrong = after[after["gold"] == 0].sort_values("proxy", ascending=False)
wrong[["prompt", "answer", "proxy"]].head(6)

# %% [markdown]
# Replies that the reward model likes and the oracle calls wrong. Nobody taught them: the policy looks for whatever scores. That is *reward hacking*; as statistics, Goodhart's law.

# %% [markdown]
# Next, a recorded run: three seeds of pairs, reward model and training, longer, after [Gao et al. 2022](https://arxiv.org/abs/2210.10760), whose truth was a large reward model.

# %%
import json

from postlab.profile import data_dir

recorded = json.loads((data_dir() / "results" / "week04" / "preferences.json").read_text())
pd.Series(recorded["provenance"], name="recorded").to_frame()

# %% [markdown]
# **Predict first.** Without any penalty, $\beta = 0$: what does the proxy do as the policy walks away from its start? And the truth?

# %%
from postlab.course.week04 import plot_overoptimisation

curves = pd.DataFrame(recorded["curves"])
plot_overoptimisation(curves[curves["method"] == "ppo"])

# %% [markdown]
# First both rise. Then, unless $\beta$ is large enough, the policy finds a place far from every pair that the linear head likes better than any honest reply: the score climbs on, the truth goes to
# nought. That is no failure of PPO: score minus $\beta$ KL *is* higher there. What it says:

# %%
samples = pd.DataFrame(recorded["samples"]).query("method == 'ppo' and beta == 0")
samples[["seed", "prompt", "answer", "proxy", "gold"]].round(1)

# %% [markdown]
# ## 5. DPO, derived
#
# Take a world where nothing has to be sampled: one prompt, replies of two letters, a reward for each of the nine, a reference. Every expectation is a sum of nine terms. (A `TableLM`
# is a causal model with a table for a network: for two letters it can be *any* policy.)

# %% tags=["shared"]
from postlab.scratch.losses import token_logps


def reply_logps(model, rollouts):
    """Log-prob of each whole reply, (B,) nats."""
    logits, _ = completion_states(model, rollouts)
    return (token_logps(logits, rollouts.completions) * rollouts.mask).sum(dim=1)


# %%
# NBVAL_CHECK_OUTPUT
from postlab.scratch.sampling import TableLM

replies = [first + second for first in "abc" for second in "abc"]
everything = pack([[3]] * 9, [["abc".index(letter) for letter in reply] for reply in replies])
start = TableLM(3)
after_a, after_b, after_c = [0.0, 0.6, -0.6], [0.9, 0.0, -0.9], [-0.5, 0.5, 0.0]
start.table.weight.data = torch.tensor([after_a, after_b, after_c, [0.3, 0.3, -0.3]])
r, beta = torch.tensor([0.1, 0.9, 0.3, 0.5, 0.0, 0.7, 0.2, 0.4, 1.0]), 0.3
ref = reply_logps(start, everything).exp().detach()
pd.DataFrame({"reward": r, "ref": ref}, index=replies).T.round(2)

# %% [markdown]
# **Step 1: the objective.**
#
# $$J(\pi) = \sum_y \pi(y)\, r(y) - \beta \sum_y \pi(y) \log \frac{\pi(y)}{\pi_\text{ref}(y)}$$


# %%
def objective(pi):
    return (pi * r).sum(-1) - beta * (pi * (pi / ref).log()).sum(-1)


# %% [markdown]
# The best reply is `cc`. Is the best policy the one that always says `cc`?
#
# **Step 2: the optimum.** Set the derivative to nought, with a multiplier for $\sum_y \pi(y) = 1$: then $r - \beta \log \frac{\pi}{\pi_\text{ref}}$ is the same for all replies, so
#
# $$\pi^*(y) = \frac{1}{Z}\, \pi_\text{ref}(y)\, e^{r(y)/\beta}$$

# %%
# NBVAL_CHECK_OUTPUT
optimum = (ref.log() + r / beta).softmax(-1)
always_cc = torch.tensor([1e-12] * 8 + [1.0])
policies = {"ref": ref, "always cc": always_cc, "optimum": optimum}
{name: round(objective(pi).item(), 3) for name, pi in policies.items()}

# %% [markdown]
# Is there no better one? With the constant, $\beta \log Z$, put in, $J$ collapses to
#
# $$J(\pi) = \beta \log Z - \beta\, \mathrm{KL}(\pi \,\|\, \pi^*)$$
#
# A KL is never negative, and 0 only at $\pi^*$: that is the proof. Here it is on 10,000 random policies.

# %%
# NBVAL_CHECK_OUTPUT
Z = (ref * (r / beta).exp()).sum()
pi = torch.randn(10_000, 9, generator=torch.Generator().manual_seed(0)).mul(3).softmax(-1)
gap = objective(pi) - beta * (Z.log() - (pi * (pi / optimum).log()).sum(-1))
bool(gap.abs().max() < 1e-5), bool(objective(pi).max() < beta * Z.log())

# %% [markdown]
# For a language model $Z$ sums over every possible reply: nobody can compute it, and PPO climbs by samples instead.
#
# **Step 3: turn it round.** A policy *is* a reward, up to a constant:
#
# $$r(y) = \hat r(y) + \beta \log Z, \qquad \hat r(y) = \beta \log \frac{\pi^*(y)}{\pi_\text{ref}(y)}$$

# %%
# NBVAL_CHECK_OUTPUT
implicit = beta * (optimum / ref).log()
bool(torch.allclose(implicit + beta * Z.log(), r, atol=1e-5))

# %% [markdown]
# **Step 4: into Bradley-Terry.** There only differences count, and $\beta \log Z$ stands in both rewards. It drops out:
#
# $$P(y_c \succ y_r) = \sigma(r_c - r_r) = \sigma(\hat r_c - \hat r_r)$$

# %%
# NBVAL_CHECK_OUTPUT
by_reward = torch.sigmoid(r[:, None] - r[None, :])  # (9, 9): P(row beats column)
by_policy = torch.sigmoid(implicit[:, None] - implicit[None, :])
bool(torch.allclose(by_reward, by_policy, atol=1e-5))

# %% [markdown]
# **Step 5: learn it.** Write the trained $\pi_\theta$ for $\pi^*$ and take $-\log$ of that probability as a pair's loss. The reward model has become the policy itself.

# %% [markdown]
# ### Exercise 4.4 · about 10 minutes · easy
#
# The loss of each pair, `(B,)`, from the log-probs of whole replies. They come by name: four tensors in the wrong order would run in silence.
#
# <details><summary>Hint</summary>
#
# It is `bradley_terry_loss` of two implicit rewards, and the log of a ratio is a difference of logs.
#
# </details>


# %%
def dpo_loss(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
    raise NotImplementedError


dpo_loss = check.dpo_loss(dpo_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def dpo_loss(*, policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta=0.1):
#     chosen_reward = beta * (policy_chosen - ref_chosen)
#     rejected_reward = beta * (policy_rejected - ref_rejected)
#     return -F.logsigmoid(chosen_reward - rejected_reward)
# ```
#
# </details>

# %% [markdown]
# **Step 6: the gradient.**
#
# $$\nabla \mathcal{L} = -\beta\, \sigma(\hat r_r - \hat r_c)\, [\nabla \log \pi_\theta(y_c) - \nabla \log \pi_\theta(y_r)]$$
#
# One up, one down, by how wrong the implicit reward still is. For three pairs, by autograd and by the formula:

# %%
# NBVAL_CHECK_OUTPUT
policy_chosen = torch.full((3,), -5.0, requires_grad=True)
ref_chosen, five = torch.tensor([-5.0, -9.0, -1.0]), torch.full((3,), -5.0)
old = {"policy_rejected": five, "ref_chosen": ref_chosen, "ref_rejected": five}
dpo_loss(policy_chosen=policy_chosen, **old, beta=0.5).sum().backward()
formula = -0.5 * torch.sigmoid(-0.5 * (five - ref_chosen))
pd.DataFrame({"autograd": policy_chosen.grad, "formula": formula}).round(3)

# %% [markdown]
# A pair ranked well (the second) hardly pulls, one ranked wrongly (the third) pulls with nearly all of $\beta$. Note what is *not* there: a third reply, a sample, a value.

# %% [markdown]
# ## 6. The same optimum
#
# DPO sees no reward, only how often a Bradley-Terry judge prefers which of two replies, for all 72 ordered pairs.


# %%
def by_dpo(pairs, steps=400, lr=0.05):
    """DPO on (winner, loser) pairs, each weighted by how often the judge prefers so."""
    policy, (won, lost) = copy.deepcopy(start), torch.tensor(pairs).T
    optimizer = torch.optim.Adam(policy.parameters(), lr=lr)
    old = {"ref_chosen": ref.log()[won], "ref_rejected": ref.log()[lost], "beta": beta}
    for _ in range(steps):
        now = reply_logps(policy, everything)
        loss = dpo_loss(policy_chosen=now[won], policy_rejected=now[lost], **old)
        optimizer.zero_grad()
        (by_reward[won, lost] * loss).mean().backward()
        optimizer.step()
    return reply_logps(policy, everything).exp().detach()


pairs = [(won, lost) for won in range(9) for lost in range(9) if won != lost]
by_preferences = by_dpo(pairs)

# %% [markdown]
# PPO sees only the rewards of what it samples. It runs the loop of section 3 as it stands.


# %%
def nine(batch):
    """The reward of each sampled reply."""
    return r[batch.completions @ torch.tensor([3, 1])]


sampler, table = copy.deepcopy(start), ppo.ValueHead(4)
how = {"steps": 100, "lr": 0.08, "value_lr": 0.05, "batch_size": 256, "max_new_tokens": 2}
ppo.train(sampler, [[3]], nine, ref=start, value_head=table, eos=None, beta=beta, **how)
by_samples = reply_logps(sampler, everything).exp().detach()

# %% [markdown]
# **Predict first.** How close does each come to the closed form of step 2?

# %%
from postlab.course.week04 import plot_bandit


def away(pi):
    """Total variation from the optimum: the probability that would have to be moved."""
    return 0.5 * (pi - optimum).abs().sum().item()


found = {"ref": ref, "optimum": optimum, "ppo": by_samples, "dpo": by_preferences}
title = f"From {away(ref):.2f} off, PPO ends {away(by_samples):.4f} and DPO {away(by_preferences):.4f} off the optimum"
plot_bandit(pd.DataFrame(found, index=replies), title)

# %%
# NBVAL_CHECK_OUTPUT
kls = [(pi * (pi / optimum).log()).sum().item() for pi in (by_samples, by_preferences)]
[away(pi) < 0.01 for pi in (by_samples, by_preferences)], [kl < 1e-3 for kl in kls]

# %% [markdown]
# Two roads, one optimum. Now the theorem's small print: *every* pair was compared, in the right proportions, and the policy could be anything. Take a piece away: nobody ever compared `cc`.

# %%
cc = replies.index("cc")
part = {"ref": ref, "optimum": optimum, "dpo": by_dpo([pair for pair in pairs if cc not in pair])}
title = f"cc was in no pair: the optimum gives it {optimum[cc]:.0%}, DPO {part['dpo'][cc]:.0%}"
plot_bandit(pd.DataFrame(part, index=replies), title)

# %% [markdown]
# Nothing in the loss holds `cc`: neither its reward, which no pair tells, nor the KL, which DPO never computes. A reward model fitted to these pairs has no idea of `cc` either. But RLHF samples: it
# *meets* `cc`, pays KL for it, and whoever asks a labeller or a verifier then learns the truth.

# %% [markdown]
# > **The roadmap says** DPO matches RLHF: same optimum. **The evidence says** the same where the preferences reach, for a policy without limits. Beyond, chosen replies can become
# > *less* likely ([Yang 2025](https://arxiv.org/abs/2502.07599)), length gets in ([Liu 2024](https://arxiv.org/abs/2409.06411)), and tuned PPO came out ahead in
# > [two](https://arxiv.org/abs/2404.10719) [comparisons](https://arxiv.org/abs/2406.09279).

# %% [markdown]
# ## 7. The same preferences on tinyworld
#
# DPO on the pairs that made the reward model, at the same learning rate.


# %% tags=["shared"]
def train_dpo(policy, rows, *, beta, steps, lr=2e-4, batch_size=16, seed=0, watch=None):
    """DPO from `sft` on preference rows; `watch(step)` is called after each step."""
    chosen, rejected = both_sides(rows)
    with torch.no_grad():
        ref_chosen, ref_rejected = reply_logps(sft, chosen), reply_logps(sft, rejected)
    optimizer = torch.optim.Adam(policy.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    draw = torch.Generator().manual_seed(seed)
    for step in range(1, steps + 1):
        index = torch.randperm(len(rows), generator=draw)[:batch_size]
        loss = dpo_loss(
            policy_chosen=reply_logps(policy, chosen.rows(index)),
            policy_rejected=reply_logps(policy, rejected.rows(index)),
            ref_chosen=ref_chosen[index],
            ref_rejected=ref_rejected[index],
            beta=beta,
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if watch:
            watch(step)
    return policy


# %%
began = time.perf_counter()
direct = train_dpo(learner(sft), rows, beta=0.1, steps=50, seed=lab.seed)
dpo_seconds = time.perf_counter() - began
straight = measure(direct, reward, n=60)

# %% [markdown]
# One run each is no contest, but it can show *how* each moves. Of held-out pairs we know what a policy gives the chosen reply and the rejected one. The rest goes to replies in neither column.
#
# **Predict first.** DPO pushes the rejected reply down. Where does its probability go?


# %% tags=["shared"]
@torch.no_grad()
def support(model, rows):
    """Mean probability of the chosen and of the rejected reply, by family."""
    given = pd.DataFrame({"metric": [METRICS[row["family"]] for row in rows]})
    for name, side in zip(("chosen", "rejected"), both_sides(rows), strict=True):
        given[name] = reply_logps(model, side).exp().tolist()
    return given.groupby("metric").mean().reset_index()


# %%
from postlab.course.week04 import plot_support

models = {"sft": sft, "ppo": policy, "dpo": direct}
given = pd.concat([support(model, held_out[:150]).assign(method=m) for m, model in models.items()])
other = 1 - given.groupby("method", sort=False)[["chosen", "rejected"]].mean().sum(axis=1)
shares = ", ".join(f"{share:.0%} ({method.upper()})" for method, share in other.items())
plot_support(given, f"To replies in neither column goes {shares}")

# %% [markdown]
# DPO ends the rejected replies most thoroughly, and yet the chosen ones need not gain what those lose: the loss is content when the *difference* grows. Read where it went:

# %%
strange = straight[straight["family"] == "unsafe"].sort_values("kl", ascending=False)
strange[["prompt", "answer", "gold"]].head(5)

# %% [markdown]
# PPO is scored on what it says; its blind spot is the other one, the reward model's faults. Week 5 mends DPO's with a likelihood term on the chosen replies. All recorded runs together:

# %%
from postlab.course.week04 import plot_frontier

ended = curves[curves["step"] == curves["step"].max()].groupby(["method", "beta"])["gold"].mean()
shares = ", ".join(f"{m.upper()} {b:g} {share:.0%}" for (m, b), share in ended.items())
plot_frontier(curves, f"Right at the end: {shares}")

# %% [markdown]
# Runs that left their reward model's ground ended at nought, one seed even at $\beta = 1$; PPO's best moments come close to DPO's end, but only the oracle knows when they were. DPO hears no
# applause for what it makes up, and did not run so far; its reward is the whole network, PPO's 161 weights. With a reward that is right everywhere, a verifier, the balance is another: week 7.

# %% [markdown]
# ## 8. Which one, and at what cost
#
# The bill of the two runs above, on this machine, and what one PPO step spends its time on:

# %%
bill = {
    "labelled pairs": [len(rows), len(rows)],
    "replies sampled": [len(log) * settings["batch_size"], 0],
    "models held": ["policy, critic, reference, reward model", "policy, reference"],
    "seconds": [round(ppo_seconds), round(dpo_seconds)],
}
pd.DataFrame(bill, index=["PPO", "DPO"]).T

# %%
marks = [time.perf_counter()]
batch = sample(policy, prompts[:48], eos=END, max_new_tokens=40)
marks.append(time.perf_counter())
scores = reward(batch)
marks.append(time.perf_counter())
still = torch.optim.SGD([{"params": list(m.parameters())} for m in (policy, critic)], lr=0.0)
ppo.ppo_step(policy, batch, scores, ref=sft, value_head=critic, optimizer=still, beta=1.0)
marks.append(time.perf_counter())
spent = [round(end - begin, 2) for begin, end in zip(marks, marks[1:], strict=False)]
dict(zip(("sample, s", "score, s", "learn, s"), spent, strict=True))

# %% [markdown]
# With replies of a thousand tokens, sampling takes most of it. Memory by arithmetic: 16 bytes a trained parameter (bf16 weights and gradients, fp32 master weights, Adam's two moments), 2 a
# frozen one.

# %%
# NBVAL_CHECK_OUTPUT
trained, frozen, billions = 16, 2, 7
ppo_gb = billions * (2 * trained + 2 * frozen)  # policy and critic; reference and reward model
dpo_gb = billions * (trained + frozen)  # policy; reference
{"PPO": f"{ppo_gb} GB", "DPO": f"{dpo_gb} GB", "for": "a 7B, before activations"}

# %% [markdown]
# With LoRA most of that goes: only adapters are trained, and the reference is the policy with its adapter off.
#
# | choose | when |
# |---|---|
# | DPO, in rounds | you have pairs, best of your own model's replies; taste, tone, safety; a small team |
# | PPO or GRPO with a reward model | prompts are plenty; you can watch KL and samples, and renew a worn-out reward model |
# | RL with a verifier | answers can be checked: mathematics, code, formats |

# %% [markdown]
# **How the large labs combine them,** by their own papers:
#
# | | recipe |
# |---|---|
# | InstructGPT | SFT, reward model, PPO with KL; a pretraining term against losses on public benchmarks |
# | [Llama 3](https://arxiv.org/abs/2407.21783) | six rounds of reward model, rejection sampling, SFT, DPO on fresh pairs; DPO cost less than PPO and did better; an NLL term on chosen replies |
# | [Tülu 3](https://arxiv.org/abs/2411.15124) | SFT, length-normalised DPO with on-policy pairs, PPO against verifiers (RLVR) |
# | [DeepSeek-R1](https://arxiv.org/abs/2501.12948) | GRPO with rules, no neural reward for reasoning (hacking); SFT on its best samples; RL again, reward models for helpfulness and harmlessness |
# | [Qwen3](https://arxiv.org/abs/2505.09388) | long-reasoning SFT, GRPO with verifiers, SFT to join thinking and not thinking, general RL; small models distilled |
#
# Pairs where taste judges, on-policy reward where answers can be checked, SFT on the best samples as the glue.

# %% [markdown]
# ## What you have now
#
# A reward model whose faults you know, a PPO loop you can read, a loss you derived, and a picture of each way to fail. Week 5 trains DPO with TRL.

# %% [markdown]
# ### Five interview questions
#
# **1.** Derive DPO. Where does the partition function go, and what would keep it?
#
# <details><summary>Answer</summary>
#
# $\pi^* \propto \pi_\text{ref} e^{r/\beta}$; solve for $r$; in Bradley-Terry $\beta \log Z(x)$ cancels, as both replies share the prompt. It stays for replies to *different* prompts and for
# single ratings (hence KTO's reference point).
#
# </details>
#
# **2.** Chosen and rejected log-probs both fall while DPO's margins rise. A bug?
#
# <details><summary>Answer</summary>
#
# Not by itself: only the difference is in the loss. Margins must be 0 at step 0, else the reference is not the start. Then look where the mass went: samples, KL. Remedies: a likelihood term,
# larger $\beta$, smaller rate, pairs nearer to the policy.
#
# </details>
#
# **3.** $\log \pi - \log \pi_\text{ref}$ works as a reward. Why not as a loss?
#
# <details><summary>Answer</summary>
#
# As a reward it is a number that weighs the score function. Differentiated itself, its expectation is $\mathbb{E}_\pi[\nabla \log \pi] = 0$: no pull.
#
# </details>
#
# **4.** System design: 50,000 pairs a month from your product, eight GPUs, a 7B. What do you run and watch?
#
# <details><summary>Answer</summary>
#
# Monthly DPO with LoRA on pairs of the current policy; a reward model to filter, not as only judge; GRPO where answers can be verified. Watch held-out accuracy, KL, length, needless refusals, blind
# votes against last month.
#
# </details>
#
# **5.** Research taste: a paper beats PPO and DPO. What do you look for first?
#
# <details><summary>Answer</summary>
#
# Equal tuning; KL frontiers, not points; who saw fresh samples; seeds; a judge that is not the reward model, length controlled. A gain that vanishes at equal KL is a step size.
#
# </details>

# %% [markdown]
# **Papers.** Christiano 2017: section 2.2, the fit. Ouyang 2022: section 3.5. Rafailov 2023, *DPO* ([2305.18290](https://arxiv.org/abs/2305.18290)): sections 4 and 5. Schulman 2017, *PPO*
# ([1707.06347](https://arxiv.org/abs/1707.06347)): section 3. Gao 2022: figure 1. Xu 2024: section 4, replies outside the data.
