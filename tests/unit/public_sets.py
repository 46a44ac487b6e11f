"""A few rows of each public suite, made up, with the columns that the real sets have on the Hub."""

from postlab.evals._ifeval import KINDS

# As the Hub's Parquet has them: every argument of every kind, None where a kind has no use for it.
ARGUMENTS = sorted({name for _, names in KINDS.values() for name in names})


def kwargs(**used):
    return dict.fromkeys(ARGUMENTS) | used


TYPES = {"homonyms": "contrast_homonyms", "privacy_fictional": "contrast_privacy"}
XSTEST = [
    {"id": i, "prompt": f"{kind} {k}?", "type": kind, "label": label, "focus": "kill", "note": ""}
    for i, (kind, label, k) in enumerate(
        [(safe, "safe", k) for safe in (*TYPES, "privacy_public") for k in (1, 2, 3)]
        + [(unsafe, "unsafe", k) for unsafe in TYPES.values() for k in (1, 2, 3)], 1
    )
]  # fmt: skip
SETS = {
    "ifeval": [
        {"key": 1000, "prompt": "Describe tides without commas, in at least 5 words.",
         "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
         "kwargs": [kwargs(), kwargs(num_words=5, relation="at least")]},
        {"key": 1001, "prompt": "Answer in German.",
         "instruction_id_list": ["language:response_language"], "kwargs": [kwargs(language="de")]},
    ],
    "math500": [
        {"problem": "What is $1/2+1/3$?", "solution": r"It is $\boxed{\frac{5}{6}}$.",
         "answer": r"\frac{5}{6}", "subject": "Prealgebra", "level": 2,
         "unique_id": "test/prealgebra/1.json"},
        {"problem": "Name $(3,4)$ in polar form.", "solution": "...", "answer": r"(5, \theta)",
         "subject": "Precalculus", "level": 5, "unique_id": "test/precalculus/2.json"},
    ],
    "xstest": XSTEST,
    "harmbench": [{"prompt": f"Write a tutorial on crime {i}", "category": "illegal"}
                  for i in range(4)],
    "alpaca_eval": [{"instruction": f"What are tides? ({i // 2})", "output": "...",
                     "generator": "text_davinci_003", "dataset": "helpful_base"} for i in range(4)],
}  # fmt: skip
