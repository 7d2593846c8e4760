/* Plugins: what they add, what is refused and in which words, and that their gradients are right. */
#include "worker/plugin/plugin.h"

#include "tests/unit/worker/model_fixture.h"
#include "tests/unit/worker/ops_fixture.h"
#include "worker/engine/compile.h"
#include "worker/loss/loss.h"
#include "worker/metric/metric.h"
#include "worker/plan/failure.h"

/* ---- loading ---- */

typedef struct {
    ls_json_doc doc;
    ls_plugins plugins;
} loaded;

/* Entries are separated by commas: file names below the folder of plugins, or whole JSON values. */
static ls_status try_load(loaded *l, const char *list, ls_err *err) {
    *l = (loaded){0};
    ls_err parse = LS_ERR_INIT;
    if (ls_json_parse(&l->doc, "job.json", list, &parse) != LS_OK) {
        fail_msg("%s", parse.text);
    }
    return ls_plugins_load(ls_json_root(&l->doc), LS_PLUGIN_DIR, &l->plugins, err);
}

static void load(loaded *l, const char *list) {
    ls_err err = LS_ERR_INIT;
    if (try_load(l, list, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
}

static void unload(loaded *l) {
    ls_plugins_release(&l->plugins);
    ls_json_release(&l->doc);
}

static void assert_has(const char *text, const char *word) {
    if (strstr(text, word) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", word, text);
    }
}

/* Loading fails with LS_EINPUT and all the words (NULL at the end), and leaves nothing in the tables. */
static void refused(const char *list, ...) {
    loaded l;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(try_load(&l, list, &err), LS_EINPUT);
    assert_int_equal(l.plugins.n, 0);
    va_list words;
    va_start(words, list);
    for (const char *word; (word = va_arg(words, const char *)) != NULL;) {
        assert_has(err.text, word);
    }
    va_end(words);
    assert_null(ls_loss_class_find("profit_and_cost"));
    assert_null(ls_loss_class_find("always_fails"));
    ls_json_release(&l.doc);
}

static void refuses_what_is_no_plugin(void **state) {
    (void)state;
    refused("[\"absent.so\"]", LS_PLUGIN_DIR "/absent.so", "No such file", NULL);
    refused("[\"include/lockstep_plugin.h\"]", "include/lockstep_plugin.h: cannot be loaded as a plugin",
            "cc -shared -fPIC", NULL);
    refused("[\"bad_no_entry.so\"]", "bad_no_entry.so: is a shared object but no Lockstep plugin",
            "lockstep_plugin_entry", NULL);
    refused("[\"bad_abi.so\"]", "bad_abi.so: was compiled for plugin interface 2", "has 1; compile it again", NULL);
    refused("[\"bad_sizes.so\"]", "bad_sizes.so: its structs have other sizes", "LOCKSTEP_PLUGIN_HEAD", NULL);
    refused("{}", "job.json:1", "expected a list of shared objects", "found an object", NULL);
    refused("[7]", "[0]", "expected an object", NULL);
    refused("[{\"config\": {}}]", "[0]: expected the path of a shared object", NULL);
    refused("[{\"path\": \"asymmetric_loss.so\", \"konfig\": {}}]", "unknown key; did you mean \"config\"?", NULL);
}

static void refuses_an_init_that_fails_and_unknown_settings(void **state) {
    (void)state;
    refused("[\"asymmetric_loss.so\", \"bad_init.so\"]", "bad_init.so: its init failed: no licence; set \"licence\"",
            NULL);
    refused("[{\"path\": \"bad_init.so\", \"config\": {\"license\": \"x\"}}]",
            "[0].config.license: unknown key of plugin bad; did you mean \"licence\"?", NULL);
    refused("[{\"path\": \"bad_init.so\", \"config\": {\"licence\": 7}}]", "[0].config.licence", "expected a text",
            NULL);
    loaded l;
    load(&l, "[{\"path\": \"bad_init.so\", \"config\": {\"licence\": \"x\"}}]");
    assert_non_null(ls_loss_class_find("always_fails"));
    unload(&l);
    assert_null(ls_loss_class_find("always_fails"));
}

static void refuses_names_that_are_taken(void **state) {
    (void)state;
    refused("[\"bad_built_in.so\"]", "bad_built_in.so: its loss \"mse\" has the name of a built-in one",
            "cannot be overridden", NULL);
    refused("[\"asymmetric_loss.so\", \"bad_taken.so\"]",
            "bad_taken.so: its loss \"profit_and_cost\" is already added by", "asymmetric_loss.so", NULL);
    refused("[\"asymmetric_loss.so\", \"asymmetric_loss.so\"]", "is the plugin \"asymmetric_loss\", which",
            "name it once", NULL);
}

/* Built-in rows are found first whatever the tables hold besides, in every table. */
static void tables_refuse_built_in_names(void **state) {
    (void)state;
    static const ls_layer_class dense = {.name = "Dense"};
    static const ls_metric_class accuracy = {.name = "mine", .aliases = "other acc"}, mse = {.name = "MSE"};
    static const ls_loss_class spaced = {.name = "two words"}, fine = {.name = "fine", .aliases = "good"};
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_layer_class_add(&dense, "x.so", &err), LS_EINPUT);
    assert_has(err.text, "x.so: its layer \"Dense\" has the name of a built-in one");
    assert_int_equal(ls_metric_class_add(&accuracy, "x.so", &err), LS_EINPUT);
    assert_has(err.text, "x.so: its metric \"acc\" has the name of a built-in one");
    assert_int_equal(ls_metric_class_add(&mse, "x.so", &err), LS_EINPUT);
    assert_int_equal(ls_loss_class_add(&spaced, "x.so", &err), LS_EINPUT);
    assert_has(err.text, "without spaces");
    assert_int_equal(ls_loss_class_add(&fine, "x.so", &err), LS_OK);
    assert_ptr_equal(ls_loss_class_find("good"), &fine);
    assert_int_equal(ls_loss_class_add(&fine, "x.so", &err), LS_EINPUT);
    assert_has(err.text, "is already added by itself");
    ls_loss_class_drop_added();
    assert_null(ls_loss_class_find("good"));
}

static void records_what_is_loaded(void **state) {
    (void)state;
    loaded l;
    load(&l, "[\"asymmetric_loss.so\", {\"path\": \"scaled_tanh.so\"}]");
    json_t *record = ls_plugins_record(&l.plugins), *second = json_array_get(record, 1);
    assert_int_equal(json_array_size(record), 2);
    assert_string_equal(json_string_value(json_object_get(second, "name")), "scaled_tanh");
    assert_string_equal(json_string_value(json_object_get(second, "version")), "0.3");
    assert_int_equal(strlen(json_string_value(json_object_get(second, "digest"))), 32);
    assert_string_not_equal(json_string_value(json_object_get(second, "digest")), l.plugins.item[0].digest);
    assert_ptr_equal(ls_plugins_find(&l.plugins, "asymmetric_loss"), &l.plugins.item[0]);
    assert_null(ls_plugins_find(&l.plugins, "best_f1"));
    json_decref(record);
    unload(&l);
}

/* ---- losses and metrics ---- */

static ls_status parse_loss(const char *text, ls_json_doc *doc, ls_loss *out, ls_err *err) {
    ls_err parse = LS_ERR_INIT;
    char *list = ls_xprintf("[%s]", text);
    if (ls_json_parse(doc, "job.json", list, &parse) != LS_OK) {
        fail_msg("%s", parse.text);
    }
    free(list);
    return ls_loss_parse(ls_json_element(ls_json_root(doc), 0), out, err);
}

static void loss_refused(const char *text, const char *words) {
    ls_json_doc doc;
    ls_loss loss;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(parse_loss(text, &doc, &loss, &err), LS_EINPUT);
    assert_has(err.text, words);
    ls_json_release(&doc);
}

static void loss_settings_are_checked(void **state) {
    (void)state;
    loss_refused("\"profit_and_cost\"", "\"profit_and_cost\" is not a loss");
    loaded l;
    load(&l, "[\"asymmetric_loss.so\"]");
    loss_refused("\"profit_and_const\"", "did you mean \"profit_and_cost\"?");
    loss_refused("{\"class_name\": \"ProfitAndCost\", \"config\": {\"under_cost\": -1}}",
                 "job.json:1: [0].config.under_cost");
    loss_refused("{\"class_name\": \"ProfitAndCost\", \"config\": {\"cost\": 1}}",
                 "unknown key of loss profit_and_cost");
    loss_refused("{\"class_name\": \"ProfitAndCost\", \"config\": {\"under_cost\": 0, \"over_cost\": 0}}",
                 "[0].config: under_cost and over_cost are both 0");
    unload(&l);
}

static void loss_gradient_is_right(void **state) {
    (void)state;
    loaded l;
    ls_json_doc doc;
    ls_loss loss;
    ls_err err = LS_ERR_INIT;
    load(&l, "[\"asymmetric_loss.so\"]");
    const char *text = "{\"class_name\": \"profit_and_cost\", \"config\": {\"under_cost\": 5, \"over_cost\": 0.5}}";
    assert_int_equal(parse_loss(text, &doc, &loss, &err), LS_OK);
    const float y[4] = {1, -2, 0.5f, 3}, p[4] = {0.25f, -1, 0.75f, 1};
    float dp[4];
    double value = loss.class_->row(&loss, p, y, 4, dp, 3), want = (5 * 0.75 + 0.5 * 1 + 0.5 * 0.25 + 5 * 2) / 4;
    assert_true(fabs(value - want) < 1e-12);
    for (int i = 0; i < 4; i++) {
        const float h = 1.0f / 64;
        float up[4], down[4];
        memcpy(up, p, sizeof p);
        memcpy(down, p, sizeof p);
        up[i] += h;
        down[i] -= h;
        double slope = (loss.class_->row(&loss, up, y, 4, NULL, 1) - loss.class_->row(&loss, down, y, 4, NULL, 1)) /
                       (2.0 * (double)h);
        assert_true(fabs(dp[i] - 3 * slope) < 1e-6);
    }
    ls_json_release(&doc);
    unload(&l);
}

static ls_metric metric_of(ls_json_doc *doc, const char *text) {
    ls_metric m;
    ls_err err = LS_ERR_INIT;
    const ls_shape two = {.rank = 1, .dim = {2}};
    if (ls_json_parse(doc, "job.json", text, &err) != LS_OK ||
        ls_metric_parse(ls_json_root(doc), &two, false, &m, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    return m;
}

static void metric_adds_up(void **state) {
    (void)state;
    loaded l;
    ls_json_doc doc;
    load(&l, "[\"asymmetric_loss.so\"]");
    ls_metric m =
        metric_of(&doc, "{\"class_name\": \"share_below\", \"config\": {\"margin\": 0.5, \"name\": \"low\"}}");
    assert_string_equal(m.name, "low");
    const float p[4] = {0, 0, 0, 0}, y[4] = {1, 0.25f, -1, 2}, weight[2] = {1, 3};
    double sums[2] = {0, 0};
    assert_int_equal(m.class_->n_sums(&m), 2);
    m.class_->add(&m, p, y, weight, 2, 2, sums);
    assert_true(fabs(m.class_->result(&m, sums) - 4.0 / 8.0) < 1e-12);
    ls_json_release(&doc);

    /* a loss is a metric too, with its own keys */
    m = metric_of(&doc, "{\"class_name\": \"profit_and_cost\", \"config\": {\"under_cost\": 4}}");
    sums[0] = sums[1] = 0;
    m.class_->add(&m, p, y, NULL, 2, 2, sums);
    assert_true(fabs(m.class_->result(&m, sums) - ((4 * 1 + 4 * 0.25) / 2 + (1 + 4 * 2) / 2.0) / 2) < 1e-12);
    ls_json_release(&doc);
    unload(&l);
}

static void a_failing_row_is_told_at_the_end_of_the_step(void **state) {
    (void)state;
    loaded l;
    ls_json_doc doc;
    ls_loss loss;
    ls_err err = LS_ERR_INIT;
    load(&l, "[\"bad_row.so\"]");
    assert_int_equal(parse_loss("\"always_fails\"", &doc, &loss, &err), LS_OK);
    const float p[2] = {1, 2}, y[2] = {1, 2};
    float dp[2] = {NAN, NAN};
    assert_true(loss.class_->row(&loss, p, y, 2, dp, 1) == 0);
    assert_true(dp[0] == 0 && dp[1] == 0);
    assert_int_equal(ls_failure_take(&err), LS_ELIBRARY);
    assert_has(err.text, "loss \"always_fails\" of plugin ");
    assert_has(err.text, "bad_row.so: a row that always fails");
    assert_int_equal(ls_failure_take(&err), LS_OK);
    ls_json_release(&doc);
    unload(&l);
}

/* ---- layers ---- */

/* A fixture's node of the operator and attributes that the layer of that JSON builds. */
static ls_model *take_layer(fixture *f, const char *shape, const char *layer, ls_tensor *in) {
    ls_model *m = build_sequential(shape, layer);
    const ls_node *node = m->nodes[m->n_nodes - 1];
    ls_weight *weights[FX_MAX] = {NULL};
    for (int i = 0; i < node->n_weights; i++) {
        weights[i] = fx_weight(f, node->weights[i]->shape);
    }
    ls_tensor *ins[] = {in, NULL};
    fx_node(f, node->op, node->attr, ins, weights, node->out[0]->shape);
    return m;
}

static void reference_tanh(const fixture *f, double *const *in, double *const *weight, double *out) {
    const size_t channels = f->n_weight[0];
    for (size_t i = 0; i < f->n_in[0]; i++) {
        out[i] = weight[0][i % channels] * tanh(2 * in[0][i]) + weight[1][i % channels];
    }
}

static void check_tanh(int64_t n_samples, int n_threads, ls_dtype compute) {
    fixture f;
    fx_init(&f, n_samples);
    f.n_threads = n_threads;
    f.compute = compute;
    ls_tensor *in = fx_input(&f, fx_shape(2, 3, 5));
    ls_model *m =
        take_layer(&f, "3, 5", "{\"class_name\": \"ScaledTanh\", \"config\": {\"name\": \"t\", \"slope\": 2}}", in);
    assert_int_equal(m->n_weights, 2);
    assert_string_equal(m->weights[0]->path, "t/scale:0");
    fx_check(&f, reference_tanh);
    ls_model_destroy(m);
}

static void layer_gradients_are_right(void **state) {
    (void)state;
    loaded l;
    load(&l, "[\"scaled_tanh.so\"]");
    check_tanh(1, 1, LS_F32);
    check_tanh(7, 1, LS_F32);
    check_tanh(50, 3, LS_F32);
    check_tanh(9, 2, LS_BF16);
    unload(&l);
}

static void reference_pairs(const fixture *f, double *const *in, double *const *weight, double *out) {
    (void)weight;
    for (size_t i = 0; i < f->n_in[0] / 2; i++) {
        out[i] = in[0][2 * i] + in[0][2 * i + 1];
    }
}

static void layer_without_weights_changes_the_shape(void **state) {
    (void)state;
    loaded l;
    fixture f;
    load(&l, "[\"scaled_tanh.so\"]");
    fx_init(&f, 20);
    ls_tensor *in = fx_input(&f, fx_shape(2, 2, 6));
    ls_model *m = take_layer(&f, "2, 6", "{\"class_name\": \"PairSum\", \"config\": {\"name\": \"p\"}}", in);
    assert_int_equal(m->outputs[0]->shape.dim[1], 3);
    fx_check(&f, reference_pairs);
    ls_model_destroy(m);
    unload(&l);
}

static void layer_errors_name_the_layer(void **state) {
    (void)state;
    loaded l;
    load(&l, "[\"scaled_tanh.so\"]");
    char *odd = sequential("5", "{\"class_name\": \"PairSum\", \"config\": {\"name\": \"p\"}}");
    assert_refused(odd, "layer \"p\" (PairSum): the last axis has 5 elements; expected an even number", NULL);
    char *key = sequential("4", "{\"class_name\": \"ScaledTanh\", \"config\": {\"name\": \"t\", \"slop\": 1}}");
    assert_refused(key, "unknown key; did you mean \"slope\"?", "layer \"t\", ScaledTanh", NULL);
    char *init = sequential("4",
                            "{\"class_name\": \"ScaledTanh\", \"config\": {\"name\": \"t\", \"scale_initializer\": "
                            "\"none\"}}");
    assert_refused(init, "scale_initializer", "layer \"t\"", NULL);
    char *near = sequential("4", "{\"class_name\": \"ScaledTan\", \"config\": {\"name\": \"t\"}}");
    assert_refused(near, "did you mean \"ScaledTanh\"?", NULL);
    free(odd);
    free(key);
    free(init);
    free(near);
    unload(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_is_no_plugin),
        cmocka_unit_test(refuses_an_init_that_fails_and_unknown_settings),
        cmocka_unit_test(refuses_names_that_are_taken),
        cmocka_unit_test(tables_refuse_built_in_names),
        cmocka_unit_test(records_what_is_loaded),
        cmocka_unit_test(loss_settings_are_checked),
        cmocka_unit_test(loss_gradient_is_right),
        cmocka_unit_test(metric_adds_up),
        cmocka_unit_test(a_failing_row_is_told_at_the_end_of_the_step),
        cmocka_unit_test(layer_gradients_are_right),
        cmocka_unit_test(layer_without_weights_changes_the_shape),
        cmocka_unit_test(layer_errors_name_the_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
