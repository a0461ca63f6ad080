//! `--explain`: what runs each layer, without running it.

use collage::backend::{BackendError, Choice};
use collage::model::plan::Plan;
use collage::model::summary::Summary;
use collage::tensor::DType;
use serde::Serialize;

use super::networks::Network;
use crate::cli::failure::Failure;
use crate::cli::text::table;

/// One plan's choices.
#[derive(Debug, Serialize)]
pub struct Explained {
    pub network: String,
    pub dtype: String,
    pub batch: usize,
    pub layers: Vec<Layer>,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct Layer {
    pub name: String,
    pub op: &'static str,
    /// N, H, W, C; of `encode`, which reads images, null.
    pub input: Option<[usize; 4]>,
    pub output: [usize; 4],
    pub kernel: Option<[usize; 2]>,
    pub stride: Option<usize>,
    /// What runs it, by its one name.
    pub by: String,
    /// What else was chosen.
    pub detail: String,
}

/// Asks `explain`, a device's or a described one's, for each layer of the network.
pub fn explain(
    network: &Network,
    batch: usize,
    dtype: DType,
    explain: &dyn Fn(&Plan) -> Result<Vec<Choice>, BackendError>,
) -> Result<Explained, Failure> {
    let options = network.options(batch, dtype);
    let plan = Plan::compile(&network.model, &options)?;
    let choices = explain(&plan)?;
    let layers = Summary::new(&network.model, &options)?.layers.into_iter();
    let layer = |(step, layer): (usize, collage::model::summary::LayerSummary)| {
        let of_step = || choices.iter().filter(move |c| c.step == step);
        let joined = |part: fn(&Choice) -> &str| {
            let parts: Vec<&str> = of_step().map(part).filter(|p| !p.is_empty()).collect();
            parts.join(", ")
        };
        Layer {
            name: layer.name,
            op: layer.op,
            input: layer.input,
            output: layer.output,
            kernel: layer.kernel,
            stride: layer.stride,
            by: joined(|c| &c.kernel),
            detail: joined(|c| &c.detail),
        }
    };
    Ok(Explained {
        network: network.name.clone(),
        dtype: dtype.to_string(),
        batch,
        layers: layers.enumerate().map(layer).collect(),
    })
}

/// For people.
pub fn text(explained: &[Explained]) -> String {
    let mut text = String::new();
    for plan in explained {
        let head = ["layer", "output N,H,W,C", "window", "runs by", ""];
        let mut rows = vec![head.map(String::from)];
        for layer in &plan.layers {
            let window = match (layer.kernel, layer.stride) {
                (Some([h, w]), Some(stride)) if stride > 1 => format!("{h}x{w} /{stride}"),
                (Some([h, w]), _) => format!("{h}x{w}"),
                (None, _) => String::new(),
            };
            rows.push([
                layer.name.clone(),
                layer.output.map(|n| n.to_string()).join("x"),
                window,
                layer.by.clone(),
                layer.detail.clone(),
            ]);
        }
        let Explained {
            network,
            dtype,
            batch,
            ..
        } = plan;
        text += &format!("{network}, {dtype}, batch {batch}\n{}\n", table(&rows, 5));
    }
    text
}
