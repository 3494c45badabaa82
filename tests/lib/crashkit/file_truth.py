"""A cloud whose truth lies in a folder, outside every process: the reference backend over it, and its world.

Each machine's name and its end are files made once, whole, by a link, and never removed: the folder is the history of
every machine ever made. The levers are files too, so that another process may pull them.
"""

import json
import os
from collections.abc import AsyncGenerator, Iterator, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from secrets import token_hex
from types import ModuleType
from typing import Any

from attrs import asdict, evolve, field, frozen

from compute_bridge.api import BackendKind, hookimpl
from compute_bridge.model.boot import FilePath, about
from compute_bridge.model.checks import whole
from compute_bridge.model.ids import BackendName, Token
from compute_bridge.model.units import Milliseconds
from compute_bridge.ports.backend import Backend, BackendContext, Instance
from compute_bridge.ports.clock import Clock
from compute_bridge.testing.memory import MemoryBackend
from compute_bridge.testing.memory_account import Account, Client, CloudError, Machine
from compute_bridge.testing.memory_cloud import MemoryCloud
from crashkit import truth
from crashkit.truth import Machine as TrueMachine

COMPUTE_BRIDGE_API = 1

KEY = b"sesame-0f3a9c"
"""The account's one key; it guards nothing."""
STRAY = "stray-"
"""How the id of a machine begins that no lease is to have: the history leaves it out."""
LOOK_MS = 1000
"""How often a wait for a change looks, on the backend's own clock."""


@frozen(kw_only=True)
class FileTruthConfig:
    """``[[backend]]`` with ``kind = "file-truth"``."""

    folder: FilePath = field(metadata=about("the folder that is the account"))
    window_ms: int = field(
        default=0, validator=whole(), metadata=about("for how long a new machine is not yet found or listed")
    )


# --- the account --------------------------------------------------------------------------------------


class Folder(MutableMapping[str, Machine]):
    """The machines of a folder by id, dead ones also; a machine's name is taken for good."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, key: str) -> Machine:
        try:
            machine = Machine(**json.loads((self._folder / f"{key}.made").read_text()))
        except FileNotFoundError:
            raise KeyError(key) from None
        end = self._folder / f"{key}.ended"
        return evolve(machine, **json.loads(end.read_text())) if end.exists() else machine

    def __setitem__(self, key: str, machine: Machine) -> None:
        if machine.is_gone:
            self._once(f"{key}.ended", {"state": machine.state, "ended_ms": machine.ended_ms})
            return
        if not (self._folder / f"{key}.made").exists() and not self._once(f"{machine.name}.name", {"id": key}):
            raise CloudError("name-taken", machine.name)
        os.replace(self._draft(_plain(machine)), self._folder / f"{key}.made")

    def __delitem__(self, key: str) -> None:
        raise TypeError(f"machine {key}: what was made stays in the history")

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.stem for path in self._folder.glob("*.made")))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def raise_dead(self, key: str) -> str:
        """Make a live copy of a machine that has ended, and return its id; the history does not count it."""
        stray = evolve(self[key], id=f"{STRAY}{token_hex(4)}", state="ready", ended_ms=0)
        os.replace(self._draft(_plain(stray)), self._folder / f"{stray.id}.made")
        return stray.id

    def _once(self, name: str, facts: dict[str, Any]) -> bool:
        """Write a file, whole, unless it is there."""
        draft = self._draft(facts)
        try:
            os.link(draft, self._folder / name)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def _draft(self, facts: dict[str, Any]) -> Path:
        draft = self._folder / f".{token_hex(8)}"
        draft.write_text(json.dumps(facts))
        return draft


def _plain(machine: Machine) -> dict[str, Any]:
    return {**asdict(machine), "tags": dict(machine.tags), "login": {}}


class Timers(MutableMapping[str, int]):
    """The timers of a folder: by machine, when it ends by itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, key: str) -> int:
        try:
            return int((self._folder / f"{key}.due").read_text())
        except FileNotFoundError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, due_ms: int) -> None:
        draft = self._folder / f".{token_hex(8)}"
        draft.write_text(str(due_ms))
        os.replace(draft, self._folder / f"{key}.due")

    def __delitem__(self, key: str) -> None:
        (self._folder / f"{key}.due").unlink(missing_ok=True)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.stem for path in self._folder.glob("*.due")))

    def __len__(self) -> int:
        return len(list(iter(self)))


