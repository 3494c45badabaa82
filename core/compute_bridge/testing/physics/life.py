"""The life of one machine: nothing in it runs, everything is told from the moment of the question."""

from attrs import define, evolve, field

from compute_bridge.testing.held import Held
from compute_bridge.testing.physics.matter import Deadline, End, Machine, State, Then, Why

_STANDING = {Then.STOPPED: State.STOPPED, Then.DEALLOCATED: State.DEALLOCATED, Then.FAILED: State.FAILED}
# What may still become of a machine that stands after an end; the guest of one is off.
_FURTHER = {
    Then.STOPPED: (Then.DEALLOCATED, Then.GONE),
    Then.DEALLOCATED: (Then.GONE,),
    Then.FAILED: (Then.GONE,),
    Then.GONE: (),
}


@define(eq=False)
class Life:
    """One machine from its create on.

    ``boots_ms`` is when it runs; ``None`` where it never will, or while somebody holds it. ``powers_off_ms`` is the
    timer of its guest.
    """

    born: Machine
    boots_ms: int | None
    ending_ms: int
    on_guest_shutdown: Then
    held: Held | None = None
    powers_off_ms: int | None = None
    deadline: Deadline | None = None
    notice_ms: int = 0
    preempted_ms: int = 0
    ends: list[End] = field(factory=list)

    def at(self, now_ms: int) -> Machine:
        """Return the machine as it is at ``now_ms``, which never goes back."""
        if self.held is not None and self.held.released.is_set():
            self.held, self.boots_ms = None, now_ms
        end = self._end(now_ms)
        running_ms = self._running_ms(now_ms if end is None else end.at_ms)
        machine = evolve(
            self.born,
            running_ms=running_ms,
            state=State.RUNNING if running_ms else State.PENDING,
            notice_ms=self.notice_ms,
            preempted_ms=self.preempted_ms,
            deadline_ms=self._deadline_ms(now_ms),
        )
        return machine if end is None else self._ended(machine, end, now_ms)

    def is_over(self, now_ms: int) -> bool:
        """Return whether nothing of it is left; cheap for one that runs."""
        timers_ms = [self.powers_off_ms, self.deadline.at_ms if self.deadline else None]
        if not self.ends and all(at_ms is None or now_ms < at_ms for at_ms in timers_ms):
            return False
        end = self._end(now_ms)
        return end is not None and end.then is Then.GONE and now_ms >= self._over_ms(end)

    def _over_ms(self, end: End) -> int:
        return end.at_ms if end.why is Why.FAILED else end.at_ms + self.ending_ms

    def _running_ms(self, by_ms: int) -> int:
        return self.boots_ms if self.boots_ms is not None and self.boots_ms <= by_ms else 0

    def _ended(self, machine: Machine, end: End, now_ms: int) -> Machine:
        if end.then is not Then.GONE:
            return evolve(machine, end=end, ended_ms=end.at_ms, state=_STANDING[end.then])
        over_ms = self._over_ms(end)
        if now_ms < over_ms:
            return evolve(machine, end=end, ended_ms=end.at_ms, state=State.ENDING)
        return evolve(machine, end=end, ended_ms=end.at_ms, gone_ms=over_ms, state=State.GONE)

    def _end(self, now_ms: int) -> End | None:
        last: End | None = None
        for end in sorted(self._all_ends(), key=lambda end: end.at_ms):
            if end.at_ms > now_ms:
                break
            if last is None or (end.why is not Why.GUEST and end.then in _FURTHER[last.then]):
                last = end
        return last

    def _all_ends(self) -> list[End]:
        return [*self.ends, *self._deadline_ends(), *self._guest_ends()]

    def _guest_ends(self) -> list[End]:
        if self.powers_off_ms is None or self.boots_ms is None:
            return []
        # A timer that was missed is caught up with at the boot.
        return [End(Why.GUEST, max(self.powers_off_ms, self.boots_ms), self.on_guest_shutdown)]

    def _deadline_ends(self) -> list[End]:
        at_ms = self._deadline_ms(None)
        return [End(Why.DEADLINE, at_ms, self.deadline.then)] if self.deadline and at_ms else []

    def _deadline_ms(self, now_ms: int | None) -> int:
        """Return when the cloud's timer strikes as it is set at ``now_ms``, or as it turns out; 0 for never."""
        deadline = self.deadline
        if deadline is None:
            return 0
        # Whatever ends a machine first ends its run, and a run that is over has no end to come.
        ends_ms = [end.at_ms for end in (*self.ends, *self._guest_ends()) if now_ms is None or end.at_ms <= now_ms]
        is_cleared = deadline.is_cleared_by_stop and any(at_ms < deadline.at_ms for at_ms in ends_ms)
        return 0 if is_cleared else deadline.at_ms

    def set_deadline(self, deadline: Deadline | None, now_ms: int) -> None:
        """Set or take away the cloud's timer; one that is due already has struck."""
        self.ends += [end for end in self._deadline_ends() if end.at_ms <= now_ms]
        self.deadline = deadline
