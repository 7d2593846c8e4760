/* Compiling: the graph is walked forward and backward, and operators add their calls. */
#include "worker/plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "worker/dnn/dnn.h"
#include "worker/plan/plan_guard.h"
#include "worker/plan/plan_internal.h"

static const ls_ref NO_REF = {LS_REF_NONE, 0, 0};

bool ls_plan_training(const ls_plan *p) {
    return p->options.training;
}
int64_t ls_plan_samples(const ls_plan *p) {
    return p->options.n_samples;
}
int64_t ls_plan_rows(const ls_plan *p, const ls_tensor *t) {
    return p->options.n_samples * t->rows;
}
size_t ls_plan_elems(const ls_plan *p, const ls_tensor *t) {
    return (size_t)(ls_plan_rows(p, t) * ls_shape_elems(&t->shape));
}
ls_dtype ls_plan_compute(const ls_plan *p) {
    return p->options.compute;
}
bool ls_plan_direct_convolution(const ls_plan *p) {
    return p->options.direct_convolution;
}
int ls_plan_threads(const ls_plan *p) {
    return p->options.n_threads;
}
bool ls_plan_cut(const ls_plan *p) {
    return p->options.cut;
}
bool ls_plan_sync_batch_norm(const ls_plan *p) {
    return p->options.sync_batch_norm;
}
const ls_node *ls_plan_fused(const ls_plan *p, const ls_node *node) {
    return p->fused[node->id];
}
bool ls_plan_absorbed(const ls_plan *p, const ls_node *node) {
    return p->absorbed[node->id];
}

/* ---- calls and buffers ---- */

ls_call *ls_plan_emit(ls_plan *p, ls_phase phase, const char *label, const ls_node *node, ls_kernel run, void *state,
                      void (*destroy)(void *)) {
    call_list *list = &p->list[phase];
    ls_call call = {
        .run = run, .state = state, .destroy = destroy != NULL ? destroy : free, .label = label, .node = node};
    LS_PUSH(list->calls, list->n, list->cap, call);
    return &list->calls[list->n - 1];
}

void ls_call_arg(ls_call *call, ls_access access, ls_ref ref) {
    LS_ASSERT(call->n_args < LS_CALL_ARGS);
    call->args[call->n_args++] = (ls_arg){.ref = ref, .access = access};
}

int ls_plan_new_buffer(ls_plan *p, size_t n_bytes) {
    size_t n_placed = ls_align_up(n_bytes ? n_bytes : 1, LS_ALIGN) + LS_GUARD_BYTES;
    plan_buffer b = {.n_asked = n_bytes, .n_bytes = n_placed, .first = -1, .last = -1};
    LS_PUSH(p->buffers, p->n_buffers, p->cap_buffers, b);
    return p->n_buffers - 1;
}

ls_ref ls_plan_temp(ls_plan *p, size_t n_bytes) {
    return (ls_ref){LS_REF_BUFFER, ls_plan_new_buffer(p, n_bytes), 0};
}

ls_ref ls_plan_persistent(ls_plan *p, size_t n_bytes) {
    ls_ref r = ls_plan_temp(p, n_bytes);
    p->buffers[r.index].persistent = true;
    return r;
}

void ls_plan_remember(ls_plan *p, const ls_node *node, void *note) {
    free(p->notes[node->id]);
    p->notes[node->id] = note;
}
void *ls_plan_recall(const ls_plan *p, const ls_node *node) {
    return p->notes[node->id];
}

/* ---- values ---- */

ls_dtype ls_plan_stored(const ls_plan *p, const ls_tensor *t) {
    return p->values[t->id].dtype;
}

static ls_ref as_dtype(ls_plan *p, ls_phase phase, plan_value *v, ls_dtype dtype, size_t n) {
    if (v->dtype == dtype) {
        return v->ref;
    }
    if (!ls_ref_some(v->other)) {
        ls_dtype from = v->dtype;
        ls_ref to = ls_plan_temp(p, n * ls_dtype_bytes(dtype));
        ls_plan_emit_convert(p, phase, v->ref, from, to, n);
        v->other = to;
    }
    return v->other;
}

