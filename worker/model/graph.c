/*
 * From the graph as written to calls in the order in which Keras runs them.
 *
 * Source: tf_keras/engine/functional.py (_map_graph_network, _build_map): layers in order of decreasing depth, those of
 * equal depth in the order in which a walk from the outputs meets them. The order matters beyond looks: Keras matches
 * the weights of an HDF5 file to layers by their position in it.
 */
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "worker/model/build.h"
#include "worker/ops/ops.h"

typedef struct {
    const ls_graph_spec *g;
    const ls_layer_spec **owner; /* (n_calls) the layer of a call */
    int *state;                  /* (n_calls) 0 not seen, 1 on the way, 2 done */
    int *finished, n_finished;   /* calls, inputs before outputs */
    int *met;                    /* (n_layers) when the walk met the layer; -1: never */
    int n_met;
    int *call_depth, *layer_depth; /* distance from the outputs; -1: not connected to one */
    int *layer_order, n_order;     /* layers as Keras orders them */
    int *place;                    /* (n_layers) position in layer_order */
    int *run_order;                /* (n_finished) calls */
} walk;

static int call_of(const walk *w, const ls_tensor_ref *ref) {
    return w->g->layers[ref->layer].first_call + (int)ref->call;
}

static const ls_call_spec *spec_of(const walk *w, int call) {
    return &w->owner[call]->calls[call - w->owner[call]->first_call];
}

static ls_status walk_from(walk *w, int start, ls_err *err) {
    typedef struct {
        int call, next;
    } frame;
    frame *stack = ls_xcalloc((size_t)w->g->n_calls, sizeof *stack);
    int depth = 0;
    ls_status status = LS_OK;
    stack[depth++] = (frame){start, 0};
    while (depth > 0) {
        frame *top = &stack[depth - 1];
        int layer = (int)(w->owner[top->call] - w->g->layers);
        const ls_call_spec *call = spec_of(w, top->call);
        if (top->next == 0) {
            w->state[top->call] = 1;
            if (w->met[layer] < 0) {
                w->met[layer] = w->n_met++;
            }
        }
        if (top->next == call->n_in) {
            w->state[top->call] = 2;
            w->finished[w->n_finished++] = top->call;
            depth--;
            continue;
        }
        const ls_tensor_ref *ref = &call->in[top->next++];
        int from = call_of(w, ref);
        if (w->state[from] == 1) {
            status = ls_json_fail(ref->at, err, "the layers form a cycle: \"%s\" depends on its own output",
                                  w->g->layers[ref->layer].name);
            break;
        }
        if (w->state[from] == 0) {
            stack[depth++] = (frame){from, 0};
        }
    }
    free(stack);
    return status;
}

static void find_depths(walk *w) {
    const ls_graph_spec *g = w->g;
    for (int i = w->n_finished - 1; i >= 0; i--) {
        int call = w->finished[i], layer = (int)(w->owner[call] - g->layers);
        int depth = w->call_depth[call] > 0 ? w->call_depth[call] : 0;
        if (w->layer_depth[layer] > depth) {
            depth = w->layer_depth[layer];
        }
        w->layer_depth[layer] = w->call_depth[call] = depth;
        const ls_call_spec *spec = spec_of(w, call);
        for (int k = 0; k < spec->n_in; k++) {
            int from = call_of(w, &spec->in[k]);
            if (w->call_depth[from] < depth + 1) {
                w->call_depth[from] = depth + 1;
            }
        }
    }
}

static const walk *sorting;

static int by_depth_of_layer(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    int by_depth = sorting->layer_depth[y] - sorting->layer_depth[x];
    return by_depth != 0 ? by_depth : sorting->met[x] != sorting->met[y] ? sorting->met[x] - sorting->met[y] : x - y;
}

static int by_depth_of_call(const void *a, const void *b) {
    int x = *(const int *)a, y = *(const int *)b;
    int by_depth = sorting->call_depth[y] - sorting->call_depth[x];
    int by_place =
        sorting->place[sorting->owner[x] - sorting->g->layers] - sorting->place[sorting->owner[y] - sorting->g->layers];
    return by_depth != 0 ? by_depth : by_place != 0 ? by_place : x - y;
}

static void sort(walk *w) {
    const ls_graph_spec *g = w->g;
    for (int i = 0; i < g->n_layers; i++) {
        if (w->layer_depth[i] >= 0) {
            w->layer_order[w->n_order++] = i;
        }
    }
    sorting = w;
    if (!g->sequential) {
        qsort(w->layer_order, (size_t)w->n_order, sizeof *w->layer_order, by_depth_of_layer);
    }
    for (int i = 0; i < w->n_order; i++) {
        w->place[w->layer_order[i]] = i;
    }
    memcpy(w->run_order, w->finished, (size_t)w->n_finished * sizeof *w->run_order);
    qsort(w->run_order, (size_t)w->n_finished, sizeof *w->run_order, by_depth_of_call);
    sorting = NULL;
}

