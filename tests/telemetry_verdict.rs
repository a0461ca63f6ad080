//! Windows and verdicts as pure functions of readings and their times.

use collage::host::telemetry::{
    Cause, Confidence, Gpu, History, Link, Reading, Reason, Reasons, State, Verdict, Window,
    Worker, Xid,
};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;

fn gpu() -> Gpu {
    Gpu {
        name: "H100".into(),
        sm_clock_max_mhz: Some(1980),
        slowdown_c: Some(87),
        link_max: link(5, 16),
        ..Gpu::default()
    }
}

fn link(generation: u32, width: u32) -> Link {
    Link {
        generation: Some(generation),
        width: Some(width),
    }
}

/// Busy and well.
fn reading(at_us: u64) -> Reading {
    Reading {
        at_us,
        sm_clock_mhz: Some(1980),
        reasons: Some(Reasons::default()),
        utilisation: Some(0.9),
        link: link(5, 16),
        ..Reading::default()
    }
}

fn window(readings: impl IntoIterator<Item = Reading>) -> Window {
    let mut history = History::new(gpu(), u64::MAX);
    readings
        .into_iter()
        .for_each(|reading| history.push(reading));
    history.window()
}

#[test]
fn a_share_is_of_the_time_and_not_of_the_readings() {
    // Dense readings while it is hot, sparse ones after: a second of ten.
    let hot = (0..=10).map(|n| {
        (
            n * SECOND / 10,
            Reasons::from_iter([Reason::SoftwareThermal]),
        )
    });
    let cool = (2..=10).map(|n| (n * SECOND, Reasons::default()));
    let readings = hot.chain(cool).map(|(at_us, reasons)| Reading {
        reasons: Some(reasons),
        ..reading(at_us)
    });
    let window = window(readings);
    let held = window.reason(Reason::SoftwareThermal).expect("it held");
    // The last hot reading speaks for half the second that follows it.
    assert!((held.share - 0.15).abs() < 1e-9, "{held:?}");
    assert_eq!(window.span_us, 10 * SECOND);
}

#[test]
fn a_history_forgets_what_is_older_than_its_span_and_takes_nothing_twice() {
    let mut history = History::new(gpu(), 2 * SECOND);
    for at_us in [
        0,
        SECOND,
        SECOND,
        2 * SECOND,
        3 * SECOND,
        SECOND,
        4 * SECOND,
    ] {
        history.push(reading(at_us));
    }
    let times: Vec<u64> = history.readings().map(|r| r.at_us).collect();
    assert_eq!(times, [2 * SECOND, 3 * SECOND, 4 * SECOND]);
}

#[test]
fn a_counter_that_went_back_says_nothing() {
    let counted = |counts: &[u64]| {
        let readings = counts.iter().zip(0..).map(|(&count, n)| Reading {
            pcie_replays: Some(count),
            ..reading(n * SECOND)
        });
        window(readings).rise.pcie_replays
    };
    assert_eq!(counted(&[7, 7, 9]), Some(2));
    assert_eq!(counted(&[900, 0, 1]), None); // the driver was started anew
    assert_eq!(counted(&[900]), None);
}

#[test]
fn bytes_are_a_rate_over_a_counter_that_wraps() {
    let counts = [4_000_000_000, 4_200_000_000, 100_000_000, 300_000_000];
    let readings = counts.iter().zip(0..).map(|(&count, n)| Reading {
        pcie_tx_bytes: Some(count),
        ..reading(n * SECOND)
    });
    assert_eq!(window(readings).pcie_tx_bytes_per_s, Some(200e6));
}

#[test]
fn clocks_are_judged_under_load_only() {
    let readings = (0..10u64).map(|n| {
        let idle = n >= 5;
        Reading {
            utilisation: Some(if idle { 0.0 } else { 0.9 }),
            sm_clock_mhz: Some(if idle { 345 } else { 1900 }),
            ..reading(n * SECOND)
        }
    });
    let window = window(readings);
    assert_eq!(window.sm_clock.loaded_mhz, Some(1900));
    assert_eq!(window.sm_clock.now_mhz, Some(345));
    assert_eq!(window.slowed(), None);
}

#[test]
fn no_readings_and_one_are_windows_too() {
    let empty = window([]);
    assert_eq!((empty.readings, empty.loaded), (0, 0.0));
    assert_eq!(
        Verdict::of_gpu(&gpu(), &empty, None, &[]).cause,
        Cause::None
    );
    let one = window([reading(5)]);
    assert_eq!((one.readings, one.loaded, one.span_us), (1, 1.0, 0));
}

fn worker(index: usize, relative: f64, individual: f64) -> Worker {
    Worker {
        index,
        relative: Some(relative),
        individual: Some(individual),
        queued: 2,
        ..Worker::default()
    }
}

/// Of the worker at this index, on this GPU.
fn judge(workers: &[Worker], index: usize, window: Option<&Window>) -> Verdict {
    let on = window.map(|window| (window, Verdict::of_gpu(&gpu(), window, None, &[])));
    let on = on.as_ref().map(|(window, verdict)| (*window, verdict));
    Verdict::of_worker(&workers[index], workers, on)
}

