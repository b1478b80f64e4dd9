// Convolution in fp32 as a product of matrices that are never made: implicit GEMM on the ordinary cores.
//
//                 M            N                     K                     A                     B
//   forward       positions    filters               size * size * c       pixels of x           weights
//   input grad    pixels of x  channels              size * size * f       positions of grad     weights
//   weight grad   filters      size * size * c       positions             grad, transposed      pixels of x
//
// x (n, h, w, c), weights (f, size, size, c), out (n, oh, ow, f), all rows of neighbouring channels. 2 M N K flops; the
// three arrays are read and written once if the caches keep what tiles share. Groups are blockIdx.z.
//
// A block of 256 threads makes a tile of BM x BN results. Step by step along K it keeps BK columns of A and rows of B in
// shared memory, while the next are on their way from global memory in registers. A thread makes TM x TN results: per
// step along K it reads TM + TN values for TM * TN multiply-adds.
//
// Versions, with their share of the limit: register tiles 128x128 (8x8 per thread) and 64x64 (4x4), scalar loads: not
// measured yet.
#include "activations.cuh"
#include "convolution.cuh"
#include "elementwise.cuh"

constexpr int THREADS = 256;

// Which elements of a tile, SIDE along M or N times BK along K, a thread fetches: lanes go along K where that lies
// contiguous in memory, else along the side.
template <int SIDE, int BK, bool ALONG_K> struct Share {
    static constexpr int COUNT = SIDE * BK / THREADS;
    static_assert(SIDE * BK % THREADS == 0);
    __device__ static int side(int i) {
        return ALONG_K ? threadIdx.x / BK + i * (THREADS / BK) : (threadIdx.x + i * THREADS) % SIDE;
    }
    __device__ static int k(int i) { return ALONG_K ? threadIdx.x % BK : (threadIdx.x + i * THREADS) / SIDE; }
};

// A position of the output, and of the picture under the first tap there.
struct Corner {
    long long picture;  // number of the picture's first row in x
    int y, x;
};

__device__ __forceinline__ Corner corner_of(const Convolution& s, int position) {
    const int line = position / s.out_width, ox = position - line * s.out_width, picture = line / s.out_height;
    const int oy = line - picture * s.out_height;
    return {(long long)picture * s.height * s.width, oy * s.stride_y - s.padding, ox * s.stride_x - s.padding};
}

// A tap of the kernel and a channel, from their common number; the channel is the faster.
struct Tap {
    int y, x, channel;
};

__device__ __forceinline__ Tap tap_of(const Convolution& s, int number, int channels) {
    const int tap = number / channels, y = tap / s.size;
    return {y * s.dilation, (tap - y * s.size) * s.dilation, number - tap * channels};
}

__device__ __forceinline__ float pixel(const Convolution& s, const float* x, const Corner& at, const Tap& tap) {
    const int y = at.y + tap.y, column = at.x + tap.x;
    if ((unsigned)y >= (unsigned)s.height || (unsigned)column >= (unsigned)s.width) return 0;
    return x[(at.picture + (long long)y * s.width + column) * s.x_stride + tap.channel];
}

// --- What fills the tiles. begin(): what does not change along K; fetch(): the thread's share of step k0.

// Forward, A: output positions times taps.
template <int SIDE, int BK> struct Patches {
    using S = Share<SIDE, BK, true>;
    const Convolution& s;
    const float* x;
    int positions, depth;
    Corner corners[S::COUNT];
    __device__ void begin(int first) {
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) corners[i] = corner_of(s, min(first + S::side(i), positions - 1));
    }
    __device__ void fetch(int k0, float (&values)[S::COUNT]) {
        const int k = k0 + S::k(0);
        const Tap tap = tap_of(s, k, s.channels);
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) values[i] = k < depth ? pixel(s, x, corners[i], tap) : 0;
    }
};

