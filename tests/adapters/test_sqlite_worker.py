"""The SQLite threads answer every task, whatever happens to its neighbours."""

import sqlite3
import threading

import anyio
import pytest

from compute_bridge.adapters.sqlite_worker import SqliteReader, SqliteWriter
from compute_bridge.ports.errors import NetworkError

pytestmark = pytest.mark.anyio


def explain(error):
    return NetworkError(f"explained: {error}")


def connect(path):
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE IF NOT EXISTS rows (value)")
    return connection


@pytest.fixture
async def writer(tmp_path):
    writer = SqliteWriter(connect(tmp_path / "file.db"), "test-writer", explain)
    yield writer
    await writer.aclose()


def insert(value):
    return lambda db: db.execute("INSERT INTO rows VALUES (?)", (value,)).rowcount


def values(db):
    return [value for (value,) in db.execute("SELECT value FROM rows")]


class Hold:
    """Keeps the worker's thread busy, so that what is asked meanwhile waits together."""

    def __init__(self):
        self._taken = threading.Event()
        self._over = threading.Event()

    def __call__(self, _db):
        self._taken.set()
        assert self._over.wait(10)

    async def taken(self):
        assert await anyio.to_thread.run_sync(self._taken.wait, 10)

    def end(self):
        self._over.set()


async def run_all(writer, *calls):
    outcomes: list[object] = [None] * len(calls)

    async def run(index, call):
        try:
            outcomes[index] = await writer.run(call)
        except NetworkError as error:
            outcomes[index] = str(error)

    async with anyio.create_task_group() as group:
        hold = Hold()
        group.start_soon(writer.run, hold)
        await hold.taken()
        for index, call in enumerate(calls):
            group.start_soon(run, index, call)
        await anyio.wait_all_tasks_blocked()
        hold.end()
    return outcomes


async def test_jobs_that_wait_together_share_one_transaction(writer):
    assert await run_all(writer, *(insert(number) for number in range(5))) == [1] * 5
    assert writer.commits == 2
    assert await writer.run(values) == [0, 1, 2, 3, 4]


async def test_a_job_that_fails_is_undone_alone(writer):
    def fail(db):
        insert("undone")(db)
        db.execute("SELECT nonsense")

    outcomes = await run_all(writer, insert("a"), fail, insert("b"))

    assert outcomes == [1, "explained: no such column: nonsense", 1]
    assert await writer.run(values) == ["a", "b"]


async def test_when_the_whole_transaction_is_gone_everybody_learns_why(writer):
    def lose(db):
        db.execute("ROLLBACK")
        db.execute("SELECT nonsense")

    outcomes = await run_all(writer, insert("a"), lose, insert("b"))

    assert outcomes == ["explained: no such column: nonsense"] * 3
    assert await writer.run(values) == []
    assert await writer.run(insert("well again")) == 1


async def test_an_error_that_is_not_sqlites_reaches_its_task_as_it_is(writer):
    with pytest.raises(ZeroDivisionError):
        await writer.run(lambda _: 1 // 0)
    assert await writer.run(insert("a")) == 1


async def test_a_cancelled_task_leaves_the_others_their_answers(writer):
    hold = Hold()
    async with anyio.create_task_group() as group:
        group.start_soon(writer.run, hold)
        await hold.taken()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await writer.run(insert("cancelled"))
        hold.end()

    assert await writer.run(insert("next")) == 1


async def test_closing_serves_what_was_asked_before(tmp_path):
    writer = SqliteWriter(connect(tmp_path / "file.db"), "test-writer", explain)
    async with anyio.create_task_group() as group:
        for number in range(700):
            group.start_soon(writer.run, insert(number))
        await anyio.wait_all_tasks_blocked()
        group.start_soon(writer.aclose)
    with pytest.raises(NetworkError, match="is closed"):
        await writer.run(values)

    reader = SqliteReader(connect(tmp_path / "file.db"), "test-reader", explain)
    assert len(await reader.run(values)) == 700
    await reader.aclose()


async def test_a_reader_explains_its_errors_and_goes_on(tmp_path):
    reader = SqliteReader(connect(tmp_path / "file.db"), "test-reader", explain)
    with pytest.raises(NetworkError, match="explained: no such table"):
        await reader.run(lambda db: db.execute("SELECT * FROM nowhere"))

    assert await reader.run(values) == []
    await reader.aclose()
