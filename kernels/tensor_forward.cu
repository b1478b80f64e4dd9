// Convolution on tensor cores: out = after(activation(convolution(x, weights) * scale + bias) + residual), and on the way
// the statistics of out that batch normalisation wants.
//
// x (n, h, w, c), weights (f, size, size, c), out and residual (n, oh, ow, f): `element`, rows of neighbouring channels;
// scale, bias (f,): float or null. M = positions of the output, N = filters, K = taps times channels, a group each; both
// operands lie along K. How it is done: convolution_forward.cuh, tensor_convolution.cuh.
//
// 2 M N K flops. x, weights and residual are read and out is written once if the caches keep what tiles share: a tile
// of BM x BN reads (BM + BN) K elements for 2 BM BN K flops, 64 flops a byte for 128 x 128 of 16 bits, 85 for 256 x 128. An
// H200's datasheet has 989 dense TFLOP/s for 16 bits (half of it for TF32) and 4.8 TB/s: 206 flops for every byte from
// memory, which 3 x 3 convolutions of 64 channels and more exceed (their x stays in the 50 MB L2 between taps and tiles)
// and 1 x 1 convolutions of less than some 400 channels do not: those are bound by memory.
//
// Versions, with their share of the limit: mma.sync, four stages of cp.async, fragments read ahead; tiles 256x128, 128x128,
// 128x64, 64x64: not measured yet. (wgmma, which alone reaches an H200's full rate, is not used yet.)
#include "tensor_convolution.cuh"

#ifdef HAS_TENSOR_CORES
#include "convolution_forward.cuh"
#endif

// --- Kernels, by their tiles; the one called `any` takes arrays that are not aligned.

#define PARAMETERS \
    const element* x, const element* weights, element* out, int positions, int height, int width, int channels, \
    int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation, \
    long long x_stride, long long out_stride, const float* scale, const float* bias, const float* mean, \
    const float* variance, int kind, const element* residual, long long residual_stride, int after, float* statistics, \
    float* shares, int splits, int groups, int vectors
#define CONVOLVE(TILE, VECTORS) \
    ON_TENSOR_CORES(forward<TILE, VECTORS>(x, weights, out, positions, CONVOLUTION_ARGUMENTS, {scale, bias, mean, \
    variance, kind, residual, residual_stride, after}, statistics, shares, splits, groups, vectors))

extern "C" __global__ void __launch_bounds__(256, 1) forward_256x128(PARAMETERS) { CONVOLVE(Tile256x128, true); }
extern "C" __global__ void __launch_bounds__(128, 2) forward_128x128(PARAMETERS) { CONVOLVE(Tile128x128, true); }
extern "C" __global__ void __launch_bounds__(128, 3) forward_128x64(PARAMETERS) { CONVOLVE(Tile128x64, true); }
extern "C" __global__ void __launch_bounds__(128, 4) forward_64x64(PARAMETERS) { CONVOLVE(Tile64x64, true); }
extern "C" __global__ void __launch_bounds__(128, 4) forward_64x64_any(PARAMETERS) { CONVOLVE(Tile64x64, false); }
