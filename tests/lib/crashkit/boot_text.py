"""A whole boot file, for tests of commands that read it and open nothing that it names."""

BOOT_TEXT = """\
[bridge]
name = "north"
state_dir = "state"
root_key = "file:root.key"
max_leases = 4
[coalition]
handshake = "beta.handshake"
fingerprint = "{}"
[network]
kind = "memory"
[attestation]
source = "tsm"
[rate]
policy = "fixed"
[routing]
policy = "first-fit"
[settlement]
kind = "ledger"
[[band]]
name = "small"
floor = {{ cpu_millis = 100, mem_mib = 64 }}
ceiling = {{ cpu_millis = 4000, mem_mib = 8192 }}
slots = 2
[[backend]]
name = "rack"
kind = "baremetal"
""".format("00" * 32)
