//! Every way a model can be wrong, one variant each, in the words of the person who made the file or gave the flag.

use std::io;

use super::plan::Grid;
use super::shape::Shape;
use crate::error::Classify;
use crate::tensor::DType;

/// A [`Fault`] and the file it is in.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {fault}")]
pub struct ModelError {
    /// The model's file, as it was named when it was opened.
    pub file: String,
    /// What is wrong with it, or with what was asked of it.
    #[source]
    pub fault: Fault,
}

/// What is wrong. Shapes of tensors are in the file's own order: (O, I, KH, KW) and (O, I).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The operating system did not give the file.
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),

    // The container.
    /// Too short to hold even the header's length.
    #[error(
        "not a safetensors file: {file_bytes} bytes, expected 8 for the header's length at least"
    )]
    TooShort {
        /// Size of the file.
        file_bytes: u64,
    },
    /// The header claims more than any header needs.
    #[error("not a safetensors file: a header of {header_bytes} bytes, expected {limit} at most")]
    HeaderTooLarge {
        /// Claimed length.
        header_bytes: u64,
        /// Largest accepted.
        limit: u64,
    },
    /// The file ends inside its header.
    #[error("truncated: the header takes {header_bytes} bytes, {available_bytes} are there")]
    HeaderTruncated {
        /// Claimed length.
        header_bytes: u64,
        /// What follows the length.
        available_bytes: u64,
    },
    /// The header is not what the format asks for.
    #[error("not a safetensors file: its header: {reason}")]
    HeaderJson {
        /// As the JSON parser says, with line and column.
        reason: String,
    },
    /// Two tensors share a name.
    #[error("tensor {tensor}: named twice in the header")]
    DuplicateTensor {
        /// Its name.
        tensor: String,
    },
    /// The tensor's bytes end before they begin.
    #[error("tensor {tensor}: its bytes {begin}..{end} end before they begin")]
    RangeReversed {
        /// Its name.
        tensor: String,
        /// First byte, from the start of the data.
        begin: u64,
        /// One past the last byte.
        end: u64,
    },
    /// The tensor's bytes are not all in the file.
    #[error("truncated: tensor {tensor} ends at byte {end} of the data, {data_bytes} are there")]
    DataTruncated {
        /// Its name.
        tensor: String,
        /// One past its last byte.
        end: u64,
        /// Size of the data.
        data_bytes: u64,
    },
    /// The tensor's bytes are not as many as its shape takes.
    #[error("tensor {tensor}: {bytes} bytes, expected {expected} for {dtype} {shape}")]
    SizeMismatch {
        /// Its name.
        tensor: String,
        /// Length of its byte range.
        bytes: u64,
        /// What dtype and shape take.
        expected: u64,
        /// Its element type.
        dtype: String,
        /// Its shape.
        shape: Shape,
    },
    /// The tensor's shape has more elements than can be counted.
    #[error("tensor {tensor}: shape {shape} is larger than any memory")]
    ShapeOverflow {
        /// Its name.
        tensor: String,
        /// Its shape.
        shape: Shape,
    },
    /// Two tensors share bytes.
    #[error(
        "tensor {tensor}: begins at byte {begin} of the data, inside another tensor that ends at {previous_end}"
    )]
    Overlap {
        /// The later of the two.
        tensor: String,
        /// Its first byte.
        begin: u64,
        /// Where the earlier one ends.
        previous_end: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("bytes {begin}..{end} of the data belong to no tensor")]
    Gap {
        /// First of them.
        begin: u64,
        /// One past the last.
        end: u64,
    },
    /// An element type that is not known, or not usable here.
    #[error("tensor {tensor}: dtype {dtype}, expected {expected}")]
    UnsupportedDType {
        /// Its name.
        tensor: String,
        /// As the header says.
        dtype: String,
        /// What is usable.
        expected: &'static str,
    },

    // The metadata.
    /// A plain weights file.
    #[error(
        "no metadata `collage`, so its architecture is not known; name it with --arch ({})",
        super::metadata::named_families()
    )]
    NoMetadata,
    /// Images and labels, where a model is wanted.
    #[error("holds a data set, not a model")]
    Dataset,
    /// Longer than metadata has reason to be.
    #[error("metadata of {bytes} bytes, expected {limit} at most")]
    MetadataTooLarge {
        /// Its length.
        bytes: usize,
        /// Largest accepted.
        limit: usize,
    },
    /// Not JSON, or a field that is missing or of another type.
    #[error("metadata field {path}: {reason}")]
    MetadataJson {
        /// Such as `architecture.stages[1].channels`; `.` is the whole.
        path: String,
        /// As the JSON parser says.
        reason: String,
    },
    /// Written for another version of this format.
    #[error("metadata format {found}, expected {expected}")]
    MetadataFormat {
        /// In the file.
        found: u32,
        /// Known here.
        expected: u32,
    },
    /// A field's value that makes no sense.
    #[error("metadata field {path}: {found}, expected {expected}")]
    MetadataValue {
        /// Such as `preprocessing.std[0]`.
        path: String,
        /// The value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// An architecture that nobody here knows.
    #[error(
        "architecture {family}: unknown, expected resnet, layers or one of {}",
        super::metadata::named_families()
    )]
    UnknownFamily {
        /// From `--arch` or the metadata.
        family: String,
    },
    /// `--arch` on a file that says otherwise.
    #[error("--arch {arch}: the file describes itself, as another architecture; leave --arch out")]
    ArchContradicted {
        /// As given.
        arch: String,
    },
    /// The tensors are not those that the metadata was written for.
    #[error(
        "checksum mismatch: sha256 of the tensors is {found}, expected {expected}; the file is damaged or was changed"
    )]
    Checksum {
        /// Of the data.
        found: String,
        /// In the metadata.
        expected: String,
    },
    /// Class names and outputs differ in number.
    #[error("{names} class names for {outputs} outputs of {layer}")]
    ClassCount {
        /// Names in the metadata.
        names: usize,
        /// Rows of the last layer.
        outputs: usize,
        /// The last layer.
        layer: String,
    },

    // The weights.
    /// A tensor that the architecture needs.
    #[error("tensor {tensor}: missing, expected {expected}")]
    MissingTensor {
        /// Its name.
        tensor: String,
        /// Its shape.
        expected: Shape,
    },
    /// A tensor of another shape.
    #[error("tensor {tensor}: shape {found}, expected {expected}")]
    WrongShape {
        /// Its name.
        tensor: String,
        /// In the file.
        found: Shape,
        /// In the architecture.
        expected: Shape,
    },
    /// Tensors that the architecture has no place for.
    #[error("tensors that the architecture has no place for: {}", .tensors.join(", "))]
    ExtraTensors {
        /// The first few names, in order, and `...` for more.
        tensors: Vec<String>,
    },
    /// NaN or infinity.
    #[error("tensor {tensor}: element {index} is {value}")]
    NotFinite {
        /// Its name.
        tensor: String,
        /// Row-major.
        index: usize,
        /// NaN, inf or -inf.
        value: f32,
    },
    /// A variance below zero, whose square root does not exist.
    #[error("tensor {tensor}: element {index} is {value}, expected a variance of 0 or more")]
    NegativeVariance {
        /// Its name.
        tensor: String,
        /// Channel.
        index: usize,
        /// The variance.
        value: f32,
    },
    /// Finite parameters whose product is not.
    #[error("layer {layer}: folding {norm} into it overflows f32 at output channel {channel}")]
    FoldOverflow {
        /// The convolution.
        layer: String,
        /// Its batch normalisation.
        norm: String,
        /// Of the output.
        channel: usize,
    },

    // The network.
    /// Two layers share a name, or one takes the canvas's name.
    #[error("layer {layer}: the name is taken")]
    DuplicateLayer {
        /// Its name.
        layer: String,
    },
    /// A layer reads one that does not come before it.
    #[error("layer {layer}: reads `{input}`, expected `input` or a layer before it")]
    UnknownInput {
        /// The reader.
        layer: String,
        /// What it names.
        input: String,
    },
    /// Nothing reads the layer.
    #[error("layer {layer}: nothing reads it")]
    UnreadLayer {
        /// Its name.
        layer: String,
    },
    /// The list does not end with its only linear layer.
    #[error("layer {layer}: expected one linear layer, as the last of the list")]
    HeadMisplaced {
        /// The last layer, or the linear layer that is not; `input` for an empty list.
        layer: String,
    },
    /// More layers than any network has.
    #[error("more than {limit} layers")]
    TooManyLayers {
        /// Largest accepted.
        limit: usize,
    },
    /// A number of the layer that makes no sense.
    #[error("layer {layer}: {field} {found}, expected {expected}")]
    LayerValue {
        /// Its name.
        layer: String,
        /// Such as `stride`.
        field: &'static str,
        /// The value.
        found: usize,
        /// What it may be.
        expected: &'static str,
    },
    /// The window is larger than the padded input.
    #[error("layer {layer}: a window of {window} on an input of {input} with padding {padding}")]
    WindowTooLarge {
        /// Its name.
        layer: String,
        /// Side of the window.
        window: usize,
        /// Side of the input.
        input: usize,
        /// On both sides.
        padding: usize,
    },
    /// The shortcut does not fit what it is added to.
    #[error(
        "layer {layer}: shortcut {residual}, (H, W, C) {found}, does not fit output {expected}"
    )]
    ResidualShape {
        /// The adding layer.
        layer: String,
        /// What is added.
        residual: String,
        /// Its shape after subsampling and shifting.
        found: Shape,
        /// The output's.
        expected: Shape,
    },

    // Tiles and grids.
    /// The tile is not a whole number of cells.
    #[error("tile {tile}: not a multiple of stride {stride}")]
    TileNotDivisible {
        /// Side in pixels.
        tile: usize,
        /// In the metadata.
        stride: usize,
    },
    /// A layer that makes maps of other than size / stride, so that tiles and cells drift apart.
    #[error(
        "layer {layer}: kernel {kernel}, stride {stride}, padding {padding} moves cells across tiles; \
         expected 1 <= kernel - 2 padding <= stride"
    )]
    TileDrift {
        /// Its name.
        layer: String,
        /// Side of its window.
        kernel: usize,
        /// Its stride.
        stride: usize,
        /// Its padding.
        padding: usize,
    },
    /// The metadata's stride is not the network's.
    #[error("collage.stride {declared}, but the network's layers multiply to {found}")]
    TrunkStride {
        /// In the metadata.
        declared: usize,
        /// Product of the strides.
        found: usize,
    },
    /// A grid that the model was not made for.
    #[error("--grid {grid}: the model takes {takes}")]
    GridNotTaken {
        /// As asked.
        grid: Grid,
        /// The grids it takes.
        takes: String,
    },

    // What was asked of a plan.
    /// An empty batch.
    #[error("batch 0: expected 1 or more")]
    EmptyBatch,
    /// A plan whose input is a mean of images, of too many, of none, or on a grid.
    #[error(
        "a mean of {images} images on a grid of {grid}; expected 1 to {} on 1x1",
        super::compile::MEAN_LIMIT
    )]
    MeanNotTaken {
        /// As asked.
        images: usize,
        /// As asked.
        grid: Grid,
    },
    /// More or fewer results than there are classes.
    #[error("--top {k}: expected 1 to {classes}, the number of classes")]
    TopOutOfRange {
        /// As asked.
        k: usize,
        /// Outputs of the last layer.
        classes: usize,
    },
    /// Shapes or memory beyond what this machine can count.
    #[error("a batch of {batch} canvases of {height}x{width} pixels is larger than any memory")]
    PlanTooLarge {
        /// Canvases.
        batch: usize,
        /// Of a canvas, in pixels.
        height: usize,
        /// Of a canvas, in pixels.
        width: usize,
    },
    /// A parameter that the element type cannot hold.
    #[error(
        "layer {layer}: a folded parameter of {value} is beyond {dtype}, which ends at {}; use f32",
        dtype.largest()
    )]
    BeyondDType {
        /// Of the plan.
        dtype: DType,
        /// Its name.
        layer: String,
        /// The parameter.
        value: f32,
    },
}

