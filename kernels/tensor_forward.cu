// Convolution on tensor cores: out = after(activation(convolution(x, weights) * scale + bias) + residual), and on the way
// the statistics of out that batch normalisation wants.
//
// x (n, h, w, c), weights (f, size, size, c), out and residual (n, oh, ow, f): `element`, rows of neighbouring channels;
// scale, bias (f,): float or null. M = positions of the output, N = filters, K = taps times channels, a group each; both
// operands lie along K. How it is done: tensor_convolution.cuh.
//
// 2 M N K flops. x, weights and residual are read and out is written once if the caches keep what tiles share: a tile
// of BM x BN reads (BM + BN) K elements for 2 BM BN K flops, 64 flops a byte for 128 x 128 of 16 bits, 85 for 256 x 128. An
// H200's datasheet has 989 dense TFLOP/s for 16 bits (half of it for TF32) and 4.8 TB/s: 206 flops for every byte from
// memory, which 3 x 3 convolutions of 64 channels and more exceed (their x stays in the 50 MB L2 between taps and tiles)
// and 1 x 1 convolutions of less than some 400 channels do not: those are bound by memory.
//
// Versions, with their share of the limit: mma.sync, four stages of cp.async, fragments read ahead; tiles 256x128, 128x128,
// 128x64, 64x64: not measured yet. (wgmma, which alone reaches an H200's full rate, is not used yet.)
#include "activations.cuh"
#include "moments.cuh"
#include "reduce.cuh"
#include "tensor_convolution.cuh"

// What is done with the convolution's results.
struct Epilogue {
    const float *scale, *bias;     // or null
    const float *mean, *variance;  // of batch normalisation, whose factor and bias scale and bias then are; or null
    int kind;
    const element* residual;
    long long residual_stride;
    int after;  // activation of the sum
};

// What a filter's results are multiplied by, and what is added to them.
struct Line {
    float factor, bias;
};

__device__ __forceinline__ Line line_of(const Epilogue& last, long long filter) {
    const float scale = last.scale ? last.scale[filter] : 1, bias = last.bias ? last.bias[filter] : 0;
    if (!last.variance) return {scale, bias};
    const float factor = scale / sqrtf(last.variance[filter] + BATCHNORM_EPSILON);
    return {factor, bias - last.mean[filter] * factor};
}

#if defined(HOSTCUDA) || __CUDA_ARCH__ >= 800

template <int KIND> __device__ __forceinline__ Values<CHUNK> activate_each(Values<CHUNK> values) {
#pragma unroll
    for (int e = 0; e < CHUNK; e++) values[e] = activate(KIND, values[e]);
    return values;
}

// Called, not copied, for every 16 bytes of results: most of its cases are not taken. Values come and go in registers. For
// the activations that detectors have, the case is looked up once for all of them.
__device__ __noinline__ Values<CHUNK> activate_all(int kind, Values<CHUNK> values) {
    switch (kind) {
        case LEAKY: return activate_each<LEAKY>(values);
        case LOGISTIC: return activate_each<LOGISTIC>(values);
        case MISH: return activate_each<MISH>(values);
        case RELU: return activate_each<RELU>(values);
        case SWISH: return activate_each<SWISH>(values);
    }
#pragma unroll 1
    for (int e = 0; e < CHUNK; e++) {  // registers have no index: the values go round
        const float result = activate(kind, values[0]);
#pragma unroll
        for (int i = 0; i < CHUNK - 1; i++) values[i] = values[i + 1];
        values[CHUNK - 1] = result;
    }
    return values;
}

// Mean, and sum of the squared distances to it, of a column's results so far, added up about the first of them.
template <int WIDTH> struct Statistics {
    int count = 0;
    float shift[WIDTH], sum[WIDTH], squares[WIDTH];

    __device__ __forceinline__ void add(const Values<WIDTH>& values) {
#pragma unroll
        for (int e = 0; e < WIDTH; e++) {
            if (count == 0) shift[e] = values[e], sum[e] = squares[e] = 0;
            const float d = values[e] - shift[e];
            sum[e] += d;
            squares[e] += d * d;
        }
        count++;
    }
    __device__ __forceinline__ void finish() {
#pragma unroll
        for (int e = 0; e < WIDTH; e++) {
            shift[e] = count ? shift[e] + sum[e] / count : 0;
            squares[e] = count ? fmaxf(squares[e] - sum[e] * sum[e] / count, 0) : 0;
        }
    }
};

