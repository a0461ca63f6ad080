//! One convolution step: how its pixels and channels are divided among threads and tiles.
//!
//! Output rows of the whole batch are numbered through, (n, y) -> n * OH + y. A task is a band of such rows and a run
//! of panels. With padding, a task first copies the input rows under its band into a scratch with explicit zeros, so
//! that the kernel needs no bounds; the copy stays in the cache of the thread that uses it and costs a few percent.
//! A linear layer is a convolution of one row, whose pixels are the batch.

use std::ops::Range;
use std::ptr::null;
use std::sync::Arc;

use super::kernel::{Kernels, Tile};
use super::packed::{Packed, Panel};
use super::workers::{Scratch, Workers};

/// Input bytes under one band: with the panel beside it, half of a common L2 cache.
const BAND_BYTES: usize = 256 << 10;
/// Multiplications below which a second thread costs more than it brings.
const SERIAL: usize = 1 << 20;
/// Tasks for each thread, so that one that is held up leaves work to steal.
const TASKS_PER_THREAD: usize = 3;
/// At least the pixels of the largest tile, and the channels of the widest panel.
const MOST_PIXELS: usize = 16;
const MOST_CHANNELS: usize = 32;

/// A value's place in the arena.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// In elements.
    pub offset: usize,
    /// (N, H, W, C).
    pub shape: [usize; 4],
}

impl Place {
    fn end(&self) -> usize {
        self.offset + self.shape.iter().product::<usize>()
    }
}

/// What is added before the activation; see the plan's `Residual`.
#[derive(Clone, Copy, Debug)]
pub struct Residual {
    /// What is added.
    pub place: Place,
    /// Spatial subsampling.
    pub stride: usize,
    /// First output channel that receives something.
    pub channel_offset: usize,
}

/// A convolution's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Read.
    pub input: Place,
    /// Written.
    pub output: Place,
    /// KH, KW.
    pub kernel: [usize; 2],
    /// Both axes.
    pub stride: usize,
    /// Both axes, both sides.
    pub padding: usize,
    /// max(x, 0) at the end.
    pub relu: bool,
    /// Optional shortcut.
    pub residual: Option<Residual>,
}

/// A band of output rows, numbered through the batch, and a run of panels.
#[derive(Clone, Debug)]
struct Task {
    rows: Range<usize>,
    panels: Range<usize>,
}

/// A convolution that is ready to run.
pub struct Conv {
    g: Geometry,
    packed: Arc<Packed>,
    panels: Vec<Panel>,
    kernels: Kernels,
    tasks: Vec<Task>,
    /// Arena that a run needs, in elements.
    arena_len: usize,
}

/// The arena, seen by all tasks of a step.
#[derive(Clone, Copy)]
struct Arena(*mut f32);

/// The input of one band.
#[derive(Clone, Copy)]
struct Band<'a> {
    arena: Arena,
    /// The arena itself, or the scratch with its padded copy.
    source: *const f32,
    /// From one row of the source to the next, in elements.
    row_step: usize,
    /// Where the input under each output row of the band begins in the source.
    starts: &'a [usize],
}

