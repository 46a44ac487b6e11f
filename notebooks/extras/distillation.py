# %% [markdown]
# # Extra · On-policy distillation: a teacher that scores every token
#
# In week 7, GRPO learned from one number per answer: right or wrong. A verifier can't say more than that. A teacher model can say more, because it assigns a probability to every token. In **on-policy distillation**, the student writes the answers, as in RL, and the teacher scores every token of them, as in supervised learning. Several of today's small open models were trained this way with the help of larger ones. The Qwen3 report ([2505.09388](https://arxiv.org/abs/2505.09388)) describes the method for the smaller Qwen3 models, and a blog post by Thinking Machines in October 2025 made it popular.
#
# By the end you can explain
#
# - what changes when the student writes and the teacher scores, and how much compute that takes,
# - the loss, in a version of about twenty lines that agrees with TRL's `DistillationTrainer` in value and gradient,
# - how a teacher's dense signal compares with a sparse reward at equal tokens and at equal compute, over five seeds,
# - what a student forgets on the way, and whether its own earlier checkpoint can teach it again.
#
# What our tiny model shows is *mechanism, not capability*. Nothing here ran on a GPU.

# %% tags=["setup"]
import importlib.metadata
import subprocess
import sys
from pathlib import Path

if not any(importlib.metadata.distributions(name="postlab")):
    # From the clone around this notebook, a wheel or zip (`make release`) beside it, or GitHub.
    clones = [p for p in (Path("../.."), Path()) if (p / "postlab" / "install.py").exists()]
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

lab = postlab.start()

# %% [markdown]
# ## 1. Who writes, and who scores?
#
# Three methods learn from the same prompts. They differ in who writes the answer and in how detailed the feedback on it is:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.extras import draw_who_scores

draw_who_scores()

# %% [markdown]
# SFT on a teacher's answers gives a dense signal, but the student only ever sees prefixes that the *teacher* wrote. When the student makes a mistake of its own, it ends up in a state that it never saw in training. This problem is called exposure bias, and on long answers, the errors compound. With GRPO, the student learns from its own answers, but each answer earns only a single number. On-policy distillation combines the advantages of both: it uses the student's own answers and gives a signal for each token.
#
# Our student is the model from week 3 (`sft`), and the teacher is the same model after the training in weeks 5 and 7 (`grpo`). We train on sums of three numbers. The student gets almost none of them right, because it states a result without working it out. The teacher gets nearly all of them right. This is the hard case for a sparse reward: if no answer in a group is right, the policy has nothing to learn from. On a GPU, you can use the same cells: set `place = lab` for stages that you trained yourself, or load any student and teacher that share a tokenizer.

# %%
import pandas as pd
import torch

from postlab.datasets import math_rows
from postlab.models import load_policy, trainable
from postlab.profile import get_profile

place = postlab.Lab(get_profile("tiny"), seed=0)  # `place = lab` for your own stages
profile = place.profile


def short(rows):
    """The sums of three numbers; rows of other profiles stay as they are."""
    tiny = profile.grpo.source == "tinyworld"
    return [r for r in rows if not tiny or r["prompt"][-1]["content"].count("+") == 2]


def load(stage):
    return load_policy(place.checkpoint(stage), profile=profile.name, bits=32)


(student, tokenizer), (teacher, _) = load("sft"), load("grpo")
rows = short(math_rows(profile.grpo.source, split="train", n=900, seed=lab.seed))
rows[0]["prompt"][-1]["content"], rows[0]["answer"]

# %% [markdown]
# ## 2. The teacher reads one answer
#
# We let the student answer sums until it gets one wrong. Then both models read that answer, and at each position we compare their distributions over the next token. We measure the distance with the **reverse KL**. It averages, over tokens drawn from the student, how much lower the teacher's log-probability is than the student's:
#
# $$\mathrm{KL}(\pi_S \,\|\, \pi_T) = \sum_v \pi_S(v) \log \frac{\pi_S(v)}{\pi_T(v)}$$
#
# **Predict first.** The student's usual mistake is to state a number without working out the sum. At which token will the teacher object?

# %%
from postlab.course.extras import plot_verdict
from postlab.rewards import math_reward
from postlab.sampling import render, reply

for row in rows:
    text = reply(student, tokenizer, row["prompt"][-1]["content"])
    if math_reward([text], answer=[row["answer"]]) == [0.0]:
        break


def token_kls(prompt, answer):
    """The answer's tokens, and KL(student || teacher) in nats at each of them."""
    start = tokenizer(render(tokenizer, prompt), add_special_tokens=False)["input_ids"]
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    inputs = torch.tensor([start + ids], device=student.device)
    with torch.no_grad():
        s, t = (
            m(inputs).logits[0, len(start) - 1 : -1].log_softmax(-1) for m in (student, teacher)
        )
    return [tokenizer.decode([i]) for i in ids], (s.exp() * (s - t)).sum(-1).tolist()


