/* The operators of domain `ampgraph`, all float16 with channels last, as onnxruntime's custom operators on CUDA.
 *
 * Conv(x, w, bias, z?, scale?): act(conv(x * scale, w) + bias + z), with late=1 z added after the activation, with
 * late=2 likewise, z being a number for each channel in float32; w lies K, R, S, C; scale N, C.
 * TransposedConv(x, w, bias, z?): likewise, w lies C, R, S, K; onnxruntime leaves what is called ConvTranspose and has
 * uneven pads to the CPU, whoever's it is.
 * Linear(x, w, bias?, z?): act(x w^T + bias + z) over rows; without a bias the product alone.
 * DepthwiseConv(x, w, bias, after?) -> y, means?: act(conv(x, w) + bias), with `after` (2, C) times its first row plus its
 * second; w lies R, S, C, in float32 like the other two; means: N, parts, C in float32, which add up to the mean of y.
 * Excite(means, w1, b1, w2, b2): gate(w2^T act(w1 means + b1) + b2), N, C; w1 and w2 lie hidden, C; all in float32.
 * Scaled(x, scale): x * scale, with added=1 x * scale + x; scale N, C.
 * MaxPool(x), AveragePool(x), Mean(x) -> N, C, 1, 1, with keepdims=0 N, C; Image(x): N, C, H, W of float32 or float16 -> N, H, W, 8,
 * with block=2 N, H / 2, W / 2, 16; Gated(a, b?, bias?): act(a) * b, with second=1 a * act(b); without b,
 * of the halves of a's rows, both after the bias. Rotary(x, positions, cos, sin) -> q, k, v: parts of x's rows, q and k
 * `width` wide and turned by their positions.
 * GroupNorm(x, gamma, beta, offset?) -> y, moments: act of x + offset (N, C, ...) normalized in `groups`, times gamma,
 * plus beta; with first=1 x lies N, C, H, W, in float32 or float16. Residual(x, z): x + z as float32, x and what is
 * made with channels first. Rows(x, places): N, M, C, rows `places` (M) of x: N, L, C.
 * LayerNorm(x, gamma, beta?, skip?, bias?, places?, beside?) -> y, sum?: rows of x + skip + bias, which is the sum,
 * normalized, times gamma, plus beta; with simple=1 without taking off the mean. skip has the rows of x, or fewer that
 * come over and over; with `beside` (L) an image of L rows adds its rows of skip at these places. With `places` (M) y is
 * N, M, C: of every `length` rows those at these places. What y has no row of may be missing from the sum.
 *
 * What a first run on new sizes finds out and allocates, later runs use: those can be captured. Runs of one session
 * are one after the other, since its kernels share what they work in. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conv.h"
#include "gpu.h"
#include "ort.h"
#include "scratch.h"

enum { MOST_INPUTS = 7, MOST_OUTPUTS = 3, MOST_RANK = 8 };

typedef struct Array {
    const void *data; /* NULL: left out */
    int64_t size[MOST_RANK];
    size_t rank;
    int type;
} Array;

typedef struct Sized {
    Problem problem;
    const Way *way;
    Scratch *space;
    struct Sized *next;
} Sized;

typedef struct Node Node;

typedef struct Call {
    Api *api;
    Context *context;
    Gpu *gpu;
    Stream *stream;
    Array in[MOST_INPUTS];
    size_t outputs;
    Status *status; /* the first failure */
} Call;

struct Node {
    Api *api;
    void (*compute)(Node *, Call *);
    int64_t strides[2], pads[4], dilations[2], kernel[2], wider[2];
    int64_t block, turned, groups, first, second, simple, length, late, bordered, keepdims, added;
    float epsilon;
    int act, gate;
    Sized *known;
};

typedef struct Operator {
    CustomOp interface; /* first: onnxruntime hands it back */
    const char *name;
    void (*compute)(Node *, Call *);
    int inputs, needed, outputs, types[MOST_INPUTS], made[MOST_OUTPUTS];
} Operator;

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static void fail(Call *call, const char *said) {
    if (!call->status) call->status = create_status(call->api)(FAIL, said);
}

static void check(Call *call, Status *status) {
    if (!status) return;
    if (call->status) release_status(call->api)(status);
    else call->status = status;
}

static void fail_without(Call *call, const char *gpu_said) {
    char said[280];
    snprintf(said, sizeof said, "ampgraph: %s", gpu_said);
    fail(call, said);
}

static void fail_with(Call *call, const char *what, int code) {
    char said[96];
    snprintf(said, sizeof said, "ampgraph: %s gives error %d", what, code);
    fail(call, said);
}

static Array array(Call *call, size_t index) {
    Array found = {0};
    const Value *value = NULL;
    TensorInfo *info = NULL;
    void *data = NULL;
    check(call, input_at(call->api)(call->context, index, &value));
    if (!value || call->status) return found;
    check(call, tensor_data(call->api)((Value *)value, &data));
    check(call, info_of(call->api)(value, &info));
    if (!info) return found;
    check(call, rank_of(call->api)(info, &found.rank));
    check(call, type_of(call->api)(info, &found.type));
    if (found.rank <= MOST_RANK) check(call, dims_of(call->api)(info, found.size, found.rank));
    else fail(call, "ampgraph: too many axes");
    release_info(call->api)(info);
    found.data = data;
    return found;
}

