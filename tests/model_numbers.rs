//! Claims about values: a compiled plan computes what the file's layers say, batch normalisation unfolded.
//!
//! Two small programs are held against each other. `Interpreter` runs a plan step by step in one arena, so that a
//! wrong place, fold or layout shows. `Reference` walks the layer list over named tensors in the file's own layout and
//! in f64, knows no plan and no arena, and normalises as training does.

mod model_support;

use std::collections::BTreeMap;

use collage::model::compile::{PlanInput, PlanOptions, PlanOutput};
use collage::model::file::{Stored, View};
use collage::model::layer::{CANVAS, Layer};
use collage::model::metadata::{Architecture, CollageSpec};
use collage::model::plan::{Activation, Grid, Plan, Step, TensorId, ValueId};
use collage::model::resnet::{Block, HeadName, ResNet, ShortcutKind, Stage, Stem};
use collage::model::{Metadata, Model};
use model_support::*;

/// Runs a plan from tensor to logits, in f32 with f64 sums.
struct Interpreter<'a> {
    plan: &'a Plan,
    arena: Vec<f32>,
}

impl Interpreter<'_> {
    fn run(plan: &Plan, input: &[f32]) -> Vec<f32> {
        // Not zero, so that nothing relies on a clean arena.
        let mut this = Interpreter {
            plan,
            arena: vec![f32::NAN; plan.arena_len],
        };
        let at = plan.values[0].offset;
        this.arena[at..at + input.len()].copy_from_slice(input);
        plan.steps.iter().for_each(|step| this.step(step));
        let last = plan.values.last().unwrap();
        this.arena[last.offset..last.offset + last.len()].to_vec()
    }

    fn get(&self, v: ValueId, [n, y, x, c]: [usize; 4]) -> f64 {
        let value = &self.plan.values[v.0];
        let [_, h, w, k] = value.shape;
        f64::from(self.arena[value.offset + ((n * h + y) * w + x) * k + c])
    }

    fn weight(&self, t: TensorId, index: &[usize]) -> f64 {
        let tensor = &self.plan.weights.tensors[t.0];
        let flat = index
            .iter()
            .zip(tensor.shape())
            .fold(0, |flat, (&i, &d)| flat * d + i);
        f64::from(tensor.data()[flat])
    }

    fn step(&mut self, step: &Step) {
        let output = step.writes().unwrap();
        let value = self.plan.values[output.0];
        let [batch, h, w, c] = value.shape;
        let mut at = value.offset;
        for n in 0..batch {
            for y in 0..h {
                for x in 0..w {
                    // One pixel at a time: a whole pixel's channels are read before the first is written.
                    let pixel: Vec<f32> = (0..c)
                        .map(|k| self.element(step, [n, y, x, k]) as f32)
                        .collect();
                    self.arena[at..at + c].copy_from_slice(&pixel);
                    at += c;
                }
            }
        }
    }

    fn element(&self, step: &Step, [n, y, x, k]: [usize; 4]) -> f64 {
        match *step {
            Step::Conv2d(s) => {
                let [_, h, w, inputs] = self.plan.values[s.input.0].shape;
                let mut sum = self.weight(s.bias, &[k]);
                for (ky, kx) in window(s.kernel) {
                    let (iy, ix) = (y * s.stride + ky, x * s.stride + kx);
                    let inside = iy >= s.padding
                        && ix >= s.padding
                        && iy - s.padding < h
                        && ix - s.padding < w;
                    for i in (0..inputs).filter(|_| inside) {
                        let input = self.get(s.input, [n, iy - s.padding, ix - s.padding, i]);
                        sum += input * self.weight(s.weight, &[k, ky, kx, i]);
                    }
                }
                if let Some(r) = s.residual {
                    let channels = self.plan.values[r.value.0].shape[3];
                    if let Some(from) = k
                        .checked_sub(r.channel_offset)
                        .filter(|&from| from < channels)
                    {
                        sum += self.get(r.value, [n, y * r.stride, x * r.stride, from]);
                    }
                }
                if s.activation == Activation::Relu {
                    sum.max(0.0)
                } else {
                    sum
                }
            }
            Step::MaxPool2d(s) => {
                let [_, h, w, _] = self.plan.values[s.input.0].shape;
                let inside = window([s.kernel; 2]).filter_map(|(ky, kx)| {
                    let iy = (y * s.stride + ky)
                        .checked_sub(s.padding)
                        .filter(|&i| i < h)?;
                    let ix = (x * s.stride + kx)
                        .checked_sub(s.padding)
                        .filter(|&i| i < w)?;
                    Some(self.get(s.input, [n, iy, ix, k]))
                });
                inside.fold(f64::NEG_INFINITY, f64::max)
            }
            Step::AvgPool2d(s) => {
                let [kh, kw] = s.kernel;
                let sum: f64 = window(s.kernel)
                    .map(|(ky, kx)| self.get(s.input, [n, y * kh + ky, x * kw + kx, k]))
                    .sum();
                sum / (kh * kw) as f64
            }
            Step::Linear(s) => {
                let inputs = self.plan.values[s.input.0].shape[3];
                let product = |i| self.get(s.input, [n, y, x, i]) * self.weight(s.weight, &[k, i]);
                self.weight(s.bias, &[k]) + (0..inputs).map(product).sum::<f64>()
            }
            Step::Encode(_) | Step::TopK(_) => panic!("not between tensors"),
        }
    }
}

