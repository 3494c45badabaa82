"""From a catalog to what is declared and offered."""

from collections.abc import Callable
from functools import cached_property

from attrs import evolve, frozen

from compute_bridge.cloud.settings import CloudSettings
from compute_bridge.model.catalog import Catalog, CatalogRow
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.resources import Capability, Region
from compute_bridge.ports.backend import Offer


@frozen(slots=False)
class CatalogOffers:
    """The offers of one backend from one catalog; none without one.

    ``reaches`` is the cloud's: a stored catalog may name places that the table has given up since.
    """

    backend: BackendName
    settings: CloudSettings
    images: tuple[str, ...]
    catalog: Catalog | None = None
    reaches: Callable[[Offer], bool] = lambda _offer: True

    @cached_property
    def pairs(self) -> tuple[tuple[CatalogRow, Offer], ...]:
        """Each row on sale and its offer."""
        rows = self.catalog.rows if self.catalog is not None else ()
        sold = ((row, self._offer(row)) for row in rows if self._is_sold(row))
        return tuple((row, self._here(offer)) for row, offer in sold if self.reaches(offer))

    @cached_property
    def capabilities(self) -> tuple[Capability, ...]:
        """What the rows on sale declare, each once."""
        return tuple(dict.fromkeys(offer.capability for _, offer in self.pairs))

    @cached_property
    def _by_id(self) -> dict[OfferId, Offer]:
        return {offer.id: offer for _, offer in self.pairs}

    def has(self, offer: Offer) -> bool:
        """Return whether ``offer`` is on sale still: the same machine in the same place, whatever it costs by now."""
        ours = self._by_id.get(offer.id)
        return ours is not None and evolve(ours, cost=offer.cost) == offer

    def there(self, offer: Offer) -> Offer:
        """Return ``offer`` with the region as the cloud calls it."""
        own = {word: region for region, word in self.settings.sold_as.items()}
        return evolve(offer, region=Region(own.get(offer.region, offer.region)))

    def _here(self, offer: Offer) -> Offer:
        word = self.settings.sold_as.get(offer.region)
        return offer if word is None else evolve(offer, region=Region(word))

    def _is_sold(self, row: CatalogRow) -> bool:
        kind = self.settings.spot if row.spot else self.settings.on_demand
        return kind and self.settings.sells(row.shape)

    def _offer(self, row: CatalogRow) -> Offer:
        return Offer(
            id=OfferId(f"{row.zone or row.region}/{row.shape}{'/spot' if row.spot else ''}"),
            backend=self.backend,
            region=row.region,
            zone=row.zone,
            shape=row.shape,
            resources=row.resources,
            posture=row.posture,
            networks=tuple(sorted(self.settings.networks)),
            cost=row.cost,
            spot=row.spot,
            runs_oci=False,
            images=self.images,
            max_duration_ms=self.settings.max_duration_ms,
        )
