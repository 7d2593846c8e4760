/*
 * A small model for each mode of each layer: what tests that must know every layer run through. A layer without a model
 * here fails them (layer_models_missing).
 *
 * Each model has n_in inputs of one shape. Inputs of real numbers go through a Dense layer of tanh each, so that there
 * is a weight before the layer whose gradient comes through it; whole numbers, below 5, and `raw` ones do not. Then
 * comes the layer, and then what `then` says.
 */
#ifndef LS_TESTS_LAYER_MODELS_H
#define LS_TESTS_LAYER_MODELS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/layers/layer.h"
#include "worker/model/model.h"

typedef struct layer_model {
    const char *class_name, *config; /* without braces and name */
    const char *shape;
    int n_in;
    bool whole, raw;  /* inputs: whole numbers; zeros among them, and no Dense */
    const char *then; /* further layers, each {"class_name", "config"}, NULL: none */
    const char *why;  /* NULL, or the sentence by which it is refused */
} layer_model;

#define LM_DENSE "{\"class_name\": \"Dense\", \"config\": {\"name\": \"last\", \"units\": 2}}"
#define LM_LSTM "{\"class_name\": \"LSTM\", \"config\": {\"name\": \"then\", \"units\": 3, \"return_sequences\": true}}"
#define LM_CELL(class_, keys) "\"cell\": {\"class_name\": \"" class_ "\", \"config\": {\"name\": \"c\"" keys "}}"
#define LM_BOTH(class_, keys, mode)                                                                 \
    "\"layer\": {\"class_name\": \"" class_ "\", \"config\": {\"name\": \"one\", \"units\": 3" keys \
    "}}, \"merge_mode\": "                                                                          \
    "\"" mode "\""
#define LM_EACH(class_, keys) "\"layer\": {\"class_name\": \"" class_ "\", \"config\": {\"name\": \"one\", " keys "}}"

