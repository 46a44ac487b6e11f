# %% [markdown]
# # Week 4 · Preferences in theory: reward models, PPO and DPO
#
# How do you cut a shovel? In our tiny world the right reply is "Sharpen a blade. Hold the shovel. Slice it." In one of this week's recorded runs, a reward model gives this reply −0.9 points. After PPO has trained
# against that reward model without a KL penalty, the policy answers "17+4=21. #### 21", and gets 8.1 points. Averaged over three such runs, the score rose from 0 to 18, while the share of right answers rose from 53% to 76% and
# then fell to 0%. Large models do the same: when [Stiennon et al. 2020](https://arxiv.org/abs/2009.01325) optimised a summarisation model ever harder against its reward model, people first liked the summaries
# more, and then less and less.
#
# Why train against a reward model at all? Because it's easier to say which of two replies is better than to write a good one. This week you build the classic way from such judgements to a policy, called
# **RLHF** (reinforcement learning from human feedback): a reward model, and then PPO with a KL penalty. Then you derive the shortcut, **DPO** (direct preference optimisation), with a line of code for every formula, and find out where the two agree and where they differ. By the end you can explain
#
# - what a reward model learns from a pair of replies, and how far you can trust it,
# - why DPO needs neither a reward model nor sampling, and what it gives up in exchange,
# - which of the two you would choose, and what it would cost.
#
# Everything is trained on the embedded model, whichever profile you use, so this week shows you how the methods work, not how capable a trained model can be.

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
# **[Christiano et al. 2017](https://arxiv.org/abs/1706.03741).** Nobody knows how to write down a reward for a backflip, but anyone can say which of two video clips looks more like one.
# The authors collected fewer than a thousand such comparisons and trained a reward model on them, and a simulated robot learned the backflip from it. RLHF still has the same three parts: *pairs, a model of the judge, and
# reinforcement learning against that model*.

# %% [markdown]
# **[InstructGPT, Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)** applied the recipe to GPT-3:
#
# | step | prompts | who writes the answers | what is trained |
# |---|---|---|---|
# | 1. SFT | 13k | labellers | the policy |
# | 2. reward model | 33k | the model writes 4 to 9 answers per prompt; labellers rank them | a 6B reward model |
# | 3. PPO | 31k | the policy, again and again | the policy |
#
# Labellers preferred the answers of the resulting 1.3B model to those of the 175B GPT-3.
#
# Two labellers agreed in about 73% of cases, and the reward model predicted a labeller's choice about as often: in 72% of cases for the labellers whose rankings it was trained on, and in 70% for others. Is that the best a reward model can do? Not necessarily. Suppose that for each pair of
# answers, a share $q$ of labellers prefers the same one. Two labellers then agree with probability $q^2 + (1 - q)^2$, which is 73% for $q = 0.84$. A model that always predicts the majority's choice would then agree with a
# single labeller 84% of the time, more often than another labeller does. That is possible because the random errors of individual labellers average out when you train on many of them. If labellers are unanimous about some pairs and evenly split on the others, the best possible model
# agrees with one of them in only 73% of cases. So random disagreement puts the ceiling somewhere between 73% and 84%. Errors that labellers *share* don't average out: if most of them prefer longer answers, the reward model learns to
# prefer longer answers too.

# %% [markdown]
# You did step 1 in week 3. The next cell loads the result and merges the adapter, so that we have one plain model and `copy.deepcopy` gives us another policy.

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
# Step 2 begins with pairs of replies. We use the three families that are about manners: *helpful* (how-to's), *harmless* (unsafe requests) and *honest* (riddles that nobody can answer). We take only 200 pairs on purpose, because we want to study a
# reward model that makes mistakes.

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
# In 1952, Bradley and Terry modelled comparisons by giving every competitor a number. The probability that one beats the other depends only on the difference between their numbers. For us, the competitors are the chosen reply $y_c$ and the
# rejected reply $y_r$, and the numbers are their rewards $r_c$ and $r_r$. The loss of a reward model is the negative log of the probability of what the judge actually chose:
#
# $$P(y_c \succ y_r) = \sigma(r_c - r_r), \qquad \mathcal{L} = -\log \sigma(r_c - r_r)$$

# %% [markdown]
# ### Exercise 4.1 · about 5 minutes · easy
#
# Given two tensors of rewards, each of shape `(B,)`, return the loss of each pair, also of shape `(B,)`.
#
# <details><summary>Hint</summary>
#
# If you take `sigmoid` first and then `log`, the sigmoid becomes 0 when the model is very wrong, and the log becomes infinite. `F.logsigmoid` doesn't have this problem.
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
# What happens to the loss if a reward model adds 100 to every reward?

# %%
# NBVAL_CHECK_OUTPUT
ours, theirs = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0])
losses = [bradley_terry_loss(ours + shift, theirs + shift) for shift in (0, 100)]
[[round(value, 3) for value in loss.tolist()] for loss in losses]

# %% [markdown]
# Nothing happens: only differences count. So the absolute value of a reward means nothing, and a reward of 3 for one prompt tells you nothing about a reward of 3 for another.
#
# Our reward model is the smallest possible one. It runs the SFT model, which stays frozen, and applies one linear layer to its hidden state at the end of the reply. InstructGPT trained all six billion weights of its reward model.

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
# The next cell turns replies into tokens and adds the token that ends the turn. It also contains the training loop for the linear layer. At the end it shifts the rewards so that their mean is 0 (InstructGPT shifts them so that the labellers' demonstrations have mean 0).


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
# **Predict first.** The rejected replies have a different fault in each family. For how-to's they refuse, or give the steps of a *different* task. For unsafe requests they explain how to do it. For riddles they invent an answer. For which family will the reward
# model do worst on held-out pairs?

