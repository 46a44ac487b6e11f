"""A calculator and a look-up in the embedded world, for TRL's `environment_factory`.

`World` is the environment: one instance per episode, whose public methods are the tools. The
questions are of five kinds, so that it can be seen whether a policy calls only where it needs to:
sums and facts, which the tiny model can answer by itself, products and today's prices, which it
can't, and bills, which need both tools one after the other. `with_tools` gives the tiny tokenizer a
form of calls that TRL can parse. Left out: several calls in one turn, and tools that take long.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from postlab.rewards import math_reward
from postlab.sampling import draw, read_policy
from postlab.tinyworld import tasks, words

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("sum", "fact", "product", "price", "bill")  # of question
NEEDED = {"sum": 0, "fact": 0, "product": 1, "price": 1, "bill": 2}  # calls that a question needs
UNKNOWN = "I do not know."
EXPRESSION = re.compile(r"\d{1,6}([+*x]\d{1,6})*")
PRICE = re.compile(r"price of the (\w+)")
TRAIT = re.compile(r"(colour|food|home) of the (\w+)")
# A call of the tiny model is `sums(x=12x30)`; a real model's template writes JSON. LoRA leaves the
# embeddings alone, so the tools' names are made of tokens that the base has seen in its documents.
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}"
    "{% if m['tool_calls'] %}{% for call in m['tool_calls'] %}"
    "{{ call['function']['name'] + '(' }}"
    "{% for name, value in call['function']['arguments'].items() %}"
    "{{ name + '=' + value }}{% endfor %}{{ ')' }}"
    "{% endfor %}{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "tool_calls": {
            "open_pattern": r"(?P<name>sums|find)\(x=",
            "close_pattern": r"\)(<\|im_end\|>)?",
            "repeats": True,
            "content": "text",
            "transform": {
                "type": "function",
                "function": {"name": "{name}", "arguments": {"x": "{content}"}},
            },
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}


class World:
    """One episode's environment: what things cost today, and what was called."""

    def __init__(self) -> None:
        self._prices: dict[str, int] = {}
        self._lies = 0.0
        self.calls: list[str] = []
        self.turns: list[float] = []  # the reward of each turn, once the episode is scored

    def reset(self, *, prices: str = "{}", lies: float = 0.0, **row: Any) -> None:
        """Begin an episode; TRL passes the columns of its row.

        Args:
            prices: of things today, as JSON.
            lies: the share of the calculator's results that are wrong.
        """
        self._prices, self._lies = json.loads(prices), lies
        self.calls, self.turns = [], []

    def sums(self, x: str) -> str:
        """Work out a sum or a product of whole numbers.

        Args:
            x: the numbers with + or * between them, such as 12*30.
        """
        self.calls.append(f"sums({x})")
        if not EXPRESSION.fullmatch(x):
            raise ValueError("not a sum or product")
        total = sum(math.prod(map(int, term.split("*"))) for term in x.replace("x", "*").split("+"))
        lies = self._lies and random.random() < self._lies  # TRL seeds this generator
        return str(total + random.randint(1, 9) if lies else total)

    def find(self, x: str) -> str:
        """Look up a creature's colour, food or home, or the price of a thing today.

        Args:
            x: such as 'price of the lamp' or 'colour of the bamu'.
        """
        self.calls.append(f"find({x})")
        if (price := PRICE.fullmatch(x)) and price[1] in self._prices:
            return str(self._prices[price[1]])
        if (trait := TRAIT.fullmatch(x)) and trait[2] in words.CREATURES:
            return words.traits(trait[2])[trait[1]]
        raise ValueError("no such entry")


def questions(
    n: int, *, split: str, seed: int, kinds: Sequence[str] = KINDS, lies: float = 0.0
) -> list[dict[str, Any]]:
    """Questions of each kind in turn, as rows for GRPOTrainer.

    Args:
        split: "train" or "heldout": other numbers, creatures and things.
        lies: the share of the calculator's results that are wrong.
    Returns:
        Rows with `prompt`, `answer`, `kind`, and `prices` and `lies` for `World.reset`.
    """
    rng = random.Random(f"questions {split} {seed}")
    return [_question(kinds[i % len(kinds)], rng, split) | {"lies": lies} for i in range(n)]


