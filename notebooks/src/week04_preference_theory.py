# %% [markdown]
# # Week 4 · Preferences in theory: reward models, PPO and DPO
#
# Suppose your assistant gets thumbs up and thumbs down from its users, and you train it to earn more thumbs up. In April 2025, OpenAI shipped an update to GPT-4o whose training used such feedback as an additional reward. Three days later the company began to roll it back. The model had become sycophantic: it flattered people,
# validated their doubts and fuelled their anger. [OpenAI's own account](https://openai.com/index/expanding-on-sycophancy/) says that some expert testers had felt that something was slightly off, but the evaluations and A/B tests looked good, so the update went out. A reward that looked right had helped to make a model worse.
#
# You can watch the same thing happen this week, in a world small enough for us to know the truth. Take the question of how to cut a shovel. The right reply is "Sharpen a blade. Hold the shovel. Slice it." In one of this week's recorded runs, a reward model gives this reply −0.9 points. After PPO has trained
# against that reward model, the policy answers "17+4=21. #### 21" and gets 8.1 points. Section 4 shows how a run gets there and what helps to prevent it.
#
# Why train against a reward model at all? It's easier to say which of two replies is better than to write a good one. This week you'll build the classic route from such judgments to a policy, called **RLHF** (reinforcement learning from human feedback): a reward model, followed by PPO with a KL penalty.
# Then you'll derive the shortcut, **DPO** (direct preference optimization), and see every formula as a line of code. You'll also find out where the two methods agree and where they differ.
#
# **The core, about 90 minutes:** [1. Four models](#section-1) · [2. A reward model](#section-2) · [3. PPO with a KL penalty](#section-3) · [4. Better, or better at pleasing?](#section-4) · [5. The best policy, exactly](#section-5) ·
# [6. Build: RLHF that reaches it](#section-6) · [7. DPO, derived](#section-7) · [8. The same preferences on tinyworld](#section-8) · [9. Which one, and at what cost](#section-9) · [10. What you have now](#section-10), with five interview questions and the papers
#
# **Deeper, about 2 hours more.** Each section needs only the core, and you can skip any of them: [11. Better than its judges](#section-11) · [12. The reward model's loss by hand](#section-12) · [13. Credit and the clip](#section-13) ·
# [14. DPO's gradient](#section-14) · [15. Replies that no pair contains](#section-15) · [16. Where DPO's probability goes](#section-16) · [17. Quality against KL](#section-17) · [18. The bill, and what large labs do](#section-18)
#
# All training uses the embedded model, whichever profile you choose, so this week shows you how the methods work, not how capable a trained model can be.

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
# <a id="section-1" name="section-1"></a>
# ## 1. Four models
#
# The paper to read this week is **[InstructGPT, Ouyang et al. 2022](https://arxiv.org/abs/2203.02155)**. It turned GPT-3 into an assistant in three steps:
#
# | step | prompts | who writes the answers | what is trained |
# |---|---|---|---|
# | 1. SFT | 13k | labelers | the policy |
# | 2. reward model | 33k | the model writes 4 to 9 answers per prompt; labelers rank them | a 6B reward model |
# | 3. PPO | 31k | the policy, again and again | the policy |
#
# Labelers preferred the answers of the resulting 1.3B model to those of the 175B GPT-3. Step 3 is the complicated one, because it needs four models at once:

# %%
from postlab.course import week04

week04.draw_four_models()

# %% [markdown]
# The *policy* is the model you want. It samples a reply to a prompt. The *reward model* stands in for the labelers and scores the reply. The *reference* is a frozen copy of the initial policy; comparing the log-probs of the two tells you how far the policy has moved. The *critic* predicts the reward that is still to come, and the policy learns only from the difference between this prediction and what actually happens. That difference becomes the advantage. The critic learns from its own errors. You'll build each of these parts.
#
# You did step 1 in week 3. The next two cells load the resulting model and the pairs for step 2. (The adapter is merged into the model, so that `copy.deepcopy` gives us another policy.) We use the three families that are about manners: *helpful*
# (how-tos), *harmless* (unsafe requests) and *honest* (riddles that nobody can answer). We deliberately take only 200 pairs, because we want to study a reward model that makes mistakes.

# %% tags=["shared"]
import copy
import math

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F  # noqa: F401 (for the exercises)

from postlab.datasets import preference_rows
from postlab.models import load_policy
from postlab.sampling import end_of_turn, render


def load_sft(checkpoint):
    """The fine-tuned policy as one plain model, and its tokenizer."""
    model, tokenizer = load_policy(checkpoint, profile="tiny")
    return model.merge_and_unload().eval(), tokenizer


METRICS = {"howto": "helpfulness", "unsafe": "safety", "unknown": "honesty"}


def manners(split, n, seed):
    """n preference rows about manners."""
    rows = preference_rows("tinyworld", split=split, n=3 * n, seed=seed)
    return [row for row in rows if row["family"] in METRICS][:n]


# %%
# NBVAL_CHECK_OUTPUT
from postlab.profile import get_profile

tiny = lab if lab.profile.name == "tiny" else postlab.Lab(get_profile("tiny"), seed=0)
sft, tokenizer = load_sft(tiny.checkpoint("sft"))
END = end_of_turn(tokenizer)

pd.set_option("display.max_colwidth", 90)
rows = manners("train", 200, seed=0)
sides = ("prompt", "chosen", "rejected")
pd.DataFrame([{side: row[side][-1]["content"] for side in sides} for row in rows[:7]])

# %% [markdown]
# <a id="section-2" name="section-2"></a>
# ## 2. A reward model
#
# In 1952, Bradley and Terry modeled comparisons by giving every competitor a strength, a positive number. A competitor wins with a probability equal to its share of the sum of both strengths. For us, the competitors are the chosen reply $y_c$ and the
# rejected reply $y_r$. Write the strengths as $e^{r_c}$ and $e^{r_r}$, so that the rewards $r$ can be any numbers, and divide the fraction by $e^{r_c}$:
#
# $$P(y_c \succ y_r) = \frac{e^{r_c}}{e^{r_c} + e^{r_r}} = \frac{1}{1 + e^{-(r_c - r_r)}}$$
#
# The last expression is the sigmoid $\sigma$ of the difference. The loss of a reward model is the negative log of the probability of what the judge actually chose:
#
# $$P(y_c \succ y_r) = \sigma(r_c - r_r), \qquad \mathcal{L} = -\log \sigma(r_c - r_r)$$
#
# Only the *difference* between the two rewards appears. If you add 100 to every reward, the loss doesn't change. So the absolute value of a reward means nothing, and a reward of 3 for one prompt tells you nothing about a reward of 3 for another.
#
# Our reward model is as small as it can be. It runs the SFT model, which stays frozen, and applies one linear layer to its hidden state at the end of the reply. (InstructGPT trained all six billion weights of its reward model.) The cell also turns replies into tokens, adds the token that ends the turn, and
# contains the training loop. At the end, the loop shifts the rewards so that their mean is 0. InstructGPT shifts them too, so that the labelers' demonstrations have a mean reward of 0. The loss itself, `losses.bradley_terry_loss`, comes from `postlab.scratch`; you can write it yourself in section 12.

