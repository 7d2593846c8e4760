/* Checks of whole layers: built from their configurations, run through a plan. */
#ifndef LS_TESTS_MODEL_OPS_FIXTURE_H
#define LS_TESTS_MODEL_OPS_FIXTURE_H

#include "tests/unit/worker/model_fixture.h"
#include "tests/unit/worker/ops_fixture.h"

/* Checks a model against a reference in double, and destroys it. */
FX void fx_check_model(ls_model *m, fx_reference reference, const void *data, int64_t n_samples) {
    fixture f;
    fx_init(&f, n_samples);
    f.reference_data = data;
    f.least =
        1e-3; /* some gradients are zero, as of the bias of attention's keys: all scores of a query move together */
    f.model = *m;
    f.model.outputs = &f.output;
    assert_in_range(m->n_nodes, 1, FX_MAX);
    memcpy(f.nodes, m->nodes, (size_t)m->n_nodes * sizeof *f.nodes);
    memcpy(f.inputs, m->inputs, (size_t)m->n_inputs * sizeof *f.inputs);
    if (m->n_weights > 0) {
        memcpy(f.weights, m->weights, (size_t)m->n_weights * sizeof *f.weights);
    }
    fx_run(&f);
    fx_check_forward(&f, reference);
    fx_check_gradients(&f, reference);
    for (int i = 0; i < m->n_weights; i++) {
        free(f.weight[i]);
    }
    for (int i = 0; i < m->n_inputs; i++) {
        free(f.in[i]);
    }
    ls_plan_destroy(f.plan);
    ls_arena_destroy(f.arena);
    f.plan = NULL;
    f.arena = NULL;
    f.model.n_weights = f.model.n_inputs = f.model.n_tensors = f.model.n_nodes = 0; /* the model's own to free */
    fx_release(&f);
    ls_model_destroy(m);
}

#endif
