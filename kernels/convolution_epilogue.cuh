// What is done with a convolution's results while they are in registers: out = after(activation(result * scale + bias) +
// residual), and the statistics that batch normalisation wants.
#pragma once

#include "activations.cuh"
#include "elementwise.cuh"
#include "moments.cuh"
#include "reduce.cuh"

// What is done, for all filters.
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

template <int KIND, int WIDTH> __device__ __forceinline__ Values<WIDTH> activate_each(Values<WIDTH> values) {
#pragma unroll
    for (int e = 0; e < WIDTH; e++) values[e] = activate(KIND, values[e]);
    return values;
}

// Called, not copied, for neighbouring results: most of its cases are not taken. Values come and go in registers. For
// the activations that detectors have, the case is looked up once for all of them.
template <int WIDTH> __device__ __noinline__ Values<WIDTH> activate_all(int kind, Values<WIDTH> values) {
    switch (kind) {
        case LEAKY: return activate_each<LEAKY>(values);
        case LOGISTIC: return activate_each<LOGISTIC>(values);
        case MISH: return activate_each<MISH>(values);
        case RELU: return activate_each<RELU>(values);
        case SWISH: return activate_each<SWISH>(values);
    }
#pragma unroll 1
    for (int e = 0; e < WIDTH; e++) {  // registers have no index: the values go round
        const float result = activate(kind, values[0]);
#pragma unroll
        for (int i = 0; i < WIDTH - 1; i++) values[i] = values[i + 1];
        values[WIDTH - 1] = result;
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

// Of a warp's lanes, finished, that are `step` lanes or a multiple of it apart; all lanes must call it.
template <int WIDTH> __device__ __forceinline__ Moments<float> warp_moments(const Statistics<WIDTH>& sums, int e, int step) {
    Moments<float> mine = {(float)sums.count, sums.shift[e], sums.squares[e]};
#pragma unroll
    for (; step < 32; step *= 2) {
        mine = join(mine, {__shfl_xor_sync(ALL_LANES, mine.count, step), __shfl_xor_sync(ALL_LANES, mine.mean, step),
                           __shfl_xor_sync(ALL_LANES, mine.squares, step)});
    }
    return mine;
}
