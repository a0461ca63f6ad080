//! Why a command ended without doing its job, and the exit status that says so.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use collage::error::Classify;
use serde::Serialize;

/// The process's exit status. Documented in `--help` and in the README; scripts rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Anything that has no status of its own, such as a file that cannot be written.
    Other = 1,
    /// A flag, a setting or their combination. The same number that the argument parser uses.
    Usage = 2,
    /// A model, an image or a data set.
    Input = 3,
    /// A device or its driver.
    Device = 4,
    /// While serving: deadline, overload, a worker that died.
    Runtime = 5,
}

/// For `--help`.
pub const EXIT_CODES: &str = "Exit status: 0 done, 1 other failure, 2 usage or settings, 3 bad model, image or data, \
4 no usable device or a device failed, 5 serving failed (deadline, overload, workers lost)";

/// What is told to the user, and to the scripts that read `--json`.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// Not part of the JSON: the process carries it.
    #[serde(skip)]
    pub exit: Exit,
    /// The cause's stable number; 0 for causes that are not the library's.
    pub code: u32,
    /// Whether the same command may succeed later.
    pub can_retry: bool,
    /// In one line; names the file, tensor or flag.
    pub message: String,
    /// Standard output was closed by its reader, as `| head` does: nothing went wrong.
    #[serde(skip)]
    pub broken_pipe: bool,
}

impl Failure {
    fn new(exit: Exit, message: impl Display) -> Self {
        Self {
            exit,
            code: 0,
            can_retry: false,
            message: message.to_string(),
            broken_pipe: false,
        }
    }
    /// Flags that cannot be what was meant.
    pub fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }
    /// A file that cannot be what was meant.
    pub fn input(message: impl Display) -> Self {
        Self::new(Exit::Input, message)
    }
    /// A device that did not do what it should have.
    pub fn device(message: impl Display) -> Self {
        Self::new(Exit::Device, message)
    }
    /// Anything else.
    pub fn other(message: impl Display) -> Self {
        Self::new(Exit::Other, message)
    }
    /// Standard output or standard error could not be written.
    pub fn output(error: io::Error) -> Self {
        let broken_pipe = error.kind() == io::ErrorKind::BrokenPipe;
        Self {
            broken_pipe,
            ..Self::new(Exit::Other, format!("cannot write the output: {error}"))
        }
    }
    /// The exit status.
    pub fn exit_code(&self) -> ExitCode {
        if self.broken_pipe {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(self.exit as u8)
        }
    }
}

/// The library numbers its causes by the hundred; each hundred has its exit status.
impl<E: Classify> From<E> for Failure {
    fn from(error: E) -> Self {
        let exit = match error.code() / 100 {
            1 | 2 => Exit::Input,
            3 => Exit::Device,
            4 if matches!(error.code(), 410 | 420 | 424) => Exit::Usage, // an option, which a flag or setting gave
            4 if matches!(error.code(), 421 | 422 | 425 | 426) => Exit::Input, // a trace, service times
            4 if matches!(error.code(), 411 | 412 | 414) => Exit::Device, // loading a model onto a device
            4 => Exit::Runtime,
            5 => Exit::Usage,
            _ => Exit::Other,
        };
        Self {
            code: error.code(),
            can_retry: error.can_retry(),
            ..Self::new(exit, error)
        }
    }
}
