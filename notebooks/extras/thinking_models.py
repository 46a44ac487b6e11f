# %% [markdown]
# # Extra · What makes a thinking model
#
# If you ask a chat model for a hard sum, it starts to answer right away. A *thinking model* first writes pages that you may never see: it tries something, notices a mistake, starts again and checks the result. OpenAI's o1 made such models popular in September 2024, and DeepSeek's R1 showed in January 2025 how to train them. Since then, most large models have learned to think first. In week 7, you trained a tiny thinking model, although we didn't call it that. The policy used to blurt out the total of a short sum, and it learned to work the sum out, because that's what earns the reward.
#
# By the end you can explain
#
# - where long chains of thought come from, and why answers get longer under RL,
# - how you can switch thinking on and off in a single model, and what that switch looks like in a chat template,
# - three ways to control how long a model thinks, one of which you try on the tiny model,
# - what OpenAI, Anthropic and Google DeepMind have said in public about their use of RL, and what nobody outside can know.
#
# What our tiny model shows is *mechanism, not capability*. For everything else, we give the sources but haven't measured anything ourselves.

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
# ## 1. From answers to thoughts
#
# A chain of thought isn't new. [Wei et al. 2022](https://arxiv.org/abs/2201.11903) showed that large models solve more problems if a few worked examples in the prompt make them write out the steps. A thinking model goes further in three ways: it writes *long* chains, with attempts that fail; it does so without being asked; and it was trained with RL to do so. Here are the answers of our own policy to five held-out sums, before and after week 7:

# %%
# NBVAL_CHECK_OUTPUT
import json

import numpy as np
import pandas as pd

from postlab.profile import data_dir, get_profile

pd.set_option("display.max_colwidth", 100)

world = postlab.Lab(get_profile("tiny"), seed=0)  # the stages that ship with the repository
stages = {name: world.results(name)[name] for name in ("dpo", "grpo")}
sums = {name: frame[frame["family"] == "arithmetic"] for name, frame in stages.items()}
answers = pd.DataFrame({name: frame["answer"].to_numpy() for name, frame in sums.items()})
answers.insert(0, "prompt", sums["dpo"]["prompt"].to_numpy())
answers.head(5)

# %% [markdown]
# During GRPO, nobody showed the policy how to work out a sum. Its SFT data had worked solutions for most *long* sums, but only for a few of three numbers. So the policy already had the habit, and GRPO strengthened it because it earns more reward on short sums, too. Public accounts describe the same effect in large models: RL increases how often the model uses a way of thinking that it already used now and then. Even "aha moments" like R1-Zero's were found in samples from its base model ([Liu et al. 2025](https://arxiv.org/abs/2503.20783), section 2).
#
# How long do the answers get? The figure shows the five recorded runs of week 7:

# %%
from postlab.course.extras import plot_thinking

record = json.loads((data_dir() / "results" / "week07" / "seeds.json").read_text())
runs = pd.concat(
    pd.DataFrame(
        {
            "step": one["log"]["step"],
            "reward": np.array(one["log"]["reward"], dtype=float),
            "tokens": np.array(one["log"]["completions/mean_length"], dtype=float),
        }
    ).assign(seed=one["seed"])
    for one in record["seeds"]
)
plot_thinking(runs)

# %% [markdown]
# The curve stops rising, because a sum of five numbers needs only so many steps. On harder problems, the answers can grow for much longer. DeepSeek's figure 3 shows the average answer of R1-Zero growing from a few hundred tokens to about ten thousand over 8,000 steps ([2501.12948](https://arxiv.org/abs/2501.12948)). Meanwhile, its accuracy on AIME 2024 rises from 16% to 71%.
#
# Two cautions about such curves:
#
# - **Length isn't thought.** Part of the growth can come from the loss. GRPO divides by the length of each answer, so a long wrong answer is penalized less per token than a short one. Without this division, [Dr. GRPO](https://arxiv.org/abs/2503.20783) reaches the same accuracy with shorter wrong answers.
# - **The written thoughts aren't always the real reason.** [Chen et al. 2025](https://arxiv.org/abs/2505.05410) (at Anthropic) gave models hints in the prompt and found that the chain of thought often didn't mention a hint that had changed the answer.
#
# ## 2. One model, two modes
#
# Nobody wants a model that thinks for a minute before it says hello. That's why many recent models are *hybrids*: you choose whether they think first. The switch is part of the chat template. TRL ships the templates of many models, so you can look at the real ones. The next cell shows what they write for one question, with thinking on and off:

# %%
# NBVAL_CHECK_OUTPUT
import importlib.util
from pathlib import Path

from postlab.models import load_policy

