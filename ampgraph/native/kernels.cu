/* Kernels of float16 images with channels last. Sums are float32. C is a multiple of 8: a thread works on 16 bytes. */
#include <cuda_fp16.h>

enum { NONE = 0, RELU = 1, SILU = 2, SIGMOID = 3, HARD_SIGMOID = 4, HARD_SWISH = 5, GELU = 6, HARD_SIGMOID_FIFTH = 7,
       RELU6 = 8 };

__device__ __forceinline__ float activated(float x, int kind) {
    switch (kind) {
        case RELU: return fmaxf(x, 0.f);
        case SILU: return x / (1.f + __expf(-x));
        case SIGMOID: return 1.f / (1.f + __expf(-x));
        case HARD_SIGMOID: return __saturatef(x * (1.f / 6.f) + 0.5f);
        case HARD_SIGMOID_FIFTH: return __saturatef(x * 0.2f + 0.5f);
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
    } else if (kind == RELU6) {
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = fminf(fmaxf(x[i], 0.f), 6.f);
    }
}

/* With erf(z) = 1 - (a1 t + ... + a5 t^5) exp(-z^2), t = 1 / (1 + p z), off by 1.5e-7 at most (Abramowitz and Stegun,
 * Handbook of Mathematical Functions, 7.1.26): erff takes longer than a product of few channels. */
__device__ __forceinline__ float gelu(float x) {
    float z = fabsf(x) * 0.70710678f, t = __fdividef(1.f, 1.f + 0.3275911f * z);
    float sum = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    float tail = 0.5f * sum * __expf(-z * z);
    return x * (x < 0.f ? tail : 1.f - tail);
}

/* For kernels that are not many: GELU takes room. */
__device__ __forceinline__ void activate_any(float *x, int kind) {
    if (kind == GELU) {
#pragma unroll
        for (int i = 0; i < 8; ++i) x[i] = gelu(x[i]);
    } else {
        activate(x, kind);
    }
}

/* Plain numbers: a copy of them is one instruction of 16 bytes, one of __half2 four. */
struct alignas(16) Eight {
    unsigned pair[4];
};

__device__ __forceinline__ __half2 halves(unsigned pair) {
    __half2 two;
    memcpy(&two, &pair, sizeof two);
    return two;
}

__device__ __forceinline__ unsigned packed(__half2 two) {
    unsigned pair;
    memcpy(&pair, &two, sizeof pair);
    return pair;
}

__device__ __forceinline__ void widen(Eight from, float *to) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        float2 two = __half22float2(halves(from.pair[i]));
        to[2 * i] = two.x;
        to[2 * i + 1] = two.y;
    }
}

__device__ __forceinline__ Eight narrowed(const float *from) {
    Eight to;
#pragma unroll
    for (int i = 0; i < 4; ++i) to.pair[i] = packed(__floats2half2_rn(from[2 * i], from[2 * i + 1]));
    return to;
}

#ifndef EMULATED /* a CPU brings its own (tests/native/emulated) */
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

/* Into shared memory without a register; there after `copied`. */
__device__ __forceinline__ void copy_later(void *to, const void *from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from));
}

__device__ __forceinline__ void copied() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#endif

/* A load of its own that is left out, not a choice of addresses: many are under way at once. */
__device__ __forceinline__ Eight read_within(const void *at, bool within) {
    uint4 found = make_uint4(0, 0, 0, 0);
    if (within) found = __ldg((const uint4 *)at);
    return Eight{{found.x, found.y, found.z, found.w}};
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
template <int CHANNELS, typename T>
__device__ __forceinline__ void image_block(const T *x, Eight *to, int row, int column, int height, int width) {
    float found[16] = {};
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        int h = 2 * row + part / 2, w = 2 * column + part % 2;
        bool within = h < height && w < width;
#pragma unroll
        for (int c = 0; c < CHANNELS; ++c)
            found[part * CHANNELS + c] = within ? (float)x[((size_t)c * height + h) * width + w] : 0.f;
    }
    to[0] = narrowed(found);
    to[1] = narrowed(found + 8);
}

