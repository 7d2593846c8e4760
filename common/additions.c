#include "common/additions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/text.h"

enum { MAX_NAME = 64 };

static const ls_addition *find(const ls_additions *list, const char *name) {
    for (int i = 0; i < list->n; i++) {
        if (strcmp(list->item[i].name, name) == 0 || ls_word_listed(list->item[i].aliases, name)) {
            return &list->item[i];
        }
    }
    return NULL;
}

static ls_status check_free(const ls_additions *list, const char *kind, bool (*built_in)(const char *name),
                            const ls_addition *row, const char *name, ls_err *err) {
    if (built_in(name)) {
        return ls_fail(err, LS_EINPUT,
                       "%s: its %s \"%s\" has the name of a built-in one, which cannot be overridden; give it another "
                       "name",
                       row->owner, kind, name);
    }
    const ls_addition *other = find(list, name);
    if (other != NULL) {
        return ls_fail(err, LS_EINPUT, "%s: its %s \"%s\" is already added by %s; load one of the two, or rename one",
                       row->owner, kind, name, strcmp(other->owner, row->owner) == 0 ? "itself" : other->owner);
    }
    return LS_OK;
}

/* Names stand in JSON, in lists separated by spaces and in file names. */
static bool good_name(const char *name) {
    size_t n = name != NULL ? strlen(name) : 0;
    return n > 0 && n <= MAX_NAME && strpbrk(name, " /\"\\\n\t") == NULL;
}

ls_status ls_additions_add(ls_additions *list, const char *kind, bool (*built_in)(const char *name),
                           const ls_addition *row, ls_err *err) {
    if (!good_name(row->name)) {
        return ls_fail(err, LS_EINPUT,
                       "%s: a %s needs a name of 1 to %d characters without spaces, quotes and slashes, has \"%.80s\"",
                       row->owner, kind, MAX_NAME, row->name != NULL ? row->name : "");
    }
    LS_TRY(check_free(list, kind, built_in, row, row->name, err));
    for (const char *at = row->aliases; at != NULL && *at != '\0';) {
        char word[MAX_NAME + 1];
        size_t n = strcspn(at, " ");
        snprintf(word, sizeof word, "%.*s", (int)n, at);
        LS_TRY(check_free(list, kind, built_in, row, word, err));
        at += n + (at[n] == ' ');
    }
    LS_PUSH(list->item, list->n, list->cap, *row);
    return LS_OK;
}

const void *ls_additions_find(const ls_additions *list, const char *name) {
    const ls_addition *found = find(list, name);
    return found != NULL ? found->row : NULL;
}

size_t ls_additions_names(const ls_additions *list, const char **names, size_t n, size_t max) {
    for (int i = 0; i < list->n && n < max; i++) {
        names[n++] = list->item[i].name;
    }
    return n;
}

void ls_additions_clear(ls_additions *list) {
    free(list->item);
    *list = (ls_additions){0};
}
