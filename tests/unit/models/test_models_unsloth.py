"""Every Unsloth call of every profile, against the installed Unsloth.

Its CPU functions swallow unknown keywords, so names are compared with the signatures of its GPU
functions too, read from the source: importing those needs a GPU.
"""

import os

os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import ast
import inspect
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from unsloth import FastLanguageModel

# Unsloth comes before the others.
from datasets import Dataset  # isort: skip
from tiny_model import build_tiny  # isort: skip
from trl import DPOConfig, DPOTrainer  # isort: skip

from postlab.models import float32_adapters, load_policy
from postlab.profile import PROFILES

NAMES = list(PROFILES)


def from_pretrained_arguments(profile) -> dict:
    return dict(
        max_seq_length=profile.max_length, dtype=profile.dtype, load_in_4bit=profile.load_in_4bit,
        use_gradient_checkpointing=profile.lora["use_gradient_checkpointing"],
    )  # fmt: skip


def gpu_arguments(file: str, owner: str, function: str) -> set[str]:
    """Names of the arguments of one of Unsloth's GPU functions."""
    path = Path(find_spec("unsloth").submodule_search_locations[0]) / file
    body = ast.parse(path.read_text()).body
    if owner:
        body = next(n.body for n in body if isinstance(n, ast.ClassDef) and n.name == owner)
    found = next(n for n in body if isinstance(n, ast.FunctionDef) and n.name == function)
    return {a.arg for a in [*found.args.args, *found.args.kwonlyargs]}


def cpu_arguments(function) -> set[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds}


@pytest.mark.parametrize("name", NAMES)
def test_from_pretrained_takes_the_profiles_arguments(name):
    wanted = {"model_name", *from_pretrained_arguments(PROFILES[name])}
    assert wanted <= gpu_arguments("models/loader.py", "FastLanguageModel", "from_pretrained")
    assert wanted <= cpu_arguments(FastLanguageModel.from_pretrained)


@pytest.mark.parametrize("name", NAMES)
def test_get_peft_model_takes_the_profiles_arguments(name):
    wanted = {"model", "random_state", *PROFILES[name].lora}
    assert wanted <= gpu_arguments("models/llama.py", "FastLlamaModel", "get_peft_model")
    assert wanted <= cpu_arguments(FastLanguageModel.get_peft_model)


def test_chat_templates_are_known():
    file = "chat_templates.py"
    assert {"tokenizer", "chat_template"} <= gpu_arguments(file, "", "get_chat_template")
    source = (Path(find_spec("unsloth").submodule_search_locations[0]) / file).read_text()
    for name in {p.chat_template for p in PROFILES.values()} - {None}:
        assert f'CHAT_TEMPLATES["{name}"]' in source


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("base") / "model", hidden=64)


def with_adapter(base, name, *, four_bits=False):
    profile = replace(PROFILES[name], load_in_4bit=four_bits)
    model, tokenizer = FastLanguageModel.from_pretrained(
        str(base), **from_pretrained_arguments(profile)
    )
    torch.manual_seed(0)
    model = FastLanguageModel.get_peft_model(model, **profile.lora, random_state=0)
    with torch.no_grad():  # as if it had been trained: a fresh B is zero
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(std=0.05)
    return model, tokenizer


@pytest.mark.parametrize("four_bits", [False, True])
def test_an_adapter_says_the_same_without_unsloth(base, tmp_path, four_bits):
    model, tokenizer = with_adapter(base, "smol", four_bits=four_bits)
    assert not model.is_gradient_checkpointing
    trained = [key for key, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 7 * 2 and all("lora_" in key for key in trained)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy, plain = load_policy(tmp_path, profile="smol", bits=4 if four_bits else 32)
    ids = tokenizer("What is 3 + 4?", return_tensors="pt")
    assert plain("What is 3 + 4?")["input_ids"] == ids["input_ids"][0].tolist()
    with torch.no_grad():
        ours, theirs = policy(**ids).logits, model.eval()(**ids).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_an_adapter_folder_goes_on_training(base, tmp_path):
    model, tokenizer = with_adapter(base, "tiny")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    profile = PROFILES["tiny"]
    again, _ = FastLanguageModel.from_pretrained(
        str(tmp_path), **from_pretrained_arguments(profile)
    )
    again = FastLanguageModel.get_peft_model(again, **profile.lora, random_state=0)
    assert again.training and not again.is_gradient_checkpointing
    saved = dict(model.named_parameters())
    trained = {key: p for key, p in again.named_parameters() if p.requires_grad}
    assert len(trained) == 28
    assert all(torch.equal(p, saved[key]) for key, p in trained.items())


def dpo_trainer(model, tokenizer, folder):
    row = {
        "prompt": [{"role": "user", "content": "What is 3 + 4?"}],
        "chosen": [{"role": "assistant", "content": "The answer is 7."}],
        "rejected": [{"role": "assistant", "content": "I do not know."}],
    }
    arguments = PROFILES["smol"].dpo.trainer | dict(
        loss_type=["sigmoid"], loss_weights=None, per_device_train_batch_size=2, logging_steps=1,
        max_steps=1, gradient_accumulation_steps=1, warmup_steps=0, save_strategy="no",
    )  # fmt: skip
    return DPOTrainer(
        model=model, processing_class=tokenizer, train_dataset=Dataset.from_list([row, row]),
        args=DPOConfig(output_dir=str(folder), seed=0, **arguments),
    )  # fmt: skip


def trained_dtypes(model) -> set:
    return {p.dtype for p in model.parameters() if p.requires_grad}


def test_trl_still_rounds_the_adapters_of_four_bit_models(base, tmp_path):
    trainer = dpo_trainer(*with_adapter(base, "smol", four_bits=True), tmp_path)
    # If this fails, TRL or Unsloth has changed, and float32_adapters is no longer needed.
    assert trained_dtypes(trainer.model) == {torch.bfloat16}


def test_dpo_on_four_bits_starts_at_its_reference_and_stays_in_float32(base, tmp_path):
    model, tokenizer = with_adapter(base, "smol", four_bits=True)
    trainer = dpo_trainer(float32_adapters(model), tokenizer, tmp_path)
    assert trained_dtypes(trainer.model) == {torch.float32}
    before = {key: p.detach().clone() for key, p in trainer.model.named_parameters()}
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["loss"] == pytest.approx(0.693147, abs=1e-6)  # ln 2: no margin yet
    assert first["rewards/margins"] == 0
    assert trained_dtypes(trainer.model) == {torch.float32}
    moved = {key for key, p in trainer.model.named_parameters() if not torch.equal(p, before[key])}
    assert len(moved) == 28 and all(".default." in key for key in moved)  # the reference stays