print(row["prompt"][-1]["content"], "->", text)
plot_verdict(*token_kls(row["prompt"], text))

# %% [markdown]
# The teacher objects at the token that decides the outcome: the first one, where it would have started to work out the sum. It objects much less to the number itself, because without intermediate steps, the teacher doesn't know the number either. A verifier would have given all these tokens the same reward.
#
# ## 3. The loss
#
# The loss is this KL, averaged over the tokens of the student's answers. No gradient flows through the sampling: the loss treats the answers as fixed and only pulls the two distributions together at each position. This is a simplification. An early token changes which later states the student will visit, and the loss ignores this effect. In that sense, the loss is greedy, which is one reason why training with it is so stable.
#
# TRL's `beta` selects the divergence. (It has nothing to do with GRPO's `beta`.) A value of 1 gives the reverse KL, 0 gives the **forward KL** $\mathrm{KL}(\pi_T \| \pi_S)$, and values in between give a generalized Jensen-Shannon divergence (GKD, [2306.13649](https://arxiv.org/abs/2306.13649)).


# %%
def distillation_loss(student_logits, teacher_logits, mask, beta):
    """Generalised JSD per token in nats, averaged over the answer tokens of the batch.

    student_logits, teacher_logits: (B, T, V); mask: (B, T), 1 on answer tokens.
    beta: 1 for KL(student || teacher), 0 for KL(teacher || student).
    """
    s, t = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    if beta == 1.0:
        divergence = (s.exp() * (s - t)).sum(-1)  # (B, T), over the whole vocabulary
    elif beta == 0.0:
        divergence = (t.exp() * (t - s)).sum(-1)
    else:
        weights = torch.tensor([1 - beta, beta], device=s.device).log()
        m = torch.logsumexp(torch.stack([s + weights[0], t + weights[1]]), dim=0)
        divergence = beta * (t.exp() * (t - m)).sum(-1) + (1 - beta) * (s.exp() * (s - m)).sum(-1)
    return (divergence * mask).sum() / mask.sum()


# %% [markdown]
# Does this loss match TRL's? In the next cell, `DistillationTrainer` samples a batch, and we compute both losses on it. `sample_with_engine` only makes sampling faster on a CPU. On a GPU, it changes nothing.

# %%
import tempfile
from dataclasses import fields

from datasets import Dataset
from transformers import PrinterCallback
from trl import DistillationConfig, DistillationTrainer

from postlab.sampling import sample_with_engine

known = {field.name for field in fields(DistillationConfig)} - {"beta"}
shared = {name: value for name, value in profile.grpo.trainer.items() if name in known}


def distiller(model, teacher, rows, callbacks=(), **settings):
    folder = tempfile.mkdtemp()  # nothing is saved there
    trainer = DistillationTrainer(
        model=model,
        teacher_model=teacher,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in rows]),
        callbacks=list(callbacks),
        args=DistillationConfig(
            **shared | {"output_dir": folder, "seed": lab.seed, "save_strategy": "no"} | settings
        ),
    )
    trainer.remove_callback(PrinterCallback)
    return sample_with_engine(trainer)


trainer = distiller(trainable(student), teacher, rows, per_device_train_batch_size=16)
batch = trainer._prepare_inputs([{"prompt": row["prompt"]} for row in rows[:16]])


def logits(model):
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    keep = batch["completion_ids"].shape[1] + 1
    return model(input_ids=ids, attention_mask=seen, logits_to_keep=keep).logits[:, :-1]


weights = [p for p in trainer.model.parameters() if p.requires_grad]
table = []
for name, beta in {"reverse KL": 1.0, "forward KL": 0.0, "JSD": 0.5}.items():
    trainer.beta = beta
    theirs = trainer.compute_loss(trainer.model, batch)
    with torch.no_grad():
        target = logits(teacher)
    ours = distillation_loss(logits(trainer.model), target, batch["completion_mask"], beta)
    gaps = [
        (a - b).abs().max().item()
        for a, b in zip(*(torch.autograd.grad(x, weights) for x in (theirs, ours)), strict=True)
    ]
    table.append(
        {"divergence": name, "TRL": theirs.item(), "ours": ours.item(), "gradient": max(gaps)}
    )
frame = pd.DataFrame(table).set_index("divergence")
assert (frame["TRL"] - frame["ours"]).abs().max() < 1e-5 and frame["gradient"].max() < 1e-5
frame.rename(columns={"gradient": "largest difference of a gradient"})

