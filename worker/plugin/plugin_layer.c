/*
 * Layers of plugins: one node with an operator of its own.
 *
 * A batch is cut into at most PIECES parts by the number of its rows alone; threads take parts. Each part writes its
 * own sums of weight gradients, which are then added in order: the bits do not depend on the number of threads.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/layers/layer.h"
#include "worker/ops/ops_common.h"
#include "worker/plan/failure.h"
#include "worker/plan/operator.h"
#include "worker/plugin/plugin_private.h"

enum { PIECES = 16, MAX_KEYS_TEXT = 1000 };

_Static_assert((int)LOCKSTEP_MAX_RANK == (int)LS_MAX_RANK, "shapes go over as they are");

typedef struct {
    ls_layer_class class_;
    const lockstep_layer *own;
    const char *path;
} plugin_layer;

/* Of a node: where it came from, and what its kernels are given. */
typedef struct {
    const plugin_layer *layer;
    lockstep_value settings[LOCKSTEP_MAX_KEYS];
    lockstep_shape in, out;
    size_t n_weight[LOCKSTEP_MAX_WEIGHTS]; /* elements */
} layer_attr;

/* ---- building ---- */

static lockstep_shape to_plugin(const ls_shape *s) {
    lockstep_shape out = {.rank = s->rank};
    memcpy(out.dim, s->dim, sizeof out.dim);
    return out;
}

static ls_shape from_plugin(const lockstep_shape *s) {
    ls_shape out = {.rank = s->rank};
    memcpy(out.dim, s->dim, sizeof out.dim);
    return out;
}

static bool good_shape(const lockstep_shape *s, int least_rank) {
    int64_t n = 1;
    bool good = s->rank >= least_rank && s->rank <= LOCKSTEP_MAX_RANK;
    for (int i = 0; good && i < s->rank; i++) {
        good = s->dim[i] >= 1 && !__builtin_mul_overflow(n, s->dim[i], &n) && n <= INT64_C(1) << 34;
    }
    return good;
}

/* Asks the plugin for the shapes. */
static ls_status find_shapes(const ls_layer_call *call, layer_attr *a, lockstep_shape *weights, ls_err *err) {
    const lockstep_layer *own = a->layer->own;
    char text[LS_PLUGIN_TEXT] = "";
    lockstep_error error = {text, sizeof text};
    a->in = a->out = to_plugin(&call->in[0]->shape);
    if (own->shape != NULL && own->shape(a->settings, &a->in, &a->out, weights, &error) != 0) {
        return ls_layer_fail(call, err, "%s", text[0] ? text : "its plugin refuses this input without a reason");
    }
    if (!good_shape(&a->out, 1)) {
        return ls_layer_fail(call, err, "plugin %s gives an output shape of rank %d, or with a length below 1",
                             a->layer->path, (int)a->out.rank);
    }
    for (int i = 0; i < own->n_weights; i++) {
        if (!good_shape(&weights[i], 0)) {
            return ls_layer_fail(call, err,
                                 "plugin %s gives weight \"%s\" a shape of rank %d, or with a length below 1",
                                 a->layer->path, own->weights[i].name, (int)weights[i].rank);
        }
    }
    return LS_OK;
}

static const ls_operator op_plugin;

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    layer_attr a = {.layer = (const plugin_layer *)call->layer->class_};
    const lockstep_layer *own = a.layer->own;
    lockstep_shape shapes[LOCKSTEP_MAX_WEIGHTS] = {{0}};
    ls_weight *weights[LOCKSTEP_MAX_WEIGHTS];
    LS_TRY(ls_settings_check(own->keys, own->check, call->config, a.settings, err));
    LS_TRY(find_shapes(call, &a, shapes, err));
    for (int i = 0; i < own->n_weights; i++) {
        const lockstep_weight *w = &own->weights[i];
        const ls_shape shape = from_plugin(&shapes[i]);
        LS_TRY(ls_builder_weight(b, call, w->name, w->name, w->initializer != NULL ? w->initializer : "glorot_uniform",
                                 &shape, &weights[i], err));
        a.n_weight[i] = (size_t)ls_shape_elems(&shape);
    }
    const ls_shape out = from_plugin(&a.out);
    ls_node *node =
        ls_builder_node(b, call->layer, &op_plugin, &a, sizeof a, 1, call->in, own->n_weights, weights, 1, &out);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return LS_OK;
}

