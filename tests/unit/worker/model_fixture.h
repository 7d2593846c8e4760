/* What the tests of models share: building from text and finding things. */
#ifndef LS_TESTS_MODEL_FIXTURE_H
#define LS_TESTS_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/layers/layer.h"
#include "worker/model/model.h"
#include "worker/ops/ops.h"

static inline ls_status try_build(ls_model **m, const char *text, const ls_shape *shapes, int n, ls_err *err) {
    ls_json_doc doc;
    ls_err parse = LS_ERR_INIT;
    if (ls_json_parse(&doc, "model.json", text, &parse) != LS_OK) {
        fail_msg("the test's own JSON: %s", parse.text);
    }
    return ls_model_build(m, &doc, shapes, n, err);
}

static inline ls_model *build(const char *text) {
    ls_model *m = NULL;
    ls_err err = LS_ERR_INIT;
    if (try_build(&m, text, NULL, 0, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    return m;
}

/* A Sequential model of the given layers ("{...}, {...}") after an InputLayer of that shape ("4, 4, 1"). */
static inline char *sequential(const char *shape, const char *layers) {
    return ls_xprintf(
        "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"s\", \"layers\": [{\"class_name\": \"InputLayer\", "
        "\"config\": {\"batch_input_shape\": [null, %s], \"dtype\": \"float32\", \"name\": \"in\"}}, %s]}}",
        shape, layers);
}

static inline ls_model *build_sequential(const char *shape, const char *layers) {
    char *text = sequential(shape, layers);
    ls_model *m = build(text);
    free(text);
    return m;
}

/* Building fails with LS_EINPUT and a sentence that has all of the words (NULL at the end). */
static inline void assert_refused(const char *text, ...) {
    ls_model *m = NULL;
    ls_err err = LS_ERR_INIT;
    ls_status status = try_build(&m, text, NULL, 0, &err);
    assert_int_equal(status, LS_EINPUT);
    assert_null(m);
    va_list words;
    va_start(words, text);
    for (const char *word = va_arg(words, const char *); word != NULL; word = va_arg(words, const char *)) {
        if (strstr(err.text, word) == NULL) {
            fail_msg("\"%s\" does not say \"%s\"", err.text, word);
        }
    }
    va_end(words);
}

static inline void assert_shape(const ls_shape *s, const char *expected) {
    char text[96];
    assert_string_equal(ls_shape_text(s, false, text, sizeof text), expected);
}

static inline void assert_weight(const ls_model *m, int i, const char *path, const char *shape) {
    assert_in_range(i, 0, m->n_weights - 1);
    assert_string_equal(m->weights[i]->path, path);
    assert_shape(&m->weights[i]->shape, shape);
    assert_int_equal(m->weights[i]->id, i);
}

#endif
