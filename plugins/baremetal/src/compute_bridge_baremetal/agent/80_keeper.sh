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

op_keep() {
    lease=$LEASES/$1
    [ -f "$lease/run" ] || exit 0
    exec 7>"$lease/keeper.lock"
    flock -n 7 || exit 0
    say pid $$ | put "$lease/keeper"
    every=$(number "$lease/record" sample_ms)
    while deadline=$(number "$lease/run" deadline_up) && [ -f "$lease/run" ]; do
        if [ "$(uptime_ms)" -ge "$deadline" ]; then
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
    nap=$((deadline - $(uptime_ms)))
    [ "$nap" -lt "$every" ] || nap=$every
    [ "$nap" -gt 20 ] || nap=20
    [ ! -f "$lease/run" ] || unlocked pause_ms "$nap"
}
