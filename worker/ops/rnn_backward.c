/* The walk over the steps, backward. */
#include "worker/ops/rnn.h"

typedef struct walk {
    const rnn_call *call;
    const ls_arg *args;
    float *sum[RNN_D_COUNT]; /* of the part; NULL: not wanted */
    void *scratch;
    size_t begin, n; /* the part's rows */
} walk;

static void load(float *to, const float *given, size_t n) {
    if (given != NULL) {
        memcpy(to, given, n * sizeof *to);
    } else {
        memset(to, 0, n * sizeof *to);
    }
}

static void add_to(float *restrict to, const float *restrict from, size_t n) {
    for (size_t j = 0; j < n; j++) {
        to[j] += from[j];
    }
}

/* ---- a step ---- */

/* Asks for a row of the output's gradient, whose rows of one step lie far apart. */
static void fetch(const walk *w, const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const char *dout = w->args[RNN_B_DOUT].p;
    if (row >= w->n || dout == NULL || !f->attr->sequences) {
        return;
    }
    const size_t n_bytes = f->units * ls_dtype_bytes(f->dtype);
    dout += ls_rnn_out_row(s, row) * n_bytes;
    for (size_t at = 0; at < n_bytes; at += LS_ALIGN) {
        __builtin_prefetch(dout + at);
    }
}

/* dh += what came back through the products of the step after, and the gradient of this step's output. */
static void arrive(const walk *w, const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    float *restrict dh = s->dh + row * u;
    const float *restrict dr = s->dr + row * u, *restrict dr2 = f->cell->second_returns ? s->dr2 + row * u : NULL;
    const float *restrict drop = s->drop_state != NULL ? s->drop_state + row * u : NULL;
    if (dr2 == NULL && drop == NULL) {
        add_to(dh, dr, u);
    } else {
        for (size_t j = 0; j < u; j++) {
            float back = dr2 != NULL ? dr[j] + dr2[j] : dr[j];
            dh[j] += drop != NULL ? back * drop[j] : back;
        }
    }
    const void *dout = w->args[RNN_B_DOUT].p;
    const float *first = ls_rnn_at(&f->first, w->args[RNN_B_WORKSPACE].p, 0, s->begin);
    if (dout == NULL || !(f->attr->sequences || s->t + 1 == f->steps) || !ls_rnn_shows(s, first, row)) {
        return;
    }
    const size_t at = ls_rnn_out_row(s, row) * u;
    if (f->dtype == LS_F32) {
        add_to(dh, (const float *)dout + at, u);
        return;
    }
    const uint16_t *restrict dy = (const uint16_t *)dout + at;
    for (size_t j = 0; j < u; j++) {
        dh[j] += ls_bf16_to_f32(dy[j]);
    }
}

/* The gradient of z, r or r2 at a place of the chunk, as products take it. */
static const rnn_array *operand(const rnn_form *f, rnn_gradient kind) {
    if (kind == RNN_D_SECOND) {
        return f->d2h.some ? &f->d2h : &f->d2;
    }
    if (kind == RNN_D_RECURRENT || f->cell->d_is_z) {
        return f->d16.some ? &f->d16 : &f->d;
    }
    return f->dz16.some ? &f->dz16 : &f->dz;
}

/* A row of a gradient into its bfloat16 form. */
static void narrow(const rnn_array *to, void *own, size_t slot, size_t row, const float *from, size_t n) {
    if (to->some) {
        ls_store_f32(LS_BF16, ls_rnn_at(to, own, slot, row), 0, from, n);
    }
}

static void finish_second(const walk *w, const rnn_step *s, size_t slot, size_t row) {
    const rnn_form *f = s->f;
    const float *d2 = s->d2 + row * f->to[1];
    if (w->sum[RNN_D_BIAS_1] != NULL) {
        add_to(w->sum[RNN_D_BIAS_1], d2, f->to[1]);
    }
    narrow(&f->d2h, w->args[RNN_B_OWN].p, slot, s->begin + row, d2, f->to[1]);
}

/* A row whose dz and d are complete. */
static void finish_row(const walk *w, const rnn_step *s, size_t slot, size_t row) {
    const rnn_form *f = s->f;
    void *own = w->args[RNN_B_OWN].p;
    const float *d = s->d + row * s->d_row, *dz = s->dz + row * s->dz_row;
    if (w->sum[RNN_D_TABLE] != NULL) {
        add_to(w->sum[RNN_D_TABLE] + (size_t)s->token[row] * f->wide, dz, f->wide);
    } else if (w->sum[RNN_D_BIAS] != NULL) {
        add_to(w->sum[RNN_D_BIAS], dz, f->wide);
    }
    if (w->sum[RNN_D_BIAS_0] != NULL) {
        add_to(w->sum[RNN_D_BIAS_0], d, f->to[0]);
    }
    narrow(&f->d16, own, slot, s->begin + row, d, f->to[0]);
    narrow(&f->dz16, own, slot, s->begin + row, dz, f->wide);
}