policy, tokenizer = load_policy(world.checkpoint("grpo"), profile="tiny", bits=32)
folder = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
question = [{"role": "user", "content": "What is 12+30+15?"}]


def written(name, messages, **switches):
    """What a model's template writes before the model's turn."""
    return tokenizer.apply_chat_template(
        messages,
        chat_template=(folder / f"{name}.jinja").read_text(encoding="utf-8"),
        tokenize=False,
        add_generation_prompt=True,
        **switches,
    )


for name in ("qwen3", "qwen3_6", "glm4moe", "gemma4", "deepseek_r1_distill"):
    for thinking in (True, False):
        print(f"{name:20}{thinking!s:6}", repr(written(name, question, enable_thinking=thinking)))

# %% [markdown]
# Read the prompts line by line. There are four designs:
#
# - **Qwen3**'s template adds nothing when thinking is on; the model opens `<think>` itself. When thinking is off, the template writes an *empty* thought, so that the model continues as if it had already thought. A later version (`qwen3_6`) opens `<think>` in the template, so the model can't skip it.
# - **GLM-4.5**'s template does two things to switch thinking off: it appends `/nothink` to the question *and* writes an empty thought.
# - **Gemma 4** has the switch at the beginning, as a token in the system turn. Off is the default.
# - **R1's distilled models** have no switch. Their template always opens `<think>`, and `enable_thinking=False` is silently ignored. (Jinja doesn't complain about variables that a template doesn't use. So always check the rendered prompt.)
#
# How do you train such a model? Qwen3's report calls it *thinking mode fusion* ([2505.09388](https://arxiv.org/abs/2505.09388), section 4.3): after RL on long chains of thought, there's an SFT stage with both kinds of rows. The thinking rows are sampled from the model itself, and the others contain the empty thought. According to the report, the model can then also handle a situation that it wasn't trained on: a thought that is cut off at a budget. You'll try that in section 3.
#
# What happens to old thoughts in a longer conversation?

# %%
# NBVAL_CHECK_OUTPUT
thought = "<think>\n12+30=42, 42+15=57\n</think>\n\n57"
longer = [
    *question,
    {"role": "assistant", "content": thought},
    {"role": "user", "content": "Plus 3?"},
]
print(repr(written("qwen3", longer)))

# %% [markdown]
# The thought is gone. Many templates drop the thoughts of earlier turns, since those thoughts would fill the context. For training, this has a consequence that is easy to miss: the prompt in turn two isn't simply the model's own output from turn one plus the next question. If you train on whole conversations, you train on prefixes that never occur. TRL therefore has a separate version of such templates for training (`qwen3_training.jinja`), and `check_template` of week 1 looks for this prefix drift.
#
# Some models have a dial instead of a switch. OpenAI's gpt-oss models have three levels of effort, which are written into the system message ([2508.10925](https://arxiv.org/abs/2508.10925)):

# %%
# NBVAL_CHECK_OUTPUT
for effort in ("low", "medium", "high"):
    text = written("gptoss", question, reasoning_effort=effort)
    print(next(line for line in text.splitlines() if line.startswith("Reasoning")))

# %% [markdown]
# ## 3. How long may it think?
#
# There are three ways to control the length of a thought: cut it off at inference, shape the reward in training, or put the budget into the prompt and train the model to keep to it.
#
# **Cut it.** The simplest method is *budget forcing* (s1, [Muennighoff et al. 2025](https://arxiv.org/abs/2501.19393)). If the model hasn't finished thinking after a number of tokens, append the text that ends a thought, and let the model answer. (If the model stops too early, delete the end of the thought and append "Wait". This improved their 32B model from 50% to 57% on AIME 2024.) Our policy ends its thoughts with `####`. Let's cut the thoughts off after 0, 8, … tokens, and force the answer:

# %%
import torch

from postlab.rewards import math_reward
from postlab.sampling import Rollout, answer, end_of_turn, render, unchanged
from postlab.tinyworld.oracle import read
from postlab.tinyworld.tasks import heldout_suite, solution

END = end_of_turn(tokenizer)
MARK = tokenizer(" #### ", add_special_tokens=False)["input_ids"]
suite = [row for row in heldout_suite(n=100) if row["family"] == "arithmetic"]
golds = [solution(read(row["prompt"][-1]["content"])).split("#### ")[1] for row in suite]
prompts = [
    tokenizer(render(tokenizer, row["prompt"]), add_special_tokens=False)["input_ids"]
    for row in suite
]


def greedy(prompts, limit):
    """The most likely continuation of each prompt, of at most `limit` tokens."""
    rollouts = [Rollout(str(i), 0, ids, 0.0, limit) for i, ids in enumerate(prompts)]
    with torch.no_grad(), unchanged(policy, tokenizer):
        for _ in answer(policy, tokenizer, rollouts, seed=0):
            pass
    return [rollout.answer for rollout in rollouts]


