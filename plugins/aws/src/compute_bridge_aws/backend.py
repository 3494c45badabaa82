"""The kind ``aws`` as the host meets it: the cloud's backend, and a doctor."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from compute_bridge.cloud.notices import NoticedCloudBackend
from compute_bridge.ports.backend import BackendContext
from compute_bridge.ports.doctor import Finding, SupportsDoctor
from compute_bridge_aws.account import Account
from compute_bridge_aws.cloud import AwsCloud
from compute_bridge_aws.config import AwsConfig
from compute_bridge_aws.doctor import Doctor


class AwsBackend(NoticedCloudBackend, SupportsDoctor):
    """One account at AWS."""

    def __init__(self, context: BackendContext, config: AwsConfig, account: Account) -> None:
        super().__init__(context, config, AwsCloud(account))
        self._account = account

    async def examine(self) -> tuple[Finding, ...]:
        """Return what was found of the account, the identity first."""
        return await Doctor(self._account).examine()


@asynccontextmanager
async def open_backend(context: BackendContext, config: AwsConfig) -> AsyncGenerator[AwsBackend]:
    """Open the account; AWS is asked at the first question."""
    yield AwsBackend(context, config, await Account.open(context, config))
