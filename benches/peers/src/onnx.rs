//! A plan as an ONNX file, for the runtimes that read one. The protobuf is written by hand: a dozen fields need no
//! code generator.
//!
//! ONNX is (N, C, H, W), so weights are transposed here. Opset 10 is the newest in which `Pad` and `Slice` still have
//! attributes, which the oldest of the runtimes needs. Batch normalisation is folded before it comes here, as the
//! better runtimes would do themselves: every runtime starts from the same sums.

use collage::model::plan::{Activation, Conv2d, Linear, Plan, Residual, Step, ValueId};

use crate::peer::to_nchw;

/// How option A's shortcut is written where it changes the channels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shortcut {
    /// A 1x1 maximum that subsamples, and `Pad`.
    Pad,
    /// A 1x1 convolution with ones in the right places; for wonnx, whose `Pad` computes where the end padding starts
    /// wrongly, and whose `Concat` is wrong in batches. It adds less than a hundredth of the work.
    Convolution,
}

/// The file's bytes. Input `x`, output `y`; of `top_k`, the scores.
pub fn write(plan: &Plan, shortcut: Shortcut) -> Vec<u8> {
    let mut graph = Graph {
        plan,
        shortcut,
        nodes: vec![],
        initializers: vec![],
        infos: vec![],
    };
    for (i, step) in plan.steps.iter().enumerate() {
        let last = i + 1 == plan.steps.len();
        graph.step(step, last);
    }
    graph.model()
}

struct Graph<'a> {
    plan: &'a Plan,
    shortcut: Shortcut,
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    /// The shape of every intermediate value; wonnx cannot infer them.
    infos: Vec<Message>,
}