def forced(budget):
    """Answers with at most `budget` tokens of thought, and which of them were cut off."""
    thoughts = greedy(prompts, budget) if budget else [[] for _ in prompts]
    cut = [END not in thought for thought in thoughts]
    # A thought that has just written the mark needs no second one.
    starts = [t if MARK[-1] in t else t + MARK for t in thoughts]
    unfinished = [i for i, is_cut in enumerate(cut) if is_cut]
    ends = greedy([prompts[i] + starts[i] for i in unfinished], 6)
    answers = dict(enumerate(thoughts)) | {
        i: starts[i] + end for i, end in zip(unfinished, ends, strict=True)
    }
    return tokenizer.batch_decode(list(answers.values()), skip_special_tokens=True), cut


# %%
from postlab.course.extras import plot_budget
from postlab.stats import wilson

points, texts = [], {}
for budget in (0, 8, 16, 24, 32, 40, 48):
    texts[budget], cut = forced(budget)
    right = math_reward(texts[budget], answer=golds)
    share = wilson(sum(right), len(right))
    points.append({"budget": budget, **vars(share), "cut": np.mean(cut)})
plot_budget(pd.DataFrame(points))

# %%
pd.Series(
    {budget: answers[3] for budget, answers in texts.items()}, name="one sum, by budget"
).to_frame()

# %% [markdown]
# That's test-time scaling in a nutshell: with more tokens, more sums come out right, and at some point there is nothing left to gain. With no thought at all, or with only 8 tokens of it, the policy gets none of the sums right. Look at what the policy does when its thought is cut off: it simply goes on with the sum (8 tokens), gives the last intermediate result (16), or says a wrong number (24). We never trained it to be interrupted.
#
# Published curves look the same, with the tokens on a logarithmic axis. o1's accuracy on AIME rises steadily with the compute spent at test time, and also with the compute spent on RL ([OpenAI, September 2024](https://openai.com/index/learning-to-reason-with-llms/)). Qwen3's accuracy rises smoothly with its thinking budget on four benchmarks (figure 2 of its report). We couldn't check these curves, and OpenAI's has no numbers on its horizontal axis.
#
# **Shape the reward.** In a long run, the answers may grow until they hit the limit. Such answers are cut off and earn nothing, whether they were on the right track or not. DAPO's *overlong reward shaping* ([2503.14476](https://arxiv.org/abs/2503.14476), eq. 13) penalizes answers before they reach the limit: within the last $L_\text{cache}$ tokens before the limit, a penalty grows from 0 to −1. TRL ships this penalty as a reward function. L1 ([Aggarwal and Welleck 2025](https://arxiv.org/abs/2503.04697)) goes further and **puts the budget into the prompt** ("Think for 512 tokens"). The reward is then 1 for a right answer, minus $\alpha$ times the distance from the length asked for. The next cell compares the two rewards for a right answer. DAPO's has a limit of 64 tokens and a cache of 16, and L1's comes with a request for 32 tokens and $\alpha = 0.02$:

# %%
# NBVAL_CHECK_OUTPUT
from trl.rewards import get_soft_overlong_punishment

lengths = (16, 32, 48, 56, 64, 72)
overlong = get_soft_overlong_punishment(max_completion_len=64, soft_punish_cache=16)
shaped = [1 + penalty for penalty in overlong([[0] * length for length in lengths])]
exact = [round(1 - 0.02 * abs(32 - length), 2) for length in lengths]
pd.DataFrame({"overlong shaping": shaped, "L1, asked for 32": exact}, index=lengths).T

