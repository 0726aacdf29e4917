#include "ways.h"

/* cuDNN's words, from its public headers (cudnn_graph.h of version 9). */
enum { TYPE_HANDLE = 0, TYPE_DATA = 1, TYPE_BOOLEAN = 2, TYPE_INT64 = 3, TYPE_FLOAT = 4, TYPE_DOUBLE = 5,
       TYPE_POINTER = 6, TYPE_CONV_MODE = 7, TYPE_HEUR_MODE = 8, TYPE_POINTWISE = 14, TYPE_DESCRIPTOR = 15,
       TYPE_NOTE = 19 };
enum { RUNTIME_COMPILATION = 0 };
enum { DATA_FLOAT = 0, DATA_HALF = 2 };
enum { POINTWISE = 0, CONVOLUTION = 1, ENGINE = 2, ENGINE_CONFIG = 3, HEURISTIC = 4, PLAN = 5, CONV_FORWARD = 10,
       CONV_BACKWARD_DATA = 12, OP_POINTWISE = 13, GRAPH = 15, VARIANT_PACK = 16, TENSOR = 17 };
enum { ADD = 0, RELU_FORWARD = 100, SWISH_FORWARD = 106, SIGMOID_FORWARD = 102, GELU_FORWARD = 104 };
enum { CROSS_CORRELATION = 1 };
enum { X = 1, W, BIAS, Z, Y, FIRST_VIRTUAL };
static const int64_t MOST_ROOM = 256 << 20; /* bytes */

pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static Descriptor made(Draft *draft, int kind) {
    Descriptor one = NULL;
    if (!draft->status) draft->status = draft->gpu->make(kind, &one);
    if (!draft->status) draft->all[draft->count++] = one;
    return one;
}

static void set(Draft *draft, Descriptor at, int name, int type, int64_t count, const void *values) {
    if (!draft->status) draft->status = draft->gpu->set(at, name, type, count, values);
}

static void finish(Draft *draft, Descriptor at) {
    if (!draft->status) draft->status = draft->gpu->finalize(at);
}

static void discard(Draft *draft) {
    while (draft->count) draft->gpu->destroy(draft->all[--draft->count]);
}

/* A tensor of four axes in cuDNN's order (N, C, H, W) that lies with C last. */
static Descriptor tensor(Draft *draft, int64_t id, const int64_t size[4], int type, int is_virtual) {
    Descriptor one = made(draft, TENSOR);
    int64_t strides[4] = {size[1] * size[2] * size[3], 1, size[1] * size[3], size[1]};
    int64_t alignment = 16;
    uint8_t flag = (uint8_t)is_virtual;
    set(draft, one, 901, TYPE_DATA, 1, &type);
    set(draft, one, 902, TYPE_INT64, 4, size);
    set(draft, one, 903, TYPE_INT64, 4, strides);
    set(draft, one, 906, TYPE_INT64, 1, &id);
    set(draft, one, 900, TYPE_INT64, 1, &alignment);
    set(draft, one, 907, TYPE_BOOLEAN, 1, &flag);
    finish(draft, one);
    return one;
}

static Descriptor between(Draft *draft, const int64_t size[4], int type) {
    return tensor(draft, draft->next_id++, size, type, 1);
}

/* A transposed one is what a convolution's gradient is to its input. */
static void convolution(Draft *draft, const Problem *p, Descriptor x, Descriptor w, Descriptor y) {
    Descriptor how = made(draft, CONVOLUTION), op = made(draft, p->transposed ? CONV_BACKWARD_DATA : CONV_FORWARD);
    int first = p->transposed ? 706 : 700; /* alpha, beta, convolution, weights, input, output */
    int64_t axes = 2, dilations[2] = {p->dilation_h, p->dilation_w}, strides[2] = {p->stride_h, p->stride_w};
    int64_t before[2] = {p->top, p->left}, after[2] = {p->bottom, p->right};
    int type = DATA_FLOAT, mode = CROSS_CORRELATION;
    float one = 1.f, zero = 0.f;
    set(draft, how, 100, TYPE_DATA, 1, &type);
    set(draft, how, 101, TYPE_CONV_MODE, 1, &mode);
    set(draft, how, 106, TYPE_INT64, 1, &axes);
    set(draft, how, 102, TYPE_INT64, 2, dilations);
    set(draft, how, 103, TYPE_INT64, 2, strides);
    set(draft, how, 105, TYPE_INT64, 2, before);
    set(draft, how, 104, TYPE_INT64, 2, after);
    finish(draft, how);
    set(draft, op, first + 2, TYPE_DESCRIPTOR, 1, &how);
    set(draft, op, first + 4, TYPE_DESCRIPTOR, 1, p->transposed ? &y : &x);
    set(draft, op, first + 3, TYPE_DESCRIPTOR, 1, &w);
    set(draft, op, first + 5, TYPE_DESCRIPTOR, 1, p->transposed ? &x : &y);
    set(draft, op, first, TYPE_FLOAT, 1, &one);
    set(draft, op, first + 1, TYPE_FLOAT, 1, &zero);
    finish(draft, op);
    draft->operations[draft->operation_count++] = op;
}

