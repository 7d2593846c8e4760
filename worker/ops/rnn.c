/* Recurrent layers: the plan of a node. How it computes is told in rnn.h. */
#include "worker/ops/rnn.h"

#include <stdlib.h>

#include "common/memory.h"

static const rnn_cell *const cells[] = {[LS_CELL_SIMPLE] = &ls_rnn_cell_simple,
                                        [LS_CELL_LSTM] = &ls_rnn_cell_lstm,
                                        [LS_CELL_GRU] = &ls_rnn_cell_gru,
                                        [LS_CELL_GRU_RESET_AFTER] = &ls_rnn_cell_gru_reset_after,
                                        [LS_CELL_JORDAN] = &ls_rnn_cell_jordan};

/* ---- memory ---- */

static void place_forward(rnn_form *f) {
    const size_t nu = f->n * f->units, kept = f->training ? f->steps : 1;
    size_t *at = &f->n_floats;
    bool keep_r = f->training && (f->cell->r_kept || !f->act.from_result || !f->rec.from_result);
    f->x = ls_rnn_place(at, f->n * f->in, f->steps);
    f->z = ls_rnn_place(at, f->n * f->wide, f->steps);
    f->r = ls_rnn_place(at, f->n * f->to[0], keep_r ? f->steps : 1);
    f->h = ls_rnn_place(at, nu, f->steps + 1);
    f->first = ls_rnn_place(at, f->n, 1);
    if (f->cell->n_products == 2) {
        f->r2 = ls_rnn_place(at, f->n * f->to[1], keep_r ? f->steps : 1);
    }
    if (f->cell->n_states == 2) {
        f->c = ls_rnn_place(at, nu, f->steps + 1);
    }
    if (f->drops_in) {
        f->drop_in = ls_rnn_place(at, f->n * f->in, 1);
    }
    if (f->drops_state) {
        f->drop_state = ls_rnn_place(at, nu, 1);
        f->hd = ls_rnn_place(at, nu, kept);
    }
    if (f->cell->place != NULL) {
        f->cell->place(f);
    }
}

static void place_backward(rnn_form *f) {
    const size_t nu = f->n * f->units;
    size_t *at = &f->n_backward_floats;
    f->dh = ls_rnn_place(at, nu, 1);
    f->dr = ls_rnn_place(at, nu, 1);
    f->d = ls_rnn_place(at, f->n * f->to[0], f->cell->d_is_z ? 1 : f->steps);
    if (f->cell->n_states == 2) {
        f->dc = ls_rnn_place(at, nu, 1);
    }
    if (f->cell->n_products == 2) {
        f->dr2 = ls_rnn_place(at, f->n * f->from[1], 1);
        f->d2 = ls_rnn_place(at, f->n * f->to[1], f->steps);
    }
}

static rnn_form *new_form(const ls_plan *p, const ls_node *node) {
    const ls_rnn_attr *a = node->attr;
    const ls_tensor *in = node->in[0];
    rnn_form *f = ls_xcalloc(1, sizeof *f);
    f->attr = a;
    f->cell = cells[a->cell];
    f->act = ls_act_function_of(&a->activation);
    f->rec = ls_act_function_of(&a->recurrent_activation);
    f->samples = (size_t)ls_plan_samples(p);
    f->rows = (size_t)in->rows;
    f->n = f->samples * f->rows;
    f->steps = (size_t)in->shape.dim[0];
    f->in = (size_t)in->shape.dim[1];
    f->units = (size_t)a->units;
    f->wide = a->cell == LS_CELL_JORDAN ? (size_t)a->hidden : f->cell->gates * f->units;
    for (int i = 0; i < f->cell->n_products; i++) {
        f->from[i] = f->units;
        f->to[i] = f->cell->columns[i] * f->units;
    }
    if (a->cell == LS_CELL_JORDAN) {
        f->to[0] = f->from[1] = f->wide;
        f->to[1] = f->units;
    }
    f->id = node->id;
    f->training = ls_plan_training(p);
    f->drops_in = f->training && a->dropout > 0;
    f->drops_state = f->training && a->recurrent_dropout > 0;
    place_forward(f);
    place_backward(f);
    return f;
}

static ls_ref at(ls_ref workspace, const rnn_array *a) {
    return ls_ref_at(workspace, a->at * sizeof(float));
}

/* ---- weights ---- */

static rnn_matrix input_matrix(const rnn_form *f, const ls_node *node) {
    return (rnn_matrix){node->weights[0], f->in, f->wide, 0, f->wide};
}

