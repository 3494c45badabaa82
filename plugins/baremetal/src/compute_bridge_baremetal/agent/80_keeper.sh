# The keeper: one small loop a lease that counts what it uses and ends it on time, with no bridge needed.

# spawn_keeper TOKEN: start a keeper; a second one for the same lease leaves at once.
spawn_keeper() {
    if [ -d "$SYSTEMD" ] && [ "$(id -u)" -eq 0 ]; then
        # A session's processes may be killed with it (KillUserProcesses), a unit's are not.
        unlocked systemd-run --quiet --unit "compute-bridge-keeper-$(printf '%s' "$1" | cut -c 1-24)-$$.service" \
            --property=CollectMode=inactive-or-failed --property=KillMode=process --property=Restart=on-failure \
            --property=RestartSec=1 --property=Slice=compute-bridge.slice -- sh "$SELF" "$STATE" keep "$1" </dev/null >/dev/null 2>&1 && return
    fi
    detached sh "$SELF" "$STATE" keep "$1"
}

# op_keep TOKEN: it begins before the workload does, so that a call which dies half way leaves nobody alone.
op_keep() {
    lease=$LEASES/$1
    [ -f "$lease/record" ] || exit 0
    exec 7>"$lease/keeper.lock"
    flock -n 7 || exit 0
    say pid $$ | put "$lease/keeper"
    every=$(number "$lease/record" sample_ms)
    while [ -f "$lease/record" ]; do
        if [ ! -f "$lease/run" ]; then
            # Whoever makes it holds the lock.
            is_locked "$LOCKS/$1" || end "$lease" deadline
        elif is_overdue "$lease"; then
            end "$lease" deadline
        elif is_alive "$lease"; then
            checkpoint "$1"
        else
            end "$lease" exited
        fi
        keeper_nap
    done
}

keeper_nap() {
    nap=$every
    if [ -f "$lease/run" ]; then
        left=$(($(number "$lease/run" deadline_up) - $(uptime_ms)))
        # What is overdue and cannot be ended is tried once a sample, or it would keep the rack host busy.
        [ "$left" -le 0 ] || [ "$left" -gt "$nap" ] || nap=$left
    fi
    [ "$nap" -gt 20 ] || nap=20
    [ ! -f "$lease/record" ] || unlocked pause_ms "$nap"
}
