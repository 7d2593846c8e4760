#include "worker/model/initializer.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "common/text.h"

enum { FAN_IN, FAN_OUT, FAN_AVG };
enum { TRUNCATED_NORMAL, UNTRUNCATED_NORMAL, UNIFORM };

typedef void (*filler)(const ls_weight *w, uint64_t key, float *out);

typedef struct ls_initializer_class {
    const char *name, *class_name;
    const char *a_key, *b_key; /* config keys of the two numbers; NULL: it has none */
    double a, b;               /* defaults; for the named forms of VarianceScaling a is the scale */
    int mode, distribution;
    bool scaling; /* VarianceScaling itself: mode and distribution are keys */
    filler fill;
} ls_initializer_class;

/* ---- the laws ---- */

static void fill_constant(const ls_weight *w, uint64_t key, float *out) {
    (void)key;
    for (int64_t i = 0, n = ls_shape_elems(&w->shape); i < n; i++) {
        out[i] = (float)w->init.a;
    }
}

static void fill_uniform(int64_t n, uint64_t key, double low, double high, float *out) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)(low + (high - low) * ls_rng_uniform(key, (uint64_t)i));
    }
}

static void fill_normal(int64_t n, uint64_t key, double mean, double stddev, float *out) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)(mean + stddev * ls_rng_normal(key, (uint64_t)i));
    }
}

/* A draw beyond two standard deviations is replaced by the next of its position's own numbers. */
static void fill_truncated(int64_t n, uint64_t key, double mean, double stddev, float *out) {
    for (int64_t i = 0; i < n; i++) {
        double x;
        uint64_t attempt = 0;
        do {
            x = ls_rng_normal(key, (uint64_t)i + (attempt++ << 40));
        } while (fabs(x) > 2);
        out[i] = (float)(mean + stddev * x);
    }
}

static void fill_random_uniform(const ls_weight *w, uint64_t key, float *out) {
    fill_uniform(ls_shape_elems(&w->shape), key, w->init.a, w->init.b, out);
}

static void fill_random_normal(const ls_weight *w, uint64_t key, float *out) {
    fill_normal(ls_shape_elems(&w->shape), key, w->init.a, w->init.b, out);
}

static void fill_truncated_normal(const ls_weight *w, uint64_t key, float *out) {
    fill_truncated(ls_shape_elems(&w->shape), key, w->init.a, w->init.b, out);
}

static void fans(const ls_shape *s, double *in, double *out) {
    if (s->rank < 2) {
        *in = *out = s->rank == 1 ? (double)s->dim[0] : 1;
        return;
    }
    double receptive = 1;
    for (int i = 0; i < s->rank - 2; i++) {
        receptive *= (double)s->dim[i];
    }
    *in = (double)s->dim[s->rank - 2] * receptive;
    *out = (double)s->dim[s->rank - 1] * receptive;
}

static void fill_scaled(const ls_weight *w, uint64_t key, float *out) {
    double fan_in, fan_out;
    fans(&w->shape, &fan_in, &fan_out);
    double fan = w->init.mode == FAN_IN ? fan_in : w->init.mode == FAN_OUT ? fan_out : (fan_in + fan_out) / 2;
    double variance = w->init.a / (fan > 1 ? fan : 1);
    int64_t n = ls_shape_elems(&w->shape);
    if (w->init.distribution == UNIFORM) {
        double limit = sqrt(3 * variance);
        fill_uniform(n, key, -limit, limit, out);
    } else if (w->init.distribution == UNTRUNCATED_NORMAL) {
        fill_normal(n, key, 0, sqrt(variance), out);
    } else {
        /* The standard deviation of a standard normal cut at +-2. */
        fill_truncated(n, key, 0, sqrt(variance) / 0.87962566103423978, out);
    }
}

static void fill_identity(const ls_weight *w, uint64_t key, float *out) {
    (void)key;
    for (int64_t i = 0; i < w->shape.dim[0]; i++) {
        for (int64_t j = 0; j < w->shape.dim[1]; j++) {
            out[i * w->shape.dim[1] + j] = i == j ? (float)w->init.a : 0;
        }
    }
}

/* Householder QR of a (rows, cols), rows >= cols, column by column: a[j * rows + i]. Leaves Q (orthonormal columns,
 * with the signs that make R's diagonal positive) in q, stored alike. */
