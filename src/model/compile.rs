//! The plan compiler: a model, a batch and a grid become a flat list of fused steps whose values share one arena.

use super::arena::{self, Block};
use super::collage;
use super::error::{Fault, ModelError};
use super::layer::{Node, NodeOp};
use super::metadata::Kind;
use super::plan::{
    ARENA_ALIGN, AvgPool2d, Conv2d, Encode, Grid, Linear, MaxPool2d, Plan, Residual, Step, TopK,
    Value, ValueId,
};
use super::{GRID_LIMIT, Model};
use crate::tensor::DType;

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanOptions {
    /// Canvases a run, 1 or more.
    pub batch: usize,
    /// Tiles a canvas; 1x1 for a base model.
    pub grid: Grid,
    /// On the device.
    pub dtype: DType,
    /// What a run is given.
    pub input: PlanInput,
    /// What a run gives back.
    pub output: PlanOutput,
}

impl Default for PlanOptions {
    /// One canvas of one tile in f32, from an image to its best class.
    fn default() -> Self {
        Self {
            batch: 1,
            grid: Grid::ONE,
            dtype: DType::F32,
            input: PlanInput::Images,
            output: PlanOutput::TopK(1),
        }
    }
}

/// What a run is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlanInput {
    /// Decoded images: the plan begins with `encode`.
    Images,
    /// The canvases, (N, rows * size, cols * size, 3), normalised: value 0.
    Tensor,
    /// So many decoded images a canvas, whose mean after normalisation it is: the query of a parity model. The plan
    /// begins with `encode` and an `avg_pool2d` over them. 1 to [`MEAN_LIMIT`], for 1x1 only.
    Mean(usize),
}

/// Most images of a [`PlanInput::Mean`]: of more, nobody would know any of them again.
pub const MEAN_LIMIT: usize = 16;

/// What a run gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlanOutput {
    /// The k best classes and their probabilities, 1 to all: the plan ends with `top_k`.
    TopK(usize),
    /// The head's output, (N, rows, cols, classes).
    Logits,
}

impl Plan {
    /// Compiles `model` for one batch size and grid. Plans of one model share its weights.
    pub fn compile(model: &Model, options: &PlanOptions) -> Result<Plan, ModelError> {
        compile(model, options).map_err(|fault| fault.in_file(model.file()))
    }
}

fn compile(model: &Model, options: &PlanOptions) -> Result<Plan, Fault> {
    check(model, options)?;
    let &PlanOptions {
        batch, grid, dtype, ..
    } = options;
    let size = model.preprocessing().size;
    // Both sides are small: SIDE_LIMIT times GRID_LIMIT.
    let (height, width) = (grid.rows * size, grid.cols * size);
    let too_large = || Fault::PlanTooLarge {
        batch,
        height,
        width,
    };

    let mut shapes: Vec<[usize; 4]> = model
        .network()
        .shapes(height, width)?
        .into_iter()
        .map(|[h, w, c]| [batch, h, w, c])
        .collect();
    let [_, h, w, c] = shapes[model.network().head.input];
    shapes.push([batch, grid.rows, grid.cols, c]);
    shapes.push([batch, grid.rows, grid.cols, model.network().head.classes]);
    let mut steps = steps(model, options, [h / grid.rows, w / grid.cols]);
    let mut views = Vec::new();
    if let PlanInput::Mean(images) = options.input {
        let query = Query::new(&mut shapes, size, images);
        views.extend(query.views());
        steps.splice(0..0, query.steps(model));
    }

    let lens: Option<Vec<usize>> = shapes.iter().map(aligned_len).collect();
    let blocks = Blocks::of(&steps, &shapes, &lens.ok_or_else(too_large)?, &views);
    let (offsets, arena_len) = arena::place(&blocks.blocks).ok_or_else(too_large)?;
    // What a Rust allocation may have at most, so that no backend's arithmetic on the arena overflows either.
    let arena_bytes = arena_len
        .checked_mul(dtype.bytes())
        .filter(|&bytes| isize::try_from(bytes).is_ok());
    arena_bytes.ok_or_else(too_large)?;
    let place = |(shape, &block): (&[usize; 4], &usize)| Value {
        shape: *shape,
        offset: offsets[block],
    };
    Ok(Plan {
        name: model.name().to_owned(),
        batch,
        dtype,
        weights: model.weights().clone(),
        values: shapes.iter().zip(&blocks.of_value).map(place).collect(),
        steps,
        arena_len,
    })
}

