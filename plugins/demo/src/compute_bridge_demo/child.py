"""Child processes that cannot outlive the demo, each on its own leash."""

import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE

import anyio
from anyio.abc import Process
from attrs import define, field, frozen

from compute_bridge_demo.errors import DemoError

LEASH = "compute_bridge_demo.leash"
BROOM = "compute_bridge_demo.broom"
GRACE_MS = 5_000
# The leash kills after its grace and then for ten seconds more.
LET_GO_S = 20
LAST_LINES = 15
SWEEP_S = 30
# It becomes part of command lines and of the addresses of sockets, which hold some hundred letters.
_PLAIN = re.compile(r"/[A-Za-z0-9._/-]{1,59}")


@frozen
class Finished:
    """How a command ended: its exit status and what it printed."""

    status: int
    output: str


@define
class Child:
    """One role's process. Its log lies in the demo's folder."""

    name: str
    log: Path
    process: Process = field(repr=False)
    _rein: int = field(repr=False)

    async def must_live(self) -> None:
        """Wait for ever.

        :raises DemoError: if the process ends, with the last lines of its log.
        """
        status = await self.process.wait()
        raise DemoError(
            f"{self.name} ended too early, with status {status}; its last words:\n{await self.last_words()}"
        )

    async def let_go(self) -> None:
        """End the process and all that it started; returns when nothing of it lives."""
        if self._rein >= 0:
            os.close(self._rein)
            self._rein = -1
        with anyio.move_on_after(LET_GO_S, shield=True):
            await self.process.wait()

    async def last_words(self) -> str:
        """Return the last lines of the log."""
        return await last_lines(self.log)


async def last_lines(log: Path) -> str:
    """Return the last lines of a child's log, indented."""
    text = await anyio.Path(log).read_text(errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-LAST_LINES:]) or "    (nothing)"


@define
class Theatre:
    """The demo's one folder and the processes that work in it."""

    folder: Path
    _alive: int = field(repr=False)
    _environment: Mapping[str, str] = field(repr=False)
    children: list[Child] = field(factory=list, init=False)

    async def start(self, name: str, command: Sequence[str]) -> Child:
        """Start a role and return at once; its output goes to ``<name>.log``."""
        async with await anyio.open_file(self._log(name), "ab") as sink:
            child = await self._leashed(name, command, sink.wrapped.fileno(), sink.wrapped.fileno())
        self.children.append(child)
        return child

    async def run(self, name: str, command: Sequence[str]) -> Finished:
        """Run a command to its end; its complaints go to ``<name>.log``. Cancelled, it is ended."""
        async with await anyio.open_file(self._log(name), "ab") as sink:
            child = await self._leashed(name, command, PIPE, sink.wrapped.fileno())
        try:
            chunks = [chunk async for chunk in child.process.stdout] if child.process.stdout else []
            return Finished(await child.process.wait(), b"".join(chunks).decode(errors="replace"))
        finally:
            await child.let_go()
            await child.process.aclose()

    async def end(self) -> None:
        """End every role, the last started first."""
        while self.children:
            await self.children.pop().let_go()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    async def _leashed(self, name: str, command: Sequence[str], stdout: int, stderr: int) -> Child:
        held, rein = os.pipe()
        try:
            process = await anyio.open_process(
                [sys.executable, "-m", LEASH, f"{held},{self._alive}", str(GRACE_MS), "--", *command],
                stdin=DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
                pass_fds=(held, self._alive),
            )
        except BaseException:
            os.close(rein)
            raise
        finally:
            os.close(held)
        return Child(name, self._log(name), process, rein)


@asynccontextmanager
async def open_theatre(*, keep: bool) -> AsyncIterator[Theatre]:
    """Make a folder that goes, with every process in it, when this context or this process ends.

    ``keep`` leaves the folder where it is.
    """
    broom_end, alive = os.pipe()
    os.set_blocking(alive, False)
    try:
        broom = await anyio.open_process(
            [sys.executable, "-m", BROOM], stdin=broom_end, stdout=PIPE, stderr=None, start_new_session=True
        )
    except BaseException:
        os.close(alive)
        raise
    finally:
        os.close(broom_end)
    try:
        theatre = await _move_in(broom, alive)
        if keep:
            os.write(alive, b"k")
        try:
            yield theatre
        finally:
            with anyio.CancelScope(shield=True):
                await theatre.end()
    finally:
        os.close(alive)
        with anyio.move_on_after(SWEEP_S, shield=True):
            await broom.wait()


async def _move_in(broom: Process, alive: int) -> Theatre:
    told = b"".join([chunk async for chunk in broom.stdout]) if broom.stdout else b""
    folder = os.fsdecode(told)
    if not _PLAIN.fullmatch(folder):
        raise DemoError(
            f"the temporary folder {folder!r} is not an absolute path of at most 60 plain letters; "
            "set TMPDIR to a short one that you may write to, /tmp for example"
        )
    return Theatre(Path(folder), alive, {**_inherited(), "TMPDIR": folder})


def _inherited() -> dict[str, str]:
    # A variable of ours would change what the files of the demo say.
    return {name: value for name, value in os.environ.items() if not name.startswith("COMPUTE_BRIDGE_")}
