//! `collage_image` to [`Image`]s: decoded, or read from a tensor of any strides.
//!
//! Host memory is copied here, so nothing of it is needed once the call returns. Whoever owns the memory is told when it is
//! not read any more ([`Owner`]), but only if one at least of its images was accepted.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use half::f16;

use super::error::{AbiError, Failure};
use super::layout;
use super::types::{self, Picture};
use crate::image::{Image, MAX_PIXELS, Reads};

/// Most images of one call: a guard against a count that is garbage.
const MOST_IMAGES: usize = 1 << 20;

/// What one `collage_image` gave.
pub(super) struct Given {
    pub(super) images: Vec<Image>,
    pub(super) owner: Owner,
}

/// Who is told when memory is not read any more: once, after the last image of it is gone and if one was accepted.
#[derive(Clone)]
pub(super) struct Owner(Option<Arc<Released>>);

struct Released {
    // SAFETY: a type; whoever calls it says why it may.
    release: unsafe extern "C" fn(*mut c_void),
    context: *mut c_void,
    is_taken: AtomicBool,
}

// SAFETY: the header says that any thread may call it: the caller's context is made for that.
unsafe impl Send for Released {}
// SAFETY: as above; it is called once, by whoever is last.
unsafe impl Sync for Released {}

impl Owner {
    fn new(picture: &Picture) -> Self {
        Self(picture.release.map(|release| {
            Arc::new(Released {
                release,
                context: picture.release_context,
                is_taken: AtomicBool::new(false),
            })
        }))
    }

    /// The memory is the library's from now on.
    pub(super) fn accept(&self) {
        if let Some(released) = &self.0 {
            released.is_taken.store(true, Ordering::Release);
        }
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        if self.is_taken.load(Ordering::Acquire) {
            // SAFETY: the caller gave this function to be called once with this context, and this is the end of both.
            unsafe { (self.release)(self.context) };
        }
    }
}

/// Reads an image, or a batch of them.
///
/// # Safety
/// As the header asks of a `collage_image`; NULL is refused.
pub(super) unsafe fn read(image: *const Picture, reads: &Arc<Reads>) -> Result<Given, Failure> {
    // SAFETY: the caller promises a struct of its size.
    let picture = unsafe { layout::read(image) }?;
    // SAFETY: the caller promises a text or NULL.
    let name = unsafe { super::text("name", picture.name) }?.unwrap_or("image");
    if picture.reserved != 0 {
        return Err(AbiError::value("reserved", picture.reserved, "0").into());
    }
    if picture.memory == types::CUDA {
        // SAFETY: the caller promises what the header asks of device memory.
        return unsafe { in_device_memory(name, &picture, reads) };
    } else if picture.memory != types::HOST {
        return Err(
            AbiError::value("memory", picture.memory, "COLLAGE_HOST or COLLAGE_CUDA").into(),
        );
    }
    if picture.data.is_null() {
        return Err(AbiError::Null { what: "data" }.into());
    }
    let images = if picture.r#type == types::ENCODED {
        if picture.size > isize::MAX as usize {
            let expected = "a size that memory can have";
            return Err(AbiError::value("size", picture.size, expected).into());
        }
        // SAFETY: not NULL, and the caller promises `size` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(picture.data.cast(), picture.size) };
        vec![Image::decode(name, bytes)?]
    } else {
        let tensor = Tensor::new(name, &picture)?;
        // SAFETY: the caller promises that the tensor's elements may be read.
        let images = (0..tensor.sizes[N]).map(|n| unsafe { tensor.image(n) });
        images.collect::<Result<_, AbiError>>()?
    };
    Ok(Given {
        images,
        owner: Owner::new(&picture),
    })
}

