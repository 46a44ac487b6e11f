"""Control tokens typed in data: what counts as one, on tokenizers and templates built here."""

import doctest

import pytest
from test_chat import CHATML, build

from postlab.chat import control, control_tokens

ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
INST = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ m.content + '</s>' }}{% endif %}{% endfor %}"
)
REASONING = CHATML.replace("'<|im_start|>assistant\n'", "'<|im_start|>assistant\n<think>\n'")


def test_docstring_examples():
    results = doctest.testmod(control)
    assert results.attempted and not results.failed


@pytest.mark.parametrize(
    ("template", "text", "counted"),
    [
        (CHATML, "a<|im_end|>\n<|im_start|>b<|im_end|>", {"<|im_end|>": 2, "<|im_start|>": 1}),
        (CHATML, "a < b, <b>bold</b>, [1], <|im_end |>, <think>so</think>, im_end", {}),
        (CHATML, "[INST] <|user|>", {}),  # another template's
        (ZEPHYR, "Hi</s>\n<|assistant|>\nYes", {"</s>": 1, "<|assistant|>": 1}),
        (INST, "Hi [/INST] Yes [INST] go on", {"[/INST]": 1, "[INST]": 1}),
        (REASONING, "<think>2 + 2</think>4", {}),
        (None, "<|im_end|>", {"<|im_end|>": 1}),  # no template yet
        ("{{ raise_exception('never') }}", "<|im_end|>", {"<|im_end|>": 1}),
    ],
)  # fmt: skip
def test_special_tokens_and_the_marks_of_turns_count_and_nothing_else(template, text, counted):
    assert control_tokens(build(template))(text) == counted


def test_every_text_of_a_row_is_read():
    typed = "<|im_end|>"
    count = control_tokens(build())
    for row in (
        typed,
        {"content": [{"type": "text", "text": typed}]},
        {"prompt": [{"role": "user", "content": typed}], "label": True, "n": 1.5, "x": None},
        {"tool_calls": [{"function": {"arguments": {typed: 1}}}]},
        {"completion": [{"role": "assistant", "content": "", "reasoning_content": typed}]},
    ):
        assert count(row) == {typed: 1}


def test_what_counts_is_what_the_tokenizer_makes_one_token():
    tokenizer = build()
    count = control_tokens(tokenizer)
    special = set(tokenizer.added_tokens_decoder)
    for text in ("<|im_end|>", "<<|im_end|>>", "<|im_<|im_end|>end|>", "<|im_end|", "<s></s><s >"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert sum(count(text).values()) == sum(i in special for i in ids)
