/*
 * Attention layers, built from their configurations: forward by formula in double, gradients by central differences;
 * masks as an operator's inputs and as they come through a model.
 */
#include "tests/unit/worker/model_ops_fixture.h"

enum { N = 2, TQ = 3, TV = 4, D = 5, DV = 6 };

/* A layer on inputs q (TQ, D), v (TV, DV) and k (TV, D), of which call says which; more: call arguments. */
static ls_model *layer_model(const char *class_name, const char *config, const char *call, int n_inputs) {
    static const char *const inputs[] = {"", "", "[\"q\", 0, 0], [\"v\", 0, 0]",
                                         "[\"q\", 0, 0], [\"v\", 0, 0], [\"k\", 0, 0]"};
    char *text = ls_xprintf(
        "{\"class_name\": \"Functional\", \"config\": {\"name\": \"m\", \"layers\": ["
        "{\"class_name\": \"InputLayer\", \"config\": {\"batch_input_shape\": [null, %d, %d], \"name\": \"q\"}, "
        "\"inbound_nodes\": []},"
        "{\"class_name\": \"InputLayer\", \"config\": {\"batch_input_shape\": [null, %d, %d], \"name\": \"v\"}, "
        "\"inbound_nodes\": []},"
        "{\"class_name\": \"InputLayer\", \"config\": {\"batch_input_shape\": [null, %d, %d], \"name\": \"k\"}, "
        "\"inbound_nodes\": []},"
        "{\"class_name\": \"%s\", \"config\": {\"name\": \"a\"%s}, \"inbound_nodes\": [[%s]]}], "
        "\"input_layers\": [%s], \"output_layers\": [[\"a\", 0, 0]]}}",
        TQ, D, TV, n_inputs == 2 ? D : DV, TV, D, class_name, config, call, inputs[n_inputs]);
    ls_model *m = build(text);
    free(text);
    return m;
}

typedef struct {
    int heads, dk, dv, out;
    bool bias, causal, scale, own_key;
} attention_case;

static void softmax(double *x, int n) {
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) {
        top = x[i] > top ? x[i] : top;
    }
    for (int i = 0; i < n; i++) {
        x[i] = exp(x[i] - top);
        sum += x[i];
    }
    for (int i = 0; i < n; i++) {
        x[i] /= sum;
    }
}

/* (t, features) -> (t, heads * dim) */
static void project(const double *x, int t, int features, int width, double *const *weight, int at, bool bias,
                    double *y) {
    for (int i = 0; i < t; i++) {
        for (int o = 0; o < width; o++) {
            double sum = bias ? weight[at + 1][o] : 0;
            for (int d = 0; d < features; d++) {
                sum += x[i * features + d] * weight[at][d * width + o];
            }
            y[i * width + o] = sum;
        }
    }
}

static void multi_head_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const attention_case *c = f->reference_data;
    int step = c->bias ? 2 : 1, features = c->own_key ? DV : D;
    for (int n = 0; n < f->n_samples; n++) {
        double q[128], k[128], v[128], joined[128] = {0}, scores[TV];
        const double *value = in[1] + n * TV * features, *key = c->own_key ? in[2] + n * TV * D : value;
        project(in[0] + n * TQ * D, TQ, D, c->heads * c->dk, weight, 0, c->bias, q);
        project(key, TV, D, c->heads * c->dk, weight, step, c->bias, k);
        project(value, TV, features, c->heads * c->dv, weight, 2 * step, c->bias, v);
        for (int h = 0; h < c->heads; h++) {
            for (int t = 0; t < TQ; t++) {
                for (int s = 0; s < TV; s++) {
                    scores[s] = c->causal && s > t ? -1e9 : 0;
                    for (int d = 0; d < c->dk; d++) {
                        scores[s] +=
                            q[(t * c->heads + h) * c->dk + d] * k[(s * c->heads + h) * c->dk + d] / sqrt((double)c->dk);
                    }
                }
                softmax(scores, TV);
                for (int s = 0; s < TV; s++) {
                    for (int d = 0; d < c->dv; d++) {
                        joined[(t * c->heads + h) * c->dv + d] += scores[s] * v[(s * c->heads + h) * c->dv + d];
                    }
                }
            }
        }
        project(joined, TQ, c->heads * c->dv, c->out, weight, 3 * step, c->bias, out + n * TQ * c->out);
    }
}