static ls_status order_graph(walk *w, ls_err *err) {
    const ls_graph_spec *g = w->g;
    for (int i = 0; i < g->n_layers; i++) {
        w->met[i] = w->layer_depth[i] = -1;
        for (int k = 0; k < g->layers[i].n_calls; k++) {
            w->owner[g->layers[i].first_call + k] = &g->layers[i];
            w->call_depth[g->layers[i].first_call + k] = -1;
        }
    }
    for (int i = 0; i < g->n_outputs; i++) {
        int call = call_of(w, &g->outputs[i]);
        if (w->state[call] == 0) {
            LS_TRY(walk_from(w, call, err));
        }
    }
    find_depths(w);
    for (int i = 0; i < g->n_inputs; i++) {
        int layer = g->inputs[i].layer; /* an input that no output depends on stays in the model */
        if (w->layer_depth[layer] < 0) {
            w->layer_depth[layer] = w->call_depth[g->layers[layer].first_call] = 0;
            w->finished[w->n_finished++] = g->layers[layer].first_call;
        }
    }
    sort(w);
    return LS_OK;
}

/* The tensor of an InputLayer: a new one at the top, the caller's in a nested model. */
static ls_status input_tensor(ls_builder *b, ls_layer *parent, const walk *w, const ls_layer_spec *spec, int n_in,
                              ls_tensor *const *in, ls_tensor **out, ls_err *err) {
    int slot = -1;
    for (int i = 0; i < w->g->n_inputs; i++) {
        if (w->g->inputs[i].layer == (int)(spec - w->g->layers)) {
            slot = i;
        }
    }
    if (slot < 0) {
        return ls_json_fail(spec->at, err, "the InputLayer \"%s\" is used but is not among \"input_layers\"",
                            spec->name);
    }
    if (parent == NULL) {
        *out = b->model->inputs[slot];
        return LS_OK;
    }
    LS_ASSERT(slot < n_in);
    ls_open_shape declared;
    LS_TRY(ls_spec_input_shape(spec->at, &declared, err));
    const ls_shape *given = &in[slot]->shape;
    bool fits = !declared.given || declared.rank == given->rank;
    for (int i = 0; fits && declared.given && i < given->rank; i++) {
        fits = declared.dim[i] < 0 || declared.dim[i] == given->dim[i];
    }
    if (!fits) {
        char text[96];
        return ls_json_fail(spec->at, err, "input \"%s\" of model \"%s\" is given a tensor of shape %s", spec->name,
                            parent->name, ls_shape_text(given, true, text, sizeof text));
    }
    *out = in[slot];
    return LS_OK;
}

/* The call argument mask, the last of the tensors: it takes the place of the mask that comes with the first one. */
static ls_status take_mask(ls_builder *b, ls_layer *layer, ls_json kwargs, ls_tensor **tensors, int *n_tensors,
                           ls_err *err) {
    ls_json mask = ls_json_member(kwargs, "mask");
    if (!ls_json_present(mask)) {
        return LS_OK;
    }
    if (!ls_word_listed(layer->class_->call_keys, "mask")) {
        return ls_json_fail(mask, err, "%s takes no mask as an argument of its call here; expected null",
                            layer->class_->name);
    }
    ls_tensor *in = tensors[0], *given = tensors[--*n_tensors];
    if (in->shape.rank < 1 || given->shape.rank != 1 || given->shape.dim[0] != in->shape.dim[0] ||
        given->rows != in->rows) {
        char text[96], want[96];
        return ls_json_fail(mask, err, "the mask has the shape %s, which is not that of the time steps of %s",
                            ls_shape_text(&given->shape, true, text, sizeof text),
                            ls_shape_text(&in->shape, true, want, sizeof want));
    }
    ls_mask_attr a = {.differs = false};
    tensors[0] = ls_builder_view(b, layer, in, in->rows, &in->shape);
    tensors[0]->mask =
        ls_builder_node(b, layer, &ls_op_mask, &a, sizeof a, 1, &given, 0, NULL, 1, &given->shape)->out[0];
    return LS_OK;
}

