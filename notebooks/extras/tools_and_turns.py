# %% [markdown]
# # Extra · Tools and turns: when is a call worth it?
#
# A model that can call a calculator doesn't have to be good at multiplication. But it has to know when to call, what to ask, and what to do with the reply. It can learn these skills with the same algorithm as in week 7. Only the episode is longer: the policy writes a call, a program answers, and the policy goes on writing. This is how models learn to use search engines, code interpreters and whole computers.
#
# By the end you can explain
#
# - what TRL's `environment_factory` does, and what it needs from a chat template,
# - why the tool's tokens are masked, and what that looks like in one episode,
# - what a policy learns if calls are free, if they cost something, and if they cost more than they gain,
# - what happens when the tool lies, in training or only afterwards, and
# - how you can divide the credit for an answer among the turns that led to it.
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
# ## 1. One episode

# %%
# NBVAL_CHECK_OUTPUT
from postlab.course.extras import draw_turns

draw_turns()

# %% [markdown]
# The environment is the embedded world with two tools, a calculator and a lookup. The lookup returns facts about the creatures of the world and today's prices. There are five kinds of questions, chosen so that a call is needed for some and not for others:
#
# | kind | example | without tools, the week 7 model … | calls needed |
# |---|---|---|---|
# | `sum` | What is 46+56+59? | works it out, almost always right | 0 |
# | `fact` | Which colour has the tunek? | knows it from its documents | 0 |
# | `product` | What is 34x50? | can't multiply | 1 |
# | `price` | The ladder: what does one cost today? | can't know | 1 |
# | `bill` | The ladder: what do 12 cost today? | can't know | 2 |
#
# In TRL, an environment is a class. TRL makes one instance for each episode, calls `reset` with the columns of its row, and offers all other public methods to the model as tools. Real models' chat templates write the docstrings of these methods into the prompt as descriptions.

# %%
import inspect

from postlab.course.extras import World, questions

print(inspect.getsource(World.sums))
rows = questions(600, split="train", seed=lab.seed)
for row in rows[:5]:
    print(f"{row['kind']:8} {row['prompt'][0]['content']:40} {row['answer']:6} {row['prices']}")

# %% [markdown]
# ## 2. From a template to a call
#
# Before TRL can run such an episode, the chat template and the tokenizer have to meet three requirements, and our base meets none of them:
#
# - **render a call**: an assistant message with `tool_calls`, and the tool's reply as a message of its own;
# - **keep its prefix**: what was rendered before a tool's reply must stay the same, token by token, once the reply is there, because TRL appends the reply's tokens and never tokenizes the conversation again;
# - **be parsed**: the tokenizer's `response_template` says which part of a completion is a call. TRL knows this for the templates of Qwen, Llama, Gemma and some others. For any other template, you have to set it yourself.
#
# Let's see how TRL reacts to our template as it is.

# %%
import os
import tempfile
from dataclasses import fields

import pandas as pd
from datasets import Dataset
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from postlab.course.extras import right_minus_price, sample_turns_with_engine, tool_rows, with_tools
from postlab.models import load_policy, trainable
from postlab.profile import get_profile

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"  # environments may still change in TRL
place = postlab.Lab(get_profile("tiny"), seed=0)  # `place = lab` for your own stages
profile = place.profile
policy, tokenizer = load_policy(place.checkpoint("grpo"), profile=profile.name, bits=32)
shared = {"output_dir": tempfile.mkdtemp(), "seed": lab.seed, "save_strategy": "no"}


def with_world(
    folder, price, note=lambda row: None, *, rows=rows, trainer_class=GRPOTrainer, **settings
):
    """TRL's trainer in the world of tools; `note` is called with every episode."""
    model, _ = load_policy(folder, profile=profile.name, bits=32)
    trainer = trainer_class(
        model=trainable(model),
        processing_class=tokenizer,
        environment_factory=World,
        reward_funcs=right_minus_price(price, note),
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            **profile.grpo.trainer
            | shared
            | {"per_device_train_batch_size": 40, "num_generations": 8, "learning_rate": 3e-4}
            | {"lr_scheduler_type": "constant", "max_completion_length": 80}
            | {"max_tool_calling_iterations": 3, "num_generations_eval": 1}
            | {"per_device_eval_batch_size": 50}
            | settings
        ),
    )
    trainer.remove_callback(PrinterCallback)
    return sample_turns_with_engine(trainer)  # faster on a CPU; on a GPU nothing changes


try:
    with_world(place.checkpoint("grpo"), price=0.0)
except ValueError as error:
    print(error)

# %% [markdown]
# `with_tools` sets a template that writes a call as `sums(x=12x30)`, and the matching `response_template`. If a tokenizer already has a format for calls, `with_tools` doesn't change it: Qwen2.5 and Qwen3, for example, write their calls as JSON.

