# %% [markdown]
# # Extra · Pairs from the policy itself: on-policy and iterative DPO
#
# In week 5, the pairs didn't come from the model. For every prompt of the tiny world, there was a right reply and a typical mistake, whatever the model itself would have said. UltraFeedback's pairs come from other models, too. Such pairs are convenient: they are made once, and anybody can reuse them. But they tell you nothing about the mistakes that *your* model makes.
#
# The alternative is to have the model write the replies and then label them. Many recipes for open models do this today: Tülu 3 compares completions of its own SFT model with those of others ([2411.15124](https://arxiv.org/abs/2411.15124), section 5), and in iterative DPO the pairs are sampled again in every round.
#
# By the end you can explain
#
# - what offline pairs can miss, and what on-policy and iterative pairs add,
# - which prompts yield no pair at all, and how that changes what you train on,
# - what the three kinds of pairs did on our tiny model, at equal numbers of pairs and updates, over eight seeds,
# - what sampling your own pairs costs, and which skills get worse.
#
# About 30 minutes. What our tiny model shows is *mechanism, not capability*.

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
# ## 1. What an offline pair can miss
#
# DPO makes the chosen reply of a pair more likely relative to the rejected one. Where do the two come from?

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.extras import draw_pair_sources

draw_pair_sources()

# %% [markdown]
# Three things can go wrong if the pairs were written by others:
#
# - **The rejected reply isn't your model's mistake.** If the model would hardly ever produce this reply, making it even less likely changes nothing for the user.
# - **Your model would never give the chosen reply.** Then the loss can fall even if the model never says that reply: it's enough if the rejected reply loses probability faster.
# - **The pairs don't determine where the probability goes.** DPO takes it from the rejected replies, and some of it ends up on replies that are in no pair. This is the likelihood displacement of week 5, section 6. [Xu et al. 2024](https://arxiv.org/abs/2404.10719) prove that DPO's loss has optimal policies that PPO's objective rules out, among them some that favor replies outside the data.
#
# Pairs of the policy's own replies address the first two by construction: both replies were sampled, so the policy does say them. To solve the third problem, you need *new* samples. If training adds a new mistake, then a later round samples it, the labeler rejects it, and the pairs push it down. That's what iterative DPO does ([Xiong et al. 2023](https://arxiv.org/abs/2312.11456)). Online DPO takes it to the limit and samples in every step; in OAIF
# ([Guo et al. 2024](https://arxiv.org/abs/2402.04792)), an LLM labels two fresh replies per prompt.
#
# The price is a labeler that you can ask at any time, and the cost of sampling. In the tiny world the oracle is a labeler that makes no mistakes, so we can look at the effect of the pairs alone. In week 9, a model does the labeling.
#
# ## 2. Ask the policy
#
# We load the model of week 3 and sample four replies to each of 256 training prompts. The oracle says which are right. (A reply counts as wrong if it wasn't finished.)
#
# **Predict first.** A prompt yields a pair only if some of its replies are right and others wrong. On held-out prompts, the model's greedy answers are right for 46% of the sums, 80% of the facts and 98% of the how-tos. Which of these three families yields the most pairs per prompt, and which the fewest?

# %%
from functools import partial

import pandas as pd

from postlab.datasets import preference_rows
from postlab.evals import evaluate
from postlab.models import load_policy, trainable
from postlab.profile import get_profile
from postlab.tinyworld.oracle import judge

pd.set_option("display.max_colwidth", 90)
tiny = postlab.Lab(get_profile("tiny"), seed=0)
policy, tokenizer = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
rows = list(preference_rows("tinyworld", split="train", n=256, seed=0))


def verdict(prompt, answer, closed):
    """1 if the reply was finished and the oracle finds it right."""
    row = {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}
    return {"right": float(closed and bool(judge(row)))}