static void test_multi_head_attention(void **state) {
    (void)state;
    static const attention_case self = {2, 3, 3, D, true, false, true, false};
    fx_check_model(layer_model("MultiHeadAttention", ", \"num_heads\": 2, \"key_dim\": 3",
                               "[\"q\", 0, 0, {\"value\": [\"v\", 0, 0]}]", 2),
                   multi_head_reference, &self, N);
    static const attention_case full = {2, 3, 4, 7, true, true, true, true};
    fx_check_model(
        layer_model("MultiHeadAttention", ", \"num_heads\": 2, \"key_dim\": 3, \"value_dim\": 4, \"output_shape\": 7",
                    "[\"q\", 0, 0, {\"value\": [\"v\", 0, 0], \"key\": [\"k\", 0, 0], \"use_causal_mask\": "
                    "true, \"return_attention_scores\": false}]",
                    3),
        multi_head_reference, &full, N);
    static const attention_case bare = {1, 2, 2, D, false, false, true, false};
    fx_check_model(layer_model("MultiHeadAttention", ", \"num_heads\": 1, \"key_dim\": 2, \"use_bias\": false",
                               "[\"q\", 0, 0, {\"value\": [\"v\", 0, 0]}]", 2),
                   multi_head_reference, &bare, N);
}

/* ---- Attention, AdditiveAttention ---- */

typedef struct {
    enum { DOT, CONCAT, ADDITIVE } mode;
    bool scale, own_key, causal;
} dense_case;

static double score(const dense_case *c, double *const *weight, const double *q, const double *k) {
    double sum = 0, scale = c->scale && c->mode != ADDITIVE ? weight[0][0] : 1;
    for (int d = 0; d < D; d++) {
        double w = c->mode == ADDITIVE && c->scale ? weight[0][d] : 1;
        sum += c->mode == DOT ? scale * q[d] * k[d] : w * tanh(scale * (q[d] + k[d]));
    }
    return c->mode == CONCAT ? weight[c->scale ? 1 : 0][0] * sum : sum;
}

static void dense_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const dense_case *c = f->reference_data;
    int features = c->own_key ? DV : D;
    for (int n = 0; n < f->n_samples; n++) {
        const double *value = in[1] + n * TV * features, *key = c->own_key ? in[2] + n * TV * D : value;
        for (int t = 0; t < TQ; t++) {
            double scores[TV];
            for (int s = 0; s < TV; s++) {
                scores[s] = c->causal && s > t ? -1e9 : score(c, weight, in[0] + (n * TQ + t) * D, key + s * D);
            }
            softmax(scores, TV);
            for (int d = 0; d < features; d++) {
                out[(n * TQ + t) * features + d] = 0;
                for (int s = 0; s < TV; s++) {
                    out[(n * TQ + t) * features + d] += scores[s] * value[s * features + d];
                }
            }
        }
    }
}

static void check_dense(dense_case c) {
    static const char *const names[] = {"Attention", "Attention", "AdditiveAttention"};
    char *config =
        ls_xprintf(", \"use_scale\": %s%s%s", c.scale ? "true" : "false",
                   c.mode == CONCAT ? ", \"score_mode\": \"concat\"" : "", c.causal ? ", \"causal\": true" : "");
    const char *call = c.own_key ? "[\"q\", 0, 0, {}], [\"v\", 0, 0, {}], [\"k\", 0, 0, {}]"
                                 : "[\"q\", 0, 0, {\"training\": null}], [\"v\", 0, 0, {}]";
    fx_check_model(layer_model(names[c.mode], config, call, c.own_key ? 3 : 2), dense_reference, &c, N);
    free(config);
}

static void test_attention(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) {
        check_dense((dense_case){DOT, i & 1, i & 2, i & 4});
        check_dense((dense_case){CONCAT, i & 1, i & 2, i & 4});
        check_dense((dense_case){ADDITIVE, i & 1, i & 2, i & 4});
    }
}

/* ---- masks ---- */

static const double pair_mask[N * TQ * TV] = {1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1};
static const double key_mask[N * TV] = {1, 0, 1, 1, 0, 1, 0, 1}, query_mask[N * TQ] = {1, 1, 0, 0, 1, 1};

typedef struct {
    bool keys, queries, pairs;
} mask_case;

