/*
 * digests BUCKET_BYTES THREADS
 *
 * Run as any number of ranks: trains small models with every optimizer of the table, each way of clipping, and
 * everything that spans the lanes of a batch, and prints a digest of what came of each: losses, weights, optimizer
 * state. What spans lanes is also compared with the same batch in one lane. tests/ranks/digests_test compares the
 * digests of many numbers of ranks.
 */
#include <math.h>

#include "check.h"
#include "common/memory.h"
#include "storage/hash.h"
#include "worker/engine/engine.h"

enum { LANES = 8, BATCH = 48, LAST = 29, STEPS = 4 };

typedef struct {
    size_t bucket_bytes;
    int n_threads;
} way;

typedef struct {
    const char *name, *model, *loss;
    bool sync, sample_weights, bfloat16;
    double tolerance; /* of one lane against several; 0: statistics are a lane's own, they differ */
} model_case;

#define SEQUENTIAL(layers) "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"m\", \"layers\": [" layers "]}}"
#define LAYER(class_, config) "{\"class_name\": \"" class_ "\", \"config\": {" config "}}"
#define BN_MODEL(more) \
    SEQUENTIAL(LAYER("InputLayer", "\"batch_input_shape\": [null, 6, 6, 3]") "," LAYER(                              \
        "Conv2D", "\"filters\": 5, \"kernel_size\": [3, 3], \"use_bias\": false") "," LAYER("BatchNormalization", more) \
                   "," LAYER("Activation", "\"activation\": \"relu\"") "," LAYER("Flatten", "") "," LAYER(           \
                       "Dense", "\"units\": 12") "," LAYER("BatchNormalization", "\"momentum\": 0.8" ) "," LAYER(    \
                       "Dense", "\"units\": 5, \"activation\": \"softmax\""))
#define SPARSE "\"sparse_categorical_crossentropy\""

static const char dense_model[] = SEQUENTIAL(LAYER("InputLayer", "\"batch_input_shape\": [null, 40]") "," LAYER(
    "Dense",
    "\"units\": 120, \"activation\": \"relu\", \"kernel_regularizer\": {\"class_name\": \"L2\", \"config\": "
    "{\"l2\": 0.001}}") "," LAYER("Dense", "\"units\": 5, \"activation\": \"softmax\""));

static const char shared_model[] =
    "{\"class_name\": \"Functional\", \"config\": {\"name\": \"m\", \"layers\": ["
    "{\"name\": \"x\", \"class_name\": \"InputLayer\", \"config\": {\"name\": \"x\", \"batch_input_shape\": [null, "
    "40]}, "
    "\"inbound_nodes\": []},"
    "{\"name\": \"a\", \"class_name\": \"Dense\", \"config\": {\"name\": \"a\", \"units\": 40, \"activation\": "
    "\"tanh\"}, "
    "\"inbound_nodes\": [[[\"x\", 0, 0, {}]], [[\"a\", 0, 0, {}]]]},"
    "{\"name\": \"b\", \"class_name\": \"Dense\", \"config\": {\"name\": \"b\", \"units\": 5, \"activation\": "
    "\"softmax\"}, "
    "\"inbound_nodes\": [[[\"a\", 1, 0, {}]]]}], \"input_layers\": [[\"x\", 0, 0]], \"output_layers\": [[\"b\", 0, "
    "0]]}}";

static const model_case spanning[] = {
    {"lanes' own batch statistics", BN_MODEL("\"momentum\": 0.9"), SPARSE, .tolerance = 0},
    {"synchronized batch norm", BN_MODEL("\"synchronized\": true"), SPARSE, .sync = true, .tolerance = 2e-5},
    {"synchronized batch norm in bfloat16", BN_MODEL("\"momentum\": 0.9"), SPARSE, .sync = true, .bfloat16 = true,
     .tolerance = 0.1},
    {"dense layers in bfloat16", dense_model, SPARSE, .bfloat16 = true, .tolerance = 0.1}, /* lanes take turns */
    {"a dense layer that is used twice, in bfloat16", shared_model, SPARSE, .bfloat16 = true, .tolerance = 0.1},
    {"a masked loss",
     SEQUENTIAL(LAYER("InputLayer", "\"batch_input_shape\": [null, 7]") "," LAYER(
         "Embedding",
         "\"input_dim\": 9, \"output_dim\": 6, \"mask_zero\": true") "," LAYER("LSTM",
                                                                               "\"units\": 8, \"return_sequences\": "
                                                                               "true") "," LAYER("Dense",
                                                                                                 "\"units\": 5, "
                                                                                                 "\"activation\": "
                                                                                                 "\"softmax\"")),
     SPARSE, .sample_weights = true, .tolerance = 2e-5},
};

