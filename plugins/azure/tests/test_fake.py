"""The fake refuses what Azure refuses, so that a plugin which forgets something does not pass."""

import copy

import pytest

from compute_bridge.testing.physics.matter import State
from compute_bridge_azure import body
from compute_bridge_azure.cloud import AzureCloud
from compute_bridge_azure.errors import answer_of
from compute_bridge_azure.testing.machines import ADDRESS, DISK, NIC

pytestmark = pytest.mark.anyio

NAME = "cb-0123456789abcdef01234567"


@pytest.fixture
async def made(bare):
    """Return the slice of the SDK and a document that the fake takes."""
    async with bare.open() as backend:
        order = bare.order((await backend.offers())[0])
        yield backend.cloud.arm, body.machine_body(bare.config, order)


def put(arm, document):
    """Return the code of the answer, empty for a yes."""
    try:
        arm.create_machine(NAME, document)
    except Exception as error:
        return answer_of(error).code
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


async def test_the_document_is_taken(made):
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
        ((*ADDRESS_PATH, "sku"), None, "InvalidParameter"),
        ((PROPERTIES, "evictionPolicy"), "Delete", "InvalidParameter"),
        (("tags", "cb-owner"), None, "RequestDisallowedByPolicy"),
        (("tags", "cb-mac"), None, "RequestDisallowedByPolicy"),
        ((*NIC_PATH, "tags"), None, "RequestDisallowedByPolicy"),
        ((*ADDRESS_PATH, "tags", "cb-token"), None, "RequestDisallowedByPolicy"),
        (("tags", "bad/name"), "x", "InvalidTag"),
    ],
)
async def test_a_wrong_document_is_refused(bare, made, path, value, code):
    arm, document = made

    assert put(arm, changed(document, path, value)) == code
    assert bool(bare.physics.made()) is (code == "")


async def test_a_create_that_does_not_say_so_is_refused(bare, made, monkeypatch):
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
async def test_a_part_that_is_not_to_die_stays(bare, made, path, kind):
    arm, document = made
    put(arm, changed(document, path, None))
    arm.delete_machine(NAME)
    await bare.clock.sleep_ms(10_000)

    assert [one.kind for one in bare.physics.leftovers()] == [kind]


async def test_a_delete_of_the_absent_is_no_error(made):
    arm, _ = made
    arm.delete_machine(NAME)
    arm.delete_nic("none")


async def test_a_part_in_use_is_not_deleted(bare, made):
    arm, document = made
    put(arm, document)
    [nic] = bare.physics.resources(NIC)
    with pytest.raises(Exception) as caught:
        arm.delete_nic(nic.id)

    assert answer_of(caught.value).code == "NicInUse"


async def test_the_sdk_can_wait_for_the_operation(bare, made):
    arm, document = made
    machines = arm._compute.virtual_machines
    machines.begin_create_or_update("bridge", NAME, document, match_condition=only_new(), polling_interval=0).result()
    [machine] = bare.physics.made()

    assert machine.state is State.RUNNING
    machines.begin_delete("bridge", NAME, polling_interval=0).result()


def only_new():
    from azure.core import MatchConditions

    return MatchConditions.IfMissing


async def test_a_failed_operation_tells_its_code_with_a_status_of_200(bare, made):
    arm, document = made
    bare.physics.fail_next_launch("AllocationFailed", in_ms=0)
    poller = arm._compute.virtual_machines.begin_create_or_update(
        "bridge", NAME, document, match_condition=only_new(), polling_interval=0
    )
    with pytest.raises(Exception) as caught:
        poller.result()

    answer = answer_of(caught.value)
    assert (answer.code, answer.status) == ("AllocationFailed", 200)


async def test_a_token_of_nobody_is_refused(bare, made):
    arm, _ = made
    bare.arm.tokens.forget()
    with pytest.raises(Exception) as caught:
        arm.machines()

    assert answer_of(caught.value).code == "InvalidAuthenticationToken"


async def test_a_wrong_secret_gets_no_token(bare):
    bare.arm.tokens.client = "another"
    async with bare.open_backend() as backend:
        assert isinstance(backend.cloud, AzureCloud)
        with pytest.raises(Exception) as caught:
            backend.cloud.arm.machines()

    assert answer_of(caught.value).code == "NoToken"


async def test_silence_on_the_way_to_a_token_is_silence(bare):
    bare.physics.go_down()
    async with bare.open_backend() as backend:
        with pytest.raises(Exception) as caught:
            backend.cloud.arm.machines()

    assert answer_of(caught.value).code == "NoAnswer"
