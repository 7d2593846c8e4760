#include "trainer/daemon/loop.h"

#include <stdlib.h>
#include <uv.h>

#include "common/memory.h"

struct ls_loop {
    uv_loop_t uv;
};

/* What hangs on a handle's data pointer. The handle comes first, so that one free() serves all kinds. */
struct ls_loop_watch {
    union {
        uv_handle_t handle;
        uv_timer_t timer;
        uv_signal_t signal;
        uv_poll_t poll;
        uv_process_t process;
    } uv;
    ls_loop_fn fn;
    ls_loop_signal_fn signal_fn;
    ls_loop_exit_fn exit_fn;
    void *context;
};

static void free_watch(uv_handle_t *handle) {
    free(handle->data);
}

static struct ls_loop_watch *new_watch(void *context) {
    struct ls_loop_watch *watch = ls_xcalloc(1, sizeof *watch);
    watch->context = context;
    return watch;
}

ls_loop *ls_loop_create(void) {
    ls_loop *loop = ls_xcalloc(1, sizeof *loop);
    LS_ASSERT(uv_loop_init(&loop->uv) == 0);
    return loop;
}

/* Handles of the HTTP library carry its own data and are closed by it. */
static void close_ours(uv_handle_t *handle, void *context) {
    (void)context;
    struct ls_loop_watch *watch = handle->data;
    if (watch != NULL && (void *)watch == (void *)handle && !uv_is_closing(handle)) {
        uv_close(handle, free_watch);
    }
}

void ls_loop_destroy(ls_loop *loop) {
    if (loop == NULL) {
        return;
    }
    uv_walk(&loop->uv, close_ours, NULL);
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    (void)uv_loop_close(&loop->uv);
    free(loop);
}

void ls_loop_run(ls_loop *loop) {
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void ls_loop_stop(ls_loop *loop) {
    uv_stop(&loop->uv);
}

void ls_loop_turn(ls_loop *loop) {
    uv_run(&loop->uv, UV_RUN_NOWAIT);
}

void *ls_loop_native(ls_loop *loop) {
    return &loop->uv;
}

static void on_timer(uv_timer_t *timer) {
    struct ls_loop_watch *watch = timer->data;
    watch->fn(watch->context);
}

ls_loop_watch *ls_loop_every(ls_loop *loop, unsigned period_ms, ls_loop_fn fn, void *context) {
    struct ls_loop_watch *watch = new_watch(context);
    watch->fn = fn;
    LS_ASSERT(uv_timer_init(&loop->uv, &watch->uv.timer) == 0);
    watch->uv.handle.data = watch;
    LS_ASSERT(uv_timer_start(&watch->uv.timer, on_timer, period_ms, period_ms) == 0);
    return watch;
}

static void on_signal(uv_signal_t *handle, int signal_number) {
    struct ls_loop_watch *watch = handle->data;
    watch->signal_fn(watch->context, signal_number);
}

void ls_loop_on_signal(ls_loop *loop, int signal_number, ls_loop_signal_fn fn, void *context) {
    struct ls_loop_watch *watch = new_watch(context);
    watch->signal_fn = fn;
    LS_ASSERT(uv_signal_init(&loop->uv, &watch->uv.signal) == 0);
    watch->uv.handle.data = watch;
    LS_ASSERT(uv_signal_start(&watch->uv.signal, on_signal, signal_number) == 0);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)status; /* an error shows when the owner reads */
    (void)events;
    struct ls_loop_watch *watch = poll->data;
    watch->fn(watch->context);
}

ls_loop_watch *ls_loop_watch_fd(ls_loop *loop, int fd, ls_loop_fn fn, void *context) {
    struct ls_loop_watch *watch = new_watch(context);
    watch->fn = fn;
    if (uv_poll_init(&loop->uv, &watch->uv.poll, fd) != 0) {
        free(watch);
        return NULL;
    }
    watch->uv.handle.data = watch;
    if (uv_poll_start(&watch->uv.poll, UV_READABLE | UV_DISCONNECT, on_poll) != 0) {
        uv_close(&watch->uv.handle, free_watch);
        return NULL;
    }
    return watch;
}

void ls_loop_unwatch(ls_loop_watch *watch) {
    if (watch != NULL) {
        uv_close(&watch->uv.handle, free_watch);
    }
}

static void on_exit_of_child(uv_process_t *process, int64_t exit_code, int signal_number) {
    struct ls_loop_watch *watch = process->data;
    int pid = process->pid;
    ls_loop_exit_fn fn = watch->exit_fn;
    void *context = watch->context;
    uv_close(&watch->uv.handle, free_watch);
    fn(context, pid, (int)exit_code, signal_number);
}

ls_status ls_loop_spawn(ls_loop *loop, char **argv, const char *folder, int output_fd, ls_loop_exit_fn fn,
                        void *context, int *pid, ls_err *err) {
    struct ls_loop_watch *watch = new_watch(context);
    watch->exit_fn = fn;
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = output_fd},
        {.flags = UV_INHERIT_FD, .data.fd = output_fd},
    };
    uv_process_options_t options = {
        .exit_cb = on_exit_of_child,
        .file = argv[0],
        .args = argv,
        .cwd = folder,
        .flags = UV_PROCESS_DETACHED,
        .stdio = stdio,
        .stdio_count = 3,
    };
    int failure = uv_spawn(&loop->uv, &watch->uv.process, &options);
    watch->uv.handle.data = watch;
    if (failure != 0) {
        uv_close(&watch->uv.handle, free_watch);
        return ls_fail(err, LS_EIO, "%s cannot be started in %s: %s", argv[0], folder, uv_strerror(failure));
    }
    *pid = watch->uv.process.pid;
    return LS_OK;
}
