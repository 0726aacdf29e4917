#include "memory.h"
#include "ways.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 4, RUNS = 8, LONGEST_KEY = 640 };

/* What cuDNN is asked for, in this order. Engines that compile their kernels first take a second each. */
typedef struct Try {
    enum Shape shape;
    int mode, most, compiled;
} Try;

static const Try TRIES[] = {
    {FUSED, MODE_A, 8, 0}, {RESIDUAL_FIRST, MODE_A, 8, 0}, {EPILOGUE_APART, MODE_A, 6, 0},
    {FUSED, MODE_A, 6, 1}, {RESIDUAL_FIRST, MODE_A, 3, 1}, {EPILOGUE_APART, MODE_FALLBACK, 2, 0},
};
enum { COUNT_OF_TRIES = sizeof TRIES / sizeof *TRIES };

/* A way in numbers that mean the same in another process: which try, which of its proposals, by which engine. */
typedef struct Choice {
    int shape, try, place;
    long long engine;
} Choice;

typedef struct Known {
    Gpu *gpu;
    Problem problem;
    Way way;
    struct Known *next;
} Known;

static Known *knowledge;

/* A graph of some runs, so that what is timed is the device and not how fast it is given work; NULL where none. */
static GraphExec *captured(Gpu *gpu, const Way *way, const Problem *p, const Tensors *at, Address space, Stream *stream) {
    Graph *graph = NULL;
    GraphExec *runs = NULL;
    int status = 0;
    if (gpu->begin_capture(stream, 2)) return NULL;
    for (int i = 0; i < RUNS && !status; ++i) status = run_way(gpu, way, p, at, space, stream);
    if (gpu->end_capture(stream, &graph) || !graph) return NULL;
    if (!status && gpu->instantiate(&runs, graph, 0)) runs = NULL;
    gpu->graph_destroy(graph);
    return runs;
}

/* Milliseconds of a run, the least of some rounds; below 0 where it fails. Stops early where it is far off `best`. */
static float replayed(Gpu *gpu, GraphExec *runs, Event *const events[2], Stream *stream, float best) {
    float least = -1.f, took;
    for (int round = 0; round < ROUNDS; ++round) {
        if (gpu->event_record(events[0], stream) || gpu->graph_launch(runs, stream)) return -1.f;
        if (gpu->event_record(events[1], stream) || gpu->event_wait(events[1])) return -1.f;
        if (gpu->event_elapsed(&took, events[0], events[1])) return -1.f;
        if (least < 0 || took / RUNS < least) least = took / RUNS;
        if (best > 0 && least > 1.5f * best) break;
    }
    return least;
}

static float timed(Gpu *gpu, const Way *way, const Problem *p, const Tensors *at, Stream *stream, float best) {
    Address space = 0;
    Event *events[2] = {NULL, NULL};
    float took = -1.f;
    if (way->room && gpu->allocate(&space, way->room)) return -1.f;
    int status = gpu->event_create(&events[0], 0) || gpu->event_create(&events[1], 0);
    if (!status) status = run_way(gpu, way, p, at, space, stream);
    GraphExec *runs = status ? NULL : captured(gpu, way, p, at, space, stream);
    if (runs) {
        took = replayed(gpu, runs, events, stream, best);
        gpu->exec_destroy(runs);
    }
    for (int i = 0; i < 2; ++i)
        if (events[i]) gpu->event_destroy(events[i]);
    if (space) gpu->release(space);
    return took;
}

