/*
 * The kernels of norm_kernels.h for vectors of V floats; included by one file an instruction set, which defines V and
 * NAME. Those files may be compiled with contraction: every element is computed by vector code, and a tail by the same
 * code.
 */
#include "worker/ops/norm_kernels.h"
#include "worker/ops/vector.h"

/* Columns are taken TILE vectors at a time, so that sums and lines stay in registers. */
enum { TILE = 4 };

/* n_vec vectors of columns from `column` on, the last of which has `last` of them. */
typedef struct tile {
    size_t at, step, rows, column;
} tile;

/* Calls f(tile, n_vec, last, ...) for all tiles of a block; but for a tail, n_vec and last are constants. */
#define EACH_TILE(w, b, f, ...)                               \
    for (size_t c_ = 0; c_ < (b)->columns;) {                 \
        tile t_ = {(b)->at + c_, (w)->period, (b)->rows, c_}; \
        size_t left_ = (b)->columns - c_;                     \
        if (left_ >= TILE * V) {                              \
            f(&t_, TILE, V, __VA_ARGS__);                     \
            c_ += TILE * V;                                   \
        } else if (left_ >= V) {                              \
            f(&t_, 1, V, __VA_ARGS__);                        \
            c_ += V;                                          \
        } else {                                              \
            f(&t_, 1, left_, __VA_ARGS__);                    \
            c_ = (b)->columns;                                \
        }                                                     \
    }

/* Asks for elements of the next block, in order: for each row of a tile as many as the row has, so that all tiles of a
 * block ask for the whole of the next one. The processor does that by itself only where a row is one tile, and not for
 * what is only written; it halves the time of arrays that lie beyond the second-level cache. */
INLINE void ask_ahead(const void *from, const tile *t, size_t row, bool bf16, bool writes) {
    const size_t elem = bf16 ? 2 : 4, bytes = TILE * V * elem;
    const char *next = (const char *)from + (t->at - t->column + t->rows * t->step) * elem + t->column * t->rows * elem;
    for (size_t i = 0; i < bytes; i += 64) {
        const char *line = next + row * bytes + i;
        if (writes) { /* a constant for Clang too */
            __builtin_prefetch(line, 1, 2);
        } else {
            __builtin_prefetch(line, 0, 2);
        }
    }
}

INLINE vec line_at(const float *line, const tile *t, int j) {
    return *(const vec *)(line + t->column + (size_t)j * V);
}

/* ---- sums ---- */

INLINE void sums_tile(const tile *t, int n_vec, size_t last, const ls_norm_work *w, bool bf16, double *sum,
                      double *square) {
    vec near[TILE], s[TILE], q[TILE];
    const size_t probes[] = {0, t->rows / 4, t->rows / 2, t->rows - 1};
    for (int j = 0; j < n_vec; j++) {
        near[j] = s[j] = q[j] = (vec){0};
        for (int i = 0; i < 4; i++) {
            near[j] += 0.25f * vec_load(w->src, t->at + probes[i] * t->step + (size_t)j * V, last, bf16);
        }
    }
    for (size_t r = 0; r < t->rows; r++) {
        ask_ahead(w->src, t, r, bf16, false);
        for (int j = 0; j < n_vec; j++) {
            vec d = vec_load(w->src, t->at + r * t->step + (size_t)j * V, last, bf16) - near[j];
            s[j] += d;
            q[j] += d * d;
        }
    }
    const double rows = (double)t->rows;
    for (int j = 0; j < n_vec; j++) { /* sum x = s + rows near, sum x^2 = q + near (2 s + rows near) */
        double_vec m = __builtin_convertvector(near[j], double_vec), d = __builtin_convertvector(s[j], double_vec);
        *(double_vec *)(sum + t->column + (size_t)j * V) += d + rows * m;
        *(double_vec *)(square + t->column + (size_t)j * V) +=
            __builtin_convertvector(q[j], double_vec) + m * (2 * d + rows * m);
    }
}

