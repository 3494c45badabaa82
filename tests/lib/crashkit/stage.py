"""What a story plays with: requests to the market, levers of the cloud, the bridge's life."""

import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import anyio
from attrs import define, evolve, field

from compute_bridge.adapters.clock import SystemClock
from compute_bridge.host.envelopes import seal_envelope
from compute_bridge.host.race import race
from compute_bridge.host.requester import NoLeaseError, Requester
from compute_bridge.host.requester_state import RequestHandle, load_request
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import ProviderId
from compute_bridge.model.manifest import ComputeManifest, ImageRef, SourceRef
from compute_bridge.model.resources import Requirements, Resources
from compute_bridge.model.units import MicrosPerHour, Milliseconds
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import MarketError, ReceiptError
from compute_bridge.wire.signing import Signed, sign
from crashkit.clouds import PAPER, Site
from crashkit.file_truth import STRAY
from crashkit.gather import lease_states
from crashkit.points import read_points
from crashkit.scene import Scene

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(10**9)
OPEN_MS = Milliseconds(36_000_000)
"""Where the cloud sells two shapes that serve a request."""
LOOK_MS = 10
NOTICE_MS = 120_000
_WALL = SystemClock()


@define
class Stage:
    """One schedule's outside. ``cloud`` is the levers of its cloud.

    ``stopping`` says that the bridge has been told to stop.
    """

    scene: Scene
    requester: Requester
    cloud: Any
    site: Site = PAPER
    asked: int = field(default=0, init=False)
    bridge_pid: int = field(default=0, init=False)
    life: int = field(default=0, init=False)
    stopping: bool = field(default=False, init=False)
    may_live: anyio.Event = field(factory=anyio.Event, init=False)

    # --- requests -------------------------------------------------------------------------------

    async def submit(self, duration_ms: int) -> RequestHandle:
        """Ask for a machine."""
        self.asked += 1
        site, resources = self.site, Resources(1000, 1024)
        needs = Requirements(resources, Milliseconds(duration_ms), network=site.network, regions=(site.region,))
        manifest = ComputeManifest(SourceRef("hello", "1", "0123abc"), ImageRef(site.image), needs)
        return await self.requester.submit(manifest, MAX_RATE, SSH_KEY, open_ms=OPEN_MS)

    async def receipt(self, handle: RequestHandle) -> None:
        """Return once the way in is known, or the grant is settled without one."""
        await race(partial(self._receive, handle), partial(self.settled, handle))

    async def _receive(self, handle: RequestHandle) -> None:
        # A lease that is over, or a receipt for a machine that is: both are the account's to tell.
        with suppress(NoLeaseError, ReceiptError):
            await self.requester.serve_until_receipt(handle)
            return
        await self.settled(handle)

    async def settled(self, handle: RequestHandle) -> None:
        """Return once the request's grant is settled."""
        grant = await self.granted(handle)
        key = grant.value.id + channels.number(0)
        await self.until(lambda: self._holds(channels.SETTLEMENTS, key))

    async def _holds(self, stream: str, record_id: bytes) -> bool:
        return await self.requester.network.find(stream, record_id) is not None

    async def granted(self, handle: RequestHandle) -> Signed[ComputeGrant]:
        """Return the request's grant once the market has cleared it."""
        async with aclosing(self.requester.market.grants(0)) as grants:
            async for _, grant in grants:
                if grant.value.request_id == handle.id:
                    return grant
        raise RuntimeError("a network's follow has ended")

    async def provider(self) -> ProviderId:
        """Return whom the first grant was awarded to."""
        async with aclosing(self.requester.market.grants(0)) as grants:
            async for _, grant in grants:
                return grant.value.provider_id
        raise RuntimeError("a network's follow has ended")

    async def release(self, handle: RequestHandle) -> None:
        """Release the lease, once the requester has taken the grant in."""
        await self.until(lambda: self._has_grant(handle))
        await self._control(handle, ControlAction.RELEASE)

    async def _has_grant(self, handle: RequestHandle) -> bool:
        requester = self.requester
        kept = await load_request(requester.store, requester.market.domain, handle)
        return bool(kept.progress.grant)

    async def extend(self, handle: RequestHandle, by_ms: int) -> None:
        """Make the lease longer."""
        await self._control(handle, ControlAction.EXTEND, by_ms)

    async def _control(self, handle: RequestHandle, action: ControlAction, extend_ms: int = 0) -> None:
        # A lease that has ended meanwhile takes no more controls.
        with suppress(MarketError):
            await self.requester.control(handle, action, extend_ms=Milliseconds(extend_ms))

    async def post_other_body(self, handle: RequestHandle) -> None:
        """Post an envelope whose body is signed as it should be and does not open the request's commitments."""
        requester = self.requester
        grant = await self.granted(handle)
        kept = await load_request(requester.store, requester.market.domain, handle)
        body = sign(evolve(kept.body.value, manifest_salt=bytes(32)), kept.signing, domain=requester.market.domain)
        _, card = await requester.market.card(grant.value.card_hash)
        sealed = seal_envelope(body, grant, card.value.binding.keys.sealing)
        await requester.shuffle.post(grant.value.bearer_pointer, sealed)

    async def carded(self) -> None:
        """Return once the bridge sells."""
        await self.until(self._is_carded)

    async def _is_carded(self) -> bool:
        return any(card.value.rates.rows for _, card in await self.requester.market.roster())

    async def taken_on(self) -> None:
        """Return once the bridge has journalled a lease."""
        await self.until(self._is_taken_on)

    async def _is_taken_on(self) -> bool:
        return bool(lease_states(self.scene))

    async def opened(self) -> None:
        """Return once an envelope stands as opened in the journal: who dies as it is written passes no point."""
        await self.until(self._is_opened)

    async def _is_opened(self) -> bool:
        return any(state != "granted" for state in lease_states(self.scene).values())

    async def squat(self, handle: RequestHandle) -> None:
        """Take the id of the grant's usage log for something else, as anybody may."""
        grant = await self.granted(handle)
        await self.requester.network.append(channels.LOGS, grant.value.id, b"squatted")

    async def squat_notice(self, handle: RequestHandle) -> None:
        """Take the id of the grant's interruption notice, likewise."""
        grant = await self.granted(handle)
        await self.requester.network.append(channels.NOTICES, grant.value.id, b"squatted")

    async def noticed(self, entries: int) -> None:
        """Announce the interruption of every machine, and return once the stream of notices is so long."""
        for machine in [one.id for one in self.cloud.machines.values() if not one.is_gone]:
            self.cloud.announce(machine, NOTICE_MS)
        await self.until(lambda: self._is_noticed(entries))

    async def _is_noticed(self, entries: int) -> bool:
        return await self.requester.network.tail(channels.NOTICES) >= entries

    # --- the cloud and the bridge -----------------------------------------------------------------

    async def until(self, claim: Callable[[], Awaitable[bool]]) -> None:
        """Return once the claim holds."""
        await poll(_WALL, LOOK_MS, partial(_holding, claim))

    def crash_machines(self) -> None:
        """Let every machine die by itself."""
        for machine in list(self.cloud.machines):
            self.cloud.end(machine, "crashed")

    async def is_bare(self) -> bool:
        """Return whether no stray is left."""
        return not any(one.id.startswith(STRAY) and not one.is_gone for one in self.cloud.machines.values())

    async def stop_bridge(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal and return when the bridge has ended; the next one waits for :meth:`start_bridge`."""
        # The bridge may be dead just now, and the next one not have begun.
        await self.until(self._lives)
        self.may_live, self.stopping = anyio.Event(), True
        self._tell(by)
        await self.until(self._has_stopped)

    async def drain_bridge(self) -> None:
        """Tell each bridge that sells to drain, once, and return when the market knows of none that sells."""
        told: set[int] = set()

        async def is_drained() -> bool:
            # One that is starting does not hear yet.
            if self.bridge_pid and self.bridge_pid not in told and await self._has_carded():
                told.add(self.bridge_pid)
                self._tell()
            return not any(card.value.max_leases for _, card in await self.requester.market.roster())

        await self.until(is_drained)

    async def _has_carded(self) -> bool:
        return "after append card-submissions" in read_points(self.scene.points(self.life))[0]

    async def hurry_bridge(self) -> None:
        """Send SIGTERM until the bridge has ended; the next one waits for :meth:`start_bridge`."""
        await self.until(self._lives)
        self.may_live, self.stopping = anyio.Event(), True

        async def has_stopped() -> bool:
            if self.stopping and self.bridge_pid:
                self._tell()
            return await self._has_stopped()

        await self.until(has_stopped)

    def _tell(self, by: signal.Signals = signal.SIGTERM) -> None:
        # It may have been killed a moment ago.
        with suppress(ProcessLookupError):
            os.kill(self.bridge_pid, by)

    async def passed(self, point: str) -> None:
        """Return once a life of the bridge has passed ``point``."""
        await self.until(lambda: self._has_passed(point))

    async def passed_again(self, point: str) -> None:
        """Return once a life of the bridge has passed ``point`` once more than until now."""
        before = self._times(point)
        await self.until(lambda: self._has_passed(point, times=before + 1))

    async def _has_passed(self, point: str, *, times: int = 1) -> bool:
        return self._times(point) >= times

    def _times(self, point: str) -> int:
        return sum(read_points(self.scene.points(life))[0].count(point) for life in range(self.life + 1))

    async def _lives(self) -> bool:
        return bool(self.bridge_pid)

    async def _has_stopped(self) -> bool:
        return not self.stopping

    def start_bridge(self) -> None:
        """Let the next bridge begin."""
        self.may_live.set()


async def _holding(claim: Callable[[], Awaitable[bool]]) -> bool | None:
    return True if await claim() else None