class FileAccount(Account):
    """The account in ``folder``, one of many views of it: nothing but the clock is kept in memory."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(clock, KEY)
        self._levers = folder / "levers"
        self._levers.mkdir(parents=True, exist_ok=True)
        self.folder = Folder(folder / "machines")
        self._machines = self.folder  # type: ignore[assignment]
        self.timers = Timers(folder / "timers")  # type: ignore[assignment]
        self._ids = (token_hex(8) for _ in count())  # type: ignore[assignment]

    @property
    def ailment(self) -> str:
        """The code that every call meets."""
        return self.lever("ailment")

    @ailment.setter
    def ailment(self, code: str) -> None:
        self.pull("ailment", code)

    @property
    def scarcity(self) -> str:
        """The code that every create meets."""
        return self.lever("scarcity")

    @scarcity.setter
    def scarcity(self, code: str) -> None:
        self.pull("scarcity", code)

    @property
    def loses_next_answer(self) -> bool:
        """Whether the answer to the next create is lost."""
        return bool(self.lever("loses"))

    @loses_next_answer.setter
    def loses_next_answer(self, loses: bool) -> None:
        self.pull("loses", "yes" if loses else "")

    def raise_dead(self) -> None:
        """Let every machine that has ended stand up again, as a stray under the same token."""
        for machine in [one for one in self.machines.values() if one.is_gone and not one.id.startswith(STRAY)]:
            self.folder.raise_dead(machine.id)

    def lever(self, name: str) -> str:
        """Return where a lever stands; empty is where it does nothing."""
        path = self._levers / name if hasattr(self, "_levers") else None
        return path.read_text() if path is not None and path.exists() else ""

    def pull(self, name: str, value: str) -> None:
        """Set a lever for every process that uses the account."""
        if not hasattr(self, "_levers"):
            return  # the cloud in memory begins with its levers at rest; these stand where another process left them
        draft = self._levers / f".{token_hex(8)}"
        draft.write_text(value)
        os.replace(draft, self._levers / name)

    async def change(self, _machine: str) -> None:
        """Return after a while: who changes a file tells nobody."""
        await self.clock.sleep_ms(LOOK_MS)


class FileClient(Client):
    """A session that knows one more lever: a shape of which nothing is free."""

    def _refuse(self, name: str, shape: str) -> None:
        super()._refuse(name, shape)
        account = self._account
        if isinstance(account, FileAccount) and shape in account.lever("exhausted").split():
            raise CloudError("exhausted", shape)


# --- the backend --------------------------------------------------------------------------------------


class FileTruthBackend(MemoryBackend):
    """The reference backend, on an account that shows a new machine only after a window."""

    def __init__(self, context: BackendContext, account: "FileAccount", window_ms: int) -> None:
        super().__init__(context, FileClient(account, KEY))
        self._window_ms = Milliseconds(window_ms)
        self._clock = context.clock

    @property
    def consistency_window_ms(self) -> Milliseconds:
        """The window of the table."""
        return self._window_ms

    async def find(self, token: Token) -> Instance | None:
        """Return the machine, once the account shows it."""
        found = await super().find(token)
        return found if found is not None and self._is_shown(found) else None

    async def list_owned(self) -> tuple[Instance, ...]:
        """Return the machines that the account shows."""
        return tuple(one for one in await super().list_owned() if self._is_shown(one))

    def _is_shown(self, instance: Instance) -> bool:
        return not self._window_ms or self._clock.utc_ms() - instance.started_at >= self._window_ms


@asynccontextmanager
async def open_file_truth(context: BackendContext, config: FileTruthConfig) -> AsyncGenerator[Backend]:
    """Open the backend on the account in ``config.folder``."""
    account = FileAccount(Path(config.folder), context.clock)
    yield FileTruthBackend(context, account, config.window_ms)


@hookimpl
def register_backends() -> list[BackendKind]:
    """Return the one kind."""
    return [BackendKind("file-truth", FileTruthConfig, open_file_truth)]


def install(folder: Path) -> None:
    """Write into ``folder`` the metadata of an editable installation whose entry point is this module."""
    info = folder / "crashkit_file_truth-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crashkit-file-truth\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[compute_bridge]\nfile-truth = {__name__}\n")
    (info / "direct_url.json").write_text(json.dumps({"dir_info": {"editable": True}}))


def machines_of(folder: Path) -> tuple[TrueMachine, ...]:
    """Return every machine that was ever made in the account at ``folder``, dead ones also."""
    return tuple(
        TrueMachine(
            one.id, one.tags["cb-token"], one.tags["cb-grant"], one.started_ms, one.ended_ms if one.is_gone else None
        )
        for one in Folder(folder / "machines").values()
        if "cb-token" in one.tags and not one.id.startswith(STRAY)
    )


def strays_of(folder: Path) -> list[str]:
    """Return the strays of the account at ``folder`` that live."""
    return [one.id for one in Folder(folder / "machines").values() if one.id.startswith(STRAY) and not one.is_gone]


# --- the world ----------------------------------------------------------------------------------------


class FileTruth(MemoryCloud):
    """The folder with every lever of the cloud in memory, for the conformance suite."""

    account: FileAccount

    def __init__(self, folder: Path, *, window_ms: int = 0) -> None:
        super().__init__()
        self._window_ms = window_ms
        self.account = FileAccount(folder, self.clock)
        self._api_key = KEY.decode()

    def scanned(self) -> tuple[ModuleType, ...]:
        """Return nothing that blocks: the folder stands for a vendor, and to read it is the vendor's part."""
        return (truth,)

    def open(self) -> AbstractAsyncContextManager[Backend]:
        """Open another backend on this account."""
        return self._opened()

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[Backend]:
        context = BackendContext(BackendName("file-truth"), self.clock, self._read_secret)
        yield FileTruthBackend(context, self.account, self._window_ms)
