"""A stage for requesters and auditors: a market and bridges on strings, on one network in memory."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.direct_shuffle import DirectShuffle
from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.adapters.quote_verifier import DcapQuoteVerifier
from compute_bridge.adapters.requester_store import FileRequesterStore
from compute_bridge.adapters.software_pki import DevelopmentRoot
from compute_bridge.adapters.software_quotes import SoftwareAttester
from compute_bridge.host.audit import Auditor
from compute_bridge.host.card_checks import QuoteTrust
from compute_bridge.host.race import race
from compute_bridge.host.requester import Requester
from compute_bridge.host.requester_state import Access, RequestHandle
from compute_bridge.model import channels
from compute_bridge.model.coalition import Handshake
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.manifest import ComputeManifest, ImageRef, SourceRef
from compute_bridge.model.quote import INTEL_ANCHOR, Evidence, QuotePolicy
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Requirements, Resources
from compute_bridge.model.units import MicrosPerHour, Milliseconds, UtcMs
from compute_bridge.ports.network import Network
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.testing.puppet_bridge import PuppetBridge
from compute_bridge.testing.puppet_market import PuppetMarket, puppet_handshake
from compute_bridge.wire.quote import parse_quote, quote_hash
from compute_bridge.wire.signing import Signed
from compute_bridge_market.rule import LowestRate

NOW_S = 1_790_000_000
ROOT = DevelopmentRoot.generate("development", now_s=NOW_S)
ATTESTER = SoftwareAttester(ROOT, now_s=NOW_S)
POLICY = QuotePolicy(anchors=(INTEL_ANCHOR, ROOT.anchor), allow_development=True)
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(50_000)
NEEDS = Requirements(Resources(1000, 512), Milliseconds(60_000))
VM = ComputeManifest(SourceRef("hello", "1", "0123abc"), ImageRef("vm:host"), NEEDS)


def identity_of(evidence: Evidence) -> bytes:
    return quote_hash(parse_quote(evidence.quote))


@define
class Stage:
    """One coalition, with one requester in it."""

    folder: Path
    network: Network
    handshake: Handshake
    policy: QuotePolicy = POLICY
    clock: VirtualClock = field(factory=lambda: VirtualClock(utc_ms=NOW_S * 1000))
    market: PuppetMarket = field(init=False)
    shuffle: DirectShuffle = field(init=False)
    requester: Requester = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.market = PuppetMarket(self.network, LowestRate(), self.handshake)
        self.shuffle = DirectShuffle(self.network)
        self.requester = self.another_requester()

    def another_requester(self, **changes: Any) -> Requester:
        """Return a requester on the same store, as another process would have it."""
        parts: dict[str, Any] = {
            "network": self.network,
            "shuffle": self.shuffle,
            "handshake": self.handshake,
            "verifier": DcapQuoteVerifier(),
            "policy": self.policy,
            "account": Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32),
            "store": FileRequesterStore(self.folder),
            "clock": self.clock,
        }
        return Requester(**parts | changes)

    @property
    def attester(self) -> tuple[Callable[[bytes], Evidence], Callable[[Evidence], bytes]]:
        """What makes quotes, and what tells one by."""
        return ATTESTER.evidence, identity_of

    @property
    def auditor(self) -> Auditor:
        return Auditor(self.requester.market, QuoteTrust(DcapQuoteVerifier(), self.policy, self.clock))

    @property
    def now(self) -> UtcMs:
        return UtcMs(self.clock.utc_ms())

    async def bridge(self, seed: int = 50, vcpu_nanos: int = 10_000_000, **changes: Any) -> PuppetBridge:
        """Return a bridge whose card is admitted."""
        bridge = PuppetBridge(self.market, *self.attester, seed=seed, vcpu_nanos=vcpu_nanos)
        await bridge.enter(**changes)
        return bridge

    async def ask(
        self,
        *,
        manifest: ComputeManifest = VM,
        max_rate: MicrosPerHour = MAX_RATE,
        ssh_key: str | None = SSH_KEY,
        reason: Reason = Reason.ADMITTED,
        **terms: Any,
    ) -> RequestHandle:
        """Submit a request while the market answers it with ``reason``."""
        submit = partial(self.requester.submit, manifest, max_rate, ssh_key, **terms)
        return await race(submit, partial(self._answer, reason))

    async def ask_and_clear(self, **arguments: Any) -> tuple[RequestHandle, Signed[ComputeGrant]]:
        """Submit a request and have it cleared to whoever asks least."""
        handle = await self.ask(**arguments)
        [grant] = (await self.market.clear()).grants
        return handle, grant

    async def serve(self, handle: RequestHandle, *others: Callable[[], Any]) -> Access:
        """Let the requester serve while ``others``, endless or not, play along."""
        return await race(partial(self.requester.serve_until_receipt, handle), *(_endless(one) for one in others))

    async def has(self, bridge: PuppetBridge, **changes: Any) -> tuple[RequestHandle, Access]:
        """Play a whole request up to its receipt from ``bridge``."""
        handle, grant = await self.ask_and_clear()
        return handle, await self.serve(handle, partial(bridge.serve, self.shuffle, grant, self.now, **changes))

    async def envelopes(self, grant: Signed[ComputeGrant]) -> int:
        """Return how many envelopes lie under the grant's pointer."""
        return await self.network.tail(f"shuffle/envelopes/{grant.value.bearer_pointer.hex()}")

    async def _answer(self, reason: Reason) -> RequestHandle:
        await self._answer_once(reason)
        await anyio.sleep_forever()
        raise AssertionError("for ever has ended")

    async def _answer_once(self, reason: Reason) -> None:
        tail = await self.network.tail(channels.INTAKE)
        intake = self.network.follow(channels.INTAKE, after=tail)
        await anext(intake)
        await intake.aclose()
        await self.market.take_in(reason=reason)


def _endless(one: Callable[[], Any]) -> Callable[[], Any]:
    async def run() -> None:
        await one()
        await anyio.sleep_forever()

    return run


@pytest.fixture
def open_stage(tmp_path: Path) -> Callable[..., Stage]:
    """Return what sets a stage; its arguments are changes to the module's config."""

    def open_(**changes: Any) -> Stage:
        return Stage(tmp_path / "store", MemoryNetwork(), puppet_handshake(LowestRate(), **changes))

    return open_


@pytest.fixture
async def stage(open_stage: Callable[..., Stage]) -> Stage:
    stage = open_stage()
    await stage.market.tick(3)
    return stage