# %%
with_tools(tokenizer)
messages = [
    {"role": "user", "content": "What is 12x30?"},
    {"role": "assistant", "content": "sums(x=12x30)"},
]
text = tokenizer.apply_chat_template(messages, tokenize=False)
print(text)
prompt, completion = text.split("assistant\n")
tokenizer.parse_response(completion.strip(), prefix=prompt + "assistant\n")

# %% [markdown]
# Why these names, and not `calculate` and `look_up`? A tokenizer splits every name into tokens, and some of these tokens never appear in the documents that our base was trained on. LoRA doesn't train the embeddings, so the policy can't learn to write such a token. With the first names that we tried, 60 steps of SFT led to calls such as
# `c�culate(...)`, which no parser can read. It's the same trap as with new special tokens, and a reason to check how the tokenizer splits a tool's name.

# %%
from collections import Counter
from itertools import islice

from postlab.tinyworld.corpus import documents

counts = Counter()
for page in islice(documents(0), 500):
    counts.update(tokenizer(page, add_special_tokens=False)["input_ids"])
for name in ("calculate(query=", "look_up(query=", "sums(x=", "find(x="):
    ids = tokenizer(name, add_special_tokens=False)["input_ids"]
    print(f"{name:17}", {tokenizer.decode([i]): counts[i] for i in ids})

# %% [markdown]
# The parser now understands the format, but the model has never seen it. A policy that never makes a call can't be rewarded for one, so RL alone would never teach it to call a tool. So we first teach the format with SFT on rows that contain a call in **half of the cases, whether or not it's needed**. These rows show the model how to call, but not when. In the rows without a call, sums are worked out, facts are recalled, and all other questions are answered with "I do not know." A large instruct model can skip this step, because its training already included tool calls.

# %%
known = {field.name for field in fields(SFTConfig)} - {"loss_type", "shuffle_dataset"}
common = {name: value for name, value in profile.grpo.trainer.items() if name in known}
taught = SFTTrainer(
    model=trainable(policy),
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(tool_rows(3200, seed=lab.seed)),
    args=SFTConfig(
        **common
        | shared
        | {"max_steps": 200, "per_device_train_batch_size": 16, "learning_rate": 2e-3}
        | {"lr_scheduler_type": "linear", "warmup_steps": 8, "logging_steps": 40}
        | {
            "remove_unused_columns": True,
            "packing": False,
            "assistant_only_loss": True,
            "max_length": 256,
        }
    ),
)
taught.remove_callback(PrinterCallback)
taught.train()
taught.save_model(begin := tempfile.mkdtemp())
[round(entry["loss"], 2) for entry in taught.state.log_history if "loss" in entry]

# %% [markdown]
# ## 3. Whose tokens are these?
#
# TRL now runs the whole loop: it samples a turn, parses it, calls the tools, appends their replies, and samples the next turn. The next cell draws one of these episodes as the trainer sees it.
#
# **Predict first.** What would happen to the policy if the tool's tokens weren't masked?

# %%
from postlab.course.extras import plot_episode

notes = []
bills = [row for row in rows if row["kind"] == "bill"]
trainer = with_world(begin, 0.2, notes.append)
trainer.model.train()
batch = trainer._prepare_inputs([row for row in bills[:5] for _ in range(8)])
written_by_tools = (batch["tool_mask"] == 0) & (batch["completion_mask"] == 1)
one = int(written_by_tools.sum(dim=1).argmax())
length = int(batch["completion_mask"][one].sum())
plot_episode(
    [tokenizer.decode([i]) for i in batch["completion_ids"][one, :length].tolist()],
    batch["tool_mask"][one, :length].tolist(),
)

# %% [markdown]
# The policy wrote the blue tokens. The gray ones come from the template and the tools, and they are masked. In the episode above, the first call finds the price, 40. The second call has one equals sign too many, so the tool replies with an error message, and the policy gives up.
#
# TRL calls this mask `tool_mask` and multiplies the loss by it. Without the mask, the policy would be trained to predict the tool's replies. After a rewarded episode, it would become more likely to *write* such a reply, so it could learn to make up the calculator's results instead of waiting for them. The loss would also count tokens that the policy doesn't control, and a long document from a search engine would outweigh the few tokens of the call. The authors of Search-R1 trained with and without this mask, and the masked runs ended up better.
#
# ### Does the history stay as it was sampled?
#
# The mask solves only half of the problem. When a token is scored, it also has to follow exactly the same tokens as when it was sampled. TRL makes sure of this by appending token ids. Many other programs rebuild the conversation from messages in every turn: your own loop may do so, and any chat API does. Then the template decides what the history looks like, and many templates drop earlier thoughts. The next cell renders the same turns before and after the conversation continues, once with Qwen3's own template and once with TRL's version of it for training.
#
# **Predict first.** In which of the three cases will Qwen3's own template change the text that it rendered before?

