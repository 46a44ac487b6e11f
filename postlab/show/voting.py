"""The arena: two replies to a prompt, nothing said of whose they are, and a vote between them.

A part of `postlab.show`.

Keys: ipywidgets hears keys in text fields alone, so the arena has one; click into it once, then
1, 2, 0 and u vote, and a vote by mouse puts the cursor there, too. That is also the safe place:
on a focused button JupyterLab takes a 1 for 'make this cell a heading' and 0 0 for 'restart'.
Arrow keys reach no field, so they are left out.
"""

from __future__ import annotations

import html
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from postlab import stats
from postlab.judge import CHOICES, Pair, VoteLog, pairs_of
from postlab.show.pages import WIDE, bundle, button, pair_html, shown, table_html

if TYPE_CHECKING:
    import pandas as pd

PAUSE_S = 0.3  # a second click or key sooner than this is a slip: nobody has read the next pair
KEYS = {"1": "first", "2": "second", "0": "tie"}
_PAGE = "font-size:15px;line-height:1.5;color:var(--jp-ui-font-color1,inherit)"


def arena(frames: Mapping[str, pd.DataFrame], *, path: str | Path, seed: int = 0) -> Arena:
    """Vote blind between stages' replies to the same prompts, by mouse or keyboard.

    Decide how many votes to cast before you look at the result: stopping when it pleases finds
    differences that are not there.

    Args:
        frames: {stage: frame of `evals.evaluate`}, two stages or more; where a prompt has several
            samples, the first is shown.
        path: the JSONL file that each vote is added to; a new arena on the same file goes on.
        seed: of the order of the pairs, and of which reply stands first.
    Returns:
        Arena: the last value of a cell shows it.
    Raises:
        ValueError: if the stages do not share their prompts, or `path` holds something else.
    Taught in week 6.

    >>> import pandas as pd, tempfile
    >>> asked = {"id": ["a", "b"], "prompt": ["2+3?", "Who?"]}
    >>> frames = {"sft": pd.DataFrame(asked | {"answer": ["5", "He."]}),
    ...           "dpo": pd.DataFrame(asked | {"answer": ["5", "I do not know."]})}
    >>> votes = arena(frames, path=tempfile.mkdtemp() + "/votes.jsonl")
    >>> while votes.pair:  # one pair: the other two replies are the same
    ...     prompt, first, second = votes.pair
    ...     votes.vote("first" if len(first) > len(second) else "second")
    >>> votes.result()[["stage", "against", "votes", "wins", "ties", "win_rate"]].values.tolist()
    [['dpo', 'sft', 2, 1, 1, 0.75]]
    """
    return Arena(tuple(frames), pairs_of(frames, seed=seed), VoteLog(path))


