/* IDX files, the format of MNIST: 00 00 TYPE RANK, RANK big-endian sizes of 4 bytes, big-endian elements. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/file.h"
#include "common/memory.h"
#include "storage/import.h"
#include "storage/import_output.h"

enum {
    BLOCK_BYTES = 1 << 20,
    ROW_BYTES_MAX = 256 << 20, /* of one image: more is a damaged header */
};

enum { IMAGES, LABELS };
static const char *const role_words[] = {"images", "labels"};

/* A word of the file's name, and the split that it stands for; the first that is found counts. */
static const struct {
    const char *word;
    int split;
} split_words[] = {{"train", 0}, {"t10k", 1}, {"test", 1}, {"valid", 2}};
static const char *const split_names[] = {"train", "test", "validation"};
enum { N_SPLITS = 3 };

static const struct {
    uint8_t code;
    ls_h5_type type;
} idx_types[] = {{0x08, LS_H5_U8},  {0x09, LS_H5_I8},  {0x0b, LS_H5_I16},
                 {0x0c, LS_H5_I32}, {0x0d, LS_H5_F32}, {0x0e, LS_H5_F64}};

typedef struct {
    char *paths[N_SPLITS][2]; /* by split and role; NULL: none */
} idx_set;

typedef struct {
    const char *path;
    gzFile stream;
    ls_h5_type type;
    int rank;
    uint64_t dims[4];
    size_t row_bytes;
} idx_file;

/* ---- which file is what ---- */

/* False when the name says nothing of what we look for. */
static bool classify(const char *path, int *split, int *role) {
    const char *slash = strrchr(path, '/');
    char *name = ls_xstrdup(slash ? slash + 1 : path);
    for (char *c = name; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    *split = *role = -1;
    for (int i = 0; i < 2; i++) {
        *role = *role < 0 && strstr(name, role_words[i]) ? i : *role;
    }
    for (size_t i = 0; i < sizeof split_words / sizeof split_words[0]; i++) {
        *split = *split < 0 && strstr(name, split_words[i].word) ? split_words[i].split : *split;
    }
    free(name);
    return *split >= 0 && *role >= 0;
}

static ls_status add_path(idx_set *set, const char *path, int split, int role, ls_err *err) {
    char **place = &set->paths[split][role];
    if (*place != NULL) {
        return ls_fail(err, LS_EINPUT, "both %s and %s are the %s of /%s by their names; name one of them", *place,
                       path, role_words[role], split_names[split]);
    }
    *place = ls_xstrdup(path);
    return LS_OK;
}

static ls_status add_folder(idx_set *set, const char *folder, ls_err *err) {
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: cannot be opened: %s", folder, strerror(errno));
    }
    ls_status s = LS_OK;
    size_t n_found = 0;
    for (struct dirent *entry; s == LS_OK && (entry = readdir(dir)) != NULL;) {
        int split, role;
        char *path = ls_path_join(folder, entry->d_name);
        if (classify(entry->d_name, &split, &role) && ls_file_exists(path)) {
            s = add_path(set, path, split, role, err);
            n_found++;
        }
        free(path);
    }
    closedir(dir);
    return s != LS_OK || n_found > 0 ? s
                                     : ls_fail(err, LS_EINPUT,
                                               "%s: holds no IDX files; names like train-images-idx3-ubyte and "
                                               "t10k-labels-idx1-ubyte.gz were expected",
                                               folder);
}

static ls_status find_files(idx_set *set, const char *const *inputs, size_t n_inputs, ls_err *err) {
    for (size_t i = 0; i < n_inputs; i++) {
        int split, role;
        if (ls_folder_exists(inputs[i])) {
            LS_TRY(add_folder(set, inputs[i], err));
        } else if (!ls_file_exists(inputs[i])) {
            return ls_fail(err, LS_EINPUT, "%s: there is no such file or folder", inputs[i]);
        } else if (!classify(inputs[i], &split, &role)) {
            return ls_fail(err, LS_EINPUT,
                           "%s: its name does not tell what it holds; it should contain \"images\" or "
                           "\"labels\", and \"train\", \"test\", \"t10k\" or \"valid\"",
                           inputs[i]);
        } else {
            LS_TRY(add_path(set, inputs[i], split, role, err));
        }
    }
    for (int split = 0; split < N_SPLITS; split++) {
        char **paths = set->paths[split];
        if ((paths[IMAGES] == NULL) != (paths[LABELS] == NULL)) {
            int there = paths[IMAGES] ? IMAGES : LABELS;
            return ls_fail(err, LS_EINPUT, "%s: the %s that belong to it are missing", paths[there],
                           role_words[!there]);
        }
    }
    return LS_OK;
}

