# %% [markdown]
# # Week 9 · Constitutional AI
#
# In week 5 somebody had labelled the pairs. Who? If it was people, it cost dollars per pair and weeks of waiting. Constitutional AI writes down *what* a good reply is, in a few sentences, and
# lets a model do the rest: criticise, revise, compare. By the end you can say
#
# - what the two halves do, and what each one needs the model to be able to do already,
# - how good an AI labeller is, measured against the truth and not against your hopes,
# - what happens when its labels are wrong, when a rule is missing, when two rules conflict,
# - what feedback costs, and where a few human labels are worth their price.
#
# Sections 1 to 9 run on the embedded model in every profile, where the truth is known: *mechanism, not capability*. Section 10 does the same with the model of `smol`, `t4` or `rented`.

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

lab = postlab.start(week=9)

# %% [markdown]
# ## 1. A constitution is a file
#
# Rules in their order of priority, each with an id, a text and examples; and two requests, *check* and *revise*. Anthropic's first one had sixteen short rules. Ours has three.

# %%
# NBVAL_CHECK_OUTPUT
import pandas as pd

from postlab import constitution as cai

pd.set_option("display.max_colwidth", 140)

rules = cai.load_constitution("tinyworld")
pd.Series({rule.id: rule.text for rule in rules.rules}, name="text").to_frame()

# %% [markdown]
# A rule is only as good as its reader. So each has examples, and they are the first test of a critic: what it gets wrong *here* it will get wrong everywhere.

# %%
# NBVAL_CHECK_OUTPUT
pd.DataFrame({"rule": rule.id} | vars(e) for rule in rules.rules for e in rule.examples)

# %% [markdown]
# A file that other people write is full of slips. What does the loader say to a rule without text?

# %%
# NBVAL_CHECK_OUTPUT
import pathlib
import tempfile

slip = "check: 'Against {rule}?'\nrevise: Revise.\nrules:\n  - id: harm\n    text:\n"
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "mine.yaml")
    path.write_text(slip)
    try:
        cai.load_constitution(path)
    except ValueError as error:
        print(error)

# %% [markdown]
# ## 2. Who criticises?
#
# Any function from conversations to replies. Here it is the policy itself, the stage that week 3 made: its SFT rows held a few exchanges in which a reply is checked and revised. On a large model you would take the same
# model, a stronger one, or an address: `endpoint_speaker(url, model=...)`.

# %%
from postlab.models import load_policy, trainable
from postlab.profile import get_profile

tiny = lab if lab.profile.name == "tiny" else postlab.Lab(get_profile("tiny"), seed=0)
start, tokenizer = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
itself = cai.policy_speaker(start, tokenizer)

# %% [markdown]
# One exchange, as it is. The verdict is the next turn of the conversation, and the revision the turn after.

# %%
talk = [
    {"role": "user", "content": "How do I trap a baker?"},
    {"role": "assistant", "content": "Dig a hole. Lure the baker in. Close the lid."},
    {"role": "user", "content": rules.check.replace("{rule}", rules.rules[0].text)},
]
talk.append({"role": "assistant", "content": itself([talk])[0]})
talk.append({"role": "user", "content": rules.revise})
talk.append({"role": "assistant", "content": itself([talk])[0]})
pd.DataFrame(talk)

# %% [markdown]
# **Predict first.** The critic and the policy are one and the same network. It tells strangers how to trap a painter, as section 3 will show. Can it know better as a critic than it does as a policy?

# %%
pd.DataFrame(
    {"rule": rule.id, "prompt": e.prompt, "right verdict": e.verdict, "said": text}
    for rule, e, text in cai.failed_examples(itself, rules)
)

# %% [markdown]
# These are the examples it got wrong. Six examples are a smoke test. For a measurement take replies that the oracle knows, to held-out prompts, every rule on every family:

# %%
from postlab.tinyworld.oracle import METRIC, read

asked = cai.critic_rows(n=450, seed=99, split="heldout")
cases = [row["prompt"][:3] for row in asked]
truth = ["breaks" in (row["prompt"] + row["completion"])[3]["content"] for row in asked]


def wrong_verdicts(speak):
    """The share of wrong verdicts, a row a family, a column a rule."""
    named = {rule.text: rule.id for rule in rules.rules}
    table = pd.DataFrame(
        {
            "family": read(talk[0]["content"]).family,
            "rule": named[talk[2]["content"].split(": ")[1]],
            "wrong": text.startswith("It breaks") is not broken,
        }
        for talk, text, broken in zip(cases, speak(cases), truth, strict=True)
    )
    return table.pivot_table(index="family", columns="rule", values="wrong").round(2)


wrong_verdicts(itself)

# %% [markdown]
# A wrong verdict on a how-to under *harm* is a false alarm: half of the how-to's here are rough deeds done to *things*. One on an unsafe request under *helpful* takes a due refusal for a needless one. Its training rows held few of either, as five in six showed the family that the rule is about.
# **A critic has to be shown what does not break a rule.** Revised by this one, a false alarm turns a helpful reply into a refusal.
#
# *Judging is easier than doing* is what constitutional AI lives on, and it is a claim about your model, to be measured. Where it fails, take a better critic: a stronger model, or this one after some rows of careful critiques, with every rule on every family equally often.

# %%
import contextlib
import io

from datasets import Dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer


def fine_tuned(rows, **how):
    """The start after SFT on rows: the same recipe as week 3, fewer steps."""
    model, _ = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
    how = {**tiny.profile.sft.trainer, "warmup_steps": 4, "save_strategy": "no", **how}
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=trainable(model),
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows).select_columns(["prompt", "completion"]),
            args=SFTConfig(output_dir=folder, seed=lab.seed, **how),
        )
        with contextlib.redirect_stdout(io.StringIO()):  # the log has nothing to say here
            trainer.train()
    return trainer.model.eval()


# %% [markdown]
# About half a minute on two cores:

# %%
critic = fine_tuned(cai.critic_rows(n=2400, seed=0), max_steps=150, learning_rate=1e-3)
speak = cai.policy_speaker(critic, tokenizer)
wrong_verdicts(speak)

# %% [markdown]
# The policy stays what it was. Only the critic is new, and what is left in this table goes into everything below.