ls_ref ls_plan_in(ls_plan *p, const ls_tensor *t, ls_dtype dtype) {
    plan_value *v = &p->values[t->id];
    LS_ASSERT(ls_ref_some(v->ref));
    LS_ASSERT((dtype == LS_I32) == (v->dtype == LS_I32));
    return as_dtype(p, p->phase, v, dtype, ls_plan_elems(p, t));
}

ls_ref ls_plan_out(ls_plan *p, const ls_tensor *t, ls_dtype dtype) {
    ls_ref r = ls_plan_temp(p, ls_plan_elems(p, t) * ls_dtype_bytes(dtype));
    ls_plan_out_view(p, t, r, dtype);
    return r;
}

void ls_plan_out_view(ls_plan *p, const ls_tensor *t, ls_ref same, ls_dtype dtype) {
    LS_ASSERT(!ls_ref_some(p->values[t->id].ref));
    p->values[t->id] = (plan_value){.ref = same, .dtype = dtype};
}

/* ---- gradients ---- */

bool ls_plan_wants_grad(const ls_plan *p, const ls_tensor *t) {
    return p->wants[t->id];
}

/* Adds what has come second to what has come first. */
static void add_up(ls_plan *p, const ls_tensor *t) {
    plan_value *g = &p->gradients[t->id];
    if (ls_ref_some(g->addend)) {
        size_t n = ls_plan_elems(p, t);
        ls_ref to = ls_plan_dout_exclusive(p, t) ? g->ref : ls_plan_temp(p, n * ls_dtype_bytes(g->dtype));
        ls_plan_emit_add(p, g->ref, g->addend, to, g->dtype, n);
        *g = (plan_value){.ref = to, .dtype = g->dtype};
    }
}

ls_ref ls_plan_dout_pair(ls_plan *p, const ls_tensor *t, ls_dtype dtype, ls_ref *second) {
    const plan_value *g = &p->gradients[t->id];
    *second = g->dtype == dtype ? g->addend : NO_REF;
    return ls_ref_some(*second) ? g->ref : ls_plan_dout(p, t, dtype);
}

ls_ref ls_plan_dout(ls_plan *p, const ls_tensor *t, ls_dtype dtype) {
    plan_value *g = &p->gradients[t->id];
    if (!ls_ref_some(g->ref)) {
        return NO_REF;
    }
    add_up(p, t);
    if (g->dtype != dtype) {
        ls_ref converted = as_dtype(p, LS_PHASE_BACKWARD, g, dtype, ls_plan_elems(p, t));
        *g = (plan_value){.ref = converted, .dtype = dtype};
    }
    return g->ref;
}

static bool same_buffer(ls_ref a, ls_ref b) {
    return a.kind == LS_REF_BUFFER && b.kind == LS_REF_BUFFER && a.index == b.index;
}

bool ls_plan_dout_exclusive(const ls_plan *p, const ls_tensor *t) {
    ls_ref mine = p->gradients[t->id].ref;
    if (mine.kind != LS_REF_BUFFER || p->buffers[mine.index].kept) {
        return false;
    }
    for (int i = 0; i < p->model->n_tensors; i++) {
        const plan_value *g = &p->gradients[i];
        if ((i != t->id && same_buffer(g->ref, mine)) || same_buffer(g->addend, mine)) {
            return false;
        }
    }
    return true;
}

static void add_pending(ls_plan *p, const ls_tensor *t, const ls_weight *w, ls_ref ref, ls_dtype dtype) {
    contribution c = {t, w, ref, dtype};
    LS_PUSH(p->pending, p->n_pending, p->cap_pending, c);
}

void ls_plan_din_view(ls_plan *p, const ls_tensor *t, ls_ref same, ls_dtype dtype) {
    plan_value *g = &p->gradients[t->id];
    if (ls_ref_some(g->ref)) {
        add_pending(p, t, NULL, same, dtype);
    } else {
        *g = (plan_value){.ref = same, .dtype = dtype};
    }
}

ls_ref ls_plan_din(ls_plan *p, const ls_tensor *t, ls_dtype dtype) {
    ls_ref r = ls_plan_temp(p, ls_plan_elems(p, t) * ls_dtype_bytes(dtype));
    ls_plan_din_view(p, t, r, dtype);
    return r;
}