static void masked_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const mask_case *c = f->reference_data;
    (void)weight;
    for (int n = 0; n < N; n++) {
        for (int line = 0; line < 2 * TQ; line++) {
            double *y = out + (n * 2 * TQ + line) * TV;
            for (int s = 0; s < TV; s++) {
                bool away = (c->pairs && pair_mask[(n * TQ + line % TQ) * TV + s] == 0) ||
                            (c->keys && key_mask[n * TV + s] == 0) ||
                            (c->queries && query_mask[n * TQ + line % TQ] == 0);
                y[s] = 0.7 * in[0][(n * 2 * TQ + line) * TV + s] + (away ? -1e9 : 0);
                y[s] = away && c->queries && query_mask[n * TQ + line % TQ] == 0 ? -1e9 : y[s]; /* in float: equal */
            }
            softmax(y, TV);
        }
    }
}

static void test_masked_weights(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) {
        mask_case c = {i & 1, i & 2, i & 4};
        ls_attention_attr a = {.scale = 0.7f, .key_mask = c.keys, .query_mask = c.queries, .pair_mask = c.pairs};
        fixture f;
        fx_init(&f, N);
        f.reference_data = &c;
        ls_tensor *in[5] = {fx_input(&f, fx_shape(3, 2, TQ, TV))};
        int n = 1;
        if (c.keys) {
            in[n++] = fx_input(&f, fx_shape(1, TV));
        }
        if (c.queries) {
            in[n++] = fx_input(&f, fx_shape(1, TQ));
        }
        if (c.pairs) {
            in[n++] = fx_input(&f, fx_shape(2, TQ, TV));
        }
        fx_node(&f, &ls_op_attention, &a, in, NULL, fx_shape(3, 2, TQ, TV));
        fx_run(&f);
        for (int k = 1; k < n; k++) { /* once more with real masks */
            const double *mask = c.pairs && k == n - 1 ? pair_mask : k == 1 && c.keys ? key_mask : query_mask;
            for (size_t e = 0; e < f.n_in[k]; e++) {
                ((float *)ls_plan_input(f.plan, k))[e] = (float)mask[e];
            }
        }
        for (size_t e = 0; e < f.n_in[0]; e++) {
            ((float *)ls_plan_input(f.plan, 0))[e] = (float)f.in[0][e];
        }
        for (size_t e = 0; e < f.n_out; e++) {
            ((float *)ls_plan_target(f.plan, 0))[e] = (float)f.target[e];
        }
        uint32_t index[N] = {0, 1};
        ls_run run = {.n_samples = N, .n_threads = 1, .grad_scale = 1.0f / N, .stat_scale = 1, .sample_index = index};
        ls_plan_run_forward(f.plan, &run);
        ls_plan_run_backward(f.plan, &run, NULL, NULL);
        fx_check_forward(&f, masked_reference);
        if (!c.queries) { /* in float nothing is left of a masked query's scores, nor of their differences */
            fx_differences(&f, masked_reference, "input gradient", f.in[0], ls_plan_input_gradient(f.plan, 0),
                           f.n_in[0]);
        }
        fx_release(&f);
    }
}

static const ls_node *node_of(const ls_model *m, const ls_operator *op) {
    for (int i = 0; i < m->n_nodes; i++) {
        if (m->nodes[i]->op == op) {
            return m->nodes[i];
        }
    }
    return NULL;
}

