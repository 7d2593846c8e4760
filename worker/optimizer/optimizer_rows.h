/* The rows of the table of optimizers; each lies in a file of its own. */
#ifndef LS_WORKER_OPTIMIZER_ROWS_H
#define LS_WORKER_OPTIMIZER_ROWS_H

#include "worker/optimizer/optimizer.h"

extern const ls_optimizer_class ls_optimizer_sgd;
extern const ls_optimizer_class ls_optimizer_adam;

#endif
