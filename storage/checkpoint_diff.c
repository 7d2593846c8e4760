#include "storage/checkpoint_diff.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 20 };

typedef struct {
    FILE *to;
    size_t n_compared, n_differ;
} report;

/* Counts a difference; true while there is still room to tell it. */
static bool differs(report *r) {
    return ++r->n_differ <= SHOWN;
}

/* Element i as a double; false for types that have no difference to speak of. */
static bool element(const ls_checkpoint_array *a, size_t i, double *out) {
    switch (a->type) {
        case LS_H5_F32: *out = ((const float *)a->data)[i]; return true;
        case LS_H5_F64: *out = ((const double *)a->data)[i]; return true;
        case LS_H5_I64: *out = (double)((const int64_t *)a->data)[i]; return true;
        case LS_H5_U8: *out = ((const uint8_t *)a->data)[i]; return true;
        default: return false;
    }
}

static void compare_values(report *r, const char *kind, const ls_checkpoint_array *a, const ls_checkpoint_array *b) {
    size_t bytes = ls_h5_type_bytes(a->type), n = 0, first = 0;
    double most = 0, x = 0, y = 0;
    bool unordered = false;
    for (size_t i = 0; i < a->n_elems; i++) {
        if (memcmp((char *)a->data + i * bytes, (char *)b->data + i * bytes, bytes) == 0) {
            continue;
        }
        first = n++ == 0 ? i : first;
        if (element(a, i, &x) && element(b, i, &y)) {
            unordered = unordered || !isfinite(x - y);
            most = fabs(x - y) > most ? fabs(x - y) : most;
        }
    }
    if (n == 0 || !differs(r)) {
        return;
    }
    fprintf(r->to, "%s %s: %zu of %zu values differ, by at most %.9g%s", kind, a->name, n, a->n_elems, most,
            unordered ? " (some are not finite)" : "");
    if (element(a, first, &x) && element(b, first, &y)) {
        fprintf(r->to, "; the first at %zu: %.9g, %.9g", first, x, y);
    }
    fputc('\n', r->to);
}

/* b NULL: not in the second file. */
static void compare(report *r, const char *kind, const ls_checkpoint_array *a, const ls_checkpoint_array *b) {
    r->n_compared++;
    if (b == NULL) {
        if (differs(r)) {
            fprintf(r->to, "%s %s: only in a\n", kind, a->name);
        }
    } else if (a->type != b->type || a->rank != b->rank || memcmp(a->dims, b->dims, sizeof a->dims) != 0) {
        if (differs(r)) {
            fprintf(r->to, "%s %s: has another shape or type\n", kind, a->name);
        }
    } else {
        compare_values(r, kind, a, b);
    }
}

static void only_in_b(report *r, const char *kind, const char *name) {
    r->n_compared++;
    if (differs(r)) {
        fprintf(r->to, "%s %s: only in b\n", kind, name);
    }
}

static void compare_weights(report *r, const ls_checkpoint *a, const ls_checkpoint *b) {
    for (int pass = 0; pass < 2; pass++) {
        const ls_checkpoint *from = pass ? b : a, *in = pass ? a : b;
        for (size_t l = 0; l < from->n_layers; l++) {
            const ls_checkpoint_layer *layer = &from->layers[l];
            char *kind = ls_xprintf("layer %s, weight", layer->name);
            for (size_t w = 0; w < layer->n_weights; w++) {
                const ls_checkpoint_array *other = ls_checkpoint_find_weight(in, layer->name, layer->weights[w].name);
                if (pass == 0) {
                    compare(r, kind, &layer->weights[w], other);
                } else if (other == NULL) {
                    only_in_b(r, kind, layer->weights[w].name);
                }
            }
            free(kind);
        }
    }
}

static void compare_slots(report *r, const ls_checkpoint *a, const ls_checkpoint *b) {
    for (int pass = 0; pass < 2; pass++) {
        const ls_checkpoint *from = pass ? b : a, *in = pass ? a : b;
        for (size_t i = 0; i < from->n_slots; i++) {
            const ls_checkpoint_slot *s = &from->slots[i];
            const ls_checkpoint_array *other = ls_checkpoint_find_slot(in, s->slot, s->layer, s->weight);
            char *kind = ls_xprintf("layer %s, slot %s of", s->layer, s->slot);
            if (pass == 0) {
                compare(r, kind, &s->array, other);
            } else if (other == NULL) {
                only_in_b(r, kind, s->weight);
            }
            free(kind);
        }
    }
}

static uint64_t bits_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void compare_scalars(report *r, const ls_checkpoint *a, const ls_checkpoint *b) {
    double other;
    for (size_t i = 0; i < a->n_scalars; i++) {
        const ls_checkpoint_scalar *s = &a->scalars[i];
        r->n_compared++;
        if (!ls_checkpoint_get_scalar(b, s->name, &other)) {
            if (differs(r)) {
                fprintf(r->to, "scalar %s: only in a\n", s->name);
            }
        } else if (bits_of(other) != bits_of(s->value) && differs(r)) {
            fprintf(r->to, "scalar %s: %.17g, %.17g\n", s->name, s->value, other);
        }
    }
    for (size_t i = 0; i < b->n_scalars; i++) {
        if (!ls_checkpoint_get_scalar(a, b->scalars[i].name, &other)) {
            only_in_b(r, "scalar", b->scalars[i].name);
        }
    }
}

static void compare_arrays(report *r, const ls_checkpoint *a, const ls_checkpoint *b) {
    for (size_t i = 0; i < a->n_arrays; i++) {
        compare(r, "array", &a->arrays[i], ls_checkpoint_find_array(b, a->arrays[i].name));
    }
    for (size_t i = 0; i < b->n_arrays; i++) {
        if (ls_checkpoint_find_array(a, b->arrays[i].name) == NULL) {
            only_in_b(r, "array", b->arrays[i].name);
        }
    }
}

static void tell_text(FILE *to, const char *name, const char *a, const char *b) {
    if ((a == NULL) != (b == NULL) || (a != NULL && strcmp(a, b) != 0)) {
        fprintf(to, "%s: not the same text\n", name);
    }
}

size_t ls_checkpoint_print_diff(const ls_checkpoint *a, const ls_checkpoint *b, FILE *to) {
    report r = {.to = to};
    compare_weights(&r, a, b);
    compare_slots(&r, a, b);
    compare_scalars(&r, a, b);
    compare_arrays(&r, a, b);
    if (r.n_differ > SHOWN) {
        fprintf(to, "... and %zu more\n", r.n_differ - SHOWN);
    }
    if (a->epoch != b->epoch || a->step != b->step) {
        fprintf(to, "epoch and step: %" PRId64 ", %" PRId64 " and %" PRId64 ", %" PRId64 "\n", a->epoch, a->step,
                b->epoch, b->step);
    }
    tell_text(to, "model_config", a->model_config, b->model_config);
    tell_text(to, "training_config", a->training_config, b->training_config);
    tell_text(to, "state", a->state, b->state);
    if (r.n_differ == 0) {
        fprintf(to, "all %zu arrays and scalars are the same\n", r.n_compared);
    } else {
        fprintf(to, "%zu of %zu arrays and scalars differ\n", r.n_differ, r.n_compared);
    }
    return r.n_differ;
}
