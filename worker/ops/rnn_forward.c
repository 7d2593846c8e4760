/* The walk over the steps, forward. */
#include <math.h>

#include "worker/ops/rnn.h"

typedef struct walk {
    const rnn_call *call;
    const ls_arg *args;
    const ls_run *run;
    float *kept[2]; /* a stateful layer's states, (N, u) each, or NULL */
} walk;

/* The first step of each row that counts: masked steps before it give zeros. */
static void find_first(const rnn_form *f, const float *mask, float *first, size_t begin, size_t n) {
    for (size_t row = 0; row < n; row++) {
        size_t t = 0;
        while (mask != NULL && t < f->steps && mask[(begin + row) * f->steps + ls_rnn_source_of(f, t)] == 0.0f) {
            t++;
        }
        first[row] = (float)t;
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

static void save_state(const float *from, float *to, size_t n) {
    if (to != NULL) {
        memcpy(to, from, n * sizeof *to);
    }
}

/* A row of what product 0 multiplies at step t, from the state before it. */
static void make_source(const rnn_form *f, void *workspace, size_t t, size_t row) {
    const float *h = ls_rnn_at(&f->h, workspace, t, row);
    if (f->drops_state) {
        const float *drop = ls_rnn_at(&f->drop_state, workspace, 0, row);
        float *hd = ls_rnn_at(&f->hd, workspace, t, row);
        for (size_t j = 0; j < f->units; j++) {
            hd[j] = h[j] * drop[j];
        }
        h = hd;
    }
    if (f->h16.some) {
        ls_store_f32(LS_BF16, ls_rnn_at(&f->h16, workspace, t, row), 0, h, f->units);
    }
}

/* A row after the last cell of a step: the output, and what the next step's product takes. */
static void finish_row(const walk *w, const rnn_step *s, const float *first, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    if (f->attr->sequences || s->t + 1 == f->steps) {
        void *out = w->args[RNN_F_OUT].p;
        const size_t at = ls_rnn_out_row(s, row) * u;
        if (ls_rnn_shows(s, first, row)) {
            ls_store_f32(f->dtype, out, at, s->h + row * u, u);
        } else {
            memset((char *)out + at * ls_dtype_bytes(f->dtype), 0, u * ls_dtype_bytes(f->dtype));
        }
    }
    if (s->t + 1 < f->steps) {
        make_source(f, w->args[RNN_F_WORKSPACE].p, s->t + 1, s->begin + row);
    }
}

static void step(const walk *w, const rnn_kernels *kernels, const rnn_step *s, const float *first, void *scratch) {
    const rnn_form *f = s->f;
    const ls_arg *a = w->args;
    void *workspace = a[RNN_F_WORKSPACE].p;
    const size_t n = ls_rnn_part_rows(f);
    const bool two = f->cell->n_products == 2;
    ls_rnn_product_run(kernels->step[0], ls_rnn_source(f, workspace, 0, s->t, s->begin), a[RNN_F_KERNEL].p,
                       a[RNN_F_BIAS].p, s->r, scratch);
    for (size_t row = 0; row < n; row++) {
        f->cell->forward[0](s, row);
        if (!two) {
            finish_row(w, s, first, row);
        } else if (f->rh16.some) {
            ls_store_f32(LS_BF16, ls_rnn_at(&f->rh16, workspace, s->t, s->begin + row), 0, s->rh + row * f->from[1],
                         f->from[1]);
        }
    }
    if (two) {
        ls_rnn_product_run(kernels->step[1], ls_rnn_source(f, workspace, 1, s->t, s->begin), a[RNN_F_KERNEL2].p,
                           a[RNN_F_BIAS2].p, s->r2, scratch);
        for (size_t row = 0; row < n; row++) {
            f->cell->forward[1](s, row);
            finish_row(w, s, first, row);
        }
    }
}

/* `at` floats into p, or NULL. */
static float *part_of(void *p, size_t at) {
    return p != NULL ? (float *)p + at : NULL;
}

static void walk_part(void *context, size_t part, size_t end) {
    (void)end; /* parts come one by one */
    const walk *w = context;
    const rnn_form *f = w->call->form;
    const ls_arg *a = w->args;
    void *workspace = a[RNN_F_WORKSPACE].p;
    const size_t n = ls_rnn_part_rows(f), begin = part * n, n_state = n * f->units, at = begin * f->units;
    const bool two = f->cell->n_states == 2;
    float *first = ls_rnn_at(&f->first, workspace, 0, begin);
    char *scratch = a[RNN_F_SCRATCH].p;
    load_state(ls_rnn_at(&f->h, workspace, 0, begin), part_of(a[RNN_F_H0].p, at), part_of(w->kept[0], at), n_state);
    if (two) {
        load_state(ls_rnn_at(&f->c, workspace, 0, begin), part_of(a[RNN_F_C0].p, at), part_of(w->kept[1], at), n_state);
    }
    find_first(f, a[RNN_F_MASK].p, first, begin, n);
    for (size_t row = 0; row < n; row++) {
        make_source(f, workspace, 0, begin + row);
    }
    for (size_t t = 0; t < f->steps; t++) {
        rnn_step s = ls_rnn_view(f, workspace, a[RNN_F_MASK].p, a[RNN_F_TABLE].p, t, begin);
        step(w, &w->call->part[part], &s, first, scratch + part * w->call->scratch_bytes);
    }
    const float *h = ls_rnn_at(&f->h, workspace, f->steps, begin), *c = ls_rnn_at(&f->c, workspace, f->steps, begin);
    save_state(h, part_of(a[RNN_F_HT].p, at), n_state);
    save_state(h, part_of(w->kept[0], at), n_state);
    if (two) {
        save_state(c, part_of(a[RNN_F_CT].p, at), n_state);
        save_state(c, part_of(w->kept[1], at), n_state);
    }
}

void ls_rnn_forward_kernel(const ls_call *call, const ls_run *run) {
    const rnn_call *own = call->state;
    const rnn_form *f = own->form;
    float *table = call->args[RNN_F_TABLE].p;
    walk w = {own, call->args, run, {NULL}};
    for (int i = 0; f->attr->stateful && i < f->cell->n_states; i++) {
        w.kept[i] = run->states[f->attr->first_state + i];
    }
    for (size_t j = 0; table != NULL && j < f->wide; j++) {
        table[f->vocabulary * f->wide + j] = NAN;
    }
    ls_ops_parallel((int)f->parts, f->parts, 1, walk_part, &w);
}