# %% [markdown]
# The losses agree up to rounding, and their gradients are identical.
#
# ### Exercise · about 15 minutes · medium
#
# `DistillationTrainer` needs the teacher's distribution over the whole vocabulary, so the teacher has to be in memory. A teacher on a server returns only a few log-probabilities for each position: that of the sampled token and those of the most likely tokens. The Thinking Machines recipe needs only the first of these: it's a policy gradient with the advantage $\log \pi_T(y_t) - \log \pi_S(y_t)$ for each token.
#
# Write this loss. `own` and `teachers` are the log-probabilities of the sampled tokens, both `(B, T)`. Only `own` carries a gradient, and the advantage must be treated as a constant.
#
# <details><summary>Hint</summary>
#
# The loss has the same form as in exercise 7.3, with an advantage for every token instead of every answer. What happens to the gradient if you forget `detach()`?
#
# </details>


# %%
def one_token_loss(own, teachers, mask):
    raise NotImplementedError


# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def one_token_loss(own, teachers, mask):
#     advantages = (teachers - own).detach()
#     return -(advantages * own * mask).sum() / mask.sum()
# ```
#
# </details>
#
# The check needs no sampling. With a vocabulary of five tokens, we can compute the expected gradient exactly by weighting the gradient for each possible token by its probability. It should equal the gradient of the full reverse KL.


# %%
def reference(own, teachers, mask):
    return -((teachers - own).detach() * own * mask).sum() / mask.sum()


def expected_gradient(loss):
    generator = torch.Generator().manual_seed(0)
    z, target = (torch.randn(5, generator=generator) for _ in range(2))
    z.requires_grad_()
    one, total = torch.ones(1, 1), torch.zeros(5)
    for v, probability in enumerate(z.detach().softmax(0)):
        own, theirs = z.log_softmax(0)[v], target.log_softmax(0)[v]
        total += (
            probability * torch.autograd.grad(loss(own.view(1, 1), theirs.view(1, 1), one), z)[0]
        )
    kl = distillation_loss(z.view(1, 1, 5), target.view(1, 1, 5), one, 1.0)
    return total, torch.autograd.grad(kl, z)[0]


try:
    got, full = expected_gradient(one_token_loss)
    right = torch.allclose(got, full, atol=1e-5)
    print(
        "Right: on average, one token gives the gradient of the full KL."
        if right
        else "Not yet: the expected gradient differs from the full KL's. Is the advantage detached, and is the sign right?"
    )
except NotImplementedError:
    print("Not attempted: the reference takes over.")
except Exception as error:
    print(f"Your loss raised {type(error).__name__}: {error}")
got, full = expected_gradient(reference)
[round(value, 4) for value in got.tolist()], [round(value, 4) for value in full.tolist()]

# %% [markdown]
# So if the current student wrote the answers, the sampled token gives an unbiased estimate of the gradient at each position. Using the full vocabulary removes the variance of this estimate. How much this helps depends on what has to be learned: section 6 has an example in which it helps a lot. There's a second difference if a batch is reused after an update: the full KL at a position stays exact, but the one-token loss then needs an importance ratio.
#
# **A teacher on a server, in TRL.** The experimental [`ServerDistillationTrainer`](https://github.com/huggingface/trl/blob/v1.14.2/trl/experimental/server_distillation/server_distillation_config.py) sends the student's answers to a vLLM server (`teacher_model_server_url`), which returns the teacher's log-probabilities. It sends token ids, so the student and the teacher must share a tokenizer. For the forward KL (`beta=0`), you choose how many of the teacher's most likely tokens the loss compares (`loss_top_k`), and the rest of the probability goes into a single *tail*. Every other `beta` requires `loss_top_k=1`. With `beta=1`, the loss then sees only two buckets: the sampled token and the tail. Is the gradient of this loss still right on average?


# %%
# NBVAL_CHECK_OUTPUT
def two_buckets(own, teachers, mask):
    """KL(student || teacher) over the sampled token and the tail, as with `beta=1` on a server."""
    rest, teachers_rest = torch.log(-torch.expm1(own)), torch.log(-torch.expm1(teachers))
    kl = own.exp() * (own - teachers) + rest.exp() * (rest - teachers_rest)
    return (kl * mask).sum() / mask.sum()


got, full = expected_gradient(two_buckets)
[round(value, 4) for value in got.tolist()], [round(value, 4) for value in full.tolist()]

