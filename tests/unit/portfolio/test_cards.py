"""Cards: metadata against the Hub's published lists, numbers against the claims, hostile text."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, parse_eval_result_entries
from markdown_it import MarkdownIt

from postlab.claims import metric_label
from postlab.datasets import _hub, curate
from postlab.evals import public
from postlab.portfolio import (
    dataset_card,
    evidence,
    make_cards,
    model_card,
    render,
)
from postlab.portfolio.cards import BASES, BENCHMARKS, LICENCES, PUBLIC, SOURCES
from postlab.profile import read_profile
from postlab.runs import MissingStage

DATA = Path(__file__).resolve().parents[3] / "data"

# The Hub's own specification, as data. github.com/huggingface/hub-docs at 242f4a1 (2026-08-22):
# modelcard.md, datasetcard.md, docs/hub/repositories-licenses.md, docs/hub/model-cards.md,
# eval_results.yaml. github.com/huggingface/huggingface.js at fe42e68 (2026-08-21):
# packages/tasks/src/pipelines.ts and model-libraries.ts. What the Hub does with a value that is in
# none of these lists it decides when a card is pushed.
HUB_LICENCES = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m
bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0
cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0
creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research
intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openmdw-1.1 openrail openrail++
osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
PIPELINE_TAGS = """
text-classification token-classification table-question-answering question-answering
zero-shot-classification translation summarization feature-extraction text-generation fill-mask
sentence-similarity text-to-speech text-to-audio automatic-speech-recognition audio-to-audio
audio-classification audio-text-to-text voice-activity-detection depth-estimation
image-classification object-detection image-segmentation text-to-image image-to-text image-to-image
image-to-video unconditional-image-generation video-classification reinforcement-learning robotics
tabular-classification tabular-regression tabular-to-text table-to-text multiple-choice text-ranking
text-retrieval time-series-forecasting text-to-video image-text-to-text image-text-to-image
image-text-to-video visual-question-answering document-question-answering
zero-shot-image-classification graph-ml mask-generation zero-shot-object-detection text-to-3d
image-to-3d image-feature-extraction video-text-to-text keypoint-detection visual-document-retrieval
any-to-any video-to-video other
"""
RELATIONS = {"adapter", "merge", "quantized", "finetune"}
LIBRARIES = {"peft", "transformers"}  # of the list, those that a card of ours may name
MODEL_FIELDS = {
    "language", "license", "license_name", "license_link", "library_name", "tags", "datasets",
    "metrics", "base_model", "base_model_relation", "pipeline_tag", "model-index",
}  # fmt: skip
DATA_FIELDS = {
    "language", "license", "license_name", "license_link", "tags", "annotations_creators",
    "pretty_name", "size_categories", "source_datasets", "task_categories", "configs",
}  # fmt: skip
SIZES = {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M"}
REPO = re.compile(r"[\w.-]+/[\w.-]+")
CPU = {"gpu": None, "cpus": 2, "ram_gib": 8.0}
NASTY = (
    "a|b <script>alert(1)</script> [x](http://evil.example) ![i](//e) `c` **d** _e_ $$f$$ "
    "{{dpo.facts.change}} &lt; www.evil.example me@evil.example\n---\n# g\n```\nh\u202e\x00"
)


def conforms(card):
    """What the Hub's specification says of a model card's metadata."""
    text = str(card)
    front = yaml.safe_load(text.split("---\n")[1])
    assert ModelCard(text).data.to_dict() == front and set(front) <= MODEL_FIELDS
    assert front["license"] in HUB_LICENCES.split()
    assert front["pipeline_tag"] in PIPELINE_TAGS.split()
    assert front["library_name"] in LIBRARIES
    assert ("base_model" in front) == ("base_model_relation" in front)
    if "base_model" in front:
        assert REPO.fullmatch(front["base_model"]) and "bnb" not in front["base_model"]
        assert front["base_model_relation"] in RELATIONS
    assert all(REPO.fullmatch(name) for name in front.get("datasets", []))
    assert front.get("language", "en") == "en"
    assert len(set(front["tags"])) == len(front["tags"]) >= 2
    for model in front.get("model-index", []):
        assert model["name"] and model["results"]
        for result in model["results"]:
            assert result["task"]["type"] in PIPELINE_TAGS.split()
            assert result["dataset"]["type"] and result["dataset"]["name"]
            for metric in result["metrics"]:
                assert isinstance(metric["type"], str) and isinstance(metric["value"], float)
    return front


def evaluated(stage, *, n=16, seed=0, metrics=("facts", "safety"), answer="an answer"):
    luck = random.Random(f"{stage} {seed}")
    rows = []
    for metric in metrics:
        for i in range(n):
            row = {"id": f"{metric}-{i}", "family": metric, "prompt": f"{i}?", "answer": answer}
            rows.append(row | {metric: float(luck.random() < 0.3 + 0.4 * (stage != "sft"))})
    return rows


def save(root, profile, stage, manifest, *, parent=None, seed=0, rows=None, log=True):
    folder = root / profile / f"seed-{seed}" / stage
    folder.mkdir(parents=True)
    rows = rows or evaluated(stage, seed=seed, answer=f"{stage} {seed}")
    (folder / "eval.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    known = {"status": "complete", "profile": profile, "stage": stage, "seed": seed}
    known |= {"parent": parent, "device": CPU, "commit": "0" * 40, "versions": {"trl": "1.14.2"}}
    (folder / "manifest.json").write_text(json.dumps(known | manifest), "utf-8")
    shipped = DATA / "tiny-stages" / stage / "trainer_state.json"
    if log and shipped.exists():
        shutil.copy(shipped, folder)


def recorded(profile, stage, seed=0):
    path = DATA / f"results/{profile}/seed-{seed}-{stage}.manifest.json"
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Run folders with recorded manifests and a few invented answers a metric."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        for stage, parent in {"sft": None, "dpo": "sft", "multi": "sft"}.items():
            save(root, "tiny", stage, recorded("tiny", stage, seed), parent=parent, seed=seed)
        copied = evaluated("sft", seed=seed, answer=f"sft {seed}")
        save(root, "tiny", "prm", recorded("tiny", "prm", seed), parent="sft", seed=seed,
             rows=copied)  # fmt: skip
    for stage, parent in {"sft": None, "dpo": "sft"}.items():
        save(root, "smol", stage, recorded("smol", stage), parent=parent)
    return root


@pytest.fixture(scope="module")
def tiny(root):
    return evidence("tiny", root=root)


def one(tmp_path, *, profile="t4", stage="sft", base="unsloth/mistral-7b-v0.3-bnb-4bit", **more):
    """The card's arguments for a stage of which only the base is of interest."""
    manifest = {"model": {"base": base, "quantization": None}, "lora": {"r": 8}}
    keys = {k: more.pop(k) for k in ("rows", "log") if k in more}
    save(tmp_path, profile, stage, manifest | more.pop("manifest", {}), **keys)
    return {"stage": stage, "profile": profile, "root": tmp_path} | more


