import json
import math
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_model import build_adapter, build_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from postlab.models import (
    bases,
    export,
    float32_adapters,
    load_policy,
    loadable_adapter,
    merging,
    resolve_base,
    tiny_base,
    trainable,
)
from postlab.models import loading as models
from postlab.models.bases import CorruptWeights, check_weights, repair_adapter

PROMPTS = ("What is 3 + 4?", "Sort 3, 1, 2.", "I do not know.")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("base") / "model", hidden=64)


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory) -> Path:
    return build_adapter(base, tmp_path_factory.mktemp("adapter") / "sft")


@pytest.fixture
def copied(adapter, tmp_path) -> Path:
    return Path(shutil.copytree(adapter, tmp_path / "sft"))


def logits_of(model, tokenizer, text: str = "What is 3 + 4?") -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits


def point_at(folder: Path, base: str | None) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
    return path


# --- weights -------------------------------------------------------------------------------------


def test_whole_weights_pass(base, adapter):
    assert check_weights(base) == base
    assert check_weights(str(adapter)) == adapter


def damage(folder: Path, change) -> Path:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize("lost", [1, 1000, 10_000])
def test_truncated_weights_name_file_sizes_and_cure(copied, lost):
    path = copied / "adapter_model.safetensors"
    size = path.stat().st_size
    damage(copied, lambda data: data[:-lost])
    with pytest.raises(CorruptWeights) as caught:
        check_weights(copied, remake="run `make week N=03`")
    assert str(path) in str(caught.value) and "run `make week N=03`" in str(caught.value)
    assert f"expected {size:,} bytes, got {size - lost:,} bytes" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[:40],
        lambda data: b"\xff" * 1000,
        lambda data: data + b"more",
        lambda data: data[:8] + b"x" + data[9:],
        lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    ],
    ids=["empty", "5 bytes", "cut header", "garbage", "too long", "bad header", "lfs pointer"],
)
def test_damaged_weights_are_found(copied, change):
    path = damage(copied, change)
    with pytest.raises(CorruptWeights, match="is damaged") as caught:
        check_weights(copied)
    assert str(path) in str(caught.value)


def test_no_weights_and_pickles_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle could run anything")
    with pytest.raises(CorruptWeights, match="expected model.safetensors"):
        check_weights(tmp_path)


def test_a_missing_shard_is_found(base, tmp_path):
    folder = Path(shutil.copytree(base, tmp_path / "sharded"))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(CorruptWeights, match="00002-of-00002.safetensors.*found none"):
        check_weights(folder)


# --- bases ---------------------------------------------------------------------------------------


@pytest.fixture
def embedded(base, tmp_path, monkeypatch) -> Path:
    """Embedded data somewhere else, with a base model in it."""
    monkeypatch.setattr(bases, "data_dir", lambda: tmp_path / "data")
    return Path(shutil.copytree(base, tmp_path / "data" / "tiny-base"))


def test_embedded_base_is_found_or_says_how_to_get_it_back(embedded):
    assert tiny_base() == embedded
    (embedded / "model.safetensors").unlink()
    with pytest.raises(CorruptWeights, match="git checkout -- data/tiny-base"):
        tiny_base()


@pytest.mark.parametrize("name", ["", "tiny-base", "/an/older/clone/data/tiny-base"])
def test_names_of_the_embedded_base(embedded, name):
    assert resolve_base(name) == str(embedded)


def test_other_names(embedded, base, monkeypatch):
    monkeypatch.setattr(bases, "smol_base", lambda: Path("/cache/smol"))
    assert resolve_base("smol") == "/cache/smol"
    assert resolve_base("/gone/cache/smollm2-135m-instruct") == "/cache/smol"
    assert resolve_base(str(base)) == str(base)
    assert resolve_base("unsloth/Qwen2.5-1.5B-bnb-4bit") == "unsloth/Qwen2.5-1.5B-bnb-4bit"
    for wrong in ("tinny-base", "/no/such/folder", "a/b/c", "?"):
        with pytest.raises(ValueError, match="no base model"):
            resolve_base(wrong)


