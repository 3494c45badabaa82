"""A journal that was put back as it stood earlier is refused, by each thing that the market holds of us."""

import shutil
import sqlite3
from contextlib import aclosing, closing
from pathlib import Path

import anyio
import pytest

from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.host.boots import boot_keys, known_boots
from compute_bridge.host.identity import Identity
from compute_bridge.host.journal_check import LOSS_ACCEPTED, accept_loss, find_loss, require_current
from compute_bridge.host.log_checks import await_log
from compute_bridge.host.market import Market
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction
from compute_bridge.model.units import MicrosPerHour, Milliseconds
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import JournalError
from compute_bridge.wire.signing import sign

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(10**9)
OPEN_MS = Milliseconds(600_000)


async def set_aside(journal, target: Path) -> None:
    """Keep a copy of a journal that a bridge holds, as an operator may."""
    await anyio.to_thread.run_sync(copy, journal._path, target)


def copy(path: Path, target: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as kept:
        source.backup(kept)
        kept.execute("PRAGMA journal_mode=WAL")


def put_back(copy: Path, folder: Path) -> None:
    for name in ("journal", "journal-wal", "journal-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy(copy, folder / "journal")


async def check(coalition, folder: Path):
    """Do what a boot does between its journal and its keys; return the loss."""
    market = Market(coalition.network, coalition.module.handshake)
    identity = Identity.from_root_seed(bytes([1]) * 32, market.domain)
    async with open_sqlite_journal(folder / "journal", coalition.clock) as journal:
        await journal.verify()
        boots = await known_boots(journal, identity)
        loss = await find_loss(market, journal, identity, boots)
        await require_current(market, journal, identity, boots)
    return loss


async def accept(coalition, folder: Path):
    market = Market(coalition.network, coalition.module.handshake)
    identity = Identity.from_root_seed(bytes([1]) * 32, market.domain)
    async with open_sqlite_journal(folder / "journal", coalition.clock) as journal:
        loss = await find_loss(market, journal, identity, await known_boots(journal, identity))
        await accept_loss(journal, loss)
        await journal.verify()
        return await journal.events(kind=LOSS_ACCEPTED)


async def states(bridge) -> set[str]:
    return {row.state for row in await bridge.parts.journal.lease_states()}


async def are_all(bridge, state: str):
    return True if await states(bridge) == {state} else None


async def cursor_passed(coalition, provider, sequence: int):
    cursor = await coalition.network.cursor(channels.bridge_consumer(provider), channels.GRANT_STREAM)
    return True if cursor >= sequence else None


async def test_a_journal_that_is_current_is_taken(open_coalition) -> None:
    async with open_coalition() as coalition:
        async with coalition.bridge("one"):
            pass
        loss = await check(coalition, coalition.folder / "one")

        assert loss.is_none


async def test_a_journal_from_before_the_last_boot_is_refused(open_coalition, tmp_path) -> None:
    async with open_coalition() as coalition:
        folder = coalition.folder / "one"
        async with coalition.bridge("one") as bridge:
            await set_aside(bridge.parts.journal, tmp_path / "old")
        async with coalition.bridge("one") as bridge:
            key = bridge.parts.current.keys.signing
        put_back(tmp_path / "old", folder)
        with pytest.raises(JournalError, match="behind what the market holds of us: a boot of ours") as caught:
            await check(coalition, folder)

        assert key.hex()[:12] in str(caught.value)
        assert "Put the newest copy back" in str(caught.value)
        assert "compute-bridge journal accept-loss --yes" in str(caught.value)


async def test_a_new_journal_under_an_old_root_key_is_refused(open_coalition) -> None:
    async with open_coalition() as coalition:
        async with coalition.bridge("one"):
            pass
        empty = coalition.folder / "empty"
        async with open_sqlite_journal(empty / "journal", coalition.clock, create=True):
            pass
        with pytest.raises(JournalError, match="a boot of ours, with the signing key"):
            await check(coalition, empty)


async def test_a_journal_from_before_a_grant_is_refused(open_coalition, tmp_path) -> None:
    async with open_coalition() as coalition:
        folder, requester = coalition.folder / "one", coalition.requester()
        async with coalition.bridge("one") as bridge:
            await set_aside(bridge.parts.journal, tmp_path / "old")
            handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY, open_ms=OPEN_MS)
            access = await requester.serve_until_receipt(handle)
            with anyio.fail_after(20):
                await poll(coalition.clock, 1000, lambda: cursor_passed(coalition, bridge.parts.identity.provider, 1))
        put_back(tmp_path / "old", folder)
        with pytest.raises(JournalError, match="1 of our grants, which no lease is of") as caught:
            await check(coalition, folder)

        assert access.grant.value.id.hex()[:12] in str(caught.value)
        assert "a boot of ours" not in str(caught.value)


async def test_a_grant_that_was_not_read_yet_is_none_that_was_lost(open_coalition) -> None:
    async with open_coalition() as coalition:
        requester = coalition.requester()
        async with coalition.bridge("one") as bridge:
            handle = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY, open_ms=OPEN_MS)
            await requester.serve_until_receipt(handle)
            with anyio.fail_after(20):
                await poll(coalition.clock, 1000, lambda: cursor_passed(coalition, bridge.parts.identity.provider, 1))
        await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY, open_ms=OPEN_MS)
        async with aclosing(requester.market.grants(1)) as grants:
            await anext(grants)
        loss = await check(coalition, coalition.folder / "one")

        assert loss.is_none


