"""The security groups: one for each region and network policy, shared, and named by its rules."""

from collections.abc import Iterable
from functools import partial
from hashlib import sha256
from ipaddress import IPv4Network
from typing import Any, Final

import anyio
from attrs import frozen

from compute_bridge.cloud.tags import OWNER
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge.ports.errors import BackendError, UnavailableError
from compute_bridge_aws.account import Account, code_of
from compute_bridge_aws.sdk import Operation

# Where other leases, the subnet's own hosts and the metadata of clouds may be; and what is nobody's on the internet.
# Source: RFC 1918; RFC 6598; RFC 3927; RFC 1122, section 3.2.1.3; RFC 5771 and RFC 1112 (224.0.0.0/3).
NOT_PUBLIC: Final = tuple(
    IPv4Network(range_)
    for range_ in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
    )
)
_ANYONE = "0.0.0.0/0"
_TRIES = 5
_AGAIN_MS = 1000
# For so long a group is taken to be as it was when it was last looked at.
_KEEP_MS = 300_000


def public_ranges() -> tuple[str, ...]:
    """Return the ranges that make up all public IPv4 addresses, fewer than a group's 60 rules."""
    ranges: list[IPv4Network] = [IPv4Network(_ANYONE)]
    for denied in NOT_PUBLIC:
        ranges = [rest for range_ in ranges for rest in _without(range_, denied)]
    return tuple(str(range_) for range_ in sorted(ranges))


def _without(range_: IPv4Network, denied: IPv4Network) -> Iterable[IPv4Network]:
    return range_.address_exclude(denied) if denied.subnet_of(range_) else [range_]


@frozen
class Rules:
    """What a group lets through: its rules in and out, each as protocol, first port, last port and range."""

    inward: frozenset[tuple[str, int, int, str]]
    outward: frozenset[tuple[str, int, int, str]]

    @classmethod
    def of(cls, policy: NetworkPolicy, *, port: int) -> "Rules":
        """Return the rules of a policy: SSH in; nothing out, or whatever is public."""
        outward = public_ranges() if policy is NetworkPolicy.EGRESS else ()
        return cls(frozenset({("tcp", port, port, _ANYONE)}), frozenset(("-1", -1, -1, range_) for range_ in outward))

    @classmethod
    def read(cls, answer: dict[str, Any]) -> "Rules":
        """Return the rules that a group has."""
        return cls(_read(answer.get("IpPermissions", [])), _read(answer.get("IpPermissionsEgress", [])))

    def name(self, policy: NetworkPolicy, owner: str) -> str:
        """Return the name of the group with these rules."""
        told = repr((owner, sorted(self.inward), sorted(self.outward))).encode()
        return f"cb-{policy.value}-{sha256(told).hexdigest()[:20]}"


def _read(permissions: list[dict[str, Any]]) -> frozenset[tuple[str, int, int, str]]:
    found = set()
    for one in permissions:
        head = (one["IpProtocol"], one.get("FromPort", -1), one.get("ToPort", -1))
        found |= {(*head, range_["CidrIp"]) for range_ in one.get("IpRanges", [])}
        found |= {(*head, range_["CidrIpv6"]) for range_ in one.get("Ipv6Ranges", [])}
        found |= {(*head, pair.get("GroupId", "?")) for pair in one.get("UserIdGroupPairs", [])}
        found |= {(*head, list_["PrefixListId"]) for list_ in one.get("PrefixListIds", [])}
    return frozenset(found)


def _write(rules: Iterable[tuple[str, int, int, str]]) -> list[dict[str, Any]]:
    heads: dict[tuple[str, int, int], list[str]] = {}
    for protocol, first, last, range_ in sorted(rules):
        heads.setdefault((protocol, first, last), []).append(range_)
    return [_permission(head, ranges) for head, ranges in heads.items()]


def _permission(head: tuple[str, int, int], ranges: list[str]) -> dict[str, Any]:
    protocol, first, last = head
    kinds: dict[str, list[dict[str, str]]] = {}
    for range_ in ranges:
        key, word = _kind(range_)
        kinds.setdefault(key, []).append({word: range_})
    ports = {} if protocol == "-1" else {"FromPort": first, "ToPort": last}
    return {"IpProtocol": protocol, **ports, **kinds}


def _kind(range_: str) -> tuple[str, str]:
    if range_.startswith("pl-"):
        return "PrefixListIds", "PrefixListId"
    if range_.startswith("sg-"):
        return "UserIdGroupPairs", "GroupId"
    return ("Ipv6Ranges", "CidrIpv6") if ":" in range_ else ("IpRanges", "CidrIp")


