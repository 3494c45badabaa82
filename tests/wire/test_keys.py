"""Lease keys: the same for the same secret, purpose and token, and readable for OpenSSH."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from hypothesis import given
from hypothesis import strategies as st

from compute_bridge.model.errors import RecordError
from compute_bridge.model.ids import GrantId, Token
from compute_bridge.wire.keys import (
    derive_seed,
    instance_name,
    lease_mac,
    require_ssh_public_line,
    ssh_private_file,
    ssh_public_line,
)
from compute_bridge.wire.tokens import order_token

SECRET, TOKEN = bytes(range(32)), Token(bytes([9]) * 32)
GRANT = GrantId(bytes([8]) * 32)
_SEED = st.binary(min_size=32, max_size=32)


@given(_SEED, st.text(max_size=12), _SEED)
def test_a_seed_is_the_same_for_the_same_three_inputs(secret, purpose, token):
    assert derive_seed(secret, purpose, token) == derive_seed(secret, purpose, token)


def test_a_seed_is_another_one_for_any_other_input():
    seeds = [
        derive_seed(SECRET, "host-key", TOKEN),
        derive_seed(bytes(32), "host-key", TOKEN),
        derive_seed(SECRET, "user-key", TOKEN),
        derive_seed(SECRET, "host-key", bytes(32)),
    ]

    assert 4 == len(set(seeds))
    assert {32} == {len(seed) for seed in seeds}


def test_a_mac_is_another_one_for_any_other_input():
    macs = {
        lease_mac(SECRET, "cb-1", b"grant"),
        lease_mac(bytes(32), "cb-1", b"grant"),
        lease_mac(SECRET, "cb-2", b"grant"),
        lease_mac(SECRET, "cb-1", b"other"),
        lease_mac(SECRET, "cb-1\0grant", b""),
    }

    assert 5 == len(macs)


def test_a_token_is_another_one_for_any_other_place_or_attempt():
    places = [
        ("rack", "eu", "a", "m", 0),
        ("rackeu", "", "a", "m", 0),
        ("rack", "eu", "am", "", 0),
        ("rack", "eu", "a", "m", 1),
    ]
    tokens = {order_token(GRANT, *words, attempt=attempt) for *words, attempt in places}
    tokens.add(order_token(GrantId(bytes(32)), "rack", "eu", "a", "m", attempt=0))

    assert 5 == len(tokens)


def test_an_instance_name_is_a_label_of_the_token():
    assert f"cb-{'09' * 12}" == instance_name(TOKEN)


@given(_SEED)
def test_the_key_files_hold_the_key_of_the_seed(seed):
    key = Ed25519PrivateKey.from_private_bytes(seed)
    private = load_ssh_private_key(ssh_private_file(seed).encode(), None)
    public = load_ssh_public_key(ssh_public_line(seed).encode())

    assert isinstance(private, Ed25519PrivateKey)
    assert seed == private.private_bytes_raw()
    assert key.public_key() == public


@given(_SEED)
def test_a_private_file_is_the_same_bytes_every_time(seed):
    assert ssh_private_file(seed) == ssh_private_file(seed)


@pytest.mark.needs("openssh-client")
def test_openssh_reads_the_private_file_and_finds_the_public_line(tmp_path: Path):
    path = tmp_path / "key"
    path.write_text(ssh_private_file(SECRET))
    path.chmod(0o600)
    command = [shutil.which("ssh-keygen") or "ssh-keygen", "-y", "-f", str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)

    assert ssh_public_line(SECRET) == " ".join(found.stdout.split()[:2])


@pytest.mark.needs("openssh-client")
def test_openssh_signs_with_the_private_file(tmp_path: Path):
    keygen = shutil.which("ssh-keygen") or "ssh-keygen"
    (tmp_path / "key").write_text(ssh_private_file(SECRET))
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "signers").write_text(f"me {ssh_public_line(SECRET)}\n")
    (tmp_path / "text").write_text("text")
    subprocess.run(
        [keygen, "-Y", "sign", "-f", "key", "-n", "test", "text"], cwd=tmp_path, capture_output=True, check=True
    )
    verify = [keygen, "-Y", "verify", "-f", "signers", "-I", "me", "-n", "test", "-s", "text.sig"]
    found = subprocess.run(verify, cwd=tmp_path, input=b"text", capture_output=True, check=False)

    assert 0 == found.returncode, found.stderr


# --- what a requester brings ------------------------------------------------------------------------------


@pytest.mark.needs("openssh-client")
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_that_openssh_made_is_accepted_without_its_comment(tmp_path: Path, kind):
    keygen = shutil.which("ssh-keygen") or "ssh-keygen"
    subprocess.run([keygen, "-q", "-t", kind, "-N", "", "-C", "me@home", "-f", str(tmp_path / "key")], check=True)
    line = (tmp_path / "key.pub").read_text()

    assert " ".join(line.split()[:2]) == require_ssh_public_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 ",
        "ssh-ed25519 not-base64!",
        "ssh-dss AAAAB3NzaC1kc3M=",
        "ssh-rsa " + ssh_public_line(SECRET).split()[1],
        'command="sh" ' + ssh_public_line(SECRET),
        "no-pty,permitopen=all " + ssh_public_line(SECRET),
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "# " + ssh_public_line(SECRET),
    ],
)
def test_what_is_no_plain_public_key_is_refused(line):
    with pytest.raises(RecordError):
        require_ssh_public_line(line)


def test_nothing_beyond_type_and_key_gets_through():
    line = require_ssh_public_line(ssh_public_line(SECRET) + " comment\nssh-ed25519 AAAA second")

    assert ssh_public_line(SECRET) == line
