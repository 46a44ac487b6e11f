# %% [markdown]
# # Week 9 · Constitutional AI
#
# Our fine-tuned policy from week 3 explains how to trap a painter. More than half of the time, it helps with requests that would hurt someone. In the run shown below, constitutional AI raises the share of unsafe requests that
# the policy handles safely from 42% to 85%, while over-refusal stays at about 4%. Nobody labels a single pair of replies about harm: three written rules and a model that applies them do the work.
#
# Labeling without people sounds almost free, but the result depends on who applies the rules. Here, we use a critic that first learned from 2,400 correct critiques, written by a program that knows the truth about our tiny world. In the recorded runs, the critic learned from 3,200 critiques, and DPO on its labels raised safety by 36 points. When the policy labeled its own replies instead, safety rose by 9 points on average (by 1, 9 and 17 points on the three seeds). And once every expense is counted, the critic is the most expensive labeler of all. At $3 per critique, each point of safety costs almost seventeen times as much as it would if people simply labeled the same 190 pairs. So the method itself is easy. The hard part is finding out whether you can trust your labeler, and what that trust costs. By the end of the core, you'll be able to explain
#
# - what the two halves of constitutional AI do, and what the model must already be able to do for each of them,
# - how to measure an AI labeler against the truth,
# - what a point of safety costs with different kinds of labelers once every expense is counted,
# - how to write a rule of your own, label pairs with it, train on the labels, and measure the effect.
#
# **The core** takes about 90 minutes, including three or four minutes of training on `tiny`. You'll do one exercise and one build, and read one paper.
#
# 1. [A constitution is a file](#file) · 2. [Who criticizes?](#critic) · 3. [The supervised half](#revise) · 4. [The preference half](#compare) · 5. [Which half did what?](#halves) · 6. [How good is the labeler?](#labeller) · 7. [What does a point of safety cost?](#bill) · 8. [Build: a rule of your own](#build) · 9. [The paper, and what you have now](#end)
#
# **The deeper sections** take about another three hours. You can read them in any order, or skip them: no later cell of the core, and no later week, needs them.
#
# - [Soft labels, and the RL half of RLAIF](#deeper-rl) · 45 minutes
# - [What if the labels are wrong?](#deeper-noise) · 30 minutes, one exercise
# - [A missing rule, and two rules in conflict](#deeper-rules) · 20 minutes
# - [Where human labels are worth their price](#deeper-hybrid) · 15 minutes
# - [Two passes that agree](#deeper-hunt) · 10 minutes, a bug hunt
# - [Public preference data about harm](#deeper-real) · 15 minutes
# - [From rules to specifications, reasoning and filters](#deeper-specs) · 10 minutes
# - [What we tried](#deeper-tried) · 5 minutes
# - [Your profile's own model](#deeper-own) · 20 minutes to read, plus 10 to 30 of training
#
# The notebook ends with [five interview questions](#interview) and the week's [readings](#papers).
#
# In every profile, all sections except the last deeper one use the embedded model, because we know the truth in its world. This small model shows you how the method works, not how capable a trained model can be. The last deeper section applies the method to the model of your profile: `smol`, `t4` or `rented`.

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
# <a id="file" name="file"></a>
# ## 1. A constitution is a file
#
# In week 5 we took the labels of the preference pairs as given. If people write them, each pair costs a few dollars, and you may wait for weeks. With a constitution, people write down *what* a good reply is, once and in a few sentences, and
# a model does the rest: it criticizes replies, revises them and compares them.
#
# The method has two halves. In both, a model checks replies against the rules:

# %%
from postlab.course.week09 import draw_halves

draw_halves()

# %% [markdown]
# Our constitution is a YAML file with a list of rules in order of priority. Each rule has an ID, a text and some examples. The file also contains the wording of two prompts, called *check* and *revise*. Anthropic's first
# paper used sixteen short principles about harm; we use three rules.

# %%
# NBVAL_CHECK_OUTPUT
import pandas as pd

from postlab import constitution as cai

pd.set_option("display.max_colwidth", 140)

rules = cai.load_constitution("tinyworld")
pd.Series({rule.id: rule.text for rule in rules.rules}, name="text").to_frame()

# %% [markdown]
# A rule can be read in different ways, so each one comes with examples. The examples are also the first test of a critic: one that misjudges them will misjudge many other replies, too.

# %%
# NBVAL_CHECK_OUTPUT
pd.DataFrame({"rule": rule.id} | vars(e) for rule in rules.rules for e in rule.examples)

# %% [markdown]
# Constitutions are written by people, and people make mistakes. What does the loader say, for example, if a rule has no text?

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
# <a id="critic" name="critic"></a>
# ## 2. Who criticizes?
#
# A critic can be any function that takes conversations and returns replies. Let's start with the policy itself, that is, the SFT stage from week 3. The policy has already seen a few examples of critiques, because some of its SFT rows contained a reply that was checked against a rule and then revised. If your policy is a large model, the critic could be the policy itself, a stronger model, or a model on a server (`endpoint_speaker(url, model=...)`).

# %%
from postlab.models import load_policy, trainable
from postlab.profile import get_profile

tiny = lab if lab.profile.name == "tiny" else postlab.Lab(get_profile("tiny"), seed=0)
start, tokenizer = load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)
itself = cai.policy_speaker(start, tokenizer)

# %% [markdown]
# Here is one exchange. The verdict is the next turn of the conversation, and the revision is the turn after that.

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
# The verdict is right, although the reason isn't: the reply was about trapping, not kicking. From here on, we use only the verdict.
#
# **Predict first.** The critic and the policy are the same network. Section 3 will show that this network tells people how to trap a painter. Can it be a better critic than it is a policy?

# %%
pd.DataFrame(
    {"rule": rule.id, "prompt": e.prompt, "right verdict": e.verdict, "said": text}
    for rule, e, text in cai.failed_examples(itself, rules)
)

# %% [markdown]
# It can. The network recognizes that trapping a baker is harmful, although it gets two of the six examples wrong. The table shows both mistakes: the critic objects to a harmless reply and to a necessary refusal.
#
# Six examples are only a smoke test. For a proper measurement, we use replies to held-out prompts for which the correct verdict is known, and we apply each rule to each family about equally often:

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
# Each number is the share of wrong verdicts. Under *harm*, the policy misjudges 22% of the replies to unsafe requests. Of the replies that it samples to such requests itself, more than half are wrong, as you will see in section 3. So the policy judges better than it acts. Constitutional AI rests on the assumption that *judging is easier than doing*. That is a claim about your model, so you have to measure it.
#
# But look at the other errors. Half of the how-tos in our world ask how to do something rough to a *thing*, such as trapping a lamp. If the critic says that a reply to such a how-to breaks *harm*, that's a false alarm, and the revision turns a helpful reply into a refusal. And if it says that refusing an unsafe request breaks *helpful*, it mistakes a necessary refusal for a needless one. The critic had little chance to learn the difference: about five out of six of its training rows apply a rule to the family that the rule is about. **A critic also needs examples of replies that don't break a rule.**
#
# If a model can't judge well enough, you can use a stronger model, or fine-tune this one on correct critiques. We fine-tune it. Our critiques apply every rule to every family equally often. They are written by a program that knows the truth. Such knowledge isn't free, so section 7 adds the cost of this critic to the bill.

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
# Training the critic takes about half a minute on two cores:

# %%
critic = fine_tuned(cai.critic_rows(n=2400, seed=0), max_steps=150, learning_rate=1e-3)
speak = cai.policy_speaker(critic, tokenizer)
wrong_verdicts(speak)

# %% [markdown]
# Most errors are gone, but not all. False alarms under *harm* fell from 26% to 2%. Under *harm*, 14% of the verdicts on replies to unsafe requests are still wrong. And one number got worse: under *helpful*, the critic now misjudges 14% of the replies to how-tos, and the policy had misjudged none. (There are about 50 cases per cell, so each of these shares is uncertain by about 10 points.)
#
# Only the critic has changed; the policy is still the SFT stage. All errors that remain in this table affect the results below.

# %% [markdown]
# <a id="revise" name="revise"></a>
# ## 3. The supervised half
#
# The supervised half has four steps: sample replies from the policy, check each reply against every rule, revise those that break one, and fine-tune the policy on the result. We begin by sampling replies for the three families that the rules are about. How-tos appear twice as often as the others, because they are the ones that might be refused needlessly:

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
# A single call then checks and revises the replies. The critic, which has also seen correct revisions, does both:

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
# A reply that doesn't break any rule stays as it is. We train on these replies, too, so that the policy also learns what it doesn't have to change.
#
# **How good are the revisions?** In this world we can ask the oracle. Here is the share of correct replies in each family, before and after:


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
# The share of correct replies rises from 43% to 87% for unsafe requests and from 45% to 98% for riddles that nobody can answer. For how-tos, the share stays the same. Two kinds of errors can hide behind these averages. The critic *spoils* a good reply by turning it into a bad one, for example after a false alarm. It *misses* a bad reply if the reply is still bad afterwards. Let's count both kinds:

# %%
spoilt = told[(told["before"] == 1) & (told["after"] == 0)]
missed = told[(told["before"] == 0) & (told["after"] == 0)]
counts = {"spoilt": spoilt["family"].value_counts(), "missed": missed["family"].value_counts()}
pd.DataFrame(counts, index=told["family"].unique()).fillna(0).astype(int)

# %% [markdown]
# In this run, no good reply was spoilt. The 8 bad replies to unsafe requests that the critic missed go into the training data of the next model. And what about the 14 missed replies to how-tos? Let's see what the bad replies looked like before and after:


# %%
def form(text):
    return "a refusal" if "will not help" in text else "wrong or garbled steps"


bad = pd.DataFrame(
    {"before": form(row["before"]), "after": form(row["completion"][-1]["content"])}
    for row, one in zip(rows, told.to_dict("records"), strict=True)
    if one["family"] == "howto" and one["after"] == 0
)
print(pd.crosstab(bad["before"], bad["after"]).to_string())

# %% [markdown]
# Nine of the 14 replies had wrong or garbled steps. Such replies are bad, but none of our three rules forbids them. After the check, eight of the nine still have such steps, and one is now a refusal. The other five replies were needless refusals, which the third rule does forbid. The critic noticed all five, but its revisions contained wrong steps. So a critic may recognize a bad reply and still be unable to write a good one.
#
# **What about everything else?** Fine-tuning on these three families alone could make the policy forget sums, lists and facts. The paper mixes in helpful replies that were never criticized (section 3.2). We do the same with the
# policy's own replies.

# %%
others = requests(("arithmetic", "lists", "facts"), 120, f"others {lab.seed}")
own = cai.policy_speaker(start, tokenizer, new_tokens=72)(others)
rows += [
    {"prompt": p, "completion": [{"role": "assistant", "content": text}]}
    for p, text in zip(others, own, strict=True)
]

# %% [markdown]
# Now we fine-tune the policy on all of these replies:

# %%
policy = fine_tuned(rows, max_steps=40, learning_rate=5e-4)

# %% [markdown]
# **Predict first.** The new policy should refuse unsafe requests without any critic. Which of these four metrics will be worse than before: safety, honesty, helpfulness or over-refusal?
#
# <details><summary>Answer</summary>
#
# Helpfulness and over-refusal will be worse. In the three recorded runs of section 5, this half raised safety by 47.5 to 57 points and brought honesty to 100%. But helpfulness fell by 4 to 14.5 points, and over-refusal rose by 3 to 9.5 points. The policy learned to refuse, and it also refused some harmless requests.
#
# </details>

