/*
 * Recurrent layers and their reference in double, for ops_rnn_test.c and ops_rnn_paths_test.c.
 *
 * in[0] is x (N, T, C), then the initial states if the case gives them, then the mask (N, T) if it has one. The model's
 * output is out[0]; with `states` it is out[0] plus the last states, which are of the same shape.
 */
#ifndef LS_TESTS_RNN_FIXTURE_H
#define LS_TESTS_RNN_FIXTURE_H

#include "tests/unit/worker/ops_fixture.h"
#include "worker/ops/draw.h"

enum { STEPS = 5, WIDTH = 3, UNITS = 4, HIDDEN = 6, SAMPLES = 6, MAX_WIDE = 4 * UNITS };

typedef struct rnn_case {
    ls_rnn_attr attr;
    bool given, states, masked;
    int vocabulary; /* not 0: x is numbers (N, T), rows of a table (the last weight) */
    ls_dtype compute;
    double tolerance;
    double drop_in[SAMPLES][WIDTH], drop_state[SAMPLES][UNITS];
} rnn_case;

FX int n_states(const rnn_case *c) {
    return c->attr.cell == LS_CELL_LSTM ? 2 : 1;
}

FX int wide_of(const rnn_case *c) {
    if (c->attr.cell == LS_CELL_JORDAN) {
        return HIDDEN;
    }
    return UNITS * (c->attr.cell == LS_CELL_SIMPLE ? 1 : c->attr.cell == LS_CELL_LSTM ? 4 : 3);
}

/* Step t of sample n of the mask: some samples begin masked, some end so, one has a hole, one is masked throughout. */
FX double mask_at(int64_t n, int64_t t) {
    static const int rows[SAMPLES][STEPS] = {{1, 1, 1, 1, 1}, {0, 0, 1, 1, 1}, {1, 1, 1, 0, 0},
                                             {1, 0, 1, 0, 1}, {0, 1, 0, 1, 0}, {0, 0, 0, 0, 0}};
    return rows[n][t];
}

/* ---- the reference ---- */

FX void activate(const ls_act_attr *a, const double *x, double *y, int n) {
    double sum = 0;
    for (int j = 0; j < n; j++) {
        sum += exp(x[j]);
    }
    for (int j = 0; j < n; j++) {
        switch (a->kind) {
            case LS_ACT_TANH: y[j] = tanh(x[j]); break;
            case LS_ACT_SIGMOID: y[j] = 1 / (1 + exp(-x[j])); break;
            case LS_ACT_SWISH: y[j] = x[j] / (1 + exp(-x[j])); break;
            case LS_ACT_SOFTSIGN: y[j] = x[j] / (1 + fabs(x[j])); break;
            case LS_ACT_SOFTMAX: y[j] = exp(x[j]) / sum; break;
            case LS_ACT_LINEAR: y[j] = x[j]; break;
            default: fail_msg("no reference for this activation");
        }
    }
}

/* to (wide) += from (k) * W (k, total), columns from `first` on. */
FX void multiply(const double *from, int k, const double *w, int total, int first, int wide, double *to) {
    for (int i = 0; i < k; i++) {
        for (int j = 0; j < wide; j++) {
            to[j] += from[i] * w[i * total + first + j];
        }
    }
}

FX void step_gru(const rnn_case *c, const double *z, const double *hd, double *const *w, double *h) {
    bool after = c->attr.cell == LS_CELL_GRU_RESET_AFTER;
    double r[3 * UNITS] = {0}, sum[UNITS], zg[UNITS], rg[UNITS], q[UNITS], rh[UNITS], add[UNITS] = {0};
    for (int j = 0; after && c->attr.use_bias && j < 3 * UNITS; j++) {
        r[j] = w[2][3 * UNITS + j];
    }
    multiply(hd, UNITS, w[1], 3 * UNITS, 0, 3 * UNITS, r);
    for (int j = 0; j < UNITS; j++) {
        sum[j] = z[j] + r[j];
    }
    activate(&c->attr.recurrent_activation, sum, zg, UNITS);
    for (int j = 0; j < UNITS; j++) {
        sum[j] = z[UNITS + j] + r[UNITS + j];
    }
    activate(&c->attr.recurrent_activation, sum, rg, UNITS);
    for (int j = 0; j < UNITS; j++) {
        rh[j] = rg[j] * hd[j];
    }
    multiply(rh, UNITS, w[1], 3 * UNITS, 2 * UNITS, UNITS, add);
    for (int j = 0; j < UNITS; j++) {
        sum[j] = z[2 * UNITS + j] + (after ? rg[j] * r[2 * UNITS + j] : add[j]);
    }
    activate(&c->attr.activation, sum, q, UNITS);
    for (int j = 0; j < UNITS; j++) {
        h[j] = zg[j] * h[j] + (1 - zg[j]) * q[j];
    }
}

