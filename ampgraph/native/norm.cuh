/* Group normalization of images, and sums of images in either layout. Included by kernels.cu.
 *
 * In two kernels: moments of parts of every group (mean, and squares about that mean, so that nothing cancels), then
 * every block puts together those of its groups (Chan, Golub and LeVeque, Updating formulae, 1979) and normalizes. */

struct Norm {
    int channels, groups, pixels, parts, part, act; /* part: pixels (channels last) or elements of a group (first) */
    float epsilon;
};

constexpr int HELD = 4;        /* vectors a thread holds at once, channels last */
constexpr int HELD_FIRST = 32; /* elements a thread holds at once, channels first */
constexpr int SIDE = 64, PITCH_OF_PAIRS = SIDE / 2 + 1; /* of a tile: pairs of channels by pixels, no two lanes in one bank */

__device__ __forceinline__ float block_sum(float x, float *shared) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    __syncthreads(); /* who still reads the last sum */
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0.f;
    for (int i = 0; i < blockDim.x / 32; ++i) sum += shared[i];
    return sum;
}

/* x: N, C, pixels. moments: N, parts, groups, (mean, squares). Block (part, group, n) of 256: a group's elements lie
 * side by side. */
template <typename T>
__device__ __forceinline__ void moments_first(const T *x, float2 *moments, const Norm &at) {
    __shared__ float shared[8];
    long long elements = (long long)(at.channels / at.groups) * at.pixels, first = (long long)blockIdx.x * at.part;
    int count = (int)min((long long)at.part, elements - first);
    const T *from = x + ((size_t)blockIdx.z * at.groups + blockIdx.y) * elements + first;
    float held[HELD_FIRST], sum = 0.f, squares = 0.f;
#pragma unroll
    for (int i = 0; i < HELD_FIRST; ++i) {
        int place = i * blockDim.x + threadIdx.x;
        held[i] = place < count ? (float)from[place] : 0.f;
    }
#pragma unroll
    for (int i = 0; i < HELD_FIRST; ++i) sum += held[i];
    float mean = block_sum(sum, shared) / count;
#pragma unroll
    for (int i = 0; i < HELD_FIRST; ++i) {
        float off = i * blockDim.x + threadIdx.x < count ? held[i] - mean : 0.f;
        squares = fmaf(off, off, squares);
    }
    squares = block_sum(squares, shared);
    if (threadIdx.x == 0)
        moments[((size_t)blockIdx.z * at.parts + blockIdx.x) * at.groups + blockIdx.y] = make_float2(mean, squares);
}

extern "C" __global__ void __launch_bounds__(256) moments_first_float(const float *x, float2 *moments, Norm at) {
    moments_first(x, moments, at);
}

extern "C" __global__ void __launch_bounds__(256) moments_first_half(const __half *x, float2 *moments, Norm at) {
    moments_first(x, moments, at);
}

/* Sums over the rows of threads of what each has for its 8 channels: of group g in shared[g]. */
__device__ __forceinline__ void group_sums(const float *mine, float *shared, int channels, int groups) {
    int threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x, size = channels / groups;
    float *rows = shared + groups;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 8; ++i) rows[threadIdx.y * channels + 8 * threadIdx.x + i] = mine[i];
    __syncthreads();
    for (int c = thread; c < channels; c += threads) {
        float sum = 0.f;
        for (int row = 0; row < blockDim.y; ++row) sum += rows[row * channels + c];
        rows[c] = sum; /* read by nobody else */
    }
    __syncthreads();
    for (int g = thread; g < groups; g += threads) {
        float sum = 0.f;
        for (int c = 0; c < size; ++c) sum += rows[g * size + c];
        shared[g] = sum;
    }
    __syncthreads();
}

/* x: N, pixels, C; offset (or nothing): N, C, added to x. Block (part, n): threadIdx.x over vectors, threadIdx.y over
 * pixels, HELD a thread. Shared: groups + blockDim.y * C floats. */