# %%
# NBVAL_CHECK_OUTPUT
import importlib.util
from pathlib import Path

templates = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
THOUGHT = "<think>\nThis needs the tool.\n</think>\n\n"


def called(thought):
    """A question, a call and the tool's reply."""
    call = {"type": "function", "function": {"name": "sums", "arguments": {"x": "12x30"}}}
    return [
        {"role": "user", "content": "What is 12x30?"},
        {"role": "assistant", "content": thought, "tool_calls": [call]},
        {"role": "tool", "name": "sums", "content": "360"},
    ]


goes_on = [{"role": "assistant", "content": "360"}, {"role": "user", "content": "And 12x31?"}]
histories = {  # the messages, and how many of them there were before
    "thought, then the tool's reply": (called(THOUGHT), 2),
    "no thought, then the tool's reply": (called(""), 2),
    "thought, then the next question": (called(THOUGHT) + goes_on, 4),
}
changes = []
for name in ("qwen3", "qwen3_training"):
    template = (templates / f"{name}.jinja").read_text(encoding="utf-8")
    for label, (history, n) in histories.items():
        texts = [
            tokenizer.apply_chat_template(part, chat_template=template, tokenize=False)
            for part in (history[:n], history)
        ]
        earlier, later = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts)
        first = next((i for i, token in enumerate(earlier) if token != later[i]), None)
        row = {"template": name, "history": label, "tokens": len(earlier), "first change": "none"}
        if first is not None:
            old, new = (tokenizer.decode(ids[first - 1 : first + 5]) for ids in (earlier, later))
            row["first change"] = f"token {first}: {old!r} -> {new!r}"
        changes.append(row)
pd.set_option("display.max_colwidth", 80)
pd.DataFrame(changes).set_index(["template", "history"])

# %% [markdown]
# Qwen3's template keeps a thought when the tool's reply arrives. But a turn *without* a thought is first rendered with an empty `<think>` block, which disappears when the reply arrives. And once the user asks the next question, all earlier thoughts are gone. In both cases, the history changes right at the start of the policy's turn, so everything after that point is now scored in a context in which it was never sampled. (Our tokenizer splits `<think>` into several tokens; for Qwen3's tokenizer, it is a single one.) The importance ratios are then wrong, a mask that was built for the old tokens no longer fits, and the cached prefix can't be reused after that point.
#
# TRL replaces the templates of known model families with such training versions. With your own loop, you have two choices. You can keep the token ids and append to them. Or, if the deployed model will see histories without thoughts, you can train each turn as a separate sample, with the history exactly as it was rendered. (The extra on [thinking models](thinking_models.ipynb) has more about such templates.)
#
# ## 4. Train it
#
# A right answer earns 1, and each call costs 0.2. TRL's own trainer does the rest. We train for only a few steps, because the recorded experiment below trains for longer and with five seeds.

# %%
notes.clear()
trainer = with_world(begin, 0.2, notes.append, max_steps=6)
trainer.train()
frame = pd.DataFrame(notes)
frame["steps"] = ["first three" if i < 120 else "last three" for i in range(len(frame))]
frame.pivot_table(index="kind", columns="steps", values=["calls", "right"], sort=False).round(2)

# %% [markdown]
# Six updates of five questions each are far too few to read anything into this table: each cell covers only a handful of questions, and the two halves contain different ones. The table shows only that the loop runs. To see what the policy learns, we need the recorded experiment.
#
# ## 5. What is a call worth?
#
# The recorded experiment starts as we did above and then trains under five settings, with five seeds each. First, we look at its starting point, a policy that calls a tool in about half of the episodes, whether or not it's needed. That's useful, because it lets us compare episodes with and without a call for each kind of question.
#
# Each run makes twelve updates on 40 episodes each: five questions, with eight episodes per question. These runs are small. The test is small, too: it has 15 held-out questions of each kind, so one question is worth 7 points. Keep two more things in mind before you read any numbers:
#
# - The runs with seeds 0 to 2 start from the *same* SFT model, whose results you see below. Seeds 3 and 4 were added later, after we had repeated this SFT on another processor. The new SFT model is slightly different, but it makes about as many calls (0.64 per question, compared with 0.65) and is right about as often (40%, compared with 43%). A seed changes the questions and the sampling, so the intervals below tell you little about how much the results would change with another SFT.
# - We tuned nothing, but we discarded some settings. The first plan had 30 updates and 30 held-out questions of each kind, which took too long on this machine. An earlier SFT model, trained for fewer steps, wrote poor calls: in a trial run that started from it, the policy had stopped making calls for any kind of question after ten updates. So whether a policy learns to use its tools at all can depend on how well it calls them to begin with.

