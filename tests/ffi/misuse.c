/* What a C program can do wrong: each is a status and a message, and never a crash. */
#include <math.h>

#include "check.h"

static void null_is_refused_and_freeing_it_is_not(void) {
    collage_engine *engine = open_default();
    collage_image image = stroke();
    collage_ticket *ticket = NULL;
    EXPECT(COLLAGE_NULL, collage_engine_open(NULL, NULL));
    EXPECT(COLLAGE_NULL, collage_submit(NULL, &image, NULL, &ticket));
    EXPECT(COLLAGE_NULL, collage_submit(engine, NULL, NULL, &ticket));
    EXPECT(COLLAGE_NULL, collage_submit(engine, &image, NULL, NULL)); /* no ticket and no callback */
    EXPECT(COLLAGE_NULL, collage_submit_many(engine, NULL, 1, NULL, &ticket, 1, NULL));
    EXPECT(COLLAGE_NULL, collage_ticket_wait(NULL, 0, NULL));
    EXPECT(COLLAGE_NULL, collage_ticket_cancel(NULL));
    EXPECT(COLLAGE_NULL, collage_engine_stats(engine, NULL));
    EXPECT(COLLAGE_NULL, collage_engine_stats(NULL, NULL));
    EXPECT(COLLAGE_NULL, collage_engine_worker_stats(engine, 0, NULL));
    EXPECT(COLLAGE_NULL, collage_engine_stats_json(engine, NULL, 5, NULL));
    EXPECT(COLLAGE_NULL, collage_engine_class_count(engine, NULL));
    EXPECT(COLLAGE_NULL, collage_engine_class_label(engine, 0, NULL));
    EXPECT(COLLAGE_NULL, collage_image_from_dlpack(NULL, 0, COLLAGE_HWC, &image));
    EXPECT(COLLAGE_NULL, collage_engine_close(NULL, NULL));
    image.data = NULL;
    EXPECT(COLLAGE_NULL, collage_submit(engine, &image, NULL, &ticket));
    EXPECT(COLLAGE_OK, collage_engine_free(NULL));
    EXPECT(COLLAGE_OK, collage_ticket_free(NULL));
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

static void stale_and_foreign_handles_are_refused(void) {
    collage_engine *engine = open_default();
    collage_image image = stroke();
    collage_ticket *ticket = NULL, *other = NULL;
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, NULL, &ticket));
    EXPECT(COLLAGE_BAD_HANDLE, collage_ticket_wait((collage_ticket *)(void *)engine, 0, NULL));
    EXPECT(COLLAGE_BAD_HANDLE, collage_engine_stats((collage_engine *)(void *)ticket, NULL));
    EXPECT(COLLAGE_BAD_HANDLE, collage_ticket_free((collage_ticket *)(void *)&image));
    EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, NULL, &other));
    CHECK(other != ticket);
    EXPECT(COLLAGE_BAD_HANDLE, collage_ticket_free(ticket));
    EXPECT(COLLAGE_BAD_HANDLE, collage_ticket_wait(ticket, 0, NULL));
    EXPECT(COLLAGE_BAD_HANDLE, collage_ticket_cancel(ticket));
    EXPECT(COLLAGE_OK, collage_ticket_free(other));
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
    EXPECT(COLLAGE_BAD_HANDLE, collage_engine_free(engine));
    EXPECT(COLLAGE_BAD_HANDLE, collage_engine_close(engine, NULL));
    EXPECT(COLLAGE_BAD_HANDLE, collage_submit(engine, &image, NULL, &ticket));
    CHECK(strstr(collage_last_error(), "engine") != NULL);
}

static void sizes_that_are_none_are_refused(void) {
    collage_engine *engine = NULL;
    collage_options options = COLLAGE_OPTIONS_INIT;
    const size_t wrong[] = {0, 1, 7, sizeof options - 1, (size_t)-8, 1 << 20};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.struct_size = wrong[i];
        EXPECT(COLLAGE_BAD_SIZE, collage_engine_open(&options, &engine));
        CHECK(engine == NULL && strstr(collage_last_error(), "collage_options"));
    }
}

