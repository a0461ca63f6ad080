//! Encoding equals Pillow's resize and torchvision's crop, from identical pixels, and what the JPEG decoder adds.
//!
//! Goldens and their rules are in tests/golden/README.md. Every crop is made twice: alone, and as a tile of a 3x3
//! canvas. `COLLAGE_PILLOW_DIR` names the folder of PNG copies that makes the photographs' pixels identical too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use collage::backend::{Device, Input, Output};
use collage::image::Image;
use collage::model::plan::{
    ARENA_ALIGN, Encode, Filter, Grid, Plan, Preprocessing, Step, Value, ValueId, Weights,
};
use collage::tensor::DType;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

mod golden;
use golden::{Golden, hash, report, shared};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Between Pillow's decoder and ours, a pixel.
const DECODER: u8 = 6;
/// What is left of that after shrinking to 32x32: at most, and on average.
const DECODER_SHRUNK: (u8, f64) = (2, 0.1);

#[test]
fn hashed_images_encode_on_the_cpu_as_in_pillow() {
    hashed_images(golden::cpu(), 0);
}

#[cfg(feature = "wgpu")]
#[test]
fn hashed_images_encode_on_webgpu_as_in_pillow() {
    hashed_images(golden::webgpu("hashed images on WebGPU"), 1);
}

#[test]
fn photographs_encode_on_the_cpu_as_in_pillow() {
    photographs("photographs on the CPU", golden::cpu, 0);
}

#[cfg(feature = "wgpu")]
#[test]
fn photographs_encode_on_webgpu_as_in_pillow() {
    let claim = "photographs on WebGPU";
    photographs(claim, || golden::webgpu(claim), 1);
}

#[test]
fn jpeg_decoder_stays_close_to_pillows() {
    let Some(folder) = shared("imagenet-sample", "JPEG decoder against Pillow") else {
        return;
    };
    let golden = Golden::open("pillow_photographs");
    let mut sampled = Difference::default();
    for about in list(&golden.json["photographs"]) {
        let file = text(about, "file");
        let image = Image::open(folder.join(file)).unwrap_or_else(|e| panic!("{e}"));
        let size = (image.width() as u64, image.height() as u64);
        assert_eq!(
            (Some(size.0), Some(size.1)),
            (about["width"].as_u64(), about["height"].as_u64()),
            "{file}"
        );
        let (seed, pixels) = (hash::fnv1a(file), image.width() * image.height());
        for (k, theirs) in golden
            .bytes(&format!("{file}.pixels"))
            .chunks(3)
            .enumerate()
        {
            let at = 3 * (hash::hash(seed, k) as usize % pixels);
            sampled.add(&image.pixels()[at..at + 3], theirs);
        }
        if let Some(png) = pillow_copy(file) {
            let theirs = Image::open(&png).unwrap_or_else(|e| panic!("{e}"));
            let mut whole = Difference::default();
            whole.add(image.pixels(), theirs.pixels());
            report(&format!(
                "| {file} | {} | {:.4} |",
                whole.most,
                whole.mean()
            ));
            assert!(whole.most <= DECODER, "{file}: {} of 255", whole.most);
        }
    }
    report(&format!(
        "JPEG decoder against Pillow's, {} values sampled: at most {}, mean {:.4}, of 255",
        sampled.values,
        sampled.most,
        sampled.mean()
    ));
    assert!(
        sampled.values > 0 && sampled.most <= DECODER,
        "{} of 255",
        sampled.most
    );
}

/// All crops of all hashed images, those of one size and filter in one run. `slack`: of 255, a pixel.
fn hashed_images(devices: Vec<Arc<dyn Device>>, slack: u8) {
    let golden = Golden::open("pillow_hashed");
    let mut runs: BTreeMap<(bool, usize, usize), Vec<&Json>> = BTreeMap::new();
    for case in list(&golden.json["cases"]) {
        let bicubic = text(case, "filter") == "bicubic";
        runs.entry((bicubic, number(case, "resize"), number(case, "size")))
            .or_default()
            .push(case);
    }
    for device in &devices {
        let (mut crops, mut exact) = (0, 0);
        for ((bicubic, resize, size), cases) in &runs {
            let filter = if *bicubic {
                Filter::Bicubic
            } else {
                Filter::Bilinear
            };
            let images: Vec<Image> = cases.iter().map(|case| hashed_image(case)).collect();
            for found in both_ways(&**device, filter, *resize, *size, &images) {
                for (case, found) in cases.iter().zip(found) {
                    let what = format!("{} on {}", text(case, "key"), device.info().name);
                    compare_rows(&what, &golden, case, &found, slack);
                    crops += 1;
                    exact += usize::from(has_sha256(case, &found));
                }
            }
        }
        report(&format!(
            "hashed images on {}: {exact} of {crops} crops equal Pillow's",
            device.info().name
        ));
        assert!(
            crops > 0 && (slack > 0 || exact == crops),
            "{} crops differ in rows not stored",
            crops - exact
        );
    }
}

