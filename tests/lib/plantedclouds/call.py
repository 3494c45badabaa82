"""Faults in the calls of a cloud, whichever it is."""

import logging

import anyio
from attrs import evolve

from compute_bridge.cloud.machine import Cloud, Machine, Machines
from compute_bridge.model.catalog import Catalog
from compute_bridge.ports.backend import Order
from compute_bridge.ports.errors import (
    BackendError,
    CredentialsError,
    NoCapacityError,
    QuotaError,
    ThrottledError,
    UnavailableError,
)
from compute_bridge.testing.physics.world import CloudWorld
from plantedclouds.planting import AWS, AZURE, GCP, planted

logger = logging.getLogger(__name__)


class _Seeing(Cloud):
    world: CloudWorld


@planted("test_a_lost_reply_is_sent_once", says="DID NOT RAISE", part="cloud")
class SendsACreateTwice(Cloud):
    """Sends a create again whose answer was lost, as an SDK with retries does."""

    async def create(self, order: Order) -> None:
        """Try once more."""
        try:
            await super().create(order)  # type: ignore[safe-super]
        except UnavailableError:
            await super().create(order)  # type: ignore[safe-super]


@planted("test_a_quota_is_of_a_region_or_the_account", says="the create was sent", part="cloud", on=(GCP,))
@planted("test_capacity_ends_zone_by_zone", says="the create was sent", part="cloud", on=(AWS, AZURE))
class RetriesEveryNo(Cloud):
    """Sends a create again that was refused, since the refusal came as an HTTP 500."""

    async def create(self, order: Order) -> None:
        """Try once more."""
        try:
            await super().create(order)  # type: ignore[safe-super]
        except (NoCapacityError, QuotaError):
            await super().create(order)  # type: ignore[safe-super]


@planted("test_no_capacity_is_named", says="UnavailableError", part="cloud", on=(AWS,))
class CallsNoCapacityASilence(Cloud):
    """Classifies by the HTTP status: a 500 is silence."""

    async def create(self, order: Order) -> None:
        """Raise another class."""
        try:
            await super().create(order)  # type: ignore[safe-super]
        except NoCapacityError as error:
            raise UnavailableError(str(error)) from error.__cause__


@planted("test_no_capacity_is_named", says="is in no listing", part="cloud", on=(AZURE,))
class TakesAConflictForDone(Cloud):
    """Classifies by the SDK's class: whatever is a ResourceExistsError exists."""

    async def create(self, order: Order) -> None:
        """Go on where nothing was made."""
        try:
            await super().create(order)  # type: ignore[safe-super]
        except NoCapacityError:
            return


@planted("test_quota_is_named", says="CredentialsError", part="cloud", on=(GCP, AZURE))
class CallsAQuotaCredentials(Cloud):
    """Classifies by the SDK's class: whatever is Forbidden is about credentials."""

    async def create(self, order: Order) -> None:
        """Raise another class."""
        try:
            await super().create(order)  # type: ignore[safe-super]
        except QuotaError as error:
            raise CredentialsError(str(error)) from error.__cause__


@planted("test_throttling_says_for_how_long", says="Retry-After: 7 is told as", part="cloud", on=(GCP, AZURE))
class WaitsAsItLikes(Cloud):
    """Reads no Retry-After."""

    async def create(self, order: Order) -> None:
        """Tell a wait of its own."""
        try:
            await super().create(order)  # type: ignore[safe-super]
        except ThrottledError as error:
            raise ThrottledError(str(error), retry_after_s=1.0) from error.__cause__


@planted(
    "test_a_create_that_fails_late_is_told_and_leaves_nothing",
    says="UnservableError",
    part="cloud",
    on=(GCP, AZURE),
)
class ReadsNoReason(Cloud):
    """Sees that a machine failed, and not why."""

    async def machines(self, place: str) -> Machines:
        """Leave the reasons out."""
        found = await super().machines(place)  # type: ignore[safe-super]
        return {id_: _without_reason(machine) for id_, machine in found.items()}


def _without_reason(machine: Machine) -> Machine:
    return evolve(machine, failure=None)


