"""The token view: what it marks, what is left without its colours, and what it does to bad text."""

from __future__ import annotations

import doctest
import re
from html.parser import HTMLParser

import pytest
import torch
from test_chat import build, row
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from postlab import chat
from postlab.chat import encode, token_view, visible
from postlab.chat import view as tokenview

# Left alone by GitHub's sanitiser and by JupyterLab's; GitHub takes `style` away.
TAGS = {"b", "bdo", "div", "i", "mark", "pre", "span"}
ATTRIBUTES = {"dir", "style", "title"}


class Reader(HTMLParser):
    """What a browser makes of a view: tags, attributes, text, and the text inside marks."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text, self.marked = "", []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "mark":
            self.marked.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "mark" in self.open:
            self.marked[-1] += data


def words_tokenizer(*words):
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*words, "end", "pad"))}))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="end", pad_token="pad")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + ' end ' }}{% endfor %}"
    return tokenizer


def body(view):
    """The lines of a plain view without its key and counts."""
    lines = repr(view).splitlines()[1:]
    return [line for line in lines if line and not re.match(r"row \d+: |\d+ more row", line)]


def test_docstring_examples():
    result = doctest.testmod(tokenview)
    assert result.attempted and not result.failed


def test_it_is_reached_through_chat_too():
    assert chat.token_view is token_view


def test_trained_tokens_are_the_ones_that_encode_trains():
    tokenizer = build()
    rows = [row("2 + 3?", "5"), row("And 6 + 7?", "13")]
    batch = encode(rows, tokenizer, max_length=64)
    expected = [
        visible(tokenizer.decode([i]))
        for ids, mask in zip(batch["input_ids"], batch["loss_mask"], strict=True)
        for i in ids[mask.bool()].tolist()
    ]
    view = token_view(rows, tokenizer, max_length=64)
    assert Reader(view._repr_html_()).marked == ["trained", *expected]
    assert re.findall(r"\[(.+?)\]", "\n".join(body(view))) == expected
    assert expected[:3] == ["5", "<|im_end|>", "↵"]


def test_without_styles_the_marks_still_say_it():
    view = token_view([row("2 + 3?", "5")], build(), max_length=64)
    bare = re.sub(r' style="[^"]*"', "", view._repr_html_())
    assert "style" not in bare and '<b><mark title="id' in bare
    assert Reader(bare).marked == ["trained", "5", "<|im_end|>", "↵"]


def test_only_tags_and_attributes_that_survive_everywhere():
    view = token_view([row("<b>שלום</b> é", "5")], build(), max_length=128)
    read = Reader(view._repr_html_())
    assert read.tags <= TAGS and {name for name, _ in read.attributes} <= ATTRIBUTES
    assert "<style" not in view._repr_html_() and "class=" not in view._repr_html_()


def test_blanks_line_breaks_and_special_tokens_are_visible():
    view = token_view([row("a b\tc\n", "5")], build(), max_length=64)
    assert body(view) == [
        "<|im_start|> u s e r ↵",
        "a · b → c ↵",
        "<|im_end|> ↵",
        "<|im_start|> a s s i s t a n t ↵",
        "[5] [<|im_end|>] [↵]",
    ]


def test_bos_is_shown():
    tokenizer = build("{{ '<s>' }}" + build().chat_template, bos="<s>")
    assert body(token_view([row("a", "5")], tokenizer, max_length=64))[0].startswith("<s> <|im_s")


def test_counts_leave_padding_out_and_say_so():
    view = token_view([row("2 + 3?", "5"), row("2 + 3?", "five")], build(), max_length=64)
    text = repr(view)
    assert "row 0: 3 of 28 tokens are trained (11%), and 3 of padding" in text
    assert "row 1: 6 of 31 tokens are trained (19%)\n" in text
    assert "<|pad|>×3" in text and text in repr(view)
    assert "<|pad|>×3" in Reader(view._repr_html_()).text
    assert "row 0: 3 of 28 tokens are trained" in Reader(view._repr_html_()).text


def test_ids_are_in_the_title():
    tokenizer = build()
    view = token_view([row("2", "5")], tokenizer, max_length=64)
    titles = [value for name, value in Reader(view._repr_html_()).attributes if name == "title"]
    ids = encode([row("2", "5")], tokenizer, max_length=64)["input_ids"][0].tolist()
    assert titles == [f"id {i}" for i in ids]


def test_limit_and_what_it_leaves_out():
    rows = [row("2", "5")] * 3
    assert len(token_view(rows, build(), max_length=64, limit=1).rows) == 1
    assert repr(token_view(rows, build(), max_length=64, limit=1)).endswith(
        "2 more rows are not shown"
    )
    assert repr(token_view(rows, build(), max_length=64, limit=2)).endswith(
        "1 more row is not shown"
    )
    assert "not shown" not in repr(token_view(rows, build(), max_length=64, limit=3))
    with pytest.raises(ValueError, match="limit must be a positive number of rows, got 0"):
        token_view(rows, build(), max_length=64, limit=0)


def test_another_mask_can_be_shown():
    tokenizer = build()
    rows = [row("2", "5"), row("3", "6")]
    mask = encode(rows, tokenizer, max_length=64)["attention_mask"]
    shown = token_view(rows, tokenizer, max_length=64, loss_mask=mask)
    assert "row 1: 23 of 23 tokens are trained (100%)" in repr(shown)
    assert token_view(rows, tokenizer, max_length=64, loss_mask=mask.tolist()) == shown
    with pytest.raises(ValueError, match=r"shape of the rows' ids, \(2, 23\), got rows of \[22\]"):
        token_view(rows, tokenizer, max_length=64, loss_mask=mask[:, :-1])
    with pytest.raises(ValueError, match=r"\(2, 23\), got rows of \[23\] tokens \(1 of them\)"):
        token_view(rows, tokenizer, max_length=64, loss_mask=mask[:1])


def test_encodes_errors_are_handed_on():
    with pytest.raises(ValueError, match=r"rows\[0\] has no field 'completion'"):
        token_view([{"prompt": row("a", "b")["prompt"]}], build(), max_length=64)


def test_it_is_deterministic():
    rows = [row("2 + 3?", "5"), row("2 + 3?", "five")]
    views = [token_view(rows, build(), max_length=64) for _ in range(2)]
    assert views[0] == views[1] and repr(views[0]) == repr(views[1])
    assert views[0]._repr_html_() == views[1]._repr_html_()


HOSTILE = [
    "<script>alert(1)</script>",
    '"onmouseover="alert(1)',
    "'onload='alert(1)",
    "<img/src=x/onerror=alert(1)>",
    "</pre></mark><style>*{display:none}</style>",
    "&lt;b&gt;&amp;",
    "<!--",
    "$\\alpha$",
    "\x1b[31mred\x1b[0m",
    "\x07\x08\x7f\x9b31m",
    "\u202edetrever\u202c",
    "\u2066\u2069\u200f",
    "\u200b\u200d\ufeff",
    "\u0301",
    "שלום",
    "\U000e0041",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text):
    """As one token of the vocabulary, and as bytes of a prompt and a reply."""
    whole = token_view([row(text, text)], words_tokenizer(text), max_length=64)
    for view in (whole, token_view([row(text, text)], build(), max_length=512)):
        source = view._repr_html_()
        read = Reader(source)
        assert read.tags <= TAGS and {name for name, _ in read.attributes} <= ATTRIBUTES
        assert all(re.fullmatch(r"id \d+", v) for name, v in read.attributes if name == "title")
        assert not re.search(
            "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]",
            source + repr(view),
        )
    # Whole, it can be read: nothing but invisible characters has been replaced.
    assert f"[{visible(text)}]" in repr(whole) and visible(text) in Reader(whole._repr_html_()).text


def test_visible_replaces_what_cannot_be_seen():
    assert visible("a\x1b[1m\u202eb\u00a0c") == "a‹1B›[1m‹202E›b‹A0›c"
    assert visible("\u0301") == "◌\u0301"
    assert visible("שלום") == "שלום" and visible("😀") == "😀"


def test_text_from_right_to_left_does_not_move_its_neighbours():
    view = token_view([row("שלום", "5")], words_tokenizer("שלום", "5"), max_length=64)
    assert '<bdo dir="ltr">שלום</bdo>' in view._repr_html_()


def test_a_token_of_a_megabyte_is_cut():
    long = "x" * 1_000_000
    view = token_view([row(long, long)], words_tokenizer(long), max_length=64)
    assert len(view._repr_html_()) < 3_000 and len(repr(view)) < 1_000
    assert "x…(+999,960 characters)" in repr(view)


def test_a_row_of_thousands_of_tokens_is_shown_in_part():
    rows = [row("2", "abc" * 1_000)]
    view = token_view(rows, build(), max_length=4_096)
    assert "3002 of 3022 tokens are trained (99%)" in repr(view)
    assert "… 2622 tokens, 2622 of them trained …" in repr(view)
    assert len(view._repr_html_()) < 100_000
    assert max(map(len, repr(view).splitlines())) <= 100


def test_half_a_character_is_spelled_as_the_vocabulary_has_it():
    view = token_view([row("é", "5")], build(), max_length=64)
    assert "Ã ©" in repr(view)


def test_sentencepiece_blanks_are_kept():
    tokenizer = words_tokenizer("\u2581the", "5")
    view = token_view([row("\u2581the", "5")], tokenizer, max_length=64)
    assert body(view) == ["·the end [5] [end]"]


def test_it_needs_no_notebook():
    import subprocess
    import sys

    code = "import sys, postlab.chat; print({'IPython', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_mask_of_another_kind_is_read(tmp_path):
    batch = encode([row("2", "5")], build(), max_length=64)
    shown = token_view([row("2", "5")], build(), max_length=64, loss_mask=batch["loss_mask"].bool())
    assert shown == token_view([row("2", "5")], build(), max_length=64)
    assert isinstance(batch["loss_mask"], torch.Tensor)
