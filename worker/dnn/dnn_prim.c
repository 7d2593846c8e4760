/*
 * Primitives: description -> primitive descriptor -> kernel with its memory objects.
 *
 * dnnl_primitive_execute of oneDNN 2.6 builds a small hash map of the arguments in every call; dnn_new.c keeps that off
 * the heap.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/dnn/dnn_private.h"

enum { MAX_ARGS = 12 };

struct ls_prim {
    dnnl_primitive_t prim;
    dnnl_primitive_desc_t pd;
    int n_threads;
    int n_args;
    ls_prim_arg which[MAX_ARGS];
    bool written[MAX_ARGS];
    size_t n_bytes[MAX_ARGS];
    dnnl_exec_arg_t exec[MAX_ARGS];
    void *bound[MAX_ARGS];
    const ls_layout *weight_layout;
};

static const int dnnl_arg[LS_ARG_COUNT] = {
    [LS_ARG_SRC] = DNNL_ARG_SRC,
    [LS_ARG_WEIGHTS] = DNNL_ARG_WEIGHTS,
    [LS_ARG_BIAS] = DNNL_ARG_BIAS,
    [LS_ARG_DST] = DNNL_ARG_DST,
    [LS_ARG_WORKSPACE] = DNNL_ARG_WORKSPACE,
    [LS_ARG_DIFF_SRC] = DNNL_ARG_DIFF_SRC,
    [LS_ARG_DIFF_DST] = DNNL_ARG_DIFF_DST,
    [LS_ARG_DIFF_WEIGHTS] = DNNL_ARG_DIFF_WEIGHTS,
    [LS_ARG_DIFF_BIAS] = DNNL_ARG_DIFF_BIAS,
    [LS_ARG_SCRATCHPAD] = DNNL_ARG_SCRATCHPAD,
};

/* A request on its way through creation: what to build, and how to say what it was when that fails. */
typedef struct request {
    const char *what;
    const ls_md *src, *weights, *dst;
    dnnl_status_t status;
} request;

static int describe_md(char *out, size_t size, const ls_md *m) {
    int n = 0;
    for (int i = 0; i < m->rank && n < (int)size; i++) {
        n += snprintf(out + n, size - (size_t)n, "%s%lld", i ? "x" : "", (long long)m->dim[i]);
    }
    return n;
}

static ls_status fail(const request *r, ls_err *err) {
    char src[80] = "", weights[80] = "", dst[80] = "";
    describe_md(src, sizeof src, r->src);
    if (r->weights != NULL) {
        describe_md(weights, sizeof weights, r->weights);
    }
    describe_md(dst, sizeof dst, r->dst);
    bool missing = r->status == dnnl_unimplemented || r->status == dnnl_invalid_arguments;
    return ls_fail(err, missing ? LS_EUNSUPPORTED : LS_ELIBRARY, "oneDNN %s, %s from %s%s%s to %s, %s: %s",
                   ls_dnn_version(), r->what, src, weights[0] ? " with weights " : "", weights, dst,
                   r->src->dtype == LS_BF16 ? "bf16" : "f32", ls_dnn_status_text(r->status));
}

static void add_arg(ls_prim *p, ls_prim_arg which, bool written) {
    const dnnl_memory_desc_t *md = which == LS_ARG_SCRATCHPAD
                                       ? dnnl_primitive_desc_query_md(p->pd, dnnl_query_scratchpad_md, 0)
                                       : dnnl_primitive_desc_query_md(p->pd, dnnl_query_exec_arg_md, dnnl_arg[which]);
    if (md == NULL || md->ndims == 0 || dnnl_memory_desc_get_size(md) == 0) {
        return;
    }
    LS_ASSERT(p->n_args < MAX_ARGS);
    int i = p->n_args;
    dnnl_memory_t memory;
    if (dnnl_memory_create(&memory, md, ls_dnn_engine(), DNNL_MEMORY_NONE) != dnnl_success) {
        return;
    }
    p->n_args++;
    p->which[i] = which;
    p->written[i] = written;
    p->n_bytes[i] = dnnl_memory_desc_get_size(md);
    p->exec[i] = (dnnl_exec_arg_t){dnnl_arg[which], memory};
}

