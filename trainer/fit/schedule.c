#include "trainer/fit/schedule.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/text.h"

enum { MAX_KEYS = 10 };

struct ls_schedule_class {
    const char *name;
    const char *keys[MAX_KEYS]; /* besides name and initial_learning_rate */
    ls_status (*parse)(ls_schedule *s, ls_json config, ls_err *err);
    double (*rate)(const ls_schedule *s, double i);
};

/* A member that must be there. */
static ls_status need(ls_json config, const char *key, double min, double *out, ls_err *err) {
    if (!ls_json_present(ls_json_member(config, key))) {
        return ls_json_fail(config, err, "\"%s\" is missing", key);
    }
    return ls_json_get_double(config, key, min, 1e300, out, err);
}

static ls_status parse_decay(ls_schedule *s, ls_json config, ls_err *err) {
    LS_TRY(need(config, "decay_steps", 1e-9, &s->decay_steps, err));
    LS_TRY(need(config, "decay_rate", 0, &s->decay_rate, err));
    return ls_json_get_bool(config, "staircase", &s->staircase, err);
}

static double power_of(const ls_schedule *s, double i) {
    double p = i / s->decay_steps;
    return s->staircase ? floor(p) : p;
}

static double exponential_rate(const ls_schedule *s, double i) {
    return s->initial * pow(s->decay_rate, power_of(s, i));
}

static ls_status parse_inverse_time(ls_schedule *s, ls_json config, ls_err *err) {
    s->decay_steps = 1;
    LS_TRY(ls_json_get_double(config, "decay_steps", 1e-9, 1e300, &s->decay_steps, err));
    LS_TRY(need(config, "decay_rate", 0, &s->decay_rate, err));
    return ls_json_get_bool(config, "staircase", &s->staircase, err);
}

static double inverse_time_rate(const ls_schedule *s, double i) {
    return s->initial / (1 + s->decay_rate * power_of(s, i));
}

static ls_status parse_polynomial(ls_schedule *s, ls_json config, ls_err *err) {
    s->end = 0.0001;
    s->power = 1;
    LS_TRY(need(config, "decay_steps", 1e-9, &s->decay_steps, err));
    LS_TRY(ls_json_get_double(config, "end_learning_rate", 0, 1e300, &s->end, err));
    LS_TRY(ls_json_get_double(config, "power", 0, 1e300, &s->power, err));
    return ls_json_get_bool(config, "cycle", &s->cycle, err);
}

static double polynomial_rate(const ls_schedule *s, double i) {
    double steps = s->decay_steps;
    if (s->cycle) {
        steps *= i == 0 ? 1 : ceil(i / steps);
    } else {
        i = fmin(i, steps);
    }
    return (s->initial - s->end) * pow(1 - i / steps, s->power) + s->end;
}

static ls_status parse_cosine(ls_schedule *s, ls_json config, ls_err *err) {
    LS_TRY(need(config, "decay_steps", 1e-9, &s->decay_steps, err));
    LS_TRY(ls_json_get_double(config, "alpha", 0, 1, &s->alpha, err));
    s->has_warmup_target = ls_json_present(ls_json_member(config, "warmup_target"));
    LS_TRY(ls_json_get_double(config, "warmup_target", 0, 1e300, &s->warmup_target, err));
    return ls_json_get_double(config, "warmup_steps", 0, 1e300, &s->warmup_steps, err);
}

static double cosine_rate(const ls_schedule *s, double i) {
    double base = s->initial;
    if (s->has_warmup_target) {
        if (i < s->warmup_steps) {
            return s->initial + (s->warmup_target - s->initial) * (i / s->warmup_steps);
        }
        base = s->warmup_target;
        i -= s->warmup_steps;
    }
    double fraction = fmin(i, s->decay_steps) / s->decay_steps;
    return base * ((1 - s->alpha) * 0.5 * (1 + cos(M_PI * fraction)) + s->alpha);
}

static ls_status parse_restarts(ls_schedule *s, ls_json config, ls_err *err) {
    s->t_mul = 2;
    s->m_mul = 1;
    LS_TRY(need(config, "first_decay_steps", 1e-9, &s->decay_steps, err));
    LS_TRY(ls_json_get_double(config, "t_mul", 1, 1e300, &s->t_mul, err));
    LS_TRY(ls_json_get_double(config, "m_mul", 0, 1e300, &s->m_mul, err));
    return ls_json_get_double(config, "alpha", 0, 1, &s->alpha, err);
}

static double restarts_rate(const ls_schedule *s, double i) {
    double fraction = i / s->decay_steps, restart;
    if (s->t_mul == 1) {
        restart = floor(fraction);
        fraction -= restart;
    } else {
        restart = floor(log(1 - fraction * (1 - s->t_mul)) / log(s->t_mul));
        double before = (1 - pow(s->t_mul, restart)) / (1 - s->t_mul);
        fraction = (fraction - before) / pow(s->t_mul, restart);
    }
    double cosine = 0.5 * pow(s->m_mul, restart) * (1 + cos(M_PI * fraction));
    return s->initial * ((1 - s->alpha) * cosine + s->alpha);
}

