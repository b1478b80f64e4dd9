// Pooling, enlarging and shrinking of pictures (n, h, w, c).
//
// A thread makes an output value, or four of neighbouring channels. Per output value: maximum size^2 reads (mostly from
// the cache), one write and one byte for the winner; its backward reads, for every input value, the windows that cover
// it, so that nothing is added atomically and results do not depend on the order of work. All memory bound; a backward
// pass with windows of 9 or 13 and stride 1 is not: 81 or 169 reads. Not measured yet.
#include "elementwise.cuh"

// A picture's position by its number, row by row, picture after picture.
struct Position {
    long long picture;
    int y, x;
};

__device__ __forceinline__ Position position_of(long long row, int height, int width) {
    const long long line = row / width;
    return {line / height, (int)(line % height), (int)(row - line * width)};
}

// Winners are numbers of places in the window, row * size + column, of one byte where that is enough, else of four.
struct Winners {
    void* data;
    int bytes;
    __device__ void set(long long i, int place) const {
        if (bytes == 1)
            ((unsigned char*)data)[i] = (unsigned char)place;
        else if (bytes == 4)
            ((int*)data)[i] = place;
    }
    __device__ int get(long long i) const { return bytes == 1 ? ((unsigned char*)data)[i] : ((int*)data)[i]; }
};

// out: rows of all its positions. winners may be null. Of equal values the first wins; what is not a number wins too.
extern "C" __global__ void __launch_bounds__(256)
maxpool_forward(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long channels,
                int by_four, int height, int width, int out_height, int out_width, int size, int stride_y, int stride_x,
                int offset, unsigned char* winners, int winner_bytes) {
    const Winners places = {winners, winners ? winner_bytes : 0};
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto lanes) {
        const Position at = position_of(row, out_height, out_width);
        const int top = at.y * stride_y - offset, left = at.x * stride_x - offset;
        const int last_y = min(top + size, height), last_x = min(left + size, width);
        Values<lanes.value> best;
        int place[lanes.value];
        bool is_first = true;
#pragma unroll
        for (int i = 0; i < lanes.value; i++) best[i] = 0, place[i] = 0;
        for (int y = max(top, 0); y < last_y; y++)
            for (int column = max(left, 0); column < last_x; column++) {
                const auto values = load(x + ((at.picture * height + y) * width + column) * x_stride + c, lanes);
                const int here = (y - top) * size + column - left;
#pragma unroll
                for (int i = 0; i < lanes.value; i++)
                    if (is_first || values[i] > best[i] || values[i] != values[i]) best[i] = values[i], place[i] = here;
                is_first = false;
            }
        store(out + row * out_stride + c, best);
#pragma unroll
        for (int i = 0; i < lanes.value; i++) places.set(row * channels + c + i, place[i]);
    });
}

// The windows along one axis that cover an input position.
struct Covering {
    int first, last;
};

__device__ __forceinline__ Covering covering(int position, int offset, int size, int stride, int outputs) {
    const int reach = position + offset - size + 1;  // the first window starts here or later
    return {reach > 0 ? (reach + stride - 1) / stride : 0, min((position + offset) / stride, outputs - 1)};
}

// grad_x: rows of all its positions; height and width are those of grad_x.
extern "C" __global__ void __launch_bounds__(256)
maxpool_backward(const element* grad_out, long long grad_out_stride, element* grad_x, long long grad_x_stride, long long rows,
                 long long channels, int height, int width, int out_height, int out_width, int size, int stride_y,
                 int stride_x, int offset, const unsigned char* winners, int winner_bytes, int accumulate) {
    const Winners places = {(void*)winners, winner_bytes};
    over_rows(rows, channels, 0, [&](long long row, long long c, auto lanes) {
        const Position at = position_of(row, height, width);
        const Covering down = covering(at.y, offset, size, stride_y, out_height);
        const Covering across = covering(at.x, offset, size, stride_x, out_width);
        float sum = 0;
        for (int y = down.first; y <= down.last; y++)
            for (int column = across.first; column <= across.last; column++) {
                const long long window = (at.picture * out_height + y) * out_width + column;
                const int here = (at.y - y * stride_y + offset) * size + at.x - column * stride_x + offset;
                if (places.get(window * channels + c) == here) sum += to_float(grad_out[window * grad_out_stride + c]);
            }
        put(grad_x + row * grad_x_stride + c, sum, accumulate);
    });
}

// out[k] = the largest of the channels k, k + outputs, ...; winners (rows, outputs) says which.
extern "C" __global__ void __launch_bounds__(256)
depth_maxpool_forward(const element* x, long long x_stride, element* out, long long out_stride, long long rows, int channels,
                      int outputs, int* winners) {
    over_all(rows * outputs, [&](long long i) {
        const long long row = i / outputs;
        const int k = (int)(i - row * outputs);
        float best = to_float(x[row * x_stride + k]);
        int place = k;
        for (int c = k + outputs; c < channels; c += outputs) {
            const float value = to_float(x[row * x_stride + c]);
            if (value > best || value != value) best = value, place = c;
        }
        put(out + row * out_stride + k, best);
        if (winners) winners[i] = place;
    });
}

extern "C" __global__ void __launch_bounds__(256)
depth_maxpool_backward(const element* grad_out, long long grad_out_stride, element* grad_x, long long grad_x_stride,
                       long long rows, int channels, int outputs, const int* winners, int accumulate) {
    over_all(rows * channels, [&](long long i) {
        const long long row = i / channels;
        const int c = (int)(i - row * channels), k = c % outputs;
        const float gradient = winners[row * outputs + k] == c ? to_float(grad_out[row * grad_out_stride + k]) : 0;
        put(grad_x + row * grad_x_stride + c, gradient, accumulate);
    });
}

