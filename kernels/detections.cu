// What all heads find in a batch of pictures, after non-maximum suppression class by class.
//
// Outputs lie as the heads' own files say. A slot of a position, or one of the boxes of a [detection] head's cell, is called a
// cell here; the cells of all heads of a picture are counted head by head, in the order of found.cuh. A candidate is a cell
// and a class that is probable enough in it. Four steps:
//   count    for each head: the candidates of each picture and class, and the boxes of cells that are confident
//   begin    where the candidates of each picture and class begin in one list of all
//   list     for each head: every candidate to its place in the list
//   suppress for each picture and class, a block of its own: sort by probability, then suppress, then write what remains
//
// A candidate is 8 bytes, a number that sorts as it should: the surest first, of equal ones the first cell. So the order
// in which blocks come to write does not matter, but for the last step's rows, which the host sorts.
//
// Suppression goes through the sorted candidates 32 at a time: within these a matrix of bits says who removes whom, and
// those that remain are compared with all later ones, a thread for each. With k candidates of a class of which r remain
// these are r * k pairs at most, some 20 flops each; a bitmask over all k * k pairs would be memory of its own, and most
// of it in vain.
//
// Count and list read the objectness of every cell (32 bytes each, what memory gives at once) and the classes of
// confident cells, twice: for 4 * (5 + classes) bytes of a cell a fraction of the output where few cells are confident. All
// cells of [detection], and of [region] without softmax, count as confident.
// Sorting k candidates is log(k)^2 / 2 steps, in shared memory up to 2,048. Not measured yet.
#include "found.cuh"

constexpr int SORTED_HERE = 2048;  // candidates that fit into shared memory
constexpr int TOGETHER = 32;       // candidates that are settled at a time
constexpr unsigned long long GONE = ~0ull;

// Ascending numbers for descending probabilities, which are above 0; equal ones by their cells.
__device__ __forceinline__ unsigned long long candidate(float probability, unsigned cell) {
    return (unsigned long long)~__float_as_uint(probability) << 32 | cell;
}
__device__ __forceinline__ float probability_of(unsigned long long key) { return __uint_as_float(~(unsigned)(key >> 32)); }
__device__ __forceinline__ unsigned cell_of(unsigned long long key) { return (unsigned)key; }

// --- Candidates

// Call body(cell) for every confident cell of a warp's threads: all its lanes together. All threads must come.
template <class Body> __device__ __forceinline__ void for_confident(int cell, bool is_confident, Body body) {
    for (unsigned rest = __ballot_sync(ALL_LANES, is_confident); rest; rest &= rest - 1)
        body(__shfl_sync(ALL_LANES, cell, __ffs(rest) - 1));
}

// The box relative to the picture, from one relative to the input: darkpy/boxes.py, from_middle. part: width and height
// of the picture relative to the input, then what is taken from x and y.
__device__ inline float4 in_picture(const FloatBox& box, const double* part) {
    const float across = (float)part[0], down = (float)part[1];
    return make_float4(box.x / across - (float)part[2], box.y / down - (float)part[3], box.w / across, box.h / down);
}

// A thread for each of the head's cells in picture blockIdx.y, the first of which is number `first` of the `total` of all
// heads. counts (n, classes), 0 before; boxes (n, total), written where the cell is confident.
extern "C" __global__ void __launch_bounds__(256)
detections_count(int kind, const float* output, long long stride, int cells, int slots, int classes, int width, int height,
                 int option, const double* anchors, const int* parents, float thresh, const double* parts, int first,
                 int total, int* counts, float* boxes) {
    const HeadOutput head = {kind, output, stride, cells, slots, classes, width, height, option, anchors, parents};
    const int index = blockIdx.x * blockDim.x + threadIdx.x, picture = blockIdx.y, own = index < cells ? index : 0;
    with_cells(head, picture, [&](auto cell_at) {
        const auto found = cell_at(own);
        const bool is_confident = index < cells && found.is_confident(thresh);
        if (is_confident)
            ((float4*)boxes)[(long long)picture * total + first + own] = in_picture(found.box(), parts + 4 * picture);
        for_confident(own, is_confident, [&](int cell) {
            cell_at(cell).for_classes(thresh, [&](int c, float) { atomicAdd(counts + picture * classes + c, 1); });
        });
    });
}

