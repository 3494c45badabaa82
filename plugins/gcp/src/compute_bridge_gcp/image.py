"""The images of the table, as the vendor has them: whether what is asked for would boot from one."""

from collections.abc import Iterable, Iterator
from functools import partial

from compute_bridge.cloud.calls import Calls
from compute_bridge.cloud.listing import Listing
from compute_bridge.model.resources import Posture
from compute_bridge.ports.backend import BackendContext
from compute_bridge.ports.errors import BackendError, UnservableError
from compute_bridge_gcp.config import GcpConfig, GcpImage
from compute_bridge_gcp.facts import ImageSeen
from compute_bridge_gcp.sdk import Sdk

KEPT_MS = 600_000
"""How long a look at an image counts: after that its family may have moved on to another."""

# Each machine is asked for with a GVNIC and a secure boot; see ``body``.
_EVERY = frozenset({"GVNIC", "UEFI_COMPATIBLE"})
_CONFIDENTIAL = {Posture.TDX: "TDX_CAPABLE", Posture.SEV_SNP: "SEV_SNP_CAPABLE"}


def postures_of(image: GcpImage, config: GcpConfig) -> Iterator[Posture]:
    """Yield how the machines that boot from an image may be protected, by the table."""
    if image.confidential and config.tdx_zones:
        yield Posture.TDX
    if image.confidential and config.sev_snp_zones:
        yield Posture.SEV_SNP


def faults_of(seen: ImageSeen, config: GcpConfig, postures: Iterable[Posture]) -> Iterator[str]:
    """Yield what an image lacks for machines of the table, protected so; each is a clause that says the mend."""
    special = {_CONFIDENTIAL[posture] for posture in postures if posture in _CONFIDENTIAL}
    if lacking := sorted((_EVERY | special) - seen.features):
        mend = "take another image" + (", or do not call it confidential" if special & {*lacking} else "")
        yield f"lacks {', '.join(lacking)}: {mend}"
    if seen.architecture != config.architecture:
        yield f"is for {seen.architecture}, and the table sells {config.architecture}: take one that is for that"


async def look_at(image: GcpImage, calls: Calls, sdk: Sdk) -> ImageSeen:
    """Return an image of the table as it is now; of a family, the one that a machine would boot from.

    :raises BackendError: if it is not there, or not ours to read.
    """
    look = partial(sdk.image, image.project, family=image.family, image=image.image)
    return await calls.read(f"look at image {image.name}", look)


class Images:
    """What is known of each image: looked at once in a while, however many machines boot from it."""

    def __init__(self, context: BackendContext, config: GcpConfig, calls: Calls, sdk: Sdk) -> None:
        self._name = context.name
        self._config = config
        self._looks = {
            image.name: Listing(
                partial(look_at, image, calls, sdk),
                context.clock,
                every_ms=KEPT_MS,
                place=f"image {image.name} of backend {context.name}",
            )
            for image in config.images
        }

    async def require(self, image: GcpImage, posture: Posture) -> None:
        """Return if a machine of the table, protected so, boots from an image.

        :raises UnservableError: if it does not, or the image is not there.
        """
        for fault in faults_of(await self._recent(image), self._config, [posture]):
            raise UnservableError(f"backend {self._name}: image {image.name} ({image.source}) {fault}")

    async def _recent(self, image: GcpImage) -> ImageSeen:
        look = self._looks[image.name]
        begun = look.reads
        try:
            return await look.recent()
        except BackendError:
            if look.reads > begun:
                raise
        # It failed a while ago, and may have been mended since.
        return await look.fresh()
