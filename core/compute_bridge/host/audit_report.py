"""What an audit found: every check by name, and what was wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field, frozen

from compute_bridge.ports.errors import ComputeBridgeError, MarketError


class AuditError(MarketError):
    """A record says what cannot be computed from the others; do not rely on it, and ask whoever signed it."""


@frozen
class Check:
    """One check by its name; ``fault`` says what was wrong, and is empty where it held."""

    name: str
    fault: str = ""


@frozen
class AuditReport:
    """All checks of one record, in order. ``facts`` are what was learnt, for people and programs."""

    subject: str
    checks: tuple[Check, ...]
    facts: dict[str, object]

    @property
    def holds(self) -> bool:
        """Whether every check held."""
        return not self.faults

    @property
    def faults(self) -> tuple[Check, ...]:
        """The checks that did not hold."""
        return tuple(check for check in self.checks if check.fault)

    def require(self) -> "AuditReport":
        """Return this report.

        :raises AuditError: naming every check that did not hold.
        """
        if not self.holds:
            told = "; ".join(f"{check.name}: {check.fault}" for check in self.faults)
            raise AuditError(f"{self.subject}: {told}")
        return self


@define
class Findings:
    """Checks as they are made; one that fails is written down and the next is made all the same."""

    subject: str
    facts: dict[str, object] = field(factory=dict)
    _checks: list[Check] = field(factory=list, init=False)

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        """Run one check: an error of ours is its fault."""
        try:
            yield
        except ComputeBridgeError as error:
            self._checks.append(Check(name, str(error)))
        else:
            self._checks.append(Check(name))

    @property
    def report(self) -> AuditReport:
        """What was found so far."""
        return AuditReport(self.subject, tuple(self._checks), dict(self.facts))


def require(*, holds: bool, otherwise: str) -> None:
    """Return if a check holds.

    :raises AuditError: saying ``otherwise`` if it does not.
    """
    if not holds:
        raise AuditError(otherwise)
