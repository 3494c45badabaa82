"""The page of a backend's promises, made of the suite: ``python -m compute_bridge.testing.promises_page``."""

import inspect
import sys
from collections.abc import Iterator

from compute_bridge.testing.backend import BackendConformance

_HEAD = """\
# What a backend promises

This page is made of the conformance suite, `compute_bridge.testing.backend.BackendConformance`.
Each heading is a test: a backend keeps the promise when the test passes.
[Your first backend](first-backend.md) shows how the suite is run.
Beside each test runs a detector that fails it when the backend blocks the event loop.
"""


def page() -> str:
    """Return the page, in Markdown."""
    sections = [cls for cls in BackendConformance.__bases__ if _tests(cls)]
    return "\n".join([_HEAD, *(line for cls in sections for line in _section(cls))])


def _tests(cls: type) -> list[str]:
    return [name for name in vars(cls) if name.startswith("test_")]


def _section(cls: type) -> Iterator[str]:
    yield f"## {_markdown(inspect.getdoc(cls)).splitlines()[0].rstrip('.')}\n"
    for name in _tests(cls):
        promise, found, hint = _markdown(inspect.getdoc(vars(cls)[name])).partition("Troubleshooting:")
        if not found:
            raise LookupError(f"{cls.__name__}.{name}: its docstring has no line 'Troubleshooting:'; add one")
        claim = name.removeprefix("test_").replace("_", " ")
        yield f"### {claim[0].upper()}{claim[1:]}\n"
        yield f"{_flowing(promise)}\n"
        yield f"*Troubleshooting:* {_flowing(hint)}\n"
        yield f"`{name}`\n"


def _markdown(text: str | None) -> str:
    return (text or "").replace("``", "`")


def _flowing(text: str) -> str:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]
    return "\n\n".join(paragraphs)


if __name__ == "__main__":
    sys.stdout.write(page())