@planted("test_pages_of_three_are_all_read", says="is in no listing", part="cloud", on=(AZURE,))
class ReadsOnePage(Cloud):
    """Reads the first page of the list."""

    async def machines(self, place: str) -> Machines:
        """Return three machines."""
        found = await super().machines(place)  # type: ignore[safe-super]
        return dict(list(found.items())[:3])


@planted("test_every_place_is_listed", says="is in no listing", part="cloud", on=(AWS, GCP))
class ListsOnePlace(Cloud):
    """Lists one region alone."""

    async def machines(self, place: str) -> Machines:
        """Leave out what is not in Europe."""
        found = await super().machines(place)  # type: ignore[safe-super]
        return {id_: machine for id_, machine in found.items() if machine.tags.offer.startswith("eu")}


@planted(
    "test_a_silent_place_is_not_taken_for_empty",
    "test_watch_waits_out_silence",
    says="with one place silent the account is told to have []",
    part="cloud",
    on=(AWS, GCP),
)
class TakesSilenceForEmpty(Cloud):
    """Takes a place that did not answer for one that is empty."""

    async def machines(self, place: str) -> Machines:
        """Return nothing where nobody answers."""
        try:
            return await super().machines(place)  # type: ignore[safe-super]
        except UnavailableError:
            return {}


@planted(
    "test_credentials_that_expire_mid_life_are_told_and_end_nothing",
    says="DID NOT RAISE",
    part="cloud",
    on=(AWS, AZURE),
)
class TakesARefusalForEmpty(Cloud):
    """Takes a listing that was refused for one that is empty."""

    async def machines(self, place: str) -> Machines:
        """Return nothing where nobody lets it look."""
        try:
            return await super().machines(place)  # type: ignore[safe-super]
        except CredentialsError:
            return {}


@planted("test_list_owned_leaves_out_strangers", says="is ours", part="cloud", on=(AWS, GCP))
class TakesStrangersForOurs(_Seeing):
    """Takes every machine of the account for one of ours."""

    async def machines(self, place: str) -> Machines:
        """Return a machine of ours for everyone's."""
        found = dict(await super().machines(place))  # type: ignore[safe-super]
        ours = next(iter(found.values()), None)
        ids = [self.world.instance_id(machine) for machine in self.world.physics.existing()]
        return found if ours is None else {id_: evolve(ours, id=id_) for id_ in ids}


@planted("test_secrets_stay_out_of_text", says="a secret appears in a log line", part="cloud", on=(AWS,))
class LogsTheCredential(_Seeing):
    """Writes what it was sent with into the log."""

    async def create(self, order: Order) -> None:
        """Log the secret."""
        logger.debug("creating with %s", self.world.secrets()[0])
        await super().create(order)  # type: ignore[safe-super]


@planted("test_secrets_stay_out_of_text", says="a secret appears in the message", part="cloud", on=(GCP, AZURE))
class TellsTheCredential(_Seeing):
    """Quotes the request in the message of a failure."""

    async def create(self, order: Order) -> None:
        """Raise the same, with the secret in it."""
        try:
            await super().create(order)  # type: ignore[safe-super]
        except BackendError as error:
            error.args = (f"{error}: sent with {self.world.secrets()[0]}",)
            raise


@planted(
    "test_a_slow_listing_that_is_cancelled_holds_nobody_up",
    says="did not list again within",
    part="cloud",
    on=(GCP,),
    patience_s=3.0,
)
class HoldsOthersUp(Cloud):
    """Lists nothing any more once a listing was cancelled."""

    _is_stuck = False

    async def machines(self, place: str) -> Machines:
        """Wait for what nobody will do."""
        if self._is_stuck:
            await anyio.sleep_forever()
        try:
            return await super().machines(place)  # type: ignore[safe-super]
        except anyio.get_cancelled_exc_class():
            self._is_stuck = True
            raise


@planted(
    "test_a_region_that_is_closed_is_left_out_of_the_catalog",
    says="is closed to the account",
    part="cloud",
    on=(AWS,),
)
class KeepsTheFirstCatalog(Cloud):
    """Reads the catalog once."""

    _kept: Catalog | None = None

    async def fetch(self) -> Catalog:
        """Return what was there."""
        self._kept = self._kept or await super().fetch()  # type: ignore[safe-super]
        return self._kept