static void orthonormalise(double *a, double *q, int64_t rows, int64_t cols) {
    double *sign = ls_xcalloc((size_t)cols, sizeof *sign);
    for (int64_t j = 0; j < cols; j++) {
        double *v = a + j * rows, norm = 0;
        for (int64_t i = j; i < rows; i++) {
            norm += v[i] * v[i];
        }
        norm = sqrt(norm);
        double alpha = v[j] > 0 ? -norm : norm; /* R's diagonal element */
        sign[j] = alpha < 0 ? -1 : 1;
        v[j] -= alpha;
        double vv = 0;
        for (int64_t i = j; i < rows; i++) {
            vv += v[i] * v[i];
        }
        double inverse = vv > 0 ? sqrt(2 / vv) : 0; /* v scaled so that H = I - v v' */
        for (int64_t i = j; i < rows; i++) {
            v[i] *= inverse;
        }
        for (int64_t k = j + 1; k < cols; k++) {
            double *c = a + k * rows, dot = 0;
            for (int64_t i = j; i < rows; i++) {
                dot += v[i] * c[i];
            }
            for (int64_t i = j; i < rows; i++) {
                c[i] -= dot * v[i];
            }
        }
    }
    /* Q = H0 H1 ... I: the reflections in reverse on the unit vectors; H_j touches rows >= j of columns >= j only. */
    for (int64_t k = 0; k < cols; k++) {
        double *c = q + k * rows;
        c[k] = 1;
        for (int64_t j = k; j >= 0; j--) {
            const double *v = a + j * rows;
            double dot = 0;
            for (int64_t i = j; i < rows; i++) {
                dot += v[i] * c[i];
            }
            for (int64_t i = j; i < rows; i++) {
                c[i] -= dot * v[i];
            }
        }
        for (int64_t i = 0; i < rows; i++) {
            c[i] *= sign[k];
        }
    }
    free(sign);
}

static void fill_orthogonal(const ls_weight *w, uint64_t key, float *out) {
    int64_t n_cols = w->shape.dim[w->shape.rank - 1], n_rows = ls_shape_elems(&w->shape) / n_cols;
    int64_t rows = n_rows > n_cols ? n_rows : n_cols, cols = n_rows > n_cols ? n_cols : n_rows;
    double *a = ls_xcalloc((size_t)(rows * cols), sizeof *a), *q = ls_xcalloc((size_t)(rows * cols), sizeof *q);
    for (int64_t i = 0; i < rows * cols; i++) {
        a[i] = ls_rng_normal(key, (uint64_t)i);
    }
    orthonormalise(a, q, rows, cols);
    for (int64_t i = 0; i < n_rows; i++) {
        for (int64_t j = 0; j < n_cols; j++) {
            double x = n_rows >= n_cols ? q[j * rows + i] : q[i * rows + j];
            out[i * n_cols + j] = (float)(w->init.a * x);
        }
    }
    free(a);
    free(q);
}

/* ---- the table ---- */

static const ls_initializer_class classes[] = {
    {"zeros", "Zeros", NULL, NULL, 0, 0, 0, 0, false, fill_constant},
    {"ones", "Ones", NULL, NULL, 1, 0, 0, 0, false, fill_constant},
    {"constant", "Constant", "value", NULL, 0, 0, 0, 0, false, fill_constant},
    {"random_normal", "RandomNormal", "mean", "stddev", 0, 0.05, 0, 0, false, fill_random_normal},
    {"random_uniform", "RandomUniform", "minval", "maxval", -0.05, 0.05, 0, 0, false, fill_random_uniform},
    {"truncated_normal", "TruncatedNormal", "mean", "stddev", 0, 0.05, 0, 0, false, fill_truncated_normal},
    {"variance_scaling", "VarianceScaling", "scale", NULL, 1, 0, FAN_IN, TRUNCATED_NORMAL, true, fill_scaled},
    {"glorot_uniform", "GlorotUniform", NULL, NULL, 1, 0, FAN_AVG, UNIFORM, false, fill_scaled},
    {"glorot_normal", "GlorotNormal", NULL, NULL, 1, 0, FAN_AVG, TRUNCATED_NORMAL, false, fill_scaled},
    {"he_uniform", "HeUniform", NULL, NULL, 2, 0, FAN_IN, UNIFORM, false, fill_scaled},
    {"he_normal", "HeNormal", NULL, NULL, 2, 0, FAN_IN, TRUNCATED_NORMAL, false, fill_scaled},
    {"lecun_uniform", "LecunUniform", NULL, NULL, 1, 0, FAN_IN, UNIFORM, false, fill_scaled},
    {"lecun_normal", "LecunNormal", NULL, NULL, 1, 0, FAN_IN, TRUNCATED_NORMAL, false, fill_scaled},
    {"orthogonal", "Orthogonal", "gain", NULL, 1, 0, 0, 0, false, fill_orthogonal},
    {"identity", "Identity", "gain", NULL, 1, 0, 0, 0, false, fill_identity},
};
enum { N_CLASSES = sizeof classes / sizeof classes[0] };

static const struct {
    const char *alias, *name;
} aliases[] = {{"zero", "zeros"},
               {"one", "ones"},
               {"normal", "random_normal"},
               {"uniform", "random_uniform"},
               {"eye", "identity"},
               {"IdentityInitializer", "identity"},
               {"OrthogonalInitializer", "orthogonal"}};

