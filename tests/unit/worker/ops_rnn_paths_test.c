/*
 * The ways in which a recurrent layer may go: rows of a table multiplied once, bfloat16, several threads with parts of
 * the samples each.
 */
#include "tests/unit/worker/rnn_fixture.h"
#include "worker/ops/rnn.h"

/* ---- rows of a table ---- */

/* A small table is multiplied once, a large one by the rows that are read; both are the same to the reference. */
static void test_tables(void **state) {
    (void)state;
    FOR_CELLS(cell) {
        for (int bits = 0; bits < 16; bits++) {
            rnn_case c = plain(cell);
            c.vocabulary = bits & 1 ? SAMPLES * STEPS / 2 : SAMPLES * STEPS / 2 + 1;
            c.attr.sequences = bits & 2;
            c.attr.backwards = bits & 4;
            c.attr.use_bias = !(bits & 8);
            c.masked = (bits & 6) == 6;
            check(c);
        }
    }
}

/* The table of two nodes, as Bidirectional has it, and a frozen one. */
static void test_shared_table(void **state) {
    (void)state;
    static const ls_merge_attr sum = {.kind = LS_MERGE_ADD};
    for (int frozen = 0; frozen < 2; frozen++) {
        rnn_case c = plain(LS_CELL_SIMPLE);
        fixture f, single;
        c.vocabulary = 7;
        make(&single, &c);
        fx_run(&single);
        make(&f, &c);
        ls_tensor *in[2] = {f.nodes[0]->out[0]}, *both[3] = {f.nodes[1]->out[0]};
        both[1] = fx_node(&f, &ls_op_rnn, &c.attr, in, f.nodes[1]->weights, fx_shape(1, UNITS));
        fx_node(&f, &ls_op_merge, &sum, both, NULL, fx_shape(1, UNITS));
        f.weights[f.model.n_weights - 1]->trainable = !frozen;
        fx_run(&f);
        assert_true(ls_plan_absorbed(f.plan, f.nodes[0]));
        for (size_t i = 0; i < f.n_out; i++) { /* the same node twice gives twice its output */
            assert_true(fabsf(ls_plan_output(f.plan, 0)[i] - 2 * ls_plan_output(single.plan, 0)[i]) < 1e-6f);
        }
        assert_int_equal(ls_plan_has_gradient(f.plan, f.weights[f.model.n_weights - 1]), !frozen);
        fx_release(&single);
        fx_release(&f);
    }
}

/* A number that is not in the table is seen in the output, and does no harm to the memory around the table. */
static void test_number_outside(void **state) {
    (void)state;
    rnn_case c = plain(LS_CELL_GRU);
    fixture f;
    uint32_t index[SAMPLES];
    c.vocabulary = 5;
    make(&f, &c);
    fx_run(&f);
    f.in[0][STEPS] = 5; /* of the second sample */
    ls_run run = run_of(&f, index, 0);
    fill(&f, &f, 0);
    ls_plan_run_forward(f.plan, &run);
    for (size_t i = 0; i < f.n_out; i++) {
        assert_int_equal(isnan(ls_plan_output(f.plan, 0)[i]) != 0, i / UNITS == 1);
    }
    fx_release(&f);
}

/* ---- bfloat16 ---- */

static void test_bfloat16(void **state) {
    (void)state;
    if (!ls_dnn_has_bf16()) {
        skip();
    }
    FOR_CELLS(cell) {
        for (int bits = 0; bits < 16; bits++) {
            rnn_case c = bits & 8 ? dropping(cell) : plain(cell);
            c.compute = LS_BF16;
            c.tolerance = 1.0 / 24; /* roundings of five steps */
            c.attr.sequences = bits & 1;
            c.given = bits & 2;
            c.states = !c.attr.sequences;
            c.masked = bits & 4;
            c.vocabulary = bits & 1 && !(bits & 8) ? 6 : 0;
            check(c);
        }
    }
}

/* ---- several threads ---- */

enum { MANY = 64, LONG = 8, BROAD = 48, NARROW = 5, WORDS = 40 };