static void *output(Call *call, size_t index, const int64_t *size, size_t rank) {
    Value *value = NULL;
    void *data = NULL;
    if (!call->status) check(call, output_at(call->api)(call->context, index, size, rank, &value));
    if (value) check(call, tensor_data(call->api)(value, &data));
    return data;
}

static void start(Call *call, enum Kernel which, Size grid, Size block, unsigned shared, void **arguments) {
    if (call->status || !grid.x || !grid.y || !grid.z) return;
    int code = launch(call->gpu, which, grid, block, shared, call->stream, arguments);
    if (code) fail_with(call, "a kernel's launch", code);
}

static Size blocks(int64_t threads) {
    return (Size){(unsigned)((threads + 255) / 256), 1, 1};
}

static const Size BLOCK = {256, 1, 1};

static int64_t reached(int64_t size, int64_t pads, int64_t kernel, int64_t dilation, int64_t stride) {
    return (size + pads - dilation * (kernel - 1) - 1) / stride + 1;
}

static int64_t reached_up(int64_t size, int64_t block) {
    return (size + block - 1) / block;
}

static int64_t rows_of(const Array *x) {
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < x->rank; ++i) rows *= x->size[i];
    return rows;
}

/* N, H, W, C of what a window over x gives. */
static void window_size(const Node *node, const Array *x, int64_t kernel_h, int64_t kernel_w, int64_t size[4]) {
    size[0] = x->size[0];
    size[1] = reached(x->size[1], node->pads[0] + node->pads[2], kernel_h, node->dilations[0], node->strides[0]);
    size[2] = reached(x->size[2], node->pads[1] + node->pads[3], kernel_w, node->dilations[1], node->strides[1]);
    size[3] = x->size[3];
}

static const Sized *sized(Node *node, Call *call, const Problem *problem, const Tensors *at) {
    for (const Sized *each = node->known; each; each = each->next)
        if (!memcmp(&each->problem, problem, sizeof *problem)) return each;
    int capturing = 0;
    if (call->gpu->is_capturing(call->stream, &capturing) || capturing) {
        fail(call, "ampgraph: sizes that were not run before graph capture");
        return NULL;
    }
    Sized *more = calloc(1, sizeof *more);
    if (more) {
        more->problem = *problem;
        more->way = fastest_way(call->gpu, problem, at, call->stream);
    }
    if (more && more->way && room(more->way)) more->space = share(call->gpu, call->stream, room(more->way));
    if (!more || !more->way || (room(more->way) && !more->space)) {
        fail(call, "ampgraph: there is no kernel for a convolution or product, or no memory");
        free(more);
        return NULL;
    }
    more->next = node->known;
    node->known = more;
    return more;
}

static void solve(Node *node, Call *call, const Problem *problem, const Tensors *at) {
    pthread_mutex_lock(&guard);
    const Sized *known = sized(node, call, problem, at);
    pthread_mutex_unlock(&guard);
    if (!known) return;
    int code = convolve(call->gpu, known->way, problem, at, place(known->space), call->stream);
    if (code) fail_with(call, "a convolution", code);
}

static void convolve_image(Node *node, Call *call, const int64_t size[4], int transposed) {
    const Array *x = &call->in[0], *w = &call->in[1], *z = &call->in[3];
    if (z->data && z->type != (node->late == LATE_ROW - RESIDUAL ? FLOAT : FLOAT16))
        return fail(call, "ampgraph: Conv adds images of float16, rows of float32");
    Problem problem = {
        .batch = x->size[0], .height = x->size[1], .width = x->size[2], .channels = x->size[3],
        .depth = transposed ? x->size[3] : w->size[3], .out_channels = size[3], .out_height = size[1],
        .out_width = size[2], .kernel_h = w->size[1], .kernel_w = w->size[2], .stride_h = node->strides[0],
        .stride_w = node->strides[1], .top = node->pads[0], .left = node->pads[1], .bottom = node->pads[2],
        .right = node->pads[3], .dilation_h = node->dilations[0], .dilation_w = node->dilations[1], .act = node->act,
        .residual = z->data ? RESIDUAL + node->late : NO_RESIDUAL,
        .scaled = call->in[4].data != NULL, .biased = 1, .transposed = transposed,
    };
    Tensors at = {x->data, w->data, call->in[2].data, z->data, call->in[4].data, output(call, 0, size, 4)};
    if (call->status || size[0] * size[1] * size[2] == 0) return;
    solve(node, call, &problem, &at);
}

static void conv(Node *node, Call *call) {
    const Array *x = &call->in[0], *w = &call->in[1];
    int64_t size[4];
    window_size(node, x, w->size[1], w->size[2], size);
    size[3] = w->size[0];
    convolve_image(node, call, size, 0);
}

static void conv_transpose(Node *node, Call *call) {
    const Array *x = &call->in[0], *w = &call->in[1];
    int64_t size[4] = {x->size[0], 0, 0, w->size[3]};
    for (int i = 0; i < 2; ++i)
        size[1 + i] = (x->size[1 + i] - 1) * node->strides[i] + node->dilations[i] * (w->size[1 + i] - 1) + 1 -
                      node->pads[i] - node->pads[2 + i] + node->wider[i];
    convolve_image(node, call, size, 1);
}

