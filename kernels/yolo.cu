// The [yolo] head: its activation, the loss with the matching of boxes and objects, and the boxes above a threshold.
//
// An output (n, slots * (5 + classes), h, w) lies as rows of channels, one for each position: slot by slot x, y, w, h,
// objectness, classes. A slot of a position is called a cell here.
//
// Forward: 8 bytes and about 10 flops per value. Loss: every cell is compared with all objects of its picture, 20 flops
// each, its box and objectness are read (a fraction of the output) and one value of the gradient written; then the whole
// gradient is read once, after the fill that has made it 0: 8 bytes per value together. What single objects teach is
// done in double precision and does not count. Boxes: the objectness is read twice. Memory bound. Not measured yet.
#include "boxes.cuh"
#include "elementwise.cuh"
#include "reduce.cuh"
#include "yolo.cuh"

constexpr float CLASS_MATCH = 0.25f;  // below it no class is named
constexpr int OBJECTS = 128;          // that a block holds at a time

__device__ __forceinline__ float logistic(float x) { return 1 / (1 + expf(-x)); }

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
};

__device__ inline double focal_weight(double probability) {
    const double p = fmax(probability, 0.0) + 1e-15;
    return -0.5 * (1 - p) * (2 * p * log(p) + p - 1);
}

// Gradient of the classes; a second object in the same place changes that of its own class only.
__device__ inline void teach_class(const float* values, float* grad, int chosen, const Head& head) {
    const double probability = values[CLASS + chosen];
    double smoothing = 0.5 * head.smoothing;
    if (grad[CLASS + chosen] != 0) {
        grad[CLASS + chosen] = (float)(head.multipliers[chosen] * (probability - (1 - smoothing)));
        return;
    }
    double weight = 1, chosen_weight = head.factors[chosen];
    if (head.focal) weight = chosen_weight = focal_weight(probability), smoothing = 0;
    for (int c = 0; c < head.classes; c++) grad[CLASS + c] = (float)(weight * (values[CLASS + c] - smoothing));
    grad[CLASS + chosen] = (float)(chosen_weight * (probability - (1 - smoothing)));
}

