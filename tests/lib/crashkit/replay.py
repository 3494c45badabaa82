"""``python -m crashkit.replay PLAN…``: play plans by the names that a failing test prints, and keep their files."""

import sys

from crashkit.matrix import open_matrix, report
from crashkit.schedule import Plan


def main(plans: list[str]) -> int:
    """Play the plans and return how many went wrong."""
    with open_matrix(keep=True) as matrix:
        verdicts = matrix.play([Plan.parse(text) for text in plans])
        for verdict in verdicts:
            sys.stdout.write(f"{verdict.plan}: died at {verdict.deaths or 'no point'}, {verdict.outcomes}\n")
        sys.stdout.write(f"{report(verdicts) or 'no violation'}\nfiles: {matrix.folder}\n")
    return sum(bool(verdict.violations) for verdict in verdicts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
