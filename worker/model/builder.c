#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "worker/model/build.h"
#include "worker/model/constraint.h"
#include "worker/model/initializer.h"
#include "worker/ops/ops.h"

ls_model *ls_builder_model(ls_builder *b) {
    return b->model;
}

bool ls_builder_inference(const ls_builder *b) {
    return b->inference > 0;
}

/* ---- layers ---- */

static const char *scope_of(ls_builder *b, const ls_layer *parent, const char *name) {
    if (parent == NULL) {
        return name;
    }
    bool in_model = parent->class_->build == ls_builder_nested;
    if (!in_model) {
        return parent->scope; /* a wrapper's inner layer names its weights after the wrapper */
    }
    /* The nested model's own group in the file holds its weights: its name is not in their paths. */
    return parent->parent == NULL ? name : ls_pool_printf(&b->model->pool, "%s/%s", parent->scope, name);
}

ls_layer *ls_builder_new_layer(ls_builder *b, ls_layer *parent, const char *name, const ls_layer_class *class_,
                               ls_json config) {
    ls_model *m = b->model;
    ls_layer *layer = ls_pool_alloc(&m->pool, sizeof *layer);
    layer->name = ls_pool_strdup(&m->pool, name);
    layer->path = parent == NULL ? layer->name : ls_pool_printf(&m->pool, "%s/%s", parent->path, name);
    layer->scope = scope_of(b, parent, layer->name);
    layer->class_ = class_;
    layer->config = config;
    layer->parent = parent;
    layer->builtin_input = strcmp(class_->name, "InputLayer") == 0;
    json_t *trainable = json_object_get(config.value, "trainable");
    layer->trainable = !json_is_false(trainable) && (parent == NULL || parent->trainable);
    if (parent == NULL) {
        layer->id = m->n_layers;
        LS_PUSH(m->layers, m->n_layers, m->cap_layers, layer);
    } else {
        layer->id = parent->n_children;
        LS_PUSH(parent->children, parent->n_children, parent->cap_children, layer);
    }
    return layer;
}

ls_layer *ls_builder_child(const ls_layer *parent, const char *name) {
    for (int i = 0; i < parent->n_children; i++) {
        if (strcmp(parent->children[i]->name, name) == 0) {
            return parent->children[i];
        }
    }
    return NULL;
}

#undef ls_layer_fail
ls_status ls_layer_fail(const ls_layer_call *call, ls_err *err, const char *format, ...) {
    char what[640];
    LS_FORMAT(what, format);
    return ls_json_fail(call->config, err, "layer \"%s\" (%s): %s", call->layer->name, call->layer->class_->name, what);
}

/* ---- calls ---- */

static const char *const common_keys[] = {
    "name",        "trainable",    "dtype",      "batch_input_shape", "batch_shape",          "input_dim",
    "input_shape", "input_length", "batch_size", "autocast",          "activity_regularizer",
};
enum { N_COMMON = sizeof common_keys / sizeof common_keys[0], MAX_KEYS = 64 };

static ls_status check_keys(const ls_layer_call *call, ls_err *err) {
    char own[1024];
    const char *keys[MAX_KEYS];
    size_t n = 0;
    for (; n < N_COMMON; n++) {
        keys[n] = common_keys[n];
    }
    int length = snprintf(own, sizeof own, "%s", call->layer->class_->keys);
    LS_ASSERT(length >= 0 && (size_t)length < sizeof own);
    char *rest = NULL;
    for (char *key = strtok_r(own, " ", &rest); key != NULL; key = strtok_r(NULL, " ", &rest)) {
        LS_ASSERT(n < MAX_KEYS);
        keys[n++] = key;
    }
    return ls_json_only_keys(call->config, keys, n, err);
}

/* Keys that mean the same for every layer. */
static ls_status check_common(const ls_layer_call *call, ls_err *err) {
    static const char *const dtypes[] = {"float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16",
                                         "int32",   "int64",          "uint8",         "bool"};
    int which = 0;
    bool trainable = true;
    LS_TRY(ls_json_get_bool(call->config, "trainable", &trainable, err));
    LS_TRY(ls_json_get_choice(call->config, "dtype", dtypes, sizeof dtypes / sizeof dtypes[0], &which, err));
    return LS_OK;
}

