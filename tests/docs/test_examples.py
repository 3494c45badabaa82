"""Every example of every page runs, the blocks of a page in order, in one empty folder."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/README.md")])
BLOCK = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>[a-z]+)\n(?P<text>.*?)^(?P=indent)(?P=fence)$", re.M | re.S
)
NOT_RUN = re.compile(r"<!-- not run: \S.* -->\s*\Z")
PLAYED_BY = re.compile(r"^<!-- tested by (?P<test>\S+) -->$", re.M)


@frozen
class Block:
    language: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    found = [match for match in BLOCK.finditer(page) if not NOT_RUN.search(page[: match.start()])]
    return [Block(match["language"], match["text"], page.count("\n", 0, match.start()) + 1) for match in found]


def run_python(block: Block, folder: Path, names: dict[str, object]) -> None:
    exec(compile("\n" * block.line + block.text, str(folder / "page.py"), "exec"), names)


def read_toml(block: Block, folder: Path) -> None:
    tomllib.loads(block.text)
    if name := re.match(r"# (?P<name>[\w.-]+\.toml)\n", block.text):
        (folder / name["name"]).write_text(block.text)


def run_console(block: Block, folder: Path) -> None:
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.M):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        result = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=os.environ | {"PATH": path},
            text=True,
            capture_output=True,
            check=False,
        )
        printed = result.stdout + result.stderr
        assert result.returncode == 0, f"line {block.line}: {command}\n{printed}"
        assert agrees(shown, printed), f"line {block.line}: {command}\nshown:\n{shown}\nprinted:\n{printed}"


def agrees(shown: str, printed: str) -> bool:
    pattern = re.escape(shown.strip()).replace(r"\.\.\.", ".*")
    return not shown.strip() or re.fullmatch(pattern, printed.strip(), re.S) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = page.read_text()
    if played := PLAYED_BY.search(text):
        assert page.name in (ROOT / played["test"]).read_text()
        return
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(text):
        if block.language == "python":
            run_python(block, tmp_path, names)
        elif block.language == "toml":
            read_toml(block, tmp_path)
        elif block.language == "console":
            run_console(block, tmp_path)


def test_a_block_that_is_not_run_names_its_reason():
    page = "<!-- not run: needs a market -->\n```console\n$ false\n```\n\n<!-- not run: -->\n```console\n$ true\n```\n"

    assert [block.text for block in blocks(page)] == ["$ true\n"]


@pytest.mark.parametrize(("command", "shown"), [("false", ""), ("echo one", "two")])
def test_a_wrong_console_block_is_found(command: str, shown: str, tmp_path: Path):
    with pytest.raises(AssertionError, match=command):
        run_console(Block("console", f"$ {command}\n{shown}\n", 1), tmp_path)


def test_an_ellipsis_stands_for_any_text():
    assert agrees("one ... three\n", "one two\ntwo three\n")
