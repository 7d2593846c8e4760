/*
 * Activations as functions over arrays, for operators that apply them in the middle of their own work (the gates of
 * recurrent cells).
 *
 *   forward   y[i] = f(x[i]); y is other memory than x
 *   backward  dx[i] = dy[i] * f'(..); v is y where from_result says so, else x; dx may be dy's memory, not v's
 *
 * Softmax works over the n elements of a call; all others element by element.
 */
#ifndef LS_WORKER_ACT_FUNCTION_H
#define LS_WORKER_ACT_FUNCTION_H

#include "worker/ops/ops.h"

typedef struct ls_act_function {
    const ls_act_attr *attr;
    void (*forward)(const ls_act_attr *a, const float *x, float *y, size_t n);
    void (*backward)(const ls_act_attr *a, const float *v, const float *dy, float *dx, size_t n);
    bool from_result;
} ls_act_function;

/* attr must outlive what is returned. */
ls_act_function ls_act_function_of(const ls_act_attr *attr);

#endif
