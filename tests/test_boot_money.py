"""A boot hands on what keeps rates above cost: the market's fee, the limits of the boot file, the costs of before."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest
from attrs import evolve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bootfolder import make_folder
from compute_bridge.adapters.boot_file import load_boot
from compute_bridge.boot import Opening
from compute_bridge.host.bridge import BridgeParts
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.reason import Reason
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.strategy import MarketView, RateQuestion

pytestmark = pytest.mark.anyio

RACK = BackendName("rack")
FEE_BPS = 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all that a boot needs up to a fleet that nobody has asked, and a market that takes a fee."""
    make_folder(tmp_path, provider_fee=FEE_BPS)
    key = Ed25519PrivateKey.from_private_bytes(b"\6" * 32)
    (tmp_path / "rack.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return tmp_path


@asynccontextmanager
async def opened(folder: Path, **rate: str) -> AsyncIterator[BridgeParts]:
    flags = {f"rate.{key}": value for key, value in rate.items()}
    loaded = await anyio.to_thread.run_sync(partial(load_boot, folder / "bridge.toml", flags=flags))
    async with AsyncExitStack() as stack:
        yield await Opening(loaded, stack).parts()


def offer(parts: BridgeParts) -> Offer:
    cost = CostBasis("EUR", UnitNanos(vcpu=NanosPerHour(1_000_000)), UtcMs(parts.clock.utc_ms()), "test")
    return Offer(
        id=OfferId("r1"),
        backend=RACK,
        region=Region("eu-north"),
        zone=Zone("a"),
        shape="shape",
        resources=Resources(1000, 1024),
        posture=Posture.NONE,
        networks=(NetworkPolicy.EGRESS,),
        cost=cost,
    )


async def test_the_market_s_fee_comes_off_every_rate(folder: Path) -> None:
    async with opened(folder, margin_bps="0") as parts:
        await parts.rates.update(RateQuestion("EUR", (offer(parts),), parts.boot.bands, MarketView(())))
        (refusal,) = parts.rates.rates.refusals

        assert Reason.COST_FLOOR is refusal.reason
        assert FEE_BPS == parts.router.provider_fee


async def test_a_cost_leaps_across_a_restart_by_what_the_boot_file_calls_a_leap(folder: Path) -> None:
    async with opened(folder) as parts:
        parts.fleet.costs.sift(RACK, (offer(parts),))
        await parts.fleet.costs.ledger.write(parts.journal, now_ms=0)
    async with opened(folder, cost_jump_bps="1") as again:
        one = offer(again)
        leapt = evolve(one.cost, units=UnitNanos(vcpu=NanosPerHour(1_000_101)))
        again.fleet.costs.sift(RACK, (evolve(one, cost=leapt),))

        assert [Reason.COST_JUMP] == [held.reason for held in again.fleet.costs.quarantined]
