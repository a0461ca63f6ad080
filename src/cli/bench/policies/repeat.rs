//! The command line that repeats a comparison, with every default written out that depends on the machine.

use std::path::Path;
use std::time::Duration;

use collage::engine::{Policy, Straggler};

use super::Policies;
use super::outcome::ms;
use super::stage::Stage;

/// A flag's name and its value, where it has one.
type Flag = (&'static str, Option<String>);

/// As a shell reads it.
pub fn command(arguments: &Policies, stage: &Stage) -> String {
    let mut words = vec!["collage bench policies".to_owned()];
    for (name, value) in own(arguments, stage)
        .into_iter()
        .chain(engine(arguments, stage))
    {
        words.extend(value.map(|value| format!("--{name} {}", quoted(&value))));
    }
    words.join(" ")
}

/// This command's own flags.
fn own(arguments: &Policies, stage: &Stage) -> Vec<Flag> {
    let list = |words: Vec<String>| (!words.is_empty()).then(|| words.join(","));
    let releases = arguments.releases.iter().map(|time| milliseconds(*time));
    vec![
        (
            "policies",
            list(stage.policies.iter().map(Policy::to_string).collect()),
        ),
        ("requests", Some(stage.requests().to_string())),
        ("rate", stage.rate.map(|rate| rate.to_string())),
        ("closed", stage.closed.map(|groups| groups.to_string())),
        ("burst", Some(stage.burst.to_string())),
        ("rounds", Some(stage.rounds.to_string())),
        ("warm-up", Some(stage.warm_up.to_string())),
        ("releases", list(releases.collect())),
        ("data", arguments.data.as_deref().map(path)),
        ("images", Some(stage.images().to_string())),
    ]
}

/// The engine's.
fn engine(arguments: &Policies, stage: &Stage) -> Vec<Flag> {
    let (given, options) = (&arguments.settings, &stage.options);
    let stragglers: Vec<String> = options
        .stragglers
        .iter()
        .map(Straggler::to_string)
        .collect();
    vec![
        ("config", given.config.as_deref().map(path)),
        ("model", given.model.as_deref().map(path)),
        ("collage", given.collage.as_deref().map(path)),
        ("arch", given.arch.clone()),
        ("device", given.device.as_ref().map(ToString::to_string)),
        ("workers", Some(options.base_workers.to_string())),
        ("collage-workers", Some(options.collage_workers.to_string())),
        ("grid", given.grid.map(|grid| grid.to_string())),
        ("release", Some(milliseconds(options.release))),
        ("deadline", Some(milliseconds(options.deadline))),
        ("batch-wait", given.batch_wait.map(milliseconds)),
        ("group-wait", given.group_wait.map(milliseconds)),
        ("budget", given.budget.map(|share| share.to_string())),
        (
            "accuracy-budget",
            given.accuracy_budget.map(|share| share.to_string()),
        ),
        (
            "accuracy-drop",
            given.accuracy_drop.map(|share| share.to_string()),
        ),
        ("queue", given.queue.map(|requests| requests.to_string())),
        (
            "max-batch",
            given.max_batch.map(|images| images.to_string()),
        ),
        (
            "min-confidence",
            given.min_confidence.map(|share| share.to_string()),
        ),
        (
            "stragglers",
            (!stragglers.is_empty()).then(|| stragglers.join(",")),
        ),
        ("seed", Some(options.seed.to_string())),
    ]
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// As settings are read.
fn milliseconds(time: Duration) -> String {
    format!("{}ms", ms(time))
}

/// In quotes if a shell would take it apart.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:,=@+".contains(c);
    match word.chars().all(plain) && !word.is_empty() {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_blanks_stays_one() {
        assert_eq!(quoted("hedge:p95,collage:3x3"), "hedge:p95,collage:3x3");
        assert_eq!(quoted("my photos"), "'my photos'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("pause:*:5"), "'pause:*:5'");
    }
}
