/* What people see while a run goes on: text only, no output. */
#ifndef LS_FIT_BAR_H
#define LS_FIT_BAR_H

#include <stdint.h>

#include "trainer/fit/logs.h"

typedef struct ls_bar {
    int64_t epoch, epochs; /* epoch from 1 */
    int64_t step, steps;   /* of the epoch; step from 1 */
    double samples_per_s, eta_s;
    double seconds; /* of the epoch, for its line */
    const ls_logs *logs;
} ls_bar;

/* "epoch 3/12  [=====>    ]  234/469  12,345 samples/s  5.1 s left  loss 0.1234  accuracy 0.9876", cut to so many
 * columns. Returns out. Allocates nothing. */
const char *ls_bar_line(const ls_bar *bar, int columns, char *out, size_t size);

/* "epoch 3/12  4.1 s  14,600 samples/s  loss 0.0871  val_loss 0.0412". Returns out. */
const char *ls_bar_epoch(const ls_bar *bar, char *out, size_t size);

#endif
