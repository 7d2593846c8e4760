/* Views of a step, and the ways between the order of samples (N, T, ..) and that of steps (T, N, ..). */
#include "worker/ops/draw.h"
#include "worker/ops/rnn.h"

enum {
    STATE_DRAWS = 1 << 24, /* group of draws from which recurrent dropout takes its own */
    PIECE = 256            /* elements that are converted at a time */
};

rnn_array ls_rnn_place(size_t *n_bytes, size_t n_rows, size_t row_elems, size_t n_steps, ls_dtype dtype) {
    const size_t row = row_elems * ls_dtype_bytes(dtype), step = n_rows * row;
    rnn_array a = {.at = *n_bytes, .step = n_steps > 1 ? step : 0, .row = row, .some = true};
    *n_bytes += ls_align_up(step * n_steps, LS_ALIGN);
    return a;
}

rnn_step ls_rnn_view(const rnn_form *f, void *workspace, const float *mask, const float *table, size_t t,
                     size_t begin) {
    rnn_step s = {.f = f, .t = t, .begin = begin, .table = table};
    s.mask = mask != NULL ? mask + begin * f->steps + ls_rnn_source_of(f, t) : NULL;
    s.token = ls_rnn_at(&f->token, workspace, t, begin);
    s.z = ls_rnn_at(&f->z, workspace, t, begin);
    s.z16 = ls_rnn_at(&f->z16, workspace, t, begin);
    s.r = ls_rnn_at(&f->r, workspace, t, begin);
    s.r2 = ls_rnn_at(&f->r2, workspace, t, begin);
    s.h_prev = ls_rnn_at(&f->h, workspace, t, begin);
    s.h = ls_rnn_at(&f->h, workspace, t + 1, begin);
    s.c_prev = ls_rnn_at(&f->c, workspace, t, begin);
    s.c = ls_rnn_at(&f->c, workspace, t + 1, begin);
    s.a = ls_rnn_at(&f->a, workspace, t, begin);
    s.hd = ls_rnn_at(&f->hd, workspace, t, begin);
    s.rh = ls_rnn_at(&f->rh, workspace, t, begin);
    s.p = ls_rnn_at(&f->p, workspace, t, begin);
    s.h_in = f->drops_state ? s.hd : s.h_prev;
    s.drop_state = ls_rnn_at(&f->drop_state, workspace, 0, begin);
    return s;
}

const void *ls_rnn_source(const rnn_form *f, void *workspace, int product, size_t t, size_t begin) {
    const rnn_array *a = product == 1     ? (f->rh16.some ? &f->rh16 : &f->rh)
                         : f->h16.some    ? &f->h16
                         : f->drops_state ? &f->hd
                                          : &f->h;
    return ls_rnn_at(a, workspace, t, begin);
}

bool ls_rnn_shows(const rnn_step *s, const float *first, size_t row) {
    return s->f->attr->zero_masked ? !ls_rnn_masked(s, row) : (float)s->t >= first[row];
}

size_t ls_rnn_out_row(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t at = s->begin + row;
    return !f->attr->sequences ? at : at * f->steps + (f->attr->flip ? f->steps - 1 - s->t : s->t);
}

/* ---- gather ---- */

typedef struct gather_work {
    const rnn_form *f;
    const ls_run *run;
    const void *from;
    void *workspace;
} gather_work;

/* The dropout mask of one sample, n elements: 0 or 1 / (1 - rate). */
static void draw(const gather_work *w, size_t sample, uint32_t first_group, double rate, size_t n, float *to) {
    uint8_t keep[LS_DRAW_GROUP];
    const float scale = (float)(1.0 / (1.0 - rate));
    for (size_t e = 0; e < n; e += LS_DRAW_GROUP) {
        ls_draw_keep(w->run, w->f->id, sample, first_group + (uint32_t)(e / LS_DRAW_GROUP), ls_draw_threshold(rate),
                     LS_DRAW_GROUP, keep);
        for (size_t i = 0; i < LS_DRAW_GROUP && e + i < n; i++) {
            to[e + i] = keep[i] ? scale : 0.0f;
        }
    }
}

