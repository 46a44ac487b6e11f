"""Drafts and what is rendered from them: bound numbers, the learner's words, pages on their own."""

import dataclasses
import json
import shutil
from html.parser import HTMLParser

import pytest
import yaml

from postlab.portfolio import (
    Value,
    evidence,
    make_cards,
    model_card,
    render,
    write_documents,
)
from postlab.portfolio.audit import check_draft
from postlab.portfolio.documents import drafts, page_name, rendered
from postlab.portfolio.markdown import to_html
from postlab.runs import MissingStage


def test_placeholders_say_what_the_claims_say(values):
    claim = next(c for c in values.claims if (c.stage, c.metric) == ("dpo", "safety"))
    change = values["dpo.safety.change"]
    assert change.number == pytest.approx(100 * claim.change) and change.unit == "points"
    assert values["dpo.safety.value"].text == f"{100 * claim.value:.1f}%"
    low, high = (f"{100 * x:+.1f}" for x in (claim.change_low, claim.change_high))
    assert values["dpo.safety.sentence"].text == (
        f"Safety improved from SFT to DPO: {change.text} (95% interval {low} to {high}; one seed)"
    )
    assert values["dpo.helpfulness.sentence"].text.startswith(
        "The change in helpfulness from SFT to DPO is inconclusive: +1.0 points ("
    )
    assert values["sft.over_refusal.sentence"].text.startswith("Over-refusal got worse from base")
    assert values["dpo.safety.clause"].text.startswith("safety improved from SFT to DPO: ")
    assert "; " + values["dpo.safety.caveats"].text in str(claim)
    assert values["dpo.safety.verdict"].claim == claim


@pytest.mark.parametrize(
    ("metric", "before", "change", "after"),
    [
        ("over_refusal", "3.5%", "−1.0 points", "2.5%"),  # else 4%, −1 and 2%
        ("helpfulness", "96.5%", "+1.0 points", "97.5%"),  # else 96%, +1 and 98%
        ("lists", "42.5%", "+12.5 points", "55.0%"),  # else 42%, +12 and 55%
    ],
)
def test_rounded_values_and_their_change_add_up(values, metric, before, change, after):
    names = (f"sft.{metric}.value", f"dpo.{metric}.change", f"dpo.{metric}.value")
    assert tuple(values[name].text for name in names) == (before, change, after)


def test_all_and_none_are_shown_for_all_and_none_only(values):
    shares = [v for n, v in values.items() if n.endswith(".value") and v.unit == "%"]
    assert {v.text for v in shares} & {"100%", "99.5%"} == {"100%", "99.5%"}
    assert all((v.text == "100%") == (v.number == 100) for v in shares)
    assert all((v.text == "0%") == (v.number == 0) for v in shares)


def test_few_prompts_get_whole_percentages_where_these_add_up(values):
    from postlab.portfolio.binding import _digits

    def row(stage, value, n=40):
        return {"stage": stage, "metric": "facts", "value": value, "n": n, "copied": False}

    claim = next(c for c in values.claims if (c.stage, c.metric) == ("dpo", "facts"))

    def digits(before, after, n=40):
        made = dataclasses.replace(claim, change=after - before)
        return _digits([row("sft", before, n), row("dpo", after, n)], [made]).get("facts", 0)

    assert digits(0.5, 0.75) == 0 and digits(0.5, 1.0) == 0
    assert digits(0.5, 0.75, n=200) == 1
    assert digits(0.504, 0.746) == 1  # 50%, +24 and 75%
    assert digits(0.5, 0.996) == 1  # not all


def test_rates_are_the_change_divided_by_what_was_measured(values):
    change, minutes = values["grpo.arithmetic.change"].number, values["grpo.train_minutes"].number
    assert values["grpo.arithmetic.per_minute"].number == pytest.approx(change / minutes)
    # 40 steps of 64 completions, 8 a prompt: 320 of the 2,000 prompts
    assert (values["grpo.rows"].text, values["grpo.rows_used"].text) == ("2,000", "320")
    assert values["grpo.arithmetic.per_1000_rows"].number == pytest.approx(change / 0.32)
    assert "grpo.facts.per_minute" not in values  # inconclusive: there is nothing to divide
    assert "base.train_minutes" not in values and "base.safety.change" not in values


def test_training_on_a_part_of_the_rows_is_told_the_same_way_everywhere(values):
    told = "Training used 320 of the 2,000 prompts."
    assert told in str(model_card("grpo", profile="tiny", known=values))
    texts = drafts(values)
    assert all(told in render(texts[name], values) for name in ("README", "grpo"))
    assert "on 2,000" not in render(texts["README"], values)
    cards = {card.name: str(card) for card in make_cards("tiny", known=values)}
    rows = cards["tiny-grpo-rows"]
    assert told in rows and "used to train" not in rows
    assert "used to train the SFT stage" in cards["tiny-sft-rows"]


def test_an_unknown_placeholder_names_its_line_and_the_nearest_name():
    known = {"dpo.safety.change": Value("+56 points")}
    assert render("a {{ dpo.safety.change }} b", known) == "a +56 points b"
    with pytest.raises(ValueError, match=r"line 2.*did you mean 'dpo\.safety\.change'"):
        render("\n{{dpo.safty.change}}", known)
    with pytest.raises(ValueError, match="line 1.*'}}'"):
        render("{{dpo.safety.change\n}}", known)
    # A value is text: what looks like a placeholder in it is not looked up again.
    assert render("{{a}}", {"a": Value("{{b}}")}) == "{{b}}"


