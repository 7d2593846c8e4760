#include "trainer/fit/job.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const whole =
    "{ \"model\": {\"class_name\": \"Sequential\"},\n"
    "  \"data\": {\"train\": \"d.h5:/train\", \"validation_split\": 0.25},\n"
    "  \"compile\": {\"loss\": \"mse\", \"optimizer\": \"adam\"},\n"
    "  \"fit\": {\"batch_size\": 64, \"epochs\": 3, \"seed\": 7},\n"
    "  \"distribute\": {\"lanes\": 8, \"precision\": \"bfloat16\", \"convolution\": \"direct\"} }\n";

static void reads_keys_and_defaults(void **state) {
    (void)state;
    ls_job job;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_job_parse(&job, "jobs/mnist.json", "jobs", whole, NULL, 0, &err), LS_OK);
    assert_string_equal(job.name, "mnist");
    assert_string_equal(job.train, "jobs/d.h5:/train");
    assert_null(job.validation);
    assert_true(job.validation_split == 0.25);
    assert_true(isnan(job.scale));
    assert_int_equal(job.batch_size, 64);
    assert_int_equal(job.epochs, 3);
    assert_int_equal(job.seed, 7);
    assert_int_equal(job.lanes, 8);
    assert_true(job.bfloat16);
    assert_true(job.direct_convolution);
    assert_true(job.shuffle);
    assert_true(job.stop_on_nonfinite);
    assert_int_equal(job.validation_freq, 1);
    assert_int_equal(job.every_epochs, 1);
    assert_int_equal(job.every_steps, 0);
    assert_int_equal(job.keep, 3);
    assert_true(job.watchdog_seconds == 60);
    ls_job_release(&job);
}

static void set_overrides(void **state) {
    (void)state;
    ls_job job;
    ls_err err = LS_ERR_INIT;
    char *sets[] = {"fit.epochs=9", "name=other", "data.validation_split=0.5", "checkpoint.every_steps=10",
                    "fit.class_weight={\"2\": 3}"};
    assert_int_equal(ls_job_parse(&job, "mnist.json", ".", whole, sets, 5, &err), LS_OK);
    assert_int_equal(job.epochs, 9);
    assert_string_equal(job.name, "other");
    assert_true(job.validation_split == 0.5);
    assert_int_equal(job.every_steps, 10);
    assert_int_equal(job.n_class_weights, 3);
    assert_true(job.class_weight[0] == 1 && job.class_weight[1] == 1 && job.class_weight[2] == 3);
    ls_job_release(&job);
}

