"""What goes wrong in the loss mask: each mistake as a function that makes it."""

from __future__ import annotations

from collections.abc import Callable

from postlab.course.check._parts import Mistake


def _masked(spans: Callable[[list[int], list[int], int], list[tuple[int, int]]]) -> Callable:
    """A mask of 1 on the spans [start, stop) that a rule finds."""

    def mask(input_ids: list[int], *, header: list[int], end_of_turn: int) -> list[int]:
        found = spans(input_ids, header, end_of_turn)
        return [int(any(a <= t < b for a, b in found)) for t in range(len(input_ids))]

    return mask


def _replies(ids: list[int], header: list[int], end: int) -> list[tuple[int, int]]:
    """Of each reply, where it starts and the place behind its end of turn."""
    starts = [t + len(header) for t in range(len(ids)) if ids[t : t + len(header)] == header]
    return [(s, ids.index(end, s) + 1 if end in ids[s:] else len(ids)) for s in starts]


def _after_token(index: int, *, whole: bool = False) -> Callable:
    """Spans that start after header[index], or where the header would end if it stood there."""

    def spans(ids: list[int], header: list[int], end: int) -> list[tuple[int, int]]:
        skip = len(header) - 1 - index % len(header) if whole else 0
        return [(a + skip, b) for a, b in _replies(ids, [header[index]], end)]

    return spans


_right_mask = _masked(_replies)


def _moved(first: int, last: int) -> Callable:
    return _masked(lambda *given: [(a + first, b + last) for a, b in _replies(*given)])


LOSS_MASK = (
    Mistake(
        "end_of_turn_not_trained",
        "the end-of-turn token of the replies is left out: such a model never learns to stop",
        _moved(0, -1),
    ),
    Mistake(
        "header_trained",
        "the header is trained too: it is the template that writes it, not the model",
        _masked(lambda ids, h, e: [(a - len(h), b) for a, b in _replies(ids, h, e)]),
    ),
    Mistake(
        "turn_not_reply",
        "both ends are off: the header is trained, and the end-of-turn token is not",
        _masked(lambda ids, h, e: [(a - len(h), b - 1) for a, b in _replies(ids, h, e)]),
    ),
    Mistake(
        "first_reply_only",
        "only the first assistant turn is trained: go on looking after it",
        _masked(lambda *given: _replies(*given)[:1]),
    ),
    Mistake(
        "last_reply_only",
        "only the last assistant turn is trained, or each turn overwrites the ones before",
        _masked(lambda *given: _replies(*given)[-1:]),
    ),
    Mistake(
        "questions_trained",
        "everything after the first header is trained, the user's next question included",
        _masked(lambda *given: [(_replies(*given)[0][0], len(given[0]))]),
    ),
    Mistake(
        "inverted",
        "0 and 1 have changed places: 1 is for what is trained",
        lambda ids, **given: [1 - m for m in _right_mask(ids, **given)],
    ),
    Mistake(
        "starts_late",
        "it starts one token late, so that the first token of a reply is not trained",
        _moved(1, 0),
    ),
    Mistake(
        "starts_early",
        "it starts one token early, on the last token of the header",
        _moved(-1, 0),
    ),
    Mistake(
        "ends_late",
        "it ends one token late, on what the template writes behind the end of turn",
        _moved(0, 1),
    ),
    Mistake(
        "every_end_of_turn",
        "the end of turn of the user's questions is trained as well",
        lambda ids, *, header, end_of_turn: [
            int(m or token == end_of_turn)
            for m, token in zip(
                _right_mask(ids, header=header, end_of_turn=end_of_turn), ids, strict=True
            )
        ],
    ),
    Mistake(
        "any_turn",
        "you look for the header's first token only: it opens the user's turns too",
        _masked(_after_token(0)),
        _masked(_after_token(0, whole=True)),
    ),
    Mistake(
        "part_of_header",
        "you look for a single token of the header, which may stand in a question too: compare the "
        "whole header",
        *(_masked(_after_token(index)) for index in (1, -2, -1)),
        *(_masked(_after_token(index, whole=True)) for index in (1, -2)),
    ),
    Mistake(
        "token_by_token",
        "you look at each token by itself: whether it is trained depends on whose turn it is in",
        lambda ids, *, header, end_of_turn: [int(i not in [*header, end_of_turn]) for i in ids],
        lambda ids, *, header, end_of_turn: [int(i not in header) for i in ids],
        lambda ids, *, header, end_of_turn: [int(i == end_of_turn) for i in ids],
    ),
    Mistake(
        "everything",
        "everything is trained: the header is never looked for",
        _masked(lambda ids, h, e: [(0, len(ids))]),
    ),
    Mistake(
        "nothing",
        "nothing is trained: does the comparison with the header ever hold? A list never "
        "equals a tensor, a tuple or a single token",
        _masked(lambda *given: []),
    ),
    Mistake(
        "token_ids",
        "you return the trained ids themselves, as labels with -100 elsewhere: 1 and 0 are wanted",
        lambda ids, **given: [
            i if m else -100 for i, m in zip(ids, _right_mask(ids, **given), strict=True)
        ],
    ),
)
