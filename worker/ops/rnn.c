/* Recurrent layers: the calls of a node. How it computes is told in rnn.h. */
#include "worker/ops/rnn.h"

#include <stdlib.h>

#include "common/memory.h"

static const double SHARED_FLOPS = 512e6; /* of one product, some 5 ms, from which threads are worth their meeting */

/* A kernel's own state that points at the form, which outlives it. */
static const rnn_form **new_pointer(const rnn_form *f) {
    const rnn_form **state = ls_xcalloc(1, sizeof *state);
    *state = f;
    return state;
}

static ls_ref at(ls_ref workspace, const rnn_array *a) {
    return ls_ref_at(workspace, a->at);
}

static double flops_of(const rnn_matrix *m, size_t rows) {
    return 2.0 * (double)rows * (double)m->in * (double)m->width;
}

/* Threads for one product: of a part, one; of the whole, all where it is large. */
static int threads_of(const ls_plan *p, const rnn_form *f, const rnn_matrix *m, size_t rows) {
    return f->parts == 1 && flops_of(m, rows) >= SHARED_FLOPS ? ls_plan_threads(p) : 1;
}

static double step_flops(const rnn_form *f) {
    return 2.0 * (double)(f->steps * f->n) * (double)(f->from[0] * f->to[0] + f->from[1] * f->to[1]);
}

/* ---- forward ---- */

static void emit_gather(ls_plan *p, const ls_node *node, const rnn_form *f) {
    ls_ref src = f->table != NULL ? ls_plan_in(p, f->table->in[0], f->numbers) : ls_plan_in(p, node->in[0], f->source);
    ls_call *gather = ls_plan_emit(p, LS_PHASE_FORWARD, "rnn.gather", node, ls_rnn_gather_kernel, new_pointer(f), NULL);
    ls_call_arg(gather, LS_READ, src);
    ls_call_arg(gather, LS_WRITE, f->workspace);
}

/* dst = src W + b over `rows` rows. */
static ls_status emit_input_product(ls_plan *p, const ls_node *node, const rnn_form *f, ls_phase phase,
                                    const char *label, size_t rows, ls_dtype dtype, ls_ref src, ls_ref dst,
                                    ls_err *err) {
    rnn_matrix m = ls_rnn_input_matrix(f, node);
    ls_prim *prim;
    ls_prim_refs refs = {0};
    const int n_threads = flops_of(&m, rows) >= SHARED_FLOPS ? ls_plan_threads(p) : 1;
    LS_TRY(ls_rnn_product(p, node, &m, rows, f->attr->use_bias, false, dtype, n_threads, &prim,
                          &refs.of[LS_ARG_WEIGHTS], err));
    refs.of[LS_ARG_SRC] = src;
    refs.of[LS_ARG_DST] = dst;
    if (f->attr->use_bias) {
        ls_plan_weight_layout(p, node->weights[2], NULL);
        refs.of[LS_ARG_BIAS] = ls_plan_weight(p, node->weights[2]);
    }
    ls_ops_emit_prim(p, phase, label, node, prim, &refs, flops_of(&m, rows));
    return LS_OK;
}

/* P, once a step; its last row is made by the walk. */
static ls_status emit_table(ls_plan *p, const ls_node *node, const rnn_form *f, ls_ref *table, ls_err *err) {
    ls_weight *rows = f->table->weights[0];
    ls_plan_weight_layout(p, rows, NULL);
    *table = ls_plan_persistent(p, (f->vocabulary + 1) * f->wide * sizeof(float));
    return emit_input_product(p, node, f, LS_PHASE_PREPARE, "rnn.table", f->vocabulary, LS_F32, ls_plan_weight(p, rows),
                              *table, err);
}

/* The kernels of the steps for every part, their weights once. */
static ls_status new_step_kernels(ls_plan *p, const ls_node *node, rnn_call *call, bool back, ls_ref *weight,
                                  ls_err *err) {
    const rnn_form *f = call->form;
    for (int i = 0; i < f->cell->n_products; i++) {
        rnn_matrix m = ls_rnn_step_matrix(f, node, i);
        const size_t rows = ls_rnn_part_rows(f);
        size_t at_bias;
        bool bias = !back && ls_rnn_step_bias(f, node, i, &at_bias) != NULL;
        LS_TRY(ls_rnn_product(p, node, &m, rows, bias, back, f->dtype, threads_of(p, f, &m, rows),
                              &call->part[0].step[i], &weight[i], err));
        for (size_t k = 1; k < f->parts; k++) {
            LS_TRY(ls_rnn_product_again(&m, rows, bias, back, f->dtype, &call->part[k].step[i], err));
        }
        ls_rnn_call_scratch(call, call->part[0].step[i]);
    }
    return LS_OK;
}

