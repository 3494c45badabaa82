"""The images of the table, as each region has them."""

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from compute_bridge.ports.errors import UnservableError
from compute_bridge_aws.account import Account
from compute_bridge_aws.config import AwsConfig
from compute_bridge_aws.launch import Image

logger = logging.getLogger(__name__)


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


def image_in(answer: Mapping[str, Any]) -> Image:
    """Return what a start has to know of an image."""
    root = str(answer.get("RootDeviceName", ""))
    sizes = [
        disk["Ebs"].get("VolumeSize", 1)
        for disk in answer.get("BlockDeviceMappings", [])
        if "Ebs" in disk and disk.get("DeviceName") == root
    ]
    return Image(answer["ImageId"], root, max([1, *sizes]))


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

    async def least_gib(self, region: str) -> int | None:
        """Return the smallest disk that every usable image of a region fits on; ``None`` if none can be used.

        One that cannot be used is told in the log, and one call at most asks for all.
        """
        table = self._account.config.region(region)
        names = table.images if table is not None else {}
        if unknown := sorted({id_ for id_ in names.values() if (region, id_) not in self._known}):
            told = await self._told(region, unknown)
            for name, id_ in names.items():
                if id_ in unknown:
                    self._learn(region, name, id_, told)
        sizes = [self._known[region, id_].least_gib for id_ in names.values() if (region, id_) in self._known]
        return max(sizes, default=None)

    def _learn(self, region: str, name: str, id_: str, told: Mapping[str, dict[str, Any]]) -> None:
        try:
            self._known[region, id_] = self._read(region, name, id_, told)
        except UnservableError as error:
            logger.warning("%s", error)

    async def _looked_up(self, region: str, name: str, id_: str) -> Image:
        return self._read(region, name, id_, await self._told(region, [id_]))

    async def _told(self, region: str, ids: list[str]) -> dict[str, dict[str, Any]]:
        account = self._account
        found = await account.read(f"see the images in {region}", partial(account.sdk.images, region, ids))
        return {one["ImageId"]: one for one in found}

    def _read(self, region: str, name: str, id_: str, told: Mapping[str, dict[str, Any]]) -> Image:
        if id_ not in told:
            raise self._unusable(region, name, f"{id_} is not there; map one that is")
        for fault in faults_of(told[id_], self._account.config):
            raise self._unusable(region, name, f"{id_} {fault}")
        return image_in(told[id_])

    def _unusable(self, region: str, name: str, what: str) -> UnservableError:
        return UnservableError(f"backend {self._account.name}: image {name} in {region}: {what}")
