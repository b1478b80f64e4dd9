// Convolutions of pictures of one to four channels, such as every network begins with.
//
// x (n, h, w, c), out and grad_out (n, oh, ow, f): `element`; weights (f, size, size, c): float. A block takes a tile of 8 x
// 32 positions at a time, whose patch of x lies in shared memory, zeros around the picture included.
//
// As a product of matrices this is 27 terms deep for 3 x 3 taps and 3 channels, too few for the tiles of exact_forward.cu, and
// rows of 3 channels cannot be copied 16 bytes at a time. Here nothing is copied twice: x is read once and out is written
// once (or grad_out read), 4 (c s^2 + f) bytes a position at stride s, for 2 size^2 c f flops. 3 channels, 32 filters, 3 x 3,
// stride 1: 140 bytes, 1,728 flops: 12 flops a byte in float, where an H200's datasheet has 67 TFLOP/s without tensor cores
// for 4.8 TB/s, 14 flops a byte: close to both limits; with 16 bits bound by arithmetic.
//
// Forward: a thread makes 8 positions x 4 or 8 filters. For each tap and channel it reads its filters' weights (one or two
// times 16 bytes) and 8 values, for 32 or 64 multiply-adds; lanes are neighbours in filters, then in positions, and rows
// of the patch are so far apart that no two lanes meet in a bank. In training the statistics for batch normalisation are
// added up on the way, 4 bytes a result that are not read again (2 of 16 bits): 32 filters at 416 x 416 are 22 MB (11)
// a picture. Weight gradient: a thread adds up 4 filters x 9
// taps over every so many-th position of all tiles its block gets; blocks write their sums, and join_sums of batchnorm.cu
// adds them up. Not measured yet.
#include "convolution.cuh"
#include "convolution_epilogue.cuh"
#include "reduce.cuh"

constexpr int DOWN = 8, ACROSS = 32;  // positions of a tile
constexpr int LANES = 4;              // neighbours in filters, and in columns
constexpr int EACH = ACROSS / LANES;  // positions of a thread
constexpr int FORWARD_THREADS = LANES * LANES * DOWN;
constexpr int TAPS = 9;               // of a thread; a tap of a channel counts as one

// A block's shared memory.
__device__ __forceinline__ float* shared_room() {
    extern __shared__ float4 room[];
    return (float*)room;
}

// What of x a tile's windows cover.
struct Patch {
    int rows, columns, pitch;  // pitch: distance between rows

    __device__ Patch(const Convolution& s, int pitch) : pitch(pitch) {
        rows = (DOWN - 1) * s.stride_y + (s.size - 1) * s.dilation + 1;
        columns = (ACROSS - 1) * s.stride_x + (s.size - 1) * s.dilation + 1;
    }
    __device__ void load(const element* x, float* values, const Convolution& s, long long picture, int top, int left) const {
        const int across = columns * s.channels;
        for (int i = threadIdx.x; i < rows * across; i += blockDim.x) {
            const int row = i / across, place = i - row * across, column = place / s.channels;
            const int y = top + row, x_here = left + column;
            float value = 0;
            if (y >= 0 && y < s.height && x_here >= 0 && x_here < s.width)
                value = to_float(x[((picture * s.height + y) * s.width + x_here) * s.x_stride + place - column * s.channels]);
            values[row * pitch + place] = value;
        }
    }
};

// Where the tile of a number lies.
struct Tile {
    long long picture;
    int y, x;  // its first position

    __device__ Tile(int number, const Convolution& s) {
        const int across = (s.out_width + ACROSS - 1) / ACROSS, down = (s.out_height + DOWN - 1) / DOWN;
        picture = number / (across * down);
        y = number / across % down * DOWN, x = number % across * ACROSS;
    }
};

// Called, not copied, for each of a thread's results: most of its twenty cases are not taken.
__device__ __noinline__ float activate_rarely(int kind, float value) { return activate(kind, value); }

// --- Forward. Block (tile, part of the filters). statistics (tiles, 2, filters) and counts (tiles), if not null: mean and
// squared distances of what a tile has written, and how many positions it has.

