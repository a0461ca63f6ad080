//! The single ops that are measured, in the shapes in which the networks use them.
//!
//! A convolution is repeated four times, each with weights of its own, and pooled at the end: as in a network, its
//! activations stay on the device, so that what is timed is the op and not the transfer of its result.

use std::sync::Arc;

use collage::image::Image;
use collage::model::plan::Grid;

use super::build::{Builder, Conv};
use super::{Case, Data, hash, imagenet};

/// How often a convolution that keeps its shape is repeated within a case.
const CHAIN: usize = 4;

/// Most cells of a map, along a side, that the pooling at the end of a case takes at once.
const CELL: usize = 128;

/// Every op.
pub fn all() -> Vec<Case> {
    let mut cases = vec![
        conv2d(1, 56, 64, 3),
        conv2d(1, 28, 128, 3),
        conv2d(1, 14, 256, 3),
        conv2d(1, 7, 512, 3),
        conv2d(8, 56, 64, 3),
        conv2d(8, 7, 512, 3),
        conv2d(64, 32, 16, 3),
        conv2d(64, 16, 32, 3),
        conv2d(64, 8, 64, 3),
        conv2d(1, 384, 16, 3),
        conv2d(8, 14, 256, 1),
        stem(8, 224, 64, 7, 2),
        stem(64, 32, 16, 3, 1),
    ];
    cases.extend([
        max_pool2d(8, 112, 64),
        avg_pool2d(8, 7, 512),
        avg_pool2d(64, 8, 64),
    ]);
    cases.extend([
        linear(8, 512, 1000),
        linear(64, 64, 10),
        top_k(8, 1000, 5),
        top_k(64, 10, 1),
    ]);
    cases.extend([
        encode(1, 256, 224, Grid::ONE),
        encode(9, 32, 32, Grid { rows: 3, cols: 3 }),
    ]);
    cases
}

fn conv2d(n: usize, side: usize, channels: usize, kernel: usize) -> Case {
    let (mut b, mut x) = Builder::new("conv2d", [n, side, side, channels]);
    for _ in 0..CHAIN {
        x = b.conv2d(x, Conv::new(channels, kernel, 1));
    }
    // A canvas is pooled tile by tile: no network pools a map of hundreds of cells a side at once.
    let cells = side.div_ceil(CELL);
    b.avg_pool2d(x, cells, cells);
    Case::on_tensor(
        format!("conv2d/{n}x{side}x{side}x{channels}-k{kernel}-x{CHAIN}"),
        b.finish(),
    )
}

fn stem(n: usize, side: usize, channels: usize, kernel: usize, stride: usize) -> Case {
    let (mut b, x) = Builder::new("conv2d", [n, side, side, 3]);
    let x = b.conv2d(x, Conv::new(channels, kernel, stride));
    b.avg_pool2d(x, 1, 1);
    Case::on_tensor(
        format!("conv2d/{n}x{side}x{side}x3-o{channels}-k{kernel}-s{stride}"),
        b.finish(),
    )
}

fn max_pool2d(n: usize, side: usize, channels: usize) -> Case {
    let (mut b, x) = Builder::new("max_pool2d", [n, side, side, channels]);
    b.max_pool2d(x, 3, 2);
    Case::on_tensor(
        format!("max_pool2d/{n}x{side}x{side}x{channels}-k3-s2"),
        b.finish(),
    )
}

fn avg_pool2d(n: usize, side: usize, channels: usize) -> Case {
    let (mut b, x) = Builder::new("avg_pool2d", [n, side, side, channels]);
    b.avg_pool2d(x, 1, 1);
    Case::on_tensor(
        format!("avg_pool2d/{n}x{side}x{side}x{channels}"),
        b.finish(),
    )
}

fn linear(n: usize, inputs: usize, outputs: usize) -> Case {
    let (mut b, x) = Builder::new("linear", [n, 1, 1, inputs]);
    b.linear(x, outputs);
    Case::on_tensor(format!("linear/{n}x{inputs}-o{outputs}"), b.finish())
}

fn top_k(n: usize, classes: usize, k: usize) -> Case {
    let (mut b, x) = Builder::new("top_k", [n, 1, 1, classes]);
    b.top_k(x, k);
    Case::on_tensor(format!("top_k/{n}x{classes}-k{k}"), b.finish())
}

/// Photographs of 500 x 375 into the tiles of one canvas, or one into the input of a base network.
fn encode(images: usize, resize: usize, size: usize, grid: Grid) -> Case {
    let (mut b, x) = Builder::new("encode", [1, size * grid.rows, size * grid.cols, 3]);
    b.encode(x, imagenet(resize, size), grid);
    let photograph = |i| {
        let rgb = hash::pixels(hash::seed(&format!("photograph {i}")), 500, 375);
        Image::from_rgb(500, 375, rgb).expect("three bytes a pixel")
    };
    Case {
        id: format!(
            "encode/{images}x500x375-to-{}x{}x{size}",
            grid.rows, grid.cols
        ),
        plan: Arc::new(b.finish()),
        data: Data::Images((0..images).map(photograph).collect()),
    }
}