/* y = x `mode` b; b NULL where the operator has one operand. `most`: what a RELU_FORWARD gives, 0 for no bound. */
static void pointwise(Draft *draft, int mode, double most, Descriptor x, Descriptor b, Descriptor y) {
    Descriptor how = made(draft, POINTWISE), op = made(draft, OP_POINTWISE);
    int type = DATA_FLOAT;
    set(draft, how, 0, TYPE_POINTWISE, 1, &mode);
    set(draft, how, 1, TYPE_DATA, 1, &type);
    if (most > 0) set(draft, how, 4, TYPE_DOUBLE, 1, &most);
    finish(draft, how);
    set(draft, op, 750, TYPE_DESCRIPTOR, 1, &how);
    set(draft, op, 751, TYPE_DESCRIPTOR, 1, &x);
    if (b) set(draft, op, 752, TYPE_DESCRIPTOR, 1, &b);
    set(draft, op, 753, TYPE_DESCRIPTOR, 1, &y);
    finish(draft, op);
    draft->operations[draft->operation_count++] = op;
}

static int mode_of(int64_t act) {
    if (act == GELU) return GELU_FORWARD;
    return act == RELU || act == RELU6 ? RELU_FORWARD : act == SILU ? SWISH_FORWARD : SIGMOID_FORWARD;
}

int fuses(int64_t act) {
    return act == NONE || act == RELU || act == SILU || act == SIGMOID || act == GELU || act == RELU6;
}

/* 0, or what the kernels call it: 1 of an image, 2 of a row. */
static int lateness(const Problem *p) {
    return p->residual > RESIDUAL ? (int)(p->residual - RESIDUAL) : 0;
}

/* An image like the result, or a row in float32. */
static Descriptor z_tensor(Draft *draft, const Problem *p, const int64_t image[4], const int64_t row[4]) {
    int is_row = p->residual == LATE_ROW;
    return tensor(draft, Z, is_row ? row : image, is_row ? DATA_FLOAT : DATA_HALF, 0);
}

static void describe(Draft *draft, const Problem *p, enum Shape shape) {
    int64_t x_size[4] = {p->batch, p->channels, p->height, p->width};
    int64_t filters = p->transposed ? p->channels : p->out_channels, depth = p->transposed ? p->out_channels : p->depth;
    int64_t w_size[4] = {filters, depth, p->kernel_h, p->kernel_w};
    int64_t y_size[4] = {p->batch, p->out_channels, p->out_height, p->out_width};
    int64_t row[4] = {1, p->out_channels, 1, 1};
    Descriptor x = tensor(draft, X, x_size, DATA_HALF, 0), w = tensor(draft, W, w_size, DATA_HALF, 0);
    Descriptor y = tensor(draft, Y, y_size, DATA_HALF, 0);
    if (shape == EPILOGUE_APART) {
        convolution(draft, p, x, w, y);
        return;
    }
    Descriptor sum = between(draft, y_size, DATA_FLOAT), bias = tensor(draft, BIAS, row, DATA_HALF, 0);
    convolution(draft, p, x, w, sum);
    Descriptor added[2] = {bias, NULL};
    Descriptor z = p->residual ? z_tensor(draft, p, y_size, row) : NULL;
    if (p->residual == RESIDUAL) {
        added[shape == RESIDUAL_FIRST ? 0 : 1] = z;
        if (shape == RESIDUAL_FIRST) added[1] = bias;
    }
    for (int i = 0; i < 2 && added[i]; ++i) {
        int last = (i == 1 || !added[1]) && p->act == NONE;
        Descriptor to = last ? y : between(draft, y_size, DATA_FLOAT);
        pointwise(draft, ADD, 0, sum, added[i], to);
        sum = to;
    }
    Descriptor active = lateness(p) ? between(draft, y_size, DATA_FLOAT) : y;
    if (p->act != NONE) pointwise(draft, mode_of(p->act), p->act == RELU6 ? 6. : 0., sum, NULL, active);
    if (active != y) pointwise(draft, ADD, 0, active, z, y);
}

