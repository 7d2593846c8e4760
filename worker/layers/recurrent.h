/* What the layers that own recurrent layers and cells (Bidirectional, RNN) want of them. */
#ifndef LS_WORKER_LAYERS_RECURRENT_H
#define LS_WORKER_LAYERS_RECURRENT_H

#include "worker/layers/layer.h"

typedef struct ls_recurrent_role {
    bool turn;        /* the other direction than the configuration says */
    bool flip;        /* a sequence comes out in the reverse of the order in which it was made */
    bool no_echo;     /* masked steps of a sequence are zeros, whatever the configuration says */
    bool feeds_next;  /* a cell below others of a stack: gives its sequence, in the input's order */
    ls_json sequence; /* of a cell: the configuration of the RNN that runs it; .value NULL: the layer's own */
} ls_recurrent_role;

/* Whether the class is one of the recurrent layers, which know the role; or one of the cells. */
bool ls_layer_is_recurrent(const ls_layer_class *class_);
bool ls_layer_is_cell(const ls_layer_class *class_);
/* States that calls of a layer or cell take and return. */
int ls_layer_recurrent_states(const ls_layer_class *class_);

/* Config keys of cells, and those that recurrent layers have besides. */
#define LS_CELL_KEYS                                                                                    \
    "units activation use_bias kernel_initializer recurrent_initializer bias_initializer "              \
    "kernel_regularizer recurrent_regularizer bias_regularizer kernel_constraint recurrent_constraint " \
    "bias_constraint dropout recurrent_dropout implementation seed enable_caching_device"
#define LS_SEQUENCE_KEYS " return_sequences return_state go_backwards stateful unroll time_major zero_output_for_mask"

#endif
