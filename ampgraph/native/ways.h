/* Ways of computing a problem (conv.h): what conv.c makes and runs, and search.c chooses among. */
#ifndef AMPGRAPH_WAYS_H
#define AMPGRAPH_WAYS_H

#include "blas.h"
#include "conv.h"

#include <pthread.h>

/* cuDNN's with bias, residual and activation, in either order of the first two, or without them; cuBLASLt's with all or
 * with what is after it apart; kernels of kernels.cu. */
enum Shape { FUSED, RESIDUAL_FIRST, EPILOGUE_APART, BLAS, BLAS_APART, OWN_32, OWN_64 };
enum { MODE_FALLBACK = 2, MODE_A = 3 }; /* cuDNN's heuristics, by its numbers */
enum { MOST_NODES = 8, MOST_CONFIGS = 12, MOST_PRODUCTS = 8 };

struct Way {
    enum Shape shape;
    Descriptor plan;  /* of cuDNN's ways */
    Product *product; /* of cuBLASLt's */
    size_t room;      /* bytes that it works in */
};

/* What is being described to cuDNN; `status` is the first error. */
typedef struct Draft {
    Gpu *gpu;
    Descriptor all[64], operations[MOST_NODES];
    int count, operation_count, next_id, status;
} Draft;

typedef struct Proposals {
    Draft draft;
    Descriptor configs[MOST_CONFIGS];
    int count;
} Proposals;

/* A cuDNN handle is one thread's at a time, and so is an algorithm of cuBLASLt. */
extern pthread_mutex_t one_at_a_time;

/* The engine configurations that cuDNN proposes, best first, at most `most`; to be dismissed. */
void propose(Gpu *gpu, const Problem *problem, enum Shape shape, int mode, int most, Proposals *found);
void dismiss(Proposals *proposals);

/* The number of a configuration's engine, and whether it compiles its kernels first. */
int64_t engine_of(Gpu *gpu, Descriptor config, int *compiled);

/* The way of a configuration, without a plan where that cannot be built or needs too much room. */
Way way_by_plan(Gpu *gpu, const Problem *problem, enum Shape shape, Descriptor config);

/* The ways of cuBLASLt, best first by its own judgement, at most MOST_PRODUCTS. Returns how many. */
int way_by_products(Gpu *gpu, const Problem *problem, Way *found);

/* Whether cuDNN has the activation; others come after it. */
int fuses(int64_t act);

/* Returns 0, or the error of cuDNN, cuBLASLt or the driver. The caller holds `one_at_a_time`. */
int run_way(Gpu *gpu, const Way *way, const Problem *problem, const Tensors *at, Address space, Stream *stream);

void forget(Gpu *gpu, const Way *way);

#endif
