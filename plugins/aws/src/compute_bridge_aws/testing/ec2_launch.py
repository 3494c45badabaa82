"""RunInstances, refused wherever EC2 refuses it; and two rules of the house for whoever shares an account with others.

The rules of the house: the client token must be the one on the tag, or nobody could find the machine by it again; and
everything that is made must carry the same tags.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from compute_bridge.cloud.tags import TOKEN
from compute_bridge_aws.testing.iam import Access
from compute_bridge_aws.testing.refusal import AwsRefusal
from compute_bridge_aws.testing.stock import ACCOUNT, BY_NAME, SUBNETS, Type, image

_NOT_OURS = ("KernelId", "RamdiskId", "LaunchTemplate", "AdditionalInfo", "SubnetId", "SecurityGroups")
_KINDS = ("instance", "volume", "network-interface", "spot-instances-request")
_MAX_DATA = 16_384
_MAX_TOKEN = 64
_MAX_TAGS = 50


@frozen
class Wanted:
    """A request that holds, taken apart."""

    type: Type
    zone: str
    subnet: str
    group: str
    image: str
    is_spot: bool
    token: str
    digest: str
    user_data: bytes
    tags: Mapping[str, Mapping[str, str]]
    volume: Mapping[str, Any]
    nic: Mapping[str, Any]
    goes_on_shutdown: bool

    def accesses(self, region: str, group_tags: Mapping[str, str]) -> list[Access]:
        """Return what IAM is asked for this request."""
        run, tag = "ec2:RunInstances", "ec2:CreateTags"
        made = ["instance", "volume", "network-interface", *(["spot-instances-request"] if self.is_spot else [])]
        asked = [
            Access(run, f"arn:aws:ec2:{region}:{ACCOUNT}:{kind}/*", _requested(self.tags.get(kind, {})))
            for kind in made
        ]
        birth = {"ec2:CreateAction": "RunInstances"}
        asked += [
            Access(tag, f"arn:aws:ec2:{region}:{ACCOUNT}:{kind}/*", birth) for kind, tags in self.tags.items() if tags
        ]
        owned = {f"aws:ResourceTag/{key}": value for key, value in group_tags.items()}
        return [
            *asked,
            Access(run, f"arn:aws:ec2:{region}::image/{self.image}"),
            Access(run, f"arn:aws:ec2:{region}:{ACCOUNT}:subnet/{self.subnet}"),
            Access(run, f"arn:aws:ec2:{region}:{ACCOUNT}:security-group/{self.group}", owned),
        ]


def _requested(tags: Mapping[str, str]) -> dict[str, str]:
    return {f"aws:RequestTag/{key}": value for key, value in tags.items()}


def wanted(request: Mapping[str, Any], region: str) -> Wanted:
    """Return what a request wants.

    :raises AwsRefusal: if EC2, or the house, would refuse it.
    """
    _refuse_combinations(request)
    nic = _interface(request)
    zone = next((zone for zone, subnet in SUBNETS.items() if subnet == nic["SubnetId"]), "")
    if not zone.startswith(region):
        raise AwsRefusal("InvalidSubnetID.NotFound", f"the subnet {nic['SubnetId']} does not exist")
    type_ = _type(request, zone)
    snapshot_gib = _image(request, region, type_)
    tags = _tags(request)
    is_spot = _is_spot(request)
    if is_spot and not type_.spot_price:
        raise AwsRefusal("InvalidParameterCombination", f"{type_.name} is not sold as spot")
    if "spot-instances-request" in tags and not is_spot:
        raise AwsRefusal("InvalidParameterCombination", "there is no spot request to be tagged")
    return Wanted(
        type=type_,
        zone=zone,
        subnet=nic["SubnetId"],
        group=nic.get("Groups", ["sg-default"])[0],
        image=request["ImageId"],
        is_spot=is_spot,
        token=_token(request, tags),
        digest=_digest(request),
        user_data=_user_data(request),
        tags=tags,
        volume=_volume(request, snapshot_gib),
        nic=nic,
        goes_on_shutdown=request.get("InstanceInitiatedShutdownBehavior", "stop") == "terminate",
    )


def _refuse_combinations(request: Mapping[str, Any]) -> None:
    if request["MinCount"] != 1 or request["MaxCount"] != 1:
        raise AwsRefusal("Unsupported", "this fake starts one machine at a time")
    if foreign := [name for name in _NOT_OURS if name in request]:
        raise AwsRefusal("Unsupported", f"this fake takes no {foreign[0]}")
    if "SecurityGroupIds" in request:
        raise AwsRefusal("InvalidParameterCombination", "network interfaces and security groups on the same request")
    if "IamInstanceProfile" in request:
        raise AwsRefusal("UnauthorizedOperation", "not authorized: iam:PassRole")
    options = request.get("MetadataOptions", {})
    if options.get("HttpTokens") != "required" or options.get("HttpPutResponseHopLimit") != 1:
        raise AwsRefusal("UnauthorizedOperation", "an account-wide policy wants IMDSv2 with one hop")


def _interface(request: Mapping[str, Any]) -> dict[str, Any]:
    [nic, *more] = request.get("NetworkInterfaces", []) or [None]
    if nic is None or more or nic.get("DeviceIndex") != 0:
        raise AwsRefusal("InvalidParameterValue", "this fake wants one network interface, of index 0")
    # Without one it is the VPC's own, of which a dry run may ask.
    groups = 0 if request.get("DryRun") else 1
    if len(nic.get("Groups", [])) != groups or "SubnetId" not in nic:
        raise AwsRefusal("MissingParameter", "the network interface wants a subnet and a security group")
    return dict(nic)


def _type(request: Mapping[str, Any], zone: str) -> Type:
    name = request.get("InstanceType", "m1.small")
    type_ = BY_NAME.get(name)
    if type_ is None or zone not in type_.zones:
        raise AwsRefusal("Unsupported", f"the instance type {name} is not supported in {zone}")
    options = request.get("CpuOptions", {})
    if options.get("AmdSevSnp") == "enabled" and "amd-sev-snp" not in type_.features:
        raise AwsRefusal("InvalidParameterCombination", f"{name} does not support AMD SEV-SNP")
    if set(options) - {"AmdSevSnp"}:
        raise AwsRefusal("Unsupported", "this fake takes no other CPU options")
    return type_


def _image(request: Mapping[str, Any], region: str, type_: Type) -> int:
    """Return the size of its snapshot in GiB."""
    id_ = request.get("ImageId", "")
    told = image(region, id_)
    if told is None:
        raise AwsRefusal("InvalidAMIID.NotFound", f"the image id {id_} does not exist")
    if told["Architecture"] != type_.architecture:
        raise AwsRefusal("InvalidParameterValue", f"the architecture of {id_} is not that of {type_.name}")
    needs_uefi = request.get("CpuOptions", {}).get("AmdSevSnp") == "enabled"
    if needs_uefi and not told["BootMode"].startswith("uefi"):
        raise AwsRefusal("InvalidParameterCombination", "AMD SEV-SNP needs an image that boots by UEFI")
    return int(told["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"])


def _volume(request: Mapping[str, Any], snapshot_gib: int) -> dict[str, Any]:
    disks = {disk["DeviceName"]: disk.get("Ebs", {}) for disk in request.get("BlockDeviceMappings", [])}
    if set(disks) != {"/dev/xvda"}:
        raise AwsRefusal("InvalidBlockDeviceMapping", "this image has one device, /dev/xvda")
    disk = disks["/dev/xvda"]
    if disk.get("VolumeSize", snapshot_gib) < snapshot_gib:
        raise AwsRefusal("InvalidBlockDeviceMapping", "the volume is smaller than the snapshot")
    if not disk.get("Encrypted"):
        raise AwsRefusal("UnauthorizedOperation", "an account-wide policy wants encrypted volumes")
    return dict(disk)


def _tags(request: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for one in request.get("TagSpecifications", []):
        tags = {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])}
        kind = one.get("ResourceType", "")
        if kind not in _KINDS or kind in found or len(tags) > _MAX_TAGS or len(tags) != len(one.get("Tags", [])):
            raise AwsRefusal("InvalidParameterValue", f"the tags of {kind or 'nothing'} are not well")
        if any(not 1 <= len(key) <= 128 or len(value) > 256 or key.startswith("aws:") for key, value in tags.items()):
            raise AwsRefusal("InvalidParameterValue", "a tag is too long")
        found[kind] = tags
    if len({json.dumps(tags, sort_keys=True) for tags in found.values()}) > 1:
        raise AwsRefusal("InvalidParameterValue", "house rule: everything carries the same tags")
    return found


def _token(request: Mapping[str, Any], tags: Mapping[str, Mapping[str, str]]) -> str:
    token = str(request.get("ClientToken", ""))
    if not token.isascii() or len(token) > _MAX_TOKEN:
        raise AwsRefusal("InvalidParameterValue", "the client token is too long")
    if token != tags.get("instance", {}).get(TOKEN, "") and not request.get("DryRun"):
        raise AwsRefusal("InvalidParameterValue", "house rule: the client token is the one on the tag")
    return token


def _is_spot(request: Mapping[str, Any]) -> bool:
    market = request.get("InstanceMarketOptions")
    if market is None:
        return False
    options = market.get("SpotOptions", {})
    if market.get("MarketType") != "spot" or options.get("SpotInstanceType") != "one-time":
        raise AwsRefusal("InvalidParameterValue", "this fake sells one-time spot requests")
    if options.get("InstanceInterruptionBehavior", "terminate") != "terminate":
        raise AwsRefusal("InvalidParameterCombination", "a one-time request is interrupted by termination")
    return True


def _user_data(request: Mapping[str, Any]) -> bytes:
    try:
        data = base64.b64decode(request.get("UserData", ""), validate=True)
    except binascii.Error as error:
        raise AwsRefusal("InvalidUserData.Malformed", "the user data is no base64") from error
    if len(data) > _MAX_DATA:
        raise AwsRefusal("InvalidParameterValue", "user data is limited to 16384 bytes")
    return data


def _digest(request: Mapping[str, Any]) -> str:
    told = {key: value for key, value in request.items() if key not in ("ClientToken", "DryRun")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
