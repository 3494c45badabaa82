from functools import partial
from typing import Any

import anyio
import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.clock import SystemClock
from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.host.card import (
    BootFacts,
    CardPublisher,
    Holding,
    SupersededError,
    fold_card,
    organism_of,
    raise_epoch,
)
from compute_bridge.host.epoch import hold_epoch
from compute_bridge.host.race import race
from compute_bridge.model.card import (
    BootCertificate,
    BootKeys,
    CardVerdict,
    Custody,
    EpochClaim,
    ProviderCard,
    QuoteBinding,
)
from compute_bridge.model.channels import CARD_SUBMISSIONS, CARD_VERDICTS, EPOCHS
from compute_bridge.model.ids import BandName, Fingerprint, ProviderId, SealingKey, UniqueId, provider_id
from compute_bridge.model.quote import Evidence
from compute_bridge.model.rates import RateRow, RateTable, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Capability, CapacityBand, NetworkPolicy, Posture, Region, Resources
from compute_bridge.model.units import NanosPerHour, Tick
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import AdmissionError, MarketError, NoQuoteError
from compute_bridge.testing.clock import VirtualClock
from compute_bridge.wire.signing import Domain, fingerprint, open_self_signed, public_key, sign

pytestmark = pytest.mark.anyio

DOMAIN = Domain(UniqueId(b"c" * 32), UniqueId(b"m" * 32))
ROOT, BOOT, MODULE, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([at]) * 32) for at in range(1, 5))
PROVIDER = provider_id(DOMAIN.coalition, public_key(ROOT))
KEYS = BootKeys(public_key(BOOT), SealingKey(b"\1" + b"s" * 32))
BINDING = QuoteBinding(
    KEYS, DOMAIN.coalition, DOMAIN.module, b"t" * 32, Tick(1), Fingerprint(b"f" * 32), "compute-bridge"
)
SMALL = CapacityBand(BandName("small"), Resources(1000, 1024), Resources(4000, 8192), 4)
LARGE = evolve(SMALL, name=BandName("large"))
EU = Capability(Region("eu"), Posture.NONE, Resources(4000, 8192), (NetworkPolicy.ISOLATED,))


def rates(vcpu=1000):
    return RateTable("EUR", (RateRow(Region("eu"), Posture.NONE, SMALL.name, UnitNanos(vcpu=NanosPerHour(vcpu))),))


def facts_of(number=1):
    certificate = BootCertificate(PROVIDER, public_key(ROOT), number, KEYS)
    return BootFacts(
        certificate=sign(certificate, ROOT, domain=DOMAIN),
        binding=BINDING,
        evidence=Evidence(b"quote"),
        pre_hash=Fingerprint(b"1" * 32),
        post_hash=Fingerprint(b"2" * 32),
        custody=Custody.OPERATOR_HELD,
        development_attestation=True,
    )


def holding(**changes):
    return evolve(Holding((EU,), (SMALL,), 8, rates()), **changes)


# --- folding --------------------------------------------------------------------------------------


def test_a_card_says_all_that_was_folded():
    facts, held = facts_of(3), holding(bands=(SMALL, LARGE), retirement=b"r" * 32)
    card = fold_card(facts, held, version=7, tick=Tick(9))

    assert (PROVIDER, 3, 7, 9) == (card.provider_id, card.epoch, card.version, card.refreshed_at)
    assert (LARGE, SMALL) == card.bands
    assert (fingerprint(held.rates), held.rates, 8) == (card.rate_fingerprint, card.rates, card.max_leases)
    assert (facts.certificate.raw, BINDING, b"r" * 32) == (card.certificate, card.binding, card.retirement)
    assert (facts.pre_hash, facts.post_hash, True) == (card.pre_hash, card.post_hash, card.development_attestation)


def test_folding_is_pure():
    cards = [fold_card(facts_of(), holding(), version=1, tick=Tick(1)) for _ in range(2)]

    assert cards[0] == cards[1]