extern "C" __global__ void __launch_bounds__(1024) moments_last(const Eight *x, const Eight *offset, float2 *moments,
                                                                Norm at) {
    extern __shared__ float part[];
    int vectors = at.channels / 8, size = at.channels / at.groups;
    int first = blockIdx.x * at.part, count = min(at.part, at.pixels - first);
    const Eight *from = x + ((size_t)blockIdx.y * at.pixels + first) * vectors + threadIdx.x;
    Eight held[HELD];
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        int pixel = i * blockDim.y + threadIdx.y;
        held[i] = read_within(from + (size_t)pixel * vectors, pixel < count);
    }
    float more[8] = {}, sum[8] = {}, here[8];
    if (offset) widen(offset[(size_t)blockIdx.y * vectors + threadIdx.x], more);
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        if (i * blockDim.y + threadIdx.y >= count) continue;
        widen(held[i], here);
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[j] += here[j] + more[j];
    }
    group_sums(sum, part, at.channels, at.groups);
    float mean[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        mean[j] = part[(8 * threadIdx.x + j) / size] / (count * size);
        sum[j] = 0.f;
    }
    float kept = 0.f;
    int thread = threadIdx.y * blockDim.x + threadIdx.x;
    if (thread < at.groups) kept = part[thread] / (count * size);
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        if (i * blockDim.y + threadIdx.y >= count) continue;
        widen(held[i], here);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            float off = here[j] + more[j] - mean[j];
            sum[j] = fmaf(off, off, sum[j]);
        }
    }
    group_sums(sum, part, at.channels, at.groups);
    if (thread < at.groups)
        moments[((size_t)blockIdx.y * at.parts + blockIdx.x) * at.groups + thread] = make_float2(kept, part[thread]);
}

/* Mean and 1 / deviation of groups `low` and on, as many as `groups`, of image n into stats, from those of all parts:
 * a part holds `by` elements for each of at.part, of `whole` in all. At most as many groups as threads, each of which
 * has a place in `scratch`. */
__device__ __forceinline__ void put_together(const float2 *moments, float2 *stats, float *scratch, int n, int low,
                                             int groups, long long whole, int by, const Norm &at) {
    int threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
    int beside = threads / groups, g = thread % groups, p = thread / groups;
    const float2 *from = moments + (size_t)n * at.parts * at.groups + low + g;
    for (int pass = 0; pass < 2; ++pass) {
        float mean = pass ? stats[g].x : 0.f, sum = 0.f;
        if (p < beside) {
#pragma unroll 8
            for (int i = p; i < at.parts; i += beside) {
                float2 found = from[(size_t)i * at.groups];
                float count = (float)(min((long long)at.part, whole - (long long)i * at.part) * by);
                float off = found.x - mean;
                sum += pass ? found.y + count * off * off : count * found.x;
            }
            scratch[thread] = sum;
        }
        __syncthreads();
        if (thread < groups) {
            float all = 0.f;
            for (int i = 0; i < beside; ++i) all += scratch[i * groups + thread];
            all /= (float)(whole * by);
            if (pass) stats[thread].y = rsqrtf(all + at.epsilon);
            else stats[thread].x = all;
        }
        __syncthreads();
    }
}

/* y = act((x + offset - mean) / deviation * gamma + beta). Blocks as those of moments_last. Shared: 2 * groups +
 * threads floats. */
extern "C" __global__ void __launch_bounds__(1024) normalize_last(const Eight *x, const Eight *offset,
                                                                  const float2 *moments, const Four *gamma,
                                                                  const Four *beta, Eight *y, Norm at) {
    extern __shared__ float part[];
    int vectors = at.channels / 8, size = at.channels / at.groups;
    int first = blockIdx.x * at.part, count = min(at.part, at.pixels - first);
    size_t start = ((size_t)blockIdx.y * at.pixels + first) * vectors + threadIdx.x;
    Eight held[HELD];
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        int pixel = i * blockDim.y + threadIdx.y;
        held[i] = read_within(x + start + (size_t)pixel * vectors, pixel < count);
    }
    float2 *stats = (float2 *)part;
    put_together(moments, stats, part + 2 * at.groups, blockIdx.y, 0, at.groups, at.pixels, size, at);
    float by[8], more[8], shift[8] = {};
    if (offset) widen(offset[(size_t)blockIdx.y * vectors + threadIdx.x], shift);
    eight_floats(gamma + 2 * threadIdx.x, by);
    eight_floats(beta + 2 * threadIdx.x, more);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        float2 found = stats[(8 * threadIdx.x + j) / size];
        by[j] *= found.y;
        more[j] += (shift[j] - found.x) * by[j];
    }
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        int pixel = i * blockDim.y + threadIdx.y;
        if (pixel >= count) continue;
        float here[8];
        widen(held[i], here);
#pragma unroll
        for (int j = 0; j < 8; ++j) here[j] = fmaf(here[j], by[j], more[j]);
        activate(here, at.act);
        y[start + (size_t)pixel * vectors] = narrowed(here);
    }
}

/* What is next to do for a warp of a tile's eight: a pair of channels at 32 pixels. */
__device__ __forceinline__ void tile_place(int step, int *pair, int *pixel) {
    int unit = threadIdx.x / 32 + 8 * step;
    *pair = unit % (SIDE / 2);
    *pixel = unit / (SIDE / 2) * 32 + threadIdx.x % 32;
}