/* ---- reading one file ---- */

static ls_status fail_short(const idx_file *idx, ls_err *err) {
    int code = Z_OK;
    const char *reason = gzerror(idx->stream, &code);
    return ls_fail(err, LS_EINPUT, "%s: ends too early%s%s%s; it was not completely copied", idx->path,
                   code != Z_OK && code != Z_BUF_ERROR ? " (" : "", code != Z_OK && code != Z_BUF_ERROR ? reason : "",
                   code != Z_OK && code != Z_BUF_ERROR ? ")" : "");
}

static ls_status read_bytes(const idx_file *idx, void *out, size_t n_bytes, ls_err *err) {
    return gzread(idx->stream, out, (unsigned)n_bytes) == (int)n_bytes ? LS_OK : fail_short(idx, err);
}

static ls_status read_header(idx_file *idx, int role, ls_err *err) {
    uint8_t magic[4], size[4];
    int n = gzread(idx->stream, magic, 4);
    idx->type = LS_H5_TYPE_COUNT;
    for (size_t i = 0; n == 4 && i < sizeof idx_types / sizeof idx_types[0]; i++) {
        idx->type = magic[0] == 0 && magic[1] == 0 && magic[2] == idx_types[i].code ? idx_types[i].type : idx->type;
    }
    if (idx->type == LS_H5_TYPE_COUNT) {
        return n < 4 ? fail_short(idx, err)
                     : ls_fail(err, LS_EINPUT,
                               "%s: is not an IDX file: it begins with %02x %02x %02x %02x; 00 00, a type "
                               "(08 to 0e) and the number of axes were expected",
                               idx->path, magic[0], magic[1], magic[2], magic[3]);
    }
    idx->rank = magic[3];
    if (role == LABELS ? idx->rank != 1 : idx->rank < 2 || idx->rank > 4) {
        return ls_fail(err, LS_EINPUT, "%s: has %d axes; %s", idx->path, idx->rank,
                       role == LABELS ? "labels have 1" : "images have 2 to 4 (N, H, W, C)");
    }
    if (role == LABELS && (idx->type == LS_H5_F32 || idx->type == LS_H5_F64)) {
        return ls_fail(err, LS_EINPUT, "%s: labels are whole numbers; these are %s", idx->path,
                       ls_h5_type_name(idx->type));
    }
    idx->row_bytes = ls_h5_type_bytes(idx->type);
    for (int i = 0; i < idx->rank; i++) {
        LS_TRY(read_bytes(idx, size, 4, err));
        idx->dims[i] = (uint64_t)size[0] << 24 | (uint64_t)size[1] << 16 | (uint64_t)size[2] << 8 | size[3];
        if (idx->dims[i] == 0 || (i > 0 && __builtin_mul_overflow(idx->row_bytes, idx->dims[i], &idx->row_bytes)) ||
            idx->row_bytes > ROW_BYTES_MAX) {
            return ls_fail(err, LS_EINPUT, "%s: its header claims an axis of length %llu", idx->path,
                           (unsigned long long)idx->dims[i]);
        }
    }
    return LS_OK;
}

static ls_status idx_open(idx_file *idx, const char *path, int role, ls_err *err) {
    *idx = (idx_file){.path = path, .stream = gzopen(path, "rb")};
    if (idx->stream == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    }
    gzbuffer(idx->stream, 256 << 10);
    return read_header(idx, role, err);
}

