"""The promises about what a backend declares: capabilities and offers, and that they agree."""

from collections.abc import Callable

from hypothesis import Phase, given, settings

from compute_bridge.model.resources import Capability, Requirements
from compute_bridge.ports.backend import Backend, Offer
from compute_bridge.testing.promises.edges import corner, steps, walks
from compute_bridge.testing.promises.situation import Situation, patience
from compute_bridge.testing.world import World

_WALKS = 100
_CLOCK_ERROR_MS = 3_600_000
# Derandomized: a backend that passes today passes tomorrow.
_SETTINGS = settings(
    max_examples=_WALKS, deadline=None, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink]
)


class DeclaringPromises(Situation):
    """What ``capabilities``, ``can_satisfy`` and ``offers`` promise."""

    async def test_capabilities_are_declared(self, backend: Backend) -> None:
        """``capabilities`` names at least one thing that the backend can serve.

        Troubleshooting: return what the account can serve at all, not what is free now.
        """
        assert backend.capabilities(), "capabilities() is empty: this backend can serve nothing, ever"

    async def test_declaring_needs_no_answer(self, world: World, backend: Backend) -> None:
        """``capabilities`` and ``can_satisfy`` do no I/O: they say the same while the account does not answer.

        Troubleshooting: read the catalogue as the backend opens and answer both from it.
        """
        before = backend.capabilities()
        await world.go_down()

        assert backend.capabilities() == before, "capabilities() changed while the account did not answer"
        assert backend.can_satisfy(corner(before[0])), "can_satisfy() refuses while the account does not answer"

    async def test_can_satisfy_accepts_what_is_declared(self, backend: Backend) -> None:
        """What lies within one declared capability, up to its very edge, can be satisfied.

        Troubleshooting: answer with ``any(capability.serves(needs) for capability in self.capabilities())``.
        """

        def check(needs: Requirements, declared: tuple[Capability, ...]) -> None:
            if any(capability.serves(needs) for capability in declared):
                assert backend.can_satisfy(needs), f"can_satisfy() refuses what is declared: {needs}"

        _check_around(backend, check)

    async def test_can_satisfy_stays_within_capabilities(self, backend: Backend) -> None:
        """What no single declared capability serves cannot be satisfied: region, posture, size, network, duration.

        Troubleshooting: no two capabilities may be added up; ``TdxNeed.REQUIRED`` is met by ``Posture.TDX`` only.
        """

        def check(needs: Requirements, declared: tuple[Capability, ...]) -> None:
            if not any(capability.serves(needs) for capability in declared):
                assert not backend.can_satisfy(needs), f"can_satisfy() accepts what is not declared: {needs}"

        _check_around(backend, check)

    async def test_offers_lie_within_capabilities(self, world: World, backend: Backend) -> None:
        """Whatever is offered was declared, and can be satisfied.

        Troubleshooting: declare a capability for each shape that you may ever offer, as large as the shape.
        """
        async with patience(world, "list its offers"):
            offers = await backend.offers()

        for offer in offers:
            most = corner(offer.capability)
            assert any(_covers(capability, offer) for capability in backend.capabilities()), (
                f"offer {offer.id} lies within no declared capability: {offer.capability}"
            )
            assert backend.can_satisfy(most), f"can_satisfy() refuses what offer {offer.id} serves: {most}"

    async def test_offers_cover_what_is_declared(self, world: World, backend: Backend) -> None:
        """With everything free, each declared capability is served up to its edge by one offer at least.

        Troubleshooting: do not merge the ceilings of two shapes into one capability that neither serves.
        """
        async with patience(world, "list its offers"):
            offers = await backend.offers()

        for capability in backend.capabilities():
            most = corner(capability)
            assert any(offer.serves(most) for offer in offers), f"no offer serves what is declared: {capability}"

    async def test_offers_are_told_apart(self, world: World, backend: Backend) -> None:
        """Each offer has an id of its own and carries the backend's name.

        Troubleshooting: make the id of everything that tells two offers apart: zone, shape, spot or not.
        """
        async with patience(world, "list its offers"):
            offers = await backend.offers()

        ids = [offer.id for offer in offers]
        assert len(ids) == len(set(ids)), f"two offers have one id: {sorted(ids)}"
        assert {offer.backend for offer in offers} == {backend.name}, "an offer carries another backend's name"

    async def test_what_is_offered_is_reached(self, world: World, backend: Backend) -> None:
        """Whatever is offered is within reach, and stays so while the account does not answer.

        Troubleshooting: answer ``reaches`` from the backend's own table: does it still name the offer's region or host?
        """
        async with patience(world, "list its offers"):
            offers = await backend.offers()
        await world.go_down()

        for offer in offers:
            assert backend.reaches(offer), f"reaches() denies what was offered: {offer.id}"

    async def test_offers_say_when_their_cost_was_seen(self, world: World, backend: Backend) -> None:
        """Each offer's cost says when it was observed, by the clock of the context, and by whom.

        Troubleshooting: set ``observed_at`` from ``context.clock.utc_ms()`` when the price was read, never from 0.
        """
        async with patience(world, "list its offers"):
            offers = await backend.offers()

        now = world.clock.utc_ms()
        for offer in offers:
            assert abs(now - offer.cost.observed_at) < _CLOCK_ERROR_MS, (
                f"offer {offer.id} was observed at {offer.cost.observed_at}, and it is {now}"
            )

    async def test_exhaustion_is_no_error_of_offers(self, world: World, backend: Backend) -> None:
        """An exhausted backend lists fewer offers, or none, and raises nothing.

        Troubleshooting: leave out what is known to be sold out; an empty answer is an answer.
        """
        before = await backend.offers()
        await world.exhaust()
        async with patience(world, "list its offers"):
            after = await backend.offers()

        assert {offer.id for offer in after} <= {offer.id for offer in before}, "exhaustion brought new offers"


def _check_around(backend: Backend, check: Callable[[Requirements, tuple[Capability, ...]], None]) -> None:
    declared = backend.capabilities()
    for needs in steps(declared):
        check(needs, declared)

    @_SETTINGS
    @given(needs=walks(declared))
    def walk(needs: Requirements) -> None:
        check(needs, declared)

    walk()


def _covers(capability: Capability, offer: Offer) -> bool:
    return (
        (capability.region, capability.posture) == (offer.region, offer.posture)
        and offer.resources.fits_in(capability.ceiling)
        and set(offer.networks) <= set(capability.networks)
        and offer.max_duration_ms <= capability.max_duration_ms
    )
