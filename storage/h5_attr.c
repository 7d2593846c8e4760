/* Attributes of an HDF5 file: numbers, strings and lists of strings in the spellings that h5py and Keras use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "storage/h5.h"
#include "storage/h5_private.h"

/* An attribute lies in the object's header, which ends at 64 KiB; Keras cuts lists at this many bytes
 * (HDF5_OBJECT_HEADER_LIMIT). */
enum { HEADER_LIMIT = 64512 };

static bool attr_exists(const ls_h5 *file, const char *object, const char *name) {
    return ls_h5_path_exists(file, object) && H5Aexists_by_name(file->id, object, name, H5P_DEFAULT) > 0;
}

bool ls_h5_attr_has(ls_h5 *file, const char *object, const char *name) {
    LS_H5_GUARD;
    return attr_exists(file, object, name);
}

/* ---- reading ---- */

static ls_status attr_open(ls_h5 *file, const char *object, const char *name, hid_t *id, ls_err *err) {
    if (!ls_h5_path_exists(file, object)) {
        return ls_h5_fail_missing(file, object, "object", err);
    }
    if (H5Aexists_by_name(file->id, object, name, H5P_DEFAULT) <= 0) {
        return ls_fail(err, LS_EINPUT, "%s:%s: has no attribute \"%s\"", file->path, object, name);
    }
    *id = H5Aopen_by_name(file->id, object, name, H5P_DEFAULT, H5P_DEFAULT);
    return *id < 0 ? ls_h5_fail(file, object, err, LS_ECORRUPT, "attribute \"%s\" cannot be read", name) : LS_OK;
}

static ls_status get_numbers(ls_h5 *file, const char *object, const char *name, H5T_class_t wanted, hid_t memory,
                             size_t n, void *values, ls_err *err) {
    LS_H5_GUARD;
    LS_H5_SCOPED id = -1;
    LS_TRY(attr_open(file, object, name, &id, err));
    LS_H5_SCOPED type = H5Aget_type(id);
    LS_H5_SCOPED space = H5Aget_space(id);
    H5T_class_t class = H5Tget_class(type);
    if (class != H5T_INTEGER && (class != H5T_FLOAT || wanted != H5T_FLOAT)) {
        return ls_fail(err, LS_EINPUT, "%s:%s: attribute \"%s\" is not %s", file->path, object, name,
                       wanted == H5T_FLOAT ? "a number" : "an integer");
    }
    hssize_t found = H5Sget_simple_extent_npoints(space);
    if (found < 0 || (size_t)found != n) {
        return ls_fail(err, LS_EINPUT, "%s:%s: attribute \"%s\" holds %lld numbers; %zu were expected", file->path,
                       object, name, (long long)found, n);
    }
    if (n > 0 && H5Aread(id, memory, values) < 0) {
        return ls_h5_fail(file, object, err, LS_ECORRUPT, "attribute \"%s\" cannot be read", name);
    }
    return LS_OK;
}

ls_status ls_h5_attr_get_ints(ls_h5 *file, const char *object, const char *name, size_t n, int64_t *values,
                              ls_err *err) {
    LS_H5_GUARD;
    return get_numbers(file, object, name, H5T_INTEGER, H5T_NATIVE_INT64, n, values, err);
}

ls_status ls_h5_attr_get_doubles(ls_h5 *file, const char *object, const char *name, size_t n, double *values,
                                 ls_err *err) {
    LS_H5_GUARD;
    return get_numbers(file, object, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, n, values, err);
}

ls_status ls_h5_attr_get_int(ls_h5 *file, const char *object, const char *name, int64_t *value, ls_err *err) {
    return ls_h5_attr_get_ints(file, object, name, 1, value, err);
}

ls_status ls_h5_attr_get_double(ls_h5 *file, const char *object, const char *name, double *value, ls_err *err) {
    return ls_h5_attr_get_doubles(file, object, name, 1, value, err);
}

/* One fixed-length string as text: up to the first null, less the spaces that pad it. */
static char *fixed_text(const char *bytes, size_t size, H5T_str_t padding) {
    size_t n = strnlen(bytes, size);
    while (padding == H5T_STR_SPACEPAD && n > 0 && bytes[n - 1] == ' ') {
        n--;
    }
    return ls_xprintf("%.*s", (int)n, bytes);
}

/* Reads n strings with the stored type itself as the memory type, so that neither character set nor padding is
 * converted. */
