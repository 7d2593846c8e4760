/*
 * The model: a step of a rank, followed in time, where all ranks do the same at the same time (LogGP: latency, overhead
 * a message, gap a byte; Alexandrov et al., 1995). What worker/reduce does is written down once more here, without
 * data: the jobs of every level of every bucket, done when the rank polls, which is between calls of the backward pass;
 * one link a node, through which all of its ranks' messages leave one after the other; the rendezvous of long messages,
 * whose two answers are given when the other side polls; the verdict at the end.
 */
#ifndef LS_BENCH_LOGGP_H
#define LS_BENCH_LOGGP_H

#include <stdbool.h>

#include "tests/bench/scale/schedule.h"

typedef struct network {
    const char *name;
    double latency_s;   /* from one node's memory to another's, without the two below */
    double overhead_s;  /* of a processor, for each message sent and each received */
    double byte_s;      /* of a node's link, each way */
    double cpu_byte_s;  /* of a processor, for each byte sent and each received (kernel TCP copies; RDMA does not) */
    size_t eager_bytes; /* longer messages are announced first */
} network;

typedef struct cluster {
    int ranks, ranks_per_node, fan_in;
    double speed;                     /* of a rank's calculations, in that of the rank that was measured */
    double batch;                     /* samples a rank */
    double add_byte_s;                /* of a rank, for each byte that it reads to add */
    double wake_s;                    /* until a rank that waits notices */
    double jitter;                    /* standard deviation of a rank's time for a step, as a share of it */
    size_t least_floats, most_floats; /* of a part (ls_cut); 0: no limit */
    bool wire_bfloat16;               /* gradients in two bytes */
    bool whole_tables;                /* tables are sent as if they were not sparse */
    bool idle;                        /* the update leaves alone what was not used (ls_sparse) */
} cluster;

typedef struct prediction {
    double step_s, alone_s, efficiency;
    double exposed_s;  /* from the end of the last call to the end of the step, without waits for slow ranks */
    double overhead_s; /* spent on messages and their bytes */
    double skew_s;     /* waited for the slowest rank */
    double messages;   /* sent by a rank */
    double node_bytes; /* sent by a node */
    const char *limit; /* what costs most: its time taken away, the step gains most */
    double limit_s;    /* how much */
} prediction;

prediction predict(const schedule *s, const network *net, const cluster *c);

#endif
