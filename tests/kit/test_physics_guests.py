"""Guests: real SSH on an address of their own, for as long as their machine runs."""

import getpass
import logging
import os
import socket
import threading

import anyio
import asyncssh
import pytest
from attrs import evolve

from compute_bridge.cloud import ssh
from compute_bridge.cloud.cloud_init import cloud_config
from compute_bridge.cloud.settings import CloudSettings, HostKey
from compute_bridge.cloud.ssh import rotate_host_key, shown_host_key
from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.manifest import ImageRef
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.testing.orders import guest_key, make_order, needs_of, new_token
from compute_bridge.testing.physics.guests import Guests
from compute_bridge.testing.physics.matter import State

PORT = 2222
NOW = UtcMs(1_700_000_000_000)

pytestmark = [pytest.mark.anyio, pytest.mark.needs("sshd")]


@pytest.fixture
def guests():
    guests = Guests()
    yield guests
    guests.close()


def new_order(user):
    offer = Offer(
        id=OfferId("a/small"),
        backend=BackendName("toy"),
        region=Region("a"),
        zone=Zone(""),
        shape="small",
        resources=Resources(1000, 1024),
        posture=Posture.NONE,
        networks=(NetworkPolicy.EGRESS,),
        cost=CostBasis("EUR", UnitNanos(), NOW, "toy"),
    )
    return make_order(offer, new_token(), needs=needs_of(offer), image=ImageRef("vm:x"), user=user, now=NOW)


class Machine:
    """A machine whose state a test sets."""

    def __init__(self, guests, order=None, name="m-1", host_key=HostKey.INJECTED):
        self.order = order or new_order("guest")
        self.state = State.RUNNING
        settings = CloudSettings(owner="kit", shapes=("small",), ssh_port=PORT, host_key=host_key)
        document = cloud_config(self.order, settings, grace_ms=0).encode()
        self.address = guests.boot(name, document, lambda: self.state)

    async def shows(self):
        return await shown_host_key(self.address, PORT, within_s=20)


async def test_a_guest_shows_the_host_key_of_its_document(guests):
    one, other = Machine(guests), Machine(guests, name="m-2")

    assert one.address != other.address
    assert one.address.startswith("127.")
    assert (await one.shows(), await other.shows()) == (one.order.access.host_key, other.order.access.host_key)


@pytest.mark.needs("root")
async def test_no_log_names_the_address_of_a_guest_that_was_asked_and_rotated(rotated, caplog):
    other = evolve(rotated.order.access, host_key=new_order("guest").access.host_key)
    caplog.set_level(logging.NOTSET, logger="asyncssh")
    caplog.set_level(logging.INFO)
    ssh._asyncssh.cache_clear()
    await rotated.shows()
    await rotate(rotated, other)
    await rotate(rotated)

    assert rotated.address not in caplog.text


async def test_whoever_has_the_key_logs_in(guests):
    machine = Machine(guests, new_order(getpass.getuser()))
    key = asyncssh.import_private_key(guest_key(machine.order.token))
    known = asyncssh.import_known_hosts(f"[{machine.address}]:{PORT} {machine.order.access.host_key}\n")
    async with asyncssh.connect(
        machine.address, PORT, username=machine.order.access.user, client_keys=[key], known_hosts=known, config=None
    ) as session:
        told = await session.run("echo here", check=True)

    assert told.stdout == "here\n"


async def test_whoever_has_another_key_does_not(guests):
    machine = Machine(guests, new_order(getpass.getuser()))
    key = asyncssh.import_private_key(guest_key(new_token()))

    with pytest.raises(asyncssh.PermissionDenied):
        await asyncssh.connect(
            machine.address,
            PORT,
            username=machine.order.access.user,
            client_keys=[key],
            known_hosts=None,
            config=None,
            agent_path=None,
        )


@pytest.mark.parametrize("state", [State.PENDING, State.STOPPED, State.ENDING])
async def test_a_machine_that_does_not_run_takes_no_login(guests, state):
    machine = Machine(guests)
    machine.state = state

    assert await machine.shows() is None


async def test_it_takes_logins_once_it_runs(guests):
    machine = Machine(guests)
    machine.state = State.PENDING
    before = await machine.shows()
    machine.state = State.RUNNING

    assert (before, await machine.shows()) == (None, machine.order.access.host_key)


async def test_the_end_of_a_machine_ends_its_sessions_and_its_listener(guests):
    machine = Machine(guests, new_order(getpass.getuser()))
    key = asyncssh.import_private_key(guest_key(machine.order.token))
    async with asyncssh.connect(
        machine.address, PORT, username=machine.order.access.user, client_keys=[key], known_hosts=None, config=None
    ) as session:
        machine.state = State.GONE
        with anyio.fail_after(60):
            await session.wait_closed()
    with pytest.raises(OSError):
        socket.create_connection((machine.address, PORT), timeout=5)