static void sums(const ls_norm_work *w, const ls_norm_block *b, double *sum, double *square) {
    if (w->bf16) {
        EACH_TILE(w, b, sums_tile, w, true, sum, square)
    } else {
        EACH_TILE(w, b, sums_tile, w, false, sum, square)
    }
}

/* ---- forward ---- */

INLINE void forward_tile(const tile *t, int n_vec, size_t last, const ls_norm_work *w, bool bf16, bool more) {
    vec mean[TILE], scale[TILE], shift[TILE];
    for (int j = 0; j < n_vec; j++) {
        mean[j] = line_at(w->mean, t, j);
        scale[j] = line_at(w->scale, t, j);
        shift[j] = line_at(w->shift, t, j);
    }
    const bool relu = w->relu != LS_NORM_ALL;
    for (size_t r = 0; r < t->rows; r++) {
        ask_ahead(w->src, t, r, bf16, false);
        if (more) {
            ask_ahead(w->more, t, r, bf16, false);
        }
        ask_ahead(w->to, t, r, bf16, true);
        for (int j = 0; j < n_vec; j++) {
            size_t at = t->at + r * t->step + (size_t)j * V;
            vec y = (vec_load(w->src, at, last, bf16) - mean[j]) * scale[j] + shift[j];
            if (more) {
                y += vec_load(w->more, at, last, bf16);
            }
            if (relu) {
                y = vec_where(~(int_vec)(y <= 0.0f), y); /* NaN stays NaN */
            }
            vec_store(w->to, at, last, bf16, y);
        }
    }
}

static void forward(const ls_norm_work *w, const ls_norm_block *b) {
    if (w->bf16 && w->more != NULL) {
        EACH_TILE(w, b, forward_tile, w, true, true)
    } else if (w->bf16) {
        EACH_TILE(w, b, forward_tile, w, true, false)
    } else if (w->more != NULL) {
        EACH_TILE(w, b, forward_tile, w, false, true)
    } else {
        EACH_TILE(w, b, forward_tile, w, false, false)
    }
}

/* ---- backward ---- */

INLINE vec masked_from_src(const ls_norm_work *w, const tile *t, int j, vec d, vec g) {
    return vec_where((int_vec)(d * line_at(w->scale, t, j) + line_at(w->shift, t, j) > 0.0f), g);
}

INLINE void gradient_sums_tile(const tile *t, int n_vec, size_t last, const ls_norm_work *w, bool bf16,
                               ls_norm_relu relu, bool more, double *sum_g, double *sum_gd) {
    vec mean[TILE], s[TILE], q[TILE];
    for (int j = 0; j < n_vec; j++) {
        mean[j] = line_at(w->mean, t, j);
        s[j] = q[j] = (vec){0};
    }
    const bool writes = w->to != NULL;
    for (size_t r = 0; r < t->rows; r++) {
        ask_ahead(w->src, t, r, bf16, false);
        ask_ahead(w->diff_dst, t, r, bf16, false);
        if (more) {
            ask_ahead(w->more, t, r, bf16, false);
        }
        if (relu == LS_NORM_FROM_DST) {
            ask_ahead(w->dst, t, r, bf16, false);
        }
        for (int j = 0; j < n_vec; j++) {
            size_t at = t->at + r * t->step + (size_t)j * V;
            vec g = vec_load(w->diff_dst, at, last, bf16), d = vec_load(w->src, at, last, bf16) - mean[j];
            if (more) {
                g += vec_load(w->more, at, last, bf16);
            }
            if (relu == LS_NORM_FROM_SRC) {
                g = masked_from_src(w, t, j, d, g);
            } else if (relu == LS_NORM_FROM_DST) {
                g = vec_where((int_vec)(vec_load(w->dst, at, last, bf16) > 0.0f), g);
            }
            if (writes) {
                vec_store(w->to, at, last, bf16, g);
            }
            s[j] += g;
            q[j] += g * d;
        }
    }
    for (int j = 0; j < n_vec; j++) {
        vec_add_to(sum_g + t->column + (size_t)j * V, s[j]);
        vec_add_to(sum_gd + t->column + (size_t)j * V, q[j]);
    }
}