def test_the_organism_folds_capabilities_rates_and_image():
    post_hash = Fingerprint(b"2" * 32)
    us = evolve(EU, region=Region("us"))
    organisms = {
        organism_of((EU,), rates(), post_hash),
        organism_of((EU, us), rates(), post_hash),
        organism_of((EU,), rates(1001), post_hash),
        organism_of((EU,), rates(), Fingerprint(b"3" * 32)),
    }

    assert 4 == len(organisms)
    assert organism_of((EU,), rates(), post_hash) == fold_card(facts_of(), holding(), version=1, tick=Tick(1)).organism


def test_more_than_a_card_can_say_is_told_with_the_mend():
    many = tuple(evolve(EU, region=Region(f"r{at}")) for at in range(513))
    with pytest.raises(MarketError, match=r"capabilities must be a list of 0 to 512 items; offer less"):
        fold_card(facts_of(), holding(capabilities=many), version=1, tick=Tick(1))


# --- epochs ---------------------------------------------------------------------------------------


async def test_the_first_boot_has_epoch_1_and_each_later_one_the_next():
    network = MemoryNetwork()
    numbers = [(await raise_epoch(network, DOMAIN, ROOT, KEYS.signing)).number for _ in range(3)]

    assert [1, 2, 3] == numbers


async def test_the_claim_on_the_network_is_signed_by_the_root_key():
    network = MemoryNetwork()
    epoch = await raise_epoch(network, DOMAIN, ROOT, KEYS.signing)
    (stored,) = await network.entries(EPOCHS)
    claim = open_self_signed(stored.value, EpochClaim, DOMAIN, signer=lambda one: one.root_key)

    assert (PROVIDER, 1, KEYS.signing, epoch.claim) == (
        claim.value.provider_id,
        claim.value.epoch,
        claim.value.signing_key,
        claim,
    )


async def test_an_epoch_is_above_the_last_that_the_caller_knows_of():
    assert 42 == (await raise_epoch(MemoryNetwork(), DOMAIN, ROOT, KEYS.signing, above=41)).number


async def test_bridges_that_start_at_once_get_an_epoch_each():
    network, numbers = MemoryNetwork(), []

    async def start():
        numbers.append((await raise_epoch(network, DOMAIN, ROOT, KEYS.signing)).number)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(start)

    assert list(range(1, 9)) == sorted(numbers)


def claim_raw(number=5, provider=PROVIDER, by=ROOT, domain=DOMAIN):
    claim = EpochClaim(provider, public_key(by), number, KEYS.signing)
    return sign(claim, by, domain=domain).raw


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"garbage", "is no claim of its root key"),
        (claim_raw(by=STRANGER), "is no claim of its root key"),
        (claim_raw(domain=Domain(UniqueId(b"x" * 32), DOMAIN.module)), "is no claim of its root key"),
        (claim_raw(provider=ProviderId(b"x" * 32)), "names another provider"),
    ],
    ids=["garbage", "a stranger's", "another coalition's", "another provider's"],
)
async def test_a_claim_that_is_not_ours_is_no_epoch(raw, words):
    network = MemoryNetwork()
    await network.put(EPOCHS, PROVIDER, raw, expect=0)
    with pytest.raises(MarketError, match=words):
        await raise_epoch(network, DOMAIN, ROOT, KEYS.signing)


async def test_the_older_of_two_bridges_gives_way_and_says_why():
    network = MemoryNetwork()
    older = await raise_epoch(network, DOMAIN, ROOT, KEYS.signing)
    await raise_epoch(network, DOMAIN, ROOT, public_key(STRANGER))
    with pytest.raises(SupersededError, match="another bridge with this identity claimed epoch 2, ours is 1"):
        await hold_epoch(network, DOMAIN, older)


async def test_a_bridge_gives_way_to_another_boot_that_stands_under_its_own_epoch():
    network = MemoryNetwork()
    mine = await raise_epoch(network, DOMAIN, ROOT, KEYS.signing)
    twin = sign(EpochClaim(PROVIDER, public_key(ROOT), mine.number, public_key(STRANGER)), ROOT, domain=DOMAIN)
    await network.put(EPOCHS, PROVIDER, twin.raw, expect=1)
    with pytest.raises(SupersededError):
        await hold_epoch(network, DOMAIN, mine)