fn window([kh, kw]: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..kh).flat_map(move |y| (0..kw).map(move |x| (y, x)))
}

/// A map (C, H, W), as PyTorch has it.
#[derive(Clone)]
struct Map {
    shape: [usize; 3],
    data: Vec<f64>,
}

impl Map {
    fn make(shape: [usize; 3], f: impl Fn(usize, usize, usize) -> f64) -> Self {
        let [c, h, w] = shape;
        let f = &f;
        let data = (0..c)
            .flat_map(|k| (0..h).flat_map(move |y| (0..w).map(move |x| f(k, y, x))))
            .collect();
        Self { shape, data }
    }
    /// `outside` beyond the edges; coordinates are shifted by `padding`.
    fn get(&self, c: usize, y: usize, x: usize, padding: usize, outside: f64) -> f64 {
        let [_, h, w] = self.shape;
        match (y.checked_sub(padding), x.checked_sub(padding)) {
            (Some(y), Some(x)) if y < h && x < w => self.data[(c * h + y) * w + x],
            _ => outside,
        }
    }
}

/// Runs a file's layers on one canvas.
struct Reference {
    tensors: BTreeMap<String, Stored>,
}

impl Reference {
    fn tensor(&self, name: &str) -> Option<(Vec<f64>, Vec<usize>)> {
        let stored = self.tensors.get(name)?;
        let view = View {
            dtype: stored.dtype,
            shape: &stored.shape,
            bytes: &stored.bytes,
        };
        Some((
            view.to_f32()?.into_iter().map(f64::from).collect(),
            stored.shape.clone(),
        ))
    }

    fn norm(&self, norm: &str, map: Map) -> Map {
        let of = |field: &str| self.tensor(&format!("{norm}.{field}")).unwrap().0;
        let (gamma, beta, mean, var) = (
            of("weight"),
            of("bias"),
            of("running_mean"),
            of("running_var"),
        );
        Map::make(map.shape, |k, y, x| {
            (map.get(k, y, x, 0, 0.0) - mean[k]) / (var[k] + 1e-5).sqrt() * gamma[k] + beta[k]
        })
    }

    /// Logits, (rows, cols, classes).
    fn run(&self, layers: &[Layer], canvas: Map, grid: Grid) -> Vec<f64> {
        let mut maps = BTreeMap::from([(CANVAS.to_owned(), canvas)]);
        let mut previous = CANVAS.to_owned();
        for layer in layers {
            let input = |given: &Option<String>| maps[given.as_ref().unwrap_or(&previous)].clone();
            let out = match layer {
                Layer::Conv2d(l) => {
                    let x = input(&l.input);
                    let (weight, shape) = self.tensor(&format!("{}.weight", l.name)).unwrap();
                    let bias = self.tensor(&format!("{}.bias", l.name)).map(|b| b.0);
                    let [o, i, kh, kw] = shape[..] else {
                        panic!("not a convolution")
                    };
                    let side = |n: usize, k: usize| (n + 2 * l.padding - k) / l.stride + 1;
                    let mut out = Map::make(
                        [o, side(x.shape[1], kh), side(x.shape[2], kw)],
                        |k, y, z| {
                            let product = |(c, (ky, kx)): (usize, (usize, usize))| {
                                weight[((k * i + c) * kh + ky) * kw + kx]
                                    * x.get(c, y * l.stride + ky, z * l.stride + kx, l.padding, 0.0)
                            };
                            let products = (0..i)
                                .flat_map(|c| window([kh, kw]).map(move |at| (c, at)))
                                .map(product);
                            products.sum::<f64>() + bias.as_ref().map_or(0.0, |b| b[k])
                        },
                    );
                    if let Some(norm) = &l.norm {
                        out = self.norm(norm, out);
                    }
                    if let Some(r) = &l.residual {
                        let added = &maps[&r.layer];
                        out = Map::make(out.shape, |k, y, x| {
                            let from = k
                                .checked_sub(r.channel_offset)
                                .filter(|&c| c < added.shape[0]);
                            out.get(k, y, x, 0, 0.0)
                                + from.map_or(0.0, |c| {
                                    added.get(c, y * r.stride, x * r.stride, 0, f64::NAN)
                                })
                        });
                    }
                    if l.activation == Activation::Relu {
                        out.data.iter_mut().for_each(|v| *v = v.max(0.0));
                    }
                    out
                }
                Layer::MaxPool2d(l) => {
                    let x = input(&l.input);
                    let side = |n: usize| (n + 2 * l.padding - l.kernel) / l.stride + 1;
                    Map::make(
                        [x.shape[0], side(x.shape[1]), side(x.shape[2])],
                        |k, y, z| {
                            let at = |(ky, kx)| {
                                x.get(
                                    k,
                                    y * l.stride + ky,
                                    z * l.stride + kx,
                                    l.padding,
                                    f64::NEG_INFINITY,
                                )
                            };
                            window([l.kernel; 2])
                                .map(at)
                                .fold(f64::NEG_INFINITY, f64::max)
                        },
                    )
                }
                Layer::Linear(l) => return self.head(&l.name, &input(&l.input), grid),
            };
            previous = layer.name().to_owned();
            maps.insert(previous.clone(), out);
        }
        panic!("no head")
    }