/* One instance for each pair of relu and more. */
INLINE void gradient_sums_of(const ls_norm_work *w, const ls_norm_block *b, bool bf16, double *sum_g, double *sum_gd) {
    switch (w->relu * 2 + (w->more != NULL)) {
        case LS_NORM_ALL * 2: EACH_TILE(w, b, gradient_sums_tile, w, bf16, LS_NORM_ALL, false, sum_g, sum_gd) break;
        case LS_NORM_ALL * 2 + 1: EACH_TILE(w, b, gradient_sums_tile, w, bf16, LS_NORM_ALL, true, sum_g, sum_gd) break;
        case LS_NORM_FROM_SRC * 2:
            EACH_TILE(w, b, gradient_sums_tile, w, bf16, LS_NORM_FROM_SRC, false, sum_g, sum_gd)
            break;
        case LS_NORM_FROM_SRC * 2 + 1:
            EACH_TILE(w, b, gradient_sums_tile, w, bf16, LS_NORM_FROM_SRC, true, sum_g, sum_gd)
            break;
        case LS_NORM_FROM_DST * 2:
            EACH_TILE(w, b, gradient_sums_tile, w, bf16, LS_NORM_FROM_DST, false, sum_g, sum_gd)
            break;
        default: EACH_TILE(w, b, gradient_sums_tile, w, bf16, LS_NORM_FROM_DST, true, sum_g, sum_gd)
    }
}

static void gradient_sums(const ls_norm_work *w, const ls_norm_block *b, double *sum_g, double *sum_gd) {
    if (w->bf16) {
        gradient_sums_of(w, b, true, sum_g, sum_gd);
    } else {
        gradient_sums_of(w, b, false, sum_g, sum_gd);
    }
}

INLINE void gradient_tile(const tile *t, int n_vec, size_t last, const ls_norm_work *w, bool bf16, bool masks) {
    vec mean[TILE], scale[TILE], of_mean[TILE], of_deviation[TILE];
    for (int j = 0; j < n_vec; j++) {
        mean[j] = line_at(w->mean, t, j);
        scale[j] = line_at(w->scale, t, j);
        of_mean[j] = line_at(w->of_mean, t, j);
        of_deviation[j] = line_at(w->of_deviation, t, j);
    }
    for (size_t r = 0; r < t->rows; r++) {
        ask_ahead(w->src, t, r, bf16, false);
        ask_ahead(w->diff_dst, t, r, bf16, false);
        ask_ahead(w->to, t, r, bf16, true);
        for (int j = 0; j < n_vec; j++) {
            size_t at = t->at + r * t->step + (size_t)j * V;
            vec g = vec_load(w->diff_dst, at, last, bf16), d = vec_load(w->src, at, last, bf16) - mean[j];
            g = masks ? masked_from_src(w, t, j, d, g) : g;
            vec_store(w->to, at, last, bf16, scale[j] * (g - of_mean[j] - d * of_deviation[j]));
        }
    }
}

static void gradient(const ls_norm_work *w, const ls_norm_block *b) {
    bool masks = w->relu == LS_NORM_FROM_SRC;
    if (w->bf16 && masks) {
        EACH_TILE(w, b, gradient_tile, w, true, true)
    } else if (w->bf16) {
        EACH_TILE(w, b, gradient_tile, w, true, false)
    } else if (masks) {
        EACH_TILE(w, b, gradient_tile, w, false, true)
    } else {
        EACH_TILE(w, b, gradient_tile, w, false, false)
    }
}

static const ls_norm_kernels kernels = {sums, forward, gradient_sums, gradient};
const ls_norm_kernels *const NAME = &kernels;