def test_our_lists_are_the_hubs_and_the_loaders():
    assert set(HUB_LICENCES.split()) == LICENCES
    assert {licence for _, licence in BASES.values()} <= LICENCES
    assert {name: (known[0]) for name, known in SOURCES.items() if known[0]} == {
        name: repo for name, (repo, _) in _hub.KNOWN.items()
    }
    assert all(repo in {r for r, _ in _hub.KNOWN.values()} for repo, *_ in BENCHMARKS.values())
    assert not {name for name in public.SOURCES if name in ("ifeval", "math500")} - {
        prefix.rstrip("_") for prefix in PUBLIC
    }


@pytest.mark.parametrize("form", [None, "merged", "gguf"])
def test_the_metadata_of_each_stage_conform(tiny, form):
    for stage in tiny.stages:
        front = conforms(model_card(stage, profile="tiny", known=tiny, form=form))
        assert front["license"] == "apache-2.0" and front["language"] == "en"
        assert "base_model" not in front  # the embedded base isn't on the Hub
        prm = stage == "prm"
        assert front["pipeline_tag"] == ("token-classification" if prm else "text-generation")
        peft = form is None and not prm
        assert front["library_name"] == ("peft" if peft else "transformers")
        method = {"prm": "prm", "multi": "grpo"}.get(stage, stage)
        assert method in front["tags"] and ("gguf" in front["tags"]) == (form == "gguf")
        mine = conforms(
            model_card(stage, profile="tiny", known=tiny, form=form, base_model="me/tiny-base")
        )
        relation = {"merged": "finetune", "gguf": "quantized"}.get(form, "adapter")
        assert mine["base_model"] == "me/tiny-base"
        assert mine["base_model_relation"] == ("finetune" if form is None and prm else relation)


