"""A coalition in a test: a market over a memory network, providers and requesters that speak the real protocol."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define, evolve, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.adapters.quote_verifier import DcapQuoteVerifier
from compute_bridge.adapters.software_pki import DevelopmentRoot
from compute_bridge.adapters.software_quotes import SoftwareAttester
from compute_bridge.model import channels
from compute_bridge.model.almanac import AlmanacTick
from compute_bridge.model.boot import ALLOW_DEVELOPMENT, FilePath, SecretRef
from compute_bridge.model.card import (
    BootCertificate,
    BootKeys,
    CardVerdict,
    Custody,
    EpochClaim,
    ProviderCard,
    QuoteBinding,
)
from compute_bridge.model.clearing import ClearingInputs, ClearingRecord, VerdictChunk
from compute_bridge.model.control import ControlAction, ControlVerdict, LeaseControl
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import Fingerprint, UniqueId, provider_id
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import ComputeRequest, Preferences, RequestSubmission, RequestVerdict
from compute_bridge.model.resources import Capability, CapacityBand, NetworkPolicy, Posture, Requirements, Resources
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.model.units import BasisPoints, Milliseconds
from compute_bridge.model.usage import ComputeLog, Outcome, UsageMetrics
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.wire.commitment import report_data
from compute_bridge.wire.sealing import SealingSecret, seal
from compute_bridge.wire.signing import Domain, fingerprint, open_signed, public_key, sign
from compute_bridge_market.book import Book, open_book
from compute_bridge_market.config import (
    AccountSettings,
    AlmanacSettings,
    AttestationSettings,
    CoalitionSettings,
    FeeSettings,
    KeySettings,
    LedgerSettings,
    LimitSettings,
    MarketFile,
    NetworkSettings,
)
from compute_bridge_market.intake import submission_context
from compute_bridge_market.ledger import trial_balance
from compute_bridge_market.market import make_market
from compute_bridge_market.module import ModuleSecrets, make_module
from compute_bridge_market.rule import LowestRate

HOUR = 3_600_000
MICROS_AN_HOUR = 1000
"""What a machine of the standard card costs an hour: 1000 nanos a micro."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the one event loop: asyncssh needs asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def attester():
    """One development attester for all tests: its certificates take a while to make."""
    now_s = VirtualClock().utc_ms() // 1000
    return SoftwareAttester(DevelopmentRoot.generate("test-root", now_s=now_s), now_s=now_s)


def seed(label):
    """Return a key that is the same for every test that says ``label``."""
    return Ed25519PrivateKey.from_private_bytes(label.encode().ljust(32, b"\0"))


def resources(cpu_millis=1000, mem_mib=1024, disk_gib=0, gpus=0):
    return Resources(cpu_millis, mem_mib, disk_gib, gpus)


def needs(**changes):
    return evolve(Requirements(resources(), Milliseconds(HOUR)), **changes)


def band(name="std", slots=10, **changes):
    return CapacityBand(name, resources(1, 1), resources(64_000, 65_536, 1000, 8), slots, **changes)


def row(micros=MICROS_AN_HOUR, *, region="eu", posture=Posture.NONE, band="std"):
    """Return a row that asks ``micros`` an hour for any machine."""
    return RateRow(region, posture, band, UnitNanos(machine=1000 * micros))


def capability(region="eu", posture=Posture.NONE, **changes):
    given = {
        "ceiling": resources(64_000, 65_536, 1000, 8),
        "networks": (NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED),
    }
    return Capability(region=region, posture=posture, **(given | changes))


def rate_table(*rows, currency="USD"):
    return RateTable(currency, tuple(sorted(rows, key=lambda one: one.key)))


