//! wonnx, served to the peers harness over stdin and stdout; the protocol is described in `../../src/child.rs`.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use serde_json::{Value, json};
use wonnx::Session;
use wonnx::utils::{InputTensor, OutputTensor};

struct Network {
    session: Session,
    input: Vec<f32>,
}

impl Network {
    fn load(request: &Value) -> Result<Network, Box<dyn Error>> {
        let path = |key: &str| request[key].as_str().ok_or(format!("no {key}"));
        let bytes = std::fs::read(path("input")?)?;
        let input = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        Ok(Network {
            session: pollster::block_on(Session::from_path(path("onnx")?))?,
            input,
        })
    }

    fn run(&self) -> Result<Vec<f32>, Box<dyn Error>> {
        let inputs = HashMap::from([("x".to_owned(), InputTensor::from(self.input.as_slice()))]);
        let mut outputs = pollster::block_on(self.session.run(&inputs))?;
        match outputs.remove("y") {
            Some(OutputTensor::F32(y)) => Ok(y),
            _ => Err("no f32 output y".into()),
        }
    }
}

fn answer(request: &Value, network: &mut Option<Network>) -> Result<Value, Box<dyn Error>> {
    if request.get("hello").is_some() {
        return Ok(json!({ "version": "0.5.1" }));
    }
    if let Some(load) = request.get("load") {
        *network = None;
        *network = Some(Network::load(load)?);
        return Ok(json!({}));
    }
    let network = network.as_ref().ok_or("nothing is loaded")?;
    if let Some(path) = request["run"].as_str() {
        let bytes: Vec<u8> = network
            .run()?
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        std::fs::write(path, bytes)?;
        return Ok(json!({}));
    }
    let repeats = request["time"].as_u64().ok_or("an unknown request")?;
    let mut seconds = Vec::new();
    for _ in 0..repeats {
        let start = Instant::now();
        network.run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(json!({ "seconds": seconds }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut network = None;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        if request.get("quit").is_some() {
            break;
        }
        let answer = answer(&request, &mut network)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }));
        let mut out = std::io::stdout();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
