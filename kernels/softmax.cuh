// Probabilities from scores.
#pragma once
#include "reduce.cuh"

// exp(x / temperature) / sum for numbers first to last, by a warp: read(i) gives a score, thrice, mostly from the cache,
// and write(i, probability) takes what becomes of it.
template <class Read, class Write>
__device__ __forceinline__ void softmax_of(int first, int last, float temperature, Read read, Write write) {
    const int lane = threadIdx.x % 32;
    float largest = -INFINITY, total = 0;
    for (int i = first + lane; i < last; i += 32) largest = fmaxf(largest, read(i));
    largest = warp_max(largest);
    for (int i = first + lane; i < last; i += 32) total += expf((read(i) - largest) / temperature);
    total = warp_sum(total);
    for (int i = first + lane; i < last; i += 32) write(i, expf((read(i) - largest) / temperature) / total);
}
