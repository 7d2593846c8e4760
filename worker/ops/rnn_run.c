/* The walk over the steps, forward and backward, and the ways between (N, T, ..) and (T, N, ..). */
#include <stdlib.h>

#include "worker/ops/draw.h"
#include "worker/ops/rnn.h"

enum { STATE_DRAWS = 1 << 24 }; /* group of draws from which recurrent dropout takes its own */

rnn_array ls_rnn_place(size_t *n_floats, size_t n_per_step, size_t n_steps) {
    rnn_array a = {.at = *n_floats, .step = n_steps > 1 ? n_per_step : 0, .some = true};
    *n_floats += ls_align_up(n_per_step * n_steps * sizeof(float), LS_ALIGN) / sizeof(float);
    return a;
}

void ls_rnn_call_destroy(void *call) {
    rnn_call *c = call;
    if (c != NULL) {
        ls_prim_destroy(c->product[0]);
        ls_prim_destroy(c->product[1]);
        free(c);
    }
}

/* The place in the input's sequence of step t. */
static size_t source_of(const rnn_form *f, size_t t) {
    return f->attr->backwards ? f->steps - 1 - t : t;
}

/* ---- gather and scatter ---- */

typedef struct frame_work {
    const rnn_form *f;
    const ls_run *run;
    const float *from;
    float *to, *workspace;
} frame_work;

/* The dropout mask of one sample, n elements: 0 or 1 / (1 - rate). */
static void draw(const frame_work *w, size_t sample, uint32_t first_group, double rate, size_t n, float *to) {
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
    const frame_work *w = context;
    const rnn_form *f = w->f;
    for (size_t i = begin; i < end; i++) {
        if (f->drops_in) {
            size_t n = f->rows * f->in;
            draw(w, i, 0, f->attr->dropout, n, w->workspace + f->drop_in.at + i * n);
        }
        if (f->drops_state) {
            size_t n = f->rows * f->units;
            draw(w, i, STATE_DRAWS, f->attr->recurrent_dropout, n, w->workspace + f->drop_state.at + i * n);
        }
    }
}

static void gather_range(void *context, size_t begin, size_t end) {
    const frame_work *w = context;
    const rnn_form *f = w->f;
    for (size_t row = begin; row < end; row++) {
        const float *drop = f->drops_in ? w->workspace + f->drop_in.at + row * f->in : NULL;
        for (size_t t = 0; t < f->steps; t++) {
            const float *restrict from = w->from + (row * f->steps + source_of(f, t)) * f->in;
            float *restrict to = w->to + (t * f->n + row) * f->in;
            for (size_t j = 0; j < f->in; j++) {
                to[j] = drop != NULL ? from[j] * drop[j] : from[j];
            }
        }
    }
}

static size_t rows_a_chunk(size_t floats_a_row) {
    return floats_a_row < LS_CHUNK ? LS_CHUNK / floats_a_row : 1;
}

void ls_rnn_gather_kernel(const ls_call *call, const ls_run *run) {
    const rnn_form *f = *(const rnn_form *const *)call->state;
    float *workspace = call->args[1].p;
    frame_work w = {f, run, call->args[0].p, workspace + f->x.at, workspace};
    if (f->drops_in || f->drops_state) {
        ls_ops_parallel(run->n_threads, f->samples, 4, draw_range, &w);
    }
    ls_ops_parallel(run->n_threads, f->n, rows_a_chunk(f->steps * f->in), gather_range, &w);
}

static void scatter_range(void *context, size_t begin, size_t end) {
    const frame_work *w = context;
    const rnn_form *f = w->f;
    for (size_t row = begin; row < end; row++) {
        const float *drop = f->drops_in ? w->workspace + f->drop_in.at + row * f->in : NULL;
        for (size_t t = 0; t < f->steps; t++) {
            const float *restrict from = w->from + (t * f->n + row) * f->in;
            float *restrict to = w->to + (row * f->steps + source_of(f, t)) * f->in;
            for (size_t j = 0; j < f->in; j++) {
                to[j] = drop != NULL ? from[j] * drop[j] : from[j];
            }
        }
    }
}

void ls_rnn_scatter_kernel(const ls_call *call, const ls_run *run) {
    const rnn_form *f = *(const rnn_form *const *)call->state;
    frame_work w = {f, run, call->args[0].p, call->args[2].p, call->args[1].p};
    ls_ops_parallel(run->n_threads, f->n, rows_a_chunk(f->steps * f->in), scatter_range, &w);
}

/* ---- steps ---- */

