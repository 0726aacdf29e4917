#include "blas.h"

#include <stdlib.h>
#include <string.h>

/* cuBLASLt's words, from its public header (cublasLt.h of versions 12 and 13). It counts by columns: its A is w, its B
 * x, its C z and its D y, each the transpose of ours. */
enum { COMPUTE_FLOAT = 68, TYPE_FLOAT = 0, TYPE_HALF = 2 };
enum { TRANSPOSED_A = 3, FOLLOWED_BY = 7, BIAS_AT = 8 };
enum { PLAIN = 1, WITH_RELU = 2, WITH_BIAS = 4 };
enum { MOST_BYTES = 1, ALIGNMENT_A = 5, ALIGNMENT_D = 8 };
static const uint64_t MOST_ROOM = 32 << 20; /* bytes */
static const uint32_t ALIGNMENT = 16;       /* bytes: of a vector, as all our kernels take */

typedef struct Algorithm {
    uint64_t data[8];
} Algorithm;

typedef struct Proposal {
    Algorithm algorithm;
    size_t room;
    int status;
    float waves;
    int reserved[4];
} Proposal;

struct Product {
    Descriptor how, w, x, y;
    Algorithm algorithm;
    size_t room;
    int biased, added;
};

static int described(Gpu *gpu, const ProductSize *size, Product *product) {
    int32_t yes = 1, epilogue = size->relu ? WITH_RELU : size->biased ? 0 : PLAIN;
    if (size->biased) epilogue |= WITH_BIAS;
    uint64_t rows = (uint64_t)size->rows, depth = (uint64_t)size->depth, columns = (uint64_t)size->columns;
    int status = gpu->blas.make_how(&product->how, COMPUTE_FLOAT, TYPE_FLOAT);
    if (!status) status = gpu->blas.set_how(product->how, TRANSPOSED_A, &yes, sizeof yes);
    if (!status) status = gpu->blas.set_how(product->how, FOLLOWED_BY, &epilogue, sizeof epilogue);
    if (!status) status = gpu->blas.make_layout(&product->w, TYPE_HALF, depth, columns, size->depth);
    if (!status) status = gpu->blas.make_layout(&product->x, TYPE_HALF, depth, rows, size->depth);
    if (!status) status = gpu->blas.make_layout(&product->y, TYPE_HALF, columns, rows, size->columns);
    product->biased = size->biased;
    product->added = size->added;
    return status;
}

static int proposed(Gpu *gpu, const Product *like, Proposal *proposals, int most) {
    Descriptor wish = NULL;
    int count = 0;
    int status = gpu->blas.make_wish(&wish);
    if (!status) status = gpu->blas.set_wish(wish, MOST_BYTES, &MOST_ROOM, sizeof MOST_ROOM);
    for (int part = ALIGNMENT_A; part <= ALIGNMENT_D && !status; ++part)
        status = gpu->blas.set_wish(wish, part, &ALIGNMENT, sizeof ALIGNMENT);
    if (!status)
        status = gpu->blas.propose(gpu->blas.handle, like->how, like->w, like->x, like->y, like->y, wish, most, proposals,
                                   &count);
    if (wish) gpu->blas.drop_wish(wish);
    return status ? 0 : count;
}

int products(Gpu *gpu, const ProductSize *size, Product **found, int most) {
    enum { MOST = 8 };
    Proposal proposals[MOST];
    if (!gpu->blas.handle) return 0;
    Product *like = calloc(1, sizeof *like);
    if (!like) return 0;
    int count = described(gpu, size, like) ? 0 : proposed(gpu, like, proposals, most < MOST ? most : MOST), made = 0;
    drop(gpu, like);
    for (int i = 0; i < count; ++i) {
        Product *one = proposals[i].status ? NULL : calloc(1, sizeof *one);
        if (!one) continue;
        one->algorithm = proposals[i].algorithm;
        one->room = proposals[i].room;
        if (described(gpu, size, one)) drop(gpu, one);
        else found[made++] = one;
    }
    return made;
}

size_t product_room(const Product *product) {
    return product->room;
}

int multiply(Gpu *gpu, Product *product, const void *x, const void *w, const void *bias, const void *z, void *y,
             void *space, Stream *stream) {
    float one = 1.f, share = product->added ? 1.f : 0.f;
    int status = product->biased ? gpu->blas.set_how(product->how, BIAS_AT, &bias, sizeof bias) : 0;
    if (status) return status;
    return gpu->blas.multiply(gpu->blas.handle, product->how, &one, w, product->w, x, product->x, &share,
                              product->added ? z : y, product->y, y, product->y, &product->algorithm, space, product->room,
                              stream);
}

void drop(Gpu *gpu, Product *product) {
    if (product->how) gpu->blas.drop_how(product->how);
    Descriptor layouts[] = {product->w, product->x, product->y};
    for (int i = 0; i < 3; ++i)
        if (layouts[i]) gpu->blas.drop_layout(layouts[i]);
    free(product);
}
