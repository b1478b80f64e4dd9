// The loss scale: a factor on all gradients of 16 bits, kept and changed on the device.
//
// values: see enum Value. alarm: see journal.cu; its second number is for one update alone, which optimizers leave out if it
// is not 0.
// Multiplying the gradients of losses and dividing those of parameters: 8 bytes and 1 flop each, memory bound; judging is
// one thread's work. Not measured yet.
#include "elementwise.cuh"

enum Value { SCALE, INVERSE, SKIPPED, GOOD, IN_A_ROW };  // VALUES in darkpy/backends/cuda/loss_scale.py

constexpr int GRADIENT = 2;  // enum Alarm in journal.cu

__device__ __forceinline__ void scale_all(float* x, long long stride, long long rows, long long columns, int by_four,
                                          float factor) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(x + row * stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] *= factor;
        store(x + row * stride + column, values);
    });
}

// The gradient of a loss; what it is to be divided by later stays the same whatever the scale becomes meanwhile.
extern "C" __global__ void __launch_bounds__(256)
multiply(float* x, long long stride, long long rows, long long columns, int by_four, float* values, int* alarm) {
    const float scale = values[SCALE];
    if (blockIdx.x + blockIdx.y + threadIdx.x + threadIdx.y == 0) values[INVERSE] = 1 / scale, alarm[1] = 0;
    scale_all(x, stride, rows, columns, by_four, scale);
}

extern "C" __global__ void __launch_bounds__(256)
divide(float* x, long long stride, long long rows, long long columns, int by_four, const float* values) {
    scale_all(x, stride, rows, columns, by_four, values[INVERSE]);
}

// After the gradients were looked at: alarm[1] says whether one is not finite. One thread.
extern "C" __global__ void judge(float* values, int* alarm, int is_dynamic, int good, float largest, int most_skipped) {
    if (alarm[0]) return;  // the loss itself was not finite, or an earlier update: nothing counts any more
    if (!alarm[1]) {
        values[GOOD] += 1;
        values[IN_A_ROW] = 0;
        if (is_dynamic && values[GOOD] >= good && values[SCALE] < largest) values[SCALE] *= 2, values[GOOD] = 0;
        return;
    }
    if (values[SCALE] <= 1 || (!is_dynamic && values[IN_A_ROW] >= most_skipped)) {
        alarm[0] = GRADIENT;
        return;
    }
    values[SKIPPED] += 1;
    values[IN_A_ROW] += 1;
    values[GOOD] = 0;
    if (is_dynamic) values[SCALE] *= 0.5f;
}