def test_the_text_follows_from_the_runs_alone(tiny, root):
    card = model_card("dpo", profile="tiny", known=tiny)
    assert str(card) == str(model_card("dpo", profile="tiny", root=root))
    assert render(card.draft, tiny).strip() == card.card.text.strip()
    lines = str(card).splitlines()
    for claim in tiny.of("dpo"):
        line = next(x for x in lines if x.startswith(f"| {metric_label(claim.metric)} |"))
        for name in ("value", "change", "change_interval", "p", "seeds", "n"):
            assert tiny[f"dpo.{claim.metric}.{name}"].text in line
        assert claim.verdict in line
    config = recorded("tiny", "dpo")["config"]
    rows = [line.split(" | ") for line in lines if line.count(" | ") == 1]
    values = {row[0].removeprefix("| "): row[1].removesuffix(" |") for row in rows}
    assert set(config) <= set(values) and values["beta"] == json.dumps(config["beta"])
    assert values["lora_dropout"] == "0.0"
    assert "mechanism, not capability" in str(card).lower()
    assert "git checkout " + recorded("tiny", "dpo")["commit"] in lines
    assert lines.index("make week N=03 PROFILE=tiny SEED=0") < lines.index(
        "make week N=05 PROFILE=tiny SEED=0"
    )


def snippet(card):
    return str(card).split("```python\n")[1].split("```")[0]


def test_the_snippet_loads_the_base_from_where_it_is(tiny, root, tmp_path):
    lines = snippet(model_card("dpo", profile="tiny", known=tiny)).splitlines()
    assert lines == [
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'place = "."  # this repository\'s id, or the folder with its files',
        "tokenizer = AutoTokenizer.from_pretrained(place)",
        'base = AutoModelForCausalLM.from_pretrained("data/tiny-base")  # in a clone of postlab',
        "model = PeftModel.from_pretrained(base, place)",
    ]
    assert (DATA / "tiny-base" / "config.json").is_file()
    smol = snippet(model_card("dpo", profile="smol", root=root))
    assert 'from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")\n' in smol
    hub = snippet(model_card(**one(tmp_path)))  # its adapter names a base that is on the Hub
    assert "AutoPeftModelForCausalLM" in hub and "data/" not in hub


def test_each_stage_is_made_at_its_own_commit(tmp_path):
    for stage, commit in {"sft": "a" * 40, "dpo": "b" * 40, "cai": None}.items():
        parent = {"sft": None, "dpo": "sft", "cai": "dpo"}[stage]
        save(tmp_path, "tiny", stage, {"model": {"base": "tiny-base"}, "commit": commit},
             parent=parent)  # fmt: skip
    card = str(model_card("cai", profile="tiny", root=tmp_path))
    lines = card.split("```sh\n")[1].split("```")[0].splitlines()
    assert lines[:4] == [
        f"git checkout {'a' * 40}", "make week N=03 PROFILE=tiny SEED=0",
        f"git checkout {'b' * 40}", "make week N=05 PROFILE=tiny SEED=0",
    ]  # fmt: skip
    assert lines[4] == "# the commit of cai wasn't recorded"


