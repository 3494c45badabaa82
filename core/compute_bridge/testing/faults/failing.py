"""Faults in failures: wrong classes, lost causes, told secrets, and a blocked event loop."""

import logging
import socket
import time
from contextlib import AbstractContextManager, nullcontext

from compute_bridge.model.ids import InstanceId, Token
from compute_bridge.ports.backend import Instance, Offer, Order
from compute_bridge.ports.errors import (
    BackendError,
    CredentialsError,
    NoCapacityError,
    QuotaError,
    ThrottledError,
    UnavailableError,
)
from compute_bridge.testing.faults.planted import Faulty, planted

logger = logging.getLogger(__name__)

_CLOSED_PORT = 9


@planted("test_no_capacity_is_named", says="a provision without capacity left a machine running")
class LeavesAMachineWithoutCapacity(Faulty):
    """Leaves a machine where capacity fails half-way."""

    async def provision(self, order: Order) -> Instance:
        """Start something before the create that fails."""
        try:
            return await super().provision(order)
        except NoCapacityError:
            self.account.start(name=order.ownership.name, shape="small", image="plain", tags={}, login={})
            raise


@planted(
    "test_no_capacity_is_named",
    "test_quota_is_named",
    "test_throttling_is_named",
    "test_refused_credentials_are_named",
    says="UnavailableError",
)
class CallsEverythingUnavailable(Faulty):
    """Has one name for every failure."""

    async def provision(self, order: Order) -> Instance:
        """Raise the same class for all."""
        try:
            return await super().provision(order)
        except BackendError as error:
            raise UnavailableError(f"backend {self.name}: failed") from error


@planted("test_quota_is_named", says="NoCapacityError")
class CallsAQuotaNoCapacity(Faulty):
    """Takes a quota for a lack of capacity."""

    async def provision(self, order: Order) -> Instance:
        """Raise the wrong class."""
        try:
            return await super().provision(order)
        except QuotaError as error:
            raise NoCapacityError(f"backend {self.name}: failed") from error


@planted("test_throttling_is_named", says="retry_after_s")
class ThrottlesWithoutAWait(Faulty):
    """Says that it is throttled, and not for how long."""

    async def provision(self, order: Order) -> Instance:
        """Raise without a wait."""
        try:
            return await super().provision(order)
        except ThrottledError as error:
            raise ThrottledError(str(error), retry_after_s=0) from error


@planted("test_silence_is_named", "test_no_capacity_is_named", says="CloudError: timeout")
class LetsTheSdkOut(Faulty):
    """Lets the SDK's error out."""

    def _translated(self, doing: str) -> AbstractContextManager[None]:
        return nullcontext()


@planted("test_refused_credentials_are_named", says="DID NOT RAISE")
class TakesRefusedForAbsent(Faulty):
    """Finds nothing where its credentials are refused."""

    async def find(self, token: Token) -> Instance | None:
        """Return None for a refusal."""
        try:
            return await super().find(token)
        except CredentialsError:
            return None


@planted("test_silence_is_named", says="DID NOT RAISE")
class TakesSilenceForAbsence(Faulty):
    """Lists nothing where nothing answers."""

    async def list_owned(self) -> tuple[Instance, ...]:
        """Return nothing for silence."""
        try:
            return await super().list_owned()
        except UnavailableError:
            return ()


@planted("test_silence_is_named", says="DID NOT RAISE")
class TakesSilenceForDone(Faulty):
    """Takes a terminate that nothing answered for one that was done."""

    async def terminate(self, instance: InstanceId) -> None:
        """Return whatever happens."""
        try:
            await super().terminate(instance)
        except UnavailableError as error:
            logger.info("terminated, perhaps: %s", error)


@planted("test_failures_keep_their_cause", says="from nothing")
class ForgetsTheCause(Faulty):
    """Raises from nothing."""

    async def offers(self) -> tuple[Offer, ...]:
        """Cut the cause off."""
        try:
            return await super().offers()
        except UnavailableError as error:
            raise UnavailableError(str(error)) from None


@planted("test_failures_name_the_backend", says="does not say which backend failed")
class IsNameless(Faulty):
    """Does not say which backend failed."""

    async def offers(self) -> tuple[Offer, ...]:
        """Raise a message without the name."""
        try:
            return await super().offers()
        except UnavailableError as error:
            raise UnavailableError("no answer") from error


@planted("test_secrets_stay_out_of_text", says="the message of a CredentialsError")
class TellsTheKeyInAnError(Faulty):
    """Quotes the key that was refused."""

    async def offers(self) -> tuple[Offer, ...]:
        """Put the key into the message."""
        try:
            return await super().offers()
        except CredentialsError as error:
            key = self._context.read_secret("env:MEMORY_API_KEY").decode()
            raise CredentialsError(f"backend {self.name}: {key} is refused") from error


@planted("test_secrets_stay_out_of_text", says="a log line")
class LogsTheKey(Faulty):
    """Logs the key at the debug level."""

    async def offers(self) -> tuple[Offer, ...]:
        """Log the key."""
        logger.debug("signing with %s", self._context.read_secret("env:MEMORY_API_KEY"))
        return await super().offers()


@planted("test_secrets_stay_out_of_text", says="a log line")
class LogsTheHostKey(Faulty):
    """Logs the user data, in which the host key stands."""

    async def provision(self, order: Order) -> Instance:
        """Log the private key."""
        logger.debug("user data: %s", order.access.host_key_private)
        return await super().provision(order)


@planted("test_secrets_stay_out_of_text", says="repr(backend)")
class ShowsTheKeyInItsRepr(Faulty):
    """Shows the key in its repr."""

    def __repr__(self) -> str:
        return f"ShowsTheKeyInItsRepr({self._context.read_secret('env:MEMORY_API_KEY')!r})"


@planted("test_provision_starts_one_machine", says="Blocking call to time.sleep")
class BlocksWithSleep(Faulty):
    """Waits in the event loop's thread."""

    async def provision(self, order: Order) -> Instance:
        """Sleep."""
        time.sleep(0.001)  # noqa: ASYNC251 - the fault itself
        return await super().provision(order)


@planted("test_find_of_an_unknown_token_is_none", says="Blocking call to socket.socket.connect")
class BlocksWithASocket(Faulty):
    """Waits for a connection in the event loop's thread."""

    async def find(self, token: Token) -> Instance | None:
        """Connect; the detector stops it before a byte is sent."""
        with socket.socket() as link:
            link.connect(("127.0.0.1", _CLOSED_PORT))
        return await super().find(token)
