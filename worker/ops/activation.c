/* Element-wise activations, one row each, and softmax. */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/act_function.h"
#include "worker/ops/ops_common.h"
#include "worker/ops/vmath.h"

/* y = f(x) and dx = dy f'(x) over n elements. v is y where the row says that the derivative is taken from the result,
 * else x. dx may be dy's memory. */
typedef void (*forward_fn)(const ls_act_attr *a, const float *x, float *y, size_t n);
typedef void (*backward_fn)(const ls_act_attr *a, const float *v, const float *dy, float *dx, size_t n);

/* Defines <name>_forward and <name>_backward from the formulas for one element. */
#define ELEMENTWISE(name, value, slope)                                                                         \
    static void name##_forward(const ls_act_attr *a, const float *restrict from, float *restrict y, size_t n) { \
        const float alpha = a->alpha, threshold = a->threshold, max_value = a->max_value;                       \
        (void)alpha, (void)threshold, (void)max_value;                                                          \
        for (size_t i = 0; i < n; i++) {                                                                        \
            const float x = from[i];                                                                            \
            y[i] = value;                                                                                       \
        }                                                                                                       \
    }                                                                                                           \
    static void name##_backward(const ls_act_attr *a, const float *restrict from, const float *dy, float *dx,   \
                                size_t n) {                                                                     \
        const float alpha = a->alpha, threshold = a->threshold, max_value = a->max_value;                       \
        (void)alpha, (void)threshold, (void)max_value;                                                          \
        _Pragma("GCC ivdep") for (size_t i = 0; i < n; i++) {                                                   \
            const float v = from[i];                                                                            \
            dx[i] = dy[i] * (slope);                                                                            \
        }                                                                                                       \
    }

#define SELU_SCALE 1.05070098735548049342f
#define SELU_ALPHA 1.67326324235437728481f

static inline float gelu(float x, bool tanh_form) {
    float t =
        tanh_form ? ls_tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)) : ls_erff(x * 0.70710678118654752f);
    return 0.5f * x * (1.0f + t);
}

static inline float gelu_slope(float x, bool tanh_form) {
    if (tanh_form) {
        float t = ls_tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x));
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.7978845608028654f * (1.0f + 3.0f * 0.044715f * x * x);
    }
    return 0.5f * (1.0f + ls_erff(x * 0.70710678118654752f)) + x * 0.3989422804014327f * ls_expf(-0.5f * x * x);
}

static inline float swish_slope(float x) {
    float s = ls_sigmoidf(x);
    return s + x * s * (1.0f - s);
}

static inline float square(float x) {
    return x * x;
}

/* clang-format off */
/*          name          y from x                                                            dy/dx from v */
ELEMENTWISE(relu,         x >= max_value ? max_value : x >= threshold ? x : alpha * (x - threshold),
                          v >= max_value ? 0.0f : v > threshold ? 1.0f : alpha)
ELEMENTWISE(plain_relu,   x <= 0.0f ? 0.0f : x,                                               v > 0.0f ? 1.0f : 0.0f)
ELEMENTWISE(sigmoid,      ls_sigmoidf(x),                                                     v * (1.0f - v))
ELEMENTWISE(tanh,         ls_tanhf(x),                                                        1.0f - v * v)
ELEMENTWISE(elu,          x > 0.0f ? x : alpha * ls_expm1f_negative(x),                       v > 0.0f ? 1.0f : alpha * ls_expf(v))
ELEMENTWISE(selu,         SELU_SCALE * (x > 0.0f ? x : SELU_ALPHA * ls_expm1f_negative(x)),
                          v > 0.0f ? SELU_SCALE : v + SELU_SCALE * SELU_ALPHA)
