//! libcollage on CUDA, as a C program uses it: images in device memory, and a device that is lost.
//!
//! All on the simulated driver; the program is tests/ffi/cuda.c.
#![cfg(all(feature = "cuda", target_os = "linux", target_pointer_width = "64"))]

mod cuda_support;
mod ffi_support;
mod skip;

use cuda_support::{Build, environment};
use ffi_support::{Run, command, compile, succeed};

fn claims(claim: &str, options: cuda_support::Options, mode: &str, expected: usize) {
    let Some(program) = compile("tests/ffi/cuda.c", "c11", Run::Plain, &[]) else {
        return;
    };
    let Some(variables) = environment(Build::Plain, claim, options) else {
        return;
    };
    let out = succeed(command(&program, Run::Plain).envs(variables).arg(mode));
    let held = out.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(held, expected, "{out}");
}

#[test]
fn device_memory_is_read_where_it_is_or_counted() {
    let claim = "device_memory_is_read_where_it_is_or_counted";
    claims(claim, &[], "memory", 2);
}

#[test]
fn device_memory_is_waited_for_on_its_stream() {
    // Nothing is done before a call demands it: pixels that are not waited for are not there.
    let claim = "device_memory_is_waited_for_on_its_stream";
    claims(claim, &[("SIMT_ASYNC", "late")], "memory", 2);
}

#[test]
fn a_lost_device_fails_requests_and_nothing_else() {
    let claim = "a_lost_device_fails_requests_and_nothing_else";
    // After the warm-ups of two programs; the device stays lost.
    claims(claim, &[("SIMT_LOSE", "30")], "lost", 1);
}
