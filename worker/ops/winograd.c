#include "worker/ops/winograd.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"
#include "worker/ops/winograd_kernels.h"

/* ---- sizes ---- */

/* Padding between rows and between places, so that they do not meet in the same sets of a cache. */
enum { GAP = 16 };

typedef struct sizes {
    size_t panel;                 /* columns of one */
    size_t n_panels;              /* of dst's channels */
    size_t in_c, out_c, padded_c; /* in_c in whole vectors */
    size_t word;                  /* inner factors in a word: 1, of half kernels 2 */
    size_t row_tiles;             /* tiles in a row of transformed patches */
    size_t lda;                   /* words between those rows */
    size_t block;                 /* tiles */
    size_t place, panel_place;    /* words from one place to the next: of patches, of a panel's tiles */
    size_t across, n_tiles;       /* tiles in a row; in all */
    size_t per_image;
    size_t kernel_place, sum_place; /* words from one place to the next: of weights, of their gradients */
    size_t sum_c;                   /* input channels whose sums are held at a time */
} sizes;

/* Bytes of the transformed patches of a block: what leaves room for weights and results in a second-level cache of
 * 1 MiB. With half kernels a product takes less time than to fetch its sums, once a block: fewer and larger ones then.
 */
enum { APPLY_BLOCK = 250 << 10, GRADIENT_BLOCK = 600 << 10, GRADIENT_BLOCK_HALF = 2400 << 10 };

/* How much of a matrix product's inner dimension is left in words. */
static size_t words(const sizes *s, size_t n) {
    return (n + s->word - 1) / s->word;
}

static void cut_blocks(sizes *s, size_t n_tiles) {
    s->block = n_tiles;
    s->place = (n_tiles + s->row_tiles - 1) / s->row_tiles * s->lda + GAP;
    s->panel_place = (n_tiles + s->row_tiles - 1) / s->row_tiles * s->panel + GAP;
}

/* tiles_inside: products run over tiles (for the gradient of weights), not over channels. */
static sizes measure(const ls_wino *w, size_t target, bool tiles_inside) {
    size_t width = (size_t)w->kernels->width;
    sizes s = {.panel = (size_t)w->out_c > width ? 2 * width : width,
               .in_c = (size_t)w->in_c,
               .out_c = (size_t)w->out_c,
               .word = w->kernels->half ? 2 : 1};
    size_t rows = (size_t)w->kernels->rows;
    s.n_panels = (s.out_c + s.panel - 1) / s.panel;
    s.padded_c = ls_align_up(s.in_c, width);
    s.row_tiles = tiles_inside ? s.word : 1;
    s.lda = (tiles_inside ? s.padded_c : words(&s, s.padded_c)) + GAP;
    size_t block = target / (LS_WINO_PLACES * s.lda * sizeof(float)) * s.row_tiles / rows * rows;
    cut_blocks(&s, block < rows ? rows : block);
    s.kernel_place = words(&s, s.in_c) * s.panel + GAP;
    s.across = (size_t)(w->out_w + LS_WINO_TILE - 1) / LS_WINO_TILE;
    s.per_image = s.across * ((size_t)(w->out_h + LS_WINO_TILE - 1) / LS_WINO_TILE);
    s.n_tiles = (size_t)w->n * s.per_image;
    return s;
}

/* ---- where the pixels of a tile are ---- */

typedef struct image {
    const char *base;
    int64_t h, w, c;
    size_t elem;
} image;

/* The `side` * `side` pixels from (y, x) of image i on; `beyond` stands for those outside. */
static void find_pixels(const image *m, size_t i, int64_t y, int64_t x, int side, const void *beyond,
                        const void **pixels) {
    size_t pixel = (size_t)m->c * m->elem;
    for (int a = 0; a < side; a++, y++) {
        bool inside = y >= 0 && y < m->h;
        const char *row = m->base + ((size_t)((int64_t)i * m->h + (inside ? y : 0)) * (size_t)m->w) * pixel;
        for (int b = 0; b < side; b++) {
            int64_t at = x + b;
            pixels[a * side + b] = inside && at >= 0 && at < m->w ? row + (size_t)at * pixel : beyond;
        }
    }
}

typedef struct tile_at {
    size_t image;
    int64_t y, x; /* first output pixel */
} tile_at;

static tile_at tile_number(const sizes *s, size_t t) {
    size_t rest = t % s->per_image;
    return (tile_at){t / s->per_image, (int64_t)(rest / s->across) * LS_WINO_TILE,
                     (int64_t)(rest % s->across) * LS_WINO_TILE};
}