/* The same over rows of any rank: pixels, tokens. */
static void linear(Node *node, Call *call) {
    const Array *x = &call->in[0], *w = &call->in[1];
    if (!x->rank || w->rank != 2) return fail(call, "ampgraph: Linear takes rows and a matrix");
    if (!call->in[2].data && (node->act || call->in[3].data)) return fail(call, "ampgraph: Linear lacks its bias");
    int64_t size[MOST_RANK], rows = rows_of(x);
    memcpy(size, x->size, sizeof size);
    size[x->rank - 1] = w->size[0];
    int64_t batch = x->rank > 2 ? x->size[0] : 1, height = x->rank == 4 ? x->size[1] : 1;
    void *y = output(call, 0, size, x->rank);
    if (call->status || rows == 0) return;
    int64_t width = rows / batch / height;
    Problem problem = {
        .batch = batch, .height = height, .width = width, .channels = w->size[1],
        .depth = w->size[1], .out_channels = w->size[0],
        .out_height = height, .out_width = width, .kernel_h = 1, .kernel_w = 1, .stride_h = 1, .stride_w = 1,
        .dilation_h = 1, .dilation_w = 1, .act = node->act, .residual = call->in[3].data != NULL,
        .biased = call->in[2].data != NULL,
    };
    solve(node, call, &problem, &(Tensors){x->data, w->data, call->in[2].data, call->in[3].data, NULL, y});
}

typedef struct Window {
    int height, width, vectors, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, top, left;
} Window;

static Window window(const Node *node, const Array *x, const int64_t size[4]) {
    return (Window){(int)x->size[1], (int)x->size[2], (int)(x->size[3] / 8), (int)size[1], (int)size[2],
                    (int)node->kernel[0], (int)node->kernel[1], (int)node->strides[0], (int)node->strides[1],
                    (int)node->pads[0], (int)node->pads[1]};
}

static void pool(Node *node, Call *call, enum Kernel which) {
    const Array *x = &call->in[0];
    int64_t size[4];
    window_size(node, x, node->kernel[0], node->kernel[1], size);
    void *y = output(call, 0, size, 4);
    int total = (int)(size[0] * size[1] * size[2] * size[3] / 8), bordered = (int)node->bordered;
    Window at = window(node, x, size);
    void *arguments[] = {(void *)&x->data, &y, &total, &at, &bordered};
    start(call, which, blocks(total), BLOCK, 0, arguments);
}

static void max_pool(Node *node, Call *call) {
    pool(node, call, MAX_POOL);
}

static void average_pool(Node *node, Call *call) {
    pool(node, call, AVERAGE_POOL);
}

static void mean_into(Call *call, void *y, void *wide) {
    const Array *x = &call->in[0];
    int pixels = (int)(x->size[1] * x->size[2]), vectors = (int)(x->size[3] / 8);
    void *arguments[] = {(void *)&x->data, &y, &wide, &pixels, &vectors};
    start(call, MEAN, (Size){(unsigned)(vectors + 3) / 4, (unsigned)x->size[0], 1}, (Size){4, 64, 1}, 0, arguments);
}

static void mean(Node *node, Call *call) {
    int64_t size[4] = {call->in[0].size[0], call->in[0].size[3], 1, 1};
    mean_into(call, output(call, 0, size, node->keepdims ? 4 : 2), NULL);
}

/* As a depthwise convolution gives them beside its image, in one part. */
static void means(Node *node, Call *call) {
    (void)node;
    int64_t size[3] = {call->in[0].size[0], 1, call->in[0].size[3]};
    mean_into(call, NULL, output(call, 0, size, 3));
}

static void image(Node *node, Call *call) {
    const Array *x = &call->in[0];
    int64_t block = node->block, size[4] = {x->size[0], reached_up(x->size[2], block), reached_up(x->size[3], block), 8};
    if (block > 1) size[3] = 16;
    void *y = output(call, 0, size, 4);
    int channels = (int)x->size[1], height = (int)x->size[2], width = (int)x->size[3];
    int total = (int)(size[0] * size[1] * size[2]), pixels = height * width, is_float = x->type == FLOAT;
    void *plain[] = {(void *)&x->data, &y, &total, &channels, &pixels};
    void *blocked[] = {(void *)&x->data, &y, &total, &channels, &height, &width};
    if (block > 1)
        start(call, is_float ? IMAGE_BLOCKS_FLOAT : IMAGE_BLOCKS_HALF, blocks(total), BLOCK, 0, blocked);
    else
        start(call, is_float ? IMAGE_FLOAT : IMAGE_HALF, blocks(total), BLOCK, 0, plain);
}

static void affine(Node *node, Call *call) {
    const Array *x = &call->in[0];
    void *y = output(call, 0, x->size, 4);
    int vectors = (int)(x->size[3] / 8), total = (int)(x->size[0] * x->size[1] * x->size[2]) * vectors;
    void *arguments[] = {(void *)&x->data, (void *)&call->in[1].data, (void *)&call->in[2].data, &y, &total, &vectors,
                         &node->act};
    start(call, AFFINE, blocks(total), BLOCK, 0, arguments);
}

