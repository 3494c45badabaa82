"""Security groups as EC2 keeps them: by name in a VPC, each born with a rule that lets everything out."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Machine, Refusal, Resource
from compute_bridge_aws.testing.filters import filtered
from compute_bridge_aws.testing.iam import Access
from compute_bridge_aws.testing.refusal import AwsRefusal, refuse_dry_run
from compute_bridge_aws.testing.stock import ACCOUNT, VPCS
from compute_bridge_aws.testing.told import tag_list

KIND = "security-group"
MAX_RULES = 60
"""Source: Amazon VPC quotas, "Inbound or outbound rules per security group"."""
_IN, _OUT = "IpPermissions", "IpPermissionsEgress"
Answer = dict[str, Any]
Rule = tuple[str, int, int, str]


class SecurityGroups:
    """The groups of an account."""

    def __init__(self, physics: Physics, require: Callable[[list[Access]], None]) -> None:
        self._physics = physics
        self._require = require

    def get(self, id_: str, region: str) -> Resource:
        """Return a group.

        :raises AwsRefusal: if it is not in the region.
        """
        try:
            group = self._physics.resource(KIND, id_)
        except Refusal as refusal:
            raise AwsRefusal("InvalidGroup.NotFound", f"the security group {id_} does not exist") from refusal
        if group.place != region:
            raise AwsRefusal("InvalidGroup.NotFound", f"the security group {id_} does not exist")
        return group

    def describe(self, request: Mapping[str, Any], region: str) -> list[Answer]:
        """Return what the filters let through."""
        fields: dict[str, Callable[[Resource], list[str]]] = {
            "group-name": lambda one: [one.document["GroupName"]],
            "vpc-id": lambda one: [one.document["VpcId"]],
        }
        here = [one for one in self._physics.resources(KIND) if one.place == region]
        return [_told(one) for one in filtered(request, here, fields, tags=lambda one: one.tags)]

    def create(self, request: Mapping[str, Any], region: str) -> Answer:
        """Make a group."""
        tags = {tag["Key"]: tag["Value"] for one in request.get("TagSpecifications", []) for tag in one["Tags"]}
        vpc = request.get("VpcId", "")
        if vpc != VPCS[region]:
            raise AwsRefusal("InvalidVpcID.NotFound", f"the vpc {vpc} does not exist")
        arn = f"arn:aws:ec2:{region}:{ACCOUNT}"
        self._require(
            [
                Access("ec2:CreateSecurityGroup", f"{arn}:security-group/*", _context("aws:RequestTag", tags)),
                Access("ec2:CreateSecurityGroup", f"{arn}:vpc/{vpc}"),
                Access("ec2:CreateTags", f"{arn}:security-group/*", {"ec2:CreateAction": "CreateSecurityGroup"}),
            ]
        )
        refuse_dry_run(request)
        name = request["GroupName"]
        id_ = f"sg-{hashlib.sha256(f'{vpc}/{name}'.encode()).hexdigest()[:17]}"
        document = {
            "GroupName": name,
            "Description": request["Description"],
            "VpcId": vpc,
            _IN: frozenset(),
            _OUT: frozenset({("-1", -1, -1, "0.0.0.0/0")}),
        }
        try:
            self._physics.add(KIND, id_, place=region, tags=tags, document=document)
        except Refusal as refusal:
            raise AwsRefusal.of(refusal) from refusal
        return {"GroupId": id_, "Tags": tag_list(tags)}

    def delete(self, request: Mapping[str, Any], region: str) -> Answer:
        """Delete a group that no machine's interface is in."""
        with self._physics.lock:
            group = self.get(request.get("GroupId", ""), region)
            self._require([_on(group, region, "DeleteSecurityGroup")])
            refuse_dry_run(request)
            users = [one.id for one in self._physics.existing() if group.id in _groups_of(one)]
            try:
                self._physics.remove(KIND, group.id, used_by=users)
            except Refusal as refusal:
                raise AwsRefusal.of(refusal) from refusal
        return {"Return": True, "GroupId": group.id}

    def allow_in(self, request: Mapping[str, Any], region: str) -> Answer:
        """Add inbound rules."""
        return self._allow(request, region, _IN, "AuthorizeSecurityGroupIngress")

    def allow_out(self, request: Mapping[str, Any], region: str) -> Answer:
        """Add outbound rules."""
        return self._allow(request, region, _OUT, "AuthorizeSecurityGroupEgress")

    def deny_in(self, request: Mapping[str, Any], region: str) -> Answer:
        """Take inbound rules away."""
        return self._deny(request, region, _IN, "RevokeSecurityGroupIngress")

    def deny_out(self, request: Mapping[str, Any], region: str) -> Answer:
        """Take outbound rules away."""
        return self._deny(request, region, _OUT, "RevokeSecurityGroupEgress")

    def _allow(self, request: Mapping[str, Any], region: str, side: str, action: str) -> Answer:
        with self._physics.lock:
            group, rules = self._asked(request, region, action)
            has = group.document[side]
            if has & rules:
                raise AwsRefusal("InvalidPermission.Duplicate", "the specified rule already exists")
            if len(has | rules) > MAX_RULES:
                raise AwsRefusal("RulesPerSecurityGroupLimitExceeded")
            self._physics.put(evolve(group, document={**group.document, side: has | rules}))
        return {"Return": True}

    def _deny(self, request: Mapping[str, Any], region: str, side: str, action: str) -> Answer:
        with self._physics.lock:
            group, rules = self._asked(request, region, action)
            has = group.document[side]
            if not rules <= has:
                raise AwsRefusal("InvalidPermission.NotFound", "the specified rule does not exist")
            self._physics.put(evolve(group, document={**group.document, side: has - rules}))
        return {"Return": True}

    def _asked(self, request: Mapping[str, Any], region: str, action: str) -> tuple[Resource, frozenset[Rule]]:
        group = self.get(request.get("GroupId", ""), region)
        self._require([_on(group, region, action)])
        refuse_dry_run(request)
        rules = frozenset(rule for one in request.get("IpPermissions", []) for rule in _rules(one))
        if not rules:
            raise AwsRefusal("MissingParameter", "the request must contain a rule")
        return group, rules