def _question(kind: str, rng: random.Random, split: str) -> dict[str, Any]:
    prices: dict[str, int] = {}
    if kind in ("sum", "fact"):
        item = tasks.draw("arithmetic" if kind == "sum" else "facts", rng, split)
        if kind == "sum":
            while len(item.args) > 3:
                item = tasks.draw("arithmetic", rng, split)
            answer = str(sum(item.args))
        else:
            answer = words.traits(item.args[0])[item.kind]
        text, needs = tasks.ask(item, rng, split), (item.kind, *item.args)
    elif kind == "product":
        while True:
            a, b = rng.randint(12, 59), rng.randint(12, 59)
            if tasks.held_out_numbers((a, b)) == (split == "heldout"):
                break
        text, answer, needs = f"What is {a}x{b}?", str(a * b), (a, b)
    else:
        thing, price = rng.choice(words.known(words.THINGS, split)), rng.randint(12, 59)
        prices = {thing: price}
        if kind == "price":
            text, answer = f"The {thing}: what does one cost today?", str(price)
            needs = (thing, price)
        else:
            number = rng.randint(12, 59)
            text, answer = f"The {thing}: what do {number} cost today?", str(number * price)
            needs = (thing, number, price)
    return {
        "prompt": [{"role": "user", "content": text}], "answer": answer, "kind": kind,
        "prices": json.dumps(prices), "needs": json.dumps(needs),
    }  # fmt: skip


def tool_rows(n: int, *, seed: int, called: float = 0.5) -> list[dict[str, Any]]:
    """Conversations for SFT that show the form of a call, in half of the rows of every kind.

    Whether a row calls says nothing about whether it has to. Without a call, sums are worked out,
    facts are recalled, and for anything else the reply is that it isn't known.

    Args:
        called: the share of rows with calls.
    Returns:
        Rows with `messages`; a call is the text that the tiny template writes for it.
    """
    rng, rows = random.Random(f"tool rows {seed}"), []
    for question in questions(n, split="train", seed=seed):
        needs, answer, kind = json.loads(question["needs"]), question["answer"], question["kind"]
        turns: list[tuple[str, str]] = []
        final = f"#### {answer}"
        if kind == "fact":
            final = tasks.SENTENCES[needs[0]].format(e=needs[1], v=answer)
        if rng.random() < called:
            if kind == "fact":
                turns = [(f"find(x={needs[0]} of the {needs[1]})", answer)]
            if kind in ("price", "bill"):
                turns = [(f"find(x=price of the {needs[0]})", str(needs[-1]))]
            if kind == "bill":
                turns += [(f"sums(x={needs[1]}x{needs[2]})", answer)]
            if kind in ("sum", "product"):
                sign, numbers = ("+", needs[1:]) if kind == "sum" else ("x", needs)
                turns = [(f"sums(x={sign.join(map(str, numbers))})", answer)]
        elif kind == "sum":
            final = tasks.worked(tuple(needs[1:]))
        elif kind != "fact":
            final = UNKNOWN
        messages = list(question["prompt"])
        for call, result in turns:
            messages += [
                {"role": "assistant", "content": call},
                {"role": "tool", "content": result},
            ]
        rows.append({"messages": [*messages, {"role": "assistant", "content": final}]})
    return rows


def with_tools(tokenizer: Any) -> Any:
    """Give the tiny tokenizer the form of its calls; a tokenizer that has one stays as it is."""
    if "tool_calls" not in (tokenizer.chat_template or ""):
        tokenizer.chat_template = CHAT_TEMPLATE
        tokenizer.response_template = RESPONSE_TEMPLATE
    return tokenizer


def is_right(text: str, answer: str) -> bool:
    """Whether a reply gives this number, or has this word in it.

    >>> is_right("#### 57", "57"), is_right("The bamu is red.", "red"), is_right("57", "58")
    (True, True, False)
    """
    if answer.isdigit():
        return math_reward([text], answer=[answer]) == [1.0]
    return re.search(rf"\b{re.escape(answer)}\b", text) is not None


