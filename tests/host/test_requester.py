"""The requester: secrets first, everything verified, and nothing connected to before."""

import shutil
import stat
import subprocess
from functools import partial
from pathlib import Path

import anyio
import pytest
from attrs import evolve
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.adapters.requester_store import FileRequesterStore
from compute_bridge.host.card_checks import UntrustedError
from compute_bridge.host.race import beside, race
from compute_bridge.host.requester import NoLeaseError
from compute_bridge.host.requester_ssh import quoted
from compute_bridge.host.requester_state import NotYetError, RequestHandle, find_handle
from compute_bridge.host.requester_status import RequestState
from compute_bridge.host.requester_submit import RequestTerms
from compute_bridge.model import channels
from compute_bridge.model.bid import Bid, bid
from compute_bridge.model.control import ControlAction, LeaseControl
from compute_bridge.model.ids import Fingerprint, RequestId, UniqueId
from compute_bridge.model.manifest import ComputeManifest, ImageRef, SourceRef
from compute_bridge.model.quote import INTEL_ANCHOR, AttestationReason, QuotePolicy
from compute_bridge.model.reason import Reason
from compute_bridge.model.receipt import Credential
from compute_bridge.model.resources import Posture, Region, Requirements, Resources
from compute_bridge.model.units import MicrosPerHour, Milliseconds, Tick
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.errors import (
    AdmissionError,
    AttestationError,
    MarketError,
    ReceiptError,
    RecordError,
    RecordTooLargeError,
)
from compute_bridge.ports.requester_store import StoreError
from compute_bridge.testing.puppet_bridge import PuppetBridge
from compute_bridge.testing.puppet_market import puppet_handshake
from compute_bridge.wire.keys import ssh_private_file, ssh_public_line
from compute_bridge.wire.signing import fingerprint, open_signed, public_key, sign
from compute_bridge_market.rule import LowestRate

pytestmark = pytest.mark.anyio

NEEDS = Requirements(Resources(1000, 512), Milliseconds(60_000))
OCI = ComputeManifest(SourceRef("hello", "1", "0123abc"), ImageRef("oci@sha256:" + "ab" * 32), NEEDS)
OTHER = Ed25519PrivateKey.from_private_bytes(bytes([200]) * 32)


# --- asking ---------------------------------------------------------------------------------------


async def test_a_request_ends_in_a_verified_receipt(stage):
    bridge = await stage.bridge()
    handle, access = await stage.has(bridge)

    assert handle == access.request
    assert bridge.provider == access.grant.value.provider_id
    assert ("127.0.0.1", 2222) == (access.receipt.value.host, access.receipt.value.port)
    assert access.winner.development


async def test_the_public_request_names_neither_source_nor_image_nor_account(stage):
    await stage.ask(manifest=OCI)
    [entry] = await stage.network.fetch(channels.REQUESTS)

    for secret in (b"hello", b"0123abc", b"oci@", bytes.fromhex("ab" * 32), public_key(stage.requester.account)):
        assert secret not in entry.record


async def test_secrets_are_kept_before_the_request_is_sent(tmp_path, stage):
    class Deaf(MemoryNetwork):
        async def append(self, stream, record_id, record, *, expect_last=None):
            if stream == channels.INTAKE:
                raise RecordTooLargeError("deaf")
            return await super().append(stream, record_id, record, expect_last=expect_last)

    store = FileRequesterStore(tmp_path / "deaf")
    deaf = Deaf()
    for tick in stage.market.ticks:
        await deaf.append(channels.ALMANAC, channels.number(tick.value.tick), tick.raw)
    requester = stage.another_requester(network=deaf, store=store)
    with pytest.raises(RecordTooLargeError):
        await requester.submit(OCI, MicrosPerHour(1))

    assert 1 == len(await store.requests())


async def test_a_refused_request_raises_with_the_markets_reason(stage):
    with pytest.raises(AdmissionError) as caught:
        await stage.ask(reason=Reason.CREDIT_LIMIT)

    assert Reason.CREDIT_LIMIT == caught.value.reason


async def test_a_refused_request_stays_refused(stage):
    with pytest.raises(AdmissionError):
        await stage.ask(reason=Reason.CREDIT_LIMIT)
    [request] = await stage.requester.store.requests()
    with pytest.raises(AdmissionError):
        await stage.requester.serve_until_receipt(RequestHandle(request))


