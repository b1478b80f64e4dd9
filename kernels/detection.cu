// The [detection] head of YOLOv1: softmax over the classes of each cell, the loss, and the boxes of a picture.
//
// An output (n, values) lies picture by picture: the classes of all cells (side^2, classes), the objectness of all boxes
// (side^2, num), the boxes (side^2, num, 4) as x, y within the cell and w, h relative to the picture. The truth is
// (n, side^2, 1 + classes + 4): whether a cell has an object, its class as one-hot, its box.
//
// Loss: output and truth are read and the gradient written once, 12 bytes per value together, with 30 flops for each box of a
// cell that has an object. Memory bound, and small: a value of a thousand or two per picture. Not measured yet.
#include "detection.cuh"
#include "heads.cuh"
#include "softmax.cuh"

constexpr float SMALL = 0.1f;  // with `forced`, objects that cover less of the picture belong to the second box of a cell

// In place, a warp for each cell of each picture.
extern "C" __global__ void __launch_bounds__(256)
detection_softmax(float* out, int pictures, int side, int num, int classes) {
    const Grid grid = {side, num, classes};
    const long long warps = (long long)gridDim.x * (blockDim.x / 32), count = (long long)pictures * grid.cells();
    for (long long i = blockIdx.x * (long long)(blockDim.x / 32) + threadIdx.x / 32; i < count; i += warps) {
        float* scores = out + i / grid.cells() * grid.values() + grid.of_classes((int)(i % grid.cells()));
        softmax_of(0, classes, 1, [&](int c) { return scores[c]; }, [&](int c, float probability) { scores[c] = probability; });
    }
}

// --- Loss

struct Settings {
    int are_roots, rescore, forced;
    float box_scale, object_scale, noobject_scale, class_scale;
};

// IoU and distance, the root of the sum of the four squared differences, of a cell's box and its object.
__device__ inline void compare(const float* box, const float* object, int side, int are_roots, float& overlap,
                               float& distance) {
    const float x = box[0] / side, y = box[1] / side, object_x = object[0] / side, object_y = object[1] / side;
    const float w = are_roots ? box[2] * box[2] : box[2], h = are_roots ? box[3] * box[3] : box[3];
    const float object_w = object[2], object_h = object[3];
    const float across = fminf(x + w / 2, object_x + object_w / 2) - fmaxf(x - w / 2, object_x - object_w / 2);
    const float down = fminf(y + h / 2, object_y + object_h / 2) - fmaxf(y - h / 2, object_y - object_h / 2);
    const float common = fmaxf(across, 0) * fmaxf(down, 0), joined = w * h + object_w * object_h - common;
    overlap = common > 0 && joined != 0 ? common / joined : 0;
    distance = sqrtf((x - object_x) * (x - object_x) + (y - object_y) * (y - object_y) + (w - object_w) * (w - object_w) +
                     (h - object_h) * (h - object_h));
}

// The box of a cell that learns its object: the one with the best IoU, without overlap the nearest; the first of equals, and
// one whose distance is no number before all others, so that the loss says so.
__device__ inline int best_box(const float* boxes, const float* object, const Grid& grid, const Settings& settings) {
    if (settings.forced) return object[2] * object[3] < SMALL;
    int best = 0, nearest = 0;
    float most = 0, least = 0;
    for (int i = 0; i < grid.num; i++) {
        float overlap, distance;
        compare(boxes + 4 * i, object, grid.side, settings.are_roots, overlap, distance);
        if (overlap > most) most = overlap, best = i;
        const bool is_nearer = distance < least || (isnan(distance) && !isnan(least));
        if (i == 0 || is_nearer) least = distance, nearest = i;
    }
    return most > 0 ? best : nearest;
}

// Teaches a box its object, beside what all boxes have learned; what is added up goes into totals.
__device__ inline void teach_box(const float* values, float* grad, const float* object, int cell, int box, float probability,
                                 const Grid& grid, const Settings& settings, Totals& totals) {
    const int at = grid.of_boxes(cell) + 4 * box;
    const float objectness = values[grid.of_objectness(cell) + box];
    float overlap, distance;
    compare(values + at, object, grid.side, settings.are_roots, overlap, distance);
    grad[grid.of_objectness(cell) + box] = settings.object_scale * (objectness - (settings.rescore ? overlap : 1));
    for (int i = 0; i < 4; i++) {
        const float goal = i >= 2 && settings.are_roots ? sqrtf(object[i]) : object[i];
        grad[at + i] = settings.box_scale * (values[at + i] - goal);
    }
    totals.add(overlap, 0, objectness, probability);
}