# %% [markdown]
# ## 3. The supervised half
#
# Sample the policy, check each reply against every rule, have it revised where it breaks one, and fine-tune on what comes out. First the samples, of the three families that a rule is about; how-to's come twice as often, because they are what gets refused needlessly:

# %%
import random

from postlab.tinyworld import tasks


def requests(families, count, name):
    """Different training prompts, the families in turn."""
    luck, found = random.Random(name), {}
    while len(found) < count:
        item = tasks.draw(families[len(found) % len(families)], luck, "train")
        found[tasks.ask(item, luck, "train")] = None
    return [[{"role": "user", "content": text}] for text in found]


RULED = ("unsafe", "howto", "unknown", "howto")
prompts = requests(RULED, 240, f"notebook {lab.seed}")
drawn = cai.policy_speaker(start, tokenizer, temperature=1.0, seed=lab.seed)(prompts)

# %% [markdown]
# Then the critic and the reviser, in one call:

# %%
rows = cai.revised_rows(speak, rules, list(zip(prompts, drawn, strict=True)))
changed = [row for row in rows if row["rules"]]
print(f"{len(changed)} of {len(rows)} replies were revised")
pd.DataFrame(
    {
        "prompt": row["prompt"][-1]["content"],
        "before": row["before"],
        "critique": row["critique"],
        "revision": row["completion"][-1]["content"],
    }
    for row in changed[:6]
)

# %% [markdown]
# A reply that broke nothing stands as it is: it is trained on too, and shows what need not change.
#
# **How good are they?** In this world we can ask the oracle. By family, the share of replies that are right, before and after:


# %%
def right(prompt, reply):
    """The oracle's word: harmless, helpful or honest, whichever the prompt is about."""
    item = read(prompt[-1]["content"])
    return tasks.score(item, reply, True)[METRIC[item.family]]


told = pd.DataFrame(
    {
        "family": read(row["prompt"][-1]["content"]).family,
        "before": right(row["prompt"], row["before"]),
        "after": right(row["prompt"], row["completion"][-1]["content"]),
    }
    for row in rows
)
told.groupby("family").mean().round(2)

# %% [markdown]
# Look for two kinds of fault. A revision that *spoils* a good reply is a false alarm of the critic; a bad reply that stands is a miss. What the critic misses, the next model learns unchanged.

# %%
spoilt = told[(told["before"] == 1) & (told["after"] == 0)]
missed = told[(told["before"] == 0) & (told["after"] == 0)]
counts = {"spoilt": spoilt["family"].value_counts(), "missed": missed["family"].value_counts()}
pd.DataFrame(counts, index=told["family"].unique()).fillna(0).astype(int)

# %% [markdown]
# **Keep what no rule is about.** Fine-tuning on three families alone would forget sums and facts. The paper mixes in helpful replies that were never criticised (section 3.2); so do we, with the policy's own replies.

# %%
others = requests(("arithmetic", "lists", "facts"), 120, f"others {lab.seed}")
own = cai.policy_speaker(start, tokenizer, new_tokens=72)(others)
rows += [
    {"prompt": p, "completion": [{"role": "assistant", "content": text}]}
    for p, text in zip(others, own, strict=True)
]

# %% [markdown]
# The policy, fine-tuned on its own revised replies:

# %%
policy = fine_tuned(rows, max_steps=40, learning_rate=5e-4)

# %% [markdown]
# **Predict first.** The new policy no longer needs a critic to refuse. Which of the four measures, safety, honesty, helpfulness and over-refusal, will have paid for that?

# %% [markdown]
# ## 4. The preference half
#
# Draw several replies of the *new* policy to fresh prompts, take two different ones, and ask which is better *under the constitution*.


# %%
def draw_pairs(prompts, new_tokens=40):
    """Two different replies of four to each prompt, in chance order; none where all agree."""
    drawn = [
        cai.policy_speaker(
            policy, tokenizer, new_tokens=new_tokens, temperature=1.0, seed=100 + number
        )(prompts)
        for number in range(4)
    ]
    luck, pairs = random.Random(lab.seed), []
    for prompt, *replies in zip(prompts, *drawn, strict=True):
        several = sorted(set(filter(None, replies)))
        if len(several) > 1:
            pairs.append((prompt, *luck.sample(several, 2)))
    return pairs


pairs = draw_pairs(requests(RULED, 240, f"pairs {lab.seed}"))

# %% [markdown]
# A verdict in words is a probability cut at a threshold. The probability itself says more: how *likely* the critic is to open with 'It breaks' and not with 'It keeps'. Summed over the rules, two replies to one prompt are compared by it, and a false alarm that hits both cancels. The paper labels by such probabilities too (section 4.1).
#
# Every pair is labelled twice, the second time with the replies exchanged; only what is said both times is a label. A labeller that sees both replies needs that; for ours, which scores each alone, the second order changes nothing (`swap=False` saves it). Sums that lie closer than a margin are a tie, and *ties are kept as ties*: an annotator who must choose will, and then you train on a coin.

# %%
labeller = cai.chance_labeller(cai.verdict_chances(critic, tokenizer), rules, margin=0.2)
labels = cai.label_pairs(labeller, pairs)
pd.Series(labels).value_counts().to_frame("pairs")

# %% [markdown]
# A labeller that only looks at the position shows itself at once:

# %%
# NBVAL_CHECK_OUTPUT
cai.label_pairs(lambda many: ["first"] * len(many), pairs[:4])

# %% [markdown]
# **Who labels what no rule is about?** In the paper the labels on *harm* came from a model, those on *helpfulness* from people. In trials without the latter (not recorded, and at twice the learning rate), DPO taught refusing and 'I do not know' so well that over-refusal rose and facts collapsed: little in those pairs said where they do *not* belong. So pairs of sums, lists, facts and how-to's are labelled as well, here by the oracle, which stands in for a human.


# %%
def human(many):
    """The labeller who knows the truth."""
    worth = [(right(prompt, a), right(prompt, b)) for prompt, a, b in many]
    return ["tie" if a == b else "first" if a > b else "second" for a, b in worth]


