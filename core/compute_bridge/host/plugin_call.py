"""Where the host meets plugins' code: what they raise and return is theirs, what we make of it is here."""

from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from typing import TypeVar

from compute_bridge.model.reason import Reason
from compute_bridge.ports.errors import (
    BackendError,
    ComputeBridgeError,
    CredentialsError,
    NoCapacityError,
    QuotaError,
    StopFailoverError,
    ThrottledError,
    UnavailableError,
    UnservableError,
)

T = TypeVar("T")


class PluginResultError(ComputeBridgeError):
    """A plugin returned what it must not; use none of it, and tell the operator which plugin."""

    reason = Reason.PLUGIN_RESULT


class BackendFaultError(BackendError):
    """A backend let out an error that no port names; clean up by token, then bench it, tell the operator."""


# The first class that fits, so a subclass stands before its base.
_REASONS: tuple[tuple[type[ComputeBridgeError], Reason], ...] = (
    (PluginResultError, Reason.PLUGIN_RESULT),
    (NoCapacityError, Reason.NO_CAPACITY),
    (QuotaError, Reason.QUOTA),
    (ThrottledError, Reason.THROTTLED),
    (UnavailableError, Reason.UNAVAILABLE),
    (CredentialsError, Reason.CREDENTIALS),
    (UnservableError, Reason.UNSERVABLE),
    (StopFailoverError, Reason.STOP_FAILOVER),
)


def reason_of(error: ComputeBridgeError) -> Reason:
    """Return the reason code of what left a backend; ``backend-fault`` for what has no code of its own."""
    return next((reason for cls, reason in _REASONS if isinstance(error, cls)), Reason.BACKEND_FAULT)


@contextmanager
def backend_call(backend: str, doing: str) -> Generator[None]:
    """Let only errors that the port names and cancellations out of a backend's method.

    :raises BackendFaultError: in place of anything else. Its message leaves the foreign one out, since nobody
        promised that it holds no credential; ``__cause__`` keeps it.
    """
    try:
        yield
    except (BackendError, PluginResultError):
        raise
    except Exception as error:
        raise BackendFaultError(
            f"backend {backend}: {doing} raised {type(error).__name__}, which its port does not name;"
            " report it to the plugin's author"
        ) from error


async def asked(backend: str, doing: str, call: Awaitable[object], kind: type[T]) -> T:
    """Return what a backend answers to ``call`` when it is of the class that the port promises.

    :raises BackendFaultError: if it is not, or if it raises what the port does not name.
    :raises BackendError: if the backend says so.
    """
    with backend_call(backend, doing):
        answer = await call
    if not isinstance(answer, kind):
        raise BackendFaultError(
            f"backend {backend}: {doing} returned {type(answer).__name__}, not {kind.__name__};"
            " report it to the plugin's author"
        )
    return answer


@contextmanager
def policy_call(policy: str) -> Generator[None]:
    """Turn whatever a policy raises into a plugin's wrong result.

    :raises PluginResultError: in place of any error.
    """
    try:
        yield
    except PluginResultError:
        raise
    except Exception as error:
        raise PluginResultError(
            f"{policy} raised {type(error).__name__}: {error}; report it to the plugin's author"
        ) from error
