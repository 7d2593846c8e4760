# What the scripts that train through mpirun share. Source it with the program's path in $1 and mpirun's in $2: it goes
# to a temporary folder of its own, where everything of Open MPI lies too, writes the job tiny.json there, and checks at
# the end that nothing is left.
#
# recurrent.json: the same on the digits' rows as sequences, through every recurrent layer: masks, states kept between
# batches, both directions, dropout.
# table.json (when table_job has been called): a table that is large enough for its gradient to be reduced by rows. Samples
# are six numbers each, low ones in all, high ones in few: lanes use most blocks of it, or some, each lane others.
# buckets.json: more than one bucket.
# masked.json (when masked_job has been called): lanes meet for the counts of a masked loss.
# tiny.json: 360 digits, 288 of them for training: six steps of 50, the last of 38. The model has all that could tell
# one number of ranks from another: convolution, batch normalisation, two dropouts.
# shellcheck shell=bash disable=SC2034  # what is set here is for the reader of this file
lockstep=$(realpath -- "${1:?the program lockstep}")
mpirun=${2:?mpirun}
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
name=$(basename -- "$0")
folder=$(mktemp -d)
cd "$folder" || exit
mkdir mpi
patience=${LOCKSTEP_TEST_PATIENCE:-1}
failures=0 checks=0 code=0 took=0
launcher=

# The short folder name is for Open MPI's sockets. A segment of a job that died lies under it, where it can be found.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl=self,vader
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_orte_tmpdir_base=$folder/mpi
export OMPI_MCA_btl_vader_backing_directory=$folder/mpi OMPI_MCA_hwloc_base_binding_policy=none
export LSAN_OPTIONS=detect_leaks=0 # Open MPI's unloaded plugins leak
unset LOCKSTEP_FAULT LOCKSTEP_RANKS_PER_NODE LOCKSTEP_CONTROL OMP_NUM_THREADS

clean_up() {
    [[ -z $launcher ]] || kill -9 "$launcher" 2>/dev/null
    rm -rf "$folder"
}
trap clean_up EXIT
shared_before=$(compgen -G '/dev/shm/lockstep-[0-9]*')

layer() { printf '{"class_name": "%s", "config": {"name": "%s"%s}}' "$1" "$2" "${3:+, $3}"; }

write_job() { # FILE LAYER...
    local file=$1 layers
    shift
    layers=$(printf '%s,\n    ' "$@")
    cat >"$file" <<END
{ "model": {"class_name": "Sequential", "config": {"name": "tiny", "layers": [
    ${layers%,*}]}},
  "data": { "train": "$root/deploy/datasets/digits.h5:/test", "validation_split": 0.2 },
  "compile": { "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"],
               "optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.01}} },
  "fit": { "batch_size": 50, "epochs": 3, "seed": 7 },
  "distribute": { "lanes": 8, "threads": 1 },
  "checkpoint": { "keep": 10 } }
END
}

input=$(layer InputLayer image '"batch_input_shape": [null, 8, 8, 1]')
write_job tiny.json "$input" "$(layer Conv2D conv '"filters": 8, "kernel_size": [3, 3], "use_bias": false')" \
    "$(layer BatchNormalization norm)" "$(layer Activation relu '"activation": "relu"')" \
    "$(layer MaxPooling2D pool)" "$(layer Dropout drop_some '"rate": 0.25')" "$(layer Flatten flat)" \
    "$(layer Dense hidden '"units": 32, "activation": "relu"')" "$(layer Dropout drop_half '"rate": 0.5')" \
    "$(layer Dense class '"units": 10, "activation": "softmax"')"
# The second and third convolution go by Winograd's algorithm, where the processor has it.
write_job wide.json "$input" "$(layer Conv2D first '"filters": 32, "kernel_size": [3, 3], "padding": "same"')" \
    "$(layer Conv2D second '"filters": 40, "kernel_size": [3, 3], "padding": "same", "activation": "relu"')" \
    "$(layer Conv2D third '"filters": 32, "kernel_size": [3, 3], "padding": "same", "use_bias": false')" \
    "$(layer Flatten flat)" "$(layer Dense class '"units": 10, "activation": "softmax"')"
write_job recurrent.json "$input" "$(layer Reshape rows '"target_shape": [8, 8]')" "$(layer Masking masking)" \
    "$(layer Bidirectional both '"layer": '"$(layer LSTM lstm \
        '"units": 12, "return_sequences": true, "dropout": 0.1, "recurrent_dropout": 0.2')")" \
    "$(layer GRU gru '"units": 10, "return_sequences": true, "reset_after": false')" \
    "$(layer GRU gru_after '"units": 10, "return_sequences": true, "stateful": true')" \
    "$(layer SimpleRNN elman '"units": 9, "return_sequences": true, "go_backwards": true')" \
    "$(layer Jordan jordan '"units": 10, "hidden_units": 7')" "$(layer Dense class '"units": 10, "activation": "softmax"')"
write_job buckets.json "$input" "$(layer Flatten flat)" "$(layer Dense hidden '"units": 5000, "activation": "relu"')" \
    "$(layer Dense class '"units": 10, "activation": "softmax"')"
