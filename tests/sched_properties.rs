//! What the scheduler keeps true whatever happens: random fleets, requests, service times, failures, deaths and
//! cancellations in virtual time, watched by a model that believes nothing the scheduler says.

mod sched_model;

use std::cell::Cell;
use std::time::Duration;

use collage::sched::{
    AccuracyBudget, After, Config, GridWork, HealthConfig, MAX_RUNS, Micros, Objective, Placement,
    Policy, RequestId, Role, Tiling, WorkerConfig,
};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use sched_model::{Fate, Happening, Model, Script};

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Base), Just(Role::Collage), Just(Role::Both)]
}

fn policy() -> impl Strategy<Value = Policy> {
    let after = || prop_oneof![(1..3_000u64).prop_map(After::Micros), Just(After::P95)];
    let lazy = || prop_oneof![Just(None), after().prop_map(Some)];
    let grid = prop_oneof![2 => Just(Tiling::Own), 1 => Just(Tiling::Auto)];
    prop_oneof![
        1 => Just(Policy::None),
        2 => (2..=MAX_RUNS).prop_map(|runs| Policy::Replicate { runs }),
        3 => after().prop_map(|after| Policy::Hedge { after }),
        6 => (grid, lazy(), any::<bool>())
            .prop_map(|(grid, lazy, resend)| Policy::Collage { grid, lazy, resend }),
        4 => (2..5usize, any::<bool>())
            .prop_map(|(members, resend)| Policy::Parity { members, resend }),
    ]
}

type Extras = (
    f64,
    f64,
    usize,
    Option<HealthConfig>,
    Placement,
    Option<AccuracyBudget>,
    Option<Objective>,
);

/// Budget, work of a collage, overload, health, placement and promises.
fn extras() -> impl Strategy<Value = Extras> {
    let accuracy = prop_oneof![
        2 => Just(None),
        1 => (0.0..0.05f64, 0.01..0.1f64).prop_map(|(budget, drop)| Some(AccuracyBudget { budget, drop })),
    ];
    let objective = (500..9_999u32, 500..20_000u64).prop_map(|(hundredths, us)| Objective {
        quantile: f64::from(hundredths.max(5_000)) / 1e4,
        latency: Duration::from_micros(us),
    });
    let objective = prop_oneof![2 => Just(None), 1 => objective.prop_map(Some)];
    let eager_health = HealthConfig {
        probe_first: 500,
        ..HealthConfig::default()
    };
    let health = prop_oneof![
        Just(None),
        Just(Some(HealthConfig::default())),
        Just(Some(eager_health))
    ];
    let placement = prop_oneof![
        4 => Just(Placement::Fastest),
        1 => any::<u64>().prop_map(|seed| Placement::Random { seed }),
    ];
    (
        0.0..1.5f64,
        0.1..3.0f64,
        0..4usize,
        health,
        placement,
        accuracy,
        objective,
    )
}

fn config() -> impl Strategy<Value = Config> {
    let workers = prop::collection::vec((role(), 0..3usize), 1..6);
    (
        workers,
        policy(),
        prop::collection::vec(1..10usize, 1..4),
        0..4_000u64,
        1..6usize,
        0..2_000u64,
        1..40usize,
        1..3usize,
        extras(),
    )
        .prop_map(
            |(workers, policy, tiles, group_wait, max_batch, batch_wait, queue, depth, extras)| {
                Config {
                    workers: workers
                        .into_iter()
                        .map(|(role, device)| WorkerConfig { role, device })
                        .collect(),
                    policy,
                    grids: tiles
                        .into_iter()
                        .map(|tiles| GridWork::new(tiles, extras.1 * tiles as f64 / 9.0))
                        .collect(),
                    parity_work: extras.1,
                    group_wait,
                    max_batch,
                    batch_wait,
                    queue,
                    depth,
                    budget: extras.0,
                    stand_down: extras.2,
                    health: extras.3,
                    placement: extras.4,
                    accuracy: extras.5,
                    objective: extras.6,
                    ..Config::default()
                }
            },
        )
}

