#include "worker/plan/failure.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int any; /* read without the lock: almost always 0 */
static ls_err first;

void ls_failure_report(ls_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&lock);
    if (!atomic_load(&any)) {
        first = (ls_err)LS_ERR_INIT;
        ls_vfail(&first, status, format, args);
        atomic_store(&any, 1);
    }
    pthread_mutex_unlock(&lock);
    va_end(args);
}

ls_status ls_failure_take(ls_err *err) {
    if (!atomic_load(&any)) {
        return LS_OK;
    }
    pthread_mutex_lock(&lock);
    *err = first;
    atomic_store(&any, 0);
    pthread_mutex_unlock(&lock);
    return err->status;
}
