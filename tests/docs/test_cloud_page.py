"""The page for authors of clouds says what the code says: what a cloud promises, and the levers of the physics."""

import inspect
import re
from pathlib import Path

import pytest

from compute_bridge.cloud.machine import Cloud
from compute_bridge.testing.physics.engine import Physics
from compute_bridge.testing.physics.matter import Code

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugin-author" / "cloud-of-your-own.md").read_text()
LEVERS = [
    "exhaust", "replenish", "use_up_quota", "restore_quota", "go_down", "come_back", "refuse_credentials",
    "accept_credentials", "throttle", "relent", "lose_next_answer", "fail_next_launch", "hold_next_create",
    "hold_next_login", "hold_next_call", "kill", "preempt", "shut_down",
]  # fmt: skip
FACADE = [
    "admit", "launch", "listed", "get", "named", "end", "set_deadline", "retag", "amend", "add", "resources", "remove",
    "quota", "leftovers", "count",
]  # fmt: skip


def plain(documented: object) -> str:
    text = inspect.getdoc(documented) or ""
    return " ".join(re.sub(r":\w+:`[~\w.]*?(\w+)`", r"`\1`", text.split("\n\n")[0]).replace("``", "`").split())


def shape(name: str, documented: object) -> str:
    """Return how something is called, with its types: ``async create(order: Order) -> None``."""
    function = documented.fget if isinstance(documented, property) else documented
    assert callable(function)
    signature = inspect.signature(function)
    told = str(signature.replace(parameters=list(signature.parameters.values())[1:]))
    told = re.sub(r"[A-Za-z_][\w.]*\.(\w+)", r"\1", told.replace("'", '"'))
    told = re.sub(r"(\w+) = <(\w+): [^>]*>", r"\1 = \1.\2", told)
    if isinstance(documented, property):
        return f"{name}: {told.removeprefix('() -> ')}"
    return f"{'async ' if inspect.iscoroutinefunction(function) else ''}{name}{told}"


def rows(section: str) -> dict[str, str]:
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `(.*?)` \| (.*) \|$", text, re.M)
    return {call.replace("\\|", "|"): told for call, told in found}


@pytest.mark.parametrize(
    ("section", "of", "names"),
    [
        ("What a cloud promises", Cloud, [name for name in vars(Cloud) if not name.startswith("_")]),
        ("What a facade asks", Physics, FACADE),
        ("The levers", Physics, LEVERS),
    ],
)
def test_a_table_says_what_the_docstrings_say(section, of, names):
    documented = {name: inspect.getattr_static(of, name) for name in names}

    assert rows(section) == {shape(name, one): plain(one) for name, one in documented.items()}


def test_every_refusal_is_listed():
    assert set(re.findall(r"`([A-Z_]+)`", PAGE)) >= {code.name for code in Code}