# %% [markdown]
# <a id="compare" name="compare"></a>
# ## 4. The preference half
#
# The supervised half made the policy refuse too often. The second half can correct that if its pairs show where a refusal is the worse reply. For each prompt in a fresh set, we sample several replies from the *new* policy, take two different ones, and ask which one is better *according to the constitution*.


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
# A verdict in words reduces a probability to yes or no. The probability itself tells us more: it says how likely the critic is to begin with 'It breaks' rather than 'It keeps'. For each reply, we add up these probabilities over the rules, and we prefer the reply with the lower sum. If the critic raises the same false alarm about both replies, the error cancels out. The paper also labels with probabilities instead of words (section 4.1).
#
# Each pair is labeled twice, the second time in the opposite order, and we keep a label only if it is the same both times. A labeler that sees both replies at once needs this check, because it may prefer whichever reply comes first. Our labeler scores each reply on its own, so the second pass changes nothing, and `swap=False` skips it. If the two sums differ by less than a margin, the pair is a tie. *We don't train on ties.* If we forced the labeler to choose, it would choose at random, and we would train on noise.

# %%
labeller = cai.chance_labeller(cai.verdict_chances(critic, tokenizer), rules, margin=0.2)
labels = cai.label_pairs(labeller, pairs)
pd.Series(labels).value_counts().to_frame("pairs")

# %% [markdown]
# Nearly half of the pairs are ties. What if a labeler looks only at the position of a reply? Then the two passes contradict each other, and every label becomes a tie:

# %%
# NBVAL_CHECK_OUTPUT
cai.label_pairs(lambda many: ["first"] * len(many), pairs[:4])

# %% [markdown]
# **Who labels the pairs that no rule covers?** In the paper, a model labeled pairs about *harmlessness*, and people labeled pairs about *helpfulness*. We tried to do without human labels (see [What we tried](#deeper-tried)). The policy then learned to refuse and to say 'I do not know' too often: over-refusal rose, and the share of right answers about facts fell from 83% to 25%. Few of the pairs showed when such replies are *wrong*. So we also label pairs about sums, lists, facts and how-tos. Here the oracle takes the place of a human labeler.


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
# The rest works as in week 5. Each row has a prompt, a chosen reply and a rejected reply, and we train with DPO plus a likelihood term on the chosen reply. The reference model is the policy after the supervised half, because TRL copies the adapter it starts from.

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
# What does the doctor from week 8 say about this log?

# %%
from postlab.doctor import diagnose

[(finding.code, finding.evidence) for finding in diagnose(log)] or "nothing to say"

# %% [markdown]
# The doctor has nothing to say. It reads losses and margins, but no training log can show whether the *labels* were any good. For that, we have to ask the oracle, as we do in section 6.
#
# Now we evaluate the policy on the same held-out prompts as every other stage. The numbers don't show who labeled the pairs, or that we rejected other settings because of their over-refusal on these very prompts (see [What we tried](#deeper-tried)). So we store these two `caveats` with the results, and week 12 prints them next to the claims:

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
# The next table adds the intervals for the four metrics that the rules are about and for some others:

# %%
shown = ["safety", "over_refusal", "helpfulness", "honesty", "arithmetic", "lists", "facts", "kl"]
changes = table[table["stage"] == "cai"].set_index("metric").reindex(shown)
changes[["value", "difference", "difference_low", "difference_high", "p", "n"]].round(3)

# %% [markdown]
# Safety rose by 43.5 points and honesty by 61, and both intervals lie far above zero. Over-refusal and helpfulness didn't change measurably. Sums and facts improved, too, although no rule is about them. Most likely, these gains come from the pairs labeled by the oracle.
#
# **Over-refusal is the number to check before you believe a gain in safety.** A model that refuses everything is perfectly safe. The third rule guards against that, and a [deeper section](#deeper-rules) shows what happens without it.

# %% [markdown]
# <a id="halves" name="halves"></a>
# ## 5. Which half did what?
#
# The revisions made the policy safe. The preferences then repaired most of the damage that the revisions had done elsewhere. We found this in three recorded runs with different seeds (`notebooks/experiments/week09_cai.py`), each of which used more prompts than the run above. All three runs start from the same SFT checkpoint and use the same critic, so they don't tell you how much the results would change with another critic.

# %% tags=["aside"]
import json

from postlab.profile import data_dir

path = data_dir() / "results" / "week09" / "cai.json"
recorded = json.loads(path.read_text(encoding="utf-8"))
made_by = ("command", "commit", "seeds", "date", "device")
print({name: recorded["provenance"][name] for name in made_by})

# %% [markdown]
# Each dot is the mean of the three seeds, and each small stroke is one seed. The line is the 95% interval over prompts, which doesn't include the variation between seeds:

# %% tags=["aside"]
from postlab.course.week09 import moved, plot_bill, plot_moves

halves = [
    {"arm": name, "metrics": run[part]["metrics"]}
    for name, part in (("revisions only", "supervised"), ("and preferences", "cai"))
    for run in recorded["chains"]
]
plot_moves(
    moved(halves, recorded["before"]["chain"]["metrics"]),
    "Safety: {revisions only} points after the revisions, {and preferences} after both halves",
)

# %% [markdown]
# A mean can hide a seed with the opposite result. For each seed, the next table lists the change after each half and after both, together with the paired test from week 6:

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
# What else changed? The next table shows the changes from the starting model after the revisions and after both halves, averaged over the three seeds:

# %% tags=["aside"]
rest = moved(halves, began, ("helpfulness", "arithmetic", "lists", "facts"))
rest = rest.set_index(["metric", "arm"])[["start", "value", "points", "low", "high"]]
rest.sort_index(level="metric", sort_remaining=False).round(1)

# %% [markdown]
# And who labeled the preference pairs?

# %% tags=["aside"]
whose = pd.DataFrame(recorded["chains"]).set_index("seed")[["preferred", "by humans"]]
whose.assign(**{"by the critic": whose["preferred"] - whose["by humans"]})

# %% [markdown]
# **Safety.** The revisions raised safety by 48, 57 and 47.5 points on the three seeds. The preferences had no consistent effect: safety didn't change measurably on one seed (−1.5 points), *fell* by 8 points on another, and rose by 3.5 on the third.
#
# **The price.** After the revisions, every seed was less helpful and worse at sums. Two of the three seeds were also worse at facts and refused more harmless requests. On seed 0, the rise in over-refusal by 3 points is inconclusive (p = 0.07). The preferences repaired most of this damage: in the end, over-refusal is only 0, 0.5 and 4 points above where it started. Whose preferences made the difference? The record doesn't separate the critic's pairs from those labeled by 'people'. But in our [trials](#deeper-tried), over-refusal stayed at least 6 points above its initial value until people also labeled how-tos.
#
# **Sums.** The share of right sums rose from 46% to 92%, but no rule is about sums. Most likely, the gain comes from the pairs with human labels (here the oracle's): in the pairs about sums, a reply that shows the arithmetic usually beats a guess. On each seed, more than half of the preference rows had human labels. This part of the training is week 5's method, not the constitution, so report such gains separately.
#
# [A deeper section](#deeper-tried) lists the settings that we tried before these and their results.

# %% [markdown]
# <a id="labeller" name="labeller"></a>
# ## 6. How good is the labeler?
#
# The share of labels on which two raters agree can be misleading. If most pairs are ties, a labeler that answers 'tie' every time agrees with the truth most of the time. Cohen's kappa corrects for the agreement that you'd expect by chance:
#
# $$\kappa = \frac{p_\text{agreed} - p_\text{chance}}{1 - p_\text{chance}}, \qquad p_\text{chance} = \sum_k p_k q_k$$
#
# Here $p_k$ and $q_k$ are the shares of pairs to which the two raters give the label $k$.

# %% [markdown]
# ### Exercise 9.1 · about 10 minutes · easy
#
# Given `labels` and `truth`, two `(n,)` tensors of 0, 1 and 2, return kappa as a scalar tensor.
#
# <details><summary>Hint 1</summary>
#
# `(labels == truth).float().mean()` is the share of labels on which the two raters agree.
#
# </details>
# <details><summary>Hint 2</summary>
#
# For the chance agreement, start with one label: how often would both raters use it if they labeled independently of each other?
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
# **Predict first.** Two of the ten pairs are true ties. One rater answers 0 for every pair. Another gets eight right, including the ties. Both raters agree with the truth eight times. Are one rater's labels worth more than the other's?

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
truth = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 2, 2])
lazy, honest = torch.zeros(10, dtype=torch.long), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
[(round((x == truth).float().mean().item(), 2), round(kappa(x, truth).item(), 2)) for x in (lazy, honest)]  # fmt: skip

# %% [markdown]
# The first rater's kappa is 0: someone who always gives the same answer agrees with the truth exactly as often as you'd expect by chance. The second rater's kappa is 0.58.
#
# Now we compare labelers on pairs of replies from the SFT policy. The policy itself and the trained critic each label the pairs twice, once with verdicts in words and once with probabilities ('chances' in the table). The last labeler is a general model, SmolLM2. Besides kappa, the table shows the rates of three kinds of errors:
#
# - *error*: the oracle prefers one reply, but the labeler prefers the other.
# - *silent*: the oracle prefers one reply, but the labeler calls a tie.
# - *forced*: the oracle sees no difference, but the labeler prefers one reply anyway.

# %% tags=["aside"]
WHO = {
    "itself, verdicts": "the policy, verdicts",
    "itself": "the policy, chances",
    "ai, verdicts": "the critic, verdicts",
    "ai": "the critic, chances",
}
small = json.loads(path.with_name("smol_labeller.json").read_text(encoding="utf-8"))
found = [(about, one["agreement"][who]) for one in recorded["labellers"] for who, about in WHO.items()]  # fmt: skip
small = small["heldout"][small["chosen"]]
found += [("SmolLM2, untrained", one["agreement"]) for one in small["seeds"]]
shown = [
    {"labeller": about, "family": family, "pairs": told["pairs"]}
    | {name: told[name][0] for name in ("kappa", "error", "silent", "forced")}
    for about, families in found
    for family, told in families.items()
]
print(pd.DataFrame(shown).groupby(["labeller", "family"], sort=False).mean().round(2).to_string())

# %% [markdown]
# For labels from probabilities, training the critic raised kappa from 0.42 to 0.57, but the results for each family tell you more than this average. On riddles (*unknown*), both labelers are good. On unsafe requests, look at the pairs in which one reply really is better. In these pairs, the policy prefers the wrong reply 14% to 20% of the time and misses the difference 32% to 43% of the time. The critic never prefers the wrong reply and misses the difference in only 5% to 12% of these pairs. The rules are the same, so on these requests the *labeler* makes the difference.
#
# On how-tos, even the critic misses two thirds of the differences. A reply that gives the steps of another task is bad, but it doesn't break any of our rules. The labeler isn't to blame: **nobody wrote a rule against it.**
#
# **Can a general model do this without training?** The last four rows are from SmolLM2-135M-Instruct, the base model of the `smol` profile. It has almost a hundred times as many parameters as our policy, but it has never seen our world. `notebooks/experiments/week09_smol_labeller.py` tried four ways of prompting it on 40 other pairs and kept the one with the highest kappa. This prompt asks *Does the reply break the rule? Answer Yes or No* for each reply and rule, without reasoning or examples. When we pool the first 60 pairs of each seed, SmolLM2's kappa is 0.19 (0.11 to 0.28), compared with 0.44 for the policy's own labels. If a coin toss decided the pairs that SmolLM2 doesn't call ties, kappa would be 0.13. SmolLM2 is good at riddles: in all 24 pairs in which one reply is better, that reply also gets the better score. On unsafe requests, the better reply gets the better score in only 17 of 36 such pairs, which is no better than chance.
#
# On the 40 pairs, showing both replies and asking for *A* or *B* worked about as well. On the recorded pairs, the kappa of this method is 0.27 (0.16 to 0.37). But on those pairs, SmolLM2 prefers *A* every time, whatever the order, so only the average over both orders tells us anything. Neither method beats the policy's own labels, so we didn't train on SmolLM2's labels.

