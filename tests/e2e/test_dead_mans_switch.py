"""A bridge that never comes back owes nobody a machine; one that comes back late accounts for it all the same."""

import anyio
import pytest

from compute_bridge.host.log_checks import await_log
from compute_bridge.host.status import status
from compute_bridge.model.reason import Reason
from compute_bridge.model.units import MicrosPerHour
from compute_bridge.model.usage import Outcome
from compute_bridge.ports.clock import poll

pytestmark = pytest.mark.anyio

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
MAX_RATE = MicrosPerHour(10**9)
LEASE_MS = 60_000
ALLOWANCE_S = 30


async def are_gone(cloud):
    return True if not await cloud.running() else None


async def test_a_machine_whose_bridge_is_gone_ends_by_itself_and_is_settled_when_it_is_back(open_coalition) -> None:
    async with open_coalition() as coalition:
        requester = coalition.requester()
        async with coalition.bridge("one", provision_allowance_s=ALLOWANCE_S):
            handle = await requester.submit(coalition.manifest(duration_ms=LEASE_MS), MAX_RATE, SSH_KEY)
            access = await requester.serve_until_receipt(handle)
            abandoned = await coalition.cloud.running()
        with anyio.fail_after(60):
            await poll(coalition.clock, 1000, lambda: are_gone(coalition.cloud))
        async with coalition.bridge("one", provision_allowance_s=ALLOWANCE_S):
            log = (await await_log(requester.market, access.grant.value)).value
        (machine,) = coalition.cloud.account.machines.values()

        assert 1 == len(abandoned)
        assert "expired" == machine.state
        assert LEASE_MS <= machine.ended_ms - machine.started_ms <= LEASE_MS + 1000 * ALLOWANCE_S
        assert (Outcome.SERVED, Reason.DEADLINE, LEASE_MS) == (log.outcome, log.reason, log.billable_ms)
        assert 1 == await coalition.network.tail("logs")


async def test_status_tells_which_backend_has_which_switch(open_coalition) -> None:
    async with open_coalition() as coalition, coalition.bridge("one") as bridge:
        answer = await status(bridge)

        assert {"memory": "cloud-side"} == answer["fleet"]["dead_mans_switch"]
