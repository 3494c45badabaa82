# The operations that a bridge may ask for. Each is safe to repeat.

op_facts() {
    want_driver
    say boot "$(boot_id)"
    say uid "$(id -u)"
    say cpus "$(getconf _NPROCESSORS_ONLN)"
    say mem_mib "$(($(awk '/^MemTotal:/ { printf "%.0f", $2 }' "$PROC/meminfo") / 1024))"
    say systemd "$([ -d "$SYSTEMD" ] && printf yes || printf no)"
    say tdx "$(cat /sys/module/kvm_intel/parameters/tdx 2>/dev/null || printf N)"
    say utc "$(now_ms)"
    for tool in flock setsid awk base64 sha256sum tar head; do
        command -v $tool >/dev/null 2>&1 || fact_missing="${fact_missing:-} $tool"
    done
    if [ -n "${fact_missing:-}" ]; then
        say unfit "these programs are missing:$fact_missing"
    else
        unfit=$("${req_driver}_check") || say unfit "$unfit"
    fi
}

op_create() {
    want_order
    unfit=$("${req_driver}_check") || fail unfit "$unfit"
    lease=$LEASES/$req_token
    lock_lease "$req_token"
    refuse_spent
    if [ -f "$lease/record" ]; then
        [ "$(get "$lease/record" order)" = "$req_order" ] || fail conflict "the token was used for another order"
        if is_alive "$lease"; then
            say state live
            show "$req_token"
            return
        fi
        [ ! -f "$lease/run" ] || { end_locked "$lease" && refuse_spent; }
        discard "$lease" || fail stuck "the remains of an earlier attempt cannot be removed"
    fi
    reserve "$lease"
    spawn_keeper "$req_token"
    launch "$lease"
    say state new
    show "$req_token"
}

want_order() {
    want_token
    want_driver
    want_whole ends_at remaining_ms cpu mem disk port_low port_high total_cpu total_mem total_disk sample_ms pids uid_base
    want $RECORD_KEYS host_key_private authorized_key
    case $req_user in
    '' | *[!a-z0-9_-]*) fail bad-request "user is no login name" ;;
    esac
}

# refuse_spent: a token is served once, and an attempt that was given up is not made up for later.
refuse_spent() {
    [ ! -f "$ENDED/$req_token" ] || fail ended "$(get "$ENDED/$req_token" cause): $(get "$ENDED/$req_token" detail)"
    [ ! -f "$ABANDONED/$req_attempt" ] || fail abandoned "this attempt was given up"
}

# end_locked LEASE: bury the dead while already holding its lock.
end_locked() {
    bury "$1" lost 'found dead by a later attempt'
}

# launch LEASE: start the workload, or leave nothing.
launch() {
    if ! main=$("${req_driver}_start" "$1" 2>"$1/said") || ! is_whole "$main"; then
        said=$(brief <"$1/said")
        discard "$1" || fail stuck "it did not start and cannot be removed: $said"
        fail start "$said"
    fi
    write_run "$main" | put "$1/run" || {
        discard "$1"
        fail storage "cannot write to $LEASES: is the disk full?"
    }
}

write_run() {
    say pid "$1"
    say ticks "$(started_ticks "$1")"
    say boot "$(boot_id)"
    say started_at "$(now_ms)"
    started=$(uptime_ms)
    say started_up "$started"
    say deadline_up "$((started + req_remaining_ms))"
    cgroup_of "$1"
}

# show TOKEN: print a lease, whole or not at all: it may be buried meanwhile.
show() {
    shown_lines=$(grep -v '^podman ' "$LEASES/$1/record" && cat "$LEASES/$1/run") || return 1
    say lease "$1"
    printf '%s\n' "$shown_lines"
}

op_list() {
    shown=' '
    for token in $(entries "$LEASES"); do
        attend "$token" && show "$token" 2>/dev/null && shown="$shown$token "
    done
    sum_used
    say room now
    say cpu $used_cpu
    say mem $used_mem
    say disk $used_disk
    for token in $req_watch; do
        case $shown in *" $token "*) continue ;; esac
        # The folder goes after the tombstone has come, so what has neither was never here.
        if [ -d "$LEASES/$token" ]; then
            say dying "$token"
        elif [ -f "$ENDED/$token" ]; then
            say ended "$token"
            cat "$ENDED/$token"
        fi
    done
}

op_usage() {
    want_token
    lease=$LEASES/$req_token
    checkpoint "$req_token"
    for usage in "$lease/usage" "$ENDED/$req_token"; do
        [ -f "$usage" ] || continue
        say disk "$(number "$lease/record" disk)"
        cat "$usage"
        return
    done
    fail unknown "no such lease here"
}

# op_extend: move the end of a live lease; its keeper reads it each time round.
op_extend() {
    want_token
    want_whole ends_at remaining_ms
    lease=$LEASES/$req_token
    lock_lease "$req_token"
    is_alive "$lease" || fail gone "no such lease here"
    # The end that comes before the end that is told: nobody is promised what is not kept.
    {
        grep -v '^deadline_up ' "$lease/run"
        say deadline_up "$(($(uptime_ms) + req_remaining_ms))"
    } | put "$lease/run" || fail storage "cannot write to $LEASES: is the disk full?"
    {
        grep -v '^ends_at ' "$lease/record"
        say ends_at "$req_ends_at"
    } | put "$lease/record" || fail storage "cannot write to $LEASES: is the disk full?"
    say state extended
}

# op_terminate: with an attempt named, only what that attempt made goes, tombstone and all.
op_terminate() {
    want_token
    lease=$LEASES/$req_token
    is_token "${req_attempt:-}" || [ -z "${req_attempt:-}" ] || fail bad-request "attempt must be 64 hex digits"
    [ -z "${req_attempt:-}" ] || : | put "$ABANDONED/$req_attempt" || fail storage "cannot write to $ABANDONED"
    lock_lease "$req_token"
    if [ -n "${req_attempt:-}" ]; then
        undo_attempt
    elif [ -f "$lease/run" ]; then
        bury "$lease" terminated '' || fail lingers "the workload does not go away"
    elif [ -d "$lease" ]; then
        discard "$lease" || fail lingers "the hold does not go away"
    fi
    say state gone
}

undo_attempt() {
    for made in "$lease/record" "$ENDED/$req_token"; do
        [ "$(get "$made" attempt)" = "$req_attempt" ] || continue
        [ ! -d "$lease" ] || bury "$lease" terminated '' || fail lingers "the workload does not go away"
        rm -f "$ENDED/$req_token"
    done
}

# forget_old: tombstones and locks a month old tell nobody anything any more, nor do images cut short yesterday.
forget_old() {
    find "$IMAGES" -maxdepth 1 -name '.incoming.*' -mtime +0 -exec rm -rf {} + 2>/dev/null
    find "$ENDED" "$ABANDONED" "$LOCKS" -type f -mtime +30 -exec rm -f {} + 2>/dev/null
}

mkdir -p "$LEASES" "$ENDED" "$LOCKS" "$IMAGES" "$ABANDONED" 2>/dev/null
# Whatever a login shell's profile has written stands on a line of its own.
printf '\ncompute-bridge-agent 1\n'
[ -w "$LEASES" ] && [ -w "$LOCKS" ] || fail storage "cannot write to $STATE: set state_dir to a folder of the login user"
case $OP in
keep | serve)
    "op_$OP" "$3"
    exit 0
    ;;
facts | create | list | usage | extend | terminate | image_state | image_put) ;;
*) fail bad-request "unknown operation $OP" ;;
esac
read_request
case $OP in create | image_put) forget_old ;; esac
"op_$OP"
finish
