// The [region] head: probabilities from its input, the loss with the matching of boxes and objects, and the boxes of a
// picture.
//
// The input (n, slots * (5 + classes), h, w), and the gradient of it, lie as rows of channels, one for each position: slot by
// slot x, y, w, h, objectness, classes. A slot of a position is called a cell here. The output has the same shape and holds
// the values cell by cell in the order of its axes, as Darknet's does; in memory, which has the channels last, the values
// of a cell are therefore some way apart: see CellValues.
//
// Forward: 8 bytes per value, of which the written ones fall on 32 bytes each where nothing in between is written at about
// the same time; some 10 flops. Loss: every cell is compared with all objects of its picture, 20 flops each, its box and
// objectness are read, 32 bytes each; then the whole gradient is read once, after the fill that has made it 0: 8 bytes per
// value together. What single objects teach is done in double precision and does not count. Memory bound. Not measured yet.
#include "element.cuh"
#include "heads.cuh"
#include "region.cuh"
#include "softmax.cuh"

// A warp for each cell and each group of classes that exclude each other. starts (groups + 1): where each group begins, then
// the end; null for classes as they come, which then are one group.
extern "C" __global__ void __launch_bounds__(256)
region_forward(const element* x, long long x_stride, float* out, long long out_stride, int pictures, int positions, int slots,
               int classes, const int* starts, int groups) {
    const int lane = threadIdx.x % 32, warps = blockDim.x / 32, channels = CLASS + classes;
    const long long count = (long long)pictures * positions * slots * groups;
    for (long long i = blockIdx.x * (long long)warps + threadIdx.x / 32; i < count; i += (long long)gridDim.x * warps) {
        const int group = (int)(i % groups), index = (int)(i / groups % (positions * slots));
        const int picture = (int)(i / groups / (positions * slots));
        const long long position = (long long)picture * positions + index / slots;
        const element* from = x + position * x_stride + index % slots * channels;
        const CellValues<float> to = values_of(out, out_stride, positions, channels, picture, index);
        if (group == 0 && lane < CLASS) {
            const float value = to_float(from[lane]);
            to[lane] = lane == OBJECTNESS ? logistic(value) : value;
        }
        if (starts)
            softmax_of(CLASS + starts[group], CLASS + starts[group + 1], 1, [&](int c) { return to_float(from[c]); },
                       [&](int c, float probability) { to[c] = probability; });
        else
            for (int c = CLASS + lane; c < channels; c += 32) to[c] = to_float(from[c]);
    }
}

// --- Loss

// Everything a head depends on, from the two arrays that RegionOperations._region() makes. parents: null without a tree.
struct Region {
    int classes, slots, width, height, classfix, rescore, bias_match, focal, has_tree;
    const int *parents, *firsts, *lasts;
    double box_scale, object_scale, noobject_scale, class_scale, prior_scale, thresh;
    const double* anchors;

    __device__ Region(const int* numbers, const double* constants) {
        classes = numbers[0], slots = numbers[1], width = numbers[2], height = numbers[3], classfix = numbers[4];
        rescore = numbers[5], bias_match = numbers[6], focal = numbers[7], has_tree = numbers[8];
        parents = numbers + 9, firsts = parents + classes, lasts = firsts + classes;
        box_scale = constants[0], object_scale = constants[1], noobject_scale = constants[2], class_scale = constants[3];
        prior_scale = constants[4], thresh = constants[5], anchors = constants + 6;
    }
    __device__ int channels() const { return CLASS + classes; }
    __device__ int positions() const { return width * height; }
    __device__ int cells() const { return width * height * slots; }
    __device__ Cell values(const float* output, long long stride, int picture, int index) const {
        return values_of(output, stride, positions(), channels(), picture, index);
    }
    __device__ float* gradient(float* grad, long long stride, int picture, int index) const {
        return grad + ((long long)picture * positions() + index / slots) * stride + index % slots * channels();
    }
};

__device__ inline double logistic(double x) {
    const double tail = exp(-fabs(x));
    return x >= 0 ? 1 / (1 + tail) : tail / (1 + tail);
}

