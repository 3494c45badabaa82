"""Reconciliation in a whole coalition: a stray is reaped, a lost machine ends its lease, an operator sees why."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from compute_bridge.adapters.status_socket import SOCKET, serve_status
from compute_bridge.cli.exits import Exit
from compute_bridge.cli.main import dispatch
from compute_bridge.host.bridge import Bridge
from compute_bridge.host.explain import explain
from compute_bridge.host.log_checks import await_log
from compute_bridge.host.status import answer, status
from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.backend import InstanceExit
from compute_bridge.ports.clock import poll
from compute_bridge.testing.memory import MemoryBackend, MemoryConfig
from compute_bridge.testing.memory_account import connect
from compute_bridge.testing.memory_cloud import MemoryCloud
from crashkit.coalition import SSH_KEY, Coalition, found, late_machine

pytestmark = pytest.mark.anyio

MAX_RATE = MicrosPerHour(10**9)
FILE = """\
[bridge]
name = "one"
state_dir = "one"
root_key = "file:root.key"
max_leases = 4
[coalition]
handshake = "beta.handshake"
fingerprint = "{}"
[network]
kind = "memory"
[attestation]
source = "tsm"
[rate]
policy = "fixed"
[routing]
policy = "first-fit"
[settlement]
kind = "ledger"
[[band]]
name = "small"
floor = {{ cpu_millis = 100, mem_mib = 64 }}
ceiling = {{ cpu_millis = 4000, mem_mib = 8192 }}
slots = 2
[[backend]]
name = "memory"
kind = "baremetal"
""".format("00" * 32)


async def leased(coalition, **changes):
    """Return a requester, its handle and its access to a machine that runs."""
    requester = coalition.requester()
    handle = await requester.submit(coalition.manifest(**changes), MAX_RATE, SSH_KEY)
    return requester, handle, await requester.serve_until_receipt(handle)


async def settled(coalition, requester, handle, access, bridge):
    """End the lease, and return when the market has settled it."""
    await requester.control(handle, ControlAction.RELEASE)
    await await_log(requester.market, access.grant.value)
    key = access.grant.value.id + channels.number(0)
    with anyio.fail_after(60):
        await poll(coalition.clock, 1000, lambda: coalition.network.find(channels.SETTLEMENTS, key))
        await bridge.provider.idle()


async def gone(coalition, instance):
    return True if instance not in await coalition.cloud.running() else None


async def test_a_machine_that_a_settled_lease_left_behind_is_reaped_and_told(open_coalition) -> None:
    async with (
        open_coalition() as coalition,
        coalition.bridge("one", intent_window_s=20, sweep_every_s=5) as bridge,
    ):
        requester, handle, access = await leased(coalition)
        await settled(coalition, requester, handle, access, bridge)
        stray = await late_machine(coalition.cloud, bridge, access.grant)
        with anyio.fail_after(60):
            await poll(coalition.clock, 1000, lambda: gone(coalition, stray.id))
            await poll(coalition.clock, 1000, lambda: reaped(bridge))
        parts, prefix = bridge.parts, access.grant.value.id.hex()[:12]
        key = parts.market.config.signing_key
        [story] = await explain(parts.journal, prefix, domain=parts.market.domain, module_key=key)

        assert ["reapable", "reaped"] == [line.reason for line in story.lines][-2:]
        assert "settled" == story.state
        assert 1 == (await status(bridge))["fleet"]["sweep"]["reaped"]


async def reaped(bridge):
    return bridge.reconciler.reaped or None


async def test_a_stray_of_a_lease_that_runs_is_told_and_left(open_coalition) -> None:
    async with (
        open_coalition() as coalition,
        coalition.bridge("one", intent_window_s=1, sweep_every_s=1) as bridge,
    ):
        _, _, access = await leased(coalition, duration_ms=3_600_000)
        stray = await late_machine(coalition.cloud, bridge, access.grant)
        await coalition.clock.sleep_ms(60_000)

        assert [Reason.NOT_REAPED_GRANT_OPEN] == [one.reason for one in bridge.findings.strays]
        assert stray.id in await coalition.cloud.running()
        assert 1 == len(bridge.provider.leases)


class BlindBackend(MemoryBackend):
    """A backend whose watch never sees an end."""

    async def watch_until_exit(self, instance) -> InstanceExit:
        await anyio.sleep_forever()
        raise AssertionError("for ever has ended")


@asynccontextmanager
async def open_blind(context, config: MemoryConfig) -> AsyncIterator[BlindBackend]:
    yield BlindBackend(context, connect(config.endpoint, context.read_secret(config.api_key)))


async def test_a_machine_whose_end_no_watch_saw_ends_its_lease_as_lost(tmp_path: Path) -> None:
    coalition = await found(tmp_path, MemoryCloud(open_blind), made=Coalition)
    async with coalition.market(), coalition.bridge("one", sweep_every_s=5) as bridge:
        requester, _, access = await leased(coalition, duration_ms=3_600_000)
        for machine in await coalition.cloud.running():
            await coalition.cloud.kill(machine)
        log = (await await_log(requester.market, access.grant.value)).value

        assert (Outcome.SERVED, Reason.LOST) == (log.outcome, log.reason)
        assert log.billable_ms < 600_000
        assert 1 == bridge.reconciler.lost


@asynccontextmanager
async def commanded(coalition: Coalition, **settings) -> AsyncIterator[Bridge]:
    """Run a bridge with its control socket, in the folder that holds its boot file."""
    (coalition.folder / "bridge.toml").write_text(FILE)
    async with AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(coalition.bridge("one", **settings))
        await stack.enter_async_context(serve_status(coalition.folder / "one" / SOCKET, partial(answer, bridge)))
        yield bridge


async def command(*words: str) -> int:
    return await anyio.to_thread.run_sync(dispatch, list(words))


async def test_the_operator_sees_the_plan_and_acts_with_a_word(
    open_coalition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_coalition() as coalition:
        monkeypatch.chdir(coalition.folder)
        # The bridge's own sweeps are an hour apart, so it is the command that acts.
        async with commanded(coalition, intent_window_s=20, sweep_every_s=3600) as bridge:
            requester, handle, access = await leased(coalition)
            await settled(coalition, requester, handle, access, bridge)
            stray = await late_machine(coalition.cloud, bridge, access.grant)
            young = await command("sweep", "--yes", "--json")
            await coalition.clock.sleep_ms(30_000)
            planned = await command("sweep", "--json")
            left = stray.id in await coalition.cloud.running()
            acted = await command("sweep", "--yes", "--json")

        told, at = [], 0
        text = capsys.readouterr().out
        while text[at:].strip():
            one, used = json.JSONDecoder().raw_decode(text[at:].lstrip())
            at = len(text) - len(text[at:].lstrip()) + used
            told.append([(stray["action"], stray["reason"]) for stray in one["strays"]])

        assert [Exit.OK] * 3 == [young, planned, acted]
        assert [[("leave", "not-reaped-young")], [("reap", "reapable")], [("reap", "reaped")]] == told
        assert left
        assert frozenset() == await coalition.cloud.running()


async def test_a_bridge_that_was_killed_sees_what_it_left_with_new_eyes(open_coalition) -> None:
    async with open_coalition() as coalition:
        settings = {"intent_window_s": 60, "sweep_every_s": 5}
        async with coalition.bridge("one", **settings) as bridge:
            requester, handle, access = await leased(coalition)
            await settled(coalition, requester, handle, access, bridge)
            stray = await late_machine(coalition.cloud, bridge, access.grant)
        await coalition.clock.sleep_ms(120_000)
        async with coalition.bridge("one", **settings) as again:
            young = [one.reason for one in again.findings.strays]
            with anyio.fail_after(60):
                await poll(coalition.clock, 1000, lambda: gone(coalition, stray.id))

        assert [Reason.NOT_REAPED_YOUNG] == young