static ls_status check_inputs(const ls_layer_call *call, ls_err *err) {
    const ls_layer_class *c = call->layer->class_;
    if (call->n_in < c->min_in) {
        return ls_layer_fail(call, err, "needs at least %d input%s, is given %d", c->min_in, c->min_in == 1 ? "" : "s",
                             call->n_in);
    }
    if (c->max_in >= 0 && call->n_in > c->max_in) {
        return ls_layer_fail(call, err, "takes %d input%s, is given %d", c->max_in, c->max_in == 1 ? "" : "s",
                             call->n_in);
    }
    return LS_OK;
}

/* Every call argument is one of `common` or of those that the layer's class lists. */
static ls_status check_call_keys(const ls_layer_call *call, const char *const *common, size_t n_common, ls_err *err) {
    const ls_layer_class *c = call->layer->class_;
    char own[256];
    const char *keys[MAX_KEYS];
    size_t n = 0;
    for (; n < n_common; n++) {
        keys[n] = common[n];
    }
    int length = snprintf(own, sizeof own, "%s %s", c->call_inputs != NULL ? c->call_inputs : "",
                          c->call_keys != NULL ? c->call_keys : "");
    LS_ASSERT(length >= 0 && (size_t)length < sizeof own);
    char *rest = NULL;
    for (char *key = strtok_r(own, " ", &rest); key != NULL; key = strtok_r(NULL, " ", &rest)) {
        LS_ASSERT(n < MAX_KEYS);
        keys[n++] = key;
    }
    return ls_json_only_keys(call->kwargs, keys, n, err);
}

/* Call arguments of every layer; *off: called with training=False. */
static ls_status check_kwargs(const ls_layer_call *call, bool *off, ls_err *err) {
    static const char *const keys[] = {"training", "mask", "initial_state", "constants"};
    *off = false;
    if (!ls_json_present(call->kwargs)) {
        return LS_OK;
    }
    LS_TRY(check_call_keys(call, keys, sizeof keys / sizeof keys[0], err));
    ls_json training = ls_json_member(call->kwargs, "training");
    if (json_is_true(training.value)) {
        return ls_json_fail(training, err,
                            "layers that stay in training mode are not supported; expected null or false");
    }
    bool on = true;
    LS_TRY(ls_json_get_bool(call->kwargs, "training", &on, err));
    *off = !on;
    ls_json constants = ls_json_member(call->kwargs, "constants");
    if (ls_json_present(constants)) {
        return ls_json_fail(constants, err, "constants of recurrent layers are not supported; expected null");
    }
    return LS_OK;
}

/* The first call is what the summary shows. */
static void record_first_call(ls_builder *b, const ls_layer_call *call, int first_node) {
    ls_layer *layer = call->layer;
    layer->first_node = first_node;
    layer->n_nodes = b->model->n_nodes - first_node;
    layer->n_in = call->n_in;
    layer->n_out = call->n_out;
    layer->in = ls_pool_alloc(&b->model->pool, (size_t)(call->n_in + call->n_out) * sizeof(ls_tensor *));
    layer->out = layer->in + call->n_in;
    memcpy(layer->in, call->in, (size_t)call->n_in * sizeof(ls_tensor *));
    memcpy(layer->out, call->out, (size_t)call->n_out * sizeof(ls_tensor *));
}

static ls_status call_checked(ls_builder *b, ls_layer_call *call, ls_err *err) {
    if (b->depth >= LS_MAX_NESTING) {
        return ls_layer_fail(call, err, "layers are nested more than %d deep", LS_MAX_NESTING);
    }
    bool is_model = call->layer->class_->build == ls_builder_nested, off;
    if (call->layer->n_calls == 0 && !is_model) {
        LS_TRY(check_keys(call, err));
        LS_TRY(check_common(call, err));
    }
    LS_TRY(check_inputs(call, err));
    LS_TRY(check_kwargs(call, &off, err));
    b->inference += off;
    b->depth++;
    ls_status status = is_model ? ls_builder_nested(b, call, err) : ls_layer_build(b, call, err);
    if (status == LS_OK && !is_model) {
        status = ls_builder_activity(b, call, err);
    }
    b->depth--;
    b->inference -= off;
    LS_ASSERT(status != LS_OK || (call->n_out >= 1 && call->n_out <= LS_MAX_CALL_OUTPUTS));
    for (int i = 0; status == LS_OK && i < call->n_out; i++) {
        if (!ls_shape_possible(&call->out[i]->shape, call->out[i]->rows)) {
            char text[192];
            return ls_layer_fail(call, err, "its output would have the impossible shape %s",
                                 ls_shape_text(&call->out[i]->shape, true, text, sizeof text));
        }
    }
    return status;
}

