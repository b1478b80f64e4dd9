// Pictures as the loader makes them, to numbers in 0..1; and pictures of any size, to those of a network's.
//
// For each value each reads a byte, or four bytes, and writes an element, channels last as both lie: memory bound. Not
// measured yet.
#include "elementwise.cuh"

// out = x / 255, the quotient rounded correctly as on the CPU.
extern "C" __global__ void __launch_bounds__(256)
from_bytes(const unsigned char* x, element* out, long long count) {
    over_all(count, [&](long long i) { put(out + i, x[i] / 255.0f); });
}

// A place among `count` samples, between two of `old`: darkpy/data/pictures.py, _positions.
struct Between {
    int first, second;
    float share;  // of the second

    __device__ Between(int i, int old, int count) {
        const float place = __fmul_rn((float)i, (float)(old - 1) / (float)max(count - 1, 1));
        first = min((int)place, old - 1), share = place - (float)first;
        if (i == count - 1) first = old - 1, share = 0;
        second = min(first + 1, old - 1);
    }
    // Rounded as on the CPU, product by product.
    __device__ float blend(float a, float b) const { return __fmul_rn(a, 1 - share) + __fmul_rn(b, share); }
};

// out (pictures, height, width, channels): each picture resized to a part of it, bilinear, first across, then down; 0.5
// around it. table (pictures, 7): where its bytes begin, its height and width, then left, top, width, height of the part.
extern "C" __global__ void __launch_bounds__(256)
fitted(const unsigned char* bytes, const long long* table, element* out, long long count, int channels, int height, int width) {
    over_all(count, [&](long long i) {
        const long long line = i / width, picture = line / height, *row = table + 7 * picture;
        const int wide = (int)row[5], high = (int)row[6];
        const int x = (int)(i - line * width - row[3]), y = (int)(line - picture * height - row[4]);
        element* target = out + i * channels;
        if (x < 0 || y < 0 || x >= wide || y >= high) {
            for (int c = 0; c < channels; c++) put(target + c, 0.5f);
            return;
        }
        const Between across(x, (int)row[2], wide), down(y, (int)row[1], high);
        const unsigned char *upper = bytes + row[0] + down.first * row[2] * channels, *lower = bytes + row[0] + down.second * row[2] * channels;
        const int left = across.first * channels, right = across.second * channels;
        for (int c = 0; c < channels; c++) {
            const float above = across.blend(upper[left + c] / 255.0f, upper[right + c] / 255.0f);
            const float below = across.blend(lower[left + c] / 255.0f, lower[right + c] / 255.0f);
            put(target + c, down.blend(above, below));
        }
    });
}
