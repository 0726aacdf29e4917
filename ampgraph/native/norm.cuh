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

/* Sums over the rows of threads of what each has for its 8 channels, two numbers each: of group g in shared[g], for the
 * threads below `groups`. Shared: threads + 2 * 8 * threads floats; as many threads as groups, at least. */
__device__ __forceinline__ float2 group_sums(const float *one, const float *other, float *shared, int channels,
                                             int groups) {
    int threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x, size = channels / groups;
    float2 *rows = (float2 *)shared, *parts = rows + 8 * threads;
#pragma unroll
    for (int i = 0; i < 8; ++i)
        rows[threadIdx.y * channels + 8 * threadIdx.x + i] = make_float2(one[i], other[i]);
    __syncthreads();
    int beside = threads / groups, g = thread % groups, p = thread / groups;
    float2 sum = make_float2(0.f, 0.f);
    if (p < beside) {
        for (int i = p; i < size * blockDim.y; i += beside) {
            float2 more = rows[i / size * channels + g * size + i % size];
            sum.x += more.x;
            sum.y += more.y;
        }
        parts[thread] = sum;
    }
    __syncthreads();
    sum = make_float2(0.f, 0.f);
    if (thread < groups)
        for (int i = 0; i < beside; ++i) {
            float2 more = parts[i * groups + thread];
            sum.x += more.x;
            sum.y += more.y;
        }
    return sum;
}

/* x: N, pixels, C; offset (or nothing): N, C, added to x. Block (part, n): threadIdx.x over vectors, threadIdx.y over
 * pixels, HELD a thread. What is squared is taken from a pivot, the group's first number in the part: as far from the
 * mean as any. Shared: as group_sums says. */
extern "C" __global__ void __launch_bounds__(512) moments_last(const Eight *x, const Eight *offset, float2 *moments,
                                                                Norm at) {
    extern __shared__ float part[];
    int vectors = at.channels / 8, size = at.channels / at.groups;
    int first = blockIdx.x * at.part, count = min(at.part, at.pixels - first);
    const Eight *start = x + ((size_t)blockIdx.y * at.pixels + first) * vectors, *from = start + threadIdx.x;
    const __half *numbers = (const __half *)start, *more = (const __half *)(offset + (size_t)blockIdx.y * vectors);
    Eight held[HELD];
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        int pixel = i * blockDim.y + threadIdx.y;
        held[i] = read_within(from + (size_t)pixel * vectors, pixel < count);
    }
    float shift[8] = {}, sum[8] = {}, squares[8] = {}, here[8];
    if (offset) widen(((const Eight *)more)[threadIdx.x], shift);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        int channel = (8 * threadIdx.x + j) / size * size;
        shift[j] -= __half2float(numbers[channel]) + (offset ? __half2float(more[channel]) : 0.f);
    }
#pragma unroll
    for (int i = 0; i < HELD; ++i) {
        if (i * blockDim.y + threadIdx.y >= count) continue;
        widen(held[i], here);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            float off = here[j] + shift[j];
            sum[j] += off;
            squares[j] = fmaf(off, off, squares[j]);
        }
    }
    float2 all = group_sums(sum, squares, part, at.channels, at.groups);
    int thread = threadIdx.y * blockDim.x + threadIdx.x;
    if (thread >= at.groups) return;
    float mean = all.x / (count * size);
    float pivot = __half2float(numbers[thread * size]) + (offset ? __half2float(more[thread * size]) : 0.f);
    moments[((size_t)blockIdx.y * at.parts + blockIdx.x) * at.groups + thread] =
        make_float2(pivot + mean, fmaxf(all.y - all.x * mean, 0.f));
}

/* Mean and 1 / deviation of groups `low` and on, as many as `groups`, of image n into stats, from those of all parts:
 * a part holds `by` elements for each of at.part, of `whole` in all. Means are taken from the first part's. At most as
 * many groups as threads, each of which has a place in `scratch`. */
__device__ __forceinline__ void put_together(const float2 *moments, float2 *stats, float2 *scratch, int n, int low,
                                             int groups, int whole, int by, const Norm &at) {
    int threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
    int beside = threads / groups, g = thread % groups, p = thread / groups;
    const float2 *from = moments + (size_t)n * at.parts * at.groups + low + g;
    float pivot = from[0].x;
    float2 sum = make_float2(0.f, 0.f);
    if (p < beside) {
#pragma unroll 8
        for (int i = p; i < at.parts; i += beside) {
            float2 found = from[(size_t)i * at.groups];
            float count = (float)(min(at.part, whole - i * at.part) * by), off = found.x - pivot;
            sum.x += count * off;
            sum.y += found.y + count * off * off;
        }
        scratch[thread] = sum;
    }
    __syncthreads();
    if (thread < groups) {
        sum = make_float2(0.f, 0.f);
        for (int i = 0; i < beside; ++i) {
            float2 more = scratch[i * groups + thread];
            sum.x += more.x;
            sum.y += more.y;
        }
        float count = (float)whole * by, mean = sum.x / count;
        stats[thread] = make_float2(pivot + mean, rsqrtf(fmaxf(sum.y / count - mean * mean, 0.f) + at.epsilon));
    }
    __syncthreads();
}

/* y = act((x + offset - mean) / deviation * gamma + beta). Blocks as those of moments_last. Shared: 2 * groups +
 * 2 * threads floats. */
extern "C" __global__ void __launch_bounds__(512) normalize_last(const Eight *x, const Eight *offset,
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
    float by[8], more[8], shift[8] = {};
    if (offset) widen(offset[(size_t)blockIdx.y * vectors + threadIdx.x], shift);
    eight_floats(gamma + 2 * threadIdx.x, by);
    eight_floats(beta + 2 * threadIdx.x, more);
    put_together(moments, stats, stats + at.groups, blockIdx.y, 0, at.groups, at.pixels, size, at);
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
    __shared__ float2 stats[SIDE], scratch[256], rows[SIDE]; /* rows: what a channel is multiplied by, and what is added */
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
    int mine = left + threadIdx.x;
    bool has_channel = threadIdx.x < SIDE && mine < at.channels;
    float by = has_channel ? gamma[mine] : 0.f, more = has_channel ? beta[mine] : 0.f;
    put_together(moments, stats, scratch, blockIdx.z, low, high - low, size * at.pixels, 1, at);
    if (has_channel) {
        float2 found = stats[mine / size - low];
        by *= found.y;
        rows[threadIdx.x] = make_float2(by, more - found.x * by);
    }
    __syncthreads();
#pragma unroll
    for (int step = 0; step < SIDE / 8; ++step) {
        int pair, pixel;
        tile_place(step, &pair, &pixel);
        if (left + 2 * pair >= at.channels) continue;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            float2 row = rows[2 * pair + i];
            float z = fmaf(held[step][i], row.x, row.y);
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
        for (int j = 0; j < 4; ++j) here.pair[j] = packed(tile[pixel * PITCH_OF_PAIRS + 4 * vector + j]);
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
        for (int j = 0; j < 4; ++j) tile[pixel * PITCH_OF_PAIRS + 4 * vector + j] = halves(here.pair[j]);
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
