// Copies, with a factor, a summand, and adding to what is there; also from one type of numbers to another.
//
// 4 to 12 bytes of traffic and at most 2 flops per element: memory bound. Not measured yet.
#include "elementwise.cuh"
#include "reduce.cuh"

// out = scale * x + shift, or += : rows of columns, any distance between rows.
template <class From, class To>
__device__ __forceinline__ void scale_elements(const From* x, long long x_stride, To* out, long long out_stride,
                                               long long rows, long long columns, int by_four, float scale, float shift,
                                               int accumulate) {
    over_rows(rows, columns, by_four, [&](long long row, long long column, auto width) {
        auto values = load(x + row * x_stride + column, width);
#pragma unroll
        for (int i = 0; i < width.value; i++) values[i] = scale * values[i] + shift;
        store(out + row * out_stride + column, values, accumulate);
    });
}

extern "C" __global__ void __launch_bounds__(256)
scale_rows(const element* x, long long x_stride, element* out, long long out_stride, long long rows, long long columns,
           int by_four, float scale, float shift, int accumulate) {
    scale_elements(x, x_stride, out, out_stride, rows, columns, by_four, scale, shift, accumulate);
}

extern "C" __global__ void __launch_bounds__(256)
scale_rows_from_float(const float* x, long long x_stride, element* out, long long out_stride, long long rows,
                      long long columns, int by_four, float scale, float shift, int accumulate) {
    scale_elements(x, x_stride, out, out_stride, rows, columns, by_four, scale, shift, accumulate);
}

extern "C" __global__ void __launch_bounds__(256)
scale_rows_to_float(const element* x, long long x_stride, float* out, long long out_stride, long long rows,
                    long long columns, int by_four, float scale, float shift, int accumulate) {
    scale_elements(x, x_stride, out, out_stride, rows, columns, by_four, scale, shift, accumulate);
}

// Each block leaves the number of its elements that are NaN or infinite. Blocks of 256 threads, x only.
extern "C" __global__ void __launch_bounds__(256)
count_not_finite(const element* x, long long x_stride, long long rows, long long columns, float* shares) {
    float count = 0;
    over_all(rows * columns, [&](long long i) { count += !isfinite(to_float(x[i / columns * x_stride + i % columns])); });
    count = block_sum(count);
    if (threadIdx.x == 0) shares[blockIdx.x] = count;
}

// Two arrays of six axes of the same lengths l, with strides a and b, in elements.
struct Axes {
    int l[6];
    long long a[6], b[6];

    __device__ long long count() const { return (long long)l[0] * l[1] * l[2] * l[3] * l[4] * l[5]; }
    // Where element number i lies in both.
    __device__ void places(long long i, long long& from, long long& to) const {
        from = to = 0;
        for (int axis = 5; axis >= 0; axis--) {
            const long long place = i % l[axis];
            i /= l[axis];
            from += place * a[axis];
            to += place * b[axis];
        }
    }
};

// out = scale * x + shift, or += , wherever the elements lie.
template <class From, class To>
__device__ void scale_moved(const From* x, To* out, const Axes& axes, float scale, float shift, int accumulate) {
    over_all(axes.count(), [&](long long i) {
        long long from, to;
        axes.places(i, from, to);
        put(out + to, scale * to_float(x[from]) + shift, accumulate);
    });
}

extern "C" __global__ void __launch_bounds__(256)
move_element(const element* x, element* out, int l0, int l1, int l2, int l3, int l4, int l5, long long a0, long long a1, long long a2,
             long long a3, long long a4, long long a5, long long b0, long long b1, long long b2, long long b3,
             long long b4, long long b5, float scale, float shift, int accumulate) {
    scale_moved(x, out, Axes{{l0, l1, l2, l3, l4, l5}, {a0, a1, a2, a3, a4, a5}, {b0, b1, b2, b3, b4, b5}}, scale, shift,
                  accumulate);
}

extern "C" __global__ void __launch_bounds__(256)
move_from_float(const float* x, element* out, int l0, int l1, int l2, int l3, int l4, int l5, long long a0, long long a1, long long a2,
                long long a3, long long a4, long long a5, long long b0, long long b1, long long b2, long long b3,
                long long b4, long long b5, float scale, float shift, int accumulate) {
    scale_moved(x, out, Axes{{l0, l1, l2, l3, l4, l5}, {a0, a1, a2, a3, a4, a5}, {b0, b1, b2, b3, b4, b5}}, scale, shift,
                     accumulate);
}

extern "C" __global__ void __launch_bounds__(256)
move_to_float(const element* x, float* out, int l0, int l1, int l2, int l3, int l4, int l5, long long a0, long long a1, long long a2,
              long long a3, long long a4, long long a5, long long b0, long long b1, long long b2, long long b3,
              long long b4, long long b5, float scale, float shift, int accumulate) {
    scale_moved(x, out, Axes{{l0, l1, l2, l3, l4, l5}, {a0, a1, a2, a3, a4, a5}, {b0, b1, b2, b3, b4, b5}}, scale, shift,
                   accumulate);
}

template <class T> __device__ void move_elements(const T* x, T* out, const Axes& axes) {
    over_all(axes.count(), [&](long long i) {
        long long from, to;
        axes.places(i, from, to);
        out[to] = x[from];
    });
}

// The same for other types, told apart by their bytes.
extern "C" __global__ void __launch_bounds__(256)
move_1(const unsigned char* x, unsigned char* out, int l0, int l1, int l2, int l3, int l4, int l5, long long a0, long long a1, long long a2,
       long long a3, long long a4, long long a5, long long b0, long long b1, long long b2, long long b3,
       long long b4, long long b5) {
    move_elements(x, out, Axes{{l0, l1, l2, l3, l4, l5}, {a0, a1, a2, a3, a4, a5}, {b0, b1, b2, b3, b4, b5}});
}

extern "C" __global__ void __launch_bounds__(256)
move_2(const unsigned short* x, unsigned short* out, int l0, int l1, int l2, int l3, int l4, int l5, long long a0, long long a1, long long a2,
       long long a3, long long a4, long long a5, long long b0, long long b1, long long b2, long long b3,
       long long b4, long long b5) {
    move_elements(x, out, Axes{{l0, l1, l2, l3, l4, l5}, {a0, a1, a2, a3, a4, a5}, {b0, b1, b2, b3, b4, b5}});
}

extern "C" __global__ void __launch_bounds__(256)
move_4(const unsigned* x, unsigned* out, int l0, int l1, int l2, int l3, int l4, int l5, long long a0, long long a1, long long a2,
       long long a3, long long a4, long long a5, long long b0, long long b1, long long b2, long long b3,
       long long b4, long long b5) {
    move_elements(x, out, Axes{{l0, l1, l2, l3, l4, l5}, {a0, a1, a2, a3, a4, a5}, {b0, b1, b2, b3, b4, b5}});
}

extern "C" __global__ void __launch_bounds__(256)
move_8(const unsigned long long* x, unsigned long long* out, int l0, int l1, int l2, int l3, int l4, int l5, long long a0, long long a1, long long a2,
       long long a3, long long a4, long long a5, long long b0, long long b1, long long b2, long long b3,
       long long b4, long long b5) {
    move_elements(x, out, Axes{{l0, l1, l2, l3, l4, l5}, {a0, a1, a2, a3, a4, a5}, {b0, b1, b2, b3, b4, b5}});
}
