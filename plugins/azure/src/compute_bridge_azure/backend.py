"""The backend of one subscription."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio import to_thread

from compute_bridge.cloud.backend import CloudBackend
from compute_bridge.ports.backend import BackendContext
from compute_bridge.ports.doctor import Finding, SupportsDoctor
from compute_bridge_azure.cloud import AzureCloud
from compute_bridge_azure.config import AzureConfig, Credential
from compute_bridge_azure.doctor import Doctor

_CLOSING_S = 10.0


class AzureBackend(CloudBackend, SupportsDoctor):
    """One subscription, and the doctor of it."""

    def __init__(self, context: BackendContext, config: AzureConfig, cloud: AzureCloud) -> None:
        super().__init__(context, config, cloud)
        self.cloud = cloud
        self._doctor = Doctor(config, cloud, context.clock)

    async def examine(self) -> tuple[Finding, ...]:
        """Return how the account stands, the identity first."""
        return await self._doctor.examine()


@asynccontextmanager
async def open_backend(context: BackendContext, config: AzureConfig) -> AsyncGenerator[AzureBackend]:
    """Open the backend: clients are made, nothing is asked."""
    cloud = await to_thread.run_sync(_cloud, context, config)
    try:
        yield AzureBackend(context, config, cloud)
    finally:
        with anyio.move_on_after(_CLOSING_S, shield=True):
            await to_thread.run_sync(cloud.arm.close)


def _cloud(context: BackendContext, config: AzureConfig) -> AzureCloud:
    secret = ""
    if config.credential is Credential.CLIENT_SECRET:
        secret = context.read_secret(config.client_secret).decode().strip()
    return AzureCloud(context, config, secret)