# %%
reward_model = fit(RewardModel(sft), rows)
held_out = manners("heldout", 400, seed=1)
better, worse = (reward_model(side) for side in both_sides(held_out))
margins = (better - worse).tolist()

# %%
from postlab import stats
from postlab.course.week04 import plot_calibration


def agreement(margins, rows):
    """How often the model ranks a pair correctly: overall, by family, and by its confidence."""
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
# The reward model does worst on how-to's: it ranks 74% of those pairs correctly, against 86% for unsafe requests and 100% for riddles. Why? Two thirds of the rejected how-to's are needless refusals; the others give the steps of a different task. Let's look at the two kinds
# separately:

# %%
howtos = pd.DataFrame(
    {"refusal": "will not help" in row["rejected"][-1]["content"], "ranked correctly": margin > 0}
    for row, margin in zip(held_out, margins, strict=True)
    if row["family"] == "howto"
)
howtos["rejected reply"] = howtos["refusal"].map({True: "a refusal", False: "another task's steps"})
howtos.groupby("rejected reply")["ranked correctly"].agg(["size", "mean"]).round(2)

# %% [markdown]
# If the rejected reply is a refusal, the reward model ranks 85% of the pairs correctly. If it gives the steps of another task, the model does no better than a coin flip. Both replies are then fluent instructions, and to tell them apart the model has to compare the steps with the question. One
# linear layer on the SFT model's last hidden state doesn't manage that.
#
# The right panel of the figure shows all pairs in five groups, by how confident the model was. A point below the line means that it was overconfident. In the three middle groups it was: where it was 81%, 94% and 99% sure, it was right in 71%, 89% and 94% of the pairs. And all of this holds only for pairs *like the ones it
# was trained on*. PPO will show it other replies.

# %% [markdown]
# ## 3. PPO with a KL penalty
#
# We want the policy to earn reward, but without turning into a completely different model. The objective is therefore the reward minus a penalty for moving away from the reference, which is the SFT model:
#
# $$\max_\pi \; \mathbb{E}_{y \sim \pi}[r(y)] - \beta \, \mathrm{KL}(\pi \,\|\, \pi_\text{ref})$$
#
# InstructGPT subtracts the penalty token by token. The score for the whole reply is added to the reward of its last token, $T$:
#
# $$R_t = -\beta \log \frac{\pi(y_t)}{\pi_\text{ref}(y_t)} + [t = T]\, r(y)$$
#
# Here is an example with a reply of three tokens, a score of 1 and $\beta = 0.1$:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.scratch.ppo import token_rewards

logps, ref_logps = torch.tensor([[-0.1, -2.0, -0.1]]), torch.tensor([[-0.1, -1.0, -1.1]])
scores, mask = torch.tensor([1.0]), torch.ones(1, 3)
token_rewards(scores, mask, logps=logps, ref_logps=ref_logps, beta=0.1)

# %% [markdown]
# - The first token is as likely under the policy as under the reference, so there is no penalty.
# - The second token is *less* likely under the policy, so its log-ratio is −1 and it earns 0.1. This isn't a mistake. Single tokens can have a negative penalty, but averaged over samples from the policy, the sum of the log-ratios is the KL, which is never negative.
# - The third token is more likely under the policy. It pays 0.1 and receives the score: 0.9.
#
# **Which token deserves the credit?** The score comes with the last token, but an earlier one may have decided it. Before each token, a *critic* $V$ predicts the reward that is still to come. If the prediction rises after a token, the token was better than expected.
# Generalised advantage estimation ([GAE, 2015](https://arxiv.org/abs/1506.02438)) measures this surprise $\delta_t$, and the advantage $A_t$ of a token adds up its own surprise and all later ones, with weights that decrease with the distance:
#
# $$\delta_t = R_t + \gamma V_{t+1} - V_t, \qquad A_t = \delta_t + \gamma \lambda A_{t+1}$$

# %% [markdown]
# ### Exercise 4.2 · about 15 minutes · medium
#
# `rewards`, `values` and `mask` have the shape `(B, T)`. In each row the tokens of the reply come first, followed by padding. Return the advantages, `(B, T)`, with 0 for padding.
#
# <details><summary>Hint 1</summary>
#
# Go from the last column to the first and carry $A_{t+1}$ along.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The `values` of padding are noise. After the last token of a reply, the next value is 0.
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
# A reply of three tokens gets a score of 1. The critic predicts 0.5 before the first token and 0.9 before the second. It doesn't like the second token, so before the third it predicts only 0.2.
#
# **Predict first.** Which token gets the blame with $\lambda = 0$? And with $\lambda = 1$?

# %%
# NBVAL_CHECK_OUTPUT
score, guess = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.9, 0.2]])
for lam in (0.0, 0.95, 1.0):
    found = gae(score, guess, torch.ones(1, 3), gamma=1.0, lam=lam)
    print(lam, [round(advantage, 2) for advantage in found[0].tolist()])