static ls_status run_call(ls_builder *b, ls_layer *parent, const walk *w, int call, int n_in, ls_tensor *const *in,
                          ls_layer_call *done, ls_err *err) {
    const ls_layer_spec *spec = w->owner[call];
    const ls_call_spec *uses = spec_of(w, call);
    ls_layer *layer =
        parent != NULL ? ls_builder_child(parent, spec->name) : b->model->layers[w->place[spec - w->g->layers]];
    if (spec->is_input) {
        ls_tensor *t = NULL;
        LS_TRY(input_tensor(b, parent, w, spec, n_in, in, &t, err));
        done[call] = (ls_layer_call){.layer = layer, .n_out = 1, .out = {t}};
        if (layer->n_calls++ == 0) {
            layer->out = ls_pool_alloc(&b->model->pool, sizeof(ls_tensor *));
            layer->out[0] = t;
            layer->n_out = 1;
        }
        return LS_OK;
    }
    ls_tensor **tensors = ls_pool_alloc(&b->model->pool, (size_t)uses->n_in * sizeof(ls_tensor *));
    for (int k = 0; k < uses->n_in; k++) {
        const ls_tensor_ref *ref = &uses->in[k];
        const ls_layer_call *from = &done[call_of(w, ref)];
        if (ref->output < 0 || ref->output >= from->n_out) {
            return ls_json_fail(ref->at, err, "layer \"%s\" has %d output%s: there is no tensor %d", from->layer->name,
                                from->n_out, from->n_out == 1 ? "" : "s", (int)ref->output);
        }
        tensors[k] = from->out[ref->output];
        LS_PUSH(layer->links, layer->n_links, layer->cap_links,
                ls_pool_printf(&b->model->pool, "%s[%d][%d]", from->layer->name,
                               (int)(ref->call + w->g->layers[ref->layer].base), (int)ref->output));
    }
    int n_tensors = uses->n_in;
    LS_TRY(take_mask(b, layer, uses->kwargs, tensors, &n_tensors, err));
    return ls_builder_call(b, layer, n_tensors, tensors, uses->kwargs, &done[call], err);
}

/* Makes the layers, in Keras's order, unless an earlier call of a shared nested model has made them. */
static void make_layers(ls_builder *b, ls_layer *parent, const walk *w) {
    for (int i = 0; i < w->n_order; i++) {
        const ls_layer_spec *spec = &w->g->layers[w->layer_order[i]];
        if (parent == NULL || ls_builder_child(parent, spec->name) == NULL) {
            ls_builder_new_layer(b, parent, spec->name, spec->class_, spec->config);
        }
    }
}

static ls_status run_graph(ls_builder *b, ls_layer *parent, walk *w, ls_layer_call *done, int n_in,
                           ls_tensor *const *in, ls_tensor **out, ls_err *err) {
    const ls_graph_spec *g = w->g;
    if (parent != NULL && n_in != g->n_inputs) {
        return ls_json_fail(g->at, err, "model \"%s\" takes %d input%s, but is given %d", parent->name, g->n_inputs,
                            g->n_inputs == 1 ? "" : "s", n_in);
    }
    LS_TRY(order_graph(w, err));
    make_layers(b, parent, w);
    for (int i = 0; i < w->n_finished; i++) {
        LS_TRY(run_call(b, parent, w, w->run_order[i], n_in, in, done, err));
    }
    for (int i = 0; i < g->n_outputs; i++) {
        const ls_layer_call *from = &done[call_of(w, &g->outputs[i])];
        if (g->outputs[i].output < 0 || g->outputs[i].output >= from->n_out) {
            return ls_json_fail(g->outputs[i].at, err, "layer \"%s\" has %d output%s: there is no tensor %d",
                                from->layer->name, from->n_out, from->n_out == 1 ? "" : "s", (int)g->outputs[i].output);
        }
        out[i] = from->out[g->outputs[i].output];
    }
    return LS_OK;
}

ls_status ls_graph_build(ls_builder *b, ls_layer *parent, const ls_graph_spec *g, int n_in, ls_tensor *const *in,
                         ls_tensor **out, ls_err *err) {
    size_t n_calls = (size_t)g->n_calls, n_layers = (size_t)g->n_layers;
    int *ints = ls_xcalloc(4 * n_calls + 4 * n_layers, sizeof *ints);
    walk w = {.g = g, .owner = ls_xcalloc(n_calls, sizeof *w.owner), .state = ints, .finished = ints + n_calls};
    w.call_depth = ints + 2 * n_calls;
    w.run_order = ints + 3 * n_calls;
    w.met = ints + 4 * n_calls;
    w.layer_depth = w.met + n_layers;
    w.layer_order = w.met + 2 * n_layers;
    w.place = w.met + 3 * n_layers;
    ls_layer_call *done = ls_xcalloc(n_calls, sizeof *done);
    ls_status status = run_graph(b, parent, &w, done, n_in, in, out, err);
    free(done);
    free(w.owner);
    free(ints);
    return status;
}
