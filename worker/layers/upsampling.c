/*
 * UpSampling1D/2D/3D: every cell repeated `size` times along each axis, or bilinear (2D).
 *
 * Source: tf_keras/layers/reshaping/up_sampling*.py.
 */
#include "worker/layers/rows.h"
#include "worker/layers/spatial.h"
#include "worker/ops/ops.h"

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    static const char *const words[] = {"nearest", "bilinear"};
    int64_t size[LS_MAX_SPATIAL] = {2, 2, 2};
    int spatial = call->layer->class_->spatial, bilinear = 0;
    LS_TRY(ls_spatial_check_input(call, err));
    LS_TRY(ls_spatial_ints(call, "size", false, 1, size, err));
    LS_TRY(ls_json_get_choice(call->config, "interpolation", words, spatial == 2 ? 2 : 1, &bilinear, err));
    ls_shape out = call->in[0]->shape;
    ls_rearrange_attr repeat = {.factor = {0}};
    ls_resize_attr resize = {.length = {out.dim[0], out.dim[1]}};
    for (int i = 0; i < out.rank; i++) {
        repeat.source[i] = i;
        repeat.factor[i] = i < spatial ? size[i] : 1;
        out.dim[i] *= repeat.factor[i];
    }
    const ls_operator *op = bilinear ? &ls_op_resize : &ls_op_rearrange;
    const void *attr = bilinear ? (const void *)&resize : &repeat;
    ls_node *node = ls_builder_node(b, call->layer, op, attr, bilinear ? sizeof resize : sizeof repeat, 1, call->in, 0,
                                    NULL, 1, &out);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return LS_OK;
}

#define ROW(suffix, name_, axes)                                                        \
    const ls_layer_class ls_layer_##suffix = {.name = name_,                            \
                                              .keys = "size data_format interpolation", \
                                              .min_in = 1,                              \
                                              .max_in = 1,                              \
                                              .spatial = axes,                          \
                                              .build = build}

ROW(upsampling1d, "UpSampling1D", 1);
ROW(upsampling2d, "UpSampling2D", 2);
ROW(upsampling3d, "UpSampling3D", 3);
