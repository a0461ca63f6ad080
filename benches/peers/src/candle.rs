//! candle, on the CPU.

use candle_core::{D, Device, Tensor};
use collage::model::plan::{Activation, Plan, Residual, Step, ValueId};

use crate::cases::{Case, Data, takes_images};
use crate::peer::{Error, Loaded, Peer, Where, to_nchw};

/// candle on the CPU.
pub struct Candle;

impl Peer for Candle {
    fn name(&self) -> &'static str {
        "candle"
    }
    fn version(&self) -> String {
        crate::versions::of("candle-core")
    }
    fn runs_on(&self) -> Where {
        Where::Cpu
    }
    fn takes(&self, case: &Case) -> bool {
        takes_images(&case.plan).is_none()
    }
    fn load(&mut self, case: &Case) -> Result<Box<dyn Loaded>, Error> {
        let Data::Tensor(x) = &case.data else {
            return Err("candle cannot encode images".into());
        };
        let plan = &case.plan;
        let layers = plan
            .steps
            .iter()
            .map(|step| layer(plan, step))
            .collect::<Result<_, Error>>()?;
        let [n, h, w, c] = plan.values[0].shape;
        let input = to_nchw(x, [n, h, w, c]);
        Ok(Box::new(Network {
            layers,
            input,
            shape: [n, c, h, w],
            values: plan.values.len(),
        }))
    }
}

struct Layer {
    step: Step,
    /// (O, I, KH, KW), or (I, O) of a linear layer.
    weight: Option<Tensor>,
    /// (1, O, 1, 1), or (O) of a linear layer.
    bias: Option<Tensor>,
}

fn layer(plan: &Plan, step: &Step) -> Result<Layer, Error> {
    let data = |t: usize| plan.weights.tensors[t].data();
    let tensor = |x: &[f32], shape: &[usize]| Tensor::from_slice(x, shape, &Device::Cpu);
    let (weight, bias) = match *step {
        Step::Conv2d(s) => {
            let &[o, kh, kw, i] = plan.weights.tensors[s.weight.0].shape() else {
                unreachable!("four dimensions")
            };
            let weight = to_nchw(data(s.weight.0), [o, kh, kw, i]);
            (
                Some(tensor(&weight, &[o, i, kh, kw])?),
                Some(tensor(data(s.bias.0), &[1, o, 1, 1])?),
            )
        }
        Step::Linear(s) => {
            let &[o, i] = plan.weights.tensors[s.weight.0].shape() else {
                unreachable!("two dimensions")
            };
            let weight = to_nchw(data(s.weight.0), [1, o, 1, i]);
            (
                Some(tensor(&weight, &[i, o])?),
                Some(tensor(data(s.bias.0), &[o])?),
            )
        }
        _ => (None, None),
    };
    Ok(Layer {
        step: *step,
        weight,
        bias,
    })
}

struct Network {
    layers: Vec<Layer>,
    input: Vec<f32>,
    shape: [usize; 4],
    values: usize,
}

impl Loaded for Network {
    fn run(&mut self) -> Result<Vec<f32>, Error> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.values];
        let mut last = Tensor::from_slice(&self.input, &self.shape, &Device::Cpu)?;
        values[0] = Some(last.clone());
        for layer in &self.layers {
            last = run_layer(layer, &values)?;
            if let Some(id) = layer.step.writes() {
                values[id.0] = Some(last.clone());
            }
        }
        Ok(last.flatten_all()?.to_vec1::<f32>()?)
    }
}

fn run_layer(layer: &Layer, values: &[Option<Tensor>]) -> Result<Tensor, Error> {
    let get = |id: ValueId| {
        values[id.0]
            .as_ref()
            .ok_or("a value is read before it is written")
    };
    let parameters = || {
        layer
            .weight
            .as_ref()
            .zip(layer.bias.as_ref())
            .ok_or("a layer without its parameters")
    };
    Ok(match layer.step {
        Step::Conv2d(s) => {
            let (weight, bias) = parameters()?;
            let mut y = get(s.input)?
                .conv2d(weight, s.padding, s.stride, 1, 1)?
                .broadcast_add(bias)?;
            if let Some(r) = &s.residual {
                y = (&y + shortcut(get(r.value)?, r, y.dim(1)?)?)?;
            }
            if s.activation == Activation::Relu {
                y.relu()?
            } else {
                y
            }
        }
        // candle's pooling has no padding: zeros are the same, because these activations are not negative.
        Step::MaxPool2d(s) => {
            let x = get(s.input)?
                .pad_with_zeros(2, s.padding, s.padding)?
                .pad_with_zeros(3, s.padding, s.padding)?;
            x.max_pool2d_with_stride(s.kernel, s.stride)?
        }
        // Its general pooling is scalar code; where the window is the whole map a mean is the same and faster.
        Step::AvgPool2d(s) => {
            let x = get(s.input)?;
            let (_, _, h, w) = x.dims4()?;
            if s.kernel == [h, w] {
                x.mean_keepdim((2, 3))?
            } else {
                x.avg_pool2d((s.kernel[0], s.kernel[1]))?
            }
        }
        Step::Linear(s) => {
            let (weight, bias) = parameters()?;
            let x = get(s.input)?;
            let (n, i, h, w) = x.dims4()?;
            let rows = x.permute((0, 2, 3, 1))?.reshape((n * h * w, i))?;
            let y = rows.matmul(weight)?.broadcast_add(bias)?;
            y.reshape((n, h, w, ()))?.permute((0, 3, 1, 2))?
        }
        Step::TopK(s) => {
            let x = get(s.input)?.flatten_from(1)?;
            let e = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
            let scores = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
            scores.sort_last_dim(false)?.0.narrow(D::Minus1, 0, s.k)?
        }
        Step::Encode(_) => return Err("candle cannot encode images".into()),
    })
}

fn shortcut(x: &Tensor, r: &Residual, channels: usize) -> Result<Tensor, Error> {
    let (_, c, h, w) = x.dims4()?;
    let mut x = x.clone();
    if r.stride != 1 {
        let index = |side: usize| {
            let rows: Vec<u32> = (0..side as u32).step_by(r.stride).collect();
            Tensor::new(rows, &Device::Cpu)
        };
        x = x.index_select(&index(h)?, 2)?.index_select(&index(w)?, 3)?;
    }
    Ok(x.pad_with_zeros(1, r.channel_offset, channels - c - r.channel_offset)?)
}