__device__ inline FloatBox region_box(const Cell& values, int index, const Region& head) {
    return region_box(values, head.anchors, index, head.slots, head.width, head.height);
}

// Gradient of the classes first to last, of which one is right.
__device__ inline void teach_group(const Cell& values, float* grad, int right, int first, int last, double scale) {
    for (int c = first; c < last; c++)
        grad[CLASS + c] = (float)(scale * ((double)values[CLASS + c] - (c == right ? 1 : 0)));
}

// Gradient of the classes; returns the probability of the right one. With a tree that one and all its parents are taught,
// each within its group.
__device__ inline double teach_class(const Cell& values, float* grad, int right, double scale, const Region& head) {
    if (!head.has_tree) {
        const double probability = values[CLASS + right];
        if (head.focal) scale *= focal_weight(probability);
        teach_group(values, grad, right, 0, head.classes, scale);
        return probability;
    }
    double whole = 1;
    for (int c = right; c >= 0; c = head.parents[c]) {
        whole *= values[CLASS + c];
        teach_group(values, grad, c, head.firsts[c], head.lasts[c], scale);
    }
    return whole;
}

// What a cell learns before the objects teach theirs: to see nothing unless its box fits an object, or with classfix=-1 how
// well it fits; then the class of that object with classfix above 0; and to stay near its anchor where prior_scale is not 0.
__device__ inline void teach_background(const Cell& values, float* grad, const Fit& best, const float* objects,
                                        float prior_scale, const Region& head) {
    const float objectness = values[OBJECTNESS], goal = head.classfix == -1 ? best.overlap : 0;
    const bool fits = best.overlap > (float)head.thresh;
    grad[OBJECTNESS] = (float)head.noobject_scale * (objectness - goal) * objectness * (1 - objectness);
    if (fits && head.classfix != -1) grad[OBJECTNESS] = 0;
    if (prior_scale != 0) {
        const float x = logistic(values[X]), y = logistic(values[Y]);
        grad[X] = prior_scale * (x - HALF) * x * (1 - x), grad[Y] = prior_scale * (y - HALF) * y * (1 - y);
        grad[WIDE] = prior_scale * values[WIDE], grad[HIGH] = prior_scale * values[HIGH];
    }
    if (!fits || head.classfix <= 0) return;
    const double scale = head.classfix == 2 ? head.class_scale * objectness : head.class_scale;
    teach_class(values, grad, (int)objects[5 * best.object], scale, head);
}

