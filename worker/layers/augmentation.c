/*
 * Augmentation of images, in training alone: RandomFlip, RandomTranslation, RandomZoom, RandomRotation, RandomCrop,
 * RandomContrast, RandomBrightness. Otherwise they give their input, and RandomCrop the largest window in its middle,
 * resized.
 *
 * Source: tf_keras/layers/preprocessing/image_preprocessing.py (Keras 2.15). A layer's own "seed" has no effect: draws
 * come of the job's seed, the step, the layer and the sample's index, so that they are the same on any number of ranks.
 * Each image has draws of its own; Keras 2 crops and contrasts a whole batch alike.
 */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static ls_status check_image(const ls_layer_call *call, ls_err *err) {
    char text[96];
    return call->in[0]->shape.rank == 3
               ? LS_OK
               : ls_layer_fail(call, err, "expects images (height, width, channels), found an input of shape %s",
                               ls_shape_text(&call->in[0]->shape, true, text, sizeof text));
}

/* A list of two numbers; or, unless `pair`, one, which goes to both. */
static ls_status read_two(const ls_layer_call *call, const char *key, bool pair, double *out, ls_err *err) {
    ls_json value = ls_json_member(call->config, key);
    const json_t *first = json_array_get(value.value, 0), *second = json_array_get(value.value, 1);
    if (!ls_json_present(value)) {
        return ls_json_fail(call->config, err, "\"%s\" is missing", key);
    }
    if (ls_json_length(value) == 2 && json_is_number(first) && json_is_number(second)) {
        out[0] = json_number_value(first);
        out[1] = json_number_value(second);
        return LS_OK;
    }
    out[0] = out[1] = json_number_value(value.value);
    char found[96];
    return json_is_number(value.value) && !pair
               ? LS_OK
               : ls_json_fail(value, err, "expected %sa list of two numbers, found %s", pair ? "" : "a number or ",
                              ls_json_describe(value.value, found, sizeof found));
}

/* A list of two, or a number f, which stands for [-f, f]. */
static ls_status read_range(const ls_layer_call *call, const char *key, double least, double most, double *low,
                            double *high, ls_err *err) {
    double two[2];
    LS_TRY(read_two(call, key, false, two, err));
    ls_json value = ls_json_member(call->config, key);
    *low = json_is_number(value.value) ? -two[0] : two[0];
    *high = two[1];
    if (!(*low <= *high) || *low < least || *high > most) {
        return ls_json_fail(value, err,
                            "expected a range within [%g, %g] whose first is not above its second, found [%g, %g]",
                            least, most, *low, *high);
    }
    return LS_OK;
}

static ls_status read_fill(const ls_layer_call *call, ls_warp_attr *a, ls_err *err) {
    static const char *const fills[] = {
#define X(name, word) word,
        LS_FILL_LIST(X)
#undef X
    };
    static const char *const interpolations[] = {"bilinear", "nearest"};
    int fill = LS_FILL_REFLECT, nearest = 0;
    double value = 0;
    LS_TRY(ls_json_get_choice(call->config, "fill_mode", fills, LS_FILL_COUNT, &fill, err));
    LS_TRY(ls_json_get_choice(call->config, "interpolation", interpolations, 2, &nearest, err));
    LS_TRY(ls_json_get_double(call->config, "fill_value", -1e30, 1e30, &value, err));
    a->fill = (ls_fill)fill;
    a->nearest = nearest != 0;
    a->fill_value = (float)value;
    return LS_OK;
}

static void add_node(ls_builder *b, ls_layer_call *call, const ls_operator *op, const void *attr, size_t attr_bytes,
                     const ls_shape *out) {
    call->n_out = 1;
    call->out[0] = ls_builder_inference(b)
                       ? call->in[0]
                       : ls_builder_node(b, call->layer, op, attr, attr_bytes, 1, call->in, 0, NULL, 1, out)->out[0];
}

static void add_warp(ls_builder *b, ls_layer_call *call, const ls_warp_attr *a) {
    add_node(b, call, &ls_op_warp, a, sizeof *a, &call->in[0]->shape);
}

