/* Convolutions with channels last: y = act(conv(x * scale, w) + bias + z), by whichever way is fastest here, or with z
 * added after the activation, an image or a number for each channel. Products of pixels and weights may lack the bias,
 * and then have nothing after them. */
#ifndef AMPGRAPH_CONV_H
#define AMPGRAPH_CONV_H

#include "gpu.h"

/* The last two come after the activation; of a row each channel has a number. */
enum Residual { NO_RESIDUAL, RESIDUAL, LATE_RESIDUAL, LATE_ROW };

/* Sizes of a problem: all that its fastest way depends on. `depth`: channels that a filter reads, a group's. */
typedef struct Problem {
    int64_t batch, height, width, channels, depth, out_channels, out_height, out_width, kernel_h, kernel_w, stride_h,
        stride_w, top, left, bottom, right, dilation_h, dilation_w, act, residual, scaled, biased,
        transposed;
} Problem;

typedef struct Tensors {
    const void *x, *w, *bias, *z, *scale;
    void *y;
} Tensors;

/* A way of computing a problem. It is never freed: other kernels of the same sizes use it. */
typedef struct Way Way;

/* The fastest way on these tensors, which are computed in passing; NULL where none works. Known sizes are not timed
 * again, in other processes neither where the library's memory knows them (memory.h). */
const Way *fastest_way(Gpu *gpu, const Problem *problem, const Tensors *at, Stream *stream);

/* Bytes of memory that it works in. */
size_t room(const Way *way);

/* Returns 0, or the error of cuDNN or the driver. */
int convolve(Gpu *gpu, const Way *way, const Problem *problem, const Tensors *at, Address space, Stream *stream);

#endif
