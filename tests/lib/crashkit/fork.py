"""The other end of the template's socket: to start it, and to have it fork."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import define, field


@contextmanager
def open_template(folder: Path, installed: Path, *late: str) -> Iterator[Path]:
    """Start a template and yield its socket; all that was forked from it ends with this context.

    The modules ``late`` are imported there besides, and warmed up where they can be.
    """
    # A socket's address holds some hundred letters, so it is named from the folder itself.
    path = folder / "fork"
    # A variable of ours would change what the boot files say.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COMPUTE_BRIDGE_")}
    paths = [str(Path(__file__).parents[1]), *filter(None, [inherited.get("PYTHONPATH")])]
    with (folder / "template.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "crashkit.template", str(path), str(installed), *late],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**inherited, "PYTHONPATH": os.pathsep.join(paths)},
        )
    with process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the template did not start: {(folder / 'template.log').read_text()}")
            yield path
        finally:
            process.kill()


@define
class Child:
    """A forked process: its id, and how it ends."""

    pid: int
    _lines: BufferedByteReceiveStream
    _code: int | None = field(default=None, init=False)

    async def ended(self) -> int:
        """Return its exit code once it has ended; that of a signal is negative."""
        if self._code is None:
            self._code = int(await self._lines.receive_until(b"\n", 16))
        return self._code


@asynccontextmanager
async def fork(template: Path, role: str, log: Path, /, **arguments: object) -> AsyncIterator[Child]:
    """Have the template fork a child that becomes ``role``; when this context ends it is killed, and dead."""
    # Shielded: who has a child forked must come to know of it, or could not wait for its end.
    with anyio.CancelScope(shield=True):
        stream = await anyio.connect_unix(template)
        await stream.send(json.dumps({"role": role, "log": str(log), "arguments": arguments}).encode() + b"\n")
        lines = BufferedByteReceiveStream(stream)
        child = Child(int(await lines.receive_until(b"\n", 16)), lines)
    async with stream:
        try:
            yield child
        finally:
            with anyio.CancelScope(shield=True):
                await stream.send_eof()
                await child.ended()