fn hashed_image(case: &Json) -> Image {
    let grey = case["grey"].as_bool().expect("grey is true or false");
    hash::image(
        text(case, "image"),
        number(case, "width"),
        number(case, "height"),
        grey,
    )
}

/// The stored rows of one crop, (size, size, 3), grey ones in all channels.
fn compare_rows(what: &str, golden: &Golden, case: &Json, found: &[u8], slack: u8) {
    let (size, step) = (number(case, "size"), number(case, "row_step"));
    let mut expected = golden.bytes(text(case, "key"));
    if case["grey"] == true {
        expected = expected.iter().flat_map(|&p| [p; 3]).collect();
    }
    let rows = found
        .chunks(size * 3)
        .step_by(step)
        .flatten()
        .copied()
        .collect::<Vec<u8>>();
    let mut difference = Difference::default();
    difference.add(&rows, &expected);
    assert!(
        difference.most <= slack,
        "{what}: differs by {} of 255, at most {slack} is right",
        difference.most
    );
}

fn has_sha256(case: &Json, found: &[u8]) -> bool {
    let grey = case["grey"] == true;
    let bytes: Vec<u8> = if grey {
        found.iter().step_by(3).copied().collect()
    } else {
        found.to_vec()
    };
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    hex == text(case, "sha256")
}

/// Where photographs' pixels are from, and how far from Pillow's crops that permits to be.
struct Source {
    whose: &'static str,
    files: Vec<PathBuf>,
    most: u8,
    mean: f64,
}

/// From Pillow's pixels within `slack`, where there are copies; from our own within what the decoder explains.
fn photographs(claim: &str, devices: impl Fn() -> Vec<Arc<dyn Device>>, slack: u8) {
    let Some(folder) = shared("imagenet-sample", claim) else {
        return;
    };
    let golden = Golden::open("pillow_photographs");
    let names: Vec<&str> = list(&golden.json["photographs"])
        .iter()
        .map(|p| text(p, "file"))
        .collect();
    let mut sources = vec![Source {
        whose: "our own",
        files: names.iter().map(|name| folder.join(name)).collect(),
        most: slack + DECODER_SHRUNK.0,
        mean: f64::from(slack) + DECODER_SHRUNK.1,
    }];
    match names.iter().map(|name| pillow_copy(name)).collect() {
        Some(files) => sources.push(Source {
            whose: "Pillow's",
            files,
            most: slack,
            mean: f64::from(slack),
        }),
        None => report(&format!(
            "{claim}: from our own decoding only, COLLAGE_PILLOW_DIR is not set"
        )),
    }
    for device in devices() {
        for source in &sources {
            let found = compare_photographs(&*device, &golden, &names, source);
            report(&format!(
                "{} photographs on {} from {} pixels: at most {} of 255, mean {:.4}",
                names.len(),
                device.info().name,
                source.whose,
                found.most,
                found.mean()
            ));
            assert!(found.mean() <= source.mean, "mean {:.4}", found.mean());
        }
    }
}

/// The difference of all crops; fails on the first that is too far.
fn compare_photographs(
    device: &dyn Device,
    golden: &Golden,
    names: &[&str],
    source: &Source,
) -> Difference {
    let open = |path: &PathBuf| Image::open(path).unwrap_or_else(|e| panic!("{e}"));
    let images: Vec<Image> = source.files.iter().map(open).collect();
    let mut all = Difference::default();
    for (filter, suffix) in [(Filter::Bilinear, "bilinear"), (Filter::Bicubic, "bicubic")] {
        for found in both_ways(device, filter, 32, 32, &images) {
            for (name, found) in names.iter().zip(found) {
                all.add(&found, &golden.bytes(&format!("{name}.{suffix}")));
                assert!(
                    all.most <= source.most,
                    "{name}, {suffix}, from {} pixels: differs by {} of 255, at most {} is right",
                    source.whose,
                    all.most,
                    source.most
                );
            }
        }
    }
    all
}