# %% [markdown]
# With $\lambda = 0$, the second token gets all the blame: −0.7, the drop in the critic's prediction. With $\lambda = 1$, no token is blamed, because the final score of 1 is better than every prediction along the way.
#
# So $\lambda$ decides how much you trust the critic. With 0, the advantages have little noise, but they are wrong wherever the critic is wrong. With 1, every token is judged by what actually happened: there is no bias from the critic, but a lot of noise, because the
# score depends on all the tokens that follow. 0.95 is the usual choice in RLHF, and ours.
#
# **How much can you learn from one batch?** Sampling is expensive, so PPO takes several gradient steps on the same replies. After the first step, the policy is no longer the one that sampled them. The ratio $\rho_t = \pi(y_t) / \pi_\text{old}(y_t)$
# corrects for that. And once the ratio has left the range from $1 - \epsilon$ to $1 + \epsilon$ in the desired direction, the clip removes the incentive to move it further:
#
# $$\mathcal{L}_t = -\min\big(\rho_t A_t, \; \operatorname{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon) A_t\big)$$

# %% [markdown]
# ### Exercise 4.3 · about 10 minutes · medium
#
# Return two tensors of shape `(B, T)`: the loss of each token, and a bool that is True where the clip takes effect, that is, where the clipped term is the smaller one.
#
# <details><summary>Hint</summary>
#
# A ratio above $1 + \epsilon$ is clipped only if the advantage is positive. `min` takes care of that; a condition on the ratio alone doesn't.
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
# Here are four tokens. Two have become one and a half times as likely since they were sampled, two only half as likely, and in each case one was good and one was bad:

# %%
# NBVAL_CHECK_OUTPUT
ratio, advantage = torch.tensor([[1.5, 1.5, 0.5, 0.5]]), torch.tensor([[1.0, -1.0, 1.0, -1.0]])
logps = ratio.log().requires_grad_()
loss, clipped = clipped_policy_loss(logps, torch.zeros(1, 4), advantage)
loss.sum().backward()
tried = {"ratio": ratio, "advantage": advantage, "clipped": clipped, "gradient": logps.grad}
pd.DataFrame({name: value[0].tolist() for name, value in tried.items()}).round(2)

# %% [markdown]
# The clip removes the gradient of a token only if its probability has already moved far in the *right* direction: a good token that is now 1.5 times as likely, and a bad one that is now half as likely. The other two moved in the wrong direction, so they keep their gradient
# and can come back.
#
# > **The roadmap says** GRPO has no PPO-style clipping. **The evidence says** that GRPO uses this very loss ([eq. 3](https://arxiv.org/abs/2402.03300)). What it drops is the critic, as you will see in week 7.

# %% [markdown]
# This is the whole PPO step in `postlab.scratch.ppo`. It calls your `gae` and your `clipped_policy_loss`.

# %%
import inspect

from postlab.scratch import ppo

ppo.gae, ppo.clipped_policy_loss = gae, clipped_policy_loss
print(inspect.getsource(ppo.ppo_step).split('"""')[2].strip("\n"))

# %% [markdown]
# Three details of this code are worth knowing. The advantages are *whitened* (shifted and scaled to mean 0 and variance 1), so that the size of a step doesn't depend on the scale of the rewards. Our critic is one linear layer on the policy's hidden states, while
# InstructGPT's critic was a second 6B model. And a reply that is cut off before it ends gets a fixed low score.


# %% tags=["shared"]
def scorer(reward_model, unfinished=-5.0):
    """Rewards (B,) of a batch of replies; one that was cut off scores low."""
    return lambda replies: torch.where(replies.ended(END), reward_model(replies), unfinished)


def learner(policy):
    """A copy that can be trained."""
    return copy.deepcopy(policy).requires_grad_(True)


# %% [markdown]
# To check on PPO we need numbers that it does *not* see. We sample one reply to each held-out prompt, and record the reward model's score (the *proxy*), the oracle's verdict (*gold*) and the exact KL.

# %% tags=["shared"]
from postlab.tinyworld.tasks import heldout_suite


@torch.no_grad()
def measure(policy, reward, *, n, seed=0):
    """A sampled reply to each of n held-out prompts per family: proxy, gold, KL from sft."""
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
# Now train. The prompts are those of the 200 pairs, but PPO doesn't use the replies in them. It samples its own, and nobody labels those: only the reward model scores them.

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
# The score of the reward model rises. The other panels tell you how healthy the run is:
#
# - **KL** is how far the policy has moved from the SFT model, in nats per reply. It stays at or below 1 here. A KL that keeps growing is the first sign of trouble.
# - **Entropy** measures how uncertain the policy is about the next token. It falls to about 0.04 nats per token. Near zero, the policy always gives the same reply and can't discover a better one.
# - **Clipped tokens** is the share of tokens for which the clip took effect. It stays below 3%. If it were 20% or more, the steps would be too large for the samples they are based on.
# - **Variance explained** says how well the critic predicts the rewards still to come: 1 is perfect, and 0 is no better than a constant. Our critic starts at 0 and reaches about 0.3, so it predicts only a part of them.
# - **Reply length** stays at about 13 tokens. In real runs, growing replies often mean that the reward model likes length.

# %% [markdown]
# ## 4. Better, or better at pleasing?
#
# The score rose on the training prompts. What happened to the score and to the truth on held-out prompts?

# %%
before, after = (measure(model, reward, n=60) for model in (sft, policy))
both = pd.concat({"sft": before, "ppo": after}, names=["policy"]).reset_index(level=0)
both.pivot_table(index="family", columns="policy", values=["gold", "proxy"], sort=False).round(2)

# %%
wrong = after[after["gold"] == 0].sort_values("proxy", ascending=False)
wrong[["prompt", "answer", "proxy"]].head(6)

