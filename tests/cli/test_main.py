"""From arguments to a command, and from its errors to one message and an exit code."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compute_bridge.cli.exits import Exit, exit_code
from compute_bridge.cli.main import dispatch
from compute_bridge.model.errors import ComputeBridgeError
from compute_bridge.ports import errors

COMMANDS = """
import threading

import click
from compute_bridge.ports import errors

def tide(context):
    kind, *rest = context.arguments
    if kind == "say":
        context.say(" ".join(rest))
        return None
    if kind == "code":
        return int(rest[0])
    if kind == "stranded":
        threading.Thread(target=threading.Event().wait).start()
        raise KeyboardInterrupt
    if kind == "group":
        raise BaseExceptionGroup("several", [errors.NetworkError("one is down"), errors.QuotaError("two is full")])
    if kind == "mixed":
        raise BaseExceptionGroup("several", [errors.NetworkError("one is down"), ZeroDivisionError("a bug")])
    raise {
        "click": click.UsageError("no such option"),
        "abort": click.Abort(),
        "interrupt": KeyboardInterrupt(),
        "config": errors.BootFileError("bridge.toml: wrong"),
        "bug": ZeroDivisionError("a bug"),
    }[kind]

NOT_A_FUNCTION = 5
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def lay_out(name: str, commands: dict[str, str], helps: dict[str, str] | None = None) -> None:
        (tmp_path / "test_command_tide.py").write_text(COMMANDS)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = ["[compute_bridge.commands]", *(f"{word} = {target}" for word, target in commands.items())]
        lines += ["[compute_bridge.command_help]", *(f"{line} = {target}" for line, target in (helps or {}).items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    yield lay_out
    sys.modules.pop("test_command_tide", None)


@pytest.fixture
def tide(install: Install) -> None:
    install("tidal", {"tide": "test_command_tide:tide"}, {"tide Tell the tide.": "test_command_tide:tide"})


# --- help -----------------------------------------------------------------------------------------

HELP = """\
Usage: compute-bridge COMMAND [ARGUMENTS]

Sell compute from clouds and racks behind one attested identity.

Commands:
"""


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert dispatch(arguments) == Exit.OK

    told = capsys.readouterr().out

    assert told.startswith(HELP)
    assert "  config   Check, show or describe the boot file.\n" in told
    assert "  run      Run a bridge.\n" in told
    assert told.endswith("compute-bridge --version tells the version.\n")


@pytest.mark.usefixtures("tide")
def test_a_plugins_command_is_listed_with_its_help_line(capsys: pytest.CaptureFixture[str]):
    dispatch(["--help"])

    assert "  tide     Tell the tide.\n" in capsys.readouterr().out


def test_a_command_without_a_help_line_is_listed_all_the_same(install: Install, capsys: pytest.CaptureFixture[str]):
    install("tidal", {"tide": "test_command_tide:tide"})
    dispatch(["--help"])

    assert "  tide     (no help line; test_command_tide:tide)\n" in capsys.readouterr().out


def test_a_distribution_cannot_caption_another_ones_command(install: Install, capsys: pytest.CaptureFixture[str]):
    install("meddling", {}, {"run Do not use this.": "test_command_tide:tide"})
    dispatch(["--help"])

    assert "  run      Run a bridge.\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["config", "explain", "plugins", "run", "status"])
def test_every_command_tells_more(command: str, capsys: pytest.CaptureFixture[str]):
    assert dispatch([command, "--help"]) == Exit.OK
    first = capsys.readouterr().out
    assert dispatch(["help", command]) == Exit.OK

    assert first == capsys.readouterr().out
    assert first.startswith(f"Usage: compute-bridge {command} ")


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tide")
def test_a_command_is_called_with_its_arguments(capsys: pytest.CaptureFixture[str]):
    assert dispatch(["tide", "say", "high", "--water"]) == Exit.OK
    assert capsys.readouterr().out == "high --water\n"


@pytest.mark.usefixtures("tide")
def test_what_a_command_returns_is_the_exit_code():
    assert dispatch(["tide", "code", "42"]) == 42


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rnu", "did you mean 'run'?"),
        ("plugin", "did you mean 'plugins'?"),
        ("xyzzy", "compute-bridge --help lists them all"),
        ("--verson", "there is no command '--verson'"),
    ],
)
def test_an_unknown_command_gets_the_nearest_one(name: str, says: str, capsys: pytest.CaptureFixture[str]):
    assert dispatch([name]) == Exit.USAGE
    assert says in capsys.readouterr().err


