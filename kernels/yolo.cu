// The [yolo] head: its activation, the loss with the matching of boxes and objects, and the boxes above a threshold.
//
// An output (n, slots * (5 + classes), h, w) lies as rows of channels, one for each position: slot by slot x, y, w, h,
// objectness, classes. A slot of a position is called a cell here.
//
// Forward: 8 bytes and about 10 flops per value. Loss: every cell is compared with all objects of its picture, 20 flops
// each, its box and objectness are read (a fraction of the output) and one value of the gradient written; then the whole
// gradient is read once, after the fill that has made it 0: 8 bytes per value together. What single objects teach is
// done in double precision and does not count. Boxes: the objectness is read twice. Memory bound. Not measured yet.
#include "yolo_head.cuh"

extern "C" __global__ void __launch_bounds__(256)
yolo_forward(const element* x, long long x_stride, float* out, long long out_stride, long long rows, long long columns,
             int by_four, int channels, float scale, int is_squashed) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(x + row * x_stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) {
            const int channel = (int)((column + i) % channels);
            if (!is_squashed && channel != WIDE && channel != HIGH) values[i] = logistic(values[i]);
            if (channel <= Y) values[i] = values[i] * scale - 0.5f * (scale - 1);
        }
        store(out + row * out_stride + column, values);
    });
}

// --- Loss

// Adds the gradient of the box for an object.
__device__ inline void teach_box(const float* values, float* grad, const Box& box, const float* object, int slot, int cell,
                                 const Head& head) {
    const Box target = place_of(object);
    const double* anchor = head.size(slot);
    double weight = head.box_factor * head.multipliers[(int)object[0]];
    if (head.measure == MSE) {
        const double goal_w = head.new_coords ? sqrt(target.w / (4 * anchor[0])) : log(target.w / anchor[0]);
        const double goal_h = head.new_coords ? sqrt(target.h / (4 * anchor[1])) : log(target.h / anchor[1]);
        weight *= 2 - target.w * target.h;
        grad[X] += (float)(weight * (values[X] - (target.x * head.width - cell % head.width)));
        grad[Y] += (float)(weight * (values[Y] - (target.y * head.height - cell / head.width)));
        grad[WIDE] += (float)(weight * (values[WIDE] - goal_w));
        grad[HIGH] += (float)(weight * (values[HIGH] - goal_h));
        return;
    }
    const Box ascent = box_gradient(box, target, head.measure);
    const double stretch_w = head.new_coords ? 1 : box.w / anchor[0], stretch_h = head.new_coords ? 1 : box.h / anchor[1];
    grad[X] -= (float)limited(weight * ascent.x, head.most);
    grad[Y] -= (float)limited(weight * ascent.y, head.most);
    grad[WIDE] -= (float)limited(weight * stretch_w * ascent.w, head.most);
    grad[HIGH] -= (float)limited(weight * stretch_h * ascent.h, head.most);
}

// As [yolo] has it: a second object in the same place changes the gradient of its own class only.
__device__ inline void teach_own_class(const float* values, float* grad, int chosen, const Head& head) {
    teach_class(values, grad, chosen, grad[CLASS + chosen] != 0, head);
}

// A box that fits an object better than truth_thresh learns it.
__device__ inline void teach_fitting(const float* values, float* grad, const Box& box, const float* object, float overlap,
                                     int slot, int cell, const Head& head) {
    const int chosen = (int)object[0];
    const double target = head.smooth ? (double)overlap * overlap : 1;
    grad[OBJECTNESS] = (float)(head.objectness_factor * (values[OBJECTNESS] - target));
    teach_own_class(values, grad, chosen, head);
    if (head.smooth) grad[CLASS + chosen] = (float)(head.multipliers[chosen] * (values[CLASS + chosen] - target));
    teach_box(values, grad, box, object, slot, cell, head);
}

// The gradient of the objectness in a cell that fits an object by overlap.
__device__ inline float background_gradient(const float* values, float overlap, const Head& head) {
    const float factor = (float)head.objectness_factor, gradient = factor * values[OBJECTNESS];
    if (!fits(values, overlap, head)) return gradient;
    return head.smooth ? fminf(gradient, factor * (values[OBJECTNESS] - overlap)) : 0;
}

