//! Settings as the flags that say them: what [`Layer`] reads, written.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::Layer;

impl Layer {
    /// The flags that give these settings, each with its value, in the order of the fields.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let path = |given: &Option<PathBuf>| given.as_ref().map(|p| p.display().to_string());
        let flags = [
            ("config", path(&self.config)),
            ("model", path(&self.model)),
            ("arch", text(&self.arch)),
            ("collage", path(&self.collage)),
            ("parity", path(&self.parity)),
            ("grid", text(&self.grid)),
            ("grids", list(&self.grids)),
            ("device", text(&self.device)),
            ("workers", text(&self.workers)),
            ("collage-workers", text(&self.collage_workers)),
            ("policy", text(&self.policy)),
            ("budget", text(&self.budget)),
            ("accuracy-budget", text(&self.accuracy_budget)),
            ("accuracy-drop", text(&self.accuracy_drop)),
            ("objective", text(&self.objective)),
            ("queue", text(&self.queue)),
            ("max-batch", text(&self.max_batch)),
            ("batch-wait", time(self.batch_wait)),
            ("group-wait", time(self.group_wait)),
            ("release", time(self.release)),
            ("deadline", time(self.deadline)),
            ("min-confidence", text(&self.min_confidence)),
            ("top", text(&self.top)),
            ("stragglers", list(&self.stragglers)),
            ("telemetry", text(&self.telemetry)),
            ("seed", text(&self.seed)),
            ("attach", text(&self.attach)),
        ];
        let given = |(name, value): (_, Option<String>)| Some((name, value?));
        flags.into_iter().filter_map(given).collect()
    }
}

fn text<T: Display>(given: &Option<T>) -> Option<String> {
    given.as_ref().map(T::to_string)
}

/// With commas between; no flag can say a list of nothing.
fn list<T: Display>(given: &Option<Vec<T>>) -> Option<String> {
    let items: Vec<String> = given.iter().flatten().map(T::to_string).collect();
    (!items.is_empty()).then(|| items.join(","))
}

/// As [`duration`](super::duration) reads it.
fn time(given: Option<Duration>) -> Option<String> {
    given.map(|time| format!("{}ms", time.as_secs_f64() * 1e3))
}