# %% [markdown]
# No, it isn't. The signs agree, but the sizes differ, because merging all other tokens into one bucket hides how the two models differ on them. (If you remove the tail with `loss_add_tail=False`, the loss with `beta=1` is always 0, because a single token then always has a probability of 1.) For the policy gradient from the exercise, use the experimental [`IWOPDTrainer`](https://huggingface.co/docs/trl/iw_opd_trainer), which also accepts a server but is no longer actively maintained. With `iw_opd_gamma=0`, all tokens have the same weight, as in your loss.
#
# ## 4. Train it
#
# We train for eight steps with eight answers each. The learning rate is the one selected in the recorded experiment below. During training, the callback `LiveView` plots the loss, the length of the answers, their entropy and the gradient norm below the cell, and shows what the doctor from week 8 finds in the log. A run of half a minute doesn't need such a view, but you can use it in the same way to watch a run of many hours on a GPU.
#
# **Predict first.** In week 7, nearly all sums were right after GRPO's 40 steps of 64 answers. How many will be right after eight steps of 8 answers?

# %%
import json

from postlab.evals import evaluate
from postlab.profile import data_dir
from postlab.show import LiveView
from postlab.tinyworld.tasks import heldout_suite

recorded = json.loads((data_dir() / "results" / "extras" / "distillation.json").read_text("utf-8"))
sums = short([row for row in heldout_suite(n=200) if row["family"] == "arithmetic"])[:40]
before = evaluate(student, tokenizer, sums)["arithmetic"].mean()
trainer = distiller(
    trainable(student), teacher, rows, per_device_train_batch_size=8, max_steps=8, beta=1.0,
    learning_rate=recorded["chosen"]["reverse KL"], lr_scheduler_type="constant",
    callbacks=[LiveView("distillation")],
)  # fmt: skip
trainer.train()
after = evaluate(trainer.model.eval(), tokenizer, sums)["arithmetic"].mean()
print(f"held-out sums right: {before:.0%} before, {after:.0%} after 64 answers (one seed, 40 sums)")

# %% [markdown]
# The curves show when the student changed. In the first batch, the answers are still 4 tokens long on average, and the loss is 0.52 nats per token. From the second batch on, the answers are 21 to 23 tokens long, because the student now works the sums out, and the loss stays below 0.01. So nearly all of the change came from the first update, on eight answers.
#
# ## 5. Sparse versus dense, at equal tokens and at equal compute
#
# The recorded experiment has three arms: GRPO with the verifier (two prompts, four answers each), distillation with the reverse KL, and distillation with the forward KL. Each arm is trained with five seeds, on eight answers per step. For each arm, we chose the better of the same two learning rates, using one tuning seed and held-out prompts that the results don't use. Seeds 3 and 4 were added in a second session:

# %%
origins = {"recorded": recorded["provenance"], "earlier seeds": recorded["earlier"][0]}
pd.DataFrame(origins).map(str)

# %%
tuning = pd.DataFrame(recorded["tuning"]).pivot(index="arm", columns="rate", values="score")
tuning.round(2)

# %% [markdown]
# The score is the mean accuracy over the measured steps, so it rewards learning early.
#
# 'Equal' can mean two things. *Tokens* counts the completion tokens that the student wrote and was trained on. *Compute* counts every token that passes through a model: once when it's sampled, three times when it's trained on (a backward pass costs about as much as two forward passes), and once more if a teacher reads it. Our teacher is as small as the student. If the teacher were ten times larger, reading an answer would cost ten times as much, and the dense signal would be more expensive.

# %%
from postlab.course.extras import plot_curves

start = recorded["stages"]["sft"]
at_start = sum(start["arithmetic"]) / len(start["arithmetic"])
points = []
for run in recorded["runs"]:
    curve, name = run["curve"], {"arm": run["arm"], "seed": run["seed"]}
    points.append(name | {"step": 0, "tokens": 0.0, "passes": 0.0, "accuracy": at_start})
    for i, step in enumerate(curve["step"]):
        costs = {unit: curve[unit][i] / 1000 for unit in ("tokens", "passes")}
        accuracy = sum(curve["right"][i]) / len(curve["right"][i])
        points.append(name | costs | {"step": step, "accuracy": accuracy})
plot_curves(pd.DataFrame(points))

# %% [markdown]
# After the very first distillation step, on eight of its own answers, the student works the sums out: for all five seeds, at least 93% of the held-out sums are right. GRPO gets there as well, but how soon depends on luck. For two seeds, its first batch already contained enough right answers: after one step, 93% and 88% of the held-out sums are right. For the other three seeds, it takes two, four and six steps to pass 90%, and the slowest run makes no progress in its first four steps.
#
# At the start, only 3% of the greedy answers are right. Answers sampled at temperature 1, as in GRPO, are right more often. But with only two groups of four per step, it can easily happen that neither group contains a right answer, and such a step teaches the policy nothing. Those steps used few tokens, though, because the student's wrong answers are short.
#
# For every arm, the higher of the two rates was selected, so the best rate may be higher still.
#
# For the test, we summarize each run by one number: its mean accuracy over the budget that all runs have in common. The seed is the unit of analysis, and Holm's method corrects for the three comparisons.