# %% [markdown]
# <a id="bill" name="bill"></a>
# ## 7. What does a point of safety cost?
#
# > **The roadmap says** a human comparison costs 1 to 5 dollars, and a comparison by an AI costs about one cent. **The evidence says** you have to look at your own bill. The first price pays for an annotator's time. The second pays for tokens, so it depends on your model and grows with the length of your constitution. It doubles if you ask in both orders, and it doesn't include the cost of getting a labeler that you can trust.
#
# Three things belong on the bill: the labels, the training of the labeler (including its data), and the check that you can trust it. (Writing the rules and evaluating the trained policy cost the same no matter who labels, so we leave them out.) All prices are inputs: replace them with your own. (The token prices are those of a small model on [OpenAI's model page](https://developers.openai.com/api/docs/models/gpt-5.6-luna), looked up in December 2026. Until July, they had been five times as high.)

# %% tags=["aside"]
PRICES = {
    "a comparison by a person": 3.00,  # dollars; the roadmap says 1 to 5
    "a correct critique by a person": 3.00,  # our assumption: as much as a comparison
    "a million tokens read": 0.20,  # GPT-5.6 Luna, on OpenAI's model page in December 2026
    "a million tokens written": 1.20,  # the same
    "an hour of two CPU cores": 0.10,  # our assumption
}
CHECKED = 50  # pairs that a person labels blind, so that you know an AI labeller's kappa

# %% [markdown]
# How many tokens does a label take? We record what two labelers send to their model for preference pairs like those of section 4 (they come from week 5's data). The first is ours, which asks one question per reply and rule. The second shows both replies and all rules to a large chat model, in both orders. (For both, we count four characters as one token, which is typical for English text and the tokenizer of a large model.)


# %% tags=["aside"]
from postlab.datasets import preference_rows

week5_pairs = [
    (row["prompt"], row["chosen"][0]["content"], row["rejected"][0]["content"])
    for row in preference_rows("tinyworld", split="train", n=300, seed=0)
    if row["family"] in ("unsafe", "howto", "unknown")
]


def tokens_per_pair(make, answer, swap):
    """What a labeller sends to its model, in tokens per pair."""
    sent = []

    def listening(talks):
        sent.extend(talks)
        return [answer] * len(talks)

    cai.label_pairs(make(listening), week5_pairs, swap=swap)
    return sum(len(turn["content"]) for talk in sent for turn in talk) / 4 / len(week5_pairs)


alone = tokens_per_pair(lambda model: cai.chance_labeller(model, rules), 0.5, swap=False)
at_once = tokens_per_pair(lambda model: cai.comparing_labeller(model, rules), "A", swap=True)
usd = (PRICES["a million tokens read"], PRICES["a million tokens written"])
kinds = {  # tokens read and written per pair
    "each reply alone": (alone, 0),
    "both at once, in both orders": (at_once, 2),
    "the same, reasoning first": (at_once, 300),
    "the same, with a constitution of 23,000 words": (at_once + 2 * 30_000, 2),
}
pd.DataFrame(
    {
        name: {
            "tokens read": read_, "written": written,
            "dollars for 1,000 pairs": 1000 * cai.token_cost(read=read_, written=written, usd_per_million=usd),
        }
        for name, (read_, written) in kinds.items()
    }
).T.round(2)  # fmt: skip

# %% [markdown]
# A flat price of one cent per question hides costs that differ by a factor of several hundred. With short rules, a label costs a small fraction of a cent. With a constitution of 23,000 words, which is about the length of Anthropic's from 2026, the same label costs more than a cent, although providers charge less for a prefix that they have cached. If the labeler reasons before it answers, the tokens that it writes soon cost more than those it reads.
#
# Still, the price of tokens hardly matters for our labelers. So what does? Here is the whole bill for DPO on the labels of some 190 pairs, with means over three recorded seeds. An endpoint can't know the facts of our tiny world, so we compute its bill but can't report a gain in safety. We report no gain for SmolLM2 either, because we didn't train on its labels:

# %% tags=["aside"]
runs = recorded["runs"]
start_of = recorded["before"]["labels"]["metrics"]
n_pairs = round(np.mean([one["pairs"] for one in recorded["labellers"]]))
HOUR = PRICES["an hour of two CPU cores"]
seconds = np.mean([one["cpu seconds per pair"] for one in small["seeds"]])  # of one core


def billed(n, *, people=0, critiques=0, tokens=(0, 0), minutes=0.0, check=True):
    """The lines of a bill for n pairs, in dollars."""
    return {
        "labels": people * PRICES["a comparison by a person"]
        + n * cai.token_cost(read=tokens[0], written=tokens[1], usd_per_million=usd),
        "critiques and training": critiques * PRICES["a correct critique by a person"]
        + HOUR * minutes / 60,
        "check": check * CHECKED * PRICES["a comparison by a person"],
    }


LABELLERS = {  # name: (runs, its bill)
    "people": ([r for r in runs if r["arm"] == "oracle"], billed(n_pairs, people=n_pairs, check=False)),
    "the trained critic": ([r for r in runs if r["arm"] == "noise 0%"], billed(n_pairs, critiques=3200, tokens=(alone, 0), minutes=1)),
    "the policy itself": ([r for r in runs if r["arm"] == "itself"], billed(n_pairs, tokens=(alone, 0))),
    "an endpoint": ([], billed(n_pairs, tokens=(at_once, 2))),
    "SmolLM2, untrained": ([], billed(n_pairs) | {"labels": HOUR * n_pairs * seconds / 3600 / 2}),
}  # fmt: skip
lines = []
for name, (of, costs) in LABELLERS.items():
    line = {"labeller": name} | costs | {"dollars": sum(costs.values())}
    if of:
        change = moved([r | {"arm": name} for r in of], start_of, ("safety",)).iloc[0]
        line |= {k: change[k] for k in ("points", "low", "high", "seeds")}
        line["$ per point"] = line["dollars"] / line["points"]
    lines.append(line)
whole = pd.DataFrame(lines).set_index("labeller")
whole.round(2)

# %% tags=["aside"]
plot_bill(whole.dropna(subset="points").reset_index())

# %% [markdown]
# Read the last column first. For these 190 pairs, people are the cheapest, at about 16 dollars per point of safety. The trained critic improves safety just as much but costs 268 dollars per point, because somebody had to write 3,200 correct critiques. For every AI labeler, the labels themselves cost less than a dollar. The rest of the bill is for training data (the critiques) and for checking the labeler. Note that our 'people' are the oracle, which never errs. If 20% of their labels were wrong, the [noise section](#deeper-noise) suggests a gain of about 28 points instead of 36, or 21 dollars per point.
#
# These prices apply only to this number of labels, because each additional label brings less. In the [section on human labels](#deeper-hybrid), 50 pairs labeled by people raised safety by 29 points for 150 dollars. That's only 5 dollars per point, but over-refusal also rose by 8 points. So don't treat dollars per point as a property of a labeler, and always look at over-refusal as well.
#
# Labels by the policy itself are almost free. But you have to find out whether it can label at all, and the 50 pairs for this check cost 150 dollars, or about 17 dollars per point. The gain from these labels is also the least certain: it was 1, 9 and 17 points on the three seeds, so don't rely on the mean. (The intervals in the figure cover only the prompts, not the variation between seeds.) If you leave out the check, a point costs almost nothing, but you train on the labels without knowing how bad they are.
#
# For an endpoint, the check costs the same. If it labeled as well as people do, a point of safety would cost about $4. The 50 pairs of the check tell you roughly how good the endpoint's labels are.
#
# What about SmolLM2? It needs 0.86 seconds per pair on one core, so its labels for all 190 pairs cost a quarter of a cent. But the check costs $150 here, too, and it tells you not to use these labels (section 6). If a labeler can't tell which reply is safer, a low price doesn't help.
#
# How do these costs change with more pairs? Every pair that people label costs the same. By contrast, you pay only once for a critic or for the check of an endpoint:


# %% tags=["aside"]
def total(n):
    """Each labeller's whole bill for n pairs, rounded to dollars."""
    return {
        "people": sum(billed(n, people=n, check=False).values()),
        "the trained critic": sum(billed(n, critiques=3200, tokens=(alone, 0), minutes=1).values()),
        "the policy itself": sum(billed(n, tokens=(alone, 0)).values()),
        "an endpoint": sum(billed(n, tokens=(at_once, 2)).values()),
    }


pd.DataFrame({f"{n:,} pairs": total(n) for n in (n_pairs, 2000, 20_000, 200_000)}).round(0).astype(
    int
)

# %% [markdown]
# Above some 3,250 pairs, the trained critic is cheaper than people, and for 200,000 pairs, it is cheaper by a factor of sixty. So AI feedback becomes cheap if you need many labels or use the same labeler again and again. Here we assume that the critic stays as good on new pairs, but it won't if the policy changes much. A critic trained on fewer critiques would pay off sooner, but [ours with 400](#deeper-hybrid) was unreliable.
#
# And what did our own run cost? That run used the critic for about half of its preference pairs and the oracle, in place of people, for the other half. A person has to look at every pair, including those that turn out to be ties:

# %% tags=["aside"]
chain_bill = billed(
    len(pairs), people=len(other_pairs), critiques=2400, tokens=(alone, 0), minutes=1
)
gained = 100 * changes.loc["safety", "difference"]
print({line: f"${dollars:,.2f}" for line, dollars in chain_bill.items()})
print(
    f"${sum(chain_bill.values()):,.0f} in all, ${sum(chain_bill.values()) / gained:,.0f} per point of safety"
)

# %% [markdown]
# Again, the critiques dominate the bill. Practically all the money for labels goes to people, and they labeled pairs about *helpfulness*, not harm. Without them, the trained policy forgot facts and refused too much ([What we tried](#deeper-tried)). 'Nobody labels harm' doesn't mean that nobody labels anything.

# %% [markdown]
# <a id="build" name="build"></a>
# ## 8. Build: a rule of your own
#
# ### Build 9.1 · about 30 minutes · medium
#
# None of the three rules is about sums, and the policy often just guesses: it answers *#### 122*, for example, without working anything out. Write a fourth rule against that.
#
# A rule consists of two parts. `rule` is the text that a person or a large model would be given. `breaks(prompt, reply)` is its labeler: it returns `True` if the reply breaks the rule. The embedded model has never seen your text, so here a few lines of Python apply it. Your labeler sees one reply at a time and doesn't know the right answer. It can judge only the *form* of a reply.
#
# Your rule is applied to all the pairs from section 4, including those that the oracle labeled there, such as the pairs about sums, lists and facts. The three rules have priority: your rule decides only the pairs that the critic's labels leave open. The check trains the SFT policy with DPO twice, for 40 steps each: once on the critic's labels alone and once on all labels. It then compares the two models on 210 held-out prompts. The whole check takes about a minute. You pass if more sums are right and nothing else gets measurably worse.
#
# Start by looking at some pairs:

# %% tags=["aside"]
from postlab.course.week09 import check_rule

all_pairs = pairs + other_pairs
critics = labels + ["tie"] * len(other_pairs)
sums = [pair for pair in other_pairs if read(pair[0][-1]["content"]).family == "arithmetic"]
pd.DataFrame([{"prompt": p[-1]["content"], "a": a, "b": b} for p, a, b in sums[:6]])

# %% [markdown]
# <details><summary>Hint 1: what varies?</summary>
#
# Read the pairs above, and print more of `sums`. In some pairs, one reply contains steps, and the other contains only an answer. What do all replies of the second kind have in common, whatever the numbers are?
#
# </details>
# <details><summary>Hint 2: what must the rule not decide?</summary>
#
# Your labeler is also asked about how-tos, refusals, lists and facts. If it returns `True` for both replies of a pair, or `False` for both, the pair is a tie, and your rule has done no harm. A rule such as 'long replies are better' would decide pairs in all families. Print the pairs from other families that your rule decides.
#
# </details>
# <details><summary>Hint 3: why is the form enough?</summary>
#
# You don't need to compute the sum. A reply that works the sum out isn't always right, but a guess is right less often. DPO only needs labels that are right more often than not.
#
# </details>

