/*
 * Inside recurrent operators: what rnn.c (the plan of a node), rnn_run.c (the walk over the steps), rnn_product.c (its
 * matrix products) and the cells share.
 *
 * Everything is time-major inside, (T, N, ..), in the order in which steps are taken, so that one step's rows lie
 * together. A node's forward pass is
 *   gather     X (T, N, C) from the input, with input dropout
 *   product    Z = X W + b, for all steps at once
 *   steps      for each step: R = H[t-1] U (a prepared kernel), then the cell row by row
 * and its backward pass
 *   steps      for each step from the last: the cell's gradients D, then dH[t-1] = D U^T; Z becomes dZ
 *   products   dW = X^T dZ, dU = H^T D, dX = dZ W^T, each over all steps at once
 *   scatter    dX to the input's gradient
 *
 * GRU without reset_after has two products a step: one gives z and r, the second multiplies r * h. So has Jordan's net:
 * the state to the hidden layer, and the hidden layer to the next state.
 */
#ifndef LS_WORKER_RNN_H
#define LS_WORKER_RNN_H

#include "worker/ops/act_function.h"
#include "worker/ops/ops_common.h"

/* An array of the workspace. */
typedef struct rnn_array {
    size_t at;   /* floats from the workspace's start */
    size_t step; /* floats from one step to the next; 0: all steps use the same memory */
    bool some;
} rnn_array;

typedef struct rnn_cell rnn_cell;

/* What a node is, for both passes; owned by the plan as the node's note. */
typedef struct rnn_form {
    const ls_rnn_attr *attr;
    const rnn_cell *cell;
    ls_act_function act, rec;
    size_t n, samples, rows; /* N = samples * rows */
    size_t steps, in, units;
    size_t wide;           /* elements of a row of z */
    size_t from[2], to[2]; /* elements that each product of a step takes and gives */
    int id;                /* the node's: key of its draws */
    bool training;
    bool has_mask;
    bool drops_in, drops_state;    /* dropout that is at work */
    rnn_array x;                   /* (T, N, C) */
    rnn_array z;                   /* (T, N, wide) gates (the hidden layer) after their activation; then dZ */
    rnn_array r, r2;               /* (T or 1, N, columns of product 0, 1) what the products give */
    rnn_array h, c;                /* (T + 1, N, u) states; [t] is what step t starts from */
    rnn_array a;                   /* (T, N, u) LSTM: activation(c) */
    rnn_array hd;                  /* (T, N, u) h after recurrent dropout */
    rnn_array rh;                  /* (T, N, ..) what product 1 multiplies: GRU: r * h; Jordan: the hidden layer */
    rnn_array p;                   /* (T or 1, N, u) GRU: the candidate before its activation */
    rnn_array drop_in, drop_state; /* (N, C), (N, u): 0 or 1 / (1 - rate) */
    size_t n_floats;               /* of the workspace */
    ls_ref workspace, mask;
    /* the backward pass's own workspace */
    rnn_array dh, dc;  /* (N, u) running gradients of the states */
    rnn_array dr, dr2; /* (N, u) gradients of what products 0, 1 multiplied, (N, u) and (N, from[1]) */
    rnn_array d, d2;   /* (T or 1, N, columns) gradients of r and r2 */
    rnn_array first;   /* (N) the first step that counts */
    size_t n_backward_floats;
} rnn_form;

/* Views of one step. Rows are n: row i of z is z + i * wide. */
typedef struct rnn_step {
    const rnn_form *f;
    size_t t;
    const float *mask; /* of row i: mask[i * steps]; NULL: all count */
    float *z, *r, *r2, *h, *c, *a, *hd, *rh, *p;
    const float *h_prev, *c_prev; /* h_prev before recurrent dropout */
    const float *h_in;            /* what product 0 multiplies: hd or h_prev */
    float *dh, *dc, *dr, *dr2, *d, *d2;
    const float *drop_state;
} rnn_step;

static inline bool ls_rnn_masked(const rnn_step *s, size_t row) {
    return s->mask != NULL && s->mask[row * s->f->steps] == 0.0f;
}

/* Rows [begin, end) of a step. A masked row's forward leaves z alone and keeps the states; its backward gives zeros in
 * z, d, d2 and dr2 and leaves dh and dc. */