def four_replies(model, seed):
    """Four sampled replies to each prompt, with the oracle's verdict: a row per reply."""
    suite = [
        {"id": f"{i}", "family": row["family"], "prompt": row["prompt"], "kl": False,
         "score": partial(verdict, row["prompt"]), "max_new_tokens": 72}
        for i, row in enumerate(rows)
    ]  # fmt: skip
    return evaluate(model, tokenizer, suite, seed=seed, temperature=1.0, samples=4)


def outcomes(replies):
    """Per family, how many prompts had all, some or none of their four replies right."""
    right = replies.groupby("id").agg(family=("family", "first"), right=("right", "sum"))
    kinds = right["right"].map({0: "all wrong", 4: "all right"}).fillna("mixed: a pair")
    return pd.crosstab(right["family"], kinds)


replies = four_replies(policy, seed=0)
outcomes(replies)

# %% [markdown]
# The lists and the sums yield the most pairs: 14 pairs from 28 prompts and 17 from 37. Facts yield the fewest, 4 pairs from 42 prompts, because the policy nearly always knows them. The result for the how-tos may surprise you. Greedy answers are almost always right, but at temperature 1 the policy gives a wrong reply now and then, and with four samples that is enough for 26 pairs from 65 prompts. In all, 89 of the 256 prompts yield a pair.
#
# So the mix of families in an on-policy set differs from the mix in the prompts. The set contains the prompts that the policy gets right *sometimes*. You know this selection from GRPO in week 7: a group whose answers all earn the same reward is uninformative. Prompts that the policy always gets right are missing, too, so nothing in the pairs teaches it to keep getting them right. Remember this for section 5.
#
# ## 3. On-policy pairs beside the offline pairs
#
# Let's make a pair from every prompt with both right and wrong replies, and show it beside the offline pair for the same prompt. The number in parentheses is the log-prob of the whole reply under the policy, in nats.

# %%
import random

import torch

from postlab.sampling import end_of_turn, render
from postlab.scratch.losses import token_logps
from postlab.scratch.sampling import completion_states, pack


def message(text):
    return [{"role": "assistant", "content": text}]


def pairs_of(replies, seed=0):
    """From every mixed prompt one right and one wrong reply: (pairs, their rows' numbers)."""
    rng, pairs, numbers = random.Random(seed), [], []
    for number, group in replies.groupby("id", sort=False):
        right = group.loc[group["right"] == 1, "answer"].tolist()
        wrong = group.loc[(group["right"] == 0) & (group["answer"] != ""), "answer"].tolist()
        if right and wrong:
            row = rows[int(number)]
            sides = {"chosen": message(rng.choice(right)), "rejected": message(rng.choice(wrong))}
            pairs.append({"family": row["family"], "prompt": row["prompt"]} | sides)
            numbers.append(int(number))
    return pairs, numbers


@torch.no_grad()
def reply_logps(pairs, side):
    """The log-prob of each pair's reply under the SFT policy, end of turn included; (B,) nats."""
    ids = [
        tokenizer(render(tokenizer, p["prompt"]), add_special_tokens=False)["input_ids"]
        for p in pairs
    ]
    texts = [tokenizer(p[side][0]["content"], add_special_tokens=False)["input_ids"] for p in pairs]
    batch = pack(ids, [[*text, end_of_turn(tokenizer)] for text in texts])
    logits, _ = completion_states(policy, batch)
    return (token_logps(logits, batch.completions) * batch.mask).sum(1).tolist()


own, numbers = pairs_of(replies)
sources = {"offline": [rows[i] for i in numbers], "on-policy": own}
likelihoods = pd.DataFrame(
    {"row": i, "family": pair["family"], "source": source, "side": side, "logp": logp,
     "prompt": pair["prompt"][0]["content"], "reply": pair[side][0]["content"]}
    for source, pairs in sources.items()
    for side in ("chosen", "rejected")
    for i, (pair, logp) in enumerate(zip(pairs, reply_logps(pairs, side), strict=True))
)  # fmt: skip
shown = likelihoods.assign(text=[f"{r.reply} ({r.logp:.1f})" for r in likelihoods.itertuples()])
firsts = shown.drop_duplicates("family")["row"]
shown[shown["row"].isin(firsts)].pivot(
    index=["family", "prompt", "source"], columns="side", values="text"
)

