/* What a recurrent node is in a plan: its sizes, and where its arrays lie. */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/rnn.h"

enum {
    CHUNK_ROWS = 128, /* rows that backward's products of a chunk take, more or less */
    LEAST_ROWS = 16   /* of a part: fewer do not fill a kernel's tiles */
};
static const double PART_FLOPS = 2e6; /* of a part's pass: some 20 us, what it costs to wake a thread at the worst */

static const rnn_cell *const cells[] = {[LS_CELL_SIMPLE] = &ls_rnn_cell_simple,
                                        [LS_CELL_LSTM] = &ls_rnn_cell_lstm,
                                        [LS_CELL_GRU] = &ls_rnn_cell_gru,
                                        [LS_CELL_GRU_RESET_AFTER] = &ls_rnn_cell_gru_reset_after,
                                        [LS_CELL_JORDAN] = &ls_rnn_cell_jordan};

/* ---- the table of an input that is rows of one ---- */

bool ls_rnn_can_absorb(const ls_plan *p, const ls_node *node, const ls_node *producer) {
    const ls_rnn_attr *a = node->attr;
    if (producer->op != &ls_op_embedding || node->in[0] != producer->out[0] ||
        (ls_plan_training(p) && a->dropout > 0)) {
        return false;
    }
    const size_t numbers = ls_plan_elems(p, producer->in[0]);
    return 2 * (size_t)producer->weights[0]->shape.dim[0] <= numbers;
}

const ls_node *ls_rnn_table(const ls_plan *p, const ls_node *node) {
    const ls_node *producer = node->in[0]->producer;
    return producer != NULL && ls_plan_absorbed(p, producer) ? producer : NULL;
}

/* ---- forward ---- */

static rnn_array place(rnn_form *f, size_t row_elems, size_t n_steps, ls_dtype dtype) {
    return ls_rnn_place(&f->n_bytes, f->n, row_elems, n_steps, dtype);
}

static void place_forward(rnn_form *f) {
    const size_t kept = ls_rnn_kept(f), all = f->training ? f->steps + 1 : 1;
    const bool bf16 = f->dtype == LS_BF16;
    bool keep_r = f->training && (f->cell->r_kept || !f->act.from_result || !f->rec.from_result);
    if (f->table != NULL) {
        f->token = place(f, 1, f->steps, LS_I32);
    } else {
        f->x = place(f, f->in, f->steps, f->dtype);
    }
    if (f->cell->place != NULL) {
        f->cell->place(f);
    }
    if (f->table == NULL || !f->z16.some) {
        f->z = place(f, f->wide, f->table != NULL ? kept : f->steps, LS_F32);
    }
    f->r = place(f, f->to[0], keep_r ? f->steps : 1, LS_F32);
    f->h = place(f, f->units, bf16 && !f->cell->h_kept ? 1 : all, LS_F32);
    f->first = place(f, 1, 1, LS_F32);
    if (f->cell->n_products == 2) {
        f->r2 = place(f, f->to[1], keep_r ? f->steps : 1, LS_F32);
    }
    if (f->cell->n_states == 2) {
        f->c = place(f, f->units, all, LS_F32);
    }
    if (f->drops_in) {
        f->drop_in = place(f, f->in, 1, LS_F32);
    }
    if (f->drops_state) {
        f->drop_state = place(f, f->units, 1, LS_F32);
        f->hd = place(f, f->units, kept, LS_F32);
    }
    if (bf16) {
        f->h16 = place(f, f->units, kept, LS_BF16);
    }
    if (bf16 && f->cell->n_products == 2) {
        f->rh16 = place(f, f->from[1], kept, LS_BF16);
    }
}

/* ---- threads and chunks ---- */

static size_t count_parts(const rnn_form *f, size_t threads) {
    const double flops = 2.0 * (double)(f->steps * f->n) * (double)(f->from[0] * f->to[0] + f->from[1] * f->to[1]);
    bool worth =
        threads > 1 && f->n % threads == 0 && f->n / threads >= LEAST_ROWS && flops / (double)threads >= PART_FLOPS;
    return worth ? threads : 1;
}

/* The divisor of the steps that makes a chunk's rows closest to CHUNK_ROWS. The steps of a part of several do not lie
 * together, so they are taken one by one. */
static size_t chunk_of(const rnn_form *f) {
    size_t best = 1;
    for (size_t c = 1; f->parts == 1 && c <= f->steps; c++) {
        if (f->steps % c == 0 &&
            fabs(log2((double)(c * f->n) / CHUNK_ROWS)) < fabs(log2((double)(best * f->n) / CHUNK_ROWS))) {
            best = c;
        }
    }
    return best;
}