static const layer_model layer_models[] = {
    {"InputLayer", NULL, "[3]", 1},
    {"Sequential",
     "\"layers\": [{\"class_name\": \"InputLayer\", \"config\": {\"name\": \"x\", \"batch_input_shape\": [null, 3]}}, "
     "{\"class_name\": \"Dense\", \"config\": {\"name\": \"y\", \"units\": 2, \"activation\": \"elu\"}}]",
     "[3]", 1},
    {"Functional",
     "\"layers\": [{\"class_name\": \"InputLayer\", \"name\": \"x\", \"config\": {\"name\": \"x\", "
     "\"batch_input_shape\": "
     "[null, 3]}, \"inbound_nodes\": []}, {\"class_name\": \"Dense\", \"name\": \"y\", \"config\": {\"name\": \"y\", "
     "\"units\": 2}, \"inbound_nodes\": [[[\"x\", 0, 0, {}]]]}], \"input_layers\": [[\"x\", 0, 0]], \"output_layers\": "
     "[[\"y\", 0, 0]]",
     "[3]", 1},
    {"Model",
     "\"layers\": [{\"class_name\": \"InputLayer\", \"name\": \"x\", \"config\": {\"name\": \"x\", "
     "\"batch_input_shape\": "
     "[null, 3]}, \"inbound_nodes\": []}, {\"class_name\": \"Dense\", \"name\": \"y\", \"config\": {\"name\": \"y\", "
     "\"units\": 2}, \"inbound_nodes\": [[[\"x\", 0, 0, {}]]]}], \"input_layers\": [[\"x\", 0, 0]], \"output_layers\": "
     "[[\"y\", 0, 0]]",
     "[3]", 1},
    {"Dense", "\"units\": 4, \"activation\": \"softmax\"", "[2, 3]", 1},
    {"Activation", "\"activation\": \"swish\"", "[4]", 1},
    {"ReLU", "\"max_value\": 0.7, \"negative_slope\": 0.1, \"threshold\": 0.05", "[5]", 1},
    {"LeakyReLU", "\"alpha\": 0.2", "[5]", 1},
    {"ELU", "\"alpha\": 0.7", "[5]", 1},
    {"Softmax", "\"axis\": 1", "[3, 4]", 1},
    {"ThresholdedReLU", "\"theta\": 0.1", "[5]", 1},
    {"Conv1D", "\"filters\": 3, \"kernel_size\": [3], \"padding\": \"causal\", \"dilation_rate\": [2]", "[6, 2]", 1},
    {"Conv1D", "\"filters\": 4, \"kernel_size\": [2], \"strides\": [2], \"groups\": 2", "[6, 4]", 1},
    {"Conv2D", "\"filters\": 3, \"kernel_size\": [3, 2], \"padding\": \"same\", \"strides\": [2, 1]", "[5, 4, 2]", 1},
    {"Conv3D", "\"filters\": 2, \"kernel_size\": [2, 1, 2]", "[3, 2, 3, 2]", 1},
    {"Convolution1D", "\"filters\": 3, \"kernel_size\": [2]", "[5, 2]", 1},
    {"Convolution2D", "\"filters\": 3, \"kernel_size\": [2, 2]", "[3, 4, 2]", 1},
    {"Convolution3D", "\"filters\": 2, \"kernel_size\": [2, 2, 2]", "[2, 3, 2, 2]", 1},
    {"DepthwiseConv1D", "\"kernel_size\": [2], \"depth_multiplier\": 2", "[4, 3]", 1},
    {"DepthwiseConv2D", "\"kernel_size\": [2, 3], \"depth_multiplier\": 2, \"padding\": \"same\"", "[3, 4, 2]", 1},
    {"SeparableConv1D", "\"filters\": 3, \"kernel_size\": [2], \"depth_multiplier\": 2", "[5, 2]", 1},
    {"SeparableConv2D", "\"filters\": 3, \"kernel_size\": [2, 2], \"padding\": \"same\"", "[3, 4, 2]", 1},
    {"Conv1DTranspose", "\"filters\": 2, \"kernel_size\": [3], \"strides\": [2]", "[3, 2]", 1},
    {"Conv2DTranspose", "\"filters\": 2, \"kernel_size\": [3, 2], \"strides\": [2, 1], \"padding\": \"same\"",
     "[3, 2, 3]", 1},
    {"Conv3DTranspose", "\"filters\": 2, \"kernel_size\": [2, 2, 2]", "[2, 2, 2, 2]", 1},
    {"MaxPooling1D", "\"pool_size\": [2]", "[6, 2]", 1},
    {"MaxPooling2D", "\"pool_size\": [2, 2], \"strides\": [1, 2], \"padding\": \"same\"", "[4, 5, 2]", 1},
    {"MaxPooling3D", "\"pool_size\": [2, 2, 2]", "[2, 4, 2, 2]", 1},
    {"AveragePooling1D", "\"pool_size\": [2], \"strides\": [1]", "[5, 2]", 1},
    {"AveragePooling2D", "\"pool_size\": [2, 3], \"padding\": \"same\"", "[4, 5, 2]", 1},
    {"AveragePooling3D", "\"pool_size\": [2, 2, 1]", "[2, 4, 2, 2]", 1},
    {"GlobalMaxPooling1D", NULL, "[5, 2]", 1},
    {"GlobalMaxPooling2D", "\"keepdims\": true", "[3, 3, 2]", 1},
    {"GlobalMaxPooling3D", NULL, "[2, 2, 2, 2]", 1},
    {"GlobalAveragePooling1D", NULL, "[5, 2]", 1},
    {"GlobalAveragePooling2D", NULL, "[3, 3, 2]", 1},
    {"GlobalAveragePooling3D", NULL, "[2, 2, 2, 2]", 1},
    {"Flatten", NULL, "[3, 2]", 1, .then = LM_DENSE},
    {"Reshape", "\"target_shape\": [2, -1]", "[4, 3]", 1, .then = LM_DENSE},
    {"Dropout", "\"rate\": 0.3", "[8]", 1},
    {"Dropout", "\"rate\": 0.4, \"noise_shape\": [null, 1, 3]", "[4, 3]", 1},
    {"Dropout", "\"rate\": 0.4, \"noise_shape\": [1, null, 1]", "[4, 3]", 1},
    {"SpatialDropout1D", "\"rate\": 0.3", "[4, 5]", 1},
    {"SpatialDropout2D", "\"rate\": 0.3", "[2, 3, 4]", 1},
    {"SpatialDropout3D", "\"rate\": 0.3", "[2, 2, 2, 4]", 1},
    {"BatchNormalization", NULL, "[3, 2]", 1},
    {"BatchNormalization", "\"axis\": [1], \"scale\": false", "[3, 2, 2]", 1},
    {"Add", NULL, "[3, 2]", 3},
    {"Subtract", NULL, "[3, 2]", 2},
    {"Multiply", NULL, "[3, 2]", 3},
    {"Average", NULL, "[3, 2]", 3},
    {"Maximum", NULL, "[3, 2]", 2},
    {"Minimum", NULL, "[3, 2]", 3},
    {"Concatenate", "\"axis\": 1", "[3, 2]", 2},
    {"Permute", "\"dims\": [2, 1]", "[3, 2]", 1},
    {"RepeatVector", "\"n\": 3", "[4]", 1},
    {"ZeroPadding1D", "\"padding\": [1, 2]", "[3, 2]", 1},
    {"ZeroPadding2D", "\"padding\": [[1, 0], [2, 1]]", "[2, 3, 2]", 1},
    {"ZeroPadding3D", "\"padding\": [[1, 0], [0, 1], [1, 1]]", "[2, 2, 2, 2]", 1},
    {"Cropping1D", "\"cropping\": [1, 1]", "[5, 2]", 1},
    {"Cropping2D", "\"cropping\": [[1, 0], [0, 1]]", "[3, 3, 2]", 1},
    {"Cropping3D", "\"cropping\": [[1, 0], [0, 1], [0, 0]]", "[3, 3, 2, 2]", 1},
    {"UpSampling1D", "\"size\": 2", "[3, 2]", 1},
    {"UpSampling2D", "\"size\": [2, 3]", "[2, 3, 2]", 1},
    {"UpSampling2D", "\"size\": [2, 2], \"interpolation\": \"bilinear\"", "[2, 3, 2]", 1},
    {"UpSampling3D", "\"size\": [2, 1, 2]", "[2, 2, 2, 2]", 1},
    {"Embedding", "\"input_dim\": 5, \"output_dim\": 3", "[4]", 1, .whole = true},
    {"Embedding", "\"input_dim\": 5, \"output_dim\": 3, \"mask_zero\": true", "[4]", 1, .whole = true,
     .then = LM_LSTM ", {\"class_name\": \"GlobalAveragePooling1D\", \"config\": {\"name\": \"mean\"}}"},
    {"LayerNormalization", "\"axis\": [1, 2]", "[3, 4]", 1},
    {"LayerNormalization", "\"axis\": -1, \"center\": false", "[3, 4]", 1},
    {"TimeDistributed", LM_EACH("Dense", "\"units\": 2, \"activation\": \"sigmoid\""), "[3, 4]", 1},
    {"Embedding", "\"input_dim\": 5, \"output_dim\": 3, \"mask_zero\": true", "[4, 3]", 1, .whole = true,
     .then = "{\"class_name\": \"TimeDistributed\", \"config\": {\"name\": \"each\", " LM_EACH(
         "LSTM", "\"units\": 3") "}}, " LM_LSTM ", {\"class_name\": \"Flatten\", \"config\": {\"name\": \"flat\"}}"},
    {"TimeDistributed", LM_EACH("GRU", "\"units\": 2"), "[3, 2, 4]", 1},
    {"Masking", NULL, "[4, 3]", 1, .raw = true,
     .then = LM_LSTM ", {\"class_name\": \"Flatten\", \"config\": {\"name\": \"flat\"}}"},
    {"SimpleRNN", "\"units\": 4, \"activation\": \"softsign\", \"use_bias\": false", "[4, 3]", 1},
    {"SimpleRNN", "\"units\": 3, \"return_sequences\": true, \"go_backwards\": true, \"stateful\": true", "[4, 3]", 1},
    {"LSTM", "\"units\": 3, \"recurrent_activation\": \"hard_sigmoid\"", "[4, 3]", 1},
    {"LSTM", "\"units\": 3, \"dropout\": 0.3, \"recurrent_dropout\": 0.2, \"return_sequences\": true", "[4, 3]", 1},
    {"LSTM", "\"units\": 3, \"stateful\": true, \"return_sequences\": true", "[4, 3]", 1, .then = LM_DENSE},
    {"LSTM", "\"units\": 3, \"go_backwards\": true, \"unit_forget_bias\": false", "[4, 3]", 1},
    {"GRU", "\"units\": 3, \"reset_after\": true", "[4, 3]", 1},
    {"GRU", "\"units\": 3, \"reset_after\": false, \"return_sequences\": true", "[4, 3]", 1},
    {"GRU", "\"units\": 3, \"stateful\": true, \"go_backwards\": true", "[4, 3]", 1},
    {"Jordan", "\"units\": 3, \"hidden_units\": 5, \"return_sequences\": true", "[4, 3]", 1},
    {"Jordan", "\"units\": 3, \"stateful\": true", "[4, 3]", 1},
    {"RNN", LM_CELL("SimpleRNNCell", ", \"units\": 4"), "[4, 3]", 1},
    {"RNN", LM_CELL("LSTMCell", ", \"units\": 4"), "[4, 3]", 1},
    {"RNN", LM_CELL("GRUCell", ", \"units\": 4") ", \"return_sequences\": true", "[4, 3]", 1},
    {"RNN",
     "\"cell\": {\"class_name\": \"StackedRNNCells\", \"config\": {\"cells\": [{\"class_name\": \"LSTMCell\", "
     "\"config\": "
     "{\"units\": 2}}, {\"class_name\": \"GRUCell\", \"config\": {\"units\": 3}}]}}",
     "[4, 3]", 1},
    {"SimpleRNNCell", "\"units\": 2", "[4, 3]", 1, .why = "is a cell, not a layer"},
    {"LSTMCell", "\"units\": 2", "[4, 3]", 1, .why = "is a cell, not a layer"},
    {"GRUCell", "\"units\": 2", "[4, 3]", 1, .why = "is a cell, not a layer"},
    {"Bidirectional", LM_BOTH("LSTM", "", "concat"), "[4, 3]", 1},
    {"Bidirectional", LM_BOTH("GRU", ", \"return_sequences\": true", "ave"), "[4, 3]", 1},
    {"Bidirectional", LM_BOTH("SimpleRNN", ", \"return_sequences\": true", "mul"), "[4, 3]", 1},
    {"Bidirectional", LM_BOTH("LSTM", ", \"return_sequences\": true, \"stateful\": true", "sum"), "[4, 3]", 1},
    {"PReLU", "\"shared_axes\": [1]", "[3, 4]", 1},
    {"Dot", "\"axes\": [2, 2], \"normalize\": true", "[3, 4]", 2},
    {"GaussianNoise", "\"stddev\": 0.3", "[6]", 1},
    {"GaussianDropout", "\"rate\": 0.3", "[6]", 1},
    {"AlphaDropout", "\"rate\": 0.3", "[6]", 1},
    {"Maxout", "\"num_units\": 2", "[6]", 1},
    {"Lambda", NULL, "[4]", 1, .why = "holds Python code, which cannot run here"},
    {"Rescaling", "\"scale\": 0.5, \"offset\": 1", "[4]", 1},
    {"Normalization", "\"axis\": -1, \"mean\": [0, 1, 2], \"variance\": [1, 4, 9]", "[2, 3]", 1},
    {"Attention", "\"use_scale\": true", "[4, 3]", 2},
    {"Attention", "\"score_mode\": \"concat\", \"use_scale\": true, \"dropout\": 0.2", "[4, 3]", 3},
    {"Attention", "\"causal\": true", "[4, 3]", 3},
    {"AdditiveAttention", NULL, "[4, 3]", 2},
    {"MultiHeadAttention", "\"num_heads\": 2, \"key_dim\": 3", "[4, 5]", 2},
    {"MultiHeadAttention",
     "\"num_heads\": 2, \"key_dim\": 3, \"value_dim\": 2, \"dropout\": 0.2, \"output_shape\": [3]", "[2, 3, 4]", 3},
    {"MultiHeadAttention", "\"num_heads\": 2, \"key_dim\": 3, \"attention_axes\": [2]", "[2, 3, 4]", 2},
    {"ActivityRegularization", "\"l1\": 0.01, \"l2\": 0.1", "[4]", 1},
    {"RandomFlip", NULL, "[3, 4, 2]", 1},
    {"RandomTranslation", "\"height_factor\": 0.3, \"width_factor\": [-0.2, 0.4], \"fill_mode\": \"nearest\"",
     "[3, 4, 2]", 1},
    {"RandomTranslation", "\"height_factor\": 0.3, \"width_factor\": 0.2, \"interpolation\": \"nearest\"", "[3, 4, 2]",
     1},
    {"RandomZoom", "\"height_factor\": [-0.3, 0.2], \"fill_mode\": \"wrap\"", "[3, 4, 3]", 1},
    {"RandomRotation", "\"factor\": 0.2, \"fill_mode\": \"constant\", \"fill_value\": 0.5", "[3, 4, 1]", 1},
    {"RandomCrop", "\"height\": 2, \"width\": 3", "[3, 4, 2]", 1},
    {"RandomContrast", "\"factor\": 0.4, \"value_range\": [-2, 2]", "[3, 4, 2]", 1},
    {"RandomBrightness", "\"factor\": 0.1, \"value_range\": [-2, 2]", "[3, 4, 2]", 1},
    {"CenterCrop", "\"height\": 2, \"width\": 2", "[3, 4, 2]", 1},
    {"Resizing", "\"height\": 5, \"width\": 3, \"crop_to_aspect_ratio\": true", "[3, 4, 2]", 1},
};
enum { N_LAYER_MODELS = sizeof layer_models / sizeof layer_models[0] };

