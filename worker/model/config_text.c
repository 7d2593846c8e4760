/*
 * The configuration as a full-model HDF5 file holds it, in Keras 2's form, with what Keras 3 refuses left out.
 *
 * Source: tf_keras saving/saving_utils.py, engine/functional.py get_config; keras
 * src/legacy/saving/legacy_h5_format.py.
 */
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "worker/model/build.h"

static json_t *must(json_t *value) {
    LS_ASSERT(value != NULL); /* strings come from parsed JSON: only memory can fail, and then there is no going on */
    return value;
}

static void set(json_t *object, const char *key, json_t *value) {
    LS_ASSERT(json_object_set_new(object, key, must(value)) == 0);
}

static json_t *model_config(ls_pool *pool, ls_json at, const ls_model *top);

/* A serialized object of any kind ({"module", "class_name", "config", "registered_name"}) as Keras 2 wrote it. */
static json_t *plain(const json_t *value) {
    if (json_is_array(value)) {
        json_t *list = must(json_array());
        for (size_t i = 0; i < json_array_size(value); i++) {
            LS_ASSERT(json_array_append_new(list, plain(json_array_get(value, i))) == 0);
        }
        return list;
    }
    if (!json_is_object(value)) {
        return must(json_deep_copy(value));
    }
    const char *class_name = json_string_value(json_object_get(value, "class_name"));
    if (class_name != NULL && strcmp(class_name, "function") == 0) {
        return must(json_deep_copy(json_object_get(value, "config")));
    }
    json_t *object = must(json_object());
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)value, key, member) {
        bool new_style = strcmp(key, "module") == 0 || strcmp(key, "registered_name") == 0 ||
                         strcmp(key, "build_config") == 0 || strcmp(key, "shared_object_id") == 0;
        if (class_name == NULL || !new_style) {
            set(object, key, plain(member));
        }
    }
    return object;
}

static json_t *layer_config(ls_pool *pool, const ls_layer_class *class_, ls_json config);

/* {"class_name", "config"} of a layer, or of a model as a layer. */
static json_t *layer_object(ls_pool *pool, const ls_layer_class *class_, ls_json config) {
    json_t *object = must(json_object());
    set(object, "class_name", json_string(class_->name));
    set(object, "config", layer_config(pool, class_, config));
    return object;
}

static json_t *input_config(const ls_layer_spec *spec, const ls_shape *shape) {
    ls_open_shape open;
    ls_err err;
    json_t *c = must(json_object()), *dims = must(json_array());
    const json_t *dtype = json_object_get(spec->config.value, "dtype");
    json_array_append_new(dims, must(json_null()));
    bool known = ls_spec_input_shape(spec->at, &open, &err) == LS_OK && open.given;
    for (int i = 0; i < (known ? open.rank : shape != NULL ? shape->rank : 0); i++) {
        int64_t d = known ? open.dim[i] : shape->dim[i];
        json_array_append_new(dims, must(d < 0 ? json_null() : json_integer(d)));
    }
    set(c, "batch_input_shape", dims);
    set(c, "dtype", json_string(json_is_string(dtype) ? json_string_value(dtype) : "float32"));
    set(c, "sparse", json_false());
    set(c, "ragged", json_false());
    set(c, "name", json_string(spec->name));
    return c;
}

/* Keras 3 names for what Keras 2 calls otherwise; Keras 3 still reads the old ones. */
static const struct { const char *class_name, *key, *old_key; } renamed[] = {{"LeakyReLU", "negative_slope", "alpha"}};

static json_t *layer_config(ls_pool *pool, const ls_layer_class *class_, ls_json config) {
    if (class_->build == ls_builder_nested) {
        json_t *object = json_pack("{s:s, s:O}", "class_name", class_->name, "config", config.value);
        ls_json at = {.doc = config.doc, .value = must(object)};
        json_t *c = model_config(pool, at, NULL);
        json_decref(object);
        /* One that no output depends on has never been read, and may be anything. */
        return c != NULL ? c : plain(config.value);
    }
    json_t *c = must(json_object());
    const char *key;
    json_t *value;
    json_object_foreach(config.value, key, value) {
        if (ls_word_listed(class_->drop, key) || strcmp(key, "autocast") == 0 ||
            (json_is_false(value) && ls_word_listed(class_->drop_false, key))) {
            continue;
        }
        const char *name = strcmp(key, "batch_shape") == 0 ? "batch_input_shape" : key;
        for (size_t i = 0; i < sizeof renamed / sizeof renamed[0]; i++) {
            if (strcmp(class_->name, renamed[i].class_name) == 0 && strcmp(key, renamed[i].key) == 0) {
                name = renamed[i].old_key;
            }
        }
        const char *inner = json_string_value(json_object_get(value, "class_name"));
        const ls_layer_class *wrapped = inner != NULL ? ls_layer_class_find(inner) : NULL;
        bool is_layer = strcmp(key, "layer") == 0 || strcmp(key, "backward_layer") == 0;
        if (is_layer && wrapped != NULL) {
            set(c, name, layer_object(pool, wrapped, ls_json_member(ls_json_member(config, key), "config")));
        } else {
            set(c, name, plain(value));
        }
    }
    return c;
}

