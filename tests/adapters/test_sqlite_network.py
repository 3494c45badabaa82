"""The SQLite network keeps every promise of the network port, between processes and across their deaths."""

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import AbstractAsyncContextManager, aclosing, closing
from pathlib import Path

import anyio
import pytest

from compute_bridge.adapters.sqlite_bell import Bell
from compute_bridge.adapters.sqlite_listener import SLOW_LOOK_S
from compute_bridge.adapters.sqlite_network import open_sqlite_network
from compute_bridge.ports.errors import NetworkError
from compute_bridge.ports.network import Network
from compute_bridge.testing.network import NetworkConformance, NetworkWorld
from compute_bridge.testing.network_world import read_all, take

pytestmark = pytest.mark.anyio


class SqliteWorld(NetworkWorld):
    def __init__(self, path: Path):
        self._path = path

    def open(self) -> AbstractAsyncContextManager[Network]:
        return open_sqlite_network(self._path)


class TestSqliteNetwork(NetworkConformance):
    @pytest.fixture
    def world(self, tmp_path) -> NetworkWorld:
        return SqliteWorld(tmp_path / "network.db")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "network.db"


_WRITER = """
import sys
from pathlib import Path
import anyio
from compute_bridge.adapters.sqlite_network import open_sqlite_network

async def main(path, writer, count):
    async with open_sqlite_network(Path(path)) as network:
        print("open", flush=True)
        sys.stdin.readline()
        for number in range(int(count)):
            key = f"{writer}/{number}".encode()
            print(await network.append("s", key, key), flush=True)

anyio.run(main, *sys.argv[1:])
"""


def start_writer(path, writer, count):
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), str(writer), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def let_go(process):
    assert process.stdout.readline() == "open\n"
    process.stdin.write("\n")
    process.stdin.flush()


async def test_processes_append_in_one_order(path):
    writers = [start_writer(path, writer, 100) for writer in range(3)]
    seen = []
    async with open_sqlite_network(path) as network, aclosing(network.follow("s")) as entries:
        for process in writers:
            await anyio.to_thread.run_sync(let_go, process)
        with anyio.fail_after(60):
            seen = await take(entries, 300)
        outputs = [await anyio.to_thread.run_sync(process.communicate) for process in writers]

    assert [entry.sequence for entry in seen] == list(range(1, 301))
    for writer, (output, _) in enumerate(outputs):
        own = [int(line) for line in output.split()]
        assert own == [e.sequence for e in seen if e.record_id.startswith(b"%d/" % writer)]
        assert own == sorted(own)