async def lose_a_log(coalition, target: Path):
    """Serve one lease to its end, and put the journal back as it stood while the lease was open."""
    requester = coalition.requester()
    async with coalition.bridge("one") as bridge:
        handle = await requester.submit(coalition.manifest(duration_ms=600_000), MAX_RATE, SSH_KEY, open_ms=OPEN_MS)
        access = await requester.serve_until_receipt(handle)
        await set_aside(bridge.parts.journal, target)
        await requester.control(handle, ControlAction.RELEASE)
        await await_log(requester.market, access.grant.value)
        with anyio.fail_after(20):
            await poll(coalition.clock, 1000, lambda: are_all(bridge, "settled"))
    put_back(target, coalition.folder / "one")
    return access.grant.value


async def test_a_journal_from_before_a_usage_log_is_refused(open_coalition, tmp_path) -> None:
    async with open_coalition() as coalition:
        grant = await lose_a_log(coalition, tmp_path / "old")
        with pytest.raises(JournalError, match=r"the usage log .* which is still open here") as caught:
            await check(coalition, coalition.folder / "one")

        assert grant.id.hex()[:12] in str(caught.value)


async def test_an_accepted_loss_lets_the_lease_be_settled_with_its_one_log(open_coalition, tmp_path) -> None:
    async with open_coalition() as coalition:
        grant = await lose_a_log(coalition, tmp_path / "old")
        event, *_ = await accept(coalition, coalition.folder / "one")
        await check(coalition, coalition.folder / "one")
        async with coalition.bridge("one") as again:
            with anyio.fail_after(20):
                await poll(coalition.clock, 1000, lambda: are_all(again, "settled"))
            await again.parts.journal.verify()
            owed = await again.parts.settlement.balance()
            statement = await again.parts.market.statement(grant.id)
        machines = coalition.cloud.account.machines

        assert event.kind == LOSS_ACCEPTED
        assert 1 == await coalition.network.tail(channels.LOGS)
        assert 1 == await coalition.network.tail(channels.CLAIMS)
        assert 1 == len(machines)
        assert statement.value.charge - statement.value.provider_fee == owed


async def test_an_accepted_loss_is_exactly_what_was_shown(open_coalition, tmp_path) -> None:
    async with open_coalition() as coalition:
        folder = coalition.folder / "one"
        async with coalition.bridge("one") as bridge:
            await set_aside(bridge.parts.journal, tmp_path / "old")
        async with coalition.bridge("one"):
            pass
        put_back(tmp_path / "old", folder)
        await accept(coalition, folder)
        await check(coalition, folder)
        async with coalition.bridge("one") as bridge:
            await set_aside(bridge.parts.journal, tmp_path / "older")
        async with coalition.bridge("one"):
            pass
        put_back(tmp_path / "older", folder)
        with pytest.raises(JournalError, match="a boot of ours"):
            await check(coalition, folder)


async def test_junk_in_the_market_stops_no_boot(open_coalition) -> None:
    async with open_coalition() as coalition:
        requester = coalition.requester()
        async with coalition.bridge("one", envelope_wait_s=3600) as bridge:
            await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY, open_ms=OPEN_MS)
            with anyio.fail_after(20):
                await poll(coalition.clock, 1000, lambda: are_all(bridge, "granted"))
            ((grant, *_),) = [(row.lease,) for row in await bridge.parts.journal.lease_states()]
            identity, network = bridge.parts.identity, coalition.network
            provider = identity.provider
        stranger = Identity.from_root_seed(bytes([9]) * 32, identity.domain)
        held = await network.get(channels.EPOCHS, provider)
        junk = sign(
            stranger.certify(stranger.boot_secrets(bytes(32)).keys, 7).value, stranger.root, domain=identity.domain
        )
        await network.put(channels.EPOCHS, provider, junk.raw, expect=held.version)
        await network.append(channels.LOGS, grant, b"junk" + provider)
        tail = await network.append(channels.GRANT_STREAM, b"junk", junk.raw + provider)
        await network.save_cursor(channels.bridge_consumer(provider), channels.GRANT_STREAM, tail)
        loss = await check(coalition, coalition.folder / "one")

        assert loss.is_none


async def test_a_boot_that_is_refused_has_drawn_no_keys(open_coalition, tmp_path) -> None:
    async with open_coalition() as coalition:
        folder = coalition.folder / "one"
        async with coalition.bridge("one") as bridge:
            await set_aside(bridge.parts.journal, tmp_path / "old")
        async with coalition.bridge("one"):
            pass
        put_back(tmp_path / "old", folder)
        with pytest.raises(JournalError, match="behind"):
            async with coalition.bridge("one"):
                pass
        async with open_sqlite_journal(folder / "journal", coalition.clock) as journal:
            booted = await journal.events(kind="booted")

        assert 1 == len(booted)


async def test_the_keys_of_a_boot_are_drawn_anew_and_found_again(open_coalition) -> None:
    async with open_coalition() as coalition:
        identity = Identity.from_root_seed(bytes([1]) * 32, coalition.module.domain)
        async with open_sqlite_journal(coalition.folder / "n" / "journal", coalition.clock, create=True) as journal:
            first, _ = await boot_keys(journal, identity)
            second, boots = await boot_keys(journal, identity)

            assert first.keys != second.keys
            assert list(boots) == [first.keys.signing, second.keys.signing]
            assert list(boots) == list(await known_boots(journal, identity))
