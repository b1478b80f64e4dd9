// The output of a [Gaussian_yolo] head and the boxes in it. The channels of a cell are x, its uncertainty, the same of y, w
// and h, then what a [yolo] cell has after its box: `rest` of a cell begins REST channels later, so that OBJECTNESS and
// CLASS count from there.
#pragma once
#include "yolo.cuh"

constexpr int REST = 4;
constexpr int GAUSSIAN_BOX = 8;  // channels

enum Point { CENTER, LEFT_TOP, RIGHT_BOTTOM };  // YoloPoint

// Where x and y point: -1 at the left and top side of a box, 1 at its right and bottom side, 0 at the centre.
__device__ inline float corner_side(int point) { return point == LEFT_TOP ? -1.0f : point == RIGHT_BOTTOM ? 1.0f : 0.0f; }

__device__ inline FloatBox gaussian_box(const float* values, const double* anchor, int cell, int width, int height, int point) {
    const float means[] = {values[2 * X], values[2 * Y], values[2 * WIDE], values[2 * HIGH]};
    FloatBox box = predicted_box(means, anchor, cell, width, height, false);
    // Not by a factor of 0, which makes no number of an infinite width.
    if (point == LEFT_TOP) box.x += box.w / 2, box.y += box.h / 2;
    if (point == RIGHT_BOTTOM) box.x -= box.w / 2, box.y -= box.h / 2;
    return box;
}

// By how much the probabilities of a box count: 1 less the mean of its uncertainties.
__device__ inline float certainty_of(const float* values) {
    return 1 - (values[1] + values[3] + values[5] + values[7]) / 4;
}
