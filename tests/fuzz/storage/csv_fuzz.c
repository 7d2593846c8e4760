/* Any bytes given as a table: a data set that opens, or a sentence and no file. */
#include "tests/fuzz/storage/imported.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void import_with(int label, uint64_t n_test) {
    const ls_import_csv_options options = {.label = label, .n_test = n_test};
    const char *out = scratch("out.h5");
    ls_err err = LS_ERR_INIT;
    imported(ls_import_csv(out, scratch("in.csv"), &options, &err), out, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    scratch_write("in.csv", data, n_bytes);
    import_with(LS_CSV_LABEL_LAST, 0);
    import_with(LS_CSV_LABEL_NONE, 1);
    import_with(1, 0);
    unlink(scratch("in.csv"));
    return 0;
}
