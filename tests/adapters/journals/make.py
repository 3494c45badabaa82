"""Serve some leases in a real coalition and keep the bridge's journal, as a dump in SQL.

``python tests/adapters/journals/make.py v2`` writes ``v2.sql`` beside this file. It is run once for each schema
version, by the release that still writes that version, and never again: the dump is what that release wrote.
"""

import importlib.util
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import anyio

from compute_bridge.host.log_checks import await_log
from compute_bridge.model.control import ControlAction
from compute_bridge.model.units import MicrosPerHour, Milliseconds

HERE = Path(__file__).parent
RATE = MicrosPerHour(10**9)


def _coalition():
    spec = importlib.util.spec_from_file_location("e2e", HERE.parents[1] / "e2e" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def _serve(folder: Path, e2e) -> Path:
    """Return the journal of a bridge whose leases are settled, refused, delivered and provisioning."""
    async with e2e._run_coalition(folder) as coalition, anyio.create_task_group() as tasks:
        requester = coalition.requester()

        async def submit(duration_ms):
            return await requester.submit(
                coalition.manifest(duration_ms=duration_ms), RATE, e2e.SSH_KEY, open_ms=Milliseconds(600_000)
            )

        async with coalition.bridge("one") as bridge:
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


def _dump(journal: Path, target: Path) -> None:
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
        _dump(anyio.run(_serve, Path(folder), _coalition()), target)


if __name__ == "__main__":
    main(sys.argv[1])
