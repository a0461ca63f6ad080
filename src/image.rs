//! Decoded images: 8-bit RGB, whatever the file held.

use std::sync::Arc;

/// An 8-bit RGB image. Cloning shares the pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    pixels: Arc<[u8]>, // (H, W, 3)
}

impl Image {
    /// Wraps (H, W, 3) pixels; `None` when a side is 0 or the length is not `width * height * 3`.
    pub fn from_rgb(width: usize, height: usize, pixels: impl Into<Arc<[u8]>>) -> Option<Self> {
        let pixels = pixels.into();
        let len = width.checked_mul(height)?.checked_mul(3)?;
        (len != 0 && len == pixels.len()).then_some(Self {
            width,
            height,
            pixels,
        })
    }
    /// Pixels from left to right.
    pub fn width(&self) -> usize {
        self.width
    }
    /// Pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.height
    }
    /// (H, W, 3) bytes.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}x{})", self.width, self.height)
    }
}
