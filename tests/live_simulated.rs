//! The engine does what its simulation says, in what does not depend on how fast the machine is: who answers. Times are
//! compared by `cargo bench --bench live`.

#[allow(dead_code)] // The bench reads all figures, this test some.
#[path = "../benches/live/both.rs"]
mod both;

use std::time::Duration;

use both::Case;

/// Half of all runs are paused for far longer than the release time and all others are far shorter; whatever else
/// happens on the machine, a request whose own run is paused is answered by its collage, unless that is paused too.
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
        workers: 10,
        burst: 4,
        groups: 40,
        rate: 20.0,
        release: Duration::from_millis(150),
        deadline: Duration::from_secs(60),
        stragglers: stragglers.iter().map(parse).collect(),
        seed: 1,
    };
    let ((live, late), simulated) = (case.live(), case.simulated());
    for figures in [&live, &simulated] {
        assert_eq!(figures.answered, 1.0, "{figures:?}");
        // Half of the runs, and half of the collages that could stand in for them: a quarter.
        let share = figures.by_collage;
        assert!((0.1..0.5).contains(&share), "{share}: {figures:?}");
    }
    let apart = (live.by_collage - simulated.by_collage).abs();
    assert!(apart < 0.15, "{live:?}\n{simulated:?}\n{late:?}");
}
