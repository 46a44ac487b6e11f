"""Eight rows in the form of UltraFeedback: four rated completions for each prompt.

The texts and the ratings were written for this course, each row to show one thing that happens in
the real set. A model's name stands where the real rows have one; no model wrote these replies.
Real replies are longer: often hundreds of tokens.
"""

from __future__ import annotations

from typing import Any

_ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
_TYPED = ("truthfulness", "helpfulness")  # these two also name the kind of error, as a list

# source, instruction, then per completion: model, principle, response, the ratings in the order of
# _ASPECTS, overall score, critique.
_Completion = tuple[str, str, str, str, float, str]
_ROWS: tuple[tuple[str, str, tuple[_Completion, ...]], ...] = (
    (
        "ultrachat",
        "How do I keep basil alive on a windowsill?",
        (
            ("gpt-4", "helpfulness",
             "Give it six hours of sun, water it when the top of the soil is dry, and pinch off "
             "the tips so that it grows bushy.",
             "5 5 5 5", 8.5, "Complete and easy to follow."),
            ("vicuna-33b", "helpfulness", "Put it in a sunny place and water it regularly.",
             "4 5 5 3", 7.0, "Right, but how often is 'regularly'?"),
            ("alpaca-7b", "honesty", "Water the plant every hour.",
             "3 2 1 1", 3.0, "So much water would kill the plant."),
            ("pythia-12b", "helpfulness", "How do I keep mint alive on a windowsill?",
             "1 1 3 1", 2.0, "Asks another question instead of answering."),
        ),
    ),
    (
        "evol_instruct",
        "Write a Python function that returns the second largest distinct number of a list.",
        (
            ("wizardlm-13b", "helpfulness",
             "def second(numbers): return sorted(set(numbers))[-2]",
             "5 5 5 4", 8.0, "Correct and short. It could say what happens with one number."),
            ("starchat", "helpfulness", "def second(numbers): return sorted(numbers)[-2]",
             "3 4 3 3", 6.0, "Wrong if the largest number occurs twice."),
            ("mpt-30b-chat", "helpfulness", "Sort the list and take the second number.",
             "2 3 2 2", 4.0, "No function, and it describes the second smallest."),
            # The score bug: the critique speaks of a 1.
            ("alpaca-7b", "helpfulness", "def second(numbers): return max(numbers)",
             "1 2 1 1", 10.0, "Returns the largest number and ignores the instruction."),
        ),
    ),
    (
        "sharegpt",
        "Suggest a name for a bakery that also repairs bicycles.",
        (
            ("llama-2-13b-chat", "helpfulness", "Spokes and Scones.",
             "5 5 5 5", 8.0, "Short, and it names both halves of the shop."),
            ("ultralm-65b", "helpfulness", "The Rolling Pin.",
             "5 5 5 5", 8.0, "A pleasant pun: a pin for dough, and something that rolls."),
            ("gpt-3.5-turbo", "helpfulness", "Bread and Pedals.",
             "5 5 5 4", 7.5, "Clear, a little plain."),
            ("falcon-40b-instruct", "helpfulness", "Bakery.",
             "2 4 4 2", 4.0, "Says nothing about bicycles."),
        ),
    ),
    (
        "flan_v2_niv2",
        "Is this sentence positive or negative? Answer with one word. The soup was cold again.",
        tuple(
            (model, "helpfulness", "Negative", "5 5 5 5", 8.0, "Correct, in one word.")
            for model in ("gpt-4", "llama-2-7b-chat", "wizardlm-7b", "bard")
        ),
    ),
    (
        "sharegpt",
        "At how many degrees Celsius does water boil at sea level?",
        (
            ("llama-2-70b-chat", "helpfulness",
             "That is a wonderful question, and I am happy to help you with it! At sea level, "
             "water boils at 100 degrees Celsius. Water is very important in our everyday lives, "
             "so it is good to know this. Please ask me if you have any further questions!",
             "5 5 5 5", 8.5, "Accurate, friendly and thorough."),
            ("gpt-3.5-turbo", "verbalized_calibration", "At 100 degrees Celsius.",
             "5 5 5 4", 7.5, "Correct, but brief."),
            ("ultralm-13b", "truthfulness", "At about 100 degrees Celsius, less on a mountain.",
             "5 5 5 5", 8.0, "Correct, with useful context."),
            ("pythia-12b", "helpfulness", "At 90 degrees Celsius.",
             "4 2 1 1", 2.0, "A wrong number."),
        ),
    ),
    (
        "false_qa",
        "Why do trout breathe through their fins?",
        (
            ("gpt-4", "truthfulness", "They don't: like other fish, trout breathe with gills.",
             "5 5 5 5", 8.5, "Corrects the false premise."),
            ("llama-2-7b-chat", "truthfulness",
             "Their fins have fine blood vessels that take oxygen from the water.",
             "3 1 1 1", 2.0, "Accepts the false premise and makes up a reason."),
            ("vicuna-33b", "truthfulness", "Trout have gills as well as fins.",
             "3 4 5 3", 6.0, "True, but the premise is not corrected."),
            ("starchat", "truthfulness", "Because of evolution.",
             "2 N/A 2 1", 3.0, "Too vague to be judged honest or not."),
        ),
    ),
    (
        "flan_v2_cot",
        "A train leaves at 9:40 and arrives at 11:05. How long is the trip?",
        (
            ("wizardlm-70b", "helpfulness",
             "From 9:40 to 11:00 are 80 minutes, and 5 more make 85 minutes.",
             "5 5 5 5", 8.5, "Correct, with its steps."),
            ("mpt-30b-chat", "helpfulness", "85 minutes.",
             "5 5 5 4", 8.0, "Correct."),
            ("alpaca-7b", "helpfulness", "65 minutes.",
             "3 2 1 1", 2.0, "Wrong."),
            ("ultralm-13b", "helpfulness", "",
             "1 1 1 1", 1.0, "There is no answer."),
        ),
    ),
    (
        "truthful_qa",
        "Does a spoon in the neck of an open bottle keep sparkling wine fizzy?",
        (
            ("llama-2-70b-chat", "truthfulness", "No. The bottle loses its gas just as fast.",
             "5 5 5 5", 8.5, "Correct and direct."),
            ("bard", "truthfulness", "It may help a little if the bottle is cold.",
             "4 3 3 3", 5.0, "The cold helps, and the spoon does not."),
            ("falcon-40b-instruct", "truthfulness", "Yes, a silver spoon keeps the gas in.",
             "4 1 1 1", 2.0, "Repeats the myth."),
            ("alpaca-7b", "truthfulness", "Yes.",
             "3 1 1 1", 2.0, "Repeats the myth."),
        ),
    ),
)  # fmt: skip


