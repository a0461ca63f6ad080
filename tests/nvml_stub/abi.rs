//! NVML's structures and numbers, as `nvml.h` has them, for the stub library. The tests compare them with the bindings
//! that the real wrapper is built on.

#![allow(dead_code)] // The tests and the library each use a part.

use std::ffi::{
    c_char, c_double, c_int, c_longlong, c_uint, c_ulong, c_ulonglong, c_ushort, c_void,
};

pub type Device = *mut c_void;
pub type EventSet = *mut c_void;

pub const SUCCESS: c_uint = 0;
pub const UNINITIALIZED: c_uint = 1;
pub const INVALID_ARGUMENT: c_uint = 2;
pub const NOT_SUPPORTED: c_uint = 3;
pub const NO_PERMISSION: c_uint = 4;
pub const NOT_FOUND: c_uint = 6;
pub const INSUFFICIENT_SIZE: c_uint = 7;
pub const DRIVER_NOT_LOADED: c_uint = 9;
pub const TIMEOUT: c_uint = 10;
pub const GPU_IS_LOST: c_uint = 15;
pub const RESET_REQUIRED: c_uint = 16;
pub const LIB_RM_VERSION_MISMATCH: c_uint = 18;
pub const UNKNOWN: c_uint = 999;

pub const CLOCK_SM: c_uint = 1;
pub const CLOCK_MEM: c_uint = 2;
pub const EVENT_XID: c_ulonglong = 8;
pub const VALUE_UNSIGNED_INT: c_uint = 1;
pub const VALUE_UNSIGNED_LONG_LONG: c_uint = 3;

pub const FIELD_REMAPPED_CORRECTED: c_uint = 142;
pub const FIELD_REMAPPED_UNCORRECTED: c_uint = 143;
pub const FIELD_REMAPPED_PENDING: c_uint = 144;
pub const FIELD_REMAPPED_FAILURE: c_uint = 145;
pub const FIELD_PCIE_TX_BYTES: c_uint = 197;
pub const FIELD_PCIE_RX_BYTES: c_uint = 198;

#[repr(C)]
pub struct PciInfo {
    pub bus_id_legacy: [c_char; 16],
    pub domain: c_uint,
    pub bus: c_uint,
    pub device: c_uint,
    pub pci_device_id: c_uint,
    pub pci_sub_system_id: c_uint,
    pub bus_id: [c_char; 32],
}

#[repr(C)]
pub struct Utilization {
    pub gpu: c_uint,
    pub memory: c_uint,
}

#[repr(C)]
pub struct MemoryV2 {
    pub version: c_uint,
    pub total: c_ulonglong,
    pub reserved: c_ulonglong,
    pub free: c_ulonglong,
    pub used: c_ulonglong,
}

#[repr(C)]
pub struct ProcessInfo {
    pub pid: c_uint,
    pub used_gpu_memory: c_ulonglong,
    pub gpu_instance_id: c_uint,
    pub compute_instance_id: c_uint,
}

#[repr(C)]
pub struct ProcessUtilizationSample {
    pub pid: c_uint,
    pub time_stamp: c_ulonglong,
    pub sm_util: c_uint,
    pub mem_util: c_uint,
    pub enc_util: c_uint,
    pub dec_util: c_uint,
}

#[repr(C)]
pub union Value {
    pub double: c_double,
    pub int: c_int,
    pub unsigned_int: c_uint,
    pub unsigned_long: c_ulong,
    pub unsigned_long_long: c_ulonglong,
    pub signed_long_long: c_longlong,
    pub unsigned_short: c_ushort,
}

#[repr(C)]
pub struct FieldValue {
    pub field_id: c_uint,
    pub scope_id: c_uint,
    pub timestamp: c_longlong,
    pub latency_usec: c_longlong,
    pub value_type: c_uint,
    pub nvml_return: c_uint,
    pub value: Value,
}

#[repr(C)]
pub struct ViolationTime {
    pub reference_time: c_ulonglong,
    pub violation_time: c_ulonglong,
}

#[repr(C)]
pub struct EventData {
    pub device: Device,
    pub event_type: c_ulonglong,
    pub event_data: c_ulonglong,
    pub gpu_instance_id: c_uint,
    pub compute_instance_id: c_uint,
}
