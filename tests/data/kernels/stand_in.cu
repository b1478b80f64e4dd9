// Kernels with and without mistakes, for the tests of the stand-in GPU.
#include "../../../kernels/copies.cuh"
#include "../../../kernels/tensor_core.cuh"

extern "C" __global__ void copy(const float* x, float* out, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = x[i];
}

// Reads its right neighbour: the last one has none.
extern "C" __global__ void read_beyond(const float* x, float* out, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = x[i + 4];
}

extern "C" __global__ void write_before(float* out) { out[(int)threadIdx.x - 1] = 1; }

// Threads 0 and 1 take two pairs of halves, from the element `first` on: 8 bytes at a time.
extern "C" __global__ void __launch_bounds__(32, 2) copy_in_fours(const unsigned short* x, unsigned short* out, int first) {
    struct alignas(8) Four {
        unsigned short v[4];
    };
    if (threadIdx.x < 2) ((Four*)out)[threadIdx.x] = ((const Four*)(x + first))[threadIdx.x];
}

// x * y + z, rounded once, and where the product is to be rounded apart.
extern "C" __global__ void rounding(const float* x, const float* y, const float* z, float* out, int apart) {
    const int i = threadIdx.x;
    if (apart)
        out[i] = __fmul_rn(x[i], y[i]) + z[i];
    else
        out[i] = x[i] * y[i] + z[i];
}

extern "C" __global__ void reverse(const float* x, float* out, int with_barrier) {
    __shared__ float values[64];
    values[threadIdx.x] = x[threadIdx.x];
    if (with_barrier == 1) __syncthreads();
    if (with_barrier == 2) __syncwarp();
    out[threadIdx.x] = values[63 - threadIdx.x];
}

extern "C" __global__ void read_unwritten(float* out) {
    __shared__ float values[64];
    if (threadIdx.x == 0) values[0] = 1;
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x];
}

extern "C" __global__ void index_beyond(float* out, int i) {
    __shared__ float values[64];
    values[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x + i];
}

extern "C" __global__ void barrier_for_some(float* out) {
    if (threadIdx.x < 32) __syncthreads();
    out[threadIdx.x] = 1;
}

extern "C" __global__ void shuffle_for_some(float* out) {
    out[threadIdx.x] = 0;
    if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (float)threadIdx.x, 1);
}

extern "C" __global__ void warp_operations(float* out) {
    const unsigned all = 0xffffffffu;
    const int lane = threadIdx.x;
    out[lane] = __shfl_down_sync(all, (float)lane, 1);
    out[32 + lane] = __shfl_sync(all, (float)lane, 5);
    out[64 + lane] = __shfl_up_sync(all, (float)lane, 2, 8);
    out[96 + lane] = (float)__popc(__ballot_sync(all, lane % 3 == 0));
    out[128 + lane] = (float)__reduce_add_sync(all, (unsigned)lane);
}

extern "C" __global__ void add_up(float* sum) { atomicAdd(sum, 1.0f); }

extern "C" __global__ void dynamic_shared(float* out) {
    extern __shared__ float values[];
    values[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

// Without the wait the copies are still on the way.
extern "C" __global__ void copy_through_shared(const float* x, float* out, int with_wait) {
    __shared__ __align__(16) float values[128];
    copy_async(values + 4 * threadIdx.x, x + 4 * threadIdx.x, threadIdx.x == 31 ? 8 : 16);
    commit_copies();
    if (with_wait) wait_for_copies<0>();
    __syncthreads();
    for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = values[4 * threadIdx.x + i];
}

// c (16, 8) = a (16, 16) b, b given as its transpose (8, 16): half precision, by ldmatrix and mma.
extern "C" __global__ void multiply_halves(const float* a, const float* b, float* c) {
    __shared__ __align__(16) __half tile_a[16 * 16], tile_b[16 * 16];
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    for (int i = lane; i < 256; i += 32) {
        tile_a[i] = __float2half(a[i]);
        tile_b[i] = __float2half(i < 128 ? b[i] : 0);
    }
    __syncthreads();
    unsigned of_a[4], of_b[4];
    load_matrices(of_a, tile_a + (lane % 16) * 16 + lane / 16 * 8);
    load_matrices(of_b, tile_b + (lane % 8 + lane / 16 * 8) * 16 + lane / 8 % 2 * 8);
    float sums[4] = {};
    const unsigned first[2] = {of_b[0], of_b[1]};
    mma_f16(sums, of_a, first);
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}

// c (16, 8) = a (16, 8) b (8, 8) in TF32.
extern "C" __global__ void multiply_tf32(const float* a, const float* b, float* c) {
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    unsigned of_a[4], of_b[2];
    for (int i = 0; i < 4; i++) of_a[i] = to_tf32(a[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
    for (int i = 0; i < 2; i++) of_b[i] = to_tf32(b[(t + i * 4) * 8 + g]);
    float sums[4] = {};
    mma_tf32(sums, of_a, of_b);
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
}
