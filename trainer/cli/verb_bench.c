/* lockstep bench MODEL: training steps on synthetic data, one JSON line. Alone or under mpirun. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "trainer/cli/option.h"
#include "trainer/cli/rank_args.h"
#include "trainer/cli/verbs.h"
#include "trainer/fit/bench.h"
#include "trainer/fit/keras_file.h"
#include "worker/dnn/dnn.h"
#include "worker/plugin/plugin.h"

typedef struct {
    const char *model, *optimizer, *loss;
    int64_t batch, lanes, accumulate, threads, bucket_kb;
    int precision, convolution, wire;
    bool profile, dense, apart;
    double seconds;
} arguments;

static ls_status read_arguments(const ls_rank_args *args, arguments *a, ls_err *err) {
    static const char *const precisions[] = {"float32", "bfloat16"}, *const convolutions[] = {"auto", "direct"};
    const char *const *v = args->value;
    *a = (arguments){.model = args->operand,
                     .optimizer = v[LS_RANK_ARG_OPTIMIZER] != NULL ? v[LS_RANK_ARG_OPTIMIZER] : "SGD",
                     .loss = v[LS_RANK_ARG_LOSS] != NULL ? v[LS_RANK_ARG_LOSS] : "sparse_categorical_crossentropy",
                     .batch = 128,
                     .seconds = 10,
                     .dense = v[LS_RANK_ARG_DENSE] != NULL,
                     .apart = v[LS_RANK_ARG_APART] != NULL,
                     .profile = v[LS_RANK_ARG_PROFILE] != NULL};
    const struct {
        int arg;
        const char *option;
        int64_t max, *out;
    } numbers[] = {{LS_RANK_ARG_BATCH, "--batch", 1 << 24, &a->batch},
                   {LS_RANK_ARG_LANES, "--lanes", 65536, &a->lanes},
                   {LS_RANK_ARG_ACCUMULATE, "--accumulate", 65536, &a->accumulate},
                   {LS_RANK_ARG_THREADS, "--threads", 1024, &a->threads},
                   {LS_RANK_ARG_BUCKET_KB, "--bucket-kb", 1 << 20, &a->bucket_kb}};
    const struct {
        int arg;
        const char *option, *const *words;
        int *out;
    } choices[] = {{LS_RANK_ARG_PRECISION, "--precision", precisions, &a->precision},
                   {LS_RANK_ARG_CONVOLUTION, "--convolution", convolutions, &a->convolution},
                   {LS_RANK_ARG_WIRE, "--wire", precisions, &a->wire}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (v[numbers[i].arg] != NULL) {
            LS_TRY(ls_option_int(numbers[i].option, v[numbers[i].arg], 1, numbers[i].max, numbers[i].out, err));
        }
    }
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        if (v[choices[i].arg] != NULL) {
            LS_TRY(ls_option_choice(choices[i].option, v[choices[i].arg], choices[i].words, 2, choices[i].out, err));
        }
    }
    if (v[LS_RANK_ARG_SECONDS] != NULL) {
        LS_TRY(ls_option_double("--seconds", v[LS_RANK_ARG_SECONDS], 0.01, 86400, &a->seconds, err));
    }
    if (a->lanes > 0 && a->accumulate > 1) {
        return ls_fail(err, LS_EINPUT,
                       "bench: --lanes %lld and --accumulate %lld: lanes are what a rank accumulates over; give one",
                       (long long)a->lanes, (long long)a->accumulate);
    }
    if (a->apart && (a->lanes > 0 || a->wire == 1)) {
        return ls_fail(err, LS_EINPUT, "bench: --apart: nothing is exchanged; leave out %s",
                       a->lanes > 0 ? "--lanes" : "--wire");
    }
    return LS_OK;
}

static ls_status load(const arguments *a, ls_model **model, ls_compile *compile, ls_err *err) {
    ls_json_doc doc;
    LS_TRY(ls_keras_build_model(model, a->model, NULL, 0, err));
    json_t *root = json_pack("{s:s, s:s}", "loss", a->loss, "optimizer", a->optimizer);
    ls_json_wrap(&doc, "bench", root);
    json_decref(root);
    if (a->optimizer[0] == '{') { /* a whole optimizer with its config */
        ls_json_doc given;
        ls_status s = ls_json_parse(&given, "--optimizer", a->optimizer, err);
        if (s == LS_OK) {
            json_object_set(doc.root, "optimizer", given.root);
            ls_json_release(&given);
        } else {
            ls_json_release(&doc);
            return s;
        }
    }
    ls_status s = ls_compile_parse(ls_json_root(&doc), *model, compile, err);
    ls_json_release(&doc);
    return s;
}