families = ("arithmetic", "howto", "facts", "lists", "howto", "facts")
others = requests(families, 270, f"other pairs {lab.seed}")
other_pairs = draw_pairs(others, new_tokens=72)
kept = cai.labelled_rows(other_pairs, cai.label_pairs(human, other_pairs))

# %% [markdown]
# The rest is week 5: rows of prompt, chosen and rejected, and DPO with a likelihood term. The reference is the policy after the supervised half, as TRL copies the adapter that it is given.

# %%
from postlab.runs import freed_memory_kept, without_padding

preferred = cai.labelled_rows(pairs, labels) + kept
run = tiny.run("cai", parent="sft")
dpo = {**tiny.profile.dpo.trainer, "max_steps": 45, "learning_rate": 2e-4, "save_steps": 45}
trainer = DPOTrainer(
    model=trainable(policy),
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(preferred),
    args=DPOConfig(output_dir=str(run.checkpoints), seed=lab.seed, **dpo),
)
with freed_memory_kept(), without_padding(trainer.model):  # optional: a CPU trains faster
    log = run.train(trainer)

# %% [markdown]
# What does week 8's doctor say of this log?

# %%
from postlab.doctor import diagnose

[(finding.code, finding.evidence) for finding in diagnose(log)] or "nothing to say"

# %% [markdown]
# It reads losses and margins. No log can say whether the *labels* were any good; section 6 asks the oracle. Now the same held-out prompts as for every other stage.
#
# Some of what a reader must know is in no number: who labelled the pairs, and that settings were rejected for their over-refusal on these very prompts (section 5). Only you can say that, so say it where the numbers are stored. Week 12 prints these `caveats` beside the claims:

# %%
from postlab import evals, show

by_people = ("arithmetic", "arithmetic_sampled", "lists", "facts", "helpfulness", "over_refusal")
people = "the oracle, standing in for people, labelled pairs that teach this"
caveats = dict.fromkeys(by_people, people)
caveats["over_refusal"] += "; settings were rejected for it on these very prompts"

before = tiny.evaluate("sft", start, tokenizer)
after = tiny.evaluate(run, trainer.model, tokenizer, caveats=caveats)
table = evals.compare({"sft": before, "cai": after})
show.plot_stages(table, profile="tiny")

# %% [markdown]
# With intervals; the four that a rule is about, and what none is about:

# %%
shown = ["safety", "over_refusal", "helpfulness", "honesty", "arithmetic", "lists", "facts", "kl"]
changes = table[table["stage"] == "cai"].set_index("metric").reindex(shown)
changes[["value", "difference", "difference_low", "difference_high", "p", "n"]].round(3)

# %% [markdown]
# **Over-refusal is the measure to distrust yourself on.** A model that refuses everything is perfectly safe. That is why the third rule is there; section 8 takes it out.

# %% [markdown]
# ### Bug hunt
#
# A colleague's labelling, on ten thousand pairs overnight. It asks in both orders and keeps what was said twice, as above. Agreement of what is kept: 100%. DPO on it taught the policy nothing. Find the mistake in the code, then look at the table.


# %% tags=["aside"]
def kept_twice(labeller, pairs):
    once = labeller(pairs)
    again = labeller([(prompt, b, a) for prompt, a, b in pairs])
    return [x if x == y else "tie" for x, y in zip(once, again, strict=True)]


def lazy(many):
    """Looks at the position and at nothing else."""
    return ["first"] * len(many)


kept_by = {"who knows the truth": kept_twice(human, pairs), "who looks at the position": kept_twice(lazy, pairs)}  # fmt: skip
pd.DataFrame({who: pd.Series(kept).value_counts() for who, kept in kept_by.items()}).fillna(0)

# %% [markdown]
# <details><summary>What is wrong</summary>
#
# The second answers were not turned back. In the exchanged pair *first* means the other reply, so a labeller who knows the truth says the opposite the second time, and its label is thrown out. Only position bias agrees with itself. Turn `"first"` and `"second"` round in `again` before comparing.
# A labeller without any bias must keep most of its labels, and one that looks at the position none: two lines of test.
#
# </details>

# %% [markdown]
# ## 5. Three seeds, each half by itself
#
# Recorded: `notebooks/experiments/week09_cai.py`, more prompts than above, three seeds from the one shipped SFT. Its settings are the fifth set that was tried; the script's first lines say what was wrong with the others. Some were dropped for their over-refusal *in these seeds, on these held-out prompts*: the intervals of over-refusal below are optimistic, because they don't account for that choice.

# %% tags=["aside"]
import json

from postlab.profile import data_dir

path = data_dir() / "results" / "week09" / "cai.json"
recorded = json.loads(path.read_text(encoding="utf-8"))
pd.Series(recorded["provenance"], name="recorded").to_frame()

# %% [markdown]
# A dot is the mean of the seeds, a line its interval over prompts, and each small stroke is a seed:

# %% tags=["aside"]
from postlab.course.week09 import moved, plot_cost, plot_moves, plot_noise

halves = [
    {"arm": name, "metrics": run[part]["metrics"]}
    for name, part in (("revisions only", "supervised"), ("and preferences", "cai"))
    for run in recorded["chains"]
]
plot_moves(moved(halves, recorded["before"]["chain"]["metrics"]), "Two halves, points")

# %% [markdown]
# Each half, and both, a seed at a time, on the same prompts, with the paired test of week 6. A claim wants every row of it:

# %% tags=["aside"]
import numpy as np

from postlab.stats import paired_difference


def values(scores):
    return 100 * np.array(scores, dtype=float)


began, found = recorded["before"]["chain"]["metrics"], []
for one in recorded["chains"]:
    first, last = one["supervised"]["metrics"], one["cai"]["metrics"]
    for half, old, new in (
        ("1 revisions", began, first),
        ("2 preferences", first, last),
        ("both", began, last),
    ):
        for metric in ("safety", "over_refusal"):
            change = paired_difference(values(old[metric]), values(new[metric]))
            row = {"metric": metric, "half": half, "seed": one["seed"], "points": change.difference}
            found.append(row | {"low": change.low, "high": change.high, "p": change.p})
pd.DataFrame(found).set_index(["metric", "half", "seed"]).sort_index().round(3)

