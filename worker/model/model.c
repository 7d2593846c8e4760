#include "worker/model/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/build.h"
#include "worker/ops/ops.h"

bool ls_shape_equal(const ls_shape *a, const ls_shape *b) {
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

const char *ls_shape_text(const ls_shape *s, bool with_batch, char *out, size_t size) {
    size_t used = (size_t)snprintf(out, size, "(%s", with_batch ? "None" : "");
    for (int i = 0; i < s->rank && used < size; i++) {
        used += (size_t)snprintf(out + used, size - used, "%s%" PRId64, i > 0 || with_batch ? ", " : "", s->dim[i]);
    }
    if (used < size) {
        snprintf(out + used, size - used, "%s", s->rank + with_batch == 1 ? ",)" : ")");
    }
    return out;
}

bool ls_shape_possible(const ls_shape *s, int64_t rows) {
    int64_t n = rows;
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 1 || __builtin_mul_overflow(n, s->dim[i], &n) || n > LS_MAX_TENSOR) {
            return false;
        }
    }
    return true;
}

/* The same but for axes of size 1: (8, 8) fits (8, 8, 1), since the numbers lie alike. */
static bool equal_but_ones(const ls_shape *a, const ls_open_shape *b) {
    int i = 0, j = 0;
    for (;;) {
        while (i < a->rank && a->dim[i] == 1) {
            i++;
        }
        while (j < b->rank && b->dim[j] == 1) {
            j++;
        }
        if (i == a->rank || j == b->rank) {
            return i == a->rank && j == b->rank;
        }
        if (a->dim[i++] != b->dim[j++]) {
            return false;
        }
    }
}

/* The declared shape with its open dimensions filled from the data's. */
static ls_status settle_shape(ls_json at, const char *name, const ls_open_shape *declared, const ls_shape *data,
                              ls_shape *out, ls_err *err) {
    char text[96];
    if (!declared->given) {
        if (data == NULL) {
            return ls_json_fail(at, err,
                                "the shape of input \"%s\" is not known; give it as \"batch_input_shape\" of the first "
                                "layer",
                                name);
        }
        *out = *data;
        return LS_OK;
    }
    bool fits = data == NULL || data->rank == declared->rank, open = false;
    for (int i = 0; i < declared->rank; i++) {
        open |= declared->dim[i] < 0;
        fits = fits && (data == NULL || declared->dim[i] < 0 || declared->dim[i] == data->dim[i]);
    }
    if (!fits && (open || !equal_but_ones(data, declared))) {
        ls_shape wanted = {.rank = declared->rank};
        memcpy(wanted.dim, declared->dim, sizeof wanted.dim);
        char want[96];
        return ls_json_fail(at, err, "input \"%s\" has the shape %s%s, but the data has %s", name,
                            ls_shape_text(&wanted, false, want, sizeof want), open ? " (-1: any)" : "",
                            ls_shape_text(data, false, text, sizeof text));
    }
    if (open && data == NULL) {
        return ls_json_fail(at, err, "input \"%s\" leaves a dimension open (null), and there is no data to fill it in",
                            name);
    }
    out->rank = declared->rank;
    for (int i = 0; i < declared->rank; i++) {
        out->dim[i] = declared->dim[i];
        if (declared->dim[i] < 0) {
            out->dim[i] = data->dim[i];
        }
    }
    return LS_OK;
}

static ls_status make_inputs(ls_builder *b, const ls_graph_spec *g, ls_err *err) {
    ls_model *m = b->model;
    if (b->input_shapes != NULL && b->n_input_shapes != g->n_inputs) {
        return ls_json_fail(g->at, err, "the model takes %d input%s, but the data has %d", g->n_inputs,
                            g->n_inputs == 1 ? "" : "s", b->n_input_shapes);
    }
    m->n_inputs = g->n_inputs;
    m->inputs = ls_pool_alloc(&m->pool, (size_t)g->n_inputs * sizeof *m->inputs);
    m->input_names = ls_pool_alloc(&m->pool, (size_t)g->n_inputs * sizeof *m->input_names);
    for (int i = 0; i < g->n_inputs; i++) {
        const ls_layer_spec *spec = &g->layers[g->inputs[i].layer];
        ls_open_shape declared;
        ls_shape shape = {0};
        LS_TRY(ls_spec_input_shape(spec->at, &declared, err));
        LS_TRY(settle_shape(spec->at, spec->name, &declared, b->input_shapes != NULL ? &b->input_shapes[i] : NULL,
                            &shape, err));
        for (int k = 0; k < i; k++) {
            if (g->inputs[k].layer == g->inputs[i].layer) {
                return ls_json_fail(g->inputs[i].at, err, "\"%s\" is an input twice", spec->name);
            }
        }
        if (!ls_shape_possible(&shape, 1)) {
            return ls_json_fail(spec->at, err, "input \"%s\" is too large", spec->name);
        }
        m->inputs[i] = ls_builder_new_tensor(b, ls_pool_strdup(&m->pool, spec->name), &shape, 1);
        m->input_names[i] = m->inputs[i]->name;
    }
    return LS_OK;
}

