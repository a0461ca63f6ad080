/* One engine from many threads, of which one closes it while the others submit, wait, cancel, and free twice. */
#include <pthread.h>

#include "check.h"

enum { THREADS = 8, REQUESTS = 40 };

static collage_engine *engine;
static collage_ticket *shared[THREADS];

struct count {
    int ok, ended, freed;
};

static void *serve(void *argument) {
    struct count *count = argument;
    collage_image image = stroke();
    for (int i = 0; i < REQUESTS; i++) {
        collage_ticket *ticket = NULL;
        collage_status status = collage_submit(engine, &image, NULL, &ticket);
        if (status == COLLAGE_OK) {
            if (i % 4 == 3) EXPECT(COLLAGE_OK, collage_ticket_cancel(ticket));
            status = collage_ticket_wait(ticket, COLLAGE_FOREVER, NULL);
            EXPECT(COLLAGE_OK, collage_ticket_free(ticket));
            EXPECT(COLLAGE_BAD_HANDLE, collage_ticket_free(ticket));
        }
        count->ok += status == COLLAGE_OK;
        count->ended += status == COLLAGE_OK || status == COLLAGE_CANCELLED || status == COLLAGE_CLOSED;
        if (status == COLLAGE_CLOSED) CHECK(collage_last_status() == COLLAGE_CLOSED); /* of this thread */
    }
    for (int i = 0; i < THREADS; i++) count->freed += collage_ticket_free(shared[i]) == COLLAGE_OK;
    return NULL;
}

static void *close_it(void *argument) {
    (void)argument;
    EXPECT(COLLAGE_OK, collage_engine_close(engine, NULL));
    return NULL;
}

static void every_request_ends_and_every_handle_is_freed_once(int while_closing) {
    pthread_t threads[THREADS], closer;
    struct count counts[THREADS] = {{0, 0, 0}};
    collage_image image = stroke();
    engine = open_default();
    for (int i = 0; i < THREADS; i++) EXPECT(COLLAGE_OK, collage_submit(engine, &image, NULL, &shared[i]));
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, serve, &counts[i]) == 0);
    if (while_closing) CHECK(pthread_create(&closer, NULL, close_it, NULL) == 0);
    int ok = 0, ended = 0, freed = 0;
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        ok += counts[i].ok, ended += counts[i].ended, freed += counts[i].freed;
    }
    if (while_closing) CHECK(pthread_join(closer, NULL) == 0);
    CHECK(ended == THREADS * REQUESTS && freed == THREADS);
    CHECK(while_closing || ok >= THREADS * REQUESTS * 3 / 4);
    EXPECT(COLLAGE_OK, collage_engine_free(engine));
}

int main(void) {
    every_request_ends_and_every_handle_is_freed_once(0);
    printf("ok many_threads_share_an_engine\n");
    every_request_ends_and_every_handle_is_freed_once(1);
    printf("ok many_threads_and_one_that_closes\n");
    return 0;
}
