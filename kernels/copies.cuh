// Copies from global to shared memory that go past registers and on while a thread does something else (cp.async, sm_80 and
// newer). Older GPUs copy at once.
#pragma once

// 16 bytes from global to shared memory, on the way until wait_for_copies(); of which the first `filled` are read and the
// others are 0.
#if defined(HOSTCUDA) && __CUDA_ARCH__ >= 800

__device__ inline void copy_async(void* shared, const void* global, int filled = 16) {
    hostcuda::runtime->copy_async(shared, global, 16, filled);
}
__device__ inline void commit_copies() { hostcuda::runtime->commit_copies(); }
// Until at most PENDING of this thread's latest groups are on the way; other threads' copies need a barrier besides.
template <int PENDING> __device__ inline void wait_for_copies() { hostcuda::runtime->wait_copies(PENDING); }

#elif __CUDA_ARCH__ >= 800

__device__ __forceinline__ void copy_async(void* shared, const void* global, int filled = 16) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(filled) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#else

__device__ __forceinline__ void copy_async(void* shared, const void* global, int filled = 16) {
    uint4 values = {0, 0, 0, 0};
    if (filled == 16)
        values = *static_cast<const uint4*>(global);
    else
        for (int i = 0; i < filled; i++) reinterpret_cast<char*>(&values)[i] = static_cast<const char*>(global)[i];
    *static_cast<uint4*>(shared) = values;
}
__device__ __forceinline__ void commit_copies() {}
template <int PENDING> __device__ __forceinline__ void wait_for_copies() {}

#endif
