#include "trainer/fit/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *ls_number_text(double x, char *out, size_t size) {
    if (!isfinite(x)) {
        snprintf(out, size, "%s", isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
        return out;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, x);
        if (strtod(out, NULL) == x) {
            break;
        }
    }
    return out;
}

const char *ls_count_text(double x, char *out, size_t size) {
    char plain[48];
    snprintf(plain, sizeof plain, "%.0f", x);
    size_t n = strlen(plain), used = 0;
    for (size_t i = 0; i < n && used + 2 < size; i++) {
        if (i > 0 && plain[i - 1] != '-' && (n - i) % 3 == 0) {
            out[used++] = ',';
        }
        out[used++] = plain[i];
    }
    out[used] = '\0';
    return out;
}