async def test_an_answer_that_is_not_the_modules_is_passed_over(stage):
    async def forge_then_answer():
        intake = stage.network.follow(channels.INTAKE)
        await anext(intake)
        await intake.aclose()
        await stage.network.append(channels.REQUEST_VERDICTS, b"stranger", b"garbage")
        await stage.market.take_in()
        await anyio.sleep_forever()

    submit = partial(stage.requester.submit, OCI, MicrosPerHour(50_000))
    handle = await race(submit, forge_then_answer)

    assert RequestState.ADMITTED == (await stage.requester.status(handle)).state


async def test_a_line_that_is_no_ssh_key_is_refused_before_anything_is_kept(stage):
    with pytest.raises(RecordError):
        await stage.requester.submit(OCI, MicrosPerHour(1), "ssh-ed25519 nonsense")

    assert () == await stage.requester.store.requests()


async def test_two_requests_share_no_key_salt_or_pointer(stage):
    first, second = await stage.ask(), await stage.ask()
    requests = list(stage.market.requests.values())

    assert first != second
    for name in ("request_key", "bearer_pointer", "manifest_commitment", "envelope_commitment"):
        assert getattr(requests[0], name) != getattr(requests[1], name)


# --- who won --------------------------------------------------------------------------------------


FALSE_GRANTS = {
    "dearer than allowed": {"rate": MicrosPerHour(50_001)},
    "longer than asked": {"duration_ms": Milliseconds(60_001)},
    "other requirements": {"requirements": evolve(NEEDS, egress_gib=1)},
    "other manifest": {"manifest_commitment": bytes(32)},
    "other envelope": {"envelope_commitment": bytes(32)},
    "other pointer": {"bearer_pointer": bytes(32)},
    "other key": {"request_key": public_key(OTHER)},
    "other currency": {"currency": "USD"},
    "other round": {"round": 77},
    "a region that lost": {"region": Region("us-1")},
    "a posture that lost": {"posture": Posture.SEV_SNP},
    "another provider": {"provider_id": bytes(32)},
    "another card": {"card_hash": bytes(32)},
}


@pytest.mark.parametrize("changes", FALSE_GRANTS.values(), ids=FALSE_GRANTS.keys())
async def test_a_grant_that_is_not_what_was_asked_and_awarded_gets_no_envelope(stage, changes):
    await stage.bridge()
    handle = await stage.ask()
    [grant] = (await stage.market.clear(grant=lambda one: evolve(one, **changes))).grants
    with pytest.raises(MarketError):
        await stage.serve(handle)

    assert 0 == await stage.envelopes(grant)


FALSE_RECORDS = {
    "other rule": {"rule": "other"},
    "other fingerprint": {"rule_fingerprint": bytes(32)},
    "dearer fee": {"requester_fee": 151},
    "other provider fee": {"provider_fee": 0},
    "other currency": {"currency": "USD"},
}


@pytest.mark.parametrize("changes", FALSE_RECORDS.values(), ids=FALSE_RECORDS.keys())
async def test_a_round_on_other_terms_gets_no_envelope(stage, changes):
    await stage.bridge()
    handle = await stage.ask()
    cleared = await stage.market.clear(
        record=lambda one: evolve(one, **changes), grant=lambda one: evolve(one, currency="EUR")
    )
    with pytest.raises(UntrustedError) as caught:
        await stage.serve(handle)

    assert Reason.GRANT_CLEARING == caught.value.reason
    assert 0 == await stage.envelopes(cleared.grants[0])


async def test_a_grant_of_another_request_is_not_ours(stage):
    await stage.bridge()
    handle = await stage.ask(open_ms=Milliseconds(200))
    other = await stage.ask()
    del stage.market.requests[RequestId(handle.id)]
    [grant] = (await stage.market.clear()).grants
    with pytest.raises(NoLeaseError):
        await stage.serve(handle, partial(stage.market.tick, 10))

    assert grant.value.request_id == other.id


async def test_a_grant_that_can_no_longer_be_accepted_gets_no_envelope(stage):
    await stage.bridge()
    handle, grant = await stage.ask_and_clear(open_ms=Milliseconds(60_000))
    await stage.market.tick(62)
    with pytest.raises(UntrustedError) as caught:
        await stage.serve(handle)

    assert Reason.GRANT_EXPIRED == caught.value.reason
    assert 0 == await stage.envelopes(grant)


