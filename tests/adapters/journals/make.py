"""Serve some leases in a real coalition and keep the bridge's journal, as a dump in SQL.

``PYTHONPATH=tests/lib python tests/adapters/journals/make.py v2`` writes ``v2.sql`` beside this file. It is run once
for each schema version, by the release that still writes that version, and never again: the dump is what it wrote.
"""

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import anyio

from compute_bridge.host.log_checks import await_log
from compute_bridge.model.control import ControlAction
from compute_bridge.model.units import MicrosPerHour, Milliseconds
from compute_bridge.testing.memory_cloud import MemoryCloud
from crashkit.coalition import SSH_KEY, Coalition, found

HERE = Path(__file__).parent
RATE = MicrosPerHour(10**9)


async def serve(folder: Path) -> Path:
    """Return the journal of a bridge whose leases are settled, refused, delivered and provisioning."""
    coalition = await found(folder, MemoryCloud(), made=Coalition)
    async with coalition.market(), anyio.create_task_group() as tasks:
        requester = coalition.requester()

        async def submit(duration_ms):
            return await requester.submit(
                coalition.manifest(duration_ms=duration_ms), RATE, SSH_KEY, open_ms=Milliseconds(600_000)
            )

        async with coalition.bridge("one") as bridge:
            assert bridge.provider
            bridge.provider.retired = True
            refused = await submit(60_000)
            tasks.start_soon(requester.serve_until_receipt, refused)
            while not bridge.provider.refused:
                await coalition.clock.sleep_ms(1000)
        async with coalition.bridge("one") as bridge:
            access = await requester.serve_until_receipt(await submit(120_000))
            await await_log(requester.market, access.grant.value)
            handle = await submit(3_600_000)
            access = await requester.serve_until_receipt(handle)
            await requester.control(handle, ControlAction.RELEASE)
            await await_log(requester.market, access.grant.value)
            await requester.serve_until_receipt(await submit(3_600_000))
            held = await coalition.cloud.hold_next_create()
            tasks.start_soon(requester.serve_until_receipt, await submit(3_600_000))
            await held.reached.wait()
        tasks.cancel_scope.cancel()
    return folder / "one" / "journal"


def dump(journal: Path, target: Path) -> None:
    """Write a journal as SQL that makes it again."""
    with closing(sqlite3.connect(journal)) as db:
        marks = [
            f"PRAGMA {name}={db.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        target.write_text("\n".join(["PRAGMA journal_mode=WAL;", *marks, *db.iterdump(), ""]))


def main(name: str) -> None:
    """Write the dump ``name``, which must not be there yet."""
    target = HERE / f"{name}.sql"
    if target.exists():
        raise SystemExit(f"{target.name} is there: what a release has written is not written again")
    with tempfile.TemporaryDirectory() as folder:
        dump(anyio.run(serve, Path(folder)), target)


if __name__ == "__main__":
    main(sys.argv[1])
