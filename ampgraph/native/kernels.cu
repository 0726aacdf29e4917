/* Kernels of float16 images with channels last. Sums are float32. C is a multiple of 8: a thread works on 16 bytes. */
#include <cuda_fp16.h>

enum { NONE = 0, RELU = 1, SILU = 2, SIGMOID = 3, HARD_SIGMOID = 4, HARD_SWISH = 5 };

__device__ __forceinline__ float activated(float x, int kind) {
    switch (kind) {
        case RELU: return fmaxf(x, 0.f);
        case SILU: return x / (1.f + __expf(-x));
        case SIGMOID: return 1.f / (1.f + __expf(-x));
        case HARD_SIGMOID: return __saturatef(x * (1.f / 6.f) + 0.5f);
        default: return x;
    }
}

__device__ __forceinline__ void activate(float *x, int kind) {
    if (kind == RELU) {
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = fmaxf(x[i], 0.f);
    } else if (kind == SILU) {
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = __fdividef(x[i], 1.f + __expf(-x[i]));
    } else if (kind == HARD_SWISH) {
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] *= __saturatef(x[i] * (1.f / 6.f) + 0.5f);
    }
}

struct alignas(16) Eight {
    __half2 pair[4];
};

__device__ __forceinline__ void widen(const Eight &from, float *to) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        float2 two = __half22float2(from.pair[i]);
        to[2 * i] = two.x;
        to[2 * i + 1] = two.y;
    }
}

__device__ __forceinline__ Eight narrowed(const float *from) {
    Eight to;
#pragma unroll
    for (int i = 0; i < 4; ++i) to.pair[i] = __floats2half2_rn(from[2 * i], from[2 * i + 1]);
    return to;
}

/* x: N, C, H*W -> y: N, H*W, 8 with zeros above C (at most 8). One thread a pixel. */
template <typename T>
__device__ void image(const T *x, __half *y, int total, int channels, int pixels) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    int n = place / pixels, pixel = place - n * pixels;
    const T *from = x + (size_t)n * channels * pixels + pixel;
    float found[8];
#pragma unroll
    for (int c = 0; c < 8; ++c) found[c] = c < channels ? (float)from[(size_t)c * pixels] : 0.f;
    ((Eight *)y)[place] = narrowed(found);
}

extern "C" __global__ void image_float(const float *x, __half *y, int total, int channels, int pixels) {
    image(x, y, total, channels, pixels);
}

extern "C" __global__ void image_half(const __half *x, __half *y, int total, int channels, int pixels) {
    image(x, y, total, channels, pixels);
}

/* x: N, C, H, W with C at most 4 -> y: N, ceil(H / 2), ceil(W / 2), 16: pixels two by two side by side, in the order
 * (row, column, channel), zeros beyond. So a convolution of stride 2 becomes one of stride 1 with channels enough. */
template <typename T>
__device__ void image_blocks(const T *x, __half *y, int total, int channels, int height, int width) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    int across = (width + 1) / 2, down = (height + 1) / 2;
    int column = place % across, rest = place / across;
    int row = rest % down, n = rest / down;
    float found[16] = {};
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        int h = 2 * row + part / 2, w = 2 * column + part % 2;
        if (h >= height || w >= width) continue;
        const T *from = x + (size_t)n * channels * height * width + (size_t)h * width + w;
#pragma unroll
        for (int c = 0; c < 4; ++c)
            if (c < channels) {
                float here = (float)from[(size_t)c * height * width];
#pragma unroll
                for (int slot = 0; slot < 16; ++slot)
                    if (slot == part * channels + c) found[slot] = here;
            }
    }
    ((Eight *)y)[2 * (size_t)place] = narrowed(found);
    ((Eight *)y)[2 * (size_t)place + 1] = narrowed(found + 8);
}

extern "C" __global__ void image_blocks_float(const float *x, __half *y, int total, int channels, int height, int width) {
    image_blocks(x, y, total, channels, height, width);
}

extern "C" __global__ void image_blocks_half(const __half *x, __half *y, int total, int channels, int height, int width) {
    image_blocks(x, y, total, channels, height, width);
}

