// The convolution's gradient with respect to its input, over the product of exact_convolution.cuh or tensor_convolution.cuh,
// whichever has been included before.
//
// grad_out (n, oh, ow, f), weights (f, size, size, c), grad_x (n, h, w, c): `element`, rows of neighbouring channels. M = pixels
// of x, N = channels, K = taps times filters, a group each; grad_out lies along K, weights across.
//
// With a stride, a pixel is met only by the taps of its own phase, that is its row and column modulo the strides. So the
// pixels of each phase are a product of their own, with their taps alone: 2 M N K / (stride_y stride_x) flops in all, none of
// them with zeros put in between.
#pragma once

#include "convolution_tiles.cuh"

// Pixels of one phase along an axis, and the taps that meet them: `count` of them from tap `first` on, `step` apart. With
// pixel i of the phase they meet outputs i + offset, i + offset + offset_step, ...
struct Phase {
    int pixels, count, first, step, offset, offset_step;
};

__device__ inline Phase phase_of(int phase, int length, int stride, int size, int padding, int dilation) {
    Phase found = {(length - phase + stride - 1) / stride, 0, 0, 1, 0, 0};
    for (int tap = 0; tap < size; tap++) {
        if ((phase + padding - tap * dilation) % stride) continue;
        if (found.count == 0) found.first = tap;
        if (found.count == 1) found.step = tap - found.first;
        found.count++;
    }
    found.offset = (phase + padding - found.first * dilation) / stride;
    found.offset_step = -(found.step * dilation) / stride;
    return found;
}

// blockIdx.x: tile along M times tiles along N + tile along N, so that neighbours share grad_out; blockIdx.z: (group *
// splits + split) * phases + phase. shares (splits, pixels of x, all channels): each split stores its sums there, and
// finish_backward_input adds them up.
template <class T, bool VECTORS>
__device__ __forceinline__ void backward_input(const element* grad_out, const element* weights, element* grad_x, int pictures,
                                               const Convolution& s, int accumulate, float* shares, int splits, int groups,
                                               int vectors) {
    extern __shared__ __align__(128) char shared[];
    const int phases = s.stride_y * s.stride_x, part = blockIdx.z / phases, phase = blockIdx.z - part * phases;
    const int group = part / splits, split = part - group * splits;
    const int phase_y = phase / s.stride_x, phase_x = phase - phase_y * s.stride_x;
    const Phase down = phase_of(phase_y, s.height, s.stride_y, s.size, s.padding, s.dilation);
    const Phase across = phase_of(phase_x, s.width, s.stride_x, s.size, s.padding, s.dilation);
    const int tiles_n = (s.channels + T::BN - 1) / T::BN, tile_m = blockIdx.x / tiles_n;
    const int first_m = tile_m * T::BM, first_n = (blockIdx.x - tile_m * tiles_n) * T::BN;
    const int pixels = pictures * down.pixels * across.pixels;
    if (first_m >= pixels) return;

    const Taps taps = {down.count, across.count, down.offset, across.offset, down.offset_step, across.offset_step,
                       down.first * s.size + across.first, down.step * s.size, across.step};
    const int all_steps = (taps.depth(s.filters) + BK - 1) / BK;
    const int most = (all_steps + splits - 1) / splits, first = split * most, steps = min(most, all_steps - first);
    const Radix radix = {max(across.count, 1), s.filters};
    Patches<T, T::BM, VECTORS> a = {{}, grad_out + group * s.filters, (int)s.out_stride, s.out_height, s.out_width, taps,
                                    radix, vectors & FIRST};
    Backwards<T, T::BN, VECTORS> b = {{}, weights + (long long)group * s.filters * s.size * s.size * s.channels, s.channels,
                                      s.size * s.size, taps, radix, vectors & SECOND};
    a.begin(first_m, first * BK, [&](int m) {
        if (m >= pixels) return Corner{0, NOWHERE, NOWHERE};
        const int line = m / across.pixels, picture = line / down.pixels;
        const int y = line - picture * down.pixels, column = m - line * across.pixels;
        return Corner{(picture * s.out_height + y) * s.out_width + column, y, column};
    });
    b.begin(first_n, first * BK);
    const auto sums = multiply<T>(a, b, steps, shared);

    using L = Lanes<T, CHUNK>;
    const int n = first_n + L::column(), count = s.channels - n, channel = group * s.channels + n;
    emit_rows<T, L>(sums, shared, [&](int row, Values<CHUNK>& values) {
        const int m = first_m + row;
        if (m >= pixels || count <= 0) return;
        const int line = m / across.pixels, picture = line / down.pixels;
        const int y = phase_y + (line - picture * down.pixels) * s.stride_y;
        const int column = phase_x + (m - line * across.pixels) * s.stride_x;
        const long long pixel = (long long)(picture * s.height + y) * s.width + column;
        if (shares) {
            const long long all = (long long)pictures * s.height * s.width;
            write_row(shares + (split * all + pixel) * (groups * s.channels) + channel, values, count, false);
            return;
        }
        element* target = grad_x + pixel * s.x_stride + channel;
        if (accumulate) {
            Values<CHUNK> before;
            read_row(before, target, count, vectors & RESULT);
#pragma unroll
            for (int e = 0; e < CHUNK; e++) values[e] += before[e];
        }
        write_row(target, values, count, vectors & RESULT);
    });
}
