// Batch normalisation and biases: sums over all positions of each channel, and what is done with them.
//
// Arrays are rows (positions of pictures) of channels, `stride` apart. Sums go in two levels: a block adds up a stretch
// of rows for 32 channels, its 8 rows of threads taking every eighth row; a second kernel adds the blocks' shares in
// double precision. Forward in training 12 bytes per element (the sums read, normalising reads and writes; 8 where the
// convolution before has added up the sums), backward 20 to 28; some 10 flops: memory bound. Not measured yet.
//
// Variance: each thread subtracts the first value of its stretch before it squares, so that little cancels, and shares
// are joined by Chan's formula.
#include "activations.cuh"
#include "elementwise.cuh"
#include "moments.cuh"

constexpr int ACROSS = 32;  // channels of a block
constexpr int DOWN = 8;     // rows of threads

// The rows of a block's stretch.
struct Stretch {
    long long first, last;
};

__device__ __forceinline__ Stretch stretch_of(long long rows) {
    const long long length = (rows + gridDim.y - 1) / gridDim.y, first = blockIdx.y * length;
    return {first, first + length < rows ? first + length : rows};
}

// Add up over the rows of threads; the result is in row 0.
__device__ __forceinline__ float over_threads(float value, float (*shared)[ACROSS]) {
    __syncthreads();
    shared[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    value = 0;
    if (threadIdx.y == 0)
        for (int i = 0; i < DOWN; i++) value += shared[i][threadIdx.x];
    return value;
}

// --- Statistics.

// partials (blocks y, 2, channels): mean of the stretch, sum of the squared distances to it.
extern "C" __global__ void __launch_bounds__(256)
statistics_of_stretches(const element* x, long long stride, long long rows, int channels, float* partials) {
    __shared__ float shared[DOWN][ACROSS];
    const int c = blockIdx.x * ACROSS + threadIdx.x;
    const Stretch stretch = stretch_of(rows);
    const float count = stretch.last > stretch.first ? stretch.last - stretch.first : 0;
    const float shift = c < channels && count > 0 ? to_float(x[stretch.first * stride + c]) : 0;
    float sum = 0, squares = 0;
    if (c < channels)
        for (long long row = stretch.first + threadIdx.y; row < stretch.last; row += DOWN) {
            const float d = to_float(x[row * stride + c]) - shift;
            sum += d;
            squares += d * d;
        }
    sum = over_threads(sum, shared);
    squares = over_threads(squares, shared);
    if (threadIdx.y == 0 && c < channels) {
        float* mine = partials + 2ll * blockIdx.y * channels + c;
        mine[0] = count > 0 ? shift + sum / count : 0;
        mine[channels] = count > 0 ? fmaxf(squares - sum * sum / count, 0) : 0;
    }
}

// partials (stretches, 2, channels) of all rows, of which each but the last has `length`, or counts[stretch] if that is given.
__device__ __forceinline__ Moments<double> moments_of(const float* partials, const float* counts, int stretch,
                                                      long long length, long long rows, int channels, int c) {
    const long long first = stretch * length, last = first + length < rows ? first + length : rows;
    const double count = counts ? counts[stretch] : last - first;
    if (count <= 0) return {0, 0, 0};
    return {count, partials[2ll * stretch * channels + c], partials[(2ll * stretch + 1) * channels + c]};
}

// Many statistics to few: joined (blocks y, 2, channels) and joined_counts (blocks y), if there are counts, from partials of
// stretches, of which a block takes `each` for 32 channels.
extern "C" __global__ void __launch_bounds__(256)
join_stretches(const float* partials, const float* counts, int stretches, int each, long long length, long long rows,
               int channels, float* joined, float* joined_counts) {
    __shared__ Moments<double> shared[DOWN][ACROSS];
    const int c = blockIdx.x * ACROSS + threadIdx.x, first = blockIdx.y * each;
    Moments<double> all = {0, 0, 0};
    if (c < channels)
        for (int i = first + threadIdx.y; i < first + each && i < stretches; i += DOWN)
            all = join(all, moments_of(partials, counts, i, length, rows, channels, c));
    shared[threadIdx.y][threadIdx.x] = all;
    __syncthreads();
    if (threadIdx.y || c >= channels) return;
    for (int i = 1; i < DOWN; i++) all = join(all, shared[i][threadIdx.x]);
    float* mine = joined + 2ll * blockIdx.y * channels + c;
    mine[0] = (float)all.mean;
    mine[channels] = (float)all.squares;
    if (counts && c == 0) joined_counts[blockIdx.y] = (float)all.count;
}

// Mean and variance of every channel from those of stretches, and the rolling statistics.
extern "C" __global__ void __launch_bounds__(128)
join_statistics(const float* partials, const float* counts, int stretches, long long length, long long rows, int channels, float* mean,
                float* variance, float* rolling_mean, float* rolling_variance, float momentum) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    Moments<double> all = {0, 0, 0};
    for (int i = 0; i < stretches; i++) all = join(all, moments_of(partials, counts, i, length, rows, channels, c));
    const float new_mean = (float)all.mean, new_variance = (float)(all.count > 1 ? all.squares / (all.count - 1) : 0);
    mean[c] = new_mean;
    variance[c] = new_variance;
    rolling_mean[c] = (1 - momentum) * rolling_mean[c] + momentum * new_mean;
    rolling_variance[c] = (1 - momentum) * rolling_variance[c] + momentum * new_variance;
}