impl Fault {
    /// Names the file it was found in.
    pub fn in_file(self, file: &str) -> ModelError {
        ModelError {
            file: file.to_owned(),
            fault: self,
        }
    }
}

impl Classify for ModelError {
    fn code(&self) -> u32 {
        match &self.fault {
            Fault::Io(_) => 200,
            Fault::TooShort { .. } => 201,
            Fault::HeaderTooLarge { .. } => 202,
            Fault::HeaderTruncated { .. } => 203,
            Fault::HeaderJson { .. } => 204,
            Fault::DuplicateTensor { .. } => 205,
            Fault::RangeReversed { .. } => 206,
            Fault::DataTruncated { .. } => 207,
            Fault::SizeMismatch { .. } => 208,
            Fault::ShapeOverflow { .. } => 209,
            Fault::Overlap { .. } => 210,
            Fault::Gap { .. } => 211,
            Fault::UnsupportedDType { .. } => 212,
            Fault::NoMetadata => 220,
            Fault::Dataset => 221,
            Fault::MetadataTooLarge { .. } => 222,
            Fault::MetadataJson { .. } => 223,
            Fault::MetadataFormat { .. } => 224,
            Fault::MetadataValue { .. } => 225,
            Fault::UnknownFamily { .. } => 226,
            Fault::ArchContradicted { .. } => 227,
            Fault::Checksum { .. } => 228,
            Fault::ClassCount { .. } => 229,
            Fault::MissingTensor { .. } => 240,
            Fault::WrongShape { .. } => 241,
            Fault::ExtraTensors { .. } => 242,
            Fault::NotFinite { .. } => 243,
            Fault::NegativeVariance { .. } => 244,
            Fault::FoldOverflow { .. } => 245,
            Fault::DuplicateLayer { .. } => 260,
            Fault::UnknownInput { .. } => 261,
            Fault::UnreadLayer { .. } => 262,
            Fault::HeadMisplaced { .. } => 263,
            Fault::TooManyLayers { .. } => 264,
            Fault::LayerValue { .. } => 265,
            Fault::WindowTooLarge { .. } => 266,
            Fault::ResidualShape { .. } => 267,
            Fault::TileNotDivisible { .. } => 280,
            Fault::TileDrift { .. } => 281,
            Fault::TrunkStride { .. } => 282,
            Fault::GridNotTaken { .. } => 283,
            Fault::EmptyBatch => 290,
            Fault::TopOutOfRange { .. } => 291,
            Fault::PlanTooLarge { .. } => 292,
            Fault::BeyondDType { .. } => 293,
            Fault::MeanNotTaken { .. } => 284,
        }
    }

    /// Only a read that the operating system cut short can go better on its own; a wrong file stays wrong.
    fn can_retry(&self) -> bool {
        use io::ErrorKind::{Interrupted, ResourceBusy, TimedOut, WouldBlock};
        matches!(&self.fault, Fault::Io(e) if matches!(e.kind(), Interrupted | ResourceBusy | TimedOut | WouldBlock))
    }
}
