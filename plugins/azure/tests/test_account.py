"""From lists to machines, where Azure answers otherwise than the fake does."""

from datetime import UTC, datetime

import pytest

from compute_bridge.cloud.machine import MachineState
from compute_bridge.cloud.settings import CloudSettings
from compute_bridge.cloud.tags import tags_of
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import ExitCause, Offer
from compute_bridge.ports.errors import NoCapacityError, UnservableError
from compute_bridge_azure.account import Account, Listings, Part, machine_name, read_time

SETTINGS = CloudSettings(owner="me", shapes=("Standard_D2s_v5",))
GROUP = "/subscriptions/s/resourceGroups/g/providers"
NOW_MS = UtcMs(2_000_000_000_000)


@pytest.fixture
def order(bare):
    offer = Offer(
        id=OfferId("westeurope/Standard_D2s_v5"),
        backend=bare.name,
        region=Region("westeurope"),
        zone=Zone(""),
        shape="Standard_D2s_v5",
        resources=Resources(2000, 8192, 64),
        posture=Posture.NONE,
        networks=tuple(sorted(NetworkPolicy)),
        cost=CostBasis("USD", UnitNanos(), UtcMs(1), "test"),
        images=("ubuntu",),
    )
    return bare.order(offer)


def thing(kind, name, order, *, tagged=True, **properties):
    return {
        "id": f"{GROUP}/{kind}/{name}",
        "name": name,
        "location": "westeurope",
        "tags": tags_of(order, SETTINGS) if tagged else {},
        "properties": {"provisioningState": "Succeeded", **properties},
    }


def vm(order, **properties):
    return thing("Microsoft.Compute/virtualMachines", order.ownership.name, order, **properties)


def status(order, *codes, **more):
    statuses = [{"code": code, **more} for code in codes]
    name = order.ownership.name.upper()
    return {
        "id": f"{GROUP}/MICROSOFT.COMPUTE/virtualMachines/{name}",
        "properties": {"instanceView": {"statuses": statuses}},
    }


def seen(nics=(), addresses=(), disks=(), machines=(), statuses=(), known=None, coming=()):
    account = Account(BackendName("azure"), "me", known or {}, frozenset(coming))
    return account.machines(Listings(list(nics), list(addresses), list(disks), list(machines), list(statuses), NOW_MS))


def test_an_address_of_any_name_is_found_by_its_tags(order):
    address = thing("Microsoft.Network/publicIPAddresses", "0f3a-by-azure", order, ipAddress="192.0.2.7")
    [machine] = seen(addresses=[address], machines=[vm(order)]).machines.values()

    assert machine.host == "192.0.2.7"


def test_what_no_status_list_shows_yet_is_coming(order):
    [machine] = seen(machines=[vm(order)]).machines.values()

    assert machine.state is MachineState.PENDING


@pytest.mark.parametrize(
    ("power", "state", "cause"),
    [
        ("starting", MachineState.PENDING, None),
        ("running", MachineState.RUNNING, None),
        ("stopping", MachineState.PENDING, None),
        ("stopped", MachineState.ENDING, ExitCause.DEADLINE),
        ("deallocating", MachineState.PENDING, None),
        ("deallocated", MachineState.ENDING, ExitCause.TERMINATED),
        ("aNewState", MachineState.PENDING, None),
    ],
)
def test_power_states_are_told(order, power, state, cause):
    view = status(order, "ProvisioningState/succeeded", f"PowerState/{power}")
    [machine] = seen(machines=[vm(order)], statuses=[view]).machines.values()

    assert machine.state is state
    assert (machine.exit.cause if machine.exit else None) is cause


def test_the_time_of_a_power_state_is_the_end_where_there_is_one(order):
    view = status(order, "PowerState/stopped", time="2020-01-01T00:00:00.1234567+00:00")
    [machine] = seen(machines=[vm(order)], statuses=[view]).machines.values()

    assert machine.exit is not None
    assert (machine.exit.cause, machine.exit.ended_at) == (ExitCause.EXITED, 1_577_836_800_123)


def test_a_machine_that_is_deleted_has_no_reason_in_the_lists(order):
    one = vm(order, provisioningState="Deleting")
    [machine] = seen(machines=[one], statuses=[status(order, "PowerState/stopping")]).machines.values()

    assert (machine.state, machine.exit) == (MachineState.ENDING, None)


SPOT = {"priority": "Spot", "evictionPolicy": "Delete"}


@pytest.mark.parametrize("market", [{}, SPOT], ids=["on-demand", "spot"])
@pytest.mark.parametrize("power", ["stopping", "deallocating"])
@pytest.mark.parametrize(
    ("provisioning", "then", "cause"),
    [
        ("Deleting", "stopping", None),
        ("Deleting", "deallocated", None),
        ("Succeeded", "stopped", ExitCause.DEADLINE),
        ("Succeeded", "deallocated", ExitCause.TERMINATED),
    ],
)
def test_a_state_on_its_way_tells_no_cause_before_the_next_tick_does(order, market, power, provisioning, then, cause):
    # The list of machines is read a moment before that of their states, and the machine begins to end in between.
    [first] = seen(machines=[vm(order, **market)], statuses=[status(order, f"PowerState/{power}")]).machines.values()
    machine, view = vm(order, provisioningState=provisioning, **market), status(order, f"PowerState/{then}")
    [second] = seen(machines=[machine], statuses=[view]).machines.values()

    assert (first.is_live, first.state is MachineState.RUNNING, first.exit) == (True, False, None)
    assert (second.is_live, second.exit.cause if second.exit else None) == (False, cause)


