# Metering: what a lease has used, read from its cgroup (v1 or v2), its network namespace or its process
# tree, and kept in the file "usage" so that no restart loses a count. Every figure only ever grows.

# --- cgroups ----------------------------------------------------------------------------------

# cgroup_of PID: print where a process is accounted, as lines for the file "run".
cgroup_of() {
    cgroup_cpu= cgroup_mem= cgroup_unified=
    [ -r "$PROC/$1/cgroup" ] || return 1
    while IFS=: read -r _ controllers path; do
        case ,$controllers, in
        ,,) cgroup_unified=$path ;;
        *,cpuacct,*) cgroup_cpu=$path ;;
        esac
        case ,$controllers, in *,memory,*) cgroup_mem=$path ;; esac
    done <"$PROC/$1/cgroup"
    # A hybrid machine has a unified line too, but no controllers behind it.
    if [ -n "$cgroup_cpu" ]; then
        say cgroup_version 1
        say cgroup_cpu "$cgroup_cpu"
        say cgroup_mem "$cgroup_mem"
    elif [ -n "$cgroup_unified" ]; then
        say cgroup_version 2
        say cgroup_cpu "$cgroup_unified"
        say cgroup_mem "$cgroup_unified"
    fi
}

# read_cgroup RUN: set core_ms, mem_bytes and core_source; fail where the cgroup is gone.
read_cgroup() {
    case $(get "$1" cgroup_version) in
    1) read_cgroup_v1 "$CGROUP/cpuacct$(get "$1" cgroup_cpu)" "$CGROUP/memory$(get "$1" cgroup_mem)" ;;
    2) read_cgroup_v2 "$CGROUP$(get "$1" cgroup_cpu)" ;;
    *) return 1 ;;
    esac
}

read_cgroup_v1() {
    [ -r "$1/cpuacct.usage" ] && [ -r "$2/memory.usage_in_bytes" ] || return 1
    read -r nanos <"$1/cpuacct.usage" || return 1
    read -r mem_bytes <"$2/memory.usage_in_bytes" || return 1
    core_ms=$((nanos / 1000000))
    mem_bytes=$((mem_bytes - $(number "$2/memory.stat" total_inactive_file)))
    core_source=cgroup-v1
}

read_cgroup_v2() {
    [ -r "$1/cpu.stat" ] && [ -r "$1/memory.current" ] || return 1
    read -r mem_bytes <"$1/memory.current" || return 1
    core_ms=$(($(number "$1/cpu.stat" usage_usec) / 1000))
    mem_bytes=$((mem_bytes - $(number "$1/memory.stat" inactive_file)))
    core_source=cgroup-v2
}

# --- network ----------------------------------------------------------------------------------

# read_network PID: set net_in and net_out to what passed the namespace's own interfaces, loopback apart.
read_network() {
    [ -r "$PROC/$1/net/dev" ] || return 1
    net_totals=$(awk -F: 'NR > 2 && $1 !~ /^ *lo$/ { split($2, f, " "); i += f[1]; o += f[9] }
        END { printf "%.0f %.0f", i, o }' "$PROC/$1/net/dev") || return 1
    net_in=${net_totals% *}
    net_out=${net_totals#* }
}

# --- process tree -----------------------------------------------------------------------------

# marked TOKEN: print the processes that carry the lease's mark in their environment.
marked() (
    set +f
    cd "$PROC" && grep -lF "COMPUTE_BRIDGE_LEASE=$1" [0-9]*/environ 2>/dev/null | cut -d / -f 1
)

# tree ROOT TOKEN: print "<ticks> <pages> <pid>..." of the living processes at or below ROOT or a marked one.
# A parent's waited-for children are in its own ticks, so those who have ended count as well.
tree() (
    roots="$1 $(marked "$2" | tr '\n' ' ')"
    set +f
    cat "$PROC"/[0-9]*/stat 2>/dev/null | awk -v roots="$roots" '
        { pid = $1; sub(/^.*\) /, ""); split($0, f, " ") }
        f[1] != "Z" && f[1] != "X" {
            parent[pid] = f[2]; ticks[pid] = f[12] + f[13] + f[14] + f[15]; pages[pid] = f[22]
        }
        END {
            n = split(roots, r, " ")
            for (i = 1; i <= n; i++) if (r[i] in parent) mine[r[i]] = 1
            do {
                more = 0
                for (p in parent) if (!(p in mine) && (parent[p] in mine)) { mine[p] = 1; more = 1 }
            } while (more)
            for (p in mine) { t += ticks[p]; m += pages[p]; list = list " " p }
            printf "%.0f %.0f%s\n", t, m, list
        }'
)

# read_tree PID TOKEN: set core_ms, mem_bytes and core_source from the process tree.
read_tree() {
    set -- $(tree "$1" "$2")
    [ $# -gt 2 ] || return 1
    core_ms=$(($1 * 1000 / $(getconf CLK_TCK)))
    mem_bytes=$(($2 * $(getconf PAGESIZE)))
    core_source=process-tree
}

# --- the checkpoint ---------------------------------------------------------------------------

# checkpoint TOKEN: bring the file "usage" of a live lease up to date.
checkpoint() (
    lease=$LEASES/$1
    # Not for the dead: their process id may be another's by now.
    is_alive "$lease" || return 1
    exec 5>"$lease/meter.lock"
    flock -w 10 5 || return 1
    core_ms=0 mem_bytes=0 net_in=0 net_out=0 core_source=unavailable net_source=unavailable
    main=$(number "$lease/run" pid)
    case $(get "$lease/record" driver) in
    podman)
        read_cgroup "$lease/run" || return 1
        read_network "$main" && net_source=backend
        ;;
    process) read_tree "$main" "$1" || return 1 ;;
    esac
    write_checkpoint "$lease" | put "$lease/usage"
)

# most A B: print the greater.
most() {
    [ "$1" -gt "$2" ] && printf '%s\n' "$1" || printf '%s\n' "$2"
}

write_checkpoint() {
    old=$1/usage
    up=$(uptime_ms)
    since=$(number "$old" up)
    [ "$since" -gt 0 ] || since=$(number "$1/run" started_up)
    step=$((up > since ? up - since : 0))
    mem_mib=$((mem_bytes > 0 ? (mem_bytes + 1048575) / 1048576 : 0))
    [ "$net_source" = unavailable ] && net_source=$(get "$old" net_source || printf unavailable)
    say up "$((since + step))"
    say core_ms "$(most "$core_ms" "$(number "$old" core_ms)")"
    say core_source "$core_source"
    say ram_mib_ms "$(($(number "$old" ram_mib_ms) + mem_mib * step))"
    say net_in "$(most "$net_in" "$(number "$old" net_in)")"
    say net_out "$(most "$net_out" "$(number "$old" net_out)")"
    say net_source "$net_source"
    say wall_ms "$((since + step - $(number "$1/run" started_up)))"
}
