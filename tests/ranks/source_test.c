/* Data sets bound to models: conversion, one-hot, weights, slices, and what is wrong with bad data; in memory and read
 * from the file. */
#include <math.h>
#include <unistd.h>

#include "check.h"
#include "common/memory.h"
#include "trainer/fit/source.h"

enum { N = 41 };

static const char *const model_text =
    "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"m\", \"layers\": ["
    "{\"class_name\": \"InputLayer\", \"config\": {\"name\": \"in\", \"batch_input_shape\": [null, 2, 3, 1]}},"
    "{\"class_name\": \"Flatten\", \"config\": {\"name\": \"f\"}},"
    "{\"class_name\": \"Dense\", \"config\": {\"name\": \"out\", \"units\": 4, \"activation\": \"softmax\"}}]}}";

/* Two classes a sample. */
static const char *const pairs_text =
    "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"m\", \"layers\": ["
    "{\"class_name\": \"InputLayer\", \"config\": {\"name\": \"in\", \"batch_input_shape\": [null, 2, 3]}},"
    "{\"class_name\": \"Dense\", \"config\": {\"name\": \"out\", \"units\": 4, \"activation\": \"softmax\"}}]}}";

typedef struct {
    ls_team *team;
    const char *text;
    ls_model *model;
    ls_compile compile;
    ls_json_doc doc;
    char path[64];
} bench;

static void compile_with(bench *b, const char *loss) {
    char text[200];
    ls_err err = LS_ERR_INIT;
    ls_json_doc doc;
    snprintf(text, sizeof text, "{\"loss\": \"%s\", \"optimizer\": \"sgd\"}", loss);
    if (b->model == NULL) {
        CHECK(ls_json_parse(&doc, "model", b->text, &err) == LS_OK, "%s", err.text);
        CHECK(ls_model_build(&b->model, &doc, NULL, 0, &err) == LS_OK, "%s", err.text);
    } else {
        ls_compile_release(&b->compile);
        ls_json_release(&b->doc);
    }
    CHECK(ls_json_parse(&b->doc, "compile", text, &err) == LS_OK, "%s", err.text);
    CHECK(ls_compile_parse(ls_json_root(&b->doc), b->model, &b->compile, &err) == LS_OK, "%s", err.text);
}

/* What rank 0 writes into the group /t. x: f32 (N, 2, 3) counting up; y: u8 class numbers, one or a pair a sample. */
typedef struct {
    bool nan_in_x, flat_x, no_y, weights, pairs;
    int bad_label_at, bad_label;
} content;

static void write_data(bench *b, const content *c) {
    ls_err err = LS_ERR_INIT;
    ls_status status = LS_OK;
    ls_team_barrier(b->team); /* until nobody reads the old one */
    if (b->team->rank == 0) {
        ls_h5 *file;
        float x[N * 6];
        uint8_t y[N * 2];
        double weight[N];
        for (int i = 0; i < N; i++) {
            for (int k = 0; k < 6; k++) {
                x[i * 6 + k] = (float)(i * 6 + k);
            }
            y[c->pairs ? 2 * i : i] = (uint8_t)(i % 4);
            weight[i] = i;
        }
        for (int i = 0; c->pairs && i < N; i++) {
            y[2 * i + 1] = (uint8_t)((i + 1) % 4);
        }
        x[7 * 6 + 2] = c->nan_in_x ? NAN : x[7 * 6 + 2];
        y[c->bad_label_at] = c->bad_label != 0 ? (uint8_t)c->bad_label : y[c->bad_label_at];
        uint64_t dims[3] = {N, c->flat_x ? 6 : 2, 3};
        status = ls_h5_create(b->path, &file, &err);
        if (status == LS_OK) {
            status = ls_h5_write(file, "/t/x", LS_H5_F32, c->flat_x ? 2 : 3, dims, x, NULL, &err);
        }
        if (status == LS_OK && !c->no_y) {
            status = ls_h5_write(file, "/t/y", LS_H5_U8, c->pairs ? 2 : 1, c->pairs ? (uint64_t[]){N, 2} : dims, y,
                                 NULL, &err);
        }
        if (status == LS_OK && c->weights) {
            status = ls_h5_write(file, "/t/sample_weight", LS_H5_F64, 1, dims, weight, NULL, &err);
        }
        if (status == LS_OK) {
            status = ls_h5_close(file, &err);
        }
    }
    CHECK(ls_team_agree(b->team, status, &err) == LS_OK, "%s", err.text);
}

