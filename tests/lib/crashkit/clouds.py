"""Where the machines of a schedule are: what the boot file says, the levers, and the history that the truth reads."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen

from compute_bridge.model.resources import NetworkPolicy, Region
from compute_bridge.ports.clock import Clock
from crashkit import clock
from crashkit.clock import Birth
from crashkit.file_truth import FileAccount, machines_of, strays_of
from crashkit.points import Points
from crashkit.truth import Machine

_FILE_TABLE = """\
[[backend]]
name = "truth"
kind = "file-truth"
folder = "cloud"
window_ms = {window_ms}
"""


@frozen
class Site:
    """What the files of a schedule say of a cloud. ``speed`` is how fast time goes in it.

    ``grace_ms`` is how long a machine may live beyond its lease: by then a bridge that dies three times on a busy
    machine is back. The ``table`` may name settings of the story. ``tolerance_ms`` is how coarse its own record of
    starts and ends is. ``birth`` is when time began in a cloud that has a
    clock of its own already; else it begins with the schedule.
    """

    table: str = _FILE_TABLE
    image: str = "vm:plain"
    network: NetworkPolicy = NetworkPolicy.ISOLATED
    region: Region = Region("eu-north")  # noqa: RUF009 - a plain word
    speed: int = clock.SPEED
    grace_ms: int = 12_000 * clock.SPEED
    tolerance_ms: int = 0
    birth: Birth | None = None


PAPER = Site()
"""That of the file-truth backend."""


class Cloud(Protocol):
    """One schedule's cloud, as it stands outside every process of the coalition."""

    @property
    def site(self) -> Site:
        """What the files say of it."""

    def levers(self, clock: Clock) -> Any:
        """Return what a story pulls."""

    def machines(self) -> tuple[Machine, ...]:
        """Return every machine that was ever made, by the cloud's own account."""

    def remains(self) -> list[str]:
        """Return what is left of machines that have ended, each thing in words."""

    def tap(self, points: Points) -> None:
        """Pass, from now on, a point of ``points`` before and after each thing that it is made to do, if it can."""

    def cut(self, how: str) -> Callable[[], bool]:
        """Cut the way to it; return what restores it, and tells whether anything was cut."""


@frozen
class FileCloud:
    """The file-truth backend's."""

    folder: Path
    site: Site = PAPER

    def levers(self, clock: Clock) -> FileAccount:
        """Return the account."""
        return FileAccount(self.folder, clock)

    def machines(self) -> tuple[Machine, ...]:
        """Return the history that the folder is."""
        return machines_of(self.folder)

    def remains(self) -> list[str]:
        """Return the strays that live: the history leaves them out."""
        return strays_of(self.folder)

    def tap(self, points: Points) -> None:
        """Do nothing: the bridge itself passes the points of its calls."""

    def cut(self, how: str) -> Callable[[], bool]:
        """Refuse: its own lever ``ailment`` is what a link would be."""
        raise ValueError(f"cut {how!r}: no link leads to a folder")


@frozen
class Kind:
    """A kind of cloud. ``prepare`` makes, in a founded market's folder, what all its schedules share.

    ``at_once`` schedules are played at a time: each waits more than it works. ``currency`` is the market's, ``late``
    the modules that the processes of a schedule import only when they need them.
    """

    open: Callable[[Path, Path], AbstractContextManager[Cloud]]
    prepare: Callable[[Path], AbstractContextManager[None]] = lambda _ground: nullcontext()
    cadence_ms: int = 5_000
    at_once: int = 8
    currency: str = "EUR"
    late: tuple[str, ...] = ()


@contextmanager
def _files(folder: Path, _ground: Path) -> Generator[Cloud]:
    yield FileCloud(folder / "cloud")


# What opens them imports a plugin, which a schedule on files need not have.
def _late(module: str, name: str) -> Callable[[Path, Path], AbstractContextManager[Cloud]]:
    def open_cloud(folder: Path, ground: Path) -> AbstractContextManager[Cloud]:
        opened: AbstractContextManager[Cloud] = getattr(import_module(module), name)(folder, ground)
        return opened

    return open_cloud


def _prepare_store(ground: Path) -> AbstractContextManager[None]:
    prepared: AbstractContextManager[None] = import_module("crashkit.rack").prepare_store(ground)
    return prepared


def _account(cloud: str) -> Kind:
    module = f"crashkit.wired_{cloud}"
    return Kind(_late(module, "open_account"), cadence_ms=5_000, at_once=6, currency="USD", late=(module,))


_RACK = "crashkit.rack"

KINDS = {
    "file-truth": Kind(_files),
    "rack": Kind(_late(_RACK, "open_rack"), cadence_ms=250, late=(_RACK,)),
    "pods": Kind(_late(_RACK, "open_pods"), _prepare_store, cadence_ms=250, at_once=4, late=(_RACK,)),
    **{cloud: _account(cloud) for cloud in ("aws", "azure", "gcp")},
}
"""Every kind by its name in the stories."""
