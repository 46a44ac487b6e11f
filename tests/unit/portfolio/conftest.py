"""One reading of the shipped runs, and one portfolio of them, for all tests here."""

import matplotlib
import pytest
from portfolio_runs import filled, runs

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def values(root):
    from postlab.portfolio import evidence

    return evidence("tiny", root=root)


@pytest.fixture(scope="session")
def clean(values):
    """{name: draft} with every hole filled."""
    from postlab.portfolio.documents import drafts

    return filled(drafts(values))


@pytest.fixture(scope="session")
def finished(values, clean, tmp_path_factory):
    """A folder that may be published; tests copy it."""
    from postlab.portfolio import write_documents

    folder = tmp_path_factory.mktemp("portfolio")
    write_documents(values, to=folder)
    for name, text in clean.items():
        (folder / "drafts" / f"{name}.md").write_text(text, encoding="utf-8")
    write_documents(values, to=folder)
    return folder