#[test]
fn all_workers_slow_together_is_load() {
    let workers = [
        worker(0, 1.0, 0.4),
        worker(1, 0.9, 0.5),
        worker(2, 0.95, 0.45),
    ];
    let verdict = judge(&workers, 1, Some(&window([reading(0), reading(SECOND)])));
    assert_eq!(
        (verdict.cause, verdict.confidence),
        (Cause::Load, Confidence::Likely)
    );
    assert!(
        verdict.evidence.iter().any(|s| s.contains("all 3 workers")),
        "{verdict:?}"
    );
    // One that is slower than the others is not explained by load.
    let one = [worker(0, 1.0, 0.4), worker(1, 0.3, 0.2)];
    assert_eq!(judge(&one, 1, None).cause, Cause::Unknown);
}

#[test]
fn a_slow_worker_whose_gpu_waits_is_the_hosts() {
    let waits = |n: u64| Reading {
        utilisation: Some(0.1),
        ..reading(n * SECOND)
    };
    let workers = [worker(0, 1.0, 1.0), worker(1, 0.4, 0.5)];
    let verdict = judge(&workers, 1, Some(&window((0..5).map(waits))));
    assert_eq!(
        (verdict.cause, verdict.confidence),
        (Cause::Host, Confidence::Likely)
    );
    assert!(
        verdict
            .evidence
            .iter()
            .any(|s| s.contains("10% of the time")),
        "{verdict:?}"
    );
    let busy = judge(&workers, 1, Some(&window([reading(0), reading(SECOND)])));
    assert_eq!(busy.cause, Cause::Unknown);
    assert!(busy.evidence.iter().any(|s| s.contains("40%")), "{busy:?}");
}

#[test]
fn a_slow_worker_on_a_hot_gpu_is_slow_by_heat_and_a_fast_one_is_well() {
    let hot = window((0..5).map(|n| Reading {
        reasons: Some(Reasons::from_iter([Reason::HardwareThermal])),
        sm_clock_mhz: Some(990),
        ..reading(n * SECOND)
    }));
    let workers = [worker(0, 1.0, 1.0), worker(1, 0.5, 0.5)];
    let slow = judge(&workers, 1, Some(&hot));
    assert_eq!(
        (slow.cause, slow.confidence),
        (Cause::Thermal, Confidence::Certain)
    );
    let fast = judge(&workers, 0, Some(&hot));
    assert_eq!(fast.cause, Cause::None);
    assert!(
        fast.notes.iter().any(|s| s.contains("its GPU, thermal")),
        "{fast:?}"
    );
    // Before there are scores it is not known what the heat costs.
    let new = [Worker::default()];
    assert_eq!(judge(&new, 0, Some(&hot)).confidence, Confidence::Likely);
}

#[test]
fn a_broken_gpu_condemns_even_a_fast_worker() {
    let broken = window([
        reading(0),
        Reading {
            xids: vec![Xid(95)],
            ..reading(SECOND)
        },
    ]);
    let workers = [worker(0, 1.0, 1.0)];
    assert_eq!(judge(&workers, 0, Some(&broken)).cause, Cause::Hardware);
}

#[test]
fn the_gravest_cause_comes_first_and_the_others_are_noted() {
    let both = window((0..5).map(|n| Reading {
        reasons: Some(Reasons::from_iter([Reason::HardwareThermal])),
        link: link(5, 8),
        ..reading(n * SECOND)
    }));
    let verdict = Verdict::of_gpu(&gpu(), &both, None, &[]);
    assert_eq!(verdict.cause, Cause::Thermal);
    assert!(
        verdict.notes.iter().any(|s| s.starts_with("also link:")),
        "{verdict:?}"
    );
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let numbers = (
        any::<u64>(),
        any::<Option<u32>>(),
        any::<Option<u64>>(),
        any::<Option<u64>>(),
    );
    let shares = (prop::option::of(0.0..=1.0f64), any::<Option<(u32, u32)>>());
    (numbers, shares, 0..3u8).prop_map(|((at_us, clock, mask, count), (busy, lanes), state)| {
        Reading {
            at_us,
            state: [State::Answers, State::Lost, State::NeedsReset][usize::from(state)],
            sm_clock_mhz: clock,
            reasons: mask.map(Reasons),
            utilisation: busy,
            link: lanes.map_or_else(Link::default, |(g, w)| link(g, w)),
            pcie_replays: count,
            pcie_tx_bytes: count,
            thermal_violation_ns: count,
            power_violation_ns: mask,
            temperature_c: clock,
            xids: count.map(Xid).into_iter().collect(),
            ..Reading::default()
        }
    })
}

proptest! {
    #[test]
    fn any_readings_make_a_window_of_shares_and_a_verdict(
        readings in prop::collection::vec(any_reading(), 0..20)
    ) {
        let window = window(readings);
        let shares = window.reasons.iter().flat_map(|r| [r.share, r.share_of_load]);
        let shares = shares.chain([window.loaded]).chain(window.utilisation);
        let shares = shares.chain(window.thermal_violation).chain(window.power_violation);
        for share in shares {
            prop_assert!((0.0..=1.0 + 1e-9).contains(&share), "{share}");
        }
        let verdict = Verdict::of_gpu(&gpu(), &window, None, &[]);
        prop_assert_eq!(verdict.cause == Cause::None, verdict.evidence.is_empty());
    }
}