struct Window {
    int height, width, vectors, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, top, left;
};

/* Thread: 8 channels of an output pixel. */
extern "C" __global__ void max_pool(const Eight *x, Eight *y, int total, Window at) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    int v = place % at.vectors, rest = place / at.vectors;
    int ow = rest % at.out_width;
    rest /= at.out_width;
    int oh = rest % at.out_height, n = rest / at.out_height;
    int first = oh * at.stride_h - at.top, left = ow * at.stride_w - at.left;
    Eight most;
#pragma unroll
    for (int i = 0; i < 4; ++i) most.pair[i] = __half2half2(__ushort_as_half(0xFC00));
    for (int r = max(first, 0); r < min(first + at.kernel_h, at.height); ++r)
        for (int s = max(left, 0); s < min(left + at.kernel_w, at.width); ++s) {
            Eight here = x[((size_t)(n * at.height + r) * at.width + s) * at.vectors + v];
#pragma unroll
            for (int i = 0; i < 4; ++i) most.pair[i] = __hmax2_nan(most.pair[i], here.pair[i]);
        }
    y[place] = most;
}

/* Block: 32 channels (4 vectors) of an image, 64 rows of threads over its pixels. y: N, C. */
extern "C" __global__ void mean(const Eight *x, Eight *y, int pixels, int vectors) {
    __shared__ float part[64][33];
    int v = blockIdx.x * 4 + threadIdx.x;
    float sum[8] = {};
    if (v < vectors)
        for (int p = threadIdx.y; p < pixels; p += 64) {
            float here[8];
            widen(x[((size_t)blockIdx.y * pixels + p) * vectors + v], here);
#pragma unroll
            for (int i = 0; i < 8; ++i) sum[i] += here[i];
        }
#pragma unroll
    for (int i = 0; i < 8; ++i) part[threadIdx.y][threadIdx.x * 8 + i] = sum[i];
    for (int half = 32; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half)
#pragma unroll
            for (int i = 0; i < 8; ++i) part[threadIdx.y][threadIdx.x * 8 + i] += part[threadIdx.y + half][threadIdx.x * 8 + i];
    }
    if (threadIdx.y == 0 && v < vectors) {
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] = part[0][threadIdx.x * 8 + i] / pixels;
        y[(size_t)blockIdx.y * vectors + v] = narrowed(sum);
    }
}

/* y = act(y + bias [+ z]), in place; rows of `vectors`. */
extern "C" __global__ void epilogue(Eight *y, const Eight *bias, const Eight *z, int total, int vectors, int act) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    float sum[8], more[8];
    widen(y[place], sum);
    widen(bias[place % vectors], more);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] += more[i];
    if (z) {
        widen(z[place], more);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] += more[i];
    }
    activate(sum, act);
    y[place] = narrowed(sum);
}

/* y = x * scale, scale: N, C. */
extern "C" __global__ void scaled(const Eight *x, const Eight *scale, Eight *y, int total, int vectors, int pixels) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    int v = place % vectors, n = place / vectors / pixels;
    Eight here = x[place], by = scale[(size_t)n * vectors + v];
#pragma unroll
    for (int i = 0; i < 4; ++i) here.pair[i] = __hmul2(here.pair[i], by.pair[i]);
    y[place] = here;
}

struct alignas(16) Four {
    float of[4];
};

__device__ __forceinline__ void eight_floats(const Four *from, float *to) {
    Four low = from[0], high = from[1];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        to[i] = low.of[i];
        to[4 + i] = high.of[i];
    }
}

/* Thread: 8 channels of TILE output pixels in a row. Block: threadIdx.x over vectors, threadIdx.y over tiles of an
 * image (blockIdx.z). weight: K, K, C. With `sums` (N, gridDim.y, C): what the block's pixels add to the mean. */
