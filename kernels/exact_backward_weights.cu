// The convolution's gradient with respect to its weights in float32 on the ordinary cores. What is computed:
// convolution_backward_weights.cuh; how: exact_convolution.cuh.
//
// 2 M N K flops. x and grad_out are read once if the caches keep what tiles share. M and N are small beside K, which is
// divided into splits: 8 bytes of shares per split and weight, written and read again (shares.cu), against 4 (f + size^2 c)
// bytes of operands for each position.
//
// Versions, with their share of the limit: as in exact_forward.cu: not measured yet.
#include "exact_convolution.cuh"

#include "convolution_backward_weights.cuh"

// --- Kernels, by their tiles; the one called `any` takes arrays that are not aligned.

#define PARAMETERS \
    const float* x, const float* grad_out, float* target, int positions, int height, int width, int channels, \
    int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation, \
    long long x_stride, long long out_stride, int splits, int groups, int vectors
#define CONVOLVE(TILE, VECTORS) \
    backward_weights<TILE, VECTORS>(x, grad_out, target, positions, CONVOLUTION_ARGUMENTS, splits, groups, vectors)

extern "C" __global__ void __launch_bounds__(256, 2) backward_weights_128x128(PARAMETERS) { CONVOLVE(Tile128x128, true); }
extern "C" __global__ void __launch_bounds__(128, 4) backward_weights_128x64(PARAMETERS) { CONVOLVE(Tile128x64, true); }
extern "C" __global__ void __launch_bounds__(64, 8) backward_weights_32x128(PARAMETERS) { CONVOLVE(Tile32x128, true); }
extern "C" __global__ void __launch_bounds__(64, 8) backward_weights_64x64(PARAMETERS) { CONVOLVE(Tile64x64, true); }
extern "C" __global__ void __launch_bounds__(64, 8) backward_weights_64x64_any(PARAMETERS) { CONVOLVE(Tile64x64, false); }
