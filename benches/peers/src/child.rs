//! Runtimes that cannot be linked into this process: onnxruntime from Python, and wonnx, whose dependencies clash.
//!
//! Each is a child that is asked over its standard input, one JSON object a line, and answers likewise:
//! `{"load": {...}}` -> `{"version": ..}`; `{"run": PATH}` writes the raw f32 output there -> `{}`;
//! `{"time": N}` -> `{"seconds": [..]}`; or `{"error": ".."}`. It sleeps in a read while others take their turn.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use collage::model::plan::Step;
use serde_json::{Value, json};

use crate::cases::{Case, Data, takes_images};
use crate::onnx::{self, Shortcut};
use crate::peer::{Error, Loaded, Peer, Where, to_nchw};

/// A runtime in a process of its own.
pub struct Child {
    name: &'static str,
    runs_on: Where,
    shortcut: Shortcut,
    /// Whether it takes the cases that begin with `encode` or end with `top_k` too.
    complete: bool,
    version: String,
    threads: usize,
    folder: PathBuf,
    pipe: Rc<RefCell<Pipe>>,
}

impl Child {
    /// onnxruntime; and Pillow for the cases that start from images.
    pub fn onnxruntime(
        python: &str,
        script: &Path,
        folder: &Path,
        threads: usize,
    ) -> Result<Child, Error> {
        let mut command = Command::new(python);
        command.arg(script);
        Child::open(
            "onnxruntime",
            Where::Cpu,
            Shortcut::Pad,
            true,
            command,
            folder,
            threads,
        )
    }

    /// wonnx, from the binary of the crate beside this one.
    pub fn wonnx(binary: &Path, folder: &Path) -> Result<Child, Error> {
        Child::open(
            "wonnx",
            Where::Wgpu,
            Shortcut::Convolution,
            false,
            Command::new(binary),
            folder,
            0,
        )
    }

    fn open(
        name: &'static str,
        runs_on: Where,
        shortcut: Shortcut,
        complete: bool,
        mut command: Command,
        folder: &Path,
        threads: usize,
    ) -> Result<Child, Error> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", command.get_program().display()))?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the child has no pipes".into());
        };
        let mut pipe = Pipe {
            process,
            input,
            output: BufReader::new(output),
        };
        let hello = pipe.ask(&json!({ "hello": true }))?;
        let version = hello["version"].as_str().unwrap_or("unknown").to_owned();
        Ok(Child {
            name,
            runs_on,
            shortcut,
            complete,
            version,
            threads,
            folder: folder.to_owned(),
            pipe: Rc::new(RefCell::new(pipe)),
        })
    }
}

impl Peer for Child {
    fn name(&self) -> &'static str {
        self.name
    }
    fn version(&self) -> String {
        self.version.clone()
    }
    fn runs_on(&self) -> Where {
        self.runs_on
    }
    fn takes(&self, case: &Case) -> bool {
        let ends_with_top_k = matches!(case.plan.steps.last(), Some(Step::TopK(_)));
        self.complete || (takes_images(&case.plan).is_none() && !ends_with_top_k)
    }

    fn load(&mut self, case: &Case) -> Result<Box<dyn Loaded>, Error> {
        let at = |what: &str| self.folder.join(format!("{}-{what}", self.name));
        let request = match (&case.data, takes_images(&case.plan)) {
            (Data::Tensor(x), None) => {
                let [n, h, w, c] = case.plan.values[0].shape;
                std::fs::write(at("model.onnx"), onnx::write(&case.plan, self.shortcut))?;
                std::fs::write(at("input.f32"), bytes_of(&to_nchw(x, [n, h, w, c])))?;
                json!({ "load": { "onnx": at("model.onnx"), "input": at("input.f32"), "shape": [n, c, h, w], "threads": self.threads } })
            }
            (Data::Images(images), Some((encode, grid))) => {
                let p = &encode.preprocessing;
                let mut pixels = Vec::new();
                images
                    .iter()
                    .for_each(|image| pixels.extend_from_slice(image.pixels()));
                std::fs::write(at("images.u8"), pixels)?;
                let sizes: Vec<_> = images.iter().map(|i| [i.width(), i.height()]).collect();
                json!({ "encode": { "images": at("images.u8"), "sizes": sizes, "resize": p.resize, "size": p.size,
                    "rows": grid.rows, "cols": grid.cols, "mean": p.mean, "std": p.std } })
            }
            _ => {
                return Err(
                    "a plan that begins with encode takes images, and no other does".into(),
                );
            }
        };
        self.pipe.borrow_mut().ask(&request)?;
        Ok(Box::new(Session {
            pipe: Rc::clone(&self.pipe),
            output: at("output.f32"),
        }))
    }
}

struct Session {
    pipe: Rc<RefCell<Pipe>>,
    output: PathBuf,
}

impl Loaded for Session {
    fn run(&mut self) -> Result<Vec<f32>, Error> {
        self.pipe.borrow_mut().ask(&json!({ "run": self.output }))?;
        let bytes = std::fs::read(&self.output)?;
        Ok(bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }

    /// Timed inside the child: the pipe is not part of the runtime.
    fn time(&mut self, repeats: usize) -> Result<Vec<f64>, Error> {
        let answer = self.pipe.borrow_mut().ask(&json!({ "time": repeats }))?;
        let seconds = answer["seconds"]
            .as_array()
            .ok_or("the child gave no seconds")?;
        Ok(seconds.iter().filter_map(Value::as_f64).collect())
    }
}

struct Pipe {
    process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Pipe {
    fn ask(&mut self, request: &Value) -> Result<Value, Error> {
        writeln!(self.input, "{request}")?;
        self.input.flush()?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(format!("the child ended: {}", self.process.wait()?).into());
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned().into()),
            None => Ok(answer),
        }
    }
}

impl Drop for Pipe {
    /// Its standard input closes after this, which ends it; it is asked first so that it need not wait.
    fn drop(&mut self) {
        let _ = writeln!(self.input, "{}", json!({ "quit": true }));
        let _ = self.input.flush();
        let _ = self.process.wait();
    }
}

fn bytes_of(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|v| v.to_le_bytes()).collect()
}