/// Reads `count` images.
///
/// # Safety
/// As the header asks of `collage_submit_many`.
pub(super) unsafe fn read_many(
    images: *const Picture,
    count: usize,
    reads: &Arc<Reads>,
) -> Result<Vec<Given>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    } else if images.is_null() {
        return Err(AbiError::Null { what: "images" }.into());
    } else if count > MOST_IMAGES {
        let expected = format!("{MOST_IMAGES} at most");
        return Err(AbiError::value("image_count", count, expected).into());
    }
    // SAFETY: not NULL, so the caller promises `count` structs, each of which begins with its size.
    let stride = unsafe { images.cast::<usize>().read_unaligned() };
    let mut all = Vec::with_capacity(count);
    for i in 0..count {
        // SAFETY: all have the same size, which is checked of each before the next is looked for.
        unsafe {
            let image = images.byte_add(i * stride);
            if image.cast::<usize>().read_unaligned() != stride {
                let given = format!("that of image {i} differs from that of image 0");
                return Err(AbiError::value("struct_size", given, "one size for all").into());
            }
            all.push(read(image, reads)?);
        }
    }
    Ok(all)
}

/// Images that stay in the memory of a CUDA device: packed (H, W, 3) or (N, H, W, 3) bytes.
///
/// # Safety
/// As the header asks of device memory.
unsafe fn in_device_memory(
    name: &str,
    picture: &Picture,
    reads: &Arc<Reads>,
) -> Result<Given, Failure> {
    let given = |what: String| AbiError::Tensor {
        name: name.to_owned(),
        what,
        expected: "COLLAGE_U8 in device memory: packed (H, W, 3) or (N, H, W, 3) with values from 0 to 255",
    };
    if picture.data.is_null() {
        return Err(AbiError::Null { what: "data" }.into());
    } else if picture.release.is_none() {
        return Err(AbiError::Null { what: "release" }.into());
    } else if picture.r#type != types::U8 {
        return Err(given(format!("type {}", picture.r#type)).into());
    }
    let index = usize::try_from(picture.device_index).map_err(|_| {
        AbiError::value(
            "device_index",
            picture.device_index,
            "as CUDA counts its devices",
        )
    })?;
    let tensor = Tensor::new(name, picture)?;
    let [images, height, width, channels] = tensor.sizes;
    let packed = [width * channels, channels, 1].map(|s| s as isize);
    if channels != 3 || tensor.strides[H..] != packed || (tensor.low, tensor.high) != (0.0, 255.0) {
        return Err(given(format!(
            "sizes {:?}, strides {:?}",
            tensor.sizes, tensor.strides
        ))
        .into());
    }
    let stream = (picture.stream != types::READY).then_some(picture.stream as u64);
    let owner = Owner::new(picture);
    let one = |n: usize| {
        let address = tensor
            .data
            .wrapping_offset(n as isize * tensor.strides[N])
            .addr() as u64;
        // SAFETY: the caller promises such memory, until it is released; the image holds who is told.
        unsafe { device_image(name, index, address, [width, height], stream, reads, &owner) }
    };
    Ok(Given {
        images: (0..images).map(one).collect::<Result<_, _>>()?,
        owner,
    })
}

/// # Safety
/// As of [`engine::device_image`](crate::engine::device_image).
#[cfg(feature = "cuda")]
unsafe fn device_image(
    _name: &str,
    index: usize,
    address: u64,
    size: [usize; 2],
    stream: Option<u64>,
    reads: &Arc<Reads>,
    owner: &Owner,
) -> Result<Image, Failure> {
    let owner = Box::new(owner.clone());
    let image =
        // SAFETY: as this function's.
        unsafe { crate::engine::device_image(index, address, size, stream, reads.clone(), owner) };
    Ok(image?)
}

/// # Safety
/// None is needed: nothing is read.
#[cfg(not(feature = "cuda"))]
unsafe fn device_image(
    name: &str,
    index: usize,
    _address: u64,
    _size: [usize; 2],
    _stream: Option<u64>,
    _reads: &Arc<Reads>,
    _owner: &Owner,
) -> Result<Image, Failure> {
    Err(AbiError::NoDevicePointers {
        name: name.to_owned(),
        device: format!("cuda:{index}"),
        reason: "this library was built without CUDA".to_owned(),
    }
    .into())
}

// Places in `sizes` and `strides`.
const N: usize = 0;
const H: usize = 1;
const W: usize = 2;
const C: usize = 3;

/// A tensor in host memory, its dimensions in the order (N, H, W, C).
struct Tensor<'a> {
    name: &'a str,
    data: *const u8,
    kind: Element,
    sizes: [usize; 4],
    /// In bytes.
    strides: [isize; 4],
    low: f32,
    high: f32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    U8,
    F16,
    F32,
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Element::U8 => 1,
            Element::F16 => 2,
            Element::F32 => 4,
        }
    }
}