/* ---- kernels ---- */

typedef struct {
    const layer_attr *attr;
    size_t n_rows, piece; /* rows, rows of a part */
    size_t n_in, n_out;   /* elements of a row */
    bool training;
} layer_state;

/* Arguments of a call. Forward: x, y, then the weights. Backward: x, y, dy, dx, the parts' sums, then the weights and
 * then where their gradients go. */
enum { ARG_X, ARG_Y, ARG_WEIGHTS, ARG_DY = 2, ARG_DX, ARG_PARTS, ARG_BACKWARD_WEIGHTS };

typedef struct {
    const layer_state *s;
    const ls_call *call;
    size_t n_partial; /* elements of the weight gradients that are asked for: one part's sums */
} layer_work;

static void report(const layer_work *w, const char *what, const char *text) {
    ls_failure_report(LS_ELIBRARY, "layer \"%s\" (%s of plugin %s), %s: %s", w->call->node->layer->path,
                      w->s->attr->layer->own->name, w->s->attr->layer->path, what,
                      text[0] ? text : "failed without a reason");
}

static lockstep_pass make_pass(const layer_work *w, size_t n_rows, int first_weight) {
    const layer_attr *a = w->s->attr;
    lockstep_pass pass = {
        .settings = a->settings, .in = a->in, .out = a->out, .n_rows = (int64_t)n_rows, .training = w->s->training};
    for (int i = 0; i < a->layer->own->n_weights; i++) {
        pass.weights[i] = w->call->args[first_weight + i].p;
    }
    return pass;
}

static void forward_range(void *context, size_t begin, size_t end) {
    const layer_work *w = context;
    const layer_state *s = w->s;
    char text[LS_PLUGIN_TEXT] = "";
    lockstep_error error = {text, sizeof text};
    const float *x = (const float *)w->call->args[ARG_X].p + begin * s->n_in;
    float *y = (float *)w->call->args[ARG_Y].p + begin * s->n_out;
    const lockstep_pass pass = make_pass(w, end - begin, ARG_WEIGHTS);
    if (s->attr->layer->own->forward(&pass, x, y, &error) != 0) {
        memset(y, 0, (end - begin) * s->n_out * sizeof *y);
        report(w, "forward", text);
    }
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    layer_work w = {.s = call->state, .call = call};
    ls_ops_parallel(run->n_threads, w.s->n_rows, w.s->piece, forward_range, &w);
}

static void backward_range(void *context, size_t begin, size_t end) {
    const layer_work *w = context;
    const layer_state *s = w->s;
    const lockstep_layer *own = s->attr->layer->own;
    const ls_arg *args = w->call->args;
    char text[LS_PLUGIN_TEXT] = "";
    lockstep_error error = {text, sizeof text};
    float *dx = args[ARG_DX].p != NULL ? (float *)args[ARG_DX].p + begin * s->n_in : NULL;
    float *parts = args[ARG_PARTS].p, *mine = parts != NULL ? parts + begin / s->piece * w->n_partial : NULL;
    float *dweights[LOCKSTEP_MAX_WEIGHTS] = {NULL}, *next = mine;
    for (int i = 0; i < own->n_weights; i++) {
        if (args[ARG_BACKWARD_WEIGHTS + own->n_weights + i].p != NULL) {
            dweights[i] = next;
            next += s->attr->n_weight[i];
        }
    }
    const lockstep_pass pass = make_pass(w, end - begin, ARG_BACKWARD_WEIGHTS);
    if (own->backward(&pass, (const float *)args[ARG_X].p + begin * s->n_in,
                      (const float *)args[ARG_Y].p + begin * s->n_out, (const float *)args[ARG_DY].p + begin * s->n_out,
                      dx, dweights, &error) != 0) {
        if (dx != NULL) {
            memset(dx, 0, (end - begin) * s->n_in * sizeof *dx);
        }
        if (mine != NULL) {
            memset(mine, 0, w->n_partial * sizeof *mine);
        }
        report(w, "backward", text);
    }
}

