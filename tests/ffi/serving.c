/* What a C program gets: answers from every kind of image, waits, polls, callbacks, times, statistics, a graceful close. */
#include <math.h>

#include "check.h"

static collage_answer classify(collage_engine *engine, const collage_image *image) {
    collage_ticket *ticket = NULL;
    collage_answer answer = COLLAGE_ANSWER_INIT;
    EXPECT(COLLAGE_OK, collage_submit(engine, image, NULL, &ticket));
    EXPECT(COLLAGE_OK, collage_ticket_wait(ticket, COLLAGE_FOREVER, &answer));
    EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
    answer.label = NULL; /* the ticket's */
    answer.top = NULL;
    return answer;
}

static void an_answer_has_all_that_it_promises(void) {
    collage_engine *engine = open_default();
    collage_image image = stroke();
    collage_ticket *ticket = NULL;
    collage_answer answer = COLLAGE_ANSWER_INIT, again = COLLAGE_ANSWER_INIT;
    size_t classes = 0;
    const char *label = NULL;
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, NULL, &ticket));
    EXPECT(COLLAGE_OK, collage_ticket_wait(ticket, COLLAGE_FOREVER, &answer));
    CHECK(answer.class_index == 1 && strcmp(answer.label, "1") == 0);
    CHECK(answer.top_count == 5 && answer.top[0].class_index == 1 && answer.top[0].score == answer.confidence);
    for (size_t i = 1; i < answer.top_count; i++) CHECK(answer.top[i].score <= answer.top[i - 1].score);
    CHECK(answer.confidence > 0.5f && answer.confidence <= 1.0f && answer.latency_ns > 0);
    CHECK(answer.source == COLLAGE_FROM_BASE && answer.tile == COLLAGE_NO_TILE);
    EXPECT(COLLAGE_OK, collage_ticket_poll(ticket, &again));
    CHECK(again.request == answer.request && again.top == answer.top);
    EXPECT(COLLAGE_OK, collage_engine_class_count(engine, &classes));
    EXPECT(COLLAGE_OK, collage_engine_class_label(engine, answer.class_index, &label));
    CHECK(classes == 10 && strcmp(label, answer.label) == 0);
    EXPECT(COLLAGE_OK, collage_engine_free(engine)); /* tickets outlive it */
    EXPECT(COLLAGE_OK, collage_ticket_wait(ticket, 0, &again));
    CHECK(strcmp(again.label, "1") == 0);
    EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
}