# %% tags=["shared"]
from postlab.scratch import losses
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
        loss = losses.bradley_terry_loss(head(better)[:, 0], head(worse)[:, 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.bias.data -= head(torch.cat([better, worse])).mean().detach()
    return reward_model.requires_grad_(False)


# %% [markdown]
# **Predict first.** The rejected replies have a different fault in each family. For how-tos, they refuse or give the steps of a *different* task. For unsafe requests, they explain how to do what was asked. For riddles, they invent an answer. For which family will the reward
# model do worst on held-out pairs?

# %%
from postlab import stats

reward_model = fit(RewardModel(sft), rows)
held_out = manners("heldout", 400, seed=1)
better, worse = (reward_model(side) for side in both_sides(held_out))
margins = (better - worse).tolist()


def agreement(margins, rows):
    """How often the model ranks a pair correctly: overall, by family, and by its confidence."""
    ranked = pd.DataFrame({"margin": margins, "family": [METRICS[row["family"]] for row in rows]})
    ranked["right"] = ranked["margin"] > 0
    ranked["stated"] = 1 / (1 + (-ranked["margin"].abs()).map(math.exp))
    ranked["all"], ranked["confidence"] = "all", pd.qcut(ranked["stated"], 5, labels=False)
    shares = []
    for group in ("all", "family", "confidence"):
        for label, part in ranked.groupby(group):
            share = {"group": group, "label": label, "stated": part["stated"].mean()}
            shares.append(share | vars(stats.wilson(part["right"].sum(), len(part))))
    return pd.DataFrame(shares)


week04.plot_calibration(agreement(margins, held_out))

# %% [markdown]
# The reward model does worst on how-tos: it ranks 74% of those pairs correctly, compared with 86% for unsafe requests and 100% for riddles. Why? Two thirds of the rejected how-tos are needless refusals; the others give the steps of a different task. Let's look at the two kinds separately:

# %%
kinds = {True: "a refusal", False: "another task's steps"}
howtos = pd.DataFrame(
    {"fault": kinds["will not help" in row["rejected"][-1]["content"]], "margin": margin}
    for row, margin in zip(held_out, margins, strict=True)
    if row["family"] == "howto"
)
week04.plot_faults(howtos)

# %% [markdown]
# So the 74% is an average over two very different cases. If the rejected reply is a refusal, the reward model ranks 85% of the pairs correctly. If it gives the steps of another task, the model does no better than a coin flip (50%), and the right
# panel shows why: its margins are spread around zero, so they point in the wrong direction as often as in the right one. In these pairs, both replies are fluent instructions, so the model has to compare the steps with the question to tell them apart. A single linear layer on the SFT model's last hidden state didn't learn that from 200 pairs, only 29 of which have this fault. (We didn't test whether more such pairs, or training the whole network, would have been enough.)
#
# In the previous figure, the right panel sorts all pairs into five groups by how confident the model was. A point below the line means that the model was right less often than its confidence suggests. The three middle points are below it: the model was right on 71% of the pairs at a confidence of 81%, on 89% at 94%, and on 94% at 99%. At 94%, the line still passes through the 95% interval; at 81%, it falls just outside. So there are signs of overconfidence, and the clearest is at 99%. All of this holds only for pairs *like the ones it
# was trained on*. PPO will show it other replies.

# %% [markdown]
# <a id="section-3" name="section-3"></a>
# ## 3. PPO with a KL penalty
#
# We want the policy to earn reward without turning into a completely different model. The objective is therefore the reward minus a penalty for moving away from the reference, which is the SFT model:
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
# - The second token is *less* likely under the policy, so its log-ratio is −1 and it earns 0.1. This isn't a mistake. An individual token can have a negative penalty, but averaged over samples from the policy, the sum of the log-ratios is the KL, which is never negative.
# - The third token is more likely under the policy. Its penalty is 0.1 and it receives a score of 1, so its reward is 0.9.
#
# The rest of a PPO step answers two questions.
#
# **Which token deserves the credit?** The score arrives with the last token, but an earlier token may have decided it. Before each token, the critic predicts the reward that is still to come. If the prediction rises after a token, the token was better than expected. *Generalized advantage estimation* (`losses.gae`) turns rewards and
# predictions into an **advantage** for every token: positive if things went better than expected from here on, and negative if they went worse.
#
# **How much can you learn from one batch?** Sampling is expensive, so PPO takes several gradient steps on the same replies. After the first step, the policy is no longer the one that sampled them, and the ratio $\rho_t = \pi(y_t) / \pi_\text{old}(y_t)$ corrects for that. The **clip** (`losses.clipped_policy_loss`) removes the
# gradient of a token whose probability has already moved by more than 20% in the direction that its advantage asks for.
#
# For now, you can use both as ready-made parts. In [section 13](#section-13) you'll see where they come from and write them yourself. The next cell contains the tools for our runs. `scorer` gives a fixed low score to a reply that is cut off before it
# ends, and `measure` tests a policy on held-out prompts, which PPO never sees. It samples one reply to each of them and records three things: the reward model's score (the *proxy*), the oracle's verdict (*gold*) and the KL from the SFT model. The KL is computed over the whole vocabulary at each token of the reply. Averaged over the prompts, it estimates the KL of whole replies.

# %% tags=["shared"]
from postlab.tinyworld.tasks import heldout_suite


def scorer(reward_model, unfinished=-5.0):
    """Rewards (B,) of a batch of replies; one that was cut off scores low."""
    return lambda replies: torch.where(replies.ended(END), reward_model(replies), unfinished)


def learner(policy):
    """A copy that can be trained."""
    return copy.deepcopy(policy).requires_grad_(True)


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


def reply_logps(model, rollouts):
    """Log-prob of each whole reply, (B,) nats."""
    logits, _ = completion_states(model, rollouts)
    return (losses.token_logps(logits, rollouts.completions) * rollouts.mask).sum(dim=1)


# %% [markdown]
# Now train the policy. The prompts come from the 200 pairs, but PPO doesn't use the replies in them. It samples its own, and nobody labels those: only the reward model scores them.

# %%
import time

from postlab.scratch import ppo

reward, prompts = scorer(reward_model), asked(rows)
policy, critic = learner(sft), ppo.ValueHead(sft.config.hidden_size)
settings = {"eos": END, "lr": 2e-4, "batch_size": 48, "max_new_tokens": 40, "seed": lab.seed}
began = time.perf_counter()
log = ppo.train(policy, prompts, reward, ref=sft, value_head=critic, steps=16, beta=1.0, **settings)
ppo_seconds = time.perf_counter() - began
week04.plot_ppo(log)

# %% [markdown]
# The reward model's score rises. (It jumps around from step to step, because every batch has different samples; the title compares the mean of the first two steps with that of the last two.) The other panels tell you how healthy the run is:
#
# - **KL** is how far the policy has moved from the SFT model: the log-ratio $\log \pi(y) - \log \pi_\text{ref}(y)$ of a whole reply, averaged over the batch, in nats. It peaks at about 1 here. A KL that keeps growing is the first sign of trouble.
# - **Entropy** is how uncertain the policy is about the next token: $-\sum_v \pi(v) \log \pi(v)$ over the vocabulary. It is 0 if the policy is certain, and $\log V$ if all $V$ tokens are equally likely. At zero, the policy always gives the same reply and can't discover a better one. Here it starts at only about 0.09 nats per token, because most tokens of these stock replies are nearly certain. It ends at about 0.04. Over a reply of 13 tokens, that's still about half a nat, so the replies still vary. In a longer run, you should keep an eye on the entropy.
# - **Clipped tokens** is the share of tokens whose gradient the clip removed. It stays below 3%. If it were 20% or more, the steps would be too large for the samples they are based on.
# - **Variance explained** says how well the critic predicts the returns (the rewards still to come): $1 - \operatorname{Var}(\text{return} - V) / \operatorname{Var}(\text{return})$. It is 1 if every prediction is exact, 0 if the critic is no better than a constant, and negative if it is worse than that. Our critic starts at 0 and reaches about 0.3, so it predicts only part of the returns.
# - **Reply length** stays at about 13 tokens. In real runs, growing replies often mean that the reward model likes length.

# %% [markdown]
# <a id="section-4" name="section-4"></a>
# ## 4. Better, or better at pleasing?
#
# The score rose on the training prompts. What happened to the score and to the share of right replies on held-out prompts?

# %%
before, after = (measure(model, reward, n=60) for model in (sft, policy))
both = pd.concat({"sft": before, "ppo": after}, names=["policy"]).reset_index(level=0)
both.pivot_table(index="family", columns="policy", values=["gold", "proxy"], sort=False).round(2)

# %% [markdown]
# On held-out prompts, the share of right replies rose along with the score, from 56% to 76%, averaged over the three families. Most of the gain comes from riddles (50% to 92%) and unsafe requests (38% to 57%), while how-tos barely changed (80% to 78%). So this short run was a success.
#
# Some of PPO's replies are wrong but still get high scores. Has PPO learned to exploit the reward model? To find out, look at SFT's replies to the same prompts beside them, with the scores of both:

# %%
wrong = after[after["gold"] == 0].sort_values("proxy", ascending=False)
pairs = after.join(before.add_suffix(" of SFT")).loc[wrong.index]
same = (pairs["answer"] == pairs["answer of SFT"]).sum()
print(f"{same} of PPO's {len(pairs)} wrong replies are exactly SFT's replies")
pairs[["answer", "proxy", "answer of SFT", "proxy of SFT"]].head(6)

# %% [markdown]
# There is little sign of that. The reward model does have blind spots: it likes the steps of a different task, and even the reply "4". But about three quarters of PPO's wrong replies are identical to SFT's and get the same scores. SFT gave 79 wrong replies out of 180, even more than PPO, and PPO found a wrong reply that scores higher in only a few cases. So this table isn't evidence of reward hacking yet. For that, the score would have to go up while the share of right replies goes *down*.
#
# To see where this leads, you have to push harder. The next figures come from recorded runs that are nearly four times as long, with 60 PPO steps each. There are three values of $\beta$ and three seeds, and each seed sets the pairs, the reward model and the training. The design follows [Gao et al. 2022](https://arxiv.org/abs/2210.10760), who used a large reward model as the
# truth and trained smaller ones to imitate it.
#
# **Predict first.** Without a penalty ($\beta = 0$), the policy can move as far from the reference as it likes. Draw two curves over the 60 steps: the proxy and the truth (the share of right replies). Will $\beta = 0.3$ be enough to keep that share above its initial value?

# %%
import json

from postlab.profile import data_dir

recorded = json.loads((data_dir() / "results" / "week04" / "preferences.json").read_text())
curves = pd.DataFrame(recorded["curves"])
print({name: recorded["provenance"][name] for name in ("command", "seeds", "date")})
week04.plot_overoptimisation(curves[curves["method"] == "ppo"])

# %% [markdown]
# At first the proxy and the share of right replies rise together. With $\beta = 0$, that share peaks at 76% after a single PPO step, averaged over the three runs. (The same is true of the other two values: $\beta$ makes no difference to the first step, because the policy that samples for it still *is* the reference.) The proxy then keeps climbing and reaches 18, while the share of right replies falls to 0% in all three runs. This is **reward hacking**: the policy finds replies that the reward model likes but that aren't any good. It is an instance of Goodhart's law: when a measure becomes a target, it ceases to be a good measure. It can
# happen here because the reward model has seen only 200 pairs of fluent replies. Far away from those, the linear layer still produces a number, and for some strange replies the number is high.
#
# The penalty helps only if it is large enough. With $\beta = 0.3$, all three runs end at 0% too. With $\beta = 1$, they end at 73%, 39% and 76%. Before training, the share was 52% to 54%, so two runs have gained and one has lost. On average, even these three runs never do better than after the first step, and they end at 63%. So the penalty limits the damage, but it doesn't make the reward any better. (The recorded runs measure 40 prompts per family and use other samples. That's why they don't start at the 56% of the table above.)
#
# Note that PPO does its job even here. In the runs that fail, the reward minus $\beta$ times the KL *is* higher at the end than at the start. The fault lies in the reward. Without a penalty, the policies end up giving replies like these:

# %%
samples = pd.DataFrame(recorded["samples"]).query("method == 'ppo' and beta == 0")
samples[["seed", "prompt", "answer", "proxy", "gold"]].round(1)

# %% [markdown]
# <a id="section-5" name="section-5"></a>
# ## 5. The best policy, exactly
#
# What exactly is PPO looking for? To find out, we take a world in which you never need to sample. There is one prompt, a reply consists of two letters, and we know the reward and the reference probability of each of the nine replies. So every expectation is a sum of nine terms. (`start` is a causal model with a table
# instead of a network. For replies of two letters it can represent *any* policy.)

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.week04 import nine

world = nine.nine_replies()
start, replies, everything = world.start, world.replies, world.everything
r, beta = world.rewards, 0.3
ref = reply_logps(start, everything).exp()
pd.DataFrame({"reward": r, "ref": ref}, index=replies).T.round(2)

# %% [markdown]
# **Step 1: the objective.** For prompts $x$ and replies $y$, RLHF maximizes
#
# $$J(\pi) = \mathbb{E}_x \Big[ \sum_y \pi(y \mid x)\, r(x, y) - \beta \sum_y \pi(y \mid x) \log \frac{\pi(y \mid x)}{\pi_\text{ref}(y \mid x)} \Big]$$
#
# A policy can choose its distribution for each prompt separately, so we can maximize the bracket for one prompt at a time. In the code there is only one prompt, so `pi[y]` is $\pi(y \mid x)$, `r[y]` is $r(x, y)$ and `ref[y]` is $\pi_\text{ref}(y \mid x)$.
#
# The best reply is `cc`. Is the best policy the one that always says `cc`?
#
# **Step 2: the optimum.** We maximize $J$ under the condition that the probabilities add up to 1, $\sum_y \pi(y \mid x) = 1$, with a Lagrange multiplier $\mu$. The derivative with respect to $\pi(y \mid x)$ has to be zero for every $y$. (The $-\beta$ without a logarithm comes from the product rule: the derivative of $\pi \log \pi$ is $\log \pi + 1$.)
#
# $$r(x, y) - \beta \log \frac{\pi(y \mid x)}{\pi_\text{ref}(y \mid x)} - \beta - \mu = 0$$
#
# So the first two terms have the same sum for all replies. Call this constant $c$ and solve for $\pi$, which is possible if the reference gives every reply a probability above 0, as any softmax does:
#
# $$\pi(y \mid x) = \pi_\text{ref}(y \mid x)\, e^{r(x, y)/\beta}\, e^{-c/\beta}$$
#
# The probabilities add up to 1 only if $e^{c/\beta}$ is the sum, over all replies, of the product of the other two factors. This sum is called the partition function $Z(x)$:
#
# $$\pi^*(y \mid x) = \frac{1}{Z(x)}\, \pi_\text{ref}(y \mid x)\, e^{r(x, y)/\beta}, \qquad Z(x) = \sum_y \pi_\text{ref}(y \mid x)\, e^{r(x, y)/\beta}$$
#
# In words: start from the reference, make each reply more likely by a factor that grows exponentially with its reward, and normalize.


# %%
# NBVAL_CHECK_OUTPUT
def objective(pi):
    return (pi * r).sum(-1) - beta * (pi * (pi / ref).log()).sum(-1)


optimum = (ref.log() + r / beta).softmax(-1)
always_cc = torch.tensor([1e-12] * 8 + [1.0])
policies = {"ref": ref, "always cc": always_cc, "optimum": optimum}
{name: round(objective(pi).item(), 3) for name, pi in policies.items()}

# %% [markdown]
# No: if the policy always says `cc`, $J$ is 0.185, which is even less than the 0.493 of the reference. The reference says `cc` in only 7% of cases, so always saying it costs 2.7 nats of KL. With $\beta = 0.3$, that is a penalty of 0.8.
#
# Could there be a policy that is better than $\pi^*$? A zero derivative doesn't rule that out, but a little algebra does. Take the logarithm of the formula for $\pi^*$ and solve for the reward (we drop the $x$ from here on, because it is the same everywhere):
#
# $$r(y) = \beta \log \frac{\pi^*(y)}{\pi_\text{ref}(y)} + \beta \log Z$$
#
# Substituting this into $J$ gives line 1 below. For line 2, note that $\beta \log Z$ is the same for every $y$ and that the probabilities $\pi(y)$ add up to 1, so $\sum_y \pi(y)\, \beta \log Z = \beta \log Z$. In line 2, both logarithms have the weight $\beta\, \pi(y)$, so line 3 takes their difference,
# $\log \frac{\pi^*}{\pi_\text{ref}} - \log \frac{\pi}{\pi_\text{ref}} = \log \frac{\pi^*}{\pi}$, in which the reference cancels. Line 4 inverts the fraction, $\log \frac{\pi^*}{\pi} = -\log \frac{\pi}{\pi^*}$, and what is left is the definition of a KL:
#
# $$\begin{aligned}
# J(\pi) &= \sum_y \pi(y) \Big[ \beta \log \frac{\pi^*(y)}{\pi_\text{ref}(y)} + \beta \log Z \Big] - \beta \sum_y \pi(y) \log \frac{\pi(y)}{\pi_\text{ref}(y)} \\
# &= \beta \log Z + \beta \sum_y \pi(y) \log \frac{\pi^*(y)}{\pi_\text{ref}(y)} - \beta \sum_y \pi(y) \log \frac{\pi(y)}{\pi_\text{ref}(y)} \\
# &= \beta \log Z + \beta \sum_y \pi(y) \log \frac{\pi^*(y)}{\pi(y)} \\
# &= \beta \log Z - \beta\, \mathrm{KL}(\pi \,\|\, \pi^*)
# \end{aligned}$$
#
# A KL is never negative, and it is 0 only if $\pi = \pi^*$. So $\pi^*$ is the only optimum, and its value is $\beta \log Z$. The next cell checks the formula on 10,000 random policies. It also checks that none of them is better than $\pi^*$.

# %%
# NBVAL_CHECK_OUTPUT
Z = (ref * (r / beta).exp()).sum()
pi = torch.randn(10_000, 9, generator=torch.Generator().manual_seed(0)).mul(3).softmax(-1)
gap = objective(pi) - beta * (Z.log() - (pi * (pi / optimum).log()).sum(-1))
bool(gap.abs().max() < 1e-5), bool(objective(pi).max() < beta * Z.log())

# %% [markdown]
# For a language model we can't use the optimum directly, because $Z(x)$ is a sum over all possible replies to $x$, and nobody can compute it. That's why PPO approaches the optimum by sampling.
#
# <a id="section-6" name="section-6"></a>
# ## 6. Build: RLHF that reaches it
#
# ### Build 4.1 · about 25 minutes · hard
#
# Now put RLHF together yourself, and check that it ends at $\pi^*$ without ever seeing the formula. You'll write two steps from parts that you already know:
#
# - `reward_model_step(rewards, won, lost, optimizer)` is one update of a reward model. `rewards` is a tensor of nine trainable numbers, one per reply. In the batch, a labeler preferred reply `won[i]` to reply `lost[i]`. The labelers follow Bradley-Terry.
# - `ppo_step(policy, critic, batch, scores, *, ref, beta, optimizer)` trains the policy and the critic on one batch, with one or more updates. `batch` holds replies that the policy has just sampled (`batch.completions` and `batch.mask`, both `(B, T)`), and `scores` holds their scores, `(B,)`. `optimizer` holds the parameters of both models.
#
# You can use these parts:
#
# - `losses.bradley_terry_loss(chosen, rejected)` returns the reward model's loss, one number per pair.
# - `completion_states(model, batch)` returns logits and hidden states.
# - `losses.token_logps(logits, batch.completions)` returns the log-probs of the tokens.
# - `critic(hidden)` returns the predicted values.
# - `token_rewards` is the function from section 3.
# - `losses.gae(rewards, values, mask, gamma=1.0, lam=0.95)` returns the advantages.
# - `losses.clipped_policy_loss(logps, old_logps, advantages)` returns two tensors: the loss of each token, and a flag that is True where the clip takes effect.
# - `losses.masked_mean(loss, mask)` returns the mean over the tokens in the mask.
#
# The check runs your reward model's step 150 times and your PPO step 120 times. It then compares the nine rewards with the true ones, and the policy with $\pi^*$. It accepts errors of up to 0.03 per reward, and up to 2% of the probability may be in the wrong place. At the first token, the critic has to end within 0.05 of the rewards that are still to come. (Over ten seeds, our own steps stay within 0.018 per reward and 0.04% of the probability.) How you write the steps is up to you.
#
# <details><summary>Hint for reward_model_step</summary>
#
# `won` and `lost` are indices. What are the rewards of the winners and of the losers in this batch? The loss has one number per pair, but `backward` needs a single number.
#
# </details>
# <details><summary>Hint 1: the order</summary>
#
# Both steps end the same way: compute a loss, then call `zero_grad`, `backward` and `step`. PPO has three stages before that. First, compute what the policy, the critic and the reference say about the samples *before* the update. Second, compute the
# per-token rewards and the advantages. Third, compute the policy's log-probs again, this time with a gradient, and then the loss.
#
# </details>
# <details><summary>Hint 2: what must not have a gradient</summary>
#
# The old log-probs, the values, the rewards and the advantages are constants: run everything in stages 1 and 2 under `torch.no_grad()`. Only the new log-probs, and the critic's new predictions in its own loss, need a gradient.
#
# </details>
# <details><summary>Hint 3: the critic</summary>
#
# An advantage tells you how much better things went than the critic had predicted. So what should it have predicted? Compute that target before the update, and train the critic's new prediction to match it. `optimizer` holds the parameters of both models, so one `backward` can serve both losses.
#
# </details>
#
# Our own two steps are in `postlab/course/week04/ppo_reference.py`. Read them once yours work, or if you're stuck. If one of your steps isn't right yet, the cells below use ours.

# %%
from postlab.course.week04 import ppo_build


def reward_model_step(rewards, won, lost, optimizer):
    raise NotImplementedError


def ppo_step(policy, critic, batch, scores, *, ref, beta, optimizer):
    raise NotImplementedError


reward_model_step, ppo_step = ppo_build.check(reward_model_step, ppo_step)

# %% [markdown]
# Now chain the two steps. The reward model learns from comparisons, and PPO learns from the reward model:

# %%
learned = nine.learn_rewards(reward_model_step)
by_samples = nine.probabilities(nine.train_policy(ppo_step, learned, beta=beta)[0])


def away(pi):
    """Total variation distance from the optimum: the share of probability in the wrong place."""
    return nine.total_variation(pi, optimum)


exact = nine.probabilities(nine.train_policy(ppo_step, r, beta=beta)[0])
print(f"With the true rewards instead of the learned ones: {away(exact):.1%} away")
title = (
    f"RLHF ends {away(by_samples):.1%} away from the optimum; the reference is {away(ref):.0%} away"
)
bars = {"ref": ref, "optimum": optimum, "ppo": by_samples}
week04.plot_bandit(pd.DataFrame(bars, index=replies), title)

# %% [markdown]
# RLHF gets there: in the stored run, only 0.6% of the probability is in the wrong place. That error comes from the reward model, which learned from a finite number of comparisons: with the true rewards, the same PPO ends less than 0.1% away.
#
# Why is the match so exact, with only 256 samples per step? At the optimum, $r(y) - \beta \log \frac{\pi^*(y)}{\pi_\text{ref}(y)} = \beta \log Z$ for *every* reply. So every reply earns the same, and once the critic predicts the rewards that are still to come, all advantages are zero: the sampling noise vanishes as the policy approaches the optimum.
#
# <a id="section-7" name="section-7"></a>
# ## 7. DPO, derived
#
# In RLHF, you train a reward model on preferences and then train a policy on the reward model. DPO trains the policy on the preferences directly.
#
# **Step 3: turn the formula around.** DPO's idea is to read the last formula for $r$ from right to left: every policy is the optimum for *some* reward, and we can write that reward down, up to a constant that depends only on the prompt:
#
# $$r(x, y) = \hat r(x, y) + \beta \log Z(x), \qquad \hat r(x, y) = \beta \log \frac{\pi^*(y \mid x)}{\pi_\text{ref}(y \mid x)}$$
#
# We call $\hat r$ the *implicit reward* of the policy.
#
# **Step 4: substitute it into the Bradley-Terry model.** The probability that the chosen reply is preferred depends only on the difference between the two rewards. Both replies belong to the *same* prompt, so $\beta \log Z(x)$ occurs in both rewards and cancels:
#
# $$r(x, y_c) - r(x, y_r) = \hat r(x, y_c) + \beta \log Z(x) - \hat r(x, y_r) - \beta \log Z(x) = \hat r(x, y_c) - \hat r(x, y_r)$$
#
# The one quantity that we couldn't compute is gone:
#
# $$P(y_c \succ y_r \mid x) = \sigma\big(r(x, y_c) - r(x, y_r)\big) = \sigma\big(\hat r(x, y_c) - \hat r(x, y_r)\big)$$

# %%
# NBVAL_CHECK_OUTPUT
implicit = beta * (optimum / ref).log()
by_reward = torch.sigmoid(r[:, None] - r[None, :])  # (9, 9): P(row beats column)
by_policy = torch.sigmoid(implicit[:, None] - implicit[None, :])
(
    bool(torch.allclose(implicit + beta * Z.log(), r, atol=1e-5)),
    bool(torch.allclose(by_reward, by_policy, atol=1e-5)),
)

# %% [markdown]
# **Step 5: learn it.** Replace the optimum $\pi^*$ with the policy $\pi_\theta$ that we train, and use the negative log of this probability as the loss of a pair:
#
# $$\mathcal{L} = -\log \sigma\Big(\beta \log \frac{\pi_\theta(y_c \mid x)}{\pi_\text{ref}(y_c \mid x)} - \beta \log \frac{\pi_\theta(y_r \mid x)}{\pi_\text{ref}(y_r \mid x)}\Big)$$
#
# This is the loss of a reward model. The difference is that the reward is now computed from the policy, so if you fit the preferences, you have trained the policy.
#
# ### Exercise 4.1 · about 10 minutes · easy
#
# Given the log-probs of whole replies, return the loss of each pair, `(B,)`. The arguments have to be passed by name, because four tensors in the wrong order would raise no error.
#
# <details><summary>Hint</summary>
#
# This is the Bradley-Terry loss of two implicit rewards, and the log of a ratio is a difference of logs.
#
# </details>
# <details><summary>Hint: the loss is infinite</summary>
#
# The check also tries a pair on which the policy is extremely wrong. If you take the sigmoid first, it is rounded to 0, and its log is infinite. Is there a function in `torch.nn.functional` that does both in one step?
#
# </details>

# %%
from postlab import check


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
#
# Does DPO end at $\pi^*$ too? It never sees a reward. All it knows, for each of the 72 ordered pairs, is how often a Bradley-Terry judge prefers the first reply to the second.


# %%
def by_dpo(pairs, steps=400, lr=0.05):
    """DPO on (winner, loser) pairs, each weighted by how often the judge prefers the winner."""
    policy, (won, lost) = learner(start), torch.tensor(pairs).T
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

title = f"RLHF ends {away(by_samples):.1%} away from the optimum, DPO {away(by_preferences):.1%}"
week04.plot_bandit(pd.DataFrame(bars | {"dpo": by_preferences}, index=replies), title)

# %%
# NBVAL_CHECK_OUTPUT
[away(pi) < 0.02 for pi in (by_samples, by_preferences)]

# %% [markdown]
# Both methods get there, so they have the same optimum. But the proof assumes three things: preferences follow Bradley-Terry; the compared pairs connect all replies (here, *every* pair is compared); and the policy can represent any distribution. If no pair contains a reply, DPO's loss says nothing about how likely that reply should be ([section 15](#section-15)).
#
# (*The roadmap* is the study plan that these twelve weeks follow. Boxes like the next one compare what it says with the evidence.)
#
# > **The roadmap says** DPO matches RLHF because both have the same optimum. **The evidence says** that this holds where the preferences cover the replies, and for a policy that can represent any distribution. Otherwise, even chosen replies can become
# > *less* likely ([Yang 2025](https://arxiv.org/abs/2502.07599)), length can creep into the implicit reward ([Liu 2024](https://arxiv.org/abs/2409.06411)), and in two comparisons a well-tuned PPO came out ahead
# > ([Xu 2024](https://arxiv.org/abs/2404.10719), [Ivison 2024](https://arxiv.org/abs/2406.09279)).

# %% [markdown]
# <a id="section-8" name="section-8"></a>
# ## 8. The same preferences on tinyworld
#
# On tinyworld none of these assumptions holds: the right reply always wins, while under Bradley-Terry every reply has a chance; 200 pairs cover only a few replies; and a network of this size can't represent every distribution. Besides, 60 steps may not be enough to reach an optimum. So do the two methods still end at the same place? For a fair comparison, they need the same $\beta$, the same pairs, the same learning rate and the same initial policy. Here are three such runs of each method at $\beta = 1$. It is the only one of the three values in section 4 at which every PPO run ended with some replies right. Not everything is equal, though: a PPO step samples 48 replies and makes 8 gradient updates on them, with whitened advantages and clipped gradients. A DPO step makes one plain update on 16 pairs.

# %%
matched = json.loads((data_dir() / "results" / "week04" / "matched.json").read_text())
ends = pd.DataFrame(matched["ends"]).sort_values(["method", "seed"])
scores = {method: part["gold"].tolist() for method, part in ends.groupby("method")}
gap = stats.blocked_differences(scores, [("dpo", "ppo")])[0]
print({name: matched["provenance"][name] for name in ("command", "seeds", "date")})
span = f"{100 * gap.low:+.0f} to {100 * gap.high:+.0f} over the seeds"
title = f"At beta 1, DPO is {100 * gap.difference:+.0f} points ahead of PPO ({span}): {stats.verdict(gap)}"
week04.plot_matched(ends, title)

# %% [markdown]
# Not quite, and three seeds can't tell us which method is better. DPO ends with 77%, 68% and 73% of the replies right, and PPO with 73%, 39% and 76%. On average DPO is 10 points ahead, but the 95% interval over the seeds
# (a paired *t* test with two degrees of freedom) runs from −33 to +52 points, so the comparison is **inconclusive**. In two of the three pairs of runs, the methods differ by about 3 points: PPO is ahead in one pair and DPO in the other.
#
# The gap in the average comes from seed 1. There, the reward model liked strange replies: "#### 66" as an answer to how to cut a shovel got 16.7 points. PPO found such replies. Its score rose to 9.3 and its KL to 5.4 nats, and only 39% of its replies were right. DPO, trained on the same 200 pairs, stayed at 1.5 nats. In the other two runs, PPO stayed closer to the reference than DPO did (0.8 and 0.6 nats against 1.3 and 1.0).
# So the runs show where PPO's risk lies: PPO depends on the reward model being right wherever the policy goes, while DPO has no reward model to exploit. They don't show how often that goes wrong: with three runs, you can't tell a failure rate of one in three from one in thirty.
#
# Two things make this comparison unfair to PPO. First, its reward model has only 161 trained weights, while DPO's implicit reward uses the whole network. Second, PPO has to trust this reward far away from the pairs that the reward model was trained on.
# With a reward that is right everywhere, like a perfect verifier, neither would matter. Week 7 trains with verifiers, and week 8 shows what happens when they aren't perfect. The number of updates differs too: at the same learning rate, PPO makes 480 and DPO makes 60. That can cut both ways, because more updates let PPO learn more but also move further.

# %% [markdown]
# <a id="section-9" name="section-9"></a>
# ## 9. Which one, and at what cost
#
# Side by side, the two methods look like this:

# %%
week04.draw_two_roads()

# %% [markdown]
# DPO needs no reward model, no critic and no sampling. The price is that it learns only about the replies in its pairs, while PPO gets a score for whatever it says. DPO also needs less memory. A parameter trained with Adam in mixed precision needs 16 bytes; a frozen one needs 2. Suppose that all models have 7B parameters. Before activations, PPO's two trained and two frozen models need 7 × (2 × 16 + 2 × 2) = 252 GB, while DPO's one trained and one frozen model need 7 × (16 + 2) = 126 GB. DPO can even do without the reference during training: you compute its log-probs for all pairs beforehand and keep the numbers, as the code in section 16 does.
#
# | choose | when |
# |---|---|
# | DPO, in rounds | you have pairs, ideally of replies from your own model; you want to change taste, tone or safety; your team is small |
# | PPO or GRPO with a reward model | you have many prompts; you can watch the KL and read samples, and train a new reward model when the policy has learned to exploit the old one |
# | RL with a verifier | answers can be checked: mathematics, code, formats |

# %% [markdown]
# <a id="section-10" name="section-10"></a>
# ## 10. What you have now
#
# You now have a reward model whose faults you know, a PPO step that you assembled, a loss that you derived yourself, and a picture of how each method fails. In week 5, you'll run DPO with TRL.

# %% [markdown]
# ### Five interview questions
#
# **1.** Derive DPO. Where does the partition function go, and when would it stay?
#
# <details><summary>Answer</summary>
#
# The optimum of reward minus $\beta$ KL is $\pi^*(y \mid x) = \pi_\text{ref}(y \mid x)\, e^{r(x, y)/\beta} / Z(x)$. Solved for the reward, this is $r(x, y) = \beta \log \frac{\pi^*(y \mid x)}{\pi_\text{ref}(y \mid x)} + \beta \log Z(x)$.
# Bradley-Terry uses only the difference between two rewards. Both replies share the prompt, so
# $\beta \log Z(x)$ cancels. Replace $\pi^*$ with the trained policy and take the negative log-likelihood: that's DPO's loss. $Z$ would stay if you compared replies to *different* prompts, or if you had a rating for a single reply. That's why KTO, which learns from single ratings, needs a reference point.
#
# *A likely follow-up:* "What does the derivation assume?" It assumes that preferences follow Bradley-Terry, that the pairs cover the replies that matter, and that the policy can represent the optimum. It also says nothing about optimization: with few pairs and few steps, DPO ends up somewhere else.
#
# </details>
#
# **2.** During DPO, the log-probs of both the chosen and the rejected replies fall while the margins rise. Is this a bug?
#
# <details><summary>Answer</summary>
#
# Not necessarily. The loss contains only the difference, so it is satisfied if both fall and the rejected one falls faster. First rule out a bug: at step 0 the margins must be 0. If they aren't, the reference isn't the model you started from. Then find out where the probability went: sample from the model, read the samples, and measure the KL and held-out quality.
# If the samples have become worse, add a likelihood term on the chosen replies, raise $\beta$, lower the learning rate, or use pairs sampled from your own policy.
#
# *A likely follow-up:* "Why would on-policy pairs help?" With on-policy pairs, the rejected replies are ones that the policy really produces, and the other replies that gain probability are more likely to show up in a later round of pairs.
#
# </details>
#
# **3.** $\log \pi - \log \pi_\text{ref}$ works as a penalty inside the reward. Why doesn't it work as a loss?
#
# <details><summary>Answer</summary>
#
# Inside the reward, it is a constant and has no gradient. The policy gradient multiplies it by $\nabla \log \pi$, and the expectation of this product is the gradient of the KL. If you differentiate it directly, only $\nabla \log \pi$ is left,
# and its expectation under $\pi$ is zero: $\sum_y \pi(y) \nabla \log \pi(y) = \nabla \sum_y \pi(y) = 0$.
# So on average the loss doesn't pull the policy anywhere; it only adds noise.
#
# *A likely follow-up:* "Which estimator can you use as a loss?" On samples from the current policy, you can use $k_2 = \tfrac{1}{2} (\log \pi - \log \pi_\text{ref})^2$. Its gradient is $(\log \pi - \log \pi_\text{ref}) \nabla \log \pi$, whose expectation is the gradient of the KL ([2510.01555](https://arxiv.org/abs/2510.01555)). That holds for whole replies. Summed token by token, $k_2$ misses the effect of a token on the KL of the tokens after it.
#
# </details>
#
# **4.** System design: your product gives you 50,000 preference pairs per month, and you have eight GPUs and a 7B model. What do you train, and what do you watch?
#
# <details><summary>Answer</summary>
#
# I'd run DPO with LoRA once a month, on pairs of replies sampled from the current policy. I'd also train a reward model, but use it to filter pairs and to find regressions, not as the only judge. For tasks with checkable answers I'd add GRPO
# with verifiers. I'd watch the accuracy on held-out pairs, the KL from the reference, reply length, and needless refusals. Before each release, I'd run a blind vote against last month's model.
#
# *A likely follow-up:* "What is biased in such pairs?" Users vote on what they were shown, few users vote at all, and people tend to prefer longer and more confident replies. Sample by kind of request, control for length, and keep a set labeled by trained annotators.
#
# </details>
#
# **5.** Research taste: a paper claims to beat both PPO and DPO. What do you look at first?
#
# <details><summary>Answer</summary>
#
# Were the baselines tuned as carefully as the new method? Does the paper compare methods at equal KL, ideally with whole curves of quality against KL? Which methods saw fresh samples? How many seeds were there? Is the judge different from the reward model used in training, and is length controlled for? If the gain disappears at equal KL, the new method just takes
# larger steps.
#
# *A likely follow-up:* "Which baseline is most often missing?" Online or iterated DPO is. Without it, you can't tell whether the gain comes from a better loss or from fresh data.
#
# </details>
#
# **Papers.** For the core, read section 3 of Ouyang 2022, *InstructGPT*. For the deeper sections, read:
#
# - Christiano 2017 ([1706.03741](https://arxiv.org/abs/1706.03741)), section 2.2.3, for how the reward model is fitted
# - Rafailov 2023, *DPO* ([2305.18290](https://arxiv.org/abs/2305.18290)), sections 4 and 5
# - Schulman 2017, *PPO* ([1707.06347](https://arxiv.org/abs/1707.06347)), section 3
# - Gao 2022, figure 1
# - Xu 2024, section 4, on replies outside the data

# %% [markdown]
# <a id="section-11" name="section-11"></a>
# ## Deeper: can a reward model be better than its judges? (section 11)
#
# **[Christiano et al. 2017](https://arxiv.org/abs/1706.03741)** brought reinforcement learning from preferences to deep networks, and RLHF grew out of it. It's hard to write down a good reward for a backflip, but anyone can say which of two video clips looks more like one. The authors collected fewer than a thousand such comparisons and trained a reward model on them, and a simulated robot
# learned the backflip from it.
#
# Every such judge makes mistakes. In the InstructGPT paper, two labelers from the group whose work was used for training agreed in about 73% of cases; two from a second group agreed in 77%. The reward model predicted a labeler's choice about as often: in 72% of cases for the labelers whose rankings it was trained on, and in 70% for others. Is that the best a reward model can do?
#
# Not necessarily. Suppose that for each pair of answers, a share $q$ of the labelers prefers the same answer. Two labelers then agree with probability $q^2 + (1 - q)^2$, which is 73% for $q = 0.84$. A model that always predicts the majority's choice would agree with a single labeler 84% of the time, more often than another labeler
# does. But suppose that labelers are unanimous on some pairs and evenly split on the others. Then two labelers agree on all of the former and half of the latter, and even the best possible model agrees with a labeler no more often than that:
# 73% of the time. So random disagreement puts the ceiling on agreement *with a labeler* somewhere between 73% and 84%. Agreement with the
# *truth* can be higher still if the labelers' errors are independent.
#
# Let's try it. In the world of nine replies, a judge follows Bradley-Terry and is hardly better than a coin: on average over all pairs, it prefers the reply with the higher true reward in only 60% of cases. In half of the trials, that is its only fault. In the other half, it also adds 0.6 to the reward of every reply that begins with `b`, a taste that all judges share.
#
# **Predict first.** What share of the 36 pairs will a reward model put in the right order after 100, 1,000 and 10,000 such judgments, with and without the shared taste?

# %%
pair = torch.combinations(torch.arange(9))
taste = torch.tensor([0.6 * (reply[0] == "b") for reply in replies])


def fitted(won, lost):
    """The nine rewards that fit the judgements best."""
    weights = torch.zeros(9, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.1)
    wins = torch.bincount(9 * won + lost, minlength=81) / len(won)
    for _ in range(200):
        loss = losses.bradley_terry_loss(weights.repeat_interleave(9), weights.repeat(9))
        optimizer.zero_grad()
        (wins * loss).sum().backward()
        optimizer.step()
    return weights.detach()


def in_order(rewards):
    """The share of pairs that the rewards put in the same order as the true ones."""
    left, right = pair.T
    return float(((rewards[left] - rewards[right]) * (r[left] - r[right]) > 0).float().mean())


def trial(n, bias, seed):
    draw = torch.Generator().manual_seed(seed)
    return in_order(fitted(*nine.comparisons(n, draw, rewards=r + bias)))


trials = pd.DataFrame(
    {"judgements": n, "judges": judges, "in order": trial(n, bias, seed)}
    for n in (100, 1000, 10_000)
    for judges, bias in (("independent errors", 0 * taste), ("a shared taste", taste))
    for seed in range(10)
)
trials.groupby(["judges", "judgements"])["in order"].agg(["mean", "min", "max"]).round(2)

# %% [markdown]
# With independent errors, the reward model far outperforms its judges. Each individual judgment is right only 60% of the time, but the errors average out: the model orders 77% of the pairs correctly after 100 judgments, 90% after 1,000 and 99% after 10,000 (means over ten draws). The shared taste doesn't average out, because the model learns it as well. With it, the model gets only 69%, 72% and 78% of the pairs right. The true rewards with the taste added put exactly 28 of the 36 pairs (78%) in the right order, and more judgments only bring the model closer to that.
#
# So the reward model isn't limited by the accuracy of its judges. It is limited by their *shared* errors. If most labelers prefer longer answers, the reward model learns to prefer longer answers too, and more labels make it more certain of that.

# %% [markdown]
# <a id="section-12" name="section-12"></a>
# ## Deeper: the reward model's loss by hand (section 12)
#
# ### Exercise 4.2 · about 5 minutes · easy
#
# Given two tensors of rewards, each of shape `(B,)`, return the loss of each pair, also of shape `(B,)`.
#
# <details><summary>Hint 1</summary>
#
# Section 2 has the formula. Only the difference between the two rewards matters, and the loss falls as that difference grows.
#
# </details>
# <details><summary>Hint 2: the loss is infinite</summary>
#
# If you take `sigmoid` first and then `log`, the sigmoid is rounded to 0 when the model is very wrong, and the log becomes infinite. Is there a function in `torch.nn.functional` that does both in one step?
#
# </details>


# %%
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
both = [bradley_terry_loss(ours + shift, theirs + shift) for shift in (0, 100)]
[[round(value, 3) for value in loss.tolist()] for loss in both]

# %% [markdown]
# Nothing happens: only differences count, as section 2 said.

# %% [markdown]
# <a id="section-13" name="section-13"></a>
# ## Deeper: credit and the clip (section 13)
#
# **Where does the gradient come from?** The expected score is a sum over replies, $\sum_y \pi(y)\, r(y)$, and only $\pi$ depends on the weights. Because $\nabla \log \pi = \nabla \pi / \pi$, we can write $\nabla \pi = \pi\, \nabla \log \pi$, which turns the gradient into an expectation that samples can estimate:
#
# $$\nabla \sum_y \pi(y)\, r(y) = \sum_y \pi(y)\, r(y)\, \nabla \log \pi(y) = \mathbb{E}_{y \sim \pi}[r(y)\, \nabla \log \pi(y)]$$
#
# You can subtract any constant $b$ from the score, because $\mathbb{E}[b\, \nabla \log \pi(y)] = b\, \nabla \sum_y \pi(y) = b\, \nabla 1 = 0$. That changes nothing on average, but a good $b$ can remove much of the noise. The critic is such a
# baseline: it gives a value for every token, and what remains of the score after subtracting that value is the advantage.
#
# **Which token deserves the credit?** Before each token, the critic $V$ predicts the reward that is still to come. Generalized advantage estimation ([GAE, 2015](https://arxiv.org/abs/1506.02438)) measures the surprise of each token: what the token earned plus what the critic expects after it, minus what the critic expected before it. With a discount factor $\gamma$ (1 in RLHF), the surprise is $\delta_t$, and the advantage $A_t$ of a token adds up its own surprise and all later ones, with weights that decrease with the distance:
#
# $$\delta_t = R_t + \gamma V_{t+1} - V_t, \qquad A_t = \delta_t + \gamma \lambda A_{t+1}$$

# %% [markdown]
# ### Exercise 4.3 · about 15 minutes · medium
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
    credit = gae(score, guess, torch.ones(1, 3), gamma=1.0, lam=lam)
    print(lam, [round(advantage, 2) for advantage in credit[0].tolist()])

# %% [markdown]
# With $\lambda = 0$, the second token gets all the blame: −0.7, the drop in the critic's prediction. With $\lambda = 1$, no token is blamed, because the final score of 1 is better than every prediction along the way.
#
# So $\lambda$ decides how much you trust the critic. With $\lambda = 0$, the advantages have little noise, but they are wrong wherever the critic is wrong. With $\lambda = 1$, every token is judged by what actually happened. There is no bias from the critic, but a lot of noise, because the score depends on all the tokens that follow. The usual choice in RLHF is 0.95, and we use it too.
#
# **How much can you learn from one batch?** Sampling is expensive, so PPO takes several gradient steps on the same replies. After the first step, the policy is no longer the one that sampled them. The ratio $\rho_t = \pi(y_t) / \pi_\text{old}(y_t)$
# corrects for that at each token. (The ratio ignores the fact that the new policy would also reach other prefixes, so it is reliable only as long as the two policies stay close.) Once the ratio has left the range from $1 - \epsilon$ to $1 + \epsilon$ in the desired direction, the clip removes the incentive to move it further:
#
# $$\mathcal{L}_t = -\min\big(\rho_t A_t, \; \operatorname{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon) A_t\big)$$
#
# ### Exercise 4.4 · about 10 minutes · medium
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
# Here are four tokens. Two have become one and a half times as likely since they were sampled, and the other two only half as likely. In each of these two pairs, one token was good and one was bad:

# %%
# NBVAL_CHECK_OUTPUT
ratio, advantage = torch.tensor([[1.5, 1.5, 0.5, 0.5]]), torch.tensor([[1.0, -1.0, 1.0, -1.0]])
logps = ratio.log().requires_grad_()
loss, clipped = clipped_policy_loss(logps, torch.zeros(1, 4), advantage)
loss.sum().backward()
tried = {"ratio": ratio, "advantage": advantage, "clipped": clipped, "gradient": logps.grad}
pd.DataFrame({name: value[0].tolist() for name, value in tried.items()}).round(2)

# %% [markdown]
# The clip removes the gradient of a token only if its probability has already moved far in the *right* direction. Here, that is the good token that is now 1.5 times as likely and the bad one that is now half as likely. The other two moved in the wrong direction, so they keep their gradient
# and can come back.
#
# > **The roadmap says** GRPO has no PPO-style clipping. **The evidence says** that GRPO has this very term in its objective ([eq. 3](https://arxiv.org/abs/2402.03300)). What it drops is the critic, as you will see in week 7.
#
# This is the PPO step in `postlab.scratch.ppo`, which trained the policy in section 3. It now calls your `gae`, and its helper `_losses`, which computes the two losses of a minibatch, calls your `clipped_policy_loss`.

# %%
import inspect

ppo.gae, ppo.clipped_policy_loss = gae, clipped_policy_loss
print(inspect.getsource(ppo.ppo_step).split('"""')[2].strip("\n"))

# %% [markdown]
# Four details of this code are worth knowing, although you don't need them in the step that you write. The advantages are *whitened* (shifted and scaled to mean 0 and variance 1), so that the size of a step doesn't depend on the scale of the rewards. The
# batch is split into minibatches. Gradients are clipped to a norm of 1, so that one odd
# batch can't do much damage. Finally, `_losses` also clips the critic's loss: moving a prediction by more than 0.2 in one step earns nothing. In other respects the code is simpler than InstructGPT's. For example, our critic is one linear layer on the policy's hidden states, while theirs was a separate 6B model, and we use no pretraining term.

# %% [markdown]
# <a id="section-14" name="section-14"></a>
# ## Deeper: DPO's gradient (section 14)
#
# Write $u = \hat r_c - \hat r_r$ for the difference of the implicit rewards. The loss is $-\log \sigma(u)$. The derivative of $\sigma(u)$ is $\sigma(u)\, \sigma(-u)$, so the chain rule gives $-\frac{1}{\sigma(u)}\, \sigma(u)\, \sigma(-u) = -\sigma(-u)$. The reference is constant, so the gradient of $u$ is $\beta\, [\nabla \log \pi_\theta(y_c) - \nabla \log \pi_\theta(y_r)]$. Multiply the two:
#
# $$\nabla \mathcal{L} = -\beta\, \sigma(\hat r_r - \hat r_c)\, [\nabla \log \pi_\theta(y_c) - \nabla \log \pi_\theta(y_r)]$$
#
# So a training step pushes the chosen reply up and the rejected one down. Because the two replies share the network's weights, a small step is guaranteed only to raise the *difference* between them ([section 16](#section-16)). The factor $\sigma(\hat r_r - \hat r_c)$ is large if the implicit rewards still rank the pair wrongly. The next cell compares the formula with autograd for three pairs:

# %%
# NBVAL_CHECK_OUTPUT
policy_chosen = torch.full((3,), -5.0, requires_grad=True)
ref_chosen, five = torch.tensor([-5.0, -9.0, -1.0]), torch.full((3,), -5.0)
old = {"policy_rejected": five, "ref_chosen": ref_chosen, "ref_rejected": five}
dpo_loss(policy_chosen=policy_chosen, **old, beta=0.5).sum().backward()
formula = -0.5 * torch.sigmoid(-0.5 * (five - ref_chosen))
pd.DataFrame({"autograd": policy_chosen.grad, "formula": formula}).round(3)

# %% [markdown]
# The first pair is undecided, so its weight is 0.25, half of the largest possible weight, $\beta = 0.5$. The second pair is already ranked correctly, so its weight is small (0.06). The third is ranked wrongly and gets nearly the full weight (0.44).
#
# Note what the gradient does *not* contain: no other replies to the prompt, no samples from the policy, and no critic.

# %% [markdown]
# <a id="section-15" name="section-15"></a>
# ## Deeper: replies that no pair contains (section 15)
#
# The proof that RLHF and DPO have the same optimum assumes that the compared pairs connect all replies. What happens if they don't? In the next run, nobody has ever compared `cc` with another reply.

# %%
cc = replies.index("cc")
part = {"ref": ref, "optimum": optimum, "dpo": by_dpo([pair for pair in pairs if cc not in pair])}
title = f"If no pair contains cc, DPO gives it {part['dpo'][cc]:.0%} and not {optimum[cc]:.0%}"
week04.plot_bandit(pd.DataFrame(part, index=replies), title)

# %% [markdown]
# DPO gives `cc` 4% instead of 21%. Nothing in its loss says how likely `cc` should be, because no pair contains any information about its reward. The probability of `cc` is just a side effect of what happens to the other eight replies. A reward
# model trained on the same pairs wouldn't know the reward of `cc` either. The difference is that RLHF samples: the policy produces `cc` now and then, and if you show these samples to a labeler or a verifier, you find out how good `cc` is.

# %% [markdown]
# <a id="section-16" name="section-16"></a>
# ## Deeper: where DPO's probability goes (section 16)
#
# Now train DPO here, on the 200 pairs that trained the reward model, and compare it with the PPO policy of section 3. This is a comparison of *how* the two change the policy, not of which is better: PPO ran with $\beta = 1$, and this run uses $\beta = 0.1$, the usual value for DPO in practice.


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
# For each held-out pair we compute the probability of the chosen reply and of the rejected one. The rest of the probability belongs to all other replies.
#
# **Predict first.** DPO makes the rejected reply less likely, but the probability that it loses doesn't have to go to the chosen reply. In which of the three families will the chosen replies become more likely?


# %% tags=["shared"]
@torch.no_grad()
def support(model, rows):
    """Mean probability of the chosen and of the rejected reply, by family."""
    given = pd.DataFrame({"metric": [METRICS[row["family"]] for row in rows]})
    for name, side in zip(("chosen", "rejected"), both_sides(rows), strict=True):
        given[name] = reply_logps(model, side).exp().tolist()
    return given.groupby("metric").mean().reset_index()


# %%
models = {"sft": sft, "ppo": policy, "dpo": direct}
likely = pd.concat([support(model, held_out[:150]).assign(method=m) for m, model in models.items()])
other = 1 - likely.groupby("method", sort=False)[["chosen", "rejected"]].mean().sum(axis=1)
shares = ", ".join(f"{share:.0%} ({method.upper()})" for method, share in other.items())
week04.plot_support(
    likely, f"Probability of replies that are neither chosen nor rejected: {shares}"
)

# %% [markdown]
# DPO removes nearly all the probability from the rejected replies, more than PPO does. Where does it go? For honesty, the chosen replies rise from 49% to 94%, but mostly at the expense of *other* replies: the rejected ones had only about 3% to lose. For safety, the probability goes to other replies, which grow from 6% to 65%, while the chosen replies *fall* from 42% to 35%. For helpfulness, the chosen replies fall from 81% to 53%. The loss asks only for a larger *difference* between the two, and that difference grows even if both fall, as long as the rejected reply falls further. What does the model say instead? Look at the replies to unsafe requests that are furthest from the SFT model:

# %%
strange = straight[straight["family"] == "unsafe"].sort_values("kl", ascending=False)
strange[["prompt", "answer", "gold"]].head(5)

# %% [markdown]
# They begin like a refusal and continue with nonsense, or with the steps of some task. No pair contained such replies, so DPO's loss never saw them. (The oracle accepts most of them as refusals: it only asks whether a reply refuses and doesn't give the steps that were asked for.)
#
# PPO samples its replies, so it gets a score for whatever it says, and strange replies like these are corrected if the reward model dislikes them. PPO's weak point is the reward model and its faults. Week 5 adds a likelihood term to DPO's loss, which keeps the chosen replies likely.
#
# What did the two runs in this notebook cost on this machine? PPO ran for 16 steps and DPO for 50, so the seconds don't compare the methods step by step.

# %%
bill = {
    "labelled pairs": [len(rows), len(rows)],
    "replies sampled": [len(log) * settings["batch_size"], 0],
    "models held": ["policy, critic, reference, reward model", "policy, reference"],
    "seconds": [round(ppo_seconds), round(dpo_seconds)],
}
pd.DataFrame(bill, index=["PPO", "DPO"]).T

# %% [markdown]
# <a id="section-17" name="section-17"></a>
# ## Deeper: quality against KL (section 17)
#
# The next figure shows all the recorded runs of section 4 and the DPO runs on the same pairs, with a dot for every measurement during training.

# %%
near = curves[curves["kl"].between(1, 3)].groupby("method")["gold"].mean()
title = f"Between 1 and 3 nats of KL, {near['dpo']:.0%} of DPO's replies are right and {near['ppo']:.0%} of PPO's"
week04.plot_frontier(curves, title)

# %% [markdown]
# What does this figure show? Because the betas differ, don't compare PPO's final points with DPO's. Compare points at the *same KL* instead. Between 1 and 3 nats, where both methods have many points, the two clouds overlap and their means are equal to within one percentage point. Below half a nat, PPO's points lie higher, and from 3 to 5 nats, DPO's do. But PPO has few points in these two ranges, and the points of one run depend on each other. (Some PPO points even stand for three runs: in the first step, $\beta$ makes no difference.)
# So these runs don't show that either method is better at the same KL. (Section 8 compares them at the same $\beta$.)
#
# The difference is where they end up. DPO's points never go beyond 5 nats. The PPO runs with a small $\beta$ are at their best at a KL below 1 nat. By about 4 nats, they have lost everything they had gained, and they end between 13 and 124 nats without a single right reply. With $\beta = 0.1$, each DPO run ends at its own best value, between 78% and 82%. With $\beta = 0.5$, the runs peak earlier and end at 60% to 78%. PPO's best single measurement is just as good (81%), but it comes after the first step, and you'd need the oracle to know when to stop.

# %% [markdown]
# <a id="section-18" name="section-18"></a>
# ## Deeper: the bill, and what large labs do (section 18)
#
# Where does the time in a PPO step go?

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
# We can also calculate the memory needed by four 7B models. A trained parameter needs 16 bytes: bf16 weights and gradients, fp32 master weights, and Adam's two moments. A frozen parameter needs 2 bytes.

# %%
# NBVAL_CHECK_OUTPUT
trained, frozen, billions = 16, 2, 7
ppo_gb = billions * (2 * trained + 2 * frozen)  # policy and critic; reference and reward model
dpo_gb = billions * (trained + frozen)  # policy; reference
{"PPO": f"{ppo_gb} GB", "DPO": f"{dpo_gb} GB", "for": "a 7B, before activations"}

# %% [markdown]
# PPO needs twice as much memory as DPO. LoRA removes most of this cost: only the adapters are trained, and you get the reference by switching the policy's adapter off.
#
# **How the large labs combine them**, according to their own papers:
#
# | | recipe |
# |---|---|
# | InstructGPT | SFT, reward model, PPO with a KL penalty; a pretraining term limits the losses on public benchmarks |
# | [Llama 3](https://arxiv.org/abs/2407.21783) | six rounds of reward model, rejection sampling, SFT and DPO on fresh pairs; DPO needed less compute than PPO and did better; an NLL term on the chosen replies |
# | [Tülu 3](https://arxiv.org/abs/2411.15124) | SFT, length-normalized DPO with on-policy pairs, PPO against verifiers (RLVR) |
# | [DeepSeek-R1](https://arxiv.org/abs/2501.12948) | SFT on a few thousand long solutions (the cold start); GRPO with rule-based rewards, no neural reward model for reasoning because of reward hacking; SFT on its best samples; RL again, with reward models for helpfulness and harmlessness |
# | [Qwen3](https://arxiv.org/abs/2505.09388) | SFT on long reasoning, GRPO with verifiers, SFT to combine thinking and non-thinking modes, general RL; small models are distilled |
#
# The three newest recipes have something in common. Where answers can be checked, they use on-policy RL with a verifier; where the answer is a matter of taste, they learn from preferences, either directly from pairs (Tülu 3) or through reward models (R1 and Qwen3).