async def false_card(stage, name):
    """Return a bridge whose card has the fault ``name``, admitted all the same."""
    bridge = await stage.bridge(seed=60)
    card = bridge.make_card().value
    binding, domain = card.binding, stage.market.domain
    other = await stage.bridge(seed=70, vcpu_nanos=99_000_000)
    changes = {
        "certificate of another root": {"certificate": other.certify(provider_id=bridge.provider)},
        "certificate of another boot": {"certificate": bridge.certify(keys=other.keys)},
        "certificate of another epoch": {"certificate": bridge.certify(epoch=9)},
        "certificate of garbage": {"certificate": b"garbage"},
        "epoch never claimed": {"epoch": 2, "certificate": bridge.certify(epoch=2)},
        "binding of another coalition": {"binding": evolve(binding, coalition=UniqueId(bytes(32)))},
        "binding of other keys": {"binding": evolve(binding, keys=evolve(bridge.keys, sealing=other.keys.sealing))},
        "challenge of no tick": {"binding": evolve(binding, challenge=bytes(32))},
        "challenge of the future": {"binding": evolve(binding, challenge_tick=Tick(999))},
        "rates of another table": {"rate_fingerprint": Fingerprint(bytes(32))},
        "quote over other keys": {"evidence": other.card.value.evidence},
        "development unmarked": {"development_attestation": False},
    }[name]
    assert domain == stage.market.domain
    bridge.card = bridge.make_card(**changes)
    await stage.market.admit_card(bridge.card)
    return bridge


CARD_REASONS = {
    "certificate of another root": Reason.CARD_CERTIFICATE,
    "certificate of another boot": Reason.CARD_CERTIFICATE,
    "certificate of another epoch": Reason.CARD_CERTIFICATE,
    "certificate of garbage": Reason.CARD_CERTIFICATE,
    "epoch never claimed": Reason.CARD_EPOCH,
    "binding of another coalition": Reason.CARD_BINDING,
    "binding of other keys": Reason.CARD_CERTIFICATE,
    "challenge of no tick": Reason.CARD_BINDING,
    "challenge of the future": Reason.CARD_BINDING,
    "rates of another table": Reason.CARD_FINGERPRINT,
    "quote over other keys": AttestationReason.REPORT_DATA,
    "development unmarked": Reason.CARD_DEVELOPMENT,
}


@pytest.mark.parametrize("name", CARD_REASONS)
async def test_a_card_that_does_not_hold_gets_no_envelope(stage, name):
    await false_card(stage, name)
    handle, grant = await stage.ask_and_clear()
    with pytest.raises((UntrustedError, AttestationError)) as caught:
        await stage.serve(handle)

    assert CARD_REASONS[name] == vars(caught.value)["reason"]
    assert 0 == await stage.envelopes(grant)


async def test_a_quote_whose_challenge_is_too_old_gets_no_envelope(open_stage):
    stage = open_stage(quote_max_age_ticks=2)
    await stage.market.tick(3)
    await stage.bridge()
    await stage.market.tick(5)
    handle, grant = await stage.ask_and_clear()
    with pytest.raises(UntrustedError) as caught:
        await stage.serve(handle)

    assert Reason.CARD_STALE == caught.value.reason
    assert 0 == await stage.envelopes(grant)


async def test_a_provider_without_an_epoch_gets_no_envelope(stage):
    bridge = PuppetBridge(stage.market, *stage.attester)
    bridge.card = bridge.make_card()
    await stage.market.admit_card(bridge.card)
    handle, _ = await stage.ask_and_clear()
    with pytest.raises(UntrustedError) as caught:
        await stage.serve(handle)

    assert Reason.CARD_EPOCH == caught.value.reason


async def test_a_provider_that_booted_again_may_finish_what_it_promised(stage):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear()
    bridge.boot(2)
    await bridge.claim_epoch()
    bridge.boot(1)
    access = await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now))

    assert bridge.provider == access.grant.value.provider_id


async def test_development_is_refused_unless_the_requester_allows_it_in_words(stage):
    await stage.bridge()
    handle, grant = await stage.ask_and_clear()
    stage.requester = stage.another_requester(policy=evolve(stage.policy, allow_development=False))
    with pytest.raises(AttestationError) as caught:
        await stage.serve(handle)

    assert AttestationReason.DEVELOPMENT == caught.value.reason
    assert "attestation.development" in str(caught.value)
    assert 0 == await stage.envelopes(grant)


async def test_an_anchor_that_the_requester_did_not_name_is_refused(stage):
    await stage.bridge()
    handle, _ = await stage.ask_and_clear()
    stage.requester = stage.another_requester(policy=QuotePolicy(anchors=(INTEL_ANCHOR,), allow_development=True))
    with pytest.raises(AttestationError) as caught:
        await stage.serve(handle)

    assert AttestationReason.ANCHOR == caught.value.reason