static ls_status open_with(bench *b, ls_source **s, const ls_source_options *o, ls_err *err) {
    char name[80];
    *s = NULL;
    snprintf(name, sizeof name, "%s:/t", b->path);
    return ls_source_open(s, b->team, name, b->model, &b->compile, o, err);
}

static void expect_error(bench *b, const content *c, const ls_source_options *o, const char *message) {
    ls_source *s;
    ls_err err = LS_ERR_INIT;
    char whole[400];
    write_data(b, c);
    snprintf(whole, sizeof whole, "%s:/t: %s", b->path, message);
    CHECK(open_with(b, &s, o, &err) == LS_EINPUT, "a source that should be refused: %s", message);
    CHECK(strstr(err.text, whole) != NULL, "\"%s\" instead of \"%s\"", err.text, whole);
    ls_source_destroy(s);
}

static void gives_samples(bench *b, double memory_gb) {
    content c = {.weights = true};
    ls_source *s;
    ls_err err = LS_ERR_INIT;
    const double class_weight[] = {1, 10};
    ls_source_options o = {
        .scale = 0.5, .offset = 1, .memory_gb = memory_gb, .n_class_weights = 2, .class_weight = class_weight};
    const uint32_t index[] = {40, 0, 5};
    write_data(b, &c);
    compile_with(b, "sparse_categorical_crossentropy");
    CHECK(open_with(b, &s, &o, &err) == LS_OK, "%s", err.text);
    if (s == NULL) {
        return;
    }
    const ls_feed *feed = ls_source_feed(s);
    float x[18], w[3];
    int32_t y[3];
    CHECK(ls_source_in_memory(s) == (memory_gb == 0), "memory %g GB", memory_gb);
    CHECK(feed->n_samples == N && feed->has_sample_weights, "%zu samples", feed->n_samples);
    CHECK(feed->fill(feed->self, 0, LS_F32, index, 3, x, &err) == LS_OK, "%s", err.text);
    CHECK(x[0] == 240 * 0.5f + 1 && x[6] == 1 && x[17] == 35 * 0.5f + 1, "%g %g %g", x[0], x[6], x[17]);
    CHECK(feed->fill(feed->self, 1, LS_I32, index, 3, y, &err) == LS_OK, "%s", err.text);
    CHECK(y[0] == 0 && y[1] == 0 && y[2] == 1, "%d %d %d", y[0], y[1], y[2]);
    CHECK(feed->fill(feed->self, 2, LS_F32, index, 3, w, &err) == LS_OK, "%s", err.text);
    CHECK(w[0] == 40 && w[1] == 0 && w[2] == 50, "%g %g %g", w[0], w[1], w[2]);

    int wrong = 0; /* every sample is there, whichever rank has read it */
    for (uint32_t i = 0; i < N; i++) {
        wrong += feed->fill(feed->self, 0, LS_F32, &i, 1, x, &err) != LS_OK;
        for (uint32_t k = 0; k < 6; k++) {
            wrong += x[k] != (float)(uint8_t)(i * 6 + k) * 0.5f + 1;
        }
    }
    CHECK(wrong == 0, "%d elements of %d samples are wrong", wrong, N);

    ls_source *end = ls_source_slice(s, 30, 11);
    ls_source_truncate(s, 30);
    feed = ls_source_feed(end);
    const uint32_t last = 10;
    CHECK(feed->n_samples == 11 && ls_source_feed(s)->n_samples == 30, "%zu", feed->n_samples);
    CHECK(feed->fill(feed->self, 0, LS_F32, &last, 1, x, &err) == LS_OK && x[0] == 121, "%g", x[0]);
    CHECK(feed->fill(feed->self, 2, LS_F32, &last, 1, w, &err) == LS_OK && w[0] == 40, "no class weights: %g", w[0]);
    ls_source_destroy(end);

    ls_source_spoil(s, true, false);
    feed = ls_source_feed(s);
    CHECK(feed->fill(feed->self, 0, LS_F32, index + 1, 1, x, &err) == LS_EINPUT, "spoilt");
    ls_source_spoil(s, false, true);
    CHECK(feed->fill(feed->self, 0, LS_F32, index + 1, 1, x, &err) == LS_OK && isnan(x[0]), "spoilt");
    CHECK(feed->fill(feed->self, 0, LS_F32, index + 1, 1, x, &err) == LS_OK && x[0] == 1, "once only");
    ls_source_destroy(s);
}

