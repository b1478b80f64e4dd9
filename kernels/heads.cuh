// What the losses of all heads with anchors do: find the object that a box fits best, let objects that share a place
// teach it in their order, and add up. Objects are rows of class, x, y, w, h; those of a picture follow each other.
#pragma once
#include "boxes.cuh"
#include "reduce.cuh"

constexpr int OBJECTS = 128;  // that a block holds at a time

__device__ inline Box place_of(const float* object) { return {object[1], object[2], object[3], object[4]}; }

// An object by its number, and how well it fits; 0 where nothing overlaps.
struct Fit {
    float overlap;
    int object;
};

// The first of the objects first to last whose IoU with the box is highest. The objects wait in shared memory: all
// threads of the block must come, with the same objects.
__device__ inline Fit best_object(const FloatBox& box, const float* objects, int first_object, int last_object) {
    __shared__ float left[OBJECTS], right[OBJECTS], top[OBJECTS], bottom[OBJECTS], area[OBJECTS];
    const float box_left = box.x - box.w / 2, box_right = box.x + box.w / 2;
    const float box_top = box.y - box.h / 2, box_bottom = box.y + box.h / 2;
    Fit best = {0, 0};
    for (int first = first_object; first < last_object; first += OBJECTS) {
        const int count = min(OBJECTS, last_object - first);
        __syncthreads();  // the objects before may still be read
        for (int i = threadIdx.x; i < count; i += blockDim.x) {
            const float* object = objects + 5 * (first + i);
            left[i] = object[1] - object[3] / 2, right[i] = object[1] + object[3] / 2;
            top[i] = object[2] - object[4] / 2, bottom[i] = object[2] + object[4] / 2;
            area[i] = object[3] * object[4];
        }
        __syncthreads();
        for (int i = 0; i < count; i++) {
            const float across = fmaxf(fminf(box_right, right[i]) - fmaxf(box_left, left[i]), 0);
            const float down = fmaxf(fminf(box_bottom, bottom[i]) - fmaxf(box_top, top[i]), 0);
            const float common = across * down, overlap = common / (box.w * box.h + area[i] - common);
            if (overlap > best.overlap) best = {overlap, first + i};
        }
    }
    return best;
}

// Rounded to single precision before it is cut, as in Darknet; the last cell has its outer edge.
__device__ inline int cell_along(float place, int cells) { return min((int)(place * cells), cells - 1); }

// Call teach(i) for object `first` and all later ones before `last` with the same target, in their order; not at all where
// an earlier one of its picture, from `begin` on, has that target. targets: one number for each object, `step` apart.
template <class Teach>
__device__ __forceinline__ void for_sharing(const int* targets, int step, int begin, int first, int last, Teach teach) {
    const int target = targets[first * step];
    for (int i = begin; i < first; i++)
        if (targets[i * step] == target) return;
    for (int i = first; i < last; i++)
        if (targets[i * step] == target) teach(i);
}

// What the objects add up: the numbers that TOTALS in yolo_cells.py names.
struct Totals {
    float sums[7] = {};
    __device__ void add(double overlap, double generalized, float objectness, float probability) {
        sums[0] += 1;
        sums[1] += (float)overlap;
        sums[2] += (float)generalized;
        sums[3] += overlap > 0.5;
        sums[4] += overlap > 0.75;
        sums[5] += objectness;
        sums[6] += probability;
    }
    // The block's share. All threads must come.
    __device__ void write(float* share) {
        for (int i = 0; i < 7; i++) {
            const float sum = block_sum(sums[i]);
            if (threadIdx.x == 0) share[i] = sum;
        }
    }
};

// The block's share of the sums of squares of a gradient's boxes, objectness and classes. A cell is a slot of a position:
// `box` channels, the objectness, the classes. Where several objects taught a cell that is_shared(gradient), the gradient
// of its box is first divided by the number of classes that are to become more probable. A warp for each cell.
template <class IsShared>
__device__ inline void add_squares(float* grad, long long grad_stride, long long cells, int slots, int channels, int box,
                                   float* share, IsShared is_shared) {
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    float boxes = 0, objectness = 0, classes = 0;
    for (long long i = blockIdx.x * (long long)warps + threadIdx.x / 32; i < cells; i += (long long)gridDim.x * warps) {
        float* gradient = grad + i / slots * grad_stride + i % slots * channels;
        if (is_shared(gradient)) {
            float taught = 0;
            for (int c = box + 1 + lane; c < channels; c += 32) taught += gradient[c] < 0;
            taught = warp_sum(taught);
            if (taught > 1 && lane < box) gradient[lane] /= taught;
        }
        for (int c = lane; c < channels; c += 32) {
            const float square = gradient[c] * gradient[c];
            (c < box ? boxes : c == box ? objectness : classes) += square;
        }
    }
    boxes = block_sum(boxes), objectness = block_sum(objectness), classes = block_sum(classes);
    if (threadIdx.x == 0) share[0] = boxes, share[1] = objectness, share[2] = classes;
}

// Focal loss with alpha 0.5 and gamma 2: the factor on the gradients of the classes.
__device__ inline double focal_weight(double probability) {
    const double p = fmax(probability, 0.0) + 1e-15;
    return -0.5 * (1 - p) * (2 * p * log(p) + p - 1);
}