ELEMENTWISE(softplus,     (x <= 0.0f ? 0.0f : x) + ls_log1pf_unit(ls_expf(-fabsf(x))),     ls_sigmoidf(v))
ELEMENTWISE(softsign,     x / (1.0f + fabsf(x)),                                              1.0f / square(1.0f + fabsf(v)))
ELEMENTWISE(hard_sigmoid, x < -2.5f ? 0.0f : x > 2.5f ? 1.0f : 0.2f * x + 0.5f,               v < -2.5f || v > 2.5f ? 0.0f : 0.2f)
ELEMENTWISE(exponential,  ls_expf(x),                                                         v)
ELEMENTWISE(swish,        x * ls_sigmoidf(x),                                                 swish_slope(v))
ELEMENTWISE(gelu_erf,     gelu(x, false),                                                     gelu_slope(v, false))
ELEMENTWISE(gelu_tanh,    gelu(x, true),                                                      gelu_slope(v, true))
ELEMENTWISE(linear,       x,                                                                  v * 0.0f + 1.0f)
ELEMENTWISE(step,         x > threshold ? 1.0f : 0.0f,                                        v * 0.0f)
/* clang-format on */

typedef struct act_row {
    forward_fn forward;
    backward_fn backward;
    bool from_result; /* the derivative is taken from y */
} act_row;

static const act_row rows[LS_ACT_COUNT] = {
    [LS_ACT_RELU] = {relu_forward, relu_backward, false},
    [LS_ACT_SIGMOID] = {sigmoid_forward, sigmoid_backward, true},
    [LS_ACT_TANH] = {tanh_forward, tanh_backward, true},
    [LS_ACT_ELU] = {elu_forward, elu_backward, false},
    [LS_ACT_SELU] = {selu_forward, selu_backward, true},
    [LS_ACT_SOFTPLUS] = {softplus_forward, softplus_backward, false},
    [LS_ACT_SOFTSIGN] = {softsign_forward, softsign_backward, false},
    [LS_ACT_HARD_SIGMOID] = {hard_sigmoid_forward, hard_sigmoid_backward, false},
    [LS_ACT_EXPONENTIAL] = {exponential_forward, exponential_backward, true},
    [LS_ACT_SWISH] = {swish_forward, swish_backward, false},
    [LS_ACT_GELU] = {gelu_erf_forward, gelu_erf_backward, false},
    [LS_ACT_STEP] = {step_forward, step_backward, false},
};
static const act_row plain_relu_row = {plain_relu_forward, plain_relu_backward, true};
static const act_row gelu_tanh_row = {gelu_tanh_forward, gelu_tanh_backward, false};

static const char *const words[LS_ACT_COUNT] = {
#define X(name, word) word,
    LS_ACTIVATION_LIST(X)
#undef X
};

static bool plain_relu(const ls_act_attr *a) {
    return a->kind == LS_ACT_RELU && a->alpha == 0.0f && a->threshold == 0.0f && isinf(a->max_value);
}

static const act_row *row_of(const ls_act_attr *a) {
    return plain_relu(a)                                ? &plain_relu_row
           : a->kind == LS_ACT_GELU && a->alpha == 1.0f ? &gelu_tanh_row
                                                        : &rows[a->kind];
}

static const char *word(const ls_node *node) {
    const ls_act_attr *a = node->attr;
    if (a->kind == LS_ACT_RELU && !plain_relu(a)) {
        return NULL;
    }
    if (a->kind == LS_ACT_SOFTMAX && a->axis != node->in[0]->shape.rank - 1) {
        return NULL;
    }
    return words[a->kind];
}

bool ls_act_is_plain_relu(const ls_node *activation) {
    return activation->op == &ls_op_activation && plain_relu(activation->attr);
}

/* ---- element-wise ---- */

typedef struct act_state {
    const ls_act_attr *attr;
    const act_row *row;
    size_t n;
    ls_dtype dtype;
} act_state;

typedef struct act_work {
    const act_state *s;
    const void *from, *dy; /* dy NULL: forward */
    void *to;
} act_work;

enum { BLOCK = 512 }; /* bfloat16 goes through single precision by blocks that stay in the first-level cache */