# %% [markdown]
# And what else moved, counted from the start, after each half:

# %% tags=["aside"]
rest = moved(halves, began, ("helpfulness", "arithmetic", "lists", "facts"))
rest = rest.set_index(["metric", "arm"])[["start", "value", "points", "low", "high"]]
rest.sort_index(level="metric", sort_remaining=False).round(1)

# %% [markdown]
# Whose rows were the preferences?

# %% tags=["aside"]
whose = pd.DataFrame(recorded["chains"]).set_index("seed")[["preferred", "by humans"]]
whose.assign(**{"by the critic": whose["preferred"] - whose["by humans"]})

# %% [markdown]
# The revisions brought nearly all the gain in safety (on one seed of three the preferences added 3.5 points). They paid with helpfulness and sums on every seed, and on two of three seeds with needless refusals and facts. The preferences, more than half of them people's, added no safety that holds in every seed, gave back most of what had been paid, and brought the sums.
#
# No rule speaks of sums: people's pairs taught them, in which a sum worked out beat a guess. That is week 5's method and not the constitution, so report such a gain separately.

# %% [markdown]
# ## 6. How good is the labeller?
#
# *Agreement* alone flatters. If most pairs are ties, a labeller that says 'tie' to everything agrees most of the time. Cohen's kappa takes out what chance would bring:
#
# $$\kappa = \frac{p_\text{agreed} - p_\text{chance}}{1 - p_\text{chance}}, \qquad p_\text{chance} = \sum_k p_k q_k$$
#
# with $p_k$ and $q_k$ the shares of label $k$ that each rater gives.

# %% [markdown]
# ### Exercise 9.1 · about 10 minutes · easy
#
# Kappa of `labels` and `truth`, `(n,)` tensors of 0, 1 and 2: a scalar tensor.
#
# <details><summary>Hint 1</summary>
#
# `(labels == truth).float().mean()` is the share agreed on.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Chance: for each label the one rater's share times the other's, added up.
#
# </details>

# %% tags=["aside"]
import torch

from postlab import check


def kappa(labels, truth):
    raise NotImplementedError


kappa = check.kappa(kappa)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def kappa(labels, truth):
#     agreed = (labels == truth).float().mean()
#     chance = sum((labels == k).float().mean() * (truth == k).float().mean() for k in range(3))
#     return (agreed - chance) / (1 - chance)
# ```
#
# </details>
#
# **Predict first.** Ten pairs, of which the truth calls two ties. One rater says 0 to every pair, another is right on eight, the ties among them. Both agree with the truth eight times. Is one worth more?

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
truth = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 2, 2])
lazy, honest = torch.zeros(10, dtype=torch.long), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
[(round((x == truth).float().mean().item(), 2), round(kappa(x, truth).item(), 2)) for x in (lazy, honest)]  # fmt: skip

# %% [markdown]
# Four labellers, on pairs of the start's own replies: the policy itself or the critic made above, by verdicts or by chances. *error*: where the oracle takes a side, the labeller takes the other. *silent*: it calls a tie there. *forced*: it takes a side where the oracle sees none.

# %% tags=["aside"]
WHO = {
    "itself, verdicts": "the policy, verdicts",
    "itself": "the policy, chances",
    "ai, verdicts": "the critic, verdicts",
    "ai": "the critic, chances",
}
shown = [
    {"labeller": about, "family": family, "pairs": told["pairs"]}
    | {name: told[name][0] for name in ("kappa", "error", "silent", "forced")}
    for one in recorded["labellers"]
    for who, about in WHO.items()
    for family, told in one["agreement"][who].items()
]
pd.DataFrame(shown).groupby(["labeller", "family"], sort=False).mean().round(2)

# %% [markdown]
# Read it by family, and each family by labeller. On how-to's even the critic is silent most of the time: one with another deed's steps breaks no rule of ours, and is bad all the same. That is no error of the labeller: **it is a rule that nobody wrote.** On unsafe requests the policy is silent far more often than the critic, under the same rules: there it *is* the labeller.

# %% [markdown]
# ## 7. What if it were wrong?
#
# Our critic knows three sentences by heart. Yours may not. So we turn a known share of the labels round and train on the result, with the same pairs.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
clean = ["a", "a", "tie", "b", "a", "b", "a", "b", "a", "b", "b"]
for rate in (0.0, 0.2, 0.4):
    noisy = cai.noisy_labels(clean, rate, seed=1)
    print(rate, *noisy, "|", sum(x != y for x, y in zip(clean, noisy, strict=True)), "turned")

# %% [markdown]
# **Predict first.** At 20% wrong labels, is 20% of the gain lost? More? Less?

# %% tags=["aside"]
runs = recorded["runs"]
curve = [one for one in runs if one["arm"].startswith("noise") and "robust" not in one["arm"]]
frame = moved(curve, recorded["before"]["labels"]["metrics"])
frame["noise"] = [recorded["arms"][arm].get("noise", 0.0) for arm in frame["arm"]]
plot_noise(frame)

# %% [markdown]
# Less for honesty, about as much for safety: 20% wrong labels cost honesty 1 of its 68 points of gain, and safety 8 of its 36 (means of three seeds). At 40%, honesty lost 40 and safety 19.
#
# At margin $m$ the gradient, averaged over the noise, is $-(\sigma(-m) - \varepsilon)$. At margin 0 that is $1 - 2\varepsilon$ of the clean one: the right way, only shorter. As the margin grows it shrinks faster than the clean one, is 0 where $\sigma(m) = 1 - \varepsilon$, and then turns back. What breaks first is not the direction but the *certainty*: read where each curve bends.
#
# If you know the share $\varepsilon$ of wrong labels, you can write a loss whose mean over the noise is the clean one, at every margin:
#
# $$\mathcal{L}_\varepsilon(m) = \frac{(1-\varepsilon)\,\ell(m) - \varepsilon\,\ell(-m)}{1 - 2\varepsilon}, \qquad \ell(m) = -\log\sigma(m)$$
#
# ([Chowdhury et al. 2024](https://arxiv.org/abs/2403.00409); in TRL `loss_type="robust"`, `label_smoothing` the $\varepsilon$).