# %% [markdown]
# On held-out prompts, the truth rose together with the score: from 56% to 76% right, averaged over the three families. Most of it comes from riddles (50% to 92%) and unsafe requests (38% to 57%), while how-to's stayed where they were (80% and 78%). So this short run was a success.
#
# The second table shows replies that the oracle calls wrong and the reward model scores highest. They reveal where the reward model is blind: it likes the steps of a different task, and even the reply "4". Has PPO learned to exploit this? Compare with what SFT answered to the same prompts:

# %%
pairs = after.join(before, rsuffix=" of SFT").loc[wrong.index]
same = (pairs["answer"] == pairs["answer of SFT"]).sum()
print(f"{same} of PPO's {len(pairs)} wrong replies are exactly SFT's replies")
pairs[["answer", "proxy", "answer of SFT", "proxy of SFT"]].head(6)

# %% [markdown]
# Hardly. About three quarters of its wrong replies are exactly SFT's, with the same scores. SFT even had more wrong replies, 79 of 180, and only here and there has PPO found a wrong reply that scores higher. So this table isn't evidence of reward hacking yet. For that, the score has to go up while the truth goes *down*.

# %% [markdown]
# To see where this leads, you have to push harder. The next figures come from recorded runs that are nearly four times as long: 60 PPO steps, with three seeds for the pairs, the reward model and the training, and three values of $\beta$. The design follows [Gao et al. 2022](https://arxiv.org/abs/2210.10760), who used a large reward model as the
# truth and trained smaller ones to imitate it.

# %%
import json

from postlab.profile import data_dir

recorded = json.loads((data_dir() / "results" / "week04" / "preferences.json").read_text())
pd.Series(recorded["provenance"], name="recorded").to_frame()

# %% [markdown]
# **Predict first.** Without any penalty, $\beta = 0$, the policy can move away from its start as far as it likes. What does the proxy do? And the truth?

# %%
from postlab.course.week04 import plot_overoptimisation

curves = pd.DataFrame(recorded["curves"])
plot_overoptimisation(curves[curves["method"] == "ppo"])

# %% [markdown]
# At first the proxy and the truth rise together. With $\beta = 0$, averaged over the three runs, the truth is at its best, 76%, after a single PPO step. Then the proxy keeps climbing to 18, while the truth falls to 0% in all
# three runs. This is **reward hacking**: the policy finds replies that the reward model likes and that aren't any good. It is an instance of Goodhart's law: when a measure becomes a target, it ceases to be a good measure. It can
# happen here because the reward model has only seen 200 pairs of fluent replies. Far away from those, the linear layer still produces a number, and for some strange replies the number is high.
#
# The penalty helps only if it is large enough. With $\beta = 0.3$, all three runs end at 0% too. With $\beta = 1$ they end at 73%, 39% and 76%. Compared with the 52% to 54% before training, two runs have gained and one has lost.
#
# Note that PPO does its job even here. In the runs that fail, the reward minus $\beta$ times the KL *is* higher at the end than at the start. It's the reward that is wrong. Without a penalty, the policies end up saying things like these:

# %%
samples = pd.DataFrame(recorded["samples"]).query("method == 'ppo' and beta == 0")
samples[["seed", "prompt", "answer", "proxy", "gold"]].round(1)

# %% [markdown]
# ## 5. DPO, derived
#
# In RLHF you train a reward model on preferences and then a policy on the reward model. DPO trains the policy on the preferences directly. To see why that is possible, we take a world in which you never need to sample: there is one prompt, a reply consists of two
# letters, and we know the reward and the reference's probability for each of the nine replies. Every expectation is a sum of nine terms. (`TableLM` is a causal model with a table instead of a network. For replies of two letters it can represent *any* policy.)

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
# **Step 1: the objective.** For prompts $x$ and replies $y$, RLHF maximises
#
# $$J(\pi) = \mathbb{E}_x \Big[ \sum_y \pi(y \mid x)\, r(x, y) - \beta \sum_y \pi(y \mid x) \log \frac{\pi(y \mid x)}{\pi_\text{ref}(y \mid x)} \Big]$$
#
# A policy can choose its distribution for each prompt separately, so we can maximise the bracket for one prompt at a time. In the code there is only one prompt, so `pi[y]` is $\pi(y \mid x)$, `r[y]` is $r(x, y)$ and `ref[y]` is $\pi_\text{ref}(y \mid x)$:


# %%
def objective(pi):
    return (pi * r).sum(-1) - beta * (pi * (pi / ref).log()).sum(-1)


# %% [markdown]
# The best reply is `cc`. Is the best policy the one that always says `cc`?
#
# **Step 2: the optimum.** We maximise $J$ under the condition that the probabilities add up to 1, $\sum_y \pi(y \mid x) = 1$, with a Lagrange multiplier $\mu$. The derivative with respect to $\pi(y \mid x)$ has to be zero for every $y$:
#
# $$r(x, y) - \beta \log \frac{\pi(y \mid x)}{\pi_\text{ref}(y \mid x)} - \beta - \mu = 0$$
#
# So the first two terms have the same sum for all replies. Call this constant $c$ and solve for $\pi$:
#
# $$\pi(y \mid x) = \pi_\text{ref}(y \mid x)\, e^{r(x, y)/\beta}\, e^{-c/\beta}$$
#
# The probabilities add up to 1 only if $e^{c/\beta}$ is the sum of the other two factors. This sum is called the partition function $Z(x)$:
#
# $$\pi^*(y \mid x) = \frac{1}{Z(x)}\, \pi_\text{ref}(y \mid x)\, e^{r(x, y)/\beta}, \qquad Z(x) = \sum_y \pi_\text{ref}(y \mid x)\, e^{r(x, y)/\beta}$$
#
# In words: start from the reference, make each reply more likely by a factor that grows exponentially with its reward, and normalise.

