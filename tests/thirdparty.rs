//! Other people's networks, and ours, answer as they do in PyTorch: on the CPU and on every WebGPU adapter.
//!
//! The goldens and their rules are in tests/golden/README.md. What needs the optional shared data is printed as
//! skipped where that is absent, and fails in CI.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use collage::backend::{Device, Input, Output};
use collage::image::Image;
use collage::model::Model;
use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::plan::{Grid, Plan};

mod golden;
use golden::{Golden, agree, hash, report, root, shared};

/// Of the largest |logit|.
const TOLERANCE: f32 = 1e-4;
const CIFAR_SIDE: usize = 32;

#[test]
fn cifar_resnets_answer_on_the_cpu_as_in_pytorch() {
    cifar_resnets("CIFAR ResNets on the CPU", golden::cpu);
}

#[cfg(feature = "wgpu")]
#[test]
fn cifar_resnets_answer_on_webgpu_as_in_pytorch() {
    let claim = "CIFAR ResNets on WebGPU";
    cifar_resnets(claim, || golden::webgpu(claim));
}

#[test]
fn hashed_imagenet_resnets_answer_on_the_cpu_as_in_torchvision() {
    hashed_resnets(golden::cpu());
}

#[cfg(feature = "wgpu")]
#[test]
fn hashed_imagenet_resnets_answer_on_webgpu_as_in_torchvision() {
    hashed_resnets(golden::webgpu("hashed ResNets on WebGPU"));
}

#[test]
fn shipped_digits_networks_answer_on_the_cpu_as_in_pytorch() {
    digits(golden::cpu());
}

#[cfg(feature = "wgpu")]
#[test]
fn shipped_digits_networks_answer_on_webgpu_as_in_pytorch() {
    digits(golden::webgpu("digits on WebGPU"));
}

/// The first 64 logits agree, and of all images exactly as many are right.
fn cifar_resnets(claim: &str, devices: impl Fn() -> Vec<Arc<dyn Device>>) {
    let Some(weights) = shared("third-party-weights", claim) else {
        return;
    };
    let Some(test) = shared("cifar-10/test_batch.bin.xz", claim) else {
        return;
    };
    let golden = Golden::open("third_party");
    let (images, labels) = cifar(&test);
    assert_eq!(Some(images.len() as u64), golden.json["images"].as_u64());
    for device in devices() {
        for arch in ["resnet20", "resnet32"] {
            let model = Model::open_with_arch(weights.join(format!("{arch}.safetensors")), arch)
                .unwrap_or_else(|e| panic!("{e}"));
            let expected = golden.f32(arch);
            let count = expected.len() / model.classes().len();
            let options = PlanOptions {
                batch: count,
                output: PlanOutput::Logits,
                ..PlanOptions::default()
            };
            let found = logits(&*device, &model, options, Input::Images(&images[..count]));
            let worst = agree(arch, &expected, &found, TOLERANCE);
            let right = correct(&*device, &model, &images, &labels);
            report(&format!(
                "{arch} on {}: {right} of {} right, logits within {worst:.1e} of the largest",
                device.info().name,
                images.len()
            ));
            assert_eq!(
                Some(right as u64),
                golden.json["correct"][arch].as_u64(),
                "{arch}"
            );
        }
    }
}

/// How many images' best class is their label, in batches of which the last is partial.
fn correct(device: &dyn Device, model: &Model, images: &[Image], labels: &[u32]) -> usize {
    let options = PlanOptions {
        batch: 192,
        ..PlanOptions::default()
    };
    let plan = Plan::compile(model, &options).unwrap_or_else(|e| panic!("{e}"));
    let mut program = device
        .load(Arc::new(plan))
        .unwrap_or_else(|e| panic!("{e}"));
    let mut right = 0;
    for (images, labels) in images.chunks(192).zip(labels.chunks(192)) {
        let Output::TopK(rows) = program
            .run(Input::Images(images))
            .unwrap_or_else(|e| panic!("{e}"))
        else {
            panic!("a plan that ends with top_k gives scores");
        };
        assert_eq!(rows.len(), labels.len(), "one row an image");
        right += rows
            .iter()
            .zip(labels)
            .filter(|(row, label)| row[0].class == **label)
            .count();
    }
    right
}

