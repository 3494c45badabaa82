"""Who may ask: requests as they come in, honest and otherwise."""

import secrets

import pytest
from attrs import evolve

from compute_bridge.model import channels
from compute_bridge.model.ids import Fingerprint
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import ComputeRequest, RequestSubmission, RequestVerdict
from compute_bridge.model.ticket import AdmittedRequest
from compute_bridge.wire.sealing import seal
from compute_bridge.wire.signing import open_self_signed, public_key, sign
from compute_bridge_market.intake import submission_context

pytestmark = pytest.mark.anyio


async def test_an_admitted_request_is_republished_with_a_ticket_that_names_only_its_key(world):
    alice = world.requester("alice")
    request = await alice.ask()
    admitted = await world.find(channels.REQUESTS, request, AdmittedRequest)
    inner = open_self_signed(admitted.request, ComputeRequest, world.domain, signer=lambda one: one.request_key)

    assert inner.hash == request
    assert (admitted.ticket.subject, admitted.ticket.request_id) == (inner.value.request_key, request)
    assert admitted.ticket.issuer == world.module.key


async def test_no_public_record_names_the_account(world):
    alice = world.requester("alice")
    await world.provider("p").sell()
    await alice.ask()
    await world.tick()
    key = public_key(alice.account)
    streams = [getattr(channels, name) for name in dir(channels) if name.isupper()]
    records = [entry.record for stream in streams for entry in await world.network.fetch(stream)]
    records += [one.value for name in streams for one in await world.network.entries(name)]

    assert len(records) > 8
    assert not any(key in record or b"alice" in record for record in records)


async def test_an_unknown_account_is_refused(world):
    _, verdict = await world.requester("mallory").submit()

    assert verdict.reason == Reason.ACCOUNT_UNKNOWN
    assert await world.network.tail(channels.REQUESTS) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"currency": "EUR"}, Reason.REQUEST_MALFORMED), ({"expires_at": 1}, Reason.REQUEST_EXPIRED)],
)
async def test_a_request_that_can_never_clear_is_refused(world, changes, reason):
    _, verdict = await world.requester("alice").submit(**changes)

    assert verdict.reason == reason


async def test_an_account_may_not_have_more_requests_waiting_than_the_limit(world):
    alice, limit = world.requester("alice"), world.module.limits.open_requests
    for _ in range(limit):
        await alice.ask()
    _, verdict = await alice.submit()

    assert verdict.reason == Reason.CREDIT_LIMIT


async def test_a_request_submitted_twice_is_admitted_once(world):
    alice = world.requester("alice")
    request, _ = alice.request()
    first = await alice.submit(request)
    second = await alice.submit(request)

    assert first == second
    assert await world.network.tail(channels.REQUESTS) == 1
    assert world.market.dropped[channels.INTAKE] == 1


async def test_another_account_cannot_take_over_a_request(world, make):
    alice = world.requester("alice")
    request, _ = alice.request()
    await world.provider("p").sell()
    await alice.submit(request)
    await alice.submit(request, account=make.seed("account bob"))
    await world.tick()

    assert await world.balance(f"held/{public_key(alice.account).hex()}") > 0
    assert await world.balance(f"held/{public_key(make.seed('account bob')).hex()}") == 0


async def drop(world, sealed):
    """Send what must be dropped, then a good request; return how many were dropped."""
    await world.network.append(channels.INTAKE, secrets.token_bytes(32), sealed)
    await world.requester("bob").ask()
    return world.market.dropped[channels.INTAKE]


def flipped(sealed):
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sealed: sealed[: len(sealed) // 2],
        flipped,
        lambda sealed: sealed + bytes(20_000),
        lambda _sealed: b"",
        lambda _sealed: secrets.token_bytes(1500),
    ],
)
async def test_what_is_not_sealed_to_the_market_is_dropped_and_the_next_is_served(world, spoil):
    alice = world.requester("alice")

    assert await drop(world, spoil(alice.sealed(alice.request()[0]))) == 1


async def test_a_submission_that_its_account_did_not_sign_is_dropped(world, make):
    alice = world.requester("alice")
    submission = RequestSubmission(public_key(alice.account), alice.request()[0].raw)
    forged = sign(submission, make.seed("mallory"), domain=world.domain)

    assert await drop(world, seal(forged.raw, submission_context(world.module))) == 1


async def test_a_request_that_its_key_did_not_sign_is_dropped(world, make):
    alice = world.requester("alice")
    forged = sign(alice.request()[0].value, make.seed("mallory"), domain=world.domain)

    assert await drop(world, alice.sealed(forged)) == 1


async def test_a_request_of_another_coalition_is_dropped(world, make):
    alice = world.requester("alice")
    request, key = alice.request()
    elsewhere = sign(request.value, key, domain=make.elsewhere)

    assert await drop(world, alice.sealed(elsewhere)) == 1


async def test_a_submission_sealed_for_another_market_is_dropped(world):
    alice = world.requester("alice")
    submission = sign(
        RequestSubmission(public_key(alice.account), alice.request()[0].raw), alice.account, domain=world.domain
    )
    context = evolve(submission_context(world.module), subject=Fingerprint(bytes([5] * 32)))

    assert await drop(world, seal(submission.raw, context)) == 1


async def test_garbage_by_the_hundred_holds_nobody_up_for_ever(world):
    for _ in range(1000):
        await world.network.append(channels.INTAKE, secrets.token_bytes(32), secrets.token_bytes(64))
    request, verdict = await world.requester("alice").submit()

    assert verdict.reason == Reason.ADMITTED
    assert world.market.dropped[channels.INTAKE] == 1000
    assert await world.find(channels.REQUEST_VERDICTS, request, RequestVerdict) == verdict