# %% [markdown]
# Both kinds of pairs agree on which replies are right. They even share the chosen reply, except for sums, because in this world a refusal, a fact or a how-to has only one right wording. For the waiter, the two pairs are identical. The rejected replies differ more. Instead of the typical mistake, you see what this model actually says, including garbled text like the one about the gagak. (A log-prob of −55.6 for a reply that *was* sampled is no contradiction. Each garbled reply is extremely rare, but there are very many of them.)
#
# **Predict first.** How likely are the *offline* chosen replies under the policy, compared with the right replies that it sampled itself? In which family do the two differ most?

# %%
from postlab.course.extras import plot_likelihoods

plot_likelihoods(likelihoods)

# %% [markdown]
# In five of the six families there is no difference, because the chosen replies are the same texts. So the second problem in section 1 hardly arises here: the SFT rows of week 3 came from the same world, and the policy often gives the right replies anyway. With pairs from a much stronger model, you'd expect a larger difference.
#
# The exception is sums. The median log-prob is −4.9 nats for the offline chosen replies and −1.3 for the on-policy ones. (On-policy replies are likely by selection: they had to turn up among four samples.) Among the rejected replies, the on-policy ones have the higher median in five families. But the two kinds overlap a lot, because there are many ways to be wrong and each one is rare. (Replies below −15 nats are drawn at −15.)
#
# Why are the offline replies to sums so unlikely? Let's see in which pairs the replies work the sum out, and in which they only give a number:

# %%
sums = likelihoods[likelihoods["family"] == "arithmetic"]
works = sums.assign(works=sums["reply"].str.contains("=")).pivot(
    index=["row", "source"], columns="side", values="works"
)
works.groupby("source").value_counts().rename("pairs").to_frame()

# %% [markdown]
# In the offline pairs, both replies have the same style: either both work the sum out, or neither does. We built them like this in week 5, so that the two replies differ only in whether the number is right. In 14 of the 17 on-policy pairs, the chosen reply works the sum out and the rejected one doesn't. Nobody designed the pairs that way. The policy's right answers to sums simply tend to show the work, and its wrong answers don't.
#
# So the two kinds of pairs teach different lessons from the same prompts. "Say 161 and not 165" is hard to learn. "Work it out" is a single habit, which the policy already shows some of the time. This is the best case for on-policy pairs, but it also shows their danger: they teach *whatever* separates right from wrong in the policy's samples. Here the chosen replies to sums are also much longer. If the labeler were a judge that likes long answers, the same mechanism would teach length.
#
# ## 4. One round
#
# Now we run one short round of DPO on each kind of pairs: 8 updates of 8 pairs, with the settings of the recorded experiment below. The offline arm gets the pairs of the first 64 prompts, and the on-policy arm gets the first 64 pairs made from the policy's samples.
#
# **Predict first.** Which families will gain more from on-policy pairs, and which might lose?

# %%
import json
import tempfile

from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from postlab.profile import data_dir
from postlab.runs import without_padding
from postlab.tinyworld.tasks import heldout_suite

record = json.loads((data_dir() / "results" / "week05" / "onpolicy.json").read_text("utf-8"))
settings = record["settings"]
recipe = dict(get_profile("tiny").dpo.trainer) | {
    "loss_type": ["sigmoid"], "loss_weights": None, "beta": settings["beta"],
    "lr_scheduler_type": "constant_with_warmup", "warmup_steps": settings["warmup_steps"],
    "max_steps": settings["steps_a_round"], "save_strategy": "no",
    "per_device_train_batch_size": settings["pairs_a_step"],
}  # fmt: skip