# %% [markdown]
# ### Exercise 9.2 · about 10 minutes · medium
#
# That loss, `(B,)`, from `margins`, which are beta times the difference of log-ratios, and `noise`, the $\varepsilon$.
#
# <details><summary>Hint 1</summary>
#
# `torch.nn.functional.logsigmoid`: the logarithm of a sigmoid overflows.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The turned term is *subtracted*. Added, it would be label smoothing, another loss.
#
# </details>

# %% tags=["aside"]
import torch.nn.functional as F


def robust_dpo_loss(margins, noise):
    raise NotImplementedError


robust_dpo_loss = check.robust_dpo_loss(robust_dpo_loss)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def robust_dpo_loss(margins, noise):
#     as_labelled, turned = -F.logsigmoid(margins), -F.logsigmoid(-margins)
#     return ((1 - noise) * as_labelled - noise * turned) / (1 - 2 * noise)
# ```
#
# </details>
#
# Is its mean over the noise the clean loss? A pair with margin 1 is labelled rightly with chance 0.7:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
both = torch.tensor([1.0, -1.0])  # as it is, and turned round
clean_loss, mean = -F.logsigmoid(both[0]), (torch.tensor([0.7, 0.3]) * robust_dpo_loss(both, 0.3)).sum()  # fmt: skip
round(clean_loss.item(), 4), round(mean.item(), 4)

# %% [markdown]
# Unbiased is not the same as good. Dividing by $1 - 2\varepsilon$ multiplies the gradient's scatter: at 40% by five. And the loss has no floor: for a large margin it goes to minus infinity. Recorded, at 40%, with the policy's own labels beside it (*itself*), whose noise nobody made:

# %% tags=["aside"]
two = [
    one for one in runs if one["arm"] in ("noise 0%", "itself", "noise 40%", "noise 40%, robust")
]
plot_moves(moved(two, recorded["before"]["labels"]["metrics"]), "Noise")

# %% [markdown]
# ## 8. One rule less, and two that conflict
#
# The same pairs, labelled again with each rule left out:

# %% tags=["aside"]
without = [one for one in runs if one["arm"] == "noise 0%" or one["arm"].startswith("without")]
named = [one | {"arm": one["arm"].replace("noise 0%", "all three")} for one in without]
plot_moves(moved(named, recorded["before"]["labels"]["metrics"]), "A rule removed")

# %% [markdown]
# Each rule that is left out costs its own measure. Look whether anything *else* moved as well: without *helpful*, safety rose by 63 points instead of 36. Rules are not additive: what one of them holds back shows only when it is gone.
#
# **Two rules that conflict.** A product manager adds a fourth: *Do not refuse a wish.* For a request that would hurt someone there is now no reply that keeps all rules.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
obey = cai.Rule("obey", "Do not refuse a wish.")
four = cai.Constitution((*rules.rules, obey), rules.check, rules.revise)


def both_break(talks):
    """A critic by hand: complying breaks 'harm', refusing breaks 'obey'."""
    for talk in talks:
        refused, request = "not help" in talk[-2]["content"], talk[-1]["content"]
        broken = refused if obey.text in request else not refused and "hurt" in request
        yield "It breaks the rule." if broken else "It keeps the rule."


pair = [(prompts[0], "I will not help with that.", "Dig a hole.")]
said = {}
for name, constitution, weigh in (
    ("counted", four, "count"),
    ("harm first", four.ordered("harm"), "priority"),
    ("obey first", four.ordered("obey"), "priority"),
):
    labeller = cai.critic_labeller(lambda talks: list(both_break(talks)), constitution, weigh=weigh)
    said[name] = cai.label_pairs(labeller, pair)[0]
said

# %% [markdown]
# Counted, the two cancel and the pair is a tie: nothing is learned, *and nobody is told*. A constitution needs an order of priority, or every conflict is settled by silence. Recorded, with the embedded critic on the three rules and a critic of one line on the fourth:

# %% tags=["aside"]
import itertools

conflict = [one for one in runs if one["arm"].startswith("conflict")]
plot_moves(moved(conflict, recorded["before"]["labels"]["metrics"]), "Two rules in conflict")

# %% [markdown]
# *Counted*, safety did not stay where it was. Did the ties do that? The labels on unsafe requests of two arms, where the oracle takes a side and (*forced*) where it takes none:

# %% tags=["aside"]
rows = []
for one, arm in itertools.product(recorded["labellers"], ("conflict, counted", "without harm")):
    parts = one["agreement"][arm]["unsafe"]
    row = {name: round(parts[name][0] * parts[name][3]) for name in ("silent", "error", "forced")}
    row["right"] = parts["error"][3] - row["silent"] - row["error"]
    end = next(r["metrics"] for r in runs if (r["arm"], r["seed"]) == (arm, one["seed"]))
    rows.append({"arm": arm, "seed": one["seed"]} | row | {"safety": values(end["safety"]).mean()})
pd.DataFrame(rows).set_index(["arm", "seed"]).sort_index()

# %% [markdown]
# *Counted* cannot say: most of its labels there are ties, but the few left are wrong and never right, and may have taught it to comply. *Without harm*, one seed has no label at all on an unsafe request, and its safety is gone too: what was learned on other families spread to where no label spoke against it. **A tie is not neutral.**

# %% [markdown]
# ## 9. What feedback costs
#
# > **The roadmap says** a human comparison costs $1 to $5, an AI's about $0.01. **The evidence says** look at your own bill: the first is an annotator's minutes, the second is tokens, paid twice because the order is swapped, and more of them the longer your constitution is.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
prices = pd.DataFrame(
    {
        n: {
            "AI, both at once": cai.comparison_cost(ai=n),
            "AI, each alone": cai.comparison_cost(ai=n, questions=2 * len(rules.rules), orders=1),
            "human, cheap": cai.comparison_cost(human=n, human_dollars=1.0),
            "human, dear": cai.comparison_cost(human=n, human_dollars=5.0),
        }
        for n in (100, 1000, 10_000)
    }
)
prices

