/* Keras's training_config: what a job is compiled with is all in it, and is read back from it. */
#include "tests/unit/worker/model_fixture.h"
#include "trainer/fit/fit_private.h"

typedef struct {
    ls_fit fit;
    ls_json_doc doc, back;
    ls_compile again;
} compiled;

static ls_status read_compile(const ls_json_doc *doc, const ls_model *m, ls_compile *out) {
    ls_err err = LS_ERR_INIT;
    ls_status s = ls_compile_parse(ls_json_root(doc), m, out, &err);
    if (s != LS_OK) {
        print_error("%s\n", err.text);
    }
    return s;
}

/* Compiles as a job would, writes training_config, compiles from that. */
static void there_and_back(compiled *c, ls_model *model, const char *compile) {
    ls_err err = LS_ERR_INIT;
    *c = (compiled){.fit.model = model, .fit.moment.learning_rate = 0.25};
    assert_int_equal(ls_json_parse(&c->doc, "job", compile, &err), LS_OK);
    ls_json root = ls_json_root(&c->doc);
    assert_int_equal(read_compile(&c->doc, model, &c->fit.compile), LS_OK);
    c->fit.job.loss = ls_json_member(root, "loss");
    c->fit.job.metrics = ls_json_member(root, "metrics");
    c->fit.job.weighted_metrics = ls_json_member(root, "weighted_metrics");
    c->fit.job.loss_weights = ls_json_member(root, "loss_weights");
    c->fit.job.optimizer = ls_json_member(root, "optimizer");
    char *text = ls_fit_training_config(&c->fit);
    assert_int_equal(ls_json_parse(&c->back, "training_config", text, &err), LS_OK);
    assert_int_equal(read_compile(&c->back, model, &c->again), LS_OK);
    free(text);
}

static void let_go(compiled *c) {
    ls_compile_release(&c->fit.compile);
    ls_compile_release(&c->again);
    ls_json_release(&c->doc);
    ls_json_release(&c->back);
}

static void assert_same_loss(const ls_loss *a, const ls_loss *b) {
    assert_ptr_equal(a->class_, b->class_);
    assert_int_equal(a->from_logits, b->from_logits);
    assert_true(a->label_smoothing == b->label_smoothing && a->a == b->a && a->b == b->b);
    assert_true(a->ignores == b->ignores && a->ignored == b->ignored);
}

static ls_model *one_output(void) {
    return build_sequential("4", "{\"class_name\": \"Dense\", \"config\": {\"name\": \"d\", \"units\": 3}}");
}

/* Each key of each row of the table by itself, at a value that is not its default. */
static void settings_of_every_loss(void **state) {
    ls_model *model = one_output();
    (void)state;
    int n_keys = 0;
    for (const ls_loss_class *const *l = ls_loss_classes(); *l != NULL; l++) {
        compiled c;
        char text[300];
        snprintf(text, sizeof text, "{\"loss\": \"%s\", \"optimizer\": \"SGD\"}", (*l)->name);
        there_and_back(&c, model, text);
        ls_loss plain = c.again.losses[0];
        assert_same_loss(&plain, &c.fit.compile.losses[0]);
        let_go(&c);
        for (const char *key = (*l)->keys; *key != '\0'; key += strcspn(key, " "), key += *key == ' ', n_keys++) {
            const int n = (int)strcspn(key, " ");
            snprintf(text, sizeof text,
                     "{\"loss\": {\"class_name\": \"%s\", \"config\": {\"reduction\": \"auto\", \"%.*s\": %s}}, "
                     "\"optimizer\": \"SGD\"}",
                     (*l)->name, n, key,
                     strncmp(key, "from_logits", (size_t)n) == 0    ? "true"
                     : strncmp(key, "ignore_class", (size_t)n) == 0 ? "0"
                                                                    : "0.25");
            there_and_back(&c, model, text);
            const ls_loss *got = &c.again.losses[0];
            assert_same_loss(got, &c.fit.compile.losses[0]);
            assert_false(got->from_logits == plain.from_logits && got->label_smoothing == plain.label_smoothing &&
                         got->a == plain.a && got->b == plain.b && got->ignores == plain.ignores);
            let_go(&c);
        }
    }
    assert_true(n_keys >= 9);
    ls_model_destroy(model);
}