enum { DEPTHWISE_THREADS = 128, MOST_VECTORS = 32, MOST_SHARED = 40 << 10 };

/* Vectors of a block: the most that divide them all, and whose weights fit into what shared memory a block has. */
static int vectors_of_block(int vectors, int64_t taps) {
    int most = vectors < MOST_VECTORS ? vectors : MOST_VECTORS;
    while (vectors % most || taps * most * 32 > MOST_SHARED) --most;
    return most;
}

enum { ENOUGH_THREADS = 24000, WIDE_TILE = 7, NARROW_TILE = 2 };

/* Of a row, each of pixels `gap` apart. */
static int64_t tiles_across(int64_t width, int tile, int gap) {
    return reached_up(width, (int64_t)tile * gap) * gap;
}

/* The kernel and how many pixels a thread has: many where that leaves threads enough for the device. */
static enum Kernel depthwise_kernel(const Node *node, int64_t wide_threads, int *tile) {
    int is_wide = wide_threads >= ENOUGH_THREADS, size = (int)(node->kernel[0] - 3) / 2;
    if (node->dilations[0] > 1 || node->dilations[1] > 1) {
        *tile = is_wide ? WIDE_TILE : NARROW_TILE;
        return (enum Kernel)((is_wide ? DILATED_3_7 : DILATED_3_2) + size);
    }
    int place = node->kernel[0] == 7 ? 4 : (node->kernel[0] == 5 ? 2 : 0) + (node->strides[1] == 2);
    *tile = is_wide ? WIDE_TILE : NARROW_TILE;
    return (enum Kernel)((is_wide ? DEPTHWISE_3_1_7 : DEPTHWISE_3_1_2) + place);
}

static void depthwise(Node *node, Call *call) {
    const Array *x = &call->in[0], *w = &call->in[1];
    int64_t size[4];
    int tile;
    node->kernel[0] = w->size[0];
    node->kernel[1] = w->size[1];
    window_size(node, x, w->size[0], w->size[1], size);
    Window at = window(node, x, size);
    int down_gap = (int)node->dilations[0], gap = (int)node->dilations[1];
    int64_t wide_threads = size[0] * size[1] * tiles_across(size[2], WIDE_TILE, gap) * at.vectors;
    enum Kernel which = depthwise_kernel(node, wide_threads, &tile);
    int64_t taps = w->size[0] * w->size[1];
    int across = vectors_of_block(at.vectors, taps), rows = DEPTHWISE_THREADS / across;
    int tiles = at.out_height * (int)tiles_across(at.out_width, tile, gap), parts = (tiles + rows - 1) / rows;
    int64_t means_size[3] = {size[0], parts, size[3]};
    void *y = output(call, 0, size, 4), *means = call->outputs > 1 ? output(call, 1, means_size, 3) : NULL;
    void *arguments[] = {(void *)&x->data, (void *)&w->data, (void *)&call->in[2].data, (void *)&call->in[3].data,
                         &y, &means, &at, &node->act, &down_gap, &gap};
    Size grid = {(unsigned)(at.vectors / across), (unsigned)parts, (unsigned)size[0]};
    unsigned shared = (unsigned)((taps > rows ? taps : rows) * across * 8 * (int64_t)sizeof(float));
    start(call, which, grid, (Size){(unsigned)across, (unsigned)rows, 1}, shared, arguments);
}

static void excite(Node *node, Call *call) {
    const Array *means = &call->in[0], *w = &call->in[1];
    int64_t size[2] = {means->size[0], means->size[2]};
    void *y = output(call, 0, size, 2);
    int channels = (int)size[1], hidden = (int)w->size[0], parts = (int)means->size[1];
    void *arguments[] = {(void *)&means->data, (void *)&w->data, (void *)&call->in[2].data, (void *)&call->in[3].data,
                         (void *)&call->in[4].data, &y, &channels, &hidden, &parts, &node->act, &node->gate};
    unsigned threads = 1024, shared = (unsigned)((size_t)(channels + hidden + 4 + 8 * (int)threads) * sizeof(float));
    if (channels > 8 * (int)threads) return fail(call, "ampgraph: too many channels to excite");
    start(call, EXCITE, (Size){(unsigned)size[0], 1, 1}, (Size){threads, 1, 1}, shared, arguments);
}

static void scaled(Node *node, Call *call) {
    const Array *x = &call->in[0], *scale = &call->in[1];
    if (x->rank != 4 || scale->rank != 2 || scale->size[1] != x->size[3])
        return fail(call, "ampgraph: Scaled takes images, and a number for each of their channels");
    int vectors = (int)(x->size[3] / 8), pixels = (int)(x->size[1] * x->size[2]), added = (int)node->added;
    int total = (int)x->size[0] * pixels * vectors;
    void *y = output(call, 0, x->size, 4);
    void *arguments[] = {(void *)&x->data, (void *)&scale->data, &y, &total, &vectors, &pixels, &added};
    start(call, SCALED, blocks(total), BLOCK, 0, arguments);
}

enum { GATED_ROWS = 4 };

