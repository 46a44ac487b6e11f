"""Write the portfolio of a profile's runs and say what is left to do: `make portfolio`.

    python -m postlab.portfolio            runs/<profile>/portfolio, from $POSTLAB_PROFILE's runs
    python -m postlab.portfolio check      the same, with the checklist, a record and the audit
    python -m postlab.portfolio verify F   compare a record (completion.json) with the files by it

The exit status is 0 if nothing is left to mend, 1 if something is, and 2 for a wrong command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from postlab.portfolio import (
    checklist,
    checklist_table,
    evidence,
    make_portfolio,
    verify_record,
    write_record,
)
from postlab.profile import get_profile
from postlab.runs import run_root

SHOWN = 20  # problems


def main(arguments: Sequence[str]) -> int:
    """Run one command; the return value is the exit status."""
    command, *rest = arguments or ["make"]
    if command == "verify" and len(rest) == 1:
        wrong = verify_record(rest[0])
        print("\n".join(wrong) or "the record agrees with the files beside it")
        return int(bool(wrong))
    if command not in ("make", "check") or rest:
        print(__doc__, file=sys.stderr)
        return 2
    profile = get_profile()
    portfolio = make_portfolio(profile, to=run_root() / profile.name / "portfolio")
    print(portfolio)
    if command == "check":
        known = evidence(profile.name)
        notebooks = Path("notebooks")
        folder = notebooks if notebooks.is_dir() else None
        print(checklist_table(checklist(portfolio, known, notebooks=folder)).to_string())
        write_record(portfolio, known, notebooks=folder)
    for problem in portfolio.problems[:SHOWN]:
        print(problem)
    if len(portfolio.problems) > SHOWN:
        print(f"and {len(portfolio.problems) - SHOWN} more")
    return int(bool(portfolio.problems))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
