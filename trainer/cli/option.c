#include "trainer/cli/option.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"

ls_status ls_option_fail(const char *verb, ls_err *err, const char *format, ...) {
    char what[640];
    LS_FORMAT(what, format);
    return ls_fail(err, LS_EINPUT, "lockstep %s: %s; \"lockstep %.*s --help\" shows what it takes", verb, what,
                   (int)strcspn(verb, " "), verb);
}

ls_status ls_option_stray(const char *verb, const char *word, ls_err *err) {
    return ls_option_fail(verb, err, "\"%s\" is one argument too many", word);
}

static ls_status unknown(const ls_option_table *t, const char *given, size_t n_given, ls_err *err) {
    enum { MAX_OPTIONS = 32 };
    const char *words[MAX_OPTIONS], *mark = "--";
    char word[64], hint[LS_HINT_MAX];
    size_t n = 0;
    for (int i = 0; i < t->n; i++) {
        if (t->takes & UINT32_C(1) << i) {
            words[n++] = t->option[i].word;
        }
    }
    snprintf(word, sizeof word, "%.*s", (int)n_given, given);
    bool known = ls_nearest(word + strspn(word, "-"), words, n) != NULL;
    return ls_option_fail(t->verb, err, "%s is not one of its options%s", word,
                          known ? ls_hint(hint, word + strspn(word, "-"), words, n, mark) : "");
}

/* The option that argv's word spells, or -1; *value is what stands in the word itself after it, or NULL. */
static int find(const ls_option_table *t, const char *word, const char **value) {
    bool is_long = word[1] == '-';
    size_t n = is_long ? strcspn(word + 2, "=") : 1;
    for (int i = 0; i < t->n; i++) {
        const ls_option *o = &t->option[i];
        if (!(t->takes & UINT32_C(1) << i) ||
            !(is_long ? strlen(o->word) == n && strncmp(o->word, word + 2, n) == 0 : o->letter == word[1])) {
            continue;
        }
        const char *rest = word + (is_long ? 2 : 1) + n;
        *value = *rest == '\0' ? NULL : rest + (is_long ? 1 : 0);
        return i;
    }
    return -1;
}

ls_status ls_options_read(const ls_option_table *table, int argc, char **argv,
                          ls_status (*option)(void *context, int number, const char *value, ls_err *err),
                          ls_status (*operand)(void *context, const char *word, ls_err *err), void *context,
                          ls_err *err) {
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = NULL;
        if (options_end || word[0] != '-' || word[1] == '\0') {
            LS_TRY(operand(context, word, err));
            continue;
        }
        if (strcmp(word, "--") == 0) {
            options_end = true;
            continue;
        }
        int number = find(table, word, &value);
        if (number < 0) {
            return unknown(table, word, strcspn(word, "="), err);
        }
        bool takes_value = table->option[number].takes_value;
        if (!takes_value && value != NULL) {
            return ls_option_fail(table->verb, err, "--%s takes no value", table->option[number].word);
        }
        if (takes_value && value == NULL && i + 1 < argc) {
            value = argv[++i];
        }
        if (takes_value && value == NULL) {
            return ls_option_fail(table->verb, err, "%s needs a value after it", word);
        }
        LS_TRY(option(context, number, value != NULL ? value : "", err));
    }
    return LS_OK;
}

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

ls_status ls_option_lengths(const char *option, const char *text, int max_n, int64_t *out, int *n_out, ls_err *err) {
    const char *at = text;
    for (*n_out = 0; *n_out < max_n;) {
        char *end;
        errno = 0;
        long long length = strtoll(at, &end, 10);
        if (end == at || length < 1 || length > INT32_MAX || errno != 0 || (*end != ',' && *end != '\0')) {
            break;
        }
        out[(*n_out)++] = length;
        if (*end == '\0') {
            return LS_OK;
        }
        at = end + 1;
    }
    return ls_fail(err, LS_EINPUT,
                   "%s %s: 1 to %d lengths of 1 and more with commas between them were expected, such as 28,28,1",
                   option, text, max_n);
}
