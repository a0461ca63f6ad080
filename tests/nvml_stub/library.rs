//! A `libnvidia-ml.so` for tests: NVML's own symbols over GPUs that a scenario describes, loaded by path through the real
//! wrapper, so that all between the driver and what is printed runs without a GPU.
//!
//! The scenario is the file that `COLLAGE_NVML_SCENARIO` names, or the library's own path with `.scenario` after it. It is
//! read anew by each `nvmlInit_v2` that has no other before it.

#![allow(non_snake_case)]
#![allow(clippy::missing_safety_doc, clippy::not_unsafe_ptr_arg_deref)] // As C has it.

mod abi;
mod scenario;

use std::ffi::{CStr, c_char, c_int, c_longlong, c_uint, c_ulonglong, c_void};
use std::sync::Mutex;

use abi::*;
use scenario::World;

/// One kernel sample of a process' utilisation a tick, at this distance.
const SAMPLE_US: u64 = 100_000;

/// How often it was initialised, and the world then.
static WORLD: Mutex<(usize, Option<World>)> = Mutex::new((0, None));

#[repr(C)]
struct DlInfo {
    file: *const c_char,
    base: *mut c_void,
    symbol: *const c_char,
    address: *mut c_void,
}

unsafe extern "C" {
    fn dladdr(address: *const c_void, info: *mut DlInfo) -> c_int;
}

/// The path that this library was loaded by.
fn own_path() -> String {
    let mut info = DlInfo {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        symbol: std::ptr::null(),
        address: std::ptr::null_mut(),
    };
    // SAFETY: the address is this function's, and the loader writes a pointer to a path that lives as long as the library.
    unsafe {
        dladdr(own_path as *const c_void, &mut info);
        CStr::from_ptr(info.file).to_string_lossy().into_owned()
    }
}

fn scenario() -> String {
    let path = std::env::var("COLLAGE_NVML_SCENARIO");
    let path = path.unwrap_or_else(|_| format!("{}.scenario", own_path()));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

type Outcome = Result<(), c_uint>;

fn code(outcome: Outcome) -> c_uint {
    outcome.err().unwrap_or(SUCCESS)
}

fn with<T>(body: impl FnOnce(&mut World) -> Result<T, c_uint>) -> Result<T, c_uint> {
    let mut world = WORLD.lock().unwrap_or_else(|e| e.into_inner());
    body(world.1.as_mut().ok_or(UNINITIALIZED)?)
}

/// Handles are indices plus one: never null.
fn index(device: Device) -> usize {
    (device as usize).wrapping_sub(1)
}

fn figure(device: Device, key: &str) -> Result<f64, c_uint> {
    with(|world| world.figure(index(device), key))
}

fn put<T>(out: *mut T, value: T) -> Outcome {
    if out.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: the caller gives room for one, as NVML asks for.
    unsafe { out.write(value) };
    Ok(())
}

fn put_text(out: *mut c_char, length: c_uint, text: &str) -> Outcome {
    if out.is_null() || text.len() >= length as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: the caller gives `length` bytes, which the text and its end fit into.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), out, text.len());
        out.add(text.len()).write(0);
    }
    Ok(())
}

fn fill(array: &mut [c_char], text: &str) {
    for (to, from) in array.iter_mut().zip(text.bytes()) {
        *to = from as c_char;
    }
}

