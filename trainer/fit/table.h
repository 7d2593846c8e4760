/*
 * Tables of counts that metrics leave (the confusion matrix): row by row what the classes really were, column by column
 * what they were taken for.
 */
#ifndef LS_FIT_TABLE_H
#define LS_FIT_TABLE_H

#include <stdint.h>

#include "common/json.h"
#include "trainer/fit/logs.h"

typedef struct ls_table {
    char name[LS_LOGS_NAME]; /* the metric's, as in logs */
    int64_t n;
    double *counts; /* (n, n) */
} ls_table;

/* A zeroed one is empty. */
typedef struct ls_tables {
    int n;
    ls_table *item;
} ls_tables;

/* Adds a copy of the counts. */
void ls_tables_add(ls_tables *tables, const char *name, int64_t n, const double *counts);
const ls_table *ls_tables_find(const ls_tables *tables, const char *name);
void ls_tables_release(ls_tables *tables);

/* For people: the counts, and for each class precision, recall, F1 and how many there are of it. Freed by the caller.
 */
char *ls_table_text(const ls_table *t);
/* {"counts": [[..]], "precision": [..], "recall": [..], "f1": [..], "support": [..]} */
json_t *ls_table_json(const ls_table *t);
/* A header "class,0,1,..,precision,recall,f1,support", then a row a class. Freed by the caller. */
char *ls_table_csv(const ls_table *t);

#endif
