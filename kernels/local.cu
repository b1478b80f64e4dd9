// Local layers: convolutions whose every output position, a place, has filters of its own.
//
// x (n, h, w, c) and out (n, oh, ow, f): `element`, rows of channels; weights (oh * ow, f, size, size, c): float, without
// gaps. The last three axes of the weights are one column, the same numbers as lie under the kernel. Where there is a copy
// of them as elements, it is read instead.
//
// Bytes: 4 per weight (2 of a copy in 16 bits) forward and for the gradient of x, 8 for that of the weights, which is added
// to; pictures are small beside them and shared by the filters of a place, so that they come from the cache. 2 flops per weight and picture: up
// to some 30 pictures moving the weights is all the work, and nothing is gained by tensor cores. So a weight comes from
// memory into a register, and is used there for 16 pictures; blocks of one place with other pictures run side by side and
// find it in the cache. Not measured yet.
#include "convolution.cuh"
#include "elementwise.cuh"
#include "reduce.cuh"

constexpr int PICTURES = 16;  // for which a weight is used at a time
constexpr int WARPS = 8;      // of a block

__device__ __forceinline__ int groups_of(int count, int each) { return (count + each - 1) / each; }

// Where number k of the column of a place lies in a picture.
struct Tap {
    bool is_inside;
    long long offset;
};

__device__ __forceinline__ Tap tap_of(int k, long long place, const Convolution& s) {
    const int tap = k / s.channels, c = k - tap * s.channels, ky = tap / s.size, down = (int)(place / s.out_width);
    const int y = down * s.stride_y - s.padding + ky;
    const int x = (int)(place - (long long)down * s.out_width) * s.stride_x - s.padding + tap - ky * s.size;
    return {y >= 0 && y < s.height && x >= 0 && x < s.width, ((long long)y * s.width + x) * s.x_stride + c};
}

// --- Forward. A warp for 4 filters of a place and 16 pictures; its lanes go along the column.

constexpr int FILTERS = 4;
constexpr int SUMS = PICTURES * FILTERS;

// Of 4 * STEP sums that all lanes of a warp have shares of, STEP 16 first: number 2 * lane and the next, in v[0] and v[1].
template <int STEP> __device__ __forceinline__ void fold(float (&v)[SUMS]) {
    const bool is_upper = threadIdx.x & STEP;
#pragma unroll
    for (int i = 0; i < 2 * STEP; i++) {
        const float low = v[i], high = v[i + 2 * STEP];
        v[i] = (is_upper ? high : low) + __shfl_xor_sync(ALL_LANES, is_upper ? low : high, STEP);
    }
    if constexpr (STEP > 1) fold<STEP / 2>(v);
}

template <class Weight>
__device__ __forceinline__ void forward(const element* x, const Weight* weights, element* out, int pictures,
                                        const Convolution& s) {
    const int lane = threadIdx.x % 32, column = s.size * s.size * s.channels;
    const int filter_groups = groups_of(s.filters, FILTERS), picture_groups = groups_of(pictures, PICTURES);
    const long long places = (long long)s.out_height * s.out_width, task = blockIdx.x * (long long)WARPS + threadIdx.x / 32;
    const int filter = (int)(task % filter_groups) * FILTERS;
    const int first = (int)(task / filter_groups % picture_groups) * PICTURES;
    const long long place = task / filter_groups / picture_groups;
    if (place >= places) return;
    const int last = min(PICTURES, pictures - first) - 1, last_filter = min(FILTERS, s.filters - filter) - 1;
    const long long picture = (long long)s.height * s.width * s.x_stride;
    const Weight* mine = weights + (place * s.filters + filter) * column;
    x += first * picture;
    float sums[SUMS] = {};  // picture by picture; beyond the last picture and filter these once more
    float w[FILTERS], next[FILTERS];  // the next ones are under way while these are used
    const auto bring = [&](int k) {
#pragma unroll
        for (int f = 0; f < FILTERS; f++)
            next[f] = k < column ? to_float(mine[(long long)min(f, last_filter) * column + k]) : 0;
    };
    bring(lane);
    for (int k = lane; k < column; k += 32) {
#pragma unroll
        for (int f = 0; f < FILTERS; f++) w[f] = next[f];
        bring(k + 32);
        const Tap tap = tap_of(k, place, s);
        const element* value_of = x + tap.offset;
#pragma unroll
        for (int n = 0; n < PICTURES; n++) {
            const float value = tap.is_inside ? to_float(*value_of) : 0;
            if (n < last) value_of += picture;
#pragma unroll
            for (int f = 0; f < FILTERS; f++) sums[n * FILTERS + f] += value * w[f];
        }
    }
    static_assert(SUMS == 64, "two for each lane");
    fold<16>(sums);
    const int n = 2 * lane / FILTERS, f = 2 * lane % FILTERS;
    element* result = out + ((first + n) * places + place) * s.out_stride + filter + f;
#pragma unroll
    for (int i = 0; i < 2; i++)
        if (n <= last && f + i <= last_filter) put(result + i, sums[i]);
}

