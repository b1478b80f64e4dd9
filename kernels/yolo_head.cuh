// What [yolo] and [Gaussian_yolo] have in common. Both have an objectness and classes, in the same order, after the box:
// `rest` and `rest_grad` point to a cell's channels so that OBJECTNESS and CLASS are theirs.
#pragma once
#include "elementwise.cuh"
#include "heads.cuh"
#include "yolo.cuh"

constexpr float CLASS_MATCH = 0.25f;  // below it no class is named

// Everything a head depends on, from the two arrays that YoloOperations._head() makes.
struct Head {
    int classes, slots, anchors, width, height, measure, shape_measure, new_coords, smooth, focal;
    const int* mask;
    double ignore_thresh, truth_thresh, shape_thresh, box_factor, objectness_factor, most, smoothing;
    const double *sizes, *multipliers, *factors;

    __device__ Head(const int* numbers, const double* constants) {
        classes = numbers[0], slots = numbers[1], anchors = numbers[2], width = numbers[3], height = numbers[4];
        measure = numbers[5], shape_measure = numbers[6];
        new_coords = numbers[7], smooth = numbers[8], focal = numbers[9], mask = numbers + 10;
        ignore_thresh = constants[0], truth_thresh = constants[1], shape_thresh = constants[2];
        box_factor = constants[3], objectness_factor = constants[4], most = constants[5], smoothing = constants[6];
        sizes = constants + 7, multipliers = sizes + 2 * anchors, factors = multipliers + classes;
    }
    __device__ int channels() const { return CLASS + classes; }
    __device__ int cells() const { return width * height; }
    __device__ const double* size(int slot) const { return sizes + 2 * mask[slot]; }
    __device__ FloatBox box(const float* values, int slot, int cell) const {
        return predicted_box(values, size(slot), cell, width, height, new_coords);
    }
    // The objectness of a cell, whose channels these are.
    __device__ float objectness(const float* values) const { return values[OBJECTNESS]; }
};

// --- Going through cells and objects; Kind is Head, or what a kind of head makes of it.

