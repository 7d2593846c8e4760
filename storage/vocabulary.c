#include "storage/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "storage/h5.h"

struct ls_vocabulary_entry {
    uint32_t code;
    int32_t class_;
};

/* ---- UTF-8 ---- */

/* The code point at text, and its bytes; 0 bytes: not UTF-8 (overlong forms and surrogates are not). */
static size_t decode(const unsigned char *text, size_t n_left, uint32_t *code) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = text[0] < 0x80 ? 1 : (text[0] >> 5) == 6 ? 2 : (text[0] >> 4) == 14 ? 3 : (text[0] >> 3) == 30 ? 4 : 0;
    if (n == 0 || n > n_left) {
        return 0;
    }
    uint32_t c = n == 1 ? text[0] : text[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (text[i] & 0x3fu);
    }
    *code = c;
    return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

static size_t encode(uint32_t c, char out[5]) {
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6) {
        out[i] = (char)(0x80 | (c & 0x3f));
    }
    out[0] = (char)(lead[n] | c);
    out[n] = '\0';
    return n;
}

static size_t line_of(const char *text, size_t at) {
    size_t line = 1;
    for (size_t i = 0; i < at; i++) {
        line += text[i] == '\n';
    }
    return line;
}

/* The code points of a text, (*n). */
static ls_status decode_all(const char *name, const char *text, size_t n_bytes, uint32_t **codes, size_t *n,
                            ls_err *err) {
    uint32_t *out = ls_xcalloc(n_bytes + 1, sizeof *out);
    *n = 0;
    for (size_t at = 0, step; at < n_bytes; at += step) {
        step = decode((const unsigned char *)text + at, n_bytes - at, &out[(*n)++]);
        if (step == 0) {
            free(out);
            return ls_fail(err, LS_EINPUT, "%s:%zu: is not UTF-8 text: byte %zu of the file is 0x%02x", name,
                           line_of(text, at), at + 1, (unsigned char)text[at]);
        }
    }
    *codes = out;
    return LS_OK;
}

/* ---- making one ---- */

static int by_code(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b; /* the code comes first in an entry */
    return (x > y) - (x < y);
}

/* From v->code; false when a character is there twice. */
static bool sort_entries(ls_vocabulary *v) {
    v->sorted = ls_xcalloc(v->n + 1, sizeof *v->sorted);
    for (size_t i = 0; i < v->n; i++) {
        v->sorted[i] = (struct ls_vocabulary_entry){v->code[i], (int32_t)i};
    }
    qsort(v->sorted, v->n, sizeof *v->sorted, by_code);
    for (size_t i = 1; i < v->n; i++) {
        if (v->sorted[i].code == v->sorted[i - 1].code) {
            return false;
        }
    }
    return true;
}

void ls_vocabulary_release(ls_vocabulary *v) {
    free(v->code);
    free(v->sorted);
    *v = (ls_vocabulary){0};
}

ls_status ls_vocabulary_of_text(ls_vocabulary *v, const char *name, const char *text, size_t n_bytes, ls_err *err) {
    *v = (ls_vocabulary){0};
    size_t n;
    LS_TRY(decode_all(name, text, n_bytes, &v->code, &n, err));
    qsort(v->code, n, sizeof *v->code, by_code);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || v->code[i] != v->code[v->n - 1]) {
            v->code[v->n++] = v->code[i];
        }
    }
    LS_ASSERT(sort_entries(v));
    if (v->n == 0) {
        ls_vocabulary_release(v);
        return ls_fail(err, LS_EINPUT, "%s: is empty; a text was expected", name);
    }
    return LS_OK;
}

static ls_status of_json(ls_vocabulary *v, const char *name, const char *text, ls_err *err) {
    json_t *list = json_loads(text, 0, NULL);
    size_t n = json_array_size(list);
    bool good = n > 0 && n <= LS_VOCABULARY_MAX;
    *v = (ls_vocabulary){.code = ls_xcalloc(n + 1, sizeof *v->code)};
    for (size_t i = 0; good && i < n; i++) {
        const json_t *item = json_array_get(list, i);
        const char *c = json_string_value(item);
        size_t n_bytes = json_string_length(item);
        good = c != NULL && n_bytes > 0 && decode((const unsigned char *)c, n_bytes, &v->code[i]) == n_bytes;
        v->n++;
    }
    json_decref(list);
    if (!good || !sort_entries(v)) {
        ls_vocabulary_release(v);
        return ls_fail(err, LS_EINPUT,
                       "%s: the vocabulary is to be a JSON list of characters, each once, such as [\"\\n\", \" \", "
                       "\"a\"]",
                       name);
    }
    return LS_OK;
}

static ls_status of_data_set(ls_vocabulary *v, const char *path, ls_err *err) {
    ls_h5 *file;
    char *text = NULL;
    LS_TRY(ls_h5_open(path, &file, err));
    ls_status s = ls_h5_attr_has(file, "/", LS_VOCABULARY_ATTRIBUTE)
                      ? ls_h5_attr_get_string(file, "/", LS_VOCABULARY_ATTRIBUTE, &text, err)
                      : ls_fail(err, LS_EINPUT,
                                "%s: has no vocabulary; lockstep data import text makes data sets that have one", path);
    ls_h5_discard(file);
    if (s == LS_OK) {
        s = of_json(v, path, text, err);
    }
    free(text);
    return s;
}

ls_status ls_vocabulary_load(ls_vocabulary *v, const char *path, ls_err *err) {
    char *text;
    size_t n_bytes, length = strlen(path);
    LS_TRY(ls_file_read(path, &text, &n_bytes, err));
    ls_status s;
    if (n_bytes >= 8 && memcmp(text, "\x89HDF\r\n\x1a\n", 8) == 0) {
        s = of_data_set(v, path, err);
    } else if (length > 5 && strcmp(path + length - 5, ".json") == 0) {
        s = of_json(v, path, text, err);
    } else {
        s = ls_vocabulary_of_text(v, path, text, n_bytes, err);
    }
    free(text);
    return s;
}

char *ls_vocabulary_text(const ls_vocabulary *v) {
    json_t *list = json_array();
    for (size_t i = 0; i < v->n; i++) {
        char c[5];
        size_t n = ls_vocabulary_decode(v, i, c);
        json_array_append_new(list, json_stringn(c, n));
    }
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    LS_ASSERT(text != NULL);
    return text;
}

/* ---- using one ---- */

ls_status ls_vocabulary_encode(const ls_vocabulary *v, const char *name, const char *text, size_t n_bytes,
                               int32_t **classes, size_t *n, ls_err *err) {
    uint32_t *codes;
    LS_TRY(decode_all(name, text, n_bytes, &codes, n, err));
    int32_t *out = ls_xcalloc(*n + 1, sizeof *out);
    size_t line = 1;
    for (size_t i = 0; i < *n; i++) {
        const struct ls_vocabulary_entry *found = bsearch(&codes[i], v->sorted, v->n, sizeof *v->sorted, by_code);
        if (found == NULL) {
            char c[5];
            encode(codes[i], c);
            ls_status s = ls_fail(err, LS_EINPUT, "%s:%zu: the character \"%s\" (U+%04X) is not in the vocabulary",
                                  name, line, c, (unsigned)codes[i]);
            free(codes);
            free(out);
            return s;
        }
        out[i] = found->class_;
        line += codes[i] == '\n';
    }
    free(codes);
    *classes = out;
    return LS_OK;
}

size_t ls_vocabulary_decode(const ls_vocabulary *v, size_t i, char out[5]) {
    LS_ASSERT(i < v->n);
    return encode(v->code[i], out);
}
