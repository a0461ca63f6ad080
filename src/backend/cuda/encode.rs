//! What a run's images bring: their pixels, a job for each tile, and the resampling tables of their sizes.
//!
//! Jobs and pixels lie in one piece of pinned memory, so that they go up in one copy, to memory of the same layout on the
//! device; images that are on the device already are copied there beside them, and never come down. Both grow to what the runs need and never shrink. Tables stay on the device, one for each size that has come.

use std::any::Any;
use std::collections::HashMap;

use super::args::{EncodeArgs, EncodeTile};
use super::device::Shared;
use super::raw::{Foreign, Memory, Pinned, Refused, Stream};
use crate::backend::BackendError;
use crate::backend::resample::{Axis, Resample};
use crate::image::Image;
use crate::model::plan::{Encode, Plan, Preprocessing};

/// Room for resampling tables: about 100 image sizes of a network at 224.
const TABLE_BYTES: usize = 2 << 20;
/// The most that is taken for images before any has come.
const FIRST_BYTES: usize = 64 << 20;
/// Where pixels and tables begin: the kernel reads the 16 aligned bytes around any.
const ALIGN: usize = 16;

/// One encode step's input.
pub(super) struct EncodeStage {
    preprocessing: Preprocessing,
    tiles: usize,
    pinned: Pinned,
    staging: Memory,
    /// (channel, byte) to the normalised value.
    table: Memory,
    axes: Memory,
    axes_used: usize,
    /// Tables that were full, which jobs of the run under way may still name.
    full: Vec<Memory>,
    axes_of: HashMap<(usize, usize), Place>,
}

/// The tables of an image size: addresses, and what else a job says of them.
#[derive(Clone, Copy)]
struct Place {
    horizontal: u64,
    vertical: u64,
    taps: [u32; 2],
    first_row: u32,
    rows: u32,
}

/// Bytes of the jobs, before the pixels.
fn job_bytes(tiles: usize) -> usize {
    (tiles * size_of::<EncodeTile>()).next_multiple_of(256)
}

impl EncodeStage {
    /// Bytes of device memory that a new stage takes.
    pub fn bytes(plan: &Plan, encode: &Encode) -> usize {
        Self::staging_bytes(plan, encode) + TABLE_BYTES + 3 * 256 * 4
    }

    /// Images of twice the resized side, as photographs for a network usually are.
    fn staging_bytes(plan: &Plan, encode: &Encode) -> usize {
        let side = encode.preprocessing.resize.saturating_mul(2);
        let image = side.saturating_mul(side).saturating_mul(3);
        let images = image.saturating_mul(plan.capacity()).min(FIRST_BYTES);
        job_bytes(plan.capacity()) + images
    }

    pub fn new(
        device: &Shared,
        stream: &Stream,
        plan: &Plan,
        encode: &Encode,
    ) -> Result<Self, Refused> {
        let p = encode.preprocessing;
        let bytes = Self::staging_bytes(plan, encode);
        let mut values = Vec::with_capacity(3 * 256);
        for (mean, std) in p.mean.iter().zip(p.std) {
            // In torchvision's order of operations, so that the rounding is the same too.
            values.extend((0..=255u8).map(|byte| (f32::from(byte) / 255.0 - mean) / std));
        }
        let table = Memory::take(&device.context, values.len() * 4)?;
        stream.upload_slice(&table, 0, bytemuck::cast_slice(&values))?;
        Ok(Self {
            preprocessing: p,
            tiles: plan.capacity(),
            pinned: Pinned::take(&device.context, bytes)?,
            staging: Memory::take(&device.context, bytes)?,
            table,
            axes: Memory::take(&device.context, TABLE_BYTES)?,
            axes_used: 0,
            full: Vec::new(),
            axes_of: HashMap::new(),
        })
    }

    /// The kernel's arguments; they change when the stage has grown.
    pub fn args(&self, encode: &Encode, output: u64) -> EncodeArgs {
        EncodeArgs {
            tiles: self.staging.address(),
            table: self.table.address(),
            output,
            size: self.preprocessing.size as u32,
            grid_rows: encode.grid.rows as u32,
            grid_cols: encode.grid.cols as u32,
            pad: 0,
        }
    }

