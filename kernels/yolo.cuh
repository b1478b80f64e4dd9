// The output of a [yolo] head and the boxes in it.
#pragma once
#include "boxes.cuh"

enum Channel { X, Y, WIDE, HIGH, OBJECTNESS, CLASS };

__device__ __forceinline__ float logistic(float x) { return 1 / (1 + expf(-x)); }

// anchor: its width and height relative to the network's input.
__device__ inline FloatBox predicted_box(const float* values, const double* anchor, int cell, int width, int height,
                                         int new_coords) {
    const float w = values[WIDE], h = values[HIGH];
    const float x = (values[X] + cell % width) / width, y = (values[Y] + cell / width) / height;
    if (new_coords) return {x, y, w * w * (float)(4 * anchor[0]), h * h * (float)(4 * anchor[1])};
    return {x, y, expf(w) * (float)anchor[0], expf(h) * (float)anchor[1]};
}
