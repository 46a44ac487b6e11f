"""Which training texts hold a held-out prompt: by runs of words that both have.

Hashes of runs find suspects among many texts; what they share is then counted on the words
themselves. Left out: translations, paraphrases and renamed numbers, which no n-gram sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from postlab.datasets import _near

WORD = re.compile(r"\w+")
COVERED = 0.5  # of a held-out prompt's words, in runs that one text shares, to be its copy


def pairs(texts: Sequence[str], heldout: Sequence[str], n: int) -> list[tuple[int, int, float]]:
    """(text, held-out one, share of its words that are covered) of each pair above COVERED."""
    asked = [words_of(text) for text in heldout]
    runs: dict[int, dict[tuple[str, ...], set[int]]] = {}  # length -> run -> held-out texts
    for index, words in enumerate(asked):
        length = min(n, len(words))
        for run in windows(words, length):
            runs.setdefault(length, {}).setdefault(run, set()).add(index)
    found = []
    for text in _suspects(texts, heldout, runs):
        words = words_of(texts[text])
        has = {length: set(windows(words, length)) for length in runs}
        partners = {p for length in runs for run in has[length] for p in runs[length].get(run, ())}
        for partner in sorted(partners):
            share = covered(asked[partner], has[min(n, len(asked[partner]))], n)
            if share > COVERED:
                found.append((text, partner, share))
    return found


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers, without marks.

    >>> words_of("Add 12+30, please!")
    ['add', '12', '30', 'please']
    """
    return WORD.findall(text.lower())


def windows(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    """Every run of `length` words; none of no words."""
    if not length:
        return []
    return [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]


def covered(words: Sequence[str], has: set[tuple[str, ...]], n: int) -> float:
    """The share of words that lie in a run of n (of all, if they are fewer) found in `has`.

    >>> covered("a b c d".split(), {("b", "c")}, 2)
    0.5
    """
    length = min(n, len(words))
    places: set[int] = set()
    for start, run in enumerate(windows(words, length)):
        if run in has:
            places.update(range(start, start + length))
    return len(places) / max(1, len(words))


def _suspects(texts: Sequence[str], heldout: Sequence[str], runs: dict[int, dict]) -> Iterator[int]:
    """Texts with a run whose hash is a held-out one's, in order."""
    wanted = {
        length: np.unique(np.concatenate([found for found, _ in _hashes(heldout, length)]))
        for length in runs
    }
    if not wanted:
        return
    first = 0
    for words, starts in _near.hashed_words(texts, WORD):
        suspect = np.zeros(len(starts) - 1, dtype=bool)
        for length, hashes in wanted.items():
            found, text = _near.gram_hashes(words, starts, length)
            suspect[text[np.isin(found, hashes)]] = True
        yield from (first + np.flatnonzero(suspect)).tolist()
        first += len(suspect)


def _hashes(texts: Sequence[str], length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for words, starts in _near.hashed_words(texts, WORD):
        yield _near.gram_hashes(words, starts, length)
