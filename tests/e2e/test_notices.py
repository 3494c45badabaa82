"""A backend's word that it will take a machine away reaches the journal, the operator and the requester, once."""

import asyncio
import logging
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compute_bridge.cli.request_report import status_lines, told_status
from compute_bridge.host.explain import explain
from compute_bridge.host.lease_state import Noticed, read_body
from compute_bridge.host.log_checks import whole_stream
from compute_bridge.model import channels
from compute_bridge.model.ids import GrantId, InstanceId
from compute_bridge.model.notice import InterruptionNotice
from compute_bridge.model.units import HOUR_MS, MicrosPerHour, Tick, UtcMs
from compute_bridge.ports.clock import poll
from compute_bridge.ports.notices import Interruption, SupportsNotices
from compute_bridge.testing.memory import MemoryBackend
from compute_bridge.testing.memory_account import connect
from compute_bridge.testing.memory_cloud import MemoryCloud
from compute_bridge.wire.signing import sign
from crashkit.coalition import Coalition, found

pytestmark = [pytest.mark.anyio]

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(10**9)


class Teller(MemoryBackend, SupportsNotices):
    """The reference backend, which tells what a test lets it tell."""

    def __init__(self, context, client, answers):
        super().__init__(context, client)
        self._answers = answers

    async def next_notices(self):
        return await self._answers.get()


class TellingCloud(MemoryCloud):
    def __init__(self):
        super().__init__(self.open_teller)
        self._answers: asyncio.Queue[Any] = asyncio.Queue()

    def tell(self, *notices):
        self._answers.put_nowait(notices)

    @asynccontextmanager
    async def open_teller(self, context, config):
        yield Teller(context, connect(config.endpoint, context.read_secret(config.api_key)), self._answers)

    async def instance(self):
        (instance,) = await self.running()
        return instance


@pytest.fixture
async def coalition(tmp_path):
    made = await found(tmp_path, TellingCloud(), made=Coalition)
    async with made.market():
        yield made


async def served(coalition):
    """Return a requester, the handle of its request, and its grant; the machine runs."""
    requester = coalition.requester()
    handle = await requester.submit(coalition.manifest(duration_ms=40 * HOUR_MS), MAX_RATE, SSH_KEY)
    access = await requester.serve_until_receipt(handle)
    return requester, handle, access.grant.value


async def shown(coalition, requester, handle):
    """Return the notice that the requester sees, waiting for it."""

    async def look():
        return (await requester.status(handle)).notice

    with anyio.fail_after(60):
        return await poll(coalition.clock, 500, look)


async def published(coalition):
    async with aclosing(whole_stream(coalition.requester("reader").market, channels.NOTICES)) as entries:
        return [entry async for entry in entries]


async def rest(coalition) -> None:
    """Let a bridge take in whatever was told."""
    await coalition.clock.sleep_ms(10_000)


async def noticed(bridge):
    return [read_body(one) for one in await bridge.parts.journal.events(kind="noticed")]


async def test_a_notice_reaches_the_journal_the_log_and_the_requester(coalition, caplog) -> None:
    async with coalition.bridge("one") as bridge:
        requester, handle, grant = await served(coalition)
        before = (await requester.status(handle)).notice
        at = UtcMs(coalition.clock.utc_ms() + 120_000)
        with caplog.at_level(logging.WARNING):
            coalition.cloud.tell(Interruption(await coalition.cloud.instance(), at, "capacity  is needed"))
            notice = await shown(coalition, requester, handle)
        status = await requester.status(handle)
        (kept,) = await noticed(bridge)
        (story,) = await explain(
            bridge.parts.journal,
            grant.id.hex(),
            domain=requester.market.domain,
            module_key=requester.market.config.signing_key,
            provider_fee=requester.market.config.provider_fee,
        )

        assert (None, at, grant.id) == (before, notice.interrupted_at, notice.grant_id)
        assert (at, "capacity is needed") == (kept.at, kept.detail)
        assert ["interruption-noticed"] == [line.reason for line in story.lines if line.event == "noticed"]
        assert f"lease {grant.id.hex()[:12]}: backend memory will take its machine away at " in caplog.text
        assert at == told_status(status)["interruption"]["interrupted_at_ms"]
        assert ["  interruption: the provider says that its backend will take the machine away at "] == [
            line[:-23] for line in status_lines(status) if "interruption" in line
        ]