def one_round(pairs, rate):
    """The SFT policy after one round of DPO on the pairs, with itself as the reference."""
    start, _ = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
    columns = [{name: pair[name] for name in ("prompt", "chosen", "rejected")} for pair in pairs]
    trainer = DPOTrainer(
        model=trainable(start),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(columns),
        args=DPOConfig(output_dir=tempfile.mkdtemp(), seed=0, **recipe | {"learning_rate": rate}),
    )
    trainer.remove_callback(PrinterCallback)
    with without_padding(trainer.model):  # optional: a CPU trains faster
        trainer.train()
    return trainer.model.eval()


METRICS = {
    "arithmetic": "sums", "lists": "lists", "facts": "facts", "helpfulness": "how-to's",
    "safety": "safety", "honesty": "honesty", "over_refusal": "over-refusal",
}  # fmt: skip
size = settings["steps_a_round"] * settings["pairs_a_step"]
trained = {
    "offline": one_round(rows[:size], record["best"]["offline"]),
    "on-policy": one_round(own[:size], record["best"]["iterative"]),
}
heldout = [row for row in heldout_suite(n=20) if row.get("temperature", 0) == 0]
shares = {
    name: evaluate(model, tokenizer, heldout)[list(METRICS)].mean().rename(METRICS)
    for name, model in {"SFT": policy, **trained}.items()
}
pd.DataFrame(shares).round(2)

# %% [markdown]
# After one on-policy round of 8 updates, all 20 sums are right, and safety and honesty rise from 25% to 75% and from 20% to 70%. The offline round has changed much less: sums rose to 60%, but safety and honesty didn't rise at all. On the other hand, on-policy pairs made facts fall from 90% to 60%. These results come from one seed with 20 prompts per family, so take them as an illustration; the record below has more seeds and prompts.
#
# Which pairs would a second round get? We sample replies to the same prompts again, this time from the policy trained on on-policy pairs. In the table, *abstentions* are wrong replies that refuse or say "I do not know":


# %%
def mistakes(replies):
    """Per family: wrong replies, those of them that abstain, and the pairs that they make."""
    wrong = replies[replies["right"] == 0]
    abstains = wrong["answer"].str.contains("I will not help|I do not know")
    return pd.DataFrame(
        {
            "wrong": wrong.groupby("family").size(),
            "abstentions": wrong[abstains].groupby("family").size(),
            "pairs": pd.Series([pair["family"] for pair in pairs_of(replies)[0]]).value_counts(),
        }
    )


again = four_replies(trained["on-policy"], seed=1)
both = {"SFT": mistakes(replies), "after one round": mistakes(again)}
pd.concat(both, axis=1).fillna(0).astype(int)

# %% [markdown]
# The old mistakes became rarer: wrong sums fell from 90 replies to 40, made-up answers to unanswerable questions from 77 to 35, and wrong replies to unsafe requests from 104 to 58. But there are new mistakes. Wrong how-tos rose from 34 to 50, and 26 of these abstain (9 did before): the policy learned to refuse unsafe requests, and now it refuses some harmless ones as well. Wrong facts rose from 5 to 23. The next cell shows one wrong fact for each prompt that has any:

# %%
facts = again[(again["right"] == 0) & (again["family"] == "facts")]
facts.drop_duplicates("prompt")[["prompt", "answer"]]

# %% [markdown]
# Asked for the home of the folepo, the policy adds two numbers! Two lessons from other families have leaked into facts: working out a sum, and saying "I do not know." Hardly any pair was about facts, so the loss did almost nothing to prevent this.
#
# The last column in each half of the table shows why iterating helps. The first policy's samples yield 4 pairs about facts, and the new policy's samples yield 12. In a second round, the new mistakes would become rejected replies. Pairs that were sampled only once, from the first policy, hardly contain them.
#
# ## 5. Three sources of pairs, at equal pairs and updates
#
# The recorded experiment trains three arms in three rounds of 8 updates, with 8 pairs per update. In every arm, the reference for each round is the current policy. *Offline* uses the pairs that come with the course. *On-policy once* samples all of its 192 pairs from the SFT model, before training. *Iterative* samples 64 pairs from the current policy before each round. For each arm, we chose one of two learning rates with a tuning seed, on prompts that the results don't use:

