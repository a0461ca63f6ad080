//! The `encode` step: the only one whose data differs in size from run to run.
//!
//! All images of a run go up in one piece, with a table of where each begins and the resampling tables of its size;
//! two dispatches make canvases of them. The buffers grow to what the runs need and never shrink. A run whose images
//! exceed what one binding may hold is encoded in several parts.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::args::{EncodeArgs, EncodePart};
use super::device::{Pipeline, Shared};
use super::shaders;
use crate::backend::BackendError;
use crate::backend::resample::{Axis, Resample};
use crate::image::Image;
use crate::model::plan::{Encode, Plan, Preprocessing};

/// Words of an image in the job table: the fields of `Image` in shaders/encode.wgsl.
const IMAGE_WORDS: usize = 9;
/// Different image sizes whose resampling tables are kept.
const CACHED_SIZES: usize = 256;

/// One encode step, ready to run.
pub(super) struct EncodeStage {
    preprocessing: Preprocessing,
    tiles: usize,
    columns: Arc<Pipeline>,
    rows: Arc<Pipeline>,
    args: wgpu::Buffer,
    part: wgpu::Buffer,
    /// (channel, byte) to the normalised value.
    table: wgpu::Buffer,
    bytes: Growing,
    narrow: Growing,
    jobs: Growing,
    bound: Option<wgpu::BindGroup>,
    resamples: HashMap<(usize, usize), Arc<Resample>>,
    words: Vec<i32>,
}

/// A storage buffer that is replaced by a larger one when it is too small.
struct Growing {
    label: &'static str,
    buffer: Option<wgpu::Buffer>,
}

impl Growing {
    fn new(label: &'static str) -> Self {
        let buffer = None;
        Self { label, buffer }
    }

    /// The buffer, of at least `size` bytes; whether it is a new one.
    fn at_least(&mut self, device: &Shared, size: u64) -> (wgpu::Buffer, bool) {
        if let Some(buffer) = self.buffer.as_ref().filter(|b| b.size() >= size) {
            return (buffer.clone(), false);
        }
        let most = device.binding_limit() / 4 * 4;
        let size = size.next_power_of_two().clamp(1024, most.max(1024));
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = device.buffer(self.label, size, usage);
        self.buffer = Some(buffer.clone());
        (buffer, true)
    }
}

/// What one part of a run needs.
struct Part {
    images: Range<usize>,
    resamples: Vec<Arc<Resample>>,
    bytes: u64,
    narrow: u64,
    words: u64,
    /// Of the tallest narrow image.
    rows: usize,
}

impl EncodeStage {
    pub(super) fn new(device: &Shared, plan: &Plan, encode: &Encode) -> Result<Self, BackendError> {
        let p = encode.preprocessing;
        let args = EncodeArgs {
            size: p.size as u32,
            grid_rows: encode.grid.rows as u32,
            grid_cols: encode.grid.cols as u32,
            pad: 0,
        };
        let mut table = Vec::with_capacity(3 * 256);
        for (mean, std) in p.mean.iter().zip(p.std) {
            // In torchvision's order of operations, so that the rounding is the same too.
            table.extend((0..=255u8).map(|byte| (f32::from(byte) / 255.0 - mean) / std));
        }
        let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let stage = Self {
            preprocessing: p,
            tiles: plan.capacity(),
            columns: device.pipeline(&shaders::ENCODE_COLUMNS, plan.dtype, &[])?,
            rows: device.pipeline(&shaders::ENCODE_ROWS, plan.dtype, &[])?,
            args: device.buffer("encode args", size_of::<EncodeArgs>() as u64, uniform),
            part: device.buffer("encode part", size_of::<EncodePart>() as u64, uniform),
            table: device.buffer("encode table", 3 * 256 * 4, storage),
            bytes: Growing::new("encode bytes"),
            narrow: Growing::new("encode narrow"),
            jobs: Growing::new("encode jobs"),
            bound: None,
            resamples: HashMap::new(),
            words: Vec::new(),
        };
        device
            .queue
            .write_buffer(&stage.args, 0, bytemuck::bytes_of(&args));
        device
            .queue
            .write_buffer(&stage.table, 0, bytemuck::cast_slice(&table));
        Ok(stage)
    }

