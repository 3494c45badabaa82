import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from compute_bridge_demo.child import open_theatre
from compute_bridge_demo.errors import DemoError

# A whole process with a theatre and a child in it, which tells both and waits to be killed.
PLAYING = """
import anyio
from compute_bridge_demo.child import open_theatre

async def main():
    async with open_theatre(keep=False) as theatre:
        child = await theatre.start("sleeper", ["sh", "-c", "setsid sleep 600 & exec sleep 600"])
        print(theatre.folder, child.process.pid, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.anyio
async def test_the_folder_goes_with_the_theatre():
    async with open_theatre(keep=False) as theatre:
        folder = theatre.folder
        mode = (await anyio.Path(folder).stat()).st_mode & 0o777

    assert mode == 0o700
    assert not folder.exists()


@pytest.mark.anyio
async def test_the_folder_stays_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMPDIR", "/tmp")
    async with open_theatre(keep=True) as theatre:
        (theatre.folder / "file").write_text("kept")

    assert (theatre.folder / "file").read_text() == "kept"
    (theatre.folder / "file").unlink()
    theatre.folder.rmdir()


@pytest.mark.anyio
async def test_a_folder_whose_name_no_command_line_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spaced = tmp_path / "two words"
    spaced.mkdir()
    monkeypatch.setenv("TMPDIR", str(spaced))

    with pytest.raises(DemoError, match="TMPDIR"):
        async with open_theatre(keep=False):
            pass
    assert list(spaced.iterdir()) == []


@pytest.mark.anyio
async def test_a_role_that_ends_early_is_told_with_its_last_words():
    async with open_theatre(keep=False) as theatre:
        child = await theatre.start("market", ["sh", "-c", "echo no room left >&2; exit 9"])

        with pytest.raises(DemoError, match=r"market ended too early, with status 9.*\n *no room left"):
            await child.must_live()


@pytest.mark.anyio
async def test_a_command_tells_its_status_and_what_it_printed():
    async with open_theatre(keep=False) as theatre:
        finished = await theatre.run("tool", ["sh", "-c", "echo printed; exit 4"])

    assert (finished.status, finished.output) == (4, "printed\n")


@pytest.mark.anyio
async def test_our_own_variables_reach_no_role(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COMPUTE_BRIDGE_BRIDGE__NAME", "another")
    async with open_theatre(keep=False) as theatre:
        finished = await theatre.run("tool", ["sh", "-c", "env"])

    assert "COMPUTE_BRIDGE_" not in finished.output


@pytest.mark.anyio
async def test_a_command_is_ended_where_its_caller_is_cancelled():
    async with open_theatre(keep=False) as theatre:
        told = theatre.folder / "told"
        os.mkfifo(told)
        async with anyio.create_task_group() as group:
            group.start_soon(theatre.run, "tool", ["sh", "-c", f"echo $$ >{told}; exec sleep 600"])
            pid = (await anyio.Path(told).read_text()).strip()
            group.cancel_scope.cancel()

        assert not await anyio.Path(f"/proc/{pid}").exists()


def test_nothing_outlives_a_killed_demo():
    with subprocess.Popen([sys.executable, "-c", PLAYING], stdout=subprocess.PIPE, text=True) as playing:
        assert playing.stdout is not None
        folder, leash = playing.stdout.readline().split()
        # The broom and the leash are children of a process that cannot wait for them any more.
        watched = [os.pidfd_open(pid) for pid in (int(leash), broom_of(playing.pid))]
        os.kill(playing.pid, signal.SIGKILL)

    for one in watched:
        with os.fdopen(one) as ending:
            assert ended(ending.fileno())
    assert not Path(folder).exists()


def broom_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    [broom] = [
        int(child) for child in children if b"compute_bridge_demo.broom" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return broom


def ended(pidfd: int) -> bool:
    ready, _, _ = select.select([pidfd], [], [], 20)
    return bool(ready)
