// Visiting the elements of arrays that are rows some way apart: all positions of pictures whose channels lie last, or
// the rows of a matrix. Elements are read one at a time, or four where everything allows it.
//
// A kernel takes for each array its pointer and the distance between rows, then rows, columns and by_four, as
// LaunchOperations.over() in darkpy/backends/cuda/launching.py gives them. Threads x go along a row, threads y down.
#pragma once

#include "element.cuh"

// How many neighbouring elements a thread takes at once.
template <int N> struct Width {
    static constexpr int value = N;
};

// As many numbers as a thread works on.
template <int N> struct Values {
    float v[N];
    __device__ float& operator[](int i) { return v[i]; }
    __device__ const float& operator[](int i) const { return v[i]; }
};

// The same as they lie in memory.
template <class T, int N> struct alignas(N * sizeof(T)) Packed {
    T v[N];
};

template <class T, int N> __device__ __forceinline__ Values<N> load(const T* from, Width<N>) {
    const Packed<T, N> packed = *reinterpret_cast<const Packed<T, N>*>(from);
    Values<N> values;
#pragma unroll
    for (int i = 0; i < N; i++) values[i] = to_float(packed.v[i]);
    return values;
}

template <class T, int N> __device__ __forceinline__ void store(T* to, const Values<N>& values, bool accumulate = false) {
    Values<N> result = values;
    if (accumulate) {
        const Values<N> before = load(to, Width<N>());
#pragma unroll
        for (int i = 0; i < N; i++) result[i] += before[i];
    }
    Packed<T, N> packed;
#pragma unroll
    for (int i = 0; i < N; i++) packed.v[i] = rounded<T>(result[i]);
    *reinterpret_cast<Packed<T, N>*>(to) = packed;
}

// The same for one number.
template <class T> __device__ __forceinline__ void put(T* to, float value, bool accumulate = false) {
    *to = rounded<T>(accumulate ? to_float(*to) + value : value);
}

// Call body(row, column, width) for every group of neighbouring elements; all threads of the grid share them.
template <class Body>
__device__ __forceinline__ void over_rows(long long rows, long long columns, int by_four, Body body) {
    const long long y = blockIdx.y * (long long)blockDim.y + threadIdx.y, x = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    const long long down = (long long)gridDim.y * blockDim.y, across = (long long)gridDim.x * blockDim.x;
    for (long long row = y; row < rows; row += down) {
        if (by_four)
            for (long long column = 4 * x; column < columns; column += 4 * across) body(row, column, Width<4>());
        else
            for (long long column = x; column < columns; column += across) body(row, column, Width<1>());
    }
}

// Call body(i) for every i below count; all threads of a one-dimensional grid share them.
template <class Body> __device__ __forceinline__ void over_all(long long count, Body body) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < count; i += step) body(i);
}
