// Bringing the operands of a convolution to shared memory, a step along K at a time. M, N, K, A and B:
//
//                 M            N                     K                     A                     B
//   forward       positions    filters               size * size * c       pixels of x           weights
//   input grad    pixels of x  channels              size * size * f       positions of grad     weights
//   weight grad   filters      size * size * c       positions             grad, transposed      pixels of x
//
// A step is 64 bytes of elements along K (16 floats, 32 halves). In shared memory it lies in one of two forms, cut into chunks
// of 16 bytes:
//   along K   row = place along M or N, 64 bytes of it:  chunk c of row r lies at 64 r + 16 (c ^ (r / 2 % 4))
//   across    row = place along K, SIDE elements of it:  chunk c of row k lies at k SIDE sizeof(element) + 16 (c ^ s(k)),
//             s(k) = k % 8 for 16-bit elements, 2 (k % 4) for floats
// An operand lies along K if neighbours along K are neighbours in global memory, else across; so chunks are copied whole.
// The exclusive-or lets what a warp reads at once lie in different banks.
#pragma once

#include "convolution.cuh"
#include "copies.cuh"
#include "element.cuh"

constexpr int STEP_BYTES = 64;                    // of a row of A, or a column of B, per step along K
constexpr int BK = STEP_BYTES / sizeof(element);  // the same in elements
constexpr int CHUNK = 16 / sizeof(element);       // elements that are copied at once
constexpr bool IS_FLOAT = sizeof(element) == 4;

// --- Numbers with three digits: a tap's row, its column and a channel; a picture, a row and a column.

struct Digits {
    int high, middle, low;
};

struct Radix {
    int middle, low;
    __device__ __forceinline__ Digits digits(int number) const {
        const int rest = number / low, high = rest / middle;
        return {high, rest - high * middle, number - rest * low};
    }
    // Add what has been divided before.
    __device__ __forceinline__ void add(Digits& to, const Digits& step) const {
        to.low += step.low;
        to.middle += step.middle;
        to.high += step.high;
        if (to.low >= low) to.low -= low, to.middle++;
        if (to.middle >= middle) to.middle -= middle, to.high++;
    }
    __device__ __forceinline__ void add_one(Digits& to) const {
        if (++to.low < low) return;
        to.low = 0;
        if (++to.middle < middle) return;
        to.middle = 0;
        to.high++;
    }
};

// --- Bringing operands to shared memory.

// Which chunks of a tile of SIDE rows or columns a thread brings, and where they lie.
template <class T, int SIDE, bool ALONG_K_> struct Share {
    static constexpr bool ALONG_K = ALONG_K_;
    static constexpr int LENGTH = SIDE;
    static constexpr int ACROSS = ALONG_K ? STEP_BYTES / 16 : SIDE / CHUNK;
    static constexpr int DOWN = T::THREADS / ACROSS;
    static constexpr int COUNT = (ALONG_K ? SIDE : BK) / DOWN;
    static_assert(T::THREADS % ACROSS == 0 && COUNT >= 1 && COUNT * DOWN == (ALONG_K ? SIDE : BK));
    // Rows after which places in shared memory differ by an addition: see place().
    static constexpr int PERIOD = !ALONG_K && IS_FLOAT ? 4 : 8, ROW_BYTES = ALONG_K ? STEP_BYTES : SIDE * (int)sizeof(element);
    __device__ static __forceinline__ int row(int i) { return threadIdx.x / ACROSS + i * DOWN; }
    __device__ static __forceinline__ int chunk() { return threadIdx.x % ACROSS; }
    // Of the thread's chunk of a number.
    __device__ static __forceinline__ int own_place(int i) {
        if constexpr (DOWN % PERIOD == 0) return place(row(0), chunk()) + i * DOWN * ROW_BYTES;
        return place(row(i), chunk());
    }
    __device__ static __forceinline__ int place(int row, int chunk) {
        if constexpr (ALONG_K) return row * STEP_BYTES + ((chunk ^ (row / 2 % 4)) << 4);
        return row * ROW_BYTES + ((chunk ^ (IS_FLOAT ? row % 4 * 2 : row % 8)) << 4);
    }
};

// So many rows further on, each of so many bytes: one instruction where the compiler would make several.
__device__ __forceinline__ const element* rows_on(const element* from, int rows, int bytes) {
#ifdef HOSTCUDA
    return reinterpret_cast<const element*>(reinterpret_cast<const char*>(from) + (long long)rows * bytes);
#else
    const element* found;
    asm("mad.wide.s32 %0, %1, %2, %3;" : "=l"(found) : "r"(rows), "r"(bytes), "l"(from));
    __builtin_assume(__isGlobal(found));
    return found;
#endif
}

struct alignas(16) Chunk {
    element values[CHUNK];
};