/* The kernel of a descriptor, with its arguments: a list that ends with LS_ARG_COUNT; `writes` is a set of bits. Takes
 * over pd. */
static ls_status finish(ls_prim **out, request *r, dnnl_primitive_desc_t pd, int n_threads, const ls_prim_arg *args,
                        unsigned writes, ls_err *err) {
    ls_prim *p = ls_xcalloc(1, sizeof *p);
    p->pd = pd;
    p->n_threads = n_threads;
    r->status = dnnl_primitive_create(&p->prim, pd);
    if (r->status != dnnl_success) {
        ls_prim_destroy(p);
        return fail(r, err);
    }
    for (int i = 0; args[i] != LS_ARG_COUNT; i++) {
        add_arg(p, args[i], writes >> args[i] & 1u);
    }
    add_arg(p, LS_ARG_SCRATCHPAD, true);
    *out = p;
    return LS_OK;
}

/* What is done with a result: max(0, result), or it is added to what the destination holds. */
typedef enum { POST_NONE, POST_RELU, POST_ADD } post_op;

/* Descriptor of an operation: scratch memory is the caller's. */
static dnnl_primitive_desc_t describe(request *r, const void *op, post_op then, dnnl_primitive_desc_t hint) {
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t pd = NULL;
    r->status = dnnl_primitive_attr_create(&attr);
    if (r->status != dnnl_success) {
        return NULL;
    }
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    dnnl_post_ops_t post = NULL;
    if (then != POST_NONE && dnnl_post_ops_create(&post) == dnnl_success) {
        if (then == POST_RELU) {
            dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
        } else {
            dnnl_post_ops_append_sum(post, 1.0f);
        }
        dnnl_primitive_attr_set_post_ops(attr, post);
        dnnl_post_ops_destroy(post);
    }
    r->status = dnnl_primitive_desc_create(&pd, op, attr, ls_dnn_engine(), hint);
    dnnl_primitive_attr_destroy(attr);
    return r->status == dnnl_success ? pd : NULL;
}

/* ---- dense, convolution, transposed convolution ---- */

typedef union linear_op {
    dnnl_inner_product_desc_t dense;
    dnnl_convolution_desc_t conv; /* the same struct as a deconvolution's */
} linear_op;

typedef struct linear_mds {
    dnnl_memory_desc_t src, weights, bias, dst;
} linear_mds;

static dnnl_status_t init_dense(linear_op *op, const linear_mds *m, const dnnl_memory_desc_t *bias, ls_pass pass) {
    switch (pass) {
        case LS_PASS_BACKWARD_DATA:
            return dnnl_inner_product_backward_data_desc_init(&op->dense, &m->src, &m->weights, &m->dst);
        case LS_PASS_BACKWARD_WEIGHTS:
            return dnnl_inner_product_backward_weights_desc_init(&op->dense, &m->src, &m->weights, bias, &m->dst);
        default:
            return dnnl_inner_product_forward_desc_init(
                &op->dense, pass == LS_PASS_TRAINING ? dnnl_forward_training : dnnl_forward_inference, &m->src,
                &m->weights, bias, &m->dst);
    }
}

typedef struct window {
    dnnl_dims_t kernel, stride, dilates, before, after;
} window;