    /// Uploads the images and records the two dispatches into `encoder`, which is submitted and replaced between
    /// parts. `output` is the canvases' range of the arena.
    pub(super) fn record(
        &mut self,
        device: &Shared,
        plan: &Plan,
        images: &[Image],
        output: &wgpu::BufferBinding<'_>,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<(), BackendError> {
        let parts = self.divide(device, plan, images)?;
        let last = parts.len() - 1;
        for (i, part) in parts.iter().enumerate() {
            self.upload(device, part, images, output)?;
            let tiles = if i == last {
                self.tiles - part.images.start
            } else {
                part.images.len()
            };
            self.dispatch(encoder, part, tiles);
            if i != last {
                // The next part overwrites these buffers, which happens in the order of submission.
                let next = device.device.create_command_encoder(&Default::default());
                let full = std::mem::replace(encoder, next);
                device.queue.submit([full.finish()]);
            }
        }
        Ok(())
    }

    fn dispatch(&self, encoder: &mut wgpu::CommandEncoder, part: &Part, tiles: usize) {
        let across = self.preprocessing.size.div_ceil(8) as u32;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_bind_group(0, self.bound.as_ref(), &[]);
        pass.set_pipeline(&self.columns.pipeline);
        let down = part.rows.div_ceil(8) as u32;
        pass.dispatch_workgroups(across, down, part.images.len() as u32);
        pass.set_pipeline(&self.rows.pipeline);
        pass.dispatch_workgroups(across, across, tiles as u32);
    }

    /// Splits the images into parts that fit the device, in order.
    fn divide(
        &mut self,
        device: &Shared,
        plan: &Plan,
        images: &[Image],
    ) -> Result<Vec<Part>, BackendError> {
        let most = device.binding_limit();
        let most_groups = device.limits.max_compute_workgroups_per_dimension as usize;
        let mut parts: Vec<Part> = Vec::new();
        for (i, image) in images.iter().enumerate() {
            let resample = self.resample(plan, image)?;
            let (_, rows) = resample.rows();
            let alone = Part {
                images: i..i + 1,
                bytes: (image.pixels().len() as u64).next_multiple_of(4),
                narrow: (rows * self.preprocessing.size) as u64 * 4,
                // Sizes repeat, but a part is small beside what it is compared with.
                words: (IMAGE_WORDS
                    + axis_words(&resample.horizontal)
                    + axis_words(&resample.vertical)) as u64
                    * 4,
                rows,
                resamples: vec![resample],
            };
            let needed = alone.bytes.max(alone.narrow).max(alone.words);
            if needed > most || rows.div_ceil(8) > most_groups {
                return Err(device.out_of_memory(&plan.name, needed, most));
            }
            match parts.last_mut() {
                Some(p)
                    if p.bytes + alone.bytes <= most
                        && p.narrow + alone.narrow <= most
                        && p.words + alone.words <= most
                        && p.images.len() < most_groups =>
                {
                    p.images.end = i + 1;
                    p.bytes += alone.bytes;
                    p.narrow += alone.narrow;
                    p.words += alone.words;
                    p.rows = p.rows.max(rows);
                    p.resamples.extend(alone.resamples);
                }
                _ => parts.push(alone),
            }
        }
        Ok(parts)
    }

    fn resample(&mut self, plan: &Plan, image: &Image) -> Result<Arc<Resample>, BackendError> {
        let key = (image.width(), image.height());
        if let Some(resample) = self.resamples.get(&key) {
            return Ok(resample.clone());
        }
        let made = Resample::new(key.0, key.1, &self.preprocessing);
        let resample = Arc::new(made.ok_or_else(|| BackendError::Input {
            plan: plan.name.clone(),
            what: format!("was given an image of {}x{}", key.0, key.1),
            expected: "sides that fit in memory after resizing".into(),
        })?);
        if self.resamples.len() >= CACHED_SIZES {
            self.resamples.clear();
        }
        self.resamples.insert(key, resample.clone());
        Ok(resample)
    }