static void every_kind_of_tensor_says_the_same(void) {
    collage_engine *engine = open_default();
    collage_image image = stroke();
    const collage_answer expected = classify(engine, &image);
    unsigned char rgb[8 * 8 * 3], planes[3 * 8 * 8], wide[8 * 32], upside_down[64];
    float floats[64], shifted[64];
    uint16_t halves[64];
    for (int i = 0; i < 64; i++) {
        int y = i / 8, x = i % 8;
        for (int c = 0; c < 3; c++) rgb[i * 3 + c] = planes[c * 64 + i] = STROKE[i];
        wide[y * 32 + x * 2] = STROKE[i];
        wide[y * 32 + x * 2 + 1] = 77; /* between the columns */
        upside_down[(7 - y) * 8 + x] = STROKE[i];
        floats[i] = (float)STROKE[i] / 255.0f;
        shifted[i] = (float)STROKE[i] - 100.0f;
        halves[i] = STROKE[i] == 0 ? 0 : STROKE[i] == 255 ? 0x5bf8 : 0x5a40; /* 0, 255, 200 */
    }
    collage_image kinds[7];
    for (int i = 0; i < 7; i++) kinds[i] = stroke();
    for (int i = 0; i < 7; i++) kinds[i].size = 0;
    kinds[0].data = rgb, kinds[0].dimensions = 3, kinds[0].shape[2] = 3;
    kinds[1].data = planes, kinds[1].layout = COLLAGE_CHW, kinds[1].dimensions = 3;
    kinds[1].shape[0] = 3, kinds[1].shape[1] = 8, kinds[1].shape[2] = 8;
    kinds[2].data = wide, kinds[2].strides[0] = 32, kinds[2].strides[1] = 2;
    kinds[3].data = upside_down + 56, kinds[3].strides[0] = -8, kinds[3].strides[1] = 1;
    kinds[4].data = floats, kinds[4].type = COLLAGE_F32;
    kinds[5].data = shifted, kinds[5].type = COLLAGE_F32, kinds[5].low = -100.0f, kinds[5].high = 155.0f;
    kinds[6].data = halves, kinds[6].type = COLLAGE_F16, kinds[6].high = 255.0f;
    for (int i = 0; i < 7; i++) {
        collage_answer answer = classify(engine, &kinds[i]);
        if (answer.class_index != expected.class_index || answer.confidence != expected.confidence) {
            fprintf(stderr, "kind %d: class %u, %.9g instead of %.9g\n", i, answer.class_index, (double)answer.confidence,
                    (double)expected.confidence);
            exit(1);
        }
    }
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

/* An 8x8 BMP of 24 bits: a header of 54 bytes, then rows from the bottom up. */
static void encoded_images_are_decoded(void) {
    unsigned char bmp[54 + 8 * 24] = {'B', 'M', 246, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 1, 0, 24};
    for (int i = 0; i < 64; i++)
        for (int c = 0; c < 3; c++) bmp[54 + (7 - i / 8) * 24 + i % 8 * 3 + c] = STROKE[i];
    collage_engine *engine = open_default();
    collage_image image = stroke();
    const collage_answer expected = classify(engine, &image);
    image = (collage_image)COLLAGE_IMAGE_INIT;
    image.data = bmp;
    image.size = sizeof bmp;
    CHECK(classify(engine, &image).confidence == expected.confidence);
    collage_ticket *ticket = NULL;
    image.size = 60;
    image.name = "half.bmp";
    EXPECT(COLLAGE_IMAGE_DECODE, collage_submit(engine, &image, NULL, &ticket));
    CHECK(ticket == NULL && strstr(collage_last_error(), "half.bmp") && collage_last_status() == COLLAGE_IMAGE_DECODE);
    image.data = "no image at all";
    image.size = 15;
    EXPECT(COLLAGE_IMAGE_FORMAT, collage_submit(engine, &image, NULL, &ticket));
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

static void batches_and_arrays_are_submitted_at_once(void) {
    collage_engine *engine = open_default();
    unsigned char batch[3 * 64];
    for (int i = 0; i < 3; i++) memcpy(batch + 64 * i, STROKE, 64);
    collage_image images[2] = {stroke(), stroke()};
    images[0].data = batch;
    images[0].size = sizeof batch;
    images[0].dimensions = 4;
    images[0].shape[0] = 3, images[0].shape[1] = 8, images[0].shape[2] = 8, images[0].shape[3] = 1;
    collage_ticket *tickets[4];
    size_t submitted = 0;
    EXPECT(COLLAGE_BAD_VALUE, collage_submit_many(engine, images, 2, NULL, tickets, 3, &submitted));
    CHECK(submitted == 0 && tickets[0] == NULL);
    EXPECT(COLLAGE_OK, collage_submit_many(engine, images, 2, NULL, tickets, 4, &submitted));
    CHECK(submitted == 4);
    for (int i = 0; i < 4; i++) {
        collage_answer answer = COLLAGE_ANSWER_INIT;
        EXPECT(COLLAGE_OK, collage_ticket_wait(tickets[i], COLLAGE_FOREVER, &answer));
        CHECK(answer.class_index == 1);
        EXPECT(COLLAGE_OK, collage_ticket_free(tickets[i]));
    }
    EXPECT(COLLAGE_OK, collage_submit_many(engine, NULL, 0, NULL, tickets, 0, &submitted));
    CHECK(submitted == 0);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

struct told {
    int calls, ok, with_ticket;
    collage_engine *engine;
    collage_status close_from_inside, free_from_inside;
};

static void tell(void *user_data, collage_ticket *ticket, collage_status status, const collage_answer *answer) {
    struct told *told = user_data;
    told->calls++;
    told->ok += status == COLLAGE_OK && answer != NULL && answer->class_index == 1 && strcmp(answer->label, "1") == 0;
    told->with_ticket += ticket != NULL;
    if (ticket) CHECK(collage_ticket_free(ticket) == COLLAGE_OK);
    told->close_from_inside = collage_engine_close(told->engine, NULL);
    told->free_from_inside = collage_engine_free(told->engine);
}

static void callbacks_come_once_each_before_the_close_returns(void) {
    collage_engine *engine = open_default();
    struct told told = {0, 0, 0, engine, 0, 0};
    collage_request request = COLLAGE_REQUEST_INIT;
    request.callback = tell;
    request.user_data = &told;
    collage_image image = stroke();
    for (int i = 0; i < 20; i++) {
        collage_ticket *ticket = NULL;
        EXPECT(COLLAGE_OK, collage_submit(engine, &image, &request, i % 2 ? &ticket : NULL));
    }
    EXPECT(COLLAGE_OK, collage_engine_close(engine, NULL));
    CHECK(told.calls == 20 && told.ok == 20 && told.with_ticket == 10);
    CHECK(told.close_from_inside == COLLAGE_IN_CALLBACK && told.free_from_inside == COLLAGE_IN_CALLBACK);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

static void cancelled_and_late_requests_say_so(void) {
    collage_options options = COLLAGE_OPTIONS_INIT;
    options.stragglers = "pause:0:600";
    options.policy = "none";
    options.deadline_ns = 60000000000;
    options.max_batch = 1;
    options.queue = 3;
    collage_engine *engine = open_with(options);
    collage_image image = stroke();
    collage_ticket *slow = NULL, *cancelled = NULL, *late = NULL, *refused = NULL;
    collage_request request = COLLAGE_REQUEST_INIT;
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, NULL, &slow));
    EXPECT(COLLAGE_PENDING, collage_ticket_poll(slow, NULL));
    EXPECT(COLLAGE_PENDING, collage_ticket_wait(slow, 1000000, NULL));
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, NULL, &cancelled));
    request.deadline_at_ns = collage_now_ns() + 150000000;
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, &request, &late));
    EXPECT(COLLAGE_OVERLOADED, collage_submit(engine, &image, NULL, &refused));
    CHECK(refused == NULL && collage_last_error_can_retry() == 1);
    EXPECT(COLLAGE_OK, collage_ticket_cancel(cancelled));
    EXPECT(COLLAGE_CANCELLED, collage_ticket_wait(cancelled, COLLAGE_FOREVER, NULL));
    EXPECT(COLLAGE_DEADLINE_EXCEEDED, collage_ticket_wait(late, COLLAGE_FOREVER, NULL));
    EXPECT(COLLAGE_OK, collage_ticket_free(cancelled));
    EXPECT(COLLAGE_OK, collage_ticket_free(late));
    collage_stats stats = COLLAGE_STATS_INIT;
    EXPECT(COLLAGE_OK, collage_engine_stats(engine, &stats));
    CHECK(stats.cancelled == 1 && stats.deadline_exceeded == 1 && stats.overloaded == 1 && stats.submitted == 4);
    EXPECT(COLLAGE_OK, collage_engine_close(engine, &stats)); /* the slow one is in flight: it is answered */
    CHECK(stats.base == 1 && stats.pending == 0);
    EXPECT(COLLAGE_OK, collage_ticket_wait(slow, 0, NULL));
    EXPECT(COLLAGE_OK, collage_ticket_free(slow));
    EXPECT(COLLAGE_CLOSED, collage_submit(engine, &image, NULL, &slow));
    EXPECT(COLLAGE_OK, collage_engine_close(engine, NULL));
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