// Adds the gradient of the box for an object: class, x, y, w, h.
__device__ inline void teach_box(const float* values, float* grad, const Box& box, const float* object, int slot, int cell,
                                 const Head& head) {
    const Box target = {object[1], object[2], object[3], object[4]};
    const double* anchor = head.sizes + 2 * head.mask[slot];
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

// A box that fits an object better than truth_thresh learns it.
__device__ inline void teach_fitting(const float* values, float* grad, const Box& box, const float* object, float overlap,
                                     int slot, int cell, const Head& head) {
    const int chosen = (int)object[0];
    const double target = head.smooth ? (double)overlap * overlap : 1;
    grad[OBJECTNESS] = (float)(head.objectness_factor * (values[OBJECTNESS] - target));
    teach_class(values, grad, chosen, head);
    if (head.smooth) grad[CLASS + chosen] = (float)(head.multipliers[chosen] * (values[CLASS + chosen] - target));
    teach_box(values, grad, box, object, slot, cell, head);
}

// The gradient of the objectness in a cell that fits an object by overlap.
__device__ inline float background_gradient(const float* values, float overlap, const Head& head) {
    const float factor = (float)head.objectness_factor, gradient = factor * values[OBJECTNESS];
    if (!(overlap > (float)head.ignore_thresh)) return gradient;
    bool named = false;
    for (int c = 0; c < head.classes && !named; c++) named = values[CLASS + c] > CLASS_MATCH;
    if (!named) return gradient;
    return head.smooth ? fminf(gradient, factor * (values[OBJECTNESS] - overlap)) : 0;
}

// Every cell learns that it sees nothing, unless its box fits an object. A thread for each cell of picture blockIdx.y,
// whose objects (rows of class, x, y, w, h; starts[picture] the first) wait in shared memory. grad is 0 before.
// shares: each block's sum of objectness.
extern "C" __global__ void __launch_bounds__(256)
yolo_background(const float* output, long long output_stride, float* grad, long long grad_stride, const float* objects,
                const int* starts, const int* numbers, const double* constants, float* shares) {
    __shared__ float left[OBJECTS], right[OBJECTS], top[OBJECTS], bottom[OBJECTS], area[OBJECTS];
    const Head head(numbers, constants);
    const int picture = blockIdx.y, index = blockIdx.x * blockDim.x + threadIdx.x;
    const bool is_here = index < head.cells() * head.slots;
    const int cell = is_here ? index / head.slots : 0, slot = is_here ? index % head.slots : 0;
    const long long position = (long long)picture * head.cells() + cell;
    const float* values = output + position * output_stride + slot * head.channels();
    const FloatBox box = predicted_box(values, head.sizes + 2 * head.mask[slot], cell, head.width, head.height, head.new_coords);
    const float box_left = box.x - box.w / 2, box_right = box.x + box.w / 2;
    const float box_top = box.y - box.h / 2, box_bottom = box.y + box.h / 2;
    float best = 0;
    int fitting = 0;
    for (int first = starts[picture]; first < starts[picture + 1]; first += OBJECTS) {
        const int count = min(OBJECTS, starts[picture + 1] - first);
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
            if (overlap > best) best = overlap, fitting = first + i;
        }
    }
    if (is_here) {
        float* gradient = grad + position * grad_stride + slot * head.channels();
        gradient[OBJECTNESS] = background_gradient(values, best, head);
        if (best > (float)head.truth_thresh)
            teach_fitting(values, gradient, box.precise(), objects + 5 * fitting, best, slot, cell, head);
    }
    const float sum = block_sum(is_here ? values[OBJECTNESS] : 0);
    if (threadIdx.x == 0) shares[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

__device__ inline double shape_similarity(int anchor, const float* object, int measure, const Head& head) {
    return similarity({0, 0, head.sizes[2 * anchor], head.sizes[2 * anchor + 1]}, {0, 0, object[3], object[4]}, measure);
}

// Rounded to single precision before it is cut, as in Darknet; the last cell has its outer edge.
__device__ inline int cell_along(float place, int cells) { return min((int)(place * cells), cells - 1); }

// targets (count, slots): the cell in which an object teaches a slot, or -1: that of the anchor, among those of all heads,
// whose shape fits best, and of others that fit better than iou_thresh. A thread for each.
extern "C" __global__ void __launch_bounds__(256)
yolo_targets(const float* objects, const int* starts, int pictures, const int* numbers, const double* constants,
             int* targets) {
    const Head head(numbers, constants);
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= starts[pictures] * head.slots) return;
    const float* object = objects + 5 * (index / head.slots);
    const int anchor = head.mask[index % head.slots];
    int best = 0;
    double overlap = 0;
    for (int i = 0; i < head.anchors; i++) {
        const double found = shape_similarity(i, object, IOU, head);
        if (found > overlap) best = i, overlap = found;
    }
    const bool learns = anchor == best || (head.shape_thresh < 1 && shape_similarity(anchor, object, head.shape_measure, head) > head.shape_thresh);
    const int row = cell_along(object[2], head.height), column = cell_along(object[1], head.width);
    targets[index] = learns ? row * head.width + column : -1;
}

// Every object teaches its targets. Objects that share one teach it in their order: the thread of the first does it for
// all. shares (blocks, 7): sums of what TOTALS in yolo_cells.py names.
extern "C" __global__ void __launch_bounds__(256)
yolo_teach(const float* output, long long output_stride, float* grad, long long grad_stride, const float* objects,
           const int* starts, const int* owners, int pictures, const int* targets, const int* numbers,
           const double* constants, float* shares) {
    const Head head(numbers, constants);
    const int index = blockIdx.x * blockDim.x + threadIdx.x, slot = index % head.slots;
    const int first = index / head.slots, cell = first < starts[pictures] ? targets[index] : -1;
    float totals[7] = {};
    if (cell >= 0) {
        const int picture = owners[first];
        bool is_first = true;
        for (int i = starts[picture]; i < first && is_first; i++) is_first = targets[i * head.slots + slot] != cell;
        const long long position = (long long)picture * head.cells() + cell;
        const float* values = output + position * output_stride + slot * head.channels();
        float* gradient = grad + position * grad_stride + slot * head.channels();
        const Box box = predicted_box(values, head.sizes + 2 * head.mask[slot], cell, head.width, head.height, head.new_coords).precise();
        for (int i = first; i < starts[picture + 1] && is_first; i++) {
            if (targets[i * head.slots + slot] != cell) continue;
            const float* object = objects + 5 * i;
            const int chosen = (int)object[0];
            const Box target = {object[1], object[2], object[3], object[4]};
            teach_box(values, gradient, box, object, slot, cell, head);
            // With objectness_smooth the value is usually left as the background's.
            if (!head.smooth || gradient[OBJECTNESS] == 0)
                gradient[OBJECTNESS] = (float)(head.multipliers[chosen] * head.objectness_factor * (values[OBJECTNESS] - 1.0));
            teach_class(values, gradient, chosen, head);
            const double overlap = similarity(box, target, IOU);
            totals[0] += 1;
            totals[1] += (float)overlap;
            totals[2] += (float)similarity(box, target, GIOU);
            totals[3] += overlap > 0.5;
            totals[4] += overlap > 0.75;
            totals[5] += values[OBJECTNESS];
            totals[6] += values[CLASS + chosen];
        }
    }
    for (int i = 0; i < 7; i++) {
        const float sum = block_sum(totals[i]);
        if (threadIdx.x == 0) shares[7 * blockIdx.x + i] = sum;
    }
}

// Sums of squares of the gradient's boxes, objectness and classes: shares (blocks, 3). With iou_thresh < 1 a cell that
// several objects taught has its box's gradient divided by the number of its classes before. A warp for each cell.
extern "C" __global__ void __launch_bounds__(256)
yolo_squares(float* grad, long long grad_stride, long long cells, const int* numbers, const double* constants,
             float* shares) {
    const Head head(numbers, constants);
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
    float box = 0, objectness = 0, classes = 0;
    for (long long i = blockIdx.x * (long long)warps + threadIdx.x / 32; i < cells; i += (long long)gridDim.x * warps) {
        float* gradient = grad + i / head.slots * grad_stride + i % head.slots * head.channels();
        if (head.shape_thresh < 1 && gradient[OBJECTNESS] != 0) {
            float taught = 0;
            for (int c = CLASS + lane; c < head.channels(); c += 32) taught += gradient[c] < 0;
            taught = warp_sum(taught);
            if (taught > 1 && lane < OBJECTNESS) gradient[lane] /= taught;
        }
        for (int c = lane; c < head.channels(); c += 32) {
            const float square = gradient[c] * gradient[c];
            (c < OBJECTNESS ? box : c == OBJECTNESS ? objectness : classes) += square;
        }
    }
    box = block_sum(box), objectness = block_sum(objectness), classes = block_sum(classes);
    if (threadIdx.x == 0) {
        float* share = shares + 3 * blockIdx.x;
        share[0] = box, share[1] = objectness, share[2] = classes;
    }
}

// --- Boxes of one picture, in Darknet's order: cell by cell, slot by slot.

// counts: how many of each 256 cells have an objectness above the threshold.
extern "C" __global__ void __launch_bounds__(256)
yolo_count(const float* output, long long output_stride, int cells, int slots, int channels, float thresh, int* counts) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const bool is_chosen = index < cells && output[index / slots * output_stride + index % slots * channels + OBJECTNESS] > thresh;
    const float count = block_sum(is_chosen);
    if (threadIdx.x == 0) counts[blockIdx.x] = (int)count;
}

