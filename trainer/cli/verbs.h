/*
 * The verbs of the program `lockstep`: one list makes the dispatcher and all help texts ("lockstep help", "lockstep
 * VERB
 * --help"). A verb's function lies in verb_<name>.c, takes its own arguments (argv[0] is the verb), prints its result
 * on standard output, and returns a status with a sentence in err; main prints the sentence and turns the status into
 * the exit code.
 */
#ifndef LS_CLI_VERBS_H
#define LS_CLI_VERBS_H

#include "common/status.h"

/* Function suffix and word; what it does; the arguments of each of its forms, a line a form, further lines of a form
 * indented; more that its help says, or "". */
/* clang-format off: a row a paragraph, so that a new verb is a new paragraph */
#define LS_VERB_LIST(X)                                                                                                \
    X(bench, "time training steps on synthetic data",                                                                  \
      "MODEL.json|FILE.h5 [--batch B] [--seconds S] [--precision float32|bfloat16] [--optimizer NAME]\n"               \
      "    [--loss NAME] [--lanes L | --accumulate K] [--threads T] [--bucket-kb K] [--plugin FILE.so]...\n"           \
      "    [--convolution auto|direct] [--wire float32|bfloat16] [--dense] [--apart] [--profile]",                     \
      "B is the global batch. Prints one JSON line: samples/s, step times, exposed communication, memory, start-up;\n" \
      "compute_ms: what a rank does by itself in a step, the mean, and the slowest of each step, which no step can "   \
      "beat;\n"                                                                                                        \
      "rank, host, share: who is slowest most often, and in which share of the steps.\n"                               \
      "--accumulate: each rank's share in K parts, one after the other. --wire: as what gradients go between nodes.\n" \
      "--apart: no gradients are exchanged, each rank trains a model of its own and they begin each step together: "   \
      "what "                                                                                                          \
      "the\n"                                                                                                          \
      "machine lets through; the rest of the difference to one rank is what the all-reduce costs.\n"                   \
      "--dense: all rows of embedding tables are reduced, not just those that were used. --profile adds a table of "   \
      "the\n"                                                                                                          \
      "time of each operation, with its share of the machine's peak, to standard error, and the peaks to the line.\n"  \
      "--optimizer also takes an object, {\"class_name\": .., \"config\": {..}}.\n")                                   \
    X(train, "train a model; alone, or on many ranks under mpirun",                                                    \
      "JOB [--run-dir DIR] [--resume] [--set KEY=VALUE]... [--quiet] [--control SOCKET]\n"                             \
      "    [--trace FILE]",                                                                                            \
      "")                                                                                                              \
    X(evaluate, "loss and metrics of a trained model",                                                                 \
      "CHECKPOINT|RUN --data FILE.h5:/SPLIT [--batch N] [--metric NAME]...\n"                                          \
      "    [--plugin FILE.so]... [--json]",                                                                            \
      "")                                                                                                              \
    X(predict, "a trained model's outputs for every sample",                                                           \
      "CHECKPOINT|RUN --data FILE.h5:/SPLIT --out FILE.h5 [--batch N]\n"                                               \
      "    [--plugin FILE.so]...",                                                                                     \
      "")                                                                                                              \
    X(generate, "text from a model that tells the next character",                                                     \
      "CHECKPOINT|RUN --seed-text TEXT [--length N] [--temperature T] [--seed N]\n"                                    \
      "    [--vocabulary FILE] [--stateful] [--plugin FILE.so]...",                                                    \
      "")                                                                                                              \
    X(data, "make a data set, or tell what is in one",                                                                 \
      "import idx OUT.h5 FOLDER|FILE... [--gzip 0..9] [--source TEXT] [--licence TEXT]\n"                              \
      "import csv OUT.h5 FILE.csv[.gz] [--label last|none|COLUMN] [--shape H,W,C]\n"                                   \
      "    [--scale NUMBER] [--test ROWS] [--gzip 0..9] [--source TEXT] [--licence TEXT]\n"                            \
      "import text OUT.h5 FILE.txt [--window N] [--stride N] [--vocabulary FILE] [--test WINDOWS]\n"                   \
      "    [--gzip 0..9] [--source TEXT] [--licence TEXT]\n"                                                           \
      "info FILE.h5[:/SPLIT] [--json]",                                                                                \
      "")                                                                                                              \
    X(checkpoint, "what is in a checkpoint, and whether it is whole",                                                  \
      "show FILE [--json]\n"                                                                                           \
      "digest FILE...\n"                                                                                               \
      "verify FILE...\n"                                                                                               \
      "diff A B",                                                                                                      \
      "show: what is in it. digest: a hash of all weights, moving statistics and optimizer state. verify: reads all\n" \
      "of it; of a folder, every checkpoint in it. diff: the arrays that differ; exit code 1 when any does.\n"         \
      "FILE is a checkpoint or a Keras .h5 file, or a run folder (or its checkpoints folder): then its newest good\n"  \
      "one.\n")                                                                                                        \
    X(summary, "the layers of a model, their output shapes and parameters",                                            \
      "MODEL.json|FILE.h5 [--input-shape 28,28,1]... [--plan SAMPLES] [--plugin FILE.so]...",                          \
      "--plan: what a step with so many samples calls, one after the other.\n")                                        \
    X(submit, "give a job to lockstepd",                                                                               \
      "JOB -n RANKS [--run-dir DIR] [--name NAME] [--set KEY=VALUE]... [--resume] [--json]", LS_VERB_SOCKET)           \
    X(list, "the jobs that lockstepd knows, and their run folders", "[--json]", LS_VERB_SOCKET)                        \
    X(status, "how jobs stand: epoch, step, loss, speed, time left", "[ID] [--json]", LS_VERB_SOCKET)                  \
    X(watch, "follow a job until its end; exits with its outcome", "[ID] [--json]", LS_VERB_SOCKET)                    \
    X(logs, "what a job printed; -f goes on until its end", "ID [-f]", LS_VERB_SOCKET)                                 \
    X(stop, "write a checkpoint and stop; --now kills at once", "ID [--now] [--json]", LS_VERB_SOCKET)                 \
    X(resume, "go on with a stopped, failed or lost job from its last checkpoint", "ID [--json]", LS_VERB_SOCKET)      \
    X(remove, "take an ended job off the list; its run folder stays", "ID [--json]", LS_VERB_SOCKET)
/* clang-format on */
#define LS_VERB_SOCKET "--socket PATH: where lockstepd listens, if not at its usual place.\n"

#define X(name, what, arguments, more) ls_status ls_verb_##name(int argc, char **argv, ls_err *err);
LS_VERB_LIST(X)
#undef X

#endif