def test_nothing_trained_names_the_command(tmp_path):
    with pytest.raises(MissingStage, match="make stages"):
        evidence("tiny", root=tmp_path)


def test_the_deck_has_eight_slides_and_every_post_its_four_holes(values):
    texts = drafts(values)
    assert texts["deck"].split("---\n", 2)[2].count("\n---\n") == 7
    for name in ("sft", "dpo", "grpo"):
        assert texts[name].count("TODO(you)") == 4


def test_a_slide_tells_the_loss_of_its_stage(values):
    told = drafts(values)["deck"].split("# SFT")[1].split("---")[0]
    assert told.index("sft.over_refusal.sentence") < told.index("sft.helpfulness.sentence")


def test_a_note_is_told_once_with_the_metrics_it_is_about(values):
    noted = values["cai.caveat.noted"].text
    assert (
        noted.count("labelled pairs that teach this (on all metrics except chat format, safety")
        == 1
    )
    assert noted.endswith("on these very prompts (on over-refusal)")


def test_what_the_learner_wrote_is_kept_and_the_rest_renewed(values, tmp_path):
    first = write_documents(values, to=tmp_path)
    assert len(first.drafts) == 7 and not first.kept
    draft = tmp_path / "drafts" / "dpo.md"
    draft.write_text(draft.read_text(encoding="utf-8") + "\nMy own words.\n", encoding="utf-8")
    (tmp_path / "sft.md").write_text("edited by hand", encoding="utf-8")
    again = write_documents(values, to=tmp_path)
    assert again.kept == ("drafts/dpo.md",) and len(again.drafts) == 6
    assert "My own words." in draft.read_text(encoding="utf-8")
    assert "My own words." in (tmp_path / "dpo.html").read_text(encoding="utf-8")
    assert (tmp_path / "sft.md").read_text(encoding="utf-8").startswith("# SFT")
    (tmp_path / "drafts" / ".written.json").unlink()  # who wrote them isn't known: all are kept
    assert len(write_documents(values, to=tmp_path).kept) == 7


def test_a_draft_that_cannot_be_rendered_leaves_all_files_as_they_were(values, tmp_path):
    write_documents(values, to=tmp_path)
    before = (tmp_path / "sft.html").read_bytes()
    (tmp_path / "drafts" / "dpo.md").write_text("{{dpo.safty.change}}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"drafts/dpo\.md, line 1"):
        write_documents(values, to=tmp_path)
    assert (tmp_path / "sft.html").read_bytes() == before


@pytest.mark.parametrize("stages", [("base",), ("base", "sft")])
def test_a_portfolio_can_be_begun_after_the_first_stage(values, tmp_path, stages):
    part = dataclasses.replace(
        values,
        known={n: v for n, v in values.known.items() if n.partition(".")[0] in (*stages, n)},
        claims=tuple(c for c in values.claims if c.stage in stages),
        frame=values.frame[values.frame["stage"].isin(stages)],
        runs=tuple(run for run in values.runs if run.stage in stages),
    )
    texts = drafts(part)
    assert "make week N=07 PROFILE=tiny SEED=0" in texts["grpo"]
    for path, text in rendered(texts, part).items():
        assert "GRPO against" not in text, path
    found = [problem for name, text in texts.items() for problem in check_draft(name, text, part)]
    assert {problem.code for problem in found} == {"hole"}
    with pytest.raises(ValueError, match="depth='grpo'"):
        drafts(part, depth="grpo")


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_pages_load_nothing_fit_a_phone_and_describe_their_figures(finished):
    for path in finished.glob("*.html"):
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        tags = [tag for tag, _ in page.tags]
        assert not {"script", "iframe", "link", "object"} & set(tags)
        assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
            page.tags
        )
        for tag, attributes in page.tags:
            assert "width" not in attributes
            if tag == "img":
                assert len(attributes["alt"]) > 10 and (finished / attributes["src"]).is_file()
            if tag == "a":
                assert (
                    attributes["href"].startswith("https://")
                    or (finished / attributes["href"].partition("#")[0]).is_file()
                )
        assert tags.count("table") == path.read_text(encoding="utf-8").count('class="scroll"')


def test_html_in_a_draft_is_shown_and_never_passed_on():
    html = to_html('<script>alert(1)</script> [x](javascript:alert(1)) ![a](x.png "t")', page_name)
    assert "<script" not in html and "javascript:" not in html.replace("](javascript:", "")


def test_links_between_documents_lead_to_pages_in_the_site():
    html = to_html("[a](sft.md#data) [b](README.md) [c](https://x.org/a.md)", page_name)
    for href in ("sft.html#data", "index.html", "https://x.org/a.md"):
        assert f'href="{href}"' in html


def test_the_workflow_is_yaml_and_pins_every_action(clean, values):
    text = rendered(clean, values)[".github/workflows/pages.yml"]
    steps = yaml.safe_load(text)["jobs"]["publish"]["steps"]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used and all(len(name.partition("@")[2]) == 40 for name in used)


def test_the_same_runs_give_the_same_files(finished, values, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    write_documents(values, to=copy)
    for path in sorted(p for p in finished.rglob("*") if p.is_file()):
        assert (copy / path.relative_to(finished)).read_bytes() == path.read_bytes(), path
    assert set(json.loads((copy / "figures/drawn.json").read_text())) >= {"stages.png"}
