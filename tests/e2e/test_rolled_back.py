"""A journal that was put back as it stood earlier is refused, by each thing that the market holds of us."""

import shutil
import sqlite3
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.adapters.memory_network import MemoryNetwork
from compute_bridge.adapters.sqlite_journal import open_sqlite_journal
from compute_bridge.host.boots import boot_keys, known_boots
from compute_bridge.host.identity import Identity
from compute_bridge.host.journal_check import LOSS_ACCEPTED, accept_loss, find_loss, require_current
from compute_bridge.host.log_checks import await_log
from compute_bridge.host.market import Market
from compute_bridge.model import channels
from compute_bridge.model.card import EpochClaim
from compute_bridge.model.control import ControlAction
from compute_bridge.model.ids import GrantId
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour, Milliseconds, UtcMs
from compute_bridge.model.usage import ComputeLog, Outcome, UsageMetrics
from compute_bridge.ports.clock import poll
from compute_bridge.ports.errors import JournalError, NetworkError
from compute_bridge.wire.signing import public_key, sign

pytestmark = pytest.mark.anyio

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
            with anyio.fail_after(60):
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
            with anyio.fail_after(60):
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
        with anyio.fail_after(60):
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
            with anyio.fail_after(60):
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


@asynccontextmanager
async def an_open_lease(coalition):
    """A bridge with one lease that waits for its envelope."""
    requester = coalition.requester()
    async with coalition.bridge("one", envelope_wait_s=3600) as bridge:
        await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY, open_ms=OPEN_MS)
        with anyio.fail_after(60):
            await poll(coalition.clock, 1000, lambda: are_all(bridge, "granted"))
        async with aclosing(requester.market.grants(0)) as grants:
            _, grant = await anext(grants)
        with anyio.fail_after(60):
            await poll(coalition.clock, 1000, lambda: cursor_passed(coalition, bridge.parts.identity.provider, 1))
        yield bridge, grant


def log_of(grant, provider, epoch: int) -> ComputeLog:
    no = UtcMs(0)
    usage = UsageMetrics()
    return ComputeLog(
        grant, provider, epoch, 0, Outcome.REFUSED, Reason.RETIRED, no, no, Milliseconds(0), usage, b"", True
    )


async def test_what_a_stranger_signs_in_our_name_stops_no_boot(open_coalition) -> None:
    async with open_coalition() as coalition:
        network = coalition.network
        async with an_open_lease(coalition) as (bridge, grant):
            identity = bridge.parts.identity
        provider, domain = identity.provider, identity.domain
        stranger = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
        for root_key in (public_key(stranger), identity.root_key):
            claim = sign(EpochClaim(provider, root_key, 7, public_key(stranger)), stranger, domain=domain)
            held = await network.get(channels.EPOCHS, provider)
            await network.put(channels.EPOCHS, provider, claim.raw, expect=held.version)
        forged_log = sign(log_of(grant.value.id, provider, 7), stranger, domain=domain)
        await network.append(channels.LOGS, grant.value.id, forged_log.raw)
        forged = sign(evolve(grant.value, id=GrantId(b"\x08" * 32)), stranger, domain=domain)
        tail = await network.append(channels.GRANT_STREAM, forged.value.id, forged.raw)
        await network.save_cursor(channels.bridge_consumer(provider), channels.GRANT_STREAM, tail)
        loss = await check(coalition, coalition.folder / "one")

        assert loss.is_none


async def test_our_own_log_of_another_lease_says_nothing_of_this_one(open_coalition) -> None:
    async with open_coalition() as coalition:
        async with an_open_lease(coalition) as (bridge, grant):
            identity, current = bridge.parts.identity, bridge.parts.current
        other = sign(log_of(GrantId(b"\x08" * 32), identity.provider, 1), current.signing, domain=identity.domain)
        await coalition.network.append(channels.LOGS, grant.value.id, other.raw)
        loss = await check(coalition, coalition.folder / "one")

        assert loss.is_none


class SilentNetwork(MemoryNetwork):
    """Another client of a network in memory, that gets no answer about epochs."""

    def __init__(self, network: MemoryNetwork) -> None:
        super().__init__()
        vars(self).update(vars(network))

    async def get(self, collection: str, key: bytes):
        raise NetworkError("nobody answers")


async def test_a_market_that_cannot_be_asked_is_not_taken_for_one_that_holds_nothing(open_coalition) -> None:
    async with open_coalition() as coalition:
        async with coalition.bridge("one"):
            pass
        with pytest.raises(NetworkError, match="nobody answers"):
            await check(evolve(coalition, network=SilentNetwork(coalition.network)), coalition.folder / "one")


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