template <typename T>
__device__ void image_blocks(const T *x, __half *y, int total, int channels, int height, int width) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    int across = (width + 1) / 2, down = (height + 1) / 2;
    int column = place % across, rest = place / across;
    int row = rest % down, n = rest / down;
    const T *from = x + (size_t)n * channels * height * width;
    Eight *to = (Eight *)y + 2 * (size_t)place;
    if (channels == 3) image_block<3>(from, to, row, column, height, width);
    else if (channels == 4) image_block<4>(from, to, row, column, height, width);
    else if (channels == 2) image_block<2>(from, to, row, column, height, width);
    else image_block<1>(from, to, row, column, height, width);
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
    for (int i = 0; i < 4; ++i) most.pair[i] = 0xFC00FC00;
    for (int r = max(first, 0); r < min(first + at.kernel_h, at.height); ++r)
        for (int s = max(left, 0); s < min(left + at.kernel_w, at.width); ++s) {
            Eight here = x[((size_t)(n * at.height + r) * at.width + s) * at.vectors + v];
#pragma unroll
            for (int i = 0; i < 4; ++i) most.pair[i] = packed(__hmax2_nan(halves(most.pair[i]), halves(here.pair[i])));
        }
    y[place] = most;
}

/* The same; with `bordered` pixels beyond the image count as zeros, else only those within do. */
extern "C" __global__ void average_pool(const Eight *x, Eight *y, int total, Window at, int bordered) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    int v = place % at.vectors, rest = place / at.vectors;
    int ow = rest % at.out_width;
    rest /= at.out_width;
    int oh = rest % at.out_height, n = rest / at.out_height;
    int first = oh * at.stride_h - at.top, left = ow * at.stride_w - at.left;
    int below = min(first + at.kernel_h, at.height), right = min(left + at.kernel_w, at.width);
    first = max(first, 0);
    left = max(left, 0);
    float sum[8] = {};
    for (int r = first; r < below; ++r)
        for (int s = left; s < right; ++s) {
            float here[8];
            widen(x[((size_t)(n * at.height + r) * at.width + s) * at.vectors + v], here);
#pragma unroll
            for (int i = 0; i < 8; ++i) sum[i] += here[i];
        }
    int pixels = bordered ? at.kernel_h * at.kernel_w : (below - first) * (right - left);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] /= pixels;
    y[place] = narrowed(sum);
}

struct alignas(16) Four {
    float of[4];
};

/* Block: 32 channels (4 vectors) of an image, 64 rows of threads over its pixels. y, or `wide` in float32: N, C. */
extern "C" __global__ void mean(const Eight *x, Eight *y, Four *wide, int pixels, int vectors) {
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
        size_t place = (size_t)blockIdx.y * vectors + v;
        if (y) y[place] = narrowed(sum);
        else {
            wide[2 * place] = {{sum[0], sum[1], sum[2], sum[3]}};
            wide[2 * place + 1] = {{sum[4], sum[5], sum[6], sum[7]}};
        }
    }
}

__device__ __forceinline__ void eight_floats(const Four *from, float *to) {
    Four low = from[0], high = from[1];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        to[i] = low.of[i];
        to[4 + i] = high.of[i];
    }
}

__device__ __forceinline__ void scale_and_shift(float *value, const Four *scale, const Four *shift) {
    float by[8], more[8];
    eight_floats(scale, by);
    eight_floats(shift, more);
#pragma unroll
    for (int i = 0; i < 8; ++i) value[i] = fmaf(value[i], by[i], more[i]);
}

__device__ __forceinline__ void add(float *sum, Eight from) {
    float more[8];
    widen(from, more);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] += more[i];
}

__device__ __forceinline__ void add_floats(float *sum, const Four *from) {
    float more[8];
    eight_floats(from, more);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] += more[i];
}

/* z is an image, or a row of float32 that all pixels have. */
enum { LATE_ROW = 2 };

/* act(sum + bias + z), or with `late` act(sum + bias) + z; z may be left out. A result's own vector of the image lies
 * at `place`, of the row at `column`. */
