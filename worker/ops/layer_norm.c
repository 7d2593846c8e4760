/*
 * Layer normalisation. Sums are taken in index order, rows in the batch's order, whatever the number of threads.
 *
 * Source: Ba, Kiros, Hinton, Layer Normalization, 2016. With h = (x - mean) * r, r = 1 / sqrt(variance + epsilon) and
 * g = dy * gamma:  dx = r * (g - mean(g) - h * mean(g * h)),  dgamma = sum dy * h,  dbeta = sum dy.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

typedef struct layer_norm {
    size_t n_groups, width; /* the array is (n_groups, width) */
    float epsilon;
} layer_norm;

/* args: 0 x, 1 gamma, 2 beta, 3 y, 4 statistics (n_groups, 2): mean and r */
static void forward_range(void *context, size_t begin, size_t end) {
    const ls_call *call = context;
    const layer_norm *s = call->state;
    const float *gamma = call->args[1].p, *beta = call->args[2].p;
    for (size_t i = begin; i < end; i++) {
        const float *x = (const float *)call->args[0].p + i * s->width;
        float *y = (float *)call->args[3].p + i * s->width, *statistics = (float *)call->args[4].p + 2 * i;
        double sum = 0, squares = 0;
        for (size_t k = 0; k < s->width; k++) {
            sum += x[k];
        }
        double mean = sum / (double)s->width;
        for (size_t k = 0; k < s->width; k++) {
            squares += (x[k] - mean) * (x[k] - mean);
        }
        float m = (float)mean, r = (float)(1 / sqrt(squares / (double)s->width + s->epsilon));
        for (size_t k = 0; k < s->width; k++) {
            float h = (x[k] - m) * r;
            y[k] = (gamma != NULL ? h * gamma[k] : h) + (beta != NULL ? beta[k] : 0);
        }
        statistics[0] = m;
        statistics[1] = r;
    }
}

/* args: 0 x, 1 gamma, 2 dy, 3 statistics, 4 dx */
static void dx_range(void *context, size_t begin, size_t end) {
    const ls_call *call = context;
    const layer_norm *s = call->state;
    const float *gamma = call->args[1].p;
    for (size_t i = begin; i < end; i++) {
        const float *x = (const float *)call->args[0].p + i * s->width,
                    *dy = (const float *)call->args[2].p + i * s->width;
        const float *statistics = (const float *)call->args[3].p + 2 * i;
        float *dx = (float *)call->args[4].p + i * s->width, mean = statistics[0], r = statistics[1];
        double sum_g = 0, sum_gh = 0;
        for (size_t k = 0; k < s->width; k++) {
            double g = gamma != NULL ? dy[k] * gamma[k] : dy[k];
            sum_g += g;
            sum_gh += g * ((x[k] - mean) * r);
        }
        float mean_g = (float)(sum_g / (double)s->width), mean_gh = (float)(sum_gh / (double)s->width);
        for (size_t k = 0; k < s->width; k++) {
            float g = gamma != NULL ? dy[k] * gamma[k] : dy[k];
            dx[k] = r * (g - mean_g - (x[k] - mean) * r * mean_gh);
        }
    }
}

/* Columns of dgamma and dbeta. args: 0 x, 1 dy, 2 statistics, 3 dgamma, 4 dbeta */
static void dweight_range(void *context, size_t begin, size_t end) {
    const ls_call *call = context;
    const layer_norm *s = call->state;
    float *dgamma = call->args[3].p, *dbeta = call->args[4].p;
    for (size_t k = begin; k < end; k++) {
        double sum = 0, sum_h = 0;
        for (size_t i = 0; i < s->n_groups; i++) {
            const float *statistics = (const float *)call->args[2].p + 2 * i;
            double dy = ((const float *)call->args[1].p)[i * s->width + k];
            sum += dy;
            sum_h += dy * ((((const float *)call->args[0].p)[i * s->width + k] - statistics[0]) * statistics[1]);
        }
        if (dgamma != NULL) {
            dgamma[k] = (float)sum_h;
        }
        if (dbeta != NULL) {
            dbeta[k] = (float)sum;
        }
    }
}

static void run_groups(const ls_call *call, const ls_run *run, ls_range_fn range) {
    const layer_norm *s = call->state;
    size_t chunk = LS_CHUNK / s->width;
    ls_ops_parallel(run->n_threads, s->n_groups, chunk ? chunk : 1, range, (void *)call);
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    run_groups(call, run, forward_range);
}

