/* Memory that is shared, with an allocator that counts: each step is how much is held after it, in MiB, or a code below 0
 * where two that should be one are not, or the other way round. */
#include <string.h>

#include "scratch.c"

static long held;
static int full;

static int allocate(Address *at, size_t bytes) {
    static Address next = 1 << 20;
    if (full) return 2;
    held += (long)(bytes >> 20);
    *at = next;
    next += bytes;
    return 0;
}

static int release(Address at) {
    (void)at;
    held = 0; /* the last block of this test */
    return 0;
}

int steps(long *found) {
    static Gpu gpu;
    gpu.allocate = allocate;
    gpu.release = release;
    const Stream *one = (const Stream *)16, *other = (const Stream *)32;
    Scratch *a = share(&gpu, one, 3 << 20), *b = share(&gpu, one, 1 << 10);
    found[0] = a == b ? held : -1;
    Scratch *c = share(&gpu, other, 1);
    found[1] = c != a ? held : -1;
    Scratch *d = share(&gpu, one, 5 << 20);
    found[2] = place(d) != place(a) ? held : -1;
    full = 1;
    found[3] = share(&gpu, one, 9 << 20) ? -1 : held;
    leave(NULL, c);
    leave(NULL, d);
    leave(&gpu, a);
    found[4] = held;
    leave(&gpu, b);
    found[5] = held;
    leave(&gpu, NULL);
    return place(NULL) == 0 && all == NULL;
}