def right_minus_price(
    price: float, note: Callable[[dict[str, Any]], None] = lambda row: None
) -> Callable[..., list[float]]:
    """A reward for GRPOTrainer: 1 for a right answer, minus a price for each call.

    Args:
        note: called with each episode's `kind`, `right` and `calls`.
    Returns:
        The reward function. It also writes the reward of each turn into the environment's `turns`.
    """

    def reward(completions: list, environments: list[World], **columns: Any) -> list[float]:
        scores = []
        rows = zip(completions, environments, columns["answer"], columns["kind"], strict=True)
        for messages, world, answer, kind in rows:
            last = messages[-1]
            ended = last["role"] == "assistant" and not last.get("tool_calls")
            right = float(ended and is_right(last["content"], answer))
            world.turns = [-price] * len(world.calls) + [right]
            note({"kind": kind, "right": right, "calls": len(world.calls)})
            scores.append(sum(world.turns))
        return scores

    return reward


def sample_turns_with_engine(trainer: Any) -> Any:
    """Let a GRPOTrainer with tools sample each turn with the CPU engine, where that can serve.

    Returns:
        The same trainer; on a GPU its own sampling stays.
    """
    generate = trainer._generate_single_turn

    def single_turn(prompt_ids: list[list[int]], *rest: Any, **more: Any) -> tuple[list, None]:
        longest = max(map(len, prompt_ids)) + trainer.max_completion_length
        on_cpu = trainer.accelerator.device.type == "cpu"
        engine = read_policy(trainer.model, longest) if on_cpu else None
        if engine is None:
            return generate(prompt_ids, *rest, **more)
        completion_ids, _ = engine.decode(
            prompt_ids,
            new_tokens=trainer.max_completion_length,
            stops=set(trainer.eos_token_ids),
            draw=lambda logits, rows: draw(logits, trainer.temperature),
        )
        return completion_ids, None

    trainer._generate_single_turn = single_turn
    return trainer


def turn_advantages(rewards: Sequence[Sequence[float]]) -> list[list[float]]:
    """An advantage for each turn of each episode of one group.

    A turn's return is what comes from it on: its own reward and those of later turns. It's compared
    with the other episodes that have such a turn, and divided by the standard deviation over them.

    Args:
        rewards: of each turn, for each episode of a group.

    >>> [[round(a, 2) for a in turns] for turns in turn_advantages([[0.0], [-0.5, 1.0]])]
    [[-0.71], [0.71, 0.0]]
    """
    returns = [[sum(turns[j:]) for j in range(len(turns))] for turns in rewards]
    advantages = [[0.0] * len(turns) for turns in rewards]
    for j in range(max(map(len, rewards))):
        there = [i for i, turns in enumerate(returns) if len(turns) > j]
        mean = sum(returns[i][j] for i in there) / len(there)
        if len(there) > 1:
            squares = sum((returns[i][j] - mean) ** 2 for i in there)
            spread = math.sqrt(squares / (len(there) - 1))
            for i in there:
                advantages[i][j] = (returns[i][j] - mean) / (spread + 1e-4)
    return advantages


def turn_of_token(mask: Tensor) -> Tensor:
    """(B, T) which turn each token belongs to, from 0; a tool's tokens go with the turn before.

    Args:
        mask: (B, T), 1 on the model's tokens and 0 on the environment's.
    """
    import torch

    before = torch.nn.functional.pad(mask, (1, 0))[:, :-1]
    return ((mask == 1) & (before == 0)).cumsum(dim=1) - 1


def credited_by_turn(trainer_class: Any) -> Any:
    """A GRPOTrainer in which each turn has an advantage of its own, with one update per batch.

    Args:
        trainer_class: TRL's GRPOTrainer; its reward must fill `World.turns`.
    """
    import torch

    class CreditedByTurn(trainer_class):
        def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
            batch = super()._generate_and_score_completions(inputs)
            if not self.model.training:
                return batch
            rewards = [world.turns for world in self.environments]
            size, each = self.num_generations, []
            for start in range(0, len(rewards), size):
                each += turn_advantages(rewards[start : start + size])
            turns = turn_of_token(batch["tool_mask"])
            batch["advantages"] = torch.tensor(
                [
                    [values[min(turn, len(values) - 1)] for turn in row]
                    for values, row in zip(each, turns.tolist(), strict=True)
                ]
            )
            return batch

    return CreditedByTurn
