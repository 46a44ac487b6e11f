"""The token view: rows as the model sees them, with the tokens that are trained marked.

A part of `postlab.chat`. The HTML has to say the same wherever a notebook is shown. JupyterLab and
Colab show its colours, which carry their own background, so that a light and a dark page look
alike. GitHub takes style attributes out and leaves tags: there `mark` and `b` say trained, `i` says
special, and the blank between two tokens stands in the text itself. It is a `pre`, so that no page
takes a dollar sign for mathematics, and all text from rows and vocabulary is escaped.

Left out: what the tokens mean, and more than a few hundred of them a row.
"""

import html
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from postlab.chat.encoding import encode
from postlab.chat.rendering import special_ids

_MARKS = {" ": "\N{MIDDLE DOT}", "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", "\t": "\u2192"}
_INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}  # Unicode's general categories
_HEAD, _TAIL = 280, 120  # tokens shown of a long row
_CHARACTERS, _LINE = 40, 96  # shown of one token; in one line

_TRAINED = "background-color:#0072B2;color:#ffffff;padding:0 2px;border-radius:3px"
_SPECIAL = "outline:1px dotted #888888"
_PADDING = "opacity:0.5"
_PRE = "font-family:monospace;white-space:pre-wrap;line-height:1.6;margin:2px 0 12px 0"


@dataclass(frozen=True)
class Token:
    """One token as it is shown: text made visible, not escaped; padding comes as one token a run.

    Args:
        text: with spaces, line breaks and invisible characters spelled out.
        ids: its id, as many of them as a run of padding is long.
        trained: whether the loss falls on it.
        special: whether it stands for no text: a marker of the template, or padding.
        padding: whether it only fills the row.
    """

    text: str
    ids: tuple[int, ...]
    trained: bool
    special: bool
    padding: bool


@dataclass(frozen=True)
class TokenView:
    """What a notebook shows of some rows: HTML where it can, text with [trained] tokens elsewhere.

    Args:
        rows: the tokens of each row.
        left_out: rows that were not encoded.
        first: the number that the first row is called by.
    """

    rows: tuple[tuple[Token, ...], ...]
    left_out: int
    first: int = 0

    def __repr__(self) -> str:
        lines = ["[trained]  read only"]
        for place, row in enumerate(self.rows):
            lines += ["", self._count(place), *_lines(row, _as_text)]
        return "\n".join(lines + self._rest())

    def _repr_html_(self) -> str:
        key = f"{_as_html(Token('trained', (), True, False, False))} read only"
        parts = [f"<div>{key}</div>"]
        for place, row in enumerate(self.rows):
            text = "\n".join(_lines(row, _as_html))
            parts.append(f'<div>{self._count(place)}</div>\n<pre style="{_PRE}">{text}</pre>')
        return "\n".join(parts + [f"<div>{line}</div>" for line in self._rest()])

    def _count(self, place: int) -> str:
        row = self.rows[place]
        real = sum(not token.padding for token in row)
        trained = sum(token.trained for token in row)
        padding = sum(len(token.ids) for token in row if token.padding)
        name = f"row {self.first + place}"
        count = f"{name}: {trained} of {real} tokens are trained ({trained / real:.0%})"
        return count + (f", and {padding} of padding" if padding else "")

    def _rest(self) -> list[str]:
        several = "rows are" if self.left_out > 1 else "row is"
        return [f"{self.left_out} more {several} not shown"] if self.left_out else []


def token_view(
    rows: Sequence[dict],
    tokenizer: Any,
    *,
    max_length: int,
    limit: int = 4,
    loss_mask: Any = None,
) -> TokenView:
    """Show which tokens of instruction rows are trained and which are only read.

    Args:
        rows: dicts with `prompt` and `completion`, each a list of messages.
        tokenizer: a transformers tokenizer with a chat template.
        max_length: tokens kept a row, as in `encode`.
        limit: rows to show, from the first.
        loss_mask: (B, T) to show instead of encode's own, to look at another one.
    Returns:
        TokenView: the last value of a cell shows it. A space is a dot, a line break an arrow, ids
        appear under the mouse.
    Raises:
        ValueError: as `encode` does, or if loss_mask has another shape than the rows' ids.
    Taught in week 1.

    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> words = Tokenizer(models.WordLevel({"2+3": 0, "5": 1, "end": 2, "pad": 3}))
    >>> words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="end",
    ...                                     pad_token="pad")
    >>> tokenizer.chat_template = "{% for m in messages %}{{ m.content + ' end ' }}{% endfor %}"
    >>> row = {"prompt": [{"role": "user", "content": "2+3"}],
    ...        "completion": [{"role": "assistant", "content": "5"}]}
    >>> token_view([row], tokenizer, max_length=8)
    [trained]  read only
    <BLANKLINE>
    row 0: 2 of 4 tokens are trained (50%)
    2+3 end [5] [end]
    """
    if limit < 1:
        raise ValueError(f"limit must be a positive number of rows, got {limit}")
    batch = encode(rows[:limit], tokenizer, max_length=max_length)
    ids, real = batch["input_ids"].tolist(), batch["attention_mask"].sum(1).tolist()
    mask = batch["loss_mask"].tolist()
    if loss_mask is not None:
        mask = loss_mask.tolist() if hasattr(loss_mask, "tolist") else loss_mask
        mask = [list(row) for row in mask][:limit]
        if [len(row) for row in mask] != [len(row) for row in ids]:
            shape = (len(ids), len(ids[0]))
            raise ValueError(
                f"loss_mask must have the shape of the rows' ids, {shape}, got rows of "
                f"{sorted({len(row) for row in mask})} tokens ({len(mask)} of them)"
            )
    names = _Names(tokenizer, special_ids(tokenizer))
    shown = [_row(*row, names) for row in zip(ids, mask, real, strict=True)]
    return TokenView(tuple(shown), max(0, len(rows) - limit))


