// How well two boxes fit and how to make them fit better: darkpy/backends/numpy/yolo_cells.py in double precision. Some
// hundred flops each, for the few boxes that learn an object.
#pragma once

struct Box {
    double x, y, w, h;  // centre and size
};

struct FloatBox {
    float x, y, w, h;
    __device__ Box precise() const { return {x, y, w, h}; }
};

enum Measure { MSE, IOU, GIOU, DIOU, CIOU };  // BoxMeasure

constexpr double PI = 3.14159265358979323846;

// What a box and its target have in common on one axis, and how that changes as the box moves and as its sides move
// outwards.
struct Axis {
    double common, enclosing;
    int common_moved, common_grown, enclosing_moved, enclosing_grown;
};

__device__ inline Axis along(double center, double size, double target_center, double target_size) {
    const double low = center - size / 2, high = center + size / 2;
    const double target_low = target_center - target_size / 2, target_high = target_center + target_size / 2;
    const int inner_low = low > target_low, inner_high = high < target_high;
    const int outer_low = low < target_low, outer_high = high > target_high;
    return {fmin(high, target_high) - fmax(low, target_low),
            fmax(high, target_high) - fmin(low, target_low),
            inner_high - inner_low,
            inner_high + inner_low,
            outer_high - outer_low,
            outer_high + outer_low};
}

// Squared distance of the centres as a share of the squared diagonal of the enclosing box.
__device__ inline double relative_distance(const Box& box, const Box& target, const Axis& across, const Axis& down) {
    const double x = box.x - target.x, y = box.y - target.y;
    return (x * x + y * y) / (across.enclosing * across.enclosing + down.enclosing * down.enclosing);
}

// Difference of the angles whose tangent is width / height.
__device__ inline double aspect_error(const Box& box, const Box& target) {
    return atan2(target.w, target.h) - atan2(box.w, box.h);
}

__device__ inline double similarity(const Box& box, const Box& target, int measure) {
    const Axis across = along(box.x, box.w, target.x, target.w), down = along(box.y, box.h, target.y, target.h);
    const double intersection = fmax(across.common, 0.0) * fmax(down.common, 0.0);
    const double joined = box.w * box.h + target.w * target.h - intersection;
    const double overlap = joined > 0 ? intersection / joined : 0;
    const double enclosing = across.enclosing * down.enclosing;
    if (measure == IOU || !(enclosing > 0)) return overlap;
    if (measure == GIOU) return overlap - (enclosing - joined) / enclosing;
    const double distance = relative_distance(box, target, across, down);
    if (measure == DIOU) return overlap - pow(distance, 0.6);
    const double angle = aspect_error(box, target), aspect = angle * angle * 4 / (PI * PI);
    return overlap - distance - aspect * aspect / (1 - overlap + aspect + 1e-6);
}

__device__ inline double quotient_change(double numerator, double numerator_change, double denominator,
                                         double denominator_change) {
    return (denominator * numerator_change - numerator * denominator_change) / (denominator * denominator);
}

// Change of the IoU, or GIoU, as the box moves along an axis, and as its two sides there move outwards.
__device__ inline void axis_gradient(const Axis& own, const Axis& other, double other_size, double intersection,
                                     double joined, int measure, double& move, double& grow) {
    const double common_moved = other.common * own.common_moved, common_grown = other.common * own.common_grown;
    const double joined_moved = -common_moved, joined_grown = 2 * other_size - common_grown;
    const bool overlapping = own.common > 0 && other.common > 0;
    move = grow = 0;
    if (joined > 0 && (overlapping || measure == IOU)) {
        move = quotient_change(intersection, common_moved, joined, joined_moved);
        grow = quotient_change(intersection, common_grown, joined, joined_grown);
    }
    if (measure == GIOU) {
        const double enclosing = own.enclosing * other.enclosing;
        move += quotient_change(joined, joined_moved, enclosing, other.enclosing * own.enclosing_moved);
        grow += quotient_change(joined, joined_grown, enclosing, other.enclosing * own.enclosing_grown);
    }
}

// The direction in which x, y, w, h improve the measure, as Darknet has it.
__device__ inline Box box_gradient(Box box, const Box& target, int measure) {
    if (box.w == 0) box.w = 1;
    if (box.h == 0) box.h = 1;
    const Axis across = along(box.x, box.w, target.x, target.w), down = along(box.y, box.h, target.y, target.h);
    // Not cut at 0: apart in one direction the intersection is negative, apart in both it is positive.
    const double intersection = across.common * down.common;
    const double joined = box.w * box.h + target.w * target.h - intersection;
    Box ascent;
    axis_gradient(across, down, box.h, intersection, joined, measure, ascent.x, ascent.w);
    axis_gradient(down, across, box.w, intersection, joined, measure, ascent.y, ascent.h);
    if (measure == DIOU || measure == CIOU) {
        const double distance = relative_distance(box, target, across, down);
        const double diagonal = across.enclosing * across.enclosing + down.enclosing * down.enclosing;
        ascent.x += 2 * (target.x - box.x - across.enclosing * across.enclosing_moved * distance) / diagonal;
        ascent.y += 2 * (target.y - box.y - down.enclosing * down.enclosing_moved * distance) / diagonal;
        ascent.w += across.enclosing * across.enclosing_grown * distance / diagonal;
        ascent.h += down.enclosing * down.enclosing_grown * distance / diagonal;
    }
    if (measure == CIOU) {
        const double angle = aspect_error(box, target), aspect = angle * angle * 4 / (PI * PI);
        const double overlap = joined != 0 ? intersection / joined : 0;
        const double inverse = 1 - overlap + aspect + 1e-6;
        const double pull = inverse != 0 ? 8 / (PI * PI) * angle * aspect / inverse : 0;
        ascent.w += pull * box.h;
        ascent.h -= pull * box.w;
    }
    return ascent;
}

// The value within +-limit; 0 for one that is no number or beyond single precision.
__device__ inline double limited(double value, double limit) {
    return fabs(value) <= 3.4e38 ? fmax(-limit, fmin(limit, value)) : 0;
}
