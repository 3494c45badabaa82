"""The fake refuses what Azure refuses, so that a plugin which forgets something does not pass."""

import copy

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import AzureError

from compute_bridge.model.ids import OfferId
from compute_bridge.model.rates import CostBasis, UnitNanos
from compute_bridge.model.resources import NetworkPolicy, Posture, Region, Resources, Zone
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge.testing.physics.matter import State
from compute_bridge_azure import body
from compute_bridge_azure.errors import answer_of
from compute_bridge_azure.sdk import Arm
from compute_bridge_azure.testing.machines import ADDRESS, DISK, NIC
from compute_bridge_azure.testing.world import AzureWorld

NAME = "cb-0123456789abcdef01234567"


@pytest.fixture
def arm(bare):
    """Return the slice of the SDK."""
    arm = Arm(bare.config, bare.tokens.secret, lambda headers: None)
    yield arm
    arm.close()


@pytest.fixture
def made(bare, arm):
    """Return the slice and a document that the fake takes."""
    bare.physics.ending_ms = 0
    cost = CostBasis("USD", UnitNanos(), UtcMs(1), "test")
    offer = Offer(
        id=OfferId("westeurope-1/Standard_D2s_v5"),
        backend=bare.name,
        region=Region("westeurope"),
        zone=Zone("westeurope-1"),
        shape="Standard_D2s_v5",
        resources=Resources(2000, 8192, 64),
        posture=Posture.NONE,
        networks=tuple(sorted(NetworkPolicy)),
        cost=cost,
        images=("ubuntu",),
    )
    return arm, body.machine_body(bare.config, bare.order(offer))


def told(error):
    """Return what an error of the SDK tells."""
    answer = answer_of(error)
    assert answer is not None
    return answer


def put(arm, document):
    """Return the code of the answer, empty for a yes."""
    try:
        arm.create_machine(NAME, document)
    except AzureError as error:
        return told(error).code
    return ""


def changed(document, path, value):
    """Return the document with one value in another place, or without it."""
    found = copy.deepcopy(document)
    *way, last = path
    at = found
    for step in way:
        at = at[step]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return found


PROPERTIES = "properties"
NETWORK = (PROPERTIES, "networkProfile")
NIC_PATH = (*NETWORK, "networkInterfaceConfigurations", 0)
IP = (*NIC_PATH, PROPERTIES, "ipConfigurations", 0, PROPERTIES)
ADDRESS_PATH = (*IP, "publicIPAddressConfiguration")
STORAGE = (PROPERTIES, "storageProfile")
OS = (PROPERTIES, "osProfile")


def test_the_document_is_taken(made):
    arm, document = made

    assert put(arm, document) == ""
    assert put(arm, document) == "PreconditionFailed"


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ((PROPERTIES, "noSuchThing"), 1, "InvalidParameter"),
        ((PROPERTIES, "vmId"), "mine", "InvalidParameter"),
        (("location",), None, "InvalidParameter"),
        (("location",), "atlantis", "LocationNotAvailableForResourceType"),
        (("zones",), ["9"], "InvalidParameter"),
        ((PROPERTIES, "hardwareProfile", "vmSize"), "Standard_X1", "InvalidParameter"),
        ((*STORAGE, "imageReference", "sku"), "none", "PlatformImageNotFound"),
        ((*STORAGE, "osDisk", "diskSizeGB"), 4, "InvalidParameter"),
        ((*STORAGE, "osDisk", "diskSizeGB"), "64", "InvalidParameter"),
        ((*STORAGE, "osDisk", "deleteOption"), "Maybe", "InvalidParameter"),
        ((*STORAGE, "osDisk", "managedDisk", "securityProfile"), {}, ""),
        (
            (*STORAGE, "osDisk", "managedDisk", "securityProfile"),
            {"securityEncryptionType": "VMGuestStateOnly"},
            "BadRequest",
        ),
        ((PROPERTIES, "securityProfile"), {"securityType": "ConfidentialVM"}, "InvalidParameter"),
        ((*OS, "adminUsername"), "root", "InvalidParameter"),
        ((*OS, "customData"), "not base64!", "InvalidParameter"),
        ((*OS, "customData"), "QUJD" * 17_000, "InvalidParameter"),
        ((*OS, "linuxConfiguration", "disablePasswordAuthentication"), False, "InvalidParameter"),
        ((*OS, "linuxConfiguration", "ssh", "publicKeys", 0, "path"), "/root/.ssh/x", "InvalidParameter"),
        ((*NETWORK, "networkApiVersion"), None, "InvalidParameter"),
        ((*NETWORK, "networkApiVersion"), "2031-01-01", "InvalidParameter"),
        ((*NIC_PATH, "name"), None, "InvalidParameter"),
        ((*NIC_PATH, PROPERTIES, "networkSecurityGroup", "id"), "/none", "InvalidResourceReference"),
        ((*IP, "subnet", "id"), "/none", "InvalidResourceReference"),
        ((*IP, "subnet", "id"), AzureWorld.subnet("northeurope"), "InvalidResourceReference"),
        (
            (*NIC_PATH, PROPERTIES, "networkSecurityGroup", "id"),
            AzureWorld.security_group("northeurope", NetworkPolicy.EGRESS),
            "InvalidResourceReference",
        ),
        ((*ADDRESS_PATH, "sku"), None, "InvalidParameter"),
        ((PROPERTIES, "evictionPolicy"), "Delete", "InvalidParameter"),
        (("tags", "cb-owner"), None, "RequestDisallowedByPolicy"),
        (("tags", "cb-mac"), None, "RequestDisallowedByPolicy"),
        ((*NIC_PATH, "tags"), None, "RequestDisallowedByPolicy"),
        ((*ADDRESS_PATH, "tags", "cb-token"), None, "RequestDisallowedByPolicy"),
        (("tags", "bad/name"), "x", "InvalidTag"),
    ],
)
def test_a_wrong_document_is_refused(bare, made, path, value, code):
    arm, document = made

    assert put(arm, changed(document, path, value)) == code
    assert bool(bare.physics.made()) is (code == "")


