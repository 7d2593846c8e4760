/* A model as a layer. Keras 2 calls a Functional model "Model" in old files. */
#include "worker/layers/rows.h"

#define ROW(suffix, name_)                     \
    const ls_layer_class ls_layer_##suffix = { \
        .name = name_, .keys = "", .min_in = 1, .max_in = -1, .masks = true, .build = ls_builder_nested}

ROW(sequential, "Sequential");
ROW(functional, "Functional");
ROW(model, "Model");