# %% tags=["aside"]
rule = cai.Rule("work", "...")  # write the text


def breaks(prompt, reply):
    raise NotImplementedError


mine = check_rule(rule, breaks, pairs=all_pairs, labels=critics)

# %% [markdown]
# Which pairs does the rule decide? The columns *for the right reply* and *for the wrong reply* count its decisions on pairs in which the oracle prefers one reply:

# %% tags=["aside"]
pd.DataFrame(mine.decides).T

# %% [markdown]
# And what effect did the rule have? The table shows the mean of each metric on the held-out prompts. (Until your rule yields labels to train on, the table shows the results of ours.)

# %% tags=["aside"]
pd.DataFrame(mine.scores).rename_axis("metric").round(2)

# %% [markdown]
# Why can a rule that never looks at the answer raise the share of right answers? Here are all the replies in the pairs about sums, grouped by form:

# %% tags=["aside"]
forms = pd.DataFrame(
    {
        "reply": "a bare answer" if text.startswith("####") else "works it out",
        "right": right(prompt, text),
    }
    for prompt, *both in sums
    for text in both
)
forms.groupby("reply").agg(replies=("right", "size"), right=("right", "mean")).round(2)

# %% [markdown]
# The form of a reply says a lot about its answer: 92% of the replies that show the arithmetic are right, compared with only 2% of the bare answers. That's why labels that depend only on the form can be right. Our rule decided 11 pairs of replies to sums, all of them in favor of the right reply, and nobody had to know a single answer. Those 11 labels were enough to raise the share of right answers from 58% to 100% on 60 held-out sums.
#
# Look at *facts*, too. The share of right answers falls from 90% to 40% *without* the fourth rule. The reason is the same as in section 4: the critic labeled no pairs about facts, but the effect of its labels spreads to such questions. With our rule, 60% are right, but 30 prompts and one run aren't enough to claim that the rule about sums made the difference.
#
# <details><summary>Our rule</summary>
#
# ```python
# rule = cai.Rule("work", "Work a sum out before you give its answer.")
#
#
# def breaks(prompt, reply):
#     return reply.startswith("####")
# ```
#
# </details>
#
# With a real model, the text of the rule does the work: `cai.comparing_labeller(speak, cai.Constitution((*rules.rules, rule), rules.check, rules.revise))` asks your profile's model or an endpoint to apply it. Before you train on the labels, measure kappa on fifty pairs, as in section 6.

# %% [markdown]
# <a id="end" name="end"></a>
# ## 9. The paper, and what you have now
#
# The paper to read this week is **[Constitutional AI, Bai et al. 2022](https://arxiv.org/abs/2212.08073)**: section 3 on critiques and revisions, section 4 on AI feedback, and appendix C for the principles (about 40 minutes). While you read, compare it with this week:
#
# - *Who labels what?* The preference model learned from 182,831 AI labels about harmlessness and 135,296 *human* labels about helpfulness. The abstract doesn't mention the cost of the human half.
# - *Who is the critic?* In the first half, it's the policy itself, a model with up to 52B parameters. Figure 4 shows how well models of different sizes recognize the more helpful, honest and harmless of two replies. Our policy, with 1.4M parameters, wasn't a good enough critic.
# - *How is the policy trained?* The paper uses RL instead of DPO, and soft labels instead of hard ones. [A deeper section](#deeper-rl) tries both.
# - *What went wrong?* Overtrained policies added phrases such as 'you are valid, valued, and cared for' to most of their replies, because the score rewarded them.
#
# In `runs/tiny/seed-<n>/cai/`, you now have a policy that was trained on a critic's revisions and labels, which follow three written rules. It was also trained on the oracle's labels for sums, lists, facts and how-tos. You have measured the critic's errors, and you know how much safer the policy became and what each point cost. Above all, you know that a labeler has to be measured before you train on its labels. Week 10 is about another kind of cheap label, which says which *step* of a solution went wrong.
#
# To use this method with your own model, you need three things:
#
# - a constitution whose `check` asks for a verdict that begins with *It breaks the rule* or *It keeps the rule*,
# - a critic, such as `policy_speaker(model, tokenizer, new_tokens=200)` or `endpoint_speaker`,
# - a labeler, such as `comparing_labeller`, which asks one question per pair and order.
#
# The [last deeper section](#deeper-own) applies the method to your profile's model. In each case, first measure kappa on pairs of your own.

# %% [markdown]
# <a id="deeper-rl" name="deeper-rl"></a>
# ## Deeper: soft labels, and the RL half of RLAIF
#
# The paper doesn't use DPO, which wasn't published until 2023. Its AI labels train a *preference model*, and reinforcement learning then optimizes the policy against that model's score. [Lee et al. 2023](https://arxiv.org/abs/2309.00267) shorten this procedure: in *direct* RLAIF, the labeler itself scores every new reply. They report that this worked better than training a reward model first. (In their test of harmlessness, people called 64% of the SFT model's replies harmless, 76% after RL on human labels, and 88% after RL on AI labels.)

# %% tags=["aside"]
from postlab.course.week09 import draw_routes

draw_routes()

# %% [markdown]
# How do the two differ? DPO learns from replies that were sampled before training. RL scores the replies that the policy writes *during* training, so it also sees mistakes that the policy has only just begun to make. On the other hand, RL optimizes a score, and it will find whatever the score gets wrong.
#
# ### Soft labels
#
# The preference model learns from *soft* labels, which are the labeler's probabilities. A hard label loses the information about how sure the labeler was. Bai et al. report that soft labels worked 'much better' than hard ones (section 4.3), and they suspect that this is because the probabilities were fairly well calibrated. If the labeler says that reply $a$ is better with probability $p$, the loss of the pair is the expected loss over labels drawn with that probability:
#
# $$\mathcal{L}(m) = p\,\ell(m) + (1-p)\,\ell(-m), \qquad \ell(m) = -\log\sigma(m)$$
#
# The loss is lowest where $\sigma(m) = p$, so the model should become as sure as the labeler, and no surer. Label smoothing is the special case in which all pairs have the same $p$.
#
# Where does $p$ come from? For each reply and rule, our critic gives the probability that the reply breaks the rule. `cai.soft_labels` treats these breaches as independent and computes the probability that $a$ breaks fewer rules than $b$, plus half the probability that both break equally many. We start again from the SFT policy, sample pairs of replies from it, and label them both ways:

# %% tags=["aside"]
import torch

questions = requests(RULED, 240, f"rl {lab.seed}")
samples = [
    cai.policy_speaker(start, tokenizer, temperature=1.0, seed=200 + number)(questions)
    for number in range(4)
]
luck, sft_pairs = random.Random(lab.seed), []
for prompt, *replies in zip(questions, *samples, strict=True):
    several = sorted(set(filter(None, replies)))
    if len(several) > 1:
        sft_pairs.append((prompt, *luck.sample(several, 2)))
chances = cai.verdict_chances(critic, tokenizer)
hard = cai.label_pairs(cai.chance_labeller(chances, rules), sft_pairs, swap=False)
soft = cai.soft_labels(chances, rules, sft_pairs)
print(len(sft_pairs), "pairs,", sum(label != "tie" for label in hard), "with a hard label")
pd.DataFrame(
    {"prompt": p[-1]["content"], "a": a, "b": b, "hard": label, "p(a is better)": chance}
    for (p, a, b), label, chance in zip(sft_pairs[:6], hard, soft, strict=False)
).round(3)

# %% [markdown]
# A soft label is useful only if it's *calibrated*: among the pairs with $p = 0.8$, $a$ should be the better reply in 80% of them. We take the pairs in which the oracle prefers one reply, group them by how sure the critic is, and check whether the critic leans toward the better reply:

# %% tags=["aside"]
sure = pd.DataFrame(
    {
        "sure": max(p, 1 - p),
        "right": (p > 0.5) == (right(pair[0], pair[1]) > right(pair[0], pair[2])),
    }
    for pair, p in zip(sft_pairs, soft, strict=True)
    if right(pair[0], pair[1]) != right(pair[0], pair[2])
)
sure["how sure"] = pd.cut(sure["sure"], [0.5, 0.6, 0.9, 0.99, 1.0], include_lowest=True)
sure.groupby("how sure", observed=True).agg(pairs=("right", "size"), said=("sure", "mean"), right=("right", "mean")).round(2)  # fmt: skip

# %% [markdown]
# Compare the last two columns. If *right* is close to *said* in every row, the critic is calibrated. If *right* is lower, the critic is too sure of itself, and a model that learns from its soft labels will be, too.
#
# Ours isn't too sure. In all 61 pairs in which the critic gave one reply a probability above 60%, that reply was the better one. So in the two middle rows, the critic could have been surer, but these rows contain only 28 and 17 pairs. In the other 43 pairs, the critic has no clear preference, and it's right about half of the time, as its probabilities suggest.
#
# ### A preference model, and GRPO on its score
#
# The preference model is the SFT policy with a linear head on the hidden state at the end of the reply. In week 4, only the head was trained. Here we train the adapter as well:

# %% tags=["aside"]
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from postlab.course.week09 import batches, both_sides, descend, train_soft_dpo


def fresh():
    """The SFT policy with a trainable adapter."""
    return trainable(load_policy(tiny.checkpoint("sft"), profile="tiny", bits=32)[0])


class PreferenceModel(nn.Module):
    """A score for a reply: a linear head on the hidden state at the reply's end."""

    def __init__(self):
        super().__init__()
        self.trunk = fresh().eval()
        self.head = nn.Linear(self.trunk.config.hidden_size, 1)

    def forward(self, batch):  # (B,)
        out = self.trunk(
            input_ids=batch.ids, attention_mask=batch.attention, output_hidden_states=True
        )
        reply = out.hidden_states[-1][:, -batch.mask.shape[1] :]
        return self.head(reply[torch.arange(len(reply)), batch.last[:, 0]])[:, 0]


torch.manual_seed(lab.seed)
preference, target = PreferenceModel(), torch.tensor(soft)
order = batches(len(sft_pairs), steps=60, batch=16, seed=lab.seed)


def pair_loss(step):
    """Bradley-Terry's cross-entropy against the soft labels."""
    a, b = both_sides(tokenizer, [sft_pairs[i] for i in order[step]])
    return binary_cross_entropy_with_logits(preference(a) - preference(b), target[order[step]])


pair_losses = descend(preference.parameters(), pair_loss, steps=60, lr=5e-4)
print(f"the loss fell from {np.mean(pair_losses[:5]):.2f} to {np.mean(pair_losses[-5:]):.2f}")

# %% [markdown]
# Now we run GRPO with TRL's trainer. The reward is the preference model's score for each new reply. It takes about half a minute to run 24 steps with 32 replies each. The settings are those of week 11, plus a KL penalty of 0.04. We tuned nothing. The reward in the table jumps up and down because every step uses different prompts, so judge the policy by its replies instead.

# %% tags=["aside"]
from trl import GRPOConfig, GRPOTrainer

from postlab.sampling import rollout_func


def score(prompts, completions, **columns):
    """The preference model's score of each new reply."""
    replies = [(p, c[-1]["content"], "") for p, c in zip(prompts, completions, strict=True)]
    with torch.no_grad():
        return preference(both_sides(tokenizer, replies)[0]).tolist()


how = {**tiny.profile.grpo.trainer, "max_steps": 24, "learning_rate": 6e-4, "beta": 0.04}
how |= {"max_completion_length": 40, "per_device_train_batch_size": 32, "save_strategy": "no"}
with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
    rl = GRPOTrainer(
        model=fresh(),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in questions]),
        reward_funcs=[score],
        rollout_func=rollout_func,
        args=GRPOConfig(
            output_dir=folder, seed=lab.seed, **(how | {"lr_scheduler_type": "constant"})
        ),
    )
    rl.train()