async def test_nothing_but_a_later_claim_of_our_root_key_makes_us_give_way():
    network = MemoryNetwork()
    mine = await raise_epoch(network, DOMAIN, ROOT, KEYS.signing)
    await network.put(EPOCHS, b"x" * 32, claim_raw(99, by=STRANGER), expect=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(hold_epoch, network, DOMAIN, mine))
        for version, raw in enumerate([b"garbage", claim_raw(99, by=STRANGER), mine.claim.raw], start=1):
            await network.put(EPOCHS, PROVIDER, raw, expect=version)
            await anyio.wait_all_tasks_blocked()
        still_there = not tasks.cancel_scope.cancel_called
        tasks.cancel_scope.cancel()

    assert still_there


# --- publishing -----------------------------------------------------------------------------------


class Desk:
    """The module's desk for cards: answers each as the test says, or not at all."""

    def __init__(self, network):
        self.network = network
        self.cards: list[ProviderCard] = []
        self.reasons: list[Reason | None] = []
        self.falsify: dict[str, Any] = {}
        self.key = MODULE

    async def serve(self):
        async for entry in self.network.follow(CARD_SUBMISSIONS, after=len(self.cards)):
            card = open_self_signed(entry.record, ProviderCard, DOMAIN, signer=lambda one: one.binding.keys.signing)
            assert entry.record_id == card.hash
            self.cards.append(card.value)
            reason = self.reasons.pop(0) if self.reasons else Reason.ADMITTED
            if reason is not None:
                verdict = CardVerdict(card.value.provider_id, card.hash, reason, "as told", Tick(1))
                signed = sign(evolve(verdict, **self.falsify), self.key, domain=DOMAIN)
                await self.network.append(CARD_VERDICTS, card.hash, signed.raw)


class Rig:
    def __init__(self):
        self.network = MemoryNetwork()
        self.desk = Desk(self.network)
        self.clock = VirtualClock()
        self.tick = 1
        self.holding = holding()
        self.facts_error: Exception | None = None

    async def facts(self):
        if self.facts_error is not None:
            raise self.facts_error
        return facts_of()

    async def publisher(self, **changes):
        parts: dict[str, Any] = {
            "module_key": public_key(MODULE),
            "signing": BOOT,
            "epoch": await raise_epoch(self.network, DOMAIN, ROOT, KEYS.signing),
            "facts": self.facts,
            "holding": lambda: self.holding,
            "tick": lambda: Tick(self.tick),
            "card_max_age_ticks": 100,
            "clock": self.clock,
        }
        return CardPublisher(self.network, DOMAIN, **parts | changes)

    async def published(self, publisher):
        """Publish once, while the desk is open."""
        return await race(publisher.publish, self.desk.serve)

    async def seen(self, cards):
        """Return when the desk has seen so many cards and everything rests."""
        await poll(SystemClock(), 1, lambda: self._seen(cards))
        await anyio.wait_all_tasks_blocked()

    async def _seen(self, cards):
        return True if len(self.desk.cards) >= cards else None


@pytest.fixture
def rig():
    return Rig()


async def test_a_card_that_is_admitted_is_the_card(rig):
    publisher = await rig.publisher()
    card = await rig.published(publisher)

    assert (card, None, card.value) == (publisher.card, publisher.refusal, rig.desk.cards[0])


async def test_versions_rise(rig):
    publisher = await rig.publisher()
    versions = [(await rig.published(publisher)).value.version for _ in range(3)]

    assert [1, 2, 3] == versions


async def test_a_refused_card_raises_the_markets_reason_and_uses_its_version_up(rig):
    rig.desk.reasons = [Reason.CARD_QUOTE]
    publisher = await rig.publisher()
    with pytest.raises(AdmissionError, match=r"version 1: card-quote: as told") as caught:
        await rig.published(publisher)

    assert (Reason.CARD_QUOTE, caught.value, None) == (caught.value.reason, publisher.refusal, publisher.card)
    assert 2 == (await rig.published(publisher)).value.version
    assert None is publisher.refusal


async def test_a_refused_card_leaves_the_last_admitted_one(rig):
    publisher = await rig.publisher()
    first = await rig.published(publisher)
    rig.desk.reasons = [Reason.CARD_STALE]
    with pytest.raises(AdmissionError):
        await rig.published(publisher)

    assert first == publisher.card


