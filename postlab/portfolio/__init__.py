"""A portfolio from the learner's own runs; every number is bound to its evidence.

- whole: everything below in one folder, by one call
- completion: what the course asks for, and a record of what was done that anybody can verify
- binding: placeholders such as `{{dpo.safety.change}}`, and what the runs say for them
- publish: the models, rows and Space sent to the Hub, after a dry run
- space: the Gradio Space, a blind side by side of the stages
- documents: README, site, posts and deck, rendered from drafts that the learner finishes
- audit, wording: what stands between a portfolio and its publication
- cards: model and data-set cards for the Hub
- handover: adapter, merged model and GGUF files, each scored again on the held-out prompts
- exports: which of these files go out with the portfolio, and why the others don't
- serving: what keeps servers from serving a folder, and the commands that serve it
- markdown: Markdown as a reader sees it, for the pages and the audit
"""

from postlab import _doors
from postlab.portfolio.audit import Problem, audit, audit_documents, check_draft
from postlab.portfolio.binding import Evidence, Value, evidence, placeholders, render, sentence
from postlab.portfolio.cards import Card, dataset_card, make_cards, model_card
from postlab.portfolio.completion import (
    Item,
    checklist,
    checklist_table,
    solved_exercises,
    verify_record,
    write_record,
)
from postlab.portfolio.documents import Written, write_documents, write_portfolio
from postlab.portfolio.handover import Handover, handover
from postlab.portfolio.publish import Plan, UploadFailed, publish
from postlab.portfolio.serving import modelfile, serving_findings, vllm_commands
from postlab.portfolio.space import write_space
from postlab.portfolio.whole import Portfolio, make_portfolio

__all__ = [
    "Card",
    "Evidence",
    "Handover",
    "Item",
    "Plan",
    "Portfolio",
    "Problem",
    "UploadFailed",
    "Value",
    "Written",
    "audit",
    "audit_documents",
    "check_draft",
    "checklist",
    "checklist_table",
    "dataset_card",
    "evidence",
    "handover",
    "make_cards",
    "make_portfolio",
    "model_card",
    "modelfile",
    "placeholders",
    "publish",
    "render",
    "sentence",
    "serving_findings",
    "solved_exercises",
    "verify_record",
    "vllm_commands",
    "write_documents",
    "write_portfolio",
    "write_record",
    "write_space",
]

_doors.publish(__name__)
