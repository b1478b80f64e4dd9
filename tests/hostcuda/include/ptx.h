// What the instructions of PTX do, for kernels that ptx.py has made C++ of. Included after hostcuda.h.
//
// Names and meanings are those of the PTX ISA. Registers hold bits, an instruction's type says what they mean. Addresses of
// global and generic memory are the host's; those of shared memory are numbers of 32 bits, as on a GPU.
#pragma once

#include <cmath>
#include <limits>

#include "races.h"
#include "tensor_core.cuh"  // beside the kernels: what mma and ldmatrix do on the stand-in

typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef _Float16 f16;
typedef __nv_bfloat16 bf16;
typedef float f32;
typedef double f64;

namespace ptx {

using hostcuda::runtime;
using races::Access;
using races::ATOMIC;
using races::DYNAMIC;
using races::READ;
using races::WRITE;

template <size_t bytes> struct Bits;
template <> struct Bits<1> { typedef u8 type; };
template <> struct Bits<2> { typedef u16 type; };
template <> struct Bits<4> { typedef u32 type; };
template <> struct Bits<8> { typedef u64 type; };
template <class T> using bits = typename Bits<sizeof(T)>::type;

// What a register holds, as another type; of one that is wider the lower bits.
template <class T, class R> T as(R held) {
    if constexpr (std::is_same_v<T, R>) return held;
    else return hostcuda_bits<T>((bits<T>)hostcuda_bits<bits<R>>(held));
}
// A register takes the bits of what is no number of its kind.
template <class R, class T> void set(R& held, T value) { held = as<R>(value); }

// --- memory

unsigned char* host_address(u64 address, size_t bytes);  // of shared memory: the module has its variables

template <class T, int count> T* aligned(T* address) {
    if ((u64)address % (sizeof(T) * count)) runtime->fail("a vector that is not aligned");
    return address;
}
template <class T, int count = 1> T* generic(u64 address, Access) { return aligned<T, count>((T*)address); }
template <class T, int count = 1> T* global(u64 address, Access) { return aligned<T, count>((T*)address); }
template <class T, int count = 1> T* shared(u64 address, Access access) {
    aligned<T, count>((T*)address);
    T* found = (T*)host_address(address, sizeof(T) * count);
    races::touch(address, sizeof(T) * count, access);
    return found;
}
inline u64 from_shared(u64 address) { return (u64)host_address(address, 0); }
template <class T, int count = 1> T* param(const unsigned char* address, Access) { return (T*)address; }

template <class T, class Change> T atomic(T* address, Change change) {
    T old = *address;
    *address = change(old);
    return old;
}
template <int bytes> void copy_async(u32 target, u64 source, u32 filled = bytes) {
    if (filled > bytes) runtime->fail("an asynchronous copy of more than it fills");
    if (target % bytes) runtime->fail("an asynchronous copy that is not aligned");
    runtime->copy_async(host_address(target, bytes), (const void*)source, bytes, filled);
    races::begin_copy(target, bytes);
}
inline void commit_copies() {
    runtime->commit_copies();
    races::commit_copies();
}
inline void wait_copies(int pending) {
    runtime->wait_copies(pending);
    races::wait_copies(pending);
}

// --- barriers

inline int barrier(int predicate) {
    const int count = runtime->barrier(predicate);
    races::past_barrier();
    return count;
}
inline bool barrier_and(int predicate) {
    return barrier(predicate) == (int)(blockDim.x * blockDim.y * blockDim.z);
}
inline void warp_barrier(u32 mask) {
    __syncwarp(mask);
    races::past_warp_barrier(mask);
}

// --- numbers

template <class T> T shift_left(T a, u32 by) { return by < 8 * sizeof a ? a << by : 0; }
template <class T> T shift_right(T a, u32 by) {
    if (by < 8 * sizeof a) return a >> by;
    return std::is_signed_v<T> && a < 0 ? -1 : 0;
}
// `into` with the lowest `length` bits of a from bit `first` on.
template <class T> T insert_bits(T a, T into, u32 first, u32 length) {
    const T mask = shift_left<T>(shift_left<T>(1, length) - 1, first);
    return into & ~mask | shift_left(a, first) & mask;
}
inline u32 reversed_bits(u32 a) {
    u32 result = 0;
    for (int i = 0; i < 32; i++) result |= (a >> i & 1) << (31 - i);
    return result;
}
// Bytes of {b, a} by the digits of a selector.
inline u32 permuted_bytes(u32 a, u32 b, u32 selector) {
    const u64 from = (u64)b << 32 | a;
    u32 result = 0;
    for (int i = 0; i < 4; i++) {
        const u32 digit = selector >> 4 * i, byte = from >> 8 * (digit & 7) & 0xff;
        result |= (digit & 8 ? (byte & 0x80 ? 0xff : 0) : byte) << 8 * i;
    }
    return result;
}
template <class T> T saturated(T x) { return std::fmin(std::fmax(x, (T)0), (T)1); }

// As far from the exact result as an approximation may be; a number that is exact stays so.
template <int units> float approximate(double exact) {
    const float nearest = (float)exact;
    if (nearest == exact || !std::isnormal(nearest)) return nearest;
    const bool is_larger = std::fabs(nearest) > std::fabs(exact);
    return hostcuda_bits<float>(hostcuda_bits<u32>(nearest) + (is_larger ? -units : units));
}
// The lower half of the bits is 0, as a division's first guess has it.
inline double upper_half(double x) { return hostcuda_bits<double>(hostcuda_bits<u64>(x) & ~0xffffffffull); }
template <class T> T flushed(T x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign((T)0, x) : x; }

// a b + c, rounded towards minus infinity: a b is exact in double, and so is the error of the sum with c.
inline float fma_down(float a, float b, float c) {
    const double product = (double)a * b, addend = c, sum = product + addend;
    const double part = sum - product, error = (product - (sum - part)) + (addend - part);
    const float nearest = (float)sum;
    const bool is_above = nearest > sum || (nearest == sum && error < 0);
    return is_above ? std::nextafter(nearest, -INFINITY) : nearest;
}

enum class Round { NEAREST, ZERO, DOWN, UP };
template <class T> T to_whole(T x, Round way) {
    switch (way) {
        case Round::NEAREST: return std::nearbyint(x);
        case Round::ZERO: return std::trunc(x);
        case Round::DOWN: return std::floor(x);
        default: return std::ceil(x);
    }
}
template <class T, class S> T to_integer(S x, Round way) {
    if (x != x) return 0;
    x = to_whole(x, way);
    if (x >= (S)std::numeric_limits<T>::max()) return std::numeric_limits<T>::max();
    if (x <= (S)std::numeric_limits<T>::min()) return std::numeric_limits<T>::min();
    return (T)x;
}

// --- warps

enum class Shuffle { UP, DOWN, BUTTERFLY, INDEX };
inline u32 shuffle(Shuffle way, u32 value, u32 b, u32 c, u32 mask, bool& is_in_range) {
    const u32 lane = hostcuda::current->lane, segments = c >> 8 & 31;
    const u32 first = lane & segments, bound = first | (c & 31 & ~segments);
    b &= 31;
    const s32 source = way == Shuffle::UP     ? (s32)lane - (s32)b
                       : way == Shuffle::DOWN ? (s32)(lane + b)
                       : way == Shuffle::INDEX ? (s32)(first | (b & ~segments))
                                               : (s32)(lane ^ b);
    is_in_range = way == Shuffle::UP ? source >= (s32)bound : source <= (s32)bound;
    return hostcuda::Exchange<u32>(mask, value)[is_in_range ? source : (s32)lane];
}
}  // namespace ptx