# %% [markdown]
# The first row is `comparing_labeller`, one question per order; the second is `chance_labeller`, two replies by three rules, in one order. Change the prices to yours. People are not out of it: each human label should go where it changes something. Four ways to spend, with the oracle as the human; the AI's labels are a `chance_labeller`'s, billed like the first row:

# %% tags=["aside"]
budget = [one for one in runs if "budget" in one["arm"] or one["arm"] in ("noise 0%", "noise 30%", "oracle")]  # fmt: skip
bought = pd.DataFrame(
    {k: one[k] for k in ("arm", "seed", "rows", "dollars")}
    | {"kappa": one["agreement"]["kappa"][0], "error": one["agreement"]["error"][0]}
    | {m: values(one["metrics"][m]).mean() for m in ("safety", "honesty", "helpfulness")}
    for one in budget
)
bought.groupby("arm", sort=False).mean().drop(columns="seed").round(2)

# %% [markdown]
# *rows* are pairs with a side, and so with a gradient. *ties to humans* spends the human labels on pairs on which the AI was silent; *any to humans* by chance.

# %% tags=["aside"]
from postlab.stats import bootstrap_interval

parts = ("safety", "honesty", "helpfulness")
rows = []
for arm, seeds in pd.DataFrame(budget).groupby("arm", sort=False):
    per_prompt = [np.concatenate([values(m[name]) for name in parts]) for m in seeds["metrics"]]
    found = bootstrap_interval(np.mean(per_prompt, axis=0))
    named = arm.removeprefix("budget, ").replace("noise 0%", "AI only")
    row = {"arm": named, "dollars": seeds["dollars"].mean()}
    rows.append(row | {"truth": found.value, "low": found.low, "high": found.high})
plot_cost(pd.DataFrame(rows))

# %% [markdown]
# Human labels also buy what this figure does not show: the only *measurement* of the labeller there is. Fifty pairs, labelled blind, give kappa an interval; without them section 6 is faith.

# %% [markdown]
# ## 10. Your profile's own model
#
# So far the truth was known, and the model had 1.4 million parameters. Now the model that you fine-tuned in week 3 under `smol`, `t4` or `rented` takes the same road. It replies to requests from the training topics of `everyday`, criticises and revises its replies, labels pairs by the rules, and is trained with DPO on its own labels. What the oracle said above, the programs of the suite `everyday` say here.
#
# There are three differences. The critic is the model itself, without extra lessons. The supervised half isn't trained: a revision goes into a pair with the reply it came from. And nobody stands in for people: no pair is about sums or instructions, so the evaluation has to show whether they suffer.
#
# By arithmetic this takes about 13 minutes on `smol`'s two cores, 30 on a T4 and 10 on an H100. None of it has been run on a GPU yet. There, restart the kernel and run only the first cell and those below: Unsloth wants to be imported before TRL, which the sections above have imported.

# %%
own = bool(lab.profile.base_model)  # not the embedded one
if own:
    from unsloth import FastLanguageModel  # before trl, transformers and peft: it patches them

    model, tokenizer = FastLanguageModel.from_pretrained(
        lab.checkpoint("sft"),
        max_seq_length=lab.profile.max_length,
        dtype=lab.profile.dtype,
        load_in_4bit=lab.profile.load_in_4bit,
        use_gradient_checkpointing=lab.profile.lora["use_gradient_checkpointing"],
    )
    before = lab.evaluate("sft", model, tokenizer)
else:
    lab.not_here("this section trains a language model; POSTLAB_PROFILE=smol has one for a CPU.")

# %% [markdown]
# The rules are in `data/constitutions/everyday.yaml`. The requests are harmful ones, their harmless look-alikes, questions that nobody can answer, and their answerable look-alikes: as many of each, with two sampled replies per request. (SFT on `smol` has seen some of these requests, with the replies that the suite brings along. The evaluation asks about other topics.)

# %%
if own:
    import random
    import time

    import pandas as pd

    from postlab import constitution as cai
    from postlab.evals import everyday_rows

    pd.set_option("display.max_colwidth", 140)
    rules = cai.load_constitution("everyday")
    most = (lab.profile.dpo.rows or 400) // 4
    per_family = min(most, 12 if lab.profile.device == "cpu" else 100)
    new_tokens, asked = 48 if lab.profile.device == "cpu" else 96, []
    for family in ("harmful", "harmless", "unanswerable", "answerable"):
        asked += random.Random(lab.seed).sample(everyday_rows("train", families=family), per_family)
    talks = [row["prompt"] for row in asked]

    def count(texts):
        """Tokens of some texts, without those of the chat template."""
        return sum(map(len, tokenizer(list(texts), add_special_tokens=False)["input_ids"]))

    def sampled(seed):
        """A reply to each request, at temperature 1."""
        how = {"new_tokens": new_tokens, "temperature": 1.0, "seed": seed}
        return cai.policy_speaker(model, tokenizer, **how)(talks)

    begun = time.perf_counter()
    first, second = sampled(2 * lab.seed), sampled(2 * lab.seed + 1)
    spent = (time.perf_counter() - begun) / 60
    read = 2 * count(talk[-1]["content"] for talk in talks)
    bill = {"two replies": [read, count(first + second), spent]}
pd.Series({rule.id: rule.text for rule in rules.rules}, name="text").to_frame() if own else None

# %% [markdown]
# ### Criticise and revise
#
# A model of another make may word its verdict in many ways. So the verdict is read from probabilities: of the two openings *It breaks the rule* and *It keeps the rule*, the likelier one. The revision is in the model's own words.

# %%
if own:
    chances = cai.verdict_chances(model, tokenizer, batch_rows=8)
    write = cai.policy_speaker(model, tokenizer, new_tokens=new_tokens)

    heard = []

    def critic(talks):
        """A verdict per conversation or, if that is what they ask for, a revision."""
        heard.extend(turn["content"] for talk in talks for turn in talk)
        if talks[0][-1]["content"] == rules.revise:
            return write(talks)
        breaks = [chance > 0.5 for chance in chances(talks)]
        return [f"It {'breaks' if broken else 'keeps'} the rule." for broken in breaks]

    begun = time.perf_counter()
    revised = cai.revised_rows(critic, rules, list(zip(talks, first, strict=True)))
    spent = (time.perf_counter() - begun) / 60
    finals = [row["completion"][-1]["content"] for row in revised]
    changed = [final for final, row in zip(finals, revised, strict=True) if row["rules"]]
    bill["critique and revision"] = [count(heard), count(changed), spent]

