"""The page that leads by hand from nothing to a lease: every line of it, as one who types it sees it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "try-it.md").read_text()
BLOCKS = re.findall(r"^```(toml|console)\n(.*?)^```$", PAGE, re.M | re.S)

pytestmark = [pytest.mark.needs("sshd"), pytest.mark.needs("openssh-client"), pytest.mark.timeout(300)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for pid in tmp_path.glob("*.pid"):
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(pid.read_text()), signal.SIGKILL)


def typed(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HOME": str(folder)}
    ended = subprocess.run(
        command, shell=True, cwd=folder, env=environment, text=True, capture_output=True, check=False, timeout=90
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}{logs(folder)}"
    return ended.stdout + ended.stderr


def logs(folder: Path) -> str:
    return "".join(f"\n--- {path.name}\n{path.read_text()}" for path in sorted(folder.glob("*.log")))


def test_the_page_leads_from_nothing_to_a_lease_that_is_paid(folder: Path):
    for language, text in BLOCKS:
        if language == "toml":
            (folder / text.split()[1]).write_text(text)
            continue
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.M):
            printed = typed(command, folder)
            wanted = re.escape(shown.strip()).replace(r"\.\.\.", ".*")

            assert not shown or re.fullmatch(wanted, printed.strip(), re.S), f"{command}\n{printed}{logs(folder)}"