// Where the chunks of a thread's share go. bring(): 16 bytes of global memory, or zeros: nothing is read then. keep(): a chunk
// that the thread has put together.
template <class S> struct ToShared {
    char* tile;

    __device__ __forceinline__ void bring(int i, const element* from, bool exists) const {
        copy_async(tile + S::own_place(i), from, exists ? 16 : 0);
    }
    __device__ __forceinline__ void keep(int i, const Chunk& chunk) const {
        *reinterpret_cast<Chunk*>(tile + S::own_place(i)) = chunk;
    }
};

// Where nothing is copied past registers they may wait there, until store() puts them into shared memory.
template <class S> struct InRegisters {
    uint4 chunks[S::COUNT];

    __device__ __forceinline__ void bring(int i, const element* from, bool exists) {
        chunks[i] = make_uint4(0, 0, 0, 0);
        if (exists) chunks[i] = *reinterpret_cast<const uint4*>(from);
    }
    __device__ __forceinline__ void keep(int i, const Chunk& chunk) { memcpy(&chunks[i], &chunk, sizeof chunk); }
    __device__ __forceinline__ void store(char* tile) const {
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) *reinterpret_cast<uint4*>(tile + S::own_place(i)) = chunks[i];
    }
};

// The bits of a kernel's argument `vectors`: which arrays can be read and written 16 bytes at a time; first and second operand,
// result, residual.
enum Vectors { FIRST = 1, SECOND = 2, RESULT = 4, RESIDUAL = 8 };

// In all that follow: begin(first, k) says which rows of M or N, and where along K; fetch(to) brings a step and goes on
// to the next. VECTORS: chunks are aligned in global memory; else whether they are is told by `vectors`, and they are
// gathered element by element if not.

// The taps of a kernel that meet a picture: (count_y, count_x) of them, the first with a distance of (y, x) from the
// corner and the number `tap` among the weights, the others further by the steps.
struct Taps {
    int count_y, count_x, y, x, y_step, x_step, tap, tap_step_y, tap_step_x;
    __device__ int depth(int channels) const { return count_y * count_x * channels; }
};

// A corner of a patch: the position of the first tap at a distance of 0, and the row of the source that would be.
struct Corner {
    int row, y, x;
};

constexpr int NOWHERE = -(1 << 28);

// Positions times taps and channels, along K: patches of a picture under the kernel.
template <class T, int SIDE, bool VECTORS> struct Patches : Share<T, SIDE, true> {
    using S = Share<T, SIDE, true>;
    const element* source;
    int stride, height, width;
    Taps taps;
    Radix radix;  // a tap's row, its column, a channel
    int vectors;
    Corner corners[S::COUNT];
    Digits at, step;

    // corner(m): the corner of the m-th row.
    template <class CornerOf> __device__ void begin(int first, int k, CornerOf corner) {
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) corners[i] = corner(first + S::row(i));
        at = radix.digits(k + S::chunk() * CHUNK);
        step = radix.digits(BK);
    }
    // Where row i finds a tap, if it lies in the picture.
    __device__ __forceinline__ bool find(const Corner& corner, const Digits& digits, const element*& from) const {
        const int dy = taps.y + digits.high * taps.y_step, dx = taps.x + digits.middle * taps.x_step;
        from = rows_on(source + digits.low, corner.row + dy * width + dx, stride * (int)sizeof(element));
        return digits.high < taps.count_y && (unsigned)(corner.y + dy) < (unsigned)height &&
               (unsigned)(corner.x + dx) < (unsigned)width;
    }
    template <class To> __device__ __forceinline__ void fetch(To& to) {
        if (VECTORS || vectors) {
#pragma unroll
            for (int i = 0; i < S::COUNT; i++) {
                const element* from;
                const bool exists = find(corners[i], at, from);
                to.bring(i, from, exists);
            }
        } else {
#pragma unroll
            for (int i = 0; i < S::COUNT; i++) {
                Chunk chunk;
                Digits digits = at;
                const element* from;
                if (digits.low + CHUNK <= radix.low) {  // all of one tap
                    const bool exists = find(corners[i], digits, from);
#pragma unroll
                    for (int e = 0; e < CHUNK; e++) chunk.values[e] = exists ? from[e] : rounded<element>(0);
                } else {
#pragma unroll
                    for (int e = 0; e < CHUNK; e++) {
                        chunk.values[e] = find(corners[i], digits, from) ? *from : rounded<element>(0);
                        radix.add_one(digits);
                    }
                }
                to.keep(i, chunk);
            }
        }
        radix.add(at, step);
    }
};

// Rows of a matrix along K, as they lie in memory.
template <class T, int SIDE, bool VECTORS> struct Rows : Share<T, SIDE, true> {
    using S = Share<T, SIDE, true>;
    const element* matrix;
    int count, length;  // of rows, and of each
    int vectors;
    int first, k;

    __device__ void begin(int first_, int k_) { first = first_, k = k_ + S::chunk() * CHUNK; }
    template <class To> __device__ __forceinline__ void fetch(To& to) {
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) {
            const int row = first + S::row(i);
            const element* from = rows_on(matrix + k, row, length * (int)sizeof(element));
            if (VECTORS || vectors) {
                to.bring(i, from, row < count && k < length);
            } else {
                Chunk chunk;
#pragma unroll
                for (int e = 0; e < CHUNK; e++) chunk.values[e] = row < count && k + e < length ? from[e] : rounded<element>(0);
                to.keep(i, chunk);
            }
        }
        k += BK;
    }
};