    /// Writes the jobs and pixels of `images` and starts their upload. Whether the stage has grown: its arguments are then
    /// others than before.
    pub fn upload(
        &mut self,
        device: &Shared,
        stream: &Stream,
        plan: &Plan,
        images: &[Image],
    ) -> Result<bool, BackendError> {
        self.full.clear(); // the run before has ended
        let pixels = |image: &Image| (image.width() * image.height() * 3).next_multiple_of(ALIGN);
        let needed = job_bytes(self.tiles) + images.iter().map(pixels).sum::<usize>();
        let grown = needed > self.staging.bytes();
        if grown {
            self.grow(device, plan, needed)?;
        }
        // Those in the host's memory come first, so that one upload takes them and the jobs, and no more.
        let (there, here): (Vec<_>, Vec<_>) = (0..images.len())
            .partition(|&i| images.get(i).is_some_and(|i| i.in_memory_of().is_some()));
        let mut at = job_bytes(self.tiles);
        let mut places = vec![0; images.len()];
        for &i in here.iter().chain(&there) {
            places[i] = at;
            at += pixels(&images[i]);
        }
        let uploaded =
            job_bytes(self.tiles) + here.iter().map(|&i| pixels(&images[i])).sum::<usize>();
        let start = self.staging.address();
        let mut jobs = vec![EncodeTile::default(); self.tiles];
        for ((job, image), &at) in jobs.iter_mut().zip(images).zip(&places) {
            let place = self.place(device, stream, plan, image)?;
            let bytes = image.pixels();
            self.pinned.as_mut_slice()[at..at + bytes.len()].copy_from_slice(bytes);
            *job = EncodeTile {
                pixels: start + at as u64,
                horizontal: place.horizontal,
                vertical: place.vertical,
                pitch: (image.width() * 3) as u32,
                first_row: place.first_row,
                rows: place.rows,
                horizontal_taps: place.taps[0],
                vertical_taps: place.taps[1],
                pad: 0,
            };
        }
        let jobs: &[u8] = bytemuck::cast_slice(&jobs);
        self.pinned.as_mut_slice()[..jobs.len()].copy_from_slice(jobs);
        let started = stream.upload(&self.staging, 0, &self.pinned, uploaded);
        started.map_err(|r| device.failed(r))?;
        for &i in &there {
            self.copy(device, stream, plan, &images[i], places[i])?;
        }
        Ok(grown)
    }

    /// Starts the copy of an image that is in this device's memory.
    fn copy(
        &self,
        device: &Shared,
        stream: &Stream,
        plan: &Plan,
        image: &Image,
        at: usize,
    ) -> Result<(), BackendError> {
        let pixels = image.device_pixels().map(|pixels| -> &dyn Any { pixels });
        let foreign = pixels.and_then(|pixels| pixels.downcast_ref::<Foreign>());
        let foreign = foreign.ok_or_else(|| BackendError::Input {
            plan: plan.name.clone(),
            what: "was given an image in memory that CUDA has not made".into(),
            expected: "an image of `cuda::device_image`".into(),
        })?;
        let started = stream.copy_foreign(&self.staging, at, foreign);
        started.map_err(|r| device.failed(r))?;
        foreign.reads.count_in_place();
        Ok(())
    }

    fn grow(&mut self, device: &Shared, plan: &Plan, needed: usize) -> Result<(), BackendError> {
        let bytes = needed.next_power_of_two();
        let mut take = || {
            self.pinned = Pinned::take(&device.context, bytes)?;
            self.staging = Memory::take(&device.context, bytes)?;
            Ok(())
        };
        take().map_err(|r: Refused| device.short_of_memory(plan, bytes as u64, r))
    }

    /// The tables of an image's size, uploaded when it comes for the first time.
    fn place(
        &mut self,
        device: &Shared,
        stream: &Stream,
        plan: &Plan,
        image: &Image,
    ) -> Result<Place, BackendError> {
        let key = (image.width(), image.height());
        if let Some(place) = self.axes_of.get(&key) {
            return Ok(*place);
        }
        let made = Resample::new(key.0, key.1, &self.preprocessing);
        let resample = made.ok_or_else(|| BackendError::Input {
            plan: plan.name.clone(),
            what: format!("was given an image of {}x{}", key.0, key.1),
            expected: "sides that fit in memory after resizing".into(),
        })?;
        let mut words = Vec::new();
        append(&mut words, &resample.horizontal);
        let vertical = words.len() * 4;
        append(&mut words, &resample.vertical);
        let bytes: &[u8] = bytemuck::cast_slice(&words);
        if self.axes_used + bytes.len() > self.axes.bytes() {
            self.make_room(device, plan, bytes.len())?;
        }
        let uploaded = stream.upload_slice(&self.axes, self.axes_used, bytes);
        uploaded.map_err(|r| device.failed(r))?;
        let start = self.axes.address() + self.axes_used as u64;
        self.axes_used += bytes.len();
        let (first_row, rows) = resample.rows();
        let place = Place {
            horizontal: start,
            vertical: start + vertical as u64,
            taps: [&resample.horizontal, &resample.vertical].map(|a| a.taps as u32),
            first_row: first_row as u32,
            rows: rows as u32,
        };
        self.axes_of.insert(key, place);
        Ok(place)
    }

    /// Other memory for the tables, which begin anew.
    fn make_room(
        &mut self,
        device: &Shared,
        plan: &Plan,
        bytes: usize,
    ) -> Result<(), BackendError> {
        let bytes = bytes.max(TABLE_BYTES);
        let fresh = Memory::take(&device.context, bytes);
        let fresh = fresh.map_err(|r| device.short_of_memory(plan, bytes as u64, r))?;
        self.full.push(std::mem::replace(&mut self.axes, fresh));
        self.axes_used = 0;
        self.axes_of.clear();
        Ok(())
    }
}

/// Appends an axis as kernels/encode.cu reads it.
fn append(words: &mut Vec<i32>, axis: &Axis) {
    for (&start, &count) in axis.starts.iter().zip(&axis.counts) {
        words.extend([start as i32, count as i32]);
    }
    words.extend_from_slice(&axis.coefficients);
    words.resize(words.len().next_multiple_of(ALIGN / 4), 0);
}
