"""Killed at any moment and started again, the market has lost nothing and doubled nothing."""

import os
import secrets
import sys
from random import Random  # noqa: TID251 - seeded, and the seed is told
from typing import Any

import pytest
from attrs import define, field

from compute_bridge.model import channels
from compute_bridge.model.control import ControlAction, LeaseControl
from compute_bridge.model.reason import Reason
from compute_bridge.model.request import RequestVerdict
from compute_bridge.model.settlement import SettlementStatement
from compute_bridge.model.units import Milliseconds
from compute_bridge.model.usage import Outcome
from compute_bridge.wire.signing import public_key, sign

pytestmark = pytest.mark.anyio

HOUR = 3_600_000
MOMENTS = 69
"""How often something becomes durable in the story; the first test says when to change this."""
STORIES = 500
"""How many are played in a soak."""
SEED = "MARKET_SEED"


@define
class Story:
    """What happens around a market, each thing once; the market dies in the middle and comes back.

    Two bridges sell. Three requests come: the first runs and is extended, the second is refused by the
    cheaper bridge and goes to the dearer, the third is granted to a bridge that never says a word about it.
    """

    world: Any
    make: Any
    fuses: list[Any] = field(factory=list)
    crashes: int = 0
    keys: dict[bytes, Any] = field(factory=dict)

    async def play(self):
        await self.come_back()
        cheap, dear = self.world.provider("cheap"), self.world.provider("dear")
        await self.sell(cheap, 1000)
        await self.sell(dear, 2000)
        first, second = await self.ask(), await self.ask()
        third = await self.ask(requirements=self.make.needs(duration_ms=10_000), expires_at=12)
        await self.market("tick")
        await self.extend(await self.world.grant(first))
        await self.log(cheap, await self.world.grant(first), billable_ms=2 * HOUR, ended_at=2 * HOUR + 1000)
        await self.log(cheap, await self.world.grant(second), outcome=Outcome.REFUSED, reason=Reason.DRAINING)
        await self.market("tick")
        await self.log(dear, await self.world.grant(second))
        for _ in range(25):
            await self.market("tick")
        return first, second, third

    async def market(self, step):
        """Let the market take a step, and again after each death in the middle of it."""
        try:
            await getattr(self.world.market, step)()
            await self.world.settle_down()
        except self.make.CrashError:
            self.crashes += 1
            await self.come_back()
            await self.market(step)

    async def come_back(self):
        """Start the market anew, with the next fuse; it may die again while it recovers."""
        await self.world.stop()
        try:
            await self.world.start(fuse=self.fuses.pop(0) if self.fuses else None)
        except self.make.CrashError:
            self.crashes += 1
            await self.come_back()

    async def sell(self, provider, micros):
        await provider.claim()
        rates = self.make.rate_table(self.make.row(micros))
        signed = sign(await provider.card(rates=rates), provider.boot, domain=self.world.domain)
        await self.send(channels.CARD_SUBMISSIONS, signed.hash, signed.raw)

    async def ask(self, **changes):
        alice = self.world.requester("alice")
        request, key = alice.request(**changes)
        self.keys[request.hash] = key
        await self.send(channels.INTAKE, request.hash, alice.sealed(request))
        return request.hash

    async def extend(self, grant):
        control = LeaseControl(grant.id, grant.request_key, 1, ControlAction.EXTEND, Milliseconds(HOUR), "")
        signed = sign(control, self.keys[grant.request_id], domain=self.world.domain)
        await self.send(channels.CONTROL, grant.id + channels.number(1), signed.raw)

    async def log(self, provider, grant, **changes):
        await self.send(channels.LOGS, grant.id, provider.log(grant, **changes).raw)

    async def send(self, stream, record_id, raw):
        await self.world.network.append(stream, record_id, raw)
        await self.market("turn")


