//! Cases: from tests/cases/ops.toml to plans and inputs, all made from a hash of the case's name.

use std::sync::Arc;

use collage::image::Image;
use collage::model::plan::*;
use collage::tensor::{DType, Tensor};
use serde::Deserialize;

/// One row of the table; each op reads its own fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    #[serde(default = "one")]
    pub batch: usize,
    #[serde(default)]
    pub input: [usize; 3],
    #[serde(default)]
    pub out: usize,
    pub kernel: Option<toml::Value>,
    pub stride: Option<usize>,
    pub padding: Option<usize>,
    #[serde(default)]
    pub activation: String,
    #[serde(default)]
    pub residual: String,
    #[serde(default = "one")]
    pub residual_stride: usize,
    #[serde(default)]
    pub channel_offset: usize,
    #[serde(default)]
    pub values: String,
    #[serde(default = "one")]
    pub k: usize,
    pub temperature: Option<f32>,
    #[serde(default)]
    pub images: Vec<[usize; 2]>,
    pub grid: Option<[usize; 2]>,
    #[serde(default)]
    pub resize: usize,
    #[serde(default)]
    pub size: usize,
    #[serde(default)]
    pub filter: String,
    #[serde(default)]
    pub content: String,
    #[serde(default)]
    pub channels: usize,
    #[serde(default)]
    pub classes: usize,
    pub f32: Option<f32>,
    pub f16: Option<f32>,
    pub bf16: Option<f32>,
}

fn one() -> usize {
    1
}

#[derive(Debug, Deserialize)]
pub struct Tolerance {
    pub f32: f32,
    pub f16: f32,
    pub bf16: f32,
}

/// The file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    tolerance: std::collections::BTreeMap<String, Tolerance>,
    conv2d: Vec<Row>,
    max_pool2d: Vec<Row>,
    avg_pool2d: Vec<Row>,
    linear: Vec<Row>,
    top_k: Vec<Row>,
    encode: Vec<Row>,
    chain: Vec<Row>,
}

/// A plan of few steps and what it is run on. Tolerances are relative to the largest expected magnitude.
pub struct Case {
    pub op: &'static str,
    pub name: String,
    pub plan: Plan,
    pub input: CaseInput,
    /// Another input of the same plan: run first, so that an element left unwritten shows its value.
    pub poison: CaseInput,
    pub f32: f32,
    pub f16: f32,
    pub bf16: f32,
}

pub enum CaseInput {
    Images(Vec<Image>),
    Tensor(Vec<f32>),
}

impl Case {
    pub fn tolerance(&self, dtype: DType) -> f32 {
        match dtype {
            DType::F32 => self.f32,
            DType::F16 => self.f16,
            DType::Bf16 => self.bf16,
        }
    }
    /// The plan and the input, each weight and element as `dtype` stores it.
    pub fn stored(&self, dtype: DType) -> (Plan, CaseInput) {
        let rounded = |data: &[f32]| data.iter().map(|x| dtype.rounded(*x)).collect::<Vec<f32>>();
        let tensor = |t: &Tensor| {
            Tensor::new(t.shape(), rounded(t.data())).expect("the length is the shape's product")
        };
        let tensors = self.plan.weights.tensors.iter().map(tensor).collect();
        let plan = Plan {
            weights: Arc::new(Weights { tensors }),
            ..self.plan.clone()
        };
        let input = match &self.input {
            CaseInput::Images(images) => CaseInput::Images(images.clone()),
            CaseInput::Tensor(data) => CaseInput::Tensor(rounded(data)),
        };
        (plan, input)
    }
    pub fn plan(&self, dtype: DType) -> Arc<Plan> {
        Arc::new(Plan {
            dtype,
            ..self.plan.clone()
        })
    }
}

