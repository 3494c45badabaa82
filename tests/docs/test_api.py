"""The page of the public surface lists exactly what the door for plugin authors holds."""

import re
from pathlib import Path

from compute_bridge import api

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_page_lists_what_the_door_holds():
    listed = re.findall(r"^\| `(\w+)` \| \S", PAGE.read_text(), re.M)

    assert sorted(listed) == sorted(name for name in vars(api) if re.match(r"[A-Za-z]", name))


def test_the_door_holds_no_code_of_its_own():
    source = Path(api.__file__).read_text().split('"""')[2]

    assert [
        line for line in source.splitlines() if line and not re.fullmatch(r"from \S+ import (\w+) as \1", line)
    ] == []
