"""A hostile requester, a rival, and a stranger who writes to the network, against bridge, market and requester."""

import base64
import logging
from contextlib import aclosing
from functools import partial
from secrets import token_bytes

import anyio
import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.host.admission import Load, NotAdmittedError, check_commitment
from compute_bridge.host.envelopes import seal_envelope
from compute_bridge.host.lease_state import ProvisionIntended
from compute_bridge.host.log_checks import await_log
from compute_bridge.host.receipts import receipt_context
from compute_bridge.host.requester_state import NotYetError, load_request, open_reply
from compute_bridge.host.requester_status import latest_grant
from compute_bridge.host.requester_submit import OneTimeKeys, RequestTerms, make_body, make_request, seal_submission
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction
from compute_bridge.model.ids import RequestId, SealingKey
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import Requirements, Resources
from compute_bridge.model.units import MicrosPerHour, Milliseconds, Tick
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.backend import GuestAccess, KeyRotation
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import MarketError, ReceiptError
from compute_bridge.ports.strategy import Settlement
from compute_bridge.wire.keys import derive_seed, ssh_private_file
from compute_bridge.wire.sealing import seal
from compute_bridge.wire.signing import public_key, sign
from compute_bridge_market.book import open_book
from compute_bridge_market.ledger import reserved
from crashkit.coalition import serve_or_not

pytestmark = pytest.mark.anyio

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(10**9)
LONG = Milliseconds(600_000)


async def granted(coalition, requester, handle):
    with anyio.fail_after(60):
        return await poll(coalition.clock, 100, lambda: latest_grant(requester.market, handle.id))


async def served(coalition, requester):
    handle = await requester.submit(coalition.manifest(duration_ms=LONG), MAX_RATE, SSH_KEY, open_ms=LONG)
    return handle, await requester.serve_until_receipt(handle)


async def stated(coalition, requester, grant):
    async def look():
        try:
            return (await requester.market.statement(grant)).value
        except MarketError:
            return None

    with anyio.fail_after(60):
        return await poll(coalition.clock, 500, look)


async def logged(requester, grant):
    with anyio.fail_after(60):
        return (await await_log(requester.market, grant)).value


async def idle(bridge) -> None:
    with anyio.fail_after(60):
        await bridge.provider.idle()


async def is_paid(bridge, owed):
    return True if await bridge.parts.settlement.balance() == owed else None


# --- a hostile requester ------------------------------------------------------------------------------


async def ask_with(coalition, requester, **keys):
    """Ask with an envelope that opens its commitments and carries keys of the asker's liking; return the grant."""
    terms = RequestTerms(manifest=coalition.manifest(), max_rate=MAX_RATE)
    drawn, domain = OneTimeKeys.drawn(token_bytes), requester.market.domain
    body = evolve(make_body(terms, drawn), **keys)
    expires_at = Tick(requester.market.now + 1000)
    request = make_request(terms, body, pointer=drawn.pointer, currency="EUR", expires_at=expires_at)
    signed = sign(request, drawn.signing, domain=domain)
    submission = seal_submission(signed, requester.account, requester.market)
    await coalition.network.append(channels.INTAKE, b"hostile", submission)
    with anyio.fail_after(60):
        grant = await poll(coalition.clock, 100, lambda: latest_grant(requester.market, RequestId(signed.hash)))
    _, card = await requester.market.card(grant.value.card_hash)
    envelope = seal_envelope(sign(body, drawn.signing, domain=domain), grant, card.value.binding.keys.sealing)
    await requester.shuffle.post(grant.value.bearer_pointer, envelope)
    return grant.value


@pytest.mark.parametrize(
    "keys",
    [
        {"ssh_key": "ssh-ed25519 not-base64!"},
        {"ssh_key": "ssh-dss AAAAB3NzaC1kc3M="},
        {"sealing_key": SealingKey(b"\1" + bytes(32))},
        {"sealing_key": SealingKey(b"\x63" + bytes(32))},
    ],
    ids=["ssh-key-noise", "ssh-key-type", "weak-sealing-key", "unknown-suite"],
)
async def test_an_envelope_with_a_key_that_cannot_be_used_is_refused_before_a_machine_is_made(
    open_coalition, keys
) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        requester = coalition.requester()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(requester.market.follow_almanac)
            await requester.market.tick()
            grant = await ask_with(coalition, requester, **keys)
            log = await logged(requester, grant)
            tasks.cancel_scope.cancel()
        await idle(bridge)

        assert (Outcome.REFUSED, Reason.ENVELOPE_MISMATCH) == (log.outcome, log.reason)
        assert 0 == len(coalition.cloud.account.machines)


