/*
 * collage.h: the C interface of collage, a batched inference engine whose answers arrive by deadline.
 *
 *     collage_engine *engine = NULL;
 *     collage_options options = COLLAGE_OPTIONS_INIT;
 *     options.model_path = "base.safetensors";
 *     if (collage_engine_open(&options, &engine) != COLLAGE_OK) { puts(collage_last_error()); return 1; }
 *
 *     collage_image image = COLLAGE_IMAGE_INIT;              // a JPEG, PNG, WebP or BMP
 *     image.data = bytes; image.size = byte_count;
 *     collage_ticket *ticket = NULL;
 *     collage_answer answer = COLLAGE_ANSWER_INIT;
 *     collage_status status = collage_submit(engine, &image, NULL, &ticket);
 *     if (status == COLLAGE_OK) status = collage_ticket_wait(ticket, COLLAGE_FOREVER, &answer);
 *     if (status == COLLAGE_OK) printf("%s %.3f\n", answer.label, answer.confidence);
 *     collage_ticket_free(ticket);
 *     collage_engine_free(engine);
 *
 * RULES THAT HOLD FOR EVERY FUNCTION
 *
 * Status. Functions that can fail return a collage_status: 0 is success, every other number names one cause and never
 *     changes its meaning. collage_last_error() has the whole message of the calling thread's last failure.
 * Threads. Every function may be called from any thread, with the same handle from many threads at once.
 * Blocking. No function blocks for longer than its own work, except those whose description says so.
 * Handles. collage_engine* and collage_ticket* are names, not addresses: nothing may be read through them. A handle that
 *     was freed, was never given, or is of the other kind is refused with COLLAGE_BAD_HANDLE: it is never mistaken for a
 *     newer one, so freeing twice is an error that is reported, and not undefined behaviour.
 * NULL. Freeing NULL does nothing and succeeds. A NULL that is not allowed is refused with COLLAGE_NULL.
 * Structs. Each begins with struct_size, which the *_INIT macros set to the size this header knows. Zero everywhere else is
 *     the default. A program built with an older header gives a smaller size, and fields beyond it have their defaults; a
 *     larger size is accepted as long as what this library does not know is zero. Structs that are written to are filled as
 *     far as their size says.
 * Defaults. 0 or NULL leaves a setting to its default; where zero itself is meant, a negative number says so (COLLAGE_NONE).
 * Text. Zero-terminated UTF-8. What a caller gives is copied before the call returns. What the library gives is read-only
 *     and lives as long as its function says.
 * Time. Nanoseconds; moments are those of CLOCK_MONOTONIC, which collage_now_ns() reads.
 * Panics and exceptions. None crosses this interface: a defect inside is reported as COLLAGE_PANIC.
 * fork. A child process must not use handles of its parent: threads do not survive a fork.
 *
 * The binary interface is versioned by COLLAGE_ABI_MAJOR, which is in the library's SONAME; within one, functions, fields at
 * the end of structs, and numbers are only added. docs/c.md has the whole policy.
 */
#ifndef COLLAGE_H
#define COLLAGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this header. The library's is collage_abi_version(). */
#define COLLAGE_ABI_MAJOR 0
#define COLLAGE_ABI_MINOR 1
#define COLLAGE_ABI_VERSION ((uint32_t)((COLLAGE_ABI_MAJOR << 16) | COLLAGE_ABI_MINOR))

/* ---- Status ------------------------------------------------------------------------------------------------------- */

/* 0, or the number of a cause. Numbers that are not named here come from newer libraries; their hundred says where from. */
typedef int32_t collage_status;

enum {
    COLLAGE_OK = 0,

    /* 1xx: images and tensors. */
    COLLAGE_IMAGE_READ = 100, /* an image file cannot be read */
    COLLAGE_IMAGE_FORMAT = 101, /* not a JPEG, PNG, WebP or BMP image */
    COLLAGE_IMAGE_DECODE = 102, /* a damaged image, or a rare variant of its format */
    COLLAGE_IMAGE_TOO_LARGE = 103, /* an image of more pixels than are decoded */
    COLLAGE_IMAGE_FILE_TOO_LONG = 104, /* an image of more bytes than are read */
    COLLAGE_IMAGE_SHAPE = 105, /* a raw tensor that is not an image */
    COLLAGE_IMAGE_DEVICE = 106, /* an image in device memory cannot be copied to the host */
    COLLAGE_DTYPE_SYNTAX = 120, /* an element type's name that is none */
    COLLAGE_DATASET_READ = 150, /* a data set cannot be read */
    COLLAGE_DATASET_SIZE = 151, /* a data set of another size than its records make */
    COLLAGE_DATASET_LABEL = 152, /* a label that the model does not have */
    COLLAGE_DATASET_CLASSES = 153, /* class folders that are not the model's classes */
    COLLAGE_DATASET_EMPTY = 154, /* a data set without images */
    COLLAGE_DATASET_PAST_END = 155, /* an image that the data set does not have */

