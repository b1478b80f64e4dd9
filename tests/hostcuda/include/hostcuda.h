// CUDA's language as C++: what nvcc gives a kernel without being asked. Included before every kernel file.
//
// The stand-in compiler calls g++ with this header; see runtime.h for what stands behind it.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <tuple>
#include <type_traits>

#include "../runtime.h"

#define HOSTCUDA 1
#define __CUDA_ARCH__ HOSTCUDA_ARCH
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __constant__ static
#define __grid_constant__
// __global__, __shared__ and __launch_bounds__ are the compiler's to replace: see nvcc.

namespace hostcuda {
// A module is one file: these are its own.
static const Runtime* runtime;
static Thread* current;
static Block block;
static thread_local char variable;
static void* thread_local_variable() { return &variable; }
}  // namespace hostcuda

#define threadIdx (hostcuda::current->thread)
#define blockIdx (hostcuda::block.block)
#define blockDim (hostcuda::block.block_size)
#define gridDim (hostcuda::block.grid_size)
constexpr int warpSize = hostcuda::WARP;

// --- vectors

#define HOSTCUDA_VECTORS(T, name, bytes)                                                      \
    struct alignas(sizeof(T)) name##1 { T x; };                                               \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                        \
    struct name##3 { T x, y, z; };                                                            \
    struct alignas(bytes) name##4 { T x, y, z, w; };                                          \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                        \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
HOSTCUDA_VECTORS(float, float, 16)
HOSTCUDA_VECTORS(int, int, 16)
HOSTCUDA_VECTORS(unsigned, uint, 16)
HOSTCUDA_VECTORS(unsigned char, uchar, 4)
HOSTCUDA_VECTORS(char, char, 4)
HOSTCUDA_VECTORS(short, short, 8)
HOSTCUDA_VECTORS(unsigned short, ushort, 8)
#undef HOSTCUDA_VECTORS
struct alignas(16) double2 { double x, y; };
typedef unsigned int uint;

// --- numbers

using std::max;
using std::min;
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0), 1); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
// Never made one with what stands around them: the compiler does not see what a register held goes on to be.
inline float hostcuda_apart(float x) {
    asm("" : "+x"(x));
    return x;
}
inline float __fadd_rn(float a, float b) { return hostcuda_apart(a) + hostcuda_apart(b); }
inline float __fmul_rn(float a, float b) { return hostcuda_apart(a * b); }
template <class To, class From> To hostcuda_bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    memcpy(&result, &value, sizeof result);
    return result;
}
inline int __float_as_int(float x) { return hostcuda_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return hostcuda_bits<unsigned>(x); }
inline float __int_as_float(int x) { return hostcuda_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return hostcuda_bits<float>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline int __mul24(int a, int b) { return a * b; }
#define __FLT_INFINITY__ __builtin_inff()
#ifndef CUDART_INF_F
#define CUDART_INF_F __builtin_inff()
#endif

// --- memory

template <class T> T __ldg(const T* address) { return *address; }
template <class T> T __ldcs(const T* address) { return *address; }
template <class T> T __ldcg(const T* address) { return *address; }
template <class T> void __stcs(T* address, T value) { *address = value; }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline size_t __cvta_generic_to_shared(const void* address) { return (size_t)address; }

// Blocks run one after the other and a block's threads take turns: plain arithmetic is atomic.
#define HOSTCUDA_ATOMIC(name, expression)                         \
    template <class T> T name(T* address, std::type_identity_t<T> value) { \
        T old = *address;                                         \
        *address = expression;                                    \
        return old;                                               \
    }
HOSTCUDA_ATOMIC(atomicAdd, old + value)
HOSTCUDA_ATOMIC(atomicSub, old - value)
HOSTCUDA_ATOMIC(atomicMax, old > value ? old : value)
HOSTCUDA_ATOMIC(atomicMin, old < value ? old : value)
HOSTCUDA_ATOMIC(atomicExch, value)
HOSTCUDA_ATOMIC(atomicOr, old | value)
HOSTCUDA_ATOMIC(atomicAnd, old& value)
HOSTCUDA_ATOMIC(atomicXor, old ^ value)
#undef HOSTCUDA_ATOMIC
template <class T> T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
    T old = *address;
    if (old == compare) *address = value;
    return old;
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
    unsigned old = *address;
    *address = old >= limit ? 0 : old + 1;
    return old;
}

