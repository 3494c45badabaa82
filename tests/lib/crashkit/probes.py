"""Points at the edges of what a bridge does outside itself: journal, network, backend, settlement."""

import importlib
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Final

from compute_bridge.ports.errors import BooksUnwritableError, NetworkError, UnavailableError
from compute_bridge.ports.journal import JournalUnwritableError
from compute_bridge.testing.memory_account import CloudError
from crashkit.awaits import instrument
from crashkit.points import POINTS

#: Modules of which every await is a point, by their folder and the beginning of their names.
AWAITED: Final = ("lease", "provider", "reconcile", "strays", "outbox", "bridge")
_RACK: Final = ("attempt", "rack", "ssh", "watch")
#: Those of what clouds share, and of each cloud's own plugin.
_ROOM: Final = ("backend", "calls", "listing")
_ACCOUNTS: Final = ("aws", "azure", "gcp")
_BACKENDS: Final = (
    ("crashkit.file_truth", "FileTruthBackend"),
    ("compute_bridge_baremetal.backend", "BaremetalBackend"),
    ("compute_bridge.cloud.backend", "CloudBackend"),
)
_BACKEND: Final = ("offers", "provision", "find", "list_owned", "usage", "terminate", "extend", "watch_until_exit")

#: The vendor's calls that change something, of which one call of the backend may make several.
_CLOUD: Final = ("create", "wait_ready", "delete", "tag", "end_in")


def awaited_files() -> list[Path]:
    """Return the files of the host that serve a lease."""
    import compute_bridge

    folder = Path(compute_bridge.__file__).parent / "host"
    return sorted(path for path in folder.glob("*.py") if path.stem.startswith(AWAITED))


def place() -> None:
    """Place every probe; call it before anything of the host is imported."""
    instrument([f"compute_bridge.host.{path.stem}" for path in awaited_files()])
    instrument([f"compute_bridge_baremetal.{name}" for name in _RACK])
    instrument([f"compute_bridge.cloud.{name}" for name in _ROOM])
    instrument([f"compute_bridge_{name}.cloud" for name in _ACCOUNTS])
    _probe("compute_bridge.adapters.sqlite_journal", "SqliteJournal", "record", _record, _no_room)
    for method in ("append", "put", "save_cursor", "find"):
        _probe("compute_bridge.adapters.sqlite_network", "SqliteNetwork", method, _network(method), NetworkError)
    for method in ("settle", "reconcile"):
        _probe("compute_bridge_ledger.ledger", "Ledger", method, _named(f"ledger {method}"), BooksUnwritableError)
    for module, cls in _BACKENDS:
        for method in _has(module, cls):
            _probe(module, cls, method, _named(f"backend {method}"), UnavailableError)
    for method in _CLOUD:
        _probe("crashkit.file_truth", "FileClient", method, _named(f"cloud {method}"), _vendor_down)
    for function in ("_write_schema", "_publish"):
        _probe_function("compute_bridge.adapters.sqlite_file", function)


def _has(module: str, cls: str) -> list[str]:
    owner = getattr(importlib.import_module(module), cls)
    return [method for method in _BACKEND if hasattr(owner, method)]


def _named(point: str) -> Callable[..., str]:
    return lambda *_, **__: point


def _record(_journal: Any, *drafts: Any) -> str:
    return f"record {'+'.join(draft.kind for draft in drafts)}"


def _network(method: str) -> Callable[..., str]:
    def name(_network: Any, *arguments: Any, **_: Any) -> str:
        # A consumer's cursor names its stream second; a shuffle's stream names a pointer last.
        stream = arguments[1] if method == "save_cursor" else arguments[0]
        return f"{method} {'/'.join(stream.split('/')[:2])}"

    return name


def _no_room(message: str) -> JournalUnwritableError:
    return JournalUnwritableError(message, reason="full")


def _vendor_down(message: str) -> CloudError:
    return CloudError("timeout", message)


def _probe(module: str, cls: str, method: str, name: Callable[..., str], fault: Callable[[str], Exception]) -> None:
    owner = getattr(importlib.import_module(module), cls)
    call = getattr(owner, method)

    @wraps(call)
    async def probed(*arguments: Any, **named: Any) -> Any:
        point = name(*arguments, **named)
        POINTS.hit(f"before {point}")
        if POINTS.fails(point):
            POINTS.hit(f"after failed {point}")
            raise fault(f"{point}: refused by the story")
        try:
            result = await call(*arguments, **named)
        except Exception:
            POINTS.hit(f"after failed {point}")
            raise
        POINTS.hit(f"after {point}")
        return result

    setattr(owner, method, probed)


def _probe_function(module: str, function: str) -> None:
    owner = importlib.import_module(module)
    call = getattr(owner, function)

    @wraps(call)
    def probed(path: Path, *arguments: Any) -> Any:
        point = f"{function.strip('_')} {(arguments[0] if function == '_publish' else path).name.lstrip('.')[:14]}"
        POINTS.hit(f"before {point}")
        result = call(path, *arguments)
        POINTS.hit(f"after {point}")
        return result

    setattr(owner, function, probed)


def reached(points: Sequence[str]) -> set[str]:
    """Return the awaits among ``points``, by their names."""
    return {point.rpartition(" ")[2] for point in points if point.startswith(("before await ", "after await "))}
