from attrs import evolve

import pytest

from compute_bridge.model import channels
from compute_bridge.model.grant import ComputeGrant
from compute_bridge.model.ids import grant_id
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import charge
from compute_bridge.wire import codec, merkle

pytestmark = pytest.mark.anyio


async def test_the_cheaper_of_two_bridges_wins(world):
    dear, cheap = await world.provider("dear").sell(2000), await world.provider("cheap").sell(1500)
    request = await world.requester("alice").ask()
    await world.tick()

    grant = await world.grant(request)

    assert (grant.provider_id, grant.rate) == (cheap.id, 1500)
    assert await world.reasons(request) == {cheap.id: Reason.WON, dear.id: Reason.OUTBID}
