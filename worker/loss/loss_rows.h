/* The rows of the table of losses; each lies in the file of its family. */
#ifndef LS_WORKER_LOSS_ROWS_H
#define LS_WORKER_LOSS_ROWS_H

#include "worker/loss/loss.h"

extern const ls_loss_class ls_loss_mean_squared_error;
extern const ls_loss_class ls_loss_binary_crossentropy;
extern const ls_loss_class ls_loss_categorical_crossentropy;
extern const ls_loss_class ls_loss_sparse_categorical_crossentropy;

#endif
