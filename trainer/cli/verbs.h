/*
 * The verbs of the program `lockstep`: one list makes the dispatcher and the help text. A verb's function lies in
 * verb_<name>.c, takes its own arguments (argv[0] is the verb), prints its result on standard output, and returns a
 * status with a sentence in err; main prints the sentence and turns the status into the exit code.
 */
#ifndef LS_CLI_VERBS_H
#define LS_CLI_VERBS_H

#include "common/status.h"

/* function suffix, word, arguments, what it does */
#define LS_VERB_LIST(X) \
    X(data, "data", "import idx|csv OUT.h5 FILE... | info FILE.h5[:/SPLIT]", "make a data set, or tell what is in one")

#define X(name, word, arguments, what) ls_status ls_verb_##name(int argc, char **argv, ls_err *err);
LS_VERB_LIST(X)
#undef X

#endif
