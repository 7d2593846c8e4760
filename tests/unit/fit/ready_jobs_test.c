/* The jobs and models that come with Lockstep: each is read as a user's would be, and has the parameters it is to have.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "trainer/fit/job.h"
#include "trainer/fit/keras_file.h"
#include "worker/model/model.h"

#define AT(path) LS_SOURCE_DIR "/" path

static int64_t count(const char *path, ls_weight_role role) {
    ls_model *model = NULL;
    ls_err err = LS_ERR_INIT;
    if (ls_keras_build_model(&model, path, NULL, 0, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    int64_t n_elems = 0;
    for (int i = 0; i < model->n_weights; i++) {
        n_elems += model->weights[i]->role == role ? ls_shape_elems(&model->weights[i]->shape) : 0;
    }
    ls_model_destroy(model);
    return n_elems;
}

static void models_have_their_parameters(void **state) {
    (void)state;
    assert_int_equal(count(AT("tests/bench/models/mlp.json"), LS_WEIGHT_PARAM), 669706);
    assert_int_equal(count(AT("tests/bench/models/lenet.json"), LS_WEIGHT_PARAM), 1199882);
    assert_int_equal(count(AT("tests/bench/models/vgg_cifar.json"), LS_WEIGHT_PARAM), 2197706);
    assert_int_equal(count(AT("tests/bench/models/vgg_cifar.json"), LS_WEIGHT_STAT), 2 * 2 * (64 + 128 + 256));
    assert_int_equal(count(AT("deploy/models/mnist_cnn.json"), LS_WEIGHT_PARAM), 1199882);
    /* two convolutions without bias, their normalisations, two dense layers */
    assert_int_equal(count(AT("deploy/models/digits_cnn.json"), LS_WEIGHT_PARAM),
                     9 * 32 + 9 * 32 * 64 + 2 * (32 + 64) + (4 * 4 * 64 + 1) * 128 + (128 + 1) * 10);
}

/* The figures that the models' authors, or Keras's examples that they are taken from, print. */
static void architectures_have_their_known_sizes(void **state) {
    (void)state;
    static const struct {
        const char *path;
        int64_t learned, moving;
    } known[] = {
        {AT("deploy/models/lenet5.json"), 61706, 0},
        {AT("deploy/models/alexnet_cifar.json"), 23272266, 0},
        {AT("deploy/models/vgg11_cifar.json"), 9231114, 5504},
        {AT("deploy/models/vgg16_cifar.json"), 14728266, 8448},
        {AT("deploy/models/googlenet_cifar.json"), 5871914, 14304},
        {AT("deploy/models/resnet20_cifar.json"), 273066, 1376},
        {AT("deploy/models/resnet50.json"), 25583592, 53120},
        {AT("deploy/models/bilstm_text.json"), 2757761, 0},
        {AT("deploy/models/seq2seq.json"), 718173, 0},
        {AT("deploy/models/irnn_mnist.json"), 11210, 0},
        {AT("deploy/models/char_rnn.json"), 128 * 32 + 4 * 128 * (32 + 128 + 1) + 4 * 128 * (128 + 128 + 1) + 129 * 128,
         0},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_int_equal(count(known[i].path, LS_WEIGHT_PARAM), known[i].learned);
        assert_int_equal(count(known[i].path, LS_WEIGHT_STAT), known[i].moving);
    }
}

/* Loads a job, sees that its model is there, and gives its training split's place back. */
static ls_job load(const char *path) {
    ls_job job;
    ls_err err = LS_ERR_INIT;
    if (ls_job_load(&job, path, NULL, 0, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    assert_true(count(job.model_path, LS_WEIGHT_PARAM) > 0);
    assert_int_equal(job.lanes, 8);
    return job;
}

static void jobs_load(void **state) {
    (void)state;
    ls_job digits = load(AT("deploy/jobs/digits.json"));
    char *colon = strrchr(digits.train, ':');
    assert_non_null(colon);
    assert_string_equal(colon, ":/train");
    *colon = '\0';
    assert_int_equal(access(digits.train, R_OK), 0);
    assert_int_equal(ls_json_length(digits.callbacks), 2);
    ls_job_release(&digits);

    ls_job mnist = load(AT("deploy/jobs/mnist_cnn.json"));
    assert_int_equal(mnist.batch_size, 128);
    assert_int_equal(mnist.epochs, 12);
    ls_job_release(&mnist);

    ls_job text = load(AT("deploy/jobs/char_rnn.json"));
    assert_int_equal(text.epochs, 30);
    ls_job_release(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_have_their_parameters),
        cmocka_unit_test(architectures_have_their_known_sizes),
        cmocka_unit_test(jobs_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