# --- the receipt ----------------------------------------------------------------------------------

PRIVATE = ssh_private_file(bytes([5]) * 32)
FALSE_RECEIPTS = {
    "an option for a host": {"host": "-oProxyCommand=sh"},
    "two hosts": {"host": "a,b"},
    "a pattern": {"host": "*"},
    "a space": {"host": "a b"},
    "an address with a zone": {"host": "fe80::1%eth0"},
    "an option for a user": {"user": "-root"},
    "a user with a host": {"user": "root@evil"},
    "a host key of another type": {"host_key": "ecdsa-sha2-nistp256 " + "A" * 80},
    "a host key with a comment": {"host_key": ssh_public_line(bytes([9]) * 32) + " comment"},
    "a host key of another length": {"host_key": ssh_public_line(bytes([9]) * 32)[:-4]},
    "two host keys": {"host_key": " ".join([ssh_public_line(bytes([9]) * 32)] * 2)},
    "another quote": {"quote_hash": Fingerprint(bytes(32))},
    "another posture": {"posture": Posture.TDX},
    "no development mark": {"development_attestation": False},
    "an earlier end": {"ends_at": 1_790_000_030_000},
    "a private key that nobody asked for": {"private_key": PRIVATE},
    "a bridge-made credential that nobody asked for": {"credential": Credential.BRIDGE_MADE, "private_key": PRIVATE},
}


@pytest.mark.parametrize("changes", FALSE_RECEIPTS.values(), ids=FALSE_RECEIPTS.keys())
async def test_a_receipt_for_something_else_is_never_connected_to(stage, changes):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear()
    with pytest.raises(ReceiptError, match="do not connect"):
        await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now, **changes))
    with pytest.raises(NotYetError):
        await stage.requester.ssh_command(handle)


@pytest.mark.parametrize("changes", [{"image_digest": bytes(32)}, {"image_digest": b""}, {"image_verifier": ""}])
async def test_a_receipt_for_an_image_that_was_not_verified_is_refused(stage, changes):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear(manifest=OCI)
    with pytest.raises(ReceiptError, match="image digest"):
        await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now, **changes))


async def test_a_receipt_for_a_verified_image_is_accepted(stage):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear(manifest=OCI)
    access = await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now))

    assert bytes.fromhex("ab" * 32) == access.receipt.value.image_digest


async def test_a_lease_that_has_ended_is_not_connected_to(stage):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear()
    with pytest.raises(ReceiptError, match="ended"):
        await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now - 60_000))


async def test_what_a_stranger_leaves_in_the_shuffle_is_passed_over(stage):
    bridge = await stage.bridge()
    stranger = await stage.bridge(seed=80, vcpu_nanos=99_000_000)
    handle, grant = await stage.ask_and_clear()

    async def replies():
        body = await bridge.open_envelope(stage.shuffle, grant)
        forged = stranger.make_receipt(grant, body, stage.now, host="evil.example")
        pointer = grant.value.bearer_pointer
        await stage.shuffle.reply(pointer, b"garbage")
        await stage.shuffle.reply(pointer, stranger.seal_receipt(grant, forged, body.sealing_key))
        await bridge.serve(stage.shuffle, grant, stage.now)

    access = await stage.serve(handle, replies)

    assert "127.0.0.1" == access.receipt.value.host


async def test_a_receipt_for_another_grant_is_passed_over(stage):
    bridge = await stage.bridge()
    first, first_grant = await stage.ask_and_clear()
    handle, grant = await stage.ask_and_clear()

    async def replies():
        other = await bridge.open_envelope(stage.shuffle, first_grant)
        body = await bridge.open_envelope(stage.shuffle, grant)
        crossed = bridge.make_receipt(first_grant, other, stage.now, host="evil.example")
        sealed = bridge.seal_receipt(first_grant, crossed, body.sealing_key)
        await stage.shuffle.reply(grant.value.bearer_pointer, sealed)
        inner = bridge.make_receipt(first_grant, other, stage.now, host="evil.example")
        await stage.shuffle.reply(grant.value.bearer_pointer, bridge.seal_receipt(grant, inner, body.sealing_key))
        await bridge.serve(stage.shuffle, grant, stage.now)

    access = await race(partial(stage.requester.serve_until_receipt, first), partial(stage.serve, handle, replies))

    assert ("127.0.0.1", handle) == (access.receipt.value.host, access.request)


