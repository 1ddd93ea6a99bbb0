"""What the doctor finds on every patient of `fixtures/`: `python -m benchmarks.accuracy [--no-confirm] [NAME ...]`.

Prints one line a program, then the rates. A sick program is found first when the leading finding (not info) carries its
fault's name, and right in line when that finding lies on one of the lines that its table of patients names. Options
that begin with a dash are handed to `doctor diagnose`.
"""

from __future__ import annotations

import sys

from benchmarks.examination import Outcome, examine
from benchmarks.programs import patients
from benchmarks.tables import row


def main() -> None:
    """Examine all, print the table and the rates."""
    extra = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    outcomes: list[Outcome] = []
    for program in patients(names):
        outcome = examine(program, extra)
        if outcome.failure:
            # No report is no silence: the rates of a benchmark that could not look mean nothing.
            raise SystemExit(outcome.failure)
        outcomes.append(outcome)
        print(row(outcome), flush=True)
    sick = [o for o in outcomes if o.sick]
    healthy = [o for o in outcomes if not o.sick]
    first = [o for o in sick if o.first]
    print()
    print(
        f"sick: {len(sick)}; found first {len(first)}; found {sum(o.found for o in sick)}; "
        f"right line {sum(o.on_line for o in first)}; confirmed {sum(o.confirmed for o in first)}"
    )
    print(f"healthy: {len(healthy)}; silent {sum(not o.alarms for o in healthy)}")


if __name__ == "__main__":
    main()