static Descriptor graph(Draft *draft) {
    Descriptor one = made(draft, GRAPH);
    set(draft, one, 801, TYPE_DESCRIPTOR, draft->operation_count, draft->operations);
    set(draft, one, 800, TYPE_HANDLE, 1, &draft->gpu->handle);
    finish(draft, one);
    return one;
}

static int64_t input_elements(const Problem *p) {
    return p->batch * p->height * p->width * p->channels;
}

static int is_own(const Way *way) {
    return way->shape >= OWN_32;
}

/* cuDNN takes no input that is still to be scaled: a kernel multiplies first, and ours while it reads. */
static size_t scaled_room(const Way *way, const Problem *p) {
    return p->scaled && !is_own(way) ? ((size_t)input_elements(p) * 2 + 255) / 256 * 256 : 0;
}

void propose(Gpu *gpu, const Problem *p, enum Shape shape, int mode, int most, Proposals *found) {
    Draft *draft = &found->draft;
    *found = (Proposals){.draft = {.gpu = gpu, .next_id = FIRST_VIRTUAL}};
    describe(draft, p, shape);
    Descriptor whole = graph(draft), heuristic = made(draft, HEURISTIC);
    int64_t count = 0;
    set(draft, heuristic, 201, TYPE_DESCRIPTOR, 1, &whole);
    set(draft, heuristic, 200, TYPE_HEUR_MODE, 1, &mode);
    finish(draft, heuristic);
    for (int i = 0; i < most; ++i) found->configs[i] = made(draft, ENGINE_CONFIG);
    if (!draft->status) draft->status = gpu->get(heuristic, 202, TYPE_DESCRIPTOR, most, &count, found->configs);
    found->count = draft->status ? 0 : (int)(count < most ? count : most);
}

void dismiss(Proposals *proposals) {
    discard(&proposals->draft);
}

int64_t engine_of(Gpu *gpu, Descriptor config, int *compiled) {
    Descriptor engine = NULL;
    int64_t found = -1, count = 0;
    int notes[16];
    if (gpu->make(ENGINE, &engine)) return -1;
    if (!gpu->get(config, 300, TYPE_DESCRIPTOR, 1, &count, &engine)) {
        gpu->get(engine, 1301, TYPE_INT64, 1, &count, &found);
        if (gpu->get(engine, 1305, TYPE_NOTE, 16, &count, notes)) count = 0;
        for (int i = 0; i < count && i < 16; ++i) *compiled |= notes[i] == RUNTIME_COMPILATION;
    }
    gpu->destroy(engine);
    return found;
}

/* A plan of the configuration; NULL where it cannot be built or needs too much room. */
static Descriptor planned(Gpu *gpu, Descriptor config, size_t *bytes) {
    Descriptor plan = NULL;
    int64_t needed = 0, count = 0;
    if (gpu->make(PLAN, &plan)) return NULL;
    int status = gpu->set(plan, 400, TYPE_HANDLE, 1, &gpu->handle);
    if (!status) status = gpu->set(plan, 401, TYPE_DESCRIPTOR, 1, &config);
    if (!status) status = gpu->finalize(plan);
    if (!status) status = gpu->get(plan, 402, TYPE_INT64, 1, &count, &needed);
    if (status || needed > MOST_ROOM) {
        gpu->destroy(plan);
        return NULL;
    }
    *bytes = (size_t)needed;
    return plan;
}

Way way_by_plan(Gpu *gpu, const Problem *p, enum Shape shape, Descriptor config) {
    Way way = {.shape = shape};
    way.plan = planned(gpu, config, &way.room);
    way.room += scaled_room(&way, p);
    return way;
}

int way_by_products(Gpu *gpu, const Problem *p, Way *found) {
    int apart = (p->act != NONE && p->act != RELU) || lateness(p);
    ProductSize size = {p->batch * p->height * p->width, p->channels, p->out_channels, p->biased && !apart,
                        p->residual && !apart, p->act == RELU};
    Product *all[MOST_PRODUCTS];
    int count = products(gpu, &size, all, MOST_PRODUCTS);
    for (int i = 0; i < count; ++i) {
        found[i] = (Way){.shape = apart ? BLAS_APART : BLAS, .product = all[i]};
        found[i].room = product_room(all[i]) + scaled_room(&found[i], p);
    }
    return count;
}

void forget(Gpu *gpu, const Way *way) {
    if (way->plan) gpu->destroy(way->plan);
    if (way->product) drop(gpu, way->product);
}