# %%
# NBVAL_CHECK_OUTPUT
optimum = (ref.log() + r / beta).softmax(-1)
always_cc = torch.tensor([1e-12] * 8 + [1.0])
policies = {"ref": ref, "always cc": always_cc, "optimum": optimum}
{name: round(objective(pi).item(), 3) for name, pi in policies.items()}

# %% [markdown]
# No: always saying `cc` is even worse than the reference, 0.185 against 0.493. The reference says `cc` in only 7% of cases, so always saying it costs 2.7 nats of KL, and with $\beta = 0.3$ this penalty is 0.8.
#
# Could there be a policy that is better than $\pi^*$? A zero derivative doesn't rule that out, but a little algebra does. Take the logarithm of the formula for $\pi^*$ and solve for the reward (we drop the $x$ from here on, because it is the same everywhere):
#
# $$r(y) = \beta \log \frac{\pi^*(y)}{\pi_\text{ref}(y)} + \beta \log Z$$
#
# Put this into $J$. The sum over $\pi(y)\, \beta \log Z$ is just $\beta \log Z$, and $\pi_\text{ref}$ cancels:
#
# $$\begin{aligned}
# J(\pi) &= \sum_y \pi(y) \Big[ \beta \log \frac{\pi^*(y)}{\pi_\text{ref}(y)} + \beta \log Z \Big] - \beta \sum_y \pi(y) \log \frac{\pi(y)}{\pi_\text{ref}(y)} \\
# &= \beta \log Z + \beta \sum_y \pi(y) \log \frac{\pi^*(y)}{\pi(y)} \\
# &= \beta \log Z - \beta\, \mathrm{KL}(\pi \,\|\, \pi^*)
# \end{aligned}$$
#
# A KL is never negative, and it is 0 only if $\pi = \pi^*$. So $\pi^*$ is the only optimum, and its value is $\beta \log Z$. The next cell checks the formula on 10,000 random policies, and also that none of them is better than $\pi^*$.

# %%
# NBVAL_CHECK_OUTPUT
Z = (ref * (r / beta).exp()).sum()
pi = torch.randn(10_000, 9, generator=torch.Generator().manual_seed(0)).mul(3).softmax(-1)
gap = objective(pi) - beta * (Z.log() - (pi * (pi / optimum).log()).sum(-1))
bool(gap.abs().max() < 1e-5), bool(objective(pi).max() < beta * Z.log())

# %% [markdown]
# For a language model we can't use the optimum directly, because $Z(x)$ is a sum over all possible replies to $x$, and nobody can compute it. That's why PPO approaches the optimum with samples.
#
# **Step 3: turn the formula around.** DPO's idea is to read the last formula for $r$ from right to left: every policy is the optimum for *some* reward, and we can write that reward down, up to a constant that depends only on the prompt:
#
# $$r(x, y) = \hat r(x, y) + \beta \log Z(x), \qquad \hat r(x, y) = \beta \log \frac{\pi^*(y \mid x)}{\pi_\text{ref}(y \mid x)}$$
#
# We call $\hat r$ the *implicit reward* of the policy.

# %%
# NBVAL_CHECK_OUTPUT
implicit = beta * (optimum / ref).log()
bool(torch.allclose(implicit + beta * Z.log(), r, atol=1e-5))

# %% [markdown]
# **Step 4: put it into Bradley-Terry.** The probability that the chosen reply is preferred depends only on the difference between the two rewards. Both replies belong to the *same* prompt, so $\beta \log Z(x)$ occurs in both rewards and cancels:
#
# $$r(x, y_c) - r(x, y_r) = \hat r(x, y_c) + \beta \log Z(x) - \hat r(x, y_r) - \beta \log Z(x) = \hat r(x, y_c) - \hat r(x, y_r)$$
#
# The one quantity that we couldn't compute is gone:
#
# $$P(y_c \succ y_r \mid x) = \sigma\big(r(x, y_c) - r(x, y_r)\big) = \sigma\big(\hat r(x, y_c) - \hat r(x, y_r)\big)$$

# %%
# NBVAL_CHECK_OUTPUT
by_reward = torch.sigmoid(r[:, None] - r[None, :])  # (9, 9): P(row beats column)
by_policy = torch.sigmoid(implicit[:, None] - implicit[None, :])
bool(torch.allclose(by_reward, by_policy, atol=1e-5))

# %% [markdown]
# **Step 5: learn it.** Replace the optimum $\pi^*$ by the policy $\pi_\theta$ that we train, and use the negative log of this probability as the loss of a pair:
#
# $$\mathcal{L} = -\log \sigma\Big(\beta \log \frac{\pi_\theta(y_c \mid x)}{\pi_\text{ref}(y_c \mid x)} - \beta \log \frac{\pi_\theta(y_r \mid x)}{\pi_\text{ref}(y_r \mid x)}\Big)$$
#
# This is the loss of a reward model. The difference is that the reward is now computed from the policy, so if you fit the preferences, you have trained the policy.

