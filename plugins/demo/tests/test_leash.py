import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compute_bridge_demo.leash import descendants

Hold = Callable[..., "tuple[subprocess.Popen[bytes], int]"]

# It ignores what it is asked and says when it does so.
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1; done"
# A child in a session of its own, whose parent leaves at once.
ORPHANING = "setsid sh -c 'echo $$; exec sleep 600' & exec sleep 600"


@pytest.fixture
def hold() -> Iterator[Hold]:
    started: list[tuple[subprocess.Popen[bytes], int]] = []

    def start(*command: str, grace_ms: int = 5_000) -> tuple[subprocess.Popen[bytes], int]:
        held, rein = os.pipe()
        leash = subprocess.Popen(
            [sys.executable, "-m", "compute_bridge_demo.leash", str(held), str(grace_ms), "--", *command],
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(held,),
        )
        os.close(held)
        started.append((leash, rein))
        return leash, rein

    yield start
    for leash, rein in started:
        if rein_is_open(rein):
            os.close(rein)
        leash.wait(20)
        assert leash.stdout is not None
        leash.stdout.close()


def rein_is_open(rein: int) -> bool:
    try:
        os.fstat(rein)
    except OSError:
        return False
    return True


def first_line(leash: "subprocess.Popen[bytes]") -> str:
    assert leash.stdout is not None
    return leash.stdout.readline().decode().strip()


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_the_status_of_the_command_is_the_status_of_the_leash(hold: Hold):
    leash, _ = hold("sh", "-c", "exit 7")

    assert leash.wait(20) == 7


def test_a_command_that_a_signal_ended_has_the_status_that_a_shell_gives_it(hold: Hold):
    leash, _ = hold("sh", "-c", "kill -KILL $$")

    assert leash.wait(20) == 128 + signal.SIGKILL


def test_the_command_is_asked_to_end_when_the_pipe_does(hold: Hold):
    leash, rein = hold("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")
    first_line(leash)

    os.close(rein)

    assert leash.wait(20) == 3


def test_a_leash_that_is_terminated_ends_its_command_as_well(hold: Hold):
    leash, _ = hold("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done")
    first_line(leash)

    leash.terminate()

    assert leash.wait(20) == 3


def test_a_command_that_does_not_end_is_killed_after_its_grace(hold: Hold):
    leash, rein = hold("sh", "-c", STUBBORN, grace_ms=50)
    first_line(leash)

    os.close(rein)

    assert leash.wait(20) == 128 + signal.SIGKILL


def test_what_hides_in_a_session_of_its_own_is_killed(hold: Hold):
    leash, rein = hold("sh", "-c", ORPHANING)
    hidden = int(first_line(leash))

    os.close(rein)
    leash.wait(20)

    assert not lives(hidden)


def test_what_the_command_leaves_behind_does_not_outlive_it(hold: Hold, tmp_path: Path):
    told = tmp_path / "told"
    leaving = f"setsid sh -c 'echo $$ >{told}; exec sleep 600' & until [ -s {told} ]; do :; done; cat {told}"
    leash, _ = hold("sh", "-c", leaving)
    hidden = int(first_line(leash))

    assert leash.wait(20) == 0
    assert not lives(hidden)


def test_descendants_are_found_at_any_depth():
    process = subprocess.Popen(["sh", "-c", "sh -c 'echo $$; read line'; :"], stdin=-1, stdout=-1)
    with process:
        grandchild = int(first_line(process))

        found = descendants(os.getpid())

        assert process.pid in found
        assert grandchild in found
        process.communicate(b"\n")