# %%
import json

from postlab.profile import data_dir

recorded = json.loads((data_dir() / "results" / "extras" / "tools.json").read_text("utf-8"))
origins = {"recorded": recorded["provenance"], "earlier seeds": recorded["earlier"][0]}
pd.DataFrame(origins).map(str)


# %%
def episodes(run, tools="honest"):
    """One row per held-out episode of a recorded run."""
    columns = run["heldout"][tools]
    return [
        {"arm": run["arm"], "seed": run["seed"], "kind": kind, "tools": tools}
        | {"right": right, "calls": calls}
        for kind in columns["right"]
        for right, calls in zip(columns["right"][kind], columns["calls"][kind], strict=True)
    ]


held_out = pd.DataFrame(
    row for run in recorded["runs"] for tools in ("honest", "lying") for row in episodes(run, tools)
)
start = held_out[(held_out["arm"] == "start") & (held_out["tools"] == "honest")]
start.groupby("kind", sort=False)[["right", "calls"]].mean().round(2)

# %% [markdown]
# ### Exercise · about 15 minutes · medium
#
# A call pays off as long as it gains more than it costs. Compute the **break-even price** of a call: how much more often episodes with calls are right than episodes without, divided by the mean number of calls in the episodes that have any. `rows` has the columns `right` and `calls`.
#
# <details><summary>Hint</summary>
#
# Split the rows by `calls > 0` first. For which kinds of questions does the division matter?
#
# </details>


# %%
def break_even(rows):
    raise NotImplementedError


# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def break_even(rows):
#     called, silent = rows[rows["calls"] > 0], rows[rows["calls"] == 0]
#     return (called["right"].mean() - silent["right"].mean()) / called["calls"].mean()
# ```
#
# </details>


# %%
def reference(rows):
    called, silent = rows[rows["calls"] > 0], rows[rows["calls"] == 0]
    return (called["right"].mean() - silent["right"].mean()) / called["calls"].mean()


case = pd.DataFrame({"right": [1, 1, 1, 0, 0, 1, 0, 0], "calls": [2, 2, 1, 1, 0, 0, 0, 0]})
mistakes = {
    0.5: "Divide by the mean number of calls of the episodes that call.",
    0.5 / 0.75: "The mean number of calls is over all episodes here; take those that call.",
    0.75 / 1.5: "Subtract what episodes without a call get right.",
}
try:
    got = float(break_even(case))
    if abs(got - 1 / 3) < 1e-6:
        print("Right: (0.75 - 0.25) / 1.5 = 0.33.")
    else:
        hint = next((text for value, text in mistakes.items() if abs(got - value) < 1e-6), "")
        print(f"Not yet: yours is {got:.3f}, and 0.333 was expected. {hint}")
except NotImplementedError:
    print("Not attempted: the reference takes over.")
except Exception as error:
    print(f"Your function raised {type(error).__name__}: {error}")
worth = start.groupby("kind", sort=False)[["right", "calls"]].apply(reference).rename("break-even")
worth.round(2)

# %% [markdown]
# A call is worth most for products (0.86) and for prices (0.50), and little for sums (0.14). For facts, the episodes with a call are actually right slightly less often than those without, but with 15 questions, that's well within chance. For bills, the break-even price is zero: the starting policy gets none of them right, with or without calls, so these calls have a cost but no benefit. The division matters most for prices, where two of the nine episodes with calls make more than one, and only a little for sums and facts.
#
# If these values stayed the same during training, calls for products and prices would still pay off at a price of 0.2, and only calls for products at 0.6.
#
# ## 6. Three prices
#
# **Predict first.** A call now costs 0, 0.2 or 0.6. For which kinds of questions will each policy still call a tool?

# %%
from postlab.course.extras import plot_calls

honest = held_out[held_out["tools"] == "honest"]
rates = honest.groupby(["arm", "seed", "kind"], sort=False)[["calls", "right"]].mean().reset_index()
names = {"start": "start", "free": "price 0", "0.2": "price 0.2", "0.6": "price 0.6"}
shown = rates[rates["arm"].isin(names)].replace({"arm": names})
mean = shown.groupby(["arm", "kind"])["calls"].mean()
plot_calls(
    shown,
    f"At 0.2 a call, sums get {mean['price 0.2', 'sum']:.2f} calls and products "
    f"{mean['price 0.2', 'product']:.2f}; at 0.6, bills get {mean['price 0.6', 'bill']:.2f}",
)

# %%
table = shown.groupby(["arm", "kind"], sort=False)[["calls", "right"]].mean().unstack(0)
table.round(2)

