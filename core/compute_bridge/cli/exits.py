"""Exit codes: one for each thing that a script does differently."""

from collections.abc import Iterator
from enum import IntEnum

from compute_bridge.cli.commands import UsageError
from compute_bridge.ports import errors


class Exit(IntEnum):
    """What the process ends with."""

    OK = 0
    ERROR = 1
    USAGE = 2
    CONFIG = 3
    NO_CAPACITY = 4
    ATTESTATION = 5
    UNVERIFIED = 6
    REFUSED = 7
    UNREACHABLE = 8
    INTERRUPTED = 130


# The first class that fits decides.
_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (UsageError, Exit.USAGE),
    (errors.NoQuoteError, Exit.ATTESTATION),
    (errors.JournalError, Exit.ERROR),
    (errors.BootError, Exit.CONFIG),
    (errors.NoCapacityError, Exit.NO_CAPACITY),
    (errors.QuotaError, Exit.NO_CAPACITY),
    (errors.AttestationError, Exit.ATTESTATION),
    (errors.RecordError, Exit.UNVERIFIED),
    (errors.EnvelopeError, Exit.UNVERIFIED),
    (errors.ReceiptError, Exit.UNVERIFIED),
    (errors.MarketError, Exit.REFUSED),
    (errors.RecordConflictError, Exit.ERROR),
    (errors.RecordTooLargeError, Exit.ERROR),
    (errors.NetworkError, Exit.UNREACHABLE),
    (errors.UnavailableError, Exit.UNREACHABLE),
    (errors.ThrottledError, Exit.UNREACHABLE),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)


def exit_code(error: BaseException) -> Exit:
    """Return the code for an error that can be named."""
    return next((code for cls, code in _CODES if isinstance(error, cls)), Exit.ERROR)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that a task group bundled, each by itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