// Call teach(values, gradient, box, fit, slot, cell) for every cell of picture blockIdx.y, with the object that its box fits
// best; a thread for each. The picture's objects begin at starts[picture]. shares: each block's sum of objectness.
template <class Kind, class Teach>
__device__ __forceinline__ void for_cells(const Kind& head, const float* output, long long output_stride, float* grad,
                                          long long grad_stride, const float* objects, const int* starts, float* shares,
                                          Teach teach) {
    const int picture = blockIdx.y, index = blockIdx.x * blockDim.x + threadIdx.x;
    const bool is_here = index < head.cells() * head.slots;
    const int cell = is_here ? index / head.slots : 0, slot = is_here ? index % head.slots : 0;
    const long long position = (long long)picture * head.cells() + cell;
    const float* values = output + position * output_stride + slot * head.channels();
    const FloatBox box = head.box(values, slot, cell);
    const Fit best = best_object(box, objects, starts[picture], starts[picture + 1]);
    if (is_here) teach(values, grad + position * grad_stride + slot * head.channels(), box, best, slot, cell);
    const float sum = block_sum(is_here ? head.objectness(values) : 0);
    if (threadIdx.x == 0) shares[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

// Call teach(values, gradient, box, object, slot, cell) for every object and slot that has a target; a thread for each. Objects
// that share one teach it in their order: the thread of the first does it for all. It returns the probability of the object's
// class. shares (blocks, 7): sums of what TOTALS in yolo_cells.py names.
template <class Kind, class Teach>
__device__ __forceinline__ void for_targets(const Kind& head, const float* output, long long output_stride, float* grad,
                                            long long grad_stride, const float* objects, const int* starts,
                                            const int* owners, int pictures, const int* targets, float* shares,
                                            Teach teach) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x, slot = index % head.slots;
    const int first = index / head.slots, cell = first < starts[pictures] ? targets[index] : -1;
    Totals totals;
    if (cell >= 0) {
        const int picture = owners[first];
        const long long position = (long long)picture * head.cells() + cell;
        const float* values = output + position * output_stride + slot * head.channels();
        float* gradient = grad + position * grad_stride + slot * head.channels();
        const Box box = head.box(values, slot, cell).precise();
        for_sharing(targets + slot, head.slots, starts[picture], first, starts[picture + 1], [&](int i) {
            const Box target = place_of(objects + 5 * i);
            const float probability = teach(values, gradient, box, objects + 5 * i, slot, cell);
            totals.add(similarity(box, target, IOU), similarity(box, target, GIOU), head.objectness(values), probability);
        });
    }
    totals.write(shares + 7 * blockIdx.x);
}

// --- What cells learn

// Gradient of the classes; where another object has been `taught` before, that of the own class only.
__device__ inline void teach_class(const float* rest, float* rest_grad, int chosen, bool taught, const Head& head) {
    const double probability = rest[CLASS + chosen];
    double smoothing = 0.5 * head.smoothing;
    if (taught) {
        rest_grad[CLASS + chosen] = (float)(head.multipliers[chosen] * (probability - (1 - smoothing)));
        return;
    }
    double weight = 1, chosen_weight = head.factors[chosen];
    if (head.focal) weight = chosen_weight = focal_weight(probability), smoothing = 0;
    for (int c = 0; c < head.classes; c++) rest_grad[CLASS + c] = (float)(weight * (rest[CLASS + c] - smoothing));
    rest_grad[CLASS + chosen] = (float)(chosen_weight * (probability - (1 - smoothing)));
}

// Whether a box that overlaps an object is no background: enough, and it names any class.
__device__ inline bool fits(const float* rest, float overlap, const Head& head) {
    if (!(overlap > (float)head.ignore_thresh)) return false;
    bool named = false;
    for (int c = 0; c < head.classes && !named; c++) named = rest[CLASS + c] > CLASS_MATCH;
    return named;
}

__device__ inline double shape_similarity(int anchor, const float* object, int measure, const Head& head) {
    return similarity({0, 0, head.sizes[2 * anchor], head.sizes[2 * anchor + 1]}, {0, 0, object[3], object[4]}, measure);
}

// Whether an object teaches a slot: that of the anchor, among those of all heads, whose shape fits best, and others that
// fit better than iou_thresh.
__device__ inline bool learns(int slot, const float* object, const Head& head) {
    const int anchor = head.mask[slot];
    int best = 0;
    double overlap = 0;
    for (int i = 0; i < head.anchors; i++) {
        const double found = shape_similarity(i, object, IOU, head);
        if (found > overlap) best = i, overlap = found;
    }
    return anchor == best ||
           (head.shape_thresh < 1 && shape_similarity(anchor, object, head.shape_measure, head) > head.shape_thresh);
}

// targets (objects, slots): the cell in which an object teaches a slot, or -1. A thread for each. cell_of(object): the
// object's own cell.
template <class CellOf>
__device__ __forceinline__ void find_targets(const float* objects, const int* starts, int pictures, const Head& head,
                                             int* targets, CellOf cell_of) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= starts[pictures] * head.slots) return;
    const float* object = objects + 5 * (index / head.slots);
    targets[index] = learns(index % head.slots, object, head) ? cell_of(object) : -1;
}

// --- Boxes of one picture, in Darknet's order: cell by cell, slot by slot.

// counts: how many cells each block has chosen. All threads must come.
__device__ inline void count_chosen(bool is_chosen, int* counts) {
    const float count = block_sum(is_chosen);
    if (threadIdx.x == 0) counts[blockIdx.x] = (int)count;
}

// How many cells before this thread's own are chosen. All threads must come.
__device__ inline int chosen_before(bool is_chosen, const int* counts) {
    __shared__ int of_warp[8];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned chosen = __ballot_sync(ALL_LANES, is_chosen);
    if (lane == 0) of_warp[warp] = __popc(chosen);
    float before = 0;
    for (unsigned i = threadIdx.x; i < blockIdx.x; i += blockDim.x) before += counts[i];
    int place = (int)block_sum(before) + __popc(chosen & ((1u << lane) - 1));  // all have written of_warp now
    for (int i = 0; i < warp; i++) place += of_warp[i];
    return place;
}

// A row of results: box, objectness, and probabilities, 0 unless above the threshold. certainty: a factor on them.
__device__ inline void write_found(float* result, const FloatBox& box, const float* rest, int classes, float certainty,
                                   float thresh) {
    result[X] = box.x, result[Y] = box.y, result[WIDE] = box.w, result[HIGH] = box.h;
    result[OBJECTNESS] = rest[OBJECTNESS];
    for (int c = CLASS; c < CLASS + classes; c++) {
        const float probability = rest[OBJECTNESS] * certainty * rest[c];
        result[c] = probability > thresh ? probability : 0;
    }
}
