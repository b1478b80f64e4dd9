// One step of an optimizer over flat vectors of all parameters; nothing is done while the alarm of journal.cu is
// set, or the loss scale leaves this one out.
//
// SGD 20 bytes and 5 flops per parameter (three reads, two writes), Adam 28 bytes and some 15 flops: memory bound. Not
// measured yet.
#include "elementwise.cuh"

extern "C" __global__ void __launch_bounds__(256)
sgd(float* parameters, const float* gradients, float* velocity, long long count, int by_four, float rate, float momentum,
    float decay, const int* alarm) {
    if (alarm[0] || alarm[1]) return;
    over_rows(1, count, by_four, [&](long long, long long i, auto width) {
        auto p = load(parameters + i, width), v = load(velocity + i, width);
        const auto g = load(gradients + i, width);
#pragma unroll
        for (int k = 0; k < width.value; k++) {
            v[k] = momentum * v[k] - (g[k] + decay * p[k]);
            p[k] += rate * v[k];
        }
        store(velocity + i, v);
        store(parameters + i, p);
    });
}

// new1, new2: 1 - beta; first_share, second_share: 1 - beta^step. All from double precision: they cancel.
extern "C" __global__ void __launch_bounds__(256)
adam(float* parameters, const float* gradients, float* first, float* second, long long count, int by_four, float rate,
     float beta1, float beta2, float new1, float new2, float epsilon, float decay, float first_share, float second_share,
     const int* alarm) {
    if (alarm[0] || alarm[1]) return;
    over_rows(1, count, by_four, [&](long long, long long i, auto width) {
        auto p = load(parameters + i, width), m = load(first + i, width), v = load(second + i, width);
        const auto g = load(gradients + i, width);
#pragma unroll
        for (int k = 0; k < width.value; k++) {
            const float slope = g[k] + decay * p[k];
            m[k] = beta1 * m[k] + new1 * slope;
            v[k] = beta2 * v[k] + new2 * slope * slope;
            p[k] -= rate * (m[k] / first_share) / (sqrtf(v[k] / second_share) + epsilon);
        }
        store(first + i, m);
        store(second + i, v);
        store(parameters + i, p);
    });
}
