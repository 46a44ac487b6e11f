"""Which texts say the same: exact, nearly, or in one long run of words that both share.

Near means a Jaccard similarity of word 3-grams. MinHash bands propose pairs (Broder 1997) and the
similarity of each is then counted, so there are no false alarms; a pair can be missed, which bands
of BANDS x r hashes make rare. In a band a text is compared with few others of its bucket, not all:
work stays proportional to the texts even where thousands follow one template. Texts are reduced to
32-bit hashes chunk by chunk, which is what keeps a million rows inside a laptop.

Why not a library: rensa 0.5 finds the same planted copies in half the time, but its index takes 268
MB instead of 72 at 100,000 rows and 4.2 GB instead of 0.35 at a million (see
data/results/bench/curation_libraries.json), and it answers with whole buckets, 2.2 million pairs of
6,000 rows of one template instead of 22,000. It would replace no more than the bands, 45 of these
lines: the n-grams and the counted similarity are needed with it too, and elsewhere in this package.

Source: Broder 1997, On the resemblance and containment of documents; the hashes are a*h + b modulo
2^32 with odd a, as in datasketch 2.0. Left out: meaning. A paraphrase is no duplicate here.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

WORD = re.compile(r"\w+|[^\w\s]")
SHINGLE = 3  # words
BANDS = 32
RECALL = 0.995  # of pairs exactly at the threshold that share a band, at least
CHUNK = 20_000  # texts hashed at once
NEIGHBOURS = 3  # texts before it in its bucket that a text is compared with, besides the first
LOW = np.uint64(0xFFFFFFFF)
VOCABULARY = 200_000  # words whose hash is remembered


def words_of(text: str) -> list[str]:
    """Lower-case words and marks: what all comparisons here are about.

    >>> words_of("Add 12+30, please!")
    ['add', '12', '+', '30', ',', 'please', '!']
    """
    return WORD.findall(text.lower())


@dataclass(frozen=True)
class Grams:
    """The distinct n-grams of each text, as sorted 32-bit hashes, one text after the other."""

    hashes: np.ndarray  # (all,) uint32
    starts: np.ndarray  # (texts + 1,) int64
    counted: np.ndarray  # (texts,) n-grams of each, repetitions included

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, text: int) -> np.ndarray:
        return self.hashes[self.starts[text] : self.starts[text + 1]]

    def take(self, texts: np.ndarray) -> Grams:
        """The grams of some of the texts, in the order given."""
        starts = np.concatenate([[0], np.cumsum(np.diff(self.starts)[texts])]).astype(np.int64)
        hashes = np.empty(starts[-1], dtype=np.uint32)
        for i in range(0, len(texts), CHUNK):  # places take four times what they point at
            some = texts[i : i + CHUNK]
            hashes[starts[i] : starts[i + len(some)]] = self.hashes[_places(self, some)]
        return Grams(hashes, starts, self.counted[texts])


class _Hashes(dict):
    """word -> 32-bit hash that is the same in every process, remembered for common words."""

    def __missing__(self, word: str) -> int:
        if len(self) >= VOCABULARY:
            self.clear()
        self[word] = crc = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        return crc


def hashed_words(
    texts: Iterable[str], word: re.Pattern = WORD
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(hashes of all words, where each text starts among them), CHUNK texts at a time."""
    known, waiting = _Hashes(), iter(texts)
    while some := list(itertools.islice(waiting, CHUNK)):
        flat: list[int] = []
        starts = [0]
        for text in some:
            flat += map(known.__getitem__, word.findall(text.lower()))
            starts.append(len(flat))
        yield mixed(np.array(flat, dtype=np.uint64)), np.array(starts)


def mixed(values: np.ndarray) -> np.ndarray:
    """MurmurHash3's 64-bit finaliser: nearby numbers become unrelated ones."""
    with np.errstate(over="ignore"):
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
        return values ^ (values >> np.uint64(33))


