//! Decoded images: 8-bit RGB, whatever the file held.
//!
//! Files are read as Pillow's `ImageOps.exif_transpose(Image.open(f)).convert("RGB")` reads them: grey is repeated,
//! alpha is dropped, and the EXIF orientation is applied. 16 bits keep the upper 8, also in grey images, where Pillow
//! would clip almost everything to white. Sizes are checked before memory is taken for pixels.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::error::Classify;

/// Most pixels that are decoded: Pillow's threshold for a decompression bomb. 537 MB as RGB.
pub const MAX_PIXELS: u64 = 178_956_970;
/// Longest file that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 29;

/// An 8-bit RGB image. Cloning shares the pixels.
#[derive(Clone)]
pub struct Image {
    width: usize,
    height: usize,
    pixels: Pixels, // (H, W, 3)
}

/// Where they are.
#[derive(Clone)]
enum Pixels {
    Host(Arc<[u8]>),
    Device(Arc<dyn DevicePixels>),
}

/// Pixels in a device's memory, packed (H, W, 3) bytes. A backend makes them, and knows them again by their type.
pub trait DevicePixels: Any + Send + Sync + fmt::Debug {
    /// Whose memory: its number among CUDA's devices.
    fn device(&self) -> usize;
    /// Copies them to the host, once they are there.
    fn download(&self) -> Result<Vec<u8>, String>;
}

/// How often images in device memory were read, and how.
#[derive(Debug, Default)]
pub struct Reads {
    in_place: AtomicU64,
    staged: AtomicU64,
}

impl Reads {
    /// By the device whose memory it is: no copy went to the host.
    pub fn in_place(&self) -> u64 {
        self.in_place.load(Ordering::Relaxed)
    }
    /// By another device, through the host.
    pub fn staged(&self) -> u64 {
        self.staged.load(Ordering::Relaxed)
    }
    /// One more that was read where it is.
    pub fn count_in_place(&self) {
        self.in_place.fetch_add(1, Ordering::Relaxed);
    }
    /// One more that went through the host.
    pub fn count_staged(&self) {
        self.staged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Equal pixels; in device memory, which is not read for this: the same ones.
impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        let pixels = match (&self.pixels, &other.pixels) {
            (Pixels::Host(one), Pixels::Host(other)) => one == other,
            (Pixels::Device(one), Pixels::Device(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        pixels && (self.width, self.height) == (other.width, other.height)
    }
}

impl Eq for Image {}

impl Image {
    /// Reads a JPEG, PNG, WebP or BMP file; its content decides, not its name.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|source| ImageError::Read {
                name: name.clone(),
                source,
            })?;
        Self::decode(&name, &bytes)
    }

