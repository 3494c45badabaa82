"""A lease while its machine runs: watched, metered, and ended until the backend shows it gone."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
from attrs import define, evolve, field

from compute_bridge.host.lease_state import Ended, LeaseFacts, Metered, Running
from compute_bridge.host.lease_tools import LeaseTools
from compute_bridge.host.plugin_call import asked, backend_call
from compute_bridge.model.control import ControlAction, ControlVerdict
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.model.usage import Figure, Outcome, UsageMetrics, UsageSource
from compute_bridge.ports.backend import Backend, ExitCause, InstanceExit, SupportsExtend
from compute_bridge.ports.errors import (
    BackendError,
    CredentialsError,
    ThrottledError,
    UnavailableError,
    UnservableError,
)
from compute_bridge.ports.journal import JournalUnwritableError

logger = logging.getLogger(__name__)

T = TypeVar("T")

REASON_OF = {
    ExitCause.EXITED: Reason.EXITED,
    ExitCause.TERMINATED: Reason.OPERATOR_STOP,
    ExitCause.DEADLINE: Reason.DEADLINE,
    ExitCause.PREEMPTED: Reason.PREEMPTED,
    ExitCause.LOST: Reason.LOST,
}
"""Why a machine that ended by itself ended; one that somebody else terminated, the operator did."""

# Ended without us: where the backend does not say when, it was while nobody looked.
_BY_ITSELF = (Reason.EXITED, Reason.OPERATOR_STOP, Reason.PREEMPTED, Reason.LOST)
# Silence: nothing is concluded, however long it lasts.
_SILENT = (UnavailableError, ThrottledError, CredentialsError)

FIRST_RETRY_MS = 500
LONGEST_RETRY_MS = 30_000
LONGEST_SLEEP_MS = 60_000
"""No wait for an end is longer, so that a machine that slept with its timers looks at its clock again."""
EXIT_RECORD_WAIT_S = 10
_UNKNOWN = InstanceExit(ExitCause.TERMINATED, UtcMs(0))


@define
class RunningLease:
    """The running part of one lease. Time is counted on the monotonic clock, so a jump of the wall clock
    neither kills nor extends. ``name`` is what the log calls the lease.

    ``counted_ms`` is how long it had run by our count when it was last journalled. A lease that ``is_resumed``
    goes on from what the backend has counted since.
    """

    tools: LeaseTools
    name: str
    running: Running
    duration_ms: Milliseconds
    record: Callable[[Metered], Awaitable[None]]
    counted_ms: Milliseconds = Milliseconds(0)
    is_resumed: bool = False
    is_extended: bool = False
    _began_ms: int = field(init=False)
    _seen_ms: int = field(init=False)
    _reason: Reason | None = field(default=None, init=False)
    _ended: Ended | None = field(default=None, init=False)
    _over: anyio.Event = field(factory=anyio.Event, init=False)
    _lengthened: anyio.Event = field(factory=anyio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._began_ms = self.tools.clock.monotonic_ms() - self.counted_ms
        self._seen_ms = self.counted_ms

    async def until_end(self) -> Reason:
        """Return why the lease ends: its own end, the requester's release, or the machine's."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch)
            tasks.start_soon(self._meter)
            tasks.start_soon(self._keep_time)
            await self._over.wait()
            tasks.cancel_scope.cancel()
        assert self._reason is not None  # noqa: S101 - set before the event
        return self._reason

    def apply(self, verdict: ControlVerdict) -> None:
        """Take in a release, or an extension: the machine's own end moves where the backend can."""
        if verdict.action is ControlAction.RELEASE:
            self.conclude(Reason.RELEASED)
        elif verdict.duration_ms > self.duration_ms:
            self.duration_ms, self.is_extended = verdict.duration_ms, True
            self._lengthened.set()

    def conclude(self, reason: Reason) -> None:
        """Let the lease end now; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            self._over.set()

    async def end(self, reason: Reason, facts: LeaseFacts) -> Ended:
        """End the machine, until the backend shows it gone, and return the account of its life; the same each time."""
        if self._ended is None:
            self._ended = await self._account(reason, facts)
        return self._ended

    async def _account(self, reason: Reason, facts: LeaseFacts) -> Ended:
        usage = await self._last_usage(facts)
        if usage.wall_ms.source is UsageSource.BACKEND:
            self._seen_ms = max(self._seen_ms, usage.wall_ms.value)
        # What ended by itself may stand until it is deleted, and then be remembered by its deletion alone.
        own = await self._exit_record() if reason in _BY_ITSELF else _UNKNOWN
        await self._persist(self._terminate)
        exit_ = own if own.ended_at else _own_end(own, await self._exit_record())
        started = self.running.instance.started_at
        reason = self._truer(reason, exit_)
        ended_at, evidence = self._end_of(reason, exit_)
        billable = Milliseconds(min(self.duration_ms, max(0, ended_at - started)))
        source = UsageSource.BACKEND if evidence is Reason.END_RECORDED else UsageSource.ALLOCATION
        usage = evolve(usage, wall_ms=Figure(billable, source))
        return Ended(
            Outcome.SERVED.value, reason, exit_.detail, UtcMs(started + billable), billable, usage, evidence=evidence
        )

    # --- while it runs ------------------------------------------------------------------------

    async def _watch(self) -> None:
        exit_ = await self._persist(self._watch_once)
        lived = exit_.ended_at - self.running.instance.started_at
        if exit_.cause is ExitCause.TERMINATED and lived >= self.duration_ms:
            # By us, before a restart, at its end: a full disk had no room for the reason.
            self.conclude(Reason.DEADLINE)
        self.conclude(REASON_OF[exit_.cause])

    async def _watch_once(self) -> InstanceExit:
        watch = self._backend.watch_until_exit(self.running.instance.id)
        return await asked(self.running.backend, "watch_until_exit", watch, InstanceExit)

    async def _meter(self) -> None:
        while True:
            await self.tools.clock.sleep_ms(1000 * self.tools.settings.meter_every_s)
            try:
                usage = await self._usage()
                await self.record(Metered(usage, Milliseconds(self._elapsed())))
            except (BackendError, JournalUnwritableError) as error:
                logger.info("lease %s: no checkpoint of usage just now: %s", self.name, error)

    async def _keep_time(self) -> None:
        if self.is_resumed:
            async with anyio.create_task_group() as counting:
                # It has run for as long as the journal shows, at least: where nobody tells more, it ends by that.
                counting.start_soon(self._keep_deadline)
                await self._go_on_counting()
                counting.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_extended)
            await self._keep_deadline()

    async def _keep_deadline(self) -> None:
        while (left := self.duration_ms - self._elapsed()) > 0:
            await self.tools.clock.sleep_ms(min(left, LONGEST_SLEEP_MS))
        self.conclude(Reason.DEADLINE)

    async def _go_on_counting(self) -> None:
        """Set the count to what the backend has counted while nobody ran here; wait for as long as it is silent.

        The wall clock may have been set meanwhile, so it is asked only where the backend counts nothing.
        """
        counted = await self._counted_by_backend()
        if counted is None:
            passed = self.tools.clock.utc_ms() - self.running.instance.started_at
            counted = min(max(0, passed), self.duration_ms)
            logger.info("lease %s: its backend counts no time, the wall clock says %d ms", self.name, counted)
        self._began_ms = min(self._began_ms, self.tools.clock.monotonic_ms() - counted)
        self._seen_ms = max(self._seen_ms, counted)
        self.is_resumed = False

    async def _counted_by_backend(self) -> int | None:
        wait = FIRST_RETRY_MS
        while True:
            try:
                wall = (await self._usage()).wall_ms
            except _SILENT as error:
                logger.warning("lease %s: how long it has run is not known yet: %s", self.name, error)
            except BackendError as error:
                logger.error("lease %s: how long it has run cannot be told: %s", self.name, error)  # noqa: TRY400
                return None
            else:
                return None if wall.source is UsageSource.UNAVAILABLE else wall.value
            await self.tools.clock.sleep_ms(wait)
            wait = min(2 * wait, LONGEST_RETRY_MS)

    async def _usage(self) -> UsageMetrics:
        usage = self._backend.usage(self.running.instance.id)
        metrics = await asked(self.running.backend, "usage", usage, UsageMetrics)
        self._seen_ms = max(self._seen_ms, self._elapsed())
        return metrics

    async def _keep_extended(self) -> None:
        backend = self._backend
        while True:
            lengthened = self._lengthened = anyio.Event()
            # Whether the backend was told before a crash, nobody knows; telling it twice is telling it once.
            if self.is_extended and isinstance(backend, SupportsExtend):
                await self._persist(partial(self._extend, backend))
            elif self.is_extended:
                logger.warning("lease %s: backend %s cannot move an end", self.name, backend.name)
            await lengthened.wait()

    async def _extend(self, backend: SupportsExtend) -> None:
        left = self.duration_ms - self._elapsed() + 1000 * self.tools.settings.provision_allowance_s
        # From now by our own clock, by which the backend reads it: from the start by the backend's clock, a wrong clock
        # of ours would end the machine, or never.
        ends_at = UtcMs(self.tools.clock.utc_ms() + left)
        try:
            with backend_call(self.running.backend, "extend"):
                await backend.extend(self.running.instance.id, ends_at)
        except UnservableError as error:
            # The watch tells how it ended.
            logger.warning("lease %s: its end was not moved: %s", self.name, error)

    # --- its end ------------------------------------------------------------------------------

    def _truer(self, reason: Reason, exit_: InstanceExit) -> Reason:
        """Return the machine's own end where the backend, silent meanwhile, shows now that it came before ours."""
        lived = exit_.ended_at - self.running.instance.started_at
        if reason is not Reason.DEADLINE or not exit_.ended_at or lived >= self.duration_ms:
            return reason
        return reason if exit_.cause is ExitCause.TERMINATED else REASON_OF[exit_.cause]

    def _end_of(self, reason: Reason, exit_: InstanceExit) -> tuple[UtcMs, Reason]:
        """Return when the machine ended and how well that is known; never later than it can have been."""
        started = self.running.instance.started_at
        if exit_.ended_at:
            return exit_.ended_at, Reason.END_RECORDED
        if reason in _BY_ITSELF:
            return UtcMs(started + self._seen_ms), Reason.END_LAST_SEEN
        # A lease that was found ending was not counted on; its backend may have told more since.
        return UtcMs(started + max(self._elapsed(), self._seen_ms)), Reason.END_COUNTED

    async def _last_usage(self, facts: LeaseFacts) -> UsageMetrics:
        try:
            usage = self._backend.usage(self.running.instance.id)
            return await asked(self.running.backend, "usage", usage, UsageMetrics)
        except BackendError as error:
            logger.info("lease %s: last usage is the last checkpoint: %s", self.name, error)
        metered = facts.get(Metered)
        return metered.usage if metered else UsageMetrics()

    async def _terminate(self) -> None:
        with backend_call(self.running.backend, "terminate"):
            await self._backend.terminate(self.running.instance.id)

    async def _exit_record(self) -> InstanceExit:
        with anyio.move_on_after(EXIT_RECORD_WAIT_S):
            try:
                return await self._watch_once()
            except BackendError as error:
                logger.info("lease %s: no record of its end: %s", self.name, error)
        return _UNKNOWN

    async def _persist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until the backend answers: cannot observe is not dead, and not yet terminated is not gone."""
        wait = FIRST_RETRY_MS
        while True:
            try:
                return await ask()
            except BackendError as error:
                logger.warning("lease %s: asking again: %s", self.name, error)
            await self.tools.clock.sleep_ms(wait)
            wait = min(2 * wait, LONGEST_RETRY_MS)

    def _elapsed(self) -> int:
        return self.tools.clock.monotonic_ms() - self._began_ms

    @property
    def _backend(self) -> Backend:
        return self.tools.fleet.backend(self.running.backend)


def _own_end(own: InstanceExit, recorded: InstanceExit) -> InstanceExit:
    """Return what was recorded since, unless that is only the deletion of what had ended already."""
    is_deletion = recorded.cause is ExitCause.TERMINATED and own.cause is not ExitCause.TERMINATED
    return own if is_deletion else recorded