static dnnl_status_t init_conv(linear_op *op, const ls_linear_desc *d, const linear_mds *m,
                               const dnnl_memory_desc_t *bias, ls_pass pass) {
    window w;
    ls_dnn_dims(w.stride, d->stride, d->n_spatial);
    ls_dnn_dims(w.dilates, d->dilation, d->n_spatial);
    ls_dnn_dims(w.before, d->pad_before, d->n_spatial);
    ls_dnn_dims(w.after, d->pad_after, d->n_spatial);
    for (int i = 0; i < d->n_spatial; i++) {
        w.dilates[i]--;
    }
    const dnnl_alg_kind_t conv = dnnl_convolution_direct, deconv = dnnl_deconvolution_direct;
    dnnl_convolution_desc_t *o = &op->conv;
    switch (pass) {
        case LS_PASS_BACKWARD_DATA:
            return d->transposed ? dnnl_dilated_deconvolution_backward_data_desc_init(
                                       o, deconv, &m->src, &m->weights, &m->dst, w.stride, w.dilates, w.before, w.after)
                                 : dnnl_dilated_convolution_backward_data_desc_init(
                                       o, conv, &m->src, &m->weights, &m->dst, w.stride, w.dilates, w.before, w.after);
        case LS_PASS_BACKWARD_WEIGHTS:
            return d->transposed
                       ? dnnl_dilated_deconvolution_backward_weights_desc_init(
                             o, deconv, &m->src, &m->weights, bias, &m->dst, w.stride, w.dilates, w.before, w.after)
                       : dnnl_dilated_convolution_backward_weights_desc_init(
                             o, conv, &m->src, &m->weights, bias, &m->dst, w.stride, w.dilates, w.before, w.after);
        default: break;
    }
    dnnl_prop_kind_t prop = pass == LS_PASS_TRAINING ? dnnl_forward_training : dnnl_forward_inference;
    return d->transposed ? dnnl_dilated_deconvolution_forward_desc_init(o, prop, deconv, &m->src, &m->weights, bias,
                                                                        &m->dst, w.stride, w.dilates, w.before, w.after)
                         : dnnl_dilated_convolution_forward_desc_init(o, prop, conv, &m->src, &m->weights, bias,
                                                                      &m->dst, w.stride, w.dilates, w.before, w.after);
}

static dnnl_primitive_desc_t describe_linear(request *r, const ls_linear_desc *d, ls_pass pass,
                                             dnnl_primitive_desc_t hint) {
    linear_mds m = {ls_dnn_md(&d->src), ls_dnn_md(&d->weights), ls_dnn_md(&d->bias), ls_dnn_md(&d->dst)};
    const dnnl_memory_desc_t *bias = d->bias.rank ? &m.bias : NULL;
    linear_op op;
    r->status = d->n_spatial == 0 ? init_dense(&op, &m, bias, pass) : init_conv(&op, d, &m, bias, pass);
    return r->status == dnnl_success ? describe(r, &op, d->relu ? POST_RELU : POST_NONE, hint) : NULL;
}

ls_status ls_prim_linear(ls_prim **out, const ls_linear_desc *desc, ls_pass pass, int n_threads, ls_err *err) {
    static const ls_prim_arg args[3][6] = {
        {LS_ARG_SRC, LS_ARG_WEIGHTS, LS_ARG_BIAS, LS_ARG_DST, LS_ARG_COUNT},
        {LS_ARG_DIFF_DST, LS_ARG_WEIGHTS, LS_ARG_DIFF_SRC, LS_ARG_COUNT},
        {LS_ARG_SRC, LS_ARG_DIFF_DST, LS_ARG_DIFF_WEIGHTS, LS_ARG_DIFF_BIAS, LS_ARG_COUNT},
    };
    static const unsigned writes[3] = {1u << LS_ARG_DST, 1u << LS_ARG_DIFF_SRC,
                                       1u << LS_ARG_DIFF_WEIGHTS | 1u << LS_ARG_DIFF_BIAS};
    bool backward = pass == LS_PASS_BACKWARD_DATA || pass == LS_PASS_BACKWARD_WEIGHTS;
    int kind = !backward ? 0 : pass == LS_PASS_BACKWARD_DATA ? 1 : 2;
    request r = {desc->n_spatial == 0 ? "dense"
                 : desc->transposed   ? "transposed convolution"
                                      : "convolution",
                 &desc->src, &desc->weights, &desc->dst, dnnl_success};
    ls_dnn_set_threads(n_threads);
    dnnl_primitive_desc_t hint = NULL;
    if (backward) {
        /* A backward pass is created beside a forward pass, whose choice of layout does not bind it. */
        ls_linear_desc forward = *desc;
        forward.relu = false;
        forward.weights.any = true;
        forward.weights.layout = NULL;
        forward.weights.dtype = desc->src.dtype;
        hint = describe_linear(&r, &forward, LS_PASS_TRAINING, NULL);
        if (hint == NULL) {
            return fail(&r, err);
        }
    }
    dnnl_primitive_desc_t pd = describe_linear(&r, desc, pass, hint);
    if (hint != NULL) {
        dnnl_primitive_desc_destroy(hint);
    }
    if (pd == NULL) {
        return fail(&r, err);
    }
    LS_TRY(finish(out, &r, pd, n_threads, args[kind], writes[kind], err));
    const dnnl_memory_desc_t *form =
        dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, kind == 2 ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS);
    (*out)->weight_layout = ls_layout_intern(form, &desc->weights);
    return LS_OK;
}

