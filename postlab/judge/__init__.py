"""Judges for pairs of answers, and what their votes say once their biases are removed.

- pairs: an oracle, a noisy judge, and a frame of votes in both orders
- models: a language model as a judge, in memory or behind an OpenAI-compatible address
- endpoint: how such an address is asked: deadlines, retries, a log of paid answers, their cost
- rates: win rates, position bias, and the win rate at equal length
- quality: two stages compared on open questions in one call, with its cost told first
- reviews: training rows for a person to review twice, and how far the two passes agree
- votes: blind pairs for people to judge, and the file that keeps their votes
"""

from postlab import _doors
from postlab.judge.endpoint import JudgeError
from postlab.judge.models import (
    RUBRIC,
    endpoint_chat,
    endpoint_judge,
    model_judge,
    question,
)
from postlab.judge.pairs import Judge, judge_pairs, noisy_judge, oracle_judge
from postlab.judge.quality import QualityCost, ResponseQuality, quality_cost, response_quality
from postlab.judge.rates import length_controlled_rate, position_bias, preference_rate
from postlab.judge.reviews import (
    DECISIONS,
    ReviewItem,
    ReviewLog,
    review_agreement,
    review_frame,
    review_items,
)
from postlab.judge.votes import CHOICES, Pair, VoteLog, pairs_of

__all__ = [
    "CHOICES",
    "DECISIONS",
    "RUBRIC",
    "Judge",
    "JudgeError",
    "Pair",
    "QualityCost",
    "ResponseQuality",
    "ReviewItem",
    "ReviewLog",
    "VoteLog",
    "endpoint_chat",
    "endpoint_judge",
    "judge_pairs",
    "length_controlled_rate",
    "model_judge",
    "noisy_judge",
    "oracle_judge",
    "pairs_of",
    "position_bias",
    "preference_rate",
    "quality_cost",
    "question",
    "response_quality",
    "review_agreement",
    "review_frame",
    "review_items",
]

_doors.publish(__name__)