/* Of a step's product: columns of the recurrent kernel, or Jordan's output kernel. */
static rnn_matrix recurrent_matrix(const rnn_form *f, const ls_node *node, int product) {
    if (product == 1 && f->cell->columns[1] == 0) {
        return (rnn_matrix){node->weights[f->attr->use_bias ? 3 : 2], f->from[1], f->to[1], 0, f->to[1]};
    }
    return (rnn_matrix){node->weights[1], f->from[product], f->wide, product == 1 ? f->to[0] : 0, f->to[product]};
}

/* The weight that holds the bias of a step's product, and where in it; NULL: it has none. */
static ls_weight *product_bias(const rnn_form *f, const ls_node *node, int product, size_t *at) {
    *at = 0;
    if (f->attr->use_bias && product == 0 && f->attr->cell == LS_CELL_GRU_RESET_AFTER) {
        *at = f->wide * sizeof(float);
        return node->weights[2];
    }
    return f->attr->use_bias && product == 1 && f->attr->cell == LS_CELL_JORDAN ? node->weights[4] : NULL;
}

static ls_ref product_bias_ref(ls_plan *p, const rnn_form *f, const ls_node *node, int product) {
    size_t at;
    ls_weight *bias = product_bias(f, node, product, &at);
    if (bias == NULL) {
        return (ls_ref){0};
    }
    ls_plan_weight_layout(p, bias, NULL);
    return ls_ref_at(ls_plan_weight(p, bias), at);
}

/* ---- forward ---- */

/* A kernel's own state that points at the form, which outlives it. */
static const rnn_form **new_pointer(const rnn_form *f) {
    const rnn_form **state = ls_xcalloc(1, sizeof *state);
    *state = f;
    return state;
}

/* The input's part for all steps. */
static ls_status emit_input(ls_plan *p, const ls_node *node, const rnn_form *f, ls_err *err) {
    rnn_matrix m = input_matrix(f, node);
    size_t rows = f->steps * f->n;
    ls_ref src = ls_plan_in(p, node->in[0], LS_F32);
    ls_call *gather = ls_plan_emit(p, LS_PHASE_FORWARD, "rnn.gather", node, ls_rnn_gather_kernel, new_pointer(f), NULL);
    ls_call_arg(gather, LS_READ, src);
    ls_call_arg(gather, LS_WRITE, f->workspace);
    ls_prim *prim;
    ls_prim_refs refs = {0};
    LS_TRY(ls_rnn_product_prim(p, node, &m, rows, f->attr->use_bias, f->training ? LS_PASS_TRAINING : LS_PASS_INFERENCE,
                               &prim, &refs.of[LS_ARG_WEIGHTS], err));
    refs.of[LS_ARG_SRC] = at(f->workspace, &f->x);
    refs.of[LS_ARG_DST] = at(f->workspace, &f->z);
    if (f->attr->use_bias) {
        ls_plan_weight_layout(p, node->weights[2], NULL);
        refs.of[LS_ARG_BIAS] = ls_plan_weight(p, node->weights[2]);
    }
    ls_ops_emit_prim(p, LS_PHASE_FORWARD, "rnn.forward_input", node, prim, &refs,
                     2.0 * (double)rows * (double)m.in * (double)m.width);
    return LS_OK;
}

/* The products of one step, prepared, with their weights and scratch memory. */
static ls_status new_products(ls_plan *p, const ls_node *node, const rnn_form *f, ls_pass pass, rnn_call *call,
                              ls_ref *kernel, ls_ref *scratch, ls_err *err) {
    for (int i = 0; i < f->cell->n_products; i++) {
        rnn_matrix m = recurrent_matrix(f, node, i);
        size_t at_bias;
        bool bias = pass != LS_PASS_BACKWARD_DATA && product_bias(f, node, i, &at_bias) != NULL;
        LS_TRY(ls_rnn_product_prim(p, node, &m, f->n, bias, pass, &call->product[i], &kernel[i], err));
        size_t n_bytes = ls_prim_arg_bytes(call->product[i], LS_ARG_SCRATCHPAD);
        scratch[i] = n_bytes > 0 ? ls_plan_temp(p, n_bytes) : (ls_ref){0};
    }
    return LS_OK;
}

static double step_flops(const rnn_form *f) {
    return 2.0 * (double)(f->steps * f->n) * (double)(f->from[0] * f->to[0] + f->from[1] * f->to[1]);
}