// A thread for each cell of picture blockIdx.y, whose objects begin at starts[picture]; one that shows a class somewhere
// (shown) has nothing to teach here. grad is 0 before. clock: the pictures seen; boxes are pulled towards their anchors while
// these are fewer than prior_until. shares: each block's sum of objectness.
extern "C" __global__ void __launch_bounds__(256)
region_background(const float* output, long long output_stride, float* grad, long long grad_stride, const float* objects,
                  const int* starts, const int* shown, const unsigned long long* clock, long long prior_until,
                  const int* numbers, const double* constants, float* shares) {
    const Region head(numbers, constants);
    const int picture = blockIdx.y, thread = blockIdx.x * blockDim.x + threadIdx.x;
    const bool is_here = thread < head.cells();
    const int index = is_here ? thread : 0;
    const Cell values = head.values(output, output_stride, picture, index);
    const Fit best = best_object(region_box(values, index, head), objects, starts[picture], starts[picture + 1]);
    if (is_here && shown[picture] < 0) {
        const float prior_scale = *clock < (unsigned long long)prior_until ? (float)head.prior_scale : 0;
        teach_background(values, head.gradient(grad, grad_stride, picture, index), best, objects, prior_scale, head);
    }
    const float sum = block_sum(is_here ? values[OBJECTNESS] : 0);
    if (threadIdx.x == 0) shares[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

// A picture that shows a class somewhere teaches it to the cell that is surest of it, the first of equals. With a tree only.
// A block for each picture.
extern "C" __global__ void __launch_bounds__(256)
region_teach_picture(const float* output, long long output_stride, float* grad, long long grad_stride, const int* shown,
                     const int* numbers, const double* constants) {
    __shared__ float sureness[256];
    __shared__ int indices[256];
    const Region head(numbers, constants);
    const int picture = blockIdx.x, right = shown[picture];
    if (right < 0) return;
    float surest = -INFINITY;
    int chosen = 0;
    for (int index = threadIdx.x; index < head.cells(); index += blockDim.x) {
        const Cell values = head.values(output, output_stride, picture, index);
        float sure = values[OBJECTNESS];
        for (int c = right; c >= 0; c = head.parents[c]) sure *= values[CLASS + c];
        if (sure > surest) surest = sure, chosen = index;
    }
    sureness[threadIdx.x] = surest, indices[threadIdx.x] = chosen;
    for (int half = 128; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x >= half) continue;
        const float other = sureness[threadIdx.x + half], own = sureness[threadIdx.x];
        const int other_index = indices[threadIdx.x + half];
        if (other > own || (other == own && other_index < indices[threadIdx.x]))
            sureness[threadIdx.x] = other, indices[threadIdx.x] = other_index;
    }
    if (threadIdx.x) return;
    const Cell values = head.values(output, output_stride, picture, indices[0]);
    teach_class(values, head.gradient(grad, grad_stride, picture, indices[0]), right, head.class_scale, head);
}

// targets (objects): the cell of its picture that an object teaches: in its position the slot whose shape, that of the
// predicted box or with bias_match of the anchor, fits best. A thread for each.
extern "C" __global__ void __launch_bounds__(256)
region_targets(const float* output, long long output_stride, const float* objects, const int* starts, const int* owners,
               int pictures, const int* numbers, const double* constants, int* targets) {
    const Region head(numbers, constants);
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= starts[pictures]) return;
    const float* object = objects + 5 * number;
    const int position = cell_along(object[2], head.height) * head.width + cell_along(object[1], head.width);
    int best = 0;
    double overlap = 0;
    for (int slot = 0; slot < head.slots; slot++) {
        const int index = position * head.slots + slot;
        const FloatBox box = region_box(head.values(output, output_stride, owners[number], index), index, head);
        Box shape = {0, 0, box.w, box.h};
        if (head.bias_match)
            shape.w = head.anchors[2 * slot] / head.width, shape.h = head.anchors[2 * slot + 1] / head.height;
        const double found = similarity(shape, {0, 0, object[3], object[4]}, IOU);
        if (found > overlap) best = slot, overlap = found;
    }
    targets[number] = position * head.slots + best;
}

// Gradient of the squared errors of x and y within the cell, and of the logarithms of w and h in anchors.
__device__ inline void teach_box(const Cell& values, float* grad, const Box& target, int index, const Region& head) {
    const double* anchor = head.anchors + 2 * (index % head.slots);
    const int column = index / head.slots % head.width, row = index / head.slots / head.width;
    const double x = logistic((double)values[X]), y = logistic((double)values[Y]), scale = head.box_scale;
    grad[X] = (float)(scale * (x - (target.x * head.width - column)) * x * (1 - x));
    grad[Y] = (float)(scale * (y - (target.y * head.height - row)) * y * (1 - y));
    grad[WIDE] = (float)(scale * (values[WIDE] - log(target.w * head.width / anchor[0])));
    grad[HIGH] = (float)(scale * (values[HIGH] - log(target.h * head.height / anchor[1])));
}

