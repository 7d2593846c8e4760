/* Recurrent layers: every cell in every mode, with gradients by central differences. */
#include "tests/unit/worker/rnn_fixture.h"

static void test_directions(void **state) {
    (void)state;
    FOR_CELLS(cell) {
        for (int bits = 0; bits < 8; bits++) {
            rnn_case c = plain(cell);
            c.attr.sequences = bits & 1;
            c.attr.backwards = bits & 2;
            c.attr.flip = (bits & 5) == 5;
            c.attr.use_bias = !(bits & 4);
            check(c);
        }
    }
}

static void test_states(void **state) {
    (void)state;
    FOR_CELLS(cell) {
        for (int bits = 1; bits < 4; bits++) {
            rnn_case c = plain(cell);
            c.given = bits & 1;
            c.states = bits & 2;
            c.attr.backwards = bits == 3;
            check(c);
        }
    }
}

static void test_masks(void **state) {
    (void)state;
    FOR_CELLS(cell) {
        for (int bits = 0; bits < 16; bits++) {
            rnn_case c = plain(cell);
            c.masked = true;
            c.attr.sequences = bits & 1;
            c.attr.backwards = bits & 2;
            c.given = bits & 4;
            c.attr.zero_masked = (bits & 9) == 9;
            c.states = !c.attr.sequences;
            check(c);
        }
    }
}

static void test_activations(void **state) {
    (void)state;
    static const ls_act_kind kinds[][2] = {{LS_ACT_SWISH, LS_ACT_SIGMOID},
                                           {LS_ACT_TANH, LS_ACT_SOFTSIGN},
                                           {LS_ACT_SOFTSIGN, LS_ACT_SWISH},
                                           {LS_ACT_SOFTMAX, LS_ACT_SIGMOID},
                                           {LS_ACT_LINEAR, LS_ACT_SOFTMAX}};
    FOR_CELLS(cell) {
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            rnn_case c = plain(cell);
            c.attr.activation.kind = kinds[i][0];
            c.attr.recurrent_activation.kind = kinds[i][1];
            c.attr.sequences = true;
            check(c);
        }
    }
}

/* ---- dropout ---- */

static void test_dropout(void **state) {
    (void)state;
    FOR_CELLS(cell) {
        rnn_case c = dropping(cell);
        double dropped = 0, kept = 0;
        for (int n = 0; n < SAMPLES; n++) {
            for (int j = 0; j < UNITS; j++) {
                dropped += c.drop_state[n][j] == 0;
                kept += c.drop_state[n][j] != 0;
            }
        }
        assert_true(dropped > 0 && kept > 0);
        check(c);
        c.masked = c.given = true;
        check(c);
    }
}

/* The same samples in two halves give what they give together. */
static void test_dropout_by_lanes(void **state) {
    (void)state;
    FOR_CELLS(cell) {
        rnn_case c = dropping(cell);
        fixture whole, half;
        make(&whole, &c);
        fx_run(&whole);
        for (uint32_t lane = 0; lane < 2; lane++) {
            uint32_t index[SAMPLES], first = lane * SAMPLES / 2;
            make(&half, &c);
            half.n_samples = SAMPLES / 2;
            fx_run(&half);
            ls_run run = run_of(&half, index, first);
            size_t n_out = half.n_out;
            fill(&half, &whole, first);
            ls_plan_run_forward(half.plan, &run);
            const float *got = ls_plan_output(half.plan, 0), *want = ls_plan_output(whole.plan, 0) + lane * n_out;
            for (size_t i = 0; i < n_out; i++) {
                assert_true(fabsf(got[i] - want[i]) < 1e-6f);
            }
            fx_release(&half);
        }
        fx_release(&whole);
    }
}

/* ---- stateful ---- */

/* A batch goes on where the batch before it stopped, other memory with other states; inference too. */
static void test_stateful(void **state) {
    (void)state;
    FOR_CELLS(cell) {
        for (int inference = 0; inference < 2; inference++) {
            rnn_case c = plain(cell), long_case = plain(cell);
            fixture f;
            uint32_t index[SAMPLES];
            c.attr.stateful = true;
            make(&f, &c);
            float kept[2][SAMPLES * UNITS] = {{0}}, others[2][SAMPLES * UNITS] = {{0}};
            float *mine[2] = {kept[0], kept[1]}, *theirs[2] = {others[0], others[1]};
            f.inference = inference;
            f.states = mine;
            fx_run(&f); /* the first batch */
            ls_run run = run_of(&f, index, 0);
            fx_check_forward(&f, rnn_reference);
            double *first = ls_xcalloc(f.n_out, sizeof *first), *in[4] = {f.in[0]};
            long_case.given = true;
            double *states[2] = {ls_xcalloc(f.n_out, sizeof(double)), ls_xcalloc(f.n_out, sizeof(double))};
            for (int64_t n = 0; n < SAMPLES; n++) { /* the states after the first batch, by the reference */
                for (int64_t t = 0; t < STEPS; t++) {
                    step(&c, n, f.in[0] + (n * STEPS + t) * WIDTH, f.weight, states[0] + n * UNITS,
                         states[1] + n * UNITS);
                }
            }
            in[1] = states[0];
            in[2] = states[1];
            f.reference_data = &long_case;
            fill(&f, &f, 0);
            ls_plan_run_forward(f.plan, &run);
            rnn_reference(&f, in, f.weight, first);
            fx_compare(&f, "second batch", ls_plan_output(f.plan, 0), first, f.n_out, 0);
            f.reference_data = &c;
            run.states = theirs;
            fill(&f, &f, 0);
            ls_plan_run_forward(f.plan, &run);
            fx_check_forward(&f, rnn_reference);
            free(first);
            free(states[0]);
            free(states[1]);
            fx_release(&f);
        }
    }
}

/* ---- several threads and a size that kernels like ---- */

static void test_threads_agree(void **state) {
    (void)state;
    FOR_CELLS(cell) {
        rnn_case c = plain(cell);
        fixture one, two;
        c.attr.sequences = true;
        make(&one, &c);
        make(&two, &c);
        two.n_threads = 2;
        fx_run(&one);
        fx_run(&two);
        fx_check_forward(&two, rnn_reference);
        check_gradients(&two, 1);
        fx_release(&one);
        fx_release(&two);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directions), cmocka_unit_test(test_states),
        cmocka_unit_test(test_masks),      cmocka_unit_test(test_activations),
        cmocka_unit_test(test_dropout),    cmocka_unit_test(test_dropout_by_lanes),
        cmocka_unit_test(test_stateful),   cmocka_unit_test(test_threads_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
