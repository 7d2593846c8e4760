#include "worker/model/constraint.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "common/text.h"

static const double EPSILON = 1e-7; /* Keras's */

/* ---- reading {"class_name", "config"} or a name ---- */

static ls_status read_object(ls_json at, const char **name, ls_json *config, ls_err *err) {
    *config = (ls_json){.doc = at.doc};
    if (json_is_string(at.value)) {
        *name = json_string_value(at.value);
        return LS_OK;
    }
    static const char *const keys[] = {"class_name", "config", "module", "registered_name", "shared_object_id"};
    LS_TRY(ls_json_only_keys(at, keys, sizeof keys / sizeof keys[0], err));
    LS_TRY(ls_json_get_string(at, "class_name", name, err));
    if (*name == NULL) {
        return ls_json_fail(at, err, "expected a \"class_name\"");
    }
    *config = ls_json_member(at, "config");
    return ls_json_present(*config) ? ls_json_expect_object(*config, err) : LS_OK;
}

static ls_status only_keys(ls_json config, const char *const *keys, size_t n, ls_err *err) {
    return ls_json_present(config) ? ls_json_only_keys(config, keys, n, err) : LS_OK;
}

/* ---- regularizers ---- */

ls_status ls_regularizer_parse(ls_json at, ls_regularizer *out, ls_err *err) {
    *out = (ls_regularizer){0};
    if (!ls_json_present(at)) {
        return LS_OK;
    }
    const char *name = NULL;
    ls_json config;
    LS_TRY(read_object(at, &name, &config, err));
    static const struct {
        const char *name, *class_name;
        double l1, l2; /* Keras's defaults by name, and by class without a value */
    } rows[] = {{"l1", "L1", 0.01, 0}, {"l2", "L2", 0, 0.01}, {"l1_l2", "L1L2", 0.01, 0.01}};
    for (size_t i = 0; i < 3; i++) {
        bool by_name = strcmp(name, rows[i].name) == 0, by_class = strcmp(name, rows[i].class_name) == 0;
        if (!by_name && !by_class) {
            continue;
        }
        static const char *const keys[] = {"l1", "l2"};
        LS_TRY(only_keys(config, keys, 2, err));
        bool both_given = i == 2 && ls_json_present(config); /* L1L2's own defaults are 0 */
        out->l1 = both_given ? 0 : rows[i].l1;
        out->l2 = both_given ? 0 : rows[i].l2;
        LS_TRY(ls_json_get_double(config, "l1", 0, DBL_MAX, &out->l1, err));
        return ls_json_get_double(config, "l2", 0, DBL_MAX, &out->l2, err);
    }
    static const char *const words[] = {"l1", "l2", "l1_l2", "L1", "L2", "L1L2"};
    return ls_json_unknown(at, name, "a regularizer", words, 6, err);
}

/* ---- constraints ---- */

typedef double (*rescale)(const ls_constraint *c, double norm); /* the factor for a vector of that norm */

typedef struct ls_constraint_class {
    const char *name, *class_name;
    const char *keys[4];
    size_t n_keys;
    double min, max, rate; /* defaults */
    const char *min_key, *max_key;
    rescale factor; /* NULL: element-wise */
} ls_constraint_class;