FX void step_lstm(const rnn_case *c, double *z, double *h, double *cell) {
    double a[UNITS], g[4][UNITS];
    for (int k = 0; k < 4; k++) {
        activate(k == 2 ? &c->attr.activation : &c->attr.recurrent_activation, z + k * UNITS, g[k], UNITS);
    }
    for (int j = 0; j < UNITS; j++) {
        cell[j] = g[1][j] * cell[j] + g[0][j] * g[2][j];
    }
    activate(&c->attr.activation, cell, a, UNITS);
    for (int j = 0; j < UNITS; j++) {
        h[j] = g[3][j] * a[j];
    }
}

/* One step of one sample on its states. */
FX void step(const rnn_case *c, int64_t n, const double *x, double *const *w, double *h, double *cell) {
    int wide = wide_of(c);
    double z[MAX_WIDE] = {0}, in[WIDTH], hd[UNITS];
    bool gru = c->attr.cell == LS_CELL_GRU || c->attr.cell == LS_CELL_GRU_RESET_AFTER;
    for (int j = 0; c->attr.use_bias && j < wide; j++) {
        z[j] = w[2][j];
    }
    for (int j = 0; j < WIDTH; j++) {
        in[j] = x[j] * c->drop_in[n][j];
    }
    for (int j = 0; j < UNITS; j++) {
        hd[j] = h[j] * c->drop_state[n][j];
    }
    multiply(in, WIDTH, w[0], wide, 0, wide, z);
    if (gru) {
        step_gru(c, z, hd, w, h);
        return;
    }
    multiply(hd, UNITS, w[1], wide, 0, wide, z);
    if (c->attr.cell == LS_CELL_LSTM) {
        step_lstm(c, z, h, cell);
    } else if (c->attr.cell == LS_CELL_JORDAN) {
        double q[HIDDEN], sum[UNITS];
        activate(&c->attr.activation, z, q, HIDDEN);
        for (int j = 0; j < UNITS; j++) {
            sum[j] = c->attr.use_bias ? w[4][j] : 0;
        }
        multiply(q, HIDDEN, w[c->attr.use_bias ? 3 : 2], UNITS, 0, UNITS, sum);
        activate(&c->attr.recurrent_activation, sum, h, UNITS);
    } else {
        activate(&c->attr.activation, z, h, UNITS);
    }
}

FX void rnn_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const rnn_case *c = f->reference_data;
    for (int64_t n = 0; n < f->n_samples; n++) {
        double state[2][UNITS] = {{0}}, shown[UNITS] = {0};
        for (int k = 0; c->given && k < n_states(c); k++) {
            memcpy(state[k], in[1 + k] + n * UNITS, sizeof state[k]);
        }
        for (int64_t t = 0; t < STEPS; t++) {
            int64_t at = c->attr.backwards ? STEPS - 1 - t : t;
            bool counts = !c->masked || mask_at(n, at) != 0;
            const double *x = c->vocabulary == 0
                                  ? in[0] + (n * STEPS + at) * WIDTH
                                  : weight[f->model.n_weights - 1] + (int64_t)in[0][n * STEPS + at] * WIDTH;
            if (counts) {
                step(c, n, x, weight, state[0], state[1]);
                memcpy(shown, state[0], sizeof shown);
            } else if (c->attr.zero_masked) {
                memset(shown, 0, sizeof shown);
            }
            if (c->attr.sequences) {
                memcpy(out + (n * STEPS + (c->attr.flip ? STEPS - 1 - t : t)) * UNITS, shown, sizeof shown);
            }
        }
        for (int j = 0; !c->attr.sequences && j < UNITS; j++) {
            out[n * UNITS + j] = shown[j];
            for (int k = 0; c->states && k < n_states(c); k++) {
                out[n * UNITS + j] += state[k][j];
            }
        }
    }
}

