"""What a machine is asked for."""

import base64
import json

import pytest
from attrs import evolve

from compute_bridge.ports.errors import UnservableError
from compute_bridge_azure import body

pytestmark = pytest.mark.anyio


async def ordered(world, **changes):
    world.sell(*changes.pop("shapes", ()), **changes)
    async with world.open() as backend:
        offers = await backend.offers()
        return world.order(offers[0])


async def test_it_has_no_identity_no_extensions_and_no_password(bare):
    document = body.machine_body(bare.config, await ordered(bare))
    os = document["properties"]["osProfile"]

    assert "identity" not in document
    assert os["allowExtensionOperations"] is False
    assert os["linuxConfiguration"]["disablePasswordAuthentication"] is True
    assert os["linuxConfiguration"]["provisionVMAgent"] is False


async def test_the_same_order_is_the_same_document(bare):
    order = await ordered(bare)

    assert json.dumps(body.machine_body(bare.config, order)) == json.dumps(body.machine_body(bare.config, order))


async def test_all_its_parts_die_with_it(bare):
    text = json.dumps(body.machine_body(bare.config, await ordered(bare)))

    assert text.count('"deleteOption": "Delete"') == 3


async def test_a_confidential_machine_is_one_in_every_place(bare):
    order = await ordered(bare, shapes=("Standard_DC4es_v5",), confidential=True)
    properties = body.machine_body(bare.config, order)["properties"]

    assert order.offer.posture == "azure-paravisor"
    assert properties["securityProfile"] == {
        "securityType": "ConfidentialVM",
        "uefiSettings": {"secureBootEnabled": True, "vTpmEnabled": True},
    }
    disk = properties["storageProfile"]["osDisk"]["managedDisk"]
    assert disk["securityProfile"] == {"securityEncryptionType": "VMGuestStateOnly"}
    assert properties["storageProfile"]["imageReference"]["sku"] == "cvm"


async def test_a_spot_machine_is_deleted_when_it_is_evicted(bare):
    order = await ordered(bare, spot=True, on_demand=False)
    properties = body.machine_body(bare.config, order)["properties"]

    assert (properties["priority"], properties["evictionPolicy"]) == ("Spot", "Delete")
    assert properties["billingProfile"] == {"maxPrice": -1}


async def test_the_network_is_the_policys(bare):
    order = await ordered(bare)
    nic = body.machine_body(bare.config, order)["properties"]["networkProfile"]["networkInterfaceConfigurations"][0]
    network = bare.config.location(order.offer.region).network(order.requirements.network)

    assert nic["properties"]["networkSecurityGroup"]["id"] == network.security_group


async def test_a_user_that_azure_refuses_is_the_guests_own_affair(bare):
    order = await ordered(bare)
    document = body.machine_body(bare.config, evolve(order, access=evolve(order.access, user="root")))
    told = document["properties"]["osProfile"]

    assert told["adminUsername"] == "bridge"
    assert json.loads(base64.b64decode(told["customData"]).decode().partition("\n")[2])["users"][0]["name"] == "root"


async def test_a_disk_is_as_large_as_ordered_and_as_the_image_needs(bare):
    order = await ordered(bare)
    size = evolve(order.requirements.resources, disk_gib=0)
    small = evolve(order, requirements=evolve(order.requirements, resources=size))

    assert body.machine_body(bare.config, order)["properties"]["storageProfile"]["osDisk"]["diskSizeGB"] == 64
    assert body.machine_body(bare.config, small)["properties"]["storageProfile"]["osDisk"]["diskSizeGB"] == 30


async def test_a_key_that_azure_does_not_take_is_refused_before_anything_is_made(bare):
    order = await ordered(bare)
    key = evolve(order.access, authorized_key="ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHA=")
    async with bare.open() as backend:
        with pytest.raises(UnservableError):
            await backend.provision(evolve(order, access=key))

    assert bare.physics.made() == ()


async def test_confidential_machines_start_at_the_wire(bare):
    bare.sell("Standard_DC4es_v5", "Standard_DC4as_v5", spot=True, confidential=True)
    async with bare.open() as backend:
        for offer in await backend.offers():
            await backend.cloud.create(bare.order(offer))

        assert {machine.shape for machine in bare.physics.made()} == {"Standard_DC4es_v5", "Standard_DC4as_v5"}
        assert {machine.spot for machine in bare.physics.made()} == {True, False}
