#include "common/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"

/* Duplicate keys would silently win over each other; numbers beyond int64 become reals. */
enum { PARSE_FLAGS = JSON_REJECT_DUPLICATES };

static ls_status parse_owned(ls_json_doc *doc, const char *name, char *text, ls_err *err) {
    json_error_t e;
    json_t *root = json_loads(text, PARSE_FLAGS, &e);
    if (root == NULL) {
        free(text);
        return ls_fail(err, LS_EINPUT, "%s:%d:%d: not valid JSON: %s", name, e.line, e.column, e.text);
    }
    *doc = (ls_json_doc){.name = ls_xstrdup(name), .text = text, .root = root};
    return LS_OK;
}

ls_status ls_json_load(ls_json_doc *doc, const char *path, ls_err *err) {
    char *text;
    LS_TRY(ls_file_read(path, &text, NULL, err));
    return parse_owned(doc, path, text, err);
}

ls_status ls_json_parse(ls_json_doc *doc, const char *name, const char *text, ls_err *err) {
    return parse_owned(doc, name, ls_xstrdup(text), err);
}

void ls_json_wrap(ls_json_doc *doc, const char *name, json_t *root) {
    *doc = (ls_json_doc){.name = ls_xstrdup(name), .root = json_incref(root)};
}

struct ls_json_override {
    struct ls_json_override *next;
    char *path, *origin;
};

void ls_json_release(ls_json_doc *doc) {
    while (doc->overrides != NULL) {
        struct ls_json_override *o = doc->overrides;
        doc->overrides = o->next;
        free(o->path);
        free(o->origin);
        free(o);
    }
    free(doc->name);
    free(doc->text);
    json_decref(doc->root);
    *doc = (ls_json_doc){0};
}

ls_json ls_json_root(const ls_json_doc *doc) {
    return (ls_json){.doc = doc, .value = doc->root};
}

ls_json ls_json_member(ls_json at, const char *key) {
    ls_json m = {.doc = at.doc, .value = json_object_get(at.value, key)};
    snprintf(m.path, sizeof m.path, "%.*s%s%.*s", 150, at.path, at.path[0] ? "." : "", 70, key);
    return m;
}

ls_json ls_json_element(ls_json at, size_t index) {
    ls_json m = {.doc = at.doc, .value = json_array_get(at.value, index)};
    snprintf(m.path, sizeof m.path, "%.*s[%zu]", 200, at.path, index);
    return m;
}

size_t ls_json_length(ls_json at) {
    return json_is_array(at.value)    ? json_array_size(at.value)
           : json_is_object(at.value) ? json_object_size(at.value)
                                      : 0;
}

/* Finding a line again: walks the text's tokens along the path. The text is known to be valid JSON. */
typedef struct {
    const char *p;
    int line;
} scanner;

static void skip_space(scanner *s) {
    while (*s->p == ' ' || *s->p == '\t' || *s->p == '\r' || *s->p == '\n' || *s->p == ',' || *s->p == ':') {
        s->line += *s->p++ == '\n';
    }
}

/* Copies a string token (escapes left alone) into out when it fits. */
static void scan_string(scanner *s, char *out, size_t size) {
    size_t n = 0;
    s->p++;
    while (*s->p != '\0' && *s->p != '"') {
        if (*s->p == '\\' && s->p[1] != '\0') {
            if (n + 1 < size) {
                out[n++] = *s->p;
            }
            s->p++;
        }
        if (n + 1 < size) {
            out[n++] = *s->p;
        }
        s->p++;
    }
    if (size > 0) {
        out[n] = '\0';
    }
    s->p += *s->p == '"';
}

static void skip_value(scanner *s) {
    int depth = 0;
    do {
        skip_space(s);
        if (*s->p == '"') {
            scan_string(s, NULL, 0);
        } else if (*s->p == '{' || *s->p == '[') {
            depth++;
            s->p++;
        } else if (*s->p == '}' || *s->p == ']') {
            depth--;
            s->p++;
        } else if (*s->p == '\0') {
            return;
        } else {
            s->p += strcspn(s->p, ",:]} \t\r\n");
        }
    } while (depth > 0);
}

