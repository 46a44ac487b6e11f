"""A portfolio made from the learner's own runs, in which every number is bound to its evidence.

- binding: placeholders such as `{{dpo.safety.change}}`, and what the runs say for them
- documents: README, site, posts and deck, rendered from drafts that the learner finishes
- audit, wording: what stands between a portfolio and its publication
- handover: adapter, merged model and GGUF files, each scored again on the held-out prompts
- serving: what keeps servers from serving a folder, and the commands that serve it
- markdown: Markdown as a reader sees it, for the pages and the audit
"""

from postlab import _doors
from postlab.portfolio.audit import Problem, audit, audit_documents
from postlab.portfolio.binding import Evidence, Value, evidence, placeholders, render, sentence
from postlab.portfolio.documents import Written, write_documents, write_portfolio
from postlab.portfolio.handover import Handover, handover
from postlab.portfolio.serving import modelfile, serving_findings, vllm_commands

__all__ = [
    "Evidence",
    "Problem",
    "Value",
    "Written",
    "audit",
    "audit_documents",
    "evidence",
    "placeholders",
    "render",
    "sentence",
    "write_documents",
    "write_portfolio",
    "Handover",
    "handover",
    "modelfile",
    "serving_findings",
    "vllm_commands",
]

_doors.publish(__name__)
