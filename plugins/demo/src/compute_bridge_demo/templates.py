"""The text of the roles' files; what stands in braces differs from run to run."""

BRIDGE = """\
[bridge]
name = "{bridge}"
state_dir = "{bridge}"
root_key = "file:{bridge}.root-key"
max_leases = 2
drain_s = 0
refresh_s = 5

[coalition]
handshake = "market/handshake.cbor"
fingerprint = "{fingerprint}"

[network]
kind = "sqlite"
path = "market/network.db"

[attestation]
source = "software"
development = "{words}"
directory = "attester"
root = "{root}"
anchors = [{{ name = "{root}", file = "attester/{root}.root.der", development = true }}]

[rate]
{rate}

[routing]
policy = "cheapest"

[settlement]
kind = "ledger"

[[band]]
name = "{band}"
floor = {{ cpu_millis = 100, mem_mib = 64 }}
ceiling = {{ cpu_millis = 2000, mem_mib = 4096, disk_gib = 10 }}
slots = 2

[[backend]]
name = "{rack}"
kind = "baremetal"
driver = "process"
isolation = "none"
ssh_key = "file:{bridge}.ssh-key"
currency = "{currency}"
cost = {{ {cost} }}
port_range = [{low}, {high}]
guest_sshd = {guest_sshd}
sample_ms = 250
watch_ms = 250

[[backend.machine]]
name = "{rack}"
address = "{address}"
port = {port}
user = "{user}"
host_key = "{host_key}"
region = "{region}"
cpu_millis = {cpu_millis}
mem_mib = {mem_mib}
disk_gib = 20
state_dir = "{state}"
"""

REQUESTER = """\
[coalition]
handshake = "market/handshake.cbor"
fingerprint = "{fingerprint}"

[network]
kind = "sqlite"
path = "market/network.db"

[shuffle]
kind = "direct"

[account]
key = "file:account.key"

[attestation]
development = "{words}"
anchors = [{{ name = "{root}", file = "attester/{root}.root.der", development = true }}]

[store]
dir = "requester"
"""

SSHD = """\
Port {port}
ListenAddress {address}
HostKey {home}/host_key
AuthorizedKeysFile {home}/authorized_keys
AllowUsers {user}
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
PrintMotd no
X11Forwarding no
LogLevel ERROR
SetEnv HOME={home}
"""
