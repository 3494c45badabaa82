"""The journal against the backends, both ways and always: strays are reaped, leases without a machine are told."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import anyio
from anyio.lowlevel import checkpoint
from attrs import define, field, frozen

from compute_bridge.host.fleet import Fleet
from compute_bridge.host.grant_standing import GrantStandings
from compute_bridge.host.identity import Identity
from compute_bridge.host.listing import ANSWER_S, Listing, Shown, Silence, list_machines
from compute_bridge.host.market import Market
from compute_bridge.host.missing import Missing, MissingMachines
from compute_bridge.host.open_leases import OpenLease, OpenLeases
from compute_bridge.host.plugin_call import backend_call
from compute_bridge.host.reaper import Reaper
from compute_bridge.host.strays import Key, Stray, StrayRule
from compute_bridge.model.boot import LeaseSettings
from compute_bridge.model.ids import BackendName, GrantId, InstanceId, Token, short
from compute_bridge.model.reason import Reason
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import BootError, ComputeBridgeError
from compute_bridge.ports.journal import Journal

logger = logging.getLogger(__name__)

_AT_ONCE = 8
_MOST_REAPED = 32
_MOST_TOLD = 20


@frozen
class Twins:
    """More than one machine under the token of one open lease: an incident, of which nobody is killed."""

    backend: BackendName
    grant: GrantId
    instances: tuple[InstanceId, ...]


@frozen
class Findings:
    """What one sweep found: machines of open leases, machines of none, leases without one, backends in silence."""

    adopted: tuple[Token, ...]
    strays: tuple[Stray, ...]
    missing: tuple[Missing, ...]
    twins: tuple[Twins, ...]
    silences: tuple[Silence, ...]

    @property
    def silent(self) -> tuple[BackendName, ...]:
        """The names of the backends that told nothing that can be used; their leases stand."""
        return tuple(one.backend for one in self.silences)


@frozen
class Gauge:
    """How one backend stands: counts, and times in ms, each 0 where there is nothing to tell."""

    backend: BackendName
    strays: int
    oldest_orphan_ms: int
    missing: int
    twins: int
    silent_ms: int
    silence: str


@define
class Reconciler:
    """Compares what the backends show with what the journal says, for as long as the bridge runs.

    ``end_lease`` is told the grants whose machine is gone. A backend has ``answer_s`` real seconds for an answer.
    """

    fleet: Fleet
    journal: Journal
    identity: Identity
    market: Market
    clock: Clock
    settings: LeaseSettings
    end_lease: Callable[[GrantId], None]
    answer_s: float = ANSWER_S
    findings: Findings | None = field(default=None, init=False)
    _standings: GrantStandings = field(init=False)
    _rule: StrayRule = field(init=False)
    _reaper: Reaper = field(init=False)
    _missing: MissingMachines = field(init=False)
    _leases: OpenLeases = field(init=False)
    _swept_ms: int | None = field(default=None, init=False)
    _since: dict[Key, int] = field(factory=dict, init=False)
    _silent_since: dict[BackendName, int] = field(factory=dict, init=False)
    _told: dict[Key, Reason] = field(factory=dict, init=False)
    _sweeping: anyio.Lock = field(factory=anyio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._standings = GrantStandings(self.market, self.journal, self.identity, answer_s=self.answer_s)
        self._rule = StrayRule(self.identity, self._standings, 1000 * self.settings.intent_window_s)
        self._reaper = Reaper(self.fleet, self.journal, self.answer_s)
        self._missing = MissingMachines(self.fleet, self.end_lease, self.answer_s)
        self._leases = OpenLeases(self.journal)

    async def run(self) -> None:
        """Sweep, and act on it, once in every period, until cancelled."""
        while True:
            await self.clock.sleep_ms(1000 * self.settings.sweep_every_s)
            try:
                await self.sweep(act=True)
            except ComputeBridgeError as error:
                # The journal cannot be read: then nothing is known to be a stray, and nothing is touched.
                logger.error("this sweep came to nothing: %s", error)  # noqa: TRY400 - the message says it all

    async def sweep(self, *, act: bool) -> Findings:
        """Return what stands where, and with ``act`` do what follows from it. One sweep at a time.

        :raises BootError: if an open lease has its machine on a backend that the boot file no longer names.
        :raises JournalError: if the journal cannot be read.
        """
        async with self._sweeping:
            # Listed before the journal is read: a machine made meanwhile is in no listing, and so no stray.
            answers = await self._list_all()
            leases = await self._leases.read()
            self._require_named(leases)
            listings = [one for one in answers if isinstance(one, Listing)]
            silences = tuple(filter(None, (_silence_in(one) for one in answers)))
            self._note_silence(silences)
            strays = await self._strays(listings, leases)
            missing = await self._missing_in(listings, leases)
            if act:
                strays = await self._reap(listings, strays)
                for one in missing:
                    self._missing.end(one)
            return self._conclude(
                Findings(_adopted(listings, leases), strays, missing, _twins(listings, leases), silences)
            )

    # --- what status shows --------------------------------------------------------------------

    @property
    def age_ms(self) -> int | None:
        """How long ago the last sweep was completed; ``None`` before the first."""
        return None if self._swept_ms is None else self.clock.monotonic_ms() - self._swept_ms

    @property
    def reaped(self) -> int:
        """How many strays this process has written down as reaped; an earlier one may have begun to end them."""
        return self._reaper.count

    @property
    def lost(self) -> int:
        """How many leases this process has ended since their machine was gone."""
        return self._missing.count

    def gauges(self) -> tuple[Gauge, ...]:
        """Return how each backend stands, in boot order; of a silent one what it showed last."""
        now_ms = self.clock.monotonic_ms()
        missing = Counter(one.lease.backend for one in self.findings.missing) if self.findings else Counter()
        twins = Counter(one.backend for one in self.findings.twins) if self.findings else Counter()
        silences = {one.backend: one.reason.value for one in self.findings.silences} if self.findings else {}
        gauges = []
        for name in (backend.name for backend in self.fleet.backends):
            ages = [now_ms - since for key, since in self._since.items() if key[0] == name]
            silent_ms = now_ms - self._silent_since.get(name, now_ms)
            gauges.append(
                Gauge(
                    name, len(ages), max(ages, default=0), missing[name], twins[name], silent_ms, silences.get(name, "")
                )
            )
        return tuple(gauges)

    # --- one sweep ----------------------------------------------------------------------------

    async def _list_all(self) -> list[Listing | Silence]:
        answers: dict[BackendName, Listing | Silence] = {}

        async def ask(name: BackendName) -> None:
            answers[name] = await list_machines(self.fleet.backend(name), self.clock, answer_s=self.answer_s)

        async with anyio.create_task_group() as tasks:
            for backend in self.fleet.backends:
                tasks.start_soon(ask, backend.name)
        return [answers[backend.name] for backend in self.fleet.backends]

    def _require_named(self, leases: Sequence[OpenLease]) -> None:
        names = {backend.name for backend in self.fleet.backends}
        for lease in leases:
            if lease.backend not in names:
                raise BootError(
                    f"lease {short(lease.grant)} has a machine on backend {lease.backend!r}, which the boot "
                    "file does not name; name it again until the lease has ended"
                )
            with backend_call(lease.backend, "reaches"):
                is_reached = self.fleet.backend(lease.backend).reaches(lease.offer)
            if not is_reached:
                raise BootError(
                    f"lease {short(lease.grant)} has a machine on backend {lease.backend!r}, offer {lease.offer.id},"
                    " which its table in the boot file no longer reaches; put back what it names until the lease"
                    " has ended"
                )

    def _note_silence(self, silences: Sequence[Silence]) -> None:
        now_ms = self.clock.monotonic_ms()
        since = {one.backend: self._silent_since.get(one.backend, now_ms) for one in silences}
        for one in silences:
            # Cannot observe is not dead: its leases and its strays stay as they are.
            logger.warning("backend %s does not tell what stands there, and that stays: %s", one.backend, one.detail)
        self._silent_since = since

    async def _strays(self, listings: Sequence[Listing], leases: Sequence[OpenLease]) -> tuple[Stray, ...]:
        self._standings.listen_again()
        expected = {lease.token for lease in leases}
        in_use = {(lease.backend, lease.instance) for lease in leases}
        now_ms = self.clock.monotonic_ms()
        seen: dict[Key, int] = {}
        strays = []
        for listing in listings:
            for one in listing.standing:
                if one.token in expected:
                    continue
                key = listing.backend, one.id, one.token
                seen[key] = self._since.get(key, now_ms)
                strays.append(await self._judge(listing, one, seen[key], in_use))
        listed = {listing.backend for listing in listings}
        self._since = {key: since for key, since in self._since.items() if key[0] not in listed} | seen
        return tuple(strays)

    async def _judge(
        self, listing: Listing, machine: Shown, since_ms: int, in_use: set[tuple[BackendName, InstanceId | None]]
    ) -> Stray:
        await checkpoint()  # a long listing must not hold the event loop
        age_ms = max(0, listing.began_ms - since_ms)
        if (listing.backend, machine.id) in in_use:
            return Stray(
                listing.backend, machine, age_ms, Reason.NOT_REAPED_IN_USE, "its id is that of an open lease's machine"
            )
        return await self._rule.judge(listing, machine, age_ms)

    async def _missing_in(self, listings: Sequence[Listing], leases: Sequence[OpenLease]) -> tuple[Missing, ...]:
        now_ms = self.clock.monotonic_ms()
        self._missing.forget_all_but(leases)
        found = [await self._missing.look(listing, leases, now_ms) for listing in listings]
        return tuple(one for some in found for one in some)

    async def _reap(self, listings: Sequence[Listing], strays: Sequence[Stray]) -> tuple[Stray, ...]:
        await self._reaper.resume()
        for listing in listings:
            await self._reaper.conclude(listing)
        results = list(strays)
        slots = anyio.Semaphore(_AT_ONCE)

        async def reap(index: int) -> None:
            async with slots:
                results[index] = await self._reaper.reap(results[index])

        async with anyio.create_task_group() as tasks:
            # A sweep must not last for hours where nothing answers; the next one goes on with the rest.
            for index in [index for index, one in enumerate(strays) if one.reason is Reason.REAPABLE][:_MOST_REAPED]:
                tasks.start_soon(reap, index)
        return tuple(results)

    def _conclude(self, findings: Findings) -> Findings:
        for stray in findings.strays:
            if stray.reason is Reason.REAPED:
                self._since.pop(stray.key, None)
        self._tell(findings)
        self._swept_ms = self.clock.monotonic_ms()
        self.findings = findings
        return findings

    def _tell(self, findings: Findings) -> None:
        """Log what is new, and no more of it than anybody reads."""
        new = [one for one in findings.strays if self._told.get(one.key) is not one.reason]
        self._told = {one.key: one.reason for one in findings.strays}
        for one in new[:_MOST_TOLD]:
            logger.warning(
                "backend %s: instance %s belongs to no open lease: %s: %s",
                one.backend, one.machine.id, one.reason, one.detail,
            )  # fmt: skip
        if len(new) > _MOST_TOLD:
            logger.warning("and %d strays more; compute-bridge sweep tells them all", len(new) - _MOST_TOLD)
        for twins in findings.twins:
            ids = ", ".join(twins.instances)
            logger.error("incident: lease %s has the machines %s on %s", short(twins.grant), ids, twins.backend)


def _silence_in(answer: Listing | Silence) -> Silence | None:
    return answer.silence if isinstance(answer, Listing) else answer


def _adopted(listings: Iterable[Listing], leases: Iterable[OpenLease]) -> tuple[Token, ...]:
    expected = {lease.token for lease in leases}
    return tuple(one.token for listing in listings for one in listing.machines if one.token in expected)


def _twins(listings: Iterable[Listing], leases: Iterable[OpenLease]) -> tuple[Twins, ...]:
    grants = {lease.token: lease.grant for lease in leases}
    found = []
    for listing in listings:
        ids: dict[Token, list[InstanceId]] = {}
        # What remains of a twin is billed too, and no stray while the lease is open.
        for one in listing.standing:
            if one.token in grants:
                ids.setdefault(one.token, []).append(one.id)
        found += [Twins(listing.backend, grants[token], tuple(some)) for token, some in ids.items() if len(some) > 1]
    return tuple(found)
