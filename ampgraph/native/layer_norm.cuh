/* Layer and root mean square normalization of rows, with the sums before it. Included by kernels.cu after norm.cuh. */

struct Lines {
    int rows, vectors;  /* of y; vectors of a row */
    int count, length;  /* rows of an image in y and in x; count 0: y has the rows of x */
    int others, beside; /* rows that an image's skip is added to, and rows of skip an image; others 0: as many as x */
    int simple;         /* no mean is taken off */
    float epsilon;
};

/* Which of rows, `length` an image, is the row-th of those at the `count` places of an image; without places at the
 * first ones. */
__device__ __forceinline__ int row_at(int row, const int *places, int count, int length) {
    if (count == 0) return row;
    int n = row / count, rest = row - n * count;
    return n * length + (places ? places[rest] : rest);
}

/* Of what all threads of a row have: a power of two side by side, more than 32 only where the block has one row. */
__device__ __forceinline__ float row_sum(float x, float *shared) {
    if (blockDim.x > 32) return block_sum(x, shared);
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
        if (step < blockDim.x) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* sum = x + skip + bias; y = (sum - mean) / deviation * gamma + beta, of the sum in float32, not of what it is rounded
 * to; y at `places` of the sum, which adds skip at places `beside`. A row that y has twice is computed and its sum
 * written twice, alike. Whole warps: threadIdx.x over vectors, VECTORS a thread, threadIdx.y over rows. The row stays in
 * registers, so squares are of what is left without the mean. gamma and beta are asked for while the first sum is made:
 * earlier they would take room from x. */
template <int VECTORS>
__device__ __forceinline__ void layer_norm(const Eight *x, const Eight *gamma, const Eight *beta, const Eight *skip,
                                           const Eight *bias, const int *places, const int *beside, Eight *y,
                                           Eight *sum, const Lines &at) {
    __shared__ float shared[8];
    int row = blockIdx.x * blockDim.y + threadIdx.y, from = row_at(row, places, at.count, at.length);
    size_t first = (size_t)from * at.vectors, to = (size_t)row * at.vectors;
    bool within[VECTORS];
    Eight held[VECTORS], more[VECTORS], shift[VECTORS], by[VECTORS], off[VECTORS];
#pragma unroll
    for (int i = 0; i < VECTORS; ++i) {
        int column = i * blockDim.x + threadIdx.x;
        within[i] = row < at.rows && column < at.vectors;
        held[i] = read_within(x + first + column, within[i]);
    }
    size_t other = (size_t)row_at(from, beside, at.others, at.beside) * at.vectors; /* known while x is under way */
#pragma unroll
    for (int i = 0; i < VECTORS; ++i) {
        int column = i * blockDim.x + threadIdx.x;
        more[i] = read_within(skip + other + column, skip && within[i]);
        shift[i] = read_within(bias + column, bias && within[i]);
    }
    float found[VECTORS][8], whole = 0.f, squares = 0.f;
#pragma unroll
    for (int i = 0; i < VECTORS; ++i) {
        float one[8], two[8];
        widen(held[i], found[i]);
        widen(more[i], one);
        widen(shift[i], two);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            found[i][j] += one[j] + two[j];
            whole += found[i][j];
        }
        if (sum && within[i]) sum[first + i * blockDim.x + threadIdx.x] = narrowed(found[i]);
    }
#pragma unroll
    for (int i = 0; i < VECTORS; ++i) {
        int column = i * blockDim.x + threadIdx.x;
        by[i] = read_within(gamma + column, within[i]);
        off[i] = read_within(beta + column, beta && within[i]);
    }
    float part_of = 1.f / (8 * at.vectors), mean = at.simple ? 0.f : row_sum(whole, shared) * part_of;
#pragma unroll
    for (int i = 0; i < VECTORS; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            found[i][j] -= mean;
            if (within[i]) squares = fmaf(found[i][j], found[i][j], squares);
        }
    float scale = rsqrtf(fmaf(row_sum(squares, shared), part_of, at.epsilon));
#pragma unroll
    for (int i = 0; i < VECTORS; ++i) {
        float one[8], two[8];
        widen(by[i], one);
        widen(off[i], two);
#pragma unroll
        for (int j = 0; j < 8; ++j) found[i][j] = fmaf(found[i][j] * scale, one[j], two[j]);
        if (within[i]) y[to + i * blockDim.x + threadIdx.x] = narrowed(found[i]);
    }
}

#define LAYER_NORM(VECTORS)                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) layer_norm_##VECTORS(                                          \
        const Eight *x, const Eight *gamma, const Eight *beta, const Eight *skip, const Eight *bias,                 \
        const int *places, const int *beside, Eight *y, Eight *sum, Lines at) {                                      \
        layer_norm<VECTORS>(x, gamma, beta, skip, bias, places, beside, y, sum, at);                                 \
    }

LAYER_NORM(3)
LAYER_NORM(4)
LAYER_NORM(5)