// starts (lists + 1): the sums of the counts before. counts become 0. One block. rows: see detections_suppress.
extern "C" __global__ void __launch_bounds__(256)
detections_begin(int* counts, int lists, long long* starts, float* rows) {
    __shared__ long long sums[256];
    const int each = (lists + blockDim.x - 1) / blockDim.x;
    const int first = min((int)threadIdx.x * each, lists), last = min(first + each, lists);
    long long mine = 0;
    for (int i = first; i < last; i++) mine += counts[i];
    sums[threadIdx.x] = mine;
    __syncthreads();
    for (int step = 1; step < blockDim.x; step *= 2) {
        const long long before = threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
        __syncthreads();
        sums[threadIdx.x] += before;
        __syncthreads();
    }
    long long place = sums[threadIdx.x] - mine;
    for (int i = first; i < last; i++) {
        starts[i] = place;
        place += counts[i];
        counts[i] = 0;
    }
    if (threadIdx.x == blockDim.x - 1) {
        starts[lists] = place;
        *(long long*)rows = place;
        ((int*)rows)[2] = 0;
    }
}

// keys (capacity,): the candidates, list by list; those beyond the capacity are left out. counts, 0 before.
extern "C" __global__ void __launch_bounds__(256)
detections_list(int kind, const float* output, long long stride, int cells, int slots, int classes, int width, int height,
                int option, const double* anchors, const int* parents, float thresh, int first, const long long* starts,
                int* counts, unsigned long long* keys, long long capacity) {
    const HeadOutput head = {kind, output, stride, cells, slots, classes, width, height, option, anchors, parents};
    const int index = blockIdx.x * blockDim.x + threadIdx.x, picture = blockIdx.y, own = index < cells ? index : 0;
    with_cells(head, picture, [&](auto cell_at) {
        const bool is_confident = index < cells && cell_at(own).is_confident(thresh);
        for_confident(own, is_confident, [&](int cell) {
            cell_at(cell).for_classes(thresh, [&](int c, float probability) {
                const int list = picture * classes + c;
                const long long place = starts[list] + atomicAdd(counts + list, 1);
                if (place < capacity) keys[place] = candidate(probability, first + cell);
            });
        });
    });
}

// --- Suppression

// Ascending, by the threads of a block: Batcher's bitonic network, whose first step of each merge is mirrored so that all
// exchanges go one way; then what lies beyond the end need not exist.
__device__ inline void sort(unsigned long long* keys, int count) {
    const auto exchange = [&](int low, int high) {
        if (high >= count || keys[low] <= keys[high]) return;
        const unsigned long long kept = keys[low];
        keys[low] = keys[high], keys[high] = kept;
    };
    for (int width = 2; width / 2 < count; width *= 2) {
        const int half = width / 2, pairs = (count + width - 1) / width * half;
        for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
            const int begin = i / half * width;
            exchange(begin + i % half, begin + width - 1 - i % half);
        }
        __syncthreads();
        for (int step = half / 2; step; step /= 2) {
            for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
                const int low = i / step * 2 * step + i % step;
                exchange(low, low + step);
            }
            __syncthreads();
        }
    }
}

// Whether two boxes (x, y, w, h) overlap too much: darkpy/boxes.py, _Overlap. exponent: of the distance between the
// centres; below 0 it does not matter. Products are rounded, so that it makes no difference which of the two comes first.
__device__ inline bool overlaps(const float4& a, const float4& b, float threshold, float exponent) {
    const float a_left = a.x - a.z / 2, a_right = a.x + a.z / 2, a_top = a.y - a.w / 2, a_bottom = a.y + a.w / 2;
    const float b_left = b.x - b.z / 2, b_right = b.x + b.z / 2, b_top = b.y - b.w / 2, b_bottom = b.y + b.w / 2;
    const float across = fminf(a_right, b_right) - fmaxf(a_left, b_left);
    const float down = fminf(a_bottom, b_bottom) - fmaxf(a_top, b_top);
    const float x = a.x - b.x, y = a.y - b.y;
    // Not a number: fminf and fmaxf would pass over it.
    if (!(across > 0 && down > 0) || x + y != x + y) return false;
    const float common = __fmul_rn(across, down);
    const float joined = __fmul_rn(a.z, a.w) + __fmul_rn(b.z, b.w) - common;
    const float overlap = joined != 0 ? common / joined : 0;
    if (!(overlap > threshold)) return false;
    if (exponent < 0) return true;
    const float wide = fmaxf(a_right, b_right) - fminf(a_left, b_left);
    const float high = fmaxf(a_bottom, b_bottom) - fminf(a_top, b_top);
    const float diagonal = __fmul_rn(wide, wide) + __fmul_rn(high, high);
    const float distance = diagonal != 0 ? (__fmul_rn(x, x) + __fmul_rn(y, y)) / diagonal : 0;
    return overlap - powf(distance, exponent) > threshold;
}