class _Names:
    """Visible text of a token id, each worked out once."""

    def __init__(self, tokenizer: Any, special: set[int]) -> None:
        self.tokenizer, self.special = tokenizer, special
        self.known: dict[int, str] = {}

    def __getitem__(self, token_id: int) -> str:
        if token_id not in self.known:
            self.known[token_id] = visible(_text(self.tokenizer, token_id))
        return self.known[token_id]


def _row(ids: list[int], mask: list[int], real: int, names: _Names) -> tuple[Token, ...]:
    tokens = [
        Token(names[i], (i,), bool(m), i in names.special, False)
        for i, m in zip(ids[:real], mask, strict=False)
    ]
    for token_id, run in groupby(ids[real:]):
        padding = tuple(run)
        times = f"\N{MULTIPLICATION SIGN}{len(padding)}" if len(padding) > 1 else ""
        tokens.append(Token(names[token_id] + times, padding, False, True, True))
    return tuple(tokens)


def _text(tokenizer: Any, token_id: int) -> str:
    """The text of one token: decoded, or as the vocabulary spells it where it is part of one."""
    piece = tokenizer.convert_ids_to_tokens(token_id)
    if piece is None:
        return f"no token {token_id}"
    if piece.startswith("\u2581"):  # SentencePiece's blank, which decoding would strip
        return piece.replace("\u2581", " ")
    text = tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
    return piece if not text or "\N{REPLACEMENT CHARACTER}" in text else text


def visible(text: str) -> str:
    """Text with nothing hidden in it: blanks as marks, control, bidi and zero-width ones by number.

    >>> visible("a b")
    'a·b'
    >>> visible(chr(27) + "[31m" + chr(0x202E))
    '‹1B›[31m‹202E›'
    """
    shown = "".join(map(_visible, text[:_CHARACTERS]))
    if len(text) > _CHARACTERS:
        shown += f"\N{HORIZONTAL ELLIPSIS}(+{len(text) - _CHARACTERS:,} characters)"
    # A combining mark at the start would sit on the token before.
    return "\u25cc" + shown if shown and unicodedata.combining(shown[0]) else shown


def _visible(character: str) -> str:
    if character in _MARKS:
        return _MARKS[character]
    if unicodedata.category(character) in _INVISIBLE:
        return f"\u2039{ord(character):02X}\u203a"
    return character


def _lines(row: Sequence[Token], write: Any) -> list[str]:
    """Tokens written one beside the other: a new line after a line break, or when one is full."""
    parts: list[tuple[str, int, bool]] = []
    for place, token in enumerate(row):
        if place == _HEAD and len(row) > _HEAD + _TAIL:
            hidden = row[_HEAD:-_TAIL]
            trained = sum(token.trained for token in hidden)
            text = f"\N{HORIZONTAL ELLIPSIS} {len(hidden)} tokens, {trained} of them trained"
            parts.append((f"{text} \N{HORIZONTAL ELLIPSIS}", _LINE, True))
        if place < _HEAD or place >= len(row) - _TAIL or len(row) <= _HEAD + _TAIL:
            ends = not token.special and token.text.endswith(_MARKS["\n"])
            visible_text = _as_text(token) if write is _as_text else token.text
            parts.append((write(token), len(visible_text), ends))
    lines: list[list[str]] = [[]]
    width = 0
    for text, length, ends in parts:
        if lines[-1] and width + 1 + length > _LINE:
            lines.append([])
            width = 0
        lines[-1].append(text)
        width += 1 + length
        if ends:
            lines.append([])
            width = 0
    return [" ".join(line) for line in lines if line]


def _as_text(token: Token) -> str:
    return f"[{token.text}]" if token.trained else token.text


def _as_html(token: Token) -> str:
    text = html.escape(token.text)
    if any(unicodedata.bidirectional(c) in ("R", "AL") for c in token.text):
        text = f'<bdo dir="ltr">{text}</bdo>'  # else it would reorder its neighbours
    if token.special:
        text = f'<i style="{_SPECIAL}">{text}</i>'
    style = _PADDING if token.padding else _TRAINED if token.trained else ""
    title = html.escape(f"id {token.ids[0]}") if token.ids else ""
    attributes = (f' title="{title}"' if title else "") + (f' style="{style}"' if style else "")
    if token.trained:
        return f"<b><mark{attributes}>{text}</mark></b>"
    return f"<span{attributes}>{text}</span>"