// found (all counts together, channels): x, y, w, h, objectness and probabilities, 0 unless above the threshold.
extern "C" __global__ void __launch_bounds__(256)
yolo_pick(const float* output, long long output_stride, int cells, int slots, int channels, float thresh,
          const int* counts, const double* anchors, int width, int height, int new_coords, float* found) {
    __shared__ int of_warp[8];
    const int index = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float* values = output + index / slots * output_stride + index % slots * channels;
    const bool is_chosen = index < cells && values[OBJECTNESS] > thresh;
    const unsigned chosen = __ballot_sync(ALL_LANES, is_chosen);
    if (lane == 0) of_warp[warp] = __popc(chosen);
    float before = 0;
    for (unsigned i = threadIdx.x; i < blockIdx.x; i += blockDim.x) before += counts[i];
    int place = (int)block_sum(before) + __popc(chosen & ((1u << lane) - 1));  // all have written of_warp now
    for (int i = 0; i < warp; i++) place += of_warp[i];
    if (!is_chosen) return;
    float* result = found + (long long)place * channels;
    const FloatBox box = predicted_box(values, anchors + 2 * (index % slots), index / slots, width, height, new_coords);
    result[X] = box.x, result[Y] = box.y, result[WIDE] = box.w, result[HIGH] = box.h;
    result[OBJECTNESS] = values[OBJECTNESS];
    for (int c = CLASS; c < channels; c++) {
        const float probability = values[OBJECTNESS] * values[c];
        result[c] = probability > thresh ? probability : 0;
    }
}