    /// Puts a part's bytes and tables on the device, and binds the buffers if one had to grow.
    fn upload(
        &mut self,
        device: &Shared,
        part: &Part,
        images: &[Image],
        output: &wgpu::BufferBinding<'_>,
    ) -> Result<(), BackendError> {
        self.fill_words(part, images);
        let words: &[u8] = bytemuck::cast_slice(&self.words);
        let (bytes, new_bytes) = self.bytes.at_least(device, part.bytes);
        let (narrow, new_narrow) = self.narrow.at_least(device, part.narrow);
        let (jobs, new_jobs) = self.jobs.at_least(device, words.len() as u64);
        if new_bytes || new_narrow || new_jobs || self.bound.is_none() {
            let resources = [
                self.args.as_entire_binding(),
                bytes.as_entire_binding(),
                wgpu::BindingResource::Buffer(output.clone()),
                jobs.as_entire_binding(),
                narrow.as_entire_binding(),
                self.table.as_entire_binding(),
                self.part.as_entire_binding(),
            ];
            self.bound = Some(device.bind(&self.columns, &resources));
        }
        let range = EncodePart {
            first: part.images.start as u32,
            images: part.images.len() as u32,
            pad: [0; 2],
        };
        device
            .queue
            .write_buffer(&self.part, 0, bytemuck::bytes_of(&range));
        device.queue.write_buffer(&jobs, 0, words);
        let size = wgpu::BufferSize::new(part.bytes);
        let view = size.and_then(|size| device.queue.write_buffer_with(&bytes, 0, size));
        let mut view =
            view.ok_or_else(|| device.failed("write_buffer_with", "no staging memory".into()))?;
        let mut at = 0;
        for image in &images[part.images.clone()] {
            let pixels = image.pixels();
            view.slice(at..at + pixels.len()).copy_from_slice(pixels);
            at += pixels.len().next_multiple_of(4);
        }
        Ok(())
    }

    /// The job table: the images, then the axes of each distinct size.
    fn fill_words(&mut self, part: &Part, images: &[Image]) {
        let words = &mut self.words;
        words.clear();
        words.resize(part.images.len() * IMAGE_WORDS, 0);
        let mut places: HashMap<(usize, usize), [usize; 2]> = HashMap::new();
        let (mut bytes, mut narrow) = (0, 0);
        for (i, (image, resample)) in images[part.images.clone()]
            .iter()
            .zip(&part.resamples)
            .enumerate()
        {
            let [horizontal, vertical] = *places
                .entry((image.width(), image.height()))
                .or_insert_with(|| {
                    [&resample.horizontal, &resample.vertical].map(|a| append(words, a))
                });
            let (first_row, rows) = resample.rows();
            let fields = [
                bytes,
                image.width(),
                first_row,
                rows,
                narrow,
                horizontal,
                vertical,
                resample.horizontal.taps,
                resample.vertical.taps,
            ];
            for (word, field) in words[i * IMAGE_WORDS..].iter_mut().zip(fields) {
                *word = field as i32;
            }
            bytes += image.pixels().len().next_multiple_of(4);
            narrow += rows * self.preprocessing.size;
        }
    }
}

fn axis_words(axis: &Axis) -> usize {
    axis.starts.len() * 2 + axis.coefficients.len()
}

/// Appends an axis as shaders/encode.wgsl reads it; its place.
fn append(words: &mut Vec<i32>, axis: &Axis) -> usize {
    let place = words.len();
    for (&start, &count) in axis.starts.iter().zip(&axis.counts) {
        words.extend([start as i32, count as i32]);
    }
    words.extend_from_slice(&axis.coefficients);
    place
}