def gram_hashes(words: np.ndarray, starts: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The n-grams of a chunk: (hash, text) of each; a text shorter than n is one gram itself."""
    sizes = np.diff(starts)
    factors = mixed(np.arange(1, n + 1, dtype=np.uint64)) | np.uint64(1)
    padded = np.concatenate([words, np.zeros(n, dtype=np.uint64)])
    text = np.repeat(np.arange(len(sizes)), sizes)
    left = starts[text + 1] - np.arange(len(words))  # words from here to the text's end
    hashes = np.zeros(len(words), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for step in range(n):
            inside = left > step
            hashes += np.where(inside, padded[step : step + len(words)] * factors[step], 0)
    first = np.arange(len(words)) == starts[text]
    whole = (left >= n) | first
    return (mixed(hashes[whole]) >> np.uint64(32)).astype(np.uint32), text[whole]


def grams(texts: Iterable[str], n: int = SHINGLE) -> Grams:
    """The distinct n-grams of each text."""
    pieces, sizes, counted = [np.zeros(0, dtype=np.uint32)], [np.zeros(1, dtype=int)], []
    for words, starts in hashed_words(texts):
        hashes, text = gram_hashes(words, starts, n)
        distinct = np.unique((text.astype(np.uint64) << np.uint64(32)) | hashes)
        pieces.append((distinct & LOW).astype(np.uint32))
        of = (distinct >> np.uint64(32)).astype(int)
        sizes.append(np.bincount(of, minlength=len(starts) - 1))
        counted.append(np.bincount(text, minlength=len(starts) - 1).astype(np.int32))
    starts = np.cumsum(np.concatenate(sizes))
    return Grams(np.concatenate(pieces), starts, np.concatenate([*counted, np.zeros(0, int)]))


def exact_duplicates(texts: Iterable[str]) -> np.ndarray:
    """For each text the first one with the same words, itself where it is the first."""
    digests = np.fromiter((_digest(text) for text in texts), dtype=np.uint64)
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    return first[inverse]


def _digest(text: str) -> int:
    from hashlib import blake2b

    same = " ".join(text.lower().split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(same, digest_size=8).digest(), "little")


def rows_a_band(near: float) -> int:
    """Hashes in a band: as many as leave a pair at the threshold RECALL to share one.

    >>> rows_a_band(0.8)  # 1 - (1 - 0.8**8)**32 = 0.997
    8
    """
    r = 1
    while r < 32 and 1 - (1 - near ** (r + 1)) ** BANDS >= RECALL:
        r += 1
    return r


def near_duplicates(grams: Grams, near: float, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Texts that are near an earlier text that stays: (text, that earlier one) of each.

    Texts are gone through in order, and one that is dropped makes no other one drop: each
    partner is kept.
    """
    left, right = _proposed(grams, near, seed)
    right, left = right[close := _similar(grams, left, right, near)], left[close]
    dropped = np.zeros(len(grams), dtype=bool)
    partner = np.full(len(grams), -1)
    for index in np.lexsort((left, right)):
        if not dropped[left[index]] and not dropped[right[index]]:
            dropped[right[index]], partner[right[index]] = True, left[index]
    texts = np.flatnonzero(dropped)
    return texts, partner[texts]


def _proposed(grams: Grams, near: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (earlier, later) that share a band and whose sizes allow the similarity."""
    texts = np.flatnonzero(np.diff(grams.starts))
    sizes, filled = np.diff(grams.starts)[texts], texts.astype(np.uint64)
    rng = np.random.default_rng(seed)
    odd = np.array([[1], [0]], dtype=np.uint32)  # the multiplier of a hash is made odd
    r, proposed = rows_a_band(near), np.zeros(0, dtype=np.uint64)
    for _ in range(BANDS):
        factors = rng.integers(0, 2**32, size=(2, r), dtype=np.uint32) | odd
        keys = _band_keys(grams, texts, factors)
        order = np.argsort(keys, kind="stable")
        keys, place = keys[order], np.arange(len(keys))
        opens = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else place == 0
        first = np.maximum.accumulate(np.where(opens, place, 0))
        others = [first, *(np.maximum(place - step, first) for step in range(1, NEIGHBOURS + 1))]
        pairs = []
        for other in others:
            apart = other < place
            a, b = order[other[apart]], order[place[apart]]
            fits = np.minimum(sizes[a], sizes[b]) >= near * np.maximum(sizes[a], sizes[b])
            pairs.append((filled[a[fits]] << np.uint64(32)) | filled[b[fits]])
        proposed = np.unique(np.concatenate([proposed, *pairs]))
    return (proposed >> np.uint64(32)).astype(int), (proposed & LOW).astype(int)


def _band_keys(grams: Grams, texts: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """One number a text from the r least hashes of its grams."""
    keys = np.zeros(len(texts), dtype=np.uint64)
    a, b = factors
    with np.errstate(over="ignore"):
        for first in range(0, len(texts), CHUNK):
            some = texts[first : first + CHUNK]
            start, end = grams.starts[some[0]], grams.starts[some[-1] + 1]
            hashes, places = grams.hashes[start:end], grams.starts[some] - start
            for k in range(len(a)):
                least = np.minimum.reduceat(hashes * a[k] + b[k], places).astype(np.uint64)
                part = keys[first : first + CHUNK]
                keys[first : first + CHUNK] = mixed(part ^ (least + np.uint64(k << 32)))
    return keys


def _similar(grams: Grams, left: np.ndarray, right: np.ndarray, near: float) -> np.ndarray:
    """Whether the Jaccard similarity of each pair is at least `near`."""
    close = np.zeros(len(left), dtype=bool)
    sizes = np.diff(grams.starts)
    for first in range(0, len(left), CHUNK):
        a, b = left[first : first + CHUNK], right[first : first + CHUNK]
        pair = np.arange(len(a), dtype=np.uint64) << np.uint64(32)
        both = [
            np.repeat(pair, sizes[side]) | grams.hashes[_places(grams, side)] for side in (a, b)
        ]
        merged = np.sort(np.concatenate(both))
        twice = merged[1:][merged[1:] == merged[:-1]] >> np.uint64(32)
        shared = np.bincount(twice.astype(int), minlength=len(a))
        # A rounding error of the threshold must not decide: 4 of 5 is near at 0.8.
        close[first : first + CHUNK] = shared >= near * (sizes[a] + sizes[b] - shared) - 1e-9
    return close


def _places(grams: Grams, texts: np.ndarray) -> np.ndarray:
    """The places in `hashes` of the grams of these texts, one text after the other."""
    sizes = grams.starts[texts + 1] - grams.starts[texts]
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(
        grams.starts[texts] - (ends - sizes), sizes
    )
