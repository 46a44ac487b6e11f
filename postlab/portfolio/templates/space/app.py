"""The page of a blind side by side: ask, compare two replies, vote, see who wrote them.

Replies are shown in text fields, so nothing that a model writes is read as HTML or Markdown. Which
stages answered is kept on the server until the vote.
"""

from __future__ import annotations

import traceback
from functools import partial

import gradio
from arena import LONGEST, Arena, Round, from_files

COLUMNS = ["stage", "against", "wins", "ties", "losses"]
INTRO = """# Which stage answers better?
Two stages of the same model answer your question. Vote for the better reply, and the page shows
which stage wrote it. Your vote is stored with hashes of the question and the replies, not their
text."""


def ask(arena: Arena, prompt: str):
    """The two replies, what to do next, the table, and the round for the vote."""
    try:
        asked = arena.ask(prompt)
    except ValueError as error:
        raise gradio.Error(str(error)) from None
    except Exception:  # the message may name the stage, which the voter mustn't know
        traceback.print_exc()
        raise gradio.Error("A stage could not answer; the Space's log says why.") from None
    status = "Which reply is better?"
    if asked.voted:
        names = " and ".join(sorted(asked.stages))
        status = f"{names} gave the same reply, so this counts as a tie."
    return *asked.replies, status, arena.tally(), asked


def vote(arena: Arena, choice: str, asked: Round | None):
    """Who wrote the replies, and the table with this vote."""
    if asked is None:
        raise gradio.Error("Ask a question first.")
    try:
        arena.vote(asked, choice)
    except (OSError, ValueError) as error:
        raise gradio.Error(f"Not counted: {error}") from None
    first, second = asked.stages
    return (
        f"Reply 1 is from {first}, reply 2 from {second}. Your vote: {choice}.",
        arena.tally(),
        None,
    )


def page(arena: Arena) -> gradio.Blocks:
    """The page; `launch` serves it."""
    with gradio.Blocks(title="Which stage answers better?", analytics_enabled=False) as demo:
        gradio.Markdown(INTRO)
        prompt = gradio.Textbox(label="Your question", max_length=LONGEST, lines=2)
        button = gradio.Button("Ask", variant="primary")
        with gradio.Row():
            replies = [
                gradio.Textbox(label=f"Reply {n}", lines=6, interactive=False) for n in (1, 2)
            ]
        labels = {"first": "Reply 1 is better", "tie": "Tie", "second": "Reply 2 is better"}
        with gradio.Row():
            votes = {choice: gradio.Button(label) for choice, label in labels.items()}
        status = gradio.Textbox(label="Result", interactive=False)
        table = gradio.Dataframe(arena.tally(), headers=COLUMNS, interactive=False, label="Votes")
        asked = gradio.State(None)
        outputs = [*replies, status, table, asked]
        gradio.on(
            [button.click, prompt.submit], partial(ask, arena), prompt, outputs, api_name="ask"
        )
        for choice, control in votes.items():
            control.click(
                partial(vote, arena, choice),
                asked,
                [status, table, asked],
                api_name=f"vote_{choice}",
            )
    return demo.queue(max_size=16)


if __name__ == "__main__":
    page(from_files()).launch()
