// Products and weighted sums of whole pictures, dropout, clipping, signs.
//
// 12 bytes per element (two reads, a write) and 1 or 2 flops; sums over positions are those of batchnorm.cu and
// pooling.cu. Memory bound. Not measured yet.
#include "elementwise.cuh"
#include "reduce.cuh"

// out = a * b, or += .
extern "C" __global__ void __launch_bounds__(256)
product(const element* a, long long a_stride, const element* b, long long b_stride, element* out, long long out_stride,
        long long rows, long long columns, int by_four, int accumulate) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(a + row * a_stride + column, width);
        const auto others = load(b + row * b_stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] *= others[i];
        store(out + row * out_stride + column, values, accumulate);
    });
}

// out = x * factor, or += : one factor for each channel of each picture, or for each position.
extern "C" __global__ void __launch_bounds__(256)
scale_channels(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long channels,
               int by_four, const element* factors, long long factor_stride, int positions, int is_per_position,
               int accumulate) {
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto width) {
        auto values = load(x + row * x_stride + c, width);
        const element* factor = factors + (is_per_position ? row * factor_stride : row / positions * factor_stride + c);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] *= to_float(factor[is_per_position ? 0 : i]);
        store(out + row * out_stride + c, values, accumulate);
    });
}

// out = x + the summand of its picture's channel.
extern "C" __global__ void __launch_bounds__(256)
shift_channels(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long channels,
               int by_four, const element* summands, long long summand_stride, int positions) {
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto width) {
        auto values = load(x + row * x_stride + c, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] += to_float(summands[row / positions * summand_stride + c + i]);
        store(out + row * out_stride + c, values);
    });
}

// out[row] = the sum over channels of a * b, or += : a warp for each row.
extern "C" __global__ void __launch_bounds__(256)
row_products(const element* a, long long a_stride, const element* b, long long b_stride, element* out, long long out_stride,
             long long rows, int channels, int accumulate) {
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    for (long long row = blockIdx.x * (long long)warps + threadIdx.x / 32; row < rows; row += (long long)gridDim.x * warps) {
        float sum = 0;
        for (int c = lane; c < channels; c += 32) sum += to_float(a[row * a_stride + c]) * to_float(b[row * b_stride + c]);
        sum = warp_sum(sum);
        if (lane == 0) put(out + row * out_stride, sum, accumulate);
    }
}

// --- Weighted sums. Weights are (inputs, lanes): lanes is 1, or the number of channels.

// out = x * factors[c % lanes], or += .
extern "C" __global__ void __launch_bounds__(256)
scale_by_channel(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long channels,
                 int by_four, const float* factors, int lanes, int accumulate) {
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto width) {
        auto values = load(x + row * x_stride + c, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] *= factors[lanes == 1 ? 0 : c + i];
        store(out + row * out_stride + c, values, accumulate);
    });
}

// out = the sum of factors[i] * input i, or += : as many of a, b, c, d as `inputs` says, rounded once.
extern "C" __global__ void __launch_bounds__(256)
weighted_sum(const element* a, long long a_stride, const element* b, long long b_stride, const element* c, long long c_stride,
             const element* d, long long d_stride, element* out, long long out_stride, long long rows, long long channels,
             int by_four, const float* factors, int inputs, int lanes, int accumulate) {
    over_rows(rows, channels, by_four, [&](long long row, long long channel, auto width) {
        auto sum = load(a + row * a_stride + channel, width);
        auto weigh = [&](auto& values, int input) {
#pragma unroll
            for (int i = 0; i < width.value; i++) values[i] *= factors[input * lanes + (lanes == 1 ? 0 : channel + i)];
        };
        auto add = [&](const element* x, long long stride, int input) {
            auto values = load(x + row * stride + channel, width);
            weigh(values, input);
#pragma unroll
            for (int i = 0; i < width.value; i++) sum[i] += values[i];
        };
        weigh(sum, 0);
        if (inputs > 1) add(b, b_stride, 1);
        if (inputs > 2) add(c, c_stride, 2);
        if (inputs > 3) add(d, d_stride, 3);
        store(out + row * out_stride + channel, sum, accumulate);
    });
}

enum Normalization { NONE, RELU, SOFTMAX };

constexpr float EPSILON = 1e-4f;  // NORMALIZATION_EPSILON

__device__ __forceinline__ float numerator(float weight, float largest, int normalization) {
    return normalization == RELU ? fmaxf(weight, 0) : expf(weight - largest);
}

__device__ __forceinline__ float largest_of(const float* weights, int inputs, int lanes) {
    float largest = weights[0];
    for (int i = 1; i < inputs; i++) largest = fmaxf(largest, weights[i * lanes]);
    return largest;
}

