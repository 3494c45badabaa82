"""The served market, a process of its own, killed again and again while requests come in."""

import json
import os
import signal
import sys
from typing import Any

import anyio
import pytest
from attrs import define
from cryptography.hazmat.primitives.serialization import Encoding

from compute_bridge.adapters.clock import SystemClock
from compute_bridge.adapters.software_pki import DevelopmentRoot
from compute_bridge.adapters.software_quotes import SoftwareAttester
from compute_bridge.adapters.sqlite_network import open_sqlite_network
from compute_bridge.cli.context import make_command_context
from compute_bridge.model import channels
from compute_bridge.model.reason import Reason
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.ports.clock import poll
from compute_bridge.wire.signing import public_key, sign
from compute_bridge_market.command import market
from compute_bridge_market.opening import open_file

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

REQUESTS = 24
LIVES_MS = (30, 70, 150, 230, 310, 400, 50, 110)
"""How long each process serves."""
LOOK_MS = 20


class Elsewhere:
    """Stands for the market in this process: it runs in another."""

    async def turn(self):
        return False


@pytest.fixture
def founded(tmp_path, make):
    """A founded market that one account may ask, with the development root that it accepts."""
    now_s = SystemClock().utc_ms() // 1000
    root = DevelopmentRoot.generate("kill-root", now_s=now_s)
    (tmp_path / "root.der").write_bytes(root.certificate.public_bytes(Encoding.DER))
    key = public_key(make.seed("account alice")).hex()
    terms = ["--cadence-ms", "40", "--account", "alice", key, str(10**12)]
    anchor = ["--development-root", "kill-root", str(tmp_path / "root.der")]
    assert market(make_command_context(["init", str(tmp_path / "market"), *terms, *anchor])) == 0
    path = tmp_path / "market" / "market.toml"
    return open_file(make_command_context([]), path), SoftwareAttester(root, now_s=now_s)


@pytest.fixture
async def world(founded, make):
    """The outside of that market, and its network."""
    opened, attester = founded
    folder = opened.path.parent
    async with open_sqlite_network(folder / "network.db") as network:
        yield make.World(opened.module, attester, network, SystemClock(), folder, market=Elsewhere())


@define
class Process:
    """``market serve`` in a process of its own."""

    world: Any
    pid: int = 0

    async def live(self, ms):
        """Serve for so long after the first tick, then die of SIGKILL; for ever, until cancelled, if ``ms`` is None."""
        config = str(self.world.folder / "market.toml")
        command = [
            sys.executable,
            "-m",
            "compute_bridge",
            "market",
            "serve",
            "--config",
            config,
            "--log-level",
            "error",
        ]
        process = await anyio.open_process(command, stderr=None)
        try:
            assert process.stdout is not None
            assert b"serving" in await process.stdout.receive()
            with anyio.move_on_after(None if ms is None else ms / 1000):
                await process.wait()
                raise AssertionError(f"the market ended by itself with {process.returncode}")
        finally:
            with anyio.CancelScope(shield=True):
                os.kill(process.pid, signal.SIGKILL)
                await process.aclose()


async def wait_for(look):
    """Return what ``look`` finds, looking until it does."""
    return await poll(SystemClock(), LOOK_MS, look)


async def sell(world):
    """Sell as a bridge does: a card, then a log for every grant."""
    provider = world.provider("p")
    await provider.claim()
    await wait_for(lambda: first_tick(world))
    signed = sign(await provider.card(), provider.boot, domain=world.domain)
    await world.network.append(channels.CARD_SUBMISSIONS, signed.hash, signed.raw)
    told: set[bytes] = set()
    while len(told) < REQUESTS:
        for grant in await world.grants():
            if grant.id not in told:
                told.add(grant.id)
                await world.network.append(channels.LOGS, grant.id, provider.log(grant).raw)
        await anyio.sleep(LOOK_MS / 1000)


async def first_tick(world):
    return await world.latest_tick() if await world.network.tail(channels.ALMANAC) else None


async def ask(world):
    """Ask as a requester does, every so often."""
    alice = world.requester("alice")
    for _ in range(REQUESTS):
        request, _ = alice.request(expires_at=10**6)
        await world.network.append(channels.INTAKE, request.hash, alice.sealed(request))
        await anyio.sleep(0.2)


async def all_settled(world):
    statements = await world.all(channels.SETTLEMENTS, SettlementStatement)
    return statements if len(statements) >= REQUESTS else None


def read_ledger(folder, capsys):
    capsys.readouterr()
    assert market(make_command_context(["ledger", "--config", str(folder / "market.toml"), "--json"])) == 0
    return json.loads(capsys.readouterr().out)


async def test_a_market_that_is_killed_again_and_again_serves_each_request_once(world, capsys):
    process = Process(world)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sell, world)
        tasks.start_soon(ask, world)
        for life in LIVES_MS:
            await process.live(life)
        tasks.start_soon(process.live, None)
        statements = await wait_for(lambda: all_settled(world))
        tasks.cancel_scope.cancel()
    books = await anyio.to_thread.run_sync(read_ledger, world.folder, capsys)
    alice = public_key(world.requester("alice").account).hex()
    grants = await world.grants()

    assert [statement.value.reason for statement in statements] == [Reason.CHARGED] * REQUESTS
    assert len(grants) == len({grant.request_id for grant in grants}) == REQUESTS
    assert (books["total"], books["balances"][f"held/{alice}"]) == (0, 0)
    assert books["balances"][f"owed-by/{alice}"] == 1000 * REQUESTS
