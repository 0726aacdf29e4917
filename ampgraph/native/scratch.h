/* Memory of the device that kernels of one stream work in, one after the other. */
#ifndef AMPGRAPH_SCRATCH_H
#define AMPGRAPH_SCRATCH_H

#include "gpu.h"

typedef struct Scratch Scratch;

/* At least so many bytes, shared by all that ask for this stream until the last leaves; NULL where there are none. */
Scratch *share(Gpu *gpu, const Stream *stream, size_t bytes);

/* Where it lies; 0 for NULL. */
Address place(const Scratch *scratch);

/* To be called as often as it was shared, with the device's libraries where they are still there, else NULL. */
void leave(Gpu *gpu, Scratch *scratch);

#endif