static json_t *ref(const ls_graph_spec *g, const ls_tensor_ref *r, const json_t *kwargs) {
    const ls_layer_spec *layer = &g->layers[r->layer];
    /* Keras counts the calls of a nested model that has an InputLayer, as all have here, from 1. */
    json_int_t call = r->call + (layer->is_model ? 1 : 0);
    json_t *list = must(json_pack("[s, I, I]", layer->name, call, (json_int_t)r->output));
    if (kwargs != NULL) {
        json_array_append_new(list, must(json_deep_copy(kwargs)));
    }
    return list;
}

/* Keyword arguments that say something: nulls are Keras 3's way of saying nothing, and tensors among them have become
 * inputs. */
static json_t *kwargs_of(const ls_layer_class *class_, const ls_call_spec *call) {
    json_t *out = must(json_object());
    const char *key;
    json_t *value;
    json_object_foreach(call->kwargs.value, key, value) {
        if (!json_is_null(value) && !ls_word_listed("initial_state mask", key) &&
            !ls_word_listed(class_->call_inputs, key)) {
            set(out, key, json_deep_copy(value));
        }
    }
    return out;
}

/* Keras 2 writes the inputs of some layers, but the first, as keyword arguments. How many are left. */
static int add_named_inputs(const ls_graph_spec *g, const ls_layer_class *class_, const ls_call_spec *call,
                            json_t *kwargs) {
    int n = call->n_in;
    if (ls_json_present(ls_json_member(call->kwargs, "mask"))) {
        set(kwargs, "mask", ref(g, &call->in[--n], NULL));
    }
    if (class_->call_inputs == NULL) {
        return n;
    }
    char names[128], *rest = NULL;
    snprintf(names, sizeof names, "%s", class_->call_inputs);
    const char *name;
    (void)strtok_r(names, " ", &rest);
    if (ls_json_present(ls_json_member(call->kwargs, "attention_mask"))) { /* it may come without a key before it */
        set(kwargs, "attention_mask", ref(g, &call->in[--n], NULL));
    }
    for (int i = 1; i < n && (name = strtok_r(NULL, " ", &rest)) != NULL; i++) {
        set(kwargs, name, ref(g, &call->in[i], NULL));
    }
    return call->n_in > 0 ? 1 : 0;
}

static json_t *inbound_nodes(const ls_graph_spec *g, const ls_layer_spec *layer) {
    json_t *nodes = must(json_array());
    for (int k = 0; k < layer->n_calls && !layer->is_input; k++) {
        const ls_call_spec *call = &layer->calls[k];
        json_t *inputs = must(json_array()), *none = must(json_object()), *kwargs = kwargs_of(layer->class_, call);
        int n = add_named_inputs(g, layer->class_, call, kwargs);
        for (int i = 0; i < n; i++) {
            json_array_append_new(inputs, ref(g, &call->in[i], i == 0 ? kwargs : none));
        }
        json_array_append_new(nodes, inputs);
        json_decref(none);
        json_decref(kwargs);
    }
    return nodes;
}

static json_t *ends(const ls_graph_spec *g, int n, const ls_tensor_ref *refs) {
    json_t *list = must(json_array());
    for (int i = 0; i < n; i++) {
        json_array_append_new(list, ref(g, &refs[i], NULL));
    }
    return list;
}

/* The "config" of a model; NULL when it cannot be read. */
static json_t *model_config(ls_pool *pool, ls_json at, const ls_model *top) {
    ls_graph_spec g;
    ls_err err;
    if (ls_graph_spec_read(pool, at, &g, &err) != LS_OK) {
        ls_graph_spec_release(&g);
        return NULL;
    }
    json_t *config = must(json_object()), *layers = must(json_array());
    set(config, "name", json_string(g.name));
    for (int i = 0; i < g.n_layers; i++) {
        const ls_layer_spec *spec = &g.layers[i];
        json_t *layer;
        if (spec->is_input) {
            layer = must(json_pack("{s:s, s:o}", "class_name", "InputLayer", "config",
                                   input_config(spec, top != NULL && g.sequential ? &top->inputs[0]->shape : NULL)));
        } else {
            layer = layer_object(pool, spec->class_, spec->config);
        }
        if (!g.sequential) {
            set(layer, "name", json_string(spec->name));
            set(layer, "inbound_nodes", inbound_nodes(&g, spec));
        }
        json_array_append_new(layers, layer);
    }
    set(config, "layers", layers);
    if (!g.sequential) {
        set(config, "input_layers", ends(&g, g.n_inputs, g.inputs));
        set(config, "output_layers", ends(&g, g.n_outputs, g.outputs));
    }
    json_t *trainable = json_object_get(ls_json_member(at, "config").value, "trainable");
    if (json_is_false(trainable)) {
        set(config, "trainable", json_false());
    }
    ls_graph_spec_release(&g);
    return config;
}

char *ls_model_config_text(const ls_model *model) {
    ls_pool pool = {0};
    json_t *object = must(json_object());
    set(object, "class_name", json_string(model->sequential ? "Sequential" : "Functional"));
    set(object, "config", model_config(&pool, ls_json_root(&model->doc), model));
    char *text = json_dumps(object, JSON_COMPACT);
    LS_ASSERT(text != NULL);
    json_decref(object);
    ls_pool_release(&pool);
    return text;
}
