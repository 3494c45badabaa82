"""Who may bid: each thing that can be wrong with a card, and its reason."""

import secrets

import pytest
from attrs import evolve

from compute_bridge.adapters.software_pki import DevelopmentRoot
from compute_bridge.adapters.software_quotes import SoftwareAttester, SoftwarePlatform
from compute_bridge.model import channels
from compute_bridge.model.card import BootCertificate, CardVerdict, RosterEntry
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import Tick
from compute_bridge.wire.commitment import report_data
from compute_bridge.wire.signing import fingerprint, open_self_signed, public_key, sign

pytestmark = pytest.mark.anyio


@pytest.fixture
async def seller(world):
    provider = world.provider("p")
    await provider.claim()
    return provider


async def roster(world):
    found = await world.network.entries(channels.ROSTER)
    return {one.key: world.market.publisher.open(one.value, RosterEntry).value for one in found}


async def test_a_good_card_is_in_the_roster_with_what_its_quote_proves(world, seller):
    await seller.sell()
    entry = (await roster(world))[seller.id]

    assert (entry.anchor, entry.tcb_status, entry.development_attestation) == ("test-root", "UpToDate", True)
    assert await world.find(channels.CARDS, entry.card_hash, RosterEntry) == entry


async def test_a_later_version_takes_the_place_of_the_first(world, seller):
    await seller.sell()
    first = (await roster(world))[seller.id]
    await seller.sell()

    assert (await roster(world))[seller.id].card_hash != first.card_hash
    assert await world.find(channels.CARDS, first.card_hash, RosterEntry) == first


async def refused(world, seller, **changes):
    """Return why a card with ``changes`` is refused, and that it is in no roster."""
    verdict = await seller.submit(**changes)
    assert await roster(world) == {}
    assert verdict.provider_id == seller.id
    assert verdict.detail
    return verdict.reason


async def test_a_card_signed_by_another_key_is_refused(world, seller, make):
    verdict = await seller.submit(signer=make.seed("stranger"))

    assert (verdict.reason, await roster(world)) == (Reason.CARD_SIGNATURE, {})


async def test_a_certificate_by_another_root_is_refused(world, seller, make):
    stranger = make.seed("stranger root")
    forged = BootCertificate(seller.id, public_key(stranger), seller.epoch, seller.keys)

    assert await refused(world, seller, certificate=sign(forged, stranger, domain=world.domain).raw) == (
        Reason.CARD_CERTIFICATE
    )


async def test_a_certificate_for_another_epoch_is_refused(world, seller):
    later = BootCertificate(seller.id, public_key(seller.root), seller.epoch + 1, seller.keys)

    assert await refused(world, seller, certificate=sign(later, seller.root, domain=world.domain).raw) == (
        Reason.CARD_CERTIFICATE
    )


async def test_a_certificate_for_other_keys_is_refused(world, seller, make):
    other = evolve(seller.keys, signing=public_key(make.seed("other boot")))
    given = BootCertificate(seller.id, public_key(seller.root), seller.epoch, other)

    assert await refused(world, seller, certificate=sign(given, seller.root, domain=world.domain).raw) == (
        Reason.CARD_CERTIFICATE
    )


async def test_an_epoch_that_nobody_claimed_is_refused(world, make):
    provider = world.provider("p")
    provider.epoch, provider.boot = 1, make.seed("boot p 1")

    assert await refused(world, provider) is Reason.CARD_EPOCH


async def test_of_two_bridges_with_one_identity_the_older_is_refused(world, seller):
    await seller.sell()
    newer = world.provider("p")
    newer.epoch = seller.epoch
    await newer.claim()

    assert (await seller.submit()).reason is Reason.CARD_EPOCH
    assert (await newer.submit()).reason is Reason.ADMITTED
    assert (await seller.submit()).reason is Reason.CARD_EPOCH


async def test_an_epoch_claimed_by_a_stranger_does_not_count(world, seller, make):
    stranger = make.seed("stranger root")
    claim = await world.network.get(channels.EPOCHS, seller.id)
    value = open_self_signed(
        claim.value,
        type(world.market.roster.claim(seller.id) or (await world.market.roster.read_claim(seller.id))),
        world.domain,
        signer=lambda one: one.root_key,
    ).value
    forged = evolve(value, epoch=99, root_key=public_key(stranger))
    raw = sign(forged, stranger, domain=world.domain).raw
    await world.network.put(channels.EPOCHS, seller.id, raw, expect=claim.version)

    assert (await seller.submit()).reason is Reason.ADMITTED


@pytest.mark.parametrize("version", [1, 2])
async def test_a_version_that_is_not_higher_is_refused(world, seller, version):
    seller.version = 1
    await seller.sell()

    assert (await seller.submit(version=version, max_leases=3)).reason is Reason.CARD_VERSION


async def test_rates_in_another_currency_are_refused(world, seller, make):
    assert await refused(world, seller, rates=make.rate_table(make.row(), currency="EUR")) is Reason.CARD_CURRENCY


async def test_a_fingerprint_of_other_rates_is_refused(world, seller, make):
    other = fingerprint(make.rate_table(make.row(1)))

    assert await refused(world, seller, rate_fingerprint=other) is Reason.CARD_FINGERPRINT


async def test_a_card_from_the_future_is_refused(world, seller):
    assert await refused(world, seller, refreshed_at=Tick(99)) is Reason.CARD_STALE


