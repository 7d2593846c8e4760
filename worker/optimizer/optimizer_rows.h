/* The rows of the table of optimizers; each lies in the file of its family. */
#ifndef LS_WORKER_OPTIMIZER_ROWS_H
#define LS_WORKER_OPTIMIZER_ROWS_H

#include "worker/optimizer/optimizer.h"

#define LS_OPTIMIZER_LIST(X) \
    X(sgd)                   \
    X(adagrad)               \
    X(adadelta)              \
    X(rmsprop)               \
    X(adam)                  \
    X(adamw)                 \
    X(adamax)                \
    X(nadam)                 \
    X(ftrl)                  \
    X(lars)                  \
    X(lamb)

#define X(name) extern const ls_optimizer_class ls_optimizer_##name;
LS_OPTIMIZER_LIST(X)
#undef X

/* Those that subtract something times a slot or the gradient, over a root to which epsilon is added, rest unless that
 * is nothing by nothing. */
bool ls_optimizer_divides_by_epsilon(const ls_optimizer *o);

#endif
