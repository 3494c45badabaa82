"""What a story plays with: requests to the market, levers of the cloud, the bridge's life."""

import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial

import anyio
from attrs import define, evolve, field

from compute_bridge.adapters.requester_store import FileRequesterStore
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
from compute_bridge.ports.errors import MarketError, ReceiptError
from compute_bridge.wire.signing import Signed, sign
from crashkit.file_truth import FileAccount
from crashkit.scene import Scene

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(10**9)
OPEN_MS = Milliseconds(36_000_000)
LOOK_S = 0.01


@define
class Stage:
    """One schedule's outside. ``stopping`` says that the bridge has been told to stop."""

    scene: Scene
    requester: Requester
    cloud: FileAccount
    asked: int = field(default=0, init=False)
    bridge_pid: int = field(default=0, init=False)
    life: int = field(default=0, init=False)
    stopping: bool = field(default=False, init=False)

    # --- requests -------------------------------------------------------------------------------

    async def submit(self, duration_ms: int) -> RequestHandle:
        """Ask for a machine."""
        self.asked += 1
        needs = Requirements(Resources(1000, 1024), Milliseconds(duration_ms))
        manifest = ComputeManifest(SourceRef("hello", "1", "0123abc"), ImageRef("vm:plain"), needs)
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
        """Release the lease."""
        await self._control(handle, ControlAction.RELEASE)

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
        assert isinstance(requester.store, FileRequesterStore)
        kept = await load_request(requester.store, requester.market.domain, handle)
        body = sign(evolve(kept.body.value, manifest_salt=bytes(32)), kept.signing, domain=requester.market.domain)
        _, card = await requester.market.card(grant.value.card_hash)
        sealed = seal_envelope(body, grant, card.value.binding.keys.sealing)
        await requester.shuffle.post(grant.value.bearer_pointer, sealed)

    async def squat(self, handle: RequestHandle) -> None:
        """Take the id of the grant's usage log for something else, as anybody may."""
        grant = await self.granted(handle)
        await self.requester.network.append(channels.LOGS, grant.value.id, b"squatted")

    # --- the cloud and the bridge -----------------------------------------------------------------

    async def until(self, claim: Callable[[], Awaitable[bool]]) -> None:
        """Return once the claim holds."""
        while not await claim():
            await anyio.sleep(LOOK_S)

    def crash_machines(self) -> None:
        """Let every machine die by itself."""
        for machine in list(self.cloud.machines):
            self.cloud.end(machine, "crashed")

    async def stop_bridge(self) -> None:
        """Send SIGTERM and return when the next life has begun."""
        life, self.stopping = self.life, True
        os.kill(self.bridge_pid, signal.SIGTERM)
        while self.life == life:
            await anyio.sleep(LOOK_S)
