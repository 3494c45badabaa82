"""Faults in what a cloud's SDK is given: what is forgotten in a request, and what is abandoned on the way.

A tag is forgotten everywhere that the request has it.
"""

import base64
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, TypeVar

from compute_bridge.cloud.machine import Cloud, Machines
from compute_bridge.cloud.tags import MAC, OWNER, TOKEN, token_word
from compute_bridge.testing.orders import new_token
from compute_bridge_aws.account import Account
from compute_bridge_aws.sdk import Sdk as AwsSdk
from compute_bridge_azure.cloud import AzureCloud
from compute_bridge_azure.sdk import Arm
from compute_bridge_gcp.cloud import GcpCloud
from compute_bridge_gcp.sdk import Sdk as GcpSdk
from plantedclouds.planting import ALL, AWS, AZURE, GCP, planted

T = TypeVar("T")
_ONE = "test_provision_starts_one_machine"
_BEHIND = "test_terminate_takes_the_switch_away"
_SLOW = "test_a_slow_create_that_is_cancelled_is_waited_for"
_SLOW_END = "test_a_slow_delete_that_is_cancelled_is_waited_for"
_SHARED = "test_two_bridges_that_share_an_account_leave_each_other_alone"


class _Run(AwsSdk):
    def run(self, region: str, request: dict[str, Any]) -> dict[str, Any]:
        return super().run(region, self.spoilt(deepcopy(request)))

    def spoilt(self, request: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class _Insert(GcpSdk):
    def insert(self, zone: str, request_id: str, body: Mapping[str, Any]) -> Any:
        return super().insert(zone, request_id, self.spoilt(deepcopy(dict(body))))

    def spoilt(self, body: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class _Put(Arm):
    def create_machine(self, name: str, body: dict[str, Any]) -> None:
        super().create_machine(name, self.spoilt(deepcopy(body)))

    def spoilt(self, body: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


def _nic(body: dict[str, Any]) -> Any:
    return body["properties"]["networkProfile"]["networkInterfaceConfigurations"][0]


def _address(body: dict[str, Any]) -> Any:
    return _nic(body)["properties"]["ipConfigurations"][0]["properties"]["publicIPAddressConfiguration"]


# --- the token ----------------------------------------------------------------------------------


@planted(_ONE, says="InvalidParameterValue", part="sdk", on=(AWS,))
class SkipsTheClientToken(_Run):
    """Sends no ClientToken."""

    def spoilt(self, request: dict[str, Any]) -> dict[str, Any]:
        """Leave it out."""
        del request["ClientToken"]
        return request


@planted(_ONE, says="required", part="sdk", on=(GCP,))
class SkipsTheRequestId(GcpSdk):
    """Sends no request id."""

    def insert(self, zone: str, request_id: str, body: Mapping[str, Any]) -> Any:
        """Leave it out."""
        return super().insert(zone, "", body)


@planted(_ONE, says="InvalidParameter", part="sdk", on=(AZURE,))
class SkipsIfNoneMatch(Arm):
    """Sends no ``If-None-Match: *``."""

    def create_machine(self, name: str, body: dict[str, Any]) -> None:
        """Make or change."""
        self._compute.virtual_machines.begin_create_or_update(self._group, name, body, polling=False, retry_total=0)


@planted("test_a_lost_reply_is_met_by_its_token", says="is in no listing", part="sdk", on=(AWS,))
class SendsAFreshToken(_Run):
    """Sends another token with each create, and tags the machine with it."""

    def spoilt(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make one up."""
        token = token_word(new_token())
        for one in request["TagSpecifications"]:
            one["Tags"] = [pair if pair["Key"] != TOKEN else {"Key": TOKEN, "Value": token} for pair in one["Tags"]]
        return request | {"ClientToken": token}


# --- the tags -----------------------------------------------------------------------------------


def _untagged(on: str, tag: str) -> type:
    """Return the slice of a cloud that forgets one tag, everywhere."""

    def aws(_self: Any, request: dict[str, Any]) -> dict[str, Any]:
        for one in request["TagSpecifications"]:
            one["Tags"] = [pair for pair in one["Tags"] if pair["Key"] != tag]
        return request

    def gcp(_self: Any, body: dict[str, Any]) -> dict[str, Any]:
        for labels in (body["labels"], body["disks"][0]["initialize_params"]["labels"]):
            labels.pop(tag, None)
        return body

    def azure(_self: Any, body: dict[str, Any]) -> dict[str, Any]:
        for one in (body, _nic(body), _address(body)):
            one["tags"].pop(tag, None)
        return body

    base, spoilt = {AWS: (_Run, aws), GCP: (_Insert, gcp), AZURE: (_Put, azure)}[on]
    doc = f"Forgets the tag {tag}."
    return type(f"Forgets{tag.title().replace('-', '')}", (base,), {"spoilt": spoilt, "__doc__": doc})


_REFUSED = {AWS: "UnauthorizedOperation", GCP: "required", AZURE: "RequestDisallowedByPolicy"}

for _tag in (OWNER, TOKEN, MAC):
    # A request without the owner's tag the policy of each account forbids; the other two each fake has its word for.
    _words = _REFUSED | ({AWS: "InvalidParameterValue"} if _tag == TOKEN else {})
    _words |= {AWS: "is in no listing"} if _tag == MAC else {}
    for _on in ALL:
        planted(_ONE, says=_words, part="sdk", on=(_on,))(_untagged(_on, _tag))


@planted(_ONE, says="UnauthorizedOperation", part="sdk", on=(AWS,))
class TagsNoVolume(_Run):
    """Forgets the tags of the volume."""

    def spoilt(self, request: dict[str, Any]) -> dict[str, Any]:
        """Leave them out."""
        kept = [one for one in request["TagSpecifications"] if one["ResourceType"] != "volume"]
        return request | {"TagSpecifications": kept}


@planted(_ONE, says="UnauthorizedOperation", part="sdk", on=(AWS,))
class TagsNoInterface(_Run):
    """Forgets the tags of the NIC."""

    def spoilt(self, request: dict[str, Any]) -> dict[str, Any]:
        """Leave them out."""
        kept = [one for one in request["TagSpecifications"] if one["ResourceType"] != "network-interface"]
        return request | {"TagSpecifications": kept}


@planted(_ONE, says="required", part="sdk", on=(GCP,))
class TagsNoDisk(_Insert):
    """Forgets the labels of the disk."""

    def spoilt(self, body: dict[str, Any]) -> dict[str, Any]:
        """Leave them out."""
        del body["disks"][0]["initialize_params"]["labels"]
        return body


@planted(_ONE, says="RequestDisallowedByPolicy", part="sdk", on=(AZURE,))
class TagsNoNic(_Put):
    """Forgets the tags of the NIC."""

    def spoilt(self, body: dict[str, Any]) -> dict[str, Any]:
        """Leave them out."""
        del _nic(body)["tags"]
        return body


@planted(_ONE, says="RequestDisallowedByPolicy", part="sdk", on=(AZURE,))
class TagsNoAddress(_Put):
    """Forgets the tags of the address."""

    def spoilt(self, body: dict[str, Any]) -> dict[str, Any]:
        """Leave them out."""
        del _address(body)["tags"]
        return body


# --- what stays behind --------------------------------------------------------------------------


@planted(_BEHIND, says="behind", part="sdk", on=(AWS,))
class LeavesTheVolume(_Run):
    """Leaves the volume behind."""

    def spoilt(self, request: dict[str, Any]) -> dict[str, Any]:
        """Keep it."""
        request["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] = False
        return request


@planted(_BEHIND, says="behind", part="sdk", on=(AWS,))
class LeavesTheInterface(_Run):
    """Leaves the NIC behind."""

    def spoilt(self, request: dict[str, Any]) -> dict[str, Any]:
        """Keep it."""
        request["NetworkInterfaces"][0]["DeleteOnTermination"] = False
        return request


@planted(_BEHIND, says="behind", part="sdk", on=(GCP,))
class LeavesTheDisk(_Insert):
    """Leaves the disk behind."""

    def spoilt(self, body: dict[str, Any]) -> dict[str, Any]:
        """Keep it."""
        body["disks"][0]["auto_delete"] = False
        return body


class DeletesNoPart(Cloud):
    """Sees the machines alone, and so deletes nothing that stays of one."""

    async def machines(self, place: str) -> Machines:
        """Leave out what only parts tell of."""
        found = await super().machines(place)  # type: ignore[safe-super]
        return {id_: machine for id_, machine in found.items() if not machine.stays}


class _Leaving(_Put):
    def spoilt(self, body: dict[str, Any]) -> dict[str, Any]:
        self.kept(body)["deleteOption"] = "Detach"
        return body

    def kept(self, body: dict[str, Any]) -> Any:
        raise NotImplementedError


@planted(_BEHIND, says="behind", part="sdk", on=(AZURE,), cloud=DeletesNoPart)
class LeavesTheNic(_Leaving):
    """Leaves the NIC behind."""

    def kept(self, body: dict[str, Any]) -> Any:
        """Keep it."""
        return _nic(body)["properties"]


@planted(_BEHIND, says="behind", part="sdk", on=(AZURE,), cloud=DeletesNoPart)
class LeavesTheAddress(_Leaving):
    """Leaves the address behind."""

    def kept(self, body: dict[str, Any]) -> Any:
        """Keep it."""
        return _address(body)["properties"]


@planted(_BEHIND, says="behind", part="sdk", on=(AZURE,), cloud=DeletesNoPart)
class LeavesTheOsDisk(_Leaving):
    """Leaves the disk behind."""

    def kept(self, body: dict[str, Any]) -> Any:
        """Keep it."""
        return body["properties"]["storageProfile"]["osDisk"]


# --- the host key -------------------------------------------------------------------------------


def _keyless(document: str) -> str:
    head, _, text = document.partition("\n")
    return f"{head}\n{json.dumps({key: value for key, value in json.loads(text).items() if key != 'ssh_keys'})}\n"


@planted(_ONE, says="did not provision within", part="sdk", on=(AWS,), patience_s=2.0)
class InstallsNoHostKeyByUserData(_Run):
    """Does not install the order's host key."""

    def spoilt(self, request: dict[str, Any]) -> dict[str, Any]:
        """Leave it out."""
        return request | {"UserData": _keyless(request["UserData"])}


@planted(_ONE, says="did not provision within", part="sdk", on=(GCP,), patience_s=2.0)
class InstallsNoHostKeyByMetadata(_Insert):
    """Does not install the order's host key."""

    def spoilt(self, body: dict[str, Any]) -> dict[str, Any]:
        """Leave it out."""
        for item in body["metadata"]["items"]:
            if item["key"] == "user-data":
                item["value"] = _keyless(item["value"])
        return body


@planted(_ONE, says="did not provision within", part="sdk", on=(AZURE,), patience_s=2.0)
class InstallsNoHostKeyByCustomData(_Put):
    """Does not install the order's host key."""

    def spoilt(self, body: dict[str, Any]) -> dict[str, Any]:
        """Leave it out."""
        profile = body["properties"]["osProfile"]
        told = _keyless(base64.b64decode(profile["customData"]).decode())
        profile["customData"] = base64.b64encode(told.encode()).decode()
        return body


# --- what is abandoned --------------------------------------------------------------------------


@planted(_SLOW, _SLOW_END, says="was abandoned", part="door", on=(AWS,))
class AbandonsChangesAtAws(Account):
    """Abandons a changing call on cancellation."""

    async def change(self, doing: str, call: Callable[[], T]) -> T:
        """Make it as if it changed nothing."""
        return await self.read(doing, call)


@planted(_SLOW, _SLOW_END, says="was abandoned", part="cloud", on=(GCP,))
class AbandonsChangesAtGcp(GcpCloud):
    """Abandons a changing call on cancellation."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calls.change = self.calls.read  # type: ignore[method-assign]


@planted(_SLOW, _SLOW_END, says="was abandoned", part="cloud", on=(AZURE,))
class AbandonsChangesAtAzure(AzureCloud):
    """Abandons a changing call on cancellation."""

    async def _change(self, doing: str, call: Callable[[], T]) -> T:
        return await self.read(doing, call)


# --- whose they are -----------------------------------------------------------------------------


@planted(_SHARED, says="the two bridges list", part="sdk", on=(AWS,))
class AsksForNoOwnerAtAws(AwsSdk):
    """Takes another owner's machines for ours."""

    def instances(self, region: str, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave the filter out."""
        return super().instances(region, [one for one in filters if one["Name"] != f"tag:{OWNER}"])


@planted(_SHARED, says="the two bridges list", part="sdk", on=(GCP,))
class AsksForNoOwnerAtGcp(GcpSdk):
    """Takes another owner's machines for ours."""

    def instances(self, where: str) -> Any:
        """Leave the filter out."""
        return super().instances("")


@planted(_SHARED, says="the two bridges list", part="sdk", on=(AZURE,))
class AsksForNoOwnerAtAzure(Arm):
    """Takes another owner's machines for ours."""

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        self._owner = config.owner

    def machines(self) -> Any:
        """Read every owner as ours."""
        found = super().machines()
        return [one | {"tags": one["tags"] | {OWNER: self._owner}} for one in found if one.get("tags")]