template <int K, int STRIDE, int TILE>
__device__ __forceinline__ void depthwise(const Eight *x, const Four *weight, const Four *bias, Eight *y, float *sums,
                                          const Window &at, int act) {
    constexpr int SPAN = (TILE - 1) * STRIDE + K;
    int v = blockIdx.x * blockDim.x + threadIdx.x;
    int across = (at.out_width + TILE - 1) / TILE;
    int tile = blockIdx.y * blockDim.y + threadIdx.y;
    int oh = tile / across, ow = (tile - oh * across) * TILE;
    float total[8] = {};
    if (oh < at.out_height) {
        float sum[TILE][8];
        eight_floats(bias + 2 * v, sum[0]);
#pragma unroll
        for (int t = 1; t < TILE; ++t)
#pragma unroll
            for (int i = 0; i < 8; ++i) sum[t][i] = sum[0][i];
        int left = ow * STRIDE - at.left;
        int first = oh * STRIDE - at.top;
#pragma unroll 1
        for (int r = max(0, -first); r < min(K, at.height - first); ++r) {
            const Eight *from = x + ((size_t)(blockIdx.z * at.height + first + r) * at.width + left) * at.vectors + v;
            float by[K][8];
#pragma unroll
            for (int s = 0; s < K; ++s) eight_floats(weight + ((r * K + s) * at.vectors + v) * 2, by[s]);
#pragma unroll
            for (int column = 0; column < SPAN; ++column) {
                if ((unsigned)(left + column) >= (unsigned)at.width) continue;
                float here[8];
                widen(from[column * at.vectors], here);
#pragma unroll
                for (int t = 0; t < TILE; ++t) {
                    const int s = column - t * STRIDE;
                    if (s < 0 || s >= K) continue;
#pragma unroll
                    for (int i = 0; i < 8; ++i) sum[t][i] = fmaf(here[i], by[s][i], sum[t][i]);
                }
            }
        }
        Eight *to = y + ((size_t)(blockIdx.z * at.out_height + oh) * at.out_width + ow) * at.vectors + v;
#pragma unroll
        for (int t = 0; t < TILE; ++t)
            if (ow + t < at.out_width) {
                activate(sum[t], act);
#pragma unroll
                for (int i = 0; i < 8; ++i) total[i] += sum[t][i];
                to[t * at.vectors] = narrowed(sum[t]);
            }
    }
    if (sums == nullptr) return;
    extern __shared__ float part[]; /* blockDim.y, blockDim.x, 8 */
    float *mine = part + (threadIdx.y * blockDim.x + threadIdx.x) * 8;
#pragma unroll
    for (int i = 0; i < 8; ++i) mine[i] = total[i];
    __syncthreads();
    int width = blockDim.x * 8;
    for (int c = threadIdx.y * blockDim.x + threadIdx.x; c < width; c += blockDim.x * blockDim.y) {
        float all = 0.f;
        for (int row = 0; row < blockDim.y; ++row) all += part[row * width + c];
        sums[((size_t)blockIdx.z * gridDim.y + blockIdx.y) * at.vectors * 8 + blockIdx.x * width + c] =
            all / (at.out_height * at.out_width);
    }
}

#define DEPTHWISE(K, S, T)                                                                                          \
    extern "C" __global__ void __launch_bounds__(128) depthwise_##K##_##S##_##T(                                    \
        const Eight *x, const Four *weight, const Four *bias, Eight *y, float *sums, Window at, int act) {          \
        depthwise<K, S, T>(x, weight, bias, y, sums, at, act);                                                      \
    }

DEPTHWISE(3, 1, 7)
DEPTHWISE(3, 2, 7)
DEPTHWISE(5, 1, 7)
DEPTHWISE(5, 2, 7)
DEPTHWISE(7, 1, 7)
DEPTHWISE(3, 1, 2)
DEPTHWISE(3, 2, 2)
DEPTHWISE(5, 1, 2)
DEPTHWISE(5, 2, 2)
DEPTHWISE(7, 1, 2)

/* Squeeze and excite: means -> hidden -> gates, a block an image. sums: N, parts, C; w1: hidden, C; w2: hidden, C
 * (transposed); y: N, C. Shared: max(C, blockDim.x) + hidden floats. */
