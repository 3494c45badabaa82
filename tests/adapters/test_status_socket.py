"""The control socket: one line asked, one answered, by this user on this machine."""

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from compute_bridge.adapters.status_socket import (
    MAX_QUESTION_BYTES,
    NotRunningError,
    RefusedQuestionError,
    ask,
    serve_status,
)
from compute_bridge.ports.errors import BootError, NetworkError

pytestmark = pytest.mark.anyio


async def echo(query: dict[str, Any]) -> dict[str, Any]:
    if query["ask"] == "secret":
        raise NetworkError("this is not told")
    return {"asked": query}


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Path]:
    path = folder / "control.sock"
    async with serve_status(path, echo):
        yield path


async def asked(path: Path, query: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    return await anyio.to_thread.run_sync(partial(ask, path, query, timeout_s=timeout_s))


async def sent(path: Path, raw: bytes) -> bytes:
    async with await anyio.connect_unix(path) as stream:
        await stream.send(raw)
        await stream.send_eof()
        parts = [part async for part in stream]
    return b"".join(parts)


async def test_a_question_is_answered(tmp_path: Path):
    async with served(tmp_path) as path:
        assert await asked(path, {"ask": "explain", "id": "ab"}) == {"asked": {"ask": "explain", "id": "ab"}}


async def test_the_socket_is_this_users_alone(tmp_path: Path):
    mask = os.umask(0)
    try:
        async with served(tmp_path) as path:
            mode = path.stat().st_mode & 0o777
    finally:
        os.umask(mask)

    assert mode == 0o600


async def test_an_error_of_ours_is_told_to_who_asked(tmp_path: Path):
    async with served(tmp_path) as path:
        with pytest.raises(RefusedQuestionError, match="this is not told"):
            await asked(path, {"ask": "secret"})

        assert await asked(path, {"ask": "status"}) == {"asked": {"ask": "status"}}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"{\n",
        b"[1]\n",
        b'"ask"\n',
        b"\xff\xfe\n",
        b"[" * 4000 + b"\n",
        b"x" * (MAX_QUESTION_BYTES + 1) + b"\n",
    ],
    ids=["nothing", "empty", "cut", "list", "text", "bytes", "nested", "long"],
)
async def test_what_is_no_question_is_answered_with_an_error(tmp_path: Path, raw: bytes):
    async with served(tmp_path) as path:
        answer = json.loads(await sent(path, raw))

        assert "one line of JSON" in answer["error"]
        assert await asked(path, {"ask": "status"}) == {"asked": {"ask": "status"}}


async def test_a_client_that_leaves_disturbs_no_other(tmp_path: Path):
    def leave(path: Path) -> None:
        for _ in range(40):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.send(b'{"ask": "st')

    async with served(tmp_path) as path:
        await anyio.to_thread.run_sync(leave, path)

        assert await asked(path, {"ask": "status"}) == {"asked": {"ask": "status"}}


async def test_many_ask_at_once(tmp_path: Path):
    answers: list[dict[str, Any]] = []

    async def one(path: Path, number: int) -> None:
        answers.append(await asked(path, {"ask": "n", "n": number}))

    async with served(tmp_path) as path, anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(one, path, number)

    assert sorted(answer["asked"]["n"] for answer in answers) == list(range(40))


async def test_the_socket_is_gone_when_the_bridge_is(tmp_path: Path):
    async with served(tmp_path) as path:
        pass

    assert not path.exists()


async def test_where_no_bridge_listens_the_error_says_how_to_start_one(tmp_path: Path):
    with pytest.raises(NotRunningError, match="compute-bridge run"):
        await asked(tmp_path / "control.sock", {"ask": "status"})


async def test_the_socket_of_a_dead_bridge_is_taken_over(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    with pytest.raises(NotRunningError):
        await asked(tmp_path / "control.sock", {"ask": "status"})

    async with served(tmp_path) as path:
        assert await asked(path, {"ask": "status"})


async def test_a_second_bridge_with_one_socket_is_refused(tmp_path: Path):
    async with served(tmp_path) as path:
        with pytest.raises(BootError, match="another bridge listens"):
            async with served(tmp_path):
                pass

        assert await asked(path, {"ask": "status"})


async def test_a_file_of_that_name_is_let_be(tmp_path: Path):
    (tmp_path / "control.sock").write_text("mine")

    with pytest.raises(BootError, match="move it away"):
        async with served(tmp_path):
            pass

    assert (tmp_path / "control.sock").read_text() == "mine"


@pytest.mark.parametrize(("folder", "says"), [("x" * 120, "choose a shorter"), ("none", "see to bridge.state_dir")])
async def test_a_socket_that_cannot_be_made_says_why(tmp_path: Path, folder: str, says: str):
    with pytest.raises(BootError, match=says):
        async with served(tmp_path / folder):
            pass


async def test_a_bridge_that_does_not_answer_is_not_waited_for(tmp_path: Path):
    async with AsyncExitStack() as stack:
        stuck = stack.enter_context(socket.socket(socket.AF_UNIX))
        stuck.bind(str(tmp_path / "control.sock"))
        stuck.listen()

        with pytest.raises(NetworkError, match="is the bridge stuck"):
            await asked(tmp_path / "control.sock", {"ask": "status"}, timeout_s=0.05)