async def test_a_market_that_does_not_answer_is_told_in_time(rig):
    rig.desk.reasons = [None]
    with pytest.raises(MarketError, match=r"no verdict within 0.05 s; is the market running\?"):
        await rig.published(await rig.publisher(patience_s=0.05))


@pytest.mark.parametrize("falsify", [{"submission": b"x" * 32}, {"provider_id": b"x" * 32}], ids=["card", "provider"])
async def test_a_verdict_on_something_else_admits_nothing(rig, falsify):
    rig.desk.falsify = falsify
    publisher = await rig.publisher()
    with pytest.raises(MarketError, match="the verdict under its id is on another card"):
        await rig.published(publisher)

    assert None is publisher.card


async def test_a_verdict_by_a_stranger_admits_nothing(rig):
    rig.desk.key = STRANGER
    with pytest.raises(MarketError, match="its verdict is not the module's"):
        await rig.published(await rig.publisher())


async def run_while(rig, publisher, play):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.desk.serve)
        tasks.start_soon(partial(publisher.run, every_ms=1000))
        await rig.seen(1)
        await play()
        tasks.cancel_scope.cancel()


async def test_a_card_that_tells_the_truth_is_not_published_again(rig):
    async def play():
        await rig.clock.advance(100_000)

    await run_while(rig, await rig.publisher(), play)

    assert 1 == len(rig.desk.cards)


@pytest.mark.parametrize(
    "change",
    [{"rates": rates(2000)}, {"capabilities": ()}, {"max_leases": 0}, {"bands": (LARGE,)}, {"retirement": b"r" * 32}],
    ids=lambda change: next(iter(change)),
)
async def test_a_change_is_published_at_the_next_look(rig, change):
    async def play():
        rig.holding = holding(**change)
        await rig.clock.advance(1000)
        await rig.seen(2)

    await run_while(rig, await rig.publisher(), play)

    assert [holding(**change)] == [
        Holding(one.capabilities, one.bands, one.max_leases, one.rates, one.retirement) for one in rig.desk.cards[1:]
    ]


async def test_a_change_that_somebody_tells_of_is_published_at_once(rig):
    publisher = await rig.publisher()

    async def play():
        rig.holding = holding(max_leases=0)
        publisher.changed()
        await rig.seen(2)

    await run_while(rig, publisher, play)

    assert (0, 0) == (rig.desk.cards[1].max_leases, rig.clock.monotonic_ms())


async def test_an_ageing_card_is_published_anew_at_half_its_age(rig):
    ages = []

    async def play():
        for rig.tick in (50, 51):
            await rig.clock.advance(1000)
            await anyio.wait_all_tasks_blocked()
            ages.append(len(rig.desk.cards))

    await run_while(rig, await rig.publisher(), play)

    assert ([1, 2], 51) == (ages, rig.desk.cards[1].refreshed_at)


async def test_a_refused_card_is_tried_again_ever_more_rarely(rig):
    rig.desk.reasons = [Reason.CARD_STALE] * 100
    at = []

    async def play():
        for _ in range(20):
            await rig.clock.advance(1000)
            await anyio.wait_all_tasks_blocked()
            at.append(len(rig.desk.cards))

    await run_while(rig, await rig.publisher(), play)

    assert [1, 2, 2, 2, 2, 3] == at[:6]
    assert 4 == at[-1]


async def test_a_quote_that_is_not_to_be_had_stops_nothing(rig):
    publisher = await rig.publisher()

    async def play():
        rig.facts_error = NoQuoteError("the TDX module is busy")
        await rig.clock.advance(1000)
        rig.facts_error = None
        rig.holding = holding(max_leases=1)
        publisher.changed()
        await rig.seen(2)

    await run_while(rig, publisher, play)

    assert 1 == rig.desk.cards[1].max_leases


async def test_a_bridge_that_is_superseded_stops_publishing_and_says_so(rig):
    publisher = await rig.publisher()
    await raise_epoch(rig.network, DOMAIN, ROOT, public_key(STRANGER))
    with pytest.raises(SupersededError):
        await race(partial(publisher.run, every_ms=1000), rig.desk.serve)
