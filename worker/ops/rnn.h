/*
 * Inside recurrent operators: what rnn.c (the calls of a node), rnn_form.c (its arrays), rnn_forward.c and
 * rnn_backward.c (the walks over the steps), rnn_rows.c (the ways in and out), rnn_product.c (matrix products) and the
 * cells share.
 *
 * Everything is time-major inside, (T, N, ..), in the order in which steps are taken, so that one step's rows lie
 * together. A node's forward pass is
 *   gather     X (T, N, C) from the input, with input dropout
 *   product    Z = X W + b, for all steps at once
 *   steps      for each step: R = H[t-1] U (a prepared kernel), then the cell row by row
 * and its backward pass walks the steps from the last, some at a time (a chunk, of some 128 rows), while what a chunk
 * makes is in the cache:
 *   steps      the cell's gradients D and dZ, then dH[t-1] = D U^T
 *   products   dW += X^T dZ, dU += H^T D, dX = dZ W^T
 *
 * An input that is rows of a table (Embedding, ls_operator.can_absorb) of at most half as many rows as the batch has
 * steps is never made: the product is P = E W + b, once a step of training, and each step of each sample reads its row
 * of P. Backward adds dZ up by the row that was read, S; then dW = E^T S, dE = S W^T, db = the sum of S's rows.
 *
 * GRU without reset_after has two products a step: one gives z and r, the second multiplies r * h. So has Jordan's net:
 * the state to the hidden layer, and the hidden layer to the next state.
 *
 * Precision: in bfloat16 what is multiplied (X, H, r * h, D, dZ, the matrices) is bfloat16 and sums are float32; gates,
 * states and their gradients are computed in float32, and LSTM's gates are kept for backward as bfloat16. The small P
 * and S are float32 throughout.
 *
 * Threads: the samples are cut into parts, each walked by one thread from the first step to the last, so that threads
 * meet once a pass; a part's share of the weights' gradients is its own, and shares are added in the order of parts.
 * Small work has one part whatever the number of threads.
 */
#ifndef LS_WORKER_RNN_H
#define LS_WORKER_RNN_H

#include "worker/ops/act_function.h"
#include "worker/ops/ops_common.h"

/* An array of a workspace, (steps, N, elements of a row). */
typedef struct rnn_array {
    size_t at;   /* bytes from the workspace's start */
    size_t step; /* bytes from one step to the next; 0: all steps use the same memory */
    size_t row;  /* bytes of a row */
    bool some;
} rnn_array;

/* What backward leaves in the weights; each is the product of two arrays, or the sum of one array's rows. */
typedef enum {
    RNN_D_KERNEL,    /* X^T dZ */
    RNN_D_RECURRENT, /* H^T D */
    RNN_D_SECOND,    /* (r h)^T D2, or that of Jordan's output kernel */
    RNN_D_BIAS,      /* of dZ */
    RNN_D_BIAS_0,    /* of D: the second row of reset_after's bias */
    RNN_D_BIAS_1,    /* of D2: Jordan's */
    RNN_D_TABLE,     /* S */
    RNN_D_COUNT
} rnn_gradient;

/* Where a gradient is added up: (in, width) floats, for each part. The first part's is the weight's own memory where
 * the gradient is all of the weight (direct), else it goes there in the end: rows `total` floats apart. */
typedef struct rnn_sum {
    bool some, direct;
    size_t in, width, total;
    rnn_array part; /* (parts, in * width); direct: of the parts after the first */
} rnn_sum;

typedef struct rnn_cell rnn_cell;