static json_t *way(const ls_way *w) {
    return json_pack("{s:I, s:s, s:i}", "bucket_bytes", (json_int_t)w->bucket_bytes, "order",
                     w->newest_first ? "need" : "ready", "fan_in", w->fan_in);
}

/* How gradients were reduced, and what was tried out before. */
static json_t *reduced_how(ls_engine *engine) {
    ls_tuned tuned;
    (void)ls_engine_tuned(engine, &tuned);
    json_t *how = way(&tuned.used), *tried = json_array();
    for (int i = 0; i < tuned.n_tried; i++) {
        json_t *one = way(&tuned.tried[i]);
        json_object_set_new(one, "exposed_ms", json_real(tuned.tried[i].exposed_ms));
        json_array_append_new(tried, one);
    }
    json_object_set_new(how, "steps", json_integer(tuned.n_steps));
    json_object_set_new(how, "tried", tried);
    return how;
}

static void print(const arguments *a, const ls_team *team, const ls_model *model, ls_engine *engine,
                  const ls_bench_result *r) {
    ls_engine_info info;
    ls_engine_describe(engine, &info);
    int64_t parameters = 0;
    for (int i = 0; i < model->n_weights; i++) {
        parameters += ls_shape_elems(&model->weights[i]->shape);
    }
    json_t *line = json_pack(
        "{s:s, s:i, s:i, s:i, s:I, s:s, s:f, s:f, s:f, s:{s:f, s:f, s:f}, s:f, s:f, s:{s:f, s:f}, s:f, s:f, s:f, s:f, "
        "s:s, "
        "s:I, s:f, s:i, "
        "s:[f,f], s:I, s:o}",
        "model", a->model, "ranks", team->size, "threads", info.n_threads, "lanes", a->lanes > 0 ? info.lanes : 0,
        "batch", (json_int_t)a->batch, "precision", a->precision == 1 ? "bfloat16" : "float32", "samples_per_s",
        r->samples_per_s, "low", r->low, "high", r->high, "step_ms", "median", r->step_ms, "p10", r->step_ms_p10, "p90",
        r->step_ms_p90, "compile_ms", info.compile_ms, "exposed_communication_ms", r->exposed_communication_ms,
        "wait_ms", "ranks", r->late_ms, "network", r->network_ms, "send_ms", r->send_ms, "reduce_ms", r->reduce_ms,
        "rss_mb", r->rss_mb, "startup_s", isnan(r->startup_s) ? -1.0 : r->startup_s, "isa", info.isa, "parameters",
        (json_int_t)parameters, "gflops", info.flops_per_sample * r->samples_per_s / 1e9, "buckets", info.n_buckets,
        "loss", r->first_loss, r->last_loss, "steps", (json_int_t)r->n_steps, "tuned", reduced_how(engine));
    json_object_set_new(line, "compute_ms",
                        json_pack("{s:f, s:f, s:i, s:s, s:f}", "mean", r->compute_ms, "slowest", r->slowest_ms, "rank",
                                  r->slowest_rank, "host", team->hosts[r->slowest_rank], "share", r->slowest_share));
    const double mb = 1 << 20;
    json_object_set_new(line, "memory_mb",
                        json_pack("{s:f, s:f, s:f, s:f}", "activations", (double)info.activation_bytes / mb,
                                  "gradients", (double)info.gradient_bytes / mb, "weights",
                                  (double)info.weights_bytes / mb, "optimizer", (double)info.optimizer_bytes / mb));
    double peak = ls_profile_peak(&r->peaks, a->precision == 1 ? LS_BF16 : LS_F32);
    if (a->profile) {
        double reached = info.flops_per_sample * r->samples_per_s / 1e9;
        json_object_set_new(line, "peak_gflops",
                            json_pack("{s:f, s:f}", "float32", r->peaks.f32, "bfloat16", r->peaks.bf16));
        json_object_set_new(line, "share_of_peak", json_real(peak > 0 ? reached / peak / team->size : 0));
    }
    char *text = json_dumps(line, JSON_REAL_PRECISION(6));
    printf("%s\n", text);
    free(text);
    json_decref(line);
}

