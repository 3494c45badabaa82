"""The images of the table, as each location has them: what a machine needs of one, and what it lacks."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import anyio
from attrs import define, field, frozen

from compute_bridge.model.ids import BackendName
from compute_bridge.model.resources import Posture
from compute_bridge.ports.backend import Order
from compute_bridge.ports.clock import Clock
from compute_bridge.ports.errors import UnservableError
from compute_bridge_azure.body import is_confidential, urn_for
from compute_bridge_azure.config import AzureConfig, AzureImage
from compute_bridge_azure.sizes import Size, is_arm, same_place

FRESH_MS = 600_000
"""How long an answer is believed: ``latest`` moves on, and the operator mends what was wrong."""

Told = Mapping[str, Any] | None
"""An image as Azure tells it, ``None`` for one that is not there."""
Read = Callable[[str, str], Awaitable[Told]]
"""Reads the image that an urn means in a location."""


@frozen
class Sort:
    """A sort of machines, each of which boots an image of its own; ``word`` tells them apart for the operator."""

    word: str
    is_confidential: bool = False
    arm: bool = False

    def urn(self, image: AzureImage) -> str:
        """Return what the table names for it, empty for nothing."""
        return urn_for(image, is_confidential=self.is_confidential, arm=self.arm)

    def boots(self, size: Size) -> bool:
        """Return whether machines of a size are of this sort."""
        return (self.is_confidential, self.arm) == (size.posture is not Posture.NONE, size.is_arm)


SORTS = (Sort("x86_64"), Sort("confidential", is_confidential=True), Sort("arm64", arm=True))


@frozen
class Lack:
    """What an image lacks, and the mend."""

    what: str
    mend: str


def lacks_of(told: Told, sort: Sort, location: str, size: Size | None = None) -> Iterator[Lack]:
    """Yield what keeps machines of a sort, and of a size where it is known, from an image.

    What Azure does not tell of an image is held against it in one case only: to be confidential it has to say so.
    Source: VirtualMachineImageProperties, GalleryImageProperties and ImageProperties in the SDK.
    """
    if told is None:
        yield Lack("is not there", "look at the urn (az vm image list) or the id")
        return
    properties: Mapping[str, Any] = told.get("properties") or {}
    if not _lies_in(told, location):
        yield Lack(f"is not in {location}", "copy it there, or name one that is")
    if (os := _os(properties)) not in ("", "linux"):
        yield Lack(f"holds {os}", "name an image of Linux")
    if str(properties.get("hyperVGeneration") or "V2") != "V2":
        yield Lack(f"is of generation {properties['hyperVGeneration']}", "name an image of generation 2")
    if properties.get("plan") or properties.get("purchasePlan"):
        yield Lack("is sold with a purchase plan", "name an image without: the bridge agrees to no terms for you")
    if str((properties.get("imageDeprecationStatus") or {}).get("imageState")).lower() == "deprecated":
        yield Lack("is deprecated, and starts no machine any more", "name a later version, or latest")
    wanted = "arm64" if sort.arm else "x64"
    if (architecture := str(properties.get("architecture") or wanted)).lower() != wanted:
        yield Lack(f"is for {architecture}, and not for {wanted}", "name an image for that, or none")
    features = {str(one.get("name")): str(one.get("value")) for one in properties.get("features") or ()}
    yield from _feature_lacks(features, sort, size)


def _feature_lacks(features: Mapping[str, str], sort: Sort, size: Size | None) -> Iterator[Lack]:
    # One word of: TrustedLaunch, ConfidentialVM, either with "Supported", or both so: ...AndConfidentialVmSupported.
    security = features.get("SecurityType", "")
    if sort.is_confidential and "confidential" not in security.lower():
        yield Lack("does not say that it may be confidential", "name a sku such as cvm")
    if not sort.is_confidential and security.lower() == "confidentialvm":
        yield Lack("is for confidential machines alone", "name it as confidential_urn")
    has = _words(features.get("DiskControllerTypes", ""))
    if size is not None and has and size.controllers and not has & size.controllers:
        yield Lack(
            f"knows disks by {_spoken(has)}, and {size.name} has them by {_spoken(size.controllers)}",
            "name an image that knows both, or do not sell such sizes",
        )


def _lies_in(told: Mapping[str, Any], location: str) -> bool:
    version = told.get("version")
    if version is None:
        # A definition without a version tells where it is kept, and not where its versions are.
        is_definition = "/galleries/" in str(told.get("id")).lower()
        return is_definition or not told.get("location") or same_place(told["location"], location)
    profile = (version.get("properties") or {}).get("publishingProfile") or {}
    places = [one.get("name") for one in profile.get("targetRegions") or ()]
    return not places or any(same_place(place, location) for place in places)


def _os(properties: Mapping[str, Any]) -> str:
    disk = (properties.get("storageProfile") or {}).get("osDisk") or {}
    market = (properties.get("osDiskImage") or {}).get("operatingSystem")
    return str(market or properties.get("osType") or disk.get("osType") or "").lower()


def _words(told: str) -> frozenset[str]:
    return frozenset(re.findall("[a-z]+", told.lower()))


def _spoken(words: frozenset[str]) -> str:
    return " and ".join(sorted(words)).upper()


@define(eq=False)
class ImageFacts:
    """What Azure tells of each image: one read for each location, whoever asks, until it is ``FRESH_MS`` old."""

    backend: BackendName
    config: AzureConfig
    clock: Clock
    read: Read
    _known: dict[tuple[str, str], tuple[Told, int]] = field(factory=dict, init=False)
    _reading: dict[tuple[str, str], anyio.Lock] = field(factory=dict, init=False)

    async def told(self, location: str, urn: str, *, is_fresh: bool = False) -> Told:
        """Return what Azure tells of an image; ``is_fresh`` for what it tells now.

        :raises BackendError: if it cannot be asked; nothing is remembered of that.
        """
        key = (location, urn)
        async with self._reading.setdefault(key, anyio.Lock()):
            told, at_ms = self._known.get(key, (None, None))
            now_ms = self.clock.monotonic_ms()
            if is_fresh or at_ms is None or now_ms - at_ms >= FRESH_MS:
                told = await self.read(location, urn)
                self._known[key] = (told, now_ms)
            return told

    async def check(self, order: Order, size: Size | None) -> None:
        """Refuse an order whose machine the image would not boot.

        :raises UnservableError: if so.
        :raises BackendError: if Azure cannot be asked.
        """
        offer, name = order.offer, order.image.name.removeprefix("vm:")
        sort = next(one for one in SORTS if (one.is_confidential, one.arm) == _sort_of(order))
        image = self.config.image(name)
        urn = "" if image is None else sort.urn(image)
        if not urn:  # body.refuse() has seen to that
            raise UnservableError(f"backend {self.backend}: no {name} for {offer.shape}; give it an urn")
        told = await self.told(offer.region, urn)
        for lack in lacks_of(told, sort, offer.region, size):
            raise UnservableError(
                f"backend {self.backend}: image {name} in {offer.region}: {urn} {lack.what}; {lack.mend}"
            )


def _sort_of(order: Order) -> tuple[bool, bool]:
    return is_confidential(order.offer), is_arm(order.offer.shape)
