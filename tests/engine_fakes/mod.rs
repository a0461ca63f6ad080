//! A device whose programs do what a test tells them to: wait, fail, panic, lose their device. It classifies an image
//! as the class in its first byte, so that an answer proves whose image was run; a collage is as confident as the
//! second byte says.
#![allow(dead_code)] // each test file uses its own part

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use collage::backend::{
    BackendError, BackendKind, Device, DeviceInfo, Input, Output, Program, Scored,
};
use collage::engine::{Engine, Head, Parity, Plans, RequestOptions, Restart, Setup, Stats, Ticket};
use collage::image::Image;
use collage::model::plan::{
    Encode, Filter, Grid, Plan, Preprocessing, Step, Value, ValueId, Weights,
};
use collage::tensor::DType;

/// One run, or one load where `images` is empty.
#[derive(Clone, Debug)]
pub struct Call {
    /// Index of the worker whose thread calls.
    pub worker: usize,
    /// Whether the collage's plan runs.
    pub collage: bool,
    /// Classes of the images.
    pub images: Vec<u8>,
    /// Most images of the plan.
    pub capacity: usize,
}

type Behaviour = dyn Fn(&Call) -> Result<(), BackendError> + Send + Sync;

/// See the module.
pub struct Fake {
    info: DeviceInfo,
    on_load: Box<Behaviour>,
    on_run: Arc<Behaviour>,
    /// Every run that began, in order.
    pub calls: Arc<Mutex<Vec<Call>>>,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.info.name)
    }
}

/// Every fake is a device of its own.
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn info(name: &str) -> DeviceInfo {
    DeviceInfo {
        backend: BackendKind::Cpu,
        index: NEXT.fetch_add(1, Ordering::Relaxed),
        name: name.to_owned(),
        driver: String::new(),
        memory_bytes: None,
        features: Vec::new(),
        software: true,
    }
}

impl Fake {
    /// A device whose runs do `on_run` before they answer.
    pub fn new(
        on_run: impl Fn(&Call) -> Result<(), BackendError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Fake::with_load(|_| Ok(()), on_run)
    }

    /// A device that also does `on_load` before it loads a plan.
    pub fn with_load(
        on_load: impl Fn(&Call) -> Result<(), BackendError> + Send + Sync + 'static,
        on_run: impl Fn(&Call) -> Result<(), BackendError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (on_load, on_run) = (Box::new(on_load), Arc::new(on_run));
        Arc::new(Self {
            info: info("fake"),
            on_load,
            on_run,
            calls: Arc::default(),
        })
    }

    /// Base runs so far, as the classes of their images.
    pub fn runs(&self, collage: bool) -> Vec<Vec<u8>> {
        let calls = self.calls.lock().expect("not poisoned");
        calls
            .iter()
            .filter(|c| c.collage == collage)
            .map(|c| c.images.clone())
            .collect()
    }
}

/// In the place of a worker's index: an injected load.
pub const CONTENTION: usize = usize::MAX;
impl Fake {
    /// What the plans of these runs hold, in order.
    pub fn capacities(&self, collage: bool) -> Vec<usize> {
        let calls = self.calls.lock().expect("not poisoned");
        let runs = calls.iter().filter(|c| c.collage == collage);
        runs.map(|c| c.capacity).collect()
    }
}

/// Index in the worker's thread name.
fn this_worker() -> usize {
    let thread = std::thread::current();
    let name = thread.name().expect("all threads of an engine have names");
    if name.starts_with("collage-contention-") {
        return CONTENTION;
    }
    let index = name.strip_prefix("collage-worker-");
    let index = index.and_then(|n| n.parse().ok());
    index.expect("programs run on worker threads")
}

impl Device for Fake {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn load(&self, plan: Arc<Plan>) -> Result<Box<dyn Program>, BackendError> {
        let collage = plan.name == "collage";
        (self.on_load)(&Call {
            worker: this_worker(),
            collage,
            images: Vec::new(),
            capacity: plan.capacity(),
        })?;
        Ok(Box::new(FakeProgram {
            plan,
            on_run: self.on_run.clone(),
            calls: self.calls.clone(),
        }))
    }
}