// Forward, B: filters times taps, as they lie in memory.
template <int SIDE, int BK> struct Filters {
    using S = Share<SIDE, BK, true>;
    const float* weights;
    int filters, depth;
    int first;
    __device__ void begin(int first_) { first = first_; }
    __device__ void fetch(int k0, float (&values)[S::COUNT]) {
        const int k = k0 + S::k(0);
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) {
            const int f = first + S::side(i);
            values[i] = k < depth && f < filters ? weights[(long long)f * depth + k] : 0;
        }
    }
};

// Input gradient, A: pixels of x times taps and filters; 0 where a tap misses the positions of the output.
template <int SIDE, int BK> struct Spread {
    using S = Share<SIDE, BK, true>;
    const Convolution& s;
    const float* grad_out;
    int pixels, depth;
    Corner at[S::COUNT];
    __device__ void begin(int first) {
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) {
            const int number = min(first + S::side(i), pixels - 1), line = number / s.width, picture = line / s.height;
            at[i] = {(long long)picture * s.out_height * s.out_width, line - picture * s.height + s.padding,
                     number - line * s.width + s.padding};
        }
    }
    __device__ void fetch(int k0, float (&values)[S::COUNT]) {
        const int k = k0 + S::k(0);
        const Tap tap = tap_of(s, k, s.filters);
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) {
            const int down = at[i].y - tap.y, across = at[i].x - tap.x;
            const int y = down / s.stride_y, x = across / s.stride_x;
            const bool meets = k < depth && down >= 0 && across >= 0 && y * s.stride_y == down && x * s.stride_x == across &&
                               y < s.out_height && x < s.out_width;
            values[i] = meets ? grad_out[(at[i].picture + (long long)y * s.out_width + x) * s.out_stride + tap.channel] : 0;
        }
    }
};

// Input gradient, B: for each tap and filter the weights of neighbouring channels.
template <int SIDE, int BK> struct Backwards {
    using S = Share<SIDE, BK, false>;
    const Convolution& s;
    const float* weights;
    int depth;
    int first;
    __device__ void begin(int first_) { first = first_; }
    __device__ void fetch(int k0, float (&values)[S::COUNT]) {
        const int taps = s.size * s.size;
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) {
            const int k = k0 + S::k(i), channel = first + S::side(i), tap = k / s.filters, f = k - tap * s.filters;
            const bool exists = k < depth && channel < s.channels;
            values[i] = exists ? weights[((long long)f * taps + tap) * s.channels + channel] : 0;
        }
    }
};

// Weight gradient, A: at each position the gradients of neighbouring filters.
template <int SIDE, int BK> struct Gradients {
    using S = Share<SIDE, BK, false>;
    const Convolution& s;
    const float* grad_out;
    int last;
    int first;
    __device__ void begin(int first_) { first = first_; }
    __device__ void fetch(int k0, float (&values)[S::COUNT]) {
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) {
            const int position = k0 + S::k(i), f = first + S::side(i);
            values[i] = position < last && f < s.filters ? grad_out[position * s.out_stride + f] : 0;
        }
    }
};

// Weight gradient, B: at each position the pixels under the taps.
template <int SIDE, int BK> struct PixelsUnderTaps {
    using S = Share<SIDE, BK, false>;
    const Convolution& s;
    const float* x;
    int depth, last;
    int first;
    __device__ void begin(int first_) { first = first_; }
    __device__ void fetch(int k0, float (&values)[S::COUNT]) {
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) {
            const int position = k0 + S::k(i), number = first + S::side(i);
            const bool exists = position < last && number < depth;
            values[i] = exists ? pixel(s, x, corner_of(s, position), tap_of(s, number, s.channels)) : 0;
        }
    }
};

// --- The product. emit(m, n, value) is called for every result of the tile, within M and N or not.

