"""Whether a security group holds guests to a policy."""

import pytest

from compute_bridge.model.resources import NetworkPolicy
from compute_bridge_azure.walls import faults_of, wall_rules

EGRESS, ISOLATED = NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED


def rule(priority, direction, access, **more):
    ends = {"protocol": "*", "sourceAddressPrefix": "*", "destinationAddressPrefix": "*", "destinationPortRange": "*"}
    return {"properties": {"priority": priority, "direction": direction, "access": access, **ends, **more}}


@pytest.mark.parametrize("policy", NetworkPolicy)
def test_the_rules_that_are_printed_hold(policy):
    assert faults_of(wall_rules(policy, 2222), policy, 2222) == []


def test_azures_own_rules_let_neighbours_in_and_out():
    faults = faults_of([], EGRESS, 22)

    assert len(faults) == 3
    assert any("get in" in fault for fault in faults)


def test_each_policy_refuses_the_others_wall():
    assert faults_of(wall_rules(EGRESS, 22), ISOLATED, 22) == ["isolated guests reach the Internet"]
    assert faults_of(wall_rules(ISOLATED, 22), EGRESS, 22) == ["guests with egress do not reach the Internet"]


@pytest.mark.parametrize("name", ["no-neighbours-in", "no-neighbours-out", "ssh-from-the-internet", "nothing-out"])
def test_no_rule_can_be_left_out(name):
    rules = [one for one in wall_rules(ISOLATED, 22) if one["name"] != name]

    # Denying everything outward denies the neighbours too.
    assert bool(faults_of(rules, ISOLATED, 22)) is (name != "no-neighbours-out")


@pytest.mark.parametrize(
    "hole",
    [
        rule(150, "Inbound", "Allow", sourceAddressPrefix="10.0.0.0/8"),
        rule(150, "Inbound", "Allow", sourceAddressPrefixes=["10.1.0.4"]),
        rule(150, "Inbound", "Allow", sourceAddressPrefix="VirtualNetwork", destinationPortRange="8080"),
        rule(150, "Outbound", "Allow", destinationAddressPrefix="10.0.0.4"),
    ],
)
def test_a_hole_before_the_wall_is_seen(hole):
    assert faults_of([*wall_rules(EGRESS, 22), hole], EGRESS, 22)


def test_a_hole_behind_the_wall_is_none():
    behind = rule(300, "Inbound", "Allow", sourceAddressPrefix="VirtualNetwork")

    assert faults_of([*wall_rules(EGRESS, 22), behind], EGRESS, 22) == []


def test_a_wall_on_some_ports_is_none():
    rules = [one for one in wall_rules(EGRESS, 22) if one["name"] != "no-neighbours-in"]
    part = rule(200, "Inbound", "Deny", sourceAddressPrefix="VirtualNetwork", destinationPortRange="22")

    assert faults_of([*rules, part], EGRESS, 22) == ["other machines of the virtual network get in"]


def test_the_port_is_among_ranges():
    rules = [one for one in wall_rules(EGRESS, 22) if one["name"] != "ssh-from-the-internet"]
    door = rule(100, "Inbound", "Allow", protocol="Tcp", sourceAddressPrefix="Internet", destinationPortRange="")
    door["properties"]["destinationPortRanges"] = ["443", "2200-2300"]

    assert faults_of([*rules, door], EGRESS, 2222) == []
    assert faults_of([*rules, door], EGRESS, 22) == ["TCP port 22 is not open to the Internet"]
