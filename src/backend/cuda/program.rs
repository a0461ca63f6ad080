//! A plan on a device: all that its runs need, built once; a run is one upload and one graph.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::{self, Budget};
use super::builder::{self, Buffers, Builder};
use super::device::Shared;
use super::encode::EncodeStage;
use super::kernels::Kernel;
use super::outline::{self, Outline, rows};
use super::pack;
use super::raw::{Args, Event, Graph, Launch, Memory, Pinned, Refused, Stream};
use crate::backend::timing::Timings;
use crate::backend::top_k::{self, TopKEntry};
use crate::backend::{BackendError, Input, Output, Program, check};
use crate::image::Image;
use crate::model::plan::{Encode, Plan, Step, Value, ValueId};

/// From this driver on, graphs keep the overlap of launches: CUDA 12.3.
const OVERLAPS_IN_GRAPHS: u32 = 12_030;
/// How long a run is waited for by spinning, then by yielding; after that by sleeping.
const SPIN: Duration = Duration::from_micros(200);
const YIELD: Duration = Duration::from_millis(2);
const SLEEP: Duration = Duration::from_micros(50);

/// A plan ready to run. Fields that others name are dropped after them: graphs first, memory last.
pub(super) struct CudaProgram {
    run: Option<Graph>,
    /// The steps without the download, for measuring; captured when asked for.
    pub(super) steps: Option<Graph>,
    pub(super) events: [Event; 4],
    pub(super) stream: Stream,
    launches: Vec<Launch>,
    input: Staging,
    pub(super) download: Pinned,
    pub(super) buffers: Buffers,
    /// Held for the launches that read them.
    _weights: Vec<Arc<Memory>>,
    /// Whether the arena holds an input, so that the steps can run on it again.
    has_run: bool,
    pub(super) plan: Arc<Plan>,
    pub(super) device: Arc<Shared>,
}

/// What a run's input goes through.
enum Staging {
    Images(Box<EncodeStage>, Encode),
    /// Value 0 in the plan's dtype.
    Tensor(Pinned),
}

/// What a run gives back: how many bytes, from where.
pub(super) struct ResultPlace<'a> {
    pub memory: &'a Memory,
    pub at: usize,
    pub bytes: usize,
}

impl CudaProgram {
    pub(super) fn load(device: Arc<Shared>, plan: Arc<Plan>) -> Result<Self, BackendError> {
        budget::check_sizes(&device, &plan)?;
        let outlines = outline::outline(&plan, &device.description, &device.options);
        check_grids(&device, &plan, &outlines)?;
        let kernels: Vec<&'static Kernel> = outlines.iter().map(|o| o.kernel).collect();
        device.prepare(&kernels)?;
        let budget = Budget::of(&device, &plan, &outlines);
        budget.check(&device, &plan)?;
        let built = Self::build(&device, &plan, &outlines, &budget);
        let mut program = built.map_err(|e| match e {
            // Another program may have taken the memory since it was looked at.
            BackendError::Driver { call, .. } if call.starts_with("cuMem") => {
                budget.exceeds(&device, &plan, device.context.free_bytes().unwrap_or(0))
            }
            e => e,
        })?;
        program.warm_up()?;
        Ok(program)
    }

    fn build(
        device: &Arc<Shared>,
        plan: &Arc<Plan>,
        outlines: &[Outline],
        budget: &Budget,
    ) -> Result<Self, BackendError> {
        let failed = |refused| device.failed(refused);
        // A collage answers for many requests whose own runs are late: its blocks go before theirs.
        let stream = Stream::new(&device.context, plan.capacity() > plan.batch).map_err(failed)?;
        let buffers = Buffers::take(device, &stream, budget).map_err(failed)?;
        let mut builder = Builder {
            device,
            plan,
            buffers: &buffers,
            weights: Vec::new(),
        };
        let mut launches = builder.build(outlines)?;
        let weights = builder.weights;
        let input = match plan.steps.first() {
            Some(Step::Encode(e)) => {
                let stage = EncodeStage::new(device, &stream, plan, e).map_err(failed)?;
                let args = encode_args(&stage, e, plan, &buffers.arena);
                launches.insert(0, builder::launch(device, &outlines[0], args)?);
                Staging::Images(Box::new(stage), *e)
            }
            _ => {
                let bytes = plan.values.first().map_or(0, Value::len) * plan.dtype.bytes();
                Staging::Tensor(Pinned::take(&device.context, bytes).map_err(failed)?)
            }
        };
        let overlaps = device.description.architecture.overlaps_launches()
            && device.driver >= OVERLAPS_IN_GRAPHS;
        for launch in launches.iter_mut().skip(1) {
            launch.overlaps = overlaps;
        }
        let event = || Event::new(&device.context).map_err(failed);
        let result = result_place(plan, &buffers).bytes;
        Ok(Self {
            run: None,
            steps: None,
            events: [event()?, event()?, event()?, event()?],
            stream,
            launches,
            input,
            download: Pinned::take(&device.context, result).map_err(failed)?,
            buffers,
            _weights: weights,
            has_run: false,
            plan: plan.clone(),
            device: device.clone(),
        })
    }

