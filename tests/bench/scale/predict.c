/*
 * Prints what the model (loggp.h) expects of a cluster: a table in Markdown, or lines for the plot.
 *
 * usage: scale_predict table|lines|wire SCHEDULE BATCH [SCHEDULE BATCH]...
 *        scale_predict sizes SCHEDULE BATCH
 *        scale_predict one SCHEDULE SHARE LEAST RANKS RANKS_A_NODE FAN_IN SPEED LATENCY_US OVERHEAD_US GBIT_S
 *                          CPU_NS_A_BYTE EAGER_BYTES WAKE_US
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/scale/loggp.h"
#include "worker/reduce/reducer.h"

enum { DIRECT = 1 << 20, LEAST_FLOATS = 1 << 18 };

/* README.md says where these come from. */
static const network networks[] = {
    {"10 Gb/s", 15e-6, 4e-6, 8 / (10e9 * 0.94), 0.15e-9, 65536},
    {"25 Gb/s", 12e-6, 4e-6, 8 / (25e9 * 0.94), 0.15e-9, 65536},
    {"100 Gb/s", 1.5e-6, 0.5e-6, 8 / (100e9 * 0.95), 0, 8192},
};
enum { N_NETWORKS = sizeof networks / sizeof networks[0] };

/* Ranks of one core, many or one a node; and ranks that have a node of 64 cores for themselves. */
typedef struct shape {
    const char *name;
    int ranks_per_node;
    double speed;
} shape;
static const shape shapes[] = {
    {"1 of 64 cores", 1, 51}, {"1 of 1 core", 1, 1}, {"16 of 1 core", 16, 1}, {"64 of 1 core", 64, 1}};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

static const int ranks[] = {8, 16, 64, 256, 1024, 4096};
enum { N_RANKS = sizeof ranks / sizeof ranks[0] };

static cluster make(const shape *h, int n, int fan_in, double batch) {
    double node_bytes_s = 200e9, core_bytes_s = 10e9, fair = node_bytes_s / h->ranks_per_node;
    double one = h->speed > 1 ? node_bytes_s / 4 : core_bytes_s;
    return (cluster){.ranks = n,
                     .ranks_per_node = h->ranks_per_node,
                     .fan_in = fan_in,
                     .speed = h->speed,
                     .batch = batch,
                     .add_byte_s = 1 / (one < fair ? one : fair),
                     .wake_s = 20e-6,
                     .jitter = 0.005,
                     .least_floats = LS_REDUCE_PART,
                     .most_floats = LS_REDUCE_MESSAGE,
                     .idle = true};
}

static void table(const schedule *s, double batch) {
    for (int i = 0; i < N_SHAPES; i++) {
        printf("\n%s, %g samples a rank, nodes of %s; alone %.0f ms a step\n\n", s->model, batch, shapes[i].name,
               1e3 * (s->forward_s + s->backward_s) * batch / s->batch / shapes[i].speed);
        printf("| network | exchange |");
        for (int k = 0; k < N_RANKS; k++) {
            printf(" %d |", ranks[k]);
        }
        printf(" messages a rank | first limit |\n|---|---|");
        for (int k = 0; k < N_RANKS + 2; k++) {
            printf("---|");
        }
        printf("\n");
        for (int m = 0; m < N_NETWORKS; m++) {
            for (int by_levels = 0; by_levels < 2; by_levels++) {
                prediction p = {0};
                printf("| %s | %s |", networks[m].name, by_levels ? "levels" : "direct");
                for (int k = 0; k < N_RANKS; k++) {
                    if (ranks[k] < shapes[i].ranks_per_node) {
                        printf(" |");
                        continue;
                    }
                    cluster c = make(&shapes[i], ranks[k], by_levels ? 16 : DIRECT, batch);
                    p = predict(s, &networks[m], &c);
                    printf(" %.3f |", p.efficiency);
                }
                printf(" %.0f | %s, %.1f ms |\n", p.messages, p.limit, 1e3 * p.limit_s);
            }
        }
    }
}

/* model network shape exchange ranks efficiency, for gnuplot */
static void lines(const schedule *s, double batch) {
    for (int i = 0; i < N_SHAPES; i++) {
        for (int m = 0; m < N_NETWORKS; m++) {
            for (int fan = 0; fan < 2; fan++) {
                for (int n = 8; n <= 4096; n *= 2) {
                    cluster c = make(&shapes[i], n, fan ? 16 : DIRECT, batch);
                    if (n >= shapes[i].ranks_per_node) {
                        printf("\"%s\" \"%s\" \"%s\" %s %d %.4f\n", s->model, networks[m].name, shapes[i].name,
                               fan ? "levels" : "direct", n, predict(s, &networks[m], &c).efficiency);
                    }
                }
            }
        }
    }
}

