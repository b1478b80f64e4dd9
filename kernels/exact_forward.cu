// Convolution in float32 on the ordinary cores: out = after(activation(convolution(x, weights) * scale + bias) + residual), and
// on the way the statistics of out that batch normalisation wants. What is computed: convolution_forward.cuh; how:
// exact_convolution.cuh.
//
// 2 M N K flops. x, weights and residual are read and out is written once if the caches keep what tiles share: a tile of BM
// x BN reads 4 (BM + BN) K bytes for 2 BM BN K flops, 32 flops a byte for 128 x 128, 21 for 128 x 64, 16 for 64 x 64.
// An H200's datasheet has 67 TFLOP/s in float32 for 4.8 TB/s, 14 flops a byte: 1 x 1 convolutions of fewer than some 60
// channels are bound by memory, the others by arithmetic.
//
// What is done in the epilogue saves passes over memory. In training: 4 bytes a result, since the statistics need not read
// what has just been written; batch normalisation then takes 12 bytes a result in all (written, read, written again) instead
// of 16. 64 filters at 208 x 208, the second layer of YOLOv4 at 416, are 11 MB of results a picture, read once less. At
// inference a shortcut's sum reads 4 bytes a result, instead of 12 in a pass of its own.
//
// Versions, with their share of the limit: register tiles of 8 x 8 per thread, two or three stages of cp.async, tiles 128x128,
// 128x64, 128x32 (8 x 4), 64x64: not measured yet. Of the instructions that nvcc 13.0 makes for sm_90a of a step along K, 0.82
// (128x128) to 0.70 (128x32) are the multiply-adds, 0.91 (0.85) of those of the inner loop; no register is spilled.
#include "exact_convolution.cuh"

#include "convolution_forward.cuh"

// --- Kernels, by their tiles; the one called `any` takes arrays that are not aligned.

#define PARAMETERS \
    const float* x, const float* weights, float* out, int positions, int height, int width, int channels, int filters, \
    int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation, long long x_stride, \
    long long out_stride, const float* scale, const float* bias, const float* mean, const float* variance, int kind, \
    const float* residual, long long residual_stride, int after, float* statistics, float* shares, int splits, \
    int groups, int vectors
#define CONVOLVE(TILE, VECTORS) \
    forward<TILE, VECTORS>(x, weights, out, positions, CONVOLUTION_ARGUMENTS, {scale, bias, mean, variance, kind, \
    residual, residual_stride, after}, statistics, shares, splits, groups, vectors)

extern "C" __global__ void __launch_bounds__(256, 2) forward_128x128(PARAMETERS) { CONVOLVE(Tile128x128, true); }
extern "C" __global__ void __launch_bounds__(128, 4) forward_128x64(PARAMETERS) { CONVOLVE(Tile128x64, true); }
extern "C" __global__ void __launch_bounds__(128, 4) forward_128x32(PARAMETERS) { CONVOLVE(Tile128x32, true); }
extern "C" __global__ void __launch_bounds__(64, 8) forward_64x64(PARAMETERS) { CONVOLVE(Tile64x64, true); }
extern "C" __global__ void __launch_bounds__(64, 8) forward_64x64_any(PARAMETERS) { CONVOLVE(Tile64x64, false); }