def test_a_create_that_does_not_say_so_is_refused(bare, made, monkeypatch):
    arm, document = made
    monkeypatch.setattr(arm._compute.virtual_machines, "begin_create_or_update", without_condition(arm))

    assert put(arm, document) == "InvalidParameter"
    assert bare.physics.made() == ()


def without_condition(arm):
    send = arm._compute.virtual_machines.begin_create_or_update
    return lambda *words, match_condition, **options: send(*words, **options)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ((*NIC_PATH, PROPERTIES, "deleteOption"), NIC),
        ((*ADDRESS_PATH, PROPERTIES, "deleteOption"), ADDRESS),
        ((*STORAGE, "osDisk", "deleteOption"), DISK),
    ],
)
def test_a_part_that_is_not_to_die_stays(bare, made, path, kind):
    arm, document = made
    put(arm, changed(document, path, None))
    arm.delete_machine(NAME)

    assert [one.kind for one in bare.physics.leftovers()] == [kind]


def test_a_delete_of_the_absent_is_no_error(made):
    arm, _ = made
    arm.delete_machine(NAME)
    arm.delete_nic("none")


def test_a_part_in_use_is_not_deleted(bare, made):
    arm, document = made
    put(arm, document)
    [nic] = bare.physics.resources(NIC)
    with pytest.raises(AzureError) as caught:
        arm.delete_nic(nic.id)

    assert told(caught.value).code == "NicInUse"


def test_the_sdk_can_wait_for_the_operation(bare, made):
    arm, document = made
    bare.physics.boot_ms = 0
    machines = arm._compute.virtual_machines
    options = {"match_condition": MatchConditions.IfMissing, "polling_interval": 0}
    machines.begin_create_or_update("bridge", NAME, document, **options).result()
    [machine] = bare.physics.made()

    assert machine.state is State.RUNNING
    machines.begin_delete("bridge", NAME, polling_interval=0).result()


def test_a_failed_operation_tells_its_code_with_a_status_of_200(bare, made):
    arm, document = made
    bare.physics.fail_next_launch("AllocationFailed", in_ms=0)
    poller = arm._compute.virtual_machines.begin_create_or_update(
        "bridge", NAME, document, match_condition=MatchConditions.IfMissing, polling_interval=0
    )
    with pytest.raises(AzureError) as caught:
        poller.result()

    answer = told(caught.value)
    assert (answer.code, answer.status) == ("AllocationFailed", 200)


def test_a_token_of_nobody_is_refused(bare, made):
    arm, _ = made
    arm.machines()
    bare.arm.tokens.forget()
    with pytest.raises(AzureError) as caught:
        arm.machines()

    assert told(caught.value).code == "InvalidAuthenticationToken"


def test_a_wrong_secret_gets_no_token(bare, arm):
    bare.arm.tokens.client = "another"
    with pytest.raises(AzureError) as caught:
        arm.machines()

    assert told(caught.value).code == "NoToken"


def test_silence_on_the_way_to_a_token_is_silence(bare, arm):
    bare.physics.go_down()
    with pytest.raises(AzureError) as caught:
        arm.machines()

    assert told(caught.value).code == "NoAnswer"