int ls_json_line(ls_json at) {
    if (at.doc == NULL || at.doc->text == NULL) {
        return 0;
    }
    scanner s = {at.doc->text, 1};
    const char *path = at.path;
    int line = 1;
    skip_space(&s);
    line = s.line;
    while (*path != '\0') {
        if (*path == '.') {
            path++;
        }
        if (*path == '[') {
            size_t index = strtoul(path + 1, (char **)&path, 10);
            path += *path == ']';
            if (*s.p != '[') {
                return line;
            }
            s.p++;
            for (size_t i = 0; i < index; i++) {
                skip_value(&s);
            }
            skip_space(&s);
            line = s.line;
        } else {
            if (*s.p != '{') {
                return line;
            }
            s.p++;
            size_t length = 0;
            for (;;) {
                char key[128];
                skip_space(&s);
                if (*s.p != '"') {
                    return line; /* not there: the line of the object that lacks it */
                }
                int key_line = s.line;
                scan_string(&s, key, sizeof key);
                skip_space(&s);
                length = strlen(key);
                if (strncmp(path, key, length) == 0 &&
                    (path[length] == '\0' || path[length] == '.' || path[length] == '[')) {
                    line = key_line;
                    break;
                }
                skip_value(&s);
            }
            path += length;
        }
    }
    return line;
}

/* Where the value came from when it was not the document: it, or what it lies in, was set. */
static const char *origin_of(ls_json at) {
    for (const struct ls_json_override *o = at.doc != NULL ? at.doc->overrides : NULL; o != NULL; o = o->next) {
        size_t n = strlen(o->path);
        if (strncmp(at.path, o->path, n) == 0 && (at.path[n] == '\0' || at.path[n] == '.' || at.path[n] == '[')) {
            return o->origin;
        }
    }
    return NULL;
}

ls_status ls_json_set(ls_json_doc *doc, const char *path, json_t *value, const char *origin, ls_err *err) {
    json_t *at = doc->root;
    char name[128];
    const char *p = path;
    for (;;) {
        size_t n = strcspn(p, ".");
        if (n == 0 || n >= sizeof name || !json_is_object(at)) {
            json_decref(value);
            return n == 0 || n >= sizeof name
                       ? ls_fail(err, LS_EINPUT, "%s: \"%s\" is not a path such as fit.epochs", origin, path)
                       : ls_fail(err, LS_EINPUT, "%s: %.*s is not an object, so it has no \"%s\"", origin,
                                 (int)(p > path ? p - path - 1 : 0), path, p);
        }
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        p += n;
        if (*p == '\0') {
            break;
        }
        p++;
        json_t *next = json_object_get(at, name);
        if (next == NULL || json_is_null(next)) {
            next = json_object();
            json_object_set_new(at, name, next);
        }
        at = next;
    }
    json_object_set_new(at, name, value);
    struct ls_json_override *o = ls_xcalloc(1, sizeof *o);
    *o = (struct ls_json_override){.next = doc->overrides, .path = ls_xstrdup(path), .origin = ls_xstrdup(origin)};
    doc->overrides = o;
    return LS_OK;
}

#undef ls_json_fail
ls_status ls_json_fail(ls_json at, ls_err *err, const char *format, ...) {
    char what[768];
    LS_FORMAT(what, format);
    const char *origin = origin_of(at);
    int line = origin != NULL ? 0 : ls_json_line(at);
    const char *name = origin != NULL ? origin : at.doc != NULL && at.doc->name != NULL ? at.doc->name : "JSON";
    const char *colon = at.path[0] ? ": " : "";
    if (line > 0) {
        return ls_fail(err, LS_EINPUT, "%s:%d: %s%s%s", name, line, at.path, colon, what);
    }
    return ls_fail(err, LS_EINPUT, "%s: %s%s%s", name, at.path, colon, what);
}