    /* 2xx: model files; collage_last_error() names the file and the tensor, field or layer. */
    COLLAGE_MODEL_READ = 200, /* a model file cannot be read */
    COLLAGE_MODEL_TOO_SHORT = 201, /* too short for a safetensors file */
    COLLAGE_MODEL_HEADER_TOO_LARGE = 202, /* the header claims more than any header needs */
    COLLAGE_MODEL_HEADER_TRUNCATED = 203, /* the file ends inside its header */
    COLLAGE_MODEL_HEADER_JSON = 204, /* the header is not what the format asks for */
    COLLAGE_MODEL_DUPLICATE_TENSOR = 205, /* two tensors share a name */
    COLLAGE_MODEL_RANGE_REVERSED = 206, /* a tensor's bytes end before they begin */
    COLLAGE_MODEL_DATA_TRUNCATED = 207, /* a tensor's bytes are not all in the file */
    COLLAGE_MODEL_SIZE_MISMATCH = 208, /* a tensor's bytes are not as many as its shape takes */
    COLLAGE_MODEL_SHAPE_OVERFLOW = 209, /* a tensor with more elements than can be counted */
    COLLAGE_MODEL_OVERLAP = 210, /* two tensors share bytes */
    COLLAGE_MODEL_GAP = 211, /* bytes that belong to no tensor */
    COLLAGE_MODEL_DTYPE = 212, /* an element type that is not known, or not usable here */
    COLLAGE_MODEL_NO_METADATA = 220, /* plain weights: give `arch` */
    COLLAGE_MODEL_IS_DATASET = 221, /* images and labels where a model is wanted */
    COLLAGE_MODEL_METADATA_TOO_LARGE = 222, /* longer than metadata has reason to be */
    COLLAGE_MODEL_METADATA_JSON = 223, /* metadata that is not JSON, or a field missing or of another type */
    COLLAGE_MODEL_METADATA_FORMAT = 224, /* metadata of another version of the format */
    COLLAGE_MODEL_METADATA_VALUE = 225, /* a metadata field's value that makes no sense */
    COLLAGE_MODEL_UNKNOWN_FAMILY = 226, /* an architecture that is not known */
    COLLAGE_MODEL_ARCH_CONTRADICTED = 227, /* `arch` for a file that says otherwise */
    COLLAGE_MODEL_CHECKSUM = 228, /* the tensors are not those that the metadata was written for */
    COLLAGE_MODEL_CLASS_COUNT = 229, /* class names and outputs differ in number */
    COLLAGE_MODEL_MISSING_TENSOR = 240, /* a tensor that the architecture needs is missing */
    COLLAGE_MODEL_WRONG_SHAPE = 241, /* a tensor of another shape */
    COLLAGE_MODEL_EXTRA_TENSORS = 242, /* tensors that the architecture has no place for */
    COLLAGE_MODEL_NOT_FINITE = 243, /* a parameter that is not a number, or infinite */
    COLLAGE_MODEL_NEGATIVE_VARIANCE = 244, /* a variance below zero */
    COLLAGE_MODEL_FOLD_OVERFLOW = 245, /* finite parameters whose product is not */
    COLLAGE_MODEL_DUPLICATE_LAYER = 260, /* two layers share a name */
    COLLAGE_MODEL_UNKNOWN_INPUT = 261, /* a layer reads one that does not come before it */
    COLLAGE_MODEL_UNREAD_LAYER = 262, /* nothing reads a layer */
    COLLAGE_MODEL_HEAD_MISPLACED = 263, /* the layers do not end with their only linear one */
    COLLAGE_MODEL_TOO_MANY_LAYERS = 264, /* more layers than any network has */
    COLLAGE_MODEL_LAYER_VALUE = 265, /* a number of a layer that makes no sense */
    COLLAGE_MODEL_WINDOW_TOO_LARGE = 266, /* a window larger than the padded input */
    COLLAGE_MODEL_RESIDUAL_SHAPE = 267, /* a shortcut that does not fit what it is added to */
    COLLAGE_MODEL_TILE_NOT_DIVISIBLE = 280, /* a tile that is not a whole number of cells */
    COLLAGE_MODEL_TILE_DRIFT = 281, /* a layer in which tiles and cells drift apart */
    COLLAGE_MODEL_TRUNK_STRIDE = 282, /* the metadata's stride is not the network's */
    COLLAGE_MODEL_GRID_NOT_TAKEN = 283, /* a grid that the model was not made for */
    COLLAGE_MODEL_MEAN_NOT_TAKEN = 284, /* a network that takes no mean of images */
    COLLAGE_PLAN_EMPTY_BATCH = 290, /* a batch of no images */
    COLLAGE_PLAN_TOP_OUT_OF_RANGE = 291, /* more or fewer results than there are classes */
    COLLAGE_PLAN_TOO_LARGE = 292, /* shapes or memory beyond what can be counted */
    COLLAGE_PLAN_BEYOND_DTYPE = 293, /* a parameter that the element type cannot hold */
    COLLAGE_PLAN_MISSING = 294, /* a step names what the plan does not have */
    COLLAGE_PLAN_MISPLACED = 295, /* a step where it may not be */
    COLLAGE_PLAN_EXTENT = 296, /* a value that is not aligned or not in the arena */
    COLLAGE_PLAN_MISMATCH = 297, /* shapes or numbers that do not fit each other */
    COLLAGE_PLAN_LOST = 298, /* a step reads what nobody wrote, or what was overwritten since */
    COLLAGE_PLAN_OVERLAP = 299, /* a step writes over what it reads */

