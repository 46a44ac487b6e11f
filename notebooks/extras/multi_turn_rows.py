# %% [markdown]
# # Extra · Training on conversations
#
# Nearly all of week 3's rows have one question and one reply. Real datasets often contain whole conversations, and then you have to decide which replies to train on: only the last, or all of them? Most tools make that choice for you, and they don't all choose the same.
# By default, TRL even trains on the *user's* turns if your rows have a column `messages`.
#
# By the end, you'll be able to explain
#
# - how a conversation becomes tokens and a loss mask, under four settings that are all in use,
# - which rows should be trained on their last reply only, and which on every reply,
# - what packing does to conversations, and
# - what a model learns from conversations that it doesn't learn from single turns, at equal tokens.
#
# About 30 minutes. The experiment uses the tiny world, so its results show *mechanism, not capability*.

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
# ## 1. What the turns of real rows do
#
# We wrote six conversations in the exact form of [UltraChat 200k](https://huggingface.co/datasets/HuggingFaceH4/ultrachat_200k). A row has a column `messages`, its first message again as `prompt`, and a hash of that as `prompt_id`. Here they are, a line per turn:

# %%
# NBVAL_CHECK_OUTPUT
import json

import pandas as pd

from postlab.course.week03 import sample_file

pd.set_option("display.max_colwidth", 110)
lines = sample_file("ultrachat").read_text(encoding="utf-8").splitlines()
talks = [json.loads(line)["messages"] for line in lines]
turns = [(n, m["role"], m["content"]) for n, talk in enumerate(talks) for m in talk]
pd.DataFrame(turns, columns=["row", "role", "content"]).set_index("row")

# %% [markdown]
# Each of the six rows raises a different question:
#
# - **Row 0** is the ideal. Each question depends on what came before, and every reply is good.
# - **Row 1** contains a mistake. The first reply is wrong, and the last one corrects it. If you train on every reply, you train on the mistake too.
# - **Row 2** ends with thanks. The first reply is the one worth learning; the last is only a polite phrase.
# - **Row 3** changes the topic. The second question has nothing to do with the first.
# - In **row 4** the assistant first asks a question of its own. That's often the best reply, but if you train only on last replies, the model never sees it as a target.
# - **Row 5** ends with a question that nobody answered.
#
# How much of the assistant's text is trained if the loss covers only the last reply? That is the setting `instruction_rows` uses. In row 5 it drops the unanswered question, so the reply before it becomes the last:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.datasets import instruction_rows


def count_words(messages):
    """Words in the assistant's messages."""
    return sum(len(m["content"].split()) for m in messages if m["role"] == "assistant")


loaded = instruction_rows(str(sample_file("ultrachat")), split="train")
parts = [
    (count_words(talk), count_words(row["completion"]))
    for talk, row in zip(talks, loaded, strict=True)
]
words = pd.DataFrame(parts, columns=["words in all replies", "words in the last reply"])
words.rename_axis("row").assign(
    share=(words["words in the last reply"] / words["words in all replies"]).round(2)
)

# %% [markdown]
# In row 2, only two of the assistant's 44 words would be trained, and they aren't the ones worth learning. So neither setting is right for every dataset:
#
# | train on | when |
# |---|---|
# | every reply | all replies come from a source that you want to imitate, as in UltraChat, where ChatGPT wrote all of them |
# | the last reply | earlier replies are worse than the last: corrections, critiques as in weeks 3 and 9, or datasets whose early turns were written by a weaker model ([a TRL user's example](https://github.com/huggingface/trl/issues/1282)) |
# | replies you select | some replies are wrong or empty: rows 1 and 2. Cut the conversation after the last good reply, or unroll it into one row per reply and filter these |
#
# ## 2. From turns to tokens and masks

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.extras import draw_turn_masks

draw_turn_masks()

# %% [markdown]
# The chat template writes all turns one after the other. To mask the assistant's tokens, something has to know where they begin and end. There are two ways. You can render the prompt and the whole conversation separately, and train on the tokens that only the second one contains (`prompt` and `completion`). Or the
# template marks the assistant's part itself, with `{% generation %}` and `{% endgeneration %}`. With these marks, `apply_chat_template` can return the mask:

# %%
# NBVAL_CHECK_OUTPUT
from transformers import AutoTokenizer

from postlab.models import tiny_base

tokenizer = AutoTokenizer.from_pretrained(str(tiny_base()))
talk = [
    {"role": "user", "content": "What is 12+30?"},
    {"role": "assistant", "content": "12+30=42. #### 42"},
    {"role": "user", "content": "Add 20 to that."},
    {"role": "assistant", "content": "42+20=62. #### 62"},
]


def show(ids, mask):
    """The text of the tokens, with [trained] tokens in brackets."""
    pieces = [tokenizer.decode([token]).replace("\n", "↵") for token in ids]
    print("".join(f"[{text}]" if on else text for text, on in zip(pieces, mask, strict=True)), "\n")