# %% [markdown]
# With a price of 0.2, most calls for sums and facts disappear on average, while calls for products increase from 0.47 to 0.83 per question. (The tests below compare each price with free calls.) Without a price, needless calls disappear in some runs but not in others. Two of the five runs end with 0.8 calls per sum, more than at the start, and one ends with 0.07. In one run, the policy still makes 0.8 calls per fact; in the others, it makes at most 0.4. If the answer is right with or without the call, the reward gives no signal about the call, and chance decides which habit wins.
#
# For three of the five seeds, there are fewer calls for products at a price of 0.6 than at 0.2, although the break-even price for products was above 0.6. But for two of these three, the difference is a single call in 15 questions. For price questions, the seeds disagree. For two of them, the policy keeps making about one call per question even at 0.6, which is more than the call was worth at the start. But that value describes the *starting* policy: three of its nine episodes with a lookup ended with a wrong answer. With practice, calls become more useful, so the break-even price can rise during training. For seed 0, lookups of prices have almost disappeared at 0.2 and are gone at 0.6. The other two seeds are in between, with 0.3 and 0.6 calls per question at a price of 0.6.
#
# **No policy learns to answer bills.** At most one of 15 is right in any run. The policy has to look up the right thing, copy two numbers into the product, and copy the result. With almost no right answers, there's almost nothing to reinforce. Nevertheless, calls for bills increase if they are free, and for two of the five seeds, the policy makes one or more per bill even at a price of 0.6. This habit has probably spread from the other kinds of questions, which share the beginning of the question or the form of the call.
#
# Why did the policies trained with seed 0 stop looking up prices? The next cell shows the first and the last training step that contained price questions.

# %%
looked_up = []
for run in recorded["runs"]:
    with_prices = [i for i, step in enumerate(run["curve"]) if "price" in step["calls"]]
    if with_prices:
        calls = [run["curve"][i]["calls"]["price"] for i in with_prices]
        looked_up.append(
            {
                "arm": run["arm"],
                "seed": run["seed"],
                "first price question in step": with_prices[0] + 1,
            }
            | {"calls there": calls[0], "calls in the last": calls[-1]}
        )
looked_up = pd.DataFrame(looked_up).round(2)
looked_up[looked_up["arm"].isin(["free", "0.2", "0.6"])].sort_values(["seed", "arm"])

# %% [markdown]
# With seed 0, the first four batches happened to contain no price questions at all. They contained bills and facts, which use the same lookup: for a bill, a lookup hardly ever leads to a reward, and for a fact, it's rarely needed. By the time the first price question came up, in step 5, a policy that pays for its calls had almost stopped looking anything up: it made 0.12 calls per question at 0.2 and none at 0.6, compared with 0.62 without a price. A call that's never sampled can't be rewarded, so lookups didn't come back. With seeds 1 and 2, price questions were in the first batch, and calls for them increased from 0.44 and 0.47 to about one at every price. The seeds that were added later fit this explanation less well: price questions were in their first or second batch, and yet calls for them ended at 0.50 and 0.38 at a price of 0.6.
#
# So a price on calls can make a policy abandon a useful tool, perhaps because the policy first meets cases in which the tool doesn't help. But this happened with only one seed of five, and we found the explanation after the fact. To test it, you'd train with the same seeds and put every kind of question into every batch.
#
# The next table compares each price with free calls, with the seed as the unit of analysis. The measures are needless calls (for sums and facts), useful calls (for products and prices), calls for bills, and right answers to all kinds of questions. The p values in the columns with 'Holm' are corrected by Holm's method. For `p`, the noise is estimated from all arms in the table together; for `alone`, it's estimated only from the two that are compared (a paired t test).

# %%
from scipy.stats import ttest_rel

from postlab.stats import blocked_differences, holm

GROUPS = {
    "calls for sums and facts": ("calls", ["sum", "fact"]),
    "calls for products and prices": ("calls", ["product", "price"]),
    "calls for bills": ("calls", ["bill"]),
    "all answers right": ("right", ["sum", "fact", "product", "price", "bill"]),
}


def compared(pairs, rates=rates):
    """Differences between arms for each group of questions, over seeds."""
    differences = []
    for name, (column, kinds) in GROUPS.items():
        kept = rates[rates["kind"].isin(kinds)].groupby(["arm", "seed"])[column].mean()
        scores = {arm: kept[arm].to_list() for arm in dict.fromkeys(sum(pairs, ()))}
        for pair, d in zip(pairs, blocked_differences(scores, pairs), strict=True):
            what = " \N{MINUS SIGN} ".join(pair)
            differences.append({"measure": name, "arms": what, "difference": d.difference,
                                "low": d.low, "high": d.high, "p": d.p,
                                "alone": ttest_rel(*(scores[arm] for arm in pair)).pvalue})  # fmt: skip
    frame = pd.DataFrame(differences)
    for name in ("p", "alone"):
        frame[f"{name}, Holm"] = holm(frame[name])
    return frame.round(3)


