"""Secrets by reference: read where they lie, refused where others may read them too, never shown."""

import os
from pathlib import Path

import pytest

from compute_bridge.adapters.secrets import MAX_SECRET_BYTES, read_secret, write_secret
from compute_bridge.ports.errors import BootFileError

CANARY = "hunter2-canary-value"


def put(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_secret_comes_from_the_environment():
    assert read_secret("env:KEY", environ={"KEY": CANARY}) == CANARY.encode()


def test_a_secret_comes_from_a_file_beside_the_boot_file(tmp_path: Path):
    put(tmp_path, CANARY.encode())

    assert read_secret("file:secret", base_dir=tmp_path) == CANARY.encode()


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"word\n", b"word"),
        (b"word\r\n", b"word"),
        (b"word\n\n", b"word\n"),
        (b"a\nb\n", b"a\nb"),
        (bytes(31) + b"\n", bytes(31) + b"\n"),
        (b"\xff" * 31 + b"\n", b"\xff" * 31 + b"\n"),
    ],
)
def test_only_the_line_end_of_a_text_is_left_out(tmp_path: Path, content: bytes, secret: bytes):
    put(tmp_path, content)

    assert secret == read_secret("file:secret", base_dir=tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_that_others_may_read_is_refused_with_the_mend(tmp_path: Path, mode: int):
    path = put(tmp_path, CANARY.encode(), mode)

    with pytest.raises(BootFileError, match=f"chmod 600 {path}") as caught:
        read_secret("file:secret", base_dir=tmp_path)

    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("env:NO_SUCH", "the environment has no NO_SUCH"),
        ("env:EMPTY", "the environment has no EMPTY"),
        ("file:missing", "No such file"),
        ("file:.", "Is a directory"),
        ("file:pipe", "not a regular file"),
        ("file:empty", "is empty"),
        ("file:huge", "larger than"),
    ],
)
def test_a_secret_that_is_not_there_names_its_reference_and_the_mend(tmp_path: Path, ref: str, says: str):
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, size in (("empty", 0), ("huge", MAX_SECRET_BYTES + 1)):
        put(tmp_path, b"x" * size).rename(tmp_path / name)

    with pytest.raises(BootFileError, match=says) as caught:
        read_secret(ref, base_dir=tmp_path, environ={"EMPTY": ""})

    assert f"secret {ref}: " in str(caught.value)


@pytest.mark.parametrize("ref", [CANARY, "env:", "file:", f"env:{CANARY}", f"http:{CANARY}", ""])
def test_what_is_no_reference_is_refused_and_not_shown(ref: str):
    with pytest.raises(BootFileError) as caught:
        read_secret(ref)

    assert CANARY not in str(caught.value)


def test_a_new_secret_is_readable_by_this_user_only(tmp_path: Path):
    write_secret(tmp_path / "secret", b"new")

    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert read_secret("file:secret", base_dir=tmp_path) == b"new"


def test_a_secret_is_never_overwritten(tmp_path: Path):
    put(tmp_path, b"old")

    with pytest.raises(BootFileError, match="is not overwritten"):
        write_secret(tmp_path / "secret", b"new")

    assert read_secret("file:secret", base_dir=tmp_path) == b"old"


def test_a_secret_is_not_written_where_there_is_no_folder(tmp_path: Path):
    with pytest.raises(BootFileError, match="name a file in a folder of yours"):
        write_secret(tmp_path / "none" / "secret", b"new")