/* Embeddings with mask_zero: the value's mask hides keys, the query's mask hides rows. */
static void test_masks_come_with_the_inputs(void **state) {
    (void)state;
    static const char *const text =
        "{\"class_name\": \"Functional\", \"config\": {\"layers\": [{\"class_name\": \"InputLayer\", \"config\": "
        "{\"batch_input_shape\": [null, 7], \"name\": \"words\"}, \"inbound_nodes\": []}, {\"class_name\": "
        "\"Embedding\", \"config\": {\"name\": \"e\", \"input_dim\": 9, \"output_dim\": 4, \"mask_zero\": true}, "
        "\"inbound_nodes\": [[[\"words\", 0, 0, {}]]]}, {\"class_name\": \"%s\", \"config\": {\"name\": \"a\"%s}, "
        "\"inbound_nodes\": [%s]}], \"input_layers\": [[\"words\", 0, 0]], \"output_layers\": [[\"a\", 0, 0]]}}";
    char *multi = ls_xprintf(text, "MultiHeadAttention", ", \"num_heads\": 2, \"key_dim\": 3",
                             "[[\"e\", 0, 0, {\"value\": [\"e\", 0, 0]}]]");
    char *plain = ls_xprintf(text, "Attention", "", "[[\"e\", 0, 0, {}], [\"e\", 0, 0, {}]]");
    ls_model *m = build(multi);
    const ls_node *node = node_of(m, &ls_op_attention);
    const ls_attention_attr *a = node->attr;
    assert_true(a->key_mask && a->query_mask && !a->causal);
    assert_ptr_equal(node->in[1], node->in[2]);
    assert_ptr_equal(m->outputs[0]->mask, node->in[2]);
    assert_weight(m, 1, "a/query/kernel:0", "(4, 2, 3)");
    assert_weight(m, 4, "a/key/bias:0", "(2, 3)");
    assert_weight(m, 6, "a/value/bias:0", "(2, 3)");
    assert_weight(m, 7, "a/attention_output/kernel:0", "(2, 3, 4)");
    ls_model_destroy(m);
    m = build(plain);
    node = node_of(m, &ls_op_attention);
    a = node->attr;
    assert_true(a->key_mask && !a->query_mask);
    assert_non_null(node_of(m, &ls_op_merge)); /* masked queries give zeros */
    assert_ptr_equal(m->outputs[0]->mask, node->in[1]);
    ls_model_destroy(m);
    free(multi);
    free(plain);
}

/* Keras 3 gives the inputs as arguments; what is written is Keras 2's form, which reads back the same. */
static void test_both_spellings_of_a_call(void **state) {
    (void)state;
#define T(layer)                                                                                                \
    "{\"class_name\": \"__keras_tensor__\", \"config\": {\"shape\": [null, 3, 4], \"keras_history\": [\"" layer \
    "\", 0, 0]}}"
    static const char *const text =
        "{\"class_name\": \"Functional\", \"config\": {\"layers\": [{\"class_name\": \"InputLayer\", \"config\": "
        "{\"batch_shape\": [null, 3, 4], \"name\": \"x\"}, \"inbound_nodes\": []}, {\"class_name\": \"InputLayer\", "
        "\"config\": {\"batch_shape\": [null, 5, 4], \"name\": \"y\"}, \"inbound_nodes\": []}, {\"class_name\": "
        "\"MultiHeadAttention\", \"config\": {\"name\": \"a\", \"num_heads\": 2, \"key_dim\": 3}, \"inbound_nodes\": "
        "[{\"args\": [" T("x") ", " T("y") "], \"kwargs\": {\"key\": null, \"use_causal_mask\": true}}]}], "
        "\"input_layers\": [[\"x\", 0, 0], [\"y\", 0, 0]], \"output_layers\": [[\"a\", 0, 0]]}}";
    ls_model *m = build(text);
    char *written = ls_model_config_text(m);
    ls_model_destroy(m);
    if (strstr(written, "[[[\"x\",0,0,{\"use_causal_mask\":true,\"value\":[\"y\",0,0]}]]]") == NULL) {
        fail_msg("%s", written);
    }
    m = build(written);
    assert_true(((const ls_attention_attr *)node_of(m, &ls_op_attention)->attr)->causal);
    assert_int_equal(m->n_weights, 8);
    ls_model_destroy(m);
    free(written);
}

