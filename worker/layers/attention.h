/* What the attention layers share. */
#ifndef LS_WORKER_LAYER_ATTENTION_H
#define LS_WORKER_LAYER_ATTENTION_H

#include "worker/layers/layer.h"

/* Whether queries look only at keys that are not after them (config_key, NULL: none; or the call argument
 * use_causal_mask), and whether the call gives the attention weights as a second output. */
ls_status ls_attention_causal(const ls_layer_call *call, const char *config_key, bool *causal, bool *scores,
                              ls_err *err) LS_MUST_CHECK;
/* softmax(scale * scores) with masks (Tk), (Tq) and (Tq, Tk), each of which may be NULL; scores (.., Tq, Tk). */
ls_tensor *ls_attention_weights(ls_builder *b, ls_layer_call *call, ls_tensor *scores, float scale, bool causal,
                                ls_tensor *key_mask, ls_tensor *query_mask, ls_tensor *pair_mask);
/* config["dropout"] on the weights, in training. */
ls_status ls_attention_dropout(ls_builder *b, ls_layer_call *call, ls_tensor **weights, ls_err *err) LS_MUST_CHECK;
/* x y, or x y^T, over the last two axes. */
ls_tensor *ls_attention_product(ls_builder *b, ls_layer_call *call, ls_tensor *x, ls_tensor *y, bool transpose_y);

#endif
