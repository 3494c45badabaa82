"""The doctor: could this account serve a lease? Reads and dry runs only."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import IPv4Network
from typing import Any

from compute_bridge.cloud.tags import OWNER
from compute_bridge.model.resources import NetworkPolicy
from compute_bridge.ports.doctor import Finding, Verdict
from compute_bridge.ports.errors import BackendError
from compute_bridge_aws.account import Account
from compute_bridge_aws.config import AwsRegion
from compute_bridge_aws.dry_runs import DryRuns
from compute_bridge_aws.finding import failed
from compute_bridge_aws.group import NOT_PUBLIC
from compute_bridge_aws.image import faults_of
from compute_bridge_aws.metrics import metric_queries
from compute_bridge_aws.quotas import Quotas, code_for, used_by

# Source: AWS General Reference, Signature Version 4: a request is valid within five minutes of its time stamp.
_SKEW_MS = 60_000
_FEW_ADDRESSES = 16


class Doctor:
    """Examines one account, once."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._config = account.config
        self._sdk = account.sdk
        self._dry_runs = DryRuns(account)

    async def examine(self) -> tuple[Finding, ...]:
        """Return the identity, and then what stands with it; nothing more under an identity that is not the pinned."""
        found = await self._identity()
        if found[0].verdict is not Verdict.OK:
            return found
        rest = [finding async for finding in self._rest()]
        return (*found, *rest)

    async def _identity(self) -> tuple[Finding, ...]:
        try:
            told = await self._account.ask_identity()
        except BackendError as error:
            return (failed("identity", error),)
        account, arn = str(told.get("Account", "")), str(told.get("Arn", ""))
        if account != self._config.account_id:
            mend = "change the credentials, or account_id"
            detail = f"{arn} of account {account}, and the table pins {self._config.account_id}"
            return (Finding("identity", Verdict.FAULT, detail[:500], mend),)
        return (Finding("identity", Verdict.OK, f"{arn} of account {account}"[:500]), self._clock(told))

    def _clock(self, told: dict[str, object]) -> Finding:
        metadata: Any = told.get("ResponseMetadata", {})
        date = metadata.get("HTTPHeaders", {}).get("date", "")
        if not date:
            return Finding("clock", Verdict.UNKNOWN, "AWS told no time")
        skew_ms = self._account.clock.utc_ms() - round(parsedate_to_datetime(date).timestamp() * 1000)
        detail = f"{abs(skew_ms) / 1000:.0f} s {'ahead of' if skew_ms > 0 else 'behind'} AWS"
        if abs(skew_ms) <= _SKEW_MS:
            return Finding("clock", Verdict.OK, detail)
        return Finding("clock", Verdict.FAULT, detail, "set this machine's clock, and keep it by NTP")

    async def _rest(self) -> AsyncIterator[Finding]:
        yield await self._asked("permission ec2:DescribeRegions", self._regions)
        yield await self._asked("permission pricing:GetProducts", self._prices)
        for table in self._config.regions:
            async for finding in self._region(table):
                yield finding
        for finding in self._dry_runs.keys():
            yield finding

    async def _asked(self, check: str, ask: Callable[[], Awaitable[Finding | str]]) -> Finding:
        try:
            answer = await ask()
        except BackendError as error:
            return failed(check, error)
        return answer if isinstance(answer, Finding) else Finding(check, Verdict.OK, answer)

    async def _regions(self) -> Finding | str:
        told = await self._account.read_anywhere("list the regions", self._sdk.regions)
        states = {one["RegionName"]: str(one.get("OptInStatus", "")) for one in told}
        missing = [table.name for table in self._config.regions if states.get(table.name, "") in ("", "not-opted-in")]
        if missing:
            mend = (
                "enable them in the account's settings; before you leave one out of the table, see that nothing runs "
                "there: it is billed all the same"
            )
            return Finding("regions", Verdict.FAULT, f"not enabled: {', '.join(missing)}"[:500], mend)
        return f"all {len(self._config.regions)} regions are enabled"

    async def _prices(self) -> Finding | str:
        terms = {
            "regionCode": self._config.regions[0].name,
            "productFamily": "Storage",
            "volumeApiName": self._config.volume_type,
        }
        found = await self._account.read("read a price", partial(self._sdk.products, terms))
        if found:
            return f"{self._config.volume_type} has a price"
        return Finding(
            "prices", Verdict.FAULT, f"no price of {self._config.volume_type}", "set volume_type to one that there is"
        )

    # --- one region -----------------------------------------------------------------------------

    async def _region(self, table: AwsRegion) -> AsyncIterator[Finding]:
        for action, call in self._reads(table):
            yield await self._asked(f"permission {action} {table.name}", partial(self._read, action, call))
        for finding in await self._either(f"quotas {table.name}", self._quotas, table):
            yield finding
        for finding in await self._either(f"subnets {table.name}", self._subnets, table):
            yield finding
        for finding in await self._either(f"images {table.name}", self._images, table):
            yield finding
        for finding in await self._either(f"permission ec2:RunInstances {table.name}", self._dry_runs.of, table):
            yield finding

    async def _either(
        self, check: str, look: Callable[[AwsRegion], Awaitable[list[Finding]]], table: AwsRegion
    ) -> list[Finding]:
        try:
            return await look(table)
        except BackendError as error:
            return [failed(check, error)]

    def _reads(self, table: AwsRegion) -> Iterator[tuple[str, Callable[[], Any]]]:
        sdk, region = self._sdk, table.name
        nothing = [{"Name": "instance-type", "Values": ["none.none"]}]
        owned = [{"Name": f"tag:{OWNER}", "Values": [self._config.owner]}]
        yield "ec2:DescribeInstances", partial(sdk.instances, region, owned)
        yield "ec2:DescribeInstanceTypes", partial(sdk.types, region, nothing)
        yield "ec2:DescribeInstanceTypeOfferings", partial(sdk.offerings, region, nothing)
        yield "ec2:DescribeSecurityGroups", partial(sdk.groups, region, owned)
        now = datetime.fromtimestamp(self._account.clock.utc_ms() / 1000, UTC)
        if self._config.spot:
            yield "ec2:DescribeSpotInstanceRequests", partial(sdk.spot_requests, region, owned)
            some = partial(sdk.spot_prices, region, ["t3.micro"], now, ["Linux/UNIX"])
            yield "ec2:DescribeSpotPriceHistory", some
        if self._config.metrics:
            queries = metric_queries(["i-00000000000000000"])
            yield "cloudwatch:GetMetricData", partial(sdk.metrics, region, queries, now - timedelta(minutes=5), now)

    async def _read(self, action: str, call: Callable[[], Any]) -> str:
        await self._account.read(action, call)
        return "answers"

    async def _quotas(self, table: AwsRegion) -> list[Finding]:
        limits = await Quotas(self._account).read(table.name)
        states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        running = await self._account.read("count machines", partial(self._sdk.instances, table.name, states))
        used = used_by(running)
        kinds = [spot for spot, is_sold in ((False, self._config.on_demand), (True, self._config.spot)) if is_sold]
        codes = sorted({code_for(shape, spot=spot) for shape in self._config.shapes for spot in kinds} - {""})
        return [_quota(f"quota {code} {table.name}", limits.get(code), used[code]) for code in codes]

    async def _subnets(self, table: AwsRegion) -> list[Finding]:
        ids = sorted(table.subnets.values())
        told = await self._account.read("see the subnets", partial(self._sdk.subnets, table.name, ids))
        found = {one["SubnetId"]: one for one in told}
        vpcs = {one["VpcId"] for one in told}
        findings = [self._subnet(zone, id_, found.get(id_)) for zone, id_ in sorted(table.subnets.items())]
        if len(vpcs) > 1:
            detail = f"the subnets are of {len(vpcs)} VPCs"
            findings.append(Finding(f"subnets {table.name}", Verdict.FAULT, detail, "name subnets of one VPC"))
        return findings

    def _subnet(self, zone: str, id_: str, told: dict[str, Any] | None) -> Finding:
        check = f"subnet {zone}"
        if told is None or told["AvailabilityZone"] != zone:
            where = "is not there" if told is None else f"is in {told['AvailabilityZone']}"
            return Finding(check, Verdict.FAULT, f"{id_} {where}", "name a subnet of this zone")
        free = told.get("AvailableIpAddressCount", 0)
        range_ = IPv4Network(told["CidrBlock"])
        if NetworkPolicy.EGRESS in self._config.networks and not any(range_.subnet_of(one) for one in NOT_PUBLIC):
            mend = "use a subnet with private addresses, or sell isolated only"
            return Finding(check, Verdict.FAULT, f"{id_} has public addresses: leases could reach each other", mend)
        if free < _FEW_ADDRESSES:
            return Finding(check, Verdict.FAULT, f"{id_} has {free} free addresses", "use a larger subnet")
        return Finding(check, Verdict.OK, f"{id_} has {free} free addresses")

    async def _images(self, table: AwsRegion) -> list[Finding]:
        ids = sorted(table.images.values())
        told = await self._account.read("see the images", partial(self._sdk.images, table.name, ids))
        found = {one["ImageId"]: one for one in told}
        return [self._image(f"image {name} {table.name}", id_, found.get(id_)) for name, id_ in table.images.items()]

    def _image(self, check: str, id_: str, told: dict[str, Any] | None) -> Finding:
        if told is None:
            return Finding(check, Verdict.FAULT, f"{id_} is not there", "map one that is")
        for fault in faults_of(told, self._config):
            detail, _, mend = fault.partition("; ")
            return Finding(check, Verdict.FAULT, f"{id_} {detail}", mend)
        return Finding(check, Verdict.OK, id_)


def _quota(check: str, limit: float | None, used: int) -> Finding:
    if limit is None:
        return Finding(check, Verdict.UNKNOWN, "AWS tells no such quota")
    detail = f"{used} of {limit:.0f} vCPUs are used"
    return (
        Finding(check, Verdict.OK, detail)
        if used < limit
        else Finding(check, Verdict.FAULT, detail, "ask AWS to raise the quota")
    )
