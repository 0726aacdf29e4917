/* How ops.c launches LayerNorm, without a GPU. */
#include "ops.c"

/* rows, columns: of x; gamma's; skip's. Counts of places, of places beside. 0: left out. */
typedef struct Given {
    int64_t rows, columns, gamma, skip_rows, skip_columns, places, beside, length, simple;
    float epsilon;
} Given;

typedef struct Found {
    int vectors, grid, across, down;
    Lines at;
} Found;

__attribute__((visibility("default"))) const char *launch_of(const Given *given, Found *found) {
    Node node = {.length = given->length, .simple = given->simple, .epsilon = given->epsilon};
    Array in[MOST_INPUTS] = {
        {.data = given, .size = {given->rows, given->columns}, .rank = 2},
        {.data = given, .size = {given->gamma}, .rank = 1},
        {0},
        {.data = given->skip_rows ? given : NULL, .size = {given->skip_rows, given->skip_columns}, .rank = 2},
        {0},
        {.data = given->places ? given : NULL, .size = {given->places}, .rank = 1},
        {.data = given->beside ? given : NULL, .size = {given->beside}, .rank = 1},
    };
    const char *wrong = lines(&node, in, &found->at);
    if (wrong) return wrong;
    Launch how = line_launch(&found->at);
    found->vectors = FEWEST_VECTORS + (int)how.which - (int)LAYER_NORM_3;
    found->grid = (int)how.grid.x;
    found->across = (int)how.block.x;
    found->down = (int)how.block.y;
    return NULL;
}