template <int BM, int BN, int BK, int TM, int TN, class A, class B, class Emit>
__device__ __forceinline__ void multiply(A a, B b, int first_m, int first_n, int k_begin, int k_end, Emit emit) {
    static_assert(BM / TM * (BN / TN) == THREADS);
    // A few more than needed: threads that store along K shall not all meet in one bank.
    __shared__ __align__(16) float tile_a[BK][BM + 4], tile_b[BK][BN + 4];
    float sums[TM][TN] = {};
    float next_a[A::S::COUNT], next_b[B::S::COUNT];
    const int row = threadIdx.x / (BN / TN) * TM, column = threadIdx.x % (BN / TN) * TN;
    a.begin(first_m);
    b.begin(first_n);
    a.fetch(k_begin, next_a);
    b.fetch(k_begin, next_b);
    for (int k0 = k_begin; k0 < k_end; k0 += BK) {
#pragma unroll
        for (int i = 0; i < A::S::COUNT; i++) tile_a[A::S::k(i)][A::S::side(i)] = next_a[i];
#pragma unroll
        for (int i = 0; i < B::S::COUNT; i++) tile_b[B::S::k(i)][B::S::side(i)] = next_b[i];
        __syncthreads();
        if (k0 + BK < k_end) {
            a.fetch(k0 + BK, next_a);
            b.fetch(k0 + BK, next_b);
        }
#pragma unroll
        for (int k = 0; k < BK; k++) {
            float of_a[TM], of_b[TN];
#pragma unroll
            for (int i = 0; i < TM; i += 4) {
                const auto four = load(&tile_a[k][row + i], Width<4>());
                of_a[i] = four[0], of_a[i + 1] = four[1], of_a[i + 2] = four[2], of_a[i + 3] = four[3];
            }
#pragma unroll
            for (int i = 0; i < TN; i += 4) {
                const auto four = load(&tile_b[k][column + i], Width<4>());
                of_b[i] = four[0], of_b[i + 1] = four[1], of_b[i + 2] = four[2], of_b[i + 3] = four[3];
            }
#pragma unroll
            for (int i = 0; i < TM; i++)
#pragma unroll
                for (int j = 0; j < TN; j++) sums[i][j] += of_a[i] * of_b[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) emit(first_m + row + i, first_n + column + j, sums[i][j]);
}

// Called, not copied, for each of a thread's results: most of its twenty cases are not taken.
__device__ __noinline__ float activate_result(int kind, float value) { return activate(kind, value); }

template <int BM, int BN, int BK, int TM, int TN>
__device__ __forceinline__ void forward(const float* x, const float* weights, float* out, int positions, const Convolution& s,
                                        const float* scale, const float* bias, int kind) {
    const int group = blockIdx.z, depth = s.size * s.size * s.channels, first_filter = group * s.filters;
    Patches<BM, BK> a = {s, x + group * s.channels, positions, depth};
    Filters<BN, BK> b = {weights + (long long)first_filter * depth, s.filters, depth};
    multiply<BM, BN, BK, TM, TN>(a, b, blockIdx.x * BM, blockIdx.y * BN, 0, depth, [&](int m, int n, float value) {
        if (m >= positions || n >= s.filters) return;
        const int f = first_filter + n;
        if (scale) value *= scale[f];
        if (bias) value += bias[f];
        out[m * s.out_stride + f] = kind == LINEAR ? value : activate_result(kind, value);
    });
}

template <int BM, int BN, int BK, int TM, int TN>
__device__ __forceinline__ void backward_input(const float* grad_out, const float* weights, float* grad_x, int pixels,
                                               const Convolution& s, int accumulate) {
    const int group = blockIdx.z, depth = s.size * s.size * s.filters;
    Spread<BM, BK> a = {s, grad_out + group * s.filters, pixels, depth};
    Backwards<BN, BK> b = {s, weights + (long long)group * s.filters * s.size * s.size * s.channels, depth};
    multiply<BM, BN, BK, TM, TN>(a, b, blockIdx.x * BM, blockIdx.y * BN, 0, depth, [&](int m, int n, float value) {
        if (m >= pixels || n >= s.channels) return;
        float* target = grad_x + m * s.x_stride + group * s.channels + n;
        *target = accumulate ? *target + value : value;
    });
}

// blockIdx.z: group * splits + split; each split adds up its own positions. With one split the sums are added to
// grad_weights, with several each stores its own at `target`, one set of all weights after the other.
template <int BM, int BN, int BK, int TM, int TN>
__device__ __forceinline__ void backward_weights(const float* x, const float* grad_out, float* target, int positions,
                                                 const Convolution& s, int splits, int groups) {
    const int group = blockIdx.z / splits, split = blockIdx.z - group * splits, depth = s.size * s.size * s.channels;
    const int length = ((positions + splits - 1) / splits + BK - 1) / BK * BK;
    const int first = min(split * length, positions), last = min(first + length, positions);
    Gradients<BM, BK> a = {s, grad_out + group * s.filters, last};
    PixelsUnderTaps<BN, BK> b = {s, x + group * s.channels, depth, last};
    float* mine = target + ((long long)split * groups + group) * s.filters * depth;
    multiply<BM, BN, BK, TM, TN>(a, b, blockIdx.x * BM, blockIdx.y * BN, first, last, [&](int m, int n, float value) {
        if (m >= s.filters || n >= depth) return;
        float* place = mine + (long long)m * depth + n;
        *place = splits == 1 ? *place + value : value;
    });
}

// --- Kernels, by the side of their tiles.

extern "C" __global__ void __launch_bounds__(256)
forward_64x64(const float* x, const float* weights, float* out, int positions, int height, int width, int channels,
           int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation,
           long long x_stride, long long out_stride, const float* scale, const float* bias, int kind) {
    forward<64, 64, 16, 4, 4>(x, weights, out, positions, CONVOLUTION_ARGUMENTS, scale, bias, kind);
}

extern "C" __global__ void __launch_bounds__(256)
forward_128x128(const float* x, const float* weights, float* out, int positions, int height, int width, int channels,
            int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding, int dilation,
            long long x_stride, long long out_stride, const float* scale, const float* bias, int kind) {
    forward<128, 128, 8, 8, 8>(x, weights, out, positions, CONVOLUTION_ARGUMENTS, scale, bias, kind);
}

extern "C" __global__ void __launch_bounds__(256)
backward_input_64x64(const float* grad_out, const float* weights, float* grad_x, int pixels, int height, int width,
                  int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x,
                  int padding, int dilation, long long x_stride, long long out_stride, int accumulate) {
    backward_input<64, 64, 16, 4, 4>(grad_out, weights, grad_x, pixels, CONVOLUTION_ARGUMENTS, accumulate);
}

extern "C" __global__ void __launch_bounds__(256)
backward_input_128x128(const float* grad_out, const float* weights, float* grad_x, int pixels, int height, int width,
                   int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x,
                   int padding, int dilation, long long x_stride, long long out_stride, int accumulate) {
    backward_input<128, 128, 8, 8, 8>(grad_out, weights, grad_x, pixels, CONVOLUTION_ARGUMENTS, accumulate);
}

extern "C" __global__ void __launch_bounds__(256)
backward_weights_64x64(const float* x, const float* grad_out, float* target, int positions, int height, int width,
                    int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x,
                    int padding, int dilation, long long x_stride, long long out_stride, int splits, int groups) {
    backward_weights<64, 64, 16, 4, 4>(x, grad_out, target, positions, CONVOLUTION_ARGUMENTS, splits, groups);
}

extern "C" __global__ void __launch_bounds__(256)
backward_weights_128x128(const float* x, const float* grad_out, float* target, int positions, int height, int width,
                     int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x,
                     int padding, int dilation, long long x_stride, long long out_stride, int splits, int groups) {
    backward_weights<128, 128, 8, 8, 8>(x, grad_out, target, positions, CONVOLUTION_ARGUMENTS, splits, groups);
}

// grad_weights += the sum of the splits' shares.
extern "C" __global__ void __launch_bounds__(256)
add_shares(const float* shares, float* grad_weights, long long count, int splits) {
    over_all(count, [&](long long i) {
        float sum = 0;
        for (int split = 0; split < splits; split++) sum += shares[split * count + i];
        grad_weights[i] += sum;
    });
}