@define
class FakeProvider:
    """An operator with a root key, and a boot of it that makes cards and logs."""

    world: "World"
    name: str
    epoch: int = 0
    version: int = 0
    boot: Any = None

    @property
    def root(self):
        return seed(f"root {self.name}")

    @property
    def id(self):
        return provider_id(self.world.domain.coalition, public_key(self.root))

    @property
    def keys(self):
        sealing = SealingSecret.from_seed(f"seal {self.name} {self.epoch}".encode().ljust(32, b"\0"))
        return BootKeys(public_key(self.boot), sealing.public)

    async def claim(self):
        """Boot: new keys, and the next epoch claimed."""
        current = await self.world.network.get(channels.EPOCHS, self.id)
        version = current.version if current else 0
        self.epoch += 1
        self.boot = seed(f"boot {self.name} {self.epoch}")
        claim = EpochClaim(self.id, public_key(self.root), self.epoch, public_key(self.boot))
        raw = sign(claim, self.root, domain=self.world.domain).raw
        await self.world.network.put(channels.EPOCHS, self.id, raw, expect=version)

    async def card(self, **changes):
        """Return the next version of the standard card; ``changes`` are its fields."""
        tick = await self.world.latest_tick()
        self.version += 1
        domain = self.world.domain
        certificate = BootCertificate(self.id, public_key(self.root), self.epoch, self.keys)
        binding = QuoteBinding(
            self.keys,
            domain.coalition,
            domain.module,
            tick.hash,
            tick.value.tick,
            Fingerprint(bytes(32)),
            "compute-bridge test",
        )
        binding = changes.pop("binding", binding)
        rates = changes.get("rates", rate_table(row()))
        given = {
            "provider_id": self.id,
            "epoch": self.epoch,
            "version": self.version,
            "certificate": sign(certificate, self.root, domain=domain).raw,
            "capabilities": (capability(),),
            "bands": (band(),),
            "max_leases": 10,
            "rates": rates,
            "rate_fingerprint": fingerprint(rates),
            "organism": bytes(32),
            "binding": binding,
            "evidence": self.world.attester.evidence(report_data(binding)),
            "pre_hash": bytes(32),
            "post_hash": bytes(32),
            "custody": Custody.OPERATOR_HELD,
            "retirement": b"",
            "refreshed_at": tick.value.tick,
            "development_attestation": True,
        }
        return ProviderCard(**(given | changes))

    async def submit(self, card=None, *, signer=None, **changes):
        """Submit a card and return the market's verdict."""
        card = card or await self.card(**changes)
        signed = sign(card, signer or self.boot, domain=self.world.domain)
        await self.world.network.append(channels.CARD_SUBMISSIONS, signed.hash, signed.raw)
        await self.world.settle_down()
        return await self.world.find(channels.CARD_VERDICTS, signed.hash, CardVerdict)

    async def sell(self, micros=MICROS_AN_HOUR, **changes):
        """Boot and submit a card that asks ``micros`` an hour, which must be admitted."""
        if not self.epoch:
            await self.claim()
        changes.setdefault("rates", rate_table(row(micros)))
        verdict = await self.submit(**changes)
        assert verdict.reason is Reason.ADMITTED, verdict
        return self

    def log(self, grant, **changes):
        """Return the signed log of a grant that ran its whole duration."""
        given = {
            "grant_id": grant.id,
            "provider_id": self.id,
            "epoch": self.epoch,
            "sequence": 0,
            "outcome": Outcome.SERVED,
            "reason": Reason.DEADLINE,
            "started_at": 1000,
            "ended_at": 1000 + grant.duration_ms,
            "billable_ms": grant.duration_ms,
            "usage": UsageMetrics(),
            "receipt_hash": b"",
            "development_attestation": True,
        }
        if changes.get("outcome", Outcome.SERVED) is not Outcome.SERVED:
            given |= {"started_at": 0, "ended_at": 0, "billable_ms": 0}
        return sign(ComputeLog(**(given | changes)), self.boot, domain=self.world.domain)

    async def tell(self, grant, *, record_id=None, **changes):
        """Publish the log of a grant and let the market take it."""
        log = self.log(grant, **changes)
        await self.world.network.append(channels.LOGS, record_id or grant.id, log.raw)
        await self.world.settle_down()
        return log

    async def refuse(self, grant, reason=Reason.DRAINING):
        return await self.tell(grant, outcome=Outcome.REFUSED, reason=reason)


