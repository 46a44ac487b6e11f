"""Secrets taken out of what is written: manifests, logs, error messages.

`redact` knows a secret by its name (`judge_api_token`, `api_key`, `password`, `Authorization`), by
its form (a password in a URL, a bearer token, the keys of the large providers), and by being the
value of an environment variable with such a name. Vocabulary tokens such as `eos_token` and counts
such as `max_tokens` stay. Left out: a secret under an ordinary name, in no known form; the text of
prompts, answers and code, which nothing here is applied to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

REDACTED = "<redacted>"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ALWAYS = {
    "password", "passwords", "passwd", "passphrase", "secret", "secrets", "apikey", "apikeys",
    "authorization", "credential", "credentials", "cookie", "cookies", "bearer", "jwt", "dsn",
    "webhook", "pwd",
}  # fmt: skip
# Before 'token' or 'key': whose it is. A token of these is a secret, however short.
_OWNERS = {
    "api", "access", "auth", "authentication", "bearer", "secret", "private", "refresh",
    "session", "security", "csrf", "hub", "hf", "huggingface", "github", "gitlab", "slack",
    "openai", "anthropic", "azure", "aws", "google", "gemini", "mistral", "cohere", "groq",
    "deepseek", "openrouter", "together", "wandb", "judge", "account", "subscription",
    "signing", "encryption", "master", "service", "client", "user", "bot", "deploy", "personal",
}  # fmt: skip
# Before 'token': a token of a vocabulary, or a part of a text.
_VOCABULARY = {
    "eos", "bos", "pad", "unk", "cls", "sep", "mask", "image", "video", "audio", "vision",
    "stop", "end", "start", "begin", "eot", "bot", "boi", "eoi", "soi", "eom", "fim", "prefix",
    "suffix", "middle", "special", "extra", "first", "last", "next", "new", "step", "think",
    "thinking", "separator", "decoder", "im", "per", "sampled", "word",
}  # fmt: skip
_SECRET_PARAMETERS = {"key", "sig", "signature", "token"}  # of a URL's query

_USER = re.compile(r"(?<=[a-zA-Z]{2}:/)(/?)([^\s/?#]*)@")  # one slash is left by a Path
_NAMED = re.compile(  # a name and the sign between it and its value
    r"(?:(?P<start>[?&#;]|--)|(?<![\w-]))(?P<name>[A-Za-z_][\w-]{0,80})"
    r"(?P<sign>\\?[\"']?\s{0,3}[=:]\s{0,3}(?:[bru]?\\?(?P<quote>[\"']))?|\s(?=\S))",
    re.IGNORECASE,
)
_VALUES = {
    "word": re.compile(r"(?:(?:bearer|basic|token)\s{1,3})?[^\s\"'&;,\\)}\]]+", re.IGNORECASE),
    "line": re.compile(r"[^\r\n\"'\\]+"),
    '"': re.compile(r'[^"\\]+'),
    "'": re.compile(r"[^'\\]+"),
}
_FORMS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?i:bearer|basic)\s{1,3}(?=[\w.~+/-]{0,200}\d)[\w.~+/=-]{16,}"
    r"|(?:sk|pk|rk|gsk)[-_][\w-]{16,}|hf_\w{16,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"
    r"|xox[abeprs]-[\w-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|ya29\.[\w-]{16,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?)"
)


def redact(value: Any) -> Any:
    """`value` with every secret in it replaced by "<redacted>".

    Args:
        value: a text, or dicts and lists of texts and numbers, as JSON has them. Anything else is
            returned as it is.
    Returns:
        The same, with new dicts and lists.

    >>> redact({"hub": {"api_key": "k-1", "eos_token": "<|im_end|>"}, "max_tokens": 16})
    {'hub': {'api_key': '<redacted>', 'eos_token': '<|im_end|>'}, 'max_tokens': 16}
    >>> redact("POST https://me:pw@host/v1?api_key=k-1&n=2 failed, Authorization: Bearer k-1")
    'POST https://<redacted>@host/v1?api_key=<redacted>&n=2 failed, Authorization: <redacted>'
    """
    return _redacted(value, _environment_secrets())


def secret_name(name: str) -> bool:
    """Whether what bears this name is a secret: any text at all, or one that looks like a key.

    >>> [secret_name(n) for n in ("judge_api_token", "OPENAI_API_KEY", "eos_token", "sort_key")]
    [True, True, False, False]
    """
    return _kind(name) != ""


def _kind(name: str) -> str:
    """'always' for a name of secrets, 'token' for one that may be a vocabulary's, else ''."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or len(name) > 200:
        return ""
    *before, last = words
    if words[0] in ("num", "max", "min", "n", "len") or last in ("id", "ids", "index", "indices"):
        return ""
    if _ALWAYS & set(words) and name != "PWD":  # the shell's $PWD is a folder
        return "always"
    if last in ("auth", "pass"):
        return "" if before and before[-1] in ("forward", "backward", "num", "first") else "always"
    owned = bool(before) and before[-1] in _OWNERS
    if last in ("key", "keys", "tokens"):
        return "always" if owned else ""
    if last == "token" and not (before and before[-1] in _VOCABULARY):
        return "always" if owned else "token"
    return ""