    fn head(&self, name: &str, x: &Map, grid: Grid) -> Vec<f64> {
        let (weight, shape) = self.tensor(&format!("{name}.weight")).unwrap();
        let bias = self
            .tensor(&format!("{name}.bias"))
            .map_or(vec![0.0; shape[0]], |b| b.0);
        let [c, h, w] = x.shape;
        let (th, tw) = (h / grid.rows, w / grid.cols);
        let mut logits = Vec::new();
        for (r, q) in window([grid.rows, grid.cols]) {
            let mean = |k| {
                window([th, tw])
                    .map(|(y, z)| x.get(k, r * th + y, q * tw + z, 0, 0.0))
                    .sum::<f64>()
            };
            let pooled: Vec<f64> = (0..c).map(|k| mean(k) / (th * tw) as f64).collect();
            logits.extend(
                (0..shape[0])
                    .map(|o| bias[o] + (0..c).map(|k| weight[o * c + k] * pooled[k]).sum::<f64>()),
            );
        }
        logits
    }
}

/// Compares the two on a batch of two canvases.
fn assert_plan_computes_the_layers(metadata: &Metadata, stored: Vec<Stored>, grid: Grid) {
    let model = Model::from_bytes("test", &metadata.write(&stored).unwrap()).unwrap();
    let options = PlanOptions {
        batch: 2,
        grid,
        input: PlanInput::Tensor,
        output: PlanOutput::Logits,
        ..PlanOptions::default()
    };
    let plan = Plan::compile(&model, &options).unwrap();
    plan.check().unwrap();
    let [n, h, w, c] = plan.values[0].shape;
    let input: Vec<f32> = (0..n * h * w * c).map(|i| 2.0 * noise(i as u64)).collect();
    let found = Interpreter::run(&plan, &input);

    let reference = Reference {
        tensors: stored.into_iter().map(|t| (t.name.clone(), t)).collect(),
    };
    let layers = metadata.architecture.layers().unwrap();
    let expected: Vec<f64> = (0..n)
        .flat_map(|b| {
            let canvas = Map::make([c, h, w], |k, y, x| {
                f64::from(input[((b * h + y) * w + x) * c + k])
            });
            reference.run(&layers, canvas, grid)
        })
        .collect();
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(largest > 1e-3, "the network says nothing");
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (f64::from(*f) - e).abs() <= 2e-6 * largest,
            "logit {i}: {f}, expected {e} (largest {largest})"
        );
    }
}

#[test]
fn folded_plans_compute_what_the_layers_say() {
    for block in [Block::Basic, Block::Bottleneck] {
        for shortcut in [ShortcutKind::Pad, ShortcutKind::Projection] {
            for (max_pool, size) in [(true, 19), (false, 16)] {
                let described = metadata(small(block, shortcut, max_pool), size, 4, None);
                let stored = tensors(&described.architecture, 4);
                assert_plan_computes_the_layers(&described, stored, Grid::ONE);
            }
        }
    }
}

#[test]
fn collage_plans_compute_each_tiles_logits() {
    let spec = CollageSpec {
        stride: 2,
        grids: grids("3x3"),
    };
    let described = metadata(
        small(Block::Basic, ShortcutKind::Projection, false),
        6,
        3,
        Some(spec),
    );
    for grid in grids("1x1,2x2,1x3,3x2") {
        assert_plan_computes_the_layers(&described, tensors(&described.architecture, 3), grid);
    }
}

