# What the scripts of this project share. Source it; it runs nothing, but defines LS_ROOT (the project's folder),
# LS_PROGRAM (the script, as seen from there) and functions:
#   shellcheck shell=bash
#
# ls_say, ls_warn, ls_die     one line to the reader; ls_die leaves with 1, or with LS_EXIT where that is set
# ls_packages_missing SET...  names the packages of deploy/packages that are not installed, one a line
# ls_packages_need SET...     installs what is missing and only that: nothing missing, no network, no root
# ls_build PRESET TARGETS -- OPTION...   configures and builds build/PRESET; the compiler's words go to a log
# ls_mpi_environment          sets what Open MPI must be told on this machine; for whoever starts mpirun
# ls_mpirun N PROGRAM...      runs N ranks of PROGRAM on this machine by mpirun, and exits as it does

LS_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
LS_PROGRAM=$(cd -- "$(dirname -- "$0")" && pwd -P)/${0##*/}
LS_PROGRAM=${LS_PROGRAM#"$LS_ROOT/"}

ls_say() { printf '%s\n' "$*"; }
ls_warn() { printf '%s: %s\n' "$LS_PROGRAM" "$*" >&2; }
ls_die() {
    ls_warn "$@"
    exit "${LS_EXIT:-1}"
}

ls_packages_of() {
    awk -v sets=" $* " '!/^#/ && NF >= 3 && index(sets, " " $1 " ") { print $2 }' "$LS_ROOT/deploy/packages"
}

# A package that another one provides counts as installed: pkg-config for pkgconf, zlib-ng's for zlib's.
ls_packages_missing() {
    local package
    local -A have=()
    while read -r package; do
        have[$package]=1
    done < <(dpkg-query -W -f '${db:Status-Status} ${Package},${Provides}\n' 2>/dev/null |
        sed -n 's/^installed //p' | tr ',' '\n' | sed 's/^ *//; s/ .*//; /^$/d')
    for package in $(ls_packages_of "$@"); do
        [[ -n ${have[$package]:-} ]] || printf '%s\n' "$package"
    done
}

# Prints the words that run a command as root, or fails when nothing on this machine can. Asks for a password only
# where somebody is there to type it.
ls_as_root() {
    if [[ $EUID == 0 ]]; then
        printf 'env\n'
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        printf 'sudo -n env\n'
    elif command -v sudo >/dev/null && [[ -t 0 && -t 2 && -z ${CI:-} ]]; then
        printf 'sudo env\n'
    else
        return 1
    fi
}

ls_packages_need() {
    local missing as_root log
    if ! command -v dpkg-query >/dev/null; then
        ls_warn "this is not Debian, so nothing is installed for you; deploy/packages lists what must be here"
        return 0
    fi
    missing=$(ls_packages_missing "$@" | tr '\n' ' ')
    missing=${missing% }
    [[ -n $missing ]] || return 0
    as_root=$(ls_as_root) ||
        ls_die "these packages are missing and neither root nor sudo is at hand; as root, run: apt-get install $missing"
    ls_say "Installing: $missing"
    log=$(mktemp)
    # shellcheck disable=SC2086  # both are lists of words
    if ! { $as_root apt-get update -q &&
        $as_root DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
            -o DPkg::Lock::Timeout=300 $missing; } </dev/null >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        ls_die "the packages above could not be installed; when the cause is mended, run this again"
    fi
    rm -f "$log"
}

# Names a tool that is missing even so, before a cryptic message does.
ls_tools_need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || ls_die "$tool is not on PATH; deploy/packages tells which package holds it"
    done
}

# ls_build PRESET "TARGET..." -- CMAKE_OPTION...
ls_build() {
    local preset=$1 targets=$2 build=$LS_ROOT/build/$1 log
    shift 3
    if ! mkdir -p "$build" 2>/dev/null || [[ ! -w $build ]]; then
        ls_die "$build cannot be written by $(id -un); use a copy of the project that is yours"
    fi
    log=$build/build.log
    # shellcheck disable=SC2086  # the targets are a list of words
    if ! (cd "$LS_ROOT" && cmake --preset "$preset" "$@" &&
        cmake --build "build/$preset" ${targets:+--target $targets}) </dev/null >"$log" 2>&1; then
        grep -nE -A6 'error|Error|FAILED|undefined reference' "$log" | head -n 60 >&2 || tail -n 30 "$log" >&2
        ls_die "the build failed; all of what was said is in $log"
    fi
}

# Cores that this process may use. Hyper-threads of one core count once, as Open MPI counts its slots; a container's
# limit on processor time (the quota and period of its cgroup, in a file that tests may replace) counts as well.
ls_cores() {
    local allowed cores quota period
    allowed=$(nproc)
    if read -r quota period 2>/dev/null <"${LS_CPU_MAX:-/sys/fs/cgroup/cpu.max}" && [[ $quota != max ]]; then
        quota=$(((quota + period - 1) / period))
        allowed=$((quota < allowed ? quota : allowed))
    fi
    cores=$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l)
    if ((cores == 0 || cores > allowed)); then
        cores=$allowed
    fi
    printf '%s\n' "$cores"
}

# May a process here read another one's memory, as Open MPI's single-copy transport (CMA) does? A container without
# CAP_SYS_PTRACE may not, and Open MPI then fills the screen with "Operation not permitted". A child reads its parent,
# which allowed it as Open MPI's ranks do (prctl(PR_SET_PTRACER, any)).
ls_cma_permitted() {
    perl -e '
        my %calls = (x86_64 => [157, 310], aarch64 => [167, 270]);
        my $machine = `uname -m`;
        chomp $machine;
        my ($prctl, $readv) = @{$calls{$machine} || exit 0};
        my ($from, $to, $owner) = ("x" x 64, "y" x 64, $$);
        syscall($prctl, 0x59616d61, -1, 0, 0, 0);
        my $child = fork();
        exit 0 if !defined $child;
        if ($child == 0) {
            my $local = pack("PQ", $to, 64);
            my $remote = pack("PQ", $from, 64);
            exit(syscall($readv, $owner, $local, 1, $remote, 1, 0) == 64 && $to eq $from ? 0 : 1);
        }
        waitpid($child, 0);
        exit($? == 0 ? 0 : 1);' 2>/dev/null
}

ls_mpi_environment() {
    if [[ $EUID == 0 ]]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    if [[ -z ${OMPI_MCA_btl_vader_single_copy_mechanism:-} ]] && command -v perl >/dev/null && ! ls_cma_permitted; then
        export OMPI_MCA_btl_vader_single_copy_mechanism=none
    fi
}

# Each rank gets an equal share of the cores and is bound to it; with more ranks than cores none is bound.
ls_mpirun() {
    local ranks=$1 cores placement
    shift
    ls_mpi_environment
    cores=$(ls_cores)
    if ((ranks > cores)); then
        placement=(--oversubscribe --bind-to none)
    else
        placement=(--map-by "slot:PE=$((cores / ranks))" --bind-to core)
    fi
    # Told to end by SIGTERM, mpirun kills its ranks after a second and returns 1, whatever they did. SIGUSR1 it passes
    # on: they write a checkpoint, leave with 75, and so does it.
    mpirun -n "$ranks" "${placement[@]}" "$@" <&0 &
    local pid=$! status
    trap 'kill -USR1 "$pid" 2>/dev/null' TERM USR1
    wait "$pid" && status=0 || status=$?
    while kill -0 "$pid" 2>/dev/null; do # a signal ended the wait
        wait "$pid" && status=0 || status=$?
    done
    exit "$status"
}