# %%
from postlab.course.extras import mean_until
from postlab.stats import blocked_differences, holm

results = []
for unit, pairs in {
    "tokens": [("reverse KL", "GRPO"), ("reverse KL", "forward KL")],
    "passes": [("reverse KL", "GRPO")],
}.items():
    budget = min(run["curve"][unit][-1] for run in recorded["runs"])
    scores = {arm: [] for arm in recorded["steps"]}
    for run in recorded["runs"]:
        scores[run["arm"]].append(mean_until(run["curve"], at_start, unit=unit, budget=budget))
    for pair, d in zip(pairs, blocked_differences(scores, pairs), strict=True):
        results.append(
            {"comparison": " \N{MINUS SIGN} ".join(pair), "equal": unit, "budget": budget,
             "difference": d.difference, "low": d.low, "high": d.high, "p": d.p}
        )  # fmt: skip
results = pd.DataFrame(results)
results["p, Holm"] = holm(results["p"])
results.round(3)

# %% [markdown]
# Averaged over the budget, distillation with the reverse KL is 6.5 points ahead of GRPO at equal tokens and 9 points ahead at equal compute. Both intervals include zero, so the result is **inconclusive**, even with five seeds. Most of the difference comes from the two seeds for which GRPO took longest. Without a test, you can see that at equal tokens, the five runs with the reverse KL are within 2 points of each other, while the GRPO runs are up to 19 points apart. In these runs, distillation depended much less on luck. There's also a reason why GRPO catches up so soon: the student lacked only one habit, and its sampled answers already showed it now and then.
#
#
# ## 6. When does a dense signal help?
#
# A right-or-wrong reward gives the policy at most one bit of information per answer. How much that matters depends on how many bits the policy needs. In a toy problem, we can count them: the policy has to pick one of K answers, which are equally likely at first, and only one of them is right. Every method samples eight answers per update. With GRPO, the policy learns only whether each answer is right. The other methods have a teacher that gives the right answer a probability of 99%. This teacher either scores the sampled answers (`one token`, your loss from above) or shows its whole distribution (`reverse KL`, `forward KL`). GRPO subtracts the group's mean reward, while your loss has no baseline. So we also try your loss with the mean advantage of the eight answers subtracted (`one token, minus mean`). For each method, we choose the best of the same three learning rates, using a separate seed.
#
# **Predict first.** Which of the five methods will need many more answers than the others for K = 2, and which for K = 128?


# %%
def answers_needed(k, method, rate, seed, runs=20, updates=100):
    """Per run, how many answers are sampled until the right one has 95%."""
    luck = torch.Generator().manual_seed(seed)
    z = torch.zeros(runs, k, requires_grad=True)
    adam = torch.optim.Adam([z], lr=rate)
    target = torch.full((k,), 0.01 / (k - 1)).log()
    target[0] = torch.tensor(0.99).log()  # the right answer is number 0
    needed = torch.full((runs,), 8.0 * updates)
    for update in range(updates):
        logp = z.log_softmax(-1)
        done = (logp[:, 0].exp() > 0.95) & (needed == 8 * updates)
        needed[done] = 8.0 * update
        if (needed < 8 * updates).all():
            break
        picks = torch.multinomial(logp.detach().exp(), 8, replacement=True, generator=luck)
        own = logp.gather(1, picks)
        if method == "GRPO":
            r = (picks == 0).float()
            advantages = (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-4)
            loss = -(advantages * own).mean(1)
        elif method.startswith("one token"):
            advantages = (target[picks] - own).detach()
            if method == "one token, minus mean":
                advantages = advantages - advantages.mean(1, keepdim=True)
            loss = -(advantages * own).mean(1)
        elif method == "reverse KL":
            loss = (logp.exp() * (logp - target)).sum(-1)
        else:
            loss = (target.exp() * (target - logp)).sum(-1)
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
    return needed


toy = []
for k in (2, 16, 128):
    for method in ("GRPO", "one token", "one token, minus mean", "reverse KL", "forward KL"):
        best = min((0.1, 0.3, 1.0), key=lambda r: answers_needed(k, method, r, seed=1).mean())
        median = answers_needed(k, method, best, seed=0).median().item()
        toy.append({"K": k, "method": method, "answers": int(median)})
pd.DataFrame(toy).pivot(index="K", columns="method", values="answers")

