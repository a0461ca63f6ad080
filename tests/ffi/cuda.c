/* Images in CUDA memory, and a device that goes away. Runs where a driver is; the tests bring a simulated one. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>

#include "check.h"

typedef struct context *context_t;
typedef struct stream *stream_t;
static int (*init)(unsigned), (*retain)(context_t *, int), (*enter)(context_t), (*take)(uint64_t *, size_t), (*give)(uint64_t);
static int (*copy)(uint64_t, const void *, size_t, stream_t), (*make_stream)(stream_t *, unsigned, int), (*end_stream)(stream_t);

static void find(void *library, const char *name, void *function) {
    void *found = dlsym(library, name);
    if (!found) fprintf(stderr, "no %s\n", name);
    CHECK(found != NULL);
    memcpy(function, &found, sizeof found);
}

static void start_driver(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    context_t context = NULL;
    if (!library) library = dlopen("libcuda.so", RTLD_NOW);
    CHECK(library != NULL);
    find(library, "cuInit", &init);
    find(library, "cuDevicePrimaryCtxRetain", &retain);
    find(library, "cuCtxSetCurrent", &enter);
    find(library, "cuMemAlloc_v2", &take);
    find(library, "cuMemFree_v2", &give);
    find(library, "cuMemcpyHtoDAsync_v2", &copy);
    find(library, "cuStreamCreateWithPriority", &make_stream);
    find(library, "cuStreamDestroy_v2", &end_stream);
    CHECK(init(0) == 0 && retain(&context, 0) == 0 && enter(context) == 0);
}

static unsigned char rgb[192];
static int released;

static void release(void *context) {
    CHECK(context == rgb);
    released++;
}

static collage_engine *open_on(const char *device) {
    collage_options options = COLLAGE_OPTIONS_INIT;
    collage_engine *engine = NULL;
    options.devices = &device;
    options.device_count = 1;
    options.policy = "none";
    options.max_batch = 2;
    options.deadline_ns = 300000000000;
    EXPECT(COLLAGE_OK, collage_engine_open(&options, &engine));
    return engine;
}

static collage_image in_memory_of_the_device(uint64_t address) {
    collage_image image = COLLAGE_IMAGE_INIT;
    image.data = (const void *)(uintptr_t)address;
    image.type = COLLAGE_U8;
    image.memory = COLLAGE_CUDA;
    image.dimensions = 3;
    image.shape[0] = 8, image.shape[1] = 8, image.shape[2] = 3;
    image.release = release;
    image.release_context = rgb;
    return image;
}

static float confidence(collage_engine *engine, const collage_image *image) {
    collage_ticket *ticket = NULL;
    collage_answer answer = COLLAGE_ANSWER_INIT;
    EXPECT(COLLAGE_OK, collage_submit(engine, image, NULL, &ticket));
    EXPECT(COLLAGE_OK, collage_ticket_wait(ticket, COLLAGE_FOREVER, &answer));
    CHECK(answer.class_index == 1);
    EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
    return answer.confidence;
}

/* As dlpack.h has it. */
struct tensor {
    void *data;
    int32_t device_type, device_id, dimensions;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t offset;
    void *context;
    void (*deleter)(struct tensor *);
};
static int deleted;
static void delete_tensor(struct tensor *self) {
    (void)self;
    deleted++;
}

static void device_memory_is_read_where_it_is_or_counted(void) {
    uint64_t memory = 0;
    stream_t stream = NULL;
    collage_stats stats = COLLAGE_STATS_INIT;
    collage_image on_host = stroke(), image;
    int64_t shape[3] = {8, 8, 3};
    for (int i = 0; i < 192; i++) rgb[i] = STROKE[i / 3];
    CHECK(take(&memory, sizeof rgb) == 0 && make_stream(&stream, 1, 0) == 0);
    CHECK(copy(memory, rgb, sizeof rgb, stream) == 0);

    collage_engine *engine = open_on("cuda:0");
    image = in_memory_of_the_device(memory);
    image.stream = (int64_t)(intptr_t)stream; /* whose copy may not have ended */
    const float expected = confidence(engine, &on_host);
    CHECK(confidence(engine, &image) == expected);
    struct tensor tensor = {(void *)(uintptr_t)memory, 2, 0, 3, 1, 8, 1, shape, NULL, 0, NULL, delete_tensor};
    collage_image packed = COLLAGE_IMAGE_INIT;
    EXPECT(COLLAGE_OK, collage_image_from_dlpack(&tensor, 0, COLLAGE_HWC, &packed));
    CHECK(confidence(engine, &packed) == expected);
    EXPECT(COLLAGE_OK, collage_engine_close(engine, &stats));
    CHECK(released == 1 && deleted == 1);
    CHECK(stats.device_reads == 2 && stats.staged_copies == 0);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));

    engine = open_on("cpu:1");
    (void)confidence(engine, &image);
    EXPECT(COLLAGE_OK, collage_engine_close(engine, &stats));
    CHECK(released == 2 && stats.device_reads == 0 && stats.staged_copies == 1);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
    CHECK(end_stream(stream) == 0 && give(memory) == 0);
}

static void device_memory_that_cannot_be_read_is_refused(void) {
    uint64_t memory = 0;
    collage_ticket *ticket = NULL;
    CHECK(take(&memory, 4096) == 0);
    collage_engine *engine = open_on("cpu:1");
    collage_image image = in_memory_of_the_device(memory);
    released = 0;
    image.release = NULL;
    EXPECT(COLLAGE_NULL, collage_submit(engine, &image, NULL, &ticket));
    image.release = release, image.type = COLLAGE_F32;
    EXPECT(COLLAGE_TENSOR, collage_submit(engine, &image, NULL, &ticket));
    image.type = COLLAGE_U8, image.layout = COLLAGE_CHW;
    EXPECT(COLLAGE_TENSOR, collage_submit(engine, &image, NULL, &ticket));
    image.layout = COLLAGE_HWC, image.device_index = 7;
    EXPECT(COLLAGE_DEVICE_NONE, collage_submit(engine, &image, NULL, &ticket));
    image.device_index = -1;
    EXPECT(COLLAGE_BAD_VALUE, collage_submit(engine, &image, NULL, &ticket));
    CHECK(released == 0);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
    CHECK(give(memory) == 0);
}

static void a_lost_device_fails_requests_and_nothing_else(void) {
    collage_engine *engine = open_on("cuda:0");
    collage_image image = stroke();
    collage_ticket *ticket = NULL;
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, NULL, &ticket));
    const collage_status status = collage_ticket_wait(ticket, COLLAGE_FOREVER, NULL);
    CHECK(status == COLLAGE_FAILED || status == COLLAGE_NO_WORKERS);
    CHECK(strstr(collage_last_error(), "lost") != NULL);
    EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "lost") == 0) {
        CLAIM(a_lost_device_fails_requests_and_nothing_else);
        return 0;
    }
    start_driver();
    CLAIM(device_memory_is_read_where_it_is_or_counted);
    CLAIM(device_memory_that_cannot_be_read_is_refused);
    return 0;
}
