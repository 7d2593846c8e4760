/* InputLayer: where data enters. The graph makes its tensor; a call of one is a mistake of the configuration. */
#include "worker/layers/rows.h"

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    (void)b;
    return ls_layer_fail(call, err, "an InputLayer cannot be applied to a tensor");
}

const ls_layer_class ls_layer_input = {
    .name = "InputLayer", .keys = "sparse ragged optional", .min_in = 0, .max_in = 0, .build = build};