static void act_range(void *context, size_t begin, size_t end) {
    const act_work *w = context;
    const act_state *s = w->s;
    if (s->dtype == LS_F32) {
        const float *from = (const float *)w->from + begin;
        float *to = (float *)w->to + begin;
        if (w->dy == NULL) {
            s->row->forward(s->attr, from, to, end - begin);
        } else {
            s->row->backward(s->attr, from, (const float *)w->dy + begin, to, end - begin);
        }
        return;
    }
    float a[BLOCK], b[BLOCK];
    for (size_t i = begin; i < end; i += BLOCK) {
        size_t n = end - i < BLOCK ? end - i : BLOCK;
        ls_load_f32(LS_BF16, w->from, i, a, n);
        if (w->dy == NULL) {
            s->row->forward(s->attr, a, b, n);
        } else {
            ls_load_f32(LS_BF16, w->dy, i, b, n);
            s->row->backward(s->attr, a, b, b, n);
        }
        ls_store_f32(LS_BF16, w->to, i, b, n);
    }
}

static void act_forward_kernel(const ls_call *call, const ls_run *run) {
    const act_state *s = call->state;
    act_work w = {s, call->args[0].p, NULL, call->args[1].p};
    ls_ops_parallel(run->n_threads, s->n, LS_CHUNK, act_range, &w);
}

static void act_backward_kernel(const ls_call *call, const ls_run *run) {
    const act_state *s = call->state;
    act_work w = {s, call->args[0].p, call->args[1].p, call->args[2].p};
    ls_ops_parallel(run->n_threads, s->n, LS_CHUNK, act_range, &w);
}

/* ---- softmax ---- */

typedef struct softmax_state {
    size_t outer, len, inner; /* (outer, len, inner), softmax along len */
} softmax_state;

typedef struct softmax_work {
    const softmax_state *s;
    const float *x, *dy; /* x or y; dy NULL: forward */
    float *to;
} softmax_work;

enum { LANES = 16 };

static float row_max(const float *x, size_t n) {
    float m[LANES];
    size_t i = 0;
    for (int l = 0; l < LANES; l++) {
        m[l] = -INFINITY;
    }
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            m[l] = x[i + (size_t)l] > m[l] ? x[i + (size_t)l] : m[l];
        }
    }
    for (; i < n; i++) {
        m[0] = x[i] > m[0] ? x[i] : m[0];
    }
    for (int l = 1; l < LANES; l++) {
        m[0] = m[l] > m[0] ? m[l] : m[0];
    }
    return m[0];
}

/* sum of x[i] * y[i], y NULL: of x[i]; in an order that depends on n alone. */
static float row_sum(const float *x, const float *y, size_t n) {
    float s[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            s[l] += y != NULL ? x[i + (size_t)l] * y[i + (size_t)l] : x[i + (size_t)l];
        }
    }
    for (; i < n; i++) {
        s[0] += y != NULL ? x[i] * y[i] : x[i];
    }
    for (int step = LANES / 2; step > 0; step /= 2) {
        for (int l = 0; l < step; l++) {
            s[l] += s[l + step];
        }
    }
    return s[0];
}

static void softmax_row(const float *restrict x, float *restrict y, size_t n) {
    float top = row_max(x, n);
    for (size_t i = 0; i < n; i++) {
        y[i] = ls_expf(x[i] - top);
    }
    float scale = 1.0f / row_sum(y, NULL, n);
    for (size_t i = 0; i < n; i++) {
        y[i] *= scale;
    }
}

static void softmax_row_backward(const float *y, const float *dy, float *dx, size_t n) {
    float dot = row_sum(y, dy, n);
    for (size_t i = 0; i < n; i++) {
        dx[i] = y[i] * (dy[i] - dot);
    }
}

