"""The kind ``aws`` as the host meets it: the cloud's backend, and a doctor."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from compute_bridge.cloud.notices import NoticedCloudBackend
from compute_bridge.ports.backend import BackendContext
from compute_bridge.ports.doctor import Finding, SupportsDoctor
from compute_bridge.ports.errors import BackendError
from compute_bridge_aws.account import Account
from compute_bridge_aws.cloud import AwsCloud
from compute_bridge_aws.config import AwsConfig
from compute_bridge_aws.doctor import Doctor

logger = logging.getLogger(__name__)

_LEAVE_S = 10.0


class AwsBackend(NoticedCloudBackend, SupportsDoctor):
    """One account at AWS."""

    def __init__(self, context: BackendContext, config: AwsConfig, account: Account, cloud: AwsCloud) -> None:
        super().__init__(context, config, cloud)
        self._account = account

    async def examine(self) -> tuple[Finding, ...]:
        """Return what was found of the account, the identity first."""
        return await Doctor(self._account).examine()


@asynccontextmanager
async def open_backend(context: BackendContext, config: AwsConfig) -> AsyncGenerator[AwsBackend]:
    """Open the account; AWS is asked at the first question. What leases shared goes with the last of them."""
    account = await Account.open(context, config)
    cloud = AwsCloud(account)
    try:
        yield AwsBackend(context, config, account, cloud)
    finally:
        with anyio.move_on_after(_LEAVE_S, shield=True):
            await _leave(context, cloud)


async def _leave(context: BackendContext, cloud: AwsCloud) -> None:
    try:
        await cloud.leave()
    except BackendError as error:
        logger.warning("backend %s: security groups may stay, which cost nothing: %s", context.name, error)