static void a_collage_answers_for_a_paused_worker(void) {
    collage_options options = COLLAGE_OPTIONS_INIT;
    options.toml = "grid = \"1x1\"\nrelease = \"1ms\"\nworkers = 7\nstragglers = [\"pause:0:400\"]\n";
    options.workers = 1; /* a field goes before the text */
    options.deadline_ns = 30000000000;
    options.min_confidence = 0.01;
    collage_engine *engine = open_with(options);
    collage_image image = stroke();
    collage_ticket *ticket = NULL;
    collage_answer answer = COLLAGE_ANSWER_INIT;
    EXPECT(COLLAGE_OK, collage_submit(engine, &image, NULL, &ticket));
    EXPECT(COLLAGE_OK, collage_ticket_wait(ticket, COLLAGE_FOREVER, &answer));
    CHECK(answer.source == COLLAGE_FROM_COLLAGE && answer.tile == 0 && answer.class_index == 1);
    CHECK(answer.worker == 1 && answer.independence == COLLAGE_OTHER_WORKER);
    EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
    collage_worker_stats worker = COLLAGE_WORKER_STATS_INIT;
    EXPECT(COLLAGE_OK, collage_engine_worker_stats(engine, 1, &worker));
    CHECK(worker.role == COLLAGE_ROLE_COLLAGE && worker.state == COLLAGE_WORKER_READY && worker.runs >= 1);
    EXPECT(COLLAGE_BAD_VALUE, collage_engine_worker_stats(engine, 2, &worker));
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

static void statistics_are_told_as_json_too(void) {
    collage_engine *engine = open_default();
    collage_image image = stroke();
    (void)classify(engine, &image);
    char small[8], text[8192];
    size_t length = 0;
    EXPECT(COLLAGE_BUFFER_TOO_SMALL, collage_engine_stats_json(engine, small, sizeof small, &length));
    CHECK(strlen(small) == 7 && small[0] == '{' && length > 100 && length < sizeof text);
    EXPECT(COLLAGE_BUFFER_TOO_SMALL, collage_engine_stats_json(engine, NULL, 0, NULL));
    EXPECT(COLLAGE_OK, collage_engine_stats_json(engine, text, sizeof text, &length));
    CHECK(strlen(text) == length && strstr(text, "\"base\":1") && strstr(text, "\"device_name\""));
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

static void models_come_from_memory_or_a_path(const char *path) {
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
    const size_t size = (size_t)ftell(file);
    char *bytes = malloc(size);
    rewind(file);
    CHECK(bytes != NULL && fread(bytes, 1, size, file) == size && fclose(file) == 0);
    collage_options options = COLLAGE_OPTIONS_INIT;
    collage_engine *engine = NULL;
    options.model_path = path;
    options.deadline_ns = 60000000000;
    options.policy = "none";
    engine = open_with(options);
    collage_image image = stroke();
    const collage_answer expected = classify(engine, &image);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
    options.model_path = NULL;
    options.model_data = bytes;
    options.model_size = size;
    engine = open_with(options);
    memset(bytes, 0, size); /* it was copied */
    CHECK(classify(engine, &image).confidence == expected.confidence);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
    EXPECT(COLLAGE_MODEL_HEADER_JSON, collage_engine_open(&options, &engine)); /* a header of 0 bytes */
    CHECK(engine == NULL && strstr(collage_last_error(), "model_data"));
    free(bytes);
}

int main(int argc, char **argv) {
    CHECK(argc == 2 && (collage_abi_version() >> 16) == COLLAGE_ABI_MAJOR && collage_abi_version() >= COLLAGE_ABI_VERSION);
    CLAIM(an_answer_has_all_that_it_promises);
    CLAIM(every_kind_of_tensor_says_the_same);
    CLAIM(encoded_images_are_decoded);
    CLAIM(batches_and_arrays_are_submitted_at_once);
    CLAIM(callbacks_come_once_each_before_the_close_returns);
    CLAIM(cancelled_and_late_requests_say_so);
    CLAIM(a_collage_answers_for_a_paused_worker);
    CLAIM(statistics_are_told_as_json_too);
    models_come_from_memory_or_a_path(argv[1]);
    printf("ok models_come_from_memory_or_a_path\n");
    return 0;
}