async def test_another_receipt_of_the_same_number_is_a_replay(stage):
    bridge = await stage.bridge()
    handle, access = await stage.has(bridge)
    kept = await stage.requester._load(handle)
    await kept.advance(evolve(kept.progress, receipt=b""))
    body = kept.body.value
    moved = bridge.make_receipt(access.grant, body, stage.now, host="127.0.0.2")
    store = stage.requester.store
    fresh = stage.another_requester(shuffle=type(stage.shuffle)(MemoryNetwork()), store=store)
    await fresh.shuffle.reply(
        access.grant.value.bearer_pointer, bridge.seal_receipt(access.grant, moved, body.sealing_key)
    )
    with pytest.raises(ReceiptError, match="came before"):
        await fresh.serve_until_receipt(handle)


async def test_a_bridge_made_key_is_accepted_where_it_was_asked_for(stage):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear(ssh_key=None)
    made = {"credential": Credential.BRIDGE_MADE, "private_key": PRIVATE}
    access = await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now, **made))
    argv = await stage.requester.ssh_command(handle)
    [key] = [part.removeprefix("IdentityFile=").strip('"') for part in argv if part.startswith("IdentityFile=")]

    assert Credential.BRIDGE_MADE is access.receipt.value.credential
    assert PRIVATE == await anyio.Path(key).read_text()
    assert 0o600 == stat.S_IMODE((await anyio.Path(key).stat()).st_mode)


@pytest.mark.parametrize("private", ["", "not a key", PRIVATE + PRIVATE])
async def test_a_bridge_made_key_must_be_one(stage, private):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear(ssh_key=None)
    made = {"credential": Credential.BRIDGE_MADE, "private_key": private}
    with pytest.raises(ReceiptError, match="credential"):
        await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now, **made))


# --- when it does not work out --------------------------------------------------------------------


async def serve_second(stage, bridge, request, *, without):
    """Clear a request again, and serve it as soon as its second envelope is there."""
    stage.market.clear_again(RequestId(fingerprint(request)), request, without.provider)
    [grant] = (await stage.market.clear()).grants
    envelopes = stage.shuffle.resolve(grant.value.bearer_pointer)
    for _ in range(2):
        await anext(envelopes)
    await envelopes.aclose()
    [handle] = await stage.requester.store.requests()
    body = (await stage.requester._load(RequestHandle(handle))).body.value
    receipt = bridge.make_receipt(grant, body, stage.now)
    await stage.shuffle.reply(grant.value.bearer_pointer, bridge.seal_receipt(grant, receipt, body.sealing_key))


async def test_a_refused_grant_is_followed_by_the_next_one(stage):
    cheap, dear = await stage.bridge(seed=60), await stage.bridge(seed=70, vcpu_nanos=20_000_000)
    handle, first = await stage.ask_and_clear()
    request = (await stage.requester._load(handle)).signed.value

    async def second_try():
        await cheap.open_envelope(stage.shuffle, first)
        await cheap.log(first.value)
        await serve_second(stage, dear, request, without=cheap)

    access = await stage.serve(handle, second_try)

    assert cheap.provider == first.value.provider_id
    assert dear.provider == access.grant.value.provider_id


async def test_a_grant_that_the_market_gives_up_is_followed_by_the_next_one(stage):
    silent, dear = await stage.bridge(seed=60), await stage.bridge(seed=70, vcpu_nanos=20_000_000)
    handle, first = await stage.ask_and_clear()
    request = (await stage.requester._load(handle)).signed.value

    async def second_try():
        await silent.open_envelope(stage.shuffle, first)
        await stage.market.settle(first.value, None)
        await serve_second(stage, dear, request, without=silent)

    access = await stage.serve(handle, second_try)

    assert dear.provider == access.grant.value.provider_id


async def test_a_request_that_nobody_takes_ends_with_its_reason(stage):
    handle = await stage.ask(open_ms=Milliseconds(200))
    with pytest.raises(NoLeaseError) as caught:
        await stage.serve(handle, partial(stage.market.tick, 10))

    assert Reason.REQUEST_EXPIRED == caught.value.reason
    assert RequestState.EXPIRED == (await stage.requester.status(handle)).state


async def test_a_request_that_nobody_takes_tells_how_each_bid_fared(stage):
    dear = await stage.bridge(vcpu_nanos=20_000_000)
    handle = await stage.ask(open_ms=Milliseconds(200), max_rate=MicrosPerHour(1))
    await stage.market.clear()
    with pytest.raises(NoLeaseError, match=f"provider {dear.provider.hex()[:12]} above-max-rate"):
        await stage.serve(handle, partial(stage.market.tick, 10))