    /* 3xx: devices. */
    COLLAGE_DEVICE_INPUT = 300, /* an input that does not fit the plan */
    COLLAGE_DEVICE_INVALID_PLAN = 301, /* a plan that contradicts itself */
    COLLAGE_DEVICE_UNSUPPORTED = 302, /* the device cannot do what is asked */
    COLLAGE_DEVICE_MEMORY = 303, /* more in one buffer than the device allows */
    COLLAGE_DEVICE_LOST = 304, /* the device went away */
    COLLAGE_DEVICE_NONE = 305, /* no such device here */
    COLLAGE_DEVICE_DRIVER = 306, /* the driver refused a call */
    COLLAGE_DEVICE_NO_COMPILER = 307, /* a kernel must be compiled, and there is nothing to compile it with */
    COLLAGE_DEVICE_COMPILE = 308, /* a kernel does not compile */
    COLLAGE_DEVICE_DRIVER_TOO_OLD = 309, /* the driver is older than what it is given */
    COLLAGE_DEVICE_ARCHITECTURE = 310, /* compiled for another architecture */
    COLLAGE_DEVICE_FULL = 311, /* too little device memory is left */
    COLLAGE_DEVICE_SYNTAX = 320, /* a device's name that is none */
    COLLAGE_ARCHITECTURE_SYNTAX = 321, /* an architecture's name that is none */
    COLLAGE_DEVICE_TWICE = 322, /* a device that is named twice */
    COLLAGE_DEVICE_AUTO = 323, /* `auto` beside other devices */

    /* 4xx: serving. */
    COLLAGE_OVERLOADED = 400, /* as many requests wait as `queue` allows */
    COLLAGE_DEADLINE_EXCEEDED = 401, /* no acceptable answer by the deadline */
    COLLAGE_CANCELLED = 402, /* cancelled before the answer */
    COLLAGE_FAILED = 403, /* every run of the request failed */
    COLLAGE_NO_WORKERS = 404, /* every worker that could have answered is retired */
    COLLAGE_CLOSED = 405, /* the engine is closing or closed */
    COLLAGE_OPTION = 410, /* an option that cannot be */
    COLLAGE_LOAD = 411, /* a device refused the model */
    COLLAGE_LOAD_PANIC = 412, /* a defect of a backend while it loaded the model */
    COLLAGE_THREAD = 413, /* the operating system gave no thread */
    COLLAGE_CONTENTION = 414, /* a device refused an injected load */
    COLLAGE_STRAGGLER_SYNTAX = 420, /* a straggler's description that is none */
    COLLAGE_TRACE_READ = 421, /* a trace cannot be read */
    COLLAGE_TRACE_CONTENT = 422, /* a trace that is none */
    COLLAGE_STRAGGLER_NEEDS_DEVICE = 424, /* a straggler that needs a device, where there is none */
    COLLAGE_SERVICE_READ = 425, /* service times cannot be read */
    COLLAGE_SERVICE_CONTENT = 426, /* service times that are none */

    /* 5xx: settings. */
    COLLAGE_CONFIG_READ = 500, /* a settings file cannot be read */
    COLLAGE_CONFIG_TOO_LARGE = 501, /* a settings file that is too long */
    COLLAGE_CONFIG_SYNTAX = 502, /* settings that are not TOML */
    COLLAGE_CONFIG_KEY = 503, /* no such setting */
    COLLAGE_CONFIG_VALUE = 504, /* a value that the setting does not take */
    COLLAGE_CONFIG_MISSING = 505, /* a setting needs another one */
    COLLAGE_CONFIG_RELEASE = 506, /* the release time is not before the deadline */
    COLLAGE_CONFIG_ACCURACY_DROP = 507, /* an accuracy budget, and nothing says what a collage's answer loses */

