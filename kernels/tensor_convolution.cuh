// Convolutions as products of matrices on tensor cores (sm_80 and newer; half precision on sm_75 too): what the kernels of tensor_forward.cu,
// tensor_backward_input.cu and tensor_backward_weights.cu are made of. M, N, K, A and B of each are those of
// convolution_operands.cuh. Written over `element`: float (multiplied as TF32, 10 bits of fraction), half or bfloat16; sums are float.
//
// Tiles. A block makes BM x BN results, each of its warps WM x WN of them, made of mma results of 16 x 8. It goes along K
// in steps of 64 bytes of elements (32 halves, 16 floats): for each step, BM of A's and BN of B's stretches of 64 bytes
// are brought to shared memory, BM * BN * 64 / sizeof(element) multiply-adds made of them.
//
// Pipeline. Shared memory holds STAGES steps. While one is multiplied, cp.async brings the third after it: 16 bytes a
// thread and instruction, past registers, zeros where a tap lies outside the picture. One barrier per step says both that
// the next step has come and that everybody has left the stage that is filled next. Fragments are double as well: those
// of the next 32 bytes along K are read before the present ones are multiplied.
// Turing cannot copy past registers, and has less shared memory: there two steps lie in it, and a third waits in registers
// for a whole step before it is stored.
//
// Shared memory of a stage: first A's tile, then B's, as convolution_operands.cuh lays them: the eight rows of a matrix that
// ldmatrix reads, and the 32 floats that a warp reads where ldmatrix cannot transpose (it moves 16 bits), lie in different
// banks.
//
// Fragments: who holds what is said in tensor_core.cuh. A warp's 16 x 8 result (i, j) begins at row 16 i, column 8 j of
// its part; a thread's four sums of it are those of c there.
//
// Epilogue: convolution_tiles.cuh.
#pragma once

#include "convolution_tiles.cuh"
#include "tensor_core.cuh"

#if __CUDA_ARCH__ >= 800 || (__CUDA_ARCH__ >= 750 && defined(ELEMENT_FLOAT16))
#define HAS_TENSOR_CORES
#define ON_TENSOR_CORES(...) __VA_ARGS__
#else
// Other GPUs are never sent here.
#define ON_TENSOR_CORES(...) __trap()
#endif

#ifdef HAS_TENSOR_CORES

constexpr int MMA_BYTES = 32;  // along K of one mma

// What the kernels are named after; four stages of the largest are 96 KB, which every GPU from sm_80 on has, and two 48 KB.
constexpr int STAGES = __CUDA_ARCH__ >= 800 ? 4 : 2;
using Tile256x128 = Tile<256, 128, 4, 2, STAGES>;
using Tile128x128 = Tile<128, 128, 2, 2, STAGES>;
using Tile128x64 = Tile<128, 64, 2, 2, STAGES>;
using Tile64x128 = Tile<64, 128, 2, 2, STAGES>;
using Tile64x64 = Tile<64, 64, 2, 2, STAGES>;

// --- Fragments.

// Where a warp's part of a tile begins, W along M or N for each warp: as bytes to add to every place where the
// exclusive-or does not reach so far, else as a number of rows or columns.
struct Part {
    int bytes, first;
};

template <class S, int W> __device__ __forceinline__ Part part_of(int warp) {
    if constexpr (S::ALONG_K) return {warp * W * STEP_BYTES, 0};
    if constexpr (W * sizeof(element) % 128 == 0) return {warp * W * (int)sizeof(element), 0};
    return {0, warp * W};
}

// Float (k + t, column + g) of a tile across, k a multiple of 4 and column of 8; g and t as in tensor_core.cuh. The same as
// by Share::place, with all that is known to the compiler kept together: four of these differ for a lane, not by additions.
template <int SIDE> __device__ __forceinline__ float float_across(const char* tile, int k, int column) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, chunk = column / CHUNK;
    const int place = k * SIDE * 4 + (chunk & ~6) * 16 + (((chunk & 6) ^ t * 2) << 4) + t * SIDE * 4 + g * 4;
    return *reinterpret_cast<const float*>(tile + place);
}

// The 16 rows of A from `row` on, 32 bytes along K.
template <class S> __device__ __forceinline__ void load_a(unsigned (&a)[4], const char* tile, int row, int step) {
    const int lane = threadIdx.x % 32, matrix = lane / 8, r = lane % 8;
    if constexpr (S::ALONG_K) {
        load_matrices(a, tile + S::place(row + matrix % 2 * 8 + r, step * 2 + matrix / 2));
    } else if constexpr (!IS_FLOAT) {
        load_matrices(a, tile + S::place(step * 16 + matrix / 2 * 8 + r, row / CHUNK + matrix % 2), true);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[i] = __float_as_uint(float_across<S::LENGTH>(tile, step * 8 + i / 2 * 4, row + i % 2 * 8));
    }
}

// The 16 columns of B from `column` on: two fragments of 8.
template <class S> __device__ __forceinline__ void load_b(unsigned (&b)[4], const char* tile, int column, int step) {
    const int lane = threadIdx.x % 32, matrix = lane / 8, r = lane % 8;
    if constexpr (S::ALONG_K) {
        load_matrices(b, tile + S::place(column + matrix / 2 * 8 + r, step * 2 + matrix % 2));
    } else if constexpr (!IS_FLOAT) {
        load_matrices(b, tile + S::place(step * 16 + matrix % 2 * 8 + r, column / CHUNK + matrix / 2), true);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            b[i] = __float_as_uint(float_across<S::LENGTH>(tile, step * 8 + i % 2 * 4, column + i / 2 * 8));
    }
}

