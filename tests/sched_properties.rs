//! What the scheduler keeps true whatever happens: random fleets, requests, service times, failures, deaths and
//! cancellations in virtual time, watched by a model that believes nothing the scheduler says.

mod sched_model;

use collage::sched::{
    AccuracyBudget, After, Config, GridWork, HealthConfig, MAX_RUNS, Micros, Placement, Policy,
    RequestId, Role, Tiling, WorkerConfig,
};
use proptest::prelude::*;
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
);

/// Budget, work of a collage, overload, health, placement and accuracy.
fn extras() -> impl Strategy<Value = Extras> {
    let accuracy = prop_oneof![
        2 => Just(None),
        1 => (0.0..0.05f64, 0.01..0.1f64).prop_map(|(budget, drop)| Some(AccuracyBudget { budget, drop })),
    ];
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
    prop_oneof![
        20 => submit,
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
