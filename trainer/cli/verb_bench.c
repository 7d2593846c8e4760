/* lockstep bench MODEL: training steps on synthetic data, one JSON line. Alone or under mpirun. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/memory.h"
#include "trainer/cli/option.h"
#include "trainer/cli/verbs.h"
#include "trainer/fit/bench.h"
#include "worker/dnn/dnn.h"
#include "worker/plugin/plugin.h"

static const char usage[] =
    "usage: lockstep bench MODEL.json [--batch B] [--seconds S] [--precision float32|bfloat16] [--optimizer NAME]\n"
    "                [--loss NAME] [--lanes L | --accumulate K] [--threads T] [--bucket-kb K] [--plugin FILE.so]...\n"
    "                [--convolution auto|direct] [--wire float32|bfloat16] [--dense] [--profile]\n"
    "B is the global batch. Prints one JSON line: samples/s, step times, exposed communication, memory, start-up;\n"
    "compute_ms: what a rank does by itself in a step, the mean, and the slowest of each step, which no step can "
    "beat;\n"
    "rank, host, share: who is slowest most often, and in which share of the steps.\n"
    "--accumulate: each rank's share in K parts, one after the other. --wire: as what gradients go between nodes.\n"
    "--dense: all rows of embedding tables are reduced, not just those that were used. --profile adds a table of the\n"
    "time of each operation, with its share of the machine's peak, to standard error, and the peaks to the line.\n";

typedef struct {
    const char *model, *optimizer, *loss;
    int64_t batch, lanes, accumulate, threads, bucket_kb;
    int precision, convolution, wire;
    bool profile, dense;
    double seconds;
    char **plugins; /* [n_plugins] */
    size_t n_plugins;
} arguments;

static ls_status parse(int argc, char **argv, arguments *a, ls_err *err) {
    enum { BATCH = 1000, SECONDS, PRECISION, OPTIMIZER, LOSS, LANES, THREADS, BUCKET, CONVOLUTION };
    enum { WIRE = CONVOLUTION + 1, DENSE, PLUGIN, PROFILE, ACCUMULATE };
    static const struct option options[] = {{"batch", required_argument, NULL, BATCH},
                                            {"seconds", required_argument, NULL, SECONDS},
                                            {"precision", required_argument, NULL, PRECISION},
                                            {"optimizer", required_argument, NULL, OPTIMIZER},
                                            {"loss", required_argument, NULL, LOSS},
                                            {"lanes", required_argument, NULL, LANES},
                                            {"accumulate", required_argument, NULL, ACCUMULATE},
                                            {"threads", required_argument, NULL, THREADS},
                                            {"bucket-kb", required_argument, NULL, BUCKET},
                                            {"convolution", required_argument, NULL, CONVOLUTION},
                                            {"plugin", required_argument, NULL, PLUGIN},
                                            {"wire", required_argument, NULL, WIRE},
                                            {"dense", no_argument, NULL, DENSE},
                                            {"profile", no_argument, NULL, PROFILE},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    static const char *const precisions[] = {"float32", "bfloat16"}, *const convolutions[] = {"auto", "direct"};
    int c;
    *a = (arguments){.optimizer = "SGD", .loss = "sparse_categorical_crossentropy", .batch = 128, .seconds = 10};
    a->plugins = ls_xcalloc((size_t)argc + 1, sizeof *a->plugins);
    optind = 0;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
            case BATCH: LS_TRY(ls_option_int("--batch", optarg, 1, 1 << 24, &a->batch, err)); break;
            case SECONDS: LS_TRY(ls_option_double("--seconds", optarg, 0.01, 86400, &a->seconds, err)); break;
            case PRECISION: LS_TRY(ls_option_choice("--precision", optarg, precisions, 2, &a->precision, err)); break;
            case OPTIMIZER: a->optimizer = optarg; break;
            case LOSS: a->loss = optarg; break;
            case LANES: LS_TRY(ls_option_int("--lanes", optarg, 1, 65536, &a->lanes, err)); break;
            case ACCUMULATE: LS_TRY(ls_option_int("--accumulate", optarg, 1, 65536, &a->accumulate, err)); break;
            case THREADS: LS_TRY(ls_option_int("--threads", optarg, 1, 1024, &a->threads, err)); break;
            case BUCKET: LS_TRY(ls_option_int("--bucket-kb", optarg, 1, 1 << 20, &a->bucket_kb, err)); break;
            case CONVOLUTION:
                LS_TRY(ls_option_choice("--convolution", optarg, convolutions, 2, &a->convolution, err));
                break;
            case PLUGIN: a->plugins[a->n_plugins++] = optarg; break;
            case WIRE: LS_TRY(ls_option_choice("--wire", optarg, precisions, 2, &a->wire, err)); break;
            case DENSE: a->dense = true; break;
            case PROFILE: a->profile = true; break;
            case 'h': fputs(usage, stdout); exit(0);
            default: fputs(usage, stderr); return ls_fail(err, LS_EINPUT, "bench: an option is not understood");
        }
    }
    if (optind != argc - 1) {
        fputs(usage, stderr);
        return ls_fail(err, LS_EINPUT, "bench: one model file was expected");
    }
    if (a->lanes > 0 && a->accumulate > 1) {
        return ls_fail(err, LS_EINPUT,
                       "bench: --lanes %lld and --accumulate %lld: lanes are what a rank accumulates over; give one",
                       (long long)a->lanes, (long long)a->accumulate);
    }
    a->model = argv[optind];
    return LS_OK;
}

