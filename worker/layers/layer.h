/*
 * A layer class: one row of the table in layers.c and one file layers/<name>.c, which adds the layer's nodes to a
 * model.
 */
#ifndef LS_WORKER_LAYER_H
#define LS_WORKER_LAYER_H

#include "worker/model/model.h"

typedef struct ls_builder ls_builder;

/* One call of a layer: what goes in, what has to come out. */
typedef struct ls_layer_call {
    ls_layer *layer;
    ls_json config; /* the layer's "config" object */
    int n_in;
    ls_tensor *const *in;
    int n_out; /* set by build */
    ls_tensor *out[8];
    ls_json kwargs; /* call arguments of a Functional config; .value NULL when none */
} ls_layer_call;

struct ls_layer_class {
    const char *name;   /* Keras's class_name */
    const char *keys;   /* config keys that it understands, separated by spaces, besides name, trainable, dtype,
                           batch_input_shape, batch_shape, input_dim, input_shape, input_length */
    int min_in, max_in; /* inputs that a call takes; max_in -1: any number */
    int spatial;        /* axes between batch and channels, for the classes that come in 1D, 2D and 3D; else 0 */
    bool masks;         /* its outputs carry the mask of its first input (Keras: supports_masking) */
    const char
        *call_inputs;       /* names of its inputs, where all but the first may come as call arguments: "query value" */
    const char *call_keys;  /* call arguments that it understands besides those of every layer; "mask": one of the time
                               steps, which is then that of its first input */
    const char *drop;       /* config keys that checkpoints leave out because Keras 3 refuses them; NULL: none */
    const char *drop_false; /* those that they leave out where they are false, because older Keras 2 refuses them */
    /* Adds nodes for one call. Called again for every further call of a shared layer; ls_builder_weight then returns
     * the weights made by the first. Propagates masks. Errors speak of config keys through ls_json_fail(call->config,
     * ...). */
    ls_status (*build)(ls_builder *b, ls_layer_call *call, ls_err *err);
};

/* The class of a Keras class_name, or NULL; and all that are built in, NULL-terminated (Keras's aliases have rows of
 * their own). */
const ls_layer_class *ls_layer_class_find(const char *class_name);
const ls_layer_class *const *ls_layer_classes(void);

/* Adds a class that is found after the built-in ones, until ls_layer_class_drop_added. `owner` is the file that it
 * comes from; both stay the caller's. LS_EINPUT: the name is taken. */
ls_status ls_layer_class_add(const ls_layer_class *class_, const char *owner, ls_err *err) LS_MUST_CHECK;
void ls_layer_class_drop_added(void);
/* Appends the names of added classes to a list of n words with room for max; returns how many there are then. */
size_t ls_layer_class_added_names(const char **names, size_t n, size_t max);

/* ---- for build functions ---- */

ls_model *ls_builder_model(ls_builder *b);
/* Whether what is being built is called with training=False (a nested model, say): dropout is off, batch
 * normalization uses its moving statistics. */
bool ls_builder_inference(const ls_builder *b);

/* A node with n_out new tensors of the given shapes (dtype f32, rows of in[0], and its mask if the class says masks);
 * attr is copied (attr_bytes). The node's outputs are node->out[i]. */
ls_node *ls_builder_node(ls_builder *b, ls_layer *layer, const ls_operator *op, const void *attr, size_t attr_bytes,
                         int n_in, ls_tensor *const *in, int n_weights, ls_weight *const *weights, int n_out,
                         const ls_shape *shapes);

/* The layer's weight of that name ("cell/kernel": "kernel", with "cell/" in its path): made at the layer's first call,
 * found again at later ones (shape must then agree). `config` keys give initializer, regularizer and constraint: prefix
 * "kernel" reads kernel_initializer, kernel_regularizer, kernel_constraint; default_init is Keras's default
 * ("glorot_uniform"). */
ls_status ls_builder_weight(ls_builder *b, ls_layer_call *call, const char *name, const char *prefix,
                            const char *default_init, const ls_shape *shape, ls_weight **out,
                            ls_err *err) LS_MUST_CHECK;
/* A moving statistic. */
ls_status ls_builder_stat(ls_builder *b, ls_layer_call *call, const char *name, const char *init_key,
                          const char *default_init, double momentum, const ls_shape *shape, ls_weight **out,
                          ls_err *err) LS_MUST_CHECK;

/* Adds the activation named by config[key] (a string, or a serialized object) as a node; absent, null or "linear": *io
 * is left as it is. */
ls_status ls_builder_activation(ls_builder *b, ls_layer_call *call, const char *key, const char *default_name,
                                ls_tensor **io, ls_err *err) LS_MUST_CHECK;

/* The class's build, with "data_format" seen to: build functions see tensors channels last. */
ls_status ls_layer_build(ls_builder *b, ls_layer_call *call, ls_err *err) LS_MUST_CHECK;

/* Penalises the call's outputs as config["activity_regularizer"] says; done for every layer after its build. */
ls_status ls_builder_activity(ls_builder *b, ls_layer_call *call, ls_err *err) LS_MUST_CHECK;

/* Builds an inner layer given as {"class_name", "config"} (wrappers): the first time makes it a child of the
 * call's layer under its own name, later calls use it again. */
ls_status ls_builder_inner(ls_builder *b, const ls_layer_call *call, ls_json spec, ls_layer **inner,
                           ls_err *err) LS_MUST_CHECK;
/* The same for one of several inner layers: its name gets the prefix and stands in its weights' paths. */
ls_status ls_builder_inner_as(ls_builder *b, const ls_layer_call *call, ls_json spec, const char *prefix,
                              ls_layer **inner, ls_err *err) LS_MUST_CHECK;
/* One call of a layer on tensors: checks its configuration and inputs, builds, and gives the outputs in done->out. */
ls_status ls_builder_call(ls_builder *b, ls_layer *layer, int n_in, ls_tensor *const *in, ls_json kwargs,
                          ls_layer_call *done, ls_err *err) LS_MUST_CHECK;

/* The mask that goes with several tensors: 1 where all of theirs are; NULL when none has one. */
ls_status ls_builder_merge_masks(ls_builder *b, ls_layer_call *call, int n, ls_tensor *const *in, ls_tensor **mask,
                                 ls_err *err) LS_MUST_CHECK;

/* The first of n states of n_elems floats a sample that the layer carries from batch to batch: the same ones for each
 * of its calls, which go on one from the other. */
int ls_builder_states(ls_builder *b, ls_layer *layer, int n, size_t n_elems);

/* Views: the same numbers under another shape; (rows, shape) must have the same product. */
ls_tensor *ls_builder_view(ls_builder *b, ls_layer *layer, ls_tensor *in, int64_t rows, const ls_shape *shape);

/* A model inside a model ("Sequential", "Functional"): the build function of those classes. */
ls_status ls_builder_nested(ls_builder *b, ls_layer_call *call, ls_err *err) LS_MUST_CHECK;

/* "LAYER (CLASS): <format>" as LS_EINPUT, with the file's name. */
ls_status ls_layer_fail(const ls_layer_call *call, ls_err *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__ /* as ls_fail */
#define ls_layer_fail(call, err, ...) ((void)ls_layer_fail(call, err, __VA_ARGS__), LS_EINPUT)
#endif

#endif