static ls_status build_random_flip(ls_builder *b, ls_layer_call *call, ls_err *err) {
    static const char *const modes[] = {"horizontal_and_vertical", "horizontal", "vertical"};
    int mode = 0;
    LS_TRY(check_image(call, err));
    LS_TRY(ls_json_get_choice(call->config, "mode", modes, 3, &mode, err));
    ls_warp_attr a = {.kind = LS_WARP_FLIP, .flips = {mode != 1, mode != 2}};
    add_warp(b, call, &a);
    return LS_OK;
}

static ls_status build_random_translation(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_warp_attr a = {.kind = LS_WARP_TRANSLATE};
    LS_TRY(check_image(call, err));
    LS_TRY(read_fill(call, &a, err));
    LS_TRY(read_range(call, "height_factor", -1, 1, &a.low[0], &a.high[0], err));
    LS_TRY(read_range(call, "width_factor", -1, 1, &a.low[1], &a.high[1], err));
    add_warp(b, call, &a);
    return LS_OK;
}

static ls_status build_random_zoom(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_warp_attr a = {.kind = LS_WARP_ZOOM};
    LS_TRY(check_image(call, err));
    LS_TRY(read_fill(call, &a, err));
    LS_TRY(read_range(call, "height_factor", -1, 1, &a.low[0], &a.high[0], err));
    a.together = !ls_json_present(ls_json_member(call->config, "width_factor"));
    a.low[1] = a.low[0];
    a.high[1] = a.high[0];
    if (!a.together) {
        LS_TRY(read_range(call, "width_factor", -1, 1000, &a.low[1], &a.high[1], err));
    }
    add_warp(b, call, &a);
    return LS_OK;
}

static ls_status build_random_rotation(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_warp_attr a = {.kind = LS_WARP_ROTATE};
    LS_TRY(check_image(call, err));
    LS_TRY(read_fill(call, &a, err));
    LS_TRY(read_range(call, "factor", -1000, 1000, &a.low[0], &a.high[0], err));
    add_warp(b, call, &a);
    return LS_OK;
}

/* height and width of an output image. */
static ls_status read_size(const ls_layer_call *call, ls_shape *out, ls_err *err) {
    static const char *const keys[] = {"height", "width"};
    *out = call->in[0]->shape;
    for (int i = 0; i < 2; i++) {
        int64_t n = 0;
        LS_TRY(ls_json_get_int(call->config, keys[i], 1, 1 << 20, &n, err));
        if (n == 0) {
            return ls_json_fail(call->config, err, "\"%s\" is missing", keys[i]);
        }
        out->dim[i] = n;
    }
    return LS_OK;
}

static void add_window(ls_builder *b, ls_layer_call *call, const ls_resize_attr *a, const ls_shape *out) {
    call->n_out = 1;
    call->out[0] = ls_builder_node(b, call->layer, &ls_op_resize, a, sizeof *a, 1, call->in, 0, NULL, 1, out)->out[0];
}

static ls_status build_random_crop(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_shape out;
    LS_TRY(check_image(call, err));
    LS_TRY(read_size(call, &out, err));
    const ls_shape *in = &call->in[0]->shape;
    if (ls_builder_inference(b) || out.dim[0] > in->dim[0] || out.dim[1] > in->dim[1]) {
        ls_resize_attr window = ls_resize_window(in, &out);
        add_window(b, call, &window, &out);
        return LS_OK;
    }
    ls_warp_attr a = {.kind = LS_WARP_CROP};
    add_node(b, call, &ls_op_warp, &a, sizeof a, &out);
    return LS_OK;
}

/* value_range: two numbers, in any order. */
static ls_status read_values(const ls_layer_call *call, ls_tone_attr *a, ls_err *err) {
    double range[2] = {0, 255};
    if (ls_json_present(ls_json_member(call->config, "value_range"))) {
        LS_TRY(read_two(call, "value_range", true, range, err));
    }
    a->min = (float)(range[0] < range[1] ? range[0] : range[1]);
    a->max = (float)(range[0] < range[1] ? range[1] : range[0]);
    return LS_OK;
}