static ls_status read_strings(hid_t id, hid_t type, hid_t space, size_t n, ls_h5_names *names) {
    bool variable = H5Tis_variable_str(type) > 0;
    size_t size = variable ? sizeof(char *) : H5Tget_size(type);
    char *bytes = ls_calloc(n, size);
    if (bytes == NULL || H5Aread(id, type, bytes) < 0) {
        ls_status s = bytes == NULL ? LS_ENOMEM : LS_ECORRUPT;
        free(bytes);
        return s;
    }
    names->items = ls_xcalloc(n, sizeof *names->items);
    names->n = n;
    for (size_t i = 0; i < n; i++) {
        const char *text = variable ? ((char **)bytes)[i] : NULL;
        names->items[i] =
            variable ? ls_xstrdup(text ? text : "") : fixed_text(bytes + i * size, size, H5Tget_strpad(type));
    }
    if (variable) {
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, bytes);
    }
    free(bytes);
    return LS_OK;
}

/* One attribute's strings; an empty attribute of any type gives none. */
static ls_status get_strings(ls_h5 *file, const char *object, const char *name, ls_h5_names *names, ls_err *err) {
    *names = (ls_h5_names){NULL, 0};
    LS_H5_SCOPED id = -1;
    LS_TRY(attr_open(file, object, name, &id, err));
    LS_H5_SCOPED type = H5Aget_type(id);
    LS_H5_SCOPED space = H5Aget_space(id);
    hssize_t n = H5Sget_simple_extent_npoints(space);
    if (n == 0 || H5Sget_simple_extent_type(space) == H5S_NULL) {
        return LS_OK;
    }
    if (H5Tget_class(type) != H5T_STRING) {
        return ls_fail(err, LS_EINPUT, "%s:%s: attribute \"%s\" is not text", file->path, object, name);
    }
    ls_status s = n < 0 ? LS_ECORRUPT : read_strings(id, type, space, (size_t)n, names);
    return s == LS_OK ? s : ls_h5_fail(file, object, err, s, "attribute \"%s\" cannot be read", name);
}

ls_status ls_h5_attr_get_string(ls_h5 *file, const char *object, const char *name, char **text, ls_err *err) {
    LS_H5_GUARD;
    ls_h5_names names;
    LS_TRY(get_strings(file, object, name, &names, err));
    if (names.n > 1) {
        ls_status s = ls_fail(err, LS_EINPUT, "%s:%s: attribute \"%s\" is a list of %zu; one string was expected",
                              file->path, object, name, names.n);
        ls_h5_names_release(&names);
        return s;
    }
    *text = ls_xstrdup(names.n == 1 ? names.items[0] : "");
    ls_h5_names_release(&names);
    return LS_OK;
}

ls_status ls_h5_attr_get_strings(ls_h5 *file, const char *object, const char *name, ls_h5_names *names, ls_err *err) {
    LS_H5_GUARD;
    *names = (ls_h5_names){NULL, 0};
    char *part = ls_xprintf("%s0", name);
    if (attr_exists(file, object, name) || !attr_exists(file, object, part)) {
        free(part);
        return get_strings(file, object, name, names, err);
    }
    ls_status s = LS_OK;
    for (size_t i = 0; s == LS_OK && attr_exists(file, object, part);) {
        ls_h5_names more;
        s = get_strings(file, object, part, &more, err);
        if (s == LS_OK && more.n > 0) {
            names->items = ls_xrealloc(names->items, (names->n + more.n) * sizeof *names->items);
            memcpy(names->items + names->n, more.items, more.n * sizeof *more.items);
            names->n += more.n;
        }
        free(more.items);
        free(part);
        part = ls_xprintf("%s%zu", name, ++i);
    }
    free(part);
    if (s != LS_OK) {
        ls_h5_names_release(names);
    }
    return s;
}

/* ---- writing ---- */