// --- Normalising.

extern "C" __global__ void __launch_bounds__(256)
normalize(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long channels,
          int by_four, const float* scales, const float* biases, const float* mean, const float* variance, int kind) {
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto width) {
        auto values = load(x + row * x_stride + c, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) {
            const float factor = scales[c + i] / sqrtf(variance[c + i] + BATCHNORM_EPSILON);
            values[i] = activate(kind, (values[i] - mean[c + i]) * factor + biases[c + i]);
        }
        store(out + row * out_stride + c, values);
    });
}

extern "C" __global__ void __launch_bounds__(256)
bias_activation(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long channels,
                int by_four, const float* biases, int kind) {
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto width) {
        auto values = load(x + row * x_stride + c, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] = activate(kind, values[i] + biases[c + i]);
        store(out + row * out_stride + c, values);
    });
}

// --- Backward.

// What normalising did to a channel.
struct Channel {
    float mean, inverse, factor, bias;
};

__device__ __forceinline__ Channel channel_of(int c, const float* scales, const float* biases, const float* mean,
                                              const float* variance) {
    const float inverse = 1 / sqrtf(variance[c] + BATCHNORM_EPSILON);
    return {mean[c], inverse, scales[c] * inverse, biases[c]};
}

// The gradient before the activation.
__device__ __forceinline__ float before_activation(float grad_out, float x, float out, const Channel& channel, int kind) {
    if (kind == LINEAR) return grad_out;
    return grad_out * derivative(kind, needs_input(kind) ? (x - channel.mean) * channel.factor + channel.bias : out);
}

// partials (blocks y, 2, channels): sums of g and of g (x - mean), g the gradient before the activation.
extern "C" __global__ void __launch_bounds__(256)
gradients_of_stretches(const element* x, long long x_stride, const element* out, long long out_stride, const element* grad_out,
                       long long grad_stride, long long rows, int channels, const float* scales, const float* biases,
                       const float* mean, const float* variance, int kind, float* partials) {
    __shared__ float shared[DOWN][ACROSS];
    const int c = blockIdx.x * ACROSS + threadIdx.x;
    const Stretch stretch = stretch_of(rows);
    float sum = 0, product = 0;
    if (c < channels) {
        const Channel channel = channel_of(c, scales, biases, mean, variance);
        for (long long row = stretch.first + threadIdx.y; row < stretch.last; row += DOWN) {
            const float value = to_float(x[row * x_stride + c]);
            const float gradient = to_float(grad_out[row * grad_stride + c]), result = to_float(out[row * out_stride + c]);
            const float g = before_activation(gradient, value, result, channel, kind);
            sum += g;
            product += g * (value - channel.mean);
        }
    }
    sum = over_threads(sum, shared);
    product = over_threads(product, shared);
    if (threadIdx.y == 0 && c < channels) {
        float* mine = partials + 2ll * blockIdx.y * channels + c;
        mine[0] = sum;
        mine[channels] = product;
    }
}