static ls_status emit_steps(ls_plan *p, const ls_node *node, const rnn_form *f, ls_err *err) {
    rnn_call *own = ls_xcalloc(1, sizeof *own);
    own->form = f;
    ls_ref kernel[2] = {{0}}, scratch[2] = {{0}}, none = {0};
    ls_status status =
        new_products(p, node, f, f->training ? LS_PASS_TRAINING : LS_PASS_INFERENCE, own, kernel, scratch, err);
    if (status != LS_OK) {
        ls_rnn_call_destroy(own);
        return status;
    }
    ls_ref given[2] = {{0}}, last[2] = {{0}}, out = ls_plan_out(p, node->out[0], LS_F32);
    for (int i = 0; i < f->cell->n_states; i++) {
        given[i] = node->n_in > 1 ? ls_plan_in(p, node->in[1 + i], LS_F32) : none;
        last[i] = node->n_out > 1 ? ls_plan_out(p, node->out[1 + i], LS_F32) : none;
    }
    size_t state_bytes = (size_t)f->cell->n_states * f->n * f->units * sizeof(float) * (size_t)ls_plan_lanes(p);
    ls_ref state = f->attr->stateful ? ls_plan_persistent(p, state_bytes) : none;
    ls_call *c =
        ls_plan_emit(p, LS_PHASE_FORWARD, "rnn.forward", node, ls_rnn_forward_kernel, own, ls_rnn_call_destroy);
    c->flops = step_flops(f);
    ls_call_arg(c, LS_READWRITE, f->workspace);
    ls_call_arg(c, LS_READ, f->mask);
    ls_call_arg(c, LS_READ, kernel[0]);
    ls_call_arg(c, LS_READ, kernel[1]);
    ls_call_arg(c, LS_READ, product_bias_ref(p, f, node, 0));
    ls_call_arg(c, LS_READ, product_bias_ref(p, f, node, 1));
    ls_call_arg(c, LS_WRITE, scratch[0]);
    ls_call_arg(c, LS_WRITE, scratch[1]);
    ls_call_arg(c, LS_WRITE, out);
    ls_call_arg(c, LS_READ, given[0]);
    ls_call_arg(c, LS_READ, given[1]);
    ls_call_arg(c, LS_WRITE, last[0]);
    ls_call_arg(c, LS_WRITE, last[1]);
    ls_call_arg(c, LS_READWRITE, state);
    return LS_OK;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    rnn_form *f = new_form(p, node);
    ls_plan_remember(p, node, f);
    f->workspace = ls_plan_temp(p, f->n_floats * sizeof(float));
    if (node->in[0]->mask != NULL) {
        f->mask = ls_plan_in(p, node->in[0]->mask, LS_F32);
    }
    LS_TRY(emit_input(p, node, f, err));
    return emit_steps(p, node, f, err);
}

/* ---- backward ---- */

static ls_status emit_steps_backward(ls_plan *p, const ls_node *node, const rnn_form *f, ls_ref own, ls_err *err) {
    rnn_call *call = ls_xcalloc(1, sizeof *call);
    call->form = f;
    ls_ref kernel[2] = {{0}}, scratch[2] = {{0}}, dlast[2] = {{0}}, dgiven[2] = {{0}};
    ls_status status = new_products(p, node, f, LS_PASS_BACKWARD_DATA, call, kernel, scratch, err);
    if (status != LS_OK) {
        ls_rnn_call_destroy(call);
        return status;
    }
    ls_ref dout = ls_plan_dout(p, node->out[0], LS_F32);
    for (int i = 0; i < f->cell->n_states; i++) {
        if (node->n_out > 1) {
            dlast[i] = ls_plan_dout(p, node->out[1 + i], LS_F32);
        }
        if (node->n_in > 1 && ls_plan_wants_grad(p, node->in[1 + i])) {
            dgiven[i] = ls_plan_din(p, node->in[1 + i], LS_F32);
        }
    }
    ls_call *c =
        ls_plan_emit(p, LS_PHASE_BACKWARD, "rnn.backward", node, ls_rnn_backward_kernel, call, ls_rnn_call_destroy);
    c->flops = step_flops(f);
    ls_call_arg(c, LS_READWRITE, f->workspace);
    ls_call_arg(c, LS_WRITE, own);
    ls_call_arg(c, LS_READ, f->mask);
    ls_call_arg(c, LS_READ, kernel[0]);
    ls_call_arg(c, LS_READ, kernel[1]);
    ls_call_arg(c, LS_WRITE, scratch[0]);
    ls_call_arg(c, LS_WRITE, scratch[1]);
    ls_call_arg(c, LS_READ, dout);
    ls_call_arg(c, LS_READ, dlast[0]);
    ls_call_arg(c, LS_READ, dlast[1]);
    ls_call_arg(c, LS_WRITE, dgiven[0]);
    ls_call_arg(c, LS_WRITE, dgiven[1]);
    return LS_OK;
}