/* Takes what one node's backward contributed beyond the first writer, in the order in which it was announced. The last
 * one of a tensor is added only when somebody asks for the sum, who may do so in passing. */
static void add_contributions(ls_plan *p) {
    for (int i = 0; i < p->n_pending; i++) {
        contribution c = p->pending[i];
        if (c.weight != NULL) {
            ls_ref sum = {LS_REF_DWEIGHT, c.weight->id, 0};
            ls_plan_emit_add(p, sum, c.ref, sum, LS_F32, p->arena->slot[c.weight->id].n_elems);
            continue;
        }
        add_up(p, c.tensor); /* what came before this one */
        plan_value *g = &p->gradients[c.tensor->id];
        if (g->dtype != c.dtype) { /* mixed: continue in f32 */
            size_t n = ls_plan_elems(p, c.tensor);
            ls_ref old = as_dtype(p, LS_PHASE_BACKWARD, g, LS_F32, n);
            plan_value second = {.ref = c.ref, .dtype = c.dtype};
            c.ref = as_dtype(p, LS_PHASE_BACKWARD, &second, LS_F32, n);
            c.dtype = LS_F32;
            *g = (plan_value){.ref = old, .dtype = LS_F32};
        }
        g->addend = c.ref;
    }
    p->n_pending = 0;
}

/* ---- weights ---- */

const ls_layout *ls_plan_weight_layout(ls_plan *p, ls_weight *w, const ls_layout *wanted) {
    ls_arena_slot *s = &p->arena->slot[w->id];
    if (!s->decided) {
        LS_ASSERT(!p->arena->placed);
        s->decided = true;
        s->layout = wanted;
        s->n_elems = wanted != NULL ? ls_layout_elems(wanted) : (size_t)ls_shape_elems(&w->shape);
    }
    return s->layout;
}

ls_ref ls_plan_weight(ls_plan *p, const ls_weight *w) {
    (void)p;
    return (ls_ref){LS_REF_WEIGHT, w->id, 0};
}

ls_ref ls_plan_find_copy(const ls_plan *p, const ls_weight *w, const ls_layout *layout, ls_dtype dtype) {
    for (int i = 0; i < p->n_copies; i++) {
        const weight_copy *c = &p->copies[i];
        if (c->weight == w && ls_layout_equal(c->layout, layout) && c->dtype == dtype) {
            return c->ref;
        }
    }
    return NO_REF;
}

void ls_plan_keep_copy(ls_plan *p, const ls_weight *w, const ls_layout *layout, ls_dtype dtype, ls_ref copy) {
    weight_copy c = {w, layout, dtype, copy};
    LS_PUSH(p->copies, p->n_copies, p->cap_copies, c);
}

ls_ref ls_plan_dweight(ls_plan *p, const ls_weight *w) {
    ls_arena_slot *s = &p->arena->slot[w->id];
    if (!s->decided) {
        s->decided = true;
        s->n_elems = (size_t)ls_shape_elems(&w->shape);
    }
    if (!p->written[w->id]) {
        p->written[w->id] = true;
        return (ls_ref){LS_REF_DWEIGHT, w->id, 0};
    }
    ls_ref r = ls_plan_temp(p, s->n_elems * sizeof(float));
    add_pending(p, NULL, w, r, LS_F32);
    return r;
}

/* A weight is sparse where it is worth while: a few chunks of the all-reduce at least. */
enum { LEAST_SPARSE = 16384 };

static bool used_once(const ls_model *m, const ls_node *node, const ls_weight *w) {
    for (int i = 0; i < m->n_nodes; i++) {
        for (int k = 0; m->nodes[i] != node && k < m->nodes[i]->n_weights; k++) {
            if (m->nodes[i]->weights[k] == w) {
                return false;
            }
        }
    }
    return true;
}

ls_ref ls_plan_marks(ls_plan *p, const ls_node *node, const ls_weight *w) {
    ls_arena_slot *s = &p->arena->slot[w->id];
    if (!p->arena->placed) { /* the first plan decides */
        s->sparse = p->arena->sparse && ls_shape_elems(&w->shape) >= LEAST_SPARSE && used_once(p->model, node, w);
    }
    return s->sparse ? (ls_ref){LS_REF_MARKS, w->id, 0} : NO_REF;
}