def test_a_process_models_card_says_whose_answers_were_measured(tiny):
    card = str(model_card("prm", profile="tiny", known=tiny))
    start = card.split("## Results\n\n")[1]
    assert start.startswith(
        "These are SFT's answers; for each sum, this model chose the best of 16."
    )
    row = next(line for line in start.splitlines() if line.startswith("| Facts |"))
    assert row.split(" | ")[3:6] == ["not measured", "–", "copied from the parent"]


def test_model_index_has_the_published_seeds_values_and_nothing_copied(tiny):
    entries = {(e["name"], e["seed"]): e for e in tiny.summary["stages"]}
    for seed in (0, 1):
        front = conforms(model_card("dpo", profile="tiny", known=tiny, seed=seed))
        (result,) = front["model-index"][0]["results"]
        measured = entries["dpo", seed]["metrics"]
        assert result["dataset"]["type"] == "tinyworld"
        assert {m["type"]: m["value"] for m in result["metrics"]} == {
            name: round(value["value"], 4) for name, value in measured.items()
        }
    card = model_card("prm", profile="tiny", known=tiny)
    assert "model-index" not in conforms(card)  # it answers nothing itself
    assert str(card).count("| not measured | not measured |") == len(tiny.of("prm"))


def test_what_the_doctor_saw_and_what_nobody_recorded_are_said(tiny, tmp_path):
    assert "reward_traded" in str(model_card("multi", profile="tiny", known=tiny))
    card = str(model_card(**one(tmp_path, log=False)))
    section = card.split("## What the training log shows")[1].split("##")[0]
    assert "Seed 0: not recorded." in section
    for line in ("| Training | not recorded |", "**Curation:** not recorded", "| SFT | not recor"):
        assert line in card
    assert "QLoRA" not in card and "2106.09685" in card


def test_damaged_fields_are_not_recorded(tmp_path):
    damage = {"data": [1], "code": 3, "config": [], "lora": None, "peak_gpu_gb": "x", "eval": 5}
    card = model_card(**one(tmp_path, manifest=damage | {"model": {"base": "Qwen/Qwen2.5-7B"}}))
    assert conforms(card)["base_model_relation"] == "finetune"
    assert "| SFT | not recorded | teknium" in str(card)
    assert "arguments: not recorded" in str(card)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("unsloth/mistral-7b-v0.3-bnb-4bit", "mistralai/Mistral-7B-v0.3"),
        ("unsloth/Qwen2.5-1.5B-bnb-4bit", "Qwen/Qwen2.5-1.5B"),
        ("unsloth/Qwen2.5-7B-unsloth-bnb-4bit", "Qwen/Qwen2.5-7B"),
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        ("smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ],
)
def test_the_base_is_the_original_on_the_hub(tmp_path, base, expected):
    card = model_card(**one(tmp_path, base=base, manifest={"model": {
        "base": base, "quantization": {"load_in_4bit": True}}}))  # fmt: skip
    front = conforms(card)
    assert (front["base_model"], front["license"]) == (expected, "apache-2.0")
    assert front["base_model_relation"] == "adapter" and "2305.14314" in str(card)
    assert front["datasets"] == ["teknium/OpenHermes-2.5"]