fn check(model: &Model, options: &PlanOptions) -> Result<(), Fault> {
    let &PlanOptions {
        batch,
        grid,
        output,
        ..
    } = options;
    if batch == 0 {
        return Err(Fault::EmptyBatch);
    }
    if !model.takes(grid) || grid.rows > GRID_LIMIT || grid.cols > GRID_LIMIT {
        let trained: Vec<String> = collage::widest(model.grids())
            .iter()
            .map(Grid::to_string)
            .collect();
        let takes = match model.kind() {
            Kind::Base => "1x1, being a base model".to_owned(),
            Kind::Collage => format!("any grid that fits into {}", trained.join(" or ")),
        };
        return Err(Fault::GridNotTaken { grid, takes });
    }
    if let PlanInput::Mean(images) = options.input
        && (!(1..=MEAN_LIMIT).contains(&images) || grid != Grid::ONE)
    {
        return Err(Fault::MeanNotTaken { images, grid });
    }
    let classes = model.network().head.classes;
    match output {
        PlanOutput::TopK(k) if k == 0 || k > classes => {
            return Err(Fault::TopOutOfRange { k, classes });
        }
        _ => {}
    }
    match options.dtype {
        DType::F16 | DType::Bf16 => check_range(model, options.dtype),
        DType::F32 => Ok(()),
    }
}

/// Folding can leave parameters, of channels that are almost dead, that f16 would turn into infinities.
fn check_range(model: &Model, dtype: DType) -> Result<(), Fault> {
    let network = model.network();
    let trunk = network.trunk.iter().filter_map(|node| match node.op {
        NodeOp::Conv2d { weight, bias, .. } => Some((&node.name, [weight, bias])),
        NodeOp::MaxPool2d { .. } => None,
    });
    let head = (&network.head.name, [network.head.weight, network.head.bias]);
    for (layer, tensors) in trunk.chain([head]) {
        for tensor in tensors.map(|t| &model.weights().tensors[t.0]) {
            let beyond = |v: &&f32| v.abs() > dtype.largest();
            if let Some(&value) = tensor.data().iter().find(beyond) {
                return Err(Fault::BeyondDType {
                    dtype,
                    layer: layer.clone(),
                    value,
                });
            }
        }
    }
    Ok(())
}

/// Value i + 1 is the output of trunk node i, value 0 the canvas; pooled tiles and logits come last.
fn steps(model: &Model, options: &PlanOptions, cells: [usize; 2]) -> Vec<Step> {
    let network = model.network();
    let (pooled, logits) = (
        ValueId(network.trunk.len() + 1),
        ValueId(network.trunk.len() + 2),
    );
    let mut steps = Vec::with_capacity(network.trunk.len() + 4);
    if options.input == PlanInput::Images {
        let preprocessing = *model.preprocessing();
        steps.push(Step::Encode(Encode {
            output: ValueId(0),
            preprocessing,
            grid: options.grid,
        }));
    }
    steps.extend(
        network
            .trunk
            .iter()
            .enumerate()
            .map(|(i, node)| trunk_step(node, ValueId(i + 1))),
    );
    let head = &network.head;
    steps.push(Step::AvgPool2d(AvgPool2d {
        input: ValueId(head.input),
        output: pooled,
        kernel: cells,
    }));
    steps.push(Step::Linear(Linear {
        input: pooled,
        output: logits,
        weight: head.weight,
        bias: head.bias,
    }));
    if let PlanOutput::TopK(k) = options.output {
        steps.push(Step::TopK(TopK {
            input: logits,
            k,
            temperature: model.metadata().temperature,
        }));
    }
    steps
}

/// The values by which a parity model's canvas is made of several images, after those of the network.
///
/// K tiles below each other, (N, K * size, size, 3), lie in memory as K rows of one pixel whose channels are a line of
/// a tile, (N, K, size, size * 3). Their mean over K is an ordinary `avg_pool2d`, and its output, (N, 1, size, size * 3),
/// lies as the canvas does: value 0, (N, size, size, 3). So both are views, and no backend needs another op.
struct Query {
    images: usize,
    tiles: ValueId,
    lines: ValueId,
    mean: ValueId,
}