    /* 6xx: this interface. */
    COLLAGE_NULL = 600, /* NULL where it is not allowed */
    COLLAGE_BAD_SIZE = 601, /* a struct_size that is none, or an unknown field that is not zero */
    COLLAGE_BAD_HANDLE = 602, /* a handle that was freed, was never given, or is of another kind */
    COLLAGE_BAD_VALUE = 603, /* an argument out of its range, or two that contradict each other */
    COLLAGE_NOT_UTF8 = 604, /* text that is not UTF-8 */
    COLLAGE_PENDING = 605, /* not settled yet */
    COLLAGE_PANIC = 606, /* a defect inside the library: please report it */
    COLLAGE_BUFFER_TOO_SMALL = 607, /* the text does not fit; the length that it needs was written */
    COLLAGE_IN_CALLBACK = 608, /* the call would wait for the callback that makes it */
    COLLAGE_TENSOR = 609, /* a tensor whose type, shape, strides or values are no image */
    COLLAGE_NO_DEVICE_POINTERS = 610, /* nobody here can read this device memory */

    /* 8xx: NVML. */
    COLLAGE_NVML_NOT_BUILT = 800, /* built without NVML */
    COLLAGE_NVML_NO_LIBRARY = 801, /* NVML is not installed */
    COLLAGE_NVML_NOT_LOADED = 802, /* a file that is no NVML */
    COLLAGE_NVML_NO_DRIVER = 803, /* NVML finds no NVIDIA driver */
    COLLAGE_NVML_NO_PERMISSION = 804, /* NVML refuses this user */
    COLLAGE_NVML_VERSION = 805, /* NVML and the driver are of different versions */
    COLLAGE_NVML_FAILED = 806, /* NVML failed otherwise */

    /* 9xx: attaching to engines. */
    COLLAGE_ATTACH_UNSUPPORTED = 900, /* engines cannot be attached to on this system */
    COLLAGE_ATTACH_FOLDER = 901, /* a folder for sockets that cannot be used */
    COLLAGE_ATTACH_IO = 902, /* a socket failed */
    COLLAGE_ATTACH_GONE = 903, /* the engine is gone */
    COLLAGE_ATTACH_SILENT = 904, /* the engine did not answer in time */
    COLLAGE_ATTACH_ANSWER = 905, /* an answer that is no engine's state */
    COLLAGE_ATTACH_REFUSED = 906 /* the engine refused */
};

/* Of the library that is loaded: (major << 16) | minor. A program can use it if the major numbers agree and the library's
 * minor number is at least that of the header the program was built with. */
uint32_t collage_abi_version(void);

/* The library's release, such as "0.1.0". Lives as long as the library. */
const char *collage_version(void);

/* What a status means, in one line: "overloaded: ...". For unknown numbers too; never NULL. Lives as long as the library. */
const char *collage_status_string(collage_status status);

/* The message of the last call of this thread that failed: what was given and what was expected. "" if none has failed.
 * Successful calls leave it as it is. Lives until the next failure on this thread. */
const char *collage_last_error(void);

/* The status of the last call of this thread that failed; COLLAGE_OK if none has. */
collage_status collage_last_status(void);

/* Whether the last failed call of this thread may succeed later with the same arguments: 1 or 0. */
int32_t collage_last_error_can_retry(void);

/* This moment, in the time in which `*_at_ns` fields are: CLOCK_MONOTONIC where the system has it. */
int64_t collage_now_ns(void);

/* ---- Opening an engine -------------------------------------------------------------------------------------------- */

/* A running engine, and a submitted request. */
typedef struct collage_engine collage_engine;
typedef struct collage_ticket collage_ticket;

/* Zero itself, where 0 would leave a setting to its default: collage_workers, budget, waits and times. */
#define COLLAGE_NONE (-1)

/* Every setting can also be given as TOML, with the keys of the command line's settings file (README: Settings). What is
 * set by a field here goes before `toml`, which goes before the file at `config_path`. Environment variables are not read.
 * Without any model, the digits that are embedded in the library are used. All of it is copied during the call. */