/* A complaint about a key says which layer it belongs to, unless it does already. */
static ls_status name_layer(const ls_layer *layer, ls_status status, ls_err *err) {
    if (err != NULL && strstr(err->text, "layer \"") == NULL) {
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, " (layer \"%s\", %s)", layer->name, layer->class_->name);
    }
    return status;
}

ls_status ls_builder_call(ls_builder *b, ls_layer *layer, int n_in, ls_tensor *const *in, ls_json kwargs,
                          ls_layer_call *done, ls_err *err) {
    *done = (ls_layer_call){.layer = layer, .config = layer->config, .n_in = n_in, .in = in, .kwargs = kwargs};
    int first_node = b->model->n_nodes;
    ls_status status = call_checked(b, done, err);
    if (status != LS_OK) {
        return name_layer(layer, status, err);
    }
    if (layer->n_calls++ == 0) {
        record_first_call(b, done, first_node);
    }
    return LS_OK;
}

ls_status ls_builder_inner(ls_builder *b, const ls_layer_call *call, ls_json spec, ls_layer **inner, ls_err *err) {
    return ls_builder_inner_as(b, call, spec, "", inner, err);
}

ls_status ls_builder_inner_as(ls_builder *b, const ls_layer_call *call, ls_json spec, const char *prefix,
                              ls_layer **inner, ls_err *err) {
    ls_layer *parent = call->layer;
    LS_TRY(ls_json_expect_object(spec, err));
    const ls_layer_class *class_ = NULL;
    const char *name = NULL;
    LS_TRY(ls_spec_find_class(spec, &class_, err));
    const char *class_name = json_string_value(json_object_get(spec.value, "class_name"));
    ls_json config = ls_json_member(spec, "config");
    if (json_is_object(config.value)) {
        LS_TRY(ls_json_get_string(config, "name", &name, err));
    }
    name = name != NULL ? name : class_name;
    size_t n_prefix = strlen(prefix);
    if (n_prefix > 0) {
        name += strncmp(name, prefix, n_prefix) == 0 ? n_prefix : 0; /* Keras 3 writes the name with it */
        name = ls_pool_printf(&b->model->pool, "%s%s", prefix, name);
    }
    *inner = ls_builder_child(parent, name);
    if (*inner == NULL) {
        /* A nested model reads its whole object, other layers their configuration. */
        *inner = ls_builder_new_layer(b, parent, name, class_, config);
        if (n_prefix > 0) {
            (*inner)->scope = ls_pool_printf(&b->model->pool, "%s/%s", parent->scope, name);
        }
    }
    return LS_OK;
}

/* A model inside a model. Its object is found again from its configuration's place. */
ls_status ls_builder_nested(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_json at = {.doc = call->config.doc};
    json_t *object = json_pack("{s:s, s:O}", "class_name", call->layer->class_->name, "config", call->config.value);
    LS_ASSERT(object != NULL);
    at.value = object;
    /* "a.config" -> "a": the path of the object, so that lines are found. */
    snprintf(at.path, sizeof at.path, "%s", call->config.path);
    size_t n = strlen(at.path), tail = strlen(".config");
    if (n >= tail && strcmp(at.path + n - tail, ".config") == 0) {
        at.path[n - tail] = '\0';
    }
    ls_graph_spec graph;
    ls_status status = ls_graph_spec_read(&b->model->pool, at, &graph, err);
    if (status == LS_OK && graph.n_outputs > LS_MAX_CALL_OUTPUTS) {
        status = ls_layer_fail(call, err, "a nested model has at most %d outputs", LS_MAX_CALL_OUTPUTS);
    }
    if (status == LS_OK) {
        call->n_out = graph.n_outputs;
        status = ls_graph_build(b, call->layer, &graph, call->n_in, call->in, call->out, err);
    }
    ls_graph_spec_release(&graph);
    json_decref(object);
    return status;
}

/* ---- tensors and nodes ---- */

ls_tensor *ls_builder_new_tensor(ls_builder *b, const char *name, const ls_shape *shape, int64_t rows) {
    ls_model *m = b->model;
    ls_tensor *t = ls_pool_alloc(&m->pool, sizeof *t);
    t->id = m->n_tensors;
    t->name = name;
    t->shape = *shape;
    t->rows = rows;
    t->dtype = LS_F32;
    LS_PUSH(m->tensors, m->n_tensors, m->cap_tensors, t);
    return t;
}