fn happening(workers: usize) -> impl Strategy<Value = Happening> {
    let submit = (0..6_000u64, 0..20_000u64).prop_map(|(release, deadline)| Happening::Submit {
        id: RequestId(0), // numbered below
        release,
        deadline,
    });
    let share = || prop_oneof![2 => Just(None), 1 => (0..110u8).prop_map(Some)];
    let tell = (0..workers, share(), share(), prop::bool::weighted(0.2)).prop_map(
        |(worker, slowed, link, faulty)| Happening::Tell {
            worker,
            slowed,
            link,
            faulty,
        },
    );
    prop_oneof![
        20 => submit,
        2 => tell,
        2 => (0..80u64).prop_map(|id| Happening::Cancel { id: RequestId(id) }),
        2 => (0..workers).prop_map(|worker| Happening::Lose { worker }),
        2 => (0..workers).prop_map(|worker| Happening::Ready { worker }),
        1 => (0..workers).prop_map(|worker| Happening::Retire { worker }),
    ]
}

fn number(mut happenings: Vec<(Micros, Happening)>) -> Vec<(Micros, Happening)> {
    happenings.sort_by_key(|&(at, _)| at);
    for (n, (_, happening)) in happenings.iter_mut().enumerate() {
        if let Happening::Submit { id, .. } = happening {
            *id = RequestId(n as u64);
        }
    }
    happenings
}

fn fate(fail_percent: u64) -> impl Strategy<Value = Fate> {
    (any::<u64>(), 0..=fail_percent, 0..100u64, 0..60u64).prop_map(
        |(seed, fail_percent, abstain_percent, straggle_percent)| Fate {
            seed,
            fail_percent,
            abstain_percent,
            straggle_percent,
        },
    )
}

/// Anything may happen, and at the end everything drains.
fn chaos() -> impl Strategy<Value = Script> {
    config().prop_flat_map(|config| {
        let workers = config.workers.len();
        let happenings = prop::collection::vec((0..40_000u64, happening(workers)), 1..120);
        (Just(config), happenings, fate(40), 20_000..60_000u64).prop_map(
            |(config, happenings, fate, drain_at)| {
                let mut happenings = number(happenings);
                happenings.push((drain_at, Happening::Drain));
                Script {
                    config,
                    happenings,
                    fate,
                }
            },
        )
    })
}