// --- Means of windows; positions outside the picture are not counted.

__device__ __forceinline__ int inside(int start, int size, int length) {
    return min(start + size, length) - max(start, 0);
}

extern "C" __global__ void __launch_bounds__(256)
local_avgpool_forward(const element* x, long long x_stride, element* out, long long out_stride, long long rows,
                      long long channels, int height, int width, int out_height, int out_width, int size, int stride_y,
                      int stride_x, int offset) {
    over_rows(rows, channels, 0, [&](long long row, long long c, auto lanes) {
        const Position at = position_of(row, out_height, out_width);
        const int top = at.y * stride_y - offset, left = at.x * stride_x - offset;
        float sum = 0;
        for (int y = max(top, 0); y < min(top + size, height); y++)
            for (int column = max(left, 0); column < min(left + size, width); column++)
                sum += to_float(x[((at.picture * height + y) * width + column) * x_stride + c]);
        const int down = inside(top, size, height), across = inside(left, size, width);
        put(out + row * out_stride + c, down > 0 && across > 0 ? sum / (down * across) : 0);
    });
}

extern "C" __global__ void __launch_bounds__(256)
local_avgpool_backward(const element* grad_out, long long grad_out_stride, element* grad_x, long long grad_x_stride,
                       long long rows, long long channels, int height, int width, int out_height, int out_width, int size,
                       int stride_y, int stride_x, int offset, int accumulate) {
    over_rows(rows, channels, 0, [&](long long row, long long c, auto lanes) {
        const Position at = position_of(row, height, width);
        const Covering down = covering(at.y, offset, size, stride_y, out_height);
        const Covering across = covering(at.x, offset, size, stride_x, out_width);
        float sum = 0;
        for (int y = down.first; y <= down.last; y++)
            for (int column = across.first; column <= across.last; column++) {
                const int values = inside(y * stride_y - offset, size, height) * inside(column * stride_x - offset, size, width);
                sum += to_float(grad_out[((at.picture * out_height + y) * out_width + column) * grad_out_stride + c]) / values;
            }
        put(grad_x + row * grad_x_stride + c, sum, accumulate);
    });
}

// --- Whole pictures.

constexpr int ACROSS = 32, DOWN = 8;

// out (pictures, channels) = scale * the sum over a picture's positions of a, or of a * b (b may be null), or += .
// A block for 32 channels of a picture.
extern "C" __global__ void __launch_bounds__(256)
picture_sums(const element* a, long long a_stride, const element* b, long long b_stride, element* out, long long out_stride,
             int positions, int channels, float scale, int accumulate) {
    __shared__ float shared[DOWN][ACROSS];
    const int c = blockIdx.x * ACROSS + threadIdx.x;
    const long long first = (long long)blockIdx.y * positions;
    float sum = 0;
    if (c < channels)
        for (long long row = first + threadIdx.y; row < first + positions; row += DOWN)
            sum += to_float(a[row * a_stride + c]) * (b ? to_float(b[row * b_stride + c]) : 1);
    shared[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || c >= channels) return;
    sum = 0;
    for (int i = 0; i < DOWN; i++) sum += shared[i][threadIdx.x];
    put(out + blockIdx.y * out_stride + c, scale * sum, accumulate);
}

// grad_x = scale * the picture's one value, at every position.
extern "C" __global__ void __launch_bounds__(256)
spread_over_picture(const element* values, long long values_stride, element* out, long long out_stride, long long rows,
                    long long channels, int by_four, int positions, float scale, int accumulate) {
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto lanes) {
        auto found = load(values + row / positions * values_stride + c, lanes);
#pragma unroll
        for (int i = 0; i < lanes.value; i++) found[i] *= scale;
        store(out + row * out_stride + c, found, accumulate);
    });
}

// --- Blocks of stride x stride.

// out = scale * the value of x whose block it lies in; 0 where there is none.
extern "C" __global__ void __launch_bounds__(256)
enlarge(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long channels,
        int by_four, int height, int width, int out_height, int out_width, int stride, float scale, int accumulate) {
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto lanes) {
        const Position at = position_of(row, out_height, out_width);
        const int y = at.y / stride, column = at.x / stride;
        Values<lanes.value> values;
        const bool is_inside = y < height && column < width;
        if (is_inside) values = load(x + ((at.picture * height + y) * width + column) * x_stride + c, lanes);
#pragma unroll
        for (int i = 0; i < lanes.value; i++) values[i] = is_inside ? scale * values[i] : 0;
        store(out + row * out_stride + c, values, accumulate);
    });
}

// out = scale * the sum of its block of x.
extern "C" __global__ void __launch_bounds__(256)
sum_blocks(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long channels,
           int by_four, int height, int width, int out_height, int out_width, int stride, float scale, int accumulate) {
    over_rows(rows, channels, by_four, [&](long long row, long long c, auto lanes) {
        const Position at = position_of(row, out_height, out_width);
        Values<lanes.value> sum = {};
        for (int dy = 0; dy < stride; dy++)
            for (int dx = 0; dx < stride; dx++) {
                const long long place = (at.picture * height + at.y * stride + dy) * width + at.x * stride + dx;
                const auto values = load(x + place * x_stride + c, lanes);
#pragma unroll
                for (int i = 0; i < lanes.value; i++) sum[i] += values[i];
            }
#pragma unroll
        for (int i = 0; i < lanes.value; i++) sum[i] *= scale;
        store(out + row * out_stride + c, sum, accumulate);
    });
}
