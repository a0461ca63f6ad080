//! From a container's tensors to the network's parameters: every tensor that the layers name, in the expected shape,
//! finite, with batch normalisation folded into the convolution before it and channels moved last.

use std::collections::BTreeSet;

use super::error::Fault;
use super::file::Container;
use super::layer::{
    ConvLayer, Graph, Head, Layer, LinearLayer, Network, Node, NodeOp, PoolLayer, ResidualSource,
    Source,
};
use super::plan::{TensorId, Weights};
use super::shape::Shape;
use crate::tensor::Tensor;

/// PyTorch's default, which all the families were trained with.
const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Of a batch normalisation, each (O): gamma, beta and the running statistics.
const NORM_FIELDS: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// Counts a training step that inference has no use for; the only tensor that may be left over.
const IGNORED_SUFFIX: &str = ".num_batches_tracked";

/// Builds the network of `layers` from the tensors of `container`, which must hold all that they name and no other.
pub fn load(container: &Container<'_>, layers: &[Layer]) -> Result<(Network, Weights), Fault> {
    let graph = Graph::resolve(layers)?;
    let mut loader = Loader {
        container,
        taken: BTreeSet::new(),
        tensors: Vec::new(),
    };
    let mut channels = vec![3]; // Of each source; the canvas is RGB.
    let mut trunk = Vec::with_capacity(graph.trunk.len());
    for &(layer, input, residual) in &graph.trunk {
        let (node, outputs) = match layer {
            Layer::Conv2d(conv) => loader.conv(conv, input, residual, channels[input])?,
            Layer::MaxPool2d(pool) => (max_pool(pool, input)?, channels[input]),
            Layer::Linear(head) => {
                return Err(Fault::HeadMisplaced {
                    layer: head.name.clone(),
                });
            }
        };
        channels.push(outputs);
        trunk.push(node);
    }
    let (head, input) = graph.head;
    let head = loader.head(head, input, channels[input])?;
    loader.check_all_taken()?;
    Ok((
        Network { trunk, head },
        Weights {
            tensors: loader.tensors,
        },
    ))
}

/// A tensor that a file must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// In the file's order: (O, I, KH, KW), (O, I) or (O).
    pub shape: Vec<usize>,
}

/// Every tensor that [`load`] asks a file of `layers` for: what to train, export or make up. `None` where a layer
/// leaves its channels or kernel to the file.
pub fn wanted(layers: &[Layer], classes: usize) -> Result<Option<Vec<Wanted>>, Fault> {
    let graph = Graph::resolve(layers)?;
    let mut channels = vec![3];
    let mut tensors = Vec::new();
    let mut want = |name: String, shape: Vec<usize>| tensors.push(Wanted { name, shape });
    for &(layer, input, _) in &graph.trunk {
        let Layer::Conv2d(conv) = layer else {
            channels.push(channels[input]);
            continue;
        };
        let (Some(outputs), Some(kernel)) = (conv.channels, conv.kernel) else {
            return Ok(None);
        };
        want(
            format!("{}.weight", conv.name),
            vec![outputs, channels[input], kernel, kernel],
        );
        let norm = conv
            .norm
            .iter()
            .flat_map(|norm| NORM_FIELDS.map(|f| format!("{norm}.{f}")));
        norm.for_each(|name| want(name, vec![outputs]));
        channels.push(outputs);
    }
    let (head, input) = graph.head;
    want(
        format!("{}.weight", head.name),
        vec![classes, channels[input]],
    );
    want(format!("{}.bias", head.name), vec![classes]);
    Ok(Some(tensors))
}

fn max_pool(pool: &PoolLayer, input: Source) -> Result<Node, Fault> {
    let &PoolLayer {
        ref name,
        kernel,
        stride,
        padding,
        ..
    } = pool;
    check_value(name, "kernel", kernel, "1 or more", kernel > 0)?;
    check_value(name, "stride", stride, "1 or more", stride > 0)?;
    check_value(
        name,
        "padding",
        padding,
        "half the kernel at most",
        padding <= kernel / 2,
    )?;
    Ok(Node {
        name: name.clone(),
        input,
        op: NodeOp::MaxPool2d {
            kernel,
            stride,
            padding,
        },
        params: 0,
    })
}

