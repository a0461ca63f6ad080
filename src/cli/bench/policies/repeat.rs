//! The command line that repeats a comparison.

use std::time::Duration;

use collage::engine::Policy;

use super::Policies;
use super::outcome::ms;
use super::stage::Stage;
use crate::cli::serving;

/// As a shell reads it.
pub fn command(arguments: &Policies, stage: &Stage) -> String {
    let list = |words: Vec<String>| (!words.is_empty()).then(|| words.join(","));
    let milliseconds = |time: &Duration| format!("{}ms", ms(*time));
    let data = arguments.data.as_ref();
    let own = [
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
        (
            "releases",
            list(arguments.releases.iter().map(milliseconds).collect()),
        ),
        ("data", data.map(|path| path.display().to_string())),
        ("images", Some(stage.images().to_string())),
    ];
    let own = own
        .into_iter()
        .filter_map(|(name, value)| Some(serving::flag(name, &value?)));
    let mut words = vec!["collage bench policies".to_owned()];
    words.extend(own);
    words.extend(serving::repeat(&stage.given, &stage.options));
    words.join(" ")
}
