// Random numbers without a state: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3,
// SC 2011). 4 bytes and some 30 integer operations per number, half of them multiplications: memory bound. Not measured yet.

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
