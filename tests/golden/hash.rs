//! Weights and images from an integer hash: the mirror of weights/train/hashing.py, whose rules README.md states.

use collage::image::Image;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// FNV-1a, 32 bits.
pub fn fnv1a(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    })
}

/// MurmurHash3's 32-bit finaliser of the name's hash and an index.
pub fn hash(seed: u32, index: usize) -> u32 {
    let index = u32::try_from(index).expect("hashed things have fewer than 2^32 elements");
    let mut x = seed ^ index;
    x ^= x >> 16;
    x = x.wrapping_mul(0x85EB_CA6B);
    x ^= x >> 13;
    x = x.wrapping_mul(0xC2B2_AE35);
    x ^ (x >> 16)
}

/// The image of that name.
pub fn image(name: &str, width: usize, height: usize, grey: bool) -> Image {
    let seed = fnv1a(name);
    let mut pixels = Vec::with_capacity(width * height * 3); // (H, W, 3)
    for y in 0..height {
        for x in 0..width {
            let (across, down) = (x * 255 / (width - 1).max(1), y * 255 / (height - 1).max(1));
            for channel in 0..3 {
                let c = if grey { 0 } else { channel };
                let noise = (hash(seed, (y * width + x) * 3 + c) >> 24) as usize;
                let gradient = [across, down, (across + down) / 2][c];
                let edge = 255 * ((x / 3 + y / 5 + c) % 2);
                let value = if (x / 16 + y / 16) % 3 == 0 {
                    edge
                } else {
                    (3 * gradient + noise) / 4
                };
                pixels.push(value as u8);
            }
        }
    }
    Image::from_rgb(width, height, pixels).expect("sides are not 0")
}

/// A tensor with torchvision's name.
pub struct Hashed {
    name: String,
    shape: Vec<usize>,
    /// The last batch normalisation of a residual branch has smaller weights.
    last_of_branch: bool,
}

impl Hashed {
    fn new(name: String, shape: &[usize]) -> Self {
        Self {
            name,
            shape: shape.to_vec(),
            last_of_branch: false,
        }
    }

    /// Its elements, each computed in f64 and rounded once.
    pub fn values(&self) -> Vec<f32> {
        let seed = fnv1a(&self.name);
        let scale = match *self.shape {
            [_, i, kh, kw] => (6.0 / (i * kh * kw) as f64).sqrt(),
            [_, i] => (3.0 / i as f64).sqrt(),
            _ => 0.1,
        };
        let vector = self.shape.len() == 1;
        let value = |i| {
            let u = f64::from(hash(seed, i) >> 8) / f64::from(1u32 << 24);
            let value = if vector && self.name.ends_with("running_var") {
                0.6 + 0.8 * u
            } else if vector && self.name.ends_with("weight") {
                (if self.last_of_branch { 0.2 } else { 0.8 }) + 0.4 * u
            } else {
                (2.0 * u - 1.0) * scale
            };
            value as f32
        };
        (0..self.shape.iter().product()).map(value).collect()
    }
}

/// torchvision's state dict of an ImageNet ResNet with these blocks a stage.
pub fn resnet(blocks: [usize; 4], bottleneck: bool) -> Vec<Hashed> {
    let mut list = Vec::new();
    conv_and_norm(&mut list, "conv1", "bn1", [64, 3, 7]);
    let mut inputs = 64;
    for (stage, count) in blocks.into_iter().enumerate() {
        let width = 64 << stage;
        let output = if bottleneck { 4 * width } else { width };
        let kernels: &[(usize, usize)] = if bottleneck {
            &[(width, 1), (width, 3), (output, 1)]
        } else {
            &[(width, 3), (width, 3)]
        };
        for block in 0..count {
            let at = format!("layer{}.{block}", stage + 1);
            let mut from = inputs;
            for (i, &(to, kernel)) in kernels.iter().enumerate() {
                let (conv, norm) = (format!("{at}.conv{}", i + 1), format!("{at}.bn{}", i + 1));
                conv_and_norm(&mut list, &conv, &norm, [to, from, kernel]);
                from = to;
            }
            let weight = list
                .iter()
                .rposition(|t| t.name.ends_with(".weight"))
                .expect("a norm was pushed");
            list[weight].last_of_branch = true;
            if inputs != output {
                let (conv, norm) = (format!("{at}.downsample.0"), format!("{at}.downsample.1"));
                conv_and_norm(&mut list, &conv, &norm, [output, inputs, 1]);
            }
            inputs = output;
        }
    }
    list.push(Hashed::new("fc.weight".into(), &[1000, inputs]));
    list.push(Hashed::new("fc.bias".into(), &[1000]));
    list
}

fn conv_and_norm(
    list: &mut Vec<Hashed>,
    conv: &str,
    norm: &str,
    [outputs, inputs, kernel]: [usize; 3],
) {
    list.push(Hashed::new(
        format!("{conv}.weight"),
        &[outputs, inputs, kernel, kernel],
    ));
    for part in ["weight", "bias", "running_mean", "running_var"] {
        list.push(Hashed::new(format!("{norm}.{part}"), &[outputs]));
    }
}

/// A safetensors file of them, without metadata.
pub fn file(tensors: &[Hashed]) -> Vec<u8> {
    let data: Vec<Vec<u8>> = tensors
        .iter()
        .map(|t| t.values().into_iter().flat_map(f32::to_le_bytes).collect())
        .collect();
    let views = tensors.iter().zip(&data).map(|(t, bytes)| {
        let view =
            TensorView::new(Dtype::F32, t.shape.clone(), bytes).expect("lengths agree with shapes");
        (t.name.clone(), view)
    });
    safetensors::serialize(views, None).expect("memory can be written to")
}