void ls_builder_consume(ls_tensor *t, ls_node *by) {
    LS_PUSH(t->consumers, t->n_consumers, t->cap_consumers, by);
}

ls_node *ls_builder_node(ls_builder *b, ls_layer *layer, const ls_operator *op, const void *attr, size_t attr_bytes,
                         int n_in, ls_tensor *const *in, int n_weights, ls_weight *const *weights, int n_out,
                         const ls_shape *shapes) {
    ls_model *m = b->model;
    ls_node *node = ls_pool_alloc(&m->pool, sizeof *node);
    node->id = m->n_nodes;
    node->op = op;
    node->layer = layer;
    node->attr = attr_bytes > 0 ? memcpy(ls_pool_alloc(&m->pool, attr_bytes), attr, attr_bytes) : NULL;
    node->n_in = n_in;
    node->n_out = n_out;
    node->n_weights = n_weights;
    node->in = ls_pool_alloc(&m->pool, (size_t)n_in * sizeof *node->in);
    node->out = ls_pool_alloc(&m->pool, (size_t)n_out * sizeof *node->out);
    node->weights = ls_pool_alloc(&m->pool, (size_t)n_weights * sizeof *node->weights);
    for (int i = 0; i < n_in; i++) {
        node->in[i] = in[i];
        ls_builder_consume(in[i], node);
    }
    for (int i = 0; i < n_weights; i++) {
        node->weights[i] = weights[i];
    }
    for (int i = 0; i < n_out; i++) {
        ls_tensor *t = ls_builder_new_tensor(b, layer->path, &shapes[i], in[0]->rows);
        t->producer = node;
        t->producer_index = i;
        t->mask = layer->class_->masks ? in[0]->mask : NULL;
        node->out[i] = t;
    }
    LS_PUSH(m->nodes, m->n_nodes, m->cap_nodes, node);
    return node;
}

ls_tensor *ls_builder_view(ls_builder *b, ls_layer *layer, ls_tensor *in, int64_t rows, const ls_shape *shape) {
    LS_ASSERT(rows * ls_shape_elems(shape) == in->rows * ls_shape_elems(&in->shape));
    ls_node *node = ls_builder_node(b, layer, &ls_op_view, NULL, 0, 1, &in, 0, NULL, 1, shape);
    node->out[0]->rows = rows;
    if (rows != in->rows) {
        node->out[0]->mask = NULL; /* its time axis is no longer the sample's */
    }
    return node->out[0];
}

int ls_builder_states(ls_builder *b, ls_layer *layer, int n, size_t n_elems) {
    ls_model *m = b->model;
    if (layer->first_state == 0) {
        layer->first_state = m->n_states + 1;
        for (int i = 0; i < n; i++) {
            LS_PUSH(m->state_elems, m->n_states, m->cap_states, n_elems);
        }
    }
    return layer->first_state - 1;
}

ls_status ls_builder_merge_masks(ls_builder *b, ls_layer_call *call, int n, ls_tensor *const *in, ls_tensor **mask,
                                 ls_err *err) {
    *mask = NULL;
    for (int i = 0; i < n; i++) {
        ls_tensor *both[2] = {*mask, in[i]->mask};
        if (both[1] == NULL || both[1] == both[0]) {
            continue;
        }
        *mask = both[1];
        if (both[0] != NULL) {
            if (!ls_shape_equal(&both[0]->shape, &both[1]->shape)) {
                return ls_layer_fail(call, err, "its inputs are masked, and have different numbers of time steps");
            }
            ls_merge_attr a = {.kind = LS_MERGE_MULTIPLY};
            ls_node *node =
                ls_builder_node(b, call->layer, &ls_op_merge, &a, sizeof a, 2, both, 0, NULL, 1, &both[0]->shape);
            *mask = node->out[0];
            (*mask)->mask = NULL;
        }
    }
    return LS_OK;
}

/* ---- weights ---- */

/* "cell/kernel" -> "kernel" */
static const char *last_part(const char *name) {
    const char *slash = strrchr(name, '/');
    return slash != NULL ? slash + 1 : name;
}

static ls_weight *find_weight(const ls_layer *layer, const char *name) {
    size_t scope = strlen(layer->scope), length = strlen(name);
    for (int i = 0; i < layer->n_weights; i++) { /* its path is "scope/name:0" */
        const char *path = layer->weights[i]->path;
        if (strncmp(path, layer->scope, scope) == 0 && path[scope] == '/' &&
            strncmp(path + scope + 1, name, length) == 0 && strcmp(path + scope + 1 + length, ":0") == 0) {
            return layer->weights[i];
        }
    }
    return NULL;
}