static ls_status build_random_contrast(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_tone_attr a = {.contrast = true};
    double factor[2];
    LS_TRY(check_image(call, err));
    LS_TRY(read_values(call, &a, err));
    LS_TRY(read_two(call, "factor", false, factor, err));
    if (!(factor[0] >= 0 && factor[0] <= 1 && factor[1] >= 0)) {
        return ls_json_fail(ls_json_member(call->config, "factor"), err,
                            "expected how far below and above 1 the contrast may be, from 0 to 1, found %g and %g",
                            factor[0], factor[1]);
    }
    a.low = 1 - factor[0];
    a.high = 1 + factor[1];
    add_node(b, call, &ls_op_tone, &a, sizeof a, &call->in[0]->shape);
    return LS_OK;
}

static ls_status build_random_brightness(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_tone_attr a = {.contrast = false};
    LS_TRY(check_image(call, err));
    LS_TRY(read_values(call, &a, err));
    LS_TRY(read_range(call, "factor", -1, 1, &a.low, &a.high, err));
    add_node(b, call, &ls_op_tone, &a, sizeof a, &call->in[0]->shape);
    return LS_OK;
}

/* ---- the same in training and otherwise ---- */

static ls_status build_center_crop(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_shape out;
    LS_TRY(check_image(call, err));
    LS_TRY(read_size(call, &out, err));
    const ls_shape *in = &call->in[0]->shape;
    ls_resize_attr window = ls_resize_window(in, &out);
    for (int i = 0; out.dim[0] <= in->dim[0] && out.dim[1] <= in->dim[1] && i < 2; i++) {
        window.length[i] = out.dim[i];
        window.start[i] = (in->dim[i] - out.dim[i]) / 2;
    }
    add_window(b, call, &window, &out);
    return LS_OK;
}

static ls_status build_resizing(ls_builder *b, ls_layer_call *call, ls_err *err) {
    static const char *const interpolations[] = {"bilinear", "nearest"};
    bool crop = false, pad = false;
    int nearest = 0;
    ls_shape out;
    LS_TRY(check_image(call, err));
    LS_TRY(read_size(call, &out, err));
    LS_TRY(ls_json_get_choice(call->config, "interpolation", interpolations, 2, &nearest, err));
    LS_TRY(ls_json_get_bool(call->config, "crop_to_aspect_ratio", &crop, err));
    LS_TRY(ls_json_get_bool(call->config, "pad_to_aspect_ratio", &pad, err));
    if (pad) {
        return ls_json_fail(ls_json_member(call->config, "pad_to_aspect_ratio"), err,
                            "is not supported; expected false");
    }
    const ls_shape *in = &call->in[0]->shape;
    ls_resize_attr window = {.length = {in->dim[0], in->dim[1]}};
    if (crop) {
        window = ls_resize_window(in, &out);
    }
    window.nearest = nearest != 0;
    add_window(b, call, &window, &out);
    return LS_OK;
}

#define ROW(suffix, name_, keys_)              \
    const ls_layer_class ls_layer_##suffix = { \
        .name = name_, .keys = keys_, .min_in = 1, .max_in = 1, .build = build_##suffix}
#define FILL " fill_mode fill_value interpolation seed data_format"

ROW(random_flip, "RandomFlip", "mode seed data_format");
ROW(random_translation, "RandomTranslation", "height_factor width_factor" FILL);
ROW(random_zoom, "RandomZoom", "height_factor width_factor" FILL);
ROW(random_rotation, "RandomRotation", "factor" FILL);
ROW(random_crop, "RandomCrop", "height width seed data_format");
ROW(random_contrast, "RandomContrast", "factor value_range seed data_format");
ROW(random_brightness, "RandomBrightness", "factor value_range seed data_format");
ROW(center_crop, "CenterCrop", "height width data_format");
ROW(resizing, "Resizing", "height width interpolation crop_to_aspect_ratio pad_to_aspect_ratio data_format");