async def test_a_no_show_is_told_and_not_waited_out(stage):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear()

    async def refuse():
        await bridge.open_envelope(stage.shuffle, grant)
        await bridge.log(grant.value, outcome=Outcome.NO_SHOW, reason=Reason.ENVELOPE_ABSENT)

    with pytest.raises(NoLeaseError) as caught:
        await stage.serve(handle, refuse)

    assert Reason.ENVELOPE_ABSENT == caught.value.reason


async def test_a_lease_served_without_a_receipt_is_told_after_a_while(stage):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear()

    async def serve_silently():
        await bridge.open_envelope(stage.shuffle, grant)
        await bridge.log(grant.value, ran_ms=1000)
        await anyio.wait_all_tasks_blocked()
        await stage.clock.advance(10_000)

    with pytest.raises(NoLeaseError) as caught:
        await stage.serve(handle, serve_silently)

    assert Reason.RELEASED == caught.value.reason


async def test_a_log_by_a_stranger_ends_nothing(stage):
    bridge = await stage.bridge()
    stranger = await stage.bridge(seed=80, vcpu_nanos=99_000_000)
    handle, grant = await stage.ask_and_clear()

    async def play():
        body = await bridge.open_envelope(stage.shuffle, grant)
        await stranger.log(grant.value, provider_id=bridge.provider)
        await anyio.wait_all_tasks_blocked()
        receipt = bridge.make_receipt(grant, body, stage.now)
        await stage.shuffle.reply(grant.value.bearer_pointer, bridge.seal_receipt(grant, receipt, body.sealing_key))

    assert handle == (await stage.serve(handle, play)).request


# --- after a crash --------------------------------------------------------------------------------


async def test_another_process_goes_on_where_the_first_one_stood(stage):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear()
    await race(
        partial(stage.requester.serve_until_receipt, handle), partial(bridge.open_envelope, stage.shuffle, grant)
    )
    stage.requester = stage.another_requester()
    access = await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now))

    assert 1 == await stage.envelopes(grant)
    assert handle == access.request


async def test_a_request_that_was_kept_and_never_sent_is_sent_by_the_next_process(stage):
    bridge = await stage.bridge()
    terms = RequestTerms(manifest=OCI, max_rate=MicrosPerHour(50_000), ssh_key=ssh_public_line(bytes([3]) * 32))
    kept = await beside(partial(stage.requester._submitter.keep, terms), stage.requester.market.follow_almanac)
    handle, before = kept.handle, await stage.network.tail(channels.INTAKE)
    stage.requester = stage.another_requester()

    async def play():
        await stage._answer_once(Reason.ADMITTED)
        [grant] = (await stage.market.clear()).grants
        await bridge.serve(stage.shuffle, grant, stage.now)

    access = await stage.serve(handle, play)

    assert 0 == before
    assert handle == access.request


async def test_an_accepted_receipt_is_shown_again_without_the_network(stage):
    bridge = await stage.bridge()
    handle, access = await stage.has(bridge)
    offline = stage.another_requester(network=MemoryNetwork())
    again = await offline.access(handle)

    assert access.receipt.value == again.receipt.value


async def test_a_second_wait_returns_the_same_receipt(stage):
    bridge = await stage.bridge()
    handle, access = await stage.has(bridge)
    again = await stage.another_requester().serve_until_receipt(handle)

    assert access.receipt.hash == again.receipt.hash


# --- control and status -----------------------------------------------------------------------------


async def _answered(stage, handle, action, reason=Reason.CONTROL_APPLIED, **arguments):
    async def answer():
        controls = stage.network.follow(channels.CONTROL, after=await stage.network.tail(channels.CONTROL))
        await anext(controls)
        await controls.aclose()
        await stage.market.answer_control(reason=reason)
        await anyio.sleep_forever()

    return await race(partial(stage.requester.control, handle, action, **arguments), answer)


async def test_a_control_is_signed_by_the_request_key_and_answered(stage):
    handle, access = await stage.has(await stage.bridge())
    verdict = await _answered(stage, handle, ControlAction.EXTEND, extend_ms=Milliseconds(1000))
    [entry] = await stage.network.fetch(channels.CONTROL)
    control = open_signed(entry.record, LeaseControl, stage.market.domain, by=access.grant.value.request_key).value

    assert (1, 1000) == (control.sequence, control.extend_ms)
    assert 61_000 == verdict.duration_ms


