//! Whether a plan keeps its own promises. Plans are plain data, so that tests and tools can write them by hand; a
//! backend that checks a plan when it loads it can index by it without fear afterwards.

use super::plan::{ARENA_ALIGN, Plan, Residual, Step, TensorId, Value, ValueId};
use super::shape::Shape;
use crate::error::Classify;

/// What is wrong with a plan. Steps and values are named by their index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A step names a value or tensor that the plan does not have.
    #[error("plan {plan}, step {step}: there is no {what}")]
    Missing {
        /// The plan's name.
        plan: String,
        /// Index of the step.
        step: usize,
        /// What it names.
        what: String,
    },
    /// `encode` is only for the beginning of a plan, `top_k` for its end.
    #[error("plan {plan}, step {step}: {op} has no place here")]
    Misplaced {
        /// The plan's name.
        plan: String,
        /// Index of the step; the number of steps for a plan without any.
        step: usize,
        /// The step's op, or `end`.
        op: &'static str,
    },
    /// A value that is not aligned, not in the arena, or not of the plan's batch.
    #[error(
        "plan {plan}, value {value}: {shape} at {offset} is not a batch of {batch} in an arena of {arena}"
    )]
    Extent {
        /// The plan's name.
        plan: String,
        /// Index of the value.
        value: usize,
        /// Its shape.
        shape: Shape,
        /// Its offset in elements.
        offset: usize,
        /// The plan's batch.
        batch: usize,
        /// The arena's length in elements.
        arena: usize,
    },
    /// Shapes or numbers that do not fit each other.
    #[error("plan {plan}, step {step} ({op}): {what}")]
    Mismatch {
        /// The plan's name.
        plan: String,
        /// Index of the step.
        step: usize,
        /// The step's op.
        op: &'static str,
        /// What does not fit.
        what: &'static str,
    },
    /// A step reads what nobody wrote, or what was overwritten since.
    #[error(
        "plan {plan}, step {step}: reads value {value}, which is not in the arena at that time"
    )]
    Lost {
        /// The plan's name.
        plan: String,
        /// Index of the step.
        step: usize,
        /// Index of the value.
        value: usize,
    },
    /// A step writes over what it reads, other than in the place of an ordinary shortcut.
    #[error("plan {plan}, step {step}: writes over value {value} while reading it")]
    Overlap {
        /// The plan's name.
        plan: String,
        /// Index of the step.
        step: usize,
        /// Index of the value.
        value: usize,
    },
}

impl Classify for PlanError {
    fn code(&self) -> u32 {
        match self {
            PlanError::Missing { .. } => 294,
            PlanError::Misplaced { .. } => 295,
            PlanError::Extent { .. } => 296,
            PlanError::Mismatch { .. } => 297,
            PlanError::Lost { .. } => 298,
            PlanError::Overlap { .. } => 299,
        }
    }

    fn can_retry(&self) -> bool {
        false
    }
}

impl Plan {
    /// Checks everything that this module's types promise: indices, order, places, shapes, and that no step reads a
    /// value that another has overwritten. Takes time in steps times values; allocates one flag a value.
    pub fn check(&self) -> Result<(), PlanError> {
        for (i, value) in self.values.iter().enumerate() {
            self.check_extent(i, value)?;
        }
        let mut is_view = vec![true; self.values.len()];
        for output in self.steps.iter().filter_map(Step::writes) {
            is_view
                .get_mut(output.0)
                .into_iter()
                .for_each(|v| *v = false);
        }
        // Whether each value is in the arena, whole, before the step at hand.
        let mut there = vec![false; self.values.len()];
        match self.steps.first() {
            Some(Step::Encode(_)) => {}
            Some(_) if !there.is_empty() => there[0] = true,
            first => {
                let (step, what) = (0, "value 0".to_owned());
                let plan = self.name.clone();
                return Err(match first {
                    Some(_) => PlanError::Missing { plan, step, what },
                    None => PlanError::Misplaced {
                        plan,
                        step,
                        op: "end",
                    },
                });
            }
        }
        for (at, step) in self.steps.iter().enumerate() {
            let first_or_inner = at == 0 || !matches!(step, Step::Encode(_));
            let last_or_inner = at + 1 == self.steps.len() || !matches!(step, Step::TopK(_));
            if !first_or_inner || !last_or_inner {
                return Err(PlanError::Misplaced {
                    plan: self.name.clone(),
                    step: at,
                    op: step.op(),
                });
            }
            self.check_indices(at, step)?;
            if let Some(what) = self.mismatch(step) {
                return Err(PlanError::Mismatch {
                    plan: self.name.clone(),
                    step: at,
                    op: step.op(),
                    what,
                });
            }
            self.check_memory(at, step, &is_view, &mut there)?;
        }
        Ok(())
    }

