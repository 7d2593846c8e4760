# What the scripts of this folder share. Source it with the program's path in $1: it defines lockstep and root, and goes
# to a temporary folder that is removed at the end.
# shellcheck shell=bash disable=SC2034  # what is set here is for the reader of this file
lockstep=$(realpath -- "${1:?the program lockstep}")
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit
failures=0

# expect NAME STATUS TEXT COMMAND...: the command must leave with the status and print the text on either stream.
expect() {
    local name=$1 wanted=$2 text=$3 output status=0
    shift 3
    output=$("$@" 2>&1 </dev/null) || status=$?
    if [[ $status == "$wanted" && $output == *"$text"* ]]; then
        printf 'ok    %s\n' "$name"
    else
        printf 'FAIL  %s: exit code %d, wanted %d and "%s", got:\n%s\n' "$name" "$status" "$wanted" "$text" "$output"
        failures=$((failures + 1))
    fi
}

# only FILE...: nothing else may lie in the folder.
only() {
    local found
    found=$(find . -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | tr '\n' ' ')
    [[ $found == "$( (($# == 0)) || printf '%s\n' "$@" | sort | tr '\n' ' ')" ]] && return
    printf 'FAIL  these files are left: %s\n' "$found"
    failures=$((failures + 1))
}
