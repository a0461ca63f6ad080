//! The table of kernels against the sources: every figure that a launch takes from it is the one that its ENTRY gives, as
//! the simulated driver was built from the same files.
#![cfg(all(feature = "cuda", target_os = "linux"))]

use std::ffi::{CString, c_char, c_int, c_uint};

use collage::backend::cuda::Variant;
use collage::backend::cuda::kernels::KERNELS;

mod cuda_support;
mod skip;

type SimtEntry =
    unsafe extern "C" fn(*const c_char, *mut c_uint, *mut c_uint, *mut c_uint) -> c_int;

/// Bytes of the argument struct.
fn args_bytes(variant: Variant) -> u32 {
    match variant {
        Variant::Encode | Variant::AvgPool2d => 40,
        Variant::MaxPool2d => 56,
        Variant::Linear => 48,
        Variant::TopK => 32,
        Variant::WgmmaLarge | Variant::WgmmaWide | Variant::WgmmaNarrow => 384,
        _ => 128,
    }
}

#[test]
fn every_kernel_is_launched_as_its_source_declares_it() {
    let test = "every_kernel_is_launched_as_its_source_declares_it";
    cuda_support::simulated(test, &[], || {
        // SAFETY: the simulated driver, which tests/simt has just built; its constructors only fill its own tables.
        let library = unsafe { libloading::Library::new("libcuda.so.1") }.expect("is there");
        // SAFETY: tests/simt/module.cpp defines the function so.
        let find = unsafe { library.get::<SimtEntry>(b"simt_entry") }.expect("is there");
        for kernel in KERNELS {
            let name = CString::new(kernel.entry).expect("no zero in it");
            let [mut threads, mut shared, mut args] = [0; 3];
            // SAFETY: a zero-terminated name, and three live integers that are written.
            let found = unsafe { find(name.as_ptr(), &mut threads, &mut shared, &mut args) };
            assert_eq!(found, 1, "{} is in no source", kernel.entry);
            let figures = (threads, shared, args);
            let expected = (
                kernel.threads,
                kernel.shared_bytes,
                args_bytes(kernel.variant),
            );
            assert_eq!(figures, expected, "{}", kernel.entry);
        }
        skip::report(&format!("cuda: {} entries are as declared", KERNELS.len()));
    });
}