// Tensor cores cut off what of a float's fraction they do not see. Half of its last place is added before: rounded
// to the nearest, errors have no sign in common. What is not finite stays as it is.
__device__ __forceinline__ void round_fragment(unsigned (&fragment)[4]) {
    if constexpr (IS_FLOAT) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (fabsf(__uint_as_float(fragment[i])) < __int_as_float(0x7f800000)) fragment[i] += 0x1000;
    }
}

__device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if defined(ELEMENT_FLOAT16)
    mma_f16(c, a, b);
#elif defined(ELEMENT_BFLOAT16)
    mma_bf16(c, a, b);
#else
    mma_tf32(c, a, b);
#endif
}

// A warp's fragments of 32 bytes along K, and its results.
template <class T> struct Fragments {
    unsigned a[T::WM / 16][4], b[T::WN / 16][4];

    template <class A, class B> __device__ __forceinline__ void load(const char* stage, int step) {
        const Part of_a = part_of<typename A::S, T::WM>(T::warp_m()), of_b = part_of<typename B::S, T::WN>(T::warp_n());
#pragma unroll
        for (int i = 0; i < T::WM / 16; i++) load_a<typename A::S>(a[i], stage + of_a.bytes, of_a.first + i * 16, step);
#pragma unroll
        for (int j = 0; j < T::WN / 16; j++)
            load_b<typename B::S>(b[j], stage + T::A_BYTES + of_b.bytes, of_b.first + j * 16, step);
    }
    __device__ __forceinline__ void multiply(float (&sums)[T::WM / 16][T::WN / 8][4]) {
#pragma unroll
        for (int i = 0; i < T::WM / 16; i++) round_fragment(a[i]);
#pragma unroll
        for (int j = 0; j < T::WN / 16; j++) round_fragment(b[j]);
#pragma unroll
        for (int i = 0; i < T::WM / 16; i++)
#pragma unroll
            for (int j = 0; j < T::WN / 8; j++) {
                const unsigned pair[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
                multiply_add(sums[i][j], a[i], pair);
            }
    }
};

// A lane's share of its warp's results.
template <class T> struct Sums {
    float of[T::WM / 16][T::WN / 8][4] = {};

    // See emit_rows().
    __device__ __forceinline__ void stage(float* to, int i) const {
        const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
        for (int j = 0; j < T::WN / 8; j++) {
            *reinterpret_cast<float2*>(to + g * T::LINE + j * 8 + t * 2) = make_float2(of[i][j][0], of[i][j][1]);
            *reinterpret_cast<float2*>(to + (g + 8) * T::LINE + j * 8 + t * 2) = make_float2(of[i][j][2], of[i][j][3]);
        }
    }
};

// --- The product: `steps` steps along K from where a and b have begun.

#if __CUDA_ARCH__ >= 800
template <class T, class A, class B> __device__ __forceinline__ Sums<T> multiply(A& a, B& b, int steps, char* shared) {
    Sums<T> sums;
    constexpr int MULTIPLICATIONS = STEP_BYTES / MMA_BYTES;
#pragma unroll
    for (int stage = 0; stage < T::STAGES - 1; stage++) {
        if (stage < steps) fetch_stage<T>(a, b, shared + stage * T::STAGE_BYTES);
        commit_copies();
    }
    wait_for_copies<T::STAGES - 2>();
    __syncthreads();
    Fragments<T> fragments[2];
    int reading = 0, filling = T::STAGES - 1;
    if (steps > 0) fragments[0].template load<A, B>(shared, 0);
    for (int step = 0; step < steps; step++) {
#pragma unroll
        for (int i = 0; i < MULTIPLICATIONS; i++) {
            if (i == 0) {
                if (step + T::STAGES - 1 < steps) fetch_stage<T>(a, b, shared + filling * T::STAGE_BYTES);
                commit_copies();
                filling = filling + 1 == T::STAGES ? 0 : filling + 1;
            }
            if (i + 1 < MULTIPLICATIONS) {
                fragments[(i + 1) % 2].template load<A, B>(shared + reading * T::STAGE_BYTES, i + 1);
            } else {
                wait_for_copies<T::STAGES - 2>();
                __syncthreads();
                reading = reading + 1 == T::STAGES ? 0 : reading + 1;
                if (step + 1 < steps) fragments[0].template load<A, B>(shared + reading * T::STAGE_BYTES, 0);
            }
            fragments[i % 2].multiply(sums.of);
        }
    }
    static_assert(MULTIPLICATIONS % 2 == 0);
    return sums;
}
#else
template <class T, class A, class B> __device__ __forceinline__ Sums<T> multiply(A& a, B& b, int steps, char* shared) {
    static_assert(T::STAGES == 2);
    Sums<T> sums;
    if (steps <= 0) return sums;
    InRegisters<typename A::S> of_a;
    InRegisters<typename B::S> of_b;
    const auto fetch = [&] {
        a.fetch(of_a);
        b.fetch(of_b);
    };
    const auto store = [&](char* stage) {
        of_a.store(stage);
        of_b.store(stage + T::A_BYTES);
    };
    fetch();
    store(shared);
    if (steps > 1) fetch();
    __syncthreads();
    for (int step = 0; step < steps; step++) {
        // The last barrier said that nobody reads the other stage any more, the next one says that it is filled.
        if (step + 1 < steps) store(shared + (step + 1) % 2 * T::STAGE_BYTES);
        if (step + 2 < steps) fetch();
#pragma unroll
        for (int i = 0; i < STEP_BYTES / MMA_BYTES; i++) {
            Fragments<T> fragments;
            fragments.template load<A, B>(shared + step % 2 * T::STAGE_BYTES, i);
            fragments.multiply(sums.of);
        }
        __syncthreads();
    }
    return sums;
}
#endif

#endif
