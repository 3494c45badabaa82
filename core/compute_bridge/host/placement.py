"""What routing a grant came to: a machine or a refusal, and every step on the way to it."""

from collections.abc import Sequence

from attrs import frozen

from compute_bridge.model.ids import BackendName
from compute_bridge.model.reason import Reason
from compute_bridge.ports.backend import Instance, Order
from compute_bridge.ports.errors import ComputeBridgeError

MAX_LINE_BYTES = 600
"""What the journal keeps of one step: a backend may say what it likes, and all steps must be read again."""


@frozen
class RouteStep:
    """One offer considered and what came of it; ``offer_id`` is empty where a whole backend is meant."""

    backend: BackendName
    offer_id: str
    reason: Reason
    detail: str

    @property
    def line(self) -> str:
        """The step for people: the reason code, a space, and the rest; at most ``MAX_LINE_BYTES``."""
        where = f"{self.backend}/{self.offer_id}" if self.offer_id else self.backend
        line = f"{self.reason} {where}: {' '.join(self.detail.split())[:300]}"
        return line.encode()[:MAX_LINE_BYTES].decode(errors="ignore")


@frozen
class Placement:
    """A grant placed: the machine, the order it was made by, every step on the way, and who was passed over."""

    instance: Instance
    order: Order
    steps: tuple[RouteStep, ...]
    passed_over: tuple[RouteStep, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The steps for people, in order, and then the others."""
        return tuple(step.line for step in (*self.steps, *self.passed_over))


class PlacementError(ComputeBridgeError):
    """No offer took the grant and nothing is left behind; refuse it with ``reason``.

    ``attempts`` counts the orders that were made and failed; ``passed_over`` are verdicts on the other offers.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: Reason,
        steps: Sequence[RouteStep],
        attempts: int,
        passed_over: Sequence[RouteStep] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.steps = tuple(steps)
        self.passed_over = tuple(passed_over)
        self.attempts = attempts

    @property
    def lines(self) -> tuple[str, ...]:
        """The steps for people, in order, and then the others."""
        return tuple(step.line for step in (*self.steps, *self.passed_over))
