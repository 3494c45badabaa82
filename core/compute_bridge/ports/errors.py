"""The error tree: one class for each thing that a caller does differently.

Every message says what failed, where, and the mend, in that order, and holds no secret.
"""

from enum import StrEnum

from attrs import frozen

from compute_bridge.model.errors import ComputeBridgeError as ComputeBridgeError
from compute_bridge.model.errors import EnvelopeError as EnvelopeError
from compute_bridge.model.errors import RecordError as RecordError
from compute_bridge.model.errors import SignatureError as SignatureError

# --- boot -------------------------------------------------------------------------------------


class BootError(ComputeBridgeError):
    """The bridge cannot start; show the step and the mend, then exit."""


@frozen
class Fault:
    """One mistake in a file: the key path, what must stand there, what was got, and the mend."""

    key: str
    expected: str
    got: str
    mend: str

    def __str__(self) -> str:
        return f"{self.key}: {self.expected}; got {self.got}; {self.mend}"


class BootFileError(BootError):
    """The boot file is wrong; show every fault, each with its key path, then exit."""

    def __init__(self, message: str, *, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults


class PluginError(BootError):
    """A plugin is missing, broken or doubled; name the distribution and the entry point, then exit."""


class NoQuoteError(BootError):
    """The platform gave no quote; an unattested bridge is not admitted, so exit."""


class JournalError(BootError):
    """The journal cannot be trusted; stop, touch nothing, and let the operator decide."""


# --- backends ---------------------------------------------------------------------------------


class Scope(StrEnum):
    """How far a backend's refusal reaches, narrowest first."""

    OFFER = "offer"
    ZONE = "zone"
    REGION = "region"
    ACCOUNT = "account"


class BackendError(ComputeBridgeError):
    """A backend could not do what was asked; the subclass says what to do next."""


class NoCapacityError(BackendError):
    """There is no capacity in ``scope``; bench that scope and try the next offer now."""

    def __init__(self, message: str, *, scope: Scope = Scope.OFFER) -> None:
        super().__init__(message)
        self.scope = scope


class QuotaError(BackendError):
    """A quota of ``scope`` is used up; bench that scope until it can have changed."""

    def __init__(self, message: str, *, scope: Scope = Scope.REGION) -> None:
        super().__init__(message)
        self.scope = scope


class ThrottledError(BackendError):
    """The backend asks to be left alone; wait ``retry_after_s``, then the same attempt, same token."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(BackendError):
    """The backend did not answer; conclude nothing and retry the same attempt with the same token."""


class CredentialsError(BackendError):
    """The backend refuses our credentials; bench it, tell the operator, terminate nothing."""


class UnservableError(BackendError):
    """This offer cannot serve this order; refuse the offer for this grant, ``can_satisfy`` was wrong."""


class NotYetTerminatedError(BackendError):
    """The instance is still going away; call terminate again."""


class StopFailoverError(BackendError):
    """A failed attempt could not be cleaned up; stop, try no other offer, keep it on the books."""


# --- network, market, attestation, envelopes ----------------------------------------------------


class NetworkError(ComputeBridgeError):
    """The network did not carry a record; nothing is concluded, try again."""


class TailMovedError(NetworkError):
    """The stream's tail is not the expected one; read on and decide again."""


class RecordConflictError(NetworkError):
    """A record id was used for other bytes; a bug or an attack, never retry."""


class StaleVersionError(NetworkError):
    """The collection's key has another version; read it and decide again."""


class RecordTooLargeError(NetworkError):
    """A record exceeds the network's size limit; refuse it, never retry."""


class MarketError(ComputeBridgeError):
    """The market said or did something that cannot be used."""


class AdmissionError(MarketError):
    """The market refuses a card or a request; ``reason`` is the stable code."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class AttestationError(ComputeBridgeError):
    """A quote does not prove what it must; refuse its bearer. ``reason`` is the stable code."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ReceiptError(ComputeBridgeError):
    """A receipt is not for this grant, not by this provider, or broken; do not connect."""


class SettlementError(ComputeBridgeError):
    """Settlement refuses or disagrees; keep the claim and tell the operator."""


class BooksUnwritableError(SettlementError):
    """Settlement's own books take nothing now, and took nothing; settle or reconcile the same again later."""