static void gated(Node *node, Call *call) {
    const Array *a = &call->in[0];
    const char *other = call->in[1].data;
    int64_t size[MOST_RANK], elements = 1;
    if (!a->rank) return fail(call, "ampgraph: Gated takes rows");
    memcpy(size, a->size, sizeof size);
    struct {
        int rows, vectors, stride, second, act;
    } at = {.vectors = (int)(size[a->rank - 1] / 8), .second = (int)node->second, .act = node->act};
    at.stride = at.vectors;
    if (!other) { /* both lie in one: the halves of its rows */
        at.vectors /= 2;
        size[a->rank - 1] /= 2;
        other = (const char *)a->data + (size_t)at.vectors * 16;
    }
    for (size_t i = 0; i < a->rank; ++i) elements *= size[i];
    void *y = output(call, 0, size, a->rank);
    if (!elements) return;
    at.rows = (int)(elements / (at.vectors * 8));
    void *arguments[] = {(void *)&a->data, (void *)&other, (void *)&call->in[2].data, &y, &at};
    start(call, GATED, blocks(reached_up(at.rows, GATED_ROWS) * at.vectors), BLOCK, 0, arguments);
}

enum { NORM_THREADS = 512, HELD = 4, HELD_FIRST = 32, SIDE = 64 };

typedef struct Norm {
    int channels, groups, pixels, parts, part, act;
    float epsilon;
} Norm;

static Norm norm(const Node *node, const Array *x) {
    Norm at = {.groups = (int)node->groups, .act = node->act, .epsilon = node->epsilon};
    at.channels = (int)x->size[node->first ? 1 : 3];
    at.pixels = (int)(node->first ? x->size[2] * x->size[3] : x->size[1] * x->size[2]);
    return at;
}

static void *moments(Call *call, const Norm *at, int64_t batch) {
    int64_t size[4] = {batch, at->parts, at->groups, 2};
    return output(call, 1, size, 4);
}

static Size tiles(const Norm *at, int64_t batch) {
    return (Size){(unsigned)reached_up(at->pixels, SIDE), (unsigned)reached_up(at->channels, SIDE), (unsigned)batch};
}

static void norm_first(Node *node, Call *call, void *y) {
    const Array *x = &call->in[0];
    Norm at = norm(node, x);
    int64_t elements = (int64_t)(at.channels / at.groups) * at.pixels;
    at.part = HELD_FIRST * (int)BLOCK.x;
    at.parts = (int)reached_up(elements, at.part);
    void *found = moments(call, &at, x->size[0]);
    Size grid = {(unsigned)at.parts, (unsigned)at.groups, (unsigned)x->size[0]};
    int is_float = x->type == FLOAT;
    void *first[] = {(void *)&x->data, &found, &at};
    start(call, is_float ? MOMENTS_FIRST_FLOAT : MOMENTS_FIRST_HALF, grid, BLOCK, 0, first);
    void *second[] = {(void *)&x->data, &found, (void *)&call->in[1].data, (void *)&call->in[2].data, &y, &at};
    Size over = tiles(&at, x->size[0]);
    start(call, is_float ? NORMALIZE_FIRST_FLOAT : NORMALIZE_FIRST_HALF, over, BLOCK, 0, second);
}

static void norm_last(Node *node, Call *call, void *y) {
    const Array *x = &call->in[0], *offset = &call->in[3];
    Norm at = norm(node, x);
    unsigned vectors = (unsigned)at.channels / 8, rows = vectors < NORM_THREADS ? NORM_THREADS / vectors : 1;
    at.part = HELD * (int)rows;
    at.parts = (int)reached_up(at.pixels, at.part);
    void *found = moments(call, &at, x->size[0]);
    Size grid = {(unsigned)at.parts, (unsigned)x->size[0], 1}, block = {vectors, rows, 1};
    unsigned threads = vectors * rows, pair = 2 * (unsigned)sizeof(float);
    unsigned sums = 9 * threads * pair, stats = ((unsigned)at.groups + threads) * pair;
    void *first[] = {(void *)&x->data, (void *)&offset->data, &found, &at};
    start(call, MOMENTS_LAST, grid, block, sums, first);
    void *second[] = {(void *)&x->data, (void *)&offset->data, &found, (void *)&call->in[1].data,
                      (void *)&call->in[2].data, &y, &at};
    start(call, NORMALIZE_LAST, grid, block, stats, second);
}

static void group_norm(Node *node, Call *call) {
    const Array *x = &call->in[0];
    if (x->rank != 4 || !node->groups || call->outputs < 2) return fail(call, "ampgraph: GroupNorm takes images");
    int64_t size[4] = {x->size[0], x->size[1], x->size[2], x->size[3]};
    if (node->first) size[1] = x->size[2], size[2] = x->size[3], size[3] = x->size[1];
    void *y = output(call, 0, size, 4);
    if (node->first) norm_first(node, call, y);
    else norm_last(node, call, y);
}

static void residual(Node *node, Call *call) {
    (void)node;
    const Array *x = &call->in[0], *z = &call->in[1];
    if (x->rank != 4 || z->rank != 4 || x->size[1] != z->size[3] || x->size[2] != z->size[1] || x->size[0] != z->size[0])
        return fail(call, "ampgraph: Residual takes images alike");
    Norm at = {.channels = (int)x->size[1], .pixels = (int)(x->size[2] * x->size[3])};
    void *y = output(call, 0, x->size, 4);
    void *arguments[] = {(void *)&x->data, (void *)&z->data, &y, &at.channels, &at.pixels};
    start(call, SUM_FIRST, tiles(&at, x->size[0]), BLOCK, 0, arguments);
}

