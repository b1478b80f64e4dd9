// Mean and variance of numbers that are seen in parts.
#pragma once

// Added to a variance before its root is taken (Darknet, batchnorm_layer.c).
constexpr float BATCHNORM_EPSILON = 1e-5f;

// How many, their mean, and the sum of their squared distances to it.
template <class T> struct Moments {
    T count, mean, squares;
};

// Of two parts together (Chan, Golub and LeVeque 1979).
template <class T> __device__ __forceinline__ Moments<T> join(const Moments<T>& a, const Moments<T>& b) {
    if (b.count == 0) return a;
    const T count = a.count + b.count, share = b.count / count, distance = b.mean - a.mean;
    return {count, a.mean + distance * share, a.squares + b.squares + distance * distance * a.count * share};
}