/* What a node is, for both passes; owned by the plan as the node's note. */
typedef struct rnn_form {
    const ls_rnn_attr *attr;
    const rnn_cell *cell;
    ls_act_function act, rec;
    size_t n, samples, rows; /* N = samples * rows */
    size_t parts;            /* of N / parts rows each */
    size_t steps, in, units;
    size_t wide;           /* elements of a row of z */
    size_t from[2], to[2]; /* elements that each product of a step takes and gives */
    size_t chunk;          /* steps that backward takes at a time; divides steps */
    size_t vocabulary;     /* rows of the table that the input is rows of; 0: the input is a tensor like others */
    const ls_node *table;  /* the Embedding node, or NULL */
    ls_dtype numbers;      /* type of its input */
    int id;                /* the node's: key of its draws */
    ls_dtype dtype;        /* of what is multiplied */
    ls_dtype source;       /* how the input is stored */
    bool training;
    bool drops_in, drops_state;    /* dropout that is at work */
    rnn_array x;                   /* (T, N, C) as dtype */
    rnn_array token;               /* (T, N) int32: the row of P; one that is not in the table has the last */
    rnn_array z;                   /* (T, N, wide) gates (the hidden layer) after their activation */
    rnn_array z16;                 /* LSTM in bfloat16: the gates are kept here instead */
    rnn_array r, r2;               /* (T or 1, N, columns of product 0, 1) what the products give */
    rnn_array h, c;                /* (T + 1 or 1, N, u) states; [t] is what step t starts from */
    rnn_array a;                   /* (T or 1, N, u) LSTM: activation(c); tanh is computed again instead */
    rnn_array hd;                  /* (T or 1, N, u) h after recurrent dropout */
    rnn_array rh;                  /* (T or 1, N, ..) what product 1 multiplies: GRU: r * h; Jordan: the hidden layer */
    rnn_array h16, rh16;           /* what products 0, 1 multiply, as bfloat16 */
    rnn_array p;                   /* (T or 1, N, u) GRU: the candidate before its activation */
    rnn_array drop_in, drop_state; /* (N, C), (N, u): 0 or 1 / (1 - rate) */
    rnn_array first;               /* (N) the first step that counts */
    size_t n_bytes;                /* of the workspace */
    ls_ref workspace, mask;
    /* the backward pass's own workspace */
    rnn_array dh, dc;         /* (N, u) running gradients of the states */
    rnn_array dr, dr2;        /* (N, from[0 and 1]) gradients of what products 0, 1 multiplied */
    rnn_array dz, d, d2;      /* (chunk or 1, N, columns) gradients of z, r and r2; d is dz where d_is_z */
    rnn_array dz16, d16, d2h; /* (chunk, N, columns) the same as bfloat16 */
    rnn_array dx;             /* (chunk, N, C) */
    rnn_sum sum[RNN_D_COUNT];
    size_t n_backward_bytes;
    ls_dtype din; /* how the input's gradient is stored */
} rnn_form;

/* Views of one step's rows of one part. Rows are as many as the part has: row i of z is z + i * wide. */
typedef struct rnn_step {
    const rnn_form *f;
    size_t t, begin;      /* begin: the part's first row of N */
    const float *mask;    /* of row i: mask[i * steps]; NULL: all count */
    const float *table;   /* P (vocabulary + 1, wide), or NULL */
    const int32_t *token; /* of row i */
    float *z, *r, *r2, *h, *c, *a, *hd, *rh, *p;
    uint16_t *z16;
    const float *h_prev, *c_prev; /* h_prev before recurrent dropout. h and c may be the same memory as these. */
    const float *h_in;            /* what product 0 multiplies: hd or h_prev */
    float *dh, *dc, *dr, *dr2, *dz, *d, *d2;
    size_t d_row, dz_row; /* floats from a row of d, dz to the next: 0 where a row is used up before the next is made */
    const float *drop_state;
} rnn_step;

/* The input's part of a row's gates, wide floats: a row of P, or what z holds until the cell overwrites it. */
static inline const float *ls_rnn_x(const rnn_step *s, size_t row) {
    return s->table != NULL ? s->table + (size_t)s->token[row] * s->f->wide : s->z + row * s->f->wide;
}

/* A masked row's state stays. */
static inline void ls_rnn_keep(float *to, const float *from, size_t n) {
    if (to != from) {
        memcpy(to, from, n * sizeof *to);
    }
}

