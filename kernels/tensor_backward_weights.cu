// The convolution's gradient with respect to its weights, on tensor cores.
//
// x (n, h, w, c), grad_out (n, oh, ow, f): `element`, rows of neighbouring channels; grad_weights (f, size, size, c): float. M =
// filters, N = taps times channels, K = positions of the output, a group each; both operands lie across. How it is done:
// tensor_convolution.cuh.
//
// 2 M N K flops; x and grad_out are read once if the caches keep what tiles share. M and N are small beside K, the more so
// the larger the pictures: K is divided into splits, each a block's own, whose sums a second kernel adds up in a fixed
// order: 8 bytes of shares per split and weight, against 2 (f + size^2 c) bytes of operands for each position. Flops per
// tile and byte are those of tensor_forward.cu.
//
// Versions, with their share of the limit: mma.sync, four stages of cp.async, fragments read ahead; tiles 256x128, 128x128,
// 64x128, 64x64: not measured yet.
#include "tensor_convolution.cuh"

#ifdef HAS_TENSOR_CORES
#include "convolution_backward_weights.cuh"
#endif

// --- Kernels, by their tiles; the one called `any` takes arrays that are not aligned.

#define PARAMETERS \
    const element* x, const element* grad_out, float* target, int positions, int height, int width, int channels, \
    int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation, \
    long long x_stride, long long out_stride, int splits, int groups, int vectors
#define CONVOLVE(TILE, VECTORS) \
    ON_TENSOR_CORES(backward_weights<TILE, VECTORS>(x, grad_out, target, positions, CONVOLUTION_ARGUMENTS, splits, \
    groups, vectors))

extern "C" __global__ void __launch_bounds__(256, 1) backward_weights_256x128(PARAMETERS) { CONVOLVE(Tile256x128, true); }
extern "C" __global__ void __launch_bounds__(128, 2) backward_weights_128x128(PARAMETERS) { CONVOLVE(Tile128x128, true); }
extern "C" __global__ void __launch_bounds__(128, 3) backward_weights_64x128(PARAMETERS) { CONVOLVE(Tile64x128, true); }
extern "C" __global__ void __launch_bounds__(128, 4) backward_weights_64x64(PARAMETERS) { CONVOLVE(Tile64x64, true); }
extern "C" __global__ void __launch_bounds__(128, 4) backward_weights_64x64_any(PARAMETERS) { CONVOLVE(Tile64x64, false); }