marked = tokenizer.apply_chat_template(talk, return_assistant_tokens_mask=True, return_dict=True)
show(marked["input_ids"], marked["assistant_masks"])

# %% [markdown]
# Each reply is trained together with its `<|im_end|>`. If a template puts the end of turn outside the marks, the model never learns to stop (section 8 of week 3 shows what that looks like). TRL 1.14 warns about it.
#
# Now let's look at the labels that TRL's trainer builds. We give it the same conversation in three forms, without training anything. A label of -100 means that the token isn't trained:

# %%
# NBVAL_CHECK_OUTPUT
import tempfile

from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

model = AutoModelForCausalLM.from_pretrained(str(tiny_base()))


def labels_of(row, **settings):
    """The token ids of a row and which of them TRL trains."""
    args = SFTConfig(
        output_dir=tempfile.mkdtemp(), report_to="none", use_cpu=True, bf16=False, **settings
    )
    data = Dataset.from_list([row])
    trainer = SFTTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    return batch["input_ids"][0].tolist(), (batch["labels"][0] != -100).tolist()


forms = {
    "prompt, completion": ({"prompt": talk[:3], "completion": talk[3:]}, {}),
    "messages, assistant_only_loss=True": ({"messages": talk}, {"assistant_only_loss": True}),
    "messages": ({"messages": talk}, {}),
}
for name, (row, settings) in forms.items():
    ids, trained = labels_of(row, **settings)
    print(f"{name}: {sum(trained)} of {len(ids)} tokens are trained")
    show(ids, trained)

# %% [markdown]
# The same conversation in three forms gives three different losses, and none of them raises an error. The third, `messages` without `assistant_only_loss`, trains on every token of the sequence, the user's questions included ([TRL's maintainers say so too](https://github.com/huggingface/trl/issues/2424)). The first form also trains the line break after
# the last `<|im_end|>`; that does no harm, because generation stops before it.
#
# `assistant_only_loss` needs the `generation` marks. If a template has none, TRL 1.14 replaces it with a version of its own for the model families it knows, such as Llama 3 and Qwen2.5, and raises an error for all others. Unrolling a conversation into one row per reply works with any template, but it reads the early turns again for
# every reply: a conversation of $k$ turns of equal length is read $(k+1)/2$ times. Some templates leave no other choice: those of reasoning models such as Qwen3 remove the thinking part of *earlier* replies, so that the tokens of an early reply differ from those the model generated in that turn.
#
# ### Packing
#
# Packing puts several conversations into one sequence, so that less is padded. TRL has two strategies. We pack three short rows into sequences of at most 12 tokens; each number is a token, and the hundreds tell you which row it came from:

# %%
# NBVAL_CHECK_OUTPUT
from trl import pack_dataset

short = [[100 * n + i for i in range(length)] for n, length in ((1, 9), (2, 5), (3, 6))]
for strategy in ("bfd", "wrapped"):
    packed = pack_dataset(Dataset.from_dict({"input_ids": short}), 12, strategy)
    print(strategy, packed["input_ids"][:], sep="\n", end="\n\n")

# %% [markdown]
# `bfd` (best fit decreasing, the default) keeps each conversation whole. Only a conversation longer than the sequence is cut, at its end. `wrapped` fills every sequence to the last token and cuts conversations wherever the sequence ends. Here the rest of a cut row starts the next sequence, without the question it answers. For SFT, use `bfd`.
#
# Packing has a second trap: without an attention kernel that knows where one row ends, the tokens of a row also attend to the rows before it. With FlashAttention they don't, because TRL passes the position of each token within its own row. Without it, TRL warns. That is why week 3 leaves packing off on a CPU.
#
# ## 3. Single turns against conversations, at equal tokens
#
# What does a model learn from conversations that it can't learn from single turns? In the tiny world we can measure it. We drew pairs of questions. In half of the pairs, the second question refers to the first: "Add 20 to that.", "What does it eat?", "How do I clean it?" In the other half, it is about something else. Then we trained the
# embedded base model on the same kind of pairs in six ways:
#
# - *single turns*: two rows per pair. Follow-ups are rewritten so that they can stand alone: "What is 42+20?"
# - *one pair in ten a conversation*: as above, but every tenth pair is one row with two turns.
# - *conversations, last reply* and *conversations, every reply*: each pair is one row, with the loss on its last reply or on both.
# - *corrected, last reply* and *corrected, every reply*: the same, but in half of the conversations the first reply is wrong. The user says so, and the second reply is right.
#
# Every arm takes 60 steps, and each step reads whole rows, up to 480 tokens in all. So the arms read about the same number of tokens, but they differ in how many rows they read and in how many tokens the loss covers:

# %%
# NBVAL_CHECK_OUTPUT
from postlab.profile import data_dir