__device__ __forceinline__ Eight finished(float *sum, Eight bias, const void *z, size_t place, int column, int act,
                                          int late) {
    add(sum, bias);
    if (z && !late) add(sum, ((const Eight *)z)[place]);
    activate_any(sum, act);
    if (z && late == LATE_ROW) add_floats(sum, (const Four *)z + 2 * column);
    else if (z && late) add(sum, ((const Eight *)z)[place]);
    return narrowed(sum);
}

/* y = act(y + bias [+ z]), in place; rows of `vectors`. */
extern "C" __global__ void epilogue(Eight *y, const Eight *bias, const void *z, int total, int vectors, int act,
                                    int late) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    float sum[8];
    widen(y[place], sum);
    int v = place % vectors;
    y[place] = finished(sum, bias[v], z, place, v, act, late);
}

/* y = act(x * scale + shift), scale and shift: C; rows of `vectors`. */
extern "C" __global__ void affine(const Eight *x, const Four *scale, const Four *shift, Eight *y, int total, int vectors,
                                  int act) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    int v = place % vectors;
    float value[8];
    widen(x[place], value);
    scale_and_shift(value, scale + 2 * v, shift + 2 * v);
    activate_any(value, act);
    y[place] = narrowed(value);
}

/* y = x * scale, with `added` x * scale + x; scale: N, C. */
extern "C" __global__ void scaled(const Eight *x, const Eight *scale, Eight *y, int total, int vectors, int pixels,
                                  int added) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= total) return;
    int v = place % vectors, n = place / vectors / pixels;
    float here[8], by[8];
    widen(x[place], here);
    widen(scale[(size_t)n * vectors + v], by);
#pragma unroll
    for (int i = 0; i < 8; ++i) here[i] = fmaf(here[i], by[i], added ? here[i] : 0.f);
    y[place] = narrowed(here);
}

/* Thread: 8 channels of TILE output pixels in a row, whose windows are STRIDE pixels from each other. Taps are `down_gap`
 * rows and `gap` pixels apart, and so are a thread's pixels, which makes their windows overlap as without gaps.
 * Block: threadIdx.x over vectors, threadIdx.y over tiles of an
 * image (blockIdx.z). weight: K, K, C. With `after` (2, C) results are multiplied by its first row, and its second is
 * added. With `sums` (N, gridDim.y, C): what the block's pixels add to the mean. All
 * pixels of a row are asked for before one is used; the weights of the block's channels lie in shared memory:
 * max(K * K, blockDim.y), blockDim.x, 8 floats. */