extern "C" __global__ void excite(const float *sums, const __half *w1, const __half *b1, const __half *w2,
                                  const __half *b2, __half *y, int channels, int hidden, int parts, int act, int gate) {
    extern __shared__ float means[];
    float *found = means + max(channels, (int)blockDim.x);
    int groups = max(1, (int)blockDim.x / channels), group = threadIdx.x / channels;
    const float *from = sums + (size_t)blockIdx.x * parts * channels;
    for (int c = threadIdx.x; c < groups * channels; c += blockDim.x) {
        float sum = 0.f;
        int channel = groups > 1 ? c - group * channels : c;
#pragma unroll 8
        for (int p = groups > 1 ? group : 0; p < parts; p += groups) sum += from[(size_t)p * channels + channel];
        means[c] = sum;
    }
    __syncthreads();
    if (groups > 1) {
        float sum = 0.f;
        if (threadIdx.x < channels)
            for (int g = 0; g < groups; ++g) sum += means[g * channels + threadIdx.x];
        __syncthreads();
        if (threadIdx.x < channels) means[threadIdx.x] = sum;
        __syncthreads();
    }
    int lane = threadIdx.x % 32;
    for (int h = threadIdx.x / 32; h < hidden; h += blockDim.x / 32) {
        float sum = 0.f;
        const __half2 *row = (const __half2 *)(w1 + (size_t)h * channels);
#pragma unroll 4
        for (int c = lane; c < channels / 2; c += 32) {
            float2 by = __half22float2(row[c]);
            sum += by.x * means[2 * c] + by.y * means[2 * c + 1];
        }
#pragma unroll
        for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (lane == 0) found[h] = activated(sum + __half2float(b1[h]), act);
    }
    __syncthreads();
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
        float sum = __half2float(b2[c]);
#pragma unroll 8
        for (int h = 0; h < hidden; ++h) sum += found[h] * __half2float(w2[(size_t)h * channels + c]);
        y[(size_t)blockIdx.x * channels + c] = __float2half_rn(activated(sum, gate));
    }
}

/* Products of few columns: y = act((x * scale) w^T + bias [+ z]). x: rows, K; w: N, K; scale: images, K, an image being
 * `pixels` rows. Block: 128 rows by COLUMNS, four warps one below the other, steps of 32 along K. What the next step
 * reads is under way while this one is multiplied. */
constexpr int ROWS = 128, DEPTH = 32, PITCH = DEPTH + 8;

__device__ __forceinline__ unsigned shared_address(const void *at) { return (unsigned)__cvta_generic_to_shared(at); }

__device__ __forceinline__ void load_matrices(unsigned *to, const __half *from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(from)));
}