async def test_what_a_killed_process_was_told_is_there(path):
    process = start_writer(path, 0, 1_000_000)

    def kill_after_some():
        let_go(process)
        told = [int(process.stdout.readline()) for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        return told + [int(line) for line in process.communicate()[0].split()]

    told = await anyio.to_thread.run_sync(kill_after_some)
    async with open_sqlite_network(path) as network:
        found = await read_all(network, "s")

    assert [sequence for sequence, _, _ in found][: len(told)] == told
    assert len(found) - len(told) in (0, 1)


async def test_the_socket_of_a_dead_process_is_removed(path):
    process = start_writer(path, 0, 1)
    assert await anyio.to_thread.run_sync(process.stdout.readline) == "open\n"
    folder = path.with_name("network.db.wake")
    left = set(os.listdir(folder))
    process.kill()
    await anyio.to_thread.run_sync(process.communicate)
    async with open_sqlite_network(path) as network:
        await network.append("s", b"id", b"")

        assert left
        assert left.isdisjoint(os.listdir(folder))


async def test_a_client_takes_its_socket_along(path):
    async with open_sqlite_network(path):
        assert len(os.listdir(path.with_name("network.db.wake"))) == 1

    assert os.listdir(path.with_name("network.db.wake")) == []


async def test_an_idle_watcher_looks_at_most_twice_a_second(path):
    async with open_sqlite_network(path) as network:
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(take, network.follow(f"s/{number}"), 1)
                group.start_soon(take, network.watch(f"c/{number}"), 1)
            await anyio.sleep(0.2)
            began, before = time.monotonic(), network.looks
            await anyio.sleep(1.5)
            looks, waited_s = network.looks - before, time.monotonic() - began
            group.cancel_scope.cancel()

        assert looks <= 2 * waited_s


async def test_a_ring_reaches_another_client_well_under_a_tenth_of_a_second(path):
    waits = []
    async with open_sqlite_network(path) as one, open_sqlite_network(path) as two:
        async with aclosing(two.follow("s")) as entries:
            for number in range(20):
                async with anyio.create_task_group() as group:
                    began = time.monotonic()
                    group.start_soon(one.append, "s", b"%d" % number, b"")
                    await anext(entries)
                    waits.append(time.monotonic() - began)

    assert sorted(waits)[len(waits) // 2] < 0.1


def test_a_path_longer_than_a_socket_address_rings_too(tmp_path):
    folder = tmp_path / ("d" * 120) / "network.db.wake"
    with closing(Bell(folder)) as one, closing(Bell(folder)) as two:
        one.ring()

        assert two.wait(10)


async def test_without_sockets_the_slow_look_finds_changes_and_the_log_says_so(path, caplog):
    path.parent.mkdir()
    path.with_name("network.db.wake").write_text("in the way")
    async with open_sqlite_network(path) as one, open_sqlite_network(path) as two:
        async with aclosing(two.follow("s")) as entries:
            await one.append("s", b"id", b"")
            with anyio.fail_after(SLOW_LOOK_S * 3):
                assert (await anext(entries)).sequence == 1

    assert "changes of other processes show late" in caplog.text


async def test_a_full_socket_of_a_silent_process_holds_nobody_up(path):
    folder = path.with_name("network.db.wake")
    async with open_sqlite_network(path) as network:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as deaf:
            deaf.bind(str(folder / "1-deaf.sock"))
            with anyio.fail_after(60):
                for number in range(400):
                    await network.append("s", b"%d" % number, b"")

        assert (folder / "1-deaf.sock").exists()


async def test_a_path_may_hold_any_character(tmp_path):
    path = tmp_path / "a b?c#d%41é'\"" / "net;work.db"
    async with open_sqlite_network(path) as network:
        await network.append("s", b"id", b"")

    assert path.exists()


async def test_waiting_tasks_share_a_commit(path):
    async with open_sqlite_network(path) as network:
        async with anyio.create_task_group() as group:
            for number in range(64):
                group.start_soon(network.append, "s", b"%d" % number, b"r" * 400)

        assert network.commits <= 8
        assert await network.tail("s") == 64


async def test_a_refusal_undoes_nothing_of_its_neighbours(path):
    async with open_sqlite_network(path) as network:
        await network.append("s", b"taken", b"record")
        refused = []

        async def append(record_id):
            try:
                await network.append("s", record_id, b"other")
            except NetworkError:
                refused.append(record_id)

        async with anyio.create_task_group() as group:
            for record_id in (b"a", b"taken", b"b", b"taken", b"c"):
                group.start_soon(append, record_id)

        assert refused == [b"taken", b"taken"]
        assert [key for _, key, _ in await read_all(network, "s")] == [b"taken", b"a", b"b", b"c"]


async def test_file_and_folders_belong_to_the_user_alone(path):
    async with open_sqlite_network(path) as network:
        await network.append("s", b"id", b"")
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == {
        "network.db": 0o600,
        "network.db-wal": 0o600,
        "network.db-shm": 0o600,
        "network.db.wake": 0o700,
    }


async def test_a_file_locked_for_too_long_is_named(path):
    async with open_sqlite_network(path, busy_ms=50) as network:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(NetworkError, match=r"network\.db: database is locked; another process holds it"):
                await network.append("s", b"id", b"")
            other.execute("ROLLBACK")

        assert await network.append("s", b"id", b"") == 1


async def test_a_short_lock_is_waited_out(path):
    async with open_sqlite_network(path) as network:
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as group:
                group.start_soon(network.append, "s", b"id", b"")
                await anyio.sleep(0.05)
                other.execute("ROLLBACK")

        assert await network.tail("s") == 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA user_version=2", "has schema version 2, this release knows 1; upgrade compute-bridge"),
        ("PRAGMA user_version=0", "has schema version 0, this release needs 1"),
        ("PRAGMA application_id=7", "is not a network file of compute-bridge; name another path"),
        ("PRAGMA journal_mode=DELETE", "its journal mode is delete, not wal"),
    ],
)
async def test_a_file_of_another_format_is_refused_by_name(path, statement, message):
    async with open_sqlite_network(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(statement)

    with pytest.raises(NetworkError, match=rf"network {path}: {message}"):
        async with open_sqlite_network(path):
            pass


@pytest.mark.parametrize("content", [b"", b"not a database " * 100])
async def test_a_file_that_is_no_database_is_refused_and_kept(path, content):
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(NetworkError, match=str(path)):
        async with open_sqlite_network(path):
            pass
    assert path.read_bytes() == content


async def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(NetworkError, match=r"file/network\.db: cannot be made .* give a folder"):
        async with open_sqlite_network(tmp_path / "file" / "network.db"):
            pass


async def test_many_processes_may_make_the_file_at_once(path):
    writers = [start_writer(path, writer, 1) for writer in range(4)]
    for process in writers:
        await anyio.to_thread.run_sync(let_go, process)
    outputs = [(await anyio.to_thread.run_sync(process.communicate))[0] for process in writers]

    assert sorted(int(output) for output in outputs) == [1, 2, 3, 4]
    assert list(path.parent.glob(".*")) == []


async def test_a_closed_network_says_so_to_all_who_wait(path):
    failures = []

    async def follow(network):
        try:
            await anext(network.follow("s"))
        except NetworkError as error:
            failures.append(str(error))

    async with anyio.create_task_group() as group:
        async with open_sqlite_network(path) as network:
            group.start_soon(follow, network)
            await anyio.wait_all_tasks_blocked()
    with pytest.raises(NetworkError, match="is closed"):
        await network.append("s", b"id", b"")

    assert len(failures) == 1
    assert "is closed" in failures[0]