/// torchvision's resnet18 and resnet50, on weights and images that both sides make from the same hash.
fn hashed_resnets(devices: Vec<Arc<dyn Device>>) {
    let golden = Golden::open("hashed_networks");
    let input: Vec<f32> = ["input0", "input1"]
        .iter()
        .flat_map(|name| normalised(&hash::image(name, 224, 224, false)))
        .collect();
    for (arch, blocks, bottleneck) in [
        ("resnet18", [2, 2, 2, 2], false),
        ("resnet50", [3, 4, 6, 3], true),
    ] {
        let file = hash::file(&hash::resnet(blocks, bottleneck));
        let model =
            Model::from_bytes_with_arch("hashed", &file, arch).unwrap_or_else(|e| panic!("{e}"));
        for device in &devices {
            let options = PlanOptions {
                batch: 2,
                input: PlanInput::Tensor,
                output: PlanOutput::Logits,
                ..PlanOptions::default()
            };
            let found = logits(&**device, &model, options, Input::Tensor(&input));
            let worst = agree(arch, &golden.f32(arch), &found, TOLERANCE);
            report(&format!(
                "hashed {arch} on {}: logits within {worst:.1e} of the largest",
                device.info().name
            ));
        }
    }
}

/// (H, W, 3), as torchvision normalises.
fn normalised(image: &Image) -> Vec<f32> {
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let value = |(i, &pixel): (usize, &u8)| (f32::from(pixel) / 255.0 - mean[i % 3]) / std[i % 3];
    image.pixels().iter().enumerate().map(value).collect()
}

/// The embedded default, from pixels to logits: encoding, partial groups and blank tiles included.
fn digits(devices: Vec<Arc<dyn Device>>) {
    let golden = Golden::open("digits");
    let images = held_out_digits(golden.json["images"].as_u64().expect("a count") as usize);
    let open = |kind| {
        Model::open(root().join(format!("weights/digits-{kind}.safetensors")))
            .unwrap_or_else(|e| panic!("{e}"))
    };
    let (base, collage) = (open("base"), open("collage"));
    let cases = [
        ("base", &base, 1, 1),
        ("collage.1x1", &collage, 1, 1),
        ("collage.3x3", &collage, 3, 3),
        ("collage.2x5", &collage, 2, 5),
    ];
    for device in &devices {
        for (key, model, rows, cols) in cases {
            let grid = Grid { rows, cols };
            let options = PlanOptions {
                batch: images.len().div_ceil(grid.tiles()),
                grid,
                output: PlanOutput::Logits,
                ..PlanOptions::default()
            };
            let expected = golden.f32(key);
            let found = logits(&**device, model, options, Input::Images(&images));
            // The last group's blank tiles come after all images.
            let worst = agree(key, &expected, &found[..expected.len()], TOLERANCE);
            report(&format!(
                "digits {key} on {}: logits within {worst:.1e} of the largest",
                device.info().name
            ));
        }
    }
}

/// The first `count` images with split 1.
fn held_out_digits(count: usize) -> Vec<Image> {
    let bytes = std::fs::read(root().join("weights/digits.safetensors"))
        .expect("the digits are in the repository");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("the digits are well formed");
    let data = |name| {
        file.tensor(name)
            .expect("images and split are there")
            .data()
    };
    let held_out = data("images")
        .chunks(64)
        .zip(data("split"))
        .filter(|(_, split)| **split == 1);
    let rgb = |pixels: &[u8]| pixels.iter().flat_map(|p| [*p; 3]).collect::<Vec<u8>>();
    held_out
        .take(count)
        .map(|(pixels, _)| Image::from_rgb(8, 8, rgb(pixels)).expect("8x8"))
        .collect()
}

/// One run of a plan without `top_k`.
fn logits(device: &dyn Device, model: &Model, options: PlanOptions, input: Input<'_>) -> Vec<f32> {
    let plan = Plan::compile(model, &options).unwrap_or_else(|e| panic!("{e}"));
    let mut program = device
        .load(Arc::new(plan))
        .unwrap_or_else(|e| panic!("{e}"));
    match program.run(input).unwrap_or_else(|e| panic!("{e}")) {
        Output::Tensor(data) => data,
        Output::TopK(_) => panic!("a plan without top_k gives a tensor"),
    }
}

/// Images and labels of an xz-compressed CIFAR-10 binary file: records of a label and three 32x32 planes.
fn cifar(path: &Path) -> (Vec<Image>, Vec<u32>) {
    let output = Command::new("xz").arg("-dc").arg(path).output();
    let output = output.unwrap_or_else(|e| {
        panic!(
            "the program xz unpacks {}; install xz-utils: {e}",
            path.display()
        )
    });
    assert!(
        output.status.success(),
        "xz: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let plane = CIFAR_SIDE * CIFAR_SIDE;
    let records = output.stdout.chunks_exact(1 + 3 * plane);
    assert!(
        records.remainder().is_empty(),
        "{}: a partial record",
        path.display()
    );
    let image = |planes: &[u8]| {
        let pixels: Vec<u8> = (0..plane)
            .flat_map(|i| [planes[i], planes[plane + i], planes[2 * plane + i]])
            .collect();
        Image::from_rgb(CIFAR_SIDE, CIFAR_SIDE, pixels).expect("32x32")
    };
    records.map(|r| (image(&r[1..]), u32::from(r[0]))).unzip()
}