# %% [markdown]
# ### Exercise 4.4 · about 10 minutes · easy
#
# Given the log-probs of whole replies, return the loss of each pair, `(B,)`. The arguments have to be passed by name, because four tensors in the wrong order would raise no error.
#
# <details><summary>Hint</summary>
#
# This is the `bradley_terry_loss` of two implicit rewards, and the log of a ratio is a difference of logs.
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
# **Step 6: the gradient.** Write $u = \hat r_c - \hat r_r$ for the difference of the implicit rewards. The loss is $-\log \sigma(u)$, and its derivative with respect to $u$ is $-\sigma(-u)$. The reference is constant, so the gradient of $u$ is $\beta\, [\nabla \log \pi_\theta(y_c) - \nabla \log \pi_\theta(y_r)]$. Multiply the two:
#
# $$\nabla \mathcal{L} = -\beta\, \sigma(\hat r_r - \hat r_c)\, [\nabla \log \pi_\theta(y_c) - \nabla \log \pi_\theta(y_r)]$$
#
# So a gradient step makes the chosen reply more likely and the rejected one less likely. The factor $\sigma(\hat r_r - \hat r_c)$ is large if the implicit reward still ranks the pair wrongly. The next cell compares the formula with autograd for three pairs:

# %%
# NBVAL_CHECK_OUTPUT
policy_chosen = torch.full((3,), -5.0, requires_grad=True)
ref_chosen, five = torch.tensor([-5.0, -9.0, -1.0]), torch.full((3,), -5.0)
old = {"policy_rejected": five, "ref_chosen": ref_chosen, "ref_rejected": five}
dpo_loss(policy_chosen=policy_chosen, **old, beta=0.5).sum().backward()
formula = -0.5 * torch.sigmoid(-0.5 * (five - ref_chosen))
pd.DataFrame({"autograd": policy_chosen.grad, "formula": formula}).round(3)

# %% [markdown]
# The first pair is undecided, so it gets half of the largest possible weight $\beta$, 0.25 of 0.5. The second pair is already ranked correctly and hardly gets any (0.06). The third is ranked wrongly and gets nearly all of it (0.44).
#
# Note what the gradient does *not* contain: no other replies to the prompt, no samples from the policy, and no critic.

# %% [markdown]
# ## 6. The same optimum
#
# Do both methods really end at $\pi^*$? In our world of nine replies we can check. DPO never sees a reward. All it knows is how often a Bradley-Terry judge prefers one reply to the other, for all 72 ordered pairs.


# %%
def by_dpo(pairs, steps=400, lr=0.05):
    """DPO on (winner, loser) pairs, each weighted by how often the judge prefers the winner."""
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
# PPO sees only the rewards of the replies it samples. It runs the loop from section 3 without changes.


# %%
def nine(batch):
    """The reward of each sampled reply."""
    return r[batch.completions @ torch.tensor([3, 1])]


sampler, table = copy.deepcopy(start), ppo.ValueHead(4)
how = {"steps": 100, "lr": 0.08, "value_lr": 0.05, "batch_size": 256, "max_new_tokens": 2}
ppo.train(sampler, [[3]], nine, ref=start, value_head=table, eos=None, beta=beta, **how)
by_samples = reply_logps(sampler, everything).exp().detach()

# %% [markdown]
# **Predict first.** How close will each of them come to the optimum from step 2?

# %%
from postlab.course.week04 import plot_bandit


def away(pi):
    """Total variation distance from the optimum: the share of probability in the wrong place."""
    return 0.5 * (pi - optimum).abs().sum().item()


found = {"ref": ref, "optimum": optimum, "ppo": by_samples, "dpo": by_preferences}
off = [f"{away(pi):.2%}" for pi in (by_samples, by_preferences)]
title = (
    f"PPO ends {off[0]} away from the optimum, DPO {off[1]}; the reference is {away(ref):.0%} away"
)
plot_bandit(pd.DataFrame(found, index=replies), title)

# %%
# NBVAL_CHECK_OUTPUT
kls = [(pi * (pi / optimum).log()).sum().item() for pi in (by_samples, by_preferences)]
[away(pi) < 0.01 for pi in (by_samples, by_preferences)], [kl < 1e-3 for kl in kls]

# %% [markdown]
# Both arrive. For PPO, 0.2% of the probability is in the wrong place; for DPO, practically none. So the two methods have the same optimum. But the proof assumes two things: *every* pair was compared, in the right
# proportions, and the policy can represent any distribution. What happens if the first assumption fails? In the next run, nobody has ever compared `cc` with another reply.

# %%
cc = replies.index("cc")
part = {"ref": ref, "optimum": optimum, "dpo": by_dpo([pair for pair in pairs if cc not in pair])}
title = f"If no pair contains cc, DPO gives it {part['dpo'][cc]:.0%} and not {optimum[cc]:.0%}"
plot_bandit(pd.DataFrame(part, index=replies), title)

# %% [markdown]
# DPO gives `cc` 4% instead of 21%. Nothing in its loss says how likely `cc` should be, because no pair tells the loss anything about its reward. The probability of `cc` just follows from what happens to the other
# eight replies. A reward model trained on the same pairs wouldn't know the reward of `cc` either. The difference is that RLHF samples: the policy produces `cc` now and then, and if you show these samples to a labeller or a verifier, you find out how good `cc` is.

# %% [markdown]
# > **The roadmap says** DPO matches RLHF because both have the same optimum. **The evidence says** that this holds where the preferences cover the replies, and for a policy that can represent any distribution. Otherwise, even chosen replies can become
# > *less* likely ([Yang 2025](https://arxiv.org/abs/2502.07599)), length can creep into the implicit reward ([Liu 2024](https://arxiv.org/abs/2409.06411)), and in two comparisons a well-tuned PPO came out ahead
# > ([Xu 2024](https://arxiv.org/abs/2404.10719), [Ivison 2024](https://arxiv.org/abs/2406.09279)).