// Mean and squares of each of the tile's columns, of which `count` exist, `channels` apart. All threads must call it.
template <class T, class L>
__device__ void write_statistics(Statistics<L::WIDTH>& lane_sums, char* shared, float* statistics, int count, int channels) {
    lane_sums.finish();
    __syncthreads();  // the warps' stagings are read no more
    Moments<float>(*of_warps)[T::BN] = reinterpret_cast<Moments<float>(*)[T::BN]>(shared);
    static_assert(sizeof(Moments<float>) * T::BN * T::WARPS_M <= T::STAGES * T::STAGE_BYTES);
#pragma unroll
    for (int e = 0; e < L::WIDTH; e++) {
        Moments<float> mine = {(float)lane_sums.count, lane_sums.shift[e], lane_sums.squares[e]};
#pragma unroll
        for (int step = L::ACROSS; step < 32; step *= 2) {
            mine = join(mine, {__shfl_xor_sync(ALL_LANES, mine.count, step), __shfl_xor_sync(ALL_LANES, mine.mean, step),
                               __shfl_xor_sync(ALL_LANES, mine.squares, step)});
        }
        if (threadIdx.x % 32 < L::ACROSS) of_warps[T::warp_m()][L::column() + e] = mine;
    }
    __syncthreads();
    for (int column = threadIdx.x; column < T::BN; column += T::THREADS) {
        Moments<float> all = of_warps[0][column];
        for (int warp = 1; warp < T::WARPS_M; warp++) all = join(all, of_warps[warp][column]);
        if (column < count) statistics[column] = all.mean, statistics[channels + column] = all.squares;
    }
}

// What of the arrays can be read and written 16 bytes at a time.
enum Vectors { X_VECTORS = 1, WEIGHTS_VECTORS = 2, OUT_VECTORS = 4, RESIDUAL_VECTORS = 8 };

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
                                    {s.size, s.channels}, vectors & X_VECTORS};
    Rows<T, T::BN, VECTORS> b = {{}, weights + (long long)first_filter * depth, s.filters, depth, vectors & WEIGHTS_VECTORS};
    a.begin(first_m, first * BK, [&](int m) {
        if (m >= positions) return Corner{0, NOWHERE, NOWHERE};
        const int line = m / s.out_width, picture = line / s.out_height;
        const int y = (line - picture * s.out_height) * s.stride_y - s.padding;
        const int column = (m - line * s.out_width) * s.stride_x - s.padding;
        return Corner{(picture * s.height + y) * s.width + column, y, column};
    });
    b.begin(first_n, first * BK);
    Sums<T> sums = {};
    multiply<T>(a, b, steps, shared, sums);

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
            read_row(residual, last.residual + m * last.residual_stride + channel, count, vectors & RESIDUAL_VECTORS);
#pragma unroll
            for (int e = 0; e < CHUNK; e++) values[e] += residual[e];
            if (last.after != LINEAR) values = activate_all(last.after, values);
        }
        if (statistics) {
#pragma unroll
            for (int e = 0; e < CHUNK; e++) values[e] = to_float(rounded<element>(values[e]));
            lane_sums.add(values);
        }
        write_row(out + m * s.out_stride + channel, values, count, vectors & OUT_VECTORS);
    });
    if (statistics) {
        const int channels = groups * s.filters, column = first_filter + first_n;
        write_statistics<T, L>(lane_sums, shared, statistics + 2ll * tile_m * channels + column, s.filters - first_n, channels);
    }
}

#endif

// --- Kernels, by their tiles; the one called `any` takes arrays that are not aligned.

extern "C" __global__ void __launch_bounds__(256, 1)
forward_256x128(const element* x, const element* weights, element* out, int positions, int height, int width, int channels,
    int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation,
    long long x_stride, long long out_stride, const float* scale, const float* bias, const float* mean,
    const float* variance, int kind, const element* residual, long long residual_stride, int after, float* statistics, float* shares, int splits, int groups, int vectors) {
    ON_TENSOR_CORES(forward<Tile256x128, true>(x, weights, out, positions, CONVOLUTION_ARGUMENTS,
        {scale, bias, mean, variance, kind, residual, residual_stride, after}, statistics, shares, splits, groups, vectors));
}