impl<'a> Tensor<'a> {
    fn new(name: &'a str, picture: &Picture) -> Result<Self, AbiError> {
        let kind = match picture.r#type {
            types::U8 => Element::U8,
            types::F16 => Element::F16,
            types::F32 => Element::F32,
            other => {
                return Err(AbiError::value(
                    "type",
                    other,
                    "one of COLLAGE_ENCODED to COLLAGE_F32",
                ));
            }
        };
        let (sizes, strides) = dimensions(name, picture, kind.bytes())?;
        let (low, high) = match (picture.low, picture.high, kind) {
            (0.0, 0.0, Element::U8) => (0.0, 255.0),
            (0.0, 0.0, _) => (0.0, 1.0),
            (low, high, _) if low.is_finite() && high.is_finite() && low != high => (low, high),
            (low, high, _) => {
                let given = format!("{low} to {high}");
                return Err(AbiError::value(
                    "low, high",
                    given,
                    "two finite numbers that differ",
                ));
            }
        };
        let tensor = Self {
            name,
            data: picture.data.cast(),
            kind,
            sizes,
            strides,
            low,
            high,
        };
        tensor.check_reach(picture.size)?;
        Ok(tensor)
    }

    /// That all elements lie in `size` bytes, where a size is given; and that their offsets can be counted.
    fn check_reach(&self, size: usize) -> Result<(), AbiError> {
        let wrong = |what: String, expected| AbiError::Tensor {
            name: self.name.to_owned(),
            what,
            expected,
        };
        let (mut first, mut end) = (0i128, self.kind.bytes() as i128);
        for (&size, &stride) in self.sizes.iter().zip(&self.strides) {
            let last = (size as i128 - 1) * stride as i128;
            first += last.min(0);
            end += last.max(0);
        }
        if first < isize::MIN as i128 || end > isize::MAX as i128 {
            let what = "strides beyond what memory can have".to_owned();
            return Err(wrong(what, "strides in bytes"));
        }
        if size != 0 && (first < 0 || end > size as i128) {
            let what = format!("shape and strides reach bytes {first} to {end} of {size}");
            return Err(wrong(what, "elements inside the `size` bytes at `data`"));
        }
        Ok(())
    }

    /// Image `n` of the batch, as 8 bits.
    ///
    /// # Safety
    /// All elements may be read.
    unsafe fn image(&self, n: usize) -> Result<Image, AbiError> {
        let [_, height, width, channels] = self.sizes;
        // SAFETY: the offset is one of an element's, which `check_reach` has counted.
        let start = unsafe { self.data.offset(n as isize * self.strides[N]) };
        let is_plain = self.kind == Element::U8 && (self.low, self.high) == (0.0, 255.0);
        let packed = [width * channels, channels, 1].map(|s| s as isize);
        let image = if is_plain && channels == 3 && self.strides[H..] == packed {
            // SAFETY: packed, so these are the image's elements.
            let pixels = unsafe { std::slice::from_raw_parts(start, width * height * 3) };
            Image::from_rgb(width, height, pixels)
        } else {
            let mut pixels = Vec::with_capacity(width * height * 3);
            for y in 0..height {
                for x in 0..width {
                    for c in 0..3 {
                        let place = [y, x, c.min(channels - 1)];
                        let offset: isize = place
                            .iter()
                            .zip(&self.strides[H..])
                            .map(|(&i, s)| i as isize * s)
                            .sum();
                        // SAFETY: an element's offset, as above.
                        let value = unsafe { self.element(start.offset(offset)) };
                        pixels.push(if is_plain {
                            value as u8
                        } else {
                            self.byte(value)?
                        });
                    }
                }
            }
            Image::from_rgb(width, height, pixels)
        };
        image.ok_or_else(|| AbiError::Tensor {
            name: self.name.to_owned(),
            what: format!("an image of {width}x{height}"),
            expected: "sides of 1 or more",
        })
    }

    /// # Safety
    /// An element of this tensor's type may be read there; it need not be aligned.
    unsafe fn element(&self, at: *const u8) -> f32 {
        // SAFETY: as this function's.
        unsafe {
            match self.kind {
                Element::U8 => f32::from(at.read()),
                Element::F16 => f16::from_bits(at.cast::<u16>().read_unaligned()).to_f32(),
                Element::F32 => at.cast::<f32>().read_unaligned(),
            }
        }
    }

    /// A value's place between black and white.
    fn byte(&self, value: f32) -> Result<u8, AbiError> {
        let share = (value - self.low) / (self.high - self.low);
        if share.is_nan() {
            return Err(AbiError::Tensor {
                name: self.name.to_owned(),
                what: format!("a value of {value}"),
                expected: "numbers",
            });
        }
        Ok((share.clamp(0.0, 1.0) * 255.0).round_ties_even() as u8)
    }
}

