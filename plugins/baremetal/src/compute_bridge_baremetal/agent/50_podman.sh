# The driver "podman": the workload is a rootful container in a user namespace, with its own SSH server, behind
# the fence, on a network of its own. Never the host's network.

# pod LEASE ARGUMENTS...: podman with the operator's own options.
pod() {
    pod_words=$(get "$1/record" podman)
    shift
    unlocked $pod_words "$@"
}

container() {
    printf 'cb-%s\n' "$(get "$1/record" token | cut -c 1-24)"
}

podman_check() {
    [ "$(id -u)" -eq 0 ] || { printf 'podman must run rootful: log in as root\n' && return 1; }
    command -v "${req_podman%% *}" >/dev/null 2>&1 || { printf 'no %s here: install podman\n' "${req_podman%% *}" && return 1; }
    fence_check
}

podman_user() {
    printf '%s\n' "$req_user"
}

# podman_runtime: print the options by which containers start on this machine at all.
podman_runtime() {
    if [ -n "${req_runtime:-}" ]; then
        say --runtime "$req_runtime"
    elif [ -d "$CGROUP/unified" ] && command -v runc >/dev/null 2>&1; then
        # crun refuses hybrid cgroups ("drop all controllers from cgroupv2"), runc does not.
        say --runtime runc
    fi
    [ -d "$SYSTEMD" ] || printf '%s\n' '--cgroup-manager cgroupfs --events-backend file'
}

# podman_limits: print the options that bound a container; podman's default ulimits need CAP_SYS_RESOURCE.
podman_limits() {
    files=$(ulimit -Hn)
    [ "$files" != unlimited ] && [ "$files" -lt 1048576 ] || files=1048576
    printf '%s\n' "--cpus $((req_cpu / 1000)).$(printf '%03d' $((req_cpu % 1000)))" \
        "--memory ${req_mem}m" "--pids-limit $req_pids" "--ulimit nofile=1024:$files" "--ulimit nproc=$req_pids:$req_pids"
    # Without swap accounting the runtime refuses a limit on swap.
    if [ -f "$CGROUP/cgroup.controllers" ] || [ -f "$CGROUP/memory/memory.memsw.limit_in_bytes" ]; then
        printf '%s\n' "--memory-swap ${req_mem}m"
    fi
}

podman_network() {
    printf '%s\n' "--network $1" "--publish ${req_listen:+$req_listen:}$(get "$lease/record" port):22" --no-hosts
    if [ "$req_network" = isolated ]; then
        printf '%s\n' '--dns none'
    else
        for resolver in ${req_dns:-}; do printf '%s\n' "--dns $resolver"; done
    fi
}

podman_labels() {
    for label in ${req_labels:-}; do printf '%s\n' "--label compute-bridge.machine.$label"; done
    printf '%s\n' "--label compute-bridge.token=$req_token" "--label compute-bridge.name=$req_name" \
        "--label compute-bridge.mac=$req_mac" "--label compute-bridge.grant-hash=$req_grant_hash" \
        "--label compute-bridge.backend=$req_backend"
}

# podman_start LEASE: make and start the container; print its main process id. On failure, why.
podman_start() {
    lease=$1
    say podman "$req_podman $(podman_runtime | tr '\n' ' ')" >>"$1/record"
    name=$(container "$1")
    write_guest_files "$1" /run/compute-bridge 22 '' || return 1
    # sshd reads the requester's key as the user who logs in.
    chmod 755 "$1/guest" && chmod 644 "$1/guest/authorized_keys" || return 1
    chown -R "$req_uid_base:$req_uid_base" "$1/guest" || return 1
    podman_bridge "$1" "$name" || return 1
    pod "$1" create --name "$name" $(podman_network "$name") $(podman_limits) $(podman_labels) \
        --uidmap "0:$req_uid_base:65536" --gidmap "0:$req_uid_base:65536" $(podman_cgroups) \
        --hostname "$req_name" --tmpfs /run/sshd:mode=0755 --volume "$1/guest:/run/compute-bridge:ro" \
        --entrypoint '["/usr/sbin/sshd"]' "$(cat "$IMAGES/$req_image")" \
        -D -e -f /run/compute-bridge/sshd_config >/dev/null || return 1
    podman_has_user "$1" "$name" || return 1
    podman_run "$1" "$name" || return 1
    started=$(pod "$1" inspect --format '{{.State.Pid}} {{.State.ConmonPid}}' "$name")
    say monitor "${started#* }" >>"$1/record"
    if ! printf '%s\n' "${started% *}" | grep -v '^0$'; then
        podman_detail "$1" >&2
        return 1
    fi
}