size_t room(const Way *way) {
    return way->room;
}

static int execute(Gpu *gpu, const Way *way, const Problem *p, const Tensors *at, void *space, Stream *stream) {
    Descriptor pack = NULL;
    int64_t ids[6] = {X, W, Y};
    const void *places[6] = {at->x, at->w, at->y};
    int64_t count = 3;
    if (way->shape != EPILOGUE_APART) ids[count] = BIAS, places[count++] = at->bias;
    if (way->shape != EPILOGUE_APART && p->residual) ids[count] = Z, places[count++] = at->z;
    int status = gpu->make(VARIANT_PACK, &pack);
    if (status) return status;
    status = gpu->set(pack, 1000, TYPE_INT64, count, ids);
    if (!status) status = gpu->set(pack, 1001, TYPE_POINTER, count, places);
    if (!status) status = gpu->set(pack, 1003, TYPE_POINTER, 1, &space);
    if (!status) status = gpu->finalize(pack);
    if (!status) status = gpu->set_stream(gpu->handle, stream);
    if (!status) status = gpu->execute(gpu->handle, way->plan, pack);
    gpu->destroy(pack);
    return status;
}

static Size blocks(int64_t threads) {
    return (Size){(unsigned)((threads + 255) / 256), 1, 1};
}

static int scale_first(Gpu *gpu, const Problem *p, const Tensors *at, Address to, Stream *stream) {
    int total = (int)(input_elements(p) / 8), vectors = (int)(p->channels / 8), pixels = (int)(p->height * p->width);
    int added = 0;
    void *arguments[] = {(void *)&at->x, (void *)&at->scale, &to, &total, &vectors, &pixels, &added};
    return launch(gpu, SCALED, blocks(total), (Size){256, 1, 1}, 0, stream, arguments);
}

static int add_after(Gpu *gpu, const Problem *p, const Tensors *at, Stream *stream) {
    int total = (int)(p->batch * p->out_height * p->out_width * p->out_channels / 8);
    int vectors = (int)(p->out_channels / 8), act = (int)p->act, late = lateness(p);
    void *arguments[] = {(void *)&at->y, (void *)&at->bias, (void *)&at->z, &total, &vectors, &act, &late};
    return launch(gpu, EPILOGUE, blocks(total), (Size){256, 1, 1}, 0, stream, arguments);
}

static int own(Gpu *gpu, const Way *way, const Problem *p, const Tensors *at, Stream *stream) {
    struct {
        int rows, depth, columns, pixels, act, late;
    } of = {(int)(p->batch * p->height * p->width), (int)p->channels, (int)p->out_channels, (int)(p->height * p->width),
            (int)p->act, lateness(p)};
    void *arguments[] = {(void *)&at->x, (void *)&at->w,     (void *)&at->bias, (void *)&at->z,
                         (void *)&at->scale, (void *)&at->y, &of};
    int columns = way->shape == OWN_32 ? 32 : 64;
    Size grid = {(unsigned)((of.columns + columns - 1) / columns), (unsigned)((of.rows + 127) / 128), 1};
    return launch(gpu, way->shape == OWN_32 ? PRODUCT_32 : PRODUCT_64, grid, (Size){128, 1, 1}, 0, stream, arguments);
}

static int product_or_plan(Gpu *gpu, const Way *way, const Problem *p, const Tensors *at, void *space, Stream *stream) {
    if (way->product) return multiply(gpu, way->product, at->x, at->w, at->bias, at->z, at->y, space, stream);
    return execute(gpu, way, p, at, space, stream);
}

int run_way(Gpu *gpu, const Way *way, const Problem *p, const Tensors *at, Address space, Stream *stream) {
    Tensors here = *at;
    int status = 0;
    if (is_own(way)) return own(gpu, way, p, at, stream);
    if (p->scaled) {
        status = scale_first(gpu, p, at, space, stream);
        here.x = (const void *)space;
    }
    if (!status) status = product_or_plan(gpu, way, p, &here, (void *)(space + scaled_room(way, p)), stream);
    if (!status && (way->shape == EPILOGUE_APART || way->shape == BLAS_APART)) status = add_after(gpu, p, at, stream);
    return status;
}

int convolve(Gpu *gpu, const Way *way, const Problem *problem, const Tensors *at, Address space, Stream *stream) {
    pthread_mutex_lock(&one_at_a_time);
    int status = run_way(gpu, way, problem, at, space, stream);
    pthread_mutex_unlock(&one_at_a_time);
    return status;
}