static ls_status load(const arguments *a, ls_model **model, ls_compile *compile, ls_err *err) {
    LS_TRY(ls_model_load(model, a->model, NULL, 0, err));
    ls_json_doc doc;
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
    ls_model *model = NULL;
    ls_compile compile = {0};
    ls_engine *engine = NULL;
    ls_status s = ls_team_agree(team, load(a, &model, &compile, err), err);
    if (s == LS_OK) {
        ls_engine_options o = {.batch = a->batch,
                               .lanes = (int)a->lanes,
                               .lanes_per_rank = (int)a->accumulate,
                               .compute = a->precision == 1 ? LS_BF16 : LS_F32,
                               .direct_convolution = a->convolution == 1,
                               .seed = 1,
                               .bucket_bytes = (size_t)a->bucket_kb << 10,
                               .dense_tables = a->dense,
                               .wire_bfloat16 = a->wire == 1,
                               .n_threads = (int)a->threads};
        s = ls_engine_create(&engine, team, model, &compile, &o, err);
    }
    if (s == LS_OK) {
        ls_bench_result result;
        s = ls_bench_run(engine, team, model, &compile, a->batch, a->seconds, a->profile, &result, err);
        if (s == LS_OK && team->rank == 0) {
            print(a, team, model, engine, &result);
            if (a->profile) {
                ls_profile_print(stderr, engine, ls_profile_peak(&result.peaks, a->precision == 1 ? LS_BF16 : LS_F32));
            }
        }
    }
    ls_engine_destroy(engine);
    ls_compile_release(&compile);
    ls_model_destroy(model);
    return s;
}

static ls_status with_plugins(const arguments *a, ls_err *err) {
    ls_team *team;
    ls_json_doc words = {0};
    ls_plugins plugins = {0};
    LS_TRY(ls_team_create(&team, NULL, NULL, err));
    ls_status s = ls_plugins_words(a->plugins, a->n_plugins, &words, err);
    bool listed = s == LS_OK;
    s = ls_team_agree(team, listed ? ls_plugins_load(ls_json_root(&words), "", &plugins, err) : s, err);
    if (s == LS_OK) {
        s = bench(a, team, err);
    }
    ls_plugins_release(&plugins);
    if (listed) {
        ls_json_release(&words);
    }
    ls_team_finish(team, s);
    return s;
}

ls_status ls_verb_bench(int argc, char **argv, ls_err *err) {
    arguments a;
    ls_status s = parse(argc, argv, &a, err);
    if (s == LS_OK) {
        s = with_plugins(&a, err);
    }
    free(a.plugins);
    return s;
}