template <int FOURS>
__device__ __forceinline__ void forward(const element* x, const float* weights, element* out, const Convolution& s, int pitch,
                                        int by_four, const float* scale, const float* bias, int kind, float* statistics,
                                        float* counts) {
    constexpr int FILTERS = FOURS * 4 * LANES, STEP = FILTERS + 4;  // for fewer meetings while the weights are stored
    const Patch patch(s, pitch);
    const Tile tile(blockIdx.x, s);
    const int taps = s.size * s.size * s.channels, first = blockIdx.y * FILTERS;
    float *filters = shared_room(), *values = filters + taps * STEP;
    Moments<float>(*of_warps)[FILTERS] = reinterpret_cast<Moments<float>(*)[FILTERS]>(filters);  // afterwards
    for (int i = threadIdx.x; i < taps * FILTERS; i += FORWARD_THREADS) {
        const int f = i / taps, tap = i - f * taps;
        filters[tap * STEP + f] = first + f < s.filters ? weights[(long long)(first + f) * taps + tap] : 0;
    }
    patch.load(x, values, s, tile.picture, tile.y * s.stride_y - s.padding, tile.x * s.stride_x - s.padding);
    __syncthreads();

    const int lane = threadIdx.x % LANES, column = threadIdx.x / LANES % LANES, row = threadIdx.x / (LANES * LANES);
    const int step = LANES * s.stride_x * s.channels;
    float sums[EACH][FOURS][4] = {};
    const float* weight = filters + 4 * lane;
    for (int ky = 0; ky < s.size; ky++)
        for (int kx = 0; kx < s.size; kx++) {
            const float* under = values + (row * s.stride_y + ky * s.dilation) * pitch +
                                 (column * s.stride_x + kx * s.dilation) * s.channels;
            for (int c = 0; c < s.channels; c++, weight += STEP) {
                float4 w[FOURS];
#pragma unroll
                for (int j = 0; j < FOURS; j++) w[j] = *(const float4*)(weight + 4 * LANES * j);
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    const float value = under[i * step + c];
#pragma unroll
                    for (int j = 0; j < FOURS; j++) {
                        sums[i][j][0] += value * w[j].x, sums[i][j][1] += value * w[j].y;
                        sums[i][j][2] += value * w[j].z, sums[i][j][3] += value * w[j].w;
                    }
                }
            }
        }

    if (statistics) __syncthreads();  // weights and patch are read no more
    const int y = tile.y + row;
#pragma unroll
    for (int j = 0; j < FOURS; j++) {
        Statistics<4> thread_sums;
        const int f = first + 4 * (LANES * j + lane);
        Values<4> factors, summands;
#pragma unroll
        for (int k = 0; k < 4; k++) {
            factors[k] = scale && f + k < s.filters ? scale[f + k] : 1;
            summands[k] = bias && f + k < s.filters ? bias[f + k] : 0;
        }
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int x_here = tile.x + column + LANES * i;
            if (y >= s.out_height || x_here >= s.out_width || f >= s.filters) continue;
            element* target = out + ((tile.picture * s.out_height + y) * s.out_width + x_here) * s.out_stride + f;
            Values<4> results;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const float value = sums[i][j][k] * factors[k] + summands[k];
                results[k] = kind == LINEAR ? value : kind == LEAKY ? fmaxf(value, 0.1f * value) : activate_rarely(kind, value);
                if (statistics) results[k] = to_float(rounded<element>(results[k]));
            }
            if (statistics) thread_sums.add(results);
            if (by_four)
                store(target, results);
            else
                for (int k = 0; k < 4 && f + k < s.filters; k++) put(target + k, results[k]);
        }
        if (statistics) {
            thread_sums.finish();
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const Moments<float> of_warp = warp_moments(thread_sums, k, LANES);
                if (threadIdx.x % 32 < LANES) of_warps[threadIdx.x / 32][4 * (LANES * j + lane) + k] = of_warp;
            }
        }
    }
    if (!statistics) return;
    __syncthreads();
    for (int i = threadIdx.x; i < FILTERS && first + i < s.filters; i += FORWARD_THREADS) {
        Moments<float> all = of_warps[0][i];
        for (int warp = 1; warp < FORWARD_THREADS / 32; warp++) all = join(all, of_warps[warp][i]);
        float* mine = statistics + 2ll * blockIdx.x * s.filters + first + i;
        mine[0] = all.mean, mine[s.filters] = all.squares;
        if (first + i == 0) counts[blockIdx.x] = all.count;
    }
}