template <int K, int STRIDE, int TILE>
__device__ __forceinline__ void depthwise(const Eight *x, const Four *weight, const Four *bias, const Four *after,
                                          Eight *y, float *sums, const Window &at, int act, int down_gap, int gap) {
    constexpr int SPAN = (TILE - 1) * STRIDE + K;
    extern __shared__ float part[];
    Four *taps = (Four *)part;
    int pairs = 2 * blockDim.x;
    for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < K * K * pairs; i += blockDim.x * blockDim.y)
        copy_later(taps + i, weight + i / pairs * 2 * at.vectors + blockIdx.x * pairs + i % pairs);
    copied();
    __syncthreads();
    int v = blockIdx.x * blockDim.x + threadIdx.x;
    int across = (at.out_width + TILE * gap - 1) / (TILE * gap) * gap;
    int tile = blockIdx.y * blockDim.y + threadIdx.y;
    int oh = tile / across, place = tile - oh * across, ow = place / gap * TILE * gap + place % gap;
    float total[8] = {};
    if (oh < at.out_height) {
        float sum[TILE][8];
        eight_floats(bias + 2 * v, sum[0]);
#pragma unroll
        for (int t = 1; t < TILE; ++t)
#pragma unroll
            for (int i = 0; i < 8; ++i) sum[t][i] = sum[0][i];
        int left = ow * STRIDE - at.left;
        int first = oh * at.stride_h - at.top;
#pragma unroll 1
        for (int r = first < 0 ? (down_gap - 1 - first) / down_gap : 0; r < K && first + r * down_gap < at.height; ++r) {
            int h = first + r * down_gap;
            const Eight *from = x + ((size_t)(blockIdx.z * at.height + h) * at.width + left) * at.vectors + v;
            Eight row[SPAN];
#pragma unroll
            for (int column = 0; column < SPAN; ++column)
                row[column] =
                    read_within(from + column * gap * at.vectors, (unsigned)(left + column * gap) < (unsigned)at.width);
            float by[K][8];
#pragma unroll
            for (int s = 0; s < K; ++s) eight_floats(taps + (r * K + s) * pairs + 2 * threadIdx.x, by[s]);
#pragma unroll
            for (int column = 0; column < SPAN; ++column) {
                float here[8];
                widen(row[column], here);
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
            if (ow + t * gap < at.out_width) {
                activate_any(sum[t], act);
                if (after) scale_and_shift(sum[t], after + 2 * v, after + 2 * (at.vectors + v));
#pragma unroll
                for (int i = 0; i < 8; ++i) total[i] += sum[t][i];
                to[t * gap * at.vectors] = narrowed(sum[t]);
            }
    }
    if (sums == nullptr) return;
    __syncthreads(); /* the weights are needed no more */
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

/* At least four blocks at a time of the one that is met most, which GELU would take one from. */
#define DEPTHWISE(K, S, T)                                                                                          \
    extern "C" __global__ void __launch_bounds__(128, K == 3 && S == 1 && T == 7 ? 4 : 0) depthwise_##K##_##S##_##T( \
        const Eight *x, const Four *weight, const Four *bias, const Four *after, Eight *y, float *sums, Window at,  \
        int act) {                                                                                                  \
        depthwise<K, S, T>(x, weight, bias, after, y, sums, at, act, 1, 1);                                         \
    }
#define DILATED(K, T)                                                                                               \
    extern "C" __global__ void __launch_bounds__(128) dilated_##K##_##T(                                            \
        const Eight *x, const Four *weight, const Four *bias, const Four *after, Eight *y, float *sums, Window at,  \
        int act, int down_gap, int gap) {                                                                           \
        depthwise<K, 1, T>(x, weight, bias, after, y, sums, at, act, down_gap, gap);                                \
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
DILATED(3, 7)
DILATED(5, 7)
DILATED(7, 7)
DILATED(3, 2)
DILATED(5, 2)
DILATED(7, 2)

/* Squeeze and excite: means -> hidden -> gates, a block an image. sums: N, parts, C; w1: hidden, C; w2: hidden, C
 * (transposed), in float32 as the biases: an error of a gate is one of a whole image; y: N, C; C a multiple of 8. What
 * is read in one step is asked for at once: a block has nothing else to wait for. Shared: C + hidden + 8 * blockDim.x
 * floats. */
extern "C" __global__ void __launch_bounds__(1024) excite(const Four *sums, const Four *w1, const float *b1,
                                                          const Four *w2, const float *b2, __half *y, int channels,
                                                          int hidden, int parts, int act, int gate) {
    extern __shared__ float means[];
    float *found = means + channels, *part = found + (hidden + 3) / 4 * 4;
    int threads = blockDim.x, fours = channels / 4;

    int groups = min(parts, max(1, threads / fours)), group = threadIdx.x / fours;
    for (int c = threadIdx.x - group * fours; c < fours && group < groups; c += threads) {
        Four sum = {};
        const Four *from = sums + (size_t)blockIdx.x * parts * fours + c;
#pragma unroll 8
        for (int p = group; p < parts; p += groups) {
            Four more = from[(size_t)p * fours];
#pragma unroll
            for (int i = 0; i < 4; ++i) sum.of[i] += more.of[i];
        }
        *(Four *)(part + (group * fours + c) * 4) = sum;
    }
    __syncthreads();
    for (int c = threadIdx.x; c < channels; c += threads) {
        float sum = 0.f;
#pragma unroll 8
        for (int g = 0; g < groups; ++g) sum += part[g * channels + c];
        means[c] = sum;
    }
    __syncthreads();

    int lane = threadIdx.x % 32;
    for (int h = threadIdx.x / 32; h < hidden; h += threads / 32) {
        float sum = 0.f;
        const Four *row = w1 + (size_t)h * fours;
#pragma unroll 5
        for (int c = lane; c < fours; c += 32) {
            Four by = row[c], mean = *(const Four *)(means + 4 * c);
#pragma unroll
            for (int i = 0; i < 4; ++i) sum += by.of[i] * mean.of[i];
        }
#pragma unroll
        for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (lane == 0) found[h] = activated(sum + b1[h], act);
    }
    __syncthreads();

    groups = min(hidden, max(1, threads / fours));
    group = threadIdx.x / fours;
    for (int c = threadIdx.x - group * fours; c < fours && group < groups; c += threads) {
        Four sum = {};
#pragma unroll 8
        for (int h = group; h < hidden; h += groups) {
            Four by = w2[(size_t)h * fours + c];
#pragma unroll
            for (int i = 0; i < 4; ++i) sum.of[i] += found[h] * by.of[i];
        }
        *(Four *)(part + (group * fours + c) * 4) = sum;
    }
    __syncthreads();
    for (int c = threadIdx.x; c < channels; c += threads) {
        float sum = b2[c];
#pragma unroll 8
        for (int g = 0; g < groups; ++g) sum += part[g * channels + c];
        y[(size_t)blockIdx.x * channels + c] = __float2half_rn(activated(sum, gate));
    }
}

/* Products of few columns: y = act((x * scale) w^T + bias [+ z]), z after the activation where it is `late`. x: rows,
 * K; w: N, K; scale: images, K, an image being `pixels` rows. Block: 128 rows by COLUMNS, four warps one below the
 * other, steps of 32 along K. What the next step reads is under way while this one is multiplied. */
constexpr int ROWS = 128, DEPTH = 32, PITCH = DEPTH + 8;

struct Product {
    int rows, depth, columns, pixels, act, late;
};

template <int COLUMNS>
__device__ __forceinline__ void product(const __half *x, const __half *w, const Eight *bias, const void *z,
                                        const __half *scale, Eight *y, const Product &of) {
    constexpr int SIDE = COLUMNS * 4 / 128, STAGE = COLUMNS + 4; /* vectors of w a thread loads */
    constexpr size_t HALVES = 2 * (ROWS + COLUMNS) * PITCH * sizeof(__half), FLOATS = ROWS * STAGE * sizeof(float);
    alignas(16) __shared__ char memory[HALVES > FLOATS ? HALVES : FLOATS];
    __half *a = (__half *)memory, *b = a + 2 * ROWS * PITCH;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int first = blockIdx.y * ROWS, left = blockIdx.x * COLUMNS;
    int line = threadIdx.x / 4, vector = threadIdx.x % 4 * 8;
    float sum[2][COLUMNS / 8][4] = {};
    Eight next[4], beside[SIDE];

    auto fetch = [&](int k) {
        bool within = k + vector < of.depth;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            int row = first + line + 32 * i;
            bool there = within && row < of.rows;
            next[i] = read_within(x + (size_t)row * of.depth + k + vector, there);
            if (scale) {
                Eight by = read_within(scale + (size_t)(row / of.pixels) * of.depth + k + vector, there);
#pragma unroll
                for (int j = 0; j < 4; ++j) next[i].pair[j] = packed(__hmul2(halves(next[i].pair[j]), halves(by.pair[j])));
            }
        }
#pragma unroll
        for (int i = 0; i < SIDE; ++i) {
            int column = left + line + 32 * i;
            beside[i] = read_within(w + (size_t)column * of.depth + k + vector, within && column < of.columns);
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
        float here[8];
        eight_floats((const Four *)(staged + i / VECTORS * STAGE + i % VECTORS * 8), here);
        size_t place = (size_t)row * (of.columns / 8) + column;
        y[place] = finished(here, bias[column], z, place, column, of.act, of.late);
    }
}

#define PRODUCT(COLUMNS)                                                                                             \
    extern "C" __global__ void __launch_bounds__(128) product_##COLUMNS(                                             \
        const __half *x, const __half *w, const Eight *bias, const void *z, const __half *scale, Eight *y,           \
        Product of) {                                                                                                \
        product<COLUMNS>(x, w, bias, z, scale, y, of);                                                               \
    }