static ls_ref step_bias_ref(ls_plan *p, const rnn_form *f, const ls_node *node, int product) {
    size_t at_bias;
    ls_weight *bias = ls_rnn_step_bias(f, node, product, &at_bias);
    if (bias == NULL) {
        return (ls_ref){0};
    }
    ls_plan_weight_layout(p, bias, NULL);
    return ls_ref_at(ls_plan_weight(p, bias), at_bias);
}

static ls_ref scratch_of(ls_plan *p, const rnn_call *call) {
    const size_t n_bytes = call->n_parts * call->scratch_bytes;
    return n_bytes > 0 ? ls_plan_temp(p, n_bytes) : (ls_ref){0};
}

static ls_status emit_steps(ls_plan *p, const ls_node *node, const rnn_form *f, ls_ref table, ls_err *err) {
    rnn_call *own = ls_rnn_call_new(f);
    ls_ref kernel[2] = {{0}}, none = {0}, given[2], last[2], out = ls_plan_out(p, node->out[0], f->dtype);
    ls_status status = new_step_kernels(p, node, own, false, kernel, err);
    if (status != LS_OK) {
        ls_rnn_call_destroy(own);
        return status;
    }
    for (int i = 0; i < 2; i++) {
        bool has = i < f->cell->n_states;
        given[i] = has && node->n_in > 1 ? ls_plan_in(p, node->in[1 + i], LS_F32) : none;
        last[i] = has && node->n_out > 1 ? ls_plan_out(p, node->out[1 + i], LS_F32) : none;
    }
    ls_ref scratch = scratch_of(p, own);
    ls_call *c =
        ls_plan_emit(p, LS_PHASE_FORWARD, "rnn.forward", node, ls_rnn_forward_kernel, own, ls_rnn_call_destroy);
    c->flops = step_flops(f);
    ls_call_arg(c, LS_READWRITE, f->workspace);
    ls_call_arg(c, LS_READ, f->mask);
    ls_call_arg(c, LS_READ, kernel[0]);
    ls_call_arg(c, LS_READ, kernel[1]);
    ls_call_arg(c, LS_READ, step_bias_ref(p, f, node, 0));
    ls_call_arg(c, LS_READ, step_bias_ref(p, f, node, 1));
    ls_call_arg(c, LS_WRITE, scratch);
    ls_call_arg(c, LS_WRITE, out);
    ls_call_arg(c, LS_READ, given[0]);
    ls_call_arg(c, LS_READ, given[1]);
    ls_call_arg(c, LS_WRITE, last[0]);
    ls_call_arg(c, LS_WRITE, last[1]);
    ls_call_arg(c, LS_READWRITE, table);
    return LS_OK;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    rnn_form *f = ls_rnn_form_new(p, node);
    ls_plan_remember(p, node, f);
    f->workspace = ls_plan_temp(p, f->n_bytes);
    if (node->in[0]->mask != NULL) {
        f->mask = ls_plan_in(p, node->in[0]->mask, LS_F32);
    }
    emit_gather(p, node, f);
    ls_ref table = {0};
    if (f->table != NULL) {
        LS_TRY(emit_table(p, node, f, &table, err));
    } else {
        LS_TRY(emit_input_product(p, node, f, LS_PHASE_FORWARD, "rnn.forward_input", f->steps * f->n, f->dtype,
                                  at(f->workspace, &f->x), at(f->workspace, &f->z), err));
    }
    return emit_steps(p, node, f, table, err);
}

/* ---- backward ---- */

