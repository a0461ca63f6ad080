//! Checks a plan before a backend trusts it.
//!
//! The plan compiler makes only plans that pass. Plans are public data, though, and a backend indexes memory by what
//! they say, so every backend calls [`check`] once at load; afterwards no run can leave its buffers.

use crate::backend::BackendError;
use crate::backend::resample::Resample;
use crate::model::plan::{
    ARENA_ALIGN, AvgPool2d, Conv2d, Encode, Linear, MaxPool2d, Plan, Step, TensorId, TopK, Value,
    ValueId,
};

/// `Ok` when every index, shape and place in the plan holds.
pub fn check(plan: &Plan) -> Result<(), BackendError> {
    let fail = |what: String| BackendError::InvalidPlan {
        plan: plan.name.clone(),
        what,
    };
    values(plan).map_err(&fail)?;
    if plan.batch == 0 || plan.steps.is_empty() || plan.values.is_empty() {
        return Err(fail("has no batch, no step or no value".into()));
    }
    for (i, step) in plan.steps.iter().enumerate() {
        let at = |what: String| fail(format!("step {i} ({}): {what}", step.op()));
        match step {
            Step::Encode(_) if i != 0 => {
                return Err(at("encode is only possible as the first step".into()));
            }
            Step::TopK(_) if i + 1 != plan.steps.len() => {
                return Err(at("top_k is only possible as the last step".into()));
            }
            Step::Encode(e) => encode(plan, e),
            Step::Conv2d(c) => conv2d(plan, c),
            Step::MaxPool2d(p) => max_pool2d(plan, p),
            Step::AvgPool2d(p) => avg_pool2d(plan, p),
            Step::Linear(l) => linear(plan, l),
            Step::TopK(t) => top_k(plan, t),
        }
        .map_err(&at)?;
    }
    Ok(())
}

type Checked = Result<(), String>;

fn values(plan: &Plan) -> Checked {
    for (i, v) in plan.values.iter().enumerate() {
        let len = v.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let fits = len
            .and_then(|len| v.offset.checked_add(len))
            .is_some_and(|end| end <= plan.arena_len);
        if !fits || v.is_empty() || v.offset % ARENA_ALIGN != 0 || v.shape[0] != plan.batch {
            return Err(format!(
                "value {i} ({:?} at {}) does not fit",
                v.shape, v.offset
            ));
        }
    }
    Ok(())
}

fn value(plan: &Plan, id: ValueId) -> Result<&Value, String> {
    plan.values
        .get(id.0)
        .ok_or_else(|| format!("value {} does not exist", id.0))
}

fn shape(plan: &Plan, id: ValueId) -> Result<[usize; 4], String> {
    value(plan, id).map(|v| v.shape)
}

fn output(plan: &Plan, id: ValueId, expected: [usize; 4]) -> Checked {
    let found = shape(plan, id)?;
    if found == expected {
        Ok(())
    } else {
        Err(format!("output is {found:?}, expected {expected:?}"))
    }
}

fn tensor(plan: &Plan, id: TensorId, expected: &[usize]) -> Checked {
    let found = plan
        .weights
        .tensors
        .get(id.0)
        .ok_or_else(|| format!("tensor {} does not exist", id.0))?
        .shape();
    if found == expected {
        Ok(())
    } else {
        Err(format!(
            "tensor {} is {found:?}, expected {expected:?}",
            id.0
        ))
    }
}

fn disjoint(plan: &Plan, a: ValueId, b: ValueId) -> Checked {
    let (a, b) = (value(plan, a)?, value(plan, b)?);
    let apart = a.offset + a.len() <= b.offset || b.offset + b.len() <= a.offset;
    if apart {
        Ok(())
    } else {
        Err("an input and the output overlap".into())
    }
}

fn encode(plan: &Plan, e: &Encode) -> Checked {
    let p = &e.preprocessing;
    // A square image of the resized size always has a crop, unless the preprocessing itself is impossible.
    Resample::new(p.resize, p.resize, p)
        .ok_or_else(|| format!("cannot crop {} of {}", p.size, p.resize))?;
    if p.std.iter().any(|s| !s.is_normal()) || p.mean.iter().any(|m| !m.is_finite()) {
        return Err(format!(
            "mean {:?} and std {:?} cannot normalise",
            p.mean, p.std
        ));
    }
    let side = |tiles: usize| {
        tiles
            .checked_mul(p.size)
            .ok_or("the grid overflows".to_string())
    };
    output(
        plan,
        e.output,
        [plan.batch, side(e.grid.rows)?, side(e.grid.cols)?, 3],
    )
}