impl Query {
    fn new(shapes: &mut Vec<[usize; 4]>, size: usize, images: usize) -> Self {
        let batch = shapes[0][0];
        let first = shapes.len();
        let line = size * 3;
        shapes.push([batch, images * size, size, 3]);
        shapes.push([batch, images, size, line]);
        shapes.push([batch, 1, size, line]);
        let [tiles, lines, mean] = [0, 1, 2].map(|i| ValueId(first + i));
        Self {
            images,
            tiles,
            lines,
            mean,
        }
    }

    /// Each view, and whose memory it is.
    fn views(&self) -> [(ValueId, ValueId); 2] {
        [(self.lines, self.tiles), (ValueId(0), self.mean)]
    }

    fn steps(&self, model: &Model) -> [Step; 2] {
        let encode = Encode {
            output: self.tiles,
            preprocessing: *model.preprocessing(),
            grid: Grid {
                rows: self.images,
                cols: 1,
            },
        };
        let mean = AvgPool2d {
            input: self.lines,
            output: self.mean,
            kernel: [self.images, 1],
        };
        [Step::Encode(encode), Step::AvgPool2d(mean)]
    }
}

fn trunk_step(node: &Node, output: ValueId) -> Step {
    let input = ValueId(node.input);
    match node.op {
        NodeOp::Conv2d {
            weight,
            bias,
            kernel,
            stride,
            padding,
            activation,
            residual,
            ..
        } => {
            let residual = residual.map(|r| Residual {
                value: ValueId(r.source),
                stride: r.stride,
                channel_offset: r.channel_offset,
            });
            Step::Conv2d(Conv2d {
                input,
                output,
                weight,
                bias,
                kernel,
                stride,
                padding,
                residual,
                activation,
            })
        }
        NodeOp::MaxPool2d {
            kernel,
            stride,
            padding,
        } => Step::MaxPool2d(MaxPool2d {
            input,
            output,
            kernel,
            stride,
            padding,
        }),
    }
}

fn aligned_len(shape: &[usize; 4]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))?
        .checked_next_multiple_of(ARENA_ALIGN)
}

/// The memory that values take, over time. A convolution whose ordinary shortcut is read there for the last time
/// writes over it: both values are then one block.
struct Blocks {
    blocks: Vec<Block>,
    of_value: Vec<usize>,
}

impl Blocks {
    /// `views` are values that no step writes, each with the one whose memory it is.
    fn of(
        steps: &[Step],
        shapes: &[[usize; 4]],
        lens: &[usize],
        views: &[(ValueId, ValueId)],
    ) -> Self {
        let end = steps.len();
        let viewed = |v: ValueId| {
            views
                .iter()
                .find(|(view, _)| *view == v)
                .map_or(v, |of| of.1)
        };
        // A value that nothing reads is the plan's output, and stays.
        let mut last_read = vec![end; shapes.len()];
        for (at, step) in steps.iter().enumerate() {
            step.reads().for_each(|v| last_read[viewed(v).0] = at);
        }
        let mut this = Self {
            blocks: Vec::with_capacity(shapes.len()),
            of_value: vec![0; shapes.len()],
        };
        if !matches!(steps.first(), Some(Step::Encode(_))) {
            this.start(ValueId(0), lens, 0, last_read[0]); // The given tensor is there before the first step.
        }
        for (at, step) in steps.iter().enumerate() {
            let Some(output) = step.writes() else {
                continue;
            };
            let to = last_read[output.0];
            match in_place(step, shapes).filter(|residual| last_read[residual.0] == at) {
                Some(residual) => {
                    let block = this.of_value[residual.0];
                    this.of_value[output.0] = block;
                    this.blocks[block].to = to;
                }
                None => this.start(output, lens, at, to),
            }
        }
        for (view, of) in views {
            this.of_value[view.0] = this.of_value[of.0];
        }
        this
    }

    fn start(&mut self, value: ValueId, lens: &[usize], from: usize, to: usize) {
        self.of_value[value.0] = self.blocks.len();
        self.blocks.push(Block {
            len: lens[value.0],
            from,
            to,
        });
    }
}

/// The shortcut whose place the step's output may take: each element of it is read just before the same element is
/// written, and nothing else of the step reads there.
fn in_place(step: &Step, shapes: &[[usize; 4]]) -> Option<ValueId> {
    let Step::Conv2d(conv) = step else {
        return None;
    };
    let r = conv.residual?;
    let plain =
        r.stride == 1 && r.channel_offset == 0 && shapes[r.value.0] == shapes[conv.output.0];
    (plain && r.value != conv.input).then_some(r.value)
}