    /// Decodes a JPEG, PNG, WebP or BMP; `name` is for messages.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(ImageError::LongFile { name: name.into() });
        }
        let format = image::guess_format(bytes)
            .ok()
            .filter(ImageFormat::reading_enabled)
            .ok_or_else(|| ImageError::UnknownFormat { name: name.into() })?;
        let broken = |reason: String| ImageError::Decode {
            name: name.into(),
            format: format_name(format),
            reason,
        };
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_PIXELS * 8); // RGBA at 16 bits
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| broken(e.to_string()))?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(ImageError::TooLarge {
                name: name.into(),
                width,
                height,
            });
        }
        if format == ImageFormat::Jpeg && !has_end_of_image(bytes) {
            return Err(broken("the file is truncated".into()));
        }
        // An unreadable EXIF block does not make the pixels unreadable.
        let orientation = decoder
            .orientation()
            .unwrap_or(image::metadata::Orientation::NoTransforms);
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(|e| broken(e.to_string()))?;
        decoded.apply_orientation(orientation);
        let (width, height) = (decoded.width() as usize, decoded.height() as usize);
        Self::from_rgb(width, height, rgb_bytes(decoded))
            .ok_or_else(|| broken("it has no pixels".into()))
    }

    /// Wraps (H, W, 3) pixels; `None` when a side is 0 or the length is not `width * height * 3`.
    pub fn from_rgb(width: usize, height: usize, pixels: impl Into<Arc<[u8]>>) -> Option<Self> {
        let pixels = pixels.into();
        let len = width.checked_mul(height)?.checked_mul(3)?;
        (len != 0 && len == pixels.len()).then_some(Self {
            width,
            height,
            pixels: Pixels::Host(pixels),
        })
    }

    /// Pixels that are in a device's memory; `None` when a side is 0.
    pub fn in_device_memory(
        width: usize,
        height: usize,
        pixels: Arc<dyn DevicePixels>,
    ) -> Option<Self> {
        (width.checked_mul(height)?.checked_mul(3)? != 0).then_some(Self {
            width,
            height,
            pixels: Pixels::Device(pixels),
        })
    }

    /// Repeats (H, W) grey pixels in all channels; `None` when a side is 0 or the length is not `width * height`.
    pub fn from_grey(width: usize, height: usize, pixels: &[u8]) -> Option<Self> {
        if width.checked_mul(height)? != pixels.len() {
            return None;
        }
        Self::from_rgb(
            width,
            height,
            pixels.iter().flat_map(|&p| [p; 3]).collect::<Vec<u8>>(),
        )
    }

    /// A raw u8 tensor of shape (H, W, 3), or (H, W, 1) for grey.
    pub fn from_tensor(shape: [usize; 3], data: &[u8]) -> Result<Self, ImageError> {
        let [height, width, channels] = shape;
        match channels {
            3 => Self::from_rgb(width, height, data),
            1 => Self::from_grey(width, height, data),
            _ => None,
        }
        .ok_or(ImageError::Shape {
            shape,
            len: data.len(),
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
    /// (H, W, 3) bytes; none where they are in a device's memory.
    pub fn pixels(&self) -> &[u8] {
        match &self.pixels {
            Pixels::Host(pixels) => pixels,
            Pixels::Device(_) => &[],
        }
    }
    /// Those in a device's memory.
    pub fn device_pixels(&self) -> Option<&dyn DevicePixels> {
        match &self.pixels {
            Pixels::Host(_) => None,
            Pixels::Device(pixels) => Some(&**pixels),
        }
    }
    /// Whose memory the pixels are in, by its number among CUDA's devices; `None`: the host's.
    pub fn in_memory_of(&self) -> Option<usize> {
        self.device_pixels().map(DevicePixels::device)
    }
    /// This image as it can be read by this one of CUDA's devices, or by none of them: itself, or a copy on the host.
    pub fn readable_on(&self, device: Option<usize>) -> Result<Self, ImageError> {
        match &self.pixels {
            Pixels::Device(pixels) if Some(pixels.device()) != device => {
                let failed = |reason| ImageError::Device {
                    device: pixels.device(),
                    reason,
                };
                let copy = pixels.download().map_err(failed)?;
                Self::from_rgb(self.width, self.height, copy)
                    .ok_or_else(|| failed("another size".into()))
            }
            _ => Ok(self.clone()),
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}x{})", self.width, self.height)
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file cannot be read.
    #[error("{name}: cannot read the file: {source}")]
    Read {
        /// Path.
        name: String,
        /// As the system says.
        source: std::io::Error,
    },
    /// Not a format that is decoded here.
    #[error("{name}: not a JPEG, PNG, WebP or BMP image")]
    UnknownFormat {
        /// Path, or what the caller named it.
        name: String,
    },
    /// The file is damaged, or uses a rare variant of its format.
    #[error("{name}: cannot decode this {format}: {reason}")]
    Decode {
        /// Path, or what the caller named it.
        name: String,
        /// What its first bytes say it is.
        format: &'static str,
        /// As the decoder says.
        reason: String,
    },
    /// More pixels than are decoded.
    #[error("{name}: {width}x{height} is more than {MAX_PIXELS} pixels")]
    TooLarge {
        /// Path, or what the caller named it.
        name: String,
        /// As its header says.
        width: u32,
        /// As its header says.
        height: u32,
    },
    /// A longer file than is read.
    #[error("{name}: longer than {MAX_FILE_BYTES} bytes")]
    LongFile {
        /// Path, or what the caller named it.
        name: String,
    },
    /// Device memory that could not be copied to the host.
    #[error("an image in the memory of cuda:{device} cannot be copied to the host: {reason}")]
    Device {
        /// Among CUDA's devices.
        device: usize,
        /// As its driver says.
        reason: String,
    },
    /// A raw tensor that is not an image.
    #[error("{len} bytes of shape {shape:?}; expected (H, W, 3) or (H, W, 1), H and W at least 1")]
    Shape {
        /// As given.
        shape: [usize; 3],
        /// Bytes given.
        len: usize,
    },
}

impl Classify for ImageError {
    fn code(&self) -> u32 {
        match self {
            ImageError::Read { .. } => 100,
            ImageError::UnknownFormat { .. } => 101,
            ImageError::Decode { .. } => 102,
            ImageError::TooLarge { .. } => 103,
            ImageError::LongFile { .. } => 104,
            ImageError::Shape { .. } => 105,
            ImageError::Device { .. } => 106,
        }
    }
    /// Only a read can succeed another time.
    fn can_retry(&self) -> bool {
        matches!(self, ImageError::Read { .. })
    }
}

fn format_name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        _ => "BMP",
    }
}

