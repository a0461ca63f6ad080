//! The sums behind a [`Window`](super::Window): shares, means, medians and rises.

use std::collections::BTreeMap;

use super::{
    BRIEF, Clock, LOADED, OSCILLATING_CHANGES, Pattern, ProcessLoad, ReasonShare, Rise, SUSTAINED,
};
use crate::host::telemetry::reading::{Link, Reading, State};
use crate::host::telemetry::reason::{Reason, Reasons};

/// A reading and the time that it speaks for. Of a GPU that does not answer there is nothing to say.
#[derive(Clone, Copy)]
pub(super) struct Timed<'a> {
    pub(super) reading: &'a Reading,
    weight: f64,
}

impl<'a> Timed<'a> {
    pub(super) fn of(readings: &[&'a Reading]) -> Vec<Timed<'a>> {
        let at = |i: usize| readings.get(i).map(|r| r.at_us as f64);
        let timed = readings.iter().enumerate().map(|(i, &reading)| {
            let here = reading.at_us as f64;
            let before = i.checked_sub(1).and_then(at).unwrap_or(here);
            let after = at(i + 1).unwrap_or(here);
            let weight = if readings.len() == 1 {
                1.0
            } else {
                (after - before) / 2.0
            };
            Timed { reading, weight }
        });
        let answers = |t: &Timed| t.reading.state == State::Answers;
        timed.filter(answers).collect()
    }
}

pub(super) fn span_us(readings: &[&Reading]) -> u64 {
    let ends = readings.first().zip(readings.last());
    ends.map_or(0, |(first, last)| last.at_us.saturating_sub(first.at_us))
}

pub(super) fn is_loaded(reading: &Reading) -> bool {
    let idle = reading
        .reasons
        .map(|reasons| reasons.contains(Reason::Idle));
    match (reading.utilisation, idle) {
        (Some(utilisation), idle) => utilisation >= LOADED && idle != Some(true),
        (None, Some(idle)) => !idle,
        (None, None) => false,
    }
}

pub(super) fn share(timed: &[Timed], holds: impl Fn(&Reading) -> bool) -> f64 {
    let (held, all) = timed.iter().fold((0.0, 0.0), |(held, all), t| {
        let held = if holds(t.reading) {
            held + t.weight
        } else {
            held
        };
        (held, all + t.weight)
    });
    if all > 0.0 { held / all } else { 0.0 }
}

pub(super) fn mean(timed: &[Timed], figure: impl Fn(&Reading) -> Option<f64>) -> Option<f64> {
    let told = timed
        .iter()
        .filter_map(|t| Some((figure(t.reading)?, t.weight)));
    let (sum, weight) = told.fold((0.0, 0.0), |(sum, weight), (value, w)| {
        (sum + value * w, weight + w)
    });
    (weight > 0.0).then(|| sum / weight)
}

pub(super) fn newest<T>(
    readings: &[&Reading],
    figure: impl Fn(&Reading) -> Option<T>,
) -> Option<T> {
    readings.iter().rev().find_map(|reading| figure(reading))
}

pub(super) fn either(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (None, None) => None,
        (a, b) => Some(a == Some(true) || b == Some(true)),
    }
}

pub(super) fn reasons(timed: &[Timed], loaded: &[Timed]) -> Vec<ReasonShare> {
    let told: Vec<Timed> = timed
        .iter()
        .copied()
        .filter(|t| t.reading.reasons.is_some())
        .collect();
    let any = told.iter().filter_map(|t| t.reading.reasons);
    let any = Reasons(any.fold(0, |mask, reasons| mask | reasons.0));
    let mut shares: Vec<ReasonShare> = any
        .iter()
        .map(|reason| {
            let holds = |r: &Reading| r.reasons.is_some_and(|reasons| reasons.contains(reason));
            let states = told.iter().map(|t| holds(t.reading)).collect::<Vec<_>>();
            let changes = states.windows(2).filter(|pair| pair[0] != pair[1]).count();
            let share_of_span = share(&told, holds);
            ReasonShare {
                reason,
                share: share_of_span,
                share_of_load: share(loaded, holds),
                changes,
                pattern: pattern(share_of_span, changes),
            }
        })
        .collect();
    shares.sort_by(|a, b| b.share.total_cmp(&a.share));
    shares
}

fn pattern(share: f64, changes: usize) -> Pattern {
    match share {
        share if share >= SUSTAINED => Pattern::Sustained,
        share if share >= BRIEF && changes >= OSCILLATING_CHANGES => Pattern::Oscillating,
        _ => Pattern::Passing,
    }
}

pub(super) fn clock(
    readings: &[&Reading],
    loaded: &[Timed],
    max: Option<u32>,
    figure: impl Fn(&Reading) -> Option<u32>,
) -> Clock {
    let of_max = |mhz: u32| {
        max.filter(|max| *max > 0)
            .map(|max| f64::from(mhz) / f64::from(max))
    };
    let of = |held: &dyn Fn(&Reading) -> bool| {
        let readings = loaded.iter().map(|t| t.reading).filter(|r| held(r));
        median(readings.filter_map(&figure).collect())
    };
    let loaded_mhz = of(&|_| true);
    let slowed = of(&|r| r.reasons.is_some_and(Reasons::is_fault));
    Clock {
        loaded_mhz,
        of_max: loaded_mhz.and_then(of_max),
        slowed: slowed.and_then(of_max),
        now_mhz: newest(readings, figure),
    }
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> Option<T> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// A link that trains up at the beginning of a load is not the one that the load has.
pub(super) fn usual_link(loaded: &[Timed]) -> Link {
    let mut links: Vec<(f64, Link)> = loaded
        .iter()
        .filter_map(|t| Some((t.reading.link.capacity()?, t.reading.link)))
        .collect();
    links.sort_by(|a, b| a.0.total_cmp(&b.0));
    let median = links.get(links.len() / 2);
    median.map_or_else(Link::default, |&(_, link)| link)
}

/// `None` where fewer than two readings tell it, or where it went back.
fn rise(readings: &[&Reading], counter: impl Fn(&Reading) -> Option<u64>) -> Option<u64> {
    let told: Vec<u64> = readings.iter().filter_map(|r| counter(r)).collect();
    let [first, .., last] = told[..] else {
        return None;
    };
    told.is_sorted().then(|| last - first)
}

pub(super) fn time_lost(
    readings: &[&Reading],
    ns: impl Fn(&Reading) -> Option<u64>,
) -> Option<f64> {
    let span_us = span_us(readings);
    let lost_ns = rise(readings, ns)?;
    (span_us > 0).then(|| (lost_ns as f64 / (span_us as f64 * 1000.0)).min(1.0))
}

/// Of a counter that wraps: a step back is left out with its time.
pub(super) fn per_second(
    readings: &[&Reading],
    counter: impl Fn(&Reading) -> Option<u64>,
) -> Option<f64> {
    let told: Vec<(u64, u64)> = readings
        .iter()
        .filter_map(|r| Some((r.at_us, counter(r)?)))
        .collect();
    let steps = told.windows(2).filter_map(|pair| {
        let [(from_us, from), (to_us, to)] = [pair[0], pair[1]];
        Some((to.checked_sub(from)?, to_us.saturating_sub(from_us)))
    });
    // Whatever a driver says: a counter that jumped beyond belief must not end the watch.
    let (bytes, us) = steps.fold((0u64, 0u64), |(bytes, us), step| {
        (bytes.saturating_add(step.0), us.saturating_add(step.1))
    });
    (us > 0).then(|| bytes as f64 / us as f64 * 1e6)
}

impl Rise {
    pub(super) fn of(readings: &[&Reading]) -> Rise {
        let both = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        Rise {
            ecc_corrected: rise(readings, |r| r.ecc.volatile_corrected),
            ecc_uncorrected: rise(readings, |r| r.ecc.volatile_uncorrected),
            retired_pages: rise(readings, |r| r.retired_pages),
            remapped_rows: rise(readings, |r| both(r.rows.corrected, r.rows.uncorrected)),
            pcie_replays: rise(readings, |r| r.pcie_replays),
        }
    }
}

pub(super) fn processes(readings: &[&Reading]) -> Vec<ProcessLoad> {
    #[derive(Default)]
    struct Seen {
        memory_bytes: Option<u64>,
        shares: Vec<f64>,
    }
    let mut all: BTreeMap<u32, Seen> = BTreeMap::new();
    let told = readings.iter().filter_map(|r| r.processes.as_deref());
    for process in told.flatten() {
        let seen = all.entry(process.pid).or_default();
        seen.memory_bytes = seen.memory_bytes.max(process.memory_bytes);
        seen.shares.extend(process.utilisation);
    }
    let mut processes: Vec<ProcessLoad> = all
        .into_iter()
        .map(|(pid, seen)| ProcessLoad {
            pid,
            memory_bytes: seen.memory_bytes,
            utilisation: (!seen.shares.is_empty())
                .then(|| seen.shares.iter().sum::<f64>() / seen.shares.len() as f64),
        })
        .collect();
    let busy = |p: &ProcessLoad| p.utilisation.unwrap_or(0.0);
    processes.sort_by(|a, b| busy(b).total_cmp(&busy(a)));
    processes
}