/* One outer index of a softmax that is not along the last axis: columns of stride `inner`. */
static void softmax_columns(const softmax_state *s, const float *x, float *y) {
    for (size_t c = 0; c < s->inner; c++) {
        float top = -INFINITY, sum = 0.0f;
        for (size_t i = 0; i < s->len; i++) {
            top = x[i * s->inner + c] > top ? x[i * s->inner + c] : top;
        }
        for (size_t i = 0; i < s->len; i++) {
            y[i * s->inner + c] = ls_expf(x[i * s->inner + c] - top);
            sum += y[i * s->inner + c];
        }
        for (size_t i = 0; i < s->len; i++) {
            y[i * s->inner + c] /= sum;
        }
    }
}

static void softmax_columns_backward(const softmax_state *s, const float *y, const float *dy, float *dx) {
    for (size_t c = 0; c < s->inner; c++) {
        float dot = 0.0f;
        for (size_t i = 0; i < s->len; i++) {
            dot += y[i * s->inner + c] * dy[i * s->inner + c];
        }
        for (size_t i = 0; i < s->len; i++) {
            dx[i * s->inner + c] = y[i * s->inner + c] * (dy[i * s->inner + c] - dot);
        }
    }
}

static void softmax_range(void *context, size_t begin, size_t end) {
    const softmax_work *w = context;
    const softmax_state *s = w->s;
    size_t step = s->len * s->inner;
    for (size_t o = begin; o < end; o++) {
        const float *x = w->x + o * step, *dy = w->dy != NULL ? w->dy + o * step : NULL;
        float *to = w->to + o * step;
        if (s->inner == 1 && dy == NULL) {
            softmax_row(x, to, s->len);
        } else if (s->inner == 1) {
            softmax_row_backward(x, dy, to, s->len);
        } else if (dy == NULL) {
            softmax_columns(s, x, to);
        } else {
            softmax_columns_backward(s, x, dy, to);
        }
    }
}

static void run_softmax(const softmax_state *s, softmax_work *w, int n_threads) {
    size_t chunk = LS_CHUNK / (s->len * s->inner);
    ls_ops_parallel(n_threads, s->outer, chunk ? chunk : 1, softmax_range, w);
}

static void softmax_forward_kernel(const ls_call *call, const ls_run *run) {
    softmax_work w = {call->state, call->args[0].p, NULL, call->args[1].p};
    run_softmax(call->state, &w, run->n_threads);
}

static void softmax_backward_kernel(const ls_call *call, const ls_run *run) {
    softmax_work w = {call->state, call->args[0].p, call->args[1].p, call->args[2].p};
    run_softmax(call->state, &w, run->n_threads);
}

static softmax_state *new_softmax(const ls_plan *p, const ls_node *node) {
    const ls_act_attr *a = node->attr;
    const ls_shape *shape = &node->in[0]->shape;
    softmax_state *s = ls_xcalloc(1, sizeof *s);
    s->len = (size_t)shape->dim[a->axis];
    s->inner = 1;
    for (int i = a->axis + 1; i < shape->rank; i++) {
        s->inner *= (size_t)shape->dim[i];
    }
    s->outer = ls_plan_elems(p, node->in[0]) / (s->len * s->inner);
    return s;
}

static void softmax_function(const ls_act_attr *a, const float *x, float *y, size_t n) {
    (void)a;
    softmax_row(x, y, n);
}

static void softmax_function_backward(const ls_act_attr *a, const float *y, const float *dy, float *dx, size_t n) {
    (void)a;
    softmax_row_backward(y, dy, dx, n);
}

ls_act_function ls_act_function_of(const ls_act_attr *attr) {
    if (attr->kind == LS_ACT_LINEAR) {
        return (ls_act_function){attr, linear_forward, linear_backward, true};
    }
    if (attr->kind == LS_ACT_SOFTMAX) {
        return (ls_act_function){attr, softmax_function, softmax_function_backward, true};
    }
    const act_row *row = row_of(attr);
    return (ls_act_function){attr, row->forward, row->backward, row->from_result};
}