@pytest.mark.parametrize(
    ("base", "more", "message"),
    [
        ("acme/big", {}, "pass it as base_licence"),
        ("acme/big", {"base_licence": "apache"}, "did you mean 'apache-2.0'"),
        ("Qwen/Qwen2.5-7B", {"base_licence": "mit"}, "inherits"),
        ("acme/big", {"base_licence": "other"}, "license_name and license_link"),
        ("acme/big-bnb-4bit", {"base_licence": "mit"}, "base_model='owner/name'"),
        (None, {"base_licence": "mit"}, "names no base model"),
        ("Qwen/Qwen2.5-7B", {"form": "onnx"}, "adapter, merged, gguf"),
    ],
)
def test_an_unknown_base_or_licence_is_an_error_that_says_what_to_pass(
    tmp_path, base, more, message
):
    with pytest.raises(ValueError, match=re.escape(message)):
        model_card(**one(tmp_path, base=base, **more))


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("license: MIT\nbase_model: acme/big", {"license": "mit"}),
        ("license: other\nlicense_name: 'acme: 1\n\n  ---'\nlicense_link: LICENSE",
         {"license": "other", "license_name": "acme: 1\n---", "license_link": "LICENSE"}),
    ],
)  # fmt: skip
def test_the_licence_is_read_where_the_base_lies(tmp_path, front, expected):
    folder = tmp_path / "big"
    folder.mkdir()
    (folder / "README.md").write_text(f"---\n{front}\n---\n# Big\n", "utf-8")
    (tmp_path / "mine.yaml").write_text("name: mine\nlike: smol\nbase_model: big\n", "utf-8")
    profile = read_profile(tmp_path / "mine.yaml")
    arguments = one(tmp_path, profile="mine", base="big") | {"profile": profile}
    found = conforms(model_card(**arguments))
    assert {name: found[name] for name in expected} == expected and "base_model" not in found
    assert str(tmp_path) not in str(model_card(**arguments))
    for damage in ("---\n[", "---\n- a\n---\n", "no front"):
        (folder / "README.md").write_text(damage, "utf-8")
        with pytest.raises(ValueError, match="base_licence"):
            model_card(**arguments)


def shown(text):
    """Table cells and paragraphs as a browser shows them, and the kinds of markup in them."""
    tokens = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").parse(text)
    inline = [token for token in tokens if token.type == "inline"]
    texts = ["".join(c.content for c in token.children) for token in inline]
    kinds = {c.type for t in inline for c in t.children} | {t.type for t in tokens}
    return texts, kinds


def test_hostile_text_is_shown_letter_for_letter(tmp_path, root):
    rows = [row | {"answer": NASTY, "prompt": NASTY} for row in evaluated("dpo")]
    known = {"model": {"base": "tiny-base"}, "commit": NASTY, "config": {NASTY: NASTY},
             "versions": {"trl": NASTY}, "device": {"gpu": NASTY}, "code": {"trainer": NASTY},
             "eval": {"caveats": {"": NASTY}}, "data": {"train": {"rows": NASTY, "sha256": NASTY}},
             "parent": "sft"}  # fmt: skip
    save(tmp_path, "tiny", "sft", {"model": {"base": "tiny-base"}})
    save(tmp_path, "tiny", "dpo", known, rows=rows)
    card = str(model_card("dpo", profile="tiny", root=tmp_path))
    body = ModelCard(card).text
    _, expected = shown(ModelCard(str(model_card("dpo", profile="tiny", root=root))).text)
    texts, kinds = shown(body)
    assert kinds <= expected | {"html_block"}
    line = " ".join(NASTY.replace("\u202e", "\ufffd").replace("\x00", "\ufffd").split())
    assert sum(text == line for text in texts) >= 2 * 2  # prompt and answer, of two families
    assert body.count("<script") == 0 and "http://" not in body and "www." not in body
    assert "# the commit of dpo wasn't recorded" in body

    made = [{"prompt": NASTY, "chosen": NASTY, "rejected": "no", NASTY: 1}]
    card = dataset_card(made, name="pairs", source="tinyworld")
    texts, kinds = shown(card.card.text)
    assert {"html_inline", "html_block", "link_open", "image"}.isdisjoint(kinds)
    assert json.loads(card.files["train.jsonl"]) == made[0]


