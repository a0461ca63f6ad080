//! HdrHistogram interval logs (V2), one a policy: latencies in nanoseconds, an interval for each second in which requests
//! were due. HistogramLogAnalyzer and `HistogramLogProcessor` of the Java library read them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use super::turn::Turn;
use crate::cli::failure::Failure;

/// Nanoseconds a millisecond: the unit in which readers show a log's maxima.
const NS_PER_MS: f64 = 1e6;

/// A file name for a policy's log.
pub fn name(policy: &str) -> String {
    format!("{}.hlog", policy.replace(':', "-"))
}

/// Writes the counted requests of all turns; the warm-up is not in it.
pub fn write(path: &Path, policy: &str, began: SystemTime, turns: &[Turn]) -> Result<(), Failure> {
    let bytes = log(policy, began, turns)
        .map_err(|what| Failure::other(format!("{}: cannot be written: {what}", path.display())))?;
    std::fs::write(path, bytes)
        .map_err(|e| Failure::other(format!("{}: cannot be written: {e}", path.display())))
}

fn log(policy: &str, began: SystemTime, turns: &[Turn]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!(
            "[collage bench policies, {policy}: nanoseconds from when a request was due to its answer]"
        ))
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|e| e.to_string())?;
    let second = Duration::from_secs(1);
    for turn in turns {
        for (at, histogram) in seconds(turn)? {
            let written =
                writer.write_histogram(&histogram, turn.began + second * at, second, None);
            written.map_err(|e| e.to_string())?;
        }
    }
    Ok(bytes)
}

/// A histogram for each second of a turn in which requests were due.
fn seconds(turn: &Turn) -> Result<BTreeMap<u32, Histogram<u64>>, String> {
    let mut seconds = BTreeMap::new();
    for sample in &turn.counted {
        let at = u32::try_from(sample.due.as_secs()).unwrap_or(u32::MAX);
        let histogram = match seconds.entry(at) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Histogram::<u64>::new(3).map_err(|e| e.to_string())?)
            }
        };
        let ns = u64::try_from(sample.waited.as_nanos()).unwrap_or(u64::MAX);
        histogram.record(ns).map_err(|e| e.to_string())?;
    }
    Ok(seconds)
}
