/* Activations as attributes, for layers that do not add them as nodes of their own. */
#ifndef LS_WORKER_LAYERS_ACTIVATION_H
#define LS_WORKER_LAYERS_ACTIVATION_H

#include "worker/layers/layer.h"
#include "worker/ops/ops.h"

/* config[key]: a name or a serialized object; null is linear, absent is default_name. A softmax's axis is left as it is
 * written. */
ls_status ls_layer_read_activation(const ls_layer_call *call, const char *key, const char *default_name,
                                   ls_act_attr *out, ls_err *err) LS_MUST_CHECK;

#endif