@pytest.mark.parametrize(("n", "written"), [(1319, True), (1318, False)])
def test_a_registered_benchmark_counts_on_its_full_test_split_only(tmp_path, n, written):
    def row(i):
        right = {"gsm8k_strict": float(i % 4 == 0), "gsm8k_lenient": 1.0}
        return {"id": f"gsm8k-{i}", "family": "gsm8k", "prompt": "?", "answer": "1"} | right

    rows = [row(i) for i in range(n)] + evaluated("sft", n=5)
    greedy = {"made_by": {"answers": {"sampling": {"temperature": 0.0}}}}
    card = model_card(**one(tmp_path, rows=rows, manifest={"eval": greedy}))
    (result,) = conforms(card)["model-index"][0]["results"]
    metrics = result["metrics"]
    assert result["dataset"]["type"] == "everyday"  # t4's suite is everyday+gsm8k
    assert {m["type"] for m in metrics} == {"facts", "safety"}  # no public benchmark among them
    if written:
        (entry,) = parse_eval_result_entries(yaml.safe_load(card.files[".eval_results/gsm8k.yaml"]))
        assert (entry.dataset_id, entry.task_id) == ("openai/gsm8k", "gsm8k")
        assert entry.value == round(100 * 330 / 1319, 2) and "greedy" in entry.notes
        assert set(yaml.safe_load(card.files[".eval_results/gsm8k.yaml"])[0]) <= {
            "dataset", "value", "notes", "date", "source", "verifyToken"}  # fmt: skip
    else:
        assert not card.files and "no `.eval_results` file" in str(card)
        assert "gsm8k_strict" in str(card)


def said(text):
    return [{"role": "user", "content": text}]


def test_data_set_cards_of_each_kind_conform_and_hold_their_rows():
    kinds = {
        "sft": {"prompt": said("2 + 3?"), "completion": said("5")},
        "dpo": {"prompt": said("2 + 3?"), "chosen": said("5"), "rejected": said("6")},
        "prm": {"prompt": said("2 + 3?"), "completions": ["2 + 3 = 5"], "labels": [1]},
        "grpo": {"prompt": said("2 + 3?"), "answer": "5"},
    }
    for tag, row in kinds.items():
        rows = [row] * 1000
        card = dataset_card(rows, name=f"my-{tag}", licence="cc0-1.0", language="en")
        front = yaml.safe_load(str(card).split("---\n")[1])
        assert DatasetCard(str(card)).data.to_dict() == front and set(front) <= DATA_FIELDS
        assert tag in front["tags"] and front["size_categories"] == ["1K<n<10K"]
        assert front["task_categories"][0] in PIPELINE_TAGS.split()
        assert set(front["size_categories"]) <= SIZES and front["license"] in HUB_LICENCES.split()
        path = front["configs"][0]["data_files"][0]["path"]
        assert [json.loads(line) for line in card.files[path].splitlines()] == rows
        assert "Not recorded. The run" in str(card)