const char *ls_json_describe(const json_t *value, char *out, size_t size) {
    switch (value == NULL ? JSON_NULL : json_typeof(value)) {
        case JSON_OBJECT: snprintf(out, size, "an object"); break;
        case JSON_ARRAY: snprintf(out, size, "a list of %zu", json_array_size(value)); break;
        case JSON_STRING: snprintf(out, size, "the text \"%.60s\"", json_string_value(value)); break;
        case JSON_INTEGER: snprintf(out, size, "the number %" JSON_INTEGER_FORMAT, json_integer_value(value)); break;
        case JSON_REAL: snprintf(out, size, "the number %g", json_real_value(value)); break;
        case JSON_TRUE: snprintf(out, size, "true"); break;
        case JSON_FALSE: snprintf(out, size, "false"); break;
        case JSON_NULL: snprintf(out, size, value == NULL ? "nothing" : "null"); break;
    }
    return out;
}

static ls_status wrong(ls_json at, ls_err *err, const char *expected) {
    char found[96];
    return ls_json_fail(at, err, "expected %s, found %s", expected, ls_json_describe(at.value, found, sizeof found));
}

ls_status ls_json_get_bool(ls_json at, const char *key, bool *out, ls_err *err) {
    ls_json m = ls_json_member(at, key);
    if (!ls_json_present(m)) {
        return LS_OK;
    }
    if (!json_is_boolean(m.value)) {
        return wrong(m, err, "true or false");
    }
    *out = json_is_true(m.value);
    return LS_OK;
}

static ls_status check_int(ls_json m, int64_t min, int64_t max, int64_t *out, ls_err *err) {
    char expected[96];
    if (max == INT64_MAX) {
        snprintf(expected, sizeof expected, "a whole number of at least %" PRId64, min);
    } else {
        snprintf(expected, sizeof expected, "a whole number from %" PRId64 " to %" PRId64, min, max);
    }
    int64_t n;
    if (json_is_integer(m.value)) {
        n = json_integer_value(m.value);
    } else if (json_is_real(m.value) && json_real_value(m.value) >= -0x1p53 && json_real_value(m.value) <= 0x1p53 &&
               json_real_value(m.value) == (double)(int64_t)json_real_value(m.value)) {
        n = (int64_t)json_real_value(m.value);
    } else {
        return wrong(m, err, expected);
    }
    if (n < min || n > max) {
        return wrong(m, err, expected);
    }
    *out = n;
    return LS_OK;
}

ls_status ls_json_get_int(ls_json at, const char *key, int64_t min, int64_t max, int64_t *out, ls_err *err) {
    ls_json m = ls_json_member(at, key);
    return ls_json_present(m) ? check_int(m, min, max, out, err) : LS_OK;
}

ls_status ls_json_get_double(ls_json at, const char *key, double min, double max, double *out, ls_err *err) {
    ls_json m = ls_json_member(at, key);
    if (!ls_json_present(m)) {
        return LS_OK;
    }
    double x = json_number_value(m.value);
    if (!json_is_number(m.value) || !(x >= min && x <= max)) {
        char expected[96];
        if (min <= -1e300 && max >= 1e300) {
            snprintf(expected, sizeof expected, "a number");
        } else if (max >= 1e300) {
            snprintf(expected, sizeof expected, "a number of at least %g", min);
        } else {
            snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
        }
        return wrong(m, err, expected);
    }
    *out = x;
    return LS_OK;
}

ls_status ls_json_get_string(ls_json at, const char *key, const char **out, ls_err *err) {
    ls_json m = ls_json_member(at, key);
    if (!ls_json_present(m)) {
        return LS_OK;
    }
    if (!json_is_string(m.value)) {
        return wrong(m, err, "a text in quotes");
    }
    *out = json_string_value(m.value);
    return LS_OK;
}

ls_status ls_json_get_choice(ls_json at, const char *key, const char *const *words, size_t n_words, int *out,
                             ls_err *err) {
    ls_json m = ls_json_member(at, key);
    if (!ls_json_present(m)) {
        return LS_OK;
    }
    for (size_t i = 0; json_is_string(m.value) && i < n_words; i++) {
        if (strcmp(json_string_value(m.value), words[i]) == 0) {
            *out = (int)i;
            return LS_OK;
        }
    }
    char expected[512] = "one of";
    for (size_t i = 0, used = strlen(expected); i < n_words && used < sizeof expected - 1; i++) {
        used += (size_t)snprintf(expected + used, sizeof expected - used, "%s \"%s\"", i ? "," : "", words[i]);
    }
    return wrong(m, err, expected);
}