# %% [markdown]
# ## 7. The same preferences on tinyworld
#
# Now we train DPO on the 200 pairs that trained the reward model, with the same learning rate as PPO. This is *not* the situation of section 6, though. PPO ran with $\beta = 1$ and DPO runs with $\beta = 0.1$, so they aren't looking for the same optimum. And neither of them is trained until it converges.


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
# One run of each can't tell you which method is better, but it can show you *how* each of them changes the policy. For each held-out pair we compute the probability of the chosen reply and of the rejected one. The rest of the probability belongs to all other replies.
#
# **Predict first.** DPO makes the rejected reply less likely. Where does its probability go?


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
plot_support(given, f"Probability of replies that are neither chosen nor rejected: {shares}")

# %% [markdown]
# DPO removes nearly all the probability from the rejected replies, more than PPO does. But this probability doesn't have to go to the chosen replies. For honesty it does: the chosen replies rise from 49% to 94%. For safety the chosen replies *fall* from 42% to 35%, and for helpfulness from 81% to 53%. The loss only asks for a larger *difference* between
# the two, and it gets that even if both fall, as long as the rejected reply falls further. What does the model say instead? Look at the replies to unsafe requests that are furthest from the SFT model:

# %%
strange = straight[straight["family"] == "unsafe"].sort_values("kl", ascending=False)
strange[["prompt", "answer", "gold"]].head(5)

# %% [markdown]
# They begin like a refusal and continue with nonsense, or with steps for something. No pair contained such replies, so DPO's loss never saw them. (The oracle accepts most of them as refusals: it only asks whether a reply refuses and doesn't give the steps that were asked for.)
#
# PPO samples its replies, so it gets a score for whatever it says, and strange replies like these are corrected if the reward model dislikes them. Its weakness is a different one: the faults of the reward model. Week 5 adds a likelihood term to DPO's loss, which keeps the chosen replies likely. The last figure shows all the recorded runs:

# %%
from postlab.course.week04 import plot_frontier

ended = curves[curves["step"] == curves["step"].max()].groupby(["method", "beta"])["gold"].mean()
dpo_low, dpo_high, ppo_low, ppo_high = (
    f"{share:.0%}"
    for method in ("dpo", "ppo")
    for share in (ended[method].min(), ended[method].max())
)
title = f"DPO ends with {dpo_low} to {dpo_high} of the replies right and PPO with {ppo_low} to {ppo_high}, by beta"
plot_frontier(curves, title)

# %% [markdown]
# What can you read from this figure? Because the betas differ, don't compare PPO's final points with DPO's. Compare points at the *same KL* instead. Up to about 3 nats the two clouds overlap, so these runs don't show that either method is better there. (A comparison at the same $\beta$, as in section 6, is still open: no recorded pair of runs has it.)
#
# The difference is where they end up. DPO's points never go beyond 5 nats. The PPO runs with a small $\beta$ get worse from about 3 nats on and continue to 13 nats and more, where practically no reply is right. With $\beta = 0.1$, each DPO
# run ends at its own best, 78% to 82% (with $\beta = 0.5$ it peaks earlier and ends at 60% to 78%). PPO's best single measurement is just as good, 81%, but it comes after the first step, and you'd need the oracle to know when to stop.
#
# Two things make this comparison unfair to PPO. Its reward model consists of 161 trained weights, while DPO's implicit reward is the whole network. And it has to trust this reward far away from the pairs it was trained on. With a reward that is right everywhere, like a verifier, neither would matter: that is week 7.

# %% [markdown]
# ## 8. Which one, and at what cost
#
# What did the two runs in this notebook cost, on this machine?

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
# In the stored output, most of a PPO step is spent on learning (1.0 of 1.5 seconds), because our replies are so short. With replies of a thousand tokens, sampling takes most of the time, since tokens have to be generated one after the other.
#
# And the memory? We can calculate it. A trained parameter needs 16 bytes: bf16 weights and gradients, fp32 master weights, and Adam's two moments. A frozen one needs 2.

# %%
# NBVAL_CHECK_OUTPUT
trained, frozen, billions = 16, 2, 7
ppo_gb = billions * (2 * trained + 2 * frozen)  # policy and critic; reference and reward model
dpo_gb = billions * (trained + frozen)  # policy; reference
{"PPO": f"{ppo_gb} GB", "DPO": f"{dpo_gb} GB", "for": "a 7B, before activations"}

# %% [markdown]
# That is twice as much for PPO as for DPO. LoRA removes most of it: only the adapters are trained, and you get the reference by switching the policy's adapter off.
#
# | choose | when |
# |---|---|
# | DPO, in rounds | you have pairs, ideally of replies from your own model; you want to change taste, tone or safety; your team is small |
# | PPO or GRPO with a reward model | you have many prompts; you can watch the KL and read samples, and train a new reward model when the policy has learned to exploit the old one |
# | RL with a verifier | answers can be checked: mathematics, code, formats |

# %% [markdown]
# **How the large labs combine them**, according to their own papers:
#
# | | recipe |
# |---|---|
# | InstructGPT | SFT, reward model, PPO with a KL penalty; a pretraining term limits the losses on public benchmarks |
# | [Llama 3](https://arxiv.org/abs/2407.21783) | six rounds of reward model, rejection sampling, SFT and DPO on fresh pairs; DPO needed less compute than PPO and did better; an NLL term on the chosen replies |
# | [Tülu 3](https://arxiv.org/abs/2411.15124) | SFT, length-normalised DPO with on-policy pairs, PPO against verifiers (RLVR) |
# | [DeepSeek-R1](https://arxiv.org/abs/2501.12948) | GRPO with rule-based rewards, no neural reward model for reasoning because of reward hacking; SFT on its best samples; RL again, with reward models for helpfulness and harmlessness |
# | [Qwen3](https://arxiv.org/abs/2505.09388) | SFT on long reasoning, GRPO with verifiers, SFT to combine thinking and non-thinking modes, general RL; small models are distilled |
#
# There is a pattern: pairs are used where the answer is a matter of taste, on-policy rewards where answers can be checked, and SFT on the best samples comes between the stages.

