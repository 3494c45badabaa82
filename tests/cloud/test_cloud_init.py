"""The document that a guest boots by."""

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from attrs import evolve

from compute_bridge.cloud import rotation
from compute_bridge.cloud.cloud_init import cloud_config
from compute_bridge.cloud.settings import HostKey
from compute_bridge.model.units import UtcMs
from compute_bridge.testing.physics.guest_document import GuestDocument

SCHEMAS = "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"
"""Where Debian's package of cloud-init has its schema; the package need not be installed, only unpacked."""
UNPACKED = "CLOUD_INIT_PACKAGE"
EC2_LIMIT = 16_384


@pytest.fixture
def text(order, settings):
    return cloud_config(order, settings, grace_ms=60_000)


def body(text):
    head, _, rest = text.partition("\n")
    assert head == "#cloud-config"
    return json.loads(rest)


def files(text):
    return {file["path"]: file["content"] for file in body(text)["write_files"]}


def test_the_same_order_gives_the_same_bytes(order, settings, text):
    assert cloud_config(order, settings, grace_ms=60_000) == text


def test_it_is_small_and_plain(text):
    assert len(text.encode()) < EC2_LIMIT
    assert text.isascii()


def test_the_host_key_is_the_orders_and_no_other_is_made(order, text):
    keys = body(text)["ssh_keys"]

    assert keys == {"ed25519_private": order.access.host_key_private, "ed25519_public": order.access.host_key}
    assert body(text)["ssh_deletekeys"] is True


def test_only_the_orders_key_logs_in(order, text):
    users = body(text)["users"]

    assert [(user["name"], user["ssh_authorized_keys"]) for user in users] == [
        (order.access.user, [order.access.authorized_key])
    ]
    assert body(text)["ssh_pwauth"] is False
    assert body(text)["disable_root"] is True


def test_a_root_user_may_log_in(order, settings):
    access = evolve(order.access, user="root")
    document = body(cloud_config(evolve(order, access=access), settings, grace_ms=0))

    assert document["disable_root"] is False
    assert "sudo" not in document["users"][0]


def test_the_next_host_key_is_in_no_document(order, text):
    given = order.access.rotation
    lines = [*given.host_key_private.splitlines()[2:-1], *given.login_key_private.splitlines()[2:-1]]

    assert [line for line in [*lines, given.host_key] if line in text] == []


def test_there_is_a_door_only_where_the_key_is_rotated(order, settings, text):
    is_rotated = settings.host_key is HostKey.ROTATED

    assert (rotation.DOOR in text) is (rotation.PROGRAM in text) is is_rotated
    assert (order.access.rotation.login_key in text) is is_rotated


def test_the_door_leads_to_one_program_and_nowhere_else(order):
    assert rotation.door(order.access.rotation) == (
        f'restrict,command="/usr/local/sbin/compute-bridge-rotate" {order.access.rotation.login_key}\n'
    )


@pytest.mark.parametrize(("ends_at", "moment"), [(1_000_000_000, 1_000_060), (1_000_000_001, 1_000_061)])
def test_the_timer_is_absolute_and_never_early(order, settings, ends_at, moment):
    text = cloud_config(evolve(order, ends_at=UtcMs(ends_at)), settings, grace_ms=60_000)
    timer = files(text)["/etc/systemd/system/compute-bridge-end.timer"]
    told = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    assert f"\nOnCalendar={told}\n" in timer
    assert "\nPersistent=true\n" in timer


def test_the_timer_is_started_and_powers_off(text):
    assert ["systemctl", "enable", "--now", "compute-bridge-end.timer"] in body(text)["runcmd"]
    assert "poweroff" in files(text)["/etc/systemd/system/compute-bridge-end.service"]


@pytest.mark.parametrize("known", ["ssh.service", "sshd.service", "none"])
def test_ssh_is_reloaded_by_either_name_and_a_name_that_is_unknown_is_no_error(text, tmp_path, known):
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/told\ntest "$2" = {known}\n')
    systemctl.chmod(0o755)
    [reload] = [command for command in body(text)["runcmd"] if "try-reload-or-restart" in " ".join(command)]
    done = subprocess.run(reload, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False, timeout=30)

    assert done.returncode == 0
    assert (tmp_path / "told").read_text().splitlines() == [
        "try-reload-or-restart ssh.service",
        "try-reload-or-restart sshd.service",
    ]


@pytest.mark.parametrize(("port", "restarts"), [(22, 0), (2222, 1)])
def test_a_socket_begins_anew_for_another_port_alone(order, settings, port, restarts):
    commands = body(cloud_config(order, evolve(settings, ssh_port=port), grace_ms=0))["runcmd"]

    assert restarts == sum("try-restart ssh.socket" in " ".join(command) for command in commands)


def test_a_guest_reads_what_was_meant(order, text):
    guest = GuestDocument.read(text.encode())

    assert guest == GuestDocument(
        host_key_private=order.access.host_key_private,
        files=files(text),
        users={order.access.user: (order.access.authorized_key,)},
        port=2222,
        powers_off_ms=order.ends_at + 60_000,
    )


def test_it_is_valid_by_cloud_inits_own_schema(text):
    schema = Path(os.environ.get(UNPACKED, "/")) / SCHEMAS
    if not schema.exists() and UNPACKED not in os.environ:
        pytest.skip(f"needs cloud-init: its package has the schema; install it, or unpack it and set {UNPACKED}")
    jsonschema.Draft4Validator(json.loads(schema.read_text())).validate(body(text))
