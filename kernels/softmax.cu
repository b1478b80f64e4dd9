// Softmax, and the losses of classifiers and plain outputs.
//
// Softmax: a warp for each row of a group of classes; reads it three times, mostly from the cache, and writes it once.
// Losses: 12 bytes per element; each block leaves its share of the sum, the host adds them up. Not measured yet.
#include "elementwise.cuh"
#include "softmax.cuh"

// Rows of classes; classes lie next to each other. starts (groups + 1): where each group begins, then the end; null for
// one group of all classes.
template <class To>
__device__ void softmax_of_rows(const element* x, long long x_stride, To* out, long long out_stride, long long rows,
                                int classes, const int* starts, int groups, float temperature) {
    const int warps = blockDim.x / 32;
    for (long long i = blockIdx.x * (long long)warps + threadIdx.x / 32; i < rows * groups; i += (long long)gridDim.x * warps) {
        const long long row = i / groups;
        const int group = (int)(i - row * groups);
        const int first = starts ? starts[group] : 0, last = starts ? starts[group + 1] : classes;
        softmax_of(first, last, temperature, [&](int c) { return to_float(x[row * x_stride + c]); },
                   [&](int c, float probability) { put(out + row * out_stride + c, probability); });
    }
}

extern "C" __global__ void __launch_bounds__(256)
softmax(const element* x, long long x_stride, element* out, long long out_stride, long long rows, int classes,
        const int* starts, int groups, float temperature) {
    softmax_of_rows(x, x_stride, out, out_stride, rows, classes, starts, groups, temperature);
}

// For a loss.
extern "C" __global__ void __launch_bounds__(256)
softmax_to_float(const element* x, long long x_stride, float* out, long long out_stride, long long rows, int classes,
                 const int* starts, int groups, float temperature) {
    softmax_of_rows(x, x_stride, out, out_stride, rows, classes, starts, groups, temperature);
}

// --- Losses: the gradient, and each block's share of the sum. Blocks of 256 threads, x only.

constexpr float IGNORED_TRUTH = -1234.0f;
constexpr float SMALLEST = 1.17549435e-38f;

// Unlike fmaxf, it lets NaN through.
__device__ __forceinline__ float log_of(float p) { return logf(p < SMALLEST ? SMALLEST : p); }

template <class Loss>
__device__ void sum_of_losses(const element* output, long long output_stride, const float* truth, long long truth_stride,
                              float* grad, long long grad_stride, long long rows, long long columns, float* shares,
                              Loss loss) {
    float sum = 0;
    over_all(rows * columns, [&](long long i) {
        const long long row = i / columns, column = i - row * columns;
        sum += loss(to_float(output[row * output_stride + column]), truth[row * truth_stride + column],
                    grad[row * grad_stride + column]);
    });
    sum = block_sum(sum);
    if (threadIdx.x == 0) shares[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(256)
cross_entropy(const element* output, long long output_stride, const float* truth, long long truth_stride, float* grad,
              long long grad_stride, long long rows, long long columns, float* shares) {
    sum_of_losses(output, output_stride, truth, truth_stride, grad, grad_stride, rows, columns, shares,
                  [](float p, float t, float& g) {
                      g = t == IGNORED_TRUTH ? 0 : p - t;
                      return t == 0 || t == IGNORED_TRUTH ? 0 : -t * log_of(p);
                  });
}

extern "C" __global__ void __launch_bounds__(256)
binary_cross_entropy(const element* output, long long output_stride, const float* truth, long long truth_stride, float* grad,
                     long long grad_stride, long long rows, long long columns, float* shares) {
    sum_of_losses(output, output_stride, truth, truth_stride, grad, grad_stride, rows, columns, shares,
                  [](float p, float t, float& g) {
                      g = p - t;
                      return -(t * log_of(p) + (1 - t) * log_of(1 - p));
                  });
}

enum Difference { SSE, MASKED, SMOOTH };

extern "C" __global__ void __launch_bounds__(256)
difference(const element* output, long long output_stride, const float* truth, long long truth_stride, float* grad,
           long long grad_stride, long long rows, long long columns, float* shares, int kind) {
    sum_of_losses(output, output_stride, truth, truth_stride, grad, grad_stride, rows, columns, shares,
                  [=](float p, float t, float& g) {
                      float d = p - t;
                      if (kind == MASKED && t == IGNORED_TRUTH) d = 0;
                      g = kind == SMOOTH ? fminf(fmaxf(d, -1), 1) : d;
                      return kind == SMOOTH && fabsf(d) >= 1 ? 2 * fabsf(d) - 1 : d * d;
                  });
}
