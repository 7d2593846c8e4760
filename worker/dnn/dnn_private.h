/* What the files of the seam share. */
#ifndef LS_WORKER_DNN_PRIVATE_H
#define LS_WORKER_DNN_PRIVATE_H

#include <dnnl.h>
#include <omp.h>

#include "worker/dnn/dnn.h"

struct ls_layout {
    dnnl_memory_desc_t kernel; /* f32, as the kernel wants it */
    dnnl_memory_desc_t keras;  /* f32, the same axes in Keras's order */
    size_t n_elems;
    struct ls_layout *next;
};

/* The processor, and a stream for the calling thread; both live as long as the process (the thread). */
dnnl_engine_t ls_dnn_engine(void);
dnnl_stream_t ls_dnn_stream(void);

/* See dnn_new.c; called once. */
void ls_dnn_keep_small_objects(void);

dnnl_data_type_t ls_dnn_type(ls_dtype t);
/* any: with freedom of layout when the description allows it. */
dnnl_memory_desc_t ls_dnn_md(const ls_md *m);
dnnl_memory_desc_t ls_dnn_keras_md(const ls_md *m);

/* n values as the fixed-size array that the library reads. */
void ls_dnn_dims(dnnl_dims_t out, const int64_t *values, int n);

/* The shared layout that has this form; NULL when it is Keras's order without padding. */
const ls_layout *ls_layout_intern(const dnnl_memory_desc_t *form, const ls_md *keras);

const char *ls_dnn_status_text(dnnl_status_t s);

#endif