@define
class FakeRequester:
    """An account of the market that asks for machines."""

    world: "World"
    name: str
    asked: int = 0

    @property
    def account(self):
        return seed(f"account {self.name}")

    def request(self, **changes):
        """Return a signed request under a new one-time key, and that key."""
        self.asked += 1
        key = seed(f"request {self.name} {self.asked}")
        given = {
            "request_key": public_key(key),
            "requirements": needs(),
            "max_rate": 10 * MICROS_AN_HOUR,
            "currency": "USD",
            "preferences": Preferences(),
            "bearer_pointer": bytes(32),
            "manifest_commitment": bytes(32),
            "envelope_commitment": bytes(32),
            "expires_at": 1000,
        }
        return sign(ComputeRequest(**(given | changes)), key, domain=self.world.domain), key

    def sealed(self, request, *, account=None):
        """Return a submission of a signed request, as it travels."""
        account = account or self.account
        submission = RequestSubmission(public_key(account), request.raw)
        signed = sign(submission, account, domain=self.world.domain)
        return seal(signed.raw, submission_context(self.world.module))

    async def submit(self, request=None, *, account=None, **changes):
        """Submit a request and return (its id, the market's verdict)."""
        request = request or self.request(**changes)[0]
        sealed = self.sealed(request, account=account)
        await self.world.network.append(channels.INTAKE, secrets.token_bytes(32), sealed)
        await self.world.settle_down()
        return request.hash, await self.world.find(channels.REQUEST_VERDICTS, request.hash, RequestVerdict)

    async def ask(self, **changes):
        """Submit a request that must be admitted; return its id."""
        request, verdict = await self.submit(**changes)
        assert verdict.reason == Reason.ADMITTED, verdict
        return request

    async def control(self, grant, action, *, sequence=1, key=None, extend_ms=0, record_id=None):
        """Send a lease control and return the market's answer to it."""
        key = key or next(
            one
            for one in (seed(f"request {self.name} {count}") for count in range(self.asked + 1))
            if public_key(one) == grant.request_key
        )
        control = LeaseControl(grant.id, public_key(key), sequence, ControlAction(action), extend_ms, "")
        signed = sign(control, key, domain=self.world.domain)
        number = grant.id + channels.number(sequence)
        await self.world.network.append(channels.CONTROL, record_id or number, signed.raw)
        await self.world.settle_down()
        return await self.world.find(channels.CONTROL_VERDICTS, number, ControlVerdict)


class CrashError(Exception):
    """The process died here."""


@define
class Fuse:
    """Counts the moments at which something becomes durable, and ends the process right after one of them.

    ``at`` is that moment, counted from 1; what the process would have done next is lost with it.
    """

    at: int = 0
    passed: int = 0

    def burn(self):
        self.passed += 1
        if self.passed == self.at:
            raise CrashError(f"after moment {self.at}")


class CrashingNetwork(MemoryNetwork):
    """The writes of one process on a network that others share."""

    def __init__(self, shared, fuse):
        super().__init__()
        self._streams, self._collections, self._cursors = shared._streams, shared._collections, shared._cursors
        self._fuse = fuse

    async def append(self, stream, record_id, record, *, expect_last=None):
        sequence = await super().append(stream, record_id, record, expect_last=expect_last)
        self._fuse.burn()
        return sequence

    async def append_many(self, stream, records):
        sequences = await super().append_many(stream, records)
        self._fuse.burn()
        return sequences

    async def put(self, collection, key, value, *, expect):
        version = await super().put(collection, key, value, expect=expect)
        self._fuse.burn()
        return version


@define
class CrashingBook(Book):
    """The transactions of one process on a file that outlives it."""

    fuse: Any = None

    async def run(self, work):
        before = self._db.total_changes
        result = await super().run(work)
        if self._db.total_changes != before:
            self.fuse.burn()
        return result


