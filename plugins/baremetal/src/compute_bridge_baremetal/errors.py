"""What the agent's refusals mean to the host: one table."""

from collections.abc import Callable

from compute_bridge.ports import errors
from compute_bridge_baremetal.protocol import RefusedError

# A code of the agent: what the host does about it, and the mend.
_MEANINGS: dict[str, tuple[Callable[[str], errors.BackendError], str]] = {
    "no-capacity": (errors.NoCapacityError, "try another machine"),
    "storage": (errors.NoCapacityError, "free some disk there, or set state_dir"),
    "unfit": (errors.UnservableError, "mend the machine; until then it is not offered"),
    "conflict": (errors.UnservableError, "give each order a token of its own"),
    "ended": (errors.UnservableError, "a token is served once; order under a new one"),
    "start": (errors.UnservableError, "see that the image and the driver's settings work there"),
    "image": (errors.UnservableError, "make the archive anew and compare its digest"),
    "lingers": (errors.NotYetTerminatedError, "end it again"),
    "stuck": (errors.StopFailoverError, "look at the machine: something does not go away"),
    "busy": (errors.UnavailableError, "try again"),
    "cut-short": (errors.UnavailableError, "try again"),
    "abandoned": (errors.UnavailableError, "try again"),
    "unknown": (errors.UnavailableError, "it may have ended long ago"),
    "gone": (errors.UnservableError, "it has ended"),
}


def meaning(error: RefusedError, *, place: str, doing: str) -> errors.BackendError:
    """Return what a refusal of the agent means; a code of another version concludes nothing."""
    kind, mend = _MEANINGS.get(error.code, (errors.UnavailableError, "install one version of the bridge everywhere"))
    return kind(f"{place}: cannot {doing}: {error}; {mend}")
