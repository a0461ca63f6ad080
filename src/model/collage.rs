//! The collage network: any network whose cells keep to their tiles. Its canvas is r x c tiles, its last map r x c
//! blocks of (tile / stride)^2 cells, and the head pools each block: r x c rows of logits from one file, for any r, c.
//!
//! That the map of a canvas divides into its tiles must hold for every grid, so it is shown once, layer by layer and
//! without naming a size: a window of k, stride s and padding p takes H = s m pixels to floor((s m + 2p - k) / s) + 1
//! cells, which is m for every m exactly when 1 <= k - 2p <= s.

use std::collections::BTreeSet;

use super::error::Fault;
use super::layer::Network;
use super::metadata::CollageSpec;
use super::plan::Grid;

/// Shows that `network` maps every grid of `tile`-sized tiles to whole blocks of cells, as `spec` promises.
pub fn check(network: &Network, tile: usize, spec: &CollageSpec) -> Result<(), Fault> {
    // Of each source: pixels of the canvas per cell.
    let mut strides = vec![1usize];
    for node in &network.trunk {
        let (kernel, stride, padding) = node.window();
        for side in kernel {
            if !side
                .checked_sub(2 * padding)
                .is_some_and(|reach| (1..=stride).contains(&reach))
            {
                return Err(Fault::TileDrift {
                    layer: node.name.clone(),
                    kernel: side,
                    stride,
                    padding,
                });
            }
        }
        // Saturation is safe: such a stride divides no tile, which is the error below.
        strides.push(strides[node.input].saturating_mul(stride));
    }
    let found = strides[network.head.input];
    if found != spec.stride {
        return Err(Fault::TrunkStride {
            declared: spec.stride,
            found,
        });
    }
    if !tile.is_multiple_of(found) {
        return Err(Fault::TileNotDivisible {
            tile,
            stride: found,
        });
    }
    Ok(())
}

/// Whether `grid` fits into one of `trained`. A smaller grid is within what the network has seen, because blank tiles
/// are part of its training; a larger one is not, though its shapes would work.
pub fn takes(trained: &[Grid], grid: Grid) -> bool {
    let fits = |g: &Grid| grid.rows <= g.rows && grid.cols <= g.cols;
    grid.rows > 0 && grid.cols > 0 && trained.iter().any(fits)
}

/// The grids of `trained` that fit into no other of them: what a message needs to name.
pub fn widest(trained: &[Grid]) -> Vec<Grid> {
    let distinct: BTreeSet<Grid> = trained.iter().copied().collect();
    let inside = |a: &Grid, b: &Grid| a != b && takes(&[*b], *a);
    let is_widest = |g: &&Grid| !distinct.iter().any(|other| inside(g, other));
    distinct.iter().filter(is_widest).copied().collect()
}