@define
class World:
    """A market and everything around it."""

    module: Any
    attester: Any
    network: Any
    clock: VirtualClock
    folder: Path
    market: Any = None
    book: Any = None
    _open: AsyncExitStack = field(factory=AsyncExitStack)
    _requesters: dict[str, Any] = field(factory=dict)
    salt: str = "first"
    _drawn: int = 0

    @property
    def domain(self):
        return self.module.domain

    def draw(self, size):
        """Return bytes as good as random that are the same in every run."""
        self._drawn += 1
        return hashlib.shake_256(f"{self.salt} {self._drawn}".encode()).digest(size)

    async def start(self, *, book="market.db", module=None, fuse=None):
        """Start the market, anew after :meth:`stop`; a ``fuse`` ends it in the middle of something."""
        self.book = await self._open.enter_async_context(open_book(self.folder / book, self.domain.coalition))
        network, kept = self.network, self.book
        if fuse is not None:
            network, kept = CrashingNetwork(network, fuse), CrashingBook(kept.path, kept._db, fuse)
        self.market = make_market(
            module or self.module, network, kept, verifier=DcapQuoteVerifier(), clock=self.clock, draw=self.draw
        )
        await self.market.recover()
        return self.market

    async def stop(self):
        """End the market as a crash does: nothing is finished, nothing is handed over."""
        await self._open.aclose()
        self._open = AsyncExitStack()

    async def settle_down(self):
        while await self.market.turn():
            pass

    async def tick(self, count=1):
        """Let time pass: the market ticks, then takes what came in meanwhile."""
        for _ in range(count):
            await self.clock.advance(self.module.config.cadence_ms)
            await self.market.tick()
            await self.settle_down()

    def provider(self, name):
        return FakeProvider(self, name)

    def requester(self, name):
        """Return the one requester of this name: every request of its is under a key of its own."""
        return self._requesters.setdefault(name, FakeRequester(self, name))

    # --- what anybody can read ------------------------------------------------------------------

    async def find(self, stream, record_id, cls):
        entry = await self.network.find(stream, record_id)
        return open_signed(entry.record, cls, self.domain, by=self.module.key).value if entry else None

    async def latest_tick(self):
        tail = await self.network.tail(channels.ALMANAC)
        (entry,) = await self.network.fetch(channels.ALMANAC, after=tail - 1)
        return open_signed(entry.record, AlmanacTick, self.domain, by=self.module.key)

    async def all(self, stream, cls):
        found, page = [], await self.network.fetch(stream)
        while page:
            found += [open_signed(entry.record, cls, self.domain, by=self.module.key) for entry in page]
            page = await self.network.fetch(stream, after=page[-1].sequence)
        return found

    async def grants(self, request=None):
        """Return the grants in order of award, of one request or of all."""
        found = [signed.value for signed in await self.all(channels.GRANT_STREAM, ComputeGrant)]
        return [grant for grant in found if request in (None, grant.request_id)]

    async def grant(self, request):
        found = await self.grants(request)
        return found[-1] if found else None

    async def records(self):
        return await self.all(channels.CLEARING, ClearingRecord)

    async def inputs(self, round_):
        return await self.find(channels.CLEARING_INPUTS, channels.number(round_), ClearingInputs)

    async def verdicts(self, round_):
        """Return a round's verdicts in order."""
        chunks = [signed.value for signed in await self.all(channels.VERDICTS, VerdictChunk)]
        return [verdict for chunk in chunks if chunk.round == round_ for verdict in chunk.verdicts]

    async def reasons(self, request):
        """Return why each provider did or did not get a request in the last round, by provider id."""
        record = (await self.records())[-1].value
        return {one.provider_id: one.reason for one in await self.verdicts(record.round) if one.request_id == request}

    async def statement(self, grant, sequence=0):
        return await self.find(channels.SETTLEMENTS, grant.id + channels.number(sequence), SettlementStatement)

    async def balances(self):
        return dict((await self.book.run(trial_balance)).balances)

    async def balance(self, account):
        return (await self.balances()).get(account, 0)


@pytest.fixture(scope="session")
def make():
    """The makers above, for tests: a module beside a test cannot be imported."""
    return SimpleNamespace(
        elsewhere=Domain(UniqueId(bytes([7] * 32)), UniqueId(bytes([8] * 32))),
        World=World,
        CrashError=CrashError,
        Fuse=Fuse,
        seed=seed,
        resources=resources,
        needs=needs,
        band=band,
        row=row,
        capability=capability,
        rate_table=rate_table,
    )


@pytest.fixture
def accounts():
    """Who may ask, and how much each may owe."""
    return {"alice": 10**9, "bob": 10**9}


@pytest.fixture
def market_file(tmp_path, accounts) -> MarketFile:
    """The file of the market under test."""
    return MarketFile(
        coalition=CoalitionSettings(
            name="bridge-β", seed=bytes(32), handshake=FilePath(str(tmp_path / "handshake.cbor")), currency="USD"
        ),
        keys=KeySettings(signing=SecretRef("env:SIGNING"), sealing=SecretRef("env:SEALING")),
        network=NetworkSettings(kind="memory"),
        ledger=LedgerSettings(file=FilePath(str(tmp_path / "market.db"))),
        almanac=AlmanacSettings(cadence_ms=1000),
        fees=FeeSettings(requester_bps=BasisPoints(100), provider_bps=BasisPoints(200)),
        limits=LimitSettings(accept_within_ticks=5, grace_ticks=5, card_max_age_ticks=500, open_requests=8),
        attestation=AttestationSettings(development=ALLOW_DEVELOPMENT),
        accounts=tuple(
            AccountSettings(name=name, key=public_key(seed(f"account {name}")), credit_micros=credit)
            for name, credit in accounts.items()
        ),
    )


@pytest.fixture
def module(market_file, attester):
    return make_module(
        market_file, ModuleSecrets.from_seeds(bytes([1] * 32), bytes([2] * 32)), LowestRate(), (attester.anchor,)
    )


@pytest.fixture
def network():
    return MemoryNetwork()


@pytest.fixture
async def world(module, attester, network, tmp_path) -> AsyncIterator[World]:
    """A market that has ticked once, with nobody in it."""
    world = World(module, attester, network, VirtualClock(), tmp_path)
    await world.start()
    await world.tick()
    yield world
    await world.stop()
