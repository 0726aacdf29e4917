/* Products of rows and weights by cuBLASLt: y = act(x w^T + z + bias), float16 with sums in float32. */
#ifndef AMPGRAPH_BLAS_H
#define AMPGRAPH_BLAS_H

#include "gpu.h"

/* x is rows, depth; w columns, depth; y and z rows, columns. `biased`, `added`, `relu`: whether there is a bias, a z, and
 * ReLU as act. */
typedef struct ProductSize {
    int64_t rows, depth, columns;
    int biased, added, relu;
} ProductSize;

/* An algorithm for products of a size. One thread at a time may use it. */
typedef struct Product Product;

/* The algorithms that cuBLASLt proposes, best first, at most `most`, each to be dropped. Returns how many; 0 where
 * cuBLASLt is not here. */
int products(Gpu *gpu, const ProductSize *size, Product **found, int most);

/* Bytes of memory that it works in. */
size_t product_room(const Product *product);

/* Returns 0, or cuBLASLt's error. */
int multiply(Gpu *gpu, Product *product, const void *x, const void *w, const void *bias, const void *z, void *y,
             void *space, Stream *stream);

void drop(Gpu *gpu, Product *product);

#endif
