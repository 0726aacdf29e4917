#include "gpu.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "kernels_ptx.h"

static const char *const NAMES[KERNELS] = {
    "image_float", "image_half", "image_blocks_float", "image_blocks_half", "max_pool", "average_pool", "mean",
    "epilogue", "affine", "scaled",
    "depthwise_3_1_7", "depthwise_3_2_7", "depthwise_5_1_7", "depthwise_5_2_7", "depthwise_7_1_7", "depthwise_3_1_2",
    "depthwise_3_2_2", "depthwise_5_1_2", "depthwise_5_2_2", "depthwise_7_1_2", "dilated_3_7", "dilated_5_7",
    "dilated_7_7", "dilated_3_2", "dilated_5_2", "dilated_7_2", "product_32", "product_64", "excite", "gated",
    "rotary", "rows", "moments_first_float", "moments_first_half", "moments_last", "normalize_last",
    "normalize_first_float", "normalize_first_half", "sum_first",
    "layer_norm_3", "layer_norm_4", "layer_norm_5",
};

enum { MOST_CONTEXTS = 16 };

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static Gpu found[MOST_CONTEXTS]; /* by context: kernels and handles belong to one */
static void *contexts[MOST_CONTEXTS];
static int known;
static char complaint[256];

static void *symbol(void *library, const char *name) {
    void *at = dlsym(library, name);
    if (!at) snprintf(complaint, sizeof complaint, "%s is missing from a library", name);
    return at;
}

static void *opened(const char *name) {
    void *library = dlopen(name, RTLD_NOW);
    if (!library) snprintf(complaint, sizeof complaint, "%s", dlerror());
    return library;
}

#define TAKE(library, field, name)                     \
    do {                                               \
        void *at = symbol(library, name);              \
        if (!at) return 0;                             \
        memcpy(&gpu->field, &at, sizeof gpu->field);   \
    } while (0)

static int take_driver(void *driver, Gpu *gpu) {
    TAKE(driver, launch, "cuLaunchKernel");
    TAKE(driver, allocate, "cuMemAlloc_v2");
    TAKE(driver, release, "cuMemFree_v2");
    TAKE(driver, event_create, "cuEventCreate");
    TAKE(driver, event_record, "cuEventRecord");
    TAKE(driver, event_wait, "cuEventSynchronize");
    TAKE(driver, event_elapsed, "cuEventElapsedTime");
    TAKE(driver, event_destroy, "cuEventDestroy_v2");
    TAKE(driver, is_capturing, "cuStreamIsCapturing");
    TAKE(driver, begin_capture, "cuStreamBeginCapture_v2");
    TAKE(driver, end_capture, "cuStreamEndCapture");
    TAKE(driver, instantiate, "cuGraphInstantiateWithFlags");
    TAKE(driver, graph_launch, "cuGraphLaunch");
    TAKE(driver, graph_destroy, "cuGraphDestroy");
    TAKE(driver, exec_destroy, "cuGraphExecDestroy");
    return 1;
}

static int take_cudnn(void *cudnn, Gpu *gpu) {
    TAKE(cudnn, set_stream, "cudnnSetStream");
    TAKE(cudnn, make, "cudnnBackendCreateDescriptor");
    TAKE(cudnn, destroy, "cudnnBackendDestroyDescriptor");
    TAKE(cudnn, finalize, "cudnnBackendFinalize");
    TAKE(cudnn, set, "cudnnBackendSetAttribute");
    TAKE(cudnn, get, "cudnnBackendGetAttribute");
    TAKE(cudnn, execute, "cudnnBackendExecute");
    int (*create)(Handle **);
    void *at = symbol(cudnn, "cudnnCreate");
    if (!at) return 0;
    memcpy(&create, &at, sizeof create);
    int status = create(&gpu->handle);
    if (status) snprintf(complaint, sizeof complaint, "cudnnCreate gives %d", status);
    return !status;
}

static int take_blas(void *blas, Gpu *gpu) {
    TAKE(blas, blas.make_how, "cublasLtMatmulDescCreate");
    TAKE(blas, blas.set_how, "cublasLtMatmulDescSetAttribute");
    TAKE(blas, blas.drop_how, "cublasLtMatmulDescDestroy");
    TAKE(blas, blas.make_layout, "cublasLtMatrixLayoutCreate");
    TAKE(blas, blas.drop_layout, "cublasLtMatrixLayoutDestroy");
    TAKE(blas, blas.make_wish, "cublasLtMatmulPreferenceCreate");
    TAKE(blas, blas.set_wish, "cublasLtMatmulPreferenceSetAttribute");
    TAKE(blas, blas.drop_wish, "cublasLtMatmulPreferenceDestroy");
    TAKE(blas, blas.propose, "cublasLtMatmulAlgoGetHeuristic");
    TAKE(blas, blas.multiply, "cublasLtMatmul");
    int (*create)(BlasHandle **);
    void *at = symbol(blas, "cublasLtCreate");
    if (!at) return 0;
    memcpy(&create, &at, sizeof create);
    return !create(&gpu->blas.handle);
}