static ls_status check_again(const ls_layer_call *call, const ls_weight *w, const ls_shape *shape, ls_err *err) {
    if (!ls_shape_equal(&w->shape, shape)) {
        char have[96], want[96];
        return ls_layer_fail(
            call, err, "is shared, but its inputs differ: \"%s\" is %s after the first call and would be %s", w->name,
            ls_shape_text(&w->shape, false, have, sizeof have), ls_shape_text(shape, false, want, sizeof want));
    }
    return LS_OK;
}

static ls_weight *new_weight(ls_builder *b, ls_layer *layer, const char *name, ls_weight_role role,
                             const ls_shape *shape) {
    ls_pool *pool = &b->model->pool;
    ls_weight *w = ls_pool_alloc(pool, sizeof *w);
    w->name = ls_pool_strdup(pool, last_part(name));
    w->path = ls_pool_printf(pool, "%s/%s:0", layer->scope, name);
    w->layer = layer;
    w->shape = *shape;
    w->role = role;
    w->trainable = role == LS_WEIGHT_PARAM && layer->trainable;
    LS_PUSH(layer->weights, layer->n_weights, layer->cap_weights, w);
    return w;
}

static ls_status check_size(const ls_layer_call *call, const char *name, const ls_shape *shape, ls_err *err) {
    if (!ls_shape_possible(shape, 1)) {
        char text[192];
        return ls_layer_fail(call, err, "weight \"%s\" would have the impossible shape %s", name,
                             ls_shape_text(shape, false, text, sizeof text));
    }
    return LS_OK;
}

ls_status ls_builder_weight(ls_builder *b, ls_layer_call *call, const char *name, const char *prefix,
                            const char *default_init, const ls_shape *shape, ls_weight **out, ls_err *err) {
    *out = find_weight(call->layer, name);
    if (*out != NULL) {
        return check_again(call, *out, shape, err);
    }
    LS_TRY(check_size(call, name, shape, err));
    ls_weight *w = new_weight(b, call->layer, name, LS_WEIGHT_PARAM, shape);
    char key[64];
    snprintf(key, sizeof key, "%s_initializer", prefix);
    LS_TRY(ls_initializer_parse(ls_json_member(call->config, key), default_init, &w->init, err));
    LS_TRY(ls_initializer_check(ls_json_member(call->config, key), &w->init, shape, err));
    snprintf(key, sizeof key, "%s_regularizer", prefix);
    LS_TRY(ls_regularizer_parse(ls_json_member(call->config, key), &w->regularizer, err));
    snprintf(key, sizeof key, "%s_constraint", prefix);
    LS_TRY(ls_constraint_parse(ls_json_member(call->config, key), shape, &w->constraint, err));
    *out = w;
    return LS_OK;
}

ls_status ls_builder_stat(ls_builder *b, ls_layer_call *call, const char *name, const char *init_key,
                          const char *default_init, double momentum, const ls_shape *shape, ls_weight **out,
                          ls_err *err) {
    *out = find_weight(call->layer, name);
    if (*out != NULL) {
        return check_again(call, *out, shape, err);
    }
    ls_weight *w = new_weight(b, call->layer, name, LS_WEIGHT_STAT, shape);
    w->momentum = momentum;
    LS_TRY(ls_initializer_parse(ls_json_member(call->config, init_key), default_init, &w->init, err));
    LS_TRY(ls_initializer_check(ls_json_member(call->config, init_key), &w->init, shape, err));
    *out = w;
    return LS_OK;
}

static void collect(ls_model *m, const ls_layer *layer, bool trainable) {
    for (int i = 0; i < layer->n_weights; i++) {
        if (layer->weights[i]->trainable == trainable) {
            layer->weights[i]->id = m->n_weights;
            LS_PUSH(m->weights, m->n_weights, m->cap_weights, layer->weights[i]);
        }
    }
    for (int i = 0; i < layer->n_children; i++) {
        collect(m, layer->children[i], trainable);
    }
}

/* As Keras's files have it: for each layer of the model, however much is nested in it, the trainable weights first. */
void ls_builder_number_weights(ls_model *m) {
    for (int i = 0; i < m->n_layers; i++) {
        collect(m, m->layers[i], true);
        collect(m, m->layers[i], false);
    }
}