struct FakeProgram {
    plan: Arc<Plan>,
    on_run: Arc<Behaviour>,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// The class of an image that every program is wrong about: it gives one row too few for it.
pub const MISSING_ROW: u8 = 250;
/// The class of an image whose score is not a number.
pub const NAN_SCORE: u8 = 251;

impl Program for FakeProgram {
    fn run(&mut self, input: Input<'_>) -> Result<Output, BackendError> {
        let Input::Images(images) = input else {
            panic!("the engine gives images")
        };
        assert!(
            (1..=self.plan.capacity()).contains(&images.len()),
            "the plan does not hold these images"
        );
        let collage = self.plan.name == "collage";
        let classes: Vec<u8> = images.iter().map(|i| i.pixels()[0]).collect();
        let call = Call {
            worker: this_worker(),
            collage,
            images: classes,
            capacity: self.plan.capacity(),
        };
        self.calls.lock().expect("not poisoned").push(call.clone());
        (self.on_run)(&call)?;
        if self.plan.name.starts_with("coded") {
            return Ok(Output::Tensor(self.logits(images)));
        }
        let row = |image: &Image| {
            let [class, confidence, _] = image.pixels()[..3] else {
                panic!("an image has a pixel")
            };
            let score = if collage {
                f32::from(confidence) / 255.0
            } else {
                0.99
            };
            let score = if class == NAN_SCORE { f32::NAN } else { score };
            vec![Scored {
                class: u32::from(class),
                score,
            }]
        };
        Ok(Output::TopK(
            images
                .iter()
                .filter(|i| i.pixels()[0] != MISSING_ROW)
                .map(row)
                .collect(),
        ))
    }
}

impl FakeProgram {
    /// Linear in the images: 1 for the class of one. Of a parity the mean of all, else a row each.
    fn logits(&self, images: &[Image]) -> Vec<f32> {
        const CLASSES: usize = 16;
        let is_parity = self.plan.name == "coded parity";
        let rows = if is_parity { 1 } else { self.plan.batch };
        let mut logits = vec![0.0; rows * CLASSES];
        for (i, image) in images.iter().enumerate() {
            let row = if is_parity { 0 } else { i };
            let share = if is_parity { images.len() as f32 } else { 1.0 };
            logits[row * CLASSES + usize::from(image.pixels()[0])] += 1.0 / share;
        }
        logits
    }
}

/// Base plans of logits, and a parity of so many images.
pub fn coded_plans(members: usize) -> Plans {
    let grid = Grid {
        rows: members,
        cols: 1,
    };
    Plans {
        base: [1, 2].map(|batch| plan("coded", batch, Grid::ONE)).to_vec(),
        collage: Vec::new(),
        parity: Some(Parity {
            plan: plan("coded parity", 1, grid),
            head: Head {
                k: 1,
                temperature: 1.0,
            },
        }),
    }
}

/// An image of a class, of whose tile the collage is as confident as `confidence` / 255.
pub fn image(class: u8, confidence: u8) -> Image {
    Image::from_rgb(1, 1, vec![class, confidence, 0]).expect("one pixel")
}

/// An image of which the collage is certain.
pub fn sure(class: u8) -> Image {
    image(class, 255)
}

/// A plan of which the fake reads no more than its name and capacity.
fn plan(name: &str, batch: usize, grid: Grid) -> Arc<Plan> {
    let preprocessing = Preprocessing {
        resize: 1,
        size: 1,
        filter: Filter::Bilinear,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    Arc::new(Plan {
        name: name.to_owned(),
        batch,
        dtype: DType::F32,
        weights: Arc::new(Weights::default()),
        values: vec![Value {
            shape: [batch, grid.rows, grid.cols, 3],
            offset: 0,
        }],
        steps: vec![Step::Encode(Encode {
            output: ValueId(0),
            preprocessing,
            grid,
        })],
        arena_len: 128,
    })
}

/// The collage on a square grid.
pub fn collage_plan(side: usize) -> Arc<Plan> {
    let grid = Grid {
        rows: side,
        cols: side,
    };
    plan("collage", 1, grid)
}

/// Base plans for 1, 2, 4 and 8 images, and a collage of 2x2.
pub fn plans() -> Plans {
    Plans {
        base: [1, 2, 4, 8]
            .map(|batch| plan("base", batch, Grid::ONE))
            .to_vec(),
        collage: vec![collage_plan(2)],
        parity: None,
    }
}

/// One base worker (0) and one collage worker (1) on this device. Nothing is released early or due soon, groups wait
/// for their members, and lost workers come back at once.
pub fn setup(device: Arc<dyn Device>) -> Setup {
    let hour = Duration::from_secs(3600);
    let mut setup = Setup::new(plans(), device);
    setup.group_wait = hour;
    setup.release = Duration::ZERO;
    setup.deadline = hour;
    setup.restart = Restart {
        attempts: 3,
        backoff: Duration::ZERO,
    };
    setup
}

/// Submits images in order.
pub fn submit(engine: &Engine, images: impl IntoIterator<Item = Image>) -> Vec<Ticket> {
    let submit = |image| {
        engine
            .submit(image, RequestOptions::default())
            .expect("accepted")
    };
    images.into_iter().map(submit).collect()
}

/// Waits until the engine's counts are as asked for. Ends only with the test's own timeout if they never are.
pub fn until(engine: &Engine, reached: impl Fn(&Stats) -> bool) -> Stats {
    loop {
        let stats = engine.stats();
        if reached(&stats) {
            return stats;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A gate that runs wait at until the test opens it, and that counts who came.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<(bool, usize)>, Condvar)>);

impl Gate {
    /// Waits until the gate is open.
    pub fn pass(&self) {
        let mut state = self.0.0.lock().expect("not poisoned");
        state.1 += 1;
        self.0.1.notify_all();
        while !state.0 {
            state = self.0.1.wait(state).expect("not poisoned");
        }
    }

    /// Waits until so many have come to the gate.
    pub fn reached_by(&self, count: usize) {
        let mut state = self.0.0.lock().expect("not poisoned");
        while state.1 < count {
            state = self.0.1.wait(state).expect("not poisoned");
        }
    }

    /// Lets everyone pass from now on.
    pub fn open(&self) {
        self.0.0.lock().expect("not poisoned").0 = true;
        self.0.1.notify_all();
    }
}

/// A failure of one run.
pub fn failure() -> BackendError {
    BackendError::Driver {
        device: "fake".into(),
        call: "run",
        reason: "out of luck".into(),
    }
}

/// The loss of the device.
pub fn device_lost() -> BackendError {
    BackendError::DeviceLost {
        device: "fake".into(),
        reason: "unplugged".into(),
    }
}
