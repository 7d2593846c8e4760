/* lockstep summary MODEL: the table that Keras's model.summary() prints, from a Keras JSON file or a Keras HDF5 file.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/text.h"
#include "trainer/cli/option.h"
#include "trainer/cli/summary_plan.h"
#include "trainer/cli/verbs.h"
#include "trainer/fit/keras_file.h"
#include "worker/layers/layer.h"
#include "worker/plugin/plugin.h"

enum { MAX_INPUTS = 16, MAX_PLUGINS = 16, N_COLUMNS = 4, CELL = 160 };

/* ---- arguments ---- */

enum { OPTION_SHAPE, OPTION_PLAN, OPTION_PLUGIN, N_OPTIONS };
static const ls_option options[N_OPTIONS] = {{"input-shape", 0, true}, {"plan", 0, true}, {"plugin", 0, true}};

typedef struct {
    const char *model;
    int n_shapes;
    ls_shape shapes[MAX_INPUTS];
    size_t n_plugins;
    char *plugins[MAX_PLUGINS];
    int64_t plan;
} arguments;

static ls_status take_option(void *context, int option, const char *value, ls_err *err) {
    arguments *a = context;
    if (option == OPTION_PLAN) {
        return ls_option_int("--plan", value, 1, 1 << 20, &a->plan, err);
    }
    if (option == OPTION_PLUGIN && a->n_plugins < MAX_PLUGINS) {
        a->plugins[a->n_plugins++] = (char *)value;
        return LS_OK;
    }
    if (option == OPTION_SHAPE && a->n_shapes < MAX_INPUTS) {
        ls_shape *s = &a->shapes[a->n_shapes++];
        return ls_option_lengths("--input-shape", value, LS_MAX_RANK, s->dim, &s->rank, err);
    }
    return ls_option_fail("summary", err, "--%s %s: it is given more than %d times", options[option].word, value,
                          option == OPTION_PLUGIN ? MAX_PLUGINS : MAX_INPUTS);
}

static ls_status take_operand(void *context, const char *word, ls_err *err) {
    arguments *a = context;
    if (a->model != NULL) {
        return ls_option_stray("summary", word, err);
    }
    a->model = word;
    return LS_OK;
}

/* ---- the table ---- */

typedef struct {
    char cell[N_COLUMNS][CELL];
} row;

typedef struct {
    int n, cap;
    row *rows;
    int n_columns;
} table;

static const char *grouped(int64_t n, char *out, size_t size) {
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%" PRId64, n);
    size_t used = 0;
    for (int i = 0; i < length && used + 2 < size; i++) {
        if (i > 0 && (length - i) % 3 == 0) {
            out[used++] = ',';
        }
        out[used++] = digits[i];
    }
    out[used] = '\0';
    return out;
}

static void describe_output(const ls_layer *layer, char *out, size_t size) {
    size_t used = 0;
    for (int i = 0; i < layer->n_out && used < size; i++) {
        char shape[96];
        used += (size_t)snprintf(out + used, size - used, "%s%s%s", i == 0 ? layer->n_out > 1 ? "[" : "" : ", ",
                                 ls_shape_text(&layer->out[i]->shape, true, shape, sizeof shape),
                                 layer->n_out > 1 && i == layer->n_out - 1 ? "]" : "");
    }
}

static void add_layer(table *t, const ls_layer *layer) {
    row r = {{{0}}};
    char count[32];
    snprintf(r.cell[0], CELL, "%s (%s)", layer->name, layer->class_->name);
    describe_output(layer, r.cell[1], CELL);
    snprintf(r.cell[2], CELL, "%s", grouped(ls_layer_count_params(layer, false), count, sizeof count));
    for (int i = 0; i < layer->n_links || i == 0; i++) {
        if (i > 0) {
            r = (row){{{0}}};
        }
        if (i < layer->n_links) {
            snprintf(r.cell[3], CELL, "%s", layer->links[i]);
        }
        LS_PUSH(t->rows, t->n, t->cap, r);
        if (t->n_columns < N_COLUMNS) {
            return;
        }
    }
}