static void rotary(Node *node, Call *call) {
    const Array *x = &call->in[0], *positions = &call->in[1], *cos = &call->in[2], *sin = &call->in[3];
    if (x->rank != 3 || cos->rank != 2 || cos->size[1] % 4) return fail(call, "ampgraph: Rotary takes batches of rows and tables of angles");
    int64_t size[3] = {x->size[0], x->size[1], node->turned}, rest[3] = {x->size[0], x->size[1], 0}, count = 1;
    rest[2] = x->size[2] - 2 * node->turned;
    for (size_t i = 0; i < positions->rank; ++i) count *= positions->size[i];
    void *q = output(call, 0, size, 3), *k = output(call, 1, size, 3), *v = output(call, 2, rest, 3);
    struct {
        int total, vectors, turned, rest, length, half, positions;
    } at = {(int)(x->size[0] * x->size[1] * x->size[2] / 8), (int)(x->size[2] / 8), (int)(node->turned / 8),
            (int)(rest[2] / 8), (int)x->size[1], (int)cos->size[1], (int)count};
    void *arguments[] = {(void *)&x->data, (void *)&positions->data, (void *)&cos->data, (void *)&sin->data, &q, &k, &v,
                         &at};
    start(call, ROTARY, blocks(at.total), BLOCK, 0, arguments);
}

enum { AT_ONCE = 4 };

static void rows(Node *node, Call *call) {
    (void)node;
    const Array *x = &call->in[0], *places = &call->in[1];
    if (x->rank != 3 || places->rank != 1) return fail(call, "ampgraph: Rows takes batches of rows and places");
    int64_t size[3] = {x->size[0], places->size[0], x->size[2]};
    void *y = output(call, 0, size, 3);
    int total = (int)(size[0] * size[1] * size[2] / 8), vectors = (int)(size[2] / 8), count = (int)size[1];
    int length = (int)x->size[1];
    void *arguments[] = {(void *)&x->data, (void *)&places->data, &y, &total, &vectors, &count, &length};
    start(call, ROWS, blocks(reached_up(total, AT_ONCE)), BLOCK, 0, arguments);
}

enum { FEWEST_VECTORS = 3, MOST_OF_A_LINE = 5, LINE_THREADS = 128, WIDEST_LINE = 256, ENOUGH_BLOCKS = 256 };

typedef struct Lines {
    int rows, vectors, count, length, others, beside, simple;
    float epsilon;
} Lines;

typedef struct Launch {
    enum Kernel which;
    Size grid, block;
} Launch;

/* Of an image; 0 where they are no row of numbers. */
static int64_t places_in(const Array *places) {
    return places->rank == 1 ? places->size[0] : 0;
}

/* Threads of a row: the fewest, a power of two, whose vectors stay in registers. */
static unsigned threads_of_row(int vectors) {
    unsigned threads = 1;
    while ((int)threads * MOST_OF_A_LINE < vectors) threads *= 2;
    return threads;
}

/* Rows of a block: one of more than a warp; fewer where blocks are few, for more of the device to read at once. */
static unsigned rows_of_block(unsigned across, int64_t rows) {
    unsigned threads = LINE_THREADS;
    if (across > 32) return 1;
    while (threads > 32 && rows * across < (int64_t)threads * ENOUGH_BLOCKS) threads /= 2;
    return threads / across;
}

/* Rows of skip: as many as of x, fewer over and over, or at places of an image. What is wrong with them, or NULL. */
static const char *add_skip(const Array *skip, const Array *beside, int64_t rows, Lines *at) {
    int64_t skips = skip->data ? rows_of(skip) : rows, others = beside->data ? places_in(beside) : skips;
    if (skip->data && (!skip->rank || skip->size[skip->rank - 1] != 8 * at->vectors))
        return "ampgraph: LayerNorm adds rows as wide";
    if (rows && (!others || rows % others))
        return "ampgraph: LayerNorm adds as many rows, or fewer over and over";
    int64_t images = others ? rows / others : 0;
    if (beside->data && (!skip->data || (images && skips % images)))
        return "ampgraph: LayerNorm adds as many rows to every image";
    at->others = beside->data || others < rows ? (int)others : 0;
    at->beside = beside->data && images ? (int)(skips / images) : 0;
    return NULL;
}

/* What is to be computed, after a look at whether it can be: what is wrong, or NULL. */
static const char *lines(const Node *node, const Array *in, Lines *at) {
    const Array *x = &in[0], *gamma = &in[1], *places = &in[5];
    int64_t width = x->rank ? x->size[x->rank - 1] : 0, rows = x->rank ? rows_of(x) : 0;
    *at = (Lines){.rows = (int)rows, .vectors = (int)(width / 8), .simple = (int)node->simple, .epsilon = node->epsilon};
    if (gamma->rank != 1 || gamma->size[0] != width || !width || width % 8)
        return "ampgraph: LayerNorm takes rows of whole vectors, and one to scale them";
    if (threads_of_row(at->vectors) > WIDEST_LINE) return "ampgraph: LayerNorm takes no rows so wide";
    if (places->data) {
        if (node->length < 1 || rows % node->length || !places_in(places))
            return "ampgraph: LayerNorm takes places of whole images";
        at->length = (int)node->length;
        at->count = (int)places->size[0];
        at->rows = (int)(rows / node->length * places->size[0]);
    }
    return add_skip(&in[3], &in[6], rows, at);
}

