//! Several devices at once: the device flag of what has several workers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::discover::{self, DeviceSpec};
use super::{BackendError, BackendKind, Device};
use crate::error::Classify;

/// `DEVICE[,DEVICE]..`, each of them a [`DeviceSpec`], or `cuda:*` or `wgpu:*` for all of a kind. Workers are dealt over
/// them in turn. None is named twice; `auto` chooses one and stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceList(Vec<Named>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Named {
    One(DeviceSpec),
    All(BackendKind),
}

/// Why a text is no list of devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceListError {
    /// One of them is no device.
    #[error(
        "--device {given}: \"{item}\"; expected auto, cuda[:INDEX], wgpu[:INDEX], cpu[:THREADS] with 1 to 1024 threads, \
         or several of them with commas between, where cuda:* and wgpu:* are all of a kind"
    )]
    Item {
        /// The whole text.
        given: String,
        /// The one at fault.
        item: String,
    },
    /// A device twice.
    #[error("--device {given}: {device} is named twice; expected each device once")]
    Twice {
        /// The whole text.
        given: String,
        /// The second name of it.
        device: String,
    },
    /// `auto` chooses one of all.
    #[error("--device {given}: auto chooses one device; expected it alone")]
    Auto {
        /// The whole text.
        given: String,
    },
}

impl Classify for DeviceListError {
    fn code(&self) -> u32 {
        match self {
            // The same cause as a single device's.
            DeviceListError::Item { .. } => 320,
            DeviceListError::Twice { .. } => 322,
            DeviceListError::Auto { .. } => 323,
        }
    }

    fn can_retry(&self) -> bool {
        false
    }
}

impl Named {
    fn kind(self) -> Option<BackendKind> {
        match self {
            Named::All(kind) => Some(kind),
            Named::One(DeviceSpec::Auto) => None,
            Named::One(DeviceSpec::Cuda(_)) => Some(BackendKind::Cuda),
            Named::One(DeviceSpec::Wgpu(_)) => Some(BackendKind::Wgpu),
            Named::One(DeviceSpec::Cpu(_)) => Some(BackendKind::Cpu),
        }
    }

    /// Whether both name a device in common. There is one CPU, whatever its threads.
    fn overlaps(self, other: Named) -> bool {
        let is_whole = |n: Named| matches!(n, Named::All(_)) || n.kind() == Some(BackendKind::Cpu);
        self == other || self.kind() == other.kind() && (is_whole(self) || is_whole(other))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::One(spec) => spec.fmt(f),
            Named::All(kind) => write!(f, "{kind}:*"),
        }
    }
}

impl FromStr for DeviceList {
    type Err = DeviceListError;

    fn from_str(given: &str) -> Result<Self, DeviceListError> {
        let named = |item: &str| match item {
            "cuda:*" => Ok(Named::All(BackendKind::Cuda)),
            "wgpu:*" => Ok(Named::All(BackendKind::Wgpu)),
            one => one
                .parse()
                .map(Named::One)
                .map_err(|_| DeviceListError::Item {
                    given: given.to_owned(),
                    item: one.to_owned(),
                }),
        };
        let all: Vec<Named> = given.split(',').map(named).collect::<Result<_, _>>()?;
        if all.len() > 1 && all.contains(&Named::One(DeviceSpec::Auto)) {
            let given = given.to_owned();
            return Err(DeviceListError::Auto { given });
        }
        let twice = (1..all.len()).find(|&i| all[..i].iter().any(|n| n.overlaps(all[i])));
        match twice {
            Some(i) => Err(DeviceListError::Twice {
                given: given.to_owned(),
                device: all[i].to_string(),
            }),
            None => Ok(DeviceList(all)),
        }
    }
}

impl fmt::Display for DeviceList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(Named::to_string).collect();
        f.write_str(&names.join(","))
    }
}

impl Default for DeviceList {
    fn default() -> Self {
        DeviceSpec::default().into()
    }
}

impl From<DeviceSpec> for DeviceList {
    fn from(spec: DeviceSpec) -> Self {
        DeviceList(vec![Named::One(spec)])
    }
}