// Every object teaches its target, whatever that has learned before. Objects that share one teach it in their order: the
// thread of the first does it for all. shares (blocks, 7): sums of what TOTALS in yolo_cells.py names.
extern "C" __global__ void __launch_bounds__(256)
region_teach(const float* output, long long output_stride, float* grad, long long grad_stride, const float* objects,
             const int* starts, const int* owners, int pictures, const int* targets, const int* numbers,
             const double* constants, float* shares) {
    const Region head(numbers, constants);
    const int first = blockIdx.x * blockDim.x + threadIdx.x;
    Totals totals;
    if (first < starts[pictures]) {
        const int picture = owners[first], index = targets[first];
        const Cell values = head.values(output, output_stride, picture, index);
        float* gradient = head.gradient(grad, grad_stride, picture, index);
        const Box box = region_box(values, index, head).precise();
        for_sharing(targets, 1, starts[picture], first, starts[picture + 1], [&](int i) {
            const float* object = objects + 5 * i;
            const Box target = place_of(object);
            const double overlap = similarity(box, target, IOU), objectness = values[OBJECTNESS];
            teach_box(values, gradient, target, index, head);
            const double error = objectness - (head.rescore ? overlap : 1);
            gradient[OBJECTNESS] = (float)(head.object_scale * error * objectness * (1 - objectness));
            const double probability = teach_class(values, gradient, (int)object[0], head.class_scale, head);
            totals.add(overlap, 0, values[OBJECTNESS], (float)probability);
        });
    }
    totals.write(shares + 7 * blockIdx.x);
}

// Sums of squares of the gradient's boxes, objectness and classes: shares (blocks, 3). A warp for each cell.
extern "C" __global__ void __launch_bounds__(256)
region_squares(float* grad, long long grad_stride, long long cells, int slots, int channels, float* shares) {
    add_squares(grad, grad_stride, cells, slots, channels, OBJECTNESS, shares + 3 * blockIdx.x,
                [](const float*) { return false; });
}

// --- Boxes of one picture, cell by cell. A thread for each.

__device__ inline void put_box(float* row, const FloatBox& box) {
    row[X] = box.x, row[Y] = box.y, row[WIDE] = box.w, row[HIGH] = box.h;
}

// found (cells, 4 + classes): x, y, w, h and probabilities, 0 unless above the threshold. least: an objectness below it counts
// as 0.
extern "C" __global__ void __launch_bounds__(256)
region_boxes(const float* output, long long output_stride, int cells, int slots, int classes, int width, int height,
             const double* anchors, float thresh, float least, float* found) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= cells) return;
    const Cell values = values_of(output, output_stride, width * height, CLASS + classes, 0, index);
    float* row = found + (long long)index * (4 + classes);
    put_box(row, region_box(values, anchors, index, slots, width, height));
    const float objectness = values[OBJECTNESS] < least ? 0 : values[OBJECTNESS];
    for (int c = 0; c < classes; c++) {
        const float probability = objectness * values[CLASS + c];
        row[4 + c] = probability > thresh ? probability : 0;
    }
}

// With a tree, parents (classes). whole (cells, classes): the probabilities with those of all parents, where the objectness
// is above the threshold. found (cells, 4 + columns): with `told`, those classes' probabilities, times the objectness, 0 unless
// above the threshold; without, two columns: the last class whose probability is above one half, and that; 0 where none is.
extern "C" __global__ void __launch_bounds__(256)
region_tree_boxes(const float* output, long long output_stride, int cells, int slots, int classes, int width, int height,
                  const double* anchors, float thresh, float least, const int* parents, const int* told, int columns,
                  float* whole, float* found) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= cells) return;
    const Cell values = values_of(output, output_stride, width * height, CLASS + classes, 0, index);
    float *row = found + (long long)index * (4 + columns), *mine = whole + (long long)index * classes;
    put_box(row, region_box(values, anchors, index, slots, width, height));
    for (int i = 0; i < columns; i++) row[4 + i] = 0;
    const float objectness = values[OBJECTNESS] < least ? 0 : values[OBJECTNESS];
    if (!(objectness > thresh)) return;
    for (int c = 0; c < classes; c++) {  // parents come before
        mine[c] = parents[c] < 0 ? values[CLASS + c] : values[CLASS + c] * mine[parents[c]];
        if (!told && mine[c] > HALF) row[4] = c, row[5] = mine[c];
    }
    for (int i = 0; told && i < columns; i++) {
        const float probability = objectness * mine[told[i]];
        row[4 + i] = probability > thresh ? probability : 0;
    }
}