// copy: the weights as elements, or null.
extern "C" __global__ void __launch_bounds__(256)
local_forward(const element* x, const float* weights, const element* copy, element* out, int pictures, int height, int width,
              int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x, int padding,
              int dilation, long long x_stride, long long out_stride) {
    const Convolution s = CONVOLUTION_ARGUMENTS;
    if (copy)
        forward(x, copy, out, pictures, s);
    else
        forward(x, weights, out, pictures, s);
}

// --- grad_weights += . A warp for 8 filters and 128 numbers of the column of a place; all pictures, one after the other.

constexpr int TALL = 8, LONG = 4;

extern "C" __global__ void __launch_bounds__(256)
local_backward_weights(const element* x, const element* grad_out, float* grad_weights, int pictures, int height, int width,
                       int channels, int filters, int out_height, int out_width, int size, int stride_y, int stride_x,
                       int padding, int dilation, long long x_stride, long long out_stride) {
    const Convolution s = CONVOLUTION_ARGUMENTS;
    const int column = s.size * s.size * s.channels;
    const int filter_groups = groups_of(s.filters, TALL), stretches = groups_of(column, 32 * LONG);
    const long long places = (long long)s.out_height * s.out_width, task = blockIdx.x * (long long)WARPS + threadIdx.x / 32;
    const int filter = (int)(task % filter_groups) * TALL;
    const int first = (int)(task / filter_groups % stretches) * 32 * LONG + threadIdx.x % 32;
    const long long place = task / filter_groups / stretches;
    if (place >= places) return;
    const int last_filter = min(TALL, s.filters - filter) - 1;
    const long long picture = (long long)s.height * s.width * s.x_stride;
    Tap taps[LONG];
#pragma unroll
    for (int i = 0; i < LONG; i++) {
        taps[i] = tap_of(first + 32 * i, place, s);
        taps[i].is_inside &= first + 32 * i < column;
    }
    float sums[TALL][LONG] = {};
    for (int n = 0; n < pictures; n++) {
        const element* gradients = grad_out + (n * places + place) * s.out_stride + filter;
        float values[LONG];
#pragma unroll
        for (int i = 0; i < LONG; i++) values[i] = taps[i].is_inside ? to_float(x[n * picture + taps[i].offset]) : 0;
#pragma unroll
        for (int f = 0; f < TALL; f++) {
            const float gradient = to_float(gradients[min(f, last_filter)]);
#pragma unroll
            for (int i = 0; i < LONG; i++) sums[f][i] += gradient * values[i];
        }
    }
    float* mine = grad_weights + (place * s.filters + filter) * column + first;
#pragma unroll
    for (int f = 0; f < TALL; f++)
#pragma unroll
        for (int i = 0; i < LONG; i++)
            if (f <= last_filter && taps[i].is_inside) mine[(long long)f * column + 32 * i] += sums[f][i];
}

// --- grad_x. A block for 64 channels of a pixel and 16 pictures: it goes through the places whose kernels cover the
// pixel, of each its 8 warps take 64 filters in turn, every eighth one; at the end their shares are added up.

constexpr int CHUNK = 64, ACROSS = 2;  // filters at a time; channels of a lane, 32 apart
constexpr int EACH = CHUNK / WARPS;

// Which output position reads a pixel by row (or column) `tap` of its kernel; -1 if none does.
__device__ __forceinline__ int reached_from(int pixel, int tap, int padding, int stride, int outputs) {
    const int distance = pixel + padding - tap, place = distance / stride;
    return distance >= 0 && place * stride == distance && place < outputs ? place : -1;
}

