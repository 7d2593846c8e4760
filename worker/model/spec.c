#include "worker/model/spec.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"

static bool is_class(const json_t *value, const char *name) {
    const char *text = json_string_value(json_object_get(value, "class_name"));
    return text != NULL && strcmp(text, name) == 0;
}

/* What stands for an encoded value; NULL: it is no encoding. A borrowed reference. */
static json_t *decoded(json_t *value) {
    if (!json_is_object(value)) {
        return NULL;
    }
    if (is_class(value, "__tuple__") || is_class(value, "TensorShape")) {
        return json_object_get(value, "items");
    }
    if (is_class(value, "DTypePolicy") || is_class(value, "Policy")) {
        return json_object_get(json_object_get(value, "config"), "name");
    }
    return NULL;
}

void ls_spec_normalise(json_t *root) {
    if (json_is_object(root)) {
        const char *key;
        json_t *value;
        json_object_foreach(root, key, value) {
            json_t *plain = decoded(value);
            if (plain != NULL) {
                json_incref(plain);
                json_object_set_new(root, key, plain);
                value = plain;
            }
            ls_spec_normalise(value);
        }
    } else if (json_is_array(root)) {
        for (size_t i = 0; i < json_array_size(root); i++) {
            json_t *plain = decoded(json_array_get(root, i));
            if (plain != NULL) {
                json_incref(plain);
                json_array_set_new(root, i, plain);
            }
            ls_spec_normalise(json_array_get(root, i));
        }
    }
}

ls_status ls_spec_check_object(ls_json at, ls_err *err) {
    static const char *const keys[] = {"class_name",     "config",          "name",         "inbound_nodes",
                                       "module",         "registered_name", "build_config", "shared_object_id",
                                       "compile_config", "keras_version",   "backend"};
    return ls_json_only_keys(at, keys, sizeof keys / sizeof keys[0], err);
}

static const char *class_name_of(ls_json at) {
    return json_string_value(json_object_get(at.value, "class_name"));
}

static bool is_model_class(const char *name) {
    return name != NULL &&
           (strcmp(name, "Sequential") == 0 || strcmp(name, "Functional") == 0 || strcmp(name, "Model") == 0);
}

static ls_status unknown_class(ls_json at, const char *name, ls_err *err) {
    const ls_layer_class *const *all = ls_layer_classes();
    size_t n = 0;
    while (all[n] != NULL) {
        n++;
    }
    enum { MAX_ADDED = 64 };
    const char **words = ls_xcalloc(n + MAX_ADDED, sizeof *words);
    for (size_t i = 0; i < n; i++) {
        words[i] = all[i]->name;
    }
    n = ls_layer_class_added_names(words, n, n + MAX_ADDED);
    ls_status status = ls_json_unknown(ls_json_member(at, "class_name"), name, "a layer", words, n, err);
    free(words);
    return status;
}

ls_status ls_spec_find_class(ls_json at, const ls_layer_class **out, ls_err *err) {
    const char *name = NULL;
    LS_TRY(ls_spec_check_object(at, err));
    LS_TRY(ls_json_get_string(at, "class_name", &name, err));
    if (name == NULL) {
        return ls_json_fail(at, err, "a layer needs a \"class_name\"");
    }
    *out = ls_layer_class_find(name);
    return *out != NULL ? LS_OK : unknown_class(at, name, err);
}

/* "Conv2D" -> "conv2d", "MaxPooling2D" -> "max_pooling2d": Keras's default names. */
static char *snake_case(ls_pool *pool, const char *name, int number) {
    char text[128];
    size_t n = 0;
    for (const char *p = name; *p != '\0' && n + 2 < sizeof text; p++) {
        bool starts_word =
            isupper((unsigned char)*p) && p > name &&
            (islower((unsigned char)p[-1]) || (islower((unsigned char)p[1]) && !isdigit((unsigned char)p[-1])));
        if (starts_word) {
            text[n++] = '_';
        }
        text[n++] = (char)tolower((unsigned char)*p);
    }
    text[n] = '\0';
    return number == 0 ? ls_pool_strdup(pool, text) : ls_pool_printf(pool, "%s_%d", text, number);
}