@pytest.mark.parametrize("recorded", ["tiny-base", "/an/older/clone/data/tiny-base"])
def test_moved_adapter_is_pointed_at_its_base(copied, embedded, recorded):
    path = point_at(copied, recorded)
    before = json.loads(path.read_text())
    assert repair_adapter(copied) == str(embedded)
    after = json.loads(path.read_text())
    assert after == before | {"base_model_name_or_path": str(embedded)}
    assert not list(copied.glob(".*"))
    assert loadable_adapter(copied) == copied


def test_an_adapter_in_a_read_only_folder_is_loaded_through_links(
    copied, embedded, tmp_path, read_only, monkeypatch
):
    """Its config names a base of another clone, and must not be mended in place."""
    monkeypatch.setenv("POSTLAB_CACHE", str(tmp_path / "cache"))
    path = point_at(copied, "/an/older/clone/data/tiny-base")
    before = path.read_bytes()
    read_only(copied)
    linked = loadable_adapter(copied)
    assert linked.is_relative_to(tmp_path / "cache") and linked == loadable_adapter(copied)
    assert repair_adapter(linked) == repair_adapter(copied) == str(embedded)
    assert path.read_bytes() == before
    config = json.loads((linked / "adapter_config.json").read_text())
    assert config == json.loads(before) | {"base_model_name_or_path": str(embedded)}
    policies = [load_policy(folder, profile="tiny") for folder in (linked, copied)]
    assert torch.equal(logits_of(*policies[0]), logits_of(*policies[1]))


def test_sound_adapter_is_left_alone(copied, base):
    path = copied / "adapter_config.json"
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert repair_adapter(copied) == str(base)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, stamp)


@pytest.mark.parametrize("recorded", ["/gone/llama", None])
def test_adapter_without_its_base_says_what_to_write_where(copied, recorded):
    path = point_at(copied, recorded)
    with pytest.raises(ValueError, match="which is not on this machine") as caught:
        repair_adapter(copied)
    assert str(path) in str(caught.value) and repr(recorded) in str(caught.value)


def test_damaged_adapter_config(copied):
    (copied / "adapter_config.json").write_text('{"r": 4')
    with pytest.raises(CorruptWeights, match="adapter_config.json is damaged"):
        repair_adapter(copied)


# --- load_policy ---------------------------------------------------------------------------------


def test_a_base_answers_as_transformers_loads_it(base):
    policy, tokenizer = load_policy(base, profile="tiny")
    plain = AutoModelForCausalLM.from_pretrained(base)
    assert torch.equal(logits_of(policy, tokenizer), logits_of(plain, tokenizer))
    assert policy.lm_head.weight is policy.model.embed_tokens.weight
    assert policy.dtype == torch.float32
    assert not policy.training and not any(p.requires_grad for p in policy.parameters())
    assert tokenizer.padding_side == "left" and tokenizer.pad_token == "<|pad|>"


def test_an_adapter_answers_as_base_plus_low_rank(base, adapter):
    policy, tokenizer = load_policy(adapter, profile="tiny")
    assert not any(p.requires_grad for p in policy.parameters())
    layer = policy.base_model.model.model.layers[0].mlp.up_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(3, 64)
    by_hand = x @ layer.base_layer.weight.T + 8 / 4 * (x @ a.T @ b.T)
    torch.testing.assert_close(layer(x), by_hand, atol=1e-5, rtol=1e-5)
    bare, _ = load_policy(base, profile="tiny")
    with policy.disable_adapter():
        assert torch.equal(logits_of(policy, tokenizer), logits_of(bare, tokenizer))
    assert not torch.allclose(logits_of(policy, tokenizer), logits_of(bare, tokenizer), atol=1e-2)


def test_a_loaded_adapter_is_made_trainable_and_nothing_else(adapter):
    policy, _ = load_policy(adapter, profile="tiny")
    assert not any(p.requires_grad for p in policy.parameters())
    assert trainable(policy) is policy and not policy.training
    learns = {name for name, p in policy.named_parameters() if p.requires_grad}
    assert learns == {name for name, _ in policy.named_parameters() if "lora_" in name} != set()