/* Many samples of a layer that is large enough for two threads; the input is a table's rows, or not. */
static void make_large(fixture *f, const ls_rnn_attr *a, bool table, int n_threads, int n_samples) {
    const int hidden = (int)a->hidden;
    const int wide = a->cell == LS_CELL_JORDAN ? hidden
                                               : BROAD * (a->cell == LS_CELL_SIMPLE ? 1
                                                          : a->cell == LS_CELL_LSTM ? 4
                                                                                    : 3);
    fx_init(f, n_samples);
    f->n_threads = n_threads;
    f->low = table ? 0 : -1;
    f->high = table ? WORDS : 1;
    ls_tensor *in[2] = {fx_input(f, table ? fx_shape(1, LONG) : fx_shape(2, LONG, NARROW))};
    ls_weight *w[6] = {fx_weight(f, fx_shape(2, NARROW, wide)), fx_weight(f, fx_shape(2, BROAD, wide))};
    w[2] = a->cell == LS_CELL_GRU_RESET_AFTER ? fx_weight(f, fx_shape(2, 2, wide)) : fx_weight(f, fx_shape(1, wide));
    if (a->cell == LS_CELL_JORDAN) {
        w[3] = fx_weight(f, fx_shape(2, hidden, BROAD));
        w[4] = fx_weight(f, fx_shape(1, BROAD));
    }
    if (table) {
        ls_weight *rows[2] = {fx_weight(f, fx_shape(2, WORDS, NARROW))};
        in[0] = fx_node(f, &ls_op_embedding, NULL, in, rows, fx_shape(2, LONG, NARROW));
    }
    fx_node(f, &ls_op_rnn, a, in, w, fx_shape(2, LONG, BROAD));
    fx_run(f);
}

/* Parts that the forward call of the last node was cut into. */
static size_t parts_of(const fixture *f) {
    for (int i = 0; i < ls_plan_n_calls(f->plan, LS_PHASE_FORWARD); i++) {
        const ls_call *c = ls_plan_call(f->plan, LS_PHASE_FORWARD, i);
        if (c->run == ls_rnn_forward_kernel) {
            return ((const rnn_call *)c->state)->n_parts;
        }
    }
    return 0;
}

static void compare_gradients(const fixture *a, const fixture *b) {
    for (int i = 0; i < a->model.n_weights; i++) {
        const size_t n = a->n_weight[i], at = a->arena->slot[i].offset;
        double *want = ls_xcalloc(n, sizeof *want);
        for (size_t k = 0; k < n; k++) {
            want[k] = a->gradients[at + k];
        }
        fx_compare(b, "gradient", b->gradients + b->arena->slot[i].offset, want, n, 0);
        free(want);
    }
    for (size_t k = 0; !ls_plan_absorbed(a->plan, a->nodes[0]) && k < a->n_in[0]; k++) {
        assert_true(fabsf(ls_plan_input_gradient(a->plan, 0)[k] - ls_plan_input_gradient(b->plan, 0)[k]) < 1e-6f);
    }
}

static void test_parts_agree(void **state) {
    (void)state;
    FOR_CELLS(cell) {
        for (int bits = 0; bits < (cell == LS_CELL_LSTM ? 4 : 1); bits++) { /* joins are slow on a busy machine */
            ls_rnn_attr a = {.cell = cell, .units = BROAD, .hidden = 160, .use_bias = true, .sequences = true};
            a.activation.kind = LS_ACT_TANH;
            a.recurrent_activation.kind = LS_ACT_SIGMOID;
            a.dropout = bits == 1 ? 0.3 : 0;
            a.recurrent_dropout = bits & 1 ? 0.2 : 0;
            fixture one, two;
            make_large(&one, &a, bits & 2, 1, MANY);
            make_large(&two, &a, bits & 2, 2, MANY);
            assert_int_equal(parts_of(&one), 1);
            assert_int_equal(parts_of(&two), cell == LS_CELL_SIMPLE ? 1 : 2);
            for (size_t i = 0; i < one.n_out; i++) {
                assert_true(fabsf(ls_plan_output(one.plan, 0)[i] - ls_plan_output(two.plan, 0)[i]) < 1e-5f);
            }
            compare_gradients(&one, &two);
            fx_release(&one);
            fx_release(&two);
        }
    }
}

/* Few samples, an odd number of them, and small layers are one thread's, whatever there is. */
static void test_small_work_is_one_threads(void **state) {
    (void)state;
    static const int samples[] = {2, 30, MANY + 1};
    ls_rnn_attr a = {.cell = LS_CELL_LSTM, .units = BROAD, .use_bias = true, .sequences = true};
    a.activation.kind = LS_ACT_TANH;
    a.recurrent_activation.kind = LS_ACT_SIGMOID;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        fixture f;
        make_large(&f, &a, false, 2, samples[i]);
        assert_int_equal(parts_of(&f), 1);
        fx_release(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),         cmocka_unit_test(test_shared_table),
        cmocka_unit_test(test_number_outside), cmocka_unit_test(test_bfloat16),
        cmocka_unit_test(test_parts_agree),    cmocka_unit_test(test_small_work_is_one_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
