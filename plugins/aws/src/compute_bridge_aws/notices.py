"""Which spot machines EC2 is about to take away, asked region by region: a silent one hides no other's notice."""

import logging
from functools import partial
from typing import Final

import anyio

from compute_bridge.cloud.every import answers
from compute_bridge.cloud.tags import OWNER
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.errors import BackendError, UnavailableError
from compute_bridge.ports.notices import Interruption
from compute_bridge_aws.account import Account
from compute_bridge_aws.machine_of import join

logger = logging.getLogger(__name__)

MARKED: Final = "marked-for-termination"
"""The status of a spot request whose machine will be taken away within two minutes."""

# Two minutes are left of a machine that is marked: no region that hangs may keep the others' notices for long.
_PATIENCE_S = 10.0


class Notices:
    """The notices of one account: those that stand, and those that stood when a region that is silent now spoke."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._stood: dict[str, tuple[Interruption, ...]] = {}
        self._silent: frozenset[str] = frozenset()

    async def standing(self) -> tuple[Interruption, ...]:
        """Return what stands; of a region that does not answer what it told last, for nobody took it back.

        :raises BackendError: if no region answers.
        """
        config = self._account.config
        regions = [table.name for table in config.regions] if config.spot else []
        found, failures = await answers({region: partial(self._marked, region) for region in regions})
        if failures and not found:
            raise failures[regions[0]]
        self._stood |= found
        self._say(failures)
        return tuple(notice for region in regions for notice in self._stood.get(region, ()))

    def _say(self, failures: dict[str, BackendError]) -> None:
        name = self._account.name
        for region in sorted(failures.keys() - self._silent):
            logger.warning("no interruption notices of %s just now: %s", region, failures[region])
        for region in sorted(self._silent - failures.keys()):
            logger.info("backend %s: %s tells interruption notices again", name, region)
        self._silent = frozenset(failures)

    async def _marked(self, region: str) -> tuple[Interruption, ...]:
        account = self._account
        filters = [
            {"Name": "status-code", "Values": [MARKED]},
            {"Name": f"tag:{OWNER}", "Values": [account.config.owner]},
        ]
        call = partial(account.sdk.spot_requests, region, filters)
        try:
            with anyio.fail_after(_PATIENCE_S):
                requests = await account.read(f"list spot requests in {region}", call)
        except TimeoutError as error:
            raise UnavailableError(
                f"backend {account.name}: could not list spot requests in {region} within {_PATIENCE_S:.0f} s; "
                "see the network; it is asked again"
            ) from error
        told = [one["InstanceId"] for one in requests if "InstanceId" in one]
        return tuple(Interruption(join(region, id_), UtcMs(0), MARKED) for id_ in told)