/* dweight = the sum over parts, in their order. */
static void add_parts(const layer_work *w) {
    const layer_state *s = w->s;
    const int n_weights = s->attr->layer->own->n_weights;
    const size_t n_parts = (s->n_rows + s->piece - 1) / s->piece;
    const float *part = w->call->args[ARG_PARTS].p;
    for (int i = 0; i < n_weights; i++) {
        float *dweight = w->call->args[ARG_BACKWARD_WEIGHTS + n_weights + i].p;
        if (dweight == NULL) {
            continue;
        }
        memcpy(dweight, part, s->attr->n_weight[i] * sizeof *dweight);
        for (size_t k = 1; k < n_parts; k++) {
            for (size_t e = 0; e < s->attr->n_weight[i]; e++) {
                dweight[e] += part[k * w->n_partial + e];
            }
        }
        part += s->attr->n_weight[i];
    }
}

static size_t n_partial(const layer_attr *a, const ls_node *node) {
    size_t n = 0;
    for (int i = 0; i < node->n_weights; i++) {
        n += node->weights[i]->trainable ? a->n_weight[i] : 0;
    }
    return n;
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    const layer_state *s = call->state;
    layer_work w = {.s = s, .call = call, .n_partial = n_partial(s->attr, call->node)};
    ls_ops_parallel(run->n_threads, s->n_rows, s->piece, backward_range, &w);
    add_parts(&w);
}

/* ---- the operator ---- */

typedef struct {
    ls_ref x, y, weights[LOCKSTEP_MAX_WEIGHTS];
} layer_note;

static layer_state *new_state(const ls_plan *p, const ls_node *node) {
    const layer_attr *a = node->attr;
    layer_state *s = ls_xcalloc(1, sizeof *s);
    *s = (layer_state){.attr = a, .training = ls_plan_training(p), .n_rows = (size_t)ls_plan_rows(p, node->in[0])};
    s->piece = (s->n_rows + PIECES - 1) / PIECES;
    s->n_in = (size_t)ls_shape_elems(&node->in[0]->shape);
    s->n_out = (size_t)ls_shape_elems(&node->out[0]->shape);
    return s;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    layer_note *note = ls_xcalloc(1, sizeof *note);
    note->x = ls_plan_in(p, node->in[0], LS_F32);
    for (int i = 0; i < node->n_weights; i++) {
        ls_plan_weight_layout(p, node->weights[i], NULL);
        note->weights[i] = ls_plan_weight(p, node->weights[i]);
    }
    note->y = ls_plan_out(p, node->out[0], LS_F32);
    ls_plan_remember(p, node, note);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "plugin.forward", node, forward_kernel, new_state(p, node), NULL);
    ls_call_arg(c, LS_READ, note->x);
    ls_call_arg(c, LS_WRITE, note->y);
    for (int i = 0; i < node->n_weights; i++) {
        ls_call_arg(c, LS_READ, note->weights[i]);
    }
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const layer_attr *a = node->attr;
    const layer_note *note = ls_plan_recall(p, node);
    const ls_ref none = {LS_REF_NONE, 0, 0};
    const size_t partial = n_partial(a, node);
    ls_ref dy = ls_plan_dout(p, node->out[0], LS_F32);
    if (a->layer->own->backward == NULL || !ls_ref_some(dy)) {
        return LS_OK;
    }
    ls_ref dx = ls_plan_wants_grad(p, node->in[0]) ? ls_plan_din(p, node->in[0], LS_F32) : none;
    if (!ls_ref_some(dx) && partial == 0) {
        return LS_OK;
    }
    ls_ref dweights[LOCKSTEP_MAX_WEIGHTS] = {{0}};
    for (int i = 0; i < node->n_weights; i++) {
        dweights[i] = node->weights[i]->trainable ? ls_plan_dweight(p, node->weights[i]) : none;
    }
    ls_ref parts = partial > 0 ? ls_plan_temp(p, PIECES * partial * sizeof(float)) : none;
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "plugin.backward", node, backward_kernel, new_state(p, node), NULL);
    ls_call_arg(c, LS_READ, note->x);
    ls_call_arg(c, LS_READ, note->y);
    ls_call_arg(c, LS_READ, dy);
    ls_call_arg(c, LS_WRITE, dx);
    ls_call_arg(c, LS_READWRITE, parts);
    for (int i = 0; i < node->n_weights; i++) {
        ls_call_arg(c, LS_READ, note->weights[i]);
    }
    for (int i = 0; i < node->n_weights; i++) {
        ls_call_arg(c, LS_WRITE, dweights[i]);
    }
    return LS_OK;
}

