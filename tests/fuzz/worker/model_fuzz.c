/* Any text given as a model: it is built or refused with a sentence; what was built is written, and that builds again
 * to the same weights. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static ls_model *build(const char *text, ls_err *err) {
    ls_json_doc doc;
    ls_model *model = NULL;
    if (ls_json_parse(&doc, "fuzz", text, err) == LS_OK) {
        ls_status status = ls_model_build(&model, &doc, NULL, 0, err);
        LS_ASSERT((status == LS_OK) == (model != NULL));
    }
    LS_ASSERT(model != NULL || err->text[0] != '\0');
    return model;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    char *text = ls_xcalloc(1, n_bytes + 1);
    memcpy(text, data, n_bytes);
    ls_err err = LS_ERR_INIT;
    ls_model *model = build(text, &err);
    if (model != NULL) {
        char *written = ls_model_config_text(model);
        ls_model *again = build(written, &err);
        LS_ASSERT(again != NULL && again->n_weights == model->n_weights && again->n_nodes == model->n_nodes);
        for (int i = 0; i < model->n_weights; i++) {
            LS_ASSERT(ls_shape_equal(&model->weights[i]->shape, &again->weights[i]->shape));
        }
        ls_model_destroy(again);
        free(written);
        ls_model_destroy(model);
    }
    free(text);
    return 0;
}
