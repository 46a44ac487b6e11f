"""One row in the schema of each of many public data sets: read right, refused by name, or dropped.

The texts are our own. What a row holds and the loader does not use is named in `unused`.
"""

import json

import pytest

from postlab.datasets import (
    code_rows,
    instruction_rows,
    math_rows,
    preference_rows,
    step_rows,
    unpaired_rows,
)


def system(text):
    return {"role": "system", "content": text}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def load(folder, loader, *raw, **options):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in raw), encoding="utf-8")
    options = {"instruction": None} | options if loader is math_rows else options
    return loader(str(path), split="train", **options)


ASKED, GOOD, BAD = "Name a river.", "The Rhine.", "Paris."
TALK = [user(ASKED), assistant(GOOD)]
SHARED = [{"from": "human", "value": ASKED}, {"from": "gpt", "value": GOOD}]
TURNS = [user("Hi"), assistant("Hello"), user(ASKED), assistant(GOOD)]
PLAIN = {"prompt": [user(ASKED)], "completion": [assistant(GOOD)]}
CALL = {"type": "function", "function": {"name": "level", "arguments": {"river": "Rhine"}}}
TOOL = {"type": "function", "function": {"name": "level", "parameters": {"type": "object"}}}
TOOLS = json.dumps([TOOL])


def earlier(*turns, **more):
    return PLAIN | {"prompt": [*turns, user(ASKED)]} | more


