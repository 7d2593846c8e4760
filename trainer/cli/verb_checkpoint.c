/* lockstep checkpoint show | digest | verify | diff */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/checkpoint_diff.h"
#include "storage/checkpoint_folder.h"
#include "trainer/cli/option.h"
#include "trainer/cli/verbs.h"

typedef struct {
    const char *verb; /* "checkpoint show" */
    bool json;
    size_t n_files, max_files;
    const char **files; /* [n_files] */
} arguments;

/* ---- show ---- */

typedef struct {
    const char *file;
    ls_checkpoint ckpt;
    json_t *model, *training, *state; /* parsed; NULL: absent or no JSON */
    size_t n_bytes;
    size_t n_params;
    char digest[LS_CHECKPOINT_DIGEST_CHARS];
} content;

static json_t *parse(const char *text) {
    return text != NULL ? json_loads(text, 0, NULL) : NULL;
}

static ls_status content_read(content *c, const char *file, ls_err *err) {
    *c = (content){.file = file};
    LS_TRY(ls_checkpoint_read(file, &c->ckpt, err));
    struct stat st;
    c->n_bytes = stat(file, &st) == 0 ? (size_t)st.st_size : 0;
    c->model = parse(c->ckpt.model_config);
    c->training = parse(c->ckpt.training_config);
    c->state = parse(c->ckpt.state);
    for (size_t l = 0; l < c->ckpt.n_layers; l++) {
        for (size_t w = 0; w < c->ckpt.layers[l].n_weights; w++) {
            c->n_params += c->ckpt.layers[l].weights[w].n_elems;
        }
    }
    ls_checkpoint_digest(&c->ckpt, c->digest);
    return LS_OK;
}

static void content_release(content *c) {
    json_decref(c->model);
    json_decref(c->training);
    json_decref(c->state);
    ls_checkpoint_release(&c->ckpt);
}

