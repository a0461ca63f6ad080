//! The structs and constants of the header, field by field in its order and under its names.
//!
//! What a field means stands in the header; `tests/ffi_header.rs` compares names, types and offsets.

#![allow(missing_docs)] // in the header

use std::ffi::{c_char, c_void};

pub use super::handles::{Handle, Opaque};
use super::layout::Growable;

/// Declares a struct of the header.
macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident, $text:literal { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            pub struct_size: usize,
            $(pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                // SAFETY: integers, floats, raw pointers and optional functions only: all zeros are a value of each.
                let zero: Self = unsafe { std::mem::zeroed() };
                Self { struct_size: size_of::<Self>(), ..zero }
            }
        }

        // SAFETY: `repr(C)`, begins with `struct_size`, and all zeros are a value of it, as above.
        unsafe impl Growable for $name {
            const NAME: &'static str = $text;
        }

        impl $name {
            /// Each field's name, Rust type and offset, as the header's are compared with.
            pub const FIELDS: &'static [(&'static str, &'static str, usize)] = &[
                ("struct_size", "usize", 0),
                $((stringify!($field), stringify!($type), std::mem::offset_of!($name, $field)),)*
            ];
        }
    )*

        /// Every struct's name, size and fields.
        pub const STRUCTS: &[Struct] = &[$(($text, size_of::<$name>(), $name::FIELDS),)*];
    };
}

/// A struct's name, size, and each field's name, type and offset.
pub type Struct = (
    &'static str,
    usize,
    &'static [(&'static str, &'static str, usize)],
);

/// What is called once memory is not read any more.
// SAFETY: a type; whoever calls it says why it may.
pub type Release = Option<unsafe extern "C" fn(*mut c_void)>;
/// What is told of a settled request.
// SAFETY: a type; whoever calls it says why it may.
pub type Callback = Option<unsafe extern "C" fn(*mut c_void, Handle, i32, *const Answer)>;

structs! {
    /// `collage_options`.
    Options, "collage_options" {
        toml: *const c_char,
        config_path: *const c_char,
        model_path: *const c_char,
        model_data: *const c_void,
        model_size: usize,
        arch: *const c_char,
        collage_path: *const c_char,
        collage_data: *const c_void,
        collage_size: usize,
        devices: *const *const c_char,
        device_count: usize,
        policy: *const c_char,
        grid: *const c_char,
        stragglers: *const c_char,
        workers: i64,
        collage_workers: i64,
        queue: i64,
        max_batch: i64,
        top_k: i64,
        batch_wait_ns: i64,
        group_wait_ns: i64,
        release_ns: i64,
        deadline_ns: i64,
        budget: f64,
        accuracy_budget: f64,
        accuracy_drop: f64,
        min_confidence: f64,
        seed: u64,
    }

    /// `collage_image`.
    Picture, "collage_image" {
        data: *const c_void,
        size: usize,
        r#type: u32,
        layout: u32,
        dimensions: u32,
        memory: u32,
        shape: [i64; 4],
        strides: [i64; 4],
        low: f32,
        high: f32,
        device_index: i32,
        reserved: i32,
        stream: i64,
        release: Release,
        release_context: *mut c_void,
        name: *const c_char,
    }

    /// `collage_answer`.
    Answer, "collage_answer" {
        request: u64,
        class_index: u32,
        confidence: f32,
        label: *const c_char,
        top: *const Score,
        top_count: usize,
        latency_ns: i64,
        collage: u64,
        tile: u32,
        source: u32,
        independence: u32,
        worker: u32,
    }

    /// `collage_request`.
    Request, "collage_request" {
        release_ns: i64,
        deadline_ns: i64,
        release_at_ns: i64,
        deadline_at_ns: i64,
        due_at_ns: i64,
        callback: Callback,
        user_data: *mut c_void,
    }

    /// `collage_stats`.
    Stats, "collage_stats" {
        submitted: u64,
        base: u64,
        collage: u64,
        copies: u64,
        deadline_exceeded: u64,
        overloaded: u64,
        cancelled: u64,
        failed: u64,
        closed: u64,
        late: u64,
        abstained: u64,
        unneeded: u64,
        copies_unneeded: u64,
        base_runs: u64,
        base_images: u64,
        copy_runs: u64,
        copy_images: u64,
        probe_runs: u64,
        collage_runs: u64,
        collage_tiles: u64,
        retries: u64,
        pending: u64,
        workers: u64,
        device_reads: u64,
        staged_copies: u64,
    }

    /// `collage_worker_stats`.
    WorkerStats, "collage_worker_stats" {
        role: u32,
        state: u32,
        health: u32,
        device: u32,
        runs: u64,
        images: u64,
        failures: u64,
        restarts: u64,
        busy_ns: i64,
        service_p50_ns: i64,
        service_p99_ns: i64,
        injected_ns: i64,
        injected_runs: u64,
    }
}

/// `collage_score`: of a fixed size, as it comes in arrays.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Score {
    pub class_index: u32,
    pub score: f32,
    pub label: *const c_char,
}

/// Declares the header's constants.
macro_rules! constants {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        $(pub const $name: $type = $value;)*

        /// Every constant but the statuses, by its name without `COLLAGE_`.
        pub const CONSTANTS: &[(&str, i64)] = &[$((stringify!($name), $name as i64),)*];
    };
}

constants! {
    ENCODED: u32 = 0;
    U8: u32 = 1;
    F16: u32 = 2;
    F32: u32 = 3;
    HWC: u32 = 0;
    CHW: u32 = 1;
    HOST: u32 = 0;
    CUDA: u32 = 1;
    FROM_BASE: u32 = 0;
    FROM_COLLAGE: u32 = 1;
    FROM_COPY: u32 = 2;
    FROM_PARITY: u32 = 3;
    SHARED_WORKER: u32 = 0;
    OTHER_WORKER: u32 = 1;
    OTHER_DEVICE: u32 = 2;
    ROLE_BASE: u32 = 0;
    ROLE_COLLAGE: u32 = 1;
    ROLE_BOTH: u32 = 2;
    WORKER_READY: u32 = 0;
    WORKER_LOST: u32 = 1;
    WORKER_RETIRED: u32 = 2;
    HEALTHY: u32 = 0;
    PROBATION: u32 = 1;
    SUSPECT: u32 = 2;
    QUARANTINED: u32 = 3;
}

/// `COLLAGE_NONE`: zero itself, where 0 is the default.
pub const NONE: i64 = -1;
/// `COLLAGE_READY`: no stream is waited for.
pub const READY: i64 = -1;
/// `COLLAGE_FOREVER`.
pub const FOREVER: i64 = i64::MAX;
/// `COLLAGE_NO_TILE`.
pub const NO_TILE: u32 = u32::MAX;
