#include "trainer/fit/bar.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "trainer/fit/number.h"

enum { BAR_CELLS = 24 };

typedef struct {
    char *out;
    size_t size, used;
} sink;

static void put(sink *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(sink *s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = s->used < s->size ? vsnprintf(s->out + s->used, s->size - s->used, format, args) : 0;
    va_end(args);
    s->used += n > 0 ? (size_t)n : 0;
    s->used = s->used < s->size ? s->used : s->size - 1;
}

static void put_logs(sink *s, const ls_logs *logs) {
    for (int i = 0; logs != NULL && i < logs->n; i++) {
        double x = logs->item[i].value, size = fabs(x);
        bool plain = size == 0 || (size >= 1e-3 && size < 1e5);
        put(s, plain ? "  %s %.4f" : "  %s %.3g", logs->item[i].name, x);
    }
}

const char *ls_bar_line(const ls_bar *bar, int columns, char *out, size_t size) {
    sink s = {out, size, 0};
    char text[48], cells[BAR_CELLS + 1];
    int done = bar->steps > 0 ? (int)((double)bar->step / (double)bar->steps * BAR_CELLS) : 0;
    for (int i = 0; i < BAR_CELLS; i++) {
        cells[i] = i < done ? '=' : i == done ? '>' : ' ';
    }
    cells[BAR_CELLS] = '\0';
    put(&s, "epoch %lld/%lld  [%s]  %lld/%lld", (long long)bar->epoch, (long long)bar->epochs, cells,
        (long long)bar->step, (long long)bar->steps);
    put(&s, "  %s samples/s", ls_count_text(bar->samples_per_s, text, sizeof text));
    put(&s, "  %s left", ls_format_duration(text, sizeof text, bar->eta_s));
    put_logs(&s, bar->logs);
    if (columns > 1 && (size_t)columns < s.used + 1) {
        out[columns - 1] = '\0';
    }
    return out;
}

const char *ls_bar_epoch(const ls_bar *bar, char *out, size_t size) {
    sink s = {out, size, 0};
    char text[48];
    put(&s, "epoch %lld/%lld", (long long)bar->epoch, (long long)bar->epochs);
    put(&s, "  %s", ls_format_duration(text, sizeof text, bar->seconds));
    put(&s, "  %s samples/s", ls_count_text(bar->samples_per_s, text, sizeof text));
    put_logs(&s, bar->logs);
    return out;
}
