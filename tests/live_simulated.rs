//! The engine does what its simulation says, in what does not depend on how fast the machine is: who answers. Times are
//! compared by `cargo bench --bench live`.

#[allow(dead_code)] // The bench reads all figures, this test some.
#[path = "../benches/live/both.rs"]
mod both;

use std::time::Duration;

use both::Case;

const SEEDS: u64 = 20;

/// Half of all runs are paused for far longer than the release time and all others are far shorter: a request whose own
/// run is paused is answered by its collage, unless that is paused too. Which run meets which pause depends on the order
/// in which threads come, so live figures are one draw of what the simulation says: its mean over seeds is what they lie
/// near, a standard deviation being about 0.04.
#[test]
fn collages_answer_live_about_as_often_as_in_the_simulation() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trace.csv");
    std::fs::write(&file, "0.001\n").expect("written");
    let stragglers = [
        format!("trace:{}", file.display()),
        "pause:*:600:0.5".into(),
    ];
    let parse = |text: &String| text.parse().expect("a straggler");
    let case = Case {
        policy: "collage:2x2:once".parse().expect("a policy"),
        workers: 30,
        burst: 4,
        groups: 120,
        rate: 60.0,
        release: Duration::from_millis(150),
        deadline: Duration::from_secs(60),
        stragglers: stragglers.iter().map(parse).collect(),
        seed: 1,
    };
    let (live, late) = case.live();
    let seeds = (0..SEEDS).map(|seed| {
        let simulated = Case {
            seed,
            ..case.clone()
        }
        .simulated();
        assert_eq!(simulated.answered, 1.0, "{simulated:?}");
        simulated.by_collage
    });
    let simulated = seeds.sum::<f64>() / SEEDS as f64;
    assert_eq!(live.answered, 1.0, "{live:?}");
    // Half of the runs, less what the collages that are paused too leave to copies and to the runs themselves.
    assert!((0.2..0.5).contains(&simulated), "{simulated}");
    assert!((0.1..0.5).contains(&live.by_collage), "{live:?}");
    let apart = (live.by_collage - simulated).abs();
    assert!(apart < 0.15, "{simulated} for {live:?}\n{late:?}");
}
