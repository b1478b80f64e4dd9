// What is left to do where a convolution's sums over K have been divided into splits: each split's blocks have stored their
// sums, one set of all results after the other, and here they are added up, in a fixed order.
//
// Reads 4 bytes for each result and split, and writes the results: memory bound. Not measured yet.
#include "convolution_epilogue.cuh"

// Forward: out from the sum of the shares.
extern "C" __global__ void __launch_bounds__(256)
finish_forward(const float* shares, element* out, long long out_stride, long long positions, long long filters, int by_four,
               int splits, const float* scale, const float* bias, const float* mean, const float* variance, int kind,
               const element* residual, long long residual_stride, int after) {
    const Epilogue last = {scale, bias, mean, variance, kind, residual, residual_stride, after};
    over_rows(positions, filters, by_four, [&](long long row, long long column, auto width) {
        auto values = load(shares + row * filters + column, width);
        for (int split = 1; split < splits; split++) {
            const auto more = load(shares + (split * positions + row) * filters + column, width);
#pragma unroll
            for (int e = 0; e < width.value; e++) values[e] += more[e];
        }
#pragma unroll
        for (int e = 0; e < width.value; e++) {
            const Line line = line_of(last, column + e);
            values[e] = activate(kind, values[e] * line.factor + line.bias);
        }
        if (residual) {
            const auto more = load(residual + row * residual_stride + column, width);
#pragma unroll
            for (int e = 0; e < width.value; e++) values[e] = activate(after, values[e] + more[e]);
        }
        store(out + row * out_stride + column, values);
    });
}

// Input gradient: grad_x = or += the sum of the shares.
extern "C" __global__ void __launch_bounds__(256)
finish_backward_input(const float* shares, element* grad_x, long long x_stride, long long pixels, long long channels,
                      int by_four, int splits, int accumulate) {
    over_rows(pixels, channels, by_four, [&](long long row, long long column, auto width) {
        auto values = load(shares + row * channels + column, width);
        for (int split = 1; split < splits; split++) {
            const auto more = load(shares + (split * pixels + row) * channels + column, width);
#pragma unroll
            for (int e = 0; e < width.value; e++) values[e] += more[e];
        }
        store(grad_x + row * x_stride + column, values, accumulate);
    });
}

// Weight gradient: grad_weights += the sum of the shares.
extern "C" __global__ void __launch_bounds__(256)
add_shares(const float* shares, float* grad_weights, long long count, int splits) {
    over_all(count, [&](long long i) {
        float sum = 0;
        for (int split = 0; split < splits; split++) sum += shares[split * count + i];
        grad_weights[i] += sum;
    });
}
