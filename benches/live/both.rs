//! The same requests served twice: by the engine, on a processor with the embedded digits, and by the simulation. Arrivals,
//! stragglers, luck and the scheduler's settings are the same; what differs is that the engine has threads, clocks and
//! real work. `benches/live.rs` compares their times, `tests/live_simulated.rs` what does not depend on the machine.

use std::time::{Duration, Instant};

use collage::backend::{self, DeviceSpec};
use collage::embedded;
use collage::engine::{
    Answer, Engine, Error, Plans, Policy, RequestOptions, Setup, Source, Ticket,
};
use collage::image::Image;
use collage::model::Model;
use collage::model::compile::{PlanOptions, PlanOutput};
use collage::model::plan::{Grid, Plan};
use collage::sched::{Config, Micros, Role, WorkerConfig};
use collage::sim::{self, Arrivals, Latency};
use collage::straggler::{Straggler, Stragglers};

/// What is served, and how.
#[derive(Clone, Debug)]
pub struct Case {
    pub policy: Policy,
    /// All of them run bases and, where the policy has them, collages.
    pub workers: usize,
    /// Requests that arrive together: a group.
    pub burst: usize,
    pub groups: usize,
    /// Requests a second; groups arrive by a Poisson process.
    pub rate: f64,
    /// From then on a backup may answer.
    pub release: Duration,
    pub deadline: Duration,
    /// A trace at least: the simulation knows nothing of the engine's own runs, which must be shorter than its times.
    pub stragglers: Vec<Straggler>,
    pub seed: u64,
}

/// What came out of one side.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub request: Latency,
    /// Of the last of each group.
    pub group: Latency,
    /// Shares of all requests.
    pub answered: f64,
    pub by_collage: f64,
    pub by_copy: f64,
    /// Backup runs over base runs, probes included.
    pub extra_runs: f64,
}

impl Case {
    fn plans(&self) -> Plans {
        let (base, collage) = (embedded::base(), embedded::collage());
        let (base, collage) = (base.expect("embedded"), collage.expect("embedded"));
        let grid = self.policy.grid();
        let grid = grid.map(|(rows, cols)| Grid { rows, cols });
        Plans {
            base: vec![plan(&base, Grid::ONE)],
            collage: grid.map(|grid| plan(&collage, grid)).into_iter().collect(),
            parity: None,
        }
    }

    /// Serves the requests with the engine; takes as long as they do. Beside the figures: how late the thread woke that
    /// sends them, which is the machine's own noise.
    pub fn live(&self) -> (Figures, Latency) {
        let device = backend::open(&DeviceSpec::Cpu(Some(1))).expect("there is a processor");
        let mut setup = Setup::new(self.plans(), device);
        let requests = self.groups * self.burst;
        setup.policy = self.policy;
        (setup.base_workers, setup.collage_workers) = (self.workers, 0);
        setup.queue = requests;
        setup.group_wait = GROUP_WAIT;
        (setup.release, setup.deadline) = (self.release, self.deadline);
        setup.min_confidence = 0.0;
        setup.stragglers = self.stragglers.clone();
        setup.seed = self.seed;
        let digits = embedded::held_out().expect("embedded");
        let images = (0..digits.len()).map(|i| digits.image(i).expect("a digit"));
        let images: Vec<Image> = images.collect();
        let engine = Engine::start(setup).expect("the engine starts");
        let arrivals = sim::arrivals(&self.simulation());
        let (sent, tickets) = std::sync::mpsc::channel();
        let (tally, late) = std::thread::scope(|scope| {
            let collector = scope.spawn(|| self.collect(tickets));
            let begin = Instant::now();
            let mut late = Vec::new();
            for (group, at) in arrivals.into_iter().enumerate() {
                let due = begin + Duration::from_micros(at);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                late.push(due.elapsed().as_micros() as Micros);
                for i in group * self.burst..(group + 1) * self.burst {
                    let options = RequestOptions {
                        submitted: Some(due),
                        ..RequestOptions::default()
                    };
                    let image = images[i % images.len()].clone();
                    // The collector outlives this loop: it ends when the channel closes.
                    let _ = sent.send(engine.submit(image, options));
                }
            }
            drop(sent);
            let tally: Tally = collector.join().expect("the collector only counts");
            (tally, Latency::of(&mut late))
        });
        let stats = engine.shutdown().requests;
        let further = stats.copy_images + stats.probe_runs + stats.collage_runs;
        let figures = Figures {
            extra_runs: further as f64 / stats.base_images.max(1) as f64,
            ..tally.figures()
        };
        (figures, late)
    }