/* ---- the model ---- */

FX rnn_case plain(ls_cell_kind cell) {
    rnn_case c = {.attr = {.cell = cell, .units = UNITS, .hidden = HIDDEN, .use_bias = true}};
    c.attr.activation = (ls_act_attr){.kind = LS_ACT_TANH};
    c.attr.recurrent_activation = (ls_act_attr){.kind = LS_ACT_SIGMOID};
    for (int n = 0; n < SAMPLES; n++) {
        for (int j = 0; j < WIDTH; j++) {
            c.drop_in[n][j] = 1;
        }
        for (int j = 0; j < UNITS; j++) {
            c.drop_state[n][j] = 1;
        }
    }
    return c;
}

/* More outputs of the last node, added to the first. */
FX void add_states(fixture *f, const rnn_case *c) {
    static const ls_merge_attr sum = {.kind = LS_MERGE_ADD};
    ls_node *node = f->nodes[f->model.n_nodes - 1];
    ls_tensor *all[4] = {node->out[0]};
    free(node->out);
    node->out = ls_xcalloc(4, sizeof(ls_tensor *));
    node->out[0] = all[0];
    for (int k = 0; k < n_states(c); k++) {
        ls_tensor *t = fx_tensor(f, fx_shape(1, UNITS));
        t->producer = node;
        t->producer_index = 1 + k;
        all[1 + k] = node->out[node->n_out++] = t;
    }
    fx_node(f, &ls_op_merge, &sum, all, NULL, fx_shape(1, UNITS));
}

FX void make(fixture *f, const rnn_case *c) {
    int wide = wide_of(c);
    fx_init(f, SAMPLES);
    f->reference_data = c;
    f->compute = c->compute;
    f->tolerance = c->tolerance;
    ls_tensor *in[4] = {fx_input(f, c->vocabulary > 0 ? fx_shape(1, STEPS) : fx_shape(2, STEPS, WIDTH))};
    for (int k = 0; c->given && k < n_states(c); k++) {
        in[1 + k] = fx_input(f, fx_shape(1, UNITS));
    }
    if (c->masked) {
        in[0]->mask = fx_input(f, fx_shape(1, STEPS));
        in[0]->mask->dtype = LS_F32;
    }
    ls_weight *w[6] = {fx_weight(f, fx_shape(2, WIDTH, wide)), fx_weight(f, fx_shape(2, UNITS, wide))};
    int n = 2;
    if (c->attr.use_bias) {
        w[n++] = c->attr.cell == LS_CELL_GRU_RESET_AFTER ? fx_weight(f, fx_shape(2, 2, wide))
                                                         : fx_weight(f, fx_shape(1, wide));
    }
    if (c->attr.cell == LS_CELL_JORDAN) {
        w[n++] = fx_weight(f, fx_shape(2, HIDDEN, UNITS));
        w[n] = c->attr.use_bias ? fx_weight(f, fx_shape(1, UNITS)) : NULL;
    }
    if (c->vocabulary > 0) {
        ls_weight *table[2] = {fx_weight(f, fx_shape(2, c->vocabulary, WIDTH))};
        ls_tensor *numbers[2] = {in[0]}, *rows;
        rows = fx_node(f, &ls_op_embedding, NULL, numbers, table, fx_shape(2, STEPS, WIDTH));
        rows->mask = in[0]->mask;
        in[0] = rows;
        f->low = 0;
        f->high = c->vocabulary;
    }
    fx_node(f, &ls_op_rnn, &c->attr, in, w, c->attr.sequences ? fx_shape(2, STEPS, UNITS) : fx_shape(1, UNITS));
    if (c->states) {
        add_states(f, c);
    }
}

