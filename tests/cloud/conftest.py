"""What every test of the room of clouds stands on: one order."""

import pytest

from compute_bridge.cloud.settings import CloudSettings, HostKey
from compute_bridge.model.ids import BackendName, OfferId, Token
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.testing.orders import make_order, needs_of

NOW = UtcMs(1_700_000_000_000)


@pytest.fixture(params=[*HostKey], ids=str)
def settings(request):
    return CloudSettings(owner="kit", shapes=("small",), ssh_port=2222, host_key=request.param)


@pytest.fixture
def order():
    offer = Offer(
        id=OfferId("north-a/small"),
        backend=BackendName("toy"),
        region=Region("north"),
        zone=Zone("north-a"),
        shape="small",
        resources=Resources(4000, 8192, 40),
        posture=Posture.NONE,
        networks=(NetworkPolicy.EGRESS,),
        cost=CostBasis("EUR", UnitNanos(machine=NanosPerHour(1)), NOW, "toy"),
    )
    token = Token(bytes(range(32)))
    return make_order(offer, token, needs=needs_of(offer), image=ImageRef("vm:plain"), user="guest", now=NOW)