    fn collect(&self, tickets: std::sync::mpsc::Receiver<Result<Ticket, Error>>) -> Tally {
        let mut tally = Tally::default();
        for (i, ticket) in tickets.into_iter().enumerate() {
            let outcome = ticket.and_then(Ticket::wait);
            let waited = outcome
                .as_ref()
                .map_or(self.deadline, |answer| answer.latency);
            let waited = waited.as_micros() as Micros;
            tally.requests.push(waited);
            if i % self.burst == 0 {
                tally.groups.push(0);
            }
            if let Some(slowest) = tally.groups.last_mut() {
                *slowest = waited.max(*slowest);
            }
            if let Ok(Answer { source, .. }) = outcome {
                tally.answered += 1;
                tally.by_collage += usize::from(source == Source::Collage);
                tally.by_copy += usize::from(source == Source::Copy);
            }
        }
        tally
    }

    fn simulation(&self) -> sim::Setup {
        let plans = self.plans();
        let role = match self.policy.uses_collage() {
            true => Role::Both,
            false => Role::Base,
        };
        let worker = WorkerConfig { role, device: 0 };
        sim::Setup {
            // As the engine makes it of its own setup.
            scheduler: Config {
                workers: vec![worker; self.workers],
                policy: self.policy,
                grids: plans.grids(),
                group_wait: GROUP_WAIT.as_micros() as Micros,
                max_batch: 1,
                queue: self.groups * self.burst,
                min_confidence: 0.0,
                ..Config::default()
            },
            arrivals: Arrivals::Poisson(self.rate),
            burst: self.burst,
            groups: self.groups,
            warm_up: 0,
            repeats: 1,
            release: self.release.as_micros() as Micros,
            deadline: self.deadline.as_micros() as Micros,
            service: None,
            stragglers: Stragglers::open(&self.stragglers).expect("readable traces"),
            seed: self.seed,
        }
    }

    /// Serves them in virtual time.
    pub fn simulated(&self) -> Figures {
        let outcome = sim::run(&self.simulation());
        let figures = outcome.expect("no straggler that needs a device").whole;
        Figures {
            request: figures.request,
            group: figures.group,
            answered: figures.answered,
            by_collage: figures.by_collage,
            by_copy: figures.by_copy,
            extra_runs: figures.extra_runs,
        }
    }
}

/// Members of a group arrive together, and so its collage need not wait.
const GROUP_WAIT: Duration = Duration::from_millis(1);

fn plan(model: &Model, grid: Grid) -> std::sync::Arc<Plan> {
    let options = PlanOptions {
        batch: 1,
        grid,
        output: PlanOutput::TopK(1),
        ..PlanOptions::default()
    };
    Plan::compile(model, &options)
        .expect("the digits compile")
        .into()
}

#[derive(Debug, Default)]
struct Tally {
    requests: Vec<Micros>,
    groups: Vec<Micros>,
    answered: usize,
    by_collage: usize,
    by_copy: usize,
}

impl Tally {
    fn figures(mut self) -> Figures {
        let count = self.requests.len().max(1) as f64;
        Figures {
            request: Latency::of(&mut self.requests),
            group: Latency::of(&mut self.groups),
            answered: self.answered as f64 / count,
            by_collage: self.by_collage as f64 / count,
            by_copy: self.by_copy as f64 / count,
            extra_runs: 0.0,
        }
    }
}
