"""What a machine sells is what it declares, less its leases; and what it denies is told."""

import pytest
from attrs import evolve

from compute_bridge.model.ids import BackendName
from compute_bridge.model.resources import Posture, Resources
from compute_bridge.model.units import NanosPerHour, UtcMs
from compute_bridge_baremetal.config import RackMachine
from compute_bridge_baremetal.offers import complaint, free_of, offer_of
from compute_bridge_baremetal.record import Facts, Listing
from compute_bridge_baremetal.testing.world import RackWorld

FIT = Facts(cpus=64, mem_mib=1 << 20, tdx=False, unfit="")


@pytest.fixture
def machine(rack: RackWorld) -> RackMachine:
    return rack.config.machines[0]


def taken(cpu_millis: int, mem_mib: int, disk_gib: int = 0) -> Listing:
    return Listing(frozenset(), {}, cpu_millis, mem_mib, disk_gib)


@pytest.mark.needs("sshd", "openssh-client")
class TestOffers:
    def test_what_is_free_is_what_leases_leave(self, machine: RackMachine):
        free = free_of(machine, taken(600, 24, 1))

        assert Resources(machine.cpu_millis - 600, machine.mem_mib - 24, machine.disk_gib - 1) == free

    def test_a_machine_without_cpu_or_ram_is_not_offered(self, machine: RackMachine):
        assert free_of(machine, taken(machine.cpu_millis, 0)) is None
        assert free_of(machine, taken(0, machine.mem_mib)) is None

    def test_a_boot_file_made_smaller_below_its_leases_offers_nothing(self, machine: RackMachine):
        assert free_of(machine, taken(machine.cpu_millis + 1, 0)) is None
        assert free_of(machine, taken(0, 0, machine.disk_gib + 5)) == Resources(machine.cpu_millis, machine.mem_mib)

    def test_an_offer_carries_the_boot_file_s_cost(self, rack: RackWorld, machine: RackMachine):
        offer = offer_of(rack.config, machine, machine.resources, backend=BackendName("r"), now=UtcMs(5))

        assert (rack.config.cost, "boot-file", 5) == (offer.cost.units, offer.cost.source, offer.cost.observed_at)

    def test_an_offer_carries_what_an_address_costs(self, rack: RackWorld, machine: RackMachine):
        config = evolve(rack.config, address_cost=NanosPerHour(5_000_000))
        offer = offer_of(config, machine, machine.resources, backend=BackendName("r"), now=UtcMs(5))

        assert rack.config.cost.machine + 5_000_000 == offer.cost.total.machine

    def test_a_container_is_no_trust_domain(self, rack: RackWorld, machine: RackMachine):
        offer = offer_of(rack.config, machine, machine.resources, backend=BackendName("r"), now=UtcMs(5))

        assert offer.posture is Posture.NONE

    def test_a_fit_machine_gives_no_cause_for_complaint(self, machine: RackMachine):
        assert complaint(machine, FIT) == ""

    @pytest.mark.parametrize(
        ("facts", "said"),
        [
            (Facts(64, 1 << 20, tdx=False, unfit="no nft here"), "not offered: no nft here"),
            (Facts(1, 1 << 20, tdx=False, unfit=""), "sells more than it has, which is 1000 cpu_millis"),
            (Facts(64, 512, tdx=False, unfit=""), "sells more than it has, which is 64000 cpu_millis and 512 mem_mib"),
        ],
    )
    def test_what_a_machine_lacks_is_told(self, machine: RackMachine, facts: Facts, said: str):
        assert complaint(machine, facts).startswith(said)