// Every cell learns that it sees nothing, unless its box fits an object. grad is 0 before. For the rest see for_cells.
extern "C" __global__ void __launch_bounds__(256)
yolo_background(const float* output, long long output_stride, float* grad, long long grad_stride, const float* objects,
                const int* starts, const int* numbers, const double* constants, float* shares) {
    const Head head(numbers, constants);
    const auto teach = [&](const float* values, float* gradient, const FloatBox& box, const Fit& best, int slot, int cell) {
        gradient[OBJECTNESS] = background_gradient(values, best.overlap, head);
        if (best.overlap > (float)head.truth_thresh)
            teach_fitting(values, gradient, box.precise(), objects + 5 * best.object, best.overlap, slot, cell, head);
    };
    for_cells(head, output, output_stride, grad, grad_stride, objects, starts, shares, teach);
}

// targets (objects, slots): the cell in which an object teaches a slot, or -1. A thread for each.
extern "C" __global__ void __launch_bounds__(256)
yolo_targets(const float* objects, const int* starts, int pictures, const int* numbers, const double* constants,
             int* targets) {
    const Head head(numbers, constants);
    find_targets(objects, starts, pictures, head, targets, [&](const float* object) {
        return cell_along(object[2], head.height) * head.width + cell_along(object[1], head.width);
    });
}

// Every object teaches its targets. See for_targets.
extern "C" __global__ void __launch_bounds__(256)
yolo_teach(const float* output, long long output_stride, float* grad, long long grad_stride, const float* objects,
           const int* starts, const int* owners, int pictures, const int* targets, const int* numbers,
           const double* constants, float* shares) {
    const Head head(numbers, constants);
    const auto teach = [&](const float* values, float* gradient, const Box& box, const float* object, int slot, int cell) {
        const int chosen = (int)object[0];
        teach_box(values, gradient, box, object, slot, cell, head);
        // With objectness_smooth the value is usually left as the background's.
        if (!head.smooth || gradient[OBJECTNESS] == 0)
            gradient[OBJECTNESS] = (float)(head.multipliers[chosen] * head.objectness_factor * (values[OBJECTNESS] - 1.0));
        teach_own_class(values, gradient, chosen, head);
        return values[CLASS + chosen];
    };
    for_targets(head, output, output_stride, grad, grad_stride, objects, starts, owners, pictures, targets, shares, teach);
}

// Sums of squares of the gradient's boxes, objectness and classes: shares (blocks, 3). With iou_thresh < 1 a cell that
// several objects taught has its box's gradient divided by the number of its classes before. A warp for each cell.
extern "C" __global__ void __launch_bounds__(256)
yolo_squares(float* grad, long long grad_stride, long long cells, const int* numbers, const double* constants,
             float* shares) {
    const Head head(numbers, constants);
    add_squares(grad, grad_stride, cells, head.slots, head.channels(), OBJECTNESS, shares + 3 * blockIdx.x,
                [&](const float* gradient) { return head.shape_thresh < 1 && gradient[OBJECTNESS] != 0; });
}

// --- Boxes of one picture

// counts: how many of each 256 cells have an objectness above the threshold.
extern "C" __global__ void __launch_bounds__(256)
yolo_count(const float* output, long long output_stride, int cells, int slots, int channels, float thresh, int* counts) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const float* values = output + index / slots * output_stride + index % slots * channels;
    count_chosen(index < cells && values[OBJECTNESS] > thresh, counts);
}

// found (all counts together, channels): x, y, w, h, objectness and probabilities, 0 unless above the threshold.
extern "C" __global__ void __launch_bounds__(256)
yolo_pick(const float* output, long long output_stride, int cells, int slots, int channels, float thresh,
          const int* counts, const double* anchors, int width, int height, int new_coords, float* found) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const float* values = output + index / slots * output_stride + index % slots * channels;
    const bool is_chosen = index < cells && values[OBJECTNESS] > thresh;
    const int place = chosen_before(is_chosen, counts);
    if (!is_chosen) return;
    const FloatBox box = predicted_box(values, anchors + 2 * (index % slots), index / slots, width, height, new_coords);
    write_found(found + (long long)place * channels, box, values, channels - CLASS, 1, thresh);
}
