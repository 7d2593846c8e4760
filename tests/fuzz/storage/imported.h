/* What every importer owes: a data set that opens, or a sentence and no file. */
#ifndef LS_TESTS_FUZZ_IMPORTED_H
#define LS_TESTS_FUZZ_IMPORTED_H

#include "common/file.h"
#include "storage/dataset.h"
#include "storage/import.h"
#include "tests/fuzz/storage/scratch.h"

/* After an import to `out` that returned s; removes what it made. */
static inline void imported(ls_status s, const char *out, ls_err *err) {
    if (s == LS_OK) {
        char name[160];
        ls_dataset *dataset = NULL;
        snprintf(name, sizeof name, "%s:/train", out);
        if (ls_dataset_open(name, &dataset, err) != LS_OK) {
            abort();
        }
        ls_dataset_destroy(dataset);
        unlink(out);
    } else if (err->text[0] == '\0' || ls_file_exists(out)) {
        abort();
    }
}

#endif