/// Writes as many as there is room for, and how many there are.
fn put_all<T>(out: *mut T, count: *mut c_uint, all: Vec<T>) -> Outcome {
    if count.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: the caller gives a live count, and room for that many where `out` is not null.
    unsafe {
        let room = *count as usize;
        *count = all.len() as c_uint;
        if all.is_empty() {
            return Ok(());
        }
        if out.is_null() || room < all.len() {
            return Err(INSUFFICIENT_SIZE);
        }
        for (i, value) in all.into_iter().enumerate() {
            out.add(i).write(value);
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    let mut world = WORLD.lock().unwrap_or_else(|e| e.into_inner());
    if world.0 == 0 {
        let parsed = World::parse(&scenario());
        if parsed.init != SUCCESS {
            return parsed.init;
        }
        world.1 = Some(parsed);
    }
    world.0 += 1;
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_uint {
    let mut world = WORLD.lock().unwrap_or_else(|e| e.into_inner());
    if world.0 == 0 {
        return UNINITIALIZED;
    }
    world.0 -= 1;
    if world.0 == 0 {
        world.1 = None;
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(out: *mut c_char, length: c_uint) -> c_uint {
    code(with(|world| put_text(out, length, &world.driver)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(out: *mut c_uint) -> c_uint {
    code(with(|world| put(out, world.gpus.len() as c_uint)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: *mut Device) -> c_uint {
    code(with(|world| {
        let tick = world.tick(index as usize);
        let gpu = world.gpus.get(index as usize).ok_or(INVALID_ARGUMENT)?;
        gpu.state(tick)?;
        put(out, (index as usize + 1) as Device)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(device: Device, out: *mut c_char, length: c_uint) -> c_uint {
    code(with(|world| {
        let gpu = world.gpus.get(index(device)).ok_or(INVALID_ARGUMENT)?;
        put_text(out, length, &gpu.name)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(device: Device, out: *mut c_char, length: c_uint) -> c_uint {
    let uuid = format!("GPU-00000000-0000-0000-0000-{:012x}", device as usize);
    code(with(|_| put_text(out, length, &uuid)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v3(device: Device, out: *mut PciInfo) -> c_uint {
    let bus = device as usize as c_uint;
    let mut info = PciInfo {
        bus_id_legacy: [0; 16],
        domain: 0,
        bus,
        device: 0,
        pci_device_id: 0x2330_10de,
        pci_sub_system_id: 0x16c1_10de,
        bus_id: [0; 32],
    };
    fill(&mut info.bus_id_legacy, &format!("0000:{bus:02X}:00.0"));
    fill(&mut info.bus_id, &format!("00000000:{bus:02X}:00.0"));
    code(with(|_| put(out, info)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Device, out: *mut MemoryV2) -> c_uint {
    let read = || {
        let total = figure(device, "memory_total")? as c_ulonglong;
        let used = figure(device, "memory_used")? as c_ulonglong;
        put(
            out,
            MemoryV2 {
                version: (size_of::<MemoryV2>() | 2 << 24) as c_uint,
                total,
                reserved: 0,
                free: total - used,
                used,
            },
        )
    };
    code(read())
}

/// The functions that give one unsigned number: their names, types and keys.
macro_rules! numbers {
    ($($function:ident: $type:ty = $key:literal;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $function(device: Device, out: *mut $type) -> c_uint {
            code(figure(device, $key).and_then(|value| put(out, value as $type)))
        }
    )*};
}

numbers! {
    nvmlDeviceGetCurrentClocksThrottleReasons: c_ulonglong = "reasons";
    nvmlDeviceGetPowerUsage: c_uint = "power";
    nvmlDeviceGetEnforcedPowerLimit: c_uint = "power_limit";
    nvmlDeviceGetMaxPcieLinkGeneration: c_uint = "link_generation_max";
    nvmlDeviceGetMaxPcieLinkWidth: c_uint = "link_width_max";
    nvmlDeviceGetCurrPcieLinkGeneration: c_uint = "link_generation";
    nvmlDeviceGetCurrPcieLinkWidth: c_uint = "link_width";
    nvmlDeviceGetPcieReplayCounter: c_uint = "pcie_replays";
    nvmlDeviceGetRetiredPagesPendingStatus: c_uint = "retirement_pending";
}

/// The question that begins a reading: a GPU's time goes on with it.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetClockInfo(device: Device, kind: c_uint, out: *mut c_uint) -> c_uint {
    if kind == CLOCK_SM {
        let _ = with(|world| {
            let gpu = world.gpus.get_mut(index(device)).ok_or(INVALID_ARGUMENT)?;
            gpu.readings += 1;
            Ok(())
        });
    }
    let key = if kind == CLOCK_MEM { "memory_clock" } else { "sm_clock" };
    code(figure(device, key).and_then(|mhz| put(out, mhz as c_uint)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMaxClockInfo(
    device: Device,
    kind: c_uint,
    out: *mut c_uint,
) -> c_uint {
    let key = if kind == CLOCK_MEM { "memory_clock_max" } else { "sm_clock_max" };
    code(figure(device, key).and_then(|mhz| put(out, mhz as c_uint)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTemperature(device: Device, _: c_uint, out: *mut c_uint) -> c_uint {
    code(figure(device, "temperature").and_then(|c| put(out, c as c_uint)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTemperatureThreshold(
    device: Device,
    kind: c_uint,
    out: *mut c_uint,
) -> c_uint {
    let key = if kind == 0 { "shutdown" } else { "slowdown" };
    code(figure(device, key).and_then(|c| put(out, c as c_uint)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUtilizationRates(device: Device, out: *mut Utilization) -> c_uint {
    let read = || {
        let gpu = figure(device, "utilisation")? as c_uint;
        let memory = figure(device, "memory_utilisation")? as c_uint;
        put(out, Utilization { gpu, memory })
    };
    code(read())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetEccMode(
    device: Device,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> c_uint {
    let mode = figure(device, "ecc").map(|on| on as c_uint);
    code(mode.and_then(|on| put(current, on).and_then(|()| put(pending, on))))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigMode(
    device: Device,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> c_uint {
    let mode = figure(device, "mig").map(|on| on as c_uint);
    code(mode.and_then(|on| put(current, on).and_then(|()| put(pending, on))))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Device,
    kind: c_uint,
    since: c_uint,
    out: *mut c_ulonglong,
) -> c_uint {
    let key = match (kind, since) {
        (0, 0) => "ecc_volatile_corrected",
        (0, _) => "ecc_aggregate_corrected",
        (_, 0) => "ecc_volatile_uncorrected",
        (_, _) => "ecc_aggregate_uncorrected",
    };
    code(figure(device, key).and_then(|n| put(out, n as c_ulonglong)))
}

/// All pages were retired for a double bit error.
fn retired(device: Device, cause: c_uint) -> Result<Vec<c_ulonglong>, c_uint> {
    let count = figure(device, "retired_pages")? as u64;
    Ok((0..if cause == 1 { count } else { 0 }).map(|page| page << 16).collect())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetRetiredPages(
    device: Device,
    cause: c_uint,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
) -> c_uint {
    code(retired(device, cause).and_then(|pages| put_all(addresses, count, pages)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetRetiredPages_v2(
    device: Device,
    cause: c_uint,
    count: *mut c_uint,
    addresses: *mut c_ulonglong,
    _timestamps: *mut c_ulonglong,
) -> c_uint {
    code(retired(device, cause).and_then(|pages| put_all(addresses, count, pages)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPcieThroughput(
    device: Device,
    _: c_uint,
    out: *mut c_uint,
) -> c_uint {
    code(figure(device, "pcie_throughput").and_then(|kb| put(out, kb as c_uint)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetViolationStatus(
    device: Device,
    policy: c_uint,
    out: *mut ViolationTime,
) -> c_uint {
    let key = match policy {
        0 => "power_violation_ns",
        1 => "thermal_violation_ns",
        _ => return NOT_SUPPORTED,
    };
    code(figure(device, key).and_then(|ns| {
        put(
            out,
            ViolationTime {
                reference_time: 0,
                violation_time: ns as c_ulonglong,
            },
        )
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetFieldValues(
    device: Device,
    count: c_int,
    values: *mut FieldValue,
) -> c_uint {
    let state = with(|world| {
        let tick = world.tick(index(device));
        world.gpus.get(index(device)).ok_or(INVALID_ARGUMENT)?.state(tick)
    });
    if let Err(error) = state {
        return error;
    }
    // SAFETY: the caller gives `count` values with their ids.
    let values = unsafe { std::slice::from_raw_parts_mut(values, count as usize) };
    for value in values {
        let (key, kind) = match value.field_id {
            FIELD_REMAPPED_CORRECTED => ("rows_corrected", VALUE_UNSIGNED_INT),
            FIELD_REMAPPED_UNCORRECTED => ("rows_uncorrected", VALUE_UNSIGNED_INT),
            FIELD_REMAPPED_PENDING => ("rows_pending", VALUE_UNSIGNED_INT),
            FIELD_REMAPPED_FAILURE => ("rows_failed", VALUE_UNSIGNED_INT),
            FIELD_PCIE_TX_BYTES => ("pcie_tx_bytes", VALUE_UNSIGNED_LONG_LONG),
            FIELD_PCIE_RX_BYTES => ("pcie_rx_bytes", VALUE_UNSIGNED_LONG_LONG),
            _ => {
                value.nvml_return = NOT_SUPPORTED;
                continue;
            }
        };
        let read = figure(device, key);
        value.timestamp = 0 as c_longlong;
        value.value_type = kind;
        value.nvml_return = read.err().unwrap_or(SUCCESS);
        value.value = match kind {
            VALUE_UNSIGNED_INT => Value {
                unsigned_int: read.unwrap_or(0.0) as c_uint,
            },
            _ => Value {
                unsigned_long_long: read.unwrap_or(0.0) as c_ulonglong,
            },
        };
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Device,
    count: *mut c_uint,
    out: *mut ProcessInfo,
) -> c_uint {
    let running = figure(device, "processes").and_then(|_| {
        with(|world| {
            let processes = world.gpus[index(device)].processes.iter();
            let info = processes.map(|process| ProcessInfo {
                pid: process.pid,
                used_gpu_memory: process.bytes as c_ulonglong,
                gpu_instance_id: u32::MAX,
                compute_instance_id: u32::MAX,
            });
            Ok(info.collect::<Vec<_>>())
        })
    });
    code(running.and_then(|running| put_all(out, count, running)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetProcessUtilization(
    device: Device,
    out: *mut ProcessUtilizationSample,
    count: *mut c_uint,
    last_seen_us: c_ulonglong,
) -> c_uint {
    let samples = figure(device, "process_samples").and_then(|_| {
        with(|world| {
            let tick = world.tick(index(device));
            let now_us = (tick + 1) * SAMPLE_US;
            let processes = world.gpus[index(device)].processes.iter();
            let busy = processes.filter(|p| p.percent(tick) > 0 && now_us > last_seen_us);
            let samples = busy.map(|process| ProcessUtilizationSample {
                pid: process.pid,
                time_stamp: now_us,
                sm_util: process.percent(tick),
                mem_util: 0,
                enc_util: 0,
                dec_util: 0,
            });
            let samples: Vec<_> = samples.collect();
            if samples.is_empty() { Err(NOT_FOUND) } else { Ok(samples) }
        })
    });
    code(samples.and_then(|samples| put_all(out, count, samples)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetSupportedEventTypes(
    device: Device,
    out: *mut c_ulonglong,
) -> c_uint {
    code(figure(device, "events").and_then(|on| put(out, if on > 0.0 { EVENT_XID } else { 0 })))
}

/// A set holds the index of its GPU plus one; 0 until one is registered.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetCreate(out: *mut EventSet) -> c_uint {
    code(put(out, Box::into_raw(Box::new(0usize)).cast()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetFree(set: EventSet) -> c_uint {
    // SAFETY: the set was made by nvmlEventSetCreate, and is freed once.
    drop(unsafe { Box::from_raw(set.cast::<usize>()) });
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceRegisterEvents(
    device: Device,
    _types: c_ulonglong,
    set: EventSet,
) -> c_uint {
    // SAFETY: the set is a live one.
    unsafe { *set.cast::<usize>() = device as usize };
    SUCCESS
}

/// Does not wait: the tests never ask it to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    set: EventSet,
    out: *mut EventData,
    _timeout_ms: c_uint,
) -> c_uint {
    // SAFETY: the set is a live one.
    let device = unsafe { *set.cast::<usize>() } as Device;
    code(with(|world| {
        let tick = world.tick(index(device));
        let gpu = world.gpus.get_mut(index(device)).ok_or(INVALID_ARGUMENT)?;
        let (_, code) = *gpu
            .xids
            .get(gpu.taken)
            .filter(|(at, _)| *at <= tick)
            .ok_or(TIMEOUT)?;
        gpu.taken += 1;
        put(
            out,
            EventData {
                device,
                event_type: EVENT_XID,
                event_data: code,
                gpu_instance_id: u32::MAX,
                compute_instance_id: u32::MAX,
            },
        )
    }))
}
