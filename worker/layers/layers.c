#include <string.h>

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

const ls_layer_class *ls_layer_class_find(const char *class_name) {
    for (int i = 0; classes[i] != NULL; i++) {
        if (strcmp(classes[i]->name, class_name) == 0) {
            return classes[i];
        }
    }
    return NULL;
}