# %% [markdown]
# For K = 2, all five methods need 16 answers: the policy needs only one bit, which a reward can supply. For K = 128, GRPO needs 152 answers, and the two methods that use the teacher's whole distribution need 40.
#
# The `one token` loss needs 456 answers. This may surprise you, because on average, its gradient equals that of the reverse KL, as the exercise showed. Most of the difference comes from the missing baseline: if you subtract the mean, 168 answers are enough, about as many as for GRPO. Without a baseline, every sampled wrong answer is pushed down with its full weight. This makes the updates so noisy that the best of the three rates is 0.3; all the other methods do best with 1.
#
# That leaves the gap between 168 and 40. With the `one token` loss, the policy learns only about answers that were sampled. As in GRPO, nothing points to the right answer until it is sampled. So a signal can be dense in two ways. It can be dense over *positions*: every token of an answer has its own score, and for that, the sampled token's log-probability is enough. Or it can be dense over the *vocabulary*, and for that, you need more of the teacher's distribution. This toy problem has a single position, so it shows only the second kind of density. It also has only one right answer, which the policy rarely samples when K is large. In such cases, the second kind helps most. In a language model, a few tokens usually have most of the probability, so a short list of the teacher's most likely tokens may be enough. (In a [check from the Tinker cookbook](https://github.com/thinking-machines-lab/tinker-cookbook/blob/main/tinker_cookbook/recipes/sdft/README.md), 20 tokens did as well as the full vocabulary.)
#
#
# ## 7. Forward or reverse?
#
# The forward KL is low only if the student covers everything the teacher might say. A student that's too small for that spreads its probability too widely and then says things that the teacher never would. The reverse KL is low if the teacher finds everything the student says plausible, so the student may drop what it can't imitate. For this reason, the reverse KL is called mode-seeking, and the authors of MiniLLM ([2306.08543](https://arxiv.org/abs/2306.08543)) recommend it. On samples from the student, the reverse KL has one more advantage: you can estimate it from the sampled tokens alone, as in the exercise.
#
# On our sums, the two divergences behave alike: averaged over the token budget, they differ by 0.6 points (95% interval: −6 to +8). That isn't evidence that the choice doesn't matter in general. Our student was trained from the same base as the teacher and can represent everything that the teacher does, so it doesn't have to drop anything. The forward KL's reputation comes from settings in which the student is much smaller than the teacher.
#
#
# ## 8. What does the student lose?
#
# We distilled only on sums. What happened to the other families of prompts?

# %%
from postlab.course.extras import family_moves, plot_families

moved = []
for arm in recorded["steps"]:
    moved += family_moves(arm, start, [r["others"] for r in recorded["runs"] if r["arm"] == arm])
moved = pd.DataFrame(moved)
moved = moved[moved["metric"] != "over_refusal"]
lost = moved[moved["high"] < 0]
plot_families(
    moved, f"Trained on sums alone: {len(lost)} of {len(moved)} other scores clearly fall"
)

# %% [markdown]
# None of the decreases is conclusive: the intervals in the figure cover the noise from the seeds or from the prompts, whichever is larger, and there are only twenty prompts per family. The pattern is still worth a look. The facts score falls in every arm, by 9 to 13 points on average. With the reverse KL, it falls by 10 to 20 points for every seed, and over the seeds alone, this is significant (−19 to −7, p = 0.04 after Holm's correction for the 15 changes). So on these twenty prompts, the policy did get worse, but we can't tell whether it would on others. GRPO shows the largest changes: helpfulness falls and honesty rises. But GRPO also trained for twelve steps instead of eight, and the learning rates were chosen for fast learning on sums alone, so this isn't a fair comparison of the methods. The teacher is also much safer and more honest than the student, but the student didn't clearly pick up either trait, because the teacher doesn't show them on prompts about sums.
#
#
# ## 9. A model's own earlier checkpoint as the teacher
#
# Forgetting is worse in another setting: a model that has already had safety and honesty training learns something new from a narrow dataset. In our example, we train the week 5 model with SFT on 192 worked sums. Then we distill on prompts from the other families, and the teacher is **the model's own checkpoint from before that SFT**. This needs no labels, no verifier and no larger model: the earlier checkpoint scores the student's own answers. The Thinking Machines post uses the same method to restore a chat model after training on internal documents.
#
# **Predict first.** Will the model still be able to do the sums after this restoration?

# %%
before = recorded["stages"][recorded["forgetting_settings"]["start"]]
runs = recorded["forgetting"]
moved = family_moves("after SFT on sums", before, [run["narrow"] for run in runs])
moved += family_moves("restored by its earlier self", before, [run["restored"] for run in runs])
moved = pd.DataFrame(moved)
moved = moved[moved["metric"] != "over_refusal"]
narrow = moved[moved["arm"] == "after SFT on sums"].set_index("metric")
worst = narrow["points"].idxmin()
after = moved[moved["arm"] != "after SFT on sums"].set_index("metric")
plot_families(
    moved,
    f"{worst.capitalize()}: {narrow.loc[worst, 'points']:+.0f} points after SFT on sums, "
    f"{after.loc[worst, 'points']:+.0f} once the earlier self has taught them again",
)

