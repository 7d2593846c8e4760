#include "trainer/fit/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

void ls_tables_add(ls_tables *tables, const char *name, int64_t n, const double *counts) {
    tables->item = ls_xrealloc(tables->item, (size_t)(tables->n + 1) * sizeof *tables->item);
    ls_table *t = &tables->item[tables->n++];
    *t = (ls_table){.n = n, .counts = ls_xcalloc((size_t)(n * n), sizeof *t->counts)};
    snprintf(t->name, sizeof t->name, "%s", name);
    memcpy(t->counts, counts, (size_t)(n * n) * sizeof *counts);
}

const ls_table *ls_tables_find(const ls_tables *tables, const char *name) {
    for (int i = 0; i < tables->n; i++) {
        if (strcmp(tables->item[i].name, name) == 0) {
            return &tables->item[i];
        }
    }
    return NULL;
}

void ls_tables_release(ls_tables *tables) {
    for (int i = 0; i < tables->n; i++) {
        free(tables->item[i].counts);
    }
    free(tables->item);
    *tables = (ls_tables){0};
}

typedef struct {
    double precision, recall, f1, support;
} scores;

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0;
}

static scores of_class(const ls_table *t, int64_t c) {
    double row = 0, column = 0, hits = t->counts[c * t->n + c];
    for (int64_t i = 0; i < t->n; i++) {
        row += t->counts[c * t->n + i];
        column += t->counts[i * t->n + c];
    }
    return (scores){ratio(hits, column), ratio(hits, row), ratio(2 * hits, row + column), row};
}

/* Characters that the widest count takes. */
static int count_width(const ls_table *t) {
    int widest = snprintf(NULL, 0, "%d", (int)t->n - 1);
    for (int64_t i = 0; i < t->n * t->n; i++) {
        int width = snprintf(NULL, 0, "%.10g", t->counts[i]);
        widest = width > widest ? width : widest;
    }
    return widest + 1;
}

char *ls_table_text(const ls_table *t) {
    char *text = NULL;
    size_t n_bytes;
    FILE *out = open_memstream(&text, &n_bytes);
    LS_ASSERT(out != NULL);
    int width = count_width(t);
    fprintf(out, "%s (rows: true classes, columns: predicted)\n%6s", t->name, "");
    for (int64_t c = 0; c < t->n; c++) {
        fprintf(out, "%*lld", width, (long long)c);
    }
    fprintf(out, "  precision  recall      f1  support\n");
    for (int64_t r = 0; r < t->n; r++) {
        scores s = of_class(t, r);
        fprintf(out, "%6lld", (long long)r);
        for (int64_t c = 0; c < t->n; c++) {
            fprintf(out, "%*.10g", width, t->counts[r * t->n + c]);
        }
        fprintf(out, "     %.4f  %.4f  %.4f  %7.10g\n", s.precision, s.recall, s.f1, s.support);
    }
    fclose(out);
    return text;
}

json_t *ls_table_json(const ls_table *t) {
    json_t *counts = json_array(), *precision = json_array(), *recall = json_array(), *f1 = json_array(),
           *support = json_array();
    for (int64_t r = 0; r < t->n; r++) {
        scores s = of_class(t, r);
        json_t *row = json_array();
        for (int64_t c = 0; c < t->n; c++) {
            json_array_append_new(row, json_real(t->counts[r * t->n + c]));
        }
        json_array_append_new(counts, row);
        json_array_append_new(precision, json_real(s.precision));
        json_array_append_new(recall, json_real(s.recall));
        json_array_append_new(f1, json_real(s.f1));
        json_array_append_new(support, json_real(s.support));
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "counts", counts, "precision", precision, "recall", recall, "f1", f1,
                     "support", support);
}

char *ls_table_csv(const ls_table *t) {
    char *text = NULL;
    size_t n_bytes;
    FILE *out = open_memstream(&text, &n_bytes);
    LS_ASSERT(out != NULL);
    fprintf(out, "class");
    for (int64_t c = 0; c < t->n; c++) {
        fprintf(out, ",%lld", (long long)c);
    }
    fprintf(out, ",precision,recall,f1,support\n");
    for (int64_t r = 0; r < t->n; r++) {
        scores s = of_class(t, r);
        fprintf(out, "%lld", (long long)r);
        for (int64_t c = 0; c < t->n; c++) {
            fprintf(out, ",%.17g", t->counts[r * t->n + c]);
        }
        fprintf(out, ",%.9g,%.9g,%.9g,%.17g\n", s.precision, s.recall, s.f1, s.support);
    }
    fclose(out);
    return text;
}
