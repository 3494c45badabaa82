"""Requests and replies are whole or nothing, and no value becomes a line of its own."""

import pytest

from compute_bridge_baremetal import protocol
from compute_bridge_baremetal.errors import meaning

WHOLE = b"\ncompute-bridge-agent 1\nstate new\nlease ab\nname cb-1\nroom now\ncpu 5\n.\n"


def test_a_reply_is_read():
    assert (("state", "new"), ("lease", "ab"), ("name", "cb-1"), ("room", "now"), ("cpu", "5")) == protocol.decode(
        WHOLE
    )


@pytest.mark.parametrize("length", range(1, len(WHOLE) - 1))
def test_a_reply_that_was_cut_anywhere_is_not_read(length: int):
    with pytest.raises(protocol.CutShortError):
        protocol.decode(WHOLE[:length])


def test_what_a_profile_prints_before_it_is_passed_over():
    assert protocol.decode(b"Welcome to\nerror no-capacity this machine" + WHOLE) == protocol.decode(WHOLE)


def test_sections_are_told_apart():
    told = [
        (head, name, dict(lines)) for head, name, lines in protocol.sections(protocol.decode(WHOLE), "lease", "room")
    ]

    assert [("", "", {"state": "new"}), ("lease", "ab", {"name": "cb-1"}), ("room", "now", {"cpu": "5"})] == told


def test_a_refusal_is_raised_with_its_code():
    with pytest.raises(protocol.RefusedError, match="it is full") as caught:
        protocol.decode(b"compute-bridge-agent 1\nerror no-capacity it is full\n.\n")
    assert caught.value.code == "no-capacity"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "two\nlines"),
        ("name", "a\r"),
        ("name", "nul\0"),
        ("name", "é"),
        ("Name", "x"),
        ("a b", "x"),
        ("name", "\x1b[0m"),
    ],
)
def test_a_value_that_does_not_fit_on_a_line_is_refused(key: str, value: str):
    with pytest.raises(ValueError, match="does not fit on a line"):
        protocol.encode({key: value})


def test_a_code_of_another_version_concludes_nothing():
    error = meaning(protocol.RefusedError("surprise", "what"), place="here", doing="do it")

    assert type(error).__name__ == "UnavailableError"
    assert str(error) == "here: cannot do it: what; install one version of the bridge everywhere"


def test_the_agent_is_named_by_its_bytes():
    script = protocol.script()

    assert script.name == f"agent-{script.digest[:16]}.sh"
    assert script.digest in protocol.install_command("/state")