/* Where the gradients of the weights go, by rnn_gradient. */
static void find_gradients(ls_plan *p, const ls_node *node, const rnn_form *f, ls_ref *to) {
    if (f->sum[RNN_D_KERNEL].some) {
        to[RNN_D_KERNEL] = ls_plan_dweight(p, node->weights[0]);
    }
    if (f->sum[RNN_D_BIAS].some) {
        to[RNN_D_BIAS] = ls_plan_dweight(p, node->weights[2]);
    }
    for (int i = 0; i < f->cell->n_products && f->sum[RNN_D_RECURRENT].some; i++) {
        rnn_matrix m = ls_rnn_step_matrix(f, node, i);
        size_t at_bias;
        ls_weight *bias = ls_rnn_step_bias(f, node, i, &at_bias);
        ls_ref all = i == 1 && m.weight == node->weights[1] ? to[RNN_D_RECURRENT] : ls_plan_dweight(p, m.weight);
        to[i == 0 ? RNN_D_RECURRENT : RNN_D_SECOND] = ls_ref_at(all, m.column * sizeof(float));
        if (bias != NULL) { /* a part of the bias above, or one of its own */
            ls_ref b = bias == node->weights[2] ? to[RNN_D_BIAS] : ls_plan_dweight(p, bias);
            to[i == 0 ? RNN_D_BIAS_0 : RNN_D_BIAS_1] = ls_ref_at(b, at_bias);
        }
    }
}

/* The kernels of a chunk's products. */
static ls_status new_chunk_kernels(ls_plan *p, const ls_node *node, rnn_call *call, ls_ref *kernel_x, ls_err *err) {
    const rnn_form *f = call->form;
    const size_t rows = f->chunk * ls_rnn_part_rows(f);
    rnn_matrix m = ls_rnn_input_matrix(f, node);
    for (size_t k = 0; k < f->parts; k++) {
        rnn_kernels *part = &call->part[k];
        for (int g = 0; g < RNN_D_BIAS; g++) {
            const rnn_sum *s = &f->sum[g];
            rnn_matrix as = {NULL, s->in, s->width, 0, s->width};
            if (s->some) {
                LS_TRY(ls_rnn_sum_product(rows, s->in, s->width, true, f->dtype, threads_of(p, f, &as, rows),
                                          &part->sum[g], err));
                ls_rnn_call_scratch(call, part->sum[g]);
            }
        }
        if (f->dx.some && k == 0) {
            LS_TRY(ls_rnn_product(p, node, &m, rows, false, true, f->dtype, threads_of(p, f, &m, rows), &part->dx,
                                  kernel_x, err));
            ls_rnn_call_scratch(call, part->dx);
        } else if (f->dx.some) {
            LS_TRY(ls_rnn_product_again(&m, rows, false, true, f->dtype, &part->dx, err));
        }
    }
    return LS_OK;
}

static double backward_flops(const rnn_form *f) {
    double flops = step_flops(f);
    const double rows = (double)(f->steps * f->n);
    for (int g = 0; g < RNN_D_BIAS; g++) {
        flops += 2 * rows * (double)f->sum[g].in * (double)f->sum[g].width;
    }
    return flops + (f->dx.some ? 2 * rows * (double)f->in * (double)f->wide : 0);
}