typedef struct collage_options {
    size_t struct_size;
    const char *toml;           /* settings as text, such as "release = \"20ms\"\nworkers = 4\n" */
    const char *config_path;    /* a TOML file */
    const char *model_path;     /* the base model: classifies single images */
    const void *model_data;     /* or the file's bytes, */
    size_t model_size;          /* so many */
    const char *arch;           /* of a base model whose file does not describe itself, such as "resnet34" */
    const char *collage_path;   /* the collage model: classifies all tiles of a canvas at once */
    const void *collage_data;   /* or the file's bytes, */
    size_t collage_size;        /* so many */
    const char *const *devices; /* where to run: "auto", "cuda:0", "wgpu:1", "cpu:4"; workers are dealt over them in turn */
    size_t device_count;
    const char *policy;         /* redundancy: "none", "replicate:2", "hedge:p95", "collage:3x3:lazy", ... */
    const char *grid;           /* tiles of the canvas, such as "3x3" */
    const char *stragglers;     /* injected ones, for experiments, separated by commas: "slow:0:8:0.1" */
    int64_t workers;            /* for base runs */
    int64_t collage_workers;    /* for collages; COLLAGE_NONE: the base workers run the collages too */
    int64_t queue;              /* most accepted and unanswered requests; beyond, COLLAGE_OVERLOADED */
    int64_t max_batch;          /* most images of a base run */
    int64_t top_k;              /* classes of an answer, best first */
    int64_t batch_wait_ns;      /* how long a request waits for others to share its base run */
    int64_t group_wait_ns;      /* how long a group waits for members before its collage runs with blank tiles */
    int64_t release_ns;         /* after submission: from then on a collage may answer */
    int64_t deadline_ns;        /* after submission: answered by then, or COLLAGE_DEADLINE_EXCEEDED */
    double budget;              /* most extra work that lateness may ask for, in base runs a request */
    double accuracy_budget;     /* accuracy that may be lost, such as 0.001: release times follow from it, */
    double accuracy_drop;       /* and from how much less accurate a collage's answer is than the base's */
    double min_confidence;      /* a collage answer below this probability is not given */
    uint64_t seed;              /* of all that is drawn at random */
} collage_options;

#define COLLAGE_OPTIONS_INIT \
    { sizeof(collage_options), NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, 0, NULL, 0, NULL, NULL, NULL, \
      0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0 }

/* Opens an engine and starts to serve.
 * options  NULL: all defaults.
 * engine   receives the handle; NULL is written on failure.
 * Blocks while models are read and compiled and every worker loads them: up to seconds.
 * Ownership: the caller frees the engine with collage_engine_free(). Model bytes are not needed after the call. */
collage_status collage_engine_open(const collage_options *options, collage_engine **engine);

/* ---- Images ------------------------------------------------------------------------------------------------------- */

/* What `data` is. */
enum {
    COLLAGE_ENCODED = 0, /* `size` bytes of a JPEG, PNG, WebP or BMP; decoded by the thread that submits */
    COLLAGE_U8 = 1,      /* a tensor of unsigned bytes, */
    COLLAGE_F16 = 2,     /* of IEEE binary16, */
    COLLAGE_F32 = 3      /* of IEEE binary32 */
};

/* The order of a tensor's dimensions. */
enum {
    COLLAGE_HWC = 0, /* (H, W), (H, W, C) or (N, H, W, C) */
    COLLAGE_CHW = 1  /* (H, W), (C, H, W) or (N, C, H, W) */
};

/* Whose memory `data` is in. */
enum {
    COLLAGE_HOST = 0,
    COLLAGE_CUDA = 1 /* device memory of the CUDA device `device_index` */
};

/* In `stream`: the data is there already, nothing needs to be waited for. */
#define COLLAGE_READY (-1)

/* One image, or a batch of images of one size.
 *
 * A tensor has 1 channel (grey) or 3 (red, green, blue). Its values are mapped from low..high to the 0..255 that networks'
 * preprocessing starts from, clamped, and rounded to 8 bits; that is why a normalised tensor must not be given, and why a
 * value that is not a number is refused.
 *
 * Device memory holds packed COLLAGE_U8 of (H, W, 3) or (N, H, W, 3), values from 0 to 255, in the device's primary context
 * (which the CUDA runtime and PyTorch use). On that device it is read without a copy on the host; a worker on any other device
 * gets a copy through the host. Both are counted (collage_stats).
 *
 * Ownership. Host memory is read before the call that submits it returns. Device memory is read later, when the request
 * runs, and maybe after it was answered (a late run that lost to a collage). So device memory needs `release`: the library
 * calls release(release_context) once it will not read `data` again, exactly once for each submission that returned
 * COLLAGE_OK, from any thread; it may not call the library from there. For host memory `release` may be NULL; if it is not,
 * it is called before the submission returns. A submission that failed does not call it: the memory is still the caller's. */
