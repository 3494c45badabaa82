"""A boot folder whose backends answer as a script says, for the commands that open backends."""

import importlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootfolder import make_folder
from compute_bridge.testing.installed import lay_out

STOCKED = Path(__file__).parents[1] / "stocked"
BACKENDS = """
[[backend]]
name = "frankfurt"
kind = "stocked"
script = "script.json"
[[backend]]
name = "hall-2"
kind = "stocked"
script = "hall.json"
is_plain = true
"""


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    """Take away what a traced command hung on its logger: its stream is the test's, and closed with it."""
    logger = logging.getLogger("compute_bridge.host.registration")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    logger.handlers[:], level, logger.propagate = before
    logger.setLevel(level)


class Stock:
    """The script of the backend ``frankfurt``, and the folder that it stands in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script: dict[str, Any] = {"rows": [["a", 10**8], ["b", 2 * 10**8]], "findings": []}
        self.say()
        (folder / "hall.json").write_text("{}")

    def say(self, **changes: Any) -> None:
        """Let the cloud say something else from now on."""
        self.script |= changes
        (self.folder / "script.json").write_text(json.dumps(self.script))

    def boot(self, old: str, new: str) -> None:
        """Change the boot file."""
        path = self.folder / "bridge.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    @property
    def file(self) -> Path:
        """The stored catalog of ``frankfurt``."""
        return self.folder / "state" / "catalog" / "frankfurt.json"


@pytest.fixture
def stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    installed = tmp_path / "installed"
    installed.mkdir()
    lay_out(STOCKED, installed)
    monkeypatch.syspath_prepend(str(installed))
    folder = tmp_path / "north"
    folder.mkdir()
    path = make_folder(folder) / "bridge.toml"
    path.write_text(path.read_text().partition("[[backend]]")[0] + BACKENDS)
    monkeypatch.chdir(folder)
    yield Stock(folder)
    for name in [name for name in sys.modules if name.startswith("compute_bridge_stocked")]:
        del sys.modules[name]
    importlib.invalidate_caches()
