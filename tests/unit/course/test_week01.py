"""Week 1's build: forms of a loop's result, TRL's losses, and the pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from postlab.course.check._exercise import examine
from postlab.course.week01.exercise_train import TRAIN, train
from postlab.profile import data_dir


def shaped(change):
    """The right loop, its result changed."""

    def loop(model, batches, *, optimizer, scheduler):
        return change(train(model, batches, optimizer=optimizer, scheduler=scheduler))

    return loop


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda losses: None, "returns_none"),
        (lambda losses: losses[:1], "wrong_count"),
        (lambda losses: torch.tensor(losses).mean(), "wrong_count"),
        (lambda losses: sum(losses), "wrong_type"),
        (lambda losses: (object(), losses), "wrong_type"),
        (lambda losses: [str(x) for x in losses], "wrong_type"),
        (lambda losses: [torch.tensor(x, requires_grad=True) for x in losses], "keeps_the_graph"),
        (torch.tensor, "right"),
        (lambda losses: [torch.tensor(x) for x in losses], "right"),
    ],
)
def test_what_a_loop_returns_is_told_apart(change, code):
    assert examine(TRAIN, shaped(change)).code == code


def test_an_optimizer_of_ones_own_is_no_known_mistake():
    def loop(model, batches, *, optimizer, scheduler):
        own = torch.optim.AdamW(model.parameters(), lr=1e-3)
        return train(model, batches, optimizer=own, scheduler=scheduler)

    assert examine(TRAIN, loop).code == "not_recognised"


def test_every_call_trains_a_new_model():
    inputs = TRAIN.cases[1].inputs
    assert TRAIN.expected(inputs).equal(TRAIN.expected(inputs))


def test_an_answer_with_two_mistakes_is_told_both():
    text = TRAIN.right_answer.replace("scheduler.step()", "pass")
    text = text.replace("optimizer.zero_grad()", "pass")
    answer = replace(TRAIN.wrong_answers[0], text=text)
    code = examine(TRAIN, TRAIN.function(answer)).code
    assert set(code.split("_and_")) == {"gradients_pile_up", "rate_stays"}


def test_the_loop_reaches_the_losses_that_trl_recorded():
    from postlab.chat import encode
    from postlab.datasets import instruction_rows
    from postlab.lab import Lab
    from postlab.models import load_policy
    from postlab.profile import get_profile

    record = json.loads((data_dir() / "results" / "week01" / "trl.json").read_text())
    settings = record["settings"]
    base = Lab(get_profile("tiny"), seed=0).checkpoint("base")
    model, tokenizer = load_policy(base, profile="tiny")
    model.train().requires_grad_(True)
    rows = instruction_rows("tinyworld", split="train", n=1280, seed=0)
    rows = [row for row in rows if len(row["prompt"]) == 1]
    starts = range(0, settings["steps"] * settings["batch"], settings["batch"])
    length = settings["max_length"]
    batches = [
        encode(rows[i : i + settings["batch"]], tokenizer, max_length=length) for i in starts
    ]
    # encode pads on the right; what TRL trains is the same, and so is each loss.
    assert [int(batch["loss_mask"].sum()) for batch in batches] == record["tokens_trained"]
    rate, steps = settings["learning_rate"], settings["steps"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / steps)
    losses = train(model, batches, optimizer=optimizer, scheduler=falling)
    assert losses == pytest.approx(record["loss"], abs=2e-3)


# --- pictures ---


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_pipeline_names_every_stage_once_and_fits_a_phone():
    from postlab.course.week01.pictures import STAGES, draw_pipeline
    from postlab.show import PHONE

    figure = draw_pipeline()
    shown = texts(figure)
    assert [shown.count(name) for _, name, _, _ in STAGES] == [1] * len(STAGES)
    assert shown.count("weights") == len(STAGES) - 1
    assert figure.get_size_inches()[0] * 10 <= PHONE + 1e-9


def test_the_picture_of_a_mask_colours_what_encode_trains():
    from matplotlib.colors import to_hex

    from postlab.chat import encode
    from postlab.claims import STAGE_COLOURS
    from postlab.course.week01.pictures import draw_mask, draw_shift
    from postlab.datasets import instruction_rows
    from postlab.lab import Lab
    from postlab.models import load_policy
    from postlab.profile import get_profile

    _, tokenizer = load_policy(Lab(get_profile("tiny"), 0).checkpoint("base"), profile="tiny")
    row = instruction_rows("tinyworld", split="train", n=1, seed=0)[0]
    batch = encode([row], tokenizer, max_length=256)
    trained, count = int(batch["loss_mask"].sum()), batch["input_ids"].shape[1]
    shift = [text for text in texts(draw_shift(row, tokenizer)) if text.startswith(("0", "1"))]
    assert shift == ["0, not trained"] * 2 + ["1, trained"] * trained
    figure = draw_mask(row, tokenizer)
    assert figure.get_suptitle().startswith(f"{trained} of {count} tokens are trained")
    fills = [to_hex(patch.get_facecolor()).upper() for patch in figure.axes[0].patches]
    assert len(fills) == count + 2  # and the legend's two
    assert fills.count(STAGE_COLOURS["sft"].upper()) == trained + 1