    /// One run on a blank input: the driver allocates at the first launch, which must not be a request's.
    fn warm_up(&mut self) -> Result<(), BackendError> {
        if let Staging::Images(..) = self.input {
            let black = Image::from_rgb(1, 1, [0; 3]);
            self.run(Input::Images(black.as_slice())).map(drop)
        } else {
            let zeros = vec![0.0; self.plan.values.first().map_or(0, Value::len)];
            self.run(Input::Tensor(&zeros)).map(drop)
        }?;
        self.has_run = false;
        Ok(())
    }

    /// Starts the upload; captures anew what names memory that had to grow.
    pub(super) fn upload(&mut self, input: Input<'_>) -> Result<(), BackendError> {
        let (device, plan) = (&*self.device, &*self.plan);
        match (input, &mut self.input) {
            (Input::Images(images), Staging::Images(stage, encode)) => {
                if stage.upload(device, &self.stream, plan, images)? {
                    let args = encode_args(stage, encode, plan, &self.buffers.arena);
                    if let Some(launch) = self.launches.first_mut() {
                        launch.args = args;
                    }
                    (self.run, self.steps) = (None, None);
                }
                Ok(())
            }
            (Input::Tensor(data), Staging::Tensor(pinned)) => {
                let bytes = data.len() * plan.dtype.bytes();
                pack::store(data, plan.dtype, &mut pinned.as_mut_slice()[..bytes]);
                let at = plan.values.first().map_or(0, |v| v.offset) * plan.dtype.bytes();
                let started = self.stream.upload(&self.buffers.arena, at, pinned, bytes);
                started.map_err(|r| device.failed(r))
            }
            _ => Ok(()), // `check::input` has refused it
        }
    }

    /// The graph of a run: every step, then the download.
    fn captured_run(&mut self) -> Result<&Graph, Refused> {
        if self.run.is_none() {
            let (stream, launches) = (&self.stream, &self.launches);
            let result = result_place(&self.plan, &self.buffers);
            let download = &mut self.download;
            self.run = Some(Graph::capture(stream, || {
                launches
                    .iter()
                    .try_for_each(|launch| stream.launch(launch))?;
                stream.download(download, result.memory, result.at, result.bytes)
            })?);
        }
        self.run.as_ref().ok_or_else(nothing)
    }

    /// The graph of the steps alone.
    pub(super) fn captured_steps(&mut self) -> Result<&Graph, Refused> {
        if self.steps.is_none() {
            let (stream, launches) = (&self.stream, &self.launches);
            self.steps = Some(Graph::capture(stream, || {
                launches.iter().try_for_each(|launch| stream.launch(launch))
            })?);
        }
        self.steps.as_ref().ok_or_else(nothing)
    }

    fn replay_run(&mut self) -> Result<(), Refused> {
        self.captured_run()?;
        if let Some(graph) = &self.run {
            self.stream.replay(graph)?;
        }
        self.events[3].record(&self.stream)
    }

    /// Until the last event has happened. A device that takes longer than the watchdog allows counts as lost.
    pub(super) fn wait(&self) -> Result<(), BackendError> {
        let watchdog = self.device.options.watchdog();
        let start = Instant::now();
        loop {
            if self.events[3]
                .happened()
                .map_err(|r| self.device.failed(r))?
            {
                return Ok(());
            }
            match start.elapsed() {
                waited if waited < SPIN => std::hint::spin_loop(),
                waited if waited < YIELD => std::thread::yield_now(),
                waited if waited < watchdog => std::thread::sleep(SLEEP),
                waited => {
                    return Err(self
                        .device
                        .lose(format!("a run has not ended in {waited:.1?}")));
                }
            }
        }
    }

