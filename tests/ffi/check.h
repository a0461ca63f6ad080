/* Claims in C: a claim prints its name, and a program ends at the first one that does not hold. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collage.h"

#define CHECK(what)                                                                                     \
    do {                                                                                                \
        if (!(what)) {                                                                                  \
            fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #what, collage_last_error()); \
            exit(1);                                                                                    \
        }                                                                                               \
    } while (0)

#define EXPECT(status, call)                                                                            \
    do {                                                                                                \
        collage_status got_ = (call);                                                                   \
        if (got_ != (status)) {                                                                         \
            fprintf(stderr, "%s:%d: %s gave %d (%s), expected %d (last error: %s)\n", __FILE__, __LINE__, #call, \
                    (int)got_, collage_status_string(got_), (int)(status), collage_last_error());        \
            exit(1);                                                                                    \
        }                                                                                               \
    } while (0)

#define CLAIM(name)                \
    do {                           \
        name();                    \
        printf("ok %s\n", #name);  \
        fflush(stdout);            \
    } while (0)

/* A digit as the embedded model knows it: 8x8, a vertical stroke. */
static const unsigned char STROKE[64] = {
    0, 0, 0, 200, 255, 0, 0, 0, 0, 0, 0, 200, 255, 0, 0, 0, 0, 0, 0, 200, 255, 0, 0, 0, 0, 0, 0, 200, 255, 0, 0, 0,
    0, 0, 0, 200, 255, 0, 0, 0, 0, 0, 0, 200, 255, 0, 0, 0, 0, 0, 0, 200, 255, 0, 0, 0, 0, 0, 0, 200, 255, 0, 0, 0,
};

static inline collage_image stroke(void) {
    collage_image image = COLLAGE_IMAGE_INIT;
    image.data = STROKE;
    image.size = sizeof STROKE;
    image.type = COLLAGE_U8;
    image.dimensions = 2;
    image.shape[0] = 8;
    image.shape[1] = 8;
    return image;
}

/* The embedded digits on one thread of the processor, or on the device that the environment names. */
static inline collage_engine *open_with(collage_options options) {
    static const char *devices[1];
    collage_engine *engine = NULL;
    devices[0] = getenv("TEST_DEVICE") ? getenv("TEST_DEVICE") : "cpu:1";
    options.devices = devices;
    options.device_count = 1;
    EXPECT(COLLAGE_OK, collage_engine_open(&options, &engine));
    CHECK(engine != NULL);
    return engine;
}

static inline collage_engine *open_default(void) {
    collage_options options = COLLAGE_OPTIONS_INIT;
    options.deadline_ns = 60000000000; /* under valgrind everything is slow */
    options.policy = "none";           /* and collages must not answer first */
    return open_with(options);
}

#endif