int ls_plan_turns(const ls_plan *p) {
    return p->options.turns > 1 ? p->options.turns : 1;
}

int ls_plan_wait(ls_plan *p, const ls_node *node, const ls_weight *w) {
    p->waits[w->id] = p->options.turns > 1 && !p->written[w->id] && used_once(p->model, node, w);
    return p->waits[w->id] ? p->options.turns : 1;
}

void ls_plan_dweight_upto(ls_plan *p, const ls_node *node, const ls_weight *w, ls_ref dw, size_t n) {
    if (dw.kind == LS_REF_DWEIGHT && used_once(p->model, node, w)) {
        gradient_piece piece = {w->id, p->list[LS_PHASE_BACKWARD].n - 1, n};
        LS_PUSH(p->pieces, p->n_pieces, p->cap_pieces, piece);
    }
}

/* ---- the walk ---- */

static bool node_learns(const ls_node *node) {
    for (int i = 0; i < node->n_weights; i++) {
        if (node->weights[i]->role == LS_WEIGHT_PARAM && node->weights[i]->trainable) {
            return true;
        }
    }
    return false;
}

static void find_wanted_gradients(ls_plan *p) {
    for (int i = 0; i < p->model->n_inputs; i++) {
        const ls_tensor *t = p->model->inputs[i];
        p->wants[t->id] = p->options.input_gradients && t->dtype == LS_F32;
    }
    for (int i = 0; i < p->model->n_nodes; i++) {
        const ls_node *node = p->model->nodes[i];
        bool wants = node_learns(node);
        for (int k = 0; k < node->n_in; k++) {
            wants = wants || p->wants[node->in[k]->id];
        }
        for (int k = 0; k < node->n_out; k++) {
            p->wants[node->out[k]->id] = wants && node->op->backward != NULL;
        }
    }
}

static void find_fusions(ls_plan *p) {
    for (int i = 0; i < p->model->n_nodes; i++) {
        const ls_node *node = p->model->nodes[i], *last = node;
        while (node->op->can_fuse != NULL && last->n_out == 1 && last->out[0]->n_consumers == 1 &&
               last->out[0]->consumers[0] != NULL) {
            const ls_node *next = last->out[0]->consumers[0];
            if (!node->op->can_fuse(p, node, last, next)) {
                break;
            }
            p->fused[node->id] = last = next;
            p->absorbed[next->id] = true;
        }
    }
}

/* Nodes whose output is of no use to those that read it. */
static void find_absorbed(ls_plan *p) {
    for (int i = 0; i < p->model->n_nodes; i++) {
        const ls_node *node = p->model->nodes[i];
        const ls_tensor *out = node->out[0];
        bool all = node->n_out == 1 && out->n_consumers > 0;
        for (int k = 0; all && k < out->n_consumers; k++) {
            const ls_node *next = out->consumers[k];
            all = next != NULL && next->op->can_absorb != NULL && next->op->can_absorb(p, next, node);
        }
        p->absorbed[node->id] = p->absorbed[node->id] || all;
    }
}

/* A loss that can work on the logits takes over the derivative of the softmax or sigmoid before it. */
static void find_logits(ls_plan *p, bool *loss_takes_over) {
    const ls_heads *heads = p->options.heads;
    for (int i = 0; heads != NULL && i < p->model->n_outputs; i++) {
        const ls_tensor *t = p->model->outputs[i];
        const ls_loss *loss = &heads->losses[i];
        const ls_node *node = t->producer;
        if (loss->class_ == NULL || loss->from_logits || loss->class_->row_logits == NULL ||
            loss->class_->activation == NULL || node == NULL || t->n_consumers != 1 || node->op->activation == NULL ||
            p->absorbed[node->id]) {
            continue;
        }
        const char *word = node->op->activation(node);
        if (word != NULL && strcmp(word, loss->class_->activation) == 0) {
            p->logits[i] = node->in[0];
            loss_takes_over[node->id] = true;
        }
    }
}

