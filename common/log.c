#include "common/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    ls_log_level level;
    int rank, n_ranks;
    char host[64];
} sink = {PTHREAD_MUTEX_INITIALIZER, LS_LOG_INFO, 0, 1, ""};

void ls_log_set_level(ls_log_level level) {
    sink.level = level;
}

void ls_log_set_rank(int rank, int n_ranks, const char *host) {
    pthread_mutex_lock(&sink.lock);
    sink.rank = rank;
    sink.n_ranks = n_ranks;
    snprintf(sink.host, sizeof sink.host, "%s", host != NULL ? host : "");
    pthread_mutex_unlock(&sink.lock);
}

void ls_log(ls_log_level level, const char *format, ...) {
    if (level > sink.level) {
        return;
    }
    static const char *const words[] = {"error: ", "warning: ", "", "debug: "};
    char line[2048];
    size_t used = 0;
    pthread_mutex_lock(&sink.lock);
    if (sink.n_ranks > 1 && (sink.rank != 0 || level == LS_LOG_ERROR)) {
        used = (size_t)snprintf(line, sizeof line, "lockstep: [rank %d on %s] %s", sink.rank, sink.host, words[level]);
    } else {
        used = (size_t)snprintf(line, sizeof line, "lockstep: %s", words[level]);
    }
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    used += more > 0 ? (size_t)more : 0;
    if (used > sizeof line - 2) {
        used = sizeof line - 2;
    }
    line[used] = '\n';
    line[used + 1] = '\0';
    fwrite(line, 1, used + 1, stderr); /* one write, so that lines of several ranks do not mix */
    pthread_mutex_unlock(&sink.lock);
}