/* What it is called, class_name and config. LARS and LAMB take no clipping by norms. */
static const char *const optimizers[][3] = {
    {"SGD", "SGD", ""},
    {"momentum", "SGD", "\"momentum\": 0.9"},
    {"Nesterov", "SGD", "\"momentum\": 0.9, \"nesterov\": true"},
    {"Adagrad", "Adagrad", ""},
    {"Adadelta", "Adadelta", ""},
    {"RMSprop", "RMSprop", ""},
    {"RMSprop centered", "RMSprop", "\"centered\": true, \"momentum\": 0.5"},
    {"Adam", "Adam", ""},
    {"AMSGrad", "Adam", "\"amsgrad\": true"},
    {"Adamax", "Adamax", ""},
    {"Nadam", "Nadam", ""},
    {"AdamW", "AdamW", "\"weight_decay\": 0.01"},
    {"Ftrl", "Ftrl", ""},
    {"LARS", "LARS", "\"momentum\": 0.9"},
    {"LAMB", "LAMB", ""},
};
static const char *const clips[] = {"", "\"clipnorm\": 0.05", "\"clipvalue\": 0.003", "\"global_clipnorm\": 0.1"};

/* ---- data: a function of the sample's number ---- */

typedef struct {
    size_t in, out; /* elements of a sample and of its target */
    bool sequence;
} data;

static double noise(uint64_t sample, uint64_t i) {
    uint64_t h = (sample * 1000003 + i + 1) * 0x9E3779B97F4A7C15u;
    h = (h ^ h >> 29) * 0xBF58476D1CE4E5B9u;
    return (double)((h ^ h >> 32) >> 11) / 9007199254740992.0;
}

static ls_status fill(void *self, int array, ls_dtype want, const uint32_t *index, size_t n, void *out, ls_err *err) {
    const data *d = self;
    (void)err;
    size_t elems = array == 0 ? d->in : array == 1 ? d->out : 1;
    for (size_t s = 0; s < n; s++) {
        for (size_t i = 0; i < elems; i++) {
            double r = noise(index[s], i + (size_t)array * 4096);
            double length = 1 + floor(noise(index[s], 9999) * 7); /* of a sequence; zeros follow */
            double number = d->sequence ? ((double)i < length ? 1 + floor(r * 8) : 0) : 2 * r - 1;
            if (want == LS_I32) {
                ((int32_t *)out)[s * elems + i] = (int32_t)(array == 0 ? number : floor(r * 5));
            } else {
                ((float *)out)[s * elems + i] = (float)(array == 2 ? 0.5 + r : number);
            }
        }
    }
    return LS_OK;
}

/* ---- training ---- */

typedef struct {
    ls_model *model;
    ls_compile compile;
    ls_engine *engine;
} job;

static void parse(ls_json_doc *doc, const char *what, const char *text) {
    ls_err err = LS_ERR_INIT;
    if (ls_json_parse(doc, what, text, &err) != LS_OK) {
        fprintf(stderr, "%s\n%s\n", err.text, text);
        abort();
    }
}

static bool start(job *j, ls_team *team, const model_case *m, const char *optimizer, int n_lanes, const way *how) {
    ls_json_doc model, compile;
    ls_err err = LS_ERR_INIT;
    char *text = ls_xprintf("{\"loss\": %s, \"metrics\": [\"accuracy\"], \"optimizer\": %s}", m->loss, optimizer);
    ls_engine_options o = {.batch = BATCH,
                           .last_batch = LAST,
                           .lanes = n_lanes,
                           .seed = 5,
                           .compute = m->bfloat16 ? LS_BF16 : LS_F32,
                           .sync_batch_norm = m->sync,
                           .sample_weights = m->sample_weights,
                           .bucket_bytes = how->bucket_bytes,
                           .n_threads = how->n_threads};
    *j = (job){0};
    parse(&model, "model", m->model);
    parse(&compile, "compile", text);
    ls_status s = ls_model_build(&j->model, &model, NULL, 0, &err);
    s = s == LS_OK ? ls_compile_parse(ls_json_root(&compile), j->model, &j->compile, &err) : s;
    s = s == LS_OK ? ls_engine_create(&j->engine, team, j->model, &j->compile, &o, &err) : s;
    CHECK(s == LS_OK, "%s, %s: %s", m->name, optimizer, err.text);
    ls_json_release(&compile);
    free(text);
    return s == LS_OK;
}

static void stop(job *j) {
    ls_engine_destroy(j->engine);
    ls_compile_release(&j->compile);
    ls_model_destroy(j->model);
}

/* Some steps, the last of them smaller, and an evaluation; all sums go into the hash. */
static void train(job *j, const model_case *m, ls_hash *hash) {
    const ls_tensor *out = j->model->outputs[0];
    data d = {.in = (size_t)ls_shape_elems(&j->model->inputs[0]->shape), .sequence = m->sample_weights};
    d.out = (size_t)(ls_shape_elems(&out->shape) / out->shape.dim[out->shape.rank - 1]);
    ls_feed feed = {.self = &d, .n_samples = STEPS * BATCH, .fill = fill, .has_sample_weights = m->sample_weights};
    uint32_t index[BATCH];
    double *sums = ls_xcalloc((size_t)ls_engine_n_sums(j->engine), sizeof *sums);
    for (int step = 0; step <= STEPS; step++) {
        ls_err err = LS_ERR_INIT;
        ls_verdict v = {.sums = sums};
        for (uint32_t i = 0; i < BATCH; i++) {
            index[i] = (uint32_t)step * BATCH + i;
        }
        ls_status s = step < STEPS ? ls_engine_train_step(j->engine, &feed, index, step == STEPS - 1 ? LAST : BATCH,
                                                          (uint64_t)step, 0.02, 0, &v, &err)
                                   : ls_engine_evaluate_step(j->engine, &feed, index, BATCH, 0, &v, &err);
        CHECK(s == LS_OK && !v.non_finite, "%s, step %d: %s", m->name, step, err.text);
        ls_hash_add(hash, sums, (size_t)ls_engine_n_sums(j->engine) * sizeof *sums);
    }
    free(sums);
}

