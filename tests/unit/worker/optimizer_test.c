/* Optimizers against their formulas, written out in double for one weight; and that a range may be cut anywhere. */
#include "worker/optimizer/optimizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS = 6, N = 37 };

static ls_optimizer parse(const char *text) {
    ls_json_doc doc = {0};
    ls_err err = LS_ERR_INIT;
    ls_optimizer o;
    assert_int_equal(ls_json_parse(&doc, "job.json", text, &err), LS_OK);
    if (ls_optimizer_parse(ls_json_root(&doc), &o, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    ls_json_release(&doc);
    return o;
}

static float gradient(int step, int i) {
    return (float)(sin(1.3 * step + i) + 0.2);
}

static double norm(const float *x) {
    double sum = 0;
    for (int i = 0; i < N; i++) {
        sum += (double)x[i] * x[i];
    }
    return sqrt(sum);
}

/* Runs STEPS updates over [0, N), in two pieces when cut > 0. */
static void run(const ls_optimizer *o, int cut, float w[N]) {
    float slot[LS_MAX_SLOTS][N] = {{0}}, g[N];
    for (int i = 0; i < N; i++) {
        w[i] = 0.5f - 0.02f * (float)i;
    }
    for (int k = 0; k < ls_optimizer_n_slots(o); k++) {
        for (int i = 0; i < N; i++) {
            slot[k][i] = o->class_->slot_init != NULL ? (float)o->class_->slot_init(o, k) : 0;
        }
    }
    for (int t = 1; t <= STEPS; t++) {
        for (int i = 0; i < N; i++) {
            g[i] = gradient(t, i);
        }
        double trust = 1;
        for (int phase = o->class_->trust != NULL ? 0 : 1; phase < 2;
             phase++) { /* 0: directions; then norms; 1: update */
            for (int part = 0; part < (cut > 0 ? 2 : 1); part++) {
                int first = part == 0 ? 0 : cut, last = cut > 0 && part == 0 ? cut : N;
                ls_update u = ls_update_begin(o, o->learning_rate, (uint64_t)t);
                u.w = w + first;
                u.g = g + first;
                u.n = (size_t)(last - first);
                u.trust = trust;
                u.weight_decay = o->weight_decay;
                for (int k = 0; k < LS_MAX_SLOTS; k++) {
                    u.slot[k] = slot[k] + first;
                }
                if (phase == 1) {
                    o->class_->update(o, &u);
                } else if (o->class_->direction != NULL) {
                    o->class_->direction(o, &u, g + first);
                }
            }
            if (phase == 0) {
                trust = o->class_->trust(o, norm(w), norm(g), o->weight_decay);
            }
        }
    }
}

typedef double (*reference)(double w, int i);

static void check(const char *text, reference expected) {
    ls_optimizer o = parse(text);
    float whole[N], pieces[N];
    run(&o, 0, whole);
    run(&o, 13, pieces);
    assert_memory_equal(whole, pieces, sizeof whole);
    for (int i = 0; i < N; i++) {
        double e = expected((double)(0.5f - 0.02f * (float)i), i);
        if (fabs(e - whole[i]) > 2e-6 * fmax(1, fabs(e))) {
            fail_msg("%s, weight %d: %.9g, by the formula %.9g", text, i, whole[i], e);
        }
    }
}

static double sgd(double w, int i) {
    for (int t = 1; t <= STEPS; t++) {
        w -= 0.1 * gradient(t, i);
    }
    return w;
}

static double nesterov(double w, int i) {
    double v = 0;
    for (int t = 1; t <= STEPS; t++) {
        v = 0.9 * v - 0.1 * gradient(t, i);
        w += 0.9 * v - 0.1 * gradient(t, i);
    }
    return w;
}

static double adam(double w, int i) {
    double m = 0, v = 0;
    for (int t = 1; t <= STEPS; t++) {
        double g = gradient(t, i);
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        w -= 0.01 * sqrt(1 - pow(0.999, t)) / (1 - pow(0.9, t)) * m / (sqrt(v) + 1e-7);
    }
    return w;
}

static double nadam(double w, int i) {
    double m = 0, v = 0, product = 1;
    for (int t = 1; t <= STEPS; t++) {
        double g = gradient(t, i), now = 0.9 * (1 - 0.5 * pow(0.96, t)), next = 0.9 * (1 - 0.5 * pow(0.96, t + 1));
        product *= now;
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        double m_hat = next * m / (1 - product * next) + (1 - now) * g / (1 - product), v_hat = v / (1 - pow(0.999, t));
        w -= 0.01 * m_hat / (sqrt(v_hat) + 1e-7);
    }
    return w;
}

static double rmsprop(double w, int i) {
    double v = 0, a = 0, mom = 0;
    for (int t = 1; t <= STEPS; t++) {
        double g = gradient(t, i);
        v = 0.8 * v + 0.2 * g * g;
        a = 0.8 * a + 0.2 * g;
        mom = 0.5 * mom + 0.01 * g / sqrt(v - a * a + 1e-3);
        w -= mom;
    }
    return w;
}

static double adagrad_legacy(double w, int i) {
    double a = 0.1;
    for (int t = 1; t <= STEPS; t++) {
        double g = gradient(t, i);
        a += g * g;
        w -= 0.1 * g / (sqrt(a) + 1e-3);
    }
    return w;
}

static double adamax(double w, int i) {
    double m = 0, u = 0;
    for (int t = 1; t <= STEPS; t++) {
        double g = gradient(t, i);
        m = 0.9 * m + 0.1 * g;
        u = fmax(0.999 * u, fabs(g));
        w -= 0.01 * m / ((1 - pow(0.9, t)) * (u + 1e-7));
    }
    return w;
}

static double adadelta(double w, int i) {
    double a = 0, d = 0;
    for (int t = 1; t <= STEPS; t++) {
        double g = gradient(t, i);
        a = 0.95 * a + 0.05 * g * g;
        double step = sqrt(d + 1e-3) / sqrt(a + 1e-3) * g;
        d = 0.95 * d + 0.05 * step * step;
        w -= 1.0 * step;
    }
    return w;
}

static double ftrl(double w, int i) {
    double a = 0.1, z = 0;
    for (int t = 1; t <= STEPS; t++) {
        double g = gradient(t, i), next = a + g * g;
        z += g - (sqrt(next) - sqrt(a)) / 0.1 * w;
        double clipped = fmin(fmax(z, -0.2), 0.2);
        w = (clipped - z) / (sqrt(next) / 0.1 + 2 * 0.3);
        a = next;
    }
    return w;
}

/* The norms need all weights: both run all of them and give the one asked for. */
static double lars(double unused, int wanted) {
    double w[N], v[N] = {0};
    (void)unused;
    for (int i = 0; i < N; i++) {
        w[i] = 0.5f - 0.02f * (float)i;
    }
    for (int t = 1; t <= STEPS; t++) {
        double ww = 0, gg = 0;
        for (int i = 0; i < N; i++) {
            ww += w[i] * w[i];
            gg += (double)gradient(t, i) * gradient(t, i);
        }
        double rate = 0.5 * 0.01 * sqrt(ww) / (sqrt(gg) + 0.1 * sqrt(ww));
        for (int i = 0; i < N; i++) {
            v[i] = 0.9 * v[i] + rate * (gradient(t, i) + 0.1 * w[i]);
            w[i] -= v[i];
        }
    }
    return w[wanted];
}

static double lamb(double unused, int wanted) {
    double w[N], m[N] = {0}, v[N] = {0}, r[N];
    (void)unused;
    for (int i = 0; i < N; i++) {
        w[i] = 0.5f - 0.02f * (float)i;
    }
    for (int t = 1; t <= STEPS; t++) {
        double ww = 0, rr = 0;
        for (int i = 0; i < N; i++) {
            double g = gradient(t, i);
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            r[i] = m[i] / (1 - pow(0.9, t)) / (sqrt(v[i] / (1 - pow(0.999, t))) + 1e-6) + 0.1 * w[i];
            ww += w[i] * w[i];
            rr += r[i] * r[i];
        }
        for (int i = 0; i < N; i++) {
            w[i] -= 0.05 * sqrt(ww / rr) * r[i];
        }
    }
    return w[wanted];
}

static void formulas(void **state) {
    (void)state;
    check("{\"class_name\": \"SGD\", \"config\": {\"learning_rate\": 0.1}}", sgd);
    check("{\"class_name\": \"SGD\", \"config\": {\"learning_rate\": 0.1, \"momentum\": 0.9, \"nesterov\": true}}",
          nesterov);
    check("{\"class_name\": \"Adam\", \"config\": {\"learning_rate\": 0.01}}", adam);
    check("{\"class_name\": \"Nadam\", \"config\": {\"learning_rate\": 0.01}}", nadam);
    check(
        "{\"class_name\": \"RMSprop\", \"config\": {\"learning_rate\": 0.01, \"rho\": 0.8, \"momentum\": 0.5, "
        "\"centered\": true, \"epsilon\": 1e-3}}",
        rmsprop);
    check(
        "{\"class_name\": \"Adagrad\", \"config\": {\"learning_rate\": 0.1, \"epsilon\": 1e-3, "
        "\"is_legacy_optimizer\": true}}",
        adagrad_legacy);
    check("{\"class_name\": \"Adamax\", \"config\": {\"learning_rate\": 0.01}}", adamax);
    check(
        "{\"class_name\": \"Ftrl\", \"config\": {\"learning_rate\": 0.1, \"l1_regularization_strength\": 0.2, "
        "\"l2_regularization_strength\": 0.3}}",
        ftrl);
    check(
        "{\"class_name\": \"LARS\", \"config\": {\"learning_rate\": 0.5, \"eeta\": 0.01, \"weight_decay_rate\": 0.1}}",
        lars);
    check("{\"class_name\": \"LAMB\", \"config\": {\"learning_rate\": 0.05, \"weight_decay_rate\": 0.1}}", lamb);
    check("{\"class_name\": \"Adadelta\", \"config\": {\"learning_rate\": 1.0, \"epsilon\": 1e-3}}", adadelta);
}

static void complaint(const char *text, const char *expected) {
    ls_json_doc doc = {0};
    ls_err err = LS_ERR_INIT;
    ls_optimizer o;
    assert_int_equal(ls_json_parse(&doc, "job.json", text, &err), LS_OK);
    assert_int_equal(ls_optimizer_parse(ls_json_root(&doc), &o, &err), LS_EINPUT);
    assert_string_equal(err.text, expected);
    ls_json_release(&doc);
}

static void complaints(void **state) {
    (void)state;
    complaint("{\"class_name\": \"Adma\"}",
              "job.json:1: class_name: \"Adma\" is not an optimizer that Lockstep knows; did you mean \"Adam\"?");
    complaint("{\"class_name\": \"SGD\",\n \"config\": {\"momentun\": 0.9}}",
              "job.json:2: config.momentun: unknown key of optimizer SGD; did you mean \"momentum\"?");
    complaint("{\"class_name\": \"SGD\", \"config\": {\"learning_rate\": -1}}",
              "job.json:1: config.learning_rate: expected a number of at least 0, found the number -1");
    complaint("{\"class_name\": \"LAMB\", \"config\": {\"clipnorm\": 1}}",
              "job.json:1: config: LAMB adapts to norms by itself; leave clipnorm and global_clipnorm out");
    complaint(
        "{\"class_name\": \"LARS\", \"config\": {\"exclude_from_weight_decay\": \"bias\"}}",
        "job.json:1: config.exclude_from_weight_decay: expected a list of parts of weights' names, such as [\"bias\", "
        "\"gamma\", \"beta\"]");
    complaint("{\"class_name\": \"Adam\", \"config\": {\"use_ema\": true}}",
              "job.json:1: config.use_ema: averaged weights are not supported; set it to false");
}

/* What is said of a gradient of zeros is so, for weights of either sign and slots that are zero or anything. */
static void zero_gradients(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool idles, rests;
    } cases[] = {{"{\"class_name\": \"SGD\"}", true, false},
                 {"{\"class_name\": \"SGD\", \"config\": {\"momentum\": 0.9}}", false, false},
                 {"{\"class_name\": \"Adagrad\"}", true, false},
                 {"{\"class_name\": \"Adadelta\"}", false, true},
                 {"{\"class_name\": \"RMSprop\"}", false, true},
                 {"{\"class_name\": \"RMSprop\", \"config\": {\"momentum\": 0.9, \"centered\": true}}", false, true},
                 {"{\"class_name\": \"Adam\"}", false, true},
                 {"{\"class_name\": \"Adam\", \"config\": {\"epsilon\": 0}}", false, false},
                 {"{\"class_name\": \"Adam\", \"config\": {\"amsgrad\": true}}", false, true},
                 {"{\"class_name\": \"AdamW\"}", false, true},
                 {"{\"class_name\": \"Adamax\"}", false, true},
                 {"{\"class_name\": \"Nadam\"}", false, true},
                 {"{\"class_name\": \"Ftrl\"}", false, false}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const ls_optimizer o = parse(cases[c].text);
        const bool idles = o.class_->idles != NULL && o.class_->idles(&o);
        const bool rests = o.class_->rests != NULL && o.class_->rests(&o);
        assert_int_equal(idles, cases[c].idles);
        assert_int_equal(rests, cases[c].rests);
        float w[5] = {-0.0f, 0, 1, -1e-30f, 3e30f}, g[5] = {0}, slot[LS_MAX_SLOTS][5] = {{0}};
        ls_update u = ls_update_begin(&o, o.learning_rate, 3);
        u.w = w, u.g = g, u.n = 5;
        for (int k = 0; k < LS_MAX_SLOTS; k++) {
            for (int i = 0; i < 5 && idles; i++) {
                slot[k][i] = 0.25f * (float)(i + k + 1);
            }
            u.slot[k] = slot[k];
        }
        float w_before[5], slot_before[LS_MAX_SLOTS][5];
        memcpy(w_before, w, sizeof w);
        memcpy(slot_before, slot, sizeof slot);
        if (idles || rests) {
            o.class_->update(&o, &u);
            assert_memory_equal(w, w_before, sizeof w);
            assert_memory_equal(slot, slot_before, sizeof slot);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(formulas), cmocka_unit_test(zero_gradients),
                                       cmocka_unit_test(complaints)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
