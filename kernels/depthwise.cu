// Convolutions where every channel has one filter of its own: a few multiply-adds per value, so that moving the values
// is all the work.
//
// x (n, h, w, c), out (n, oh, ow, c): `element`; weights (c, size, size): float. 8 bytes (4 with elements of 16 bits) and
// 2 size^2 flops per output value; the taps' reads come from the caches. A thread makes one value, or four neighbouring
// channels where that can be; lanes go along the channels. Not measured yet.
#include "activations.cuh"
#include "convolution.cuh"
#include "elementwise.cuh"

// Sums of neighbouring channels from c on.
template <int N> struct Sum {
    Values<N> values = {};

    // More of them: a pixel's channels times the weights of one tap.
    __device__ __forceinline__ void add(const element* pixel, const float* weights, long long c, const Convolution& s, int ky,
                                        int kx) {
        const auto found = load(pixel, Width<N>());
#pragma unroll
        for (int i = 0; i < N; i++) values[i] += found[i] * weights[((c + i) * s.size + ky) * s.size + kx];
    }
};

extern "C" __global__ void __launch_bounds__(256)
depthwise_forward(const element* x, const float* weights, element* out, int positions, int height, int width, int channels,
                  int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding,
                  int dilation, long long x_stride, long long out_stride, const float* scale, const float* bias, int kind,
                  int by_four) {
    const Convolution s = CONVOLUTION_ARGUMENTS;
    over_rows(positions, channels, by_four, [&](long long row, long long c, auto width) {
        const long long line = row / s.out_width, picture = line / s.out_height;
        const int top = (int)(line - picture * s.out_height) * s.stride_y - s.padding;
        const int left = (int)(row - line * s.out_width) * s.stride_x - s.padding;
        Sum<width.value> sum;
        for (int ky = 0; ky < s.size; ky++) {
            const int y = top + ky * s.dilation;
            if (y < 0 || y >= s.height) continue;
            for (int kx = 0; kx < s.size; kx++) {
                const int column = left + kx * s.dilation;
                if (column < 0 || column >= s.width) continue;
                sum.add(x + ((picture * s.height + y) * s.width + column) * s.x_stride + c, weights, c, s, ky, kx);
            }
        }
#pragma unroll
        for (int i = 0; i < width.value; i++) {
            if (scale) sum.values[i] *= scale[c + i];
            if (bias) sum.values[i] += bias[c + i];
            sum.values[i] = activate(kind, sum.values[i]);
        }
        store(out + row * s.out_stride + c, sum.values);
    });
}

extern "C" __global__ void __launch_bounds__(256)
depthwise_backward_input(const element* grad_out, const float* weights, element* grad_x, int pixels, int height, int width,
                         int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x,
                         int padding, int dilation, long long x_stride, long long out_stride, int accumulate, int by_four) {
    const Convolution s = CONVOLUTION_ARGUMENTS;
    over_rows(pixels, channels, by_four, [&](long long row, long long c, auto width) {
        const long long line = row / s.width, picture = line / s.height;
        const int below = (int)(line - picture * s.height) + s.padding, right = (int)(row - line * s.width) + s.padding;
        Sum<width.value> sum;
        for (int ky = 0; ky < s.size; ky++) {
            const int down = below - ky * s.dilation, y = down / s.stride_y;
            if (down < 0 || y * s.stride_y != down || y >= s.out_height) continue;
            for (int kx = 0; kx < s.size; kx++) {
                const int across = right - kx * s.dilation, column = across / s.stride_x;
                if (across < 0 || column * s.stride_x != across || column >= s.out_width) continue;
                sum.add(grad_out + ((picture * s.out_height + y) * s.out_width + column) * s.out_stride + c, weights, c, s, ky,
                        kx);
            }
        }
        store(grad_x + row * s.x_stride + c, sum.values, accumulate);
    });
}

constexpr int ACROSS = 32, DOWN = 8;

// partials (blocks y, channels, taps): sums over a stretch of positions. A block for 32 channels of one tap, blockIdx.z.
extern "C" __global__ void __launch_bounds__(256)
depthwise_backward_weights(const element* x, const element* grad_out, float* partials, int positions, int height, int width,
                           int channels, int filters, int out_height, int out_width, int size, int stride_y,
                           int stride_x, int padding, int dilation, long long x_stride, long long out_stride) {
    const Convolution s = CONVOLUTION_ARGUMENTS;
    __shared__ float shared[DOWN][ACROSS];
    const int c = blockIdx.x * ACROSS + threadIdx.x, tap = blockIdx.z, ky = tap / s.size, kx = tap - ky * s.size;
    const long long length = (positions + gridDim.y - 1) / gridDim.y, first = blockIdx.y * length;
    float sum = 0;
    if (c < channels)
        for (long long row = first + threadIdx.y; row < first + length && row < positions; row += DOWN) {
            const long long line = row / s.out_width, picture = line / s.out_height;
            const int y = (int)(line - picture * s.out_height) * s.stride_y - s.padding + ky * s.dilation;
            const int column = (int)(row - line * s.out_width) * s.stride_x - s.padding + kx * s.dilation;
            if (y >= 0 && y < s.height && column >= 0 && column < s.width)
                sum += to_float(x[((picture * s.height + y) * s.width + column) * s.x_stride + c]) *
                       to_float(grad_out[row * s.out_stride + c]);
        }
    shared[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || c >= channels) return;
    sum = 0;
    for (int i = 0; i < DOWN; i++) sum += shared[i][threadIdx.x];
    partials[((long long)blockIdx.y * channels + c) * s.size * s.size + tap] = sum;
}
