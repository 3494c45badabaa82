"""A bridge that drains: no new grants, the card says so, open leases run on, and the next start takes them back."""

import json
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from attrs import evolve

from compute_bridge.adapters.status_socket import SOCKET, serve_status
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from compute_bridge.host.log_checks import await_log
from compute_bridge.host.status import answer
from compute_bridge.host.sweep import NotServingError
from compute_bridge.model.control import ControlAction
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour, Milliseconds
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.clock import poll
from compute_bridge.testing.memory_cloud import MemoryCloud
from crashkit.boot_text import BOOT_TEXT
from crashkit.coalition import SSH_KEY, Coalition, found

pytestmark = pytest.mark.anyio

MAX_RATE = MicrosPerHour(10**9)


def told(config: Path, *arguments: str) -> int:
    return dispatch(["drain", "--config", str(config), "--json", *arguments])


async def drain(config: Path, *arguments: str) -> int:
    return await anyio.to_thread.run_sync(partial(told, config, *arguments))


async def card_sells(bridge, leases):
    card = bridge.publisher.card
    return True if card.value.max_leases == leases else None


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "bridge.toml"
    path.write_text(BOOT_TEXT.replace('"state"', f'"{tmp_path}"'))
    return path


async def test_a_drained_bridge_sells_nothing_serves_on_and_can_sell_again(open_coalition, config, capsys) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        requester = coalition.requester()
        handle = await requester.submit(coalition.manifest(duration_ms=600_000), MAX_RATE, SSH_KEY)
        access = await requester.serve_until_receipt(handle)
        async with serve_status(config.parent / SOCKET, partial(answer, bridge)):
            assert Exit.OK == await drain(config)
            with anyio.fail_after(60):
                await poll(coalition.clock, 1000, partial(card_sells, bridge, 0))
            drained = json.loads(capsys.readouterr().out)
            running = await coalition.cloud.running()
            second = await requester.submit(coalition.manifest(), MAX_RATE, SSH_KEY, open_ms=Milliseconds(30_000))
            with anyio.fail_after(60):
                await requester.control(handle, ControlAction.RELEASE)
                assert Exit.OK == await drain(config, "--wait")
            empty = json.loads(capsys.readouterr().out)
            log = (await await_log(requester.market, access.grant.value)).value
            assert Exit.OK == await drain(config, "--undo")
            selling = json.loads(capsys.readouterr().out)
            with anyio.fail_after(60):
                await poll(coalition.clock, 1000, partial(card_sells, bridge, 4))

    assert {"draining": True, "open": 1} == drained
    assert {"draining": True, "open": 0} == empty
    assert {"draining": False, "open": 0} == selling
    assert 1 == len(running)
    assert Reason.RELEASED == log.reason
    assert second != handle
    assert 1 == len(coalition.cloud.account.machines)


async def test_a_bridge_that_was_told_to_stop_is_not_talked_out_of_it(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        await bridge.drain()

        with pytest.raises(NotServingError, match="has been told to stop"):
            await answer(bridge, {"ask": "drain", "undo": True})
        assert (await answer(bridge, {"ask": "status"}))["stopping"]


async def test_a_bridge_that_stops_with_no_lease_open_leaves_no_card_that_sells(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        before = await on_sale(coalition)
        with anyio.fail_after(60):
            await bridge.drain()

        assert ([4], [0]) == (before, await on_sale(coalition))


class DrainsMeanwhile:
    """The market as a bridge sees it that is told to drain while it looks a grant's card up."""

    def __init__(self, market, drain) -> None:
        self._market = market
        self._drain = drain

    def __getattr__(self, name: str):
        return getattr(self._market, name)

    async def card(self, card_hash):
        self._drain()
        return await self._market.card(card_hash)


async def test_a_grant_that_was_cleared_before_the_card_said_so_is_refused(open_coalition) -> None:
    drains: list[Any] = []

    def wrap(parts):
        return evolve(parts, market=DrainsMeanwhile(parts.market, lambda: drains[0]()))

    async with open_coalition() as coalition, coalition.bridge("one", wrap=wrap) as bridge:
        drains.append(bridge.stop_selling)
        market = coalition.requester().market
        await coalition.requester().submit(coalition.manifest(), MAX_RATE, SSH_KEY, open_ms=Milliseconds(600_000))
        async with aclosing(market.grants(0)) as grants:
            _, grant = await anext(grants)
        with anyio.fail_after(60):
            log = (await await_log(market, grant.value)).value

    assert (Outcome.REFUSED, Reason.DRAINING) == (log.outcome, log.reason)
    assert {} == coalition.cloud.account.machines


async def on_sale(coalition) -> list[int]:
    return [card.value.max_leases for _, card in await coalition.requester().market.roster()]


async def test_a_bridge_that_stops_does_not_wait_for_a_market_that_is_away(tmp_path: Path) -> None:
    coalition = await found(tmp_path, MemoryCloud(), made=Coalition)
    leave, gone = anyio.Event(), anyio.Event()

    async def market(*, task_status) -> None:
        async with coalition.market():
            task_status.started()
            await leave.wait()
        gone.set()

    async with anyio.create_task_group() as tasks:
        await tasks.start(market)
        async with coalition.bridge("one") as bridge:
            leave.set()
            await gone.wait()
            with anyio.fail_after(60):
                await bridge.drain(card_s=0.1)

            assert [4] == await on_sale(coalition)


def test_undoing_has_nothing_to_wait_for(config, capsys) -> None:
    assert Exit.USAGE == told(config, "--undo", "--wait")
    assert "leave out --wait" in capsys.readouterr().err


def test_where_no_bridge_runs_the_drain_says_so(config, capsys) -> None:
    assert Exit.UNREACHABLE == told(config)
    assert "start it with compute-bridge run" in capsys.readouterr().err