// SAFETY: tasks of one step write disjoint outputs, and none writes what another reads: an output overlaps no input,
// and a residual only where each task reads just the elements that it then writes itself.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Conv {
    /// `None` when the numbers contradict each other or the weights.
    pub fn new(g: Geometry, packed: Arc<Packed>, kernels: Kernels, threads: usize) -> Option<Self> {
        let ([n, h, w, c], [on, oh, ow, o], [kh, kw]) = (g.input.shape, g.output.shape, g.kernel);
        let reaches = |out: usize, kernel: usize, len: usize| {
            out > 0 && g.stride > 0 && (out - 1) * g.stride + kernel <= len + 2 * g.padding
        };
        let fits = n == on
            && reaches(oh, kh, h)
            && reaches(ow, kw, w)
            && packed.channels() == o
            && packed.inner() == kh * kw * c
            && (g.input.end() <= g.output.offset || g.output.end() <= g.input.offset)
            && kernels.pixels() <= MOST_PIXELS
            && 2 * kernels.lanes <= MOST_CHANNELS
            && g.residual
                .is_none_or(|r| r.place.shape[0] == n && covers(&r, oh, ow));
        if !fits {
            return None;
        }
        let residual_end = g.residual.map_or(0, |r| r.place.end());
        let arena_len = g.input.end().max(g.output.end()).max(residual_end);
        let panels = packed.panels();
        let mut conv = Self {
            g,
            packed,
            panels,
            kernels,
            tasks: Vec::new(),
            arena_len,
        };
        conv.tasks = conv.divide(threads);
        Some(conv)
    }

    /// Elements of scratch that any task needs.
    pub fn scratch_len(&self) -> usize {
        let len = |t: &Task| self.padded_len(&t.rows);
        if self.is_direct() {
            0
        } else {
            self.tasks.iter().map(len).max().unwrap_or(0)
        }
    }

    /// Runs on an arena of the plan's length.
    pub fn run(&self, arena: &mut [f32], workers: &Workers) {
        assert!(arena.len() >= self.arena_len, "the arena is the plan's");
        let arena = Arena(arena.as_mut_ptr());
        workers.for_each_task(&self.tasks, |task, scratch, run| {
            self.run_task(task, arena, scratch, run)
        });
    }

    /// Whether the kernel can read the arena itself.
    fn is_direct(&self) -> bool {
        self.g.padding == 0
    }

    /// Padded input columns that a row of outputs sees.
    fn padded_width(&self) -> usize {
        (self.g.output.shape[2] - 1) * self.g.stride + self.g.kernel[1]
    }

    /// Bands small enough for the cache, then runs of panels until every thread has its share.
    fn divide(&self, threads: usize) -> Vec<Task> {
        let [n, oh, ow, o] = self.g.output.shape;
        let (rows, panels) = (n * oh, self.panels.len());
        let row_bytes = self.padded_width() * self.g.input.shape[3] * self.g.stride * 4;
        let mut bands = (rows * row_bytes).div_ceil(BAND_BYTES).clamp(1, rows);
        let mut runs = 1;
        if threads > 1 && rows * ow * o * self.packed.inner() > SERIAL {
            let wanted = TASKS_PER_THREAD * threads;
            runs = wanted.div_ceil(bands).min(panels);
            if bands * runs < wanted {
                bands = wanted.div_ceil(runs).min(rows);
            }
        }
        let part = |i: usize, parts: usize, of: usize| i * of / parts..(i + 1) * of / parts;
        (0..bands * runs)
            .map(|i| Task {
                rows: part(i / runs, bands, rows),
                panels: part(i % runs, runs, panels),
            })
            .collect()
    }

    /// Elements of the input rows under a band, with their padding.
    fn padded_len(&self, rows: &Range<usize>) -> usize {
        self.segments(rows)
            .map(|s| self.segment_rows(&s) * self.padded_width() * self.g.input.shape[3])
            .sum()
    }

    /// A band's rows, image by image: (image, rows of its output).
    fn segments(&self, rows: &Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let oh = self.g.output.shape[1];
        let Range { start, end } = *rows;
        (start / oh..end.div_ceil(oh)).map(move |n| {
            (
                n,
                start.max(n * oh) - n * oh..end.min((n + 1) * oh) - n * oh,
            )
        })
    }

    fn segment_rows(&self, (_, rows): &(usize, Range<usize>)) -> usize {
        (rows.len() - 1) * self.g.stride + self.g.kernel[0]
    }

    fn run_task(&self, task: &Task, arena: Arena, scratch: &mut Scratch, run: u64) {
        let [_, _, width, channels] = self.g.input.shape;
        if scratch.holds != (run, task.rows.start) {
            self.find_rows(&task.rows, arena, scratch);
            scratch.holds = (run, task.rows.start);
        }
        let (source, row_step) = if self.is_direct() {
            (arena.0.cast_const(), width * channels)
        } else {
            (
                scratch.padded.as_slice().as_ptr(),
                self.padded_width() * channels,
            )
        };
        let band = Band {
            arena,
            source,
            row_step,
            starts: &scratch.starts,
        };
        for &panel in &self.panels[task.panels.clone()] {
            self.run_panel(panel, &task.rows, band);
        }
    }

    /// Fills `starts`, and `padded` unless the kernel reads the arena itself.
    fn find_rows(&self, rows: &Range<usize>, arena: Arena, scratch: &mut Scratch) {
        let (g, [_, height, width, channels]) = (&self.g, self.g.input.shape);
        scratch.starts.clear();
        if self.is_direct() {
            let row = |(n, y)| g.input.offset + (n * height + y * g.stride) * width * channels;
            let places = self
                .segments(rows)
                .flat_map(|(n, ys)| ys.map(move |y| (n, y)));
            scratch.starts.extend(places.map(row));
            return;
        }
        // SAFETY: `run` has checked the arena's length, and no task of this step writes its input.
        let input = unsafe {
            std::slice::from_raw_parts(arena.0.add(g.input.offset), g.input.end() - g.input.offset)
        };
        let line = self.padded_width() * channels;
        let mut padded = scratch.padded.as_mut_slice().chunks_exact_mut(line);
        let mut filled = 0;
        for segment in self.segments(rows) {
            let (n, ys) = segment.clone();
            scratch.starts.extend(
                ys.clone()
                    .map(|y| (filled + (y - ys.start) * g.stride) * line),
            );
            let count = self.segment_rows(&segment);
            filled += count;
            for (i, to) in padded.by_ref().take(count).enumerate() {
                let y = (ys.start * g.stride + i)
                    .checked_sub(g.padding)
                    .filter(|&y| y < height);
                let from =
                    y.map(|y| &input[(n * height + y) * width * channels..][..width * channels]);
                pad_row(from, g.padding * channels, to);
            }
        }
    }

    /// All tiles of a band for one panel.
    fn run_panel(&self, panel: Panel, rows: &Range<usize>, band: Band<'_>) {
        let (g, o) = (&self.g, self.g.output.shape[3]);
        let width = panel.vectors * self.kernels.lanes;
        let entries = if panel.vectors == 2 {
            self.kernels.two
        } else {
            self.kernels.one
        };
        let plain = g
            .residual
            .is_none_or(|r| r.channel_offset == 0 && r.place.shape[3] == o);
        let whole = plain && panel.channel + width <= o;
        let first = rows.start * g.output.shape[2];
        let count = rows.len() * g.output.shape[2];
        let tiles = count.div_ceil(self.kernels.pixels());
        let mut pixels = [null(); MOST_PIXELS];
        let mut residual = [null(); MOST_PIXELS];
        let mut spare = [0.0; MOST_PIXELS * MOST_CHANNELS];
        for i in 0..tiles {
            // Sizes that differ by one at most: a short last tile would waste registers.
            let tile = i * count / tiles..(i + 1) * count / tiles;
            self.find_pixels(&tile, band, &mut pixels);
            let at = first + tile.start;
            if whole && let Some(r) = &g.residual {
                for (to, pixel) in residual.iter_mut().zip(at..first + tile.end) {
                    let place = self.shortcut_at(r, pixel) + panel.channel;
                    *to = band.arena.0.wrapping_add(place).cast_const();
                }
            }
            let out = band
                .arena
                .0
                .wrapping_add(g.output.offset + at * o + panel.channel);
            let operands = Tile {
                pixels: pixels.as_ptr(),
                rows: g.kernel[0],
                row_len: g.kernel[1] * g.input.shape[3],
                row_step: band.row_step,
                weights: self.packed.weights(panel).as_ptr(),
                bias: self.packed.bias(panel).as_ptr(),
                residual: if whole && g.residual.is_some() {
                    residual.as_ptr()
                } else {
                    null()
                },
                out: if whole { out } else { spare.as_mut_ptr() },
                out_step: if whole { o } else { width },
                relu: whole && g.relu,
            };
            // SAFETY: `detect` has found the instructions. Pixels lie under the band, whose input rows are whole by
            // the checks of `new`; residual and output are inside of the arena by the same checks and that of `run`;
            // `spare` holds the largest tile.
            unsafe { entries[tile.len() - 1](&operands) };
            if !whole {
                for (pixel, sums) in (at..first + tile.end).zip(spare.chunks_exact(width)) {
                    self.finish(
                        panel.channel,
                        pixel,
                        &sums[..width.min(o - panel.channel)],
                        band.arena,
                    );
                }
            }
        }
    }

    /// The input under each pixel of a tile: its upper left element. Pixels are numbered from the band's first.
    fn find_pixels(&self, tile: &Range<usize>, band: Band<'_>, pixels: &mut [*const f32]) {
        let width = self.g.output.shape[2];
        let step = self.g.stride * self.g.input.shape[3];
        let (mut row, mut x) = (tile.start / width, tile.start % width);
        for pixel in &mut pixels[..tile.len()] {
            *pixel = band.source.wrapping_add(band.starts[row] + x * step);
            x += 1;
            if x == width {
                (row, x) = (row + 1, 0);
            }
        }
    }

    /// Where the residual of an output pixel begins.
    fn shortcut_at(&self, r: &Residual, pixel: usize) -> usize {
        let ([_, oh, ow, _], [_, rh, rw, rc]) = (self.g.output.shape, r.place.shape);
        let (x, y, n) = (pixel % ow, pixel / ow % oh, pixel / ow / oh);
        r.place.offset + ((n * rh + y * r.stride) * rw + x * r.stride) * rc
    }

    /// Residual, activation and store for the cases that the kernel leaves out: a panel that ends past the last
    /// channel, and a shortcut that covers only some channels.
    fn finish(&self, channel: usize, pixel: usize, sums: &[f32], arena: Arena) {
        let (g, o) = (&self.g, self.g.output.shape[3]);
        for (k, &sum) in (channel..).zip(sums) {
            let mut value = sum;
            if let Some(r) = &g.residual
                && let Some(c) = k
                    .checked_sub(r.channel_offset)
                    .filter(|&c| c < r.place.shape[3])
            {
                // SAFETY: inside of the residual's place, which is inside of the arena.
                value += unsafe { *arena.0.add(self.shortcut_at(r, pixel) + c) };
            }
            if g.relu {
                value = value.max(0.0);
            }
            // SAFETY: inside of the output, which is inside of the arena; no other task writes this pixel's panel.
            unsafe { *arena.0.add(g.output.offset + pixel * o + k) = value };
        }
    }
}

/// Whether the residual has an element for every output pixel.
fn covers(r: &Residual, oh: usize, ow: usize) -> bool {
    r.stride > 0 && (oh - 1) * r.stride < r.place.shape[1] && (ow - 1) * r.stride < r.place.shape[2]
}

/// One input row between its padding; all zeros for a row outside of the image. `to` may end before the input does.
fn pad_row(from: Option<&[f32]>, padding: usize, to: &mut [f32]) {
    let Some(from) = from else {
        return to.fill(0.0);
    };
    let (left, rest) = to.split_at_mut(padding.min(to.len()));
    let (middle, right) = rest.split_at_mut(from.len().min(rest.len()));
    left.fill(0.0);
    middle.copy_from_slice(&from[..middle.len()]);
    right.fill(0.0);
}
