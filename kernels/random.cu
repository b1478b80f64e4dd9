// Random numbers without a state: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3,
// SC 2011). 4 bytes and some 30 integer operations per number, half of them multiplications: memory bound. Not measured yet.
//
// Squares at random: a few numbers and 8 bytes for each channel of a picture, then 4 bytes for each value of the mask.
#include "elementwise.cuh"
#include "reduce.cuh"

// Four numbers that depend on counter and key only.
__device__ __forceinline__ void philox(unsigned counter[4], unsigned key0, unsigned key1) {
    for (int round = 0; round < 10; round++) {
        const unsigned long long a = 0xD2511F53ull * counter[0], b = 0xCD9E8D57ull * counter[2];
        const unsigned next0 = (unsigned)(b >> 32) ^ counter[1] ^ key0, next2 = (unsigned)(a >> 32) ^ counter[3] ^ key1;
        counter[0] = next0, counter[1] = (unsigned)b, counter[2] = next2, counter[3] = (unsigned)a;
        key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
    }
}

// out (count): uniform in [0, 1), multiples of 2^-24. Number i depends on seed, clock, place and i. A thread for four.
extern "C" __global__ void __launch_bounds__(256)
uniform(float* out, long long count, unsigned long long seed, unsigned place, const unsigned long long* clock) {
    const long long step = (long long)gridDim.x * blockDim.x;
    const unsigned long long now = *clock;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; 4 * i < count; i += step) {
        unsigned numbers[4] = {(unsigned)i, place, (unsigned)now, (unsigned)(now >> 32)};
        philox(numbers, (unsigned)seed, (unsigned)(seed >> 32));
        for (int k = 0; k < 4 && 4 * i + k < count; k++) out[4 * i + k] = (numbers[k] >> 8) * 0x1p-24f;
    }
}

// --- Squares (DropBlock; Darknet, dropout_layer_kernels.cu): at most one in each channel of each picture.

// How far squares have grown towards their side and their probability.
__device__ __forceinline__ double growth_at(double progress, double grown) { return fmin(progress / grown, 1.0); }

__device__ __forceinline__ int side_at(double growth, double side, int height, int width) {
    const int least = min(height, width);
    return min(max(1, (int)(fmin(side, (double)least) * growth)), least);
}

// Where a square begins whose place was drawn among all positions; at the far end as Darknet moves it.
__device__ __forceinline__ int moved_inside(int at, int length, int side) {
    const int last = length - side;
    return min(at > last ? at - last : at, last);
}

// corners (pictures, channels): the position, row * width + column, at which a square begins, or -1. shares (pictures): how
// much of each the squares cover, at most `most`. A block for each picture.
extern "C" __global__ void __launch_bounds__(256)
choose_blocks(int* corners, float* shares, int channels, int height, int width, double side, double grown,
              const double* progress, double probability, double most, unsigned long long seed, unsigned place,
              const unsigned long long* clock) {
    const double growth = growth_at(*progress, grown);
    const int whole_side = side_at(growth, side, height, width);
    const double area = (double)whole_side * whole_side, positions = (double)height * width;
    const double starts = 1 - pow(1 - growth * probability / area, positions);
    const unsigned long long now = *clock;
    float squares = 0;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
        const long long number = blockIdx.x * (long long)channels + c;
        unsigned numbers[4] = {(unsigned)number, place, (unsigned)now, (unsigned)(now >> 32)};
        philox(numbers, (unsigned)seed, (unsigned)(seed >> 32));
        const bool has_one = numbers[0] * 0x1p-32 < starts;
        const int y = moved_inside((int)((unsigned long long)numbers[1] * height >> 32), height, whole_side);
        const int x = moved_inside((int)((unsigned long long)numbers[2] * width >> 32), width, whole_side);
        corners[number] = has_one ? y * width + x : -1;
        squares += has_one;
    }
    squares = block_sum(squares);
    if (threadIdx.x == 0) shares[blockIdx.x] = (float)fmin(squares * area / (channels * positions), most);
}

// out: rows of channels; 0 where a square covers a value, else 1.
extern "C" __global__ void __launch_bounds__(256)
cover_blocks(const int* corners, float* out, long long out_stride, long long rows, long long channels, int height, int width,
             double side, double grown, const double* progress) {
    const int whole_side = side_at(growth_at(*progress, grown), side, height, width);
    over_rows(rows, channels, 0, [&](long long row, long long c, auto) {
        const long long line = row / width;
        const int y = (int)(line % height), x = (int)(row - line * width);
        const int corner = corners[line / height * channels + c], down = y - corner / width, across = x - corner % width;
        const bool is_covered = corner >= 0 && down >= 0 && down < whole_side && across >= 0 && across < whole_side;
        out[row * out_stride + c] = is_covered ? 0 : 1;
    });
}
