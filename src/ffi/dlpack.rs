//! DLPack tensors as images: what their structs say, in this interface's words.
//!
//! The structs are DLPack's own (dlpack.h, versions 0.2 to 1.x), whose layout is fixed. The tensor is not read here, and
//! stays the caller's until a submission takes the image.

use std::ffi::{c_char, c_void};

use super::error::AbiError;
use super::types::{self, Picture};
use super::{guard, layout};

/// `DLTensor`.
#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    type_code: u8,
    type_bits: u8,
    type_lanes: u16,
    shape: *const i64,
    /// In elements; NULL: packed.
    strides: *const i64,
    byte_offset: u64,
}

/// `DLManagedTensor`.
#[repr(C)]
struct Managed {
    tensor: Tensor,
    manager: *mut c_void,
    // SAFETY: a type; whoever calls it says why it may.
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
struct Versioned {
    major: u32,
    minor: u32,
    manager: *mut c_void,
    // SAFETY: a type; whoever calls it says why it may.
    deleter: Option<unsafe extern "C" fn(*mut Versioned)>,
    flags: u64,
    tensor: Tensor,
}

/// The `DLPACK_MAJOR_VERSION` whose structs these are.
const MAJOR: u32 = 1;

// `DLDeviceType`.
const CPU: i32 = 1;
const CUDA: i32 = 2;
const CUDA_HOST: i32 = 3;
const CUDA_MANAGED: i32 = 13;

// `DLDataTypeCode`.
const UINT: u8 = 1;
const FLOAT: u8 = 2;

const NAME: *const c_char = c"DLPack tensor".as_ptr();

/// # Safety
/// A `DLManagedTensor` that is not deleted yet.
unsafe extern "C" fn delete(managed: *mut c_void) {
    let managed: *mut Managed = managed.cast();
    // SAFETY: as this function's; its deleter is called once, as this is.
    unsafe {
        if let Some(deleter) = (*managed).deleter {
            deleter(managed);
        }
    }
}

/// # Safety
/// A `DLManagedTensorVersioned` that is not deleted yet.
unsafe extern "C" fn delete_versioned(managed: *mut c_void) {
    let managed: *mut Versioned = managed.cast();
    // SAFETY: as this function's; its deleter is called once, as this is.
    unsafe {
        if let Some(deleter) = (*managed).deleter {
            deleter(managed);
        }
    }
}

/// What the tensor says.
///
/// # Safety
/// Its `shape` and `strides` are as DLPack asks.
unsafe fn describe(tensor: &Tensor) -> Result<Picture, AbiError> {
    let wrong = |what: String, expected| AbiError::Tensor {
        name: "DLPack tensor".to_owned(),
        what,
        expected,
    };
    let (code, bits, lanes) = (tensor.type_code, tensor.type_bits, tensor.type_lanes);
    let kind = match (code, bits, lanes) {
        (UINT, 8, 1) => types::U8,
        (FLOAT, 16, 1) => types::F16,
        (FLOAT, 32, 1) => types::F32,
        _ => {
            let what = format!("type code {code} of {bits} bits and {lanes} lanes");
            return Err(wrong(what, "u8, f16 or f32"));
        }
    };
    let memory = match tensor.device_type {
        CPU | CUDA_HOST => types::HOST,
        CUDA | CUDA_MANAGED => types::CUDA,
        other => {
            return Err(wrong(
                format!("device type {other}"),
                "1 (CPU), 2, 3 or 13 (CUDA)",
            ));
        }
    };
    let count = usize::try_from(tensor.ndim)
        .ok()
        .filter(|n| (2..=4).contains(n));
    let count = count.ok_or_else(|| wrong(format!("{} dimensions", tensor.ndim), "2, 3 or 4"))?;
    if tensor.shape.is_null() {
        return Err(AbiError::Null { what: "shape" });
    }
    let mut picture = Picture {
        data: tensor.data.wrapping_byte_add(tensor.byte_offset as usize),
        r#type: kind,
        dimensions: count as u32,
        memory,
        device_index: if memory == types::CUDA {
            tensor.device_id
        } else {
            0
        },
        stream: types::READY,
        name: NAME,
        ..Picture::default()
    };
    for i in 0..count {
        // SAFETY: both have `ndim` entries.
        unsafe {
            picture.shape[i] = tensor.shape.add(i).read();
            if !tensor.strides.is_null() {
                let stride = tensor
                    .strides
                    .add(i)
                    .read()
                    .checked_mul(i64::from(bits / 8));
                picture.strides[i] = stride.ok_or_else(|| {
                    wrong(
                        "a stride beyond what memory can have".into(),
                        "strides in elements",
                    )
                })?;
            }
        }
    }
    // In an image, strides that are all 0 mean packed: more would be read than there is.
    let repeats = !tensor.strides.is_null() && picture.strides[..count].iter().all(|&s| s == 0);
    if repeats && picture.shape[..count].iter().any(|&n| n > 1) {
        return Err(wrong(
            "one element that is repeated".to_owned(),
            "a tensor with a stride, such as a copy",
        ));
    }
    Ok(picture)
}

/// See the header.
// SAFETY: no other symbol has this library's prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn collage_image_from_dlpack(
    managed: *mut c_void,
    versioned: i32,
    image_layout: u32,
    image: *mut Picture,
) -> i32 {
    guard(|| {
        if managed.is_null() {
            return Err(AbiError::Null { what: "managed" }.into());
        }
        // SAFETY: the caller promises NULL or a struct of its size; and a tensor of the kind that it says.
        let mut picture = unsafe {
            layout::read(image)?; // its size is sound
            if versioned == 0 {
                describe(&(*managed.cast::<Managed>()).tensor)?
            } else {
                let tensor = &*managed.cast::<Versioned>();
                if tensor.major != MAJOR {
                    let given = format!("{}.{}", tensor.major, tensor.minor);
                    return Err(AbiError::value("version", given, "DLPack 1.x").into());
                }
                describe(&tensor.tensor)?
            }
        };
        picture.layout = image_layout;
        picture.release = Some(if versioned == 0 {
            delete
        } else {
            delete_versioned
        });
        picture.release_context = managed;
        // SAFETY: as above.
        Ok(unsafe { layout::write(image, &picture) }?)
    })
}