__device__ __forceinline__ void multiply(float *sum, const unsigned *a, const unsigned *b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

struct Product {
    int rows, depth, columns, pixels, act;
};

template <int COLUMNS>
__device__ __forceinline__ void product(const __half *x, const __half *w, const Eight *bias, const Eight *z,
                                        const __half *scale, Eight *y, const Product &of) {
    constexpr int SIDE = COLUMNS * 4 / 128, STAGE = COLUMNS + 4; /* vectors of w a thread loads */
    constexpr size_t HALVES = 2 * (ROWS + COLUMNS) * PITCH * sizeof(__half), FLOATS = ROWS * STAGE * sizeof(float);
    __shared__ alignas(16) char memory[HALVES > FLOATS ? HALVES : FLOATS];
    __half *a = (__half *)memory, *b = a + 2 * ROWS * PITCH;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int first = blockIdx.y * ROWS, left = blockIdx.x * COLUMNS;
    int line = threadIdx.x / 4, vector = threadIdx.x % 4 * 8;
    float sum[2][COLUMNS / 8][4] = {};
    Eight next[4], beside[SIDE];
    const Eight zero = {};

    auto fetch = [&](int k) {
        bool within = k + vector < of.depth;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            int row = first + line + 32 * i;
            next[i] = zero;
            if (!within || row >= of.rows) continue;
            next[i] = *(const Eight *)(x + (size_t)row * of.depth + k + vector);
            if (scale) {
                Eight by = *(const Eight *)(scale + (size_t)(row / of.pixels) * of.depth + k + vector);
#pragma unroll
                for (int j = 0; j < 4; ++j) next[i].pair[j] = __hmul2(next[i].pair[j], by.pair[j]);
            }
        }
#pragma unroll
        for (int i = 0; i < SIDE; ++i) {
            int column = left + line + 32 * i;
            beside[i] = within && column < of.columns ? *(const Eight *)(w + (size_t)column * of.depth + k + vector) : zero;
        }
    };
    auto put = [&](int stage) {
#pragma unroll
        for (int i = 0; i < 4; ++i) *(Eight *)(a + (stage * ROWS + line + 32 * i) * PITCH + vector) = next[i];
#pragma unroll
        for (int i = 0; i < SIDE; ++i) *(Eight *)(b + (stage * COLUMNS + line + 32 * i) * PITCH + vector) = beside[i];
    };

    fetch(0);
    put(0);
    __syncthreads();
    int stage = 0;
#pragma unroll 1
    for (int k = 0; k < of.depth; k += DEPTH, stage ^= 1) {
        bool more = k + DEPTH < of.depth;
        if (more) fetch(k + DEPTH);
#pragma unroll
        for (int step = 0; step < DEPTH; step += 16) {
            unsigned rows[2][4];
#pragma unroll
            for (int i = 0; i < 2; ++i)
                load_matrices(rows[i], a + (stage * ROWS + warp * 32 + i * 16 + lane % 16) * PITCH + step + lane / 16 * 8);
#pragma unroll
            for (int j = 0; j < COLUMNS / 16; ++j) {
                unsigned columns[4];
                int at = stage * COLUMNS + j * 16 + lane / 16 * 8 + lane % 8;
                load_matrices(columns, b + at * PITCH + step + lane / 8 % 2 * 8);
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    multiply(sum[i][2 * j], rows[i], columns);
                    multiply(sum[i][2 * j + 1], rows[i], columns + 2);
                }
            }
        }
        if (more) put(stage ^ 1);
        __syncthreads();
    }

    float *staged = (float *)memory;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                int row = warp * 32 + i * 16 + half * 8 + lane / 4;
                *(float2 *)(staged + row * STAGE + j * 8 + lane % 4 * 2) =
                    make_float2(sum[i][j][2 * half], sum[i][j][2 * half + 1]);
            }
    __syncthreads();
    constexpr int VECTORS = COLUMNS / 8;
#pragma unroll 2
    for (int i = threadIdx.x; i < ROWS * VECTORS; i += 128) {
        int row = first + i / VECTORS, column = left / 8 + i % VECTORS;
        if (row >= of.rows || column >= of.columns / 8) continue;
        float here[8], more[8];
        eight_floats((const Four *)(staged + i / VECTORS * STAGE + i % VECTORS * 8), here);
        size_t place = (size_t)row * (of.columns / 8) + column;
        widen(bias[column], more);
#pragma unroll
        for (int c = 0; c < 8; ++c) here[c] += more[c];
        if (z) {
            widen(z[place], more);
#pragma unroll
            for (int c = 0; c < 8; ++c) here[c] += more[c];
        }
        activate(here, of.act);
        y[place] = narrowed(here);
    }
}

#define PRODUCT(COLUMNS)                                                                                             \
    extern "C" __global__ void __launch_bounds__(128) product_##COLUMNS(                                             \
        const __half *x, const __half *w, const Eight *bias, const Eight *z, const __half *scale, Eight *y,          \
        Product of) {                                                                                                \
        product<COLUMNS>(x, w, bias, z, scale, y, of);                                                               \
    }

PRODUCT(32)
PRODUCT(64)

/* y = act(a) * b, rows of `vectors`; those of a and b begin `stride` vectors apart. */
extern "C" __global__ void gated(const Eight *a, const Eight *b, Eight *y, int total, int vectors, int stride, int act) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    size_t row = place / vectors, from = row * stride + (place - row * vectors);
    float one[8], other[8];
    widen(a[from], one);
    widen(b[from], other);
    activate(one, act);
#pragma unroll
    for (int i = 0; i < 8; ++i) one[i] *= other[i];
    y[place] = narrowed(one);
}