@pytest.mark.parametrize("power", ["running", "stopping", "stopped", "deallocated"])
def test_a_delete_that_either_list_shows_is_one_and_has_no_reason(order, power):
    newer, older = (
        status(order, "ProvisioningState/deleting", f"PowerState/{power}"),
        status(order, "PowerState/running"),
    )
    told = [
        seen(machines=[vm(order)], statuses=[newer]),
        seen(machines=[vm(order, provisioningState="Deleting")], statuses=[older]),
    ]

    for [machine] in (one.machines.values() for one in told):
        assert (machine.state, machine.exit) == (MachineState.ENDING, None)


def test_a_failure_of_which_the_older_list_knows_nothing_is_told_by_the_next(order):
    failed = vm(order, provisioningState="Failed")
    [first] = seen(machines=[failed], statuses=[status(order, "ProvisioningState/creating")]).machines.values()
    told = status(order, "ProvisioningState/failed/AllocationFailed")
    [second] = seen(machines=[failed], statuses=[told]).machines.values()

    assert (first.state, first.failure) == (MachineState.PENDING, None)
    assert second.state is MachineState.ENDING
    assert isinstance(second.failure, NoCapacityError)


@pytest.mark.parametrize(("power", "state"), [("running", MachineState.RUNNING), ("stopping", MachineState.PENDING)])
def test_a_change_that_failed_is_no_end_of_a_machine_that_runs(order, power, state):
    failed = vm(order, provisioningState="Failed")
    codes = "ProvisioningState/failed/VMExtensionProvisioningError", f"PowerState/{power}"
    [machine] = seen(machines=[failed], statuses=[status(order, *codes)]).machines.values()

    assert (machine.state, machine.failure, machine.exit) == (state, None, None)


@pytest.mark.parametrize(
    ("age_s", "state", "failure"),
    [(599, MachineState.ENDING, UnservableError), (601, MachineState.PENDING, type(None))],
    ids=["as it was made", "after it had run"],
)
def test_a_machine_whose_status_no_list_shows_has_failed_only_where_it_is_young(order, age_s, state, failure):
    made = datetime.fromtimestamp(NOW_MS / 1000 - age_s, UTC).isoformat()
    [machine] = seen(machines=[vm(order, provisioningState="Failed", timeCreated=made)]).machines.values()

    assert (machine.state, type(machine.failure)) == (state, failure)


def test_parts_of_what_was_just_made_are_not_left_over(order):
    # Azure makes the NIC before the machine has it, and its list of machines may be behind.
    name = order.ownership.name
    nic = thing("Microsoft.Network/networkInterfaces", f"{name}-nic", order)
    fresh, old = seen(nics=[nic], coming=[name]), seen(nics=[nic])

    assert (fresh.machines[name].state, fresh.machines[name].stays, fresh.loose) == (MachineState.PENDING, False, {})
    assert (old.machines[name].stays, old.loose) == (True, {name: (Part("nic", f"{name}-nic"),)})


def test_an_address_whose_nic_is_gone_can_be_deleted(order):
    name = f"{order.ownership.name}-ip"
    nic = f"{GROUP}/Microsoft.Network/networkInterfaces/gone"
    used = {"ipConfiguration": {"id": f"{nic}/ipConfigurations/ip"}}
    found = seen(addresses=[thing("Microsoft.Network/publicIPAddresses", name, order, **used)])
    [(id_, machine)] = found.machines.items()

    assert machine.stays
    assert found.loose == {id_: (Part("address", name),)}


def test_a_disk_without_tags_is_ours_only_where_its_machine_was_seen(order):
    disk = thing("Microsoft.Compute/disks", f"{order.ownership.name}-os", order, tagged=False)
    tags = seen(machines=[vm(order)]).machines[order.ownership.name].tags

    assert seen(disks=[disk]).machines == {}
    assert seen(disks=[disk], known={order.ownership.name: tags}).machines[order.ownership.name].stays


def test_a_disk_that_has_our_tags_is_ours_in_any_process(order):
    disk = thing("Microsoft.Compute/disks", f"{order.ownership.name}-os", order)

    assert seen(disks=[disk]).machines[order.ownership.name].stays


def test_tags_that_are_not_whole_are_nobodys(order):
    broken = vm(order)
    del broken["tags"]["cb-mac"]

    assert seen(machines=[broken]).machines == {}


@pytest.mark.parametrize("name", ["cb-1", "web-server", "cb-0123456789abcdef01234567x", "xcb-0123456789abcdef01234567"])
def test_a_name_of_others_names_no_machine(name):
    assert machine_name(name) == ""


@pytest.mark.parametrize("told", [None, "", "yesterday", "2020-01-01T00:00:00"])
def test_no_time_is_zero(told):
    assert read_time(told) == 0