async def test_a_release_before_the_machine_runs_ends_it_as_soon_as_it_does(open_coalition) -> None:
    async with open_coalition() as coalition, anyio.create_task_group() as tasks:
        requester = coalition.requester()
        held = await coalition.cloud.hold_next_create()
        async with coalition.bridge("one"):
            handle = await requester.submit(coalition.manifest(duration_ms=LONG), MAX_RATE, SSH_KEY, open_ms=LONG)
            tasks.start_soon(serve_or_not, requester, handle)
            await held.reached.wait()
            await requester.control(handle, ControlAction.RELEASE)
            await coalition.clock.sleep_ms(2000)
            held.release()
            log = await logged(requester, (await granted(coalition, requester, handle)).value)
        tasks.cancel_scope.cancel()

        assert Reason.RELEASED == log.reason


class LateGrants(MemoryNetwork):
    """A client that is told of grants only when it is let."""

    def __init__(self, network) -> None:
        super().__init__()
        vars(self).update(vars(network))
        self.go = anyio.Event()

    async def follow(self, stream, *, after=0):
        if stream == channels.GRANT_STREAM:
            await self.go.wait()
        async with aclosing(super().follow(stream, after=after)) as entries:
            async for entry in entries:
                yield entry


async def test_a_release_that_is_read_before_its_grant_is_not_lost(open_coalition) -> None:
    async with open_coalition() as coalition, anyio.create_task_group() as tasks:
        requester = coalition.requester()
        late = evolve(coalition, network=LateGrants(coalition.network))
        async with late.bridge("one") as bridge:
            handle = await requester.submit(coalition.manifest(duration_ms=LONG), MAX_RATE, SSH_KEY, open_ms=LONG)
            tasks.start_soon(requester.serve_until_receipt, handle)
            grant = (await granted(coalition, requester, handle)).value
            with anyio.fail_after(60):
                await poll(coalition.clock, 500, partial(released, requester, handle))
                await poll(coalition.clock, 500, partial(has_read_controls, bridge, coalition))
            late.network.go.set()
            log = await logged(requester, grant)
        tasks.cancel_scope.cancel()

        assert Reason.RELEASED == log.reason


async def released(requester, handle):
    try:
        return await requester.control(handle, ControlAction.RELEASE)
    except NotYetError:
        return None


async def has_read_controls(bridge, coalition):
    consumer = f"bridge/{bridge.parts.identity.provider.hex()}"
    return await coalition.network.cursor(consumer, channels.CONTROL_VERDICTS) or None


# --- a race of the market with our own book ---------------------------------------------------------------


class LateSettlement(Settlement):
    """A settlement whose book is slow: the market's statement is there before our claim."""

    def __init__(self, settlement, coalition, bridge) -> None:
        self._settlement = settlement
        self._coalition = coalition
        self._bridge = bridge

    async def settle(self, claim):
        await poll(self._coalition.clock, 500, self._was_read)
        return await self._settlement.settle(claim)

    async def reconcile(self, statement):
        return await self._settlement.reconcile(statement)

    async def balance(self):
        return await self._settlement.balance()

    async def _was_read(self):
        consumer = f"bridge/{self._bridge().parts.identity.provider.hex()}"
        return await self._coalition.network.cursor(consumer, channels.SETTLEMENTS) or None


async def test_a_statement_that_comes_before_our_claim_is_reconciled_all_the_same(open_coalition) -> None:
    async with open_coalition() as coalition:
        requester, bridges = coalition.requester(), coalition.bridges

        def late(parts):
            return evolve(parts, settlement=LateSettlement(parts.settlement, coalition, lambda: bridges[0]))

        async with coalition.bridge("one", wrap=late) as bridge:
            handle, access = await served(coalition, requester)
            await requester.control(handle, ControlAction.RELEASE)
            statement = await stated(coalition, requester, access.grant.value.id)
            owed = statement.charge - statement.provider_fee
            with anyio.fail_after(60):
                await poll(coalition.clock, 500, lambda: is_paid(bridge, owed))

            assert 0 < owed


# --- a rival, or a stranger, who writes to the network -----------------------------------------------------