/* The first layer that has no model here; NULL: all have one. */
static inline const char *layer_models_missing(void) {
    for (const ls_layer_class *const *c = ls_layer_classes(); *c != NULL; c++) {
        bool has = false;
        for (int i = 0; i < N_LAYER_MODELS; i++) {
            has = has || strcmp(layer_models[i].class_name, (*c)->name) == 0;
        }
        if (!has) {
            return (*c)->name;
        }
    }
    return NULL;
}

static inline void layer_models_add(char *text, size_t size, const char *class_name, const char *name,
                                    const char *config, const char *inputs) {
    size_t used = strlen(text);
    snprintf(
        text + used, size - used,
        "%s{\"class_name\": \"%s\", \"name\": \"%s\", \"config\": {\"name\": \"%s\"%s%s}, \"inbound_nodes\": [%s]}",
        used > 0 ? ", " : "", class_name, name, name, config[0] != '\0' ? ", " : "", config, inputs);
}

/* The Functional configuration of model i; free(). */
static inline char *layer_models_text(int i) {
    const layer_model *m = &layer_models[i];
    enum { SIZE = 1 << 14 };
    char *layers = calloc(SIZE, 1), *whole = calloc(2 * SIZE, 1), calls[256] = "", ends[256] = "", config[200],
         name[32];
    const char *last = "layer";
    bool input_only = strcmp(m->class_name, "InputLayer") == 0;
    for (int k = 0; k < m->n_in; k++) {
        size_t used = strlen(calls), end = strlen(ends);
        char from[64];
        snprintf(config, sizeof config, "\"batch_input_shape\": [null, %s, \"dtype\": \"%s\"", m->shape + 1,
                 m->whole ? "int32" : "float32");
        snprintf(name, sizeof name, "in%d", k);
        layer_models_add(layers, SIZE, "InputLayer", name, config, "");
        snprintf(ends + end, sizeof ends - end, "%s[\"in%d\", 0, 0]", k > 0 ? ", " : "", k);
        snprintf(from, sizeof from, "[[\"in%d\", 0, 0, {}]]", k);
        if (!m->whole && !m->raw) {
            const char *width = strrchr(m->shape, ' ') != NULL ? strrchr(m->shape, ' ') + 1 : m->shape + 1;
            snprintf(config, sizeof config, "\"units\": %d, \"activation\": \"tanh\"", atoi(width));
            snprintf(name, sizeof name, "pre%d", k);
            layer_models_add(layers, SIZE, "Dense", name, config, from);
        }
        snprintf(calls + used, sizeof calls - used, "%s[\"%s%d\", 0, 0, {}]", k > 0 ? ", " : "",
                 m->whole || m->raw ? "in" : "pre", k);
    }
    char inbound[300];
    snprintf(inbound, sizeof inbound, "[%s]", calls);
    if (input_only) {
        last = "pre0";
    } else {
        layer_models_add(layers, SIZE, m->class_name, "layer", m->config != NULL ? m->config : "", inbound);
    }
    if (m->then != NULL) { /* each has its name in its configuration */
        size_t used = strlen(layers);
        char before[64] = "layer", *copy = strdup(m->then);
        for (char *at = copy; at != NULL && *at != '\0';) {
            char *next = strstr(at, "}}, ");
            char *quoted = strstr(at, "\"name\": \"") + strlen("\"name\": \""), own[64] = "";
            if (next != NULL) {
                next[2] = '\0';
            }
            snprintf(own, sizeof own, "%.*s", (int)strcspn(quoted, "\""), quoted);
            at[strlen(at) - 1] = '\0';
            used += (size_t)snprintf(layers + used, SIZE - used,
                                     ", %s, \"name\": \"%s\", \"inbound_nodes\": [[[\"%s\", 0, 0, "
                                     "{}]]]}",
                                     at, own, before);
            snprintf(before, sizeof before, "%s", own);
            at = next != NULL ? next + strlen("}}, ") : NULL;
        }
        free(copy);
        last = strstr(m->then, "\"flat\"") ? "flat" : strstr(m->then, "\"mean\"") ? "mean" : "last";
    }
    const bool nested = strcmp(m->class_name, "Sequential") == 0 || strcmp(m->class_name, "Functional") == 0 ||
                        strcmp(m->class_name, "Model") == 0;
    snprintf(whole, 2 * SIZE,
             "{\"class_name\": \"Functional\", \"config\": {\"name\": \"m\", \"layers\": [%s], \"input_layers\": [%s], "
             "\"output_layers\": [[\"%s\", %d, 0]]}}",
             layers, ends, last, nested ? 1 : 0);
    free(layers);
    return whole;
}

/* "MultiHeadAttention: "num_heads": 2, .." for messages. */
static inline const char *layer_models_label(int i, char *out, size_t size) {
    snprintf(out, size, "%s: %s %s", layer_models[i].class_name, layer_models[i].config ? layer_models[i].config : "",
             layer_models[i].then ? layer_models[i].then : "");
    return out;
}

#endif