compared([("0.2", "free"), ("0.6", "free")])

# %% [markdown]
# **With five seeds, a price seems to reduce calls, but the two tests disagree.** If the noise is estimated from all arms together, five of the eight differences are significant after the correction: needless calls and calls for bills at both prices, and calls for products and prices at 0.6. (With the first three seeds, none was significant.) All five differences are below zero for every seed. But for most seeds, the two arms with a price resemble each other, so pooling makes the noise of a comparison with free calls look too small. If each pair is tested alone, no difference is significant after the correction (the smallest corrected p value is 0.07). So this is only a hint, which more seeds would have to confirm.
#
# For right answers, the difference between a price of 0.2 and free calls is −0.016 (−0.09 to 0.06), which is inconclusive. At 0.6, it's −0.093 (−0.17 to −0.02), which is also inconclusive after the correction (p = 0.07). So we can't conclude that a price leaves the accuracy unchanged.
#
# ## 7. A tool that lies
#
# Next, we let the calculator return wrong results. In one arm, this already happened during training: half of the calculator's results were off by one to nine, and calls were free. We compare the policies from this arm with those from the arm with free calls and an honest calculator. Both kinds of policies are evaluated with an honest calculator and with one that is always wrong. The lookup is always honest.
#
# **Predict first.** Which policy still gets sums right if the calculator lies? And how will the policy that was trained with the lying calculator handle products?

# %%
from postlab.course.extras import plot_trust

arms = {"free": "trained with an honest calculator", "liar": "trained with a lying one"}
trust = (
    held_out[held_out["arm"].isin(arms)]
    .replace({"arm": arms})
    .groupby(["arm", "seed", "kind", "tools"], sort=False)["right"]
    .mean()
    .reset_index()
)
sums = trust[trust["kind"] == "sum"].groupby(["arm", "tools"])["right"].mean()
plot_trust(
    trust,
    f"If the calculator lies, {sums[arms['free'], 'lying']:.0%} of the sums are right for a policy "
    f"that trusts it, {sums[arms['liar'], 'lying']:.0%} for one that met a liar",
)

# %%
rates[rates["arm"].isin(["free", "liar"])].groupby(["arm", "kind"], sort=False)[
    "calls"
].mean().unstack(0).round(2)

# %% [markdown]
# **If the calculator lies, the policies that were trained with an honest one and free calls get 7% to 67% of the sums right; those that were trained with a lying one get 80% to 100%.** The table shows the likely reason: after training with a lying calculator, the policies hardly call the calculator for sums anymore. (The table shows calls to an honest calculator.) A policy can work out sums by itself, and its own answers were better than the calculator's in training. So it learned to avoid these calls even though they had no price. The runs that were trained with an honest calculator also show that the number of calls matters: the run with 67% makes the fewest calls for sums, and the two runs with the fewest right answers make the most.
#
# The next cell shows the difference between the arms for sums with a lying calculator. The seed is the unit of analysis:

# %%
lied_to = trust[(trust["kind"] == "sum") & (trust["tools"] == "lying")]
scores = lied_to.groupby("arm", sort=False)["right"].apply(list).to_dict()
(d,) = blocked_differences(scores, [(arms["liar"], arms["free"])])
print(f"{d.difference:+.2f} ({d.low:+.2f} to {d.high:+.2f}), p = {d.p:.3f}, {d.n} seeds")

# %% [markdown]
# The difference is large and conclusive. With the first three seeds, it was just as large, but its interval still reached below zero. It doesn't depend on a single seed (if you leave out any one of them, p is at most 0.013), and it's about the same for both SFT models (+0.56 and +0.57). After training with an honest calculator, the results differ a lot between seeds, because the policies make between 0.07 and 0.80 calls per sum.
#
# But **a policy can become this robust without ever meeting a liar.** The policies that paid 0.2 or 0.6 for each call were trained with an honest calculator as well, and they still get 67% to 93% of the sums right when it lies, because they hardly call it for sums either. The lead of the policies that met a liar is 9 points over those at 0.2 (−8 to +26) and 7 points over those at 0.6 (−17 to +30), so both differences are inconclusive. (We hadn't planned these comparisons.) What helps is to stop making needless calls, and a price may lead to that as well as lies do.
#
# The answer for products is different. The policies that were trained with a lying calculator still make 0.88 calls per product, because half of the results were right in training, and without a call, they would earn nothing. When the calculator always lies, they don't get any products right either. So they haven't learned to check a result. They have learned only where they do better without the tool.
#
# ## 8. Whose credit is it?
#
# An episode earns one reward, so with GRPO, all of its tokens get the same advantage, whether they belong to the first call, the second call or the answer. That's a crude way to assign credit. If a right answer follows a needless call, the answer's tokens are penalized for the call. And if the call was right but the policy copied the result wrongly, the call is penalized for the copying error.
#
# With **credit by turns**, each turn gets the rewards from that turn on: its own price and everything that follows. To compute its advantage, we compare the turn with the same turn in those episodes of the group that have one. So the first turn is judged as before, while an answer after a call is compared only with what other episodes do after a call. `credited_by_turn` makes a subclass of TRL's trainer that does this in about twenty lines.