def _on(group: Resource, region: str, action: str) -> Access:
    arn = f"arn:aws:ec2:{region}:{ACCOUNT}:security-group/{group.id}"
    return Access(f"ec2:{action}", arn, _context("aws:ResourceTag", group.tags))


def _groups_of(machine: Machine) -> list[str]:
    return [id_ for nic in machine.document.get("NetworkInterfaces", ()) for id_ in nic["Groups"]]


def _context(where: str, tags: Mapping[str, str]) -> dict[str, str]:
    return {f"{where}/{key}": value for key, value in tags.items()}


def _rules(one: Mapping[str, Any]) -> list[Rule]:
    head = (one["IpProtocol"], one.get("FromPort", -1), one.get("ToPort", -1))
    if head[0] == "tcp" and "FromPort" not in one:
        raise AwsRefusal("MissingParameter", "tcp wants ports")
    ranges = [range_["CidrIp"] for range_ in one.get("IpRanges", [])]
    return [(*head, range_) for range_ in [*ranges, *(range_["CidrIpv6"] for range_ in one.get("Ipv6Ranges", []))]]


def _told(group: Resource) -> Answer:
    return {
        "GroupId": group.id,
        "GroupName": group.document["GroupName"],
        "Description": group.document["Description"],
        "VpcId": group.document["VpcId"],
        "OwnerId": ACCOUNT,
        "Tags": tag_list(group.tags),
        _IN: [_permission(rule) for rule in sorted(group.document[_IN])],
        _OUT: [_permission(rule) for rule in sorted(group.document[_OUT])],
    }


def _permission(rule: Rule) -> Answer:
    protocol, first, last, range_ = rule
    ports = {} if protocol == "-1" else {"FromPort": first, "ToPort": last}
    key, word = ("Ipv6Ranges", "CidrIpv6") if ":" in range_ else ("IpRanges", "CidrIp")
    return {"IpProtocol": protocol, **ports, key: [{word: range_}]}