async def test_a_log_whose_id_somebody_took_is_logged_and_settled_all_the_same(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        requester = coalition.requester()
        handle, access = await served(coalition, requester)
        await coalition.network.append(channels.LOGS, access.grant.value.id, b"junk")
        await requester.control(handle, ControlAction.RELEASE)
        statement = await stated(coalition, requester, access.grant.value.id)
        await idle(bridge)

        assert 0 < statement.charge


async def test_a_tick_put_again_under_another_id_neither_turns_the_market_back_nor_answers_for_it(
    open_coalition,
) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        network, market = coalition.network, bridge.parts.market
        first = await network.find(channels.ALMANAC, channels.number(1))
        await coalition.clock.sleep_ms(2000 * 100)
        await network.append(channels.ALMANAC, channels.number(10**6), first.record)
        before = market.now
        await coalition.clock.sleep_ms(2000 * 20)

        assert before + 10 <= market.now
        with pytest.raises(MarketError, match="another record"):
            await market.find_tick(Tick(10**6))


async def test_a_round_put_again_under_another_id_stops_no_round(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester, network = coalition.requester(), coalition.network
        for _ in range(2):
            await served(coalition, requester)
        first = await network.find(channels.CLEARING, channels.number(1))
        await network.append(channels.CLEARING, b"again", first.record)
        with anyio.fail_after(60):
            await served(coalition, requester)


async def test_a_statement_on_one_grant_put_under_another_settles_neither_wrongly(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        requester, network = coalition.requester(), coalition.network
        handle, first = await served(coalition, requester)
        await requester.control(handle, ControlAction.RELEASE)
        await stated(coalition, requester, first.grant.value.id)
        old = await network.find(channels.SETTLEMENTS, first.grant.value.id + channels.number(0))
        handle, second = await served(coalition, requester)
        await network.append(channels.SETTLEMENTS, second.grant.value.id + channels.number(0), old.record)
        await requester.control(handle, ControlAction.RELEASE)
        await idle(bridge)
        with anyio.fail_after(60):
            await served(coalition, requester)
        async with open_book(coalition.folder / "market.db", coalition.module.domain.coalition) as book:
            held = await book.run(lambda db: reserved(db, second.grant.value.id, public_key(requester.account)))

        assert 0 == held
        with pytest.raises(MarketError, match="another record"):
            await requester.market.statement(second.grant.value.id)


async def test_an_answer_to_one_request_put_under_another_admits_nothing(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester, network = coalition.requester(), coalition.network
        await served(coalition, requester)
        (told,) = await network.fetch(channels.REQUEST_VERDICTS)
        stranger = evolve(coalition.requester("stranger"), account=Ed25519PrivateKey.generate())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stranger.market.follow_almanac)
            terms = RequestTerms(manifest=coalition.manifest(), max_rate=MAX_RATE)
            kept = await stranger._submitter.keep(terms)
            await network.append(channels.REQUEST_VERDICTS, kept.id, told.record)
            await network.append(channels.INTAKE, b"stranger", kept.secrets.submission)
            await coalition.clock.sleep_ms(2000 * 20)
            tasks.cancel_scope.cancel()

        assert 1 == await network.tail(channels.REQUESTS)


async def test_a_receipt_by_any_key_but_the_winners_opens_for_nobody(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester = coalition.requester()
        handle, access = await served(coalition, requester)
        kept = await load_request(requester.store, requester.market.domain, handle)
    rival, winner = Ed25519PrivateKey.generate(), access.winner.signing
    context = receipt_context(access.grant, 0, winner, kept.sealing.public)
    for named in (public_key(rival), winner):
        forged = evolve(access.receipt.value, signing_key=named, host="192.0.2.66")
        sealed = seal(sign(forged, rival, domain=kept.domain).raw, context)
        with pytest.raises(ReceiptError):
            open_reply(kept, access.grant, sealed)


# --- a market that clears what our card never offered ---------------------------------------------------


BIGGER, LONGER = Resources(17_000, 1024), Milliseconds(121_000)
FULL_BAND = Load(4, {"standard": 4})


@pytest.mark.parametrize(
    ("changes", "load", "reason"),
    [
        ({"requirements": Requirements(BIGGER, Milliseconds(120_000))}, Load(0, {}), Reason.OUT_OF_BAND),
        ({"band": "unheard-of"}, Load(0, {}), Reason.OUT_OF_BAND),
        ({"rate": MicrosPerHour(1)}, Load(0, {}), Reason.RATE_MISMATCH),
        ({"currency": "USD"}, Load(0, {}), Reason.RATE_MISMATCH),
        ({"duration_ms": LONGER}, Load(0, {}), Reason.GRANT_MALFORMED),
        ({}, Load(8, {}), Reason.CONCURRENCY_CAP),
        ({}, FULL_BAND, Reason.CONCURRENCY_CAP),
    ],
    ids=["too-big-for-the-band", "no-such-band", "other-rate", "other-currency", "longer", "all-leases", "band-slots"],
)
async def test_a_card_is_held_to_its_bands_rates_and_caps_whatever_the_market_cleared(
    open_coalition, changes, load, reason
) -> None:
    async with open_coalition() as coalition, coalition.bridge("one", max_leases=8):
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY)
        grant = (await granted(coalition, requester, handle)).value
        _, card = await requester.market.card(grant.card_hash)
    check_commitment(card.value, grant, Load(0, {}))

    with pytest.raises(NotAdmittedError) as caught:
        check_commitment(card.value, evolve(grant, **changes), load)

    assert reason == caught.value.reason


# --- a backend that will not answer --------------------------------------------------------------------


async def test_a_machine_is_terminated_again_until_it_is_gone(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        requester = coalition.requester()
        handle, access = await served(coalition, requester)
        await coalition.cloud.go_down()
        await requester.control(handle, ControlAction.RELEASE)
        await coalition.clock.sleep_ms(20_000)
        before = await coalition.network.find(channels.LOGS, access.grant.value.id)
        await coalition.cloud.come_back()
        await logged(requester, access.grant.value)
        await idle(bridge)

        assert before is None
        assert frozenset() == await coalition.cloud.running()


# --- secrets -----------------------------------------------------------------------------------------------


async def test_no_secret_is_in_any_log_line_journal_or_repr(open_coalition, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(duration_ms=LONG), MAX_RATE, open_ms=LONG)
        access = await requester.serve_until_receipt(handle)
        kept = await load_request(requester.store, requester.market.domain, handle)
        (lease,) = bridge.provider.leases.values()
        intended = lease.facts.require(ProvisionIntended)
        shown = repr((bridge, requester, kept, access, lease, coalition.module))
        await requester.control(handle, ControlAction.RELEASE)
        await logged(requester, access.grant.value)
        await idle(bridge)
        events = await bridge.parts.journal.events()
        blobs = [await bridge.parts.journal.blob(event.sequence) or b"" for event in events]
    parts = bridge.parts
    host_seed = derive_seed(parts.identity.secret, "host-key", intended.token)
    user_seed = derive_seed(parts.identity.secret, "user-key", intended.token)
    next_seed = derive_seed(parts.identity.secret, "rotated-host-key", intended.token)
    login_seed = derive_seed(parts.identity.secret, "rotation-login", intended.token)
    seeds = {
        "root": parts.identity.root.private_bytes_raw(),
        "bridge secret": parts.identity.secret,
        "boot signing": parts.current.signing.private_bytes_raw(),
        "boot sealing": derive_seed(parts.identity.secret, "boot-sealing", parts.current.nonce),
        "host key": host_seed,
        "user key": user_seed,
        "next host key": next_seed,
        "login of the rotation": login_seed,
        "request key": kept.secrets.signing_seed,
        "receipt key": kept.secrets.sealing_seed,
        "manifest salt": kept.body.value.manifest_salt,
        "account": requester.account.private_bytes_raw(),
        "module": coalition.module.secrets.signing.private_bytes_raw(),
    }
    text = shown + "\n".join(f"{one.getMessage()} {one.args!r} {one.exc_text}" for one in caplog.records)
    stored = b"".join([event.body for event in events] + blobs)
    for what, seed in seeds.items():
        for spelling in (seed.hex(), repr(seed), base64.b64encode(seed).decode()):
            assert spelling not in text, what
        assert seed not in stored, what
    assert "OPENSSH PRIVATE KEY" not in text
    assert b"OPENSSH PRIVATE KEY" not in stored
    for seed in (host_seed, user_seed, next_seed, login_seed):
        assert ssh_private_file(seed).splitlines()[2] not in text


async def test_the_private_host_key_of_an_order_is_in_no_repr() -> None:
    rotation = KeyRotation(SSH_KEY, "the private half", SSH_KEY, "the private half")
    access = GuestAccess("root", SSH_KEY, SSH_KEY, "the private half", rotation)

    assert "the private half" not in repr(access)