static const ls_initializer_class *find(const char *name) {
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        if (strcmp(name, aliases[i].alias) == 0) {
            name = aliases[i].name;
        }
    }
    for (size_t i = 0; i < N_CLASSES; i++) {
        if (strcmp(name, classes[i].name) == 0 || strcmp(name, classes[i].class_name) == 0) {
            return &classes[i];
        }
    }
    return NULL;
}

static ls_status unknown(ls_json at, const char *name, ls_err *err) {
    const char *words[2 * N_CLASSES];
    for (size_t i = 0; i < N_CLASSES; i++) {
        words[2 * i] = classes[i].name;
        words[2 * i + 1] = classes[i].class_name;
    }
    return ls_json_unknown(at, name, "an initializer", words, 2 * N_CLASSES, err);
}

static ls_status read_config(ls_json config, const ls_initializer_class *c, ls_initializer *out, ls_err *err) {
    static const char *const modes[] = {"fan_in", "fan_out", "fan_avg"};
    /* "normal" is what Keras wrote for the truncated one before it had both. */
    static const char *const distributions[] = {"truncated_normal", "untruncated_normal", "uniform", "normal"};
    const char *keys[8] = {"seed", "dtype"};
    size_t n = 2;
    if (c->a_key != NULL) {
        keys[n++] = c->a_key;
    }
    if (c->b_key != NULL) {
        keys[n++] = c->b_key;
    }
    if (c->scaling) {
        keys[n++] = "mode";
        keys[n++] = "distribution";
    }
    LS_TRY(ls_json_only_keys(config, keys, n, err));
    if (c->a_key != NULL) {
        LS_TRY(ls_json_get_double(config, c->a_key, c->scaling ? 1e-30 : -DBL_MAX, DBL_MAX, &out->a, err));
    }
    if (c->b_key != NULL) {
        bool width = strcmp(c->b_key, "stddev") == 0;
        LS_TRY(ls_json_get_double(config, c->b_key, width ? 0 : -DBL_MAX, DBL_MAX, &out->b, err));
    }
    if (c->scaling) {
        LS_TRY(ls_json_get_choice(config, "mode", modes, 3, &out->mode, err));
        LS_TRY(ls_json_get_choice(config, "distribution", distributions, 4, &out->distribution, err));
        out->distribution = out->distribution == 3 ? TRUNCATED_NORMAL : out->distribution;
    }
    return LS_OK;
}

ls_status ls_initializer_parse(ls_json at, const char *default_name, ls_initializer *out, ls_err *err) {
    const char *name = default_name;
    ls_json config = {.doc = at.doc};
    if (json_is_string(at.value)) {
        name = json_string_value(at.value);
    } else if (ls_json_present(at)) {
        static const char *const keys[] = {"class_name",      "config",       "module",
                                           "registered_name", "build_config", "shared_object_id"};
        LS_TRY(ls_json_only_keys(at, keys, sizeof keys / sizeof keys[0], err));
        name = NULL;
        LS_TRY(ls_json_get_string(at, "class_name", &name, err));
        if (name == NULL) {
            return ls_json_fail(at, err, "expected a \"class_name\"");
        }
        config = ls_json_member(at, "config");
    }
    const ls_initializer_class *c = find(name);
    if (c == NULL) {
        return unknown(at, name, err);
    }
    *out = (ls_initializer){.class_ = c, .a = c->a, .b = c->b, .mode = c->mode, .distribution = c->distribution};
    return ls_json_present(config) ? read_config(config, c, out, err) : LS_OK;
}

ls_status ls_initializer_check(ls_json at, const ls_initializer *init, const ls_shape *shape, ls_err *err) {
    bool identity = init->class_->fill == fill_identity, orthogonal = init->class_->fill == fill_orthogonal;
    if ((identity && shape->rank != 2) || (orthogonal && shape->rank < 2)) {
        char text[96];
        return ls_json_fail(at, err, "the initializer \"%s\" fills %s, not a weight of shape %s", init->class_->name,
                            identity ? "matrices" : "weights of two axes or more",
                            ls_shape_text(shape, false, text, sizeof text));
    }
    return LS_OK;
}

/* FNV-1a over the layer's path and the weight's name: unique within a model and independent of its order. */
static uint64_t path_hash(const ls_weight *w) {
    uint64_t h = 0xcbf29ce484222325u;
    const char *parts[] = {w->layer->path, "/", w->name};
    for (int k = 0; k < 3; k++) {
        for (const char *p = parts[k]; *p != '\0'; p++) {
            h = (h ^ (unsigned char)*p) * 0x100000001b3u;
        }
    }
    return h;
}

void ls_initializer_fill(const ls_weight *w, uint64_t seed, float *keras_order) {
    w->init.class_->fill(w, ls_rng_key(seed, LS_STREAM_INIT, path_hash(w)), keras_order);
    for (int64_t i = w->init.ones_from; i < w->init.ones_to; i++) {
        keras_order[i] = 1.0f;
    }
}