def test_a_curations_drops_are_in_the_cards(tmp_path):
    def row(text):
        return {"prompt": said(text), "completion": said(f"{text}, because it is so")}

    texts = [f"Name the {i} largest city of country {i}" for i in range(20)]
    curation = curate([row(text) for text in [*texts, texts[0]]], heldout=[row(texts[1])])
    dropped = {reason: n for reason, n in curation.dropped.items() if n}
    assert sum(dropped.values()) >= 2 and "contaminated" in dropped
    card = str(dataset_card(curation, name="curated", licence="mit"))
    assert all(f"| {reason} | {n} |" in card for reason, n in dropped.items())
    before = len(curation.kept) + sum(dropped.values())
    for trained, expected in ((len(curation.kept), "that `curate` kept"), (before, "would have")):
        place = tmp_path / str(trained)
        known = {"data": {"train": {"rows": trained}}}
        card = str(model_card(**one(place, manifest=known), curation=curation))
        assert expected in card and f"| contaminated | {dropped['contaminated']} |" in card
        known["curation"] = {"kept": len(curation.kept), "dropped": curation.dropped}
        noted = one(tmp_path / f"noted {trained}", manifest=known)  # by `Run.save_curation`
        assert str(model_card(**noted)) == card
    known["data"]["train"]["rows"] = before + 1  # noted for other rows than were trained on
    assert "**Curation:** not recorded" in str(
        model_card(**one(tmp_path / "unlike", manifest=known))
    )
    with pytest.raises(ValueError, match="expected its own rows"):
        model_card("sft", profile="t4", root=tmp_path / "other", curation=curation,
                   known=evidence("t4", root=one(tmp_path / "other")["root"]))  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        ([], {"licence": "mit"}, "got 0 rows"),
        ([{"text": "a"}], {"licence": "mit"}, "prompt"),
        ([{"prompt": "a", "completion": "b"}], {}, "pass it as licence"),
        ([{"prompt": "a", "completion": "b"}], {"licence": "MIT 1"}, "one of the Hub's"),
        ([{"prompt": "a", "completion": "b"}], {"source": "gsm8k", "licence": "cc0-1.0"}, "'mit'"),
    ],
)
def test_rows_that_can_have_no_card_are_refused(rows, more, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataset_card(rows, name="rows", **more)
    with pytest.raises(ValueError, match="repo|Repo"):
        dataset_card([{"prompt": "a", "answer": "b"}], name="../up", licence="mit")


def test_a_profile_of_ones_own_gets_its_folders(tmp_path):
    profile = read_profile(DATA / "examples/tickets/mine.yaml")
    for stage, parent in {"sft": None, "dpo": "sft"}.items():
        save(tmp_path, "tickets", stage, recorded("smol", stage), parent=parent)
    step = {"prompt": said("1 + 1?"), "completions": ["2"], "labels": [1]}
    arguments = {"root": tmp_path, "data": {"steps": [step]}}
    arguments["known"] = evidence("tickets", root=tmp_path)
    with pytest.raises(ValueError, match="pass it as licence"):
        make_cards(profile, **arguments)
    cards = make_cards(profile, **arguments, data_licence="cc0-1.0")
    names = {card.name for card in cards}
    assert names == {"tickets-sft", "tickets-dpo", "tickets-sft-rows", "tickets-dpo-rows", "steps"}
    for card in cards:
        card.write(tmp_path / "cards" / card.name)
        for path, text in card.contents().items():
            assert (tmp_path / "cards" / card.name / path).read_text("utf-8") == text
        text = str(card)
        assert str(DATA) not in text and str(tmp_path) not in text and "/tmp" not in text
    card = (tmp_path / "cards/tickets-dpo/README.md").read_text("utf-8")
    assert "pairs.jsonl" in card and "PROFILE=mine.yaml SEED=0" in card
    assert "datasets" not in ModelCard(card).data.to_dict()
    assert len((tmp_path / "cards/tickets-sft-rows/train.jsonl").read_text().splitlines()) == 60
    # with its name alone, what only the file says isn't known
    plain = str(model_card("dpo", profile="tickets", root=tmp_path))
    assert "pairs.jsonl" not in plain and "| DPO | 240 | not recorded |" in plain.replace(
        f"{recorded('smol', 'dpo')['data']['train']['rows']:,}", "240"
    )


def test_smol_and_what_is_missing(root):
    known = evidence("smol", root=root)
    front = conforms(model_card("dpo", profile="smol", known=known))
    assert front["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "mechanism" not in str(model_card("sft", profile="smol", known=known)).lower()
    for stage, seed in (("grpo", None), ("sft", 7)):
        with pytest.raises(MissingStage, match="make week N="):
            model_card(stage, profile="smol", known=known, seed=seed)
    with pytest.raises(ValueError, match="isn't trained here"):
        model_card("base", profile="smol", known=known)