/// Absolute differences of bytes.
#[derive(Default)]
struct Difference {
    most: u8,
    sum: u64,
    values: u64,
}

impl Difference {
    fn add(&mut self, ours: &[u8], theirs: &[u8]) {
        assert_eq!(ours.len(), theirs.len(), "bytes");
        for (a, b) in ours.iter().zip(theirs) {
            self.most = self.most.max(a.abs_diff(*b));
            self.sum += u64::from(a.abs_diff(*b));
        }
        self.values += ours.len() as u64;
    }

    fn mean(&self) -> f64 {
        self.sum as f64 / self.values as f64
    }
}

/// The images' crops as u8 (size, size, 3): each alone, and as the tiles of 3x3 canvases.
fn both_ways(
    device: &dyn Device,
    filter: Filter,
    resize: usize,
    size: usize,
    images: &[Image],
) -> [Vec<Vec<u8>>; 2] {
    let preprocessing = Preprocessing {
        resize,
        size,
        filter,
        mean: MEAN,
        std: STD,
    };
    [Grid::ONE, Grid { rows: 3, cols: 3 }].map(|grid| crops(device, preprocessing, grid, images))
}

/// One run of a plan that only encodes, cut back into tiles. A tile without an image must be exactly 0.0.
fn crops(
    device: &dyn Device,
    preprocessing: Preprocessing,
    grid: Grid,
    images: &[Image],
) -> Vec<Vec<u8>> {
    let (size, batch) = (preprocessing.size, images.len().div_ceil(grid.tiles()));
    let value = Value {
        shape: [batch, grid.rows * size, grid.cols * size, 3],
        offset: 0,
    };
    let encode = Encode {
        output: ValueId(0),
        preprocessing,
        grid,
    };
    let plan = Plan {
        name: "encode".into(),
        batch,
        dtype: DType::F32,
        weights: Arc::new(Weights::default()),
        values: vec![value],
        steps: vec![Step::Encode(encode)],
        arena_len: value.len().next_multiple_of(ARENA_ALIGN),
    };
    let mut program = device
        .load(Arc::new(plan))
        .unwrap_or_else(|e| panic!("{e}"));
    let Output::Tensor(canvases) = program
        .run(Input::Images(images))
        .unwrap_or_else(|e| panic!("{e}"))
    else {
        panic!("a plan without top_k gives a tensor");
    };
    let tile = |index: usize| -> Vec<f32> {
        let (canvas, place) = (index / grid.tiles(), index % grid.tiles());
        let (top, left) = (place / grid.cols * size, place % grid.cols * size);
        let row = |y: usize| ((canvas * grid.rows * size + top + y) * grid.cols * size + left) * 3;
        (0..size)
            .flat_map(|y| &canvases[row(y)..][..size * 3])
            .copied()
            .collect()
    };
    for blank in images.len()..batch * grid.tiles() {
        assert!(
            tile(blank).iter().all(|&x| x == 0.0),
            "tile {blank} is not blank"
        );
    }
    (0..images.len())
        .map(|index| tile(index).iter().enumerate().map(pixel).collect())
        .collect()
}

/// Undoes the normalisation of one value.
fn pixel((i, &x): (usize, &f32)) -> u8 {
    let value = (x * STD[i % 3] + MEAN[i % 3]) * 255.0;
    assert!(
        (value - value.round()).abs() < 1e-2,
        "{value} is not a normalised u8"
    );
    value.round() as u8
}

/// The PNG copy of a photograph that Pillow decoded.
fn pillow_copy(file: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("COLLAGE_PILLOW_DIR")?);
    Some(folder.join(Path::new(file).with_extension("png")))
}

fn list(json: &Json) -> &Vec<Json> {
    json.as_array().expect("a list")
}

fn text<'a>(json: &'a Json, key: &str) -> &'a str {
    json[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is text"))
}

fn number(json: &Json, key: &str) -> usize {
    json[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} is a number")) as usize
}
