// The tiles of results that blocks of threads make in the kernels for convolutions, and how results leave them: what those
// on ordinary cores (exact_convolution.cuh) and those on tensor cores (tensor_convolution.cuh) have in common.
//
// A block makes BM x BN results, each of its warps WM x WN of them; it goes along K step by step, and shared memory holds
// STAGES steps: BM rows of A and BN of B, STEP_BYTES of each, as convolution_operands.cuh brings them.
//
// Epilogue. Each warp takes its results, 16 rows at a time, through shared memory, so that a lane gets 16 bytes of
// neighbouring results: scale, bias, activation, a residual and statistics are computed there, and whole rows are written.
#pragma once

#include "convolution_operands.cuh"
#include "elementwise.cuh"

template <int BM_, int BN_, int WARPS_M_, int WARPS_N_, int STAGES_ = 4> struct Tile {
    static constexpr int BM = BM_, BN = BN_, STAGES = STAGES_, WARPS_M = WARPS_M_, WARPS_N = WARPS_N_;
    static constexpr int THREADS = 32 * WARPS_M * WARPS_N, WM = BM / WARPS_M, WN = BN / WARPS_N;
    static constexpr int A_BYTES = BM * STEP_BYTES, STAGE_BYTES = (BM + BN) * STEP_BYTES;
    // Of one warp in the epilogue: 16 rows of floats, a few more so that rows begin in different banks.
    static constexpr int LINE = WN + 8, STAGING = 16 * LINE;
    static_assert(WM % 16 == 0 && WN % 16 == 0);
    static_assert(4 * STAGING * WARPS_M * WARPS_N <= STAGES * STAGE_BYTES);
    __device__ static int warp_m() { return threadIdx.x / 32 / WARPS_N; }
    __device__ static int warp_n() { return threadIdx.x / 32 % WARPS_N; }
};

// A stage of shared memory, to be filled by what brings A and B.
template <class T, class A, class B> __device__ __forceinline__ void fetch_stage(A& a, B& b, char* stage) {
    ToShared<typename A::S> for_a = {stage};
    ToShared<typename B::S> for_b = {stage + T::A_BYTES};
    a.fetch(for_a);
    b.fetch(for_b);
}

// --- The results.

// How a warp's lanes share its results in the epilogue: each takes WIDTH neighbours of every ROWS-th row.
template <class T, int WIDTH_> struct Lanes {
    static constexpr int WIDTH = WIDTH_, ACROSS = T::WN / WIDTH, ROWS = 32 / ACROSS;
    static_assert(32 % ACROSS == 0 && 16 % ROWS == 0);
    // The first of the lane's columns within the block's tile, and its first row within a group of 16.
    __device__ static int column() { return T::warp_n() * T::WN + threadIdx.x % ACROSS * WIDTH; }
    __device__ static int row() { return threadIdx.x % 32 / ACROSS; }
};

// Calls emit(m, values) for WIDTH neighbours of row m of the block's tile, in columns L::column() and on. sums.stage(to, i)
// puts the lane's share of the warp's rows 16 i to 16 i + 15 at `to`, where rows are T::LINE floats apart.
template <class T, class L, class Sums, class Emit>
__device__ __forceinline__ void emit_rows(const Sums& sums, char* shared, Emit emit) {
    // No stage is read or filled any more: multiply() has ended with a barrier.
    float* staging = reinterpret_cast<float*>(shared) + threadIdx.x / 32 * T::STAGING;
#pragma unroll
    for (int i = 0; i < T::WM / 16; i++) {
        __syncwarp();
        sums.stage(staging, i);
        __syncwarp();
#pragma unroll 2  // what is done with a row is long
        for (int pass = 0; pass < 16 / L::ROWS; pass++) {
            const int row = L::row() + pass * L::ROWS;
            Values<L::WIDTH> values;
#pragma unroll
            for (int e = 0; e < L::WIDTH; e += 4) {
                const auto four = load(staging + row * T::LINE + threadIdx.x % L::ACROSS * L::WIDTH + e, Width<4>());
                values[e] = four[0], values[e + 1] = four[1], values[e + 2] = four[2], values[e + 3] = four[3];
            }
            emit(T::warp_m() * T::WM + i * 16 + row, values);
        }
    }
}

// Neighbours in a row of which `count` exist, from and to memory.
template <class Number, int WIDTH>
__device__ __forceinline__ void read_row(Values<WIDTH>& values, const Number* from, int count, bool vectors) {
    if (vectors && count >= WIDTH) {
        struct alignas(sizeof(Number) * WIDTH > 16 ? 16 : sizeof(Number) * WIDTH) Group {
            Number v[WIDTH];
        };
        const Group group = *reinterpret_cast<const Group*>(from);
#pragma unroll
        for (int e = 0; e < WIDTH; e++) values[e] = to_float(group.v[e]);
    } else {
#pragma unroll
        for (int e = 0; e < WIDTH; e++) values[e] = e < count ? to_float(from[e]) : 0;
    }
}

template <class Number, int WIDTH>
__device__ __forceinline__ void write_row(Number* to, const Values<WIDTH>& values, int count, bool vectors) {
    if (vectors && count >= WIDTH) {
        struct alignas(sizeof(Number) * WIDTH > 16 ? 16 : sizeof(Number) * WIDTH) Group {
            Number v[WIDTH];
        } group;
#pragma unroll
        for (int e = 0; e < WIDTH; e++) group.v[e] = rounded<Number>(values[e]);
        *reinterpret_cast<Group*>(to) = group;
    } else {
#pragma unroll
        for (int e = 0; e < WIDTH; e++)
            if (e < count) to[e] = rounded<Number>(values[e]);
    }
}