async def test_a_card_refreshed_too_long_ago_is_refused(world, seller):
    card = await seller.card()
    await world.tick(world.module.config.card_max_age_ticks + 1)
    verdict = await seller.submit(card)

    assert verdict.reason is Reason.CARD_STALE


@pytest.mark.parametrize("field", ["coalition", "module", "challenge"])
async def test_a_quote_bound_to_another_place_or_time_is_refused(world, seller, field):
    binding = evolve((await seller.card()).binding, **{field: bytes([9] * 32)})

    assert await refused(world, seller, binding=binding) is Reason.CARD_BINDING


async def test_a_challenge_of_a_tick_to_come_is_refused(world, seller):
    binding = evolve((await seller.card()).binding, challenge_tick=Tick(50))

    assert await refused(world, seller, binding=binding) is Reason.CARD_BINDING


async def test_a_quote_over_other_keys_is_refused(world, seller):
    other = world.provider("other")
    await other.claim()
    evidence = (await other.card()).evidence

    assert await refused(world, seller, evidence=evidence) is Reason.CARD_QUOTE


async def test_a_quote_under_an_unknown_root_is_refused(world, seller):
    now_s = world.clock.utc_ms() // 1000
    stranger = SoftwareAttester(DevelopmentRoot.generate("stranger", now_s=now_s), now_s=now_s)
    binding = (await seller.card()).binding

    assert await refused(world, seller, evidence=stranger.evidence(report_data(binding))) is Reason.CARD_QUOTE


async def test_a_platform_out_of_date_is_refused(world, seller):
    now_s = world.clock.utc_ms() // 1000
    root = DevelopmentRoot.generate("old", now_s=now_s)
    attester = SoftwareAttester(root, now_s=now_s, platform=SoftwarePlatform(tcb_status="OutOfDate"))
    policy = evolve(world.module.policy, anchors=(attester.anchor,))
    await world.stop()
    await world.start(module=evolve(world.module, policy=policy))
    card = await seller.card()
    verdict = await seller.submit(evolve(card, evidence=attester.evidence(report_data(card.binding))))

    assert verdict.reason is Reason.CARD_QUOTE
    assert "quote-tcb-status" in verdict.detail


async def test_measurements_that_are_not_listed_are_refused(world, seller, attester):
    listed = evolve(world.module.policy, allowed_measurements=())
    await world.stop()
    await world.start(module=evolve(world.module, policy=listed))
    verdict = await seller.submit()

    assert verdict.reason is Reason.CARD_QUOTE
    assert "quote-measurements" in verdict.detail


async def test_a_development_quote_is_refused_unless_allowed_in_words(world, seller):
    policy = evolve(world.module.policy, allow_development=False)
    await world.stop()
    await world.start(module=evolve(world.module, policy=policy))

    assert await refused(world, seller) is Reason.CARD_DEVELOPMENT


async def test_a_card_that_hides_its_development_quote_is_refused(world, seller):
    assert await refused(world, seller, development_attestation=False) is Reason.CARD_DEVELOPMENT


async def test_a_card_of_another_coalition_is_refused(world, seller, make):
    elsewhere = sign(await seller.card(), seller.boot, domain=make.elsewhere)
    await world.network.append(channels.CARD_SUBMISSIONS, elsewhere.hash, elsewhere.raw)
    await world.settle_down()
    verdict = await world.find(channels.CARD_VERDICTS, elsewhere.hash, CardVerdict)

    assert (verdict.reason, await roster(world)) == (Reason.CARD_SIGNATURE, {})


def truncated(raw):
    return raw[: len(raw) // 2]


def flipped(raw):
    return raw[:-1] + bytes([raw[-1] ^ 1])


def oversized(raw):
    return raw + bytes(170_000)


@pytest.mark.parametrize("spoil", [truncated, flipped, oversized, lambda _raw: b"\xff" * 40, lambda _raw: b""])
async def test_a_broken_submission_is_answered_and_the_next_is_served(world, seller, spoil):
    signed = sign(await seller.card(), seller.boot, domain=world.domain)
    broken_id = secrets.token_bytes(32)
    await world.network.append(channels.CARD_SUBMISSIONS, broken_id, spoil(signed.raw))
    await world.network.append(channels.CARD_SUBMISSIONS, signed.hash, signed.raw)
    await world.settle_down()
    verdict = await world.find(channels.CARD_VERDICTS, broken_id, CardVerdict)

    assert verdict.reason in (Reason.CARD_MALFORMED, Reason.CARD_SIGNATURE)
    assert (await world.find(channels.CARD_VERDICTS, signed.hash, CardVerdict)).reason is Reason.ADMITTED


async def test_a_replayed_card_changes_nothing(world, seller):
    await seller.sell(max_leases=1)
    first = (await world.network.fetch(channels.CARD_SUBMISSIONS))[0]
    await seller.sell(max_leases=2)
    await world.network.append(channels.CARD_SUBMISSIONS, secrets.token_bytes(32), first.record)
    await world.settle_down()

    assert world.market.roster.current[seller.id].card.max_leases == 2


async def test_an_id_of_unusual_length_stops_nothing(world, seller):
    await world.network.append(channels.CARD_SUBMISSIONS, b"x", b"garbage")
    await seller.sell()

    assert seller.id in await roster(world)