typedef struct collage_image {
    size_t struct_size;
    const void *data;
    size_t size;          /* bytes that may be read at data; 0 for tensors: as many as shape and strides reach */
    uint32_t type;        /* COLLAGE_ENCODED, COLLAGE_U8, COLLAGE_F16, COLLAGE_F32 */
    uint32_t layout;      /* COLLAGE_HWC, COLLAGE_CHW */
    uint32_t dimensions;  /* 2, 3 or 4; 0 for encoded images */
    uint32_t memory;      /* COLLAGE_HOST, COLLAGE_CUDA */
    int64_t shape[4];     /* so many first entries as there are dimensions */
    int64_t strides[4];   /* in bytes, may be negative; all 0: packed, the last dimension fastest */
    float low;            /* the value that is black, */
    float high;           /* and the one that is white; both 0: 0 and 255 for COLLAGE_U8, 0 and 1 for floats */
    int32_t device_index; /* of device memory, as CUDA counts its devices */
    int32_t reserved;     /* 0 */
    int64_t stream;       /* of device memory: the CUstream on which the data is made, which is waited for on the device;
                             0: the legacy default stream; COLLAGE_READY: none */
    void (*release)(void *release_context);
    void *release_context;
    const char *name;     /* for messages; may be NULL */
} collage_image;

#define COLLAGE_IMAGE_INIT \
    { sizeof(collage_image), NULL, 0, COLLAGE_ENCODED, COLLAGE_HWC, 0, COLLAGE_HOST, { 0, 0, 0, 0 }, { 0, 0, 0, 0 }, \
      0.0f, 0.0f, 0, 0, 0, NULL, NULL, NULL }

/* Describes a DLPack tensor as an image, without copying it.
 * managed    a DLManagedTensor*, or a DLManagedTensorVersioned* where `versioned` is not 0.
 * layout     COLLAGE_HWC or COLLAGE_CHW.
 * image      receives the description: set its struct_size first (COLLAGE_IMAGE_INIT). The stream is set to COLLAGE_READY,
 *            as DLPack's producers are told the consumer's stream; change it where that is not so.
 * Ownership: `release` of the description calls the tensor's deleter. So the tensor is the library's once a submission of
 *            the image has returned COLLAGE_OK, and the caller's until then and if none does. */
collage_status collage_image_from_dlpack(void *managed, int32_t versioned, uint32_t layout, collage_image *image);

/* ---- Requests ----------------------------------------------------------------------------------------------------- */

/* Who answered. */
enum {
    COLLAGE_FROM_BASE = 0,    /* the request's own base run */
    COLLAGE_FROM_COLLAGE = 1, /* its tile of a collage */
    COLLAGE_FROM_COPY = 2,    /* a further run of the base model: a replica, a hedge, a re-sent request */
    COLLAGE_FROM_PARITY = 3   /* decoded from a parity and from other requests' base answers */
};

/* What a request's base run and its backup did not share. */
enum {
    COLLAGE_SHARED_WORKER = 0, /* their worker was the same, or there was no backup */
    COLLAGE_OTHER_WORKER = 1,  /* another worker of the same device */
    COLLAGE_OTHER_DEVICE = 2   /* another device */
};

/* A class and its probability. */
typedef struct collage_score {
    uint32_t class_index;
    float score;       /* softmax probability, 0..1 */
    const char *label; /* lives as long as the ticket that the score came from, or the callback's call */
} collage_score;

/* `tile` of an answer that did not come from a collage. */
#define COLLAGE_NO_TILE UINT32_MAX

/* An answer. What its pointers name lives until the ticket is freed, or until the callback returns. */
typedef struct collage_answer {
    size_t struct_size;
    uint64_t request;         /* the request's number within its engine, as in its trace */
    uint32_t class_index;     /* the best class, */
    float confidence;         /* its probability, 0..1, */
    const char *label;        /* and its name */
    const collage_score *top; /* the best classes, best first: the first is the one above */
    size_t top_count;
    int64_t latency_ns;       /* from submission, or from when it was due, to the answer */
    uint64_t collage;         /* which collage answered: the number of its run; 0 where none did */
    uint32_t tile;            /* its place in that collage, row by row; COLLAGE_NO_TILE where none answered */
    uint32_t source;          /* COLLAGE_FROM_... */
    uint32_t independence;    /* COLLAGE_SHARED_WORKER, COLLAGE_OTHER_... */
    uint32_t worker;          /* index of the worker that ran it */
} collage_answer;

#define COLLAGE_ANSWER_INIT { sizeof(collage_answer), 0, 0, 0.0f, NULL, NULL, 0, 0, 0, 0, 0, 0, 0 }

/* Told of a settled request.
 * user_data  the request's.
 * ticket     the request's, or NULL if the submission asked for none.
 * status     COLLAGE_OK, or why there is no answer; collage_last_error() has the message during the call.
 * answer     the answer; NULL where there is none. Lives until the callback returns.
 * Threads: the callbacks of one engine are called one at a time, in the order in which requests were settled, by one thread
 *     of that engine. A callback that blocks delays the others, and the close of the engine, but no request. It may come
 *     before the submission has returned.
 * It may call any function, except that closing or freeing its own engine is refused with COLLAGE_IN_CALLBACK. It must not
 *     throw or jump out. */