def test_four_bits_quantize_the_projections_and_nothing_else(base):
    policy, tokenizer = load_policy(base, profile="tiny", bits=4)
    kinds = {name.rsplit(".")[-1]: type(m).__name__ for name, m in policy.named_modules()}
    assert kinds["up_proj"] == kinds["q_proj"] == "Linear4bit" and kinds["lm_head"] == "Linear"
    exact, _ = load_policy(base, profile="tiny")
    difference = (logits_of(policy, tokenizer) - logits_of(exact, tokenizer)).abs().max()
    assert 0 < difference < 0.5


def test_ready_made_four_bit_weights_compute_in_the_profiles_precision(base, tmp_path):
    """They ask for bfloat16, which a T4 emulates."""
    place = tmp_path / "made-bnb-4bit"
    ready = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
    AutoModelForCausalLM.from_pretrained(base, quantization_config=ready).save_pretrained(place)
    AutoTokenizer.from_pretrained(base).save_pretrained(place)
    policy, _ = load_policy(place, profile="smol")
    layers = [m for m in policy.modules() if type(m).__name__ == "Linear4bit"]
    assert layers and {layer.compute_dtype for layer in layers} == {torch.float32}


def test_profile_decides_the_bits(base):
    assert load_policy(base, profile="rented")[0].is_loaded_in_4bit
    assert load_policy(base, profile="smol")[0].dtype == torch.float32
    assert load_policy(base, profile="smol", bits=16)[0].dtype == torch.bfloat16
    with pytest.raises(ValueError, match="bits=3; expected 4, 16, 32"):
        load_policy(base, profile="tiny", bits=3)


def test_ready_made_four_bit_weights_are_not_asked_for_in_16_bits():
    assert models.unquantized("unsloth/Qwen2.5-7B-bnb-4bit") == "unsloth/Qwen2.5-7B"
    assert models.unquantized("unsloth/Qwen2.5-7B-unsloth-bnb-4bit") == "unsloth/Qwen2.5-7B"


def test_truncated_weights_are_caught_before_loading(base, adapter, tmp_path):
    folder = Path(shutil.copytree(base, tmp_path / "cut"))
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptWeights, match="model.safetensors is damaged"):
        load_policy(folder, profile="tiny")
    broken = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    point_at(broken, str(folder))
    with pytest.raises(CorruptWeights, match="cut/model.safetensors is damaged"):
        load_policy(broken, profile="tiny")


# --- adapters and export -------------------------------------------------------------------------


def test_only_the_wrapper_of_a_quantized_base_forgets_its_bits(adapter, base):
    policy, _ = load_policy(adapter, profile="tiny", bits=4)
    assert policy.is_loaded_in_4bit
    assert float32_adapters(policy) is policy
    assert not policy.is_loaded_in_4bit and policy.get_base_model().is_loaded_in_4bit
    bare, _ = load_policy(base, profile="tiny", bits=4)
    assert float32_adapters(bare).is_loaded_in_4bit


def test_export_of_a_float32_base_changes_nothing(adapter, base, tmp_path):
    report = export(adapter, to=tmp_path / "out" / "merged", profile="tiny", prompts=PROMPTS)
    assert report.folder == tmp_path / "out" / "merged"
    assert (report.base, report.bits, report.prompts) == (str(base), 32, 3)
    assert report.largest_logit_difference < 1e-4
    assert report.changed == ()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["merged"]
    merged = AutoModelForCausalLM.from_pretrained(report.folder)
    policy, tokenizer = load_policy(adapter, profile="tiny")
    torch.testing.assert_close(
        logits_of(merged, tokenizer), logits_of(policy, tokenizer), atol=1e-4, rtol=1e-4
    )
    assert AutoTokenizer.from_pretrained(report.folder).chat_template == tokenizer.chat_template


def test_export_from_four_bits_reports_what_changed(adapter, tmp_path):
    report = export(adapter, to=tmp_path / "merged", profile="tiny", bits=4, prompts=PROMPTS)
    assert report.bits == 4
    assert report.largest_logit_difference > 1e-3  # it was trained on the rounded base
    exact, _ = load_policy(adapter, profile="tiny")
    merged, tokenizer = load_policy(report.folder, profile="tiny")
    torch.testing.assert_close(  # and merged into the base as it was before rounding
        logits_of(merged, tokenizer), logits_of(exact, tokenizer), atol=1e-4, rtol=1e-4
    )
    for prompt, before, after in report.changed:
        assert prompt in PROMPTS and before != after


