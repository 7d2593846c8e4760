#include "trainer/fit/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/rng.h"
#include "common/text.h"
#include "storage/vocabulary.h"
#include "trainer/fit/fit_private.h"
#include "trainer/fit/keras_file.h"
#include "worker/ops/ops.h"
#include "worker/plugin/plugin.h"

typedef struct {
    const ls_generate_request *request;
    const char *file;
    ls_vocabulary vocabulary;
    ls_model *model;
    ls_compile compile;
    ls_plugins plugins;
    ls_engine *engine;
    int64_t window;    /* T */
    int64_t n_one_hot; /* V of a one-hot input; 0: class numbers */
    int64_t n_out;     /* V of the output */
    bool each_place;   /* the output is (T, V) */
    bool logits;
    int32_t *context; /* [window] class numbers, the first n_known of them */
    int64_t n_known;
    float *out;
    double *weight; /* [n_out] */
} generator;

/* ---- the model's configuration ---- */

/* What a layer must be to be run one character at a time. */
static const char by_step[] =
    "InputLayer Embedding SimpleRNN LSTM GRU Dense TimeDistributed Dropout SpatialDropout1D GaussianNoise "
    "GaussianDropout AlphaDropout Activation ReLU LeakyReLU ELU PReLU Softmax LayerNormalization";

static json_t *layers_of(json_t *root) {
    json_t *config = json_object_get(root, "config");
    return json_is_array(config) ? config : json_object_get(config, "layers");
}

/* [B, T, ...] becomes [1, 1, ...]. */
static void shorten_input(json_t *config) {
    static const char *const keys[] = {"batch_input_shape", "batch_shape"};
    for (size_t k = 0; k < 2; k++) {
        json_t *shape = json_object_get(config, keys[k]);
        for (size_t i = 0; i < 2 && i < json_array_size(shape); i++) {
            json_array_set_new(shape, i, json_integer(1));
        }
    }
    json_object_del(config, "input_length");
}

/* Window: no layer goes on with its state. Stateful: all of them, a character at a time. */
static ls_status settle(const generator *g, json_t *root, ls_err *err) {
    bool stateful = g->request->stateful;
    json_t *layers = layers_of(root);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        json_t *layer = json_array_get(layers, i), *config = json_object_get(layer, "config");
        const char *class_ = json_string_value(json_object_get(layer, "class_name"));
        bool recurrent = class_ != NULL && ls_word_listed("SimpleRNN LSTM GRU", class_);
        if (stateful && (class_ == NULL || !ls_word_listed(by_step, class_) ||
                         json_is_true(json_object_get(config, "go_backwards")))) {
            const char *name = json_string_value(json_object_get(config, "name"));
            return ls_fail(
                err, LS_EINPUT,
                "%s: its layer \"%s\" (%s) cannot go on from one character to the next; leave out --stateful", g->file,
                name != NULL ? name : "", class_ != NULL ? class_ : "no class");
        }
        if (recurrent) {
            json_object_set_new(config, "stateful", json_boolean(stateful));
        }
        if (stateful && json_is_object(config)) {
            shorten_input(config);
        }
    }
    return LS_OK;
}

static ls_status build_model(generator *g, const ls_checkpoint *c, ls_err *err) {
    ls_json_doc doc = {0};
    LS_TRY(ls_json_parse(&doc, g->file, c->model_config, err));
    ls_status s = settle(g, doc.root, err);
    if (s != LS_OK) {
        ls_json_release(&doc);
        return s;
    }
    s = ls_model_build(&g->model, &doc, NULL, 0, err);
    return s == LS_OK ? LS_OK : ls_fit_name_plugin(&g->plugins, c, g->file, err);
}

/* ---- what goes in and comes out ---- */

static ls_status check_input(generator *g, ls_err *err) {
    const ls_tensor *in = g->model->inputs[0];
    int64_t n = (int64_t)g->vocabulary.n, takes = in->shape.rank == 2 ? in->shape.dim[1] : n;
    g->window = in->shape.dim[0];
    g->n_one_hot = in->shape.rank == 2 ? in->shape.dim[1] : 0;
    bool tokens = in->shape.rank == 1 && in->dtype == LS_I32;
    if (g->model->n_inputs != 1 || g->model->n_outputs != 1 || (!tokens && in->shape.rank != 2)) {
        return ls_fail(err, LS_EINPUT,
                       "%s: is not a model of text: one input of characters, (time) or (time, characters), and one "
                       "output were expected",
                       g->file);
    }
    for (int i = 0; tokens && i < in->n_consumers; i++) {
        const ls_node *node = in->consumers[i];
        if (node != NULL && node->op == &ls_op_embedding) {
            takes = node->weights[0]->shape.dim[0];
        }
    }
    if (takes < n) {
        return ls_fail(err, LS_EINPUT, "%s: takes %lld different characters, the vocabulary has %lld", g->file,
                       (long long)takes, (long long)n);
    }
    return LS_OK;
}

