#include "worker/ops/conv_winograd.h"

#include "common/memory.h"
#include "worker/ops/linear.h"

/* Of direct convolutions with AVX512-BF16, measured against f32. */
static const double BF16_SPEED = 2.0;

/* How its gradients are computed: in bfloat16 mode, by products of bf16. These round values that the transforms then
 * magnify, to an error of 1.1 % of a result against 0.17 % of direct convolutions in bf16. Backward nobody sees that:
 * the gradients of a whole network (six convolutions with batch normalization, before and after an epoch) are as far
 * from those in f32 as with direct convolutions, 4 to 6 %, which is what rounded activations amount to. Forward it
 * would be 7 to 9 %: the outputs stay with products of f32. */
static ls_wino gradients_of(const ls_wino *w) {
    ls_wino g = *w;
    const struct ls_wino_kernels *half = ls_wino_kernels_for(ls_dnn_isa(), true);
    if (w->dtype == LS_BF16 && half != NULL) {
        g.kernels = half;
    }
    return g;
}

bool ls_conv_winograd_takes(const ls_plan *p, const ls_node *node, ls_wino *w) {
    const ls_conv_attr *a = node->attr;
    if (a->n_spatial != 2 || a->groups > 1 || a->depthwise || a->transposed || ls_plan_direct_convolution(p)) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        if (a->kernel[i] != 3 || a->stride[i] != 1 || a->dilation[i] != 1 || a->pad_before[i] > 2 ||
            a->pad_after[i] > 2) {
            return false;
        }
    }
    const ls_shape *in = &node->in[0]->shape, *out = &node->out[0]->shape;
    *w = (ls_wino){.n = ls_plan_rows(p, node->in[0]),
                   .in_h = in->dim[0],
                   .in_w = in->dim[1],
                   .in_c = in->dim[2],
                   .out_h = out->dim[0],
                   .out_w = out->dim[1],
                   .out_c = out->dim[2],
                   .pad_top = a->pad_before[0],
                   .pad_left = a->pad_before[1],
                   .dtype = ls_plan_compute(p),
                   .kernels = ls_wino_kernels_for(ls_dnn_isa(), false)};
    if (w->kernels == NULL) {
        return false;
    }
    ls_wino backward = gradients_of(w);
    return ls_wino_pays(w, &backward, w->dtype == LS_BF16 && ls_dnn_has_bf16() ? BF16_SPEED : 1.0);
}

typedef struct winograd_state {
    ls_wino w;
    int n_threads; /* that there is scratch memory for */
    bool mirrored, relu;
} winograd_state;

static int threads_of(const winograd_state *s, const ls_run *run) {
    return run->n_threads < s->n_threads ? run->n_threads : s->n_threads;
}

static winograd_state *new_state(const ls_plan *p, const ls_wino *w, bool mirrored, bool relu) {
    winograd_state *s = ls_xcalloc(1, sizeof *s);
    *s = (winograd_state){*w, ls_plan_threads(p) > 0 ? ls_plan_threads(p) : 1, mirrored, relu};
    return s;
}

static void weights_kernel(const ls_call *call, const ls_run *run) {
    const winograd_state *s = call->state;
    ls_wino_weights(&s->w, threads_of(s, run), call->args[0].p, s->mirrored, call->args[1].p);
}

static void apply_kernel(const ls_call *call, const ls_run *run) {
    const winograd_state *s = call->state;
    const ls_arg *a = call->args;
    ls_wino_apply(&s->w, threads_of(s, run), a[0].p, a[1].p, a[2].p, s->relu, a[3].p, a[4].p);
}

static void gradient_kernel(const ls_call *call, const ls_run *run) {
    const winograd_state *s = call->state;
    const ls_arg *a = call->args;
    ls_wino_gradient(&s->w, threads_of(s, run), a[0].p, a[1].p, a[2].p, a[3].p, a[4].p);
}

