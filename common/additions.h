/*
 * What is added to a table of classes while the program runs: rows that plugins bring, found after the built-in ones.
 *
 * Every table (losses, metrics, layers, callbacks) has one list of this kind beside its own rows. Filled before the
 * first step from one thread; read from any afterwards.
 */
#ifndef LS_COMMON_ADDITIONS_H
#define LS_COMMON_ADDITIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

typedef struct ls_addition {
    const char *name, *aliases; /* aliases: separated by single spaces, or NULL */
    const char *owner;          /* who brings it, for messages: the plugin's file */
    const void *row;
} ls_addition;

/* A zeroed one is empty. */
typedef struct ls_additions {
    int n, cap;
    ls_addition *item;
} ls_additions;

/* Adds a row; what it points at must live until ls_additions_clear. `kind` says what it is ("loss"), built_in whether a
 * name is taken by Lockstep itself. LS_EINPUT: no name, or one that is taken, by Lockstep or by an earlier row. */
ls_status ls_additions_add(ls_additions *list, const char *kind, bool (*built_in)(const char *name),
                           const ls_addition *row, ls_err *err) LS_MUST_CHECK;
/* The row of a name or alias; NULL: none. */
const void *ls_additions_find(const ls_additions *list, const char *name);
/* Appends the names to a list of n words with room for max; returns how many there are then. */
size_t ls_additions_names(const ls_additions *list, const char **names, size_t n, size_t max);
void ls_additions_clear(ls_additions *list);

#endif
