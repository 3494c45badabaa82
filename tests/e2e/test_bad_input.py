"""What goes wrong on purpose: forged, replayed, foreign and substituted records meet a running bridge."""

import sqlite3
from contextlib import aclosing, closing

import anyio
import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.host.card import SupersededError
from compute_bridge.host.envelopes import seal_envelope
from compute_bridge.host.log_checks import await_log
from compute_bridge.host.receipts import open_receipt
from compute_bridge.host.requester_state import load_request
from compute_bridge.model import channels
from compute_bridge.model.ids import GrantId, RequestId, UniqueId
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour, Milliseconds, Tick
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import JournalError, ReceiptError
from compute_bridge.wire.signing import Domain, sign

pytestmark = pytest.mark.anyio

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
OTHER_SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBBB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(10**9)


async def asked(coalition, requester):
    """Return the first grant of a new request, and the request as its owner keeps it."""
    handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY)
    async with aclosing(requester.market.grants(0)) as grants:
        async for _, grant in grants:
            if grant.value.request_id == handle.id:
                kept = await load_request(requester.store, requester.market.domain, handle)
                return handle, grant, kept
    raise RuntimeError("the stream has ended")


async def winner_key(requester, grant):
    _, card = await requester.market.card(grant.value.card_hash)
    return card.value.binding.keys.sealing


async def forge_grant(coalition, bridge, *, secret=None, domain=None, **changes):
    """Append a grant to ``bridge`` that no round has cleared, and return it."""
    requester = coalition.requester("model")
    _, real, _ = await asked(coalition, requester)
    value = evolve(real.value, id=GrantId(b"\7" * 32), provider_id=bridge.parts.identity.provider, **changes)
    forged = sign(value, secret or coalition.module.secrets.signing, domain=domain or coalition.module.domain)
    await coalition.network.append(channels.GRANT_STREAM, value.id, forged.raw)
    return forged


async def settle_down(coalition, ticks=5) -> None:
    await coalition.clock.sleep_ms(2000 * ticks)


async def test_an_envelope_that_does_not_open_its_commitments_is_refused_in_words(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester = coalition.requester()
        _, grant, kept = await asked(coalition, requester)
        substituted = sign(evolve(kept.body.value, ssh_key=OTHER_SSH_KEY), kept.signing, domain=kept.domain)
        sealed = seal_envelope(substituted, grant, await winner_key(requester, grant))
        await requester.shuffle.post(grant.value.bearer_pointer, sealed)
        log = (await await_log(requester.market, grant.value)).value

        assert (Outcome.REFUSED, Reason.ENVELOPE_MISMATCH) == (log.outcome, log.reason)
        assert frozenset() == await coalition.cloud.running()


async def test_envelopes_of_strangers_and_noise_do_not_keep_the_right_one_out(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester = coalition.requester()
        handle, grant, kept = await asked(coalition, requester)
        stranger = sign(kept.body.value, Ed25519PrivateKey.generate(), domain=kept.domain)
        foreign = seal_envelope(stranger, grant, await winner_key(requester, grant))
        for noise in (b"", b"\1\1", b"\xff" * 2000, foreign, foreign[:-1]):
            await requester.shuffle.post(grant.value.bearer_pointer, noise or b"\0")
        access = await requester.serve_until_receipt(handle)

        assert grant.value.id == access.grant.value.id


async def test_a_grant_that_no_round_cleared_is_refused(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        forged = await forge_grant(coalition, bridge)
        with anyio.fail_after(60):
            await poll(coalition.clock, 1000, lambda: counted(bridge, Reason.GRANT_CLEARING))
        entry = await coalition.network.find(channels.LOGS, forged.value.id)

        assert entry is not None


async def test_a_grant_by_anybody_but_the_module_is_dropped(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        await forge_grant(coalition, bridge, secret=Ed25519PrivateKey.generate())
        await settle_down(coalition)

        assert 1 == bridge.parts.market.dropped
        assert GrantId(b"\7" * 32) not in bridge.provider.leases


async def test_a_grant_of_another_coalition_is_dropped(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        elsewhere = Domain(UniqueId(b"\5" * 32), coalition.module.domain.module)
        await forge_grant(coalition, bridge, domain=elsewhere)
        await settle_down(coalition)

        assert 1 == bridge.parts.market.dropped


async def test_an_expired_grant_is_refused(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        await forge_grant(coalition, bridge, valid_from=Tick(0), valid_to=Tick(1))
        with anyio.fail_after(60):
            await poll(coalition.clock, 1000, lambda: counted(bridge, Reason.GRANT_EXPIRED))

        assert frozenset() == await coalition.cloud.running()


async def test_a_grant_for_another_provider_is_none_of_ours(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one", seed=1) as one:
        async with coalition.bridge("two", seed=2, margin_bps=9000) as two:
            requester = coalition.requester()
            handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY)
            await requester.serve_until_receipt(handle)

            assert (1, 0) == (len(one.provider.leases), len(two.provider.leases))


async def test_a_grant_that_comes_again_is_served_once(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY)
        access = await requester.serve_until_receipt(handle)
        await coalition.network.append(channels.GRANT_STREAM, b"again", access.grant.raw)
        await settle_down(coalition)

        assert 1 == len(bridge.provider.leases)
        assert 1 == len(await coalition.cloud.running())


def copy_journal(coalition, old: str, new: str) -> None:
    """Copy a journal as who copies a whole machine does."""
    (coalition.folder / new).mkdir()
    with (
        closing(sqlite3.connect(coalition.folder / old / "journal")) as source,
        closing(sqlite3.connect(coalition.folder / new / "journal")) as copy,
    ):
        source.backup(copy)


async def run_twice(coalition) -> None:
    async with coalition.bridge("older"):
        copy_journal(coalition, "older", "newer")
        async with coalition.bridge("newer"):
            await settle_down(coalition, ticks=500)


async def test_of_two_bridges_with_one_identity_the_older_gives_way(open_coalition) -> None:
    async with open_coalition() as coalition:
        with pytest.raises(BaseExceptionGroup) as caught:
            await run_twice(coalition)
        superseded, _ = caught.value.split(SupersededError)

        assert superseded is not None


async def test_a_second_bridge_with_one_identity_and_no_journal_of_it_does_not_start(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("older"):
        with pytest.raises(JournalError, match="behind what the market holds of us"):
            async with coalition.bridge("newer"):
                pass


async def test_a_receipt_for_one_grant_opens_for_no_other(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY)
        access = await requester.serve_until_receipt(handle)
        kept = await load_request(requester.store, requester.market.domain, handle)
        value = evolve(access.grant.value, request_id=RequestId(b"\3" * 32))
        other = sign(value, coalition.module.secrets.signing, domain=kept.domain)

        with pytest.raises(ReceiptError):
            open_receipt(
                kept.progress.receipt,
                other,
                signing_key=access.winner.signing,
                secret=kept.sealing,
                sequence=0,
                domain=kept.domain,
            )


async def test_a_workload_cannot_outlive_what_was_paid_for(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one"):
        requester = coalition.requester()
        handle = await requester.submit(
            coalition.manifest(duration_ms=10_000), MAX_RATE, SSH_KEY, open_ms=Milliseconds(60_000)
        )
        access = await requester.serve_until_receipt(handle)
        await await_log(requester.market, access.grant.value)

        assert frozenset() == await coalition.cloud.running()


async def counted(bridge, reason):
    return True if bridge.provider.refused[reason] else None
