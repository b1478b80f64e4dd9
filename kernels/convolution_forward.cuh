// The forward pass of a convolution, over the product of exact_convolution.cuh or tensor_convolution.cuh, whichever has been
// included before: out = after(activation(convolution(x, weights) * scale + bias) + residual), and on the way the statistics
// of out that batch normalisation wants.
//
// x (n, h, w, c), weights (f, size, size, c), out and residual (n, oh, ow, f): `element`, rows of neighbouring channels;
// scale, bias (f,): float or null. M = positions of the output, N = filters, K = taps times channels, a group each; both
// operands lie along K.
#pragma once

#include "convolution_epilogue.cuh"
#include "convolution_tiles.cuh"

// Mean and squares of each of the tile's columns, of which `count` exist, `channels` apart. All threads must call it.
template <class T, class L>
__device__ void write_statistics(Statistics<L::WIDTH>& lane_sums, char* shared, float* statistics, int count, int channels) {
    lane_sums.finish();
    __syncthreads();  // the warps' stagings are read no more
    Moments<float>(*of_warps)[T::BN] = reinterpret_cast<Moments<float>(*)[T::BN]>(shared);
    static_assert(sizeof(Moments<float>) * T::BN * T::WARPS_M <= T::STAGES * T::STAGE_BYTES);
#pragma unroll
    for (int e = 0; e < L::WIDTH; e++) {
        const Moments<float> mine = warp_moments(lane_sums, e, L::ACROSS);
        if (threadIdx.x % 32 < L::ACROSS) of_warps[T::warp_m()][L::column() + e] = mine;
    }
    __syncthreads();
    for (int column = threadIdx.x; column < T::BN; column += T::THREADS) {
        Moments<float> all = of_warps[0][column];
        for (int warp = 1; warp < T::WARPS_M; warp++) all = join(all, of_warps[warp][column]);
        if (column < count) statistics[column] = all.mean, statistics[channels + column] = all.squares;
    }
}

// blockIdx.x: tile along M times tiles along N + tile along N, so that neighbours share x; blockIdx.z: group * splits +
// split. shares (splits, positions, all filters): each split stores its sums there, and finish_forward does the rest.
template <class T, bool VECTORS>
__device__ __forceinline__ void forward(const element* x, const element* weights, element* out, int positions,
                                        const Convolution& s, Epilogue last, float* statistics, float* shares, int splits,
                                        int groups, int vectors) {
    extern __shared__ __align__(128) char shared[];
    const int group = blockIdx.z / splits, split = blockIdx.z - group * splits, first_filter = group * s.filters;
    const int tiles_n = (s.filters + T::BN - 1) / T::BN, tile_m = blockIdx.x / tiles_n;
    const int first_m = tile_m * T::BM, first_n = (blockIdx.x - tile_m * tiles_n) * T::BN;
    const int depth = s.size * s.size * s.channels, all_steps = (depth + BK - 1) / BK;
    const int most = (all_steps + splits - 1) / splits, first = split * most, steps = min(most, all_steps - first);

    const Taps taps = {s.size, s.size, 0, 0, s.dilation, s.dilation, 0, s.size, 1};
    Patches<T, T::BM, VECTORS> a = {{}, x + group * s.channels, (int)s.x_stride, s.height, s.width, taps,
                                    {s.size, s.channels}, vectors & FIRST};
    Rows<T, T::BN, VECTORS> b = {{}, weights + (long long)first_filter * depth, s.filters, depth, vectors & SECOND};
    a.begin(first_m, first * BK, [&](int m) {
        if (m >= positions) return Corner{0, NOWHERE, NOWHERE};
        const int line = m / s.out_width, picture = line / s.out_height;
        const int y = (line - picture * s.out_height) * s.stride_y - s.padding;
        const int column = (m - line * s.out_width) * s.stride_x - s.padding;
        return Corner{(picture * s.height + y) * s.width + column, y, column};
    });
    b.begin(first_n, first * BK);
    const auto sums = multiply<T>(a, b, steps, shared);

    using L = Lanes<T, CHUNK>;
    const int n = first_n + L::column(), count = s.filters - n, channel = first_filter + n;
    if (shares) {
        const int channels = groups * s.filters;
        emit_rows<T, L>(sums, shared, [&](int row, Values<CHUNK>& values) {
            const long long m = first_m + row;
            if (m < positions) write_row(shares + (split * (long long)positions + m) * channels + channel, values, count, false);
        });
        return;
    }
    Line lines[CHUNK];
#pragma unroll
    for (int e = 0; e < CHUNK; e++) lines[e] = e < count ? line_of(last, channel + e) : Line{1, 0};
    Statistics<CHUNK> lane_sums;
    emit_rows<T, L>(sums, shared, [&](int row, Values<CHUNK>& values) {
        const int m = first_m + row;
        if (m >= positions || count <= 0) return;
#pragma unroll
        for (int e = 0; e < CHUNK; e++) values[e] = values[e] * lines[e].factor + lines[e].bias;
        if (last.kind != LINEAR) values = activate_all(last.kind, values);
        if (last.residual) {
            Values<CHUNK> residual;
            read_row(residual, last.residual + m * last.residual_stride + channel, count, vectors & RESIDUAL);
#pragma unroll
            for (int e = 0; e < CHUNK; e++) values[e] += residual[e];
            if (last.after != LINEAR) values = activate_all(last.after, values);
        }
        if (statistics) {
#pragma unroll
            for (int e = 0; e < CHUNK; e++) values[e] = to_float(rounded<element>(values[e]));
            lane_sums.add(values);
        }
        write_row(out + m * s.out_stride + channel, values, count, vectors & RESULT);
    });
    if (statistics) {
        const int channels = groups * s.filters, column = first_filter + first_n;
        write_statistics<T, L>(lane_sums, shared, statistics + 2ll * tile_m * channels + column, s.filters - first_n, channels);
    }
}