static void step(const walk *w, const rnn_kernels *kernels, size_t t, size_t slot) {
    const ls_arg *a = w->args;
    const rnn_form *f = w->call->form;
    void *own = a[RNN_B_OWN].p;
    const bool two = f->cell->n_products == 2;
    rnn_step s = ls_rnn_view(f, a[RNN_B_WORKSPACE].p, a[RNN_B_MASK].p, NULL, t, w->begin);
    s.dh = ls_rnn_at(&f->dh, own, 0, w->begin);
    s.dc = ls_rnn_at(&f->dc, own, 0, w->begin);
    s.dr = ls_rnn_at(&f->dr, own, 0, w->begin);
    s.dr2 = ls_rnn_at(&f->dr2, own, 0, w->begin);
    s.d = ls_rnn_at(&f->d, own, slot, w->begin);
    s.d2 = ls_rnn_at(&f->d2, own, slot, w->begin);
    s.dz = f->cell->d_is_z ? s.d : ls_rnn_at(&f->dz, own, slot, w->begin);
    if (two || f->dtype == LS_F32) { /* else each row becomes bfloat16 at once */
        s.d_row = f->to[0];
        s.dz_row = f->wide;
    }
    for (size_t row = 0; row < w->n; row++) {
        fetch(w, &s, row + 2);
        arrive(w, &s, row);
        f->cell->backward[0](&s, row);
        if (two) {
            finish_second(w, &s, slot, row);
        } else {
            finish_row(w, &s, slot, row);
        }
    }
    if (two) {
        ls_rnn_product_run(kernels->step[1], ls_rnn_at(operand(f, RNN_D_SECOND), own, slot, w->begin),
                           a[RNN_B_KERNEL2].p, NULL, s.dr2, w->scratch);
        for (size_t row = 0; row < w->n; row++) {
            f->cell->backward[1](&s, row);
            finish_row(w, &s, slot, row);
        }
    }
    if (t > 0 || a[RNN_B_DH0].p != NULL) {
        ls_rnn_product_run(kernels->step[0], ls_rnn_at(operand(f, RNN_D_RECURRENT), own, slot, w->begin),
                           a[RNN_B_KERNEL].p, NULL, s.dr, w->scratch);
    }
}

/* ---- a chunk of steps ---- */

static void products(const walk *w, const rnn_kernels *kernels, size_t t) {
    const ls_arg *a = w->args;
    const rnn_form *f = w->call->form;
    void *workspace = a[RNN_B_WORKSPACE].p, *own = a[RNN_B_OWN].p;
    const void *from[] = {[RNN_D_KERNEL] = ls_rnn_at(&f->x, workspace, t, w->begin),
                          [RNN_D_RECURRENT] = ls_rnn_source(f, workspace, 0, t, w->begin),
                          [RNN_D_SECOND] = ls_rnn_source(f, workspace, 1, t, w->begin)};
    for (int kind = 0; kind < RNN_D_BIAS; kind++) {
        if (kernels->sum[kind] != NULL) {
            const void *d = ls_rnn_at(operand(f, (rnn_gradient)kind), own, 0, w->begin);
            ls_rnn_product_run(kernels->sum[kind], from[kind], d, NULL, w->sum[kind], w->scratch);
        }
    }
    if (kernels->dx != NULL) {
        float *dx = ls_rnn_at(&f->dx, own, 0, w->begin);
        ls_rnn_product_run(kernels->dx, ls_rnn_at(operand(f, RNN_D_KERNEL), own, 0, w->begin), a[RNN_B_KERNEL_X].p,
                           NULL, dx, w->scratch);
        ls_rnn_scatter(f, workspace, dx, a[RNN_B_DIN].p, t, w->begin);
    }
}

/* ---- a part of the samples ---- */

/* Where a part adds a gradient up. */
static float *sum_of(const rnn_form *f, const ls_arg *a, int kind, size_t part) {
    const rnn_sum *s = &f->sum[kind];
    if (!s->some) {
        return NULL;
    }
    if (s->direct && part == 0) {
        return a[RNN_B_GRADIENT + kind].p;
    }
    return ls_rnn_at(&s->part, a[RNN_B_OWN].p, s->direct ? part - 1 : part, 0);
}

