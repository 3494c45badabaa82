"""EC2 in one region after another: what each operation does to the physics."""

import hashlib
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Launch, Machine, Refusal, Then
from compute_bridge.testing.physics.wire import Cut
from compute_bridge_aws.testing.ec2_groups import SecurityGroups
from compute_bridge_aws.testing.ec2_launch import Wanted, wanted
from compute_bridge_aws.testing.filters import filtered, values
from compute_bridge_aws.testing.iam import Access
from compute_bridge_aws.testing.refusal import AwsRefusal, refuse_dry_run
from compute_bridge_aws.testing.stock import ACCOUNT, SUBNETS, TYPES, VPCS, image
from compute_bridge_aws.testing.told import state_told, tag_list, told

Answer = dict[str, Any]
Require = Callable[[list[Access]], None]


class Ec2:
    """Every operation that the plugin calls; another is no operation of this fake.

    ``page`` is the most that a page holds, whatever is asked for. ``disabled`` are regions that are not opted in.
    """

    def __init__(self, physics: Physics, require: Require) -> None:
        self.physics = physics
        self.page = 1000
        self.disabled: set[str] = set()
        self._require = require
        self._numbers = count(1)
        self._groups = SecurityGroups(physics, require)

    def call(self, action: str, request: Mapping[str, Any], region: str) -> Answer:
        """Do what a request says.

        :raises AwsRefusal: if EC2 would refuse it.
        """
        self.require_enabled(region)
        if action.startswith("Describe"):
            self._require([Access(f"ec2:{action}", "*")])
        operations: dict[str, Callable[[Mapping[str, Any], str], Answer]] = {
            "DescribeRegions": self._describe_regions,
            "DescribeInstanceTypes": self._describe_types,
            "DescribeInstanceTypeOfferings": self._describe_offerings,
            "DescribeSpotPriceHistory": self._describe_spot_prices,
            "DescribeSpotInstanceRequests": self._describe_spot_requests,
            "DescribeImages": self._describe_images,
            "DescribeSubnets": self._describe_subnets,
            "DescribeInstances": self._describe_instances,
            "RunInstances": self._run,
            "TerminateInstances": self._terminate,
            "DescribeSecurityGroups": lambda asked, place: self._paged(
                asked, "SecurityGroups", self._groups.describe(asked, place)
            ),
            "CreateSecurityGroup": self._groups.create,
            "AuthorizeSecurityGroupIngress": self._groups.allow_in,
            "AuthorizeSecurityGroupEgress": self._groups.allow_out,
            "RevokeSecurityGroupIngress": self._groups.deny_in,
            "RevokeSecurityGroupEgress": self._groups.deny_out,
            "DeleteSecurityGroup": self._groups.delete,
        }
        if action not in operations:
            raise AwsRefusal("InvalidAction", f"this fake has no {action}")
        return operations[action](request, region)

    def require_enabled(self, region: str) -> None:
        """Refuse whoever calls in a region that is not enabled, as one whom it does not know.

        :raises AwsRefusal: ``AuthFailure``, if it is not.
        """
        if region in self.disabled:
            raise AwsRefusal("AuthFailure", "AWS was not able to validate the provided access credentials")

    def _paged(self, request: Mapping[str, Any], key: str, found: list[Any]) -> Answer:
        begin = int(request.get("NextToken", "0"))
        end = begin + min(self.page, request.get("MaxResults", 1000))
        return {key: found[begin:end], **({"NextToken": str(end)} if end < len(found) else {})}

    # --- what there is --------------------------------------------------------------------------

    def _describe_regions(self, request: Mapping[str, Any], _region: str) -> Answer:
        names = [*self.physics.zones, "af-south-1"]
        shown = names if request.get("AllRegions") else self.physics.zones
        return {"Regions": [{"RegionName": name, "OptInStatus": self._opted(name)} for name in shown]}

    def _opted(self, region: str) -> str:
        return "not-opted-in" if region in self.disabled or region == "af-south-1" else "opt-in-not-required"

    def _describe_types(self, request: Mapping[str, Any], region: str) -> Answer:
        fields = {
            "instance-type": lambda one: [one.name],
            "processor-info.supported-architecture": lambda one: [one.architecture],
        }
        here = [one for one in TYPES if any(zone.startswith(region) for zone in one.zones)]
        return self._paged(request, "InstanceTypes", [one.told() for one in filtered(request, here, fields)])

    def _describe_offerings(self, request: Mapping[str, Any], region: str) -> Answer:
        offered = [
            {"InstanceType": one.name, "LocationType": "availability-zone", "Location": zone}
            for one in TYPES
            for zone in one.zones
            if zone.startswith(region)
        ]
        fields = {"instance-type": lambda one: [one["InstanceType"]], "location": lambda one: [one["Location"]]}
        return self._paged(request, "InstanceTypeOfferings", list(filtered(request, offered, fields)))

    def _describe_spot_prices(self, request: Mapping[str, Any], region: str) -> Answer:
        if "StartTime" not in request or "Linux/UNIX" not in request.get("ProductDescriptions", []):
            raise AwsRefusal("InvalidParameterValue", "house rule: without a start and a product this pages for ever")
        history = [
            {
                "InstanceType": one.name,
                "AvailabilityZone": zone,
                "ProductDescription": "Linux/UNIX",
                "SpotPrice": one.spot_price,
                "Timestamp": self.physics.now_ms() - 3_600_000,
            }
            for one in TYPES
            for zone in one.zones
            if one.spot_price and zone.startswith(region) and one.name in request.get("InstanceTypes", [one.name])
        ]
        return self._paged(request, "SpotPriceHistory", history)

    def _describe_images(self, request: Mapping[str, Any], region: str) -> Answer:
        ids = values(request, "image-id")
        return {"Images": [told for told in (image(region, id_) for id_ in ids) if told is not None]}

    def _describe_subnets(self, request: Mapping[str, Any], region: str) -> Answer:
        subnets = [
            {
                "SubnetId": id_,
                "VpcId": VPCS[region],
                "AvailabilityZone": zone,
                "CidrBlock": "10.0.0.0/20",
                "AvailableIpAddressCount": 4000,
                "State": "available",
            }
            for zone, id_ in SUBNETS.items()
            if zone.startswith(region)
        ]
        fields = {"subnet-id": lambda one: [one["SubnetId"]]}
        return self._paged(request, "Subnets", list(filtered(request, subnets, fields)))

    # --- machines -------------------------------------------------------------------------------

    def _describe_instances(self, request: Mapping[str, Any], region: str) -> Answer:
        if "InstanceIds" in request:
            raise AwsRefusal("InvalidParameterCombination", "house rule: one unknown id fails the whole; use filters")
        fields: dict[str, Callable[[Machine], list[str]]] = {
            "instance-id": lambda one: [one.id],
            "client-token": lambda one: [one.token.partition("/")[2]],
            "instance-state-name": lambda one: [state_told(one)["Name"]],
        }
        found = filtered(request, self.physics.listed(region=region), fields, tags=lambda one: one.tags)
        reservations = [
            {"ReservationId": f"r-{machine.id[2:]}", "OwnerId": ACCOUNT, "Instances": [told(machine)]}
            for machine in found
        ]
        return self._paged(request, "Reservations", reservations)

    def _run(self, request: Mapping[str, Any], region: str) -> Answer:
        asked = wanted(request, region)
        tags = {} if request.get("DryRun") else self._groups.get(asked.group, region).tags
        self._require(asked.accesses(region, tags))
        refuse_dry_run(request)
        with self.physics.lock:
            launch = self._launch(asked, request, region)
            if launch.is_new:
                self._furnish(asked, launch.machine)
        if launch.is_answer_lost:
            raise Cut
        return {"ReservationId": f"r-{launch.machine.id[2:]}", "Instances": [told(launch.machine)]}

    def _launch(self, asked: Wanted, request: Mapping[str, Any], region: str) -> Launch:
        try:
            return self.physics.launch(
                region=region,
                zone=asked.zone,
                shape=asked.type.name,
                vcpus=asked.type.vcpus,
                id=f"i-{self._hex()}",
                name=asked.tags.get("instance", {}).get("Name", ""),
                token=f"{region}/{asked.token}",
                digest=asked.digest,
                spot=asked.is_spot,
                tags=asked.tags.get("instance", {}),
                document=dict(request),
                user_data=asked.user_data,
                on_guest_shutdown=Then.GONE if asked.goes_on_shutdown else Then.STOPPED,
            )
        except Refusal as refusal:
            raise AwsRefusal.of(refusal) from refusal

    def _hex(self) -> str:
        return hashlib.sha256(str(next(self._numbers)).encode()).hexdigest()[:17]

    def _furnish(self, asked: Wanted, machine: Machine) -> None:
        for kind, prefix, settings in (("volume", "vol", asked.volume), ("network-interface", "eni", asked.nic)):
            self.physics.add(
                kind,
                f"{prefix}-{self._hex()}",
                place=machine.zone,
                machine=machine.id,
                dies_with_machine=settings.get("DeleteOnTermination", kind == "volume"),
                tags=asked.tags.get(kind, {}),
                document=settings,
            )
        if asked.is_spot:
            tags = asked.tags.get("spot-instances-request", {})
            id_ = f"sir-{self._hex()[:8]}"
            self.physics.add("spot-request", id_, place=machine.region, machine=machine.id, tags=tags)

    def _terminate(self, request: Mapping[str, Any], region: str) -> Answer:
        machines = [self._named(id_, region) for id_ in request["InstanceIds"]]
        self._require(
            [
                Access(
                    "ec2:TerminateInstances",
                    f"arn:aws:ec2:{region}:{ACCOUNT}:instance/{machine.id}",
                    {f"aws:ResourceTag/{key}": value for key, value in machine.tags.items()},
                )
                for machine in machines
            ]
        )
        refuse_dry_run(request)
        ended = [(machine, self.physics.end(machine.id)) for machine in machines]
        return {
            "TerminatingInstances": [
                {"InstanceId": one.id, "PreviousState": state_told(one), "CurrentState": state_told(now)}
                for one, now in ended
            ]
        }

    def _named(self, id_: str, region: str) -> Machine:
        if not id_.startswith("i-"):
            raise AwsRefusal("InvalidInstanceID.Malformed", f"the instance id {id_} is malformed")
        try:
            machine = self.physics.get(id_)
        except Refusal as refusal:
            raise AwsRefusal.of(refusal) from refusal
        if machine.region != region:
            raise AwsRefusal("InvalidInstanceID.NotFound", f"the instance {id_} does not exist")
        return machine

    def _describe_spot_requests(self, request: Mapping[str, Any], region: str) -> Answer:
        fields: dict[str, Callable[[Answer], list[str]]] = {
            "state": lambda one: [one["State"]],
            "status-code": lambda one: [one["Status"]["Code"]],
        }
        requests = [
            self._spot_told(one.id, one.machine, one.tags)
            for one in self.physics.resources("spot-request")
            if one.place == region
        ]
        found = filtered(request, requests, fields, tags=lambda one: {tag["Key"]: tag["Value"] for tag in one["Tags"]})
        return self._paged(request, "SpotInstanceRequests", list(found))

    def _spot_told(self, id_: str, machine: str, tags: Mapping[str, str]) -> Answer:
        status = "marked-for-termination" if self.physics.get(machine).is_marked else "fulfilled"
        return {
            "SpotInstanceRequestId": id_,
            "InstanceId": machine,
            "State": "active",
            "Status": {"Code": status},
            "Tags": tag_list(tags),
        }