/* ---- the operator ---- */

/* What forward leaves for backward: the values that the derivative is taken from, and their type. */
typedef struct act_note {
    ls_ref from;
    ls_dtype dtype;
} act_note;

static bool is_model_output(const ls_tensor *t) {
    for (int i = 0; i < t->n_consumers; i++) {
        if (t->consumers[i] == NULL) {
            return true;
        }
    }
    return false;
}

/* Predictions and softmax stay in single precision. */
static ls_dtype work_dtype(const ls_plan *p, const ls_node *node) {
    const ls_act_attr *a = node->attr;
    bool f32 = a->kind == LS_ACT_SOFTMAX || is_model_output(node->out[0]);
    return f32 ? LS_F32 : ls_plan_stored(p, node->in[0]);
}

static act_state *new_state(const ls_plan *p, const ls_node *node, ls_dtype dtype) {
    act_state *s = ls_xcalloc(1, sizeof *s);
    *s = (act_state){node->attr, row_of(node->attr), ls_plan_elems(p, node->in[0]), dtype};
    return s;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const ls_act_attr *a = node->attr;
    ls_dtype dtype = work_dtype(p, node);
    ls_ref src = ls_plan_in(p, node->in[0], dtype);
    if (a->kind == LS_ACT_LINEAR) {
        ls_plan_out_view(p, node->out[0], src, dtype);
        return LS_OK;
    }
    bool softmax = a->kind == LS_ACT_SOFTMAX;
    act_note *note = ls_xcalloc(1, sizeof *note);
    ls_ref dst = ls_plan_out(p, node->out[0], dtype);
    *note = (act_note){softmax || row_of(a)->from_result ? dst : src, dtype};
    ls_plan_remember(p, node, note);
    ls_call *c = softmax ? ls_plan_emit(p, LS_PHASE_FORWARD, "softmax.forward", node, softmax_forward_kernel,
                                        new_softmax(p, node), NULL)
                         : ls_plan_emit(p, LS_PHASE_FORWARD, "activation.forward", node, act_forward_kernel,
                                        new_state(p, node, dtype), NULL);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_WRITE, dst);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const ls_act_attr *a = node->attr;
    if (!ls_plan_wants_grad(p, node->in[0])) {
        return LS_OK;
    }
    if (a->kind == LS_ACT_LINEAR) {
        ls_dtype stored = ls_plan_stored(p, node->out[0]);
        ls_ref same = ls_plan_dout(p, node->out[0], stored);
        if (ls_ref_some(same)) {
            ls_plan_din_view(p, node->in[0], same, stored);
        }
        return LS_OK;
    }
    const act_note *note = ls_plan_recall(p, node);
    ls_ref dout = ls_plan_dout(p, node->out[0], note->dtype);
    if (!ls_ref_some(dout)) {
        return LS_OK;
    }
    bool in_place = ls_plan_dout_exclusive(p, node->out[0]);
    ls_ref din = dout;
    if (in_place) {
        ls_plan_din_view(p, node->in[0], dout, note->dtype);
    } else {
        din = ls_plan_din(p, node->in[0], note->dtype);
    }
    ls_call *c = a->kind == LS_ACT_SOFTMAX ? ls_plan_emit(p, LS_PHASE_BACKWARD, "softmax.backward", node,
                                                          softmax_backward_kernel, new_softmax(p, node), NULL)
                                           : ls_plan_emit(p, LS_PHASE_BACKWARD, "activation.backward", node,
                                                          act_backward_kernel, new_state(p, node, note->dtype), NULL);
    ls_call_arg(c, LS_READ, note->from);
    ls_call_arg(c, in_place ? LS_READWRITE : LS_READ, dout);
    ls_call_arg(c, LS_WRITE, din);
    return LS_OK;
}

const ls_operator ls_op_activation = {"activation", forward, backward, NULL, word};
