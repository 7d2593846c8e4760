/* The rows of the table of losses; each lies in the file of its family. */
#ifndef LS_WORKER_LOSS_ROWS_H
#define LS_WORKER_LOSS_ROWS_H

#include "worker/loss/loss.h"

#define LS_LOSS_LIST(X)               \
    X(mean_squared_error)             \
    X(mean_absolute_error)            \
    X(mean_absolute_percentage_error) \
    X(mean_squared_logarithmic_error) \
    X(log_cosh)                       \
    X(huber)                          \
    X(poisson)                        \
    X(kl_divergence)                  \
    X(cosine_similarity)              \
    X(asymmetric_linear)              \
    X(dice)                           \
    X(hinge)                          \
    X(squared_hinge)                  \
    X(categorical_hinge)              \
    X(binary_crossentropy)            \
    X(categorical_crossentropy)       \
    X(sparse_categorical_crossentropy)

#define X(name) extern const ls_loss_class ls_loss_##name;
LS_LOSS_LIST(X)
#undef X

#endif