PRODUCT(32)
PRODUCT(64)

struct Halves {
    int rows, vectors, stride, second, act; /* vectors of a row of y, and from one row of a or b to the next */
};

constexpr int GATED_ROWS = 4; /* a thread: what it reads of them is under way at once */

/* y = act(a + bias) * (b + bias behind it), or with `second` the other way round: act is b's. */
extern "C" __global__ void __launch_bounds__(256) gated(const Eight *a, const Eight *b, const Eight *bias, Eight *y,
                                                        Halves at) {
    int place = blockIdx.x * blockDim.x + threadIdx.x, column = place % at.vectors;
    int first = place / at.vectors * GATED_ROWS;
    Eight ones[GATED_ROWS], others[GATED_ROWS];
#pragma unroll
    for (int i = 0; i < GATED_ROWS; ++i) {
        size_t from = (size_t)(first + i) * at.stride + column;
        ones[i] = read_within(a + from, first + i < at.rows);
        others[i] = read_within(b + from, first + i < at.rows);
    }
    float low[8] = {}, high[8] = {};
    if (bias) {
        widen(bias[column], low);
        widen(bias[at.vectors + column], high);
    }
#pragma unroll
    for (int i = 0; i < GATED_ROWS; ++i) {
        if (first + i >= at.rows) return;
        float one[8], other[8];
        widen(ones[i], one);
        widen(others[i], other);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            one[j] += low[j];
            other[j] += high[j];
        }
        activate_any(at.second ? other : one, at.act);
#pragma unroll
        for (int j = 0; j < 8; ++j) one[j] *= other[j];
        y[(size_t)(first + i) * at.vectors + column] = narrowed(one);
    }
}