steps = pd.DataFrame([entry for entry in rl.state.log_history if "reward" in entry])
steps[["reward", "kl", "frac_reward_zero_std"]].iloc[[0, 5, 11, 17, 23]].round(2)

# %% [markdown]
# **Predict first.** For comparison, DPO trains once on the critic's hard labels and once on its soft ones. Which of the three policies will be the safest, and which one will refuse the most harmless requests?

# %% tags=["aside"]
from postlab.tinyworld.tasks import heldout_suite

suite = [row for row in heldout_suite(n=100, seed=0) if row["family"] in (*RULED, "facts")]
answers = {"SFT": evals.evaluate(start, tokenizer, suite)}
for name, labels_used in (
    ("DPO, hard labels", [None if x == "tie" else float(x == "a") for x in hard]),
    ("DPO, soft labels", soft),
):
    kept_at = [i for i, p in enumerate(labels_used) if p is not None]
    model = fresh()
    train_soft_dpo(
        model,
        tokenizer,
        [sft_pairs[i] for i in kept_at],
        [labels_used[i] for i in kept_at],
        seed=lab.seed,
    )
    answers[name] = evals.evaluate(model.eval(), tokenizer, suite)
answers["preference model, GRPO"] = evals.evaluate(rl.model.eval(), tokenizer, suite)
lines = []
for metric in ("safety", "over_refusal", "helpfulness", "honesty", "facts"):
    base = values(answers["SFT"][metric].dropna())
    line = {"metric": metric, "SFT": f"{base.mean():.0f}%"}
    for name in list(answers)[1:]:
        new = values(answers[name][metric].dropna())
        change = paired_difference(base, new)
        line[name] = (
            f"{new.mean():.0f}% ({change.difference:+.0f}: {change.low:+.0f} to {change.high:+.0f})"
        )
    lines.append(line)
pd.DataFrame(lines).set_index("metric")

# %% [markdown]
# The answer to both questions is the policy trained with RL: it reaches 95% safety, but it also refuses 32% of the harmless requests. Always read these two numbers together, because a policy that refuses everything is perfectly safe. DPO on hard labels brings safety to 74% and over-refusal to 4%. DPO on soft labels brings them to 57% and 2%. Also look at *facts*, which no rule is about and for which there were no pairs. The share of right answers falls from 85% to 62% with soft labels, to 34% with hard ones and to 2% after RL.
#
# Each cell shows the score and, in parentheses, the change from SFT in points, followed by its 95% interval over prompts. This is *one seed*, so it shows that the method runs and in which direction the metrics move, but not which method is better.
#
# ### Three seeds and two labelers
#
# `notebooks/experiments/week09_feedback.py` repeats this experiment with three seeds and adds two variations. The first is direct RLAIF, where the reward is minus the sum of the labeler's breach probabilities. The second uses the policy itself as the labeler. For each seed, all arms use the same prompts, and all arms with the same labeler use the same labels. Each cell lists the percentages on seeds 0, 1 and 2, from 100 held-out prompts per metric. The column *neither* gives the share of harmless how-tos that were neither refused nor answered correctly. Before training, safety was 37%, over-refusal 1%, helpfulness 98%, honesty 31% and facts 85%.

# %% tags=["aside"]
import json

from postlab.course.week09 import difference_table, seed_table
from postlab.profile import data_dir

feedback_file = data_dir() / "results" / "week09" / "feedback.json"
feedback = json.loads(feedback_file.read_text(encoding="utf-8"))["runs"]
ways = ("hard", "soft", "PM and GRPO", "GRPO direct")
arms = [f"{who}, {way}" for who in ("critic", "itself") for way in ways]
print(seed_table(feedback, arms).to_string())

# %% [markdown]
# The next table shows the differences from DPO on hard labels, in points, with the seed as the unit of analysis. The intervals come from `blocked_differences` (week 8) and aren't corrected for multiple comparisons. A star means p < 0.05 after Holm's correction for all 30 comparisons. The list below the table shows which differences remain significant if you estimate the noise for each labeler separately and correct for its 15 comparisons:

# %% tags=["aside"]
import pandas as pd

from postlab.course.week09 import arm_differences

versus = [(arm, f"{arm.split(',')[0]}, hard") for arm in arms if "hard" not in arm]
print(difference_table(feedback, versus).to_string())
each = pd.concat(
    arm_differences(feedback, [pair for pair in versus if pair[0].startswith(who)])
    for who in ("critic", "itself")
)
print(each.loc[each["holm"] < 0.05, ["arm", "metric", "points", "holm"]].round(3).to_string())

# %% [markdown]
# **Here, RL on AI feedback loses more than it gains.** With a preference model, safety rises to between 82% and 100%, but helpfulness falls to between 0% and 66%. With the critic's labels, the gain in safety over DPO on hard labels is inconclusive after the correction. With the policy's own labels, the gain is 45 points, but the resulting policy also refuses 18% to 50% of the harmless requests. So don't conclude that it has learned what is harmful. The losses in helpfulness look large (51 to 56 points in three of the four RL arms), but the seeds vary so much that none of them is significant after the correction. The losses on facts are significant: all four RL arms lose practically all of the facts.
#
# **Soft labels change the policy less, for better and for worse.** After training on them, the policy still answers 59% to 79% of the questions about facts correctly (85% before training). Hard labels leave only 18% to 54%. For both labelers, this difference is significant after the correction. In return, honesty is 12 points lower with the critic's labels and 17 points lower with the policy's own. Only the second difference is significant, and only if the noise is estimated from all arms together. For safety, the difference is inconclusive. So we can't confirm that soft labels are 'much better'. Moreover, two things changed at once here: soft labels also keep the pairs that hard labels drop as ties (about 190 rows instead of 90 to 110). All DPO arms ran for 30 steps, so with soft labels, each informative pair was seen about half as often. We don't know whether soft labels would lead to the same trade-off after more steps.
#
# What went wrong in RL? The next table shows how often each preference model ranks held-out pairs correctly. The list below it shows what the RL policies say when they are asked for a fact (the record keeps two replies per run):

# %% tags=["aside"]
scored = {
    f"{run['arm']}, seed {run['seed']}": {
        family: f"{hits} of {n}" for family, (hits, n) in run["pm right"].items()
    }
    for run in feedback
    if "pm right" in run
}
print(pd.DataFrame(scored).T.to_string())
facts = [reply for run in feedback if "GRPO" in run["arm"] for _, reply in run["answers"][:2]]
print(pd.Series(facts, name="replies to facts after RL").value_counts().to_string())

# %% [markdown]
# The preference models rank the replies to all riddles and to most unsafe requests correctly. But on how-tos, they are often no better than a coin flip. On seed 1, the one trained on the critic's labels prefers the *wrong* reply in 90 of 113 pairs, and the policy trained on its score refuses all harmless requests. RL finds what the score gets wrong. (That is one run. Among the other five runs, a better ranking of how-tos doesn't go with a more helpful policy.)
#
# Direct RLAIF has no preference model that could be wrong, but now the labeler itself provides the score. When the policy judges itself, safety doesn't improve on average: it ends at 29%, 49% and 20%, compared with 37% before. And of 100 harmless how-tos, 66, 16 and 85 are neither refused nor answered correctly. The record keeps two replies to how-tos per run. On seed 2, the policy was asked how to burn a boot, and one of these replies tells you how to paint it: *Pick a brush. Coat the boot. Let it dry.* Giving the steps of another task breaks none of our rules (section 6). Neither the prompts nor the rules had anything to do with facts. Yet in 16 of the 24 replies above, the RL policies say 'I do not know' when asked for a fact, which would be the right reply to a riddle.
#
# **What this doesn't show.** It doesn't show that RL is worse than DPO. We didn't tune the settings of any arm, we ran GRPO with only one length and one KL penalty, and we have only three seeds. With a stronger penalty or fewer steps, the policy may lose less. Our preference models learned only from AI labels, and only from those of some 190 pairs. The paper's also learned from 135,296 human labels about helpfulness, which is the very thing that was lost here. And a policy this small demonstrates a mechanism, not what large models can do: *optimizing against AI labels can cost you what they don't cover, and you notice only if you measure that, too.*

# %% [markdown]
# ### Critiques that think
#
# **Labels after reasoning.** A labeler can also write down its reasoning before it answers. The paper tries this in the second half: instead of the pretrained model, a chat model labels the pairs, and it is told to think step by step. The difficulty is that the reasoning usually says which reply is better. As a result, the probabilities of the two options end up close to 0 or 1 and are no longer calibrated. So the authors clamped them: limits of 20% and 80% helped slightly, and limits of 40% and 60% helped more. Without a clamp, the policy learned to give more extreme replies. In the end, the policy trained on labels with reasoning was slightly more harmless and slightly less helpful than the one trained without (sections 4.1 and 4.3). Lee et al. found that reasoning improved the agreement with people's labels on their tasks, while detailed preambles and examples helped only on some of them.
#
# **Critiques before revisions.** In the first half, the critique itself is the reasoning. Is it needed, or could the model simply be told to revise? The paper compares the two in section 3.5. With critiques, the revisions of small models were less harmful; for large models, critiques made no noticeable difference.
#
# What does a clamp do? It leaves the preferred reply of each pair unchanged and limits how sure the policy can become. At $p = 0.6$ and $\beta = 0.5$, the loss above is lowest at a margin of $\log(0.6/0.4) = 0.41$, that is, at a difference of log-ratios of 0.8 nats:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
import math

pd.Series({p: math.log(p / (1 - p)) / 0.5 for p in (0.6, 0.75, 0.9, 0.99)}, name="nats at the minimum").round(2).to_frame()  # fmt: skip

# %% [markdown]
# We can't try critiques with reasoning here. The embedded critic gives a reason *after* its verdict, from a handful of templates, and in section 2 that reason was wrong although the verdict was right. With a real model, you can try it in the last section: let the labeler reason before it answers, and compare kappa with and without reasoning on the same fifty pairs before you pay for the tokens.

# %% [markdown]
# <a id="deeper-noise" name="deeper-noise"></a>
# ## Deeper: what if the labels are wrong?
#
# Our critic was trained on exactly the three rules that it has to judge. Your labeler may be worse. To see how much harm wrong labels do, we flip a known share of the critic's labels and train with DPO on the same pairs.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
clean = ["a", "a", "tie", "b", "a", "b", "a", "b", "a", "b", "b"]
for rate in (0.0, 0.2, 0.4):
    noisy = cai.noisy_labels(clean, rate, seed=1)
    print(rate, *noisy, "|", sum(x != y for x, y in zip(clean, noisy, strict=True)), "turned")

# %% [markdown]
# **Predict first.** If 20% of the labels are wrong, do you lose 20% of the gain, or more, or less?

# %% tags=["aside"]
from postlab.course.week09 import plot_noise

curve = [one for one in runs if one["arm"].startswith("noise") and "robust" not in one["arm"]]
frame = moved(curve, recorded["before"]["labels"]["metrics"])
frame["noise"] = [recorded["arms"][arm].get("noise", 0.0) for arm in frame["arm"]]
plot_noise(frame)

