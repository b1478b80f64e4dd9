// The type of the numbers of pictures and of their gradients. Every kernel file is compiled once for each type: float, or
// with -DELEMENT_FLOAT16 or -DELEMENT_BFLOAT16 one of 16 bits (Kernels in darkpy/backends/cuda/compiler.py). Arithmetic is
// done in float, whatever the type; parameters, statistics and losses are float in memory too.
#pragma once

#if defined(ELEMENT_FLOAT16)
#include <cuda_fp16.h>
typedef __half element;
#elif defined(ELEMENT_BFLOAT16)
#include <cuda_bf16.h>
typedef __nv_bfloat16 element;
#else
typedef float element;
#endif

__device__ __forceinline__ float to_float(float x) { return x; }

// The nearest number of a type, of two as near the even one; beyond the largest it is infinite.
template <class T> __device__ __forceinline__ T rounded(float x);
template <> __device__ __forceinline__ float rounded<float>(float x) { return x; }

#if defined(ELEMENT_FLOAT16)
__device__ __forceinline__ float to_float(element x) { return __half2float(x); }
template <> __device__ __forceinline__ element rounded<element>(float x) { return __float2half_rn(x); }
#elif defined(ELEMENT_BFLOAT16)
__device__ __forceinline__ float to_float(element x) { return __bfloat162float(x); }
template <> __device__ __forceinline__ element rounded<element>(float x) { return __float2bfloat16_rn(x); }
#endif
