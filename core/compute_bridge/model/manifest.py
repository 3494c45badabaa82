"""What a workload is: its source, its image and its needs."""

import re

from attrs import field, frozen

from compute_bridge.model.checks import text
from compute_bridge.model.resources import Requirements

_OCI = re.compile(r"oci@sha256:[0-9a-f]{64}")
_VM = re.compile(r"vm:[a-z0-9][a-z0-9._-]{0,62}")


@frozen
class ImageRef:
    """An image by name: ``oci@sha256:<64 hex>`` for a container runtime, ``vm:<name>`` for a backend.

    The hex of an ``oci`` reference is the SHA-256 of the image manifest; a digest, so the bytes can be
    checked by whoever runs them.
    """

    name: str = field()

    @name.validator
    def _known_form(self, _attribute: object, value: str) -> None:
        if not _OCI.fullmatch(value) and not _VM.fullmatch(value):
            raise ValueError(f"image {value!r} is neither 'oci@sha256:<64 hex>' nor 'vm:<name>'")

    @property
    def is_oci(self) -> bool:
        """Whether the reference is a content digest."""
        return self.name.startswith("oci@")

    @property
    def digest_hex(self) -> str:
        """The 64 hex digits of an ``oci`` reference.

        :raises ValueError: if the reference is a ``vm`` name, which has no digest.
        """
        if not self.is_oci:
            raise ValueError(f"image {self.name!r} has no digest")
        return self.name.removeprefix("oci@sha256:")


@frozen
class SourceRef:
    """Where a workload's source lies: a name, a version and the commit's hash in hex."""

    name: str = field(validator=text(1, 128))
    version: str = field(validator=text(1, 64))
    commit: str = field(validator=text(7, 64))


@frozen
class ComputeManifest:
    """What a workload is; its fingerprint is the pre-hash."""

    source: SourceRef
    image: ImageRef
    requirements: Requirements