// A warp for each cell of each picture. chosen (pictures, side^2): the box that is to learn the cell's object, below 0 or null
// where it is found here. Shares of each block: squares (3) of the gradient's boxes, objectness and classes, totals (7) as
// TOTALS in yolo_cells.py names them, and the sum of the objectness.
extern "C" __global__ void __launch_bounds__(256)
detection_loss(const float* output, const float* truth, float* grad, const int* chosen, int pictures, int side, int num,
               int classes, int are_roots, int rescore, int forced, float box_scale, float object_scale,
               float noobject_scale, float class_scale, float* squares, float* shares, float* objectness_shares) {
    const Grid grid = {side, num, classes};
    const Settings settings = {are_roots, rescore, forced, box_scale, object_scale, noobject_scale, class_scale};
    const int lane = threadIdx.x % 32;
    const long long warps = (long long)gridDim.x * (blockDim.x / 32), count = (long long)pictures * grid.cells();
    Totals totals;
    float of_boxes = 0, of_objectness = 0, of_classes = 0, objectness = 0;
    for (long long i = blockIdx.x * (long long)(blockDim.x / 32) + threadIdx.x / 32; i < count; i += warps) {
        const int cell = (int)(i % grid.cells());
        const float *values = output + i / grid.cells() * grid.values(), *there = truth + i * (1 + classes + 4);
        float *gradient = grad + i / grid.cells() * grid.values(), probability = 0;
        const bool has_object = (int)there[0] != 0;
        for (int c = lane; c < classes; c += 32) {
            const float value = values[grid.of_classes(cell) + c], label = there[1 + c];
            const float g = has_object ? settings.class_scale * (value - label) : 0;
            gradient[grid.of_classes(cell) + c] = g, of_classes += g * g;
            if (label != 0) probability += value;
        }
        probability = warp_sum(probability);
        if (lane) continue;  // a cell has few boxes
        for (int box = 0; box < num; box++) {
            const float value = values[grid.of_objectness(cell) + box];
            gradient[grid.of_objectness(cell) + box] = settings.noobject_scale * value, objectness += value;
            for (int k = 0; k < 4; k++) gradient[grid.of_boxes(cell) + 4 * box + k] = 0;
        }
        if (has_object) {
            const float* object = there + 1 + classes;
            const int wanted = chosen ? chosen[i] : -1;
            const int box = wanted < 0 ? best_box(values + grid.of_boxes(cell), object, grid, settings) : wanted;
            teach_box(values, gradient, object, cell, box, probability, grid, settings, totals);
            for (int k = 0; k < 4; k++) {
                const float g = gradient[grid.of_boxes(cell) + 4 * box + k];
                of_boxes += g * g;
            }
        }
        for (int box = 0; box < num; box++) {
            const float g = gradient[grid.of_objectness(cell) + box];
            of_objectness += g * g;
        }
    }
    totals.write(shares + 7 * blockIdx.x);
    of_boxes = block_sum(of_boxes), of_objectness = block_sum(of_objectness), of_classes = block_sum(of_classes);
    objectness = block_sum(objectness);
    if (threadIdx.x) return;
    float* share = squares + 3 * blockIdx.x;
    share[0] = of_boxes, share[1] = of_objectness, share[2] = of_classes;
    objectness_shares[blockIdx.x] = objectness;
}

// found (side^2 * num, 5 + classes): x, y, w, h relative to the picture, objectness, and probabilities, 0 unless above the
// threshold. A thread for each box of one picture.
extern "C" __global__ void __launch_bounds__(256)
detection_boxes(const float* output, int side, int num, int classes, int are_roots, float thresh, float* found) {
    const Grid grid = {side, num, classes};
    const int index = blockIdx.x * blockDim.x + threadIdx.x, cell = index / num;
    if (cell >= grid.cells()) return;
    const FloatBox box = grid.box(output, index, are_roots);
    const float objectness = output[grid.of_objectness(0) + index];
    float* row = found + (long long)index * (5 + classes);
    row[0] = box.x, row[1] = box.y, row[2] = box.w, row[3] = box.h, row[4] = objectness;
    for (int c = 0; c < classes; c++) {
        const float probability = objectness * output[grid.of_classes(cell) + c];
        row[5 + c] = probability > thresh ? probability : 0;
    }
}