ATTENTION = {"target_modules": ["q_proj", "v_proj"]}
BY_FILE = {
    "all linear layers": {"target_modules": "all-linear"},
    "rank and alpha patterns": {"target_modules": "all-linear"}
    | {"rank_pattern": {"up_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 3}},
    "rslora": ATTENTION | {"use_rslora": True},
    "a bias that the base has not": ATTENTION | {"bias": "lora_only"},
    "chosen layers": ATTENTION | {"layers_to_transform": [1]},
}
WHOLE = {
    "dora": ATTENTION | {"use_dora": True},
    "modules to save": ATTENTION | {"modules_to_save": ["embed_tokens"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", (BY_FILE | WHOLE).values(), ids=BY_FILE | WHOLE)
def test_a_merge_by_file_is_pefts_merge_bit_for_bit(base, tmp_path, monkeypatch, settings, dtype):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    model.save_pretrained(tmp_path / "base", max_shard_size="100KB")  # many files, a tied head
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="auto")
    torch.manual_seed(1)
    config = LoraConfig(
        r=4, lora_alpha=8, task_type="CAUSAL_LM", init_lora_weights=False, **settings
    )
    get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="auto")
    peft = PeftModel.from_pretrained(model, tmp_path / "adapter").merge_and_unload(safe_merge=True)
    peft.save_pretrained(tmp_path / "peft")

    monkeypatch.setattr(merging, "SHARD", 150_000)
    ways = []
    whole = merging._merge_whole
    monkeypatch.setattr(merging, "_merge_whole", lambda *a, **k: ways.append(1) or whole(*a, **k))
    (tmp_path / "ours").mkdir()
    with warnings.catch_warnings(action="ignore" if settings in WHOLE.values() else "error"):
        merging.merge(tmp_path / "adapter", base=str(tmp_path / "base"), to=tmp_path / "ours")
    assert bool(ways) is (settings in WHOLE.values())
    check_weights(tmp_path / "ours")
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype="auto")
    wanted = peft.state_dict()
    assert ours.state_dict().keys() == wanted.keys() and ours.dtype == dtype
    assert all(torch.equal(value, wanted[name]) for name, value in ours.state_dict().items())
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "ours" / name).read_text()) == json.loads(
            (tmp_path / "peft" / name).read_text()
        )
    if not ways:
        assert len(list((tmp_path / "ours").glob("*.safetensors"))) > 1


def test_export_says_what_it_needs_and_goes_as_far_as_memory_allows(
    adapter, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(merging, "OVERHEAD", 2**30)
    monkeypatch.setattr(merging, "free_bytes", lambda device: 2**29)
    with pytest.raises(MemoryError, match="Merging needs 1.0 GiB of memory, but 0.5 GiB are free"):
        export(adapter, to=tmp_path / "merged", profile="tiny")
    assert not list(tmp_path.glob("*merged*"))
    monkeypatch.setattr(merging, "_check_fits", lambda needed: None)
    report = export(adapter, to=tmp_path / "merged", profile="tiny")
    assert report.prompts == 0 and math.isnan(report.largest_logit_difference)
    lines = capsys.readouterr().out
    assert "needs 1.0 GiB of memory; 0.5 GiB are free, so the merge will not be measured" in lines
    load_policy(report.folder, profile="tiny")


def test_the_memory_of_a_model_is_what_its_tensors_take(base):
    policy, _ = load_policy(base, profile="tiny")
    outline = merging.skeleton(str(base))
    assert {p.device.type for p in outline.parameters()} == {"meta"}
    stored = merging.model_bytes(outline, bits=32, element=4) - merging.OVERHEAD
    assert stored == sum(p.numel() * p.element_size() for p in policy.parameters())
    four, _ = load_policy(base, profile="tiny", bits=4)
    stored = merging.model_bytes(outline, bits=4, element=4) - merging.OVERHEAD
    assert stored == pytest.approx(four.get_memory_footprint(), rel=0.05)


def test_export_refuses_what_it_cannot_merge_or_would_overwrite(adapter, base, tmp_path):
    with pytest.raises(ValueError, match="no adapter_config.json"):
        export(base, to=tmp_path / "merged")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ValueError, match="taken exists"):
        export(adapter, to=tmp_path / "taken")