typedef void (*collage_callback)(void *user_data, collage_ticket *ticket, collage_status status,
                                 const collage_answer *answer);

/* What a request may ask for beyond the engine's settings. */
typedef struct collage_request {
    size_t struct_size;
    int64_t release_ns;     /* after submission: from then on a collage may answer; at or after the deadline: never */
    int64_t deadline_ns;    /* after submission: answered by then, or COLLAGE_DEADLINE_EXCEEDED */
    int64_t release_at_ns;  /* or as moments of collage_now_ns(); 0: not given */
    int64_t deadline_at_ns;
    int64_t due_at_ns;      /* when the request was due, where that is earlier than now: latency, release and deadline count
                               from there, so that a load generator which falls behind hides no waiting; 0: now */
    collage_callback callback;
    void *user_data;
} collage_request;

#define COLLAGE_REQUEST_INIT { sizeof(collage_request), 0, 0, 0, 0, 0, NULL, NULL }

/* Submits one image.
 * request  NULL: the engine's settings, no callback.
 * ticket   receives the handle to wait, poll or cancel with; NULL is written on failure. May itself be NULL if the request
 *          has a callback, which is then the only news of it.
 * Blocks for the decoding or the copy of the image, never for the engine: a full queue is COLLAGE_OVERLOADED at once.
 * Ownership: the caller frees the ticket with collage_ticket_free(). For the image's memory see collage_image. */
collage_status collage_submit(collage_engine *engine, const collage_image *image, const collage_request *request,
                              collage_ticket **ticket);

/* Submits many images; an image with four dimensions is as many as its first one says.
 * images        image_count of them, one after the other; all with the same struct_size.
 * tickets       receives one handle for each single image, in order: ticket_count must be their number. What was not
 *               submitted gets NULL. May be NULL if the request has a callback.
 * submitted     receives how many single images were accepted, from the first on; may be NULL.
 * All images are checked, decoded and copied before the first is submitted. If the queue is full in between, the first ones
 * are submitted and the status is COLLAGE_OVERLOADED: those tickets are to be waited for and freed as ever. The memory of an
 * entry of `images` is taken over (its `release` will be called) if one at least of its single images was accepted.
 * Blocks and ownership: as collage_submit. */
collage_status collage_submit_many(collage_engine *engine, const collage_image *images, size_t image_count,
                                   const collage_request *request, collage_ticket **tickets, size_t ticket_count,
                                   size_t *submitted);

/* Wait as long as it takes: until the request's deadline at the latest. */
#define COLLAGE_FOREVER INT64_MAX

/* Waits until the request is settled, and gives its answer.
 * timeout_ns  0 only looks, as collage_ticket_poll does; COLLAGE_FOREVER waits as long as it takes.
 * answer      receives the answer; may be NULL. Untouched unless COLLAGE_OK is returned.
 * Returns COLLAGE_PENDING if the time is over first; else COLLAGE_OK, or why there is no answer. May be called again, and by
 * many threads at once: the outcome stays with the ticket.
 * Blocks until then. Freeing the ticket meanwhile cancels the request, and wakes the wait with COLLAGE_CANCELLED. */
collage_status collage_ticket_wait(collage_ticket *ticket, int64_t timeout_ns, collage_answer *answer);

/* As collage_ticket_wait with a timeout of 0. Never blocks. */
collage_status collage_ticket_poll(collage_ticket *ticket, collage_answer *answer);

/* Asks for the request to be given up: it is settled with COLLAGE_CANCELLED, unless its outcome was there first. The ticket
 * stays valid. Never blocks. */
collage_status collage_ticket_cancel(collage_ticket *ticket);

/* Ends a ticket, and what its answers' pointers name. A request that is not settled is cancelled, unless it has a callback:
 * then it goes on, and the callback is called with a NULL ticket. NULL does nothing. Never blocks. */
collage_status collage_ticket_free(collage_ticket *ticket);

/* ---- Statistics, labels and the end --------------------------------------------------------------------------------- */