    /// What the download holds, once it is there.
    fn read(&self, input: Input<'_>) -> Output {
        let bytes = &self.download.as_slice()[..result_place(&self.plan, &self.buffers).bytes];
        match self.plan.steps.last() {
            Some(Step::TopK(top)) => {
                let entries: &[TopKEntry] = bytemuck::cast_slice(bytes);
                let rows = match input {
                    Input::Images(images) => images.len(),
                    Input::Tensor(_) => rows(&self.plan.values[top.input.0]),
                };
                Output::TopK(top_k::answers(entries, top.k, rows))
            }
            _ => Output::Tensor(pack::load(bytes, self.plan.dtype)),
        }
    }

    /// After a failure: nothing of this run may still be under way when the next one begins.
    fn settle<T>(&self, result: Result<T, BackendError>) -> Result<T, BackendError> {
        if matches!(&result, Err(e) if !matches!(e, BackendError::DeviceLost { .. })) {
            self.stream.wait().map_err(|r| self.device.failed(r))?;
        }
        result
    }
}

impl Program for CudaProgram {
    fn run(&mut self, input: Input<'_>) -> Result<Output, BackendError> {
        check::input(&self.plan, input, Some(self.device.info.index))?;
        self.device.enter()?;
        let ran = self.upload(input).and_then(|()| {
            let replayed = self.replay_run();
            replayed.map_err(|r| self.device.failed(r))?;
            self.wait()
        });
        self.settle(ran)?;
        self.has_run = true;
        Ok(self.read(input))
    }

    fn run_timed(&mut self, input: Input<'_>) -> Result<(Output, Option<Timings>), BackendError> {
        check::input(&self.plan, input, Some(self.device.info.index))?;
        self.device.enter()?;
        let timed = self.time(input);
        let timings = self.settle(timed)?;
        self.has_run = true;
        Ok((self.read(input), Some(timings)))
    }

    fn run_resident(&mut self, times: u32) -> Result<Option<Duration>, BackendError> {
        if !self.has_run {
            return Ok(None);
        }
        self.device.enter()?;
        let repeated = self.repeat(times);
        self.settle(repeated).map(Some)
    }
}

fn encode_args(stage: &EncodeStage, encode: &Encode, plan: &Plan, arena: &Memory) -> Args {
    let output = builder::value_address(plan, arena, encode.output);
    Args::of(&stage.args(encode, output))
}

pub(super) fn result_place<'a>(plan: &Plan, buffers: &'a Buffers) -> ResultPlace<'a> {
    if let Some(Step::TopK(t)) = plan.steps.last() {
        return ResultPlace {
            memory: &buffers.top_k,
            at: 0,
            bytes: rows(&plan.values[t.input.0]) * t.k * size_of::<TopKEntry>(),
        };
    }
    let last = plan.steps.last().and_then(Step::writes);
    let value = plan.values.get(last.unwrap_or(ValueId(0)).0);
    ResultPlace {
        memory: &buffers.arena,
        at: value.map_or(0, |v| v.offset) * plan.dtype.bytes(),
        bytes: value.map_or(0, Value::len) * plan.dtype.bytes(),
    }
}

/// Cannot happen: what was captured is there.
fn nothing() -> Refused {
    Refused {
        call: "cuGraphInstantiate",
        code: 1,
        reason: "no graph".into(),
    }
}

/// Refuses grids that the hardware cannot launch.
fn check_grids(device: &Shared, plan: &Plan, outlines: &[Outline]) -> Result<(), BackendError> {
    let too_large = |o: &&Outline| o.grid[0] > i32::MAX as u32 || o.grid[1].max(o.grid[2]) > 65_535;
    match outlines.iter().find(too_large) {
        None => Ok(()),
        Some(o) => Err(device.unsupported(format!(
            "plan {}: {} in a grid of {:?} blocks; use a smaller batch",
            plan.name, o.kernel.entry, o.grid
        ))),
    }
}
