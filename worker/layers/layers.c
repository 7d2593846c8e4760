#include <string.h>

#include "common/additions.h"
#include "worker/layers/rows.h"

static const ls_layer_class *const classes[] = {
#define X(row) &ls_layer_##row,
    LS_LAYER_LIST(X)
#undef X
        NULL,
};

const ls_layer_class *const *ls_layer_classes(void) {
    return classes;
}

static ls_additions added;

static const ls_layer_class *find_built_in(const char *class_name) {
    for (int i = 0; classes[i] != NULL; i++) {
        if (strcmp(classes[i]->name, class_name) == 0) {
            return classes[i];
        }
    }
    return NULL;
}

static bool built_in(const char *class_name) {
    return find_built_in(class_name) != NULL;
}

const ls_layer_class *ls_layer_class_find(const char *class_name) {
    const ls_layer_class *found = find_built_in(class_name);
    return found != NULL ? found : ls_additions_find(&added, class_name);
}

ls_status ls_layer_class_add(const ls_layer_class *class_, const char *owner, ls_err *err) {
    const ls_addition row = {.name = class_->name, .owner = owner, .row = class_};
    return ls_additions_add(&added, "layer", built_in, &row, err);
}

void ls_layer_class_drop_added(void) {
    ls_additions_clear(&added);
}

size_t ls_layer_class_added_names(const char **names, size_t n, size_t max) {
    return ls_additions_names(&added, names, n, max);
}
