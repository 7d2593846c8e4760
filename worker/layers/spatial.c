#include "worker/layers/spatial.h"

#include <inttypes.h>

ls_status ls_spatial_check_input(const ls_layer_call *call, ls_err *err) {
    const ls_shape *s = &call->in[0]->shape;
    int want = call->layer->class_->spatial + 1;
    if (s->rank != want) {
        char text[96];
        return ls_layer_fail(call, err, "expects an input of %d axes (batch, %s, channels), found shape %s", want + 1,
                             want == 2   ? "steps"
                             : want == 3 ? "rows, columns"
                                         : "depth, rows, columns",
                             ls_shape_text(s, true, text, sizeof text));
    }
    return LS_OK;
}

ls_status ls_spatial_ints(const ls_layer_call *call, const char *key, bool required, int64_t min, int64_t *out,
                          ls_err *err) {
    size_t spatial = (size_t)call->layer->class_->spatial, n = 0;
    ls_json at = ls_json_member(call->config, key);
    if (!ls_json_present(at)) {
        return required ? ls_json_fail(call->config, err, "\"%s\" is missing", key) : LS_OK;
    }
    LS_TRY(ls_json_get_ints(call->config, key, min, spatial, out, &n, err));
    if (n == 1) {
        for (size_t i = 1; i < spatial; i++) {
            out[i] = out[0];
        }
    } else if (n != spatial) {
        return ls_json_fail(at, err, "expected a whole number or a list of %zu of them", spatial);
    }
    for (size_t i = 0; i < spatial; i++) {
        if (out[i] > LS_MAX_WINDOW) {
            return ls_json_fail(at, err, "%" PRId64 " is too large", out[i]);
        }
    }
    return LS_OK;
}

ls_status ls_spatial_padding(const ls_layer_call *call, bool causal_allowed, ls_padding *out, ls_err *err) {
    static const char *const words[] = {"valid", "same", "causal"};
    int which = LS_PAD_VALID;
    LS_TRY(ls_json_get_choice(call->config, "padding", words, causal_allowed ? 3 : 2, &which, err));
    *out = (ls_padding)which;
    return LS_OK;
}

int64_t ls_spatial_out(ls_padding padding, int64_t n, int64_t kernel, int64_t stride, int64_t dilation,
                       int64_t *pad_before, int64_t *pad_after) {
    int64_t window = (kernel - 1) * dilation + 1;
    *pad_before = *pad_after = 0;
    if (padding == LS_PAD_VALID) {
        return n < window ? 0 : (n - window) / stride + 1;
    }
    int64_t out = (n + stride - 1) / stride;
    if (padding == LS_PAD_CAUSAL) {
        *pad_before = window - 1;
        return out;
    }
    int64_t total = (out - 1) * stride + window - n;
    if (total > 0) {
        *pad_before = total / 2;
        *pad_after = total - total / 2;
    }
    return out;
}
