//! `--check`: whether a device gives the answers that the processor gives, before anyone looks at how fast it is.
//!
//! The processor runs the same plan in the same type: it rounds where the device stores. What is left is sums in another
//! order, and roundings that fall to the other side because of that.

use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
use collage::backend::{Device, Output};
use collage::model::compile::{PlanOptions, PlanOutput};
use collage::model::plan::Plan;
use collage::tensor::DType;
use serde::Serialize;

use super::networks::{Data, Network};
use crate::cli::failure::Failure;

/// One network, batch and type.
#[derive(Debug, Serialize)]
pub struct Checked {
    pub network: String,
    pub dtype: String,
    pub batch: usize,
    /// Largest difference of two logits over the largest logit.
    pub difference: f64,
    pub allowed: f64,
    /// Images, or tiles, whose best class is the processor's, of all.
    pub same_class: usize,
    pub images: usize,
    /// Whether a second run on the same input gave the same bits, after one on another input.
    pub repeatable: bool,
}

/// What dozens of layers may make of one rounding's difference.
fn allowed(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-4,
        DType::F16 => 2e-2,
        DType::Bf16 => 1.5e-1,
    }
}

/// Runs both.
///
/// # Errors
/// Where the answers differ by more than is allowed, or from run to run.
pub fn check(
    device: &dyn Device,
    network: &Network,
    batch: usize,
    dtype: DType,
) -> Result<Checked, Failure> {
    let options = PlanOptions {
        output: PlanOutput::Logits,
        ..network.options(batch, dtype)
    };
    let plan = Arc::new(Plan::compile(&network.model, &options)?);
    let (data, other) = (network.data(&plan, 0)?, network.data(&plan, 1)?);
    let expected = logits(
        CpuDevice::new(0)?
            .load(Arc::clone(&plan))?
            .run(data.input())?,
    )?;
    let mut program = device.load(Arc::clone(&plan))?;
    let mut run = |data: &Data| logits(program.run(data.input())?);
    let found = run(&data)?;
    run(&other)?;
    let again = run(&data)?;
    let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    let classes = network.model.classes().len();
    let checked = Checked {
        network: network.name.clone(),
        dtype: dtype.to_string(),
        batch,
        difference: difference(&expected, &found),
        allowed: allowed(dtype),
        same_class: best(&expected, classes)
            .zip(best(&found, classes))
            .filter(|(a, b)| a == b)
            .count(),
        images: expected.len() / classes.max(1),
        repeatable: bits(&found) == bits(&again),
    };
    let right = checked.difference <= checked.allowed && checked.repeatable;
    if right {
        Ok(checked)
    } else {
        Err(Failure::device(
            text(std::slice::from_ref(&checked)).trim_end(),
        ))
    }
}

fn logits(output: Output) -> Result<Vec<f32>, Failure> {
    match output {
        Output::Tensor(logits) => Ok(logits),
        Output::TopK(_) => Err(Failure::other("a plan of logits gave classes")),
    }
}

/// Infinite where a value is none, or the lengths differ.
fn difference(expected: &[f32], found: &[f32]) -> f64 {
    let largest = expected
        .iter()
        .fold(1e-30, |m: f64, v| m.max(f64::from(v.abs())));
    if expected.len() != found.len() || !found.iter().all(|v| v.is_finite()) {
        return f64::INFINITY;
    }
    let pairs = expected.iter().zip(found);
    let worst = pairs.map(|(a, b)| f64::from((a - b).abs()));
    worst.fold(0.0, f64::max) / largest
}

/// The best class of each row.
fn best(logits: &[f32], classes: usize) -> impl Iterator<Item = Option<usize>> {
    logits.chunks(classes.max(1)).map(|row| {
        let ranked = row.iter().enumerate();
        ranked.max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i)
    })
}

/// For people.
pub fn text(rows: &[Checked]) -> String {
    let mut text = String::new();
    for row in rows {
        let repeats = if row.repeatable {
            "the same bits each time"
        } else {
            "other bits each time"
        };
        text += &format!(
            "{}, {}, batch {}: logits within {:.1e} of the processor's (allowed {:.1e}), {} of {} classes the same, \
             {repeats}\n",
            row.network,
            row.dtype,
            row.batch,
            row.difference,
            row.allowed,
            row.same_class,
            row.images,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_and_a_missing_value_are_far_from_everything() {
        assert_eq!(difference(&[2.0, -4.0], &[2.0, -3.0]), 0.25);
        assert_eq!(difference(&[1.0], &[f32::NAN]), f64::INFINITY);
        assert_eq!(difference(&[1.0, 1.0], &[1.0]), f64::INFINITY);
    }
}
