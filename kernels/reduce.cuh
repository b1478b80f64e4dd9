// Sums and maxima over the threads of a warp or a block.
#pragma once

constexpr unsigned ALL_LANES = 0xffffffffu;

// Over groups of `lanes` neighbouring lanes, a power of two; all lanes of the warp must call it.
template <class T> __device__ __forceinline__ T warp_sum(T value, int lanes = 32) {
#pragma unroll
    for (int step = lanes / 2; step; step /= 2) value += __shfl_xor_sync(ALL_LANES, value, step);
    return value;
}

__device__ __forceinline__ float warp_max(float value, int lanes = 32) {
#pragma unroll
    for (int step = lanes / 2; step; step /= 2) value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, step));
    return value;
}

// The sum over a block of whole warps, in every thread. All threads must call it.
template <int MOST_WARPS = 32> __device__ inline float block_sum(float value) {
    __shared__ float of_warp[MOST_WARPS];
    const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
    value = warp_sum(value);
    __syncthreads();  // an earlier sum may still be read
    if (threadIdx.x % 32 == 0) of_warp[warp] = value;
    __syncthreads();
    value = 0;
    for (int i = 0; i < warps; i++) value += of_warp[i];
    return value;
}

// Call body(row, lane, exists) for every row, each with `lanes` neighbouring lanes of a warp, a power of two. All lanes of
// a warp stay together, those beyond the last row with it again and exists false.
template <class Body> __device__ __forceinline__ void over_groups(long long rows, int lanes, Body body) {
    const int each = blockDim.x / lanes;
    for (long long first = blockIdx.x * (long long)each; first < rows; first += (long long)gridDim.x * each) {
        const long long row = first + threadIdx.x / lanes;
        body(row < rows ? row : rows - 1, threadIdx.x % lanes, row < rows);
    }
}
