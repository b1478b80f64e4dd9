// The loss of [contrastive]: embeddings of one object's views are drawn together, those of other objects pushed away.
//
// Embeddings (n, h, w, slots * size) are `element`, rows of channels. A sample is an object that has an identity; its
// embedding z is the `size` numbers of its slot at its position. Samples are compared in pairs of one class and step in
// time: with s the cosine of two of them, P is the share of exp(s / temperature) among all pairs with the same second
// partner. See darkpy/backends/numpy/contrastive.py for the formulas.
//
// For k samples k^2 pairs, 8 bytes (4 with elements of 16 bits), from the cache, and 2 flops in double precision for each
// number of an embedding: there are some hundred samples, and shares near 1, which is subtracted. A trifle beside a
// convolution. Nothing is kept for a pair; cosines are computed anew where they are wanted. Not measured yet.
#include "elementwise.cuh"
#include "reduce.cuh"

constexpr double SURE = 0.9999;  // the share of a pair that nothing competes with, and the highest that is counted
constexpr int WARPS = 8;         // of a block
constexpr int WIDE = 4;          // numbers of an embedding that a lane takes at a time

// An object: the row of its position, the slot of its anchor, whose it is, its class, its step in time.
struct Sample {
    int row, slot, identity, kind, step;
};

// samples: how many there are, then they themselves.
struct Samples {
    const int* numbers;
    const element* embeddings;
    long long stride;
    int size;

    __device__ int count() const { return *numbers; }
    __device__ Sample operator[](int i) const {
        const int* n = numbers + 1 + 5 * i;
        return {n[0], n[1], n[2], n[3], n[4]};
    }
    __device__ const element* embedding(const Sample& sample) const {
        return embeddings + sample.row * stride + (long long)sample.slot * size;
    }
    // Of a whole warp, as is what follows.
    __device__ double product(const Sample& a, const Sample& b) const {
        const element *x = embedding(a), *y = embedding(b);
        double sum = 0;
        for (int d = threadIdx.x % 32; d < size; d += 32) sum += (double)to_float(x[d]) * to_float(y[d]);
        return warp_sum(sum);
    }
    __device__ double cosine(const Sample& a, const Sample& b, double lengths) const {
        const double sum = product(a, b);
        return lengths > 0 ? sum / lengths : 0;
    }
};

// Whether two different samples are a pair.
__device__ __forceinline__ bool are_compared(const Sample& a, const Sample& b) { return a.kind == b.kind && a.step == b.step; }

// A cosine's weight; shifted so that the exponential stays finite.
__device__ __forceinline__ double weight_of(double cosine, double temperature) { return exp((cosine - 1) / temperature); }

// lengths (capacity). A warp for each sample.
extern "C" __global__ void __launch_bounds__(256)
contrastive_lengths(const element* embeddings, long long stride, int size, const int* numbers, double* lengths) {
    const Samples samples = {numbers, embeddings, stride, size};
    const int i = blockIdx.x * WARPS + threadIdx.x / 32;
    if (i >= samples.count()) return;
    const double length = sqrt(samples.product(samples[i], samples[i]));
    if (threadIdx.x % 32 == 0) lengths[i] = length;
}

// totals (capacity, 2): of all pairs with this second partner the sum of weights, and how many they are. A block for each.
extern "C" __global__ void __launch_bounds__(256)
contrastive_totals(const element* embeddings, long long stride, int size, const int* numbers, const double* lengths,
                   double temperature, double* totals) {
    __shared__ double of_warp[WARPS][2];
    const Samples samples = {numbers, embeddings, stride, size};
    const int j = blockIdx.x, warp = threadIdx.x / 32;
    if (j >= samples.count()) return;
    const Sample second = samples[j];
    double total = 0, pairs = 0;
    for (int i = warp; i < samples.count(); i += WARPS) {
        const Sample first = samples[i];
        if (i == j || !are_compared(first, second)) continue;
        total += weight_of(samples.cosine(first, second, lengths[i] * lengths[j]), temperature);
        pairs++;
    }
    if (threadIdx.x % 32 == 0) of_warp[warp][0] = total, of_warp[warp][1] = pairs;
    __syncthreads();
    if (threadIdx.x >= 2) return;
    double sum = 0;
    for (int i = 0; i < WARPS; i++) sum += of_warp[i][threadIdx.x];
    totals[2 * j + threadIdx.x] = sum;
}

