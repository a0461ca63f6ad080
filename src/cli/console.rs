//! Where output goes: without `--json`, people's text to standard output; with it, one JSON object to standard output
//! and people's text to standard error. Progress is drawn on standard error, and only on a terminal.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::failure::Failure;

/// Version of the JSON that every command writes. Keys may be added under the same number; a key that changes its
/// meaning or goes away raises it.
pub const SCHEMA: u32 = 1;

/// Every JSON output: which schema, which command, and the command's own keys beside them.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: u32,
    command: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct Failed<'a> {
    error: &'a Failure,
}

/// The output of one command.
pub struct Console {
    json: bool,
    command: &'static str,
}

impl Console {
    /// For the command of this name.
    pub fn new(json: bool, command: &'static str) -> Self {
        Self { json, command }
    }

    /// Whether standard output is for one JSON object.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// The command's result: `body` for machines if they asked, `text` for people in any case.
    pub fn finish(&self, body: &impl Serialize, text: &str) -> Result<(), Failure> {
        self.say(text)?;
        self.document(body)
    }

    /// Text for people, before the result is there.
    pub fn say(&self, text: &str) -> Result<(), Failure> {
        let written = if self.json {
            write_line(io::stderr().lock(), text)
        } else {
            write_line(io::stdout().lock(), text)
        };
        written.map_err(Failure::output)
    }

    /// Why there is no result.
    pub fn fail(&self, failure: &Failure) {
        if failure.broken_pipe {
            return;
        }
        // Nothing can be done for a reader who has gone; the exit status still says what happened.
        let _ = write_line(
            io::stderr().lock(),
            &format!("collage {}: {}", self.command, failure.message),
        );
        let _ = self.document(&Failed { error: failure });
    }

    fn document(&self, body: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let document = Document {
            schema: SCHEMA,
            command: self.command,
            body,
        };
        let text =
            serde_json::to_string_pretty(&document).map_err(|e| Failure::output(e.into()))?;
        write_line(io::stdout().lock(), &text).map_err(Failure::output)
    }

    /// A bar of `len` steps on standard error; hidden where that is not a terminal.
    pub fn progress(&self, len: u64, what: impl Into<String>) -> ProgressBar {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(len), target).with_message(what.into());
        let style = ProgressStyle::with_template("{msg:32} {wide_bar} {pos:>7}/{len} {eta:>4}");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }
}

fn write_line(mut out: impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.trim_end_matches('\n').as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}