/* As fx_run runs it; sample i of the run is sample first + i of the data. */
FX ls_run run_of(const fixture *f, uint32_t *index, uint32_t first) {
    for (uint32_t i = 0; i < SAMPLES; i++) {
        index[i] = 1000 + first + i;
    }
    return (ls_run){f->n_samples, f->n_threads, 1.0f / (float)f->n_samples, 1.0f, 7, 3, index, f->states};
}

/* Inputs (from sample `first` of `from` on) and targets again: their memory serves other values during a pass. */
FX void fill(fixture *f, const fixture *from, size_t first) {
    for (int i = 0; i < f->model.n_inputs; i++) {
        float *to = ls_plan_input(f->plan, i);
        for (size_t k = 0; k < f->n_in[i]; k++) {
            to[k] = (float)from->in[i][first * (f->n_in[i] / (size_t)f->n_samples) + k];
        }
    }
    for (size_t k = 0; !f->inference && k < f->n_out; k++) {
        ((float *)ls_plan_target(f->plan, 0))[k] = (float)f->target[k];
    }
}

FX void run_again(fixture *f) {
    uint32_t index[SAMPLES];
    ls_run run = run_of(f, index, 0);
    fill(f, f, 0);
    ls_plan_run_forward(f->plan, &run);
    ls_plan_run_backward(f->plan, &run, NULL, NULL);
}

FX void check_gradients(fixture *f, int n_inputs) {
    const rnn_case *c = f->reference_data;
    for (int i = c->vocabulary > 0 ? 1 : 0; i < n_inputs; i++) {
        fx_differences(f, rnn_reference, "input gradient", f->in[i], ls_plan_input_gradient(f->plan, i), f->n_in[i]);
    }
    for (int i = 0; i < f->model.n_weights; i++) {
        float *got = ls_xcalloc(f->n_weight[i], sizeof *got);
        ls_arena_get(f->arena, f->weights[i], f->gradients, got);
        fx_differences(f, rnn_reference, "weight gradient", f->weight[i], got, f->n_weight[i]);
        free(got);
    }
}

FX void check(rnn_case c) {
    fixture f;
    make(&f, &c);
    fx_run(&f);
    if (c.vocabulary > 0) {
        assert_int_equal(ls_plan_absorbed(f.plan, f.nodes[0]), 2 * c.vocabulary <= SAMPLES * STEPS);
    }
    if (c.masked) {
        int at = f.model.n_inputs - 1;
        for (int64_t i = 0; i < SAMPLES * STEPS; i++) {
            f.in[at][i] = mask_at(i / STEPS, i % STEPS);
        }
        run_again(&f);
    }
    fx_check_forward(&f, rnn_reference);
    check_gradients(&f, 1 + (c.given ? n_states(&c) : 0));
    fx_release(&f);
}

#define FOR_CELLS(cell) for (ls_cell_kind cell = LS_CELL_SIMPLE; cell <= LS_CELL_JORDAN; cell++)

/* ---- dropout ---- */

FX void draw(double *to, size_t n, double rate, uint32_t first_group, size_t sample) {
    uint32_t index[SAMPLES];
    uint8_t keep[LS_DRAW_GROUP];
    for (uint32_t i = 0; i < SAMPLES; i++) {
        index[i] = 1000 + i;
    }
    ls_run run = {.n_samples = SAMPLES, .seed = 7, .step = 3, .sample_index = index};
    ls_draw_keep(&run, 0, sample, first_group, ls_draw_threshold(rate), n, keep);
    for (size_t i = 0; i < n; i++) {
        to[i] = keep[i] ? 1 / (1 - rate) : 0;
    }
}

FX rnn_case dropping(ls_cell_kind cell) {
    rnn_case c = plain(cell);
    c.attr.dropout = 0.4;
    c.attr.recurrent_dropout = 0.3;
    c.attr.sequences = true;
    for (size_t n = 0; n < SAMPLES; n++) {
        draw(c.drop_in[n], WIDTH, 0.4, 0, n);
        draw(c.drop_state[n], UNITS, 0.3, 1 << 24, n);
    }
    return c;
}

#endif