# %% [markdown]
# It depends on what you measure. With 20% wrong labels, the gain of 68 points in honesty shrank by 1 point, and the gain of 36 points in safety shrank by 8 (means of three seeds). With 40% wrong labels, only 28 and 18 points of the two gains were left. The seeds differ a lot. With 20% noise, safety was 14 or 15 points lower than with clean labels on two seeds and 4 points higher on the third. With 40% noise, honesty changed by −1, 50 and 35 points in training. The bands in the figure are 95% intervals over prompts and don't include the variation between seeds.
#
# Why do so many wrong labels do so little damage? Take a pair with margin $m$ whose label is wrong with probability $\varepsilon$. Averaged over the noise, the gradient of DPO's loss with respect to the margin is
# $-(\sigma(-m) - \varepsilon)$. At margin 0, the gradient is $1 - 2\varepsilon$ times the clean one, so it is smaller but still points in the right direction. As the margin grows, this gradient shrinks faster than the clean one. The gradient reaches 0 where $\sigma(m) = 1 - \varepsilon$, and beyond that point it pulls the margin back. So the first effect of noise is to limit how *certain* the policy can become about a pair. On average, noise teaches the policy the wrong preference only if $\varepsilon > 1/2$. (On seed 0, 40% noise happened to flip 13 of the 24 labels on riddles, which may be why honesty didn't rise there.)
#
# If you know the share $\varepsilon$ of wrong labels, you can write down a loss whose mean over the noise is the clean loss at every margin:
#
# $$\mathcal{L}_\varepsilon(m) = \frac{(1-\varepsilon)\,\ell(m) - \varepsilon\,\ell(-m)}{1 - 2\varepsilon}, \qquad \ell(m) = -\log\sigma(m)$$
#
# This loss is from [Chowdhury et al. 2024](https://arxiv.org/abs/2403.00409). In TRL, you choose it with `loss_type="robust"` and set $\varepsilon$ with `label_smoothing`.

# %% [markdown]
# ### Exercise 9.2 · about 10 minutes · medium
#
# Write this loss. `margins` is a `(B,)` tensor that holds beta times the difference of the log-ratios, and `noise` is $\varepsilon$. Return a `(B,)` tensor.
#
# <details><summary>Hint 1</summary>
#
# Use `torch.nn.functional.logsigmoid`. The logarithm of a sigmoid becomes minus infinity when the sigmoid rounds to 0.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The formula has two terms. Check the sign of the second one: with a plus sign, you would get label smoothing, which is a different loss.
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
# Is its mean over the noise really the clean loss? Suppose that a pair has margin 1 and gets the right label with probability 0.7:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
both = torch.tensor([1.0, -1.0])  # as it is, and turned round
clean_loss, mean = -F.logsigmoid(both[0]), (torch.tensor([0.7, 0.3]) * robust_dpo_loss(both, 0.3)).sum()  # fmt: skip
round(clean_loss.item(), 4), round(mean.item(), 4)

# %% [markdown]
# Both numbers are 0.3133, so the robust loss is unbiased. But an unbiased loss isn't necessarily a good one. Dividing by $1 - 2\varepsilon$ also magnifies the random part of the gradient, by a factor of five at 40% noise. And the loss has no minimum: as the
# margin grows, it goes to minus infinity.
#
# The figure compares the robust loss with the ordinary one at 40% noise. It also shows an arm with the policy's own labels (*itself*), in which nothing was flipped:

# %% tags=["aside"]
two = [
    one for one in runs if one["arm"] in ("noise 0%", "itself", "noise 40%", "noise 40%, robust")
]
plot_moves(moved(two, recorded["before"]["labels"]["metrics"]), "At 40% noise, safety changes by {noise 40%} points, by {noise 40%, robust} with the robust loss")  # fmt: skip

# %% [markdown]
# At 40% noise, the robust loss recovers part of the lost gain: safety rises by 29 points instead of 18, and honesty rises by 40 instead of 28. But over-refusal rises by 10 points instead of 5, and helpfulness falls by 9 instead of 4. On
# one of the three seeds, honesty doesn't rise under either loss. With the seed as the unit of analysis, all four differences are inconclusive (p between 0.08 and 0.19 in paired t-tests).
#
# The policy's own labels show why a single number for label quality isn't enough. Their kappa is 0.42, practically the same as that of the critic's labels with 20% noise (0.43). But safety rose by 28 points with 20% noise and by only 9 with the policy's own labels. The gap was between 16 and 22 points on each of the three seeds. In both cases, honesty rose about as much as with clean labels. You might think that random errors average out in training, while the policy's errors are systematic. But let's first look at kappa for each family. The second experiment recorded the critic's probabilities, so we can reconstruct its labels for all but a few pairs. We then repeat the random flips 100 times per seed.

# %% tags=["aside"]
import json

from postlab.profile import data_dir

feedback_file = data_dir() / "results" / "week09" / "feedback.json"
asked = json.loads(feedback_file.read_text(encoding="utf-8"))["labellers"]
kappas = []
for one, old in zip(asked, recorded["labellers"], strict=True):
    chosen = ["a" if p > 0.6 else "b" if p < 0.4 else "tie" for p in one["soft"]["critic"]]
    for family in ("all", "unsafe", "howto", "unknown"):
        at = [i for i, name in enumerate(one["families"]) if family in (name, "all")]
        for rate in (0.0, 0.2, 0.4):
            for flip in range(100 if rate else 1):
                noisy = cai.noisy_labels(chosen, rate, seed=flip)
                both = [[noisy[i] for i in at], [one["truth"][i] for i in at]]
                value = cai.agreement(*both).kappa.value
                kappas.append((f"the critic's, {rate:.0%} wrong", family, value))
        value = old["agreement"]["itself"][family]["kappa"][0]
        kappas.append(("the policy's own", family, value))
kappas = pd.DataFrame(kappas, columns=["labels", "family", "kappa"])
print(
    kappas.pivot_table(index="labels", columns="family", values="kappa", sort=False)
    .round(2)
    .to_string()
)

# %% [markdown]
# On unsafe requests, kappa is 0.30 for the policy's own labels. This kappa is far below the 0.55 of the labels with 20% noise, and even slightly below the 0.35 of those with 40%. The average hides this, because three quarters of the pairs are how-tos and riddles. And with 40% noise, safety rose by 18 points. So the family in which the errors occur explains about half of the gap between 28 and 9 points. These runs can't tell us whether the policy's errors also do more harm than the same number of random ones: the policy's own labels raise safety by 13, 13 and 0 points less than labels with 40% noise. Measure kappa for each family, and look first at the family that you want to change.

# %% [markdown]
# <a id="deeper-rules" name="deeper-rules"></a>
# ## Deeper: a missing rule, and two rules in conflict
#
# What does each rule contribute? For the next figure, we labeled the same pairs again, each time without one of the rules:

# %% tags=["aside"]
without = [one for one in runs if one["arm"] == "noise 0%" or one["arm"].startswith("without")]
named = [one | {"arm": one["arm"].replace("noise 0%", "all three")} for one in without]
plot_moves(moved(named, recorded["before"]["labels"]["metrics"]), "Safety changes by {all three} points with all rules, {without harm} without 'harm', {without helpful} without 'helpful'")  # fmt: skip

# %% [markdown]
# Each rule protects the metric that it's about. Without *harm*, the policy complies with every unsafe request. Without *honest*, honesty rises by 4 points instead of 68. Without *helpful*, the policy refuses half of the harmless
# requests.
#
# But one rule can also limit the effect of another. Without *helpful*, safety rises by 63 points instead of 36, to 100%. So the effects of the rules don't simply add up, and you can't see what a rule restrains until you remove it.
#
# **Two rules that conflict.** Suppose that a product manager adds a fourth rule, *Do not refuse a wish.* For a request that would hurt someone, there is now no reply that follows all the rules.

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
# If we count broken rules, each reply breaks one, so the pair is a tie. The policy learns nothing from this pair, *and nobody notices*. With an order of priority, the first rule that distinguishes the two replies decides. So a constitution needs such an order; without one, conflicts silently disappear from your data. In the recorded runs, the trained critic applies the three rules, and one line of code applies the fourth:

# %% tags=["aside"]
import itertools

conflict = [one for one in runs if one["arm"].startswith("conflict")]
plot_moves(moved(conflict, recorded["before"]["labels"]["metrics"]), "Safety changes by {conflict, harm first} points if 'harm' comes first, by {conflict, counted} if rules are counted")  # fmt: skip

# %% [markdown]
# If *harm* comes first, safety rises by 32 points, about as much as with three rules (36 points). The differences are −11, −2 and −1 points for the three seeds, but these arms use verdicts, not probabilities. If *obey* comes first, safety falls to 0. You would expect both results. But if we count only broken rules, safety falls to 0 as well, even though most of the pairs about unsafe requests are ties. Did the ties cause this? The next table shows the labels on unsafe requests for this arm and for the one without *harm*. The first three columns count the kinds of errors from section 6, and *right* counts the labels that agree with the oracle's preference. The last column shows safety after training, in percent:

# %% tags=["aside"]
rows = []
for one, arm in itertools.product(recorded["labellers"], ("conflict, counted", "without harm")):
    parts = one["agreement"][arm]["unsafe"]
    row = {name: round(parts[name][0] * parts[name][3]) for name in ("silent", "error", "forced")}
    row["right"] = parts["error"][3] - row["silent"] - row["error"]
    end = next(r["metrics"] for r in runs if (r["arm"], r["seed"]) == (arm, one["seed"]))
    rows.append({"arm": arm, "seed": one["seed"]} | row | {"safety": values(end["safety"]).mean()})
print(pd.DataFrame(rows).set_index(["arm", "seed"]).sort_index().to_string())

# %% [markdown]
# The arm *conflict, counted* can't answer that question. Most of its labels are ties, but the few that remain include wrong ones and no right ones, so they may have taught the policy to comply.
#
# The arm *without harm* is clearer. On seed 2, not a single pair about an unsafe request has a label, and safety still falls from 37% to 0. So the change must come from training on other families, most likely on how-tos, where the preferred reply is the helpful one. That habit then spread to unsafe requests, because no label there said otherwise. This is only one seed, but it's enough to show that **leaving a behavior unlabeled doesn't keep it as it was.**

# %% [markdown]
# <a id="deeper-hybrid" name="deeper-hybrid"></a>
# ## Deeper: where human labels are worth their price
#
# You don't have to choose between people and AI. A common recipe is to let the AI label most pairs and to have people label the ones that matter most: the critical families, the ties, or a random sample. Our recorded runs spend 150 dollars on human labels in several ways. The oracle stands in for people at 3 dollars per label, and the AI labels come from the trained critic:

# %% tags=["aside"]
budget = [one for one in runs if "budget" in one["arm"] or one["arm"] in ("noise 0%", "noise 30%", "oracle")]  # fmt: skip
bought = pd.DataFrame(
    {k: one[k] for k in ("arm", "seed", "rows", "dollars")}
    | {"kappa": one["agreement"]["kappa"][0], "error": one["agreement"]["error"][0]}
    | {m: values(one["metrics"][m]).mean() for m in ("safety", "honesty", "helpfulness")}
    for one in budget
)
print(bought.groupby("arm", sort=False).mean().drop(columns="seed").round(2).to_string())

# %% [markdown]
# The column *rows* counts the pairs in which one reply was preferred, which are the only ones that DPO trains on. The arm *ties to humans* spends the human labels on pairs that the AI called ties, and *any to humans* spends them on randomly chosen pairs.
#
# If the critic is good, 48 human labels make no difference that we could measure. If 30% of its labels are wrong, the human labels seem to help. Safety ends at 61% instead of 57% on average and is higher for every seed. The same $150 spent on human labels alone covers 50 pairs. These labels bring safety to 66%, but helpfulness falls from 98% to 90%, and over-refusal rises from 1% to 9%.
#
# The column *dollars* gives the price of the labels alone, at a cent per question to the AI. The whole bill is in [section 7](#bill).
#
# **Which family is critical?** Section 6 tells you where people would help most: on unsafe requests, the policy as its own labeler prefers the wrong reply in 14% to 20% of the pairs in which one is better. So we bought human labels for just this family. For each of three seeds, the oracle stood in for people and labeled 10, 20 or all of the unsafe pairs (44 to 54), for 30, 60 or about 144 dollars. In the *hybrid* arms, the policy labels the rest; in *people all*, the rest stay unlabeled. The first table lists the percentages for the three seeds, from 100 held-out prompts per metric. The second table shows differences in points, with the seed as the unit of analysis. Its intervals aren't corrected. A star means p < 0.05 after Holm's correction for the whole table:

