import importlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tiny_model import build_adapter, build_tiny
from transformers import AutoTokenizer

from postlab.evals import evaluate
from postlab.models import load_policy, make_servable
from postlab.portfolio import handover, modelfile, serving_findings, vllm_commands
from postlab.portfolio.serving import CONVERSATIONS, go_template

TASKS = [
    {
        "id": str(i), "family": "copy", "max_new_tokens": 8,
        "prompt": [{"role": "user", "content": f"What is {i} + {i}?"}],
        "score": lambda answer, closed: {"arithmetic": float(len(answer) % 2)},
    }
    for i in range(60)
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("base") / "it's a base", hidden=64)


@pytest.fixture(scope="module")
def stage(base, tmp_path_factory) -> Path:
    return build_adapter(base, tmp_path_factory.mktemp("run") / "sft" / "model")


@pytest.fixture(scope="module")
def handed(stage, tmp_path_factory):
    to = tmp_path_factory.mktemp("out") / "sft"
    return handover(stage, to=to, profile="tiny", suite=TASKS, margin=0.2)


def codes(findings) -> set[str]:
    return {finding.code for finding in findings}


# --- every format, scored again ------------------------------------------------------------------


def test_every_format_is_scored_on_the_same_prompts(handed):
    frame = handed.frame[handed.frame["metric"] == "arithmetic"].set_index("format")
    assert list(frame.index) == ["adapter", "merged", "gguf-f16", "gguf-q8_0"]
    assert set(frame["n"]) == {60}
    assert frame.loc["adapter", "difference"] == 0
    assert handed.verdicts["adapter"] == handed.verdicts["gguf-f16"] == "equivalent"
    answers = handed.answers.set_index("format")
    assert answers.loc["adapter", "changed"] == 0
    assert answers.loc["adapter", "at_most"] == pytest.approx(1 - 0.05 ** (1 / 60))
    assert (answers["at_most"] > answers["changed"] / answers["greedy"]).all()
    assert frame.loc["gguf-q8_0", "mb"] < frame.loc["gguf-f16", "mb"]
    assert any("llama-quantize" in note for note in handed.notes)
    assert any("llama.cpp" in note for note in handed.notes)


def test_nothing_that_is_handed_over_names_a_place_on_this_machine(handed, base):
    for path in handed.folder.rglob("*"):
        if path.suffix in (".json", "") and path.is_file():
            assert str(base.parent) not in path.read_text("utf-8"), path
    assert not any(str(handed.folder) in line for line in handed.commands)


def test_a_file_that_answers_otherwise_is_different(stage, handed, tmp_path, monkeypatch):
    """Weights damaged on their way into the file: sizes and names are all right."""
    from postlab.models import gguf_files

    monkeypatch.setattr(gguf_files, "_interleaved", lambda weight, heads: weight)
    said = set(evaluate(*load_policy(stage, profile="tiny"), TASKS)["answer"])
    tasks = [t | {"score": lambda a, closed: {"arithmetic": float(a in said)}} for t in TASKS]
    result = handover(stage, to=tmp_path / "out", profile="tiny", suite=tasks, formats=["gguf-f16"])
    assert result.verdicts == {"gguf-f16": "different"}
    row = result.frame[result.frame["metric"] == "arithmetic"].iloc[0]
    assert row["high"] < -0.05 and row["p"] < 0.05