# %%
from postlab.course.extras import turn_advantages

group = [[1.0], [1.0], [-0.2, 1.0], [-0.2, 1.0]]
print("rewards of each turn:", group)
print("one for the episode: ", [round(turns[0], 2) for turns in turn_advantages(group)])
print("by turns:            ", [[round(a, 2) for a in turns] for turns in turn_advantages(group)])

# %% [markdown]
# In two of these episodes, the policy works out a sum by itself, and in the other two, it calls the calculator. All four answers are right. With one advantage per episode, the answers after a call get the same advantage as the call itself, −0.87. With credit by turns, only the call is pushed down: both answers after a call have the same reward, so their advantages are zero. In a sampled episode, credit by turns looks like this:

# %%
from postlab.course.extras import credited_by_turn

trainer = with_world(begin, 0.2, trainer_class=credited_by_turn(GRPOTrainer))
trainer.model.train()
batch = trainer._prepare_inputs([row for row in bills[:5] for _ in range(8)])
spread = (batch["advantages"] * batch["tool_mask"] * batch["completion_mask"]).float()
one = int((spread.amax(dim=1) - spread.amin(dim=1)).argmax())
length = int(batch["completion_mask"][one].sum())
plot_episode(
    [tokenizer.decode([i]) for i in batch["completion_ids"][one, :length].tolist()],
    batch["tool_mask"][one, :length].tolist(),
    batch["advantages"][one, :length].tolist(),
)

# %%
compared([("0.2 by turn", "0.2")])

# %% [markdown]
# In the stored output, the question was about 23 tables, but the policy multiplied the price by 16. So the answer was wrong, and the reward was −0.4, the price of the two calls. The first call is pushed down for this, although the mistake is in the second one. The second call and the answer have an advantage of zero, because no other episode in the group earned more from these turns on.
#
# The table compares the arm with credit by turns with the arm that has the same price and one advantage per episode. **Credit by turns makes no difference here that we can show.** None of the four differences is significant after the correction (the smallest corrected p value is 0.14). Without the correction, one interval excludes zero: with credit by turns, there are 0.03 *more* needless calls per question. For right answers, the interval goes from −0.040 to 0.019, so a gain of more than two points isn't likely in this setting. But credit by turns can't change much in such short episodes. Most of them contain at most one call. Only bills need two, and in both arms, bills earned almost no reward that could be divided. This result isn't evidence about long episodes with many turns, for which the method was made.
#
# ## 9. What it costs, and what changes on a GPU
#
# A call isn't free even if its price is zero: it takes tokens that the policy has to sample, a reply that it has to read, and another turn. The next table shows how many tokens per episode the policy itself wrote in the recorded runs:

# %%
tokens = pd.DataFrame(
    {"arm": run["arm"], "seed": run["seed"], "first three steps": sum(run["length"][:3]) / 3}
    | {"last three steps": sum(run["length"][-3:]) / 3}
    for run in recorded["runs"]
    if run["length"]
)
tokens.groupby("arm", sort=False)[["first three steps", "last three steps"]].mean().round(1)