inline void __trap() { hostcuda::runtime->fail("a trap"); }

// --- waiting for each other

inline void __syncthreads() { hostcuda::runtime->barrier(0); }
inline int __syncthreads_count(int predicate) { return hostcuda::runtime->barrier(predicate); }
inline int __syncthreads_or(int predicate) { return hostcuda::runtime->barrier(predicate) > 0; }
inline int __syncthreads_and(int predicate) {
    return hostcuda::runtime->barrier(predicate) == (int)(blockDim.x * blockDim.y * blockDim.z);
}

namespace hostcuda {
// The values that the lanes of a warp bring to a common operation.
template <class T> class Exchange {
  public:
    Exchange(unsigned mask, T value) : mask_(mask) {
        static_assert(sizeof(T) <= EXCHANGED);
        values_ = runtime->exchange(mask, &value, sizeof value);
    }
    bool takes_part(int lane) const { return mask_ >> lane & 1; }
    T operator[](int lane) const {
        if (!takes_part(lane)) runtime->fail("a warp operation reads a lane that does not take part");
        T value;
        memcpy(&value, values_ + lane * EXCHANGED, sizeof value);
        return value;
    }

  private:
    unsigned mask_;
    const unsigned char* values_;
};

template <class T, class Combine> T reduce(unsigned mask, T value, Combine combine) {
    Exchange<T> values(mask, value);
    bool is_first = true;
    T result = value;
    for (int lane = 0; lane < WARP; lane++) {
        if (!values.takes_part(lane)) continue;
        result = is_first ? values[lane] : combine(result, values[lane]);
        is_first = false;
    }
    return result;
}
}  // namespace hostcuda

inline void __syncwarp(unsigned mask = 0xffffffff) { hostcuda::Exchange<int>(mask, 0); }
template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    int lane = hostcuda::current->lane, first = lane / width * width;
    return hostcuda::Exchange<T>(mask, value)[first + source % width];
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int lane = hostcuda::current->lane, source = lane - (int)delta;
    return hostcuda::Exchange<T>(mask, value)[source < lane / width * width ? lane : source];
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int lane = hostcuda::current->lane, source = lane + (int)delta;
    return hostcuda::Exchange<T>(mask, value)[source >= (lane / width + 1) * width ? lane : source];
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
    int lane = hostcuda::current->lane, source = lane ^ lane_mask;
    return hostcuda::Exchange<T>(mask, value)[source >= (lane / width + 1) * width ? lane : source];
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    unsigned mine = predicate ? 1u << hostcuda::current->lane : 0;
    return hostcuda::reduce(mask, mine, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }
inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
    return hostcuda::reduce(mask, value, [](unsigned a, unsigned b) { return a + b; });
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
    return hostcuda::reduce(mask, value, [](unsigned a, unsigned b) { return a > b ? a : b; });
}

// --- how the driver starts a kernel

namespace hostcuda {
template <auto function> struct Entry;
template <class... Arguments, void (*function)(Arguments...)> struct Entry<function> {
    template <class T> static T take(const unsigned char* arguments, size_t& offset) {
        offset = (offset + alignof(T) - 1) / alignof(T) * alignof(T);
        T value;
        memcpy(&value, arguments + offset, sizeof value);
        offset += sizeof value;
        return value;
    }
    static void run(const unsigned char* arguments) {
        size_t offset = 0;
        // Braces: the arguments are taken from left to right.
        std::tuple<Arguments...> taken{take<Arguments>(arguments, offset)...};
        std::apply(function, taken);
    }
    static constexpr size_t bytes() {
        size_t offset = 0;
        ((offset = (offset + alignof(Arguments) - 1) / alignof(Arguments) * alignof(Arguments) + sizeof(Arguments)), ...);
        return offset;
    }
};
}  // namespace hostcuda
