//! Our own backends, as runtimes among the others.

use std::sync::Arc;

use collage::backend::cpu::CpuDevice;
use collage::backend::{BackendKind, Device, Input, Program, webgpu};

use crate::cases::{Case, Data, flatten};
use crate::peer::{Error, Loaded, Peer, Where, output, to_nchw};

/// One of our devices.
pub struct Ours {
    device: Arc<dyn Device>,
}

impl Ours {
    /// The CPU's fast path.
    pub fn cpu(threads: usize) -> Result<Ours, Error> {
        Ok(Ours {
            device: Arc::new(CpuDevice::new(threads)?),
        })
    }
    /// The first adapter.
    pub fn webgpu() -> Result<Ours, Error> {
        Ok(Ours {
            device: webgpu::open(0)?,
        })
    }
}

impl Peer for Ours {
    fn name(&self) -> &'static str {
        match self.device.info().backend {
            BackendKind::Cpu => "collage-cpu",
            BackendKind::Wgpu => "collage-wgpu",
            BackendKind::Cuda => "collage-cuda",
        }
    }
    fn version(&self) -> String {
        let info = self.device.info();
        format!(
            "{} on {} {}",
            crate::versions::of("collage-inference"),
            info.name,
            info.driver
        )
        .trim()
        .to_owned()
    }
    fn runs_on(&self) -> Where {
        match self.device.info().backend {
            BackendKind::Cpu => Where::Cpu,
            _ => Where::Wgpu,
        }
    }
    fn takes(&self, _: &Case) -> bool {
        true
    }
    fn load(&mut self, case: &Case) -> Result<Box<dyn Loaded>, Error> {
        let program = self.device.load(Arc::clone(&case.plan))?;
        let data = match &case.data {
            Data::Tensor(x) => Data::Tensor(x.clone()),
            Data::Images(images) => Data::Images(images.clone()),
        };
        let shape = output(&case.plan).map(|v| v.shape);
        Ok(Box::new(Ready {
            program,
            data,
            shape,
        }))
    }
}

struct Ready {
    program: Box<dyn Program>,
    data: Data,
    shape: Option<[usize; 4]>,
}

impl Ready {
    fn once(&mut self) -> Result<collage::backend::Output, Error> {
        let input = match &self.data {
            Data::Tensor(x) => Input::Tensor(x),
            Data::Images(images) => Input::Images(images),
        };
        Ok(self.program.run(input)?)
    }
}

impl Loaded for Ready {
    fn run(&mut self) -> Result<Vec<f32>, Error> {
        let flat = flatten(&self.once()?);
        Ok(self
            .shape
            .map_or(flat.clone(), |shape| to_nchw(&flat, shape)))
    }

    /// Without the transposition, which only the comparison needs.
    fn time(&mut self, repeats: usize) -> Result<Vec<f64>, Error> {
        let mut seconds = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            let start = std::time::Instant::now();
            std::hint::black_box(self.once()?);
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }
}