/* Whether everything that uses the tensor takes integers. */
static bool wants_integers(const ls_tensor *t) {
    for (int i = 0; i < t->n_consumers; i++) {
        const ls_node *node = t->consumers[i];
        if (node == NULL) {
            return false;
        }
        bool view = node->op == &ls_op_view && wants_integers(node->out[0]);
        bool table =
            node->op == &ls_op_embedding || (node->op == &ls_op_mask && !((const ls_mask_attr *)node->attr)->differs);
        if (!view && !table) {
            return false;
        }
    }
    return t->n_consumers > 0;
}

static void make_integer(ls_tensor *t) {
    t->dtype = LS_I32;
    for (int i = 0; i < t->n_consumers; i++) {
        if (t->consumers[i]->op == &ls_op_view) {
            make_integer(t->consumers[i]->out[0]);
        }
    }
}

static ls_status build(ls_builder *b, const ls_graph_spec *g, ls_err *err) {
    ls_model *m = b->model;
    m->name = ls_pool_strdup(&m->pool, g->name);
    m->sequential = g->sequential;
    LS_TRY(make_inputs(b, g, err));
    m->n_outputs = g->n_outputs;
    m->outputs = ls_pool_alloc(&m->pool, (size_t)g->n_outputs * sizeof *m->outputs);
    m->output_names = ls_pool_alloc(&m->pool, (size_t)g->n_outputs * sizeof *m->output_names);
    LS_TRY(ls_graph_build(b, NULL, g, 0, NULL, m->outputs, err));
    for (int i = 0; i < g->n_outputs; i++) {
        m->output_names[i] = ls_pool_strdup(&m->pool, g->layers[g->outputs[i].layer].name);
        if (m->outputs[i]->producer == NULL) {
            return ls_json_fail(g->at, err, "output \"%s\" is an input of the model: there is nothing to compute",
                                m->output_names[i]);
        }
        ls_builder_consume(m->outputs[i], NULL);
    }
    for (int i = 0; i < m->n_inputs; i++) {
        if (wants_integers(m->inputs[i])) {
            make_integer(m->inputs[i]);
        }
    }
    ls_builder_number_weights(m);
    return LS_OK;
}

ls_status ls_model_build(ls_model **out, ls_json_doc *doc, const ls_shape *input_shapes, int n_shapes, ls_err *err) {
    ls_model *m = ls_xcalloc(1, sizeof *m);
    m->doc = *doc;
    *doc = (ls_json_doc){0};
    json_t *own = json_deep_copy(m->doc.root); /* normalised in place; others may hold the original */
    json_decref(m->doc.root);
    m->doc.root = own;
    ls_spec_normalise(own);
    ls_builder b = {.model = m, .input_shapes = input_shapes, .n_input_shapes = n_shapes};
    ls_graph_spec graph;
    ls_status status = ls_graph_spec_read(&m->pool, ls_json_root(&m->doc), &graph, err);
    if (status == LS_OK) {
        status = build(&b, &graph, err);
    }
    ls_graph_spec_release(&graph);
    if (status != LS_OK) {
        ls_model_destroy(m);
        return status;
    }
    *out = m;
    return LS_OK;
}

int64_t ls_layer_count_params(const ls_layer *layer, bool trainable_only) {
    int64_t n = 0;
    for (int i = 0; i < layer->n_weights; i++) {
        if (layer->weights[i]->trainable || !trainable_only) {
            n += ls_shape_elems(&layer->weights[i]->shape);
        }
    }
    for (int i = 0; i < layer->n_children; i++) {
        n += ls_layer_count_params(layer->children[i], trainable_only);
    }
    return n;
}

static void release_layer(ls_layer *layer) {
    for (int i = 0; i < layer->n_children; i++) {
        release_layer(layer->children[i]);
    }
    free(layer->children);
    free(layer->weights);
    free(layer->links);
}

void ls_model_destroy(ls_model *m) {
    if (m == NULL) {
        return;
    }
    for (int i = 0; i < m->n_layers; i++) {
        release_layer(m->layers[i]);
    }
    for (int i = 0; i < m->n_tensors; i++) {
        free(m->tensors[i]->consumers);
    }
    free(m->layers);
    free(m->weights);
    free(m->tensors);
    free(m->nodes);
    free(m->state_elems);
    ls_pool_release(&m->pool);
    ls_json_release(&m->doc);
    free(m);
}