static ls_status emit_weight_gradients(ls_plan *p, const ls_node *node, const rnn_form *f, ls_ref own, ls_err *err) {
    const size_t rows = f->steps * f->n;
    ls_ref dbias = {0}, dz = at(f->workspace, &f->z), dkernel[2];
    rnn_matrix m = input_matrix(f, node);
    if (f->attr->use_bias) {
        dbias = ls_plan_dweight(p, node->weights[2]);
    }
    LS_TRY(ls_rnn_product_gradient(p, node, &m, rows, at(f->workspace, &f->x), dz, ls_plan_dweight(p, m.weight), dbias,
                                   err));
    for (int i = 0; i < f->cell->n_products; i++) {
        rnn_matrix u = recurrent_matrix(f, node, i);
        size_t at_bias;
        ls_weight *bias = product_bias(f, node, i, &at_bias);
        ls_ref src = at(f->workspace, i == 1 ? &f->rh : f->drops_state ? &f->hd : &f->h), db = {0};
        ls_ref d = i == 0 && f->cell->d_is_z ? dz : at(own, i == 1 ? &f->d2 : &f->d);
        if (bias != NULL) { /* a part of the bias above, or one of its own */
            db = bias == node->weights[2] ? ls_ref_at(dbias, at_bias) : ls_plan_dweight(p, bias);
        }
        dkernel[i] = i == 1 && u.weight == node->weights[1] ? dkernel[0] : ls_plan_dweight(p, u.weight);
        LS_TRY(ls_rnn_product_gradient(p, node, &u, rows, src, d, dkernel[i], db, err));
    }
    return LS_OK;
}

static ls_status emit_input_gradient(ls_plan *p, const ls_node *node, const rnn_form *f, ls_err *err) {
    const size_t rows = f->steps * f->n;
    rnn_matrix m = input_matrix(f, node);
    ls_prim *prim;
    ls_prim_refs refs = {0};
    LS_TRY(ls_rnn_product_prim(p, node, &m, rows, false, LS_PASS_BACKWARD_DATA, &prim, &refs.of[LS_ARG_WEIGHTS], err));
    ls_ref dx = ls_plan_temp(p, rows * f->in * sizeof(float));
    refs.of[LS_ARG_DIFF_DST] = at(f->workspace, &f->z);
    refs.of[LS_ARG_DIFF_SRC] = dx;
    ls_ops_emit_prim(p, LS_PHASE_BACKWARD, "rnn.backward_input", node, prim, &refs,
                     2.0 * (double)rows * (double)m.in * (double)m.width);
    ls_ref din = ls_plan_din(p, node->in[0], LS_F32);
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "rnn.scatter", node, ls_rnn_scatter_kernel, new_pointer(f), NULL);
    ls_call_arg(c, LS_READ, dx);
    ls_call_arg(c, LS_READ, f->workspace);
    ls_call_arg(c, LS_WRITE, din);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    const rnn_form *f = ls_plan_recall(p, node);
    bool learns = node->weights[0]->trainable, passes = false, arrives = false;
    for (int i = 0; i < node->n_in; i++) {
        passes = passes || ls_plan_wants_grad(p, node->in[i]);
    }
    for (int i = 0; i < node->n_out; i++) {
        arrives = arrives || ls_ref_some(ls_plan_dout(p, node->out[i], LS_F32));
    }
    if (!arrives || !(learns || passes)) {
        return LS_OK;
    }
    ls_ref own = ls_plan_temp(p, f->n_backward_floats * sizeof(float));
    LS_TRY(emit_steps_backward(p, node, f, own, err));
    if (learns) {
        LS_TRY(emit_weight_gradients(p, node, f, own, err));
    }
    return ls_plan_wants_grad(p, node->in[0]) ? emit_input_gradient(p, node, f, err) : LS_OK;
}

const ls_operator ls_op_rnn = {"rnn", forward, backward, NULL, NULL};
