"""Week 12: draft sentences about the learner's own runs, and how much the audit misses."""

from postlab import _doors
from postlab.course.week12.audited import audit_rates
from postlab.course.week12.overclaims import Draft, Drafts, draft_sentences

__all__ = ["Draft", "Drafts", "audit_rates", "draft_sentences"]

_doors.publish(__name__)