/* A function of no arguments that gives a version; 0 where there is none. */
static size_t version(void *library, const char *name) {
    size_t (*give)(void);
    void *at = library ? dlsym(library, name) : NULL;
    if (!at) return 0;
    memcpy(&give, &at, sizeof give);
    return give();
}

/* The version that onnxruntime has loaded, else the newest. Without any, products go by what else there is, and it is 0. */
static size_t look_for_blas(Gpu *gpu) {
    static const char *const versions[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    void *blas = NULL;
    for (int i = 0; i < 4 && !blas; ++i) blas = dlopen(versions[i % 2], i < 2 ? RTLD_NOW | RTLD_NOLOAD : RTLD_NOW);
    if (!blas || !take_blas(blas, gpu)) gpu->blas.handle = NULL;
    return gpu->blas.handle ? version(blas, "cublasLtGetVersion") : 0;
}

static void take_name(void *driver, void *cudnn, size_t blas, Gpu *gpu) {
    int (*current)(int *), (*name_of)(char *, int, int), (*driver_of)(int *);
    void *at[3] = {dlsym(driver, "cuCtxGetDevice"), dlsym(driver, "cuDeviceGetName"), dlsym(driver, "cuDriverGetVersion")};
    size_t of_cudnn = version(cudnn, "cudnnGetVersion");
    char name[96];
    int device, of_driver;
    gpu->name[0] = 0;
    if (!at[0] || !at[1] || !at[2] || !of_cudnn) return;
    memcpy(&current, &at[0], sizeof current);
    memcpy(&name_of, &at[1], sizeof name_of);
    memcpy(&driver_of, &at[2], sizeof driver_of);
    if (current(&device) || name_of(name, sizeof name, device) || driver_of(&of_driver)) return;
    snprintf(gpu->name, sizeof gpu->name, "%s, CUDA %d, cuDNN %zu, cuBLASLt %zu", name, of_driver, of_cudnn, blas);
}

static int take_kernels(void *driver, Gpu *gpu) {
    int (*load)(Module **, const void *);
    int (*function)(Function **, Module *, const char *);
    void *at = symbol(driver, "cuModuleLoadData"), *other = symbol(driver, "cuModuleGetFunction");
    if (!at || !other) return 0;
    memcpy(&load, &at, sizeof load);
    memcpy(&function, &other, sizeof function);
    Module *module;
    int status = load(&module, KERNELS_PTX);
    for (int i = 0; i < KERNELS && !status; ++i) status = function(&gpu->kernels[i], module, NAMES[i]);
    if (status) snprintf(complaint, sizeof complaint, "the kernels do not load (CUDA error %d)", status);
    return !status;
}

static Gpu *load(void *driver, void *context) {
    void *cudnn = opened("libcudnn.so.9");
    if (!cudnn) return NULL;
    Gpu *gpu = &found[known];
    if (!take_driver(driver, gpu) || !take_cudnn(cudnn, gpu) || !take_kernels(driver, gpu)) return NULL;
    take_name(driver, cudnn, look_for_blas(gpu), gpu);
    contexts[known++] = context;
    return gpu;
}

static Gpu *known_or_loaded(void) {
    void *driver = opened("libcuda.so.1");
    if (!driver) return NULL;
    int (*current)(void **);
    void *at = symbol(driver, "cuCtxGetCurrent"), *context = NULL;
    if (!at) return NULL;
    memcpy(&current, &at, sizeof current);
    if (current(&context) || !context) {
        snprintf(complaint, sizeof complaint, "there is no current CUDA context");
        return NULL;
    }
    for (int i = 0; i < known; ++i)
        if (contexts[i] == context) return &found[i];
    return known < MOST_CONTEXTS ? load(driver, context) : NULL;
}

Gpu *gpu(const char **said) {
    pthread_mutex_lock(&guard);
    Gpu *here = known_or_loaded();
    *said = here ? "" : complaint;
    pthread_mutex_unlock(&guard);
    return here;
}

int launch(Gpu *gpu, enum Kernel which, Size grid, Size block, unsigned shared, Stream *stream, void **arguments) {
    return gpu->launch(gpu->kernels[which], grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, stream,
                       arguments, NULL);
}
