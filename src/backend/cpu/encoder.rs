//! The fast path's `encode`: images are resized side by side, then laid out in their canvases.

use std::collections::HashMap;
use std::sync::Arc;

use super::encode::normalise;
use super::simd::{Workers, resize};
use crate::backend::resample::Resample;
use crate::image::Image;
use crate::model::plan::{Encode, Preprocessing};

/// Image sizes whose resampling tables a program remembers.
const REMEMBERED_SIZES: usize = 64;

/// `encode` with what it keeps between runs.
pub struct Encoder {
    /// The step.
    pub encode: Encode,
    /// Normalised values of each byte, by channel.
    normalised: Box<[[f32; 256]; 3]>,
    /// One for each image of a full run.
    tiles: Vec<TileBuffer>,
    tables: HashMap<(usize, usize), Arc<Resample>>,
}

/// One image's resized pixels, (size, size, 3), and the memory to make them.
#[derive(Default)]
struct TileBuffer {
    pixels: Vec<u8>,
    scratch: resize::Scratch,
}

impl Encoder {
    /// For plans of up to `capacity` images.
    pub fn new(encode: Encode, capacity: usize) -> Self {
        let p = encode.preprocessing;
        let normalised =
            [0, 1, 2].map(|c| std::array::from_fn(|byte| normalise(&p, c, byte as u8)));
        let bytes = p.size * p.size * 3;
        let tile = || TileBuffer {
            pixels: vec![0; bytes],
            ..TileBuffer::default()
        };
        let tiles = (0..capacity).map(|_| tile()).collect();
        Self {
            encode,
            normalised: Box::new(normalised),
            tiles,
            tables: HashMap::new(),
        }
    }

    /// Images to canvases, (N, rows * size, cols * size, 3). `None` when an image cannot be cropped.
    pub fn run(&mut self, images: &[Image], canvases: &mut [f32], workers: &Workers) -> Option<()> {
        let Preprocessing { size, .. } = self.encode.preprocessing;
        let tables = images
            .iter()
            .map(|image| self.table(image))
            .collect::<Option<Vec<_>>>()?;
        workers.for_each_chunk(&mut self.tiles[..images.len()], 1, |i, tiles| {
            for TileBuffer { pixels, scratch } in tiles {
                resize::resize(&images[i], &tables[i], scratch, pixels);
            }
        });
        let (grid, line) = (self.encode.grid, size * 3);
        workers.for_each_chunk(canvases, line * grid.cols, |row, out| {
            let (canvas, y) = (row / (grid.rows * size), row % (grid.rows * size));
            for (col, out) in out.chunks_exact_mut(line).enumerate() {
                let i = canvas * grid.tiles() + y / size * grid.cols + col;
                if i >= images.len() {
                    out.fill(0.0);
                    continue;
                }
                let bytes = &self.tiles[i].pixels[y % size * line..][..line];
                for (out, bytes) in out.chunks_exact_mut(3).zip(bytes.chunks_exact(3)) {
                    for c in 0..3 {
                        out[c] = self.normalised[c][usize::from(bytes[c])];
                    }
                }
            }
        });
        Some(())
    }

    fn table(&mut self, image: &Image) -> Option<Arc<Resample>> {
        let key = (image.width(), image.height());
        if let Some(table) = self.tables.get(&key) {
            return Some(table.clone());
        }
        let table = Arc::new(Resample::new(key.0, key.1, &self.encode.preprocessing)?);
        if self.tables.len() >= REMEMBERED_SIZES {
            self.tables.clear();
        }
        self.tables.insert(key, table.clone());
        Some(table)
    }
}