# %%
pd.Series(record["provenance"], name="recorded").to_frame()

# %%
trials = pd.DataFrame(record["trials"]).pivot(index="arm", columns="rate", values="score")
trials.loc[list(record["best"])].round(2)

# %% [markdown]
# For every arm, we chose the lower of the two rates, so an even lower rate might be better still. Each trial is one run on 180 prompts.
#
# What did the arms train on, and how much compute did they need? The next table shows means over the seeds: the pairs per family, the tokens per reply, the number of sampled replies, the CPU seconds per run on the machine that recorded it (sampling and training, without the evaluation), and the final KL from the SFT model in nats per answer.

# %%
spent = []
for run in record["runs"]:
    counts = pd.DataFrame(run["rounds"])
    families = pd.DataFrame(list(counts["families"])).sum()
    sampled = settings["samples"] * counts["prompts"].sum() if "prompts" in counts else 0
    tokens = counts[["chosen tokens", "rejected tokens"]].mean()
    kl = sum(run["heldout"]["kl"]) / len(run["heldout"]["kl"])
    costs = {"samples": sampled, "CPU s": run["cpu_s"], "KL": kl}
    spent.append({"arm": run["arm"], **families, **tokens, **costs})
spent = pd.DataFrame(spent).fillna(0).groupby("arm").mean().loc[list(record["best"])]
spent.round(2).T

# %% [markdown]
# For 192 pairs, the two sampling arms needed 2,080 and 2,272 replies on average, and about twice the CPU time. Their pairs differ from the offline pairs in the two ways you saw above. The chosen replies are longer than the rejected ones (15.1 tokens compared with 10.0 if sampled once), whereas the offline pairs have equal lengths. The families differ, too: *on-policy once* has 8 pairs about facts, and the offline arm has 26. The iterative arm has 13, and their number grows from round to round:

# %%
by_round = {
    number + 1: [run["rounds"][number] for run in record["runs"] if run["arm"] == "iterative"]
    for number in range(settings["rounds"])
}
pd.DataFrame(
    {
        number: {
            "replies right": sum(r["right"] for r in rounds) / len(rounds),
            "pairs about facts": sum(r["families"].get("facts", 0) for r in rounds) / len(rounds),
        }
        for number, rounds in by_round.items()
    }
).rename_axis(columns="round").round(2)

# %% [markdown]
# **Predict first.** *Iterative* and *on-policy once* start with the same 64 pairs. For which families will the fresh samples of the later rounds make a difference?

# %%
from postlab.course.extras import plot_sources
from postlab.stats import blocked_differences, holm

start = json.loads((data_dir() / "results" / "week05" / "losses.json").read_text("utf-8"))["start"]
MEASURES = {"score": "mean of the six families", **METRICS}


def share(heldout, name):
    """The share of prompts with the metric; `score` is the mean of the six families' shares."""
    if name == "score":
        return sum(share(heldout, family) for family in record["families"]) / len(
            record["families"]
        )
    return sum(heldout[name]) / len(heldout[name])


by_seed = {
    (name, arm): [share(run["heldout"], name) for run in record["runs"] if run["arm"] == arm]
    for name in MEASURES
    for arm in record["best"]
}
PAIRS = [("on-policy once", "offline"), ("iterative", "offline"), ("iterative", "on-policy once")]
tests = [
    {"measure": MEASURES[name], "arm": arm, "against": other}
    | vars(blocked_differences({a: by_seed[name, a] for a in (arm, other)}, [(arm, other)])[0])
    for arm, other in PAIRS
    for name in MEASURES
]
tests = pd.DataFrame(tests).drop(columns="n")
tests["p, Holm"] = holm(tests["p"])

# %%
from scipy.stats import t

