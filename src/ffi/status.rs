//! Every status by its number: the table behind `collage_status_string`, the header's constants and docs/c.md.

use std::ffi::{CStr, c_char};

/// One status.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Its number: what [`Classify::code`](crate::error::Classify::code) gives.
    pub number: i32,
    /// As in the header, without `COLLAGE_`.
    pub name: &'static CStr,
    /// What it means.
    pub meaning: &'static CStr,
}

const fn status(number: i32, name: &'static CStr, meaning: &'static CStr) -> Status {
    Status {
        number,
        name,
        meaning,
    }
}

/// All of them, ascending.
#[rustfmt::skip] // a table
pub static STATUSES: &[Status] = &[
    status(0, c"OK", c"success"),
    status(100, c"IMAGE_READ", c"an image file cannot be read"),
    status(101, c"IMAGE_FORMAT", c"not a JPEG, PNG, WebP or BMP image"),
    status(102, c"IMAGE_DECODE", c"a damaged image, or a rare variant of its format"),
    status(103, c"IMAGE_TOO_LARGE", c"an image of more pixels than are decoded"),
    status(104, c"IMAGE_FILE_TOO_LONG", c"an image of more bytes than are read"),
    status(105, c"IMAGE_SHAPE", c"a raw tensor that is not an image"),
    status(106, c"IMAGE_DEVICE", c"an image in device memory cannot be copied to the host"),
    status(120, c"DTYPE_SYNTAX", c"an element type's name that is none"),
    status(150, c"DATASET_READ", c"a data set cannot be read"),
    status(151, c"DATASET_SIZE", c"a data set of another size than its records make"),
    status(152, c"DATASET_LABEL", c"a label that the model does not have"),
    status(153, c"DATASET_CLASSES", c"class folders that are not the model's classes"),
    status(154, c"DATASET_EMPTY", c"a data set without images"),
    status(155, c"DATASET_PAST_END", c"an image that the data set does not have"),
    status(200, c"MODEL_READ", c"a model file cannot be read"),
    status(201, c"MODEL_TOO_SHORT", c"too short for a safetensors file"),
    status(202, c"MODEL_HEADER_TOO_LARGE", c"the header claims more than any header needs"),
    status(203, c"MODEL_HEADER_TRUNCATED", c"the file ends inside its header"),
    status(204, c"MODEL_HEADER_JSON", c"the header is not what the format asks for"),
    status(205, c"MODEL_DUPLICATE_TENSOR", c"two tensors share a name"),
    status(206, c"MODEL_RANGE_REVERSED", c"a tensor's bytes end before they begin"),
    status(207, c"MODEL_DATA_TRUNCATED", c"a tensor's bytes are not all in the file"),
    status(208, c"MODEL_SIZE_MISMATCH", c"a tensor's bytes are not as many as its shape takes"),
    status(209, c"MODEL_SHAPE_OVERFLOW", c"a tensor with more elements than can be counted"),
    status(210, c"MODEL_OVERLAP", c"two tensors share bytes"),
    status(211, c"MODEL_GAP", c"bytes that belong to no tensor"),
    status(212, c"MODEL_DTYPE", c"an element type that is not known, or not usable here"),
    status(220, c"MODEL_NO_METADATA", c"plain weights: give `arch`"),
    status(221, c"MODEL_IS_DATASET", c"images and labels where a model is wanted"),
    status(222, c"MODEL_METADATA_TOO_LARGE", c"longer than metadata has reason to be"),
    status(223, c"MODEL_METADATA_JSON", c"metadata that is not JSON, or a field missing or of another type"),
    status(224, c"MODEL_METADATA_FORMAT", c"metadata of another version of the format"),
    status(225, c"MODEL_METADATA_VALUE", c"a metadata field's value that makes no sense"),
    status(226, c"MODEL_UNKNOWN_FAMILY", c"an architecture that is not known"),
    status(227, c"MODEL_ARCH_CONTRADICTED", c"`arch` for a file that says otherwise"),
    status(228, c"MODEL_CHECKSUM", c"the tensors are not those that the metadata was written for"),
    status(229, c"MODEL_CLASS_COUNT", c"class names and outputs differ in number"),
    status(240, c"MODEL_MISSING_TENSOR", c"a tensor that the architecture needs is missing"),
    status(241, c"MODEL_WRONG_SHAPE", c"a tensor of another shape"),
    status(242, c"MODEL_EXTRA_TENSORS", c"tensors that the architecture has no place for"),
    status(243, c"MODEL_NOT_FINITE", c"a parameter that is not a number, or infinite"),
    status(244, c"MODEL_NEGATIVE_VARIANCE", c"a variance below zero"),
    status(245, c"MODEL_FOLD_OVERFLOW", c"finite parameters whose product is not"),
    status(260, c"MODEL_DUPLICATE_LAYER", c"two layers share a name"),
    status(261, c"MODEL_UNKNOWN_INPUT", c"a layer reads one that does not come before it"),
    status(262, c"MODEL_UNREAD_LAYER", c"nothing reads a layer"),
    status(263, c"MODEL_HEAD_MISPLACED", c"the layers do not end with their only linear one"),
    status(264, c"MODEL_TOO_MANY_LAYERS", c"more layers than any network has"),
    status(265, c"MODEL_LAYER_VALUE", c"a number of a layer that makes no sense"),
    status(266, c"MODEL_WINDOW_TOO_LARGE", c"a window larger than the padded input"),
    status(267, c"MODEL_RESIDUAL_SHAPE", c"a shortcut that does not fit what it is added to"),
    status(280, c"MODEL_TILE_NOT_DIVISIBLE", c"a tile that is not a whole number of cells"),
    status(281, c"MODEL_TILE_DRIFT", c"a layer in which tiles and cells drift apart"),
    status(282, c"MODEL_TRUNK_STRIDE", c"the metadata's stride is not the network's"),
    status(283, c"MODEL_GRID_NOT_TAKEN", c"a grid that the model was not made for"),
    status(284, c"MODEL_MEAN_NOT_TAKEN", c"a network that takes no mean of images"),
    status(290, c"PLAN_EMPTY_BATCH", c"a batch of no images"),
    status(291, c"PLAN_TOP_OUT_OF_RANGE", c"more or fewer results than there are classes"),
    status(292, c"PLAN_TOO_LARGE", c"shapes or memory beyond what can be counted"),
    status(293, c"PLAN_BEYOND_DTYPE", c"a parameter that the element type cannot hold"),
    status(294, c"PLAN_MISSING", c"a step names what the plan does not have"),
    status(295, c"PLAN_MISPLACED", c"a step where it may not be"),
    status(296, c"PLAN_EXTENT", c"a value that is not aligned or not in the arena"),
    status(297, c"PLAN_MISMATCH", c"shapes or numbers that do not fit each other"),
    status(298, c"PLAN_LOST", c"a step reads what nobody wrote, or what was overwritten since"),
    status(299, c"PLAN_OVERLAP", c"a step writes over what it reads"),
    status(300, c"DEVICE_INPUT", c"an input that does not fit the plan"),
    status(301, c"DEVICE_INVALID_PLAN", c"a plan that contradicts itself"),
    status(302, c"DEVICE_UNSUPPORTED", c"the device cannot do what is asked"),
    status(303, c"DEVICE_MEMORY", c"more in one buffer than the device allows"),
    status(304, c"DEVICE_LOST", c"the device went away"),
    status(305, c"DEVICE_NONE", c"no such device here"),
    status(306, c"DEVICE_DRIVER", c"the driver refused a call"),
    status(307, c"DEVICE_NO_COMPILER", c"a kernel must be compiled, and there is nothing to compile it with"),
    status(308, c"DEVICE_COMPILE", c"a kernel does not compile"),
    status(309, c"DEVICE_DRIVER_TOO_OLD", c"the driver is older than what it is given"),
    status(310, c"DEVICE_ARCHITECTURE", c"compiled for another architecture"),
    status(311, c"DEVICE_FULL", c"too little device memory is left"),
    status(320, c"DEVICE_SYNTAX", c"a device's name that is none"),
    status(321, c"ARCHITECTURE_SYNTAX", c"an architecture's name that is none"),
    status(322, c"DEVICE_TWICE", c"a device that is named twice"),
    status(323, c"DEVICE_AUTO", c"`auto` beside other devices"),
    status(400, c"OVERLOADED", c"as many requests wait as `queue` allows"),
    status(401, c"DEADLINE_EXCEEDED", c"no acceptable answer by the deadline"),
    status(402, c"CANCELLED", c"cancelled before the answer"),
    status(403, c"FAILED", c"every run of the request failed"),
    status(404, c"NO_WORKERS", c"every worker that could have answered is retired"),
    status(405, c"CLOSED", c"the engine is closing or closed"),
    status(410, c"OPTION", c"an option that cannot be"),
    status(411, c"LOAD", c"a device refused the model"),
    status(412, c"LOAD_PANIC", c"a defect of a backend while it loaded the model"),
    status(413, c"THREAD", c"the operating system gave no thread"),
    status(414, c"CONTENTION", c"a device refused an injected load"),
    status(420, c"STRAGGLER_SYNTAX", c"a straggler's description that is none"),
    status(421, c"TRACE_READ", c"a trace cannot be read"),
    status(422, c"TRACE_CONTENT", c"a trace that is none"),
    status(424, c"STRAGGLER_NEEDS_DEVICE", c"a straggler that needs a device, where there is none"),
    status(425, c"SERVICE_READ", c"service times cannot be read"),
    status(426, c"SERVICE_CONTENT", c"service times that are none"),
    status(500, c"CONFIG_READ", c"a settings file cannot be read"),
    status(501, c"CONFIG_TOO_LARGE", c"a settings file that is too long"),
    status(502, c"CONFIG_SYNTAX", c"settings that are not TOML"),
    status(503, c"CONFIG_KEY", c"no such setting"),
    status(504, c"CONFIG_VALUE", c"a value that the setting does not take"),
    status(505, c"CONFIG_MISSING", c"a setting needs another one"),
    status(506, c"CONFIG_RELEASE", c"the release time is not before the deadline"),
    status(507, c"CONFIG_ACCURACY_DROP", c"an accuracy budget, and nothing says what a collage's answer loses"),
    status(600, c"NULL", c"NULL where it is not allowed"),
    status(601, c"BAD_SIZE", c"a struct_size that is none, or an unknown field that is not zero"),
    status(602, c"BAD_HANDLE", c"a handle that was freed, was never given, or is of another kind"),
    status(603, c"BAD_VALUE", c"an argument out of its range, or two that contradict each other"),
    status(604, c"NOT_UTF8", c"text that is not UTF-8"),
    status(605, c"PENDING", c"not settled yet"),
    status(606, c"PANIC", c"a defect inside the library: please report it"),
    status(607, c"BUFFER_TOO_SMALL", c"the text does not fit; the length that it needs was written"),
    status(608, c"IN_CALLBACK", c"the call would wait for the callback that makes it"),
    status(609, c"TENSOR", c"a tensor whose type, shape, strides or values are no image"),
    status(610, c"NO_DEVICE_POINTERS", c"nobody here can read this device memory"),
    status(800, c"NVML_NOT_BUILT", c"built without NVML"),
    status(801, c"NVML_NO_LIBRARY", c"NVML is not installed"),
    status(802, c"NVML_NOT_LOADED", c"a file that is no NVML"),
    status(803, c"NVML_NO_DRIVER", c"NVML finds no NVIDIA driver"),
    status(804, c"NVML_NO_PERMISSION", c"NVML refuses this user"),
    status(805, c"NVML_VERSION", c"NVML and the driver are of different versions"),
    status(806, c"NVML_FAILED", c"NVML failed otherwise"),
    status(900, c"ATTACH_UNSUPPORTED", c"engines cannot be attached to on this system"),
    status(901, c"ATTACH_FOLDER", c"a folder for sockets that cannot be used"),
    status(902, c"ATTACH_IO", c"a socket failed"),
    status(903, c"ATTACH_GONE", c"the engine is gone"),
    status(904, c"ATTACH_SILENT", c"the engine did not answer in time"),
    status(905, c"ATTACH_ANSWER", c"an answer that is no engine's state"),
    status(906, c"ATTACH_REFUSED", c"the engine refused"),
];

/// What a number that has no entry may be, by its hundred.
fn unknown(number: i32) -> &'static CStr {
    match number {
        100..200 => c"an image or tensor is wrong",
        200..300 => c"a model is wrong",
        300..400 => c"a device cannot do it",
        400..500 => c"the request was not served",
        500..600 => c"a setting is wrong",
        600..700 => c"the call is wrong",
        _ => c"no status of this library",
    }
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub extern "C" fn collage_status_string(status: i32) -> *const c_char {
    let found = STATUSES.binary_search_by_key(&status, |s| s.number);
    let meaning = found.map_or_else(|_| unknown(status), |at| STATUSES[at].meaning);
    meaning.as_ptr()
}
