// The convolution's gradient with respect to its weights, over the product of exact_convolution.cuh or
// tensor_convolution.cuh, whichever has been included before.
//
// x (n, h, w, c), grad_out (n, oh, ow, f): `element`, rows of neighbouring channels; grad_weights (f, size, size, c): float. M =
// filters, N = taps times channels, K = positions of the output, a group each; both operands lie across.
#pragma once

#include "convolution_tiles.cuh"

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

    Gradients<T, T::BM, VECTORS> a = {{}, grad_out + group * s.filters, (int)s.out_stride, s.filters, positions,
                                      vectors & FIRST};
    PixelsUnderTaps<T, T::BN, VECTORS> b = {{}, x + group * s.channels, s, {s.out_height, s.out_width}, positions,
                                            vectors & SECOND};
    a.begin(first_m, first * BK);
    b.begin(first_n, first * BK);
    const auto sums = multiply<T>(a, b, steps, shared);

    using L = Lanes<T, 4>;
    const int n = first_n + L::column(), count = depth - n;
    float* mine = target + ((long long)split * groups + group) * s.filters * depth + n;
    emit_rows<T, L>(sums, shared, [&](int row, Values<4>& values) {
        const int m = first_m + row;
        if (m >= s.filters || count <= 0) return;
        float* place = mine + (long long)m * depth;
        if (splits == 1) {
            Values<4> before;
            read_row(before, place, count, vectors & RESULT);
#pragma unroll
            for (int e = 0; e < 4; e++) values[e] += before[e];
        }
        write_row(place, values, count, vectors & RESULT);
    });
}
