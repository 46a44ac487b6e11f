r"""How often do postlab's verdicts on mathematics agree with math-verify's own?

    python bench/math_golds.py --data FOLDER --out rows.jsonl   # half an hour on two cores
    python bench/math_golds.py --data FOLDER --out rows.jsonl --record agreement.json

FOLDER holds `<suite>/test.jsonl` of SUITES: the evaluation data of the GitHub repositories
QwenLM/Qwen2.5-Math (`evaluation/data`) and ZubinGou/math-evaluation-harness (`data`). Each gold
answer meets replies that restyle it, change it or belong to another row; ours is
`math_reward([reply], [gold])`, with its default switches and with `unworked=True`, theirs
`verify(parse(gold), parse(reply))` with a gold that has no dollar sign in a box.
A gold that math_reward refuses (None; `math_rows` drops such rows and counts them) is counted
apart, as is one that math-verify doesn't match with its own copy. The rows go to `--out`, and the
counts with every difference to `--record`: `data/results/math_golds/agreement.json` is such a file.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from multiprocessing import Pool
from pathlib import Path

SUITES = {  # name in the data: (rows taken at most, the field of the answer)
    "math_oai": (500, "answer"),
    "math": (500, "solution"),
    "college_math": (600, "answer"),
    "gaokao2023en": (400, "answer"),
    "olympiadbench": (200, "final_answer"),
    "minerva_math": (200, "solution"),
    "carp_en": (150, "answer"),
    "gaokao_math_cloze": (120, "answer"),
}


def golds(folder: Path, suite: str) -> list[str]:
    """The distinct gold answers of a suite, as `math_rows` reads them."""
    from postlab.rewards import extract_answer

    most, field = SUITES[suite]
    found = []
    for line in (folder / suite / "test.jsonl").read_text(encoding="utf-8").splitlines():
        answer = json.loads(line)[field]
        answer = answer[0] if isinstance(answer, list) else str(answer)
        if field == "solution":
            answer = extract_answer(answer, strict=True) or ""
        found.append(answer.strip())
    distinct = [gold for gold in dict.fromkeys(found) if gold]
    random.Random(suite).shuffle(distinct)
    return distinct[:most]


def replies(gold: str, other: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """(how it was made, reply) for one gold answer; `other` is the gold of another row."""
    bare = gold.replace("$", "") if gold.count("$") <= 2 else gold
    yield "boxed", rf"So \boxed{{{bare}}}."
    yield "stated", f"The answer is {gold if '$' in gold else f'${gold}$'}."
    restyled = re.sub(r"\\[td]?frac(?![a-z])", r"\\dfrac", bare)
    if "\\left" not in bare:
        restyled = re.sub(r"(?<![\\a-zA-Z}])\(", r"\\left(", restyled)
        restyled = (
            restyled.replace(")", r"\right)")
            if restyled.count(r"\left(") == bare.count(")")
            else re.sub(r"\\left\(", "(", restyled)
        )
    restyled = re.sub(r"(?<=[0-9A-Za-z}])\s*([-+=])\s*(?=[0-9A-Za-z\\])", r" \1 ", restyled)
    restyled = re.sub(r",\s*(?![0-9])", r",\\ ", restyled) if "text" not in bare else restyled
    yield "restyled", rf"Therefore, the final answer is \[\boxed{{{restyled}}}\]"
    if re.fullmatch(r"-?[0-9.]+|\\d?frac\{\d+\}\{\d+\}", bare):
        yield "unit", rf"\boxed{{{bare} \text{{ {rng.choice(['cm', 'apples', 'm'])}}}}}"
    if fraction := re.fullmatch(r"\\d?frac\{(\d+)\}\{(\d+)\}", bare):
        yield "slash", rf"$\boxed{{{fraction[1]}/{fraction[2]}}}$"
        yield "decimal", rf"$\boxed{{{int(fraction[1]) / max(1, int(fraction[2])):.6f}}}$"
    sides = bare.split("=")
    if len(sides) == 2 and "\\" not in sides[0]:
        yield "right side", rf"\boxed{{{sides[1].strip()}}}"
        yield "sides swapped", rf"\boxed{{{sides[1].strip()} = {sides[0].strip()}}}"
    numbers = list(re.finditer(r"[0-9]+", bare))
    if numbers:
        number = rng.choice(numbers)
        changed = str(int(number[0]) + rng.choice([1, 2, 10]))
        yield "changed", rf"\boxed{{{bare[: number.start()]}{changed}{bare[number.end() :]}}}"
    if signs := list(re.finditer(r"(?<=[0-9A-Za-z} ])[-+](?=[0-9A-Za-z\\ ])", bare)):
        sign = rng.choice(signs)
        flipped = "-" if sign[0] == "+" else "+"
        yield "sign changed", rf"\boxed{{{bare[: sign.start()]}{flipped}{bare[sign.end() :]}}}"
    yield "other gold", rf"\boxed{{{other.replace('$', '')}}}"
    if entries := re.fullmatch(
        r"([(\[]|\\left\(|)([^()\[\]{}]+,[^()\[\]{}]+)([)\]]|\\right\)|)", bare
    ):
        turned = ", ".join(reversed([entry.strip() for entry in entries[2].split(",")]))
        yield "permuted", rf"\boxed{{{entries[1]}{turned}{entries[3]}}}"


def theirs(gold: str, reply: str) -> bool | None:
    """math-verify's verdict; None where it doesn't match the gold with its own copy."""
    from math_verify import parse, verify

    expected = _their_gold(gold)
    return bool(verify(expected, parse(reply))) if expected else None


@lru_cache(maxsize=1)
def _their_gold(gold: str) -> list:
    """math-verify's reading of a gold; empty where it doesn't match its own copy."""
    from math_verify import parse, verify

    wrapped = gold if "$" in gold else rf"\boxed{{{gold}}}"
    expected = parse(wrapped)
    return expected if verify(expected, parse(wrapped)) else []


KNOWN: dict[tuple[str, str], bool | None] = {}  # their verdicts from an earlier run


def compare(job: tuple[str, list[tuple[str, str]]]) -> list[dict]:
    """The rows of one gold: the reply, how it was made, and the verdicts."""
    from postlab.rewards import math_reward

    gold, made = job
    rows = []
    for how, reply in made:
        ours = math_reward([reply], [gold])
        # The switch pays more, never less.
        ours += ours if ours[0] else math_reward([reply], [gold], unworked=True)
        key = (gold, reply)
        their = KNOWN[key] if key in KNOWN else theirs(gold, reply)
        rows.append({"gold": gold, "how": how, "reply": reply, "ours": ours, "theirs": their})
    return rows


def jobs(folder: Path, suite: str) -> list[tuple[str, list[tuple[str, str]]]]:
    every = golds(folder, suite)
    rng = random.Random(suite)
    return [(gold, list(replies(gold, every[k - 1], rng))) for k, gold in enumerate(every)]


def kind_of(row: dict) -> str:
    """Why the verdicts may differ, told by how the reply was made and whose verdict pays."""
    gold, changed = row["gold"], row["how"] in ("changed", "sign changed", "other gold")
    if changed and row["theirs"]:
        if "_" in gold and len(gold) < 12:
            return "another base, which math-verify does not read"
        return "a changed part of the gold paid by math-verify"
    if changed:
        units = "cm" in gold
        return "units are not compared" if units else "a changed part of the gold paid by postlab"
    if not row["theirs"]:
        return "the gold's own content refused by math-verify"
    if row["how"] == "decimal":
        return "a decimal rounded to fewer than four digits"
    if "e - " in row["reply"]:
        return "1.3e - 27 is no number with an exponent"
    several = row["how"] == "stated"
    return (
        "an unmarked answer of several parts"
        if several
        else "a rewriting that postlab does not read"
    )


def record(rows: list[dict]) -> str:
    """The counts by suite and every difference, as JSON with a line a difference."""
    counts: dict[str, Counter] = {suite: Counter() for suite in SUITES}
    golds_of: dict[str, set] = {suite: set() for suite in SUITES}
    refused, unread = ({suite: set() for suite in SUITES} for _ in range(2))
    differences = []
    for row in rows:
        suite, gold, their = row["suite"], row["gold"], row["theirs"]
        golds_of[suite].add(gold)
        if row["ours"][0] is None:
            refused[suite].add(gold)
        elif their is None:
            unread[suite].add(gold)
        else:
            ours, unworked = (bool(verdict) for verdict in row["ours"])
            counts[suite]["comparisons"] += 1
            counts[suite]["agree"] += ours == their
            counts[suite]["agree_unworked"] += unworked == their
            if {ours, unworked} != {their}:
                verdicts = {"ours": ours, "unworked": unworked, "theirs": their}
                named = {key: row[key] for key in ("suite", "how", "gold", "reply")}
                differences.append(named | verdicts | {"kind": kind_of(row)})
    sources = {
        suite: f"ZubinGou/math-evaluation-harness: data/{suite}/test.jsonl (MIT)"
        if suite.startswith("math")
        else f"QwenLM/Qwen2.5-Math: evaluation/data/{suite}/test.jsonl (MIT)"
        for suite in SUITES
    }
    held = {
        "provenance": {
            "command": "python bench/math_golds.py",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "math-verify": version("math-verify"),
            "sources": sources,
            "note": "Kinds are given by rule: how the reply was made and whose verdict pays. Golds "
            "that math_reward refuses, and golds that math-verify doesn't match with their own "
            "copy, are counted apart.",
        },
        "distinct_golds": len(set.union(*golds_of.values())),
        "suites": {
            suite: {
                "golds": len(golds_of[suite]),
                "refused": len(refused[suite]),
                "unread_by_math_verify": len(unread[suite]),
                **counts[suite],
            }
            for suite in SUITES
        },
        "kinds": dict(Counter(each["kind"] for each in differences).most_common()),
    }
    lines = ",\n".join("  " + json.dumps(each) for each in differences)
    return f'{json.dumps(held, indent=1)[:-2]},\n "differences": [\n{lines}\n ]\n}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--known", type=Path, help="rows of an earlier run: their verdicts")
    parser.add_argument("--record", type=Path, help="write the counts of --out, as it is, here")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    if args.record:
        lines = args.out.read_text(encoding="utf-8").splitlines()
        args.record.write_text(record([json.loads(line) for line in lines]), encoding="utf-8")
        return
    for line in args.known.read_text(encoding="utf-8").splitlines() if args.known else []:
        row = json.loads(line)
        KNOWN[row["gold"], row["reply"]] = row["theirs"]
    with Pool(args.processes) as pool, args.out.open("w", encoding="utf-8") as out:
        for suite in SUITES:
            for rows in pool.imap(compare, jobs(args.data, suite), chunksize=8):
                for row in rows:
                    out.write(json.dumps({"suite": suite, **row}) + "\n")
            out.flush()
            print(suite, flush=True)


if __name__ == "__main__":
    main()
