"""Write the portfolio of a profile's runs and say what is left to do: `make portfolio`.

    python -m postlab.portfolio            write runs/<profile>/portfolio and audit it
    python -m postlab.portfolio check      the same, with the checklist and a record
    python -m postlab.portfolio verify F   compare a record, completion.json, with its folder

The profile is that of $POSTLAB_PROFILE. Where nothing of `tiny` has been trained yet, the stages
that ship with postlab take its place, and a line says so. The exit status is 0 if the audit finds
nothing, 1 if it finds something, and 2 for a wrong command, a file that is no record, or no runs.
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
from postlab.profile import data_dir, get_profile
from postlab.runs import CHAIN, MissingStage, Run, adopt_shipped, run_root

SHOWN = 20  # problems


def take_shipped(profile_name: str) -> list[str]:
    """Copy the main chain that ships with postlab where no run of the profile is; its stages."""
    if any((run_root() / profile_name).glob("seed-*/*/manifest.json")):
        return []
    return [stage for stage in CHAIN if adopt_shipped(Run(profile_name, 0, stage))]


def main(arguments: Sequence[str]) -> int:
    """Run one command; the return value is the exit status."""
    command, *rest = arguments or ["make"]
    if command == "verify" and len(rest) == 1:
        try:
            wrong = verify_record(rest[0])
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        print("\n".join(wrong) or "the record agrees with the files beside it")
        return int(bool(wrong))
    if command not in ("make", "check") or rest:
        print(__doc__, file=sys.stderr)
        return 2
    profile = get_profile()
    if shipped := take_shipped(profile.name):
        print(
            f"nothing is trained here yet, so postlab's own stages are used: {', '.join(shipped)}"
        )
    try:
        portfolio = make_portfolio(profile, to=run_root() / profile.name / "portfolio")
    except (MissingStage, ValueError) as error:
        print(error, file=sys.stderr)
        record = data_dir() / "results" / profile.name
        if (record / "summary.json").is_file() and not list(record.glob("*/eval.jsonl")):
            print(
                f"data/results/{profile.name} holds a summary but no answers or weights, so no "
                "portfolio can be made from it.",
                file=sys.stderr,
            )
        return 2
    print(portfolio.folder)
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
