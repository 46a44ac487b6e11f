"""The extra on tools: the world's replies, rewards, the mask in TRL's loop, and credit by turns."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from postlab.course.extras import (
    KINDS,
    NEEDED,
    World,
    credited_by_turn,
    draw_turns,
    plot_calls,
    plot_episode,
    questions,
    right_minus_price,
    sample_turns_with_engine,
    tool_rows,
    turn_advantages,
    turn_of_token,
    with_tools,
)


def world(**columns) -> World:
    one = World()
    one.reset(**columns)
    return one


def test_the_calculator_multiplies_before_it_adds():
    assert world().sums("2+3*4") == "14"


@pytest.mark.parametrize("query", ["", "1-2", "2**9", "__import__('os')", "1+", "9" * 7])
def test_anything_else_is_refused(query: str):
    with pytest.raises(ValueError, match="not a sum or product"):
        world().sums(query)


def test_a_lying_calculator_is_never_right():
    assert "14" not in {world(lies=1.0).sums("2+3*4") for _ in range(40)}


def test_an_episode_begins_without_the_calls_and_prices_of_the_last_one():
    one = world(prices='{"lamp": 37}')
    assert one.find("price of the lamp") == "37"
    one.reset(prices='{"lamp": 12}')
    assert one.calls == [] and one.find("price of the lamp") == "12"


def test_prices_of_other_things_and_made_up_creatures_are_not_found():
    for query in ("price of the box", "colour of the lamp"):
        with pytest.raises(ValueError, match="no such entry"):
            world(prices='{"lamp": 37}').find(query)


def test_sft_rows_call_in_half_of_the_cases_of_every_kind_and_their_calls_work():
    rows = tool_rows(1000, seed=0)
    asked = questions(1000, split="train", seed=0)
    shares = dict.fromkeys(KINDS, 0.0)
    for row, question in zip(rows, asked, strict=True):
        turns = row["messages"][1:]
        shares[question["kind"]] += (len(turns) > 1) / 200
        one = world(**question)
        for call, reply in zip(turns[:-1:2], turns[1::2], strict=True):
            name, query = call["content"][:-1].split("(x=")
            assert getattr(one, name)(query) == reply["content"]
        if one.calls:
            assert len(one.calls) == max(1, NEEDED[question["kind"]])
            assert question["answer"] in turns[-1]["content"]
    assert all(0.4 < share < 0.6 for share in shares.values()), shares


def test_held_out_questions_are_other_questions():
    train, heldout = (
        {row["prompt"][0]["content"] for row in questions(400, split=split, seed=0)}
        for split in ("train", "heldout")
    )
    assert not train & heldout


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


def test_the_reward_is_one_minus_the_price_of_each_call():
    worlds = [world() for _ in range(3)]
    worlds[0].sums("12*30")
    worlds[2].sums("12*30")
    notes = []
    rewards = right_minus_price(0.2, notes.append)(
        [[assistant("#### 360")], [assistant("#### 361")], [assistant("x") | {"tool_calls": [1]}]],
        worlds, answer=["360"] * 3, kind=["product"] * 3,
    )  # fmt: skip
    assert rewards == pytest.approx([0.8, 0.0, -0.2])
    assert [one.turns for one in worlds] == [[-0.2, 1.0], [0.0], [-0.2, 0.0]]
    assert [(row["right"], row["calls"]) for row in notes] == [(1, 1), (0, 0), (0, 1)]


# --- credit over turns ----------------------------------------------------------------------------


def test_the_first_turns_advantage_is_grpos():
    rewards = [[1.0], [-0.2, 1.0], [-0.2, 0.0], [0.0]]
    totals = torch.tensor([sum(turns) for turns in rewards])
    expected = (totals - totals.mean()) / (totals.std() + 1e-4)
    first = [turns[0] for turns in turn_advantages(rewards)]
    torch.testing.assert_close(torch.tensor(first), expected)


def test_a_right_answer_after_a_needless_call_is_not_blamed():
    needless, wrong = turn_advantages([[1.0], [1.0], [-0.2, 1.0], [-0.2, 0.0]])[2:]
    assert needless[0] < 0.5 and needless[1] > 0 > wrong[1]


def test_a_group_without_differences_has_no_advantages():
    assert turn_advantages([[-0.2, 1.0], [-0.2, 1.0]]) == [[0.0, 0.0], [0.0, 0.0]]


def test_turns_are_counted_from_the_models_own_tokens():
    mask = torch.tensor([[1, 1, 0, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0, 0]])
    assert turn_of_token(mask).tolist() == [[0, 0, 0, 0, 1, 1, 2], [0] * 7]


# --- TRL's loop -----------------------------------------------------------------------------------


def tool_trainer(folder, trainer_class, **settings):
    from datasets import Dataset
    from trl import GRPOConfig

    from postlab.lab import Lab
    from postlab.models import load_policy, trainable
    from postlab.profile import get_profile

    policy, tokenizer = load_policy(
        Lab(get_profile("tiny"), 0).checkpoint("grpo"), profile="tiny", bits=32
    )
    recipe = get_profile("tiny").grpo.trainer
    args = {"per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 60}
    return trainer_class(
        model=trainable(policy),
        processing_class=with_tools(tokenizer),
        environment_factory=World,
        reward_funcs=right_minus_price(0.2),
        train_dataset=Dataset.from_list(questions(5, split="train", seed=0)),
        args=GRPOConfig(output_dir=str(folder), seed=0, **recipe | args | settings),
    )


class Scripted:
    """In place of sampling: two episodes that call first, and two that guess."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer, self.turn = tokenizer, 0

    def __call__(self, prompt_ids: list, *rest, **more):
        first = ["sums(x=12x15)", "#### 5", "sums(x=12x15)", "#### 6"]
        texts = [["#### 180", "#### 181"], first][self.turn == 0]
        self.turn += 1
        assert len(texts) == len(prompt_ids)
        return [self.tokenizer(f"{text}<|im_end|>")["input_ids"] for text in texts], None


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("POSTLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    return tmp_path


def test_the_tools_tokens_are_masked_and_each_turn_has_its_own_advantage(folder):
    from trl import GRPOTrainer

    trainer = tool_trainer(folder, credited_by_turn(GRPOTrainer))
    tokenizer = trainer.processing_class
    trainer._generate_single_turn = Scripted(tokenizer)
    trainer.model.train()
    product = trainer.train_dataset[2]
    assert product["answer"] == "180" and json.loads(product["needs"]) == [12, 15]
    batch = trainer._prepare_inputs([product] * 4)
    ids, mask = batch["completion_ids"][0], batch["tool_mask"][0].bool()
    own = tokenizer.decode(ids[mask & batch["completion_mask"][0].bool()])
    assert own == "sums(x=12x15)<|im_end|>#### 180<|im_end|>"
    assert "tool\n180<|im_end|>" in tokenizer.decode(ids[~mask])
    advantages, last = batch["advantages"], int(batch["completion_mask"][0].sum()) - 1
    assert advantages.shape == mask.expand(4, -1).shape
    # returns: 0.8 and -0.2 with a call, 0 and 0 without; then 1 and 0 in the second turns
    assert advantages[0, 0] > 1 and advantages[2, 0] < 0 and advantages[0, last] > 0.7


def test_the_engine_samples_each_turn(folder):
    from trl import GRPOTrainer

    trainer = sample_turns_with_engine(
        tool_trainer(folder, GRPOTrainer, max_steps=1, save_strategy="no")
    )
    trainer.train()
    assert trainer.state.global_step == 1


# --- figures --------------------------------------------------------------------------------------


def title(fig) -> str:
    return " ".join(fig.get_suptitle().split())


def test_the_episode_counts_the_models_tokens():
    assert title(plot_episode(["a", "\n", "b"], [1, 0, 1])).startswith("The policy wrote 2 of")
    assert title(plot_episode(["a", "\n", "b"], [1, 0, 1], [0.5, 0.0, -1.0])).endswith(
        "+0.50, -1.00"
    )


def test_figures_are_drawn_for_every_kind():
    rows = [{"arm": "free", "seed": 0, "kind": kind, "calls": 1.0} for kind in KINDS]
    assert plot_calls(pd.DataFrame(rows), "Calls").axes
    assert draw_turns().get_size_inches()[0] <= 7