def _vocabulary(text: str) -> bool:
    """Whether this looks like a token of a vocabulary: short, marked, or with spaces."""
    return len(text) < 8 or text[0] in "<[" or not re.fullmatch(r"[\x21-\x7e]+", text)


def _environment_secrets() -> list[str]:
    """Values of the environment's secrets, long ones first: one may hold another."""
    values = {v.strip() for name, v in os.environ.items() if secret_name(name)}
    return sorted((v for v in values if len(v) >= 8), key=len, reverse=True)


def _redacted(value: Any, known: list[str], kind: str = "") -> Any:
    if isinstance(value, str):
        if kind == "always" or (kind == "token" and value and not _vocabulary(value)):
            return value and REDACTED
        return _text(value, known)
    if isinstance(value, Mapping):
        return {
            _redacted(key, known): _redacted(item, known, kind or _kind(str(key)))
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [_redacted(item, known, kind) for item in value]
        for place, (one, other) in enumerate(zip(value, value[1:], strict=False), start=1):
            # ["--api-key", "..."] and ("Authorization", "...")
            named = isinstance(one, str) and isinstance(other, str)
            pair = named and (one.startswith("-") or len(value) == 2) and _kind(one) == "always"
            if pair or (named and one.startswith("--") and _kind(one)):
                items[place] = REDACTED
        return items
    if kind == "always" and isinstance(value, int | float) and not isinstance(value, bool):
        return REDACTED  # a password of digits that YAML has read as a number
    return value


def _text(text: str, known: list[str]) -> str:
    for secret in known:
        text = text.replace(secret, REDACTED)
    if not any(sign in text for sign in ":=-_. "):  # most texts of a manifest are single words
        return text
    text = _USER.sub(_without_user, text)
    parts, end = [], 0
    for match in _NAMED.finditer(text):
        value = _named_value(text, match) if match.start() >= end else None
        if value:
            parts += [text[end : value.start()], REDACTED]
            end = value.end()
    return _FORMS.sub(REDACTED, "".join(parts) + text[end:])


def _without_user(match: re.Match[str]) -> str:
    user = match[2]
    return match[0] if ":" not in user and len(user) < 8 else f"{match[1]}{REDACTED}@"


def _named_value(text: str, match: re.Match[str]) -> re.Match[str] | None:
    """The secret value after a name and its sign; None if the name is no secret's."""
    start, name, sign = match["start"], match["name"], match["sign"]
    kind = _kind(name)
    if start and start != "--" and name.lower().rpartition("-")[2] in _SECRET_PARAMETERS:
        kind = "always"
    if not kind or (sign.isspace() and start != "--"):  # 'the token is' names nothing
        return None
    header = name.lower().endswith(("authorization", "cookie"))
    value = _VALUES[match["quote"] or ("line" if header else "word")].match(text, match.end())
    return None if value and kind == "token" and _vocabulary(value[0]) else value