points = []
for (name, arm), values in by_seed.items():
    values = pd.Series(values)
    half = t.ppf(0.975, len(values) - 1) * values.sem()
    points.append({"metric": MEASURES[name], "arm": arm, "seeds": values.tolist(), "mean": values.mean(),
                   "low": max(0, values.mean() - half), "high": min(1, values.mean() + half),
                   "start": share(start["heldout"], name)})  # fmt: skip
points = pd.DataFrame(points)
mean = points.set_index(["metric", "arm"])["mean"]
plot_sources(
    points,
    f"On-policy pairs: {mean['sums', 'iterative']:.0%} of the sums right, offline pairs "
    f"{mean['sums', 'offline']:.0%}; facts {mean['facts', 'on-policy once']:.0%} with pairs sampled "
    f"once, {mean['facts', 'iterative']:.0%} with fresh ones, {mean['facts', 'offline']:.0%} offline",
)

# %% [markdown]
# Dots are means, bars are their 95% intervals over the seeds, and strokes are single seeds. The dashed line is the SFT model that all runs start from. For over-refusal, lower is better. The tests below are paired by seed, and all comparisons are corrected together (Holm):

# %%
tests["shown"] = ["yes" if p < 0.05 else "inconclusive" for p in tests["p, Holm"]]
tests.set_index(["arm", "against", "measure"]).round(3)

