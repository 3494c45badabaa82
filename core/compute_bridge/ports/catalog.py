"""The power of a backend whose shapes and prices come from a cloud's API: the host reads, gates and keeps them."""

from abc import ABC, abstractmethod

from compute_bridge.model.catalog import Catalog
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.model.ids import BackendName


class SupportsCatalog(ABC):
    """An opt-in power: shapes and prices are read apart from what is free, and kept between starts.

    The host reads a catalog before it asks anything else, checks it, keeps the last good one in a file and hands it
    back with :meth:`use_catalog`: as the backend opens, and whenever a newer one has passed the checks. So a start
    without an answer from the cloud sells on the last good catalog, and each cost says how old it is.
    """

    @abstractmethod
    async def fetch_catalog(self) -> Catalog:
        """Read shapes and prices from the cloud's own APIs; a place that does not answer costs seconds.

        A shape whose price is not known is left out.

        :raises UnavailableError: if nothing usable could be read.
        :raises CredentialsError: if our credentials are refused.
        """

    @abstractmethod
    def use_catalog(self, catalog: Catalog) -> None:
        """Declare and offer from ``catalog`` from now on; no I/O."""


class CatalogError(ComputeBridgeError):
    """A stored catalog cannot be read or written; it stays as it is: tell the operator, sell on none that is unread."""


class CatalogStore(ABC):
    """The last good catalog of each backend, kept between starts."""

    @abstractmethod
    async def load(self, backend: BackendName, kind: str) -> Catalog | None:
        """Return what is kept for ``backend``, or None if there is nothing.

        :raises CatalogError: if it is damaged, newer than this release, or another backend's or kind's.
        """

    @abstractmethod
    async def save(self, catalog: Catalog) -> None:
        """Replace what is kept for its backend, at once and as a whole; durable when it returns.

        :raises CatalogError: if it cannot be written, or what is there could not be loaded: that is never replaced.
        """