def test_no_command_serves_what_a_server_would_misread(stage, tmp_path, monkeypatch):
    """The fault of tiny's own tokenizer: the GGUF file's metadata give other token ids."""
    from postlab.portfolio import serving

    module = importlib.import_module("postlab.portfolio.handover")  # the door has the function
    fault = serving._finding("gguf_ids", "3 of 4 conversations", "cut otherwise", "serve merged")
    monkeypatch.setattr(
        module, "serving_findings", lambda folder, gguf=None, **_: [fault] if gguf else []
    )
    formats = ["merged", "gguf-f16"]
    result = handover(
        stage, to=tmp_path / "out", profile="tiny", suite=TASKS, formats=formats, margin=0.2
    )
    assert [line.split()[0] for line in result.commands] == ["vllm"]
    assert list(result.blocked) == ["gguf-f16"]
    assert any("no serving command for gguf-f16: gguf_ids" in note for note in result.notes)
    assert not (tmp_path / "out" / "gguf" / "Modelfile").exists()
    record = json.loads((tmp_path / "out" / "handover.json").read_text("utf-8"))
    assert list(record["formats"]) == formats and record["formats"]["merged"]["blocked"] == ""
    assert "gguf_ids" in record["formats"]["gguf-f16"]["blocked"]
    assert list(record["formats"]["gguf-f16"]["files"]) == ["gguf/model-f16.gguf"]


def test_a_reference_on_other_prompts_is_refused(stage, tmp_path):
    other = pd.DataFrame({"id": ["0"], "prompt": ["Something else"], "answer": ["4"]})
    with pytest.raises(ValueError, match="other prompts"):
        handover(
            stage, to=tmp_path / "out", profile="tiny", suite=TASKS, reference=other,
            formats=["adapter"],
        )  # fmt: skip


def test_too_little_memory_leaves_files_and_says_so(stage, tmp_path, monkeypatch):
    from postlab.models import loading

    monkeypatch.setattr(loading, "_fits", lambda *args: False)
    result = handover(
        stage, to=tmp_path / "out", profile="tiny", suite=TASKS[:4], formats=["gguf-q8_0"]
    )
    assert result.verdicts == {"gguf-q8_0": "not measured"}
    assert (tmp_path / "out" / "gguf" / "model-q8_0.gguf").is_file()
    assert any("memory" in note for note in result.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"formats": ["gguf"]}, "expected some of adapter"), ({"to": "taken"}, "taken exists")],
)
def test_bad_input_is_named(stage, tmp_path, change, message):
    (tmp_path / "taken").mkdir()
    options = {"to": "new", "profile": "tiny", "suite": TASKS} | change
    with pytest.raises(ValueError, match=message):
        handover(stage, **options | {"to": tmp_path / options["to"]})


# --- what servers need ---------------------------------------------------------------------------


def test_what_is_handed_over_has_no_finding_but_its_local_base(handed):
    assert codes(handed.findings["merged"]) == set()
    assert codes(handed.findings["adapter"]) == {"adapter_base"}
    assert codes(handed.findings["gguf"]) == set()


def rewrite(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("file", "values", "code"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "TokenizersBackend"}, "tokenizer_class"),
        ("tokenizer_config.json", {"extra_special_tokens": ["<|pad|>"]}, "extra_special_tokens"),
        ("tokenizer_config.json", {"model_max_length": 10**30}, "model_max_length"),
        ("generation_config.json", {"eos_token_id": [0]}, "generation_eos"),
        ("config.json", {"rope_parameters": {"rope_theta": 1e6}}, "rope_theta"),
    ],
)
def test_a_merged_folder_that_servers_misread_is_found_and_mended(
    handed, tmp_path, file, values, code
):
    folder = Path(shutil.copytree(handed.folder / "merged", tmp_path / "merged"))
    rewrite(folder / file, **values)
    assert code in codes(serving_findings(folder))
    make_servable(folder, AutoTokenizer.from_pretrained(folder))
    assert codes(serving_findings(folder)) == set()


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"modules_to_save": ["lm_head"]}, "adapter_modules_to_save"),
        ({"use_dora": True}, "adapter_use_dora"),
        ({"bias": "all"}, "adapter_bias"),
        ({"r": 128}, "adapter_rank"),
        ({"rank_pattern": {"q_proj": 2}}, "adapter_patterns"),
        ({"base_model_name_or_path": "/home/somebody/base"}, "adapter_base"),
    ],
)
def test_an_adapter_that_vllm_refuses_is_found(handed, tmp_path, values, code):
    folder = Path(shutil.copytree(handed.folder / "adapter", tmp_path / "adapter"))
    rewrite(folder / "adapter_config.json", base_model_name_or_path="someone/base")
    assert codes(serving_findings(folder)) == set()
    rewrite(folder / "adapter_config.json", **values)
    assert codes(serving_findings(folder)) == {code}