static void find_patch(const ls_wino *w, const sizes *s, const image *src, const void *zeros, size_t t,
                       const void **pixels) {
    tile_at at = tile_number(s, t);
    find_pixels(src, at.image, at.y - w->pad_top, at.x - w->pad_left, LS_WINO_PATCH, zeros, pixels);
}

ls_wino ls_wino_mirror(const ls_wino *w) {
    return (ls_wino){.n = w->n,
                     .in_h = w->out_h,
                     .in_w = w->out_w,
                     .in_c = w->out_c,
                     .out_h = w->in_h,
                     .out_w = w->in_w,
                     .out_c = w->in_c,
                     .pad_top = 2 - w->pad_top,
                     .pad_left = 2 - w->pad_left,
                     .dtype = w->dtype,
                     .kernels = w->kernels};
}

/* ---- when it pays ---- */

const ls_wino_kernels *ls_wino_kernels_for(const char *isa, bool half) {
    if (strncmp(isa, "avx512_core_bf16", 16) == 0 || strncmp(isa, "avx512_core_amx", 15) == 0) {
        return half ? ls_wino_avx512_bf16 : ls_wino_avx512_bf16_full;
    }
    if (half) {
        return NULL;
    }
    return strncmp(isa, "avx512_core", 11) == 0 ? ls_wino_avx512 : strncmp(isa, "avx2", 4) == 0 ? ls_wino_avx2 : NULL;
}

/* In f32 multiply-adds of one channel; fitted to measurements on a Zen 4: a tile's transform and the memory it moves,
 * and the transforms of a kernel, which a step does once for a batch, here of 16. */
static double cost(const ls_wino *w) {
    const double tile_cost = w->dtype == LS_BF16 ? 400 : 600, kernel_cost = 600.0 / 16;
    sizes s = measure(w, 0, false);
    double in = (double)s.padded_c, out = (double)(s.n_panels * s.panel);
    return (double)s.per_image * (LS_WINO_PLACES * (double)w->in_c / (double)s.word * out + tile_cost * (in + out)) +
           kernel_cost * in * out;
}

bool ls_wino_pays(const ls_wino *forward, const ls_wino *backward, double direct_speed) {
    const ls_wino *w = forward;
    ls_wino mirror = ls_wino_mirror(backward);
    double direct = 9.0 * (double)(w->out_h * w->out_w) * (double)(w->in_c * w->out_c) / direct_speed;
    /* The gradient of the weights costs what the forward pass does. Few channels leave no work for a product. */
    return w->in_c >= 16 && w->out_c >= 16 && cost(forward) + cost(backward) + cost(&mirror) < 0.95 * 3 * direct;
}

/* ---- weights: [panel][place][words of in_c][2V], a gap after each place ---- */

size_t ls_wino_weight_elems(const ls_wino *w) {
    sizes s = measure(w, 0, false);
    return s.n_panels * LS_WINO_PLACES * s.kernel_place;
}

typedef struct weights_work {
    const ls_wino *w;
    sizes s;
    const float *weights;
    bool mirrored;
    float *to;
} weights_work;

enum { WIDEST = 16 };

/* Where the kernels of input channel k and the n output channels from o on are, `stride` floats from pixel to pixel: in
 * the weights or, for a mirror, copied to `copy`. */
static const float *find_kernels(const weights_work *j, size_t k, size_t o, size_t n, float *copy, size_t *stride) {
    const sizes *s = &j->s;
    size_t all = s->in_c * s->out_c;
    if (!j->mirrored) {
        *stride = all;
        return j->weights + k * s->out_c + o;
    }
    *stride = WIDEST;
    for (size_t pixel = 0; pixel < 9; pixel++) {
        const float *from = j->weights + (8 - pixel) * all + o * s->in_c + k;
        for (size_t i = 0; i < n; i++) {
            copy[pixel * WIDEST + i] = from[i * s->in_c];
        }
    }
    return copy;
}

/* A word's input channels from k on. */
static void one_vector(const weights_work *j, size_t k, size_t o, size_t n, float *to) {
    const sizes *s = &j->s;
    float copy[2][9 * WIDEST];
    size_t stride = 0;
    const float *first = find_kernels(j, k, o, n, copy[0], &stride), *second = NULL;
    if (s->word > 1 && k + 1 < s->in_c) {
        second = find_kernels(j, k + 1, o, n, copy[1], &stride);
    }
    j->w->kernels->weights(first, second, stride, n, to, s->kernel_place);
}