/* The weights transformed, once a step. */
static ls_status transformed_weights(ls_plan *p, const ls_node *node, const ls_wino *w, const ls_md *keras,
                                     bool mirrored, ls_ref *out, ls_err *err) {
    ls_ref weights;
    LS_TRY(ls_ops_weight(p, node, node->weights[0], keras, NULL, LS_F32, &weights, err));
    *out = ls_plan_persistent(p, ls_wino_weight_elems(w) * sizeof(float));
    ls_call *c = ls_plan_emit(p, LS_PHASE_PREPARE, "winograd.weights", node, weights_kernel,
                              new_state(p, w, mirrored, false), NULL);
    ls_call_arg(c, LS_READ, weights);
    ls_call_arg(c, LS_WRITE, *out);
    return LS_OK;
}

typedef struct operands {
    ls_ref src, weights, bias, dst;
} operands;

static void emit_apply(ls_plan *p, ls_phase phase, const char *label, const ls_node *node, const ls_wino *w,
                       const operands *o, bool relu, double flops) {
    winograd_state *s = new_state(p, w, false, relu);
    ls_ref scratch = ls_plan_temp(p, ls_wino_apply_bytes(w, s->n_threads));
    ls_call *c = ls_plan_emit(p, phase, label, node, apply_kernel, s, NULL);
    c->flops = flops;
    ls_call_arg(c, LS_READ, o->src);
    ls_call_arg(c, LS_READ, o->weights);
    ls_call_arg(c, LS_READ, o->bias);
    ls_call_arg(c, LS_WRITE, o->dst);
    ls_call_arg(c, LS_WRITE, scratch);
}

ls_status ls_conv_winograd_forward(ls_plan *p, const ls_node *node, const ls_wino *w, const ls_md *keras, double flops,
                                   ls_err *err) {
    operands o = {0};
    LS_TRY(transformed_weights(p, node, w, keras, false, &o.weights, err));
    if (node->n_weights > 1) {
        ls_plan_weight_layout(p, node->weights[1], NULL);
        o.bias = ls_plan_weight(p, node->weights[1]);
    }
    const ls_linear_note *note = ls_linear_values(p, node);
    o.src = note->src;
    o.dst = note->dst;
    emit_apply(p, LS_PHASE_FORWARD, "winograd.forward", node, w, &o, ls_plan_fused(p, node) != NULL, flops);
    return LS_OK;
}

static ls_status backward_weights(ls_plan *p, const ls_node *node, const ls_wino *w, const ls_md *keras, double flops,
                                  ls_ref src, ls_ref dz, ls_err *err) {
    ls_ops_dweight dweight;
    LS_TRY(ls_ops_dweight_begin(&dweight, p, node->weights[0], keras, NULL, err));
    ls_ref dbias = {0};
    if (node->n_weights > 1) {
        dbias = ls_plan_dweight(p, node->weights[1]);
    }
    winograd_state *s = new_state(p, w, false, false);
    ls_ref scratch = ls_plan_temp(p, ls_wino_gradient_bytes(w, s->n_threads));
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "winograd.backward_weights", node, gradient_kernel, s, NULL);
    c->flops = flops;
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_READ, dz);
    ls_call_arg(c, LS_WRITE, dweight.made);
    ls_call_arg(c, LS_WRITE, dbias);
    ls_call_arg(c, LS_WRITE, scratch);
    ls_ops_dweight_end(&dweight, p, node);
    return LS_OK;
}

ls_status ls_conv_winograd_backward(ls_plan *p, const ls_node *node, const ls_wino *w, const ls_md *keras, double flops,
                                    ls_err *err) {
    const ls_linear_note *note = ls_plan_recall(p, node);
    ls_ref dz = ls_linear_dz(p, node);
    ls_wino g = gradients_of(w);
    if (ls_ref_some(dz) && node->weights[0]->trainable) {
        LS_TRY(backward_weights(p, node, &g, keras, flops, note->src, dz, err));
    }
    if (ls_ref_some(dz) && ls_plan_wants_grad(p, node->in[0])) {
        ls_wino mirror = ls_wino_mirror(&g);
        operands o = {.src = dz};
        LS_TRY(transformed_weights(p, node, &mirror, keras, true, &o.weights, err));
        o.dst = ls_plan_din(p, node->in[0], ls_plan_compute(p));
        emit_apply(p, LS_PHASE_BACKWARD, "winograd.backward_data", node, &mirror, &o, false, flops);
    }
    return LS_OK;
}
