#include "scratch.h"

#include <pthread.h>
#include <stdlib.h>

struct Scratch {
    Gpu *gpu;
    const Stream *stream;
    size_t bytes;
    Address address;
    int shared; /* so many times */
    Scratch *next;
};

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static Scratch *all;

/* Doubled until it is enough, so that a stream whose kernels ask for more and more has few blocks. */
static size_t rounded(size_t bytes) {
    size_t size = 1 << 20;
    while (size < bytes) size *= 2;
    return size;
}

static Scratch *allocated(Gpu *gpu, const Stream *stream, size_t bytes) {
    Scratch *more = calloc(1, sizeof *more);
    if (!more) return NULL;
    *more = (Scratch){.gpu = gpu, .stream = stream, .bytes = rounded(bytes), .next = all};
    if (gpu->allocate(&more->address, more->bytes)) {
        free(more);
        return NULL;
    }
    return all = more;
}

Scratch *share(Gpu *gpu, const Stream *stream, size_t bytes) {
    pthread_mutex_lock(&guard);
    Scratch *found = all;
    while (found && (found->gpu != gpu || found->stream != stream || found->bytes < bytes)) found = found->next;
    if (!found) found = allocated(gpu, stream, bytes);
    if (found) ++found->shared;
    pthread_mutex_unlock(&guard);
    return found;
}

Address place(const Scratch *scratch) {
    return scratch ? scratch->address : 0;
}

static void unlink_from_all(const Scratch *scratch) {
    Scratch **at = &all;
    while (*at != scratch) at = &(*at)->next;
    *at = scratch->next;
}

void leave(Gpu *gpu, Scratch *scratch) {
    if (!scratch) return;
    pthread_mutex_lock(&guard);
    if (!--scratch->shared) {
        unlink_from_all(scratch);
        if (gpu) gpu->release(scratch->address);
        free(scratch);
    }
    pthread_mutex_unlock(&guard);
}
