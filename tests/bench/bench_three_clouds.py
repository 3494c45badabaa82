"""Five hundred leases at once over the three clouds in one process: work by count, time and memory within one run.

Machines are routed, made, watched, metered and ended through the host's router, the real SDKs and the wire-level fakes,
whose servers and guests share this process, or its processors, with the bridge: what is measured is an upper bound.
The market takes no part.
"""

import os
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from attrs import define, evolve, field
from manyclouds import AWS, AZURE, EU, GCP, Clouds, clouds

from compute_bridge.cloud.settings import HostKey
from compute_bridge.host.fleet import Fleet
from compute_bridge.host.routing import Router
from compute_bridge.model.boot import BelowCost
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import BandName, Fingerprint, GrantId, ProviderId, PublicKey, RequestId, digest
from compute_bridge.model.resources import Posture, Requirements, Resources
from compute_bridge.model.units import HOUR_MS, BasisPoints, MicrosPerHour, Milliseconds, Tick, UtcMs
from compute_bridge.ports.backend import ExitCause
from compute_bridge.ports.catalog import SupportsCatalog
from compute_bridge.ports.errors import NotYetTerminatedError
from compute_bridge.ports.strategy import Preference, RoutingPolicy
from compute_bridge.testing.orders import make_order
from compute_bridge.wire.tokens import order_token

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1800), pytest.mark.needs("sshd")]

NEEDS = Requirements(Resources(1000, 1024), Milliseconds(24 * HOUR_MS), regions=(EU,))
GRANT = ComputeGrant(
    id=GrantId(bytes(32)),
    request_id=RequestId(bytes(32)),
    request_key=PublicKey(bytes(32)),
    provider_id=ProviderId(bytes(32)),
    card_hash=Fingerprint(bytes(32)),
    round=1,
    requirements=NEEDS,
    region=EU,
    posture=Posture.NONE,
    band=BandName("small"),
    manifest_commitment=bytes(32),
    envelope_commitment=bytes(32),
    bearer_pointer=bytes(32),
    rate=MicrosPerHour(10**9),
    currency="USD",
    valid_from=Tick(1),
    valid_to=Tick(9),
    duration_ms=Milliseconds(24 * HOUR_MS),
)
THREE = (AWS, GCP, AZURE)
FEW, MANY = 20, int(os.environ.get("BENCH_LEASES", "500"))


@pytest.fixture(params=[HostKey.INJECTED, pytest.param(HostKey.ROTATED, marks=pytest.mark.needs("root"))], ids=str)
def accounts(request):
    with clouds(speed=1, ready_s=1800, host_key=request.param) as accounts:
        tell(f"\nhost keys: {request.param}")
        yield accounts


class InTurn(RoutingPolicy):
    """Each route begins at the next backend, so that all have their share."""

    def __init__(self):
        self._turn = 0

    @property
    def preference(self):
        return Preference.BOOT_ORDER

    def rank(self, candidates):
        self._turn += 1
        return tuple(sorted(candidates, key=lambda one: (one.order + self._turn) % len(THREE)))


@define
class Lag:
    """How late the event loop wakes a sleeper of ten milliseconds."""

    late_ms: list[float] = field(factory=list)

    async def run(self):
        while True:
            began = time.perf_counter()
            await anyio.sleep(0.01)
            self.late_ms.append(1000 * (time.perf_counter() - began) - 10)

    def told(self):
        late = sorted(self.late_ms) or [0.0]
        return ", ".join(f"{name} {late[min(len(late) - 1, int(len(late) * at))]:.0f}" for name, at in PARTS)


PARTS = (("half", 0.5), ("99 %", 0.99), ("most", 1.0))


def rss_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def nothing(*_):
    return


