"""Whoever is throttled is left alone for as long as the cloud says: by the host's own wait, counted at each fake."""

import pytest
from attrs import evolve
from manyclouds import AWS, AZURE, GCP, clouds

from compute_bridge.host.attempt import Attempt, AttemptLimits
from compute_bridge.ports.errors import UnavailableError

ONCE_MORE = AttemptLimits(throttle_waits=1)


@pytest.fixture
def accounts():
    with clouds() as accounts:
        yield accounts


@pytest.mark.anyio
@pytest.mark.needs("sshd")
@pytest.mark.parametrize("name", [AWS, GCP, AZURE])
async def test_a_create_is_sent_again_when_the_retry_after_is_over_and_no_sooner(accounts, name):
    world, image = accounts.worlds[name], accounts.image()
    async with world.open() as backend:
        [offer, *_] = [one for one in await backend.offers() if one.runs(image)]
        order, first = (evolve(world.order(offer), image=image) for _ in range(2))
        # What leases share is made by it, so that the create is all that the next one sends.
        await backend.terminate((await backend.provision(first)).id)
        before = world.physics.count()
        world.physics.throttle(retry_after_s=7)
        with pytest.raises(UnavailableError):
            await Attempt(backend, order, world.clock, ONCE_MORE).make()
    sent = [call.at_ms for call in world.physics.calls[before:] if call.op == world.create_call]

    assert len(sent) == 2
    assert sent[1] - sent[0] >= 7000
    assert await accounts.running() == frozenset()
