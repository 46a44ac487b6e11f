"""Whether a handed-over folder can be served, and the commands and files that serve it.

`serving_findings` reads configurations and metadata only: it names what makes vLLM, llama.cpp or
Ollama refuse a folder, or answer otherwise than the model that was evaluated. Nothing is started,
and neither vLLM nor llama.cpp has to be installed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from postlab.chat import end_of_turn_id
from postlab.doctor import Finding
from postlab.models import TRANSFORMERS_5_ONLY

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's --max-lora-rank may be
NOT_ADAPTED = {"modules_to_save": None, "use_dora": False, "bias": "none"}
SAYS = ("What is 2 + 3?", "It's 5.", "And 2 + 4? Answer briefly.", "You answer in one sentence.")
ROLES = ("user", "assistant", "user", "system")
TURN, REPLY, SECOND, SYSTEM = (
    {"role": role, "content": text} for role, text in zip(ROLES, SAYS, strict=True)
)
CONVERSATIONS = ([TURN], [SYSTEM, TURN], [TURN, REPLY, SECOND], [SYSTEM, TURN, REPLY, SECOND])


def serving_findings(
    folder: str | Path,
    *,
    gguf: str | Path | None = None,
    prompts: Iterable[Sequence[dict[str, str]]] = (),
    max_lora_rank: int = 64,
) -> list[Finding]:
    """Name what keeps servers from serving a folder as it was evaluated.

    Args:
        folder: a merged model or an adapter, with its tokenizer.
        gguf: a GGUF file of the same model, whose metadata must give the same token ids.
        prompts: conversations to compare beside four built-in ones, such as those of a suite.
        max_lora_rank: the largest rank that the server is started for.
    Returns:
        Findings with code, severity, evidence, why and fix; empty if there are none.
    Raises:
        ValueError: if the folder holds neither config.json nor adapter_config.json.
    """
    from transformers import AutoTokenizer

    folder = Path(folder)
    config, adapter = _read(folder / "config.json"), _read(folder / "adapter_config.json")
    if not config and not adapter:
        raise ValueError(f"{folder} has no config.json and no adapter_config.json")
    findings = [*_files(folder), *_tokenizer_config(folder, config)]
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    end = end_of_turn_id(tokenizer) if tokenizer.chat_template else None
    if end is None:
        findings.append(_finding(
            "no_end_of_turn", "the chat template ends a reply with no special token",
            "a server keeps generating until the length limit",
            "give the tokenizer a chat template whose turns end with a special token",
        ))  # fmt: skip
    findings += _adapter(adapter, max_lora_rank) if adapter else _model(folder, config, end)
    if adapter and end not in (None, tokenizer.eos_token_id):
        findings.append(_finding(
            "eos_is_not_end_of_turn", f"eos is {tokenizer.eos_token!r}",
            "vLLM takes the stop token from the adapter's tokenizer, so replies don't end",
            f"send stop_token_ids=[{end}] with each request, or serve the merged model",
        ))  # fmt: skip
    if gguf is not None:
        findings += _same_ids(tokenizer, Path(gguf), end, [*CONVERSATIONS, *prompts])
    return findings


def _finding(
    code: str, evidence: str, why: str, fix: str, severity: Literal["error", "warning"] = "error"
) -> Finding:
    return Finding(code, severity, evidence, why, fix)


def _files(folder: Path) -> Iterable[Finding]:
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles:
        yield _finding(
            "pickle", f"{', '.join(pickles)}", "loading a pickle can run any code in it",
            "publish only safetensors, and delete these files",
        )  # fmt: skip
    if not list(folder.glob("*.safetensors")):
        yield _finding(
            "no_safetensors", f"{folder.name} has none", "servers find no weights they can trust",
            "save the model with save_pretrained, which writes safetensors",
        )  # fmt: skip


def _tokenizer_config(folder: Path, config: dict[str, Any]) -> Iterable[Finding]:
    own = _read(folder / "tokenizer_config.json")
    mend = "call postlab.models.make_servable(folder, tokenizer)"
    if own.get("tokenizer_class") in TRANSFORMERS_5_ONLY:
        yield _finding(
            "tokenizer_class", f"tokenizer_class is {own['tokenizer_class']}",
            "transformers 4, and vLLM built on it, don't know this class and stop", mend,
        )  # fmt: skip
    if isinstance(own.get("extra_special_tokens"), list):
        yield _finding(
            "extra_special_tokens", "extra_special_tokens is a list",
            "transformers 4 expects a mapping there and stops", mend,
        )  # fmt: skip
    longest = own.get("model_max_length")
    limit = config.get("max_position_embeddings")
    if limit and (not isinstance(longest, int) or not limit / 8 <= longest <= limit):
        yield _finding(
            "model_max_length", f"model_max_length is {longest}, the model has {limit} positions",
            "servers cut prompts there, or accept lengths that the model wasn't trained for", mend,
            "warning",
        )  # fmt: skip


def _model(folder: Path, config: dict[str, Any], end: int | None) -> Iterable[Finding]:
    mend = "call postlab.models.make_servable(folder, tokenizer)"
    ends = _read(folder / "generation_config.json").get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    if end is not None and end not in ends:
        yield _finding(
            "generation_eos", f"generation_config.json stops at {ends}, but a turn ends with {end}",
            "a server doesn't stop after the reply and writes the user's next turn", mend,
        )  # fmt: skip
    theta = (config.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None and config.get("rope_theta") != theta:
        yield _finding(
            "rope_theta", f"rope_theta is {theta:g} in rope_parameters only",
            "transformers 4 ignores it and uses 10,000, so the answers differ", mend,
            "warning" if theta == 10_000 else "error",
        )  # fmt: skip


def _adapter(config: dict[str, Any], max_lora_rank: int) -> Iterable[Finding]:
    merged = "serve the merged model instead"
    for name, plain in NOT_ADAPTED.items():
        if config.get(name) not in (plain, None, []):
            yield _finding(
                f"adapter_{name}", f"{name} is {config[name]!r}", "vLLM doesn't support this",
                merged,
            )  # fmt: skip
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        yield _finding(
            "adapter_patterns", "ranks or alphas differ between layers",
            "vLLM scales all layers by one lora_alpha / r", merged,
        )  # fmt: skip
    if config.get("r", 0) > max_lora_rank:
        yield _finding(
            "adapter_rank", f"r is {config['r']}, but the server's maximum is {max_lora_rank}",
            "vLLM refuses adapters with a higher rank",
            f"start it with --max-lora-rank {_rank(config['r'])}",
        )  # fmt: skip
    base = str(config.get("base_model_name_or_path") or "")
    if base.count("/") != 1 or Path(base).is_dir() or base.startswith((".", "/")):
        yield _finding(
            "adapter_base", "base_model_name_or_path isn't a Hub id",
            "no one else can find the base, and a path reveals details of your machine",
            "upload the base and write its id there, or publish the merged model, which needs no"
            " base", "warning",
        )  # fmt: skip


def _same_ids(
    tokenizer: Any, gguf: Path, end: int | None, conversations: Sequence[Any]
) -> Iterable[Finding]:
    """Whether the file's metadata turns conversations into the folder's token ids."""
    from postlab.models import gguf_tokenizer

    other = gguf_tokenizer(gguf)
    unlike, first = 0, ""
    for messages in conversations:
        wanted, got = _ids(tokenizer, messages, False), _ids(other, messages, other.add_bos_token)
        if wanted != got:
            unlike += 1
            first = first or f"; the first one: {messages[-1]['content'][:60]!r}"
    if unlike:
        yield _finding(
            "gguf_ids",
            f"{unlike} of {len(conversations)} conversations give different token ids{first}",
            "llama.cpp and Ollama tokenize the text differently than in training, so what was"
            " measured with the folder's tokenizer doesn't hold there",
            "serve the merged model, or train with a tokenizer whose pre-tokenizer llama.cpp knows",
        )  # fmt: skip
    if end is not None and other.eos_token_id != end:
        yield _finding(
            "gguf_eos",
            f"{gguf.name} ends at {other.eos_token!r}, but a turn ends with token {end}",
            "servers that only stop at eos keep generating",
            "set tokenizer.eos_token to the end-of-turn token before you export", "warning",
        )  # fmt: skip


def _ids(tokenizer: Any, messages: Any, add_bos: bool) -> list[int] | None:
    """Token ids of a conversation, ready to be answered; None if the template refuses it."""
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
    except Exception:  # what a template raises is its own
        return None
    if add_bos and tokenizer.bos_token:  # as llama.cpp does: it writes the BOS, once
        text = tokenizer.bos_token + text.removeprefix(tokenizer.bos_token)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def vllm_commands(
    name: str, *, merged: Path | None = None, adapter: Path | None = None
) -> list[str]:
    """The lines that start vLLM with a merged model, or with an adapter beside its base.

    Args:
        name: what clients ask for as `model`.
        merged, adapter: folders as they were written; one of them may be missing.
    """
    lines = []
    if merged is not None:
        limit = _read(merged / "config.json").get("max_position_embeddings")
        words = ["vllm", "serve", str(merged), "--served-model-name", name]
        lines.append(shlex.join([*words, *(["--max-model-len", str(limit)] if limit else [])]))
    if adapter is not None:
        config = _read(adapter / "adapter_config.json")
        lines.append(shlex.join([
            "vllm", "serve", str(config["base_model_name_or_path"]),
            "--tokenizer", str(adapter),  # it has the chat template and the end of turn
            "--enable-lora", "--max-lora-rank", str(_rank(config["r"])),
            "--lora-modules", f"{name}={adapter}",
        ]))  # fmt: skip
    return lines


def modelfile(gguf: Path, tokenizer: Any) -> str:
    """An Ollama Modelfile for a GGUF file beside it.

    Ollama has templates of its own kind (Go's). One is written if the chat template only puts a
    text before and after each message, which is tried on four conversations; otherwise the file
    says that there is none.

    Args:
        gguf: the file; only its name is used.
        tokenizer: of the model, with its chat template.
    """
    lines = [f"FROM ./{gguf.name}"]
    template = go_template(tokenizer)
    if template is None:
        lines.append(
            "# No TEMPLATE: Ollama's format can't express the chat template. Use llama.cpp's"
        )
        lines.append("# llama-server --jinja, which reads the chat template from the GGUF file.")
    else:
        lines.append(f'TEMPLATE """{template}"""')
    end = end_of_turn_id(tokenizer)
    stops = {tokenizer.eos_token, None if end is None else tokenizer.convert_ids_to_tokens(end)}
    lines += [f"PARAMETER stop {json.dumps(s, ensure_ascii=False)}" for s in sorted(stops - {None})]
    return "\n".join(lines) + "\n"


def go_template(tokenizer: Any) -> str | None:
    """The chat template as Ollama writes it, or None if it isn't text around each message."""
    pieces = _pieces(tokenizer)
    if pieces is None or any("{{" in text or '"""' in text for text in pieces.values()):
        return None
    default = pieces["default"]
    cases = "".join(
        f'{{{{ {"if" if role == "system" else "else if"} eq .Role "{role}" }}}}'
        f"{pieces['before ' + role]}{{{{ .Content }}}}{pieces['after ' + role]}"
        for role in ("system", "user", "assistant")
    )
    start = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{default}{{{{ end }}}}'
    return (
        f"{start if default else ''}{{{{ range .Messages }}}}{cases}{{{{ end }}}}{{{{ end }}}}"
        f"{pieces['open']}"
    )


def _pieces(tokenizer: Any) -> dict[str, str] | None:
    """What the template writes around a message of each role, if that is all it does."""

    def render(messages: Any, prompt: bool = False) -> str:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        return str(text).removeprefix(tokenizer.bos_token or "")  # Ollama writes the BOS

    def split(messages: Any) -> list[str]:
        text, parts = render(messages), []
        for message in messages:
            part, _, text = text.partition(message["content"])
            parts.append(part)
        return [*parts, text]

    try:
        start, to_reply, to_second, after_user = split([TURN, REPLY, SECOND])
        after_reply = split([TURN, REPLY])[-1]
        before_user = to_second.removeprefix(after_reply)
        before_system, to_user, _ = split([SYSTEM, TURN])
        pieces = {
            "default": start.removesuffix(before_user),
            "before user": before_user, "after user": after_user,
            "before assistant": to_reply.removeprefix(after_user), "after assistant": after_reply,
            "before system": before_system, "after system": to_user.removesuffix(before_user),
            "open": render([TURN], True).removeprefix(render([TURN])),
        }  # fmt: skip
        for messages in CONVERSATIONS:
            text = "" if messages[0]["role"] == "system" else pieces["default"]
            for message in messages:
                role = message["role"]
                text += pieces[f"before {role}"] + message["content"] + pieces[f"after {role}"]
            if text + pieces["open"] != render(messages, True):
                return None
    except Exception:  # a template may refuse a system message: then it is not of that kind
        return None
    return pieces


def _rank(r: int) -> int:
    return next((rank for rank in RANKS if rank >= r), r)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