static void metrics_weighted_or_not(void **state) {
    ls_model *model = one_output();
    compiled c;
    (void)state;
    there_and_back(&c, model,
                   "{\"loss\": \"mse\", \"metrics\": [\"mae\", \"confusion_matrix\"], \"weighted_metrics\": "
                   "[{\"class_name\": \"Huber\", \"config\": {\"delta\": 0.5, \"name\": \"h\"}}], "
                   "\"optimizer\": {\"class_name\": \"Adam\", \"config\": {\"beta_1\": 0.7}}}");
    assert_int_equal(c.fit.compile.n_metrics, 3);
    assert_int_equal(c.again.n_metrics, 2); /* Keras has no metric confusion_matrix */
    assert_string_equal(c.again.metrics[0].name, "mae");
    assert_false(c.again.metrics[0].weighted);
    assert_string_equal(c.again.metrics[1].name, "h");
    assert_true(c.again.metrics[1].weighted && c.again.metrics[1].loss.a == 0.5);
    assert_string_equal(c.again.optimizer.class_->name, "Adam");
    assert_true(c.again.optimizer.learning_rate == 0.25); /* of the moment */
    ls_json config = ls_json_member(ls_json_member(ls_json_root(&c.back), "optimizer_config"), "config");
    assert_true(json_real_value(ls_json_member(config, "beta_1").value) == 0.7);
    let_go(&c);
    ls_model_destroy(model);
}

static char *member_text(const compiled *c, const char *key) {
    char *text =
        json_dumps(ls_json_member(ls_json_root(&c->back), key).value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    assert_non_null(text);
    return text;
}

/* Letter by letter: a name where it says all, else the class as Keras spells it, without the settings that Keras 3
 * refuses. */
static void as_keras_reads_it(void **state) {
    static const char *const losses[][2] = {
        {"\"mse\"", "\"mean_squared_error\""},
        {"{\"class_name\": \"Huber\", \"config\": {\"delta\": 0.5, \"reduction\": \"auto\", \"name\": \"h\"}}",
         "{\"class_name\":\"Huber\",\"config\":{\"delta\":0.5,\"name\":\"h\"}}"},
        {"{\"class_name\": \"categorical_crossentropy\", \"config\": {\"label_smoothing\": 0.5}}",
         "{\"class_name\":\"CategoricalCrossentropy\",\"config\":{\"label_smoothing\":0.5}}"},
        {"{\"class_name\": \"CategoricalCrossentropy\", \"config\": {\"from_logits\": false, \"reduction\": \"auto\"}}",
         "\"categorical_crossentropy\""},
    };
    ls_model *model = one_output();
    (void)state;
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        compiled c;
        char *text = ls_xprintf(
            "{\"loss\": %s, \"optimizer\": {\"class_name\": \"SGD\", \"config\": {\"lr\": 0.5, "
            "\"momentum\": 0.75, \"jit_compile\": false, \"is_legacy_optimizer\": false}}}",
            losses[i][0]);
        there_and_back(&c, model, text);
        char *loss = member_text(&c, "loss"), *optimizer = member_text(&c, "optimizer_config");
        assert_string_equal(loss, losses[i][1]);
        assert_string_equal(optimizer,
                            "{\"class_name\":\"SGD\",\"config\":{\"learning_rate\":0.25,\"momentum\":0.75,"
                            "\"name\":\"SGD\"}}");
        free(loss);
        free(optimizer);
        free(text);
        let_go(&c);
    }
    ls_model_destroy(model);
}

/* Losses of several outputs in a list, by name, or one for all. */
static void losses_of_several_outputs(void **state) {
    static const char *const losses[] = {
        "[{\"class_name\": \"Huber\", \"config\": {\"delta\": 3}}, \"mse\"]",
        "{\"b\": {\"class_name\": \"Huber\", \"config\": {\"delta\": 3}}}",
        "{\"class_name\": \"Huber\", \"config\": {\"delta\": 3}}",
    };
    ls_model *model = build(
        "{\"class_name\": \"Functional\", \"config\": {\"layers\": ["
        "{\"class_name\": \"InputLayer\", \"config\": {\"name\": \"x\", \"batch_input_shape\": "
        "[null, 4]}, \"inbound_nodes\": []},"
        "{\"class_name\": \"Dense\", \"config\": {\"name\": \"a\", \"units\": 3}, "
        "\"inbound_nodes\": [[[\"x\", 0, 0, {}]]]},"
        "{\"class_name\": \"Dense\", \"config\": {\"name\": \"b\", \"units\": 2}, "
        "\"inbound_nodes\": [[[\"x\", 0, 0, {}]]]}],"
        "\"input_layers\": [[\"x\", 0, 0]], \"output_layers\": [[\"a\", 0, 0], [\"b\", 0, 0]]}}");
    (void)state;
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        compiled c;
        char *text = ls_xprintf("{\"loss\": %s, \"loss_weights\": [0.5, 2], \"optimizer\": \"SGD\"}", losses[i]);
        there_and_back(&c, model, text);
        for (int o = 0; o < 2; o++) {
            assert_same_loss(&c.again.losses[o], &c.fit.compile.losses[o]);
            assert_true(c.again.loss_weights[o] == c.fit.compile.loss_weights[o]);
        }
        assert_true(c.again.losses[i == 1].a == 3);
        let_go(&c);
        free(text);
    }
    ls_model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(settings_of_every_loss),
                                       cmocka_unit_test(metrics_weighted_or_not), cmocka_unit_test(as_keras_reads_it),
                                       cmocka_unit_test(losses_of_several_outputs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