typedef void (*rnn_rows)(const rnn_step *s, size_t begin, size_t end);

struct rnn_cell {
    size_t gates;
    int n_states;
    int n_products;             /* a step */
    size_t columns[2];          /* of the recurrent kernel that each product takes, in units; 0: a kernel of its own */
    bool r_kept;                /* backward reads r */
    bool second_returns;        /* what comes back through product 1 goes on to the state before */
    bool d_is_z;                /* product 0's gradient is dZ itself */
    rnn_rows forward[2];        /* after product 0, 1 */
    rnn_rows backward[2];       /* before the gradient of the last product, of the one before it */
    void (*place)(rnn_form *f); /* the cell's own arrays; NULL: none */
};
extern const rnn_cell ls_rnn_cell_simple, ls_rnn_cell_lstm, ls_rnn_cell_gru, ls_rnn_cell_gru_reset_after,
    ls_rnn_cell_jordan;

/* Next array of a workspace of *n_floats: steps of n_per_step floats, all steps (all true) or one. */
rnn_array ls_rnn_place(size_t *n_floats, size_t n_per_step, size_t n_steps);
static inline float *ls_rnn_at(const rnn_array *a, float *workspace, size_t t) {
    return a->some ? workspace + a->at + t * a->step : NULL;
}

/* ---- products ---- */

/* Columns [column, column + width) of a Keras matrix (in, total). */
typedef struct rnn_matrix {
    ls_weight *weight;
    size_t in, total, column, width;
} rnn_matrix;

/* dst (rows, width) = src (rows, in) W + bias, or its gradients. */
ls_status ls_rnn_product_prim(ls_plan *p, const ls_node *node, const rnn_matrix *m, size_t rows, bool bias,
                              ls_pass pass, ls_prim **prim, ls_ref *weight, ls_err *err) LS_MUST_CHECK;
/* The gradient of the matrix (and of the bias, where bias is some) over `rows` rows, into its columns of dweight. */
ls_status ls_rnn_product_gradient(ls_plan *p, const ls_node *node, const rnn_matrix *m, size_t rows, ls_ref src,
                                  ls_ref ddst, ls_ref dweight, ls_ref dbias, ls_err *err) LS_MUST_CHECK;
/* Runs a prepared product inside another call: the three matrices, the bias (or NULL) and scratch memory. */
void ls_rnn_product_run(ls_prim *prim, const float *src, const float *weight, const float *bias, float *dst,
                        void *scratch);
void ls_rnn_product_run_data(ls_prim *prim, const float *ddst, const float *weight, float *dsrc, void *scratch);

/* ---- calls ---- */

/* What the call over all steps owns. */
typedef struct rnn_call {
    const rnn_form *form;
    ls_prim *product[2];
} rnn_call;
void ls_rnn_call_destroy(void *call);

enum {
    RNN_F_WORKSPACE,
    RNN_F_MASK,
    RNN_F_KERNEL,
    RNN_F_KERNEL2,
    RNN_F_BIAS,
    RNN_F_BIAS2,
    RNN_F_SCRATCH,
    RNN_F_SCRATCH2,
    RNN_F_OUT,
    RNN_F_H0,
    RNN_F_C0,
    RNN_F_HT,
    RNN_F_CT,
    RNN_F_STATE
};
void ls_rnn_forward_kernel(const ls_call *call, const ls_run *run);
enum {
    RNN_B_WORKSPACE,
    RNN_B_OWN,
    RNN_B_MASK,
    RNN_B_KERNEL,
    RNN_B_KERNEL2,
    RNN_B_SCRATCH,
    RNN_B_SCRATCH2,
    RNN_B_DOUT,
    RNN_B_DHT,
    RNN_B_DCT,
    RNN_B_DH0,
    RNN_B_DC0
};
void ls_rnn_backward_kernel(const ls_call *call, const ls_run *run);
/* args: source, workspace */
void ls_rnn_gather_kernel(const ls_call *call, const ls_run *run);
/* args: dX (T, N, C), workspace, the input's gradient */
void ls_rnn_scatter_kernel(const ls_call *call, const ls_run *run);

#endif