static void older_and_newer_structs_are_understood(void) {
    struct {
        collage_request known;
        uint64_t newer[2];
    } request = {COLLAGE_REQUEST_INIT, {0, 0}};
    struct {
        collage_stats known;
        uint64_t newer;
    } stats = {COLLAGE_STATS_INIT, 99};
    collage_engine *engine = open_default();
    collage_image image = stroke();
    collage_ticket *ticket = NULL;
    request.known.struct_size = sizeof request;
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, &request.known, &ticket));
    EXPECT(COLLAGE_OK, collage_ticket_wait(ticket, COLLAGE_FOREVER, NULL));
    EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
    request.newer[1] = 1;
    EXPECT(COLLAGE_BAD_SIZE, collage_submit(engine, &image, &request.known, &ticket));
    request.known.struct_size = offsetof(collage_request, release_at_ns); /* as if the rest had come later */
    request.known.deadline_at_ns = -5;
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, &request.known, &ticket));
    EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
    stats.known.struct_size = sizeof stats;
    EXPECT(COLLAGE_OK, collage_engine_stats(engine, &stats.known));
    CHECK(stats.newer == 0 && stats.known.submitted == 2 && stats.known.struct_size == sizeof stats);
    stats.known.base = 77;
    stats.known.struct_size = offsetof(collage_stats, base);
    EXPECT(COLLAGE_OK, collage_engine_stats(engine, &stats.known));
    CHECK(stats.known.base == 77 && stats.known.submitted == 2);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

static void settings_that_cannot_be_are_refused(void) {
    collage_engine *engine = NULL;
    collage_options options = COLLAGE_OPTIONS_INIT;
    const char *devices[] = {"cpu:1"}, *typo[] = {"gpu"};
    options.devices = devices, options.device_count = 1;
    options.toml = "releas = \"1ms\"";
    EXPECT(COLLAGE_CONFIG_KEY, collage_engine_open(&options, &engine));
    CHECK(strstr(collage_last_error(), "release"));
    options.toml = "= 3";
    EXPECT(COLLAGE_CONFIG_SYNTAX, collage_engine_open(&options, &engine));
    options.toml = "\xff";
    EXPECT(COLLAGE_NOT_UTF8, collage_engine_open(&options, &engine));
    options.toml = NULL, options.policy = "hope";
    EXPECT(COLLAGE_CONFIG_VALUE, collage_engine_open(&options, &engine));
    options.policy = NULL, options.config_path = "/no/such/file.toml";
    EXPECT(COLLAGE_CONFIG_READ, collage_engine_open(&options, &engine));
    options.config_path = NULL, options.model_path = "/no/such/model.safetensors";
    EXPECT(COLLAGE_MODEL_READ, collage_engine_open(&options, &engine));
    options.model_path = NULL, options.model_size = 3;
    EXPECT(COLLAGE_NULL, collage_engine_open(&options, &engine));
    options.model_data = "abc";
    EXPECT(COLLAGE_MODEL_TOO_SHORT, collage_engine_open(&options, &engine));
    options.model_data = NULL, options.model_size = 0, options.collage_data = "abc", options.collage_size = 3;
    EXPECT(COLLAGE_BAD_VALUE, collage_engine_open(&options, &engine));
    options.collage_data = NULL, options.collage_size = 0, options.workers = COLLAGE_NONE;
    EXPECT(COLLAGE_OPTION, collage_engine_open(&options, &engine));
    options.workers = 0, options.budget = NAN;
    EXPECT(COLLAGE_BAD_VALUE, collage_engine_open(&options, &engine));
    options.budget = 0, options.devices = typo;
    EXPECT(COLLAGE_DEVICE_SYNTAX, collage_engine_open(&options, &engine));
    options.devices = NULL;
    EXPECT(COLLAGE_NULL, collage_engine_open(&options, &engine));
    CHECK(engine == NULL);
}

