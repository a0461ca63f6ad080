//! The digits that ship inside the binary: a base model, a collage model and the images that they were trained and are
//! tested on, so that everything can be tried without a file.
//!
//! The images are E. Alpaydin and C. Kaynak's *Optical Recognition of Handwritten Digits* (UCI Machine Learning
//! Repository, 1998, <https://doi.org/10.24432/C50P49>), the 1,797 of them that scikit-learn carries: 8x8 pixels, values
//! 0..16 scaled to 0..255, CC BY 4.0. The model cards are in `weights/`.

use crate::dataset::Dataset;
use crate::image::Image;
use crate::model::file::{Container, Storage};
use crate::model::{Fault, Model, ModelError, Shape};

const BASE: &[u8] = include_bytes!("../weights/digits-base.safetensors");
const COLLAGE: &[u8] = include_bytes!("../weights/digits-collage.safetensors");
const DIGITS: &[u8] = include_bytes!("../weights/digits.safetensors");

/// Of `split` in the file of images.
const HELD_OUT: u8 = 1;

/// The model that classifies one digit. Each call checks and unpacks the file anew.
///
/// # Errors
/// Only if the embedded file is damaged.
pub fn base() -> Result<Model, ModelError> {
    Model::from_bytes("digits-base (embedded)", BASE)
}

/// The model that classifies a grid of digits.
///
/// # Errors
/// Only if the embedded file is damaged.
pub fn collage() -> Result<Model, ModelError> {
    Model::from_bytes("digits-collage (embedded)", COLLAGE)
}

/// The digits that neither model was trained on, in the data set's own order, as 8x8 images.
///
/// # Errors
/// Only if the embedded file is damaged.
pub fn held_out() -> Result<Dataset, ModelError> {
    read().map_err(|fault| fault.in_file("digits (embedded)"))
}

fn read() -> Result<Dataset, Fault> {
    let file = Container::parse(DIGITS)?;
    let (shape, pixels) = bytes(&file, "images")?;
    let (_, labels) = bytes(&file, "labels")?;
    let (_, split) = bytes(&file, "split")?;
    let &[count, height, width] = shape else {
        return Err(wrong("images", shape));
    };
    if labels.len() != count || split.len() != count {
        return Err(wrong("labels", &[labels.len()]));
    }
    let (mut images, mut classes) = (Vec::new(), Vec::new());
    for ((grey, label), split) in pixels.chunks_exact(height * width).zip(labels).zip(split) {
        if *split == HELD_OUT {
            images
                .push(Image::from_grey(width, height, grey).ok_or_else(|| wrong("images", shape))?);
            classes.push(u32::from(*label));
        }
    }
    Dataset::from_memory("the embedded held-out digits", images, classes)
        .ok_or_else(|| wrong("labels", &[labels.len()]))
}

/// A tensor of bytes: its shape and its elements.
fn bytes<'a>(file: &'a Container<'_>, name: &str) -> Result<(&'a [usize], &'a [u8]), Fault> {
    let missing = || Fault::MissingTensor {
        tensor: name.to_string(),
        expected: Shape(vec![None]),
    };
    let view = file.tensor(name).ok_or_else(missing)?;
    if view.dtype != Storage::U8 {
        return Err(wrong(name, view.shape));
    }
    Ok((view.shape, view.bytes))
}

/// The images are (N, H, W), labels and split (N).
fn wrong(tensor: &str, found: &[usize]) -> Fault {
    let dimensions = if tensor == "images" { 3 } else { 1 };
    let found = Shape(found.iter().copied().map(Some).collect());
    Fault::WrongShape {
        tensor: tensor.to_string(),
        found,
        expected: Shape(vec![None; dimensions]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn models_and_images_open_and_speak_of_the_same_classes() {
        let (base, collage, digits) = (base().unwrap(), collage().unwrap(), held_out().unwrap());
        assert_eq!((base.kind(), collage.kind()), (Kind::Base, Kind::Collage));
        assert_eq!(base.classes(), collage.classes());
        assert_eq!(digits.len(), 597);
        for i in 0..digits.len() {
            assert!((digits.label(i).unwrap() as usize) < base.classes().len());
            let image = digits.image(i).unwrap();
            assert_eq!((image.width(), image.height()), (8, 8));
        }
    }

    #[test]
    fn encoding_truly_shrinks() {
        let (base, collage) = (base().unwrap(), collage().unwrap());
        assert!(collage.preprocessing().size < base.preprocessing().size);
    }
}