__device__ __forceinline__ float total_of(const float* weights, int inputs, int lanes, float largest, int normalization) {
    float total = EPSILON;
    for (int i = 0; i < inputs; i++) total += numerator(weights[i * lanes], largest, normalization);
    return total;
}

// What the inputs are multiplied by; a thread for each lane.
extern "C" __global__ void __launch_bounds__(128)
normalize_weights(const float* weights, float* factors, int inputs, int lanes, int normalization) {
    const int lane = blockIdx.x * blockDim.x + threadIdx.x;
    if (lane >= lanes) return;
    const float* mine = weights + lane;
    const float largest = largest_of(mine, inputs, lanes), total = total_of(mine, inputs, lanes, largest, normalization);
    for (int i = 0; i < inputs; i++)
        factors[i * lanes + lane] =
            normalization == NONE ? mine[i * lanes] : numerator(mine[i * lanes], largest, normalization) / total;
}

// grad_weights += : products (inputs, channels) are the sums over positions of input times gradient. A thread for each
// lane; with one lane it adds up all channels.
extern "C" __global__ void __launch_bounds__(128)
weights_backward(const float* weights, float* products, float* grad_weights, int inputs, int lanes, int channels,
                 int normalization) {
    const int lane = blockIdx.x * blockDim.x + threadIdx.x;
    if (lane >= lanes) return;
    for (int i = 0; i < inputs && lanes == 1; i++) {
        double sum = 0;
        for (int c = 0; c < channels; c++) sum += products[i * channels + c];
        products[i * channels] = (float)sum;
    }
    const float* mine = weights + lane;
    const float largest = largest_of(mine, inputs, lanes), total = total_of(mine, inputs, lanes, largest, normalization);
    float shared = 0;
    for (int i = 0; i < inputs; i++)
        shared += products[i * channels + lane] * numerator(mine[i * lanes], largest, normalization) / total;
    bool is_first = true;
    for (int i = 0; i < inputs; i++) {
        const float weight = mine[i * lanes];
        float g = products[i * channels + lane];
        if (normalization == RELU) g = weight > 0 ? (g - shared) / total : 0;
        if (normalization == SOFTMAX) {
            g = (g - shared) * numerator(weight, largest, normalization) / total;
            // The largest weight, subtracted before exp, would cancel but for the epsilon in the total.
            if (weight == largest && is_first) {
                g -= shared * EPSILON / total;
                is_first = false;
            }
        }
        grad_weights[i * lanes + lane] += g;
    }
}

// --- Others.

// out = x / (1 - probability) where mask >= probability, else 0; or += .
extern "C" __global__ void __launch_bounds__(256)
drop(const element* x, long long x_stride, const float* mask, long long mask_stride, element* out, long long out_stride,
     long long rows, long long columns, int by_four, float probability, float scale, int accumulate) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(x + row * x_stride + column, width);
        const auto chances = load(mask + row * mask_stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] = chances[i] >= probability ? scale * values[i] : 0;
        store(out + row * out_stride + column, values, accumulate);
    });
}

// The same with a probability for each picture.
extern "C" __global__ void __launch_bounds__(256)
drop_by_picture(const element* x, long long x_stride, const float* mask, long long mask_stride, element* out,
                long long out_stride, long long rows, long long channels, int by_four, const float* probabilities,
                int positions, int accumulate) {
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto width) {
        const float probability = probabilities[row / positions], scale = probability < 1 ? 1 / (1 - probability) : 0;
        auto values = load(x + row * x_stride + c, width);
        const auto chances = load(mask + row * mask_stride + c, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] = chances[i] >= probability ? scale * values[i] : 0;
        store(out + row * out_stride + c, values, accumulate);
    });
}

extern "C" __global__ void __launch_bounds__(256)
clip(element* x, long long x_stride, long long rows, long long columns, int by_four, float limit) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(x + row * x_stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] = fminf(fmaxf(values[i], -limit), limit);
        store(x + row * x_stride + column, values);
    });
}

// out = 1 where x > 0, else -1.
extern "C" __global__ void __launch_bounds__(256)
binarize(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long columns,
         int by_four) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(x + row * x_stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] = values[i] > 0 ? 1 : -1;
        store(out + row * out_stride + column, values);
    });
}

// out = the sign of each weight times the mean size of its filter's; a block for each filter.
extern "C" __global__ void __launch_bounds__(256)
binarize_filters(const float* weights, float* out, int size) {
    const float* mine = weights + (long long)blockIdx.x * size;
    float sum = 0;
    for (int i = threadIdx.x; i < size; i += blockDim.x) sum += fabsf(mine[i]);
    const float mean = block_sum(sum) / size;
    for (int i = threadIdx.x; i < size; i += blockDim.x) out[(long long)blockIdx.x * size + i] = mine[i] > 0 ? mean : -mean;
}