static void draw_range(void *context, size_t begin, size_t end) {
    const gather_work *w = context;
    const rnn_form *f = w->f;
    for (size_t i = begin; i < end; i++) {
        if (f->drops_in) {
            draw(w, i, 0, f->attr->dropout, f->rows * f->in, ls_rnn_at(&f->drop_in, w->workspace, 0, i * f->rows));
        }
        if (f->drops_state) {
            draw(w, i, STATE_DRAWS, f->attr->recurrent_dropout, f->rows * f->units,
                 ls_rnn_at(&f->drop_state, w->workspace, 0, i * f->rows));
        }
    }
}

/* A row in another type, and times the dropout mask where there is one. */
static void copy_row(ls_dtype from_type, const void *from, size_t from_at, const float *drop, ls_dtype to_type,
                     void *to, size_t to_at, size_t n) {
    float piece[PIECE];
    for (size_t j = 0; j < n; j += PIECE) {
        const size_t m = n - j < PIECE ? n - j : PIECE;
        ls_load_f32(from_type, from, from_at + j, piece, m);
        for (size_t i = 0; drop != NULL && i < m; i++) {
            piece[i] *= drop[j + i];
        }
        ls_store_f32(to_type, to, to_at + j, piece, m);
    }
}

static void gather_range(void *context, size_t begin, size_t end) {
    const gather_work *w = context;
    const rnn_form *f = w->f;
    for (size_t row = begin; row < end; row++) {
        const float *drop = ls_rnn_at(&f->drop_in, w->workspace, 0, row);
        for (size_t t = 0; t < f->steps; t++) {
            const size_t from = (row * f->steps + ls_rnn_source_of(f, t)) * f->in;
            void *to = ls_rnn_at(&f->x, w->workspace, t, row);
            if (drop == NULL && f->source == f->dtype) {
                const size_t size = ls_dtype_bytes(f->dtype);
                memcpy(to, (const char *)w->from + from * size, f->in * size);
            } else {
                copy_row(f->source, w->from, from, drop, f->dtype, to, 0, f->in);
            }
        }
    }
}

/* Numbers outside the table are those of the row after its last, which is NaN in P. */
static void number_range(void *context, size_t begin, size_t end) {
    const gather_work *w = context;
    const rnn_form *f = w->f;
    const size_t vocabulary = f->vocabulary;
    for (size_t row = begin; row < end; row++) {
        for (size_t t = 0; t < f->steps; t++) {
            const size_t from = row * f->steps + ls_rnn_source_of(f, t);
            int32_t *to = ls_rnn_at(&f->token, w->workspace, t, row);
            if (f->numbers == LS_I32) {
                int32_t i = ((const int32_t *)w->from)[from];
                *to = i >= 0 && (size_t)i < vocabulary ? i : (int32_t)vocabulary;
            } else {
                float x = ((const float *)w->from)[from];
                *to = x >= 0.0f && x < (float)vocabulary ? (int32_t)x : (int32_t)vocabulary;
            }
        }
    }
}

static size_t rows_a_chunk(size_t floats_a_row) {
    return floats_a_row < LS_CHUNK ? LS_CHUNK / floats_a_row : 1;
}

void ls_rnn_gather_kernel(const ls_call *call, const ls_run *run) {
    const rnn_form *f = *(const rnn_form *const *)call->state;
    gather_work w = {f, run, call->args[0].p, call->args[1].p};
    if (f->drops_in || f->drops_state) {
        ls_ops_parallel(run->n_threads, f->samples, 4, draw_range, &w);
    }
    ls_ops_parallel(run->n_threads, f->n, rows_a_chunk(f->steps * (f->table != NULL ? 1 : f->in)),
                    f->table != NULL ? number_range : gather_range, &w);
}

/* ---- scatter ---- */

void ls_rnn_scatter(const rnn_form *f, void *workspace, const float *dx, void *din, size_t t, size_t begin) {
    const size_t n = ls_rnn_part_rows(f);
    for (size_t k = 0; k < f->chunk; k++) {
        for (size_t i = 0; i < n; i++) {
            const float *drop = ls_rnn_at(&f->drop_in, workspace, 0, begin + i);
            const size_t to = ((begin + i) * f->steps + ls_rnn_source_of(f, t + k)) * f->in;
            copy_row(LS_F32, dx, (k * n + i) * f->in, drop, f->din, din, to, f->in);
        }
    }
}