static void dx_kernel(const ls_call *call, const ls_run *run) {
    run_groups(call, run, dx_range);
}

static void dweight_kernel(const ls_call *call, const ls_run *run) {
    enum { COLUMNS = 16 }; /* a cache line: threads do not share one */
    ls_ops_parallel(run->n_threads, ((const layer_norm *)call->state)->width, COLUMNS, dweight_range, (void *)call);
}

static layer_norm *new_state(const ls_plan *p, const ls_node *node) {
    const ls_layer_norm_attr *a = node->attr;
    const ls_shape *in = &node->in[0]->shape;
    layer_norm *s = ls_xcalloc(1, sizeof *s);
    s->width = 1;
    for (int i = in->rank - a->n_axes; i < in->rank; i++) {
        s->width *= (size_t)in->dim[i];
    }
    s->n_groups = ls_plan_elems(p, node->in[0]) / s->width;
    s->epsilon = a->epsilon;
    return s;
}

typedef struct note {
    ls_ref src, statistics;
} note;

static ls_weight *gamma_of(const ls_node *node) {
    return ((const ls_layer_norm_attr *)node->attr)->scale ? node->weights[0] : NULL;
}

static ls_weight *beta_of(const ls_node *node) {
    const ls_layer_norm_attr *a = node->attr;
    return a->center ? node->weights[a->scale ? 1 : 0] : NULL;
}

/* A plain weight, or no reference when there is none. */
static ls_ref weight_ref(ls_plan *p, ls_weight *w) {
    if (w == NULL) {
        return (ls_ref){0};
    }
    LS_ASSERT(ls_plan_weight_layout(p, w, NULL) == NULL);
    return ls_plan_weight(p, w);
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    layer_norm *s = new_state(p, node);
    note *n = ls_xcalloc(1, sizeof *n);
    ls_plan_remember(p, node, n);
    n->src = ls_plan_in(p, node->in[0], LS_F32);
    n->statistics = ls_plan_temp(p, 2 * s->n_groups * sizeof(float));
    ls_ref dst = ls_plan_out(p, node->out[0], LS_F32);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "layer_norm.forward", node, forward_kernel, s, NULL);
    ls_call_arg(c, LS_READ, n->src);
    ls_call_arg(c, LS_READ, weight_ref(p, gamma_of(node)));
    ls_call_arg(c, LS_READ, weight_ref(p, beta_of(node)));
    ls_call_arg(c, LS_WRITE, dst);
    ls_call_arg(c, LS_WRITE, n->statistics);
    return LS_OK;
}

static ls_ref dweight_ref(ls_plan *p, const ls_weight *w) {
    return w != NULL && w->trainable ? ls_plan_dweight(p, w) : (ls_ref){0};
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const note *n = ls_plan_recall(p, node);
    ls_ref ddst = ls_plan_dout(p, node->out[0], LS_F32);
    if (!ls_ref_some(ddst)) {
        return LS_OK;
    }
    ls_ref dgamma = dweight_ref(p, gamma_of(node)), dbeta = dweight_ref(p, beta_of(node));
    if (ls_ref_some(dgamma) || ls_ref_some(dbeta)) {
        ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "layer_norm.backward_weights", node, dweight_kernel,
                                  new_state(p, node), NULL);
        ls_call_arg(c, LS_READ, n->src);
        ls_call_arg(c, LS_READ, ddst);
        ls_call_arg(c, LS_READ, n->statistics);
        ls_call_arg(c, LS_WRITE, dgamma);
        ls_call_arg(c, LS_WRITE, dbeta);
    }
    if (ls_plan_wants_grad(p, node->in[0])) {
        ls_ref dsrc = ls_plan_din(p, node->in[0], LS_F32), gamma = weight_ref(p, gamma_of(node));
        ls_call *c =
            ls_plan_emit(p, LS_PHASE_BACKWARD, "layer_norm.backward_data", node, dx_kernel, new_state(p, node), NULL);
        ls_call_arg(c, LS_READ, n->src);
        ls_call_arg(c, LS_READ, gamma);
        ls_call_arg(c, LS_READ, ddst);
        ls_call_arg(c, LS_READ, n->statistics);
        ls_call_arg(c, LS_WRITE, dsrc);
    }
    return LS_OK;
}

const ls_operator ls_op_layer_norm = {"layer_norm", forward, backward, NULL};
