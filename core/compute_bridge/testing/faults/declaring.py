"""Faults in what a backend declares."""

from attrs import evolve

from compute_bridge.model.resources import Capability, Posture, Requirements, Resources, TdxNeed
from compute_bridge.model.units import Milliseconds, UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.ports.errors import NoCapacityError
from compute_bridge.testing.faults.planted import Faulty, planted
from compute_bridge.testing.memory import MemoryBackend


@planted("test_capabilities_are_declared", says="capabilities() is empty")
class DeclaresNothing(Faulty):
    """Declares nothing."""

    def capabilities(self) -> tuple[Capability, ...]:
        """Return nothing."""
        return ()


@planted("test_declaring_needs_no_answer", says="changed while the account did not answer")
class DeclaresWhatAnswers(Faulty):
    """Declares what the account can do just now."""

    def capabilities(self) -> tuple[Capability, ...]:
        """Return nothing while the account is down."""
        return () if self.account.ailment else super().capabilities()


@planted("test_what_is_offered_is_reached", says="denies what was offered")
class ReachesWhatAnswers(Faulty):
    """Takes silence for a table that no longer names the offer."""

    def reaches(self, offer: Offer) -> bool:
        """Return False while the account is down."""
        return not self.account.ailment


@planted("test_can_satisfy_accepts_what_is_declared", says="refuses what is declared")
class AcceptsNothing(Faulty):
    """Accepts no grant."""

    def can_satisfy(self, needs: Requirements) -> bool:
        """Return False."""
        return False


@planted("test_can_satisfy_accepts_what_is_declared", says="refuses what is declared")
class StopsBeforeTheEdge(Faulty):
    """Takes a ceiling for the first value that is too much."""

    def can_satisfy(self, needs: Requirements) -> bool:
        """Ask for one thousandth of a vCPU more than is needed."""
        size = evolve(needs.resources, cpu_millis=needs.resources.cpu_millis + 1)
        return super().can_satisfy(evolve(needs, resources=size))


@planted("test_can_satisfy_stays_within_capabilities", says="accepts what is not declared")
class AcceptsEverything(Faulty):
    """Accepts every grant."""

    def can_satisfy(self, needs: Requirements) -> bool:
        """Return True."""
        return True


@planted("test_can_satisfy_stays_within_capabilities", says="accepts what is not declared")
class IgnoresThePosture(Faulty):
    """Accepts a grant that requires TDX where there is none."""

    def can_satisfy(self, needs: Requirements) -> bool:
        """Forget the TDX need."""
        return super().can_satisfy(evolve(needs, tdx=TdxNeed.NONE))


@planted("test_can_satisfy_stays_within_capabilities", says="accepts what is not declared")
class IgnoresTheRegion(Faulty):
    """Accepts a grant for a region that it has not."""

    def can_satisfy(self, needs: Requirements) -> bool:
        """Forget the regions."""
        return super().can_satisfy(evolve(needs, regions=()))


@planted("test_can_satisfy_stays_within_capabilities", says="accepts what is not declared")
class IgnoresTheNetworkPolicy(Faulty):
    """Accepts a grant whose network policy it cannot enforce."""

    def can_satisfy(self, needs: Requirements) -> bool:
        """Forget the network policy."""
        return any(MemoryBackend.can_satisfy(self, evolve(needs, network=policy)) for policy in type(needs.network))


@planted("test_can_satisfy_stays_within_capabilities", says="accepts what is not declared")
class IgnoresTheDuration(Faulty):
    """Accepts a grant that is longer than it may last."""

    def can_satisfy(self, needs: Requirements) -> bool:
        """Forget the duration."""
        return super().can_satisfy(evolve(needs, duration_ms=Milliseconds(1)))


@planted("test_can_satisfy_stays_within_capabilities", says="accepts what is not declared")
class AddsItsShapesUp(Faulty):
    """Accepts what only two shapes together could serve."""

    def can_satisfy(self, needs: Requirements) -> bool:
        """Ask for each resource apart."""
        size = needs.resources
        each = (Resources(size.cpu_millis, 1, 0, 0), Resources(1, size.mem_mib, size.disk_gib, size.gpus))
        return all(MemoryBackend.can_satisfy(self, evolve(needs, resources=one)) for one in each)


@planted("test_offers_lie_within_capabilities", says="lies within no declared capability")
class OffersTheUndeclared(Faulty):
    """Offers TDX where none is declared."""

    async def offers(self) -> tuple[Offer, ...]:
        """Return every offer as a TDX one."""
        return tuple(evolve(offer, posture=Posture.TDX) for offer in await super().offers())


@planted("test_offers_cover_what_is_declared", says="no offer serves what is declared")
class HidesAShape(Faulty):
    """Declares more than it ever offers."""

    async def offers(self) -> tuple[Offer, ...]:
        """Leave one offer out."""
        return (await super().offers())[:-1]


@planted("test_offers_are_told_apart", says="two offers have one id")
class OffersTwiceTheSame(Faulty):
    """Gives two offers one id."""

    async def offers(self) -> tuple[Offer, ...]:
        """Return the first offer twice."""
        offers = await super().offers()
        return (*offers, *offers[:1])


@planted("test_offers_say_when_their_cost_was_seen", says="was observed at 0")
class PricesWithoutADate(Faulty):
    """Does not say when a price was read."""

    async def offers(self) -> tuple[Offer, ...]:
        """Return offers observed in 1970."""
        return tuple(evolve(offer, cost=evolve(offer.cost, observed_at=UtcMs(0))) for offer in await super().offers())


@planted("test_exhaustion_is_no_error_of_offers", says="nothing to offer")
class FailsWhenEmpty(Faulty):
    """Takes an empty list for an error."""

    async def offers(self) -> tuple[Offer, ...]:
        """Raise where there is nothing to offer."""
        if offers := await super().offers():
            return offers
        raise NoCapacityError(f"backend {self.name} has nothing to offer")