# data set: (its row, what it becomes, which fields are named as not used)
INSTRUCTIONS = {
    "no_robots": (
        {"prompt": ASKED, "prompt_id": "a", "messages": TALK, "category": "Open QA"}, PLAIN,
        {"prompt", "prompt_id", "category"},
    ),
    "ultrachat": (
        {"prompt": "Hi", "prompt_id": "a", "messages": TURNS}, earlier(*TURNS[:2]),
        {"prompt", "prompt_id"},
    ),
    "UltraChat, as published": (
        {"id": "0", "data": ["Hi", "Hello", ASKED, GOOD]}, earlier(*TURNS[:2]), {"id"},
    ),
    "Tulu 3": ({"id": "a", "messages": TALK, "source": "x"}, PLAIN, {"id", "source"}),
    "OpenHermes": (
        {"conversations": SHARED, "system_prompt": "Be brief.", "source": "x", "topic": None},
        earlier(system("Be brief.")), {"source"},
    ),
    "SlimOrca": (
        {"conversations": [{**SHARED[0], "weight": 0.0}, {**SHARED[1], "weight": 1.0}]}, PLAIN,
        set(),
    ),
    "OpenOrca": (
        {"id": "1", "system_prompt": "Be brief.", "question": ASKED, "response": GOOD},
        earlier(system("Be brief.")), {"id"},
    ),
    "Alpaca": ({"instruction": ASKED, "input": "", "output": GOOD, "text": "x"}, PLAIN, {"text"}),
    "LLaMA-Factory's Alpaca": (
        {"instruction": ASKED, "input": "", "output": GOOD, "system": "Be brief.",
         "history": [["Hi", "Hello"]]},
        earlier(system("Be brief."), *TURNS[:2]), set(),
    ),
    "Dolly": (
        {"instruction": ASKED, "context": "It passes Bonn.", "response": GOOD, "category": "qa"},
        PLAIN | {"prompt": [user(f"{ASKED}\n\nIt passes Bonn.")]}, {"category"},
    ),
    "a passage and a question": (
        {"question": ASKED, "context": "It passes Bonn.", "answer": GOOD},
        PLAIN | {"prompt": [user(f"It passes Bonn.\n\n{ASKED}")]}, set(),
    ),
    "an input below a prompt": (
        {"prompt": "Into German:", "input": "cheese", "completion": "Käse"},
        {"prompt": [user("Into German:\n\ncheese")], "completion": [assistant("Käse")]}, set(),
    ),
    "an input that the prompt has": (
        {"prompt": f"Answer this: {ASKED}", "input": ASKED, "completion": GOOD},
        PLAIN | {"prompt": [user(f"Answer this: {ASKED}")]}, set(),
    ),
    "a completion of several messages": (
        {"prompt": [user("Level?")], "completion": [
            assistant("", tool_calls=[CALL]), {"role": "tool", "content": "2 m"},
            assistant("2 m.")]},
        {"prompt": [user("Level?"), assistant("", tool_calls=[CALL]),
                    {"role": "tool", "content": "2 m"}], "completion": [assistant("2 m.")]},
        set(),
    ),
    "messages as the text of JSON": ({"messages": json.dumps(TALK)}, PLAIN, set()),
    "another system prompt than the messages'": (
        {"messages": [system("Be brief."), *TALK], "system": "Be long."},
        earlier(system("Be brief.")), {"system"},
    ),
    "Aya": (
        {"inputs": ASKED, "targets": GOOD, "language": "English"}, PLAIN, {"language"},
    ),
    "LIMA": ({"conversations": [ASKED, GOOD], "source": "x"}, PLAIN, {"source"}),
    "Capybara": (
        {"source": "x", "conversation": [{"input": "Hi", "output": "Hello"},
                                         {"input": ASKED, "output": GOOD}]},
        earlier(*TURNS[:2]), {"source"},
    ),
    "WizardLM": ({"idx": "a", "conversations": SHARED}, PLAIN, {"idx"}),
    "WildChat": (
        {"conversation": [{**turn, "language": "English"} for turn in TALK], "model": "m",
         "toxic": False},
        PLAIN, {"model", "toxic", "a message's 'language'"},
    ),
    "Magpie": (
        {"conversations": SHARED, "instruction": ASKED, "response": GOOD, "uuid": "a"}, PLAIN,
        {"instruction", "response", "uuid"},
    ),
    "Guanaco": ({"text": f"### Human: {ASKED}### Assistant: {GOOD}"}, PLAIN, set()),
    "ChatML as text": (
        {"text": f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n{GOOD}<|im_end|>\n"},
        PLAIN, set(),
    ),
    "OASST, turned into threads": (
        {"messages": [{"role": "prompter", "text": ASKED}, {"role": "assistant", "text": GOOD}]},
        PLAIN, set(),
    ),
    "MetaMathQA": (
        {"query": ASKED, "response": GOOD, "type": "GSM_SV", "original_question": ASKED}, PLAIN,
        {"type", "original_question"},
    ),
    "NuminaMath": (
        {"problem": ASKED, "solution": GOOD, "messages": TALK, "source": "x"}, PLAIN,
        {"problem", "solution", "source"},
    ),
    "OpenMathInstruct": (
        {"problem": ASKED, "generated_solution": GOOD, "expected_answer": "1"}, PLAIN,
        {"expected_answer"},
    ),
    "s1K": (
        {"question": ASKED, "solution": GOOD, "cot": None, "thinking_trajectories": ["Hm."]},
        PLAIN, {"thinking_trajectories"},
    ),
    "OpenThoughts": (
        {"system": "Think.", "conversations": [{"from": "user", "value": ASKED},
                                               {"from": "assistant", "value": GOOD}]},
        earlier(system("Think.")), set(),
    ),
    "Dolphin-R1": (
        {"messages": [user(ASKED)], "reasoning": "A long one.", "answer": GOOD, "model": "m"},
        PLAIN | {"completion": [assistant(GOOD, reasoning_content="A long one.")]}, {"model"},
    ),
    "medical-o1": (
        {"Question": ASKED, "Complex_CoT": "A long one.", "Response": GOOD},
        PLAIN | {"completion": [assistant(GOOD, reasoning_content="A long one.")]}, set(),
    ),
    "reasoning in a message": (
        {"messages": [user(ASKED), assistant(GOOD, reasoning_content="A long one.")]},
        PLAIN | {"completion": [assistant(GOOD, reasoning_content="A long one.")]}, set(),
    ),
    "gpt-oss's thinking": (
        {"messages": [{"role": "developer", "content": "Be brief."}, user(ASKED),
                      assistant(GOOD, thinking="A long one.")]},
        earlier(system("Be brief."), completion=[assistant(GOOD, thinking="A long one.")]), set(),
    ),
    "text parts": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Name a "},
                                                   {"type": "text", "text": "river."}]},
                      {"role": "Assistant", "content": [{"type": "text", "text": GOOD}]}]},
        PLAIN, set(),
    ),
    "OpenAI's tools": (
        {"messages": [user("Level?"),
                      {"role": "assistant", "content": None, "tool_calls": [
                          {**CALL, "id": "1", "function": {"name": "level",
                                                           "arguments": '{"river": "Rhine"}'}}]},
                      {"role": "tool", "tool_call_id": "1", "content": "2 m"},
                      assistant("2 m.")],
         "tools": [TOOL]},
        {"prompt": [user("Level?"), assistant("", tool_calls=[{**CALL, "id": "1"}]),
                    {"role": "tool", "content": "2 m", "tool_call_id": "1"}],
         "completion": [assistant("2 m.")], "tools": TOOLS},
        set(),
    ),
    "LLaMA-Factory's tools": (
        {"conversations": [{"from": "human", "value": "Level?"},
                           {"from": "function_call", "value": json.dumps(CALL["function"])},
                           {"from": "observation", "value": "2 m"},
                           {"from": "gpt", "value": "2 m."}],
         "tools": json.dumps([TOOL["function"]])},
        {"prompt": [user("Level?"), assistant("", tool_calls=[CALL]),
                    {"role": "tool", "content": "2 m"}],
         "completion": [assistant("2 m.")], "tools": TOOLS},
        set(),
    ),
    "xLAM": (
        {"id": 0, "query": "Level?", "answers": json.dumps([CALL["function"]]),
         "tools": json.dumps([TOOL["function"]])},
        {"prompt": [user("Level?")], "completion": [assistant("", tool_calls=[CALL])],
         "tools": TOOLS},
        {"id"},
    ),
    "Hermes function calling": (  # the system prompt lists the tools
        {"conversations": [{"from": "system", "value": "<tools> level </tools>"}, *SHARED],
         "tools": TOOLS, "category": "x"},
        earlier(system("<tools> level </tools>")), {"tools", "category"},
    ),
    "an unanswered question": (
        {"messages": [*TALK, user("And a lake?")]}, PLAIN, {"an unanswered last turn"},
    ),
    "LLaVA, of a text alone": ({"id": "a", "image": None, "conversations": SHARED}, PLAIN, {"id"}),
    "a good reply of a KTO set": (
        {"prompt": ASKED, "completion": GOOD, "label": True}, PLAIN, set(),
    ),
    "a label that is a topic": (
        {"prompt": ASKED, "completion": GOOD, "label": "geography"}, PLAIN, {"label"},
    ),
    "HelpSteer2": (
        {"prompt": ASKED, "response": GOOD, "helpfulness": 4}, PLAIN, {"helpfulness"},
    ),
}  # fmt: skip
PAIR = {"prompt": [user(ASKED)], "chosen": [assistant(GOOD)], "rejected": [assistant(BAD)]}
BEFORE = {"prompt": [*TURNS[:2], user(ASKED)]}
HH = f"\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: {ASKED}\n\nAssistant: "
PREFERENCES = {
    "HH-RLHF": ({"chosen": HH + GOOD, "rejected": HH + BAD}, PAIR | BEFORE, set()),
    "full-hh-rlhf": (
        {"prompt": HH, "chosen": " " + GOOD, "rejected": " " + BAD, "response": GOOD},
        PAIR | BEFORE, {"response"},
    ),
    "UltraFeedback, binarized": (
        {"prompt": ASKED, "prompt_id": "a", "messages": TALK, "score_chosen": 8.0,
         "chosen": TALK, "rejected": [user(ASKED), assistant(BAD)]},
        PAIR, {"prompt_id", "messages", "score_chosen"},
    ),
    "Tulu 3": ({"chosen": TALK, "rejected": [user(ASKED), assistant(BAD)]}, PAIR, set()),
    "orca_dpo_pairs": (
        {"system": "Be brief.", "question": ASKED, "chosen": GOOD, "rejected": BAD},
        PAIR | {"prompt": [system("Be brief."), user(ASKED)]}, set(),
    ),
    "distilabel-intel-orca": (
        {"system": "", "input": ASKED, "chosen": GOOD, "rejected": BAD, "status": "unchanged"},
        PAIR, {"status"},
    ),
    "distilabel-math": (
        {"instruction": ASKED, "chosen_response": GOOD, "rejected_response": BAD,
         "chosen_rating": 5.0},
        PAIR, {"chosen_rating"},
    ),
    "orpo-dpo-mix": (
        {"prompt": ASKED, "question": "", "chosen": TURNS,
         "rejected": [*TURNS[:3], assistant(BAD)]},
        PAIR | BEFORE, set(),
    ),
    "LLaMA-Factory": (
        {"conversations": SHARED[:1], "chosen": SHARED[1],
         "rejected": {"from": "gpt", "value": BAD}},
        PAIR, set(),
    ),
    "OpenAI's fine-tuning": (
        {"input": {"messages": [user(ASKED)], "tools": []}, "preferred_output": [assistant(GOOD)],
         "non_preferred_output": [assistant(BAD)]},
        PAIR, set(),
    ),
    "chosen_messages": (
        {"chosen_messages": TALK, "rejected_messages": [user(ASKED), assistant(BAD)]}, PAIR, set(),
    ),
    "OASST pairs": (
        {"prompt": [{"text": ASKED, "role": "prompter"}], "chosen": {"text": GOOD,
         "role": "assistant"}, "rejected": {"text": BAD, "role": "assistant"}},
        PAIR, set(),
    ),
    "Nectar": (
        {"prompt": f"\n\nHuman: {ASKED}\n\nAssistant: ", "turns": 1, "answers": [
            {"answer": "A river.", "rank": 2.0}, {"answer": BAD, "rank": 3.0},
            {"answer": GOOD, "rank": 1.0}]},
        PAIR, {"turns"},
    ),
    "StackExchange": (
        {"qid": 1, "question": ASKED, "answers": [{"text": BAD, "pm_score": 0},
                                                  {"text": GOOD, "pm_score": 3}]},
        PAIR, {"qid"},
    ),
    "SHP": (
        {"history": ASKED, "human_ref_A": BAD, "human_ref_B": GOOD, "labels": 0, "score_A": 2},
        PAIR, {"score_A"},
    ),
    "HelpSteer2": (
        {"prompt": ASKED, "response_1": GOOD, "response_2": BAD, "preference_strength": -2},
        PAIR, set(),
    ),
    "HelpSteer3": (
        {"context": [user(ASKED)], "response1": BAD, "response2": GOOD, "overall_preference": 1,
         "domain": "general"},
        PAIR, {"domain"},
    ),
    "PKU-SafeRLHF": (
        {"prompt": ASKED, "response_0": BAD, "response_1": GOOD, "better_response_id": 1,
         "safer_response_id": 0},
        PAIR, {"safer_response_id"},
    ),
    "AlpacaFarm": (
        {"instruction": ASKED, "input": "", "output_1": BAD, "output_2": GOOD, "preference": 2},
        PAIR, set(),
    ),
    "LMSYS arena": (
        {"conversation_a": TALK, "conversation_b": [user(ASKED), assistant(BAD)],
         "winner": "model_a", "turn": 1},
        PAIR, {"turn"},
    ),
    "UltraInteract": (
        {"task": "x", "trajectory": [{"from": "user", "value": ASKED}], "chosen": GOOD,
         "rejected": BAD},
        PAIR, {"task"},
    ),
    "a margin": (
        {"prompt": ASKED, "chosen": GOOD, "rejected": BAD, "margin": 2}, PAIR | {"margin": 2.0},
        set(),
    ),
    "tools": (
        {"prompt": "Level?", "chosen": [assistant("", tool_calls=[CALL])],
         "rejected": [assistant("I don't know.")], "tools": [TOOL]},
        {"prompt": [user("Level?")], "chosen": [assistant("", tool_calls=[CALL])],
         "rejected": [assistant("I don't know.")], "tools": TOOLS},
        set(),
    ),
}  # fmt: skip
KTO = PLAIN | {"label": False}
UNPAIRED = {
    "kto-mix": (
        {"prompt": [user(ASKED)], "completion": [assistant(GOOD)], "label": False}, KTO, set(),
    ),
    "text": ({"prompt": ASKED, "completion": GOOD, "label": False}, KTO, set()),
    "numbers": ({"prompt": ASKED, "completion": GOOD, "label": 0.0}, KTO, set()),
    "messages": ({"messages": TALK, "label": False}, KTO, set()),
    "LLaMA-Factory": (
        {"instruction": ASKED, "input": "", "output": GOOD, "kto_tag": False}, KTO, set(),
    ),
    "BeaverTails": (
        {"prompt": ASKED, "response": GOOD, "is_safe": False, "category": {"abuse": True}}, KTO,
        {"category"},
    ),
}  # fmt: skip
QUESTION = {"prompt": [user("2 + 3?")], "answer": "5"}
MATHS = {
    "GSM8K": ({"question": "2 + 3?", "answer": "2+3=<<2+3=5>>5\n#### 5"}, set()),
    "GSM8K-Platinum": (
        {"question": "2 + 3?", "answer": "#### 5", "cleaning_status": "x"}, {"cleaning_status"},
    ),
    "MGSM": (
        {"question": "2 + 3?", "answer": "Step by step.", "answer_number": 5}, {"answer"},
    ),
    "MATH": (
        {"problem": "2 + 3?", "solution": r"It is $\boxed{5}$.", "level": "Level 1"}, {"level"},
    ),
    "MATH-500": (
        {"problem": "2 + 3?", "solution": r"\boxed{5}", "answer": "5", "unique_id": "x"},
        {"solution", "unique_id"},
    ),
    "NuminaMath 1.5": (
        {"problem": "2 + 3?", "solution": "Add.", "answer": "5", "problem_is_valid": "Yes"},
        {"solution"},
    ),
    "OpenR1": (
        {"problem": "2 + 3?", "solution": r"\boxed{5}", "answer": "5", "generations": ["a"]},
        {"solution", "generations"},
    ),
    "DAPO": (
        {"prompt": [user("2 + 3?")], "reward_model": {"ground_truth": "5", "style": "rule"},
         "data_source": "x", "extra_info": {"index": "a"}},
        {"data_source", "extra_info"},
    ),
    "DAPO, processed": ({"prompt": "2 + 3?", "solution": "5"}, set()),
    "Skywork-OR1": (
        {"prompt": [user("2 + 3?")], "reward_model": {"ground_truth": '["5"]'}}, set(),
    ),
    "DeepScaleR": ({"problem": "2 + 3?", "answer": "5", "solution": "Add."}, {"solution"}),
    "DeepMath": (
        {"question": "2 + 3?", "final_answer": "5", "r1_solution_1": "x"}, {"r1_solution_1"},
    ),
    "BigMath": ({"problem": "2 + 3?", "answer": "5", "llama8b_solve_rate": 0.5},
                {"llama8b_solve_rate"}),
    "OpenMathInstruct": (
        {"problem": "2 + 3?", "generated_solution": r"\boxed{4}", "expected_answer": "5"},
        {"generated_solution"},
    ),
    "OlympiadBench": (
        {"question": "2 + 3?", "final_answer": ["5"], "context": None, "image_1": None}, set(),
    ),
    "MetaMathQA": ({"query": "2 + 3?", "response": "Add.\nThe answer is: 5"}, set()),
    "AIME": ({"ID": "1", "Problem": "2 + 3?", "Solution": "Add.", "Answer": 5},
             {"ID", "Solution"}),
    "a column of numbers with one missing": ({"question": "2 + 3?", "answer": 5.0}, set()),
}  # fmt: skip

