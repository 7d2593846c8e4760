/*
 * A model: layers as Keras knows them, and the graph of operators that they were built into.
 *
 * Keras's layers (Dense, LSTM, TimeDistributed, a nested model) are what people write; a layer's `build` expands one
 * call of it into nodes: single differentiable operators (dense, conv, activation, concat, ...) over tensors. A Dense
 * with activation "relu" becomes two nodes; Bidirectional becomes two recurrent nodes and a merge; TimeDistributed
 * becomes views around the inner layer's nodes. Weights belong to layers, so a shared layer's calls share them.
 *
 * Everything is owned by the ls_model (one pool) and read-only once built.
 * Axis letters: N batch, T time, D depth, H height, W width, C channels. Data is channels last.
 */
#ifndef LS_WORKER_MODEL_H
#define LS_WORKER_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/json.h"
#include "common/memory.h"
#include "common/status.h"

enum { LS_MAX_RANK = 6 };

/* Of one sample (tensors) or whole (weights). A dimension is >= 1 once the model is built. */
typedef struct ls_shape {
    int rank;
    int64_t dim[LS_MAX_RANK];
} ls_shape;

static inline int64_t ls_shape_elems(const ls_shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++) {
        n *= s->dim[i];
    }
    return n;
}
bool ls_shape_equal(const ls_shape *a, const ls_shape *b);
/* "(28, 28, 1)" into out; returns out. With batch: "(None, 28, 28, 1)". */
const char *ls_shape_text(const ls_shape *s, bool with_batch, char *out, size_t size);

typedef enum { LS_F32, LS_BF16, LS_I32 } ls_dtype;
static inline size_t ls_dtype_bytes(ls_dtype t) {
    return t == LS_BF16 ? 2 : 4;
}

typedef struct ls_tensor ls_tensor;
typedef struct ls_node ls_node;
typedef struct ls_layer ls_layer;
typedef struct ls_weight ls_weight;
typedef struct ls_operator ls_operator;       /* worker/plan/operator.h */
typedef struct ls_layer_class ls_layer_class; /* worker/layers/layer.h */
typedef struct ls_layout ls_layout;           /* worker/dnn/dnn.h: how a weight lies in the arenas */

/* A value of the graph: `rows` rows for each sample of the batch, each of `shape`. rows is 1 except between the views
 * that TimeDistributed makes, where the time axis counts as batch. */
struct ls_tensor {
    int id; /* index in model->tensors */
    const char *name;
    ls_shape shape;
    int64_t rows;
    ls_dtype dtype;    /* LS_F32: real numbers (a plan may store them as bf16); LS_I32: integer input, such as tokens */
    ls_node *producer; /* NULL: a model input */
    int producer_index;
    int n_consumers;     /* uses as a node's input, plus 1 for a model output */
    ls_node **consumers; /* (n_consumers); NULL stands for the model output */
    int cap_consumers;
    ls_tensor *mask; /* NULL, or f32 (T) of 0 and 1: which time steps count */
};

struct ls_node {
    int id; /* index in model->nodes; topological order */
    const ls_operator *op;
    ls_layer *layer;  /* the layer it came from */
    const void *attr; /* the operator's own struct, made by the layer */
    int n_in, n_out, n_weights;
    ls_tensor **in, **out;
    ls_weight **weights;
};

/* How an initial value is drawn; ready-made by worker/model/initializer.h. */
typedef struct ls_initializer {
    const struct ls_initializer_class *class_;
    double a, b;                /* class-specific: value; mean, stddev; minval, maxval; gain; scale */
    int mode, distribution;     /* VarianceScaling and its named forms */
    int64_t ones_from, ones_to; /* elements that are 1 whatever the law says (unit_forget_bias); equal: none */
} ls_initializer;

typedef struct ls_regularizer {
    double l1, l2; /* penalty l1 * sum |w| + l2 * sum w^2; both 0: none */
} ls_regularizer;

