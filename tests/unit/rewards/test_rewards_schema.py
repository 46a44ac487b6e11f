"""schema_reward: replies that are of the shape, replies that are not, and schemas that are none."""

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from postlab.rewards import is_schema, schema_reward
from pace import within

OWL = {
    "type": "object",
    "properties": {
        "name": {"const": "owl"},
        "legs": {"type": "integer", "minimum": 0, "maximum": 10},
        "food": {"enum": ["mice", "frogs"]},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    },
    "required": ["name", "legs"],
    "additionalProperties": False,
}
ACCEPTED = [
    '{"name": "owl", "legs": 2}',
    '  {"name": "owl", "legs": 2}\n',
    '{"name": "owl", "legs": 2.0, "food": "mice"}',
    '{"legs": 2, "name": "o\\u0077l", "tags": ["a", "b"]}',
    '```json\n{"name": "owl", "legs": 2}\n```',
    'Here it is:\n```\n{"name": "owl", "legs": 2}\n```\nI hope it helps.',
    '<think>{"name": "cat"}</think>{"name": "owl", "legs": 2}',
]
REFUSED = [
    "",
    "null",
    "{}",
    "[]",
    '"owl"',
    '{"name": "owl"}',
    '{"name": "cat", "legs": 2}',
    '{"name": "owl", "legs": "2"}',
    '{"name": "owl", "legs": true}',
    '{"name": "owl", "legs": 2.5}',
    '{"name": "owl", "legs": -1}',
    '{"name": "owl", "legs": NaN}',
    '{"name": "owl", "legs": Infinity}',
    '{"name": "owl", "legs": 1e999}',
    '{"name": "owl", "legs": ' + "9" * 5000 + "}",
    '{"name": "owl", "legs": 2, "legs": 2}',
    '{"name": "cat", "name": "owl", "legs": 2}',
    '{"name": "owl", "legs": 2, "more": 1}',
    '{"name": "owl", "legs": 2, "tags": ["a", "a"]}',
    '{"name": "owl", "legs": 2, "tags": [1]}',
    "{'name': 'owl', 'legs': 2}",
    '{"name": "owl", "legs": 2,}',
    '{"name": "owl", "legs": 2',
    '{"name": "owl", "legs": 2}}',
    '{"name": "owl", "legs": 2} {"name": "owl", "legs": 2}',
    '{"name": "owl", "legs": 2} That is it.',
    'JSON: {"name": "owl", "legs": 2}',
    '[{"name": "owl", "legs": 2}]',
    '// owl\n{"name": "owl", "legs": 2}',
    '\ufeff{"name": "owl", "legs": 2}',
    '{"name": "owl", "legs": \u0662}',
    '{"name": "owl", "legs": 2}\n```json\n{"name": "owl", "legs": 2}\n```\n```\nx\n```',
    '```json\n{"name": "cat"}\n```\n```json\n{"name": "owl", "legs": 2}\n```',
    '```json\n{"name": "owl", "legs": 2}',
    '```python\n{"name": "owl", "legs": 2}\n```',
    '<think>{"name": "owl", "legs": 2}</think>',
    '<think>{"name": "owl", "legs": 2}',
]
HOSTILE = [
    "[" * 50_000,
    "[" * 20_000 + "]" * 20_000,
    '{"a":' * 9_000 + "1" + "}" * 9_000,
    "{" * 100_000,
    '"' + "\\" * 49_000,
    "9" * 49_000,
    "1e" + "9" * 40_000,
    "-" * 49_000,
    "```" * 16_000,
    "```\n" * 12_000,
    '{"tags": [' + ",".join(["[]"] * 16_000) + "]}",
    '{"tags": [' + ",".join(f'{{"a": {i}}}' for i in range(4_000)) + "]}",
    "{" + ",".join(f'"{i}": 0' for i in range(5_000)) + "}",
    '{"name": "' + "owl" * 16_000 + '"}',
    "x" * 1_000_000,
    "<think>" * 10_000,
]
NO_SCHEMA = [
    "",
    "not json",
    "7",
    "[]",
    '{"type": "thing"}',
    '{"type": 3}',
    '{"pattern": "("}',
    '{"required": "name"}',
    '{"properties": {"a": {"type": "thing"}}}',
    '{"patternProperties": {"(": {}}}',
    '{"minimum": "1"}',
    '{"$ref": "https://example.com/owl.json"}',
    '{"$ref": "file:///etc/passwd"}',
    '{"$ref": "owl.json"}',
    '{"$ref": "#/nowhere"}',
    '{"patternProperties": {"a": {}}, "unevaluatedProperties": false}',
    '{"items": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "a"}}',
    '{"$ref": "#"}',
    "[" * 100_000,
    None,
]