table_job() {
    local i k v u=1
    for ((i = 0; i < 360; i++)); do
        for ((k = 0; k < 6; k++)); do
            u=$(((u * 1103515245 + 12345) % 2147483648))
            v=$((u >> 18)) # below 8192
            printf '%d,' $((1200 * v * v * v >> 39))
        done
        printf '%d\n' $((u >> 10 & 7))
    done >table.csv
    "$lockstep" data import csv table.h5 table.csv --gzip 0 >table.log || cat table.log
    write_job table.json "$(layer InputLayer numbers '"batch_input_shape": [null, 6]')" \
        "$(layer Embedding table '"input_dim": 1200, "output_dim": 20')" "$(layer Flatten flat)" \
        "$(layer Dense class '"units": 10, "activation": "softmax"')"
    sed -i "s|\"train\": \"[^\"]*\"|\"train\": \"$folder/table.h5:/train\"|" table.json
}
# Windows of a text in which one character is not counted, neither by the layers nor by the loss: 297 of them, 282 for
# training, six steps of 50.
masked_job() {
    local i
    for ((i = 0; i < 900; i++)); do printf '%s' "$((i * i * 7919 / 13 % 7))"; done >text.txt
    "$lockstep" data import text text.h5 text.txt --window 10 --stride 3 --gzip 0 >text.log || cat text.log
    write_job masked.json "$(layer Embedding table \
        '"batch_input_shape": [null, 10], "input_dim": 7, "output_dim": 6, "mask_zero": true')" \
        "$(layer LSTM lstm '"units": 8, "return_sequences": true')" "$(layer Dense next '"units": 7, "activation": "softmax"')"
    sed -i "s|\"data\": .*|\"data\": { \"train\": \"text.h5:/train\", \"validation_split\": 0.05 },|" masked.json
}
sgd='compile.optimizer={"class_name": "SGD", "config": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": true}}'

# complain TEXT [FILE]: a check failed; the file tells more.
complain() {
    printf 'FAIL  %s\n' "$1"
    [[ -z ${2:-} ]] || { printf '      exit code %d after %d tenths of a second\n' $code $took && sed 's/^/      /' "$2"; }
    failures=$((failures + 1))
}

check() { # TEXT COMMAND...: what must be true
    local text=$1
    shift
    checks=$((checks + 1))
    if "$@"; then printf 'ok    %s\n' "$text"; else complain "$text" "${log:-}"; fi
}

# start RANKS RUN [ARGUMENT...]: begins to train in the background; output in RUN.log, mpirun's pid in $launcher.
start() {
    ranks=$1 run=$2 log=$folder/$2.log
    shift 2
    begun=$EPOCHREALTIME
    "$mpirun" -np "$ranks" --oversubscribe "$lockstep" train "$job" --run-dir "$folder/$run" "$@" >"$log" 2>&1 \
        </dev/null &
    launcher=$!
}

# finish: waits for what start began, most 100 seconds (times the patience). Its exit code in $code; in $took, how long it
# took, in tenths of a second, from its word that training begins, if it came so far: how long ranks take to start is the
# machine's affair, several to a core that others keep busy.
finish() {
    local now since
    { timeout $((100 * patience)) tail -s 0.05 --pid="$launcher" -f /dev/null || kill -9 "$launcher"; } 2>/dev/null
    code=0
    wait "$launcher" 2>/dev/null || code=$?
    launcher=
    now=$EPOCHREALTIME
    since=$(sed -n '/"event": "start"/s/.*"time": \([0-9]*\)\.\([0-9]*\).*/\1.\2000/p' "$folder/$run/events.jsonl" 2>/dev/null | tail -n 1)
    [[ -n $since && $since > $begun ]] || since=$begun
    took=$(((${now//[!0-9]/} - ${since//[!0-9]/}) / 100000))
}

train() { # RANKS RUN [ARGUMENT...]
    start "$@"
    finish
}

job=$folder/tiny.json

# until_true COMMAND...: most 60 seconds, and no longer than the job runs.
until_true() {
    local tries
    for ((tries = 0; tries < 3000 * patience; tries++)); do
        if "$@"; then return 0; fi
        kill -0 "$launcher" 2>/dev/null || return 1
        read -rt 0.02 <> <(:) || true
    done
    return 1
}

# The event file says that the run has come to this step (progress) or has written this checkpoint.
has_event() { grep -q "$2" "$folder/$1/events.jsonl" 2>/dev/null; }

# pids RUN: of the ranks, by their rank. (Linux names the run folder in each command line.)
pids() {
    local p
    for p in $(pgrep -f -- "--run-dir $folder/$1( |\$)"); do
        [[ $(readlink "/proc/$p/exe" 2>/dev/null) == "$lockstep" ]] || continue
        printf '%s %s\n' "$(tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | sed -n 's/^OMPI_COMM_WORLD_RANK=//p')" "$p"
    done | sort -n | cut -d' ' -f2
}

# No rank of a run that has ended is there any more, at the latest after two seconds.
no_process() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        [[ -n $(pids "$1") ]] || return 0
        read -rt 0.02 <> <(:) || true
    done
    return 1
}

# Nothing else either: no shared memory, nothing in Open MPI's session folder.
gone() {
    no_process "$1" && [[ $(compgen -G '/dev/shm/lockstep-[0-9]*') == "$shared_before" &&
        -z $(find mpi -type f -o -type s) ]]
}

digest() { "$lockstep" checkpoint digest "$folder/$1/final.h5"; }

# same RUN REFERENCE: the same weights, statistics, optimizer state, history.
same() {
    local a b
    a=$(digest "$1") && b=$(digest "$2") && [[ -n $a && ${a%% *} == "${b%% *}" ]] &&
        cmp "$1/history.csv" "$2/history.csv"
}

finish_test() {
    ((failures == 0)) || { printf '%s: %d of %d checks failed\n' "$name" "$failures" "$checks"; exit 1; }
    printf '%s: all %d checks hold\n' "$name" "$checks"
}