static rnn_step view(const rnn_form *f, float *workspace, const float *mask, size_t t) {
    rnn_step s = {.f = f, .t = t, .mask = mask != NULL ? mask + source_of(f, t) : NULL};
    s.z = ls_rnn_at(&f->z, workspace, t);
    s.r = ls_rnn_at(&f->r, workspace, t);
    s.r2 = ls_rnn_at(&f->r2, workspace, t);
    s.h_prev = ls_rnn_at(&f->h, workspace, t);
    s.h = ls_rnn_at(&f->h, workspace, t + 1);
    s.c_prev = ls_rnn_at(&f->c, workspace, t);
    s.c = ls_rnn_at(&f->c, workspace, t + 1);
    s.a = ls_rnn_at(&f->a, workspace, t);
    s.hd = ls_rnn_at(&f->hd, workspace, t);
    s.rh = ls_rnn_at(&f->rh, workspace, t);
    s.p = ls_rnn_at(&f->p, workspace, t);
    s.h_in = f->drops_state ? s.hd : s.h_prev;
    s.drop_state = ls_rnn_at(&f->drop_state, workspace, 0);
    return s;
}

typedef struct rows_work {
    const rnn_step *s;
    rnn_rows rows;
    const float *first; /* (N) */
    float *out;
    const float *dout;
} rows_work;

static void rows_range(void *context, size_t begin, size_t end) {
    const rows_work *w = context;
    w->rows(w->s, begin, end);
}

static void run_rows(const rnn_step *s, rnn_rows rows, const ls_run *run) {
    rows_work w = {.s = s, .rows = rows};
    ls_ops_parallel(run->n_threads, s->f->n, rows_a_chunk(s->f->wide), rows_range, &w);
}

static void drop_state_rows(const rnn_step *s, size_t begin, size_t end) {
    const size_t u = s->f->units;
    for (size_t i = begin * u; i < end * u; i++) {
        s->hd[i] = s->h_prev[i] * s->drop_state[i];
    }
}

/* The first step of each row that counts: masked steps before it give zeros. */
static void find_first(const rnn_form *f, const float *mask, float *first) {
    for (size_t row = 0; row < f->n; row++) {
        size_t t = 0;
        while (mask != NULL && t < f->steps && mask[row * f->steps + source_of(f, t)] == 0.0f) {
            t++;
        }
        first[row] = (float)t;
    }
}

/* Whether a step's output is the state after it, not zeros. */
static bool shows(const rows_work *w, size_t row) {
    return w->s->f->attr->zero_masked ? !ls_rnn_masked(w->s, row) : (float)w->s->t >= w->first[row];
}

/* The row of out[0] (or of its gradient) that belongs to this step. */
static size_t out_row(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    return !f->attr->sequences ? row : row * f->steps + (f->attr->flip ? f->steps - 1 - s->t : s->t);
}

static void emit_range(void *context, size_t begin, size_t end) {
    const rows_work *w = context;
    const size_t u = w->s->f->units;
    for (size_t row = begin; row < end; row++) {
        float *to = w->out + out_row(w->s, row) * u;
        if (shows(w, row)) {
            memcpy(to, w->s->h + row * u, u * sizeof *to);
        } else {
            memset(to, 0, u * sizeof *to);
        }
    }
}

static void load_state(float *to, const float *given, const float *kept, size_t n) {
    const float *from = given != NULL ? given : kept;
    if (from != NULL) {
        memcpy(to, from, n * sizeof *to);
    } else {
        memset(to, 0, n * sizeof *to);
    }
}

static void keep_state(const float *from, float *to, size_t n) {
    if (to != NULL) {
        memcpy(to, from, n * sizeof *to);
    }
}

void ls_rnn_forward_kernel(const ls_call *call, const ls_run *run) {
    const rnn_call *own = call->state;
    const rnn_form *f = own->form;
    const ls_arg *a = call->args;
    float *workspace = a[RNN_F_WORKSPACE].p, *first = workspace + f->first.at;
    const size_t n_state = f->n * f->units;
    const bool two = f->cell->n_states == 2;
    float *kept = a[RNN_F_STATE].p;
    kept = kept != NULL ? kept + (size_t)run->lane * (size_t)f->cell->n_states * n_state : NULL;
    load_state(workspace + f->h.at, a[RNN_F_H0].p, kept, n_state);
    if (two) {
        load_state(workspace + f->c.at, a[RNN_F_C0].p, kept != NULL ? kept + n_state : NULL, n_state);
    }
    find_first(f, a[RNN_F_MASK].p, first);
    for (size_t t = 0; t < f->steps; t++) {
        rnn_step s = view(f, workspace, a[RNN_F_MASK].p, t);
        if (f->drops_state) {
            run_rows(&s, drop_state_rows, run);
        }
        ls_rnn_product_run(own->product[0], s.h_in, a[RNN_F_KERNEL].p, a[RNN_F_BIAS].p, s.r, a[RNN_F_SCRATCH].p);
        run_rows(&s, f->cell->forward[0], run);
        if (f->cell->n_products == 2) {
            ls_rnn_product_run(own->product[1], s.rh, a[RNN_F_KERNEL2].p, a[RNN_F_BIAS2].p, s.r2, a[RNN_F_SCRATCH2].p);
            run_rows(&s, f->cell->forward[1], run);
        }
        if (f->attr->sequences || t + 1 == f->steps) {
            rows_work w = {.s = &s, .first = first, .out = a[RNN_F_OUT].p};
            ls_ops_parallel(run->n_threads, f->n, rows_a_chunk(f->units), emit_range, &w);
        }
    }
    const float *h = ls_rnn_at(&f->h, workspace, f->steps), *c = ls_rnn_at(&f->c, workspace, f->steps);
    keep_state(h, a[RNN_F_HT].p, n_state);
    keep_state(h, kept, n_state);
    if (two) {
        keep_state(c, a[RNN_F_CT].p, n_state);
        keep_state(c, kept != NULL ? kept + n_state : NULL, n_state);
    }
}

