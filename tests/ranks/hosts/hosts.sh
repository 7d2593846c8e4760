# Hosts of one's own, for scripts that need several: network namespaces on a bridge that is in one as well, so that not
# a single packet can leave them and nothing of the machine's own network is touched. Each has an address, a name (UTS
# namespace), its own /dev/shm, /etc/hosts and temporary folder, and gets its share of the processors. Source it.
# shellcheck shell=bash disable=SC2034,SC2154  # what is set here is for its reader, who sets mpirun
#
#   hosts_make N          makes h1 to hN; where that is not permitted, says so and exits with 77
#   hosts_on HOST WORD... runs a command there, for at most $hosts_limit_s seconds
#   hosts_mpirun LIST ... mpirun on the first host of LIST ("h1:2,h2:1"), daemons on the others, all over TCP
#   hosts_received HOST   bytes that came to it over the network so far
#   hosts_slow HOST RATE  lets no more than RATE ("2mbit") in or out; fails where the kernel cannot
#   hosts_wire HOST down  pulls its plug (up: puts it in again, and waits until it and the others reach each other)
#   hosts_left            processes and shared memory that are there still, a line each
# All is gone when the script ends, however it does.
hosts_prefix=ls$$
hosts_net=198.18.7 # of the range for tests between networks (RFC 2544)
scratch=$(mktemp -d)
hosts=()

hosts_remove() {
    local name pids
    for name in $(ip netns list 2>/dev/null | cut -d' ' -f1 | grep "^$hosts_prefix-"); do
        mapfile -t pids < <(ip netns pids "$name")
        ((${#pids[@]} == 0)) || kill -9 "${pids[@]}" 2>/dev/null
        ip netns delete "$name"
    done
    rm -rf "$scratch"
}
trap hosts_remove EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

hosts_skip() {
    printf 'skipped: %s\n' "$1"
    exit 77
}

hosts_make() {
    local n=$1 i host cores
    ((EUID == 0)) || hosts_skip "network namespaces need root"
    command -v ip unshare taskset >/dev/null || hosts_skip "ip, unshare or taskset is missing (iproute2, util-linux)"
    { ip netns add "$hosts_prefix-sw" && ip netns exec "$hosts_prefix-sw" unshare -u true &&
        ip -n "$hosts_prefix-sw" link add br0 type bridge && ip -n "$hosts_prefix-sw" link set br0 up; } \
        2>"$scratch/why" || hosts_skip "network namespaces are not permitted here: $(tail -n 1 "$scratch/why")"
    cores=$(nproc)
    printf '127.0.0.1 localhost\n' >"$scratch/hosts"
    for ((i = 1; i <= n; i++)); do
        host=h$i
        hosts+=("$host")
        mkdir -p "$scratch/$host/tmp" "$scratch/$host/shm"
        printf '%s\n' $(((i - 1) % cores)) >"$scratch/$host/core"
        printf '%s.%d %s\n' "$hosts_net" "$i" "$host" >>"$scratch/hosts"
        { ip netns add "$hosts_prefix-$host" &&
            ip -n "$hosts_prefix-sw" link add "$host" type veth peer name eth0 netns "$hosts_prefix-$host" &&
            ip -n "$hosts_prefix-sw" link set "$host" master br0 up &&
            ip -n "$hosts_prefix-$host" link set lo up &&
            ip -n "$hosts_prefix-$host" addr add "$hosts_net.$i/24" dev eth0 &&
            ip -n "$hosts_prefix-$host" link set eth0 up; } || {
            printf 'host %s cannot be made\n' "$host"
            exit 1
        }
    done
    # What Open MPI takes for ssh, and what a command on a host goes through: HOST WORD...
    cat >"$scratch/on" <<END
#!/usr/bin/env bash
host=\$1
shift
cd "$scratch" || exit 1
exec ip netns exec "$hosts_prefix-\$host" unshare -u taskset -c "\$(<"$scratch/\$host/core")" "$scratch/there" "\$host" "\$@"
END
    cat >"$scratch/there" <<END
#!/usr/bin/env bash
printf '%s' "\$1" >/proc/sys/kernel/hostname
mount --bind "$scratch/\$1/shm" /dev/shm
mount --bind "$scratch/hosts" /etc/hosts
export TMPDIR=$scratch/\$1/tmp
shift
eval "\$*"
END
    chmod +x "$scratch/on" "$scratch/there"
}

hosts_on() {
    local host=$1
    shift
    timeout -k 5 "${hosts_limit_s:-100}" "$scratch/on" "$host" "exec $(printf '%q ' "$@")"
}

hosts_mpirun() {
    local list=$1
    shift
    hosts_on "${list%%:*}" "$mpirun" --host "$list" --bind-to none --mca plm rsh --mca plm_rsh_agent "$scratch/on" \
        --mca btl self,vader,tcp --mca btl_vader_single_copy_mechanism none --mca btl_tcp_if_include "$hosts_net.0/24" \
        --mca oob_tcp_if_include "$hosts_net.0/24" --mca mpi_yield_when_idle 1 "$@"
}

hosts_received() {
    hosts_on "$1" cat /sys/class/net/eth0/statistics/rx_bytes
}

hosts_slow() {
    tc -n "$hosts_prefix-sw" qdisc add dev "$1" root tbf rate "$2" burst 16kb latency 100ms &&
        tc -n "$hosts_prefix-$1" qdisc add dev eth0 root tbf rate "$2" burst 16kb latency 100ms
}

# hosts_reach FROM TO: whether a packet finds its way; nobody listens on that port, so that TO itself must say so.
hosts_reach() {
    [[ $(LC_ALL=C ip netns exec "$hosts_prefix-$1" timeout 5 bash -c ": <>/dev/tcp/$hosts_net.${2#h}/9" 2>&1) == *refused* ]]
}

# A kernel that has been asking for an address in vain gives up, and refuses what waits for the answer ("No route to
# host"), up to a second after the plug is in again.
hosts_wire() {
    local other tries
    ip -n "$hosts_prefix-sw" link set "$1" "$2" || return
    [[ $2 == up ]] || return 0
    for other in "${hosts[@]}"; do
        [[ $other != "$1" ]] || continue
        for ((tries = 0; tries < 20; tries++)); do
            hosts_reach "$1" "$other" && hosts_reach "$other" "$1" && continue 2
        done
        printf 'hosts %s and %s do not reach each other\n' "$1" "$other"
        return 1
    done
}

hosts_left() {
    local host pid
    for host in "${hosts[@]}"; do
        for pid in $(ip netns pids "$hosts_prefix-$host"); do
            printf '%s: process %s %s\n' "$host" "$pid" "$(ps -o args= -p "$pid")"
        done
        find "$scratch/$host/shm" -mindepth 1 -printf "$host: /dev/shm/%P\n"
    done
}
