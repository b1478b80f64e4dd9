// The [Gaussian_yolo] head: its activation, the loss of boxes that are normal distributions, and the boxes above a
// threshold.
//
// An output (n, slots * (9 + classes), h, w) lies as rows of channels, one for each position: slot by slot x, its
// uncertainty, the same of y, w and h, objectness, classes. A slot of a position is called a cell here.
//
// Forward: 8 bytes and about 10 flops per value. Loss, in the steps of yolo.cu: every cell is compared with all objects of
// its picture, 20 flops each, its box and objectness are read and one value of the gradient written; then the whole gradient
// is read once, after the fill that has made it 0: 8 bytes per value together. What single objects teach is done in double
// precision and does not count. Boxes: the objectness is read twice. Memory bound. Not measured yet.
#include "gaussian_yolo.cuh"
#include "yolo_head.cuh"

constexpr double SIGMA = 0.3;  // added to the uncertainty where the height of the distribution is taken
constexpr double TINY = 1e-9;  // added to a probability density before it is divided by

extern "C" __global__ void __launch_bounds__(256)
gaussian_yolo_forward(const element* x, long long x_stride, float* out, long long out_stride, long long rows,
                      long long columns, int by_four, int channels, float scale) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(x + row * x_stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) {
            const int channel = (int)((column + i) % channels);
            if (channel != 2 * WIDE && channel != 2 * HIGH) values[i] = logistic(values[i]);
            if (channel == 2 * X || channel == 2 * Y) values[i] = values[i] * scale - 0.5f * (scale - 1);
        }
        store(out + row * out_stride + column, values);
    });
}

// --- Loss

// What a head of this kind depends on beside: from the ends of the two arrays.
struct GaussianHead : Head {
    int point;
    double uncertainty_factor;

    __device__ GaussianHead(const int* numbers, const double* constants) : Head(numbers, constants) {
        point = mask[slots], uncertainty_factor = factors[classes];
    }
    __device__ int channels() const { return REST + Head::channels(); }
    __device__ FloatBox box(const float* values, int slot, int cell) const {
        return gaussian_box(values, size(slot), cell, width, height, point);
    }
    __device__ float objectness(const float* values) const { return values[REST + OBJECTNESS]; }
};

// How the logarithm of a normal density changes with its mean and with its standard deviation. error: target less mean.
__device__ inline void likelihood_gradient(double error, double sigma, double scale, double& move, double& spread) {
    move = spread = 0;
    if (!(sigma > 0)) return;
    const double distance = error / sigma;
    const double density = exp(-0.5 * distance * distance) / (sqrt(2 * PI) * (sigma + SIGMA));
    const double factor = 0.5 * scale * density / (density + TINY);
    move = factor * distance / sigma;
    spread = factor * (distance * distance / sigma - 1 / (sigma + SIGMA));
}

// Adds the gradients of the box and its uncertainties for an object. Those of the uncertainties are always the
// likelihood's; those of x, y, w, h are the likelihood's with mse, else the overlap's.
__device__ inline void teach_box(const float* values, float* grad, const Box& box, const float* object, int slot, int cell,
                                 const GaussianHead& head) {
    const Box target = place_of(object);
    const double *anchor = head.size(slot), side = corner_side(head.point);
    const double goals[] = {(target.x + side * target.w / 2) * head.width - cell % head.width,
                            (target.y + side * target.h / 2) * head.height - cell / head.width,
                            log(target.w / anchor[0]), log(target.h / anchor[1])};
    double ascents[4] = {};
    if (head.measure != MSE) {
        const Box ascent = box_gradient(box, target, head.measure);
        ascents[X] = ascent.x + side * ascent.w / 2, ascents[WIDE] = ascent.w * (box.w / anchor[0]);
        ascents[Y] = ascent.y + side * ascent.h / 2, ascents[HIGH] = ascent.h * (box.h / anchor[1]);
    }
    const double weight = head.box_factor * head.multipliers[(int)object[0]], scale = 2 - target.w * target.h;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        double move, spread;
        likelihood_gradient(goals[i] - values[2 * i], values[2 * i + 1], scale, move, spread);
        if (head.measure != MSE) move = ascents[i];
        grad[2 * i] -= (float)limited(weight * move, head.most);
        grad[2 * i + 1] -= (float)limited(head.uncertainty_factor * spread, head.most);
    }
}

// A cell counts as taught before if its class 0 has a gradient.
__device__ inline void teach_any_class(const float* rest, float* rest_grad, int chosen, const Head& head) {
    teach_class(rest, rest_grad, chosen, rest_grad[CLASS] != 0, head);
}

// The gradient of the objectness where nothing is learned but that, and with objectness_smooth what a cell that fits an
// object learns of it.
__device__ inline void teach_background(const float* rest, float* rest_grad, const float* object, float overlap,
                                        const Head& head) {
    const bool is_fitting = fits(rest, overlap, head);
    rest_grad[OBJECTNESS] = is_fitting ? 0 : (float)head.objectness_factor * rest[OBJECTNESS];
    if (!is_fitting || !head.smooth) return;
    rest_grad[OBJECTNESS] = (float)(head.objectness_factor * (rest[OBJECTNESS] - (double)overlap * overlap));
    teach_any_class(rest, rest_grad, (int)object[0], head);
}