/* dh += what came back through the products of the step after, and the gradient of this step's output. */
static void arrive_range(void *context, size_t begin, size_t end) {
    const rows_work *w = context;
    const rnn_step *s = w->s;
    const size_t u = s->f->units;
    for (size_t row = begin; row < end; row++) {
        float *restrict dh = s->dh + row * u;
        const float *restrict dr = s->dr + row * u, *restrict dr2 =
                                                        s->f->cell->second_returns ? s->dr2 + row * u : NULL;
        const float *restrict drop = s->drop_state != NULL ? s->drop_state + row * u : NULL;
        for (size_t j = 0; j < u; j++) {
            float back = dr2 != NULL ? dr[j] + dr2[j] : dr[j];
            dh[j] += drop != NULL ? back * drop[j] : back;
        }
        if (w->dout != NULL && shows(w, row)) {
            const float *restrict dy = w->dout + out_row(s, row) * u;
            for (size_t j = 0; j < u; j++) {
                dh[j] += dy[j];
            }
        }
    }
}

static void view_backward(const rnn_form *f, float *own, size_t t, rnn_step *s) {
    s->dh = ls_rnn_at(&f->dh, own, 0);
    s->dc = ls_rnn_at(&f->dc, own, 0);
    s->dr = ls_rnn_at(&f->dr, own, 0);
    s->dr2 = ls_rnn_at(&f->dr2, own, 0);
    s->d = ls_rnn_at(&f->d, own, t);
    s->d2 = ls_rnn_at(&f->d2, own, t);
}

void ls_rnn_backward_kernel(const ls_call *call, const ls_run *run) {
    const rnn_call *c = call->state;
    const rnn_form *f = c->form;
    const ls_arg *a = call->args;
    float *workspace = a[RNN_B_WORKSPACE].p, *own = a[RNN_B_OWN].p;
    const size_t n_state = f->n * f->units;
    const bool two = f->cell->n_states == 2;
    rnn_step s = view(f, workspace, a[RNN_B_MASK].p, 0);
    view_backward(f, own, 0, &s);
    load_state(s.dh, a[RNN_B_DHT].p, NULL, n_state);
    load_state(s.dr, NULL, NULL, n_state);
    if (two) {
        load_state(s.dc, a[RNN_B_DCT].p, NULL, n_state);
    }
    if (s.dr2 != NULL) {
        load_state(s.dr2, NULL, NULL, f->n * f->from[1]);
    }
    for (size_t t = f->steps; t-- > 0;) {
        s = view(f, workspace, a[RNN_B_MASK].p, t);
        view_backward(f, own, t, &s);
        bool shown = f->attr->sequences || t + 1 == f->steps;
        rows_work w = {.s = &s, .first = workspace + f->first.at, .dout = shown ? a[RNN_B_DOUT].p : NULL};
        ls_ops_parallel(run->n_threads, f->n, rows_a_chunk(f->units), arrive_range, &w);
        run_rows(&s, f->cell->backward[0], run);
        if (f->cell->n_products == 2) {
            ls_rnn_product_run_data(c->product[1], s.d2, a[RNN_B_KERNEL2].p, s.dr2, a[RNN_B_SCRATCH2].p);
            run_rows(&s, f->cell->backward[1], run);
        }
        if (t > 0 || a[RNN_B_DH0].p != NULL) {
            ls_rnn_product_run_data(c->product[0], s.d, a[RNN_B_KERNEL].p, s.dr, a[RNN_B_SCRATCH].p);
        }
    }
    if (a[RNN_B_DH0].p != NULL) {
        rows_work w = {.s = &s};
        ls_ops_parallel(run->n_threads, f->n, rows_a_chunk(f->units), arrive_range, &w);
        memcpy(a[RNN_B_DH0].p, s.dh, n_state * sizeof(float));
    }
    if (a[RNN_B_DC0].p != NULL) {
        memcpy(a[RNN_B_DC0].p, s.dc, n_state * sizeof(float));
    }
}
