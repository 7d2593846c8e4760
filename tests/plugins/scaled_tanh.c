/*
 * A layer with learned weights, y = scale * tanh(slope * x) + bias, scale and bias one a channel; one that halves the
 * last axis, without weights; and what goes wrong when it is told to. With a callback that uses all six hooks.
 */
#include <math.h>
#include <stdlib.h>

#include "lockstep_plugin.h"

/* ---- ScaledTanh ---- */

enum { SLOPE, FAIL_FORWARD };

static const lockstep_key tanh_keys[] = {
    {.name = "slope", .type = LOCKSTEP_REAL, .standard = 1, .least = 0.01, .most = 100},
    {.name = "fail_above", .type = LOCKSTEP_REAL, .standard = 1e30}, /* an input beyond it is an error */
    {0},
};

static int tanh_shape(const lockstep_value *settings, const lockstep_shape *in, lockstep_shape *out,
                      lockstep_shape *weights, lockstep_error *error) {
    (void)settings, (void)error;
    (void)out;
    for (int i = 0; i < 2; i++) {
        weights[i] = (lockstep_shape){.rank = 1, .dim = {in->dim[in->rank - 1]}};
    }
    return 0;
}

static int64_t elems(const lockstep_shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++) {
        n *= s->dim[i];
    }
    return n;
}

static int tanh_forward(const lockstep_pass *pass, const float *x, float *y, lockstep_error *error) {
    const int64_t channels = pass->in.dim[pass->in.rank - 1], n = pass->n_rows * elems(&pass->in);
    const float slope = (float)pass->settings[SLOPE].real;
    for (int64_t i = 0; i < n; i++) {
        if (x[i] > pass->settings[FAIL_FORWARD].real) {
            return lockstep_fail(error, "an input is above fail_above %g", pass->settings[FAIL_FORWARD].real);
        }
        y[i] = pass->weights[0][i % channels] * tanhf(slope * x[i]) + pass->weights[1][i % channels];
    }
    return 0;
}

static int tanh_backward(const lockstep_pass *pass, const float *x, const float *y, const float *dy, float *dx,
                         float *const *dweights, lockstep_error *error) {
    const int64_t channels = pass->in.dim[pass->in.rank - 1], n = pass->n_rows * elems(&pass->in);
    const float slope = (float)pass->settings[SLOPE].real;
    (void)y, (void)error;
    for (int w = 0; w < 2; w++) {
        for (int64_t c = 0; dweights[w] != NULL && c < channels; c++) {
            dweights[w][c] = 0;
        }
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t c = i % channels;
        const float t = tanhf(slope * x[i]);
        if (dx != NULL) {
            dx[i] = dy[i] * pass->weights[0][c] * slope * (1 - t * t);
        }
        if (dweights[0] != NULL) {
            dweights[0][c] += dy[i] * t;
        }
        if (dweights[1] != NULL) {
            dweights[1][c] += dy[i];
        }
    }
    return 0;
}

static const lockstep_layer scaled_tanh = {.name = "ScaledTanh",
                                           .keys = tanh_keys,
                                           .masks = 1,
                                           .n_weights = 2,
                                           .weights = {{"scale", "ones"}, {"bias", "zeros"}},
                                           .shape = tanh_shape,
                                           .forward = tanh_forward,
                                           .backward = tanh_backward};

/* ---- PairSum: neighbours along the last axis are added ---- */

static int pair_shape(const lockstep_value *settings, const lockstep_shape *in, lockstep_shape *out,
                      lockstep_shape *weights, lockstep_error *error) {
    (void)settings, (void)weights;
    if (in->dim[in->rank - 1] % 2 != 0) {
        return lockstep_fail(error, "the last axis has %lld elements; expected an even number",
                             (long long)in->dim[in->rank - 1]);
    }
    out->dim[out->rank - 1] /= 2;
    return 0;
}

static int pair_forward(const lockstep_pass *pass, const float *x, float *y, lockstep_error *error) {
    (void)error;
    for (int64_t i = 0; i < pass->n_rows * elems(&pass->out); i++) {
        y[i] = x[2 * i] + x[2 * i + 1];
    }
    return 0;
}