/* ---- pooling ---- */

static dnnl_primitive_desc_t describe_pool(request *r, const ls_pool_desc *d, ls_pass pass,
                                           dnnl_primitive_desc_t hint) {
    dnnl_memory_desc_t src = ls_dnn_md(&d->src), dst = ls_dnn_md(&d->dst);
    dnnl_alg_kind_t alg = d->average ? dnnl_pooling_avg_exclude_padding : dnnl_pooling_max;
    dnnl_pooling_desc_t op;
    window w;
    ls_dnn_dims(w.kernel, d->kernel, d->n_spatial);
    ls_dnn_dims(w.stride, d->stride, d->n_spatial);
    ls_dnn_dims(w.before, d->pad_before, d->n_spatial);
    ls_dnn_dims(w.after, d->pad_after, d->n_spatial);
    if (pass == LS_PASS_BACKWARD_DATA) {
        r->status = dnnl_pooling_backward_desc_init(&op, alg, &src, &dst, w.stride, w.kernel, w.before, w.after);
    } else {
        r->status = dnnl_pooling_forward_desc_init(
            &op, pass == LS_PASS_TRAINING ? dnnl_forward_training : dnnl_forward_inference, alg, &src, &dst, w.stride,
            w.kernel, w.before, w.after);
    }
    return r->status == dnnl_success ? describe(r, &op, POST_NONE, hint) : NULL;
}

ls_status ls_prim_pool(ls_prim **out, const ls_pool_desc *desc, ls_pass pass, int n_threads, ls_err *err) {
    static const ls_prim_arg forward[] = {LS_ARG_SRC, LS_ARG_DST, LS_ARG_WORKSPACE, LS_ARG_COUNT};
    static const ls_prim_arg backward[] = {LS_ARG_DIFF_DST, LS_ARG_WORKSPACE, LS_ARG_DIFF_SRC, LS_ARG_COUNT};
    request r = {desc->average ? "average pooling" : "max pooling", &desc->src, NULL, &desc->dst, dnnl_success};
    ls_dnn_set_threads(n_threads);
    dnnl_primitive_desc_t hint = NULL;
    if (pass == LS_PASS_BACKWARD_DATA && (hint = describe_pool(&r, desc, LS_PASS_TRAINING, NULL)) == NULL) {
        return fail(&r, err);
    }
    dnnl_primitive_desc_t pd = describe_pool(&r, desc, pass, hint);
    if (hint != NULL) {
        dnnl_primitive_desc_destroy(hint);
    }
    if (pd == NULL) {
        return fail(&r, err);
    }
    bool back = pass == LS_PASS_BACKWARD_DATA;
    return finish(out, &r, pd, n_threads, back ? backward : forward,
                  back ? 1u << LS_ARG_DIFF_SRC : 1u << LS_ARG_DST | 1u << LS_ARG_WORKSPACE, err);
}

/* ---- products of activations ---- */

