#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/dnn/dnn_private.h"

/* ---- engine, streams, threads ---- */

static dnnl_engine_t the_engine;
static pthread_key_t stream_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void must(dnnl_status_t s, const char *what) {
    if (s != dnnl_success) {
        fprintf(stderr, "lockstep: oneDNN: %s: %s\n", what, ls_dnn_status_text(s));
        abort();
    }
}

static void drop_stream(void *stream) {
    dnnl_stream_destroy(stream);
}

static void start(void) {
    ls_dnn_keep_small_objects();
    must(dnnl_engine_create(&the_engine, dnnl_cpu, 0), "no engine for this processor");
    LS_ASSERT(pthread_key_create(&stream_key, drop_stream) == 0);
}

dnnl_engine_t ls_dnn_engine(void) {
    pthread_once(&once, start);
    return the_engine;
}

dnnl_stream_t ls_dnn_stream(void) {
    pthread_once(&once, start);
    dnnl_stream_t stream = pthread_getspecific(stream_key);
    if (stream == NULL) {
        must(dnnl_stream_create(&stream, the_engine, dnnl_stream_default_flags), "no stream");
        LS_ASSERT(pthread_setspecific(stream_key, stream) == 0);
    }
    return stream;
}

void ls_dnn_set_threads(int n_threads) {
    omp_set_num_threads(n_threads > 0 ? n_threads : 1);
}

const char *ls_dnn_status_text(dnnl_status_t s) {
    switch (s) {
        case dnnl_success: return "success";
        case dnnl_out_of_memory: return "out of memory";
        case dnnl_invalid_arguments: return "invalid arguments";
        case dnnl_unimplemented: return "no kernel for this";
        case dnnl_runtime_error: return "runtime error";
        default: return "error";
    }
}

const char *ls_dnn_isa(void) {
    switch (dnnl_get_effective_cpu_isa()) {
        case dnnl_cpu_isa_sse41: return "sse41";
        case dnnl_cpu_isa_avx: return "avx";
        case dnnl_cpu_isa_avx2: return "avx2";
        case dnnl_cpu_isa_avx2_vnni: return "avx2_vnni";
        case dnnl_cpu_isa_avx512_mic: return "avx512_mic";
        case dnnl_cpu_isa_avx512_mic_4ops: return "avx512_mic_4ops";
        case dnnl_cpu_isa_avx512_core: return "avx512_core";
        case dnnl_cpu_isa_avx512_core_vnni: return "avx512_core_vnni";
        case dnnl_cpu_isa_avx512_core_bf16: return "avx512_core_bf16";
        case dnnl_cpu_isa_avx512_core_amx: return "avx512_core_amx";
        default: return "generic";
    }
}

bool ls_dnn_has_bf16(void) {
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return isa == dnnl_cpu_isa_avx512_core_bf16 || isa == dnnl_cpu_isa_avx512_core_amx;
}

const char *ls_dnn_version(void) {
    static char text[32];
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    const dnnl_version_t *v = dnnl_version();
    pthread_mutex_lock(&lock);
    snprintf(text, sizeof text, "%d.%d.%d", v->major, v->minor, v->patch);
    pthread_mutex_unlock(&lock);
    return text;
}

/* ---- descriptions ---- */

dnnl_data_type_t ls_dnn_type(ls_dtype t) {
    return t == LS_BF16 ? dnnl_bf16 : t == LS_I32 ? dnnl_s32 : dnnl_f32;
}

ls_md ls_md_channels_last(int64_t n, const ls_shape *shape, ls_dtype dtype) {
    int spatial = shape->rank - 1;
    LS_ASSERT(spatial >= 0 && shape->rank < LS_MAX_RANK);
    ls_md m = {.rank = shape->rank + 1, .dtype = dtype};
    m.dim[0] = n;
    m.dim[1] = shape->dim[spatial];
    m.stride[1] = 1;
    int64_t step = m.dim[1];
    for (int i = spatial - 1; i >= 0; i--) {
        m.dim[2 + i] = shape->dim[i];
        m.stride[2 + i] = step;
        step *= shape->dim[i];
    }
    m.stride[0] = step;
    return m;
}

ls_md ls_md_matrix(int64_t n, int64_t c, ls_dtype dtype) {
    return (ls_md){.rank = 2, .dim = {n, c}, .stride = {c, 1}, .dtype = dtype};
}

ls_md ls_md_vector(int64_t n, ls_dtype dtype) {
    return (ls_md){.rank = 1, .dim = {n}, .stride = {1}, .dtype = dtype};
}

ls_md ls_md_in(ls_md m, const ls_layout *layout, ls_dtype dtype) {
    m.any = false;
    m.layout = layout;
    m.dtype = dtype;
    return m;
}

void ls_dnn_dims(dnnl_dims_t out, const int64_t *values, int n) {
    memset(out, 0, sizeof(dnnl_dims_t));
    memcpy(out, values, (size_t)n * sizeof *values);
}

dnnl_memory_desc_t ls_dnn_keras_md(const ls_md *m) {
    dnnl_memory_desc_t d;
    dnnl_dims_t dims, strides;
    ls_dnn_dims(dims, m->dim, m->rank);
    ls_dnn_dims(strides, m->stride, m->rank);
    must(dnnl_memory_desc_init_by_strides(&d, m->rank, dims, ls_dnn_type(m->dtype), strides), "memory description");
    return d;
}