typedef struct ls_constraint {
    const struct ls_constraint_class *class_; /* NULL: none */
    double min, max, rate;
    int n_axes;
    int axes[LS_MAX_RANK];
} ls_constraint;

typedef enum {
    LS_WEIGHT_PARAM, /* learned by gradient */
    LS_WEIGHT_STAT   /* a moving average of a batch statistic: w = momentum * w + (1 - momentum) * batch value */
} ls_weight_role;

struct ls_weight {
    int id;           /* index in model->weights: Keras order (layers in order, trainable first within a layer) */
    const char *name; /* "kernel": the last part, without ":0" */
    const char *path; /* "dense/kernel:0": the data set's name in a Keras HDF5 file, below the layer's group */
    ls_layer *layer;
    ls_shape shape; /* Keras's */
    ls_weight_role role;
    bool trainable;  /* role PARAM and the layer (and all around it) trainable */
    double momentum; /* role STAT */
    ls_initializer init;
    ls_regularizer regularizer;
    ls_constraint constraint;
};

struct ls_layer {
    int id;
    const char *name; /* unique within its model; nested: "inner/dense" is the path, name is "dense" */
    const char *path;
    const char *scope; /* what stands before "/kernel:0" in the paths of its weights */
    const ls_layer_class *class_;
    ls_json config;   /* valid as long as the model */
    const void *role; /* what the wrapper that owns it wants of it; the two classes know the type. NULL: nothing */
    bool trainable;
    bool builtin_input; /* an InputLayer */
    int n_weights;
    ls_weight **weights; /* Keras's order */
    int cap_weights;
    int n_calls;
    int first_node, n_nodes; /* of its first call, for the summary */
    int first_state;         /* stateful: in the model's states, plus 1; 0: none yet */
    ls_layer *parent;        /* the wrapper or nested model that owns it; NULL at top level */
    int n_children;
    ls_layer **children;
    int cap_children;
    int n_out; /* of the first call */
    ls_tensor **in, **out;
    int n_in;
    int n_links; /* of all calls: where each input comes from, in Keras's words: "dense[0][0]" */
    const char **links;
    int cap_links;
};

typedef struct ls_model {
    ls_pool pool;
    ls_json_doc doc; /* the configuration it was built from */
    const char *name;
    bool sequential;
    int n_layers, cap_layers;
    ls_layer **layers; /* top level, in Keras's order (Sequential: with an InputLayer first, whether written or not) */
    int n_weights, cap_weights;
    ls_weight **weights; /* of all layers, Keras's order */
    int n_tensors, cap_tensors;
    ls_tensor **tensors;
    int n_nodes, cap_nodes;
    ls_node **nodes; /* topological order */
    int n_states, cap_states;
    size_t *state_elems; /* (n_states) floats a sample that stateful layers carry from one batch to the next */
    int n_inputs, n_outputs;
    ls_tensor **inputs, **outputs;
    const char **input_names, **output_names; /* the layers' names */
} ls_model;

/*
 * Builds a model from a Keras configuration (to_json of Keras 2 or 3, Sequential or Functional, or the model_config of
 * an HDF5 file). `input_shapes` (n_shapes of them, may be NULL) fill unknown dimensions of the inputs and are checked
 * against known ones. The model takes over *doc. Errors name the layer, the key and what was expected. Local.
 */
ls_status ls_model_build(ls_model **out, ls_json_doc *doc, const ls_shape *input_shapes, int n_shapes,
                         ls_err *err) LS_MUST_CHECK;
void ls_model_destroy(ls_model *model);

/* Elements of all weights of a layer and of what is nested in it; of the trainable ones alone when trainable_only. */
int64_t ls_layer_count_params(const ls_layer *layer, bool trainable_only);

/* The configuration as a Keras 2 full-model file wants it (recipe: an InputLayer always, batch_input_shape, no keys
 * that Keras 3 refuses). Freed by the caller. */
char *ls_model_config_text(const ls_model *model);

#endif
