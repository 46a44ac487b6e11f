# %% [markdown]
# # Extra · Tools and turns: when is a call worth it?
#
# A model that can call a calculator doesn't have to be good at multiplication. But it has to know when to call, what to ask, and what to do with the reply, and that is learned with the same algorithm as in week 7. Only the episode is longer: the policy writes a call, a program answers, and the policy
# goes on writing. This is how models are trained to use search engines, code interpreters and whole computers.
#
# By the end you can explain
#
# - what TRL's `environment_factory` does, and what it needs from a chat template,
# - why the tool's tokens are masked, and how that looks in one episode,
# - what a policy learns if calls are free, if they cost something, and if they cost more than they bring,
# - what happens when the tool lies, in training or only afterwards, and
# - how the credit for an answer is shared among the turns that led to it.
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
# The environment is the embedded world with two tools, a calculator and a look-up. The look-up knows the creatures of the world, and what things cost today. There are five kinds of question, chosen so that a call is sometimes needed and sometimes not:
#
# | kind | example | by itself, the model of week 7 … | calls that it takes |
# |---|---|---|---|
# | `sum` | What is 46+56+59? | works it out, almost always right | 0 |
# | `fact` | Which colour has the tunek? | knows it from its documents | 0 |
# | `product` | What is 34x50? | can't multiply | 1 |
# | `price` | The ladder: what does one cost today? | can't know | 1 |
# | `bill` | The ladder: what do 12 cost today? | can't know | 2 |
#
# In TRL, an environment is a class. TRL makes one instance for each episode, calls `reset` with the columns of its row, and offers all other public methods to the model as tools. Their docstrings become the descriptions that a real model's chat template writes into the prompt.

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
# Before TRL can run such an episode, the chat template has to do three things, and the template of our base does none of them:
#
# - **render a call**: an assistant message with `tool_calls`, and the tool's reply as a message of its own;
# - **keep its prefix**: what was rendered before a tool's reply must stay the same, token by token, once the reply is there, because TRL appends the reply's tokens and never tokenizes the conversation again;
# - **be parsed**: the tokenizer's `response_template` says which part of a completion is a call. TRL knows this for the templates of Qwen, Llama, Gemma and some others. For any other template you have to set it.
#
# Let's see what TRL says to our template as it is.

# %%
import os
import tempfile

import pandas as pd
import torch
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


def with_world(model, price, note=lambda row: None, *, rows=rows, trainer_class=GRPOTrainer, **settings):
    """TRL's trainer in the world of tools; `note` is called with every episode."""
    trainer = trainer_class(
        model=model,
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
    with_world(policy, price=0.0)
except ValueError as error:
    print(error)

# %% [markdown]
# `with_tools` sets a template that writes a call as `sums(x=12x30)`, and the matching `response_template`. It leaves a tokenizer alone that already has a form of its own: a Qwen2.5 or Qwen3 writes its calls as JSON.

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
# The form is parsed, but the model has never seen it. A policy that never calls can't be rewarded for calling, so RL alone would never get there. We teach the form first, with SFT on rows that call in **half of the cases, whether or not it's needed**. These rows say how to call, not when. A large instruct model can skip this step,
# because tool calls were part of its training.

# %%
taught = SFTTrainer(
    model=trainable(policy),
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(tool_rows(1200, seed=lab.seed)),
    args=SFTConfig(
        **{key: profile.sft.trainer[key] for key in ("use_cpu", "bf16", "fp16", "report_to", "optim")}
        | shared
        | {"max_steps": 60, "per_device_train_batch_size": 16, "learning_rate": 2e-3}
        | {"warmup_steps": 8, "packing": False, "assistant_only_loss": True, "max_length": 256}
        | {"logging_steps": 20, "disable_tqdm": True}
    ),
)  # fmt: skip
taught.remove_callback(PrinterCallback)
taught.train()
[round(entry["loss"], 2) for entry in taught.state.log_history if "loss" in entry]

# %% [markdown]
# ## 3. Whose tokens are these?
#
# TRL now runs the whole loop: sample a turn, parse it, call the tools, append their replies, sample the next turn. Here is one of its episodes, as the trainer sees it.
#
# **Predict first.** What would happen to the policy if the tool's tokens weren't masked?

# %%
from postlab.course.extras import plot_episode

notes = []
trainer = with_world(taught.model, 0.2, notes.append)
bills = [row for row in rows if row["kind"] == "bill"]
trainer.model.train()
batch = trainer._prepare_inputs([row for row in bills[:5] for _ in range(8)])
one = max(range(40), key=lambda i: (notes[i]["right"], notes[i]["calls"]))
length = int(batch["completion_mask"][one].sum())
texts = [tokenizer.decode([i]) for i in batch["completion_ids"][one, :length].tolist()]
mask = batch["tool_mask"][one, :length].tolist()
plot_episode(texts, mask)

# %% [markdown]
# TRL calls this `tool_mask`, and multiplies it into the loss. Without it, the policy would be trained to predict the tool's replies. After a rewarded episode it would become likelier to *write* such a reply, so it could learn to make up the calculator's results instead of waiting for them. The loss would also count
# tokens over which the policy has no say, and a long document from a search engine would drown out the few tokens of the call. The Search-R1 paper trains with and without this mask, and the masked runs end up better.
#
# ## 4. Train it
#
# A right answer earns 1, and each call costs 0.2. TRL's own trainer does the rest. We train for a few steps only, as the recorded experiment below goes on for longer and with three seeds.

# %%
notes.clear()
trainer = with_world(taught.model, 0.2, notes.append, max_steps=6)
trainer.train()
frame = pd.DataFrame(notes)
frame["steps"] = ["first three" if i < 120 else "last three" for i in range(len(frame))]
frame.pivot_table(index="kind", columns="steps", values=["calls", "right"], sort=False).round(2)
