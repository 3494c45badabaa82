# The driver "process": the workload is an SSH server run as the login user of the rack host. No isolation.

# guest_server: print the command that serves logins, or fail.
guest_server() {
    if [ -n "${req_guest_sshd:-}" ]; then
        command -v "${req_guest_sshd%% *}" >/dev/null 2>&1 && printf '%s\n' "$req_guest_sshd"
        return
    fi
    # sshd insists on being called by its whole path.
    command -v sshd || { [ -x /usr/sbin/sshd ] && printf '/usr/sbin/sshd\n'; }
}

process_check() {
    guest_server >/dev/null && return 0
    if [ -n "${req_guest_sshd:-}" ]; then
        printf 'guest_sshd names no program here: %s\n' "${req_guest_sshd%% *}"
    else
        printf 'no sshd here: install openssh-server or set guest_sshd\n'
    fi
    return 1
}

process_user() {
    id -un
}

# process_start LEASE: start the workload; print the process id of its main process.
process_start() {
    # A home of its own: what a login leaves there goes with the lease, and the shell's start files of the rack
    # host's own user, which may lock or wait, are none of the requester's.
    mkdir -p "$1/home" || return 1
    write_guest_files "$1" "$1/guest" "$(get "$1/record" port)" "$(get "$1/record" listen)" "$1/home" || return 1
    guest_server >"$1/server" || return 1
    # sshd run by root wants its empty directory, which only a service manager's start makes.
    [ "$(id -u)" -ne 0 ] || mkdir -p -m 755 /run/sshd
    detached sh "$SELF" "$STATE" serve "${1##*/}"
    await_file "$1/main" && number "$1/main" pid
}

# op_serve TOKEN: be the parent of the SSH server, so that its exit status is known.
op_serve() {
    lease=$LEASES/$1
    set -- "$1" $(cat "$lease/server")
    mark=$1
    shift
    COMPUTE_BRIDGE_LEASE=$mark setsid "$@" -D -e -f "$lease/guest/sshd_config" 2>"$lease/guest.log" &
    {
        say pid $!
        say ticks "$(started_ticks $!)"
        say boot "$(boot_id)"
    } | put "$lease/main" || kill -KILL $!
    wait $!
    status=$?
    [ -d "$lease" ] && printf '%s\n' "$status" | put "$lease/status"
}

# process_stop LEASE: kill the tree; return when nothing of it lives.
process_stop() {
    [ -f "$1/main" ] || return 0
    rounds=0
    while stopped=$(tree_pids "$1") && [ -n "$stopped" ]; do
        # Stopped before killed, or a tree that forks would outrun us.
        kill -STOP $stopped 2>/dev/null
        if [ "$(tree_pids "$1")" = "$stopped" ] || [ $rounds -gt 50 ]; then
            kill -KILL $stopped 2>/dev/null
        fi
        rounds=$((rounds + 1))
        [ $rounds -lt 200 ] || return 1
        pause_ms 20
    done
}

# tree_pids LEASE: print what lives of it. Its main process only where it is the very one that was started.
tree_pids() {
    root=$(number "$1/main" pid)
    [ "$(get "$1/main" boot)" = "$(boot_id)" ] && [ "$(get "$1/main" ticks)" = "$(started_ticks "$root")" ] || root=0
    tree "$root" "${1##*/}" | cut -d ' ' -f 3- | tr ' ' '\n' | sort -n
}

process_clean() {
    return 0
}

# process_detail LEASE: print why the workload ended.
process_detail() {
    # The parent writes the status a moment after the death that was seen.
    await_file "$1/status" || { printf 'the server is gone and left no status\n' && return 1; }
    printf 'the server ended with status %s: %s\n' "$(cat "$1/status")" "$(brief <"$1/guest.log")"
}

# await_file FILE: wait up to five seconds for a file.
await_file() {
    waits=0
    until [ -s "$1" ]; do
        waits=$((waits + 1))
        [ $waits -le 250 ] || return 1
        pause_ms 20
    done
}

# --- what both drivers install ------------------------------------------------------------------

# write_guest_files LEASE DIR PORT LISTEN [HOME]: install host key, requester's key and the server's settings;
# DIR is where the server sees them, HOME what a login has for a home in place of its user's.
write_guest_files() {
    mkdir -p "$1/guest" || return 1
    printf '%s\n' "$req_host_key_private" | base64 -d >"$1/guest/host_key" &&
        printf '%s\n' "$req_authorized_key" | base64 -d >"$1/guest/authorized_keys" &&
        sshd_settings "$2" "$3" "$4" "${1##*/}" "$(get "$1/record" user)" "${5:-}" >"$1/guest/sshd_config"
}

sshd_settings() {
    say Port "$2"
    [ -z "$3" ] || say ListenAddress "$3"
    cat <<-SETTINGS
	HostKey $1/host_key
	AuthorizedKeysFile $1/authorized_keys
	AllowUsers $5
	SetEnv COMPUTE_BRIDGE_LEASE=$4${6:+ HOME=$6}
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
	Subsystem sftp internal-sftp
	SETTINGS
}