record = json.loads((data_dir() / "results" / "week03" / "turns.json").read_text())
print(", ".join(str(record["provenance"][key]) for key in ("command", "date", "device", "seeds")))
read = pd.DataFrame([{"arm": run["arm"]} | run["tokens"] for run in record["runs"]])
read.groupby("arm", sort=False)[["rows", "tokens", "trained"]].mean().round(0).astype(int)

# %% [markdown]
# The held-out prompts use other numbers, creatures, things and wordings than the rows. There are 48 of each kind: first questions, second questions on a new topic, and follow-ups. Where a prompt has two turns, the reply in its first turn is right.

# %%
from postlab.course.extras import plot_turns

KINDS = {"first": "first question", "unrelated": "second, new topic", "follow-up": "follow-up"}


def shares(arm, kind):
    """The share of right answers of each seed."""
    digits = [
        "".join(text for name, text in run["right"].items() if name.startswith(kind))
        for run in record["runs"]
        if run["arm"] == arm
    ]
    return [text.count("1") / len(text) for text in digits]


clean = [arm for arm, how in record["arms"].items() if not how["corrected"]]
plot_turns(
    pd.DataFrame(
        [
            {"arm": arm, "kind": label, "seeds": shares(arm, kind)}
            for kind, label in KINDS.items()
            for arm in clean
        ]
    )
)

# %% [markdown]
# Conversations teach follow-ups; single turns hardly do. After training on single turns, the model answers 10 to 13% of the follow-ups correctly, depending on the seed. If one pair in ten is a conversation, it answers 17 to 19%. If every pair is one, it answers 21 to 25% with the loss on the last reply, and 23 to 29% with the loss on every reply. For first questions we can't establish a change: the difference between conversations with the loss on every reply and single turns is −2 points (−12 to 8).

# %%
# NBVAL_CHECK_OUTPUT
from postlab import stats

single, tenth, last, every, corrected_last, corrected_every = record["arms"]
pairs = [(every, single), (tenth, single), (every, tenth), (every, last)]
tested = []
for kind, label in KINDS.items():
    values = {arm: shares(arm, kind) for arm in clean}
    for (arm, control), change in zip(pairs, stats.blocked_differences(values, pairs), strict=True):
        tested.append({"prompts": label, "arm": arm, "against": control} | vars(change))
wrong = {arm: shares(arm, "first") for arm in (corrected_last, corrected_every)}
change = stats.blocked_differences(wrong, [(corrected_every, corrected_last)])[0]
tested.append(
    {"prompts": KINDS["first"], "arm": corrected_every, "against": corrected_last} | vars(change)
)
table = pd.DataFrame(tested).drop(columns="n")
table["p"] = stats.holm(table["p"])
table["shown"] = ["yes" if p < 0.05 else "inconclusive" for p in table["p"]]
table.round(3)

# %% [markdown]
# Two of the 13 differences remain after Holm's correction, both on follow-ups. Conversations with the loss on every reply beat single turns by 15 points (11 to 18), and they beat the arm with one conversation in ten by 9 points (5 to 13). The loss on every reply covers twice as many tokens as the loss on the last reply, but whether it is better is inconclusive for all three kinds of questions. We also wanted to know whether training on the wrong first replies of the *corrected* rows makes first answers worse. That is inconclusive too: they were 7 points better with these replies trained than without (−4 to 18). The arms with the loss on the last reply train on half as many tokens, and this experiment can't separate that from which reply is trained.

# %%
# NBVAL_CHECK_OUTPUT
by_family = {
    arm: {
        name: f"{sum(r['right'][name].count('1') for r in runs) / sum(len(r['right'][name]) for r in runs):.0%}"
        for name in ("follow-up arithmetic", "follow-up facts", "follow-up howto")
    }
    for arm in record["arms"]
    for runs in [[run for run in record["runs"] if run["arm"] == arm]]
}
pd.DataFrame(by_family).T

# %% [markdown]
# All of the gain is in one family, facts. Asked "What does it eat?" after a question about the same creature, the model often finds the creature in the first turn: 23% of such questions are answered correctly after single turns, and 69% after conversations with the loss on every reply. No arm ever gets "Add 20 to that." right, and all arms answer "How do I clean it?" correctly in about one case in ten. So in 60 steps the model learned to look up a word from the previous turn, but not to calculate with a number from it. With three seeds and 48 prompts of each kind, this shows a mechanism and says little about the abilities of larger models.
#
# **What published work found.** LIMA ([2305.11206](https://arxiv.org/abs/2305.11206), the section on multi-turn dialogue) added 30 multi-turn dialogues to its 1,000 single-turn rows and reports clearly better conversations. MT-Eval ([2401.16745](https://arxiv.org/abs/2401.16745)) rewrote 1,170 multi-turn queries as single turns. Most of the 11 models it tested answered
# the single-turn versions better. The key factors it names are the distance to the relevant turn and errors carried over from earlier turns.