static Launch line_launch(const Lines *at) {
    unsigned across = threads_of_row(at->vectors), down = rows_of_block(across, at->rows);
    int held = (int)reached_up(at->vectors, across), more = held > FEWEST_VECTORS ? held - FEWEST_VECTORS : 0;
    return (Launch){(enum Kernel)(LAYER_NORM_3 + more), {(unsigned)reached_up(at->rows, down), 1, 1}, {across, down, 1}};
}

static void layer_norm(Node *node, Call *call) {
    const Array *in = call->in, *x = &in[0];
    Lines at;
    const char *wrong = lines(node, in, &at);
    if (wrong) return fail(call, wrong);
    int64_t placed[3] = {at.count ? at.rows / at.count : 0, at.count, 8 * at.vectors};
    void *y = at.count ? output(call, 0, placed, 3) : output(call, 0, x->size, x->rank);
    void *sum = call->outputs > 1 ? output(call, 1, x->size, x->rank) : NULL;
    void *arguments[] = {(void *)&x->data, (void *)&in[1].data, (void *)&in[2].data, (void *)&in[3].data,
                         (void *)&in[4].data, (void *)&in[5].data, (void *)&in[6].data, &y, &sum, &at};
    Launch how = line_launch(&at);
    start(call, how.which, how.grid, how.block, 0, arguments);
}

static Status *compute(void *at, Context *context) {
    Node *node = at;
    Call call = {.api = node->api, .context = context};
    const char *said = "";
    size_t inputs = 0;
    check(&call, input_count(call.api)(context, &inputs));
    check(&call, output_count(call.api)(context, &call.outputs));
    check(&call, stream_of(call.api)(context, (void **)&call.stream));
    for (size_t i = 0; i < inputs && i < MOST_INPUTS && !call.status; ++i) call.in[i] = array(&call, i);
    if (!call.status && !(call.gpu = gpu(&said))) fail_without(&call, said);
    if (!call.status) node->compute(node, &call);
    return call.status;
}

static void ints(const Node *node, const Info *info, const char *name, int64_t *to, size_t count) {
    Status *status = attribute_ints(node->api)(info, name, to, &count);
    if (status) release_status(node->api)(status); /* left out: what is there stays */
}

static void whole(const Node *node, const Info *info, const char *name, int64_t *to) {
    Status *status = attribute_int(node->api)(info, name, to);
    if (status) release_status(node->api)(status);
}

static void real(const Node *node, const Info *info, const char *name, float *to) {
    Status *status = attribute_float(node->api)(info, name, to);
    if (status) release_status(node->api)(status);
}

static int activation(const Node *node, const Info *info, const char *name) {
    static const char *const names[] = {"",           "Relu", "Silu", "Sigmoid", "HardSigmoid", "HardSwish", "Gelu",
                                        "HardSigmoidFifth", "Relu6"};
    char text[32] = "";
    size_t size = sizeof text;
    Status *status = attribute_text(node->api)(info, name, text, &size);
    if (status) release_status(node->api)(status);
    for (int i = 0; i < (int)(sizeof names / sizeof *names); ++i)
        if (!strcmp(text, names[i])) return i;
    return NONE;
}

static Status *create(const CustomOp *op, Api *api, const Info *info, void **made) {
    Node *node = calloc(1, sizeof *node);
    if (!node) return create_status(api)(FAIL, "ampgraph: no memory");
    node->api = api;
    node->compute = ((const Operator *)op)->compute;
    for (int i = 0; i < 2; ++i) node->strides[i] = node->dilations[i] = node->kernel[i] = 1;
    ints(node, info, "strides", node->strides, 2);
    ints(node, info, "pads", node->pads, 4);
    ints(node, info, "dilations", node->dilations, 2);
    ints(node, info, "kernel_shape", node->kernel, 2);
    ints(node, info, "output_padding", node->wider, 2);
    node->block = node->keepdims = 1;
    whole(node, info, "block", &node->block);
    whole(node, info, "width", &node->turned);
    whole(node, info, "groups", &node->groups);
    whole(node, info, "first", &node->first);
    whole(node, info, "second", &node->second);
    whole(node, info, "simple", &node->simple);
    whole(node, info, "length", &node->length);
    whole(node, info, "late", &node->late);
    whole(node, info, "added", &node->added);
    whole(node, info, "count_include_pad", &node->bordered);
    whole(node, info, "keepdims", &node->keepdims);
    real(node, info, "epsilon", &node->epsilon);
    node->act = activation(node, info, "activation");
    node->gate = activation(node, info, "gate");
    *made = node;
    return NULL;
}

static void destroy(void *at) {
    Node *node = at;
    const char *said;
    Gpu *here = node->known ? gpu(&said) : NULL;
    while (node->known) {
        Sized *each = node->known;
        node->known = each->next;
        leave(here, each->space);
        free(each);
    }
    free(node);
}