# podman_bridge LEASE NAME: make the lease's network and close the fence round it.
podman_bridge() {
    pod "$1" network create --disable-dns --label "compute-bridge.token=$req_token" "$2" >/dev/null || return 1
    bridge=$(pod "$1" network inspect --format '{{.NetworkInterface}}' "$2") || return 1
    say bridge "$bridge" >>"$1/record"
    fence_close "$bridge" "$req_network"
}

# podman_has_user LEASE NAME: an image without the user, or without an SSH server, serves no login.
podman_has_user() {
    root=$(pod "$1" mount "$2") || return 1
    missing=
    [ -f "$root/usr/sbin/sshd" ] || missing='the image has no /usr/sbin/sshd'
    [ -f "$root/etc/passwd" ] && grep -q "^$req_user:" "$root/etc/passwd" || missing="the image has no user $req_user"
    pod "$1" unmount "$2" >/dev/null
    [ -z "$missing" ] || { printf '%s\n' "$missing" >&2 && return 1; }
}

podman_stop() {
    [ -n "$(get "$1/record" podman)" ] || return 0
    name=$(container "$1")
    [ ! -d "$SYSTEMD" ] || unlocked systemctl stop "$(unit "$1")" 2>/dev/null
    ! is_alive "$1" || kill -KILL "$(number "$1/run" pid)"
    # The monitor takes the network down when the container ends, and podman rm, meeting it there, leaves the
    # ports forwarded for ever: so the monitor goes first.
    monitor=$(number "$1/record" monitor)
    ! is_of_another_boot "$1" || monitor=0
    rounds=0
    while [ "$monitor" -gt 0 ] && started_ticks "$monitor" >/dev/null && [ $rounds -lt 500 ]; do
        rounds=$((rounds + 1))
        pause_ms 20
    done
    pod "$1" rm --force --ignore --time 0 "$name" >/dev/null 2>&1
    ! pod "$1" container exists "$name"
}

podman_clean() {
    [ -n "$(get "$1/record" podman)" ] || return 0
    name=$(container "$1")
    pod "$1" network exists "$name" || return 0
    if bridge=$(get "$1/record" bridge); then
        # While the network is there the bridge's name is ours, and no other lease's fence goes with it.
        [ ! -e "/sys/class/net/$bridge" ] || return 1
        fence_drop "$bridge" || return 1
    fi
    pod "$1" network rm --force "$name" >/dev/null 2>&1
    ! pod "$1" network exists "$name"
}

podman_detail() {
    name=$(container "$1")
    pod "$1" container exists "$name" || { printf 'the container is gone\n' && return 1; }
    printf '%s: %s\n' "$(pod "$1" inspect --format 'the server ended with status {{.State.ExitCode}}' "$name")" \
        "$(pod "$1" logs --tail 3 "$name" 2>&1 | brief)"
}

# --- systemd ----------------------------------------------------------------------------------

unit() {
    printf 'compute-bridge-%s.service\n' "$(get "$1/record" token | cut -c 1-24)"
}

# On cgroup v2 the container lives in its unit's own cgroup, so that the unit's limits are the container's.
podman_cgroups() {
    [ ! -d "$SYSTEMD" ] || [ ! -f "$CGROUP/cgroup.controllers" ] || printf '%s\n' '--cgroups split'
}

# unit_properties: print what the unit promises; the margins are for podman's own monitor.
unit_properties() {
    printf '%s\n' Type=exec Slice=compute-bridge.slice Delegate=yes KillMode=mixed TimeoutStopSec=20 \
        CollectMode=inactive-or-failed "CPUQuota=$(((req_cpu + 9) / 10))%" "MemoryMax=$((req_mem + 64))M" \
        "TasksMax=$((req_pids + 32))"
}

# podman_run LEASE NAME: start the container, in a unit where systemd is PID 1.
podman_run() {
    if [ ! -d "$SYSTEMD" ]; then
        pod "$1" start "$2" >/dev/null
        return
    fi
    unlocked systemd-run --quiet --unit "$(unit "$1")" $(unit_properties | sed 's/^/--property=/') -- \
        $(get "$1/record" podman) start --attach "$2" </dev/null >/dev/null || return 1
    waits=0
    until [ "$(pod "$1" inspect --format '{{.State.Running}}' "$2")" = true ]; do
        waits=$((waits + 1))
        [ $waits -le 250 ] || return 1
        pause_ms 20
    done
}
