#include "trainer/cli/option.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ls_status ls_option_int(const char *option, const char *text, int64_t min, int64_t max, int64_t *out, ls_err *err) {
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || n < min || n > max) {
        return ls_fail(err, LS_EINPUT, "%s %s: a whole number from %" PRId64 " to %" PRId64 " was expected", option,
                       text, min, max);
    }
    *out = n;
    return LS_OK;
}

ls_status ls_option_double(const char *option, const char *text, double min, double max, double *out, ls_err *err) {
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end != '\0' || !(x >= min && x <= max)) {
        return ls_fail(err, LS_EINPUT, "%s %s: a number from %g to %g was expected", option, text, min, max);
    }
    *out = x;
    return LS_OK;
}

ls_status ls_option_choice(const char *option, const char *text, const char *const *words, int n_words, int *out,
                           ls_err *err) {
    char expected[256] = "";
    for (int i = 0; i < n_words; i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i;
            return LS_OK;
        }
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    return ls_fail(err, LS_EINPUT, "%s %s: one of %s was expected", option, text, expected);
}