/* The same of x: N, C, pixels; y: N, pixels, C. Block (64 pixels, 64 channels, n) of 256. */
template <typename T>
__device__ __forceinline__ void normalize_first(const T *x, const float2 *moments, const float *gamma,
                                                const float *beta, Eight *y, const Norm &at) {
    __shared__ __half2 tile[SIDE * PITCH_OF_PAIRS];
    __shared__ float2 stats[SIDE];
    __shared__ float scratch[256];
    int size = at.channels / at.groups, left = blockIdx.y * SIDE, top = blockIdx.x * SIDE;
    int low = left / size, high = (min(left + SIDE, at.channels) - 1) / size + 1;
    float held[SIDE / 8][2];
#pragma unroll
    for (int step = 0; step < SIDE / 8; ++step) {
        int pair, pixel;
        tile_place(step, &pair, &pixel);
        int channel = left + 2 * pair;
        const T *from = x + ((size_t)blockIdx.z * at.channels + channel) * at.pixels + top + pixel;
        bool within = channel < at.channels && top + pixel < at.pixels;
        held[step][0] = within ? (float)from[0] : 0.f;
        held[step][1] = within ? (float)from[at.pixels] : 0.f;
    }
    put_together(moments, stats, scratch, blockIdx.z, low, high - low, (long long)size * at.pixels, 1, at);
#pragma unroll
    for (int step = 0; step < SIDE / 8; ++step) {
        int pair, pixel;
        tile_place(step, &pair, &pixel);
        int channel = left + 2 * pair;
        if (channel >= at.channels) continue;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            float2 found = stats[(channel + i) / size - low];
            float z = (held[step][i] - found.x) * found.y * gamma[channel + i] + beta[channel + i];
            held[step][i] = at.act == SILU ? __fdividef(z, 1.f + __expf(-z)) : z;
        }
        tile[pixel * PITCH_OF_PAIRS + pair] = __floats2half2_rn(held[step][0], held[step][1]);
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        int pixel = threadIdx.x / 8 + 32 * i, vector = threadIdx.x % 8;
        if (top + pixel >= at.pixels || left + 8 * vector >= at.channels) continue;
        Eight here;
#pragma unroll
        for (int j = 0; j < 4; ++j) here.pair[j] = tile[pixel * PITCH_OF_PAIRS + 4 * vector + j];
        y[((size_t)blockIdx.z * at.pixels + top + pixel) * (at.channels / 8) + left / 8 + vector] = here;
    }
}

extern "C" __global__ void __launch_bounds__(256) normalize_first_float(const float *x, const float2 *moments,
                                                                        const float *gamma, const float *beta,
                                                                        Eight *y, Norm at) {
    normalize_first(x, moments, gamma, beta, y, at);
}

extern "C" __global__ void __launch_bounds__(256) normalize_first_half(const __half *x, const float2 *moments,
                                                                       const float *gamma, const float *beta,
                                                                       Eight *y, Norm at) {
    normalize_first(x, moments, gamma, beta, y, at);
}

/* y = x + z; x, y: N, C, pixels in float32; z: N, pixels, C. Block (64 pixels, 64 channels, n) of 256. */
extern "C" __global__ void __launch_bounds__(256) sum_first(const float *x, const Eight *z, float *y, int channels,
                                                            int pixels) {
    __shared__ __half2 tile[SIDE * PITCH_OF_PAIRS];
    int left = blockIdx.y * SIDE, top = blockIdx.x * SIDE;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        int pixel = threadIdx.x / 8 + 32 * i, vector = threadIdx.x % 8;
        bool within = top + pixel < pixels && left + 8 * vector < channels;
        size_t place = ((size_t)blockIdx.z * pixels + top + pixel) * (channels / 8) + left / 8 + vector;
        Eight here = read_within(z + place, within);
#pragma unroll
        for (int j = 0; j < 4; ++j) tile[pixel * PITCH_OF_PAIRS + 4 * vector + j] = here.pair[j];
    }
    __syncthreads();
#pragma unroll
    for (int step = 0; step < SIDE / 8; ++step) {
        int pair, pixel;
        tile_place(step, &pair, &pixel);
        int channel = left + 2 * pair;
        if (channel >= channels || top + pixel >= pixels) continue;
        size_t place = ((size_t)blockIdx.z * channels + channel) * pixels + top + pixel;
        float2 more = __half22float2(tile[pixel * PITCH_OF_PAIRS + pair]);
        float one = x[place], other = x[place + pixels];
        y[place] = one + more.x;
        y[place + pixels] = other + more.y;
    }
}