static const char *text_member(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static const char *shape_text(const ls_checkpoint_array *a, char *out, size_t size) {
    size_t used = (size_t)snprintf(out, size, "(");
    for (int i = 0; i < a->rank && used < size; i++) {
        used += (size_t)snprintf(out + used, size - used, "%s%" PRIu64, i ? ", " : "", a->dims[i]);
    }
    snprintf(out + (used < size ? used : size - 2), 2, ")");
    return out;
}

static void print_array(const ls_checkpoint_array *a, const char *type) {
    char shape[200];
    printf("    %-44s %-18s %12zu%s%s\n", a->name, shape_text(a, shape, sizeof shape), a->n_elems, type[0] ? "  " : "",
           type);
}

static void print_head(const content *c) {
    char size[32];
    printf("%s: %s, ", c->file, ls_format_bytes(size, sizeof size, (double)c->n_bytes));
    if (c->ckpt.has_state) {
        printf("a Lockstep checkpoint, epoch %" PRId64 ", step %" PRId64 "\n", c->ckpt.epoch, c->ckpt.step);
    } else {
        printf("a Keras file (keras_version %s), without the state of a run\n",
               c->ckpt.keras_version ? c->ckpt.keras_version : "not given");
    }
    printf("digest     %s\n", c->digest);
    if (c->model != NULL) {
        printf("model      %s %s\n", text_member(c->model, "class_name"),
               text_member(json_object_get(c->model, "config"), "name"));
    }
    if (c->training != NULL) {
        const char *optimizer = text_member(json_object_get(c->training, "optimizer_config"), "class_name");
        char *loss = json_dumps(json_object_get(c->training, "loss"), JSON_COMPACT | JSON_ENCODE_ANY);
        printf("compiled   optimizer %s, loss %s\n", optimizer[0] ? optimizer : "not given", loss ? loss : "not given");
        free(loss);
    }
}

static void print_layers(const content *c) {
    printf("layers     %zu, %zu parameters\n", c->ckpt.n_layers, c->n_params);
    for (size_t l = 0; l < c->ckpt.n_layers; l++) {
        const ls_checkpoint_layer *layer = &c->ckpt.layers[l];
        printf("  %s\n", layer->name);
        for (size_t w = 0; w < layer->n_weights; w++) {
            print_array(&layer->weights[w], "");
        }
    }
}

/* "m of 12 weights", a line a slot name, in the order of their first use; with json, an object instead. */
static void tell_slots(const content *c, json_t *json) {
    for (size_t i = 0; i < c->ckpt.n_slots; i++) {
        const char *name = c->ckpt.slots[i].slot;
        size_t n_before = 0, n = 0, n_values = 0;
        for (size_t k = 0; k < c->ckpt.n_slots; k++) {
            if (strcmp(c->ckpt.slots[k].slot, name) == 0) {
                n_before += k < i;
                n++;
                n_values += c->ckpt.slots[k].array.n_elems;
            }
        }
        if (n_before == 0 && json != NULL) {
            json_object_set_new(json, name,
                                json_pack("{s:I, s:I}", "weights", (json_int_t)n, "values", (json_int_t)n_values));
        } else if (n_before == 0) {
            printf("  slot %s of %zu weights, %zu values\n", name, n, n_values);
        }
    }
}

static void print_optimizer(const content *c) {
    if (c->ckpt.n_slots + c->ckpt.n_scalars > 0) {
        printf("optimizer\n");
    }
    tell_slots(c, NULL);
    for (size_t i = 0; i < c->ckpt.n_scalars; i++) {
        printf("  %s %.17g\n", c->ckpt.scalars[i].name, c->ckpt.scalars[i].value);
    }
    if (c->ckpt.n_arrays > 0) {
        printf("other arrays\n");
    }
    for (size_t i = 0; i < c->ckpt.n_arrays; i++) {
        print_array(&c->ckpt.arrays[i], ls_h5_type_name(c->ckpt.arrays[i].type));
    }
}

/* The last entries of state.history: a list of objects, or an object of lists as Keras's History has. */
static void print_history(const content *c) {
    enum { SHOWN = 5 };
    const json_t *history = json_object_get(c->state, "history");
    const char *key;
    json_t *column;
    if (json_is_array(history) && json_array_size(history) > 0) {
        size_t n = json_array_size(history);
        printf("history    the last %zu of %zu\n", n > SHOWN ? SHOWN : n, n);
        for (size_t i = n > SHOWN ? n - SHOWN : 0; i < n; i++) {
            char *line =
                json_dumps(json_array_get(history, i), JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
            printf("    %s\n", line ? line : "");
            free(line);
        }
    } else if (json_object_size(history) > 0) {
        printf("history    the last values\n");
        json_object_foreach((json_t *)history, key, column) {
            size_t n = json_array_size(column);
            printf("    %-20s", key);
            for (size_t i = n > SHOWN ? n - SHOWN : 0; i < n; i++) {
                printf(" %.6g", json_number_value(json_array_get(column, i)));
            }
            printf("\n");
        }
    }
}

static json_t *array_json(const ls_checkpoint_array *a) {
    json_t *shape = json_array();
    for (int i = 0; i < a->rank; i++) {
        json_array_append_new(shape, json_integer((json_int_t)a->dims[i]));
    }
    return json_pack("{s:s, s:s, s:o, s:I}", "name", a->name, "type", ls_h5_type_name(a->type), "shape", shape, "bytes",
                     (json_int_t)a->n_bytes);
}

static json_t *layers_json(const content *c) {
    json_t *layers = json_array();
    for (size_t l = 0; l < c->ckpt.n_layers; l++) {
        json_t *weights = json_array();
        for (size_t w = 0; w < c->ckpt.layers[l].n_weights; w++) {
            json_array_append_new(weights, array_json(&c->ckpt.layers[l].weights[w]));
        }
        json_array_append_new(layers, json_pack("{s:s, s:o}", "name", c->ckpt.layers[l].name, "weights", weights));
    }
    return layers;
}

static void print_json(const content *c) {
    json_t *slots = json_object(), *scalars = json_object(), *arrays = json_array();
    tell_slots(c, slots);
    for (size_t i = 0; i < c->ckpt.n_scalars; i++) { /* one that is not finite becomes null */
        json_t *value = json_real(c->ckpt.scalars[i].value);
        json_object_set_new(scalars, c->ckpt.scalars[i].name, value != NULL ? value : json_null());
    }
    for (size_t i = 0; i < c->ckpt.n_arrays; i++) {
        json_array_append_new(arrays, array_json(&c->ckpt.arrays[i]));
    }
    json_t *out = json_pack("{s:s, s:I, s:s, s:b, s:s?, s:I, s:o, s:o, s:o, s:o, s:O?, s:O?, s:O?}", "file", c->file,
                            "bytes", (json_int_t)c->n_bytes, "digest", c->digest, "resumable", c->ckpt.has_state,
                            "keras_version", c->ckpt.keras_version, "parameters", (json_int_t)c->n_params, "layers",
                            layers_json(c), "slots", slots, "scalars", scalars, "arrays", arrays, "model_config",
                            c->model, "training_config", c->training, "state", c->state);
    if (c->ckpt.has_state) {
        json_object_set_new(out, "epoch", json_integer(c->ckpt.epoch));
        json_object_set_new(out, "step", json_integer(c->ckpt.step));
    }
    json_dumpf(out, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(out);
}

static ls_status show(const arguments *args, ls_err *err) {
    char *file;
    content c;
    LS_TRY(ls_checkpoint_resolve(args->files[0], &file, err));
    ls_status s = content_read(&c, file, err);
    if (s == LS_OK) {
        if (args->json) {
            print_json(&c);
        } else {
            print_head(&c);
            print_layers(&c);
            print_optimizer(&c);
            print_history(&c);
        }
        content_release(&c);
    }
    free(file);
    return s;
}

/* ---- digest, verify, diff ---- */

static ls_status read_meant(const char *path, ls_checkpoint *ckpt, char **file, ls_err *err) {
    LS_TRY(ls_checkpoint_resolve(path, file, err));
    ls_status s = ls_checkpoint_read(*file, ckpt, err);
    if (s != LS_OK) {
        free(*file);
    }
    return s;
}

static ls_status digest_one(const char *path, ls_err *err) {
    ls_checkpoint ckpt;
    char *file, text[LS_CHECKPOINT_DIGEST_CHARS];
    LS_TRY(read_meant(path, &ckpt, &file, err));
    ls_checkpoint_digest(&ckpt, text);
    printf("%s  %s\n", text, file);
    ls_checkpoint_release(&ckpt);
    free(file);
    return LS_OK;
}

static ls_status verify_file(const char *file, ls_err *err) {
    ls_checkpoint ckpt;
    LS_TRY(ls_checkpoint_inspect(file, &ckpt, err));
    printf("%s: good%s\n", file, ckpt.has_state ? "" : " (a Keras file: it has no checksums)");
    ls_checkpoint_release(&ckpt);
    return LS_OK;
}

/* Of a folder, all: what matters is which of them are damaged. */
static ls_status verify_one(const char *path, ls_err *err) {
    if (!ls_folder_exists(path)) {
        return verify_file(path, err);
    }
    ls_checkpoint_list list;
    char *inner = ls_path_join(path, "checkpoints");
    ls_status s = ls_checkpoint_list_folder(ls_folder_exists(inner) ? inner : path, &list, err);
    free(inner);
    LS_TRY(s);
    if (list.n == 0) {
        return ls_fail(err, LS_EINPUT, "%s: holds no checkpoint (ckpt-EPOCH-STEP.h5)", path);
    }
    size_t n_bad = 0;
    for (size_t i = 0; i < list.n; i++) {
        ls_err bad = LS_ERR_INIT;
        if (verify_file(list.items[i].path, &bad) != LS_OK) {
            printf("%s\n", bad.text);
            n_bad++;
        }
    }
    if (n_bad > 0) {
        s = ls_fail(err, LS_ECORRUPT, "%s: %zu of its %zu checkpoints cannot be used", path, n_bad, list.n);
    }
    ls_checkpoint_list_release(&list);
    return s;
}

static ls_status diff(const arguments *args, ls_err *err) {
    ls_checkpoint a, b;
    char *file_a, *file_b;
    LS_TRY(read_meant(args->files[0], &a, &file_a, err));
    ls_status s = read_meant(args->files[1], &b, &file_b, err);
    if (s == LS_OK) {
        printf("a: %s\nb: %s\n", file_a, file_b);
        s = ls_checkpoint_print_diff(&a, &b, stdout) == 0 ? LS_OK : LS_EDIVERGED;
        ls_checkpoint_release(&b);
        free(file_b);
    }
    ls_checkpoint_release(&a);
    free(file_a);
    return s;
}

static ls_status digest(const arguments *args, ls_err *err) {
    for (size_t i = 0; i < args->n_files; i++) {
        LS_TRY(digest_one(args->files[i], err));
    }
    return LS_OK;
}

static ls_status verify(const arguments *args, ls_err *err) {
    for (size_t i = 0; i < args->n_files; i++) {
        LS_TRY(verify_one(args->files[i], err));
    }
    return LS_OK;
}

/* ---- the verb ---- */

static ls_status take_json(void *context, int option, const char *value, ls_err *err) {
    (void)option, (void)value, (void)err;
    ((arguments *)context)->json = true;
    return LS_OK;
}

static ls_status take_file(void *context, const char *word, ls_err *err) {
    arguments *a = context;
    if (a->n_files == a->max_files) {
        return ls_option_stray(a->verb, word, err);
    }
    a->files[a->n_files++] = word;
    return LS_OK;
}

ls_status ls_verb_checkpoint(int argc, char **argv, ls_err *err) {
    static const struct {
        const char *word, *verb;
        size_t min_files, max_files;
        uint32_t takes;
        ls_status (*run)(const arguments *args, ls_err *err);
    } kinds[] = {{"show", "checkpoint show", 1, 1, LS_TAKES_ALL, show},
                 {"digest", "checkpoint digest", 1, SIZE_MAX, 0, digest},
                 {"verify", "checkpoint verify", 1, SIZE_MAX, 0, verify},
                 {"diff", "checkpoint diff", 2, 2, 0, diff}};
    enum { N_KINDS = sizeof kinds / sizeof kinds[0] };
    static const ls_option options[] = {{"json", 0, false}};
    const char *words[N_KINDS], *word = argc > 1 ? argv[1] : "";
    char hint[LS_HINT_MAX];
    int k = 0;
    for (; k < N_KINDS && strcmp(word, kinds[k].word) != 0; k++) {
        words[k] = kinds[k].word;
    }
    if (k == N_KINDS) {
        return ls_option_fail("checkpoint", err, "\"%s\" is not what it can do%s", word,
                              ls_hint(hint, word, words, N_KINDS, ""));
    }
    arguments args = {.verb = kinds[k].verb, .max_files = kinds[k].max_files};
    args.files = ls_xcalloc((size_t)argc, sizeof *args.files);
    const ls_option_table table = {kinds[k].verb, options, 1, kinds[k].takes};
    ls_status s = ls_options_read(&table, argc - 1, argv + 1, take_json, take_file, &args, err);
    if (s == LS_OK && args.n_files < kinds[k].min_files) {
        s = ls_option_fail(args.verb, err, "%s",
                           args.n_files == 0 ? "a FILE is missing" : "the second FILE is missing");
    }
    if (s == LS_OK) {
        s = kinds[k].run(&args, err);
    }
    free(args.files);
    return s;
}
