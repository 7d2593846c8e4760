#include "worker/ops/relu_mask.h"

#include "common/memory.h"

/* dz = dy where y > 0, else 0. */
typedef struct mask_state {
    size_t n;
    ls_dtype dtype;
} mask_state;

typedef struct mask_work {
    const void *y, *dy;
    void *dz;
    ls_dtype dtype;
} mask_work;

static void mask_range(void *context, size_t begin, size_t end) {
    const mask_work *m = context;
    if (m->dtype == LS_F32) {
        const float *y = m->y, *dy = m->dy;
        float *dz = m->dz;
        for (size_t i = begin; i < end; i++) {
            dz[i] = y[i] > 0.0f ? dy[i] : 0.0f;
        }
    } else {
        const int16_t *y = m->y, *dy = m->dy; /* the sign of a bfloat16 is that of the integer; -0 is below 0 */
        int16_t *dz = m->dz;
        for (size_t i = begin; i < end; i++) {
            dz[i] = y[i] > 0 ? dy[i] : 0;
        }
    }
}

static void mask_kernel(const ls_call *call, const ls_run *run) {
    const mask_state *s = call->state;
    mask_work m = {call->args[0].p, call->args[1].p, call->args[2].p, s->dtype};
    ls_ops_parallel(run->n_threads, s->n, LS_CHUNK, mask_range, &m);
}

ls_ref ls_relu_mask(ls_plan *p, const ls_node *node, const ls_tensor *t, ls_ref dst, ls_ref ddst, ls_dtype dtype) {
    mask_state *s = ls_xcalloc(1, sizeof *s);
    s->n = ls_plan_elems(p, t);
    s->dtype = dtype;
    bool in_place = ls_plan_dout_exclusive(p, t);
    ls_ref to = in_place ? ddst : ls_plan_temp(p, s->n * ls_dtype_bytes(dtype));
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "relu.backward", node, mask_kernel, s, NULL);
    ls_call_arg(c, LS_READ, dst);
    ls_call_arg(c, in_place ? LS_READWRITE : LS_READ, ddst);
    ls_call_arg(c, LS_WRITE, to);
    return to;
}

bool ls_relu_is_masked_by_pool(const ls_plan *p, const ls_tensor *t) {
    const ls_node *relu = t->producer;
    if (relu == NULL || !ls_act_is_plain_relu(relu) || t->n_consumers != 1 || t->consumers[0] == NULL) {
        return false;
    }
    const ls_node *maker = relu->in[0]->producer, *reader = t->consumers[0];
    return maker != NULL && (maker->op == &ls_op_dense || maker->op == &ls_op_conv) &&
           ls_plan_fused(p, maker) == relu && reader->op == &ls_op_pool &&
           !((const ls_pool_attr *)reader->attr)->average;
}