/// Every case of tests/cases/ops.toml.
pub fn all() -> Vec<Case> {
    let table: Table =
        toml::from_str(include_str!("../cases/ops.toml")).expect("tests/cases/ops.toml");
    type Build = fn(&Row, u64, &mut Builder);
    let ops: [(&'static str, &[Row], Build); 7] = [
        ("conv2d", &table.conv2d, conv2d),
        ("max_pool2d", &table.max_pool2d, max_pool2d),
        ("avg_pool2d", &table.avg_pool2d, avg_pool2d),
        ("linear", &table.linear, linear),
        ("top_k", &table.top_k, top_k),
        ("encode", &table.encode, encode),
        ("chain", &table.chain, chain),
    ];
    let mut cases = Vec::new();
    for (op, rows, build) in ops {
        let default = &table.tolerance[op];
        for row in rows {
            let seed = row
                .name
                .bytes()
                .fold(op.len() as u64, |h, b| mix(h ^ u64::from(b)));
            let mut b = Builder {
                batch: row.batch,
                ..Builder::default()
            };
            build(row, seed, &mut b);
            let plan = b.plan(&row.name);
            cases.push(Case {
                op,
                name: row.name.clone(),
                input: input(row, &plan, seed ^ 1, row.images.len()),
                poison: input(row, &plan, seed ^ 2, plan.capacity()),
                plan,
                f32: row.f32.unwrap_or(default.f32),
                f16: row.f16.unwrap_or(default.f16),
                bf16: row.bf16.unwrap_or(default.bf16),
            });
        }
    }
    cases
}

/// splitmix64's finaliser.
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Evenly in -1..1.
pub fn signed(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| (mix(mix(seed) ^ i) >> 40) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

/// `content` "noise", "grey" (equal channels) or "smooth" (a gradient with little noise).
pub fn image(width: usize, height: usize, content: &str, seed: u64) -> Image {
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let channel = if content == "grey" { 0 } else { c };
                let noise = mix(seed ^ ((y * width + x) * 3 + channel) as u64) as u8;
                pixels.push(match content {
                    "smooth" => ((x * 190 / width + y * 50 / height) + c * 5) as u8 + noise % 4,
                    _ => noise,
                });
            }
        }
    }
    Image::from_rgb(width, height, pixels).expect("sides of a case are positive")
}

fn input(row: &Row, plan: &Plan, seed: u64, images: usize) -> CaseInput {
    if row.images.is_empty() {
        let len = plan.values[0].len();
        let data = signed(seed, len);
        return CaseInput::Tensor(match row.values.as_str() {
            "negative" => data.iter().map(|x| -1.5 - x).collect(),
            "ties" => data.iter().map(|x| (x * 3.0).round()).collect(),
            "large" => data.iter().map(|x| x * 1e4).collect(),
            _ if matches!(plan.steps[0], Step::TopK(_)) => data.iter().map(|x| x * 8.0).collect(),
            _ => data,
        });
    }
    let sizes = row.images.iter().cycle().take(images);
    CaseInput::Images(
        sizes
            .zip(0..)
            .map(|(&[w, h], i)| image(w, h, &row.content, mix(seed ^ i)))
            .collect(),
    )
}

/// Puts a plan together, every value in a place of its own.
#[derive(Default)]
struct Builder {
    batch: usize,
    values: Vec<Value>,
    tensors: Vec<Tensor>,
    steps: Vec<Step>,
    arena_len: usize,
}

impl Builder {
    fn value(&mut self, [h, w, c]: [usize; 3]) -> ValueId {
        let value = Value {
            shape: [self.batch, h, w, c],
            offset: self.arena_len,
        };
        self.arena_len += value.len().next_multiple_of(ARENA_ALIGN);
        self.values.push(value);
        ValueId(self.values.len() - 1)
    }
    fn shape(&self, id: ValueId) -> [usize; 3] {
        let [_, h, w, c] = self.values[id.0].shape;
        [h, w, c]
    }
    /// Weights whose products keep the size of what they multiply.
    fn tensor(&mut self, shape: &[usize], seed: u64) -> TensorId {
        let fan_in: usize = shape[1..].iter().product();
        let data = signed(seed, shape.iter().product())
            .iter()
            .map(|x| x * (3.0 / fan_in as f32).sqrt())
            .collect();
        self.tensors
            .push(Tensor::new(shape, data).expect("the lengths agree"));
        TensorId(self.tensors.len() - 1)
    }
    fn conv(&mut self, c: &Conv2dShape, input: ValueId, seed: u64) -> ValueId {
        let [h, w, channels] = self.shape(input);
        let out = |len: usize, kernel: usize| (len + 2 * c.padding - kernel) / c.stride + 1;
        let output = self.value([out(h, c.kernel[0]), out(w, c.kernel[1]), c.out]);
        let weight = self.tensor(&[c.out, c.kernel[0], c.kernel[1], channels], mix(seed));
        let bias = self.tensor(&[c.out], mix(seed ^ 9));
        self.steps.push(Step::Conv2d(Conv2d {
            input,
            output,
            weight,
            bias,
            kernel: c.kernel,
            stride: c.stride,
            padding: c.padding,
            residual: None,
            activation: c.activation,
        }));
        output
    }
    fn linear(&mut self, input: ValueId, out: usize, seed: u64) -> ValueId {
        let [h, w, i] = self.shape(input);
        let output = self.value([h, w, out]);
        let (weight, bias) = (
            self.tensor(&[out, i], mix(seed)),
            self.tensor(&[out], mix(seed ^ 9)),
        );
        self.steps.push(Step::Linear(Linear {
            input,
            output,
            weight,
            bias,
        }));
        output
    }
    fn avg_pool(&mut self, input: ValueId, kernel: [usize; 2]) -> ValueId {
        let [h, w, c] = self.shape(input);
        let output = self.value([h / kernel[0], w / kernel[1], c]);
        self.steps.push(Step::AvgPool2d(AvgPool2d {
            input,
            output,
            kernel,
        }));
        output
    }
    fn encode(&mut self, row: &Row) -> ValueId {
        let grid = row
            .grid
            .map_or(Grid::ONE, |[rows, cols]| Grid { rows, cols });
        let output = self.value([grid.rows * row.size, grid.cols * row.size, 3]);
        let filter = if row.filter == "bicubic" {
            Filter::Bicubic
        } else {
            Filter::Bilinear
        };
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let preprocessing = Preprocessing {
            resize: row.resize,
            size: row.size,
            filter,
            mean,
            std,
        };
        self.steps.push(Step::Encode(Encode {
            output,
            preprocessing,
            grid,
        }));
        output
    }
    fn plan(self, name: &str) -> Plan {
        Plan {
            name: name.into(),
            batch: self.batch,
            dtype: DType::F32,
            weights: Arc::new(Weights {
                tensors: self.tensors,
            }),
            values: self.values,
            steps: self.steps,
            arena_len: self.arena_len,
        }
    }
}