// A box that fits an object better than truth_thresh learns it.
__device__ inline void teach_fitting(const float* values, float* grad, const Box& box, const float* object, float overlap,
                                     int slot, int cell, const GaussianHead& head) {
    const float* rest = values + REST;
    float* rest_grad = grad + REST;
    const int chosen = (int)object[0];
    const double target = head.smooth ? (double)overlap * overlap : 1;
    rest_grad[OBJECTNESS] = (float)(head.objectness_factor * (rest[OBJECTNESS] - target));
    teach_any_class(rest, rest_grad, chosen, head);
    if (head.smooth) rest_grad[CLASS + chosen] = (float)(head.multipliers[chosen] * (rest[CLASS + chosen] - target));
    teach_box(values, grad, box, object, slot, cell, head);
}

// Every cell learns that it sees nothing, unless its box fits an object. grad is 0 before. For the rest see for_cells.
extern "C" __global__ void __launch_bounds__(256)
gaussian_yolo_background(const float* output, long long output_stride, float* grad, long long grad_stride,
                         const float* objects, const int* starts, const int* numbers, const double* constants,
                         float* shares) {
    const GaussianHead head(numbers, constants);
    const auto teach = [&](const float* values, float* gradient, const FloatBox& box, const Fit& best, int slot, int cell) {
        const float* object = objects + 5 * best.object;
        teach_background(values + REST, gradient + REST, object, best.overlap, head);
        if (best.overlap > (float)head.truth_thresh)
            teach_fitting(values, gradient, box.precise(), object, best.overlap, slot, cell, head);
    };
    for_cells(head, output, output_stride, grad, grad_stride, objects, starts, shares, teach);
}

// targets (objects, slots): the cell in which an object teaches a slot, or -1: that of its centre or corner; of a corner
// outside the picture, the outermost one. A thread for each.
extern "C" __global__ void __launch_bounds__(256)
gaussian_yolo_targets(const float* objects, const int* starts, int pictures, const int* numbers, const double* constants,
                      int* targets) {
    const GaussianHead head(numbers, constants);
    const float side = corner_side(head.point);
    find_targets(objects, starts, pictures, head, targets, [&](const float* object) {
        const int column = max(cell_along(object[1] + side * object[3] / 2, head.width), 0);
        return max(cell_along(object[2] + side * object[4] / 2, head.height), 0) * head.width + column;
    });
}

// Every object teaches its targets. See for_targets.
extern "C" __global__ void __launch_bounds__(256)
gaussian_yolo_teach(const float* output, long long output_stride, float* grad, long long grad_stride, const float* objects,
                    const int* starts, const int* owners, int pictures, const int* targets, const int* numbers,
                    const double* constants, float* shares) {
    const GaussianHead head(numbers, constants);
    const auto teach = [&](const float* values, float* gradient, const Box& box, const float* object, int slot, int cell) {
        const int chosen = (int)object[0];
        const float* rest = values + REST;
        float* rest_grad = gradient + REST;
        teach_box(values, gradient, box, object, slot, cell, head);
        rest_grad[OBJECTNESS] = (float)(head.multipliers[chosen] * head.objectness_factor * (rest[OBJECTNESS] - 1.0));
        teach_any_class(rest, rest_grad, chosen, head);
        return rest[CLASS + chosen];
    };
    for_targets(head, output, output_stride, grad, grad_stride, objects, starts, owners, pictures, targets, shares, teach);
}

// Sums of squares of the gradient's boxes, objectness and classes: shares (blocks, 3). A cell that several objects taught
// has its box's gradient divided by the number of its classes before. A warp for each cell.
extern "C" __global__ void __launch_bounds__(256)
gaussian_yolo_squares(float* grad, long long grad_stride, long long cells, const int* numbers, const double* constants,
                      float* shares) {
    const GaussianHead head(numbers, constants);
    add_squares(grad, grad_stride, cells, head.slots, head.channels(), GAUSSIAN_BOX, shares + 3 * blockIdx.x,
                [](const float*) { return true; });
}

// --- Boxes of one picture

// counts: how many of each 256 cells have an objectness above the threshold. channels: of a cell.
extern "C" __global__ void __launch_bounds__(256)
gaussian_yolo_count(const float* output, long long output_stride, int cells, int slots, int channels, float thresh,
                    int* counts) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const float* rest = output + index / slots * output_stride + index % slots * channels + REST;
    count_chosen(index < cells && rest[OBJECTNESS] > thresh, counts);
}

// found (all counts together, 5 + classes): x, y, w, h, objectness and probabilities, 0 unless above the threshold.
extern "C" __global__ void __launch_bounds__(256)
gaussian_yolo_pick(const float* output, long long output_stride, int cells, int slots, int channels, float thresh,
                   const int* counts, const double* anchors, int width, int height, int point, float* found) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const float* values = output + index / slots * output_stride + index % slots * channels;
    const bool is_chosen = index < cells && values[REST + OBJECTNESS] > thresh;
    const int place = chosen_before(is_chosen, counts);
    if (!is_chosen) return;
    const FloatBox box = gaussian_box(values, anchors + 2 * (index % slots), index / slots, width, height, point);
    float* result = found + (long long)place * (channels - REST);
    write_found(result, box, values + REST, channels - REST - CLASS, certainty_of(values), thresh);
}