class Arena:
    """Blind votes on pairs of replies; made by `arena`.

    Replies that are the same to the letter are never shown: they count as ties as soon as the votes
    have passed their place in the random order, so the votes so far are a fair sample at any time.
    """

    def __init__(self, stages: tuple[str, ...], pairs: tuple[Pair, ...], log: VoteLog) -> None:
        self._stages, self._pairs, self._log = stages, pairs, log
        self._shown: Pair | None = None
        self._shown_at, self._acted_at = time.monotonic(), -math.inf
        self._make_widgets()
        self._refresh()

    @property
    def pair(self) -> tuple[str, str, str] | None:
        """Prompt, first and second reply of the pair that waits for a vote; None after the last."""
        pair = self._next(self._log.read())
        return None if pair is None else (pair.prompt, *pair.replies)

    def vote(self, choice: str) -> None:
        """Save a vote on the pair that is shown: "first", "second" or "tie", as judges say it.

        Raises:
            ValueError: if choice is another word, or every pair has its vote.
        """
        if choice not in CHOICES:
            raise ValueError(f"choice is {choice!r}; expected one of {', '.join(CHOICES)}")
        pair = self._next(self._log.read())
        if pair is None:
            raise ValueError("every pair has its vote; call undo() to take the last one back")
        if pair == self._shown:  # else another arena on the same file has voted on it
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self._log.add(
                {"pair": pair.key, "id": pair.id, "first": pair.stages[0]}
                | {"second": pair.stages[1], "choice": choice, "time": now}
                | {"seconds": round(time.monotonic() - self._shown_at, 1)}
            )
        self._refresh()

    def undo(self) -> None:
        """Take the last vote back, and show its pair again; without a vote, do nothing."""
        mine = {pair.key for pair in self._pairs}
        last = [key for key in self._log.read() if key in mine][-1:]
        for key in last:
            self._log.add({"pair": key, "undo": True})
        self._refresh()

    def votes(self) -> pd.DataFrame:
        """A row a vote, in voting order.

        Returns:
            id, prompt, first and second (the stages), choice ("first", "second", "tie"), winner (a
            stage, or "tie"), identical (the same words twice: a tie without a vote).
        """
        import pandas as pd

        names = ("id", "prompt", "first", "second", "choice", "winner", "identical")
        cast, waiting = self._log.read(), self._next(self._log.read())
        passed = self._pairs[: self._pairs.index(waiting)] if waiting else self._pairs
        rows = []
        for pair in self._pairs:
            if pair.key in cast and not pair.identical:
                vote = cast[pair.key]  # the sides as they were, should the seed be another now
                stages, choice = (vote["first"], vote["second"]), vote["choice"]
            elif pair.identical and pair in passed:
                stages, choice = pair.stages, "tie"
            else:
                continue
            winner = dict(zip(CHOICES, (*stages, "tie"), strict=True))[choice]
            rows.append((pair.id, pair.prompt, *stages, choice, winner, pair.identical))
        return pd.DataFrame(rows, columns=names)

    def result(self) -> pd.DataFrame:
        """How often each stage was preferred to each stage before it.

        Returns:
            stage, against, votes, wins, ties (identical replies among them), losses, then win_rate
            (ties count half) with low and high, its 95% interval by `stats.win_rate`, and verdict:
            "better" or "worse" where the interval leaves out one half, else "inconclusive".
        """
        import pandas as pd

        votes, rows = self.votes(), []
        for against, stage in combinations(self._stages, 2):
            both = votes[votes[["first", "second"]].isin((against, stage)).all(axis=1)]
            counts = [int((both["winner"] == name).sum()) for name in (stage, "tie", against)]
            points = [1.0] * counts[0] + [0.5] * counts[1] + [0.0] * counts[2]
            rate = (
                stats.win_rate(points)
                if points
                else stats.Interval(math.nan, math.nan, math.nan, 0)
            )
            verdict = "better" if rate.low > 0.5 else "worse" if rate.high < 0.5 else "inconclusive"
            rows.append((stage, against, rate.n, *counts, rate.value, rate.low, rate.high, verdict))
        names = ("stage", "against", "votes", "wins", "ties", "losses")
        return pd.DataFrame(rows, columns=(*names, "win_rate", "low", "high", "verdict"))

    def __repr__(self) -> str:
        first = next((pair for pair in self._pairs if not pair.identical), self._pairs[0])
        parts = [("Prompt", first.prompt), ("Reply 1", first.replies[0])]
        parts += [("Reply 2", first.replies[1])]
        lines = ["Which reply is better? The first of the pairs, and the votes so far:"]
        for name, text in parts:
            lines += ["", name, *("  " + line for line in shown(text).split("\n"))]
        return "\n".join([*lines, "", self.result().round(3).to_string(index=False)])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        first = next((pair for pair in self._pairs if not pair.identical), self._pairs[0])
        page = f"{pair_html(first)}{table_html(self.result())}"
        return bundle(self.widget, repr(self), f'<div style="{_PAGE}">{page}</div>')

    def _make_widgets(self) -> None:
        self._page = ipywidgets.HTML(layout=WIDE)
        self._status = ipywidgets.HTML(layout=WIDE)
        self._result = ipywidgets.HTML(layout=WIDE)
        labels = {"first": "1 · Reply 1 is better", "tie": "0 · Tie"}
        labels |= {"second": "2 · Reply 2 is better"}
        self._buttons = {
            choice: button(label, lambda _, choice=choice: self._act(self.vote, choice), "primary")
            for choice, label in labels.items()
        }
        self._undo = button("u · Undo", lambda _: self._act(self.undo))
        self._reveal = button("Show result", lambda _: self._toggle_result())
        self._keys = ipywidgets.Text(
            placeholder="Click here, then press 1, 2, 0 or u",
            layout={"width": "270px", "height": "38px", "margin": "4px"},
        )
        self._keys.observe(self._on_key, "value")
        wrapped = ipywidgets.Layout(flex_flow="row wrap", align_items="center", **WIDE)
        rows = [[*self._buttons.values()], [self._keys, self._undo, self._reveal]]
        bars = [ipywidgets.Box(row, layout=wrapped) for row in rows]
        parts = [self._page, *bars, self._status, self._result]
        self.widget = ipywidgets.VBox(parts, layout={"max_width": "1200px", **WIDE})

    def _on_key(self, change: dict[str, Any]) -> None:
        # The page may send '12' where 2 followed on a 1 that has been dealt with.
        key = change["new"][-1:].lower()
        if not key:
            return
        self._keys.value = ""
        if key in KEYS:
            self._act(self.vote, KEYS[key])
        elif key == "u":
            self._act(self.undo)

    def _act(self, action: Any, *args: str) -> None:
        """Do what a click or a key asks for; what goes wrong has to be read in the widget."""
        now = time.monotonic()
        slip, self._acted_at = now - self._acted_at < PAUSE_S, now
        if hasattr(self._keys, "focus"):  # from ipywidgets 8 on
            self._keys.focus()
        if slip:
            return
        try:
            action(*args)
        except (OSError, ValueError) as error:
            self._say(f"Not saved: {error}")

    def _toggle_result(self) -> None:
        hidden = self._reveal.description == "Show result"
        self._reveal.description = "Hide result" if hidden else "Show result"
        self._refresh()

    def _next(self, cast: Mapping[str, Any]) -> Pair | None:
        waiting = (pair for pair in self._pairs if pair.key not in cast and not pair.identical)
        return next(waiting, None)

    def _refresh(self) -> None:
        """Show the pair that waits for a vote."""
        cast = self._log.read()
        votable = [pair for pair in self._pairs if not pair.identical]
        done, pair = sum(pair.key in cast for pair in votable), self._next(cast)
        bar = (
            f'<progress value="{done}" max="{max(len(votable), 1)}" style="width:160px"></progress>'
        )
        head = f"Which reply is better? &nbsp; {bar} &nbsp; {done} of {len(votable)} voted"
        page = pair_html(pair) if pair else "<p>Every pair has its vote. Thank you!</p>"
        self._page.value = f'<div style="{_PAGE}"><div>{head}</div>{page}</div>'
        for control in (*self._buttons.values(), self._keys):
            control.disabled = pair is None
        self._undo.disabled = not done
        notes = [f"{done} saved in {self._log.path.name}"] if done else []
        strangers = len(cast.keys() - {pair.key for pair in self._pairs})
        notes += [f"not counted, as it is on other replies: {strangers}"] * bool(strangers)
        notes += [f"left out, as the line was cut off: {self._log.torn}"] * bool(self._log.torn)
        self._say("; ".join(notes))
        over = pair is None or self._reveal.description == "Hide result"
        self._result.value = table_html(self.result()) if over else ""
        self._shown, self._shown_at = pair, time.monotonic()

    def _say(self, text: str) -> None:
        self._status.value = f'<span style="opacity:0.75">{html.escape(shown(text))}</span>'
