//! Running a case and comparing what comes out.

use collage::backend::{Device, Input, Output};
use collage::tensor::DType;

use crate::case::{self, Case, CaseInput};
use crate::naive::Exact;
use crate::skip::report;

/// Runs `check` on every case, prints a count, and fails with all that went wrong.
pub fn check_all(label: &str, check: impl Fn(&Case) -> Result<(), String>) {
    check_cases(label, &case::all(), check);
}

pub fn check_cases(label: &str, cases: &[Case], check: impl Fn(&Case) -> Result<(), String>) {
    let only = std::env::var("OPS_CASES").unwrap_or_default();
    let chosen: Vec<&Case> = cases
        .iter()
        .filter(|c| c.op.contains(&only) || c.name.contains(&only))
        .collect();
    let failures: Vec<String> = chosen
        .iter()
        .filter_map(|case| {
            check(case)
                .err()
                .map(|e| format!("  {} \"{}\": {e}", case.op, case.name))
        })
        .collect();
    report(&format!(
        "ops: {label}: {} of {} cases agree",
        chosen.len() - failures.len(),
        chosen.len()
    ));
    assert!(failures.is_empty(), "{label}:\n{}", failures.join("\n"));
}

/// The second of two runs of one program, the first on other data.
pub fn run(device: &dyn Device, case: &Case, dtype: DType) -> Result<Output, String> {
    let mut program = device.load(case.plan(dtype)).map_err(|e| e.to_string())?;
    program
        .run(as_input(&case.poison))
        .map_err(|e| e.to_string())?;
    program
        .run(as_input(&case.input))
        .map_err(|e| e.to_string())
}

pub fn as_input(input: &CaseInput) -> Input<'_> {
    match input {
        CaseInput::Images(images) => Input::Images(images),
        CaseInput::Tensor(data) => Input::Tensor(data),
    }
}

pub fn exact(output: Output) -> Exact {
    match output {
        Output::Tensor(data) => Exact::Tensor(data.into_iter().map(f64::from).collect()),
        Output::TopK(rows) => {
            let row = |r: Vec<collage::backend::Scored>| {
                r.iter().map(|s| (s.class, s.score.into())).collect()
            };
            Exact::TopK(rows.into_iter().map(row).collect())
        }
    }
}

pub fn compare(expected: &Exact, found: &Output, tolerance: f32) -> Result<(), String> {
    match (expected, found) {
        (Exact::Tensor(expected), Output::Tensor(found)) => {
            compare_tensors(expected, found, tolerance)
        }
        (Exact::TopK(expected), Output::TopK(found)) => {
            let rows = (expected.len(), found.len());
            if rows.0 != rows.1 {
                return Err(format!("{} rows, expected {}", rows.1, rows.0));
            }
            expected
                .iter()
                .zip(found)
                .enumerate()
                .try_for_each(|(i, (e, f))| {
                    compare_rows(e, f, f64::from(tolerance))
                        .map_err(|what| format!("row {i}: {what}"))
                })
        }
        _ => Err("a tensor where top-k is expected, or the other way round".into()),
    }
}

fn compare_tensors(expected: &[f64], found: &[f32], tolerance: f32) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!(
            "{} elements, expected {}",
            found.len(),
            expected.len()
        ));
    }
    let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    // Written so that a NaN is never close.
    let far = |(_, (e, f)): &(usize, (&f64, &f32))| {
        let close = (**e - f64::from(**f)).abs() <= f64::from(tolerance) * largest;
        !close
    };
    let wrong: Vec<_> = expected.iter().zip(found).enumerate().filter(far).collect();
    match wrong.first() {
        None => Ok(()),
        Some((i, (e, f))) => {
            let worst = wrong
                .iter()
                .map(|(_, (e, f))| (**e - f64::from(**f)).abs())
                .fold(0.0, f64::max);
            let share = worst / largest;
            Err(format!(
                "{} of {} differ, first at {i}: {f}, expected {e}; worst {share:.1e} of the largest",
                wrong.len(),
                expected.len()
            ))
        }
    }
}

/// Scores must agree rank by rank; two classes may change places only where their scores are within the tolerance.
fn compare_rows(
    expected: &[(u32, f64)],
    found: &[collage::backend::Scored],
    tolerance: f64,
) -> Result<(), String> {
    let close = |a: f64, b: f64| (a - b).abs() <= tolerance;
    let agrees = expected.len() == found.len()
        && expected.iter().zip(found).all(|((class, score), f)| {
            let same_class = *class == f.class
                || expected
                    .iter()
                    .any(|(c, s)| *c == f.class && s != score && close(*s, *score));
            close(*score, f.score.into()) && same_class
        });
    if agrees {
        Ok(())
    } else {
        Err(format!("{found:?}, expected {expected:?}"))
    }
}

pub fn bits(output: &Output) -> Vec<u32> {
    match output {
        Output::Tensor(data) => data.iter().map(|x| x.to_bits()).collect(),
        Output::TopK(rows) => rows
            .iter()
            .flatten()
            .flat_map(|s| [s.class, s.score.to_bits()])
            .collect(),
    }
}