// How much of what the second partner of a pair shares with all others but the first, it shares with the first.
__device__ __forceinline__ double share_of(double cosine, const double* totals, double temperature) {
    const double weight = weight_of(cosine, temperature), others = totals[1] > 1 ? totals[0] - weight : 0;
    return others > 0 && weight <= others ? weight / others : SURE;
}

// How many other samples have the identity of this one. Of a whole warp.
__device__ __forceinline__ int views_of(int index, const Sample& own, const Samples& samples) {
    int views = 0;
    for (int i = threadIdx.x % 32; i < samples.count(); i += 32) views += i != index && samples[i].identity == own.identity;
    return warp_sum(views);
}

// Call body(other, sign) for every sample that draws this one towards itself (-1) or pushes it away (1). It is pushed away
// by the first `most` other objects of the class, gone through once for every other view of it.
template <class Body>
__device__ __forceinline__ void over_partners(int index, const Sample& own, const Samples& samples, int most, Body body) {
    const int count = samples.count();
    int listed = 0;
    for (int view = 0; view < count; view++) {
        const Sample other_view = samples[view];
        if (view == index || other_view.identity != own.identity) continue;
        if (are_compared(own, other_view)) body(view, -1);
        for (int i = 0; i < count && listed < most; i++) {
            const Sample other = samples[i];
            if (other.identity == own.identity || other.kind != other_view.kind) continue;
            listed++;
            if (are_compared(own, other)) body(i, 1);
        }
    }
}

// grad, which is 0 before, where the samples lie; shares (blocks): sums of its squares. A warp for each sample.
extern "C" __global__ void __launch_bounds__(256)
contrastive_gradients(const element* embeddings, long long stride, float* grad, long long grad_stride, int size,
                      const int* numbers, const double* lengths, const double* totals, double temperature,
                      double normalizer, double most_delta, int most_others, float* shares) {
    const Samples samples = {numbers, embeddings, stride, size};
    const int index = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
    float squares = 0;
    if (index < samples.count()) {
        const Sample own = samples[index];
        const element* mine = samples.embedding(own);
        float* target = grad + own.row * grad_stride + (long long)own.slot * size;
        const double divisor = views_of(index, own, samples) * temperature * lengths[index];
        const double scale = divisor > 0 ? normalizer / divisor : 0;
        for (int first = 0; first < size; first += 32 * WIDE) {
            double sums[WIDE] = {}, along = 0;
            over_partners(index, own, samples, most_others, [&](int i, int sign) {
                const Sample other = samples[i];
                const element* z = samples.embedding(other);
                const double cosine = samples.cosine(own, other, lengths[index] * lengths[i]);
                const double share = share_of(cosine, totals + 2 * i, temperature);
                const double coefficient = sign < 0 ? share - 1 : share;
                along += coefficient * cosine;
#pragma unroll
                for (int k = 0; k < WIDE; k++) {
                    const int d = first + 32 * k + lane;
                    if (d < size) sums[k] += coefficient * to_float(z[d]);
                }
            });
#pragma unroll
            for (int k = 0; k < WIDE; k++) {
                const int d = first + 32 * k + lane;
                if (d >= size) continue;
                double delta = scale * (sums[k] - along * to_float(mine[d]));
                delta = delta > most_delta ? most_delta : delta < -most_delta ? -most_delta : delta;
                target[d] = (float)delta;
                squares += (float)(delta * delta);
            }
        }
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) shares[blockIdx.x] = squares;
}
