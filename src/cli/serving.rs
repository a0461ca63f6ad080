//! The settings of commands that put a load on an engine, and choose its policies themselves.

use std::time::Duration;

use collage::config::{Layer, Settings};
use collage::embedded;
use collage::engine::Options;

use super::failure::Failure;

/// Their own defaults, for so many requests.
pub fn defaults(requests: u64) -> Layer {
    Layer {
        workers: Some(4),
        deadline: Some(Duration::from_secs(2)),
        queue: Some((requests as usize).max(1024)),
        top: Some(1),
        ..Layer::default()
    }
}

/// What flags, variables and the file say, and the engine's options from that over a command's own defaults. A policy is
/// refused, because of `chosen`.
pub fn settings(flags: &Layer, defaults: Layer, chosen: &str) -> Result<(Layer, Options), Failure> {
    let given = Settings::resolve(flags.clone())?.layer().clone();
    if given.policy.is_some() {
        return Err(Failure::usage(format!("--policy: {chosen}")));
    }
    let given = Layer {
        config: None, // was read above
        ..given
    };
    let all = given.clone().or(defaults);
    let unnamed = || Ok((embedded::base()?, Some(embedded::collage()?)));
    let options = Settings::resolve(all)?.options(unnamed)?;
    Ok((given, options))
}

/// The part of a command line that repeats these settings, with every default written out that depends on the machine
/// or on the command.
pub fn repeat(given: &Layer, options: &Options) -> Vec<String> {
    let all = Layer {
        grid: Some(options.grid),
        device: Some(given.device.clone().unwrap_or_default()),
        workers: Some(options.base_workers),
        collage_workers: Some(options.collage_workers),
        accuracy_drop: options.accuracy.map(|accuracy| accuracy.drop),
        release: Some(options.release),
        deadline: Some(options.deadline),
        stragglers: Some(options.stragglers.clone()),
        seed: Some(options.seed),
        ..given.clone()
    };
    let flags = all.flags().into_iter();
    flags.map(|(name, value)| flag(name, &value)).collect()
}

/// As a shell reads it.
pub fn flag(name: &str, value: &str) -> String {
    format!("--{name} {}", quoted(value))
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