extern "C" __global__ void __launch_bounds__(128)
first_layer_forward_16(const element* x, const float* weights, element* out, int height, int width, int channels, int filters,
                       int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation,
                       long long x_stride, long long out_stride, int pitch, int by_four, const float* scale,
                       const float* bias, int kind, float* statistics, float* counts) {
    const Convolution s = CONVOLUTION_ARGUMENTS;
    forward<1>(x, weights, out, s, pitch, by_four, scale, bias, kind, statistics, counts);
}

extern "C" __global__ void __launch_bounds__(128)
first_layer_forward_32(const element* x, const float* weights, element* out, int height, int width, int channels, int filters,
                       int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation,
                       long long x_stride, long long out_stride, int pitch, int by_four, const float* scale,
                       const float* bias, int kind, float* statistics, float* counts) {
    const Convolution s = CONVOLUTION_ARGUMENTS;
    forward<2>(x, weights, out, s, pitch, by_four, scale, bias, kind, statistics, counts);
}

// --- Weight gradient

// partials (blocks x, filters, taps): sums over the tiles of a block. Block (share of the tiles, part of the filters, 4 x
// `fours` each); a thread is one of the fours, has some taps, and takes every so many-th position.
extern "C" __global__ void __launch_bounds__(256)
first_layer_backward_weights(const element* x, const element* grad_out, float* partials, int tiles, int height, int width,
                             int channels, int filters, int out_height, int out_width, int size, int stride_y,
                             int stride_x, int padding, int dilation, long long x_stride, long long out_stride, int pitch,
                             int by_four, int fours) {
    const Convolution s = CONVOLUTION_ARGUMENTS;
    const Patch patch(s, pitch);
    float* values = shared_room();
    const int taps = s.size * s.size * s.channels, shares = (taps + TAPS - 1) / TAPS, walkers = blockDim.x / (fours * shares);
    const int four = threadIdx.x % fours, share = threadIdx.x / fours % shares, walker = threadIdx.x / (fours * shares);
    const int f = 4 * (blockIdx.y * fours + four), first_tap = share * TAPS;
    int under[TAPS];
#pragma unroll
    for (int j = 0; j < TAPS; j++) {
        const int tap = min(first_tap + j, taps - 1), c = tap % s.channels, kx = tap / s.channels % s.size;
        under[j] = tap / (s.channels * s.size) * s.dilation * pitch + kx * s.dilation * s.channels + c;
    }
    float sums[TAPS][4] = {};
    for (int number = blockIdx.x; number < tiles; number += gridDim.x) {
        const Tile tile(number, s);
        __syncthreads();  // the patch before may still be read
        patch.load(x, values, s, tile.picture, tile.y * s.stride_y - s.padding, tile.x * s.stride_x - s.padding);
        __syncthreads();
        if (walker >= walkers || f >= s.filters) continue;
        for (int i = walker; i < DOWN * ACROSS; i += walkers) {
            const int row = i / ACROSS, column = i % ACROSS, y = tile.y + row, x_here = tile.x + column;
            if (y >= s.out_height || x_here >= s.out_width) continue;
            const element* from = grad_out + ((tile.picture * s.out_height + y) * s.out_width + x_here) * s.out_stride + f;
            Values<4> grad = {};
            if (by_four)
                grad = load(from, Width<4>());
            else
                for (int k = 0; k < 4 && f + k < s.filters; k++) grad[k] = to_float(from[k]);
            const float* here = values + row * s.stride_y * pitch + column * s.stride_x * s.channels;
#pragma unroll
            for (int j = 0; j < TAPS; j++) {
                const float value = here[under[j]];
#pragma unroll
                for (int k = 0; k < 4; k++) sums[j][k] += value * grad[k];
            }
        }
    }
    // The walkers' sums, one after the other, in place of the patch.
    for (int turn = 0; turn < walkers; turn++) {
        __syncthreads();
        if (walker != turn) continue;
#pragma unroll
        for (int j = 0; j < TAPS; j++)
            for (int k = 0; k < 4 && first_tap + j < taps; k++) {
                float* sum = values + (4 * four + k) * taps + first_tap + j;
                *sum = turn ? *sum + sums[j][k] : sums[j][k];
            }
    }
    __syncthreads();
    const int first = 4 * fours * blockIdx.y, here = min(4 * fours, s.filters - first) * taps;
    for (int i = threadIdx.x; i < here; i += blockDim.x)
        partials[((long long)blockIdx.x * s.filters + first) * taps + i] = values[i];
}