static inline bool ls_rnn_masked(const rnn_step *s, size_t row) {
    return s->mask != NULL && s->mask[row * s->f->steps] == 0.0f;
}

/* Row by row of a step. A masked row's forward leaves z alone and keeps the states; its backward gives zeros in dz, d,
 * d2 and dr2 and leaves dh and dc. d may be dz's memory only where the cell says d_is_z; then d alone is written. */
typedef void (*rnn_row)(const rnn_step *s, size_t row);

struct rnn_cell {
    size_t gates;
    int n_states;
    int n_products;             /* a step */
    size_t columns[2];          /* of the recurrent kernel that each product takes, in units; 0: a kernel of its own */
    bool r_kept;                /* backward reads r */
    bool h_kept;                /* backward reads h or h_prev */
    bool second_returns;        /* what comes back through product 1 goes on to the state before */
    bool d_is_z;                /* product 0's gradient is dZ itself */
    rnn_row forward[2];         /* after product 0, 1 */
    rnn_row backward[2];        /* before the gradient of the last product, of the one before it */
    void (*place)(rnn_form *f); /* the cell's own arrays; NULL: none */
};
extern const rnn_cell ls_rnn_cell_simple, ls_rnn_cell_lstm, ls_rnn_cell_gru, ls_rnn_cell_gru_reset_after,
    ls_rnn_cell_jordan;

/* Next array of a workspace of *n_bytes: n_steps (or 1) times n_rows rows of row_elems elements. */
rnn_array ls_rnn_place(size_t *n_bytes, size_t n_rows, size_t row_elems, size_t n_steps, ls_dtype dtype);
/* Row `row` of step t; NULL when there is no such array. */
static inline void *ls_rnn_at(const rnn_array *a, void *workspace, size_t t, size_t row) {
    return a->some ? (char *)workspace + a->at + t * a->step + row * a->row : NULL;
}
static inline size_t ls_rnn_part_rows(const rnn_form *f) {
    return f->n / f->parts;
}
/* The place in the input's sequence of step t. */
static inline size_t ls_rnn_source_of(const rnn_form *f, size_t t) {
    return f->attr->backwards ? f->steps - 1 - t : t;
}
/* Steps to keep of what backward reads. */
static inline size_t ls_rnn_kept(const rnn_form *f) {
    return f->training ? f->steps : 1;
}

/* The form of a node in a plan, its arrays placed; workspace and mask are the caller's to set. */
rnn_form *ls_rnn_form_new(const ls_plan *p, const ls_node *node);
/* Places the arrays of the backward pass: learns, with gradients of the weights; passes, with that of the input. */
void ls_rnn_form_backward(rnn_form *f, const ls_node *node, bool learns, bool passes);
/* The Embedding node that in[0] comes from, where the node reads rows of its table instead; else NULL. */
const ls_node *ls_rnn_table(const ls_plan *p, const ls_node *node);
bool ls_rnn_can_absorb(const ls_plan *p, const ls_node *node, const ls_node *producer);

/* ---- weights and products ---- */

/* Columns [column, column + width) of a Keras matrix (in, total). */
typedef struct rnn_matrix {
    ls_weight *weight;
    size_t in, total, column, width;
} rnn_matrix;
rnn_matrix ls_rnn_input_matrix(const rnn_form *f, const ls_node *node);
/* Of a step's product: columns of the recurrent kernel, or Jordan's output kernel. */
rnn_matrix ls_rnn_step_matrix(const rnn_form *f, const ls_node *node, int product);
/* The weight that holds the bias of a step's product, and where in it (bytes); NULL: it has none. */
ls_weight *ls_rnn_step_bias(const rnn_form *f, const ls_node *node, int product, size_t *at);

/* A kernel for one of these, f32 results from sources of dtype; with weights in its own layout where it has any:
 *   dst (rows, width) = src (rows, in) W + bias
 *   back: dst (rows, in) = src (rows, width) W^T */