static const ls_operator op_plugin = {.name = "plugin", .forward = forward, .backward = backward};

/* ---- the row ---- */

static ls_status check_row(const lockstep_layer *row, const char *where, ls_err *err) {
    if (row->forward == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: has no function forward", where);
    }
    if (row->n_weights < 0 || row->n_weights > LOCKSTEP_MAX_WEIGHTS) {
        return ls_fail(err, LS_EINPUT, "%s: has %d weights; expected 0 to %d", where, row->n_weights,
                       LOCKSTEP_MAX_WEIGHTS);
    }
    if (row->n_weights > 0 && row->backward == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: has weights but no function backward that gives their gradients", where);
    }
    for (int i = 0; i < row->n_weights; i++) {
        const char *name = row->weights[i].name;
        if (name == NULL || name[0] == '\0' || strlen(name) > 32 || strpbrk(name, " /:\"\\\n") != NULL) {
            return ls_fail(err, LS_EINPUT, "%s: weight %d needs a name of 1 to 32 letters, digits and _", where, i + 1);
        }
        for (int k = 0; k < i; k++) {
            if (strcmp(name, row->weights[k].name) == 0) {
                return ls_fail(err, LS_EINPUT, "%s: has two weights \"%s\"", where, name);
            }
        }
    }
    return LS_OK;
}

ls_status ls_plugin_add_layer(ls_pool *pool, const char *path, const lockstep_layer *row, ls_err *err) {
    plugin_layer *l = ls_pool_alloc(pool, sizeof *l);
    const char *where = ls_pool_printf(pool, "%s: layer \"%s\"", path, row->name != NULL ? row->name : "");
    char *keys;
    LS_TRY(ls_plugin_keys(pool, row->keys, where, &keys, err));
    LS_TRY(check_row(row, where, err));
    for (int i = 0; i < row->n_weights; i++) {
        const char *name = row->weights[i].name;
        keys = ls_pool_printf(pool, "%s%s%s_initializer %s_regularizer %s_constraint", keys, keys[0] ? " " : "", name,
                              name, name);
    }
    if (strlen(keys) > MAX_KEYS_TEXT) {
        return ls_fail(err, LS_EINPUT, "%s: the names of its keys are longer than %d characters together", where,
                       (int)MAX_KEYS_TEXT);
    }
    *l = (plugin_layer){
        .class_ = {.name = row->name, .keys = keys, .min_in = 1, .max_in = 1, .masks = row->masks != 0, .build = build},
        .own = row,
        .path = path};
    return ls_layer_class_add(&l->class_, path, err);
}
