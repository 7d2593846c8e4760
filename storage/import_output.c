#include "storage/import_output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/file.h"
#include "common/memory.h"
#include "storage/h5_sink.h"

enum { BLOCK_BYTES = 1 << 20 };

ls_status ls_import_begin(ls_import_output *output, const char *path, const ls_import_options *options, ls_err *err) {
    *output = (ls_import_output){.options = options};
    LS_TRY(ls_file_check_output(path, LS_H5_FILE, err));
    char *temporary = ls_xprintf("%s.tmp.%d", path, (int)getpid());
    ls_status s = ls_h5_create_watched(temporary, "import", &output->write_error, &output->file, err);
    if (s != LS_OK) {
        unlink(temporary); /* it may fail after the file was made */
        free(temporary);
        return s;
    }
    output->temporary = temporary;
    output->path = ls_xstrdup(path);
    return LS_OK;
}

ls_status ls_import_add(ls_import_output *output, const char *path, ls_h5_type type, int rank, const uint64_t *dims,
                        ls_import_array **array, ls_err *err) {
    int gzip = output->options->gzip;
    const ls_h5_storage storage = {
        .gzip = gzip, .shuffle = gzip > 0 && ls_h5_type_bytes(type) > 1, .fletcher32 = gzip > 0};
    LS_ASSERT(output->n_arrays < LS_IMPORT_ARRAYS_MAX);
    ls_import_array *added = &output->arrays[output->n_arrays];
    *added = (ls_import_array){.output = output};
    LS_TRY(ls_h5_array_create(output->file, path, type, rank, dims, &storage, &added->handle, err));
    output->n_arrays++;
    added->path = ls_xstrdup(path);
    added->hash = ls_hash_start();
    *array = added;
    return LS_OK;
}

/* The sink keeps write errors from HDF5, so they are asked for here. */
static ls_status check_written(const ls_import_output *output, ls_err *err) {
    return output->write_error == 0
               ? LS_OK
               : ls_fail(err, LS_EIO, "%s: cannot be written: %s", output->path, strerror(output->write_error));
}

ls_status ls_import_rows(ls_import_array *array, uint64_t n_rows, const void *rows, ls_err *err) {
    LS_TRY(ls_h5_array_write(array->handle, array->n_written, n_rows, rows, err));
    ls_hash_add(array->hash, rows, n_rows * ls_h5_array_info(array->handle)->row_bytes);
    array->n_written += n_rows;
    return check_written(array->output, err);
}

static ls_status complete(ls_import_output *output, ls_err *err) {
    for (int i = 0; i < output->n_arrays; i++) {
        ls_import_array *array = &output->arrays[i];
        LS_ASSERT(array->n_written == ls_h5_array_info(array->handle)->n_rows);
        ls_hash_finish(array->hash, array->digest);
        array->hash = NULL;
        ls_h5_array *handle = array->handle;
        array->handle = NULL;
        LS_TRY(ls_h5_array_close(handle, err));
    }
    const char *const texts[][2] = {{"source", output->options->source}, {"licence", output->options->licence}};
    for (size_t i = 0; i < 2; i++) {
        if (texts[i][1] != NULL) {
            LS_TRY(ls_h5_attr_set_string(output->file, "/", texts[i][0], texts[i][1], LS_H5_VARIABLE, err));
        }
    }
    ls_h5 *file = output->file;
    output->file = NULL;
    LS_TRY(ls_h5_close(file, err));
    LS_TRY(check_written(output, err));
    output->write_error = ls_fault_at("import");
    LS_TRY(check_written(output, err));
    return ls_file_sync(output->temporary, err);
}

static ls_status verify_array(ls_h5 *file, const ls_import_array *array, char *block, ls_err *err) {
    ls_h5_array *handle = NULL;
    LS_TRY(ls_h5_array_open(file, array->path, &handle, err));
    const ls_h5_info *info = ls_h5_array_info(handle);
    uint64_t rows = BLOCK_BYTES / info->row_bytes;
    char *larger = rows == 0 ? ls_xcalloc(1, info->row_bytes) : NULL;
    rows = rows == 0 ? 1 : rows;
    ls_hash *hash = ls_hash_start();
    ls_status s = LS_OK;
    for (uint64_t first = 0; s == LS_OK && first < info->n_rows; first += rows) {
        uint64_t count = info->n_rows - first < rows ? info->n_rows - first : rows;
        s = ls_h5_array_read(handle, info->type, first, count, larger ? larger : block, err);
        if (s == LS_OK) {
            ls_hash_add(hash, larger ? larger : block, count * info->row_bytes);
        }
    }
    unsigned char digest[LS_HASH_BYTES];
    ls_hash_finish(hash, digest);
    if (s == LS_OK && (info->n_rows != array->n_written || memcmp(digest, array->digest, sizeof digest) != 0)) {
        s = ls_fail(err, LS_EIO, "%s:%s: reads back differently from what was written; the disk is failing",
                    ls_h5_path(file), array->path);
    }
    ls_h5_array_discard(handle);
    free(larger);
    return s;
}

static ls_status verify(ls_import_output *output, ls_err *err) {
    ls_h5 *file = NULL;
    LS_TRY(ls_h5_open(output->temporary, &file, err));
    char *block = ls_xcalloc(1, BLOCK_BYTES);
    ls_status s = LS_OK;
    for (int i = 0; s == LS_OK && i < output->n_arrays; i++) {
        s = verify_array(file, &output->arrays[i], block, err);
    }
    free(block);
    ls_h5_discard(file);
    return s;
}

static ls_status publish(ls_import_output *output, ls_err *err) {
    int fault = ls_fault_at("import");
    if (fault != 0 || rename(output->temporary, output->path) != 0) {
        return ls_fail(err, LS_EIO, "%s: cannot be given its name: %s", output->path, strerror(fault ? fault : errno));
    }
    char *folder = ls_path_folder(output->path);
    ls_status s = ls_folder_sync(folder, err);
    free(folder);
    return s;
}

void ls_import_abandon(ls_import_output *output) {
    for (int i = 0; i < output->n_arrays; i++) {
        ls_h5_array_discard(output->arrays[i].handle);
        if (output->arrays[i].hash != NULL) {
            ls_hash_finish(output->arrays[i].hash, output->arrays[i].digest);
        }
        free(output->arrays[i].path);
    }
    ls_h5_discard(output->file);
    unlink(output->temporary); /* after a rename there is nothing of that name */
    free(output->temporary);
    free(output->path);
    *output = (ls_import_output){0};
}

ls_status ls_import_commit(ls_import_output *output, ls_err *err) {
    ls_status s = complete(output, err);
    s = s == LS_OK ? verify(output, err) : s;
    s = s == LS_OK ? publish(output, err) : s;
    ls_import_abandon(output);
    return s;
}
