/* Any text given as a job file: reading it, and saying of every value where it stands, must neither crash nor leak. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* Asks of a value what the readers of jobs and models ask. */
static void visit(ls_json at, int depth) {
    char text[64];
    const char *keys[] = {"model", "config", "layers"};
    ls_err err = LS_ERR_INIT;
    ls_json_describe(at.value, text, sizeof text);
    (void)ls_json_line(at);
    int64_t ints[4] = {0};
    double number = 0;
    bool flag = false;
    const char *word = NULL;
    size_t n_ints = 0;
    if (json_is_object(at.value)) {
        ls_status ignored = ls_json_only_keys(at, keys, 3, &err);
        ignored = ls_json_get_ints(at, "layers", 0, 4, ints, &n_ints, &err);
        ignored = ls_json_get_double(at, "config", -1, 1, &number, &err);
        ignored = ls_json_get_bool(at, "config", &flag, &err);
        ignored = ls_json_get_string(at, "model", &word, &err);
        (void)ignored;
    }
    if (depth == 0) return;
    for (size_t i = 0; json_is_array(at.value) && i < ls_json_length(at); i++) {
        visit(ls_json_element(at, i), depth - 1);
    }
    const char *key;
    json_t *member;
    json_object_foreach(at.value, key, member) visit(ls_json_member(at, key), depth - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    char *text = malloc(n_bytes + 1);
    if (text == NULL) return 0;
    memcpy(text, data, n_bytes);
    text[n_bytes] = '\0';
    ls_json_doc doc = {0};
    ls_err err = LS_ERR_INIT;
    if (ls_json_parse(&doc, "fuzz", text, &err) == LS_OK) {
        visit(ls_json_root(&doc), 6);
        ls_json_release(&doc);
    }
    free(text);
    return 0;
}