/* Name, class and configuration of one entry of "layers". */
static ls_status read_layer(ls_pool *pool, ls_json at, int position, ls_layer_spec *out, ls_err *err) {
    LS_TRY(ls_spec_find_class(at, &out->class_, err));
    const char *class_name = class_name_of(at);
    out->at = at;
    out->is_input = strcmp(class_name, "InputLayer") == 0;
    out->is_model = is_model_class(class_name);
    out->config = ls_json_member(at, "config");
    bool bare_list = out->is_model && json_is_array(out->config.value);
    if (!bare_list) {
        LS_TRY(ls_json_expect_object(out->config, err));
    }
    const char *name = NULL;
    LS_TRY(ls_json_get_string(at, "name", &name, err));
    if (name == NULL && !bare_list) {
        LS_TRY(ls_json_get_string(out->config, "name", &name, err));
    }
    if (name != NULL && (name[0] == '\0' || strlen(name) > 200 || strchr(name, '\n') != NULL)) {
        return ls_json_fail(at, err, "a layer's name is a text of 1 to 200 characters");
    }
    out->name = name != NULL ? name : snake_case(pool, class_name, position);
    return LS_OK;
}

static int find_layer(const ls_graph_spec *g, const char *name) {
    for (int i = 0; i < g->n_layers; i++) {
        if (strcmp(g->layers[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static ls_status no_such_layer(const ls_graph_spec *g, ls_json at, const char *name, ls_err *err) {
    const char **words = ls_xcalloc((size_t)g->n_layers + 1, sizeof *words);
    for (int i = 0; i < g->n_layers; i++) {
        words[i] = g->layers[i].name;
    }
    char hint[LS_HINT_MAX];
    ls_status status = ls_json_fail(at, err, "there is no layer \"%s\" in this model%s", name,
                                    ls_hint(hint, name, words, (size_t)g->n_layers, ""));
    free(words);
    return status;
}

/* ["name", node, tensor] and maybe a fourth element, the call's keyword arguments. */
static ls_status read_ref(const ls_graph_spec *g, ls_json at, ls_tensor_ref *out, ls_json *kwargs, ls_err *err) {
    size_t n = ls_json_length(at);
    const char *name = json_string_value(json_array_get(at.value, 0));
    json_t *call = json_array_get(at.value, 1), *output = json_array_get(at.value, 2);
    if (name == NULL || n < 3 || n > 4 || !json_is_integer(call) || !json_is_integer(output)) {
        return ls_json_fail(at, err, "expected [\"layer\", node, tensor]");
    }
    if (strcmp(name, "_CONSTANT_VALUE") == 0) {
        return ls_json_fail(at, err, "constants as inputs of a layer are not supported");
    }
    out->layer = find_layer(g, name);
    out->call = json_integer_value(call);
    out->output = json_integer_value(output);
    out->at = at;
    if (out->layer < 0) {
        return no_such_layer(g, at, name, err);
    }
    if (kwargs != NULL && n == 4) {
        *kwargs = ls_json_element(at, 3);
        return ls_json_expect_object(*kwargs, err);
    }
    return LS_OK;
}

static void add_input(ls_call_spec *call, ls_tensor_ref ref) {
    LS_PUSH(call->in, call->n_in, call->cap_in, ref);
}

/* All tensors of a structure of lists and objects, in Keras's order of flattening (members sorted by name). */
static ls_status read_tensors(const ls_graph_spec *g, ls_json at, int depth, ls_call_spec *call, ls_err *err) {
    if (depth > LS_MAX_RANK) {
        return ls_json_fail(at, err, "the inputs are nested too deeply");
    }
    if (json_is_object(at.value) && is_class(at.value, "__keras_tensor__")) {
        ls_json history = ls_json_member(ls_json_member(at, "config"), "keras_history");
        ls_tensor_ref ref;
        LS_TRY(read_ref(g, history, &ref, NULL, err));
        add_input(call, ref);
        return LS_OK;
    }
    if (json_is_array(at.value) && json_is_string(json_array_get(at.value, 0))) {
        ls_tensor_ref ref;
        LS_TRY(read_ref(g, at, &ref, call->kwargs.value == NULL ? &call->kwargs : NULL, err));
        add_input(call, ref);
        return LS_OK;
    }
    if (json_is_array(at.value)) {
        for (size_t i = 0; i < ls_json_length(at); i++) {
            LS_TRY(read_tensors(g, ls_json_element(at, i), depth + 1, call, err));
        }
        return LS_OK;
    }
    if (json_is_object(at.value)) {
        const char *last = NULL;
        for (size_t k = 0; k < ls_json_length(at); k++) {
            const char *next = NULL, *key;
            json_t *value;
            json_object_foreach(at.value, key, value) {
                if ((last == NULL || strcmp(key, last) > 0) && (next == NULL || strcmp(key, next) < 0)) {
                    next = key;
                }
            }
            LS_TRY(read_tensors(g, ls_json_member(at, next), depth + 1, call, err));
            last = next;
        }
        return LS_OK;
    }
    return ls_json_fail(at, err, "expected a tensor, such as [\"layer\", 0, 0]");
}

/* Tensors among the keyword arguments (a recurrent layer's initial_state, attention's value and key) are further
 * inputs, after the others; a mask is the last. */
static ls_status read_kwargs_tensors(const ls_graph_spec *g, const ls_layer_class *class_, ls_call_spec *call,
                                     ls_err *err) {
    char names[128], *rest = NULL;
    snprintf(names, sizeof names, "%s", class_->call_inputs != NULL ? class_->call_inputs : "");
    for (char *name = strtok_r(names, " ", &rest); name != NULL; name = strtok_r(NULL, " ", &rest)) {
        ls_json tensor = ls_json_member(call->kwargs, name);
        if (ls_json_present(tensor)) {
            LS_TRY(read_tensors(g, tensor, 0, call, err));
        }
    }
    ls_json state = ls_json_member(call->kwargs, "initial_state"), mask = ls_json_member(call->kwargs, "mask");
    if (ls_json_present(state)) {
        LS_TRY(read_tensors(g, state, 0, call, err));
    }
    if (ls_json_present(mask) && ls_word_listed(class_->call_keys, "mask")) {
        int before = call->n_in;
        LS_TRY(read_tensors(g, mask, 0, call, err));
        return call->n_in == before + 1 ? LS_OK : ls_json_fail(mask, err, "expected one tensor");
    }
    return LS_OK;
}

static ls_status read_calls(ls_pool *pool, const ls_graph_spec *g, ls_layer_spec *layer, ls_err *err) {
    ls_json nodes = ls_json_member(layer->at, "inbound_nodes");
    if (nodes.value != NULL && !json_is_array(nodes.value)) {
        return ls_json_fail(nodes, err, "expected a list with one entry for each call of layer \"%s\"", layer->name);
    }
    size_t n = ls_json_length(nodes);
    if (layer->is_input && n > 0) {
        return ls_json_fail(nodes, err, "an InputLayer has no inputs");
    }
    layer->n_calls = layer->is_input ? 1 : (int)n;
    layer->calls = ls_pool_alloc(pool, (size_t)layer->n_calls * sizeof *layer->calls);
    for (size_t i = 0; i < n; i++) {
        ls_call_spec *call = &layer->calls[i];
        ls_json node = ls_json_element(nodes, i);
        if (json_is_object(node.value)) {
            static const char *const keys[] = {"args", "kwargs"};
            LS_TRY(ls_json_only_keys(node, keys, 2, err));
            call->kwargs = ls_json_member(node, "kwargs");
            LS_TRY(read_tensors(g, ls_json_member(node, "args"), 0, call, err));
        } else {
            LS_TRY(read_tensors(g, node, 0, call, err));
        }
        LS_TRY(read_kwargs_tensors(g, layer->class_, call, err));
        if (call->n_in == 0) {
            return ls_json_fail(node, err, "the call of layer \"%s\" has no input", layer->name);
        }
    }
    return LS_OK;
}

/* "input_layers" / "output_layers": [["a", 0, 0], ...], or ["a", 0, 0] alone. */
static ls_status read_ends(ls_pool *pool, const ls_graph_spec *g, ls_json config, const char *key, int *n_out,
                           ls_tensor_ref **out, ls_err *err) {
    ls_json list = ls_json_member(config, key);
    if (!ls_json_present(list)) {
        return ls_json_fail(config, err, "a Functional model needs \"%s\"", key);
    }
    ls_call_spec flat = {0};
    flat.kwargs = list; /* nothing to read keyword arguments into */
    ls_status status = read_tensors(g, list, 0, &flat, err);
    if (status == LS_OK && flat.n_in == 0) {
        status = ls_json_fail(list, err, "a model needs at least one of \"%s\"", key);
    }
    *n_out = flat.n_in;
    *out = ls_pool_alloc(pool, (size_t)flat.n_in * sizeof **out);
    if (flat.n_in > 0) {
        memcpy(*out, flat.in, (size_t)flat.n_in * sizeof **out);
    }
    free(flat.in);
    return status;
}

/* The construction of a nested Functional model is its node 0, so its calls count from 1; a Sequential that was built
 * later, and Keras 3's, count from 0. Which of the two it was shows in the references. */
static void find_bases(ls_graph_spec *g) {
    for (int i = 0; i < g->n_layers; i++) {
        g->layers[i].base = g->layers[i].is_model ? 1 : 0;
    }
    for (int i = 0; i < g->n_layers; i++) {
        for (int k = 0; k < g->layers[i].n_calls; k++) {
            const ls_call_spec *call = &g->layers[i].calls[k];
            for (int j = 0; j < call->n_in; j++) {
                if (call->in[j].call == 0) {
                    g->layers[call->in[j].layer].base = 0;
                }
            }
        }
    }
    for (int i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].call == 0) {
            g->layers[g->outputs[i].layer].base = 0;
        }
    }
}

static ls_status rebase(const ls_graph_spec *g, ls_tensor_ref *ref, ls_err *err) {
    const ls_layer_spec *layer = &g->layers[ref->layer];
    ref->call -= layer->base;
    if (ref->call < 0 || ref->call >= layer->n_calls) {
        return ls_json_fail(ref->at, err, "layer \"%s\" has %d call%s, counted from %d: there is no node %d",
                            layer->name, layer->n_calls, layer->n_calls == 1 ? "" : "s", (int)layer->base,
                            (int)(ref->call + layer->base));
    }
    return LS_OK;
}

static ls_status read_functional(ls_pool *pool, ls_json config, ls_graph_spec *g, ls_err *err) {
    static const char *const keys[] = {"name",          "trainable",        "dtype", "layers", "input_layers",
                                       "output_layers", "batch_input_shape"};
    LS_TRY(ls_json_only_keys(config, keys, sizeof keys / sizeof keys[0], err));
    for (int i = 0; i < g->n_layers; i++) {
        LS_TRY(read_calls(pool, g, &g->layers[i], err));
    }
    LS_TRY(read_ends(pool, g, config, "input_layers", &g->n_inputs, &g->inputs, err));
    LS_TRY(read_ends(pool, g, config, "output_layers", &g->n_outputs, &g->outputs, err));
    find_bases(g);
    for (int i = 0; i < g->n_layers; i++) {
        g->layers[i].first_call = g->n_calls;
        g->n_calls += g->layers[i].n_calls;
        for (int k = 0; k < g->layers[i].n_calls; k++) {
            for (int j = 0; j < g->layers[i].calls[k].n_in; j++) {
                LS_TRY(rebase(g, &g->layers[i].calls[k].in[j], err));
            }
        }
    }
    for (int i = 0; i < g->n_inputs; i++) {
        const ls_layer_spec *layer = &g->layers[g->inputs[i].layer];
        if (!layer->is_input) {
            return ls_json_fail(g->inputs[i].at, err, "\"%s\" is no InputLayer", layer->name);
        }
        LS_TRY(rebase(g, &g->inputs[i], err));
    }
    for (int i = 0; i < g->n_outputs; i++) {
        LS_TRY(rebase(g, &g->outputs[i], err));
    }
    return LS_OK;
}

/* Sequential: each layer's only call takes the layer before it; an InputLayer that is not written is put in front. */
static ls_status read_sequential(ls_pool *pool, ls_json config, ls_graph_spec *g, ls_err *err) {
    static const char *const keys[] = {"name",   "trainable",         "dtype",
                                       "layers", "build_input_shape", "batch_input_shape"};
    if (json_is_object(config.value)) {
        LS_TRY(ls_json_only_keys(config, keys, sizeof keys / sizeof keys[0], err));
    }
    if (!g->layers[0].is_input) {
        memmove(g->layers + 1, g->layers, (size_t)g->n_layers * sizeof *g->layers);
        g->n_layers++;
        g->layers[0] = (ls_layer_spec){.name = ls_pool_printf(pool, "%s_input", g->layers[1].name),
                                       .class_ = ls_layer_class_find("InputLayer"),
                                       .at = g->layers[1].at,
                                       .is_input = true};
        g->layers[0].config.doc = g->at.doc;
    }
    for (int i = 0; i < g->n_layers; i++) {
        ls_layer_spec *layer = &g->layers[i];
        layer->n_calls = 1;
        layer->calls = ls_pool_alloc(pool, sizeof *layer->calls);
        layer->first_call = i;
        if (i > 0 && layer->is_input) {
            return ls_json_fail(layer->at, err, "an InputLayer stands first in a Sequential model");
        }
        if (i > 0) {
            add_input(&layer->calls[0], (ls_tensor_ref){.layer = i - 1, .at = layer->at});
        }
    }
    g->n_calls = g->n_layers;
    g->n_inputs = g->n_outputs = 1;
    g->inputs = ls_pool_alloc(pool, 2 * sizeof *g->inputs);
    g->outputs = g->inputs + 1;
    g->inputs[0] = (ls_tensor_ref){.layer = 0, .at = g->at};
    g->outputs[0] = (ls_tensor_ref){.layer = g->n_layers - 1, .at = g->at};
    return LS_OK;
}

ls_status ls_graph_spec_read(ls_pool *pool, ls_json at, ls_graph_spec *g, ls_err *err) {
    *g = (ls_graph_spec){.at = at};
    const char *class_name = NULL;
    LS_TRY(ls_json_expect_object(at, err));
    LS_TRY(ls_json_get_string(at, "class_name", &class_name, err));
    if (!is_model_class(class_name)) {
        char found[96];
        ls_json where = ls_json_member(at, "class_name");
        return ls_json_fail(where.value != NULL ? where : at, err,
                            "expected the class_name of a model, \"Sequential\" or \"Functional\", found %s",
                            ls_json_describe(where.value, found, sizeof found));
    }
    LS_TRY(ls_spec_check_object(at, err));
    g->sequential = strcmp(class_name, "Sequential") == 0;
    ls_json config = ls_json_member(at, "config"), layers = config;
    if (!(g->sequential && json_is_array(config.value))) {
        LS_TRY(ls_json_expect_object(config, err));
        LS_TRY(ls_json_get_string(config, "name", &g->name, err));
        layers = ls_json_member(config, "layers");
    }
    if (g->name == NULL) {
        g->name = g->sequential ? "sequential" : "model";
    }
    if (!json_is_array(layers.value) || ls_json_length(layers) == 0) {
        return ls_json_fail(layers.value != NULL ? layers : config, err, "a model needs a list of \"layers\"");
    }
    size_t n = ls_json_length(layers);
    g->layers = ls_pool_alloc(pool, (n + 1) * sizeof *g->layers);
    for (size_t i = 0; i < n; i++) {
        LS_TRY(read_layer(pool, ls_json_element(layers, i), (int)i, &g->layers[i], err));
        if (find_layer(g, g->layers[i].name) >= 0) {
            return ls_json_fail(ls_json_element(layers, i), err, "there are two layers named \"%s\"",
                                g->layers[i].name);
        }
        g->n_layers++;
    }
    return g->sequential ? read_sequential(pool, config, g, err) : read_functional(pool, config, g, err);
}

void ls_graph_spec_release(ls_graph_spec *g) {
    for (int i = 0; i < g->n_layers; i++) {
        for (int k = 0; g->layers[i].calls != NULL && k < g->layers[i].n_calls; k++) {
            free(g->layers[i].calls[k].in);
            g->layers[i].calls[k].in = NULL;
        }
    }
}

/* A list of dimensions, null where open; skip: leading entries that are not the sample's (the batch). */
static ls_status read_dims(ls_json list, size_t skip, ls_open_shape *out, ls_err *err) {
    size_t n = ls_json_length(list);
    if (!json_is_array(list.value) || n < skip || n - skip > LS_MAX_RANK) {
        return ls_json_fail(list, err, "expected a list of at most %zu dimensions", LS_MAX_RANK + skip);
    }
    out->given = true;
    out->rank = (int)(n - skip);
    for (size_t i = skip; i < n; i++) {
        ls_json d = ls_json_element(list, i);
        if (json_is_null(d.value)) {
            out->dim[i - skip] = -1;
        } else if (json_is_integer(d.value) && json_integer_value(d.value) >= 1 &&
                   json_integer_value(d.value) <= INT32_MAX) {
            out->dim[i - skip] = json_integer_value(d.value);
        } else {
            char found[96];
            return ls_json_fail(d, err, "expected a dimension of at least 1, or null, found %s",
                                ls_json_describe(d.value, found, sizeof found));
        }
    }
    return LS_OK;
}

/* Keras 1's way: input_dim and input_length on the first layer. */
static ls_status read_input_dim(ls_json config, const char *class_name, ls_open_shape *out, ls_err *err) {
    int64_t dim = 0, length = 0;
    bool embedding = strcmp(class_name, "Embedding") == 0;
    if (!embedding) {
        LS_TRY(ls_json_get_int(config, "input_dim", 1, INT32_MAX, &dim, err));
    }
    if (json_is_integer(json_object_get(config.value, "input_length"))) {
        LS_TRY(ls_json_get_int(config, "input_length", 1, INT32_MAX, &length, err));
    }
    if (length > 0 && (dim > 0 || embedding)) {
        out->dim[out->rank++] = length;
    }
    if (dim > 0) {
        out->dim[out->rank++] = dim;
    }
    out->given = out->rank > 0;
    return LS_OK;
}

static ls_status nested_input_shape(ls_json config, ls_open_shape *out, ls_err *err) {
    ls_json layers = json_is_array(config.value) ? config : ls_json_member(config, "layers");
    ls_json ends = ls_json_member(config, "input_layers");
    const char *name = json_string_value(json_array_get(ends.value, 0));
    if (name == NULL) {
        name = json_string_value(json_array_get(json_array_get(ends.value, 0), 0));
    }
    for (size_t i = 0; i < ls_json_length(layers); i++) {
        ls_json layer = ls_json_element(layers, i);
        const char *its_name = json_string_value(json_object_get(json_object_get(layer.value, "config"), "name"));
        if (name == NULL || (its_name != NULL && strcmp(its_name, name) == 0)) {
            return ls_spec_input_shape(layer, out, err);
        }
    }
    return LS_OK;
}

ls_status ls_spec_input_shape(ls_json layer, ls_open_shape *out, ls_err *err) {
    *out = (ls_open_shape){0};
    ls_json config = ls_json_member(layer, "config");
    const char *class_name = class_name_of(layer);
    static const struct {
        const char *key;
        size_t skip;
    } keys[] = {{"batch_input_shape", 1}, {"batch_shape", 1}, {"input_shape", 0}, {"shape", 0}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        ls_json list = ls_json_member(config, keys[i].key);
        if (ls_json_present(list)) {
            return read_dims(list, keys[i].skip, out, err);
        }
    }
    if (is_model_class(class_name)) {
        LS_TRY(nested_input_shape(config, out, err));
        ls_json built = ls_json_member(config, "build_input_shape");
        return !out->given && ls_json_present(built) ? read_dims(built, 1, out, err) : LS_OK;
    }
    ls_json inner = ls_json_member(config, "layer");
    if (class_name != NULL && strcmp(class_name, "Bidirectional") == 0 && json_is_object(inner.value)) {
        return ls_spec_input_shape(inner, out, err);
    }
    return read_input_dim(config, class_name != NULL ? class_name : "", out, err);
}
