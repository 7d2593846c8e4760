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
    /* The way to Keras's order, made when it is first gone: checkpoints go it again and again. Under the lock. */
    dnnl_primitive_t to_keras;
    dnnl_memory_t from, to;
    struct ls_layout *next;
};

/* The processor, and a stream for the calling thread; both live as long as the process (the thread). */
dnnl_engine_t ls_dnn_engine(void);
dnnl_stream_t ls_dnn_stream(void);

/* Whether dnn_new.c replaces C++'s operator new and delete; GCC and Clang tell of a sanitizer in different ways. */
#if !defined(__GLIBC__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LS_DNN_KEEPS_SMALL_OBJECTS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define LS_DNN_KEEPS_SMALL_OBJECTS 0
#endif
#endif
#ifndef LS_DNN_KEEPS_SMALL_OBJECTS
#define LS_DNN_KEEPS_SMALL_OBJECTS 1
#endif

/* See dnn_new.c; called once. */
void ls_dnn_keep_small_objects(void);
/* Before a kernel runs: small objects for the calling thread's steps, the first time. */
void ls_dnn_stock_up(void);
#if LS_DNN_KEEPS_SMALL_OBJECTS
/* C++'s, by the names that a linker knows them by: operator new, operator delete, and that with a size. */
void *ls_operator_new(size_t n_bytes) __asm__("_Znwm");
void ls_operator_delete(void *p) __asm__("_ZdlPv");
void ls_operator_delete_sized(void *p, size_t n_bytes) __asm__("_ZdlPvm");
#endif

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
