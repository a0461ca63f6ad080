/* Classifies every image of a folder, several at once, and prints one line an image.
 *
 *     cc -std=c11 classify_folder.c $(pkg-config --cflags --libs collage) -o classify_folder
 *     ./classify_folder FOLDER [MODEL.safetensors]
 *
 * Without a model, the digits that are embedded in the library are used. Exit status: 0 if every image got an answer. */
#define _POSIX_C_SOURCE 200809L
#include <collage.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN_FLIGHT = 64, PATH_BYTES = 4096 };

/* A submitted file. */
struct job {
    char name[256];
    collage_ticket *ticket;
};

/* The whole file, which the caller frees; NULL if it cannot be read. */
static unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = NULL;
    long length = -1;
    if (file && fseek(file, 0, SEEK_END) == 0) length = ftell(file);
    if (length >= 0 && fseek(file, 0, SEEK_SET) == 0) bytes = malloc((size_t)length + 1);
    if (bytes && fread(bytes, 1, (size_t)length, file) != (size_t)length) {
        free(bytes);
        bytes = NULL;
    }
    if (file) fclose(file);
    *size = bytes ? (size_t)length : 0;
    return bytes;
}

static int submit(collage_engine *engine, const char *folder, const char *name, struct job *job) {
    char path[PATH_BYTES];
    collage_image image = COLLAGE_IMAGE_INIT;
    collage_status status;
    unsigned char *bytes;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return 0;
    bytes = read_file(path, &image.size);
    if (!bytes) {
        fprintf(stderr, "%s: cannot be read\n", path);
        return 0;
    }
    image.data = bytes;
    image.name = name;
    status = collage_submit(engine, &image, NULL, &job->ticket);
    free(bytes); /* decoded already */
    if (status != COLLAGE_OK) {
        fprintf(stderr, "%s\n", collage_last_error());
        return 0;
    }
    snprintf(job->name, sizeof job->name, "%s", name);
    return 1;
}

/* Prints an answer and ends its ticket. */
static int finish(struct job *job) {
    collage_answer answer = COLLAGE_ANSWER_INIT;
    const int answered = collage_ticket_wait(job->ticket, COLLAGE_FOREVER, &answer) == COLLAGE_OK;
    if (answered)
        printf("%s\t%s\t%.4f\n", job->name, answer.label, (double)answer.confidence);
    else
        fprintf(stderr, "%s: %s\n", job->name, collage_last_error());
    collage_ticket_free(job->ticket);
    return answered;
}

int main(int argc, char **argv) {
    static struct job jobs[IN_FLIGHT];
    collage_options options = COLLAGE_OPTIONS_INIT;
    collage_engine *engine = NULL;
    size_t first = 0, next = 0; /* jobs in flight: from `first` to before `next` */
    int all_answered = 1;
    struct dirent *entry;
    DIR *folder;
    if (argc < 2 || !(folder = opendir(argv[1]))) {
        fprintf(stderr, "usage: %s FOLDER [MODEL.safetensors]\n", argv[0]);
        return 2;
    }
    if (argc > 2) options.model_path = argv[2];
    if (collage_engine_open(&options, &engine) != COLLAGE_OK) {
        fprintf(stderr, "%s\n", collage_last_error());
        closedir(folder);
        return 1;
    }
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] == '.') continue;
        if (next - first == IN_FLIGHT) all_answered &= finish(&jobs[first++ % IN_FLIGHT]);
        if (submit(engine, argv[1], entry->d_name, &jobs[next % IN_FLIGHT]))
            next++;
        else
            all_answered = 0;
    }
    while (first < next) all_answered &= finish(&jobs[first++ % IN_FLIGHT]);
    closedir(folder);
    collage_engine_free(engine);
    return all_answered ? 0 : 1;
}
