"""The images of the table, as each region has them."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from compute_bridge.ports.errors import UnservableError
from compute_bridge_aws.account import Account
from compute_bridge_aws.config import AwsConfig
from compute_bridge_aws.launch import Image


def faults_of(answer: dict[str, Any], config: AwsConfig) -> Iterator[str]:
    """Yield what is wrong with an image, each as a clause that says the mend."""
    if answer.get("State") != "available":
        yield f"is {answer.get('State')}; wait until it is available, or map another"
    if answer.get("Architecture") != config.architecture:
        yield f"is for {answer.get('Architecture')}, and the table sells {config.architecture}; map one that is"
    if answer.get("RootDeviceType") != "ebs" or not answer.get("RootDeviceName"):
        yield "has no EBS root device, so it cannot be encrypted and taken away; map one that has"
    if config.confidential and answer.get("BootMode", "") not in ("uefi", "uefi-preferred"):
        yield "does not boot by UEFI, which SEV-SNP needs; map one that does"


class Images:
    """What is known of each image: asked once for each region, for an image never changes."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._known: dict[tuple[str, str], Image] = {}

    async def of(self, region: str, name: str) -> Image:
        """Return the image of this name in a region.

        :raises UnservableError: if it is not there or cannot be used.
        """
        table = self._account.config.region(region)
        id_ = table.images[name] if table is not None else ""
        if (region, id_) not in self._known:
            self._known[region, id_] = await self._looked_up(region, name, id_)
        return self._known[region, id_]

    async def _looked_up(self, region: str, name: str, id_: str) -> Image:
        account = self._account
        found = await account.read(f"see the images in {region}", partial(account.sdk.images, region, [id_]))
        if not found:
            raise self._unusable(region, name, f"{id_} is not there; map one that is")
        for fault in faults_of(found[0], account.config):
            raise self._unusable(region, name, f"{id_} {fault}")
        root = str(found[0]["RootDeviceName"])
        sizes = [
            disk["Ebs"].get("VolumeSize", 1)
            for disk in found[0].get("BlockDeviceMappings", [])
            if "Ebs" in disk and disk.get("DeviceName") == root
        ]
        return Image(id_, root, max([1, *sizes]))

    def _unusable(self, region: str, name: str, what: str) -> UnservableError:
        return UnservableError(f"backend {self._account.name}: image {name} in {region}: {what}")
