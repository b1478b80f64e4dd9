// Activations, forward and backward: element by element, and over the channels of each position.
//
// Forward 8 bytes per element (one read, one write), backward 12, or 16 where it adds to what is there; from 1 (relu) to
// some 40 (mish backward) flops. Memory bound. Not measured yet.
#include "activations.cuh"
#include "elementwise.cuh"
#include "reduce.cuh"

// out = activation(a + b).
extern "C" __global__ void __launch_bounds__(256)
sum(const element* a, long long a_stride, const element* b, long long b_stride, element* out, long long out_stride,
    long long rows, long long columns, int by_four, int kind) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(a + row * a_stride + column, width);
        const auto others = load(b + row * b_stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] = activate(kind, values[i] + others[i]);
        store(out + row * out_stride + column, values);
    });
}

extern "C" __global__ void __launch_bounds__(256)
activation_forward(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long columns,
                   int by_four, int kind) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(x + row * x_stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] = activate(kind, values[i]);
        store(out + row * out_stride + column, values);
    });
}

// value: the activation's input or its result, as derivative() wants it.
extern "C" __global__ void __launch_bounds__(256)
activation_backward(const element* value, long long value_stride, const element* grad_out, long long grad_out_stride,
                    element* grad_x, long long grad_x_stride, long long rows, long long columns, int by_four, int kind,
                    int accumulate) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(value + row * value_stride + column, width);
        auto gradients = load(grad_out + row * grad_out_stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) gradients[i] *= derivative(kind, values[i]);
        store(grad_x + row * grad_x_stride + column, gradients, accumulate);
    });
}

// --- Over the channels of a position: `lanes` neighbouring lanes of a warp for each position, a power of two, each with
// the channels that many apart.

enum ChannelActivation { NORMALIZE, SOFTMAX, SOFTMAX_MAXVAL };  // in the order of CHANNEL_ACTIVATIONS

constexpr float EPSILON = 1e-4f;  // NORMALIZATION_EPSILON

// What the channels of a position share.
struct Position {
    float shift, total;
    // The numerator of a channel.
    __device__ float grown(int kind, float x) const { return kind == NORMALIZE ? fmaxf(x, 0) : expf(x - shift); }
};

__device__ Position shared_of(const element* x, int channels, int kind, int lane, int lanes) {
    Position found = {0, 0};
    float epsilon = EPSILON;
    if (kind != NORMALIZE) {
        float largest = -INFINITY;
        for (int c = lane; c < channels; c += lanes) largest = fmaxf(largest, to_float(x[c]));
        found.shift = warp_max(largest, lanes);
        if (kind == SOFTMAX) {
            // Without the maximum exp might overflow: numerator and denominator are both divided by exp(shift).
            found.shift = fmaxf(found.shift, 0);
            epsilon *= expf(-found.shift);
        }
    }
    for (int c = lane; c < channels; c += lanes) found.total += found.grown(kind, to_float(x[c]));
    found.total = warp_sum(found.total, lanes) + epsilon;
    return found;
}

extern "C" __global__ void __launch_bounds__(256)
channel_activation_forward(const element* x, long long x_stride, element* out, long long out_stride, long long rows,
                           int channels, int lanes, int kind) {
    over_groups(rows, lanes, [&](long long row, int lane, bool exists) {
        const element* values = x + row * x_stride;
        const Position shared = shared_of(values, channels, kind, lane, lanes);
        for (int c = lane; c < channels && exists; c += lanes)
            put(out + row * out_stride + c, shared.grown(kind, to_float(values[c])) / shared.total);
    });
}

extern "C" __global__ void __launch_bounds__(256)
channel_activation_backward(const element* x, long long x_stride, const element* grad_out, long long grad_out_stride,
                            element* grad_x, long long grad_x_stride, long long rows, int channels, int lanes, int kind,
                            int accumulate) {
    over_groups(rows, lanes, [&](long long row, int lane, bool exists) {
        const element* values = x + row * x_stride;
        const element* gradients = grad_out + row * grad_out_stride;
        const Position shared = shared_of(values, channels, kind, lane, lanes);
        // The sum of g y, and the first channel with the largest value.
        float product = 0, largest = -INFINITY;
        int place = channels;
        for (int c = lane; c < channels; c += lanes) {
            const float value = to_float(values[c]);
            product += to_float(gradients[c]) * shared.grown(kind, value);
            if (value > largest || place == channels) largest = value, place = c;
        }
        product = warp_sum(product, lanes) / shared.total;
        const float top = warp_max(largest, lanes);
        place = largest == top ? place : channels;
        for (int step = lanes / 2; step; step /= 2) place = min(place, __shfl_xor_sync(ALL_LANES, place, step));
        for (int c = lane; c < channels && exists; c += lanes) {
            const float value = to_float(values[c]);
            float g = (to_float(gradients[c]) - product) / shared.total;
            g *= kind == NORMALIZE ? (value > 0) : shared.grown(kind, value);
            // The maximum, subtracted before exp, would cancel but for the epsilon in the total.
            if (kind == SOFTMAX_MAXVAL && c == place) g -= EPSILON * product / shared.total;
            put(grad_x + row * grad_x_stride + c, g, accumulate);
        }
    });
}
