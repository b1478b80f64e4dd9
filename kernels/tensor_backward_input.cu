// The convolution's gradient with respect to its input, on tensor cores.
//
// grad_out (n, oh, ow, f), weights (f, size, size, c), grad_x (n, h, w, c): `element`, rows of neighbouring channels. M = pixels
// of x, N = channels, K = taps times filters, a group each; grad_out lies along K, weights across. How it is done:
// tensor_convolution.cuh.
//
// With a stride, a pixel is met only by the taps of its own phase, that is its row and column modulo the strides. So the
// pixels of each phase are a product of their own, with their taps alone: 2 M N K / (stride_y stride_x) flops in all, none of
// them with zeros put in between. Bytes and flops per tile and byte are those of tensor_forward.cu.
//
// Versions, with their share of the limit: mma.sync, four stages of cp.async, fragments read ahead; tiles 256x128, 128x128,
// 128x64, 64x64: not measured yet.
#include "tensor_convolution.cuh"

#ifdef HAS_TENSOR_CORES
#include "convolution_backward_input.cuh"
#endif

// --- Kernels, by their tiles; the one called `any` takes arrays that are not aligned.

#define PARAMETERS \
    const element* grad_out, const element* weights, element* grad_x, int pictures, int height, int width, int channels, \
    int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation, \
    long long x_stride, long long out_stride, int accumulate, float* shares, int splits, int groups, int vectors
#define CONVOLVE(TILE, VECTORS) \
    ON_TENSOR_CORES(backward_input<TILE, VECTORS>(grad_out, weights, grad_x, pictures, CONVOLUTION_ARGUMENTS, \
    accumulate, shares, splits, groups, vectors))

extern "C" __global__ void __launch_bounds__(256, 1) backward_input_256x128(PARAMETERS) { CONVOLVE(Tile256x128, true); }
extern "C" __global__ void __launch_bounds__(128, 2) backward_input_128x128(PARAMETERS) { CONVOLVE(Tile128x128, true); }
extern "C" __global__ void __launch_bounds__(128, 3) backward_input_128x64(PARAMETERS) { CONVOLVE(Tile128x64, true); }
extern "C" __global__ void __launch_bounds__(128, 4) backward_input_64x64(PARAMETERS) { CONVOLVE(Tile64x64, true); }
extern "C" __global__ void __launch_bounds__(128, 4) backward_input_64x64_any(PARAMETERS) { CONVOLVE(Tile64x64, false); }
