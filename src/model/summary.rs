//! What `collage inspect` shows: each step of a plan with its shapes, work and parameters, and the totals.

use serde::Serialize;

use super::compile::PlanOptions;
use super::metadata::Kind;
use super::plan::{Grid, Plan, Step, Value, ValueId};
use super::{Metadata, Model, ModelError};

/// A model and one of its plans, in numbers. Shapes are (N, H, W, C).
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What the model says of itself; class names and checksum included.
    pub metadata: Metadata,
    /// The model's file.
    pub file: String,
    /// Base or collage.
    pub kind: Kind,
    /// Of the plan.
    pub grid: Grid,
    /// Canvases a run.
    pub batch: usize,
    /// `f32`, `f16` or `bf16`.
    pub dtype: String,
    /// One row a step.
    pub layers: Vec<LayerSummary>,
    /// Multiply-accumulates of one run.
    pub macs: u64,
    /// Learnable parameters in the file, batch normalisation's included: the published count.
    pub params: u64,
    /// Parameters on the device, batch normalisation folded.
    pub weight_bytes: u64,
    /// Activations on the device.
    pub arena_bytes: u64,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct LayerSummary {
    /// As in the file; the op's name for steps that the file does not name.
    pub name: String,
    /// `conv2d`, ...
    pub op: &'static str,
    /// What it reads; `None` for `encode`, which reads images.
    pub input: Option<[usize; 4]>,
    /// What it writes; for `top_k`, k results a row.
    pub output: [usize; 4],
    /// Sides of the window.
    pub kernel: Option<[usize; 2]>,
    /// Of the window.
    pub stride: Option<usize>,
    /// The shortcut that it adds.
    pub residual: Option<String>,
    /// Multiply-accumulates of one run.
    pub macs: u64,
    /// Learnable parameters in the file.
    pub params: u64,
}

impl Summary {
    /// Describes `model` and the plan that it compiles to.
    pub fn new(model: &Model, options: &PlanOptions) -> Result<Self, ModelError> {
        let plan = &Plan::compile(model, options)?;
        let layers: Vec<LayerSummary> = plan
            .steps
            .iter()
            .map(|step| layer(model, plan, step))
            .collect();
        let elements: usize = plan.weights.tensors.iter().map(|t| t.data().len()).sum();
        Ok(Self {
            metadata: model.metadata().clone(),
            file: model.file().to_owned(),
            kind: model.kind(),
            grid: options.grid,
            batch: plan.batch,
            dtype: plan.dtype.to_string(),
            macs: layers.iter().fold(0, |sum, l| sum.saturating_add(l.macs)),
            params: layers.iter().map(|l| l.params).sum(),
            layers,
            weight_bytes: (elements * plan.dtype.bytes()) as u64,
            arena_bytes: plan.arena_bytes() as u64,
        })
    }
}

fn layer(model: &Model, plan: &Plan, step: &Step) -> LayerSummary {
    let network = model.network();
    let shape = |v: ValueId| plan.values.get(v.0).map_or([0; 4], |v: &Value| v.shape);
    let input = step.reads().next().map(shape);
    // The compiler numbers a node's output one above the node.
    let node_of = |v: ValueId| v.0.checked_sub(1).and_then(|i| network.trunk.get(i));
    let node = step.writes().and_then(node_of);
    let (kernel, stride, residual) = match step {
        Step::Conv2d(s) => (
            Some(s.kernel),
            Some(s.stride),
            s.residual.and_then(|r| node_of(r.value)),
        ),
        Step::MaxPool2d(s) => (Some([s.kernel; 2]), Some(s.stride), None),
        Step::AvgPool2d(s) => (Some(s.kernel), None, None),
        _ => (None, None, None),
    };
    let (name, params) = match (step, node) {
        (Step::Linear(_), _) => (network.head.name.clone(), network.head.params),
        (_, Some(node)) => (node.name.clone(), node.params),
        _ => (step.op().to_owned(), 0),
    };
    let output = match step {
        Step::TopK(s) => input.map_or([0; 4], |[n, h, w, _]| [n, h, w, s.k]),
        other => other.writes().map_or([0; 4], shape),
    };
    let residual = residual.map(|node| node.name.clone());
    LayerSummary {
        name,
        op: step.op(),
        input,
        output,
        kernel,
        stride,
        residual,
        macs: plan.macs(step),
        params,
    }
}