@define
class Leases:
    """Leases over one fleet, and what they cost."""

    cloud: Clouds
    fleet: Fleet
    router: Router
    exits: Counter[ExitCause] = field(factory=Counter)
    again: int = 0

    async def place(self, number):
        grant = evolve(GRANT, id=GrantId(digest("bench", number.to_bytes(8, "big"))))

        def order_for(offer, attempt):
            token = order_token(grant.id, offer.backend, offer.region, offer.zone, offer.shape, attempt=attempt)
            now = UtcMs(self.cloud.clock.utc_ms())
            return make_order(offer, token, needs=NEEDS, image=self.cloud.image(), user="guest", now=now)

        return await self.router.place(grant, self.cloud.image(), order_for=order_for, intend=nothing, failed=nothing)

    async def watch(self, placed):
        backend = self.fleet.backend(placed.order.offer.backend)
        exit_ = await backend.watch_until_exit(placed.instance.id)
        self.exits[exit_.cause] += 1

    async def end(self, placed):
        backend = self.fleet.backend(placed.order.offer.backend)
        await backend.usage(placed.instance.id)
        while True:
            try:
                return await backend.terminate(placed.instance.id)
            except NotYetTerminatedError:
                self.again += 1

    async def run(self, numbers):
        """Make, watch for three ticks and end as many at once; return the count and seconds of each part."""
        before, began, rss, lag = self.calls(), time.perf_counter(), rss_mib(), Lag()
        placed = []

        async def make(number):
            placed.append(await self.place(number))

        async with anyio.create_task_group() as measuring:
            measuring.start_soon(lag.run)
            async with anyio.create_task_group() as tasks:
                for number in numbers:
                    tasks.start_soon(make, number)
            made = time.perf_counter()
            up, shares = self.calls(), Counter(one.order.offer.backend for one in placed)
            tell(f"{len(placed)} leases: {dict(sorted(shares.items()))}")
            tell(f"  made in {made - began:.1f} s, {len(placed) / (made - began):.1f} a second")
            tell(f"  the event loop woke late by milliseconds: {lag.told()}")
            async with anyio.create_task_group() as tasks:
                for one in placed:
                    tasks.start_soon(self.watch, one)
                await self.cloud.clock.sleep_ms(15_000)
                watched, peak, ending = self.calls(), rss_mib(), time.perf_counter()
                for one in placed:
                    tasks.start_soon(self.end, one)
            ended = time.perf_counter()
            measuring.cancel_scope.cancel()
        tell(f"  ended in {ended - ending:.1f} s, {len(placed) / (ended - ending):.1f} a second")
        tell(f"  resident {rss:.0f} MiB before, {peak:.0f} with all of them, {(peak - rss) / len(placed):.2f} each")
        tell(f"  with watching and ending it woke late by: {lag.told()}; asked to end again: {self.again}")
        for name in THREE:
            changes, reads = up[name][0] - before[name][0], up[name][1] - before[name][1]
            gone = self.calls()[name][0] - watched[name][0]
            seen = watched[name][1] - up[name][1]
            each = max(1, shares[name])
            tell(
                f"  {name}: {changes / each:.2f} changing calls a lease to make, {gone / each:.2f} to end; "
                f"{reads / each:.2f} reading calls a lease to make, {seen} in three ticks of watching all"
            )

    def calls(self):
        """Return the changing and the reading calls that each cloud has had."""
        physics = {name: self.cloud.worlds[name].physics for name in THREE}
        return {name: (one.count(changes=True), one.count(changes=False)) for name, one in physics.items()}


def tell(line):
    sys.stderr.write(f"{line}\n")


async def test_few_and_many_leases_over_three_clouds(accounts: Clouds) -> None:
    async with AsyncExitStack() as stack:
        backends = [one for one in await accounts.open_backends(stack) if one.name in THREE]
        for backend in backends:
            assert isinstance(backend, SupportsCatalog)
            backend.use_catalog(await backend.fetch_catalog())
        fleet = Fleet(backends, accounts.clock, currency="USD")
        await fleet.refresh()
        router = Router(fleet, InTurn(), accounts.clock, BasisPoints(0), BelowCost.ALLOW)
        leases = Leases(accounts, fleet, router)
        for numbers in (range(FEW), range(FEW, FEW + MANY)):
            await leases.run(numbers)
        tell(f"  ends: {dict(leases.exits)}; left behind: {len(await accounts.running())}")

        assert frozenset() == await accounts.running()
        assert frozenset() == await accounts.leftovers()
