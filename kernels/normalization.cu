// Normalisation over channels: local response normalisation, and vectors of length one.
//
// Arrays are rows of channels, one row for each position; norms are float.
//
// Response norm, per value: forward 12 bytes (8 with elements of 16 bits), a power and 2 flops for each channel of the
// window; the window's reads come from the cache. Backward 16 bytes (10), two powers and a flop for each channel of the
// window. Memory bound for windows of some channels. Vectors of length one: forward 8 bytes per value (4) and 3 flops,
// backward 16 (8) and 7, each array but the result read a second time from the cache. Not measured yet.
#include "elementwise.cuh"
#include "reduce.cuh"

// --- Response norm. The window of channel c begins `before` channels before it and ends `ahead` after it. Darknet moves a
// sum along the channels that begins without channel number `ahead` and takes it away when it leaves the window: it
// counts one less than in the window proper for every c, which is 0 within and -1 behind.

extern "C" __global__ void __launch_bounds__(256)
response_norm_forward(const element* x, long long x_stride, float* norms, long long norms_stride, element* out,
                      long long out_stride, long long rows, long long channels, int before, int ahead, float alpha,
                      float beta, float kappa) {
    over_rows(rows, channels, 0, [&](long long row, long long c, auto) {
        const element* values = x + row * x_stride;
        const long long first = max(c - before, 0ll), last = min(c + ahead, channels - 1);
        float sum = 0;
        for (long long i = first; i <= last; i++)
            if (i != ahead) sum += to_float(values[i]) * to_float(values[i]);
        if (ahead < first) sum -= to_float(values[ahead]) * to_float(values[ahead]);
        const float norm = kappa + alpha * sum;
        norms[row * norms_stride + c] = norm;
        put(out + row * out_stride + c, to_float(values[c]) * powf(norm, -beta));
    });
}

// With t = g x norm^(-beta - 1), the norms' gradients but for a factor: grad_x = g norm^-beta - 2 alpha beta x (the sum of
// t over the channels whose windows x is in). A warp for each row, whose t wait in shared memory.
extern "C" __global__ void __launch_bounds__(256)
response_norm_backward(const element* x, long long x_stride, const float* norms, long long norms_stride,
                       const element* grad_out, long long grad_out_stride, element* grad_x, long long grad_x_stride,
                       long long rows, int channels, int before, int ahead, float alpha, float beta, int accumulate) {
    extern __shared__ float of_block[];
    float* terms = of_block + threadIdx.x / 32 * channels;
    over_groups(rows, 32, [&](long long row, int lane, bool exists) {
        const element *values = x + row * x_stride, *gradients = grad_out + row * grad_out_stride;
        const float* divisors = norms + row * norms_stride;
        float behind = 0;  // the window of channel `ahead` itself
        __syncwarp();      // the terms of the row before may still be read
        for (int c = lane; c < channels; c += 32) {
            terms[c] = to_float(gradients[c]) * to_float(values[c]) * powf(divisors[c], -beta) / divisors[c];
            if (c > ahead + before) behind += terms[c];
        }
        behind = warp_sum(behind);
        __syncwarp();
        for (int c = lane; c < channels && exists; c += 32) {
            float sum = c == ahead ? -behind : 0;
            for (int i = max(c - ahead, 0); i <= min(c + before, channels - 1) && c != ahead; i++) sum += terms[i];
            const float direct = to_float(gradients[c]) * powf(divisors[c], -beta);
            put(grad_x + row * grad_x_stride + c, direct - 2 * alpha * beta * to_float(values[c]) * sum, accumulate);
        }
    });
}

// --- Vectors of length one: `lanes` neighbouring lanes for each row.

// The length of a row, 1 where all channels are 0.
__device__ __forceinline__ float length_of(const element* x, int channels, int lane, int lanes) {
    float squares = 0;
    for (int c = lane; c < channels; c += lanes) squares += to_float(x[c]) * to_float(x[c]);
    squares = warp_sum(squares, lanes);
    return squares == 0 ? 1 : sqrtf(squares);
}

extern "C" __global__ void __launch_bounds__(256)
unit_length_forward(const element* x, long long x_stride, element* out, long long out_stride, long long rows, int channels,
                    int lanes) {
    over_groups(rows, lanes, [&](long long row, int lane, bool exists) {
        const element* values = x + row * x_stride;
        const float length = length_of(values, channels, lane, lanes);
        for (int c = lane; c < channels && exists; c += lanes)
            put(out + row * out_stride + c, to_float(values[c]) / length);
    });
}

// grad_x = (g - out * (the sum of g out)) / length.
extern "C" __global__ void __launch_bounds__(256)
unit_length_backward(const element* x, long long x_stride, const element* out, long long out_stride,
                     const element* grad_out, long long grad_out_stride, element* grad_x, long long grad_x_stride,
                     long long rows, int channels, int lanes, int accumulate) {
    over_groups(rows, lanes, [&](long long row, int lane, bool exists) {
        const element *results = out + row * out_stride, *gradients = grad_out + row * grad_out_stride;
        const float length = length_of(x + row * x_stride, channels, lane, lanes);
        float along = 0;
        for (int c = lane; c < channels; c += lanes) along += to_float(gradients[c]) * to_float(results[c]);
        along = warp_sum(along, lanes);
        for (int c = lane; c < channels && exists; c += lanes)
            put(grad_x + row * grad_x_stride + c, (to_float(gradients[c]) - to_float(results[c]) * along) / length,
                accumulate);
    });
}