/// Outputs along one axis, when the window fits at least once.
fn windows(len: usize, kernel: usize, stride: usize, padding: usize) -> Result<usize, String> {
    let padded = padding
        .checked_mul(2)
        .and_then(|p| p.checked_add(len))
        .unwrap_or(0);
    if kernel == 0 || stride == 0 || padded < kernel {
        return Err(format!(
            "kernel {kernel} at stride {stride} and padding {padding} does not fit {len}"
        ));
    }
    Ok((padded - kernel) / stride + 1)
}

fn conv2d(plan: &Plan, c: &Conv2d) -> Checked {
    let [n, h, w, i] = shape(plan, c.input)?;
    let [.., o] = shape(plan, c.output)?;
    let [kh, kw] = c.kernel;
    tensor(plan, c.weight, &[o, kh, kw, i])?;
    tensor(plan, c.bias, &[o])?;
    let (oh, ow) = (
        windows(h, kh, c.stride, c.padding)?,
        windows(w, kw, c.stride, c.padding)?,
    );
    output(plan, c.output, [n, oh, ow, o])?;
    disjoint(plan, c.input, c.output)?;
    let Some(r) = c.residual else { return Ok(()) };
    let [_, rh, rw, _] = shape(plan, r.value)?;
    let reaches = |out: usize, len: usize| {
        (out - 1)
            .checked_mul(r.stride)
            .is_some_and(|last| last < len)
    };
    if r.stride == 0 || !reaches(oh, rh) || !reaches(ow, rw) {
        return Err(format!(
            "residual of {rh}x{rw} at stride {} does not cover {oh}x{ow}",
            r.stride
        ));
    }
    let (rv, ov) = (value(plan, r.value)?, value(plan, c.output)?);
    let in_place = rv == ov && r.stride == 1 && r.channel_offset == 0;
    if in_place {
        Ok(())
    } else {
        disjoint(plan, r.value, c.output)
    }
}

fn max_pool2d(plan: &Plan, p: &MaxPool2d) -> Checked {
    let [n, h, w, c] = shape(plan, p.input)?;
    if p.padding > p.kernel / 2 {
        return Err(format!(
            "padding {} is more than half of kernel {}",
            p.padding, p.kernel
        ));
    }
    let (oh, ow) = (
        windows(h, p.kernel, p.stride, p.padding)?,
        windows(w, p.kernel, p.stride, p.padding)?,
    );
    output(plan, p.output, [n, oh, ow, c])?;
    disjoint(plan, p.input, p.output)
}

fn avg_pool2d(plan: &Plan, p: &AvgPool2d) -> Checked {
    let [n, h, w, c] = shape(plan, p.input)?;
    let [kh, kw] = p.kernel;
    if kh == 0 || kw == 0 || h % kh != 0 || w % kw != 0 {
        return Err(format!("windows of {kh}x{kw} do not tile {h}x{w}"));
    }
    output(plan, p.output, [n, h / kh, w / kw, c])?;
    disjoint(plan, p.input, p.output)
}

fn linear(plan: &Plan, l: &Linear) -> Checked {
    let [n, h, w, i] = shape(plan, l.input)?;
    let [.., o] = shape(plan, l.output)?;
    tensor(plan, l.weight, &[o, i])?;
    tensor(plan, l.bias, &[o])?;
    output(plan, l.output, [n, h, w, o])?;
    disjoint(plan, l.input, l.output)
}

fn top_k(plan: &Plan, t: &TopK) -> Checked {
    let [_, rows, cols, classes] = shape(plan, t.input)?;
    if !(1..=classes).contains(&t.k) || !t.temperature.is_finite() || t.temperature <= 0.0 {
        return Err(format!(
            "cannot give the {} best of {classes} at temperature {}",
            t.k, t.temperature
        ));
    }
    match plan.steps.first() {
        Some(Step::Encode(e)) if e.grid.tiles() != rows * cols => Err(format!(
            "{rows}x{cols} rows of logits for a grid of {}x{} tiles",
            e.grid.rows, e.grid.cols
        )),
        _ => Ok(()),
    }
}
