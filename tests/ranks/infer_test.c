/* Evaluation and prediction by a trained model: every sample once, in its place, on any number of ranks. */
#include <math.h>
#include <unistd.h>

#include "check.h"
#include "storage/checkpoint.h"
#include "trainer/fit/infer.h"

enum { N = 41, IN = 3, OUT = 2, BATCH = 7 }; /* the last batch has six */

static const char *const model_text =
    "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"m\", \"layers\": ["
    "{\"class_name\": \"InputLayer\", \"config\": {\"name\": \"in\", \"batch_input_shape\": [null, 3]}},"
    "{\"class_name\": \"Dense\", \"config\": {\"name\": \"out\", \"units\": 2}}]}}";
static const char *const training_text =
    "{\"loss\": \"mse\", \"metrics\": [\"mae\"], \"optimizer_config\": {\"class_name\": \"SGD\", \"config\": {}}}";
static const float kernel[IN][OUT] = {{1, -2}, {3, 0.5f}, {-1, 4}}, bias[OUT] = {10, -20};

/* Small numbers: every sum is exact. */
static float input(int i, int k) {
    return (float)((i * 7 + k * 3) % 19);
}
static float output(int i, int u) {
    float sum = bias[u];
    for (int k = 0; k < IN; k++) {
        sum += input(i, k) * kernel[k][u];
    }
    return sum;
}
static float miss(int i) {
    return i == 0 || i == BATCH - 1 || i == N - 1 ? (float)(i + 2) : 0;
}

static ls_status write_model(const char *path, ls_err *err) {
    ls_checkpoint c = {0};
    float *data;
    ls_checkpoint_set_text(&c.model_config, model_text);
    ls_checkpoint_set_text(&c.training_config, training_text);
    ls_status s = ls_checkpoint_add_layer(&c, "out", err);
    if (s == LS_OK) {
        s = ls_checkpoint_add_weight(&c, "out/kernel:0", 2, (uint64_t[]){IN, OUT}, &data, err);
    }
    if (s == LS_OK) {
        memcpy(data, kernel, sizeof kernel);
        s = ls_checkpoint_add_weight(&c, "out/bias:0", 1, (uint64_t[]){OUT}, &data, err);
    }
    if (s == LS_OK) {
        memcpy(data, bias, sizeof bias);
        s = ls_checkpoint_write(&c, path, err);
    }
    ls_checkpoint_release(&c);
    return s;
}

static ls_status write_data(const char *path, ls_err *err) {
    float x[N][IN], y[N][OUT];
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < IN; k++) {
            x[i][k] = input(i, k);
        }
        for (int u = 0; u < OUT; u++) {
            y[i][u] = output(i, u) + miss(i);
        }
    }
    ls_h5 *file;
    LS_TRY(ls_h5_create(path, &file, err));
    LS_TRY(ls_h5_write(file, "/t/x", LS_H5_F32, 2, (uint64_t[]){N, IN}, x, NULL, err));
    LS_TRY(ls_h5_write(file, "/t/y", LS_H5_F32, 2, (uint64_t[]){N, OUT}, y, NULL, err));
    return ls_h5_close(file, err);
}

static void check_predictions(const char *path) {
    float p[N][OUT];
    ls_err err = LS_ERR_INIT;
    ls_h5 *file;
    if (ls_h5_open(path, &file, &err) != LS_OK) {
        CHECK(false, "%s", err.text);
        return;
    }
    CHECK(ls_h5_read(file, "/out", LS_H5_F32, N * OUT, p, &err) == LS_OK, "%s", err.text);
    ls_h5_discard(file);
    for (int i = 0; i < N; i++) {
        for (int u = 0; u < OUT; u++) {
            CHECK(p[i][u] == output(i, u), "sample %d, output %d: %g, not %g", i, u, p[i][u], output(i, u));
        }
    }
}

int main(int argc, char **argv) {
    ls_team *team = ranks_begin(argc, argv);
    ls_err err = LS_ERR_INIT;
    int pid = (int)getpid();
    char model[64], data[64], split[72], out[64];
    ls_team_bcast(team, 0, &pid, sizeof pid);
    snprintf(model, sizeof model, "/tmp/lockstep-infer-%d-model.h5", pid);
    snprintf(data, sizeof data, "/tmp/lockstep-infer-%d-data.h5", pid);
    snprintf(out, sizeof out, "/tmp/lockstep-infer-%d-out.h5", pid);
    snprintf(split, sizeof split, "%s:/t", data);
    ls_status mine = team->rank == 0 ? write_model(model, &err) : LS_OK;
    mine = mine == LS_OK && team->rank == 0 ? write_data(data, &err) : mine;
    CHECK(ls_team_agree(team, mine, &err) == LS_OK, "%s", err.text);

    const ls_infer_request request = {.checkpoint = model, .data = split, .batch = BATCH};
    ls_logs logs = {0};
    ls_tables tables = {0};
    size_t n = 0;
    CHECK(ls_infer_evaluate(team, &request, &logs, &tables, &n, &err) == LS_OK, "%s", err.text);
    double squares = 0, sizes = 0;
    for (int i = 0; i < N; i++) {
        squares += (double)miss(i) * miss(i) / N;
        sizes += (double)miss(i) / N;
    }
    CHECK(n == N, "%zu samples", n);
    const double *loss = ls_logs_find(&logs, "loss"), *mae = ls_logs_find(&logs, "mae");
    CHECK(loss != NULL && fabs(*loss - squares) < 1e-6 * squares, "loss, not %g", squares);
    CHECK(mae != NULL && fabs(*mae - sizes) < 1e-6 * sizes, "mae, not %g", sizes);
    ls_tables_release(&tables);
    CHECK(ls_infer_predict(team, &request, out, &err) == LS_OK, "%s", err.text);
    if (team->rank == 0) {
        check_predictions(out);
        unlink(model);
        unlink(data);
        unlink(out);
    }
    return ranks_end(team);
}
