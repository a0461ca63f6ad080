//! `collage compile`: the CUDA kernels as cubins, without a GPU, and what each uses.

use std::path::PathBuf;

use clap::Args;
use collage::backend::cuda::{Architecture, Usage, compile_all};
use serde::Serialize;

use super::console::Console;
use super::failure::Failure;
use super::text::table;

const EXAMPLES: &str = "\
Examples:
  collage compile --out cubins                        for every architecture there are kernels for
  collage compile --arch 80,90a --out cubins
  COLLAGE_EMBED_CUBINS=$PWD/cubins cargo build --release

The last makes a program that needs NVIDIA's driver and nothing else: it carries its kernels. Without
it, NVRTC compiles each kernel at its first use, and the cache keeps it. This command needs NVRTC
(libnvrtc.so, part of the CUDA toolkit and of the package nvidia-cuda-nvrtc on PyPI; COLLAGE_NVRTC
names the file) and no GPU.
";

/// Compile the CUDA kernels ahead, without a GPU, and show registers and spills
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Compile {
    /// Architectures, such as 86 or 90a [default: 75,80,86,89,90a,100,120]
    #[arg(long, value_name = "ARCH,...", value_delimiter = ',')]
    arch: Vec<Architecture>,
    /// Folder for the cubins, as the cache keeps them; those that are there already stay
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Report {
    out: String,
    entries: Vec<Entry>,
}

/// One kernel on one architecture.
#[derive(Serialize)]
struct Entry {
    entry: String,
    arch: String,
    /// Of a thread.
    registers: u32,
    /// Bytes of a thread.
    spill_stores: u32,
    spill_loads: u32,
    stack: u32,
}

impl From<Usage> for Entry {
    fn from(usage: Usage) -> Self {
        Self {
            entry: usage.entry,
            arch: usage.architecture.to_string(),
            registers: usage.registers,
            spill_stores: usage.spill_stores,
            spill_loads: usage.spill_loads,
            stack: usage.stack,
        }
    }
}

impl Compile {
    /// Compiles, prints.
    pub fn run(self, console: &Console) -> Result<(), Failure> {
        let usages = compile_all(&self.arch, Some(&self.out))?;
        let report = Report {
            out: self.out.display().to_string(),
            entries: usages.into_iter().map(Entry::from).collect(),
        };
        console.finish(&report, &text(&report))
    }
}

fn text(report: &Report) -> String {
    let head = ["entry", "arch", "registers", "spilled bytes", "stack"];
    let mut rows = vec![head.map(String::from)];
    for e in &report.entries {
        rows.push([
            e.entry.clone(),
            e.arch.clone(),
            e.registers.to_string(),
            (e.spill_stores + e.spill_loads).to_string(),
            e.stack.to_string(),
        ]);
    }
    let count = report.entries.len();
    format!("{}\n{count} kernels in {}", table(&rows, 2), report.out)
}