static void weights_range(void *context, size_t begin, size_t end) {
    const weights_work *j = context;
    const sizes *s = &j->s;
    size_t width = (size_t)j->w->kernels->width;
    for (size_t p = begin; p < end; p++) {
        float *to = j->to + p * LS_WINO_PLACES * s->kernel_place;
        for (size_t k = 0; k < s->in_c; k += s->word) {
            for (size_t o = p * s->panel; o < (p + 1) * s->panel; o += width, to += width) {
                if (o < s->out_c) {
                    one_vector(j, k, o, s->out_c - o < width ? s->out_c - o : width, to);
                    continue;
                }
                for (size_t place = 0; place < LS_WINO_PLACES; place++) {
                    memset(to + place * s->kernel_place, 0, width * sizeof(float));
                }
            }
        }
    }
}

void ls_wino_weights(const ls_wino *w, int n_threads, const float *weights, bool mirrored, float *to) {
    weights_work j = {w, measure(w, 0, false), weights, mirrored, to};
    ls_ops_parallel(n_threads, j.s.n_panels, 1, weights_range, &j);
}

/* ---- forward ---- */

typedef struct apply_work {
    const ls_wino *w;
    sizes s;
    image src, dst;
    const float *transformed, *bias;
    bool relu;
    char *scratch;
    size_t n_slices, slice_bytes;
} apply_work;

/* Zeros in the place of pixels beyond src, and room for those beyond dst. */
static size_t beyond_bytes(const sizes *s) {
    return ls_align_up((s->in_c > s->out_c ? s->in_c : s->out_c) * sizeof(float), LS_ALIGN);
}

static size_t slice_bytes(const sizes *s) {
    return LS_WINO_PLACES * (s->place + s->panel_place) * sizeof(float) + 2 * beyond_bytes(s);
}

static void apply_block(const apply_work *j, size_t first, size_t n, char *scratch) {
    const sizes *s = &j->s;
    const ls_wino_kernels *kernels = j->w->kernels;
    float *patches = (float *)scratch, *sums = patches + LS_WINO_PLACES * s->place;
    char *zeros = (char *)(sums + LS_WINO_PLACES * s->panel_place), *beyond = zeros + beyond_bytes(s);
    for (size_t t = 0; t < n; t++) {
        const void *pixels[LS_WINO_PLACES];
        find_patch(j->w, s, &j->src, zeros, first + t, pixels);
        kernels->patch(pixels, j->w->dtype, 0, s->in_c, patches + t * s->lda, s->place);
    }
    const float *weights = j->transformed;
    for (size_t p = 0; p < s->n_panels; p++) {
        size_t c = p * s->panel, n_c = s->out_c - c < s->panel ? s->out_c - c : s->panel;
        for (size_t place = 0; place < LS_WINO_PLACES; place++, weights += s->kernel_place) {
            kernels->product((n + 3) / 4 * 4, words(s, s->in_c), s->panel, patches + place * s->place, s->lda, weights,
                             sums + place * s->panel_place);
        }
        for (size_t t = 0; t < n; t++) {
            const void *pixels[LS_WINO_TILE * LS_WINO_TILE];
            tile_at at = tile_number(s, first + t);
            find_pixels(&j->dst, at.image, at.y, at.x, LS_WINO_TILE, beyond, pixels);
            kernels->tile(sums + t * s->panel, s->panel_place, j->bias, j->relu, (void *const *)pixels, j->w->dtype, c,
                          n_c);
        }
    }
}

/* Every n_slices-th block belongs to a slice; a slice has its own scratch memory. */
static void apply_slices(void *context, size_t begin, size_t end) {
    const apply_work *j = context;
    const sizes *s = &j->s;
    for (size_t i = begin; i < end; i++) {
        char *scratch = j->scratch + i * j->slice_bytes;
        memset(scratch, 0, j->slice_bytes);
        for (size_t first = i * s->block; first < s->n_tiles; first += j->n_slices * s->block) {
            size_t n = s->n_tiles - first < s->block ? s->n_tiles - first : s->block;
            apply_block(j, first, n, scratch);
        }
    }
}

size_t ls_wino_apply_bytes(const ls_wino *w, int n_threads) {
    sizes s = measure(w, APPLY_BLOCK, false);
    return (size_t)n_threads * ls_align_up(slice_bytes(&s), LS_ALIGN);
}