ls_status ls_json_get_ints(ls_json at, const char *key, int64_t min, size_t max_n, int64_t *out, size_t *n_out,
                           ls_err *err) {
    ls_json m = ls_json_member(at, key);
    if (!ls_json_present(m)) {
        return LS_OK;
    }
    if (!json_is_array(m.value)) {
        LS_TRY(check_int(m, min, INT64_MAX, &out[0], err));
        *n_out = 1;
        return LS_OK;
    }
    size_t n = json_array_size(m.value);
    if (n == 0 || n > max_n) {
        char expected[96];
        snprintf(expected, sizeof expected, "a whole number or a list of 1 to %zu of them", max_n);
        return wrong(m, err, expected);
    }
    for (size_t i = 0; i < n; i++) {
        LS_TRY(check_int(ls_json_element(m, i), min, INT64_MAX, &out[i], err));
    }
    *n_out = n;
    return LS_OK;
}

ls_status ls_json_expect_object(ls_json at, ls_err *err) {
    return json_is_object(at.value) ? LS_OK : wrong(at, err, "an object in braces");
}

ls_status ls_json_only_keys(ls_json at, const char *const *known, size_t n_known, ls_err *err) {
    LS_TRY(ls_json_expect_object(at, err));
    const char *key;
    json_t *value;
    json_object_foreach(at.value, key, value) {
        size_t i = 0;
        while (i < n_known && strcmp(key, known[i]) != 0) {
            i++;
        }
        if (i == n_known) {
            char hint[LS_HINT_MAX];
            return ls_json_fail(ls_json_member(at, key), err, "unknown key%s", ls_hint(hint, key, known, n_known, ""));
        }
    }
    return LS_OK;
}

/* Like strtok_r, over several lists; `left` is where the next word begins. */
static char *next_word(char **left) {
    char *word = *left + strspn(*left, " ");
    size_t n = strcspn(word, " ");
    *left = word + n + (word[n] != '\0');
    word[n] = '\0';
    return n > 0 ? word : NULL;
}

static ls_status unlisted(ls_json at, const char *key, const char *const *lists, size_t n_lists, const char *kind,
                          const char *name, ls_err *err) {
    enum { MAX_WORDS = 64 };
    const char *words[MAX_WORDS];
    char all[1024] = "", *left = all, hint[LS_HINT_MAX];
    size_t n = 0;
    for (size_t i = 0, used = 0; i < n_lists && used < sizeof all; i++) {
        used += (size_t)snprintf(all + used, sizeof all - used, "%s ", lists[i] != NULL ? lists[i] : "");
    }
    for (const char *word; n < MAX_WORDS && (word = next_word(&left)) != NULL;) {
        words[n++] = word;
    }
    return ls_json_fail(ls_json_member(at, key), err, "unknown key of %s %s%s", kind, name,
                        ls_hint(hint, key, words, n, ""));
}

ls_status ls_json_only_listed(ls_json at, const char *const *lists, size_t n_lists, const char *kind, const char *name,
                              ls_err *err) {
    const char *key;
    json_t *value;
    json_object_foreach(at.value, key, value) {
        size_t i = 0;
        while (i < n_lists && !ls_word_listed(lists[i], key)) {
            i++;
        }
        if (i == n_lists) {
            return unlisted(at, key, lists, n_lists, kind, name, err);
        }
    }
    return LS_OK;
}

ls_status ls_json_unknown(ls_json at, const char *word, const char *kind, const char *const *known, size_t n_known,
                          ls_err *err) {
    char hint[LS_HINT_MAX];
    return ls_json_fail(at, err, "\"%s\" is not %s that Lockstep knows%s", word, kind,
                        ls_hint(hint, word, known, n_known, ""));
}