static int is_loud(void) {
    static int known = -1;
    if (known < 0) known = getenv("AMPGRAPH_NATIVE_VERBOSE") != NULL;
    return known;
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

typedef struct Search {
    Way best;
    Choice choice;
    float took; /* milliseconds, below 0 where nothing works */
    int tried, failed;
    double until;
} Search;

static void weigh(Gpu *gpu, const Problem *p, const Tensors *at, Stream *stream, Way way, Choice choice, Search *search) {
    float took = timed(gpu, &way, p, at, stream, search->took);
    ++search->tried;
    if (is_loud())
        fprintf(stderr, "    shape %d engine %lld room %zu: %.1f us\n", way.shape, choice.engine, way.room, took * 1e3);
    int better = took >= 0 && (search->took < 0 || took < search->took);
    forget(gpu, better ? &search->best : &way);
    if (better) search->best = way, search->choice = choice, search->took = took;
}

/* Seconds after which no further candidate is looked at, if one works. */
static double patience(void) {
    const char *said = getenv("AMPGRAPH_NATIVE_SECONDS");
    return said ? atof(said) : 0.6;
}

static void explore(Gpu *gpu, const Problem *p, const Tensors *at, Stream *stream, int try, Search *search) {
    Try how = TRIES[try];
    Proposals proposals;
    propose(gpu, p, how.shape, how.mode, how.most, &proposals);
    for (int i = 0; i < proposals.count; ++i) {
        int compiled = 0;
        Choice choice = {how.shape, try, i, engine_of(gpu, proposals.configs[i], &compiled)};
        if (compiled != how.compiled || (search->took >= 0 && now() >= search->until)) continue;
        Way way = way_by_plan(gpu, p, how.shape, proposals.configs[i]);
        if (way.plan) weigh(gpu, p, at, stream, way, choice, search);
        else ++search->failed;
    }
    dismiss(&proposals);
}

static int applies(const Problem *p, Try how) {
    if (how.shape == RESIDUAL_FIRST && p->residual != RESIDUAL) return 0;
    return how.shape == EPILOGUE_APART ? p->act != SIGMOID : fuses(p->act);
}

/* Whether it is a product of pixels and weights. */
static int is_product(const Problem *p) {
    int is_point = p->kernel_h == 1 && p->kernel_w == 1 && p->stride_h == 1 && p->stride_w == 1;
    int is_whole = !p->transposed && p->depth == p->channels && p->height == p->out_height && p->width == p->out_width;
    return is_point && is_whole && p->act != SIGMOID && p->act != HARD_SIGMOID;
}

static Search searched(Gpu *gpu, const Problem *p, const Tensors *at, Stream *stream) {
    Search search = {.took = -1.f, .until = now() + patience()};
    Way all[MOST_PRODUCTS];
    int count = is_product(p) ? way_by_products(gpu, p, all) : 0;
    for (int i = 0; i < count; ++i)
        weigh(gpu, p, at, stream, all[i], (Choice){all[i].shape, -1, i, i}, &search);
    if (!p->biased) return search;
    for (enum Shape shape = OWN_32; shape <= OWN_64 && is_product(p); ++shape)
        weigh(gpu, p, at, stream, (Way){.shape = shape}, (Choice){shape, -1, -1, -1}, &search);
    for (int i = 0; i < COUNT_OF_TRIES; ++i)
        if (applies(p, TRIES[i]) && (search.took < 0 || TRIES[i].mode != MODE_FALLBACK))
            explore(gpu, p, at, stream, i, &search);
    return search;
}

/* The way of a product by its place among those that are proposed. */
static Way product_again(Gpu *gpu, const Problem *p, Choice choice) {
    Way all[MOST_PRODUCTS], found = {.shape = choice.shape};
    int count = is_product(p) ? way_by_products(gpu, p, all) : 0;
    for (int i = 0; i < count; ++i) {
        if (i == choice.place && (int)all[i].shape == choice.shape) found = all[i];
        else forget(gpu, &all[i]);
    }
    return found;
}

static Way plan_again(Gpu *gpu, const Problem *p, Choice choice) {
    Way found = {.shape = choice.shape};
    Try how = TRIES[choice.try];
    Proposals proposals;
    propose(gpu, p, how.shape, how.mode, how.most, &proposals);
    int compiled = 0, place = choice.place;
    if (place < proposals.count && engine_of(gpu, proposals.configs[place], &compiled) == choice.engine)
        found = way_by_plan(gpu, p, how.shape, proposals.configs[place]);
    dismiss(&proposals);
    return found;
}

/* Whether numbers that were read are a choice at all. */
static int is_choice(const Problem *p, Choice choice) {
    if (choice.shape == OWN_32 || choice.shape == OWN_64) return p->biased && is_product(p);
    if (choice.place < 0) return 0;
    if (choice.shape == BLAS || choice.shape == BLAS_APART) return 1;
    return choice.try >= 0 && choice.try < COUNT_OF_TRIES && (int)TRIES[choice.try].shape == choice.shape &&
           applies(p, TRIES[choice.try]) && p->biased;
}

/* The device, the libraries and the problem in words; 0 where they are too many. */
static int key_of(const Gpu *gpu, const Problem *p, char key[LONGEST_KEY]) {
    int64_t numbers[sizeof *p / sizeof(int64_t)];
    memcpy(numbers, p, sizeof *p);
    int length = snprintf(key, LONGEST_KEY, "%s:", gpu->name);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && length < LONGEST_KEY; ++i)
        length += snprintf(key + length, (size_t)(LONGEST_KEY - length), " %lld", (long long)numbers[i]);
    return *gpu->name && length < LONGEST_KEY;
}