// Gradients of scales and biases (+=), and for each channel the average of g and the slope along x - mean, in `line`.
extern "C" __global__ void __launch_bounds__(128)
join_gradients(const float* partials, int stretches, long long rows, int channels, const float* variance,
               float* grad_scales, float* grad_biases, float* line) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    double sum = 0, product = 0;
    for (int i = 0; i < stretches; i++) {
        sum += partials[2ll * i * channels + c];
        product += partials[(2ll * i + 1) * channels + c];
    }
    const double inverse = 1 / sqrt((double)variance[c] + BATCHNORM_EPSILON);
    grad_biases[c] += (float)sum;
    grad_scales[c] += (float)(product * inverse);
    line[c] = (float)(sum / rows);
    line[channels + c] = (float)(product * inverse * inverse / (rows > 1 ? rows - 1 : 1));
}

// grad_x = scale / deviation (g - average - slope (x - mean)); see BatchNormOperations of the NumPy backend.
extern "C" __global__ void __launch_bounds__(256)
batchnorm_backward(const element* x, long long x_stride, const element* out, long long out_stride, const element* grad_out,
                   long long grad_out_stride, element* grad_x, long long grad_x_stride, long long rows, long long channels,
                   int by_four, const float* scales, const float* biases, const float* mean, const float* variance,
                   const float* line, int kind, int accumulate) {
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto width) {
        const auto values = load(x + row * x_stride + c, width), results = load(out + row * out_stride + c, width);
        auto gradients = load(grad_out + row * grad_out_stride + c, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) {
            const Channel channel = channel_of(c + i, scales, biases, mean, variance);
            const float g = before_activation(gradients[i], values[i], results[i], channel, kind);
            gradients[i] = channel.factor * (g - line[c + i] - line[channels + c + i] * (values[i] - channel.mean));
        }
        store(grad_x + row * grad_x_stride + c, gradients, accumulate);
    });
}

// --- Sums over the positions of one array, or of the product of two (b may be null).

extern "C" __global__ void __launch_bounds__(256)
sums_of_stretches(const element* a, long long a_stride, const element* b, long long b_stride, long long rows, int channels,
                  float* partials) {
    __shared__ float shared[DOWN][ACROSS];
    const int c = blockIdx.x * ACROSS + threadIdx.x;
    const Stretch stretch = stretch_of(rows);
    float sum = 0;
    if (c < channels)
        for (long long row = stretch.first + threadIdx.y; row < stretch.last; row += DOWN)
            sum += to_float(a[row * a_stride + c]) * (b ? to_float(b[row * b_stride + c]) : 1);
    sum = over_threads(sum, shared);
    if (threadIdx.y == 0 && c < channels) partials[(long long)blockIdx.y * channels + c] = sum;
}

// out[c] = scale * the sum of the stretches' sums, or += .
extern "C" __global__ void __launch_bounds__(128)
join_sums(const float* partials, int stretches, int channels, float* out, float scale, int accumulate) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    double sum = 0;
    for (int i = 0; i < stretches; i++) sum += partials[(long long)i * channels + c];
    out[c] = (float)(scale * sum) + (accumulate ? out[c] : 0);
}

// --- Normalisation as one factor and one summand.

extern "C" __global__ void __launch_bounds__(128)
fold(const float* scales, const float* biases, const float* mean, const float* variance, float* out_scale,
     float* out_bias, int channels) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= channels) return;
    const float factor = scales[c] / sqrtf(variance[c] + BATCHNORM_EPSILON);
    out_scale[c] = factor;
    out_bias[c] = biases[c] - mean[c] * factor;
}
