// What the cells of each kind of head have found: a box, and classes that are probable. A cell is a slot of a position, or
// one of the boxes of a [detection] head's cell.
#pragma once
#include "detection.cuh"
#include "gaussian_yolo.cuh"
#include "reduce.cuh"
#include "region.cuh"

enum Kind { YOLO, GAUSSIAN_YOLO, REGION, REGION_TREE, DETECTION };

// A head's output. stride: between positions, for [detection] between pictures. option: new_coords; the Point; for
// [region] 1 where an objectness below one half counts as 0, and 2 where no class is above 1; whether w and h are roots.
// parents: of the classes of a tree.
struct HeadOutput {
    int kind;
    const float* output;
    long long stride;
    int cells, slots, classes, width, height, option;
    const double* anchors;
    const int* parents;

    // Of a cell of a head whose cells lie in rows of channels.
    __device__ const float* values(int picture, int cell, int channels) const {
        return output + ((long long)picture * (width * height) + cell / slots) * stride + cell % slots * channels;
    }
    __device__ const double* anchor(int cell) const { return anchors + 2 * (cell % slots); }
};

// Every kind below has
//   is_confident(thresh)       whether there may be classes at all
//   box()                      relative to the network's input
//   for_classes(thresh, body)  calls body(class, probability) for the classes that are probable enough, shared out among the
//                              lanes of a warp, which all come

template <class Probability, class Body>
__device__ __forceinline__ void for_probable(int classes, float thresh, Probability probability_of, Body body) {
    for (int c = threadIdx.x % 32; c < classes; c += 32) {
        const float probability = probability_of(c);
        if (probability > thresh && probability > 0) body(c, probability);
    }
}

struct YoloCell {
    const HeadOutput& head;
    int cell;
    const float* values;

    __device__ YoloCell(const HeadOutput& head, int picture, int cell)
        : head(head), cell(cell), values(head.values(picture, cell, CLASS + head.classes)) {}
    __device__ bool is_confident(float thresh) const { return values[OBJECTNESS] > thresh; }
    __device__ FloatBox box() const {
        return predicted_box(values, head.anchor(cell), cell / head.slots, head.width, head.height, head.option);
    }
    template <class Body> __device__ void for_classes(float thresh, Body body) const {
        const float objectness = values[OBJECTNESS];
        for_probable(head.classes, thresh, [&](int c) { return objectness * values[CLASS + c]; }, body);
    }
};

struct GaussianCell {
    const HeadOutput& head;
    int cell;
    const float* values;

    __device__ GaussianCell(const HeadOutput& head, int picture, int cell)
        : head(head), cell(cell), values(head.values(picture, cell, REST + CLASS + head.classes)) {}
    __device__ bool is_confident(float thresh) const { return values[REST + OBJECTNESS] > thresh; }
    __device__ FloatBox box() const {
        return gaussian_box(values, head.anchor(cell), cell / head.slots, head.width, head.height, head.option);
    }
    template <class Body> __device__ void for_classes(float thresh, Body body) const {
        const float sureness = values[REST + OBJECTNESS] * certainty_of(values);
        for_probable(head.classes, thresh, [&](int c) { return sureness * values[REST + CLASS + c]; }, body);
    }
};

struct RegionCell {
    const HeadOutput& head;
    int cell;
    Cell values;

    __device__ RegionCell(const HeadOutput& head, int picture, int cell)
        : head(head), cell(cell),
          values(values_of(head.output, head.stride, head.width * head.height, CLASS + head.classes, picture, cell)) {}
    __device__ bool is_confident(float thresh) const { return !(head.option & 2) || objectness() > thresh; }
    __device__ FloatBox box() const {
        return region_box(values, head.anchors, cell, head.slots, head.width, head.height);
    }
    __device__ float objectness() const {
        return (head.option & 1) && values[OBJECTNESS] < HALF ? 0 : values[OBJECTNESS];
    }
    template <class Body> __device__ void for_classes(float thresh, Body body) const {
        const float sureness = objectness();
        for_probable(head.classes, thresh, [&](int c) { return sureness * values[CLASS + c]; }, body);
    }
};

// Of a tree one class at most is told: the last one that is, with all its parents, more probable than not.
struct TreeCell : RegionCell {
    using RegionCell::RegionCell;
    __device__ bool is_confident(float thresh) const { return objectness() > thresh; }
    template <class Body> __device__ void for_classes(float, Body body) const {
        int last = -1;
        float probability = 0;
        for (int c = threadIdx.x % 32; c < head.classes; c += 32) {
            float whole = values[CLASS + c];
            for (int above = head.parents[c]; above >= 0; above = head.parents[above]) whole *= values[CLASS + above];
            if (whole > HALF) last = c, probability = whole;
        }
        const int lowest = (int)warp_max(last);
        if (last >= 0 && last == lowest) body(last, probability);
    }
};

struct DetectionCell {
    const HeadOutput& head;
    int cell;
    Grid grid;
    const float* values;

    __device__ DetectionCell(const HeadOutput& head, int picture, int cell)
        : head(head), cell(cell), grid{head.width, head.slots, head.classes}, values(head.output + picture * head.stride) {}
    __device__ bool is_confident(float) const { return true; }
    __device__ FloatBox box() const { return grid.box(values, cell, head.option); }
    template <class Body> __device__ void for_classes(float thresh, Body body) const {
        const float objectness = values[grid.of_objectness(0) + cell], *classes = values + grid.of_classes(cell / head.slots);
        for_probable(head.classes, thresh, [&](int c) { return objectness * classes[c]; }, body);
    }
};

// Call body(cell_at), where cell_at(cell) gives one of the above for a picture.
template <class Body> __device__ __forceinline__ void with_cells(const HeadOutput& head, int picture, Body body) {
    switch (head.kind) {
        case YOLO: return body([&](int cell) { return YoloCell(head, picture, cell); });
        case GAUSSIAN_YOLO: return body([&](int cell) { return GaussianCell(head, picture, cell); });
        case REGION: return body([&](int cell) { return RegionCell(head, picture, cell); });
        case REGION_TREE: return body([&](int cell) { return TreeCell(head, picture, cell); });
        default: return body([&](int cell) { return DetectionCell(head, picture, cell); });
    }
}