ls_status ls_prim_matmul(ls_prim **out, const ls_md *src, const ls_md *weights, const ls_md *dst, bool add,
                         int n_threads, ls_err *err) {
    static const ls_prim_arg args[] = {LS_ARG_SRC, LS_ARG_WEIGHTS, LS_ARG_DST, LS_ARG_COUNT};
    request r = {"product of matrices", src, weights, dst, dnnl_success};
    dnnl_memory_desc_t a = ls_dnn_md(src), b = ls_dnn_md(weights), c = ls_dnn_md(dst);
    dnnl_matmul_desc_t op;
    ls_dnn_set_threads(n_threads);
    r.status = dnnl_matmul_desc_init(&op, &a, &b, NULL, &c);
    dnnl_primitive_desc_t pd = r.status == dnnl_success ? describe(&r, &op, add ? POST_ADD : POST_NONE, NULL) : NULL;
    return pd == NULL ? fail(&r, err) : finish(out, &r, pd, n_threads, args, 1u << LS_ARG_DST, err);
}

/* ---- reorder ---- */

ls_status ls_prim_reorder(ls_prim **out, const ls_md *src, const ls_md *dst, int n_threads, ls_err *err) {
    static const ls_prim_arg args[] = {LS_ARG_SRC, LS_ARG_DST, LS_ARG_COUNT};
    request r = {"reorder", src, NULL, dst, dnnl_success};
    dnnl_memory_desc_t from = ls_dnn_md(src), to = ls_dnn_md(dst);
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t pd = NULL;
    ls_dnn_set_threads(n_threads);
    r.status = dnnl_primitive_attr_create(&attr);
    if (r.status == dnnl_success) {
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
        r.status = dnnl_reorder_primitive_desc_create(&pd, &from, ls_dnn_engine(), &to, ls_dnn_engine(), attr);
        dnnl_primitive_attr_destroy(attr);
    }
    if (r.status != dnnl_success) {
        return fail(&r, err);
    }
    return finish(out, &r, pd, n_threads, args, 1u << LS_ARG_DST, err);
}

/* ---- use ---- */

void ls_prim_destroy(void *prim) {
    ls_prim *p = prim;
    if (p == NULL) {
        return;
    }
    for (int i = 0; i < p->n_args; i++) {
        dnnl_memory_destroy(p->exec[i].memory);
    }
    if (p->prim != NULL) {
        dnnl_primitive_destroy(p->prim);
    }
    dnnl_primitive_desc_destroy(p->pd);
    free(p);
}

int ls_prim_n_args(const ls_prim *prim) {
    return prim->n_args;
}

ls_prim_arg ls_prim_arg_at(const ls_prim *prim, int i, bool *written, size_t *n_bytes) {
    *written = prim->written[i];
    *n_bytes = prim->n_bytes[i];
    return prim->which[i];
}

size_t ls_prim_arg_bytes(const ls_prim *prim, ls_prim_arg arg) {
    for (int i = 0; i < prim->n_args; i++) {
        if (prim->which[i] == arg) {
            return prim->n_bytes[i];
        }
    }
    return 0;
}

const ls_layout *ls_prim_weight_layout(const ls_prim *prim) {
    return prim->weight_layout;
}

const char *ls_prim_kernel(const ls_prim *prim) {
    const char *name = "";
    dnnl_primitive_desc_query(prim->pd, dnnl_query_impl_info_str, 0, (void *)&name);
    return name;
}

static void must_run(const ls_prim *prim, dnnl_status_t s) {
    if (s != dnnl_success) {
        fprintf(stderr, "lockstep: oneDNN kernel %s: %s\n", ls_prim_kernel(prim), ls_dnn_status_text(s));
        abort();
    }
}

void ls_prim_run(ls_prim *prim, void *const *pointers) {
    ls_dnn_stock_up();
    if (omp_get_max_threads() != prim->n_threads) {
        omp_set_num_threads(prim->n_threads);
    }
    dnnl_stream_t stream = ls_dnn_stream();
    for (int i = 0; i < prim->n_args; i++) {
        if (prim->bound[i] != pointers[i]) {
            must_run(prim, dnnl_memory_set_data_handle_v2(prim->exec[i].memory, pointers[i], stream));
            prim->bound[i] = pointers[i];
        }
    }
    must_run(prim, dnnl_primitive_execute(prim->prim, stream, prim->n_args, prim->exec));
}