@pytest.fixture
def rotated(guests):
    return Machine(guests, host_key=HostKey.ROTATED)


def pinned(host_key) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
    return [asyncssh.import_public_key(host_key)], [], []


async def rotate(machine, access=None):
    return await rotate_host_key(machine.address, PORT, access or machine.order.access, within_s=20)


async def through_the_door(machine, host_key):
    """Return what the machine answers to the login of a rotation, pinned to ``host_key``."""
    login = asyncssh.import_private_key(machine.order.access.rotation.login_key_private)
    known = pinned(host_key)
    async with asyncssh.connect(
        machine.address, PORT, username="root", client_keys=[login], known_hosts=known, config=None, agent_path=None
    ) as session:
        return await session.run("cat /etc/passwd", input="no key\n")


@pytest.mark.needs("root")
async def test_a_rotated_guest_shows_the_next_host_key_and_no_other(rotated):
    before = await rotated.shows()
    error = await rotate(rotated)
    after = await rotated.shows()

    assert error == ""
    assert (before, after) == (rotated.order.access.host_key, rotated.order.access.rotation.host_key)


@pytest.mark.needs("root")
async def test_the_door_is_gone_once_the_next_key_is_shown(rotated):
    await rotate(rotated)

    with pytest.raises(asyncssh.PermissionDenied):
        await through_the_door(rotated, rotated.order.access.rotation.host_key)


@pytest.mark.needs("root")
async def test_the_requester_logs_in_to_the_rotated_guest(guests):
    machine = Machine(guests, new_order("root"), host_key=HostKey.ROTATED)
    await rotate(machine)
    key = asyncssh.import_private_key(guest_key(machine.order.token))
    known = pinned(machine.order.access.rotation.host_key)
    async with asyncssh.connect(
        machine.address, PORT, username="root", client_keys=[key], known_hosts=known, config=None, agent_path=None
    ) as session:
        told = await session.run("echo here", check=True)

    assert told.stdout == "here\n"


@pytest.mark.needs("root")
async def test_the_door_runs_nothing_but_its_program(rotated):
    told = await through_the_door(rotated, rotated.order.access.host_key)

    assert (told.stdout, told.exit_status) != ("", 0)
    assert "root:" not in told.stdout
    assert await rotated.shows() == rotated.order.access.host_key


@pytest.mark.needs("root")
async def test_what_is_no_key_leaves_the_guest_as_it_was(rotated):
    broken = evolve(rotated.order.access.rotation, host_key_private="no key\n")
    await rotate(rotated, evolve(rotated.order.access, rotation=broken))
    still = await rotated.shows()
    await rotate(rotated)

    assert still == rotated.order.access.host_key
    assert await rotated.shows() == rotated.order.access.rotation.host_key


@pytest.mark.needs("root")
async def test_a_guest_that_shows_another_key_is_told_nothing(guests):
    machine = Machine(guests, host_key=HostKey.ROTATED)
    other = evolve(machine.order.access, host_key=new_order("guest").access.host_key)
    error = await rotate(machine, other)

    assert error == "HostKeyNotVerifiable"
    assert await machine.shows() == machine.order.access.host_key


@pytest.mark.needs("root")
async def test_two_who_rotate_at_once_leave_the_next_key(rotated):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rotate, rotated)
        tasks.start_soon(rotate, rotated)

    assert await rotated.shows() == rotated.order.access.rotation.host_key


async def test_where_the_key_stays_there_is_no_door(guests):
    machine = Machine(guests)
    await rotate(machine)

    assert await machine.shows() == machine.order.access.host_key


async def test_a_guest_without_a_document_has_no_host_key(guests):
    address = guests.boot("m-1", b"#!/bin/sh\n", lambda: State.RUNNING) if os.geteuid() == 0 else None
    if address is None:
        pytest.skip("port 22 needs root")

    assert await shown_host_key(address, 22, within_s=20) is None


async def test_five_hundred_idle_guests_are_one_thread_and_no_process(guests):
    threads = threading.active_count()
    order = new_order("guest")
    machines = [Machine(guests, evolve(order), name=f"m-{number}") for number in range(500)]

    assert len({machine.address for machine in machines}) == 500
    assert threading.active_count() == threads
    assert await machines[-1].shows() == order.access.host_key


async def test_closing_ends_everything():
    guests = Guests()
    machine = Machine(guests)
    await machine.shows()
    guests.close()
    guests.close()

    assert await machine.shows() is None