/* Counts since the engine was opened. Each submitted request ends in exactly one of those from `base` to `closed`. */
typedef struct collage_stats {
    size_t struct_size;
    uint64_t submitted;         /* whatever became of them */
    uint64_t base;              /* answered by their own base run */
    uint64_t collage;           /* answered by their tile of a collage */
    uint64_t copies;            /* answered by a further run of the base model */
    uint64_t deadline_exceeded; /* no answer by the deadline */
    uint64_t overloaded;        /* refused: the queue was full */
    uint64_t cancelled;
    uint64_t failed;            /* no run of them succeeded, or no worker was left */
    uint64_t closed;            /* refused: the engine was closing */
    uint64_t late;              /* base answers that came after their request was settled otherwise */
    uint64_t abstained;         /* collage answers under the confidence that was asked for */
    uint64_t unneeded;          /* collage answers that nobody needed any more */
    uint64_t copies_unneeded;   /* the same of copies */
    uint64_t base_runs;         /* runs launched, and images in them */
    uint64_t base_images;
    uint64_t copy_runs;
    uint64_t copy_images;
    uint64_t probe_runs;        /* to see how fast a worker under watch is */
    uint64_t collage_runs;
    uint64_t collage_tiles;     /* tiles filled in them */
    uint64_t retries;           /* base runs repeated because a run failed or a worker was lost */
    uint64_t pending;           /* accepted and not settled */
    uint64_t workers;
    uint64_t device_reads;      /* how often an image in device memory was read by that device: no copy on the host */
    uint64_t staged_copies;     /* how often one was copied to the host because another device ran it */
} collage_stats;

#define COLLAGE_STATS_INIT \
    { sizeof(collage_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* What a worker runs. */
enum { COLLAGE_ROLE_BASE = 0, COLLAGE_ROLE_COLLAGE = 1, COLLAGE_ROLE_BOTH = 2 };
/* Whether it works. */
enum { COLLAGE_WORKER_READY = 0, COLLAGE_WORKER_LOST = 1, COLLAGE_WORKER_RETIRED = 2 };
/* What it is trusted with, by how fast it was. */
enum { COLLAGE_HEALTHY = 0, COLLAGE_PROBATION = 1, COLLAGE_SUSPECT = 2, COLLAGE_QUARANTINED = 3 };

/* One worker. */
typedef struct collage_worker_stats {
    size_t struct_size;
    uint32_t role;          /* COLLAGE_ROLE_... */
    uint32_t state;         /* COLLAGE_WORKER_... */
    uint32_t health;        /* COLLAGE_HEALTHY, ... */
    uint32_t device;        /* index of its device among those the engine was given */
    uint64_t runs;          /* that succeeded */
    uint64_t images;        /* in them */
    uint64_t failures;      /* runs that failed or took the worker down */
    uint64_t restarts;      /* times that it came back */
    int64_t busy_ns;        /* in runs, injected delays included */
    int64_t service_p50_ns; /* of a run's time */
    int64_t service_p99_ns;
    int64_t injected_ns;    /* by which runs were delayed on purpose */
    uint64_t injected_runs;
} collage_worker_stats;

#define COLLAGE_WORKER_STATS_INIT { sizeof(collage_worker_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* What the engine has done so far; after its close, all that it has done. Waits for the scheduler to answer:
 * microseconds. COLLAGE_CLOSED while another thread is closing the engine. */
collage_status collage_engine_stats(collage_engine *engine, collage_stats *stats);

/* The same of one worker, counted from 0. COLLAGE_BAD_VALUE beyond the last. */
collage_status collage_engine_worker_stats(collage_engine *engine, size_t worker, collage_worker_stats *stats);

/* All of it as JSON text, with device names and the last failures (docs/c.md has its fields).
 * buffer    receives at most `capacity` bytes, always with a zero at the end; may be NULL if capacity is 0.
 * length    receives the whole text's length without that zero; may be NULL. COLLAGE_BUFFER_TOO_SMALL if it did not fit. */
collage_status collage_engine_stats_json(collage_engine *engine, char *buffer, size_t capacity, size_t *length);

/* How many classes the model knows. */
collage_status collage_engine_class_count(collage_engine *engine, size_t *count);

/* The name of a class, which lives until the engine is freed. COLLAGE_BAD_VALUE beyond the last. */
collage_status collage_engine_class_label(collage_engine *engine, size_t class_index, const char **label);

/* Takes no more requests, waits until every accepted one is answered or has failed and every callback has returned, and ends
 * the engine's threads. Tickets stay valid and keep their outcomes; the handle stays valid for statistics and labels.
 * stats  receives what the engine has done; may be NULL.
 * Blocks until then: until the last request's deadline at the latest, and 5 s more if a run does not end.
 * Closing a closed engine succeeds. COLLAGE_IN_CALLBACK from one of its own callbacks. */
collage_status collage_engine_close(collage_engine *engine, collage_stats *stats);

/* Closes the engine, as collage_engine_close does, and ends the handle. NULL does nothing. */
collage_status collage_engine_free(collage_engine *engine);

#ifdef __cplusplus
}
#endif

#endif /* COLLAGE_H */
