"""Each rule of style that a machine checks fires on code that breaks it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BAD_CODE = {
    "ANN201": "def charge():\n    return 1\n",
    "ASYNC109": "async def fetch(timeout: float) -> None:\n    await wait(timeout)\n",
    "ASYNC110": "import anyio\n\n\nasync def poll() -> None:\n    while not ready():\n        await anyio.sleep(1)\n",
    "ASYNC251": "import time\n\n\nasync def rest() -> None:\n    time.sleep(1)\n",
    "B904": "try:\n    call()\nexcept KeyError:\n    raise ValueError('x')\n",
    "BLE001": "try:\n    call()\nexcept Exception:\n    note()\n",
    "D103": "def charge() -> int:\n    return 1\n",
    "DTZ003": "import datetime\n\ndatetime.datetime.utcnow()\n",
    "DTZ005": "import datetime\n\ndatetime.datetime.now()\n",
    "E722": "try:\n    call()\nexcept:\n    note()\n",
    "N818": "class NoCapacity(Exception):\n    pass\n",
    "S110": "try:\n    call()\nexcept Exception:\n    pass\n",
    "S311": "import random\n\nrandom.random()\n",
    "SLF001": "def peek(other: object) -> object:\n    return other._secret\n",
    "T201": "print(1)\n",
}

BANNED_NAMES = [
    "asyncio.create_task",
    "asyncio.ensure_future",
    "asyncio.gather",
    "asyncio.sleep",
    "random.choice",
    "time.time",
]


def codes(source: str) -> set[str]:
    options = ["--no-cache", "--output-format", "json", "--stdin-filename", "core/compute_bridge/host/planted.py"]
    command = [sys.executable, "-m", "ruff", "check", *options, "-"]
    result = subprocess.run(command, cwd=ROOT, input=source, text=True, capture_output=True, check=False)
    return {found["code"] for found in json.loads(result.stdout)}


@pytest.mark.parametrize("code", BAD_CODE)
def test_the_rule_fires(code: str):
    assert code in codes(BAD_CODE[code])


@pytest.mark.parametrize("name", BANNED_NAMES)
def test_the_name_is_banned(name: str):
    module, attribute = name.rsplit(".", 1)

    assert "TID251" in codes(f"import {module}\n\n{module}.{attribute}()\n")