def test_two_commands_of_one_name_are_both_named(install: Install, capsys: pytest.CaptureFixture[str]):
    install("tidal", {"tide": "test_command_tide:tide"})
    install("copied", {"tide": "test_command_tide:tide"})

    assert dispatch(["tide", "say"]) == Exit.USAGE
    told = capsys.readouterr().err
    assert "distribution tidal 1.0, entry point tide" in told
    assert "distribution copied 1.0, entry point tide" in told


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("test_command_nowhere:tide", "ModuleNotFoundError"),
        ("test_command_tide:nothing", "AttributeError"),
        ("test_command_tide:NOT_A_FUNCTION", "name a function that takes a CommandContext"),
    ],
)
def test_a_command_that_does_not_load_is_named(
    install: Install, target: str, says: str, capsys: pytest.CaptureFixture[str]
):
    install("tidal", {"tide": target})

    assert dispatch(["tide"]) == Exit.CONFIG
    told = capsys.readouterr().err
    assert f"distribution tidal 1.0, entry point tide = {target}" in told
    assert says in told


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tide")
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["config"], Exit.CONFIG, "compute-bridge: bridge.toml: wrong\n"),
        (["click"], Exit.USAGE, "Error: no such option\n"),
        (["interrupt"], Exit.INTERRUPTED, "compute-bridge: interrupted\n"),
        (["abort"], Exit.INTERRUPTED, "compute-bridge: interrupted\n"),
        (["group"], Exit.UNREACHABLE, "compute-bridge: one is down\ncompute-bridge: two is full\n"),
    ],
)
def test_an_error_is_one_message_and_a_code(
    arguments: list[str], code: Exit, says: str, capsys: pytest.CaptureFixture[str]
):
    assert dispatch(["tide", *arguments]) == code
    assert capsys.readouterr().err == says


@pytest.mark.usefixtures("tide")
def test_an_interrupted_process_ends_though_its_threads_do_not(tmp_path: Path):
    command = [sys.executable, "-m", "compute_bridge", "tide", "stranded"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)

    assert process.returncode == Exit.INTERRUPTED
    assert process.stderr == "compute-bridge: interrupted\n"


@pytest.mark.usefixtures("tide")
def test_the_trace_adds_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COMPUTE_BRIDGE_TRACE", "1")
    dispatch(["tide", "config"])

    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.usefixtures("tide")
def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        dispatch(["tide", "bug"])


@pytest.mark.usefixtures("tide")
def test_a_bug_among_errors_keeps_its_traceback():
    with pytest.raises(BaseExceptionGroup):
        dispatch(["tide", "mixed"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BootFileError("x"), Exit.CONFIG),
        (errors.PluginError("x"), Exit.CONFIG),
        (errors.JournalError("x"), Exit.ERROR),
        (errors.NoQuoteError("x"), Exit.ATTESTATION),
        (errors.AttestationError("x", reason="quote-debug"), Exit.ATTESTATION),
        (errors.NoCapacityError("x"), Exit.NO_CAPACITY),
        (errors.SignatureError("x"), Exit.UNVERIFIED),
        (errors.ReceiptError("x"), Exit.UNVERIFIED),
        (errors.AdmissionError("x", reason="card-epoch"), Exit.REFUSED),
        (errors.TailMovedError("x"), Exit.UNREACHABLE),
        (errors.UnavailableError("x"), Exit.UNREACHABLE),
        (errors.CredentialsError("x"), Exit.ERROR),
        (ComputeBridgeError("x"), Exit.ERROR),
    ],
)
def test_each_class_of_error_has_its_code(error: Exception, code: Exit):
    assert exit_code(error) is code
