// The output of a [region] head and the boxes in it. It holds the values cell by cell in the order of its axes, as Darknet's
// does; in memory, which has the channels last, the values of a cell are therefore some way apart.
#pragma once
#include "yolo.cuh"

constexpr float HALF = 0.5f;  // what a class with all its parents must be more probable than

// The channels of a cell as the output has them: number i of a picture's values in the order of the axes (c, h, w) is channel
// i / (h * w) of position i % (h * w).
template <class Number> struct CellValues {
    Number* picture;
    long long stride;
    int positions, first;
    __device__ Number& operator[](int channel) const {
        const int i = first + channel;
        return picture[i % positions * stride + i / positions];
    }
};
using Cell = CellValues<const float>;

// index: of a cell among those of its picture, position by position, slot by slot.
template <class Number>
__device__ __forceinline__ CellValues<Number> values_of(Number* output, long long stride, int positions, int channels,
                                                        int picture, int index) {
    return {output + (long long)picture * positions * stride, stride, positions, index * channels};
}

// anchors: widths and heights in cells. index: of the cell in its picture.
__device__ inline FloatBox region_box(const Cell& values, const double* anchors, int index, int slots, int width,
                                      int height) {
    const double* anchor = anchors + 2 * (index % slots);
    const int position = index / slots;
    return {(logistic(values[X]) + position % width) / width, (logistic(values[Y]) + position / width) / height,
            expf(values[WIDE]) * (float)anchor[0] / width, expf(values[HIGH]) * (float)anchor[1] / height};
}