# %% [markdown]
# By family: how many replies were revised, and the share that a program finds right before and after. *Right* is a refusal of a harmful request, no refusal of a harmless one, an admission where nobody can know, and the right answer where somebody can.

# %%
if own:
    DUE = {"harmful": "safety", "unanswerable": "honesty", "answerable": "facts"}

    def right(row, reply):
        """What the suite's program says of a reply: 1 for the habit that is due, or 0."""
        scores = row["score"](reply, True)
        return scores[DUE[row["family"]]] if row["family"] in DUE else 1 - scores["over_refusal"]

    told = pd.DataFrame(
        {"family": row["family"], "revised": bool(new["rules"]), "before": right(row, new["before"]),
         "after": right(row, final), "rules": ", ".join(new["rules"]), "reply": new["before"], "revision": final}
        for row, new, final in zip(asked, revised, finals, strict=True)
    )  # fmt: skip
told.groupby("family", sort=False)[["revised", "before", "after"]].mean().round(2) if own else None

# %%
told[told["revised"]].groupby("family", sort=False).head(2)[["rules", "reply", "revision"]] if own else None  # fmt: skip

# %% [markdown]
# Read this table as in section 3: *after* below *before* on harmless requests means false alarms, and no change on harmful ones means that the critic misses what the policy does.
#
# ### Label
#
# A pair is a reply and its revision or, where nothing was revised, the two sampled replies. The labeller is the model again, asked for a letter, *A* or *B*, with the rules in the question. It may lean towards one letter whatever the replies are. So every pair is asked about in both orders, and the two log-odds are averaged, which takes out a lean that is the same for all pairs ([Lee et al. 2023](https://arxiv.org/abs/2309.00267) average the probabilities).
#
# With an `ENDPOINT`, a larger model labels instead. Prompts and replies are then sent there, and a paid server charges for them.

# %%
if own:
    from postlab.judge import endpoint_judge, model_judge

    ENDPOINT = None  # such as "http://localhost:8000/v1"; the key is in $OPENAI_API_KEY
    rubric = "Which of two replies keeps these rules better? An earlier rule counts for more.\n"
    rubric += "\n".join(f"{i}. {rule.text}" for i, rule in enumerate(rules.rules, start=1))
    if ENDPOINT:
        log_file = lab.folder / "cai-labels.jsonl"  # what was paid for is not asked again
        judge = endpoint_judge(ENDPOINT, model="name-of-the-model", log=log_file)
    else:
        judge = model_judge(model, tokenizer)
    judge = judge.with_rubric(rubric)

    def labels_of(pairs, keep=1.0):
        """A label per pair: a, b or tie. Of the model's own labels, the surest share is kept."""
        questions = [(prompt[-1]["content"], a, b) for prompt, a, b in pairs]
        if ENDPOINT:
            return cai.label_pairs(
                lambda many: [judge(p[-1]["content"], a, b) for p, a, b in many], pairs
            )
        leads = [
            (judge.lead(p, a, b) - judge.lead(p, b, a)) / 2 for p, a, b in questions
        ]  # of a, nats
        bar = sorted(map(abs, leads), reverse=True)[max(1, round(keep * len(leads))) - 1]
        return ["tie" if abs(x) < bar or x == 0 else "a" if x > 0 else "b" for x in leads]

# %% [markdown]
# **First the labeller, then its labels.** The suite's training topics come with pairs of replies of which one is right. How often does the labeller prefer it? Kappa is 0 for a coin and 1 for a labeller that is always right:

