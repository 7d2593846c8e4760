#include "common/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { WORD_MAX = 63 };

static size_t edit_distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b), row[WORD_MAX + 1];
    if (n > WORD_MAX || m > WORD_MAX) {
        return n + m;
    }
    for (size_t j = 0; j <= m; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t above = row[j];
            size_t best = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            if (above + 1 < best) {
                best = above + 1;
            }
            if (row[j - 1] + 1 < best) {
                best = row[j - 1] + 1;
            }
            row[j] = best;
            diagonal = above;
        }
    }
    return row[m];
}

const char *ls_nearest(const char *word, const char *const *known, size_t n_known) {
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 2;
    for (size_t i = 0; i < n_known; i++) {
        size_t d = edit_distance(word, known[i]);
        if (d < best_distance) {
            best_distance = d;
            best = known[i];
        }
    }
    return best;
}

const char *ls_hint(char out[LS_HINT_MAX], const char *word, const char *const *known, size_t n_known,
                    const char *mark) {
    const char *near = ls_nearest(word, known, n_known);
    size_t used = 0;
    out[0] = '\0';
    if (near != NULL) {
        snprintf(out, LS_HINT_MAX, "; did you mean \"%s%s\"?", mark, near);
        return out;
    }
    for (size_t i = 0; i < n_known && used < LS_HINT_MAX; i++) {
        used += (size_t)snprintf(out + used, LS_HINT_MAX - used, "%s\"%s%s\"", i == 0 ? "; known are " : ", ", mark,
                                 known[i]);
    }
    if (used >= LS_HINT_MAX) {
        out[0] = '\0';
    }
    return out;
}

bool ls_word_listed(const char *list, const char *word) {
    size_t n = strlen(word);
    for (const char *p = list; n > 0 && p != NULL && (p = strstr(p, word)) != NULL; p += n) {
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0')) {
            return true;
        }
    }
    return false;
}

const char *ls_format_bytes(char *out, size_t size, double n_bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    while (n_bytes >= 1024 && u < 4) {
        n_bytes /= 1024;
        u++;
    }
    snprintf(out, size, u == 0 ? "%.0f %s" : "%.1f %s", n_bytes, units[u]);
    return out;
}

const char *ls_format_duration(char *out, size_t size, double seconds) {
    if (seconds < 60) {
        snprintf(out, size, seconds < 10 ? "%.1f s" : "%.0f s", seconds);
    } else if (seconds < 3600) {
        snprintf(out, size, "%d min %02d s", (int)seconds / 60, (int)seconds % 60);
    } else {
        snprintf(out, size, "%d h %02d min", (int)(seconds / 3600), (int)seconds % 3600 / 60);
    }
    return out;
}
