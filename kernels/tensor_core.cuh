// Tensor cores (sm_80 and newer), behind functions whose version for the stand-in GPU of tests/hostcuda does the same
// arithmetic. A warp calls them together; g = lane / 4 and t = lane % 4 say who holds what.
//
// Turing (sm_75) multiplies half precision only, and makes an m16n8k16 of two m16n8k8, whose fragments are the two halves of
// the larger one's along K.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// The 8x8 matrices of 16-bit numbers that ldmatrix reads, and the fragments of mma.m16n8k16 (PTX ISA, "Matrix fragments"):
//   a[0]: (row g, columns 2t, 2t+1)  a[1]: (g+8, 2t..)  a[2]: (g, 2t+8..)  a[3]: (g+8, 2t+8..)
//   b[0]: (rows 2t, 2t+1, column g)  b[1]: (rows 2t+8.., g)
//   c[0], c[1]: (row g, columns 2t, 2t+1)  c[2], c[3]: (row g+8, columns 2t, 2t+1)
// and of mma.m16n8k8 for TF32: a[0]: (g, t)  a[1]: (g+8, t)  a[2]: (g, t+4)  a[3]: (g+8, t+4); b[0]: (t, g)  b[1]: (t+4, g).

#ifdef HOSTCUDA

namespace hostcuda {
struct Fragments {
    unsigned a[4], b[2];
};
// c += a b: `value_a(lanes, row, k)` and `value_b(lanes, k, column)` find the numbers in the warp's fragments.
template <class A, class B>
inline void multiply_fragments(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], int depth, A value_a, B value_b) {
    Exchange<Fragments> lanes(0xffffffffu, Fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
    const int g = current->lane / 4, t = current->lane % 4;
    for (int i = 0; i < 4; i++) {
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        for (int k = 0; k < depth; k++) c[i] += value_a(lanes, row, k) * value_b(lanes, k, column);
    }
}
template <class T> float half_of(unsigned pair, int which) {
    return (float)hostcuda_bits<T>((uint16_t)(pair >> 16 * which));
}
template <class T> void multiply_pairs(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    multiply_fragments(
        c, a, b, 16,
        [](const Exchange<Fragments>& lanes, int row, int k) {
            return half_of<T>(lanes[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2], k % 2);
        },
        [](const Exchange<Fragments>& lanes, int k, int column) {
            return half_of<T>(lanes[column * 4 + k % 8 / 2].b[k / 8], k % 2);
        });
}
}  // namespace hostcuda

__device__ inline void mma_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    hostcuda::multiply_pairs<__half>(c, a, b);
}
#if __CUDA_ARCH__ >= 800
__device__ inline void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    hostcuda::multiply_pairs<__nv_bfloat16>(c, a, b);
}
__device__ inline void mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    using hostcuda::Exchange;
    using hostcuda::Fragments;
    // The tensor core sees 10 bits of the fraction.
    auto number = [](unsigned bits) { return __uint_as_float(bits & 0xffffe000u); };
    hostcuda::multiply_fragments(
        c, a, b, 8,
        [=](const Exchange<Fragments>& lanes, int row, int k) {
            return number(lanes[row % 8 * 4 + k % 4].a[row / 8 + k / 4 * 2]);
        },
        [=](const Exchange<Fragments>& lanes, int k, int column) { return number(lanes[column * 4 + k % 4].b[k / 4]); });
}
#endif
__device__ inline unsigned to_tf32(float x) {
    // Round to the nearest, ties away from zero.
    return (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
}

// Four 8x8 matrices: lane i gives the address of row i % 8 of matrix i / 8.
__device__ inline void load_matrices(unsigned (&out)[4], const void* row, bool transposed = false) {
    hostcuda::Exchange<const void*> rows(0xffffffffu, row);
    const int g = hostcuda::current->lane / 4, t = hostcuda::current->lane % 4;
    for (int matrix = 0; matrix < 4; matrix++) {
        uint16_t pair[2];
        for (int i = 0; i < 2; i++) {
            const int y = transposed ? 2 * t + i : g, x = transposed ? g : 2 * t + i;
            const uint16_t* source = (const uint16_t*)rows[matrix * 8 + y];
            if ((uintptr_t)source % 16) hostcuda::runtime->fail("a row for ldmatrix that is not aligned to 16 bytes");
            pair[i] = source[x];
        }
        out[matrix] = pair[0] | (unsigned)pair[1] << 16;
    }
}

#elif __CUDA_ARCH__ >= 750

#if __CUDA_ARCH__ >= 800
__device__ __forceinline__ void mma_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_bf16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ unsigned to_tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}
#else
__device__ __forceinline__ void mma_f16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
}
#endif
__device__ __forceinline__ void load_matrices(unsigned (&out)[4], const void* row, bool transposed = false) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(row);
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                     : "r"(address)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                     : "r"(address)
                     : "memory");
}

#endif