class Groups:
    """The groups of one account, found or made at need, and looked at again now and then."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._making = anyio.Lock()
        self._known: dict[tuple[str, NetworkPolicy], tuple[int, str]] = {}

    def forget(self, region: str, policy: NetworkPolicy) -> None:
        """Look the group up again at the next need."""
        self._known.pop((region, policy), None)

    async def leave(self) -> None:
        """Delete what nothing runs in any more, in the regions that were used; another bridge's is met and left.

        :raises BackendError: if a region does not answer.
        """
        async with self._making:
            regions = sorted({region for region, _ in self._known})
            self._known.clear()
            for region in regions:
                await self._leave(region)

    async def _leave(self, region: str) -> None:
        account = self._account
        filters = [{"Name": f"tag:{OWNER}", "Values": [account.config.owner]}]
        found = await account.read(f"list security groups in {region}", partial(account.sdk.groups, region, filters))
        for group in found:
            with _unless("DependencyViolation", "InvalidGroup.InUse", "InvalidGroup.NotFound"):
                call = partial(account.sdk.unmake_group, region, str(group["GroupId"]))
                await account.change(f"delete a security group in {region}", call)

    async def of(self, region: str, policy: NetworkPolicy) -> str:
        """Return the id of the group of a policy, with exactly its rules.

        :raises BackendError: if it cannot be found or made.
        """
        async with self._making:
            now = self._account.clock.monotonic_ms()
            since, id_ = self._known.get((region, policy), (now - _KEEP_MS, ""))
            if now - since >= _KEEP_MS:
                id_ = await self._settled(region, policy)
                self._known[region, policy] = (now, id_)
            return id_

    async def _settled(self, region: str, policy: NetworkPolicy) -> str:
        account = self._account
        wanted = Rules.of(policy, port=account.config.ssh_port)
        name = wanted.name(policy, account.config.owner)
        vpc = await self._vpc(region)
        found = await self.find(region, vpc, name)
        if found is None:
            await self._make(region, vpc, name, policy)
            found = await self._made(region, vpc, name)
        await self._mend(region, found, wanted)
        return str(found["GroupId"])

    async def _vpc(self, region: str) -> str:
        account = self._account
        table = account.config.region(region)
        ids = sorted(table.subnets.values()) if table is not None else []
        found = await account.read(f"see the subnets in {region}", partial(account.sdk.subnets, region, ids))
        vpcs = sorted({subnet["VpcId"] for subnet in found})
        if len(vpcs) != 1 or len(found) != len(set(ids)):
            # Not for the order to be refused over: no order of this region could be served, and a mend makes it so.
            raise UnavailableError(
                f"backend {account.name}: of the subnets {', '.join(ids)} {len(found)} are in {region}, "
                f"in {len(vpcs)} VPCs; name subnets that exist, all of one VPC"
            )
        return str(vpcs[0])

    async def find(self, region: str, vpc: str, name: str) -> dict[str, Any] | None:
        """Return the group of this name, if it is there and ours."""
        account = self._account
        filters = [
            {"Name": "group-name", "Values": [name]},
            {"Name": "vpc-id", "Values": [vpc]},
            {"Name": f"tag:{OWNER}", "Values": [account.config.owner]},
        ]
        found = await account.read(
            f"look for a security group in {region}", partial(account.sdk.groups, region, filters)
        )
        return found[0] if found else None

    async def _make(self, region: str, vpc: str, name: str, policy: NetworkPolicy) -> None:
        account = self._account
        tags = [{"Key": "Name", "Value": name}, {"Key": OWNER, "Value": account.config.owner}]
        request = {
            "GroupName": name,
            "Description": f"compute-bridge: machines with the network policy {policy.value}",
            "VpcId": vpc,
            "TagSpecifications": [{"ResourceType": "security-group", "Tags": tags}],
        }
        with _unless("InvalidGroup.Duplicate"):
            await account.change(f"make a security group in {region}", partial(account.sdk.make_group, region, request))

    async def _made(self, region: str, vpc: str, name: str) -> dict[str, Any]:
        for _ in range(_TRIES):
            found = await self.find(region, vpc, name)
            if found is not None:
                return found
            await self._account.clock.sleep_ms(_AGAIN_MS)
        raise UnavailableError(
            f"backend {self._account.name}: security group {name} in {region} was made and is not to be seen, "
            "or somebody else's has its name; look at it in the console"
        )

    async def _mend(self, region: str, found: dict[str, Any], wanted: Rules) -> None:
        has = Rules.read(found)
        group = str(found["GroupId"])
        # First what lets too much through: nothing runs in a group that is half made.
        await self._set(region, Operation.DENY_OUT, group, has.outward - wanted.outward)
        await self._set(region, Operation.DENY_IN, group, has.inward - wanted.inward)
        await self._set(region, Operation.ALLOW_OUT, group, wanted.outward - has.outward)
        await self._set(region, Operation.ALLOW_IN, group, wanted.inward - has.inward)

    async def _set(
        self, region: str, operation: Operation, group: str, rules: frozenset[tuple[str, int, int, str]]
    ) -> None:
        if not rules:
            return
        sdk = self._account.sdk
        call = partial(sdk.set_rules, region, operation, group, _write(rules))
        # Another bridge of this owner may be at it as well.
        with _unless("InvalidPermission.Duplicate", "InvalidPermission.NotFound"):
            await self._account.change(f"set the rules of a security group in {region}", call)


class _unless:  # noqa: N801 - read as a word: with _unless(code)
    """Lets the errors with these codes pass as success."""

    def __init__(self, *codes: str) -> None:
        self._codes = codes

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        return isinstance(error, BackendError) and code_of(error) in self._codes
