//! tract, on the CPU, from the same ONNX file as onnxruntime; its matrix products on all cores.

use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

use crate::cases::{Case, Data, takes_images};
use crate::onnx::{self, Shortcut};
use crate::peer::{Error, Loaded, Peer, Where, to_nchw};

/// tract with all cores.
pub struct Tract;

impl Tract {
    /// Its executor is one a process.
    pub fn open(threads: usize) -> Tract {
        set_default_executor(Executor::multithread(threads));
        Tract
    }
}

impl Peer for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }
    fn version(&self) -> String {
        crate::versions::of("tract-onnx")
    }
    fn runs_on(&self) -> Where {
        Where::Cpu
    }
    fn takes(&self, case: &Case) -> bool {
        takes_images(&case.plan).is_none()
    }
    fn load(&mut self, case: &Case) -> Result<Box<dyn Loaded>, Error> {
        let Data::Tensor(x) = &case.data else {
            return Err("tract cannot encode images".into());
        };
        let file = onnx::write(&case.plan, Shortcut::Pad);
        let plan = tract_onnx::onnx()
            .model_for_read(&mut file.as_slice())?
            .into_optimized()?
            .into_runnable()?;
        let [n, h, w, c] = case.plan.values[0].shape;
        Ok(Box::new(Network {
            plan,
            input: to_nchw(x, [n, h, w, c]),
            shape: [n, c, h, w],
        }))
    }
}

struct Network {
    plan: Arc<TypedRunnableModel>,
    input: Vec<f32>,
    shape: [usize; 4],
}

impl Loaded for Network {
    fn run(&mut self) -> Result<Vec<f32>, Error> {
        let input = Tensor::from_shape(&self.shape, &self.input)?;
        let outputs = self.plan.run(tvec!(input.into()))?;
        let output = outputs.first().ok_or("tract gave nothing back")?;
        Ok(output
            .to_plain_array_view::<f32>()?
            .iter()
            .copied()
            .collect())
    }
}