/* Everything between the team's beginning and its end. */
static ls_status bench(const arguments *a, ls_team *team, ls_err *err) {
    if (a->apart && a->batch % team->size != 0) {
        return ls_fail(err, LS_EINPUT, "bench: --apart: --batch %lld is not a multiple of the %d ranks",
                       (long long)a->batch, team->size);
    }
    ls_model *model = NULL;
    ls_compile compile = {0};
    ls_engine *engine = NULL;
    ls_team *alone = a->apart ? ls_team_split(team) : NULL;
    const int64_t batch = a->apart ? a->batch / team->size : a->batch; /* of an engine */
    ls_status s = ls_team_agree(team, load(a, &model, &compile, err), err);
    if (s == LS_OK) {
        ls_engine_options o = {.batch = batch,
                               .lanes = (int)a->lanes,
                               .lanes_per_rank = (int)a->accumulate,
                               .compute = a->precision == 1 ? LS_BF16 : LS_F32,
                               .direct_convolution = a->convolution == 1,
                               .seed = 1,
                               .bucket_bytes = (size_t)a->bucket_kb << 10,
                               .dense_tables = a->dense,
                               .wire_bfloat16 = a->wire == 1,
                               .n_threads = (int)a->threads};
        s = ls_team_agree(team, ls_engine_create(&engine, alone != NULL ? alone : team, model, &compile, &o, err), err);
    }
    if (s == LS_OK) {
        ls_bench_result result;
        s = ls_bench_run(engine, team, a->apart, model, &compile, batch, a->seconds, a->profile, &result, err);
        if (s == LS_OK && team->rank == 0) {
            print(a, team, model, engine, &result);
            if (a->profile) {
                ls_profile_print(stderr, engine, ls_profile_peak(&result.peaks, a->precision == 1 ? LS_BF16 : LS_F32));
            }
        }
    }
    ls_engine_destroy(engine);
    ls_team_join(alone);
    ls_compile_release(&compile);
    ls_model_destroy(model);
    return s;
}

static ls_status with_plugins(ls_team *team, const ls_rank_args *args, ls_err *err) {
    arguments a;
    ls_json_doc words = {0};
    ls_plugins plugins = {0};
    LS_TRY(read_arguments(args, &a, err)); /* all ranks have the same words */
    ls_status s = ls_plugins_words(args->plugins, args->n_plugins, &words, err);
    bool listed = s == LS_OK;
    s = ls_team_agree(team, listed ? ls_plugins_load(ls_json_root(&words), "", &plugins, err) : s, err);
    if (s == LS_OK) {
        s = bench(&a, team, err);
    }
    ls_plugins_release(&plugins);
    if (listed) {
        ls_json_release(&words);
    }
    return s;
}

ls_status ls_verb_bench(int argc, char **argv, ls_err *err) {
    uint32_t takes = LS_RANK_ARG(BATCH) | LS_RANK_ARG(SECONDS) | LS_RANK_ARG(PRECISION) | LS_RANK_ARG(OPTIMIZER) |
                     LS_RANK_ARG(LOSS) | LS_RANK_ARG(LANES) | LS_RANK_ARG(ACCUMULATE) | LS_RANK_ARG(THREADS) |
                     LS_RANK_ARG(BUCKET_KB) | LS_RANK_ARG(PLUGIN) | LS_RANK_ARG(CONVOLUTION) | LS_RANK_ARG(WIRE) |
                     LS_RANK_ARG(DENSE) | LS_RANK_ARG(APART) | LS_RANK_ARG(PROFILE);
    return ls_rank_main(argc, argv, "the MODEL", takes, with_plugins, err);
}