template <class Weight>
__device__ __forceinline__ void backward_input(const element* grad_out, const Weight* weights, element* grad_x, int pictures,
                                               const Convolution& s, int accumulate, float (*gradients)[PICTURES + 4],
                                               float (*shares)[WARPS][32]) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = s.size * s.size * s.channels;
    const int channel_groups = groups_of(s.channels, 32 * ACROSS), picture_groups = groups_of(pictures, PICTURES);
    const long long places = (long long)s.out_height * s.out_width, pixels = (long long)s.height * s.width;
    const int c = (int)(blockIdx.x % channel_groups) * 32 * ACROSS + lane;
    const int first = (int)(blockIdx.x / channel_groups % picture_groups) * PICTURES;
    const long long pixel = blockIdx.x / channel_groups / picture_groups;
    const int y = (int)(pixel / s.width), column_of_pixel = (int)(pixel % s.width);
    float sums[ACROSS][PICTURES] = {};
    for (int tap = 0; tap < s.size * s.size; tap++) {
        const int down = reached_from(y, tap / s.size, s.padding, s.stride_y, s.out_height);
        const int across = reached_from(column_of_pixel, tap % s.size, s.padding, s.stride_x, s.out_width);
        if (down < 0 || across < 0) continue;
        const long long place = (long long)down * s.out_width + across;
        for (int chunk = 0; chunk < s.filters; chunk += CHUNK) {
            // Under way while the gradients are brought.
            float w[EACH][ACROSS];
#pragma unroll
            for (int i = 0; i < EACH; i++)
#pragma unroll
                for (int j = 0; j < ACROSS; j++) {
                    const int filter = chunk + warp + WARPS * i, channel = c + 32 * j;
                    const Weight* weight = weights + (place * s.filters + filter) * column + tap * s.channels + channel;
                    w[i][j] = filter < s.filters && channel < s.channels ? to_float(*weight) : 0;
                }
            __syncthreads();  // those before may still be read
            for (int i = threadIdx.x; i < CHUNK * PICTURES; i += 32 * WARPS) {
                const int f = i % CHUNK, n = i / CHUNK;
                const bool exists = chunk + f < s.filters && first + n < pictures;
                gradients[f][n] = exists ? to_float(grad_out[((first + n) * places + place) * s.out_stride + chunk + f]) : 0;
            }
            __syncthreads();
#pragma unroll
            for (int i = 0; i < EACH; i++)
#pragma unroll
                for (int n = 0; n < PICTURES; n += 4) {
                    const auto gradient = load(&gradients[warp + WARPS * i][n], Width<4>());
#pragma unroll
                    for (int k = 0; k < 4; k++)
#pragma unroll
                        for (int j = 0; j < ACROSS; j++) sums[j][n + k] += w[i][j] * gradient[k];
                }
        }
    }
#pragma unroll
    for (int part = 0; part < ACROSS * PICTURES / WARPS; part++) {
        const int j = part * WARPS / PICTURES, n = part * WARPS % PICTURES;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < WARPS; i++) shares[warp][i][lane] = sums[j][n + i];
        __syncthreads();
        float sum = 0;
        for (int i = 0; i < WARPS; i++) sum += shares[i][warp][lane];
        const int picture = first + n + warp, channel = c + 32 * j;
        if (picture < pictures && channel < s.channels)
            put(grad_x + (picture * pixels + pixel) * s.x_stride + channel, sum, accumulate);
    }
}

extern "C" __global__ void __launch_bounds__(256)
local_backward_input(const element* grad_out, const float* weights, const element* copy, element* grad_x, int pictures,
                     int height, int width, int channels, int filters, int out_height, int out_width, int size, int stride_y,
                     int stride_x, int padding, int dilation, long long x_stride, long long out_stride, int accumulate) {
    __shared__ __align__(16) float gradients[CHUNK][PICTURES + 4];
    __shared__ float shares[WARPS][WARPS][32];
    const Convolution s = CONVOLUTION_ARGUMENTS;
    if (copy)
        backward_input(grad_out, copy, grad_x, pictures, s, accumulate, gradients, shares);
    else
        backward_input(grad_out, weights, grad_x, pictures, s, accumulate, gradients, shares);
}
