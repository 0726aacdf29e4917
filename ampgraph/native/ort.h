/* What is used of onnxruntime's C interface, declared here since its wheels bring no headers.
 *
 * The function table only ever grows at its end, so a place in it stays what it is; every place below is one of those
 * that version 16 (onnxruntime 1.16) had. The order was read in the public include/onnxruntime/core/session/
 * onnxruntime_c_api.h. */
#ifndef AMPGRAPH_ORT_H
#define AMPGRAPH_ORT_H

#include <stddef.h>
#include <stdint.h>

#define ORT_VERSION 16

typedef struct Status Status; /* NULL is success */
typedef struct Options Options;
typedef struct Domain Domain;
typedef struct Info Info;       /* of a node, when its kernel is made */
typedef struct Context Context; /* of one run of a kernel */
typedef struct Value Value;
typedef struct TensorInfo TensorInfo;
typedef void *const Api; /* the table: an array of functions */

typedef struct ApiBase {
    Api *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} ApiBase;

enum { FAIL = 1, INVALID = 2, NOT_IMPLEMENTED = 9 };            /* error codes */
enum { ANY = 0, FLOAT = 1, INT32 = 6, INT64 = 7, FLOAT16 = 10 };            /* element types */
enum { REQUIRED = 0, OPTIONAL = 1 };                            /* characteristics of inputs and outputs */

typedef struct CustomOp {
    uint32_t version;
    void *(*create)(const struct CustomOp *, Api *, const Info *);
    const char *(*name)(const struct CustomOp *);
    const char *(*provider)(const struct CustomOp *);
    int (*input_type)(const struct CustomOp *, size_t);
    size_t (*input_count)(const struct CustomOp *);
    int (*output_type)(const struct CustomOp *, size_t);
    size_t (*output_count)(const struct CustomOp *);
    void (*compute)(void *, Context *);
    void (*destroy)(void *);
    int (*input_kind)(const struct CustomOp *, size_t);
    int (*output_kind)(const struct CustomOp *, size_t);
    int (*input_memory)(const struct CustomOp *, size_t);
    int (*variadic_input_least)(const struct CustomOp *);
    int (*variadic_input_alike)(const struct CustomOp *);
    int (*variadic_output_least)(const struct CustomOp *);
    int (*variadic_output_alike)(const struct CustomOp *);
    Status *(*create_v2)(const struct CustomOp *, Api *, const Info *, void **);
    Status *(*compute_v2)(void *, Context *);
} CustomOp;

#define CALL(api, place, type) ((type)(api)[place])
#define create_status(api) CALL(api, 0, Status *(*)(int, const char *))
#define create_domain(api) CALL(api, 26, Status *(*)(const char *, Domain **))
#define add_op(api) CALL(api, 27, Status *(*)(Domain *, const CustomOp *))
#define add_domain(api) CALL(api, 28, Status *(*)(Options *, Domain *))
#define tensor_data(api) CALL(api, 51, Status *(*)(Value *, void **))
#define type_of(api) CALL(api, 60, Status *(*)(const TensorInfo *, int *))
#define rank_of(api) CALL(api, 61, Status *(*)(const TensorInfo *, size_t *))
#define dims_of(api) CALL(api, 62, Status *(*)(const TensorInfo *, int64_t *, size_t))
#define info_of(api) CALL(api, 65, Status *(*)(const Value *, TensorInfo **))
#define attribute_float(api) CALL(api, 85, Status *(*)(const Info *, const char *, float *))
#define attribute_int(api) CALL(api, 86, Status *(*)(const Info *, const char *, int64_t *))
#define attribute_text(api) CALL(api, 87, Status *(*)(const Info *, const char *, char *, size_t *))
#define input_count(api) CALL(api, 88, Status *(*)(const Context *, size_t *))
#define output_count(api) CALL(api, 89, Status *(*)(const Context *, size_t *))
#define input_at(api) CALL(api, 90, Status *(*)(const Context *, size_t, const Value **))
#define output_at(api) CALL(api, 91, Status *(*)(Context *, size_t, const int64_t *, size_t, Value **))
#define release_status(api) CALL(api, 93, void (*)(Status *))
#define release_info(api) CALL(api, 99, void (*)(TensorInfo *))
#define attribute_ints(api) CALL(api, 163, Status *(*)(const Info *, const char *, int64_t *, size_t *))
#define stream_of(api) CALL(api, 193, Status *(*)(const Context *, void **))

#endif
