//! Statistics: as structs, and all of them as JSON.

use std::ffi::c_char;
use std::time::Duration;

use serde_json::{Value, json};

use super::error::AbiError;
use super::handles::{ENGINES, Handle};
use super::{guard, layout, types};
use crate::engine::{Health, Role, Stats, WorkerState, WorkerStats};
use crate::image::Reads;

/// The counts as C reads them.
pub(super) fn counted(stats: &Stats, reads: &Reads) -> types::Stats {
    let r = &stats.requests;
    types::Stats {
        submitted: r.submitted,
        base: r.base,
        collage: r.collage,
        copies: r.copies,
        deadline_exceeded: r.deadline_exceeded,
        overloaded: r.overloaded,
        cancelled: r.cancelled,
        failed: r.failed,
        closed: r.closed,
        late: r.late,
        abstained: r.abstained,
        unneeded: r.unneeded,
        copies_unneeded: r.copies_unneeded,
        base_runs: r.base_runs,
        base_images: r.base_images,
        copy_runs: r.copy_runs,
        copy_images: r.copy_images,
        probe_runs: r.probe_runs,
        collage_runs: r.collage_runs,
        collage_tiles: r.collage_tiles,
        retries: r.retries,
        pending: stats.pending as u64,
        workers: stats.workers.len() as u64,
        device_reads: reads.in_place(),
        staged_copies: reads.staged(),
        ..types::Stats::default()
    }
}

fn worker(stats: &WorkerStats) -> types::WorkerStats {
    types::WorkerStats {
        role: match stats.role {
            Role::Base => types::ROLE_BASE,
            Role::Collage => types::ROLE_COLLAGE,
            Role::Both => types::ROLE_BOTH,
        },
        state: match stats.state {
            WorkerState::Ready => types::WORKER_READY,
            WorkerState::Lost => types::WORKER_LOST,
            WorkerState::Retired => types::WORKER_RETIRED,
        },
        health: match stats.health {
            Health::Healthy => types::HEALTHY,
            Health::Probation => types::PROBATION,
            Health::Suspect => types::SUSPECT,
            Health::Quarantined => types::QUARANTINED,
        },
        device: stats.device as u32,
        runs: stats.runs,
        images: stats.images,
        failures: stats.failures,
        restarts: stats.restarts,
        busy_ns: nanos(stats.busy),
        service_p50_ns: nanos(stats.service_p50),
        service_p99_ns: nanos(stats.service_p99),
        injected_ns: nanos(stats.injected),
        injected_runs: stats.injected_runs,
        ..types::WorkerStats::default()
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Every field of the structs under its own name, and what they have no room for.
fn json(stats: &Stats, reads: &Reads) -> Value {
    let mut all = fields(&counted(stats, reads), types::Stats::FIELDS);
    let workers = stats.workers.iter().map(|w| {
        let mut one = fields(&worker(w), types::WorkerStats::FIELDS);
        one["device_name"] = json!(w.device_name);
        one["last_failure"] = json!(w.last_failure);
        one
    });
    all["abi_version"] = json!(super::ABI_VERSION);
    all["collages_saved"] = json!(stats.requests.collages_saved);
    all["bases_saved"] = json!(stats.requests.bases_saved);
    all["workers"] = workers.collect();
    all
}

/// A struct's fields after its size.
fn fields<T>(value: &T, fields: &[(&str, &str, usize)]) -> Value {
    let mut all = serde_json::Map::new();
    for &(name, kind, offset) in fields.iter().skip(1) {
        let at = std::ptr::from_ref(value).cast::<u8>();
        // SAFETY: the field of that type lies at that offset: both are the struct's own.
        let number = unsafe {
            let at = at.add(offset);
            match kind {
                "u32" => json!(at.cast::<u32>().read()),
                "i64" => json!(at.cast::<i64>().read()),
                _ => json!(at.cast::<u64>().read()),
            }
        };
        all.insert(name.to_owned(), number);
    }
    Value::Object(all)
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_engine_stats(engine: Handle, stats: *mut types::Stats) -> i32 {
    guard(|| {
        let served = ENGINES.get(engine)?;
        // SAFETY: the caller promises NULL, which is refused, or a struct of its size.
        Ok(unsafe { layout::write(stats, &counted(&served.stats()?, &served.reads)) }?)
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_engine_worker_stats(
    engine: Handle,
    index: usize,
    stats: *mut types::WorkerStats,
) -> i32 {
    guard(|| {
        let all = ENGINES.get(engine)?.stats()?;
        let found = all.workers.get(index).ok_or_else(|| {
            AbiError::value("worker", index, format!("less than {}", all.workers.len()))
        })?;
        // SAFETY: the caller promises NULL, which is refused, or a struct of its size.
        Ok(unsafe { layout::write(stats, &worker(found)) }?)
    })
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_engine_stats_json(
    engine: Handle,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> i32 {
    guard(|| {
        if buffer.is_null() && capacity > 0 {
            return Err(AbiError::Null { what: "buffer" }.into());
        }
        let served = ENGINES.get(engine)?;
        let text = json(&served.stats()?, &served.reads).to_string();
        // SAFETY: the caller promises `capacity` bytes at `buffer`, of which one is for the zero, and room for a number.
        unsafe {
            if !length.is_null() {
                length.write(text.len());
            }
            if let Some(room) = capacity.checked_sub(1) {
                let bytes = room.min(text.len());
                std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), bytes);
                buffer.add(bytes).write(0);
            }
        }
        if text.len() >= capacity {
            let length = text.len();
            return Err(AbiError::Buffer { length, capacity }.into());
        }
        Ok(())
    })
}