def test_a_pickle_beside_the_weights_is_found(handed, tmp_path):
    folder = Path(shutil.copytree(handed.folder / "merged", tmp_path / "merged"))
    (folder / "training_args.bin").write_bytes(b"\x80")
    assert codes(serving_findings(folder)) == {"pickle"}


def test_another_chat_template_than_in_the_gguf_is_found(handed, tmp_path):
    folder = Path(shutil.copytree(handed.folder / "merged", tmp_path / "merged"))
    file = folder / "chat_template.jinja"
    file.write_text("You are kind.\n" + file.read_text())
    gguf = handed.folder / "gguf" / "model-q8_0.gguf"
    (found,) = serving_findings(folder, gguf=gguf)
    assert found.code == "gguf_ids" and "4 of 4" in found.evidence


def test_the_commands_survive_a_shell(tmp_path):
    import shlex

    merged, adapter = tmp_path / "my model", tmp_path / "my adapter"
    for folder, name, values in (
        (merged, "config.json", {"max_position_embeddings": 512}),
        (adapter, "adapter_config.json", {"r": 24, "base_model_name_or_path": "someone/base"}),
    ):
        folder.mkdir()
        (folder / name).write_text(json.dumps(values))
    whole, lora = vllm_commands("it's mine", merged=merged, adapter=adapter)
    assert shlex.split(whole)[:3] == ["vllm", "serve", str(merged)]
    words = shlex.split(lora)
    assert f"it's mine={adapter}" in words and words[words.index("--max-lora-rank") + 1] == "32"


# --- Ollama's template ---------------------------------------------------------------------------

TEMPLATES = {
    "chatml": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "default system": "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind."
    "<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "brackets": "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'system' %}<<SYS>>{{ m.content }}<</SYS>>"
    "{% else %} {{ m.content }}<|im_end|>{% endif %}{% endfor %}",
}


def go(template: str, messages: list[dict]) -> str:
    """The part of Go's language that is used here, by way of Jinja."""
    from jinja2 import Environment

    for old, new in {
        '{{ if ne (index .Messages 0).Role "system" }}': "{% if M[0].role != 'system' %}",
        "{{ range .Messages }}": "{% for m in M %}", "{{ .Content }}": "{{ m.content }}",
        "{{ if eq .Role": "{% if m.role ==", "{{ else if eq .Role": "{% elif m.role ==",
        '" }}': '" %}',
    }.items():  # fmt: skip
        template = template.replace(old, new)
    parts = template.split("{{ end }}")
    closes = ["{% endif %}"] * (len(parts) - 3) + ["{% endif %}", "{% endfor %}"]
    text = "".join(p + c for p, c in zip(parts, [*closes, ""], strict=True))
    return Environment(keep_trailing_newline=True).from_string(text).render(M=messages)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_ollamas_template_writes_what_the_chat_template_writes(base, template):
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = template
    ours = go_template(tokenizer)
    for messages in CONVERSATIONS:
        wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert go(ours, messages) == wanted


def test_a_template_that_is_more_than_text_around_messages_gets_none(base):
    tokenizer = AutoTokenizer.from_pretrained(base)
    # The system message inside the first user turn, as Llama 2 has it.
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"
        "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}"
        "[{{ s if loop.first else '' }}{{ m.content }}]<|im_end|>{% endfor %}"
    )
    assert go_template(tokenizer) is None
    text = modelfile(Path("a/model.gguf"), tokenizer)
    assert text.startswith("FROM ./model.gguf\n# No TEMPLATE")
    assert 'PARAMETER stop "<|im_end|>"' in text
