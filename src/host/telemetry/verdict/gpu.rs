//! What is wrong with a GPU by what it tells of itself.
//!
//! Thresholds, and where they come from: a clock-event reason counts from a tenth of the time under load (NVML reports
//! `hw_slowdown` also for a moment while clocks change); more than 8 replayed packets a minute are too many (DCGM's limit,
//! by the recommendation of the driver's makers); a single uncorrected memory error, failed remapping or fatal Xid is
//! enough (DCGM's health checks); another process counts from a tenth of the multiprocessors' time (this project's choice).

use super::{Cause, Confidence, Finding, Verdict, percent};
use crate::host::telemetry::reading::{Absent, Gpu, Link, Missing, Reading, State};
use crate::host::telemetry::reason::Reason;
use crate::host::telemetry::window::{BRIEF, Pattern, ProcessLoad, ReasonShare, Window};

/// A minute's, or of a shorter window.
const MOST_REPLAYS: f64 = 8.0;
/// Of the multiprocessors' time, by others.
const CONTENDED: f64 = 0.1;

impl Verdict {
    /// `own` are the process ids, by the host's numbering, whose work on the GPU is meant to be there; empty: not known.
    /// `latest` tells what is missing.
    pub fn of_gpu(gpu: &Gpu, window: &Window, latest: Option<&Reading>, own: &[u32]) -> Verdict {
        let findings = [
            hardware(window),
            heat(gpu, window),
            power(gpu, window),
            link(gpu, window),
            contention(window, own),
        ];
        let notes = notes(gpu, window, latest);
        Verdict::from(findings.into_iter().flatten().collect(), notes)
    }
}

fn hardware(window: &Window) -> Option<Finding> {
    let mut evidence = Vec::new();
    match window.state {
        State::Answers => {}
        State::Lost => evidence.push("it fell off the bus: the driver does not reach it".into()),
        State::NeedsReset => evidence.push("it answers no more before it is reset".into()),
    }
    for xid in window.xids.iter().filter(|xid| xid.is_fatal()) {
        evidence.push(format!(
            "the driver reported Xid {} ({})",
            xid.0,
            xid.name()
        ));
    }
    if let Some(errors @ 1..) = window.rise.ecc_uncorrected {
        let seconds = window.span_s();
        evidence.push(format!(
            "{errors} uncorrected memory errors within {seconds:.1} s"
        ));
    }
    if window.remapping_failed == Some(true) {
        evidence.push("a broken row of memory could not be replaced: none is spare".into());
    }
    (!evidence.is_empty()).then_some(Finding {
        cause: Cause::Hardware,
        confidence: Confidence::Certain,
        evidence,
    })
}

fn heat(gpu: &Gpu, window: &Window) -> Option<Finding> {
    let held: Vec<&ReasonShare> = held(window, Reason::is_thermal);
    let hot = is_hot(gpu, window);
    let alone = held.is_empty() && hot;
    let umbrella = alone.then(|| slowdown(window)).flatten();
    let counted = window.thermal_violation.filter(|share| *share >= BRIEF);
    let told = window.loaded > 0.0 && counted.is_some();
    if held.is_empty() && umbrella.is_none() && !told {
        return None;
    }
    let mut evidence: Vec<String> = held.iter().copied().chain(umbrella).map(sentence).collect();
    evidence.extend(slowed_clock(gpu, window));
    if let Some(share) = counted {
        evidence.push(format!(
            "by the driver's own count heat held the clocks back for {} of the time",
            percent(share)
        ));
    }
    evidence.extend(temperature(gpu, window));
    Some(Finding {
        cause: Cause::Thermal,
        confidence: if held.is_empty() {
            Confidence::Likely
        } else {
            Confidence::Certain
        },
        evidence,
    })
}

fn power(gpu: &Gpu, window: &Window) -> Option<Finding> {
    let mut held = held(window, |reason| reason == Reason::PowerBrake);
    let mut confidence = Confidence::Certain;
    if held.is_empty() {
        // The umbrella alone: neither heat nor the brake, which leaves a sudden draw of power.
        let hot = is_hot(gpu, window) || !self::held(window, Reason::is_thermal).is_empty();
        held.extend(slowdown(window).filter(|_| !hot));
        confidence = Confidence::Likely;
    }
    if held.is_empty() {
        return None;
    }
    let mut evidence: Vec<String> = held.into_iter().map(sentence).collect();
    evidence.extend(slowed_clock(gpu, window));
    if let (Some(drawn), Some(limit)) = (window.power_w, window.power_limit_w) {
        evidence.push(format!("it drew {drawn:.0} W of {limit:.0} W"));
    }
    Some(Finding {
        cause: Cause::Power,
        confidence,
        evidence,
    })
}

fn link(gpu: &Gpu, window: &Window) -> Option<Finding> {
    let mut evidence = Vec::new();
    if let Some(share) = window.link_lost() {
        evidence.push(format!(
            "under load the link is {}, and could be {}: {} of its speed",
            name(window.link_under_load),
            name(gpu.link_max),
            percent(share)
        ));
    }
    let minutes = (window.span_s() / 60.0).max(1.0);
    if let Some(replays) = window
        .rise
        .pcie_replays
        .filter(|n| *n as f64 > MOST_REPLAYS * minutes)
    {
        let seconds = window.span_s();
        evidence.push(format!(
            "{replays} packets were sent again within {seconds:.1} s"
        ));
    }
    (!evidence.is_empty()).then_some(Finding {
        cause: Cause::Link,
        confidence: Confidence::Certain,
        evidence,
    })
}

