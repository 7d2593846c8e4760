#include "trainer/fit/pattern.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "trainer/fit/number.h"

/* "02d", ".2f", "8.3e", "": checked, since it goes into a printf format. */
static bool split_format(const char *spec, char *flags, size_t size, char *type) {
    size_t n = 0;
    const char *p = spec;
    while (isdigit((unsigned char)*p)) {
        p++;
    }
    if (*p == '.') {
        p++;
        while (isdigit((unsigned char)*p)) {
            p++;
        }
    }
    n = (size_t)(p - spec);
    *type = *p;
    if (n >= size || n > 8 || (*p != '\0' && (strchr("dfeg", *p) == NULL || p[1] != '\0'))) {
        return false;
    }
    memcpy(flags, spec, n);
    flags[n] = '\0';
    return true;
}

static ls_status fill_hole(const char *pattern, const char *hole, int64_t epoch, int64_t batch, const ls_logs *logs,
                           char *out, size_t size, ls_err *err) {
    char name[LS_LOGS_NAME], flags[16] = "", format[32], type = '\0';
    size_t n = strcspn(hole, ":");
    snprintf(name, sizeof name, "%.*s", (int)n, hole);
    if (hole[n] == ':' && !split_format(hole + n + 1, flags, sizeof flags, &type)) {
        return ls_fail(err, LS_EINPUT, "\"%s\": \"%s\" is not a format; write, for example, {epoch:02d} or {loss:.2f}",
                       pattern, hole + n + 1);
    }
    bool is_int = strcmp(name, "epoch") == 0 || (batch > 0 && strcmp(name, "batch") == 0);
    const double *value = ls_logs_find(logs, name);
    if (!is_int && value == NULL) {
        char names[700];
        return ls_fail(err, LS_EINPUT, "\"%s\": there is no \"%s\" to put in; there are: epoch%s%s%s", pattern, name,
                       batch > 0 ? ", batch" : "", logs->n ? ", " : "", ls_logs_names(logs, names, sizeof names));
    }
    if (is_int && (type == 'd' || type == '\0')) {
        snprintf(format, sizeof format, "%%%slld", flags);
        snprintf(out, size, format, (long long)(name[0] == 'e' ? epoch : batch));
        return LS_OK;
    }
    if (!is_int && type == 'd') {
        return ls_fail(err, LS_EINPUT, "\"%s\": \"%s\" is not a whole number; write {%s:.2f}", pattern, name, name);
    }
    double x = is_int ? (double)(name[0] == 'e' ? epoch : batch) : *value;
    if (type == '\0' && flags[0] == '\0') {
        ls_number_text(x, out, size);
        return LS_OK;
    }
    snprintf(format, sizeof format, "%%%s%c", flags, type ? type : 'g');
    snprintf(out, size, format, x);
    return LS_OK;
}

ls_status ls_pattern_fill(const char *pattern, int64_t epoch, int64_t batch, const ls_logs *logs, char *out,
                          size_t size, ls_err *err) {
    size_t used = 0;
    for (const char *p = pattern; *p != '\0';) {
        char piece[400] = {*p, '\0'};
        if ((*p == '{' || *p == '}') && p[1] == *p) {
            p += 2;
        } else if (*p == '{') {
            size_t n = strcspn(p + 1, "}");
            char hole[200];
            if (p[n + 1] != '}' || n >= sizeof hole) {
                return ls_fail(err, LS_EINPUT, "\"%s\": a \"{\" without its \"}\"", pattern);
            }
            snprintf(hole, sizeof hole, "%.*s", (int)n, p + 1);
            LS_TRY(fill_hole(pattern, hole, epoch, batch, logs, piece, sizeof piece, err));
            p += n + 2;
        } else {
            p++;
        }
        int n = snprintf(out + used, size - used, "%s", piece);
        if (n < 0 || (size_t)n >= size - used) {
            return ls_fail(err, LS_EINPUT, "\"%s\": the name becomes longer than %zu characters", pattern, size - 1);
        }
        used += (size_t)n;
    }
    if (size > 0) {
        out[used] = '\0';
    }
    return LS_OK;
}