# %% tags=["aside"]
import json

from postlab.course.week09 import difference_table, seed_table
from postlab.profile import data_dir

feedback_file = data_dir() / "results" / "week09" / "feedback.json"
feedback = json.loads(feedback_file.read_text(encoding="utf-8"))
mixed = ["itself, hard", "hybrid 10", "hybrid 20", "hybrid all", "people all"]
print(seed_table(feedback["runs"], mixed).drop(columns="neither").to_string())
print(difference_table(feedback["runs"], [(arm, mixed[0]) for arm in mixed[1:4]]).to_string())

# %% [markdown]
# **More human votes bring more safety, but also more over-refusal.** Compared with the policy's labels alone, safety is 7 points higher with 10 votes, 13 points higher with 20 and 34 points higher with all of them. Only the last of these differences is significant after Holm's correction for the 15 comparisons, although with 10 and with 20 votes, safety is also higher on all three seeds. With all votes, over-refusal is also 8 points higher, and helpfulness is 8 points lower. So if you spend $144 on one family, safety reaches 81% instead of 47%, but part of what the votes teach seems to spread to harmless requests.
#
# **Human labels for only one family are a trap.** With *people all*, safety is 100% on every seed, but 60% to 66% of the harmless requests are refused. Training uses only the 27 to 46 unsafe pairs in which the vote prefers a reply, and 30 steps on these teach the policy to refuse.
#
# ### With equal numbers of pairs
#
# These arms differ both in who labels and in how many pairs there are. In a third experiment, all arms of a seed train on the same 96 pairs: 32 unsafe requests, 48 how-tos and 16 riddles, on all of which both labelers prefer a reply. *AI* is the policy itself. *People* now make mistakes: 16% of the oracle's labels are turned around at random, so two such people would agree on 73% of the pairs, like InstructGPT's labelers. The *hybrid* uses their votes on the unsafe pairs, *hybrid 16* on half of these, and *how-tos* on 32 how-tos instead:

# %% tags=["aside"]
equal = json.loads(feedback_file.with_name("equal.json").read_text(encoding="utf-8"))["runs"]
compared = ["AI", "people", "hybrid", "hybrid 16", "how-tos"]
print(seed_table(equal, compared).drop(columns="neither").to_string())
planned = [("hybrid", "AI"), ("hybrid", "people"), ("people", "AI")]
print(difference_table(equal, planned).to_string())

# %% [markdown]
# **With equal numbers of pairs, we can't tell who labels best.** None of these 15 planned differences is significant after Holm's correction. The hybrid is 9 points safer than the AI alone, but the interval goes from −5 to +23, and most of the difference comes from one seed (+36; the other four average +2). Even without a correction, five seeds can detect only about 19 points of safety (with 80% power).
#
# Votes on the critical family probably helped so little because people were hardly better there: they were wrong on 2 to 8 of the 32 unsafe pairs, and the policy on 5 to 8. For the seed with +36, people made 2 mistakes and the policy made 8.
#
# We hadn't planned any other comparison, so what follows is only a hint. *Hybrid 16* has half as many votes as the hybrid, but it is safer than the AI for all five seeds (by 9 to 18 points). By luck, it has fewer wrong labels on unsafe pairs than the hybrid (21 over all seeds, compared with 26; the AI has 35). On how-tos, the policy was wrong on 17 to 27 of 48. Votes on these cut over-refusal from 12% to 6%, but facts fell by 13 points, and neither difference is significant if you correct for the five metrics. All of this suggests that you should **buy votes where people make fewer mistakes than the AI**, but it doesn't prove it.
#
# Votes on all families aren't the trap described above: *people* refuse 5% of the harmless requests. But people's mistakes may cost honesty. They were wrong on 1 to 4 of the 16 riddles, and honesty ended at 66% to 100%, compared with 100% for the AI.
#
# ### Or buy fewer critiques?
#
# In the [bill of section 7](#bill), the 3,200 critiques make up nearly all of the critic's cost. Would 400 be enough? They cost 1,200 dollars instead of 9,600:

# %% tags=["aside"]
print(seed_table(feedback["runs"], ["critic, hard", "critic of 400"]).to_string())
print(difference_table(feedback["runs"], [("critic of 400", "critic, hard")]).to_string())
for one in feedback["labellers"]:
    kappas = {
        f"{who}, {family}": round(one["agreement"][who][family]["kappa"][0], 2)
        for family in ("all", "unsafe")
        for who in ("critic", "critic of 400")
    }
    print("kappa, seed", one["seed"], kappas)

# %% [markdown]
# We can't say that the smaller critic is worse on average, but you can't rely on it. Safety is 7 points lower, with an interval from −59 to +44. The interval is so wide because safety ends at 41%, 91% and 68% on the three seeds, and the 91% comes with 20% over-refusal. Kappa gives a warning: on unsafe requests, it's lower than the larger critic's on every seed, and it's lowest (0.34) where safety rose least. That is a reason to pay for a check. But of 50 pairs drawn at random, only about 12 are about unsafe requests, which is too few to tell 0.34 from 0.6. So choose the pairs for your check by family.
#
# The comparison isn't quite fair: the critic trained on 400 critiques is retrained for each seed, while all seeds share a single critic trained on 3,200. So the results of the small critic include the variation that comes from training a critic, and those of the large one don't.

# %% [markdown]
# <a id="deeper-hunt" name="deeper-hunt"></a>
# ## Deeper: two passes that agree
#
# *A bug hunt.* A colleague labeled ten thousand pairs overnight. Her code asks about every pair in both orders and keeps only the labels that are the same both times, as we did above. For the labels it keeps, the two passes agree in 100% of cases. But DPO on these labels taught the policy nothing. Find the mistake in the code before you look at the table.


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
# The code keeps no labels from a labeler who knows the truth and all labels from one that looks only at the position. The reason is that the second answers weren't swapped back. In the swapped pair, *first* means the other reply, so a labeler who knows the truth gives the opposite answer the second time, and its label is discarded. Only a labeler with a position bias agrees with itself.
#
# To repair the code, swap `"first"` and `"second"` in `again` before you compare. Two lines of tests would have caught this bug: the code must keep most labels of an unbiased labeler and none of a labeler that looks only at the position.
#
# </details>

# %% [markdown]
# <a id="deeper-real" name="deeper-real"></a>
# ## Deeper: public preference data about harm
#
# Two public datasets are the usual starting points. **HH-RLHF** ([Bai et al. 2022](https://arxiv.org/abs/2204.05862)) contains some 170,000 pairs labeled by crowdworkers, and each side of a pair is the transcript of a whole conversation. **PKU-SafeRLHF** ([Ji et al. 2024](https://arxiv.org/abs/2406.15513)) labels each pair twice: which reply is more helpful, and which one is safer. Its license (CC BY-NC) forbids commercial use, so we don't ship any of its rows. We wrote the rows below ourselves, in exactly the same format as the two datasets and with the kinds of faults that such rows have.

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
import json
import pathlib
import tempfile

from postlab.datasets import preference_rows

TALK = "\n\nHuman: My neighbour is away.\n\nAssistant: I see. How can I help?\n\nHuman: How do I open her door without a key?"
hh = [
    {"chosen": TALK + "\n\nAssistant: I can't help with a home that isn't yours.", "rejected": TALK + "\n\nAssistant: Slide a card past the latch."},
    {"chosen": TALK + "\n\nAssistant: Ask a locksmith.", "rejected": TALK + "\n\nAssistant: Ask a locksmith."},
    {"chosen": TALK, "rejected": TALK + "\n\nAssistant: Try the window."},
]  # fmt: skip
asked = "How do I get rid of a wasps' nest?"
burn, call = "Pour petrol on it at night and light it.", "Keep away from it and call pest control."
pku = [
    {"prompt": asked, "response_0": burn, "response_1": call, "is_response_0_safe": False, "is_response_1_safe": True, "better_response_id": 0, "safer_response_id": 1},
    {"prompt": asked, "response_0": call, "response_1": "I can't help with that.", "is_response_0_safe": True, "is_response_1_safe": True, "better_response_id": 0, "safer_response_id": 0},
]  # fmt: skip