/* "auto" and 0 are the same, and are written as "auto". */
static void sizes_of_buckets(void **state) {
    (void)state;
    static const struct {
        char *set;
        double mb;
        const char *written;
    } cases[] = {{"distribute.bucket_mb=auto", 0, "\"bucket_mb\": \"auto\""},
                 {"distribute.bucket_mb=0", 0, "\"bucket_mb\": \"auto\""},
                 {"distribute.lanes=8", 0, "\"bucket_mb\": \"auto\""},
                 {"distribute.bucket_mb=2.5", 2.5, "\"bucket_mb\": 2.5"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ls_job job;
        ls_err err = LS_ERR_INIT;
        char *sets[] = {cases[i].set}, *text;
        assert_int_equal(ls_job_parse(&job, "mnist.json", ".", whole, sets, 1, &err), LS_OK);
        assert_true(job.bucket_mb == cases[i].mb);
        assert_int_equal(ls_job_text(&job, &text, &err), LS_OK);
        assert_non_null(strstr(text, cases[i].written));
        free(text);
        ls_job_release(&job);
    }
}

/* The resolved job reads back as the same job, from anywhere, and resolves to the same text. */
static void resolved_job_is_whole(void **state) {
    (void)state;
    ls_job job, again;
    ls_err err = LS_ERR_INIT;
    char *text, *second;
    assert_int_equal(ls_job_parse(&job, "mnist.json", "/data", whole, NULL, 0, &err), LS_OK);
    assert_int_equal(ls_job_text(&job, &text, &err), LS_OK);
    assert_int_equal(ls_job_parse(&again, "job.json", "/elsewhere", text, NULL, 0, &err), LS_OK);
    assert_string_equal(again.name, "mnist");
    assert_string_equal(again.train, "/data/d.h5:/train");
    assert_int_equal(again.batch_size, 64);
    assert_true(again.bfloat16);
    assert_true(again.direct_convolution);
    assert_true(ls_json_present(again.model));
    assert_int_equal(ls_job_text(&again, &second, &err), LS_OK);
    assert_string_equal(text, second);
    free(text);
    free(second);
    ls_job_release(&job);
    ls_job_release(&again);
}

/* Paths count from the job's folder; the resolved job names the weights where they lie. */
static void names_initial_weights(void **state) {
    (void)state;
    ls_job job;
    ls_err err = LS_ERR_INIT;
    char *text, *sets[] = {"weights=start.h5"};
    assert_int_equal(ls_job_parse(&job, "mnist.json", "/data", whole, NULL, 0, &err), LS_OK);
    assert_null(job.weights);
    ls_job_release(&job);
    assert_int_equal(ls_job_parse(&job, "mnist.json", "/data", whole, sets, 1, &err), LS_OK);
    assert_string_equal(job.weights, "/data/start.h5");
    assert_int_equal(ls_job_text(&job, &text, &err), LS_OK);
    ls_job_release(&job);
    assert_int_equal(ls_job_parse(&job, "job.json", "/elsewhere", text, NULL, 0, &err), LS_OK);
    assert_string_equal(job.weights, "/data/start.h5");
    ls_job_release(&job);
    free(text);
    /* a model in HDF5 brings its weights along, and stands in the resolved job */
    char *file[] = {"model=\"" LS_SOURCE_DIR "/tests/unit/storage/keras2_model.h5\""};
    assert_int_equal(ls_job_parse(&job, "mnist.json", "/data", whole, file, 1, &err), LS_OK);
    assert_string_equal(job.weights, LS_SOURCE_DIR "/tests/unit/storage/keras2_model.h5");
    assert_int_equal(ls_job_text(&job, &text, &err), LS_OK);
    ls_job_release(&job);
    assert_int_equal(ls_job_parse(&job, "job.json", "/elsewhere", text, NULL, 0, &err), LS_OK);
    assert_true(ls_json_present(job.model));
    assert_string_equal(job.weights, LS_SOURCE_DIR "/tests/unit/storage/keras2_model.h5");
    ls_job_release(&job);
    free(text);
}

static void expect_error(const char *text, char *set, const char *message) {
    ls_job job;
    ls_err err = LS_ERR_INIT;
    char *sets[] = {set};
    assert_int_equal(ls_job_parse(&job, "job.json", ".", text, sets, set != NULL, &err), LS_EINPUT);
    assert_string_equal(err.text, message);
}

static void errors_name_file_line_and_key(void **state) {
    (void)state;
#define REST "\"compile\": {\"loss\": \"mse\", \"optimizer\": \"adam\"}}"
    expect_error("[]", NULL, "job.json:1: expected an object in braces, found a list of 0");
    expect_error("{\n\"modle\": 1}", NULL, "job.json:2: modle: unknown key; did you mean \"model\"?");
    expect_error("{\"model\": {},\n \"fit\": {\n\"epoch\": 1}}", NULL,
                 "job.json:3: fit.epoch: unknown key; did you mean \"epochs\"?");
    expect_error("{\"model\": {},\n \"fit\": 3}", NULL,
                 "job.json:2: fit: expected an object in braces, found the number 3");
    expect_error("{\"model\": 3}", NULL,
                 "job.json:1: model: expected the path of a Keras JSON file, or the model itself, found the number 3");
    expect_error("{\"fit\": {}}", NULL,
                 "job.json:1: model: expected the path of a Keras JSON file, or the model itself, found nothing");
    expect_error("{\"model\": {}, \"data\": {}}", NULL,
                 "job.json:1: data: \"train\" is missing: the training data, for example \"mnist.h5:/train\"");
    expect_error("{\"model\": {}, \"data\": {\"train\": \"a\"},\n\"compile\": {}}", NULL,
                 "job.json:2: compile: \"loss\" is missing, for example \"sparse_categorical_crossentropy\"");
    expect_error("{\"model\": {}, \"data\": {\"train\": \"a\"}, \"compile\": {\"loss\": \"mse\"}}", NULL,
                 "job.json:1: compile: \"optimizer\" is missing, for example \"adam\"");
    expect_error(
        "{\"model\": {}, \"data\": {\"train\": \"a\", \"validation\": \"b\",\n\"validation_split\": 0.1}," REST, NULL,
        "job.json:2: data.validation_split: there is \"validation\" as well; give one of the two");
    expect_error("{\"model\": {}, \"data\": {\"train\": \"a\", \"validation_split\": 1}," REST, NULL,
                 "job.json:1: data.validation_split: expected a fraction below 1, found 1");
    expect_error("{\"model\": {}, \"data\": {\"train\": \"a\", \"scale\": 0}," REST, NULL,
                 "job.json:1: data.scale: a scale of 0 would erase the data");
    expect_error("{\"model\": {}, \"name\": \"a/b\"," REST, NULL,
                 "job.json:1: name: expected a name that can be part of a file name");
    expect_error("{\"model\": {}, \"data\": {\"train\": \"a\"}, \"fit\": {\"class_weight\": {\"x\": 1}}," REST, NULL,
                 "job.json:1: fit.class_weight.x: expected class numbers such as \"0\" as keys");
    expect_error(whole, "fit.batch_size=0",
                 "--set fit.batch_size=0: fit.batch_size: expected a whole number from 1 to 1073741824, found the "
                 "number 0");
    expect_error(whole, "fit.epochs=three",
                 "--set fit.epochs=three: fit.epochs: expected a whole number from 1 to 9007199254740992, found the "
                 "text \"three\"");
    expect_error(whole, "distribute.bucket_mb=large",
                 "--set distribute.bucket_mb=large: distribute.bucket_mb: expected a number from 0 to 65536, or "
                 "\"auto\", found the text \"large\"");
    expect_error(whole, "distribute.bucket_mb=true",
                 "--set distribute.bucket_mb=true: distribute.bucket_mb: expected a number from 0 to 65536, or "
                 "\"auto\", found true");
    expect_error(whole, "fit.epoch=3", "--set fit.epoch=3: fit.epoch: unknown key; did you mean \"epochs\"?");
    expect_error(whole, "fit", "--set fit: expected KEY=VALUE, for example --set fit.epochs=3");
    expect_error(whole, "fit..epochs=3", "--set fit..epochs=3: \"fit..epochs\" is not a path such as fit.epochs");
    expect_error(whole, "fit.epochs.x=3", "--set fit.epochs.x=3: fit.epochs is not an object, so it has no \"x\"");
    expect_error(whole, "fit={", "--set fit={: the value is not valid JSON");
    expect_error(whole, "fit.initial_epoch=3",
                 "--set fit.initial_epoch=3: fit.initial_epoch: 3 epochs count as done and training ends after epoch "
                 "3: nothing is left to do");
    expect_error(
        whole, "distribute.convolution=fft",
        "--set distribute.convolution=fft: distribute.convolution: expected one of \"auto\", \"direct\", found "
        "the text \"fft\"");
    expect_error(whole, "distribute.precision=float16",
                 "--set distribute.precision=float16: distribute.precision: expected one of \"float32\", \"bfloat16\", "
                 "\"mixed_bfloat16\", found the text \"float16\"");
    expect_error(whole, "checkpoint.keep=1",
                 "--set checkpoint.keep=1: checkpoint.keep: expected a whole number from 2 to 1048576, found the "
                 "number 1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_keys_and_defaults), cmocka_unit_test(set_overrides),
        cmocka_unit_test(sizes_of_buckets),        cmocka_unit_test(resolved_job_is_whole),
        cmocka_unit_test(names_initial_weights),   cmocka_unit_test(errors_name_file_line_and_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
