/*
 * When a training step's gradients become ready: what a plan does in order, measured on one rank, read by
 * the model and by the replay. Text, one item a line, # begins a comment:
 *
 *   model NAME          batch N           samples a rank
 *   forward MS          time before the first gradient
 *   call MS             one call of the backward pass
 *   bucket FLOATS       ready after the calls above it
 *   table FLOATS USED   the same, of an embedding table; the share of its blocks (LS_REDUCE_BLOCK) that the batch uses
 *   update MS           the optimizer over all parameters, by one rank
 */
#ifndef LS_BENCH_SCHEDULE_H
#define LS_BENCH_SCHEDULE_H

#include <stddef.h>

typedef struct schedule {
    char model[64];
    int batch;
    double forward_s, update_s, backward_s;
    int n_calls, n_buckets;
    double *call_s; /* (n_calls) */
    size_t *floats; /* (n_buckets) */
    int *after;     /* (n_buckets) ready when so many calls are done */
    double *used;   /* (n_buckets) of a table: the share that is sent; else 1 */
    size_t n_floats;
} schedule;

/* Reads a file; buckets are joined until they have `least` floats (0: as they are), but for tables'. Ends the program
 * with a sentence where the file is not as above. */
void schedule_read(schedule *s, const char *path, size_t least);
void schedule_release(schedule *s);

#endif
