"""What counts as a secret, by name, form and environment, and what has to stay."""

from __future__ import annotations

import time

import pytest

from postlab.redaction import REDACTED, redact, secret_name

SECRET = "Zq8canary4x"
NAMES = ["api_key", "apiKey", "API-KEY", "x-api-key", "OPENAI_API_KEY", "hf_token", "token",
         "judge_api_token", "accessToken", "push_to_hub_token", "password", "db_passwd",
         "clientSecret", "AWS_SECRET_ACCESS_KEY", "Authorization", "Proxy-Authorization",
         "credentials", "session_cookie", "bearer", "basic_auth", "judge_key", "private_key",
         "refresh_tokens", "slack_webhook", "smtp_pass"]  # fmt: skip
KEPT = {
    "eos_token": "<|im_end|>", "pad_token": "endoftext99", "bos_token": "startofseq1",
    "image_token": "imagetoken1", "step_token": "\n\n", "token": "</s>", "max_tokens": 16,
    "num_tokens": "12345678", "max_new_tokens": 9, "eos_token_id": 2, "token_type_ids": [1, 2],
    "use_auth_token": True, "key": "ab" * 32, "sort_key": "lengthwise1", "num_key_value_heads": 2,
    "tokenizer": "TokenizersBackend", "pass_rate": "0.25", "pass_at_k": 0.5, "first_pass": "yes",
    "importance_sampling_level": "token", "api_token": None, "password": "", "author": "somebody1",
    "lora": {"target_modules": ["q_proj", "k_proj"]}, "url": "https://host:8000/v1?n=1&split=train",
    "text": "the token is wrong: 'a=b', unexpected token: {", "clone": "ssh://git@github.com/x/y",
    "reward": "postlab.rewards.math.math_reward", "columns": ["token", "password"], "lr": 1e-4,
}  # fmt: skip
TEXTS = [
    "http://me:{}@10.0.0.1:8000/v1", "https:/me:{}@h/v1", "https://{}@github.com/x/y", "http://me:p@{}@host/",
    "https://h/v1?api_key={}&n=2", "https://h/v1?key={}", "https://h/#access_token={}",
    "https://h/a?n=1;token={}", "https://h/b?X-Amz-Signature={}", "https://h/c?sig={}",
    "Authorization: Bearer {}", "authorization: Basic {}", "Authorization: Digest a=1, b={}",
    "{{'Authorization': 'Bearer {}'}}", '{{"api_key": "{}"}}', '{{\\"api_key\\": \\"{}\\"}}',
    "OPENAI_API_KEY={} python x.py", "run --api-key {} --n 3", "run --token={}",
    "password: '{} with spaces'", "Cookie: a=1; session={}", "[b'x-api-key: {}']",
    "postgres://u:{}@db/x", "Config(api_token='{}', n=1)",
]  # fmt: skip
FORMS = ["sk-proj-{}abcdefghijkl", "hf_{}abcdefgh", "ghp_{}abcdefghijk", "xoxb-{}",
         "AIza{}{}{}{}", "eyJhbGciOiJI.eyJzdWIiOiIx.{}",
         "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
         "Bearer {}abcdefghij"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_secrets_name_hides_what_it_holds_at_any_depth(name):
    for value in (SECRET, [SECRET], {"value": SECRET, "more": [(SECRET,)]}):
        hidden = redact([{"outer": {name: value, "n": 1}}])
        assert SECRET not in repr(hidden) and REDACTED in repr(hidden)
        assert hidden[0]["outer"]["n"] == 1
    assert secret_name(name)


def test_a_password_of_digits_is_hidden_too():
    assert redact({"password": 12345678, "api_key": 9}) == {
        "password": REDACTED,
        "api_key": REDACTED,
    }


@pytest.mark.parametrize("name", KEPT)
def test_what_is_no_secret_stays_as_it_is(name):
    assert redact({name: KEPT[name]}) == {name: KEPT[name]}


@pytest.mark.parametrize("text", TEXTS + FORMS)
def test_a_secret_inside_a_text_goes_and_nothing_else(text):
    hidden = redact({"a": ["before " + text.format(*[SECRET] * 9) + " after"]})["a"][0]
    assert SECRET not in hidden and REDACTED in hidden
    assert hidden.startswith("before ") and redact(hidden) == hidden


def test_pairs_and_arguments_of_a_command_name_their_neighbour():
    hidden = redact({"headers": [["Authorization", SECRET], ("X-Api-Key", SECRET)],
                     "command": ["judge", "--token", SECRET, "--n", "3"]})  # fmt: skip
    assert SECRET not in repr(hidden) and hidden["command"][3:] == ["--n", "3"]


def test_the_environments_secrets_are_known_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("JUDGE_PASSWORD", "correct horse battery")
    monkeypatch.setenv("PWD", "/home/somebody")
    assert redact("it said: correct horse battery!") == f"it said: {REDACTED}!"
    assert redact("/home/somebody/x") == "/home/somebody/x"


@pytest.mark.parametrize("piece", ["a", "a_", "a=", "a: ", "://", "://a@", "?&", '\\"', "sk-",
                                   "eyJ", "bearer ", "api_key ",
                                   "-----BEGIN PRIVATE KEY-----"])  # fmt: skip
def test_the_time_grows_no_faster_than_the_text(piece):
    def seconds(length: int) -> float:
        text, best = piece * (length // len(piece)), float("inf")
        for _ in range(3):
            begun = time.process_time()
            redact(text)
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(80_000) < 8 * seconds(20_000) + 0.05