static ls_status compile_forward(ls_plan *p, ls_err *err) {
    p->phase = LS_PHASE_FORWARD;
    for (int i = 0; i < p->model->n_inputs; i++) {
        const ls_tensor *t = p->model->inputs[i];
        p->inputs[i] = ls_plan_out(p, t, t->dtype);
        p->buffers[p->inputs[i].index].external = true;
    }
    for (int i = 0; i < p->model->n_nodes; i++) {
        const ls_node *node = p->model->nodes[i];
        if (p->absorbed[node->id] || (node->op->idle_unread && node->out[0]->n_consumers == 0)) {
            continue;
        }
        ls_status s = node->op->forward(p, node, err);
        if (s != LS_OK) {
            return s == LS_EINPUT ? s : ls_err_context(err, "layer \"%s\"", node->layer->path);
        }
    }
    for (int i = 0; i < p->model->n_outputs; i++) {
        p->outputs[i] = ls_plan_in(p, p->model->outputs[i], LS_F32);
        if (p->outputs[i].kind == LS_REF_BUFFER) {
            p->buffers[p->outputs[i].index].kept = true;
        }
    }
    return LS_OK;
}

/* What the losses, metrics and penalties of the forward pass are added to. */
static void make_sums(ls_plan *p) {
    if (p->options.heads != NULL) {
        p->sums = ls_plan_temp(p, (size_t)p->options.heads->n_sums * sizeof(double));
        p->buffers[p->sums.index].kept = true;
        p->buffers[p->sums.index].external = true;
    }
}

/* Penalties count with the first output's loss, whose weight in the total they have to undo. */
ls_ref ls_plan_penalty(const ls_plan *p, double *scale) {
    const ls_heads *heads = p->options.heads;
    if (heads == NULL) {
        return NO_REF;
    }
    double weight = heads->loss_weights != NULL ? heads->loss_weights[0] : 1.0;
    *scale = weight != 0 ? 1 / weight : 0;
    return ls_ref_at(p->sums, (size_t)heads->loss_at[0] * sizeof(double));
}

static ls_status compile_heads(ls_plan *p, ls_err *err) {
    const ls_heads *heads = p->options.heads;
    if (heads == NULL) {
        return LS_OK;
    }
    for (int i = 0; i < p->model->n_outputs; i++) {
        const ls_tensor *t = p->model->outputs[i];
        size_t n = (size_t)ls_plan_samples(p) * ls_heads_target_elems(heads, t, i);
        p->targets[i] = ls_plan_temp(p, n * 4);
        p->buffers[p->targets[i].index].external = true;
        if (heads->sample_weights) {
            p->sample_weights[i] = ls_plan_temp(p, (size_t)ls_plan_samples(p) * sizeof(float));
            p->buffers[p->sample_weights[i].index].external = true;
        }
        LS_TRY(ls_heads_emit(heads, p, i, t, p->logits[i], p->targets[i], p->sample_weights[i], p->sums, err));
    }
    return LS_OK;
}

static ls_status compile_backward(ls_plan *p, const bool *loss_takes_over, ls_err *err) {
    p->phase = LS_PHASE_BACKWARD;
    add_contributions(p); /* several losses on one tensor */
    for (int i = p->model->n_nodes - 1; i >= 0; i--) {
        const ls_node *node = p->model->nodes[i];
        bool any = node->op->makes_gradient && p->wants[node->out[0]->id];
        if (p->absorbed[node->id] || node->op->backward == NULL) {
            continue;
        }
        const ls_node *last = p->fused[node->id] != NULL ? p->fused[node->id] : node;
        for (int k = 0; k < last->n_out; k++) {
            any = any || (ls_ref_some(p->gradients[last->out[k]->id].ref) && p->wants[last->out[k]->id]);
        }
        if (any && !loss_takes_over[node->id]) {
            ls_status s = node->op->backward(p, node, err);
            if (s != LS_OK) {
                return s == LS_EINPUT ? s : ls_err_context(err, "layer \"%s\"", node->layer->path);
            }
            add_contributions(p);
        }
        for (int k = 0; k < last->n_out; k++) { /* consumed: its memory may be changed in place by others now */
            p->gradients[last->out[k]->id] = (plan_value){.ref = NO_REF};
        }
    }
    for (int i = 0; i < p->model->n_weights; i++) { /* no gradient came: it is zero, not what was there before */
        const ls_weight *w = p->model->weights[i];
        if (!p->written[i] && w->trainable) {
            ls_ref r = ls_plan_dweight(p, w);
            ls_plan_emit_zero(p, LS_PHASE_BACKWARD, r, p->arena->slot[i].n_elems * sizeof(float));
        }
    }
    for (int i = 0; i < p->model->n_inputs; i++) {
        const ls_tensor *t = p->model->inputs[i];
        if (p->wants[t->id] && ls_ref_some(p->gradients[t->id].ref)) {
            ls_ref r = ls_plan_dout(p, t, LS_F32);
            p->buffers[r.index].kept = true;
        }
    }
    return LS_OK;
}