// Some neighbours of a row of `length`, of which there may be fewer than a chunk has.
template <bool VECTORS, class To>
__device__ __forceinline__ void bring_across(To& to, int i, const element* from, int column, int length, bool exists,
                                             int vectors) {
    if (VECTORS || vectors) {
        to.bring(i, from, exists && column < length);
    } else {
        Chunk chunk;
#pragma unroll
        for (int e = 0; e < CHUNK; e++) chunk.values[e] = exists && column + e < length ? from[e] : rounded<element>(0);
        to.keep(i, chunk);
    }
}

// Taps and filters times channels, across: the weights (filters, size * size, channels) as the input gradient reads them.
template <class T, int SIDE, bool VECTORS> struct Backwards : Share<T, SIDE, false> {
    using S = Share<T, SIDE, false>;
    const element* weights;
    int channels, all_taps;
    Taps taps;
    Radix radix;  // a tap's row, its column, a filter
    int vectors;
    int channel;
    Digits at, down;  // of the thread's next row, and from each to the next; the last of a step is followed by the first

    __device__ void begin(int first, int k) {
        channel = first + S::chunk() * CHUNK;
        at = radix.digits(k + S::row(0));
        down = radix.digits(S::DOWN);
        static_assert(S::COUNT * S::DOWN == BK);
    }
    template <class To> __device__ __forceinline__ void fetch(To& to) {
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) {
            const int tap = taps.tap + at.high * taps.tap_step_y + at.middle * taps.tap_step_x;
            const element* from = rows_on(weights + channel, at.low * all_taps + tap, channels * (int)sizeof(element));
            bring_across<VECTORS>(to, i, from, channel, channels, at.high < taps.count_y, vectors);
            radix.add(at, down);
        }
    }
};

// Positions times filters, across: the gradient of the output.
template <class T, int SIDE, bool VECTORS> struct Gradients : Share<T, SIDE, false> {
    using S = Share<T, SIDE, false>;
    const element* grad_out;
    int stride;
    int filters, last;  // position
    int vectors;
    int filter, position;

    __device__ void begin(int first, int k) { filter = first + S::chunk() * CHUNK, position = k; }
    template <class To> __device__ __forceinline__ void fetch(To& to) {
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) {
            const int k = position + S::row(i);
            bring_across<VECTORS>(to, i, rows_on(grad_out + filter, k, stride * (int)sizeof(element)), filter, filters, k < last,
                                  vectors);
        }
        position += BK;
    }
};

// Positions times taps and channels, across: pixels under the taps.
template <class T, int SIDE, bool VECTORS> struct PixelsUnderTaps : Share<T, SIDE, false> {
    using S = Share<T, SIDE, false>;
    const element* x;
    Convolution s;
    Radix radix;  // a picture, a row and a column of the output
    int last;     // position
    int vectors;
    int position;
    Digits tap, at, down;  // tap: its row, its column, a channel; at, down: as in Backwards

    __device__ void begin(int first, int k) {
        tap = Radix{s.size, s.channels}.digits(first + S::chunk() * CHUNK);
        position = k;
        at = radix.digits(k + S::row(0));
        down = radix.digits(S::DOWN);
    }
    __device__ __forceinline__ bool find(const Digits& place, const Digits& tap, const element*& from) const {
        const int y = place.middle * s.stride_y - s.padding + tap.high * s.dilation;
        const int column = place.low * s.stride_x - s.padding + tap.middle * s.dilation;
        from = rows_on(x + tap.low, (place.high * s.height + y) * s.width + column, (int)s.x_stride * (int)sizeof(element));
        return tap.high < s.size && (unsigned)y < (unsigned)s.height && (unsigned)column < (unsigned)s.width;
    }
    template <class To> __device__ __forceinline__ void fetch(To& to) {
#pragma unroll
        for (int i = 0; i < S::COUNT; i++) {
            const bool exists = position + S::row(i) < last;
            const element* from;
            if (VECTORS || vectors) {
                const bool is_inside = find(at, tap, from);
                to.bring(i, from, is_inside && exists);
            } else {
                Chunk chunk;
                Digits digits = tap;
#pragma unroll
                for (int e = 0; e < CHUNK; e++) {
                    chunk.values[e] = find(at, digits, from) && exists ? *from : rounded<element>(0);
                    Radix{s.size, s.channels}.add_one(digits);
                }
                to.keep(i, chunk);
            }
            radix.add(at, down);
        }
        position += BK;
    }
};