static ls_status emit_steps_backward(ls_plan *p, const ls_node *node, const rnn_form *f, ls_ref own, ls_ref din,
                                     ls_err *err) {
    rnn_call *call = ls_rnn_call_new(f);
    ls_ref kernel[2] = {{0}}, kernel_x = {0}, dlast[2] = {{0}}, dgiven[2] = {{0}}, gradient[RNN_D_COUNT] = {{0}};
    ls_status status = new_step_kernels(p, node, call, true, kernel, err);
    if (status == LS_OK) {
        status = new_chunk_kernels(p, node, call, &kernel_x, err);
    }
    if (status != LS_OK) {
        ls_rnn_call_destroy(call);
        return status;
    }
    ls_ref dout = ls_plan_dout(p, node->out[0], f->dtype), scratch = scratch_of(p, call);
    for (int i = 0; i < f->cell->n_states; i++) {
        if (node->n_out > 1) {
            dlast[i] = ls_plan_dout(p, node->out[1 + i], LS_F32);
        }
        if (node->n_in > 1 && ls_plan_wants_grad(p, node->in[1 + i])) {
            dgiven[i] = ls_plan_din(p, node->in[1 + i], LS_F32);
        }
    }
    find_gradients(p, node, f, gradient);
    ls_call *c =
        ls_plan_emit(p, LS_PHASE_BACKWARD, "rnn.backward", node, ls_rnn_backward_kernel, call, ls_rnn_call_destroy);
    c->flops = backward_flops(f);
    ls_call_arg(c, LS_READ, f->workspace);
    ls_call_arg(c, LS_WRITE, own);
    ls_call_arg(c, LS_READ, f->mask);
    ls_call_arg(c, LS_READ, kernel[0]);
    ls_call_arg(c, LS_READ, kernel[1]);
    ls_call_arg(c, LS_READ, kernel_x);
    ls_call_arg(c, LS_WRITE, scratch);
    ls_call_arg(c, LS_READ, dout);
    ls_call_arg(c, LS_READ, dlast[0]);
    ls_call_arg(c, LS_READ, dlast[1]);
    ls_call_arg(c, LS_WRITE, dgiven[0]);
    ls_call_arg(c, LS_WRITE, dgiven[1]);
    ls_call_arg(c, LS_WRITE, din);
    for (int g = 0; g < RNN_D_TABLE; g++) {
        ls_call_arg(c, LS_WRITE, gradient[g]);
    }
    return LS_OK;
}

/* From S: dW = E^T S and dE = S W^T. */
static ls_status emit_table_backward(ls_plan *p, const ls_node *node, const rnn_form *f, ls_ref own, bool learns,
                                     ls_err *err) {
    rnn_matrix m = ls_rnn_input_matrix(f, node);
    ls_weight *rows = f->table->weights[0];
    ls_ref s = at(own, &f->sum[RNN_D_TABLE].part);
    const int n_threads = flops_of(&m, f->vocabulary) >= SHARED_FLOPS ? ls_plan_threads(p) : 1;
    ls_prim *prim;
    if (learns) {
        LS_TRY(ls_rnn_sum_product(f->vocabulary, m.in, m.width, false, LS_F32, n_threads, &prim, err));
        ls_prim_refs refs = {0};
        refs.of[LS_ARG_SRC] = ls_plan_weight(p, rows);
        refs.of[LS_ARG_WEIGHTS] = s;
        refs.of[LS_ARG_DST] = ls_plan_dweight(p, m.weight);
        ls_ops_emit_prim(p, LS_PHASE_BACKWARD, "rnn.backward_weights", node, prim, &refs, flops_of(&m, f->vocabulary));
    }
    if (rows->trainable) {
        ls_prim_refs refs = {0};
        LS_TRY(ls_rnn_product(p, node, &m, f->vocabulary, false, true, LS_F32, n_threads, &prim,
                              &refs.of[LS_ARG_WEIGHTS], err));
        refs.of[LS_ARG_SRC] = s;
        refs.of[LS_ARG_DST] = ls_plan_dweight(p, rows);
        ls_ops_emit_prim(p, LS_PHASE_BACKWARD, "rnn.backward_table", node, prim, &refs, flops_of(&m, f->vocabulary));
    }
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    rnn_form *f = ls_plan_recall(p, node);
    bool learns = node->weights[0]->trainable, passes = ls_plan_wants_grad(p, node->in[0]), any = learns || passes;
    bool arrives = false;
    for (int i = 1; i < node->n_in; i++) {
        any = any || ls_plan_wants_grad(p, node->in[i]);
    }
    for (int i = 0; i < node->n_out; i++) {
        arrives = arrives || ls_ref_some(ls_plan_dout(p, node->out[i], i == 0 ? f->dtype : LS_F32));
    }
    if (!arrives || !any) {
        return LS_OK;
    }
    ls_rnn_form_backward(f, node, learns, passes);
    ls_ref own = ls_plan_temp(p, f->n_backward_bytes), din = {0};
    if (f->dx.some) {
        f->din = f->source;
        din = ls_plan_din(p, node->in[0], f->din);
    }
    LS_TRY(emit_steps_backward(p, node, f, own, din, err));
    return f->table != NULL ? emit_table_backward(p, node, f, own, learns, err) : LS_OK;
}

const ls_operator ls_op_rnn = {
    .name = "rnn", .forward = forward, .backward = backward, .can_absorb = ls_rnn_can_absorb};
