# Leases: one directory each, made under the machine's lock, moved to a tombstone when its machine is gone.
# "record" is what was ordered, "run" what was started; a directory without "run" is only a hold.

RECORD_KEYS='token name grant_hash mac offer image ends_at cpu mem disk network user host listen host_key
    attempt order driver backend sample_ms'

# --- capacity ---------------------------------------------------------------------------------

# sum_used: set used_cpu, used_mem, used_disk and used_ports over all lease directories.
sum_used() {
    used_cpu=0 used_mem=0 used_disk=0 used_ports=' '
    for token in $(entries "$LEASES"); do
        record=$LEASES/$token/record
        [ -f "$record" ] || continue
        used_cpu=$((used_cpu + $(number "$record" cpu)))
        used_mem=$((used_mem + $(number "$record" mem)))
        used_disk=$((used_disk + $(number "$record" disk)))
        used_ports="$used_ports$(number "$record" port) "
    done
}

want_room() {
    [ $((used_cpu + req_cpu)) -le "$req_total_cpu" ] && [ $((used_mem + req_mem)) -le "$req_total_mem" ] &&
        [ $((used_disk + req_disk)) -le "$req_total_disk" ] && return 0
    fail no-capacity "in use: $used_cpu millicores, $used_mem MiB, $used_disk GiB"
}

# free_port: print the lowest port of the range that neither a lease nor a listener has.
free_port() {
    listening=" $(cat "$PROC/net/tcp" "$PROC/net/tcp6" 2>/dev/null |
        awk '$4 == "0A" { n = split($2, a, ":"); print a[n] }' | tr '\n' ' ')"
    port=$req_port_low
    while [ "$port" -le "$req_port_high" ]; do
        case $used_ports in *" $port "*) port=$((port + 1)) && continue ;; esac
        case $listening in *" $(printf '%04X' "$port") "*) port=$((port + 1)) && continue ;; esac
        printf '%s\n' "$port"
        return
    done
    return 1
}

# reserve LEASE: write the record while there is room, so that no two leases take the same millicore.
reserve() {
    lock_machine
    sum_used
    want_room
    port=$(free_port) || fail no-capacity "no free port from $req_port_low to $req_port_high"
    mkdir "$1" && write_record "$port" | put "$1/record" || {
        rm -rf "$1"
        fail storage "cannot write to $LEASES: is the disk full?"
    }
    unlock_machine
}

write_record() {
    req_user=$("${req_driver}_user")
    for key in $RECORD_KEYS; do
        eval "say $key \"\${req_$key}\""
    done
    say port "$1"
    say created_at "$(now_ms)"
}

# --- life -------------------------------------------------------------------------------------

# started_ticks PID: print when a living process started, in ticks since boot.
started_ticks() {
    { read -r stat <"$PROC/$1/stat"; } 2>/dev/null || return 1
    # The name in brackets may hold anything.
    set -- ${stat##*) }
    case $1 in Z | X) return 1 ;; esac
    printf '%s\n' "${20}"
}

# is_alive LEASE: whether the main process is the very one that was started.
is_alive() {
    [ -f "$1/run" ] && [ "$(get "$1/run" boot)" = "$(boot_id)" ] || return 1
    alive_ticks=$(started_ticks "$(number "$1/run" pid)") && [ "$alive_ticks" = "$(get "$1/run" ticks)" ]
}

# is_of_another_boot LEASE: whether it was started before the rack host was; its process ids are others' now.
is_of_another_boot() {
    [ -f "$1/run" ] && [ "$(get "$1/run" boot)" != "$(boot_id)" ]
}

# is_overdue LEASE: whether its end has come, on the clock that nobody can set.
is_overdue() {
    overdue_at=$(number "$1/run" deadline_up)
    [ "$overdue_at" -gt 0 ] && [ "$(uptime_ms)" -ge "$overdue_at" ]
}

# is_locked FILE: whether somebody holds the lock.
is_locked() (
    exec 4>"$1"
    ! flock -n 4
)

# discard LEASE: undo a hold, or a start that failed.
discard() {
    driver=$(get "$1/record" driver) || driver=process
    "${driver}_stop" "$1" && "${driver}_clean" "$1" || return 1
    note_keeper "$1"
    remove "$1" && dismiss_keeper
}

# note_keeper LEASE: remember who keeps it, for when the directory is gone.
note_keeper() {
    keeper=0
    ! is_locked "$1/keeper.lock" || keeper=$(number "$1/keeper" pid)
}

# dismiss_keeper: end the keeper that was noted. It leads a session of its own, and may be the one who asks.
dismiss_keeper() {
    [ "$keeper" -eq 0 ] || [ "$keeper" -eq $$ ] || kill -- "-$keeper" 2>/dev/null
    return 0
}

# bury LEASE CAUSE DETAIL: stop, clean, leave a tombstone. The caller holds the lease's lock.
bury() {
    driver=$(get "$1/record" driver)
    checkpoint "${1##*/}"
    "${driver}_stop" "$1" || return 1
    "${driver}_clean" "$1" || return 1
    stone=$(tombstone "$1" "$2" "$3")
    note_keeper "$1"
    if ! printf '%s\n' "$stone" | put "$ENDED/${1##*/}"; then
        # A full disk must not keep a machine alive: with the directory gone there may be room.
        remove "$1"
        printf '%s\n' "$stone" | put "$ENDED/${1##*/}"
    fi
    remove "$1"
    dismiss_keeper
}

# remove LEASE: take the directory away in one step, so that nobody writes into what is being deleted.
remove() {
    [ -d "$1" ] || return 0
    mv "$1" "$STATE/.gone.$$" || return 1
    rm -rf "$STATE/.gone.$$" 2>/dev/null || rm -rf "$STATE/.gone.$$"
}

tombstone() {
    say cause "$2"
    say ended_at "$(now_ms)"
    say detail "$3"
    say attempt "$(get "$1/record" attempt)"
    say grant_hash "$(get "$1/record" grant_hash)"
    say started_at "$(number "$1/run" started_at)"
    say disk "$(number "$1/record" disk)"
    grep -v '^up ' "$1/usage" 2>/dev/null
}

# end LEASE CAUSE: bury under the lock, once; who comes second finds nothing left.
end() (
    token=${1##*/}
    lock_lease "$token"
    [ -f "$1/record" ] || return 0
    if [ ! -f "$1/run" ]; then
        discard "$1"
        return
    fi
    # While we waited for the lock the end may have been moved, or the workload begun.
    [ "$2" != deadline ] || is_overdue "$1" || return 0
    cause=$2 detail=
    if [ "$cause" = exited ]; then
        if is_of_another_boot "$1"; then
            cause=lost detail='the rack host restarted'
        else
            detail=$("$(get "$1/record" driver)_detail" "$1" | brief) || cause=lost
        fi
    fi
    bury "$1" "$cause" "$detail"
)

# attend TOKEN: see to a directory whose bridge may be long gone; fail where no live machine is in it.
attend() {
    lease=$LEASES/$1
    if is_alive "$lease"; then
        is_locked "$LOCKS/$1" || is_locked "$lease/keeper.lock" || spawn_keeper "$1"
        return 0
    fi
    # Whoever has the lock is making it, or burying it already.
    is_locked "$LOCKS/$1" || end "$lease" exited >/dev/null
    return 1
}
