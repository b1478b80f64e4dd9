// The numbers that say how a kernel moves over a picture, as every convolution kernel takes them.
#pragma once

// Pictures are rows of channels, one row for each position; a group's channels are a stretch of the row.
struct Convolution {
    int height, width;          // of x
    int channels, filters;      // of a group
    int out_height, out_width;  // of out
    int size, stride_y, stride_x, padding, dilation;
    long long x_stride, out_stride;  // between rows
};

#define CONVOLUTION_ARGUMENTS \
    {height, width, channels, filters, out_height, out_width, size, stride_y, stride_x, padding, dilation, x_stride, out_stride}