    fn check_extent(&self, i: usize, value: &Value) -> Result<(), PlanError> {
        let len = value
            .shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d));
        let end = len.and_then(|len| value.offset.checked_add(len));
        let inside = end.is_some_and(|end| end <= self.arena_len);
        let bytes = self.arena_len.checked_mul(self.dtype.bytes());
        if inside
            && bytes.is_some()
            && !value.is_empty()
            && value.offset.is_multiple_of(ARENA_ALIGN)
            && value.shape[0] == self.batch
        {
            return Ok(());
        }
        Err(PlanError::Extent {
            plan: self.name.clone(),
            value: i,
            shape: Shape::from(&value.shape[..]),
            offset: value.offset,
            batch: self.batch,
            arena: self.arena_len,
        })
    }

    fn check_indices(&self, at: usize, step: &Step) -> Result<(), PlanError> {
        let missing = |what: String| PlanError::Missing {
            plan: self.name.clone(),
            step: at,
            what,
        };
        let absent = step
            .reads()
            .chain(step.writes())
            .find(|v| v.0 >= self.values.len());
        if let Some(ValueId(v)) = absent {
            return Err(missing(format!("value {v}")));
        }
        let tensors = match *step {
            Step::Conv2d(s) => vec![s.weight, s.bias],
            Step::Linear(s) => vec![s.weight, s.bias],
            _ => vec![],
        };
        match tensors
            .into_iter()
            .find(|t| t.0 >= self.weights.tensors.len())
        {
            Some(TensorId(t)) => Err(missing(format!("tensor {t}"))),
            None => Ok(()),
        }
    }

    /// What of a step's shapes and numbers does not fit, if anything does not. All indices are known to be good.
    fn mismatch(&self, step: &Step) -> Option<&'static str> {
        let shape = |v: ValueId| self.values[v.0].shape;
        let tensor = |t: TensorId| self.weights.tensors[t.0].shape();
        let unless = |holds: bool, what| (!holds).then_some(what);
        match *step {
            Step::Encode(s) => {
                let [_, h, w, c] = shape(s.output);
                let side = |tiles: usize| tiles.checked_mul(s.preprocessing.size);
                let whole = side(s.grid.rows) == Some(h) && side(s.grid.cols) == Some(w) && c == 3;
                unless(
                    s.preprocessing.resize >= s.preprocessing.size,
                    "resizes to less than it crops",
                )
                .or(unless(whole, "the canvas is not the grid's tiles in RGB"))
            }
            Step::Conv2d(s) => {
                let ([_, h, w, c], [_, oh, ow, oc]) = (shape(s.input), shape(s.output));
                let [kh, kw] = s.kernel;
                let out = [
                    windows(h, kh, s.stride, s.padding),
                    windows(w, kw, s.stride, s.padding),
                ];
                unless(
                    tensor(s.weight) == [oc, kh, kw, c],
                    "the weight is not (O, KH, KW, I)",
                )
                .or(unless(tensor(s.bias) == [oc], "the bias is not (O)"))
                .or(unless(
                    out == [Some(oh), Some(ow)],
                    "the output is not as many windows",
                ))
                .or(s
                    .residual
                    .and_then(|r| residual_mismatch(&r, shape(r.value), [oh, ow, oc])))
            }
            Step::MaxPool2d(s) => {
                let ([_, h, w, c], [_, oh, ow, oc]) = (shape(s.input), shape(s.output));
                let out = [h, w].map(|side| windows(side, s.kernel, s.stride, s.padding));
                unless(
                    s.padding <= s.kernel / 2,
                    "the padding is more than half the window",
                )
                .or(unless(
                    out == [Some(oh), Some(ow)] && c == oc,
                    "the output is not as many windows",
                ))
            }
            Step::AvgPool2d(s) => {
                let ([_, h, w, c], [_, oh, ow, oc]) = (shape(s.input), shape(s.output));
                let [kh, kw] = s.kernel;
                let covers = oh.checked_mul(kh) == Some(h) && ow.checked_mul(kw) == Some(w);
                unless(
                    covers && c == oc,
                    "the windows do not cover the input exactly",
                )
            }
            Step::Linear(s) => {
                let ([_, h, w, c], [_, oh, ow, oc]) = (shape(s.input), shape(s.output));
                unless(tensor(s.weight) == [oc, c], "the weight is not (O, I)")
                    .or(unless(tensor(s.bias) == [oc], "the bias is not (O)"))
                    .or(unless(
                        [h, w] == [oh, ow],
                        "the output is not a row for each of the input's",
                    ))
            }
            Step::TopK(s) => {
                let in_range = (1..=shape(s.input)[3]).contains(&s.k);
                let warm = s.temperature.is_finite() && s.temperature > 0.0;
                unless(in_range, "k is not 1 to the number of classes")
                    .or(unless(warm, "the temperature is not above 0"))
            }
        }
    }

    /// Follows what is in the arena: a step reads what is there, and its output takes the place of all it touches.
    fn check_memory(
        &self,
        at: usize,
        step: &Step,
        is_view: &[bool],
        there: &mut [bool],
    ) -> Result<(), PlanError> {
        if let Some(lost) = step.reads().find(|v| !there[v.0]) {
            return Err(PlanError::Lost {
                plan: self.name.clone(),
                step: at,
                value: lost.0,
            });
        }
        let Some(output) = step.writes() else {
            return Ok(());
        };
        let range = |v: &Value| v.offset..v.offset + v.len();
        let written = range(&self.values[output.0]);
        let touched = |v: &Value| range(v).start < written.end && written.start < range(v).end;
        let in_place = self.in_place(step);
        let over = step
            .reads()
            .find(|&v| touched(&self.values[v.0]) && Some(v) != in_place);
        if let Some(over) = over {
            return Err(PlanError::Overlap {
                plan: self.name.clone(),
                step: at,
                value: over.0,
            });
        }
        for ((there, &is_view), value) in there.iter_mut().zip(is_view).zip(&self.values) {
            *there &= !touched(value);
            *there |= is_view && range(value) == written;
        }
        there[output.0] = true;
        Ok(())
    }

    /// The shortcut that the step's output lies exactly on and may take the place of.
    fn in_place(&self, step: &Step) -> Option<ValueId> {
        let Step::Conv2d(conv) = step else {
            return None;
        };
        let Residual {
            value,
            stride,
            channel_offset,
        } = conv.residual?;
        let same = self.values[value.0] == self.values[conv.output.0];
        (same && stride == 1 && channel_offset == 0 && value != conv.input).then_some(value)
    }
}

/// How many windows fit along one side.
fn windows(side: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    let padded = padding.checked_mul(2)?.checked_add(side)?;
    // No window is empty.
    kernel.checked_sub(1)?;
    Some(padded.checked_sub(kernel)?.checked_div(stride)? + 1)
}

fn residual_mismatch(
    r: &Residual,
    [_, h, w, c]: [usize; 4],
    [oh, ow, oc]: [usize; 3],
) -> Option<&'static str> {
    let reads = |out: usize, side: usize| {
        (out - 1)
            .checked_mul(r.stride)
            .is_some_and(|last| last < side)
    };
    let fits = r.stride > 0
        && reads(oh, h)
        && reads(ow, w)
        && c.checked_add(r.channel_offset).is_some_and(|end| end <= oc);
    (!fits).then_some("the shortcut does not fit the output")
}