static int pair_backward(const lockstep_pass *pass, const float *x, const float *y, const float *dy, float *dx,
                         float *const *dweights, lockstep_error *error) {
    (void)x, (void)y, (void)dweights, (void)error;
    for (int64_t i = 0; dx != NULL && i < pass->n_rows * elems(&pass->out); i++) {
        dx[2 * i] = dx[2 * i + 1] = dy[i];
    }
    return 0;
}

static const lockstep_layer pair_sum = {
    .name = "PairSum", .shape = pair_shape, .forward = pair_forward, .backward = pair_backward};

/* ---- HookCounter: counts, halves the learning rate, stops, fails ---- */

enum { HALVE_AT, STOP_AT, FAIL_AT, FILE_NAME };

static const lockstep_key hook_keys[] = {
    {.name = "halve_at", .type = LOCKSTEP_INT, .standard = -1}, /* epoch from 0 */
    {.name = "stop_at", .type = LOCKSTEP_INT, .standard = -1},
    {.name = "fail_at", .type = LOCKSTEP_INT, .standard = -1}, /* step from 0 */
    {.name = "file", .type = LOCKSTEP_TEXT},                   /* of weights, written when training ends */
    {0},
};

typedef struct {
    int64_t calls[6];
    double sum_of_losses; /* depends on every batch */
} counts;

static int create(const lockstep_value *settings, void **self, lockstep_error *error) {
    (void)settings;
    *self = calloc(1, sizeof(int));
    return *self != NULL ? 0 : lockstep_fail(error, "out of memory");
}

static int count(lockstep_moment *m, int hook) {
    counts *c = m->state;
    c->calls[hook]++;
    ++*(int *)m->self;
    return 0;
}

static int on_train_begin(lockstep_moment *m, lockstep_error *error) {
    (void)error;
    return count(m, 0);
}

static int on_epoch_begin(lockstep_moment *m, lockstep_error *error) {
    (void)error;
    if (m->epoch == m->settings[HALVE_AT].integer) {
        m->learning_rate /= 2;
    }
    return count(m, 1);
}

static int on_batch_begin(lockstep_moment *m, lockstep_error *error) {
    if ((int64_t)m->step == m->settings[FAIL_AT].integer) {
        return lockstep_fail(error, "told to fail at step %lld", (long long)m->step);
    }
    return count(m, 2);
}

static int on_batch_end(lockstep_moment *m, lockstep_error *error) {
    const double *loss = lockstep_find_log(m, "loss");
    if (loss == NULL) {
        return lockstep_fail(error, "no loss among the logs");
    }
    ((counts *)m->state)->sum_of_losses += *loss;
    return count(m, 3);
}

static int on_epoch_end(lockstep_moment *m, lockstep_error *error) {
    (void)error;
    if (m->epoch == m->settings[STOP_AT].integer) {
        m->stop = 1;
        snprintf(m->reason, sizeof m->reason, "told to stop");
    }
    return count(m, 4);
}

static int on_train_end(lockstep_moment *m, lockstep_error *error) {
    const counts *c = m->state;
    char text[200];
    count(m, 5);
    snprintf(text, sizeof text, "hooks %lld %lld %lld %lld %lld %lld, losses %.17g", (long long)c->calls[0],
             (long long)c->calls[1], (long long)c->calls[2], (long long)c->calls[3], (long long)c->calls[4],
             (long long)c->calls[5], c->sum_of_losses);
    m->say(m, 0, text);
    return m->settings[FILE_NAME].text[0] != '\0' ? m->save(m, m->settings[FILE_NAME].text, 1, error) : 0;
}

static const lockstep_callback hook_counter = {.name = "HookCounter",
                                               .keys = hook_keys,
                                               .state_bytes = sizeof(counts),
                                               .create = create,
                                               .destroy = free,
                                               .train_begin = on_train_begin,
                                               .epoch_begin = on_epoch_begin,
                                               .batch_begin = on_batch_begin,
                                               .batch_end = on_batch_end,
                                               .epoch_end = on_epoch_end,
                                               .train_end = on_train_end};

static const lockstep_layer *const layers[] = {&scaled_tanh, &pair_sum, NULL};
static const lockstep_callback *const callbacks[] = {&hook_counter, NULL};

static const lockstep_plugin plugin = {LOCKSTEP_PLUGIN_HEAD, .name = "scaled_tanh", .version = "0.3", .layers = layers,
                                       .callbacks = callbacks};

const lockstep_plugin *lockstep_plugin_entry(void) {
    return &plugin;
}