static double clip(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

static double max_norm(const ls_constraint *c, double norm) {
    return clip(norm, 0, c->max) / (EPSILON + norm);
}

static double unit_norm(const ls_constraint *c, double norm) {
    (void)c;
    return 1 / (EPSILON + norm);
}

static double min_max_norm(const ls_constraint *c, double norm) {
    double wanted = c->rate * clip(norm, c->min, c->max) + (1 - c->rate) * norm;
    return wanted / (EPSILON + norm);
}

static const ls_constraint_class classes[] = {
    {"non_neg", "NonNeg", {NULL}, 0, 0, 0, 1, NULL, NULL, NULL},
    {"max_norm", "MaxNorm", {"max_value", "axis"}, 2, 0, 2, 1, NULL, "max_value", max_norm},
    {"unit_norm", "UnitNorm", {"axis"}, 1, 0, 0, 1, NULL, NULL, unit_norm},
    {"min_max_norm",
     "MinMaxNorm",
     {"min_value", "max_value", "rate", "axis"},
     4,
     0,
     1,
     1,
     "min_value",
     "max_value",
     min_max_norm},
};
enum { N_CLASSES = sizeof classes / sizeof classes[0] };

static ls_status read_axes(ls_json config, const ls_shape *shape, ls_constraint *out, ls_err *err) {
    int64_t axes[LS_MAX_RANK] = {0};
    size_t n = 1;
    LS_TRY(ls_json_get_ints(config, "axis", -LS_MAX_RANK, LS_MAX_RANK, axes, &n, err));
    for (size_t i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + shape->rank : axes[i];
        if (axis < 0 || axis >= shape->rank) {
            char text[96];
            return ls_json_fail(ls_json_member(config, "axis"), err, "there is no axis %d in a weight of shape %s",
                                (int)axes[i], ls_shape_text(shape, false, text, sizeof text));
        }
        out->axes[out->n_axes++] = (int)axis;
    }
    return LS_OK;
}

ls_status ls_constraint_parse(ls_json at, const ls_shape *shape, ls_constraint *out, ls_err *err) {
    *out = (ls_constraint){0};
    if (!ls_json_present(at)) {
        return LS_OK;
    }
    const char *name = NULL, *words[2 * N_CLASSES];
    ls_json config;
    LS_TRY(read_object(at, &name, &config, err));
    for (size_t i = 0; i < N_CLASSES; i++) {
        const ls_constraint_class *c = &classes[i];
        words[2 * i] = c->name;
        words[2 * i + 1] = c->class_name;
        if (strcmp(name, c->name) != 0 && strcmp(name, c->class_name) != 0) {
            continue;
        }
        LS_TRY(only_keys(config, c->keys, c->n_keys, err));
        *out = (ls_constraint){.class_ = c, .min = c->min, .max = c->max, .rate = c->rate};
        if (c->min_key != NULL) {
            LS_TRY(ls_json_get_double(config, c->min_key, 0, DBL_MAX, &out->min, err));
            LS_TRY(ls_json_get_double(config, "rate", 0, 1, &out->rate, err));
        }
        if (c->max_key != NULL) {
            LS_TRY(ls_json_get_double(config, c->max_key, 0, DBL_MAX, &out->max, err));
        }
        return c->factor != NULL ? read_axes(config, shape, out, err) : LS_OK;
    }
    return ls_json_unknown(at, name, "a constraint", words, 2 * N_CLASSES, err);
}

/* Walks the vectors along the constraint's axes: for every index of the other axes, all indices of these. */
typedef struct {
    int rank;
    int64_t dim[LS_MAX_RANK], stride[LS_MAX_RANK];
    int64_t elems;
} axes_view;

static axes_view view_of(const ls_weight *w, bool constrained) {
    axes_view v = {.elems = 1};
    int64_t stride = 1, strides[LS_MAX_RANK];
    for (int i = w->shape.rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= w->shape.dim[i];
    }
    for (int i = 0; i < w->shape.rank; i++) {
        bool in = false;
        for (int k = 0; k < w->constraint.n_axes; k++) {
            in |= w->constraint.axes[k] == i;
        }
        if (in == constrained) {
            v.dim[v.rank] = w->shape.dim[i];
            v.stride[v.rank++] = strides[i];
            v.elems *= w->shape.dim[i];
        }
    }
    return v;
}

static int64_t offset_of(const axes_view *v, int64_t index) {
    int64_t offset = 0;
    for (int i = v->rank - 1; i >= 0; i--) {
        offset += index % v->dim[i] * v->stride[i];
        index /= v->dim[i];
    }
    return offset;
}

void ls_constraint_apply(const ls_weight *w, float *keras_order) {
    const ls_constraint_class *c = w->constraint.class_;
    if (c == NULL) {
        return;
    }
    if (c->factor == NULL) {
        for (int64_t i = 0, n = ls_shape_elems(&w->shape); i < n; i++) {
            keras_order[i] = keras_order[i] >= 0 ? keras_order[i] : 0;
        }
        return;
    }
    axes_view along = view_of(w, true), others = view_of(w, false);
    for (int64_t o = 0; o < others.elems; o++) {
        float *base = keras_order + offset_of(&others, o);
        double sum = 0;
        for (int64_t i = 0; i < along.elems; i++) {
            double x = base[offset_of(&along, i)];
            sum += x * x;
        }
        double factor = c->factor(&w->constraint, sqrt(sum));
        for (int64_t i = 0; i < along.elems; i++) {
            float *x = &base[offset_of(&along, i)];
            *x = (float)(*x * factor);
        }
    }
}