struct Conv2dShape {
    out: usize,
    kernel: [usize; 2],
    stride: usize,
    padding: usize,
    activation: Activation,
}

fn pair(value: &Option<toml::Value>, default: usize) -> [usize; 2] {
    value
        .clone()
        .map_or([default; 2], |v| v.try_into().expect("a pair"))
}

fn conv2d(row: &Row, seed: u64, b: &mut Builder) {
    let input = b.value(row.input);
    let shape = Conv2dShape {
        out: row.out,
        kernel: pair(&row.kernel, 3),
        stride: row.stride.unwrap_or(1),
        padding: row.padding.unwrap_or(usize::from(row.kernel.is_none())),
        activation: if row.activation == "relu" {
            Activation::Relu
        } else {
            Activation::None
        },
    };
    let shortcut = (row.residual == "in_place").then(|| {
        // Pointwise, so that it has the main convolution's output shape; both are subsampled alike.
        assert!(
            shape.stride == 1 && 2 * shape.padding + 1 == shape.kernel[0],
            "{}: not in place",
            row.name
        );
        let point = Conv2dShape {
            kernel: [1, 1],
            padding: 0,
            activation: Activation::None,
            ..shape
        };
        b.conv(&point, input, seed ^ 5)
    });
    let output = b.conv(&shape, input, seed);
    let residual = match row.residual.as_str() {
        "" => None,
        "input" => Some(Residual {
            value: input,
            stride: row.residual_stride,
            channel_offset: row.channel_offset,
        }),
        "in_place" => {
            let value = shortcut.expect("made above");
            b.values[output.0] = b.values[value.0];
            Some(Residual {
                value,
                stride: 1,
                channel_offset: 0,
            })
        }
        other => panic!("{}: residual {other}", row.name),
    };
    if let Some(Step::Conv2d(conv)) = b.steps.last_mut() {
        conv.residual = residual;
    }
}

fn max_pool2d(row: &Row, _: u64, b: &mut Builder) {
    let kernel: usize = row
        .kernel
        .clone()
        .expect("kernel")
        .try_into()
        .expect("one side");
    let (stride, padding) = (row.stride.expect("stride"), row.padding.expect("padding"));
    let input = b.value(row.input);
    let out = |len: usize| (len + 2 * padding - kernel) / stride + 1;
    let [h, w, c] = row.input;
    let output = b.value([out(h), out(w), c]);
    b.steps.push(Step::MaxPool2d(MaxPool2d {
        input,
        output,
        kernel,
        stride,
        padding,
    }));
}

fn avg_pool2d(row: &Row, _: u64, b: &mut Builder) {
    let input = b.value(row.input);
    b.avg_pool(input, pair(&row.kernel, 1));
}

fn linear(row: &Row, seed: u64, b: &mut Builder) {
    let input = b.value(row.input);
    b.linear(input, row.out, seed);
}

fn top_k(row: &Row, _: u64, b: &mut Builder) {
    let input = b.value(row.input);
    b.steps.push(Step::TopK(TopK {
        input,
        k: row.k,
        temperature: row.temperature.unwrap_or(1.0),
    }));
}

fn encode(row: &Row, _: u64, b: &mut Builder) {
    b.encode(row);
}

fn chain(row: &Row, seed: u64, b: &mut Builder) {
    let canvas = b.encode(row);
    let activation = Activation::Relu;
    let shape = Conv2dShape {
        out: row.channels,
        kernel: [3, 3],
        stride: 1,
        padding: 1,
        activation,
    };
    let features = b.conv(&shape, canvas, seed);
    let pooled = b.avg_pool(features, [row.size; 2]);
    let input = b.linear(pooled, row.classes, seed ^ 3);
    b.steps.push(Step::TopK(TopK {
        input,
        k: row.k,
        temperature: 1.0,
    }));
}