async def test_controls_count_up(stage):
    handle, _ = await stage.has(await stage.bridge())
    first = await _answered(stage, handle, ControlAction.DISPUTE, note="slow")
    second = await _answered(stage, handle, ControlAction.RELEASE)

    assert [1, 2] == [first.sequence, second.sequence]


async def test_a_number_that_a_stranger_took_is_passed_over(stage):
    handle, access = await stage.has(await stage.bridge())
    grant = access.grant.value
    control = LeaseControl(grant.id, public_key(OTHER), 1, ControlAction.RELEASE, Milliseconds(0), "")
    raw = sign(control, OTHER, domain=stage.market.domain).raw
    await stage.network.append(channels.CONTROL, grant.id + channels.number(1), raw)

    assert 2 == (await _answered(stage, handle, ControlAction.RELEASE)).sequence


async def test_a_control_that_is_not_applied_raises_with_its_reason(stage):
    handle, _ = await stage.has(await stage.bridge())
    with pytest.raises(AdmissionError) as caught:
        await _answered(stage, handle, ControlAction.EXTEND, Reason.EXTENSION_REFUSED, extend_ms=Milliseconds(10**9))

    assert Reason.EXTENSION_REFUSED == caught.value.reason


async def test_there_is_nothing_to_release_before_a_grant(stage):
    handle = await stage.ask()
    with pytest.raises(NotYetError):
        await stage.requester.control(handle, ControlAction.RELEASE)


async def test_status_follows_a_request_to_its_settlement(stage):
    bridge = await stage.bridge()
    handle = await stage.ask()
    admitted = await stage.requester.status(handle)
    [grant] = (await stage.market.clear()).grants
    granted = await stage.requester.status(handle)
    await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now))
    delivered = await stage.requester.status(handle)
    log = await bridge.log(grant.value, ran_ms=30_000)
    ended = await stage.requester.status(handle)
    await stage.market.settle(grant.value, log)
    settled = await stage.requester.status(handle)

    states = [one.state for one in (admitted, granted, delivered, ended, settled)]
    assert ["admitted", "granted", "delivered", "ended", "settled"] == states
    assert settled.statement.charge > 0


async def test_status_tells_how_each_bid_fared(stage):
    cheap, dear = await stage.bridge(seed=60), await stage.bridge(seed=70, vcpu_nanos=20_000_000)
    handle, _ = await stage.ask_and_clear()
    bids = {one.provider_id: one for one in (await stage.requester.status(handle)).bids}

    assert {cheap.provider: Reason.WON, dear.provider: Reason.OUTBID} == {key: one.reason for key, one in bids.items()}
    asked = bid(dear.card.value, NEEDS)
    assert isinstance(asked, Bid)
    assert asked.rate == bids[dear.provider].rate


# --- logging in -------------------------------------------------------------------------------------


async def test_ssh_believes_the_receipts_host_key_and_nothing_else(stage):
    handle, access = await stage.has(await stage.bridge())
    argv = await stage.requester.ssh_command(handle, ["uname", "-a"])
    options = dict(part.split("=", 1) for part in argv if "=" in part)
    pin = await anyio.Path(options["UserKnownHostsFile"].strip('"')).read_text()

    assert ["ssh", "-F", "none"] == argv[:3]
    assert ["-p", "2222", "-l", "root", "--", "127.0.0.1", "uname", "-a"] == argv[-8:]
    assert "yes" == options["StrictHostKeyChecking"]
    assert "/dev/null" == options["GlobalKnownHostsFile"]
    assert "ssh-ed25519" == options["HostKeyAlgorithms"]
    assert "yes" == options["IdentitiesOnly"]
    assert f"[127.0.0.1]:2222 {access.receipt.value.host_key}\n" == pin


@pytest.mark.needs("openssh-client")
@pytest.mark.parametrize(("port", "name"), [(2222, "[127.0.0.1]:2222"), (22, "127.0.0.1")])
async def test_ssh_finds_the_pin_under_the_name_that_it_looks_up(stage, port, name):
    handle, _ = await stage.has(await stage.bridge(), port=port)
    argv = await stage.requester.ssh_command(handle)
    [pin] = [part.removeprefix("UserKnownHostsFile=").strip('"') for part in argv if "UserKnownHostsFile" in part]
    command = [shutil.which("ssh-keygen"), "-F", name, "-f", pin]
    found = await anyio.to_thread.run_sync(partial(subprocess.run, command, capture_output=True, check=False))

    assert 0 == found.returncode