static const char *name(const CustomOp *op) {
    return ((const Operator *)op)->name;
}

static const char *provider(const CustomOp *op) {
    (void)op;
    return "CUDAExecutionProvider";
}

static int input_type(const CustomOp *op, size_t index) {
    return ((const Operator *)op)->types[index];
}

static size_t inputs_of(const CustomOp *op) {
    return (size_t)((const Operator *)op)->inputs;
}

static int output_type(const CustomOp *op, size_t index) {
    return ((const Operator *)op)->made[index];
}

static size_t outputs_of(const CustomOp *op) {
    return (size_t)((const Operator *)op)->outputs;
}

static int input_kind(const CustomOp *op, size_t index) {
    return (int)index < ((const Operator *)op)->needed ? REQUIRED : OPTIONAL;
}

static int output_kind(const CustomOp *op, size_t index) {
    (void)op;
    return index ? OPTIONAL : REQUIRED;
}

static int memory(const CustomOp *op, size_t index) {
    (void)op, (void)index;
    return 0; /* of the device */
}

static int none(const CustomOp *op) {
    (void)op;
    return 0;
}

static Operator operators[] = {
    {{0}, "Conv", conv, 5, 3, 1, {FLOAT16, FLOAT16, FLOAT16, ANY, FLOAT16}, {FLOAT16}},
    {{0}, "TransposedConv", conv_transpose, 4, 3, 1, {FLOAT16, FLOAT16, FLOAT16, ANY}, {FLOAT16}},
    {{0}, "Linear", linear, 4, 2, 1, {FLOAT16, FLOAT16, FLOAT16, FLOAT16}, {FLOAT16}},
    {{0}, "DepthwiseConv", depthwise, 4, 3, 2, {FLOAT16, FLOAT, FLOAT, FLOAT}, {FLOAT16, FLOAT}},
    {{0}, "Excite", excite, 5, 5, 1, {FLOAT, FLOAT, FLOAT, FLOAT, FLOAT}, {FLOAT16}},
    {{0}, "Scaled", scaled, 2, 2, 1, {FLOAT16, FLOAT16}, {FLOAT16}},
    {{0}, "Affine", affine, 3, 3, 1, {FLOAT16, FLOAT, FLOAT}, {FLOAT16}},
    {{0}, "MaxPool", max_pool, 1, 1, 1, {FLOAT16}, {FLOAT16}},
    {{0}, "AveragePool", average_pool, 1, 1, 1, {FLOAT16}, {FLOAT16}},
    {{0}, "Means", means, 1, 1, 1, {FLOAT16}, {FLOAT}},
    {{0}, "Mean", mean, 1, 1, 1, {FLOAT16}, {FLOAT16}},
    {{0}, "Image", image, 1, 1, 1, {ANY}, {FLOAT16}},
    {{0}, "Gated", gated, 3, 1, 1, {FLOAT16, FLOAT16, FLOAT16}, {FLOAT16}},
    {{0}, "Rotary", rotary, 4, 4, 3, {FLOAT16, INT64, FLOAT16, FLOAT16}, {FLOAT16, FLOAT16, FLOAT16}},
    {{0}, "GroupNorm", group_norm, 4, 3, 2, {ANY, FLOAT, FLOAT, FLOAT16}, {FLOAT16, FLOAT}},
    {{0}, "Residual", residual, 2, 2, 1, {FLOAT, FLOAT16}, {FLOAT}},
    {{0}, "Rows", rows, 2, 2, 1, {FLOAT16, INT32}, {FLOAT16}},
    {{0}, "LayerNorm", layer_norm, 7, 2, 2, {FLOAT16, FLOAT16, FLOAT16, FLOAT16, FLOAT16, INT32, INT32}, {FLOAT16, FLOAT16}},
};

static Status *filled(Api *api, Domain *domain) {
    for (size_t i = 0; i < sizeof operators / sizeof *operators; ++i) {
        operators[i].interface = (CustomOp){
            .version = ORT_VERSION, .name = name, .provider = provider, .input_type = input_type,
            .input_count = inputs_of, .output_type = output_type, .output_count = outputs_of, .destroy = destroy,
            .input_kind = input_kind, .output_kind = output_kind, .input_memory = memory, .variadic_input_least = none,
            .variadic_input_alike = none, .variadic_output_least = none, .variadic_output_alike = none,
            .create_v2 = create, .compute_v2 = compute,
        };
        Status *status = add_op(api)(domain, &operators[i].interface);
        if (status) return status;
    }
    return NULL;
}

/* What onnxruntime calls when a session's options register the library. */
__attribute__((visibility("default"))) Status *RegisterCustomOps(Options *options, const ApiBase *base) {
    static Domain *domain; /* lives as long as the library: sessions refer to it */
    Api *api = base->get_api(ORT_VERSION);
    if (!api) return NULL;
    pthread_mutex_lock(&guard);
    Status *status = NULL;
    if (!domain) {
        status = create_domain(api)("ampgraph", &domain);
        if (!status) status = filled(api, domain);
    }
    pthread_mutex_unlock(&guard);
    return status ? status : add_domain(api)(options, domain);
}
