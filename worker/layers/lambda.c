/* Lambda is known so that it can be refused in plain words: its file holds compiled Python, which cannot run here. */
#include "worker/layers/rows.h"

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    (void)b;
    return ls_layer_fail(call, err,
                         "holds Python code, which cannot run here; write it with layers (Rescaling, Multiply, Dot, "
                         "Activation, ..) or as a plugin's layer");
}

const ls_layer_class ls_layer_lambda = {.name = "Lambda",
                                        .keys =
                                            "function function_type module output_shape output_shape_type "
                                            "output_shape_module arguments mask",
                                        .min_in = 0,
                                        .max_in = -1,
                                        .build = build};
