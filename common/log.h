/*
 * The log: lines on standard error, "lockstep: text", prefixed with the rank where there is more than one.
 * Thread-safe; never blocks on anything but standard error.
 */
#ifndef LS_COMMON_LOG_H
#define LS_COMMON_LOG_H

typedef enum { LS_LOG_ERROR, LS_LOG_WARNING, LS_LOG_INFO, LS_LOG_DEBUG } ls_log_level;

/* Lines above the level are dropped. Default LS_LOG_INFO. */
void ls_log_set_level(ls_log_level level);

/* The identity that prefixes lines; n_ranks <= 1 for none. host is copied. */
void ls_log_set_rank(int rank, int n_ranks, const char *host);

void ls_log(ls_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define ls_error(...) ls_log(LS_LOG_ERROR, __VA_ARGS__)
#define ls_warn(...) ls_log(LS_LOG_WARNING, __VA_ARGS__)
#define ls_info(...) ls_log(LS_LOG_INFO, __VA_ARGS__)
#define ls_debug(...) ls_log(LS_LOG_DEBUG, __VA_ARGS__)

#endif
