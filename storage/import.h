/*
 * Importers: other people's files into data sets (storage/dataset.h).
 *
 * Each writes a temporary file beside the output, reads it back, compares, and only then gives it its name: after any
 * failure or crash there is no partial data set, and an older one of that name is still whole. An output that exists
 * and is not HDF5 is refused rather than replaced.
 */
#ifndef LS_STORAGE_IMPORT_H
#define LS_STORAGE_IMPORT_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "storage/h5.h"

/* What every importer takes. Zeroed is legal. Text is borrowed. */
typedef struct ls_import_options {
    int gzip;            /* 0: contiguous, fastest to load; 1 .. 9: compressed, with a checksum a chunk */
    const char *source;  /* becomes the file's attribute "source"; NULL: none */
    const char *licence; /* becomes the file's attribute "licence"; NULL: none */
} ls_import_options;

/*
 * IDX files (the format of MNIST), plain or gzipped, into splits with x and y.
 *
 *   inputs  files, or folders in which the files are looked for. A file's name says what it is: it contains "images" or
 *           "labels", and "train", "t10k" or "test", or "valid" (-> /train, /test, /validation)
 *   x       images: (N, H, W) becomes (N, H, W, 1); (N, H, W, C) and (N, F) stay; unsigned bytes get scale = 1/255
 *   y       labels (N), whole numbers
 *
 * Errors   LS_EINPUT: not IDX, truncated or with bytes left over, images and labels of different number, one without
 * the other, two files for one place. LS_EIO: the output cannot be written. Source   http://yann.lecun.com/exdb/mnist/,
 * "the IDX file format"
 */
ls_status ls_import_idx(const char *output, const char *const *inputs, size_t n_inputs,
                        const ls_import_options *options, ls_err *err) LS_MUST_CHECK;

enum { LS_CSV_LABEL_LAST = -1, LS_CSV_LABEL_NONE = -2 };

typedef struct ls_import_csv_options {
    ls_import_options common;
    int label;                          /* column of y, from 0; or LS_CSV_LABEL_LAST, LS_CSV_LABEL_NONE */
    int rank;                           /* axes of a sample of x; 0: one, of all columns that are not y */
    uint64_t shape[LS_H5_RANK_MAX - 1]; /* [rank] */
    double scale;                       /* attribute "scale" of x; 0 or 1: none is written */
    uint64_t n_test;                    /* the last n_test rows become /test, those before them /train; 0: all /train */
} ls_import_csv_options;

/*
 * A table of numbers, plain or gzipped, one sample a line; separated by comma, semicolon or tab (the first of them on
 * the first line). A first line without any number in it is a heading and is passed over.
 *
 * Types    x and y are each uint8 when all their values are whole numbers from 0 to 255, int32 when whole and within it
 *          (y only), else float32
 * Errors   LS_EINPUT with the line and the column: a field that is empty or no finite number, a line with another
 * number of fields, a shape that does not fit. LS_EIO: the output cannot be written. Cost     the file is read twice,
 * and never held in memory
 */
ls_status ls_import_csv(const char *output, const char *input, const ls_import_csv_options *options,
                        ls_err *err) LS_MUST_CHECK;

typedef struct ls_import_text_options {
    ls_import_options common;
    uint64_t window, stride; /* characters; 1 and more */
    uint64_t n_test;         /* the last n_test windows become /test, those before them /train; 0: all /train */
    const char *vocabulary;  /* a file whose vocabulary is used (storage/vocabulary.h); NULL: the text's own */
} ls_import_text_options;

/*
 * A text in UTF-8 for models that tell the next character, as a window every `stride` characters.
 *
 *   x    (N, window) class numbers of characters, uint8 where there are up to 256 classes, else int32
 *   y    (N, window) the same moved by one: at each place the character that comes next
 *   The file's attribute "vocabulary" is the JSON list of the characters.
 *
 * Errors   LS_EINPUT: no UTF-8, a character that is not in the vocabulary given, with the line; too short for a window.
 * LS_EIO: the output cannot be written. Cost     the text is held in memory, at 8 bytes a character
 */
ls_status ls_import_text(const char *output, const char *input, const ls_import_text_options *options,
                         ls_err *err) LS_MUST_CHECK;

#endif