fn check_value(
    layer: &str,
    field: &'static str,
    found: usize,
    expected: &'static str,
    holds: bool,
) -> Result<(), Fault> {
    if holds {
        Ok(())
    } else {
        Err(Fault::LayerValue {
            layer: layer.to_owned(),
            field,
            found,
            expected,
        })
    }
}

struct Loader<'a> {
    container: &'a Container<'a>,
    taken: BTreeSet<String>,
    tensors: Vec<Tensor>,
}

impl Loader<'_> {
    fn conv(
        &mut self,
        layer: &ConvLayer,
        input: Source,
        residual: Option<Source>,
        inputs: usize,
    ) -> Result<(Node, usize), Fault> {
        let expected = [layer.channels, Some(inputs), layer.kernel, layer.kernel];
        let raw = self.take(format!("{}.weight", layer.name), &expected)?;
        let [channels, _, kh, kw] = raw.shape;
        let window = kh.min(kw);
        check_value(
            &layer.name,
            "stride",
            layer.stride,
            "1 or more",
            layer.stride > 0,
        )?;
        check_value(
            &layer.name,
            "padding",
            layer.padding,
            "less than the kernel",
            layer.padding < window,
        )?;
        let bias = self.take_optional(format!("{}.bias", layer.name), channels)?;
        let mut params = (raw.data.len() + bias.as_ref().map_or(0, Vec::len)) as u64;
        let mut affine = Affine::bias(bias, channels);
        if let Some(norm) = &layer.norm {
            affine = self.fold(&layer.name, norm, affine)?;
            params += 2 * channels as u64;
        }
        let weight = affine.scaled_channels_last(&raw);
        if let Some(at) = weight.iter().position(|w| !w.is_finite()) {
            let norm = layer.norm.clone().unwrap_or_default();
            return Err(Fault::FoldOverflow {
                layer: layer.name.clone(),
                norm,
                channel: at * channels / weight.len(),
            });
        }
        let bias = affine.shift.iter().map(|&b| b as f32).collect();
        let op = NodeOp::Conv2d {
            weight: self.push(vec![channels, kh, kw, inputs], weight),
            bias: self.push(vec![channels], bias),
            channels,
            kernel: [kh, kw],
            stride: layer.stride,
            padding: layer.padding,
            activation: layer.activation,
            residual: match (&layer.residual, residual) {
                (Some(r), Some(source)) => {
                    check_value(
                        &layer.name,
                        "residual.stride",
                        r.stride,
                        "1 or more",
                        r.stride > 0,
                    )?;
                    Some(ResidualSource {
                        source,
                        stride: r.stride,
                        channel_offset: r.channel_offset,
                    })
                }
                _ => None,
            },
        };
        Ok((
            Node {
                name: layer.name.clone(),
                input,
                op,
                params,
            },
            channels,
        ))
    }

    fn head(&mut self, layer: &LinearLayer, input: Source, inputs: usize) -> Result<Head, Fault> {
        let raw = self.take(format!("{}.weight", layer.name), &[None, Some(inputs)])?;
        let [classes, _] = raw.shape;
        let bias = self.take_optional(format!("{}.bias", layer.name), classes)?;
        let params = (raw.data.len() + bias.as_ref().map_or(0, Vec::len)) as u64;
        let weight = self.push(raw.shape.to_vec(), raw.data);
        let bias = self.push(vec![classes], bias.unwrap_or_else(|| vec![0.0; classes]));
        Ok(Head {
            name: layer.name.clone(),
            input,
            weight,
            bias,
            classes,
            params,
        })
    }

    /// Batch normalisation after `before`, as one affine map of each channel:
    /// (x - mean) / sqrt(var + eps) * gamma + beta.
    fn fold(&mut self, layer: &str, norm: &str, before: Affine) -> Result<Affine, Fault> {
        let channels = before.shift.len();
        let mut of = |field: usize| {
            let tensor = format!("{norm}.{}", NORM_FIELDS[field]);
            self.take(tensor, &[Some(channels)]).map(|raw| raw.data)
        };
        let (gamma, beta, mean, variance) = (of(0)?, of(1)?, of(2)?, of(3)?);
        if let Some(index) = variance.iter().position(|&v| v < 0.0) {
            let tensor = format!("{norm}.running_var");
            return Err(Fault::NegativeVariance {
                tensor,
                index,
                value: variance[index],
            });
        }
        let mut folded = Affine {
            scale: Vec::with_capacity(channels),
            shift: Vec::with_capacity(channels),
        };
        for k in 0..channels {
            let scale = f64::from(gamma[k]) / (f64::from(variance[k]) + BATCH_NORM_EPSILON).sqrt();
            let shift = (before.shift[k] - f64::from(mean[k])) * scale + f64::from(beta[k]);
            if !(shift as f32).is_finite() {
                return Err(Fault::FoldOverflow {
                    layer: layer.to_owned(),
                    norm: norm.to_owned(),
                    channel: k,
                });
            }
            folded.scale.push(scale);
            folded.shift.push(shift);
        }
        Ok(folded)
    }

    /// The tensor of that name, its shape checked (`None` is any size from 1 up) and its elements finite.
    fn take<const N: usize>(
        &mut self,
        name: String,
        expected: &[Option<usize>; N],
    ) -> Result<Raw<N>, Fault> {
        let Some(view) = self.container.tensor(&name) else {
            return Err(Fault::MissingTensor {
                tensor: name,
                expected: Shape(expected.to_vec()),
            });
        };
        let fits = |shape: &[usize; N]| {
            shape
                .iter()
                .zip(expected)
                .all(|(&d, e)| d > 0 && e.is_none_or(|e| e == d))
        };
        let shape = <[usize; N]>::try_from(view.shape).ok().filter(fits);
        let Some(shape) = shape else {
            let (found, expected) = (view.shape.into(), Shape(expected.to_vec()));
            return Err(Fault::WrongShape {
                tensor: name,
                found,
                expected,
            });
        };
        let Some(data) = view.to_f32() else {
            let dtype = view.dtype.to_string();
            return Err(Fault::UnsupportedDType {
                tensor: name,
                dtype,
                expected: "F32, F16 or BF16",
            });
        };
        if let Some(index) = data.iter().position(|v| !v.is_finite()) {
            return Err(Fault::NotFinite {
                tensor: name,
                index,
                value: data[index],
            });
        }
        self.taken.insert(name);
        Ok(Raw { shape, data })
    }

    fn take_optional(&mut self, name: String, channels: usize) -> Result<Option<Vec<f32>>, Fault> {
        if self.container.tensor(&name).is_none() {
            return Ok(None);
        }
        self.take(name, &[Some(channels)]).map(|raw| Some(raw.data))
    }

    /// `data` was made to be as long as `shape` says.
    fn push(&mut self, shape: Vec<usize>, data: Vec<f32>) -> TensorId {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        self.tensors.extend(Tensor::new(shape, data));
        TensorId(self.tensors.len() - 1)
    }

    fn check_all_taken(&self) -> Result<(), Fault> {
        let extra = |name: &&str| !self.taken.contains(*name) && !name.ends_with(IGNORED_SUFFIX);
        let mut tensors: Vec<String> = self
            .container
            .names()
            .filter(extra)
            .map(str::to_owned)
            .collect();
        if tensors.is_empty() {
            return Ok(());
        }
        if tensors.len() > 8 {
            tensors.truncate(8);
            tensors.push("...".to_owned());
        }
        Err(Fault::ExtraTensors { tensors })
    }
}

/// A tensor in the file's order.
struct Raw<const N: usize> {
    shape: [usize; N],
    data: Vec<f32>,
}

/// What follows a convolution: each output channel times its scale, plus its shift. Kept in f64 and rounded once, so
/// that folding costs no accuracy.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    fn bias(bias: Option<Vec<f32>>, channels: usize) -> Self {
        let shift = bias.map_or_else(
            || vec![0.0; channels],
            |b| b.into_iter().map(f64::from).collect(),
        );
        Self {
            scale: vec![1.0; channels],
            shift,
        }
    }

    /// (O, I, KH, KW) times scale (O), as (O, KH, KW, I).
    fn scaled_channels_last(&self, raw: &Raw<4>) -> Vec<f32> {
        let [_, inputs, kh, kw] = raw.shape;
        let window = kh * kw;
        let mut out = Vec::with_capacity(raw.data.len());
        for (filter, &scale) in raw.data.chunks_exact(inputs * window).zip(&self.scale) {
            for at in 0..window {
                out.extend(
                    filter[at..]
                        .iter()
                        .step_by(window)
                        .map(|&w| (f64::from(w) * scale) as f32),
                );
            }
        }
        out
    }
}