static ls_status parse_numbers(ls_json at, size_t n, double *out, ls_err *err) {
    for (size_t i = 0; i < n; i++) {
        ls_json e = ls_json_element(at, i);
        if (!json_is_number(e.value)) {
            char found[96];
            return ls_json_fail(e, err, "expected a number, found %s", ls_json_describe(e.value, found, sizeof found));
        }
        out[i] = json_number_value(e.value);
    }
    return LS_OK;
}

static ls_status parse_piecewise(ls_schedule *s, ls_json config, ls_err *err) {
    ls_json at = ls_json_member(config, "boundaries"), rate = ls_json_member(config, "values");
    size_t n = ls_json_length(at);
    if (!json_is_array(at.value) || !json_is_array(rate.value) || ls_json_length(rate) != n + 1) {
        return ls_json_fail(config, err, "expected a list \"boundaries\" and a list \"values\" with one number more");
    }
    s->n_points = (int)n;
    s->at = ls_xcalloc(n + 1, sizeof *s->at);
    s->rate = ls_xcalloc(n + 1, sizeof *s->rate);
    LS_TRY(parse_numbers(at, n, s->at, err));
    LS_TRY(parse_numbers(rate, n + 1, s->rate, err));
    for (size_t i = 1; i < n; i++) {
        if (!(s->at[i] > s->at[i - 1])) {
            return ls_json_fail(ls_json_element(at, i), err, "boundaries must increase");
        }
    }
    return LS_OK;
}

static double piecewise_rate(const ls_schedule *s, double i) {
    int k = 0;
    while (k < s->n_points && i > s->at[k]) {
        k++;
    }
    return s->rate[k];
}

static ls_status parse_step(ls_schedule *s, ls_json config, ls_err *err) {
    LS_TRY(need(config, "every", 1e-9, &s->decay_steps, err));
    LS_TRY(need(config, "drop", 0, &s->decay_rate, err));
    s->staircase = true;
    return LS_OK;
}

static ls_status parse_warmup(ls_schedule *s, ls_json config, ls_err *err) {
    static const char *const units[] = {"step", "epoch"};
    ls_json inner = ls_json_member(config, "schedule");
    int unit = 0;
    s->warmup_start = NAN;
    s->scale = s->steps = 1;
    LS_TRY(ls_json_get_choice(config, "per", units, 2, &unit, err));
    s->per_epoch = unit == 1;
    LS_TRY(need(config, "warmup", 0, &s->warmup, err));
    LS_TRY(ls_json_get_double(config, "warmup_start", 0, 1e300, &s->warmup_start, err));
    if (ls_json_present(ls_json_member(config, "reference_batch_size"))) {
        LS_TRY(ls_json_get_double(config, "reference_batch_size", 1, 1e300, &s->reference, err));
    }
    if (ls_json_present(inner)) {
        ls_schedule *of = s->inner = ls_xcalloc(1, sizeof *of);
        LS_TRY(ls_schedule_parse(inner, s->initial, of, err));
        if (ls_schedule_needs_run(of)) {
            return ls_json_fail(inner, err, "a WarmUp inside another says nothing; leave one of them out");
        }
    } else if (isnan(s->initial)) {
        return ls_json_fail(config, err, "\"initial_learning_rate\" is missing, or a \"schedule\" that has it");
    }
    return LS_OK;
}

static double warmup_rate(const ls_schedule *s, double i) {
    const double x = i / s->steps, at = fmax(x, s->warmup);
    const double rate = s->scale * (s->inner != NULL ? ls_schedule_rate(s->inner, at) : s->initial);
    if (x >= s->warmup) {
        return rate;
    }
    double start = s->warmup_start;
    if (isnan(start)) {
        start = s->reference == 0 ? 0 : s->inner != NULL ? ls_schedule_rate(s->inner, 0) : s->initial;
    }
    return start + (rate - start) * (x / s->warmup);
}

bool ls_schedule_needs_run(const ls_schedule *s) {
    return s->class_ != NULL && s->class_->rate == warmup_rate;
}

void ls_schedule_set_run(ls_schedule *s, double batch_size, double steps_per_epoch) {
    s->scale = s->reference > 0 ? batch_size / s->reference : 1;
    s->steps = s->per_epoch ? steps_per_epoch : 1;
}

static double table_rate(const ls_schedule *s, double i) {
    double rate = s->initial;
    for (int k = 0; k < s->n_points && s->at[k] <= i; k++) {
        rate = s->rate[k];
    }
    return rate;
}

