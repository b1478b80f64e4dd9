// Sums of losses in double precision, and the alarm: a number that is 0 until something is NaN or infinite.
//
// Optimizers read it and do nothing while it is set, so that the host need not look at every update. What came first
// stays: a gradient of a loss that is not finite is none either. Sums: one block for each, a few kilobytes. The check of
// the gradients reads 4 bytes per parameter: memory bound. Not measured yet.
#include "elementwise.cuh"

enum Alarm { LOSS = 1, GRADIENT = 2 };

// All who write in a launch write the same.
__device__ __forceinline__ void set_alarm(int* alarm, int what) {
    if (*alarm == 0) *alarm = what;
}

// out (sums): the sums of shares (blocks, sums), always in the same order. A block of 256 threads for each.
extern "C" __global__ void __launch_bounds__(256)
add_up(const float* shares, int blocks, int sums, double* out, int* alarm) {
    __shared__ double of_thread[256];
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += 256) sum += shares[i * (long long)sums + blockIdx.x];
    of_thread[threadIdx.x] = sum;
    for (int half = 128; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) of_thread[threadIdx.x] += of_thread[threadIdx.x + half];
    }
    if (threadIdx.x) return;
    out[blockIdx.x] = of_thread[0];
    if (!isfinite(of_thread[0])) set_alarm(alarm, LOSS);
}

extern "C" __global__ void __launch_bounds__(256)
watch(const float* gradients, long long stride, long long rows, long long columns, int* alarm) {
    bool is_bad = false;
    over_all(rows * columns, [&](long long i) { is_bad |= !isfinite(gradients[i / columns * stride + i % columns]); });
    if (is_bad) set_alarm(alarm, GRADIENT);
}