# %% [markdown]
# All arms start with about 14 tokens. In the last three steps, policies with free calls write about 17 tokens, and those that pay for calls write about 15. A call is no longer than a worked-out sum, so the arms differ less in tokens than in calls. The steps contained different questions, so compare the arms with each other rather than the first steps with the last. And this counts only the policy's own tokens. With each call, the model also has to read a reply and begin another turn. With a real tool, that's where the time goes.
#
# On a GPU, set `place = lab` and take a model whose template TRL can parse, such as Qwen2.5 or Qwen3. `with_tools` then changes nothing, and you can leave out the SFT. A few things are worth knowing before you pay for a GPU:
#
# - `max_completion_length` limits the whole episode: all turns, including the tools' tokens. A reply that doesn't fit is dropped, and the episode ends with the call.
# - With `use_vllm=True`, each turn is a separate request, and a batch waits for its slowest episode. If a tool waits for a network, make it an `async` method, because TRL runs these concurrently.
# - You can combine the mask with the importance-sampling correction from the extra on [samplers](sampler_mismatch.ipynb): the ratio is computed only for the policy's own tokens.
# - A tool that raises an exception doesn't stop the run. Its error message becomes the reply, and `tools/failure_frequency` in the log counts it.
#
# **Ready-made environments.** You don't have to write every environment yourself. [OpenEnv](https://huggingface.co/docs/trl/en/openenv) offers environments that run on a server, such as games or a browser. [Harbor](https://huggingface.co/docs/trl/en/harbor) runs tasks in sandboxes. Each task has an instruction, a container and a test that gives the reward. In TRL 1.14.2, `HarborSpec` from `trl.experimental.harbor` supplies all three things that the trainer needs: `train_dataset`, `environment_factory` and `reward_funcs`. Both plug into the same `environment_factory` that you used above.
#
# **What others report.** The [search recipe of the Tinker cookbook](https://github.com/thinking-machines-lab/tinker-cookbook/blob/main/tinker_cookbook/recipes/search_tool/README.md) replicates Search-R1: a policy learns to call a search engine over Wikipedia. We didn't reproduce these results, and the page doesn't mention repeated seeds:
#
# | model | settings | steps | result |
# |---|---|---|---|
# | Qwen2.5-7B-Instruct | Tinker's importance-weighted REINFORCE; not the same search index as in the paper | not stated | 51.6 on Natural Questions, 67.3 on TriviaQA, 49.7 on HotpotQA, 42.8 on 2WikiMultihopQA |
# | the same, as reported by the Search-R1 paper | | | 42.9, 62.3, 38.6, 34.6 |
# | Qwen3.5-4B without thinking | defaults: LoRA rank 32, rate 4e-5, batch of 512, groups of 8, at most 5 turns | 30 | training reward 0.39 to 0.60; Natural Questions 0.27 to 0.47, HotpotQA 0.47 to 0.70 |
#
# The page also says what to watch: weaker models learn to search within 10 to 25 steps, so the number of turns per episode rises above 2. Qwen3.5-4B takes about three turns per episode from the start, so only its reward shows that it learns.
#
# ## Reading
#
# | read | for |
# |---|---|
# | Jin et al. 2025, *Search-R1* ([2503.09516](https://arxiv.org/abs/2503.09516)) | RL with a search engine and only an outcome reward: the loop, the mask on retrieved tokens, and what happens without the mask |
# | Su 2026, *Search-R1, Re-examined* (a blog post) | whether the policy learns when to search (the number of searches falls only where they hurt the reward), with a broken retriever as a test |
# | Wang et al. 2025, *Acting Less is Reasoning More* (OTC, [2504.14870](https://arxiv.org/abs/2504.14870)) | rewards that count calls, and tool productivity as a measure |
# | Zeng et al. 2025, *Turn-Level Credit Assignment* ([2505.11821](https://arxiv.org/abs/2505.11821)) | advantages by turns in GRPO, with rewards for intermediate turns |
# | TRL's documentation of `environment_factory`, and `_tool_call_loop` in `grpo_trainer.py` | the loop that ran above, including its limits on length and on the number of calls |
#
# ## Interview questions
#
# <details><summary>Why are tool outputs masked in the loss, and what else has to be right for the mask to work?</summary>
#
# The policy didn't write them, so their log-probabilities say nothing about its decisions. Training on them would teach it to imitate the tool, or to make up results without calling. The mask is right only if the token boundaries are right: the tool's tokens have to be appended to the sampled ones, not rendered again from text, since a second tokenization may differ from what was sampled. I'd also check that the end-of-turn token after a call counts as one of the model's own tokens, because the model has to learn to end the call.
#
# </details>
# <details><summary>Your agent calls its search tool for every question, even for those that it could answer by itself. What do you do?</summary>
#
# First, I'd measure whether the calls do any harm: I'd check the latency, the cost, and the accuracy when the tool is wrong. An outcome reward doesn't penalize needless calls, so you can't count on them to disappear by themselves. I'd compare the accuracy with and without calls for each kind of question and set a price that's lower than the gain where calls are needed. I'd also watch for the opposite failure: a price can make the policy abandon a useful tool if its first uses aren't rewarded. Tasks that need several calls are most at risk, since they pay the price several times.
#
# </details>
# <details><summary>How would you make an agent robust against a tool that is sometimes wrong?</summary>
#
# The agent has to see wrong results in training, with a reward based on the truth; a policy that has seen only honest tools copies whatever they return. Then the agent can learn when its own answer is better than the tool's. To do more than avoid the tool, the agent needs a way to check a result: a second source, an estimate of its own, or a repeated call.
#
# </details>