# %% [markdown]
# ## What you have now
#
# You have a reward model whose faults you know, a PPO loop that you can read, a loss that you derived yourself, and a picture of how each method fails. In week 5 you train DPO with TRL.

# %% [markdown]
# ### Five interview questions
#
# **1.** Derive DPO. Where does the partition function go, and when would it stay?
#
# <details><summary>Answer</summary>
#
# The optimum of reward minus $\beta$ KL is $\pi^*(y \mid x) = \pi_\text{ref}(y \mid x)\, e^{r(x, y)/\beta} / Z(x)$. Solved for the reward, this is $r(x, y) = \beta \log \frac{\pi^*(y \mid x)}{\pi_\text{ref}(y \mid x)} + \beta \log Z(x)$. Bradley-Terry uses only the difference of two rewards. Both replies share the prompt, so
# $\beta \log Z(x)$ cancels. Replace $\pi^*$ by the trained policy and take the negative log-likelihood: that's DPO's loss. $Z$ would stay if you compared replies to *different* prompts, or if you had a rating for a single reply. That's why KTO, which learns from single ratings, needs a reference point.
#
# *A likely follow-up:* "What does the derivation assume?" That preferences follow Bradley-Terry, that the pairs cover the replies that matter, and that the policy can represent the optimum.
#
# </details>
#
# **2.** During DPO, the log-probs of both the chosen and the rejected replies fall while the margins rise. Is this a bug?
#
# <details><summary>Answer</summary>
#
# Not necessarily. The loss contains only the difference, so it is satisfied if both fall and the rejected one falls faster. First rule out a bug: at step 0 the margins must be 0, otherwise the reference isn't the model you started from. Then find out where the probability went: sample from the model, read the samples, and measure the KL and held-out quality.
# If the samples have become worse, add a likelihood term on the chosen replies, raise $\beta$, lower the learning rate, or use pairs sampled from your own policy.
#
# *A likely follow-up:* "Why would on-policy pairs help?" Then the rejected replies are ones the policy really produces, and the other replies that gain probability are more likely to show up in a later round of pairs.
#
# </details>
#
# **3.** $\log \pi - \log \pi_\text{ref}$ works as a penalty inside the reward. Why doesn't it work as a loss?
#
# <details><summary>Answer</summary>
#
# Inside the reward it is a number, without a gradient. The policy gradient multiplies it by $\nabla \log \pi$, and the expectation of this product is the gradient of the KL. If you differentiate it directly, only $\nabla \log \pi$ is left, and its expectation under $\pi$ is zero: $\sum_y \pi(y) \nabla \log \pi(y) = \nabla \sum_y \pi(y) = 0$.
# So on average the loss doesn't pull the policy anywhere; it only adds noise.
#
# *A likely follow-up:* "Which estimator can you use as a loss?" On samples from the current policy, $k_2 = \tfrac{1}{2} (\log \pi - \log \pi_\text{ref})^2$: its gradient is $(\log \pi - \log \pi_\text{ref}) \nabla \log \pi$, whose expectation is the gradient of the KL ([2510.01555](https://arxiv.org/abs/2510.01555)).
#
# </details>
#
# **4.** System design: your product gives you 50,000 preference pairs per month, and you have eight GPUs and a 7B. What do you train, and what do you watch?
#
# <details><summary>Answer</summary>
#
# I'd run DPO with LoRA once a month, on pairs sampled from the current policy. I'd also train a reward model, but use it to filter pairs and to find regressions, not as the only judge. For tasks with checkable answers I'd add GRPO with verifiers. I'd watch the accuracy on held-out pairs, the KL from the reference, reply length, and needless refusals, and run a blind
# vote against last month's model before each release.
#
# *A likely follow-up:* "What is biased in such pairs?" Users vote on what they were shown, few users vote at all, and people tend to prefer longer and more confident replies. Sample by kind of request, control for length, and keep a set labelled by trained annotators.
#
# </details>
#
# **5.** Research taste: a paper claims to beat both PPO and DPO. What do you look at first?
#
# <details><summary>Answer</summary>
#
# Were the baselines tuned as carefully as the new method? Does it compare methods at equal KL, ideally with whole curves of quality against KL? Which methods saw fresh samples? How many seeds are there? Is the judge different from the reward model used in training, and is length controlled for? If the gain disappears at equal KL, the new method just takes
# larger steps.
#
# *A likely follow-up:* "Which baseline is most often missing?" Online or iterated DPO. Without it, you can't tell a better loss from fresh data.
#
# </details>

# %% [markdown]
# **Papers.** Christiano 2017: read section 2.2 for how the reward model is fitted. Ouyang 2022: section 3.5. Rafailov 2023, *DPO* ([2305.18290](https://arxiv.org/abs/2305.18290)): sections 4 and 5. Schulman 2017, *PPO*
# ([1707.06347](https://arxiv.org/abs/1707.06347)): section 3. Gao 2022: figure 1. Xu 2024: section 4, on replies outside the data.
