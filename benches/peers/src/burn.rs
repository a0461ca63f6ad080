//! burn, on its wgpu backend (with fusion and autotuning, as its own defaults are) and on flex, its CPU backend.

use burn::tensor::activation::{relu, softmax};
use burn::tensor::module::{avg_pool2d, conv2d, linear, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions, PadMode};
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use collage::model::plan::{Activation, Plan, Residual, Step};

use crate::cases::{Case, Data, takes_images};
use crate::peer::{Error, Loaded, Peer, Where, to_nchw};

/// burn on one of its devices.
pub struct Burn {
    name: &'static str,
    device: Device,
    runs_on: Where,
}

impl Burn {
    /// On the adapter that it picks by itself.
    pub fn wgpu() -> Burn {
        Burn {
            name: "burn-wgpu",
            device: Device::wgpu(DeviceKind::DefaultDevice),
            runs_on: Where::Wgpu,
        }
    }
    /// On the CPU.
    pub fn flex() -> Burn {
        Burn {
            name: "burn-flex",
            device: Device::flex(),
            runs_on: Where::Cpu,
        }
    }
}

impl Peer for Burn {
    fn name(&self) -> &'static str {
        self.name
    }
    fn version(&self) -> String {
        crate::versions::of("burn")
    }
    fn runs_on(&self) -> Where {
        self.runs_on
    }
    fn takes(&self, case: &Case) -> bool {
        takes_images(&case.plan).is_none()
    }
    fn load(&mut self, case: &Case) -> Result<Box<dyn Loaded>, Error> {
        let Data::Tensor(x) = &case.data else {
            return Err("burn cannot encode images".into());
        };
        let plan = &case.plan;
        let [n, h, w, c] = plan.values[0].shape;
        let layers = plan
            .steps
            .iter()
            .map(|step| self.layer(plan, step))
            .collect();
        let input = TensorData::new(to_nchw(x, [n, h, w, c]), [n, c, h, w]);
        Ok(Box::new(Network {
            layers,
            input,
            device: self.device.clone(),
            values: plan.values.len(),
        }))
    }
}

impl Burn {
    fn layer(&self, plan: &Plan, step: &Step) -> Layer {
        let data = |t: usize| plan.weights.tensors[t].data().to_vec();
        let vector =
            |t: usize| Tensor::from_data(TensorData::new(data(t), [data(t).len()]), &self.device);
        let (weight, bias) = match *step {
            Step::Conv2d(s) => {
                let &[o, kh, kw, i] = plan.weights.tensors[s.weight.0].shape() else {
                    unreachable!("four dimensions")
                };
                let weight = to_nchw(&data(s.weight.0), [o, kh, kw, i]);
                (
                    Some(Weight::Conv(Tensor::from_data(
                        TensorData::new(weight, [o, i, kh, kw]),
                        &self.device,
                    ))),
                    Some(vector(s.bias.0)),
                )
            }
            Step::Linear(s) => {
                let &[o, i] = plan.weights.tensors[s.weight.0].shape() else {
                    unreachable!("two dimensions")
                };
                let weight = to_nchw(&data(s.weight.0), [1, o, 1, i]); // burn's is (I, O)
                (
                    Some(Weight::Linear(Tensor::from_data(
                        TensorData::new(weight, [i, o]),
                        &self.device,
                    ))),
                    Some(vector(s.bias.0)),
                )
            }
            _ => (None, None),
        };
        Layer {
            step: *step,
            weight,
            bias,
        }
    }
}

enum Weight {
    Conv(Tensor<4>),
    Linear(Tensor<2>),
}

struct Layer {
    step: Step,
    weight: Option<Weight>,
    bias: Option<Tensor<1>>,
}

struct Network {
    layers: Vec<Layer>,
    input: TensorData,
    device: Device,
    values: usize,
}

impl Loaded for Network {
    fn run(&mut self) -> Result<Vec<f32>, Error> {
        let mut values: Vec<Option<Tensor<4>>> = vec![None; self.values];
        values[0] = Some(Tensor::from_data(self.input.clone(), &self.device));
        let mut last = values[0].clone();
        for layer in &self.layers {
            let get = |id: collage::model::plan::ValueId| {
                values[id.0]
                    .clone()
                    .ok_or("a value is read before it is written")
            };
            let y = match layer.step {
                Step::Conv2d(s) => {
                    let Some(Weight::Conv(weight)) = &layer.weight else {
                        unreachable!("a convolution has a weight")
                    };
                    let options = ConvOptions::new([s.stride; 2], [s.padding; 2], [1; 2], 1);
                    let mut y = conv2d(get(s.input)?, weight.clone(), layer.bias.clone(), options);
                    if let Some(r) = &s.residual {
                        let channels = y.dims()[1];
                        y = y + shortcut(get(r.value)?, r, channels);
                    }
                    if s.activation == Activation::Relu {
                        relu(y)
                    } else {
                        y
                    }
                }
                Step::MaxPool2d(s) => {
                    let options = MaxPoolOptions::new([s.kernel; 2])
                        .with_stride([s.stride; 2])
                        .with_padding([s.padding; 2]);
                    max_pool2d(get(s.input)?, options)
                }
                Step::AvgPool2d(s) => avg_pool2d(get(s.input)?, AvgPoolOptions::new(s.kernel)),
                Step::Linear(s) => {
                    let Some(Weight::Linear(weight)) = &layer.weight else {
                        unreachable!("a linear layer has a weight")
                    };
                    let x = get(s.input)?.permute([0, 2, 3, 1]);
                    linear(x, weight.clone(), layer.bias.clone()).permute([0, 3, 1, 2])
                }
                Step::TopK(s) => softmax(get(s.input)?, 1).topk_with_indices(s.k, 1).0,
                Step::Encode(_) => return Err("burn cannot encode images".into()),
            };
            if let Some(id) = layer.step.writes() {
                values[id.0] = Some(y.clone());
            }
            last = Some(y);
        }
        let data = last
            .ok_or("the plan has no step")?
            .try_into_data()
            .map_err(|e| format!("{e:?}"))?;
        Ok(data.try_into_vec::<f32>().map_err(|e| format!("{e:?}"))?)
    }
}

fn shortcut(x: Tensor<4>, r: &Residual, channels: usize) -> Tensor<4> {
    let [_, c, h, w] = x.dims();
    let x = if r.stride == 1 {
        x
    } else {
        let step = r.stride as isize;
        use burn::tensor::Slice;
        x.slice([
            Slice::full(),
            Slice::full(),
            Slice::new(0, Some(h as isize), step),
            Slice::new(0, Some(w as isize), step),
        ])
    };
    if c == channels {
        return x;
    }
    x.pad(
        [
            (0, 0),
            (r.channel_offset, channels - c - r.channel_offset),
            (0, 0),
            (0, 0),
        ],
        PadMode::Constant(0.0),
    )
}