@pytest.mark.needs("openssh-client")
async def test_ssh_accepts_every_option(stage):
    handle, _ = await stage.has(await stage.bridge())
    argv = await stage.requester.ssh_command(handle)
    command = [shutil.which("ssh"), "-G", *argv[1:]]
    found = await anyio.to_thread.run_sync(
        partial(subprocess.run, command, capture_output=True, text=True, check=False)
    )

    assert 0 == found.returncode, found.stderr
    for line in ("stricthostkeychecking true", "identitiesonly yes", "hostkeyalgorithms ssh-ed25519", "port 2222"):
        assert line in found.stdout


async def test_ssh_is_given_the_users_own_key_where_its_place_is_known(stage):
    bridge = await stage.bridge()
    handle, grant = await stage.ask_and_clear(identity="/home/me/my key 100%")
    await stage.serve(handle, partial(bridge.serve, stage.shuffle, grant, stage.now))

    assert 'IdentityFile="/home/me/my key 100%%"' in await stage.requester.ssh_command(handle)


@pytest.mark.parametrize("name", ['a"b', "a${b}"])
async def test_a_path_that_ssh_would_read_otherwise_is_refused(name):
    with pytest.raises(StoreError, match="another folder"):
        quoted(Path("/tmp") / name)


# --- the store --------------------------------------------------------------------------------------


async def test_everything_kept_is_for_its_owner_alone(stage):
    await stage.has(await stage.bridge())
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in stage.folder.rglob("*")}

    assert {0o600} == {mode for path, mode in modes.items() if path.is_file()}
    assert {0o700} == {mode for path, mode in modes.items() if path.is_dir()}


async def test_no_secret_shows_in_a_repr(stage):
    handle = await stage.ask()
    kept = await stage.requester._load(handle)
    text = f"{stage.requester!r} {kept!r} {kept.secrets!r}"

    for secret in (kept.secrets.signing_seed, kept.secrets.sealing_seed, kept.body.value.manifest_salt):
        assert repr(secret)[2:-1] not in text
        assert secret.hex() not in text


async def test_a_key_that_others_may_read_is_refused(stage):
    handle = await stage.ask()
    [path] = stage.folder.rglob("request.cbor")
    path.chmod(0o640)
    with pytest.raises(StoreError, match="chmod 600"):
        await stage.requester.status(handle)


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: raw.replace(b"compute-request", b"compute-requesu"), lambda _raw: b""]
)
async def test_a_damaged_request_is_told_and_not_used(stage, damage):
    handle = await stage.ask()
    [path] = stage.folder.rglob("request.cbor")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreError):
        await stage.requester.status(handle)


async def test_a_request_of_another_coalition_is_not_used_here(stage):
    handle = await stage.ask()
    elsewhere = stage.another_requester(handshake=puppet_handshake(LowestRate(), seed=bytes(32)))
    with pytest.raises(StoreError, match="coalition"):
        await elsewhere.status(handle)


async def test_a_request_is_found_by_its_first_digits(stage):
    handle = await stage.ask()

    assert handle == await find_handle(stage.requester.store, handle.id.hex()[:6])


@pytest.mark.parametrize("prefix", ["", "zz", "0" * 64])
async def test_a_prefix_that_names_none_is_told(stage, prefix):
    await stage.ask()
    with pytest.raises(StoreError):
        await find_handle(stage.requester.store, prefix)


async def test_a_prefix_that_names_two_is_told(stage):
    store = stage.requester.store
    for last in (b"\0", b"\1"):
        await store.write(RequestId(blake3(b"same").digest()[:31] + last), "request.cbor", b"x")
    with pytest.raises(StoreError, match="2 requests"):
        await find_handle(store, blake3(b"same").hexdigest()[:8])


async def test_a_piece_is_replaced_as_a_whole_and_nothing_is_left_beside_it(stage):
    store, request = stage.requester.store, RequestId(bytes(32))
    path = await store.write(request, "piece", b"one")
    await store.write(request, "piece", b"two")

    assert b"two" == await store.read(request, "piece")
    assert ["piece"] == [one.name for one in path.parent.iterdir()]


@pytest.mark.parametrize("name", ["../up", "", "Big", "a/b", ".hidden"])
async def test_a_piece_has_a_plain_name(stage, name):
    with pytest.raises(ValueError, match="piece"):
        await stage.requester.store.write(RequestId(bytes(32)), name, b"x")


async def test_a_folder_that_cannot_be_written_is_told(tmp_path, stage):
    (tmp_path / "file").write_text("in the way")
    store = FileRequesterStore(tmp_path / "file")
    with pytest.raises(StoreError, match="writable"):
        await store.write(RequestId(bytes(32)), "piece", b"x")
