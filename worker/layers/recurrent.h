/* What Bidirectional wants of the recurrent layers that it owns. */
#ifndef LS_WORKER_LAYERS_RECURRENT_H
#define LS_WORKER_LAYERS_RECURRENT_H

#include "worker/layers/layer.h"

typedef struct ls_recurrent_role {
    bool turn;    /* the other direction than its configuration says */
    bool flip;    /* a sequence comes out in the reverse of the order in which it was made */
    bool no_echo; /* masked steps of a sequence are zeros, whatever the configuration says */
} ls_recurrent_role;

/* Whether the class is one of the recurrent layers, which know the role. */
bool ls_layer_is_recurrent(const ls_layer_class *class_);
/* States that its calls take and return. */
int ls_layer_recurrent_states(const ls_layer_class *class_);

#endif