impl Graph<'_> {
    fn name(&self, value: ValueId) -> String {
        if value.0 == 0 {
            "x".into()
        } else {
            format!("v{}", value.0)
        }
    }

    /// (N, C, H, W).
    fn shape(&self, value: ValueId) -> [usize; 4] {
        let [n, h, w, c] = self.plan.values[value.0].shape;
        [n, c, h, w]
    }

    /// A new intermediate value.
    fn fresh(&mut self, shape: &[usize]) -> String {
        let name = format!("t{}", self.infos.len());
        self.infos.push(value_info(&name, shape));
        name
    }

    fn step(&mut self, step: &Step, last: bool) {
        let output = match step.writes() {
            Some(value) if !last => {
                let info = value_info(&self.name(value), &self.shape(value));
                self.infos.push(info);
                self.name(value)
            }
            _ => "y".to_owned(),
        };
        match step {
            Step::Encode(_) => unreachable!("cases that begin with encode have no ONNX form"),
            Step::Conv2d(s) => self.conv2d(s, output),
            Step::MaxPool2d(s) => {
                let attributes = window([s.kernel; 2], s.stride, s.padding);
                self.node("MaxPool", &[&self.name(s.input)], &[&output], attributes);
            }
            Step::AvgPool2d(s) => {
                let [_, h, w, _] = self.plan.values[s.input.0].shape;
                let input = self.name(s.input);
                if s.kernel == [h, w] {
                    self.node("GlobalAveragePool", &[&input], &[&output], vec![]);
                } else {
                    let attributes =
                        vec![ints("kernel_shape", &s.kernel), ints("strides", &s.kernel)];
                    self.node("AveragePool", &[&input], &[&output], attributes);
                }
            }
            Step::Linear(s) => self.linear(s, output),
            Step::TopK(s) => {
                let rows = [self.shape(s.input)[0], self.shape(s.input)[1]];
                let (flat, scores) = (self.fresh(&rows), self.fresh(&rows));
                self.node(
                    "Flatten",
                    &[&self.name(s.input)],
                    &[&flat],
                    vec![int("axis", 1)],
                );
                self.node("Softmax", &[&flat], &[&scores], vec![int("axis", 1)]);
                let k = self.integers(&[s.k as i64]);
                self.node(
                    "TopK",
                    &[&scores, &k],
                    &[&output, "classes"],
                    vec![int("axis", 1)],
                );
            }
        }
    }

    fn conv2d(&mut self, s: &Conv2d, output: String) {
        let weight = &self.plan.weights.tensors[s.weight.0];
        let &[o, kh, kw, i] = weight.shape() else {
            unreachable!("conv2d weights have four dimensions")
        };
        let data = to_nchw(weight.data(), [o, kh, kw, i]);
        let weight = self.floats(&[o, i, kh, kw], &data);
        let bias = self.floats(&[o], self.plan.weights.tensors[s.bias.0].data());
        let relu = s.activation == Activation::Relu;
        let shape = self.shape(s.output);
        let sum = if relu {
            self.fresh(&shape)
        } else {
            output.clone()
        };
        let product = if s.residual.is_some() {
            self.fresh(&shape)
        } else {
            sum.clone()
        };
        let attributes = window(s.kernel, s.stride, s.padding);
        self.node(
            "Conv",
            &[&self.name(s.input), &weight, &bias],
            &[&product],
            attributes,
        );
        if let Some(residual) = &s.residual {
            let shortcut = self.shortcut(residual, shape);
            self.node("Add", &[&product, &shortcut], &[&sum], vec![]);
        }
        if relu {
            self.node("Relu", &[&sum], &[&output], vec![]);
        }
    }

    /// The residual in the shape of the output: subsampled, and with zero channels on both sides.
    fn shortcut(&mut self, r: &Residual, [n, channels, h, w]: [usize; 4]) -> String {
        let mut value = self.name(r.value);
        let inputs = self.shape(r.value)[1];
        let (before, after) = (r.channel_offset, channels - inputs - r.channel_offset);
        if r.stride == 1 && before + after == 0 {
            return value;
        }
        let whole = [n, channels, h, w];
        if self.shortcut == Shortcut::Convolution {
            let mut ones = vec![0.0; channels * inputs];
            (0..inputs).for_each(|i| ones[(before + i) * inputs + i] = 1.0);
            let weight = self.floats(&[channels, inputs, 1, 1], &ones);
            let bias = self.floats(&[channels], &vec![0.0; channels]);
            let output = self.fresh(&whole);
            let attributes = window([1; 2], r.stride, 0);
            self.node("Conv", &[&value, &weight, &bias], &[&output], attributes);
            return output;
        }
        if r.stride != 1 {
            let sampled = self.fresh(&[n, inputs, h, w]);
            self.node(
                "MaxPool",
                &[&value],
                &[&sampled],
                window([1; 2], r.stride, 0),
            );
            value = sampled;
        }
        if before + after == 0 {
            return value;
        }
        let padded = self.fresh(&whole);
        let pads = ints("pads", &[0, before, 0, 0, 0, after, 0, 0]);
        self.node("Pad", &[&value], &[&padded], vec![pads]);
        padded
    }

    /// `Gemm` where there is one cell, else the same as a 1x1 convolution.
    fn linear(&mut self, s: &Linear, output: String) {
        let weight = &self.plan.weights.tensors[s.weight.0];
        let &[o, i] = weight.shape() else {
            unreachable!("linear weights have two dimensions")
        };
        let bias = self.floats(&[o], self.plan.weights.tensors[s.bias.0].data());
        let [_, _, h, w] = self.shape(s.input);
        let input = self.name(s.input);
        if h * w > 1 {
            let weight = self.floats(&[o, i, 1, 1], weight.data());
            self.node(
                "Conv",
                &[&input, &weight, &bias],
                &[&output],
                window([1; 2], 1, 0),
            );
        } else {
            let weight = self.floats(&[i, o], &to_nchw(weight.data(), [1, o, 1, i]));
            let flat = self.fresh(&[self.shape(s.input)[0], i]);
            self.node("Flatten", &[&input], &[&flat], vec![int("axis", 1)]);
            self.node("Gemm", &[&flat, &weight, &bias], &[&output], vec![]);
        }
    }

    fn node(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Message>) {
        let mut node = Message::default();
        inputs.iter().for_each(|name| node.text(1, name));
        outputs.iter().for_each(|name| node.text(2, name));
        node.text(3, &format!("n{}", self.nodes.len()));
        node.text(4, op);
        attributes.iter().for_each(|a| node.message(5, a));
        self.nodes.push(node);
    }

    fn floats(&mut self, shape: &[usize], data: &[f32]) -> String {
        self.initializer(
            shape,
            FLOAT,
            data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    fn integers(&mut self, data: &[i64]) -> String {
        self.initializer(
            &[data.len()],
            INT64,
            data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    fn initializer(&mut self, shape: &[usize], data_type: u64, raw: Vec<u8>) -> String {
        let name = format!("w{}", self.initializers.len());
        let mut tensor = Message::default();
        shape.iter().for_each(|&d| tensor.varint(1, d as u64));
        tensor.varint(2, data_type);
        tensor.text(8, &name);
        tensor.bytes(9, &raw);
        self.initializers.push(tensor);
        name
    }

    fn model(self) -> Vec<u8> {
        let mut graph = Message::default();
        self.nodes.iter().for_each(|n| graph.message(1, n));
        graph.text(2, &self.plan.name);
        self.initializers.iter().for_each(|t| graph.message(5, t));
        graph.message(11, &value_info("x", &self.shape(ValueId(0))));
        graph.message(12, &value_info("y", &self.output_shape()));
        self.infos.iter().for_each(|info| graph.message(13, info));
        let mut opset = Message::default();
        opset.varint(2, 10);
        let mut model = Message::default();
        model.varint(1, 5); // ir_version of opset 10
        model.text(2, "collage-peers");
        model.message(7, &graph);
        model.message(8, &opset);
        model.0
    }

    fn output_shape(&self) -> Vec<usize> {
        match self.plan.steps.last() {
            Some(Step::TopK(s)) => vec![self.shape(s.input)[0], s.k],
            Some(Step::Linear(s)) if self.shape(s.output)[2..] == [1, 1] => {
                self.shape(s.output)[..2].to_vec()
            }
            Some(step) => step.writes().map_or(vec![], |v| self.shape(v).to_vec()),
            None => vec![],
        }
    }
}

const FLOAT: u64 = 1;
const INT64: u64 = 7;

fn value_info(name: &str, shape: &[usize]) -> Message {
    let mut dims = Message::default();
    for &d in shape {
        let mut dim = Message::default();
        dim.varint(1, d as u64);
        dims.message(1, &dim);
    }
    let mut tensor = Message::default();
    tensor.varint(1, FLOAT);
    tensor.message(2, &dims);
    let mut kind = Message::default();
    kind.message(1, &tensor);
    let mut info = Message::default();
    info.text(1, name);
    info.message(2, &kind);
    info
}

fn window(kernel: [usize; 2], stride: usize, padding: usize) -> Vec<Message> {
    vec![
        ints("kernel_shape", &kernel),
        ints("strides", &[stride; 2]),
        ints("pads", &[padding; 4]),
    ]
}

fn int(name: &str, value: usize) -> Message {
    let mut a = Message::default();
    a.text(1, name);
    a.varint(3, value as u64);
    a.varint(20, 2); // AttributeProto.INT
    a
}

fn ints(name: &str, values: &[usize]) -> Message {
    let mut a = Message::default();
    a.text(1, name);
    values.iter().for_each(|&v| a.varint(8, v as u64));
    a.varint(20, 7); // AttributeProto.INTS
    a
}

/// A protobuf message under construction: fields in the order in which they are added.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
    fn varint(&mut self, field: u64, value: u64) {
        self.raw_varint(field << 3);
        self.raw_varint(value);
    }
    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.raw_varint(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }
    fn text(&mut self, field: u64, value: &str) {
        self.bytes(field, value.as_bytes());
    }
    fn message(&mut self, field: u64, value: &Message) {
        self.bytes(field, &value.0);
    }
}
