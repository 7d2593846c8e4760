/*
 * Inside worker/model: what the files that build a model share. Layers see only worker/layers/layer.h.
 */
#ifndef LS_WORKER_BUILD_H
#define LS_WORKER_BUILD_H

#include "worker/layers/layer.h"
#include "worker/model/spec.h"

enum { LS_MAX_CALL_OUTPUTS = 8, LS_MAX_NESTING = 32 };
/* Elements of a tensor for one sample: far beyond any memory, near enough that products of sizes do not overflow. */
#define LS_MAX_TENSOR (INT64_C(1) << 40)
bool ls_shape_possible(const ls_shape *s, int64_t rows);

struct ls_builder {
    ls_model *model;
    const ls_shape *input_shapes; /* of the data; NULL: not known */
    int n_input_shapes;
    int inference; /* > 0 inside a call with training=False */
    int depth;     /* of layers within layers */
};

/* A layer of `parent` (NULL: of the model), owned by the model's pool and in its list. */
ls_layer *ls_builder_new_layer(ls_builder *b, ls_layer *parent, const char *name, const ls_layer_class *class_,
                               ls_json config);
/* The child of that name, or NULL. */
ls_layer *ls_builder_child(const ls_layer *parent, const char *name);
ls_tensor *ls_builder_new_tensor(ls_builder *b, const char *name, const ls_shape *shape, int64_t rows);
void ls_builder_consume(ls_tensor *t, ls_node *by);

/* Runs a graph of layers: of the model (parent NULL, in NULL: inputs are made from the InputLayers) or of a nested
 * model on n_in tensors. Outputs are written to out (at most LS_MAX_CALL_OUTPUTS). */
ls_status ls_graph_build(ls_builder *b, ls_layer *parent, const ls_graph_spec *graph, int n_in, ls_tensor *const *in,
                         ls_tensor **out, ls_err *err) LS_MUST_CHECK;

/* Collects model->weights in Keras's order. */
void ls_builder_number_weights(ls_model *model);

#endif
