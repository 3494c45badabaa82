# The part of compute-bridge that runs on a rack host: sh <this file> <state dir> <operation>.
# The bridge concatenates these files, sends them once a connection and talks lines of "key value" over
# stdin and stdout; "." ends a request and a reply, so that neither is ever acted on when cut short.
# Needs only sh, coreutils, awk, grep, tar and util-linux's flock and setsid. The truth about leases lives
# here, in files, so that it survives the bridge, and two bridges agree on what is free.
set -uf
umask 077

STATE=$1
OP=$2
SELF=$0
LEASES=$STATE/leases
ENDED=$STATE/ended
LOCKS=$STATE/locks
IMAGES=$STATE/images
ABANDONED=$STATE/abandoned
# Only tests set these, to read recorded trees: the bridge clears the environment.
PROC=${CB_PROC_ROOT:-/proc}
CGROUP=${CB_CGROUP_ROOT:-/sys/fs/cgroup}
SYSTEMD=${CB_SYSTEMD_ROOT:-/run/systemd/system}

# --- replies ----------------------------------------------------------------------------------

say() {
    printf '%s %s\n' "$1" "$2"
}

finish() {
    printf '.\n'
    exit 0
}

fail() {
    printf 'error %s %s\n.\n' "$1" "$2"
    exit 0
}

# --- requests ---------------------------------------------------------------------------------

# Every key is known here, so a value never becomes a name, and no value is ever evaluated.
read_request() {
    req_watch=
    while IFS=' ' read -r key value; do
        case $key in
        .) return 0 ;;
        watch) is_token "$value" && req_watch="$req_watch $value" ;;
        token | name | grant_hash | mac | offer | image | image_config | ends_at | remaining_ms | cpu | mem | disk | \
            network | user | host | listen | port_low | port_high | total_cpu | total_mem | total_disk | \
            host_key | host_key_private | authorized_key | attempt | order | driver | backend | podman | \
            runtime | pids | guest_sshd | sample_ms | dns | denied | labels | uid_base | size | cause)
            eval "req_$key=\$value"
            ;;
        *) fail bad-request "unknown key $key" ;;
        esac
    done
    fail bad-request "the request was cut short"
}

is_token() {
    case $1 in
    *[!0-9a-f]*) return 1 ;;
    esac
    [ ${#1} -eq 64 ]
}

is_whole() {
    case $1 in
    '' | *[!0-9]*) return 1 ;;
    esac
}

want_token() {
    is_token "${req_token:-}" || fail bad-request "token must be 64 hex digits"
}

want_driver() {
    case ${req_driver:-} in
    podman | process) ;;
    *) fail bad-request "driver must be podman or process" ;;
    esac
}

# want KEY...: each must have been given.
want() {
    for key; do
        eval "[ -n \"\${req_$key+given}\" ]" || fail bad-request "$key is missing"
    done
}

# want_whole KEY...: each must be a whole number.
want_whole() {
    want "$@"
    for key; do
        eval "is_whole \"\$req_$key\"" || fail bad-request "$key must be a whole number"
    done
}

# --- files ------------------------------------------------------------------------------------

# put FILE: replace FILE by stdin in one step, or leave it as it was.
put() {
    cat >"$1.new.$$" && mv -f "$1.new.$$" "$1" && return 0
    rm -f "$1.new.$$"
    return 1
}

# get FILE KEY: print the value of one line.
get() {
    [ -f "$1" ] || return 1
    while IFS=' ' read -r get_key get_value; do
        [ "$get_key" = "$2" ] && printf '%s\n' "$get_value" && return 0
    done <"$1" 2>/dev/null
    return 1
}

# number FILE KEY: the same, and 0 for anything that is no whole number.
number() {
    number_found=$(get "$1" "$2") && is_whole "$number_found" || number_found=0
    printf '%s\n' "$number_found"
}

# entries DIR: print the names in a directory, ours only.
entries() {
    ls "$1" 2>/dev/null | grep -v '\.new\.' || :
}

# brief: make stdin one short printable line.
brief() {
    # Ranges, for the tr of busybox takes names of classes for letters.
    tail -n 3 | tr '\n\t' '  ' | tr -cd ' -~' | cut -c 1-200
}

# --- time -------------------------------------------------------------------------------------

now_ms() {
    now_found=$(date +%s%3N)
    # A date without %N (busybox) leaves the letters in.
    is_whole "$now_found" && [ ${#now_found} -ge 13 ] || now_found=$(date +%s)000
    printf '%s\n' "$now_found"
}

# Milliseconds since this boot: no one can set this clock.
uptime_ms() {
    read -r uptime_found _ <"$PROC/uptime"
    printf '%s\n' "${uptime_found%.*}${uptime_found#*.}0"
}

boot_id() {
    read -r boot_found <"$PROC/sys/kernel/random/boot_id"
    printf '%s\n' "$boot_found"
}

pause_ms() {
    sleep "$(($1 / 1000)).$(printf '%03d' $(($1 % 1000)))"
}

# --- locks ------------------------------------------------------------------------------------
# Descriptors: 9 the machine, 8 one lease, 7 a keeper, 6 the fence, 5 a meter. Each is closed for whatever
# outlives this call, or the lock would outlive it too. Order: lease, then machine, then fence.

lock_machine() {
    exec 9>"$STATE/lock"
    flock -w 30 9 || fail busy "the state directory was locked for 30 s"
}

unlock_machine() {
    exec 9>&-
}

lock_lease() {
    exec 8>"$LOCKS/$1"
    flock -w 60 8 || fail busy "the lease was locked for 60 s"
}

# detached COMMAND...: run in a session of its own, holding nothing of this call.
detached() {
    setsid "$@" </dev/null >/dev/null 2>&1 5>&- 6>&- 7>&- 8>&- 9>&- &
}

# unlocked COMMAND...: run without our locks; its children may stay.
unlocked() {
    "$@" 5>&- 6>&- 7>&- 8>&- 9>&-
}
