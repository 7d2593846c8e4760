/*
 * A Keras configuration as it is written, read into one form: a graph of layers and their calls. All spellings are
 * understood here and nowhere else:
 *   Keras 2  inbound_nodes [[["a", 0, 0, {}], ...], ...], batch_input_shape, input_layers flat or nested,
 *            "config" as a bare list, no InputLayer but batch_input_shape on the first layer
 *   Keras 3  inbound_nodes [{"args": [{"class_name": "__keras_tensor__", ...}], "kwargs": {}}], batch_shape,
 *            {"class_name": "DTypePolicy", ...}, {"class_name": "__tuple__", "items": [...]}, registered objects
 *
 * Source: tf_keras engine/functional.py, engine/node.py, engine/sequential.py; keras src/models/functional.py.
 */
#ifndef LS_WORKER_SPEC_H
#define LS_WORKER_SPEC_H

#include "worker/layers/layer.h"

/* One output of one call of a layer. */
typedef struct ls_tensor_ref {
    int layer; /* index in the graph's layers */
    int64_t call, output;
    ls_json at;
} ls_tensor_ref;

typedef struct ls_call_spec {
    int n_in, cap_in;
    ls_tensor_ref *in;
    ls_json kwargs; /* .value NULL: none */
} ls_call_spec;

typedef struct ls_layer_spec {
    const char *name;
    const ls_layer_class *class_;
    ls_json at, config; /* config.value NULL: an InputLayer that is not written */
    bool is_input, is_model;
    int n_calls;
    ls_call_spec *calls;
    int first_call; /* number of its call 0 among all calls of the graph */
    int64_t base;   /* the node index that the configuration gives to its first call */
} ls_layer_spec;

typedef struct ls_graph_spec {
    const char *name;
    bool sequential;
    ls_json at; /* the model's object */
    int n_layers;
    ls_layer_spec *layers; /* as written */
    int n_calls;
    int n_inputs, n_outputs;
    ls_tensor_ref *inputs, *outputs;
} ls_graph_spec;

/* Dimensions of one sample; -1: left open. */
typedef struct ls_open_shape {
    bool given;
    int rank;
    int64_t dim[LS_MAX_RANK];
} ls_open_shape;

/* Replaces __tuple__ and TensorShape objects by lists and DTypePolicy objects by names, everywhere, in place. */
void ls_spec_normalise(json_t *root);

/* Reads {"class_name": "Sequential" | "Functional" | "Model", "config": ...}. Memory comes from pool; lists of inputs
 * from the heap: ls_graph_spec_release. */
ls_status ls_graph_spec_read(ls_pool *pool, ls_json at, ls_graph_spec *out, ls_err *err) LS_MUST_CHECK;
void ls_graph_spec_release(ls_graph_spec *graph);

/* The input shape that a layer's configuration gives, looking into nested models; given is false when it gives none. */
ls_status ls_spec_input_shape(ls_json layer, ls_open_shape *out, ls_err *err) LS_MUST_CHECK;

/* The members of a layer's object, for unknown-key checks: "class_name", "config" and what may stand beside them. */
ls_status ls_spec_check_object(ls_json at, ls_err *err) LS_MUST_CHECK;
/* Checks such an object, and finds the class that it names; a name that is not known is an error with the nearest. */
ls_status ls_spec_find_class(ls_json at, const ls_layer_class **out, ls_err *err) LS_MUST_CHECK;

#endif
