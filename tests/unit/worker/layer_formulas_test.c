/* Layers that are put together from several operators: forward by formula, gradients by central differences. */
#include "tests/unit/worker/model_ops_fixture.h"

enum { N = 2, A = 2, B = 3, C = 4, ELEMS = A * B * C };

static ls_model *single(const char *in, const char *class_name, const char *config) {
    char *layer = ls_xprintf("{\"class_name\": \"%s\", \"config\": {\"name\": \"layer\", %s}}", class_name, config);
    ls_model *m = build_sequential(in, layer);
    free(layer);
    return m;
}

/* ---- LayerNormalization over any axes of (A, B, C) ---- */

/* Where element e lies among the listed axes (bits), and whether two elements differ in those alone. */
static int inside(unsigned axes, int e) {
    int index[3] = {e / (B * C), e / C % B, e % C}, size[3] = {A, B, C}, at = 0;
    for (int i = 0; i < 3; i++) {
        at = axes >> i & 1u ? at * size[i] + index[i] : at;
    }
    return at;
}

static void layer_norm_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    unsigned axes = *(const unsigned *)f->reference_data;
    for (int n = 0; n < N; n++) {
        const double *x = in[0] + n * ELEMS;
        for (int e = 0; e < ELEMS; e++) {
            double sum = 0, square = 0, count = 0;
            for (int k = 0; k < ELEMS; k++) {
                if (inside(~axes, k) == inside(~axes, e)) {
                    sum += x[k];
                    square += x[k] * x[k];
                    count++;
                }
            }
            double mean = sum / count, variance = square / count - mean * mean;
            double y = (x[e] - mean) / sqrt(variance + 1e-3);
            out[n * ELEMS + e] = y * weight[0][inside(axes, e)] + weight[1][inside(axes, e)];
        }
    }
}

static void test_layer_normalization(void **state) {
    (void)state;
    static const struct {
        const char *config;
        unsigned axes;
    } cases[] = {{"\"axis\": -1", 4},     {"\"axis\": [1]", 1},    {"\"axis\": 2", 2},        {"\"axis\": [1, 3]", 5},
                 {"\"axis\": [1, 2]", 3}, {"\"axis\": [3, 2]", 6}, {"\"axis\": [1, 2, 3]", 7}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fx_check_model(single("2, 3, 4", "LayerNormalization", cases[i].config), layer_norm_reference, &cases[i].axes,
                       N);
    }
}

/* ---- Maxout ---- */

static void maxout_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    (void)weight;
    (void)f;
    for (int n = 0; n < N; n++) {
        for (int line = 0; line < 3; line++) {
            for (int u = 0; u < 2; u++) { /* unit u: the largest of channels u, u + 2, u + 4 */
                const double *x = in[0] + (n * 3 + line) * 6 + u;
                out[(n * 3 + line) * 2 + u] = fmax(x[0], fmax(x[2], x[4]));
            }
        }
    }
}

static void test_maxout(void **state) {
    (void)state;
    fx_check_model(single("3, 6", "Maxout", "\"num_units\": 2"), maxout_reference, NULL, N);
}

/* ---- Dot ---- */

typedef struct {
    bool normalize;
    int axes[2]; /* of a sample */
} dot_case;

static double unit(const double *x, int e, int axis, bool normalize) {
    int size[3] = {A, B, C}, step[3] = {B * C, C, 1};
    int first = e - e / step[axis] % size[axis] * step[axis];
    double sum = 0;
    for (int i = 0; i < size[axis]; i++) {
        sum += x[first + i * step[axis]] * x[first + i * step[axis]];
    }
    return normalize ? x[e] / sqrt(sum) : x[e];
}

/* Both inputs are (A, B, C) of the same axis: out (others of the first, others of the second). */
static void dot_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const dot_case *c = f->reference_data;
    unsigned own = 1u << c->axes[0];
    int size[3] = {A, B, C}, others = ELEMS / size[c->axes[0]];
    (void)weight;
    memset(out, 0, (size_t)(N * others * others) * sizeof *out);
    for (int n = 0; n < N; n++) {
        for (int i = 0; i < ELEMS; i++) {
            for (int j = 0; j < ELEMS; j++) {
                if (inside(own, i) == inside(own, j)) {
                    out[(n * others + inside(~own, i)) * others + inside(~own, j)] +=
                        unit(in[0] + n * ELEMS, i, c->axes[0], c->normalize) *
                        unit(in[1] + n * ELEMS, j, c->axes[0], c->normalize);
                }
            }
        }
    }
}