/* The way that another process found for a key, if it still works here. */
static Search again(Gpu *gpu, const Problem *p, const Tensors *at, Stream *stream, const char *key) {
    Search search = {.took = -1.f};
    char said[LONGEST_FOUND];
    Choice choice;
    if (!recall(key, said)) return search;
    if (sscanf(said, "%d %d %d %lld", &choice.shape, &choice.try, &choice.place, &choice.engine) != 4) return search;
    if (!is_choice(p, choice)) return search;
    Way way = choice.shape >= OWN_32  ? (Way){.shape = choice.shape}
              : choice.shape >= BLAS ? product_again(gpu, p, choice)
                                     : plan_again(gpu, p, choice);
    if (way.plan || way.product || choice.shape >= OWN_32) weigh(gpu, p, at, stream, way, choice, &search);
    return search;
}

static Search remembered_or_searched(Gpu *gpu, const Problem *p, const Tensors *at, Stream *stream) {
    char key[LONGEST_KEY], said[LONGEST_FOUND];
    int has_key = key_of(gpu, p, key);
    Search search = {.took = -1.f};
    if (has_key) search = again(gpu, p, at, stream, key);
    if (search.took >= 0) return search;
    search = searched(gpu, p, at, stream);
    Choice choice = search.choice;
    snprintf(said, sizeof said, "%d %d %d %lld", choice.shape, choice.try, choice.place, choice.engine);
    if (has_key && search.took >= 0) remember(key, said);
    return search;
}

static const Way *known(Gpu *gpu, const Problem *problem) {
    for (const Known *each = knowledge; each; each = each->next)
        if (each->gpu == gpu && !memcmp(&each->problem, problem, sizeof *problem)) return &each->way;
    return NULL;
}

static void say(const Problem *p, const Search *search, double seconds) {
    fprintf(stderr,
            "  conv %lldx%lldx%lldx%lld k%lld %lldx%lld s%lld act %lld z %lld scale %lld: %.1f us shape %d "
            "engine %lld, %d tried %d failed, %.2f s\n",
            (long long)p->batch, (long long)p->height, (long long)p->width, (long long)p->channels,
            (long long)p->out_channels, (long long)p->kernel_h, (long long)p->kernel_w, (long long)p->stride_h,
            (long long)p->act, (long long)p->residual, (long long)p->scaled, search->took * 1e3, search->best.shape,
            search->choice.engine, search->tried, search->failed, seconds);
}

const Way *fastest_way(Gpu *gpu, const Problem *p, const Tensors *at, Stream *stream) {
    pthread_mutex_lock(&one_at_a_time);
    const Way *way = known(gpu, p);
    if (!way) {
        double start = now();
        Search search = remembered_or_searched(gpu, p, at, stream);
        if (is_loud()) say(p, &search, now() - start);
        Known *more = search.took < 0 ? NULL : malloc(sizeof *more);
        if (more) {
            *more = (Known){gpu, *p, search.best, knowledge};
            knowledge = more;
            way = &more->way;
        }
    }
    pthread_mutex_unlock(&one_at_a_time);
    return way;
}