@pytest.mark.parametrize("reply", ACCEPTED)
def test_replies_of_the_shape(reply):
    assert schema_reward([reply], [OWL]) == [1.0]


@pytest.mark.parametrize("reply", REFUSED)
def test_replies_of_another_shape(reply):
    assert schema_reward([reply], [OWL]) == [0.0]


@pytest.mark.parametrize("reply", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_replies_are_wrong_and_cheap(reply):
    schema_reward(["{}"], [OWL])
    loose = {"properties": {"tags": {"uniqueItems": True}}, "required": ["name", "tags"]}
    for asked in (OWL, loose | {"type": "object"}):
        begun = time.process_time()
        assert schema_reward([reply], [asked]) == [0.0]
        assert within(time.process_time() - begun, 2)


@pytest.mark.parametrize("schema", NO_SCHEMA, ids=range(len(NO_SCHEMA)))
def test_no_schema_gives_none_whatever_the_reply(schema):
    assert schema_reward(['{"name": "owl"}'], [schema]) == [None]


def test_nothing_is_fetched(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a schema opened a connection")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    asked = {"type": "object", "properties": {"a": {"$ref": "http://example.com/a.json"}}}
    assert schema_reward(['{"a": 1}'], [asked]) == [None]


def test_references_within_the_schema_are_followed():
    tree = {"$ref": "#/$defs/tree", "$defs": {"tree": {"items": {"$ref": "#/$defs/tree"}}}}
    tree["$defs"]["tree"]["type"] = "array"
    assert schema_reward(["[[], [[]]]", "[[], [1]]"], [tree] * 2) == [1.0, 0.0]


def test_a_schema_that_asks_for_endless_work_ends():
    bomb = {"$defs": {"d30": {"type": "object"}}, "$ref": "#/$defs/d0"}
    for k in range(30):
        twice = [{"$ref": f"#/$defs/d{k + 1}"}] * 2
        bomb["$defs"][f"d{k}"] = {"allOf": twice}
    begun = time.process_time()
    assert schema_reward(["{}"], [bomb]) == [0.0]
    assert within(time.process_time() - begun, 4)


@pytest.mark.parametrize(
    ("pattern", "reply", "reward"),
    [
        ("^[a-z]+$", "owl", 1.0),
        ("^[a-z]+$", "owl!", 0.0),
        ("^(a+)+$", "a" * 50, 1.0),
        ("^(a+)+$", "a" * 50 + "!", 0.0),
        ("^(a|a)*$", "a" * 50 + "!", 0.0),
        (r"^(\w+\s?)*$", "a" * 50 + "!", 0.0),
        ("a*a*a*a*a*a*a*b", "a" * 900, 0.0),
        ("(a?){40}a{40}", "a" * 39, 0.0),
    ],
)
def test_a_pattern_that_takes_for_ever_is_ended(pattern, reply, reward):
    begun = time.perf_counter()
    assert schema_reward([json.dumps(reply)], [{"pattern": pattern}]) == [reward]
    assert time.perf_counter() - begun < 30


@pytest.mark.parametrize("pattern", ["^(a|a)*$", r"^(\w|\w\s?)*$"])
@pytest.mark.parametrize(
    "schema",
    [
        {"items": {"pattern": "P"}},
        {"items": {"patternProperties": {"P": False}}},
        {"items": {"patternProperties": {"P": {}}, "additionalProperties": True}},
        {"items": {"propertyNames": {"pattern": "P"}}},
        {"items": {"anyOf": [{"pattern": "P"}, {"patternProperties": {"P": {}}}] * 50}},
        {"$defs": {"d": {"pattern": "P"}}, "items": {"allOf": [{"$ref": "#/$defs/d"}] * 50}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": {"pattern": "P"}},
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "anyOf": [{"type": "string", "pattern": "P"}, {"items": {"$ref": "#"}}],
        },
    ],
    ids=range(8),
)
def test_all_patterns_of_a_reply_share_one_limit(schema, pattern, monkeypatch):
    monkeypatch.setattr("postlab.rewards.schema.PATTERN_SECONDS", 0.1)
    text = "a" * 60 + "!"
    reply = json.dumps([text, {text: 1}] * 20)
    begun = time.process_time()
    asked = json.dumps(schema).replace('"P"', json.dumps(pattern))
    assert schema_reward([reply], [asked]) == [0.0]
    assert within(time.process_time() - begun, 2)


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"pattern": "^[A-Z]{3}$"}, ["ABC", 7, None], ["AB", "ABCD", "abc"]),
        ({"pattern": "b"}, ["abc"], ["acd", ""]),
        ({"pattern": r"^(\([0-9]{3}\))?[0-9]{3}-[0-9]{4}$"}, ["555-1212", "(888)555-1212"], ["5"]),
        ({"pattern": r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$"}, ["a.b@c.org"], ["a@b", "a b@c.org"]),
        (
            {"patternProperties": {"^n_": {"type": "integer"}}},
            [{"n_a": 1, "b": "x"}],
            [{"n_a": "1"}],
        ),
        (
            {
                "properties": {"a": {}},
                "patternProperties": {"^n_": {}},
                "additionalProperties": False,
            },
            [{"a": 1, "n_b": 2}, {}, 7],
            [{"b": 1}, {"an_": 1}],
        ),
        (
            {"patternProperties": {"^n_": {}}, "additionalProperties": {"type": "string"}},
            [{"n_b": 2, "c": "x"}],
            [{"c": 1}],
        ),
        ({"additionalProperties": True}, [{"c": 1}], []),
        ({"propertyNames": {"pattern": "^[a-z]+$"}}, [{"ab": 1}], [{"aB": 1}]),
        ({"not": {"pattern": "a"}}, ["b"], ["a"]),
    ],
)
@pytest.mark.parametrize("draft", ["", "draft-07", "draft-04"])
def test_patterns_say_what_jsonschema_says(schema, right, wrong, draft):
    import jsonschema

    if draft:
        schema = {"$schema": f"http://json-schema.org/{draft}/schema#"} | schema
    replies = [json.dumps(reply) for reply in [*right, *wrong]]
    stock = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema)
    rewards = schema_reward(replies, [json.dumps(schema)] * len(replies))
    assert rewards == [float(stock.is_valid(reply)) for reply in [*right, *wrong]]
    if draft != "draft-04" or "propertyNames" not in schema:
        assert rewards == [1.0] * len(right) + [0.0] * len(wrong)


def test_what_is_a_schema():
    assert is_schema(json.dumps(OWL)) and is_schema("true")
    assert not any(is_schema(text) for text in ("owl", '{"type": "thing"}', '{"pattern": "("}'))


def test_columns_shapes_and_wrong_use():
    message = [{"role": "assistant", "content": '{"name": "owl", "legs": 2}'}]
    asked = [json.dumps(OWL)]
    assert schema_reward(completions=[message], schema=asked, prompts=["?"], answer=["5"]) == [1.0]
    assert schema_reward.__name__ == "schema_reward"
    with pytest.raises(ValueError, match="2 completions and 1 schemas"):
        schema_reward(["1", "2"], ["{}"])


def test_2000_ordinary_replies_a_second_and_nothing_left_behind():
    replies = [f'{{"name": "owl", "legs": {i % 12}}}' for i in range(2000)]
    schema_reward(replies[:2], [OWL] * 2)
    threads, fds = threading.active_count(), len(os.listdir("/proc/self/fd"))
    begun = time.process_time()
    rewards = schema_reward(replies, [OWL] * 2000)
    assert within(time.process_time() - begun, 1.0)
    assert rewards == [float(i % 12 <= 10) for i in range(2000)]
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, fds)
    assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