/* Replaces the attribute by n elements of type (n < 0: a scalar). */
static ls_status set_attr(ls_h5 *file, const char *object, const char *name, hid_t type, int64_t n, const void *data,
                          ls_err *err) {
    if (!ls_h5_path_exists(file, object)) {
        return ls_h5_fail_missing(file, object, "object", err);
    }
    if (H5Aexists_by_name(file->id, object, name, H5P_DEFAULT) > 0 &&
        H5Adelete_by_name(file->id, object, name, H5P_DEFAULT) < 0) {
        return ls_h5_fail(file, object, err, LS_EIO, "attribute \"%s\" cannot be replaced", name);
    }
    hsize_t size = n > 0 ? (hsize_t)n : 0;
    LS_H5_SCOPED space = n < 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &size, NULL);
    LS_H5_SCOPED id = H5Acreate_by_name(file->id, object, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (id < 0 || (n != 0 && H5Awrite(id, type, data) < 0)) {
        return ls_h5_fail(file, object, err, LS_EIO, "attribute \"%s\" cannot be written", name);
    }
    return LS_OK;
}

ls_status ls_h5_attr_set_string(ls_h5 *file, const char *object, const char *name, const char *text,
                                ls_h5_spelling spelling, ls_err *err) {
    LS_H5_GUARD;
    LS_H5_SCOPED type = H5Tcopy(H5T_C_S1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    if (spelling == LS_H5_VARIABLE) {
        H5Tset_size(type, H5T_VARIABLE);
        return set_attr(file, object, name, type, -1, &text, err);
    }
    size_t n = strlen(text);
    H5Tset_size(type, n > 0 ? n : 1);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    return set_attr(file, object, name, type, -1, text, err);
}

static size_t longest(const char *const *items, size_t n) {
    size_t most = 1; /* HDF5 has no strings of size 0 */
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(items[i]);
        most = length > most ? length : most;
    }
    return most;
}

static ls_status set_strings(ls_h5 *file, const char *object, const char *name, const char *const *items, size_t n,
                             size_t width, ls_err *err) {
    LS_H5_SCOPED type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, width);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    char *bytes = ls_xcalloc(n > 0 ? n : 1, width);
    for (size_t i = 0; i < n; i++) {
        memcpy(bytes + i * width, items[i], strlen(items[i]));
    }
    ls_status s = set_attr(file, object, name, type, (int64_t)n, bytes, err);
    free(bytes);
    return s;
}

/* Removes the list in both its forms, so that no part of an older one is left. */
static ls_status remove_strings(ls_h5 *file, const char *object, const char *name, ls_err *err) {
    char *part = ls_xstrdup(name);
    ls_status s = LS_OK;
    for (size_t i = 0; s == LS_OK && (attr_exists(file, object, part) || i == 0); i++) {
        if (attr_exists(file, object, part) && H5Adelete_by_name(file->id, object, part, H5P_DEFAULT) < 0) {
            s = ls_h5_fail(file, object, err, LS_EIO, "attribute \"%s\" cannot be replaced", part);
        }
        free(part);
        part = ls_xprintf("%s%zu", name, i);
    }
    free(part);
    return s;
}

/* Keras: the fewest parts of at most HEADER_LIMIT bytes, cut as numpy.array_split cuts (the first n % parts of them
 * have one more). */
ls_status ls_h5_attr_set_strings(ls_h5 *file, const char *object, const char *name, const char *const *items, size_t n,
                                 ls_err *err) {
    LS_H5_GUARD;
    size_t width = longest(items, n), n_parts = 1;
    if (width > HEADER_LIMIT) {
        return ls_fail(err, LS_EINPUT, "%s:%s: a string of %zu bytes is too long for the list \"%s\"", file->path,
                       object, width, name);
    }
    while ((n + n_parts - 1) / n_parts * width > HEADER_LIMIT) {
        n_parts++;
    }
    LS_TRY(remove_strings(file, object, name, err));
    for (size_t part = 0, from = 0; part < n_parts; part++) {
        size_t count = n / n_parts + (part < n % n_parts);
        char *part_name = n_parts == 1 ? ls_xstrdup(name) : ls_xprintf("%s%zu", name, part);
        ls_status s = set_strings(file, object, part_name, count > 0 ? items + from : NULL, count, width, err);
        free(part_name);
        LS_TRY(s);
        from += count;
    }
    return LS_OK;
}

ls_status ls_h5_attr_set_int(ls_h5 *file, const char *object, const char *name, int64_t value, ls_err *err) {
    LS_H5_GUARD;
    return set_attr(file, object, name, H5T_NATIVE_INT64, -1, &value, err);
}

ls_status ls_h5_attr_set_double(ls_h5 *file, const char *object, const char *name, double value, ls_err *err) {
    LS_H5_GUARD;
    return set_attr(file, object, name, H5T_NATIVE_DOUBLE, -1, &value, err);
}