ls_status ls_rnn_product(ls_plan *p, const ls_node *node, const rnn_matrix *m, size_t rows, bool bias, bool back,
                         ls_dtype dtype, int n_threads, ls_prim **prim, ls_ref *weight, ls_err *err) LS_MUST_CHECK;
/* The same kernel once more, for another thread. */
ls_status ls_rnn_product_again(const rnn_matrix *m, size_t rows, bool bias, bool back, ls_dtype dtype, ls_prim **prim,
                               ls_err *err) LS_MUST_CHECK;
/* dst (in, width) = a^T b with a (rows, in), b (rows, width), f32 sums of dtype; add: dst += a^T b. */
ls_status ls_rnn_sum_product(size_t rows, size_t in, size_t width, bool add, ls_dtype dtype, int n_threads,
                             ls_prim **prim, ls_err *err) LS_MUST_CHECK;
/* Runs a prepared kernel inside another call: its matrices, the bias (or NULL) and scratch memory. */
void ls_rnn_product_run(ls_prim *prim, const void *src, const void *weight, const float *bias, float *dst,
                        void *scratch);

/* ---- calls ---- */

/* The kernels of one part. */
typedef struct rnn_kernels {
    ls_prim *step[2]; /* forward: R = H U; backward: dH = D U^T */
    ls_prim *dx;
    ls_prim *sum[RNN_D_BIAS]; /* by rnn_gradient: those that are products */
} rnn_kernels;
/* What the call over all steps owns. */
typedef struct rnn_call {
    const rnn_form *form;
    size_t n_parts;
    rnn_kernels *part;    /* (parts) */
    size_t scratch_bytes; /* of a part */
} rnn_call;
rnn_call *ls_rnn_call_new(const rnn_form *f);
void ls_rnn_call_destroy(void *call);
/* Counts the kernel's scratch memory. */
void ls_rnn_call_scratch(rnn_call *call, const ls_prim *prim);

enum {
    RNN_F_WORKSPACE,
    RNN_F_MASK,
    RNN_F_KERNEL,
    RNN_F_KERNEL2,
    RNN_F_BIAS,
    RNN_F_BIAS2,
    RNN_F_SCRATCH,
    RNN_F_OUT,
    RNN_F_H0,
    RNN_F_C0,
    RNN_F_HT,
    RNN_F_CT,
    RNN_F_TABLE
};
void ls_rnn_forward_kernel(const ls_call *call, const ls_run *run);
enum {
    RNN_B_WORKSPACE,
    RNN_B_OWN,
    RNN_B_MASK,
    RNN_B_KERNEL,
    RNN_B_KERNEL2,
    RNN_B_KERNEL_X, /* of dX = dZ W^T */
    RNN_B_SCRATCH,
    RNN_B_DOUT,
    RNN_B_DHT,
    RNN_B_DCT,
    RNN_B_DH0,
    RNN_B_DC0,
    RNN_B_DIN,
    RNN_B_GRADIENT /* RNN_D_KERNEL to RNN_D_BIAS_1 */
};
void ls_rnn_backward_kernel(const ls_call *call, const ls_run *run);
/* args: source (numbers of rows, or the input), workspace */
void ls_rnn_gather_kernel(const ls_call *call, const ls_run *run);
/* What product 0 or 1 multiplies at step t, from row `begin` on. */
const void *ls_rnn_source(const rnn_form *f, void *workspace, int product, size_t t, size_t begin);
/* Views of step t of the part that begins with row `begin`. */
rnn_step ls_rnn_view(const rnn_form *f, void *workspace, const float *mask, const float *table, size_t t, size_t begin);
/* Whether a step's output is the state after it, not zeros; first: of the part's rows. */
bool ls_rnn_shows(const rnn_step *s, const float *first, size_t row);
/* The row of out[0] (or of its gradient) that belongs to this step. */
size_t ls_rnn_out_row(const rnn_step *s, size_t row);
/* The input's gradient at steps [t, t + chunk) of a part's rows, from dx. */
void ls_rnn_scatter(const rnn_form *f, void *workspace, const float *dx, void *din, size_t t, size_t begin);

#endif
