"""One project at Google as a backend; imports the SDK."""

from compute_bridge.cloud.notices import NoticedCloudBackend
from compute_bridge.ports.backend import BackendContext
from compute_bridge.ports.doctor import Finding, SupportsDoctor
from compute_bridge.ports.errors import BootError
from compute_bridge_gcp.cloud import GcpCloud
from compute_bridge_gcp.config import GcpConfig
from compute_bridge_gcp.doctor import Doctor
from compute_bridge_gcp.sdk import UNUSABLE, Sdk


class GcpBackend(NoticedCloudBackend, SupportsDoctor):
    """One project, used under one service account."""

    def __init__(self, context: BackendContext, config: GcpConfig, sdk: Sdk) -> None:
        cloud = GcpCloud(context, config, sdk)
        super().__init__(context, config, cloud)
        self._doctor = Doctor(config, sdk, cloud.calls, context.clock, cloud.fetch)

    async def examine(self) -> tuple[Finding, ...]:
        """Return how the project stands, the identity first."""
        return await self._doctor.examine()


def open_backend(context: BackendContext, config: GcpConfig) -> GcpBackend:
    """Return the backend of ``config``; reads the key, asks nobody.

    :raises BootError: if the key is none, or is another service account's than the table says.
    """
    key = context.read_secret(config.credentials) if config.credentials else b""
    try:
        sdk = Sdk(config, key)
    except UNUSABLE as error:
        # The error may quote the key.
        raise BootError(
            f"backend {context.name}: there are no credentials of a service account ({type(error).__name__}); "
            "give the JSON file that the vendor made, or run where the vendor gives some"
        ) from None
    if key and (found := sdk.identity()) != config.service_account:
        raise BootError(
            f"backend {context.name}: the key is of {found}, and the table says {config.service_account}; "
            "give that account's key, or write down the account that you mean"
        )
    return GcpBackend(context, config, sdk)
