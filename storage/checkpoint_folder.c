#include "storage/checkpoint_folder.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/file.h"
#include "common/log.h"
#include "storage/checkpoint_private.h"
#include "storage/seal.h"

enum { KEEP_MIN = 2 };

char *ls_checkpoint_file_name(int64_t epoch, int64_t step) {
    LS_ASSERT(epoch >= 0 && step >= 0);
    return ls_xprintf("ckpt-%06" PRId64 "-%08" PRId64 ".h5", epoch, step);
}

/* The number at *p, at least `digits` long; moves *p behind it. */
static bool parse_number(const char **p, size_t digits, int64_t *out) {
    size_t n = strspn(*p, "0123456789");
    if (n < digits || n > 18) {
        return false;
    }
    *out = strtoll(*p, (char **)p, 10);
    return true;
}

/* The length of a checkpoint's name at the start of `name`, 0 when there is none. */
static size_t name_length(const char *name, int64_t *epoch, int64_t *step) {
    const char *p = name;
    if (strncmp(p, "ckpt-", 5) != 0) {
        return 0;
    }
    p += 5;
    if (!parse_number(&p, 6, epoch) || *p++ != '-' || !parse_number(&p, 8, step) || strncmp(p, ".h5", 3) != 0) {
        return 0;
    }
    return (size_t)(p + 3 - name);
}

bool ls_checkpoint_parse_name(const char *name, int64_t *epoch, int64_t *step) {
    int64_t e, s;
    size_t n = name_length(name, &e, &s);
    if (n == 0 || name[n] != '\0') {
        return false;
    }
    *epoch = e;
    *step = s;
    return true;
}

void ls_checkpoint_list_release(ls_checkpoint_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i].path);
    }
    free(list->items);
    *list = (ls_checkpoint_list){0};
}

static int by_age(const void *a, const void *b) {
    const ls_checkpoint_entry *x = a, *y = b;
    if (x->epoch != y->epoch) {
        return x->epoch < y->epoch ? -1 : 1;
    }
    return x->step < y->step ? -1 : x->step > y->step;
}

ls_status ls_checkpoint_list_folder(const char *folder, ls_checkpoint_list *list, ls_err *err) {
    *list = (ls_checkpoint_list){0};
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return errno == ENOENT ? LS_OK : ls_fail(err, LS_EIO, "%s: cannot be read: %s", folder, strerror(errno));
    }
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        ls_checkpoint_entry entry = {0};
        struct stat st;
        if (!ls_checkpoint_parse_name(d->d_name, &entry.epoch, &entry.step)) {
            continue;
        }
        entry.path = ls_path_join(folder, d->d_name);
        if (stat(entry.path, &st) != 0 || !S_ISREG(st.st_mode)) {
            free(entry.path);
            continue;
        }
        entry.n_bytes = (uint64_t)st.st_size;
        LS_PUSH(list->items, list->n, list->cap, entry);
    }
    closedir(dir);
    if (list->n > 0) {
        qsort(list->items, list->n, sizeof *list->items, by_age);
    }
    return LS_OK;
}

static ls_status retire(const char *folder, const char *newest, int keep, ls_err *err) {
    ls_checkpoint_list list;
    LS_TRY(ls_checkpoint_list_folder(folder, &list, err));
    ls_status s = LS_OK;
    int kept = 1; /* the newest */
    for (size_t i = list.n; s == LS_OK && i-- > 0;) {
        const char *path = list.items[i].path;
        if (strcmp(path, newest) == 0) {
            continue;
        }
        if (kept < keep) {
            kept += ls_seal_looks_whole(path);
            continue;
        }
        int fault = ls_fault_at(LS_CKPT_FAULT);
        if (fault != 0 || unlink(path) != 0) {
            s = ls_fail(err, LS_EIO, "%s: cannot be removed: %s", path, strerror(fault ? fault : errno));
        }
    }
    ls_checkpoint_list_release(&list);
    return s;
}

ls_status ls_checkpoint_save(const ls_checkpoint *ckpt, const char *folder, int keep, char **path, ls_err *err) {
    ls_err retired = LS_ERR_INIT;
    char *name = ls_checkpoint_file_name(ckpt->epoch, ckpt->step);
    char *target = ls_path_join(folder, name);
    free(name);
    ls_folder_remove_temporaries(folder); /* a run has one writer at a time */
    ls_status s = ls_checkpoint_write(ckpt, target, err);
    if (s != LS_OK) {
        free(target);
        return s;
    }
    if (retire(folder, target, keep < KEEP_MIN ? KEEP_MIN : keep, &retired) != LS_OK) {
        ls_warn("old checkpoints stay: %s", retired.text);
    }
    if (path != NULL) {
        *path = target;
    } else {
        free(target);
    }
    return LS_OK;
}

/* Walks from the newest until one reads. ckpt NULL: verifies only. */
static ls_status find_newest(const char *folder, ls_checkpoint *ckpt, char **path, ls_err *err) {
    ls_checkpoint_list list;
    LS_TRY(ls_checkpoint_list_folder(folder, &list, err));
    if (list.n == 0) {
        return ls_fail(err, LS_EINPUT, "%s: holds no checkpoint (ckpt-EPOCH-STEP.h5)", folder);
    }
    ls_status s = LS_ECORRUPT;
    ls_err bad = LS_ERR_INIT, newest = LS_ERR_INIT;
    for (size_t i = list.n; s != LS_OK && s != LS_ENOMEM && i-- > 0;) {
        const char *file = list.items[i].path;
        s = ckpt != NULL ? ls_checkpoint_read(file, ckpt, &bad) : ls_checkpoint_verify(file, &bad);
        if (s == LS_OK && path != NULL) {
            *path = ls_xstrdup(file);
        }
        if (s != LS_OK) {
            newest = i == list.n - 1 ? bad : newest;
            ls_warn("%s%s", bad.text, i > 0 ? "; the checkpoint before it is used" : "");
        }
    }
    if (s == LS_ENOMEM) {
        s = ls_fail(err, s, "%s", bad.text);
    } else if (s != LS_OK) {
        s = ls_fail(
            err, LS_ECORRUPT,
            "%s: none of its %zu checkpoints can be used; bring one back, or start a new run; of the newest: %.700s",
            folder, list.n, newest.text);
    }
    ls_checkpoint_list_release(&list);
    return s;
}

ls_status ls_checkpoint_read_newest(const char *folder, ls_checkpoint *ckpt, char **path, ls_err *err) {
    return find_newest(folder, ckpt, path, err);
}

ls_status ls_checkpoint_resolve(const char *path, char **file, ls_err *err) {
    if (!ls_folder_exists(path)) {
        *file = ls_xstrdup(path);
        return LS_OK;
    }
    char *inner = ls_path_join(path, "checkpoints");
    ls_status s = find_newest(ls_folder_exists(inner) ? inner : path, NULL, file, err);
    free(inner);
    return s;
}