extern "C" __global__ void __launch_bounds__(128, 2)
forward_128x128(const element* x, const element* weights, element* out, int positions, int height, int width, int channels,
    int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation,
    long long x_stride, long long out_stride, const float* scale, const float* bias, const float* mean,
    const float* variance, int kind, const element* residual, long long residual_stride, int after, float* statistics, float* shares, int splits, int groups, int vectors) {
    ON_TENSOR_CORES(forward<Tile128x128, true>(x, weights, out, positions, CONVOLUTION_ARGUMENTS,
        {scale, bias, mean, variance, kind, residual, residual_stride, after}, statistics, shares, splits, groups, vectors));
}

extern "C" __global__ void __launch_bounds__(128, 3)
forward_128x64(const element* x, const element* weights, element* out, int positions, int height, int width, int channels,
    int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation,
    long long x_stride, long long out_stride, const float* scale, const float* bias, const float* mean,
    const float* variance, int kind, const element* residual, long long residual_stride, int after, float* statistics, float* shares, int splits, int groups, int vectors) {
    ON_TENSOR_CORES(forward<Tile128x64, true>(x, weights, out, positions, CONVOLUTION_ARGUMENTS,
        {scale, bias, mean, variance, kind, residual, residual_stride, after}, statistics, shares, splits, groups, vectors));
}

extern "C" __global__ void __launch_bounds__(128, 4)
forward_64x64(const element* x, const element* weights, element* out, int positions, int height, int width, int channels,
    int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation,
    long long x_stride, long long out_stride, const float* scale, const float* bias, const float* mean,
    const float* variance, int kind, const element* residual, long long residual_stride, int after, float* statistics, float* shares, int splits, int groups, int vectors) {
    ON_TENSOR_CORES(forward<Tile64x64, true>(x, weights, out, positions, CONVOLUTION_ARGUMENTS,
        {scale, bias, mean, variance, kind, residual, residual_stride, after}, statistics, shares, splits, groups, vectors));
}

extern "C" __global__ void __launch_bounds__(128, 4)
forward_64x64_any(const element* x, const element* weights, element* out, int positions, int height, int width, int channels,
    int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation,
    long long x_stride, long long out_stride, const float* scale, const float* bias, const float* mean,
    const float* variance, int kind, const element* residual, long long residual_stride, int after, float* statistics, float* shares, int splits, int groups, int vectors) {
    ON_TENSOR_CORES(forward<Tile64x64, false>(x, weights, out, positions, CONVOLUTION_ARGUMENTS,
        {scale, bias, mean, variance, kind, residual, residual_stride, after}, statistics, shares, splits, groups, vectors));
}

// What forward has left to do where it was split: out from the sum of the shares.
extern "C" __global__ void __launch_bounds__(256)
finish_forward(const float* shares, element* out, long long out_stride, long long positions, long long filters, int by_four,
               int splits, const float* scale, const float* bias, const float* mean, const float* variance, int kind,
               const element* residual, long long residual_stride, int after) {
    const Epilogue last = {scale, bias, mean, variance, kind, residual, residual_stride, after};
    over_rows(positions, filters, by_four, [&](long long row, long long column, auto width) {
        auto values = load(shares + row * filters + column, width);
        for (int split = 1; split < splits; split++) {
            const auto more = load(shares + (split * positions + row) * filters + column, width);
#pragma unroll
            for (int e = 0; e < width.value; e++) values[e] += more[e];
        }
#pragma unroll
        for (int e = 0; e < width.value; e++) {
            const Line line = line_of(last, column + e);
            values[e] = activate(kind, values[e] * line.factor + line.bias);
        }
        if (residual) {
            const auto more = load(residual + row * residual_stride + column, width);
#pragma unroll
            for (int e = 0; e < width.value; e++) values[e] = activate(after, values[e] + more[e]);
        }
        store(out + row * out_stride + column, values);
    });
}
