"""The guard of test runs, seen from the folder of somebody who uses it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compute_bridge import _pytest_plugin as guard

KIT_MODULE = "compute_bridge.testing.sketch"


def run_tests(
    folder: Path, source: str, *, settings: str = "", require: bool = False
) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{settings}")
    (folder / "test_sketch.py").write_text(source)
    environment = {name: value for name, value in os.environ.items() if name != guard.REQUIRE}
    environment |= {guard.REQUIRE: "1"} if require else {}
    command = [sys.executable, "-m", "pytest", "-rs", "--strict-markers", "-p", "no:cacheprovider"]
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


# --- components -------------------------------------------------------------------------------

NEEDS_A_STRANGE_PROGRAM = """
import pytest

@pytest.mark.needs("no-such-program")
def test_one():
    pass
"""


def test_a_missing_component_skips_and_is_named(tmp_path: Path):
    result = run_tests(tmp_path, NEEDS_A_STRANGE_PROGRAM)

    assert result.returncode == 0
    assert "needs no-such-program: not installed: no-such-program" in result.stdout


def test_a_missing_component_is_an_error_where_components_are_required(tmp_path: Path):
    result = run_tests(tmp_path, NEEDS_A_STRANGE_PROGRAM, require=True)

    assert "1 error" in result.stdout
    assert "needs no-such-program: not installed: no-such-program; install it" in result.stdout


def test_a_component_that_is_there_lets_the_test_run(tmp_path: Path):
    result = run_tests(tmp_path, NEEDS_A_STRANGE_PROGRAM.replace("no-such-program", "sh"), require=True)

    assert "1 passed" in result.stdout


@pytest.mark.parametrize("component", ["openssh-client", "podman", "sshd", "systemd-run"])
def test_what_a_missing_component_lacks_is_told_in_words(component: str):
    assert guard.missing(component, find=lambda _name: None)


@pytest.mark.parametrize(("user", "lack"), [(0, None), (1000, "this is a plain user: run the tests as root")])
def test_to_be_root_is_a_component(monkeypatch: pytest.MonkeyPatch, user: int, lack: str | None):
    monkeypatch.setattr(os, "geteuid", lambda: user)

    assert guard.missing("root") == lack


# --- time limits ------------------------------------------------------------------------------


def test_a_mark_has_its_time_limit_unless_the_test_names_one(tmp_path: Path):
    (tmp_path / "conftest.py").write_text(
        "def pytest_collection_finish(session):\n"
        "    print([i.get_closest_marker('timeout').args for i in session.items if i.get_closest_marker('timeout')])\n"
    )
    source = """
import pytest

def test_plain(): pass

@pytest.mark.needs("sh")
def test_needs(): pass

@pytest.mark.soak
@pytest.mark.timeout(7)
def test_soak(): pass
"""

    assert "[(180,), (7,)]" in run_tests(tmp_path, source).stdout


# --- the kit's own tests ----------------------------------------------------------------------


class Suite:
    def test_one(self) -> None: ...

    def test_two(self) -> None: ...


Suite.__module__ = KIT_MODULE


class Strict(Suite):
    def test_three(self) -> None: ...


class Override(Suite):
    def test_one(self) -> None: ...


class Dropped(Suite):
    test_two = None  # type: ignore[assignment]


class Excused(Suite):
    @pytest.mark.xfail(reason="the cloud has no such call")
    def test_one(self) -> None: ...


class Silent(Suite):
    @pytest.mark.xfail
    def test_one(self) -> None: ...


@pytest.mark.parametrize("cls", [Suite, Strict, Excused])
def test_an_unchanged_or_excused_suite_is_accepted(cls: type):
    assert guard.changed_tests(cls) == []


@pytest.mark.parametrize(("cls", "name"), [(Override, "test_one"), (Dropped, "test_two"), (Silent, "test_one")])
def test_an_override_without_a_reason_is_named(cls: type, name: str):
    [sentence] = guard.changed_tests(cls)

    assert f"{cls.__qualname__}.{name}: changes a test of the kit" in sentence


def test_a_changed_suite_stops_the_run(tmp_path: Path):
    source = """
import compute_bridge.testing

class Suite:
    __module__ = "compute_bridge.testing.sketch"
    def test_one(self): pass

class TestMine(Suite):
    def test_one(self): pass
"""
    result = run_tests(tmp_path, source)

    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "TestMine.test_one: changes a test of the kit; remove the override" in result.stdout


# --- blocking calls ---------------------------------------------------------------------------

SLEEPS_ON_THE_LOOP = """
import asyncio
import sleepy

def test_one():
    asyncio.run(sleepy.rest())
"""


def write_sleepy(folder: Path) -> None:
    (folder / "sleepy").mkdir()
    (folder / "sleepy" / "__init__.py").write_text("import time\n\nasync def rest():\n    time.sleep(0.001)\n")


def test_a_blocking_call_of_a_guarded_package_fails(tmp_path: Path):
    write_sleepy(tmp_path)
    result = run_tests(tmp_path, SLEEPS_ON_THE_LOOP, settings=f"{guard.GUARDED} = sleepy\npythonpath = .\n")

    assert "BlockingError: Blocking call to time.sleep" in result.stdout


def test_a_package_that_is_not_guarded_may_block(tmp_path: Path):
    write_sleepy(tmp_path)
    result = run_tests(tmp_path, SLEEPS_ON_THE_LOOP, settings="pythonpath = .\n")

    assert "1 passed" in result.stdout


def test_the_packages_of_this_workspace_are_guarded(pytestconfig: pytest.Config):
    assert "compute_bridge" in pytestconfig.getini(guard.GUARDED)


# --- cost -------------------------------------------------------------------------------------


def test_the_guard_imports_nothing_heavy():
    program = (
        "import pytest, sys; before = set(sys.modules); import compute_bridge._pytest_plugin; "
        "print(sorted(set(sys.modules) - before))"
    )
    result = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)

    assert result.stdout.strip() == "['compute_bridge', 'compute_bridge._pytest_plugin']"