async def test_a_notice_ends_no_lease_and_the_preemption_does(coalition) -> None:
    async with coalition.bridge("one"):
        requester, handle, _ = await served(coalition)
        instance = await coalition.cloud.instance()
        coalition.cloud.tell(Interruption(instance, UtcMs(0)))
        notice = await shown(coalition, requester, handle)
        await rest(coalition)
        still = await coalition.cloud.running()
        await coalition.cloud.kill(instance)

        assert (0, frozenset({instance})) == (notice.interrupted_at, still)


async def test_a_notice_told_again_and_after_a_restart_is_published_once(coalition) -> None:
    async with coalition.bridge("one"):
        requester, handle, _ = await served(coalition)
        one = Interruption(await coalition.cloud.instance(), UtcMs(0))
        coalition.cloud.tell(one, one)
        coalition.cloud.tell(one)
        await shown(coalition, requester, handle)
    async with coalition.bridge("one") as again:
        coalition.cloud.tell(one)
        await rest(coalition)

        assert (1, 1) == (len(await published(coalition)), len(await noticed(again)))


async def test_nonsense_of_a_backend_reaches_nobody(coalition, caplog) -> None:
    async with coalition.bridge("one") as bridge:
        requester, handle, _ = await served(coalition)
        broken = Interruption(await coalition.cloud.instance(), UtcMs(0))
        object.__setattr__(broken, "at", "tomorrow")
        coalition.cloud.tell("garbage", None, broken)
        coalition.cloud.tell(Interruption(InstanceId("i-of-nobody"), UtcMs(0)))
        await rest(coalition)

        assert (None, []) == ((await requester.status(handle)).notice, await noticed(bridge))
        assert 1 == caplog.text.count("tells interruption notices that are none")


@pytest.mark.parametrize("off_ms", [-50 * HOUR_MS, 24 * 365 * HOUR_MS])
async def test_an_impossible_time_is_left_out_of_the_notice(coalition, off_ms) -> None:
    async with coalition.bridge("one"):
        requester, handle, _ = await served(coalition)
        at = UtcMs(coalition.clock.utc_ms() + off_ms)
        coalition.cloud.tell(Interruption(await coalition.cloud.instance(), at))

        assert 0 == (await shown(coalition, requester, handle)).interrupted_at


async def test_a_notice_whose_id_was_taken_is_found_under_its_hash(coalition) -> None:
    async with coalition.bridge("one") as bridge:
        requester, handle, grant = await served(coalition)
        await coalition.network.append(channels.NOTICES, grant.id, b"squatted")
        coalition.cloud.tell(Interruption(await coalition.cloud.instance(), UtcMs(0)))
        notice = await shown(coalition, requester, handle)
        (kept,) = await noticed(bridge)

        assert isinstance(kept, Noticed)
        assert [grant.id, kept.hash] == [entry.record_id for entry in await published(coalition)]
        assert grant.id == notice.grant_id


@pytest.mark.parametrize("change", ["key", "grant", "epoch"])
async def test_a_notice_that_is_not_the_providers_is_not_shown(coalition, change) -> None:
    async with coalition.bridge("one") as bridge:
        requester, handle, grant = await served(coalition)
        tools = bridge.provider.tools
        key = Ed25519PrivateKey.generate() if change == "key" else tools.current.signing
        forged = InterruptionNotice(
            grant_id=GrantId(bytes(32)) if change == "grant" else grant.id,
            provider_id=grant.provider_id,
            epoch=tools.epoch + 1 if change == "epoch" else tools.epoch,
            interrupted_at=UtcMs(0),
            tick=Tick(1),
        )
        await coalition.network.append(
            channels.NOTICES, grant.id, sign(forged, key, domain=requester.market.domain).raw
        )

        assert (await requester.status(handle)).notice is None