static const ls_schedule_class classes[] = {
    {"ExponentialDecay", {"decay_steps", "decay_rate", "staircase"}, parse_decay, exponential_rate},
    {"InverseTimeDecay", {"decay_steps", "decay_rate", "staircase"}, parse_inverse_time, inverse_time_rate},
    {"PolynomialDecay", {"decay_steps", "end_learning_rate", "power", "cycle"}, parse_polynomial, polynomial_rate},
    {"CosineDecay", {"decay_steps", "alpha", "warmup_target", "warmup_steps"}, parse_cosine, cosine_rate},
    {"CosineDecayRestarts", {"first_decay_steps", "t_mul", "m_mul", "alpha"}, parse_restarts, restarts_rate},
    {"PiecewiseConstantDecay", {"boundaries", "values"}, parse_piecewise, piecewise_rate},
    {"StepDecay", {"every", "drop"}, parse_step, exponential_rate},
    {"WarmUp", {"schedule", "warmup", "warmup_start", "per", "reference_batch_size"}, parse_warmup, warmup_rate},
};
enum { N_CLASSES = sizeof classes / sizeof classes[0] };
static const ls_schedule_class table_class = {"table", {NULL}, NULL, table_rate};

static ls_status parse_table(ls_schedule *s, ls_json at, ls_err *err) {
    s->class_ = &table_class;
    size_t n = ls_json_length(at);
    s->at = ls_xcalloc(n + 1, sizeof *s->at);
    s->rate = ls_xcalloc(n + 1, sizeof *s->rate);
    const char *key;
    json_t *value;
    json_object_foreach(at.value, key, value) {
        char *end;
        errno = 0;
        double index = strtod(key, &end);
        ls_json m = ls_json_member(at, key);
        if (*key == '\0' || *end != '\0' || errno != 0 || !(index >= 0) || index != floor(index)) {
            return ls_json_fail(m, err,
                                "expected a table such as {\"0\": 0.1, \"10\": 0.01}, or an object with class_name; "
                                "\"%s\" is not a whole number from 0",
                                key);
        }
        LS_TRY(ls_json_get_double(at, key, 0, 1e300, &(double){0}, err));
        if (!json_is_number(value)) {
            return ls_json_fail(m, err, "expected a learning rate, found null");
        }
        int k = s->n_points++;
        for (; k > 0 && s->at[k - 1] > index; k--) {
            s->at[k] = s->at[k - 1];
            s->rate[k] = s->rate[k - 1];
        }
        s->at[k] = index;
        s->rate[k] = json_number_value(value);
    }
    return LS_OK;
}

static ls_status parse_class(ls_schedule *s, ls_json at, ls_err *err) {
    static const char *const outer[] = {"class_name", "config", "module", "registered_name"};
    LS_TRY(ls_json_only_keys(at, outer, 4, err));
    const char *words[N_CLASSES], *name = "";
    LS_TRY(ls_json_get_string(at, "class_name", &name, err));
    for (int i = 0; i < N_CLASSES; i++) {
        words[i] = classes[i].name;
        if (strcmp(name, classes[i].name) == 0) {
            s->class_ = &classes[i];
        }
    }
    if (s->class_ == NULL) {
        return ls_json_unknown(ls_json_member(at, "class_name"), name, "a learning rate schedule", words, N_CLASSES,
                               err);
    }
    ls_json config = ls_json_member(at, "config");
    const char *keys[MAX_KEYS + 2] = {"name", "initial_learning_rate"};
    size_t n_keys = 2;
    for (int i = 0; i < MAX_KEYS && s->class_->keys[i] != NULL; i++) {
        keys[n_keys++] = s->class_->keys[i];
    }
    LS_TRY(ls_json_only_keys(config, keys, n_keys, err));
    LS_TRY(ls_json_get_double(config, "initial_learning_rate", 0, 1e300, &s->initial, err));
    if (isnan(s->initial) && s->class_->rate != piecewise_rate && s->class_->rate != warmup_rate) {
        return ls_json_fail(config, err, "\"initial_learning_rate\" is missing");
    }
    return s->class_->parse(s, config, err);
}

ls_status ls_schedule_parse(ls_json at, double initial, ls_schedule *out, ls_err *err) {
    LS_TRY(ls_json_expect_object(at, err));
    ls_schedule s = {.initial = initial};
    ls_status status =
        ls_json_present(ls_json_member(at, "class_name")) ? parse_class(&s, at, err) : parse_table(&s, at, err);
    if (status != LS_OK) {
        ls_schedule_release(&s);
        return status;
    }
    *out = s;
    return LS_OK;
}

void ls_schedule_release(ls_schedule *s) {
    if (s->inner != NULL) {
        ls_schedule_release(s->inner);
        free(s->inner);
    }
    free(s->at);
    free(s->rate);
    *s = (ls_schedule){0};
}

double ls_schedule_rate(const ls_schedule *s, double i) {
    return s->class_->rate(s, i);
}