READ = [
    pytest.param(loader, *case, id=f"{loader.__name__}, {name}")
    for loader, cases in (
        (instruction_rows, INSTRUCTIONS), (preference_rows, PREFERENCES), (unpaired_rows, UNPAIRED),
        (math_rows, {name: (raw, QUESTION, unused) for name, (raw, unused) in MATHS.items()}),
        (math_rows, {"SVAMP": (
            {"Body": "Ann has 3.", "Question": "How many?", "Answer": 3.0, "Type": "x"},
            {"prompt": [user("Ann has 3.\n\nHow many?")], "answer": "3"}, {"Type"},
        )}),
    )
    for name, case in cases.items()
]  # fmt: skip


@pytest.mark.parametrize(("loader", "raw", "expected", "unused"), READ)
def test_a_row_is_read_and_what_is_not_used_is_named(tmp_path, loader, raw, expected, unused):
    rows = load(tmp_path, loader, raw)
    assert rows == [expected] and rows.dropped == {}
    assert set(rows.unused) == unused


# data set: (loader, its row, what the error says of it)
REFUSED = {
    "KTO labels among pairs": (
        preference_rows, {"prompt": ASKED, "completion": GOOD, "label": True}, "unpaired_rows",
    ),
    "pairs among instructions": (
        instruction_rows, {"prompt": ASKED, "chosen": GOOD, "rejected": BAD}, "preference_rows",
    ),
    "pairs behind a conversation": (
        instruction_rows, {"conversations": SHARED[:1], "chosen": SHARED[1], "rejected": SHARED[1]},
        "take preference_rows",
    ),
    "instructions among pairs": (
        preference_rows, {"instruction": ASKED, "input": "", "output": GOOD}, "no field 'chosen'",
    ),
    "no label": (unpaired_rows, {"prompt": ASKED, "completion": GOOD}, "no field 'label'"),
    "a rating for a label": (
        unpaired_rows, {"prompt": ASKED, "completion": GOOD, "label": 4}, "'label' is 4",
    ),
    "LLaVA": (
        instruction_rows, {"image": "a.png", "conversations": SHARED}, "in field 'image'",
    ),
    "images": (instruction_rows, {"messages": TALK, "images": ["a.png"]}, "in field 'images'"),
    "images as bytes": (
        preference_rows, {"prompt": ASKED, "chosen": GOOD, "rejected": BAD,
                          "image": {"bytes": "AA", "path": None}}, "in field 'image'",
    ),
    "an image in a question": (
        math_rows, {"question": "How long?", "answer": "5", "image_1": "a.png"}, "'image_1'",
    ),
    "an image part": (
        instruction_rows,
        {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "a.png"}}, {"type": "text", "text": "?"}]},
            assistant(GOOD)]},
        "a part of the type 'image_url'",
    ),
    "audio of a message": (
        instruction_rows, {"messages": [{**user("?"), "audio": "a.wav"}, assistant(GOOD)]},
        "with audio in a message",
    ),
    "MMLU": (
        instruction_rows, {"question": "?", "choices": ["a", "b"], "answer": 1}, "'choices'",
    ),
    "AQuA": (math_rows, {"question": "?", "options": ["A)1"], "answer": "A"}, "'options'"),
    "an unknown role": (
        instruction_rows, {"messages": [user("?"), {"role": "narrator", "content": "So."}]},
        "the unknown role 'narrator'",
    ),
    "Glaive": (
        instruction_rows, {"system": "SYSTEM: Help.", "chat": "USER: Hi\n\n\nASSISTANT: Hello"},
        "'chat' holds text alone",
    ),
    "text alone": (instruction_rows, {"text": "Rivers flow."}, "'text' holds text alone"),
    "MT-Bench": (
        instruction_rows, {"prompt": ["First?", "Then?"], "completion": GOOD}, "must hold messages",
    ),
    "history that is a number": (
        instruction_rows, {"instruction": ASKED, "output": GOOD, "history": [5]}, "'history' must",
    ),
    "context in pieces": (
        instruction_rows, {"question": ASKED, "answer": GOOD, "context": ["a", "b"]},
        "field 'context' must be text",
    ),
    "broken tools": (
        instruction_rows, {"messages": TALK, "tools": "{"}, "field 'tools' must be JSON",
    ),
    "broken calls": (
        instruction_rows,
        {"messages": [user("?"), {**assistant(""), "tool_calls": [{"function": {}}]}]},
        "tool calls that cannot be read",
    ),
    "several answers": (
        math_rows, {"question": "?", "final_answer": ["1", "2"]}, "'final_answer' must be text",
    ),
    "UltraFeedback, as published": (
        preference_rows, {"instruction": ASKED, "completions": [{"response": GOOD}]}, "no field",
    ),
    "an unknown verdict": (
        preference_rows, {"prompt": ASKED, "response_a": GOOD, "response_b": BAD, "winner": "x"},
        "verdict that is unknown",
    ),
    "scores that are words": (
        preference_rows, {"prompt": ASKED, "answer_0": GOOD, "answer_1": BAD, "score_0": "good",
                          "score_1": "bad"},
        "verdict that is unknown",
    ),
    "a conversation of nothing": (instruction_rows, {"messages": [None]}, "must hold messages"),
    "a step that is nothing": (
        step_rows, {"prompt": "?", "completions": [None], "labels": [True]}, "must be text",
    ),
    "tests that are a number": (
        code_rows, {"prompt": "def f(x):", "test": 5, "entry_point": "f"}, "must be tests",
    ),
    "tests without an entry point": (
        code_rows, {"prompt": "def f(x):", "test": "assert f(1)"}, "no field",
    ),
}  # fmt: skip
# (loader, the row, the reason)
DROPPED = {
    "a bad reply of a KTO set": (
        instruction_rows, {"prompt": ASKED, "completion": BAD, "label": False},
        "whose field 'label' calls the reply bad",
    ),
    "a wrong solution": (
        instruction_rows, {"problem": "?", "generated_solution": BAD, "is_correct": False},
        "whose field 'is_correct' calls the reply bad",
    ),
    "an unsafe reply": (
        instruction_rows, {"prompt": ASKED, "response": BAD, "is_safe": False},
        "whose field 'is_safe' calls the reply bad",
    ),
    "a reply of weight zero": (
        instruction_rows, {"messages": [user(ASKED), assistant(BAD, weight=0)]},
        "whose reply is marked as not to be trained",
    ),
    "Axolotl's train: false": (
        instruction_rows, {"conversations": [SHARED[0], {**SHARED[1], "train": False}]},
        "whose reply is marked as not to be trained",
    ),
    "a greeting first": (
        instruction_rows, {"messages": [assistant("Hello"), *TALK]},
        "whose turns do not alternate from user to user",
    ),
    "two users": (
        instruction_rows, {"messages": [user("Hi"), *TALK]},
        "whose turns do not alternate from user to user",
    ),
    "a tie of the arena": (
        preference_rows,
        {"prompt": ASKED, "response_a": GOOD, "response_b": BAD, "winner": "tie (bothbad)"},
        "with replies that are judged equal",
    ),
    "no preference": (
        preference_rows,
        {"prompt": ASKED, "response_1": GOOD, "response_2": BAD, "preference_strength": 0},
        "with replies that are judged equal",
    ),
    "equal ranks": (
        preference_rows, {"prompt": ASKED, "answers": [{"answer": GOOD, "rank": 1}] * 2},
        "with replies that are judged equal",
    ),
    "equal calls": (
        preference_rows, {"prompt": "?", "chosen": [assistant("", tool_calls=[CALL])],
                          "rejected": [assistant("", tool_calls=[CALL])]},
        "with chosen equal to rejected",
    ),
    "earlier replies that differ": (
        preference_rows,
        {"chosen": TURNS, "rejected": [user("Hi"), assistant("Ho"), *TALK]},
        "whose two replies answer different prompts",
    ),
    "a problem that is not valid": (
        math_rows, {"problem": "?", "answer": "5", "problem_is_valid": "Incomplete"},
        "whose field 'problem_is_valid' is not 'Yes'",
    ),
    "instructions among mathematics": (
        math_rows, {"instruction": ASKED, "output": GOOD}, "with a solution that marks no answer",
    ),
    "a proof": (
        math_rows, {"problem": "?", "solution": "First, assume the opposite. " * 5},
        "with a solution that marks no answer",
    ),
    "tests that need a package": (
        code_rows,
        {"text": "?", "test_list": ["assert f(1) == 1"], "test_setup_code": "import numpy"},
        "with tests that cannot be read",
    ),
    "no tests of APPS": (
        code_rows, {"question": "Add.", "input_output": ""}, "with tests that cannot be read",
    ),
    "an empty test_list": (
        code_rows, {"text": "?", "test_list": []}, "with tests that cannot be read",
    ),
    "a step that is empty": (
        step_rows, {"prompt": "?", "completions": [" "], "labels": [True]}, "with an empty step",
    ),
}  # fmt: skip
FINE = {
    instruction_rows: {"prompt": ASKED, "completion": GOOD},
    preference_rows: {"prompt": ASKED, "chosen": GOOD, "rejected": BAD},
    unpaired_rows: {"prompt": ASKED, "completion": GOOD, "label": True},
    math_rows: {"question": "2 + 3?", "answer": "5"},
    code_rows: {"prompt": "Square.", "tests": ["assert f(2) == 4"]},
    step_rows: {"prompt": "?", "completions": ["a"], "labels": [True]},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_of_rows_that_cannot_be_read_is_refused_by_name(tmp_path, name):
    loader, raw, said = REFUSED[name]
    with pytest.raises(ValueError) as error:
        load(tmp_path, loader, raw, raw)
    assert str(error.value).startswith(f"{tmp_path / 'rows.jsonl'}, row 1: ")
    assert said in str(error.value)


@pytest.mark.parametrize("name", REFUSED)
def test_one_odd_row_is_dropped_and_counted(tmp_path, name):
    loader, raw, _ = REFUSED[name]
    rows = load(tmp_path, loader, FINE[loader], raw, FINE[loader])
    assert len(rows) == 2 and list(rows.dropped.values()) == [1]


@pytest.mark.parametrize("name", DROPPED)
def test_a_row_that_teaches_nothing_is_dropped_and_counted(tmp_path, name):
    loader, raw, reason = DROPPED[name]
    rows = load(tmp_path, loader, FINE[loader], raw, raw, raw)  # however many there are
    assert len(rows) == 1 and rows.dropped == {reason: 3}


def test_where_most_rows_are_odd_the_first_is_named_even_of_a_draw(tmp_path):
    raw = [FINE[instruction_rows], *[{"prompt": f"{i}?"} for i in range(300)]]
    for n in (None, 2, 250):
        with pytest.raises(
            ValueError, match=r"row \d+: no field 'completion'.*rows read .* cannot"
        ):
            load(tmp_path, instruction_rows, *raw, n=n)
    half = [*raw[1:3], *raw[:1] * 2]
    assert load(tmp_path, instruction_rows, *half).dropped == {"no field 'completion'": 2}


def test_reasons_beyond_many_are_counted_together(tmp_path):
    talks = [{"messages": [user("?"), {"role": f"role{i}", "content": "So."}]} for i in range(90)]
    rows = load(tmp_path, instruction_rows, *talks, *[FINE[instruction_rows]] * 90)
    assert len(rows.dropped) == 51 and sum(rows.dropped.values()) == 90


def test_what_is_not_used_comes_by_count_and_name(tmp_path):
    raw = {"prompt": ASKED, "completion": GOOD} | dict.fromkeys("fbdgac", 1)
    rows = load(tmp_path, instruction_rows, raw, raw | {"a0": 1})
    assert list(rows.unused) == [*"abcdfg", "a0"]


def test_columns_name_what_has_other_names(tmp_path):
    raw = {"q": ASKED, "reply": {"text": GOOD}, "note": "x", "label": 0}
    columns = {"prompt": "q", "completion": "reply.text", "label": None}
    rows = load(tmp_path, instruction_rows, raw, columns=columns)
    assert rows == [PLAIN] and set(rows.unused) == {"note"}
    # A mapped field goes before one of a known name, and may be optional.
    raw = {"messages": TALK, "q": "Hi", "a": "Hello", "s": "Be brief."}
    columns = {"prompt": "q", "output": "a", "system": "s"}
    rows = load(tmp_path, instruction_rows, raw, columns=columns)
    assert rows[0]["prompt"] == [system("Be brief."), user("Hi")]
    assert rows[0]["completion"] == [assistant("Hello")]
    webgpt = {"question": {"full_text": ASKED}, "answer_0": BAD, "answer_1": GOOD}
    webgpt |= {"score_0": -1.0, "score_1": 1.0}
    rows = load(tmp_path, preference_rows, webgpt, columns={"question": "question.full_text"})
    assert rows == [PAIR]
    orz = {"0": {"value": "2 + 3?"}, "1": {"ground_truth": {"value": "5"}}}
    columns = {"question": "0.value", "answer": "1.ground_truth.value"}
    assert load(tmp_path, math_rows, orz, columns=columns) == [QUESTION]


def test_columns_that_are_not_there_or_not_read_are_named(tmp_path):
    raw = {"q": ASKED, "a": GOOD}
    with pytest.raises(ValueError, match="row 1: no field 'qq'"):
        load(tmp_path, instruction_rows, raw, columns={"prompt": "qq", "completion": "a"})
    with pytest.raises(ValueError, match="columns= names promt, which this loader does not read"):
        load(tmp_path, instruction_rows, FINE[instruction_rows], columns={"promt": "prompt"})
    with pytest.raises(ValueError, match="tinyworld has its own names"):
        instruction_rows("tinyworld", split="train", n=1, columns={"prompt": "q"})


def test_a_field_that_occurs_twice_is_odd(tmp_path):
    twice = '{"prompt": "a", "prompt": "b", "completion": "c"}'
    fine = json.dumps(FINE[instruction_rows])
    for name, text in (("a.jsonl", f"{fine}\n{twice}\n"), ("a.json", f"[{fine},{twice}]")):
        (tmp_path / name).write_text(text)
        rows = instruction_rows(str(tmp_path / name), split="train")
        assert len(rows) == 1 and rows.dropped == {"with the field 'prompt' twice": 1}


def test_rows_with_tools_become_a_data_set_without_loss(tmp_path):
    from datasets import Dataset

    raw = [INSTRUCTIONS[name][0] for name in ("xLAM", "OpenAI's tools", "Tulu 3")]
    rows = load(tmp_path, instruction_rows, *raw)
    again = Dataset.from_list(list(rows), on_mixed_types="use_json")
    assert [again[i]["prompt"] for i in range(3)] == [row["prompt"] for row in rows]
    assert [again[i]["completion"] for i in range(3)] == [row["completion"] for row in rows]
