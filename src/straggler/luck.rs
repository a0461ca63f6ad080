//! What is drawn: the same seed gives the n-th run of each worker the same luck, whatever else happens.

use std::ops::Range;
use std::sync::Arc;

use super::trace::Trace;
use super::{Effect, Straggler, StragglerError, Window};

/// Draws; splitmix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(u64);

/// Where something is drawn; each place has a sequence of its own. Machines are drawn here for each trace, ...
const MACHINES: u64 = 1;
/// ... lots and arrivals by a simulation, ...
pub(crate) const LOTS: u64 = 2;
/// ... and the runs' times here for each worker and straggler.
const WORKERS: u64 = 1_000;

impl Dice {
    /// An own sequence for each place in which something is drawn.
    pub(crate) fn new(seed: u64, place: u64) -> Self {
        let mut dice = Dice(seed ^ place.wrapping_mul(0xD1B5_4A32_D192_ED03));
        Dice(dice.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In 0..1.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In 0..n; 0 for none.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// The seed of one repetition. The engine's is that of a simulation's first.
pub(crate) fn repetition(seed: u64, repetition: u64) -> u64 {
    Dice::new(seed, repetition).next()
}

/// Stragglers whose traces have been read.
#[derive(Clone, Debug, Default)]
pub struct Stragglers {
    all: Vec<(Arc<Straggler>, Option<Trace>)>,
}

/// A run's own time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Own {
    /// It took, or is known to take, so long: a trace can only make it longer.
    Known(f64),
    /// It takes so long where no trace says how long.
    Assumed(f64),
}

impl Stragglers {
    /// Reads the traces that are named.
    ///
    /// # Errors
    /// [`StragglerError::Read`] and [`StragglerError::Content`].
    pub fn open(described: &[Straggler]) -> Result<Stragglers, StragglerError> {
        let open = |straggler: &Straggler| {
            let described = Arc::new(straggler.clone());
            let Effect::Trace { file, draw, .. } = &straggler.effect else {
                return Ok((described, None));
            };
            let trace = Trace::read(file)?;
            if trace.seconds().len() < draw.least() {
                return Err(StragglerError::Content {
                    file: file.clone(),
                    what: format!("it has {} times", trace.seconds().len()),
                    expected: format!("one at least for each of {} machines", draw.least()),
                });
            }
            Ok((described, Some(trace)))
        };
        let all = described.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Stragglers { all })
    }

    /// As they were described.
    pub fn described(&self) -> impl Iterator<Item = &Straggler> {
        self.all.iter().map(|(straggler, _)| &**straggler)
    }

    /// Mean time of the first trace, scaled, in seconds.
    pub fn mean_s(&self) -> Option<f64> {
        self.all.iter().find_map(|(straggler, trace)| {
            let Effect::Trace { scale, .. } = straggler.effect else {
                return None;
            };
            trace.as_ref().map(|trace| trace.mean_s() * scale)
        })
    }

    /// Refuses those that virtual time cannot have.
    ///
    /// # Errors
    /// [`StragglerError::NeedsDevice`].
    pub fn without_device(&self) -> Result<(), StragglerError> {
        match self.described().find(|s| s.contention().is_some()) {
            None => Ok(()),
            Some(straggler) => Err(StragglerError::NeedsDevice {
                given: straggler.to_string(),
            }),
        }
    }

    /// The luck of so many workers, by their indices.
    pub fn luck(&self, workers: usize, seed: u64) -> Vec<Luck> {
        let mut lucks = vec![Luck::default(); workers];
        let (mut traces, mut effects) = (0, 0);
        for (straggler, trace) in &self.all {
            match (&straggler.effect, trace) {
                (Effect::Trace { draw, scale, .. }, Some(trace)) => {
                    let place = traces << 32;
                    traces += 1;
                    let mut dice = Dice::new(seed, place | MACHINES);
                    let chosen = trace.choose(*draw, workers, &mut dice);
                    for (i, (luck, times)) in lucks.iter_mut().zip(chosen).enumerate() {
                        luck.traces.push(Recorded {
                            trace: trace.clone(),
                            times,
                            scale: *scale,
                            window: straggler.window,
                            dice: Dice::new(seed, place + WORKERS + i as u64),
                        });
                    }
                }
                _ => {
                    let place = (1 << 63) | (effects << 32);
                    effects += 1;
                    for (i, luck) in lucks.iter_mut().enumerate() {
                        if straggler.is_meant(i) {
                            luck.effects.push(Thrown {
                                straggler: straggler.clone(),
                                dice: Dice::new(seed, place | i as u64),
                            });
                        }
                    }
                }
            }
        }
        lucks
    }
}

/// What one worker's runs meet.
#[derive(Clone, Debug, Default)]
pub struct Luck {
    traces: Vec<Recorded>,
    effects: Vec<Thrown>,
}

#[derive(Clone, Debug)]
struct Recorded {
    trace: Trace,
    /// The worker's part of them.
    times: Range<usize>,
    scale: f64,
    window: Option<Window>,
    dice: Dice,
}

#[derive(Clone, Debug)]
struct Thrown {
    straggler: Arc<Straggler>,
    dice: Dice,
}

impl Luck {
    /// How long the worker's next run is to take, in microseconds: one of `work` base runs of one image, that begins at
    /// this time. Everything draws at every run, whether it counts then or not, so that the next run's luck does not
    /// depend on when this one began.
    pub fn time(&mut self, own: Own, work: f64, at: u64) -> f64 {
        let is_on = |window: Option<Window>| window.is_none_or(|w| w.holds(at));
        let mut drawn: Option<f64> = None;
        for recorded in &mut self.traces {
            let index = recorded.times.start + recorded.dice.below(recorded.times.len());
            let seconds = recorded.trace.seconds().get(index);
            let seconds = seconds.filter(|_| is_on(recorded.window));
            if let Some(seconds) = seconds {
                let time = seconds * recorded.scale * 1e6 * work;
                drawn = Some(drawn.map_or(time, |other| other.max(time)));
            }
        }
        let mut time = match (own, drawn) {
            (Own::Known(own), drawn) => drawn.map_or(own, |drawn| own.max(drawn)),
            (Own::Assumed(own), drawn) => drawn.unwrap_or(own),
        };
        for Thrown { straggler, dice } in &mut self.effects {
            let (chance, draw) = (dice.uniform(), dice.uniform());
            if is_on(straggler.window) && chance < straggler.probability {
                time = straggler.effect.on(time, draw, at);
            }
        }
        time
    }
}

impl Effect {
    /// What becomes of a run of `time` us that begins now. `draw` is in 0..1.
    fn on(&self, time: f64, draw: f64, now: u64) -> f64 {
        match *self {
            Effect::Slow(factor) => time * factor,
            Effect::Pause(us) => time + us,
            // Of least value 1; the draw is below 1, so that this is finite.
            Effect::Pareto(shape) => time * (1.0 - draw).powf(-1.0 / shape),
            Effect::Burst {
                every,
                lasts,
                factor,
            } if now % every < lasts => time * factor,
            // Contention takes its time itself, and a trace has said how long a run takes at least.
            Effect::Burst { .. } | Effect::Contention(_) | Effect::Trace { .. } => time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(texts: &[&str]) -> Stragglers {
        let described: Vec<Straggler> = texts.iter().map(|t| t.parse().expect(t)).collect();
        Stragglers::open(&described).expect("readable")
    }

    /// A run of 1 ms on this worker, at so many seconds.
    fn run(text: &str, worker: usize, at_s: f64) -> f64 {
        let mut luck = open(&[text]).luck(worker + 1, 0);
        luck[worker].time(Own::Known(1e3), 1.0, (at_s * 1e6) as u64)
    }

    /// A trace of these times.
    fn recorded(seconds: &[f64]) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("trace.csv");
        let lines: Vec<String> = seconds.iter().map(f64::to_string).collect();
        std::fs::write(&file, lines.join("\n")).expect("written");
        let file = file.to_str().expect("utf-8").to_owned();
        (folder, file)
    }

    #[test]
    fn each_does_what_it_says_where_and_when_it_says_so() {
        assert_eq!(run("slow:2:5", 2, 0.0), 5e3);
        assert_eq!(run("slow:2:5", 1, 0.0), 1e3);
        assert_eq!(run("slow:*:5@10-20", 1, 10.0), 5e3);
        assert_eq!(run("slow:*:5@10-20", 1, 20.0), 1e3);
        assert_eq!(run("pause:0:50", 0, 0.0), 51e3);
        assert_eq!(run("pause:0:50:0", 0, 0.0), 1e3);
        assert_eq!(run("burst:60:5:3", 0, 64.9), 3e3);
        assert_eq!(run("burst:60:5:3", 0, 65.0), 1e3);
        assert!(run("pareto:*:1.5", 0, 0.0) >= 1e3);
        assert_eq!(run("contention:0", 0, 0.0), 1e3);
    }

    #[test]
    fn a_run_takes_the_longer_of_its_own_and_the_drawn_time_by_its_work() {
        let (_folder, file) = recorded(&[0.1, 0.1]);
        let stragglers = open(&[&format!("trace:{file}:scale=0.1@0-5")]);
        let mut luck = stragglers.luck(1, 0).remove(0);
        let mut time = |own, work, at| luck.time(own, work, at).round();
        assert_eq!(time(Own::Known(1e3), 1.0, 0), 10e3);
        assert_eq!(time(Own::Known(50e3), 1.0, 0), 50e3);
        assert_eq!(time(Own::Known(1e3), 0.5, 0), 5e3);
        assert_eq!(time(Own::Assumed(50e3), 1.0, 0), 10e3);
        assert_eq!(time(Own::Assumed(50e3), 1.0, 5_000_000), 50e3);
        let mean_s = stragglers.mean_s().expect("there is a trace");
        assert!((mean_s - 0.01).abs() < 1e-9, "{mean_s}");
    }

    #[test]
    fn traces_come_first_and_the_others_in_their_order() {
        let (_folder, file) = recorded(&[0.001]);
        let mut luck = open(&["slow:0:3", &format!("trace:{file}"), "pause:0:1"]).luck(1, 0);
        assert_eq!(luck[0].time(Own::Known(1.0), 2.0, 0), 2e3 * 3.0 + 1e3);
    }

    #[test]
    fn the_same_seed_slows_the_same_runs_and_about_the_share_that_was_asked_for() {
        let throws = |seed| {
            let mut luck = open(&["pause:1:5:0.1"]).luck(2, seed).remove(1);
            let mut throw = |_| luck.time(Own::Known(0.0), 1.0, 0) > 0.0;
            (0..10_000).map(&mut throw).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
        let hits = throws(7).iter().filter(|&&hit| hit).count();
        assert!((900..1100).contains(&hits), "{hits}");
    }

    #[test]
    fn the_nth_run_has_the_same_luck_whenever_the_earlier_ones_began() {
        let stragglers = open(&["pareto:*:1.5:0.5@0-1", "pareto:*:1.1"]);
        let last = |begin: u64| {
            let mut luck = stragglers.luck(3, 9).remove(2);
            for i in 0..100 {
                luck.time(Own::Known(1e3), 1.0, begin + i);
            }
            luck.time(Own::Known(1e3), 1.0, 5_000_000)
        };
        assert_eq!(last(0), last(2_000_000));
    }

    #[test]
    fn a_trace_with_fewer_times_than_machines_is_refused() {
        let (_folder, file) = recorded(&[0.1, 0.2]);
        let straggler = format!("trace:{file}:machines=3").parse().expect("valid");
        let error = Stragglers::open(&[straggler])
            .expect_err("too few")
            .to_string();
        assert!(error.contains("2 times; expected one at least"), "{error}");
    }

    #[test]
    fn contention_is_refused_where_there_is_no_device() {
        let error = open(&["slow:0:2", "contention:1:0.5"]).without_device();
        let error = error.expect_err("no device").to_string();
        assert!(
            error.contains("contention:1:0.5") && error.contains("virtual time"),
            "{error}"
        );
        assert!(open(&["slow:0:2"]).without_device().is_ok());
    }
}
