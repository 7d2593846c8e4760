/*
 * The verbs of the program `lockstep`: one list makes the dispatcher and the help text. A verb's function lies in
 * verb_<name>.c, takes its own arguments (argv[0] is the verb), prints its result on standard output, and returns a
 * status with a sentence in err; main prints the sentence and turns the status into the exit code.
 */
#ifndef LS_CLI_VERBS_H
#define LS_CLI_VERBS_H

#include "common/status.h"

/* function suffix, word, arguments, what it does */
/* clang-format off: a row a line, so that a new verb is one new line */
#define LS_VERB_LIST(X)                                                                               \
    X(bench, "bench", "MODEL.json [--batch B] [--seconds S] [--precision P]",                         \
      "time training steps on synthetic data")                                                    \
    X(train, "train", "JOB [--run-dir DIR] [--resume] [--set K=V] [--quiet] [--control SOCKET]",      \
      "train a model; alone, or on many ranks under mpirun")                                          \
    X(evaluate, "evaluate", "CHECKPOINT|RUN --data FILE.h5:/SPLIT [--batch N] [--json]",              \
      "loss and metrics of a trained model")                                                          \
    X(predict, "predict", "CHECKPOINT|RUN --data FILE.h5:/SPLIT --out FILE.h5 [--batch N]",           \
      "a trained model's outputs for every sample")                                                   \
    X(generate, "generate", "CHECKPOINT|RUN --seed-text TEXT [--length N] [--temperature T]",         \
      "text from a model that tells the next character")                                              \
    X(data, "data", "import idx|csv|text OUT.h5 FILE... | info FILE.h5[:/SPLIT]",                          \
      "make a data set, or tell what is in one")                                                      \
    X(checkpoint, "checkpoint", "show|digest|verify FILE | diff A B",                                 \
      "what is in a checkpoint, and whether it is whole")                                             \
    X(summary, "summary", "MODEL [--input-shape 28,28,1]... [--plan N]",                                         \
      "the layers of a model, their output shapes and parameters")                                    \
    X(submit, "submit", "JOB -n RANKS [--run-dir DIR] [--name NAME] [--set K=V] [--resume] [--json]", \
      "give a job to lockstepd")                                                                      \
    X(list, "list", "[--json]", "the jobs that lockstepd knows, and their run folders")               \
    X(status, "status", "[ID] [--json]", "how jobs stand: epoch, step, loss, speed, time left")       \
    X(watch, "watch", "[ID] [--json]", "follow a job until its end; exits with its outcome")          \
    X(logs, "logs", "ID [-f]", "what a job printed; -f goes on until its end")                        \
    X(stop, "stop", "ID [--now]", "write a checkpoint and stop; --now kills at once")                 \
    X(resume, "resume", "ID", "go on with a stopped, failed or lost job from its last checkpoint")    \
    X(remove, "remove", "ID", "take an ended job off the list; its run folder stays")
/* clang-format on */

#define X(name, word, arguments, what) ls_status ls_verb_##name(int argc, char **argv, ls_err *err);
LS_VERB_LIST(X)
#undef X

#endif
