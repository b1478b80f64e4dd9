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

#if defined(HOSTCUDA) || __CUDA_ARCH__ >= 800

// What of the arrays can be read and written 16 bytes at a time.
enum Vectors { GRAD_OUT_VECTORS = 1, X_VECTORS = 2, WEIGHTS_VECTORS = 4 };

// blockIdx.x: tile along M times tiles along N + tile along N; blockIdx.z: group * splits + split. With one split the sums
// are added to grad_weights, with several each stores its own at `target`, one set of all weights after the other.
template <class T, bool VECTORS>
__device__ __forceinline__ void backward_weights(const element* x, const element* grad_out, float* target, int positions,
                                                 const Convolution& s, int splits, int groups, int vectors) {
    extern __shared__ __align__(128) char shared[];
    const int group = blockIdx.z / splits, split = blockIdx.z - group * splits, depth = s.size * s.size * s.channels;
    const int tiles_n = (depth + T::BN - 1) / T::BN, tile_m = blockIdx.x / tiles_n;
    const int first_m = tile_m * T::BM, first_n = (blockIdx.x - tile_m * tiles_n) * T::BN;
    const int all_steps = (positions + BK - 1) / BK, most = (all_steps + splits - 1) / splits;
    const int first = split * most, steps = min(most, all_steps - first);

    Gradients<T, T::BM, VECTORS> a = {{}, grad_out + group * s.filters, s.out_stride, s.filters, positions,
                                      vectors & GRAD_OUT_VECTORS};
    PixelsUnderTaps<T, T::BN, VECTORS> b = {{}, x + group * s.channels, s, {s.out_height, s.out_width}, positions,
                                            vectors & X_VECTORS};
    a.begin(first_m, first * BK);
    b.begin(first_n, first * BK);
    Sums<T> sums = {};
    multiply<T>(a, b, steps, shared, sums);

    using L = Lanes<T, 4>;
    const int n = first_n + L::column(), count = depth - n;
    float* mine = target + ((long long)split * groups + group) * s.filters * depth + n;
    emit_rows<T, L>(sums, shared, [&](int row, Values<4>& values) {
        const int m = first_m + row;
        if (m >= s.filters || count <= 0) return;
        float* place = mine + (long long)m * depth;
        if (splits == 1) {
            Values<4> before;
            read_row(before, place, count, vectors & WEIGHTS_VECTORS);
#pragma unroll
            for (int e = 0; e < 4; e++) values[e] += before[e];
        }
        write_row(place, values, count, vectors & WEIGHTS_VECTORS);
    });
}

#endif

// --- Kernels, by their tiles; the one called `any` takes arrays that are not aligned.

extern "C" __global__ void __launch_bounds__(256, 1)
backward_weights_256x128(const element* x, const element* grad_out, float* target, int positions, int height, int width,
    int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding,
    int dilation, long long x_stride, long long out_stride, int splits, int groups, int vectors) {
    ON_TENSOR_CORES(backward_weights<Tile256x128, true>(x, grad_out, target, positions, CONVOLUTION_ARGUMENTS, splits,
        groups, vectors));
}

extern "C" __global__ void __launch_bounds__(128, 2)
backward_weights_128x128(const element* x, const element* grad_out, float* target, int positions, int height, int width,
    int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding,
    int dilation, long long x_stride, long long out_stride, int splits, int groups, int vectors) {
    ON_TENSOR_CORES(backward_weights<Tile128x128, true>(x, grad_out, target, positions, CONVOLUTION_ARGUMENTS, splits,
        groups, vectors));
}

extern "C" __global__ void __launch_bounds__(128, 3)
backward_weights_64x128(const element* x, const element* grad_out, float* target, int positions, int height, int width,
    int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding,
    int dilation, long long x_stride, long long out_stride, int splits, int groups, int vectors) {
    ON_TENSOR_CORES(backward_weights<Tile64x128, true>(x, grad_out, target, positions, CONVOLUTION_ARGUMENTS, splits,
        groups, vectors));
}

extern "C" __global__ void __launch_bounds__(128, 4)
backward_weights_64x64(const element* x, const element* grad_out, float* target, int positions, int height, int width,
    int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding,
    int dilation, long long x_stride, long long out_stride, int splits, int groups, int vectors) {
    ON_TENSOR_CORES(backward_weights<Tile64x64, true>(x, grad_out, target, positions, CONVOLUTION_ARGUMENTS, splits,
        groups, vectors));
}

extern "C" __global__ void __launch_bounds__(128, 4)
backward_weights_64x64_any(const element* x, const element* grad_out, float* target, int positions, int height, int width,
    int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding,
    int dilation, long long x_stride, long long out_stride, int splits, int groups, int vectors) {
    ON_TENSOR_CORES(backward_weights<Tile64x64, false>(x, grad_out, target, positions, CONVOLUTION_ARGUMENTS, splits,
        groups, vectors));
}
