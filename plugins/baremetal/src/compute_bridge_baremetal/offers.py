"""What a rack host has for sale: its declared resources, less what its own leases take."""

from compute_bridge.model.ids import BackendName, OfferId
from compute_bridge.model.rates import CostBasis
from compute_bridge.model.resources import Capability, Posture, Resources
from compute_bridge.model.units import UtcMs
from compute_bridge.ports.backend import Offer
from compute_bridge_baremetal.config import BaremetalConfig, RackMachine
from compute_bridge_baremetal.record import Facts, Listing

COST_SOURCE = "boot-file"


def capability(config: BaremetalConfig, machine: RackMachine, free: Resources) -> Capability:
    """Return what a machine with ``free`` left can serve.

    A container on a machine with TDX is no trust domain, so no posture is claimed.
    """
    return Capability(machine.region, Posture.NONE, free, config.policies, config.max_duration_ms)


def free_of(machine: RackMachine, listing: Listing) -> Resources | None:
    """Return what is free, or None where a lease would find no CPU or no RAM."""
    cpu_millis = machine.cpu_millis - listing.cpu_millis
    mem_mib = machine.mem_mib - listing.mem_mib
    if cpu_millis < 1 or mem_mib < 1:
        return None
    # The boot file may have been made smaller below leases that still run.
    return Resources(cpu_millis, mem_mib, max(0, machine.disk_gib - listing.disk_gib))


def offer_of(
    config: BaremetalConfig, machine: RackMachine, free: Resources, *, backend: BackendName, now: UtcMs
) -> Offer:
    """Return the one offer of a machine that has ``free`` left."""
    serves = capability(config, machine, free)
    return Offer(
        id=OfferId(machine.name),
        backend=backend,
        region=serves.region,
        zone=machine.zone,
        shape=machine.name,
        resources=free,
        posture=serves.posture,
        networks=serves.networks,
        cost=CostBasis(config.currency, config.cost, now, COST_SOURCE, config.address_cost),
        runs_oci=config.runs_oci,
        images=config.vm_images,
        image_verifier="backend" if config.runs_oci else "nobody",
        max_duration_ms=serves.max_duration_ms,
    )


def complaint(machine: RackMachine, facts: Facts) -> str:
    """Return what the boot file says of a machine and the machine denies, or nothing."""
    if facts.unfit:
        return f"not offered: {facts.unfit}"
    if machine.cpu_millis > facts.cpus * 1000 or machine.mem_mib > facts.mem_mib:
        return f"sells more than it has, which is {facts.cpus * 1000} cpu_millis and {facts.mem_mib} mem_mib"
    if machine.tdx and not facts.tdx:
        return "said to have tdx, but its kernel runs no trust domains (kvm_intel.tdx)"
    return ""
