/* Any bytes given as the images, then as the labels, of an IDX set: a data set that opens, or a sentence and no file.
 */
#include "tests/fuzz/storage/imported.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void import_both(void) {
    const ls_import_options options = {0};
    const char *inputs[] = {scratch("train-images"), scratch("train-labels")}, *out = scratch("out.h5");
    ls_err err = LS_ERR_INIT;
    imported(ls_import_idx(out, inputs, 2, &options, &err), out, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4},
                         labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 7, 9};
    scratch_write("train-images", data, n_bytes);
    scratch_write("train-labels", labels, sizeof labels);
    import_both();
    scratch_write("train-images", images, sizeof images);
    scratch_write("train-labels", data, n_bytes);
    import_both();
    unlink(scratch("train-images"));
    unlink(scratch("train-labels"));
    return 0;
}
