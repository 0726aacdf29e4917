/* What kernels.cu uses of CUDA, on a CPU: a thread a thread, blocks one after the other. */
#pragma once
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#define EMULATED
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct Place { int x, y, z; };
inline thread_local Place threadIdx, blockIdx;
inline Place blockDim, gridDim;
alignas(16) inline float part[1 << 14], means[1 << 14];  // of kernels that are told how much when they start
inline std::unique_ptr<std::barrier<>> whole;
inline std::vector<std::unique_ptr<std::barrier<>>> warps;
inline thread_local int linear;
inline float lanes[32][32];
inline unsigned rows_of[32][32][4];

using std::max;
using std::min;
using __half = _Float16;
struct __half2 { _Float16 x, y; };
struct float2 { float x, y; };
struct uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline uint4 __ldg(const uint4 *at) { return *at; }
inline float2 __half22float2(__half2 two) { return {(float)two.x, (float)two.y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {(_Float16)x, (_Float16)y}; }
inline float __half2float(__half x) { return (float)x; }
inline __half __float2half_rn(float x) { return (__half)x; }
inline __half2 __hmax2_nan(__half2 a, __half2 b) { return {a.x > b.x ? a.x : b.x, a.y > b.y ? a.y : b.y}; }
inline __half2 __hmul2(__half2 a, __half2 b) { return {(__half)(a.x * b.x), (__half)(a.y * b.y)}; }
inline float __expf(float x) { return std::exp(x); }
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return std::min(1.f, std::max(0.f, x)); }

inline void __syncthreads() { whole->arrive_and_wait(); }
inline void __syncwarp() { warps[linear / 32]->arrive_and_wait(); }
inline float __shfl_xor_sync(unsigned, float x, int step) {
    int warp = linear / 32, lane = linear % 32;
    lanes[warp][lane] = x;
    __syncwarp();
    float found = lanes[warp][lane ^ step];
    __syncwarp();
    return found;
}

/* Tensor cores: what a warp's lanes hold goes into a table, and each lane takes what is its own. */
inline void load_matrices(unsigned *to, const __half *from) {
    int warp = linear / 32, lane = linear % 32;
    std::memcpy(rows_of[warp][lane], from, 16); /* row `lane % 8` of matrix `lane / 8` */
    __syncwarp();
    for (int matrix = 0; matrix < 4; ++matrix) to[matrix] = rows_of[warp][matrix * 8 + lane / 4][lane % 4];
    __syncwarp();
}

inline unsigned multiplied[32][32][6];
inline float element(unsigned pair, int which) {
    __half two[2];
    std::memcpy(two, &pair, 4);
    return (float)two[which];
}

inline void multiply(float *sum, const unsigned *a, const unsigned *b) {
    int warp = linear / 32, lane = linear % 32;
    auto &held = multiplied[warp];
    for (int i = 0; i < 4; ++i) held[lane][i] = a[i];
    for (int i = 0; i < 2; ++i) held[lane][4 + i] = b[i];
    __syncwarp();
    for (int place = 0; place < 4; ++place) {
        int row = lane / 4 + place / 2 * 8, column = lane % 4 * 2 + place % 2;
        for (int k = 0; k < 16; ++k) {
            unsigned left = held[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], right = held[column * 4 + k % 8 / 2][4 + k / 8];
            sum[place] += element(left, k % 2) * element(right, k % 2);
        }
    }
    __syncwarp();
}

inline void copy_later(void *to, const void *from) { std::memcpy(to, from, 16); }
inline void copied() {}

template <typename... T, size_t... I>
void started(void (*kernel)(T...), void **arguments, std::index_sequence<I...>) {
    kernel(*(std::decay_t<T> *)arguments[I]...);
}

template <typename... T>
void run(void (*kernel)(T...), Place grid, Place block, void **arguments) {
    int threads = block.x * block.y * block.z;
    gridDim = grid, blockDim = block;
    whole = std::make_unique<std::barrier<>>(threads);
    warps.clear();
    for (int left = threads; left > 0; left -= 32) warps.push_back(std::make_unique<std::barrier<>>(min(left, 32)));
    std::vector<std::thread> running;
    for (int i = 0; i < threads; ++i)
        running.emplace_back([=] {
            linear = i;
            threadIdx = {i % block.x, i / block.x % block.y, i / block.x / block.y};
            for (int b = 0; b < grid.x * grid.y * grid.z; ++b) {
                blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
                started(kernel, arguments, std::index_sequence_for<T...>());
                whole->arrive_and_wait();
            }
        });
    for (auto &each : running) each.join();
}