# %% [markdown]
# Eleven of the 24 differences remain after the correction.
#
# - **Sums.** With on-policy pairs of either kind, 98% or 100% of the sums are right with every seed. With offline pairs, 52% to 68% are right. The difference is 38 points (33 to 43). Section 3 shows a likely reason: on-policy pairs teach the model to work the sum out.
# - **Pairs sampled once do damage elsewhere.** Compared with offline pairs, *on-policy once* is 60 points lower on facts (42 to 77) and 29 points lower on how-tos (21 to 38). Its over-refusal is 32 points higher (23 to 41). Its safety is 28 points higher (15 to 40), but a model that refuses more of everything also refuses more unsafe requests.
# - **Fresh samples prevent most of that.** The *iterative* arm does as well on sums as *on-policy once*. It is 50 points higher on facts (29 to 72) and 27 points higher on how-tos (18 to 36), and its over-refusal is 28 points lower (18 to 37). Its safety is 13 points lower (inconclusive). Compared with offline pairs, no family is significantly worse: facts are 10 points lower, with an interval from −27 to +8. But with two of the eight seeds, facts end below 60%, so you can't rely on iterating to protect them.
# - **The mean of the six families** is 7 points higher for *iterative* than for offline pairs (3 to 11). For *on-policy once* it is 3 points lower (inconclusive), but this small number hides two large changes that nearly cancel out: a gain in sums and a loss in facts.
#
# Why does sampling again help? Section 4 suggests an explanation. Training on the pairs of one family damages another, and if you sample after that, the damaged answers become rejected replies. The record is consistent with this explanation: the iterative arm finds more pairs about facts in every round. *On-policy once* also moves twice as far from the SFT model, with a KL of 1.09 nats per answer compared with 0.55. But we didn't isolate any single factor to test the explanation.
#
# ## 6. What this doesn't show
#
# - **The replies and the mix of prompts change together.** On-policy pairs come from the prompts on which the policy is sometimes right and sometimes wrong. The arms therefore differ in their families as well as in their replies, and this experiment can't separate the two effects. To separate them, you could balance the families of the on-policy pairs, or use offline pairs for the same prompts.
# - **The labeler is an oracle.** It is always right, and its labels are free. A model used as the labeler has preferences of its own. A policy that is sampled again in every round has more chances to find replies that such a labeler wrongly prefers. Week 9 looks at labels from a model.
# - **The pairs are equal in number, not in cost.** The sampling arms took about twice the CPU time here, and with long replies and an LLM as the labeler the difference would be much larger.
# - **These offline pairs are good.** Their chosen replies are right by construction, and the SFT model comes from the same world. Noisy offline pairs would probably do worse. On the other hand, offline pairs from a stronger model can show replies that the policy would never sample. On-policy pairs can contain only replies that the policy already gives: the 13 sums above for which all four replies were wrong yield no pair.
# - **It's one tiny world, one loss and 24 updates.** Published comparisons point in both directions. [Tajwar et al. 2024](https://arxiv.org/abs/2404.14367) find that, in general, methods that sample on-policy or push down bad replies beat offline and maximum-likelihood training. [Sun et al. 2025](https://arxiv.org/abs/2508.10530) find on-policy pairs three times as effective as static ones for Llama-3, but only 0.4 times as effective for Zephyr.
#
# **In practice** you sample four to eight replies per prompt, label them with a verifier, a reward model or a judge, and keep the best and the worst. TRL 1.14.2 has an experimental `OnlineDPOTrainer` (`trl.experimental.online_dpo`) that samples two replies per prompt in every step and takes `reward_funcs`; for rounds, a loop around `DPOTrainer` like ours is enough. Before you train, count your pairs by topic, as in section 2, and compare the lengths
# of the two sides. After every round, measure the topics that yield few pairs, because the pairs do little to protect them.
#
# ## Reading
#
# | read | for |
# |---|---|
# | Guo et al. 2024, *Direct Language Model Alignment from Online AI Feedback* ([2402.04792](https://arxiv.org/abs/2402.04792)) | online DPO with an LLM as the labeler; human raters preferred it to offline training and to RLHF |
# | Xiong et al. 2023, *Iterative Preference Learning from Human Feedback* ([2312.11456](https://arxiv.org/abs/2312.11456)); Dong et al. 2024, *RLHF Workflow* ([2405.07863](https://arxiv.org/abs/2405.07863)) | the theory of iterative DPO, and an open recipe with a reward model as the labeler |
# | Tajwar et al. 2024, *Preference Fine-Tuning of LLMs Should Leverage Suboptimal, On-Policy Data* ([2404.14367](https://arxiv.org/abs/2404.14367)) | when on-policy samples help and how pushing replies down affects training, from toy problems to LLMs |
# | Xu et al. 2024, *Is DPO Superior to PPO for LLM Alignment?* ([2404.10719](https://arxiv.org/abs/2404.10719)) | how DPO treats replies outside its data, and iterative DPO as the fairer baseline (still behind PPO in their experiments) |
# | Yuan et al. 2024, *Self-Rewarding Language Models* ([2401.10020](https://arxiv.org/abs/2401.10020)) | iterative DPO in which the model labels its own replies, three rounds on Llama 2 70B |
# | Sun et al. 2025, *Is On-Policy Data always the Best Choice for DPO?* ([2508.10530](https://arxiv.org/abs/2508.10530)) | a counterweight: on-policy pairs are three times as effective as static ones for Llama-3 and 0.4 times for Zephyr |
#
# ## Interview questions
#
# <details><summary>You have 60,000 offline pairs from stronger models, and a reward model. Would you train on these pairs or sample your own?</summary>
#
# I'd start with the offline pairs, because they are free and can show replies that my model wouldn't sample. Then I'd sample from the trained model, label the replies with the reward model, and train for one or two more rounds, because the new pairs are about the mistakes that are left. I'd compare the two at equal updates on held-out prompts, per topic, and I'd check a few hundred of the reward model's labels by hand, since the later rounds optimize against it.
#
# </details>
# <details><summary>After a round of on-policy DPO, the target skill is up and something unrelated is down. Why, and what do you do?</summary>
#
# Prompts that the model always answers correctly yield no pair, so nothing in the loss protects those answers, while training changes the weights that all topics share. I'd look at the wrong replies on that topic first. Then I'd sample again from the current model, so that the new mistakes become rejected replies, and mix in offline pairs or SFT rows of the topic. A smaller learning rate or a larger beta also keeps the policy closer to its start.
#
# </details>