/* One cluster, in words that compare with a line of scale_replay. */
static int one(char **a) {
    schedule s;
    schedule_read(&s, a[0], (size_t)atol(a[2]));
    int share = atoi(a[1]);
    s.n_floats = 0;
    for (int b = 0; b < s.n_buckets; b++) {
        s.floats[b] = share > 1 ? s.floats[b] / (size_t)share + 16 : s.floats[b];
        s.n_floats += s.floats[b];
    }
    s.update_s = 0;
    network net = {"", atof(a[7]) / 1e6, atof(a[8]) / 1e6, 8e-9 / atof(a[9]), atof(a[10]) / 1e9, (size_t)atol(a[11])};
    cluster c = {.ranks = atoi(a[3]),
                 .ranks_per_node = atoi(a[4]),
                 .fan_in = atoi(a[5]),
                 .speed = atof(a[6]),
                 .batch = s.batch,
                 .wake_s = atof(a[12]) / 1e6,
                 .least_floats = LS_REDUCE_PART,
                 .most_floats = LS_REDUCE_MESSAGE};
    prediction p = predict(&s, &net, &c);
    printf(
        "{\"step_ms\": %.3f, \"calculation_ms\": %.3f, \"exposed_ms\": %.3f, \"messages\": %.4f, "
        "\"node_bytes\": %.0f, \"limit\": \"%s\"}\n",
        1e3 * p.step_s, 1e3 * p.alone_s, 1e3 * (p.step_s - p.alone_s), p.messages, p.node_bytes, p.limit);
    schedule_release(&s);
    return 0;
}

/* What a cluster of 4,096 nodes gains or loses by the number of children and by the size of buckets. */
static void sizes(const char *path, double batch) {
    static const int fans[] = {4, 8, 16, 32, 64, DIRECT};
    static const size_t kib[] = {256, 1024, 4096, 16384};
    printf("\n| fan-in | network | 0.25 MiB | 1 MiB | 4 MiB | 16 MiB |\n|---|---|---|---|---|---|\n");
    for (size_t f = 0; f < sizeof fans / sizeof fans[0]; f++) {
        for (int m = 0; m < N_NETWORKS; m++) {
            char fan[16];
            snprintf(fan, sizeof fan, "%d", fans[f]);
            printf("| %s | %s |", fans[f] == DIRECT ? "direct" : fan, networks[m].name);
            for (size_t k = 0; k < sizeof kib / sizeof kib[0]; k++) {
                schedule s;
                schedule_read(&s, path, kib[k] * 256);
                cluster c = make(&shapes[0], 4096, fans[f], batch);
                printf(" %.3f |", predict(&s, &networks[m], &c).efficiency);
                schedule_release(&s);
            }
            printf("\n");
        }
    }
}

/* What gradients in two bytes, and tables by rows, are worth: efficiency with levels, nodes of 64 cores; of one core for
 * models with tables, which calculate little. */
static void wire(const schedule *s, double batch) {
    static const char *const ways[] = {"float32, tables whole", "bfloat16, tables whole", "float32, tables by rows",
                                       "bfloat16, tables by rows"};
    bool tables = false;
    for (int b = 0; b < s->n_buckets; b++) {
        tables = tables || s->used[b] < 1;
    }
    for (int m = 0; m < N_NETWORKS; m++) {
        for (int way = 0; way < (tables ? 4 : 2); way++) {
            printf("| %s | %s | %.*s |", s->model, networks[m].name, tables ? 64 : way == 1 ? 8 : 7, ways[way]);
            for (int k = 0; k < N_RANKS; k++) {
                cluster c = make(&shapes[tables], ranks[k], 16, batch);
                c.wire_bfloat16 = way % 2 == 1;
                c.whole_tables = way < 2;
                prediction p = predict(s, &networks[m], &c);
                printf(" %.3f |", p.efficiency);
                if (k == N_RANKS - 1) {
                    printf(" %.1f | %s, %.1f ms |\n", p.node_bytes / 1e6, p.limit, 1e3 * p.limit_s);
                }
            }
        }
    }
}

int main(int argc, char **argv) {
    if (argc == 15 && strcmp(argv[1], "one") == 0) {
        return one(argv + 2);
    }
    if (argc == 4 && strcmp(argv[1], "sizes") == 0) {
        sizes(argv[2], atof(argv[3]));
        return 0;
    }
    bool wants_table = argc > 1 && strcmp(argv[1], "table") == 0;
    bool wants_wire = argc > 1 && strcmp(argv[1], "wire") == 0;
    if (argc < 4 || argc % 2 != 0 || (!wants_table && !wants_wire && strcmp(argv[1], "lines") != 0)) {
        fprintf(stderr,
                "usage: scale_predict table|lines|wire SCHEDULE BATCH [SCHEDULE BATCH]...\n"
                "       scale_predict sizes SCHEDULE BATCH\n"
                "       scale_predict one SCHEDULE SHARE LEAST RANKS RANKS_A_NODE FAN_IN SPEED LATENCY_US "
                "OVERHEAD_US GBIT_S CPU_NS_A_BYTE EAGER_BYTES WAKE_US\n");
        return 2;
    }
    for (int i = 2; i < argc; i += 2) {
        schedule s;
        schedule_read(&s, argv[i], LEAST_FLOATS);
        (wants_table ? table : wants_wire ? wire : lines)(&s, atof(argv[i + 1]));
        schedule_release(&s);
    }
    return 0;
}
