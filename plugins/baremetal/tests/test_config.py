"""A table that cannot be kept is refused, in words that name the mend."""

from typing import Any

import pytest

from compute_bridge.model.boot import FilePath, SecretRef
from compute_bridge.model.rates import UnitNanos
from compute_bridge.model.resources import NetworkPolicy, Region
from compute_bridge_baremetal.config import BaremetalConfig, Driver, Isolation, RackImage, RackMachine

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKcgyCOFZayZ1UXlKwRM7F6vOuohIkLokOA0NRAXqmpA"
IMAGE = RackImage(digest=f"oci@sha256:{'0' * 64}", archive=FilePath("/srv/images/a.tar"))


def machine(**changes: Any) -> RackMachine:
    given: dict[str, Any] = {
        "name": "m0",
        "address": "192.0.2.7",
        "host_key": HOST_KEY,
        "region": Region("eu-1"),
        "cpu_millis": 4000,
        "mem_mib": 8192,
    }
    return RackMachine(**(given | changes))


def rack(**changes: Any) -> BaremetalConfig:
    given: dict[str, Any] = {
        "driver": Driver.PODMAN,
        "ssh_key": SecretRef("file:/etc/key"),
        "currency": "USD",
        "cost": UnitNanos(),
        "machines": (machine(),),
        "images": (IMAGE,),
    }
    return BaremetalConfig(**(given | changes))


def processes(**changes: Any) -> BaremetalConfig:
    return rack(**({"driver": Driver.PROCESS, "isolation": Isolation.NONE, "images": ()} | changes))


def test_the_driver_process_wants_isolation_none_in_words():
    with pytest.raises(ValueError, match='say isolation = "none" or use the driver podman'):
        processes(isolation=Isolation.CONTAINER)


def test_isolation_none_is_not_said_of_podman():
    with pytest.raises(ValueError, match="the driver podman isolates"):
        rack(isolation=Isolation.NONE)


def test_the_driver_process_cannot_sell_isolated():
    with pytest.raises(ValueError, match="sell egress only"):
        processes(networks=(NetworkPolicy.ISOLATED,))


def test_each_driver_sells_what_it_can_hold():
    assert (NetworkPolicy.EGRESS,) == processes().policies
    assert (NetworkPolicy.EGRESS, NetworkPolicy.ISOLATED) == rack().policies
    assert (NetworkPolicy.EGRESS,) == rack(networks=(NetworkPolicy.EGRESS,)).policies


def test_podman_wants_an_image_and_a_process_takes_none():
    with pytest.raises(ValueError, match="podman needs an image"):
        rack(images=())
    with pytest.raises(ValueError, match="the driver process takes none"):
        processes(images=(IMAGE,))


def test_two_machines_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two machines are called m0"):
        rack(machines=(machine(), machine(address="192.0.2.8")))


@pytest.mark.parametrize("ports", [(), (22000,), (80, 90), (22001, 22000), (22000, 70000)])
def test_a_port_range_is_two_ports_of_guests(ports: tuple[int, ...]):
    with pytest.raises(ValueError, match="port_range must be two ports"):
        rack(port_range=ports)


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "ssh-ed25519 !!!!", "AAAAC3Nza", "ssh-dss AAAA"])
def test_a_host_key_is_a_public_key_line(key: str):
    with pytest.raises(ValueError, match="host_key is no OpenSSH public key line"):
        machine(host_key=key)


@pytest.mark.parametrize("folder", ["state", "/srv/$(id)", "/srv/a b", "/srv/;reboot", "/srv/a'b"])
def test_a_state_folder_is_a_path_that_no_shell_reads(folder: str):
    with pytest.raises(ValueError, match=r"state_dir .* is not an absolute path of plain letters"):
        machine(state_dir=folder)


@pytest.mark.parametrize("command", ["podman; reboot", "podman $(id)", "podman `id`", "podman\nreboot", " podman"])
def test_a_command_is_plain_words(command: str):
    with pytest.raises(ValueError, match=r"podman .* is not a command of plain words"):
        rack(podman=command)


@pytest.mark.parametrize("labels", [{"a b": "c"}, {"a": "b c"}, {"a": ""}, {"a": "$(id)"}])
def test_labels_are_plain_words(labels: dict[str, str]):
    with pytest.raises(ValueError, match="labels"):
        machine(labels=labels)


def test_ranges_and_resolvers_are_ipv4():
    with pytest.raises(ValueError, match=r"egress_denied holds '10\.0\.0\.1/8'"):
        rack(egress_denied=("10.0.0.1/8",))
    with pytest.raises(ValueError, match="dns holds '::1'"):
        rack(dns=("::1",))


def test_containers_are_reached_by_ipv4():
    with pytest.raises(ValueError, match="give an IPv4 listen_address"):
        rack(machines=(machine(address="2001:db8::7"),))


def test_an_image_is_named_by_its_digest():
    with pytest.raises(ValueError, match="digest 'vm:host' is not"):
        RackImage(digest="vm:host", archive=FilePath("/a.tar"))


def test_guests_are_dialled_and_listen_where_it_says():
    named = machine(address="rack.example", public_address="guests.example")
    behind_nat = machine(address="rack.example", public_address="198.51.100.7", listen_address="0.0.0.0")

    assert ("192.0.2.7", "192.0.2.7") == (machine().dialled, machine().listens)
    assert ("guests.example", "") == (named.dialled, named.listens)
    assert ("198.51.100.7", "0.0.0.0") == (behind_nat.dialled, behind_nat.listens)


def test_no_secret_is_in_a_table_s_repr():
    assert "file:/etc/key" in repr(rack())
