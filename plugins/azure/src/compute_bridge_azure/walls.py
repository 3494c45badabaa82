"""What a network security group must hold, and whether one does.

Azure evaluates the rules of a direction by ascending priority, and the first that matches decides. Its own last rules
let the whole virtual network in and out (65000), so that guests would reach each other.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from compute_bridge.model.resources import NetworkPolicy

_ANY = ("*", "any", "0.0.0.0/0")
_NETWORK, _INTERNET = "VirtualNetwork", "Internet"
# Source: the default security rules of Azure's network security groups.
_DEFAULTS = (
    ("Inbound", 65000, "Allow", _NETWORK),
    ("Inbound", 65001, "Allow", "AzureLoadBalancer"),
    ("Inbound", 65500, "Deny", "*"),
    ("Outbound", 65000, "Allow", _NETWORK),
    ("Outbound", 65001, "Allow", _INTERNET),
    ("Outbound", 65500, "Deny", "*"),
)


def wall_rules(policy: NetworkPolicy, port: int) -> list[dict[str, Any]]:
    """Return the rules that hold guests to ``policy``, as a document of the Resource Manager has them."""
    rules = [
        _rule("ssh-from-the-internet", 100, "Inbound", "Allow", source=_INTERNET, ports=str(port), protocol="Tcp"),
        _rule("no-neighbours-in", 200, "Inbound", "Deny", source=_NETWORK),
        _rule("no-neighbours-out", 200, "Outbound", "Deny", destination=_NETWORK),
    ]
    if policy is NetworkPolicy.ISOLATED:
        rules.append(_rule("nothing-out", 300, "Outbound", "Deny"))
    return rules


def _rule(
    name: str,
    priority: int,
    direction: str,
    access: str,
    *,
    source: str = "*",
    destination: str = "*",
    ports: str = "*",
    protocol: str = "*",
) -> dict[str, Any]:
    return {
        "name": name,
        "properties": {
            "priority": priority,
            "direction": direction,
            "access": access,
            "protocol": protocol,
            "sourceAddressPrefix": source,
            "sourcePortRange": "*",
            "destinationAddressPrefix": destination,
            "destinationPortRange": ports,
        },
    }


@frozen
class _Rule:
    direction: str
    priority: int
    is_allow: bool
    peers: tuple[str, ...]
    ports: tuple[str, ...]
    protocol: str

    def could_match(self, peer: str) -> bool:
        """Return whether any traffic with ``peer`` could be meant: an address may be in either."""
        return any(word.lower() in (*_ANY, peer.lower()) or _is_address(word) for word in self.peers)

    def surely_matches(self, peer: str) -> bool:
        """Return whether all traffic with ``peer`` is meant, on every port."""
        is_any = any(word.lower() in (*_ANY, peer.lower()) for word in self.peers)
        return is_any and "*" in self.ports and self.protocol == "*"

    def lets_ssh(self, port: int) -> bool:
        """Return whether a TCP port is among those meant."""
        return self.protocol.lower() in ("*", "tcp") and any(_has_port(word, port) for word in self.ports)


def faults_of(security_rules: Iterable[Mapping[str, Any]], policy: NetworkPolicy, port: int) -> list[str]:
    """Return in words what a security group lacks to hold guests to ``policy``; empty where it holds them."""
    rules = sorted([_read(one.get("properties") or {}) for one in security_rules] + _defaults(), key=_priority)
    faults = []
    if not _lets_ssh(rules, port):
        faults.append(f"TCP port {port} is not open to the Internet")
    if not _keeps(rules, "Inbound", _NETWORK):
        faults.append("other machines of the virtual network get in")
    if not _keeps(rules, "Outbound", _NETWORK):
        faults.append("guests reach the virtual network")
    if policy is NetworkPolicy.ISOLATED and not _keeps(rules, "Outbound", _INTERNET):
        faults.append("isolated guests reach the Internet")
    if policy is NetworkPolicy.EGRESS and _keeps(rules, "Outbound", _INTERNET):
        faults.append("guests with egress do not reach the Internet")
    return faults


def _keeps(rules: list[_Rule], direction: str, peer: str) -> bool:
    """Return whether nothing passes: everything is denied before anything is let through."""
    for rule in rules:
        if rule.direction == direction and rule.is_allow and rule.could_match(peer):
            return False
        if rule.direction == direction and not rule.is_allow and rule.surely_matches(peer):
            return True
    return False


def _lets_ssh(rules: list[_Rule], port: int) -> bool:
    for rule in rules:
        if rule.direction == "Inbound" and rule.could_match(_INTERNET) and rule.lets_ssh(port):
            return rule.is_allow
    return False


def _read(properties: Mapping[str, Any]) -> _Rule:
    direction = str(properties.get("direction"))
    end = "source" if direction == "Inbound" else "destination"
    return _Rule(
        direction,
        int(properties.get("priority") or 0),
        properties.get("access") == "Allow",
        _words(properties, f"{end}AddressPrefix", f"{end}AddressPrefixes"),
        _words(properties, "destinationPortRange", "destinationPortRanges"),
        str(properties.get("protocol", "*")),
    )


def _words(properties: Mapping[str, Any], one: str, many: str) -> tuple[str, ...]:
    return tuple(filter(None, (properties.get(one), *(properties.get(many) or ()))))


def _defaults() -> list[_Rule]:
    return [
        _Rule(direction, priority, access == "Allow", (peer,), ("*",), "*")
        for direction, priority, access, peer in _DEFAULTS
    ]


def _priority(rule: _Rule) -> int:
    return rule.priority


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_network(word, strict=False)
    except ValueError:
        return False
    return True


def _has_port(word: str, port: int) -> bool:
    first, _, last = word.partition("-")
    return word == "*" or (first.isdecimal() and int(first) <= port <= int(last or first))