/// Whether the last scan is followed by the end marker. The decoder paints what is missing grey and says nothing.
fn has_end_of_image(jpeg: &[u8]) -> bool {
    let last = |marker: u8| jpeg.windows(2).rposition(|w| w == [0xff, marker]);
    // Inside a scan 0xff is escaped, so that neither pair can be data there.
    matches!((last(0xda), last(0xd9)), (Some(scan), Some(end)) if scan < end)
}

/// As Pillow's `convert("RGB")` makes it: alpha dropped, the upper 8 of 16 bits.
fn rgb_bytes(image: DynamicImage) -> Vec<u8> {
    let upper = |x: u16| (x >> 8) as u8;
    match image {
        DynamicImage::ImageRgb8(rgb) => rgb.into_raw(),
        DynamicImage::ImageLuma16(grey) => grey.pixels().flat_map(|p| [upper(p.0[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(grey) => {
            grey.pixels().flat_map(|p| [upper(p.0[0]); 3]).collect()
        }
        DynamicImage::ImageRgb16(rgb) => rgb.pixels().flat_map(|p| p.0.map(upper)).collect(),
        DynamicImage::ImageRgba16(rgb) => rgb
            .pixels()
            .flat_map(|p| [upper(p.0[0]), upper(p.0[1]), upper(p.0[2])])
            .collect(),
        other => other.into_rgb8().into_raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_tensors_must_have_the_length_of_their_shape() {
        let rgb = Image::from_tensor([1, 2, 3], &[1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(
            (rgb.width(), rgb.height(), rgb.pixels()),
            (2, 1, &[1, 2, 3, 4, 5, 6][..])
        );
        let grey = Image::from_tensor([2, 1, 1], &[7, 8]).unwrap();
        assert_eq!(
            (grey.width(), grey.height(), grey.pixels()),
            (1, 2, &[7, 7, 7, 8, 8, 8][..])
        );
        for (shape, len) in [
            ([1, 2, 3], 5),
            ([2, 2, 2], 8),
            ([0, 4, 3], 0),
            ([usize::MAX, 2, 1], 4),
            ([1, 1, 4], 4),
        ] {
            let error = Image::from_tensor(shape, &vec![0; len]).unwrap_err();
            assert_eq!((error.code(), error.can_retry()), (105, false), "{error}");
        }
    }

    #[test]
    fn missing_files_say_which_and_can_be_retried() {
        let error = Image::open("no/such/photo.jpg").unwrap_err();
        assert!(
            error.to_string().starts_with("no/such/photo.jpg: "),
            "{error}"
        );
        assert_eq!((error.code(), error.can_retry()), (100, true));
    }
}
