"""``python -m crashkit.replay PLAN…``: play plans by the names that a failing test prints, and keep their files."""

import sys

from crashkit.matrix import open_matrix, report
from crashkit.schedule import EVERY_STORY, Plan


def main(plans: list[str]) -> int:
    """Play the plans and return how many went wrong."""
    wanted = [Plan.parse(text) for text in plans]
    with open_matrix(cloud=cloud_of(wanted), keep=True) as matrix:
        verdicts = matrix.play(wanted)
        for verdict in verdicts:
            sys.stdout.write(f"{verdict.plan}: died at {verdict.deaths or 'no point'}, {verdict.outcomes}\n")
        sys.stdout.write(f"{report(verdicts) or 'no violation'}\nfiles: {matrix.folder}\n")
    return sum(bool(verdict.violations) for verdict in verdicts)


def cloud_of(plans: list[Plan]) -> str:
    """Return the one kind of cloud on which these plans are played."""
    kinds = {EVERY_STORY[plan.story].cloud for plan in plans}
    if len(kinds) != 1:
        raise SystemExit(f"these plans are played on {', '.join(sorted(kinds))}: replay each kind by itself")
    return kinds.pop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