ls_status ls_plan_create(ls_plan **out, const ls_model *model, ls_arena *arena, const ls_plan_options *options,
                         ls_err *err) {
    ls_plan *p = ls_xcalloc(1, sizeof *p);
    size_t n_tensors = (size_t)model->n_tensors + 1, n_nodes = (size_t)model->n_nodes + 1;
    size_t n_weights = (size_t)model->n_weights + 1, n_outputs = (size_t)model->n_outputs + 1;
    p->model = model;
    p->arena = arena;
    p->options = *options;
    p->values = ls_xcalloc(n_tensors, sizeof *p->values);
    p->gradients = ls_xcalloc(n_tensors, sizeof *p->gradients);
    p->wants = ls_xcalloc(n_tensors, sizeof *p->wants);
    p->fused = ls_xcalloc(n_nodes, sizeof *p->fused);
    p->absorbed = ls_xcalloc(n_nodes, sizeof *p->absorbed);
    p->notes = ls_xcalloc(n_nodes, sizeof *p->notes);
    p->written = ls_xcalloc(n_weights, sizeof *p->written);
    p->waits = ls_xcalloc(n_weights, sizeof *p->waits);
    p->ready = ls_xcalloc(n_weights, sizeof *p->ready);
    p->inputs = ls_xcalloc((size_t)model->n_inputs + 1, sizeof *p->inputs);
    p->targets = ls_xcalloc(n_outputs, sizeof *p->targets);
    p->sample_weights = ls_xcalloc(n_outputs, sizeof *p->sample_weights);
    p->outputs = ls_xcalloc(n_outputs, sizeof *p->outputs);
    p->logits = ls_xcalloc(n_outputs, sizeof *p->logits);
    bool *loss_takes_over = ls_xcalloc(n_nodes, sizeof *loss_takes_over);
    find_wanted_gradients(p);
    find_fusions(p);
    find_absorbed(p);
    find_logits(p, loss_takes_over);
    make_sums(p);
    ls_status s = compile_forward(p, err);
    if (s == LS_OK) {
        s = compile_heads(p, err);
    }
    if (s == LS_OK && options->training) {
        s = compile_backward(p, loss_takes_over, err);
    }
    free(loss_takes_over);
    if (s != LS_OK) {
        ls_plan_destroy(p);
        return s;
    }
    ls_plan_find_lifetimes(p);
    ls_plan_find_meetings(p);
    ls_plan_find_stretches(p);
    ls_plan_place_buffers(p);
    *out = p;
    return LS_OK;
}

void ls_plan_destroy(ls_plan *p) {
    if (p == NULL) {
        return;
    }
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < p->list[k].n; i++) {
            if (p->list[k].calls[i].state != NULL) {
                p->list[k].calls[i].destroy(p->list[k].calls[i].state);
            }
        }
        free(p->list[k].calls);
    }
    for (int i = 0; i < p->model->n_nodes; i++) {
        free(p->notes[i]);
    }
    ls_plan_profile(p, false);
    void *owned[] = {p->buffers,  p->values,    p->gradients,     p->wants,           p->fused,
                     p->absorbed, p->notes,     p->written,       p->waits,           p->copies,
                     p->ready,    p->pending,   p->inputs,        p->sample_weights,  p->targets,
                     p->outputs,  p->logits,    p->is_ready_call, p->persistent_base, p->gradient_args,
                     p->meetings, p->stretches, p->written_in,    p->lane_args,       p->pieces};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
        free(owned[i]);
    }
    free(p);
}