void ls_wino_apply(const ls_wino *w, int n_threads, const void *src, const float *transformed, const float *bias,
                   bool relu, void *dst, void *scratch) {
    size_t elem = ls_dtype_bytes(w->dtype);
    apply_work j = {.w = w,
                    .s = measure(w, APPLY_BLOCK, false),
                    .src = {src, w->in_h, w->in_w, w->in_c, elem},
                    .dst = {dst, w->out_h, w->out_w, w->out_c, elem},
                    .transformed = transformed,
                    .bias = bias,
                    .relu = relu,
                    .scratch = scratch,
                    .n_slices = (size_t)n_threads};
    j.slice_bytes = ls_align_up(slice_bytes(&j.s), LS_ALIGN);
    ls_ops_parallel(n_threads, j.n_slices, 1, apply_slices, &j);
}

/* ---- gradient of the weights ---- */

static bool one_block(const sizes *s) {
    return s->n_tiles <= s->block;
}

/* Few tiles are one block, and what is summed up for some input channels of a panel can be brought back while it is in
 * the second-level cache. */
static sizes measure_gradient(const ls_wino *w) {
    enum { FEW = 64, FEW_CHANNELS = 32 };
    sizes s = measure(w, w->kernels->half ? GRADIENT_BLOCK_HALF : GRADIENT_BLOCK, true);
    if (s.n_tiles <= FEW) {
        cut_blocks(&s, s.n_tiles);
    }
    s.sum_c = one_block(&s) && s.padded_c > FEW_CHANNELS ? FEW_CHANNELS : s.padded_c;
    s.sum_place = s.sum_c * s.panel + GAP;
    return s;
}

typedef struct gradient_work {
    const ls_wino *w;
    sizes s;
    image src, ddst;
    float *patches;  /* [place][row of block][lda] */
    float *tiles;    /* [panel][place][row of block][2V]: gradients of the outputs; a panel each thread at a time */
    float *sums;     /* [panel][place][sum_c][2V], of all panels or of one a thread */
    float *bias_sum; /* [panel][2V] */
    char *zeros;
    float *dweights, *dbias;
    size_t first, n; /* tiles of the block */
    size_t n_slices;
} gradient_work;

/* Where a block's tile t is; all zeros beyond its last. */
static void find_block_pixels(const gradient_work *j, size_t t, bool patch, const void **pixels) {
    int n = patch ? LS_WINO_PLACES : LS_WINO_TILE * LS_WINO_TILE;
    if (t >= j->n) {
        for (int i = 0; i < n; i++) {
            pixels[i] = j->zeros;
        }
    } else if (patch) {
        find_patch(j->w, &j->s, &j->src, j->zeros, j->first + t, pixels);
    } else {
        tile_at at = tile_number(&j->s, j->first + t);
        find_pixels(&j->ddst, at.image, at.y, at.x, LS_WINO_TILE, j->zeros, pixels);
    }
}

/* Rows of transformed patches. */
static void patches_range(void *context, size_t begin, size_t end) {
    const gradient_work *j = context;
    const sizes *s = &j->s;
    const void *pixels[2][LS_WINO_PLACES];
    for (size_t row = begin; row < end; row++) {
        float *to = j->patches + row * s->lda;
        find_block_pixels(j, row * s->row_tiles, true, pixels[0]);
        if (s->row_tiles == 1) {
            j->w->kernels->patch(pixels[0], j->w->dtype, 0, s->in_c, to, s->place);
            continue;
        }
        find_block_pixels(j, row * s->row_tiles + 1, true, pixels[1]);
        j->w->kernels->patch_pair(pixels[0], pixels[1], j->w->dtype, 0, s->in_c, to, s->place);
    }
}

/* The gradients of a block's outputs in a panel. */
static void panel_tiles(const gradient_work *j, size_t p, float *tiles) {
    const sizes *s = &j->s;
    float bias[2 * WIDEST] = {0};
    size_t c = p * s->panel, n_c = s->out_c - c < s->panel ? s->out_c - c : s->panel, rows = words(s, j->n);
    for (size_t row = 0; row < rows; row++) {
        const void *pixels[2][LS_WINO_TILE * LS_WINO_TILE];
        for (size_t i = 0; i < s->row_tiles; i++) {
            find_block_pixels(j, row * s->row_tiles + i, false, pixels[i]);
        }
        j->w->kernels->gradient(pixels[0], pixels[1], j->w->dtype, c, n_c, tiles + row * s->panel, s->panel_place,
                                bias);
    }
    for (size_t i = 0; i < s->panel; i++) {
        j->bias_sum[c + i] += bias[i];
    }
}

