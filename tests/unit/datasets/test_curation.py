"""Curation finds what was planted, nothing else, and reaches the mix it was asked for."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from modules import module_at

from postlab.datasets import (
    TARGET_MIX,
    curate,
    domain_of,
    instruction_rows,
    mix,
    overlap,
)
from postlab.datasets import _measures as measures
from postlab.datasets import _near as near
from postlab.tinyworld import tasks

ROOT = Path(__file__).resolve().parents[3]


def row(asked: str, reply: str, **fields) -> dict:
    prompt = [{"role": "user", "content": asked}]
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": reply}], **fields}


def sentence(rng: random.Random, words: int) -> list[str]:
    return [f"w{rng.randrange(3000)}" for _ in range(words)]


def trigrams(text: str) -> set[tuple[str, ...]]:
    words = near.words_of(text)
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def jaccard(a: str, b: str) -> float:
    one, other = trigrams(a), trigrams(b)
    return len(one & other) / len(one | other)


# --- duplicates -----------------------------------------------------------------------------------


def test_each_reason_finds_the_row_planted_for_it():
    long = "one two three four five six seven eight nine ten eleven twelve."
    rows = [
        row("Name a colour.", "Blue."),
        row("name  a COLOUR.", "blue."),  # 1: the same words
        row("Count.", long),
        row("Count.", long.replace("twelve", "dozen")),  # 3: 10 of 14 trigrams, near at 0.7
        row("Empty?", "  "),  # 4
        row("Turn?", "Yes.<|im_end|>"),  # 5
        row("Code?", "```python\nprint(1)"),  # 6
        row("What is 1+1?", "3"),  # 7: wrong
        row("Please tell me where the big blue whale lives", "At sea."),  # 8: held out
        row("What is 2+2?", "4"),
    ]
    heldout = [{"prompt": [{"role": "user", "content": "Where the big blue whale lives?"}]}]
    right = {"What is 1+1?": "2", "What is 2+2?": "4"}

    def score(each: dict) -> bool | None:
        wanted = right.get(each["prompt"][0]["content"])
        return None if wanted is None else each["completion"][0]["content"] == wanted

    found = curate(rows, heldout=heldout, score=score, near=0.7)
    assert found.dropped == {
        "malformed": 2,
        "truncated": 1,
        "wrong": 1,
        "contaminated": 1,
        "duplicate": 1,
        "near duplicate": 1,
    }
    assert list(found.kept) == [rows[0], rows[2], rows[9]]
    assert found.kept.dropped == found.dropped
    where = list(found.pairs[["reason", "row", "partner"]].itertuples(index=False, name=None))
    assert where == [("contaminated", 8, 0), ("duplicate", 1, 0), ("near duplicate", 3, 2)]
    assert found.pairs["partner_text"][0] == "Where the big blue whale lives?"
    right_share = found.table.set_index("measure").loc["right of those judged, share"]
    assert (right_share["before"], right_share["after"]) == (0.5, 1.0)


@pytest.mark.parametrize(("threshold", "dropped"), [(0.8, 1), (0.81, 0)])
def test_the_threshold_itself_is_near(threshold: float, dropped: int):
    # Eleven words have nine trigrams; with another last word eight are shared, of ten: 0.8.
    words = list("abcdefghij")
    rows = [row("a b", " ".join([*words[2:], last])) for last in ("x", "y")]
    assert jaccard(measures.row_text(rows[0]), measures.row_text(rows[1])) == 0.8
    assert curate(rows, near=threshold).dropped["near duplicate"] == dropped


def test_a_row_counts_once_for_the_first_reason_that_fits():
    held = [row("Name a colour.", "")]
    rows = [row("Name a colour.", "<|im_end|>"), row("Name a colour.", "Blew.")]
    found = curate(
        [*rows, row("Name a colour.", "Blue.")], heldout=held, score=lambda r: r is rows[0]
    )
    assert found.dropped["malformed"] == 1 and found.dropped["wrong"] == 2
    assert sum(found.dropped.values()) == 3 and found.pairs.empty and not found.kept


def test_a_copy_of_a_wrong_or_near_row_is_not_lost_with_it():
    rows = [row("Sum?", "wrong"), row("sum?", "Wrong"), row("Sum?", "right")]
    only_first = curate(rows, score=lambda each: each is not rows[0])
    assert list(only_first.kept) == rows[1:]
    # A ~ B ~ C, but not A ~ C: B goes, and C then has no near row left.
    a = " ".join(f"w{i}" for i in range(40))
    b, c = a.replace("w0 ", "x0 "), a.replace("w0 ", "x0 ").replace(" w39", " x39")
    rows = [row(text, "ok") for text in (a, b, c)]
    threshold = jaccard(a + " ok", b + " ok")
    assert jaccard(a + " ok", c + " ok") < threshold
    assert list(curate(rows, near=threshold).kept) == [rows[0], rows[2]]


def planted(seed: int, n: int = 3000) -> list[str]:
    """Texts of which a half repeats an earlier one, with none to all of the words changed."""
    rng, texts = random.Random(seed), []
    for index in range(n):
        words = sentence(rng, rng.randint(12, 40))
        if index > 50 and rng.random() < 0.5:
            words = rng.choice(texts).split()
            for _ in range(rng.choice((0, 1, 1, 2, 4))):
                words[rng.randrange(len(words))] = f"w{rng.randrange(3000)}"
        texts.append(" ".join(words))
    return texts


def brute_force(texts: list[str], threshold: float) -> list[tuple[int, int]]:
    """Every pair (earlier, later) that is near, found through the words both share."""
    grams, holders, found = [trigrams(text) for text in texts], {}, []
    for index, mine in enumerate(grams):
        shared = Counter(other for gram in mine for other in holders.get(gram, ()))
        for other, count in shared.items():
            if count >= threshold * (len(mine) + len(grams[other]) - count) - 1e-9:
                found.append((other, index))
        for gram in mine:
            holders.setdefault(gram, []).append(index)
    return found


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.95])
def test_recall_and_false_alarms_against_brute_force(threshold: float):
    texts = planted(seed=1)
    truth = brute_force(texts, threshold)
    assert len(truth) > 300
    rows, partners = near.near_duplicates(near.grams(texts), threshold)
    # No false alarm, ever: each pair reported is near, and its partner is kept.
    assert set(zip(partners, rows, strict=True)) <= set(truth)
    assert not set(rows) & set(partners)
    # Of the pairs that are near, few are left with both of their texts among the kept.
    gone = set(rows.tolist())
    missed = [pair for pair in truth if not gone & set(pair)]
    assert len(missed) <= 0.005 * len(truth)


def test_neighbours_in_a_bucket_find_what_its_first_text_hides(monkeypatch):
    """Templates fill buckets whose first text is near to few of the others."""
    rows = instruction_rows("tinyworld", split="train", n=2500)
    texts = list(dict.fromkeys(" ".join(near.words_of(measures.row_text(each))) for each in rows))
    truth, missed = brute_force(texts, 0.5), {}
    for count in (0, near.NEIGHBOURS):
        monkeypatch.setattr(near, "NEIGHBOURS", count)
        gone = set(near.near_duplicates(near.grams(texts), 0.5)[0].tolist())
        missed[count] = sum(not gone & set(pair) for pair in truth)
    assert missed[near.NEIGHBOURS] < missed[0] and missed[near.NEIGHBOURS] < 0.005 * len(truth)


def test_hashed_similarity_is_the_counted_one():
    texts = planted(seed=2, n=400)
    found = near.grams(texts)
    rng = np.random.default_rng(0)
    for a, b in rng.integers(0, len(texts), size=(300, 2)):
        one, other = set(found.of(a).tolist()), set(found.of(b).tolist())
        assert len(one & other) / len(one | other) == jaccard(texts[a], texts[b])


def test_grams_by_hand():
    found = near.grams(["", "a", "a b", "a b c", "c b a", "A b, C!", "a b c a b c"])
    sizes = np.diff(found.starts).tolist()
    assert sizes == [0, 1, 1, 1, 1, 3, 3]  # a short text is one gram; abc, bca, cab
    assert found.counted.tolist() == [0, 1, 1, 1, 1, 3, 4]
    firsts = [found.of(i)[0] for i in range(1, 5)]
    assert len(set(firsts)) == 4  # the order of words counts
    assert firsts[2] in found.of(6) and firsts[2] not in found.of(5)
    assert found.take(np.array([3, 0, 6])).of(2).tolist() == found.of(6).tolist()


def test_many_rows_of_one_template_cost_no_more_than_others():
    # A quadratic search would compare 18 million pairs here; the time limit is the test's.
    texts = [f"please write a short and friendly note to {i} about it" for i in range(6000)]
    left, _ = near._proposed(near.grams(texts), 0.8, 0)
    assert len(left) <= (near.NEIGHBOURS + 1) * near.BANDS * len(texts)


def test_chunks_do_not_change_what_is_found(monkeypatch):
    texts = ["", *planted(seed=3, n=500), ""]
    whole = near.grams(texts)
    found = near.near_duplicates(whole, 0.8)
    monkeypatch.setattr(near, "CHUNK", 37)
    parts = near.grams(texts)
    assert np.array_equal(parts.hashes, whole.hashes)
    assert np.array_equal(parts.starts, whole.starts)
    assert all(map(np.array_equal, near.near_duplicates(parts, 0.8), found))


def test_bands_are_as_strict_as_the_wanted_recall_allows():
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9):
        r = near.rows_a_band(threshold)
        caught = 1 - (1 - threshold**r) ** near.BANDS
        assert caught >= near.RECALL or r == 1
        assert 1 - (1 - threshold ** (r + 1)) ** near.BANDS < near.RECALL


# --- contamination --------------------------------------------------------------------------------


def test_overlap_shows_the_pairs_and_ignores_templates():
    test = "A farmer has 17 sheep and buys 5 more at the market; how many sheep are there now?"
    heldout = [row(test, ""), row("What is 12+30+15?", ""), row("", "")]
    train = [
        row("Solve: " + test, "22"),  # 0: all of it
        row("Talk", f"I read: {test[:56]} and so on."),  # 1: more than half of it, in the reply
        row("A farmer has 17 sheep and buys 5 apples.", "Good."),  # 2: 8 of 18 words
        row("What is 12+31+15?", "58"),  # 3: another sum
        row("Say what is 12 + 30 + 15 now", "57"),  # 4: a short prompt, whole
    ]
    found = overlap(train, heldout)
    assert list(zip(found["row"], found["partner"], strict=True)) == [(0, 0), (1, 0), (4, 1)]
    assert found["share"].tolist() == pytest.approx([1, 13 / 18, 1])
    assert found["text"][2] == "Say what is 12 + 30 + 15 now\n57"
    assert overlap(train, []).empty


def test_overlap_is_what_comparing_every_pair_finds():
    rng = random.Random(0)
    heldout = [row(" ".join(sentence(rng, rng.randint(3, 25))), "") for _ in range(60)]
    train = [row(" ".join(sentence(rng, 30)), "ok") for _ in range(400)]
    for index in range(0, 400, 2):
        words = measures.asked_text(rng.choice(heldout)).split()
        first = rng.randrange(len(words))
        cut = words[first : first + rng.randint(1, len(words))]
        train[index] = row(" ".join(sentence(rng, 9) + cut + sentence(rng, 9)), "ok")
    truth = []
    for i, each in enumerate(train):
        text = f" {measures.row_text(each)} ".replace("\n", " ")
        for j, held in enumerate(heldout):
            words = measures.asked_text(held).split()
            n = min(8, len(words))
            places = set()
            for start in range(len(words) - n + 1):
                if f" {' '.join(words[start : start + n])} " in text:
                    places |= set(range(start, start + n))
            if len(places) > 0.5 * len(words):
                truth.append((i, j))
    found = overlap(train, heldout)
    assert len(truth) > 20
    assert list(zip(found["row"], found["partner"], strict=True)) == truth


def test_no_training_row_of_tinyworld_holds_a_whole_held_out_prompt():
    rows = instruction_rows("tinyworld", split="train", n=1500)
    heldout = tasks.heldout_suite(60)
    found = overlap(rows, heldout)
    # Two lists of one template may begin with the same numbers by chance: that is seldom.
    assert (found["share"] < 1).all() and len(found) <= 5
    assert overlap([*rows, heldout[7] | {"answer": "x"}], heldout)["share"].max() == 1


# --- accuracy -------------------------------------------------------------------------------------


def test_wrong_rows_are_those_the_oracle_of_tinyworld_calls_wrong():
    rng, rows, bad = random.Random(4), [], set()
    for index in range(300):
        item = tasks.draw(rng.choice(("arithmetic", "facts", "lists")), rng, "train")
        wrong = rng.random() < 0.3
        reply = tasks.flaw(item, rng) if wrong else tasks.solution(item)
        if tasks.score(item, reply, True)[item.family] == 0:
            bad.add(index)
        rows.append(row(tasks.ask(item, rng, "train"), reply, item=item))

    def oracle(each: dict) -> bool:
        reply, item = each["completion"][0]["content"], each["item"]
        return tasks.score(item, reply, True)[item.family] == 1

    found = curate(rows, score=oracle)
    assert found.dropped["wrong"] == len(bad) > 50
    assert not [i for i in bad if any(each is rows[i] for each in found.kept)]
    assert curate(rows).dropped["wrong"] == 0  # without an oracle nothing is called wrong


@pytest.mark.parametrize(
    ("reply", "cut"),
    [
        ("#### 57", False),
        ("12+30=42, 42+15=57. #### 57", False),
        (
            "Two boxes hold 12 each. So both boxes together hold 24 pens, and the answer is: 24",
            False,
        ),
        ("It was dear. I paid 14 euros for each of the six tickets, so in all that is $84", False),
        ("It was dear. I paid 14 euros for each of the six tickets, and then I bought 3", True),
        ("Here is a list of fruit:\n1. apples\n2. pears and other good things", False),
        ("Sure, here it is:\n```python\nprint(1)\n```", False),
        ("Sure, here it is:\n```python\nprint(1)\n", True),
        ("To cook rice you first wash it in cold water, and then you bring it to the", True),
        ("It was sunny. We went to the beach, because all of us like to swim in the big", True),
        ("It was sunny. We all like to swim.", False),
        ("Come and see the new park! It is open from May until September. #park #summer", False),
        ("It was sunny. We all went to the beach, since we like to swim in the sea \N{SUN}", False),
        ('name = azure.group.name\n\n  kind = "linux"\n  maximum = 4\n  scale =', True),
        ("The cat sat on the mat and purred", False),  # no full stop, but a whole line
    ],
)
def test_truncation_findings(reply: str, cut: bool):
    assert measures.truncated(reply) is cut


def test_rows_longer_than_the_limit_are_truncated_in_training():
    class Tokenizer:
        """Renders turns as words and counts them: 'user Hi assistant a b' is 5 tokens."""

        def apply_chat_template(self, messages, *, tokenize):
            assert tokenize is False
            return " ".join(f"{m['role']} {m['content']}" for m in messages)

        def __call__(self, text, *, add_special_tokens):
            assert add_special_tokens is False
            return {"input_ids": text.split()}

    rows = [row("Hi", "a b"), row("Hi", "a b c")]
    found = curate(rows, max_tokens=5, tokenizer=Tokenizer())
    assert list(found.kept) == rows[:1] and found.dropped["truncated"] == 1


# --- complexity, composition ----------------------------------------------------------------------


def test_measures_by_hand():
    asked = "List exactly two fruits, at most one word each."
    turns = [
        {"role": "system", "content": "ignored here"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": asked},
    ]
    reply = [{"role": "assistant", "content": "1. apple\n2. pear"}]
    each = {"prompt": turns, "completion": reply}
    # two turns; 'Hi', 'Hello.' and nine words asked; four replied; two steps; 'exactly', 'at most'
    # and 'word'
    assert measures.counts(each) == (2, 11, 4, 2, 3)
    assert measures.opening(each) == "list exactly"
    assert measures.counts(row("Sum?", "12+30=42, 42+15=57. #### 57"))[3] == 3


def test_diversity_by_hand():
    found = curate([row("a b", "c d"), row("a b", "c e")], near=1)
    value = found.table.set_index("measure")["before"]
    assert value["distinct words"] == 5
    assert value["distinct words per 1,000 words"] == 625  # 5 of 8
    assert value["distinct 3-grams, share"] == 0.75  # abc twice, bcd, bce
    assert value["kinds of request"] == 1 and value["kinds of request, effective number"] == 1


@pytest.mark.parametrize(
    ("each", "domain"),
    [
        ({"prompt": "x", "domain": "law"}, "law"),
        ({"prompt": "x", "family": "arithmetic"}, "maths"),
        (row("How many apples are left if 3 of 7 are eaten?", "4"), "maths"),
        (row("Write a function that adds two numbers.", "def add(a, b): return a + b"), "code"),
        (row("Describe autumn in three words.", "Red, cool, calm."), "instructions"),
    ],
)
def test_domains(each: dict, domain: str):
    assert domain_of(each) == domain


def pool(**counts: int) -> list[dict]:
    return [{"domain": name, "id": i} for name, n in counts.items() for i in range(n)]


def test_the_mix_is_reached_to_the_row():
    rows = pool(maths=500, code=500, chat=500, instructions=500)
    drawn = mix(rows, TARGET_MIX, n=1000, seed=3)
    shares = {"maths": 394, "code": 389, "chat": 176, "instructions": 41}
    assert Counter(map(domain_of, drawn)) == shares
    assert len({id(each) for each in drawn}) == 1000
    assert mix(rows, TARGET_MIX, n=1000, seed=3) == drawn != mix(rows, TARGET_MIX, n=1000, seed=4)
    assert [each["domain"] for each in drawn[:50]] != ["maths"] * 50  # shuffled
    assert len(mix(rows, TARGET_MIX, n=7)) == 7


@pytest.mark.parametrize("n", [1, 2, 3, 10, 99, 1000])
def test_counts_add_up_and_none_is_off_by_a_row(n: int):
    for target in (TARGET_MIX, {"maths": 0.5, "code": 0.5}, {"maths": 1.0, "code": 0.0}):
        drawn = mix(pool(maths=1000, code=900, chat=900, instructions=900), target, n=n)
        counted = Counter(map(domain_of, drawn))
        assert sum(counted.values()) == n
        assert all(abs(counted[name] - share * n) < 1 for name, share in target.items())


def test_a_mix_out_of_reach_says_what_could_be_reached():
    rows = pool(maths=500, code=100, chat=500, instructions=500)
    with pytest.raises(ValueError, match=r"389 code.*100 code.*at most about 257 rows"):
        mix(rows, TARGET_MIX, n=1000)
    assert len(mix(rows, TARGET_MIX, n=257)) == 257
    with pytest.raises(ValueError, match="0 law"):
        mix(rows, {"maths": 0.5, "law": 0.5}, n=10)
    with pytest.raises(ValueError, match="add up to 1"):
        mix(rows, {"maths": 0.5}, n=10)


# --- the object -----------------------------------------------------------------------------------


def test_curating_again_drops_nothing_and_is_reproducible():
    rows = instruction_rows("tinyworld", split="train", n=1500)
    once = curate(rows)
    assert once.dropped["duplicate"] > 0
    again = curate(once.kept)
    assert sum(again.dropped.values()) == 0 and list(again.kept) == list(once.kept)
    after = once.table.set_index("measure")["after"]
    before = again.table.set_index("measure")["before"]
    assert before.equals(after)
    assert curate(rows).pairs.equals(once.pairs)


def test_the_report_names_counts_and_escapes_text():
    found = curate([row("<script>alert(1)</script>", "x y z", domain="<b>bold</b>")] * 2)
    assert repr(found) == "Curation: 1 of 2 rows kept; dropped: 1 duplicate"
    page = found._repr_html_()
    assert "<script>" not in page and "<b>bold" not in page and "&lt;b&gt;bold" in page


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        ([], {}, "no row"),
        ([{"text": "x"}], {}, r"row 0 has no field 'prompt' \(it has \['text'\]\)"),
        ([row("a", "b")], {"near": 0}, "near must be"),
        ([row("a", "b")], {"ngram": 0}, "ngram must be"),
        ([row("a", "b")], {"max_tokens": 5}, "tokenizer"),
    ],
)
def test_errors_say_what_to_do(rows: list, settings: dict, said: str):
    with pytest.raises(ValueError, match=said):
        curate(rows, **settings)


# --- the figure, the recorded benchmark -----------------------------------------------------------


def test_the_figures_title_is_computed_from_what_is_drawn():
    from postlab.course.week03 import plot_curation

    rows = [row(f"Question {i}?", f"Answer {i}.") for i in range(8)]
    fig = plot_curation(curate([*rows, rows[0], rows[1]]))
    assert fig.get_suptitle() == "8 of 10 rows kept; 100% of the 2 dropped ones were duplicates"
    texts = [text.get_text() for text in fig.axes[0].texts]
    assert texts == ["8 (80.0%)", "2 (20.0%)"]
    assert "nothing was found to drop" in plot_curation(curate(rows)).get_suptitle()


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return module_at(ROOT / "bench" / "curation.py", "bench_curation")


def test_the_benchmark_plants_what_it_says(bench):
    rows, heldout, planted_pairs = bench.made_up(1500, 7)
    texts = [measures.row_text(each) for each in rows]
    assert len(rows) == 1500 and len(heldout) == bench.HELDOUT
    assert 40 < len(planted_pairs) < 110
    assert all(jaccard(texts[a], texts[b]) >= bench.NEAR for a, b in planted_pairs)
    assert bench.text_bytes(rows) == sum(map(len, texts))  # ASCII


RECORDED = ROOT / "data" / "results" / "bench"


def test_the_recorded_benchmark_meets_the_bars(bench):
    recorded = json.loads((RECORDED / "curation.json").read_text(encoding="utf-8"))
    assert [each["rows"] for each in recorded["curate"]] == list(bench.SIZES)
    for each in recorded["curate"]:
        assert each["rows_a_minute"] >= 50_000 and each["fast_enough"]
        assert each["added_mb"] <= 1.5 * each["text_mb"] + 500 and each["small_enough"]
        assert each["kept"] + sum(each["dropped"].values()) == each["rows"]
        assert {"command", "commit", "date"} <= each["provenance"].keys()


def test_a_library_that_met_the_bars_would_be_taken(bench):
    path = RECORDED / "curation_libraries.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))["searches"]
    meets = {name: True for name in bench.SEARCHES}
    for each in recorded:
        assert each["found"] > 0.995 and each["rows"] in bench.SIZES
        meets[each["search"]] &= each["small_enough"]
        meets[each["search"]] &= 60 * each["rows"] / each["seconds"] >= bench.BAR_ROWS_A_MINUTE
    assert meets == {"postlab": True, "datasketch": False, "rensa": False}
