#include "trainer/cli/summary_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "worker/plan/arena.h"
#include "worker/plan/heads.h"
#include "worker/plan/plan.h"

typedef struct {
    double output_bytes, forward_flops, training_flops;
} layer_cost;

static const ls_layer *top_of(const ls_layer *layer) {
    while (layer->parent != NULL) {
        layer = layer->parent;
    }
    return layer;
}

static ls_status compile(const ls_model *m, ls_arena *arena, ls_heads *heads, int64_t n_samples, ls_plan **out,
                         ls_err *err) {
    ls_plan_options o = {
        .n_samples = n_samples, .training = heads != NULL, .compute = LS_F32, .n_threads = 1, .heads = heads};
    return ls_plan_create(out, m, arena, &o, err);
}

/* By layer->id of the top layers. */
static void add_costs(const ls_model *m, const ls_plan *training, layer_cost *cost) {
    for (int i = 0; i < m->n_nodes; i++) {
        for (int o = 0; o < m->nodes[i]->n_out; o++) {
            const ls_tensor *t = m->nodes[i]->out[o];
            cost[top_of(m->nodes[i]->layer)->id].output_bytes += 4.0 * (double)(t->rows * ls_shape_elems(&t->shape));
        }
    }
    for (int phase = LS_PHASE_FORWARD; phase <= LS_PHASE_BACKWARD; phase++) {
        for (int i = 0; i < ls_plan_n_calls(training, (ls_phase)phase); i++) {
            const ls_call *c = ls_plan_call(training, (ls_phase)phase, i);
            if (c->node != NULL) {
                double flops = c->flops / (double)ls_plan_samples(training);
                layer_cost *k = &cost[top_of(c->node->layer)->id];
                k->forward_flops += phase == LS_PHASE_FORWARD ? flops : 0;
                k->training_flops += flops;
            }
        }
    }
}

static void print_table(const ls_model *m, const layer_cost *cost) {
    layer_cost all = {0};
    char bytes[32];
    printf("%-28s %14s %18s %18s\n", "Layer", "values", "multiply-adds", "in training");
    for (int i = 0; i < m->n_layers; i++) {
        const layer_cost *k = &cost[m->layers[i]->id];
        if (m->layers[i]->builtin_input) {
            continue;
        }
        printf("%-28.28s %14s %18.0f %18.0f\n", m->layers[i]->name,
               ls_format_bytes(bytes, sizeof bytes, k->output_bytes), k->forward_flops / 2, k->training_flops / 2);
        all.output_bytes += k->output_bytes;
        all.forward_flops += k->forward_flops;
        all.training_flops += k->training_flops;
    }
    printf("%-28s %14s %18.0f %18.0f\n", "a sample", ls_format_bytes(bytes, sizeof bytes, all.output_bytes),
           all.forward_flops / 2, all.training_flops / 2);
}

static void print_memory(const ls_arena *arena, const ls_plan *training, const ls_plan *inference) {
    char a[32], b[32], c[32], d[32];
    printf("Plan for %" PRId64
           " samples: %s for values and gradients of a training step (%s for inference); weights %s and "
           "gradients %s a node\n",
           ls_plan_samples(training), ls_format_bytes(a, sizeof a, (double)ls_plan_arena_bytes(training)),
           ls_format_bytes(b, sizeof b, (double)ls_plan_arena_bytes(inference)),
           ls_format_bytes(c, sizeof c, 4.0 * (double)arena->n_total),
           ls_format_bytes(d, sizeof d, 4.0 * (double)arena->n_reduced));
}

static ls_status print(const ls_model *m, ls_arena *arena, ls_heads *heads, int64_t n_samples, ls_err *err) {
    ls_plan *training, *inference;
    LS_TRY(compile(m, arena, heads, n_samples, &training, err));
    int *ready = ls_xcalloc((size_t)m->n_weights + 1, sizeof *ready), n_ids = 0;
    for (int i = 0; i < m->n_weights; i++) {
        const ls_weight *w = m->weights[i];
        ready[i] = ls_plan_has_gradient(training, w) ? ls_plan_ready_call(training, w) : LS_NO_GRADIENT;
    }
    ls_arena_place(arena, ready);
    free(ready);
    ls_status s = compile(m, arena, NULL, n_samples, &inference, err);
    if (s == LS_OK) {
        for (int i = 0; i < m->n_layers; i++) {
            n_ids = m->layers[i]->id >= n_ids ? m->layers[i]->id + 1 : n_ids;
        }
        for (int i = 0; i < m->n_nodes; i++) {
            int id = top_of(m->nodes[i]->layer)->id;
            n_ids = id >= n_ids ? id + 1 : n_ids;
        }
        layer_cost *cost = ls_xcalloc((size_t)n_ids + 1, sizeof *cost);
        add_costs(m, training, cost);
        print_table(m, cost);
        print_memory(arena, training, inference);
        free(cost);
        ls_plan_destroy(inference);
    }
    ls_plan_destroy(training);
    return s;
}

ls_status ls_summary_print_plan(const ls_model *model, int64_t n_samples, ls_err *err) {
    /* A training plan needs a loss; which one does not matter to what the layers take. */
    ls_loss *losses = ls_xcalloc((size_t)model->n_outputs, sizeof *losses);
    for (int i = 0; i < model->n_outputs; i++) {
        losses[i].class_ = ls_loss_classes()[0];
    }
    ls_heads *heads = ls_heads_create(model->n_outputs, losses, NULL, 0, NULL, NULL, false);
    ls_arena *arena = ls_arena_create(model);
    ls_status s = print(model, arena, heads, n_samples, err);
    ls_arena_destroy(arena);
    ls_heads_destroy(heads);
    free(losses);
    return s;
}
