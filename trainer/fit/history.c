#include "trainer/fit/history.h"

#include <math.h>
void ls_history_init(ls_history *h) {
    h->lists = json_object();
    json_object_set_new(h->lists, "epoch", json_array());
}

void ls_history_release(ls_history *h) {
    json_decref(h->lists);
    h->lists = NULL;
}

size_t ls_history_length(const ls_history *h) {
    return json_array_size(json_object_get(h->lists, "epoch"));
}

void ls_history_add(ls_history *h, int64_t epoch, const ls_logs *logs) {
    size_t rows = ls_history_length(h);
    const char *key;
    json_t *list;
    for (int i = 0; i < logs->n; i++) {
        list = json_object_get(h->lists, logs->item[i].name);
        if (list == NULL) {
            list = json_array();
            json_object_set_new(h->lists, logs->item[i].name, list);
        }
        while (json_array_size(list) < rows) {
            json_array_append_new(list, json_null());
        }
        double x = logs->item[i].value;
        json_array_append_new(list, isfinite(x) ? json_real(x) : json_null());
    }
    json_array_append_new(json_object_get(h->lists, "epoch"), json_integer(epoch));
    json_object_foreach(h->lists, key, list) {
        while (json_array_size(list) < rows + 1) {
            json_array_append_new(list, json_null());
        }
    }
}

json_t *ls_history_save(const ls_history *h) {
    return json_deep_copy(h->lists);
}

ls_status ls_history_restore(ls_history *h, ls_json at, ls_err *err) {
    const char *key;
    json_t *list;
    size_t rows = json_array_size(json_object_get(at.value, "epoch"));
    if (!json_is_array(json_object_get(at.value, "epoch"))) {
        return ls_json_fail(at, err, "this state lacks the history's list \"epoch\"");
    }
    json_object_foreach(at.value, key, list) {
        if (!json_is_array(list) || json_array_size(list) != rows) {
            return ls_json_fail(ls_json_member(at, key), err, "expected a list of %zu numbers", rows);
        }
    }
    ls_history_release(h);
    h->lists = json_deep_copy(at.value);
    return LS_OK;
}