// Marks as gone every candidate that a surer one, which is not gone itself, overlaps. keys (count,) sorted; boxes: of the
// picture's cells.
__device__ inline void suppress(unsigned long long* keys, int count, const float4* boxes, float threshold, float exponent) {
    __shared__ float4 box[TOGETHER];
    __shared__ unsigned removes[TOGETHER];  // bit j of i: i removes j, a later one
    __shared__ unsigned waiting;
    for (int first = 0; first < count; first += TOGETHER) {
        __syncthreads();  // the marks of the round before
        if (threadIdx.x < TOGETHER) {
            const int i = first + threadIdx.x;
            const bool is_here = i < count && keys[i] != GONE;
            if (is_here) box[threadIdx.x] = boxes[cell_of(keys[i])];
            removes[threadIdx.x] = 0;
            const unsigned here = __ballot_sync(ALL_LANES, is_here);
            if (threadIdx.x == 0) waiting = here;
        }
        __syncthreads();
        unsigned alive = waiting;
        for (int pair = threadIdx.x; pair < TOGETHER * TOGETHER; pair += blockDim.x) {
            const int i = pair / TOGETHER, j = pair % TOGETHER;
            if (i < j && (alive >> i & 1) && (alive >> j & 1) && overlaps(box[i], box[j], threshold, exponent))
                atomicOr(removes + i, 1u << j);
        }
        __syncthreads();
        for (int i = 0; i < TOGETHER; i++)
            if (alive >> i & 1) alive &= ~removes[i];
        if (threadIdx.x < TOGETHER && (waiting & ~alive) >> threadIdx.x & 1) keys[first + threadIdx.x] = GONE;
        if (alive == 0) continue;
        for (int i = first + TOGETHER + threadIdx.x; i < count; i += blockDim.x) {
            if (keys[i] == GONE) continue;
            const float4 other = boxes[cell_of(keys[i])];
            for (unsigned rest = alive; rest; rest &= rest - 1) {
                if (!overlaps(box[__ffs(rest) - 1], other, threshold, exponent)) continue;
                keys[i] = GONE;
                break;
            }
        }
    }
    __syncthreads();
}

// Block (c, picture). threshold: of the overlap, 0 to keep all. rows (1 + most, 8): the first begins with two numbers, long
// and int: how many candidates there are, and how many remain; each further one is one that remains: picture, cell,
// class, probability, box. Nothing is done where there are more candidates than keys; rows beyond `most` are left out.
extern "C" __global__ void __launch_bounds__(256)
detections_suppress(const long long* starts, unsigned long long* keys, long long capacity, const float* boxes, int total,
                    float threshold, float exponent, float* rows, int most) {
    __shared__ unsigned long long sorted[SORTED_HERE];
    const int picture = blockIdx.y, list = picture * gridDim.x + blockIdx.x;
    const int count = (int)(starts[list + 1] - starts[list]);
    if (count == 0 || starts[gridDim.x * gridDim.y] > capacity) return;
    const float4* mine = (const float4*)boxes + (long long)picture * total;
    unsigned long long* found = keys + starts[list];
    if (threshold > 0 && count > 1) {
        if (count <= SORTED_HERE) {
            for (int i = threadIdx.x; i < count; i += blockDim.x) sorted[i] = found[i];
            found = sorted;
            __syncthreads();
        }
        sort(found, count);
        suppress(found, count, mine, threshold, exponent);
    }
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        if (found[i] == GONE) continue;
        const int row = atomicAdd((int*)rows + 2, 1);
        if (row >= most) continue;
        float* result = rows + 8 * (1 + (long long)row);
        ((int*)result)[0] = picture, ((int*)result)[1] = cell_of(found[i]), ((int*)result)[2] = blockIdx.x;
        result[3] = probability_of(found[i]);
        ((float4*)result)[1] = mine[cell_of(found[i])];
    }
}
