"""Week 12: draft sentences about the learner's own runs, some of which claim too much."""

from postlab import _doors
from postlab.course.week12.overclaims import Draft, Drafts, draft_sentences

__all__ = ["Draft", "Drafts", "draft_sentences"]

_doors.publish(__name__)