static void idx_release(idx_file *idx) {
    if (idx->stream != NULL) {
        gzclose(idx->stream);
    }
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
static void to_native(uint8_t *bytes, size_t n_bytes, size_t elem_bytes) {
    for (size_t i = 0; elem_bytes > 1 && i < n_bytes; i += elem_bytes) {
        for (size_t k = 0; k < elem_bytes / 2; k++) {
            uint8_t kept = bytes[i + k];
            bytes[i + k] = bytes[i + elem_bytes - 1 - k];
            bytes[i + elem_bytes - 1 - k] = kept;
        }
    }
}
#else
static void to_native(uint8_t *bytes, size_t n_bytes, size_t elem_bytes) {
    (void)bytes, (void)n_bytes, (void)elem_bytes;
}
#endif

/* ---- writing ---- */

/* The header is believed only as far as the bytes go: the array is made at its full size, but a file that is too short
 * fails and takes the output with it. */
static ls_status copy_rows(const idx_file *idx, ls_import_array *array, ls_err *err) {
    uint64_t rows = BLOCK_BYTES / idx->row_bytes;
    rows = rows == 0 ? 1 : rows;
    uint8_t *block = ls_calloc(rows, idx->row_bytes), extra;
    ls_status s = block ? LS_OK : ls_fail(err, LS_ENOMEM, "%s: no memory for one image", idx->path);
    for (uint64_t first = 0; s == LS_OK && first < idx->dims[0]; first += rows) {
        uint64_t count = idx->dims[0] - first < rows ? idx->dims[0] - first : rows;
        s = read_bytes(idx, block, count * idx->row_bytes, err);
        if (s == LS_OK) {
            to_native(block, count * idx->row_bytes, ls_h5_type_bytes(idx->type));
            s = ls_import_rows(array, count, block, err);
        }
    }
    free(block);
    if (s == LS_OK && gzread(idx->stream, &extra, 1) != 0) {
        s = ls_fail(err, LS_EINPUT, "%s: goes on after the %llu samples that its header announces", idx->path,
                    (unsigned long long)idx->dims[0]);
    }
    return s;
}

static ls_status copy_array(ls_import_output *output, const idx_file *idx, const char *split, const char *name,
                            ls_err *err) {
    ls_import_array *array = NULL;
    uint64_t dims[4] = {idx->dims[0], idx->dims[1], idx->dims[2], idx->dims[3]};
    int rank = idx->rank;
    if (rank == 3) {
        dims[rank++] = 1; /* one channel */
    }
    char *path = ls_xprintf("/%s/%s", split, name);
    ls_status s = ls_import_add(output, path, idx->type, rank, dims, &array, err);
    s = s == LS_OK ? copy_rows(idx, array, err) : s;
    if (s == LS_OK && name[0] == 'x' && idx->type == LS_H5_U8) {
        s = ls_h5_attr_set_double(output->file, path, "scale", 1.0 / 255, err);
    }
    free(path);
    return s;
}

static ls_status copy_split(ls_import_output *output, char *const paths[2], const char *split, ls_err *err) {
    idx_file images = {0}, labels = {0};
    ls_status s = idx_open(&images, paths[IMAGES], IMAGES, err);
    s = s == LS_OK ? idx_open(&labels, paths[LABELS], LABELS, err) : s;
    if (s == LS_OK && images.dims[0] != labels.dims[0]) {
        s = ls_fail(err, LS_EINPUT, "%s holds %llu images, but %s holds %llu labels; they do not belong together",
                    images.path, (unsigned long long)images.dims[0], labels.path, (unsigned long long)labels.dims[0]);
    }
    s = s == LS_OK ? copy_array(output, &images, split, "x", err) : s;
    s = s == LS_OK ? copy_array(output, &labels, split, "y", err) : s;
    idx_release(&images);
    idx_release(&labels);
    return s;
}

ls_status ls_import_idx(const char *path, const char *const *inputs, size_t n_inputs, const ls_import_options *options,
                        ls_err *err) {
    idx_set set = {{{NULL}}};
    ls_import_output output;
    ls_status s = find_files(&set, inputs, n_inputs, err);
    if (s == LS_OK && (s = ls_import_begin(&output, path, options, err)) == LS_OK) {
        for (int split = 0; s == LS_OK && split < N_SPLITS; split++) {
            if (set.paths[split][IMAGES] != NULL) {
                s = copy_split(&output, set.paths[split], split_names[split], err);
            }
        }
        if (s == LS_OK) {
            s = ls_import_commit(&output, err);
        } else {
            ls_import_abandon(&output);
        }
    }
    for (int i = 0; i < N_SPLITS; i++) {
        free(set.paths[i][IMAGES]);
        free(set.paths[i][LABELS]);
    }
    return s;
}