static void print_rule(const int *width, int n_columns, char c) {
    int total = 0;
    for (int k = 0; k < n_columns; k++) {
        total += width[k] + (k > 0 ? 2 : 0);
    }
    for (int i = 0; i < total; i++) {
        putchar(c);
    }
    putchar('\n');
}

static void print_row(const row *r, const int *width, int n_columns) {
    for (int k = 0; k < n_columns; k++) {
        int right = k == 2 ? width[k] : 0; /* numbers stand to the right, and nothing stands after the last cell */
        int left = k + 1 < n_columns ? width[k] : 0;
        printf("%*s%s", right > 0 ? right : -left, r->cell[k], k + 1 < n_columns ? "  " : "\n");
    }
}

static void print_total(const char *what, int64_t n) {
    char count[32], bytes[32];
    printf("%s params: %s (%s)\n", what, grouped(n, count, sizeof count),
           ls_format_bytes(bytes, sizeof bytes, 4.0 * (double)n));
}

static void print_summary(const ls_model *m) {
    table t = {.n_columns = m->sequential ? 3 : 4};
    row head = {{"Layer (type)", "Output Shape", "Param #", "Connected to"}};
    int width[N_COLUMNS];
    int64_t total = 0, trainable = 0;
    for (int i = 0; i < m->n_layers; i++) {
        if (!m->sequential || !m->layers[i]->builtin_input) {
            add_layer(&t, m->layers[i]);
        }
        total += ls_layer_count_params(m->layers[i], false);
        trainable += ls_layer_count_params(m->layers[i], true);
    }
    for (int k = 0; k < N_COLUMNS; k++) {
        width[k] = (int)strlen(head.cell[k]);
        for (int i = 0; i < t.n; i++) {
            int length = (int)strlen(t.rows[i].cell[k]);
            width[k] = length > width[k] ? length : width[k];
        }
    }
    printf("Model: \"%s\"\n", m->name);
    print_rule(width, t.n_columns, '_');
    print_row(&head, width, t.n_columns);
    print_rule(width, t.n_columns, '=');
    for (int i = 0; i < t.n; i++) {
        print_row(&t.rows[i], width, t.n_columns);
    }
    print_rule(width, t.n_columns, '=');
    print_total("Total", total);
    print_total("Trainable", trainable);
    print_total("Non-trainable", total - trainable);
    free(t.rows);
}

static ls_status summarise(const char *path, const ls_shape *shapes, int n, int64_t plan, ls_err *err) {
    ls_model *m = NULL;
    LS_TRY(ls_keras_build_model(&m, path, shapes, n, err));
    print_summary(m);
    ls_status status = plan > 0 ? ls_summary_print_plan(m, plan, err) : LS_OK;
    ls_model_destroy(m);
    return status;
}

ls_status ls_verb_summary(int argc, char **argv, ls_err *err) {
    arguments a = {0};
    ls_json_doc list = {0};
    ls_plugins plugins = {0};
    const ls_option_table known = {"summary", options, N_OPTIONS, LS_TAKES_ALL};
    LS_TRY(ls_options_read(&known, argc, argv, take_option, take_operand, &a, err));
    if (a.model == NULL) {
        return ls_option_fail("summary", err, "the MODEL is missing");
    }
    LS_TRY(ls_plugins_words(a.plugins, a.n_plugins, &list, err));
    ls_status status = ls_plugins_load(ls_json_root(&list), "", &plugins, err);
    if (status == LS_OK) {
        status = summarise(a.model, a.n_shapes > 0 ? a.shapes : NULL, a.n_shapes, a.plan, err);
    }
    ls_plugins_release(&plugins);
    ls_json_release(&list);
    return status;
}
