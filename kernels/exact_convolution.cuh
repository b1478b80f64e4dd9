// Convolutions as products of matrices in float32 on the ordinary cores of any GPU: what the kernels of exact_forward.cu,
// exact_backward_input.cu and exact_backward_weights.cu are made of. M, N, K, A and B of each, and how a step along K lies in
// shared memory: convolution_operands.cuh.
//
// Tiles. A warp makes 32 x 64 (or 32 x 32) results, each of its lanes 8 x 8 (8 x 4) of them: 4 lanes along M, 8 along N. For 4
// terms of every sum a lane reads 4 floats of each of its rows and columns, 16 times 16 bytes for 256 multiply-adds, in either
// form: along K four terms of one row, across one term of four rows.
//
// Banks. Lanes that read at once have neighbouring rows or columns (along K) or neighbouring fours of them (across), which
// lie in different banks. Lane numbers are dealt out so that lanes i and i ^ 1 have the same rows, and i and i ^ 2 the same
// columns: what they read is the same, and need not be delivered twice.
//
// Pipeline. While one stage is multiplied, cp.async (before sm_80 an ordinary copy) fills the others; one barrier per step
// says both that the step has come and that everybody has left the stage that is filled next. A step is 1,024 (512)
// multiply-adds of each lane, time enough for what is on its way.
#pragma once

#include "convolution_tiles.cuh"

// What the kernels are named after. Two blocks of 256 threads, or as many warps in smaller ones, leave a lane 128 registers.
using Tile128x128 = Tile<128, 128, 4, 2, 3>;
using Tile128x64 = Tile<128, 64, 4, 1, 2>;
using Tile128x32 = Tile<128, 32, 4, 1, 2>;
using Tile32x128 = Tile<32, 128, 1, 2, 2>;
using Tile64x64 = Tile<64, 64, 2, 1, 2>;

constexpr int LANES_M = 4, LANES_N = 8;

__device__ __forceinline__ int lane_m() { return threadIdx.x >> 1 & 1 | threadIdx.x >> 3 & 2; }
__device__ __forceinline__ int lane_n() { return threadIdx.x & 1 | threadIdx.x >> 1 & 6; }

// A lane's rows of A or columns of B in a stage; the lane is one of LANES beside each other, and the warp's part begins at
// `first`, a multiple of 32. Addresses are those of Share::place, with what is known to the compiler kept together.
template <class S, int LANES> struct Lines {
    const char* from;
    int lane;

    __device__ __forceinline__ Lines(const char* tile, int first, int lane) : lane(lane) {
        from = tile + (S::ALONG_K ? (first + lane) * STEP_BYTES : first * 4);
    }
    // Which of the warp's the lane's line of a number is.
    __device__ static __forceinline__ int place(int lane, int number) {
        return S::ALONG_K ? lane + number * LANES : (lane + number / 4 * LANES) * 4 + number % 4;
    }
    // Along K: four terms, 4 chunk and on, of a line.
    __device__ __forceinline__ Values<4> terms(int chunk, int number) const {
        const int swizzle = chunk ^ number * LANES / 2 % 4 ^ lane / 2;
        return load(reinterpret_cast<const float*>(from + number * LANES * STEP_BYTES + (swizzle << 4)), Width<4>());
    }
    // Across: a term of four lines, 4 group and on.
    __device__ __forceinline__ Values<4> lines(int term, int group) const {
        const int s = term % 4 * 2, high = group * LANES ^ s / LANES * LANES;
        return load(reinterpret_cast<const float*>(from + term * S::LENGTH * 4 + (((lane ^ s % LANES) + high) << 4)), Width<4>());
    }
};

// A lane's share of its warp's results.
template <class T, class A, class B> struct Sums {
    static constexpr int ROWS = T::WM / LANES_M, COLUMNS = T::WN / LANES_N;
    using Rows = Lines<A, LANES_M>;
    using Columns = Lines<B, LANES_N>;
    float of[ROWS][COLUMNS] = {};

    // Adds the products of a stage: of B four terms of all columns are kept in registers, A comes four numbers at a time.
    __device__ __forceinline__ void add(const char* stage) {
        const Rows rows(stage, T::warp_m() * T::WM, lane_m());
        const Columns columns(stage + T::A_BYTES, T::warp_n() * T::WN, lane_n());
#pragma unroll 1
        for (int chunk = 0; chunk < STEP_BYTES / 16; chunk++) {
            float b[4][COLUMNS];
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) {
                const Values<4> four = B::ALONG_K ? columns.terms(chunk, i) : columns.lines(4 * chunk + i % 4, i / 4);
#pragma unroll
                for (int e = 0; e < 4; e++) (B::ALONG_K ? b[e][i] : b[i % 4][i / 4 * 4 + e]) = four[e];
            }
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                const int k = i / (ROWS / 4), group = i % (ROWS / 4);
                const Values<4> four = A::ALONG_K ? rows.terms(chunk, i) : rows.lines(4 * chunk + k, group);
#pragma unroll
                for (int e = 0; e < 4; e++)
#pragma unroll
                    for (int j = 0; j < COLUMNS; j++)
                        of[A::ALONG_K ? i : 4 * group + e][j] += four[e] * b[A::ALONG_K ? e : k][j];
            }
        }
    }
    // See emit_rows(): of each 16 rows a lane has four.
    __device__ __forceinline__ void stage(float* to, int i) const {
#pragma unroll
        for (int row = 0; row < 4; row++)
#pragma unroll
            for (int column = 0; column < COLUMNS; column++)
                to[Rows::place(lane_m(), row) * T::LINE + Columns::place(lane_n(), column)] = of[4 * i + row][column];
    }
};

// --- The product: `steps` steps along K from where a and b have begun.

template <class T, class A, class B>
__device__ __forceinline__ Sums<T, typename A::S, typename B::S> multiply(A& a, B& b, int steps, char* shared) {
    Sums<T, typename A::S, typename B::S> sums;
#pragma unroll
    for (int stage = 0; stage < T::STAGES - 1; stage++) {
        if (stage < steps) fetch_stage<T>(a, b, shared + stage * T::STAGE_BYTES);
        commit_copies();
    }
    int reading = 0, filling = T::STAGES - 1;
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        wait_for_copies<T::STAGES - 2>();
        __syncthreads();
        if (step + T::STAGES - 1 < steps) fetch_stage<T>(a, b, shared + filling * T::STAGE_BYTES);
        commit_copies();
        sums.add(shared + reading * T::STAGE_BYTES);
        filling = filling + 1 == T::STAGES ? 0 : filling + 1;
        reading = reading + 1 == T::STAGES ? 0 : reading + 1;
    }
    __syncthreads();
    return sums;
}