/* attention_mask comes last, with or without a key, and is written under its name. */
static void test_attention_mask(void **state) {
    (void)state;
    static const char *const text =
        "{\"class_name\": \"Functional\", \"config\": {\"layers\": [{\"class_name\": \"InputLayer\", \"config\": "
        "{\"batch_input_shape\": [null, 3, 4], \"name\": \"x\"}, \"inbound_nodes\": []}, {\"class_name\": "
        "\"InputLayer\", \"config\": {\"batch_input_shape\": [null, 3, %d], \"dtype\": \"bool\", \"name\": \"m\"}, "
        "\"inbound_nodes\": []}, {\"class_name\": \"MultiHeadAttention\", \"config\": {\"name\": \"a\", \"num_heads\": "
        "2, \"key_dim\": 3}, \"inbound_nodes\": [[[\"x\", 0, 0, {\"value\": [\"x\", 0, 0]%s, \"attention_mask\": "
        "[\"m\", "
        "0, 0]}]]]}], \"input_layers\": [[\"x\", 0, 0], [\"m\", 0, 0]], \"output_layers\": [[\"a\", 0, 0]]}}";
    for (int key = 0; key < 2; key++) {
        char *config = ls_xprintf(text, 3, key ? ", \"key\": [\"x\", 0, 0]" : "");
        ls_model *m = build(config);
        char *written = ls_model_config_text(m);
        for (int again = 0; again < 2; again++) {
            const ls_node *node = node_of(m, &ls_op_attention);
            const ls_attention_attr *a = node->attr;
            assert_true(a->pair_mask && !a->key_mask && !a->query_mask);
            assert_ptr_equal(node->in[1]->producer->in[0], m->inputs[1]);
            ls_model_destroy(m);
            m = again == 0 ? build(written) : NULL;
        }
        free(written);
        free(config);
    }
    char *wrong = ls_xprintf(text, 2, "");
    assert_refused(wrong, "layer \"a\"", "attention_mask has the shape (None, 3, 2); expected (None, 3, 3)", NULL);
    free(wrong);
}

/* What attention_axes cannot be; what they do is in the golden cases. */
static void test_attention_axes(void **state) {
    (void)state;
    static const char *const text =
        "{\"class_name\": \"Functional\", \"config\": {\"layers\": [{\"class_name\": \"InputLayer\", \"config\": "
        "{\"batch_input_shape\": [null, 2, 3, 4], \"name\": \"x\"}, \"inbound_nodes\": []}, {\"class_name\": "
        "\"InputLayer\", \"config\": {\"batch_input_shape\": [null, %d, 5, 4], \"name\": \"y\"}, \"inbound_nodes\": "
        "[]}, "
        "{\"class_name\": \"MultiHeadAttention\", \"config\": {\"name\": \"a\", \"num_heads\": 2, \"key_dim\": 3, "
        "\"attention_axes\": %s}, \"inbound_nodes\": [[[\"x\", 0, 0, {\"value\": [\"y\", 0, 0]%s}]]]}], "
        "\"input_layers\": [[\"x\", 0, 0], [\"y\", 0, 0]], \"output_layers\": [[\"a\", 0, 0]]}}";
    static const struct {
        const char *axes, *more, *why;
        int first;
    } refused[] = {
        {"[3]", "", "attention_axes: expected axes from 1 to 2, found 3", 2},
        {"[0]", "", "attention_axes: expected axes from 1 to 2, found 0", 2},
        {"[1]", "", "attention_axes: a query of shape (None, 2, 3, 4) and a value of shape (None, 2, 5, 4) do not", 2},
        {"[2]", "", "attention_axes: a query of shape (None, 2, 3, 4) and a value of shape (None, 3, 5, 4) do not", 3},
        {"[2]", ", \"use_causal_mask\": true", "attention_axes: does not go with use_causal_mask unless it is 1", 2},
        {"[2]", ", \"return_attention_scores\": true", "attention_axes: does not go with return_attention_scores", 2},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char *wrong = ls_xprintf(text, refused[i].first, refused[i].axes, refused[i].more);
        assert_refused(wrong, refused[i].why, "layer \"a\"", NULL);
        free(wrong);
    }
    static const char *const alike[] = {"2",
                                        "[-2]"}; /* keys of another length than the queries, along that axis alone */
    for (int i = 0; i < 2; i++) {
        char *good = ls_xprintf(text, 2, alike[i], "");
        ls_model *m = build(good);
        assert_int_equal(node_of(m, &ls_op_attention)->in[0]->shape.dim[0], 2 * 2);
        assert_int_equal(node_of(m, &ls_op_attention)->in[0]->shape.dim[1], 3);
        assert_int_equal(node_of(m, &ls_op_attention)->in[0]->shape.dim[2], 5);
        ls_model_destroy(m);
        free(good);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_multi_head_attention),     cmocka_unit_test(test_attention),
        cmocka_unit_test(test_masked_weights),           cmocka_unit_test(test_masks_come_with_the_inputs),
        cmocka_unit_test(test_both_spellings_of_a_call), cmocka_unit_test(test_attention_mask),
        cmocka_unit_test(test_attention_axes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