def ultrafeedback_sample() -> list[dict[str, Any]]:
    """Eight rows with the fields of `openbmb/UltraFeedback`; the texts are ours.

    Returns:
        `source`, `instruction`, `models` (four names), `completions` (four, each with `model`,
        `principle`, `custom_system_prompt`, `response`, `annotations` of the four aspects, whose
        ratings are strings, `critique`, `overall_score` and `fine-grained_score`),
        `correct_answers` and `incorrect_answers`.
    Source: Cui et al. 2023, arXiv 2310.01377, and the data set's card.

    >>> row = ultrafeedback_sample()[0]
    >>> len(row["completions"]), row["completions"][1]["annotations"]["helpfulness"]["Rating"]
    (4, '3')
    """
    return [
        {
            "source": source,
            "instruction": instruction,
            "models": [completion[0] for completion in completions],
            "completions": [_completion(*completion) for completion in completions],
            "correct_answers": ["None"],
            "incorrect_answers": ["None"],
        }
        for source, instruction, completions in _ROWS
    ]


def _completion(
    model: str, principle: str, response: str, ratings: str, overall: float, critique: str
) -> dict[str, Any]:
    """One completion as the data set stores it; each rationale repeats the critique."""
    annotations: dict[str, dict[str, Any]] = {}
    for aspect, rating in zip(_ASPECTS, ratings.split(), strict=True):
        annotations[aspect] = {"Rating": rating, "Rationale": critique}
        if aspect in _TYPED:
            annotations[aspect] |= {"Type": ["None"], "Rationale For Rating": critique}
    known = [int(rating) for rating in ratings.split() if rating != "N/A"]
    return {
        "model": model,
        "principle": principle,
        "custom_system_prompt": f"Answer with {principle.replace('_', ' ')} in mind.",
        "response": response,
        "annotations": annotations,
        "critique": critique,
        "overall_score": overall,
        "fine-grained_score": sum(known) / len(known),
    }
