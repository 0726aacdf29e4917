/* What is used of the CUDA driver, of cuDNN 9 and of cuBLASLt, found when the first kernel runs: the library links none. */
#ifndef AMPGRAPH_GPU_H
#define AMPGRAPH_GPU_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t Address; /* of the device */
typedef struct Stream Stream;
typedef struct Event Event;
typedef struct Module Module;
typedef struct Graph Graph;
typedef struct GraphExec GraphExec;
typedef struct Function Function;
typedef struct Handle Handle; /* cuDNN's */
typedef void *Descriptor;     /* cuDNN's or cuBLASLt's */
typedef struct BlasHandle BlasHandle;

/* Kernels of kernels.cu: depthwise convolutions by size, stride across where none is dilated, and pixels a thread,
 * products by columns a block, layer normalizations by vectors a thread. */
enum Kernel {
    IMAGE_FLOAT, IMAGE_HALF, IMAGE_BLOCKS_FLOAT, IMAGE_BLOCKS_HALF, MAX_POOL, AVERAGE_POOL, MEAN, EPILOGUE, AFFINE,
    SCALED, DEPTHWISE_3_1_7, DEPTHWISE_3_2_7, DEPTHWISE_5_1_7, DEPTHWISE_5_2_7, DEPTHWISE_7_1_7, DEPTHWISE_3_1_2,
    DEPTHWISE_3_2_2, DEPTHWISE_5_1_2, DEPTHWISE_5_2_2, DEPTHWISE_7_1_2, DILATED_3_7, DILATED_5_7, DILATED_7_7,
    DILATED_3_2, DILATED_5_2, DILATED_7_2, PRODUCT_32, PRODUCT_64, EXCITE, GATED, ROTARY, ROWS, MOMENTS_FIRST_FLOAT,
    MOMENTS_FIRST_HALF, MOMENTS_LAST, NORMALIZE_LAST, NORMALIZE_FIRST_FLOAT, NORMALIZE_FIRST_HALF, SUM_FIRST,
    LAYER_NORM_3, LAYER_NORM_4, LAYER_NORM_5, KERNELS
};

enum Activation { NONE = 0, RELU = 1, SILU = 2, SIGMOID = 3, HARD_SIGMOID = 4, HARD_SWISH = 5, GELU = 6,
                  HARD_SIGMOID_FIFTH = 7, RELU6 = 8 };

typedef struct Size {
    unsigned x, y, z;
} Size;

/* cuBLASLt: products, what they read and how, and what is wished of algorithms. No handle where it is not here. */
typedef struct Blas {
    BlasHandle *handle;
    int (*make_how)(Descriptor *, int, int);
    int (*set_how)(Descriptor, int, const void *, size_t);
    int (*drop_how)(Descriptor);
    int (*make_layout)(Descriptor *, int, uint64_t, uint64_t, int64_t);
    int (*drop_layout)(Descriptor);
    int (*make_wish)(Descriptor *);
    int (*set_wish)(Descriptor, int, const void *, size_t);
    int (*drop_wish)(Descriptor);
    int (*propose)(BlasHandle *, Descriptor, Descriptor, Descriptor, Descriptor, Descriptor, Descriptor, int, void *,
                   int *);
    int (*multiply)(BlasHandle *, Descriptor, const void *, const void *, Descriptor, const void *, Descriptor,
                    const void *, const void *, Descriptor, void *, Descriptor, const void *, void *, size_t, Stream *);
} Blas;

typedef struct Gpu {
    Function *kernels[KERNELS];
    Handle *handle;
    int (*launch)(Function *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream *, void **,
                  void **);
    int (*allocate)(Address *, size_t);
    int (*release)(Address);
    int (*event_create)(Event **, unsigned);
    int (*event_record)(Event *, Stream *);
    int (*event_wait)(Event *);
    int (*event_elapsed)(float *, Event *, Event *);
    int (*event_destroy)(Event *);
    int (*is_capturing)(Stream *, int *);
    int (*begin_capture)(Stream *, int);
    int (*end_capture)(Stream *, Graph **);
    int (*instantiate)(GraphExec **, Graph *, unsigned long long);
    int (*graph_launch)(GraphExec *, Stream *);
    int (*graph_destroy)(Graph *);
    int (*exec_destroy)(GraphExec *);
    int (*set_stream)(Handle *, Stream *);
    int (*make)(int, Descriptor *);
    int (*destroy)(Descriptor);
    int (*finalize)(Descriptor);
    int (*set)(Descriptor, int, int, int64_t, const void *);
    int (*get)(Descriptor, int, int, int64_t, int64_t *, void *);
    int (*execute)(Handle *, Descriptor, Descriptor);
    Blas blas;
    char name[256]; /* of the device, with the versions that decide what is fastest; "" where one is not known */
} Gpu;

/* The libraries and kernels of the current device, loaded once; NULL and what is missing in `*said`. */
Gpu *gpu(const char **said);

/* Launch a kernel. Returns the driver's error, 0 for none. */
int launch(Gpu *gpu, enum Kernel which, Size grid, Size block, unsigned shared, Stream *stream, void **arguments);

#endif