#[test]
fn option_a_widens_by_an_odd_number_of_channels() {
    let architecture = Architecture::ResNet(ResNet {
        block: Block::Basic,
        stem: Stem {
            channels: 5,
            kernel: 5,
            stride: 1,
            max_pool: false,
        },
        stages: vec![
            Stage {
                blocks: 1,
                channels: 8,
                stride: 2,
            },
            Stage {
                blocks: 1,
                channels: 8,
                stride: 2,
            },
        ],
        shortcut: ShortcutKind::Pad,
        head: HeadName::Linear,
    });
    let described = metadata(architecture, 13, 2, None);
    assert_plan_computes_the_layers(&described, tensors(&described.architecture, 2), Grid::ONE);
}

#[test]
fn layer_lists_compute_with_biases_branches_and_odd_windows() {
    let layers = r#"[
        {"op": "conv2d", "name": "a", "channels": 6, "kernel": 3, "stride": 1, "padding": 2, "activation": "relu"},
        {"op": "conv2d", "name": "b", "input": "input", "norm": "b_norm", "channels": 4, "kernel": 1, "padding": 0},
        {"op": "max_pool2d", "name": "c", "kernel": 2, "stride": 1, "input": "b"},
        {"op": "conv2d", "name": "d", "channels": 6, "kernel": 3, "padding": 2, "input": "b", "norm": "d_norm",
         "residual": {"layer": "a"}},
        {"op": "conv2d", "name": "e", "channels": 6, "kernel": 2, "padding": 0, "stride": 2, "norm": "e_norm",
         "activation": "relu", "residual": {"layer": "c", "stride": 2, "channel_offset": 1}},
        {"op": "linear", "name": "classes"}]"#;
    let architecture = layer_list(layers);
    let mut described = metadata(architecture, 11, 3, None);
    let mut stored = tensors(&described.architecture, 3);
    for (name, channels) in [("a", 6), ("e", 6)] {
        let name = format!("{name}.bias");
        stored.push(Stored::f32(&name, &[channels], &values(&name, &[channels])));
    }
    // d adds a, both 13 wide; e halves d, 13 to 6, and c, 10 to 5: one cell too few.
    let message = Model::from_bytes("x", &described.write(&stored).unwrap())
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "x: layer e: shortcut c, (H, W, C) (5, 5, 5), does not fit output (6, 6, 6)"
    );
    // Padding c by one on each side makes it 12, and so 6.
    described.architecture = layer_list(&layers.replace(
        r#""stride": 1, "input": "b""#,
        r#""stride": 1, "padding": 1, "input": "b""#,
    ));
    assert_plan_computes_the_layers(&described, stored, Grid::ONE);
}

#[test]
fn half_precision_files_hold_what_they_round_to() {
    let described = metadata(small(Block::Basic, ShortcutKind::Pad, false), 8, 3, None);
    let full = tensors(&described.architecture, 3);
    let rounded = |make: fn(&str, &[usize], &[f32]) -> Stored| -> Vec<Stored> {
        full.iter()
            .map(|t| make(&t.name, &t.shape, &values(&t.name, &t.shape)))
            .collect()
    };
    // The reference reads the same rounded values; what is tested is that both formats are read at all, and right.
    assert_plan_computes_the_layers(
        &described,
        rounded(|n, s, v| Stored::f16(n, s, v)),
        Grid::ONE,
    );
    assert_plan_computes_the_layers(
        &described,
        rounded(|n, s, v| Stored::bf16(n, s, v)),
        Grid::ONE,
    );
}

#[test]
fn a_shortcut_that_is_read_again_or_narrower_or_the_input_keeps_its_place() {
    let layers = r#"[
        {"op": "conv2d", "name": "a", "channels": 4, "kernel": 3, "padding": 1, "activation": "relu"},
        {"op": "conv2d", "name": "b", "channels": 4, "kernel": 3, "padding": 1, "residual": {"layer": "a"}},
        {"op": "conv2d", "name": "c", "channels": 4, "kernel": 3, "padding": 1, "residual": {"layer": "a"}},
        {"op": "conv2d", "name": "d", "channels": 4, "kernel": 3, "padding": 1, "residual": {"layer": "a"}},
        {"op": "conv2d", "name": "e", "channels": 6, "kernel": 3, "padding": 1, "residual": {"layer": "c"}},
        {"op": "conv2d", "name": "f", "channels": 6, "kernel": 1, "residual": {"layer": "e"}},
        {"op": "linear", "name": "fc"}]"#;
    let described = metadata(layer_list(layers), 7, 3, None);
    let stored = tensors(&described.architecture, 3);
    assert_plan_computes_the_layers(&described, stored, Grid::ONE);
}
