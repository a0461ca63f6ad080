//! What the tests that compare with PyTorch, torchvision and Pillow share: golden files, the hash that weights and
//! images are made from, the optional shared data, and the devices to try. README.md beside this file has the rules.

#![allow(dead_code)] // Each test program uses a part of it.

use std::path::Path;
use std::sync::Arc;

use collage::backend::Device;
use collage::backend::cpu::CpuDevice;
use safetensors::SafeTensors;
use serde_json::Value;

pub mod hash;
#[path = "../skip/mod.rs"]
mod skip;

pub use skip::{report, shared, skip};

/// One golden file: its tensors, and its JSON.
pub struct Golden {
    bytes: Vec<u8>,
    /// `__metadata__["golden"]`.
    pub json: Value,
}

impl Golden {
    /// Reads tests/golden/NAME.safetensors.
    pub fn open(name: &str) -> Self {
        let path = root().join(format!("tests/golden/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, metadata) =
            SafeTensors::read_metadata(&bytes).expect("a golden file is well formed");
        let strings = metadata
            .metadata()
            .as_ref()
            .expect("a golden file has metadata");
        let json = serde_json::from_str(&strings["golden"]).expect("its metadata is JSON");
        Self { bytes, json }
    }

    /// A tensor's bytes.
    pub fn bytes(&self, key: &str) -> Vec<u8> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a golden file is well formed");
        let tensor = file.tensor(key).unwrap_or_else(|e| panic!("{key}: {e}"));
        tensor.data().to_vec()
    }

    /// An f32 tensor, row-major.
    pub fn f32(&self, key: &str) -> Vec<f32> {
        let bytes = self.bytes(key);
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    }
}

/// Of the package.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The CPU's fast path on every core.
pub fn cpu() -> Vec<Arc<dyn Device>> {
    vec![Arc::new(CpuDevice::new(0).expect("threads can be started"))]
}

/// Every WebGPU adapter; where there is none, `claim` is skipped.
#[cfg(feature = "wgpu")]
pub fn webgpu(claim: &str) -> Vec<Arc<dyn Device>> {
    use collage::backend::webgpu;
    let adapters = webgpu::enumerate().unwrap_or_default();
    if adapters.is_empty() {
        skip(
            claim,
            "no WebGPU adapter (install a Vulkan driver, such as mesa-vulkan-drivers)",
        );
    }
    let open = |index, name: &str| webgpu::open(index).unwrap_or_else(|e| panic!("{name}: {e}"));
    adapters.iter().map(|a| open(a.index, &a.name)).collect()
}

/// That each of `found` is within `tolerance` times the largest |expected|; gives the worst share.
pub fn agree(what: &str, expected: &[f32], found: &[f32], tolerance: f32) -> f32 {
    assert_eq!(expected.len(), found.len(), "{what}: elements");
    let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let mut worst = 0.0f32;
    for (i, (e, f)) in expected.iter().zip(found).enumerate() {
        let share = (e - f).abs() / largest;
        assert!(
            share <= tolerance,
            "{what}: element {i} is {f}, expected {e}: {share:.1e} of the largest, {largest}"
        );
        worst = worst.max(share);
    }
    worst
}