impl DeviceList {
    /// Opens them for so many workers, which are dealt over the result in turn.
    ///
    /// A CPU's cores are divided among the workers that it gets, unless its threads were given; with more than one
    /// thread each, every such worker gets threads of its own, so that none waits for another's run.
    ///
    /// # Errors
    /// Of the first that does not open; [`BackendError::NoDevice`] if there is none of a kind.
    pub fn open(&self, workers: usize) -> Result<Vec<Arc<dyn Device>>, BackendError> {
        let specs = self.specs()?;
        let count = specs.len();
        if count > workers {
            tracing::warn!("{count} devices for {workers} workers: the last ones stay idle");
        }
        let dealt = |i: usize| (workers.saturating_sub(i)).div_ceil(count);
        let opened = specs.iter().enumerate();
        let opened = opened.map(|(i, spec)| open_for(*spec, dealt(i)));
        let handles: Vec<Vec<Arc<dyn Device>>> = opened.collect::<Result<_, _>>()?;
        // Round by round, so that worker i is on device i modulo their count, whatever its handles.
        let rounds = handles.iter().map(Vec::len).max().unwrap_or(0);
        let round = |k: usize| handles.iter().map(move |of| of[k % of.len()].clone());
        Ok((0..rounds).flat_map(round).collect())
    }

    fn specs(&self) -> Result<Vec<DeviceSpec>, BackendError> {
        let mut specs = Vec::new();
        for named in &self.0 {
            match named {
                Named::One(spec) => specs.push(*spec),
                Named::All(kind) => specs.extend(discover::all_of(*kind)?),
            }
        }
        Ok(specs)
    }
}

/// One device for so many workers: a handle for all of them, or for each its own.
fn open_for(spec: DeviceSpec, workers: usize) -> Result<Vec<Arc<dyn Device>>, BackendError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = (cores / workers.max(1)).clamp(1, 1024);
    let threads = match spec {
        DeviceSpec::Cpu(threads) => threads.unwrap_or(share),
        _ => {
            let device = discover::open(&spec)?;
            if device.info().backend != BackendKind::Cpu {
                return Ok(vec![device]);
            }
            share // `auto` found nothing better than the CPU
        }
    };
    let handles = if threads == 1 {
        1
    } else {
        workers.clamp(1, cores)
    };
    (0..handles)
        .map(|_| discover::open(&DeviceSpec::Cpu(Some(threads))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_print_as_they_are_read() {
        for list in [
            "auto",
            "cuda:0,cuda:1",
            "cuda:*,cpu:2",
            "wgpu:*",
            "cpu",
            "wgpu:1,cuda:1",
        ] {
            assert_eq!(list.parse::<DeviceList>().unwrap().to_string(), list);
        }
        assert_eq!(
            "cuda,wgpu".parse::<DeviceList>().unwrap().to_string(),
            "cuda:0,wgpu:0"
        );
        assert_eq!(DeviceList::default().to_string(), "auto");
    }

    #[test]
    fn wrong_lists_are_told_what_is_wrong_and_by_which_number() {
        for (list, code, what) in [
            ("", 320, "\"\""),
            ("cuda:0,", 320, "\"\""),
            ("cuda:0,tpu", 320, "\"tpu\"; expected auto, cuda[:INDEX]"),
            ("cpu:*", 320, "\"cpu:*\""),
            ("cuda:0, cuda:1", 320, "\" cuda:1\""),
            ("cuda,wgpu:0,cuda:0", 322, "cuda:0 is named twice"),
            ("cuda:1,cuda:*", 322, "cuda:* is named twice"),
            ("wgpu:*,wgpu:*", 322, "wgpu:* is named twice"),
            ("cpu:1,cpu:2", 322, "cpu:2 is named twice"),
            ("auto,cpu", 323, "auto chooses one"),
        ] {
            let error = list.parse::<DeviceList>().unwrap_err();
            let message = error.to_string();
            assert_eq!(error.code(), code, "{message}");
            let opening = format!("--device {list}: ");
            assert!(
                message.starts_with(&opening) && message.contains(what),
                "{message}"
            );
        }
    }

    #[test]
    fn one_thread_each_shares_a_handle_and_more_do_not() {
        let open = |list: &str, workers| list.parse::<DeviceList>().unwrap().open(workers);
        assert_eq!(open("cpu:1", 4).unwrap().len(), 1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(open("cpu:2", 4).unwrap().len(), 4.min(cores));
        assert_eq!(open("cpu:2", 0).unwrap().len(), 1);
    }

    #[test]
    fn a_kind_of_which_there_is_none_is_named() {
        // Neither the driver nor a device is there where these tests run, or else all are opened.
        match "cuda:*".parse::<DeviceList>().unwrap().open(1) {
            Ok(devices) => assert!(!devices.is_empty()),
            Err(error) => assert!(error.to_string().contains("cuda"), "{error}"),
        }
    }
}
