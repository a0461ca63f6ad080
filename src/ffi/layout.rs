//! Structs that can grow: read and written as far as their `struct_size` says.
//!
//! A caller built with an older header gives a smaller size: the fields beyond are zero, which is every field's default.
//! One built with a newer header gives a larger size: what this library does not know must be zero, or it is refused
//! instead of being ignored.

use super::error::AbiError;

/// Largest size that is looked at, far above what any struct will ever need: a guard against a size that is garbage.
const MOST: usize = 1 << 12;

/// A struct of the header: `repr(C)`, begins with `struct_size`, and all zeros are a value of it.
///
/// # Safety
/// All of that must be so.
// SAFETY: a declaration; each implementation says why it may be made.
pub(super) unsafe trait Growable: Copy {
    /// For messages.
    const NAME: &'static str;
}

/// The size a caller's struct says it has.
///
/// # Safety
/// `given` is NULL or points to a `usize` that may be read.
unsafe fn size_of_given<T: Growable>(given: *const T) -> Result<usize, AbiError> {
    if given.is_null() {
        return Err(AbiError::Null { what: T::NAME });
    }
    // SAFETY: not NULL, so the caller promises a struct that begins with its size. It need not be aligned.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    if size == 0 || size > MOST || !size.is_multiple_of(align_of::<usize>()) {
        return Err(AbiError::Size {
            what: T::NAME,
            given: size,
            known: size_of::<T>(),
            most: MOST,
        });
    }
    Ok(size)
}

/// A caller's struct, with defaults where it is older.
///
/// # Safety
/// `given` is NULL or points to as many bytes as its `struct_size` says.
pub(super) unsafe fn read<T: Growable>(given: *const T) -> Result<T, AbiError> {
    // SAFETY: as this function's.
    let size = unsafe { size_of_given(given) }?;
    let known = size_of::<T>();
    // SAFETY: all zeros are a value of `T`. Fields are aligned to their own size, and `size` is a multiple of the largest
    // field's, so no field is copied in part.
    let value = unsafe {
        let mut value = std::mem::MaybeUninit::<T>::zeroed();
        let bytes = size.min(known);
        std::ptr::copy_nonoverlapping(given.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), bytes);
        value.assume_init()
    };
    for at in known..size {
        // SAFETY: inside the `size` bytes that the caller promises.
        if unsafe { given.cast::<u8>().add(at).read() } != 0 {
            return Err(AbiError::UnknownField {
                what: T::NAME,
                at,
                known,
            });
        }
    }
    Ok(value)
}

/// Fills a caller's struct as far as its size says; what it knows and this library does not is zero.
///
/// # Safety
/// `given` is NULL or points to as many bytes as its `struct_size` says, which may be written.
pub(super) unsafe fn write<T: Growable>(given: *mut T, value: &T) -> Result<(), AbiError> {
    // SAFETY: as this function's.
    let size = unsafe { size_of_given(given.cast_const()) }?;
    let (begin, known) = (size_of::<usize>(), size_of::<T>());
    let bytes = size.min(known);
    // SAFETY: both hold `bytes` bytes, and the caller's as many as `size`. Its own size stays as it is.
    unsafe {
        let (from, to) = (std::ptr::from_ref(value).cast::<u8>(), given.cast::<u8>());
        std::ptr::copy_nonoverlapping(from.add(begin), to.add(begin), bytes - begin);
        std::ptr::write_bytes(to.add(bytes), 0, size - bytes);
    }
    Ok(())
}

/// Refuses a struct that could not be written, before the work whose result it is to take is done.
///
/// # Safety
/// As [`write`]'s; NULL is fine.
pub(super) unsafe fn check<T: Growable>(given: *mut T) -> Result<(), AbiError> {
    if given.is_null() {
        return Ok(());
    }
    // SAFETY: as this function's.
    unsafe { size_of_given(given.cast_const()) }.map(drop)
}