/* The gradients of a panel's kernels of the input channels [first, end). */
static void finish_panel(const gradient_work *j, size_t p, const float *sums, size_t first, size_t end) {
    const sizes *s = &j->s;
    size_t width = (size_t)j->w->kernels->width;
    for (size_t k = first; k < end && k < s->in_c; k++, sums += s->panel) {
        for (size_t i = 0; i < s->panel && p * s->panel + i < s->out_c; i += width) {
            size_t o = p * s->panel + i, n = s->out_c - o < width ? s->out_c - o : width;
            j->w->kernels->dweights(sums + i, s->sum_place, n, j->dweights + k * s->out_c + o, s->in_c * s->out_c);
        }
    }
}

static void gradient_panel(const gradient_work *j, size_t p, float *tiles, float *sums) {
    const sizes *s = &j->s;
    panel_tiles(j, p, tiles);
    for (size_t first = 0; first < s->padded_c; first += s->sum_c) {
        size_t n = s->padded_c - first < s->sum_c ? s->padded_c - first : s->sum_c;
        for (size_t place = 0; place < LS_WINO_PLACES; place++) {
            j->w->kernels->product_t(n, words(s, j->n), s->panel, j->patches + place * s->place + first, s->lda,
                                     tiles + place * s->panel_place, sums + place * s->sum_place, j->first > 0);
        }
        if (j->first + j->n == s->n_tiles) {
            finish_panel(j, p, sums, first, first + n);
        }
    }
}

/* Every n_slices-th panel belongs to a slice; with one block, a slice's panels use the same memory. */
static void gradient_slices(void *context, size_t begin, size_t end) {
    const gradient_work *j = context;
    size_t each = LS_WINO_PLACES * j->s.sum_place;
    for (size_t i = begin; i < end; i++) {
        for (size_t p = i; p < j->s.n_panels; p += j->n_slices) {
            float *sums = j->sums + (one_block(&j->s) ? i : p) * each;
            gradient_panel(j, p, j->tiles + i * LS_WINO_PLACES * j->s.panel_place, sums);
        }
    }
}

typedef struct gradient_memory {
    size_t patches, tiles, sums, bias, zeros; /* floats */
} gradient_memory;

static gradient_memory gradient_sizes(const sizes *s, int n_threads) {
    size_t slices = (size_t)n_threads, panels = one_block(s) && slices < s->n_panels ? slices : s->n_panels;
    return (gradient_memory){LS_WINO_PLACES * s->place, slices * LS_WINO_PLACES * s->panel_place,
                             panels * LS_WINO_PLACES * s->sum_place, s->n_panels * s->panel,
                             beyond_bytes(s) / sizeof(float)};
}

size_t ls_wino_gradient_bytes(const ls_wino *w, int n_threads) {
    sizes s = measure_gradient(w);
    gradient_memory m = gradient_sizes(&s, n_threads);
    return (m.patches + m.tiles + m.sums + m.bias + m.zeros) * sizeof(float);
}

void ls_wino_gradient(const ls_wino *w, int n_threads, const void *src, const void *ddst, float *dweights, float *dbias,
                      void *scratch) {
    size_t elem = ls_dtype_bytes(w->dtype);
    gradient_work j = {.w = w,
                       .s = measure_gradient(w),
                       .src = {src, w->in_h, w->in_w, w->in_c, elem},
                       .ddst = {ddst, w->out_h, w->out_w, w->out_c, elem},
                       .dweights = dweights,
                       .n_slices = (size_t)n_threads};
    gradient_memory m = gradient_sizes(&j.s, n_threads);
    j.patches = scratch;
    j.tiles = j.patches + m.patches;
    j.sums = j.tiles + m.tiles;
    j.bias_sum = j.sums + m.sums;
    j.zeros = (char *)(j.bias_sum + m.bias);
    memset(j.bias_sum, 0, (m.bias + m.zeros) * sizeof(float));
    for (j.first = 0; j.first < j.s.n_tiles; j.first += j.s.block) {
        j.n = j.s.n_tiles - j.first < j.s.block ? j.s.n_tiles - j.first : j.s.block;
        size_t rows = words(&j.s, j.n);
        ls_ops_parallel(n_threads, rows, (rows + j.n_slices - 1) / j.n_slices, patches_range, &j);
        ls_ops_parallel(n_threads, j.n_slices, 1, gradient_slices, &j);
    }
    if (dbias != NULL) {
        memcpy(dbias, j.bias_sum, j.s.out_c * sizeof *dbias);
    }
}