async def read_end(world, requests):
    """Return what must be the same however often the market died."""
    statements = [signed.value for signed in await world.all(channels.SETTLEMENTS, SettlementStatement)]
    by_grant = {one.key.grant_id: one for one in statements}
    verdicts = await world.all(channels.REQUEST_VERDICTS, RequestVerdict)
    return {
        "statements": len(statements),
        "balances": await world.balances(),
        "verdicts": [(one.value.request_id, one.value.reason) for one in verdicts],
        "grants": [
            [(grant.provider_id, grant.rate, by_grant[grant.id].reason, by_grant[grant.id].charge) for grant in grants]
            for grants in [await world.grants(request) for request in requests]
        ],
        "roster": set(world.market.roster.current),
    }


def the_end(world, requests):
    """Return how the story ends when nobody dies."""
    cheap, dear = world.provider("cheap").id, world.provider("dear").id
    alice = public_key(world.requester("alice").account).hex()
    return {
        "statements": 4,
        "balances": {
            "fees": -2 * (20 + 40),
            f"held/{alice}": 0,
            "holds": 0,
            f"owed-by/{alice}": 2 * (2000 + 20),
            f"owed-to/{cheap.hex()}": -(2000 - 40),
            f"owed-to/{dear.hex()}": -(2000 - 40),
        },
        "verdicts": [(request, Reason.ADMITTED) for request in requests],
        "grants": [
            [(cheap, 1000, Reason.CHARGED, 2000)],
            [(cheap, 1000, Reason.NOTHING_DUE, 0), (dear, 2000, Reason.CHARGED, 2000)],
            [(cheap, 1000, Reason.NOTHING_DUE, 0)],
        ],
        "roster": {cheap, dear},
    }


async def test_the_story_ends_as_it_should_and_has_no_more_moments_than_are_tried(world, make):
    fuse = make.Fuse()
    requests = await Story(world, make, [fuse]).play()

    assert await read_end(world, requests) == the_end(world, requests)
    assert fuse.passed == MOMENTS


@pytest.mark.parametrize("moment", range(1, MOMENTS + 1))
async def test_dying_at_any_moment_changes_nothing(world, make, moment):
    story = Story(world, make, [make.Fuse(moment)])
    requests = await story.play()

    assert story.crashes == 1
    assert await read_end(world, requests) == the_end(world, requests)


@pytest.mark.parametrize("moment", range(1, MOMENTS + 1))
async def test_dying_again_soon_after_changes_nothing(world, make, moment):
    story = Story(world, make, [make.Fuse(moment), make.Fuse(1), make.Fuse(2)])
    requests = await story.play()

    assert story.crashes >= 2
    assert await read_end(world, requests) == the_end(world, requests)


@pytest.fixture(scope="module")
def seed():
    """What every story of a soak is drawn from; ``MARKET_SEED`` plays them again."""
    return int(os.environ.get(SEED, str(secrets.randbits(32))))


def moments_of(seed, number):
    """When the market dies in this story, each time counted from its last start."""
    random = Random(f"{seed} {number}")
    drawn = [random.randint(1, MOMENTS)]
    return drawn + [random.randint(1, random.choice((3, 20, MOMENTS))) for _ in range(random.randrange(8))]


def test_a_seed_draws_the_same_moments_again():
    assert moments_of(7, 1) == moments_of(7, 1)
    assert 1 < len({tuple(moments_of(seed, number)) for seed in (7, 8) for number in (1, 2)})


@pytest.mark.soak
@pytest.mark.parametrize("number", range(STORIES))
async def test_dying_at_moments_drawn_at_random_changes_nothing(world, make, seed, number, capsys):
    moments = moments_of(seed, number)
    if not number:
        with capsys.disabled():
            print(f"\nsoak of the market: {SEED}={seed}")  # noqa: T201 - who plays it again needs it
    sys.stdout.write(f"{SEED}={seed}: the market dies at moments {moments}\n")
    story = Story(world, make, [make.Fuse(moment) for moment in moments])
    requests = await story.play()

    assert story.crashes >= 1
    assert await read_end(world, requests) == the_end(world, requests)
