//! Files become the pixels that Pillow reads, and bad files become errors.
//!
//! tests/formats holds one small file for each variant of a format, and Pillow's pixels of all of them; its make.py
//! says how they came to be.

use std::path::PathBuf;

use collage::error::Classify;
use collage::image::{Image, ImageError};
use proptest::prelude::*;
use safetensors::SafeTensors;

/// How far two decoders of a lossy format may be apart: they round colour conversion and inverse transforms
/// differently, and smooth halved chroma differently.
const LOSSY: &[(&str, u8)] = &[
    ("full_chroma.jpg", 3),
    ("half_chroma.jpg", 3),
    ("progressive.jpg", 3),
    ("grey.jpg", 1),
    ("cmyk.jpg", 3),
    ("lossy.webp", 0),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Every file, with Pillow's (H, W, 3).
fn expected() -> Vec<(String, Image)> {
    let file = bytes("expected.safetensors");
    let tensors = SafeTensors::deserialize(&file).expect("expected.safetensors");
    let image = |view: safetensors::tensor::TensorView<'_>| {
        let [h, w, 3] = view.shape()[..] else {
            panic!("not an image: {:?}", view.shape())
        };
        Image::from_rgb(w, h, view.data()).expect("lengths agree")
    };
    tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, image(view)))
        .collect()
}

#[test]
fn every_format_reads_as_in_pillow() {
    let expected = expected();
    assert_eq!(expected.len(), 29);
    for (name, theirs) in &expected {
        let ours = Image::open(folder().join(name)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            (ours.width(), ours.height()),
            (theirs.width(), theirs.height()),
            "{name}"
        );
        let known = LOSSY
            .iter()
            .find(|(lossy, _)| lossy == name)
            .map(|(_, most)| *most);
        let allowed = known.unwrap_or(if name.ends_with(".jpg") { 3 } else { 0 });
        let apart = ours
            .pixels()
            .iter()
            .zip(theirs.pixels())
            .map(|(a, b)| a.abs_diff(*b));
        let worst = apart.max().expect("there are pixels");
        println!("{name}: {worst}");
        assert!(
            worst <= allowed,
            "{name}: {worst} of 255 apart, {allowed} allowed"
        );
    }
}

#[test]
fn every_orientation_is_turned_upright() {
    // The file that is stored upright has the pixels that the turned ones must show.
    let upright = Image::open(folder().join("full_chroma.jpg")).expect("a JPEG");
    let (w, h) = (upright.width(), upright.height());
    let at = |x: usize, y: usize| &upright.pixels()[(y * w + x) * 3..][..3];
    for orientation in 2..=8 {
        let turned =
            Image::open(folder().join(format!("orientation_{orientation}.jpg"))).expect("a JPEG");
        let swapped = orientation >= 5;
        let size = if swapped { (h, w) } else { (w, h) };
        assert_eq!((turned.width(), turned.height()), size, "{orientation}");
        for (i, pixel) in turned.pixels().chunks(3).enumerate() {
            let (x, y) = (i % size.0, i / size.0);
            let (x, y) = match orientation {
                2 => (w - 1 - x, y),
                3 => (w - 1 - x, h - 1 - y),
                4 => (x, h - 1 - y),
                5 => (y, x),
                6 => (y, h - 1 - x),
                7 => (w - 1 - y, h - 1 - x),
                _ => (w - 1 - y, x),
            };
            assert_eq!(pixel, at(x, y), "orientation {orientation}, pixel {i}");
        }
    }
}

#[test]
fn sixteen_bits_keep_the_upper_eight() {
    let deep = image::ImageBuffer::from_fn(5, 3, |x, y| {
        image::Rgb([x as u16 * 13_001, y as u16 * 255, 0xfeff])
    });
    let mut png = std::io::Cursor::new(Vec::new());
    deep.write_to(&mut png, image::ImageFormat::Png)
        .expect("memory can be written to");
    let read = Image::decode("deep", png.get_ref()).expect("a PNG");
    let upper: Vec<u8> = deep
        .pixels()
        .flat_map(|p| p.0.map(|x| (x >> 8) as u8))
        .collect();
    assert_eq!(read.pixels(), upper);
}

#[test]
fn truncated_files_are_errors_that_name_the_file() {
    for (name, _) in expected() {
        let whole = bytes(&name);
        for len in (0..whole.len().saturating_sub(24)).step_by(7) {
            match Image::decode(&name, &whole[..len]) {
                Err(e) => assert!(e.to_string().starts_with(&format!("{name}: ")), "{e}"),
                // Formats whose last bytes hold no pixels may be complete before their end.
                Ok(image) => assert!(
                    len * 10 > whole.len() * 8,
                    "{name}: {image:?} from {len} bytes"
                ),
            }
        }
    }
}

#[test]
fn other_files_are_not_images() {
    for content in [&b""[..], b"GIF89a", b"hello", b"%PDF-1.7", &[0; 64]] {
        let error = Image::decode("x", content).unwrap_err();
        assert!(matches!(error, ImageError::UnknownFormat { .. }), "{error}");
        assert_eq!(error.code(), 101);
    }
    assert!(matches!(
        Image::open(folder()),
        Err(ImageError::Read { .. })
    ));
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_taken() {
    // PNG: width and height at bytes 16..24, their checksum at 29..33.
    let mut png = bytes("rgba.png");
    png[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]); // 100,000 x 100,000
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    // JPEG: height and width follow the frame header's marker, length and precision.
    let mut jpeg = bytes("full_chroma.jpg");
    let frame = jpeg
        .windows(2)
        .position(|w| w == [0xff, 0xc0])
        .expect("a baseline frame");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    // BMP: width and height at bytes 18..26.
    let mut bmp = bytes("rgb.bmp");
    bmp[18..26].copy_from_slice(&[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]);
    for (name, file) in [("png", png), ("jpeg", jpeg), ("bmp", bmp)] {
        let error = Image::decode(name, &file).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
        assert_eq!((error.code(), error.can_retry()), (103, false));
    }
}

/// As PNG defines it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            (crc >> 1) ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    !bytes
        .iter()
        .fold(!0, |crc, &b| (0..8).fold(crc ^ u32::from(b), step))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_never_panic(
        which in 0usize..29,
        changes in prop::collection::vec((0.0f64..1.0, any::<u8>()), 1..6),
        cut in 0.3f64..1.3,
    ) {
        let (name, _) = &expected()[which];
        let mut file = bytes(name);
        for (at, value) in changes {
            let at = (at * file.len() as f64) as usize;
            file[at] = value;
        }
        file.truncate((cut * file.len() as f64) as usize);
        if let Ok(image) = Image::decode(name, &file) {
            prop_assert_eq!(image.pixels().len(), image.width() * image.height() * 3);
        }
    }
}