rnn_form *ls_rnn_form_new(const ls_plan *p, const ls_node *node) {
    const ls_rnn_attr *a = node->attr;
    const ls_tensor *in = node->in[0];
    rnn_form *f = ls_xcalloc(1, sizeof *f);
    f->attr = a;
    f->cell = cells[a->cell];
    f->act = ls_act_function_of(&a->activation);
    f->rec = ls_act_function_of(&a->recurrent_activation);
    f->samples = (size_t)ls_plan_samples(p);
    f->rows = (size_t)in->rows;
    f->n = f->samples * f->rows;
    f->steps = (size_t)in->shape.dim[0];
    f->in = (size_t)in->shape.dim[1];
    f->units = (size_t)a->units;
    f->wide = a->cell == LS_CELL_JORDAN ? (size_t)a->hidden : f->cell->gates * f->units;
    for (int i = 0; i < f->cell->n_products; i++) {
        f->from[i] = f->units;
        f->to[i] = f->cell->columns[i] * f->units;
    }
    if (a->cell == LS_CELL_JORDAN) {
        f->to[0] = f->from[1] = f->wide;
        f->to[1] = f->units;
    }
    f->table = ls_rnn_table(p, node);
    if (f->table != NULL) {
        f->vocabulary = (size_t)f->table->weights[0]->shape.dim[0];
        f->numbers = ls_plan_stored(p, f->table->in[0]) == LS_I32 ? LS_I32 : LS_F32;
    } else {
        f->source = ls_plan_stored(p, in);
    }
    f->id = node->id;
    f->dtype = ls_plan_compute(p);
    f->training = ls_plan_training(p);
    f->drops_in = f->training && a->dropout > 0;
    f->drops_state = f->training && a->recurrent_dropout > 0;
    f->parts = count_parts(f, (size_t)ls_plan_threads(p));
    f->chunk = chunk_of(f);
    place_forward(f);
    return f;
}

/* ---- backward ---- */

static rnn_array place_back(rnn_form *f, size_t row_elems, size_t n_steps, ls_dtype dtype) {
    return ls_rnn_place(&f->n_backward_bytes, f->n, row_elems, n_steps, dtype);
}

/* A gradient of one product or bias; `total` as the rows of its weight are. */
static void place_sum(rnn_form *f, rnn_gradient kind, size_t in, size_t width, size_t total) {
    rnn_sum *s = &f->sum[kind];
    *s = (rnn_sum){
        .some = true, .direct = kind != RNN_D_TABLE && width == total, .in = in, .width = width, .total = total};
    const size_t shares = s->direct ? f->parts - 1 : f->parts;
    s->part.some = shares > 0;
    s->part.at = f->n_backward_bytes;
    s->part.step = ls_align_up(in * width * sizeof(float), LS_ALIGN);
    f->n_backward_bytes += shares * s->part.step;
}

static void place_sums(rnn_form *f, const ls_node *node, bool learns, bool passes) {
    if (f->table != NULL && (learns || passes)) {
        place_sum(f, RNN_D_TABLE, f->vocabulary + 1, f->wide, f->wide);
    }
    if (!learns) {
        return;
    }
    if (f->table == NULL) {
        place_sum(f, RNN_D_KERNEL, f->in, f->wide, f->wide);
    }
    if (f->attr->use_bias) {
        place_sum(f, RNN_D_BIAS, 1, f->wide, f->wide);
    }
    for (int i = 0; i < f->cell->n_products; i++) {
        rnn_matrix m = ls_rnn_step_matrix(f, node, i);
        size_t at;
        place_sum(f, i == 0 ? RNN_D_RECURRENT : RNN_D_SECOND, m.in, m.width, m.total);
        if (ls_rnn_step_bias(f, node, i, &at) != NULL) {
            place_sum(f, i == 0 ? RNN_D_BIAS_0 : RNN_D_BIAS_1, 1, m.width, m.width);
        }
    }
}

void ls_rnn_form_backward(rnn_form *f, const ls_node *node, bool learns, bool passes) {
    const bool bf16 = f->dtype == LS_BF16;
    const size_t floats = bf16 ? 1 : f->chunk;
    f->dh = place_back(f, f->units, 1, LS_F32);
    f->dr = place_back(f, f->from[0], 1, LS_F32);
    f->d = place_back(f, f->to[0], floats, LS_F32);
    if (bf16) {
        f->d16 = place_back(f, f->to[0], f->chunk, LS_BF16);
    }
    if (!f->cell->d_is_z) {
        f->dz = place_back(f, f->wide, floats, LS_F32);
    }
    if (!f->cell->d_is_z && bf16 && f->table == NULL) {
        f->dz16 = place_back(f, f->wide, f->chunk, LS_BF16);
    }
    if (f->cell->n_states == 2) {
        f->dc = place_back(f, f->units, 1, LS_F32);
    }
    if (f->cell->n_products == 2) {
        f->dr2 = place_back(f, f->from[1], 1, LS_F32);
        f->d2 = place_back(f, f->to[1], floats, LS_F32);
    }
    if (f->cell->n_products == 2 && bf16) {
        f->d2h = place_back(f, f->to[1], f->chunk, LS_BF16);
    }
    if (passes && f->table == NULL) {
        f->dx = place_back(f, f->in, f->chunk, LS_F32);
    }
    place_sums(f, node, learns, passes);
}
