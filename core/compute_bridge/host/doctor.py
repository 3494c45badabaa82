"""What a backend finds about itself, asked so that whatever goes wrong is a finding too."""

import anyio
from attrs import evolve

from compute_bridge.host.plugin_call import PluginResultError, backend_call
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.model.ids import BackendName
from compute_bridge.ports.backend import Backend
from compute_bridge.ports.doctor import Finding, SupportsDoctor, Verdict
from compute_bridge.ports.errors import UnavailableError

EXAMINE_S = 300.0
MOST = 1000
"""The most findings of one backend."""
_WIDEST = 500


async def examine(name: BackendName, backend: Backend, *, within_s: float = EXAMINE_S) -> tuple[Finding, ...] | None:
    """Return what the backend finds about itself, ``None`` without the power. ``within_s`` is real time."""
    if not isinstance(backend, SupportsDoctor):
        return None
    try:
        with anyio.fail_after(within_s), backend_call(name, "examine"):
            answer: object = await backend.examine()
        return _checked(name, answer)
    except TimeoutError:
        error = UnavailableError(f"backend {name}: not examined within {within_s:g} s; ask again, or ask the cloud")
        return (fault("examination", error),)
    except ComputeBridgeError as error:
        return (fault("examination", error),)


def fault(check: str, error: ComputeBridgeError) -> Finding:
    """Return an error as a finding; its message has the mend."""
    line = " ".join(str(error).split())
    return Finding(check, Verdict.FAULT, "".join(one if one.isprintable() else "?" for one in line)[:_WIDEST])


def _checked(name: BackendName, answer: object) -> tuple[Finding, ...]:
    if type(answer) is not tuple or len(answer) > MOST:
        raise _wrong(name, f"returned {type(answer).__name__}, not a tuple of at most {MOST}")
    if not answer:
        return (Finding("examination", Verdict.UNKNOWN, "the backend tells nothing of itself"),)
    return tuple(_finding(name, one) for one in answer)


def _finding(name: BackendName, one: object) -> Finding:
    if type(one) is not Finding or type(one.verdict) is not Verdict:
        raise _wrong(name, f"returned {type(one).__name__}, or a verdict that is none")
    try:
        # Made anew, so that its texts are checked whatever the plugin did to it.
        return evolve(one)
    except ValueError as error:
        raise _wrong(name, f"returned a finding of which {str(error)[:200]}") from error


def _wrong(name: BackendName, what: str) -> PluginResultError:
    return PluginResultError(f"backend {name}: examine {what}; report it to the plugin's author")
