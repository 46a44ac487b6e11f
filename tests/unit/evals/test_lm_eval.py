"""The same checkpoint, scored by lm-eval on a local task file and by evals.evaluate: item by item.

Needs the optional extra `eval`. Both write their answers themselves; what has to agree is each
answer and each verdict, not an average over them.
"""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm-eval is not installed; run: python -m pip install 'postlab[eval]'",
)
DATA = Path(__file__).parents[3] / "data"
ITEMS = 30  # prompts a family
FAMILIES = {  # family: (lm-eval's filter, what it makes of an answer)
    "lists": [{"function": "take_first"}],
    "arithmetic": [
        {"function": "regex", "regex_pattern": r"#### (-?[0-9]{1,6})\s*$"},
        {"function": "take_first"},
    ],
}


def rows(family):
    from postlab.tinyworld.tasks import heldout_suite

    return [row for row in heldout_suite(n=ITEMS) if row["family"] == family]


def target(row):
    """The gold answer as a task file holds it; the suite's own score keeps the item."""
    from postlab.tinyworld.tasks import solution

    item = row["score"].args[0]
    return str(sum(item.args)) if item.family == "arithmetic" else solution(item)


def task(family, folder):
    """An lm-eval task on a local JSONL file, with the chat template's own end of turn."""
    path = folder / f"{family}.jsonl"
    lines = [
        {"id": row["id"], "question": row["prompt"][-1]["content"], "target": target(row)}
        for row in rows(family)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return {
        "task": f"tinyworld_{family}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{target}}",
        "generation_kwargs": {
            "until": ["<|im_end|>"],
            "max_gen_toks": rows(family)[0]["max_new_tokens"],
            "do_sample": False,
        },
        "filter_list": [{"name": "only", "filter": FAMILIES[family]}],
        "metric_list": [{"metric": "exact_match"}],
    }


@pytest.fixture(scope="module")
def policy():
    """The shipped SFT stage through plain transformers and PEFT: no profile, no patches."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(DATA / "tiny-base")
    stage = DATA / "tiny-stages" / "sft" / "model"
    model = PeftModel.from_pretrained(base, stage).merge_and_unload()
    return model, AutoTokenizer.from_pretrained(stage)


@pytest.mark.parametrize("family", FAMILIES)
def test_lm_eval_and_evaluate_agree_item_by_item(family, policy, tmp_path):
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    from postlab.evals import evaluate

    model, tokenizer = policy
    ours = evaluate(model, tokenizer, rows(family)).set_index("id")
    theirs = lm_eval.simple_evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, device="cpu"),
        tasks=[task(family, tmp_path)],
        num_fewshot=0,
        apply_chat_template=True,
        bootstrap_iters=0,
    )["samples"][f"tinyworld_{family}"]
    assert len(theirs) == len(ours) == ITEMS
    seen = Counter()
    for sample in theirs:
        row = ours.loc[sample["doc"]["id"]]
        assert sample["resps"][0][0].strip() == row["answer"]
        assert sample["exact_match"] == row[family], row["answer"]
        seen[row[family]] += 1
    assert len(seen) == 2, f"all items {seen}: agreement on one verdict only would prove little"