static void makes_distributions(bench *b, double memory_gb) {
    content c = {0};
    ls_source *s;
    ls_err err = LS_ERR_INIT;
    ls_source_options o = {.scale = NAN, .offset = NAN, .memory_gb = memory_gb};
    const uint32_t index[] = {3, 4};
    write_data(b, &c);
    compile_with(b, "categorical_crossentropy");
    CHECK(open_with(b, &s, &o, &err) == LS_OK, "%s", err.text);
    if (s != NULL) {
        float y[8] = {9, 9, 9, 9, 9, 9, 9, 9};
        const float want[8] = {0, 0, 0, 1, 1, 0, 0, 0};
        const ls_feed *feed = ls_source_feed(s);
        CHECK(feed->fill(feed->self, 1, LS_F32, index, 2, y, &err) == LS_OK, "%s", err.text);
        CHECK(memcmp(y, want, sizeof want) == 0, "rows of classes 3 and 0");
    }
    ls_source_destroy(s);
}

static void makes_pairs(const bench *b, double memory_gb) {
    bench two = {.team = b->team, .text = pairs_text};
    ls_source *s;
    ls_err err = LS_ERR_INIT;
    ls_source_options o = {.scale = NAN, .offset = NAN, .memory_gb = memory_gb};
    const uint32_t index[] = {3, 5};
    snprintf(two.path, sizeof two.path, "%s", b->path);
    write_data(&two, &(content){.pairs = true});
    compile_with(&two, "categorical_crossentropy");
    CHECK(open_with(&two, &s, &o, &err) == LS_OK, "%s", err.text);
    if (s != NULL) {
        float y[16];
        const float want[16] = {0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
        const ls_feed *feed = ls_source_feed(s);
        CHECK(feed->fill(feed->self, 1, LS_F32, index, 2, y, &err) == LS_OK, "%s", err.text);
        CHECK(memcmp(y, want, sizeof want) == 0, "rows of classes 3 and 0, 1 and 2");
    }
    ls_source_destroy(s);
    ls_compile_release(&two.compile);
    ls_json_release(&two.doc);
    ls_model_destroy(two.model);
}

static void refuses_bad_data(bench *b) {
    ls_source_options o = {.scale = NAN, .offset = NAN};
    compile_with(b, "sparse_categorical_crossentropy");
    expect_error(b, &(content){.bad_label_at = 33, .bad_label = 4}, &o,
                 "sample 33 of \"y\" is class 4, but the model's output has the classes 0 to 3");
    expect_error(b, &(content){.nan_in_x = true}, &o, "sample 7 of \"x\" holds a NaN at element 2; remove or mend it");
    expect_error(b, &(content){.flat_x = true}, &o,
                 "a sample of \"x\" has the shape (6,), but the model's input \"in\" wants (2, 3, 1)");
    expect_error(b, &(content){.no_y = true}, &o,
                 "there is no array for the model's output \"out\"; expected \"out\" or \"y\", found \"x\"");
    ls_source *s;
    ls_err err = LS_ERR_INIT;
    double five[5] = {1, 1, 1, 1, 1};
    ls_json_doc doc;
    write_data(b, &(content){0});
    CHECK(ls_json_parse(&doc, "job.json", "{\n\"4\": 1}", &err) == LS_OK, "%s", err.text);
    o.n_class_weights = 5;
    o.class_weight = five;
    o.class_weight_at = ls_json_root(&doc);
    CHECK(open_with(b, &s, &o, &err) == LS_EINPUT, "five classes of four");
    CHECK(strcmp(err.text, "job.json:2: 4: the model's output has the classes 0 to 3") == 0, "%s", err.text);
    ls_json_release(&doc);

    /* Read as needed: found when the sample is. */
    const uint32_t index = 33;
    int32_t y;
    o = (ls_source_options){.scale = NAN, .offset = NAN, .memory_gb = 1e-9};
    write_data(b, &(content){.bad_label_at = 33, .bad_label = 200});
    CHECK(open_with(b, &s, &o, &err) == LS_OK, "%s", err.text);
    if (s != NULL) {
        const ls_feed *feed = ls_source_feed(s);
        CHECK(feed->fill(feed->self, 1, LS_I32, &index, 1, &y, &err) == LS_EINPUT, "class 200");
        CHECK(strstr(err.text, "sample 33 of \"y\" is class 200") != NULL, "%s", err.text);
    }
    ls_source_destroy(s);

    /* What the loss ignores is no class of the output, and that class alone. */
    b->compile.losses[0].ignores = true;
    b->compile.losses[0].ignored = 255;
    o = (ls_source_options){.scale = NAN, .offset = NAN};
    expect_error(b, &(content){.bad_label_at = 33, .bad_label = 254}, &o, "sample 33 of \"y\" is class 254");
    write_data(b, &(content){.bad_label_at = 33, .bad_label = 255});
    CHECK(open_with(b, &s, &o, &err) == LS_OK, "%s", err.text);
    if (s != NULL) {
        const ls_feed *feed = ls_source_feed(s);
        CHECK(feed->fill(feed->self, 1, LS_I32, &index, 1, &y, &err) == LS_OK && y == 255, "%d: %s", y, err.text);
    }
    ls_source_destroy(s);
}

/* What was announced is there, whole or in part, more often than there are places to read into; so is what was not. */
static void reads_ahead(bench *b) {
    ls_source *s;
    ls_err err = LS_ERR_INIT;
    ls_source_options o = {.scale = 1, .offset = 0, .memory_gb = 1e-9, .deadline_s = 60};
    enum { AT_ONCE = 7, STEPS = 12 };
    uint32_t index[STEPS + LS_SOURCE_AHEAD][AT_ONCE];
    for (int i = 0; i < STEPS; i++) {
        for (int k = 0; k < AT_ONCE; k++) {
            index[i][k] = (uint32_t)((i * 17 + k * 29) % N);
        }
    }
    write_data(b, &(content){.bad_label_at = 33, .bad_label = 200});
    compile_with(b, "sparse_categorical_crossentropy");
    CHECK(open_with(b, &s, &o, &err) == LS_OK, "%s", err.text);
    if (s == NULL) {
        return;
    }
    const ls_feed *feed = ls_source_feed(s);
    int announced = 0, bad = 0, wrong = 0;
    for (int i = 0; i < STEPS; i++) {
        for (; announced < STEPS && announced < i + LS_SOURCE_AHEAD; announced++) {
            feed->expect(feed->self, index[announced], AT_ONCE);
        }
        bool has_bad = false;
        float x[AT_ONCE * 6], part[2 * 6];
        for (int k = 0; k < AT_ONCE; k++) {
            has_bad = has_bad || index[i][k] == 33;
        }
        ls_status status = feed->fill(feed->self, 0, LS_F32, index[i], AT_ONCE, x, &err);
        bad += has_bad;
        wrong += (status != LS_OK) != has_bad;
        if (has_bad) {
            wrong += strstr(err.text, "sample 33 of \"y\" is class 200") == NULL;
            continue;
        }
        wrong += feed->fill(feed->self, 0, LS_F32, index[i] + 3, 2, part, &err) != LS_OK;
        wrong += memcmp(part, x + 3 * 6, sizeof part) != 0;
        for (int k = 0; k < AT_ONCE * 6; k++) {
            wrong += x[k] != (float)(index[i][k / 6] * 6 + (uint32_t)k % 6);
        }
    }
    CHECK(bad > 0 && wrong == 0, "%d steps with the bad sample, %d wrong", bad, wrong);
    float x[6];
    const uint32_t other = 40;
    CHECK(feed->fill(feed->self, 0, LS_F32, &other, 1, x, &err) == LS_OK && x[0] == 240, "%g", x[0]);
    /* The list has other contents by now: what was read for it is not what is asked for. */
    feed->expect(feed->self, index[0], AT_ONCE);
    index[0][2] = 12;
    CHECK(feed->fill(feed->self, 0, LS_F32, index[0] + 2, 1, x, &err) == LS_OK && x[0] == 72, "%g", x[0]);
    ls_source_destroy(s);
}

int main(int argc, char **argv) {
    bench b = {.team = ranks_begin(argc, argv), .text = model_text};
    int pid = (int)getpid();
    ls_team_bcast(b.team, 0, &pid, sizeof pid);
    snprintf(b.path, sizeof b.path, "/tmp/lockstep-source-%d.h5", pid);
    compile_with(&b, "sparse_categorical_crossentropy");
    for (int in_file = 0; in_file < 2; in_file++) {
        gives_samples(&b, in_file ? 1e-9 : 0);
        makes_distributions(&b, in_file ? 1e-9 : 0);
        makes_pairs(&b, in_file ? 1e-9 : 0);
    }
    refuses_bad_data(&b);
    reads_ahead(&b);
    ls_team_barrier(b.team);
    if (b.team->rank == 0) {
        unlink(b.path);
    }
    ls_compile_release(&b.compile);
    ls_json_release(&b.doc);
    ls_model_destroy(b.model);
    return ranks_end(b.team);
}
