"""What would change something, asked of AWS as dry runs: each changing call that this plugin makes."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from compute_bridge.cloud.tags import OWNER
from compute_bridge.ports.doctor import Finding, Verdict
from compute_bridge.ports.errors import BackendError
from compute_bridge_aws.account import Account, code_of
from compute_bridge_aws.catalog import Shape, Shelf
from compute_bridge_aws.config import AwsRegion
from compute_bridge_aws.errors import PASSED_DRY_RUN
from compute_bridge_aws.finding import failed
from compute_bridge_aws.image import Images, image_in
from compute_bridge_aws.launch import probe_request
from compute_bridge_aws.policy import KEY_ACTIONS
from compute_bridge_aws.sdk import Operation

# A rule that no group of ours has, nor gets by a dry run. Source: RFC 5737, TEST-NET-1.
_RULE = {"IpProtocol": "tcp", "FromPort": 9, "ToPort": 9, "IpRanges": [{"CidrIp": "192.0.2.0/32"}]}
_OF_A_GROUP = {
    Operation.ALLOW_IN: {"IpPermissions": [_RULE]},
    Operation.ALLOW_OUT: {"IpPermissions": [_RULE]},
    Operation.DENY_IN: {"IpPermissions": [_RULE]},
    Operation.DENY_OUT: {"IpPermissions": [_RULE]},
    Operation.UNMAKE_GROUP: {},
}


class DryRuns:
    """The dry runs of one account. ``ec2:CreateTags`` is asked with those that make something, which carry tags."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._config = account.config
        self._sdk = account.sdk

    def keys(self) -> Iterator[Finding]:
        """Yield what is known of the permissions to use the table's key: nothing, before a machine has started."""
        if self._config.kms_key:
            detail = "EC2 makes this call, and a dry run of a start does not: unknown until the first machine starts"
            mend = "if that fails, compare the identity's policy and the key's own with what the README says"
            for action in KEY_ACTIONS:
                yield Finding(f"permission {action}", Verdict.UNKNOWN, detail, mend)

    async def of(self, table: AwsRegion) -> list[Finding]:
        """Return what was found in a region.

        :raises BackendError: if what has to be known before is not told.
        """
        shelf = Shelf(self._account, Images(self._account))
        shapes, zones = await shelf.shapes(table), sorted(await shelf.zones(table))
        sold = [(zone, shapes[shape]) for zone, shape in zones if shape in shapes]
        if not sold:
            mend = "look at shapes, architecture and confidential"
            return [Finding(f"machine types {table.name}", Verdict.FAULT, "no zone of the table has any", mend)]
        findings = [await self._may_run(table, *sold[0])]
        if spot := [(zone, shape) for zone, shape in sold if shape.has_spot and self._config.spot]:
            findings.append(await self._may_run(table, *spot[0], spot=True))
        findings.append(await self._may_make_groups(table))
        return [*findings, *await self._may_change_groups(table), await self._may_end(table)]

    async def _may_run(self, table: AwsRegion, zone: str, shape: Shape, *, spot: bool = False) -> Finding:
        id_ = min(table.images.values())
        told = await self._account.read("see an image", partial(self._sdk.images, table.name, [id_]))
        what = "spot ec2:RunInstances" if spot else "ec2:RunInstances"
        if not told:
            return Finding(f"permission {what} {table.name}", Verdict.UNKNOWN, f"without image {id_}")
        image = image_in(told[0])
        subnet = table.subnets[zone]
        request = probe_request(self._config, image=image, shape=shape.name, subnet=subnet, spot=spot)
        return await self._asked(Operation.RUN, table, request, what=what)

    async def _may_make_groups(self, table: AwsRegion) -> Finding:
        ids = [min(table.subnets.values())]
        [subnet, *_] = await self._account.read("see a subnet", partial(self._sdk.subnets, table.name, ids)) or [{}]
        tags = [{"Key": OWNER, "Value": self._config.owner}]
        request = {
            "GroupName": "cb-dry-run",
            "Description": "a dry run",
            "VpcId": subnet.get("VpcId", "vpc-00000000"),
            "TagSpecifications": [{"ResourceType": "security-group", "Tags": tags}],
        }
        return await self._asked(Operation.MAKE_GROUP, table, request)

    async def _may_change_groups(self, table: AwsRegion) -> list[Finding]:
        owned = [{"Name": f"tag:{OWNER}", "Values": [self._config.owner]}]
        own = await self._account.read("list security groups", partial(self._sdk.groups, table.name, owned))
        if not own:
            return [_unasked(operation, table, "security group") for operation in _OF_A_GROUP]
        of = {"GroupId": own[0]["GroupId"]}
        return [await self._asked(operation, table, of | rules) for operation, rules in _OF_A_GROUP.items()]

    async def _may_end(self, table: AwsRegion) -> Finding:
        filters = [
            {"Name": f"tag:{OWNER}", "Values": [self._config.owner]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
        own = await self._account.read("list machines", partial(self._sdk.instances, table.name, filters))
        if not own:
            return _unasked(Operation.TERMINATE, table, "machine")
        return await self._asked(Operation.TERMINATE, table, {"InstanceIds": [own[0]["InstanceId"]]})

    async def _asked(
        self, operation: Operation, table: AwsRegion, request: dict[str, Any], *, what: str = ""
    ) -> Finding:
        what = what or operation.action
        check = f"permission {what} {table.name}"
        try:
            call = partial(self._sdk.dry_run, operation, table.name, request)
            await self._account.read(f"ask for {what}", call)
        except BackendError as error:
            if code_of(error) == PASSED_DRY_RUN:
                return Finding(check, Verdict.OK, "a dry run passed")
            return failed(check, error)
        return Finding(
            check, Verdict.UNKNOWN, "AWS did not take it for a dry run", "report this to the plugin's author"
        )


def _unasked(operation: Operation, table: AwsRegion, kind: str) -> Finding:
    detail = f"no {kind} of ours to ask about: unknown until there is one"
    return Finding(f"permission {operation.action} {table.name}", Verdict.UNKNOWN, detail)