static float *values_of(const job *j, int slot, const ls_weight *w, size_t *n) {
    *n = (size_t)ls_shape_elems(&w->shape);
    float *values = ls_xcalloc(*n, sizeof *values);
    ls_engine_get(j->engine, w, slot, values);
    return values;
}

/* Prints what came of it; slots are rank 0's to know. */
static void print_digest(const job *j, ls_team *team, const char *name, const char *more, ls_hash *hash) {
    unsigned char bytes[LS_HASH_BYTES];
    ls_engine_gather(j->engine);
    for (int i = 0; team->rank == 0 && i < j->model->n_weights; i++) {
        const ls_weight *w = j->model->weights[i];
        int slots = w->trainable ? ls_optimizer_n_slots(&j->compile.optimizer) : 0;
        for (int slot = -1; slot < slots; slot++) {
            size_t n;
            float *values = values_of(j, slot, w, &n);
            ls_hash_add(hash, values, n * sizeof *values);
            free(values);
        }
    }
    ls_hash_finish(hash, bytes);
    for (int i = 0; team->rank == 0 && i < LS_HASH_BYTES; i++) {
        printf("%02x", bytes[i]);
    }
    if (team->rank == 0) {
        printf("  %s%s%s\n", name, more[0] != '\0' ? ", " : "", more);
    }
}

/* Weights differ by no more than rounding. */
static void compare(const job *a, const job *b, const model_case *m) {
    double worst = 0;
    for (int i = 0; i < a->model->n_weights; i++) {
        size_t n;
        float *x = values_of(a, -1, a->model->weights[i], &n), *y = values_of(b, -1, b->model->weights[i], &n);
        double largest = 0.1, difference = 0;
        for (size_t k = 0; k < n; k++) {
            largest = fmax(largest, fabs((double)y[k]));
            difference = fmax(difference, fabs((double)x[k] - y[k]));
        }
        worst = fmax(worst, difference / largest);
        free(x);
        free(y);
    }
    bool same = worst <= (m->tolerance > 0 ? m->tolerance : 1e-3);
    CHECK(same == (m->tolerance > 0), "%s: %d lanes differ from one by %.2g", m->name, LANES, worst);
}

static void run_optimizers(ls_team *team, const way *how) {
    static const model_case m = {"dense layers", dense_model, SPARSE};
    for (size_t i = 0; i < sizeof optimizers / sizeof optimizers[0]; i++) {
        for (size_t k = 0; k < sizeof clips / sizeof clips[0]; k++) {
            if (optimizers[i][1][0] == 'L' && strstr(clips[k], "norm") != NULL) {
                continue;
            }
            const char *comma = optimizers[i][2][0] != '\0' && clips[k][0] != '\0' ? ", " : "";
            char *text = ls_xprintf("{\"class_name\": \"%s\", \"config\": {%s%s%s}}", optimizers[i][1],
                                    optimizers[i][2], comma, clips[k]);
            job j;
            if (start(&j, team, &m, text, LANES, how)) {
                ls_hash *hash = ls_hash_start();
                train(&j, &m, hash);
                print_digest(&j, team, optimizers[i][0], clips[k], hash);
            }
            stop(&j);
            free(text);
        }
    }
}

static void run_spanning(ls_team *team, const way *how) {
    for (size_t i = 0; i < sizeof spanning / sizeof spanning[0]; i++) {
        const model_case *m = &spanning[i];
        job many, one;
        unsigned char unused[LS_HASH_BYTES];
        bool ok = start(&many, team, m, "\"SGD\"", LANES, how);
        ok = start(&one, team, m, "\"SGD\"", 1, how) && ok;
        if (ok) {
            ls_hash *hash = ls_hash_start(), *other = ls_hash_start();
            train(&many, m, hash);
            train(&one, m, other);
            ls_hash_finish(other, unused);
            compare(&many, &one, m);
            print_digest(&many, team, m->name, "", hash);
        }
        stop(&many);
        stop(&one);
    }
}

int main(int argc, char **argv) {
    ls_team *team = ranks_begin(0, NULL);
    way this = {.bucket_bytes = argc > 1 ? (size_t)atol(argv[1]) : 0, .n_threads = argc > 2 ? atoi(argv[2]) : 1};
    run_spanning(team, &this);
    run_optimizers(team, &this);
    return ranks_end(team);
}
