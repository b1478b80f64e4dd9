// The convolution's gradient with respect to its input in float32 on the ordinary cores. What is computed:
// convolution_backward_input.cuh; how: exact_convolution.cuh.
//
// 2 M N K / (stride_y stride_x) flops: with a stride of 2, a quarter of what going through all taps would take. Bytes and flops
// per byte are those of exact_forward.cu.
//
// Versions, with their share of the limit: as in exact_forward.cu: not measured yet. Multiply-adds are 0.68 to 0.74 of the
// instructions of a step for sm_90a.
#include "exact_convolution.cuh"

#include "convolution_backward_input.cuh"

// --- Kernels, by their tiles; the one called `any` takes arrays that are not aligned.

#define PARAMETERS \
    const float* grad_out, const float* weights, float* grad_x, int pictures, int height, int width, int channels, \
    int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation, \
    long long x_stride, long long out_stride, int accumulate, float* shares, int splits, int groups, int vectors
#define CONVOLVE(TILE, VECTORS) \
    backward_input<TILE, VECTORS>(grad_out, weights, grad_x, pictures, CONVOLUTION_ARGUMENTS, accumulate, shares, \
    splits, groups, vectors)

extern "C" __global__ void __launch_bounds__(256, 2) backward_input_128x128(PARAMETERS) { CONVOLVE(Tile128x128, true); }
extern "C" __global__ void __launch_bounds__(128, 4) backward_input_128x64(PARAMETERS) { CONVOLVE(Tile128x64, true); }
extern "C" __global__ void __launch_bounds__(128, 4) backward_input_128x32(PARAMETERS) { CONVOLVE(Tile128x32, true); }
extern "C" __global__ void __launch_bounds__(64, 8) backward_input_64x64(PARAMETERS) { CONVOLVE(Tile64x64, true); }
extern "C" __global__ void __launch_bounds__(64, 8) backward_input_64x64_any(PARAMETERS) { CONVOLVE(Tile64x64, false); }