/// A healthy fleet of two base workers or more, of which one dies, for good or for a while, at any time; nobody cancels and nothing
/// is due.
fn one_death() -> impl Strategy<Value = Script> {
    const NEVER: Micros = 1_000_000_000;
    let requests = prop::collection::vec(0..20_000u64, 1..80);
    (
        config(),
        requests,
        fate(0),
        any::<prop::sample::Index>(),
        0..25_000u64,
        any::<bool>(),
    )
        .prop_map(|(mut config, requests, fate, victim, at, for_good)| {
            config.queue = 1_000;
            for device in 0..2 {
                config.workers.push(WorkerConfig {
                    role: Role::Base,
                    device,
                });
            }
            let worker = victim.index(config.workers.len());
            let submit = |at| {
                (
                    at,
                    Happening::Submit {
                        id: RequestId(0),
                        release: 3_000,
                        deadline: NEVER,
                    },
                )
            };
            let mut happenings: Vec<_> = requests.into_iter().map(submit).collect();
            if for_good {
                happenings.push((at, Happening::Retire { worker }));
            } else {
                happenings.push((at, Happening::Lose { worker }));
                happenings.push((at + 5_000, Happening::Ready { worker }));
            }
            Script {
                config,
                happenings: number(happenings),
                fate,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_request_is_settled_once_in_time_and_nothing_is_kept(script in chaos()) {
        Model::new(script).run();
    }

    #[test]
    fn the_death_of_any_one_worker_loses_no_request(script in one_death()) {
        let model = Model::new(script).run();
        for (id, outcome) in &model.settled {
            prop_assert!(outcome.is_ok(), "{id}: {outcome:?}");
        }
    }

    #[test]
    fn the_same_events_give_the_same_actions(script in chaos()) {
        prop_assert_eq!(Model::new(script.clone()).run().log, Model::new(script).run().log);
    }
}

/// A long day: thousands of requests, failures, cancellations and words of devices; lost workers come back.
fn day() -> impl Strategy<Value = Script> {
    config().prop_flat_map(|config| {
        let workers = config.workers.len();
        let happenings = prop::collection::vec((0..1_500_000u64, happening(workers)), 3_000..5_000);
        let ready = prop::collection::vec((0..1_500_000u64, 0..workers), 300);
        (Just(config), happenings, ready, fate(10)).prop_map(
            |(config, mut happenings, ready, fate)| {
                happenings.retain(|(_, what)| !matches!(what, Happening::Retire { .. }));
                let ready = ready.into_iter();
                happenings.extend(ready.map(|(at, worker)| (at, Happening::Ready { worker })));
                let mut happenings = number(happenings);
                // Cancellations find somebody who waits.
                let mut newest = 0;
                for (_, what) in &mut happenings {
                    match what {
                        Happening::Submit { id, .. } => newest = id.0,
                        Happening::Cancel { id } => id.0 = newest.saturating_sub(id.0 % 8),
                        _ => {}
                    }
                }
                happenings.push((1_600_000, Happening::Drain));
                Script {
                    config,
                    happenings,
                    fate,
                }
            },
        )
    })
}

/// A day with groups and without second chances: whoever's base run dies is answered by the group, or by nobody.
fn one_death_without_retries() -> impl Strategy<Value = Script> {
    (one_death(), any::<bool>()).prop_map(|(mut script, resend)| {
        let config = &mut script.config;
        (config.max_attempts, config.accuracy) = (1, None);
        config.policy = Policy::Collage {
            grid: Tiling::Own,
            lazy: None,
            resend,
        };
        for device in 0..2 {
            let role = Role::Collage;
            config.workers.push(WorkerConfig { role, device });
        }
        script.fate.abstain_percent = 0;
        script
    })
}

/// Runs so many scripts and gives the events in them.
fn events_in(
    cases: u32,
    scripts: impl Strategy<Value = Script>,
    check: impl Fn(&Model) -> Result<(), TestCaseError>,
) -> u64 {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let events = Cell::new(0);
    let outcome = TestRunner::new(config).run(&scripts, |script| {
        let model = Model::new(script).run();
        events.set(events.get() + model.events);
        check(&model)
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    events.get()
}

#[test]
fn over_millions_of_events_each_request_is_settled_once_and_every_rule_is_kept() {
    let long = events_in(400, day(), |_| Ok(()));
    let recovered = events_in(2_000, one_death_without_retries(), |model| {
        for (id, outcome) in &model.settled {
            prop_assert!(outcome.is_ok(), "{id}: {outcome:?}");
        }
        Ok(())
    });
    println!("{long} events of long days, {recovered} of days with a death and no second chance");
    assert!(long >= 2_000_000, "{long} events");
    assert!(recovered >= 100_000, "{recovered} events");
}

#[test]
fn a_device_that_says_nothing_is_wrong_changes_nothing() {
    let words = prop::collection::vec((0..40_000u64, any::<prop::sample::Index>()), 1..40);
    let config = ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&(chaos(), words), |(script, words)| {
        let workers = script.config.workers.len();
        let mut silent = script;
        silent.config.placement = Placement::Fastest; // each decision draws lots, an idle one too
        silent
            .happenings
            .retain(|(_, what)| !matches!(what, Happening::Tell { .. }));
        let mut heard = silent.clone();
        let end = heard.happenings.pop().expect("the end is there");
        heard.happenings.extend(words.iter().map(|(at, worker)| {
            let well = Happening::Tell {
                worker: worker.index(workers),
                slowed: None,
                link: Some(100),
                faulty: false,
            };
            (*at, well)
        }));
        heard.happenings.push(end);
        let (heard, silent) = (Model::new(heard).run(), Model::new(silent).run());
        let settled = |model: &Model| model.settled.clone();
        prop_assert_eq!(settled(&heard), settled(&silent));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