# %% [markdown]
# After SFT on sums, the model can do the sums, but it gets worse at other things: the facts score falls by 47 points on average (by 10 to 75, depending on the seed), and helpfulness falls by 14 (by 60 for one seed, and not at all for three). Then the model takes twelve distillation steps of eight answers each, with its earlier checkpoint as the teacher. After these, the facts score is 14 points below the start and helpfulness is 5 points below. The facts score didn't improve for two of the five seeds, so its mean gain of 33 points during the restoration is inconclusive, too (−5 to +71). The model can still do the sums: on average, their accuracy doesn't change during the restoration.
#
# With the seed as the unit of analysis, none of these decreases is conclusive. The interval for facts after SFT excludes zero (−84 to −10), but it's one of twelve in the figure, and the p value is 0.02 before Holm's correction and 0.24 after it. The restoration can do harm as well: for one of the five seeds, safety ends 30 points below the start. Another side effect to watch is over-refusal, which isn't in the figure: it ends 5 points above the start (0 to 15), which is also inconclusive. Finally, we didn't tune this recipe: after a gentler SFT, there might have been less to repair.
#
#
# ## 10. When to use it
#
# - **You have a teacher that is better at the task and shares the tokenizer.** Without a teacher, use a verifier. If the teacher has a different tokenizer, you need to align the tokens (TRL's experimental GOLD trainer does this) or fall back on SFT.
# - **The teacher is the ceiling.** Distillation can't make the student better than the teacher that scores it. RL can.
# - **The student must sometimes write something that the teacher understands.** If the student's answers are gibberish, the teacher's distribution at those positions means little. So start with SFT on the teacher's answers, and then distill.
# - **The teacher reads every token.** If the teacher is much larger than the student, this reading is the main cost. Still, reading takes one forward pass over a finished answer, which is far cheaper than sampling from the teacher.
#
# ## 11. Methods since 2025
#
# Since 2025, on-policy distillation has branched out. The methods differ mainly in who the teacher is and in what it sees. All trainers in this table are in `trl.experimental` of TRL 1.14.2, so they may still change:
#
# | method | the teacher | what the teacher sees that the student doesn't | in TRL |
# |---|---|---|---|
# | multi-teacher distillation (MOPD), named in [MiMo-V2-Flash](https://arxiv.org/abs/2601.02780) | one expert per domain; each prompt goes to the expert of its domain | nothing | `AsyncDistillationTrainer` with several `teacher_server_urls` and a column `teacher_id` |
# | OPSD ([2601.18734](https://arxiv.org/abs/2601.18734)) | the model itself | the reference solution | no trainer of its own; in `SDFTTrainer`, you can pass the solution as `privileged_context` |
# | SDFT ([2601.19897](https://arxiv.org/abs/2601.19897)) | the model itself: its initial weights or a moving average | a demonstration | `SDFTTrainer` |
# | SDPO ([2601.20802](https://arxiv.org/abs/2601.20802)) | the model itself: by default a moving average | a successful answer from the same group, or feedback from the environment such as an error message | `SDPOTrainer` |
# | importance-weighted distillation (IW-OPD, [2606.22600](https://arxiv.org/abs/2606.22600)) | a stronger model | nothing, but later tokens count less if the student has already drifted away from the teacher | `IWOPDTrainer` |
# | [GOLD](https://huggingface.co/spaces/HuggingFaceH4/general-on-policy-logit-distillation) | a model with a *different* tokenizer | nothing; tokens are aligned and merged | `GOLDTrainer` with `use_uld_loss=True` |
# | a teacher on a server | any model behind vLLM with the student's tokenizer | nothing | `ServerDistillationTrainer`, with the limits from section 3 |
# | asynchronous distillation | one or more models behind vLLM | nothing; the student's answers may be up to `max_staleness` updates old | `AsyncDistillationTrainer` |
#
# OPSD, SDFT and SDPO need no stronger model: the teacher is better only because it knows more about the task. It's an open question how much this knowledge contributes. In [one study](https://arxiv.org/abs/2608.09228), the teacher was given the solution to a *different* problem, and the results were still competitive with OPSD's. So if you try such a method, include this control.
#
# ### What others report
#
# Our model has only 1.4 million parameters. The following results for much larger models come from the Tinker cookbook. We didn't reproduce them, and the pages don't mention repeated seeds:
#
# | source | model | settings | steps | result |
# |---|---|---|---|---|
# | [distillation](https://github.com/thinking-machines-lab/tinker-cookbook/blob/main/tinker_cookbook/recipes/distillation/README.md), SFT | Qwen3.5-9B-Base (in the command) | OpenThoughts3, LoRA rank 128, rate 1e-3 | 3,000 | about 65% on AIME 2024 |
# | the same, on-policy distillation after the SFT | teacher: Qwen3.5-9B | DeepMath, LoRA rank 128, rate 1e-4, answers of up to 16k tokens | 200 | about 76.7% on AIME 2024 |
# | [SDFT](https://github.com/thinking-machines-lab/tinker-cookbook/blob/main/tinker_cookbook/recipes/sdft/README.md), trained on tool use | Qwen3.5-35B-A3B | LoRA rank 64, rate 5e-4, the teacher's top 20 tokens | not stated | tool use 62% to 66%; science 46.4% to 46.6% |
# | the same, plain SFT | Qwen3.5-35B-A3B | LoRA rank 64, rate 5e-4 | not stated | tool use 62% to 67%; science 46% to 29% |
#
# The last row shows the same problem as section 9: with SFT, the model learns the new task but forgets another one. The result depends on the learning rate, however: with SFT at a rate of 1e-3, the science score falls by 9 points instead of 17. There is also no single factor that converts a learning rate for full fine-tuning into one for LoRA: the cookbook uses a factor of ten for SFT, but only two for on-policy distillation.
#
# ## Reading
#
# | read | for |
# |---|---|
# | Agarwal et al. 2023, *On-Policy Distillation of Language Models* (GKD, [2306.13649](https://arxiv.org/abs/2306.13649)) | the generalized loss that TRL implements, why the student's own samples matter, and its combination with RL |
# | Gu et al. 2023, *MiniLLM* ([2306.08543](https://arxiv.org/abs/2306.08543)) | the case for the reverse KL, as a policy gradient that doesn't ignore the future |
# | Thinking Machines 2025, *On-Policy Distillation* (a blog post) | the recipe that uses only the sampled token's log-probability, its cost compared with RL, and how to restore a model that has forgotten skills |
# | Qwen team 2025, *Qwen3 Technical Report* ([2505.09388](https://arxiv.org/abs/2505.09388)) | how a family of small models is trained: off-policy distillation first, then on-policy distillation, compared with RL |
# | Zhao et al. 2026, *Self-Distilled Reasoner* (OPSD, [2601.18734](https://arxiv.org/abs/2601.18734)) | one model as teacher and student, where only the teacher sees the solution |
# | Hübotter et al. 2026, *Reinforcement Learning via Self-Distillation* (SDPO, [2601.20802](https://arxiv.org/abs/2601.20802)) | how to turn an error message or a successful sibling into a score for every token |
# | Xie et al. 2026, *On the Position Bias of On-Policy Distillation* (IW-OPD, [2606.22600](https://arxiv.org/abs/2606.22600)) | why late tokens of a long answer teach less: the first 30% of the tokens do about as well as all of them |
# | Kim & Rush 2016, *Sequence-Level Knowledge Distillation* ([1606.07947](https://arxiv.org/abs/1606.07947)) | the off-policy ancestor: train on what the teacher writes |
#
# ## Interview questions
#
# <details><summary>You have a verifier and a strong teacher. How do you use them, and in which order?</summary>
#
# I'd distill first: the teacher's signal is dense, so training needs far fewer samples. The student also learns from prompts on which every answer in the group is wrong, where a verifier gives no signal. Then I'd use RL with the verifier, because the teacher is a ceiling and the verifier isn't. I'd measure the teacher's own accuracy on the prompts and stop distilling on those where the student has reached it.
#
# </details>
# <details><summary>Why doesn't the loss differentiate through the sampling, and what do you give up?</summary>
#
# The full gradient of the sequence-level reverse KL has a second part, because an early token is also responsible for the later states that it leads to. TRL's loss drops that part, and so does the sampled-token advantage with a discount of 0. The remaining part has low variance. If the student can represent the teacher's distribution, the optimum is still that distribution. But the student gets no credit for avoiding states in which it will do badly.
#
# </details>
# <details><summary>A fine-tuned model has lost its instruction following. You have the earlier checkpoint. What do you do?</summary>
#
# I'd distill on-policy from that checkpoint on instruction prompts, either after the fine-tuning or alternating with it. No new labels are needed. I'd measure the new skill at the same time: the old checkpoint doesn't have it, so the restoration could take it away. I'd also compare the result with a cheap baseline, which is to mix old data into the fine-tuning.
#
# </details>
