/* Flatten and Reshape: the same numbers under another shape. Source: tf_keras/layers/reshaping/. */
#include <inttypes.h>

#include "worker/layers/rows.h"

static ls_status build_flatten(ls_builder *b, ls_layer_call *call, ls_err *err) {
    (void)err;
    ls_shape out = {.rank = 1, .dim = {ls_shape_elems(&call->in[0]->shape)}};
    call->n_out = 1;
    call->out[0] = ls_builder_view(b, call->layer, call->in[0], call->in[0]->rows, &out);
    return LS_OK;
}

static ls_status build_reshape(ls_builder *b, ls_layer_call *call, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    int64_t dims[LS_MAX_RANK], known = 1, elems = ls_shape_elems(in);
    size_t n = 0;
    ls_json at = ls_json_member(call->config, "target_shape");
    LS_TRY(ls_json_get_ints(call->config, "target_shape", -1, LS_MAX_RANK, dims, &n, err));
    if (n == 0) {
        return ls_json_fail(call->config, err, "\"target_shape\" is missing");
    }
    ls_shape out = {.rank = (int)n};
    int open = -1;
    for (int i = 0; i < out.rank; i++) {
        if (dims[i] == 0 || (dims[i] < 0 && open >= 0)) {
            return ls_json_fail(at, err, "expected dimensions of at least 1, of which one may be -1");
        }
        out.dim[i] = dims[i];
        if (dims[i] < 0) {
            open = i;
        } else if (__builtin_mul_overflow(known, dims[i], &known)) {
            known = 0;
        }
    }
    if (open >= 0 && known > 0 && elems % known == 0) {
        out.dim[open] = elems / known;
        known = elems;
    }
    if (known != elems) {
        char text[96];
        return ls_json_fail(at, err, "an input of shape %s has %" PRId64 " elements, which do not fit into the target",
                            ls_shape_text(in, true, text, sizeof text), elems);
    }
    call->n_out = 1;
    call->out[0] = ls_builder_view(b, call->layer, call->in[0], call->in[0]->rows, &out);
    return LS_OK;
}

const ls_layer_class ls_layer_flatten = {
    .name = "Flatten", .keys = "data_format", .min_in = 1, .max_in = 1, .build = build_flatten};
const ls_layer_class ls_layer_reshape = {
    .name = "Reshape", .keys = "target_shape", .min_in = 1, .max_in = 1, .build = build_reshape};