dnnl_memory_desc_t ls_dnn_md(const ls_md *m) {
    dnnl_memory_desc_t d;
    if (m->rank == 0) {
        memset(&d, 0, sizeof d);
        return d;
    }
    if (m->any) {
        dnnl_dims_t dims;
        ls_dnn_dims(dims, m->dim, m->rank);
        must(dnnl_memory_desc_init_by_tag(&d, m->rank, dims, ls_dnn_type(m->dtype), dnnl_format_tag_any),
             "memory description");
        return d;
    }
    if (m->layout != NULL) {
        d = m->layout->kernel;
        d.data_type = ls_dnn_type(m->dtype);
        return d;
    }
    return ls_dnn_keras_md(m);
}

/* ---- layouts ---- */

static struct ls_layout *layouts; /* every one there is; a process has a few dozen */
static pthread_mutex_t layouts_lock = PTHREAD_MUTEX_INITIALIZER;

const ls_layout *ls_layout_intern(const dnnl_memory_desc_t *form, const ls_md *keras) {
    dnnl_memory_desc_t kernel = *form;
    kernel.data_type = dnnl_f32;
    /* What a quantised kernel wants besides the weights (compensation) does not belong to the layout. */
    memset(&kernel.extra, 0, sizeof kernel.extra);
    ls_md plain_md = *keras;
    plain_md.dtype = LS_F32;
    dnnl_memory_desc_t plain = ls_dnn_keras_md(&plain_md);
    if (dnnl_memory_desc_equal(&kernel, &plain)) {
        return NULL;
    }
    pthread_mutex_lock(&layouts_lock);
    struct ls_layout *l = layouts;
    while (l != NULL && !(dnnl_memory_desc_equal(&l->kernel, &kernel) && dnnl_memory_desc_equal(&l->keras, &plain))) {
        l = l->next;
    }
    if (l == NULL) {
        l = ls_xcalloc(1, sizeof *l);
        l->kernel = kernel;
        l->keras = plain;
        l->n_elems = dnnl_memory_desc_get_size(&kernel) / sizeof(float);
        l->next = layouts;
        layouts = l;
    }
    pthread_mutex_unlock(&layouts_lock);
    return l;
}

size_t ls_layout_elems(const ls_layout *layout) {
    return layout->n_elems;
}

bool ls_layout_equal(const ls_layout *a, const ls_layout *b) {
    return a == b;
}

bool ls_layout_panels(const ls_layout *layout, size_t *rows, size_t *cols, size_t *width) {
    const dnnl_memory_desc_t *m = &layout->kernel; /* (units, in) */
    const dnnl_blocking_desc_t *b = &m->format_desc.blocking;
    if (m->ndims != 2 || m->format_kind != dnnl_blocked || m->offset0 != 0 || b->inner_nblks != 2 ||
        b->inner_idxs[0] != 1 || b->inner_idxs[1] != 0) {
        return false;
    }
    const dnnl_dim_t units = b->inner_blks[1];
    if (b->strides[1] != b->inner_blks[0] * units || b->strides[0] != m->padded_dims[1] * units) {
        return false;
    }
    *rows = (size_t)m->padded_dims[1];
    *cols = (size_t)m->padded_dims[0];
    *width = (size_t)units;
    return true;
}

static dnnl_primitive_t new_reorder(const dnnl_memory_desc_t *from_md, const dnnl_memory_desc_t *to_md) {
    dnnl_engine_t engine = ls_dnn_engine();
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t prim;
    must(dnnl_reorder_primitive_desc_create(&pd, from_md, engine, to_md, engine, NULL), "reorder of a weight");
    must(dnnl_primitive_create(&prim, pd), "reorder of a weight");
    dnnl_primitive_desc_destroy(pd);
    return prim;
}

static dnnl_memory_t new_memory(const dnnl_memory_desc_t *md, void *at) {
    dnnl_memory_t memory;
    must(dnnl_memory_create(&memory, md, ls_dnn_engine(), at), "reorder of a weight");
    return memory;
}

static void run_reorder(dnnl_primitive_t prim, dnnl_memory_t from, dnnl_memory_t to) {
    dnnl_exec_arg_t args[2] = {{DNNL_ARG_SRC, from}, {DNNL_ARG_DST, to}};
    must(dnnl_primitive_execute(prim, ls_dnn_stream(), 2, args), "reorder of a weight");
    must(dnnl_stream_wait(ls_dnn_stream()), "reorder of a weight");
}

void ls_layout_to_keras(const ls_layout *layout, const float *from, float *keras_order) {
    struct ls_layout *l = (struct ls_layout *)layout; /* what is kept in it does not change what it is */
    pthread_mutex_lock(&layouts_lock);
    if (l->to_keras == NULL) {
        l->to_keras = new_reorder(&l->kernel, &l->keras);
        l->from = new_memory(&l->kernel, NULL);
        l->to = new_memory(&l->keras, NULL);
    }
    must(dnnl_memory_set_data_handle(l->from, (void *)from), "reorder of a weight");
    must(dnnl_memory_set_data_handle(l->to, keras_order), "reorder of a weight");
    run_reorder(l->to_keras, l->from, l->to);
    pthread_mutex_unlock(&layouts_lock);
}

void ls_layout_from_keras(const ls_layout *layout, const float *keras_order, float *to) {
    dnnl_primitive_t prim = new_reorder(&layout->keras, &layout->kernel);
    dnnl_memory_t src = new_memory(&layout->keras, (void *)keras_order), dst = new_memory(&layout->kernel, to);
    run_reorder(prim, src, dst);
    dnnl_memory_destroy(src);
    dnnl_memory_destroy(dst);
    dnnl_primitive_destroy(prim);
}