static bool is_softmax(const ls_tensor *t) {
    while (t->producer != NULL && t->producer->op == &ls_op_view) {
        t = t->producer->in[0];
    }
    return t->producer != NULL && t->producer->op == &ls_op_activation &&
           ((const ls_act_attr *)t->producer->attr)->kind == LS_ACT_SOFTMAX;
}

static ls_status check_output(generator *g, ls_err *err) {
    const ls_tensor *out = g->model->outputs[0];
    int64_t elems = out->rows * ls_shape_elems(&out->shape);
    g->n_out = out->shape.dim[out->shape.rank - 1];
    int64_t places = elems / g->n_out;
    g->each_place = places == g->window && (out->shape.rank == 2 || out->rows > 1);
    if (!g->each_place && places != 1) {
        return ls_fail(err, LS_EINPUT,
                       "%s: is not a model of text: its output was expected to be (%lld, characters) or (characters)",
                       g->file, (long long)g->window);
    }
    if (g->n_out < (int64_t)g->vocabulary.n) {
        return ls_fail(err, LS_EINPUT, "%s: tells %lld different characters, the vocabulary has %zu", g->file,
                       (long long)g->n_out, g->vocabulary.n);
    }
    g->logits = !is_softmax(out);
    g->context = ls_xcalloc((size_t)g->window, sizeof *g->context);
    g->out = ls_xcalloc((size_t)elems, sizeof *g->out);
    g->weight = ls_xcalloc((size_t)g->n_out, sizeof *g->weight);
    return LS_OK;
}

/* ---- one character ---- */

static ls_status feed(void *self, int array, ls_dtype want, const uint32_t *index, size_t n, void *out, ls_err *err) {
    const generator *g = self;
    (void)err;
    (void)index;
    LS_ASSERT(array == 0 && n == 1);
    for (int64_t t = 0; t < g->window; t++) {
        if (g->n_one_hot > 0) {
            float *row = (float *)out + t * g->n_one_hot;
            memset(row, 0, (size_t)g->n_one_hot * sizeof *row);
            row[g->context[t]] = t < g->n_known ? 1 : 0;
        } else if (want == LS_I32) {
            ((int32_t *)out)[t] = g->context[t];
        } else {
            ((float *)out)[t] = (float)g->context[t];
        }
    }
    return LS_OK;
}

static void remember(generator *g, int32_t class_) {
    if (g->n_known == g->window) {
        memmove(g->context, g->context + 1, (size_t)(g->window - 1) * sizeof *g->context);
        g->n_known--;
    }
    g->context[g->n_known++] = class_;
}

/* The model's word on what follows the context, into *row: (n_out). */
static ls_status ask(generator *g, const float **row, ls_err *err) {
    const ls_feed source = {.self = g, .n_samples = 1, .fill = feed};
    const uint32_t first = 0;
    float *out[] = {g->out};
    LS_TRY(ls_engine_predict_step(g->engine, &source, &first, 1, out, err));
    *row = g->out + (g->each_place ? (g->n_known - 1) * g->n_out : 0);
    return LS_OK;
}

/* The class of the next character; u is uniform in [0, 1). */
static ls_status draw(generator *g, const float *row, double u, int32_t *class_, ls_err *err) {
    size_t n = g->vocabulary.n, best = 0;
    double temperature = g->request->temperature, sum = 0;
    for (size_t i = 0; i < n; i++) {
        g->weight[i] = g->logits ? row[i] : log(row[i] > 1e-37f ? row[i] : 1e-37);
        if (!isfinite(row[i])) {
            return ls_fail(err, LS_ENONFINITE, "%s: the model's output is %s", g->file,
                           isnan(row[i]) ? "NaN" : "infinite");
        }
        best = g->weight[i] > g->weight[best] ? i : best;
    }
    *class_ = (int32_t)best;
    if (temperature == 0) {
        return LS_OK;
    }
    double most = g->weight[best];
    for (size_t i = 0; i < n; i++) {
        g->weight[i] = exp((g->weight[i] - most) / temperature);
        sum += g->weight[i];
    }
    double at = u * sum;
    for (size_t i = 0; i < n; i++) {
        at -= g->weight[i];
        if (at < 0) {
            *class_ = (int32_t)i;
            break;
        }
    }
    return LS_OK;
}

/* ---- the whole ---- */