# %% [markdown]
# The first reward leaves short answers alone and only discourages those near the limit. The second reward also penalizes an answer that is too *short*, so the user decides the length. (L1's second variant only sets a maximum.) The authors report that L1 beats budget forcing. The cut-off answers above suggest a reason: a model that is cut off couldn't plan for its budget, while a model that knows its budget can.
#
# ## 4. What the large labs say
#
# How do OpenAI, Anthropic and Google DeepMind use RL? The table below lists what they have published themselves. For most of these sources, we read the public abstract, card or post. We left out whatever we found only in the press.
#
# | lab | what is public | source |
# |---|---|---|
# | **OpenAI** | RLHF with a reward model and PPO (InstructGPT, 2022) | [2203.02155](https://arxiv.org/abs/2203.02155) |
# | | o1 was trained with "large-scale reinforcement learning" to use its chain of thought; more RL and more thinking both help. The raw thoughts are hidden from users. OpenAI doesn't name the algorithm or the rewards (September 2024) | [Learning to reason with LLMs](https://openai.com/index/learning-to-reason-with-llms/) |
# | | *Deliberative alignment*: the model is taught the text of the safety rules and to reason about them, by SFT and then RL with a judge that knows the rules (December 2024) | [2412.16339](https://arxiv.org/abs/2412.16339) |
# | | An update of GPT-4o with an additional reward from users' thumbs turned out sycophantic. OpenAI names that reward as one of the likely causes, and rolled the update back (April 2025, described in May) | [Expanding on sycophancy](https://openai.com/index/expanding-on-sycophancy/) |
# | | The open gpt-oss models: "large-scale distillation and reinforcement learning", three levels of effort (August 2025) | [2508.10925](https://arxiv.org/abs/2508.10925) |
# | **Anthropic** | RLHF with PPO and a preference model, retrained every week with fresh human data (2022) | [2204.05862](https://arxiv.org/abs/2204.05862) |
# | | *Constitutional AI*: revisions for SFT, then RL from AI feedback that follows written principles (2022) | [2212.08073](https://arxiv.org/abs/2212.08073) |
# | | Claude 3.7 is one model with and without extended thinking, with a budget that the caller sets (February 2025) | [Claude's extended thinking](https://www.anthropic.com/news/visible-extended-thinking) |
# | | A model that knew about reward hacks and was then trained on some of Anthropic's production coding environments learned to hack them, and became misaligned more broadly. Telling it in training that hacking is acceptable there ("inoculation prompting") prevented the broader misalignment (November 2025) | [2511.18397](https://arxiv.org/abs/2511.18397) |
# | **Google DeepMind** | Sparrow: RLHF with two kinds of human judgments, which reply is better and whether a reply breaks one of 23 rules (2022) | [2209.14375](https://arxiv.org/abs/2209.14375) |
# | | Gemma 3: distillation from a larger model, then RL with rewards from human preferences, code execution and verified mathematics (March 2025) | [2503.19786](https://arxiv.org/abs/2503.19786) |
# | | Gemini 2.5's thinking models are trained with RL to use additional compute at inference, and users can set a thinking budget (July 2025) | [2507.06261](https://arxiv.org/abs/2507.06261) |
# | | AlphaProof: RL on mathematics in Lean, where a proof checker gives the reward; together with AlphaGeometry 2, silver-medal standard at the 2024 olympiad (July 2024) | [the announcement](https://deepmind.google/discover/blog/ai-solves-imo-problems-at-silver-medal-level/) |
#
# The three labs have much in common. They use human or AI preferences for style and safety, and checkable rewards where answers can be checked. They train the long chains of thought with RL as well. The order and the mix of these methods differ between labs, and change with every model.
#
# **What you can't know from outside:** Outsiders don't know which algorithm trains the closed models (PPO, GRPO or something else), or with which rewards, data and compute. They also don't know how much of a gain comes from RL and how much from distillation or better pretraining, or whether a published method is still in use. If someone tells you with certainty how the latest closed model was trained, ask for the source. The recipes that you *can* check are those of DeepSeek, Qwen, Tülu and OLMo; week 4 has a table of them.
#
# ## What you have now
#
# You now know what a thinking model is made of: a habit from pretraining and SFT, a reward for the results of this habit, a template that switches the habit on, and a limit on the length of the thoughts. Expect three questions in an interview:
#
# - *Why do answers get longer under RL?* Because working a problem out earns more reward, and partly because of how the loss is normalized.
# - *How would you limit the cost?* I'd put a budget into the prompt and use a length reward to train the model to keep to it. Cutting its thoughts off would be my second choice.
# - *How does a hybrid model know whether to think?* From the template, and from an SFT stage with rows of both kinds.
#
# **Papers.** DeepSeek-AI 2025, *R1* ([2501.12948](https://arxiv.org/abs/2501.12948)): figures 2 and 3, and what R1-Zero lacked. Qwen team 2025, *Qwen3* ([2505.09388](https://arxiv.org/abs/2505.09388)): section 4, the four stages of a hybrid. Muennighoff et al. 2025, *s1* ([2501.19393](https://arxiv.org/abs/2501.19393)): budget forcing on a page. Aggarwal and Welleck 2025, *L1* ([2503.04697](https://arxiv.org/abs/2503.04697)): length as an instruction.
# Chen et al. 2025 ([2505.05410](https://arxiv.org/abs/2505.05410)): how far to trust a chain of thought. Guan et al. 2024, *Deliberative alignment* ([2412.16339](https://arxiv.org/abs/2412.16339)): thinking about rules. MacDiarmid et al. 2025 ([2511.18397](https://arxiv.org/abs/2511.18397)): what hacked rewards teach.
