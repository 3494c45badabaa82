"""Whether an account answers at all, and what it was asked."""

from threading import RLock

from compute_bridge.ports.clock import Clock
from compute_bridge.testing.physics.held_call import HeldCall
from compute_bridge.testing.physics.matter import Call, Code, Refusal
from compute_bridge.testing.vendor_clock import VendorClock


class Weather:
    """What every request meets before anybody looks at it."""

    def __init__(self, clock: Clock) -> None:
        self.lock = RLock()
        """Held in every method; a facade takes it where several calls have to see one moment."""
        self._clock = VendorClock(clock)
        self._calls: list[Call] = []
        self._is_down = False
        self._down_places: set[str] = set()
        self._has_credentials = True
        self._retry_after_s: float | None = None
        self._held_calls: dict[str, HeldCall] = {}

    def now_ms(self) -> int:
        """Return the vendor's time in milliseconds of UTC."""
        return self._clock.utc_ms()

    def admit(self, op: str, *, changes: bool, place: str = "") -> None:
        """Record a request; a facade calls this first, with the region or zone where the request names one.

        To be called without the lock: a call that is held waits here.

        :raises Refusal: ``DOWN``, ``CREDENTIALS`` or ``THROTTLED``.
        """
        with self.lock:
            self._calls.append(Call(op, changes, place, self.now_ms()))
            held = self._held_calls.pop(op, None)
        if held is not None:
            held.hold()
        with self.lock:
            if self._is_down or place in self._down_places:
                raise Refusal(Code.DOWN, place=place)
            if not self._has_credentials:
                raise Refusal(Code.CREDENTIALS, place=place)
            if self._retry_after_s is not None:
                raise Refusal(Code.THROTTLED, place=place, retry_after_s=self._retry_after_s)

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call so far."""
        with self.lock:
            return tuple(self._calls)

    def count(self, op: str = "", *, changes: bool | None = None) -> int:
        """Return how many calls there were, of one operation or of all, changing ones or not or both."""
        return sum(op in ("", call.op) and changes in (None, call.changes) for call in self.calls)

    def go_down(self, place: str = "") -> None:
        """Stop answering, in one place or anywhere."""
        with self.lock:
            if place:
                self._down_places.add(place)
            else:
                self._is_down = True

    def come_back(self) -> None:
        """Answer everywhere."""
        with self.lock:
            self._is_down = False
            self._down_places.clear()

    def refuse_credentials(self) -> None:
        """Refuse every caller."""
        with self.lock:
            self._has_credentials = False

    def accept_credentials(self) -> None:
        """Accept callers."""
        with self.lock:
            self._has_credentials = True

    def throttle(self, retry_after_s: float = 7.0) -> None:
        """Refuse every call as one too many."""
        with self.lock:
            self._retry_after_s = retry_after_s

    def relent(self) -> None:
        """Take calls again."""
        with self.lock:
            self._retry_after_s = None

    def hold_next_call(self, op: str) -> HeldCall:
        """Hold the next call of an operation before anybody looks at it; to be called on the event loop."""
        held = HeldCall()
        with self.lock:
            self._held_calls[op] = held
        return held
