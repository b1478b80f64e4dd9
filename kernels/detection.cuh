// The output of a [detection] head and the boxes in it.
#pragma once
#include "boxes.cuh"

// Where the values of a cell lie among those of its picture.
struct Grid {
    int side, num, classes;
    __device__ int cells() const { return side * side; }
    __device__ int values() const { return cells() * (classes + 5 * num); }
    __device__ int of_classes(int cell) const { return cell * classes; }
    __device__ int of_objectness(int cell) const { return cells() * classes + cell * num; }
    __device__ int of_boxes(int cell) const { return cells() * (classes + num) + 4 * cell * num; }
    // A box by its number among those of all cells, from the values of its picture. are_roots: w and h are square roots.
    __device__ FloatBox box(const float* values, int index, int are_roots) const {
        const float* box = values + of_boxes(0) + 4 * index;
        const int cell = index / num;
        const float w = are_roots ? box[2] * box[2] : box[2], h = are_roots ? box[3] * box[3] : box[3];
        return {(box[0] + cell % side) / side, (box[1] + cell / side) / side, w, h};
    }
};
