/* Any bytes given as a data set: every split that opens can be read, summarised and gathered from, or there is a
 * sentence. The HDF5 library itself reads the bytes first. */
#include <string.h>

#include "storage/dataset.h"
#include "tests/fuzz/storage/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void must_explain(ls_status status, const ls_err *err) {
    if (status != LS_OK && err->text[0] == '\0') {
        abort();
    }
}

static void read_split(const char *split) {
    enum { SAMPLE_BYTES_MAX = 1 << 20 };
    static char sample[SAMPLE_BYTES_MAX];
    char name[1024];
    ls_dataset *dataset = NULL;
    ls_err err = LS_ERR_INIT;
    uint64_t fingerprint;
    snprintf(name, sizeof name, "%s:%s", scratch("in.h5"), split);
    ls_status s = ls_dataset_open(name, &dataset, &err);
    must_explain(s, &err);
    if (s != LS_OK) {
        return;
    }
    for (size_t i = 0; i < dataset->n_arrays; i++) {
        const uint64_t last = dataset->n_samples - 1;
        ls_data_summary summary = {0};
        if (dataset->arrays[i].sample_bytes > SAMPLE_BYTES_MAX || dataset->n_samples > 10000) {
            continue;
        }
        must_explain(ls_dataset_gather(dataset, i, &last, 1, sample, &err), &err);
        must_explain(ls_dataset_summarise(dataset, i, &summary, &err), &err);
        ls_data_summary_release(&summary);
    }
    if (dataset->n_samples <= 10000) {
        must_explain(ls_dataset_fingerprint(dataset, &fingerprint, &err), &err);
    }
    ls_dataset_destroy(dataset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    ls_h5 *file = NULL;
    ls_h5_names splits = {NULL, 0};
    ls_err err = LS_ERR_INIT;
    scratch_write("in.h5", data, n_bytes);
    ls_status s = ls_h5_open(scratch("in.h5"), &file, &err);
    must_explain(s, &err);
    if (s == LS_OK) {
        must_explain(ls_dataset_splits(file, &splits, &err), &err);
        ls_h5_discard(file);
    }
    for (size_t i = 0; i < splits.n; i++) {
        read_split(splits.items[i]);
    }
    ls_h5_names_release(&splits);
    unlink(scratch("in.h5"));
    return 0;
}