/* The vocabulary lies in the data that the run was trained on. */
static ls_status find_vocabulary(generator *g, const ls_checkpoint *c, ls_err *err) {
    if (g->request->vocabulary != NULL) {
        return ls_vocabulary_load(&g->vocabulary, g->request->vocabulary, err);
    }
    json_t *state = c->state != NULL ? json_loads(c->state, 0, NULL) : NULL;
    const char *train =
        json_string_value(json_object_get(json_object_get(json_object_get(state, "job"), "data"), "train"));
    ls_status s;
    if (train == NULL) {
        s = ls_fail(err, LS_EINPUT,
                    "%s: does not say what it was trained on; give its characters with --vocabulary FILE", g->file);
    } else {
        char *path, *group;
        ls_dataset_split_name(train, &path, &group);
        s = ls_vocabulary_load(&g->vocabulary, path, err);
        if (s != LS_OK) {
            s = ls_err_context(err, "give the characters with --vocabulary FILE");
        }
        free(path);
        free(group);
    }
    json_decref(state);
    return s;
}

static ls_status create_engine(generator *g, ls_team *team, const ls_checkpoint *c, ls_err *err) {
    g->compile.n_outputs = 1;
    g->compile.losses = ls_xcalloc(1, sizeof *g->compile.losses);
    g->compile.loss_weights = ls_xcalloc(1, sizeof *g->compile.loss_weights);
    /* One sample leaves nothing to share among threads. */
    const ls_engine_options options = {
        .batch = 1, .eval_batch = 1, .compute = LS_F32, .n_threads = 1, .inference = true};
    LS_TRY(ls_engine_create(&g->engine, team, g->model, &g->compile, &options, err));
    LS_TRY(ls_keras_set_weights(g->engine, g->model, c, g->file, err));
    ls_engine_publish(g->engine);
    return LS_OK;
}

/* Reads the seed text into the context; with state, all but its last character go through the model at once. */
static ls_status read_seed(generator *g, ls_err *err) {
    const char *text = g->request->seed_text;
    int32_t *classes;
    size_t n;
    LS_TRY(ls_vocabulary_encode(&g->vocabulary, "--seed-text", text, strlen(text), &classes, &n, err));
    ls_status s = LS_OK;
    if (n == 0 || (!g->each_place && !g->request->stateful && (int64_t)n < g->window)) {
        s = ls_fail(err, LS_EINPUT, "--seed-text: has %zu characters; the model needs %lld to tell the next", n,
                    (long long)(g->each_place ? 1 : g->window));
    }
    const float *ignored;
    for (size_t i = 0; s == LS_OK && i < n; i++) {
        remember(g, classes[i]);
        if (g->request->stateful && i + 1 < n) {
            s = ask(g, &ignored, err);
        }
    }
    free(classes);
    return s;
}

static ls_status write_text(generator *g, ls_err *err) {
    uint64_t key = ls_rng_key(g->request->seed, LS_STREAM_SAMPLE, 0);
    for (int64_t i = 0; i < g->request->length; i++) {
        const float *row;
        int32_t class_ = 0;
        char text[5];
        LS_TRY(ask(g, &row, err));
        LS_TRY(draw(g, row, ls_rng_uniform(key, (uint64_t)i), &class_, err));
        g->request->put(g->request->context, text, ls_vocabulary_decode(&g->vocabulary, (size_t)class_, text));
        remember(g, class_);
    }
    return LS_OK;
}

static ls_status run(generator *g, ls_team *team, const ls_checkpoint *c, ls_err *err) {
    LS_TRY(find_vocabulary(g, c, err));
    LS_TRY(build_model(g, c, err));
    LS_TRY(check_input(g, err));
    LS_TRY(check_output(g, err));
    LS_TRY(create_engine(g, team, c, err));
    LS_TRY(read_seed(g, err));
    g->request->put(g->request->context, g->request->seed_text, strlen(g->request->seed_text));
    return write_text(g, err);
}

ls_status ls_generate(struct ls_team *team, const ls_generate_request *request, ls_err *err) {
    if (team->size > 1) {
        return ls_fail(err, LS_EINPUT, "generate runs on one rank: each character waits for the one before");
    }
    generator g = {.request = request};
    ls_checkpoint c = {0};
    char *file = NULL;
    ls_json_doc words = {0};
    ls_status s = ls_plugins_words(request->plugins, request->n_plugins, &words, err);
    LS_TRY(s);
    s = ls_plugins_load(ls_json_root(&words), "", &g.plugins, err);
    if (s == LS_OK) {
        s = ls_keras_read(request->checkpoint, &c, &file, err);
    }
    if (s == LS_OK) {
        g.file = file;
        s = run(&g, team, &c, err);
    }
    if (g.engine != NULL) {
        ls_engine_destroy(g.engine);
    }
    ls_compile_release(&g.compile);
    ls_model_destroy(g.model);
    ls_vocabulary_release(&g.vocabulary);
    ls_checkpoint_release(&c);
    ls_plugins_release(&g.plugins);
    ls_json_release(&words);
    free(g.context);
    free(g.out);
    free(g.weight);
    free(file);
    return s;
}