/// Sizes and strides as (N, H, W, C).
fn dimensions(
    name: &str,
    picture: &Picture,
    element: usize,
) -> Result<([usize; 4], [isize; 4]), AbiError> {
    let order: &[usize] = match (picture.layout, picture.dimensions) {
        (types::HWC | types::CHW, 2) => &[H, W],
        (types::HWC, 3) => &[H, W, C],
        (types::HWC, 4) => &[N, H, W, C],
        (types::CHW, 3) => &[C, H, W],
        (types::CHW, 4) => &[N, C, H, W],
        (types::HWC | types::CHW, other) => {
            return Err(AbiError::value("dimensions", other, "2, 3 or 4"));
        }
        (other, _) => {
            return Err(AbiError::value(
                "layout",
                other,
                "COLLAGE_HWC or COLLAGE_CHW",
            ));
        }
    };
    let wrong = |what, expected| AbiError::Tensor {
        name: name.to_owned(),
        what,
        expected,
    };
    let shape = &picture.shape[..order.len()];
    let (mut sizes, mut strides) = ([1usize; 4], [0isize; 4]);
    let is_packed = picture.strides.iter().all(|&s| s == 0);
    let mut packed = element as i64;
    for (i, &place) in order.iter().enumerate().rev() {
        let size = usize::try_from(shape[i])
            .ok()
            .filter(|&s| s > 0 && s < 1 << 31);
        sizes[place] =
            size.ok_or_else(|| wrong(format!("shape {shape:?}"), "sizes from 1 to 2^31 - 1"))?;
        let stride = if is_packed {
            packed
        } else {
            picture.strides[i]
        };
        strides[place] = isize::try_from(stride).map_err(|_| {
            wrong(
                format!("a stride of {stride}"),
                "strides that memory can have",
            )
        })?;
        packed = packed.saturating_mul(shape[i]);
    }
    let [images, height, width, channels] = sizes;
    if channels != 1 && channels != 3 {
        return Err(wrong(
            format!("shape {shape:?} has {channels} channels"),
            "1 or 3; is `layout` right?",
        ));
    } else if height as u64 * width as u64 > MAX_PIXELS {
        return Err(wrong(
            format!("shape {shape:?}"),
            "178956970 pixels an image at most",
        ));
    } else if images > MOST_IMAGES {
        return Err(wrong(format!("shape {shape:?}"), "1048576 images at most"));
    }
    Ok((sizes, strides))
}