constexpr int AT_ONCE = 4; /* vectors a thread copies */

/* y: N, count, C: rows `places` of x: N, length, C. */
extern "C" __global__ void __launch_bounds__(256) rows(const Eight *x, const int *places, Eight *y, int total,
                                                       int vectors, int count, int length) {
    Eight held[AT_ONCE];
    int first = blockIdx.x * blockDim.x * AT_ONCE + threadIdx.x;
#pragma unroll
    for (int i = 0; i < AT_ONCE; ++i) {
        int place = first + i * blockDim.x, row = place / vectors, n = row / count;
        bool within = place < total;
        int from = within ? places[row - n * count] : 0;
        held[i] = read_within(x + ((size_t)n * length + from) * vectors + (place - row * vectors), within);
    }
#pragma unroll
    for (int i = 0; i < AT_ONCE; ++i)
        if (first + i * blockDim.x < total) y[first + i * blockDim.x] = held[i];
}

struct Heads {
    int total, vectors, turned, rest, length, half, positions; /* vectors of a row of x, of q and k, of v */
};

/* Queries, keys and values out of rows that hold all three; queries and keys are turned by their position, in pairs of
 * neighbours. cos, sin: positions, half of a head. A row's position is its own, or one start for all is given. */
extern "C" __global__ void rotary(const Eight *x, const long long *positions, const __half *cos, const __half *sin,
                                  Eight *q, Eight *k, Eight *v, Heads at) {
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= at.total) return;
    int row = place / at.vectors, column = place - row * at.vectors;
    Eight here = x[place];
    if (column >= 2 * at.turned) {
        v[(size_t)row * at.rest + column - 2 * at.turned] = here;
        return;
    }
    Eight *to = column < at.turned ? q : k;
    column -= column < at.turned ? 0 : at.turned;
    long long position = at.positions == 1 ? positions[0] + row % at.length : positions[row];
    size_t angle = (size_t)position * at.half + column * 4 % at.half;
    float found[8];
    widen(here, found);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        float c = __half2float(cos[angle + i]), s = __half2float(sin[angle + i]);
        float one = found[2 * i], other = found[2 * i + 1];
        found[2 * i] = one * c - other * s;
        found[2 * i + 1] = other * c + one * s;
    }
    to[(size_t)row * at.turned + column] = narrowed(found);
}

#include "norm.cuh"
#include "layer_norm.cuh"
