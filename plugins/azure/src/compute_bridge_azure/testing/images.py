"""The images that the fake account may boot from: of the market, of a gallery, and one's own."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from compute_bridge.testing.physics.wire import Request, Response
from compute_bridge_azure.testing.answers import No
from compute_bridge_azure.testing.market import FakeSize

Json = dict[str, Any]
Words = Mapping[str, str]

_VERSION = "24.04.202607010"


@frozen
class FakeImage:
    """One image; ``places`` is where it, or a version of it in a gallery, is, empty for everywhere."""

    confidential: bool = False
    arm: bool = False
    generation: str = "V2"
    os: str = "Linux"
    controllers: str = "SCSI, NVMe"
    security: str = ""
    plan: str = ""
    state: str = "Active"
    places: tuple[str, ...] = ()

    def refusal(self, size: FakeSize, *, is_confidential: bool) -> str:
        """Return why no such machine starts from it, empty for a yes."""
        if self.confidential is not is_confidential:
            return "the image and the security type do not fit"
        if self.arm is not size.arm or self.generation not in size.generations.split(","):
            return "the image and the size do not fit"
        if self.generation != "V2" or self.os != "Linux" or self.state == "Deprecated":
            return "the document and the image do not fit"
        if not _words(self.controllers) & _words(size.controllers):
            return "the size cannot boot with this image: look at its disk controller types"
        return "the image needs a plan" if self.plan else ""

    @property
    def properties(self) -> Json:
        """What market and gallery tell alike."""
        security = self.security or ("ConfidentialVmSupported" if self.confidential else "")
        features = {"SecurityType": security, "DiskControllerTypes": self.controllers}
        return {
            "hyperVGeneration": self.generation,
            "architecture": "Arm64" if self.arm else "x64",
            "features": [{"name": name, "value": value} for name, value in features.items() if value],
        }


class FakeImages:
    """What the account is told of its images, by their urns or resource ids."""

    def __init__(self, images: Callable[[], Mapping[str, FakeImage]]) -> None:
        self._images = images

    def versions(self, request: Request, words: Words) -> Response:
        """Return the newest version of a sku."""
        is_there = _urn(words, "latest") in self._images()
        return Response.json([{"name": _VERSION, "location": words["location"]}] if is_there else [])

    def version(self, request: Request, words: Words) -> Response:
        """Return one version."""
        urns = (_urn(words, words["version"]), _urn(words, "latest"))
        image = next((self._images()[urn] for urn in urns if urn in self._images()), None)
        if image is None:
            raise No(404, "ImageNotFound")
        properties = {**image.properties, "osDiskImage": {"operatingSystem": image.os}}
        properties["imageDeprecationStatus"] = {"imageState": image.state}
        if image.plan:
            properties["plan"] = {"name": image.plan, "publisher": words["publisher"], "product": words["offer"]}
        return Response.json({"name": words["version"], "location": words["location"], "properties": properties})

    def definition(self, request: Request, words: Words) -> Response:
        """Return an image of a gallery without its versions."""
        image = next((one for id_, one in self._images().items() if id_.startswith(request.path)), None)
        if image is None:
            raise No(404, "ResourceNotFound")
        properties = {**image.properties, "osType": image.os, "osState": "Generalized"}
        return Response.json({"id": request.path, "location": "eastus", "properties": properties})

    def gallery_version(self, request: Request, words: Words) -> Response:
        """Return a version of an image of a gallery, which tells where it is and nothing of what it can do."""
        regions = [{"name": place} for place in self._named(request).places]
        properties = {"provisioningState": "Succeeded", "publishingProfile": {"targetRegions": regions}}
        return Response.json({"id": request.path, "location": "eastus", "properties": properties})

    def own(self, request: Request, words: Words) -> Response:
        """Return an image that somebody made of a machine."""
        image = self._named(request)
        disk = {"osType": image.os, "osState": "Generalized"}
        properties = {"hyperVGeneration": image.generation, "storageProfile": {"osDisk": disk}}
        location = image.places[0] if image.places else "westeurope"
        return Response.json({"id": request.path, "location": location, "properties": properties})

    def _named(self, request: Request) -> FakeImage:
        if request.path not in self._images():
            raise No(404, "ResourceNotFound")
        return self._images()[request.path]


def _urn(words: Words, version: str) -> str:
    return ":".join((words["publisher"], words["offer"], words["sku"], version))


def _words(told: str) -> set[str]:
    return set(re.findall("[a-z]+", told.lower()))