static void images_that_are_none_are_refused(void) {
    collage_engine *engine = open_default();
    collage_ticket *ticket = NULL;
    float values[64] = {0};
    values[63] = NAN;
    struct {
        collage_status status;
        collage_image image;
    } wrong[13];
    for (int i = 0; i < 13; i++) wrong[i].image = stroke(), wrong[i].status = COLLAGE_TENSOR;
    wrong[0].image.size = 63;
    wrong[1].image.shape[0] = 0;
    wrong[2].image.shape[0] = -8;
    wrong[3].image.shape[0] = INT64_MAX;
    wrong[4].image.dimensions = 3, wrong[4].image.shape[2] = 2;
    wrong[5].image.strides[0] = -8, wrong[5].image.strides[1] = 1;
    wrong[6].image.dimensions = 4, wrong[6].image.shape[0] = 1 << 30, wrong[6].image.shape[2] = 8, wrong[6].image.shape[3] = 1;
    wrong[7].image.data = values, wrong[7].image.type = COLLAGE_F32, wrong[7].image.size = sizeof values;
    wrong[8].image.dimensions = 1, wrong[8].status = COLLAGE_BAD_VALUE;
    wrong[9].image.layout = 7, wrong[9].status = COLLAGE_BAD_VALUE;
    wrong[10].image.type = 9, wrong[10].status = COLLAGE_BAD_VALUE;
    wrong[11].image.memory = 5, wrong[11].status = COLLAGE_BAD_VALUE;
    wrong[12].image.low = 3.0f, wrong[12].image.high = 3.0f, wrong[12].status = COLLAGE_BAD_VALUE;
    for (int i = 0; i < 13; i++) {
        collage_status got = collage_submit(engine, &wrong[i].image, NULL, &ticket);
        if (got != wrong[i].status) fprintf(stderr, "image %d: %d: %s\n", i, (int)got, collage_last_error());
        CHECK(got == wrong[i].status && ticket == NULL);
    }
    collage_stats stats = COLLAGE_STATS_INIT;
    EXPECT(COLLAGE_OK, collage_engine_stats(engine, &stats));
    CHECK(stats.submitted == 0);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

static void times_that_contradict_each_other_are_refused(void) {
    collage_engine *engine = open_default();
    collage_image image = stroke();
    collage_ticket *ticket = NULL;
    collage_request request = COLLAGE_REQUEST_INIT;
    request.deadline_ns = 1000000, request.deadline_at_ns = collage_now_ns() + 1000000;
    EXPECT(COLLAGE_BAD_VALUE, collage_submit(engine, &image, &request, &ticket));
    request.deadline_ns = 0, request.deadline_at_ns = -1;
    EXPECT(COLLAGE_BAD_VALUE, collage_submit(engine, &image, &request, &ticket));
    request.deadline_at_ns = 1; /* long ago */
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, &request, &ticket));
    EXPECT(COLLAGE_BAD_VALUE, collage_ticket_wait(ticket, -1, NULL));
    EXPECT(COLLAGE_DEADLINE_EXCEEDED, collage_ticket_wait(ticket, COLLAGE_FOREVER, NULL));
    EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

/* As dlpack.h has them. */
struct dl_tensor {
    void *data;
    int32_t device_type, device_id, ndim;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;
    uint64_t byte_offset;
};
struct dl_managed {
    struct dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *);
};

static int deleted;
static void delete_tensor(struct dl_managed *self) {
    (void)self;
    deleted++;
}

static void a_dlpack_tensor_is_taken_once_and_only_if_it_is_submitted(void) {
    collage_engine *engine = open_default();
    unsigned char bytes[8 + 64];
    int64_t shape[2] = {8, 8};
    memcpy(bytes + 8, STROKE, 64);
    struct dl_managed tensor = {{bytes, 1, 0, 2, 1, 8, 1, shape, NULL, 8}, NULL, delete_tensor};
    collage_image image = COLLAGE_IMAGE_INIT;
    collage_ticket *ticket = NULL;
    EXPECT(COLLAGE_OK, collage_image_from_dlpack(&tensor, 0, COLLAGE_HWC, &image));
    image.layout = 9;
    EXPECT(COLLAGE_BAD_VALUE, collage_submit(engine, &image, NULL, &ticket));
    CHECK(deleted == 0);
    image.layout = COLLAGE_HWC;
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, NULL, &ticket));
    CHECK(deleted == 1);
    collage_answer answer = COLLAGE_ANSWER_INIT;
    EXPECT(COLLAGE_OK, collage_ticket_wait(ticket, COLLAGE_FOREVER, &answer));
    CHECK(answer.class_index == 1);
    EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
    tensor.tensor.code = 0;
    EXPECT(COLLAGE_TENSOR, collage_image_from_dlpack(&tensor, 0, COLLAGE_HWC, &image));
    tensor.tensor.code = 1, tensor.tensor.ndim = 7;
    EXPECT(COLLAGE_TENSOR, collage_image_from_dlpack(&tensor, 0, COLLAGE_HWC, &image));
    CHECK(deleted == 1);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

static void every_status_has_a_text(void) {
    for (int status = -1; status < 1000; status++) CHECK(strlen(collage_status_string(status)) > 5);
    CHECK(strcmp(collage_status_string(COLLAGE_OK), "success") == 0);
    CHECK(strcmp(collage_status_string(12345), collage_status_string(-1)) == 0);
}

int main(void) {
    CHECK(collage_last_status() == COLLAGE_OK && collage_last_error()[0] == 0);
    CLAIM(null_is_refused_and_freeing_it_is_not);
    CLAIM(stale_and_foreign_handles_are_refused);
    CLAIM(sizes_that_are_none_are_refused);
    CLAIM(older_and_newer_structs_are_understood);
    CLAIM(settings_that_cannot_be_are_refused);
    CLAIM(images_that_are_none_are_refused);
    CLAIM(times_that_contradict_each_other_are_refused);
    CLAIM(a_dlpack_tensor_is_taken_once_and_only_if_it_is_submitted);
    CLAIM(every_status_has_a_text);
    return 0;
}