static void begin_part(const rnn_form *f, const ls_arg *a, walk *w) {
    void *own = a[RNN_B_OWN].p;
    const size_t n_state = w->n * f->units, at = w->begin * f->units;
    const float *dht = a[RNN_B_DHT].p, *dct = a[RNN_B_DCT].p;
    load(ls_rnn_at(&f->dh, own, 0, w->begin), dht != NULL ? dht + at : NULL, n_state);
    load(ls_rnn_at(&f->dr, own, 0, w->begin), NULL, w->n * f->from[0]);
    if (f->cell->n_states == 2) {
        load(ls_rnn_at(&f->dc, own, 0, w->begin), dct != NULL ? dct + at : NULL, n_state);
    }
    if (f->cell->n_products == 2) {
        load(ls_rnn_at(&f->dr2, own, 0, w->begin), NULL, w->n * f->from[1]);
    }
    for (int kind = 0; kind < RNN_D_COUNT; kind++) {
        if (w->sum[kind] != NULL) {
            load(w->sum[kind], NULL, f->sum[kind].in * f->sum[kind].width);
        }
    }
}

/* The gradients of the states that were given. */
static void end_part(const rnn_form *f, const ls_arg *a, const walk *w) {
    const size_t u = f->units;
    if (a[RNN_B_DH0].p != NULL) {
        rnn_step s = ls_rnn_view(f, a[RNN_B_WORKSPACE].p, NULL, NULL, 0, w->begin);
        walk quiet = *w;
        ls_arg none[LS_CALL_ARGS] = {{0}}; /* no output arrives before the first step */
        none[RNN_B_WORKSPACE] = a[RNN_B_WORKSPACE];
        quiet.args = none;
        s.dh = ls_rnn_at(&f->dh, a[RNN_B_OWN].p, 0, w->begin);
        s.dr = ls_rnn_at(&f->dr, a[RNN_B_OWN].p, 0, w->begin);
        s.dr2 = ls_rnn_at(&f->dr2, a[RNN_B_OWN].p, 0, w->begin);
        for (size_t row = 0; row < w->n; row++) {
            arrive(&quiet, &s, row);
        }
        memcpy((float *)a[RNN_B_DH0].p + w->begin * u, s.dh, w->n * u * sizeof(float));
    }
    if (a[RNN_B_DC0].p != NULL) {
        memcpy((float *)a[RNN_B_DC0].p + w->begin * u, ls_rnn_at(&f->dc, a[RNN_B_OWN].p, 0, w->begin),
               w->n * u * sizeof(float));
    }
}

static void walk_part(void *context, size_t part, size_t end) {
    (void)end; /* parts come one by one */
    const ls_call *call = context;
    const rnn_call *c = call->state;
    const rnn_form *f = c->form;
    walk w = {.call = c, .args = call->args, .n = ls_rnn_part_rows(f)};
    w.begin = part * w.n;
    w.scratch = (char *)call->args[RNN_B_SCRATCH].p + part * c->scratch_bytes;
    for (int kind = 0; kind < RNN_D_COUNT; kind++) {
        w.sum[kind] = sum_of(f, call->args, kind, part);
    }
    begin_part(f, call->args, &w);
    for (size_t t = f->steps; t > 0; t -= f->chunk) {
        for (size_t slot = f->chunk; slot-- > 0;) {
            step(&w, &c->part[part], t - f->chunk + slot, slot);
        }
        products(&w, &c->part[part], t - f->chunk);
    }
    end_part(f, call->args, &w);
}

/* ---- all of it ---- */

/* The parts' shares added, and where they belong. */
static void gather_sum(const rnn_form *f, const ls_arg *a, int kind) {
    const rnn_sum *s = &f->sum[kind];
    float *all = sum_of(f, a, kind, 0);
    for (size_t part = 1; all != NULL && part < f->parts; part++) {
        add_to(all, sum_of(f, a, kind, part), s->in * s->width);
    }
    for (size_t i = 0; all != NULL && kind != RNN_D_TABLE && !s->direct && i < s->in; i++) {
        memcpy((float *)a[RNN_B_GRADIENT + kind].p + i * s->total, all + i * s->width, s->width * sizeof *all);
    }
}

void ls_rnn_backward_kernel(const ls_call *call, const ls_run *run) {
    (void)run;
    const rnn_form *f = ((const rnn_call *)call->state)->form;
    ls_ops_parallel((int)f->parts, f->parts, 1, walk_part, (void *)call);
    for (int kind = 0; kind < RNN_D_COUNT; kind++) {
        gather_sum(f, call->args, kind);
    }
    float *bias = sum_of(f, call->args, RNN_D_BIAS, 0), *table = sum_of(f, call->args, RNN_D_TABLE, 0);
    for (size_t i = 0; bias != NULL && table != NULL && i < f->vocabulary; i++) {
        add_to(bias, table + i * f->wide, f->wide);
    }
}