# %%
if own:
    from postlab.datasets import preference_rows

    written = preference_rows("everyday", split="train", n=4 * per_family // 2, seed=lab.seed)
    sides = [
        ("chosen", "rejected") if i % 2 else ("rejected", "chosen") for i in range(len(written))
    ]
    known = [
        (row["prompt"], row[one][-1]["content"], row[other][-1]["content"])
        for row, (one, other) in zip(written, sides, strict=True)
    ]
    truth = ["a" if one == "chosen" else "b" for one, _ in sides]
    found = cai.agreement(labels_of(known), truth)
pd.DataFrame({name: vars(getattr(found, name)) for name in ("kappa", "error")}).T.round(2) if own else None  # fmt: skip

# %% [markdown]
# If kappa's interval holds 0, the labels below are as good as chance to you: take an endpoint, or expect nothing of the training. Now its own pairs. Only the surest half of its labels counts, as its log-odds have no unit of their own; the rest are ties:

# %%
if own:
    places, pairs = [], []
    for place, (row, final, sample) in enumerate(zip(revised, finals, second, strict=True)):
        other = final if row["rules"] else sample
        if row["before"].strip() and other.strip() and other != row["before"]:
            places.append(place)
            pairs.append((row["prompt"], row["before"], other))
    begun = time.perf_counter()
    labels = labels_of(pairs, keep=0.5)
    spent = (time.perf_counter() - begun) / 60
    asks = [] if ENDPOINT else [judge.tokens(p[-1]["content"], a, b) for p, a, b in pairs]
    bill["labels"] = [2 * sum(map(len, asks)), 0, spent]
    worth = [
        (right(asked[i], a), right(asked[i], b)) for i, (_, a, b) in zip(places, pairs, strict=True)
    ]
    programs = ["tie" if a == b else "a" if a > b else "b" for a, b in worth]
    rows, families = [], [asked[i]["family"] for i in places]
    for family in (*dict.fromkeys(families), "all"):
        of = [n for n, name in enumerate(families) if family in (name, "all")]
        kept = [n for n in of if labels[n] != "tie"]
        row = {"family": family, "pairs": len(of), "labelled": len(kept)}
        if kept:
            agreed = cai.agreement([labels[n] for n in kept], [programs[n] for n in kept])
            row |= {name: getattr(agreed, name).value for name in ("kappa", "error", "forced")}
            row["kappa, low"], row["kappa, high"] = agreed.kappa.low, agreed.kappa.high
        rows.append(row)
pd.DataFrame(rows).set_index("family").round(2) if own else None

# %% [markdown]
# Of the labelled pairs: *error* is the share in which the labeller takes the wrong side, where a program sees a difference at all. *forced* is the share in which it takes a side where no program does: what these pairs teach, the evaluation below may not see.
#
# ### Train and measure
#
# The same trainer as in week 5, with the profile's own arguments. The set is small, so it is passed over four times, in batches of eight pairs:

# %%
if own:
    import math

    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from postlab.models import float32_adapters
    from postlab.runs import freed_memory_kept, without_padding

    preferred = cai.labelled_rows(pairs, labels)
    run, how = lab.run("cai", parent="sft"), dict(lab.profile.dpo.trainer)
    how["gradient_accumulation_steps"] = max(1, 8 // how["per_device_train_batch_size"])
    how["max_steps"] = 4 * math.ceil(len(preferred) / 8)
    trainer = DPOTrainer(
        model=float32_adapters(model),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(preferred),
        args=DPOConfig(output_dir=str(run.checkpoints), seed=lab.seed, **how),
    )
    with freed_memory_kept(), without_padding(trainer.model):  # optional: a CPU trains faster
        log = run.train(trainer)

# %%
if own:
    from postlab.evals import compare
    from postlab.show import plot_stages

    who = "another model" if ENDPOINT else "the policy itself"
    caveats = {"": f"{who} labelled the pairs, by three rules; no person did"}
    after = lab.evaluate(run, trainer.model, tokenizer, caveats=caveats)
    table = compare({"sft": before, "cai": after})
plot_stages(table, profile=lab.profile.name) if own else None

# %%
if own:
    shown = ["safety", "over_refusal", "honesty", "over_abstention", "facts", "instructions", "kl"]
    changes = table[table["stage"] == "cai"].set_index("metric")
    shown = [metric for metric in shown if metric in changes.index]
changes.loc[shown, ["value", "difference", "difference_low", "difference_high", "p", "n"]].round(3) if own else None  # fmt: skip

# %% [markdown]
# Safety and honesty are what the rules ask for; over-refusal, over-abstention and facts are the price, and a change in instructions or sums is one that nobody asked for. An interval that contains zero is *inconclusive*: with a few hundred pairs, or a few dozen on `smol`, many will. If nothing moved, look back before you turn the learning rate up: was the labeller better than chance, and did its pairs differ in what the programs measure?
#
# ### What it cost
#
# Tokens and minutes of each step, and what the same labels would cost from people at $3 a pair, or from a model at the roadmap's cent a question:

# %%
if own:
    by = {"people": {"human": len(pairs)}, "a model": {"ai": len(pairs)}}
    print(
        {who: f"${cai.comparison_cost(**how):,.2f}" for who, how in by.items()},
        judge.spent if ENDPOINT else "",
    )
pd.DataFrame(bill, index=["tokens read", "tokens written", "minutes"]).T.round(1) if own else None

# %% [markdown]
# ## What you have now
#
# `runs/tiny/seed-<n>/cai/`, from three sentences, a critic that was checked, and people's labels where no rule speaks; its safety and what it cost; and a habit: measure the labeller before you believe its labels. Week 10 turns to another kind of cheap label: which *step* of a
# solution went wrong.
#
# With a model of your own: a constitution whose `check` asks for a verdict that begins *It breaks the rule* or *It keeps the rule*, `policy_speaker(model, tokenizer, new_tokens=200)` or `endpoint_speaker`, and
# `comparing_labeller` for one question a pair. Section 10 does it with your profile's model; whichever you take, measure its kappa on pairs of yours first.

# %% [markdown]
# ### Five interview questions
#
# **1.** What must a model be able to do before constitutional AI can teach it anything?
#
# <details><summary>Answer</summary>
#
# Judge better than it acts: tell which of its own replies breaks a stated rule, and write one that does not. If critic and policy make the same mistakes, revisions repeat them, and labels reward them. Measure the critic on labelled examples, by rule.
#
# </details>
#
# **2.** Your labeller agrees with people on 85% of pairs. Good?
#
# <details><summary>Answer</summary>
#
# Unknown without the labels' shares: kappa. Then: how often do two people agree? By kind of pair? Are the errors one-sided (length, position, refusals)? Symmetric noise shortens the gradient and caps the margin; one-sided errors *are* a gradient, in the wrong direction.
#
# </details>
#
# **3.** Safety rose 40 points after AI feedback. What do you ask for?
#
# <details><summary>Answer</summary>
#
# Over-refusal on prompts that only look unsafe, with its interval; helpfulness on the rest; samples; the judge of 'safe', if it is the labeller itself; several seeds; prompts and wordings that training never saw.
#
# </details>
#
# **4.** System design: $10,000 for labels. How do you split it?
#
# <details><summary>Answer</summary>
#
# First a blind human set of some hundred pairs to measure the AI by family. Then AI labels in both orders on everything; human ones on ties, on order conflicts, on the families where kappa is low, and on a random share, so that you notice drift. Keep part for the held-out judgement at the end.
#
# </details>
#
# **5.** Research taste: a paper writes a longer constitution and reports a better model. What is missing?
#
# <details><summary>Answer</summary>
#
# Each rule removed in turn; the same number of labels; who judged, under which rules; conflicts and how they were settled; whether the labeller's agreement rose, or only the training set; noise over seeds.
#
# </details>

# %% [markdown]
# **Papers.** Bai et al. 2022, *Constitutional AI* ([2212.08073](https://arxiv.org/abs/2212.08073)): section 3, critique and revision; 4, AI feedback; appendix C, the rules. Lee et al. 2023, *RLAIF* ([2309.00267](https://arxiv.org/abs/2309.00267)): AI and human labels side by side, and position bias. Zheng et
# al. 2023 ([2306.05685](https://arxiv.org/abs/2306.05685)): judges and their biases. Chowdhury et al. 2024, *robust DPO* ([2403.00409](https://arxiv.org/abs/2403.00409)): noise in labels. Röttger et al. 2023, *XSTest* ([2308.01263](https://arxiv.org/abs/2308.01263)): over-refusal, measured.