fn contention(window: &Window, own: &[u32]) -> Option<Finding> {
    let busy = |p: &&ProcessLoad| p.utilisation.is_some_and(|share| share >= CONTENDED);
    let is_own = |p: &ProcessLoad| own.contains(&p.pid);
    // Inside a container the driver's numbers are not ours: then nobody there is ours to leave out.
    let known = window.processes.iter().any(is_own);
    let busy = window.processes.iter().filter(busy);
    let others: Vec<&ProcessLoad> = busy.filter(|p| !(known && is_own(p))).collect();
    let at_least = if known { 1 } else { 2 };
    if others.len() < at_least {
        return None;
    }
    let evidence = others.iter().map(|p| {
        let share = percent(p.utilisation.unwrap_or(0.0));
        format!(
            "process {} used {share} of the multiprocessors' time",
            p.pid
        )
    });
    Some(Finding {
        cause: Cause::Contention,
        confidence: if known {
            Confidence::Likely
        } else {
            Confidence::Possible
        },
        evidence: evidence.collect(),
    })
}

/// Reasons of a kind that held for more than a brief while under load.
fn held(window: &Window, kind: impl Fn(Reason) -> bool) -> Vec<&ReasonShare> {
    let reasons = window.reasons.iter();
    reasons
        .filter(|held| kind(held.reason) && held.share_of_load >= BRIEF)
        .collect()
}

fn slowdown(window: &Window) -> Option<&ReasonShare> {
    let held = window.reason(Reason::HardwareSlowdown);
    held.filter(|held| held.share_of_load >= BRIEF)
}

fn is_hot(gpu: &Gpu, window: &Window) -> bool {
    let both = window.temperature_c.zip(gpu.slowdown_c);
    both.is_some_and(|(now, limit)| now >= limit)
}

fn sentence(held: &ReasonShare) -> String {
    let how = match held.pattern {
        Pattern::Sustained => "all along".to_owned(),
        Pattern::Oscillating => format!("on and off, {} changes", held.changes),
        Pattern::Passing => "for a while".to_owned(),
    };
    let share = percent(held.share_of_load);
    format!(
        "{} held for {share} of the time under load ({how})",
        held.reason
    )
}

fn slowed_clock(gpu: &Gpu, window: &Window) -> Option<String> {
    let share = window.sm_clock.slowed?;
    let max = gpu.sm_clock_max_mhz?;
    let mhz = (share * f64::from(max)).round();
    Some(format!(
        "meanwhile the multiprocessors ran at {mhz} of {max} MHz ({})",
        percent(share)
    ))
}

fn temperature(gpu: &Gpu, window: &Window) -> Option<String> {
    let now = window.temperature_c?;
    Some(match gpu.slowdown_c {
        Some(limit) => format!("it reached {now} °C; the hardware slows down from {limit} °C on"),
        None => format!("it reached {now} °C"),
    })
}

fn name(link: Link) -> String {
    let number = |n: Option<u32>| n.map_or("?".to_owned(), |n| n.to_string());
    format!(
        "generation {} x{}",
        number(link.generation),
        number(link.width)
    )
}

/// What is no fault, and what keeps this from saying more.
fn notes(gpu: &Gpu, window: &Window, latest: Option<&Reading>) -> Vec<String> {
    let mut notes = Vec::new();
    if window.state == State::Answers && window.readings > 0 && window.loaded == 0.0 {
        notes.push("it is idle: its clocks and its link are low by choice".to_owned());
    }
    for held in &window.reasons {
        let share = percent(held.share);
        match held.reason {
            Reason::SoftwarePowerCap => {
                let limit = window.power_limit_w;
                let limit = limit.map_or(String::new(), |watts| format!(" of {watts:.0} W"));
                notes.push(format!(
                    "sw_power_cap held for {share} of the time: the power limit{limit} is kept, which is no fault"
                ));
            }
            Reason::ApplicationClocks => notes.push(format!(
                "applications_clocks_setting held for {share} of the time: someone set lower clocks"
            )),
            Reason::SyncBoost => notes.push(format!(
                "sync_boost held for {share} of the time: look at the other GPUs of its group"
            )),
            Reason::DisplayClocks | Reason::Unnamed(_) => {
                notes.push(format!("{} held for {share} of the time", held.reason));
            }
            reason
                if reason.is_fault() && held.share_of_load < BRIEF && held.share_of_load > 0.0 =>
            {
                notes.push(format!("{reason} held briefly: {share} of the time"));
            }
            _ => {}
        }
    }
    for xid in window.xids.iter().filter(|xid| !xid.is_fatal()) {
        let code = xid.0;
        notes.push(format!(
            "Xid {code} ({}): not held against the GPU",
            xid.name()
        ));
    }
    if let Some(errors @ 1..) = window.rise.ecc_corrected {
        notes.push(format!("{errors} memory errors were corrected"));
    }
    if window.remapping_pending == Some(true) {
        notes.push("broken memory waits for a reset to be replaced".to_owned());
    }
    if gpu.mig == Some(true) {
        notes.push("MIG is on: the driver does not tell how busy the whole GPU is".to_owned());
    }
    let missing = gpu
        .missing
        .iter()
        .chain(latest.iter().flat_map(|r| &r.missing));
    notes.extend(not_permitted(missing));
    notes
}

fn not_permitted<'a>(missing: impl Iterator<Item = &'a Missing>) -> Option<String> {
    let refused = missing.filter(|m| m.why == Absent::NoPermission);
    let refused: Vec<&str> = refused.map(|m| m.figure).collect();
    let which = refused.join(", ");
    (!refused.is_empty()).then(|| format!("the driver keeps from this user: {which}"))
}