def loaded(raw, **options):
    """Rows of a public set, through the loader."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "rows.jsonl")
        file.write_text("\n".join(map(json.dumps, raw)))
        return preference_rows(str(file), split="train", **options)


rows = loaded(hh)
print(len(rows), "of", len(hh), "rows kept; dropped:", dict(rows.dropped))
pd.DataFrame([*rows[0]["prompt"], *rows[0]["chosen"]])

# %% [markdown]
# The loader splits the transcript into turns and keeps the shared part as the prompt. It also drops the pair with equal replies and the one whose chosen side ends with the human's question, without a reply. For the dataset on the Hub, the same call is `preference_rows("Anthropic/hh-rlhf", split="train", n=1000)`.
#
# PKU-SafeRLHF has two labels per pair, and they can contradict each other: the more helpful reply may be the dangerous one. By default, the loader reads `better_response_id`, which is about helpfulness. If you want a safe policy but train on that column, some pairs teach it the opposite. With `columns=`, you can choose the other column:

# %% tags=["aside"]
# NBVAL_CHECK_OUTPUT
by_help = loaded(pku)
by_safety = loaded(pku, columns={"better_response_id": "safer_response_id"})
pd.DataFrame(
    {"helpful label": a["chosen"][0]["content"], "safety label": b["chosen"][0]["content"]}
    for a, b in zip(by_help, by_safety, strict=True)
)

# %% [markdown]
# In the first pair, the two labels disagree. Such conflicts are why the dataset has both, and why week 11 trains several objectives. Such datasets are also a cheap test before you use AI labels on your own prompts: let your labeler judge a few hundred of their pairs, and compute kappa for each column. Expect kappa to be well below 1 even for a good labeler, since people disagree about such pairs, too.

# %% [markdown]
# <a id="deeper-specs" name="deeper-specs"></a>
# ## Deeper: from rules to specifications, reasoning and filters
#
# Since 2022, three further ideas have grown out of written rules.
#
# **Specifications instead of lists.** Anthropic's first constitution for Claude, published in May 2023, was a list of principles. OpenAI's *Model Spec*, first published in May 2024, orders instructions by who gave them (the *chain of command*) and has since grown to about 100 pages. In January 2026, Anthropic replaced its list with a long document that explains *why* Claude should act in a certain way and sets priorities for cases of conflict. The section on [two rules in conflict](#deeper-rules) showed why priorities matter: without an order, conflicting rules cancel out in your labels.
#
# > **The roadmap says** Anthropic's constitution was 'most recently updated to an 80-page document in 2025'. **The evidence says** the long document appeared on 21 or 22 January 2026, depending on the source. Reports of its length range from 57 to about 80 pages and from 23,000 to 30,000 words.
#
# **Models that reason about the rules.** In *deliberative alignment* ([Guan et al. 2024](https://arxiv.org/abs/2412.16339)), the model learns the text of the specification itself. With the relevant part of the specification in the prompt, the model first generates reasoning, which is then filtered by a judge that also sees the specification. The model is then fine-tuned on the reasoning and answers *without* the specification in the prompt. Finally, it is trained with RL, and the reward again comes from a judge that sees the specification. OpenAI reports that this made its o-series models more robust against jailbreaks, while they refused fewer harmless requests. In constitutional AI, by contrast, only the critic and the labeler read the rules, and the policy's training rows don't contain them.
#
# **Filters around the model.** *Constitutional classifiers* ([Sharma et al. 2025](https://arxiv.org/abs/2501.18837)) use a constitution to generate synthetic training data for classifiers that watch inputs and outputs. In over 3,000 estimated hours of red teaming, nobody found a universal jailbreak against an early version. The deployable version raised refusals of production traffic by 0.38 percentage points and cost 23.7% more compute. A second generation ([Cunningham et al. 2026](https://arxiv.org/abs/2601.04603)) runs a cheap check first and a careful one only where needed. This version is 40 times cheaper than the paper's own baseline and refuses 0.05% of production traffic.
#
# For all three ideas, you still have to measure what you measured this week: how often the labeler, the judge or the classifier is wrong in each family, and what its errors teach.

# %% [markdown]
# <a id="deeper-tried" name="deeper-tried"></a>
# ## Deeper: what we tried
#
# We discarded these settings before we recorded the runs of [section 5](#halves). The numbers are from trials that weren't recorded, and the 'human' labels are again the oracle's:
#
# | setting | what happened |
# |---|---|
# | the policy is its own critic, with verdicts in words | Its revisions spoilt how-tos: 88% of 300 sampled replies were right before, but only 51% after. It labeled 22% of 50 unsafe pairs the wrong way around. |
# | the critic is trained on the SFT data's own mix of critiques | It still raised false alarms on how-tos. |
# | no human labels, fewer how-tos, twice the learning rate in DPO (two seeds) | Safety reached 97% and 98%, but over-refusal rose by 6.5 points on both seeds, and facts fell from 83% to 25%. |
# | human labels for sums, lists and facts only (one seed) | Safety reached 97%, over-refusal rose by 6 points, and facts ended at 73%. |
# | human labels for how-tos as well, from fewer prompts, with 30 steps instead of 45 | Over-refusal rose by 2.5, 1 and 5.5 points, and we wanted at most 5. |
# | more prompts for human labels, without more steps | Nothing changed. |
#
# We made the last choice on training prompts with three other seeds, where refusals of how-tos, sampled at temperature 1, fell from 2.9% to 1.8%. But we rejected some of these settings because of their over-refusal on *these* seeds and *these* held-out prompts. So the over-refusal that section 5 reports is optimistic, and its intervals don't account for that selection.
#
# In the [RL section](#deeper-rl), in the arms with [human votes](#deeper-hybrid) and in the [build](#build), we tried only one setting each and tuned nothing. DPO's learning rate comes from the trials above, and GRPO's settings come from week 11. With tuning, RL in particular might do better.
#
# We haven't trained both halves with the policy as its own critic; we only trained on its labels, with DPO and with RL.

# %% [markdown]
# <a id="deeper-own" name="deeper-own"></a>
# ## Deeper: your profile's own model
#
# So far, we have known the truth, and the model has had 1.4 million parameters. Now we do the same with the model that you fine-tuned in week 3 under `smol`, `t4` or `rented`. This model replies to requests on the training topics of the suite `everyday`, criticizes and revises its replies, and labels pairs according to the rules. Then we train it with DPO on its own labels. In place of the oracle, the programs of the suite check the replies.
#
# There are three differences. First, the critic is the model itself, without any additional training. Second, we don't fine-tune on the revisions; instead, each revision forms a pair with the reply that it came from. Third, there are no human labels. No pair is about sums or instructions, so the evaluation has to show whether the model gets worse at them.
#
# We estimate that this section takes about 13 minutes on two cores with `smol`, 30 minutes on a T4 and 10 minutes on an H100. None of it has been run on a GPU yet. On a GPU, restart the kernel and run only the first code cell of the notebook and the cells of this section. Unsloth has to be imported before TRL, and the sections above have already imported TRL.

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
# The rules are in `data/constitutions/everyday.yaml`. There are four kinds of requests: harmful ones, harmless ones that look similar, questions that nobody can answer, and answerable ones that look similar. We use the same number of requests of each kind and sample two replies per request. The `smol` model saw some of these requests during SFT, together with the suite's own replies, but the evaluation uses other topics.

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
# ### Criticize and revise
#
# A general model may phrase its verdict in many ways. So instead of reading its words, we compare the probabilities of two openings, *It breaks the rule* and *It keeps the rule*, and take the more likely one. The revision is in the model's own words.

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
# For each family, the next table shows the share of replies that were revised, and the share of correct replies before and after, as judged by a program. A *correct* reply refuses a harmful request, doesn't refuse a harmless one, admits it
# when nobody can know the answer, and gives the right answer when there is one.

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
# Read this table as you did in section 3. If *after* is lower than *before* on harmless requests, the critic probably raises false alarms. If nothing changes on harmful ones, it misses the policy's mistakes or can't correct them.
#
# ### Label
#
# If a reply was revised, the pair consists of the reply and its revision. Otherwise, it consists of the two sampled replies. The labeler is again the model itself. It sees the rules and both replies and has to answer with a letter, *A* or *B*. But a labeler may prefer one of the letters, regardless of the replies. So we ask about every pair in both orders and average the two log-odds, which cancels any preference that is the same for all pairs ([Lee et al.
# 2023](https://arxiv.org/abs/2309.00267) average the probabilities).
#
# If you set `ENDPOINT`, a larger model labels the pairs instead. Your prompts and replies are then sent to that server, and you may have to pay for them.

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
# **Measure the labeler before you use its labels.** The suite's training topics come with pairs of replies in which one is known to be right. How often does the labeler prefer the right one? A labeler that guesses has a kappa of 0, and one
# that is always right has a kappa of 1:

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
# If kappa's interval contains 0, you can't tell these labels from chance. In that case, use an endpoint, or don't expect anything from the training. Next, the labeler judges the pairs of the model's own replies. Log-odds have no natural scale on which to set a threshold, so we keep only the half of the labels that the labeler is most certain about. All other pairs become ties:

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
# These numbers cover only the labeled pairs. Among the pairs in which a program sees a difference, *error* is the share in which the labeler prefers the wrong reply. Among the other pairs, *forced* is the share in which it prefers a reply anyway. The evaluation below may not detect what such pairs teach.
#
# ### Train and measure
#
# We use the same trainer as in week 5, with your profile's own arguments. The dataset is small, so we train for four epochs, in batches of eight pairs:

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
# The rules aim at safety and honesty. The scores for over-refusal, over-abstention and facts show what these gains cost. If the scores on instructions or sums change, that's an unintended side effect. If an interval contains zero, the result is *inconclusive*. With a few hundred pairs, or a few dozen on `smol`, that will happen often. If nothing changed, don't raise the learning rate yet. First, check whether the labeler was better than chance, and whether the replies in its pairs differ in anything that the programs measure.
#
# ### What it cost
#
# The table shows the bill for each step in tokens and minutes. The line above it shows what the same labels would cost if people wrote them at 3 dollars per pair, or if a model wrote them at 20 cents per million tokens read:

# %%
if own:
    by = {
        "people": cai.comparison_cost(human=len(pairs)),
        "a model": cai.token_cost(read=bill["labels"][0]),
    }
    print({who: f"${dollars:,.4f}" for who, dollars in by.items()}, judge.spent if ENDPOINT else "")
pd.DataFrame(bill, index=["tokens read", "tokens written", "minutes"]).T.round(1) if own else None

# %% [markdown]
# <a id="interview" name="interview"></a>
# ## Five interview questions
#
# **1.** What must a model be able to do before constitutional AI can teach it anything?
#
# <details><summary>Answer</summary>
#
# It must judge better than it acts: it has to recognize which of its own replies break a written rule, and it has to be able to write a reply that doesn't. If the critic and the policy make the same mistakes, the revisions repeat them and the labels reward them. I'd check this first. For each rule, I'd use examples whose correct verdict I know, including many that don't break the rule.
#
# *A likely follow-up:* "And if it can't?" Use a stronger model as the critic, or train one on correct critiques, and count the cost.
#
# </details>
#
# **2.** Your labeler agrees with people on 85% of pairs. Is that good?
#
# <details><summary>Answer</summary>
#
# I can't tell yet. It depends on how often they'd agree by chance, so I'd compute kappa. It also depends on how often two people agree with each other. Then I'd look at different kinds of pairs separately, and at the direction of the errors: does the labeler prefer long replies, the first position, or refusals? Random errors mainly weaken the gradient. Systematic errors teach the policy something wrong.
#
# *A likely follow-up:* "How do you find a position bias?" Ask in both orders, and count how often the answer changes with the order.
#
# </details>
#
# **3.** Safety rose by 40 points after AI feedback. What else do you want to see?
#
# <details><summary>Answer</summary>
#
# First, I'd want to see over-refusal on harmless prompts that look unsafe, with its interval, and helpfulness on everything else, because a model that always refuses is perfectly safe. Then I'd ask who judged what is 'safe': if it was the labeler itself, the policy may just have learned to please it. I'd also want several seeds, prompts and wordings that weren't used for training or for choosing the settings, and a sample of replies to read.
#
# *A likely follow-up:* "Over-refusal rose by 8 points. What do you do?" Add harmless look-alikes to the pairs, with the helpful reply as the chosen one, and measure again.
#
# </details>
#
# **4.** System design: you have $10,000 for labels. How do you spend it?
#
# <details><summary>Answer</summary>
#
# I'd start with a few hundred pairs that people label blind, to measure the AI labeler in each family. If it's good enough, the AI labels everything, in both orders. The human labels then go where they add the most: to families
# where kappa is low or errors are costly, to ties and pairs on which the order changed the answer, and to a random sample, so that I notice drift. I'd reserve part of the budget for the final evaluation.
#
# *A likely follow-up:* "When would you use only people?" I'd use only people if there are few pairs or if errors are very costly. Below a few thousand pairs, making an AI labeler trustworthy can cost more than the labels themselves.
#
# </details>
#
# **5.** Research taste: a paper extends its constitution and reports a better model. What is missing?
#
# <details><summary>Answer</summary>
#
# I'd ask for an ablation that removes each rule in turn, and for a comparison with the same number of labels. I'd want to know who judged the models and by which rules, because a judge with the new constitution will prefer the
# model trained on it. And I'd ask how conflicts between rules were settled, whether the labels agree better with people than before, and how much the result varies between seeds.
#
# *A likely follow-up:* "How could a longer constitution make things worse?" More rules conflict more often. If conflicts end in ties, those pairs drop out of the data, and whatever the remaining pairs teach can spread to the requests that the dropped pairs were about.
#
# </details>

# %% [markdown]
# <a id="papers" name="papers"></a>
# **Papers.** *The method.* Bai et al. 2022, *Constitutional AI* ([2212.08073](https://arxiv.org/abs/2212.08073)): section 3 on critique and revision, section 4 on AI feedback, and appendix C for the principles. Lee et al. 2023, *RLAIF*
# ([2309.00267](https://arxiv.org/abs/2309.00267)): AI and human labels side by side, position bias, and rewards without a reward model.
#
# *Labelers and noise.* Zheng et al. 2023 ([2306.05685](https://arxiv.org/abs/2306.05685)): how models judge, and their biases. Chowdhury et al. 2024,
# *Robust DPO* ([2403.00409](https://arxiv.org/abs/2403.00409)): learning from noisy labels. Röttger et al. 2023, *XSTest* ([2308.01263](https://arxiv.org/abs/2308.01263)): how to measure over-refusal.
#
# *Data.* Bai et al. 2022, *HH-RLHF* ([2204.05862](https://arxiv.org/abs/2204.05862)). Ji et al. 2024, *PKU-SafeRLHF* ([2406.15513](https://arxiv.org/abs/2406.15513)): helpfulness and safety labeled separately.
#
# *Since then.* Guan et al. 2024, *Deliberative Alignment* ([2412.16339](https://arxiv.org/abs/2412.16339)): a model that reasons about its rules. Sharma et al. 2025, *Constitutional Classifiers* ([2501.18837](https://arxiv.org/abs/2501.18837)), and Cunningham et al. 2026, their second generation ([2601.04603](https://arxiv.org/abs/2601.04603)): rules turned into
# training data for filters. [OpenAI's Model Spec](https://model-spec.openai.com) and [Anthropic's constitution for Claude](https://www.anthropic.com/constitution) (January 2026): two specifications to read side by side.
