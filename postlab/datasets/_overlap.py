"""Which training texts hold a held-out prompt: by runs of words that both have.

Hashes of runs find suspects among many texts; what they share is then counted on the words
themselves. Left out: translations, paraphrases and renamed numbers, which no n-gram sees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from postlab.datasets import _near

WORD = re.compile(r"\w+")
COVERED = 0.5  # of a held-out prompt's words, in runs that one text shares, to be its copy


def pairs(
    texts: Callable[[], Iterable[str]], heldout: Sequence[str], n: int
) -> list[tuple[int, int, float]]:
    """(text, held-out one, share of its words that are covered) of each pair above COVERED.

    Args:
        texts: gives the texts, one after the other, each time it is called: they are gone through
            twice, and a million of them need not be held.
    """
    heldout_words = [words_of(text) for text in heldout]
    runs: dict[int, dict[tuple[str, ...], set[int]]] = {}  # length -> run -> held-out texts
    for index, words in enumerate(heldout_words):
        length = min(n, len(words))
        for run in windows(words, length):
            runs.setdefault(length, {}).setdefault(run, set()).add(index)
    matches = []
    suspects = set(_suspects(texts(), heldout, runs))
    for index, text in enumerate(texts()) if suspects else ():
        if index not in suspects:
            continue
        words = words_of(text)
        has = {length: set(windows(words, length)) for length in runs}
        partners = {p for length in runs for run in has[length] for p in runs[length].get(run, ())}
        for partner in sorted(partners):
            words = heldout_words[partner]
            share = covered(words, has[min(n, len(words))], n)
            if share > COVERED:
                matches.append((index, partner, share))
    return matches


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


def _suspects(texts: Iterable[str], heldout: Sequence[str], runs: dict[int, dict]) -> Iterator[int]:
    """Texts with a run whose hash is a held-out one's, in order."""
    heldout_hashes = {
        length: np.unique(np.concatenate([hashes for hashes, _ in _hashes(heldout, length)]))
        for length in runs
    }
    if not heldout_hashes:
        return
    first = 0
    for words, starts in _near.hashed_words(texts, WORD):
        suspect = np.zeros(len(starts) - 1, dtype=bool)
        for length, known in heldout_hashes.items():
            hashes, text = _near.gram_hashes(words, starts, length)
            suspect[text[np.isin(hashes, known)]] = True
        yield from (first + np.flatnonzero(suspect)).tolist()
        first += len(suspect)


def _hashes(texts: Sequence[str], length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for words, starts in _near.hashed_words(texts, WORD):
        yield _near.gram_hashes(words, starts, length)
