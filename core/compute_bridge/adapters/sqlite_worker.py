"""SQLite off the event loop: one thread per connection, many waiting tasks per trip."""

import asyncio
import logging
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import anyio
from attrs import define, field

from compute_bridge.model.errors import ComputeBridgeError

T = TypeVar("T")

logger = logging.getLogger(__name__)

# As many as wait are served together, but a commit that never ends serves nobody.
_MAX_BATCH = 512
_JOIN_S = 30.0


@define(eq=False)
class _Job:
    call: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = field(default=None)
    is_durable: bool = False

    def settle(self) -> None:
        if self.future.done():  # its task was cancelled meanwhile
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class SqliteWorker(ABC):
    """A thread that owns one connection and serves jobs in the order of their arrival.

    Made and used on one event loop. ``explain`` turns SQLite's errors into ours; every other error of a
    job reaches its task as it is.
    """

    def __init__(
        self, connection: sqlite3.Connection, name: str, explain: Callable[[sqlite3.Error], ComputeBridgeError]
    ) -> None:
        self._connection = connection
        self._explain = explain
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = self._unclaimed = False
        # A daemon, so that a process that dies without closing is not held back by its threads.
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether the worker takes no more jobs."""
        return self._closed

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Return what ``call`` returns on the worker's thread. A cancelled caller's job may still be done."""
        if self._closed:
            raise self._explain(sqlite3.ProgrammingError("is closed"))
        job = _Job(call, self._loop.create_future())
        self._queue.put(job)
        try:
            result: T = await job.future
        except asyncio.CancelledError:
            # Each thread sets its flag before it looks at the other's, so that one of the two sees both.
            self._unclaimed = self._unclaimed or job.is_durable
            raise
        return result

    async def aclose(self) -> None:
        """Serve what was asked, close the connection and wait for the thread; harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._thread.join, _JOIN_S)
        if self._thread.is_alive():
            logger.error("thread %s did not end within %s s; its file stays open", self._thread.name, _JOIN_S)

    def _serve(self) -> None:
        try:
            while batch := self._take():
                try:
                    self._execute(batch)
                except sqlite3.Error as error:
                    self._fail(batch, error)
                self._loop.call_soon_threadsafe(_settle, batch)
        finally:
            self._connection.close()

    def _take(self) -> list[_Job]:
        batch: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            batch.append(job)
            if len(batch) == _MAX_BATCH:
                return batch
            try:
                job = self._queue.get_nowait()
            except Empty:
                return batch
        if batch:
            self._queue.put(None)  # for the next round, which ends the thread
        return batch

    @abstractmethod
    def _execute(self, batch: Sequence[_Job]) -> None:
        """Give each job its result or its error; an error of SQLite's that leaves here is everybody's."""

    def _attempt(self, job: _Job) -> None:
        try:
            job.result = job.call(self._connection)
        except sqlite3.Error as error:
            job.error = self._explain(error)
            job.error.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - its task raises it, or would wait for ever
            job.error = error

    def _fail(self, batch: Sequence[_Job], error: sqlite3.Error) -> None:
        for job in batch:
            if job.error is None:
                job.error = self._explain(error)
                job.error.__cause__ = error


class SqliteReader(SqliteWorker):
    """Serves each job for itself, in autocommit: a job that needs one snapshot asks one statement."""

    def _execute(self, batch: Sequence[_Job]) -> None:
        for job in batch:
            self._attempt(job)


class SqliteWriter(SqliteWorker):
    """Serves all that wait in one transaction: one trip to the disk, each job undone for itself if it fails.

    A job whose caller has gone is not begun any more; one that was under way may land, see :attr:`unclaimed`.
    ``committed`` is called on the worker's thread after each commit, before the tasks go on.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        name: str,
        explain: Callable[[sqlite3.Error], ComputeBridgeError],
        *,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        self._committed = committed
        self._commits = 0
        super().__init__(connection, name, explain)

    @property
    def commits(self) -> int:
        """How many transactions were committed."""
        return self._commits

    @property
    def unclaimed(self) -> bool:
        """Whether a job was done for good though its caller had given it up, and so knows nothing of it."""
        return self._unclaimed

    def _execute(self, batch: Sequence[_Job]) -> None:
        connection, begun = self._connection, list[_Job]()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                if not job.future.cancelled():
                    begun.append(job)
                    self._attempt_alone(job)
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._commits += 1
        for job in begun:
            job.is_durable = job.error is None
            self._unclaimed = self._unclaimed or (job.is_durable and job.future.cancelled())
        self._committed()

    def _attempt_alone(self, job: _Job) -> None:
        connection = self._connection
        connection.execute("SAVEPOINT job")
        self._attempt(job)
        if job.error is not None:
            if isinstance(job.error.__cause__, sqlite3.Error) and not connection.in_transaction:
                raise job.error.__cause__  # SQLite undid the whole transaction: nobody's job was done
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")


def _settle(batch: Sequence[_Job]) -> None:
    for job in batch:
        job.settle()