static void test_dot_along_every_axis(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        dot_case c = {i >= 3, {i % 3, i % 3}};
        char *text = ls_xprintf(
            "{\"class_name\": \"Functional\", \"config\": {\"layers\": [{\"class_name\": \"InputLayer\", \"config\": "
            "{\"batch_input_shape\": [null, 2, 3, 4], \"name\": \"a\"}, \"inbound_nodes\": []}, {\"class_name\": "
            "\"InputLayer\", \"config\": {\"batch_input_shape\": [null, 2, 3, 4], \"name\": \"b\"}, \"inbound_nodes\": "
            "[]}, {\"class_name\": \"Dot\", \"config\": {\"name\": \"d\", \"axes\": %s%d%s, \"normalize\": %s}, "
            "\"inbound_nodes\": [[[\"a\", 0, 0, {}], [\"b\", 0, 0, {}]]]}], \"input_layers\": [[\"a\", 0, 0], [\"b\", "
            "0, 0]], \"output_layers\": [[\"d\", 0, 0]]}}",
            i % 2 ? "[" : "", i % 3 + 1,
            i % 2 ? i % 3 == 0   ? ", 1]"
                    : i % 3 == 1 ? ", -2]"
                                 : ", -1]"
                  : "",
            c.normalize ? "true" : "false");
        fx_check_model(build(text), dot_reference, &c, N);
        free(text);
    }
}

/* ---- channels_first ---- */

enum { CIN = 2, H = 5, W = 6, F = 3 };

/* convolution 2x2, relu, then max pooling 2x2 over (C, H, W), and Flatten as `last` says: channels last or as they lie
 */
static void channels_first_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    bool last = *(const bool *)f->reference_data;
    enum { HO = (H - 1) / 2, WO = (W - 1) / 2 };
    for (int n = 0; n < N; n++) {
        for (int o = 0; o < F; o++) {
            for (int y = 0; y < HO; y++) {
                for (int x = 0; x < WO; x++) {
                    double top = -INFINITY;
                    for (int k = 0; k < 4; k++) {
                        double sum = weight[1][o];
                        for (int e = 0; e < 4 * CIN; e++) {
                            int row = 2 * y + k / 2 + e / CIN / 2, column = 2 * x + k % 2 + e / CIN % 2;
                            sum += in[0][((n * CIN + e % CIN) * H + row) * W + column] * weight[0][e * F + o];
                        }
                        top = fmax(top, fmax(sum, 0));
                    }
                    int at = last ? (y * WO + x) * F + o : (o * HO + y) * WO + x;
                    out[n * F * HO * WO + at] = top;
                }
            }
        }
    }
}

static void test_channels_first(void **state) {
    (void)state;
    static const char *const formats[] = {"channels_last", "channels_first"};
    for (int last = 0; last < 2; last++) {
        bool flag = last != 0;
        char *layers = ls_xprintf(
            "{\"class_name\": \"Conv2D\", \"config\": {\"name\": \"c\", \"filters\": 3, \"kernel_size\": 2, "
            "\"activation\": "
            "\"relu\", \"data_format\": \"channels_first\"}}, {\"class_name\": \"MaxPooling2D\", \"config\": "
            "{\"name\": "
            "\"p\", \"data_format\": \"channels_first\"}}, {\"class_name\": \"Flatten\", \"config\": {\"name\": \"f\", "
            "\"data_format\": \"%s\"}}",
            formats[last]);
        fx_check_model(build_sequential("2, 5, 6", layers), channels_first_reference, &flag, N);
        free(layers);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layer_normalization),
        cmocka_unit_test(test_maxout),
        cmocka_unit_test(test_dot_along_every_axis),
        cmocka_unit_test(test_channels_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
