"""Interruption notices of a cloud that tells them from outside: read once a tick for all machines."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable

from compute_bridge.cloud.backend import CloudBackend
from compute_bridge.cloud.machine import Cloud, Machines
from compute_bridge.cloud.settings import CloudSettings
from compute_bridge.ports.backend import BackendContext
from compute_bridge.ports.clock import poll
from compute_bridge.ports.notices import Interruption, SupportsNotices

Recent = Callable[[], Awaitable[Machines]]
"""The listing that all share, not older than a tick; raises as the listing does."""


class NoticedCloud(Cloud):
    """A cloud that also tells, of every machine at once, which it is about to take away."""

    @abstractmethod
    async def interruptions(self, recent: Recent) -> tuple[Interruption, ...]:
        """Return what is announced now for machines that carry our owner's tags, in every place.

        A cloud whose listing tells looks at ``recent``, which costs no call of its own where leases are watched.
        """


class NoticedCloudBackend(CloudBackend, SupportsNotices):
    """The backend port over such a cloud."""

    def __init__(self, context: BackendContext, settings: CloudSettings, cloud: NoticedCloud) -> None:
        super().__init__(context, settings, cloud)
        self._noticed_cloud = cloud
        self._told: frozenset[Interruption] = frozenset()

    async def next_notices(self) -> tuple[Interruption, ...]:
        """Ask the cloud at each tick until it announces something new; return all that stands then."""
        return await poll(self._context.clock, self._settings.watch_ms, self._news)

    async def _news(self) -> tuple[Interruption, ...] | None:
        standing = await self._noticed_cloud.interruptions(self.places.recent)
        news, self._told = frozenset(standing) - self._told, frozenset(standing)
        return standing if news else None
