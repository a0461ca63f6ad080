//! Asking a driver that may not answer: each figure, or why it is missing.

use nvml_wrapper::error::NvmlError;

use crate::host::telemetry::reading::{Absent, Missing, State};

/// What was asked of one GPU in one reading. After it was lost nothing more is asked: each further question to a GPU
/// that is off the bus can take the driver long.
#[derive(Default)]
pub(super) struct Questions {
    state: State,
    missing: Vec<Missing>,
}

impl Questions {
    pub(super) fn ask<T>(
        &mut self,
        figure: &'static str,
        question: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        if self.state != State::Answers {
            return None;
        }
        match question() {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.state = match error {
                    NvmlError::GpuLost => State::Lost,
                    NvmlError::ResetRequired => State::NeedsReset,
                    _ => State::Answers,
                };
                self.missing.push(missing(figure, &error));
                None
            }
        }
    }

    pub(super) fn end(self) -> (State, Vec<Missing>) {
        (self.state, self.missing)
    }
}

/// NVML's newer errors, which the wrapper has no names for: another version of a structure, and a call that is no more.
const VERSION_MISMATCH: u32 = 25;
const DEPRECATED: u32 = 26;

/// A function that this driver's library lacks is a figure that it does not have.
pub(super) fn missing(figure: &'static str, error: &NvmlError) -> Missing {
    let why = match error {
        NvmlError::NotSupported
        | NvmlError::FunctionNotFound
        | NvmlError::FailedToLoadSymbol(_)
        | NvmlError::UnexpectedVariant(VERSION_MISMATCH | DEPRECATED)
        | NvmlError::NoData => Absent::NotSupported,
        NvmlError::NoPermission | NvmlError::OperatingSystem => Absent::NoPermission,
        NvmlError::GpuLost | NvmlError::ResetRequired => Absent::GpuLost,
        _ => Absent::Failed,
    };
    Missing { figure, why }
}

/// The same error once more, as far as its kind matters here: the wrapper's cannot be cloned.
pub(super) fn again(error: &NvmlError) -> NvmlError {
    match error {
        NvmlError::GpuLost => NvmlError::GpuLost,
        NvmlError::ResetRequired => NvmlError::ResetRequired,
        NvmlError::NoPermission | NvmlError::OperatingSystem => NvmlError::NoPermission,
        NvmlError::NotSupported => NvmlError::NotSupported,
        _ => NvmlError::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_reasons_for_no_answer_are_told_apart() {
        let why = |e| missing("x", &e).why;
        assert_eq!(why(NvmlError::NotSupported), Absent::NotSupported);
        assert_eq!(why(NvmlError::NoPermission), Absent::NoPermission);
        assert_eq!(why(NvmlError::GpuLost), Absent::GpuLost);
        assert_eq!(why(NvmlError::Unknown), Absent::Failed);
    }

    #[test]
    fn a_lost_gpu_is_asked_nothing_more() {
        let mut questions = Questions::default();
        assert_eq!(questions.ask("a", || Ok(1)), Some(1));
        assert_eq!(
            questions.ask("b", || Err::<u32, _>(NvmlError::GpuLost)),
            None
        );
        let asked = std::cell::Cell::new(false);
        let answer = questions.ask("c", || {
            asked.set(true);
            Ok(1)
        });
        assert_eq!((answer, asked.get()), (None, false));
        let (state, missing) = questions.end();
        assert_eq!((state, missing.len()), (State::Lost, 1));
    }
}
